/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"

#define ITEMS 500

struct item {
	unsigned key;
	unsigned sequence;
	struct heap_node node;
	bool present;
};

static struct item items[ITEMS];

static bool item_is_before(const struct heap_node *a, const struct heap_node *b)
{
	const struct item *x = HEAP_ENTRY(a, struct item, node);
	const struct item *y = HEAP_ENTRY(b, struct item, node);

	return x->key != y->key ? x->key < y->key : x->sequence < y->sequence;
}

static unsigned next_random(unsigned *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

/* Parents, order and count; returns the number of nodes below and including `node`. */
static size_t check_tree(const struct heap_node *node)
{
	size_t count = 1;

	for (int i = 0; i < 2; i++) {
		if (!node->child[i])
			continue;
		assert_ptr_equal(node->child[i]->parent, node);
		assert_false(item_is_before(node->child[i], node));
		count += check_tree(node->child[i]);
	}
	assert_true(node->child[0] || !node->child[1]);
	return count;
}

static void check_heap(const struct heap *heap)
{
	if (!heap->root) {
		assert_int_equal(heap->count, 0);
		return;
	}
	assert_null(heap->root->parent);
	assert_int_equal(check_tree(heap->root), heap->count);
}

static void sorts_with_ties(void **state)
{
	struct heap heap;
	const struct item *previous = NULL;
	unsigned random = 7;

	(void)state;
	heap_init(&heap, item_is_before);
	assert_null(heap_front(&heap));
	for (unsigned i = 0; i < ITEMS; i++) {
		items[i] = (struct item){.key = next_random(&random) % 40, .sequence = i};
		heap_insert(&heap, &items[i].node);
		check_heap(&heap);
	}
	for (unsigned i = 0; i < ITEMS; i++) {
		struct item *item = HEAP_ENTRY(heap_front(&heap), struct item, node);

		if (previous)
			assert_true(item_is_before(&previous->node, &item->node));
		previous = item;
		heap_remove(&heap, &item->node);
		check_heap(&heap);
	}
	assert_null(heap_front(&heap));
}

static const struct item *least_present(void)
{
	const struct item *least = NULL;

	for (unsigned i = 0; i < ITEMS; i++) {
		if (items[i].present && (!least || item_is_before(&items[i].node, &least->node)))
			least = &items[i];
	}
	return least;
}

static void removes_anywhere(void **state)
{
	struct heap heap;
	unsigned random = 11;

	(void)state;
	heap_init(&heap, item_is_before);
	for (unsigned i = 0; i < ITEMS; i++)
		items[i] = (struct item){0};
	for (unsigned step = 0; step < 20000; step++) {
		struct item *item = &items[next_random(&random) % ITEMS];
		struct heap_node *front;

		if (item->present) {
			heap_remove(&heap, &item->node);
		} else {
			item->key = next_random(&random) % 100;
			item->sequence = step;
			heap_insert(&heap, &item->node);
		}
		item->present = !item->present;
		if (step % 16 == 0)
			check_heap(&heap);
		front = heap_front(&heap);
		assert_ptr_equal(front ? HEAP_ENTRY(front, struct item, node) : NULL,
				 least_present());
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sorts_with_ties),
		cmocka_unit_test(removes_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
