/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One copy of a file, read from front to back, each block held against its checksum.
 *
 * A plain file belongs to the group of the first sound record that names this file (or no file, as
 * older programs wrote them). What a reused file still has of an earlier life names another file
 * or group, and is passed over. Behind a bad header the next record is looked for block by block:
 * what lies between counts as bad, unless no record follows. A block of a guest cannot pass for a
 * record there, unless the guest knew group, slot, epoch and file.
 *
 * What looks like a page of a map, but is bad or where no record is, is believed in one thing:
 * there was a checkpoint as new as it says. Else an older map could pass for the newest.
 *
 * Pages of a map are believed only where the stream of map pages is: guests write blocks that look
 * like pages, if they like. Compacted files of older programs do not tell the streams; there, a
 * group is of map pages when a sound page of the vDisk is in it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "egroup/index.h"
#include "fsck/fsck_rebuild_priv.h"
#include "reactor/io.h"

struct scan {
	struct rebuild *rebuild;
	const struct rebuild_file *file;
	struct rebuild_content *content;
	struct world_file *handle;
	uint64_t limit_lsn;
	uint32_t slots;
	uint32_t window, window_blocks; /* what is in the buffer */
	uint32_t gap;                   /* blocks since the last record that are none */
	bool in_run;
};

/* `blocks` from `place` on, in the buffer; NULL where the disk does not give them. */
static const char *view(struct scan *scan, uint32_t place, uint32_t blocks, int *ret_error)
{
	char *buffer = scan->rebuild->buffer;
	int64_t got;

	*ret_error = 0;
	if (place < scan->window || place + blocks > scan->window + scan->window_blocks) {
		uint32_t wanted = MIN(REBUILD_WINDOW_BLOCKS, scan->slots - place);

		scan->window_blocks = 0;
		got = io_read(scan->handle, buffer, (size_t)wanted * BLOCK_BYTES,
			      (uint64_t)place * BLOCK_BYTES);
		if (got < 0 && !rebuild_is_fatal((int)got)) /* some of it may be readable */
			got = io_read(scan->handle, buffer, (size_t)blocks * BLOCK_BYTES,
				      (uint64_t)place * BLOCK_BYTES);
		if (got < 0) {
			*ret_error = rebuild_is_fatal((int)got) ? (int)got : 0;
			return NULL;
		}
		scan->window = place;
		scan->window_blocks = (uint32_t)(got / BLOCK_BYTES);
		*ret_error = rebuild_progress(scan->rebuild, (uint64_t)got);
	}
	if (*ret_error < 0 || place + blocks > scan->window + scan->window_blocks)
		return NULL;
	return buffer + (size_t)(place - scan->window) * BLOCK_BYTES;
}

static bool names_this_file(const struct scan *scan, const struct record_header_disk *header)
{
	uint64_t file = le64toh(header->file);
	const struct rebuild_content *content = scan->content;

	if (content->kind == REBUILD_PLAIN)
		return file == (content->is_old ? 0 : scan->file->id);
	return file == 0 || file == scan->file->id;
}

static bool is_record(const struct scan *scan, uint32_t slot,
		      const struct record_header_disk *header)
{
	const struct rebuild_content *content = scan->content;
	struct record_id id = {.pool = scan->file->pool};
	uint32_t stream = le32toh(header->stream);

	if (content->kind == REBUILD_PLAIN)
		id = (struct record_id){.pool = scan->file->pool,
					.vdisk = content->vdisk,
					.group = content->group,
					.slot = slot,
					.stream = content->stream};
	if (record_check(header, &id) < 0 || le32toh(header->slot) != slot ||
	    !names_this_file(scan, header) || le64toh(header->vdisk) == 0 ||
	    le64toh(header->group) == 0 || le64toh(header->group) >> 40 ||
	    (stream != RECORD_STREAM_LOG && stream != RECORD_STREAM_PAGES) ||
	    slot + 1 + record_payload_blocks(header) > scan->slots)
		return false;
	if (content->kind != REBUILD_PLAIN)
		return true;
	return le64toh(header->epoch) == content->epoch && le64toh(header->lsn) > content->last_lsn;
}

