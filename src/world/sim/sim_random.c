/* SPDX-License-Identifier: Apache-2.0 */
#include "world/sim/sim_random.h"

#include <string.h>

#include "base/endian.h"
#include "base/macros.h"

static uint64_t split_mix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

void sim_random_init(struct sim_rng *rng, uint64_t seed, uint64_t stream)
{
	uint64_t state = seed;

	state = split_mix(&state) + stream * UINT64_C(0xd1342543de82ef95);
	for (unsigned i = 0; i < ARRAY_SIZE(rng->s); i++)
		rng->s[i] = split_mix(&state);
}

uint64_t sim_random_next(struct sim_rng *rng)
{
	uint64_t *s = rng->s;
	uint64_t result = rotate_left(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}

uint64_t sim_random_upto(struct sim_rng *rng, uint64_t bound)
{
	ASSERT(bound > 0);
	return (uint64_t)(((unsigned __int128)sim_random_next(rng) * bound) >> 64);
}

uint64_t sim_random_between(struct sim_rng *rng, uint64_t low, uint64_t high)
{
	ASSERT(low <= high && high - low < UINT64_MAX);
	return low + sim_random_upto(rng, high - low + 1);
}

bool sim_random_ppm(struct sim_rng *rng, uint32_t ppm)
{
	return ppm && sim_random_upto(rng, 1000000) < ppm;
}

bool sim_random_coin(struct sim_rng *rng)
{
	return sim_random_next(rng) >> 63;
}

void sim_random_fill(struct sim_rng *rng, void *buffer, size_t length)
{
	uint8_t *p = buffer;

	while (length > 0) {
		size_t n = MIN(length, sizeof(uint64_t));
		uint8_t word[sizeof(uint64_t)];

		put_le64(word, sim_random_next(rng));
		memcpy(p, word, n);
		p += n;
		length -= n;
	}
}
