/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors of the catalog: each I/O of adding, building, committing, verifying and restoring fails
 * once; the world ends at each I/O; mirrors and the database are damaged; disks come and go, are
 * slow, or hold something else.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mirror_fixture.h"
#include "reactor/io.h"

#define ROWS 12

static const char *restore_from;

static int setup(void **state)
{
	(void)state;
	mirrored_rig_begin(1, ARRAY_SIZE(mirrored_disks));
	restore_from = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mirrored_rig_end();
	return 0;
}

static int open_catalog(void)
{
	return mirrored_open(restore_from);
}

static void must_open(void)
{
	ASSERT(open_catalog() == 0);
}

static void fill(void)
{
	for (unsigned i = 0; i < ROWS; i++)
		ASSERT(mirrored_put(i, (uint8_t)i, 100 + 700 * i) == 0);
	ASSERT(mirrored_drop(3) == 0);
}

static void fill_check(void)
{
	for (unsigned i = 0; i < ROWS; i++)
		ASSERT(mirrored_look(i) == (i == 3 ? -ENOENT : (int)i));
}

static struct {
	size_t index;
	enum catalog_mirror_state state;
	int error;
} asked;

static void ask(void)
{
	struct catalog_mirror_info *infos;
	bool found = false;
	size_t count;

	ASSERT(catalog_mirror_list(catalog, &infos, &count) == 0);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(infos[i].directory, mirrored_disks[asked.index]) != 0)
			continue;
		found = true;
		asked.state = infos[i].state;
		asked.error = infos[i].error;
	}
	free(infos);
	ASSERT(found);
}

static enum catalog_mirror_state state_of(size_t index, int *ret_error)
{
	asked.index = index;
	if (fiber_current())
		ask();
	else
		mirrored_in_fiber(ask);
	if (ret_error)
		*ret_error = asked.error;
	return asked.state;
}

static void add(size_t count)
{
	for (size_t i = 0; i < count; i++)
		ASSERT(catalog_mirror_add(catalog, mirrored_disks[i]) == 0);
	catalog_mirror_wait(catalog);
	for (size_t i = 0; i < count; i++)
		ASSERT(state_of(i, NULL) == CATALOG_MIRROR_GOOD);
}

static void begin_with_one(void)
{
	must_open();
	fill();
	add(1);
	ASSERT(mirrored_put(20, 20, 100) == 0 && mirrored_put(21, 21, 9000) == 0);
	ASSERT(mirrored_drop(20) == 0);
}

static void begin_with_two(void)
{
	begin_with_one();
	add(2);
	ASSERT(mirrored_put(22, 22, 100) == 0);
}

static void verify_is_equal(void)
{
	struct catalog_verify verify;
	struct catalog_mirror_info *infos;
	size_t count;

	ASSERT(catalog_mirror_list(catalog, &infos, &count) == 0);
	free(infos);
	ASSERT(catalog_verify(catalog, &verify) == 0);
	ASSERT(verify.differences == 0 && verify.mirrors == count);
}

static void remove_database(void)
{
	ASSERT(io_unlink(PATH) == 0);
	(void)io_unlink(PATH "-wal"); /* there or not */
}

static void all_is_there(void)
{
	fill_check();
	ASSERT(mirrored_look(20) == -ENOENT && mirrored_look(21) == 21);
}

static void restores_what_is_gone(void **state)
{
	(void)state;
	mirrored_in_fiber(begin_with_one);
	mirrored_in_fiber(mirrored_close);
	mirrored_in_fiber(remove_database);
	mirrored_in_fiber(must_open);
	assert_true(report.restored && report.damage == -ENOENT);
	assert_string_equal(report.directory, mirrored_disks[0]);
	mirrored_in_fiber(all_is_there);
	mirrored_in_fiber(mirrored_close);
	mirrored_in_fiber(must_open);
	assert_false(report.restored);
	mirrored_in_fiber(all_is_there);
	mirrored_in_fiber(mirrored_close);
}

static void mirrors_are_alike(void **state)
{
	(void)state;
	mirrored_in_fiber(begin_with_two);
	mirrored_in_fiber(verify_is_equal);
	mirrored_in_fiber(mirrored_close);
	mirrored_in_fiber(must_open);
	assert_int_equal(state_of(0, NULL), CATALOG_MIRROR_GOOD); /* at once */
	assert_int_equal(state_of(1, NULL), CATALOG_MIRROR_GOOD);
	mirrored_in_fiber(verify_is_equal);
	mirrored_in_fiber(mirrored_close);
}

