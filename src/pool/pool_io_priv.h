/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Shared by the pool_io*.c files. */
#include "pool/pool_watch.h"

/* Counts it at the copy's disk; `overdue` is set. */
void pool_io_begins(struct pool_flight *flight, struct pool_file_copy *copy);
void pool_io_ends(struct pool_flight *flight, enum pool_disk_io kind, int64_t result);
/* Why it makes no sense to write there, or 0. */
int pool_io_refuses(const struct pool_file_copy *copy);
/* Whether another copy takes part. */
bool pool_io_has_other(const struct pool_file *file, const struct pool_file_copy *copy);
/* Whether nobody waits for that one: its disk has failed, or another copy is in order and on a disk
 * that answers. */
bool pool_io_can_do_without(const struct pool_file *file, const struct pool_handle *handle);
/* Whether a read of that one may as well be tried elsewhere: so, or a copy on a disk that has
 * failed may have it. */
bool pool_io_can_be_read_elsewhere(const struct pool_file *file, const struct pool_handle *handle);
/* Several, or one that nobody waits for: what is under way may be given up. */
bool pool_io_has_copies(const struct pool_file *file);
/* NULL: it is stale or cannot be reached. */
struct pool_file_copy *pool_io_copy_at(const struct pool_file *file, unsigned copy);
