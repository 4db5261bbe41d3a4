/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: from the checkpoint's position in the log, the longest contiguous run of valid records
 * is put into the map; then the groups they are in are synced and sealed where the run ends, under
 * the next epoch. Nothing is ever appended to a group that was found.
 *
 * Where the run ends: at a record that is missing, torn or out of sequence in a group that was not
 * sealed. A later group continues it when its first record does not leave a gap; it may repeat
 * records that were issued a second time. A bad record in a sealed group, or one that a later
 * header calls durable, is damage and never the end. A read that gives a bad record is made again:
 * a flipped bit on the way must not cut the log.
 *
 * Of a group with several copies the run is as long as on any of them; where another copy differs,
 * it is written again, so that all are equal where the group is sealed. Every acknowledged record
 * is on every copy that the row calls valid, so a copy that cannot be reached takes nothing away;
 * but it may lack what the run has more, so the transaction of the seals calls it stale. So it is
 * with one on a disk that has failed, which is asked where the others have no record, unless there
 * is no other: what is read there was there, so nothing has to be written to it.
 *
 * While no disk of the pool can be written (pool_is_stranded()) the run goes into the map and no
 * further: nothing is written, synced, sealed or called stale, for a disk that is away may have as
 * much, and be the better one. Another recovery does that when there is a disk (stranded.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/reached.h"
#include "egroup/cursor.h"
#include "pool/pool_disk.h"
#include "pool/pool_io.h"
#include "vdisk/vdisk_priv.h"

#define WINDOW_BLOCKS 512u
#define READ_TRIES    3

struct window { /* what is in memory of one copy of the group being read */
	char *memory;
	uint32_t slot, blocks;
	struct egroup *group; /* NULL: nothing */
};

struct recovery {
	struct vdisk *vdisk;
	struct egroup **groups; /* of the log, in order of id */
	uint32_t *ends;         /* of what counts, in slots */
	uint64_t *last_lsns;
	unsigned *parts;   /* bits of copies that took part when it was read */
	unsigned *dropped; /* that are to be stale by the transaction of the seals */
	size_t count;
	bool shows;        /* the run goes into the map */
	bool settles;      /* and its end is made durable */
	bool unsettled;    /* some of it may not be durable yet */
	uint64_t shown;    /* LSN that the run must reach, for guests have read up to it */
	uint64_t expected; /* the next LSN */
	uint64_t bytes;
	struct window windows[POOL_COPIES_MAX];
};

static int compare_ids(const void *a, const void *b)
{
	const struct egroup *const *x = a, *const *y = b;

	return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

static bool counts(const struct vdisk *vdisk, const struct egroup *group)
{
	return group->stream == RECORD_STREAM_LOG && group->id >= vdisk->row.log_group &&
	       !(group->sealed && group->last_lsn <= vdisk->row.checkpoint_lsn);
}

static int collect_groups(struct recovery *recovery)
{
	struct vdisk *vdisk = recovery->vdisk;
	struct egroup_cursor cursor;
	struct egroup_file *file;
	struct egroup *group;
	size_t most = vdisk->store->group_count + 1;

	recovery->groups = calloc(most, sizeof(struct egroup *));
	recovery->ends = calloc(most, sizeof(*recovery->ends));
	recovery->last_lsns = calloc(most, sizeof(*recovery->last_lsns));
	recovery->parts = calloc(most, sizeof(*recovery->parts));
	recovery->dropped = calloc(most, sizeof(*recovery->dropped));
	if (!recovery->groups || !recovery->ends || !recovery->last_lsns || !recovery->parts ||
	    !recovery->dropped)
		return -ENOMEM;
	egroup_cursor_init(&cursor, vdisk->store, 0);
	while ((file = egroup_cursor_step(&cursor)))
		LIST_FOR_EACH (&file->groups, group, struct egroup, link)
			if (counts(vdisk, group))
				recovery->groups[recovery->count++] = group;
	egroup_cursor_done(&cursor);
	qsort(recovery->groups, recovery->count, sizeof(struct egroup *), compare_ids);
	return 0;
}

static uint32_t group_slots(const struct egroup *group)
{
	if (group->sealed)
		return group->slots;
	return (uint32_t)MIN(group->file->allocated_bytes >> BLOCK_SHIFT,
			     (uint64_t)SLOTS_PER_GROUP);
}

static int fill_window(struct recovery *recovery, struct egroup *group, unsigned copy,
		       uint32_t slot)
{
	struct window *window = &recovery->windows[copy];
	uint32_t blocks = MIN(WINDOW_BLOCKS, group_slots(group) - slot);
	int64_t got = -EIO;

	window->group = NULL;
	if (!window->memory)
		window->memory = aligned_alloc(BLOCK_BYTES, (size_t)WINDOW_BLOCKS * BLOCK_BYTES);
	if (!window->memory)
		return -ENOMEM;
	for (unsigned i = 0; got == -EIO && i < READ_TRIES; i++)
		got = pool_io_read_some(egroup_file_handle(group->file), copy, window->memory,
					(size_t)blocks * BLOCK_BYTES, (uint64_t)slot * BLOCK_BYTES);
	if (got < 0)
		return (int)got;
	window->group = group;
	window->slot = slot;
	window->blocks = (uint32_t)(got / BLOCK_BYTES);
	recovery->vdisk->stats.device_read_bytes += (uint64_t)got;
	return 0;
}

/* `blocks` of a copy from `slot` on, in memory; NULL: the group ends before. */
static int view(struct recovery *recovery, struct egroup *group, unsigned copy, uint32_t slot,
		uint32_t blocks, char **ret_view)
{
	struct window *window = &recovery->windows[copy];
	int r;

	*ret_view = NULL;
	if (slot + blocks > group_slots(group))
		return 0;
	if (window->group != group || slot < window->slot ||
	    slot + blocks > window->slot + window->blocks) {
		r = fill_window(recovery, group, copy, slot);
		if (r < 0)
			return r;
	}
	if (slot + blocks <= window->slot + window->blocks)
		*ret_view = window->memory + (size_t)(slot - window->slot) * BLOCK_BYTES;
	return 0;
}

/* 0 with the record (header and payload checked), -ENODATA: there is none, or an error of reading.
 */
static int read_record_once(struct recovery *recovery, struct egroup *group, unsigned copy,
			    uint32_t slot, struct record_header_disk **ret_header)
{
	struct vdisk *vdisk = recovery->vdisk;
	const struct record_id id = {.pool = vdisk->row.pool,
				     .vdisk = vdisk->row.id,
				     .group = group->id,
				     .slot = slot,
				     .stream = RECORD_STREAM_LOG};
	struct record_header_disk *header;
	char *bytes;
	int r;

	r = view(recovery, group, copy, slot, 1, &bytes);
	if (r < 0 || !bytes)
		return r < 0 ? r : -ENODATA;
	header = (struct record_header_disk *)bytes;
	if (record_check(header, &id) < 0 || le64toh(header->epoch) != group->epoch)
		return -ENODATA;
	r = view(recovery, group, copy, slot, 1 + record_payload_blocks(header), &bytes);
	if (r < 0 || !bytes)
		return r < 0 ? r : -ENODATA;
	header = (struct record_header_disk *)bytes;
	/* The window may have been read anew. */
	if (record_check(header, &id) < 0 || record_check_payload(header, bytes + BLOCK_BYTES) < 0)
		return -ENODATA;
	*ret_header = header;
	return 0;
}

static unsigned copies_of(const struct egroup *group)
{
	return pool_file_taking_part(egroup_file_handle(group->file));
}

/* From any of them, bits. -ENODATA: none has it, as far as they can be read; else an error, where
 * none can. */
static int read_record_of(struct recovery *recovery, struct egroup *group, unsigned copies,
			  uint32_t slot, struct record_header_disk **ret_header, unsigned *ret_copy)
{
	int error = copies ? 0 : -EIO;
	bool missing = false;

	for (unsigned i = 0; i < READ_TRIES * POOL_COPIES_MAX; i++) {
		int r;

		*ret_copy = i % POOL_COPIES_MAX;
		if (!(copies >> *ret_copy & 1))
			continue;
		r = read_record_once(recovery, group, *ret_copy, slot, ret_header);
		if (r == 0 || r == -ESHUTDOWN || r == -ENOMEM)
			return r;
		missing |= r == -ENODATA;
		error = r;
		recovery->windows[*ret_copy].group = NULL;
	}
	return missing ? -ENODATA : error;
}

/* Where the others have none, the log may end; or one on a disk that has failed alone has it. */
static int read_record(struct recovery *recovery, struct egroup *group, uint32_t slot,
		       struct record_header_disk **ret_header, unsigned *ret_copy)
{
	struct pool_file *file = egroup_file_handle(group->file);
	int r = read_record_of(recovery, group, copies_of(group), slot, ret_header, ret_copy), last;

	if (r == 0 || r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	pool_file_open_failed(file);
	if (pool_file_resorts(file) == 0)
		return r;
	REACHED("recover.last-resort");
	last = read_record_of(recovery, group, pool_file_resorts(file), slot, ret_header, ret_copy);
	return r == -ENODATA && last < 0 && last != -ESHUTDOWN && last != -ENOMEM ? r : last;
}

/* The record that copy `from` has is made to be on the others, too. One that does not take it
 * counts no more from here on: were it still synced and taken for what recovery made, all could be
 * called stale in the end. */
static void make_equal(struct recovery *recovery, struct egroup *group, unsigned from,
		       uint32_t slot, const struct record_header_disk *header)
{
	struct pool_file *file = egroup_file_handle(group->file);
	uint32_t blocks = 1 + record_payload_blocks(header);
	size_t length = (size_t)blocks * BLOCK_BYTES;
	unsigned others = recovery->settles ? copies_of(group) & ~(1u << from) : 0;

	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		char *bytes;
		int r;

		if (!(others >> copy & 1))
			continue;
		r = view(recovery, group, copy, slot, blocks, &bytes);
		if (r == 0 && bytes && memcmp(bytes, header, length) == 0)
			continue;
		REACHED("recover.make-equal");
		r = pool_io_write_copy(file, copy, header, length, (uint64_t)slot * BLOCK_BYTES);
		recovery->windows[copy].group = NULL;
		if (r == 0)
			continue;
		group->file->copies.stale |= 1u << copy;
		pool_file_set_copies(file, &group->file->copies);
	}
}

static bool extents_fit(const struct vdisk *vdisk, const struct record_header_disk *header)
{
	uint64_t covered = map_child_span(vdisk->map.root->level) * MAP_FANOUT;
	uint32_t cursor = 0;
	struct record_extent extent;

	for (uint32_t i = 0; i < record_extent_count(header); i++) {
		record_get_extent(header, i, &cursor, &extent);
		if (extent.kind == RECORD_EXTENT_PAGES || extent.block + extent.count > covered)
			return false;
	}
	return true;
}

/* Takes one valid record: replayed, passed over as repeated, or refused as a gap (-ENODATA). */
static int take_record(struct recovery *recovery, size_t at, uint32_t slot,
		       const struct record_header_disk *header)
{
	struct vdisk *vdisk = recovery->vdisk;
	struct egroup *group = recovery->groups[at];
	uint64_t lsn = le64toh(header->lsn);
	uint32_t blocks = 1 + record_payload_blocks(header);

	if (lsn > recovery->expected)
		return -ENODATA;
	if (!extents_fit(vdisk, header))
		return -EUCLEAN;
	if (lsn == recovery->expected) {
		if (!cache_reserve(vdisk->cache))
			return -ENOMEM;
		if (recovery->shows)
			vdisk_apply_record(vdisk, header, group->id, slot);
		recovery->expected++;
		recovery->unsettled |= !group->sealed;
		recovery->bytes += (uint64_t)blocks * BLOCK_BYTES;
	}
	recovery->ends[at] = slot + blocks;
	recovery->last_lsns[at] = lsn;
	vdisk->log.prev_group = group->id;
	vdisk->log.prev_slot = slot;
	return 0;
}

static int damaged(struct recovery *recovery, const struct egroup *group, uint32_t slot)
{
	REACHED("recover.damage");
	log_error("vdisk", "the log is damaged before its end",
		  "vdisk=%" PRIu64 " group=%" PRIu64 " slot=%" PRIu32 " lsn=%" PRIu64,
		  recovery->vdisk->row.id, group->id, slot, recovery->expected);
	return -EBADMSG;
}

static int replay_group(struct recovery *recovery, size_t at)
{
	struct egroup *group = recovery->groups[at];
	struct vdisk *vdisk = recovery->vdisk;
	uint32_t slot = group->id == vdisk->row.log_group ? vdisk->row.log_slot : 0;
	struct record_header_disk *header = NULL;
	unsigned copy;
	int r;

	recovery->ends[at] = MIN(slot, group_slots(group));
	recovery->last_lsns[at] = vdisk->row.checkpoint_lsn;
	r = egroup_file_open(group->file);
	if (r < 0)
		return r;
	/* It may be open since before a disk came back. */
	recovery->parts[at] = pool_file_reopen(egroup_file_handle(group->file));
	while (slot < group_slots(group)) {
		r = read_record(recovery, group, slot, &header, &copy);
		if (r == 0)
			r = take_record(recovery, at, slot, header);
		if (r == 0 && !group->sealed)
			make_equal(recovery, group, copy, slot, header);
		if (r < 0)
			break;
		slot = recovery->ends[at];
	}
	if (r == -ENODATA && group->sealed)
		r = damaged(recovery, group, slot);
	egroup_file_unref(group->file);
	return r == -ENODATA ? 0 : r;
}

/* Does a header anywhere behind the end, on that copy, say that the missing record was durable? */
static int look_behind_copy(struct recovery *recovery, size_t at, unsigned copy)
{
	struct vdisk *vdisk = recovery->vdisk;
	struct egroup *group = recovery->groups[at];
	int r = 0;

	for (uint32_t slot = recovery->ends[at]; r == 0 && slot < group_slots(group); slot++) {
		const struct record_id id = {.pool = vdisk->row.pool,
					     .vdisk = vdisk->row.id,
					     .group = group->id,
					     .slot = slot,
					     .stream = RECORD_STREAM_LOG};
		struct record_header_disk *header;
		char *bytes;

		r = view(recovery, group, copy, slot, 1, &bytes);
		if (r < 0 || !bytes)
			break;
		header = (struct record_header_disk *)bytes;
		if (record_check(header, &id) == 0 && le64toh(header->epoch) == group->epoch &&
		    le64toh(header->durable_lsn) >= recovery->expected)
			r = damaged(recovery, group, slot);
	}
	return r;
}

/* One copy that can be read is enough: it has every record that was acknowledged. */
static int look_behind(struct recovery *recovery, size_t at)
{
	struct egroup *group = recovery->groups[at];
	bool is_known = false;
	unsigned copies;
	int r, unread = 0;

	if (group->sealed)
		return 0;
	r = egroup_file_open(group->file);
	if (r < 0)
		return r;
	copies = copies_of(group);
	if (!copies)
		copies = pool_file_resorts(egroup_file_handle(group->file));
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		if (!(copies >> copy & 1))
			continue;
		r = look_behind_copy(recovery, at, copy);
		if (r == -EBADMSG || r == -ESHUTDOWN || r == -ENOMEM)
			break;
		if (r == 0) {
			is_known = true;
			continue;
		}
		REACHED("recover.end-unreadable");
		unread = r;
		r = 0;
	}
	egroup_file_unref(group->file);
	return r || is_known ? r : unread;
}

static bool is_unsealed(const struct egroup *group)
{
	return !group->sealed;
}

/* Valid, says the row, but they take no part, or did not when it was read: what recovery made of
 * the group is not there. */
static unsigned unreachable_copies(const struct egroup_file *file, unsigned parts)
{
	const struct pool_file *handle = egroup_file_handle(file);
	unsigned all = (1u << file->copies.count) - 1;
	unsigned there = pool_file_taking_part(handle) & parts;

	if (!there) /* it was read from a last resort */
		there = pool_file_resorts(handle);
	return all & ~file->copies.stale & ~there;
}

/* -EIO: none would be left, which no row may say. */
static int drop_unreachable(struct recovery *recovery, size_t at)
{
	struct egroup_file *file = recovery->groups[at]->file;
	unsigned all = (1u << file->copies.count) - 1;
	unsigned dropped = unreachable_copies(file, recovery->parts[at]);

	if ((file->copies.stale | dropped) == all)
		return -EIO;
	recovery->dropped[at] = dropped;
	file->copies.stale |= dropped;
	return 0;
}

/* No row says it: they count as before. */
static void take_back_dropped(struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->count; i++)
		recovery->groups[i]->file->copies.stale &= ~recovery->dropped[i];
}

