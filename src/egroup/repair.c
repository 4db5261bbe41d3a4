/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair of one file at a time. Steps, and what a crash after each leaves:
 *  1. a file of the same id is made on another disk: no row names that copy; swept when its disk is
 *     opened;
 *  2. it is filled, several pieces at a time, synced, and read back: the same;
 *  3. one commit names it in the file's row, and not the copies that go: these are swept;
 *  4. the copies that go are removed.
 * Invariants
 *  1. The row never names a copy that lacks something without calling it stale, and never fewer
 *     readable copies than before.
 *  2. A copy goes only when what stays was looked through, and each block that is wrong there is
 *     wrong on all copies that can be asked, too; what only a copy on a disk that has gone may have
 *     right keeps that copy in the row, unless its disk was given up and is drained.
 */
#include "egroup/repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "codec/crc32c.h"
#include "egroup/scan.h"
#include "egroup/store_priv.h"
#include "egroup/waiting.h"
#include "pool/pool_disk.h"
#include "pool/pool_io.h"

#define FILL_PASSES 2u                 /* where something could not be read */
#define NOTICE_NS   (2 * NSEC_PER_SEC) /* until it is known that a disk has gone */

struct filling {
	struct egroup_file *file;
	unsigned copy; /* the new one */
	struct egroup_repair *repair;
	uint64_t damaged;  /* blocks that no copy gave as they should be, */
	uint64_t unread;   /* and of them those that could not be read */
	uint64_t doubtful; /* and those that copies in `away` may have right */
	unsigned away;
	uint64_t silent; /* blocks that the copy it is read from did not give */
	int error;       /* the first of a write */
	uint32_t *crcs;  /* of each block that was written */
	uint32_t blocks;
};

static void piece_written(void *arg, const struct ahead_piece *piece, int result)
{
	struct filling *filling = arg;

	if (result < 0 && filling->error == 0)
		filling->error = result;
	if (result == 0) {
		uint64_t bytes = (uint64_t)piece->blocks * BLOCK_BYTES;

		filling->file->store->written_bytes += bytes;
		filling->repair->copied_bytes += bytes;
	}
}

static int fill_piece(void *arg, struct ahead_piece *piece)
{
	struct filling *filling = arg;
	const struct ahead_target target = {
		.file = egroup_file_handle(filling->file),
		.copy = filling->copy,
		.written = piece_written,
		.arg = filling,
	};

	ASSERT((uint64_t)piece->first + piece->blocks <= filling->blocks);
	if (filling->error) {
		ahead_put(piece);
		return filling->error;
	}
	filling->silent += piece->unreadable;
	memcpy(filling->crcs + piece->first, piece->crcs, piece->blocks * sizeof(piece->crcs[0]));
	ahead_write(piece, &target);
	return 0;
}

/* Of what no copy gave as it should be: those that may have it right all the same. An error of a
 * disk that is there is damage; of one that has gone it says nothing. */
static unsigned doubtful_copies(const struct egroup_file *file,
				const struct egroup_finding *finding)
{
	const struct sorted_copies sorted = egroup_sort_copies(file);

	return finding->away | (finding->unread & (sorted.away | sorted.failed));
}

static void count_finding(void *arg, const struct egroup_finding *finding)
{
	struct filling *filling = arg;
	unsigned away;

	if (finding->right_elsewhere)
		return;
	filling->damaged++;
	filling->unread += finding->error == -EIO;
	away = doubtful_copies(filling->file, finding);
	filling->doubtful += away != 0;
	filling->away |= away;
}

static int pause_filling(void *arg, uint64_t bytes)
{
	struct filling *filling = arg;
	struct egroup_repair *repair = filling->repair;

	return repair->pause ? repair->pause(repair->arg, bytes) : 0;
}

static void set_pace(void *arg, struct egroup_pace *pace)
{
	struct filling *filling = arg;
	struct egroup_repair *repair = filling->repair;

	if (repair->pace)
		repair->pace(repair->arg, pace);
}

static unsigned readable_copies(const struct egroup_file *file)
{
	const struct sorted_copies sorted = egroup_sort_copies(file);

	return sorted.good | sorted.leaving;
}

/* What cannot be read because its disk has gone, or does not answer for a moment, is not damaged: a
 * copy without it must not count. Only what cannot be read twice from disks that are there is given
 * up. */
