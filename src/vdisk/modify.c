/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that read before they write, or only read and compare: partial blocks, compare,
 * compare-and-write, status of a range. Each reads in a fiber. Those that write hold their blocks
 * exclusively from before they read until they are acknowledged, so every earlier write to these
 * blocks is in the map and no other comes between. A bad old block fails the write: it is not
 * laundered under a new checksum.
 *
 * No fiber is held while something is being written: that may wait for room, for a checkpoint or
 * for a disk, and reads and other vDisks need the fibers. What was read stays true under the claim.
 */
#include <errno.h>
#include <string.h>

#include "base/reached.h"
#include "block/iov.h"
#include "vdisk/vdisk_priv.h"

#define COMPARE_BLOCKS 64u                 /* at a time */
#define STATUS_BLOCKS  (UINT64_C(1) << 18) /* looked at for one answer: 1 GiB */

/* What is written for a guest's request, under its claim: whole blocks. Data are one part; what
 * becomes zeros is one besides those of the two blocks at the edges. */
struct inner {
	char edges[2][BLOCK_BYTES]; /* the first and the last block, as they shall be */
	struct block_request *guest;
	unsigned part_count, left; /* that are not done */
	int result;
	struct inner_part {
		struct block_request request;
		struct inner *inner;
	} parts[3];
	struct iovec iov[]; /* the edges, and what lies between them in the guest's memory */
};

static struct inner *inner_new(struct block_request *guest)
{
	size_t bytes = sizeof(struct inner) + ((size_t)guest->iov_count + 2) * sizeof(struct iovec);
	struct inner *inner = aligned_alloc(BLOCK_BYTES, ALIGN_UP(bytes, (size_t)BLOCK_BYTES));

	if (!inner)
		return NULL;
	memset((char *)inner + sizeof(inner->edges), 0, bytes - sizeof(inner->edges));
	inner->guest = guest;
	return inner;
}

/* The guest's request ends with the last part. */
static void part_done(struct block_request *request, int result)
{
	struct inner *inner = CONTAINER_OF(request, struct inner_part, request)->inner;
	struct block_request *guest;

	if (result < 0)
		inner->result = result;
	if (--inner->left > 0)
		return;
	guest = TAKE_PTR(inner->guest);
	ASSERT(guest); /* it ends once */
	result = inner->result;
	free(inner);
	vdisk_write_ends(vdisk_request(guest)->vdisk, guest, result);
}

static void add_part(struct inner *inner, enum block_op op, uint64_t block, uint64_t count)
{
	struct inner_part *part = &inner->parts[inner->part_count++];

	part->inner = inner;
	part->request.op = op;
	part->request.offset = block * BLOCK_BYTES;
	part->request.length = count * BLOCK_BYTES;
	part->request.done = part_done;
}

static void add_data(struct inner *inner, uint64_t block, uint64_t count, const struct iovec *iov,
		     int iov_count)
{
	struct block_request *request = &inner->parts[inner->part_count].request;

	request->iov = iov;
	request->iov_count = iov_count;
	add_part(inner, BLOCK_WRITE, block, count);
}

/* Nothing of `inner` is touched after the last one; none ends before all are on their way. */
static void submit_parts(struct vdisk *vdisk, struct inner *inner)
{
	unsigned count = inner->part_count;

	inner->left = count;
	for (unsigned i = 0; i < count; i++)
		vdisk_write_unclaimed(vdisk, &inner->parts[i].request);
}

/* The bytes of `block` that the request wants: [*ret_start, *ret_end) of the vDisk. True: it is
 * only a part of the block. */
static bool covers_part(const struct block_request *request, uint64_t block, uint64_t *ret_start,
			uint64_t *ret_end)
{
	*ret_start = MAX(block * BLOCK_BYTES, request->offset);
	*ret_end = MIN((block + 1) * BLOCK_BYTES, request->offset + request->length);
	return *ret_end - *ret_start < BLOCK_BYTES;
}

static bool is_edge(const struct block_request *request, uint64_t block)
{
	uint64_t start, end;

	return covers_part(request, block, &start, &end);
}

/* Where the byte of the vDisk is in the memory of a request with data. */
static size_t data_at(const struct block_request *request, uint64_t offset)
{
	uint64_t skip = request->op == BLOCK_COMPARE_AND_WRITE ? request->length : 0;

	return (size_t)(skip + offset - request->offset);
}

/* 1, or 0: what shall be zeros reads as zeros already. Or an error. */
static int must_write(struct vdisk *vdisk, const struct block_request *request, uint64_t block)
{
	struct map_entry entry;
	int r;

	if (block_op_has_data(request->op))
		return 1;
	r = vdisk_lookup(vdisk, block, &entry);
	if (r < 0)
		return r;
	/* After a failure of the log a write that was refused may come back with the next open. */
	return entry.address == 0 ? vdisk->log.failed : 1;
}

