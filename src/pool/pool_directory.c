/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a disk: making it, what may be in there before, its label, and whether its file
 * system does what is needed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "catalog/mirror_disk.h"
#include "pool/pool_priv.h"
#include "reactor/io.h"

static int make_directory(const char *path)
{
	int r = io_directory_make(path);

	return r == -EEXIST ? 0 : r;
}

static int expect_empty(const char *directory, const char *name)
{
	struct pool_path path;
	struct world_names names;
	size_t count;
	int r;

	pool_path_of(directory, name, &path);
	r = io_directory_list(path.text, &names);
	if (r)
		return r;
	count = names.count;
	world_names_free(&names);
	if (count == 0)
		return 0;
	log_error("pool", "the directory has other content", "path=\"%s\"", path.text);
	return -ENOTEMPTY;
}

/* What a pool that was deleted could not remove; no content counts in there. */
static int spares_check(const char *directory, bool remove)
{
	struct pool_path path, file;
	struct world_names names;
	uint64_t id;
	int r;

	pool_path_of(directory, "spare", &path);
	r = io_directory_list(path.text, &names);
	if (r)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (!pool_path_parse(names.names[i], ".sp", &id) &&
		    !pool_path_parse(names.names[i], ".new", &id)) {
			r = -ENOTEMPTY;
		} else if (remove) {
			pool_path_of(path.text, names.names[i], &file);
			r = io_unlink(file.text);
		}
	}
	world_names_free(&names);
	if (r == -ENOTEMPTY)
		log_error("pool", "the directory has other content", "path=\"%s\"", path.text);
	return r;
}

static bool is_group(const char *name)
{
	uint64_t id;

	return pool_path_parse(name, ".eg", &id);
}

/* With `owns`, what is such a pool's may be in there. */
static int expect_only(const char *directory, const char *name, bool (*owns)(const char *name))
{
	struct pool_path path;
	struct world_names names;
	int r;

	if (!owns)
		return expect_empty(directory, name);
	pool_path_of(directory, name, &path);
	r = io_directory_list(path.text, &names);
	if (r)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = owns(names.names[i]) ? 0 : -ENOTEMPTY;
	world_names_free(&names);
	if (r)
		log_error("pool", "the directory has other content", "path=\"%s\"", path.text);
	return r;
}

static int groups_check(const char *directory, bool force)
{
	struct pool_path path;
	struct world_names names;
	int r;

	pool_path_of(directory, "groups", &path);
	r = io_directory_list(path.text, &names);
	if (r)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = strlen(names.names[i]) == 2
			    ? expect_only(path.text, names.names[i], force ? is_group : NULL)
			    : -ENOTEMPTY;
	world_names_free(&names);
	return r;
}

/* What may be in the directory of a new pool: a new file system's lost+found, and what a crash
 * while one was made or deleted leaves behind; with `force`, all that is a pool's. */
static int name_check(const char *directory, const char *name, bool force)
{
	if (strcmp(name, "lost+found") == 0 || strcmp(name, "label.new") == 0 ||
	    (force && strcmp(name, "label") == 0))
		return 0;
	if (strcmp(name, "spare") == 0)
		return spares_check(directory, false);
	if (strcmp(name, "groups") == 0)
		return groups_check(directory, force);
	if (strcmp(name, "catalog") == 0) /* where a mirror of the catalog was */
		return expect_only(directory, name, force ? mirror_owns : NULL);
	log_error("pool", "the directory has other content", "directory=\"%s\" name=\"%s\"",
		  directory, name);
	return -ENOTEMPTY;
}

static int directory_check(const char *directory, bool force)
{
	struct world_names names;
	int r = io_directory_list(directory, &names);

	if (r)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = name_check(directory, names.names[i], force);
	world_names_free(&names);
	return r == -ENOTDIR ? -ENOTEMPTY : r;
}

static int make_group_directories(const char *directory)
{
	struct pool_path groups, path;
	char name[3];
	int r;

	pool_path_of(directory, "groups", &groups);
	r = make_directory(groups.text);
	for (unsigned i = 0; r == 0 && i < POOL_DIRECTORIES; i++) {
		snprintf(name, sizeof(name), "%02x", i & 0xff);
		pool_path_of(groups.text, name, &path);
		r = make_directory(path.text);
	}
	return r ? r : io_directory_sync(groups.text);
}

/* Group files in one of the directories of groups/. */
static int remove_groups_in(const char *groups, const char *name)
{
	struct pool_path path, file;
	struct world_names names;
	uint64_t id;
	int r;

	pool_path_of(groups, name, &path);
	r = io_directory_list(path.text, &names);
	if (r)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (!pool_path_parse(names.names[i], ".eg", &id))
			continue;
		pool_path_of(path.text, names.names[i], &file);
		r = io_unlink(file.text);
	}
	world_names_free(&names);
	/* Also of files that went before: nobody would take away what came back. */
	return r ? r : io_directory_sync(path.text);
}

static int remove_groups(const char *directory)
{
	struct pool_path groups;
	struct world_names names;
	int r;

	pool_path_of(directory, "groups", &groups);
	r = io_directory_list(groups.text, &names);
	if (r)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		if (strlen(names.names[i]) == 2)
			r = remove_groups_in(groups.text, names.names[i]);
	world_names_free(&names);
	return r;
}

