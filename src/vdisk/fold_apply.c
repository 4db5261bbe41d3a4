/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a fold was committed: the frozen layer becomes the tree, in memory, in one go (nothing here
 * suspends), and liveness follows: what the new pages name is born, what only the old ones named is
 * dead.
 */
#include <string.h>

#include "vdisk/vdisk_priv.h"

/* The tree below is replaced by nothing: cached pages must not come back to light. */
static void reset_subtree(struct map *map, struct map_index *node)
{
	memset(node->entries, 0, sizeof(node->entries));
	node->loaded = true;
	for (unsigned i = 0; i < MAP_FANOUT; i++) {
		if (!node->child[i])
			continue;
		if (node->level > 1) {
			reset_subtree(map, node->child[i]);
			map_index_release(map, node->child[i]);
		} else {
			map_leaf_drop_page(map, node->child[i]);
			map_leaf_release(map, node->child[i]);
		}
	}
}

static void apply_leaf(struct vdisk *vdisk, struct map_leaf *leaf, bool masked)
{
	struct map *map = &vdisk->map;
	struct map_delta *delta = leaf->delta[!map->active];
	unsigned n = 0;

	if (masked)
		map_leaf_drop_page(map, leaf);
	if (delta) {
		for (unsigned i = map_bit_next(delta->present, 0); i < MAP_FANOUT;
		     i = map_bit_next(delta->present, i + 1), n++) {
			if (leaf->page)
				leaf->page->entries[i] = delta->entries[n];
			if (delta->entries[n].address)
				vdisk_slot_live(vdisk, delta->entries[n].address);
		}
		leaf->delta[!map->active] = NULL;
		map_delta_free(map, delta);
	}
}

static void apply_index(struct vdisk *vdisk, struct map_index *node, bool masked);

static void apply_child(struct vdisk *vdisk, struct map_index *node, unsigned child, bool masked)
{
	struct map *map = &vdisk->map;
	struct map_index *index = node->child[child];

	if (!node->child[child])
		return;
	if (node->level == 1)
		apply_leaf(vdisk, node->child[child], masked);
	else if (map_bits_any(index->dirty[!map->active]))
		apply_index(vdisk, index, masked);
	else if (masked)
		reset_subtree(map, index);
}

static void release_child(struct map *map, struct map_index *node, unsigned child)
{
	if (!node->child[child])
		return;
	if (node->level == 1)
		map_leaf_release(map, node->child[child]);
	else
		map_index_release(map, node->child[child]);
}

static void apply_index(struct vdisk *vdisk, struct map_index *node, bool masked)
{
	struct map *map = &vdisk->map;
	unsigned frozen = !map->active;

	for (unsigned i = 0; i < MAP_FANOUT; i++) {
		bool dirty = map_bit(node->dirty[frozen], i);
		bool below = masked || (dirty && map_bit(node->hole[frozen], i));

		if (dirty || masked)
			apply_child(vdisk, node, i, below);
	}
	ASSERT(node->fresh);
	memcpy(node->entries, node->fresh, sizeof(node->entries));
	node->loaded = true;
	cache_free(map->cache, node->fresh, sizeof(node->entries));
	node->fresh = NULL;
	memset(node->dirty[frozen], 0, sizeof(node->dirty[0]));
	memset(node->hole[frozen], 0, sizeof(node->hole[0]));
	for (unsigned i = 0; i < MAP_FANOUT; i++)
		release_child(map, node, i);
}

void vdisk_fold_apply(struct vdisk *vdisk, struct fold_result *result)
{
	struct map *map = &vdisk->map;

	apply_index(vdisk, map->root, false);
	map->root_entry = result->root;
	map->frozen = false;
	for (size_t i = 0; i < result->pages.count; i++)
		vdisk_slot_live(vdisk, result->pages.items[i]);
	for (size_t i = 0; i < result->dead.count; i++)
		vdisk_slot_dead(vdisk, result->dead.items[i]);
	for (size_t i = 0; i < result->orphans.count; i++)
		if (orphan_list_add(&vdisk->orphans, &result->orphans.items[i]) < 0)
			vdisk->store->liveness_known = false;
}