static void sleep_long(void)
{
	fiber_sleep(600 * NSEC_PER_SEC);
	catalog_mirror_wait(catalog);
}

static int result;

static void commit_one(void)
{
	result = mirrored_put(30, 30, 50);
}

static void fail_disk(size_t index, bool fails)
{
	const struct sim_faults faults = {.write_error_ppm = fails ? 1000000 : 0};

	sim_disk_set_faults(rig.sim, mirrored_disks[index], &faults);
}

static void survives_a_failing_disk(void **state)
{
	int error = 0;

	(void)state;
	mirrored_in_fiber(begin_with_two);
	fail_disk(0, true);
	mirrored_in_fiber(commit_one);
	assert_int_equal(result, 0);
	assert_int_equal(state_of(0, &error), CATALOG_MIRROR_LOST);
	assert_int_equal(error, -EIO);
	assert_int_equal(state_of(1, NULL), CATALOG_MIRROR_GOOD);
	mirrored_in_fiber(mirrored_close);
	/* The one that has lost its standing is not taken, though it can be read. */
	mirrored_in_fiber(remove_database);
	mirrored_in_fiber(must_open);
	assert_true(report.restored);
	assert_string_equal(report.directory, mirrored_disks[1]);
	fail_disk(0, false);
	mirrored_in_fiber(sleep_long);
	assert_int_equal(state_of(0, NULL), CATALOG_MIRROR_GOOD);
	mirrored_in_fiber(verify_is_equal);
	mirrored_in_fiber(mirrored_close);
}

static void open_any(void)
{
	result = open_catalog();
	if (result)
		catalog = NULL;
}

static void a_mirror_without_standing_is_not_taken(void **state)
{
	(void)state;
	mirrored_in_fiber(begin_with_one);
	fail_disk(0, true);
	mirrored_in_fiber(commit_one);
	assert_int_equal(result, 0);
	mirrored_in_fiber(mirrored_close);
	fail_disk(0, false);
	mirrored_in_fiber(remove_database);
	mirrored_in_fiber(open_any);
	assert_int_equal(result, -ENODATA);
	/* Who knows better may take it all the same; it lacks the last commit. */
	restore_from = mirrored_disks[0];
	mirrored_in_fiber(must_open);
	assert_true(report.restored);
	mirrored_in_fiber(all_is_there);
	mirrored_in_fiber(mirrored_close);
}

static void slow_disk(size_t index, uint64_t slow_ns)
{
	const struct sim_faults faults = {.slow_ppm = slow_ns ? 1000000 : 0, .slow_ns = slow_ns};

	sim_disk_set_faults(rig.sim, mirrored_disks[index], &faults);
}

static void does_not_wait_for_ever(void **state)
{
	(void)state;
	mirrored_in_fiber(begin_with_two);
	slow_disk(0, 3600 * NSEC_PER_SEC);
	for (int i = 0; i < 4; i++) { /* how slow is drawn */
		mirrored_in_fiber(commit_one);
		assert_int_equal(result, 0);
	}
	assert_int_equal(state_of(0, NULL), CATALOG_MIRROR_LOST);
	slow_disk(0, 0);
	mirrored_in_fiber(mirrored_close);
}

static void rename_database(const char *from, const char *to)
{
	char from_wal[100], to_wal[100];

	snprintf(from_wal, sizeof(from_wal), "%s-wal", from);
	snprintf(to_wal, sizeof(to_wal), "%s-wal", to);
	ASSERT(io_rename(from, to) == 0 && io_rename(from_wal, to_wal) == 0);
}

static void copy_file(const char *from, const char *to)
{
	_cleanup_free_ uint8_t *data = malloc(4 * MIB);
	struct world_file *file;
	int64_t n;

	ASSERT(data && io_open(from, WORLD_FILE_READ_ONLY, &file) == 0);
	n = io_read(file, data, 4 * MIB, 0);
	ASSERT(n > 0 && io_close(file) == 0);
	ASSERT(io_open(to, WORLD_FILE_CREATE, &file) == 0);
	ASSERT(io_write(file, data, (size_t)n, 0) == 0 && io_close(file) == 0);
}

static void backup(void)
{
	copy_file(PATH, STATE "/backup");
	copy_file(PATH "-wal", STATE "/backup-wal");
}

static void bring_back(void)
{
	remove_database();
	rename_database(STATE "/backup", PATH);
}

