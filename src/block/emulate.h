/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A wrapper that gives all operations to a volume that knows only some of them (at least reads,
 * writes and flushes): compare, compare-and-write, write zeroes and unmap are made of reads and
 * writes, in fibers (FIBER_DATA). Whatever is not native below:
 *
 *   write zeroes, unmap   writes zeros; allocates and releases nothing
 *   compare               reads and compares
 *   compare-and-write     reads, compares and writes; no other write through this wrapper comes
 *                         between. Writes that reach the volume below by another way are not held
 *                         off.
 *   status                everything is allocated and not known to be zero
 *
 * Must not stand on a volume that takes FIBER_DATA fibers of the same reactor itself: both would
 * wait for one pool.
 */
#include "block/block.h"

struct emulate_options {
	unsigned native_ops; /* bits 1 << BLOCK_READ ...: passed to the volume below as they are */
	unsigned requests;   /* passed below at once; more wait. 0 = SUB_POOL_DEFAULT */
	unsigned emulations; /* in fibers at once; more wait. 0 = EMULATE_DEFAULT */
};

#define EMULATE_DEFAULT 4
#define EMULATE_MAX 32
#define EMULATE_BASIC_OPS (1u << BLOCK_READ | 1u << BLOCK_WRITE | 1u << BLOCK_FLUSH)

/* -EINVAL: more than EMULATE_MAX emulations, or native_ops lacks some of EMULATE_BASIC_OPS.
 * -ENOMEM. */
int emulate_volume_new(struct block_volume *below, const struct emulate_options *options,
		       struct block_volume **ret_volume);
