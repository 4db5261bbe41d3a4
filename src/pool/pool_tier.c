/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See pool_tier.h. Home: the pool's.
 *
 * Invariants
 *  1. tier_used[t] of a quota = the sum, over the files it owns, of the largest copy on tier t,
 *     where a claim counts as a copy. So it is the same after a restart, from the rows alone.
 *  2. Data is placed, and its place claimed, in one turn: two that come at a time never both get
 *     what only one may have.
 *  3. What is kept on a tier for a quota, least - used, can be put there, as many copies of it as
 *     its factor says, in what is free for data; data of others is refused where it could not.
 *     What is internal, and repair, is not asked: a file in a bad place is better than none.
 */
#include "pool/pool_tier.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_quota_priv.h"

#define FACTORS          POOL_FACTOR_MAX
#define PRESSURE_GROUPS  4u
#define PRESSURE_PERCENT 10u
#define PRESSURE_SPILL   49u /* of a tier that is full while others are not */
#define BEYOND_PART      4u  /* of a limit: more than that above it is told */
#define LOG_PAUSE_NS     (60 * NSEC_PER_SEC)

/* The account */

static uint64_t tier_bytes(struct pool *pool, const struct pool_quota *quota, unsigned tier,
			   uint64_t file_id)
{
	struct pool_tier_claim *claim;
	struct pool_disk *disk;
	uint64_t bytes = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		const struct pool_table_entry *entry;

		if (disk->tier != tier)
			continue;
		entry = pool_table_find(&disk->files, file_id);
		if (entry && entry->owner == quota)
			bytes = MAX(bytes, (uint64_t)entry->pages * POOL_PAGE_BYTES);
	}
	LIST_FOR_EACH (&pool->tier_claims, claim, struct pool_tier_claim, link)
		if (claim->file_id == file_id && claim->quota == quota)
			bytes = MAX(bytes, claim->bytes[tier]);
	return bytes;
}

static struct pool_tier_change change_begin(struct pool *pool, struct pool_quota *quota,
					    unsigned tier, uint64_t file_id)
{
	struct pool_tier_change change = {
		.pool = pool, .quota = quota, .file_id = file_id, .tier = tier};

	reactor_assert_home(pool->home);
	if (quota)
		change.before = tier_bytes(pool, quota, tier, file_id);
	return change;
}

struct pool_tier_change pool_tier_change_begin(struct pool_disk *disk, struct pool_quota *owner,
					       uint64_t file_id)
{
	return change_begin(disk->pool, owner, disk->tier, file_id);
}

void pool_tier_change_end(const struct pool_tier_change *change)
{
	struct pool_quota *quota = change->quota;
	uint64_t after;

	if (!quota)
		return;
	after = tier_bytes(change->pool, quota, change->tier, change->file_id);
	ASSERT(atomic_load(&quota->tier_used[change->tier]) >= change->before);
	atomic_fetch_add(&quota->tier_used[change->tier], after - change->before);
}

void pool_tier_hold(struct pool_quota *quota)
{
	if (quota)
		quota->holds++;
}

void pool_tier_release(struct pool_quota *quota)
{
	if (!quota)
		return;
	ASSERT(quota->holds > 0);
	quota->holds--;
	pool_quota_settle(quota);
}

void pool_tier_own(struct pool_table_entry *entry, struct pool_quota *owner)
{
	ASSERT(!entry->owner);
	pool_tier_hold(owner);
	entry->owner = owner;
}

void pool_tier_disown(struct pool_table_entry *entry)
{
	pool_tier_release(TAKE_PTR(entry->owner));
}

struct pool_quota *pool_tier_owner(struct pool *pool, uint64_t file_id)
{
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		const struct pool_table_entry *entry = pool_table_find(&disk->files, file_id);

		if (entry && entry->owner)
			return entry->owner;
	}
	return NULL;
}

void pool_tier_claim_begin(struct pool *pool, struct pool_tier_claim *claim)
{
	pool_tier_hold(claim->quota);
	list_push_back(&pool->tier_claims, &claim->link);
}

void pool_tier_claim(struct pool *pool, struct pool_tier_claim *claim, unsigned tier,
		     uint64_t bytes)
{
	struct pool_tier_change change = change_begin(pool, claim->quota, tier, claim->file_id);

	claim->bytes[tier] = MAX(claim->bytes[tier], bytes);
	pool_tier_change_end(&change);
}