static int fill(struct filling *filling)
{
	const struct egroup_scan scan = {
		.ahead = filling->repair->ahead,
		.content = fill_piece,
		.finding = count_finding,
		.pause = pause_filling,
		.pace = set_pace,
		.arg = filling,
	};
	unsigned readable = readable_copies(filling->file);
	int r = 0;

	for (unsigned pass = 0; r == 0 && pass < FILL_PASSES; pass++) {
		filling->damaged = filling->unread = filling->doubtful = filling->silent = 0;
		filling->away = 0;
		r = egroup_scan(filling->file, EGROUP_ANY_COPY, &scan);
		if (r == 0)
			r = filling->error;
		if (r < 0 || filling->unread == 0)
			break;
		REACHED("repair.unread");
		fiber_sleep(NOTICE_NS);
		if (readable & ~readable_copies(filling->file))
			r = -EIO;
	}
	/* Of a disk that has failed all that it still gives is taken; but nothing is no copy. */
	if (r == 0 && !readable && filling->damaged && filling->silent == filling->blocks)
		r = -EIO;
	return r;
}

static int check_piece(const struct filling *filling, const struct ahead_piece *piece)
{
	int r = piece->result;

	for (uint32_t i = 0; r == 0 && i < piece->blocks; i++)
		if (crc32c(piece->buffer + (size_t)i * BLOCK_BYTES, BLOCK_BYTES) !=
		    filling->crcs[piece->first + i]) {
			REACHED("repair.read-back-differs");
			r = -EBADMSG;
		}
	return r;
}

/* A disk that takes a write and gives something else is found out now, not when it is all there is.
 */
static int read_back(struct filling *filling)
{
	struct ahead *ahead = filling->repair->ahead;
	const struct ahead_options options = {
		.file = filling->file,
		.copy = filling->copy,
		.end = filling->blocks,
		.pace = set_pace,
		.arg = filling,
	};
	struct ahead_piece *piece;
	int r = 0;

	ahead_begin(ahead, &options);
	while (r == 0 && (piece = ahead_next(ahead))) {
		uint64_t bytes = (uint64_t)piece->blocks * BLOCK_BYTES;

		r = check_piece(filling, piece);
		ahead_put(piece);
		if (r == 0)
			r = pause_filling(filling, bytes);
	}
	ahead_settle(ahead);
	return r;
}

/* What is known of the copies of a file while it is repaired. */
struct doubts {
	bool known;      /* a copy that stays was made, or looked through */
	unsigned only;   /* copies that alone may have some blocks right */
	uint64_t blocks; /* how many */
};

static int fill_copy(struct egroup_file *file, unsigned copy, struct egroup_repair *repair,
		     struct doubts *doubts)
{
	_cleanup_free_ struct filling *filling = calloc(1, sizeof(*filling));
	uint32_t blocks = (uint32_t)(egroup_scan_bytes(file) >> BLOCK_SHIFT);
	_cleanup_free_ uint32_t *crcs = calloc(MAX(blocks, 1u), sizeof(*crcs));
	int r;

	if (!filling || !crcs)
		return -ENOMEM;
	filling->file = file;
	filling->copy = copy;
	filling->repair = repair;
	filling->crcs = crcs;
	filling->blocks = blocks;
	r = fill(filling);
	if (r < 0)
		return r;
	repair->damaged_blocks += filling->damaged;
	doubts->known = true;
	doubts->only |= filling->away;
	doubts->blocks = MAX(doubts->blocks, filling->doubtful);
	r = pool_io_sync_copy(egroup_file_handle(file), copy);
	return r < 0 ? r : read_back(filling);
}

/* The file's copies but for those in `drop`, and the new ones. */
static void compose(const struct pool_copies *old, const struct pool_copies *all, unsigned drop,
		    struct pool_copies *ret)
{
	struct pool_copies copies = {0};

	for (unsigned i = 0; i < all->count; i++) {
		if (i < old->count && drop >> i & 1)
			continue;
		if (i < old->count && old->stale >> i & 1)
			copies.stale |= 1u << copies.count;
		copies.disks[copies.count++] = all->disks[i];
	}
	*ret = copies;
}

static int commit_copies(struct egroup_file *file, const struct pool_copies *copies)
{
	uint8_t value[EGROUP_ROW_BYTES];
	struct pool_copies old = file->copies;
	struct catalog_change change;
	int r;

	file->copies = *copies;
	egroup_file_change(file, value, &change);
	r = catalog_commit(file->store->catalog, &change, 1);
	if (r < 0)
		file->copies = old;
	return r;
}

static int drop_copies(struct egroup_file *file, unsigned drop, struct egroup_repair *repair)
{
	struct pool_copies copies;
	int r;

	compose(&file->copies, &file->copies, drop, &copies);
	if (drop == 0 || copies.count == 0 || copies.stale == (1u << copies.count) - 1)
		return 0;
	r = commit_copies(file, &copies);
	if (r < 0)
		return r;
	pool_file_set_copies(egroup_file_handle(file), &copies);
	repair->dropped_copies += (unsigned)__builtin_popcount(drop);
	REACHED("repair.copy-dropped");
	return 0;
}

