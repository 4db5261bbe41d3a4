/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of files and groups that are damaged: the pool opens, their vDisks do not, and what lies on
 * the disks without a row is neither removed nor written over. Once the row is put back all is
 * there.
 */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/endian.h"
#include "pool/pool_damage.h"

#define VDISK 7u /* whose row is damaged; the rig's files are of vDisk 1 */

static struct catalog_key key_of(enum catalog_table table, uint64_t pool, uint64_t vdisk,
				 uint64_t id)
{
	struct catalog_key key = catalog_key(table);

	catalog_key_add(&key, pool);
	catalog_key_add(&key, vdisk);
	catalog_key_add(&key, id);
	return key;
}

static void put_row(struct pool_rig *rig, const struct catalog_key *key, const void *value,
		    uint32_t length)
{
	const struct catalog_change change = {
		.kind = CATALOG_PUT, .key = *key, .value = value, .length = length};

	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
}

static void put_file(struct pool_rig *rig, uint64_t vdisk, uint64_t id, uint64_t disk)
{
	const struct catalog_key key = key_of(CATALOG_EGFILE, rig->pool_id, vdisk, id);
	const struct pool_copies copies = {.count = 1, .disks = {disk}};
	uint8_t value[FILE_ROW_BYTES] = {0};

	pool_rows_encode_file(MIB, &copies, value);
	put_row(rig, &key, value, sizeof(value));
}

static void put_group(struct pool_rig *rig, uint64_t vdisk, uint64_t id, uint64_t file)
{
	const struct catalog_key key = key_of(CATALOG_EGROUP, rig->pool_id, vdisk, id);
	uint8_t value[POOL_GROUP_ROW_BYTES] = {POOL_GROUP_ROW_VERSION};

	put_le64(value + POOL_GROUP_ROW_FILE, file);
	put_row(rig, &key, value, sizeof(value));
}

static void remove_row(struct pool_rig *rig, enum catalog_table table, uint64_t vdisk, uint64_t id)
{
	const struct catalog_change change = {.kind = CATALOG_DELETE,
					      .key = key_of(table, rig->pool_id, vdisk, id)};

	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
}

/* A closed file of 1 MiB with `byte` at its start, which no row names. */
static uint64_t make_file(struct pool_rig *rig, uint8_t byte)
{
	struct pool_file *file;
	uint64_t id;

	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &file) == 0);
	ASSERT(pool_rig_write(file, byte) == 0);
	id = pool_file_id(file);
	pool_file_close(file);
	return id;
}

static void reopen(struct pool_rig *rig)
{
	pool_close(TAKE_PTR(rig->pool));
	ASSERT(pool_rig_open(rig, 0) == 0);
}

static void expect_byte(struct pool_rig *rig, uint64_t id, uint8_t byte)
{
	struct pool_file *file;
	uint8_t found;

	ASSERT(open_file(rig->pool, id, &file) == 0);
	ASSERT(pool_rig_read(file, &found) == 0 && found == byte);
	pool_file_close(file);
}

static struct pool_info info_of(struct pool_rig *rig)
{
	static struct pool_info info; /* large for a fiber's stack */

	pool_get_info(rig->pool, &info);
	pool_check(rig->pool);
	return info;
}

static bool is_closed(struct pool_rig *rig, uint64_t vdisk)
{
	struct pool_damage damage;

	return pool_damage_of(rig->pool, vdisk, &damage);
}

/* The file of the damaged row, one of another vDisk, and the rows that are right. */
struct two_files {
	uint64_t damaged, good;
};

static struct two_files begin(struct pool_rig *rig)
{
	struct two_files files;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	files.damaged = make_file(rig, 'd');
	files.good = make_file(rig, 'g');
	put_file(rig, VDISK, files.damaged, 1);
	put_file(rig, 1, files.good, 1);
	put_group(rig, 1, 2, files.good);
	return files;
}

