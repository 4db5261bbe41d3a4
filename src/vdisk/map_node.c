/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes, deltas and cached pages of the map: making, growing and freeing them. See map.h. */
#include <errno.h>
#include <string.h>

#include "vdisk/map.h"

unsigned map_bit_next(const uint64_t *bits, unsigned bit)
{
	uint64_t word;

	if (bit >= MAP_FANOUT)
		return MAP_FANOUT;
	word = bits[bit / 64] & (~UINT64_C(0) << (bit % 64));
	for (unsigned i = bit / 64;;) {
		if (word)
			return i * 64 + (unsigned)__builtin_ctzll(word);
		if (++i == MAP_FANOUT / 64)
			return MAP_FANOUT;
		word = bits[i];
	}
}

bool map_bits_any(const uint64_t *bits)
{
	uint64_t any = 0;

	for (unsigned i = 0; i < MAP_FANOUT / 64; i++)
		any |= bits[i];
	return any != 0;
}

static size_t delta_bytes(unsigned capacity)
{
	return sizeof(struct map_delta) + capacity * sizeof(struct map_entry);
}

/* Capacities that fill the slab's pieces. */
static unsigned next_capacity(unsigned capacity)
{
	static const uint16_t capacities[] = {1, 7, 17, 39, 82, 167, MAP_FANOUT};

	for (unsigned i = 0; i < ARRAY_SIZE(capacities); i++)
		if (capacities[i] > capacity)
			return capacities[i];
	return MAP_FANOUT;
}

static unsigned delta_rank(const struct map_delta *delta, unsigned slot)
{
	unsigned rank = 0;

	for (unsigned i = 0; i < slot / 64; i++)
		rank += (unsigned)__builtin_popcountll(delta->present[i]);
	if (slot % 64)
		rank += (unsigned)__builtin_popcountll(delta->present[slot / 64]
						       << (64 - slot % 64));
	return rank;
}

const struct map_entry *map_delta_find(const struct map_delta *delta, unsigned slot)
{
	return map_bit(delta->present, slot) ? &delta->entries[delta_rank(delta, slot)] : NULL;
}

void map_delta_free(struct map *map, struct map_delta *delta)
{
	cache_free(map->cache, delta, delta_bytes(delta->capacity));
}

/* Room for `slot` in the delta, which may move. Returns its entry. */
static struct map_entry *delta_place(struct map *map, struct map_delta **delta, unsigned slot)
{
	struct map_delta *old = *delta;
	unsigned rank, capacity = next_capacity(old ? old->capacity : 0);

	if (!old || (old->count == old->capacity && !map_bit(old->present, slot))) {
		struct map_delta *grown = cache_alloc(map->cache, delta_bytes(capacity));

		ASSERT(grown); /* cache_reserve() came before */
		if (old) {
			memcpy(grown, old, delta_bytes(old->count));
			map_delta_free(map, old);
		} else {
			memset(grown, 0, sizeof(*grown));
		}
		grown->capacity = (uint16_t)capacity;
		*delta = old = grown;
	}
	rank = delta_rank(old, slot);
	if (!map_bit(old->present, slot)) {
		memmove(&old->entries[rank + 1], &old->entries[rank],
			(old->count - rank) * sizeof(struct map_entry));
		map_bit_set(old->present, slot);
		old->count++;
	}
	return &old->entries[rank];
}

void map_delta_put(struct map *map, struct map_delta **delta, unsigned slot, struct map_entry entry)
{
	*delta_place(map, delta, slot) = entry;
}

static void drop_index(struct cache_item *item)
{
	struct map_index *index = CONTAINER_OF(item, struct map_index, item);

	if (index->map->pins > 0) {
		cache_item_add(index->map->cache, item);
		return;
	}
	map_index_release(index->map, index);
}

struct map_index *map_index_new(struct map *map, struct map_index *parent, unsigned slot,
				unsigned level)
{
	struct map_index *index = cache_alloc(map->cache, sizeof(*index));

	if (!index)
		return NULL;
	memset(index, 0, sizeof(*index));
	list_node_init(&index->item.link);
	index->item.drop = drop_index;
	index->map = map;
	index->parent = parent;
	index->slot = (uint16_t)slot;
	index->level = (uint8_t)level;
	/* Where the tree has nothing there is nothing to load. */
	if (parent)
		index->loaded = parent->loaded && parent->entries[slot].address == 0;
	else
		index->loaded = map->root_entry.address == 0;
	if (parent) {
		parent->child[slot] = index;
		parent->child_count++;
		list_remove(&parent->item.link);
	}
	return index;
}

struct map_leaf *map_leaf_new(struct map *map, struct map_index *parent, unsigned slot)
{
	struct map_leaf *leaf = cache_alloc(map->cache, sizeof(*leaf));

	if (!leaf)
		return NULL;
	memset(leaf, 0, sizeof(*leaf));
	leaf->parent = parent;
	leaf->slot = slot;
	parent->child[slot] = leaf;
	parent->child_count++;
	list_remove(&parent->item.link);
	return leaf;
}

static void unlink_child(struct map *map, struct map_index *parent, unsigned slot)
{
	parent->child[slot] = NULL;
	parent->child_count--;
	if (parent->child_count > 0)
		return;
	if (parent->level == 1 && parent->parent)
		cache_item_add(map->cache, &parent->item);
}

void map_leaf_release(struct map *map, struct map_leaf *leaf)
{
	struct map_index *parent = leaf->parent;

	if (map->pins > 0 || leaf->loading || leaf->page || leaf->delta[0] || leaf->delta[1])
		return;
	unlink_child(map, parent, leaf->slot);
	cache_free(map->cache, leaf, sizeof(*leaf));
}

static bool index_is_clean(const struct map_index *index)
{
	return !index->loading && !index->fresh && index->child_count == 0 &&
	       !map_bits_any(index->dirty[0]) && !map_bits_any(index->dirty[1]);
}

void map_index_release(struct map *map, struct map_index *index)
{
	if (map->pins > 0 || !index->parent || !index_is_clean(index))
		return;
	list_remove(&index->item.link);
	unlink_child(map, index->parent, index->slot);
	cache_free(map->cache, index, sizeof(*index));
}

static void drop_page(struct cache_item *item)
{
	struct map_leaf_page *page = CONTAINER_OF(item, struct map_leaf_page, item);
	struct map_leaf *leaf = page->leaf;
	struct map *map = leaf->parent->map;

	map_leaf_drop_page(map, leaf);
	map_leaf_release(map, leaf);
}

int map_leaf_attach_page(struct map *map, struct map_leaf *leaf, const struct map_entry *entries)
{
	struct map_leaf_page *page;

	if (!leaf->page) {
		page = cache_alloc(map->cache, sizeof(*page));
		if (!page)
			return -ENOMEM;
		list_node_init(&page->item.link);
		page->item.drop = drop_page;
		page->leaf = leaf;
		leaf->page = page;
		cache_item_add(map->cache, &page->item);
	}
	memcpy(leaf->page->entries, entries, sizeof(leaf->page->entries));
	return 0;
}

void map_leaf_drop_page(struct map *map, struct map_leaf *leaf)
{
	struct map_leaf_page *page = leaf->page;

	if (!page)
		return;
	leaf->page = NULL;
	list_remove(&page->item.link);
	cache_free(map->cache, page, sizeof(*page));
}