struct look {
	struct egroup_file *file;
	struct egroup_repair *repair;
	unsigned only;   /* as in struct doubts */
	bool unmended;   /* a copy that stays lacks what one that goes has, or was not read */
	bool unread;     /* some copy gave an error for what no other has right */
	uint64_t blocks; /* that copies in `only` may have right, met on this one */
};

static void note_doubt(void *arg, const struct egroup_finding *finding)
{
	struct look *look = arg;
	unsigned away;

	if (finding->right_elsewhere) {
		look->unmended |= !finding->put_right;
		return;
	}
	away = doubtful_copies(look->file, finding);
	look->only |= away;
	look->blocks += away != 0;
	look->unread |= (finding->unread & ~away) != 0;
}

static int pause_looking(void *arg, uint64_t bytes)
{
	const struct look *look = arg;

	return look->repair->pause ? look->repair->pause(look->repair->arg, bytes) : 0;
}

static void set_looking_pace(void *arg, struct egroup_pace *pace)
{
	const struct look *look = arg;

	if (look->repair->pace)
		look->repair->pace(look->repair->arg, pace);
}

static int look_once(struct look *look, unsigned staying, struct doubts *doubts)
{
	const struct egroup_scan scan = {
		.ahead = look->repair->ahead,
		.finding = note_doubt,
		.pause = pause_looking,
		.pace = set_looking_pace,
		.arg = look,
	};
	int r = 0;

	look->only = 0;
	look->unmended = look->unread = false;
	doubts->blocks = 0;
	for (unsigned copy = 0; r == 0 && copy < look->file->copies.count; copy++)
		if (staying >> copy & 1) {
			look->blocks = 0;
			r = egroup_scan(look->file, copy, &scan);
			doubts->blocks = MAX(doubts->blocks, look->blocks);
		}
	doubts->only = look->only;
	return r;
}

/* Through the copies that stay, which are put right from those that go. As in fill(), an error is
 * damage only where it comes twice from disks that are there. */
static int look_through(struct egroup_file *file, unsigned drop, struct egroup_repair *repair,
			struct doubts *doubts)
{
	struct look look = {.file = file, .repair = repair};
	unsigned readable = readable_copies(file);
	int r = 0;

	for (unsigned pass = 0; r == 0 && pass < FILL_PASSES; pass++) {
		r = look_once(&look, readable & ~drop, doubts);
		if (r < 0 || look.unmended || !look.unread)
			break;
		REACHED("repair.looked-unread");
		fiber_sleep(NOTICE_NS);
		if (readable & ~readable_copies(file))
			r = -EIO;
	}
	if (r == 0 && look.unmended)
		r = -EIO;
	doubts->known = r == 0;
	return r;
}

/* That takes long: which of `drop` still are to go is to be found out again after it. What was
 * looked through and cannot be read any more stands for nothing. */
static int remove_doubts(struct egroup_file *file, unsigned drop, struct egroup_repair *repair,
			 struct doubts *doubts)
{
	unsigned sound = drop & ~file->copies.stale, staying = readable_copies(file) & ~drop;
	int r;

	if (sound == 0 || doubts->known)
		return 0;
	r = look_through(file, drop, repair, doubts);
	if (r == 0 && staying & ~readable_copies(file))
		r = -EIO;
	return r;
}

/* But for those that alone may have something right; doubts were removed before. */
static int release_copies(struct egroup_file *file, unsigned drop, struct egroup_repair *repair,
			  const struct doubts *doubts)
{
	unsigned wait = drop & ~file->copies.stale & doubts->only;
	int r;

	for (unsigned copy = 0; copy < file->copies.count; copy++)
		if (wait >> copy & 1 && waiting_is_given_up(file, copy))
			wait &= ~(1u << copy);
	r = drop_copies(file, drop & ~wait, repair);
	if (wait == 0 || r < 0)
		return r;
	REACHED("repair.waits-for-a-copy");
	log_warning(
		"egroup",
		"blocks may be right on copies on disks that have gone only: they are waited for",
		"vdisk=%" PRIu64 " file=%" PRIx64 " blocks=%" PRIu64, file->store->vdisk, file->id,
		doubts->blocks);
	repair->waiting_blocks += doubts->blocks;
	return -EIO;
}

/* Room for a new copy: what is no use goes first, then what was given up. What is waited for is in
 * the way only where nothing else could go; else `ret_waiting` has its blocks, to be told later. */
