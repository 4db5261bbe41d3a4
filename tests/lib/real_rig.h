/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reactors in the real world with a directory on a disk, for tests: code runs in a fiber of a
 * chosen reactor while the main thread waits for it. It checks with ASSERT(): a failed cmocka
 * check cannot leave a fiber.
 */
#include "reactor/fiber.h"
#include "world/real.h"

#define REAL_RIG_REACTORS 2

struct real_rig {
	struct world *world;
	struct reactor *reactors[REAL_RIG_REACTORS];
	char directory[64]; /* empty at first, removed at the end */
};

/* Aborts the process when something fails. */
void real_rig_init(struct real_rig *rig);
void real_rig_done(struct real_rig *rig);

/* Runs fn(arg) in a fiber of reactor `index` and waits for its result. */
int real_rig_run(struct real_rig *rig, unsigned index, int (*fn)(void *arg), void *arg);

/* directory/name, in one of a few static buffers. */
const char *real_rig_path(const struct real_rig *rig, const char *name);
