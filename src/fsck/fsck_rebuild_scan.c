/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One copy of a file, read from front to back, each block held against its checksum.
 *
 *  1. A plain file belongs to the group of the record at its beginning, when that is sound and
 *     names this file (or no file, as older programs wrote them). No guest's block is ever there.
 *     What a reused file still has of an earlier life names another file or group.
 *  2. When just that header is damaged, but is still seen to have been of this file, a later record
 *     tells whose the file is if it agrees with what the header says. When nothing is seen of it
 * any more, nothing of the file is used, for a guest may have written what lies behind; but a
 * record that names the file, or without any a page of a map where the first record has them, tells
 *     that something is missing, and of whom (find_lost()).
 *  3. Records follow each other. Behind a bad header the next one is looked for block by block, and
 *     must name this file; what lies between counts as bad, unless no record follows. Its number
 *     is at most as much greater as records have room in between. A block of a guest cannot pass
 *     for a record there, unless the guest knew group, slot, epoch and file; and then the guest
 *     fools itself.
 *  4. A bad block that looks like a page of the map, where a record or an index tells of one, or
 *     behind a header that was of this file, is believed in one thing: there was a checkpoint as
 *     new as it says. Else an older map could pass for the newest. Nothing else that is not as its
 *     checksum says is believed.
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
#include "vdisk/map.h"

struct scan {
	struct rebuild *rebuild;
	const struct rebuild_file *file;
	struct rebuild_content *content;
	struct world_file *handle;
	uint64_t limit_lsn;
	bool is_second; /* what is outside the copy is known already */
	uint32_t slots;
	uint32_t window, window_blocks; /* what is in the buffer */
	uint32_t careful_end;           /* up to here, the disk does not give whole windows */
	uint32_t gap;                   /* blocks since the last record that are none */
	uint32_t trace_end;             /* up to here, a damaged header may tell of pages */
	bool in_run;
	enum record_stream found; /* of records of the file, while it is not known whose it is */
	uint64_t found_lsn;       /* of the first; 0 = there is none yet */
	uint64_t trace_vdisk, trace_lsn;
	struct record_header_disk *first; /* the file's first header, when that is damaged */
};

static int64_t fill_window(struct scan *scan, uint32_t place, uint32_t blocks)
{
	int64_t got = scan->window_blocks = 0;

	got = io_read(scan->handle, scan->rebuild->buffer, (size_t)blocks * BLOCK_BYTES,
		      (uint64_t)place * BLOCK_BYTES);
	if (got < 0)
		return got;
	scan->window = place;
	scan->window_blocks = (uint32_t)(got / BLOCK_BYTES);
	return rebuild_progress(scan->rebuild, (uint64_t)got);
}

/* `blocks` from `place` on, in the buffer; NULL where the disk does not give them. Where it does
 * not give all of a window, some of it may be readable. */
static const char *view(struct scan *scan, uint32_t place, uint32_t blocks, int *ret_error)
{
	uint32_t window = MIN(REBUILD_WINDOW_BLOCKS, scan->slots - place);
	int64_t r = 0;

	if (place < scan->window || place + blocks > scan->window + scan->window_blocks) {
		bool is_careful = place < scan->careful_end;

		r = fill_window(scan, place, is_careful ? blocks : window);
		if (r < 0 && !rebuild_is_fatal((int)r) && !is_careful) {
			scan->careful_end = place + window;
			r = fill_window(scan, place, blocks);
		}
	}
	*ret_error = r < 0 && rebuild_is_fatal((int)r) ? (int)r : 0;
	if (r == 0 && place + blocks <= scan->window + scan->window_blocks)
		return scan->rebuild->buffer + (size_t)(place - scan->window) * BLOCK_BYTES;
	scan->content->unread += r < 0;
	return NULL;
}

