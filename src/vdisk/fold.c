/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fold: what the frozen layer of the map holds becomes new pages, from the leaves up, written
 * to the vDisk's page stream. Nothing in memory changes but the nodes' `fresh` entries until
 * vdisk_fold_apply(), after the commit; until then lookups go on seeing the frozen layer above the
 * old tree. A fold that fails is undone and can be made again.
 *
 * Which slots die: blocks and pages that the old tree names and the new one does not. Subtrees
 * below a hole are detached whole (orphans); reclaim walks them later.
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/reached.h"
#include "pool/pool_io.h"
#include "vdisk/vdisk_priv.h"

#define LOST_TRIES    4u  /* reads (two tries each) before a leaf counts as lost */
#define WRITER_BLOCKS 63u /* pages of one record: 256 KiB with the header */

struct fold {
	struct vdisk *vdisk;
	struct fold_result *result;
	char *buffer; /* header and WRITER_BLOCKS pages */
	uint32_t count;
	struct map_entry scratch[MAP_FANOUT];
};

void fold_result_done(struct fold_result *result)
{
	free(result->dead.items);
	free(result->pages.items);
	free(result->orphans.items);
}

static struct record_header_disk *writer_header(struct fold *fold)
{
	return (struct record_header_disk *)fold->buffer;
}

int vdisk_retire_page_group(struct vdisk *vdisk)
{
	struct page_group *old = calloc(1, sizeof(*old));

	if (!old)
		return -ENOMEM;
	old->group = TAKE_PTR(vdisk->page_group);
	old->slots = vdisk->page_slot;
	old->last_lsn = vdisk->row.page_lsn;
	list_push_back(&vdisk->old_page_groups, &old->link);
	return 0;
}

static uint64_t page_group_bytes(const struct vdisk *vdisk)
{
	uint64_t wanted = vdisk->row.live_slots * BLOCK_BYTES / 64;

	wanted = MIN(MAX(wanted, LOG_FIRST_GROUP_BYTES), pool_quota_group_bytes(vdisk->quota));
	return UINT64_C(1) << (63 - __builtin_clzll(wanted));
}

/* Room for a record in the page group. */
static int writer_prepare(struct fold *fold)
{
	struct vdisk *vdisk = fold->vdisk;
	struct egroup *group = vdisk->page_group;
	uint32_t slots = group ? (uint32_t)(group->file->allocated_bytes >> BLOCK_SHIFT) : 0;
	int r;

	if (group && vdisk->page_slot + 1 + WRITER_BLOCKS <= slots &&
	    egroup_file_is_whole(group->file))
		return 0;
	if (group) {
		r = vdisk_retire_page_group(vdisk);
		if (r < 0)
			return r;
	}
	r = vdisk_raise_epoch(vdisk);
	if (r < 0)
		return r;
	r = egroup_create(vdisk->store, RECORD_STREAM_PAGES, vdisk->row.epoch, POOL_USE_INTERNAL,
			  page_group_bytes(vdisk), &vdisk->page_group);
	vdisk->page_slot = 0;
	return r;
}

static int writer_flush(struct fold *fold)
{
	struct vdisk *vdisk = fold->vdisk;
	uint32_t count = fold->count;
	struct record_seal seal;
	int r;

	if (count == 0)
		return 0;
	seal = (struct record_seal){
		.id = {.pool = vdisk->row.pool,
		       .vdisk = vdisk->row.id,
		       .group = vdisk->page_group->id,
		       .slot = vdisk->page_slot,
		       .stream = RECORD_STREAM_PAGES},
		.epoch = vdisk->row.epoch,
		.lsn = ++vdisk->row.page_lsn,
		.file = vdisk->page_group->file->id,
		.note = vdisk->page_slot == 0 ? &vdisk->identity : NULL,
	};
	record_seal(writer_header(fold), &seal);
	r = pool_io_write(egroup_file_handle(vdisk->page_group->file), fold->buffer,
			  (size_t)(1 + count) * BLOCK_BYTES,
			  (uint64_t)vdisk->page_slot * BLOCK_BYTES);
	vdisk->stats.device_written_bytes += (uint64_t)(1 + count) * BLOCK_BYTES;
	fold->count = 0;
	/* Compaction goes from header to header: no record may follow one that failed. */
	if (r < 0)
		return vdisk_retire_page_group(vdisk) < 0 ? -ENOMEM : r;
	vdisk->page_slot += 1 + count;
	return 0;
}

