/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the database, its schema, and reads.
 *
 * Invariants
 *  1. locking_mode EXCLUSIVE, synchronous EXTRA and journal_mode WAL are set in this order before
 *     anything else: no shared memory is used, no other process can be connected, and every commit
 *     is synced before it returns.
 *  2. Nothing read from the database is believed before its types, lengths and CRC were checked.
 *     A row that fails is read a second time from the disk, because SQLite caches what one bad
 *     read gave.
 *  3. No statement stays open between calls, so that each read sees the last commit.
 *  4. The WAL that was found is copied into the database before anything is built upon it. A
 *     process before this one may have failed to sync the end of it: the kernel then goes on
 *     showing frames that are not on the disk and that no later sync writes. Commits that follow
 *     such frames in the WAL would be lost with them.
 *
 * Failure modes: see store_error(). Damage of SQLite's own structures gives -EUCLEAN like a bad
 * row.
 */
#include "catalog/store_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "codec/crc32c.h"

#define FORMAT_MAGIC "SARSENCT"

/* META row "format". */
struct store_format {
	uint8_t magic[8];
	uint8_t version[4];
	uint8_t zero[4];
};
_Static_assert(sizeof(struct store_format) == 16, "on disk");
_Static_assert(offsetof(struct store_format, version) == 8, "on disk");

#define FACTS_SQL                                                                      \
	"CREATE TABLE facts(key BLOB NOT NULL PRIMARY KEY, version INTEGER NOT NULL, " \
	"value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"
#define RANGE_SQL                                                                  \
	"SELECT key, version, value, crc FROM facts WHERE key >= ?1 AND key < ?2 " \
	"ORDER BY key LIMIT ?3"
#define BALLAST_SQL "CREATE TABLE ballast(data BLOB)"

static const char *const statement_sql[STORE_STATEMENT_COUNT] = {
	[STORE_BEGIN] = "BEGIN IMMEDIATE",
	[STORE_END] = "COMMIT",
	[STORE_ROLLBACK] = "ROLLBACK",
	[STORE_SELECT] = "SELECT key, version, value, crc FROM facts WHERE key = ?1",
	[STORE_RANGE] = RANGE_SQL,
	[STORE_PUT] = "INSERT OR REPLACE INTO facts VALUES(?1, ?2, ?3, ?4)",
	[STORE_DELETE] = "DELETE FROM facts WHERE key = ?1",
	[STORE_DELETE_RANGE] = "DELETE FROM facts WHERE key >= ?1 AND key < ?2",
	[STORE_FREE_PAGES] = "PRAGMA freelist_count",
	[STORE_PAGES] = "PRAGMA page_count",
	[STORE_BALLAST_PUT] = "INSERT INTO ballast VALUES(zeroblob(?1))",
	[STORE_BALLAST_DELETE] = "DELETE FROM ballast",
};

static int error_number(int rc, int system_error)
{
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
		return -EBUSY;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT:
		return -EUCLEAN;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_TOOBIG:
		return -E2BIG;
	case SQLITE_CANTOPEN:
	case SQLITE_IOERR:
		if (system_error == ENOSPC || system_error == EDQUOT)
			return -ENOSPC;
		if (system_error == EROFS || system_error == EACCES || system_error == ENOENT ||
		    system_error == ESHUTDOWN)
			return -system_error;
		return (rc == SQLITE_IOERR_NOMEM) ? -ENOMEM : -EIO;
	default:
		return -EIO;
	}
}

int store_error(struct store *store, int rc, const char *what)
{
	int r = error_number(rc, store->db ? sqlite3_system_errno(store->db) : 0);

	if (r != -ENOSPC && r != -ESHUTDOWN)
		log_warning("catalog", "SQLite failed", "call=\"%s\" code=%d error=%d text=\"%s\"",
			    what, rc, r,
			    store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc));
	return r;
}

static int run_sql(struct store *store, const char *sql)
{
	int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : store_error(store, rc, sql);
}

int store_run(struct store *store, enum store_statement index)
{
	sqlite3_stmt *statement = store->statements[index];
	int rc = sqlite3_step(statement);

	/* Before the reset, which would repeat the code but not always the system's error. */
	if (rc != SQLITE_DONE) {
		int r = store_error(store, rc, statement_sql[index]);

		(void)sqlite3_reset(statement);
		return r;
	}
	rc = sqlite3_reset(statement);
	return rc == SQLITE_OK ? 0 : store_error(store, rc, statement_sql[index]);
}

