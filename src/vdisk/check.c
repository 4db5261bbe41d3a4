/* SPDX-License-Identifier: Apache-2.0 */
/* Checking an open, otherwise idle vDisk: its whole tree, its liveness, on request its data. */
#include <errno.h>

#include "codec/crc32c.h"
#include "vdisk/vdisk_priv.h"

#define RUN_BLOCKS 256 /* read at once; at most a volume's max_transfer_bytes */

struct check {
	struct vdisk *vdisk;
	struct vdisk_check_report report;
	uint64_t seen_live;
	vdisk_progress_fn *progress;
	void *arg;
	char *buffer;                  /* NULL: data is not read */
	uint64_t run_block, run_count; /* neighbours that are still to be read */
};

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

static int check_slot(void *arg, uint64_t address, int level, uint64_t block)
{
	struct check *check = arg;
	struct egroup *group = egroup_find(check->vdisk->store, address_group(address));

	if (group && slotset_has(&group->live, address_slot(address)))
		check->seen_live++;
	else
		check->report.missing_live_blocks++;
	if (level >= 0) {
		check->report.pages++;
		return go_on(check) ? 0 : -ECANCELED;
	}
	check->report.blocks++;
	return check->buffer ? add_to_run(check, block) : 0;
}

static int check_damaged(void *arg, int level, uint64_t block, int error)
{
	struct check *check = arg;

	(void)block;
	(void)error; /* was logged where it was read */
	if (level >= 0)
		check->report.bad_pages++;
	else
		check->report.bad_blocks++;
	return 0;
}

static int wait_for_liveness(struct vdisk *vdisk)
{
	for (unsigned i = 0; i < 2 || vdisk->reclaiming; i++) {
		if (vdisk->store->liveness_known && vdisk->orphans.count == 0 && !vdisk->reclaiming)
			return 0;
		vdisk_reclaim_soon(vdisk);
		while (vdisk->reclaiming)
			fiber_queue_wait(&vdisk->reclaim_done);
	}
	return vdisk->reclaim_error ? vdisk->reclaim_error : -EAGAIN;
}

int vdisk_check(struct vdisk *vdisk, bool read_data, vdisk_progress_fn *progress, void *arg,
		struct vdisk_check_report *ret_report)
{
	struct check check = {.vdisk = vdisk, .progress = progress, .arg = arg};
	const struct vdisk_walker walker = {
		.slot = check_slot, .damaged = check_damaged, .arg = &check};
	struct orphan top;
	int r;

	reactor_assert_home(vdisk->reactor);
	r = vdisk_checkpoint(vdisk);
	if (r == 0)
		r = wait_for_liveness(vdisk);
	if (r < 0)
		return r;
	if (read_data)
		check.buffer = aligned_alloc(BLOCK_BYTES, RUN_BLOCKS * BLOCK_BYTES);
	if (read_data && !check.buffer)
		return -ENOMEM;
	top = (struct orphan){.level = vdisk->row.root_level, .entry = vdisk->row.root};
	r = vdisk_walk(vdisk, &top, &walker);
	if (r == 0)
		r = read_run(&check);
	free(check.buffer);
	/* What is below a damaged page cannot be judged. */
	if (check.report.bad_pages == 0)
		check.report.leaked_blocks = vdisk->store->live_slots - check.seen_live;
	if (r == 0)
		*ret_report = check.report;
	return r;
}
