/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world/real.h"

void fixture_new_real(struct fixture *fixture)
{
	const struct world_real_options options = {.workers = 2, .fence_fd = -1};

	*fixture = (struct fixture){.directory = "/var/tmp/sarsen-test-catalog.XXXXXX"};
	ASSERT(mkdtemp(fixture->directory));
	ASSERT(world_real_new(&options, &fixture->world) == 0);
	for (unsigned i = 0; i < FIXTURE_REACTORS; i++) {
		struct reactor_options reactor_options = {.index = i};

		ASSERT(reactor_new(fixture->world, &reactor_options, &fixture->reactors[i]) == 0);
		ASSERT(reactor_start(fixture->reactors[i]) == 0);
	}
}

void fixture_free_real(struct fixture *fixture)
{
	char command[128];

	for (unsigned i = 0; i < FIXTURE_REACTORS; i++)
		reactor_stop(fixture->reactors[i]);
	for (unsigned i = 0; i < FIXTURE_REACTORS; i++)
		reactor_free(fixture->reactors[i]);
	world_real_free(fixture->world);
	snprintf(command, sizeof(command), "rm -rf '%s'", fixture->directory);
	ASSERT(system(command) == 0);
}

int fixture_run(struct fixture *fixture, unsigned index, int (*fn)(void *fixture))
{
	return fiber_call_blocking(fixture->reactors[index], FIBER_CONTROL, fn, fixture);
}

const char *fixture_path(const struct fixture *fixture, const char *name)
{
	static char buffers[4][160];
	static unsigned next;
	char *buffer = buffers[next++ % ARRAY_SIZE(buffers)];

	snprintf(buffer, sizeof(buffers[0]), "%s/%s", fixture->directory, name);
	return buffer;
}
