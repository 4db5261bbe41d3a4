/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "control/renew.h"

static char directory[] = "/tmp/sarsen-test-renew-XXXXXX";
static const char *const names[] = {"catalog.db", "catalog.db-wal", "catalog.db-mirrors"};

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static const char *path_of(const char *name)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static int remove_directory(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlink(path_of(names[i]));
	return rmdir(directory);
}

/* Longer than what is copied in one step, and different for each. */
static void put(const char *name, size_t length)
{
	uint8_t *data = malloc(length);
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0640);

	assert_non_null(data);
	assert_true(fd >= 0);
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)(i * 31 + length);
	assert_int_equal(write(fd, data, length), (ssize_t)length);
	assert_int_equal(close(fd), 0);
	free(data);
}

static void expect(const char *name, size_t length)
{
	uint8_t *data = malloc(length + 1);
	int fd = open(path_of(name), O_RDONLY);

	assert_non_null(data);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, data, length + 1), (ssize_t)length);
	for (size_t i = 0; i < length; i++)
		assert_int_equal(data[i], (uint8_t)(i * 31 + length));
	assert_int_equal(close(fd), 0);
	free(data);
}

static ino_t inode_of(const char *name)
{
	struct stat stat_of;

	assert_int_equal(stat(path_of(name), &stat_of), 0);
	assert_int_equal(stat_of.st_mode & 0777, 0640);
	return stat_of.st_ino;
}

static void makes_new_files_of_the_same(void **state)
{
	static const size_t lengths[] = {MIB * 2 + 12345, MIB, 0};
	ino_t before[ARRAY_SIZE(names)];
	int old;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		put(names[i], lengths[i]);
		before[i] = inode_of(names[i]);
	}
	put("catalog.db.new", 7); /* of an attempt that was cut off */
	old = open(path_of(names[0]), O_WRONLY);
	assert_int_equal(renew_catalog(directory), 0);
	/* A late write to the old file does not matter. */
	assert_int_equal(pwrite(old, "late", 4, 0), 4);
	close(old);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		expect(names[i], lengths[i]);
		assert_int_not_equal(inode_of(names[i]), before[i]);
	}
	assert_int_equal(access(path_of("catalog.db.new"), F_OK), -1);
}

static void leaves_out_what_is_not_there(void **state)
{
	assert_int_equal(unlink(path_of(names[1])), 0);
	assert_int_equal(unlink(path_of(names[2])), 0);
	assert_int_equal(renew_catalog(directory), 0);
	assert_int_equal(access(path_of(names[1]), F_OK), -1);
	assert_int_equal(unlink(path_of(names[0])), 0);
	assert_int_equal(renew_catalog(directory), 0);
	assert_int_equal(renew_catalog("/nonexistent"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_new_files_of_the_same),
		cmocka_unit_test(leaves_out_what_is_not_there),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
