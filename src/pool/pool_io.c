/* SPDX-License-Identifier: Apache-2.0 */
/* See pool_io.h. A file and its operations live on the reactor that opened the file. */
#include "pool/pool_io.h"

#include <errno.h>

#include "base/macros.h"
#include "pool/pool_priv.h"
#include "reactor/io.h"

static bool takes_part(const struct pool_file_copy *copy)
{
	return copy->file && !copy->stale && !copy->failed;
}

unsigned pool_file_taking_part(const struct pool_file *file)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < file->copy_count; i++)
		bits |= (unsigned)takes_part(&file->copies[i]) << i;
	return bits;
}

unsigned pool_file_failed(const struct pool_file *file)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < file->copy_count && i < POOL_COPIES_MAX; i++)
		bits |= (unsigned)file->copies[i].failed << i;
	return bits;
}

static void write_ends(struct pool_write *write, int64_t result)
{
	if (result < 0 && write->result == 0)
		write->result = (int)result;
	ASSERT(write->pending > 0);
	if (--write->pending == 0)
		write->done(write, write->result);
}

/* One function a copy: an operation does not know its place in the array. */
static void write_done_0(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[0]), result);
}

static void write_done_1(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[1]), result);
}

static void write_done_2(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[2]), result);
}

static void (*const write_done[])(struct world_op *op, int64_t result) = {
	write_done_0,
	write_done_1,
	write_done_2,
};
_Static_assert(ARRAY_SIZE(write_done) == POOL_COPIES_MAX, "one for each copy");

static void write_to_nothing(struct reactor_work *work)
{
	write_ends(CONTAINER_OF(work, struct pool_write, nowhere), -EIO);
}

void pool_file_write(struct pool_file *file, const struct iovec *iov, int iov_count,
		     uint64_t offset, struct pool_write *write)
{
	struct reactor *reactor = reactor_current();
	const struct world_ops *ops = file->pool->world->ops;
	unsigned targets = pool_file_taking_part(file);

	write->result = 0;
	write->pending = (unsigned)__builtin_popcount(targets);
	for (unsigned i = 0; i < file->copy_count; i++) {
		if (!(targets >> i & 1))
			continue;
		write->ops[i].done = write_done[i];
		ops->file_write(reactor_port(reactor), file->copies[i].file, iov, iov_count, offset,
				&write->ops[i]);
	}
	if (targets)
		return;
	write->pending = 1;
	list_node_init(&write->nowhere.link);
	write->nowhere.run = write_to_nothing;
	reactor_defer(reactor, &write->nowhere);
}

/* One that takes part; else one that failed may still hold what was there before. */
static int best_to_read(const struct pool_file *file)
{
	int fallback = -1;

	for (unsigned i = 0; i < file->copy_count; i++) {
		const struct pool_file_copy *copy = &file->copies[i];

		if (takes_part(copy))
			return (int)i;
		if (copy->file && !copy->stale)
			fallback = (int)i;
	}
	return fallback;
}

static void read_ends(struct world_op *op, int64_t result)
{
	struct pool_read *read = CONTAINER_OF(op, struct pool_read, op);

	read->done(read, result);
}

static void read_from_nothing(struct reactor_work *work)
{
	struct pool_read *read = CONTAINER_OF(work, struct pool_read, nowhere);

	read->done(read, -EIO);
}

void pool_file_read(struct pool_file *file, const struct iovec *iov, int iov_count, uint64_t offset,
		    struct pool_read *read)
{
	struct reactor *reactor = reactor_current();
	int copy = best_to_read(file);

	read->file = file;
	if (copy < 0) {
		list_node_init(&read->nowhere.link);
		read->nowhere.run = read_from_nothing;
		reactor_defer(reactor, &read->nowhere);
		return;
	}
	read->copy = (unsigned)copy;
	read->op.done = read_ends;
	file->pool->world->ops->file_read(reactor_port(reactor), file->copies[copy].file, iov,
					  iov_count, offset, &read->op);
}

struct waiting_write {
	struct pool_write write;
	struct fiber_op op;
};

static void wake_writer(struct pool_write *write, int result)
{
	struct waiting_write *waiting = CONTAINER_OF(write, struct waiting_write, write);

	waiting->op.op.done(&waiting->op.op, result);
}

int pool_io_write(struct pool_file *file, const void *buffer, size_t length, uint64_t offset)
{
	struct waiting_write waiting = {.write = {.done = wake_writer}};
	struct iovec iov = {(void *)buffer, length};

	fiber_op_init(&waiting.op);
	pool_file_write(file, &iov, 1, offset, &waiting.write);
	return (int)fiber_op_wait(&waiting.op);
}

static struct world_file *copy_handle(const struct pool_file *file, unsigned copy)
{
	return copy < file->copy_count && !file->copies[copy].stale ? file->copies[copy].file
								    : NULL;
}

int64_t pool_io_read_some(struct pool_file *file, unsigned copy, void *buffer, size_t length,
			  uint64_t offset)
{
	struct world_file *handle = copy_handle(file, copy);

	return handle ? io_read(handle, buffer, length, offset) : -ENXIO;
}

int pool_io_read_copy(struct pool_file *file, unsigned copy, void *buffer, size_t length,
		      uint64_t offset)
{
	int64_t count = pool_io_read_some(file, copy, buffer, length, offset);

	if (count < 0)
		return (int)count;
	return (uint64_t)count < length ? -ENODATA : 0;
}

int pool_io_write_copy(struct pool_file *file, unsigned copy, const void *buffer, size_t length,
		       uint64_t offset)
{
	struct world_file *handle = copy_handle(file, copy);

	return handle ? io_write(handle, buffer, length, offset) : -ENXIO;
}

int pool_io_sync_copy(struct pool_file *file, unsigned copy)
{
	struct world_file *handle = copy_handle(file, copy);

	return handle ? io_sync(handle) : -ENXIO;
}

int pool_io_sync(struct pool_file *file)
{
	struct fiber_op ops[POOL_COPIES_MAX];
	unsigned targets = pool_file_taking_part(file);
	struct world_port *port = reactor_port(reactor_current());
	int error = -EIO;
	bool synced = false;

	for (unsigned i = 0; i < file->copy_count; i++) {
		if (!(targets >> i & 1))
			continue;
		fiber_op_init(&ops[i]);
		file->pool->world->ops->file_sync(port, file->copies[i].file, &ops[i].op);
	}
	for (unsigned i = 0; i < file->copy_count; i++) {
		int r;

		if (!(targets >> i & 1))
			continue;
		r = (int)fiber_op_wait(&ops[i]);
		if (r < 0 && error == -EIO)
			error = r;
		file->copies[i].failed = r < 0;
		synced |= r == 0;
	}
	return synced ? 0 : error;
}
