/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Notices when JSON was built without memory: jansson then leaves out what it could not make, and a
 * list that lacks entries must not look like a good answer. Process-wide, any thread.
 */
#include <stdint.h>

/* From here on failures are counted. Can be called again. */
void json_memory_watch(void);
uint64_t json_memory_failures(void);
/* For tests: the n-th following allocation fails (1 = the next); 0 disarms. */
void json_memory_fail_nth(uint64_t n);
