/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair of the copies of a vDisk's files, for the jobs of the pool. What is still being written to
 * is sealed first: the log and the page stream go on in new groups, and a checkpoint seals the old
 * ones. Home: the vDisk's reactor; runs on its caller's fiber, which closing waits for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/reached.h"
#include "egroup/repair.h"
#include "vdisk/pace.h"
#include "vdisk/vdisk_priv.h"

#define SEAL_TRIES 3

#define WORKERS 2u /* files at a time, while no guest is active: one syncs, the other copies */

#define FIBERS_BUSY 8u /* of the class, which has 16: no more are taken for a second file */

struct worker {
	struct run *run;
	struct egroup_repair repair;
	struct fiber_task task; /* but for the first, which is the caller's fiber */
};

struct run {
	struct vdisk *vdisk;
	struct pace pace;
	struct vdisk_repair *wanted;
	struct egroup_cursor cursor;
	struct worker workers[WORKERS];
	unsigned others; /* workers beside the first */
	struct fiber_queue ended;
	int error;    /* the first that left a file undone */
	bool stopped; /* with that error */
};

void vdisk_get_redundancy(struct vdisk *vdisk, struct vdisk_redundancy *ret)
{
	struct egroup_redundancy sum;

	reactor_assert_home(vdisk->reactor);
	vdisk->fibers++;
	egroup_store_redundancy(vdisk->store, &sum);
	vdisk_fiber_ends(vdisk);
	*ret = (struct vdisk_redundancy){
		.factor = vdisk->store->factor,
		.whole = sum.whole,
		.degraded = sum.degraded,
		.single = sum.single,
		.lost = sum.lost,
		.resort = sum.resort,
		.resort_groups = sum.resort_groups,
		.leaving = sum.leaving,
		.to_copy = sum.to_copy,
		.to_drop = sum.to_drop,
		.waiting_blocks = sum.waiting_blocks,
	};
}

uint64_t vdisk_get_resort(struct vdisk *vdisk, uint64_t disk)
{
	uint64_t groups;

	reactor_assert_home(vdisk->reactor);
	vdisk->fibers++;
	groups = egroup_store_resort(vdisk->store, disk);
	vdisk_fiber_ends(vdisk);
	return groups;
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

static uint64_t copied_bytes(const struct run *run)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < WORKERS; i++)
		sum += run->workers[i].repair.copied_bytes;
	return sum;
}

static void ask_pace(void *arg, struct egroup_pace *pace)
{
	struct worker *worker = arg;

	pace_ask(&worker->run->pace, pace);
}

