/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/reached.h"

static void here(void)
{
	REACHED("test.place");
}

static void *hit(void *arg)
{
	for (unsigned i = 0; i < 1000; i++) {
		here();
		REACHED("test.place");
	}
	return arg;
}

static void counts_all_places(void **state)
{
	pthread_t threads[3];

	(void)state;
	assert_int_equal(reached_count("test.place"), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hit, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(reached_count("test.place"), 6000);
	assert_int_equal(reached_count("test.other"), 0);
	reached_print();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_all_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
