/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_fixture.h"

#include <errno.h>
#include <string.h>

#define SEEDS 300

static void make_file(struct fixture *f, const char *path, uint8_t byte)
{
	struct world_file *file = fixture_create(f, path);

	assert_int_equal(fixture_fill(f, file, byte, 1000, 0), 1000);
	assert_int_equal(fixture_sync(f, file), 0);
	assert_int_equal(fixture_close(f, file), 0);
}

/* The first byte, or the error of opening it. */
static int first_byte(struct fixture *f, const char *path)
{
	struct world_file *file = NULL;
	uint8_t byte = 0;
	int r = fixture_open(f, path, WORLD_FILE_READ_ONLY, &file);

	if (r < 0)
		return r;
	if (fixture_read(f, file, &byte, 1, 0) == 0)
		byte = 255;
	assert_int_equal(fixture_close(f, file), 0);
	return byte;
}

static void names(void **state)
{
	struct world_names list = {0};
	struct world_stat st;
	struct fixture f;
	char deep[400];

	(void)state;
	fixture_start(&f, 1, MIB);
	assert_int_equal(fixture_make(&f, "/d/b"), 0);
	assert_int_equal(fixture_make(&f, "/d/b"), -EEXIST);
	assert_int_equal(fixture_make(&f, "/d"), -EEXIST);
	assert_int_equal(fixture_make(&f, "/d/x/y"), -ENOENT);
	make_file(&f, "/d/c", 1);
	make_file(&f, "/d/B", 2);
	make_file(&f, "/d//./b/inner", 3);
	assert_int_equal(fixture_make(&f, "/d/c/y"), -ENOTDIR);
	assert_int_equal(fixture_list(&f, "/d/", &list), 0);
	assert_int_equal(list.count, 3);
	assert_string_equal(list.names[0], "B");
	assert_string_equal(list.names[1], "b");
	assert_string_equal(list.names[2], "c");
	world_names_free(&list);
	assert_int_equal(fixture_list(&f, "/d/c", &list), -ENOTDIR);
	assert_int_equal(fixture_list(&f, "/d/none", &list), -ENOENT);
	assert_int_equal(fixture_stat(&f, "/d/b", &st), 0);
	assert_true(st.is_directory);
	assert_int_equal(fixture_stat(&f, "/d/b/inner", &st), 0);
	assert_false(st.is_directory);
	assert_int_equal(st.size_bytes, 1000);
	assert_int_equal(fixture_unlink(&f, "/d/b"), -EISDIR);
	assert_int_equal(fixture_unlink(&f, "/d/none"), -ENOENT);
	assert_int_equal(fixture_stat(&f, "/d/../d", &st), -EINVAL);
	memset(deep, 'x', sizeof(deep));
	memcpy(deep, "/d/", 3);
	deep[3 + 256] = '\0';
	assert_int_equal(fixture_make(&f, deep), -ENAMETOOLONG);
	deep[3 + 255] = '\0';
	assert_int_equal(fixture_make(&f, deep), 0);
	fixture_stop(&f);
}

static void renames(void **state)
{
	struct fixture f;

	(void)state;
	fixture_start(&f, 1, MIB);
	assert_int_equal(sim_disk_add(f.sim, "/d/mounted", MIB), 0);
	assert_int_equal(sim_disk_add(f.sim, "/d/mounted", MIB), -EEXIST);
	assert_int_equal(fixture_make(&f, "/d/a"), 0);
	assert_int_equal(fixture_make(&f, "/d/a/aa"), 0);
	assert_int_equal(fixture_make(&f, "/d/full"), 0);
	make_file(&f, "/d/full/x", 1);
	make_file(&f, "/d/one", 1);
	make_file(&f, "/d/two", 2);
	assert_int_equal(fixture_rename(&f, "/d/none", "/d/x"), -ENOENT);
	assert_int_equal(fixture_rename(&f, "/d/one", "/d/none/x"), -ENOENT);
	assert_int_equal(fixture_rename(&f, "/d/one", "/d/mounted/x"), -EXDEV);
	assert_int_equal(fixture_rename(&f, "/d/one", "/d/a"), -EISDIR);
	assert_int_equal(fixture_rename(&f, "/d/a", "/d/one"), -ENOTDIR);
	assert_int_equal(fixture_rename(&f, "/d/a", "/d/full"), -ENOTEMPTY);
	assert_int_equal(fixture_rename(&f, "/d/a", "/d/a/aa/x"), -EINVAL);
	assert_int_equal(fixture_rename(&f, "/d", "/d/x"), -EBUSY);
	assert_int_equal(fixture_rename(&f, "/d/one", "/d/one"), 0);
	assert_int_equal(fixture_rename(&f, "/d/one", "/d/two"), 0);
	assert_int_equal(first_byte(&f, "/d/two"), 1);
	assert_int_equal(fixture_rename(&f, "/d/a", "/d/full/a"), 0);
	assert_true(fixture_exists(&f, "/d/full/a/aa"));
	assert_false(fixture_exists(&f, "/d/one") || fixture_exists(&f, "/d/a"));
	fixture_stop(&f);
}

