/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A volume at home on one reactor that stands for a volume on another: a request travels there in
 * a message, and its result travels back. Messages are part of the sub-requests, so nothing is
 * allocated. When both reactors are the same, requests go straight through.
 */
#include "block/block.h"

/* Callable on any reactor; takes the geometry that `target` has now. `requests`: on the way at
 * once; more wait. 0 = SUB_POOL_DEFAULT. The target outlives it. -EINVAL, -ENOMEM. */
int remote_volume_new(struct block_volume *target, struct reactor *home, unsigned requests,
		      struct block_volume **ret_volume);
/* On its home, after the target was resized. (Until then requests beyond the end of either are
 * refused.) */
void remote_volume_set_size(struct block_volume *volume, uint64_t size_bytes);
