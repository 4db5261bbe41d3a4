/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data I/O from fibers, or on one copy of several. What has one copy is read and written in the
 * caller's memory. Where another copy could do, the caller must be able to go on while the disk
 * hangs: the operation and its memory are a piece of their own then (pool_piece.h).
 */
#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_io_priv.h"
#include "pool/pool_piece.h"
#include "reactor/io.h"

#define MEMORY_PAUSE_NS (10 * NSEC_PER_MSEC)

static void piece_ends(struct world_op *op, int64_t result)
{
	struct pool_piece *piece = CONTAINER_OF(op, struct pool_piece, op);

	pool_io_ends(&piece->flight, piece->kind, result);
	piece->result = result;
	piece->ended = true;
	if (piece->waiter)
		fiber_wake(piece->waiter);
	else
		pool_piece_put(piece);
}

static void piece_overdue(struct pool_flight *flight)
{
	struct pool_piece *piece = CONTAINER_OF(flight, struct pool_piece, flight);

	piece->overdue = true;
	if (piece->waiter)
		fiber_wake(piece->waiter);
}

/* A shortage of memory says nothing about a copy: it is waited for. */
static struct pool_piece *piece_wait_for(struct pool_file *file, enum pool_disk_io kind,
					 size_t length)
{
	struct pool_piece *piece;

	while (!(piece = pool_piece_take(file->pool, length))) {
		REACHED("pool.piece-waits");
		fiber_sleep(MEMORY_PAUSE_NS);
	}
	piece->file = file;
	piece->kind = kind;
	piece->flight.overdue = piece_overdue;
	piece->op.done = piece_ends;
	piece->waiter = fiber_current();
	return piece;
}

static void piece_submit(struct pool_piece *piece, struct pool_file_copy *copy, uint64_t offset)
{
	const struct world_ops *ops = copy->disk->pool->world->ops;
	struct world_port *port = reactor_port(reactor_current());
	struct world_file *file = copy->handle->file;

	pool_io_begins(&piece->flight, copy);
	if (piece->kind == POOL_DISK_READS)
		ops->file_read(port, file, &piece->iov, 1, offset, &piece->op);
	else if (piece->kind == POOL_DISK_WRITES)
		ops->file_write(port, file, &piece->iov, 1, offset, &piece->op);
	else
		ops->file_sync(port, file, &piece->op);
}

/* False: it is left alone. */
static bool piece_wait(struct pool_piece *piece)
{
	while (!piece->ended) {
		if (piece->overdue && pool_io_can_do_without(piece->file, piece->flight.handle)) {
			REACHED("pool.piece-given-up");
			piece->waiter = NULL;
			return false;
		}
		piece->overdue = false;
		fiber_suspend();
	}
	return true;
}

/* In memory of its own. */
static int64_t apart(struct pool_file *file, struct pool_file_copy *copy, enum pool_disk_io kind,
		     const struct iovec *iov, uint64_t offset)
{
	uint64_t disk_id = copy->disk_id;
	struct pool_piece *piece = piece_wait_for(file, kind, iov->iov_len);
	int64_t result = 0;

	/* Meanwhile it may have gone, and its slot be another's, or it lacks something now. */
	if (!copy->handle || copy->disk_id != disk_id || copy->stale)
		result = -ENXIO;
	else if (pool_io_is_hopeless(file, copy))
		result = -ETIMEDOUT;
	if (result) {
		pool_piece_put(piece);
		return result;
	}
	if (kind == POOL_DISK_WRITES)
		memcpy(piece->iov.iov_base, iov->iov_base, iov->iov_len);
	piece_submit(piece, copy, offset);
	if (!piece_wait(piece))
		return -ETIMEDOUT;
	result = piece->result;
	if (kind == POOL_DISK_READS && result > 0)
		memcpy(iov->iov_base, piece->iov.iov_base, (size_t)result);
	pool_piece_put(piece);
	return result;
}

