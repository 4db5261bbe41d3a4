/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"

static void min_and_max(void **state)
{
	int calls = 0;
	uint64_t big = UINT64_MAX;

	(void)state;
	assert_int_equal(MIN(3, 5), 3);
	assert_int_equal(MIN(5, 3), 3);
	assert_int_equal(MAX(3, 5), 5);
	assert_int_equal(MAX(-1, -2), -1);
	assert_int_equal(MIN(MAX(MIN(9, 7), 2), MIN(8, MAX(6, 1))), 6);
	assert_true(MAX(big, UINT64_C(1)) == UINT64_MAX);
	/* Arguments are evaluated once. */
	assert_int_equal(MAX(++calls, 0), 1);
	assert_int_equal(calls, 1);
}

static void rounding(void **state)
{
	(void)state;
	assert_int_equal(DIV_ROUND_UP(0, 4), 0);
	assert_int_equal(DIV_ROUND_UP(1, 4), 1);
	assert_int_equal(DIV_ROUND_UP(4, 4), 1);
	assert_int_equal(ALIGN_UP(UINT64_C(0x100000001), 4096), 0x100001000);
	assert_int_equal(ALIGN_UP(UINT64_C(4096), 4096), 4096);
	assert_int_equal(ALIGN_DOWN(UINT64_C(0x1fffffffff), 4096), 0x1ffffff000);
	assert_true(IS_ALIGNED(8192, 4096));
	assert_false(IS_ALIGNED(8193, 4096));
}

static void take_leaves_null(void **state)
{
	_cleanup_free_ char *kept = malloc(1);
	_cleanup_free_ char *given = kept;

	(void)state;
	assert_non_null(given);
	kept = TAKE_PTR(given);
	assert_null(given);
	assert_non_null(kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(min_and_max),
		cmocka_unit_test(rounding),
		cmocka_unit_test(take_leaves_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
