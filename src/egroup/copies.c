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
	int r = pool_io_read_copy(read->file->file, copy, read->buffer, read->length, read->offset);

	read->file->store->read_bytes += read->length;
	if (r < 0 || !read->check)
		return r;
	r = read->check(read->arg, read->buffer);
	if (r < 0) {
		struct pool_copies copies;

		pool_file_get_copies(read->file->file, &copies);
		pool_disk_report_mismatch(read->file->store->pool, copies.disks[copy]);
	}
	return r;
}

static void put_right(const struct egroup_read *read, unsigned copy)
{
	struct egroup_file *file = read->file;
	int r;

	file->store->wrong_copies++;
	r = pool_io_write_copy(file->file, copy, read->buffer, read->length, read->offset);

	if (r == 0)
		r = pool_io_sync_copy(file->file, copy);
	if (r < 0)
		file->store->unmended_copies++;
	if (r == -ESHUTDOWN)
		return;
	if (r < 0) {
		log_error("egroup", "a damaged copy cannot be put right",
			  "vdisk=%" PRIu64 " file=%" PRIx64 " disk=%" PRIu64 " offset=%" PRIu64
			  " error=%d",
			  file->store->vdisk, file->id, file->copies.disks[copy], read->offset, r);
		return;
	}
	REACHED("egroup.put-right");
	log_warning(
		"egroup", "a damaged copy was put right from another",
		"vdisk=%" PRIu64 " file=%" PRIx64 " disk=%" PRIu64 " offset=%" PRIu64 " bytes=%zu",
		file->store->vdisk, file->id, file->copies.disks[copy], read->offset, read->length);
}

static void put_others_right(const struct egroup_read *read, unsigned wrong)
{
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (wrong >> copy & 1)
			put_right(read, copy);
}

int egroup_check_crc(void *arg, const void *block)
{
	return crc32c(block, BLOCK_BYTES) == *(const uint32_t *)arg ? 0 : -EBADMSG;
}

int egroup_file_read(const struct egroup_read *read)
{
	struct pool_copies copies;
	unsigned wrong = 0, first;
	bool reopened = false;
	int error = -EIO;

	ASSERT(read->file->references > 0);
	/* Not as the row says: while a repair commits that, the copies are still the old ones. */
	pool_file_get_copies(read->file->file, &copies);
	first = read->first < copies.count ? read->first : pool_file_best_copy(read->file->file);
	for (unsigned i = 0; i < READ_ROUNDS * copies.count; i++) {
		unsigned copy = (first + i) % copies.count;
		int r;

		if (copies.stale >> copy & 1) /* or it is being made */
			continue;
		r = read_copy(read, copy);
		/* It may have been on a disk that was missing when the file was opened. */
		if (r == -ENXIO && !reopened) {
			REACHED("egroup.reopen");
			reopened = true;
			if (pool_file_reopen(read->file->file) >> copy & 1)
				r = read_copy(read, copy);
		}
		if (r == -ESHUTDOWN)
			return r;
		if (r == 0) {
			if (read->check)
				put_others_right(read, wrong & ~(1u << copy));
			return 0;
		}
		if (r == -ENXIO)
			continue;
		if (r == -ETIMEDOUT) { /* its disk hangs: that says nothing about the copy */
			error = error == -EIO ? r : error;
			continue;
		}
		error = r;
		wrong |= 1u << copy;
	}
	return error;
}

int egroup_read_block(struct egroup_file *file, uint64_t place, unsigned first,
		      int (*check)(void *arg, const void *block), void *arg, void *buffer)
{
	const struct egroup_read read = {
		.file = file,
		.buffer = buffer,
		.length = BLOCK_BYTES,
		.offset = place << BLOCK_SHIFT,
		.first = first,
		.check = check,
		.arg = arg,
	};

	return egroup_file_read(&read);
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
