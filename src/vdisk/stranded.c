/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vDisk that was opened while no disk of its pool could be written: what could be read of its log
 * is in the map, and that is all. When there is a disk again it is recovered as any other, and goes
 * on as if it was opened then, with the guests that it has.
 *
 * Invariants
 *  1. While it is stranded nothing of it is written, neither to a disk nor to the catalog.
 *  2. It is recovered from all copies that can be read by then, and only when these have each
 *     record that was shown: a first pass finds that out while guests read on. During the second
 *     no request is under way: they wait.
 *  3. No flush succeeds while something that was replayed may be known to the disk's cache only:
 *     whoever wrote it before a crash of the daemon may ask for that now, and nothing is synced.
 *  4. A second pass that is broken off leaves the map torn, neither the older nor the newer: then
 *     nothing is read until one has come to its end.
 * Home: the vDisk's reactor.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/reached.h"
#include "egroup/cursor.h"
#include "pool/pool_io.h"
#include "vdisk/vdisk_priv.h"

#define HOLD_NS NSEC_PER_MSEC

static void set_stranded(struct vdisk *vdisk, bool stranded)
{
	__atomic_store_n(&vdisk->stranded, stranded, __ATOMIC_RELAXED);
}

bool vdisk_is_stranded(const struct vdisk *vdisk)
{
	return __atomic_load_n(&vdisk->stranded, __ATOMIC_RELAXED);
}

void vdisk_strand(struct vdisk *vdisk)
{
	REACHED("stranded.open");
	set_stranded(vdisk, true);
	log_error("vdisk",
		  "no disk of its pool can be written: it is only read, until a disk is taken back "
		  "(sarsen disk restore), added (sarsen disk add) or mounted",
		  "vdisk=%" PRIu64, vdisk->row.id);
}

bool vdisk_stranded_takes(struct vdisk *vdisk, struct block_request *request)
{
	if (vdisk->holding) {
		REACHED("stranded.held");
		list_push_back(&vdisk->held, &request->link);
		vdisk->held_count++;
	} else if (block_op_is_write(request->op)) {
		vdisk_finish_later(vdisk, request, -EROFS);
	} else if (request->op == BLOCK_FLUSH && vdisk->unsettled) {
		REACHED("stranded.flush-refused");
		vdisk_finish_later(vdisk, request, -EROFS);
	} else if (vdisk->torn && request->op != BLOCK_FLUSH) {
		vdisk_finish_later(vdisk, request, -EIO);
	} else {
		return false;
	}
	return true;
}

static void hold_requests(struct vdisk *vdisk)
{
	vdisk->holding = true;
	while (vdisk->volume.in_flight > vdisk->held_count)
		fiber_sleep(HOLD_NS);
}

static void release_requests(struct vdisk *vdisk)
{
	struct list held;
	struct list_node *node;

	list_init(&held);
	list_splice_back(&held, &vdisk->held);
	vdisk->held_count = 0;
	vdisk->holding = false;
	while ((node = list_pop_front(&held)))
		vdisk_submit(&vdisk->volume, LIST_ENTRY(node, struct block_request, link));
}

/* What was opened to be read only can be written, and what was away is there. */
static void reopen_files(struct vdisk *vdisk)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;

	egroup_cursor_init(&cursor, vdisk->store, 0);
	while ((file = egroup_cursor_step(&cursor))) {
		if (!file->file || file->dying)
			continue;
		egroup_file_ref(file);
		(void)pool_file_reopen(egroup_file_handle(file)); /* as far as it can be */
		egroup_file_unref(file);
	}
	egroup_cursor_done(&cursor);
}

static int settle(struct vdisk *vdisk)
{
	int r = vdisk_recover_look(vdisk);

	if (r < 0)
		return r;
	hold_requests(vdisk);
	r = vdisk_recover_again(vdisk);
	if (r == 0) {
		set_stranded(vdisk, false);
		vdisk->tail_limit = vdisk_tail_limit(vdisk);
	}
	release_requests(vdisk);
	if (r == 0)
		reopen_files(vdisk);
	return r;
}

static void report(struct vdisk *vdisk, int r)
{
	if (r == 0) {
		REACHED("stranded.settled");
		log_info("vdisk", "a disk of its pool can be written again: it takes writes",
			 "vdisk=%" PRIu64, vdisk->row.id);
	} else if (r != vdisk->settle_error && r != -ESHUTDOWN) {
		log_warning("vdisk", "it still is only read: its log cannot be ended; tried again",
			    "vdisk=%" PRIu64 " error=%d", vdisk->row.id, r);
	}
	vdisk->settle_error = r;
}

int vdisk_settle(struct vdisk *vdisk)
{
	int r;

	while (vdisk->settling)
		fiber_queue_wait(&vdisk->settled);
	if (!vdisk->stranded)
		return 0;
	if (vdisk->closing)
		return -ECANCELED;
	if (pool_is_stranded(vdisk->pool))
		return -EROFS;
	vdisk->settling = true;
	vdisk->fibers++;
	r = settle(vdisk);
	report(vdisk, r);
	vdisk->settling = false;
	fiber_queue_wake_all(&vdisk->settled);
	if (r == 0)
		vdisk_reclaim_soon(vdisk);
	vdisk_fiber_ends(vdisk);
	return r;
}

static void settle_run(struct fiber_task *task)
{
	struct vdisk *vdisk = CONTAINER_OF(task, struct vdisk, settle_task);

	(void)vdisk_settle(vdisk); /* reported; the next tick tries again */
	vdisk->settle_spawned = false;
	vdisk_fiber_ends(vdisk);
}

void vdisk_settle_soon(struct vdisk *vdisk)
{
	if (vdisk->settle_spawned || pool_is_stranded(vdisk->pool))
		return;
	vdisk->settle_spawned = true;
	vdisk->fibers++;
	vdisk->settle_task.run = settle_run;
	fiber_spawn(vdisk->reactor, FIBER_CHECKPOINT, &vdisk->settle_task);
}
