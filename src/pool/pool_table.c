/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/pool_table.h"

#include <errno.h>
#include <stdlib.h>

#include "base/macros.h"

#define TABLE_CAPACITY_MIN ((size_t)64)

static size_t slot_of(const struct pool_table *table, uint64_t id)
{
	/* Multiplied by 2^64 / golden ratio, so that consecutive ids are spread. */
	return (size_t)((id * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (table->capacity - 1);
}

void pool_table_done(struct pool_table *table)
{
	free(table->entries);
	*table = (struct pool_table){0};
}

static void place(struct pool_table *table, const struct pool_table_entry *entry)
{
	size_t slot = slot_of(table, entry->id);

	while (table->entries[slot].id != 0)
		slot = (slot + 1) & (table->capacity - 1);
	table->entries[slot] = *entry;
	table->count++;
}

int pool_table_reserve(struct pool_table *table)
{
	struct pool_table grown = {.capacity = MAX(table->capacity * 2, TABLE_CAPACITY_MIN)};

	if (table->count < table->capacity / 4 * 3)
		return 0;
	grown.entries = calloc(grown.capacity, sizeof(*grown.entries));
	if (!grown.entries)
		return -ENOMEM;
	for (size_t i = 0; i < table->capacity; i++)
		if (table->entries[i].id != 0)
			place(&grown, &table->entries[i]);
	free(table->entries);
	*table = grown;
	return 0;
}

struct pool_table_entry *pool_table_insert(struct pool_table *table, uint64_t id)
{
	struct pool_table_entry entry = {.id = id};

	ASSERT(id != 0 && table->count < table->capacity);
	ASSERT(!pool_table_find(table, id));
	place(table, &entry);
	return pool_table_find(table, id);
}

struct pool_table_entry *pool_table_find(const struct pool_table *table, uint64_t id)
{
	size_t slot;

	if (table->capacity == 0 || id == 0)
		return NULL;
	slot = slot_of(table, id);
	while (table->entries[slot].id != 0) {
		if (table->entries[slot].id == id)
			return &table->entries[slot];
		slot = (slot + 1) & (table->capacity - 1);
	}
	return NULL;
}

void pool_table_remove(struct pool_table *table, struct pool_table_entry *entry)
{
	size_t mask = table->capacity - 1;
	size_t hole = (size_t)(entry - table->entries);

	/* Later entries of the run move up, unless that would put them before their own slot. */
	for (size_t slot = (hole + 1) & mask; table->entries[slot].id != 0;
	     slot = (slot + 1) & mask) {
		size_t wanted = slot_of(table, table->entries[slot].id);

		if (((slot - wanted) & mask) < ((slot - hole) & mask))
			continue;
		table->entries[hole] = table->entries[slot];
		hole = slot;
	}
	table->entries[hole] = (struct pool_table_entry){0};
	table->count--;
}
