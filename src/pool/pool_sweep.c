/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on a disk when it is found, against what the catalog names: the disk's table, which is
 * filled from the rows when the pool opens, also for disks that are missing, and follows them from
 * then on.
 *
 *   named and there      counts as used, by the size in its row
 *   named, not there     counts as used and is reported; opening it gives -ENOENT
 *   there, not named     a crash came before its row, or after the row's removal: to spare/; while
 *                        a row is damaged it may be that one's: kept as it is (pool_damage.h)
 *   anything else        is not ours: left alone, logged
 *
 * On a read-only file system nothing is moved. While a dead daemon's I/O may land, nothing is kept
 * in spare/ (pool_fence.h); that one may move files at the same time.
 */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_fence.h"
#include "pool/pool_rows.h"
#include "pool/pool_quota_priv.h"
#include "pool/pool_tier.h"
#include "reactor/io.h"

#define SCAN_ROWS          256
#define MISSING_LOGGED_MAX 16
#define PARTS_A_TURN       8u /* of a disk's table */

/* What the rows of files are read into. */
struct reading {
	struct pool *pool;
	uint64_t vdisk; /* of the rows that are read, whose files are `owner`'s */
	struct pool_quota *owner;
	struct pool_known_files known;
};

static struct pool_table_entry *enter(struct pool_disk *disk, uint64_t id, uint64_t size,
				      struct pool_quota *owner)
{
	struct pool_tier_change change = pool_tier_change_begin(disk, owner, id);
	struct pool_table_entry *entry = pool_table_insert(&disk->files, id);

	entry->pages = (uint32_t)(size / POOL_PAGE_BYTES);
	pool_tier_own(entry, owner);
	pool_tier_change_end(&change);
	atomic_fetch_add(&disk->used, size);
	return entry;
}

static void keep(struct pool_disk *disk, struct pool_table_entry *entry)
{
	disk->kept += entry->state != POOL_TABLE_KEPT;
	entry->state = POOL_TABLE_KEPT;
}

/* On one of its disks. */
static int add_copy(struct reading *reading, uint64_t disk_id, uint64_t id, uint64_t size)
{
	struct pool *pool = reading->pool;
	struct pool_disk *disk = pool_disk_by_id(pool, disk_id ? disk_id : pool_first_disk(pool));
	struct pool_table_entry *entry;
	int r;

	if (!disk)
		return pool_damage_add(pool, &(struct pool_damage){.kind = POOL_DAMAGE_DISK,
								   .vdisk = reading->vdisk,
								   .id = id});
	r = pool_table_reserve(&disk->files, id);
	if (r)
		return r;
	entry = pool_table_find(&disk->files, id);
	if (entry) {
		/* Of either, or of neither: who is deleted does not take it along. */
		keep(disk, entry);
		return pool_damage_add_shared(pool, &reading->known, reading->vdisk, id);
	}
	(void)enter(disk, id, size, reading->owner);
	return 0;
}

static int find_owner(struct reading *reading, uint64_t vdisk)
{
	struct pool *pool = reading->pool;
	uint64_t container;
	int r;

	if (vdisk == reading->vdisk)
		return 0;
	reading->vdisk = vdisk;
	reading->owner = NULL;
	r = pool_rows_get_container(pool->catalog, vdisk, &container);
	if (r == 0)
		r = pool_quota_of(pool, container, &reading->owner);
	/* Files of a vDisk without a row, or with a damaged one, are nobody's. */
	return r == -ENOENT || r == -EUCLEAN ? 0 : r;
}

static int add_row(struct reading *reading, const struct catalog_row *row)
{
	struct pool_copies copies;
	uint64_t id, size;
	int r;

	if (pool_rows_decode_file(row, &id, &size, &copies) < 0)
		return pool_damage_add_row(reading->pool, POOL_DAMAGE_FILE, row);
	r = find_owner(reading, catalog_key_number(&row->key, 1));
	for (unsigned i = 0; r == 0 && i < copies.count; i++)
		r = add_copy(reading, copies.disks[i], id, size);
	return r ? r : pool_known_files_add(&reading->known, reading->vdisk, id);
}

