/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A volume in memory: sparse, gone when it is freed. Pages come with their first write; unmap and
 * write zeroes give them back. All operations are native; each of at most max_transfer_bytes
 * takes effect in one step, so compare-and-write is atomic.
 */
#include "block/block.h"

#define MEMORY_VOLUME_MAX_BYTES TIB

/* -EINVAL geometry or larger than MEMORY_VOLUME_MAX_BYTES, -ENOMEM. */
int memory_volume_new(struct reactor *home, uint64_t size_bytes, uint32_t block_bytes,
		      struct block_volume **ret_volume);
/* Bytes in pages that it holds. The volume is of this kind. */
uint64_t memory_volume_allocated_bytes(const struct block_volume *volume);
