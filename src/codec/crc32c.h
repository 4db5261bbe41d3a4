/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* CRC-32C (Castagnoli, reflected, as in RFC 7143 section 13.1 and RFC 3720 B.4), by isa-l. */
#include <stddef.h>
#include <stdint.h>

/* The CRC of a whole buffer: initial value and final inversion included. crc32c("123456789") is
 * 0xE3069283. */
uint32_t crc32c(const void *data, size_t length);
/* Continues `crc`, the value returned for what came before. crc32c_more(0, d, n) == crc32c(d,
 * n). */
uint32_t crc32c_more(uint32_t crc, const void *data, size_t length);
