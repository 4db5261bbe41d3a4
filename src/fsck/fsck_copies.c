/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of a file that lack what another has, after the file was read and the map gone through.
 *
 *  1. A block, a record's header, a map page or an index that is wrong on one copy is written there
 *     again, from a copy that is right: the same bytes that should be there. So a crash in the
 *     middle leaves at worst what was there before. It counts once it was synced and read back.
 *  2. A copy that lacks more than a part of what another has is not damaged but old, or on a disk
 *     that lost most of it. It is called stale in the file's row, as is one that is missing, too
 *     short, or could not be written: the daemon makes stale copies anew, where there is room by
 * its own account, beside the guests (egroup/repair.c).
 *  3. A copy is called stale only when another has everything that any copy has. So nothing that
 *     could be read can not be read any more. What a copy has that the disk did not give is not
 *     known: it counts as everything. An error that is not the disk's says nothing at all. When
 *     what was right could not be read again, it is not known any more who has what: no copy of the
 *     file is called stale. Neither where the log lacks what was flushed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/crc32c.h"
#include "fsck/fsck_priv.h"
#include "reactor/io.h"

#define OLD_SLOTS_MIN 16u /* fewer are damage, whatever part of the file they are */
#define OLD_PART      4u  /* one of so many */

#define STALE_DONE "it is called stale: the daemon makes it again, from its start on"

struct settling {
	struct fsck *fsck;
	struct fsck_file *file;
	unsigned copies;                 /* bits: those that count and are there */
	uint64_t slots;                  /* of the file */
	uint64_t wrong[POOL_COPIES_MAX]; /* slots that another copy has right */
	uint64_t left[POOL_COPIES_MAX];  /* of them those that still are */
	bool lost_source;                /* what was right could not be read again */
};

struct run { /* blocks of the file that follow each other, wrong on one copy, right on another */
	const struct fsck_group *group; /* NULL: the index */
	unsigned copy, from;
	uint32_t first, count; /* by position in the group */
	uint64_t place;        /* in the file */
};

static bool is_fatal(int r)
{
	return r == -ESHUTDOWN || r == -ENOMEM || r == -ECANCELED;
}

static uint32_t positions_of(const struct fsck_group *group)
{
	if (!group->row.compacted)
		return group->content->slots;
	return group->stored ? group->row.stored_count : 0;
}

static uint32_t slot_at(const struct fsck_group *group, uint32_t position)
{
	return group->row.compacted ? group->stored[position] : position;
}

static bool is_wrong(const struct fsck_group *group, unsigned copy, uint32_t position)
{
	const uint64_t *wrong = group->content->wrong[copy];

	return wrong && fsck_bit(wrong, slot_at(group, position));
}

/* A copy that has it right; POOL_COPIES_MAX: none. */
static unsigned right_copy(const struct settling *settling, const struct fsck_group *group,
			   uint32_t position)
{
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (settling->copies >> copy & 1 && !is_wrong(group, copy, position))
			return copy;
	return POOL_COPIES_MAX;
}

static bool next_run(const struct settling *settling, const struct fsck_group *group, unsigned copy,
		     uint32_t position, struct run *ret_run)
{
	uint32_t end = positions_of(group);
	struct run run = {.group = group, .copy = copy};

	while (position < end && !is_wrong(group, copy, position))
		position++;
	if (position == end)
		return false;
	run.first = position;
	run.from = right_copy(settling, group, position);
	run.place = position;
	if (group->row.compacted)
		run.place += (uint64_t)group->file->row.index_blocks + group->row.base;
	while (position < end && run.count < FSCK_WINDOW_BLOCKS &&
	       is_wrong(group, copy, position) &&
	       right_copy(settling, group, position) == run.from) {
		run.count++;
		position++;
	}
	*ret_run = run;
	return true;
}

static int read_source(const struct settling *settling, const struct run *run, char *buffer)
{
	struct world_file *source;
	int r = fsck_file_open(settling->fsck, settling->file, run->from, &source);

	if (r < 0)
		return r;
	r = io_read_exactly(source, buffer, (size_t)run->count * BLOCK_BYTES,
			    run->place * BLOCK_BYTES);
	(void)io_close(source); /* was only read */
	/* As it was when the file was gone through. Of the index all was compared. */
	for (uint32_t i = 0; r == 0 && run->group && i < run->count; i++)
		if (crc32c(buffer + (size_t)i * BLOCK_BYTES, BLOCK_BYTES) !=
		    run->group->content->crcs[slot_at(run->group, run->first + i)])
			r = -EBADMSG;
	return r;
}

