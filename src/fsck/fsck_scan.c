/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that a file stores, read from all of its copies side by side, each block held against
 * the checksum that it was written with.
 *
 * A group that was sealed by a checkpoint has a known end: up to there it is records without a gap,
 * and each record is where any copy has it whole. So it is in the group that the log goes on in, up
 * to where that is. A header that is sound, but not that of the next record of the group, proves
 * nothing of what is there: it may be what a copy has instead. Of others (of the log's end, of page
 * groups that a crash left) it is not known where the records end; what is there may be anything,
 * may differ from copy to copy, and is judged by who names it: the map, or the log's end
 * (fsck_tail.c).
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

struct scan {
	struct fsck *fsck;
	struct fsck_file *file;
	struct fsck_group *group; /* of a plain file; of a compacted one the last that was met */
	unsigned copies;          /* bits: those that are open */
	struct world_file *handles[POOL_COPIES_MAX];
	uint64_t valid[POOL_COPIES_MAX][FSCK_WINDOW_BLOCKS / 64]; /* blocks of the window */
	struct record_header_disk *header; /* of the record that is gone through */
	uint32_t payload, payload_count;   /* blocks of it done, and in all */
	uint32_t end;                      /* in slots */
	uint32_t sure;                     /* up to there it is records without a gap */
	bool in_records, ends_early;
	bool in_doubt;     /* the header is sound, but not the one that should be here */
	uint64_t next_lsn; /* 0: not known */
};

static bool is_fatal(int64_t r)
{
	return r == -ESHUTDOWN || r == -ENOMEM || r == -ECANCELED;
}

static char *window_of(const struct scan *scan, unsigned copy)
{
	return scan->fsck->buffer + copy * FSCK_WINDOW_BYTES;
}

static const void *block_of(const struct scan *scan, unsigned copy, uint32_t at)
{
	return window_of(scan, copy) + (size_t)at * BLOCK_BYTES;
}

static bool is_read(const struct scan *scan, unsigned copy, uint32_t at)
{
	return scan->copies >> copy & 1 && fsck_bit(scan->valid[copy], at);
}

static void describe(const struct scan *scan, uint64_t group, uint32_t slot,
		     char object[FSCK_OBJECT_MAX])
{
	bool single = scan->file->row.copies.count == 1;

	fsck_slot_object(scan->file, group, slot,
			 single ? fsck_disk_of(scan->fsck, scan->file, 0)->id : 0, object);
}

static void bad_header(struct scan *scan, uint32_t slot, const char *what)
{
	char object[FSCK_OBJECT_MAX];

	scan->in_records = false;
	scan->next_lsn = 0;
	if (slot >= scan->sure)
		return;
	describe(scan, scan->group->row.id, slot, object);
	fsck_find(scan->fsck, FSCK_HEADER, object, "%s", what);
	scan->file->damaged = true;
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
	if (scan->next_lsn && lsn != scan->next_lsn && scan->group->row.stream == RECORD_STREAM_LOG)
		return "the record is not the one after the last";
	if (scan->group->row.last_lsn && lsn > scan->group->row.last_lsn)
		return "the record comes after the last that the group's row knows";
	return NULL;
}

static bool is_newer(const struct record_header_disk *a, const struct record_header_disk *b)
{
	if (a->lsn != b->lsn)
		return le64toh(a->lsn) > le64toh(b->lsn);
	return le64toh(a->durable_lsn) > le64toh(b->durable_lsn);
}

/* The header that counts: a sound one, without fault where there is one, else the newest. */
static const struct record_header_disk *choose_header(const struct scan *scan, uint32_t slot,
						      uint32_t at, const char **ret_fault)
{
	const struct record_id id = {.pool = scan->file->pool,
				     .vdisk = scan->file->vdisk,
				     .group = scan->group->row.id,
				     .slot = slot,
				     .stream = scan->group->row.stream};
	const struct record_header_disk *best = NULL;

	*ret_fault = NULL;
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		const struct record_header_disk *header = block_of(scan, copy, at);
		const char *fault;

		if (!is_read(scan, copy, at) || record_check(header, &id) < 0)
			continue;
		fault = header_fault(scan, header, slot);
		if (!best || (*ret_fault && !fault) ||
		    (!*ret_fault == !fault && is_newer(header, best))) {
			best = header;
			*ret_fault = fault;
		}
	}
	return best;
}