static void refuses_a_catalog_that_was_set_back(void **state)
{
	(void)state;
	mirrored_in_fiber(begin_with_one);
	mirrored_in_fiber(mirrored_close);
	mirrored_in_fiber(backup);
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(commit_one);
	mirrored_in_fiber(mirrored_close);
	mirrored_in_fiber(bring_back);
	mirrored_in_fiber(open_any);
	assert_int_equal(result, -ESTALE);
	assert_string_equal(report.directory, mirrored_disks[0]);
	assert_true(report.mirror_sequence > report.catalog_sequence);
	restore_from = mirrored_disks[0];
	mirrored_in_fiber(must_open);
	assert_true(report.restored);
	mirrored_in_fiber(all_is_there);
	mirrored_in_fiber(mirrored_close);
	/* Restored, it has a greater generation: the old one is refused for this alone. */
	restore_from = NULL;
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(sleep_long);
	assert_int_equal(state_of(0, NULL), CATALOG_MIRROR_GOOD);
	mirrored_in_fiber(mirrored_close);
}

static void backup_before_mirrors(void)
{
	must_open();
	fill();
	mirrored_close();
	backup();
	must_open();
	add(1);
	mirrored_close();
	bring_back();
	ASSERT(io_unlink(PATH "-mirrors") == 0);
	must_open(); /* it knows of no mirror */
	result = catalog_mirror_add(catalog, mirrored_disks[0]);
}

static void a_mirror_found_later_is_not_written_over(void **state)
{
	(void)state;
	mirrored_in_fiber(backup_before_mirrors);
	assert_int_equal(result, -ESTALE);
	mirrored_in_fiber(mirrored_close);
}

static void other_catalog(void)
{
	begin_with_one();
	mirrored_close();
	remove_database();
	ASSERT(io_unlink(PATH "-mirrors") == 0);
	must_open();
	result = catalog_mirror_add(catalog, mirrored_disks[0]);
}

static void another_catalogs_mirror_is_not_written_over(void **state)
{
	(void)state;
	mirrored_in_fiber(other_catalog);
	assert_int_equal(result, -EEXIST);
	mirrored_in_fiber(mirrored_close);
	/* But it can be taken in place of the new catalog, which is kept. */
	restore_from = mirrored_disks[0];
	mirrored_in_fiber(must_open);
	assert_true(report.restored);
	mirrored_in_fiber(all_is_there);
	mirrored_in_fiber(mirrored_close);
	mirrored_in_fiber(open_any);
	assert_int_equal(result, -EEXIST); /* once is enough */
}

/* As a path may be that is given to the daemon. */
static char too_long[4096];

static void add_many(void)
{
	char path[20];

	must_open();
	for (unsigned i = 0; i < CATALOG_MIRRORS_MAX; i++) {
		snprintf(path, sizeof(path), "/m0/%u", i);
		ASSERT(catalog_mirror_add(catalog, path) == 0); /* without a label: none is built */
	}
	ASSERT(catalog_mirror_add(catalog, "/m0/0") == 0);
	ASSERT(catalog_mirror_add(catalog, "/m0/one-more") == -EMFILE);
	ASSERT(catalog_mirror_add(catalog, "relative") == -EINVAL);
	ASSERT(catalog_mirror_remove(catalog, "/m0/one-more") == -ENOENT);
	ASSERT(catalog_mirror_add(catalog, too_long) == -ENAMETOOLONG);
	ASSERT(!catalog_mirror_was(catalog, too_long));
	for (unsigned i = 0; i < CATALOG_MIRRORS_MAX; i++) {
		snprintf(path, sizeof(path), "/m0/%u", i);
		ASSERT(catalog_mirror_remove(catalog, path) == 0);
	}
	mirrored_close();
}

static void limits_hold(void **state)
{
	(void)state;
	memset(too_long, 'd', sizeof(too_long) - 1);
	too_long[0] = '/';
	mirrored_in_fiber(add_many);
	mirrored_in_fiber(remove_database);
	restore_from = too_long;
	mirrored_in_fiber(open_any);
	assert_int_equal(result, -ENODATA);
	assert_int_equal(report.mirror_error, -ENAMETOOLONG);
}

/* Sweeps: a life in which anything may fail, and what it acknowledged. */

#define PUTS 8

static struct life {
	uint8_t known[PUTS], maybe[PUTS]; /* the bytes of rows; 0: none */
} life;

