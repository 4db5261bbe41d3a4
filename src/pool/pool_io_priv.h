/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Shared by the pool_io*.c files. */
#include "pool/pool_watch.h"

/* Counts it at the copy's disk; `overdue` is set. */
void pool_io_begins(struct pool_flight *flight, struct pool_file_copy *copy);
void pool_io_ends(struct pool_flight *flight, enum pool_disk_io kind, int64_t result);
/* Why it makes no sense to write there, or 0. */
int pool_io_refuses(const struct pool_file_copy *copy);
/* Whether another copy than that one is in order and on a disk that answers. */
bool pool_io_can_do_without(const struct pool_file *file, const struct pool_handle *handle);
/* NULL: it is stale or cannot be reached. */
struct pool_file_copy *pool_io_copy_at(const struct pool_file *file, unsigned copy);

/* In memory of its own, so that it can be given up: the structure is the caller's again as soon as
 * it is told. -ENOMEM, -ETIMEDOUT: nothing was begun (pool_io_fiber.c). */
int pool_io_read_apart(struct pool_read *read, struct pool_file_copy *source,
		       const struct iovec *iov, uint64_t offset);
int pool_io_write_apart(struct pool_write *write, struct pool_file_copy *target,
			const struct iovec *iov, uint64_t offset);
