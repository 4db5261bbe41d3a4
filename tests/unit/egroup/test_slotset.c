/* SPDX-License-Identifier: Apache-2.0 */
/* The set of slots against a plain array of flags, in both forms and across the change of form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "egroup/slotset.h"

static bool model[SLOTS_PER_GROUP];
static uint64_t random_state;

static uint32_t random_slot(uint32_t below)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % below;
}

static void compare(const struct slotset *set)
{
	uint32_t rank = 0, next = SLOTS_PER_GROUP;

	for (uint32_t slot = 0; slot < SLOTS_PER_GROUP; slot++) {
		assert_int_equal(slotset_has(set, slot), model[slot]);
		if (slot % 61 == 0 || model[slot])
			assert_int_equal(slotset_rank(set, slot), rank);
		rank += model[slot];
	}
	assert_int_equal(set->count, rank);
	for (uint32_t slot = SLOTS_PER_GROUP; slot-- > 0;) {
		if (model[slot])
			next = slot;
		assert_int_equal(slotset_next(set, slot), next);
	}
	assert_int_equal(slotset_next(set, SLOTS_PER_GROUP), SLOTS_PER_GROUP);
}

static void add(struct slotset *set, uint32_t slot)
{
	assert_int_equal(slotset_add(set, slot), model[slot] ? 0 : 1);
	model[slot] = true;
}

static void drop(struct slotset *set, uint32_t slot)
{
	assert_int_equal(slotset_remove(set, slot), model[slot]);
	model[slot] = false;
}

static void test_grows_and_shrinks(void **state)
{
	struct slotset set;

	(void)state;
	slotset_init(&set);
	for (uint32_t i = 0; i < 4000; i++) {
		add(&set, random_slot(SLOTS_PER_GROUP));
		if (i % 500 == 7)
			compare(&set);
	}
	assert_true(set.is_bitmap);
	for (uint32_t i = 0; i < 200000; i++) {
		drop(&set, random_slot(SLOTS_PER_GROUP));
		if (i % 40000 == 7)
			compare(&set);
	}
	assert_false(set.is_bitmap);
	compare(&set);
	slotset_done(&set);
	assert_int_equal(slotset_memory(&set), 0);
	for (uint32_t slot = 0; slot < SLOTS_PER_GROUP; slot++)
		model[slot] = false;
}

static void test_edges(void **state)
{
	static const uint32_t edges[] = {0, 1, 63, 64, 65, 8191, 8192, 16319, 16320, 16382, 16383};
	struct slotset set;

	(void)state;
	slotset_init(&set);
	compare(&set);
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
		add(&set, edges[i]);
	compare(&set);
	for (uint32_t slot = 0; slot < SLOTS_PER_GROUP; slot++)
		add(&set, slot);
	compare(&set);
	for (uint32_t slot = SLOTS_PER_GROUP; slot-- > 0;)
		drop(&set, slot);
	compare(&set);
	assert_false(slotset_remove(&set, 5));
	slotset_done(&set);
}

/* One member more or less at the limit does not change the form back and forth. */
static void test_form(void **state)
{
	struct slotset set;

	(void)state;
	slotset_init(&set);
	for (uint32_t slot = 0; slot < SLOTSET_ARRAY_MAX; slot++)
		add(&set, slot * 3);
	assert_false(set.is_bitmap);
	add(&set, 1);
	assert_true(set.is_bitmap);
	drop(&set, 1);
	assert_true(set.is_bitmap);
	compare(&set);
	for (uint32_t slot = 0; slot < SLOTSET_ARRAY_MAX / 2; slot++)
		drop(&set, slot * 3);
	assert_false(set.is_bitmap);
	compare(&set);
	for (uint32_t slot = 0; slot < SLOTSET_ARRAY_MAX; slot++)
		add(&set, slot * 5);
	compare(&set);
	slotset_done(&set);
	for (uint32_t slot = 0; slot < SLOTS_PER_GROUP; slot++)
		model[slot] = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows_and_shrinks),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
