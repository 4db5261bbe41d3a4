/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Three reactors in either world, for tests that must hold in both: calls run as fibers of the
 * first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "reactor/fiber.h"
#include "reactor/io.h"
#include "world/sim.h"

#define RIG_REACTORS 3

/* For code in fibers: cmocka's own assertions jump to the main thread's stack. */
#define must(e)                    ASSERT(e)
#define must_equal(a, b)           ASSERT((int64_t)(a) == (int64_t)(b))
#define must_equal_string(a, b)    ASSERT(strcmp(a, b) == 0)
#define must_equal_memory(a, b, n) ASSERT(memcmp(a, b, n) == 0)

struct rig {
	struct sim *sim; /* NULL in the real world */
	struct world *world;
	struct reactor *reactors[RIG_REACTORS];
	char directory[64]; /* empty, on a disk */
};

void rig_open_real(struct rig *rig);
void rig_open_sim(struct rig *rig, uint64_t seed);
void rig_close(struct rig *rig);

/* Runs fn(arg) in a control fiber of reactor 0 until it returns. */
int rig_call(struct rig *rig, int (*fn)(void *arg), void *arg);
