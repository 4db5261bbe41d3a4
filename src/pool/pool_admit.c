/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission of live data.
 *
 * Live and admitted bytes are counted by factor: how many copies they have. Each disk that counts
 * (not failed, not leaving) has a share: the most that may be live there. Bytes of factor f go, f
 * times, on different disks. With e = min(f, disks), they fit when they can be spread so that each
 * disk gets at most its share. By the theorem of Hall that is so when for each set S of factors,
 *
 *     sum over disks of min(share, D)  >=  sum over f in S of e(f) * d(f),     D = sum of d(f),
 *
 * where d(f) are the bytes of factor f: no disk can hold more than one copy of each. With one disk
 * this is d <= share.
 *
 * Invariants
 *  1. An admission succeeds only when what was live and admitted then, with it, fits.
 *  2. The admitted bytes of a factor never fall below zero.
 * Counters are atomics of any reactor. Two admissions at a time may both fail where one would have
 * fitted; both never succeed where only one fits.
 */
#include <errno.h>

#include "base/macros.h"
#include "pool/pool_priv.h"

#define FACTORS POOL_FACTOR_MAX

struct demand { /* bytes by the number of copies there can be */
	uint64_t bytes[FACTORS + 1];
};

static uint64_t live_of(struct pool *pool, unsigned factor)
{
	int64_t live = atomic_load(&pool->live[factor]);

	return live > 0 ? (uint64_t)live : 0;
}

static unsigned effective(struct pool *pool, unsigned factor)
{
	return MAX(MIN(factor, atomic_load(&pool->share_count)), 1u);
}

/* Room that pool_quota.c holds for containers. */
static uint64_t held_of(struct pool *pool, unsigned factor)
{
	int64_t held = atomic_load(&pool->held[factor]);

	return held > 0 ? (uint64_t)held : 0;
}

static void get_demand(struct pool *pool, bool with_held, struct demand *ret_demand)
{
	*ret_demand = (struct demand){0};
	for (unsigned f = 1; f <= FACTORS; f++)
		ret_demand->bytes[effective(pool, f)] += live_of(pool, f) +
							 atomic_load(&pool->admitted[f]) +
							 (with_held ? held_of(pool, f) : 0);
}

/* What the disks hold of bytes of which none may be twice on one. */
static uint64_t room_for(struct pool *pool, uint64_t bytes)
{
	unsigned count = atomic_load(&pool->share_count);
	uint64_t room = 0;

	for (unsigned i = 0; i < count; i++)
		room += MIN(atomic_load(&pool->shares[i]), bytes);
	return room;
}

static bool set_fits(struct pool *pool, const struct demand *demand, unsigned set)
{
	uint64_t bytes = 0, copies = 0;

	for (unsigned f = 1; f <= FACTORS; f++) {
		if (!(set >> f & 1))
			continue;
		bytes += demand->bytes[f];
		copies += f * demand->bytes[f];
	}
	return room_for(pool, bytes) >= copies;
}

/* A factor without bytes adds nothing to any set. */
static bool fits(struct pool *pool, const struct demand *demand)
{
	unsigned in_use = 0;

	for (unsigned f = 1; f <= FACTORS; f++)
		in_use |= (unsigned)(demand->bytes[f] > 0) << f;
	for (unsigned set = in_use; set > 0; set = (set - 1) & in_use)
		if (!set_fits(pool, demand, set))
			return false;
	return true;
}

bool pool_admit_fits(struct pool *pool, bool with_held)
{
	struct demand demand;

	get_demand(pool, with_held, &demand);
	return fits(pool, &demand);
}

bool pool_admit_could_raise(struct pool *pool, struct pool_raise *raise)
{
	unsigned to = effective(pool, raise->factor);
	uint64_t room = room_for(pool, UINT64_MAX), taken = 0;
	struct demand demand;

	get_demand(pool, true, &demand);
	for (unsigned f = 1; f <= FACTORS; f++)
		taken += f * demand.bytes[f];
	raise->needed = 0;
	raise->room = room > taken ? room - taken : 0;
	for (unsigned f = 1; f < to; f++) {
		uint64_t moved = MIN(raise->bytes[f], demand.bytes[f]);

		demand.bytes[f] -= moved;
		demand.bytes[to] += moved;
		raise->needed += (to - f) * moved;
	}
	return raise->needed == 0 || fits(pool, &demand);
}

int pool_admit(struct pool *pool, unsigned factor, uint64_t bytes)
{
	ASSERT(factor > 0 && factor <= FACTORS);
	if (pool_state_writable(pool) < 0)
		return -EROFS;
	atomic_fetch_add(&pool->admitted[factor], bytes);
	if (pool_admit_fits(pool, true))
		return 0;
	pool_admit_return(pool, factor, bytes);
	return -ENOSPC;
}

void pool_admit_move(struct pool *pool, unsigned from, unsigned to, uint64_t bytes)
{
	ASSERT(to > 0 && to <= FACTORS);
	atomic_fetch_add(&pool->admitted[to], bytes);
	pool_admit_return(pool, from, bytes);
}

void pool_admit_return(struct pool *pool, unsigned factor, uint64_t bytes)
{
	uint64_t before;

	ASSERT(factor > 0 && factor <= FACTORS);
	before = atomic_fetch_sub(&pool->admitted[factor], bytes);
	ASSERT(before >= bytes);
}

void pool_account_live(struct pool *pool, unsigned factor, int64_t bytes)
{
	ASSERT(factor > 0 && factor <= FACTORS);
	atomic_fetch_add(&pool->live[factor], bytes);
}

unsigned pool_admit_largest_factor(const struct pool *pool)
{
	struct pool *p = (struct pool *)pool;
	unsigned factor = FACTORS;

	while (factor > 1 && live_of(p, factor) == 0 && atomic_load(&p->admitted[factor]) == 0)
		factor--;
	return factor;
}

/* The most bytes of that factor that fit when there is nothing else. */
static uint64_t most_bytes(struct pool *pool, unsigned factor)
{
	uint64_t low = 0, high = room_for(pool, UINT64_MAX) / factor;

	while (low < high) {
		uint64_t middle = high - (high - low) / 2;

		if (room_for(pool, middle) >= factor * middle)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

void pool_admit_get(struct pool *pool, struct pool_space *space)
{
	unsigned factor = effective(pool, pool_admit_largest_factor(pool));

	for (unsigned f = 1; f <= FACTORS; f++) {
		space->live += effective(pool, f) * live_of(pool, f);
		space->admitted += effective(pool, f) * atomic_load(&pool->admitted[f]);
	}
	space->limit = factor * most_bytes(pool, factor);
}
