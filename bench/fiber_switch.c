/* SPDX-License-Identifier: Apache-2.0 */
/* Nanoseconds of switches, wakes, spawns, deferrals and turns: the best of several passes. */
#include <stdio.h>
#include <time.h>

#include "base/macros.h"
#include "reactor/context.h"
#include "reactor/fiber.h"

#define SWITCHES 4000000u
#define WAKES    1000000u
#define PASSES   20

/* A world of one port in which nothing happens; its clock is the real one. */
struct world_port {
	void (*turn)(void *arg);
	void *arg;
};

static struct world_port the_port;

static uint64_t bench_now_ns(struct world *world)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static int bench_port_open(struct world *world, unsigned index, void (*turn)(void *arg), void *arg,
			   struct world_port **ret_port)
{
	the_port = (struct world_port){turn, arg};
	*ret_port = &the_port;
	return 0;
}

static void bench_port_close(struct world_port *port)
{
}

static unsigned bench_port_wait(struct world_port *port, uint64_t deadline_ns,
				unsigned max_completions)
{
	return 0;
}

static void bench_port_wake(struct world_port *port)
{
}

static const struct world_ops bench_ops = {
	.name = "bench",
	.now_ns = bench_now_ns,
	.port_open = bench_port_open,
	.port_close = bench_port_close,
	.port_wait = bench_port_wait,
	.port_wake = bench_port_wake,
};
static struct world bench_world = {&bench_ops};

enum measure { SWITCH, WAKE, SPAWN, DEFER, TURN, CLOCK, MEASURES };

static const char *const measure_names[MEASURES] = {
	[SWITCH] = "context switch",          [WAKE] = "defer, wake, run, suspend",
	[SPAWN] = "spawn, run, finish",       [DEFER] = "defer, run",
	[TURN] = "empty turn that may sleep", [CLOCK] = "(reading the clock)",
};
static double best_ns[MEASURES];

static void report(enum measure measure, uint64_t start_ns, unsigned count)
{
	double took_ns = (double)(bench_now_ns(NULL) - start_ns) / (double)count;

	if (best_ns[measure] == 0 || took_ns < best_ns[measure])
		best_ns[measure] = took_ns;
}

static struct context thread_context, other_context;
static bool other_stops;

static void other_main(struct context *context)
{
	context_entered(&other_context, &thread_context);
	while (!other_stops)
		context_switch(&other_context, &thread_context);
	context_exit(&other_context, &thread_context);
}

static void bench_context(void)
{
	static _Alignas(16) char stack[64 * 1024];
	uint64_t start_ns;

	context_init_thread(&thread_context);
	context_init(&other_context, stack, sizeof(stack), other_main);
	start_ns = bench_now_ns(NULL);
	for (unsigned i = 0; i < SWITCHES / 2; i++)
		context_switch(&thread_context, &other_context);
	report(SWITCH, start_ns, SWITCHES);
	other_stops = true;
	context_switch(&thread_context, &other_context);
	context_done(&other_context);
}

struct bench {
	struct reactor *reactor;
	struct fiber_task task;
	struct reactor_work work;
	struct fiber *fiber;
	unsigned left;
};

static void suspend_often(struct fiber_task *task)
{
	struct bench *bench = CONTAINER_OF(task, struct bench, task);

	bench->fiber = fiber_current();
	while (bench->left > 0)
		fiber_suspend();
}

static void wake_again(struct reactor_work *work)
{
	struct bench *bench = CONTAINER_OF(work, struct bench, work);

	bench->left--;
	fiber_wake(bench->fiber);
	if (bench->left > 0)
		reactor_defer(bench->reactor, work);
}

static void bench_wake(struct bench *bench)
{
	uint64_t start_ns;

	bench->left = WAKES;
	bench->task.run = suspend_often;
	bench->work.run = wake_again;
	fiber_spawn(bench->reactor, FIBER_DATA, &bench->task);
	the_port.turn(the_port.arg);
	reactor_defer(bench->reactor, &bench->work);
	start_ns = bench_now_ns(NULL);
	while (bench->left > 0)
		the_port.turn(the_port.arg);
	report(WAKE, start_ns, WAKES);
	the_port.turn(the_port.arg);
}

static void spawn_again(struct fiber_task *task)
{
	struct bench *bench = CONTAINER_OF(task, struct bench, task);

	if (--bench->left > 0)
		fiber_spawn(bench->reactor, FIBER_DATA, task);
}

static void bench_spawn(struct bench *bench)
{
	uint64_t start_ns;

	bench->left = WAKES;
	bench->task.run = spawn_again;
	fiber_spawn(bench->reactor, FIBER_DATA, &bench->task);
	start_ns = bench_now_ns(NULL);
	while (bench->left > 0)
		the_port.turn(the_port.arg);
	report(SPAWN, start_ns, WAKES);
}

static void defer_again(struct reactor_work *work)
{
	struct bench *bench = CONTAINER_OF(work, struct bench, work);

	if (--bench->left > 0)
		reactor_defer(bench->reactor, work);
}

static void bench_defer(struct bench *bench)
{
	uint64_t start_ns;

	bench->left = WAKES;
	bench->work.run = defer_again;
	reactor_defer(bench->reactor, &bench->work);
	start_ns = bench_now_ns(NULL);
	while (bench->left > 0)
		the_port.turn(the_port.arg);
	report(DEFER, start_ns, WAKES);
}

static void bench_turn(void)
{
	uint64_t start_ns = bench_now_ns(NULL);

	for (unsigned i = 0; i < WAKES; i++)
		the_port.turn(the_port.arg);
	report(TURN, start_ns, WAKES);
	start_ns = bench_now_ns(NULL);
	for (unsigned i = 0; i < WAKES; i++)
		(void)bench_now_ns(NULL);
	report(CLOCK, start_ns, WAKES);
}

int main(void)
{
	const struct reactor_options options = {0};
	struct bench bench = {0};

	if (reactor_new(&bench_world, &options, &bench.reactor) < 0)
		return 1;
	for (int i = 0; i < PASSES; i++) {
		other_stops = false;
		bench_context();
		bench_wake(&bench);
		bench_spawn(&bench);
		bench_defer(&bench);
		bench_turn();
	}
	reactor_free(bench.reactor);
	for (unsigned i = 0; i < MEASURES; i++)
		printf("%-26s %6.2f ns\n", measure_names[i], best_ns[i]);
	return 0;
}
