/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be live of a container, by the limits of its tiers and the disks that there are. Pure
 * functions of a shape of the pool (pool_tier.h), for they are asked for every container whenever a
 * disk comes or goes: the shape is made once then.
 */
#include "base/macros.h"
#include "pool/pool_tier.h"

#define FACTORS       POOL_FACTOR_MAX
#define LIMIT_GROUPS  4u /* of a limit that are not for live data: what is open, and lent */
#define LIMIT_PERCENT 91u
#define LIVE_MAX      (UINT64_MAX / POOL_DISKS_MAX) /* far from what would overflow */

/* Sorted by size within each tier. */
static void insert_share(struct pool_tier_shape *shape, unsigned first, unsigned end,
			 uint64_t share)
{
	unsigned at = end;

	for (; at > first && shape->shares[at - 1] > share; at--)
		shape->shares[at] = shape->shares[at - 1];
	shape->shares[at] = share;
}

void pool_tier_shape_get(struct pool *pool, struct pool_tier_shape *ret_shape)
{
	struct pool_disk *disk;
	unsigned count = 0;

	ret_shape->tiers = 0;
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		uint64_t sum = 0;

		ret_shape->first[tier] = count;
		POOL_FOR_EACH_DISK(pool, disk)
		{
			if (disk->tier != tier)
				continue;
			ret_shape->tiers |= 1u << tier;
			if (pool_space_counts(disk))
				insert_share(ret_shape, ret_shape->first[tier], count++,
					     pool_space_share(disk));
		}
		for (unsigned i = ret_shape->first[tier]; i < count; i++) {
			ret_shape->below[i] = sum;
			sum += ret_shape->shares[i];
		}
		ret_shape->sums[tier] = sum;
	}
	ret_shape->first[POLICY_TIER_COUNT] = count;
}

static unsigned disks_of(const struct pool_tier_shape *shape, unsigned tier)
{
	return shape->first[tier + 1] - shape->first[tier];
}

static unsigned disks_in_all(const struct pool_tier_shape *shape)
{
	return shape->first[POLICY_TIER_COUNT];
}

/* The sum over the tier's disks of min(share, bytes). */
static uint64_t spread(const struct pool_tier_shape *shape, unsigned tier, uint64_t bytes)
{
	unsigned low = shape->first[tier], end = shape->first[tier + 1], high = end;

	while (low < high) { /* the first whose share is greater */
		unsigned middle = (low + high) / 2;

		if (shape->shares[middle] > bytes)
			high = middle;
		else
			low = middle + 1;
	}
	return low == end ? shape->sums[tier] : shape->below[low] + (end - low) * bytes;
}

struct limits {
	uint64_t
		live[POLICY_TIER_COUNT]; /* the most that may be live of each; LIVE_MAX: no limit */
	bool any;                        /* of a tier that there is */
};

/* What may be live of a limit: the rest is for groups that are open, and for what was overwritten
 * and not compacted yet; as in a pool (pool.h). */
static uint64_t live_of_limit(uint64_t limit)
{
	uint64_t open = LIMIT_GROUPS * pool_space_group_bytes(limit);

	return limit > open ? (limit - open) / 100 * LIMIT_PERCENT : 0;
}

static struct limits limits_of(const struct pool_tier_shape *shape,
			       const struct container_policy *policy)
{
	struct limits limits = {0};

	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		uint64_t limit = policy->values[POLICY_MAX_CAPACITY_SSD + tier];

		limits.live[tier] =
			limit == POLICY_NONE ? LIVE_MAX : MIN(live_of_limit(limit), LIVE_MAX);
		limits.any = limits.any || (limit != POLICY_NONE && disks_of(shape, tier) > 0);
	}
	return limits;
}

/* For copies, at most `most` of each, of `bytes` of data. */
static uint64_t tier_room(const struct pool_tier_shape *shape, const struct limits *limits,
			  unsigned tier, uint64_t bytes, unsigned most)
{
	uint64_t live = MIN(limits->live[tier], bytes);

	return MIN(spread(shape, tier, bytes), MIN(disks_of(shape, tier), most) * live);
}

/* Where the disks of all tiers but some are fewer than the copies, each byte has one of them on
 * those, which must allow it. */
static bool must_fits(const struct pool_tier_shape *shape, const struct limits *limits,
		      uint64_t bytes, unsigned least)
{
	uint64_t rooms[POLICY_TIER_COUNT];

	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
		rooms[tier] = tier_room(shape, limits, tier, bytes, 1);
	for (unsigned tiers = shape->tiers; tiers > 0; tiers = (tiers - 1) & shape->tiers) {
		unsigned elsewhere = disks_in_all(shape);
		uint64_t room = 0;

		for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
			if (!(tiers >> tier & 1))
				continue;
			room += rooms[tier];
			elsewhere -= disks_of(shape, tier);
		}
		if (elsewhere < least && room < bytes)
			return false;
	}
	return true;
}

struct load {                   /* data of some factors */
	uint64_t bytes, copies; /* without copies, and with them */
	unsigned least, most;   /* of the factors */
};

static bool load_fits(const struct pool_tier_shape *shape, const struct limits *limits,
		      const struct load *load)
{
	uint64_t room = 0;

	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
		room += tier_room(shape, limits, tier, load->bytes, load->most);
	return room >= load->copies && must_fits(shape, limits, load->bytes, load->least);
}

static struct load load_of(const uint64_t bytes[FACTORS + 1], unsigned set)
{
	struct load load = {0};

	for (unsigned f = 1; f <= FACTORS; f++) {
		if (!(set >> f & 1))
			continue;
		load.bytes += bytes[f];
		load.copies += f * bytes[f];
		load.most = f;
		load.least = load.least ? load.least : f;
	}
	return load;
}

bool pool_tier_fits(const struct pool_tier_shape *shape, const struct container_policy *policy,
		    const uint64_t bytes[FACTORS + 1])
{
	struct limits limits = limits_of(shape, policy);
	uint64_t there[FACTORS + 1] = {0};
	unsigned disks = disks_in_all(shape), all = 0;

	if (!limits.any)
		return true;
	for (unsigned f = 1; f <= FACTORS; f++)
		there[MIN(f, disks)] += bytes[f];
	for (unsigned f = 1; f <= FACTORS; f++)
		all |= (unsigned)(there[f] > 0) << f;
	for (unsigned set = all; set > 0; set = (set - 1) & all) {
		struct load load = load_of(there, set);

		if (!load_fits(shape, &limits, &load))
			return false;
	}
	return true;
}

uint64_t pool_tier_capacity(const struct pool_tier_shape *shape,
			    const struct container_policy *policy)
{
	struct limits limits = limits_of(shape, policy);
	unsigned factor = MIN((unsigned)policy->replication_factor, disks_in_all(shape));
	uint64_t low = 0, high = 0;

	if (!limits.any)
		return policy->max_capacity;
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
		high += tier_room(shape, &limits, tier, UINT64_MAX, FACTORS);
	high = MIN(high, policy->max_capacity);
	while (low < high) {
		uint64_t middle = high - (high - low) / 2;
		struct load load = {middle, factor * middle, factor, factor};

		if (load_fits(shape, &limits, &load))
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}
