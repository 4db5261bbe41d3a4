/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
	int value;
	struct list_node link;
};

static void keeps_order_and_removes(void **state)
{
	struct list list;
	struct item items[4];
	struct item *item;
	int expected = 0;

	(void)state;
	list_init(&list);
	for (int i = 0; i < 4; i++) {
		items[i].value = i;
		list_push_back(&list, &items[i].link);
	}
	LIST_FOR_EACH (&list, item, struct item, link) {
		assert_int_equal(item->value, expected++);
		if (item->value == 2)
			list_remove(&item->link);
	}
	assert_int_equal(expected, 4);
	assert_false(list_is_linked(&items[2].link));
	list_remove(&items[2].link);
	assert_ptr_equal(list_pop_front(&list), &items[0].link);
	assert_ptr_equal(list_back(&list), &items[3].link);
}

static void splices(void **state)
{
	struct list a, b;
	struct item items[2];

	(void)state;
	list_init(&a);
	list_init(&b);
	list_splice_back(&a, &b);
	assert_true(list_is_empty(&a));
	list_push_back(&a, &items[0].link);
	list_push_back(&b, &items[1].link);
	list_splice_back(&a, &b);
	assert_true(list_is_empty(&b));
	assert_ptr_equal(list_front(&a), &items[0].link);
	assert_ptr_equal(list_back(&a), &items[1].link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_order_and_removes),
		cmocka_unit_test(splices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
