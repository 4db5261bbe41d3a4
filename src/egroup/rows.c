/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog rows of extent groups and of their files (docs/format.md), and reading them at open.
 * Every value is checked: a row that cannot be true makes the vDisk -EUCLEAN, with the key in the
 * log.
 */
#include "egroup/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "egroup/store_priv.h"
#include "pool/pool_rows.h"

#define ROWS_A_PAGE 256u

#define GROUP_ROW_VERSION 1

/* Offsets in a CATALOG_EGROUP value. */
enum {
	GROUP_VERSION = 0,
	GROUP_STREAM = 1,
	GROUP_SEALED = 2,
	GROUP_COMPACTED = 3,
	GROUP_SLOTS = 4,
	GROUP_EPOCH = 8,
	GROUP_LAST_LSN = 16,
	GROUP_FILE = 24,
	GROUP_BASE = 32,
	GROUP_STORED = 36,
};

/* Offsets in a CATALOG_EGFILE value, beside the pool's (pool_rows.h). */
enum {
	FILE_COMPACTED = 9,
	FILE_INDEX_BLOCKS = 12,
	FILE_TOTAL_SLOTS = 16,
	FILE_SEQUENTIAL = 20, /* 0 before it was known */
};
_Static_assert(EGROUP_ROW_BYTES >= POOL_FILE_ROW_BYTES_MIN, "both parts fit");
_Static_assert(GROUP_FILE == POOL_GROUP_ROW_FILE && EGROUP_ROW_BYTES == POOL_GROUP_ROW_BYTES &&
		       GROUP_ROW_VERSION == POOL_GROUP_ROW_VERSION,
	       "the pool reads it");

struct catalog_key egroup_prefix(enum catalog_table table, uint64_t pool, uint64_t vdisk)
{
	struct catalog_key key = catalog_key(table);

	catalog_key_add(&key, pool);
	catalog_key_add(&key, vdisk);
	return key;
}

struct catalog_key egroup_key(enum catalog_table table, const struct egroup_store *store,
			      uint64_t id)
{
	struct catalog_key key = egroup_prefix(table, pool_id(store->pool), store->vdisk);

	catalog_key_add(&key, id);
	return key;
}

void egroup_row(const struct egroup *group, uint8_t value[EGROUP_ROW_BYTES])
{
	memset(value, 0, EGROUP_ROW_BYTES);
	value[GROUP_VERSION] = GROUP_ROW_VERSION;
	value[GROUP_STREAM] = (uint8_t)group->stream;
	value[GROUP_SEALED] = group->sealed;
	value[GROUP_COMPACTED] = group->file->compacted;
	put_le32(value + GROUP_SLOTS, group->slots);
	put_le64(value + GROUP_EPOCH, group->epoch);
	put_le64(value + GROUP_LAST_LSN, group->last_lsn);
	put_le64(value + GROUP_FILE, group->file->id);
	put_le32(value + GROUP_BASE, group->base);
	put_le32(value + GROUP_STORED, group->stored_count);
}

void egroup_file_row(const struct egroup_file *file, uint8_t value[EGROUP_ROW_BYTES])
{
	memset(value, 0, EGROUP_ROW_BYTES);
	pool_rows_encode_file(file->allocated_bytes, &file->copies, value);
	value[FILE_COMPACTED] = file->compacted;
	put_le32(value + FILE_INDEX_BLOCKS, file->index_blocks);
	put_le32(value + FILE_TOTAL_SLOTS, file->total_slots);
	value[FILE_SEQUENTIAL] = file->sequential;
}

static int damaged(const struct egroup_store *store, const char *what, uint64_t id)
{
	log_error("egroup", "catalog row is damaged", "vdisk=%" PRIu64 " row=%s id=%" PRIu64,
		  store->vdisk, what, id);
	return -EUCLEAN;
}

int egroup_file_row_decode(const struct catalog_row *row, struct egroup_file_row *ret_row)
{
	struct egroup_file_row file = {0};

	if (row->length != EGROUP_ROW_BYTES ||
	    pool_rows_decode_file(row, &file.id, &file.size_bytes, &file.copies) < 0)
		return -EUCLEAN;
	file.compacted = row->value[FILE_COMPACTED];
	file.index_blocks = get_le32(row->value + FILE_INDEX_BLOCKS);
	file.total_slots = get_le32(row->value + FILE_TOTAL_SLOTS);
	file.sequential = row->value[FILE_SEQUENTIAL];
	if (file.total_slots > SLOTS_PER_GROUP || file.index_blocks > SLOTS_PER_GROUP ||
	    file.compacted != (file.index_blocks > 0))
		return -EUCLEAN;
	*ret_row = file;
	return 0;
}

