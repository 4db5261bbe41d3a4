/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contents are one anonymous mapping without reserve, which the kernel backs on first write.
 * A bitmap knows which pages were written since they were last released.
 *
 * Invariants.
 *  1. A page whose bit is clear reads as zeros and takes no memory.
 *  2. The bits that are set number `allocated_pages`.
 *  3. Everything but zeroing happens inside submit, in one step. Zeroing runs in steps, each in a
 *     piece of deferred work, so that a long range cannot hold the reactor.
 *
 * Lives on the volume's home reactor. Nothing on the data path fails, except that the machine may
 * run out of memory: then the kernel kills the process, as for any other memory.
 */
#include "block/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "block/iov.h"

#define PAGE_BYTES         UINT64_C(4096)
#define RELEASE_STEP_BYTES (16 * MIB)
#define CLEAR_STEP_BYTES   MIB
#define STATUS_BYTES       GIB /* a status answer looks no further */

struct memory_volume {
	struct block_volume volume;
	unsigned char *data;
	uint64_t *bitmap;
	uint64_t page_count;
	uint64_t allocated_pages;
};

struct zeroing { /* in request->space */
	struct reactor_work work;
	uint64_t offset;
	uint64_t end;
	bool release;
};
_Static_assert(sizeof(struct zeroing) <= BLOCK_SPACE_BYTES, "fits in a request");

static struct memory_volume *memory_of(const struct block_volume *volume)
{
	return CONTAINER_OF(volume, struct memory_volume, volume);
}

static bool page_is_allocated(const struct memory_volume *memory, uint64_t page)
{
	return memory->bitmap[page / 64] >> page % 64 & 1;
}

static void mark_pages(struct memory_volume *memory, uint64_t offset, uint64_t length)
{
	uint64_t last = (offset + length - 1) / PAGE_BYTES;

	for (uint64_t page = offset / PAGE_BYTES; page <= last; page++) {
		uint64_t bit = UINT64_C(1) << page % 64;

		memory->allocated_pages += !(memory->bitmap[page / 64] & bit);
		memory->bitmap[page / 64] |= bit;
	}
}

/* How many pages from `page`, at most `limit`, share its state. */
static uint64_t run_length(const struct memory_volume *memory, uint64_t page, uint64_t limit)
{
	bool allocated = page_is_allocated(memory, page);
	uint64_t same = allocated ? UINT64_MAX : 0;
	uint64_t count = 1;

	while (count < limit) {
		uint64_t at = page + count;

		if (at % 64 == 0 && memory->bitmap[at / 64] == same)
			count += 64;
		else if (page_is_allocated(memory, at) == allocated)
			count++;
		else
			break;
	}
	return MIN(count, limit);
}

static void release_pages(struct memory_volume *memory, uint64_t page, uint64_t count)
{
	unsigned char *at = memory->data + page * PAGE_BYTES;

	/* Locked memory cannot be given back, but must read as zeros all the same. */
	if (madvise(at, count * PAGE_BYTES, MADV_DONTNEED) < 0)
		memset(at, 0, count * PAGE_BYTES);
	for (uint64_t i = page; i < page + count; i++)
		memory->bitmap[i / 64] &= ~(UINT64_C(1) << i % 64);
	memory->allocated_pages -= count;
}

static void clear_bytes(struct memory_volume *memory, uint64_t offset, uint64_t length)
{
	memset(memory->data + offset, 0, length);
	mark_pages(memory, offset, length);
}

/* Zeroes the start of [offset, end): part of one page, or pages of one state. Returns how much. */
static uint64_t zero_run(struct memory_volume *memory, uint64_t offset, uint64_t end, bool release)
{
	uint64_t page = offset / PAGE_BYTES;
	uint64_t pages = (end - offset) / PAGE_BYTES;
	bool partial = offset % PAGE_BYTES != 0 || pages == 0;
	uint64_t length;

	if (partial) {
		length = MIN(end, (page + 1) * PAGE_BYTES) - offset;
		if (!release || page_is_allocated(memory, page))
			clear_bytes(memory, offset, length);
		return length;
	}
	pages = run_length(memory, page, pages);
	length = pages * PAGE_BYTES;
	if (!release)
		clear_bytes(memory, offset, length);
	else if (page_is_allocated(memory, page))
		release_pages(memory, page, pages);
	return length;
}

static void zero_step(struct reactor_work *work)
{
	struct zeroing *zeroing = CONTAINER_OF(work, struct zeroing, work);
	struct block_request *request = block_request_of(zeroing);
	struct memory_volume *memory = memory_of(request->volume);
	uint64_t step = zeroing->release ? RELEASE_STEP_BYTES : CLEAR_STEP_BYTES;
	/* Steps end between pages, else the page at the seam would be cleared twice and never
	 * go. */
	uint64_t stop = MIN(zeroing->end, ALIGN_DOWN(zeroing->offset + step, PAGE_BYTES));

	while (zeroing->offset < stop)
		zeroing->offset += zero_run(memory, zeroing->offset, stop, zeroing->release);
	if (zeroing->offset < zeroing->end) {
		reactor_defer(memory->volume.home, &zeroing->work);
		return;
	}
	block_written(request);
	block_complete(request, 0);
}

