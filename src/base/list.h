/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Intrusive doubly linked list. A node that is in no list points at itself, so list_remove() is
 * idempotent and list_is_linked() is exact once the node was initialised.
 */
#include <stdbool.h>

#include "base/macros.h"

struct list_node {
	struct list_node *next;
	struct list_node *prev;
};

struct list {
	struct list_node head;
};

#define LIST_INIT(list) {{&(list).head, &(list).head}}

static inline void list_node_init(struct list_node *node)
{
	node->next = node;
	node->prev = node;
}

static inline void list_init(struct list *list)
{
	list_node_init(&list->head);
}

static inline bool list_is_empty(const struct list *list)
{
	return list->head.next == &list->head;
}

static inline size_t list_count(const struct list *list)
{
	size_t count = 0;

	for (const struct list_node *at = list->head.next; at != &list->head; at = at->next)
		count++;
	return count;
}

static inline bool list_is_linked(const struct list_node *node)
{
	return node->next != node;
}

static inline void list_insert_after_(struct list_node *at, struct list_node *node)
{
	node->prev = at;
	node->next = at->next;
	at->next->prev = node;
	at->next = node;
}

static inline void list_insert_before(struct list_node *at, struct list_node *node)
{
	list_insert_after_(at->prev, node);
}

static inline void list_push_front(struct list *list, struct list_node *node)
{
	list_insert_after_(&list->head, node);
}

static inline void list_push_back(struct list *list, struct list_node *node)
{
	list_insert_after_(list->head.prev, node);
}

static inline void list_remove(struct list_node *node)
{
	node->next->prev = node->prev;
	node->prev->next = node->next;
	list_node_init(node);
}

/* The first node, or NULL. */
static inline struct list_node *list_front(const struct list *list)
{
	return list_is_empty(list) ? NULL : list->head.next;
}

static inline struct list_node *list_back(const struct list *list)
{
	return list_is_empty(list) ? NULL : list->head.prev;
}

static inline struct list_node *list_pop_front(struct list *list)
{
	struct list_node *node = list_front(list);

	if (node)
		list_remove(node);
	return node;
}

/* Moves all of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice_back(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->head.next->prev = to->head.prev;
	to->head.prev->next = from->head.next;
	from->head.prev->next = &to->head;
	to->head.prev = from->head.prev;
	list_init(from);
}

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)

/* Safe against removal of `entry` itself. */
#define LIST_FOR_EACH(list, entry, type, member)                                              \
	for (struct list_node *iter_##entry = (list)->head.next, *next_##entry;               \
	     iter_##entry != &(list)->head &&                                                 \
	     (next_##entry = iter_##entry->next, entry = CONTAINER_OF(iter_##entry, type, member), \
	     1);                                                                              \
	     iter_##entry = next_##entry)
