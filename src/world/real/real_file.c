/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading, writing and syncing files through the ring. Home: the port's thread.
 *
 * A transfer that came out short is continued from where it stopped until all is done, the file
 * ends or there is an error. `from` is where the submission in the kernel began. With O_DIRECT a
 * transfer can only go on at a whole block, so it goes back to the last one; a read that gets no
 * further than before has seen the end of the file.
 */
#include "world/real/real_priv.h"

#include <errno.h>
#include <limits.h>

#include "world/real/real_memory.h"

#define MAX_TRANSFER (UINT64_C(1) << 30) /* of one submission; the rest follows */
#define MAX_RETRIES  64                  /* of -EAGAIN in a row */

struct file_io {
	struct real_head head;
	struct world_file *file;
	const struct iovec *iov;
	int iov_count;
	bool write;
	uint64_t offset;
	uint64_t total;
	uint64_t from;
	uint64_t transferred;
};
REAL_OP_FITS(struct file_io);

static void name_file(struct world_op *op, struct world_file *file, struct io_uring_sqe *sqe)
{
	if (real_slots_use(op->port, file)) {
		sqe->fd = file->slot;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
}

static void prepare_part(struct file_io *io, struct io_uring_sqe *sqe, const struct iovec *iov,
			 size_t skip)
{
	void *base = (char *)iov->iov_base + skip;
	unsigned length = (unsigned)MIN((uint64_t)(iov->iov_len - skip), MAX_TRANSFER);

	if (io->write)
		io_uring_prep_write(sqe, io->file->fd, base, length, io->offset + io->from);
	else
		io_uring_prep_read(sqe, io->file->fd, base, length, io->offset + io->from);
}

static void prepare_io(struct world_op *op, struct io_uring_sqe *sqe)
{
	struct file_io *io = real_op_state(op);
	const struct iovec *iov = io->iov;
	unsigned count = (unsigned)io->iov_count;
	uint64_t skip = io->from;

	while (count > 1 && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		count--;
	}
	/* A vector cannot begin inside of an element, so the rest of that one goes alone. */
	if (count == 1 || skip > 0)
		prepare_part(io, sqe, iov, skip);
	else if (io->write)
		io_uring_prep_writev(sqe, io->file->fd, iov, count, io->offset + io->from);
	else
		io_uring_prep_readv(sqe, io->file->fd, iov, count, io->offset + io->from);
	name_file(op, io->file, sqe);
	if (io->head.retries > 0)
		sqe->flags |= IOSQE_ASYNC;
}

static void go_on(struct world_op *op, struct file_io *io)
{
	if (io->head.cancelled)
		real_op_finish(op, -ECANCELED);
	else
		real_port_queue(op->port, op);
}

static bool may_retry(struct real_head *head, int result)
{
	return result == -EINTR || (result == -EAGAIN && ++head->retries <= MAX_RETRIES);
}

static void finish_io(struct world_op *op, struct file_io *io)
{
	if (!io->write)
		real_memory_written(io->iov, io->iov_count, io->transferred);
	real_op_finish(op, (int64_t)io->transferred);
}

static void complete_io(struct world_op *op, int result)
{
	struct file_io *io = real_op_state(op);
	uint64_t reached;

	if (UNLIKELY(result < 0)) {
		if (may_retry(&io->head, result))
			go_on(op, io);
		else
			real_op_finish(op, result);
		return;
	}
	reached = io->from + (uint64_t)result;
	if (LIKELY(reached == io->total)) {
		io->transferred = reached;
		finish_io(op, io);
	} else if (reached > io->transferred) {
		io->head.retries = 0;
		io->transferred = reached;
		io->from = io->file->direct ? ALIGN_DOWN(reached, REAL_DIRECT_UNIT) : reached;
		go_on(op, io);
	} else if (io->write) {
		real_op_finish(op, -EIO);
	} else {
		finish_io(op, io);
	}
}

static const struct real_kind io_kind = {prepare_io, complete_io, NULL};

static void start(struct world_port *port, struct file_io *io, struct world_op *op)
{
	if (io->iov_count < 1 || io->iov_count > IOV_MAX) {
		real_op_finish_later(op, -EINVAL);
		return;
	}
	for (int i = 0; i < io->iov_count; i++)
		if (__builtin_add_overflow(io->total, io->iov[i].iov_len, &io->total)) {
			real_op_finish_later(op, -EINVAL);
			return;
		}
	/* An offset of -1 would mean the file's own position. */
	if (io->offset > INT64_MAX || io->total > INT64_MAX - io->offset) {
		real_op_finish_later(op, -EINVAL);
		return;
	}
	if (io->write)
		real_memory_check_source(io->iov, io->iov_count);
	else
		real_memory_check_target(io->iov, io->iov_count);
	real_port_queue(port, op);
	real_port_hand_over(port);
}

void real_file_read(struct world_port *port, struct world_file *file, const struct iovec *iov,
		    int iov_count, uint64_t offset, struct world_op *op)
{
	struct file_io *io = real_op_begin(port, op, &io_kind);

	io->file = file;
	io->iov = iov;
	io->iov_count = iov_count;
	io->offset = offset;
	start(port, io, op);
}

void real_file_write(struct world_port *port, struct world_file *file, const struct iovec *iov,
		     int iov_count, uint64_t offset, struct world_op *op)
{
	struct file_io *io = real_op_begin(port, op, &io_kind);

	io->file = file;
	io->iov = iov;
	io->iov_count = iov_count;
	io->write = true;
	io->offset = offset;
	start(port, io, op);
}

static void prepare_sync(struct world_op *op, struct io_uring_sqe *sqe)
{
	struct file_io *io = real_op_state(op);

	io_uring_prep_fsync(sqe, io->file->fd, IORING_FSYNC_DATASYNC);
	name_file(op, io->file, sqe);
}

static void complete_sync(struct world_op *op, int result)
{
	struct file_io *io = real_op_state(op);

	/* A failed sync must be reported; only one that was not begun may be asked again. */
	if (may_retry(&io->head, result))
		go_on(op, io);
	else
		real_op_finish(op, result);
}

static const struct real_kind sync_kind = {prepare_sync, complete_sync, NULL};

void real_file_sync(struct world_port *port, struct world_file *file, struct world_op *op)
{
	struct file_io *io = real_op_begin(port, op, &sync_kind);

	io->file = file;
	real_port_queue(port, op);
}
