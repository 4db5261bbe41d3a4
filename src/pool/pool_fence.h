/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * I/O of a dead daemon that may still land: a disk that hangs keeps what is left of that one in the
 * kernel, and all it had begun, on any disk, may be carried out at any later time. Its writes go to
 * the files that it had open, and to no others; so they do no harm while (docs/decisions.md, 53)
 *
 *  1. no file that was there before this daemon began is put to another use: what is not named any
 *     more is removed, spare files too, so that late writes go to a file without a name;
 *  2. what is written into such a file is what the dead daemon wrote there itself: records, at
 *     their places. Recovery appends to no file, and repair puts blocks right with what they were;
 *  3. no file is made under the name of one that was there before, as long as the dead daemon may
 * be in a call that changes names: repair waits;
 *  4. a disk is used from the start, when it takes writes then, or only when all has landed.
 *
 * Of the process, for it has one state directory. Any thread.
 */

enum pool_fence {
	POOL_FENCE_NONE,
	POOL_FENCE_DATA,  /* data may be written late */
	POOL_FENCE_NAMES, /* and names may be changed */
};

void pool_fence_set(enum pool_fence fence);
enum pool_fence pool_fence_get(void);
