/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim of one vDisk, in one fiber: recounting liveness after an open, freeing detached subtrees,
 * dropping files without live slots, compacting sparse ones. It works harder as the pool fills, and
 * yields to the guest otherwise.
 *
 * Liveness is not stored: after an open, a walk over the committed tree finds it. Until it is done
 * nothing is dropped, so the pages of the root it started from stay whatever checkpoints do
 * meanwhile; what dies meanwhile is noted and taken out again at the end. What a damaged page names
 * is not known: then every group that there is by now is kept until the next open.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "egroup/compact.h"
#include "egroup/cursor.h"
#include "egroup/repair.h"
#include "vdisk/vdisk_priv.h"

#define DEAD_SLICE 1024u       /* taken out in one turn */
#define TRIM_SLACK (256 * KIB) /* less is not worth a transaction */

int address_list_add(struct address_list *list, uint64_t address)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 256;
		uint64_t *items = realloc(list->items, capacity * sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = address;
	return 0;
}

int orphan_list_add(struct orphan_list *list, const struct orphan *orphan)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		struct orphan *items = realloc(list->items, capacity * sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = *orphan;
	return 0;
}

static void account(struct vdisk *vdisk, int64_t slots)
{
	/* The account of a vDisk whose live count on disk was wrong must not wrap. */
	if (slots < 0 && (uint64_t)-slots > vdisk->accounted_slots)
		slots = -(int64_t)vdisk->accounted_slots;
	vdisk->accounted_slots += (uint64_t)slots;
	pool_quota_account_live(vdisk->quota, vdisk->factor, slots * (int64_t)BLOCK_BYTES);
}

/* Without memory for the note, or for the set, only another count can tell the truth. */
static void liveness_lost(struct vdisk *vdisk)
{
	REACHED("reclaim.liveness-lost");
	vdisk->store->liveness_known = false;
	vdisk->count_spoilt = true;
}

void vdisk_slot_live(struct vdisk *vdisk, uint64_t address)
{
	if (egroup_set_live(vdisk->store, address_group(address), address_slot(address)) < 0)
		liveness_lost(vdisk);
	account(vdisk, 1);
}

void vdisk_slot_dead(struct vdisk *vdisk, uint64_t address)
{
	egroup_set_dead(vdisk->store, address_group(address), address_slot(address));
	if (vdisk->counting && address_list_add(&vdisk->dead_while_counting, address) < 0)
		liveness_lost(vdisk);
	account(vdisk, -1);
}

struct walk {
	struct vdisk *vdisk;
	const struct vdisk_walker *walker;
};

static bool ends_walk(int r)
{
	return r == -ESHUTDOWN || r == -ENOMEM || r == -ECANCELED;
}

static int walk_page(const struct walk *walk, const struct orphan *page);

static int walk_entry(const struct walk *walk, const struct orphan *parent, unsigned i,
		      const struct map_entry *entry)
{
	const struct orphan child = {.level = parent->level - 1,
				     .index = parent->index * MAP_FANOUT + i,
				     .entry = *entry};
	const struct vdisk_walker *walker = walk->walker;

	if (entry->address == 0)
		return 0;
	if (parent->level > 0)
		return walk_page(walk, &child);
	if (!address_is_stored(entry->address))
		return walker->damaged(walker->arg, -1, child.index, -EUCLEAN);
	return walker->slot(walker->arg, entry->address, -1, child.index);
}