/* A sound header in its place, of this pool and file; whatever group it is of. */
static bool is_of_file(const struct scan *scan, uint32_t slot,
		       const struct record_header_disk *header)
{
	const struct record_id id = {.pool = scan->file->pool};
	uint64_t file = le64toh(header->file), vdisk = le64toh(header->vdisk);
	uint32_t stream = le32toh(header->stream);

	return record_check(header, &id) == 0 && le32toh(header->slot) == slot &&
	       (file == 0 || file == scan->file->id) && vdisk > 0 && vdisk <= REBUILD_ID_MAX &&
	       le64toh(header->group) > 0 && le64toh(header->group) <= REBUILD_GROUP_MAX &&
	       (stream == RECORD_STREAM_LOG || stream == RECORD_STREAM_PAGES) &&
	       le64toh(header->lsn) > 0 && le64toh(header->lsn) <= REBUILD_ID_MAX &&
	       le64toh(header->epoch) <= REBUILD_ID_MAX &&
	       slot + 1 + record_payload_blocks(header) <= scan->slots;
}

static bool is_next(const struct scan *scan, uint32_t slot, const struct record_header_disk *header)
{
	const struct rebuild_content *content = scan->content;
	uint64_t lsn = le64toh(header->lsn), file = le64toh(header->file);

	if (scan->gap ? file != scan->file->id : file != (content->is_old ? 0 : scan->file->id))
		return false;
	return le64toh(header->vdisk) == content->vdisk &&
	       le64toh(header->group) == content->group &&
	       le64toh(header->epoch) == content->epoch &&
	       le32toh(header->stream) == content->stream && lsn > content->last_lsn &&
	       lsn - content->last_lsn <= (uint64_t)(slot - content->end) + 1;
}

/* Behind the file's first header, which is damaged. */
static bool agrees(const struct scan *scan, uint32_t slot, const struct record_header_disk *header)
{
	const struct record_header_disk *first = scan->first;
	uint64_t lsn = le64toh(header->lsn);

	return first && le64toh(header->file) == scan->file->id && header->vdisk == first->vdisk &&
	       header->group == first->group && header->epoch == first->epoch &&
	       header->stream == first->stream && lsn > le64toh(first->lsn) &&
	       lsn - le64toh(first->lsn) <= slot;
}

static bool is_record(const struct scan *scan, uint32_t slot,
		      const struct record_header_disk *header)
{
	if (!is_of_file(scan, slot, header))
		return false;
	if (scan->content->kind == REBUILD_PLAIN)
		return is_next(scan, slot, header);
	return slot == 0 || agrees(scan, slot, header);
}

/* A header that is not sound, but was one of this file at this slot by most of what it says. */
static bool was_record(const struct scan *scan, uint32_t slot,
		       const struct record_header_disk *header)
{
	const struct rebuild_content *content = scan->content;
	unsigned right = (le64toh(header->magic) == RECORD_MAGIC) +
			 (le32toh(header->version) == RECORD_VERSION) +
			 (le64toh(header->pool) == scan->file->pool) +
			 (le32toh(header->slot) == slot) +
			 (le64toh(header->file) == (content->is_old ? 0 : scan->file->id));

	if (content->kind != REBUILD_PLAIN)
		return right >= 4;
	right += (le64toh(header->vdisk) == content->vdisk) +
		 (le64toh(header->group) == content->group);
	return right >= 6;
}

static int take_vdisk(struct scan *scan, uint64_t id, struct rebuild_vdisk **ret_vdisk)
{
	int r = rebuild_vdisk_add(scan->rebuild, scan->file->pool, id, ret_vdisk);

	if (r == 0)
		(*ret_vdisk)->is_known = true;
	return r;
}

static int take_identity(struct scan *scan, const struct record_header_disk *header)
{
	uint64_t group = le64toh(header->group);
	struct rebuild_vdisk *vdisk;
	struct identity identity;
	int r = take_vdisk(scan, le64toh(header->vdisk), &vdisk);

	if (r < 0)
		return r;
	if (identity_decode(header->note, &identity) < 0 || identity.container > REBUILD_ID_MAX ||
	    (vdisk->identity && vdisk->identity_group >= group))
		return 0;
	if (!vdisk->identity)
		vdisk->identity = malloc(sizeof(identity));
	if (!vdisk->identity)
		return -ENOMEM;
	*vdisk->identity = identity;
	vdisk->identity_group = group;
	return 0;
}

