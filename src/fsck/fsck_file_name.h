/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Names of a pool's files, exactly as the program makes them (docs/format.md): what the check and
 * the rebuild of the catalog share. An id that is read from another name is no id. */
#include <stdbool.h>
#include <stdint.h>

/* Greater ids are of no program: believed, they would wrap the counters. */
#define FSCK_ID_MAX ((UINT64_C(1) << 48) - 1)

/* The id, in 16 lower-case hex digits, and the suffix. Not 0; it may be above FSCK_ID_MAX. */
bool fsck_file_name_parse(const char *name, const char *suffix, uint64_t *ret_id);
/* In unclaimed/: ID.eg (number 0), or ID.eg.NUMBER. */
bool fsck_file_name_parse_unclaimed(const char *name, uint64_t *ret_id, unsigned *ret_number);
