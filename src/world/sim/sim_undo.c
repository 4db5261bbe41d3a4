/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which changes of a file are durable, and what a loss of power leaves of the others.
 *
 * A change is one write or resize, numbered in the order of taking effect. Its data survive
 * sector by sector, in any combination with those of other changes. Sizes behave like a
 * journal: those that survive are the first few of the changes that set one, and a truncation
 * takes its cut pages with it.
 *
 * Both a sync and a loss walk the undo list from the newest entry to the oldest. `settled`
 * sectors of a page are those whose content is decided by a newer change: older entries no
 * longer matter there.
 */
#include "world/sim/sim_node.h"

#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/reached.h"
#include "world/sim/sim_priv.h"

/* Above this a file's oldest changes are written back, as a kernel would do. */
#define UNDO_MAX 65536

static void *grow(void *array, size_t count, size_t *room, size_t item_bytes)
{
	if (count < *room)
		return array;
	*room = *room ? *room * 2 : 8;
	array = realloc(array, *room * item_bytes);
	ASSERT(array);
	return array;
}

uint64_t sim_undo_begin(struct sim_node *node)
{
	if (UNLIKELY(node->undo_count > UNDO_MAX)) {
		REACHED("sim.write-back");
		sim_undo_sync(node, SIM_CHANGE_PENDING);
	}
	node->changes = grow(node->changes, node->change_count, &node->change_room,
			     sizeof(*node->changes));
	node->changes[node->change_count++] = (struct sim_change){.completed = SIM_CHANGE_PENDING};
	return node->change_base + node->change_count - 1;
}

/* NULL when it is durable and forgotten. */
static struct sim_change *change_get(const struct sim_node *node, uint64_t change)
{
	return change < node->change_base ? NULL : &node->changes[change - node->change_base];
}

void sim_undo_add(struct sim_node *node, const struct sim_undo *entry)
{
	node->undo = grow(node->undo, node->undo_count, &node->undo_room, sizeof(*node->undo));
	node->undo[node->undo_count++] = *entry;
}

void sim_undo_resized(struct sim_node *node, uint64_t change, uint64_t size_bytes)
{
	struct sim_change *c = change_get(node, change);

	c->resizes = true;
	c->size_after = size_bytes;
	node->size_bytes = size_bytes;
}

void sim_undo_completed(struct sim_node *node, uint64_t change, uint64_t stamp)
{
	struct sim_change *c = change == SIM_NO_CHANGE ? NULL : change_get(node, change);

	if (c && c->completed == SIM_CHANGE_PENDING)
		c->completed = stamp;
}

bool sim_undo_is_clean(const struct sim_node *node)
{
	return node->change_count == 0;
}

static struct sim_pool *pool_of(const struct sim_node *node)
{
	return &node->disk->sim->pool;
}

static uint8_t *settled_of(const struct sim_node *node, const struct sim_undo *entry)
{
	static uint8_t none;
	struct sim_chunk *chunk = sim_node_chunk(node, entry->page);

	/* Every page in the list was written once, so its chunk is there. */
	ASSERT(chunk);
	none = 0;
	return chunk ? &chunk->settled[entry->page % SIM_CHUNK_PAGES] : &none;
}

/* The sizes up to the last change that `mark` covers become durable with it. */
static void sync_sizes(struct sim_node *node, uint64_t mark)
{
	size_t end = node->change_count;

	while (end > 0 && node->changes[end - 1].completed >= mark)
		end--;
	for (size_t i = 0; i < end; i++) {
		struct sim_change *c = &node->changes[i];

		if (!c->resizes)
			continue;
		node->durable_size_bytes = c->size_after;
		c->resizes = false;
	}
}

/* Cut pages belong to the size of their change: durable when that is. */
static bool entry_is_durable(const struct sim_node *node, const struct sim_undo *entry,
			     uint64_t mark)
{
	const struct sim_change *c;

	if (entry->orphan)
		return false;
	c = change_get(node, entry->change);
	return !c || c->completed < mark || (entry->cut && !c->resizes);
}

static void forget_changes(struct sim_node *node, uint64_t mark)
{
	size_t done = 0;

	while (done < node->change_count && node->changes[done].completed < mark)
		done++;
	if (done == 0)
		return;
	node->change_base += done;
	node->change_count -= done;
	memmove(node->changes, node->changes + done, node->change_count * sizeof(*node->changes));
}

static void clear_settled(const struct sim_node *node)
{
	for (size_t i = 0; i < node->undo_count; i++)
		*settled_of(node, &node->undo[i]) = 0;
}

/* Takes the entries whose sectors became 0 out of the list. */
static void compact(struct sim_node *node)
{
	size_t kept = 0;

	for (size_t i = 0; i < node->undo_count; i++) {
		struct sim_undo *entry = &node->undo[i];

		if (entry->sectors)
			node->undo[kept++] = *entry;
		else
			sim_pool_give(pool_of(node), entry->old);
	}
	node->undo_count = kept;
}

