/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where in the vDisk the things lie that a scrub found. A log record says which blocks it held, so
 * one look at the map tells whether they still are there. Pages of the map, and what was moved into
 * compacted files, say nothing of the kind: the committed tree is walked for those that are live,
 * once for all of them, and no deeper than it must be.
 *
 * Home: the vDisk's reactor, in fibers. Failure modes: checkpoints go on meanwhile, so a page that
 * the walk comes to may be gone; it is then walked again, a few times. Below a damaged page nothing
 * is found, so what was not found is not known to be dead.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/reached.h"
#include "egroup/cursor.h"
#include "vdisk/vdisk_priv.h"

#define WALKS_MAX 3

struct search {
	struct vdisk *vdisk;
	const struct vdisk_locate *locate;
	struct vdisk_finding *
		*wanted; /* in order of address; those of indexes, at the end, by file */
	size_t count, index_count;
	bool want_blocks; /* else the walk ends at the pages */
	bool incomplete;  /* some page could not be read */
};

static uint64_t address_of(const struct vdisk_finding *finding)
{
	return address_make(finding->group, finding->slot);
}

static bool is_live(const struct egroup *group, uint32_t first, uint32_t count)
{
	for (uint32_t slot = first; slot < SLOTS_PER_GROUP && slot < first + count; slot++)
		if (slotset_has(&group->live, slot))
			return true;
	return false;
}

/* By the record's word: is the block still where the record put it? */
static int look_up(struct vdisk *vdisk, struct vdisk_finding *finding)
{
	struct map_entry entry;
	int r;

	finding->use = VDISK_USE_DEAD;
	if (finding->offset >= vdisk->row.size_bytes)
		return 0;
	r = vdisk_lookup(vdisk, finding->offset / BLOCK_BYTES, &entry);
	if (r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	if (r < 0)
		finding->use = VDISK_USE_UNKNOWN;
	else if (entry.address == address_of(finding))
		finding->use = VDISK_USE_LIVE;
	return 0;
}

/* What the counted liveness says, as far as it goes. */
static enum vdisk_use counted_use(const struct vdisk *vdisk, const struct vdisk_finding *finding,
				  uint32_t slots)
{
	const struct egroup *group = egroup_find(vdisk->store, finding->group);

	if (!group)
		return VDISK_USE_DEAD;
	if (!vdisk->store->liveness_known || egroup_is_kept(vdisk->store, group))
		return VDISK_USE_UNKNOWN;
	return is_live(group, finding->slot, slots) ? VDISK_USE_LIVE : VDISK_USE_DEAD;
}

static enum vdisk_use index_use(struct vdisk *vdisk, const struct vdisk_finding *finding)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;
	struct egroup *group;
	bool live = false;

	egroup_cursor_init(&cursor, vdisk->store, finding->file - 1);
	file = egroup_cursor_next(&cursor);
	if (file && file->id == finding->file)
		LIST_FOR_EACH (&file->groups, group, struct egroup, link)
			live |= group->live.count > 0;
	egroup_cursor_done(&cursor);
	if (!vdisk->store->liveness_known)
		return VDISK_USE_UNKNOWN;
	return live ? VDISK_USE_LIVE : VDISK_USE_DEAD;
}

/* Without the tree. *ret_walk: only the tree can tell. */
static int settle(struct vdisk *vdisk, struct vdisk_finding *finding, bool *ret_walk)
{
	*ret_walk = false;
	if (finding->kind == VDISK_FINDING_INDEX) {
		finding->use = index_use(vdisk, finding);
		/* One that was put right is of no matter to anybody; else: what is in the file. */
		*ret_walk = finding->disk == 0 && finding->use != VDISK_USE_DEAD;
		return 0;
	}
	if (finding->kind == VDISK_FINDING_RECORD) {
		if (finding->disk != 0) /* else it is not known which they were */
			finding->use = counted_use(vdisk, finding, finding->slots);
		return 0;
	}
	if (finding->kind == VDISK_FINDING_DATA && finding->bytes > 0)
		return look_up(vdisk, finding);
	finding->use = counted_use(vdisk, finding, 1);
	*ret_walk = finding->use != VDISK_USE_DEAD;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct vdisk_finding *one = *(struct vdisk_finding *const *)a;
	const struct vdisk_finding *two = *(struct vdisk_finding *const *)b;
	bool one_index = one->kind == VDISK_FINDING_INDEX;
	bool two_index = two->kind == VDISK_FINDING_INDEX;
	uint64_t x = one_index ? one->file : address_of(one);
	uint64_t y = two_index ? two->file : address_of(two);

	if (one_index != two_index)
		return one_index ? 1 : -1;
	return x < y ? -1 : x > y;
}

