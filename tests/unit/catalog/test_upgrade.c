/* SPDX-License-Identifier: Apache-2.0 */
/* A catalog of version 1, which had no row for the position, is brought up when it is opened; with
 * the power cut at each step of that, too. */
#include "sim_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "catalog/catalog.h"
#include "codec/crc32c.h"

#define DISK       "/state"
#define PATH       DISK "/catalog.db"
#define DISK_BYTES (64 * MIB)
#define ROWS       40u
#define STRIDE     7u

static struct sim_rig rig;
static uint64_t step; /* that the power fails at */
static bool dead;

static int open_catalog(struct catalog **ret_catalog)
{
	struct catalog_options options = {.path = PATH, .vfs = SIM_VFS_NAME, .create = true};

	return catalog_open(sim_world(rig.sim), &options, ret_catalog);
}

static struct catalog_key job_key(uint64_t number)
{
	struct catalog_key key = catalog_key(CATALOG_JOB);

	catalog_key_add(&key, number);
	return key;
}

/* As version 1 left it: its number in the format row, and no other row of the catalog's own. */
static void set_back(void)
{
	static const uint8_t key[] = "\001format";
	uint8_t value[16] = "SARSENCT", number[8];
	sqlite3_stmt *statement;
	sqlite3 *db;
	uint32_t crc;

	put_le32(value + 8, 1);
	put_le64(number, 1);
	crc = crc32c_more(crc32c(key, 7), number, sizeof(number));
	crc = crc32c_more(crc, value, sizeof(value));
	ASSERT(sqlite3_open_v2(PATH, &db, SQLITE_OPEN_READWRITE, SIM_VFS_NAME) == SQLITE_OK);
	ASSERT(sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK);
	ASSERT(sqlite3_exec(db, "DELETE FROM facts WHERE key < x'02'", NULL, NULL, NULL) ==
	       SQLITE_OK);
	ASSERT(sqlite3_prepare_v2(db, "INSERT INTO facts VALUES (?1, 1, ?2, ?3)", -1, &statement,
				  NULL) == SQLITE_OK);
	ASSERT(sqlite3_bind_blob(statement, 1, key, 7, SQLITE_STATIC) == SQLITE_OK);
	ASSERT(sqlite3_bind_blob(statement, 2, value, sizeof(value), SQLITE_STATIC) == SQLITE_OK);
	ASSERT(sqlite3_bind_int64(statement, 3, crc) == SQLITE_OK);
	ASSERT(sqlite3_step(statement) == SQLITE_DONE);
	ASSERT(sqlite3_finalize(statement) == SQLITE_OK);
	ASSERT(sqlite3_close(db) == SQLITE_OK);
}

static void upgrade_run(void *arg)
{
	struct catalog *catalog;

	(void)arg;
	ASSERT(open_catalog(&catalog) == 0);
	for (uint64_t i = 0; i < ROWS; i++) {
		struct catalog_change change = {
			.kind = CATALOG_PUT, .key = job_key(i), .value = &i, .length = sizeof(i)};

		ASSERT(catalog_commit(catalog, &change, 1) == 0);
	}
	catalog_close(catalog);
	set_back();
	sim_crash_nth(rig.sim, step, SIM_CRASH_POWER);
	if (open_catalog(&catalog) == 0)
		catalog_close(catalog);
	dead = sim_is_dead(rig.sim);
	sim_crash_nth(rig.sim, 0, SIM_CRASH_POWER);
}

/* Opened as version 2, which refuses a catalog without its position; twice. */
static void verify_run(void *arg)
{
	const struct catalog_key prefix = catalog_key(CATALOG_JOB);
	struct catalog *catalog;
	struct catalog_row row;
	struct catalog_rows rows;
	struct catalog_key format = catalog_key(CATALOG_META), position = format;

	(void)arg;
	catalog_key_add_text(&format, "format");
	catalog_key_add_text(&position, "position");
	for (unsigned turn = 0; turn < 2; turn++) {
		ASSERT(open_catalog(&catalog) == 0);
		ASSERT(catalog_get(catalog, &format, &row) == 0);
		ASSERT(row.length == 16 && get_le32(row.value + 8) == 2);
		catalog_row_done(&row);
		ASSERT(catalog_get(catalog, &position, &row) == 0);
		catalog_row_done(&row);
		ASSERT(catalog_scan(catalog, &prefix, NULL, 0, &rows) == 0);
		ASSERT(rows.count == ROWS);
		for (uint64_t i = 0; i < ROWS; i++)
			ASSERT(memcmp(rows.rows[i].value, &i, sizeof(i)) == 0);
		catalog_rows_done(&rows);
		catalog_close(catalog);
	}
}

static void brings_up_version_1(void **state)
{
	(void)state;
	sim_rig_silence_log();
	dead = true;
	for (step = 1; dead; step += STRIDE) {
		sim_rig_init(&rig, step, 1);
		ASSERT(sim_disk_add(rig.sim, DISK, DISK_BYTES) == 0);
		sim_rig_run(&rig, 0, upgrade_run, NULL);
		if (dead)
			sim_rig_restart(&rig);
		sim_rig_run(&rig, 0, verify_run, NULL);
		sim_rig_done(&rig);
	}
	print_message("beyond %u\n", (unsigned)step);
	assert_true(step > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(brings_up_version_1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
