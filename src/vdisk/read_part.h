/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* One contiguous read of a request: blocks that lie next to each other in one file. */
#include "egroup/store.h"
#include "pool/pool_io.h"
#include "vdisk/cache.h"

#define READ_PART_BLOCKS 32

struct read_part {
	struct pool_read read;
	struct block_request *request;
	struct egroup_file *file;
	struct vdisk_cache *cache;
	uint64_t block; /* first, of the vDisk */
	uint32_t count;
	uint32_t bounces;       /* how many of `iov` are bounce blocks: all or none */
	uint32_t bytes;         /* wanted; with bounce blocks, from `skip` on */
	uint32_t skip;          /* bytes of the first bounce block before what is wanted */
	uint64_t data_offset;   /* in the request's data */
	struct fiber_task task; /* second try after a mismatch */
	/* A disk that hangs keeps `held`, in whose place this is; the other way round; or NULL. */
	struct read_part *held, *heir;
	bool waits; /* for that disk: no other has it right now */
	int iov_count;
	struct iovec iov[READ_PART_BLOCKS];
	uint32_t crcs[READ_PART_BLOCKS];
};
