/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Pseudo-random choices that a seed replays (splitmix64): for fault injection and tests, never for
 * secrets.
 */
#include <stdbool.h>
#include <stdint.h>

struct chance {
	uint64_t state;
};

static inline void chance_init(struct chance *chance, uint64_t seed)
{
	chance->state = seed;
}

static inline uint64_t chance_next(struct chance *chance)
{
	uint64_t z = chance->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* In [0, bound), or 0 when bound is 0. */
static inline uint64_t chance_below(struct chance *chance, uint64_t bound)
{
	return bound ? chance_next(chance) % bound : 0;
}

static inline bool chance_ppm(struct chance *chance, uint32_t parts_per_million)
{
	return chance_below(chance, 1000000) < parts_per_million;
}
