/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The world's operations as calls that suspend the running fiber. Same results as in world.h;
 * the reactor is the current one.
 */
#include "reactor/fiber.h"

int io_open(const char *path, unsigned flags, struct world_file **ret_file);
int io_close(struct world_file *file);
/* Bytes read (fewer only at the end of the file) or a negative errno. */
int64_t io_read(struct world_file *file, void *buffer, size_t length, uint64_t offset);
/* 0 only when `length` bytes were read; -ENODATA when the file ends before. */
int io_read_exactly(struct world_file *file, void *buffer, size_t length, uint64_t offset);
int io_write(struct world_file *file, const void *buffer, size_t length, uint64_t offset);
int64_t io_readv(struct world_file *file, const struct iovec *iov, int iov_count, uint64_t offset);
int io_writev(struct world_file *file, const struct iovec *iov, int iov_count, uint64_t offset);
int io_sync(struct world_file *file);
int io_resize(struct world_file *file, uint64_t size_bytes, enum world_resize how);
int io_file_stat(struct world_file *file, struct world_stat *ret_stat);
int io_stat(const char *path, struct world_stat *ret_stat);
int io_rename(const char *from, const char *to);
int io_unlink(const char *path);
int io_directory_make(const char *path); /* -EEXIST when there */
int io_directory_list(const char *path, struct world_names *ret_names);
int io_directory_sync(const char *path);
/* Of the directory that `path` is in. -ENOMEM */
int io_directory_sync_above(const char *path);
int io_fs_stat(const char *path, struct world_fs_stat *ret_stat);
/* Runs work(arg) on a worker thread. -ESHUTDOWN in a dead world, else 0. */
int io_job(void (*work)(void *arg), void *arg);

int io_accept(struct world_socket *listener, struct world_socket **ret_socket);
int io_connect(const struct sockaddr *address, socklen_t length, struct world_socket **ret_socket);
int64_t io_receive(struct world_socket *socket, void *buffer, size_t length);
/* All of it or an error; -ECONNRESET when the peer closed before. */
int io_receive_exactly(struct world_socket *socket, void *buffer, size_t length);
int io_send_all(struct world_socket *socket, const struct iovec *iov, int iov_count);
