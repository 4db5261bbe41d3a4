/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The files of a pool that count as used: id to size and state. A hash table with linear probing;
 * its order depends on ids alone. Pointers to entries last until the next insert or remove.
 */
#include <stddef.h>
#include <stdint.h>

enum pool_table_state {
	POOL_TABLE_CLOSED,
	POOL_TABLE_OPEN,
	POOL_TABLE_BUSY,   /* being opened or removed */
	POOL_TABLE_ORPHAN, /* no row names it, but it could not be removed yet */
};

struct pool_quota;

struct pool_table_entry {
	uint64_t id;              /* 0 = the slot is free */
	struct pool_quota *owner; /* or NULL: pool_tier.h */
	uint32_t pages;           /* charged, of 4 KiB */
	uint8_t state;
	uint8_t seen; /* in its directory, while the pool opens */
};

struct pool_table {
	struct pool_table_entry *entries;
	size_t capacity; /* 0 or a power of two */
	size_t count;
};

void pool_table_done(struct pool_table *table);
/* Room for one more entry, so that the next insert cannot fail. -ENOMEM. */
int pool_table_reserve(struct pool_table *table);
/* After pool_table_reserve(); `id` is not 0 and not in the table. */
struct pool_table_entry *pool_table_insert(struct pool_table *table, uint64_t id);
struct pool_table_entry *pool_table_find(const struct pool_table *table, uint64_t id); /* or NULL */
void pool_table_remove(struct pool_table *table, struct pool_table_entry *entry);
