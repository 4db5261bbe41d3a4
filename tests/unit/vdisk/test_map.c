/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map in memory against a plain array: entries, zeroed ranges and whole subtrees, in both
 * layers and above a committed tree whose pages are all in the cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "vdisk/map.h"

#define NODES  3u /* of level 1 */
#define BLOCKS (NODES * MAP_FANOUT * MAP_FANOUT)
#define ROUNDS 12u
#define STEPS  400u

static uint64_t model[BLOCKS]; /* addresses; 0: zeros */
static uint64_t random_state;
static struct vdisk_cache *cache;
static struct map map;

static uint64_t random_below(uint64_t limit)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (random_state >> 32) % limit;
}

static uint32_t crc_of(uint64_t address)
{
	return (uint32_t)(address * 2654435761u >> 7);
}

static void check_block(uint64_t block)
{
	struct map_entry entry;

	assert_int_equal(map_lookup(&map, block, &entry), 0);
	if (entry.address != model[block])
		fail_msg("block %d: %#llx, not %#llx", (int)block,
			 (unsigned long long)entry.address, (unsigned long long)model[block]);
	if (entry.address)
		assert_int_equal(entry.crc, crc_of(entry.address));
}

static void check_run(uint64_t block)
{
	uint64_t limit = MIN(random_below(5000) + 1, BLOCKS - block);
	uint64_t run = map_absent_run(&map, block, limit);

	assert_true(run <= limit);
	assert_true(run > 0 || model[block] != 0);
	for (uint64_t i = 0; i < run; i++)
		assert_int_equal(model[block + i], 0);
}

static void check_all(void)
{
	for (uint64_t block = 0; block < BLOCKS; block++)
		check_block(block);
	for (unsigned i = 0; i < 500; i++)
		check_run(random_below(BLOCKS));
}

static void set(uint64_t block, uint32_t count, uint64_t address)
{
	uint32_t crcs[64];

	for (uint32_t i = 0; i < count; i++) {
		model[block + i] = address + ((uint64_t)i << 40);
		crcs[i] = htole32(crc_of(model[block + i]));
	}
	assert_true(cache_reserve(cache));
	map_set(&map, block, count, address, crcs);
}

static void zero(uint64_t block, uint64_t count)
{
	memset(&model[block], 0, count * sizeof(model[0]));
	assert_true(cache_reserve(cache));
	map_zero(&map, block, count);
}

static void random_set(void)
{
	uint32_t count = (uint32_t)random_below(64) + 1;

	set(random_below(BLOCKS - count), count,
	    address_make(random_below(1000) + 1, (uint32_t)random_below(16000)));
}

/* Ranges that end at, before and behind the edges of leaves and nodes, and any others. */
static void random_zero(void)
{
	static const uint64_t units[] = {1, MAP_FANOUT, (uint64_t)MAP_FANOUT * MAP_FANOUT};
	uint64_t unit = units[random_below(3)];
	uint64_t first = random_below(BLOCKS / unit) * unit;
	uint64_t count = MIN((random_below(4) + 1) * unit, BLOCKS - first);

	if (random_below(3) == 0 && count > 1)
		count--;
	if (random_below(3) == 0 && count > 1) {
		first++;
		count--;
	}
	zero(first, count);
}

static void random_steps(unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		if (random_below(4) == 0)
			random_zero();
		else
			random_set();
		check_block(random_below(BLOCKS));
	}
}

/* A leaf of the committed tree, in the cache. */
static void load_leaf(struct map_index *node, unsigned slot, uint64_t first)
{
	struct map_entry entries[MAP_FANOUT] = {0};

	for (unsigned i = 0; i < MAP_FANOUT; i++) {
		if (random_below(3) == 0)
			continue;
		entries[i].address = address_make(2000 + random_below(100), i);
		entries[i].crc = crc_of(entries[i].address);
		model[first + i] = entries[i].address;
	}
	node->entries[slot].address = address_make(5000, slot);
	assert_non_null(map_leaf_new(&map, node, slot));
	assert_int_equal(map_leaf_attach_page(&map, node->child[slot], entries), 0);
}

static void load_tree(void)
{
	map.root->loaded = true;
	for (unsigned i = 0; i < NODES; i++) {
		struct map_index *node;

		map.root->entries[i].address = address_make(6000, i);
		assert_true(cache_reserve(cache));
		node = map_index_new(&map, map.root, i, 1);
		assert_non_null(node);
		assert_false(node->loaded);
		node->loaded = true;
		for (unsigned slot = 0; slot < MAP_FANOUT; slot++)
			if (random_below(4) == 0)
				load_leaf(node, slot, (i * MAP_FANOUT + slot) * MAP_FANOUT);
	}
}

