/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sizes as people write them: a whole number with an optional unit, `10G` (units of 1024: K, M, G,
 * T, P, E, each also as `GiB`), and as they are shown.
 */
#include <stddef.h>
#include <stdint.h>

#define SIZE_TEXT_MAX 32

/* Bytes. -EINVAL not a size (sign, fraction, unknown unit, empty), -ERANGE over 2^63 - 1. */
int size_parse(const char *text, uint64_t *ret_bytes);
/* `10G`, `1.50T`, `512`: at most four significant digits. Returns ret_text. */
const char *size_format(uint64_t bytes, char ret_text[static SIZE_TEXT_MAX]);
