/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "catalog/catalog.h"

static void builds_keys_that_sort_by_number(void **state)
{
	struct catalog_key a = catalog_key(CATALOG_VDISK), b = catalog_key(CATALOG_VDISK);

	(void)state;
	catalog_key_add(&a, 0xff);
	catalog_key_add(&b, 0x100);
	assert_int_equal(a.length, 9);
	assert_true(memcmp(a.bytes, b.bytes, 9) < 0);
	assert_int_equal(catalog_key_number(&b, 0), 0x100);
}

static void keeps_text_behind_numbers(void **state)
{
	struct catalog_key key = catalog_name_key(CATALOG_NAME_VDISK, 7, "disk0");
	char text[CATALOG_KEY_MAX + 1];

	(void)state;
	assert_int_equal(catalog_key_number(&key, 0), CATALOG_NAME_VDISK);
	assert_int_equal(catalog_key_number(&key, 1), 7);
	catalog_key_text(&key, 2, text, sizeof(text));
	assert_string_equal(text, "disk0");
	catalog_key_text(&key, 2, text, 3);
	assert_string_equal(text, "di");
	catalog_key_text(&key, 3, text, sizeof(text));
	assert_string_equal(text, "");
}

static void cuts_text_at_the_limit(void **state)
{
	struct catalog_key key = catalog_key(CATALOG_NAME);
	char text[CATALOG_KEY_MAX + 10];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	catalog_key_add_text(&key, text);
	assert_int_equal(key.length, CATALOG_KEY_MAX);
	catalog_key_add_text(&key, "more");
	assert_int_equal(key.length, CATALOG_KEY_MAX);
	catalog_key_text(&key, 0, text, sizeof(text));
	assert_int_equal(strlen(text), CATALOG_KEY_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(builds_keys_that_sort_by_number),
		cmocka_unit_test(keeps_text_behind_numbers),
		cmocka_unit_test(cuts_text_at_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
