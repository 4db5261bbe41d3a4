/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account of the disks' space. What the numbers mean and why they are what they are: pool.h.
 *
 * Invariants
 *  1. used = the charged sizes of all entries of the disk's table, plus what is being taken at this
 *     moment. That holds for missing disks too.
 *  2. used <= capacity, and used <= capacity - reserve after a charge for data.
 * `used` and `spare` change on the home reactor only.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/macros.h"
#include "pool/pool_priv.h"
#include "pool/pool_tier.h"

#define GROUPS_OF_A_DISK    128
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

uint64_t pool_space_group_bytes(uint64_t capacity_bytes)
{
	uint64_t bytes = POOL_GROUP_BYTES;

	while (bytes > POOL_GROUP_BYTES_MIN && bytes > capacity_bytes / GROUPS_OF_A_DISK)
		bytes /= 2;
	return bytes;
}

bool pool_space_counts(const struct pool_disk *disk)
{
	return pool_disk_state_of(disk) != POOL_DISK_FAILED &&
	       !atomic_load(&((struct pool_disk *)disk)->draining) && !disk->leaving;
}

/* A file must fit on any of the disks it may come to, so the smallest one decides. */
static void set_group_bytes(struct pool *pool)
{
	struct pool_disk *disk;
	uint64_t bytes = POOL_GROUP_BYTES;

	POOL_FOR_EACH_DISK(pool, disk)
	if (atomic_load(&disk->capacity) > 0)
		bytes = MIN(bytes, pool_space_group_bytes(atomic_load(&disk->capacity)));
	atomic_store(&pool->group_bytes, bytes);
}

static void set_reserve(struct pool_disk *disk, uint64_t group_bytes)
{
	uint64_t capacity = atomic_load(&disk->capacity);
	uint64_t reserve = MAX(RESERVE_GROUPS * group_bytes, percent(capacity, RESERVE_PERCENT));

	reserve = MIN(ALIGN_UP(reserve, MIB), capacity);
	atomic_store(&disk->reserve, reserve);
	atomic_store(&disk->pressure_level, MAX(PRESSURE_GROUPS * group_bytes,
						percent(capacity - reserve, PRESSURE_PERCENT)));
}

uint64_t pool_space_share(const struct pool_disk *disk)
{
	struct pool_disk *d = (struct pool_disk *)disk;

	return percent(atomic_load(&d->capacity) - atomic_load(&d->reserve), LIMIT_PERCENT);
}

static unsigned set_shares(struct pool *pool, bool all)
{
	struct pool_disk *disk;
	unsigned count = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		if (atomic_load(&disk->capacity) > 0 && (all || pool_space_counts(disk)))
			atomic_store(&pool->shares[count++], pool_space_share(disk));
	}
	return count;
}

void pool_space_recount(struct pool *pool)
{
	struct pool_disk *disk;
	unsigned count;

	set_group_bytes(pool);
	POOL_FOR_EACH_DISK(pool, disk)
	set_reserve(disk, atomic_load(&pool->group_bytes));
	count = set_shares(pool, false);
	if (count == 0)
		count = set_shares(pool, true);
	atomic_store(&pool->share_count, count);
	pool_quotas_follow_tiers(pool);
}

void pool_space_set_capacity(struct pool_disk *disk, uint64_t capacity_bytes)
{
	atomic_store(&disk->capacity, capacity_bytes);
	pool_space_recount(disk->pool);
}

uint64_t pool_space_free(const struct pool_disk *disk, enum pool_use use)
{
	struct pool_disk *d = (struct pool_disk *)disk;
	uint64_t taken = atomic_load(&d->used);
	uint64_t capacity = atomic_load(&d->capacity);

	if (use == POOL_USE_DATA)
		taken += atomic_load(&d->reserve);
	return taken < capacity ? capacity - taken : 0;
}

int pool_space_charge(struct pool_disk *disk, enum pool_use use, uint64_t bytes)
{
	reactor_assert_home(disk->pool->home);
	if (bytes > pool_space_free(disk, use))
		return -ENOSPC;
	atomic_fetch_add(&disk->used, bytes);
	return 0;
}

void pool_space_release(struct pool_disk *disk, uint64_t bytes)
{
	reactor_assert_home(disk->pool->home);
	ASSERT(bytes <= atomic_load(&disk->used));
	atomic_fetch_sub(&disk->used, bytes);
	if (bytes > 0)
		pool_tier_room(disk->pool);
	pool_keeper_wake(disk->pool);
}

/* 0 .. 100 */
static unsigned disk_pressure(const struct pool_disk *disk)
{
	uint64_t level = atomic_load(&((struct pool_disk *)disk)->pressure_level);
	uint64_t unused = pool_space_free(disk, POOL_USE_DATA);

	if (unused >= level)
		return 0;
	return (unsigned)(100 - unused * 100 / level);
}

/* Puts `value` in its place among the least ones. */
static void keep_least(unsigned least[POOL_FACTOR_MAX], unsigned value)
{
	for (unsigned i = 0; i < POOL_FACTOR_MAX; i++)
		if (value < least[i]) {
			unsigned moved = least[i];

			least[i] = value;
			value = moved;
		}
}

/* Room is needed on as many disks as the largest factor says: the last of them decides. */
unsigned pool_pressure(const struct pool *pool)
{
	unsigned least[POOL_FACTOR_MAX] = {UINT32_MAX, UINT32_MAX, UINT32_MAX}, count = 0, factor;
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		if (pool_disk_is_gone(disk) || !pool_space_counts(disk))
			continue;
		keep_least(least, disk_pressure(disk));
		count++;
	}
	factor = MIN(pool_admit_largest_factor(pool), count);
	return factor > 0 ? least[factor - 1] : 0;
}

int pool_state_writable(const struct pool *pool)
{
	struct pool_disk *disk;
	bool read_only = false;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		enum pool_disk_state state = pool_disk_state_of(disk);

		if (state < POOL_DISK_READ_ONLY)
			return 0;
		read_only |= state == POOL_DISK_READ_ONLY;
	}
	return read_only ? -EROFS : 0;
}

bool pool_is_stranded(const struct pool *pool)
{
	struct pool_disk *disk;
	bool gone = false;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		if (pool_disk_state_of(disk) < POOL_DISK_READ_ONLY)
			return false;
		gone |= pool_disk_is_gone(disk);
	}
	return gone;
}

void pool_get_space(struct pool *pool, struct pool_space *ret_space)
{
	struct pool_space space = {0};
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		if (pool_disk_state_of(disk) == POOL_DISK_FAILED)
			continue;
		space.capacity += atomic_load(&disk->capacity);
		space.used += atomic_load(&disk->used);
		space.reserve += atomic_load(&disk->reserve);
		space.spare += atomic_load(&disk->spare);
	}
	pool_admit_get(pool, &space);
	space.reclaimable = space.used > space.live ? space.used - space.live : 0;
	*ret_space = space;
}