int egroup_group_row_decode(const struct catalog_row *row, struct egroup_group_row *ret_row)
{
	const uint8_t *value = row->value;
	struct egroup_group_row group = {0};

	if (row->key.length != 1 + 24 || row->length != EGROUP_ROW_BYTES ||
	    value[GROUP_VERSION] != GROUP_ROW_VERSION)
		return -EUCLEAN;
	group.id = catalog_key_number(&row->key, 2);
	group.stream = value[GROUP_STREAM];
	group.sealed = value[GROUP_SEALED];
	group.compacted = value[GROUP_COMPACTED];
	group.slots = get_le32(value + GROUP_SLOTS);
	group.epoch = get_le64(value + GROUP_EPOCH);
	group.last_lsn = get_le64(value + GROUP_LAST_LSN);
	group.file = get_le64(value + GROUP_FILE);
	group.base = get_le32(value + GROUP_BASE);
	group.stored_count = get_le32(value + GROUP_STORED);
	if (group.id == 0 || group.id >> EGROUP_ID_BITS ||
	    (group.stream != RECORD_STREAM_LOG && group.stream != RECORD_STREAM_PAGES) ||
	    (group.sealed && group.slots > SLOTS_PER_GROUP) || (group.compacted && !group.sealed))
		return -EUCLEAN;
	*ret_row = group;
	return 0;
}

struct file_index { /* sorted by id, as the rows come */
	struct egroup_file **files;
	size_t count, room;
};

static int index_add(struct file_index *index, struct egroup_file *file)
{
	if (index->count == index->room) {
		size_t room = MAX(index->room * 2, (size_t)ROWS_A_PAGE);
		struct egroup_file **grown = realloc(index->files, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		index->files = grown;
		index->room = room;
	}
	index->files[index->count++] = file;
	return 0;
}

static int load_file_row(struct egroup_store *store, struct file_index *index,
			 const struct catalog_row *row)
{
	struct egroup_file_row from;
	struct egroup_file *file;

	if (egroup_file_row_decode(row, &from) < 0)
		return damaged(store, "file", catalog_key_number(&row->key, 2));
	file = egroup_file_new(store, from.id);
	if (!file)
		return -ENOMEM;
	if (from.copies.disks[0] == 0)
		from.copies.disks[0] = pool_first_disk(store->pool);
	file->copies = from.copies;
	file->allocated_bytes = from.size_bytes;
	file->compacted = from.compacted;
	file->index_loaded = !from.compacted;
	file->index_blocks = from.index_blocks;
	file->total_slots = from.total_slots;
	file->sequential = from.sequential;
	return index_add(index, file);
}

static struct egroup_file *find_file(const struct file_index *index, uint64_t id)
{
	size_t low = 0, high = index->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (index->files[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < index->count && index->files[low]->id == id ? index->files[low] : NULL;
}

static bool group_fits(const struct egroup *group)
{
	const struct egroup_file *file = group->file;

	if (!file->compacted)
		return file->group_count == 1;
	return group->stored_count <= file->total_slots &&
	       group->base <= file->total_slots - group->stored_count;
}

static int load_group_row(struct egroup_store *store, struct file_index *index,
			  const struct catalog_row *row)
{
	uint64_t id = catalog_key_number(&row->key, 2);
	struct egroup_group_row from;
	struct egroup_file *file;
	struct egroup *group;

	if (egroup_group_row_decode(row, &from) < 0)
		return damaged(store, "group", id);
	file = find_file(index, from.file);
	if (!file)
		return damaged(store, "group", id);
	group = egroup_new(store, id, file);
	if (!group)
		return -ENOMEM;
	group->stream = from.stream;
	group->sealed = from.sealed;
	group->pinned = !from.sealed;
	group->slots = from.slots;
	group->epoch = from.epoch;
	group->last_lsn = from.last_lsn;
	group->base = from.base;
	group->stored_count = from.stored_count;
	if (from.stream == RECORD_STREAM_LOG && id > store->newest_log_id) {
		store->newest_log_id = id;
		store->newest_log_sequential = file->sequential;
	}
	if (from.compacted != file->compacted || !group_fits(group))
		return damaged(store, "group", id);
	return 0;
}

/* A page of rows at a time, so that a vDisk with very many neither takes memory for all of them at
 * once nor keeps its reactor from everything else. */
static int load_table(struct egroup_store *store, enum catalog_table table,
		      int (*load)(struct egroup_store *store, struct file_index *index,
				  const struct catalog_row *row),
		      struct file_index *index)
{
	const struct catalog_key prefix = egroup_prefix(table, pool_id(store->pool), store->vdisk);
	struct catalog_key after = {0};
	bool more = true;
	int r = 0;

	while (r == 0 && more) {
		_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};

		r = catalog_scan(store->catalog, &prefix, after.length ? &after : NULL, ROWS_A_PAGE,
				 &rows);
		for (size_t i = 0; r == 0 && i < rows.count; i++)
			r = load(store, index, &rows.rows[i]);
		more = r == 0 && rows.count == ROWS_A_PAGE;
		if (more)
			after = rows.rows[rows.count - 1].key;
	}
	return r;
}

int egroup_rows_load(struct egroup_store *store)
{
	struct file_index index = {0};
	int r;

	r = load_table(store, CATALOG_EGFILE, load_file_row, &index);
	if (r == 0)
		r = load_table(store, CATALOG_EGROUP, load_group_row, &index);
	free(index.files);
	return r;
}
