/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "real_fixture.h"

static int64_t resize(struct real_fixture *f, struct world_file *file, uint64_t size_bytes,
		      enum world_resize how)
{
	struct waited_op op;

	f->ops->file_resize(f->port, file, size_bytes, how, waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}

static struct world_stat file_stat(struct real_fixture *f, struct world_file *file)
{
	struct world_stat stat;
	struct waited_op op;

	f->ops->file_stat(f->port, file, &stat, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	return stat;
}

static int64_t path_stat(struct real_fixture *f, const char *name, struct world_stat *ret_stat)
{
	struct waited_op op;

	f->ops->path_stat(f->port, real_path(f, name), ret_stat, waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}

static int64_t make_directory(struct real_fixture *f, const char *name)
{
	struct waited_op op;

	f->ops->directory_make(f->port, real_path(f, name), waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}

static int64_t list(struct real_fixture *f, const char *name, struct world_names *ret_names)
{
	struct waited_op op;

	f->ops->directory_list(f->port, real_path(f, name), ret_names, waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}

static void create(struct real_fixture *f, const char *name)
{
	struct world_file *file;

	assert_int_equal(real_open(f, name, WORLD_FILE_CREATE, &file), 0);
	assert_int_equal(real_close(f, file), 0);
}

static void open_reports_errors_and_touches_no_output(void **state)
{
	struct real_fixture *f = *state;
	struct world_file *file = NULL;

	create(f, "there");
	assert_int_equal(make_directory(f, "dir"), 0);
	assert_int_equal(mkfifo(real_path(f, "fifo"), 0600), 0);
	assert_int_equal(real_open(f, "missing", 0, &file), -ENOENT);
	assert_int_equal(real_open(f, "no/such", WORLD_FILE_CREATE, &file), -ENOENT);
	assert_int_equal(real_open(f, "there", WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE, &file),
			 -EEXIST);
	assert_int_equal(real_open(f, "dir", 0, &file), -EISDIR);
	assert_int_equal(real_open(f, "dir", WORLD_FILE_READ_ONLY, &file), -EISDIR);
	/* A FIFO without a writer would block the worker for ever. */
	assert_int_equal(real_open(f, "fifo", WORLD_FILE_READ_ONLY, &file), -EINVAL);
	assert_null(file);
	assert_int_equal(real_open(f, "new", WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE, &file), 0);
	assert_int_equal(real_close(f, file), 0);
}

static void resizes(void **state)
{
	struct real_fixture *f = *state;
	struct world_file *file;
	char buffer[4];

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	assert_int_equal(real_write(f, file, "abcd", 4, 0), 4);
	assert_int_equal(resize(f, file, 2, WORLD_RESIZE_TRUNCATE), 0);
	assert_int_equal(resize(f, file, 4, WORLD_RESIZE_TRUNCATE), 0);
	assert_int_equal(real_read(f, file, buffer, 4, 0), 4);
	assert_memory_equal(buffer, "ab\0\0", 4);
	assert_int_equal(resize(f, file, 8 * MIB, WORLD_RESIZE_TRUNCATE), 0);
	assert_int_equal(file_stat(f, file).size_bytes, 8 * MIB);
	assert_true(file_stat(f, file).allocated_bytes < MIB);
	assert_int_equal(resize(f, file, 8 * MIB, WORLD_RESIZE_RESERVE), 0);
	assert_true(file_stat(f, file).allocated_bytes >= 8 * MIB);
	assert_int_equal(resize(f, file, MIB, WORLD_RESIZE_RESERVE), 0);
	assert_int_equal(file_stat(f, file).size_bytes, MIB);
	assert_int_equal(resize(f, file, 0, WORLD_RESIZE_RESERVE), 0);
	assert_int_equal(file_stat(f, file).size_bytes, 0);
	assert_int_equal(resize(f, file, UINT64_MAX, WORLD_RESIZE_TRUNCATE), -EFBIG);
	assert_int_equal(resize(f, file, UINT64_MAX, WORLD_RESIZE_RESERVE), -EFBIG);
	assert_int_equal(real_close(f, file), 0);
}

/* More than the file system has, though not more than a file may have. */
static void a_refused_reservation_leaves_the_file_alone(void **state)
{
	struct real_fixture *f = *state;
	struct world_fs_stat fs;
	struct world_file *file;
	struct waited_op op;

	f->ops->fs_stat(f->port, "/dev/shm", &fs, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	f->ops->file_open(f->port, "/dev/shm/sarsen-test-reserve", WORLD_FILE_CREATE, &file,
			  waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	f->ops->unlink(f->port, "/dev/shm/sarsen-test-reserve", waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	assert_int_equal(real_write(f, file, "abcd", 4, 0), 4);
	assert_int_equal(resize(f, file, fs.total_bytes + GIB, WORLD_RESIZE_RESERVE), -ENOSPC);
	assert_int_equal(file_stat(f, file).size_bytes, 4);
	assert_true(file_stat(f, file).allocated_bytes <= MIB);
	assert_int_equal(real_close(f, file), 0);
}

static void stats_paths(void **state)
{
	struct real_fixture *f = *state;
	struct world_stat stat = {.size_bytes = 77};

	assert_int_equal(path_stat(f, "missing", &stat), -ENOENT);
	assert_int_equal(stat.size_bytes, 77);
	create(f, "file");
	assert_int_equal(path_stat(f, "file", &stat), 0);
	assert_int_equal(stat.size_bytes, 0);
	assert_false(stat.is_directory);
	assert_int_equal(path_stat(f, ".", &stat), 0);
	assert_true(stat.is_directory);
}

static void renames_and_unlinks(void **state)
{
	struct real_fixture *f = *state;
	struct world_file *file;
	struct world_stat stat;
	struct waited_op op;

	create(f, "old");
	assert_int_equal(real_open(f, "new", WORLD_FILE_CREATE, &file), 0);
	assert_int_equal(real_write(f, file, "abcd", 4, 0), 4);
	assert_int_equal(real_close(f, file), 0);
	f->ops->rename(f->port, real_path(f, "old"), real_path(f, "new"), waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	assert_int_equal(path_stat(f, "old", &stat), -ENOENT);
	assert_int_equal(path_stat(f, "new", &stat), 0);
	assert_int_equal(stat.size_bytes, 0);
	f->ops->rename(f->port, real_path(f, "old"), real_path(f, "x"), waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), -ENOENT);
	f->ops->unlink(f->port, real_path(f, "new"), waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	f->ops->unlink(f->port, real_path(f, "new"), waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), -ENOENT);
}

static void lists_directories_sorted(void **state)
{
	struct real_fixture *f = *state;
	struct world_names names = {.count = 77};
	char name[16];

	assert_int_equal(list(f, "dir", &names), -ENOENT);
	assert_int_equal(names.count, 77);
	assert_int_equal(make_directory(f, "dir"), 0);
	assert_int_equal(make_directory(f, "dir"), -EEXIST);
	assert_int_equal(list(f, "dir", &names), 0);
	assert_int_equal(names.count, 0);
	world_names_free(&names);
	for (int i = 39; i >= 0; i--) {
		snprintf(name, sizeof(name), "dir/%c%02d", i % 2 ? 'B' : 'a', i);
		create(f, name);
	}
	assert_int_equal(list(f, "dir", &names), 0);
	assert_int_equal(names.count, 40);
	for (size_t i = 1; i < names.count; i++)
		assert_true(strcmp(names.names[i - 1], names.names[i]) < 0);
	assert_string_equal(names.names[0], "B01");
	world_names_free(&names);
	assert_int_equal(names.count, 0);
	assert_int_equal(list(f, "dir/a00", &names), -ENOTDIR);
}

static void syncs_directories(void **state)
{
	struct real_fixture *f = *state;
	struct waited_op op;

	create(f, "file");
	f->ops->directory_sync(f->port, f->directory, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	f->ops->directory_sync(f->port, real_path(f, "file"), waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), -ENOTDIR);
	f->ops->directory_sync(f->port, real_path(f, "missing"), waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), -ENOENT);
}

static void stats_file_systems(void **state)
{
	struct real_fixture *f = *state;
	struct world_fs_stat fs;
	struct waited_op op;

	f->ops->fs_stat(f->port, f->directory, &fs, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	assert_true(fs.total_bytes > 0 && fs.free_bytes <= fs.total_bytes && !fs.read_only);
	f->ops->fs_stat(f->port, "/proc/self", &fs, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	f->ops->fs_stat(f->port, real_path(f, "missing"), &fs, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), -ENOENT);
}

#define REAL_TEST(name) cmocka_unit_test_setup_teardown(name, real_setup, real_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REAL_TEST(open_reports_errors_and_touches_no_output),
		REAL_TEST(resizes),
		REAL_TEST(a_refused_reservation_leaves_the_file_alone),
		REAL_TEST(stats_paths),
		REAL_TEST(renames_and_unlinks),
		REAL_TEST(lists_directories_sorted),
		REAL_TEST(syncs_directories),
		REAL_TEST(stats_file_systems),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
