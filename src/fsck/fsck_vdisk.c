/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vDisk: its files in parts that fit in memory, and for each part its whole map, from the root
 * that the row names.
 *
 * The walk of the first part looks at the pages and counts; each walk holds those entries that name
 * slots of its part against what was read there. A page or block is bad only when no copy has it
 * right.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "fsck/fsck_map.h"
#include "fsck/fsck_priv.h"
#include "reactor/io.h"

struct walk {
	struct fsck *fsck;
	struct fsck_vdisk *vdisk;
	bool first; /* pages are told and counted */
	uint64_t slots;
	bool damaged;
	struct fsck_handles handles;
	struct page_disk *page;
};

static void describe(const struct walk *walk, int level, uint64_t index, uint64_t address,
		     char object[FSCK_OBJECT_MAX])
{
	uint64_t span = (uint64_t)BLOCK_BYTES << (MAP_FANOUT_BITS * (level + 1));
	int length = snprintf(
		object, FSCK_OBJECT_MAX, "vDisk %" PRIu64 " (%s), bytes %" PRIu64 " to %" PRIu64,
		walk->vdisk->row.id, walk->vdisk->row.name, index * span, (index + 1) * span - 1);

	if (address_is_stored(address))
		snprintf(object + length, FSCK_OBJECT_MAX - (size_t)length,
			 ", group %" PRIu64 " slot %" PRIu32, address_group(address),
			 address_slot(address));
}

static int get_handle(struct walk *walk, const struct fsck_file *file, unsigned copy,
		      struct world_file **ret_handle)
{
	int r;

	*ret_handle = fsck_handles_get(&walk->handles, file, copy);
	if (*ret_handle)
		return 0;
	r = fsck_file_open(walk->fsck, file, copy, ret_handle);
	if (r == 0)
		fsck_handles_put(&walk->handles, file, copy, *ret_handle);
	return r;
}

/* The block of the file where a slot is; -ENOENT: it is not stored. */
static int find_place(const struct fsck_group *group, uint32_t slot, uint64_t *ret_place)
{
	uint32_t position;

	if (!group->row.compacted) {
		*ret_place = slot;
		return group->row.sealed && slot >= group->row.slots ? -ENOENT : 0;
	}
	if (!group->stored)
		return -EUCLEAN;
	if (fsck_map_find_stored(group->stored, group->row.stored_count, slot, &position) < 0)
		return -ENOENT;
	*ret_place = group->file->row.index_blocks + group->row.base + position;
	return 0;
}

/* A page from whichever copy has it right. */
static int read_page(struct walk *walk, const struct fsck_node *node, struct map_entry *ret_entries)
{
	const struct page_id id = {
		.vdisk = walk->vdisk->row.id, .index = node->index, .level = node->level};
	struct fsck_group *group = fsck_group_find(walk->vdisk, address_group(node->entry.address));
	struct world_file *handle;
	unsigned copies;
	uint64_t place;
	int r;

	if (!group || !group->file)
		return -ENOENT;
	r = find_place(group, address_slot(node->entry.address), &place);
	if (r < 0)
		return r;
	copies = fsck_file_copies(walk->fsck, group->file);
	r = -ENOENT;
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		if (!(copies >> copy & 1))
			continue;
		r = get_handle(walk, group->file, copy, &handle);
		if (r == 0)
			r = io_read_exactly(handle, walk->page, BLOCK_BYTES, place * BLOCK_BYTES);
		if (r == 0)
			r = page_decode(walk->page, &id, node->entry.crc, ret_entries);
		if (r == 0 || r == -ESHUTDOWN || r == -ENOMEM)
			return r;
	}
	return r;
}

static const char *entry_fault(const struct walk *walk, uint64_t address)
{
	const struct fsck_group *group = fsck_group_find(walk->vdisk, address_group(address));
	const struct fsck_content *content = group ? group->content : NULL;
	uint32_t slot = address_slot(address);

	if (!group || !group->file)
		return walk->first ? "the map names a group that is not there" : NULL;
	if (!content)
		return NULL;
	if (slot >= content->slots)
		return "the map names a slot behind the end of its group";
	if (!fsck_bit(content->known, slot))
		return fsck_file_copies(walk->fsck, group->file)
			       ? "the map names a slot that is not stored or cannot be read"
			       : "no copy of the file that the map names is there";
	if (fsck_bit(content->named, slot))
		return "the map names a slot twice";
	return NULL;
}