void pool_tier_claim_end(struct pool *pool, struct pool_tier_claim *claim)
{
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		struct pool_tier_change change =
			change_begin(pool, claim->quota, tier, claim->file_id);

		claim->bytes[tier] = 0;
		pool_tier_change_end(&change);
	}
	list_remove(&claim->link);
	pool_tier_release(claim->quota);
}

/* Whether a disk of the tier before this one has the file, so that it was counted there. */
static bool was_counted(const struct pool_disk *disk, const struct pool_quota *quota,
			uint64_t file_id)
{
	struct pool_disk *before;

	POOL_FOR_EACH_DISK(disk->pool, before)
	{
		const struct pool_table_entry *entry = pool_table_find(&before->files, file_id);

		if (before == disk)
			return false;
		if (before->tier == disk->tier && entry && entry->owner == quota)
			return true;
	}
	return false;
}

static uint64_t count_again(struct pool *pool, const struct pool_quota *quota, unsigned tier)
{
	const struct pool_table_entry *entry;
	struct pool_disk *disk;
	uint64_t bytes = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		struct pool_table_walk walk = {0};

		while (disk->tier == tier && (entry = pool_table_next(&disk->files, &walk)))
			if (entry->owner == quota && !was_counted(disk, quota, entry->id))
				bytes += tier_bytes(pool, quota, tier, entry->id);
	}
	return bytes;
}

void pool_tier_check(struct pool *pool)
{
	struct pool_quota *quota;

	if (!list_is_empty(&pool->tier_claims))
		return; /* what they claim has no entry yet */
	LIST_FOR_EACH (&pool->quotas, quota, struct pool_quota, link)
		for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
			ASSERT(atomic_load(&quota->tier_used[tier]) ==
			       count_again(pool, quota, tier));
}

/* What is kept */

static void count_disks(struct pool *pool, unsigned ret_counts[POLICY_TIER_COUNT])
{
	struct pool_disk *disk;

	memset(ret_counts, 0, POLICY_TIER_COUNT * sizeof(*ret_counts));
	POOL_FOR_EACH_DISK(pool, disk)
	ret_counts[disk->tier] += pool_space_counts(disk);
}

void pool_tier_look(struct pool *pool, const struct pool_quota *quota,
		    struct pool_tier_view *ret_view)
{
	unsigned counts[POLICY_TIER_COUNT];
	struct pool_quota *other;

	*ret_view = (struct pool_tier_view){0};
	if (pool->tiers_reserved == 0)
		return;
	count_disks(pool, counts);
	LIST_FOR_EACH (&pool->quotas, other, struct pool_quota, link)
		for (unsigned tier = 0;
		     other != quota && other->reserves && tier < POLICY_TIER_COUNT; tier++) {
			uint64_t used = atomic_load(&other->tier_used[tier]);
			unsigned copies = MAX(MIN(other->factor, counts[tier]), 1u);

			if (other->tier_least[tier] <= used)
				continue;
			ret_view->kept = true;
			ret_view->demand[tier][copies] += other->tier_least[tier] - used;
		}
}

/* One that has nothing reserved is not looked at. */
static void set_reserves(struct pool_quota *quota, bool reserves)
{
	quota->pool->tiers_reserved += reserves;
	quota->pool->tiers_reserved -= quota->reserves;
	quota->reserves = reserves;
}

/* Free for data, when there will be `bytes` more on that disk. */
static uint64_t free_after(const struct pool_disk *disk, const struct pool_disk *taken,
			   uint64_t bytes)
{
	uint64_t free_bytes = pool_space_free(disk, POOL_USE_DATA);
	uint64_t less = disk->claimed + (disk == taken ? bytes : 0);

	return free_bytes > less ? free_bytes - less : 0;
}

/* By the theorem of Hall, as in pool_admit.c, but with what is free on the tier's disks. */
static bool set_is_kept(struct pool *pool, const uint64_t demand[FACTORS + 1], unsigned set,
			const struct pool_disk *taken, uint64_t bytes, unsigned tier)
{
	uint64_t sum = 0, copies = 0, room = 0;
	struct pool_disk *disk;

	for (unsigned f = 1; f <= FACTORS; f++) {
		sum += set >> f & 1 ? demand[f] : 0;
		copies += set >> f & 1 ? f * demand[f] : 0;
	}
	POOL_FOR_EACH_DISK(pool, disk)
	if (disk->tier == tier && pool_space_counts(disk) && !pool_disk_is_gone(disk))
		room += MIN(free_after(disk, taken, bytes), sum);
	return room >= copies;
}

