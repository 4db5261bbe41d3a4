/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/raw.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "catalog/store_priv.h"

#define FAULTS_MAX "100" /* that SQLite tells of its own structures */

struct reading {
	const struct catalog_raw *raw;
	sqlite3 *db;
	struct catalog_rows rows;
	size_t capacity;
	int error; /* of the check: a page was not given by the system */
};

static void tell(const struct reading *reading, const char *what, const void *key, int length)
{
	struct catalog_raw_damage damage = {.what = what};

	damage.key.length = (uint8_t)MIN(MAX(length, 0), CATALOG_KEY_MAX);
	if (damage.key.length)
		memcpy(damage.key.bytes, key, damage.key.length);
	reading->raw->damage(reading->raw->arg, &damage);
}

static int add_row(struct reading *reading, const struct catalog_row *row)
{
	struct catalog_rows *rows = &reading->rows;

	if (rows->count == reading->capacity) {
		size_t more = MAX(reading->capacity * 2, (size_t)256);
		struct catalog_row *grown = realloc(rows->rows, more * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		rows->rows = grown;
		reading->capacity = more;
	}
	rows->rows[rows->count] = *row;
	rows->rows[rows->count].value = malloc(row->length + 1u);
	if (!rows->rows[rows->count].value)
		return -ENOMEM;
	if (row->length)
		memcpy(rows->rows[rows->count].value, row->value, row->length);
	rows->rows[rows->count].value[row->length] = 0;
	rows->count++;
	return 0;
}

static int take_row(struct reading *reading, sqlite3_stmt *statement)
{
	const void *key = sqlite3_column_blob(statement, 0);
	int length = sqlite3_column_bytes(statement, 0);
	struct catalog_row row = {.version = (uint64_t)sqlite3_column_int64(statement, 1)};

	row.value = (uint8_t *)sqlite3_column_blob(statement, 2);
	row.length = (uint32_t)sqlite3_column_bytes(statement, 2);
	if (!key || length < 1 || length > CATALOG_KEY_MAX || row.length > CATALOG_VALUE_MAX ||
	    sqlite3_column_type(statement, 0) != SQLITE_BLOB ||
	    sqlite3_column_type(statement, 2) != SQLITE_BLOB) {
		tell(reading, "a row has columns of a wrong kind or size", key, key ? length : 0);
		return 0;
	}
	row.key.length = (uint8_t)length;
	memcpy(row.key.bytes, key, (size_t)length);
	if (sqlite3_column_int64(statement, 3) !=
	    store_row_crc(&row.key, row.version, row.value, row.length)) {
		tell(reading, "a row does not match its checksum", key, length);
		return 0;
	}
	return add_row(reading, &row);
}

/* What the system did not give is no damage of the database: 0 for that. */
static int system_error(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_BUSY:
	case SQLITE_READONLY:
		return rc == SQLITE_IOERR_NOMEM ? -ENOMEM : -EIO;
	default:
		return 0;
	}
}

/* The check tells in words alone that it could not read a page. Numbers of pages that are beyond
 * the end it tells before. */
static int page_error(const char *words)
{
	static const char with_code[] = "error code=", without[] = "failed to get page";
	const char *code = strstr(words, with_code);

	if (code)
		return system_error(atoi(code + sizeof(with_code) - 1));
	return strstr(words, without) ? -EIO : 0;
}

static int on_fault(void *arg, int count, char **values, char **names)
{
	struct reading *reading = arg;
	int r;

	(void)names;
	if (count != 1 || !values[0] || strcmp(values[0], "ok") == 0)
		return 0;
	r = page_error(values[0]);
	if (r == 0)
		tell(reading, values[0], NULL, 0);
	reading->error = reading->error ? reading->error : r;
	return 0;
}

static int open_database(struct reading *reading)
{
	int rc = sqlite3_open_v2(reading->raw->path, &reading->db, SQLITE_OPEN_READWRITE,
				 reading->raw->vfs);

	if (rc == SQLITE_CANTOPEN)
		return -ENOENT;
	if (rc != SQLITE_OK)
		return rc == SQLITE_NOMEM ? -ENOMEM : -EIO;
	/* No shared memory, as the catalog itself does it. */
	(void)sqlite3_exec(reading->db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
	(void)sqlite3_exec(reading->db, "PRAGMA cell_size_check = ON", NULL, NULL, NULL);
	return 0;
}

static int tell_error(struct reading *reading, const char *doing, int rc)
{
	char text[256];
	int r = system_error(rc);

	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%s: %s", doing, sqlite3_errstr(rc));
	tell(reading, text, NULL, 0);
	return 0;
}

static int read_rows(struct reading *reading)
{
	sqlite3_stmt *statement = NULL;
	int rc, r = 0;

	rc = sqlite3_prepare_v2(reading->db,
				"SELECT key, version, value, crc FROM facts ORDER BY key", -1,
				&statement, NULL);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(statement);
		if (rc == SQLITE_ROW)
			r = take_row(reading, statement);
		if (r < 0)
			break;
	}
	if (r == 0 && rc != SQLITE_DONE)
		r = tell_error(reading, "not all rows can be read", rc);
	(void)sqlite3_finalize(statement); /* repeats the code of the step */
	return r;
}

int catalog_raw_read(const struct catalog_raw *raw, struct catalog_rows *ret_rows)
{
	struct reading reading = {.raw = raw};
	int rc, r;

	r = open_database(&reading);
	if (r == 0) {
		rc = sqlite3_exec(reading.db, "PRAGMA integrity_check(" FAULTS_MAX ")", on_fault,
				  &reading, NULL);
		if (rc != SQLITE_OK)
			r = tell_error(&reading, "the database cannot be checked", rc);
		if (r == 0)
			r = reading.error;
	}
	if (r == 0)
		r = read_rows(&reading);
	(void)sqlite3_close(reading.db); /* no statement is left */
	if (r < 0) {
		catalog_rows_done(&reading.rows);
		return r;
	}
	*ret_rows = reading.rows;
	return 0;
}

bool catalog_raw_is_whole(const struct catalog_rows *rows)
{
	const struct catalog_row *found = NULL;
	struct catalog_position position;
	uint64_t count = 0;

	for (size_t i = 0; i < rows->count; i++) {
		if (store_key_is_position(&rows->rows[i].key))
			found = &rows->rows[i];
		count += !store_key_is_local(&rows->rows[i].key);
	}
	return !found || (store_position_decode(found, &position) == 0 && position.rows == count);
}