static int take_header(struct scan *scan, uint32_t at, const struct fsck_slot *slot)
{
	const char *fault;
	const struct record_header_disk *header = choose_header(scan, slot->slot, at, &fault);

	if (!header) {
		if (scan->in_records)
			bad_header(scan, slot->slot, "no sound header of a record is here");
		return fsck_content_note(scan->group->content, slot);
	}
	scan->in_doubt = fault != NULL;
	if (fault)
		bad_header(scan, slot->slot, fault);
	memcpy(scan->header, header, sizeof(*header));
	scan->payload = 0;
	scan->payload_count = MIN(record_payload_blocks(header), scan->end - slot->slot - 1);
	scan->in_records = true;
	scan->next_lsn = fault ? 0 : le64toh(header->lsn) + 1;
	if (slot->slot >= scan->sure || scan->in_doubt)
		return fsck_content_note(scan->group->content, slot);
	fsck_content_expect(scan->group->content, slot, crc32c(header, BLOCK_BYTES));
	return 0;
}

static int take_payload(struct scan *scan, const struct fsck_slot *slot)
{
	uint32_t expected = le32toh(scan->header->block_crcs[scan->payload++]);

	if (slot->slot >= scan->sure || scan->in_doubt)
		return fsck_content_note(scan->group->content, slot);
	if (!fsck_content_expect(scan->group->content, slot, expected))
		scan->file->damaged = true;
	return 0;
}

/* Block `at` of the window as each copy has it. */
static void view_slot(const struct scan *scan, uint32_t at, uint32_t slot, struct fsck_slot *ret)
{
	*ret = (struct fsck_slot){.slot = slot, .count = scan->file->row.copies.count};
	for (unsigned copy = 0; copy < ret->count; copy++)
		if (is_read(scan, copy, at)) {
			ret->crcs[copy] = crc32c(block_of(scan, copy, at), BLOCK_BYTES);
			ret->read |= 1u << copy;
		}
}

static int take_block(struct scan *scan, uint32_t at, uint32_t number)
{
	struct fsck_slot slot;

	view_slot(scan, at, number, &slot);
	if (slot.read && scan->payload == scan->payload_count)
		return take_header(scan, at, &slot);
	if (slot.read)
		return take_payload(scan, &slot);
	if (scan->payload < scan->payload_count)
		scan->payload++;
	else
		scan->in_records = false;
	return 0;
}

/* One copy's part of a window. What a run of blocks does not give, single ones may. */
static int read_copy(struct scan *scan, unsigned copy, uint64_t place, uint32_t count)
{
	int64_t got = io_read(scan->handles[copy], window_of(scan, copy),
			      (size_t)count * BLOCK_BYTES, place * BLOCK_BYTES);
	bool whole = got >= 0;

	memset(scan->valid[copy], 0, sizeof(scan->valid[copy]));
	for (uint32_t i = 0; whole && i < (uint64_t)got / BLOCK_BYTES; i++)
		fsck_bit_set(scan->valid[copy], i);
	for (uint32_t i = 0; !whole && !is_fatal(got) && i < count; i++) {
		got = io_read(scan->handles[copy], window_of(scan, copy) + (size_t)i * BLOCK_BYTES,
			      BLOCK_BYTES, (place + i) * BLOCK_BYTES);
		if (got == BLOCK_BYTES)
			fsck_bit_set(scan->valid[copy], i);
		else if (got < 0 && !scan->file->read_errors[copy])
			scan->file->read_errors[copy] = (int)got;
	}
	if (is_fatal(got))
		return (int)got;
	return fsck_progress(scan->fsck, (uint64_t)count * BLOCK_BYTES);
}

static bool any_read(const struct scan *scan, uint32_t at)
{
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (is_read(scan, copy, at))
			return true;
	return false;
}

static int read_error(const struct scan *scan)
{
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (scan->file->read_errors[copy])
			return scan->file->read_errors[copy];
	return 0;
}

