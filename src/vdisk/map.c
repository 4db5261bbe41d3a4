/* SPDX-License-Identifier: Apache-2.0 */
#include "vdisk/map.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"

unsigned map_level_for(uint64_t block_count)
{
	unsigned level = 1;

	while (level < MAP_LEVELS_MAX - 1 && map_child_span(level + 1) < block_count)
		level++;
	return level;
}

int map_init(struct map *map, struct vdisk_cache *cache, uint64_t vdisk,
	     const struct map_entry *root_entry, unsigned root_level)
{
	memset(map, 0, sizeof(*map));
	map->cache = cache;
	map->vdisk = vdisk;
	map->root_entry = *root_entry;
	map->root = map_index_new(map, NULL, 0, root_level);
	return map->root ? 0 : -ENOMEM;
}

static void free_leaf(struct map *map, struct map_leaf *leaf)
{
	for (unsigned layer = 0; layer < 2; layer++)
		if (leaf->delta[layer])
			map_delta_free(map, leaf->delta[layer]);
	map_leaf_drop_page(map, leaf);
	cache_free(map->cache, leaf, sizeof(*leaf));
}

static void free_index(struct map *map, struct map_index *index)
{
	for (unsigned i = 0; i < MAP_FANOUT; i++) {
		if (!index->child[i])
			continue;
		if (index->level == 1)
			free_leaf(map, index->child[i]);
		else
			free_index(map, index->child[i]);
	}
	list_remove(&index->item.link);
	cache_free(map->cache, index->fresh, sizeof(index->entries));
	cache_free(map->cache, index, sizeof(*index));
}

void map_done(struct map *map)
{
	if (map->root)
		free_index(map, map->root);
	map->root = NULL;
}

/* A new root above the old one, which becomes its first child. */
static int add_level(struct map *map)
{
	struct map_index *old = map->root, *root;

	root = cache_alloc(map->cache, sizeof(*root));
	if (!root)
		return -ENOMEM;
	memset(root, 0, sizeof(*root));
	list_node_init(&root->item.link);
	root->map = map;
	root->level = (uint8_t)(old->level + 1);
	root->loaded = true;
	root->child[0] = old;
	root->child_count = 1;
	if (map_bits_any(old->dirty[map->active]))
		map_bit_set(root->dirty[map->active], 0);
	/* In the committed tree there is no page of this level: the entry of the old root stands in
	 * it until the next fold writes one. */
	root->entries[0] = map->root_entry;
	map->root_entry = (struct map_entry){0};
	old->parent = root;
	old->slot = 0;
	map->root = root;
	return 0;
}

int map_grow(struct map *map, uint64_t block_count)
{
	ASSERT(!map->frozen);
	while (map->root->level < map_level_for(block_count)) {
		int r = add_level(map);

		if (r < 0)
			return r;
	}
	return 0;
}

/* What the layers above the tree say on the way down. */
struct masks {
	bool frozen, tree;
};

static inline void masks_update(struct masks *masks, const struct map *map,
				const struct map_index *node, unsigned child)
{
	if (map_bit(node->hole[map->active], child))
		masks->frozen = masks->tree = true;
	else if (map_bit(node->hole[!map->active], child))
		masks->tree = true;
}

static int tree_entry(const struct map_index *node, unsigned child, bool masked,
		      struct map_entry *ret_entry)
{
	if (masked || (node->loaded && node->entries[child].address == 0)) {
		*ret_entry = (struct map_entry){0};
		return 0;
	}
	return -EAGAIN;
}

static int leaf_lookup(struct map *map, struct map_leaf *leaf, unsigned slot,
		       const struct masks *masks, struct map_entry *ret_entry)
{
	const struct map_delta *delta = leaf->delta[map->active];
	const struct map_entry *entry = delta ? map_delta_find(delta, slot) : NULL;

	if (!entry && !masks->frozen && leaf->delta[!map->active])
		entry = map_delta_find(leaf->delta[!map->active], slot);
	if (!entry && !masks->tree && leaf->page) {
		leaf->page->item.used = true;
		entry = &leaf->page->entries[slot];
	}
	if (!entry)
		return tree_entry(leaf->parent, leaf->slot, masks->tree, ret_entry);
	*ret_entry = *entry;
	return 0;
}

int map_lookup(struct map *map, uint64_t block, struct map_entry *ret_entry)
{
	struct masks masks = {0};
	struct map_index *node = map->root;

	if (block >= map_child_span(node->level) * MAP_FANOUT) {
		*ret_entry = (struct map_entry){0};
		return 0;
	}
	for (;;) {
		unsigned child = map_child_slot(node->level, block);

		masks_update(&masks, map, node, child);
		if (!node->child[child])
			return tree_entry(node, child, masks.tree, ret_entry);
		if (node->level == 1)
			return leaf_lookup(map, node->child[child], map_child_slot(0, block),
					   &masks, ret_entry);
		node = node->child[child];
	}
}