/* The first record of the file that counts says whose it is. */
static int take_file(struct scan *scan, const struct record_header_disk *header)
{
	struct rebuild_content *content = scan->content;

	content->kind = REBUILD_PLAIN;
	content->vdisk = le64toh(header->vdisk);
	content->group = le64toh(header->group);
	content->epoch = le64toh(header->epoch);
	content->stream = le32toh(header->stream);
	content->is_old = header->file == 0;
	content->first_lsn = le64toh(header->lsn);
	content->is_damaged = false;
	return scan->is_second ? 0 : take_identity(scan, header);
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
	if (identity_decode(page->note, &identity) == 0 && identity.container <= REBUILD_ID_MAX) {
		root->identity = malloc(sizeof(identity));
		if (!root->identity)
			return -ENOMEM;
		*root->identity = identity;
	}
	rebuild->root_count++;
	return 0;
}

static bool is_level(const struct page_disk *page)
{
	return page->level < MAP_LEVELS_MAX;
}

/* A bad block where a page of the map was. 1: it was no root. */
static int note_trace(struct scan *scan, uint64_t vdisk, const void *block)
{
	const struct page_disk *page = block;
	struct rebuild_vdisk *of;
	int r;

	if (le32toh(page->magic) != PAGE_MAGIC || page->version != PAGE_VERSION ||
	    le64toh(page->vdisk) != vdisk || !is_level(page))
		return 0;
	if (!scan->is_second) {
		r = rebuild_vdisk_add(scan->rebuild, scan->file->pool, vdisk, &of);
		if (r < 0)
			return r;
		of->newest_lsn = MAX(of->newest_lsn, le64toh(page->lsn));
	}
	return page->level == 0 || page->index != 0;
}

static int note_page_group(struct rebuild *rebuild, uint64_t group)
{
	int r = rebuild_reserve((void **)&rebuild->page_groups, &rebuild->page_group_capacity,
				rebuild->page_group_count, sizeof(uint64_t));

	if (r == 0)
		rebuild->page_groups[rebuild->page_group_count++] = group;
	return r;
}

