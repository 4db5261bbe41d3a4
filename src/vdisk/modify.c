/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that read before they write, or only read and compare: partial blocks, compare,
 * compare-and-write, status of a range. Each runs in a fiber. Those that write hold their blocks
 * exclusively from before they read until they are acknowledged, so every earlier write to these
 * blocks is in the map and no other comes between. A bad old block fails the write: it is not
 * laundered under a new checksum.
 */
#include <errno.h>
#include <string.h>

#include "base/reached.h"
#include "block/iov.h"
#include "vdisk/vdisk_priv.h"

#define COMPARE_BLOCKS 64u                 /* at a time */
#define STATUS_BLOCKS  (UINT64_C(1) << 18) /* looked at for one answer: 1 GiB */

/* A write that stands for the guest's: whole blocks, memory of its own. */
struct inner_write {
	struct block_request request;
	struct iovec iov;
	struct fiber *fiber;
	bool finished;
	int result;
};

static void inner_done(struct block_request *request, int result)
{
	struct inner_write *inner = CONTAINER_OF(request, struct inner_write, request);

	inner->finished = true;
	inner->result = result;
	fiber_wake(inner->fiber);
}

int vdisk_write_inner(struct vdisk *vdisk, enum block_op op, uint64_t block, uint64_t count,
		      void *buffer)
{
	struct inner_write *inner = calloc(1, sizeof(*inner));
	struct block_request *request;
	int r;

	if (!inner)
		return -ENOMEM;
	request = &inner->request;
	request->op = op;
	request->offset = block * BLOCK_BYTES;
	request->length = count * BLOCK_BYTES;
	inner->iov = (struct iovec){buffer, (size_t)(count * BLOCK_BYTES)};
	request->iov = buffer ? &inner->iov : NULL;
	request->iov_count = buffer ? 1 : 0;
	request->done = inner_done;
	inner->fiber = fiber_current();
	vdisk_write_unclaimed(vdisk, request);
	while (!inner->finished)
		fiber_suspend();
	r = inner->result;
	free(inner);
	return r;
}

/* Old content of one block with the request's bytes put over it. */
static int merge_block(struct vdisk *vdisk, struct block_request *request, uint64_t block,
		       char *buffer)
{
	uint64_t start = MAX(block * BLOCK_BYTES, request->offset);
	uint64_t end = MIN((block + 1) * BLOCK_BYTES, request->offset + request->length);
	uint64_t skip = start - request->offset;
	char *to = buffer + (start - block * BLOCK_BYTES);
	int r = 0;

	if (end - start < BLOCK_BYTES)
		r = vdisk_read_blocks(vdisk, block, 1, buffer);
	if (r < 0)
		return r;
	if (request->op == BLOCK_WRITE)
		iov_read(request->iov, (size_t)skip, to, (size_t)(end - start));
	else if (request->op == BLOCK_COMPARE_AND_WRITE)
		iov_read(request->iov, (size_t)(request->length + skip), to, (size_t)(end - start));
	else
		memset(to, 0, (size_t)(end - start));
	return 0;
}

static int write_merged(struct vdisk *vdisk, struct block_request *request, uint64_t first,
			uint64_t end)
{
	_cleanup_free_ char *buffer = NULL;
	int r = 0;

	if (first == end)
		return 0;
	buffer = aligned_alloc(BLOCK_BYTES, (size_t)((end - first) * BLOCK_BYTES));
	if (!buffer)
		return -ENOMEM;
	for (uint64_t block = first; r == 0 && block < end; block++)
		r = merge_block(vdisk, request, block, buffer + (block - first) * BLOCK_BYTES);
	return r < 0 ? r : vdisk_write_inner(vdisk, BLOCK_WRITE, first, end - first, buffer);
}

/* Zeroes what the request covers of a block at its edge; nothing to do where it reads as zeros
 * already. */
static int zero_edge(struct vdisk *vdisk, struct block_request *request, uint64_t block)
{
	struct map_entry entry;
	int r = vdisk_lookup(vdisk, block, &entry);

	/* After a failure of the log a write that was refused may come back with the next open. */
	if (r == 0 && entry.address == 0)
		r = vdisk->log.failed;
	if (r < 0 || entry.address == 0)
		return r;
	return write_merged(vdisk, request, block, block + 1);
}

static int zero_range(struct vdisk *vdisk, struct block_request *request)
{
	uint64_t end_byte = request->offset + request->length;
	uint64_t first = DIV_ROUND_UP(request->offset, (uint64_t)BLOCK_BYTES);
	uint64_t end = end_byte / BLOCK_BYTES;
	int r = 0;

	if (first > end) /* inside one block */
		return zero_edge(vdisk, request, end);
	if (first * BLOCK_BYTES != request->offset)
		r = zero_edge(vdisk, request, first - 1);
	if (r == 0 && end * BLOCK_BYTES != end_byte)
		r = zero_edge(vdisk, request, end);
	if (r == 0 && first < end)
		r = vdisk_write_inner(vdisk, request->op, first, end - first, NULL);
	return r;
}

