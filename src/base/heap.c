/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places are numbered 1 (the root), 2, 3 and so on, row by row: the binary digits of a number below
 * its leading one are the turns from the root to that place.
 *
 * Invariants: (1) places 1 to count are taken, no others; (2) no node is before its parent.
 */
#include "base/heap.h"

void heap_init(struct heap *heap,
	       bool (*is_before)(const struct heap_node *a, const struct heap_node *b))
{
	*heap = (struct heap){.is_before = is_before};
}

/* The link that holds place `number`; its parent goes to *ret_parent. */
static struct heap_node **heap_place(struct heap *heap, size_t number,
				     struct heap_node **ret_parent)
{
	struct heap_node **link = &heap->root;
	int digits = 63 - __builtin_clzl(number);

	*ret_parent = NULL;
	while (digits-- > 0) {
		*ret_parent = *link;
		link = &(*link)->child[number >> digits & 1];
	}
	return link;
}

static struct heap_node **heap_link_of(struct heap *heap, struct heap_node *node)
{
	if (!node->parent)
		return &heap->root;
	return &node->parent->child[node->parent->child[1] == node];
}

static void heap_adopt_children(struct heap_node *node)
{
	for (int i = 0; i < 2; i++) {
		if (node->child[i])
			node->child[i]->parent = node;
	}
}

static void heap_swap_with_parent(struct heap *heap, struct heap_node *node)
{
	struct heap_node *parent = node->parent;
	struct heap_node below = *node;
	int side = parent->child[1] == node;

	*heap_link_of(heap, parent) = node;
	*node = *parent;
	node->child[side] = parent;
	parent->child[0] = below.child[0];
	parent->child[1] = below.child[1];
	heap_adopt_children(node);
	heap_adopt_children(parent);
}

static void heap_sift_up(struct heap *heap, struct heap_node *node)
{
	while (node->parent && heap->is_before(node, node->parent))
		heap_swap_with_parent(heap, node);
}

static void heap_sift_down(struct heap *heap, struct heap_node *node)
{
	for (;;) {
		struct heap_node *first = node->child[0];

		if (node->child[1] && heap->is_before(node->child[1], first))
			first = node->child[1];
		if (!first || !heap->is_before(first, node))
			return;
		heap_swap_with_parent(heap, first);
	}
}

void heap_insert(struct heap *heap, struct heap_node *node)
{
	struct heap_node *parent;
	struct heap_node **link = heap_place(heap, heap->count + 1, &parent);

	ASSERT(!*link);
	heap->count++;
	*node = (struct heap_node){.parent = parent};
	*link = node;
	heap_sift_up(heap, node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
	struct heap_node *parent;
	struct heap_node **link = heap_place(heap, heap->count, &parent);
	struct heap_node *last = *link;

	*link = NULL;
	heap->count--;
	if (last == node)
		return;
	*heap_link_of(heap, node) = last;
	*last = *node;
	heap_adopt_children(last);
	heap_sift_down(heap, last);
	heap_sift_up(heap, last);
}
