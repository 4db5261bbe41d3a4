/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that a file stores, read from each of its copies, each block held against the checksum
 * that it was written with.
 *
 * A group that was sealed by a checkpoint has a known end: up to there it is records without a gap.
 * Of others (of the log's end, of page groups that a crash left) it is not known where the records
 * end; what is behind the first that is not one may be anything, and is judged by who names it: the
 * map, or the log's end (fsck_tail.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "egroup/index.h"
#include "fsck/fsck_priv.h"
#include "reactor/io.h"

static size_t bitmap_bytes(uint32_t slots)
{
	return DIV_ROUND_UP(slots, 64u) * sizeof(uint64_t);
}

static uint32_t slots_of(const struct fsck_group *group)
{
	if (group->row.compacted)
		return SLOTS_PER_GROUP;
	if (group->row.sealed)
		return group->row.slots;
	return (uint32_t)MIN(group->file->row.size_bytes / BLOCK_BYTES, (uint64_t)SLOTS_PER_GROUP);
}

void fsck_content_free(struct fsck_group *group)
{
	struct fsck_content *content = group->content;

	if (!content)
		return;
	free(content->crcs);
	free(content->known);
	free(content);
	group->content = NULL;
}

int fsck_content_new(struct fsck_group *group)
{
	uint32_t slots = slots_of(group);
	size_t bytes = bitmap_bytes(slots);
	struct fsck_content *content = calloc(1, sizeof(*content));

	if (!content)
		return -ENOMEM;
	group->content = content;
	content->slots = slots;
	content->crcs = calloc(slots + 1u, sizeof(*content->crcs));
	content->known = calloc(4, bytes + sizeof(uint64_t)); /* the four sets in one piece */
	if (!content->crcs || !content->known)
		return -ENOMEM;
	content->proven = content->known + bytes / sizeof(uint64_t);
	content->bad = content->proven + bytes / sizeof(uint64_t);
	content->named = content->bad + bytes / sizeof(uint64_t);
	return 0;
}

/* One copy of a file while it is read. */
struct scan {
	struct fsck *fsck;
	struct fsck_file *file;
	struct fsck_group *group; /* of a plain file */
	unsigned copy;
	struct world_file *handle;
	struct record_header_disk *header; /* of the record that is gone through */
	uint32_t payload, payload_count;   /* blocks of it done, and in all */
	uint32_t end;                      /* in slots */
	bool end_known, in_records;
	uint64_t next_lsn; /* 0: not known */
};

static void describe(const struct scan *scan, uint64_t group, uint32_t slot,
		     char object[FSCK_OBJECT_MAX])
{
	const struct fsck_disk *disk = fsck_disk_of(scan->fsck, scan->file, scan->copy);

	snprintf(object, FSCK_OBJECT_MAX,
		 "vDisk %" PRIu64 ", group %" PRIu64 " slot %" PRIu32 ", file %016" PRIx64
		 " on disk %" PRIu64,
		 scan->file->vdisk, group, slot, scan->file->row.id, disk->id);
}

/* What was read of a slot: the copy that proves right counts. */
static void note_block(struct fsck_content *content, uint32_t slot, uint32_t crc,
		       const uint32_t *expected)
{
	bool right = expected && *expected == crc;

	if (!fsck_bit(content->known, slot) || (right && !fsck_bit(content->proven, slot)))
		content->crcs[slot] = crc;
	fsck_bit_set(content->known, slot);
	if (right)
		fsck_bit_set(content->proven, slot);
}

static void bad_block(struct scan *scan, struct fsck_content *content, uint64_t group,
		      uint32_t slot)
{
	char object[FSCK_OBJECT_MAX];

	fsck_bit_set(content->bad, slot);
	if (scan->copy == 0 && scan->file->row.copies.count == 1)
		return; /* told once it is known whether somebody needs it */
	describe(scan, group, slot, object);
	fsck_find(scan->fsck, FSCK_COPY, object, "the block does not match its checksum");
}

static void bad_header(struct scan *scan, uint32_t slot, const char *what)
{
	char object[FSCK_OBJECT_MAX];

	scan->in_records = false;
	scan->next_lsn = 0;
	if (!scan->end_known)
		return;
	describe(scan, scan->group->row.id, slot, object);
	fsck_find(scan->fsck, FSCK_HEADER, object, "%s", what);
}

/* A sound header must also be the next one. */
static const char *header_fault(const struct scan *scan, const struct record_header_disk *header,
				uint32_t slot)
{
	uint64_t lsn = le64toh(header->lsn);

	if (le64toh(header->epoch) != scan->group->row.epoch)
		return "the record is of another epoch than its group";
	if (slot + 1 + record_payload_blocks(header) > scan->end)
		return "the record is longer than its group";
	if (scan->next_lsn && lsn != scan->next_lsn &&
	    scan->group->row.stream == RECORD_STREAM_LOG)
		return "the record is not the one after the last";
	if (scan->group->row.last_lsn && lsn > scan->group->row.last_lsn)
		return "the record comes after the last that the group's row knows";
	return NULL;
}

static void take_header(struct scan *scan, uint32_t slot, const void *block)
{
	const struct record_header_disk *header = block;
	const struct record_id id = {.pool = scan->file->pool,
				     .vdisk = scan->file->vdisk,
				     .group = scan->group->row.id,
				     .slot = slot,
				     .stream = scan->group->row.stream};
	const char *fault;

	if (record_check(header, &id) < 0) {
		if (scan->in_records)
			bad_header(scan, slot, "no sound header of a record is here");
		return;
	}
	fault = header_fault(scan, header, slot);
	if (fault)
		bad_header(scan, slot, fault);
	memcpy(scan->header, header, sizeof(*header));
	scan->payload = 0;
	scan->payload_count = MIN(record_payload_blocks(header), scan->end - slot - 1);
	scan->in_records = true;
	scan->next_lsn = le64toh(header->lsn) + 1;
	fsck_bit_set(scan->group->content->proven, slot);
}

static void take_block(struct scan *scan, uint32_t slot, const void *block)
{
	struct fsck_content *content = scan->group->content;
	uint32_t crc = crc32c(block, BLOCK_BYTES), expected;

	if (scan->payload == scan->payload_count) {
		note_block(content, slot, crc, NULL);
		take_header(scan, slot, block);
		return;
	}
	expected = le32toh(scan->header->block_crcs[scan->payload++]);
	note_block(content, slot, crc, &expected);
	if (crc != expected && scan->end_known)
		bad_block(scan, content, scan->group->row.id, slot);
}

/* Blocks from `place` of the file on into the buffer; fewer where the disk does not give them. */
static int read_blocks(struct scan *scan, uint64_t place, uint32_t count, uint32_t *ret_got)
{
	struct fsck *fsck = scan->fsck;
	char object[FSCK_OBJECT_MAX];
	int64_t got = io_read(scan->handle, fsck->buffer, (size_t)count * BLOCK_BYTES,
			      place * BLOCK_BYTES);

	if (got == -ESHUTDOWN || got == -ENOMEM)
		return (int)got;
	*ret_got = got < 0 ? 0 : (uint32_t)(got / BLOCK_BYTES);
	/* Where a run of blocks cannot be read, some of it may. */
	if (got < 0 && count > 1)
		return read_blocks(scan, place, 1, ret_got);
	if (*ret_got == 0) {
		describe(scan, scan->group ? scan->group->row.id : 0, (uint32_t)place, object);
		fsck_find(fsck, FSCK_READ, object, "block %" PRIu64 " of the file: %s", place,
			  got < 0 ? strerror((int)-got) : "the file ends before");
	}
	return fsck_progress(fsck, (uint64_t)*ret_got * BLOCK_BYTES);
}

static int scan_plain(struct scan *scan)
{
	const struct egroup_group_row *row = &scan->group->row;
	uint32_t got = 0;
	int r = 0;

	scan->end = scan->group->content->slots;
	scan->end_known = row->sealed && row->last_lsn > 0;
	scan->in_records = true;
	for (uint32_t slot = 0; r == 0 && slot < scan->end; slot += MAX(got, 1u)) {
		uint32_t count = MIN(FSCK_WINDOW_BLOCKS, scan->end - slot);

		r = read_blocks(scan, slot, count, &got);
		for (uint32_t i = 0; r == 0 && i < got; i++)
			take_block(scan, slot + i,
				   scan->fsck->buffer + (size_t)i * BLOCK_BYTES);
		if (got > 0)
			continue;
		if (scan->payload < scan->payload_count)
			scan->payload++;
		else
			scan->in_records = false;
	}
	return r;
}

/* The index, checked, in memory of the caller's. */
static int read_index(struct scan *scan, void **ret_memory, struct index_view *ret_view)
{
	uint32_t blocks = scan->file->row.index_blocks;
	_cleanup_free_ void *memory = aligned_alloc(BLOCK_BYTES, (size_t)blocks * BLOCK_BYTES);
	const struct index_id id = {.pool = scan->file->pool,
				    .vdisk = scan->file->vdisk,
				    .file = scan->file->row.id};
	int r = -ENOMEM;

	if (memory)
		r = io_read_exactly(scan->handle, memory, (size_t)blocks * BLOCK_BYTES, 0);
	if (r == 0)
		r = index_check(memory, blocks, &id, ret_view);
	if (r == 0 && ret_view->total_slots != scan->file->row.total_slots)
		r = -EUCLEAN;
	if (r == 0)
		*ret_memory = TAKE_PTR(memory);
	return r;
}

static int take_stored(struct fsck_group *group, const struct index_view *view)
{
	uint32_t base = group->row.base, count = group->row.stored_count;

	for (uint32_t i = 0; i < view->group_count; i++)
		if (le64toh(view->groups[i].group) == group->row.id &&
		    le32toh(view->groups[i].base) == base &&
		    le32toh(view->groups[i].count) == count) {
			if (!group->stored)
				group->stored = calloc(count + 1u, sizeof(*group->stored));
			if (!group->stored)
				return -ENOMEM;
			for (uint32_t n = 0; n < count; n++)
				group->stored[n] = le16toh(view->slots[base + n]);
			return 0;
		}
	return -EUCLEAN;
}

static int take_index(struct scan *scan, const struct index_view *view)
{
	int r = 0;

	for (struct fsck_group *group = scan->file->group; r == 0 && group; group = group->next)
		r = take_stored(group, view);
	return r;
}

static void bad_index(struct scan *scan, int error)
{
	char object[FSCK_OBJECT_MAX];

	snprintf(object, sizeof(object), "vDisk %" PRIu64 ", file %016" PRIx64 " on disk %" PRIu64,
		 scan->file->vdisk, scan->file->row.id,
		 fsck_disk_of(scan->fsck, scan->file, scan->copy)->id);
	if (error == -EUCLEAN || error == -ENODATA)
		fsck_find(scan->fsck, FSCK_INDEX, object,
			  "the index of the compacted file is damaged");
	else
		fsck_find(scan->fsck, FSCK_READ, object, "the index cannot be read: %s",
			  strerror(-error));
}

static struct fsck_group *group_at(const struct scan *scan, uint32_t place)
{
	struct fsck_group *group = scan->file->group;

	while (group && (place < group->row.base ||
			 place >= group->row.base + group->row.stored_count))
		group = group->next;
	return group;
}

static void take_stored_block(struct scan *scan, uint32_t place, const void *block,
			      uint32_t expected)
{
	struct fsck_group *group = scan->group;
	uint32_t crc = crc32c(block, BLOCK_BYTES), slot;

	if (!group || place < group->row.base ||
	    place >= group->row.base + group->row.stored_count)
		group = scan->group = group_at(scan, place);
	if (!group) /* of one that was dropped since */
		return;
	slot = group->stored[place - group->row.base];
	note_block(group->content, slot, crc, &expected);
	if (crc != expected)
		bad_block(scan, group->content, group->row.id, slot);
}

static int scan_compacted(struct scan *scan)
{
	_cleanup_free_ void *memory = NULL;
	struct index_view view;
	uint32_t first = scan->file->row.index_blocks, got = 0;
	int r = read_index(scan, &memory, &view);

	if (r == 0)
		r = take_index(scan, &view);
	if (r < 0 && r != -ESHUTDOWN && r != -ENOMEM) {
		bad_index(scan, r);
		return 0;
	}
	scan->group = NULL;
	for (uint32_t at = 0; r == 0 && at < view.total_slots; at += MAX(got, 1u)) {
		r = read_blocks(scan, first + at, MIN(FSCK_WINDOW_BLOCKS, view.total_slots - at),
				&got);
		for (uint32_t i = 0; r == 0 && i < got; i++)
			take_stored_block(scan, at + i,
					  scan->fsck->buffer + (size_t)i * BLOCK_BYTES,
					  le32toh(view.crcs[at + i]));
	}
	return r;
}

/* Runs fn over each copy that is there. */
static int each_copy(struct scan *scan, int (*fn)(struct scan *scan))
{
	unsigned copies = fsck_file_copies(scan->fsck, scan->file);
	int r = 0;

	for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++) {
		if (!(copies >> copy & 1))
			continue;
		scan->copy = copy;
		scan->payload = scan->payload_count = 0;
		scan->next_lsn = 0;
		scan->group = scan->file->group;
		r = fsck_file_open(scan->fsck, scan->file, copy, &scan->handle);
		if (r == 0) {
			r = fn(scan);
			(void)io_close(scan->handle); /* was only read */
		} else if (r != -ESHUTDOWN && r != -ENOMEM) {
			bad_index(scan, r);
			r = 0;
		}
	}
	return r;
}