static int write_target(const struct settling *settling, const struct run *run, const char *buffer)
{
	char *again = settling->fsck->buffer + FSCK_WINDOW_BYTES;
	size_t length = (size_t)run->count * BLOCK_BYTES;
	uint64_t offset = run->place * BLOCK_BYTES;
	struct world_file *target;
	char path[4096];
	int r, closed;

	fsck_file_path(settling->fsck, settling->file, run->copy, path);
	r = io_open(path, WORLD_FILE_DIRECT, &target);
	if (r < 0)
		return r;
	r = io_write(target, buffer, length, offset);
	if (r == 0)
		r = io_sync(target);
	if (r == 0)
		r = io_read_exactly(target, again, length, offset);
	if (r == 0 && memcmp(again, buffer, length) != 0)
		r = -EIO;
	closed = io_close(target);
	return r < 0 ? r : closed;
}

struct mending {
	int error;      /* 1: it was only shown */
	bool of_source; /* the copy that has it right failed, not the one that was written to */
};

static struct mending mend(const struct settling *settling, const struct run *run)
{
	char *buffer = settling->fsck->buffer;
	struct mending mending = {.error = fsck_progress(settling->fsck, 0)};

	if (mending.error < 0)
		return mending;
	mending.error = read_source(settling, run, buffer);
	if (mending.error < 0)
		mending.of_source = true;
	else
		mending.error = write_target(settling, run, buffer);
	return mending;
}

static void tell_run(const struct settling *settling, const struct run *run,
		     const struct mending *mending)
{
	struct fsck_file *file = settling->file;
	uint64_t disk = fsck_disk_of(settling->fsck, file, run->copy)->id;
	uint64_t source = fsck_disk_of(settling->fsck, file, run->from)->id;
	char object[FSCK_OBJECT_MAX], done[96], why[128] = "";
	int unread = file->read_errors[run->copy];

	if (run->group)
		fsck_slot_object(file, run->group->row.id, slot_at(run->group, run->first), disk,
				 object);
	else
		fsck_file_object(file, disk, object);
	snprintf(done, sizeof(done), "written again from disk %" PRIu64 ", synced, and read back",
		 source);
	if (unread)
		snprintf(why, sizeof(why), "; the disk gives errors: %s", strerror(-unread));
	if (mending->of_source)
		snprintf(why, sizeof(why), "; they cannot be read again from disk %" PRIu64 ": %s",
			 source, strerror(-mending->error));
	else if (mending->error < 0)
		snprintf(why, sizeof(why), "; they cannot be written again: %s",
			 strerror(-mending->error));
	fsck_find_done(settling->fsck, FSCK_COPY, object, mending->error == 0 ? done : NULL,
		       "%" PRIu32 " blocks %s are not what their checksums say, another copy "
		       "has them right%s",
		       run->count, run->group ? "from there on" : "of the index", why);
}

static void clear_run(const struct run *run)
{
	for (uint32_t i = 0; run->group && i < run->count; i++)
		fsck_bit_clear(run->group->content->wrong[run->copy],
			       slot_at(run->group, run->first + i));
}

static void lose_source(struct settling *settling, unsigned copy, int error)
{
	int *known = &settling->file->read_errors[copy];

	settling->lost_source = true;
	*known = *known ? *known : error;
}

static int settle_run(struct settling *settling, const struct run *run)
{
	struct mending mending = {.error = 1};

	if (fsck_may_repair(settling->fsck))
		mending = mend(settling, run);
	if (is_fatal(mending.error))
		return mending.error;
	if (mending.error == 0) {
		clear_run(run);
		settling->left[run->copy] -= run->count;
	}
	if (mending.of_source)
		lose_source(settling, run->from, mending.error);
	tell_run(settling, run, &mending);
	return 0;
}

static int settle_index(struct settling *settling, unsigned copy)
{
	struct run run = {.copy = copy, .count = settling->file->row.index_blocks};
	unsigned right = settling->copies & ~settling->file->wrong_index;

	if (!(settling->file->wrong_index >> copy & 1) || right == 0)
		return 0;
	run.from = (unsigned)__builtin_ctz(right);
	return settle_run(settling, &run);
}

static int settle_copy(struct settling *settling, unsigned copy)
{
	const struct fsck_group *group;
	struct run run;
	int r = settle_index(settling, copy);

	for (group = settling->file->group; r == 0 && group; group = group->next)
		for (uint32_t at = 0;
		     r == 0 && group->content && next_run(settling, group, copy, at, &run);
		     at = run.first + run.count)
			r = settle_run(settling, &run);
	return r;
}

