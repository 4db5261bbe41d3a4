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
#include "pool/pool_io.h"

#define READ_ROUNDS 2

struct wanted { /* what is to be read */
	struct egroup_file *file;
	void *buffer;
	size_t length;
	uint64_t offset;
	int (*check)(void *arg, const void *buffer);
	void *arg;
};

static int read_copy(const struct wanted *wanted, unsigned copy)
{
	int r = pool_io_read_copy(wanted->file->file, copy, wanted->buffer, wanted->length,
				  wanted->offset);

	wanted->file->store->read_bytes += wanted->length;
	return r == 0 && wanted->check ? wanted->check(wanted->arg, wanted->buffer) : r;
}

static void put_right(const struct wanted *wanted, unsigned copy)
{
	struct egroup_file *file = wanted->file;
	int r = pool_io_write_copy(file->file, copy, wanted->buffer, wanted->length,
				   wanted->offset);

	if (r == 0)
		r = pool_io_sync_copy(file->file, copy);
	if (r == -ESHUTDOWN)
		return;
	if (r < 0) {
		log_error("egroup", "a damaged copy cannot be put right",
			  "vdisk=%" PRIu64 " file=%" PRIx64 " disk=%" PRIu64 " offset=%" PRIu64
			  " error=%d",
			  file->store->vdisk, file->id, file->copies.disks[copy], wanted->offset,
			  r);
		return;
	}
	REACHED("egroup.put-right");
	file->store->put_right++;
	log_warning("egroup", "a damaged copy was put right from another",
		    "vdisk=%" PRIu64 " file=%" PRIx64 " disk=%" PRIu64 " offset=%" PRIu64
		    " bytes=%zu",
		    file->store->vdisk, file->id, file->copies.disks[copy], wanted->offset,
		    wanted->length);
}

static void put_others_right(const struct wanted *wanted, unsigned wrong)
{
	for (unsigned copy = 0; copy < POOL_COPIES_MAX; copy++)
		if (wrong >> copy & 1)
			put_right(wanted, copy);
}

int egroup_check_crc(void *arg, const void *block)
{
	return crc32c(block, BLOCK_BYTES) == *(const uint32_t *)arg ? 0 : -EBADMSG;
}

int egroup_file_read(struct egroup_file *file, void *buffer, size_t length, uint64_t offset,
		     int (*check)(void *arg, const void *buffer), void *arg)
{
	const struct wanted wanted = {file, buffer, length, offset, check, arg};
	unsigned wrong = 0;
	int error = -EIO;

	ASSERT(file->references > 0);
	for (unsigned i = 0; i < READ_ROUNDS * file->copies.count; i++) {
		unsigned copy = i % file->copies.count;
		int r = read_copy(&wanted, copy);

		if (r == -ESHUTDOWN)
			return r;
		if (r == 0) {
			if (check)
				put_others_right(&wanted, wrong & ~(1u << copy));
			return 0;
		}
		if (r == -ENXIO)
			continue;
		error = r;
		wrong |= 1u << copy;
	}
	return error;
}

/* Memory first: whoever writes the row meanwhile must not take it back. */
static int call_stale(struct egroup_file *file, unsigned lost)
{
	uint8_t value[EGROUP_ROW_BYTES];
	struct catalog_change change;

	REACHED("egroup.copy-stale");
	file->copies.stale |= lost;
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