/* Which checkpoint it is: the epoch is that of the page group by now. */
static void tell_checkpoint(struct vdisk *vdisk)
{
	struct identity_disk *identity = &vdisk->identity;

	vdisk->told_size_bytes = le64toh(identity->size_bytes);
	identity->epoch = htole64(vdisk->row.epoch);
	identity->log_group = htole64(vdisk->fold_group);
	identity->log_slot = htole32(vdisk->fold_slot);
	identity->written_wall_ns = htole64(vdisk->world->ops->wall_ns(vdisk->world));
}

/* Adds a page to the record being built; tells its address and CRC. */
static int writer_add(struct fold *fold, unsigned level, uint64_t index,
		      const struct map_entry *entries, struct map_entry *ret_entry)
{
	struct vdisk *vdisk = fold->vdisk;
	const struct page_id id = {.vdisk = vdisk->row.id, .index = index, .level = level};
	struct record_header_disk *header = writer_header(fold);
	bool is_root = level == map_root_level(&vdisk->map);
	uint32_t crc;
	int r = 0;

	if (fold->count == WRITER_BLOCKS)
		r = writer_flush(fold);
	if (r == 0 && fold->count == 0) {
		r = writer_prepare(fold);
		record_begin(header);
	}
	if (r < 0)
		return r;
	if (is_root)
		tell_checkpoint(vdisk);
	crc = page_encode(
		(struct page_disk *)(fold->buffer + (size_t)(1 + fold->count) * BLOCK_BYTES), &id,
		vdisk->fold_lsn, entries, is_root ? &vdisk->identity : NULL);
	/* One extent for all: pages name themselves. */
	record_add(header, RECORD_EXTENT_PAGES, fold->count, 1);
	record_add_block(header, crc);
	ret_entry->crc = crc;
	ret_entry->address =
		address_make(vdisk->page_group->id, vdisk->page_slot + 1 + fold->count);
	fold->count++;
	return address_list_add(&fold->result->pages, ret_entry->address);
}

static bool any_present(const struct map_entry *entries)
{
	for (unsigned i = 0; i < MAP_FANOUT; i++)
		if (entries[i].address)
			return true;
	return false;
}

/* Writes the page, or nothing when it would be empty; but a root is always written, because it says
 * on the disk itself that there was a checkpoint (identity.h). */
static int emit(struct fold *fold, unsigned level, uint64_t index, const struct map_entry *entries,
		struct map_entry *ret_entry)
{
	bool is_root = level == map_root_level(&fold->vdisk->map);

	*ret_entry = (struct map_entry){0};
	return is_root || any_present(entries) ? writer_add(fold, level, index, entries, ret_entry)
					       : 0;
}

static void delta_apply(struct fold *fold, const struct map_delta *delta)
{
	unsigned n = 0;

	for (unsigned i = map_bit_next(delta->present, 0); i < MAP_FANOUT;
	     i = map_bit_next(delta->present, i + 1)) {
		fold->scratch[i] = delta->entries[n++];
		fold->result->born += fold->scratch[i].address != 0;
	}
}

/* Where the blocks of a leaf are is not known any more. They can be read no better than before; but
 * one bad page must not stop all checkpoints. */
static void lose_leaf(struct fold *fold, uint64_t index)
{
	REACHED("fold.lost-leaf");
	vdisk_report_damage(fold->vdisk, "a damaged map page was given up; its blocks are lost",
			    index << MAP_FANOUT_BITS, -EUCLEAN);
	fold->vdisk->stats.damaged_pages++;
	for (unsigned i = 0; i < MAP_FANOUT; i++)
		fold->scratch[i] = (struct map_entry){.address = ADDRESS_OF_LOST};
}