/* Blocks that no copy gives. A file that a crash left when it was new ends anywhere. */
static void tell_unread(struct scan *scan, uint64_t place, uint32_t count)
{
	int error = read_error(scan);
	char object[FSCK_OBJECT_MAX];

	for (uint32_t i = 0; i < count && !scan->ends_early; i++) {
		if (any_read(scan, i) ||
		    (!error && !scan->file->row.compacted && place + i >= scan->sure))
			continue;
		scan->file->damaged = true;
		scan->ends_early = !error; /* told once */
		describe(scan, scan->group ? scan->group->row.id : 0, (uint32_t)place + i, object);
		fsck_find(scan->fsck, FSCK_READ, object, "block %" PRIu64 " of the file: %s",
			  place + i, error ? strerror(-error) : "the file ends before");
	}
}

static int read_window(struct scan *scan, uint64_t place, uint32_t count)
{
	int r = 0;

	for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++)
		if (scan->copies >> copy & 1)
			r = read_copy(scan, copy, place, count);
	if (r == 0)
		tell_unread(scan, place, count);
	return r;
}

static uint32_t sure_slots(const struct scan *scan)
{
	const struct fsck_vdisk *vdisk = fsck_vdisk_find(scan->fsck, scan->file->vdisk);
	const struct egroup_group_row *row = &scan->group->row;

	if (row->sealed)
		return row->last_lsn > 0 ? scan->end : 0;
	if (row->stream == RECORD_STREAM_LOG && vdisk && vdisk->row.log_group == row->id)
		return MIN(vdisk->row.log_slot, scan->end);
	return 0;
}

static int scan_plain(struct scan *scan)
{
	uint32_t count;
	int r = 0;

	scan->group = scan->file->group;
	scan->end = scan->group->content->slots;
	scan->sure = sure_slots(scan);
	scan->in_records = true;
	for (uint32_t slot = 0; r == 0 && slot < scan->end; slot += count) {
		count = MIN(FSCK_WINDOW_BLOCKS, scan->end - slot);
		r = read_window(scan, slot, count);
		for (uint32_t i = 0; r == 0 && i < count; i++)
			r = take_block(scan, i, slot + i);
	}
	return r;
}

/* A copy's index, checked, in memory of the caller's. */
static int read_index(struct scan *scan, unsigned copy, void **ret_memory,
		      struct index_view *ret_view)
{
	uint32_t blocks = scan->file->row.index_blocks;
	_cleanup_free_ void *memory = aligned_alloc(BLOCK_BYTES, (size_t)blocks * BLOCK_BYTES);
	const struct index_id id = {
		.pool = scan->file->pool, .vdisk = scan->file->vdisk, .file = scan->file->row.id};
	int r = -ENOMEM;

	if (memory)
		r = io_read_exactly(scan->handles[copy], memory, (size_t)blocks * BLOCK_BYTES, 0);
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

/* From the first copy that has an index which is sound and agrees with the rows. Others whose
 * index is another one, or none, are noted. */
static int choose_index(struct scan *scan, void **ret_memory, struct index_view *ret_view)
{
	_cleanup_free_ void *chosen = NULL;
	size_t length = (size_t)scan->file->row.index_blocks * BLOCK_BYTES;
	int error = -ENODATA;

	scan->file->wrong_index = 0;
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		_cleanup_free_ void *memory = NULL;
		struct index_view view;
		int r;

		if (!(scan->copies >> copy & 1))
			continue;
		r = read_index(scan, copy, &memory, &view);
		if (r == 0 && !chosen)
			r = take_index(scan, &view);
		if (is_fatal(r))
			return r;
		if (r < 0 || (chosen && memcmp(chosen, memory, length) != 0)) {
			scan->file->wrong_index |= 1u << copy;
			error = r < 0 ? r : error;
		} else if (!chosen) {
			chosen = TAKE_PTR(memory);
			*ret_view = view;
		}
	}
	if (!chosen)
		return error;
	*ret_memory = TAKE_PTR(chosen);
	return 0;
}

