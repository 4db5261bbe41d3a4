/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a vDisk's log, which is in no map yet: gone through as an open would replay it
 * (vdisk/recover.c), from the checkpoint's position on, group by group. Where it ends must not be
 * before what some header calls durable.
 *
 * Before copies are judged: where what was flushed is not all there, a copy that is missing may
 * have it, and none is called stale.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "fsck/fsck_priv.h"
#include "reactor/io.h"

struct tail {
	struct fsck *fsck;
	const struct vdisk_row *row;
	const struct fsck_group *group;
	struct world_file *handles[POOL_COPIES_MAX];
	uint32_t end;      /* of the group, in slots */
	uint64_t expected; /* the next LSN */
	uint64_t durable;  /* the most that a sound header said */
	char *record;      /* room for the longest */
};

static bool counts(const struct vdisk_row *row, const struct fsck_group *group)
{
	return group->row.stream == RECORD_STREAM_LOG && group->row.id >= row->log_group &&
	       group->file && !group->row.compacted &&
	       !(group->row.sealed && group->row.last_lsn <= row->checkpoint_lsn);
}

static int read_header(const struct tail *tail, unsigned copy, uint32_t slot)
{
	struct record_header_disk *header = (struct record_header_disk *)tail->record;
	const struct record_id id = {.pool = tail->row->pool,
				     .vdisk = tail->row->id,
				     .group = tail->group->row.id,
				     .slot = slot,
				     .stream = RECORD_STREAM_LOG};
	int r;

	if (!tail->handles[copy])
		return -ENODATA;
	r = io_read_exactly(tail->handles[copy], header, BLOCK_BYTES, (uint64_t)slot * BLOCK_BYTES);
	if (r == 0)
		r = record_check(header, &id);
	if (r == 0 && le64toh(header->epoch) != tail->group->row.epoch)
		r = -ESTALE;
	return r;
}

static int read_copy(const struct tail *tail, unsigned copy, uint32_t slot)
{
	const struct record_header_disk *header = (struct record_header_disk *)tail->record;
	int r = read_header(tail, copy, slot);
	uint32_t blocks;

	if (r < 0)
		return r;
	blocks = record_payload_blocks(header);
	if (slot + 1 + blocks > tail->end)
		return -EBADMSG;
	if (blocks > 0)
		r = io_read_exactly(tail->handles[copy], tail->record + BLOCK_BYTES,
				    (size_t)blocks * BLOCK_BYTES,
				    ((uint64_t)slot + 1) * BLOCK_BYTES);
	return r < 0 ? r : record_check_payload(header, tail->record + BLOCK_BYTES);
}

/* A record, whole, from whichever copy has it. */
static int read_record(const struct tail *tail, uint32_t slot)
{
	int r = -ENODATA;

	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		int found = read_copy(tail, copy, slot);

		if (found == 0 || found == -ESHUTDOWN)
			return found;
		r = found == -ENODATA ? r : found;
	}
	return r;
}

/* Slots that come after the end: what their headers call durable, on any copy. That of a torn
 * record says it, too: so it does when the vDisk is opened. */
static int look_behind(struct tail *tail, uint32_t slot)
{
	const struct record_header_disk *header = (struct record_header_disk *)tail->record;

	for (; slot < tail->end; slot++)
		for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
			int r = read_header(tail, copy, slot);

			if (r == -ESHUTDOWN)
				return r;
			if (r == 0)
				tail->durable = MAX(tail->durable, le64toh(header->durable_lsn));
		}
	return 0;
}

static void damaged(const struct tail *tail, uint32_t slot)
{
	char object[FSCK_OBJECT_MAX];

	tail->group->file->log_damaged = true;
	snprintf(object, sizeof(object), "vDisk %" PRIu64 " (%s), group %" PRIu64 " slot %" PRIu32,
		 tail->row->id, tail->row->name, tail->group->row.id, slot);
	fsck_find(tail->fsck, FSCK_LOG, object,
		  "the log is damaged before its end: record %" PRIu64 " is not there",
		  tail->expected);
}

static int go_through(struct tail *tail)
{
	const struct record_header_disk *header = (struct record_header_disk *)tail->record;
	const struct egroup_group_row *group = &tail->group->row;
	uint32_t slot = group->id == tail->row->log_group ? tail->row->log_slot : 0;
	int r = 0;

	while (slot < tail->end) {
		r = read_record(tail, slot);
		if (r < 0 || le64toh(header->lsn) > tail->expected)
			break;
		tail->expected = MAX(tail->expected, le64toh(header->lsn) + 1);
		tail->durable = MAX(tail->durable, le64toh(header->durable_lsn));
		slot += 1 + record_payload_blocks(header);
		r = fsck_progress(tail->fsck, 0);
		if (r < 0)
			return r;
	}
	if (r == -ESHUTDOWN)
		return r;
	if (slot < tail->end && group->sealed) {
		damaged(tail, slot);
		return 0;
	}
	return group->sealed ? 0 : look_behind(tail, slot);
}

static int check_group(struct tail *tail, const struct fsck_group *group)
{
	unsigned copies = fsck_file_copies(tail->fsck, group->file);
	int r = 0;

	tail->group = group;
	tail->end = group->row.sealed ? group->row.slots
				      : (uint32_t)MIN(group->file->row.size_bytes / BLOCK_BYTES,
						      (uint64_t)SLOTS_PER_GROUP);
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		tail->handles[copy] = NULL;
		if (copies >> copy & 1)
			r = fsck_file_open(tail->fsck, group->file, copy, &tail->handles[copy]);
		if (r == -ESHUTDOWN || r == -ENOMEM)
			break;
		r = 0; /* the scan told */
	}
	if (r == 0)
		r = go_through(tail);
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (tail->handles[copy])
			(void)io_close(TAKE_PTR(tail->handles[copy])); /* was only read */
	return r;
}

/* Which of them the record was in is not known. */
static void end_missing(const struct tail *tail, struct fsck_vdisk *vdisk)
{
	for (size_t i = 0; i < vdisk->group_count; i++)
		if (counts(&vdisk->row, &vdisk->groups[i]) && !vdisk->groups[i].row.sealed)
			vdisk->groups[i].file->log_damaged = true;
	fsck_find(tail->fsck, FSCK_LOG, vdisk->row.name,
		  "the log ends at record %" PRIu64 ", but record %" PRIu64 " was called durable",
		  tail->expected - 1, tail->durable);
}

int fsck_tail_check(struct fsck *fsck, struct fsck_vdisk *vdisk)
{
	_cleanup_free_ char *record =
		aligned_alloc(BLOCK_BYTES, (1 + RECORD_BLOCKS_MAX) * (size_t)BLOCK_BYTES);
	struct tail tail = {.fsck = fsck,
			    .row = &vdisk->row,
			    .record = record,
			    .expected = vdisk->row.checkpoint_lsn + 1};
	int r = record ? 0 : -ENOMEM;

	/* Groups are in order of id. */
	for (size_t i = 0; r == 0 && i < vdisk->group_count; i++)
		if (counts(&vdisk->row, &vdisk->groups[i]))
			r = check_group(&tail, &vdisk->groups[i]);
	if (r == 0 && tail.durable >= tail.expected)
		end_missing(&tail, vdisk);
	return r;
}