/* Names are lost from the end: what came before a synced change is synced too. */
static void unsynced_names_may_vanish(void **state)
{
	unsigned kept = 0, lost = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct fixture f;
		bool one, two;

		fixture_start(&f, seed, MIB);
		make_file(&f, "/d/synced", 1);
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		make_file(&f, "/d/one", 2);
		make_file(&f, "/d/two", 3);
		fixture_crash(&f, SIM_CRASH_POWER);
		assert_int_equal(first_byte(&f, "/d/synced"), 1);
		one = fixture_exists(&f, "/d/one");
		two = fixture_exists(&f, "/d/two");
		assert_true(one || !two);
		kept += two;
		lost += !one;
		if (one)
			assert_int_equal(first_byte(&f, "/d/one"), 2);
		fixture_stop(&f);
	}
	assert_true(kept > SEEDS / 10 && lost > SEEDS / 10);
}

static void unlink_may_come_back(void **state)
{
	unsigned back = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct world_fs_stat fs;
		struct fixture f;

		fixture_start(&f, seed, MIB);
		make_file(&f, "/d/file", 1);
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		assert_int_equal(fixture_unlink(&f, "/d/file"), 0);
		fixture_crash(&f, SIM_CRASH_POWER);
		assert_int_equal(fixture_fs_stat(&f, "/d", &fs), 0);
		if (fixture_exists(&f, "/d/file")) {
			back++;
			assert_int_equal(first_byte(&f, "/d/file"), 1);
			assert_int_equal(fs.free_bytes, MIB - 4096);
		} else {
			assert_int_equal(fs.free_bytes, MIB);
		}
		fixture_stop(&f);
	}
	assert_true(back > SEEDS / 10 && back < SEEDS - SEEDS / 10);
}

/* After a loss of power a renamed file is at exactly one of both names, whole. */
static void rename_is_atomic(void **state)
{
	unsigned before = 0, after = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct fixture f;
		int a, b;

		fixture_start(&f, seed, MIB);
		assert_int_equal(fixture_make(&f, "/d/sub"), 0);
		make_file(&f, "/d/sub/new", 2);
		make_file(&f, "/d/name", 1);
		assert_int_equal(fixture_directory_sync(&f, "/d/sub"), 0);
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		make_file(&f, "/d/sub/more", 3);
		assert_int_equal(fixture_rename(&f, "/d/sub/new", "/d/name"), 0);
		make_file(&f, "/d/another", 4);
		fixture_crash(&f, SIM_CRASH_POWER);
		a = first_byte(&f, "/d/sub/new");
		b = first_byte(&f, "/d/name");
		assert_true((a == 2 && b == 1) || (a == -ENOENT && b == 2));
		before += b == 1;
		after += b == 2;
		/* What came before it in either directory is there with it. */
		if (b == 2)
			assert_int_equal(first_byte(&f, "/d/sub/more"), 3);
		fixture_stop(&f);
	}
	assert_true(before > SEEDS / 10 && after > SEEDS / 10);
}

/* Syncing either directory makes a rename between two durable. */
static void sync_covers_both_directories(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct fixture f;

		fixture_start(&f, seed, MIB);
		assert_int_equal(fixture_make(&f, "/d/sub"), 0);
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		make_file(&f, "/d/sub/a", 1);
		assert_int_equal(fixture_rename(&f, "/d/sub/a", "/d/b"), 0);
		assert_int_equal(fixture_directory_sync(&f, seed % 2 ? "/d" : "/d/sub"), 0);
		fixture_crash(&f, SIM_CRASH_POWER);
		assert_int_equal(first_byte(&f, "/d/b"), 1);
		assert_false(fixture_exists(&f, "/d/sub/a"));
		fixture_stop(&f);
	}
}

/* A directory whose name is lost takes along what is in it, synced or not. */
static void lost_directory(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct world_fs_stat fs;
		struct fixture f;

		fixture_start(&f, seed, MIB);
		assert_int_equal(fixture_make(&f, "/d/sub"), 0);
		make_file(&f, "/d/sub/file", 1);
		assert_int_equal(fixture_directory_sync(&f, "/d/sub"), 0);
		fixture_crash(&f, SIM_CRASH_POWER);
		if (!fixture_exists(&f, "/d/sub")) {
			lost++;
			assert_int_equal(fixture_fs_stat(&f, "/d", &fs), 0);
			assert_int_equal(fs.free_bytes, MIB);
		} else {
			assert_int_equal(first_byte(&f, "/d/sub/file"), 1);
		}
		fixture_stop(&f);
	}
	assert_true(lost > 10 && lost < 90);
}

static void process_crash_keeps_names(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct fixture f;

		fixture_start(&f, seed, MIB);
		assert_int_equal(fixture_make(&f, "/d/sub"), 0);
		make_file(&f, "/d/sub/a", 1);
		assert_int_equal(fixture_rename(&f, "/d/sub/a", "/d/b"), 0);
		fixture_crash(&f, SIM_CRASH_PROCESS);
		assert_int_equal(first_byte(&f, "/d/b"), 1);
		assert_false(fixture_exists(&f, "/d/sub/a"));
		fixture_stop(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(renames),
		cmocka_unit_test(unsynced_names_may_vanish),
		cmocka_unit_test(unlink_may_come_back),
		cmocka_unit_test(rename_is_atomic),
		cmocka_unit_test(sync_covers_both_directories),
		cmocka_unit_test(lost_directory),
		cmocka_unit_test(process_crash_keeps_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
