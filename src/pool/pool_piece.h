/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Operations of fibers that may be given up, with memory of their own: a piece belongs to the last
 * of both, fiber and kernel. Each reactor keeps some of those that ended (struct pool_watch), so
 * that a flush, or whoever copies all the time, allocates nothing; their memory as long as anything
 * is under way on the pool's disks. For the pool_io*.c files.
 */
#include "pool/pool_watch.h"

#define POOL_PIECES_KEPT  (2 * POOL_COPIES_MAX) /* of a reactor: two syncs of a file at a time */
#define POOL_PIECE_MEMORY MIB /* of one that is kept; more is given back at once */

struct pool_piece {
	struct pool_flight flight;
	struct world_op op;
	struct pool_write write; /* or, if all copies are written, this in place of both */
	struct fiber *waiter;    /* NULL: nobody waits for it any more */
	enum pool_disk_io kind;
	struct iovec iov; /* its memory, as much as was asked for */
	int64_t result;
	bool ended, overdue;
	/* Private. */
	struct pool_watch *watch;
	struct pool_piece *next;
	size_t memory_bytes;
};

/* Zeros but for `iov`. NULL: there is no memory. */
struct pool_piece *pool_piece_take(struct pool *pool, size_t length);
void pool_piece_put(struct pool_piece *piece);
/* All the memory that is kept, but not the pieces. On the watch's reactor. */
void pool_pieces_trim(struct pool_watch *watch);
/* All of it, and no more is kept. */
void pool_pieces_done(struct pool_watch *watch);
