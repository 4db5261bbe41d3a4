/* SPDX-License-Identifier: Apache-2.0 */
/* See cursor.h. Invariant: `at` is a node of store->files or its head; whoever frees a file moves
 * the cursors that are at it one back. */
#include "egroup/cursor.h"

#include "egroup/store_priv.h"

static void take_turns(struct egroup_cursor *cursor)
{
	if (++cursor->steps % EGROUP_FILES_A_TURN == 0)
		fiber_yield();
}

void egroup_cursor_init(struct egroup_cursor *cursor, struct egroup_store *store, uint64_t after)
{
	const struct list_node *end = &store->files.head;

	*cursor = (struct egroup_cursor){.store = store, .at = &store->files.head};
	list_push_back(&store->cursors, &cursor->link);
	while (cursor->at->next != end &&
	       LIST_ENTRY(cursor->at->next, struct egroup_file, link)->id <= after) {
		cursor->at = cursor->at->next;
		take_turns(cursor);
	}
}

void egroup_cursor_done(struct egroup_cursor *cursor)
{
	list_remove(&cursor->link);
}

struct egroup_file *egroup_cursor_any(struct egroup_cursor *cursor)
{
	if (cursor->at->next == &cursor->store->files.head)
		return NULL;
	cursor->at = cursor->at->next;
	return LIST_ENTRY(cursor->at, struct egroup_file, link);
}

/* Of those that are being removed there may be very many. */
struct egroup_file *egroup_cursor_next(struct egroup_cursor *cursor)
{
	struct egroup_file *file;

	while ((file = egroup_cursor_any(cursor)) && file->dying)
		take_turns(cursor);
	return file;
}

struct egroup_file *egroup_cursor_step(struct egroup_cursor *cursor)
{
	take_turns(cursor);
	return egroup_cursor_next(cursor);
}

void egroup_cursor_back(struct egroup_cursor *cursor)
{
	if (cursor->at != &cursor->store->files.head)
		cursor->at = cursor->at->prev;
}

void egroup_cursors_leave(struct egroup_store *store, struct egroup_file *file)
{
	struct egroup_cursor *cursor;

	LIST_FOR_EACH (&store->cursors, cursor, struct egroup_cursor, link)
		if (cursor->at == &file->link)
			cursor->at = file->link.prev;
}
