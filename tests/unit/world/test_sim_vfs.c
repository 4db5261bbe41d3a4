/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_fixture.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define DATABASE "/d/db/catalog"

struct run {
	struct fixture f;
	sqlite3 *db;
	uint64_t committed; /* transactions that were acknowledged */
	uint64_t present;   /* the last one that is seen; if not acknowledged, it may vanish */
	unsigned commits, losses;
};

static bool run_sql(struct run *run, const char *sql)
{
	return sqlite3_exec(run->db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static int read_text(void *arg, int columns, char **values, char **names)
{
	(void)columns;
	(void)names;
	snprintf(arg, 100, "%s", values[0] ? values[0] : "");
	return 0;
}

static bool query(struct run *run, const char *sql, char text[100])
{
	text[0] = '\0';
	return sqlite3_exec(run->db, sql, read_text, text, NULL) == SQLITE_OK;
}

static bool open_database(struct run *run, const char *path)
{
	char mode[100];
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;

	if (sqlite3_open_v2(path, &run->db, flags, SIM_VFS_NAME) != SQLITE_OK)
		return false;
	return run_sql(run, "PRAGMA locking_mode = EXCLUSIVE") &&
	       run_sql(run, "PRAGMA synchronous = EXTRA") &&
	       query(run, "PRAGMA journal_mode = WAL", mode) && strcmp(mode, "wal") == 0 &&
	       run_sql(run, "PRAGMA wal_autocheckpoint = 20") &&
	       run_sql(run, "CREATE TABLE IF NOT EXISTS t (id INTEGER, part INTEGER, data BLOB,"
			    " PRIMARY KEY (id, part))");
}

static void close_database(struct run *run)
{
	assert_int_equal(sqlite3_close(run->db), SQLITE_OK);
	run->db = NULL;
}

/*
 * Each transaction has three rows. All that were acknowledged are there, of the last one all
 * or none. Nothing is learned when the crash comes in the middle.
 */
static void check(struct run *run)
{
	char text[3][100];
	uint64_t count, last;
	bool answered = query(run, "PRAGMA integrity_check", text[0]) &&
			query(run, "SELECT count(*) FROM t", text[1]) &&
			query(run, "SELECT ifnull(max(id), 0) FROM t", text[2]);

	if (sim_is_dead(run->f.sim))
		return;
	assert_true(answered);
	assert_string_equal(text[0], "ok");
	count = strtoull(text[1], NULL, 10);
	last = strtoull(text[2], NULL, 10);
	assert_int_equal(count, last * 3);
	assert_true(last >= run->committed && last <= run->present + 1);
	run->present = last;
}

static bool commit_one(struct run *run)
{
	char sql[400];

	snprintf(sql, sizeof(sql),
		 "BEGIN; INSERT INTO t SELECT %llu, column1, zeroblob(%llu) FROM "
		 "(VALUES (1), (2), (3)); COMMIT",
		 (unsigned long long)run->present + 1,
		 (unsigned long long)sim_random_below(run->f.sim, 6000) + 1);
	if (!run_sql(run, sql))
		return false;
	run->committed = ++run->present;
	run->commits++;
	return true;
}

static void live_until_crash(struct run *run, enum sim_crash kind)
{
	sim_crash_nth(run->f.sim, 1 + sim_random_below(run->f.sim, 800), kind);
	while (open_database(run, DATABASE)) {
		check(run);
		for (unsigned i = 0; i < 30 && commit_one(run); i++)
			;
		if (sim_is_dead(run->f.sim))
			break;
		close_database(run);
	}
	assert_true(sim_is_dead(run->f.sim));
	close_database(run);
	fixture_crash(&run->f, kind);
	run->losses++;
}

static void start(struct run *run, uint64_t seed)
{
	memset(run, 0, sizeof(*run));
	fixture_start(&run->f, seed, 64 * MIB);
	assert_int_equal(fixture_make(&run->f, "/d/db"), 0);
	assert_int_equal(fixture_directory_sync(&run->f, "/d"), 0);
}

static void survives_crashes(void **state)
{
	unsigned commits = 0, losses = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct run run;

		start(&run, seed);
		for (unsigned life = 0; life < 50; life++)
			live_until_crash(&run, sim_random_below(run.f.sim, 4) == 0
						       ? SIM_CRASH_PROCESS
						       : SIM_CRASH_POWER);
		assert_true(open_database(&run, DATABASE));
		check(&run);
		close_database(&run);
		commits += run.commits;
		losses += run.losses;
		fixture_stop(&run.f);
	}
	printf("%u commits, %u crashes\n", commits, losses);
	assert_true(losses == 2000 && commits > losses);
}

static void commit_job(void *arg)
{
	while (commit_one(arg))
		;
}

/* The crash comes while a worker is in SQLite. */
static void crash_within_a_job(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct fixture_op op;
		struct run run;

		start(&run, seed);
		assert_true(open_database(&run, DATABASE));
		sim_crash_nth(run.f.sim, 20 + seed * 5, SIM_CRASH_POWER);
		run.f.world->ops->job(run.f.port, commit_job, &run, fixture_op(&op));
		assert_int_equal(fixture_wait(&run.f, &op), -ESHUTDOWN);
		close_database(&run);
		fixture_crash(&run.f, SIM_CRASH_PROCESS);
		assert_true(open_database(&run, DATABASE));
		check(&run);
		close_database(&run);
		fixture_stop(&run.f);
	}
}

