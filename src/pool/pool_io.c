/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See pool_io.h. A file and its operations live on the reactor that opened the file.
 *
 * Invariants
 *  1. copy->busy counts the operations that use its handle; who takes the handle away waits for 0.
 *  2. Every operation is counted at the copy's disk, when it begins and when it ends.
 * An operation keeps pointers to copies, not their numbers: these change when a row does.
 */
#include "pool/pool_io.h"

#include <errno.h>

#include "base/macros.h"
#include "pool/pool_priv.h"
#include "reactor/io.h"

unsigned pool_file_taking_part(const struct pool_file *file)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < file->copy_count; i++)
		bits |= (unsigned)pool_copy_takes_part(file->copies[i]) << i;
	return bits;
}

unsigned pool_file_failed(const struct pool_file *file)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < file->copy_count && i < POOL_COPIES_MAX; i++)
		bits |= (unsigned)file->copies[i]->failed << i;
	return bits;
}

static uint64_t begin(struct pool_file_copy *copy)
{
	copy->busy++;
	pool_disk_io_begins(copy->disk);
	return reactor_turn_ns(reactor_current());
}

static void end(struct pool_file *file, struct pool_file_copy *copy, enum pool_disk_io kind,
		uint64_t start_ns, int64_t result)
{
	ASSERT(copy->busy > 0);
	pool_disk_io_ends(copy->disk, kind, start_ns, result);
	if (--copy->busy == 0 && copy->leaving)
		fiber_queue_wake_all(&file->idle);
}

/* Writing */

static void write_finish(struct pool_write *write, int64_t result)
{
	if (result < 0 && write->result == 0)
		write->result = (int)result;
	ASSERT(write->pending > 0);
	if (--write->pending == 0)
		write->done(write, write->result);
}

static void write_ends(struct pool_write *write, unsigned index, int64_t result)
{
	end(write->file, write->targets[index], POOL_DISK_WRITES, write->start_ns, result);
	write_finish(write, result);
}

/* One function a copy: an operation does not know its place in the array. */
static void write_done_0(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[0]), 0, result);
}

static void write_done_1(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[1]), 1, result);
}

static void write_done_2(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[2]), 2, result);
}

static void write_done_3(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[3]), 3, result);
}

static void (*const write_done[])(struct world_op *op, int64_t result) = {
	write_done_0,
	write_done_1,
	write_done_2,
	write_done_3,
};
_Static_assert(ARRAY_SIZE(write_done) == POOL_COPIES_MAX, "one for each copy");

static void write_to_nothing(struct reactor_work *work)
{
	struct pool_write *write = CONTAINER_OF(work, struct pool_write, nowhere);

	write->done(write, write->result);
}

static void refuse_write(struct pool_write *write, int error)
{
	if (write->result == 0)
		write->result = error;
	list_node_init(&write->nowhere.link);
	write->nowhere.run = write_to_nothing;
	reactor_defer(reactor_current(), &write->nowhere);
}

/* Why it makes no sense to write there, or 0. */
static int refuses(const struct pool_file_copy *copy)
{
	if (copy->read_only)
		return -EROFS;
	return pool_disk_refuses(copy->disk) ? -EIO : 0;
}

/* Copies that are written; those that would be, but refuse, make it an error. */
static unsigned choose_targets(struct pool_write *write)
{
	const struct pool_file *file = write->file;
	unsigned targets = pool_file_taking_part(file);

	for (unsigned i = 0; i < file->copy_count; i++) {
		int r = targets >> i & 1 ? refuses(file->copies[i]) : 0;

		if (r == 0)
			continue;
		targets &= ~(1u << i);
		write->result = r;
	}
	return targets;
}

