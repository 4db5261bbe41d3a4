/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both of SQLite's files are copied before one is replaced, the database before its WAL. A crash in
 * between leaves the new database beside the old WAL, which are as good together: the copy has what
 * the old one had, or a write of a checkpoint more or less, and those pages are in the WAL.
 *
 * A dead daemon may have one call of SQLite under way meanwhile. What it writes is a frame that was
 * not acknowledged, or a page that the WAL has, or the WAL's first frame when all of it is in the
 * database; half of any of them fails its checksum. So any instant will do for the copy.
 */
#include "control/renew.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"

#define PATH_BYTES 4300
#define STEP_BYTES MIB

static const char *const names[] = {"catalog.db", "catalog.db-wal", "catalog.db-mirrors"};

static void closep(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* what counts was synced */
}
#define _cleanup_close_ _cleanup_(closep)

static int path_of(const char *directory, const char *name, const char *suffix,
		   char path[PATH_BYTES])
{
	int length = snprintf(path, PATH_BYTES, "%s/%s%s", directory, name, suffix);

	return length < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

static int write_all(int fd, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

static int copy_content(int from, int to)
{
	_cleanup_free_ char *buffer = malloc(STEP_BYTES);
	int r = 0;

	if (!buffer)
		return -ENOMEM;
	while (r == 0) {
		ssize_t n = read(from, buffer, STEP_BYTES);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : fsync(to) < 0 ? -errno : 0;
		r = write_all(to, buffer, (size_t)n);
	}
	return r;
}

/* NAME to NAME.new. */
static int copy(const char *directory, const char *name)
{
	_cleanup_close_ int from = -1, to = -1;
	char path[PATH_BYTES], new_path[PATH_BYTES];
	struct stat stat;
	int r = path_of(directory, name, "", path);

	if (r == 0)
		r = path_of(directory, name, ".new", new_path);
	if (r < 0)
		return r;
	if (unlink(new_path) < 0 && errno != ENOENT)
		return -errno;
	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(from, &stat) < 0)
		return -errno;
	to = open(new_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, stat.st_mode & 0777);
	return to < 0 ? -errno : copy_content(from, to);
}

static int replace(const char *directory, const char *name)
{
	char path[PATH_BYTES], new_path[PATH_BYTES];
	int r = path_of(directory, name, "", path);

	if (r == 0)
		r = path_of(directory, name, ".new", new_path);
	if (r == 0 && rename(new_path, path) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int renew_catalog(const char *state_directory)
{
	_cleanup_close_ int fd = open(state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++)
		r = copy(state_directory, names[i]);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++)
		r = replace(state_directory, names[i]);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}
