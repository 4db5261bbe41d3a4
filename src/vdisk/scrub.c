/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub: every copy of every sealed file, in order of file id, read and verified; what is wrong on
 * one copy is put right from another. What was found is told with its place in the vDisk
 * (locate.c). Files that come or go meanwhile do not matter: new ones were
 * just written, and old ones are not needed any more. Home: the vDisk's reactor; runs on its
 * caller's fiber, which closing waits for.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/reached.h"
#include "egroup/cursor.h"
#include "egroup/scan.h"
#include "vdisk/pace.h"
#include "vdisk/vdisk_priv.h"

#define BUSY_NS (10 * NSEC_PER_MSEC) /* until a file that is being moved is looked at again */

#define FILES_A_TURN 512u       /* looked at before others get a turn */
#define WALK_BYTES   (64 * KIB) /* of map pages, between pauses */

#define PENDING_MAX 64u
#define WALKS_MAX                                                                      \
	32u /* of the whole map, to tell where findings lie: of the first of very many \
	     */

struct run {
	struct vdisk *vdisk;
	struct vdisk_scrub *scrub;
	struct ahead *ahead;
	const struct egroup_file *file;
	unsigned first_copy; /* that is read of it */
	unsigned copy;
	struct pace pace;
	uint64_t walked_bytes; /* since the last pause */
	/* Counted, but not yet told: where they lie is found out for many at once. */
	struct vdisk_finding *pending;
	size_t pending_count;
	unsigned walks_left;
	int error; /* of finding that out */
};

static int pause_search(void *arg, uint64_t bytes)
{
	struct run *run = arg;
	const struct vdisk_scrub *scrub = run->scrub;

	if (run->vdisk->closing || (scrub->stopped && scrub->stopped(scrub->arg)))
		return -ECANCELED;
	run->walked_bytes += bytes;
	if (run->walked_bytes >= WALK_BYTES) {
		run->walked_bytes = 0;
		pace_wait(&run->pace);
	}
	return 0;
}

static void ask_pace(void *arg, struct egroup_pace *pace)
{
	struct run *run = arg;

	pace_ask(&run->pace, pace);
}

static void tell_pending(struct run *run)
{
	const struct vdisk_locate locate = {.findings = run->pending,
					    .count = run->pending_count,
					    .pause = pause_search,
					    .arg = run,
					    .walks_left = &run->walks_left};
	int r = run->pending_count > 0 ? vdisk_locate(run->vdisk, &locate) : 0;
	/* That it was stopped is noticed by whoever goes on. */
	if (r == -ESHUTDOWN)
		run->error = r;
	for (size_t i = 0; run->scrub->finding && i < run->pending_count; i++)
		run->scrub->finding(run->scrub->arg, &run->pending[i]);
	run->pending_count = 0;
}

static enum vdisk_finding_kind kind_of(const struct run *run, const struct egroup_finding *finding)
{
	const struct egroup *group = egroup_find(run->vdisk->store, finding->group);

	if (finding->kind == EGROUP_FINDING_INDEX)
		return VDISK_FINDING_INDEX;
	if (finding->kind == EGROUP_FINDING_HEADER)
		return VDISK_FINDING_RECORD;
	return group && group->stream == RECORD_STREAM_PAGES ? VDISK_FINDING_MAP
							     : VDISK_FINDING_DATA;
}

/* What is damaged on every copy is found on each, and told when it is the first time. */
static void on_finding(void *arg, const struct egroup_finding *finding)
{
	struct run *run = arg;
	bool lost = !finding->right_elsewhere;

	if (lost && run->copy != run->first_copy)
		return;
	if (lost)
		run->scrub->damaged++;
	else if (finding->put_right)
		run->scrub->put_right++;
	else
		run->scrub->left++;
	if (!run->scrub->finding)
		return;
	run->pending[run->pending_count++] = (struct vdisk_finding){
		.kind = kind_of(run, finding),
		.offset = finding->block * BLOCK_BYTES,
		.bytes = (uint64_t)finding->block_count * BLOCK_BYTES,
		.group = finding->group,
		.slot = finding->slot,
		.slots = finding->slots,
		.file = run->file->id,
		.disk = lost ? 0 : run->file->copies.disks[finding->copy],
		.error = finding->error,
		.put_right = finding->put_right,
	};
	if (run->pending_count == PENDING_MAX)
		tell_pending(run);
}