void pool_file_write(struct pool_file *file, const struct iovec *iov, int iov_count,
		     uint64_t offset, struct pool_write *write)
{
	struct reactor *reactor = reactor_current();
	const struct world_ops *ops = file->pool->world->ops;
	unsigned targets;

	write->file = file;
	write->result = 0;
	targets = choose_targets(write);
	write->pending = (unsigned)__builtin_popcount(targets);
	for (unsigned i = 0; i < file->copy_count; i++) {
		struct pool_file_copy *copy = file->copies[i];

		if (!(targets >> i & 1))
			continue;
		write->targets[i] = copy;
		write->start_ns = begin(copy);
		write->ops[i].done = write_done[i];
		ops->file_write(reactor_port(reactor), copy->file, iov, iov_count, offset,
				&write->ops[i]);
	}
	if (!targets)
		refuse_write(write, -EIO);
}

static struct pool_file_copy *copy_at(const struct pool_file *file, unsigned copy)
{
	if (copy >= file->copy_count || !file->copies[copy]->file || file->copies[copy]->stale)
		return NULL;
	return file->copies[copy];
}

void pool_file_write_copy(struct pool_file *file, unsigned copy, const struct iovec *iov,
			  uint64_t offset, struct pool_write *write)
{
	struct pool_file_copy *target = copy_at(file, copy);
	int r = target ? refuses(target) : -ENXIO;

	write->file = file;
	write->result = 0;
	if (r < 0) {
		refuse_write(write, r);
		return;
	}
	write->pending = 1;
	write->targets[0] = target;
	write->start_ns = begin(target);
	write->ops[0].done = write_done[0];
	file->pool->world->ops->file_write(reactor_port(reactor_current()), target->file, iov, 1,
					   offset, &write->ops[0]);
}

/* Reading */

/* How little a copy is wanted: first by what is wrong with it, then by what its disk has to do. */
static uint64_t reluctance(const struct pool_file_copy *copy)
{
	enum pool_disk_state state = pool_disk_state_of(copy->disk);
	uint64_t rank = state == POOL_DISK_FAILED    ? 3
			: state == POOL_DISK_MISSING ? 2
			: state == POOL_DISK_SUSPECT ? 1
						     : 0;

	/* One that failed may still hold what was there before. */
	if (copy->failed)
		rank += 4;
	return rank << 32 | atomic_load_explicit(&copy->disk->health.busy, memory_order_relaxed);
}

/* -1: there is none. */
static int best_to_read(struct pool_file *file)
{
	uint64_t least = UINT64_MAX;
	int best = -1;

	if (file->copy_count == 1)
		return file->copies[0]->file && !file->copies[0]->stale ? 0 : -1;
	file->turn++;
	for (unsigned i = 0; i < file->copy_count; i++) {
		unsigned at = (file->turn + i) % file->copy_count;
		const struct pool_file_copy *copy = file->copies[at];
		uint64_t reluctant;

		if (!copy->file || copy->stale || copy->joining)
			continue;
		reluctant = reluctance(copy);
		if (reluctant < least)
			best = (int)at;
		least = MIN(least, reluctant);
	}
	return best;
}

unsigned pool_file_best_copy(struct pool_file *file)
{
	int copy = best_to_read(file);

	return copy < 0 ? 0 : (unsigned)copy;
}

static void read_ends(struct world_op *op, int64_t result)
{
	struct pool_read *read = CONTAINER_OF(op, struct pool_read, op);

	end(read->file, read->source, POOL_DISK_READS, read->start_ns, result);
	read->done(read, result);
}

static void read_from_nothing(struct reactor_work *work)
{
	struct pool_read *read = CONTAINER_OF(work, struct pool_read, nowhere);

	read->done(read, read->refusal);
}

static void refuse_read(struct pool_read *read, int error)
{
	read->refusal = error;
	list_node_init(&read->nowhere.link);
	read->nowhere.run = read_from_nothing;
	reactor_defer(reactor_current(), &read->nowhere);
}

static void read_from(struct pool_read *read, struct pool_file_copy *source,
		      const struct iovec *iov, int iov_count, uint64_t offset)
{
	read->source = source;
	read->start_ns = begin(source);
	read->op.done = read_ends;
	read->file->pool->world->ops->file_read(reactor_port(reactor_current()), source->file, iov,
						iov_count, offset, &read->op);
}