static int add_rows(struct reading *reading, struct catalog_key *after, bool *ret_more)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	struct catalog_key prefix = pool_rows_files_prefix(reading->pool->id);
	int r = catalog_scan_all(reading->pool->catalog, &prefix, after->length ? after : NULL,
				 SCAN_ROWS, &rows);

	for (size_t i = 0; r == 0 && i < rows.count; i++)
		r = add_row(reading, &rows.rows[i]);
	if (r)
		return r;
	*ret_more = rows.count == SCAN_ROWS;
	if (*ret_more)
		*after = rows.rows[rows.count - 1].key;
	return 0;
}

int pool_sweep_read_rows(struct pool *pool)
{
	struct reading reading = {.pool = pool};
	struct catalog_key after = {0};
	bool more = true;
	int r = 0;

	while (r == 0 && more)
		r = add_rows(&reading, &after, &more);
	if (r == 0)
		r = pool_damage_find(pool, &reading.known);
	pool_known_files_done(&reading.known);
	return r;
}

static void warn_foreign(const struct pool_disk *disk, const char *directory, const char *name)
{
	log_warning("pool", "a file that is not the pool's", "pool=%s directory=\"%s\" name=\"%s\"",
		    disk->pool->name, directory, name);
}

static int move_unnamed(struct pool_disk *disk, const char *path, uint64_t id)
{
	struct pool_path to;
	struct world_stat stat;
	int r = pool_disk_steps(disk);

	if (r == 0)
		r = io_stat(path, &stat);
	if (r)
		return r;
	pool_path_spare(disk->row.directory, id, ".sp", &to);
	/* Whether it is kept is decided when spare/ is looked at. */
	if (stat.size_bytes < POOL_GROUP_BYTES_MIN || stat.size_bytes > POOL_GROUP_BYTES)
		return io_unlink(path);
	return io_rename(path, to.text);
}

/* A dead daemon may change names, too. */
static int unless_gone(int r)
{
	return r == -ENOENT && pool_fence_get() == POOL_FENCE_NAMES ? 0 : r;
}

/* It takes the room that it takes, and its id. */
static int keep_unnamed(struct pool_disk *disk, const char *path, uint64_t id)
{
	struct world_stat stat;
	int r = pool_disk_steps(disk);

	if (r == 0)
		r = io_stat(path, &stat);
	if (r == 0)
		r = pool_table_reserve(&disk->files, id);
	if (r)
		return r == -ENOENT ? 0 : r;
	REACHED("pool.kept-in-doubt");
	/* In the meantime nothing is put on a disk that is looked through. */
	keep(disk, enter(disk, id,
			 ALIGN_UP(MIN(stat.size_bytes, POOL_GROUP_BYTES), POOL_PAGE_BYTES), NULL));
	pool_table_find(&disk->files, id)->seen = 1;
	return 0;
}

static int sweep_name(struct pool_disk *disk, const char *directory, unsigned index,
		      const char *name, bool read_only)
{
	struct pool_table_entry *entry;
	struct pool_path path;
	uint64_t id;

	if (!pool_path_parse(name, ".eg", &id) || (uint8_t)id != index) {
		warn_foreign(disk, directory, name);
		return 0;
	}
	entry = pool_table_find(&disk->files, id);
	if (entry) {
		entry->seen = 1;
		return 0;
	}
	pool_path_group(disk, id, &path);
	if (pool_is_in_doubt(disk->pool))
		return keep_unnamed(disk, path.text, id);
	if (read_only)
		return 0;
	return unless_gone(move_unnamed(disk, path.text, id));
}

static int sweep_directory(struct pool_disk *disk, unsigned index, bool read_only)
{
	struct pool_path path;
	struct world_names names;
	int r;

	pool_path_group_directory(disk, index, &path);
	r = io_directory_list(path.text, &names);
	if (r) {
		log_error("pool", "cannot list a directory", "path=\"%s\" error=%d", path.text, r);
		return r;
	}
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = sweep_name(disk, path.text, index, names.names[i], read_only);
	world_names_free(&names);
	return r;
}