static int after_piece(void *arg, uint64_t bytes)
{
	struct run *run = arg;

	run->scrub->bytes += bytes;
	if (run->vdisk->closing)
		return -ECANCELED;
	if (run->scrub->progress && !run->scrub->progress(run->scrub->arg, run->scrub->bytes))
		return -ECANCELED;
	if (bytes > 0)
		pace_wait(&run->pace);
	else
		fiber_yield();
	return 0;
}

/* It could not be opened. A copy that cannot be reached is repair's business; an index that is
 * damaged on every copy is read when the file is opened, and found there. */
static int unopened(struct run *run, struct egroup_file *file, int r)
{
	const struct egroup_finding index = {.kind = EGROUP_FINDING_INDEX, .error = r};

	if (r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	if (file->compacted && (r == -EUCLEAN || r == -EBADMSG || r == -EIO)) {
		REACHED("scrub.index-lost");
		run->file = file;
		run->copy = run->first_copy = 0;
		on_finding(run, &index);
	}
	return 0;
}

static int scrub_file(struct run *run, struct egroup_file *file)
{
	const struct egroup_scan scan = {
		.ahead = run->ahead,
		.finding = on_finding,
		.pause = after_piece,
		.pace = ask_pace,
		.arg = run,
	};
	unsigned copies;
	int r;

	r = egroup_file_open(file);
	if (r < 0)
		return unopened(run, file, r);
	file->busy = true;
	run->file = file;
	(void)pool_file_reopen(egroup_file_handle(file)); /* what can be reached again */
	copies = pool_file_taking_part(egroup_file_handle(file));
	run->first_copy = copies ? (unsigned)__builtin_ctz(copies) : 0;
	for (run->copy = run->first_copy; r == 0 && run->copy < POOL_COPIES_MAX; run->copy++)
		if (copies >> run->copy & 1)
			r = egroup_scan(file, run->copy, &scan);
	file->busy = false;
	egroup_file_unref(file);
	if (r == 0 || r == -EUCLEAN) /* was told as a finding */
		r = run->error;
	return r;
}

uint64_t vdisk_scrub_bytes(struct vdisk *vdisk)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;
	uint64_t bytes = 0;

	vdisk->fibers++;
	egroup_cursor_init(&cursor, vdisk->store, 0);
	for (unsigned looked_at = 1; (file = egroup_cursor_next(&cursor)); looked_at++) {
		if (egroup_file_is_sealed(file))
			bytes += file->copies.count * egroup_scan_bytes(file);
		if (looked_at % FILES_A_TURN == 0)
			fiber_yield();
	}
	egroup_cursor_done(&cursor);
	vdisk_fiber_ends(vdisk);
	return bytes;
}

/* One that is being moved or copied just now is waited for; it may be gone then. */
static int scrub_next(struct run *run, struct egroup_cursor *cursor, struct egroup_file *file)
{
	struct vdisk_scrub *scrub = run->scrub;
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
	if (r < 0)
		return r;
	scrub->after = id;
	scrub->done_bytes = scrub->bytes;
	scrub->done_left = scrub->left;
	scrub->done_damaged = scrub->damaged;
	return scrub->next && !scrub->next(scrub->arg) ? -ECANCELED : 0;
}

int vdisk_scrub(struct vdisk *vdisk, struct vdisk_scrub *scrub)
{
	_cleanup_free_ struct vdisk_finding *pending = calloc(PENDING_MAX, sizeof(*pending));
	_cleanup_(ahead_freep) struct ahead *ahead = NULL;
	struct run run = {
		.vdisk = vdisk, .scrub = scrub, .pending = pending, .walks_left = WALKS_MAX};
	struct egroup_cursor cursor;
	struct egroup_file *file;
	int r;

	reactor_assert_home(vdisk->reactor);
	if (!pending)
		return -ENOMEM;
	if (vdisk->closing)
		return -ECANCELED;
	r = ahead_new(&ahead);
	if (r < 0)
		return r;
	run.ahead = ahead;
	vdisk->fibers++;
	pace_init(&run.pace, vdisk, false);
	egroup_cursor_init(&cursor, vdisk->store, scrub->after);
	while (r == 0 && (file = egroup_cursor_next(&cursor)))
		r = scrub_next(&run, &cursor, file);
	egroup_cursor_done(&cursor);
	tell_pending(&run);
	if (r == 0)
		REACHED("scrub.done");
	vdisk_fiber_ends(vdisk);
	return r;
}
