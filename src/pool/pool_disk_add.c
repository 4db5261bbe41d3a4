/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adding disks to an open pool and removing them.
 *
 * Adding goes as in pool_create.c: directories and label.new, durable; the row; label.new becomes
 * label. A crash before the row leaves a directory that can be added again; one after it leaves a
 * disk whose next finding finishes the label. Removing goes backwards. On the pool's home reactor,
 * one at a time (disks_lock).
 *
 * Failure modes are those of pool_disk.h; nothing is changed in a directory that holds anything but
 * what these two leave behind, unless it is forced, and then only what looks like a pool's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "pool/pool_name.h"
#include "pool/pool_priv.h"
#include "reactor/io.h"

struct disk_call {
	struct pool *pool;
	const struct pool_disk_spec *spec;
	uint64_t id;
};

static int is_same_disk(void *arg, uint64_t disk_id, const struct pool_disk_row *row)
{
	const struct pool_label *label = arg;

	return label->disk_id == disk_id && memcmp(label->uuid, row->uuid, sizeof(row->uuid)) == 0
		       ? -EEXIST
		       : 0;
}

/* -EEXIST: this pool's; -ENOTEMPTY: of another pool in the catalog, or not `force`. */
static int check_old_label(struct pool *pool, const struct pool_disk_spec *spec)
{
	struct pool_label label;
	struct pool_path path;
	int r;

	pool_path_of(spec->directory, "label", &path);
	r = pool_label_read(path.text, &label);
	if (r == -ENOENT)
		return 0;
	if (r == -ENOTDIR)
		return -ENOTEMPTY;
	if (r == -EUCLEAN)
		return spec->force ? 0 : -ENOTEMPTY;
	if (r)
		return r;
	r = pool_rows_each_disk(pool->catalog, label.pool_id, is_same_disk, &label);
	if (r == -EEXIST)
		return label.pool_id == pool->id ? -EEXIST : -ENOTEMPTY;
	if (r && r != -EUCLEAN) /* that is: no such pool */
		return r;
	log_warning("pool", "the directory has the label of a pool that is not known here",
		    "directory=\"%s\" label=%s label_id=%" PRIu64, spec->directory, label.name,
		    label.pool_id);
	return spec->force ? 0 : -ENOTEMPTY;
}

static int check_spec(struct pool *pool, const struct pool_disk_spec *spec)
{
	struct pool_disk *disk;
	unsigned count = 0;
	int r = pool_directory_check_name(spec->directory);

	if (r)
		return r;
	if (!pool_tier_is_valid(spec->tier))
		return -EINVAL;
	POOL_FOR_EACH_DISK(pool, disk)
	{
		if (strcmp(disk->row.directory, spec->directory) == 0)
			return -EEXIST;
		count++;
	}
	return count == POOL_DISKS_MAX ? -E2BIG : check_old_label(pool, spec);
}

static int prepare(struct pool *pool, const struct pool_disk_spec *spec,
		   struct pool_disk_row *ret_row, uint64_t *ret_id)
{
	const char *tier = spec->tier ? spec->tier : POOL_TIER_DEFAULT;
	struct pool_label label = {.pool_id = pool->id};
	struct world *world = pool->world;
	int r = pool_directory_make(spec->directory, spec->force);

	if (r == 0)
		r = pool_directory_check_capacity(spec->directory, spec->capacity_bytes);
	if (r == 0)
		r = pool_directory_probe(spec->directory);
	if (r == 0)
		r = catalog_reserve_ids(pool->catalog, "disk", 1, &label.disk_id);
	if (r)
		return r;
	label.created_wall_ns = world->ops->wall_ns(world);
	memcpy(label.name, pool->name, sizeof(label.name));
	world->ops->random(world, label.uuid, sizeof(label.uuid));
	*ret_row = (struct pool_disk_row){
		.version = 2,
		.created_wall_ns = label.created_wall_ns,
		.capacity_bytes = spec->capacity_bytes,
	};
	memcpy(ret_row->uuid, label.uuid, sizeof(label.uuid));
	memcpy(ret_row->tier, tier, strlen(tier));
	memcpy(ret_row->directory, spec->directory, strlen(spec->directory));
	*ret_id = label.disk_id;
	return pool_directory_label(spec->directory, &label);
}

/* The disk is the pool's from its row on; if it cannot be used yet, it is missing. */
static int enter(struct pool *pool, uint64_t id, const struct pool_disk_row *row)
{
	struct pool_disk *disk;
	int r = pool_disk_insert(pool, id, row, &disk);

	if (r)
		return r;
	disk->tried_ns = reactor_now_ns(pool->home);
	atomic_store(&disk->state_since_ns, disk->tried_ns);
	disk->searching = true; /* nobody else does: its row may take longer than that waits */
	r = pool_disk_commit_row(disk);
	if (r) {
		disk->searching = false;
		pool_disk_take_out(disk);
		return r;
	}
	r = pool_disk_attach(disk);
	disk->searching = false;
	if (r)
		log_error("pool", "a disk was added, but cannot be used yet",
			  "pool=%s disk=%" PRIu64 " error=%d", pool->name, id, r);
	return r == -ESHUTDOWN ? r : 0;
}