int store_number(struct store *store, enum store_statement index, uint64_t *ret_number)
{
	sqlite3_stmt *statement = store->statements[index];
	int rc = sqlite3_step(statement), r = 0;

	if (rc == SQLITE_ROW)
		*ret_number = (uint64_t)sqlite3_column_int64(statement, 0);
	else
		r = store_error(store, rc, statement_sql[index]);
	(void)sqlite3_reset(statement); /* repeats the code of the step */
	return r;
}

uint32_t store_row_crc(const struct catalog_key *key, uint64_t version, const void *value,
		       uint32_t length)
{
	uint8_t number[8];
	uint32_t crc = crc32c(key->bytes, key->length);

	put_le64(number, version);
	crc = crc32c_more(crc, number, sizeof(number));
	return crc32c_more(crc, value, length);
}

struct catalog_key store_prefix_end(const struct catalog_key *prefix)
{
	struct catalog_key end = *prefix;

	while (end.length > 0 && end.bytes[end.length - 1] == UINT8_MAX)
		end.length--;
	ASSERT(end.length > 0); /* no table has number 255 */
	end.bytes[end.length - 1]++;
	return end;
}

static void log_damage(const void *key, int length)
{
	char text[2 * CATALOG_KEY_MAX + 1];
	const uint8_t *bytes = key;
	int count = MIN(MAX(length, 0), CATALOG_KEY_MAX);

	for (int i = 0; i < count; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	text[2 * count] = '\0';
	log_error("catalog", "row is damaged", "key=%s", text);
}

/* The columns of the current row, validated. The value points into SQLite's memory. */
struct columns {
	struct catalog_key key;
	uint64_t version;
	const void *value;
	uint32_t length;
};

static int columns_read(sqlite3_stmt *statement, struct columns *ret_columns)
{
	const void *key = sqlite3_column_blob(statement, 0);
	int key_length = sqlite3_column_bytes(statement, 0);
	struct columns c = {
		.version = (uint64_t)sqlite3_column_int64(statement, 1),
		.value = sqlite3_column_blob(statement, 2),
		.length = (uint32_t)sqlite3_column_bytes(statement, 2),
	};

	if (!key && key_length > 0)
		return -ENOMEM;
	if (!c.value && c.length > 0)
		return -ENOMEM;
	if (key_length < 1 || key_length > CATALOG_KEY_MAX || c.length > CATALOG_VALUE_MAX ||
	    sqlite3_column_type(statement, 0) != SQLITE_BLOB ||
	    sqlite3_column_type(statement, 2) != SQLITE_BLOB) {
		log_damage(key, key_length);
		return -EUCLEAN;
	}
	c.key.length = (uint8_t)key_length;
	memcpy(c.key.bytes, key, (size_t)key_length);
	if (sqlite3_column_int64(statement, 3) !=
	    store_row_crc(&c.key, c.version, c.value, c.length)) {
		log_damage(key, key_length);
		return -EUCLEAN;
	}
	*ret_columns = c;
	return 0;
}

static int row_copy(const struct columns *columns, struct catalog_row *ret_row)
{
	uint8_t *value = malloc(columns->length + 1u);

	if (!value)
		return -ENOMEM;
	if (columns->length > 0)
		memcpy(value, columns->value, columns->length);
	value[columns->length] = 0;
	*ret_row = (struct catalog_row){
		.key = columns->key,
		.version = columns->version,
		.length = columns->length,
		.value = value,
	};
	return 0;
}

static void bind_key(sqlite3_stmt *statement, int index, const struct catalog_key *key)
{
	int rc = sqlite3_bind_blob(statement, index, key->bytes, key->length, SQLITE_STATIC);

	ASSERT(rc == SQLITE_OK); /* static data: no allocation; the statement is reset */
}

int store_select(struct store *store, const struct catalog_key *key, uint64_t *ret_version,
		 struct catalog_row *ret_row)
{
	sqlite3_stmt *statement = store->statements[STORE_SELECT];
	struct columns columns;
	int rc, r;

	bind_key(statement, 1, key);
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW) {
		r = columns_read(statement, &columns);
		if (r == 0 && ret_row)
			r = row_copy(&columns, ret_row);
		if (r == 0)
			*ret_version = columns.version;
	} else {
		r = rc == SQLITE_DONE ? -ENOENT : store_error(store, rc, "select");
	}
	(void)sqlite3_reset(statement); /* repeats the code of the step */
	return r;
}

