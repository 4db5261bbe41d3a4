/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The memory that the vDisks of one reactor share: pieces for maps from a slab under a budget, and
 * fixed pools of record buffers, read parts and bounce blocks. Lives on that reactor.
 *
 * The budget is soft: a write that was acknowledged must enter the map, so cache_alloc() goes above
 * it, and writers are held back by cache_is_full() until a checkpoint has made room.
 * cache_reserve() makes sure that the allocations of all records in flight cannot fail.
 */
#include "base/list.h"
#include "vdisk/vdisk.h"

#define CACHE_CLASSES       8
#define CACHE_RECORDS       32  /* record buffers */
#define CACHE_RECORDS_MORE  256 /* while those stand still on disks that hang */
#define CACHE_RECORD_BLOCKS 64u /* payload of one: 256 KiB */
#define CACHE_READ_PARTS    1024
#define CACHE_PARTS_MORE    8192 /* as CACHE_RECORDS_MORE */
#define CACHE_BOUNCE_BLOCKS 2048
#define CACHE_PATIENCE_NS   (500 * NSEC_PER_MSEC)
#define CACHE_CHUNK_BYTES   (1 * MIB)
#define CACHE_CHUNKS_SPARE  6

struct cache_free_item {
	struct cache_free_item *next;
};

/* Pieces of one size. Those that were never taken are not in the list: a page that is not used
 * costs no memory, and a start no time. */
struct cache_pool {
	struct cache_free_item *free; /* the last one given back first: its lines are warm */
	char *memory;
	size_t piece_bytes;
	unsigned pieces, taken_once; /* of those, the first were taken at least once */
};

/* Something that may be dropped when room is needed. Second chance: used pieces get another round.
 */
struct cache_item {
	struct list_node link;
	bool used;
	void (*drop)(struct cache_item *item);
};

/*
 * What a disk that hangs keeps. Memory that the kernel uses cannot be used again before the disk
 * answers, if ever, so another piece of the same kind takes its place in its pool.
 */
struct cache_lent {
	unsigned out; /* pieces that the kernel keeps */
	/* Pieces that it does not keep, more than there were at first: those that came back after
	 * others had taken their place; negative where there was no memory for these. */
	int surplus;
};

struct vdisk_cache {
	struct reactor *reactor;
	uint64_t budget_bytes;
	uint64_t used_bytes;
	struct cache_free_item *free[CACHE_CLASSES];
	struct list chunks;       /* all, to be unmapped at the end */
	struct list spare_chunks; /* not carved yet */
	unsigned spare_count;
	char *carve; /* rest of the current chunk */
	size_t carve_bytes;
	struct list items; /* droppable, the next to be looked at first */

	struct cache_lent lent_records, lent_parts, lent_bounces;
	struct cache_free_item
		*extra; /* what took the place of lent pieces: to be freed at the end */
	struct cache_pool records;
	struct list record_waiters; /* hooks of logs that found none */
	struct reactor_timer record_patience;
	unsigned records_given; /* back, since it was last looked at */
	struct cache_pool parts;
	struct list part_waiters; /* block requests that found none */
	struct reactor_timer part_patience;
	unsigned parts_given; /* back, since it was last looked at */
	struct cache_pool bounces;
	void (*resume)(struct block_request *request);
};

/* Never fails after a successful cache_reserve() for the same record; else NULL without memory. */
void *cache_alloc(struct vdisk_cache *cache, size_t bytes);
void cache_free(struct vdisk_cache *cache, void *memory, size_t bytes);
/* False: no memory; try again later. */
bool cache_reserve(struct vdisk_cache *cache);
static inline bool cache_is_full(const struct vdisk_cache *cache)
{
	return cache->used_bytes > cache->budget_bytes;
}
void cache_item_add(struct vdisk_cache *cache, struct cache_item *item);
static inline void cache_item_remove(struct cache_item *item)
{
	list_remove(&item->link);
}
/* Drops items until the budget's share for cached pages is kept. */
void cache_trim(struct vdisk_cache *cache);

/* A piece of that pool stays with the kernel; another takes its place, if there is memory. */
/* False: there is none to go on with, and nothing was lent. */
bool cache_lend_record(struct vdisk_cache *cache);
bool cache_lend_part(struct vdisk_cache *cache);
void cache_lend_bounce(struct vdisk_cache *cache);
/* It is back. */
void cache_record_back(struct vdisk_cache *cache, void *record);
void cache_part_back(struct vdisk_cache *cache, void *part);
void cache_bounce_back(struct vdisk_cache *cache, void *bounce);
/* Whether the kernel has none of its memory. */
bool cache_is_whole(const struct vdisk_cache *cache);

/* A piece, or NULL: all are taken. */
void *cache_take(struct cache_pool *pool);
void cache_give(struct cache_pool *pool, void *piece);
/* `waiter` runs, once, when there may be one again: where few come back, there will be more. */
void cache_wait_for_record(struct vdisk_cache *cache, struct reactor_hook *waiter);
void cache_give_record(struct vdisk_cache *cache, void *record);
/* Half as many parts again, as far as there may be more, and bounce blocks where none is left. */
void cache_more_parts(struct vdisk_cache *cache);
