/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking an open vDisk: its whole tree, its liveness, on request its data; while it is served,
 * too.
 *
 * The walk starts from the root that is committed at the beginning. Checkpoints go on meanwhile, so
 * what the walk comes to may be replaced and its slots gone. Before anything counts as a fault it
 * is looked for again from the root that is committed then: only what is still in the tree counts,
 * and what stands in the place of a page that went is walked instead. Data is read as a guest reads
 * it. Slots that are live and in no tree can be counted only when no checkpoint came between.
 */
#include <errno.h>

#include "base/reached.h"
#include "codec/crc32c.h"
#include "vdisk/vdisk_priv.h"

#define RUN_BLOCKS     256                 /* read at once; at most a volume's max_transfer_bytes */
#define RECLAIM_NS     (60 * NSEC_PER_SEC) /* waited for, so that liveness is exact */
#define DEPTH_MAX      4                   /* of walks in place of a page that went */
#define GUEST_PAUSE_NS 4                   /* for each byte that is read beside a guest's I/O */

struct check {
	struct vdisk *vdisk;
	struct vdisk_check_report report;
	const struct vdisk_walker *walker;
	uint64_t seen_live;
	uint64_t page_address; /* of the page the walk came to last */
	unsigned depth;
	vdisk_progress_fn *progress;
	void *arg;
	char *buffer;                  /* NULL: data is not read */
	uint64_t run_block, run_count; /* neighbours that are still to be read */
};

/* One way down from the root to the entry of a page, or of a block (level -1). */
static int descend(struct vdisk *vdisk, const struct orphan *top, int level, uint64_t index,
		   struct map_entry *ret_entry)
{
	_cleanup_free_ struct map_entry *entries = malloc(MAP_FANOUT * sizeof(*entries));
	struct map_entry entry = top->entry;

	if (!entries)
		return -ENOMEM;
	for (int at = (int)top->level; at > level && entry.address != 0; at--) {
		uint64_t number = index >> (MAP_FANOUT_BITS * (at - level));
		int r = vdisk_read_page(vdisk, (unsigned)at, number, &entry, entries);

		if (r < 0)
			return r;
		entry = entries[index >> (MAP_FANOUT_BITS * (at - level - 1)) & (MAP_FANOUT - 1)];
	}
	*ret_entry = entry;
	return 0;
}

/* What the tree that is committed now says. */
static int current_entry(struct vdisk *vdisk, int level, uint64_t index,
			 struct map_entry *ret_entry)
{
	struct orphan top;
	int r;

	do {
		/* Liveness and the tree in memory follow the commit in slices. */
		while (vdisk->applying)
			fiber_queue_wait(&vdisk->checkpoint_done);
		top = (struct orphan){.level = vdisk->row.root_level, .entry = vdisk->row.root};
		r = descend(vdisk, &top, level, index, ret_entry);
	} while (r < 0 && r != -ESHUTDOWN && top.entry.address != vdisk->row.root.address &&
		 !vdisk->closing);
	return r;
}

static bool is_current(struct check *check, int level, uint64_t index, uint64_t address)
{
	struct map_entry entry;

	return current_entry(check->vdisk, level, index, &entry) == 0 && entry.address == address;
}

/* Reads what has gathered, and block by block where that fails. */
static int read_run(struct check *check)
{
	struct vdisk *vdisk = check->vdisk;
	uint64_t count = check->run_count;
	int r = 0;

	check->run_count = 0;
	if (count > 0)
		r = block_io(&vdisk->volume, BLOCK_READ, 0, check->buffer, count * BLOCK_BYTES,
			     check->run_block * BLOCK_BYTES);
	for (uint64_t i = 0; r < 0 && r != -ESHUTDOWN && i < count; i++)
		if (vdisk_read_blocks(vdisk, check->run_block + i, 1, check->buffer) < 0)
			check->report.bad_blocks++;
	if (vdisk->volume.in_flight > 0)
		fiber_sleep(count * BLOCK_BYTES * GUEST_PAUSE_NS);
	return r == -ESHUTDOWN ? r : 0;
}

static int add_to_run(struct check *check, uint64_t block)
{
	int r = 0;

	if (check->run_count == RUN_BLOCKS || block != check->run_block + check->run_count)
		r = read_run(check);
	if (check->run_count == 0)
		check->run_block = block;
	check->run_count++;
	return r;
}

static bool go_on(const struct check *check)
{
	uint64_t slots = check->report.pages + check->report.blocks;

	return !check->progress || check->progress(check->arg, slots * BLOCK_BYTES,
						   check->vdisk->store->live_slots * BLOCK_BYTES);
}

