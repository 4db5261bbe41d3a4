/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account of containers within their pool's.
 *
 * What a container has taken is not kept as such, but as what is left of each limit:
 * left = capacity - taken, and for each number of copies room = reserved - taken, where only the
 * container's own factor has something reserved. Every change, of the limit or of what is taken, is
 * one atomic addition. The pool holds the sum of what is positive of the rooms: each addition
 * returns what was before, so that the parts by which that sum changes add up exactly, whatever
 * happens at the same time.
 *
 * Invariants
 *  1. pool->held[f] = the sum over the quotas of max(0, room[f]), once all calls have returned.
 *  2. An admission never ends with taken > capacity; it may when a capacity was lowered.
 *  3. Room that is held for a container is, on the way to being admitted, first admitted and then
 *     held no more: nobody else can take it in between.
 *
 * Quotas live on the pool's home reactor, where they are found, made and freed; their counters are
 * changed from any reactor.
 */
#include "pool/pool_quota.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "pool/container.h"
#include "pool/pool_quota_priv.h"
#include "pool/pool_tier.h"

#define UNLIMITED (INT64_MAX / 2) /* far from what would overflow */

struct call {
	struct pool *pool;
	uint64_t container;
	const struct container_policy *policy;
	struct pool_quota *quota;
	struct pool_quota_info *info;
	enum pool_quota_problem problem;
	const uint64_t *bytes;
	bool fits;
	size_t count;
	unsigned told;
};

static int carry(struct pool *pool, int (*fn)(void *arg), struct call *call)
{
	ASSERT(fiber_current());
	call->pool = pool;
	return fiber_call(pool->home, FIBER_CONTROL, fn, call);
}

/* Adds to the room of one factor; by how much less is held then. */
static int64_t add_room(struct pool_quota *quota, unsigned factor, int64_t bytes)
{
	int64_t before = atomic_fetch_add(&quota->room[factor], bytes);
	int64_t freed = MAX(before, (int64_t)0) - MAX(before + bytes, (int64_t)0);

	if (freed)
		atomic_fetch_sub(&quota->pool->held[factor], freed);
	return freed;
}

static int64_t take_room(struct pool_quota *quota, int64_t bytes)
{
	int64_t freed = 0;

	for (unsigned f = 1; f <= POOL_FACTOR_MAX; f++)
		freed += add_room(quota, f, -bytes);
	return freed;
}

int pool_quota_admit(struct pool_quota *quota, unsigned factor, uint64_t bytes)
{
	struct pool *pool = quota->pool;
	int64_t wanted = (int64_t)bytes, own;

	ASSERT(factor > 0 && factor <= POOL_FACTOR_MAX && wanted >= 0);
	if (pool_state_writable(pool) < 0)
		return -EROFS;
	if (atomic_fetch_sub(&quota->left, wanted) < wanted) {
		atomic_fetch_add(&quota->left, wanted);
		return -ENOSPC;
	}
	atomic_fetch_add(&pool->admitted[factor], bytes);
	own = take_room(quota, wanted);
	/* What was kept for it, it gets even where others have too much. */
	if (pool_admit_fits(pool, own < wanted))
		return 0;
	pool_quota_admit_return(quota, factor, bytes);
	return -ENOSPC;
}

void pool_quota_admit_return(struct pool_quota *quota, unsigned factor, uint64_t bytes)
{
	(void)take_room(quota, -(int64_t)bytes);
	atomic_fetch_add(&quota->left, (int64_t)bytes);
	pool_admit_return(quota->pool, factor, bytes);
}

void pool_quota_account_live(struct pool_quota *quota, unsigned factor, int64_t bytes)
{
	atomic_fetch_sub(&quota->left, bytes);
	if (bytes < 0)
		(void)take_room(quota, bytes);
	pool_account_live(quota->pool, factor, bytes);
	if (bytes > 0)
		(void)take_room(quota, bytes);
}

/* Ids are counted up, so they are spread as they are. */
static struct pool_quota **chain_of(struct pool *pool, uint64_t container)
{
	return &pool->quotas_by_id[container % POOL_QUOTA_CHAINS];
}

static struct pool_quota *find(struct pool *pool, uint64_t container)
{
	struct pool_quota *quota = *chain_of(pool, container);

	while (quota && quota->container != container)
		quota = quota->next;
	return quota;
}

