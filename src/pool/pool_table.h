/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The files of a pool that count as used: id to size and state. A hash table with linear probing,
 * in parts that grow each for itself, so that no insert moves all; its order depends on ids alone.
 * Pointers to entries last until the next insert or remove.
 */
#include <stddef.h>
#include <stdint.h>

#define POOL_TABLE_PARTS 64u

enum pool_table_state {
	POOL_TABLE_CLOSED,
	POOL_TABLE_OPEN,
	POOL_TABLE_BUSY,   /* being opened or removed */
	POOL_TABLE_ORPHAN, /* no row names it, but it could not be removed yet */
	POOL_TABLE_KEPT,   /* it may be of a row that is damaged: stays as it is (pool_damage.h) */
};

struct pool_quota;

struct pool_table_entry {
	uint64_t id;              /* 0 = the slot is free */
	struct pool_quota *owner; /* or NULL: pool_tier.h */
	uint32_t pages;           /* charged, of 4 KiB */
	uint8_t state;
	uint8_t seen; /* in its directory, while the pool opens */
};

struct pool_table_part {
	struct pool_table_entry *entries;
	uint32_t capacity; /* 0 or a power of two */
	uint32_t count;
};

struct pool_table {
	struct pool_table_part parts[POOL_TABLE_PARTS];
	size_t count;
};

void pool_table_done(struct pool_table *table);
/* Room for this entry, so that its insert cannot fail. -ENOMEM. */
int pool_table_reserve(struct pool_table *table, uint64_t id);
/* After pool_table_reserve(); `id` is not 0 and not in the table. */
struct pool_table_entry *pool_table_insert(struct pool_table *table, uint64_t id);
struct pool_table_entry *pool_table_find(const struct pool_table *table, uint64_t id); /* or NULL */
void pool_table_remove(struct pool_table *table, struct pool_table_entry *entry);

/* Going through all entries while nothing is inserted. */
struct pool_table_walk {
	unsigned part;
	uint32_t slot; /* in there, the next to look at */
};
/* From all zeros on; NULL: that was all. */
struct pool_table_entry *pool_table_next(const struct pool_table *table,
					 struct pool_table_walk *walk);
/* The entry that was met last was removed: another may have moved into its slot. */
void pool_table_walk_removed(struct pool_table_walk *walk);
