/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commits. All requests that wait share one transaction: one sync of the WAL for all of them.
 *
 * Happy path: BEGIN; for each request check what it expects, then apply it; COMMIT.
 *
 * Invariants
 *  1. A request is applied as a whole or not at all: what can fail for one request alone
 *     (expectations, a damaged old row) is checked before its first change. Anything else rolls
 *     the transaction back; requests that shared it are then tried one by one, if the cause can
 *     be one of them.
 *  2. A COMMIT that failed may have left its frames in the WAL complete, and a restart would then
 *     find them committed. So after one, `uncertain` is set until a fence transaction has
 *     succeeded: SQLite writes it to the same place of the WAL, which ends the failed one for
 *     good. Only then is an error reported that says "nothing was changed and nothing will be".
 *  3. Ids are given out only from a range whose end is durable.
 */
#include "catalog/store_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"

#define IDS_BLOCK 64u

void store_rollback(struct store *store)
{
	/* SQLite rolls back by itself after some errors. */
	if (!sqlite3_get_autocommit(store->db))
		(void)store_run(store, STORE_ROLLBACK); /* it logs; the next BEGIN fails then */
}

static void bind_data(sqlite3_stmt *statement, int index, const void *data, uint32_t length)
{
	int rc = length > 0 ? sqlite3_bind_blob(statement, index, data, (int)length, SQLITE_STATIC)
			    : sqlite3_bind_zeroblob(statement, index, 0);

	ASSERT(rc == SQLITE_OK); /* static data: no allocation; the statement is reset */
}

static void bind_number(sqlite3_stmt *statement, int index, uint64_t number)
{
	int rc = sqlite3_bind_int64(statement, index, (sqlite3_int64)number);

	ASSERT(rc == SQLITE_OK);
}

int store_put(struct store *store, const struct catalog_key *key, const void *value,
	      uint32_t length)
{
	sqlite3_stmt *statement = store->statements[STORE_PUT];
	struct mirror_entry entry = {
		.kind = CATALOG_PUT, .key = *key, .length = length, .value = value};
	uint64_t version = 0;
	int r = store_select(store, key, &version, NULL);

	if (r && r != -ENOENT)
		return r;
	entry.version = ++version;
	r = store_changes_add(store, &entry, r == -ENOENT ? 1 : 0);
	if (r)
		return r;
	bind_data(statement, 1, key->bytes, key->length);
	bind_number(statement, 2, version);
	bind_data(statement, 3, value, length);
	bind_number(statement, 4, store_row_crc(key, version, value, length));
	return store_run(store, STORE_PUT);
}

/* Tells the mirrors, unless nothing was there. */
static int deleted(struct store *store, enum catalog_change_kind kind,
		   const struct catalog_key *key)
{
	const struct mirror_entry entry = {.kind = kind, .key = *key};
	int64_t rows = sqlite3_changes(store->db);

	return rows > 0 ? store_changes_add(store, &entry, -rows) : 0;
}

static int delete_one(struct store *store, const struct catalog_key *key)
{
	int r;

	bind_data(store->statements[STORE_DELETE], 1, key->bytes, key->length);
	r = store_run(store, STORE_DELETE);
	return r ? r : deleted(store, CATALOG_DELETE, key);
}

static int delete_prefix(struct store *store, const struct catalog_key *prefix)
{
	struct catalog_key end = store_prefix_end(prefix);
	sqlite3_stmt *statement = store->statements[STORE_DELETE_RANGE];
	int r;

	bind_data(statement, 1, prefix->bytes, prefix->length);
	bind_data(statement, 2, end.bytes, end.length);
	r = store_run(store, STORE_DELETE_RANGE);
	return r ? r : deleted(store, CATALOG_DELETE_PREFIX, prefix);
}

static int change_apply(struct store *store, const struct catalog_change *change)
{
	switch (change->kind) {
	case CATALOG_PUT:
		return store_put(store, &change->key, change->value, change->length);
	case CATALOG_DELETE:
		return delete_one(store, &change->key);
	case CATALOG_DELETE_PREFIX:
		return delete_prefix(store, &change->key);
	case CATALOG_EXPECT:
		return 0;
	}
	ASSERT(!"kind of change");
	return -EINVAL;
}

/* What concerns this request alone: 0, -ESTALE, -EUCLEAN. */
static int changes_check(struct store *store, const struct store_request *request)
{
	for (size_t i = 0; i < request->commit.count; i++) {
		const struct catalog_change *change = &request->commit.changes[i];
		uint64_t version = 0;
		int r;

		if (change->kind != CATALOG_EXPECT && change->kind != CATALOG_PUT)
			continue;
		r = store_select(store, &change->key, &version, NULL);
		if (r && r != -ENOENT)
			return r;
		if (change->kind == CATALOG_EXPECT && version != change->version)
			return -ESTALE;
	}
	return 0;
}

