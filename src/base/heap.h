/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Intrusive binary heap: a complete binary tree of nodes that are embedded in their owners, so that
 * inserting never allocates and never fails. All operations are O(log n), heap_front() is O(1).
 *
 * `is_before` is a strict order. Where it leaves two nodes equal their order is unspecified: owners
 * who care add a sequence number.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct heap_node {
	struct heap_node *parent;
	struct heap_node *child[2];
};

struct heap {
	struct heap_node *root;
	size_t count;
	bool (*is_before)(const struct heap_node *a, const struct heap_node *b);
};

void heap_init(struct heap *heap,
	       bool (*is_before)(const struct heap_node *a, const struct heap_node *b));
void heap_insert(struct heap *heap, struct heap_node *node);
/* `node` is in the heap. */
void heap_remove(struct heap *heap, struct heap_node *node);

/* The first node by the order, or NULL. */
static inline struct heap_node *heap_front(const struct heap *heap)
{
	return heap->root;
}

#define HEAP_ENTRY(node, type, member) CONTAINER_OF(node, type, member)