static void count_wrong(struct settling *settling)
{
	const struct fsck_group *group;

	for (group = settling->file->group; group; group = group->next) {
		uint32_t count = group->content ? positions_of(group) : 0;

		settling->slots += count;
		for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
			for (uint32_t i = 0; settling->copies >> copy & 1 && i < count; i++)
				settling->wrong[copy] += is_wrong(group, copy, i);
	}
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++) {
		if (settling->file->wrong_index >> copy & 1)
			settling->wrong[copy] += settling->file->row.index_blocks;
		settling->left[copy] = settling->wrong[copy];
	}
}

static bool is_old(const struct settling *settling, unsigned copy)
{
	return settling->wrong[copy] > OLD_SLOTS_MIN &&
	       settling->wrong[copy] > settling->slots / OLD_PART;
}

/* Copies differ, and what would tell which is right cannot be read. */
static bool is_open(const struct settling *settling)
{
	const struct fsck_vdisk *vdisk = fsck_vdisk_find(settling->fsck, settling->file->vdisk);

	if (!vdisk || !vdisk->map_damaged)
		return false;
	for (const struct fsck_group *group = settling->file->group; group; group = group->next)
		if (group->content && group->content->dispute_count > 0)
			return true;
	return false;
}

/* Another copy has everything that any has. */
static bool is_spare(const struct settling *settling, unsigned copy)
{
	const struct fsck_file *file = settling->file;
	int error = copy < POOL_COPIES_MAX ? file->read_errors[copy] : 0;

	if ((error && (error != -EIO || file->damaged)) || is_open(settling))
		return false;
	if (settling->lost_source || file->log_damaged)
		return false;
	for (unsigned other = 0; other < POOL_COPIES_MAX; other++)
		if (other != copy && settling->copies >> other & 1 && settling->left[other] == 0 &&
		    !(settling->file->row.copies.stale >> other & 1))
			return true;
	return false;
}

static int call_stale(struct settling *settling, unsigned copy, enum fsck_kind kind,
		      const char *cause)
{
	struct fsck_file *file = settling->file;
	char object[FSCK_OBJECT_MAX];

	fsck_file_object(file, fsck_disk_of(settling->fsck, file, copy)->id, object);
	if (fsck_may_repair(settling->fsck))
		file->row.copies.stale |= 1u << copy;
	return fsck_fix_file(settling->fsck, file, kind, object, STALE_DONE, "%s", cause);
}

static int settle_old(struct settling *settling, unsigned copy)
{
	char cause[160];

	snprintf(cause, sizeof(cause),
		 "it lacks %" PRIu64 " of %" PRIu64
		 " blocks that another copy has: it is older, or "
		 "its disk lost them",
		 settling->wrong[copy], settling->slots);
	return call_stale(settling, copy, FSCK_COPY_OLD, cause);
}

/* Where the rest is not whole, what is missing may have it: it may be put back. */
static int settle_missing(struct settling *settling, unsigned copy)
{
	const struct fsck_file *file = settling->file;
	char cause[128];

	if (file->found_bytes[copy])
		snprintf(cause, sizeof(cause),
			 "the file has %" PRIu64 " bytes, its groups need %" PRIu64,
			 file->found_bytes[copy], fsck_file_needs(file));
	else
		snprintf(cause, sizeof(cause), "the file is missing");
	return call_stale(settling, copy, FSCK_FILE_MISSING, cause);
}

static int settle_all_missing(struct settling *settling)
{
	struct fsck_file *file = settling->file;
	int r = 0;

	if (file->missing && !file->told && !file->damaged && is_spare(settling, POOL_COPIES_MAX)) {
		for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++)
			if (file->missing >> copy & 1)
				r = settle_missing(settling, copy);
		file->told = true;
	}
	fsck_file_missing(settling->fsck, file);
	return r;
}

/* What cannot be written to a copy. */
static int give_up(struct settling *settling, unsigned copy)
{
	if (settling->left[copy] == 0 || !fsck_may_repair(settling->fsck) ||
	    !is_spare(settling, copy))
		return 0;
	return call_stale(settling, copy, FSCK_COPY_OLD,
			  "blocks that another copy has cannot be written to it");
}

/* The old ones last: what they alone have right, others have been given by then. When two lack
 * much of each other, both are put right. */
