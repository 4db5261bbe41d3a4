/* SPDX-License-Identifier: Apache-2.0 */
#include "egroup/stripe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"

static void note(struct egroup_stripe *stripe, uint64_t first, uint64_t second)
{
	const struct pool_copies copies = {.count = second ? 2 : 1, .disks = {first, second}};

	egroup_stripe_note(stripe, &copies);
}

static void remembers_the_newest_first(void **unused)
{
	struct egroup_stripe stripe = {0};

	(void)unused;
	note(&stripe, 1, 2);
	note(&stripe, 3, 0);
	note(&stripe, 2, 4);
	assert_int_equal(stripe.count, 4);
	assert_int_equal(stripe.disks[0], 2);
	assert_int_equal(stripe.disks[1], 4);
	assert_int_equal(stripe.disks[2], 3);
	assert_int_equal(stripe.disks[3], 1);
}

static void forgets_the_oldest(void **unused)
{
	struct egroup_stripe stripe = {0};

	(void)unused;
	for (uint64_t disk = 1; disk <= POLICY_WIDTH_MAX + 5; disk++)
		note(&stripe, disk, 0);
	assert_int_equal(stripe.count, POLICY_WIDTH_MAX);
	assert_int_equal(stripe.disks[0], POLICY_WIDTH_MAX + 5);
	assert_int_equal(stripe.disks[POLICY_WIDTH_MAX - 1], 6);
	note(&stripe, 6, 0);
	assert_int_equal(stripe.count, POLICY_WIDTH_MAX);
	assert_int_equal(stripe.disks[0], 6);
	assert_int_equal(stripe.disks[POLICY_WIDTH_MAX - 1], 7);
}

/* The width counts the copies of the file that is to come. */
static void wants_as_many_as_the_width_says(void **unused)
{
	struct egroup_stripe stripe = {0};
	struct pool_want want = {.copies = 1};

	(void)unused;
	egroup_stripe_want(&stripe, 4, &want);
	assert_int_equal(want.recent_count, 0);
	for (uint64_t disk = 1; disk <= 10; disk++)
		note(&stripe, disk, 0);
	egroup_stripe_want(&stripe, 1, &want);
	assert_int_equal(want.recent_count, 0);
	egroup_stripe_want(&stripe, 4, &want);
	assert_int_equal(want.recent_count, 3);
	assert_int_equal(want.recent[0], 10);
	want.copies = 3;
	egroup_stripe_want(&stripe, 4, &want);
	assert_int_equal(want.recent_count, 1);
	egroup_stripe_want(&stripe, 2, &want);
	assert_int_equal(want.recent_count, 0);
	egroup_stripe_want(&stripe, POLICY_WIDTH_MAX, &want);
	assert_int_equal(want.recent_count, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers_the_newest_first),
		cmocka_unit_test(forgets_the_oldest),
		cmocka_unit_test(wants_as_many_as_the_width_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
