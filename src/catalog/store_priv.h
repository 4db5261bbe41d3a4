/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Shared by store.c (connection, reads), store_write.c (commits) and store_space.c (room). */
#include <sqlite3.h>

#include "catalog/lineage.h"
#include "catalog/mirror_format.h"
#include "catalog/store.h"

#define STORE_PAGE_BYTES     4096u
#define STORE_FORMAT_VERSION 2u /* 2: with the row of the position; 1 can be opened */

enum store_statement {
	STORE_BEGIN,
	STORE_END,
	STORE_ROLLBACK,
	STORE_SELECT,
	STORE_RANGE,
	STORE_PUT,
	STORE_DELETE,
	STORE_DELETE_RANGE,
	STORE_FREE_PAGES,
	STORE_PAGES,
	STORE_BALLAST_PUT,
	STORE_BALLAST_DELETE,
	STORE_STATEMENT_COUNT,
};

/* Ids reserved in the database up to `end` and given out up to `next`. */
struct store_counter {
	struct list_node link;
	char name[64];
	bool loaded;
	uint64_t next, end;
	bool saved_loaded; /* as before the transaction that runs */
	uint64_t saved_next, saved_end;
};

/* What the job has committed, as the frame that mirrors get; behind it what the transaction that
 * runs has changed. */
struct store_changes {
	uint8_t *data; /* starts with room for the frame's header */
	size_t capacity;
	size_t committed, length;       /* of the payload */
	struct catalog_position before; /* the first of `committed` */
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *statements[STORE_STATEMENT_COUNT];
	struct list counters;
	int wal_frames;      /* in the WAL, not yet reset by a checkpoint */
	uint64_t free_pages; /* in the database, as of the last commit */
	uint64_t page_count;
	unsigned fill_countdown; /* commits until room is asked for again after -ENOSPC */
	bool uncertain;          /* a failed commit may still be in the WAL: see store_write.c */
	bool damaged;            /* when it was opened: rows are damaged or missing */
	struct catalog_position position, saved_position;
	struct store_changes changes;
	/* As committed; and with the epoch that the transaction that runs begins. */
	struct lineage lineage, next_lineage;
	bool begins_epoch; /* the transaction that runs does */
	bool has_epoch;    /* one has begun since the open */
};

/* Negative errno of an SQLite result code. Logs it, unless the disk is full or the world dead. */
int store_error(struct store *store, int rc, const char *what);
/* Runs a prepared statement without rows or bound values. */
int store_run(struct store *store, enum store_statement index);
/* The integer in the first column of the only row. */
int store_number(struct store *store, enum store_statement index, uint64_t *ret_number);
/* One row, checked. -ENOENT, -EUCLEAN. `ret_row` may be NULL when only the version matters. */
int store_select(struct store *store, const struct catalog_key *key, uint64_t *ret_version,
		 struct catalog_row *ret_row);
uint32_t store_row_crc(const struct catalog_key *key, uint64_t version, const void *value,
		       uint32_t length);
/* The first key after all that start with `prefix`. */
struct catalog_key store_prefix_end(const struct catalog_key *prefix);
int store_put(struct store *store, const struct catalog_key *key, const void *value,
	      uint32_t length);
void store_rollback(struct store *store);

/* Makes at least `pages` free pages in the database, on the medium. -ENOSPC. */
int store_space_fill(struct store *store, uint64_t pages);
/* At open: removes a left-over ballast row, then fills. A full disk is not an error. */
int store_space_init(struct store *store);
/* -ENOSPC when the transaction that runs has taken from the room set aside for deletions. */
int store_space_check(struct store *store, bool all_delete);
int store_checkpoint(struct store *store);
/* Checkpoints all of the WAL; the next commit starts it over. */
int store_restart_wal(struct store *store);

/* store_change.c: the position and the changes of a transaction. */
/* Rows of this file alone, which no mirror has. */
bool store_key_is_local(const struct catalog_key *key);
/* -ENOMEM. `rows` is by how much the number of rows grows. */
int store_changes_add(struct store *store, const struct mirror_entry *entry, int64_t rows);
void store_changes_begin(struct store *store);
/* Last in a transaction that changed something: writes the position's row. */
int store_changes_end(struct store *store);
void store_changes_commit(struct store *store);
void store_changes_rollback(struct store *store);
/* In the transaction that makes the tables, or that brings them to this version. */
int store_position_init(struct store *store, uint64_t rows);
int store_position_put(struct store *store);
int store_position_load(struct store *store); /* -ENOENT */
int store_lineage_load(struct store *store);
bool store_key_is_position(const struct catalog_key *key);
/* -EUCLEAN: it is not as long as it must be. */
int store_position_decode(const struct catalog_row *row, struct catalog_position *ret_position);
/* store.c: walks all rows in order; counts those that are not local. */
int store_count(struct store *store, uint64_t *ret_rows);
int store_format_put(struct store *store);
