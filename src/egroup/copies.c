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

struct reading {
	const struct egroup_read *read;
	struct pool_copies copies;
	unsigned first;
	unsigned failed; /* on disks that have failed: read when no other has it right */
	unsigned wrong, known, away; /* known: what is there, right or not */
	unsigned slow;               /* of those away: given up, for others may have it */
	bool reopened;
	bool patient; /* those on failed disks do not have it */
	int error;
};

static int read_copy(const struct reading *reading, unsigned copy)
{
	const struct egroup_read *read = reading->read;
	struct pool_file *file = read->file->file;

	read->file->store->read_bytes += read->length;
	if (reading->patient)
		return pool_io_read_copy(file, copy, read->buffer, read->length, read->offset);
	return pool_io_read_copy_or_resort(file, copy, read->buffer, read->length, read->offset);
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
static int read_reopened(struct reading *reading, unsigned copy)
{
	int r = read_copy(reading, copy);

	if (r != -ENXIO || reading->reopened)
		return r;
	REACHED("egroup.reopen");
	reading->reopened = true;
	if (!(pool_file_reopen(reading->read->file->file) >> copy & 1))
		return r;
	return read_copy(reading, copy);
}

/* Who waits himself has something under way on a disk that hangs: to wait for another, or for the
 * same once more, is no use. */
static int read_some(struct reading *reading, unsigned copy)
{
	const struct egroup_read *read = reading->read;

	if (read->waits_itself && pool_file_is_silent(read->file->file, copy))
		return -ETIMEDOUT;
	return read_reopened(reading, copy);
}

/* 0: it is right; 1: it is not; or what ends all. */
static int try_copy(struct reading *reading, unsigned copy)
{
	int r = read_some(reading, copy);

	if (r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	if (r == -ENXIO || r == -ETIMEDOUT) {
		/* Its disk is gone, or hangs: that says nothing. */
		reading->away |= 1u << copy;
		reading->slow |= (unsigned)(r == -ETIMEDOUT) << copy;
		return 1;
	}
	if (r == 0 || r == -ENODATA)
		reading->known |= 1u << copy;
	if (r == 0)
		r = check_copy(reading->read, reading->copies.disks[copy]);
	if (r == 0)
		return 0;
	reading->error = r;
	reading->wrong |= 1u << copy;
	return 1;
}

/* The same of several, bits; the one that is right goes by ret_copy. */
static int try_copies(struct reading *reading, unsigned copies, unsigned *ret_copy)
{
	int r = 1;

	for (unsigned i = 0; r == 1 && i < READ_ROUNDS * reading->copies.count; i++) {
		*ret_copy = (reading->first + i) % reading->copies.count;
		if (copies >> *ret_copy & 1)
			r = try_copy(reading, *ret_copy);
	}
	return r;
}

static void reading_begins(struct reading *reading, const struct egroup_read *read)
{
	struct pool_copies *copies = &reading->copies;

	*reading = (struct reading){.read = read, .error = -EIO};
	/* Not as the row says: while a repair commits that, the copies are still the old ones. */
	pool_file_get_copies(read->file->file, copies);
	reading->known = copies->stale; /* or they are being made: these have no say */
	reading->first =
		read->first < copies->count ? read->first : pool_file_best_copy(read->file->file);
	for (unsigned i = 0; i < copies->count; i++)
		if (pool_disk_state(read->file->store->pool, copies->disks[i]) == POOL_DISK_FAILED)
			reading->failed |= 1u << i;
	reading->failed &= ~copies->stale;
}

static int read_any(struct reading *reading, unsigned *ret_copy)
{
	unsigned sound = ((1u << reading->copies.count) - 1) & ~reading->copies.stale;
	int r = try_copies(reading, sound & ~reading->failed, ret_copy);

	if (r == 1 && reading->failed) {
		REACHED("egroup.last-resort");
		pool_file_open_failed(reading->read->file->file);
		r = try_copies(reading, reading->failed, ret_copy);
	}
	if (r != 1 || !(reading->slow & ~reading->failed))
		return r;
	REACHED("egroup.waits-after-all");
	if (reading->read->waits_itself)
		return -EINPROGRESS;
	reading->patient = true;
	return try_copies(reading, reading->slow & ~reading->failed, ret_copy);
}

int egroup_file_read(const struct egroup_read *read)
{
	struct reading reading;
	unsigned copy = 0, all, wrong;
	int r;

	ASSERT(read->file->references > 0);
	reading_begins(&reading, read);
	r = read_any(&reading, &copy);
	if (r < 0)
		return r;
	if (r == 0) {
		wrong = read->check ? reading.wrong & ~(1u << copy) : 0;
		/* Nothing is written to what has failed. */
		put_others_right(read, wrong & ~reading.failed, wrong & ~reading.known,
				 reading.away & ~reading.known & ~wrong);
		return 0;
	}
	all = (1u << reading.copies.count) - 1;
	tell_tried(read, &(struct egroup_tried){
				 .wrong = reading.wrong & reading.known,
				 .away = reading.away & ~reading.known,
				 .unread = all & ~reading.known & ~reading.away,
			 });
	if (reading.known == all)
		return reading.error;
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