static int settle_present(struct settling *settling)
{
	unsigned old = 0;
	int r = 0;

	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (settling->copies >> copy & 1 && is_old(settling, copy))
			old |= 1u << copy;
	for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++)
		if (settling->copies >> copy & 1 && !(old >> copy & 1))
			r = settle_copy(settling, copy);
	for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++) {
		if (!(old >> copy & 1))
			continue;
		if (!fsck_may_repair(settling->fsck) || is_spare(settling, copy))
			r = settle_old(settling, copy);
		else
			r = settle_copy(settling, copy);
	}
	for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++)
		if (settling->copies >> copy & 1 && !(settling->file->row.copies.stale >> copy & 1))
			r = give_up(settling, copy);
	return r;
}

/* What the disk does not give, but nobody needs. */
static void tell_errors(const struct settling *settling)
{
	const struct fsck_file *file = settling->file;
	char object[FSCK_OBJECT_MAX];

	for (unsigned copy = 0; copy < file->row.copies.count; copy++) {
		if (!file->read_errors[copy] || settling->wrong[copy] || file->damaged)
			continue;
		fsck_file_object(file, fsck_disk_of(settling->fsck, file, copy)->id, object);
		fsck_find(settling->fsck, FSCK_READ, object, "the disk gives errors: %s",
			  strerror(-file->read_errors[copy]));
	}
}

/* A sealed file keeps its size: what its row says is what the pool counts as used. */
static int settle_size(const struct settling *settling)
{
	struct fsck_file *file = settling->file;
	uint64_t size = 0, said = file->row.size_bytes;
	char object[FSCK_OBJECT_MAX];

	if (!file->group || !file->group->row.sealed)
		return 0;
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (settling->copies >> copy & 1)
			size = MAX(size, file->found_bytes[copy]);
	if (size == 0 || size == said || size > POOL_GROUP_BYTES || size % BLOCK_BYTES)
		return 0;
	file->row.size_bytes = size;
	fsck_file_object(file, 0, object);
	return fsck_fix_file(settling->fsck, file, FSCK_FILE_SIZE, object, "the row is put right",
			     "its row says %" PRIu64 " bytes, it has %" PRIu64, said, size);
}

static int make_longer(const struct settling *settling, unsigned copy)
{
	struct world_file *handle;
	char path[4096];
	int r, closed;

	fsck_file_path(settling->fsck, settling->file, copy, path);
	r = io_open(path, 0, &handle);
	if (r < 0)
		return r;
	r = io_resize(handle, settling->file->row.size_bytes, WORLD_RESIZE_TRUNCATE);
	if (r == 0)
		r = io_sync(handle);
	closed = io_close(handle);
	return r < 0 ? r : closed;
}

/* Of a group that is not sealed: it may be sealed at the length that its row says. What a crash
 * kept from becoming so long holds no records there. */
static int settle_end(const struct settling *settling, unsigned copy)
{
	struct fsck_file *file = settling->file;
	char object[FSCK_OBJECT_MAX];
	int r = 1; /* only shown */

	if (file->found_bytes[copy] >= file->row.size_bytes)
		return 0;
	if (fsck_may_repair(settling->fsck))
		r = make_longer(settling, copy);
	if (is_fatal(r))
		return r;
	fsck_file_object(file, fsck_disk_of(settling->fsck, file, copy)->id, object);
	fsck_find_done(settling->fsck, FSCK_FILE_END, object,
		       r == 0 ? "it is made as long as that" : NULL,
		       "the file has %" PRIu64 " bytes, its row says %" PRIu64,
		       file->found_bytes[copy], file->row.size_bytes);
	return 0;
}

static int settle_ends(const struct settling *settling)
{
	const struct fsck_file *file = settling->file;
	int r = 0;

	if (!file->group || file->row.compacted || file->group->row.sealed)
		return 0;
	for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++)
		if (settling->copies >> copy & 1)
			r = settle_end(settling, copy);
	return r;
}

int fsck_file_settle(struct fsck *fsck, struct fsck_file *file)
{
	struct settling settling = {
		.fsck = fsck, .file = file, .copies = fsck_file_copies(fsck, file)};
	int r = 0;

	if (file->row.copies.count > 1 && file->group) {
		count_wrong(&settling);
		r = settle_present(&settling);
		if (r == 0)
			tell_errors(&settling);
	}
	if (r == 0)
		r = settle_ends(&settling);
	if (r == 0)
		r = settle_size(&settling);
	return r < 0 ? r : settle_all_missing(&settling);
}
