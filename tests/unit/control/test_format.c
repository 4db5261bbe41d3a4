/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/macros.h"
#include "control/format.h"

/* The formats that have a row of such a table, with so many numbers in its key. */
static unsigned count_of(enum catalog_table table, unsigned numbers, const char **ret_name,
			 unsigned *ret_newest)
{
	struct catalog_row row = {.key = catalog_key(table)};
	unsigned count = 0;

	for (unsigned i = 0; i < numbers; i++)
		catalog_key_add(&row.key, i + 1);
	for (unsigned i = 0; i < FORMAT_COUNT; i++) {
		if (!format_is_of(format_get(i), &row))
			continue;
		count++;
		*ret_name = format_get(i)->name;
		*ret_newest = format_get(i)->newest;
	}
	return count;
}

/* Tables of rows with a version: each row is of one format. */
static void each_row_has_one(void **state)
{
	static const struct {
		enum catalog_table table;
		unsigned numbers, newest;
		const char *name;
	} rows[] = {
		{CATALOG_POOL, 1, 1, "pool row"},    {CATALOG_DISK, 2, 2, "disk row"},
		{CATALOG_VDISK, 1, 1, "vDisk row"},  {CATALOG_CONTAINER, 1, 2, "container row"},
		{CATALOG_EGROUP, 3, 1, "group row"}, {CATALOG_EGFILE, 3, 2, "file row"},
		{CATALOG_EVENT, 1, 1, "event row"},  {CATALOG_POLICY, 1, 1, "policy row"},
		{CATALOG_SCRUB, 1, 3, "scrub row"},  {CATALOG_SCRUB, 2, 2, "scrub finding"},
		{CATALOG_PLACE, 2, 1, "place row"},  {CATALOG_RETIRE, 2, 1, "retire row"},
		{CATALOG_DRAIN, 2, 1, "drain row"},
	};
	unsigned newest;
	const char *name;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(count_of(rows[i].table, rows[i].numbers, &name, &newest), 1);
		assert_string_equal(name, rows[i].name);
		assert_int_equal(newest, rows[i].newest);
	}
	assert_int_equal(count_of(CATALOG_JOB, 1, &name, &newest), 0); /* JSON */
	for (unsigned i = 0; i < FORMAT_COUNT; i++)
		assert_in_range(format_get(i)->oldest, 1, format_get(i)->newest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_row_has_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
