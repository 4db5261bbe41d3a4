/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request that changes something first claims its range: plain changes shared, an emulated
 * compare-and-write exclusively. Then it is passed below, or it takes a slot (a buffer and an
 * iovec) and runs in a fiber. At most as many fibers run as there are slots.
 *
 * Invariants.
 *  1. A claim is held from before the first I/O of a change until after the last.
 *  2. Slots go to the first in line; whoever waits for one holds its claim already, and slots are
 *     only held by fibers that wait for the volume below, so the wait ends.
 */
#include "block/emulate.h"

#include <errno.h>
#include <string.h>

#include "base/reached.h"
#include "block/iov.h"
#include "block/range_lock.h"
#include "block/sub.h"

#define CHUNK_BYTES ((uint64_t)64 * 1024)

struct slot {
	struct list_node link;
	unsigned char *buffer; /* CHUNK_BYTES */
	struct iovec iov[BLOCK_IOV_MAX];
};

struct emulate_volume {
	struct block_volume volume;
	struct block_volume *below;
	unsigned native_ops;
	struct sub_pool pool;
	struct range_lock lock;
	struct slot *slots;
	unsigned char *buffers;
	struct list free_slots;
	struct list waiting; /* requests without a slot, by their link */
};

struct emulation { /* in request->space */
	struct range_claim claim;
	struct fiber_task task;
	struct slot *slot;
	bool claimed;
};
_Static_assert(sizeof(struct emulation) <= BLOCK_SPACE_BYTES, "fits in a request");

static const unsigned char zeroes[CHUNK_BYTES];

static struct emulate_volume *emulate_of(const struct block_volume *volume)
{
	return CONTAINER_OF(volume, struct emulate_volume, volume);
}

static struct emulation *emulation_of(struct block_request *request)
{
	return (struct emulation *)request->space;
}

static bool is_native(const struct emulate_volume *emulate, enum block_op op)
{
	return emulate->native_ops >> op & 1;
}

static void release_claim(struct emulate_volume *emulate, struct block_request *request)
{
	if (emulation_of(request)->claimed)
		range_lock_release(&emulate->lock, &emulation_of(request)->claim);
}

static int compare_chunks(struct emulate_volume *emulate, struct block_request *request)
{
	struct slot *slot = emulation_of(request)->slot;
	uint64_t most = MIN(emulate->below->max_transfer_bytes, CHUNK_BYTES);
	uint64_t done = 0;

	while (done < request->length) {
		uint64_t chunk = MIN(request->length - done, most);
		uint64_t same;
		int result = block_io(emulate->below, BLOCK_READ, 0, slot->buffer, chunk,
				      request->offset + done);

		if (result < 0)
			return result;
		same = iov_compare(request->iov, done, slot->buffer, chunk);
		if (same < chunk) {
			request->miscompare_offset = done + same;
			return -EILSEQ;
		}
		done += chunk;
	}
	return 0;
}

/* Writes `length` bytes from slot->iov. */
static int write_slot(struct emulate_volume *emulate, struct block_request *request, int iov_count,
		      uint64_t offset, uint64_t length)
{
	struct block_wait wait;

	wait.request.op = BLOCK_WRITE;
	wait.request.flags = request->flags & BLOCK_FUA;
	wait.request.offset = offset;
	wait.request.length = length;
	wait.request.iov = emulation_of(request)->slot->iov;
	wait.request.iov_count = iov_count;
	return block_wait(emulate->below, &wait);
}

static int compare_and_write(struct emulate_volume *emulate, struct block_request *request)
{
	int count, result = compare_chunks(emulate, request);

	if (result < 0)
		return result;
	block_compared(request);
	count = iov_slice(request->iov, request->length, request->length,
			  emulation_of(request)->slot->iov);
	return write_slot(emulate, request, count, request->offset, request->length);
}

static int write_zeroes(struct emulate_volume *emulate, struct block_request *request)
{
	struct iovec *iov = emulation_of(request)->slot->iov;
	uint64_t most = MIN(emulate->below->max_transfer_bytes, BLOCK_IOV_MAX * CHUNK_BYTES);
	uint64_t offset = request->offset, end = offset + request->length;
	int result = 0;

	while (result == 0 && offset < end) {
		uint64_t length = MIN(end - offset, most);
		int count = 0;

		for (uint64_t done = 0; done < length; done += CHUNK_BYTES)
			iov[count++] = (struct iovec){
				.iov_base = (void *)zeroes,
				.iov_len = MIN(length - done, CHUNK_BYTES),
			};
		result = write_slot(emulate, request, count, offset, length);
		offset += length;
	}
	return result;
}

static int run_operation(struct emulate_volume *emulate, struct block_request *request)
{
	switch (request->op) {
	case BLOCK_COMPARE:
		return compare_chunks(emulate, request);
	case BLOCK_COMPARE_AND_WRITE:
		return compare_and_write(emulate, request);
	case BLOCK_WRITE_ZEROES:
	case BLOCK_UNMAP:
		return write_zeroes(emulate, request);
	default:
		return -EOPNOTSUPP;
	}
}

static void run_fiber(struct fiber_task *task);

