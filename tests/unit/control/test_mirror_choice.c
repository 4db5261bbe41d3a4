/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"
#include "control/mirror_choice.h"

#define MOST  16
#define COUNT 40

static struct mirror_candidate candidates[COUNT];

static void make(size_t pools, unsigned tiers)
{
	for (size_t i = 0; i < COUNT; i++)
		candidates[i] = (struct mirror_candidate){.pool = 1 + i % pools,
							  .tier = (unsigned)(i / pools) % tiers,
							  .rank = MIRROR_RANK_USABLE};
}

static size_t choose(void)
{
	size_t chosen = 0;

	mirror_choose(candidates, COUNT, MOST);
	for (size_t i = 0; i < COUNT; i++)
		chosen += candidates[i].chosen;
	return chosen;
}

static size_t of(uint64_t pool, int tier)
{
	size_t chosen = 0;

	for (size_t i = 0; i < COUNT; i++)
		chosen += candidates[i].chosen && candidates[i].pool == pool &&
			  (tier < 0 || candidates[i].tier == (unsigned)tier);
	return chosen;
}

static void keep(void)
{
	for (size_t i = 0; i < COUNT; i++)
		candidates[i].has_one = candidates[i].chosen;
}

static void spreads_over_pools_and_tiers(void **state)
{
	make(3, 2);
	assert_int_equal(choose(), MOST);
	for (uint64_t pool = 1; pool <= 3; pool++) {
		assert_in_range(of(pool, -1), 5, 6);
		assert_in_range(of(pool, 0), 2, 3);
		assert_in_range(of(pool, 1), 2, 3);
	}
	/* A pool of one disk has its mirror, however many the other has. */
	make(1, 1);
	candidates[COUNT - 1].pool = 2;
	candidates[COUNT - 2].tier = 3;
	assert_int_equal(choose(), MOST);
	assert_true(candidates[COUNT - 1].chosen && candidates[COUNT - 2].chosen);
}

static void does_not_move_without_need(void **state)
{
	struct mirror_candidate before[COUNT];

	make(1, 1);
	for (size_t i = 0; i < COUNT; i++)
		candidates[i].has_one = i >= COUNT - MOST;
	assert_int_equal(choose(), MOST);
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(candidates[i].chosen, candidates[i].has_one);
	make(3, 2);
	choose();
	keep();
	for (size_t i = 0; i < COUNT; i++)
		before[i] = candidates[i];
	choose();
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(candidates[i].chosen, before[i].chosen);
}

static void moves_from_what_is_lost_or_leaves(void **state)
{
	size_t moved = 0;

	make(1, 1);
	choose();
	keep();
	candidates[3].rank = MIRROR_RANK_LOST;
	candidates[5].rank = MIRROR_RANK_LEAVING;
	assert_int_equal(choose(), MOST);
	assert_true(!candidates[3].chosen && !candidates[5].chosen);
	for (size_t i = 0; i < COUNT; i++)
		moved += candidates[i].chosen && !candidates[i].has_one;
	assert_int_equal(moved, 2);
	/* One that leaves is better than one that is lost, and that is better than none. */
	for (size_t i = 0; i < COUNT; i++)
		candidates[i].rank = i < 30 ? MIRROR_RANK_LOST : MIRROR_RANK_LEAVING;
	assert_int_equal(choose(), MOST);
	for (size_t i = 30; i < COUNT; i++)
		assert_true(candidates[i].chosen);
}

static void keeps_what_must_be_kept(void **state)
{
	make(2, 1);
	candidates[COUNT - 1].rank = MIRROR_RANK_FIXED;
	assert_int_equal(choose(), MOST);
	assert_true(candidates[COUNT - 1].chosen);
	mirror_choose(candidates, 0, MOST);
	mirror_choose(candidates, 2, MOST);
	assert_true(candidates[0].chosen && candidates[1].chosen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spreads_over_pools_and_tiers),
		cmocka_unit_test(does_not_move_without_need),
		cmocka_unit_test(moves_from_what_is_lost_or_leaves),
		cmocka_unit_test(keeps_what_must_be_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