/* The old tree's entries of a leaf, from the cache or from disk, into scratch. */
static int leaf_base(struct fold *fold, struct map_leaf *leaf, uint64_t index)
{
	struct map_entry entry = leaf->parent->entries[leaf->slot];
	int r = 0;

	if (leaf->page) {
		memcpy(fold->scratch, leaf->page->entries, sizeof(fold->scratch));
		return 0;
	}
	for (unsigned i = 0; i < LOST_TRIES; i++) {
		r = vdisk_read_page(fold->vdisk, 0, index, &entry, fold->scratch);
		if (r != -EUCLEAN)
			return r;
	}
	lose_leaf(fold, index);
	return 0;
}

static int note_replaced(struct fold *fold, const struct map_delta *delta)
{
	for (unsigned i = map_bit_next(delta->present, 0); i < MAP_FANOUT;
	     i = map_bit_next(delta->present, i + 1)) {
		uint64_t address = fold->scratch[i].address;
		int r = 0;

		if (address_is_stored(address))
			r = address_list_add(&fold->result->dead, address);
		if (r < 0)
			return r;
	}
	return 0;
}

/* `masked`: the old tree does not count here. */
static int fold_leaf(struct fold *fold, struct map_leaf *leaf, uint64_t index, bool masked,
		     struct map_entry *ret_entry)
{
	unsigned frozen = !fold->vdisk->map.active;
	const struct map_delta *delta = leaf->delta[frozen];
	bool has_base = !masked && leaf->parent->entries[leaf->slot].address;
	int r = 0;

	memset(fold->scratch, 0, sizeof(fold->scratch));
	if (has_base) {
		r = leaf_base(fold, leaf, index);
		if (r == 0)
			r = note_replaced(fold, delta);
		if (r == 0)
			r = address_list_add(&fold->result->dead,
					     leaf->parent->entries[leaf->slot].address);
		if (r < 0)
			return r;
	}
	delta_apply(fold, delta);
	return emit(fold, 0, index, fold->scratch, ret_entry);
}

static int detach(struct fold *fold, const struct map_index *node, unsigned child)
{
	const struct orphan orphan = {
		.level = node->level - 1u,
		.index = map_index_number(node) * MAP_FANOUT + child,
		.entry = node->entries[child],
	};

	REACHED("fold.orphan");
	return orphan_list_add(&fold->result->orphans, &orphan);
}

static bool has_frozen(const struct map *map, const struct map_index *node, unsigned child)
{
	const struct map_leaf *leaf = node->child[child];
	const struct map_index *index = node->child[child];

	if (!node->child[child])
		return false;
	return node->level == 1 ? leaf->delta[!map->active] != NULL
				: map_bits_any(index->dirty[!map->active]);
}

static int fold_index(struct fold *fold, struct map_index *node, bool masked,
		      struct map_entry *ret_entry);

static int fold_child(struct fold *fold, struct map_index *node, unsigned child, bool masked)
{
	struct map *map = &fold->vdisk->map;
	bool hole = map_bit(node->hole[!map->active], child);
	struct map_entry *fresh = &node->fresh[child];
	uint64_t number = map_index_number(node) * MAP_FANOUT + child;
	int r = 0;

	if (hole && !masked && node->entries[child].address)
		r = detach(fold, node, child);
	if (hole)
		*fresh = (struct map_entry){0};
	if (r < 0 || !has_frozen(map, node, child))
		return r;
	if (node->level == 1)
		return fold_leaf(fold, node->child[child], number, masked || hole, fresh);
	return fold_index(fold, node->child[child], masked || hole, fresh);
}

static int fold_index(struct fold *fold, struct map_index *node, bool masked,
		      struct map_entry *ret_entry)
{
	struct vdisk *vdisk = fold->vdisk;
	unsigned frozen = !vdisk->map.active;
	struct map_entry old;
	int r = 0;