static void bad_index(struct scan *scan, int error)
{
	bool single = scan->file->row.copies.count == 1;
	char object[FSCK_OBJECT_MAX];

	scan->file->damaged = true;
	scan->file->wrong_index = 0; /* none is right */
	fsck_file_object(scan->file, single ? fsck_disk_of(scan->fsck, scan->file, 0)->id : 0,
			 object);
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

	while (group &&
	       (place < group->row.base || place >= group->row.base + group->row.stored_count))
		group = group->next;
	return group;
}

static void take_stored_block(struct scan *scan, uint32_t at, uint32_t place, uint32_t expected)
{
	struct fsck_group *group = scan->group;
	struct fsck_slot slot;

	if (!group || place < group->row.base || place >= group->row.base + group->row.stored_count)
		group = scan->group = group_at(scan, place);
	if (!group) /* of one that was dropped since */
		return;
	view_slot(scan, at, group->stored[place - group->row.base], &slot);
	if (slot.read && !fsck_content_expect(group->content, &slot, expected))
		scan->file->damaged = true;
}

static int scan_compacted(struct scan *scan)
{
	_cleanup_free_ void *memory = NULL;
	struct index_view view;
	uint32_t first = scan->file->row.index_blocks, count;
	int r = choose_index(scan, &memory, &view);

	if (r < 0 && !is_fatal(r)) {
		bad_index(scan, r);
		return 0;
	}
	for (uint32_t at = 0; r == 0 && at < view.total_slots; at += count) {
		count = MIN(FSCK_WINDOW_BLOCKS, view.total_slots - at);
		r = read_window(scan, first + at, count);
		for (uint32_t i = 0; r == 0 && i < count; i++)
			take_stored_block(scan, i, at + i, le32toh(view.crcs[at + i]));
	}
	return r;
}

/* Those that cannot be opened do not count as read. */
static int open_copies(struct scan *scan)
{
	unsigned copies = fsck_file_copies(scan->fsck, scan->file);

	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		int r;

		if (!(copies >> copy & 1))
			continue;
		r = fsck_file_open(scan->fsck, scan->file, copy, &scan->handles[copy]);
		if (is_fatal(r))
			return r;
		if (r == 0)
			scan->copies |= 1u << copy;
		else
			scan->file->read_errors[copy] = r;
	}
	return 0;
}

/* fn over all copies that can be opened. */
static int with_copies(struct scan *scan, int (*fn)(struct scan *scan))
{
	int r = open_copies(scan);

	if (r == 0 && scan->copies)
		r = fn(scan);
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (scan->copies >> copy & 1)
			(void)io_close(scan->handles[copy]); /* was only read */
	return r;
}

static int scan_file(struct scan *scan)
{
	return scan->file->row.compacted ? scan_compacted(scan) : scan_plain(scan);
}

static void tell_unopened(struct scan *scan)
{
	char object[FSCK_OBJECT_MAX];

	scan->file->damaged = true;
	fsck_file_object(scan->file, 0, object);
	fsck_find(scan->fsck, FSCK_READ, object, "the file cannot be opened: %s",
		  strerror(-read_error(scan)));
}

int fsck_file_scan(struct fsck *fsck, struct fsck_file *file)
{
	_cleanup_free_ struct record_header_disk *header =
		aligned_alloc(BLOCK_BYTES, sizeof(*header));
	_cleanup_free_ struct scan *scan = calloc(1, sizeof(*scan));
	int r;

	if (!header || !scan)
		return -ENOMEM;
	if (!file->group)
		return 0;
	scan->fsck = fsck;
	scan->file = file;
	scan->header = header;
	r = with_copies(scan, scan_file);
	if (r == 0 && !scan->copies && read_error(scan))
		tell_unopened(scan);
	return r;
}

static int load_index(struct scan *scan)
{
	_cleanup_free_ void *memory = NULL;
	struct index_view view;
	int r = choose_index(scan, &memory, &view);

	return is_fatal(r) ? r : 0; /* the scan tells */
}

int fsck_index_load(struct fsck *fsck, struct fsck_file *file)
{
	_cleanup_free_ struct scan *scan = calloc(1, sizeof(*scan));

	if (!scan)
		return -ENOMEM;
	scan->fsck = fsck;
	scan->file = file;
	return with_copies(scan, load_index);
}