static bool is_kept(struct pool *pool, const struct pool_tier_view *view,
		    const struct pool_disk *taken, uint64_t bytes, unsigned tier)
{
	const uint64_t *demand = view->demand[tier];
	unsigned all = 0;

	for (unsigned f = 1; f <= FACTORS; f++)
		all |= (unsigned)(demand[f] > 0) << f;
	for (unsigned set = all; set > 0; set = (set - 1) & all)
		if (!set_is_kept(pool, demand, set, taken, bytes, tier))
			return false;
	return true;
}

bool pool_tier_can_keep(struct pool_quota *quota, const struct container_policy *policy)
{
	unsigned factor = quota->factor;
	bool fine = true, reserves = quota->reserves;

	set_reserves(quota, true);
	for (unsigned tier = 0; fine && tier < POLICY_TIER_COUNT; tier++) {
		uint64_t before = quota->tier_least[tier];
		uint64_t least = policy->values[POLICY_MIN_RESERVED_SSD + tier];
		struct pool_tier_view view;

		/* To keep no more than now is fine, whatever there is. */
		if (least == 0 || (least <= before && policy->replication_factor <= factor))
			continue;
		quota->tier_least[tier] = least;
		quota->factor = (unsigned)policy->replication_factor;
		pool_tier_look(quota->pool, NULL, &view);
		fine = is_kept(quota->pool, &view, NULL, 0, tier);
		quota->tier_least[tier] = before;
		quota->factor = factor;
	}
	set_reserves(quota, reserves);
	return fine;
}

/* Placing */

enum pool_tier_verdict pool_tier_judge(const struct pool_tier_view *view,
				       const struct pool_tier_claim *claim, struct pool_disk *disk,
				       uint64_t bytes)
{
	struct pool_quota *quota = claim->quota;
	unsigned tier = disk->tier;

	if (quota) {
		uint64_t used = atomic_load(&quota->tier_used[tier]);
		uint64_t has = tier_bytes(disk->pool, quota, tier, claim->file_id);
		uint64_t most = atomic_load(&quota->tier_most[tier]);

		if (bytes > has && (used > most || bytes - has > most - used))
			return POOL_TIER_AT_MAX;
	}
	return !view->kept || is_kept(disk->pool, view, disk, bytes, tier) ? POOL_TIER_FREE
									   : POOL_TIER_KEPT;
}

bool pool_tier_is_tight(struct pool *pool, const struct pool_quota *quota)
{
	struct pool_tier_view view;

	for (unsigned tier = 0; quota && tier < POLICY_TIER_COUNT; tier++)
		if (atomic_load(&((struct pool_quota *)quota)->tier_most[tier]) != POLICY_NONE)
			return true;
	pool_tier_look(pool, quota, &view);
	return view.kept;
}

static void log_refusal(struct pool_quota *quota, unsigned tier, enum pool_tier_verdict verdict)
{
	log_warning("pool",
		    verdict == POOL_TIER_AT_MAX
			    ? "no place for data: a container has as much on a tier as it may"
			    : "no place for data: what is free on a tier is kept for others",
		    "pool=%s container=%" PRIu64 " tier=%s used=%" PRIu64, quota->pool->name,
		    quota->container, policy_tier_name((enum policy_tier)tier),
		    atomic_load(&quota->tier_used[tier]));
}

bool pool_tier_was_refused(const struct pool_quota *quota)
{
	return quota->refused_ns > 0 &&
	       reactor_now_ns(quota->pool->home) < quota->refused_ns + POOL_QUOTA_REFUSED_NS;
}

void pool_tier_refused(struct pool_quota *quota,
		       const enum pool_tier_verdict verdicts[POLICY_TIER_COUNT])
{
	uint64_t now_ns = reactor_now_ns(quota->pool->home);
	bool tell = quota->logged_ns == 0 || now_ns > quota->logged_ns + LOG_PAUSE_NS;

	REACHED("pool.tier-refused");
	quota->pool->tiers_refused = true;
	if (!pool_tier_was_refused(quota))
		quota->refused_at_max = quota->refused_kept = 0;
	quota->refused_ns = now_ns;
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		if (verdicts[tier] == POOL_TIER_AT_MAX)
			atomic_fetch_or(&quota->tiers_at_max, 1u << tier);
		if (verdicts[tier] == POOL_TIER_KEPT)
			atomic_fetch_or(&quota->tiers_kept, 1u << tier);
		if (verdicts[tier] != POOL_TIER_FREE && tell)
			log_refusal(quota, tier, verdicts[tier]);
	}
	quota->refused_at_max |= atomic_load(&quota->tiers_at_max);
	quota->refused_kept |= atomic_load(&quota->tiers_kept);
	if (tell)
		quota->logged_ns = now_ns;
}

