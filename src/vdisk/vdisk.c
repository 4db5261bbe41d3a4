/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open vDisk as an object: opening, closing, resizing, the tick that looks after idle ones,
 * figures. Home: the reactor it was opened on.
 */
#include "vdisk/vdisk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/reached.h"
#include "pool/policy.h"
#include "pool/pool_damage.h"
#include "vdisk/vdisk_priv.h"

static void volume_free(struct block_volume *volume)
{
	(void)volume; /* belongs to the vDisk: vdisk_close() */
}

static const struct block_volume_ops volume_ops = {
	.kind = "vdisk",
	.submit = vdisk_submit,
	.free = volume_free,
};

static void tick(struct reactor_timer *timer);

static void arm_tick(struct vdisk *vdisk, uint64_t after_ns)
{
	vdisk->tick.run = tick;
	reactor_timer_arm(vdisk->reactor, &vdisk->tick, reactor_now_ns(vdisk->reactor) + after_ns);
}

void vdisk_tick_soon(struct vdisk *vdisk)
{
	if (!vdisk->closing)
		arm_tick(vdisk, 10 * NSEC_PER_MSEC);
}

static uint64_t writes_so_far(const struct vdisk *vdisk)
{
	return vdisk->log.next_lsn;
}

/* Nothing was written for a while: fold the log, so that a restart has nothing to replay, and give
 * back what the groups have beyond their ends. */
static void look_after_idle(struct vdisk *vdisk)
{
	if (vdisk->writes_at_tick != writes_so_far(vdisk)) {
		vdisk->writes_at_tick = writes_so_far(vdisk);
		vdisk->idle_ticks = 0;
		return;
	}
	if (++vdisk->idle_ticks < VDISK_IDLE_TICKS || list_is_empty(&vdisk->log.groups) ||
	    vdisk->log.failed)
		return;
	REACHED("vdisk.idle-checkpoint");
	vdisk->idle_ticks = 0;
	if (list_is_empty(&vdisk->log.pending) && vdisk->log.in_flight_count == 0 &&
	    !vdisk->log.rerouting)
		log_close_current(&vdisk->log);
	vdisk_checkpoint_soon(vdisk);
}

static bool wants_tick(const struct vdisk *vdisk)
{
	return !list_is_empty(&vdisk->log.groups) || map_is_dirty(&vdisk->map) ||
	       !list_is_empty(&vdisk->space_waiters) || !list_is_empty(&vdisk->log.pending) ||
	       !vdisk->store->liveness_known || vdisk->orphans.count > 0 ||
	       pool_quota_pressure(vdisk->quota) > 0;
}

/* What is unmapped while writes wait for room gives it only with a checkpoint. */
static bool wants_checkpoint(const struct vdisk *vdisk, bool pressed)
{
	if (!list_is_empty(&vdisk->space_waiters) && map_is_dirty(&vdisk->map))
		return true;
	return pressed && vdisk->log.tail_bytes > VDISK_TAIL_MIN_BYTES / 2;
}

/* Once a second while there is something to look after; an idle vDisk sleeps longer. */
static void tick(struct reactor_timer *timer)
{
	struct vdisk *vdisk = CONTAINER_OF(timer, struct vdisk, tick);
	bool pressed = pool_quota_pressure(vdisk->quota) > 0;

	if (vdisk->closing)
		return;
	if (vdisk->stranded) {
		vdisk_settle_soon(vdisk);
		arm_tick(vdisk, VDISK_TICK_NS);
		return;
	}
	look_after_idle(vdisk);
	vdisk_space_changed(vdisk);
	cache_trim(vdisk->cache);
	if (wants_checkpoint(vdisk, pressed))
		vdisk_checkpoint_soon(vdisk);
	if (pressed || !vdisk->store->liveness_known || vdisk->orphans.count > 0)
		vdisk_reclaim_soon(vdisk);
	log_kick(&vdisk->log);
	arm_tick(vdisk, wants_tick(vdisk) ? VDISK_TICK_NS : 10 * VDISK_TICK_NS);
}

static struct vdisk *vdisk_new(struct pool *pool, struct vdisk_cache *cache)
{
	struct vdisk *vdisk = calloc(1, sizeof(*vdisk));