/* An entry against the slot that it names. Pages are read as such, and their checksum held against
 * the entry then. */
static void check_entry(struct walk *walk, const struct fsck_node *node, bool is_page)
{
	const struct fsck_group *group =
		fsck_group_find(walk->vdisk, address_group(node->entry.address));
	const char *fault = entry_fault(walk, node->entry.address);
	uint32_t slot = address_slot(node->entry.address);
	struct fsck_content *content = group ? group->content : NULL;
	char object[FSCK_OBJECT_MAX];

	if (fault) {
		describe(walk, is_page ? (int)node->level : -1, node->index, node->entry.address,
			 object);
		fsck_find(walk->fsck, FSCK_MAP_ENTRY, object, "%s", fault);
		if (group && group->file)
			group->file->damaged = true;
	}
	if (!content || slot >= content->slots || !fsck_bit(content->known, slot))
		return;
	fsck_bit_set(content->named, slot);
	fsck_content_settle(content, slot, node->entry.crc);
	if (is_page || content->crcs[slot] == node->entry.crc)
		return;
	group->file->damaged = true;
	describe(walk, -1, node->index, node->entry.address, object);
	fsck_find(walk->fsck, FSCK_BLOCK, object, "the data do not match the map's checksum");
}

static void check_block(void *arg, const struct fsck_node *node)
{
	struct walk *walk = arg;
	char object[FSCK_OBJECT_MAX];

	if (address_is_stored(node->entry.address)) {
		walk->slots++;
		walk->fsck->report.blocks += walk->first;
		check_entry(walk, node, false);
	} else if (walk->first) {
		describe(walk, -1, node->index, node->entry.address, object);
		fsck_find(walk->fsck, FSCK_LOST, object,
			  "the block was lost with a damaged page of the map");
	}
}