struct pool_table_entry *pool_sweep_next(const struct pool_disk *disk, struct pool_table_walk *walk)
{
	unsigned part = walk->part;
	struct pool_table_entry *entry = pool_table_next(&disk->files, walk);

	if (walk->part / PARTS_A_TURN == part / PARTS_A_TURN)
		return entry;
	fiber_yield();
	/* The entry may be another one by now. */
	if (!entry)
		return NULL;
	pool_table_walk_removed(walk);
	return pool_table_next(&disk->files, walk);
}

/* While the disk is swept nothing is put into its table; what is removed meanwhile may hide another
 * entry from this, which is no more than not reported. */
static void report_missing(struct pool_disk *disk)
{
	struct pool_table_walk walk = {0};
	const struct pool_table_entry *entry;
	size_t missing = 0;

	while ((entry = pool_sweep_next(disk, &walk))) {
		if (entry->seen)
			continue;
		if (missing++ < MISSING_LOGGED_MAX)
			log_error("pool", "a group file is missing",
				  "pool=%s disk=%" PRIu64 " file=%016" PRIx64, disk->pool->name,
				  disk->id, entry->id);
	}
	if (missing > 0)
		log_error("pool", "group files are missing", "pool=%s disk=%" PRIu64 " files=%zu",
			  disk->pool->name, disk->id, missing);
}

static bool spare_is_good(struct pool_disk *disk, const struct world_stat *stat)
{
	uint64_t taken = atomic_load(&disk->used) + atomic_load(&disk->spare);

	return stat->size_bytes <= POOL_GROUP_BYTES &&
	       IS_ALIGNED(stat->size_bytes, POOL_PAGE_BYTES) &&
	       pool_spare_wants(disk, stat->size_bytes) &&
	       taken + stat->size_bytes <= atomic_load(&disk->capacity);
}

static int sweep_spare(struct pool_disk *disk, const char *directory, const char *name)
{
	struct pool_path path;
	struct world_stat stat;
	uint64_t id;
	int r = pool_disk_steps(disk);

	if (r)
		return r;
	if (pool_path_parse(name, ".new", &id)) { /* was being written ahead */
		pool_path_spare(disk->row.directory, id, ".new", &path);
		return unless_gone(io_unlink(path.text));
	}
	if (!pool_path_parse(name, ".sp", &id)) {
		warn_foreign(disk, directory, name);
		return 0;
	}
	pool_path_spare(disk->row.directory, id, ".sp", &path);
	r = io_stat(path.text, &stat);
	if (r)
		return unless_gone(r);
	if (spare_is_good(disk, &stat) && pool_spare_add(disk, id, stat.size_bytes))
		return 0;
	return unless_gone(io_unlink(path.text));
}

static int sweep_spares(struct pool_disk *disk)
{
	struct pool_path path;
	struct world_names names;
	int r;

	pool_path_of(disk->row.directory, "spare", &path);
	r = io_directory_list(path.text, &names);
	if (r) {
		log_error("pool", "cannot list a directory", "path=\"%s\" error=%d", path.text, r);
		return r;
	}
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = sweep_spare(disk, path.text, names.names[i]);
	world_names_free(&names);
	return r;
}

int pool_sweep_disk(struct pool_disk *disk, bool read_only)
{
	struct pool_table_walk walk = {0};
	struct pool_table_entry *entry;
	int r = 0;

	while ((entry = pool_sweep_next(disk, &walk)))
		entry->seen = 0;
	for (unsigned i = 0; r == 0 && i < POOL_DIRECTORIES; i++) {
		r = pool_disk_steps(disk);
		if (r == 0)
			r = sweep_directory(disk, i, read_only);
	}
	if (r)
		return r;
	disk->swept = true;
	report_missing(disk);
	return read_only ? 0 : sweep_spares(disk);
}
