/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Shared between store.c, file.c, rows.c and compact.c. */
#include "egroup/index.h"
#include "egroup/store.h"

struct egroup_file *egroup_file_new(struct egroup_store *store, uint64_t id);
void egroup_file_free(struct egroup_file *file);
struct egroup *egroup_new(struct egroup_store *store, uint64_t id, struct egroup_file *file);
void egroup_free(struct egroup_store *store, struct egroup *group);
/* Moves a group to another file's list. */
void egroup_move(struct egroup *group, struct egroup_file *to);
struct catalog_key egroup_key(enum catalog_table table, const struct egroup_store *store,
			      uint64_t id);
/* A reference to a file that may be closed. */
void egroup_file_hold(struct egroup_file *file);
/* Marks as dying; the file goes to the pool's spare files once nobody uses it. */
void egroup_file_discard(struct egroup_file *file);
/* The same, but leaves the file where it is: whether a row names it is unknown until the next
 * start. */
void egroup_file_forget(struct egroup_file *file);
/* Reads the index of a compacted file into its groups. Fiber. */
int egroup_index_load(struct egroup_file *file);
/* -EUCLEAN: it is not the file's, or not as its row says. */
int egroup_index_check(const struct egroup_file *file, const void *memory,
		       struct index_view *ret_view);
/* The index into `memory` (index_blocks long), from whichever copy has it right, beginning with
 * `first`; `tried` may be NULL. Fiber. */
int egroup_index_read(struct egroup_file *file, unsigned first, void *memory,
		      struct index_view *ret_view, struct egroup_tried *tried);
/* The CRC-32C of each stored slot of a group in a compacted, open file, in order. Fiber. */
int egroup_index_crcs(const struct egroup *group, uint32_t **ret_crcs);
/* A check: a record's header, which is that of *(const struct record_id *)arg. */
int egroup_check_header(void *arg, const void *block);
/* Before it is freed (cursor.c). */
void egroup_cursors_leave(struct egroup_store *store, struct egroup_file *file);
int egroup_rows_load(struct egroup_store *store);

/* need.c */
/* Copies by what becomes of them; bits. */
struct sorted_copies {
	unsigned good;    /* count, and stay */
	unsigned away;    /* on a missing disk: count again when it is back */
	unsigned leaving; /* can be read, but are to be moved */
	unsigned failed;  /* on a disk that was given up: may still come back */
	unsigned stale;
};
struct sorted_copies egroup_sort_copies(const struct egroup_file *file);