/* The net has no hole: without syncs, committed transactions are lost. */
static void finds_missing_syncs(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct run run;
		char text[100];

		start(&run, seed);
		assert_true(open_database(&run, DATABASE));
		assert_true(run_sql(&run, "PRAGMA synchronous = OFF"));
		for (unsigned i = 0; i < 10; i++)
			assert_true(commit_one(&run));
		sim_crash(run.f.sim, SIM_CRASH_POWER);
		close_database(&run);
		fixture_crash(&run.f, SIM_CRASH_POWER);
		if (!open_database(&run, DATABASE) ||
		    !query(&run, "SELECT ifnull(max(id), 0) FROM t", text) ||
		    strtoull(text, NULL, 10) < run.committed)
			lost++;
		close_database(&run);
		fixture_stop(&run.f);
	}
	assert_true(lost > 10);
}

static void live_with_faults(struct run *run)
{
	const struct sim_faults faults = {.read_error_ppm = 3000,
					  .write_error_ppm = 20000,
					  .metadata_error_ppm = 10000};

	sim_disk_set_faults(run->f.sim, "/d", &faults);
	if (open_database(run, DATABASE))
		for (unsigned i = 0; i < 50 && commit_one(run); i++)
			;
	sim_disk_set_faults(run->f.sim, "/d", &(struct sim_faults){0});
	close_database(run);
	assert_true(open_database(run, DATABASE));
	check(run);
	close_database(run);
}

/* Whatever fails, nothing acknowledged is missing afterwards, and faults end in an error code. */
static void survives_faults(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct run run;

		start(&run, seed);
		for (unsigned life = 0; life < 10; life++)
			live_with_faults(&run);
		fixture_stop(&run.f);
	}
}

static void maps_errors(void **state)
{
	struct run run;
	sqlite3 *first;

	(void)state;
	start(&run, 1);
	assert_false(open_database(&run, "/d/missing/db"));
	assert_int_equal(sqlite3_errcode(run.db), SQLITE_CANTOPEN);
	assert_int_equal(sqlite3_system_errno(run.db), ENOENT);
	close_database(&run);

	assert_true(open_database(&run, DATABASE));
	first = run.db;
	assert_false(open_database(&run, DATABASE));
	assert_int_equal(sqlite3_errcode(run.db), SQLITE_BUSY);
	close_database(&run);
	run.db = first;

	sim_disk_set_capacity(run.f.sim, "/d", 0);
	while (commit_one(&run))
		;
	assert_int_equal(sqlite3_errcode(run.db), SQLITE_FULL);
	sim_disk_set_capacity(run.f.sim, "/d", MIB * 64);
	assert_true(commit_one(&run));
	close_database(&run);

	sim_disk_set_read_only(run.f.sim, "/d", true);
	assert_false(open_database(&run, DATABASE));
	close_database(&run);
	fixture_stop(&run.f);
}

static void replays(void **state)
{
	uint64_t hashes[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct run run;

		start(&run, i == 1 ? 2 : 1);
		for (unsigned life = 0; life < 5; life++)
			live_until_crash(&run, SIM_CRASH_POWER);
		hashes[i] = sim_trace_hash(run.f.sim);
		fixture_stop(&run.f);
	}
	assert_int_equal(hashes[0], hashes[2]);
	assert_int_not_equal(hashes[0], hashes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survives_crashes),
		cmocka_unit_test(crash_within_a_job),
		cmocka_unit_test(finds_missing_syncs),
		cmocka_unit_test(survives_faults),
		cmocka_unit_test(maps_errors),
		cmocka_unit_test(replays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
