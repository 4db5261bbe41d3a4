/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/macros.h"
#include "pool/pool_table.h"

#define IDS 600

static uint64_t random_state = 1;

static uint64_t random_below(uint64_t bound)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (random_state >> 33) % bound;
}

/* Ids next to each other and far apart, so that probe runs meet. */
static uint64_t id_of(unsigned index)
{
	return index % 2 ? index + 1 : (uint64_t)index * 0x123456789 + 5;
}

static void agrees_with_an_array(void **state)
{
	struct pool_table table = {0};
	uint32_t model[IDS] = {0};
	size_t count = 0;

	(void)state;
	for (int step = 0; step < 100000; step++) {
		unsigned i = (unsigned)random_below(IDS);
		struct pool_table_entry *entry = pool_table_find(&table, id_of(i));

		assert_true((entry != NULL) == (model[i] != 0));
		if (entry) {
			assert_int_equal(entry->pages, model[i]);
			pool_table_remove(&table, entry);
			model[i] = 0;
			count--;
		} else if (random_below(1000) < (step < 50000 ? 900 : 300)) {
			assert_int_equal(pool_table_reserve(&table, id_of(i)), 0);
			entry = pool_table_insert(&table, id_of(i));
			model[i] = entry->pages = (uint32_t)(1 + random_below(1000));
			count++;
		}
		assert_int_equal(table.count, count);
	}
	pool_table_done(&table);
	assert_null(pool_table_find(&table, 1));
}

static void all_are_met_once(void **state)
{
	struct pool_table table = {0};
	struct pool_table_walk walk = {0};
	struct pool_table_entry *entry;
	unsigned met = 0;

	(void)state;
	assert_null(pool_table_next(&table, &walk));
	for (unsigned i = 0; i < IDS; i++) {
		assert_int_equal(pool_table_reserve(&table, id_of(i)), 0);
		pool_table_insert(&table, id_of(i))->seen = 0;
	}
	for (walk = (struct pool_table_walk){0}; (entry = pool_table_next(&table, &walk)); met++)
		assert_int_equal(entry->seen++, 0);
	assert_int_equal(met, IDS);
	/* Also while those that were met are removed. */
	walk = (struct pool_table_walk){0};
	while ((entry = pool_table_next(&table, &walk))) {
		pool_table_remove(&table, entry);
		pool_table_walk_removed(&walk);
	}
	assert_int_equal(table.count, 0);
	pool_table_done(&table);
}

static size_t capacity_of(const struct pool_table *table)
{
	size_t capacity = 0;

	for (unsigned i = 0; i < POOL_TABLE_PARTS; i++)
		capacity += table->parts[i].capacity;
	return capacity;
}

/* No part has far more than its share, and few grow at about the same time. */
static void parts_grow_in_turn(void **state)
{
	struct pool_table table = {0};
	size_t before = 0, most = 0;

	(void)state;
	for (uint64_t id = 1; id <= 64000; id++) {
		assert_int_equal(pool_table_reserve(&table, id), 0);
		pool_table_insert(&table, id);
		if (id % 256 || id < 4096)
			continue;
		if (before)
			most = MAX(most, (capacity_of(&table) - before) * 100 / before);
		before = capacity_of(&table);
	}
	assert_in_range(most, 1, 20); /* percent */
	for (unsigned i = 0; i < POOL_TABLE_PARTS; i++) {
		assert_in_range(table.parts[i].count, 900, 1100);
		assert_true(table.parts[i].count * 4 <= table.parts[i].capacity * 3);
	}
	pool_table_done(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_an_array),
		cmocka_unit_test(all_are_met_once),
		cmocka_unit_test(parts_grow_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