void pool_file_read(struct pool_file *file, const struct iovec *iov, int iov_count, uint64_t offset,
		    struct pool_read *read)
{
	int copy = best_to_read(file);

	read->file = file;
	read->copy = copy < 0 ? POOL_COPIES_MAX : (unsigned)copy;
	if (copy < 0)
		refuse_read(read, -EIO);
	else
		read_from(read, file->copies[copy], iov, iov_count, offset);
}

void pool_file_read_copy(struct pool_file *file, unsigned copy, const struct iovec *iov,
			 uint64_t offset, struct pool_read *read)
{
	struct pool_file_copy *source = copy_at(file, copy);

	read->file = file;
	read->copy = copy;
	if (source)
		read_from(read, source, iov, 1, offset);
	else
		refuse_read(read, -ENXIO);
}

/* From fibers */

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

int64_t pool_io_read_some(struct pool_file *file, unsigned copy, void *buffer, size_t length,
			  uint64_t offset)
{
	struct pool_file_copy *source = copy_at(file, copy);
	uint64_t start_ns;
	int64_t result;

	if (!source)
		return -ENXIO;
	start_ns = begin(source);
	result = io_read(source->file, buffer, length, offset);
	end(file, source, POOL_DISK_READS, start_ns, result);
	return result;
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
	struct pool_file_copy *target = copy_at(file, copy);
	uint64_t start_ns;
	int r;

	if (!target)
		return -ENXIO;
	r = refuses(target);
	if (r)
		return r;
	start_ns = begin(target);
	r = io_write(target->file, buffer, length, offset);
	end(file, target, POOL_DISK_WRITES, start_ns, r);
	return r;
}

int pool_io_sync_copy(struct pool_file *file, unsigned copy)
{
	struct pool_file_copy *target = copy_at(file, copy);
	uint64_t start_ns;
	int r;

	if (!target)
		return -ENXIO;
	if (pool_disk_refuses(target->disk))
		return -EIO;
	start_ns = begin(target);
	r = io_sync(target->file);
	end(file, target, POOL_DISK_SYNCS, start_ns, r);
	return r;
}

struct syncing {
	struct fiber_op op;
	struct pool_file_copy *copy; /* NULL: none */
	bool submitted;
};

static void sync_begins(struct pool_file *file, struct syncing *syncing)
{
	if (pool_disk_refuses(syncing->copy->disk))
		return;
	syncing->submitted = true;
	(void)begin(syncing->copy); /* how long a sync takes says little about the disk */
	fiber_op_init(&syncing->op);
	file->pool->world->ops->file_sync(reactor_port(reactor_current()), syncing->copy->file,
					  &syncing->op.op);
}

static int sync_ends(struct pool_file *file, struct syncing *syncing)
{
	int r;

	if (!syncing->submitted)
		return -EIO;
	r = (int)fiber_op_wait(&syncing->op);
	end(file, syncing->copy, POOL_DISK_SYNCS, 0, r);
	return r;
}

int pool_io_sync(struct pool_file *file)
{
	struct syncing syncings[POOL_COPIES_MAX] = {0};
	unsigned count = file->copy_count;
	int error = -EIO;
	bool synced = false;

	for (unsigned i = 0; i < count; i++) {
		if (!pool_copy_takes_part(file->copies[i]))
			continue;
		syncings[i].copy = file->copies[i];
		sync_begins(file, &syncings[i]);
	}
	for (unsigned i = 0; i < count; i++) {
		int r;

		if (!syncings[i].copy)
			continue;
		r = sync_ends(file, &syncings[i]);
		if (r < 0 && error == -EIO)
			error = r;
		syncings[i].copy->failed |= r < 0;
		synced |= r == 0;
	}
	return synced ? 0 : error;
}