/* In doubt: the damaged row's file is kept, as a copy of its disk, and not given out. */
static void expect_kept(struct pool_rig *rig, const struct two_files *files, bool closed)
{
	struct pool_file *file;

	reopen(rig);
	ASSERT(is_closed(rig, VDISK) == closed && !is_closed(rig, 1));
	ASSERT(info_of(rig).in_doubt && info_of(rig).kept_files == 1);
	ASSERT(pool_rig_space(rig).used == 2 * MIB);
	expect_byte(rig, files->good, 'g');
	ASSERT(open_file(rig->pool, files->damaged, &file) == -EUCLEAN);
	ASSERT(discard_file_id(rig->pool, files->damaged) == -EUCLEAN);
	ASSERT(pool_delete(rig->pool) < 0);
	/* All else works. */
	file = pool_rig_take(rig, 1);
	pool_file_discard(file);
}

static void expect_whole(struct pool_rig *rig, const struct two_files *files)
{
	reopen(rig);
	ASSERT(!info_of(rig).in_doubt && info_of(rig).kept_files == 0);
	ASSERT(!is_closed(rig, VDISK) && pool_damaged_rows(rig->pool) == 0);
	expect_byte(rig, files->damaged, 'd');
	expect_byte(rig, files->good, 'g');
}

static void value_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct two_files files = begin(rig);
	struct catalog_key key = key_of(CATALOG_EGFILE, rig->pool_id, VDISK, files.damaged);
	struct pool_damage damage;

	put_row(rig, &key, "nonsense", 8);
	expect_kept(rig, &files, true);
	ASSERT(pool_damage_of(rig->pool, VDISK, &damage) && damage.id == files.damaged);
	ASSERT(damage.kind == POOL_DAMAGE_FILE && pool_damage_nobodys(rig->pool) == 0);
	put_file(rig, VDISK, files.damaged, 1);
	expect_whole(rig, &files);
	pool_rig_close(rig);
}

static void keeps_the_file_of_a_damaged_row(void **state)
{
	pool_rig_run(*state, value_run);
}

/* Its key is of no vDisk, of no pool, or too short to say. */
static void nobodys_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct two_files files = begin(rig);
	struct catalog_key keys[4] = {catalog_key(CATALOG_EGFILE), catalog_key(CATALOG_EGFILE),
				      key_of(CATALOG_EGFILE, rig->pool_id + 5, VDISK, 1),
				      key_of(CATALOG_EGROUP, rig->pool_id + 5, VDISK, 1)};
	struct catalog_change change = {.kind = CATALOG_DELETE};

	catalog_key_add(&keys[0], rig->pool_id);
	keys[1].bytes[keys[1].length++] = 0xff;
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		put_file(rig, VDISK, files.damaged, 1);
		expect_whole(rig, &files);
		put_row(rig, &keys[i], "nonsense", 8);
		remove_row(rig, CATALOG_EGFILE, VDISK, files.damaged);
		expect_kept(rig, &files, false);
		ASSERT(pool_damage_nobodys(rig->pool) == 1);
		change.key = keys[i];
		ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	}
	put_file(rig, VDISK, files.damaged, 1);
	expect_whole(rig, &files);
	pool_rig_close(rig);
}

static void keeps_all_when_a_row_is_nobodys(void **state)
{
	pool_rig_run(*state, nobodys_run);
}

static void groups_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct two_files files = begin(rig);
	struct catalog_key key = key_of(CATALOG_EGROUP, rig->pool_id, VDISK, 1);

	put_group(rig, VDISK, 1, files.damaged);
	expect_whole(rig, &files);
	/* The row of its file is lost. */
	remove_row(rig, CATALOG_EGFILE, VDISK, files.damaged);
	expect_kept(rig, &files, true);
	put_file(rig, VDISK, files.damaged, 1);
	expect_whole(rig, &files);
	/* Its own row: the file has a name, and stays. */
	put_row(rig, &key, "nonsense", 8);
	reopen(rig);
	ASSERT(is_closed(rig, VDISK) && !is_closed(rig, 1) && info_of(rig).in_doubt);
	expect_byte(rig, files.damaged, 'd');
	/* A row that was another vDisk's: either is closed, for one lacks it. */
	remove_row(rig, CATALOG_EGROUP, VDISK, 1);
	put_group(rig, 9, 1, files.damaged);
	reopen(rig);
	ASSERT(is_closed(rig, VDISK) && is_closed(rig, 9) && !is_closed(rig, 1));
	/* One that is nobody's any more: that of a file without a group, it may be. */
	remove_row(rig, CATALOG_EGROUP, 9, 1);
	expect_whole(rig, &files);
	key = key_of(CATALOG_EGROUP, rig->pool_id, 9, 1);
	put_row(rig, &key, "nonsense", 8);
	reopen(rig);
	ASSERT(is_closed(rig, VDISK) && is_closed(rig, 9) && !is_closed(rig, 1));
	remove_row(rig, CATALOG_EGROUP, 9, 1);
	expect_whole(rig, &files);
	pool_rig_close(rig);
}

