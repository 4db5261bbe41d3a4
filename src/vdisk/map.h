/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The map of a vDisk: block number to stable address and checksum.
 *
 * On disk: a copy-on-write radix tree of immutable pages with 256 entries each (page.h). A leaf
 * (level 0) covers 1 MiB, each level above 256 times as much. An absent entry reads as zeros.
 *
 * In memory, the same tree with three layers at every place, read top-down:
 *   active delta    what was acknowledged since the last freeze
 *   frozen delta    what a checkpoint is folding into new pages
 *   tree            the committed pages, cached as far as memory goes
 * A layer hides those below it where it has an entry for a block, and, in whole subtrees, where a
 * parent's `hole` bit is set: the subtree was unmapped, and entries of the same layer were made
 * later.
 *
 * Invariants:
 *  1. dirty[layer] of an index node has a bit for each child below which the layer has an entry or
 * a hole.
 *  2. A child that is absent in memory has no delta; then the tree's entry decides.
 *  3. `entries` of an index node are valid when `loaded`. They are those of the committed tree.
 *  4. Freezing is a swap of the layers' roles; the new active layer is empty.
 *  5. Nodes are freed only when nobody holds a pin (map->pins): those who suspend while walking do.
 * Home: the vDisk's reactor.
 */
#include "vdisk/cache.h"
#include "vdisk/page.h"

#define MAP_LEVELS_MAX 5

struct map_delta { /* entries of one leaf, sorted by block; `present` tells which */
	uint64_t present[MAP_FANOUT / 64];
	uint16_t count, capacity;
	struct map_entry entries[];
};

struct map_leaf_page {
	struct cache_item item;
	struct map_leaf *leaf;
	struct map_entry entries[MAP_FANOUT];
};

struct map_leaf {
	struct map_index *parent;
	uint32_t slot;
	bool loading;
	struct map_delta *delta[2];
	struct map_leaf_page *page;
};

struct map_index {
	struct cache_item item; /* linked while it could be dropped (level 1, no children) */
	struct map *map;
	struct map_index *parent;
	uint16_t slot;
	uint8_t level; /* 1 .. MAP_LEVELS_MAX - 1 */
	bool loaded, loading;
	uint16_t child_count;
	uint64_t dirty[2][MAP_FANOUT / 64];
	uint64_t hole[2][MAP_FANOUT / 64];
	struct map_entry *fresh; /* the entries a fold has made; MAP_FANOUT of them */
	struct map_entry entries[MAP_FANOUT];
	void *child[MAP_FANOUT]; /* struct map_leaf at level 1, else struct map_index */
};

struct map {
	struct vdisk_cache *cache;
	struct map_index *root;
	struct map_entry root_entry; /* absent: an empty tree */
	unsigned active;             /* the layer that takes new entries: 0 or 1 */
	bool frozen;                 /* the other one holds something to be folded */
	unsigned pins;
	uint64_t vdisk;
};

/* The tree is `root_entry` at `root_level` (1 for an empty one is enough for 256 MiB). */
int map_init(struct map *map, struct vdisk_cache *cache, uint64_t vdisk,
	     const struct map_entry *root_entry, unsigned root_level);
void map_done(struct map *map);
/* Levels needed for that many blocks: the level of the root. */
unsigned map_level_for(uint64_t block_count);
/* Makes the tree high enough. -ENOMEM. Not while frozen. */
int map_grow(struct map *map, uint64_t block_count);
static inline unsigned map_root_level(const struct map *map)
{
	return map->root->level;
}

/* 0 with the entry (absent = zeros), or -EAGAIN when a page must be read first (map_load.h). */
int map_lookup(struct map *map, uint64_t block, struct map_entry *ret_entry);
/* How many blocks from `block` on, at most `limit`, are known to be absent without looking at each;
 * 0 when the block is mapped or it is not known. */
uint64_t map_absent_run(struct map *map, uint64_t block, uint64_t limit);
/* Blocks [block, block + count) are at consecutive slots. crcs[i] is block i's, in little-endian.
 * Must be preceded by cache_reserve(). */
void map_set(struct map *map, uint64_t block, uint32_t count, uint64_t address,
	     const uint32_t *crcs);
/* The range reads as zeros. */
void map_zero(struct map *map, uint64_t block, uint64_t count);

/* The active layer becomes the frozen one. False when there is nothing in it, unless `always`. */
bool map_freeze(struct map *map, bool always);
bool map_is_dirty(const struct map *map);

static inline bool map_bit(const uint64_t *bits, unsigned bit)
{
	return bits[bit / 64] >> (bit % 64) & 1;
}
static inline void map_bit_set(uint64_t *bits, unsigned bit)
{
	bits[bit / 64] |= UINT64_C(1) << (bit % 64);
}
static inline void map_bit_clear(uint64_t *bits, unsigned bit)
{
	bits[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}
/* The next set bit at or after `bit`, or MAP_FANOUT. */
unsigned map_bit_next(const uint64_t *bits, unsigned bit);
bool map_bits_any(const uint64_t *bits);

static inline unsigned map_child_slot(unsigned level, uint64_t block)
{
	return (unsigned)(block >> (MAP_FANOUT_BITS * level)) % MAP_FANOUT;
}
/* Blocks below one child of a node at `level`. */
static inline uint64_t map_child_span(unsigned level)
{
	return UINT64_C(1) << (MAP_FANOUT_BITS * level);
}

/* Shared with the fold and the loader. */
/* Puts an entry into a delta, which may move or be made. cache_reserve() came before. */
void map_delta_put(struct map *map, struct map_delta **delta, unsigned slot,
		   struct map_entry entry);
const struct map_entry *map_delta_find(const struct map_delta *delta, unsigned slot);
struct map_index *map_index_new(struct map *map, struct map_index *parent, unsigned slot,
				unsigned level);
struct map_leaf *map_leaf_new(struct map *map, struct map_index *parent, unsigned slot);
void map_delta_free(struct map *map, struct map_delta *delta);
int map_leaf_attach_page(struct map *map, struct map_leaf *leaf, const struct map_entry *entries);
void map_leaf_drop_page(struct map *map, struct map_leaf *leaf);
/* Frees a leaf or index node without content, and its parents where they become so. Not while
 * pinned. */
void map_leaf_release(struct map *map, struct map_leaf *leaf);
void map_index_release(struct map *map, struct map_index *index);
static inline void map_pin(struct map *map)
{
	map->pins++;
}
static inline void map_unpin(struct map *map)
{
	ASSERT(map->pins > 0);
	map->pins--;
}
/* The committed tree's entry of a node; absent when the parent says so. The parent is loaded. */
static inline struct map_entry map_index_entry(const struct map *map, const struct map_index *index)
{
	return index->parent ? index->parent->entries[index->slot] : map->root_entry;
}
