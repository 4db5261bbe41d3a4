/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Quotas: what containers may have of their pool, and what is kept for them (policy.h). A vDisk
 * admits and accounts its data through its container's quota, which does the same in the pool.
 *
 * All bytes are of data, with copies not counted. Quotas are made when the pool opens, one for each
 * of its containers, and belong to the pool.
 *
 * What a container has on a tier is counted by the size of its files there, whatever is live in
 * them: a file once on each tier that has copies of it. pool_file_take() and the like keep to the
 * limits of tiers and to what is reserved there; what may be live in total follows from them.
 */
#include "pool/policy.h"
#include "pool/pool.h"

struct pool_quota;

#define POOL_QUOTA_REFUSED_NS (60 * NSEC_PER_SEC)
struct pool_quota_tier { /* by size of files, also of vDisks that are not open */
	uint64_t used;
	uint64_t most; /* POLICY_NONE = no limit */
	uint64_t reserved;
	bool present;      /* the pool has disks of it */
	bool at_max, kept; /* why data found no place, within POOL_QUOTA_REFUSED_NS */
	bool beyond;       /* well above `most`: by repair or drain, or it was lowered */
};

struct pool_quota_info {
	uint64_t container;
	uint64_t taken;    /* live and admitted, of open vDisks */
	uint64_t capacity; /* POLICY_NONE = no limit */
	uint64_t reserved;
	unsigned percents[3]; /* of capacity that events tell of */
	unsigned told;        /* pool_quota_set_told() */
	struct pool_quota_tier tiers[POLICY_TIER_COUNT];
};

/* Fibers of any reactor. The quota of a container, which stays until it is closed as often.
 * -ENOENT no such container, -EUCLEAN its row is damaged. */
int pool_quota_open(struct pool *pool, uint64_t container, struct pool_quota **ret_quota);
void pool_quota_close(struct pool_quota *quota); /* any reactor, never suspends; NULL is fine */

/* As pool_admit() and so on, of a container. Any reactor, never suspend. -ENOSPC also when the
 * container would have more than its capacity, or what is left is kept for others. */
int pool_quota_admit(struct pool_quota *quota, unsigned factor, uint64_t bytes);
void pool_quota_admit_return(struct pool_quota *quota, unsigned factor, uint64_t bytes);
void pool_quota_account_live(struct pool_quota *quota, unsigned factor, int64_t bytes);

/* As pool_pressure(), also when there is no room on the tiers that the container may use; as
 * pool_group_bytes(), smaller where a tier allows little. Any reactor. */
unsigned pool_quota_pressure(const struct pool_quota *quota);
uint64_t pool_quota_group_bytes(const struct pool_quota *quota);

/* Fibers of any reactor. Why a policy cannot be had in this pool. */
enum pool_quota_problem {
	POOL_QUOTA_FINE,
	POOL_QUOTA_FEW_DISKS, /* more copies than disks */
	POOL_QUOTA_NO_TIER,   /* something is reserved on a tier that no disk has */
	POOL_QUOTA_TIER_FULL, /* more is reserved on a tier than its disks hold, or have free */
	POOL_QUOTA_FULL,      /* with what others have and have reserved, there is no room for it */
};
/* `container` 0: of one that is to be made. -ENOMEM */
int pool_quota_check(struct pool *pool, uint64_t container, const struct container_policy *policy,
		     enum pool_quota_problem *ret_problem);
/* Whether what the tiers allow by the policy holds bytes[f] with f copies; fibers of any reactor.
 */
bool pool_quota_tiers_hold(struct pool *pool, const struct container_policy *policy,
			   const uint64_t bytes[POOL_FACTOR_MAX + 1]);
/* Takes effect at once, whether or not it is fine. */
int pool_quota_set(struct pool *pool, uint64_t container, const struct container_policy *policy);
/* The container is gone. */
void pool_quota_forget(struct pool *pool, uint64_t container);
int pool_quota_get(struct pool *pool, uint64_t container,
		   struct pool_quota_info *ret_info); /* -ENOENT */
/* All of them; caller frees. */
int pool_quota_list(struct pool *pool, struct pool_quota_info **ret_infos, size_t *ret_count);
/* For the caller to remember, what it told of the quota last; 0 at first. */
void pool_quota_set_told(struct pool *pool, uint64_t container, unsigned told);
