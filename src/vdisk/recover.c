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
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/reached.h"
#include "reactor/io.h"
#include "vdisk/vdisk_priv.h"

#define WINDOW_BLOCKS 512u
#define READ_TRIES    3

struct recovery {
	struct vdisk *vdisk;
	struct egroup **groups; /* of the log, in order of id */
	uint32_t *ends;         /* of what counts, in slots */
	uint64_t *last_lsns;
	size_t count;
	uint64_t expected; /* the next LSN */
	uint64_t bytes;
	/* What is in memory of the group being read. */
	char *window;
	uint32_t window_slot, window_blocks;
	struct egroup *window_group;
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
	struct egroup_file *file;
	struct egroup *group;
	size_t most = vdisk->store->group_count + 1;

	recovery->groups = calloc(most, sizeof(struct egroup *));
	recovery->ends = calloc(most, sizeof(*recovery->ends));
	recovery->last_lsns = calloc(most, sizeof(*recovery->last_lsns));
	recovery->window = aligned_alloc(BLOCK_BYTES, (size_t)WINDOW_BLOCKS * BLOCK_BYTES);
	if (!recovery->groups || !recovery->ends || !recovery->last_lsns || !recovery->window)
		return -ENOMEM;
	LIST_FOR_EACH (&vdisk->store->files, file, struct egroup_file, link)
		LIST_FOR_EACH (&file->groups, group, struct egroup, link)
			if (counts(vdisk, group))
				recovery->groups[recovery->count++] = group;
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

static int read_window(struct recovery *recovery, struct egroup *group, uint32_t slot)
{
	uint32_t blocks = MIN(WINDOW_BLOCKS, group_slots(group) - slot);
	int64_t got;

	got = io_read(egroup_file_handle(group->file), recovery->window,
		      (size_t)blocks * BLOCK_BYTES, (uint64_t)slot * BLOCK_BYTES);
	if (got == -EIO)
		got = io_read(egroup_file_handle(group->file), recovery->window,
			      (size_t)blocks * BLOCK_BYTES, (uint64_t)slot * BLOCK_BYTES);
	if (got < 0)
		return (int)got;
	recovery->window_group = group;
	recovery->window_slot = slot;
	recovery->window_blocks = (uint32_t)(got / BLOCK_BYTES);
	recovery->vdisk->stats.device_read_bytes += (uint64_t)got;
	return 0;
}

/* `blocks` from `slot` on, in memory; NULL: the group ends before. */
static int view(struct recovery *recovery, struct egroup *group, uint32_t slot, uint32_t blocks,
		char **ret_view)
{
	int r;

	*ret_view = NULL;
	if (slot + blocks > group_slots(group))
		return 0;
	if (recovery->window_group != group || slot < recovery->window_slot ||
	    slot + blocks > recovery->window_slot + recovery->window_blocks) {
		r = read_window(recovery, group, slot);
		if (r < 0)
			return r;
	}
	if (slot + blocks <= recovery->window_slot + recovery->window_blocks)
		*ret_view = recovery->window + (size_t)(slot - recovery->window_slot) * BLOCK_BYTES;
	return 0;
}

/* 0 with the record (header and payload checked), -ENODATA: there is none, or an error of reading.
 */
static int read_record_once(struct recovery *recovery, struct egroup *group, uint32_t slot,
			    struct record_header_disk **ret_header)
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

	r = view(recovery, group, slot, 1, &bytes);
	if (r < 0 || !bytes)
		return r < 0 ? r : -ENODATA;
	header = (struct record_header_disk *)bytes;
	if (record_check(header, &id) < 0 || le64toh(header->epoch) != group->epoch)
		return -ENODATA;
	r = view(recovery, group, slot, 1 + record_payload_blocks(header), &bytes);
	if (r < 0 || !bytes)
		return r < 0 ? r : -ENODATA;
	header = (struct record_header_disk *)bytes;
	/* The window may have been read anew. */
	if (record_check(header, &id) < 0 || record_check_payload(header, bytes + BLOCK_BYTES) < 0)
		return -ENODATA;
	*ret_header = header;
	return 0;
}

static int read_record(struct recovery *recovery, struct egroup *group, uint32_t slot,
		       struct record_header_disk **ret_header)
{
	int r = 0;

