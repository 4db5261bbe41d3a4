/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How much processor time the turns of a reactor take, from the end of one to the end of the next,
 * and in how many of them its thread slept in the kernel, which none should. The clock on the wall
 * would measure the machine's other processes. While it looks, the reactor never waits.
 */
#include "reactor/reactor.h"

struct bench_turns {
	struct reactor_hook hook;
	struct reactor *reactor;
	uint64_t cpu_ns, sleeps; /* at the end of the last turn */
	uint64_t longest_ns;     /* since the last lap */
	uint64_t blocked;        /* turns that slept, in all */
};

/* On the reactor. */
void bench_turns_start(struct bench_turns *turns);
void bench_turns_stop(struct bench_turns *turns);
/* The longest turn since the last lap, this one included. From a fiber. */
uint64_t bench_turns_lap(struct bench_turns *turns);