static int add_locked(struct disk_call *call)
{
	_cleanup_free_ struct pool_disk_row *row = malloc(sizeof(*row));
	int r = row ? check_spec(call->pool, call->spec) : -ENOMEM;

	if (r == 0)
		r = prepare(call->pool, call->spec, row, &call->id);
	if (r == 0)
		r = enter(call->pool, call->id, row);
	if (r == 0)
		log_info("pool", "a disk was added", "pool=%s disk=%" PRIu64 " directory=\"%s\"",
			 call->pool->name, call->id, call->spec->directory);
	return r;
}

static int add_at_home(void *arg)
{
	struct disk_call *call = arg;
	int r;

	fiber_mutex_lock(&call->pool->disks_lock);
	r = add_locked(call);
	fiber_mutex_unlock(&call->pool->disks_lock);
	return r;
}

int pool_disk_add(struct pool *pool, const struct pool_disk_spec *spec, uint64_t *ret_id)
{
	struct disk_call call = {.pool = pool, .spec = spec};
	int r = pool_carry(pool, add_at_home, &call);

	if (r == 0)
		*ret_id = call.id;
	return r;
}

/* Removing */

static int delete_row(struct pool_disk *disk)
{
	struct catalog_change change = {
		.kind = CATALOG_DELETE,
		.key = pool_rows_disk_key(disk->pool->id, disk->id),
	};

	return catalog_commit(disk->pool->catalog, &change, 1);
}

static void drop_label(struct pool_disk *disk)
{
	struct pool_path path;
	int r;

	(void)pool_spare_drop_all(disk);
	pool_path_of(disk->row.directory, "label.new", &path);
	r = io_unlink(path.text);
	if (r && r != -ESHUTDOWN)
		log_warning("pool", "cannot remove the label of a disk that was removed",
			    "directory=\"%s\" error=%d", disk->row.directory, r);
}

/* Nothing new is put there any more, and what is there is known to be nothing. */
static int take_out(struct pool_disk *disk)
{
	const char *directory = disk->row.directory;
	bool reached = !pool_disk_is_gone(disk) &&
		       pool_directory_rename_label(directory, "label", "label.new") == 0;
	int r;

	if (!reached)
		log_warning("pool", "the disk keeps its label: adding it again needs force",
			    "pool=%s disk=%" PRIu64 " directory=\"%s\"", disk->pool->name, disk->id,
			    directory);
	r = delete_row(disk);

	if (r) {
		if (reached && pool_directory_rename_label(directory, "label.new", "label") != 0)
			log_warning("pool", "the label is not finished: the next opening does it",
				    "pool=%s disk=%" PRIu64, disk->pool->name, disk->id);
		return r;
	}
	if (reached)
		drop_label(disk);
	log_info("pool", "a disk was removed", "pool=%s disk=%" PRIu64 " directory=\"%s\"",
		 disk->pool->name, disk->id, directory);
	pool_disk_take_out(disk);
	return 0;
}

static unsigned count_disks(const struct pool *pool)
{
	struct pool_disk *disk;
	unsigned count = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	count++;
	return count;
}

static int remove_locked(struct disk_call *call)
{
	struct pool_disk *disk = pool_disk_by_id(call->pool, call->id);
	int r;

	if (!disk)
		return -ENOENT;
	if (count_disks(call->pool) == 1 || !pool_disk_can_be_spared(disk))
		return -EINVAL;
	if (disk->kept > 0)
		return -EUCLEAN;
	if (disk->files.count > disk->orphans || disk->names_busy > 0 || disk->searching ||
	    atomic_load(&disk->late) > 0)
		return -EBUSY;
	/* A row that is damaged may be of a file there. */
	if (pool_is_in_doubt(call->pool) && !disk->swept)
		return -EUCLEAN;
	disk->leaving = true;
	r = take_out(disk);
	disk->leaving = r == 0;
	return r;
}

static int remove_at_home(void *arg)
{
	struct disk_call *call = arg;
	int r;

	fiber_mutex_lock(&call->pool->disks_lock);
	r = remove_locked(call);
	fiber_mutex_unlock(&call->pool->disks_lock);
	return r;
}

int pool_disk_remove(struct pool *pool, uint64_t id)
{
	struct disk_call call = {.pool = pool, .id = id};

	return pool_carry(pool, remove_at_home, &call);
}
