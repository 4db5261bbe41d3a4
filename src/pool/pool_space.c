/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account of a pool's space. What the numbers mean and why they are what they are: pool.h.
 *
 * Invariants
 *  1. used = the charged sizes of all entries of `files`, plus what is being taken at this moment.
 *  2. used <= capacity, and used <= capacity - reserve after a charge for data.
 *  3. admitted never exceeds limit - live at the time of an admission.
 * `used` and `spare` change on the home reactor only; the others are plain atomic counters.
 */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/macros.h"

#define GROUPS_OF_A_POOL    128
#define RESERVE_GROUPS      3
#define RESERVE_PERCENT     3
#define LIMIT_PERCENT       91
#define PRESSURE_GROUPS     4
#define PRESSURE_PERCENT    10
#define FILE_SYSTEM_PERCENT 95 /* of the file system, when no capacity was given */

static uint64_t percent(uint64_t bytes, unsigned of_hundred)
{
	return bytes / 100 * of_hundred;
}

uint64_t pool_space_capacity(uint64_t configured_bytes, const struct world_fs_stat *fs)
{
	uint64_t capacity = configured_bytes ? MIN(configured_bytes, fs->total_bytes)
					     : percent(fs->total_bytes, FILE_SYSTEM_PERCENT);

	return ALIGN_DOWN(capacity, MIB);
}

static uint64_t group_bytes_of(uint64_t capacity_bytes)
{
	uint64_t bytes = POOL_GROUP_BYTES;

	while (bytes > POOL_GROUP_BYTES_MIN && bytes > capacity_bytes / GROUPS_OF_A_POOL)
		bytes /= 2;
	return bytes;
}

void pool_space_init(struct pool *pool, uint64_t capacity_bytes)
{
	uint64_t usable;

	pool->capacity = capacity_bytes;
	pool->group_bytes = group_bytes_of(capacity_bytes);
	pool->reserve =
		MAX(RESERVE_GROUPS * pool->group_bytes, percent(capacity_bytes, RESERVE_PERCENT));
	pool->reserve = MIN(ALIGN_UP(pool->reserve, MIB), capacity_bytes);
	usable = capacity_bytes - pool->reserve;
	pool->limit = percent(usable, LIMIT_PERCENT);
	pool->pressure_level =
		MAX(PRESSURE_GROUPS * pool->group_bytes, percent(usable, PRESSURE_PERCENT));
}

int pool_space_charge(struct pool *pool, enum pool_use use, uint64_t bytes)
{
	uint64_t most = pool->capacity - (use == POOL_USE_DATA ? pool->reserve : 0);
	uint64_t used = atomic_load(&pool->used);

	reactor_assert_home(pool->home);
	if (used > most || bytes > most - used)
		return -ENOSPC;
	atomic_store(&pool->used, used + bytes);
	return 0;
}

void pool_space_release(struct pool *pool, uint64_t bytes)
{
	uint64_t used = atomic_load(&pool->used);

	reactor_assert_home(pool->home);
	ASSERT(bytes <= used);
	atomic_store(&pool->used, used - bytes);
	if (bytes > 0)
		pool_wait_wake(pool);
	pool_keeper_wake(pool);
}

unsigned pool_pressure(const struct pool *pool)
{
	uint64_t usable = pool->capacity - pool->reserve;
	uint64_t used = atomic_load(&((struct pool *)pool)->used);
	uint64_t unused = used < usable ? usable - used : 0;

	if (unused >= pool->pressure_level)
		return 0;
	return (unsigned)(100 - unused * 100 / pool->pressure_level);
}

void pool_set_pressure_hook(struct pool *pool, void (*hook)(void *arg), void *arg)
{
	reactor_assert_home(pool->home);
	pool->pressure_hook = hook;
	pool->pressure_arg = arg;
}

void pool_space_press(struct pool *pool)
{
	if (pool->pressure_hook && pool_pressure(pool) > 0)
		pool->pressure_hook(pool->pressure_arg);
}

static uint64_t live_bytes(struct pool *pool)
{
	int64_t live = atomic_load(&pool->live);

	return live > 0 ? (uint64_t)live : 0;
}

int pool_admit(struct pool *pool, uint64_t bytes)
{
	uint64_t admitted;

	if (atomic_load(&pool->state) == POOL_READ_ONLY)
		return -EROFS;
	admitted = atomic_fetch_add(&pool->admitted, bytes) + bytes;
	if (live_bytes(pool) + admitted <= pool->limit)
		return 0;
	pool_admit_return(pool, bytes);
	return -ENOSPC;
}

void pool_admit_return(struct pool *pool, uint64_t bytes)
{
	uint64_t before = atomic_fetch_sub(&pool->admitted, bytes);

	ASSERT(before >= bytes);
}

void pool_account_live(struct pool *pool, int64_t bytes)
{
	atomic_fetch_add(&pool->live, bytes);
}

void pool_get_space(struct pool *pool, struct pool_space *ret_space)
{
	uint64_t used = atomic_load(&pool->used), live = live_bytes(pool);

	*ret_space = (struct pool_space){
		.capacity = pool->capacity,
		.used = used,
		.live = live,
		.reclaimable = used > live ? used - live : 0,
		.reserve = pool->reserve,
		.spare = atomic_load(&pool->spare),
		.admitted = atomic_load(&pool->admitted),
		.limit = pool->limit,
	};
}

static void state_set(struct pool *pool, enum pool_state state)
{
	if (atomic_exchange(&pool->state, state) == (int)state)
		return;
	if (state == POOL_READ_ONLY)
		log_error("pool", "the file system is read-only: writes fail", "pool=%s",
			  pool->name);
	else
		log_error("pool", "the file system is full", "pool=%s", pool->name);
	pool_keeper_post(pool);
}

int pool_state_note(struct pool *pool, int r)
{
	if (r == -EROFS)
		state_set(pool, POOL_READ_ONLY);
	else if (r == -ENOSPC && atomic_load(&pool->state) == POOL_ONLINE)
		state_set(pool, POOL_FULL);
	return r;
}

void pool_report_error(struct pool *pool, int error)
{
	(void)pool_state_note(pool, error); /* returns its argument */
}

int pool_state_writable(struct pool *pool)
{
	return atomic_load(&pool->state) == POOL_READ_ONLY ? -EROFS : 0;
}
