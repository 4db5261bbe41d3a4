/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Going through the files of a store in order of id while others add and remove some: each file is
 * met at most once, and one that is made meanwhile is met, too, for its id is the greatest. A step
 * costs the same however many files there are. Home: the store's reactor; callers may suspend
 * between steps, and must end the cursor before the store is closed.
 */
#include "egroup/store.h"

struct egroup_cursor {
	struct egroup_store *store;
	struct list_node *at;  /* the file that was met last, or the list's head */
	struct list_node link; /* of store->cursors */
	unsigned steps;        /* since others had a turn */
};

#define EGROUP_FILES_A_TURN 512u /* that little is done about */

/* Begins with the first file whose id is greater than `after`. Gives others turns on the way there:
 * a fiber. */
void egroup_cursor_init(struct egroup_cursor *cursor, struct egroup_store *store, uint64_t after);
void egroup_cursor_done(struct egroup_cursor *cursor);
/* The next file that is not being removed, or NULL; a later call may find one again. Fiber. */
struct egroup_file *egroup_cursor_next(struct egroup_cursor *cursor);
/* The next file, also one that is being removed. Does not suspend. */
struct egroup_file *egroup_cursor_any(struct egroup_cursor *cursor);
/* The same, for who does little about each: gives others a turn now and then. Fiber. */
struct egroup_file *egroup_cursor_step(struct egroup_cursor *cursor);
/* The file that was met last is met once more by the next step. */
void egroup_cursor_back(struct egroup_cursor *cursor);