/* A block, as it was written, where pages of the map may be. */
static int note_page(struct scan *scan, uint64_t address, const void *block, uint32_t crc)
{
	const struct page_disk *page = block;
	uint64_t vdisk = scan->content->vdisk;
	const struct page_id id = {
		.vdisk = vdisk, .index = le64toh(page->index), .level = page->level};
	_cleanup_free_ struct map_entry *entries = NULL;
	struct rebuild_vdisk *of;
	int r;

	if (scan->is_second || le32toh(page->magic) != PAGE_MAGIC || !is_level(page))
		return 0;
	entries = malloc(MAP_FANOUT * sizeof(*entries));
	r = entries ? page_decode(page, &id, crc, entries) : -ENOMEM;
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	of = rebuild_vdisk_find(scan->rebuild, scan->file->pool, vdisk);
	of->newest_lsn = MAX(of->newest_lsn, le64toh(page->lsn));
	if (scan->content->kind == REBUILD_COMPACTED && scan->content->is_old) {
		r = note_page_group(scan->rebuild, address_group(address));
		if (r < 0)
			return r;
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

/* 1: it is bad. */
static int take_block(struct scan *scan, uint32_t slot, const char *block, uint32_t crc)
{
	struct rebuild_content *content = scan->content;
	bool is_page = content->stream == RECORD_STREAM_PAGES;
	int r = 0;

	if (block && crc32c(block, BLOCK_BYTES) == crc)
		return is_page ? note_page(scan, address_make(content->group, slot), block, crc)
			       : 0;
	if (block && is_page)
		r = note_trace(scan, content->vdisk, block);
	if (r == 0)
		content->last_bad = slot;
	return r < 0 ? r : 1;
}

/* Bad blocks of the payload, or an error. */
static int64_t take_payload(struct scan *scan, const struct record_header_disk *header,
			    uint32_t slot)
{
	uint32_t blocks = record_payload_blocks(header), bad = 0;
	const char *bytes, *block;
	int r = 0;

	bytes = blocks ? view(scan, slot + 1, blocks, &r) : NULL;
	for (uint32_t i = 0; r >= 0 && i < blocks; i++) {
		block = bytes ? bytes + (size_t)i * BLOCK_BYTES : view(scan, slot + 1 + i, 1, &r);
		if (r >= 0)
			r = take_block(scan, slot + 1 + i, block, le32toh(header->block_crcs[i]));
		bad += r == 1;
	}
	return r < 0 ? r : (int64_t)bad;
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
	content->durable_lsn =
		MAX(content->durable_lsn, MIN(le64toh(header->durable_lsn), lsn - 1));
	content->torn = 0;
	note_extents(content, header);
	content->end = slot + 1 + record_payload_blocks(header);
	if (scan->in_run) {
		content->run_lsn = lsn;
		content->run_end = content->end;
	}
	scan->gap = scan->trace_end = 0;
	return 1 + record_payload_blocks(header);
}

/* The file's first header, which is damaged: is the file of map pages, they are missed. */
static int take_damaged(struct scan *scan, const struct record_header_disk *header)
{
	struct rebuild_content *content = scan->content;

	content->is_damaged = true;
	scan->first = malloc(sizeof(*header));
	if (!scan->first)
		return -ENOMEM;
	memcpy(scan->first, header, sizeof(*header));
	if (le32toh(header->stream) == RECORD_STREAM_LOG)
		return 0;
	scan->trace_end = RECORD_BLOCKS_MAX + 1;
	content->lost_vdisk = le64toh(header->vdisk);
	content->lost_pages = le64toh(header->group);
	return 0;
}

/* A sound record of the file, which does not tell whose it is. No page of a map is where guests
 * write, so what was of pages is not hidden by what a guest makes up. */
static void note_found(struct scan *scan, const struct record_header_disk *header)
{
	struct rebuild_content *content = scan->content;
	enum record_stream stream = le32toh(header->stream);
	uint64_t lsn = le64toh(header->lsn), durable = le64toh(header->durable_lsn);

	if (scan->found == RECORD_STREAM_PAGES ||
	    (stream == RECORD_STREAM_LOG && scan->first && content->lost_pages))
		return;
	content->is_reused = false;
	if (scan->found != stream) {
		scan->found = stream;
		scan->found_lsn = lsn;
		content->lost_vdisk = le64toh(header->vdisk);
		content->lost_pages = stream == RECORD_STREAM_PAGES ? le64toh(header->group) : 0;
		content->lost_durable = 0;
	}
	if (stream == RECORD_STREAM_LOG && header->vdisk == htole64(content->lost_vdisk) &&
	    durable < lsn && durable + 1 >= scan->found_lsn)
		content->lost_durable = MAX(content->lost_durable, durable);
}

/* What is a page of a map by its looks, where the file's first record would have some, or in a file
 * of pages. */
static void note_possible_page(struct scan *scan, uint32_t slot, const void *block)
{
	const struct page_disk *page = block;
	uint64_t vdisk = le64toh(page->vdisk), lsn = le64toh(page->lsn);
	bool is_there = slot <= RECORD_BLOCKS_MAX || scan->found == RECORD_STREAM_PAGES;

	if (!is_there || scan->content->is_reused || le32toh(page->magic) != PAGE_MAGIC ||
	    page->version != PAGE_VERSION || !is_level(page) || vdisk == 0 ||
	    vdisk > REBUILD_ID_MAX || lsn > REBUILD_ID_MAX)
		return;
	if (!scan->trace_vdisk)
		scan->trace_vdisk = vdisk;
	if (vdisk == scan->trace_vdisk)
		scan->trace_lsn = MAX(scan->trace_lsn, lsn);
}

/* Not known whose, but of somebody: also what is damaged, or of programs that did not name files.
 */
static bool is_of_somebody(const struct scan *scan, const struct record_header_disk *header)
{
	const struct record_id id = {.pool = scan->file->pool};
	uint64_t file = le64toh(header->file);
	int r = record_check(header, &id);

	if (r == -EBADMSG)
		return file == scan->file->id && le64toh(header->pool) == scan->file->pool;
	return r == 0 && (file == 0 || file == scan->file->id);
}

static bool is_of_another(const struct scan *scan, const struct record_header_disk *header)
{
	const struct record_id any = {0};
	uint64_t file = le64toh(header->file);

	return record_check(header, &any) == 0 && file != 0 && file != scan->file->id;
}

static void look_for_lost(struct scan *scan, uint32_t slot, const struct record_header_disk *header)
{
	if (slot == 0)
		scan->content->is_reused |= is_of_another(scan, header);
	if (is_of_file(scan, slot, header) && le64toh(header->file) == scan->file->id)
		note_found(scan, header);
	else if (slot > 0)
		note_possible_page(scan, slot, header);
	scan->content->is_damaged |= is_of_somebody(scan, header);
}

/* All was looked at, and it is not known whose the file is. Its pages tell of a checkpoint, unless
 * it is of a log: what guests write may look like pages. */
static int note_missing(struct scan *scan)
{
	struct rebuild_content *content = scan->content;
	bool is_of_found =
		scan->found == RECORD_STREAM_PAGES && scan->trace_vdisk == content->lost_vdisk;
	struct rebuild_vdisk *vdisk;
	int r;

	if (!scan->trace_vdisk || (!is_of_found && (scan->found_lsn || scan->first)))
		return 0;
	content->is_damaged = true;
	content->lost_vdisk = scan->trace_vdisk;
	r = rebuild_vdisk_add(scan->rebuild, scan->file->pool, scan->trace_vdisk, &vdisk);
	if (r == 0)
		vdisk->newest_lsn = MAX(vdisk->newest_lsn, scan->trace_lsn);
	return r;
}

/* A block where a header should be, or behind such a one. NULL: the disk does not give it. */
static int pass_block(struct scan *scan, uint32_t slot, const struct record_header_disk *header)
{
	struct rebuild_content *content = scan->content;
	bool is_first = scan->gap++ == 0, was = !header || was_record(scan, slot, header);
	int r;

	if (header && content->kind != REBUILD_PLAIN)
		look_for_lost(scan, slot, header);
	if (is_first && header && was && content->kind != REBUILD_PLAIN)
		return take_damaged(scan, header);
	if (is_first && was && content->kind == REBUILD_PLAIN) {
		content->torn = slot;
		if (content->stream == RECORD_STREAM_PAGES)
			scan->trace_end = slot + 1 + RECORD_BLOCKS_MAX;
		return 0;
	}
	if (!header || slot >= scan->trace_end)
		return 0;
	r = note_trace(scan, scan->first ? content->lost_vdisk : content->vdisk, header);
	return MIN(r, 0);
}

/* Whether what is behind its first block can still be of the file, or tell of it. */
static bool goes_on(const struct scan *scan)
{
	return scan->content->kind == REBUILD_PLAIN || scan->first || !scan->is_second;
}

static int scan_plain(struct scan *scan)
{
	_cleanup_free_ struct record_header_disk *header = malloc(sizeof(*header));
	uint32_t slot = 0;
	int r;

	if (!header)
		return -ENOMEM;
	while (slot < scan->slots && (slot == 0 || goes_on(scan))) {
		const char *block = view(scan, slot, 1, &r);
		int64_t taken = 1;

		if (r < 0)
			return r;
		if (block)
			memcpy(header, block, sizeof(*header));
		if (block && is_record(scan, slot, header)) {
			taken = take_record(scan, slot, header);
		} else {
			r = pass_block(scan, slot, block ? header : NULL);
			if (r < 0)
				return r;
		}
		if (taken <= 0)
			return (int)taken;
		slot += (uint32_t)taken;
	}
	return scan->content->kind == REBUILD_PLAIN || scan->is_second ? 0 : note_missing(scan);
}

void rebuild_index_free(struct rebuild_index *index)
{
	if (index)
		free(index->memory);
	free(index);
}

DEFINE_CLEANUP(struct rebuild_index *, rebuild_index_free)

/* A header that is not right, but was of this file's index by most of what it says. */
static bool was_index(const struct scan *scan, const struct index_header_disk *header)
{
	uint32_t groups = le32toh(header->group_count), slots = le32toh(header->total_slots);
	bool is_possible = groups > 0 && groups <= INDEX_GROUPS_MAX && slots <= SLOTS_PER_GROUP;

	bool is_magic = le64toh(header->magic) == INDEX_MAGIC;
	bool is_pool = le64toh(header->pool) == scan->file->pool;
	bool is_file = le64toh(header->file) == scan->file->id;

	is_possible = is_possible && index_blocks(groups, slots) == le32toh(header->index_blocks);
	return (is_magic && is_pool && is_file) ||
	       is_magic + is_pool + is_file + is_possible +
			       (le32toh(header->version) == INDEX_VERSION) >=
		       4;
}

/* Those of the groups that it may have had map pages of, as far as it can still be read. */
static void take_damaged_index(struct scan *scan, const void *memory, size_t bytes)
{
	struct rebuild_content *content = scan->content;
	const struct index_header_disk *header = memory;
	const struct index_group_disk *groups = (const void *)(header + 1);
	size_t count = MIN((size_t)le32toh(header->group_count),
			   (bytes - sizeof(*header)) / sizeof(*groups));

	content->is_damaged = true;
	content->lost_vdisk = le64toh(header->vdisk);
	if (header->page_groups)
		count = MIN(count, (size_t)le32toh(header->page_groups) - 1);
	for (size_t i = 0; i < count; i++)
		if (le64toh(groups[i].group) <= REBUILD_GROUP_MAX)
			content->lost_pages = MAX(content->lost_pages, le64toh(groups[i].group));
}

/* What a reused file has of an earlier life, as long as nothing was written to it. */
static bool is_index_of_another(struct scan *scan, const struct rebuild_index *index,
				uint32_t blocks)
{
	const struct index_header_disk *header = index->memory;
	const struct index_id id = {.pool = scan->file->pool,
				    .vdisk = le64toh(header->vdisk),
				    .file = le64toh(header->file)};
	struct index_view view;

	if (id.file == scan->file->id || index_check(header, blocks, &id, &view) < 0)
		return false;
	*scan->content = (struct rebuild_content){.is_damaged = true, .is_reused = true};
	return true;
}

/* -ENODATA: there is none; -EUCLEAN: there was one. */
static int read_index(struct scan *scan, struct rebuild_index *index)
{
	_cleanup_free_ struct index_header_disk *first = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	struct index_id id = {.pool = scan->file->pool, .file = scan->file->id};
	uint32_t blocks;
	int r = first ? io_read_exactly(scan->handle, first, BLOCK_BYTES, 0) : -ENOMEM;

	if (r < 0)
		return r;
	blocks = le32toh(first->index_blocks);
	id.vdisk = le64toh(first->vdisk);
	if (!was_index(scan, first))
		return -ENODATA;
	take_damaged_index(scan, first, BLOCK_BYTES); /* unless it turns out to be right */
	if (blocks == 0 || blocks > scan->slots || id.vdisk == 0 || id.vdisk > REBUILD_ID_MAX)
		return -EUCLEAN;
	index->memory = aligned_alloc(BLOCK_BYTES, (size_t)blocks * BLOCK_BYTES);
	if (!index->memory)
		return -ENOMEM;
	r = io_read_exactly(scan->handle, index->memory, (size_t)blocks * BLOCK_BYTES, 0);
	if (r < 0)
		return r;
	take_damaged_index(scan, index->memory, (size_t)blocks * BLOCK_BYTES);
	r = index_check(index->memory, blocks, &id, &index->view);
	return r == -EUCLEAN && is_index_of_another(scan, index, blocks) ? -ENODATA : r;
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
	uint32_t crc = le32toh(index->crcs[position]), slot = le16toh(index->slots[position]);
	int r;
	const char *block = view(scan, content->index_blocks + position, 1, &r);

	if (r < 0)
		return r;
	if (!block || crc32c(block, BLOCK_BYTES) != crc) {
		content->bad++;
		/* Where it is not known which groups are of pages, a guest may have written it. */
		if (block && group && index->streams_known)
			r = note_trace(scan, content->vdisk, block);
		if (r == 0 && group) {
			content->last_bad = slot;
			content->last_bad_group = le64toh(group->group);
		}
		return MIN(r, 0);
	}
	if (!group || le64toh(group->group) > REBUILD_GROUP_MAX)
		return 0;
	return note_page(scan, address_make(le64toh(group->group), slot), block, crc);
}

/* -ENODATA: it has no index that is whole and its own. */
static int scan_compacted(struct scan *scan, struct rebuild_copy *copy)
{
	struct rebuild_content *content = scan->content;
	_cleanup_(rebuild_index_freep) struct rebuild_index *index = calloc(1, sizeof(*index));
	const struct index_header_disk *header;
	struct rebuild_vdisk *vdisk;
	uint32_t group_at = 0;
	int r = index ? read_index(scan, index) : -ENOMEM;

	if (r < 0 && r != -ENODATA && r != -EUCLEAN && !rebuild_is_fatal(r))
		content->unread++;
	if (r < 0)
		return rebuild_is_fatal(r) ? r : -ENODATA;
	header = index->memory;
	r = take_vdisk(scan, le64toh(header->vdisk), &vdisk);
	if (r < 0)
		return r;
	*content = (struct rebuild_content){.kind = REBUILD_COMPACTED,
					    .vdisk = vdisk->id,
					    .is_old = !index->view.streams_known,
					    .index_blocks = le32toh(header->index_blocks),
					    .total_slots = index->view.total_slots};
	for (uint32_t i = 0; r == 0 && i < content->total_slots; i++)
		r = take_stored(scan, &index->view, i, &group_at);
	if (r == 0)
		copy->index = TAKE_PTR(index);
	return r;
}

static int run(struct scan *scan, struct rebuild_copy *copy)
{
	int r = scan->is_second ? -ENODATA : scan_compacted(scan, copy);

	if (r != -ENODATA || (scan->content->is_damaged && !scan->content->is_reused))
		return r == -ENODATA ? 0 : r;
	scan->slots = MIN(scan->slots, SLOTS_PER_GROUP);
	return scan_plain(scan);
}

static int scan_copy(struct rebuild *rebuild, struct rebuild_file *file, unsigned copy,
		     uint64_t limit_lsn)
{
	struct rebuild_copy *of = &file->copies[copy];
	struct scan scan = {.rebuild = rebuild,
			    .file = file,
			    .content = &of->content,
			    .limit_lsn = limit_lsn,
			    .is_second = limit_lsn != UINT64_MAX,
			    .slots = (uint32_t)(of->size_bytes / BLOCK_BYTES)};
	int r = scan.is_second ? 0 : of->error;

	of->content = (struct rebuild_content){0};
	if (r == 0)
		r = rebuild_file_open(rebuild, file, copy, &scan.handle);
	if (r == 0) {
		r = run(&scan, of);
		(void)io_close(scan.handle); /* was only read */
	}
	free(scan.first);
	return r;
}

int rebuild_scan(struct rebuild *rebuild, struct rebuild_file *file, unsigned copy)
{
	int r = scan_copy(rebuild, file, copy, UINT64_MAX);

	file->copies[copy].vdisk = file->copies[copy].content.vdisk;
	return r;
}

int rebuild_scan_cut(struct rebuild *rebuild, struct rebuild_file *file, unsigned copy,
		     uint64_t limit_lsn)
{
	uint32_t unread = file->copies[copy].content.unread;
	int r = scan_copy(rebuild, file, copy, limit_lsn);

	/* Less than before must not look like less there. */
	return r == 0 && file->copies[copy].content.unread > unread ? -EIO : r;
}