/* The first record of the file that counts says whose it is. */
static int take_file(struct scan *scan, const struct record_header_disk *header)
{
	struct rebuild_content *content = scan->content;
	struct rebuild_vdisk *vdisk;
	struct identity identity;
	int r;

	content->kind = REBUILD_PLAIN;
	content->vdisk = le64toh(header->vdisk);
	content->group = le64toh(header->group);
	content->epoch = le64toh(header->epoch);
	content->stream = le32toh(header->stream);
	content->is_old = header->file == 0;
	content->first_lsn = le64toh(header->lsn);
	r = rebuild_vdisk_add(scan->rebuild, scan->file->pool, content->vdisk, &vdisk);
	if (r < 0)
		return r;
	vdisk->is_old |= content->is_old;
	if (identity_decode(header->note, &identity) < 0 ||
	    (vdisk->identity && vdisk->identity_group >= content->group))
		return 0;
	if (!vdisk->identity)
		vdisk->identity = malloc(sizeof(identity));
	if (!vdisk->identity)
		return -ENOMEM;
	*vdisk->identity = identity;
	vdisk->identity_group = content->group;
	return 0;
}

/* A page that may be a root: the first of its level. */
static int note_root(struct scan *scan, uint64_t vdisk, uint64_t address,
		     const struct page_disk *page, uint32_t crc)
{
	struct rebuild *rebuild = scan->rebuild;
	struct rebuild_root *root;
	struct identity identity;
	int r;

	r = rebuild_reserve((void **)&rebuild->roots, &rebuild->root_capacity, rebuild->root_count,
			    sizeof(*root));
	if (r < 0)
		return r;
	root = &rebuild->roots[rebuild->root_count];
	*root = (struct rebuild_root){.pool = scan->file->pool,
				      .vdisk = vdisk,
				      .address = address,
				      .lsn = le64toh(page->lsn),
				      .crc = crc,
				      .level = page->level};
	if (identity_decode(page->note, &identity) == 0) {
		root->identity = malloc(sizeof(identity));
		if (!root->identity)
			return -ENOMEM;
		*root->identity = identity;
	}
	rebuild->root_count++;
	return 0;
}

/* A block that is bad, or that no sound record tells of. 1: it was no root. */
static int note_trace(struct scan *scan, const void *block)
{
	const struct page_disk *page = block;
	const struct rebuild_content *content = scan->content;
	struct rebuild_vdisk *vdisk;
	int r;

	if (le32toh(page->magic) != PAGE_MAGIC || page->version != PAGE_VERSION ||
	    (content->kind == REBUILD_PLAIN && content->stream != RECORD_STREAM_PAGES) ||
	    (content->kind != REBUILD_NOTHING && le64toh(page->vdisk) != content->vdisk))
		return 0;
	r = rebuild_vdisk_add(scan->rebuild, scan->file->pool, le64toh(page->vdisk), &vdisk);
	if (r < 0)
		return r;
	vdisk->newest_lsn = MAX(vdisk->newest_lsn, le64toh(page->lsn));
	return page->level == 0 || page->index != 0;
}

/* A block, as it was written, where pages of the map may be. */
static int note_page(struct scan *scan, uint64_t vdisk, uint64_t address, const void *block,
		     uint32_t crc)
{
	struct rebuild *rebuild = scan->rebuild;
	const struct page_disk *page = block;
	const struct page_id id = {
		.vdisk = vdisk, .index = le64toh(page->index), .level = page->level};
	_cleanup_free_ struct map_entry *entries = NULL;
	struct rebuild_vdisk *of;
	int r;

	if (le32toh(page->magic) != PAGE_MAGIC)
		return 0;
	entries = malloc(MAP_FANOUT * sizeof(*entries));
	r = entries ? page_decode(page, &id, crc, entries) : -ENOMEM;
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	of = rebuild_vdisk_find(rebuild, scan->file->pool, vdisk);
	of->newest_lsn = MAX(of->newest_lsn, le64toh(page->lsn));
	if (scan->content->kind == REBUILD_COMPACTED && scan->content->is_old) {
		r = rebuild_reserve((void **)&rebuild->page_groups, &rebuild->page_group_capacity,
				    rebuild->page_group_count, sizeof(uint64_t));
		if (r < 0)
			return r;
		rebuild->page_groups[rebuild->page_group_count++] = address_group(address);
	}
	return page->level > 0 && page->index == 0 ? note_root(scan, vdisk, address, page, crc) : 0;
}

