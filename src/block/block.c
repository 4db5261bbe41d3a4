/* SPDX-License-Identifier: Apache-2.0 */
#include "block/block.h"

#include <errno.h>

/* What each operation may come with. */
struct op_traits {
	const char *name;
	bool has_data;
	bool is_write;
	bool limited; /* by max_transfer_bytes */
	unsigned flags;
};

static const struct op_traits op_traits[BLOCK_OP_COUNT] = {
	[BLOCK_READ] = {"read", true, false, true, BLOCK_FUA},
	[BLOCK_WRITE] = {"write", true, true, true, BLOCK_FUA | BLOCK_TELL_WRITTEN},
	[BLOCK_WRITE_ZEROES] = {"write-zeroes", false, true, false,
				BLOCK_FUA | BLOCK_NO_RELEASE | BLOCK_TELL_WRITTEN},
	[BLOCK_UNMAP] = {"unmap", false, true, false, BLOCK_FUA | BLOCK_TELL_WRITTEN},
	[BLOCK_FLUSH] = {"flush", false, false, false, 0},
	[BLOCK_COMPARE] = {"compare", true, false, true, BLOCK_FUA},
	[BLOCK_COMPARE_AND_WRITE] = {"compare-and-write", true, true, true,
				     BLOCK_FUA | BLOCK_TELL_COMPARED | BLOCK_TELL_WRITTEN},
	[BLOCK_STATUS] = {"status", false, false, false, 0},
};

int block_check_geometry(uint64_t size_bytes, uint32_t block_bytes)
{
	if (block_bytes != 512 && block_bytes != 4096)
		return -EINVAL;
	if (size_bytes == 0 || size_bytes % block_bytes != 0 || size_bytes > INT64_MAX)
		return -EINVAL;
	return 0;
}

void block_volume_init(struct block_volume *volume, const struct block_volume_ops *ops,
		       struct reactor *home, uint64_t size_bytes, uint32_t block_bytes)
{
	ASSERT(block_check_geometry(size_bytes, block_bytes) == 0);
	*volume = (struct block_volume){
		.ops = ops,
		.home = home,
		.size_bytes = size_bytes,
		.block_bytes = block_bytes,
		.physical_block_bytes = block_bytes,
		.max_transfer_bytes = BLOCK_DEFAULT_TRANSFER_BYTES,
	};
}

void block_volume_init_like(struct block_volume *volume, const struct block_volume_ops *ops,
			    struct reactor *home, const struct block_volume *below)
{
	block_volume_init(volume, ops, home, below->size_bytes, below->block_bytes);
	volume->physical_block_bytes = below->physical_block_bytes;
	volume->max_transfer_bytes = below->max_transfer_bytes;
	volume->read_only = below->read_only;
}

void block_volume_free(struct block_volume *volume)
{
	if (!volume)
		return;
	ASSERT(volume->in_flight == 0);
	volume->ops->free(volume);
}

bool block_op_has_data(enum block_op op)
{
	return (unsigned)op < BLOCK_OP_COUNT && op_traits[op].has_data;
}

bool block_op_is_write(enum block_op op)
{
	return (unsigned)op < BLOCK_OP_COUNT && op_traits[op].is_write;
}

const char *block_op_name(enum block_op op)
{
	return (unsigned)op < BLOCK_OP_COUNT ? op_traits[op].name : "?";
}

static int check_range(const struct block_volume *volume, const struct block_request *request)
{
	uint64_t mask = volume->block_bytes - 1;

	if (request->op == BLOCK_FLUSH)
		return request->offset || request->length ? -EINVAL : 0;
	if (((request->offset | request->length) & mask) != 0 || request->length == 0)
		return -EINVAL;
	if (request->offset > volume->size_bytes ||
	    request->length > volume->size_bytes - request->offset)
		return -ERANGE;
	if (op_traits[request->op].limited && request->length > volume->max_transfer_bytes)
		return -EINVAL;
	return 0;
}

