/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A record on its way to disk: bookkeeping, then header and payload in one piece of memory. */
#include "egroup/record.h"
#include "pool/pool_io.h"
#include "vdisk/cache.h"

struct log_group;

struct record_buffer {
	struct pool_write write;
	struct list_node link; /* of the log's records in flight, in order of LSN */
	struct log *log;
	struct vdisk_cache *cache; /* of one that a disk that hangs keeps: the log may be gone */
	struct log_group *group;
	uint64_t lsn;
	uint32_t slot;
	bool finished;     /* the write has completed, with `result` */
	unsigned reroutes; /* times it was issued again */
	int result;
	struct iovec iov;
	unsigned request_count;
	struct block_request *requests[RECORD_EXTENTS_MAX + 1];
};

/* Bookkeeping takes the first 4 KiB, so that the header is aligned. */
#define RECORD_BUFFER_BYTES ((2 + (size_t)CACHE_RECORD_BLOCKS) * BLOCK_BYTES)
_Static_assert(sizeof(struct record_buffer) <= BLOCK_BYTES, "fits before the header");

static inline struct record_header_disk *record_buffer_header(struct record_buffer *buffer)
{
	return (struct record_header_disk *)((char *)buffer + BLOCK_BYTES);
}
static inline char *record_buffer_payload(struct record_buffer *buffer)
{
	return (char *)buffer + 2 * (size_t)BLOCK_BYTES;
}
