/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The main() of simulation programs: runs many seeds in several processes, stops at the first that
 * fails and prints how to run it again.
 *
 *     PROGRAM [--seed S] [--seeds N] [--jobs J] [--replay K] [--trace] [--hash]
 *
 *     --seed S     the first seed (default 1)
 *     --seeds N    how many (default 100)
 *     --jobs J     processes (default 1)
 *     --replay K   every K-th seed runs twice and must give the same hash (default 16, 0 = none)
 *     --trace      print each event of the world, and the log
 *     --hash       print the hash of each seed
 *
 * Exit status: 0 all seeds passed and every rare branch was reached; 1 a seed failed; 2 bad
 * arguments; 3 some rare branch was never reached (checked from SIM_RUN_REACH_SEEDS seeds on).
 */
#include <stdbool.h>
#include <stdint.h>

#define SIM_RUN_REACH_SEEDS 50
#define SIM_RUN_REACH_MAX   64

struct sim_run_program {
	const char *name;
	/*
	 * Runs one seed and returns the hash of all that happened. On a violation it prints what is
	 * wrong (sim_run_fail) and does not return. Leaves nothing behind.
	 */
	uint64_t (*run)(uint64_t seed, bool trace);
	const char *const
		*must_reach;    /* names of REACHED(), up to a NULL; at most SIM_RUN_REACH_MAX */
	unsigned limit_seconds; /* of processor time for one seed; 0 = 60 */
};

int sim_run_main(int argc, char **argv, const struct sim_run_program *program);

/* Prints the message, then aborts: the process above names the seed. */
_Noreturn void sim_run_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define SIM_RUN_CHECK(condition, ...)              \
	do {                                       \
		if (!(condition))                  \
			sim_run_fail(__VA_ARGS__); \
	} while (0)
