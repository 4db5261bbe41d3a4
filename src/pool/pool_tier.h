/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What containers have on each tier, and the rules that follow from max_capacity_TIER and
 * min_reserved_TIER. Shared by the pool_*.c files; home reactor, unless something else is said.
 *
 * A file counts, on each tier where a copy of it is, as large as the largest of those copies: once,
 * however many there are. What is live in it does not matter, for what is full is full. Its owner
 * is the quota of its vDisk's container, or nobody; each entry of a disk's table knows it.
 */
#include "pool/pool_priv.h"
#include "pool/pool_quota.h"

/* What a file shall take, from when places for it were chosen until its copies are made. */
struct pool_tier_claim {
	struct list_node link;
	struct pool_quota *quota;
	uint64_t file_id;
	uint64_t bytes[POLICY_TIER_COUNT];
};
void pool_tier_claim_begin(struct pool *pool, struct pool_tier_claim *claim);
/* At least so many bytes, on that tier. */
void pool_tier_claim(struct pool *pool, struct pool_tier_claim *claim, unsigned tier,
		     uint64_t bytes);
void pool_tier_claim_end(struct pool *pool, struct pool_tier_claim *claim);

/* Around whatever changes an entry: what its owner has on the disk's tier follows. */
struct pool_tier_change {
	struct pool *pool;
	struct pool_quota *quota; /* NULL: nothing follows */
	uint64_t file_id;
	uint64_t before;
	unsigned tier;
};
struct pool_tier_change pool_tier_change_begin(struct pool_disk *disk, struct pool_quota *owner,
					       uint64_t file_id);
void pool_tier_change_end(const struct pool_tier_change *change);
/* The entry has that owner from now on, who had it not. Within a change. */
void pool_tier_own(struct pool_table_entry *entry, struct pool_quota *owner);
void pool_tier_disown(struct pool_table_entry *entry);
/* Nobody frees it meanwhile; NULL is fine. */
void pool_tier_hold(struct pool_quota *quota);
void pool_tier_release(struct pool_quota *quota);
/* Of an entry of any of its copies. */
struct pool_quota *pool_tier_owner(struct pool *pool, uint64_t file_id);

/* Placement's view. */
struct pool_tier_view {
	bool kept; /* something is, for other quotas */
	uint64_t demand[POLICY_TIER_COUNT][POOL_FACTOR_MAX + 1]; /* by copies */
};
/* What is still to be kept for all but `quota`. */
void pool_tier_look(struct pool *pool, const struct pool_quota *quota,
		    struct pool_tier_view *ret_view);
enum pool_tier_verdict {
	POOL_TIER_FREE,
	POOL_TIER_AT_MAX, /* the owner has as much there as it may */
	POOL_TIER_KEPT,   /* what is free there is kept for others */
};
/* Whether the file, which is to have `bytes`, may have a copy there. */
enum pool_tier_verdict pool_tier_judge(const struct pool_tier_view *view,
				       const struct pool_tier_claim *claim, struct pool_disk *disk,
				       uint64_t bytes);
/* Files are cut to what was asked for: something is limited, or kept for others. */
bool pool_tier_is_tight(struct pool *pool, const struct pool_quota *quota);

/* Data found no place because of that, by tier. */
void pool_tier_refused(struct pool_quota *quota,
		       const enum pool_tier_verdict verdicts[POLICY_TIER_COUNT]);
/* ... within POOL_QUOTA_REFUSED_NS. */
bool pool_tier_was_refused(const struct pool_quota *quota);
void pool_tier_placed(struct pool_quota *quota);
/* A copy of its data must go where it has as much as it may, or what is kept for others. */
void pool_tier_goes_beyond(struct pool_quota *quota, unsigned tier);
/* By more than map pages and compaction do. */
bool pool_tier_is_beyond(const struct pool_quota *quota, unsigned tier);
/* Something has become free, or is no more kept. */
void pool_tier_room(struct pool *pool);

/* Limits of the policy; tiers: bits of those that disks have. */
void pool_tier_set(struct pool_quota *quota, const struct container_policy *policy, unsigned tiers);

/* What the disks that count can hold, by tier (pool_tier_limit.c). */
struct pool_tier_shape {
	unsigned tiers; /* bits, also of disks that do not count */
	unsigned first[POLICY_TIER_COUNT + 1];
	uint64_t shares[POOL_DISKS_MAX]; /* of a tier's disks, the smallest first */
	uint64_t below[POOL_DISKS_MAX];  /* the sum of those before */
	uint64_t sums[POLICY_TIER_COUNT];
};
void pool_tier_shape_get(struct pool *pool, struct pool_tier_shape *ret_shape);
/* What follows from limits and disks: the most that may be live. */
uint64_t pool_tier_capacity(const struct pool_tier_shape *shape,
			    const struct container_policy *policy);
/* Whether, with those limits, bytes[f] with f copies can be had on the disks that there are. */
bool pool_tier_fits(const struct pool_tier_shape *shape, const struct container_policy *policy,
		    const uint64_t bytes[POOL_FACTOR_MAX + 1]);

/* Whether what the policy reserves on tiers is there, beside what is used and kept for others. */
bool pool_tier_can_keep(struct pool_quota *quota, const struct container_policy *policy);
void pool_tier_check(struct pool *pool); /* aborts when the account is wrong */
