/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A container's quota: shared by pool_quota.c and pool_tier.c. */
#include "pool/pool_priv.h"
#include "pool/pool_quota.h"

struct pool_quota {
	struct list_node link;
	struct pool_quota *next; /* of its chain, where it is found by its container's id */
	struct pool *pool;
	uint64_t container;
	_Atomic unsigned users;
	_Atomic int64_t left;
	_Atomic int64_t room[POOL_FACTOR_MAX + 1];
	/* pool_tier.c: bytes by tier. They change on the home reactor; any reactor reads them. */
	_Atomic uint64_t tier_used[POLICY_TIER_COUNT];
	_Atomic uint64_t tier_most[POLICY_TIER_COUNT]; /* POLICY_NONE = no limit */
	_Atomic unsigned tiers;                        /* bits: the pool has disks of it */
	_Atomic unsigned tiers_at_max;                 /* bits: why the last data found no place */
	_Atomic unsigned tiers_kept;
	/* Home: what is set. */
	int64_t capacity, reserved;
	unsigned factor;
	unsigned percents[3], told;
	bool has_policy, forgotten;
	bool reserves;  /* something, on a tier */
	uint64_t holds; /* entries of disks' tables, and others, that name it */
	uint64_t tier_least[POLICY_TIER_COUNT];
	uint64_t logged_ns;  /* last, that a tier is full */
	uint64_t beyond_ns;  /* last told that a copy went beyond a limit */
	uint64_t refused_ns; /* data last found no place, and why */
	unsigned refused_at_max, refused_kept;
	struct container_policy policy; /* what its capacity is depends on which tiers there are */
};

/* The quota of a container, read from its row when it is not known yet; NULL: there is none, or its
 * row is damaged. */
int pool_quota_of(struct pool *pool, uint64_t container, struct pool_quota **ret_quota);
/* Frees one that was forgotten and that nobody has any more. */
void pool_quota_settle(struct pool_quota *quota);
