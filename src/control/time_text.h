/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include <stdint.h>

#define TIME_TEXT_MAX 32

/* "2026-11-27T22:42:34Z". Returns ret_text. */
const char *time_text(uint64_t wall_ns, char ret_text[static TIME_TEXT_MAX]);