static int walk_page(const struct walk *walk, const struct orphan *page)
{
	_cleanup_free_ struct map_entry *entries = NULL;
	const struct vdisk_walker *walker = walk->walker;
	uint64_t block = page->index << (MAP_FANOUT_BITS * (page->level + 1));
	int r;

	if (walk->vdisk->closing)
		return -ECANCELED;
	entries = malloc(MAP_FANOUT * sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	r = walker->slot(walker->arg, page->entry.address, (int)page->level, block);
	if (r != 0)
		return MIN(r, 0);
	r = vdisk_read_page(walk->vdisk, page->level, page->index, &page->entry, entries);
	if (r < 0)
		return ends_walk(r) ? r : walker->damaged(walker->arg, (int)page->level, block, r);
	for (unsigned i = 0; r == 0 && i < MAP_FANOUT; i++)
		r = walk_entry(walk, page, i, &entries[i]);
	return r;
}

int vdisk_walk(struct vdisk *vdisk, const struct orphan *top, const struct vdisk_walker *walker)
{
	const struct walk walk = {.vdisk = vdisk, .walker = walker};

	return top->entry.address ? walk_page(&walk, top) : 0;
}

static int count_slot(void *arg, uint64_t address, int level, uint64_t block)
{
	struct vdisk *vdisk = arg;

	(void)level;
	(void)block;
	return egroup_set_live(vdisk->store, address_group(address), address_slot(address));
}

/* What stands in the page is not known: nothing that it could name may go. */
static int count_damaged(void *arg, int level, uint64_t block, int error)
{
	struct vdisk *vdisk = arg;

	vdisk->stats.damaged_pages++;
	if (level < 0)
		return 0;
	REACHED("reclaim.damaged-page");
	vdisk_report_damage(vdisk, "a map page is damaged; groups that it may name are kept", block,
			    error);
	egroup_keep_all(vdisk->store);
	return 0;
}

static int recount(struct vdisk *vdisk)
{
	const struct vdisk_walker walker = {
		.slot = count_slot, .damaged = count_damaged, .arg = vdisk};
	struct address_list *dead = &vdisk->dead_while_counting;
	struct orphan top;
	int r;

	REACHED("reclaim.recount");
	/* What a checkpoint is about to add is in the new tree already: not twice. */
	while (vdisk->applying)
		fiber_queue_wait(&vdisk->checkpoint_done);
	top = (struct orphan){.level = vdisk->row.root_level, .entry = vdisk->row.root};
	/* What was detached before is not in this tree: there is nothing to take out again. */
	vdisk->orphans.count = 0;
	egroup_clear_live(vdisk->store);
	vdisk->counting = true;
	vdisk->count_spoilt = false;
	vdisk->stats.damaged_pages = 0;
	r = vdisk_walk(vdisk, &top, &walker);
	egroup_live_counted(vdisk->store);
	while (dead->count > 0) {
		uint64_t address = dead->items[--dead->count];

		egroup_set_dead(vdisk->store, address_group(address), address_slot(address));
		if (dead->count % DEAD_SLICE == 0)
			fiber_yield();
	}
	vdisk->counting = false;
	if (r < 0 || vdisk->count_spoilt)
		return r;
	vdisk->store->liveness_known = true;
	account(vdisk, (int64_t)vdisk->store->live_slots - (int64_t)vdisk->accounted_slots);
	return 0;
}

static int free_slot(void *arg, uint64_t address, int level, uint64_t block)
{
	(void)level;
	(void)block;
	vdisk_slot_dead(arg, address);
	return 0;
}

/* Slots of a page that cannot be read stay live until the next count. */
static int free_damaged(void *arg, int level, uint64_t block, int error)
{
	if (level >= 0)
		vdisk_report_damage(arg, "a detached part of the map cannot be read", block, error);
	return 0;
}

static void free_orphans(struct vdisk *vdisk)
{
	const struct vdisk_walker walker = {
		.slot = free_slot, .damaged = free_damaged, .arg = vdisk};

	while (vdisk->orphans.count > 0 && !vdisk->closing) {
		struct orphan orphan = vdisk->orphans.items[--vdisk->orphans.count];
		int r = vdisk_walk(vdisk, &orphan, &walker);

		/* For want of memory: they stay live, too. */
		if (r < 0 && r != -ECANCELED)
			vdisk_report_damage(vdisk, "a detached part of the map cannot be freed",
					    orphan.index << (MAP_FANOUT_BITS * (orphan.level + 1)),
					    r);
		vdisk_space_changed(vdisk);
	}
}

/* The share of live data, in percent, up to which a file is worth compacting. */
static unsigned use_limit(const struct vdisk *vdisk)
{
	unsigned pressure = pool_quota_pressure(vdisk->quota);

	if (pressure == 0)
		return 25;
	if (pressure < 50)
		return 60;
	return pressure < 90 ? 80 : 90;
}

#define PAUSE_ACTIVE   20u /* ns for each byte while the guest is active: 50 MB/s */
#define PAUSE_IDLE     4u  /* 250 MB/s */
#define PRESSURE_HURRY 50u /* percent from which on compaction does not wait */

/* Nanoseconds for each byte that compaction moves, to leave the disk to the guest. They fall
 * steadily as the pool fills, so that reclaim settles at the rate at which the guest writes. */
static uint64_t pause_per_byte(struct vdisk *vdisk)
{
	unsigned pressure = pool_quota_pressure(vdisk->quota);
	unsigned pause = vdisk_guest_is_active(vdisk, &vdisk->operations_at_step) ? PAUSE_ACTIVE
										  : PAUSE_IDLE;

	return pressure < PRESSURE_HURRY ? pause * (PRESSURE_HURRY - pressure) / PRESSURE_HURRY : 0;
}

/* Between steps of a compaction: a pause where there is time, a turn for others in any case. */
static int yield_to_guest(void *arg, uint64_t read, uint64_t written)
{
	struct vdisk *vdisk = arg;
	uint64_t pause_ns = (read + written) * pause_per_byte(vdisk);

	vdisk->stats.compacted_bytes += written;
	vdisk->stats.device_written_bytes += written;
	if (vdisk->closing)
		return -ECANCELED;
	if (pause_ns > 0)
		fiber_sleep(pause_ns);
	else
		fiber_yield();
	return 0;
}

static int compact_once(struct vdisk *vdisk)
{
	_cleanup_free_ struct compact_choice *choice = malloc(sizeof(*choice));
	int r;

	if (!choice)
		return -ENOMEM;
	if (!compact_choose(vdisk->store, use_limit(vdisk), choice))
		return -ENODATA;
	r = compact_run(vdisk->store, choice, yield_to_guest, vdisk);
	if (r == 0)
		vdisk->stats.compacted_groups += choice->count;
	return r == -EAGAIN ? 0 : r;
}

/* One that no disk in order has is not cut, nor left alone for it: repair wants it. */
static bool may_trim(struct egroup_file *file)
{
	struct egroup_need need;
	struct egroup *group;

	if (file->compacted || file->busy || file->group_count != 1 || egroup_file_is_avoided(file))
		return false;
	group = LIST_ENTRY(list_front(&file->groups), struct egroup, link);
	if (!group->sealed || group->pinned || !egroup_wants_trim(group, TRIM_SLACK))
		return false;
	egroup_file_need(file, &need);
	return !need.lost;
}

/* What a sealed group's file has beyond its length goes back. */
static int trim_groups(struct vdisk *vdisk)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;
	int r = 0;

	egroup_cursor_init(&cursor, vdisk->store, 0);
	while (r != -ESHUTDOWN && !vdisk->closing && (file = egroup_cursor_step(&cursor))) {
		if (!may_trim(file))
			continue;
		r = egroup_trim(LIST_ENTRY(list_front(&file->groups), struct egroup, link));
		if (r < 0 && r != -ESHUTDOWN)
			egroup_file_avoid(file, r);
	}
	egroup_cursor_done(&cursor);
	return r == -ESHUTDOWN ? r : 0;
}

