/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Memory for requests on one copy of a file that may be given up (pool_io.h): a set of aligned
 * buffers of one size, made at once, so that whoever reads and writes much neither allocates nor
 * copies. A buffer has room for one request at a time. While a request that was given up still has
 * it, it is not given out, though it was put back; the set stays in memory until then, too. So a
 * set has more buffers than its user needs at a time: as many as hanging disks may keep.
 *
 * On one reactor. Completions never run inside the call that submits.
 */
#include "pool/pool_io.h"

struct pool_buffers;

struct pool_buffer {
	char *memory;
	/* The caller's. The request has ended, or was given up (-ETIMEDOUT): pool_buffer_is_held().
	 */
	void (*done)(struct pool_buffer *buffer, int64_t result);
	void *arg;
	/* Private. */
	struct pool_buffers *set;
	struct pool_buffer *next; /* that is free */
	bool held, taken;
	struct iovec iov;
	struct pool_read read;
	struct pool_write write;
};

/* `bytes` a buffer, a multiple of 4 KiB. Memory is used up to what was taken at a time. -ENOMEM. */
int pool_buffers_new(size_t bytes, unsigned count, struct pool_buffers **ret_buffers);
/* All were put back. */
void pool_buffers_free(struct pool_buffers *buffers);

/* Before so many are taken at a time: sees to it that the memory of those that are taken first is
 * there, as pool_buffer_populate(). Fiber. */
void pool_buffers_prepare(struct pool_buffers *buffers, unsigned count);

/* NULL: all are taken, or held. */
struct pool_buffer *pool_buffers_take(struct pool_buffers *buffers);
/* Nothing is under way but what was given up. NULL is nothing. */
void pool_buffer_put(struct pool_buffer *buffer);

/* As pool_file_read_copy() and pool_file_write_copy(); `done` is set. */
void pool_buffer_read(struct pool_buffer *buffer, struct pool_file *file, unsigned copy,
		      size_t length, uint64_t offset);
void pool_buffer_write(struct pool_buffer *buffer, struct pool_file *file, unsigned copy,
		       size_t length, uint64_t offset);
/* Has the kernel find pages for memory that was never used, on a worker: to clear 1 MiB takes up to
 * a millisecond, which would be one of the reactor's turn. What is in there stays. It is only a
 * help: what fails is done at first use. Fiber. */
void pool_buffer_populate(void *memory, size_t bytes);

/* Whether a request that was given up still has the memory: its content means nothing. */
static inline bool pool_buffer_is_held(const struct pool_buffer *buffer)
{
	return buffer->held;
}

DEFINE_CLEANUP(struct pool_buffers *, pool_buffers_free)
