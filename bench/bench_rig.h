/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What benchmark programs share: one reactor in the real world, clocks, options, and a result as
 * one line of JSON for bench/run.
 */
#include "reactor/fiber.h"
#include "world/real.h"

struct bench_rig {
	struct world *world;
	struct reactor *reactor;
};

/* Ends the process with a message when the machine has no io_uring. */
void bench_rig_init(struct bench_rig *rig);
void bench_rig_init_with(struct bench_rig *rig, const struct world_real_options *world_options,
			 const struct reactor_options *options);
void bench_rig_done(struct bench_rig *rig);
/* Runs run(arg) in a fiber of the reactor and waits for it. Returns its value. */
int bench_rig_run(struct bench_rig *rig, int (*run)(void *arg), void *arg);

uint64_t bench_now_ns(void);
/* Of the calling thread. */
uint64_t bench_cpu_ns(void);

struct bench_result {
	uint64_t operations;
	uint64_t bytes;
	uint64_t elapsed_ns;
	uint64_t cpu_ns;
};
void bench_print(const struct bench_result *result);

/* The value of `--name=NUMBER` in the arguments, or `otherwise`; ends the process when
 * malformed. */
uint64_t bench_option(int argc, char **argv, const char *name, uint64_t otherwise);
/* Prints the message and ends the process. */
_Noreturn void bench_fail(const char *what, int error);