	if (!masked)
		r = vdisk_load_index(vdisk, node);
	if (r < 0)
		return r;
	if (!node->fresh && cache_reserve(vdisk->cache))
		node->fresh = cache_alloc(vdisk->cache, sizeof(node->entries));
	if (!node->fresh)
		return -ENOMEM;
	if (masked)
		memset(node->fresh, 0, sizeof(node->entries));
	else
		memcpy(node->fresh, node->entries, sizeof(node->entries));
	for (unsigned i = map_bit_next(node->dirty[frozen], 0); i < MAP_FANOUT;
	     i = map_bit_next(node->dirty[frozen], i + 1)) {
		r = fold_child(fold, node, i, masked);
		if (r < 0)
			return r;
	}
	old = map_index_entry(&vdisk->map, node);
	if (!masked && old.address) {
		r = address_list_add(&fold->result->dead, old.address);
		if (r < 0)
			return r;
	}
	return emit(fold, node->level, map_index_number(node), node->fresh, ret_entry);
}

/* A fold whose pages cannot be made durable fails, and the next one writes all of them again, to
 * another group. What earlier folds put into these groups was synced then. */
static void give_up_page_groups(struct vdisk *vdisk)
{
	struct page_group *old;

	if (vdisk->page_group)
		(void)vdisk_retire_page_group(vdisk); /* without memory it goes on in this one */
	LIST_FOR_EACH (&vdisk->old_page_groups, old, struct page_group, link)
		old->given_up = true;
}

static int sync_old_page_groups(struct vdisk *vdisk)
{
	struct page_group *old;
	int r = 0;

	for (struct list_node *node = vdisk->old_page_groups.head.next;
	     r == 0 && node != &vdisk->old_page_groups.head; node = node->next) {
		old = LIST_ENTRY(node, struct page_group, link);
		if (!old->given_up)
			r = egroup_file_sync(old->group->file);
	}
	return r;
}

static int sync_pages(struct vdisk *vdisk)
{
	struct egroup_file *file = vdisk->page_group ? vdisk->page_group->file : NULL;
	int r = sync_old_page_groups(vdisk);

	if (r == 0 && file)
		r = egroup_file_sync(file);
	if (r < 0) {
		REACHED("fold.sync-failed");
		give_up_page_groups(vdisk);
		return r;
	}
	/* A copy was lost: no more pages there. */
	if (file && !egroup_file_is_whole(file))
		(void)vdisk_retire_page_group(vdisk); /* without memory it goes on in this one */
	return 0;
}

int vdisk_fold(struct vdisk *vdisk, struct fold_result *ret_result)
{
	struct fold *fold = calloc(1, sizeof(*fold));
	int r;

	if (!fold)
		return -ENOMEM;
	ASSERT(vdisk->map.frozen);
	identity_refresh(vdisk);
	fold->vdisk = vdisk;
	fold->result = ret_result;
	fold->buffer = aligned_alloc(BLOCK_BYTES, (size_t)(1 + WRITER_BLOCKS) * BLOCK_BYTES);
	r = fold->buffer ? fold_index(fold, vdisk->map.root, false, &ret_result->root) : -ENOMEM;
	if (r == 0)
		r = writer_flush(fold);
	if (r == 0)
		r = sync_pages(vdisk);
	free(fold->buffer);
	free(fold);
	return r;
}

static void undo_index(struct map *map, struct map_index *node)
{
	if (!node->fresh)
		return;
	cache_free(map->cache, node->fresh, sizeof(node->entries));
	node->fresh = NULL;
	for (unsigned i = 0; node->level > 1 && i < MAP_FANOUT; i++)
		if (node->child[i])
			undo_index(map, node->child[i]);
}

void vdisk_fold_undo(struct vdisk *vdisk)
{
	undo_index(&vdisk->map, vdisk->map.root);
}