static int check_page(void *arg, const struct fsck_node *node, struct map_entry *ret_entries)
{
	struct walk *walk = arg;
	char object[FSCK_OBJECT_MAX];
	int r = fsck_progress(walk->fsck, 0);

	if (r < 0)
		return r;
	walk->slots++;
	walk->fsck->report.pages += walk->first;
	check_entry(walk, node, true);
	r = read_page(walk, node, ret_entries);
	if (r == 0 || r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	walk->damaged = walk->vdisk->map_damaged = true;
	describe(walk, (int)node->level, node->index, node->entry.address, object);
	if (walk->first)
		fsck_find(walk->fsck, FSCK_MAP_PAGE, object,
			  "a page of the map is damaged (%s): what is below it is unknown",
			  strerror(-r));
	return 1;
}

static const struct fsck_map_ops check = {.page = check_page, .block = check_block};

static int walk_map(struct walk *walk)
{
	const struct vdisk_row *row = &walk->vdisk->row;
	const struct fsck_node root = {.level = row->root_level, .entry = row->root};

	walk->slots = 0;
	return row->root.address ? fsck_map_walk(&check, walk, &root) : 0;
}

static uint64_t table_bytes(const struct fsck_file *file)
{
	uint64_t bytes = 0;

	for (const struct fsck_group *group = file->group; group; group = group->next)
		bytes += group->row.compacted ? SLOTS_PER_GROUP * 5
					      : MIN(file->row.size_bytes / BLOCK_BYTES,
						    (uint64_t)SLOTS_PER_GROUP) *
							5;
	return bytes;
}

static int scan_file(struct walk *walk, struct fsck_file *file)
{
	int r = 0;

	for (struct fsck_group *group = file->group; r == 0 && group; group = group->next)
		r = fsck_content_new(group);
	return r < 0 ? r : fsck_file_scan(walk->fsck, file);
}

static int end_part(struct walk *walk, size_t from, size_t to)
{
	struct fsck_vdisk *vdisk = walk->vdisk;
	int r = 0;

	for (size_t i = from; r == 0 && i < to; i++) {
		struct fsck_file *file = &vdisk->files[i];

		/* Under a page that cannot be read it is not known what is in use. */
		fsck_file_unused(walk->fsck, file);
		r = fsck_file_settle(walk->fsck, file);
		for (struct fsck_group *group = file->group; group; group = group->next) {
			fsck_content_free(group);
			if (group->row.stream != RECORD_STREAM_PAGES) {
				free(group->stored);
				group->stored = NULL;
			}
		}
	}
	return r;
}

static int check_parts(struct walk *walk)
{
	struct fsck_vdisk *vdisk = walk->vdisk;
	uint64_t limit = walk->fsck->options->memory_bytes ? walk->fsck->options->memory_bytes
							   : FSCK_MEMORY_BYTES;
	size_t from = 0, at = 0;
	int r = 0;

	do {
		uint64_t bytes = 0;

		for (from = at; r == 0 && at < vdisk->file_count; at++) {
			bytes += table_bytes(&vdisk->files[at]);
			if (at > from && bytes > limit)
				break;
			r = scan_file(walk, &vdisk->files[at]);
		}
		if (r == 0)
			r = walk_map(walk);
		if (r == 0)
			r = end_part(walk, from, at);
		walk->first = false;
	} while (r == 0 && at < vdisk->file_count);
	return r;
}

/* Pages of the map may be in compacted files, which come in any part. */
static int load_page_indexes(struct walk *walk)
{
	struct fsck_vdisk *vdisk = walk->vdisk;
	int r = 0;

	for (size_t i = 0; r == 0 && i < vdisk->file_count; i++) {
		struct fsck_file *file = &vdisk->files[i];
		struct fsck_group *group = file->row.compacted ? file->group : NULL;

		while (group && group->row.stream != RECORD_STREAM_PAGES)
			group = group->next;
		if (group)
			r = fsck_index_load(walk->fsck, file);
		for (group = r == 0 ? file->group : NULL; group; group = group->next)
			if (group->row.stream != RECORD_STREAM_PAGES) {
				free(group->stored);
				group->stored = NULL;
			}
	}
	return r;
}

static int check_live(struct walk *walk)
{
	struct vdisk_row *row = &walk->vdisk->row;
	uint64_t counted = row->live_slots;

	if (walk->damaged || counted == walk->slots)
		return 0;
	row->live_slots = walk->slots;
	return fsck_fix_vdisk(walk->fsck, walk->vdisk, FSCK_LIVE, row->name, "the row is put right",
			      "the row counts %" PRIu64 " live blocks, the map names %" PRIu64,
			      counted, walk->slots);
}

/* Newer groups than the row knows would be taken for those of a later opening. */
static int check_epoch(struct fsck *fsck, struct fsck_vdisk *vdisk)
{
	struct vdisk_row *row = &vdisk->row;
	uint64_t epoch = row->epoch, page_lsn = row->page_lsn;

	for (size_t i = 0; i < vdisk->group_count; i++) {
		const struct egroup_group_row *group = &vdisk->groups[i].row;

		row->epoch = MAX(row->epoch, group->epoch);
		if (group->stream == RECORD_STREAM_PAGES)
			row->page_lsn = MAX(row->page_lsn, group->last_lsn);
	}
	if (row->epoch == epoch && row->page_lsn == page_lsn)
		return 0;
	return fsck_fix_vdisk(fsck, vdisk, FSCK_EPOCH, row->name, "the row is put right",
			      "the row is at epoch %" PRIu64 " and map record %" PRIu64
			      ", its groups at %" PRIu64 " and %" PRIu64,
			      epoch, page_lsn, row->epoch, row->page_lsn);
}

int fsck_vdisk_check(struct fsck *fsck, struct fsck_vdisk *vdisk)
{
	_cleanup_free_ struct page_disk *page = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	struct walk walk = {.fsck = fsck, .vdisk = vdisk, .first = true, .page = page};
	int r;

	if (!page)
		return -ENOMEM;
	if (vdisk->row.deleting) /* goes on at the next start */
		return 0;
	r = check_epoch(fsck, vdisk);
	if (r == 0)
		r = fsck_tail_check(fsck, vdisk);
	if (r == 0)
		r = load_page_indexes(&walk);
	if (r == 0)
		r = check_parts(&walk);
	if (r == 0)
		r = check_live(&walk);
	fsck_handles_close(&walk.handles);
	return r;
}