static void apply(struct pool_quota *quota, int64_t capacity, int64_t reserved, unsigned factor)
{
	atomic_fetch_add(&quota->left, capacity - quota->capacity);
	(void)add_room(quota, quota->factor, -quota->reserved);
	(void)add_room(quota, factor, reserved);
	quota->capacity = capacity;
	quota->reserved = reserved;
	quota->factor = factor;
}

static struct pool_quota *add(struct pool *pool, uint64_t container)
{
	struct pool_quota *quota = calloc(1, sizeof(*quota));

	if (!quota)
		return NULL;
	quota->pool = pool;
	quota->container = container;
	quota->factor = 1;
	quota->capacity = UNLIMITED;
	atomic_init(&quota->left, UNLIMITED);
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
		atomic_init(&quota->tier_most[tier], POLICY_NONE);
	list_push_back(&pool->quotas, &quota->link);
	quota->next = *chain_of(pool, container);
	*chain_of(pool, container) = quota;
	return quota;
}

static void drop(struct pool_quota *quota)
{
	struct pool_quota **at = chain_of(quota->pool, quota->container);

	while (*at != quota)
		at = &(*at)->next;
	*at = quota->next;
	quota->pool->tiers_reserved -= quota->reserves;
	list_remove(&quota->link);
	free(quota);
}

static void apply_policy(struct pool_quota *quota, const struct container_policy *policy,
			 const struct pool_tier_shape *shape)
{
	uint64_t capacity = pool_tier_capacity(shape, policy);
	uint64_t reserved = MIN(policy_reserved(policy), (uint64_t)UNLIMITED);

	apply(quota, (int64_t)MIN(capacity, (uint64_t)UNLIMITED), (int64_t)reserved,
	      (unsigned)policy->replication_factor);
}

static void remember(struct pool_quota *quota, const struct container_policy *policy)
{
	struct pool_tier_shape shape;

	quota->percents[0] = (unsigned)policy->space_notice;
	quota->percents[1] = (unsigned)policy->space_low;
	quota->percents[2] = (unsigned)policy->space_critical;
	quota->policy = *policy;
	quota->has_policy = true;
	quota->forgotten = false;
	quota->refused_ns = 0;
	pool_tier_shape_get(quota->pool, &shape);
	pool_tier_set(quota, policy, shape.tiers);
	apply_policy(quota, policy, &shape);
}

void pool_quotas_follow_tiers(struct pool *pool)
{
	struct pool_tier_shape shape;
	struct pool_quota *quota;

	pool_tier_shape_get(pool, &shape);
	LIST_FOR_EACH (&pool->quotas, quota, struct pool_quota, link)
		if (quota->has_policy) {
			pool_tier_set(quota, &quota->policy, shape.tiers);
			apply_policy(quota, &quota->policy, &shape);
		}
}

static int load(struct pool *pool, uint64_t container, struct pool_quota **ret_quota)
{
	struct container_policy policy;
	struct pool_quota *quota;
	int r = container_policy_get(pool->catalog, container, 0, &policy);

	if (r < 0)
		return r;
	quota = find(pool, container);
	if (!quota) { /* or another was quicker, and knows what is set now */
		quota = add(pool, container);
		if (!quota)
			return -ENOMEM;
		remember(quota, &policy);
	}
	*ret_quota = quota;
	return 0;
}

int pool_quota_of(struct pool *pool, uint64_t container, struct pool_quota **ret_quota)
{
	struct pool_quota *quota = find(pool, container);
	int r = quota ? 0 : load(pool, container, &quota);

	if (r == 0 || r == -ENOENT || r == -EUCLEAN) {
		*ret_quota = quota;
		return 0;
	}
	return r;
}

int pool_quotas_open(struct pool *pool)
{
	_cleanup_free_ struct container_info *infos = NULL;
	struct pool_quota *quota;
	size_t count = 0;
	int r = container_list(pool->catalog, &infos, &count);

	/* Their vDisks are served as far as they can be: pool_quota_open(). */
	if (r == -EUCLEAN)
		return 0;
	for (size_t i = 0; r == 0 && i < count; i++)
		if (infos[i].pool_id == pool->id)
			r = load(pool, infos[i].id, &quota);
	return r;
}

void pool_quotas_close(struct pool *pool)
{
	struct pool_quota *quota;

	LIST_FOR_EACH (&pool->quotas, quota, struct pool_quota, link) {
		ASSERT(atomic_load(&quota->users) == 0);
		drop(quota);
	}
}

