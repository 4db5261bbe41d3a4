/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement's view of the pool's disks (placement.h). Home: the pool's.
 *
 * Disks that are in order come first. Only when no copy at all can be put on those, disks that are
 * full (so they said), suspect or draining are asked too: a file in a bad place is better than a
 * guest that cannot write.
 *
 * The same goes for what tiers allow a container (pool_tier.h), but for its data: that is refused
 * when it could get fewer copies within those limits than without them.
 */
#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_tier.h"

struct view {
	struct pool_tier_view tiers;
	enum pool_tier_verdict verdicts[POLICY_TIER_COUNT]; /* of disks that could have had it */
	struct placement_disk disks[POOL_DISKS_MAX];
	struct pool_disk *pool_disks[POOL_DISKS_MAX];
	unsigned count;
	bool any; /* disks that are not in order, too */
};

static uint32_t domain_of(const struct pool_disk *disk)
{
	/* Disks of unknown file systems are domains of their own. */
	uint64_t number = disk->file_system ? disk->file_system : disk->id << 32;

	return (uint32_t)(number ^ number >> 32);
}

static bool is_usable(const struct pool_disk *disk, bool any)
{
	enum pool_disk_state state = pool_disk_state_of(disk);

	if (disk->leaving || state >= POOL_DISK_READ_ONLY)
		return false;
	return any ||
	       (state == POOL_DISK_ONLINE && !atomic_load(&((struct pool_disk *)disk)->draining));
}

static bool was_tried(const struct pool_place *place, uint64_t id)
{
	for (unsigned i = 0; i < place->tried_count; i++)
		if (place->tried[i] == id)
			return true;
	return false;
}

/* Whether the tier's rules let the disk have it; the first reason why not is remembered. */
static bool is_allowed(struct pool_disk *disk, const struct pool_place *place, struct view *view)
{
	unsigned tier = disk->tier;
	enum pool_tier_verdict verdict;

	if (!place->claim || pool_space_free(disk, place->use) < place->bytes)
		return true;
	verdict = pool_tier_judge(&view->tiers, place->claim, disk, place->bytes);
	if (view->verdicts[tier] == POOL_TIER_FREE)
		view->verdicts[tier] = verdict;
	return verdict == POOL_TIER_FREE;
}

static void look(struct pool *pool, const struct pool_place *place, bool any, struct view *ret_view)
{
	struct pool_disk *disk;

	ret_view->count = 0;
	ret_view->any = any;
	memset(ret_view->verdicts, 0, sizeof(ret_view->verdicts));
	if (place->claim)
		pool_tier_look(pool, place->claim->quota, &ret_view->tiers);
	POOL_FOR_EACH_DISK(pool, disk)
	{
		ret_view->pool_disks[ret_view->count] = disk;
		ret_view->disks[ret_view->count++] = (struct placement_disk){
			.id = disk->id,
			.capacity_bytes = atomic_load(&disk->capacity),
			.free_bytes = pool_space_free(disk, place->use),
			.domain = domain_of(disk),
			.busy = atomic_load(&disk->health.busy),
			.tier = disk->tier,
			.usable = is_usable(disk, any) && !was_tried(place, disk->id) &&
				  is_allowed(disk, place, ret_view),
		};
	}
}

static void set_tiers(struct placement_want *want, unsigned tiers)
{
	for (; tiers && want->tier_count < PLACEMENT_TIERS_MAX; tiers >>= 4)
		want->tiers[want->tier_count++] = (uint8_t)((tiers & 15) - 1);
}

/*
 * When bytes with several copies are to come, the most that can be placed is limited by what can be
 * paired: sum of min(free, most) = copies * most. A disk with more free than that must get one copy
 * of all of it, whatever else speaks for others. Those are taken out, until the rest can be spread
 * in any way; 0: there are none.
 */
static uint64_t needed_bytes(const struct view *view, unsigned copies)
{
	uint64_t most = UINT64_MAX, before;
	unsigned rest;

	do {
		uint64_t sum = 0;

		rest = copies;

		before = most;
		for (unsigned i = 0; i < view->count; i++) {
			const struct placement_disk *disk = &view->disks[i];

			if (disk->usable && disk->free_bytes > before)
				rest--;
			else if (disk->usable)
				sum += disk->free_bytes;
		}
		most = rest > 0 ? sum / rest : 0;
	} while (most < before);
	return rest < copies ? most : 0;
}

static unsigned choose(struct pool *pool, const struct pool_place *place, bool any,
		       struct view *view, struct pool_disk *ret_disks[POOL_FACTOR_MAX])
{
	struct placement_want want = {
		.copies = place->copies,
		.bytes = place->bytes,
		.random = ++pool->takes,
		.recent = place->recent,
		.recent_count = place->recent_count,
	};
	unsigned indexes[POOL_FACTOR_MAX], found;

	look(pool, place, any, view);
	set_tiers(&want, place->tiers);
	want.needed_bytes = needed_bytes(view, MAX(place->copies, pool_admit_largest_factor(pool)));
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++) {
		struct pool_disk *disk = pool_disk_by_id(pool, place->avoid[i]);

		want.avoid[i] = place->avoid[i];
		if (disk)
			want.avoid_domains[want.avoid_domain_count++] = domain_of(disk);
	}
	found = placement_choose(view->disks, view->count, &want, indexes);
	for (unsigned i = 0; i < found; i++)
		ret_disks[i] = view->pool_disks[indexes[i]];
	return found;
}

static unsigned choose_among(struct pool *pool, const struct pool_place *place, bool any,
			     struct view *view, struct pool_disk *ret_disks[POOL_FACTOR_MAX])
{
	unsigned found = choose(pool, place, false, view, ret_disks);

	return found > 0 || !any ? found : choose(pool, place, true, view, ret_disks);
}

static bool was_refused(const struct view *view)
{
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
		if (view->verdicts[tier] != POOL_TIER_FREE)
			return true;
	return false;
}

unsigned pool_place_choose(struct pool *pool, struct pool_place *place, bool any,
			   struct pool_disk *ret_disks[POOL_FACTOR_MAX])
{
	struct view view, unbound;
	struct pool_place freely = *place;
	struct pool_disk *others[POOL_FACTOR_MAX];
	unsigned found = choose_among(pool, place, any, &view, ret_disks), more;

	reactor_assert_home(pool->home);
	place->refused = false;
	place->fell_back = view.any;
	if (found == place->copies || !was_refused(&view))
		return found;
	freely.claim = NULL;
	more = choose_among(pool, &freely, any, &unbound, others);
	if (more <= found)
		return found;
	if (place->strict) {
		place->refused = true;
		if (place->claim->quota)
			pool_tier_refused(place->claim->quota, view.verdicts);
		return found;
	}
	REACHED("pool.tier-beyond");
	if (place->use == POOL_USE_DATA && place->claim->quota)
		pool_tier_goes_beyond(place->claim->quota, others[0]->tier);
	place->fell_back = unbound.any;
	memcpy(ret_disks, others, more * sizeof(*others));
	return more;
}

int pool_place_error(const struct pool *pool)
{
	struct pool_disk *disk;
	int r = pool_state_writable(pool);

	if (r)
		return r;
	POOL_FOR_EACH_DISK(pool, disk)
	if (!pool_disk_is_gone(disk))
		return -ENOSPC;
	return -EIO;
}
