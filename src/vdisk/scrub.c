/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub: every copy of every sealed file, in order of file id, read and verified; what is wrong on
 * one copy is put right from another. Files that come or go meanwhile do not matter: new ones were
 * just written, and old ones are not needed any more. Home: the vDisk's reactor; runs on its
 * caller's fiber, which closing waits for.
 */
#include <errno.h>

#include "base/reached.h"
#include "egroup/cursor.h"
#include "egroup/scan.h"
#include "vdisk/vdisk_priv.h"

#define BUSY_NS (10 * NSEC_PER_MSEC) /* until a file that is being moved is looked at again */

struct run {
	struct vdisk *vdisk;
	struct vdisk_scrub *scrub;
	struct ahead *ahead;
	const struct egroup_file *file;
	uint64_t operations; /* of the guest, when it was last looked */
};

static void on_finding(void *arg, const struct egroup_finding *finding)
{
	struct run *run = arg;
	struct vdisk_scrub *scrub = run->scrub;
	const struct vdisk_finding told = {
		.group = finding->group,
		.slot = finding->slot,
		.disk = run->file->copies.disks[finding->copy],
		.error = finding->error,
		.put_right = finding->right_elsewhere,
	};

	if (finding->right_elsewhere)
		scrub->put_right++;
	else
		scrub->damaged++;
	if (scrub->finding)
		scrub->finding(scrub->arg, &told);
}

static int after_piece(void *arg, uint64_t bytes)
{
	struct run *run = arg;
	struct vdisk *vdisk = run->vdisk;
	bool busy = vdisk_guest_is_active(vdisk, &run->operations);

	run->scrub->bytes += bytes;
	if (vdisk->closing)
		return -ECANCELED;
	if (run->scrub->progress && !run->scrub->progress(run->scrub->arg, run->scrub->bytes))
		return -ECANCELED;
	if (busy && run->scrub->pause_ns_per_byte)
		fiber_sleep(bytes * run->scrub->pause_ns_per_byte);
	else
		fiber_yield();
	return 0;
}

/* A copy that cannot be reached is repair's business. */
static int scrub_file(struct run *run, struct egroup_file *file)
{
	const struct egroup_scan scan = {
		.ahead = run->ahead, .finding = on_finding, .pause = after_piece, .arg = run};
	unsigned copies;
	int r;

	r = egroup_file_open(file);
	if (r < 0)
		return r == -ESHUTDOWN || r == -ENOMEM ? r : 0;
	file->busy = true;
	run->file = file;
	(void)pool_file_reopen(egroup_file_handle(file)); /* what can be reached again */
	copies = pool_file_taking_part(egroup_file_handle(file));
	for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++)
		if (copies >> copy & 1)
			r = egroup_scan(file, copy, &scan);
	file->busy = false;
	egroup_file_unref(file);
	return r == -EUCLEAN ? 0 : r; /* was told as a finding */
}

uint64_t vdisk_scrub_bytes(struct vdisk *vdisk)
{
	struct egroup_file *file;
	uint64_t bytes = 0;

	LIST_FOR_EACH (&vdisk->store->files, file, struct egroup_file, link)
		if (!file->dying && egroup_file_is_sealed(file))
			bytes += file->copies.count * egroup_scan_bytes(file);
	return bytes;
}

/* One that is being moved or copied just now is waited for; it may be gone then. */
static int scrub_next(struct run *run, struct egroup_cursor *cursor, struct egroup_file *file)
{
	uint64_t id = file->id;
	int r;

	if (file->busy) {
		egroup_cursor_back(cursor);
		fiber_sleep(BUSY_NS);
		return after_piece(run, 0);
	}
	if (!egroup_file_is_sealed(file))
		return 0;
	r = scrub_file(run, file);
	if (r == 0)
		run->scrub->after = id;
	return r;
}

int vdisk_scrub(struct vdisk *vdisk, struct vdisk_scrub *scrub)
{
	_cleanup_(ahead_freep) struct ahead *ahead = NULL;
	struct run run = {.vdisk = vdisk, .scrub = scrub};
	struct egroup_cursor cursor;
	struct egroup_file *file;
	int r;

	reactor_assert_home(vdisk->reactor);
	if (vdisk->closing)
		return -ECANCELED;
	r = ahead_new(&ahead);
	if (r < 0)
		return r;
	run.ahead = ahead;
	vdisk->fibers++;
	(void)vdisk_guest_is_active(vdisk, &run.operations); /* from now on */
	egroup_cursor_init(&cursor, vdisk->store, scrub->after);
	while (r == 0 && (file = egroup_cursor_next(&cursor)))
		r = scrub_next(&run, &cursor, file);
	egroup_cursor_done(&cursor);
	if (r == 0)
		REACHED("scrub.done");
	vdisk_fiber_ends(vdisk);
	return r;
}