static int remove_mirror(const char *directory)
{
	struct pool_path path;
	int r = mirror_sweep(directory, UINT64_MAX);

	pool_path_of(directory, "catalog", &path);
	if (r == 0)
		r = io_directory_sync(path.text);
	return r == -ENOENT ? 0 : r;
}

/* The label goes first: what is half removed is nobody's. */
static int remove_old_pool(const char *directory)
{
	struct pool_path label;
	int r;

	pool_path_of(directory, "label", &label);
	r = io_unlink(label.text);
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = io_directory_sync(directory);
	if (r == 0)
		r = remove_groups(directory);
	return r ? r : remove_mirror(directory);
}

int pool_directory_make(const char *directory, bool force)
{
	struct pool_path spare;
	int r = make_directory(directory);

	if (r == 0)
		r = io_directory_sync_above(directory);
	/* Nothing is removed from a directory that is refused. */
	if (r == 0)
		r = directory_check(directory, force);
	if (r == 0 && force)
		r = remove_old_pool(directory);
	if (r == 0)
		r = make_group_directories(directory);
	if (r)
		return r;
	pool_path_of(directory, "spare", &spare);
	r = make_directory(spare.text);
	return r ? r : spares_check(directory, true);
}

static int remove_name(const char *directory, const char *name)
{
	struct pool_path path;
	int r;

	pool_path_of(directory, name, &path);
	r = io_unlink(path.text);
	return r == -ENOENT ? 0 : r;
}

int pool_directory_clear(const char *directory)
{
	int r = remove_groups(directory), r2;

	if (r)
		return r;
	/* What it leaves there the next pool takes away, or refuses. */
	r = spares_check(directory, true);
	if (r == -ESHUTDOWN)
		return r;
	r = remove_name(directory, "label");
	r2 = remove_name(directory, "label.new");
	r = r ? r : r2;
	return r ? r : io_directory_sync(directory);
}

int pool_directory_label(const char *directory, const struct pool_label *label)
{
	struct pool_path path;
	int r;

	pool_path_of(directory, "label.new", &path);
	r = pool_label_write(path.text, label);
	return r ? r : io_directory_sync(directory);
}

int pool_directory_rename_label(const char *directory, const char *from_name, const char *to_name)
{
	struct pool_path from, to;
	int r;

	pool_path_of(directory, from_name, &from);
	pool_path_of(directory, to_name, &to);
	r = io_rename(from.text, to.text);
	return r ? r : io_directory_sync(directory);
}

int pool_directory_check_name(const char *directory)
{
	size_t length = strnlen(directory, POOL_DIRECTORY_MAX + 1);

	if (directory[0] != '/' || length < 2 || directory[length - 1] == '/')
		return -EINVAL;
	return length > POOL_DIRECTORY_MAX ? -ENAMETOOLONG : 0;
}

int pool_directory_check_capacity(const char *directory, uint64_t capacity_bytes)
{
	struct world_fs_stat fs;
	int r = io_fs_stat(directory, &fs);

	if (r)
		return r;
	if (fs.read_only)
		return -EROFS;
	return pool_space_capacity(capacity_bytes, &fs) < POOL_MIN_BYTES ? -ENOSPC : 0;
}

/* Probing */

static int write_page(const char *path, const uint8_t *page)
{
	struct world_file *file;
	int r = io_open(path, WORLD_FILE_CREATE | WORLD_FILE_DIRECT, &file), r2;

	if (r)
		return r;
	r = io_resize(file, 0, WORLD_RESIZE_TRUNCATE);
	if (r == 0)
		r = io_write(file, page, POOL_PAGE_BYTES, 0);
	if (r == 0)
		r = io_sync(file);
	r2 = io_close(file);
	return r ? r : r2;
}

static int compare_page(const char *path, const uint8_t *page, uint8_t *buffer)
{
	struct world_file *file;
	int r = io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, &file);

	if (r)
		return r;
	r = io_read_exactly(file, buffer, POOL_PAGE_BYTES, 0);
	(void)io_close(file); /* nothing was written */
	if (r == -ENODATA || (r == 0 && memcmp(page, buffer, POOL_PAGE_BYTES) != 0))
		return -EOPNOTSUPP;
	return r;
}

int pool_directory_probe(const char *directory)
{
	_cleanup_free_ uint8_t *pages = aligned_alloc(POOL_PAGE_BYTES, 2 * POOL_PAGE_BYTES);
	struct pool_path path;
	int r, r2;

	if (!pages)
		return -ENOMEM;
	for (size_t i = 0; i < POOL_PAGE_BYTES; i++)
		pages[i] = (uint8_t)(i * 7 + i / 256 + 1);
	pool_path_spare(directory, UINT64_MAX, ".new", &path);
	r = write_page(path.text, pages);
	if (r == 0)
		r = compare_page(path.text, pages, pages + POOL_PAGE_BYTES);
	r2 = io_unlink(path.text);
	if (r == -EINVAL) /* that is how O_DIRECT is refused, and syncing */
		return -EOPNOTSUPP;
	return r ? r : r2;
}
