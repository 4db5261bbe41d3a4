/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub: every copy of every sealed file that can be reached, in order of file id, read and
 * verified; what is wrong on one copy is put right from another. What was found is told with its
 * place in the vDisk (locate.c). Files that come or go meanwhile do not matter: new ones were
 * just written, and old ones are not needed any more. Home: the vDisk's reactor; runs on its
 * caller's fiber, which closing waits for.
 *
 * Invariants
 *  1. Each block of a file that no copy has right is told once, whichever copy it was found on.
 *  2. It is damaged only when every copy that counts was read, or gave errors while its disk was
 *     there. While one of them cannot be reached, what it has is not known: it is pending.
 *  3. A copy that went or hung before all of it was read is told as pending, once, where that
 * began, though other copies are right: nobody saw whether this one is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/reached.h"
#include "egroup/cursor.h"
#include "egroup/scan.h"
#include "pool/pool_disk.h"
#include "vdisk/pace.h"
#include "vdisk/vdisk_priv.h"

#define BUSY_NS   (10 * NSEC_PER_MSEC) /* until a file that is being moved is looked at again */
#define NOTICE_NS (2 * NSEC_PER_SEC)   /* until it is known that a disk has gone */

#define FILES_A_TURN 512u       /* looked at before others get a turn */
#define WALK_BYTES   (64 * KIB) /* of map pages, between pauses */

#define PLACES (2 * SLOTS_PER_GROUP) /* blocks of a file: an index and what is stored, at most */

#define PENDING_MAX 64u
#define WALKS_MAX                                                                      \
	32u /* of the whole map, to tell where findings lie: of the first of very many \
	     */

struct run {
	struct vdisk *vdisk;
	struct vdisk_scrub *scrub;
	struct ahead *ahead;
	const struct egroup_file *file;
	uint64_t told[PLACES / 64]; /* its blocks that no copy has right */
	unsigned unseen;            /* its copies that could not be asked, and were told */
	struct pace pace;
	uint64_t walked_bytes; /* since the last pause */
	/* Not yet told: where they lie is found out for many at once. The last are not counted
	 * either, as long as it is not known what errors meant that some copies gave. */
	struct vdisk_finding pending[PENDING_MAX];
	unsigned unread[PENDING_MAX]; /* these copies */
	size_t pending_count, counted;
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
	int r = run->scrub->finding && run->pending_count > 0 ? vdisk_locate(run->vdisk, &locate)
							      : 0;
	/* That it was stopped is noticed by whoever goes on. */
	if (r == -ESHUTDOWN)
		run->error = r;
	for (size_t i = 0; run->scrub->finding && i < run->pending_count; i++)
		run->scrub->finding(run->scrub->arg, &run->pending[i]);
	run->pending_count = run->counted = 0;
}

/* Of these copies, those on disks that have gone. */
static unsigned gone_copies(const struct run *run, unsigned copies)
{
	unsigned gone = 0;

	for (unsigned i = 0; i < run->file->copies.count; i++) {
		enum pool_disk_state state =
			pool_disk_state(run->vdisk->pool, run->file->copies.disks[i]);

		if (copies >> i & 1 && (state == POOL_DISK_MISSING || state == POOL_DISK_FAILED))
			gone |= 1u << i;
	}
	return gone;
}

/* What a disk gave errors for just before it was known to be gone was not read. Copies that are
 * gone, of each finding. */
static void judge_errors(struct run *run)
{
	unsigned unread = 0;

	for (size_t i = run->counted; i < run->pending_count; i++)
		unread |= run->unread[i];
	if (unread && gone_copies(run, unread) != unread)
		fiber_sleep(NOTICE_NS);
	for (size_t i = run->counted; unread && i < run->pending_count; i++)
		run->unread[i] = gone_copies(run, run->unread[i]);
}

/* False: it is right, and the other copy was not read. */
static bool count(struct vdisk_scrub *scrub, struct vdisk_finding *finding, bool gone)
{
	finding->pending |= finding->error && gone;
	if (finding->put_right) {
		scrub->put_right++;
	} else if (finding->pending) {
		REACHED("scrub.pending");
		scrub->pending++;
	} else if (finding->error) {
		finding->disk = 0;
		scrub->damaged++;
	} else if (gone) {
		REACHED("scrub.gone");
		return false;
	} else {
		scrub->left++;
	}
	return true;
}

