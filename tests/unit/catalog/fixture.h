/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reactors in a real or a simulated world, and a call that runs a function in a fiber of one of
 * them. Such functions check with ASSERT(): a failed cmocka check cannot leave a fiber.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"
#include "reactor/fiber.h"
#include "reactor/io.h"

#define FIXTURE_REACTORS 2

struct fixture {
	struct world *world;
	struct reactor *reactors[FIXTURE_REACTORS];
	char directory[64]; /* empty and durable */
	void *user;         /* the test's */
};

/* Two threads and a temporary directory on a disk. */
void fixture_new_real(struct fixture *fixture);
void fixture_free_real(struct fixture *fixture);

/* Runs fn(fixture) in a fiber of reactor `index` and waits for it. */
int fixture_run(struct fixture *fixture, unsigned index, int (*fn)(void *fixture));

const char *fixture_path(const struct fixture *fixture, const char *name);