static void life_put(unsigned index, uint8_t byte, uint32_t length)
{
	bool was_dead = sim_is_dead(rig.sim); /* then it has no effect */
	int r = catalog ? mirrored_put(index, byte, length) : -EIO;

	if (r == 0)
		life.known[index] = byte;
	if (was_dead)
		return;
	if (r == 0 || r == -ESHUTDOWN || r == -ENOTRECOVERABLE)
		life.maybe[index] = byte;
}

static void life_run(void)
{
	struct catalog_verify verify;

	if (!catalog)
		open_any();
	for (unsigned i = 0; i < 3; i++)
		life_put(i, 1, 100);
	for (size_t i = 0; catalog && i < 2; i++)
		(void)catalog_mirror_add(catalog, mirrored_disks[i]); /* may fail */
	life_put(3, 1, 20000);
	if (catalog && !sim_is_dead(rig.sim))
		catalog_mirror_wait(catalog);
	for (unsigned i = 0; i < 5; i++)
		life_put(i, 2, 3000);
	if (catalog)
		(void)catalog_verify(catalog, &verify); /* may fail */
	life_put(6, 3, 10);
	mirrored_close();
}

static void life_check(void)
{
	for (unsigned i = 0; i < PUTS; i++) {
		int found = mirrored_look(i);

		ASSERT(found == (life.known[i] ? (int)life.known[i] : -ENOENT) ||
		       (life.maybe[i] && found == (int)life.maybe[i]));
		life.known[i] = life.maybe[i] = found > 0 ? (uint8_t)found : 0;
	}
}

static void life_settle(void)
{
	for (size_t i = 0; i < 2; i++)
		ASSERT(catalog_mirror_add(catalog, mirrored_disks[i]) == 0);
	sleep_long();
	verify_is_equal();
}

static void life_after(void)
{
	must_open();
	life_check();
	life_settle();
	mirrored_close();
	remove_database();
	must_open();
	ASSERT(report.restored);
	life_check();
	life_settle();
	mirrored_close();
}

static bool sweep_is_complete;

static void each_operation_fails(void **state)
{
	static const int errors[] = {-EIO, -ENOSPC};
	uint64_t n = 1;
	bool hit = true;

	(void)state;
	for (; hit; n += sweep_is_complete ? 1 : 131) {
		teardown(NULL);
		setup(NULL);
		life = (struct life){0};
		sim_fail_nth(rig.sim, n, errors[n % 2]);
		mirrored_in_fiber(life_run);
		hit = sim_fault_hit(rig.sim);
		sim_fail_nth(rig.sim, 0, 0);
		mirrored_in_fiber(life_after);
	}
	print_message("beyond %llu operations\n", (unsigned long long)n);
	assert_true(n > 50);
}

/* After a crash, with the database or without it. */
static void crash_after(bool is_lost)
{
	if (is_lost)
		mirrored_in_fiber(remove_database);
	mirrored_in_fiber(open_any);
	if (result == -ENODATA && is_lost) {
		/* All mirrors end torn: a person says that this is what is wanted. */
		assert_true(report.mirror_torn);
		restore_from = mirrored_disks[1];
		mirrored_in_fiber(open_any);
		if (result == -ENODATA && report.mirror_error == -ESTALE) {
			restore_from = mirrored_disks[0];
			mirrored_in_fiber(open_any);
		}
		restore_from = NULL;
	}
	assert_int_equal(result, 0);
	assert_true(report.restored == is_lost);
	mirrored_in_fiber(life_check);
	mirrored_in_fiber(life_settle);
	mirrored_in_fiber(mirrored_close);
}

static void life_begin(void)
{
	must_open();
	life_settle();
}

static void ends_at_each_operation(enum sim_crash kind, bool is_lost)
{
	uint64_t n = 1;
	bool hit = true;

	for (; hit; n += sweep_is_complete ? 1 : 41) {
		teardown(NULL);
		setup(NULL);
		life = (struct life){0};
		mirrored_in_fiber(life_begin);
		sim_crash_nth(rig.sim, n, kind);
		mirrored_in_fiber(life_run);
		hit = sim_is_dead(rig.sim);
		sim_crash_nth(rig.sim, 0, kind);
		if (hit)
			sim_rig_restart(&rig);
		crash_after(is_lost);
	}
	print_message("beyond %llu operations\n", (unsigned long long)n);
	assert_true(n > 50);
}

static void the_process_ends_at_each_operation(void **state)
{
	(void)state;
	ends_at_each_operation(SIM_CRASH_PROCESS, false);
	ends_at_each_operation(SIM_CRASH_PROCESS, true);
}

