/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * xoshiro256**, seeded through splitmix64: the same sequence with every compiler. A simulation
 * keeps several streams, so that a new decision in one part does not shift those of the others.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_rng {
	uint64_t s[4];
};

/* `stream` tells apart generators that share a seed. */
void sim_random_init(struct sim_rng *rng, uint64_t seed, uint64_t stream);
uint64_t sim_random_next(struct sim_rng *rng);
/* Uniform in [0, bound). bound > 0. */
uint64_t sim_random_upto(struct sim_rng *rng, uint64_t bound);
/* Uniform in [low, high]. */
uint64_t sim_random_between(struct sim_rng *rng, uint64_t low, uint64_t high);
/* True in `ppm` of a million cases; draws nothing when ppm is 0. */
bool sim_random_ppm(struct sim_rng *rng, uint32_t ppm);
bool sim_random_coin(struct sim_rng *rng);
void sim_random_fill(struct sim_rng *rng, void *buffer, size_t length);