static int open_at_home(void *arg)
{
	struct call *call = arg;
	int r = 0;

	call->quota = find(call->pool, call->container);
	if (!call->quota)
		r = load(call->pool, call->container, &call->quota);
	if (r == 0)
		atomic_fetch_add(&call->quota->users, 1);
	return r;
}

int pool_quota_open(struct pool *pool, uint64_t container, struct pool_quota **ret_quota)
{
	struct call call = {.container = container};
	int r = carry(pool, open_at_home, &call);

	if (r == 0)
		*ret_quota = call.quota;
	return r;
}

void pool_quota_close(struct pool_quota *quota)
{
	unsigned before;

	if (!quota)
		return;
	before = atomic_fetch_sub(&quota->users, 1);
	ASSERT(before > 0);
}

static int set_at_home(void *arg)
{
	struct call *call = arg;
	struct pool_quota *quota = find(call->pool, call->container);

	if (!quota)
		quota = add(call->pool, call->container);
	if (!quota)
		return -ENOMEM;
	remember(quota, call->policy);
	pool_tier_room(call->pool); /* for others, where less is kept */
	return 0;
}

int pool_quota_set(struct pool *pool, uint64_t container, const struct container_policy *policy)
{
	struct call call = {.container = container, .policy = policy};

	return carry(pool, set_at_home, &call);
}

void pool_quota_settle(struct pool_quota *quota)
{
	if (quota->forgotten && quota->holds == 0 && atomic_load(&quota->users) == 0)
		drop(quota);
}

static int forget_at_home(void *arg)
{
	const struct policy_set none = {0};
	struct call *call = arg;
	struct pool_quota *quota = find(call->pool, call->container);
	struct container_policy policy;

	if (!quota)
		return 0;
	policy_merge(&none, NULL, &policy);
	pool_tier_set(quota, &policy, 0);
	quota->has_policy = false;
	quota->forgotten = true;
	apply(quota, UNLIMITED, 0, 1);
	pool_tier_room(call->pool);
	pool_quota_settle(quota);
	return 0;
}

void pool_quota_forget(struct pool *pool, uint64_t container)
{
	struct call call = {.container = container};

	(void)carry(pool, forget_at_home, &call); /* is 0 */
}

static void fill_info(struct pool_quota *quota, struct pool_quota_info *ret_info)
{
	int64_t taken = quota->capacity - atomic_load(&quota->left);
	bool lately = pool_tier_was_refused(quota);

	*ret_info = (struct pool_quota_info){
		.container = quota->container,
		.taken = (uint64_t)MAX(taken, (int64_t)0),
		.capacity = quota->capacity == UNLIMITED ? POLICY_NONE : (uint64_t)quota->capacity,
		.reserved = (uint64_t)quota->reserved,
		.told = quota->told,
	};
	memcpy(ret_info->percents, quota->percents, sizeof(quota->percents));
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
		ret_info->tiers[tier] = (struct pool_quota_tier){
			.used = atomic_load(&quota->tier_used[tier]),
			.most = atomic_load(&quota->tier_most[tier]),
			.reserved = quota->tier_least[tier],
			.present = atomic_load(&quota->tiers) >> tier & 1,
			.at_max = lately && (quota->refused_at_max >> tier & 1),
			.kept = lately && (quota->refused_kept >> tier & 1),
			.beyond = pool_tier_is_beyond(quota, tier),
		};
}

static int get_at_home(void *arg)
{
	struct call *call = arg;
	struct pool_quota *quota = find(call->pool, call->container);

	if (!quota)
		return -ENOENT;
	fill_info(quota, call->info);
	return 0;
}

int pool_quota_get(struct pool *pool, uint64_t container, struct pool_quota_info *ret_info)
{
	struct call call = {.container = container, .info = ret_info};

	return carry(pool, get_at_home, &call);
}

static int list_at_home(void *arg)
{
	struct call *call = arg;
	struct pool_quota *quota;
	size_t count = 0;

	LIST_FOR_EACH (&call->pool->quotas, quota, struct pool_quota, link)
		count++;
	call->info = calloc(count + 1, sizeof(*call->info));
	if (!call->info)
		return -ENOMEM;
	LIST_FOR_EACH (&call->pool->quotas, quota, struct pool_quota, link)
		fill_info(quota, &call->info[call->count++]);
	return 0;
}

