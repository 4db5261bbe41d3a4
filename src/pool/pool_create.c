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

static int rows_commit(struct catalog *catalog, const struct pool_spec *spec,
		       const struct pool_label *label)
{
	_cleanup_free_ struct pool_disk_row *disk = calloc(1, sizeof(*disk));
	_cleanup_free_ uint8_t *disk_value = malloc(POOL_DISK_ROW_BYTES + POOL_DIRECTORY_MAX);
	const char *tier = spec->tier ? spec->tier : POOL_TIER_DEFAULT;
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
	memcpy(disk->tier, tier, strlen(tier));
	disk->capacity_bytes = spec->capacity_bytes;
	changes[3].length = pool_rows_encode_disk(disk, disk_value);
	put_le64(id_value, label->pool_id);
	r = catalog_commit(catalog, changes, ARRAY_SIZE(changes));
	return r == -ESTALE ? -EEXIST : r;
}

static int spec_check(struct catalog *catalog, const struct pool_spec *spec)
{
	uint64_t id;
	int r = pool_directory_check_name(spec->directory);

	if (!pool_name_is_valid(spec->name) || !pool_tier_is_valid(spec->tier))
		return -EINVAL;
	if (r)
		return r;
	r = pool_find(catalog, spec->name, &id);
	if (r == 0)
		return -EEXIST;
	return r == -ENOENT ? 0 : r;
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
		r = pool_directory_make(spec->directory, false);
	if (r == 0)
		r = pool_directory_check_capacity(spec->directory, spec->capacity_bytes);
	if (r == 0)
		r = pool_directory_probe(spec->directory);
	if (r == 0)
		r = label_fill(world, catalog, spec, &label);
	if (r == 0)
		r = pool_directory_label(spec->directory, &label);
	if (r == 0)
		r = rows_commit(catalog, spec, &label);
	if (r)
		return r;
	/* From here on the pool exists; opening it does this if it fails here. */
	r = pool_directory_rename_label(spec->directory, "label.new", "label");
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
	if (rows.count > 0)
		return -EBUSY;
	return pool_is_in_doubt(pool) ? -EUCLEAN : 0;
}

/* -ESTALE: somebody has put something into the pool meanwhile. */
static int rows_delete(struct pool *pool, uint64_t version)
{
	struct catalog_key key = pool_rows_pool_key(pool->id), disks = catalog_key(CATALOG_DISK);
	struct catalog_change changes[] = {
		{.kind = CATALOG_EXPECT, .key = key, .version = version},
		{.kind = CATALOG_DELETE, .key = key},
		{.kind = CATALOG_DELETE_PREFIX},
		{.kind = CATALOG_DELETE, .key = catalog_name_key(CATALOG_NAME_POOL, 0, pool->name)},
	};

	catalog_key_add(&disks, pool->id);
	changes[2].key = disks;
	return catalog_commit(pool->catalog, changes, ARRAY_SIZE(changes));
}

/* Of the disks that are there. -EROFS and the like: the pool stays. */
static int rename_labels(struct pool *pool, const char *from, const char *to)
{
	struct pool_disk *disk;
	int r = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		int r2 = pool_disk_is_gone(disk)
				 ? 0
				 : pool_directory_rename_label(disk->row.directory, from, to);

		r = r ? r : r2;
	}
	return r;
}

static void labels_back(struct pool *pool)
{
	struct pool_disk *disk;
	struct pool_path path;
	struct world_stat stat;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		pool_path_of(disk->row.directory, "label.new", &path);
		if (pool_disk_is_gone(disk) || io_stat(path.text, &stat) < 0)
			continue;
		if (pool_directory_rename_label(disk->row.directory, "label.new", "label") != 0)
			log_warning("pool", "the label is not finished: the next opening does it",
				    "pool=%s disk=%" PRIu64, pool->name, disk->id);
	}
}

/* Files that were dropped have left the groups for good. Nobody would take them away any more. */
static int sync_groups(const char *directory)
{
	struct pool_path groups, path;
	struct world_names names;
	int r;

	pool_path_of(directory, "groups", &groups);
	r = io_directory_list(groups.text, &names);
	if (r)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		pool_path_of(groups.text, names.names[i], &path);
		r = io_directory_sync(path.text);
	}
	world_names_free(&names);
	return r;
}

static int settle_names(struct pool *pool)
{
	struct pool_disk *disk;
	int r = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		if (r == 0 && !pool_disk_is_gone(disk))
			r = sync_groups(disk->row.directory);
	}
	return r;
}

static int forget(struct pool *pool)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};
	struct pool_row row;
	int r = pool_rows_get_pool(pool->catalog, pool->id, &raw, &row);

	if (r == 0)
		r = expect_unused(pool);
	if (r == 0)
		r = settle_names(pool);
	if (r)
		return r;
	r = rename_labels(pool, "label", "label.new");
	if (r == 0)
		r = rows_delete(pool, raw.version);
	if (r)
		labels_back(pool);
	return r == -ESTALE ? -EBUSY : r;
}

/* Files that were taken and never named. */
static void remove_files(struct pool_disk *disk)
{
	struct pool_table_walk walk = {0};
	struct pool_table_entry *entry;

	while ((entry = pool_table_next(&disk->files, &walk))) {
		if (entry->state != POOL_TABLE_CLOSED)
			continue;
		entry->state = POOL_TABLE_BUSY;
		if (pool_copy_remove(disk, entry->id) == 0)
			pool_table_walk_removed(&walk);
	}
}

static void clear_disk(struct pool_disk *disk)
{
	struct pool_path path;
	int r;

	pool_copy_remove_orphans(disk);
	remove_files(disk);
	if (pool_disk_is_gone(disk)) {
		log_warning("pool", "a disk of a deleted pool keeps its files", "directory=\"%s\"",
			    disk->row.directory);
		return;
	}
	(void)pool_spare_drop_all(disk);
	/* What came back after a loss of power would keep the directory from the next pool. */
	r = sync_groups(disk->row.directory);
	if (r)
		log_warning("pool",
			    "files of a deleted pool may come back: its directory needs force",
			    "directory=\"%s\" error=%d", disk->row.directory, r);
	pool_path_of(disk->row.directory, "label.new", &path);
	r = io_unlink(path.text);
	if (r)
		log_warning("pool", "cannot remove the label of a deleted pool",
			    "directory=\"%s\" error=%d", disk->row.directory, r);
}

int pool_delete(struct pool *pool)
{
	struct pool_disk *disk;
	int r;

	reactor_assert_home(pool->home);
	r = forget(pool);
	if (r)
		return r;
	POOL_FOR_EACH_DISK(pool, disk)
	clear_disk(disk);
	pool_close(pool);
	return 0;
}
