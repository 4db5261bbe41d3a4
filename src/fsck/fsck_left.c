/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in groups/ that no row of the catalog names. A crash leaves them: before the row of a new
 * file, or after that of one that is given back; the next start would take them as spare. So does a
 * catalog that has lost something, and then they are all that is left of it. Therefore:
 *
 *  1. What holds a record or an index that names the file itself is moved to unclaimed/ of its
 * disk, where nothing is overwritten and a rebuild of the catalog finds it.
 *  2. What holds none (a reused file's old records name another) is removed.
 *  3. Nothing is touched when the check of the rows has found an error: they may lack others.
 *
 * A rename and an unlink happen or do not; each is synced before it is told.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "egroup/index.h"
#include "fsck/fsck_priv.h"
#include "reactor/io.h"

#define NAMES_MAX 100u /* of one file in unclaimed/ */

struct left {
	struct fsck *fsck;
	const struct fsck_disk *disk;
	const char *path;
	uint64_t id;
	uint64_t vdisk; /* whose records it holds */
	bool holds;
};

static bool is_fatal(int64_t r)
{
	return r == -ESHUTDOWN || r == -ENOMEM || r == -ECANCELED;
}

/* Also of a damaged one, as long as it can be told that it is of this file. */
static bool is_record(const struct left *left, const void *block)
{
	const struct record_header_disk *header = block;
	const struct record_id id = {.pool = left->disk->pool};
	uint64_t file = le64toh(header->file);
	int r = record_check(header, &id);

	if (r == 0)
		return file == left->id || file == 0; /* of older programs: who knows */
	return r == -EBADMSG && file == left->id && le64toh(header->pool) == left->disk->pool;
}

static bool is_index(const struct left *left, const void *block)
{
	const struct index_header_disk *header = block;

	return le64toh(header->magic) == INDEX_MAGIC && le64toh(header->pool) == left->disk->pool &&
	       le64toh(header->file) == left->id;
}

static void look_at(struct left *left, const void *block, bool first)
{
	const struct record_header_disk *record = block;
	const struct index_header_disk *index = block;

	if (is_record(left, block))
		left->vdisk = le64toh(record->vdisk);
	else if (first && is_index(left, block))
		left->vdisk = le64toh(index->vdisk);
	else
		return;
	left->holds = true;
}

static int look_into(struct left *left)
{
	const char *buffer = left->fsck->buffer;
	struct world_file *file;
	int64_t got = 1;
	int r = io_open(left->path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, &file);

	if (r < 0)
		return r;
	for (uint64_t at = 0; got > 0 && !left->holds; at += (uint64_t)got) {
		got = io_read(file, left->fsck->buffer, FSCK_WINDOW_BYTES, at);
		for (int64_t i = 0; i + BLOCK_BYTES <= got && !left->holds; i += BLOCK_BYTES)
			look_at(left, buffer + i, at + (uint64_t)i == 0);
		if (got > 0 && fsck_progress(left->fsck, 0) < 0)
			got = -ECANCELED;
		if (got % BLOCK_BYTES)
			break; /* the end of a file that is no group's */
	}
	(void)io_close(file); /* was only read */
	return got < 0 ? (int)got : 0;
}

/* A name that is free; -EEXIST: there are too many. */
static int free_name(const struct left *left, char to[4096])
{
	struct world_stat stat;
	int length = snprintf(to, 4096, "%s/unclaimed/%016" PRIx64 ".eg", left->disk->directory,
			      left->id);

	for (unsigned i = 0; i < NAMES_MAX; i++) {
		int r;

		if (i > 0)
			snprintf(to + length, 4096 - (size_t)length, ".%u", i);
		r = io_stat(to, &stat);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
	}
	return -EEXIST;
}

static int move_aside(const struct left *left, char to[4096])
{
	char directory[4096];
	int r;

	snprintf(directory, sizeof(directory), "%s/unclaimed", left->disk->directory);
	r = io_directory_make(directory);
	if (r == 0 || r == -EEXIST)
		r = io_directory_sync(left->disk->directory);
	if (r == 0)
		r = free_name(left, to);
	if (r == 0)
		r = io_rename(left->path, to);
	if (r == 0)
		r = io_directory_sync(directory);
	return r < 0 ? r : io_directory_sync_above(left->path);
}

static int put_away(const struct left *left, char done[4200])
{
	char to[4096];
	int r;

	if (left->holds) {
		r = move_aside(left, to);
		snprintf(done, 4200, "moved to %s", to);
		return r;
	}
	snprintf(done, 4200, "removed");
	r = io_unlink(left->path);
	return r < 0 ? r : io_directory_sync_above(left->path);
}

static void tell(const struct left *left, const char *done, int error)
{
	char what[64] = "it holds nothing", why[96] = "";

	if (left->holds)
		snprintf(what, sizeof(what), "it holds data of vDisk %" PRIu64, left->vdisk);
	if (error < 0)
		snprintf(why, sizeof(why), "; it cannot be put away: %s", strerror(-error));
	fsck_find_done(left->fsck, left->holds ? FSCK_FILE_UNCLAIMED : FSCK_FILE_LEFT, left->path,
		       error == 0 ? done : NULL, "no row of the catalog names this file; %s%s",
		       what, why);
}

int fsck_left_file(struct fsck *fsck, const struct fsck_disk *disk, const char *path, uint64_t id)
{
	struct left left = {.fsck = fsck, .disk = disk, .path = path, .id = id};
	char done[4200] = "";
	int r = look_into(&left);

	if (is_fatal(r))
		return r;
	if (r < 0) {
		fsck_find(fsck, FSCK_READ, path,
			  "no row of the catalog names this file; it cannot be read: %s",
			  strerror(-r));
		return 0;
	}
	r = 1; /* only shown */
	if (!fsck->rows_doubtful && fsck_may_repair(fsck))
		r = put_away(&left, done);
	if (is_fatal(r))
		return r;
	tell(&left, done, r);
	return 0;
}
