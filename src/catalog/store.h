/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The SQLite database below the catalog: blocking calls, for one worker thread at a time. The
 * caller orders them (catalog.c); each call happens after the one before.
 */
#include "catalog/catalog.h"
#include "catalog/lineage.h"
#include "catalog/mirror_rows.h"

struct store;

enum store_request_kind {
	STORE_GET,
	STORE_SCAN,
	STORE_DUMP,
	STORE_CHECK, /* store_check(), of what is on the disk: nothing that was kept of it counts */
	STORE_COMMIT,
	STORE_IDS
};

struct store_request {
	struct list_node link;
	enum store_request_kind kind;
	int result;
	union {
		struct {
			const struct catalog_key *key;
			struct catalog_row row; /* output */
		} get;
		struct {
			const struct catalog_key *prefix;
			const struct catalog_key *after; /* may be NULL */
			size_t limit;                    /* 0 = all */
			bool all;                        /* damaged ones, too */
			struct catalog_rows rows;        /* output */
		} scan;
		/* Rows of all tables that come after `after`, but for those that are this
		 * file's alone: one at least, more as long as they fit in `bytes` as entries
		 * of a mirror. None: that was all. */
		struct {
			struct catalog_key after; /* length 0 = from the start */
			size_t bytes;
			struct catalog_rows rows; /* output */
		} dump;
		struct {
			const struct catalog_change *changes;
			size_t count;
			bool is_urgent; /* may use the room set aside */
		} commit;
		struct {
			const char *counter;
			uint64_t count;
			uint64_t first; /* output */
		} ids;
	};
};

/* -ENOENT, -EUCLEAN, -EPROTONOSUPPORT, -EBUSY, -EROFS, -EIO, -ENOSPC. */
int store_open(const struct catalog_options *options, struct store **ret_store);
void store_close(struct store *store); /* NULL is fine */
/* Rows are damaged or missing: a counter that is not there may be one of them. */
void store_set_damaged(struct store *store);

/* Runs a list of STORE_GET, STORE_SCAN, STORE_DUMP and STORE_CHECK; sets each request's result. */
void store_read(struct store *store, struct list *requests);
/* Runs a list of STORE_COMMIT and STORE_IDS, as one transaction if possible; sets each result. */
void store_write(struct store *store, struct list *requests);

/* Whether store_upkeep() has something to do: before the next store_write() then. */
bool store_wants_upkeep(const struct store *store);
/* Checkpoints the WAL and sets room aside. Failures are logged; they are not fatal. */
void store_upkeep(struct store *store);

/* What was committed since the last call, for the mirrors; NULL when nothing was. -ENOMEM: it is
 * lost for them. */
int store_take_frame(struct store *store, struct mirror_frame **ret_frame);
/* As of the last commit. */
void store_get_position(const struct store *store, struct catalog_position *ret_position);
void store_get_lineage(const struct store *store, struct lineage *ret_lineage);
/* Reads all rows. -EUCLEAN when one is damaged, or when there are fewer or more than there were. */
int store_check(struct store *store);
/* Replaces all that a new database holds, in a few transactions, and leaves nothing in its WAL. */
int store_restore(struct store *store, const struct mirror_rows *rows,
		  const struct catalog_position *position);