static void note_extents(struct rebuild_content *content, const struct record_header_disk *header)
{
	struct record_extent extent;
	uint32_t cursor = 0;

	for (uint32_t i = 0; i < record_extent_count(header); i++) {
		record_get_extent(header, i, &cursor, &extent);
		if (extent.kind != RECORD_EXTENT_PAGES)
			content->block_end = MAX(content->block_end, extent.block + extent.count);
	}
}

/* Bad blocks of the payload, or an error. */
static int64_t take_payload(struct scan *scan, const struct record_header_disk *header,
			    uint32_t slot)
{
	struct rebuild_content *content = scan->content;
	uint32_t blocks = record_payload_blocks(header), bad = 0;
	int r;
	const char *bytes = blocks ? view(scan, slot + 1, blocks, &r) : NULL;

	if (blocks == 0)
		return 0;
	if (!bytes) {
		content->last_bad = slot + blocks;
		return r < 0 ? r : (int64_t)blocks;
	}
	for (uint32_t i = 0; i < blocks; i++) {
		const char *block = bytes + (size_t)i * BLOCK_BYTES;
		uint32_t crc = le32toh(header->block_crcs[i]);

		r = 0;
		if (crc32c(block, BLOCK_BYTES) != crc) {
			bad++;
			r = note_trace(scan, block);
			if (r == 0)
				content->last_bad = slot + 1 + i;
		} else if (content->stream == RECORD_STREAM_PAGES) {
			r = note_page(scan, content->vdisk,
				      address_make(content->group, slot + 1 + i), block, crc);
		}
		if (r < 0)
			return r;
	}
	return bad;
}

/* Slots that it takes; 0: it is beyond the limit. */
static int64_t take_record(struct scan *scan, uint32_t slot,
			   const struct record_header_disk *header)
{
	struct rebuild_content *content = scan->content;
	uint64_t lsn = le64toh(header->lsn);
	bool is_log = le32toh(header->stream) == RECORD_STREAM_LOG, follows;
	int64_t bad;
	int r;

	if (is_log && lsn >= scan->limit_lsn)
		return 0;
	if (content->kind != REBUILD_PLAIN) {
		r = take_file(scan, header);
		if (r < 0)
			return r;
		scan->in_run = slot == 0;
	}
	bad = take_payload(scan, header, slot);
	if (bad < 0)
		return bad;
	follows = content->last_lsn == 0 || lsn == content->last_lsn + 1 || !is_log;
	scan->in_run &= scan->gap == 0 && bad == 0 && follows;
	content->bad += (uint32_t)bad + scan->gap;
	if (scan->gap && bad == 0)
		content->last_bad = slot - 1;
	content->last_lsn = lsn;
	content->durable_lsn = MAX(content->durable_lsn, le64toh(header->durable_lsn));
	note_extents(content, header);
	content->end = slot + 1 + record_payload_blocks(header);
	if (scan->in_run) {
		content->run_lsn = lsn;
		content->run_end = content->end;
	}
	scan->gap = 0;
	return 1 + record_payload_blocks(header);
}

static int scan_plain(struct scan *scan)
{
	_cleanup_free_ struct record_header_disk *header = malloc(sizeof(*header));
	uint32_t slot = 0;
	int r;

	if (!header)
		return -ENOMEM;
	while (slot < scan->slots) {
		const char *block = view(scan, slot, 1, &r);
		int64_t taken = 1;

		if (r < 0)
			return r;
		if (block)
			memcpy(header, block, sizeof(*header));
		if (block && is_record(scan, slot, header)) {
			taken = take_record(scan, slot, header);
		} else {
			scan->gap++;
			r = block ? note_trace(scan, header) : 0;
			if (r < 0)
				return r;
		}
		if (taken <= 0)
			return (int)taken;
		slot += (uint32_t)taken;
	}
	return 0;
}

int rebuild_index_read(struct rebuild *rebuild, const struct rebuild_file *file, unsigned copy,
		       struct world_file *handle, void **ret_memory)
{
	_cleanup_free_ void *first = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES), *memory = NULL;
	const struct index_header_disk *header = first;
	uint32_t blocks;
	struct index_view view;
	struct index_id id = {.pool = file->pool, .file = file->id};
	int r = first ? io_read_exactly(handle, first, BLOCK_BYTES, 0) : -ENOMEM;

	(void)rebuild;
	if (r < 0)
		return r;
	blocks = le32toh(header->index_blocks);
	if (le64toh(header->magic) != INDEX_MAGIC)
		return -ENODATA;
	if (blocks == 0 || blocks > SLOTS_PER_GROUP ||
	    (uint64_t)blocks * BLOCK_BYTES > file->copies[copy].size_bytes)
		return -EUCLEAN;
	memory = aligned_alloc(BLOCK_BYTES, (size_t)blocks * BLOCK_BYTES);
	if (!memory)
		return -ENOMEM;
	id.vdisk = le64toh(header->vdisk);
	r = io_read_exactly(handle, memory, (size_t)blocks * BLOCK_BYTES, 0);
	if (r == 0)
		r = index_check(memory, blocks, &id, &view);
	if (r == 0)
		*ret_memory = TAKE_PTR(memory);
	return r;
}