static int sync_found(struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->count; i++) {
		struct egroup *group = recovery->groups[i];
		int r;

		if (group->sealed || recovery->ends[i] == 0)
			continue;
		r = egroup_file_open(group->file);
		if (r < 0)
			return r;
		r = egroup_file_sync(group->file);
		if (r == 0)
			r = drop_unreachable(recovery, i);
		egroup_file_unref(group->file);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Those that nobody goes on writing: of pages, and of the log before the checkpoint's position,
 * left by a failure to drop a group that was made ahead. */
static size_t other_open_groups(struct vdisk *vdisk, struct egroup **ret_groups)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;
	struct egroup *group;
	size_t count = 0;

	egroup_cursor_init(&cursor, vdisk->store, 0);
	while ((file = egroup_cursor_step(&cursor)))
		LIST_FOR_EACH (&file->groups, group, struct egroup, link)
			if (is_unsealed(group) && !counts(vdisk, group))
				ret_groups[count++] = group;
	egroup_cursor_done(&cursor);
	return count;
}

/* One transaction: the seals and the next epoch. Groups that were not read end where nobody knows:
 * they keep their size. */
static int commit_seals(struct recovery *recovery)
{
	struct vdisk *vdisk = recovery->vdisk;
	struct egroup_store *store = vdisk->store;
	size_t most = store->group_count + store->file_count + 1, count = 0, others;
	_cleanup_free_ struct catalog_change *changes = calloc(most, sizeof(*changes));
	_cleanup_free_ uint8_t(*values)[EGROUP_ROW_BYTES] = calloc(most, EGROUP_ROW_BYTES);
	_cleanup_free_ struct egroup **other = calloc(most, sizeof(struct egroup *));
	struct vdisk_row row;
	int r;

	if (!changes || !values || !other)
		return -ENOMEM;
	for (size_t i = 0; i < recovery->count; i++)
		if (is_unsealed(recovery->groups[i])) {
			egroup_seal_change(store, recovery->groups[i], recovery->ends[i],
					   recovery->last_lsns[i], values[count], &changes[count]);
			count++;
			egroup_file_change(recovery->groups[i]->file, values[count],
					   &changes[count]);
			count++;
		}
	others = other_open_groups(vdisk, other);
	for (size_t i = 0; i < others; i++, count++)
		egroup_seal_change(store, other[i], group_slots(other[i]), 0, values[count],
				   &changes[count]);
	if (count == 0)
		return 0;
	row = vdisk_row_begin(vdisk);
	row.epoch++;
	r = vdisk_row_commit(vdisk, &row, changes, count);
	if (r < 0)
		return r;
	vdisk->epoch_raised = true;
	for (size_t i = 0; i < recovery->count; i++)
		if (recovery->groups[i]->file->copies.stale && recovery->groups[i]->file->file)
			pool_file_set_copies(recovery->groups[i]->file->file,
					     &recovery->groups[i]->file->copies);
	for (size_t i = 0; i < recovery->count; i++)
		if (is_unsealed(recovery->groups[i]))
			egroup_sealed(recovery->groups[i], recovery->ends[i],
				      recovery->last_lsns[i]);
	for (size_t i = 0; i < others; i++)
		egroup_sealed(other[i], group_slots(other[i]), 0);
	return 0;
}