static int rows_add(struct catalog_rows *rows, size_t *capacity, const struct columns *columns)
{
	int r;

	if (rows->count == *capacity) {
		size_t more = MAX(*capacity * 2, (size_t)16);
		struct catalog_row *grown = realloc(rows->rows, more * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		rows->rows = grown;
		*capacity = more;
	}
	r = row_copy(columns, &rows->rows[rows->count]);
	if (r == 0)
		rows->count++;
	return r;
}

/* What is known of a row that is damaged: where it lies. */
static int columns_read_key(sqlite3_stmt *statement, struct columns *ret_columns)
{
	const void *key = sqlite3_column_blob(statement, 0);
	int length = sqlite3_column_bytes(statement, 0);

	if (!key || length < 1 || length > CATALOG_KEY_MAX)
		return -EUCLEAN;
	*ret_columns = (struct columns){.key.length = (uint8_t)length};
	memcpy(ret_columns->key.bytes, key, (size_t)length);
	return 0;
}

static int scan_one(sqlite3_stmt *statement, bool all, struct catalog_rows *rows, size_t *capacity)
{
	struct columns columns;
	int r = columns_read(statement, &columns);
	bool damaged = all && r == -EUCLEAN;

	if (damaged)
		r = columns_read_key(statement, &columns);
	if (r == 0)
		r = rows_add(rows, capacity, &columns);
	if (r == 0)
		rows->rows[rows->count - 1].damaged = damaged;
	return r;
}

static int scan_steps(struct store *store, sqlite3_stmt *statement, bool all,
		      struct catalog_rows *rows)
{
	size_t capacity = 0;
	int rc, r = 0;

	while (r == 0 && (rc = sqlite3_step(statement)) != SQLITE_DONE) {
		if (rc != SQLITE_ROW)
			return store_error(store, rc, "scan");
		r = scan_one(statement, all, rows, &capacity);
	}
	return r;
}

static int store_scan(struct store *store, const struct store_request *request, bool all,
		      struct catalog_rows *ret_rows)
{
	sqlite3_stmt *statement = store->statements[STORE_RANGE];
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	struct catalog_key end = store_prefix_end(request->scan.prefix);
	uint8_t start[CATALOG_KEY_MAX + 1];
	const struct catalog_key *from =
		request->scan.after ? request->scan.after : request->scan.prefix;
	int length = from->length, rc, r;

	/* The first key that can come after `after` is itself with a zero byte behind. */
	memcpy(start, from->bytes, from->length);
	if (request->scan.after)
		start[length++] = 0;
	rc = sqlite3_bind_blob(statement, 1, start, length, SQLITE_STATIC);
	ASSERT(rc == SQLITE_OK);
	bind_key(statement, 2, &end);
	rc = sqlite3_bind_int64(statement, 3,
				request->scan.limit ? (sqlite3_int64)request->scan.limit : -1);
	ASSERT(rc == SQLITE_OK);
	r = scan_steps(store, statement, all, &rows);
	(void)sqlite3_reset(statement); /* repeats the code of the step */
	if (r)
		return r;
	*ret_rows = rows;
	rows = (struct catalog_rows){0};
	return 0;
}

static void bind_walk(sqlite3_stmt *statement, const uint8_t *start, int length)
{
	static const uint8_t end = UINT8_MAX; /* no table has this number */
	int rc = sqlite3_bind_blob(statement, 1, start, length, SQLITE_STATIC);

	ASSERT(rc == SQLITE_OK);
	rc = sqlite3_bind_blob(statement, 2, &end, 1, SQLITE_STATIC);
	ASSERT(rc == SQLITE_OK);
	rc = sqlite3_bind_int64(statement, 3, -1);
	ASSERT(rc == SQLITE_OK);
}

static int dump_steps(struct store *store, sqlite3_stmt *statement, size_t room,
		      struct catalog_rows *rows)
{
	struct columns columns;
	size_t capacity = 0;
	int rc, r = 0;

	while (r == 0 && (rc = sqlite3_step(statement)) != SQLITE_DONE) {
		struct mirror_entry entry;

		if (rc != SQLITE_ROW)
			return store_error(store, rc, "dump");
		r = columns_read(statement, &columns);
		if (r || store_key_is_local(&columns.key))
			continue;
		entry = (struct mirror_entry){.key = columns.key, .length = columns.length};
		if (rows->count > 0 && mirror_entry_bytes(&entry) > room)
			return 0;
		room -= MIN(room, mirror_entry_bytes(&entry));
		r = rows_add(rows, &capacity, &columns);
	}
	return r;
}

static int store_dump(struct store *store, const struct store_request *request,
		      struct catalog_rows *ret_rows)
{
	sqlite3_stmt *statement = store->statements[STORE_RANGE];
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key *after = &request->dump.after;
	uint8_t start[CATALOG_KEY_MAX + 1];
	int r;

	/* The first key that can come after `after` is itself with a zero byte behind. */
	memcpy(start, after->bytes, after->length);
	start[after->length] = 0;
	bind_walk(statement, start, after->length + 1);
	r = dump_steps(store, statement, request->dump.bytes, &rows);
	(void)sqlite3_reset(statement); /* repeats the code of the step */
	if (r)
		return r;
	*ret_rows = rows;
	rows = (struct catalog_rows){0};
	return 0;
}

static int count_steps(struct store *store, sqlite3_stmt *statement, uint64_t *ret_rows)
{
	struct catalog_key last = {0};
	struct columns columns;
	uint64_t count = 0;
	int rc, r;

	while ((rc = sqlite3_step(statement)) != SQLITE_DONE) {
		if (rc != SQLITE_ROW)
			return store_error(store, rc, "count");
		r = columns_read(statement, &columns);
		if (r)
			return r;
		if (mirror_key_compare(&last, &columns.key) >= 0) {
			log_damage(columns.key.bytes, columns.key.length);
			return -EUCLEAN;
		}
		last = columns.key;
		count += !store_key_is_local(&columns.key);
	}
	*ret_rows = count;
	return 0;
}

int store_count(struct store *store, uint64_t *ret_rows)
{
	sqlite3_stmt *statement = store->statements[STORE_RANGE];
	static const uint8_t start;
	int r;

	bind_walk(statement, &start, 1);
	r = count_steps(store, statement, ret_rows);
	(void)sqlite3_reset(statement); /* repeats the code of the step */
	return r;
}

int store_check(struct store *store)
{
	uint64_t rows;
	int r = store_count(store, &rows);

	if (r == -EUCLEAN) {
		/* As in store_read(): SQLite may have kept what one bad read gave. */
		(void)sqlite3_db_release_memory(store->db); /* always SQLITE_OK */
		r = store_count(store, &rows);
	}
	if (r == 0 && rows != store->position.rows) {
		log_error("catalog", "rows are missing or too many",
			  "rows=%" PRIu64 " expected=%" PRIu64, rows, store->position.rows);
		return -EUCLEAN;
	}
	return r;
}

/* `again`: what SQLite had kept does not count any more. */
static int read_one(struct store *store, struct store_request *request, bool again)
{
	uint64_t version;

	if (request->kind == STORE_GET)
		return store_select(store, request->get.key, &version, &request->get.row);
	if (request->kind == STORE_DUMP)
		return store_dump(store, request, &request->dump.rows);
	if (request->kind == STORE_CHECK) {
		(void)sqlite3_db_release_memory(store->db); /* always SQLITE_OK */
		return store_check(store);
	}
	return store_scan(store, request, again && request->scan.all, &request->scan.rows);
}

void store_read(struct store *store, struct list *requests)
{
	struct store_request *request;

	LIST_FOR_EACH (requests, request, struct store_request, link) {
		request->result = read_one(store, request, false);
		if (request->result != -EUCLEAN)
			continue;
		(void)sqlite3_db_release_memory(store->db); /* always SQLITE_OK */
		request->result = read_one(store, request, true);
	}
}

void store_set_damaged(struct store *store)
{
	store->damaged = true;
}

static int keep_wal_frames(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct store *store = arg;

	(void)db;
	(void)name;
	store->wal_frames = frames;
	return SQLITE_OK;
}

static int read_mode(void *arg, int count, char **values, char **names)
{
	(void)names;
	*(bool *)arg = count == 1 && values[0] && strcmp(values[0], "wal") == 0;
	return 0;
}

static int set_modes(struct store *store)
{
	bool is_wal = false;
	int rc, r;

	r = run_sql(store, "PRAGMA page_size = 4096");
	if (r == 0)
		r = run_sql(store, "PRAGMA locking_mode = EXCLUSIVE");
	if (r == 0)
		r = run_sql(store, "PRAGMA synchronous = EXTRA");
	if (r)
		return r;
	rc = sqlite3_exec(store->db, "PRAGMA journal_mode = WAL", read_mode, &is_wal, NULL);
	if (rc != SQLITE_OK)
		return store_error(store, rc, "journal_mode");
	if (!is_wal) {
		log_error("catalog", "the database cannot use a write-ahead log", " ");
		return -EIO;
	}
	/* Checkpoints are store_upkeep()'s; the WAL keeps its size, which is room set aside. */
	(void)sqlite3_wal_autocheckpoint(store->db, 0);
	(void)sqlite3_wal_hook(store->db, keep_wal_frames, store);
	return run_sql(store, "PRAGMA journal_size_limit = -1; PRAGMA cache_size = -16384;"
			      "PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON");
}

/* Whether a table exists with exactly the definition that we would give it. */
static int table_find(struct store *store, const char *name, const char *sql, bool *ret_found)
{
	sqlite3_stmt *statement = NULL;
	int rc = sqlite3_prepare_v2(store->db, "SELECT sql FROM sqlite_schema WHERE name = ?1", -1,
				    &statement, NULL);
	int r = 0;

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW) {
		const char *found = (const char *)sqlite3_column_text(statement, 0);

		*ret_found = true;
		if (!found || strcmp(found, sql) != 0) {
			log_error("catalog", "a table is not ours", "table=%s", name);
			r = -EUCLEAN;
		}
	} else if (rc == SQLITE_DONE) {
		*ret_found = false;
	} else {
		r = store_error(store, rc, "schema");
	}
	(void)sqlite3_finalize(statement); /* repeats the code of the step */
	return r;
}

