/* SPDX-License-Identifier: Apache-2.0 */
/* The cursor over a store's files while files come and go, against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "egroup/cursor.h"
#include "egroup/store_priv.h"

#define FILES 64

static struct egroup_store store;
static struct egroup_file *files[FILES + 1]; /* by id */

static void begin(void)
{
	list_init(&store.files);
	list_init(&store.cursors);
	list_init(&store.idle);
}

static void add(uint64_t id)
{
	files[id] = egroup_file_new(&store, id);
	assert_non_null(files[id]);
}

static void drop(uint64_t id)
{
	egroup_file_free(files[id]);
	files[id] = NULL;
}

static void end(void)
{
	for (uint64_t id = 1; id <= FILES; id++)
		if (files[id])
			drop(id);
	assert_true(list_is_empty(&store.files));
}

static void expect(struct egroup_cursor *cursor, uint64_t id)
{
	struct egroup_file *file = egroup_cursor_next(cursor);

	assert_int_equal(file ? file->id : 0, id);
}

static void test_order(void **state)
{
	struct egroup_cursor cursor;

	(void)state;
	begin();
	add(5);
	add(3); /* its id was taken earlier */
	add(9);
	add(8);
	add(1);
	egroup_cursor_init(&cursor, &store, 0);
	expect(&cursor, 1);
	expect(&cursor, 3);
	egroup_cursor_back(&cursor);
	expect(&cursor, 3);
	expect(&cursor, 5);
	expect(&cursor, 8);
	expect(&cursor, 9);
	expect(&cursor, 0);
	expect(&cursor, 0);
	add(12);
	expect(&cursor, 12);
	egroup_cursor_done(&cursor);
	end();
}

static void test_from(void **state)
{
	struct egroup_cursor cursor;

	(void)state;
	begin();
	add(2);
	add(4);
	add(6);
	for (uint64_t after = 0; after < 8; after++) {
		egroup_cursor_init(&cursor, &store, after);
		expect(&cursor, after < 6 ? (after / 2 + 1) * 2 : 0);
		egroup_cursor_done(&cursor);
	}
	end();
}

static void test_changes(void **state)
{
	struct egroup_cursor one, two;

	(void)state;
	begin();
	for (uint64_t id = 10; id <= 60; id += 10)
		add(id);
	egroup_cursor_init(&one, &store, 0);
	egroup_cursor_init(&two, &store, 20);
	expect(&one, 10);
	expect(&two, 30);
	drop(30); /* `two` stands on it */
	drop(10); /* `one` stands on it, and it is the first */
	expect(&one, 20);
	expect(&two, 40);
	drop(20);
	drop(40);
	drop(50);
	expect(&two, 60);
	drop(60);
	expect(&one, 0);
	expect(&two, 0);
	add(61);
	expect(&one, 61);
	expect(&two, 61);
	egroup_cursor_done(&one);
	drop(61); /* only `two` is told */
	expect(&two, 0);
	egroup_cursor_done(&two);
	end();
}

static void test_dying(void **state)
{
	struct egroup_cursor cursor;

	(void)state;
	begin();
	add(1);
	add(2);
	add(3);
	egroup_cursor_init(&cursor, &store, 0);
	files[1]->dying = files[2]->dying = true;
	expect(&cursor, 3);
	drop(3);
	drop(2);
	files[1]->dying = false; /* at the list's front now, passed already */
	expect(&cursor, 0);
	egroup_cursor_done(&cursor);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_from),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_dying),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
