/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A simulated world with some reactors, for tests: code runs in fibers of a chosen reactor, and the
 * test's main thread waits for it in virtual time.
 */
#include "reactor/fiber.h"
#include "world/sim.h"

#define SIM_RIG_REACTORS_MAX 8

struct sim_rig {
	struct sim *sim;
	unsigned reactor_count;
	struct reactor *reactors[SIM_RIG_REACTORS_MAX];
};

/* Aborts the process when something fails: there is no test without a rig. */
void sim_rig_init(struct sim_rig *rig, uint64_t seed, unsigned reactor_count);
void sim_rig_init_options(struct sim_rig *rig, const struct sim_options *options,
			  unsigned reactor_count);
void sim_rig_done(struct sim_rig *rig);

/* After sim_crash(), when every fiber has ended: frees the reactors, lets the simulator decide what
 * survived, and makes new ones. */
void sim_rig_restart(struct sim_rig *rig);

/* Runs the seeds of `text` ("FIRST:COUNT"; NULL: 1 to `few`); the log is silent unless there is but
 * one. Returns how many. When the text is none of that, the process says so and ends with 2. */
typedef uint64_t sim_rig_seed_fn(uint64_t seed, void *totals); /* gives the hash of its trace */
uint64_t sim_rig_seeds(const char *text, uint64_t few, sim_rig_seed_fn *run, void *totals);
/* Whether the seed gives the same hash a second time. */
bool sim_rig_replays(uint64_t seed, sim_rig_seed_fn *run, void *totals);

/* A piece of work for a fiber. */
struct sim_rig_task {
	void (*run)(void *arg);
	void *arg;
	bool finished;
	/* Private. */
	struct reactor *reactor;
	struct world_message message;
	struct fiber_task task;
};

/* Lines of the log go nowhere, until there is another sink. */
void sim_rig_silence_log(void);

/* Starts run(arg) in a fiber of reactor `index`; the caller keeps the task until it is finished. */
void sim_rig_start(struct sim_rig *rig, unsigned index, struct sim_rig_task *task);
/* Runs the world until the `count` tasks are finished, at most `limit_ns`: 0, -EDEADLK,
 * -ETIMEDOUT. */
int sim_rig_wait(struct sim_rig *rig, const struct sim_rig_task *tasks, unsigned count,
		 uint64_t limit_ns);
/* Both for one task, with a limit of an hour; aborts when it does not finish. */
void sim_rig_run(struct sim_rig *rig, unsigned index, void (*run)(void *arg), void *arg);
