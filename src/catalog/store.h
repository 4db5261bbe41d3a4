/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The SQLite database below the catalog: blocking calls, for one worker thread at a time. The
 * caller orders them (catalog.c); each call happens after the one before.
 */
#include "catalog/catalog.h"

struct store;

enum store_request_kind { STORE_GET, STORE_SCAN, STORE_COMMIT, STORE_IDS };

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
			struct catalog_rows rows;        /* output */
		} scan;
		struct {
			const struct catalog_change *changes;
			size_t count;
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

/* Runs a list of STORE_GET and STORE_SCAN; sets each request's result. */
void store_read(struct store *store, struct list *requests);
/* Runs a list of STORE_COMMIT and STORE_IDS, as one transaction if possible; sets each result. */
void store_write(struct store *store, struct list *requests);

/* Whether store_upkeep() has something to do: before the next store_write() then. */
bool store_wants_upkeep(const struct store *store);
/* Checkpoints the WAL and sets room aside. Failures are logged; they are not fatal. */
void store_upkeep(struct store *store);
