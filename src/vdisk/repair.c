/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair of the copies of a vDisk's files, for the jobs of the pool. What is still being written to
 * is sealed first: the log and the page stream go on in new groups, and a checkpoint seals the old
 * ones. Home: the vDisk's reactor; runs on its caller's fiber, which closing waits for.
 */
#include <errno.h>
#include <string.h>

#include "base/reached.h"
#include "egroup/repair.h"
#include "vdisk/pace.h"
#include "vdisk/vdisk_priv.h"

#define SEAL_TRIES 3

struct run {
	struct vdisk *vdisk;
	struct pace pace;
	struct vdisk_repair *wanted;
	struct egroup_repair repair;
};

void vdisk_get_redundancy(struct vdisk *vdisk, struct vdisk_redundancy *ret)
{
	struct egroup_redundancy sum;

	egroup_store_redundancy(vdisk->store, &sum);
	*ret = (struct vdisk_redundancy){
		.factor = vdisk->store->factor,
		.whole = sum.whole,
		.degraded = sum.degraded,
		.single = sum.single,
		.lost = sum.lost,
		.leaving = sum.leaving,
		.to_copy = sum.to_copy,
		.to_drop = sum.to_drop,
	};
}

void vdisk_set_factor(struct vdisk *vdisk, unsigned factor)
{
	int64_t live = (int64_t)(vdisk->accounted_slots * BLOCK_BYTES);

	reactor_assert_home(vdisk->reactor);
	ASSERT(factor > 0 && factor <= POOL_FACTOR_MAX);
	pool_account_live(vdisk->pool, vdisk->factor, -live);
	pool_account_live(vdisk->pool, factor, live);
	pool_admit_move(vdisk->pool, vdisk->factor, factor, vdisk->admitted_bytes);
	vdisk->factor = factor;
	vdisk->store->factor = factor;
}

static void ask_pace(void *arg, struct egroup_pace *pace)
{
	struct run *run = arg;

	pace_ask(&run->pace, pace);
}

static int after_piece(void *arg, uint64_t bytes)
{
	struct run *run = arg;
	struct vdisk_repair *wanted = run->wanted;

	if (run->vdisk->closing)
		return -ECANCELED;
	if (wanted->progress && !wanted->progress(wanted->arg, run->repair.copied_bytes))
		return -ECANCELED;
	if (bytes > 0)
		pace_wait(&run->pace);
	else
		fiber_yield();
	return 0;
}

/* Whatever is open and lacks copies ends; a checkpoint makes that known. */
static int seal_open_groups(struct vdisk *vdisk)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < SEAL_TRIES && !vdisk->closing; i++) {
		if (!egroup_repair_waits_for_seal(vdisk->store))
			return 0;
		REACHED("repair.seal");
		log_drop_ready(&vdisk->log);
		log_retire_current(&vdisk->log);
		if (vdisk->page_group && !vdisk->checkpointing)
			r = vdisk_retire_page_group(vdisk);
		if (r == 0)
			r = vdisk_checkpoint(vdisk);
	}
	return r;
}

static bool stops(int r)
{
	return r == -ESHUTDOWN || r == -ECANCELED || r == -ENOTRECOVERABLE;
}

static int repair_files(struct run *run, struct egroup_cursor *cursor)
{
	struct egroup_file *file;
	int first_error = 0;

	while ((file = egroup_repair_next(cursor, run->wanted->urgent))) {
		int r = egroup_repair_file(file, &run->repair);

		if (stops(r))
			return r;
		if (r < 0 && first_error == 0)
			first_error = r;
		r = after_piece(run, 0);
		if (r < 0)
			return r;
	}
	return first_error;
}

int vdisk_repair(struct vdisk *vdisk, struct vdisk_repair *repair)
{
	_cleanup_(ahead_freep) struct ahead *ahead = NULL;
	struct run run = {.vdisk = vdisk,
			  .wanted = repair,
			  .repair = {.pause = after_piece, .pace = ask_pace}};
	int r;

	reactor_assert_home(vdisk->reactor);
	run.repair.arg = &run;
	if (vdisk->closing)
		return -ECANCELED;
	r = ahead_new(&ahead);
	if (r < 0)
		return r;
	run.repair.ahead = ahead;
	vdisk->fibers++;
	pace_init(&run.pace, vdisk, repair->urgent);
	r = vdisk->log.failed ? 0 : seal_open_groups(vdisk);
	if (r == 0 || !stops(r)) {
		struct egroup_cursor cursor;
		int files;

		egroup_cursor_init(&cursor, vdisk->store, 0);
		files = repair_files(&run, &cursor);
		egroup_cursor_done(&cursor);
		r = files < 0 ? files : r;
	}
	repair->copied_bytes = run.repair.copied_bytes;
	repair->dropped_copies = run.repair.dropped_copies;
	repair->damaged_blocks = run.repair.damaged_blocks;
	vdisk_fiber_ends(vdisk);
	return r;
}