	for (unsigned i = 0; i < READ_TRIES; i++) {
		r = read_record_once(recovery, group, slot, ret_header);
		if (r != -ENODATA)
			return r;
		recovery->window_group = NULL;
	}
	return r;
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
		vdisk_apply_record(vdisk, header, group->id, slot);
		recovery->expected++;
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
	struct record_header_disk *header;
	int r;

	recovery->ends[at] = MIN(slot, group_slots(group));
	recovery->last_lsns[at] = vdisk->row.checkpoint_lsn;
	r = egroup_file_open(group->file);
	if (r < 0)
		return r;
	while (slot < group_slots(group)) {
		r = read_record(recovery, group, slot, &header);
		if (r == 0)
			r = take_record(recovery, at, slot, header);
		if (r < 0)
			break;
		slot = recovery->ends[at];
	}
	if (r == -ENODATA && group->sealed)
		r = damaged(recovery, group, slot);
	egroup_file_unref(group->file);
	return r == -ENODATA ? 0 : r;
}

/* Does a header anywhere behind the end say that the missing record was durable? */
static int look_behind(struct recovery *recovery, size_t at)
{
	struct vdisk *vdisk = recovery->vdisk;
	struct egroup *group = recovery->groups[at];
	int r;

	if (group->sealed)
		return 0;
	r = egroup_file_open(group->file);
	for (uint32_t slot = recovery->ends[at]; r == 0 && slot < group_slots(group); slot++) {
		const struct record_id id = {.pool = vdisk->row.pool,
					     .vdisk = vdisk->row.id,
					     .group = group->id,
					     .slot = slot,
					     .stream = RECORD_STREAM_LOG};
		struct record_header_disk *header;
		char *bytes;

		r = view(recovery, group, slot, 1, &bytes);
		if (r < 0 || !bytes)
			break;
		header = (struct record_header_disk *)bytes;
		if (record_check(header, &id) == 0 && le64toh(header->epoch) == group->epoch &&
		    le64toh(header->durable_lsn) >= recovery->expected)
			r = damaged(recovery, group, slot);
	}
	if (r != -ENOENT && group->file->references > 0)
		egroup_file_unref(group->file);
	return r;
}

static bool is_unsealed(const struct egroup *group)
{
	return !group->sealed;
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
		r = io_sync(egroup_file_handle(group->file));
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
	struct egroup_store *store = vdisk->store;
	struct egroup_file *file;
	struct egroup *group;
	size_t count = 0;

	LIST_FOR_EACH (&store->files, file, struct egroup_file, link)
		LIST_FOR_EACH (&file->groups, group, struct egroup, link)
			if (is_unsealed(group) && !counts(vdisk, group))
				ret_groups[count++] = group;
	return count;
}

/* One transaction: the seals and the next epoch. Groups that were not read end where nobody knows:
 * they keep their size. */
static int commit_seals(struct recovery *recovery)
{
	struct vdisk *vdisk = recovery->vdisk;
	struct egroup_store *store = vdisk->store;
	size_t most = store->group_count + 1, count = 0, others;
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
	recovery->window_group = NULL;
	for (size_t i = 0; r == 0 && i < recovery->count; i++)
		r = look_behind(recovery, i);
	return r;
}

int vdisk_recover(struct vdisk *vdisk)
{
	struct recovery recovery = {.vdisk = vdisk, .expected = vdisk->row.checkpoint_lsn + 1};
	int r;

	vdisk->log.prev_group = vdisk->row.log_group;
	vdisk->log.prev_slot = vdisk->row.log_slot;
	r = collect_groups(&recovery);
	if (r == 0)
		r = replay(&recovery);
	if (r == 0)
		r = sync_found(&recovery);
	if (r == 0)
		r = commit_seals(&recovery);
	if (r == 0) {
		log_start(&vdisk->log, recovery.expected - 1);
		vdisk->log.tail_bytes = recovery.bytes;
		r = keep_tail(&recovery);
		if (recovery.bytes)
			REACHED("recover.replayed");
	}
	free(recovery.groups);
	free(recovery.ends);
	free(recovery.last_lsns);
	free(recovery.window);
	return r;
}
