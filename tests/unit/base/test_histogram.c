/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/histogram.h"
#include "base/macros.h"

static void empty_is_zero(void **state)
{
	struct histogram h;

	(void)state;
	histogram_init(&h);
	assert_int_equal(histogram_count(&h), 0);
	assert_int_equal(histogram_percentile_ns(&h, 50), 0);
	assert_int_equal(histogram_count_below(&h, UINT64_MAX), 0);
}

static void small_values_are_exact(void **state)
{
	struct histogram h;

	(void)state;
	histogram_init(&h);
	for (uint64_t ns = 0; ns < 16; ns++)
		histogram_record(&h, ns);
	assert_int_equal(histogram_count(&h), 16);
	assert_int_equal(histogram_sum_ns(&h), 120);
	assert_int_equal(histogram_percentile_ns(&h, 0), 0);
	assert_int_equal(histogram_percentile_ns(&h, 50), 7);
	assert_int_equal(histogram_percentile_ns(&h, 100), 15);
	for (uint64_t ns = 0; ns < 16; ns++)
		assert_int_equal(histogram_count_below(&h, ns), ns);
}

static void error_is_bounded(void **state)
{
	(void)state;
	for (uint64_t value = 1; value < UINT64_C(1) << 40; value += value / 37 + 1) {
		struct histogram h;
		uint64_t given, error;

		histogram_init(&h);
		histogram_record(&h, 0);
		histogram_record(&h, value);
		histogram_record(&h, UINT64_MAX);
		given = histogram_percentile_ns(&h, 66);
		error = given > value ? given - value : value - given;
		assert_true((double)error <= 0.0626 * (double)value);
	}
}

static uint64_t next(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void percentiles_follow_the_sorted_values(void **state)
{
	static uint64_t values[5000];
	const double percents[] = {0.1, 1, 10, 50, 90, 99, 99.9, 100};
	struct histogram h;
	uint64_t seed = 7;

	(void)state;
	histogram_init(&h);
	for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
		values[i] = next(&seed) >> next(&seed) % 24;
		histogram_record(&h, values[i]);
	}
	qsort(values, ARRAY_SIZE(values), sizeof(values[0]), compare);
	for (unsigned i = 0; i < ARRAY_SIZE(percents); i++) {
		double rank = percents[i] * ARRAY_SIZE(values) / 100;
		double exact = (double)values[(unsigned)(rank + 0.999999) - 1];
		double given = (double)histogram_percentile_ns(&h, percents[i]);

		assert_true(given >= 0.93 * exact && given <= 1.07 * exact);
	}
}

static void merge_is_recording_both(void **state)
{
	struct histogram a, b, both;
	uint64_t seed = 3;

	(void)state;
	histogram_init(&a);
	histogram_init(&b);
	histogram_init(&both);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t value = next(&seed);

		histogram_record(i % 3 ? &a : &b, value);
		histogram_record(&both, value);
	}
	histogram_merge(&a, &b);
	assert_memory_equal(&a, &both, sizeof(a));
}

static void the_longest_count(void **state)
{
	struct histogram h;

	(void)state;
	histogram_init(&h);
	histogram_record(&h, UINT64_MAX);
	histogram_record(&h, UINT64_C(1) << 40);
	histogram_record(&h, 5);
	assert_int_equal(histogram_count(&h), 3);
	assert_int_equal(histogram_percentile_ns(&h, 99), UINT64_MAX);
	assert_int_equal(histogram_percentile_ns(&h, -1), 5);
	assert_int_equal(histogram_percentile_ns(&h, 200), UINT64_MAX);
	assert_int_equal(histogram_count_below(&h, UINT64_C(1) << 20), 1);
	histogram_init(&h);
	for (unsigned bit = 0; bit < 40; bit++)
		histogram_record(&h, UINT64_C(1) << bit);
	for (unsigned bit = 0; bit < 40; bit++)
		assert_int_equal(histogram_count_below(&h, UINT64_C(1) << bit), bit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_is_zero),
		cmocka_unit_test(small_values_are_exact),
		cmocka_unit_test(error_is_bounded),
		cmocka_unit_test(percentiles_follow_the_sorted_values),
		cmocka_unit_test(merge_is_recording_both),
		cmocka_unit_test(the_longest_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
