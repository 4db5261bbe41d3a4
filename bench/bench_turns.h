/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How much processor time the turns of a reactor take, from the end of one to the end of the next,
 * and in how many of them its thread slept in the kernel, which none should. The clock on the wall
 * measures the machine's other processes, too: what it says is told beside, with how many turns
 * others interrupted. What a hypervisor gives to others counts as processor time. While it looks,
 * the reactor never waits.
 */
#include "reactor/reactor.h"

struct bench_turns {
	struct reactor_hook hook;
	struct reactor *reactor;
	uint64_t cpu_ns, wall_ns;       /* at the end of the last turn */
	uint64_t sleeps, interruptions; /* the same */
	uint64_t longest_ns;            /* since the last lap */
	uint64_t longest_wall_ns;       /* in all */
	uint64_t blocked, interrupted;  /* turns that slept, or were interrupted, in all */
};

/* On the reactor. */
void bench_turns_start(struct bench_turns *turns);
void bench_turns_stop(struct bench_turns *turns);
/* The longest turn since the last lap, this one included. From a fiber. */
uint64_t bench_turns_lap(struct bench_turns *turns);
