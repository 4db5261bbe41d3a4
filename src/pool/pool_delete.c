/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deleting pools.
 *
 *  1. label becomes label.new on each disk, which shows that it can be written.
 *  2. The pool's row says that it is being deleted. Up to here all can be undone; from here on the
 *     pool cannot be opened, and no container be made in it.
 *  3. On each disk files and spare files go, then the label: all durable.
 *  4. The rows go.
 *
 * A crash leaves either a pool whose next opening finishes the label, or one that is being deleted,
 * and pool_delete_finish() goes on: with each disk whose label, under either name, is still this
 * one's. So a directory is never left with files of a pool that no catalog names.
 *
 * A disk that cannot be reached keeps what is there, and needs force later; so does one that errs.
 */
#include "pool/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "catalog/mirror.h"
#include "pool/container.h"
#include "pool/pool_priv.h"
#include "pool/pool_rows.h"
#include "reactor/io.h"

static int expect_unused(struct catalog *catalog, uint64_t id)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	_cleanup_free_ struct container_info *containers = NULL;
	struct catalog_key prefix = pool_rows_files_prefix(id);
	size_t count;
	int r = container_list(catalog, &containers, &count);

	if (r)
		return r;
	for (size_t i = 0; i < count; i++)
		if (containers[i].pool_id == id)
			return -EBUSY;
	r = catalog_scan(catalog, &prefix, NULL, 1, &rows);
	if (r)
		return r;
	return rows.count > 0 ? -EBUSY : 0;
}

static int rows_delete(struct catalog *catalog, uint64_t id, const char *name)
{
	struct catalog_change changes[] = {
		{.kind = CATALOG_DELETE, .key = pool_rows_pool_key(id)},
		{.kind = CATALOG_DELETE_PREFIX, .key = catalog_key(CATALOG_DISK)},
		{.kind = CATALOG_DELETE, .key = catalog_name_key(CATALOG_NAME_POOL, 0, name)},
	};

	catalog_key_add(&changes[1].key, id);
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

/* -ESTALE: somebody has put something into the pool meanwhile. */
static int mark(struct catalog *catalog, const struct catalog_row *raw, struct pool_row *row,
		bool deleting)
{
	uint8_t value[POOL_ROW_BYTES];
	const struct catalog_change changes[] = {
		{.kind = CATALOG_EXPECT, .key = raw->key, .version = raw->version},
		{.kind = CATALOG_PUT, .key = raw->key, .value = value, .length = sizeof(value)},
	};

	row->deleting = deleting;
	pool_rows_encode_pool(row, value);
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
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

static int give_up(struct pool *pool)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};
	struct pool_row row;
	int r = pool_rows_get_pool(pool->catalog, pool->id, &raw, &row);

	if (r || row.deleting) /* called again */
		return r;
	r = expect_unused(pool->catalog, pool->id);
	if (r == 0 && pool_is_in_doubt(pool))
		r = -EUCLEAN;
	if (r)
		return r;
	r = rename_labels(pool, "label", "label.new");
	if (r == 0)
		r = mark(pool->catalog, &raw, &row, true);
	if (r)
		labels_back(pool);
	return r == -ESTALE ? -EBUSY : r;
}

/* Only what ends the world, or the memory, ends the deletion. */
static int clear_disk(const char *directory)
{
	int r = pool_directory_clear(directory);

	if (r && r != -ESHUTDOWN && r != -ENOMEM)
		log_warning("pool", "a disk of a deleted pool keeps files: it needs force",
			    "directory=\"%s\" error=%d", directory, r);
	return r == -ESHUTDOWN || r == -ENOMEM ? r : 0;
}

static int clear_disks(struct pool *pool)
{
	struct pool_disk *disk;
	int r = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		if (r == 0 && !pool_disk_is_gone(disk))
			r = clear_disk(disk->row.directory);
		else if (r == 0)
			log_warning("pool", "a disk of a deleted pool keeps its files",
				    "directory=\"%s\"", disk->row.directory);
	}
	return r;
}

int pool_delete(struct pool *pool)
{
	int r;

	reactor_assert_home(pool->home);
	r = give_up(pool);
	if (r == 0)
		r = clear_disks(pool);
	if (r == 0)
		r = rows_delete(pool->catalog, pool->id, pool->name);
	if (r)
		return r;
	pool_close(pool);
	return 0;
}

/* Going on */

struct finishing {
	struct catalog *catalog;
	uint64_t pool_id;
};

static bool is_of(const char *directory, const char *name, const struct pool_label *expected)
{
	struct pool_label label;
	struct pool_path path;
	int r;

	pool_path_of(directory, name, &path);
	r = pool_label_read(path.text, &label);
	if (r == -EUCLEAN)
		return pool_label_resembles(path.text, expected) == 0;
	return r == 0 && label.pool_id == expected->pool_id && label.disk_id == expected->disk_id &&
	       memcmp(label.uuid, expected->uuid, sizeof(label.uuid)) == 0;
}

/* What has another label, or none, was cleared and may have been put to another use. */
static int finish_disk(void *arg, uint64_t disk_id, const struct pool_disk_row *row)
{
	const struct finishing *finishing = arg;
	struct pool_label expected = {.pool_id = finishing->pool_id,
				      .disk_id = disk_id,
				      .created_wall_ns = row->created_wall_ns};

	memcpy(expected.uuid, row->uuid, sizeof(expected.uuid));
	if (!is_of(row->directory, "label", &expected) &&
	    !is_of(row->directory, "label.new", &expected))
		return 0;
	if (catalog_mirror_admits(finishing->catalog, row->directory) == -ESTALE)
		return -ESTALE;
	REACHED("pool.deletion-goes-on");
	return clear_disk(row->directory);
}

int pool_delete_finish(struct catalog *catalog, uint64_t id)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};
	struct finishing finishing = {.catalog = catalog, .pool_id = id};
	struct pool_row row;
	int r = pool_rows_get_pool(catalog, id, &raw, &row);

	if (r)
		return r;
	ASSERT(row.deleting);
	if (!catalog_is_whole(catalog))
		return -EUCLEAN;
	r = expect_unused(catalog, id);
	/* A version that does not know the mark has used it since: it is no more deleted. */
	if (r == -EBUSY)
		return mark(catalog, &raw, &row, false) ? -EIO : -EBUSY;
	if (r == 0)
		r = pool_rows_each_disk(catalog, id, finish_disk, &finishing);
	if (r == 0)
		r = rows_delete(catalog, id, row.name);
	if (r == 0)
		log_info("pool", "a deletion that was cut off is complete", "pool=%s", row.name);
	return r;
}
