/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and forgetting pools.
 *
 * Making: directories, label.new (all durable); then the catalog's rows; then label.new becomes
 * label. Forgetting: label becomes label.new; then the rows go; then the files.
 * So "label" is only there while a catalog names the pool. A crash in the middle leaves either a
 * pool whose next opening finishes the label, or a directory with label.new and no group files,
 * which pool_create() takes over.
 */
#include "pool/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "pool/container.h"
#include "pool/pool_name.h"
#include "pool/pool_priv.h"
#include "pool/pool_rows.h"
#include "reactor/io.h"

static int make_directory(const char *path)
{
	int r = io_directory_make(path);

	return r == -EEXIST ? 0 : r;
}

static int sync_parent(const char *directory)
{
	_cleanup_free_ char *parent = strdup(directory);
	char *slash;

	if (!parent)
		return -ENOMEM;
	slash = strrchr(parent, '/');
	slash[slash == parent ? 1 : 0] = '\0';
	return io_directory_sync(parent);
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
		pool_path_of(path.text, names.names[i], &file);
		if (!pool_path_parse(names.names[i], ".sp", &id) &&
		    !pool_path_parse(names.names[i], ".new", &id))
			r = -ENOTEMPTY;
		else if (remove)
			r = io_unlink(file.text);
	}
	world_names_free(&names);
	if (r == -ENOTEMPTY)
		log_error("pool", "the directory has other content", "path=\"%s\"", path.text);
	return r;
}

static int expect_groups_empty(const char *directory)
{
	struct pool_path path;
	struct world_names names;
	int r;

	pool_path_of(directory, "groups", &path);
	r = io_directory_list(path.text, &names);
	if (r)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = expect_empty(path.text, names.names[i]);
	world_names_free(&names);
	return r;
}

/* What may be in the directory of a new pool: a new file system's lost+found, and what a crash
 * while one was made or deleted leaves behind. */
static int name_check(const char *directory, const char *name)
{
	if (strcmp(name, "lost+found") == 0 || strcmp(name, "label.new") == 0)
		return 0;
	if (strcmp(name, "spare") == 0)
		return spares_check(directory, false);
	if (strcmp(name, "groups") == 0)
		return expect_groups_empty(directory);
	log_error("pool", "the directory has other content", "directory=\"%s\" name=\"%s\"",
		  directory, name);
	return -ENOTEMPTY;
}

