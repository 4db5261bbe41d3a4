/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the catalog: each decoded, then held against those that it names. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fsck/fsck_priv.h"

static int compare_keys(const struct catalog_key *a, const struct catalog_key *b)
{
	int r = memcmp(a->bytes, b->bytes, MIN(a->length, b->length));

	return r ? r : (int)a->length - (int)b->length;
}

const struct catalog_row *fsck_row_find(const struct fsck *fsck, const struct catalog_key *key)
{
	size_t low = 0, high = fsck->rows.count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int r = compare_keys(&fsck->rows.rows[middle].key, key);

		if (r == 0)
			return &fsck->rows.rows[middle];
		if (r < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

struct fsck_pool *fsck_pool_find(const struct fsck *fsck, uint64_t id)
{
	for (size_t i = 0; i < fsck->pool_count; i++)
		if (fsck->pools[i].id == id)
			return &fsck->pools[i];
	return NULL;
}

struct fsck_vdisk *fsck_vdisk_find(const struct fsck *fsck, uint64_t id)
{
	size_t low = 0, high = fsck->vdisk_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (fsck->vdisks[middle].row.id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < fsck->vdisk_count && fsck->vdisks[low].row.id == id ? &fsck->vdisks[low]
									 : NULL;
}

struct fsck_group *fsck_group_find(const struct fsck_vdisk *vdisk, uint64_t id)
{
	size_t low = 0, high = vdisk->group_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (vdisk->groups[middle].row.id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < vdisk->group_count && vdisk->groups[low].row.id == id ? &vdisk->groups[low]
									   : NULL;
}

static int compare_files(const struct fsck_file *file, uint64_t pool, uint64_t id)
{
	if (file->pool != pool)
		return file->pool < pool ? -1 : 1;
	return file->row.id < id ? -1 : file->row.id > id;
}

struct fsck_file *fsck_file_find(const struct fsck *fsck, uint64_t pool, uint64_t id)
{
	size_t low = 0, high = fsck->file_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (compare_files(fsck->by_id[middle], pool, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < fsck->file_count && compare_files(fsck->by_id[low], pool, id) == 0
		       ? fsck->by_id[low]
		       : NULL;
}

static void bad_row(struct fsck *fsck, const char *what, const struct catalog_row *row)
{
	char object[FSCK_OBJECT_MAX];
	unsigned numbers = (row->key.length - 1u) / 8;
	int length = snprintf(object, sizeof(object), "%s row", what);

	for (unsigned i = 0; i < MIN(numbers, 3u); i++)
		length += snprintf(object + length, sizeof(object) - (size_t)length, "%c%" PRIu64,
				   i ? '/' : ' ', catalog_key_number(&row->key, i));
	fsck->rows_missing = true;
	fsck_find(fsck, FSCK_ROW, object, "the row has an unknown version or impossible values");
}

static int take_pool(struct fsck *fsck, const struct catalog_row *row)
{
	struct fsck_pool *pool = &fsck->pools[fsck->pool_count];

	if (row->key.length != 1 + 8 || pool_rows_decode_pool(row, &pool->row) < 0) {
		bad_row(fsck, "pool", row);
		return 0;
	}
	pool->id = catalog_key_number(&row->key, 0);
	fsck->pool_count++;
	return 0;
}

static int take_disk(struct fsck *fsck, const struct catalog_row *row)
{
	_cleanup_free_ struct pool_disk_row *from = calloc(1, sizeof(*from)); /* large */
	struct fsck_disk *disk = &fsck->disks[fsck->disk_count];

	if (!from)
		return -ENOMEM;
	if (pool_rows_decode_disk(row, from) < 0) {
		bad_row(fsck, "disk", row);
		return 0;
	}
	disk->pool = catalog_key_number(&row->key, 0);
	disk->id = catalog_key_number(&row->key, 1);
	memcpy(disk->uuid, from->uuid, sizeof(disk->uuid));
	disk->directory = strdup(from->directory);
	if (!disk->directory)
		return -ENOMEM;
	fsck->disk_count++;
	return 0;
}

static int take_vdisk(struct fsck *fsck, const struct catalog_row *row)
{
	struct fsck_vdisk *vdisk = &fsck->vdisks[fsck->vdisk_count];

	if (row->key.length != 1 + 8 || vdisk_row_decode(row, &vdisk->row) < 0)
		bad_row(fsck, "vDisk", row);
	else
		fsck->vdisk_count++;
	return 0;
}

static int take_file(struct fsck *fsck, const struct catalog_row *row)
{
	struct fsck_file *file = &fsck->files[fsck->file_count];

	if (row->key.length != 1 + 24 || egroup_file_row_decode(row, &file->row) < 0) {
		bad_row(fsck, "file", row);
		return 0;
	}
	file->pool = catalog_key_number(&row->key, 0);
	file->vdisk = catalog_key_number(&row->key, 1);
	fsck->file_count++;
	return 0;
}

static int take_group(struct fsck *fsck, const struct catalog_row *row)
{
	struct fsck_group *group = &fsck->groups[fsck->group_count];

	if (egroup_group_row_decode(row, &group->row) < 0) {
		bad_row(fsck, "group", row);
		return 0;
	}
	group->pool = catalog_key_number(&row->key, 0);
	group->vdisk = catalog_key_number(&row->key, 1);
	fsck->group_count++;
	return 0;
}

static int take_row(struct fsck *fsck, const struct catalog_row *row)
{
	switch (row->key.bytes[0]) {
	case CATALOG_POOL:
		return take_pool(fsck, row);
	case CATALOG_DISK:
		return take_disk(fsck, row);
	case CATALOG_VDISK:
		return take_vdisk(fsck, row);
	case CATALOG_EGROUP:
		return take_group(fsck, row);
	case CATALOG_EGFILE:
		return take_file(fsck, row);
	default:
		return 0; /* names, counters: fsck_names.c; the rest by those whose they are */
	}
}

static int compare_by_id(const void *a, const void *b)
{
	const struct fsck_file *const *x = a, *const *y = b;

	return compare_files(*x, (*y)->pool, (*y)->row.id);
}

static size_t rows_of(const struct fsck *fsck, enum catalog_table table)
{
	size_t count = 0;

	for (size_t i = 0; i < fsck->rows.count; i++)
		count += fsck->rows.rows[i].key.bytes[0] == table;
	return count + 1;
}

static bool allocate(struct fsck *fsck)
{
	fsck->pools = calloc(rows_of(fsck, CATALOG_POOL), sizeof(*fsck->pools));
	fsck->disks = calloc(rows_of(fsck, CATALOG_DISK), sizeof(*fsck->disks));
	fsck->vdisks = calloc(rows_of(fsck, CATALOG_VDISK), sizeof(*fsck->vdisks));
	fsck->files = calloc(rows_of(fsck, CATALOG_EGFILE), sizeof(*fsck->files));
	fsck->groups = calloc(rows_of(fsck, CATALOG_EGROUP), sizeof(*fsck->groups));
	fsck->by_id = calloc(rows_of(fsck, CATALOG_EGFILE), sizeof(*fsck->by_id));
	return fsck->pools && fsck->disks && fsck->vdisks && fsck->files && fsck->groups &&
	       fsck->by_id;
}

int fsck_rows_read(struct fsck *fsck)
{
	int r = allocate(fsck) ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < fsck->rows.count; i++)
		r = take_row(fsck, &fsck->rows.rows[i]);
	if (r < 0)
		return r;
	for (size_t i = 0; i < fsck->file_count; i++)
		fsck->by_id[i] = &fsck->files[i];
	qsort(fsck->by_id, fsck->file_count, sizeof(fsck->by_id[0]), compare_by_id);
	fsck->report.pools = fsck->pool_count;
	fsck->report.vdisks = fsck->vdisk_count;
	fsck->report.files = fsck->file_count;
	return 0;
}

static void check_disk_rows(struct fsck *fsck)
{
	char object[FSCK_OBJECT_MAX];

	for (size_t i = 0; i < fsck->disk_count; i++) {
		const struct fsck_disk *disk = &fsck->disks[i];

		snprintf(object, sizeof(object), "disk %" PRIu64, disk->id);
		if (!fsck_pool_find(fsck, disk->pool))
			fsck_find(fsck, FSCK_REFERENCE, object, "its pool %" PRIu64 " is not there",
				  disk->pool);
	}
	for (size_t i = 0; i < fsck->pool_count; i++) {
		size_t count = 0;

		for (size_t n = 0; n < fsck->disk_count; n++)
			count += fsck->disks[n].pool == fsck->pools[i].id;
		if (count == 0)
			fsck_find(fsck, FSCK_REFERENCE, fsck->pools[i].row.name,
				  "the pool has no disk");
	}
}

/* Files and groups come in the order of their keys: pool, vDisk, id. */
static void attach_ranges(struct fsck *fsck)
{
	for (size_t i = 0; i < fsck->file_count; i++) {
		struct fsck_vdisk *vdisk = fsck_vdisk_find(fsck, fsck->files[i].vdisk);

		if (!vdisk || vdisk->row.pool != fsck->files[i].pool)
			continue;
		if (vdisk->file_count++ == 0)
			vdisk->files = &fsck->files[i];
	}
	for (size_t i = 0; i < fsck->group_count; i++) {
		struct fsck_vdisk *vdisk = fsck_vdisk_find(fsck, fsck->groups[i].vdisk);

		if (!vdisk || vdisk->row.pool != fsck->groups[i].pool)
			continue;
		if (vdisk->group_count++ == 0)
			vdisk->groups = &fsck->groups[i];
	}
}

static struct fsck_file *file_of_group(const struct fsck *fsck, const struct fsck_group *group)
{
	struct fsck_file *file = fsck_file_find(fsck, group->pool, group->row.file);

	return file && file->vdisk == group->vdisk ? file : NULL;
}

static bool group_fits(const struct fsck_group *group, const struct fsck_file *file)
{
	if (group->row.compacted != file->row.compacted)
		return false;
	if (!group->row.compacted)
		return file->group_count == 0;
	return group->row.stored_count <= file->row.total_slots &&
	       group->row.base <= file->row.total_slots - group->row.stored_count;
}

static void check_group_row(struct fsck *fsck, struct fsck_group *group)
{
	const struct fsck_vdisk *vdisk = fsck_vdisk_find(fsck, group->vdisk);
	struct fsck_file *file = file_of_group(fsck, group);
	char object[FSCK_OBJECT_MAX];

	snprintf(object, sizeof(object), "vDisk %" PRIu64 ", group %" PRIu64, group->vdisk,
		 group->row.id);
	if (!vdisk || vdisk->row.pool != group->pool)
		fsck_find(fsck, FSCK_REFERENCE, object, "its vDisk is not there");
	if (!file) {
		fsck_find(fsck, FSCK_REFERENCE, object, "there is no row of its file %016" PRIx64,
			  group->row.file);
		return;
	}
	if (!group_fits(group, file)) {
		fsck_find(fsck, FSCK_REFERENCE, object,
			  "its row and that of its file %016" PRIx64 " contradict each other",
			  file->row.id);
		return;
	}
	group->file = file;
	group->next = file->group;
	file->group = group;
	file->group_count++;
}

static int fix_file_row(struct fsck *fsck, const struct fsck_file *file, const char *object)
{
	struct fsck_change change = {.kind = CATALOG_DELETE, .key = catalog_key(CATALOG_EGFILE)};
	const struct catalog_row *row;

	catalog_key_add(&change.key, file->pool);
	catalog_key_add(&change.key, file->vdisk);
	catalog_key_add(&change.key, file->row.id);
	row = fsck_row_find(fsck, &change.key);
	change.version = row ? row->version : 0;
	return fsck_fix(fsck, &change, FSCK_FILE_EMPTY, object,
			"its row is removed, the file becomes spare", "no group is in this file");
}

static int check_file_row(struct fsck *fsck, const struct fsck_file *file, size_t index)
{
	const struct fsck_vdisk *vdisk = fsck_vdisk_find(fsck, file->vdisk);
	char object[FSCK_OBJECT_MAX];

	snprintf(object, sizeof(object), "vDisk %" PRIu64 ", file %016" PRIx64, file->vdisk,
		 file->row.id);
	if (!vdisk || vdisk->row.pool != file->pool)
		fsck_find(fsck, FSCK_REFERENCE, object, "its vDisk is not there");
	if (index > 0 && compare_by_id(&fsck->by_id[index - 1], &fsck->by_id[index]) == 0)
		fsck_find(fsck, FSCK_REFERENCE, object, "two rows name this file");
	for (unsigned copy = 0; copy < file->row.copies.count; copy++)
		if (!fsck_disk_of(fsck, file, copy))
			fsck_find(fsck, FSCK_REFERENCE, object, "its disk %" PRIu64 " is not there",
				  file->row.copies.disks[copy]);
	/* A delete removes rows of groups first. */
	if (file->group_count > 0 || (vdisk && vdisk->row.deleting) || fsck->rows_missing)
		return 0;
	return fix_file_row(fsck, file, object);
}

static void check_vdisk_row(struct fsck *fsck, const struct fsck_vdisk *vdisk)
{
	struct catalog_key key = catalog_key(CATALOG_CONTAINER);

	catalog_key_add(&key, vdisk->row.container);
	if (!fsck_pool_find(fsck, vdisk->row.pool))
		fsck_find(fsck, FSCK_REFERENCE, vdisk->row.name,
			  "the pool of the vDisk, %" PRIu64 ", is not there", vdisk->row.pool);
	if (!fsck_row_find(fsck, &key))
		fsck_find(fsck, FSCK_REFERENCE, vdisk->row.name,
			  "the container of the vDisk, %" PRIu64 ", is not there",
			  vdisk->row.container);
}

int fsck_rows_check(struct fsck *fsck)
{
	int r = 0;

	attach_ranges(fsck);
	check_disk_rows(fsck);
	for (size_t i = 0; i < fsck->vdisk_count; i++)
		check_vdisk_row(fsck, &fsck->vdisks[i]);
	for (size_t i = 0; i < fsck->group_count; i++)
		check_group_row(fsck, &fsck->groups[i]);
	for (size_t i = 0; r == 0 && i < fsck->file_count; i++)
		r = check_file_row(fsck, fsck->by_id[i], i);
	return r;
}