static void start(bool tree)
{
	struct map_entry root = {.address = tree ? address_make(7000, 1) : 0};

	memset(model, 0, sizeof(model));
	assert_int_equal(vdisk_cache_new(NULL, 64 * MIB, &cache), 0);
	assert_int_equal(map_init(&map, cache, 1, &root, map_level_for(BLOCKS)), 0);
	if (tree)
		load_tree();
}

/* Everything that was taken from the cache comes back: vdisk_cache_free() looks. */
static void finish(void)
{
	map_done(&map);
	vdisk_cache_free(cache);
}

static void test_against_array(void **state)
{
	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		random_state = round + 1;
		start(round % 2);
		random_steps(round == 0 ? 0 : STEPS);
		check_all();
		assert_int_equal(map_is_dirty(&map), round > 0);
		assert_int_equal(map_freeze(&map, false), round > 0);
		check_all();
		random_steps(STEPS);
		check_all();
		assert_true(map_is_dirty(&map));
		/* A frozen layer stays until it is folded. */
		assert_true(map_freeze(&map, false));
		check_all();
		finish();
	}
}

static void test_levels(void **state)
{
	static const struct {
		uint64_t blocks;
		unsigned level;
	} cases[] = {
		{1, 1},
		{UINT64_C(1) << 16, 1},
		{(UINT64_C(1) << 16) + 1, 2},
		{UINT64_C(1) << 24, 2},
		{(UINT64_C(1) << 24) + 1, 3},
		{UINT64_C(1) << 32, 3},
		{(UINT64_C(1) << 32) + 1, 4},
		{UINT64_C(1) << 34, 4},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(map_level_for(cases[i].blocks), cases[i].level);
}

static void test_grows(void **state)
{
	struct map_entry entry;

	(void)state;
	random_state = 99;
	start(true);
	random_steps(STEPS);
	assert_int_equal(map_grow(&map, (UINT64_C(1) << 32) + 1), 0);
	assert_int_equal(map_root_level(&map), 4);
	check_all();
	assert_int_equal(map_lookup(&map, UINT64_C(1) << 33, &entry), 0);
	assert_int_equal(entry.address, 0);
	/* What lies far away and what lay there before do not disturb each other. */
	assert_true(cache_reserve(cache));
	map_set(&map, UINT64_C(1) << 33, 1, address_make(1, 1), &(uint32_t){0});
	assert_int_equal(map_lookup(&map, UINT64_C(1) << 33, &entry), 0);
	assert_int_equal(address_group(entry.address), 1);
	check_all();
	assert_true(map_freeze(&map, false));
	random_steps(STEPS);
	check_all();
	zero(0, BLOCKS);
	map_zero(&map, 0, UINT64_MAX / 2);
	check_all();
	assert_int_equal(map_lookup(&map, UINT64_C(1) << 33, &entry), 0);
	assert_int_equal(entry.address, 0);
	finish();
}

/* What is not in memory is asked for, but not where a hole hides it. */
static void test_not_loaded(void **state)
{
	struct map_entry entry, root = {.address = address_make(7000, 1)};

	(void)state;
	assert_int_equal(vdisk_cache_new(NULL, 64 * MIB, &cache), 0);
	assert_int_equal(map_init(&map, cache, 1, &root, 2), 0);
	assert_int_equal(map_lookup(&map, 5, &entry), -EAGAIN);
	assert_int_equal(map_absent_run(&map, 5, 10), 0);
	assert_true(cache_reserve(cache));
	map_zero(&map, 0, (uint64_t)MAP_FANOUT * MAP_FANOUT);
	assert_int_equal(map_lookup(&map, 5, &entry), 0);
	assert_int_equal(entry.address, 0);
	assert_int_equal(map_absent_run(&map, 5, 10), 10);
	assert_int_equal(map_lookup(&map, MAP_FANOUT * MAP_FANOUT, &entry), -EAGAIN);
	/* One leaf of another node: its neighbours are still unknown. */
	map_zero(&map, 2 * MAP_FANOUT * MAP_FANOUT, MAP_FANOUT);
	assert_int_equal(map_lookup(&map, 2 * MAP_FANOUT * MAP_FANOUT + 255, &entry), 0);
	assert_int_equal(map_lookup(&map, 2 * MAP_FANOUT * MAP_FANOUT + 256, &entry), -EAGAIN);
	/* Beyond the tree everything reads as zeros. */
	assert_int_equal(map_lookup(&map, UINT64_C(1) << 24, &entry), 0);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_array),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_not_loaded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
