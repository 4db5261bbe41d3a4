/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Files of which repair found that copies on disks that have gone, alone, may have some blocks
 * right: such copies stay in the row until the disk comes back or is given up for good. To find
 * that out, all that is left was read; so it is remembered, with what must change before another
 * look can find something else, and it is looked through once in half an hour at most. In
 * memory only. Home: the vDisk's reactor; nothing suspends.
 */
#include "egroup/repair.h"

/* What a repair of the file found, 0: it waits for nothing; with pool_disks_gone() when it began.
 */
void waiting_note(struct egroup_file *file, uint64_t blocks, uint32_t gone);
/* Whether a repair that needs this is not to be tried now: it failed a moment ago, or there is
 * nothing to be done but to wait. */
bool waiting_leaves_alone(const struct egroup_file *file, const struct egroup_need *need);
/* Whether the operator has said twice that the copy's disk will not come back. */
bool waiting_is_given_up(const struct egroup_file *file, unsigned copy);