/* While the file is still the run's. */
static void count_pending(struct run *run)
{
	size_t end = run->counted;

	judge_errors(run);
	for (size_t i = run->counted; i < run->pending_count; i++) {
		struct vdisk_finding finding = run->pending[i];

		if (count(run->scrub, &finding, run->unread[i]))
			run->pending[end++] = finding;
	}
	run->pending_count = run->counted = end;
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

/* What no copy has right is found on each. */
static bool is_told(struct run *run, uint32_t place)
{
	uint64_t bit = UINT64_C(1) << (place % 64);
	bool told;

	ASSERT(place < PLACES);
	told = run->told[place / 64] & bit;
	run->told[place / 64] |= bit;
	return told;
}

/* The rest of that copy is as little seen. */
static bool is_told_unseen(struct run *run, unsigned copy)
{
	bool told = run->unseen >> copy & 1;

	if (!told)
		REACHED("scrub.unseen");
	run->unseen |= 1u << copy;
	return told;
}

static void on_finding(void *arg, const struct egroup_finding *finding)
{
	struct run *run = arg;
	bool lost = !finding->right_elsewhere;
	unsigned copy =
		lost && finding->wrong ? (unsigned)__builtin_ctz(finding->wrong) : finding->copy;

	if (lost && is_told(run, finding->place))
		return;
	if (!lost && finding->away && is_told_unseen(run, copy))
		return;
	run->unread[run->pending_count] = finding->unread;
	run->pending[run->pending_count++] = (struct vdisk_finding){
		.kind = kind_of(run, finding),
		.offset = finding->block * BLOCK_BYTES,
		.bytes = (uint64_t)finding->block_count * BLOCK_BYTES,
		.group = finding->group,
		.slot = finding->slot,
		.slots = finding->slots,
		.file = run->file->id,
		.disk = run->file->copies.disks[copy],
		.error = finding->error,
		.put_right = finding->put_right,
		.pending = finding->away != 0,
	};
	if (run->pending_count < PENDING_MAX)
		return;
	count_pending(run);
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

static unsigned copies_that_count(const struct egroup_file *file)
{
	return ((1u << file->copies.count) - 1) & ~file->copies.stale;
}

/* It could not be opened. A copy that cannot be reached is repair's business; an index that is
 * damaged on every copy is read when the file is opened, and found there. */
static int unopened(struct run *run, struct egroup_file *file, int r)
{
	unsigned copies = copies_that_count(file), gone;
	struct egroup_finding index = {.kind = EGROUP_FINDING_INDEX, .error = r};

	if (r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	if (!file->compacted || (r != -EUCLEAN && r != -EBADMSG && r != -EIO))
		return 0;
	run->file = file;
	memset(run->told, 0, sizeof(run->told));
	run->unseen = 0;
	gone = gone_copies(run, copies);
	if (gone == copies)
		return 0;
	REACHED("scrub.index-lost");
	index.wrong = copies & ~gone;
	index.away = r == -EIO ? gone : 0;
	on_finding(run, &index);
	count_pending(run);
	return 0;
}

/* These are not read for their own sake. */
static unsigned failed_copies(const struct run *run)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < run->file->copies.count; i++)
		if (pool_disk_state(run->vdisk->pool, run->file->copies.disks[i]) ==
		    POOL_DISK_FAILED)
			failed |= 1u << i;
	return failed;
}

static int scan_copies(struct run *run, struct egroup_file *file)
{
	const struct egroup_scan scan = {
		.ahead = run->ahead,
		.finding = on_finding,
		.pause = after_piece,
		.pace = ask_pace,
		.arg = run,
	};
	unsigned copies;
	int r = 0;

	run->file = file;
	memset(run->told, 0, sizeof(run->told));
	run->unseen = 0;
	(void)pool_file_reopen(egroup_file_handle(file)); /* what can be reached again */
	copies = pool_file_taking_part(egroup_file_handle(file));
	copies &= ~failed_copies(run);
	for (unsigned copy = 0; r == 0 && copy < POOL_COPIES_MAX; copy++)
		if (copies >> copy & 1)
			r = egroup_scan(file, copy, &scan);
	count_pending(run);
	return r;
}

static int scrub_file(struct run *run, struct egroup_file *file)
{
	int r;

	file->busy = true;
	r = egroup_file_open(file);
	if (r < 0) {
		file->busy = false;
		return unopened(run, file, r);
	}
	r = scan_copies(run, file);
	egroup_file_unref(file);
	file->busy = false;
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
	scrub->done_pending = scrub->pending;
	return scrub->next && !scrub->next(scrub->arg) ? -ECANCELED : 0;
}

static void run_free(struct run *run)
{
	if (!run)
		return;
	ahead_free(run->ahead);
	free(run);
}
DEFINE_CLEANUP(struct run *, run_free)

static struct run *run_new(struct vdisk *vdisk, struct vdisk_scrub *scrub)
{
	_cleanup_(run_freep) struct run *run = calloc(1, sizeof(*run));

	if (!run || ahead_new(&run->ahead) < 0)
		return NULL;
	run->vdisk = vdisk;
	run->scrub = scrub;
	run->walks_left = WALKS_MAX;
	pace_init(&run->pace, vdisk, false);
	return TAKE_PTR(run);
}

int vdisk_scrub(struct vdisk *vdisk, struct vdisk_scrub *scrub)
{
	_cleanup_(run_freep) struct run *run = NULL;
	struct egroup_cursor cursor;
	struct egroup_file *file;
	int r = 0;

	reactor_assert_home(vdisk->reactor);
	if (vdisk->closing)
		return -ECANCELED;
	run = run_new(vdisk, scrub);
	if (!run)
		return -ENOMEM;
	vdisk->fibers++;
	egroup_cursor_init(&cursor, vdisk->store, scrub->after);
	while (r == 0 && (file = egroup_cursor_next(&cursor))) {
		if (scrub->last && file->id > scrub->last)
			break;
		r = scrub_next(run, &cursor, file);
	}
	egroup_cursor_done(&cursor);
	tell_pending(run);
	if (r == 0)
		REACHED("scrub.done");
	vdisk_fiber_ends(vdisk);
	return r;
}