	if (!vdisk)
		return NULL;
	vdisk->reactor = reactor_current();
	vdisk->world = reactor_world(vdisk->reactor);
	vdisk->pool = pool;
	vdisk->catalog = pool_catalog(pool);
	vdisk->cache = cache;
	fiber_mutex_init(&vdisk->row_mutex);
	range_lock_init(&vdisk->locks);
	list_init(&vdisk->space_waiters);
	list_init(&vdisk->waiting_tasks);
	list_init(&vdisk->old_page_groups);
	fiber_queue_init(&vdisk->checkpoint_done);
	fiber_queue_init(&vdisk->reclaim_done);
	fiber_queue_init(&vdisk->loaded);
	fiber_queue_init(&vdisk->fibers_done);
	fiber_queue_init(&vdisk->settled);
	list_init(&vdisk->held);
	histogram_init(&vdisk->read_latency);
	histogram_init(&vdisk->write_latency);
	pattern_init(&vdisk->pattern);
	log_init(&vdisk->log, vdisk);
	return vdisk;
}

static void release_page_groups(struct vdisk *vdisk)
{
	struct page_group *old;

	LIST_FOR_EACH (&vdisk->old_page_groups, old, struct page_group, link) {
		egroup_file_unref(old->group->file);
		list_remove(&old->link);
		free(old);
	}
	if (vdisk->page_group)
		egroup_file_unref(vdisk->page_group->file);
	vdisk->page_group = NULL;
}

/* Frees a vDisk in whatever state opening it got to. */
static void vdisk_free(struct vdisk *vdisk)
{
	reactor_timer_cancel(vdisk->reactor, &vdisk->tick);
	reactor_timer_cancel(vdisk->reactor, &vdisk->checkpoint_retry);
	log_done(&vdisk->log);
	release_page_groups(vdisk);
	for (unsigned layer = 0; layer < 2; layer++)
		vdisk_admit_return(vdisk, vdisk->admitted[layer]);
	if (vdisk->factor)
		pool_quota_account_live(vdisk->quota, vdisk->factor,
					-(int64_t)(vdisk->accounted_slots * BLOCK_BYTES));
	pool_quota_close(vdisk->quota);
	map_done(&vdisk->map);
	egroup_store_close(vdisk->store);
	free(vdisk->orphans.items);
	free(vdisk->dead_while_counting.items);
	free(vdisk);
}

void identity_refresh(struct vdisk *vdisk)
{
	const struct vdisk_row *row = &vdisk->row;
	struct identity identity = {
		.container = row->container,
		.created_wall_ns = row->created_wall_ns,
		.size_bytes = row->size_bytes,
		.block_bytes = row->block_bytes,
		.factor = vdisk->factor,
		.log_slot = le32toh(vdisk->identity.log_slot),
		.log_group = le64toh(vdisk->identity.log_group),
	};
	struct vdisk_row there;

	/* Names are changed in the catalog alone; without it the last one that is known will do. */
	memcpy(identity.name, row->name, sizeof(identity.name));
	if (vdisk_row_get(vdisk->catalog, row->id, &there) == 0)
		memcpy(identity.name, there.name, sizeof(identity.name));
	memcpy(identity.container_name, vdisk->container_name, sizeof(identity.container_name));
	identity.disk_count = pool_disk_ids(vdisk->pool, identity.disks, identity.tiers);
	identity.epoch = row->epoch;
	identity.written_wall_ns = vdisk->world->ops->wall_ns(vdisk->world);
	identity_encode(&identity, &vdisk->identity);
}

static void init_volume(struct vdisk *vdisk)
{
	block_volume_init(&vdisk->volume, &volume_ops, vdisk->reactor, vdisk->row.size_bytes,
			  vdisk->row.block_bytes);
	vdisk->volume.physical_block_bytes = BLOCK_BYTES;
}

/* Its container's quota, and how many copies there are of its data, as the policy of vDisk and
 * container says. */
static int open_policy(struct vdisk *vdisk, struct container_policy *policy)
{
	struct container_info container;
	int r = container_policy_get(vdisk->catalog, vdisk->row.container, vdisk->row.id, policy);

	if (r == 0)
		r = container_get(vdisk->catalog, vdisk->row.container, &container);
	if (r == 0)
		r = pool_quota_open(vdisk->pool, vdisk->row.container, &vdisk->quota);
	if (r < 0)
		return r;
	memcpy(vdisk->container_name, container.name, sizeof(vdisk->container_name));
	vdisk->factor = (unsigned)policy->replication_factor;
	return 0;
}

static void set_placing(struct egroup_store *store, const struct container_policy *policy)
{
	store->tiers = (unsigned)policy->tier_order_random;
	store->tiers_sequential = (unsigned)policy->tier_order_sequential;
	store->width = (unsigned)policy->stripe_width;
}

