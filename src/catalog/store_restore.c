/* SPDX-License-Identifier: Apache-2.0 */
/* Fills a new database with the rows of a mirror, under the versions that they have. */
#include "catalog/store_priv.h"

#include <errno.h>

#include "base/macros.h"

#define BATCH_BYTES (4u << 20)

static int insert(struct store *store, const struct catalog_row *row)
{
	sqlite3_stmt *statement = store->statements[STORE_PUT];
	int rc = sqlite3_bind_blob(statement, 1, row->key.bytes, row->key.length, SQLITE_STATIC);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(statement, 2, (sqlite3_int64)row->version);
	if (rc == SQLITE_OK)
		rc = row->length > 0 ? sqlite3_bind_blob(statement, 3, row->value, (int)row->length,
							 SQLITE_STATIC)
				     : sqlite3_bind_zeroblob(statement, 3, 0);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(statement, 4,
					store_row_crc(&row->key, row->version, row->value,
						      row->length));
	if (rc != SQLITE_OK)
		return store_error(store, rc, "bind");
	return store_run(store, STORE_PUT);
}

/* How many of the rows from `first` on go into one transaction, and the pages that they need. */
static size_t batch(const struct mirror_rows *rows, size_t first, uint64_t *ret_pages)
{
	uint64_t bytes = 0;
	size_t end = first;

	while (end < rows->count && bytes < BATCH_BYTES) {
		bytes += 64u + rows->rows[end].key.length + rows->rows[end].length;
		end++;
	}
	*ret_pages = bytes / (STORE_PAGE_BYTES / 2) + 64;
	return end;
}

static int insert_batch(struct store *store, const struct mirror_rows *rows, size_t first,
			size_t end)
{
	int r = store_run(store, STORE_BEGIN);

	for (size_t i = first; r == 0 && i < end; i++)
		r = insert(store, &rows->rows[i]);
	if (r == 0)
		r = store_run(store, STORE_END);
	store_rollback(store);
	return r;
}

static int position_set(struct store *store, const struct catalog_position *position)
{
	int r = store_run(store, STORE_BEGIN);

	store->position = *position;
	if (r == 0)
		r = store_position_put(store);
	if (r == 0)
		r = store_run(store, STORE_END);
	store_rollback(store);
	return r;
}

static int truncate_wal(struct store *store)
{
	int rc = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

	return rc == SQLITE_OK ? 0 : store_error(store, rc, "checkpoint");
}

int store_restore(struct store *store, const struct mirror_rows *rows,
		  const struct catalog_position *position)
{
	uint64_t pages;
	size_t end;
	int r = 0;

	ASSERT(rows->change_count == 0);
	/* The one row that a new database has, the format's, is among them and replaced. */
	for (size_t i = 0; r == 0 && i < rows->count; i = end) {
		end = batch(rows, i, &pages);
		r = store_space_fill(store, pages);
		if (r == 0)
			r = insert_batch(store, rows, i, end);
	}
	if (r == 0)
		r = position_set(store, position);
	if (r == 0)
		r = store_check(store);
	return r ? r : truncate_wal(store);
}
