/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room set aside, so that deleting works when the disk is full.
 *
 * A commit needs space in two places: in the WAL, and in the database file once a checkpoint copies
 * the WAL there. Both are given beforehand:
 *  1. The database only grows here, by store_space_fill(): max_page_count is otherwise its present
 *     size, and commits live on its free list. It is grown on the medium, by writing zeros, before
 *     SQLite is told of it, so that a checkpoint never extends the file and cannot meet a full
 *     disk.
 *  2. Pages are added as one "ballast" row, which is deleted at once and leaves them on the free
 *     list. As the row goes through the WAL, the WAL's file is extended by as much, and keeps its
 *     size: journal_size_limit is off, and it is checkpointed and started over when a quarter of
 *     WAL_KEEP_FRAMES is used.
 *  3. A commit that does not delete may not take the last RESERVE_PAGES free pages.
 * A crash between adding and deleting the ballast row leaves it; it is deleted at the next open.
 */
#include "catalog/store_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/macros.h"

#define RESERVE_PAGES        64u
#define LOW_PAGES            128u /* fill again below it */
#define FILL_PAGES           256u /* at least that much at once; a 16th of the database if more */
#define FILL_PAGES_MAX       4096u
#define WAL_KEEP_FRAMES      512
#define WAL_CHECKPOINT_FRAMES (WAL_KEEP_FRAMES / 4)
#define WAL_FRAME_BYTES      (STORE_PAGE_BYTES + 24)
#define FILL_RETRY_COMMITS   32u

static int limit_pages(struct store *store, uint64_t pages)
{
	char sql[64];
	int rc;

	snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %" PRIu64, pages);
	rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : store_error(store, rc, sql);
}

static int count_pages(struct store *store)
{
	int r = store_number(store, STORE_PAGES, &store->page_count);

	if (r == 0)
		r = store_number(store, STORE_FREE_PAGES, &store->free_pages);
	return r;
}

/* Extends the database's file past what SQLite uses of it: writes, not just a larger size. */
static int extend_file(struct store *store, uint64_t pages)
{
	static const uint8_t zeros[16 * STORE_PAGE_BYTES];
	sqlite3_int64 start = (sqlite3_int64)(store->page_count * STORE_PAGE_BYTES);
	sqlite3_int64 end = start + (sqlite3_int64)(pages * STORE_PAGE_BYTES);
	sqlite3_file *file = NULL;
	int rc = sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);

	if (rc != SQLITE_OK)
		return store_error(store, rc, "file pointer");
	for (sqlite3_int64 at = start; rc == SQLITE_OK && at < end; at += sizeof(zeros))
		rc = file->pMethods->xWrite(file, zeros,
					    (int)MIN((sqlite3_int64)sizeof(zeros), end - at), at);
	if (rc == SQLITE_OK)
		rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
	if (rc == SQLITE_OK)
		return 0;
	(void)file->pMethods->xTruncate(file, start); /* else the next checkpoint does it */
	return (rc & 0xff) == SQLITE_FULL ? -ENOSPC : store_error(store, rc, "extend");
}

static int ballast_put(struct store *store, uint64_t pages)
{
	sqlite3_stmt *statement = store->statements[STORE_BALLAST_PUT];
	int rc = sqlite3_bind_int64(statement, 1, (sqlite3_int64)(pages * STORE_PAGE_BYTES));
	int r;

	ASSERT(rc == SQLITE_OK);
	/* Outside of a transaction: the statement is one. It failed as a whole when it fails. */
	r = store_run(store, STORE_BALLAST_PUT);
	store_rollback(store);
	return r;
}

static int fill(struct store *store, uint64_t pages)
{
	uint64_t growth = pages + pages / 512 + 2; /* overflow pages hold less than 4 KiB */
	int r = count_pages(store), r2; /* never guess: what lies behind is overwritten */

	if (r == 0)
		r = extend_file(store, growth);
	if (r == 0)
		r = limit_pages(store, store->page_count + growth);
	if (r)
		return r;
	r = ballast_put(store, pages);
	if (r == 0)
		r = store_checkpoint(store);
	r2 = store_run(store, STORE_BALLAST_DELETE);
	store_rollback(store);
	return r ? r : r2;
}

int store_space_fill(struct store *store, uint64_t pages)
{
	uint64_t more = MIN(MAX(store->page_count / 16, (uint64_t)FILL_PAGES),
			    (uint64_t)FILL_PAGES_MAX);
	int r, r2;

	r = fill(store, MAX(more, pages));
	if (r) {
		store->fill_countdown = FILL_RETRY_COMMITS;
		log_warning("catalog", "no room can be set aside", "error=%d", r);
	}
	r2 = count_pages(store);
	if (r2 == 0)
		r2 = limit_pages(store, store->page_count);
	return r ? r : r2;
}

static bool wal_is_short(struct store *store)
{
	sqlite3_file *file = NULL;
	sqlite3_int64 size = 0;
	int rc = sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);

	return rc != SQLITE_OK || !file || !file->pMethods ||
	       file->pMethods->xFileSize(file, &size) != SQLITE_OK ||
	       size < (sqlite3_int64)WAL_KEEP_FRAMES / 2 * WAL_FRAME_BYTES;
}

int store_space_init(struct store *store)
{
	int r = count_pages(store);

	if (r == 0)
		r = store_run(store, STORE_BALLAST_DELETE);
	store_rollback(store);
	if (r == 0)
		r = count_pages(store);
	if (r == 0)
		r = limit_pages(store, store->page_count);
	if (r == 0 && (store->free_pages < LOW_PAGES || wal_is_short(store)))
		r = store_space_fill(store, FILL_PAGES);
	return r == -ENOSPC ? 0 : r;
}

int store_space_check(struct store *store, bool all_delete)
{
	uint64_t free_pages;
	int r = store_number(store, STORE_FREE_PAGES, &free_pages);

	if (r)
		return r;
	if (!all_delete && free_pages < RESERVE_PAGES && free_pages < store->free_pages)
		return -ENOSPC;
	return 0;
}

static int checkpoint(struct store *store, int mode)
{
	int frames = 0, copied = 0;
	int rc = sqlite3_wal_checkpoint_v2(store->db, NULL, mode, &frames, &copied);

	if (rc != SQLITE_OK)
		return store_error(store, rc, "checkpoint");
	store->wal_frames = frames - copied;
	return 0;
}

int store_checkpoint(struct store *store)
{
	return checkpoint(store, SQLITE_CHECKPOINT_PASSIVE);
}

int store_restart_wal(struct store *store)
{
	return checkpoint(store, SQLITE_CHECKPOINT_RESTART);
}

static bool wants_fill(const struct store *store)
{
	return store->free_pages < LOW_PAGES && store->fill_countdown == 0;
}

bool store_wants_upkeep(const struct store *store)
{
	return store->wal_frames >= WAL_CHECKPOINT_FRAMES || wants_fill(store);
}

void store_upkeep(struct store *store)
{
	if (wants_fill(store))
		(void)store_space_fill(store, FILL_PAGES); /* it logs; commits get -ENOSPC */
	if (store->wal_frames >= WAL_CHECKPOINT_FRAMES)
		(void)store_checkpoint(store); /* it logs; the WAL grows until one succeeds */
}