void sim_undo_sync(struct sim_node *node, uint64_t mark)
{
	sync_sizes(node, mark);
	for (size_t i = node->undo_count; i-- > 0;) {
		struct sim_undo *entry = &node->undo[i];
		uint8_t *settled = settled_of(node, entry);

		if (entry_is_durable(node, entry, mark)) {
			*settled |= entry->sectors;
			entry->sectors = 0;
		} else {
			entry->sectors &= (uint8_t)~*settled;
		}
	}
	clear_settled(node);
	compact(node);
	forget_changes(node, mark);
}

void sim_undo_orphan(struct sim_node *node, uint64_t mark)
{
	for (size_t i = 0; i < node->undo_count; i++) {
		struct sim_undo *entry = &node->undo[i];

		if (!entry->cut && entry_is_durable(node, entry, mark))
			entry->orphan = true;
	}
}

enum fate { FATE_LOST, FATE_KEPT, FATE_SECTORS, FATE_CHANGES, FATE_PREFIX, FATE_COUNT };

struct loss { /* what a loss of power does to one file */
	enum fate fate;
	uint64_t salt;       /* FATE_CHANGES: decides for each change */
	uint64_t first_lost; /* change, FATE_PREFIX */
	struct sim_rng *rng;
};

/* The sectors of an entry that survive. */
static uint8_t surviving(const struct loss *loss, const struct sim_undo *entry)
{
	if (entry->orphan)
		return sim_random_coin(loss->rng) ? 0xff : 0;
	switch (loss->fate) {
	case FATE_LOST:
		return 0;
	case FATE_KEPT:
		return 0xff;
	case FATE_CHANGES:
		return ((entry->change * UINT64_C(0x9e3779b97f4a7c15)) ^ loss->salt) >> 63 ? 0xff
											   : 0;
	case FATE_PREFIX:
		return entry->change < loss->first_lost ? 0xff : 0;
	default:
		return (uint8_t)sim_random_next(loss->rng);
	}
}

/* Decides which size survives and marks the changes whose size does not. */
static void lose_sizes(struct sim_node *node, const struct loss *loss)
{
	size_t first_lost = sim_random_upto(loss->rng, node->change_count + 1);

	if (loss->fate == FATE_LOST)
		first_lost = 0;
	else if (loss->fate == FATE_KEPT)
		first_lost = node->change_count;
	else if (loss->fate == FATE_PREFIX)
		first_lost = loss->first_lost - node->change_base;
	for (size_t i = 0; i < node->change_count; i++) {
		node->changes[i].lost = i >= first_lost;
		if (node->changes[i].resizes && !node->changes[i].lost)
			node->durable_size_bytes = node->changes[i].size_after;
	}
}

/* Puts the old content of `sectors` back. The entry keeps a page to be given back, or NULL. */
static void restore(struct sim_node *node, struct sim_undo *entry, uint8_t sectors)
{
	struct sim_chunk *chunk = sim_node_chunk(node, entry->page);
	uint8_t *page = chunk->pages[entry->page % SIM_CHUNK_PAGES];

	if (sectors == 0xff) {
		sim_node_set_page(node, entry->page, entry->old);
		entry->old = page;
		return;
	}
	if (!page) {
		page = sim_pool_take(pool_of(node));
		memset(page, 0, SIM_PAGE_BYTES);
	}
	for (unsigned s = 0; s < 8; s++) {
		uint8_t *to = page + s * SIM_SECTOR_BYTES;

		if (!(sectors >> s & 1))
			continue;
		if (entry->old)
			memcpy(to, entry->old + s * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES);
		else
			memset(to, 0, SIM_SECTOR_BYTES);
	}
	sim_node_set_page(node, entry->page, page);
}

static void lose_entry(struct sim_node *node, struct sim_undo *entry, const struct loss *loss)
{
	const struct sim_change *c = change_get(node, entry->change);
	uint8_t *settled = settled_of(node, entry);
	uint8_t keep, open = entry->sectors & (uint8_t)~*settled;

	if (entry->cut)
		keep = c && c->resizes && c->lost ? 0 : 0xff;
	else
		keep = surviving(loss, entry);
	if (open & ~keep)
		restore(node, entry, open & (uint8_t)~keep);
	*settled |= open & keep;
}

void sim_undo_power_loss(struct sim_node *node, struct sim_rng *rng)
{
	struct loss loss = {.rng = rng};

	if (node->change_count == 0 && node->undo_count == 0)
		return;
	loss.fate = (enum fate)sim_random_upto(rng, FATE_COUNT);
	loss.salt = sim_random_next(rng);
	loss.first_lost = node->change_base + sim_random_upto(rng, node->change_count + 1);
	lose_sizes(node, &loss);
	for (size_t i = node->undo_count; i-- > 0;)
		lose_entry(node, &node->undo[i], &loss);
	clear_settled(node);
	sim_undo_done(node);
	sim_node_cut(node, node->durable_size_bytes);
}

void sim_undo_done(struct sim_node *node)
{
	for (size_t i = 0; i < node->undo_count; i++)
		sim_pool_give(pool_of(node), node->undo[i].old);
	free(node->undo);
	node->undo = NULL;
	node->undo_count = node->undo_room = 0;
	free(node->changes);
	node->changes = NULL;
	node->change_base += node->change_count;
	node->change_count = node->change_room = 0;
}
