/* SPDX-License-Identifier: Apache-2.0 */
#include "egroup/waiting.h"

#include <errno.h>
#include <stdlib.h>

#include "base/reached.h"
#include "pool/pool_disk.h"

#define AGAIN_NS (1800 * NSEC_PER_SEC) /* what can be read may have changed all the same */

bool waiting_is_given_up(const struct egroup_file *file, unsigned copy)
{
	_cleanup_free_ struct pool_disk_info *info = calloc(1, sizeof(*info));
	struct pool *pool = file->store->pool;
	uint64_t disk = file->copies.disks[copy];
	int r = info ? pool_disk_get(pool, disk, info) : -ENOMEM;

	return r == -ENOENT || (r == 0 && info->state == POOL_DISK_FAILED && info->draining);
}

/* Another that is the same costs half an hour. */
static uint32_t state_of(const struct egroup_need *need, uint32_t gone)
{
	return gone * 31 + need->drop;
}

void waiting_note(struct egroup_file *file, uint64_t blocks, uint32_t gone)
{
	struct egroup_need need;

	file->waiting_blocks = (uint32_t)MIN(blocks, (uint64_t)UINT32_MAX);
	if (blocks == 0)
		return;
	egroup_file_need(file, &need);
	file->waiting_state = state_of(&need, gone);
	file->waiting_until_ns = reactor_now_ns(file->store->reactor) + AGAIN_NS;
}

bool waiting_leaves_alone(const struct egroup_file *file, const struct egroup_need *need)
{
	/* Making a copy may be possible now. */
	if (file->waiting_blocks == 0 || need->make > 0)
		return egroup_file_is_avoided(file);
	if (file->waiting_state != state_of(need, pool_disks_gone(file->store->pool))) {
		REACHED("repair.waits-no-more");
		return false;
	}
	return reactor_now_ns(file->store->reactor) < file->waiting_until_ns;
}
