/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_turns.h"

#include <errno.h>
#include <sys/resource.h>

#include "bench_rig.h"

static struct rusage get_usage(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage) < 0)
		bench_fail("getrusage", -errno);
	return usage;
}

static void begin_turn(struct bench_turns *turns)
{
	struct rusage usage = get_usage();

	turns->sleeps = (uint64_t)usage.ru_nvcsw;
	turns->interruptions = (uint64_t)usage.ru_nivcsw;
	turns->wall_ns = bench_now_ns();
	turns->cpu_ns = bench_cpu_ns();
}

static void end_turn(struct bench_turns *turns)
{
	uint64_t cpu_ns = bench_cpu_ns() - turns->cpu_ns;
	uint64_t wall_ns = bench_now_ns() - turns->wall_ns;
	struct rusage usage = get_usage();

	turns->longest_ns = MAX(turns->longest_ns, cpu_ns);
	turns->longest_wall_ns = MAX(turns->longest_wall_ns, wall_ns);
	turns->blocked += (uint64_t)usage.ru_nvcsw != turns->sleeps;
	turns->interrupted += (uint64_t)usage.ru_nivcsw != turns->interruptions;
	begin_turn(turns);
}

static void run_hook(struct reactor_hook *hook)
{
	struct bench_turns *turns = CONTAINER_OF(hook, struct bench_turns, hook);

	end_turn(turns);
	reactor_hook_arm(turns->reactor, hook);
}

void bench_turns_start(struct bench_turns *turns)
{
	*turns = (struct bench_turns){.reactor = reactor_current()};
	begin_turn(turns);
	reactor_hook_init(&turns->hook, run_hook);
	reactor_hook_arm(turns->reactor, &turns->hook);
}

void bench_turns_stop(struct bench_turns *turns)
{
	reactor_hook_disarm(&turns->hook);
}

uint64_t bench_turns_lap(struct bench_turns *turns)
{
	uint64_t longest;

	fiber_yield();
	longest = turns->longest_ns;
	turns->longest_ns = 0;
	return longest;
}