static void closes_whose_groups_are_lost(void **state)
{
	pool_rig_run(*state, groups_run);
}

static void shared_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct two_files files = begin(rig);
	struct pool_file *file;

	put_file(rig, 9, files.damaged, 1);
	reopen(rig);
	ASSERT(is_closed(rig, VDISK) && is_closed(rig, 9) && !is_closed(rig, 1));
	ASSERT(open_file(rig->pool, files.damaged, &file) == -EUCLEAN);
	ASSERT(pool_rig_space(rig).used == 2 * MIB);
	/* Whoever of the two is deleted does not take the other's along. */
	remove_row(rig, CATALOG_EGFILE, 9, files.damaged);
	ASSERT(discard_file_id(rig->pool, files.damaged) == -EUCLEAN);
	expect_whole(rig, &files);
	pool_rig_close(rig);
}

static void keeps_a_file_that_two_name(void **state)
{
	pool_rig_run(*state, shared_run);
}

/* Without doubt, as ever. */
static void swept_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct two_files files = begin(rig);
	struct pool_file *file;

	remove_row(rig, CATALOG_EGFILE, VDISK, files.damaged);
	reopen(rig);
	ASSERT(!info_of(rig).in_doubt && pool_rig_space(rig).used == MIB);
	ASSERT(open_file(rig->pool, files.damaged, &file) == -ENOENT);
	pool_rig_close(rig);
}

static void sweeps_when_no_row_is_damaged(void **state)
{
	pool_rig_run(*state, swept_run);
}

/* The counter of ids may be what is wrong. */
static void ids_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct two_files files = begin(rig);
	const char *path = POOL_RIG_DIRECTORY "/groups/%02x/%016lx.eg";
	struct catalog_key key = key_of(CATALOG_EGFILE, rig->pool_id, VDISK, 0);
	uint64_t next = make_file(rig, 'x') + 1000;
	char from[200], to[200];
	struct pool_file *file;
	struct world_stat stat;

	snprintf(from, sizeof(from), path, (unsigned)(files.damaged & 0xff),
		 (unsigned long)files.damaged);
	snprintf(to, sizeof(to), path, (unsigned)(next & 0xff), (unsigned long)next);
	ASSERT(io_rename(from, to) == 0);
	put_row(rig, &key, "nonsense", 8);
	remove_row(rig, CATALOG_EGFILE, VDISK, files.damaged);
	reopen(rig);
	ASSERT(info_of(rig).kept_files == 2);
	for (unsigned i = 0; i < 1500; i++) {
		ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &file) == 0);
		ASSERT(pool_file_id(file) != next);
		pool_file_discard(file);
	}
	ASSERT(io_stat(to, &stat) == 0 && stat.size_bytes == MIB);
	pool_rig_close(rig);
}

static void gives_no_id_out_again(void **state)
{
	pool_rig_run(*state, ids_run);
}

