/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_rig.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

_Noreturn void bench_fail(const char *what, int error)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(-error));
	exit(1);
}

void bench_rig_init(struct bench_rig *rig)
{
	bench_rig_init_with(rig, &(struct world_real_options){.fence_fd = -1},
			    &(struct reactor_options){.index = 0});
}

void bench_rig_init_with(struct bench_rig *rig, const struct world_real_options *world_options,
			 const struct reactor_options *options)
{
	int result = world_real_new(world_options, &rig->world);

	if (result < 0)
		bench_fail("cannot use io_uring", result);
	result = reactor_new(rig->world, options, &rig->reactor);
	if (result == 0)
		result = reactor_start(rig->reactor);
	if (result < 0)
		bench_fail("cannot start a reactor", result);
}

void bench_rig_done(struct bench_rig *rig)
{
	reactor_stop(rig->reactor);
	reactor_free(rig->reactor);
	world_real_free(rig->world);
}

int bench_rig_run(struct bench_rig *rig, int (*run)(void *arg), void *arg)
{
	return fiber_call_blocking(rig->reactor, FIBER_CONTROL, run, arg);
}

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	ASSERT(clock_gettime(clock, &now) == 0);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

uint64_t bench_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

void bench_print(const struct bench_result *result)
{
	printf("{\"operations\": %" PRIu64 ", \"bytes\": %" PRIu64
	       ", \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	       result->operations, result->bytes, (double)result->elapsed_ns / 1e9,
	       (double)result->cpu_ns / 1e9);
}

uint64_t bench_option(int argc, char **argv, const char *name, uint64_t otherwise)
{
	size_t length = strlen(name);

	for (int i = 1; i < argc; i++) {
		char *end;
		uint64_t value;

		if (strncmp(argv[i], "--", 2) != 0 || strncmp(argv[i] + 2, name, length) != 0 ||
		    argv[i][2 + length] != '=')
			continue;
		errno = 0;
		value = strtoull(argv[i] + 3 + length, &end, 10);
		if (errno || *end || end == argv[i] + 3 + length)
			bench_fail(argv[i], -EINVAL);
		return value;
	}
	return otherwise;
}
