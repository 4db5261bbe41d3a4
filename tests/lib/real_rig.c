/* SPDX-License-Identifier: Apache-2.0 */
#include "real_rig.h"

#include <stdio.h>
#include <stdlib.h>

void real_rig_init(struct real_rig *rig)
{
	const struct world_real_options options = {.workers = 2, .fence_fd = -1};

	*rig = (struct real_rig){.directory = "/var/tmp/sarsen-test.XXXXXX"};
	ASSERT(mkdtemp(rig->directory));
	ASSERT(world_real_new(&options, &rig->world) == 0);
	for (unsigned i = 0; i < REAL_RIG_REACTORS; i++) {
		struct reactor_options reactor_options = {.index = i};

		ASSERT(reactor_new(rig->world, &reactor_options, &rig->reactors[i]) == 0);
		ASSERT(reactor_start(rig->reactors[i]) == 0);
	}
}

void real_rig_done(struct real_rig *rig)
{
	char command[128];

	for (unsigned i = 0; i < REAL_RIG_REACTORS; i++)
		reactor_stop(rig->reactors[i]);
	for (unsigned i = 0; i < REAL_RIG_REACTORS; i++)
		reactor_free(rig->reactors[i]);
	world_real_free(rig->world);
	snprintf(command, sizeof(command), "rm -rf '%s'", rig->directory);
	ASSERT(system(command) == 0);
}

int real_rig_run(struct real_rig *rig, unsigned index, int (*fn)(void *arg), void *arg)
{
	return fiber_call_blocking(rig->reactors[index], FIBER_CONTROL, fn, arg);
}

const char *real_rig_path(const struct real_rig *rig, const char *name)
{
	static char buffers[4][160];
	static unsigned next;
	char *buffer = buffers[next++ % ARRAY_SIZE(buffers)];

	snprintf(buffer, sizeof(buffers[0]), "%s/%s", rig->directory, name);
	return buffer;
}