/* One that is away may have the file: it is not removed, and swept of nothing when it is back. */
static void away_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	uint64_t id = pool_file_id(file);
	struct catalog_key key = key_of(CATALOG_EGFILE, rig->pool_id, 1, id);

	pool_file_close(file);
	put_row(rig, &key, "nonsense", 8);
	pool_close(TAKE_PTR(rig->pool));
	sim_disk_set_missing(rig->sim.sim, "/disk2", true);
	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(info_of(rig).kept_files == 1);
	ASSERT(pool_disk_fail(rig->pool, 2) == 0);
	ASSERT(pool_disk_remove(rig->pool, 2) == -EUCLEAN);
	sim_disk_set_missing(rig->sim.sim, "/disk2", false);
	ASSERT(pool_disk_restore(rig->pool, 2) == 0);
	ASSERT(info_of(rig).kept_files == 2);
	ASSERT(pool_disk_remove(rig->pool, 2) == -EUCLEAN);
	pool_rig_close(rig);
}

static void keeps_disks_that_may_have_it(void **state)
{
	struct pool_rig *rig = *state;

	ASSERT(sim_disk_add(rig->sim.sim, "/disk2", POOL_RIG_DISK_BYTES) == 0);
	pool_rig_run(rig, away_run);
}

/* A copy is on a disk that is not the pool's, it says: where it is, it may be the only one. */
static void foreign_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct two_files files = begin(rig);

	put_file(rig, VDISK, files.damaged, 66);
	reopen(rig);
	ASSERT(info_of(rig).in_doubt && info_of(rig).kept_files == 1 && !is_closed(rig, VDISK));
	put_file(rig, VDISK, files.damaged, 1);
	expect_whole(rig, &files);
	pool_rig_close(rig);
}

static void keeps_what_is_said_to_be_elsewhere(void **state)
{
	pool_rig_run(*state, foreign_run);
}

/* Rows that SQLite gives, but damaged; and one that is gone without a trace. */
static void tamper(const char *sql, const struct catalog_key *key)
{
	sqlite3_stmt *statement;
	sqlite3 *db;

	ASSERT(sqlite3_open_v2(POOL_RIG_STATE "/catalog.db", &db, SQLITE_OPEN_READWRITE,
			       SIM_VFS_NAME) == SQLITE_OK);
	ASSERT(sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK);
	ASSERT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
	ASSERT(sqlite3_bind_blob(statement, 1, key->bytes, key->length, SQLITE_STATIC) ==
	       SQLITE_OK);
	ASSERT(sqlite3_step(statement) == SQLITE_DONE && sqlite3_changes(db) == 1);
	ASSERT(sqlite3_finalize(statement) == SQLITE_OK);
	ASSERT(sqlite3_close(db) == SQLITE_OK);
}

static void sqlite_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct two_files files = begin(rig);
	struct catalog_key key = key_of(CATALOG_EGFILE, rig->pool_id, VDISK, files.damaged);
	uint64_t id;

	pool_rig_close(rig);
	tamper("UPDATE facts SET crc = crc + 1 WHERE key = ?1", &key);
	ASSERT(pool_rig_open_catalog(rig) == 0 && !catalog_is_whole(rig->catalog));
	ASSERT(pool_rig_open(rig, 0) == 0);
	expect_kept(rig, &files, true);
	/* What counts something may be lost as well. */
	ASSERT(catalog_reserve_ids(rig->catalog, "never-used", 1, &id) == -EUCLEAN);
	pool_rig_close(rig);
	tamper("UPDATE facts SET crc = crc - 1 WHERE key = ?1", &key);
	ASSERT(pool_rig_open(rig, 0) == 0);
	expect_whole(rig, &files);
	pool_rig_close(rig);
	tamper("DELETE FROM facts WHERE key = ?1", &key);
	ASSERT(pool_rig_open(rig, 0) == 0);
	expect_kept(rig, &files, false);
	pool_rig_close(rig);
}

static void keeps_all_when_the_catalog_is_damaged(void **state)
{
	pool_rig_run(*state, sqlite_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_rig_setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(keeps_the_file_of_a_damaged_row),
		TEST(keeps_all_when_a_row_is_nobodys),
		TEST(closes_whose_groups_are_lost),
		TEST(keeps_a_file_that_two_name),
		TEST(sweeps_when_no_row_is_damaged),
		TEST(gives_no_id_out_again),
		TEST(keeps_disks_that_may_have_it),
		TEST(keeps_what_is_said_to_be_elsewhere),
		TEST(keeps_all_when_the_catalog_is_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