static int reclaim(struct vdisk *vdisk)
{
	int r = 0;

	if (!vdisk->store->liveness_known)
		r = recount(vdisk);
	if (r < 0)
		return r;
	free_orphans(vdisk);
	r = egroup_reap(vdisk->store);
	if (r > 0)
		vdisk_space_changed(vdisk);
	if (r >= 0)
		r = trim_groups(vdisk);
	while (r >= 0 && !vdisk->closing) {
		r = compact_once(vdisk);
		vdisk_space_changed(vdisk);
		log_kick(&vdisk->log);
	}
	return r == -ENODATA ? 0 : r;
}

static void reclaim_run(struct fiber_task *task)
{
	struct vdisk *vdisk = CONTAINER_OF(task, struct vdisk, reclaim_task);
	int r;

	vdisk->reclaim_wanted = false;
	r = reclaim(vdisk);
	if (r == -ECANCELED)
		r = 0;
	if (r < 0 && r != -ESHUTDOWN && r != vdisk->reclaim_error)
		log_warning("vdisk", "reclaim failed; it is tried again",
			    "vdisk=%" PRIu64 " error=%d", vdisk->row.id, r);
	vdisk->reclaim_error = r;
	vdisk->reclaiming = false;
	if (vdisk->reclaim_wanted && r == 0)
		vdisk_reclaim_soon(vdisk);
	fiber_queue_wake_all(&vdisk->reclaim_done);
}

void vdisk_reclaim_soon(struct vdisk *vdisk)
{
	if (vdisk->closing || vdisk->stranded)
		return;
	if (vdisk->reclaiming) {
		vdisk->reclaim_wanted = true;
		return;
	}
	vdisk->reclaiming = true;
	vdisk->reclaim_task.run = reclaim_run;
	fiber_spawn(vdisk->reactor, FIBER_RECLAIM, &vdisk->reclaim_task);
}