int fsck_file_scan(struct fsck *fsck, struct fsck_file *file)
{
	_cleanup_free_ struct record_header_disk *header =
		aligned_alloc(BLOCK_BYTES, sizeof(*header));
	struct scan scan = {
		.fsck = fsck, .file = file, .header = header};

	if (!header)
		return -ENOMEM;
	if (!file->group)
		return 0;
	return each_copy(&scan, file->row.compacted ? scan_compacted : scan_plain);
}

static int load_index(struct scan *scan)
{
	_cleanup_free_ void *memory = NULL;
	struct index_view view;
	int r = read_index(scan, &memory, &view);

	if (r == 0)
		r = take_index(scan, &view);
	return r == -ESHUTDOWN || r == -ENOMEM ? r : 0; /* the scan tells */
}

int fsck_index_load(struct fsck *fsck, struct fsck_file *file)
{
	struct scan scan = {.fsck = fsck, .file = file};

	return each_copy(&scan, load_index);
}

/* What a damaged header described, and no map names: of it nothing can be said. */
static uint32_t unproven_run(const struct fsck_group *group, uint32_t slot)
{
	const struct fsck_content *content = group->content;
	uint32_t end = slot;

	if (group->row.compacted || !group->row.sealed || group->row.last_lsn == 0)
		return 0;
	while (end < content->slots && fsck_bit(content->known, end) &&
	       !fsck_bit(content->proven, end) && !fsck_bit(content->bad, end) &&
	       !fsck_bit(content->named, end))
		end++;
	return end - slot;
}

static void group_unused(struct fsck *fsck, struct fsck_file *file, const struct fsck_group *group)
{
	const struct fsck_content *content = group->content;
	const struct scan scan = {.fsck = fsck, .file = file};
	char object[FSCK_OBJECT_MAX];
	uint32_t run;

	for (uint32_t slot = 0; slot < content->slots; slot += MAX(run, 1u)) {
		run = unproven_run(group, slot);
		if (run == 0 &&
		    (!fsck_bit(content->bad, slot) || fsck_bit(content->named, slot)))
			continue;
		describe(&scan, group->row.id, slot, object);
		if (run > 0)
			fsck_find(fsck, FSCK_BLOCK_UNUSED, object,
				  "%" PRIu32 " blocks from there on are proven by no record; the "
				  "map does not name them",
				  run);
		else
			fsck_find(fsck, FSCK_BLOCK_UNUSED, object,
				  "the block does not match its checksum; the map does not name "
				  "it");
	}
}

void fsck_file_unused(struct fsck *fsck, struct fsck_file *file)
{
	if (file->row.copies.count > 1)
		return; /* each copy's were told */
	for (struct fsck_group *group = file->group; group; group = group->next)
		if (group->content)
			group_unused(fsck, file, group);
}