static int directory_check(const char *directory)
{
	struct world_names names;
	int r = io_directory_list(directory, &names);

	if (r)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = name_check(directory, names.names[i]);
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

static int directories_make(const char *directory)
{
	struct pool_path spare;
	int r = make_directory(directory);

	if (r == 0)
		r = sync_parent(directory);
	if (r == 0)
		r = directory_check(directory);
	if (r == 0)
		r = make_group_directories(directory);
	if (r)
		return r;
	pool_path_of(directory, "spare", &spare);
	r = make_directory(spare.text);
	return r ? r : spares_check(directory, true);
}

static int label_make(const char *directory, const struct pool_label *label)
{
	struct pool_path path;
	int r;

	pool_path_of(directory, "label.new", &path);
	r = pool_label_write(path.text, label);
	return r ? r : io_directory_sync(directory);
}

static int label_rename(const char *directory, const char *from_name, const char *to_name)
{
	struct pool_path from, to;
	int r;

	pool_path_of(directory, from_name, &from);
	pool_path_of(directory, to_name, &to);
	r = io_rename(from.text, to.text);
	return r ? r : io_directory_sync(directory);
}

static int rows_commit(struct catalog *catalog, const struct pool_spec *spec,
		       const struct pool_label *label)
{
	_cleanup_free_ struct pool_disk_row *disk = calloc(1, sizeof(*disk));
	_cleanup_free_ uint8_t *disk_value = malloc(POOL_DISK_ROW_BYTES + POOL_DIRECTORY_MAX);
	struct pool_row row = {.capacity_bytes = spec->capacity_bytes,
			       .created_wall_ns = label->created_wall_ns};
	struct catalog_key name = catalog_name_key(CATALOG_NAME_POOL, 0, spec->name);
	uint8_t pool_value[POOL_ROW_BYTES], id_value[8];
	struct catalog_change changes[4] = {
		{.kind = CATALOG_EXPECT, .key = name, .version = 0},
		{.kind = CATALOG_PUT, .key = name, .value = id_value, .length = sizeof(id_value)},
		{.kind = CATALOG_PUT,
		 .key = pool_rows_pool_key(label->pool_id),
		 .value = pool_value,
		 .length = sizeof(pool_value)},
		{.kind = CATALOG_PUT,
		 .key = pool_rows_disk_key(label->pool_id, label->disk_id),
		 .value = disk_value},
	};
	int r;

	if (!disk || !disk_value)
		return -ENOMEM;
	memcpy(row.name, label->name, sizeof(row.name));
	pool_rows_encode_pool(&row, pool_value);
	disk->created_wall_ns = label->created_wall_ns;
	memcpy(disk->uuid, label->uuid, sizeof(disk->uuid));
	memcpy(disk->directory, spec->directory, strlen(spec->directory));
	changes[3].length = pool_rows_encode_disk(disk, disk_value);
	put_le64(id_value, label->pool_id);
	r = catalog_commit(catalog, changes, ARRAY_SIZE(changes));
	return r == -ESTALE ? -EEXIST : r;
}

static int spec_check(struct catalog *catalog, const struct pool_spec *spec)
{
	size_t length = strnlen(spec->directory, POOL_DIRECTORY_MAX + 1);
	uint64_t id;
	int r;

	if (!pool_name_is_valid(spec->name) || spec->directory[0] != '/' || length < 2 ||
	    spec->directory[length - 1] == '/')
		return -EINVAL;
	if (length > POOL_DIRECTORY_MAX)
		return -ENAMETOOLONG;
	r = pool_find(catalog, spec->name, &id);
	if (r == 0)
		return -EEXIST;
	return r == -ENOENT ? 0 : r;
}

static int capacity_check(const struct pool_spec *spec)
{
	struct world_fs_stat fs;
	int r = io_fs_stat(spec->directory, &fs);

	if (r)
		return r;
	if (fs.read_only)
		return -EROFS;
	return pool_space_capacity(spec->capacity_bytes, &fs) < POOL_MIN_BYTES ? -ENOSPC : 0;
}

static int label_fill(struct world *world, struct catalog *catalog, const struct pool_spec *spec,
		      struct pool_label *ret_label)
{
	*ret_label = (struct pool_label){.created_wall_ns = world->ops->wall_ns(world)};
	memcpy(ret_label->name, spec->name, strlen(spec->name));
	world->ops->random(world, ret_label->uuid, sizeof(ret_label->uuid));
	int r = catalog_reserve_ids(catalog, "pool", 1, &ret_label->pool_id);

	return r ? r : catalog_reserve_ids(catalog, "disk", 1, &ret_label->disk_id);
}

int pool_create(struct world *world, struct catalog *catalog, const struct pool_spec *spec,
		uint64_t *ret_id)
{
	struct pool_label label;
	int r = spec_check(catalog, spec);

	if (r == 0)
		r = directories_make(spec->directory);
	if (r == 0)
		r = capacity_check(spec);
	if (r == 0)
		r = label_fill(world, catalog, spec, &label);
	if (r == 0)
		r = label_make(spec->directory, &label);
	if (r == 0)
		r = rows_commit(catalog, spec, &label);
	if (r)
		return r;
	/* From here on the pool exists; opening it does this if it fails here. */
	r = label_rename(spec->directory, "label.new", "label");
	if (r)
		log_warning("pool", "the label is not finished yet", "pool=%s error=%d", spec->name,
			    r);
	*ret_id = label.pool_id;
	return 0;
}

static int expect_unused(struct pool *pool)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	_cleanup_free_ struct container_info *containers = NULL;
	struct catalog_key prefix = pool_rows_files_prefix(pool->id);
	size_t count;
	int r = container_list(pool->catalog, &containers, &count);

	if (r)
		return r;
	for (size_t i = 0; i < count; i++)
		if (containers[i].pool_id == pool->id)
			return -EBUSY;
	r = catalog_scan(pool->catalog, &prefix, NULL, 1, &rows);
	if (r)
		return r;
	return rows.count > 0 ? -EBUSY : 0;
}

/* -ESTALE: somebody has put something into the pool meanwhile. */
static int rows_delete(struct pool *pool, uint64_t version)
{
	struct catalog_key key = pool_rows_pool_key(pool->id);
	const struct catalog_change changes[] = {
		{.kind = CATALOG_EXPECT, .key = key, .version = version},
		{.kind = CATALOG_DELETE, .key = key},
		{.kind = CATALOG_DELETE, .key = pool_rows_disk_key(pool->id, pool->disk_id)},
		{.kind = CATALOG_DELETE, .key = catalog_name_key(CATALOG_NAME_POOL, 0, pool->name)},
	};

	return catalog_commit(pool->catalog, changes, ARRAY_SIZE(changes));
}

static int forget(struct pool *pool)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};
	struct pool_row row;
	int r = pool_rows_get_pool(pool->catalog, pool->id, &raw, &row);

	if (r == 0)
		r = expect_unused(pool);
	if (r == 0)
		r = label_rename(pool->directory, "label", "label.new");
	if (r)
		return r;
	r = rows_delete(pool, raw.version);
	if (r && label_rename(pool->directory, "label.new", "label") != 0)
		log_warning("pool", "the label is not finished: the next opening does it",
			    "pool=%s", pool->name);
	return r == -ESTALE ? -EBUSY : r;
}

/* Files that were taken and never named. */
static void remove_files(struct pool *pool)
{
	for (size_t i = 0; i < pool->files.capacity; i++) {
		struct pool_table_entry *entry = &pool->files.entries[i];
		uint64_t id = entry->id;

		if (id == 0 || entry->state != POOL_TABLE_CLOSED)
			continue;
		entry->state = POOL_TABLE_BUSY;
		if (pool_file_remove(pool, id) == 0)
			i--; /* another may have moved into the slot */
	}
}

int pool_delete(struct pool *pool)
{
	struct pool_path path;
	int r;

	reactor_assert_home(pool->home);
	r = forget(pool);
	if (r)
		return r;
	remove_files(pool);
	(void)pool_spare_drop_all(pool);
	pool_path_of(pool->directory, "label.new", &path);
	r = io_unlink(path.text);
	if (r)
		log_warning("pool", "cannot remove the label of a deleted pool",
			    "directory=\"%s\" error=%d", pool->directory, r);
	pool_close(pool);
	return 0;
}