/* Old content of a block at an edge with the request's bytes put over it. As must_write(). */
static int merge_edge(struct vdisk *vdisk, const struct block_request *request, uint64_t block,
		      char *buffer)
{
	uint64_t start, end;
	char *to;
	int r = must_write(vdisk, request, block);

	if (r == 1)
		r = vdisk_read_blocks(vdisk, block, 1, buffer) ?: 1;
	if (r != 1)
		return r;
	(void)covers_part(request, block, &start, &end); /* it does: an edge */
	to = buffer + (start - block * BLOCK_BYTES);
	if (block_op_has_data(request->op))
		iov_read(request->iov, data_at(request, start), to, (size_t)(end - start));
	else
		memset(to, 0, (size_t)(end - start));
	return 1;
}

/* The whole blocks of the request, from the guest's memory; edges before and after them. */
static void add_guest_data(struct inner *inner, bool head, bool tail)
{
	const struct block_request *guest = inner->guest;
	const struct vdisk_request *state = vdisk_request(inner->guest);
	uint64_t whole = state->first + head, end = state->end - tail;
	int count = 0;

	if (head)
		inner->iov[count++] = (struct iovec){inner->edges[0], BLOCK_BYTES};
	if (whole < end)
		count += iov_slice(guest->iov, data_at(guest, whole * BLOCK_BYTES),
				   (size_t)((end - whole) * BLOCK_BYTES), inner->iov + count);
	if (tail)
		inner->iov[count++] = (struct iovec){inner->edges[1], BLOCK_BYTES};
	add_data(inner, state->first, state->end - state->first, inner->iov, count);
}

/* Reads the edges, and says what has to be written. Fiber. */
static int make_parts(struct vdisk *vdisk, struct inner *inner)
{
	const struct block_request *guest = inner->guest;
	const struct vdisk_request *state = vdisk_request(inner->guest);
	uint64_t first = state->first, last = state->end - 1;
	bool head = is_edge(guest, first), tail = last > first && is_edge(guest, last);
	int write_head = 0, write_tail = 0;

	if (head)
		write_head = merge_edge(vdisk, guest, first, inner->edges[0]);
	if (write_head >= 0 && tail)
		write_tail = merge_edge(vdisk, guest, last, inner->edges[1]);
	if (write_head < 0 || write_tail < 0)
		return MIN(write_head, write_tail);
	if (block_op_has_data(guest->op)) {
		add_guest_data(inner, head, tail);
		return 0;
	}
	for (unsigned i = 0; i < 2; i++)
		inner->iov[i] = (struct iovec){inner->edges[i], BLOCK_BYTES};
	if (write_head)
		add_data(inner, first, 1, &inner->iov[0], 1);
	if (write_tail)
		add_data(inner, last, 1, &inner->iov[1], 1);
	if (first + head < last + 1 - tail)
		add_part(inner, guest->op, first + head, last + 1 - tail - (first + head));
	return 0;
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

/* 0: something is being written, with which the request ends. Fiber. */
static int modify(struct vdisk *vdisk, struct block_request *request)
{
	_cleanup_free_ struct inner *inner = inner_new(request);
	int r = 0;

	if (!inner)
		return -ENOMEM;
	if (request->op == BLOCK_COMPARE_AND_WRITE)
		r = compare_range(vdisk, request);
	if (r < 0)
		return r;
	if (request->op == BLOCK_COMPARE_AND_WRITE)
		block_compared(request);
	r = make_parts(vdisk, inner);
	if (r < 0)
		return r;
	if (inner->part_count == 0)
		vdisk_write_ends(vdisk, request, 0);
	else
		submit_parts(vdisk, TAKE_PTR(inner));
	return 0;
}

static void modify_fiber(struct fiber_task *task)
{
	struct vdisk_request *state = CONTAINER_OF(task, struct vdisk_request, task);
	struct block_request *request = block_request_of(state);
	struct vdisk *vdisk = state->vdisk;
	int r;

	REACHED("modify.run");
	r = modify(vdisk, request);
	if (r < 0)
		vdisk_finish(vdisk, request, r);
	vdisk_task_ends(vdisk);
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
	vdisk_task_ends(vdisk);
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
	vdisk_task_ends(vdisk);
}

void vdisk_status_start(struct vdisk *vdisk, struct block_request *request)
{
	vdisk_spawn(vdisk, &vdisk_request(request)->task, status_fiber);
}