uint64_t map_absent_run(struct map *map, uint64_t block, uint64_t limit)
{
	struct masks masks = {0};
	struct map_index *node = map->root;
	struct map_entry entry;
	uint64_t run;

	for (;;) {
		unsigned child = map_child_slot(node->level, block);
		uint64_t span = map_child_span(node->level);

		masks_update(&masks, map, node, child);
		if (!node->child[child]) {
			if (tree_entry(node, child, masks.tree, &entry) < 0)
				return 0;
			return MIN(limit, span - block % span);
		}
		if (node->level == 1)
			break;
		node = node->child[child];
	}
	for (run = 0; run < limit && (block + run) % MAP_FANOUT >= block % MAP_FANOUT; run++)
		if (map_lookup(map, block + run, &entry) < 0 || entry.address != 0)
			break;
	return run;
}

static struct map_leaf *leaf_for_update(struct map *map, uint64_t block)
{
	struct map_index *node = map->root;

	for (;;) {
		unsigned child = map_child_slot(node->level, block);

		map_bit_set(node->dirty[map->active], child);
		if (node->level == 1) {
			if (!node->child[child])
				map_leaf_new(map, node, child);
			ASSERT(node->child[child]); /* cache_reserve() came before */
			return node->child[child];
		}
		if (!node->child[child])
			map_index_new(map, node, child, node->level - 1u);
		ASSERT(node->child[child]);
		node = node->child[child];
	}
}

void map_set(struct map *map, uint64_t block, uint32_t count, uint64_t address,
	     const uint32_t *crcs)
{
	struct map_leaf *leaf = NULL;

	for (uint32_t i = 0; i < count; i++, block++) {
		struct map_entry entry = {.crc = le32toh(crcs[i]),
					  .address = address + ((uint64_t)i << 40)};

		if (!leaf || block % MAP_FANOUT == 0)
			leaf = leaf_for_update(map, block);
		map_delta_put(map, &leaf->delta[map->active], map_child_slot(0, block), entry);
	}
}

/* Everything of the active layer below the node goes. */
static void clear_active(struct map *map, struct map_index *node)
{
	uint64_t *dirty = node->dirty[map->active];

	for (unsigned i = map_bit_next(dirty, 0); i < MAP_FANOUT; i = map_bit_next(dirty, i + 1)) {
		struct map_leaf *leaf = node->child[i];

		if (!node->child[i])
			continue;
		if (node->level > 1) {
			clear_active(map, node->child[i]);
		} else if (leaf->delta[map->active]) {
			map_delta_free(map, leaf->delta[map->active]);
			leaf->delta[map->active] = NULL;
			map_leaf_release(map, leaf);
		}
	}
	memset(node->dirty[map->active], 0, sizeof(node->dirty[0]));
	memset(node->hole[map->active], 0, sizeof(node->hole[0]));
}

/* The whole subtree of one child becomes a hole. */
static void zero_child(struct map *map, struct map_index *node, unsigned child)
{
	struct map_leaf *leaf;

	/* Nothing there in any layer: nothing to hide. */
	if (!node->child[child] && node->loaded && node->entries[child].address == 0)
		return;
	if (node->child[child] && node->level > 1) {
		clear_active(map, node->child[child]);
	} else if (node->child[child]) {
		leaf = node->child[child];
		if (leaf->delta[map->active])
			map_delta_free(map, leaf->delta[map->active]);
		leaf->delta[map->active] = NULL;
	}
	map_bit_set(node->dirty[map->active], child);
	map_bit_set(node->hole[map->active], child);
}

static void zero_blocks(struct map *map, uint64_t block, uint64_t count)
{
	struct map_leaf *leaf = leaf_for_update(map, block);

	for (uint64_t i = 0; i < count; i++)
		map_delta_put(map, &leaf->delta[map->active], map_child_slot(0, block + i),
			      (struct map_entry){0});
}

/* `first` and `last` (inclusive) are below this node. */
static void zero_range(struct map *map, struct map_index *node, uint64_t first, uint64_t last)
{
	uint64_t span = map_child_span(node->level);

	for (uint64_t at = first; at <= last; at = ALIGN_DOWN(at, span) + span) {
		unsigned child = map_child_slot(node->level, at);
		uint64_t end = MIN(last, ALIGN_DOWN(at, span) + span - 1);

		if (at % span == 0 && end - at == span - 1) {
			zero_child(map, node, child);
			continue;
		}
		if (!node->child[child] && node->loaded && node->entries[child].address == 0)
			continue;
		if (node->level == 1) {
			zero_blocks(map, at, end - at + 1);
			continue;
		}
		if (!node->child[child])
			map_index_new(map, node, child, node->level - 1u);
		ASSERT(node->child[child]);
		map_bit_set(node->dirty[map->active], child);
		zero_range(map, node->child[child], at, end);
	}
}

void map_zero(struct map *map, uint64_t block, uint64_t count)
{
	uint64_t covered = map_child_span(map->root->level) * MAP_FANOUT;

	if (count > 0 && block < covered)
		zero_range(map, map->root, block, MIN(block + count, covered) - 1);
}

bool map_is_dirty(const struct map *map)
{
	return map->frozen || map_bits_any(map->root->dirty[map->active]);
}

bool map_freeze(struct map *map, bool always)
{
	if (map->frozen)
		return true;
	if (!always && !map_bits_any(map->root->dirty[map->active]))
		return false;
	map->active = !map->active;
	map->frozen = true;
	return true;
}