static bool request_deletes(const struct store_request *request)
{
	/* One row, rewritten in place: may use the room set aside. */
	if (request->kind == STORE_IDS || request->commit.is_urgent)
		return true;
	for (size_t i = 0; i < request->commit.count; i++)
		if (request->commit.changes[i].kind == CATALOG_DELETE ||
		    request->commit.changes[i].kind == CATALOG_DELETE_PREFIX)
			return true;
	return false;
}

static int counter_find(struct store *store, const char *name, struct store_counter **ret_counter)
{
	struct store_counter *counter;

	LIST_FOR_EACH (&store->counters, counter, struct store_counter, link) {
		if (strcmp(counter->name, name) == 0) {
			*ret_counter = counter;
			return 0;
		}
	}
	counter = calloc(1, sizeof(*counter));
	if (!counter)
		return -ENOMEM;
	ASSERT(strlen(name) < sizeof(counter->name));
	memcpy(counter->name, name, strlen(name));
	list_push_back(&store->counters, &counter->link);
	*ret_counter = counter;
	return 0;
}

static struct catalog_key counter_key(const struct store_counter *counter)
{
	struct catalog_key key = catalog_key(CATALOG_META);

	catalog_key_add_text(&key, "id:");
	catalog_key_add_text(&key, counter->name);
	return key;
}

static int counter_load(struct store *store, struct store_counter *counter)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct catalog_key key = counter_key(counter);
	uint64_t version;
	int r = store_select(store, &key, &version, &row);

	if (r && r != -ENOENT)
		return r;
	if ((r == 0 && row.length != sizeof(uint64_t)) || (r == -ENOENT && store->damaged)) {
		log_error("catalog", "a counter is damaged or missing", "counter=%s length=%u",
			  counter->name, row.length);
		return -EUCLEAN;
	}
	counter->end = r == 0 ? get_le64(row.value) : 1;
	counter->next = counter->end;
	counter->loaded = true;
	return 0;
}

static bool ids_are_ready(const struct store_counter *counter, uint64_t count)
{
	return counter->loaded && counter->end - counter->next >= count;
}

/* In a transaction, unless the ids are there already. */
static int ids_reserve(struct store *store, struct store_request *request)
{
	struct catalog_key key;
	struct store_counter *counter;
	uint64_t count = request->ids.count, block = MAX(count, (uint64_t)IDS_BLOCK);
	uint8_t value[8];
	int r = counter_find(store, request->ids.counter, &counter);

	if (r == 0 && !counter->loaded)
		r = counter_load(store, counter);
	if (r)
		return r;
	if (!ids_are_ready(counter, count)) {
		if (block > INT64_MAX || counter->end > INT64_MAX - block)
			return -EOVERFLOW;
		put_le64(value, counter->end + block);
		key = counter_key(counter);
		r = store_put(store, &key, value, sizeof(value));
		if (r)
			return r;
		counter->end += block;
	}
	request->ids.first = counter->next;
	counter->next += count;
	return 0;
}

static void counters_save(struct store *store)
{
	struct store_counter *counter;

	LIST_FOR_EACH (&store->counters, counter, struct store_counter, link) {
		counter->saved_loaded = counter->loaded;
		counter->saved_next = counter->next;
		counter->saved_end = counter->end;
	}
}

static void counters_restore(struct store *store)
{
	struct store_counter *counter;

	/* One made since counters_save() was not loaded then. */
	LIST_FOR_EACH (&store->counters, counter, struct store_counter, link) {
		counter->loaded = counter->saved_loaded;
		counter->next = counter->saved_next;
		counter->end = counter->saved_end;
	}
}

static int end_transaction(struct store *store)
{
	int r = store_run(store, STORE_END);

	/* A file system that refuses to write has not written. */
	if (r && (r != -EROFS || sqlite3_extended_errcode(store->db) == SQLITE_IOERR_FSYNC))
		store->uncertain = true;
	return r;
}

/* Overwrites what a failed commit may have left in the WAL. */
static int fence(struct store *store)
{
	struct catalog_key key = catalog_key(CATALOG_META);
	int r;

	catalog_key_add_text(&key, "fence");
	r = store_run(store, STORE_BEGIN);
	if (r == 0)
		r = store_put(store, &key, NULL, 0);
	if (r == 0)
		r = end_transaction(store);
	store_rollback(store);
	if (r == 0)
		store->uncertain = false;
	return r;
}