static void power_fails_at_each_operation(void **state)
{
	(void)state;
	ends_at_each_operation(SIM_CRASH_POWER, false);
	ends_at_each_operation(SIM_CRASH_POWER, true);
}

/* Restoring itself is cut off at each operation; what follows goes on without a word. */
static void restoring_is_cut_off(void **state)
{
	uint64_t n = 1;
	bool hit = true;

	(void)state;
	for (; hit; n += sweep_is_complete ? 1 : 19) {
		teardown(NULL);
		setup(NULL);
		mirrored_in_fiber(begin_with_two);
		mirrored_in_fiber(mirrored_close);
		mirrored_in_fiber(remove_database);
		restore_from = n % 2 ? mirrored_disks[0] : NULL;
		sim_crash_nth(rig.sim, n, n % 3 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
		mirrored_in_fiber(open_any);
		mirrored_in_fiber(mirrored_close);
		hit = sim_is_dead(rig.sim);
		sim_crash_nth(rig.sim, 0, SIM_CRASH_POWER);
		if (hit)
			sim_rig_restart(&rig);
		restore_from = NULL;
		mirrored_in_fiber(must_open);
		mirrored_in_fiber(all_is_there);
		mirrored_in_fiber(sleep_long);
		mirrored_in_fiber(verify_is_equal);
		mirrored_in_fiber(mirrored_close);
	}
	assert_true(n > 50);
}

/* A log is rolled while commits go on. */
static void roll(void)
{
	struct catalog_mirror_info *infos;
	size_t count;

	for (unsigned i = 0; i < 36; i++)
		ASSERT(mirrored_put(i % 12, (uint8_t)(100 + i % 12), 900000) == 0);
	catalog_mirror_wait(catalog);
	ASSERT(catalog_mirror_list(catalog, &infos, &count) == 0);
	/* 31 MiB of frames for 10 MiB of rows: the log is about as large as the snapshot. */
	for (size_t i = 0; i < count; i++)
		ASSERT(infos[i].bytes < 28 * MIB && infos[i].state == CATALOG_MIRROR_GOOD);
	free(infos);
	verify_is_equal();
	mirrored_close();
	remove_database();
	must_open();
	for (unsigned i = 0; i < 12; i++)
		ASSERT(mirrored_look(i) == (int)(100 + i));
	mirrored_close();
}

static void logs_are_rolled(void **state)
{
	(void)state;
	mirrored_in_fiber(begin_with_two);
	mirrored_in_fiber(roll);
}

static char file_name[200];
static uint64_t file_size;

static void find_file(size_t disk, const char *kind)
{
	struct world_names names;
	struct world_stat stat;
	char path[100];

	snprintf(path, sizeof(path), "%s/catalog", mirrored_disks[disk]);
	ASSERT(io_directory_list(path, &names) == 0);
	file_name[0] = '\0';
	for (size_t i = 0; i < names.count; i++)
		if (strncmp(names.names[i], kind, strlen(kind)) == 0)
			snprintf(file_name, sizeof(file_name), "%s/%s", path, names.names[i]);
	world_names_free(&names);
	ASSERT(file_name[0] && io_stat(file_name, &stat) == 0);
	file_size = stat.size_bytes;
}

static void find_snapshot(void)
{
	find_file(0, "snapshot");
}

static void find_log(void)
{
	find_file(0, "log");
}

static uint64_t differences;

static void verify_any(void)
{
	struct catalog_verify verify;

	ASSERT(catalog_verify(catalog, &verify) == 0);
	differences = verify.differences;
}

/* Each flip is found, and the mirror is made again. */
static void flips_are_found(void **state)
{
	static void (*const find[])(void) = {find_snapshot, find_log};
	uint64_t step = sweep_is_complete ? 53 : 1601;

	(void)state;
	mirrored_in_fiber(begin_with_two);
	for (uint64_t at = 0; at < 40000; at += step) {
		mirrored_in_fiber(find[at / step % 2]);
		if (file_size == 0)
			continue;
		assert_int_equal(sim_disk_flip(rig.sim, file_name, at % file_size, at % 8), 0);
		mirrored_in_fiber(verify_any);
		assert_true(differences > 0);
		mirrored_in_fiber(sleep_long);
		mirrored_in_fiber(verify_any);
		assert_true(differences == 0);
		mirrored_in_fiber(commit_one);
	}
	mirrored_in_fiber(mirrored_close);
}

static void verify_whatever(void)
{
	struct catalog_verify verify = {0};

	result = catalog_verify(catalog, &verify);
	differences = verify.differences;
}

static void find_database(void)
{
	struct world_stat stat;

	ASSERT(io_stat(PATH, &stat) == 0);
	file_size = stat.size_bytes;
}

/* What is wrong in the database is not held against the mirrors, and is found on the disk though
 * SQLite keeps pages in memory. */
static void a_damaged_database_is_found(void **state)
{
	uint64_t step = sweep_is_complete ? 61 : 997;
	unsigned found = 0;

	(void)state;
	mirrored_in_fiber(begin_with_two);
	mirrored_in_fiber(mirrored_close); /* all is in the database, nothing in its WAL */
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(find_database);
	for (uint64_t at = 0; at < file_size; at += step) {
		assert_int_equal(sim_disk_flip(rig.sim, PATH, at, at % 8), 0);
		mirrored_in_fiber(verify_whatever);
		assert_true(result == -EUCLEAN || (result == 0 && differences == 0));
		found += result == -EUCLEAN;
		assert_int_equal(sim_disk_flip(rig.sim, PATH, at, at % 8), 0);
	}
	assert_true(found > 0);
	mirrored_in_fiber(verify_is_equal);
	mirrored_in_fiber(mirrored_close);
}

/* A flip in the mirror that would be taken: the other one is, or none; never what is wrong. */
static void nothing_wrong_is_restored(void **state)
{
	uint64_t step = sweep_is_complete ? 101 : 4801;

	(void)state;
	for (uint64_t at = 0; at < 60000; at += step) {
		bool has_two = at / step % 3 > 0;

		teardown(NULL);
		setup(NULL);
		mirrored_in_fiber(has_two ? begin_with_two : begin_with_one);
		mirrored_in_fiber(mirrored_close);
		mirrored_in_fiber(at / step % 2 ? find_snapshot : find_log);
		assert_int_equal(sim_disk_flip(rig.sim, file_name, at % file_size, at % 8), 0);
		mirrored_in_fiber(remove_database);
		mirrored_in_fiber(open_any);
		assert_int_equal(result, has_two ? 0 : -ENODATA);
		if (result == 0)
			mirrored_in_fiber(all_is_there);
		mirrored_in_fiber(mirrored_close);
	}
}

/* The state's disk dies under the catalog: commits fail, reads go on; a restart elsewhere works. */
static void the_states_disk_dies(void **state)
{
	struct sim_faults faults = {.write_error_ppm = 1000000, .sync_error_ppm = 1000000};

	(void)state;
	mirrored_in_fiber(begin_with_two);
	sim_disk_set_faults(rig.sim, STATE, &faults);
	mirrored_in_fiber(commit_one);
	assert_true(result == -EIO || result == -ENOTRECOVERABLE);
	mirrored_in_fiber(commit_one);
	assert_true(result == -EIO || result == -ENOTRECOVERABLE);
	mirrored_in_fiber(all_is_there);
	mirrored_in_fiber(mirrored_close);
	faults = (struct sim_faults){0};
	sim_disk_set_faults(rig.sim, STATE, &faults);
	mirrored_in_fiber(remove_database);
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(all_is_there);
	mirrored_in_fiber(commit_one);
	assert_int_equal(result, 0);
	mirrored_in_fiber(mirrored_close);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(restores_what_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(mirrors_are_alike, setup, teardown),
		cmocka_unit_test_setup_teardown(survives_a_failing_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(a_mirror_without_standing_is_not_taken, setup,
						teardown),
		cmocka_unit_test_setup_teardown(does_not_wait_for_ever, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_a_catalog_that_was_set_back, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_mirror_found_later_is_not_written_over, setup,
						teardown),
		cmocka_unit_test_setup_teardown(another_catalogs_mirror_is_not_written_over, setup,
						teardown),
		cmocka_unit_test_setup_teardown(limits_hold, setup, teardown),
		cmocka_unit_test_setup_teardown(logs_are_rolled, setup, teardown),
		cmocka_unit_test_setup_teardown(flips_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(a_damaged_database_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_wrong_is_restored, setup, teardown),
		cmocka_unit_test_setup_teardown(the_states_disk_dies, setup, teardown),
		cmocka_unit_test_setup_teardown(each_operation_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(the_process_ends_at_each_operation, setup,
						teardown),
		cmocka_unit_test_setup_teardown(power_fails_at_each_operation, setup, teardown),
		cmocka_unit_test_setup_teardown(restoring_is_cut_off, setup, teardown),
	};

	sweep_is_complete = argc > 1 && strcmp(argv[1], "all") == 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