/* All that have this address: several copies may have it wrong. */
static void found(struct search *search, uint64_t address, uint64_t offset, uint64_t bytes)
{
	size_t low = 0, high = search->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (address_of(search->wanted[middle]) < address)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < search->count && address_of(search->wanted[low]) == address; low++) {
		search->wanted[low]->use = VDISK_USE_LIVE;
		search->wanted[low]->offset = offset;
		search->wanted[low]->bytes = bytes;
	}
}

/* What lies in a file whose index is gone: where the first of it is, and how much. */
static void found_in_file(struct search *search, uint64_t address, uint64_t offset)
{
	const struct egroup *group = NULL;

	if (search->index_count > 0)
		group = egroup_find(search->vdisk->store, address_group(address));
	for (size_t i = search->count; group && i < search->count + search->index_count; i++) {
		struct vdisk_finding *finding = search->wanted[i];

		if (finding->file != group->file->id)
			continue;
		if (finding->bytes == 0)
			finding->offset = offset;
		finding->bytes += BLOCK_BYTES;
		finding->use = VDISK_USE_LIVE;
	}
}

static int on_slot(void *arg, uint64_t address, int level, uint64_t block)
{
	struct search *search = arg;
	const struct vdisk_locate *locate = search->locate;
	uint64_t offset = block * BLOCK_BYTES, size = search->vdisk->row.size_bytes;
	uint64_t span = (uint64_t)BLOCK_BYTES << (MAP_FANOUT_BITS * (level + 1));
	int r = 0;

	if (offset < size)
		found(search, address, offset, MIN(span, size - offset));
	if (level < 0) {
		found_in_file(search, address, offset);
		return 0;
	}
	if (level == 0 && !search->want_blocks)
		return 1;
	if (locate->pause)
		r = locate->pause(locate->arg, BLOCK_BYTES);
	return MIN(r, 0);
}

static int on_damaged(void *arg, int level, uint64_t block, int error)
{
	struct search *search = arg;

	(void)block;
	(void)error; /* was logged where it was read */
	if (level >= 0)
		search->incomplete = true;
	return 0;
}

static int walk(struct search *search)
{
	const struct vdisk_walker walker = {.slot = on_slot, .damaged = on_damaged, .arg = search};
	struct vdisk *vdisk = search->vdisk;
	struct orphan top;
	int r;

	REACHED("locate.walk");
	for (unsigned i = 0; i < WALKS_MAX; i++) {
		while (vdisk->applying)
			fiber_queue_wait(&vdisk->checkpoint_done);
		for (size_t n = search->count; n < search->count + search->index_count; n++)
			search->wanted[n]->bytes = 0;
		search->incomplete = false;
		top = (struct orphan){.level = vdisk->row.root_level, .entry = vdisk->row.root};
		r = vdisk_walk(vdisk, &top, &walker);
		if (r < 0 || !search->incomplete || top.entry.address == vdisk->row.root.address)
			return r;
	}
	return 0;
}

/* What the walk found may have been overwritten since the last checkpoint; what it did not find is
 * in no tree. */
static int conclude(struct search *search)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < search->count + search->index_count; i++) {
		struct vdisk_finding *finding = search->wanted[i];

		if (finding->bytes == 0)
			finding->use = search->incomplete ? VDISK_USE_UNKNOWN : VDISK_USE_DEAD;
		else if (finding->kind == VDISK_FINDING_DATA)
			r = look_up(search->vdisk, finding);
	}
	return r;
}

static int search_tree(struct search *search)
{
	int r;

	qsort(search->wanted, search->count + search->index_count, sizeof(search->wanted[0]),
	      compare);
	for (size_t i = 0; i < search->count + search->index_count; i++) {
		search->wanted[i]->use = VDISK_USE_UNKNOWN;
		search->want_blocks |= search->wanted[i]->kind != VDISK_FINDING_MAP;
	}
	if (*search->locate->walks_left == 0)
		return 0;
	(*search->locate->walks_left)--;
	r = walk(search);
	return r < 0 ? r : conclude(search);
}

int vdisk_locate(struct vdisk *vdisk, const struct vdisk_locate *locate)
{
	_cleanup_free_ struct vdisk_finding **wanted =
		calloc(MAX(locate->count, (size_t)1), sizeof(*wanted));
	struct search search = {.vdisk = vdisk, .locate = locate, .wanted = wanted};
	bool in_tree;
	int r = 0;

	if (!wanted)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < locate->count; i++) {
		struct vdisk_finding *finding = &locate->findings[i];

		r = settle(vdisk, finding, &in_tree);
		if (r < 0 || !in_tree)
			continue;
		wanted[search.count + search.index_count] = finding;
		if (finding->kind == VDISK_FINDING_INDEX)
			search.index_count++;
		else
			search.count++;
	}
	if (r < 0 || search.count + search.index_count == 0)
		return r;
	return search_tree(&search);
}
