/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a simulated file contains, and what of it would survive a loss of power.
 *
 * Content is kept in pages of 4 KiB; pages of zeros take no memory. A page that is changed is
 * replaced, and the old one goes into the file's undo list, so that a loss of power can put
 * back any 512-byte sector of any change that no sync covered (sim_undo.c).
 *
 * Invariants.
 *  1. `undo` is in the order in which changes took effect; undo[i].change is numbered in that
 *     order.
 *  2. Every page pointer has one owner: a chunk, an undo entry or the pool.
 *  3. `settled` bytes of all chunks are zero outside of sim_undo.c.
 *  4. disk->used_pages counts the allocated pages of nodes that have a name or an open file.
 *
 * The simulator's own memory is not a fault it models: when it runs out, it aborts.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "world/sim/sim_random.h"

#define SIM_PAGE_BYTES 4096u
#define SIM_SECTOR_BYTES 512u
#define SIM_CHUNK_PAGES 512u
#define SIM_FILE_MAX_BYTES (16 * TIB)
#define SIM_CHANGE_PENDING (UINT64_MAX - 1) /* has not completed yet */
#define SIM_NO_CHANGE UINT64_MAX

struct sim_disk;
struct sim_directory;

/* Pages for all files of a simulation. */
struct sim_pool {
	void *free_pages;
	void *slabs;
};

struct sim_chunk {
	uint8_t *pages[SIM_CHUNK_PAGES]; /* NULL = zeros */
	uint64_t allocated[SIM_CHUNK_PAGES / 64];
	uint8_t settled[SIM_CHUNK_PAGES]; /* sectors, while a sync or a loss is worked out */
};

struct sim_undo {
	uint8_t *old; /* NULL = zeros */
	uint64_t change;
	uint32_t page;
	uint8_t sectors; /* changed, a bit each */
	bool cut;        /* by a truncation, which survives as a whole */
	bool orphan;     /* a failed sync marked it clean: later syncs do not cover it */
};

struct sim_change {
	uint64_t completed; /* stamp, or SIM_CHANGE_PENDING */
	uint64_t size_after;
	bool resizes;
	bool lost; /* scratch of the loss of power: the size change did not survive */
};

struct sim_node {
	struct list_node link; /* of the disk, in order of creation */
	struct sim_disk *disk;
	struct sim_directory *directory; /* NULL for a file */
	uint32_t id;
	uint32_t refs;  /* names, unsynced directory changes, open files */
	uint32_t names; /* in directories as they are now */
	uint32_t opens;

	uint64_t size_bytes;
	uint64_t durable_size_bytes;
	uint64_t allocated_pages;
	struct sim_chunk **chunks;
	size_t chunk_count;

	struct sim_undo *undo;
	size_t undo_count, undo_room;
	struct sim_change *changes; /* numbered from change_base */
	size_t change_count, change_room;
	uint64_t change_base;

	/* SQLite's locks: how many hold a shared one, who holds more. */
	unsigned lock_shared;
	const void *lock_reserved, *lock_exclusive;
};

/* A position in a list of buffers. */
struct sim_cursor {
	const struct iovec *iov;
	int count;
	size_t done; /* bytes of iov[0] that are behind us */
};

struct sim_cursor sim_cursor(const struct iovec *iov, int count);
uint64_t sim_cursor_length(const struct sim_cursor *cursor);
void sim_cursor_take(struct sim_cursor *cursor, void *to, size_t length);
void sim_cursor_give(struct sim_cursor *cursor, const void *from, size_t length);

void sim_pool_done(struct sim_pool *pool);
uint8_t *sim_pool_take(struct sim_pool *pool); /* content is not defined */
void sim_pool_give(struct sim_pool *pool, uint8_t *page); /* NULL: no effect */

void sim_node_unref(struct sim_node *node);
/* Changes names and opens by -1, 0 or 1 and keeps the disk's account. */
void sim_node_count(struct sim_node *node, int names, int opens);

/* Bytes copied: fewer than asked for only at the end. */
uint64_t sim_node_read(const struct sim_node *node, struct sim_cursor *to, uint64_t offset);
/* Pages that a write of that range would have to allocate. */
uint64_t sim_node_missing_pages(const struct sim_node *node, uint64_t offset, uint64_t length);
/* Writes what `from` holds. With `torn`, only the sectors which that generator picks. Returns the
 * number of the change. */
uint64_t sim_node_write(struct sim_node *node, struct sim_cursor *from, uint64_t offset,
			struct sim_rng *torn);
uint64_t sim_node_resize(struct sim_node *node, uint64_t size_bytes, bool reserve);
int sim_node_flip(struct sim_node *node, uint64_t offset, unsigned bit);

/* Internals shared with sim_undo.c. */
struct sim_chunk *sim_node_chunk(const struct sim_node *node, uint64_t page); /* may be NULL */
void sim_node_set_page(struct sim_node *node, uint64_t page, uint8_t *content);
/* Drops everything from `size_bytes` on for good. */
void sim_node_cut(struct sim_node *node, uint64_t size_bytes);

/* sim_undo.c */
uint64_t sim_undo_begin(struct sim_node *node);
void sim_undo_add(struct sim_node *node, const struct sim_undo *entry);
void sim_undo_resized(struct sim_node *node, uint64_t change, uint64_t size_bytes);
/* The change's owner was told. */
void sim_undo_completed(struct sim_node *node, uint64_t change, uint64_t stamp);
/* Makes durable what completed before `mark`; UINT64_MAX covers everything. */
void sim_undo_sync(struct sim_node *node, uint64_t mark);
/* A sync that failed and marked clean what it should have written. */
void sim_undo_orphan(struct sim_node *node, uint64_t mark);
bool sim_undo_is_clean(const struct sim_node *node);
void sim_undo_power_loss(struct sim_node *node, struct sim_rng *rng);
void sim_undo_done(struct sim_node *node);
