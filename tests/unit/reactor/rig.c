/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world/real.h"

static void rig_make_reactors(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_REACTORS; i++) {
		const struct reactor_options options = {.index = i, .fibers = {4, 1, 1, 2}};

		assert_int_equal(reactor_new(rig->world, &options, &rig->reactors[i]), 0);
		if (!rig->sim)
			assert_int_equal(reactor_start(rig->reactors[i]), 0);
	}
}

void rig_open_real(struct rig *rig)
{
	const struct world_real_options options = {.fence_fd = -1, .workers = 1};

	*rig = (struct rig){.directory = "/tmp/sarsen-reactor-XXXXXX"};
	assert_non_null(mkdtemp(rig->directory));
	assert_int_equal(world_real_new(&options, &rig->world), 0);
	rig_make_reactors(rig);
}

void rig_open_sim(struct rig *rig, uint64_t seed)
{
	const struct sim_options options = {.seed = seed};

	*rig = (struct rig){.directory = "/disk"};
	assert_int_equal(sim_new(&options, &rig->sim), 0);
	assert_int_equal(sim_disk_add(rig->sim, rig->directory, 64 * MIB), 0);
	rig->world = sim_world(rig->sim);
	rig_make_reactors(rig);
}

static int rig_remove(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
	return remove(path);
}

void rig_close(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_REACTORS; i++)
		reactor_stop(rig->reactors[i]);
	for (unsigned i = 0; i < RIG_REACTORS; i++)
		reactor_free(rig->reactors[i]);
	if (rig->sim) {
		sim_free(rig->sim);
		return;
	}
	world_real_free(rig->world);
	assert_int_equal(nftw(rig->directory, rig_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
}

struct rig_call {
	struct fiber_task task;
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool returned;
};

static void rig_call_run(struct fiber_task *task)
{
	struct rig_call *call = CONTAINER_OF(task, struct rig_call, task);

	call->result = call->fn(call->arg);
	call->returned = true;
}

static bool rig_call_has_returned(void *arg)
{
	return ((struct rig_call *)arg)->returned;
}

int rig_call(struct rig *rig, int (*fn)(void *arg), void *arg)
{
	struct rig_call call = {.task.run = rig_call_run, .fn = fn, .arg = arg};

	if (!rig->sim)
		return fiber_call_blocking(rig->reactors[0], FIBER_CONTROL, fn, arg);
	fiber_spawn(rig->reactors[0], FIBER_CONTROL, &call.task);
	assert_int_equal(sim_run_until(rig->sim, rig_call_has_returned, &call, 1000 * NSEC_PER_SEC),
			 0);
	return call.result;
}