/* It waits as long as it takes. */
static int64_t in_place(struct pool_file_copy *copy, enum pool_disk_io kind,
			const struct iovec *iov, uint64_t offset)
{
	struct world_file *file = copy->handle->file;
	struct pool_flight flight = {0};
	int64_t result;

	pool_io_begins(&flight, copy);
	if (kind == POOL_DISK_READS)
		result = io_readv(file, iov, 1, offset);
	else if (kind == POOL_DISK_WRITES)
		result = io_writev(file, iov, 1, offset);
	else
		result = io_sync(file);
	pool_io_ends(&flight, kind, result);
	return result;
}

static int64_t transfer(struct pool_file *file, struct pool_file_copy *copy, enum pool_disk_io kind,
			const struct iovec *iov, uint64_t offset)
{
	if (!pool_file_has_copies(file))
		return in_place(copy, kind, iov, offset);
	if (pool_io_is_hopeless(file, copy))
		return -ETIMEDOUT;
	return apart(file, copy, kind, iov, offset);
}

int64_t pool_io_read_some(struct pool_file *file, unsigned copy, void *buffer, size_t length,
			  uint64_t offset)
{
	struct pool_file_copy *source = pool_io_copy_at(file, copy);
	const struct iovec iov = {buffer, length};

	return source ? transfer(file, source, POOL_DISK_READS, &iov, offset) : -ENXIO;
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
	struct pool_file_copy *target = pool_io_copy_at(file, copy);
	const struct iovec iov = {(void *)buffer, length};
	int64_t r;

	if (!target)
		return -ENXIO;
	r = pool_io_refuses(target);
	if (r == 0)
		r = transfer(file, target, POOL_DISK_WRITES, &iov, offset);
	return r < 0 ? (int)r : 0;
}

/* A file's only copy is worth waiting for while its disk hangs; one that has gone is not. What a
 * disk that has failed was given before is made durable where nobody else has it. */
static bool refuses_sync(const struct pool_file *file, const struct pool_file_copy *copy)
{
	if (pool_disk_is_silent(copy->disk))
		return pool_io_can_do_without(file, copy->handle);
	if (pool_disk_is_failed(copy->disk))
		return pool_io_has_other(file, copy);
	return pool_disk_refuses(copy->disk);
}

/* Where none takes part, recovery read it from a last resort. */
static bool is_synced(const struct pool_file *file, const struct pool_file_copy *copy)
{
	if (pool_copy_takes_part(copy))
		return true;
	return copy->resort && !copy->stale && !copy->failed && !copy->leaving &&
	       pool_file_taking_part(file) == 0;
}

int pool_io_sync_copy(struct pool_file *file, unsigned copy)
{
	struct pool_file_copy *target = pool_io_copy_at(file, copy);
	const struct iovec none = {0};

	if (!target)
		return -ENXIO;
	if (refuses_sync(file, target))
		return -EIO;
	return (int)transfer(file, target, POOL_DISK_SYNCS, &none, 0);
}

/* All copies that take part */

static void whole_done(struct pool_write *write, int result)
{
	struct pool_piece *piece = CONTAINER_OF(write, struct pool_piece, write);

	piece->result = result;
	piece->ended = true;
	fiber_wake(piece->waiter);
}

static void whole_released(struct pool_write *write)
{
	struct pool_piece *piece = CONTAINER_OF(write, struct pool_piece, write);

	if (!piece->waiter)
		pool_piece_put(piece);
}

static int whole_run(struct pool_piece *piece, struct pool_file *file, uint64_t offset)
{
	piece->waiter = fiber_current();
	piece->write.done = whole_done;
	pool_file_write(file, &piece->iov, 1, offset, &piece->write);
	while (!piece->ended)
		fiber_suspend();
	return (int)piece->result;
}

static int whole_apart(struct pool_file *file, const struct iovec *iov, uint64_t offset)
{
	struct pool_piece *piece = pool_piece_take(file->pool, iov->iov_len);
	int r;

	if (!piece)
		return -ENOMEM;
	memcpy(piece->iov.iov_base, iov->iov_base, iov->iov_len);
	piece->write.released = whole_released;
	r = whole_run(piece, file, offset);
	if (pool_write_is_held(&piece->write))
		piece->waiter = NULL;
	else
		pool_piece_put(piece);
	return r;
}

