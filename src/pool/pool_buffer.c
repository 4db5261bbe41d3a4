/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See pool_buffer.h. The memory is one mapping of its own, not of the heap, so that all of it is
 * given back when the set goes. It is in huge pages where the system has them: a request of 1 MiB
 * in pages of 4 KiB has more segments than many devices take at a time, and each page is looked up
 * and pinned for each request.
 *
 * Invariants
 *  1. A buffer is free, or taken, or held by a request that was given up, or the last two.
 *  2. The set goes with whichever is the last: its owner, or the end of the last such request.
 */
#include "pool/pool_buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_priv.h"
#include "reactor/io.h"

#define HUGE_BYTES     (2 * MIB)
#define POPULATE_BYTES (64 * KIB) /* at a time: meanwhile mmap() of the process waits */

struct pool_buffers {
	struct pool_buffer *free; /* last put, first taken: what was used is in the caches */
	unsigned taken, held;     /* those that are both count as held */
	bool left;                /* by its owner */
	size_t bytes;             /* of a buffer */
	void *map;
	size_t map_bytes;
	unsigned count;
	unsigned prepared; /* the first of them */
	struct pool_buffer buffers[];
};

static void give_back(struct pool_buffer *buffer)
{
	buffer->next = buffer->set->free;
	buffer->set->free = buffer;
}

static void free_unless_held(struct pool_buffers *buffers)
{
	if (!buffers->left || buffers->held > 0)
		return;
	(void)munmap(buffers->map, buffers->map_bytes); /* of what was mapped: cannot fail */
	free(buffers);
}

static void release(struct pool_buffer *buffer)
{
	struct pool_buffers *buffers = buffer->set;

	ASSERT(buffer->held && buffers->held > 0);
	REACHED("pool.buffer-released");
	buffer->held = false;
	buffers->held--;
	if (buffer->taken)
		buffers->taken++;
	else
		give_back(buffer);
	free_unless_held(buffers);
}

static void ends(struct pool_buffer *buffer, int64_t result, bool is_held)
{
	if (is_held) {
		REACHED("pool.buffer-held");
		buffer->held = true;
		buffer->set->held++;
		buffer->set->taken--;
	}
	buffer->done(buffer, result);
}

static void read_done(struct pool_read *read, int64_t result)
{
	ends(CONTAINER_OF(read, struct pool_buffer, read), result, pool_read_is_held(read));
}

static void read_released(struct pool_read *read)
{
	release(CONTAINER_OF(read, struct pool_buffer, read));
}

static void write_done(struct pool_write *write, int result)
{
	ends(CONTAINER_OF(write, struct pool_buffer, write), result, pool_write_is_held(write));
}

static void write_released(struct pool_write *write)
{
	release(CONTAINER_OF(write, struct pool_buffer, write));
}

static bool map_memory(struct pool_buffers *buffers)
{
	size_t bytes = ALIGN_UP(buffers->bytes * buffers->count, HUGE_BYTES);
	void *map;

	buffers->map_bytes = bytes + HUGE_BYTES; /* to be aligned in it */
	map = mmap(NULL, buffers->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	if (map == MAP_FAILED)
		return false;
	buffers->map = map;
	/* Without them it is slower. */
	(void)madvise((void *)ALIGN_UP((uintptr_t)map, HUGE_BYTES), bytes, MADV_HUGEPAGE);
	return true;
}

int pool_buffers_new(size_t bytes, unsigned count, struct pool_buffers **ret_buffers)
{
	_cleanup_free_ struct pool_buffers *buffers =
		calloc(1, sizeof(*buffers) + count * sizeof(buffers->buffers[0]));
	char *memory;

	ASSERT(bytes > 0 && IS_ALIGNED(bytes, POOL_PAGE_BYTES) && count > 0);
	if (!buffers)
		return -ENOMEM;
	buffers->bytes = bytes;
	buffers->count = count;
	if (!map_memory(buffers))
		return -ENOMEM;
	memory = (char *)ALIGN_UP((uintptr_t)buffers->map, HUGE_BYTES);
	for (unsigned i = count; i-- > 0;) {
		struct pool_buffer *buffer = &buffers->buffers[i];

		buffer->set = buffers;
		buffer->memory = memory + i * bytes;
		buffer->read.done = read_done;
		buffer->read.released = read_released;
		buffer->write.done = write_done;
		buffer->write.released = write_released;
		give_back(buffer);
	}
	*ret_buffers = TAKE_PTR(buffers);
	return 0;
}

void pool_buffers_free(struct pool_buffers *buffers)
{
	if (!buffers)
		return;
	ASSERT(!buffers->left && buffers->taken == 0);
	buffers->left = true;
	free_unless_held(buffers);
}

struct populating {
	char *memory;
	size_t bytes;
};

static void populate_work(void *arg)
{
	const struct populating *populating = arg;
	size_t step;

	for (size_t at = 0; at < populating->bytes; at += step) {
		step = MIN(POPULATE_BYTES, populating->bytes - at);
		(void)madvise(populating->memory + at, step, MADV_POPULATE_WRITE);
	}
}

void pool_buffer_populate(void *memory, size_t bytes)
{
	struct populating populating = {memory, bytes};

	ASSERT(IS_ALIGNED((uintptr_t)memory, POOL_PAGE_BYTES));
	(void)io_job(populate_work, &populating);
}

void pool_buffers_prepare(struct pool_buffers *buffers, unsigned count)
{
	unsigned first = buffers->prepared;

	if (MIN(count, buffers->count) <= first)
		return;
	buffers->prepared = MIN(count, buffers->count);
	pool_buffer_populate(buffers->buffers[first].memory,
			     (buffers->prepared - first) * buffers->bytes);
}

struct pool_buffer *pool_buffers_take(struct pool_buffers *buffers)
{
	struct pool_buffer *buffer = buffers->free;

	if (!buffer)
		return NULL;
	ASSERT(!buffer->held && !buffer->taken);
	buffers->free = buffer->next;
	buffers->taken++;
	buffer->taken = true;
	return buffer;
}

void pool_buffer_put(struct pool_buffer *buffer)
{
	if (!buffer)
		return;
	ASSERT(buffer->taken);
	buffer->taken = false;
	if (buffer->held)
		return;
	buffer->set->taken--;
	give_back(buffer);
}

static const struct iovec *cover(struct pool_buffer *buffer, size_t length)
{
	ASSERT(buffer->taken && !buffer->held && length <= buffer->set->bytes);
	buffer->iov = (struct iovec){buffer->memory, length};
	return &buffer->iov;
}

void pool_buffer_read(struct pool_buffer *buffer, struct pool_file *file, unsigned copy,
		      size_t length, uint64_t offset)
{
	pool_file_read_copy(file, copy, cover(buffer, length), offset, &buffer->read);
}

void pool_buffer_write(struct pool_buffer *buffer, struct pool_file *file, unsigned copy,
		       size_t length, uint64_t offset)
{
	pool_file_write_copy(file, copy, cover(buffer, length), offset, &buffer->write);
}