int pool_quota_list(struct pool *pool, struct pool_quota_info **ret_infos, size_t *ret_count)
{
	struct call call = {0};
	int r = carry(pool, list_at_home, &call);

	if (r < 0)
		return r;
	*ret_infos = call.info;
	*ret_count = call.count;
	return 0;
}

static int told_at_home(void *arg)
{
	struct call *call = arg;
	struct pool_quota *quota = find(call->pool, call->container);

	if (quota)
		quota->told = call->told;
	return 0;
}

void pool_quota_set_told(struct pool *pool, uint64_t container, unsigned told)
{
	struct call call = {.container = container, .told = told};

	(void)carry(pool, told_at_home, &call); /* is 0 */
}

/* Of the disks that count, in that tier; every copy of what is reserved there takes some. */
static uint64_t tier_capacity(struct pool *pool, unsigned tier)
{
	struct pool_disk *disk;
	uint64_t bytes = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	if (disk->tier == tier && pool_space_counts(disk))
		bytes += atomic_load(&disk->capacity);
	return bytes;
}

static enum pool_quota_problem check_tiers(struct pool *pool, const struct container_policy *policy)
{
	struct pool_tier_shape shape;

	pool_tier_shape_get(pool, &shape);
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		uint64_t bytes = policy->values[POLICY_MIN_RESERVED_SSD + tier];

		if (bytes == 0)
			continue;
		if (!(shape.tiers >> tier & 1))
			return POOL_QUOTA_NO_TIER;
		if (bytes > tier_capacity(pool, tier) / policy->replication_factor)
			return POOL_QUOTA_TIER_FULL;
	}
	return POOL_QUOTA_FINE;
}

static unsigned disk_count(struct pool *pool)
{
	struct pool_disk *disk;
	unsigned count = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	count += pool_disk_state_of(disk) != POOL_DISK_FAILED;
	return count;
}

/* Whether the pool still holds all when this quota, or a new one, is as the policy says: tried, and
 * then taken back. Meanwhile others may be refused what would have fitted. */
static bool has_room(struct pool *pool, struct pool_quota *quota,
		     const struct container_policy *policy)
{
	int64_t capacity = quota->capacity, reserved = quota->reserved;
	unsigned factor = quota->factor;
	struct pool_tier_shape shape;
	bool fits;

	/* To reserve no more than now is fine even in a pool that is too full. */
	if ((int64_t)policy_reserved(policy) <= reserved && policy->replication_factor <= factor)
		return true;
	pool_tier_shape_get(pool, &shape);
	apply_policy(quota, policy, &shape);
	fits = policy_reserved(policy) == 0 || pool_admit_fits(pool, true);
	apply(quota, capacity, reserved, factor);
	return fits;
}

static int check_at_home(void *arg)
{
	struct call *call = arg;
	struct pool_quota *quota = find(call->pool, call->container), *made = NULL;
	struct pool *pool = call->pool;

	call->problem = call->policy->replication_factor > disk_count(pool)
				? POOL_QUOTA_FEW_DISKS
				: check_tiers(pool, call->policy);
	if (call->problem != POOL_QUOTA_FINE)
		return 0;
	if (!quota)
		quota = made = add(pool, call->container);
	if (!quota)
		return -ENOMEM;
	if (!pool_tier_can_keep(quota, call->policy))
		call->problem = POOL_QUOTA_TIER_FULL;
	else if (!has_room(pool, quota, call->policy))
		call->problem = POOL_QUOTA_FULL;
	if (made)
		drop(made);
	return 0;
}

int pool_quota_check(struct pool *pool, uint64_t container, const struct container_policy *policy,
		     enum pool_quota_problem *ret_problem)
{
	struct call call = {.container = container, .policy = policy};
	int r = carry(pool, check_at_home, &call);

	if (r == 0)
		*ret_problem = call.problem;
	return r;
}

static int hold_at_home(void *arg)
{
	struct pool_tier_shape shape;
	struct call *call = arg;

	pool_tier_shape_get(call->pool, &shape);
	call->fits = pool_tier_fits(&shape, call->policy, call->bytes);
	return 0;
}

bool pool_quota_tiers_hold(struct pool *pool, const struct container_policy *policy,
			   const uint64_t bytes[POOL_FACTOR_MAX + 1])
{
	struct call call = {.policy = policy, .bytes = bytes};

	(void)carry(pool, hold_at_home, &call); /* is 0 */
	return call.fits;
}