/*
 * Applies one request. A result that concerns it alone is set in the request; the return value is
 * for failures of the transaction.
 */
static int request_apply(struct store *store, struct store_request *request)
{
	int r;

	if (request->kind == STORE_IDS)
		return ids_reserve(store, request);
	r = changes_check(store, request);
	if (r == -ESTALE || r == -EUCLEAN) {
		request->result = r;
		return 0;
	}
	for (size_t i = 0; r == 0 && i < request->commit.count; i++)
		r = change_apply(store, &request->commit.changes[i]);
	return r;
}

static int requests_apply(struct store *store, struct list *requests)
{
	struct store_request *request;
	bool all_delete = true;
	int r = store_run(store, STORE_BEGIN);

	LIST_FOR_EACH (requests, request, struct store_request, link) {
		if (r == 0)
			r = request_apply(store, request);
		all_delete = all_delete && request_deletes(request);
	}
	if (r == 0)
		r = store_changes_end(store);
	if (r == 0)
		r = store_space_check(store, all_delete);
	if (r == 0)
		r = end_transaction(store);
	return r;
}

/* One transaction for all of `requests`. On failure their results are not set. */
static int transaction(struct store *store, struct list *requests)
{
	struct store_request *request;
	int r;

	if (store->uncertain && fence(store) != 0)
		return -ENOTRECOVERABLE;
	LIST_FOR_EACH (requests, request, struct store_request, link)
		request->result = 0;
	counters_save(store);
	store_changes_begin(store);
	r = requests_apply(store, requests);
	if (r) {
		store_rollback(store);
		counters_restore(store);
		store_changes_rollback(store);
		if (r != -ESHUTDOWN && store->uncertain && fence(store) != 0)
			return -ENOTRECOVERABLE;
		return r;
	}
	store_changes_commit(store);
	if (store->fill_countdown > 0)
		store->fill_countdown--;
	/* A failure only delays upkeep; it was logged. */
	(void)store_number(store, STORE_FREE_PAGES, &store->free_pages);
	return 0;
}

/* Ids that are reserved already need no transaction. */
static void answer_ready_ids(struct store *store, struct list *requests, struct list *done)
{
	struct store_request *request;

	LIST_FOR_EACH (requests, request, struct store_request, link) {
		struct store_counter *counter;

		if (request->kind != STORE_IDS ||
		    counter_find(store, request->ids.counter, &counter) != 0 ||
		    !ids_are_ready(counter, request->ids.count))
			continue;
		request->result = ids_reserve(store, request);
		list_remove(&request->link);
		list_push_back(done, &request->link);
	}
}

/* A guess from above of the pages that the requests may need. */
static uint64_t pages_needed(struct list *requests)
{
	struct store_request *request;
	uint64_t bytes = 0, changes = 0;

	LIST_FOR_EACH (requests, request, struct store_request, link) {
		if (request->kind != STORE_COMMIT)
			continue;
		changes += request->commit.count;
		for (size_t i = 0; i < request->commit.count; i++)
			bytes += request->commit.changes[i].length;
	}
	return bytes / (STORE_PAGE_BYTES / 2) + 2 * changes + 2 * STORE_PAGE_BYTES / 64;
}

static bool one_may_be_the_cause(int error)
{
	return error == -ENOSPC || error == -EUCLEAN || error == -E2BIG || error == -ENOMEM ||
	       error == -EOVERFLOW;
}

static void write_one_by_one(struct store *store, struct list *requests, struct list *done)
{
	struct list_node *node;

	while ((node = list_pop_front(requests))) {
		struct store_request *request = LIST_ENTRY(node, struct store_request, link);
		struct list single;
		int r;

		list_init(&single);
		list_push_back(&single, node);
		r = transaction(store, &single);
		if (r)
			request->result = r;
		list_splice_back(done, &single);
	}
}

static void write_together(struct store *store, struct list *requests, struct list *done)
{
	struct store_request *request;
	int r = transaction(store, requests);

	if (r == -ENOSPC && store_space_fill(store, pages_needed(requests)) == 0)
		r = transaction(store, requests);
	if (r && one_may_be_the_cause(r) && list_front(requests) != list_back(requests)) {
		write_one_by_one(store, requests, done);
		return;
	}
	if (r)
		LIST_FOR_EACH (requests, request, struct store_request, link)
			request->result = r;
	list_splice_back(done, requests);
}

void store_write(struct store *store, struct list *requests)
{
	struct list done;

	list_init(&done);
	answer_ready_ids(store, requests, &done);
	if (!list_is_empty(requests))
		write_together(store, requests, &done);
	list_splice_back(requests, &done);
}
