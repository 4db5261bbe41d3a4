/* SPDX-License-Identifier: Apache-2.0 */
/* One shape throughout: start the operation with a fiber_op, suspend until it is done. */
#include "reactor/io.h"

#include <errno.h>
#include <string.h>

#include "base/macros.h"

/* Declares `op`, `port` and `ops` for a call in the running fiber. */
#define IO_BEGIN()                                                           \
	struct fiber_op op;                                                  \
	struct world_port *port = reactor_port(reactor_current());           \
	const struct world_ops *ops = reactor_world(reactor_current())->ops; \
	fiber_op_init(&op)

int io_open(const char *path, unsigned flags, struct world_file **ret_file)
{
	IO_BEGIN();
	ops->file_open(port, path, flags, ret_file, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_close(struct world_file *file)
{
	IO_BEGIN();
	ops->file_close(port, file, &op.op);
	return (int)fiber_op_wait(&op);
}

int64_t io_readv(struct world_file *file, const struct iovec *iov, int iov_count, uint64_t offset)
{
	IO_BEGIN();
	ops->file_read(port, file, iov, iov_count, offset, &op.op);
	return fiber_op_wait(&op);
}

int64_t io_read(struct world_file *file, void *buffer, size_t length, uint64_t offset)
{
	struct iovec iov = {buffer, length};

	return io_readv(file, &iov, 1, offset);
}

int io_read_exactly(struct world_file *file, void *buffer, size_t length, uint64_t offset)
{
	int64_t count = io_read(file, buffer, length, offset);

	if (count < 0)
		return (int)count;
	return (uint64_t)count < length ? -ENODATA : 0;
}

int io_writev(struct world_file *file, const struct iovec *iov, int iov_count, uint64_t offset)
{
	int64_t count;

	IO_BEGIN();
	ops->file_write(port, file, iov, iov_count, offset, &op.op);
	count = fiber_op_wait(&op);
	return count < 0 ? (int)count : 0;
}

int io_write(struct world_file *file, const void *buffer, size_t length, uint64_t offset)
{
	struct iovec iov = {(void *)buffer, length};

	return io_writev(file, &iov, 1, offset);
}

int io_sync(struct world_file *file)
{
	IO_BEGIN();
	ops->file_sync(port, file, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_resize(struct world_file *file, uint64_t size_bytes, enum world_resize how)
{
	IO_BEGIN();
	ops->file_resize(port, file, size_bytes, how, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_file_stat(struct world_file *file, struct world_stat *ret_stat)
{
	IO_BEGIN();
	ops->file_stat(port, file, ret_stat, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_stat(const char *path, struct world_stat *ret_stat)
{
	IO_BEGIN();
	ops->path_stat(port, path, ret_stat, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_rename(const char *from, const char *to)
{
	IO_BEGIN();
	ops->rename(port, from, to, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_unlink(const char *path)
{
	IO_BEGIN();
	ops->unlink(port, path, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_directory_make(const char *path)
{
	IO_BEGIN();
	ops->directory_make(port, path, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_directory_list(const char *path, struct world_names *ret_names)
{
	IO_BEGIN();
	ops->directory_list(port, path, ret_names, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_directory_sync(const char *path)
{
	IO_BEGIN();
	ops->directory_sync(port, path, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_directory_sync_above(const char *path)
{
	_cleanup_free_ char *parent = strdup(path);
	char *slash = parent ? strrchr(parent, '/') : NULL;

	if (!parent)
		return -ENOMEM;
	if (!slash)
		return io_directory_sync(".");
	slash[slash == parent ? 1 : 0] = '\0';
	return io_directory_sync(parent);
}

int io_fs_stat(const char *path, struct world_fs_stat *ret_stat)
{
	IO_BEGIN();
	ops->fs_stat(port, path, ret_stat, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_job(void (*work)(void *arg), void *arg)
{
	IO_BEGIN();
	ops->job(port, work, arg, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_accept(struct world_socket *listener, struct world_socket **ret_socket)
{
	IO_BEGIN();
	ops->socket_accept(port, listener, ret_socket, &op.op);
	return (int)fiber_op_wait(&op);
}

int io_connect(const struct sockaddr *address, socklen_t length, struct world_socket **ret_socket)
{
	IO_BEGIN();
	ops->socket_connect(port, address, length, ret_socket, &op.op);
	return (int)fiber_op_wait(&op);
}

int64_t io_receive(struct world_socket *socket, void *buffer, size_t length)
{
	struct iovec iov = {buffer, length};

	IO_BEGIN();
	ops->socket_receive(port, socket, &iov, 1, &op.op);
	return fiber_op_wait(&op);
}

int io_receive_exactly(struct world_socket *socket, void *buffer, size_t length)
{
	char *at = buffer;

	while (length > 0) {
		int64_t count = io_receive(socket, at, length);

		if (count <= 0)
			return count < 0 ? (int)count : -ECONNRESET;
		at += count;
		length -= (size_t)count;
	}
	return 0;
}

static int64_t io_send(struct world_socket *socket, const struct iovec *iov, int iov_count)
{
	IO_BEGIN();
	ops->socket_send(port, socket, iov, iov_count, &op.op);
	return fiber_op_wait(&op);
}

/* Sends the rest of an element of which `done` bytes have gone. */
static int io_send_rest(struct world_socket *socket, const struct iovec *element, size_t done)
{
	while (done < element->iov_len) {
		struct iovec rest = {(char *)element->iov_base + done, element->iov_len - done};
		int64_t count = io_send(socket, &rest, 1);

		if (count <= 0)
			return count < 0 ? (int)count : -EPIPE;
		done += (size_t)count;
	}
	return 0;
}

int io_send_all(struct world_socket *socket, const struct iovec *iov, int iov_count)
{
	while (iov_count > 0) {
		size_t left;
		int64_t count;

		if (iov->iov_len == 0) {
			iov++, iov_count--;
			continue;
		}
		count = io_send(socket, iov, iov_count);
		if (count <= 0)
			return count < 0 ? (int)count : -EPIPE;
		for (left = (size_t)count; iov_count > 0 && left >= iov->iov_len; iov_count--)
			left -= iov++->iov_len;
		if (left > 0) { /* the caller's iovec is not ours to change */
			int error = io_send_rest(socket, iov, left);

			if (error < 0)
				return error;
			iov++, iov_count--;
		}
	}
	return 0;
}