/* Groups with records that the map on disk does not have stay pinned until a checkpoint. */
static int keep_tail(struct recovery *recovery)
{
	struct vdisk *vdisk = recovery->vdisk;

	for (size_t i = 0; i < recovery->count; i++) {
		struct egroup *group = recovery->groups[i];
		int r;

		if (recovery->ends[i] == 0 || group->last_lsn <= vdisk->row.checkpoint_lsn)
			continue;
		group->pinned = true;
		r = log_add_old_group(&vdisk->log, group);
		if (r < 0)
			return r;
	}
	return 0;
}

static void forget_windows(struct recovery *recovery)
{
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		recovery->windows[copy].group = NULL;
}

static int replay(struct recovery *recovery)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < recovery->count; i++) {
		/* One that begins with a gap may be what a failure left behind: the records were
		 * issued again in the group after it. */
		r = replay_group(recovery, i);
		recovery->last_lsns[i] =
			MAX(recovery->last_lsns[i], recovery->vdisk->row.checkpoint_lsn);
	}
	forget_windows(recovery);
	for (size_t i = 0; r == 0 && i < recovery->count; i++)
		r = look_behind(recovery, i);
	return r;
}

static int settle(struct recovery *recovery)
{
	int r = sync_found(recovery);

	if (r == 0)
		r = commit_seals(recovery);
	if (r < 0 && r != -ENOTRECOVERABLE) /* which may have happened */
		take_back_dropped(recovery);
	if (r < 0)
		return r;
	recovery->vdisk->log.tail_bytes = recovery->bytes;
	return keep_tail(recovery);
}