static int prepare_statements(struct store *store)
{
	for (int i = 0; i < STORE_STATEMENT_COUNT; i++) {
		int rc = sqlite3_prepare_v3(store->db, statement_sql[i], -1,
					    SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);

		if (rc != SQLITE_OK)
			return store_error(store, rc, statement_sql[i]);
	}
	return 0;
}

static struct catalog_key format_key(void)
{
	struct catalog_key key = catalog_key(CATALOG_META);

	catalog_key_add_text(&key, "format");
	return key;
}

int store_format_put(struct store *store)
{
	struct catalog_key key = format_key();
	struct store_format format = {.magic = FORMAT_MAGIC};

	put_le32(format.version, STORE_FORMAT_VERSION);
	return store_put(store, &key, &format, sizeof(format));
}

/* The tables exist in the transaction that runs; the format row makes them a catalog. */
static int schema_fill(struct store *store)
{
	int r = prepare_statements(store);

	if (r == 0)
		r = store_format_put(store);
	if (r == 0)
		r = store_position_init(store, 1);
	return r;
}

/* Version 1 had no row for the position; who does not know it would leave it behind. */
static int upgrade(struct store *store)
{
	uint64_t rows;
	int r = store_count(store, &rows);

	if (r == 0)
		r = run_sql(store, "BEGIN IMMEDIATE");
	if (r == 0)
		r = store_format_put(store);
	if (r == 0)
		r = store_position_init(store, rows);
	if (r == 0)
		r = run_sql(store, "COMMIT");
	store_rollback(store);
	return r;
}

