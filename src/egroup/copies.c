/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copies of a group's file: reading until one gives what is right, and saying in the row which
 * of them lack something. Home: the vDisk's reactor; in fibers.
 *
 * A copy that was found wrong where another is right is written again in place: the same bytes that
 * should be there, so nobody can see the difference, and a crash in the middle leaves at worst what
 * was there before: a copy that is wrong.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "codec/crc32c.h"
#include "egroup/store_priv.h"
#include "pool/pool_disk.h"
#include "pool/pool_io.h"

#define READ_ROUNDS 2

static int read_copy(const struct egroup_read *read, unsigned copy)
{
	read->file->store->read_bytes += read->length;
	return pool_io_read_copy(read->file->file, copy, read->buffer, read->length, read->offset);
}

static int check_copy(const struct egroup_read *read, uint64_t disk)
{
	int r = read->check ? read->check(read->arg, read->buffer) : 0;

	if (r < 0)
		pool_disk_report_mismatch(read->file->store->pool, disk);
	return r;
}

static int put_right(const struct egroup_read *read, unsigned copy)
{
	struct egroup_file *file = read->file;
	int r = pool_io_write_copy(file->file, copy, read->buffer, read->length, read->offset);

	if (r == 0)
		r = pool_io_sync_copy(file->file, copy);
	if (r == -ESHUTDOWN)
		return r;
	if (r < 0) {
		log_error("egroup", "a damaged copy cannot be put right",
			  "vdisk=%" PRIu64 " file=%" PRIx64 " disk=%" PRIu64 " offset=%" PRIu64
			  " error=%d",
			  file->store->vdisk, file->id, file->copies.disks[copy], read->offset, r);
		return r;
	}
	REACHED("egroup.put-right");
	log_warning(
		"egroup", "a damaged copy was put right from another",
		"vdisk=%" PRIu64 " file=%" PRIx64 " disk=%" PRIu64 " offset=%" PRIu64 " bytes=%zu",
		file->store->vdisk, file->id, file->copies.disks[copy], read->offset, read->length);
	return 0;
}

static void tell_tried(const struct egroup_read *read, const struct egroup_tried *tried)
{
	if (read->tried)
		*read->tried = *tried;
}

/* Of the wrong ones some gave an error; those away were not asked. */
static void put_others_right(const struct egroup_read *read, unsigned wrong, unsigned unread,
			     unsigned away)
{
	struct egroup_tried tried = {.wrong = wrong, .unread = unread, .away = away};

	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (wrong >> copy & 1 && put_right(read, copy) < 0)
			tried.unmended |= 1u << copy;
	tell_tried(read, &tried);
}

int egroup_check_crc(void *arg, const void *block)
{
	return crc32c(block, BLOCK_BYTES) == *(const uint32_t *)arg ? 0 : -EBADMSG;
}

/* A copy on a disk that was missing when the file was opened may be there now. */
static int read_reopened(const struct egroup_read *read, unsigned copy, bool *reopened)
{
	int r = read_copy(read, copy);

	if (r != -ENXIO || *reopened)
		return r;
	REACHED("egroup.reopen");
	*reopened = true;
	return pool_file_reopen(read->file->file) >> copy & 1 ? read_copy(read, copy) : r;
}

int egroup_file_read(const struct egroup_read *read)
{
	struct pool_copies copies;
	unsigned wrong = 0, known = 0, first; /* known: what is there, right or not */
	unsigned away = 0;
	bool reopened = false;
	int error = -EIO;

	ASSERT(read->file->references > 0);
	/* Not as the row says: while a repair commits that, the copies are still the old ones. */
	pool_file_get_copies(read->file->file, &copies);
	known = copies.stale; /* or they are being made: these have no say */
	first = read->first < copies.count ? read->first : pool_file_best_copy(read->file->file);
	for (unsigned i = 0; i < READ_ROUNDS * copies.count; i++) {
		unsigned copy = (first + i) % copies.count;
		int r;

		if (copies.stale >> copy & 1)
			continue;
		r = read_reopened(read, copy, &reopened);
		if (r == -ESHUTDOWN || r == -ENOMEM)
			return r;
		if (r == -ENXIO || r == -ETIMEDOUT) {
			/* Its disk is gone, or hangs: that says nothing. */
			away |= 1u << copy;
			continue;
		}
		if (r == 0 || r == -ENODATA)
			known |= 1u << copy;
		if (r == 0)
			r = check_copy(read, copies.disks[copy]);
		if (r == 0) {
			wrong = read->check ? wrong & ~(1u << copy) : 0;
			put_others_right(read, wrong, wrong & ~known, away & ~known & ~wrong);
			return 0;
		}
		error = r;
		wrong |= 1u << copy;
	}
	tell_tried(read, &(struct egroup_tried){
				 .wrong = wrong & known,
				 .away = away & ~known,
				 .unread = ((1u << copies.count) - 1) & ~known & ~away,
			 });
	if (known == (1u << copies.count) - 1)
		return error;
	REACHED("egroup.copy-unread");
	return -EIO;
}

int egroup_check_header(void *arg, const void *block)
{
	return record_check(block, arg) < 0 ? -EBADMSG : 0;
}

bool egroup_file_is_whole(const struct egroup_file *file)
{
	return pool_file_taking_part(file->file) == (1u << file->copies.count) - 1;
}

/* Memory first: whoever writes the row meanwhile must not take it back. */
static int call_stale(struct egroup_file *file, unsigned lost)
{
	uint8_t value[EGROUP_ROW_BYTES];
	struct catalog_change change;

	REACHED("egroup.copy-stale");
	file->copies.stale |= lost;
	pool_file_set_copies(file->file, &file->copies);
	egroup_file_change(file, value, &change);
	log_warning("egroup", "a copy could not be synced; it does not count any more",
		    "vdisk=%" PRIu64 " file=%" PRIx64 " copies=%u stale=%x", file->store->vdisk,
		    file->id, file->copies.count, file->copies.stale);
	return catalog_commit(file->store->catalog, &change, 1);
}

int egroup_file_sync(struct egroup_file *file)
{
	int r = pool_io_sync(file->file);
	unsigned lost;

	if (r < 0)
		return r;
	lost = pool_file_failed(file->file) & ~file->copies.stale;
	return lost ? call_stale(file, lost) : 0;
}