static int open_parts(struct vdisk *vdisk)
{
	_cleanup_free_ struct container_policy *policy = malloc(sizeof(*policy));
	int r;

	if (!policy)
		return -ENOMEM;
	if (vdisk->row.deleting)
		return -ENOENT;
	if (vdisk->row.pool != pool_id(vdisk->pool))
		return -ENODEV;
	r = open_policy(vdisk, policy);
	if (r < 0)
		return r;
	vdisk->accounted_slots = vdisk->row.live_slots;
	pool_quota_account_live(vdisk->quota, vdisk->factor,
				(int64_t)(vdisk->accounted_slots * BLOCK_BYTES));
	vdisk->tail_limit = vdisk_tail_limit(vdisk);
	r = egroup_store_open(vdisk->pool, vdisk->row.id, vdisk->factor, &vdisk->store);
	if (r < 0)
		return r;
	set_placing(vdisk->store, policy);
	vdisk->store->quota = vdisk->quota;
	vdisk->pattern.sequential = vdisk->store->sequential =
		egroup_store_was_sequential(vdisk->store);
	identity_refresh(vdisk);
	r = map_init(&vdisk->map, vdisk->cache, vdisk->row.id, &vdisk->row.root,
		     vdisk->row.root_level);
	if (r == 0)
		r = map_grow(&vdisk->map, vdisk->row.size_bytes / BLOCK_BYTES);
	return r < 0 ? r : vdisk_recover(vdisk);
}

int vdisk_open(struct pool *pool, struct vdisk_cache *cache, uint64_t id, struct vdisk **ret_vdisk)
{
	struct vdisk *vdisk = vdisk_new(pool, cache);
	struct pool_damage damage;
	int r;

	if (!vdisk)
		return -ENOMEM;
	cache->resume = vdisk_read_resume;
	r = vdisk_row_get(vdisk->catalog, id, &vdisk->row);
	if (r == 0 && pool_damage_of(pool, id, &damage))
		r = -EUCLEAN;
	if (r == 0)
		r = open_parts(vdisk);
	if (r < 0) {
		if (r != -ENOENT && r != -ESHUTDOWN)
			log_error("vdisk", "cannot open", "vdisk=%" PRIu64 " error=%d", id, r);
		vdisk_free(vdisk);
		return r;
	}
	init_volume(vdisk);
	vdisk_reclaim_soon(vdisk);
	arm_tick(vdisk, VDISK_TICK_NS);
	*ret_vdisk = vdisk;
	return 0;
}

static void stop_background(struct vdisk *vdisk)
{
	vdisk->closing = true;
	reactor_timer_cancel(vdisk->reactor, &vdisk->checkpoint_retry);
	log_drain(&vdisk->log);
	while (vdisk->reclaiming)
		fiber_queue_wait(&vdisk->reclaim_done);
	while (vdisk->checkpointing)
		fiber_queue_wait(&vdisk->checkpoint_done);
	while (vdisk->fibers > 0)
		fiber_queue_wait(&vdisk->fibers_done);
}

/* Nothing is left to replay, and every group is sealed. */
static int checkpoint_for_good(struct vdisk *vdisk)
{
	if (vdisk->log.failed)
		return vdisk->log.failed;
	if (vdisk->stranded) /* the next opening begins where this one did */
		return 0;
	log_close_current(&vdisk->log);
	if (list_is_empty(&vdisk->log.groups) && !map_is_dirty(&vdisk->map) && !vdisk->page_group &&
	    list_is_empty(&vdisk->old_page_groups))
		return 0;
	return vdisk_checkpoint(vdisk);
}

int vdisk_close(struct vdisk *vdisk)
{
	int r;

	reactor_assert_home(vdisk->reactor);
	ASSERT(vdisk->volume.in_flight == 0);
	stop_background(vdisk);
	r = checkpoint_for_good(vdisk);
	log_drop_ready(&vdisk->log);
	vdisk_free(vdisk);
	return r;
}

struct block_volume *vdisk_volume(struct vdisk *vdisk)
{
	return &vdisk->volume;
}

uint64_t vdisk_id(const struct vdisk *vdisk)
{
	return vdisk->row.id;
}

struct cut {
	struct block_request request;
	struct fiber *fiber;
	bool finished;
	int result;
};

static void cut_done(struct block_request *request, int result)
{
	struct cut *cut = CONTAINER_OF(request, struct cut, request);

	cut->finished = true;
	cut->result = result;
	fiber_wake(cut->fiber);
}

/* What is cut off reads as zeros if the vDisk grows again, and its space comes back. Writes there
 * that were under way are waited for: one that came after the unmap would stay. */