static void spawn(struct emulate_volume *emulate, struct block_request *request)
{
	struct emulation *emulation = emulation_of(request);
	struct list_node *node = list_pop_front(&emulate->free_slots);

	emulation->slot = LIST_ENTRY(node, struct slot, link);
	emulation->task.run = run_fiber;
	fiber_spawn(emulate->volume.home, FIBER_DATA, &emulation->task);
}

static void give_slot(struct emulate_volume *emulate, struct slot *slot)
{
	struct list_node *next;

	list_push_front(&emulate->free_slots, &slot->link);
	next = list_pop_front(&emulate->waiting);
	if (next)
		spawn(emulate, LIST_ENTRY(next, struct block_request, link));
}

static void run_fiber(struct fiber_task *task)
{
	struct emulation *emulation = CONTAINER_OF(task, struct emulation, task);
	struct block_request *request = block_request_of(emulation);
	struct emulate_volume *emulate = emulate_of(request->volume);
	int result = run_operation(emulate, request);

	if (result == 0)
		block_written(request);
	give_slot(emulate, emulation->slot);
	release_claim(emulate, request);
	block_complete(request, result);
}

/* The claim, if any, is held. */
static void proceed(struct emulate_volume *emulate, struct block_request *request)
{
	if (is_native(emulate, request->op)) {
		sub_pool_submit(&emulate->pool, request);
	} else if (!list_is_empty(&emulate->free_slots)) {
		spawn(emulate, request);
	} else {
		REACHED("block.emulate.wait");
		list_push_back(&emulate->waiting, &request->link);
	}
}

static void claim_granted(struct range_claim *claim)
{
	struct block_request *request =
		block_request_of(CONTAINER_OF(claim, struct emulation, claim));

	proceed(emulate_of(request->volume), request);
}

static enum range_lock_mode mode_of(const struct emulate_volume *emulate, enum block_op op)
{
	bool exclusive = op == BLOCK_COMPARE_AND_WRITE && !is_native(emulate, op);

	return exclusive ? RANGE_LOCK_EXCLUSIVE : RANGE_LOCK_SHARED;
}

static void emulate_submit(struct block_volume *volume, struct block_request *request)
{
	struct emulate_volume *emulate = emulate_of(volume);
	struct emulation *emulation = emulation_of(request);

	if (request->op == BLOCK_STATUS && !is_native(emulate, BLOCK_STATUS)) {
		request->status =
			(struct block_status){.length = request->length, .allocated = true};
		block_complete_later(request, 0);
		return;
	}
	emulation->claimed = block_op_is_write(request->op);
	if (emulation->claimed) {
		emulation->claim = (struct range_claim){
			.offset = request->offset,
			.length = request->length,
			.mode = mode_of(emulate, request->op),
			.granted = claim_granted,
		};
		if (!range_lock_take(&emulate->lock, &emulation->claim))
			return;
	}
	proceed(emulate, request);
}

static void below_done(struct block_request *request, int result)
{
	struct sub *sub = sub_of(request);
	struct block_request *parent = sub_release(sub);

	release_claim(emulate_of(parent->volume), parent);
	block_complete(parent, result);
}

static void start(struct sub *sub)
{
	sub->request.done = below_done;
	block_submit(emulate_of(sub->parent->volume)->below, &sub->request);
}

static void emulate_free(struct block_volume *volume)
{
	struct emulate_volume *emulate = emulate_of(volume);

	sub_pool_done(&emulate->pool);
	free(emulate->slots);
	free(emulate->buffers);
	free(emulate);
}

static const struct block_volume_ops emulate_ops = {
	.kind = "emulate",
	.submit = emulate_submit,
	.free = emulate_free,
};

static int make_slots(struct emulate_volume *emulate, unsigned count)
{
	emulate->slots = calloc(count, sizeof(*emulate->slots));
	emulate->buffers = aligned_alloc(4096, count * CHUNK_BYTES);
	if (!emulate->slots || !emulate->buffers)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		emulate->slots[i].buffer = emulate->buffers + i * CHUNK_BYTES;
		list_push_back(&emulate->free_slots, &emulate->slots[i].link);
	}
	return 0;
}

static int emulate_init(struct emulate_volume *emulate, struct block_volume *below,
			const struct emulate_options *options)
{
	int result;

	block_volume_init_like(&emulate->volume, &emulate_ops, below->home, below);
	emulate->below = below;
	emulate->native_ops = options->native_ops;
	range_lock_init(&emulate->lock);
	list_init(&emulate->free_slots);
	list_init(&emulate->waiting);
	result = make_slots(emulate, options->emulations ? options->emulations : EMULATE_DEFAULT);
	if (result < 0)
		return result;
	return sub_pool_init(&emulate->pool, options->requests, start);
}

int emulate_volume_new(struct block_volume *below, const struct emulate_options *options,
		       struct block_volume **ret_volume)
{
	struct emulate_volume *emulate;
	int result;

	if (options->emulations > EMULATE_MAX ||
	    (options->native_ops & EMULATE_BASIC_OPS) != EMULATE_BASIC_OPS)
		return -EINVAL;
	emulate = calloc(1, sizeof(*emulate));
	if (!emulate)
		return -ENOMEM;
	result = emulate_init(emulate, below, options);
	if (result < 0) {
		emulate_free(&emulate->volume);
		return result;
	}
	*ret_volume = &emulate->volume;
	return 0;
}