/* The group of what is stored at `position`; NULL: it cannot be of map pages. */
static const struct index_group_disk *page_group_at(const struct index_view *view,
						    uint32_t position, uint32_t *at)
{
	while (*at < view->group_count &&
	       position >= le32toh(view->groups[*at].base) + le32toh(view->groups[*at].count))
		(*at)++;
	if (*at == view->group_count || (view->streams_known && *at >= view->page_groups))
		return NULL;
	return &view->groups[*at];
}

static int take_stored(struct scan *scan, const struct index_view *index, uint32_t position,
		       uint32_t *group_at)
{
	struct rebuild_content *content = scan->content;
	const struct index_group_disk *group = page_group_at(index, position, group_at);
	uint32_t crc = le32toh(index->crcs[position]);
	int r;
	const char *block = view(scan, content->index_blocks + position, 1, &r);

	if (r < 0)
		return r;
	if (!block || crc32c(block, BLOCK_BYTES) != crc) {
		content->bad++;
		r = block && group ? note_trace(scan, block) : 0;
		if (r == 0 && group) {
			content->last_bad = le16toh(index->slots[position]);
			content->last_bad_group = le64toh(group->group);
		}
		return MIN(r, 0);
	}
	if (!group)
		return 0;
	return note_page(scan, content->vdisk,
			 address_make(le64toh(group->group) & ((UINT64_C(1) << 40) - 1),
				      le16toh(index->slots[position])),
			 block, crc);
}

/* -ENODATA: it has no index that is whole and its own. */
static int scan_compacted(struct scan *scan, unsigned copy)
{
	struct rebuild_content *content = scan->content;
	_cleanup_free_ void *memory = NULL;
	struct rebuild_vdisk *vdisk;
	struct index_view index;
	uint32_t group_at = 0;
	int r = rebuild_index_read(scan->rebuild, scan->file, copy, scan->handle, &memory);

	content->is_damaged_index = r == -EUCLEAN;
	if (r < 0)
		return rebuild_is_fatal(r) ? r : -ENODATA;
	const struct index_header_disk *header = memory;
	const struct index_id id = {
		.pool = scan->file->pool, .vdisk = le64toh(header->vdisk), .file = scan->file->id};

	r = index_check(memory, le32toh(header->index_blocks), &id, &index);
	if (r == 0)
		r = rebuild_vdisk_add(scan->rebuild, id.pool, id.vdisk, &vdisk);
	if (r < 0)
		return r;
	content->kind = REBUILD_COMPACTED;
	content->vdisk = id.vdisk;
	content->is_old = !index.streams_known;
	content->index_blocks = le32toh(header->index_blocks);
	content->total_slots = index.total_slots;
	for (uint32_t i = 0; r == 0 && i < index.total_slots; i++)
		r = take_stored(scan, &index, i, &group_at);
	return r;
}

int rebuild_scan(struct rebuild *rebuild, struct rebuild_file *file, unsigned copy,
		 uint64_t limit_lsn)
{
	struct scan scan = {.rebuild = rebuild,
			    .file = file,
			    .content = &file->copies[copy].content,
			    .limit_lsn = limit_lsn};
	int r;

	*scan.content = (struct rebuild_content){0};
	r = rebuild_file_open(rebuild, file, copy, &scan.handle);
	if (r < 0)
		return r;
	scan.slots =
		(uint32_t)MIN(file->copies[copy].size_bytes / BLOCK_BYTES, (uint64_t)UINT32_MAX);
	r = scan_compacted(&scan, copy);
	if (r == -ENODATA) {
		scan.slots = MIN(scan.slots, SLOTS_PER_GROUP);
		r = scan_plain(&scan);
	}
	(void)io_close(scan.handle); /* was only read */
	return r;
}