static int after_piece(void *arg, uint64_t bytes)
{
	struct run *run = ((struct worker *)arg)->run;
	struct vdisk_repair *wanted = run->wanted;

	if (run->vdisk->closing || run->stopped)
		return -ECANCELED;
	if (wanted->progress && !wanted->progress(wanted->arg, copied_bytes(run)))
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

static void note_error(struct run *run, int r)
{
	if (run->error == 0 || (stops(r) && !run->stopped))
		run->error = r;
	run->stopped |= stops(r);
}

/* Beside a guest one file at a time is enough. */
static bool is_wanted(const struct run *run, const struct worker *worker)
{
	const struct vdisk *vdisk = run->vdisk;

	return worker == &run->workers[0] ||
	       !pool_guest_is_active(vdisk->pool, reactor_now_ns(vdisk->reactor));
}

static unsigned most_copies(const struct vdisk_repair *wanted)
{
	switch (wanted->urgent) {
	case VDISK_REPAIR_RESORT:
		return 0;
	case VDISK_REPAIR_SINGLE:
		return 1;
	default:
		return POOL_COPIES_MAX;
	}
}

static void repair_files(struct worker *worker)
{
	struct run *run = worker->run;
	struct egroup_file *file;

	while (!run->stopped && is_wanted(run, worker) &&
	       (file = egroup_repair_next(&run->cursor, most_copies(run->wanted)))) {
		int r = egroup_repair_file(file, &worker->repair);

		if (r < 0)
			note_error(run, r);
		r = after_piece(worker, 0);
		if (r < 0)
			note_error(run, r);
	}
}

static void other_worker(struct fiber_task *task)
{
	struct worker *worker = CONTAINER_OF(task, struct worker, task);
	struct run *run = worker->run;

	REACHED("repair.two-files");
	repair_files(worker);
	run->others--;
	fiber_queue_wake_all(&run->ended);
}

/* Who waits for another fiber of its own class must know that there is one. */
static bool is_fiber_free(const struct run *run)
{
	struct reactor_stats stats;

	reactor_get_stats(run->vdisk->reactor, &stats);
	return stats.fibers_in_use[FIBER_RECLAIM] < FIBERS_BUSY;
}

static void repair_all(struct run *run)
{
	egroup_cursor_init(&run->cursor, run->vdisk->store, 0);
	for (unsigned i = 1; i < WORKERS && is_fiber_free(run); i++) {
		if (!is_wanted(run, &run->workers[i]))
			break;
		run->others++;
		run->workers[i].task.run = other_worker;
		fiber_spawn(run->vdisk->reactor, FIBER_RECLAIM, &run->workers[i].task);
	}
	repair_files(&run->workers[0]);
	while (run->others > 0)
		fiber_queue_wait(&run->ended);
	egroup_cursor_done(&run->cursor);
}

static void run_free(struct run *run)
{
	for (unsigned i = 0; i < WORKERS; i++)
		ahead_free(run->workers[i].repair.ahead);
	free(run);
}
DEFINE_CLEANUP(struct run *, run_free)

static struct run *run_new(struct vdisk *vdisk, struct vdisk_repair *wanted)
{
	_cleanup_(run_freep) struct run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->vdisk = vdisk;
	run->wanted = wanted;
	fiber_queue_init(&run->ended);
	pace_init(&run->pace, vdisk, wanted->urgent != VDISK_REPAIR_ALL);
	for (unsigned i = 0; i < WORKERS; i++) {
		struct worker *worker = &run->workers[i];

		worker->run = run;
		worker->repair = (struct egroup_repair){
			.pause = after_piece, .pace = ask_pace, .arg = worker};
		if (ahead_new(&worker->repair.ahead) < 0)
			return NULL;
	}
	return TAKE_PTR(run);
}

static void tell(const struct run *run, struct vdisk_repair *repair)
{
	repair->copied_bytes = copied_bytes(run);
	repair->dropped_copies = repair->damaged_blocks = 0;
	repair->waiting_blocks = repair->mismatches = 0;
	for (unsigned i = 0; i < WORKERS; i++) {
		repair->dropped_copies += run->workers[i].repair.dropped_copies;
		repair->damaged_blocks += run->workers[i].repair.damaged_blocks;
		repair->waiting_blocks += run->workers[i].repair.waiting_blocks;
		repair->mismatches += run->workers[i].repair.mismatches;
		if (run->workers[i].repair.mismatches)
			repair->mismatch_disk = run->workers[i].repair.mismatch_disk;
	}
}

int vdisk_repair(struct vdisk *vdisk, struct vdisk_repair *repair)
{
	_cleanup_(run_freep) struct run *run = NULL;
	int r;

	reactor_assert_home(vdisk->reactor);
	if (vdisk->closing)
		return -ECANCELED;
	r = vdisk_settle(vdisk);
	if (r < 0)
		return r;
	run = run_new(vdisk, repair);
	if (!run)
		return -ENOMEM;
	vdisk->fibers++;
	r = vdisk->log.failed ? 0 : seal_open_groups(vdisk);
	if (r == 0 || !stops(r)) {
		repair_all(run);
		r = run->error < 0 ? run->error : r;
	}
	tell(run, repair);
	vdisk_fiber_ends(vdisk);
	return r;
}
