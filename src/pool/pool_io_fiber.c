/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data I/O from fibers, or on one copy of several. What has one copy is written in the caller's
 * memory, and read there where its disk is one that cannot be given up. Else the caller must be
 * able to go on while the disk hangs: the operation and its memory are a piece of their own then
 * (pool_piece.h).
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
static struct pool_piece *piece_wait_for(const struct pool_file *file, enum pool_disk_io kind,
					 size_t length)
{
	struct pool_piece *piece;

	while (!(piece = pool_piece_take(file->pool, length))) {
		REACHED("pool.piece-waits");
		fiber_sleep(MEMORY_PAUSE_NS);
	}
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

struct transfer {
	struct pool_file *file;
	struct pool_file_copy *copy;
	enum pool_disk_io kind;
	struct iovec iov;
	uint64_t offset;
	bool or_resort; /* a copy on a disk that has failed is as good */
};

static bool can_be_left(const struct transfer *transfer, const struct pool_handle *handle)
{
	return transfer->or_resort ? pool_io_can_be_read_elsewhere(transfer->file, handle)
				   : pool_io_can_do_without(transfer->file, handle);
}

/* Nothing is begun there. */
static bool is_hopeless(const struct transfer *transfer)
{
	return pool_disk_is_silent(transfer->copy->disk) &&
	       can_be_left(transfer, transfer->copy->handle);
}

/* False: it is left alone. */
static bool piece_wait(struct pool_piece *piece, const struct transfer *transfer)
{
	while (!piece->ended) {
		if (piece->overdue && can_be_left(transfer, piece->flight.handle)) {
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
static int64_t apart(const struct transfer *transfer)
{
	struct pool_file_copy *copy = transfer->copy;
	uint64_t disk_id = copy->disk_id;
	struct pool_piece *piece =
		piece_wait_for(transfer->file, transfer->kind, transfer->iov.iov_len);
	int64_t result = 0;

	/* Meanwhile it may have gone, and its slot be another's, or it lacks something now. */
	if (!copy->handle || copy->disk_id != disk_id || copy->stale)
		result = -ENXIO;
	else if (is_hopeless(transfer))
		result = -ETIMEDOUT;
	if (result) {
		pool_piece_put(piece);
		return result;
	}
	if (transfer->kind == POOL_DISK_WRITES)
		memcpy(piece->iov.iov_base, transfer->iov.iov_base, transfer->iov.iov_len);
	piece_submit(piece, copy, transfer->offset);
	if (!piece_wait(piece, transfer))
		return -ETIMEDOUT;
	result = piece->result;
	if (transfer->kind == POOL_DISK_READS && result > 0)
		memcpy(transfer->iov.iov_base, piece->iov.iov_base, (size_t)result);
	pool_piece_put(piece);
	return result;
}

/* It waits as long as it takes. */
static int64_t in_place(const struct transfer *transfer)
{
	struct world_file *file = transfer->copy->handle->file;
	struct pool_flight flight = {0};
	int64_t result;

	pool_io_begins(&flight, transfer->copy);
	if (transfer->kind == POOL_DISK_READS)
		result = io_readv(file, &transfer->iov, 1, transfer->offset);
	else if (transfer->kind == POOL_DISK_WRITES)
		result = io_writev(file, &transfer->iov, 1, transfer->offset);
	else
		result = io_sync(file);
	pool_io_ends(&flight, transfer->kind, result);
	return result;
}

/* A disk that can be spared may be declared failed meanwhile: then nobody reads there any more.
 * What was being written only there is waited for, for nobody else has it. */
static bool may_be_left(const struct transfer *transfer)
{
	return pool_io_has_copies(transfer->file) ||
	       (transfer->kind == POOL_DISK_READS && pool_disk_can_be_spared(transfer->copy->disk));
}

static int64_t run(const struct transfer *transfer)
{
	if (!may_be_left(transfer))
		return in_place(transfer);
	if (is_hopeless(transfer))
		return -ETIMEDOUT;
	return apart(transfer);
}

/* Bytes read. */
static int64_t read_into(struct pool_file *file, unsigned copy, struct iovec memory,
			 uint64_t offset, bool or_resort)
{
	const struct transfer transfer = {
		.file = file,
		.copy = pool_io_copy_at(file, copy),
		.kind = POOL_DISK_READS,
		.iov = memory,
		.offset = offset,
		.or_resort = or_resort,
	};

	return transfer.copy ? run(&transfer) : -ENXIO;
}

int64_t pool_io_read_some(struct pool_file *file, unsigned copy, void *buffer, size_t length,
			  uint64_t offset)
{
	return read_into(file, copy, (struct iovec){buffer, length}, offset, false);
}

static int all_or_nothing(int64_t count, size_t length)
{
	if (count < 0)
		return (int)count;
	return (uint64_t)count < length ? -ENODATA : 0;
}

int pool_io_read_copy(struct pool_file *file, unsigned copy, void *buffer, size_t length,
		      uint64_t offset)
{
	const struct iovec memory = {buffer, length};

	return all_or_nothing(read_into(file, copy, memory, offset, false), length);
}

int pool_io_read_copy_or_resort(struct pool_file *file, unsigned copy, void *buffer, size_t length,
				uint64_t offset)
{
	const struct iovec memory = {buffer, length};

	return all_or_nothing(read_into(file, copy, memory, offset, true), length);
}

int pool_io_write_copy(struct pool_file *file, unsigned copy, const void *buffer, size_t length,
		       uint64_t offset)
{
	const struct transfer transfer = {
		.file = file,
		.copy = pool_io_copy_at(file, copy),
		.kind = POOL_DISK_WRITES,
		.iov = {(void *)buffer, length},
		.offset = offset,
	};
	int64_t r;

	if (!transfer.copy)
		return -ENXIO;
	r = pool_io_refuses(transfer.copy);
	if (r == 0)
		r = run(&transfer);
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
	const struct transfer transfer = {
		.file = file, .copy = pool_io_copy_at(file, copy), .kind = POOL_DISK_SYNCS};

	if (!transfer.copy)
		return -ENXIO;
	if (refuses_sync(file, transfer.copy))
		return -EIO;
	return (int)run(&transfer);
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

	if (pool_io_has_copies(file))
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
	const struct transfer transfer = {.file = file, .copy = copy, .kind = POOL_DISK_SYNCS};
	uint64_t disk_id = copy->disk_id;
	int r = -EIO;

	if (!pool_copy_takes_part(copy))
		return -EIO;
	if (!refuses_sync(file, copy))
		r = (int)in_place(&transfer);
	if (copy->disk_id == disk_id)
		copy->failed |= r < 0;
	return r;
}

int pool_io_sync(struct pool_file *file)
{
	struct syncing syncings[POOL_COPIES_MAX] = {0};
	int error = -EIO;

	if (!pool_io_has_copies(file))
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