/* The changes so far are of no mirror. */
static int position_open(struct store *store, uint32_t version)
{
	int r = version == 1 ? upgrade(store) : store_position_load(store);

	if (r == -ENOENT) {
		log_error("catalog", "the row of the position is missing", " ");
		r = -EUCLEAN;
	}
	store->changes.length = 0;
	return r ? r : store_lineage_load(store);
}

static int schema_create(struct store *store)
{
	int r = run_sql(store, "BEGIN IMMEDIATE; " FACTS_SQL "; " BALLAST_SQL);

	if (r == 0)
		r = schema_fill(store);
	if (r == 0)
		r = run_sql(store, "COMMIT");
	return r;
}

static int format_check(struct store *store, uint32_t *ret_version)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct catalog_key key = format_key();
	const struct store_format *format;
	uint64_t row_version;
	uint32_t version;
	int r = store_select(store, &key, &row_version, &row);

	if (r == -ENOENT || (r == 0 && row.length < sizeof(*format)) ||
	    (r == 0 && memcmp(row.value, FORMAT_MAGIC, sizeof(format->magic)) != 0)) {
		log_error("catalog", "the format row is missing or not ours", "length=%u",
			  row.length);
		return -EUCLEAN;
	}
	if (r)
		return r;
	format = (const struct store_format *)row.value;
	version = get_le32(format->version);
	if (version > STORE_FORMAT_VERSION) {
		log_error("catalog", "the catalog was written by a newer version of this program",
			  "format=%" PRIu32 " supported=%u", version, STORE_FORMAT_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (version == 0) {
		log_error("catalog", "the format row is damaged", "format=0");
		return -EUCLEAN;
	}
	*ret_version = version;
	return 0;
}

static int schema_open(struct store *store, const struct catalog_options *options)
{
	bool has_facts, has_ballast;
	uint32_t version = 0;
	int r = table_find(store, "facts", FACTS_SQL, &has_facts);

	if (r)
		return r;
	/* A crash while it was made leaves a database without tables: none was there yet. */
	if (!has_facts) {
		r = options->create ? schema_create(store) : -ENOENT;
		store->changes.length = 0; /* of no mirror */
		return r;
	}
	r = table_find(store, "ballast", BALLAST_SQL, &has_ballast);
	if (r == 0 && !has_ballast) {
		log_error("catalog", "a table is missing", "table=ballast");
		r = -EUCLEAN;
	}
	if (r == 0)
		r = prepare_statements(store);
	if (r == 0)
		r = format_check(store, &version);
	if (r == 0)
		r = position_open(store, version);
	return r;
}

/* SQLite reports a missing file like any other failure to open, so look first. */
static int file_exists(const struct catalog_options *options, bool *ret_exists)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(options->vfs);
	int exists = 0;

	if (!vfs)
		return -EINVAL;
	if (vfs->xAccess(vfs, options->path, SQLITE_ACCESS_EXISTS, &exists) != SQLITE_OK)
		return -EIO;
	*ret_exists = exists != 0;
	return 0;
}

