/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/pool_table.h"

#include <errno.h>
#include <stdlib.h>

#include "base/macros.h"

#define PART_CAPACITY_MIN 8u

/* Multiplied by 2^64 / golden ratio, so that consecutive ids are spread: the part from the highest
 * bits, the slot from others. */
static uint64_t hash_of(uint64_t id)
{
	return id * UINT64_C(0x9E3779B97F4A7C15);
}

static struct pool_table_part *part_of(const struct pool_table *table, uint64_t id)
{
	return (struct pool_table_part *)&table->parts[hash_of(id) >> 58];
}
_Static_assert(POOL_TABLE_PARTS == 1u << (64 - 58), "as many as part_of() tells apart");

static uint32_t slot_of(const struct pool_table_part *part, uint64_t id)
{
	return (uint32_t)(hash_of(id) >> 24) & (part->capacity - 1);
}

void pool_table_done(struct pool_table *table)
{
	for (unsigned i = 0; i < POOL_TABLE_PARTS; i++)
		free(table->parts[i].entries);
	*table = (struct pool_table){0};
}

static void place(struct pool_table_part *part, const struct pool_table_entry *entry)
{
	uint32_t slot = slot_of(part, entry->id);

	while (part->entries[slot].id != 0)
		slot = (slot + 1) & (part->capacity - 1);
	part->entries[slot] = *entry;
	part->count++;
}

/* How full a part becomes before it grows: from three eighths of its slots for the first to nearly
 * three quarters for the last. All have about as many entries; so they grow one after the other. */
static uint32_t room_of(const struct pool_table_part *part, unsigned number)
{
	uint64_t eighths = (uint64_t)part->capacity * 3 / 8;

	return (uint32_t)(eighths + eighths * number / POOL_TABLE_PARTS);
}

int pool_table_reserve(struct pool_table *table, uint64_t id)
{
	struct pool_table_part *part = part_of(table, id);
	struct pool_table_part grown = {.capacity = MAX(part->capacity * 2, PART_CAPACITY_MIN)};

	if (part->count < room_of(part, (unsigned)(part - table->parts)))
		return 0;
	grown.entries = calloc(grown.capacity, sizeof(*grown.entries));
	if (!grown.entries)
		return -ENOMEM;
	for (uint32_t i = 0; i < part->capacity; i++)
		if (part->entries[i].id != 0)
			place(&grown, &part->entries[i]);
	free(part->entries);
	*part = grown;
	return 0;
}

struct pool_table_entry *pool_table_insert(struct pool_table *table, uint64_t id)
{
	struct pool_table_part *part = part_of(table, id);
	struct pool_table_entry entry = {.id = id};

	ASSERT(id != 0 && part->count < part->capacity);
	ASSERT(!pool_table_find(table, id));
	place(part, &entry);
	table->count++;
	return pool_table_find(table, id);
}

struct pool_table_entry *pool_table_find(const struct pool_table *table, uint64_t id)
{
	const struct pool_table_part *part = part_of(table, id);
	uint32_t slot;

	if (part->capacity == 0 || id == 0)
		return NULL;
	slot = slot_of(part, id);
	while (part->entries[slot].id != 0) {
		if (part->entries[slot].id == id)
			return &part->entries[slot];
		slot = (slot + 1) & (part->capacity - 1);
	}
	return NULL;
}

void pool_table_remove(struct pool_table *table, struct pool_table_entry *entry)
{
	struct pool_table_part *part = part_of(table, entry->id);
	uint32_t mask = part->capacity - 1;
	uint32_t hole = (uint32_t)(entry - part->entries);

	/* Later entries of the run move up, unless that would put them before their own slot. */
	for (uint32_t slot = (hole + 1) & mask; part->entries[slot].id != 0;
	     slot = (slot + 1) & mask) {
		uint32_t wanted = slot_of(part, part->entries[slot].id);

		if (((slot - wanted) & mask) < ((slot - hole) & mask))
			continue;
		part->entries[hole] = part->entries[slot];
		hole = slot;
	}
	part->entries[hole] = (struct pool_table_entry){0};
	part->count--;
	table->count--;
}

struct pool_table_entry *pool_table_next(const struct pool_table *table,
					 struct pool_table_walk *walk)
{
	for (; walk->part < POOL_TABLE_PARTS; walk->part++, walk->slot = 0) {
		const struct pool_table_part *part = &table->parts[walk->part];

		while (walk->slot < part->capacity) {
			struct pool_table_entry *entry = &part->entries[walk->slot++];

			if (entry->id != 0)
				return entry;
		}
	}
	return NULL;
}

void pool_table_walk_removed(struct pool_table_walk *walk)
{
	ASSERT(walk->slot > 0);
	walk->slot--;
}