void pool_tier_placed(struct pool_quota *quota)
{
	atomic_store(&quota->tiers_at_max, 0);
	atomic_store(&quota->tiers_kept, 0);
}

void pool_tier_goes_beyond(struct pool_quota *quota, unsigned tier)
{
	uint64_t now_ns = reactor_now_ns(quota->pool->home);

	if (quota->beyond_ns > 0 && now_ns <= quota->beyond_ns + LOG_PAUSE_NS)
		return;
	quota->beyond_ns = now_ns;
	log_warning("pool",
		    "repair puts data where a container has as much as it may, or where room is "
		    "kept for others: no other disk can take it",
		    "pool=%s container=%" PRIu64 " tier=%s used=%" PRIu64, quota->pool->name,
		    quota->container, policy_tier_name((enum policy_tier)tier),
		    atomic_load(&quota->tier_used[tier]));
}

bool pool_tier_is_beyond(const struct pool_quota *quota, unsigned tier)
{
	struct pool_quota *q = (struct pool_quota *)quota;
	uint64_t used = atomic_load(&q->tier_used[tier]);
	uint64_t most = atomic_load(&q->tier_most[tier]);

	return most != POLICY_NONE && used > most && used - most > most / BEYOND_PART;
}

void pool_tier_room(struct pool *pool)
{
	struct pool_quota *quota;

	if (!pool->tiers_refused)
		return;
	pool->tiers_refused = false;
	LIST_FOR_EACH (&pool->quotas, quota, struct pool_quota, link)
		pool_tier_placed(quota);
}

/* Limits */

void pool_tier_set(struct pool_quota *quota, const struct container_policy *policy, unsigned tiers)
{
	bool reserves = false;

	atomic_store(&quota->tiers, tiers);
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		uint64_t least = policy->values[POLICY_MIN_RESERVED_SSD + tier];

		atomic_store(&quota->tier_most[tier],
			     policy->values[POLICY_MAX_CAPACITY_SSD + tier]);
		quota->tier_least[tier] = least;
		reserves = reserves || least > 0;
	}
	set_reserves(quota, reserves);
	pool_tier_placed(quota);
}

uint64_t pool_quota_group_bytes(const struct pool_quota *quota)
{
	struct pool_quota *q = (struct pool_quota *)quota;
	uint64_t bytes = pool_group_bytes(quota->pool);
	unsigned users = MAX(atomic_load(&q->users), 1u);

	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		uint64_t most = atomic_load(&q->tier_most[tier]);

		if ((atomic_load(&q->tiers) >> tier & 1) && most > 0 && most != POLICY_NONE)
			bytes = MIN(bytes, pool_space_group_bytes(most / users));
	}
	return bytes;
}

static unsigned tier_pressure(struct pool_quota *quota, unsigned tier)
{
	uint64_t used = atomic_load(&quota->tier_used[tier]);
	uint64_t most = atomic_load(&quota->tier_most[tier]);
	uint64_t unused = most > used ? most - used : 0, level;

	if (most == POLICY_NONE)
		return 0;
	level = MAX(PRESSURE_GROUPS * pool_space_group_bytes(most), most / 100 * PRESSURE_PERCENT);
	return unused >= level ? 0 : (unsigned)(100 - unused * 100 / level);
}

/* While one tier has room, what fills another is only worth some work. */
unsigned pool_quota_pressure(const struct pool_quota *quota)
{
	struct pool_quota *q = (struct pool_quota *)quota;
	unsigned tiers = atomic_load(&q->tiers), least = tiers ? 100 : 0, most = 0;

	if (atomic_load(&q->tiers_at_max) || atomic_load(&q->tiers_kept))
		return 100;
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		unsigned pressure = tier_pressure(q, tier);

		if (!(tiers >> tier & 1))
			continue;
		least = MIN(least, pressure);
		if (atomic_load(&q->tier_used[tier]) > 0)
			most = MAX(most, pressure);
	}
	most = MAX(least, MIN(most, PRESSURE_SPILL));
	return MAX(pool_pressure(quota->pool), most);
}