static int unmap_end(struct vdisk *vdisk, uint64_t from, uint64_t to)
{
	struct range_claim claim = {
		.offset = from, .length = to - from, .mode = RANGE_LOCK_EXCLUSIVE};
	struct cut cut = {.fiber = fiber_current()};

	cut.request.op = BLOCK_UNMAP;
	cut.request.offset = from;
	cut.request.length = to - from;
	cut.request.done = cut_done;
	range_lock_wait(&vdisk->locks, &claim);
	vdisk_write_unclaimed(vdisk, &cut.request);
	while (!cut.finished)
		fiber_suspend();
	range_lock_release(&vdisk->locks, &claim);
	return cut.result;
}

int vdisk_error(const struct vdisk *vdisk)
{
	if (vdisk_is_stranded(vdisk))
		return -EROFS;
	return __atomic_load_n(&vdisk->log.failed, __ATOMIC_RELAXED);
}

static int shrink(struct vdisk *vdisk, uint64_t size_bytes)
{
	struct block_volume *volume = &vdisk->volume;
	uint64_t old = volume->size_bytes;
	int r;

	/* From now on nothing is written there. The size in the row follows only when no record
	 * beyond it is left to replay. */
	volume->size_bytes = size_bytes;
	r = unmap_end(vdisk, size_bytes, old);
	if (r == 0)
		r = vdisk_checkpoint(vdisk);
	if (r < 0)
		volume->size_bytes = old;
	return r;
}

int vdisk_resize(struct vdisk *vdisk, uint64_t size_bytes)
{
	struct vdisk_row row;
	int r;

	reactor_assert_home(vdisk->reactor);
	if (vdisk_check_size(size_bytes) < 0)
		return -EINVAL;
	r = vdisk_settle(vdisk);
	if (r < 0)
		return r;
	r = size_bytes < vdisk->volume.size_bytes ? shrink(vdisk, size_bytes) : 0;
	/* The tree must not become higher while a fold is on its way through it. */
	while (r == 0 && vdisk->checkpointing)
		fiber_queue_wait(&vdisk->checkpoint_done);
	if (r == 0 && vdisk->map.frozen)
		r = vdisk->checkpoint_error ? vdisk->checkpoint_error : -EAGAIN;
	if (r == 0)
		r = map_grow(&vdisk->map, size_bytes / BLOCK_BYTES);
	if (r < 0)
		return r;
	row = vdisk_row_begin(vdisk);
	row.size_bytes = size_bytes;
	r = vdisk_row_commit(vdisk, &row, NULL, 0);
	if (r < 0)
		return r;
	vdisk->volume.size_bytes = size_bytes;
	vdisk->identity_is_old = true;
	identity_refresh(vdisk);
	/* So that the groups tell it, too. One that fails is tried again by itself. */
	(void)vdisk_checkpoint(vdisk);
	return 0;
}

/* The group that the log has ready follows the old policy: another takes its place. One that is
 * just being made is waited for. */
static void renew_ready_group(struct vdisk *vdisk)
{
	vdisk->fibers++;
	while (vdisk->log.provisioning && !vdisk->closing)
		fiber_queue_wait(&vdisk->log.settled);
	if (!vdisk->closing && vdisk->log.ready) {
		log_drop_ready(&vdisk->log);
		if (!vdisk->closing) /* or nobody waits for it any more */
			log_provision(&vdisk->log);
	}
	vdisk_fiber_ends(vdisk);
}

void vdisk_set_policy(struct vdisk *vdisk, const struct container_policy *policy)
{
	struct egroup_store *store = vdisk->store;
	unsigned factor = (unsigned)policy->replication_factor;
	bool same = store->tiers == policy->tier_order_random &&
		    store->tiers_sequential == policy->tier_order_sequential &&
		    store->width == policy->stripe_width && store->factor == factor;

	reactor_assert_home(vdisk->reactor);
	if (same)
		return;
	vdisk_set_factor(vdisk, factor);
	set_placing(store, policy);
	renew_ready_group(vdisk);
}

void vdisk_get_stats(struct vdisk *vdisk, struct vdisk_stats *ret_stats)
{
	*ret_stats = vdisk->stats;
	ret_stats->in_flight = vdisk->volume.in_flight;
	ret_stats->live_bytes = vdisk->accounted_slots * BLOCK_BYTES;
	ret_stats->log_tail_bytes = vdisk->log.tail_bytes + vdisk->fold_tail_bytes;
	ret_stats->map_memory_bytes = vdisk->cache->used_bytes;
	ret_stats->groups = vdisk->store->group_count;
	ret_stats->device_read_bytes += vdisk->store->read_bytes;
	if (vdisk->checkpoint_error == -EUCLEAN)
		ret_stats->damaged_pages++;
}

const struct histogram *vdisk_latency(struct vdisk *vdisk, enum block_op op)
{
	return op == BLOCK_READ ? &vdisk->read_latency : &vdisk->write_latency;
}