static bool slot_is_live(const struct check *check, uint64_t address)
{
	struct egroup *group = egroup_find(check->vdisk->store, address_group(address));

	return group && slotset_has(&group->live, address_slot(address));
}

static int check_slot(void *arg, uint64_t address, int level, uint64_t block)
{
	struct check *check = arg;
	uint64_t index = level < 0 ? block : block >> (MAP_FANOUT_BITS * (level + 1));

	if (slot_is_live(check, address))
		check->seen_live++;
	else if (is_current(check, level, index, address) && !slot_is_live(check, address))
		check->report.missing_live_blocks++;
	if (level >= 0) {
		check->page_address = address;
		check->report.pages++;
		return go_on(check) ? 0 : -ECANCELED;
	}
	check->report.blocks++;
	return check->buffer ? add_to_run(check, block) : 0;
}

/* A page that cannot be read, if it still is in the tree; else what stands in its place is walked.
 */
static int check_page_again(struct check *check, unsigned level, uint64_t index)
{
	struct orphan page = {.level = level, .index = index};
	uint64_t address = check->page_address;
	int r = current_entry(check->vdisk, (int)level, index, &page.entry);

	if (r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	if (r < 0 || page.entry.address == address || check->depth == DEPTH_MAX) {
		check->report.bad_pages++;
		return 0;
	}
	REACHED("check.page-again");
	check->depth++;
	r = vdisk_walk(check->vdisk, &page, check->walker);
	check->depth--;
	return r;
}

static int check_damaged(void *arg, int level, uint64_t block, int error)
{
	struct check *check = arg;

	(void)error; /* was logged where it was read */
	if (level >= 0)
		return check_page_again(check, (unsigned)level,
					block >> (MAP_FANOUT_BITS * (level + 1)));
	if (is_current(check, -1, block, ADDRESS_OF_LOST))
		check->report.bad_blocks++;
	return 0;
}

static bool liveness_is_exact(const struct vdisk *vdisk)
{
	return vdisk->store->liveness_known && vdisk->orphans.count == 0 && !vdisk->reclaiming;
}

/* Beside a guest reclaim may have something to do all the time; then it is enough that liveness is
 * known. */
static int wait_for_liveness(struct vdisk *vdisk)
{
	uint64_t deadline = reactor_now_ns(vdisk->reactor) + RECLAIM_NS;

	for (unsigned i = 0; i < 2 && !liveness_is_exact(vdisk); i++) {
		vdisk_reclaim_soon(vdisk);
		while (vdisk->reclaiming && fiber_queue_wait_until(&vdisk->reclaim_done, deadline))
			;
	}
	if (vdisk->store->liveness_known)
		return 0;
	return vdisk->reclaim_error ? vdisk->reclaim_error : -EAGAIN;
}

static int walk_all(struct check *check)
{
	struct vdisk *vdisk = check->vdisk;
	struct orphan top;
	int r;

	while (vdisk->applying)
		fiber_queue_wait(&vdisk->checkpoint_done);
	top = (struct orphan){.level = vdisk->row.root_level, .entry = vdisk->row.root};
	r = vdisk_walk(vdisk, &top, check->walker);
	return r < 0 ? r : read_run(check);
}

int vdisk_check(struct vdisk *vdisk, bool read_data, vdisk_progress_fn *progress, void *arg,
		struct vdisk_check_report *ret_report)
{
	struct check check = {.vdisk = vdisk, .progress = progress, .arg = arg};
	const struct vdisk_walker walker = {
		.slot = check_slot, .damaged = check_damaged, .arg = &check};
	uint64_t checkpoints;
	bool exact;
	int r;

	reactor_assert_home(vdisk->reactor);
	check.walker = &walker;
	r = vdisk_settle(vdisk);
	if (r == 0)
		r = vdisk_checkpoint(vdisk);
	if (r == 0)
		r = wait_for_liveness(vdisk);
	if (r < 0)
		return r;
	if (read_data)
		check.buffer = aligned_alloc(BLOCK_BYTES, RUN_BLOCKS * BLOCK_BYTES);
	if (read_data && !check.buffer)
		return -ENOMEM;
	checkpoints = vdisk->stats.checkpoints;
	exact = liveness_is_exact(vdisk) && !vdisk->checkpointing;
	r = walk_all(&check);
	free(check.buffer);
	exact = exact && checkpoints == vdisk->stats.checkpoints && !vdisk->applying;
	/* What is below a damaged page cannot be judged. */
	if (exact && check.report.bad_pages == 0)
		check.report.leaked_blocks = vdisk->store->live_slots - check.seen_live;
	if (r == 0)
		*ret_report = check.report;
	return r;
}