/* What a guest has read does not go away again under it. */
static int check_shown(const struct recovery *recovery)
{
	if (recovery->expected > recovery->shown)
		return 0;
	REACHED("recover.shorter");
	log_error("vdisk",
		  "the log is shorter now than it was when it was opened: bring back the disk that "
		  "had more of it; or restart the daemon to go on without",
		  "vdisk=%" PRIu64 " lsn=%" PRIu64 " shown=%" PRIu64, recovery->vdisk->row.id,
		  recovery->expected - 1, recovery->shown);
	return -ENODATA;
}

static int run(struct recovery *recovery)
{
	struct vdisk *vdisk = recovery->vdisk;
	int r;

	recovery->expected = vdisk->row.checkpoint_lsn + 1;
	vdisk->log.prev_group = vdisk->row.log_group;
	vdisk->log.prev_slot = vdisk->row.log_slot;
	r = collect_groups(recovery);
	vdisk->torn |= r == 0 && recovery->shows;
	if (r == 0)
		r = replay(recovery);
	if (r == 0)
		r = check_shown(recovery);
	if (r < 0 || !recovery->shows)
		return r;
	vdisk->torn = false;
	vdisk->unsettled = recovery->unsettled;
	log_start(&vdisk->log, recovery->expected - 1);
	if (recovery->bytes)
		REACHED("recover.replayed");
	return recovery->settles ? settle(recovery) : 0;
}

static int recover(struct recovery *recovery)
{
	struct log *log = &recovery->vdisk->log;
	struct log_group *group;
	int r = run(recovery);

	if (r < 0)
		LIST_FOR_EACH (&log->groups, group, struct log_group, link)
			log_group_release(log, group);
	free(recovery->groups);
	free(recovery->ends);
	free(recovery->last_lsns);
	free(recovery->parts);
	free(recovery->dropped);
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		free(recovery->windows[copy].memory);
	return r;
}

int vdisk_recover(struct vdisk *vdisk)
{
	struct recovery recovery = {
		.vdisk = vdisk, .shows = true, .settles = !pool_is_stranded(vdisk->pool)};
	int r = recover(&recovery);

	if (r == 0 && !recovery.settles)
		vdisk_strand(vdisk);
	return r;
}

int vdisk_recover_look(struct vdisk *vdisk)
{
	struct recovery recovery = {.vdisk = vdisk, .shown = vdisk->log.acked_lsn};

	return recover(&recovery);
}

int vdisk_recover_again(struct vdisk *vdisk)
{
	struct recovery recovery = {
		.vdisk = vdisk, .shows = true, .settles = true, .shown = vdisk->log.acked_lsn};

	return recover(&recovery);
}
