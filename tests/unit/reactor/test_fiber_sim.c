/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers of several reactors in the simulated world: calls, crashes, replay. */
#include <errno.h>
#include <stdio.h>

#include "rig.h"

#define SEEDS 200

static struct rig rig;

struct work {
	struct fiber_task task;
	unsigned id;
	unsigned home;
	int result;
	bool finished;
};

static unsigned counters[RIG_REACTORS]; /* each touched on its own reactor only */

static int count_slowly(void *arg)
{
	unsigned index = reactor_index(reactor_current());

	ASSERT(reactor_current() == arg);
	fiber_sleep(1 + sim_random_below(rig.sim, 50 * NSEC_PER_USEC));
	return (int)++counters[index];
}

/* Calls random reactors, also itself, for some time. */
static void call_around(struct fiber_task *task)
{
	struct work *work = CONTAINER_OF(task, struct work, task);

	for (unsigned i = 0; i < 10; i++) {
		unsigned target = (unsigned)sim_random_below(rig.sim, RIG_REACTORS);
		enum fiber_class class = i % 2 ? FIBER_RECLAIM : FIBER_CHECKPOINT;

		work->result =
			fiber_call(rig.reactors[target], class, count_slowly, rig.reactors[target]);
		ASSERT(work->result > 0);
		ASSERT(reactor_current() == rig.reactors[work->home]);
	}
	work->finished = true;
}

static struct work works[3 * RIG_REACTORS];

static bool all_finished(void *arg)
{
	for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
		if (!works[i].finished)
			return false;
	}
	return true;
}

static void spawn_all(void (*run)(struct fiber_task *task))
{
	for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
		works[i] = (struct work){.id = i, .home = i % RIG_REACTORS, .task.run = run};
		fiber_spawn(rig.reactors[works[i].home], FIBER_DATA, &works[i].task);
	}
}

static uint64_t run_calls(uint64_t seed)
{
	uint64_t hash;

	rig_open_sim(&rig, seed);
	for (unsigned i = 0; i < RIG_REACTORS; i++)
		counters[i] = 0;
	spawn_all(call_around);
	assert_int_equal(sim_run_until(rig.sim, all_finished, NULL, NSEC_PER_SEC), 0);
	assert_int_equal(counters[0] + counters[1] + counters[2], 10 * ARRAY_SIZE(works));
	hash = sim_trace_hash(rig.sim);
	rig_close(&rig);
	return hash;
}

static void calls_across_reactors_and_replays(void **state)
{
	uint64_t previous = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		uint64_t hash = run_calls(seed);

		if (seed % 10 == 0)
			assert_int_equal(run_calls(seed), hash);
		assert_int_not_equal(hash, previous);
		previous = hash;
	}
}

static int write_and_sync(void *arg)
{
	static const char data[64];
	int error = io_write(arg, data, sizeof(data), 0);

	return error < 0 ? error : io_sync(arg);
}

/* Writes until the world dies, on its own reactor or through another. */
static void write_for_ever(struct fiber_task *task)
{
	struct work *work = CONTAINER_OF(task, struct work, task);
	struct world_file *file = NULL;
	char path[128] = "";

	snprintf(path, sizeof(path), "%s/%u", rig.directory, work->id);
	work->result = io_open(path, WORLD_FILE_CREATE, &file);
	while (work->result == 0) {
		unsigned target = (unsigned)sim_random_below(rig.sim, RIG_REACTORS);

		work->result =
			fiber_call(rig.reactors[target], FIBER_RECLAIM, write_and_sync, file);
		fiber_sleep(1000); /* time goes on in a dead world */
	}
	if (file)
		(void)io_close(file); /* -ESHUTDOWN again; frees the memory all the same */
	work->finished = true;
}

static bool never(void *arg)
{
	return false;
}

static void unwinds_when_the_world_dies(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		rig_open_sim(&rig, seed);
		spawn_all(write_for_ever);
		assert_int_equal(
			sim_run_until(rig.sim, never, NULL,
				      NSEC_PER_MSEC + sim_random_below(rig.sim, NSEC_PER_MSEC)),
			-ETIMEDOUT);
		sim_crash(rig.sim, seed % 2 ? SIM_CRASH_PROCESS : SIM_CRASH_POWER);
		assert_int_equal(sim_run_until(rig.sim, all_finished, NULL, NSEC_PER_SEC), 0);
		for (unsigned i = 0; i < ARRAY_SIZE(works); i++)
			assert_int_equal(works[i].result, -ESHUTDOWN);
		rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_across_reactors_and_replays),
		cmocka_unit_test(unwinds_when_the_world_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
