/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A volume that reads as zeros and forgets what is written: for measuring the layers above it.
 */
#include "block/block.h"

/* -EINVAL geometry, -ENOMEM. */
int null_volume_new(struct reactor *home, uint64_t size_bytes, uint32_t block_bytes,
		    struct block_volume **ret_volume);