static int make_room(struct egroup_file *file, struct egroup_repair *repair, uint64_t *ret_waiting)
{
	struct sorted_copies sorted = egroup_sort_copies(file);
	struct doubts doubts = {0};
	int r = drop_copies(file, sorted.stale, repair);
	unsigned failed;

	if (r < 0 || file->copies.count < POOL_COPIES_MAX)
		return r;
	failed = egroup_sort_copies(file).failed;
	r = remove_doubts(file, failed, repair, &doubts);
	if (r < 0)
		return r;
	failed &= egroup_sort_copies(file).failed;
	r = release_copies(file, failed, repair, &doubts);
	if (r == -EIO && file->copies.count < POOL_COPIES_MAX) {
		REACHED("repair.room-beside-doubts");
		repair->waiting_blocks -= doubts.blocks;
		*ret_waiting = doubts.blocks;
		r = 0;
	}
	return r;
}

static int make_copy(struct egroup_file *file, struct egroup_repair *repair, struct doubts *doubts)
{
	struct pool_file *handle = egroup_file_handle(file);
	struct pool_copies all, copies;
	unsigned copy;
	int r;

	r = pool_file_add_copy(handle, &copy);
	if (r < 0)
		return r;
	r = fill_copy(file, copy, repair, doubts);
	pool_file_get_copies(handle, &all);
	if (r == -EBADMSG) {
		pool_disk_report_mismatch(file->store->pool, all.disks[copy]);
		pool_file_shun(handle, all.disks[copy]);
		repair->mismatches++;
		repair->mismatch_disk = all.disks[copy];
	}
	compose(&file->copies, &all, 0, &copies);
	if (r == 0)
		r = commit_copies(file, &copies);
	/* Where the commit may have happened all the same, the copy must stay. */
	if (r != -ENOTRECOVERABLE)
		pool_file_set_copies(handle, &file->copies);
	if (r == 0)
		REACHED("repair.copy-made");
	return r;
}

/* A disk that does not give back what was written is passed over once. */
static int make_copies(struct egroup_file *file, unsigned count, struct egroup_repair *repair,
		       struct doubts *doubts)
{
	struct pool_file *handle = egroup_file_handle(file);
	int r = 0;

	pool_file_set_tiers(handle, egroup_file_tiers(file));
	for (unsigned i = 0; r == 0 && i < count; i++) {
		r = make_copy(file, repair, doubts);
		if (r != -EBADMSG)
			continue;
		r = make_copy(file, repair, doubts);
		r = r == -EBADMSG || r == -ENOSPC ? -EIO : r;
	}
	pool_file_shun(handle, 0);
	return r;
}

/* A copy that an earlier repair made is kept beside those of the row while it is not known whether
 * the commit of that came to pass. It is in the way of another on its disk: once the row is for
 * certain without it, it goes. */
static int settle_copies(struct egroup_file *file)
{
	struct pool_file *handle = egroup_file_handle(file);
	struct pool_copies all;
	int r;

	pool_file_get_copies(handle, &all);
	if (all.count == file->copies.count)
		return 0;
	REACHED("repair.copies-settled");
	r = commit_copies(file, &file->copies);
	if (r == 0)
		pool_file_set_copies(handle, &file->copies);
	return r;
}

static int drop_needless(struct egroup_file *file, struct egroup_repair *repair,
			 struct doubts *doubts)
{
	struct egroup_need need;
	unsigned drop;
	int r;

	egroup_file_need(file, &need);
	if (need.make > 0)
		return 0;
	drop = need.drop;
	r = remove_doubts(file, drop, repair, doubts);
	if (r < 0)
		return r;
	egroup_file_need(file, &need);
	return release_copies(file, drop & need.drop, repair, doubts);
}

static int repair_open_file(struct egroup_file *file, struct egroup_repair *repair)
{
	struct doubts doubts = {0};
	struct egroup_need need;
	uint64_t waiting = 0;
	int r = settle_copies(file);

	if (r < 0)
		return r;
	(void)pool_file_reopen(egroup_file_handle(file)); /* what can be reached again */
	egroup_file_need(file, &need);
	if (need.make > 0)
		r = make_room(file, repair, &waiting);
	if (r == 0)
		r = make_copies(file, need.make, repair, &doubts);
	if (r == 0)
		r = drop_needless(file, repair, &doubts);
	if (r == 0 && waiting) {
		repair->waiting_blocks += waiting;
		r = -EIO;
	}
	return r;
}

int egroup_repair_file(struct egroup_file *file, struct egroup_repair *repair)
{
	uint32_t gone = pool_disks_gone(file->store->pool);
	uint64_t waiting = repair->waiting_blocks;
	int r;

	ASSERT(!file->busy && egroup_file_is_sealed(file));
	file->busy = true;
	r = egroup_file_open(file);
	if (r == 0) {
		r = repair_open_file(file, repair);
		waiting_note(file, repair->waiting_blocks - waiting, gone);
		egroup_file_unref(file);
	}
	file->busy = false;
	if (r < 0 && r != -ESHUTDOWN && r != -ECANCELED)
		egroup_file_avoid(file, r);
	return r;
}