static int store_connect(struct store *store, const struct catalog_options *options)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
	int keep_wal = 1;
	bool exists;
	int rc, r = file_exists(options, &exists);

	if (r)
		return r;
	if (!exists && !options->create)
		return -ENOENT;
	if (options->create)
		flags |= SQLITE_OPEN_CREATE;
	rc = sqlite3_open_v2(options->path, &store->db, flags, options->vfs);
	if (rc != SQLITE_OK)
		return store_error(store, rc, "open");
	(void)sqlite3_extended_result_codes(store->db, 1);
	if (sqlite3_db_readonly(store->db, "main") == 1)
		return -EROFS;
	/* Nothing in the file may run code; a VFS without this control deletes the WAL at close. */
	(void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	(void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	(void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep_wal);
	return 0;
}

DEFINE_CLEANUP(struct store *, store_close)

int store_open(const struct catalog_options *options, struct store **ret_store)
{
	_cleanup_(store_closep) struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return -ENOMEM;
	list_init(&store->counters);
	r = store_connect(store, options);
	if (r == 0)
		r = set_modes(store);
	if (r == 0)
		r = schema_open(store, options);
	if (r == 0)
		r = store_restart_wal(store);
	if (r == 0)
		r = store_space_init(store);
	if (r)
		return r;
	*ret_store = TAKE_PTR(store);
	return 0;
}

void store_close(struct store *store)
{
	struct store_counter *counter;

	if (!store)
		return;
	for (int i = 0; i < STORE_STATEMENT_COUNT; i++)
		(void)sqlite3_finalize(store->statements[i]); /* repeats the last error */
	if (sqlite3_close(store->db) != SQLITE_OK)
		log_warning("catalog", "the database did not close cleanly", " ");
	LIST_FOR_EACH (&store->counters, counter, struct store_counter, link) {
		list_remove(&counter->link);
		free(counter);
	}
	free(store->changes.data);
	free(store);
}