static void start_zeroing(struct memory_volume *memory, struct block_request *request)
{
	struct zeroing *zeroing = (struct zeroing *)request->space;

	list_node_init(&zeroing->work.link);
	zeroing->work.run = zero_step;
	zeroing->offset = request->offset;
	zeroing->end = request->offset + request->length;
	zeroing->release = !(request->flags & BLOCK_NO_RELEASE);
	reactor_defer(memory->volume.home, &zeroing->work);
}

static int compare(const struct memory_volume *memory, struct block_request *request)
{
	const unsigned char *stored = memory->data + request->offset;
	uint64_t same = iov_compare(request->iov, 0, stored, request->length);

	if (same == request->length)
		return 0;
	request->miscompare_offset = same;
	return -EILSEQ;
}

/* `skip`: where in the iovec the new data starts. */
static void store(struct memory_volume *memory, const struct block_request *request, uint64_t skip)
{
	mark_pages(memory, request->offset, request->length);
	iov_read(request->iov, skip, memory->data + request->offset, request->length);
}

static void get_status(const struct memory_volume *memory, struct block_request *request)
{
	uint64_t page = request->offset / PAGE_BYTES;
	uint64_t limit = MIN(request->length, STATUS_BYTES);
	uint64_t pages = DIV_ROUND_UP(request->offset % PAGE_BYTES + limit, PAGE_BYTES);
	uint64_t end = (page + run_length(memory, page, pages)) * PAGE_BYTES;
	bool allocated = page_is_allocated(memory, page);

	request->status.length = MIN(end - request->offset, limit);
	request->status.allocated = allocated;
	request->status.zero = !allocated;
}

static void memory_submit(struct block_volume *volume, struct block_request *request)
{
	struct memory_volume *memory = memory_of(volume);
	int result = 0;

	switch (request->op) {
	case BLOCK_READ:
		iov_write(request->iov, 0, memory->data + request->offset, request->length);
		break;
	case BLOCK_WRITE:
		store(memory, request, 0);
		block_written(request);
		break;
	case BLOCK_WRITE_ZEROES:
	case BLOCK_UNMAP:
		start_zeroing(memory, request);
		return;
	case BLOCK_FLUSH:
		break;
	case BLOCK_COMPARE:
		result = compare(memory, request);
		break;
	case BLOCK_COMPARE_AND_WRITE:
		result = compare(memory, request);
		if (result == 0) {
			block_compared(request);
			store(memory, request, request->length);
			block_written(request);
		}
		break;
	case BLOCK_STATUS:
		get_status(memory, request);
		break;
	default:
		result = -EOPNOTSUPP;
		break;
	}
	block_complete_later(request, result);
}

static void *map_pages(uint64_t length)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	/* A huge page would make a volume written at random as large as if it were full. Old
	 * kernels without huge pages refuse the advice, and need none. */
	(void)madvise(at, length, MADV_NOHUGEPAGE);
	return at;
}

static uint64_t bitmap_bytes(const struct memory_volume *memory)
{
	return DIV_ROUND_UP(memory->page_count, 64) * sizeof(uint64_t);
}

static void memory_free(struct block_volume *volume)
{
	struct memory_volume *memory = memory_of(volume);

	if (memory->data)
		(void)munmap(memory->data, memory->page_count * PAGE_BYTES);
	if (memory->bitmap)
		(void)munmap(memory->bitmap, bitmap_bytes(memory));
	free(memory);
}

static const struct block_volume_ops memory_ops = {
	.kind = "memory",
	.submit = memory_submit,
	.free = memory_free,
};

int memory_volume_new(struct reactor *home, uint64_t size_bytes, uint32_t block_bytes,
		      struct block_volume **ret_volume)
{
	struct memory_volume *memory;
	int result = block_check_geometry(size_bytes, block_bytes);

	if (result < 0)
		return result;
	if (size_bytes > MEMORY_VOLUME_MAX_BYTES)
		return -EINVAL;
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return -ENOMEM;
	block_volume_init(&memory->volume, &memory_ops, home, size_bytes, block_bytes);
	memory->page_count = DIV_ROUND_UP(size_bytes, PAGE_BYTES);
	memory->data = map_pages(memory->page_count * PAGE_BYTES);
	memory->bitmap = map_pages(bitmap_bytes(memory));
	if (!memory->data || !memory->bitmap) {
		memory_free(&memory->volume);
		return -ENOMEM;
	}
	*ret_volume = &memory->volume;
	return 0;
}

uint64_t memory_volume_allocated_bytes(const struct block_volume *volume)
{
	ASSERT(volume->ops == &memory_ops);
	return memory_of(volume)->allocated_pages * PAGE_BYTES;
}