static int check_iov(const struct block_request *request)
{
	uint64_t left = request->length;

	if (!op_traits[request->op].has_data)
		return request->iov_count == 0 ? 0 : -EINVAL;
	if (request->iov_count < 1 || request->iov_count > BLOCK_IOV_MAX)
		return -EINVAL;
	if (request->op == BLOCK_COMPARE_AND_WRITE)
		left *= 2; /* the length is limited by max_transfer_bytes, so this cannot wrap */
	for (int i = 0; i < request->iov_count; i++) {
		if (request->iov[i].iov_len > left)
			return -EINVAL;
		left -= request->iov[i].iov_len;
	}
	return left == 0 ? 0 : -EINVAL;
}

int block_validate(const struct block_volume *volume, const struct block_request *request)
{
	int result;

	if ((unsigned)request->op >= BLOCK_OP_COUNT)
		return -EOPNOTSUPP;
	if (request->flags & ~op_traits[request->op].flags)
		return -EINVAL;
	result = check_range(volume, request);
	if (result < 0)
		return result;
	result = check_iov(request);
	if (result < 0)
		return result;
	return volume->read_only && op_traits[request->op].is_write ? -EROFS : 0;
}

void block_submit(struct block_volume *volume, struct block_request *request)
{
	int result;

	reactor_assert_home(volume->home);
	request->volume = volume;
	request->state = BLOCK_STATE_SUBMITTING;
	request->submitted_ns = reactor_turn_ns(volume->home);
	list_node_init(&request->link);
	volume->in_flight++;
	result = block_validate(volume, request);
	if (UNLIKELY(result < 0))
		block_complete_later(request, result);
	else
		volume->ops->submit(volume, request);
	/* Nothing completes on this stack, so the request is still there. */
	if (request->state == BLOCK_STATE_SUBMITTING)
		request->state = BLOCK_STATE_IN_FLIGHT;
}

static void complete(struct block_request *request, int result)
{
	struct block_volume *volume = request->volume;

	ASSERT(volume->in_flight > 0);
	volume->in_flight--;
	request->state = BLOCK_STATE_IDLE;
	request->done(request, result);
}

void block_complete(struct block_request *request, int result)
{
	reactor_assert_home(request->volume->home);
	ASSERT(request->state == BLOCK_STATE_IN_FLIGHT);
	ASSERT(result <= 0);
	complete(request, result);
}

static void run_completion(struct reactor_work *work)
{
	struct block_request *request = CONTAINER_OF(work, struct block_request, work);

	ASSERT(request->state == BLOCK_STATE_COMPLETING);
	complete(request, request->result);
}

void block_complete_later(struct block_request *request, int result)
{
	ASSERT(request->state == BLOCK_STATE_SUBMITTING || request->state == BLOCK_STATE_IN_FLIGHT);
	ASSERT(result <= 0);
	request->state = BLOCK_STATE_COMPLETING;
	request->result = result;
	list_node_init(&request->work.link);
	request->work.run = run_completion;
	reactor_defer(request->volume->home, &request->work);
}

static void wake_waiter(struct block_request *request, int result)
{
	struct block_wait *wait = CONTAINER_OF(request, struct block_wait, request);

	wait->request.result = result;
	wait->finished = true;
	fiber_wake(wait->fiber);
}

int block_wait(struct block_volume *volume, struct block_wait *wait)
{
	wait->fiber = fiber_current();
	ASSERT(wait->fiber);
	wait->finished = false;
	wait->request.done = wake_waiter;
	block_submit(volume, &wait->request);
	while (!wait->finished)
		fiber_suspend();
	return wait->request.result;
}

int block_io(struct block_volume *volume, enum block_op op, unsigned flags, void *buffer,
	     uint64_t length, uint64_t offset)
{
	struct iovec iov = {
		.iov_base = buffer,
		.iov_len = op == BLOCK_COMPARE_AND_WRITE ? 2 * length : length,
	};
	struct block_wait wait;

	/* Not an initialiser: it would clear `space` too. */
	wait.request.op = op;
	wait.request.flags = flags;
	wait.request.offset = offset;
	wait.request.length = length;
	wait.request.iov = &iov;
	wait.request.iov_count = block_op_has_data(op) ? 1 : 0;
	return block_wait(volume, &wait);
}
