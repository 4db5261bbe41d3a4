/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a fold was committed: the frozen layer becomes the tree, in memory, and liveness follows:
 * what the new pages name is born, what only the old ones named is dead.
 *
 * A fold may hold some hundred thousand entries, so it is done in slices, with a turn for everybody
 * else between them. What holds at each of these points:
 *  1. A lookup finds the committed content. Nodes are changed from the root down: below a node that
 *     has its new entries the frozen layer still lies over the old ones, and says the same.
 *  2. A node's hole is handed to its child before it is cleared: what it hides in memory must not
 *     come back to light.
 *  3. Nothing is dead before the whole tree has changed: reads under way look into old pages.
 *  4. Groups that the checkpoint sealed stay pinned until all births are known (checkpoint.c).
 *  5. No node goes: the map is pinned but for moments in which nothing suspends.
 * Home: the vDisk's reactor. Fiber; it cannot fail.
 */
#include <string.h>

#include "base/reached.h"
#include "vdisk/vdisk_priv.h"

/* Work of one slice, in changed slots: some hundred microseconds with cold memory. */
#define SLICE      256u
#define NODE_WORK  32u
#define CHILD_WORK 2u

struct apply {
	struct vdisk *vdisk;
	unsigned work;
};

static void worked(struct apply *apply, unsigned work)
{
	apply->work += work;
	if (apply->work < SLICE)
		return;
	apply->work = 0;
	REACHED("fold.slice");
	fiber_yield();
}

static void apply_leaf(struct apply *apply, struct map_leaf *leaf)
{
	struct vdisk *vdisk = apply->vdisk;
	struct map *map = &vdisk->map;
	struct map_delta *delta = leaf->delta[!map->active];
	unsigned n = 0;

	if (!delta)
		return;
	for (unsigned i = map_bit_next(delta->present, 0); i < MAP_FANOUT;
	     i = map_bit_next(delta->present, i + 1), n++) {
		if (leaf->page)
			leaf->page->entries[i] = delta->entries[n];
		if (delta->entries[n].address)
			vdisk_slot_live(vdisk, delta->entries[n].address);
	}
	leaf->delta[!map->active] = NULL;
	map_delta_free(map, delta);
	worked(apply, n);
}

/* What lies below this child in the old tree is hidden: from now on by the child itself. */
static void hand_hole_down(struct map *map, struct map_index *node, unsigned child)
{
	struct map_index *index = node->child[child];
	unsigned frozen = !map->active;

	if (!node->child[child])
		return;
	if (node->level == 1) {
		map_leaf_drop_page(map, node->child[child]);
		return;
	}
	memset(index->hole[frozen], 0xFF, sizeof(index->hole[0]));
	memset(index->dirty[frozen], 0xFF, sizeof(index->dirty[0]));
}

/* The node gets its new entries. Its dirty bits go on telling which children are to follow. */
static void renew(struct map *map, struct map_index *node)
{
	unsigned frozen = !map->active;

	for (unsigned i = map_bit_next(node->hole[frozen], 0); i < MAP_FANOUT;
	     i = map_bit_next(node->hole[frozen], i + 1))
		hand_hole_down(map, node, i);
	if (node->fresh) {
		memcpy(node->entries, node->fresh, sizeof(node->entries));
		cache_free(map->cache, node->fresh, sizeof(node->entries));
		node->fresh = NULL;
	} else { /* the fold did not come here: it is hidden whole, and nothing is new in it */
		ASSERT(map_bit_next(node->hole[frozen], 0) == 0);
		memset(node->entries, 0, sizeof(node->entries));
	}
	node->loaded = true;
	memset(node->hole[frozen], 0, sizeof(node->hole[0]));
}

/* Children that nobody needs any more; when others have pinned the map they stay. */
static void release_children(struct map *map, struct map_index *node)
{
	map_unpin(map);
	for (unsigned i = 0; i < MAP_FANOUT; i++) {
		if (!node->child[i])
			continue;
		if (node->level == 1)
			map_leaf_release(map, node->child[i]);
		else
			map_index_release(map, node->child[i]);
	}
	map_pin(map);
}

static void apply_index(struct apply *apply, struct map_index *node)
{
	struct map *map = &apply->vdisk->map;
	uint64_t *dirty = node->dirty[!map->active];

	renew(map, node);
	worked(apply, NODE_WORK);
	for (unsigned i = map_bit_next(dirty, 0); i < MAP_FANOUT; i = map_bit_next(dirty, i + 1)) {
		struct map_index *index = node->child[i];

		if (index && node->level == 1)
			apply_leaf(apply, node->child[i]);
		else if (index && map_bits_any(index->dirty[!map->active]))
			apply_index(apply, index);
		map_bit_clear(dirty, i);
		worked(apply, CHILD_WORK);
	}
	release_children(map, node);
}

void vdisk_fold_apply(struct vdisk *vdisk, const struct fold_result *result)
{
	struct apply apply = {.vdisk = vdisk};
	struct map *map = &vdisk->map;

	map_pin(map);
	for (size_t i = 0; i < result->pages.count; i++) {
		vdisk_slot_live(vdisk, result->pages.items[i]);
		worked(&apply, 1);
	}
	map->root_entry = result->root;
	apply_index(&apply, map->root);
	map->frozen = false;
	map_unpin(map);
}

void vdisk_fold_bury(struct vdisk *vdisk, const struct fold_result *result)
{
	struct apply apply = {.vdisk = vdisk};

	for (size_t i = 0; i < result->dead.count; i++) {
		vdisk_slot_dead(vdisk, result->dead.items[i]);
		worked(&apply, 1);
	}
	for (size_t i = 0; i < result->orphans.count; i++)
		if (orphan_list_add(&vdisk->orphans, &result->orphans.items[i]) < 0)
			vdisk->store->liveness_known = false;
}
