/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Makes the n-th allocation fail, for fault sweeps. It concerns calls of malloc(), calloc(),
 * realloc(), aligned_alloc(), strdup(), strndup() and mmap() in our own code, which the dependency
 * fail_alloc redirects when it links a test (--wrap); system libraries are not affected.
 *
 *     for (n = 1;; n++) {
 *             fail_alloc_nth(n);
 *             result = thing_new(&thing);
 *             if (!fail_alloc_disarm())
 *                     break;                 beyond the last allocation: it must have worked
 *             assert_int_equal(result, -ENOMEM);
 *     }
 */
#include <stdbool.h>
#include <stdint.h>

/* Fails the n-th following allocation (1 = the next). */
void fail_alloc_nth(uint64_t n);
/* Disarms; returns whether the allocation was reached and so failed. */
bool fail_alloc_disarm(void);