int pool_io_write(struct pool_file *file, const void *buffer, size_t length, uint64_t offset)
{
	struct pool_piece piece = {.iov = {(void *)buffer, length}};

	if (pool_file_has_copies(file))
		return whole_apart(file, &piece.iov, offset);
	return whole_run(&piece, file, offset);
}

/* Syncing. One copy that is synced is enough to leave those alone whose disks hang. */

struct syncing {
	struct pool_file_copy *copy; /* NULL: none */
	uint64_t disk_id;            /* its slot may be another's in the end */
	struct pool_piece *piece;    /* NULL: it ended, or was not begun */
	int result;
};

static void sync_begins(struct pool_file *file, struct syncing *syncing,
			struct pool_file_copy *copy)
{
	struct pool_piece *piece = TAKE_PTR(syncing->piece);

	syncing->copy = copy;
	syncing->disk_id = copy->disk_id;
	syncing->result = -EIO;
	if (refuses_sync(file, copy)) {
		pool_piece_put(piece);
		return;
	}
	syncing->piece = piece;
	piece_submit(piece, copy, 0);
}

/* Memory first, for that may be waited for, and which copies there are then is another matter. */
static void sync_begin_all(struct pool_file *file, struct syncing *syncings)
{
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		syncings[i].piece = piece_wait_for(file, POOL_DISK_SYNCS, 0);
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++) {
		if (i < file->copy_count && is_synced(file, file->copies[i]))
			sync_begins(file, &syncings[i], file->copies[i]);
		else
			pool_piece_put(TAKE_PTR(syncings[i].piece));
	}
}

/* What has ended is taken; with `leave`, the rest is left alone where it takes too long. How many
 * are still waited for. */
static unsigned sync_collect(struct syncing *syncings, bool leave)
{
	unsigned left = 0;

	for (unsigned i = 0; i < POOL_COPIES_MAX; i++) {
		struct pool_piece *piece = syncings[i].piece;

		if (!piece)
			continue;
		if (piece->ended) {
			syncings[i].result = (int)piece->result;
			pool_piece_put(piece);
			syncings[i].piece = NULL;
		} else if (leave && piece->flight.late) {
			REACHED("pool.sync-given-up");
			syncings[i].result = -ETIMEDOUT;
			piece->waiter = NULL;
			syncings[i].piece = NULL;
		} else {
			left++;
		}
	}
	return left;
}

static bool sync_any(const struct syncing *syncings)
{
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		if (syncings[i].copy && !syncings[i].piece && syncings[i].result == 0)
			return true;
	return false;
}

/* Without any memory: nobody leaves it alone. */
static int sync_the_only(struct pool_file *file)
{
	struct pool_file_copy *copy = file->copies[0];
	uint64_t disk_id = copy->disk_id;
	const struct iovec none = {0};
	int r = -EIO;

	if (!pool_copy_takes_part(copy))
		return -EIO;
	if (!refuses_sync(file, copy))
		r = (int)in_place(copy, POOL_DISK_SYNCS, &none, 0);
	if (copy->disk_id == disk_id)
		copy->failed |= r < 0;
	return r;
}

int pool_io_sync(struct pool_file *file)
{
	struct syncing syncings[POOL_COPIES_MAX] = {0};
	int error = -EIO;

	if (!pool_file_has_copies(file))
		return sync_the_only(file);
	sync_begin_all(file, syncings);
	while (sync_collect(syncings, sync_any(syncings)) > 0)
		fiber_suspend();
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++) {
		int r = syncings[i].result;

		if (!syncings[i].copy)
			continue;
		if (r < 0 && error == -EIO)
			error = r;
		if (syncings[i].copy->disk_id != syncings[i].disk_id)
			continue;
		syncings[i].copy->failed |= r < 0;
	}
	return sync_any(syncings) ? 0 : error;
}
