/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_rig.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

static void make_reactors(struct sim_rig *rig)
{
	for (unsigned i = 0; i < rig->reactor_count; i++) {
		struct reactor_options options = {.index = i};

		ASSERT(reactor_new(sim_world(rig->sim), &options, &rig->reactors[i]) == 0);
	}
}

/* What one world frees is for the next, not for the kernel, which would have to clear it again. */
static void keep_freed_memory(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, 32 * MIB); /* as large as glibc allows */
	(void)mallopt(M_TRIM_THRESHOLD, 256 * MIB);
}

void sim_rig_init_options(struct sim_rig *rig, const struct sim_options *options,
			  unsigned reactor_count)
{
	ASSERT(reactor_count <= SIM_RIG_REACTORS_MAX);
	keep_freed_memory();
	*rig = (struct sim_rig){.reactor_count = reactor_count};
	ASSERT(sim_new(options, &rig->sim) == 0);
	make_reactors(rig);
}

void sim_rig_restart(struct sim_rig *rig)
{
	for (unsigned i = 0; i < rig->reactor_count; i++)
		reactor_free(rig->reactors[i]);
	sim_restart(rig->sim);
	make_reactors(rig);
}

void sim_rig_init(struct sim_rig *rig, uint64_t seed, unsigned reactor_count)
{
	struct sim_options options = {.seed = seed};

	sim_rig_init_options(rig, &options, reactor_count);
}

void sim_rig_done(struct sim_rig *rig)
{
	for (unsigned i = 0; i < rig->reactor_count; i++)
		reactor_free(rig->reactors[i]);
	sim_free(rig->sim);
	*rig = (struct sim_rig){0};
}

static void run_task(struct fiber_task *fiber_task)
{
	struct sim_rig_task *task = CONTAINER_OF(fiber_task, struct sim_rig_task, task);

	task->run(task->arg);
	task->finished = true;
}

static void spawn_task(struct world_message *message)
{
	struct sim_rig_task *task = CONTAINER_OF(message, struct sim_rig_task, message);

	task->task.run = run_task;
	fiber_spawn(task->reactor, FIBER_CONTROL, &task->task);
}

void sim_rig_start(struct sim_rig *rig, unsigned index, struct sim_rig_task *task)
{
	ASSERT(index < rig->reactor_count);
	task->finished = false;
	task->reactor = rig->reactors[index];
	task->message.run = spawn_task;
	reactor_post(task->reactor, &task->message);
}

struct wait {
	const struct sim_rig_task *tasks;
	unsigned count;
};

static bool all_finished(void *arg)
{
	const struct wait *wait = arg;

	for (unsigned i = 0; i < wait->count; i++)
		if (!wait->tasks[i].finished)
			return false;
	return true;
}

int sim_rig_wait(struct sim_rig *rig, const struct sim_rig_task *tasks, unsigned count,
		 uint64_t limit_ns)
{
	struct wait wait = {tasks, count};

	return sim_run_until(rig->sim, all_finished, &wait, limit_ns);
}

void sim_rig_run(struct sim_rig *rig, unsigned index, void (*run)(void *arg), void *arg)
{
	struct sim_rig_task task = {.run = run, .arg = arg};

	sim_rig_start(rig, index, &task);
	ASSERT(sim_rig_wait(rig, &task, 1, 3600 * NSEC_PER_SEC) == 0);
}

static void discard_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

void sim_rig_silence_log(void)
{
	log_set_sink(discard_line, NULL);
}

/* Who calls by hand is told what is wrong: it must not look as if the code had failed. */
static void parse_seeds(const char *text, uint64_t *ret_first, uint64_t *ret_count)
{
	int end = 0;

	if (sscanf(text, "%" SCNu64 ":%" SCNu64 "%n", ret_first, ret_count, &end) == 2 &&
	    text[end] == '\0' && *ret_count > 0)
		return;
	fprintf(stderr, "seeds are FIRST:COUNT, as 1:40, not '%s'\n", text);
	exit(2);
}

uint64_t sim_rig_seeds(const char *text, uint64_t few, sim_rig_seed_fn *run, void *totals)
{
	uint64_t first = 1, count = few;

	if (text)
		parse_seeds(text, &first, &count);
	if (count > 1)
		sim_rig_silence_log();
	for (uint64_t seed = first; seed < first + count; seed++)
		(void)run(seed, totals);
	log_set_sink(NULL, NULL);
	return count;
}

bool sim_rig_replays(uint64_t seed, sim_rig_seed_fn *run, void *totals)
{
	uint64_t first, second;

	sim_rig_silence_log();
	first = run(seed, totals);
	second = run(seed, totals);
	log_set_sink(NULL, NULL);
	return first == second;
}
