/* SPDX-License-Identifier: Apache-2.0 */
/* Checking an open, otherwise idle vDisk: its whole tree, its liveness, on request its data. */
#include <errno.h>

#include "codec/crc32c.h"
#include "vdisk/vdisk_priv.h"

struct check {
	struct vdisk *vdisk;
	struct vdisk_check_report report;
	uint64_t seen_live;
	char *buffer; /* NULL: data is not read */
};

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
		return 0;
	}
	check->report.blocks++;
	if (check->buffer && vdisk_read_blocks(check->vdisk, block, 1, check->buffer) < 0)
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

int vdisk_check(struct vdisk *vdisk, bool read_data, struct vdisk_check_report *ret_report)
{
	struct check check = {.vdisk = vdisk};
	struct orphan top;
	int r;

	reactor_assert_home(vdisk->reactor);
	r = vdisk_checkpoint(vdisk);
	if (r == 0)
		r = wait_for_liveness(vdisk);
	if (r < 0)
		return r;
	if (read_data)
		check.buffer = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	if (read_data && !check.buffer)
		return -ENOMEM;
	top = (struct orphan){.level = vdisk->row.root_level, .entry = vdisk->row.root};
	r = vdisk_walk(vdisk, &top, check_slot, &check);
	free(check.buffer);
	/* A damaged page ends the walk; what is below it cannot be judged. */
	if (r == -EUCLEAN) {
		check.report.bad_pages++;
		r = 0;
	} else {
		check.report.leaked_blocks = vdisk->store->live_slots - check.seen_live;
	}
	if (r == 0)
		*ret_report = check.report;
	return r;
}