/* 0 or -EILSEQ with the place, or an error. Whole logical blocks, maybe partial stored ones. */
static int compare_range(struct vdisk *vdisk, struct block_request *request)
{
	const struct vdisk_request *state = vdisk_request(request);
	_cleanup_free_ char *buffer =
		aligned_alloc(BLOCK_BYTES, (size_t)COMPARE_BLOCKS * BLOCK_BYTES);

	if (!buffer)
		return -ENOMEM;
	for (uint64_t block = state->first; block < state->end; block += COMPARE_BLOCKS) {
		uint64_t count = MIN((uint64_t)COMPARE_BLOCKS, state->end - block);
		uint64_t start = MAX(block * BLOCK_BYTES, request->offset);
		uint64_t end =
			MIN((block + count) * BLOCK_BYTES, request->offset + request->length);
		uint64_t skip = start - request->offset, same;
		int r = vdisk_read_blocks(vdisk, block, count, buffer);

		if (r < 0)
			return r;
		same = iov_compare(request->iov, (size_t)skip,
				   buffer + (start - block * BLOCK_BYTES), (size_t)(end - start));
		if (same < end - start) {
			request->miscompare_offset = skip + same;
			return -EILSEQ;
		}
	}
	return 0;
}

static int modify(struct vdisk *vdisk, struct block_request *request)
{
	const struct vdisk_request *state = vdisk_request(request);
	int r;

	if (request->op == BLOCK_WRITE_ZEROES || request->op == BLOCK_UNMAP)
		return zero_range(vdisk, request);
	if (request->op == BLOCK_COMPARE_AND_WRITE) {
		r = compare_range(vdisk, request);
		if (r < 0)
			return r;
		block_compared(request);
	}
	return write_merged(vdisk, request, state->first, state->end);
}

static void modify_fiber(struct fiber_task *task)
{
	struct vdisk_request *state = CONTAINER_OF(task, struct vdisk_request, task);
	struct block_request *request = block_request_of(state);
	struct vdisk *vdisk = state->vdisk;
	int r;

	REACHED("modify.run");
	r = modify(vdisk, request);
	if (r == 0)
		block_written(request);
	if (r == 0 && (request->flags & BLOCK_FUA)) {
		range_lock_release(&vdisk->locks, &state->claim);
		state->claimed = false;
		log_add_sync(&vdisk->log, request, vdisk->log.acked_lsn);
	} else {
		vdisk_finish(vdisk, request, r);
	}
	vdisk_fiber_ends(vdisk);
}

static void modify_granted(struct range_claim *claim)
{
	struct vdisk_request *state = CONTAINER_OF(claim, struct vdisk_request, claim);

	state->claimed = true;
	vdisk_spawn(state->vdisk, &state->task, modify_fiber);
}

/* The fiber is taken only once the blocks are held: fibers that wait for each other's could use
 * them up. */
void vdisk_modify_start(struct vdisk *vdisk, struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);

	state->claim.offset = state->first * BLOCK_BYTES;
	state->claim.length = (state->end - state->first) * BLOCK_BYTES;
	state->claim.mode = RANGE_LOCK_EXCLUSIVE;
	state->claim.granted = modify_granted;
	if (range_lock_take(&vdisk->locks, &state->claim))
		modify_granted(&state->claim);
}

static void compare_fiber(struct fiber_task *task)
{
	struct vdisk_request *state = CONTAINER_OF(task, struct vdisk_request, task);
	struct vdisk *vdisk = state->vdisk;
	struct block_request *request = block_request_of(state);

	vdisk_finish(vdisk, request, compare_range(vdisk, request));
	vdisk_fiber_ends(vdisk);
}

void vdisk_compare_start(struct vdisk *vdisk, struct block_request *request)
{
	vdisk_spawn(vdisk, &vdisk_request(request)->task, compare_fiber);
}

/* Extends the run of blocks that share the first one's state; subtrees that are absent are skipped
 * whole. */
static int status_run(struct vdisk *vdisk, uint64_t first, uint64_t end, bool *ret_mapped,
		      uint64_t *ret_blocks)
{
	struct map_entry entry;
	uint64_t block = first, run;
	int r;

	r = vdisk_lookup(vdisk, first, &entry);
	if (r < 0)
		return r;
	*ret_mapped = entry.address != 0;
	end = MIN(end, first + STATUS_BLOCKS);
	while (block < end) {
		run = map_absent_run(&vdisk->map, block, end - block);
		if (run == 0) {
			r = vdisk_lookup(vdisk, block, &entry);
			if (r < 0)
				return r;
			run = 1;
		} else {
			entry.address = 0;
		}
		if ((entry.address != 0) != *ret_mapped)
			break;
		block += run;
	}
	*ret_blocks = block - first;
	return 0;
}

static void status_fiber(struct fiber_task *task)
{
	struct vdisk_request *state = CONTAINER_OF(task, struct vdisk_request, task);
	struct block_request *request = block_request_of(state);
	struct vdisk *vdisk = state->vdisk;
	uint64_t blocks, end;
	bool mapped;
	int r;

	r = status_run(vdisk, state->first, state->end, &mapped, &blocks);
	if (r == 0) {
		end = MIN((state->first + blocks) * BLOCK_BYTES, request->offset + request->length);
		request->status.length = end - request->offset;
		request->status.allocated = mapped;
		request->status.zero = !mapped;
	}
	vdisk_finish(vdisk, request, r);
	vdisk_fiber_ends(vdisk);
}

void vdisk_status_start(struct vdisk *vdisk, struct block_request *request)
{
	vdisk_spawn(vdisk, &vdisk_request(request)->task, status_fiber);
}
