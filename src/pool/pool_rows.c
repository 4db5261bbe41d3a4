/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/pool_rows.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "pool/pool_name.h"

#define ROW_VERSION 1

/* docs/format.md, "Pool row". */
enum { POOL_DELETING = 1 << 0 };

struct pool_value {
	uint8_t version;
	uint8_t flags;
	uint8_t zero[6];
	uint8_t capacity_bytes[8];
	uint8_t created_wall_ns[8];
	uint8_t name[POOL_NAME_MAX + 1];
};
_Static_assert(sizeof(struct pool_value) == POOL_ROW_BYTES, "on disk");
_Static_assert(offsetof(struct pool_value, flags) == 1, "on disk");
_Static_assert(offsetof(struct pool_value, capacity_bytes) == 8, "on disk");
_Static_assert(offsetof(struct pool_value, created_wall_ns) == 16, "on disk");
_Static_assert(offsetof(struct pool_value, name) == 24, "on disk");

/* docs/format.md, "Disk row". Version 1 ended, but for the directory, at `capacity_bytes`. */
#define DISK_ROW_VERSION 2
#define DISK_ROW_BYTES_1 32u

enum { DISK_DRAINING = 1 << 0, DISK_FAILED = 1 << 1, DISK_FLAGS = 3 };

struct disk_value {
	uint8_t version;
	uint8_t flags;
	uint8_t zero[4];
	uint8_t directory_length[2];
	uint8_t created_wall_ns[8];
	uint8_t uuid[POOL_UUID_BYTES];
	uint8_t capacity_bytes[8];
	uint8_t tier[POOL_TIER_MAX + 1];
	uint8_t directory[];
};
_Static_assert(sizeof(struct disk_value) == POOL_DISK_ROW_BYTES, "on disk");
_Static_assert(offsetof(struct disk_value, flags) == 1, "on disk");
_Static_assert(offsetof(struct disk_value, directory_length) == 6, "on disk");
_Static_assert(offsetof(struct disk_value, created_wall_ns) == 8, "on disk");
_Static_assert(offsetof(struct disk_value, uuid) == 16, "on disk");
_Static_assert(offsetof(struct disk_value, capacity_bytes) == DISK_ROW_BYTES_1, "on disk");
_Static_assert(offsetof(struct disk_value, tier) == 40, "on disk");

struct catalog_key pool_rows_pool_key(uint64_t pool_id)
{
	struct catalog_key key = catalog_key(CATALOG_POOL);

	catalog_key_add(&key, pool_id);
	return key;
}

struct catalog_key pool_rows_disk_key(uint64_t pool_id, uint64_t disk_id)
{
	struct catalog_key key = catalog_key(CATALOG_DISK);

	catalog_key_add(&key, pool_id);
	catalog_key_add(&key, disk_id);
	return key;
}

struct catalog_key pool_rows_files_prefix(uint64_t pool_id)
{
	struct catalog_key key = catalog_key(CATALOG_EGFILE);

	catalog_key_add(&key, pool_id);
	return key;
}

void pool_rows_encode_pool(const struct pool_row *row, uint8_t ret_value[POOL_ROW_BYTES])
{
	struct pool_value value = {.version = ROW_VERSION,
				   .flags = row->deleting ? POOL_DELETING : 0};

	put_le64(value.capacity_bytes, row->capacity_bytes);
	put_le64(value.created_wall_ns, row->created_wall_ns);
	memcpy(value.name, row->name, strnlen(row->name, POOL_NAME_MAX));
	memcpy(ret_value, &value, sizeof(value));
}

uint32_t pool_rows_encode_disk(const struct pool_disk_row *row,
			       uint8_t ret_value[POOL_DISK_ROW_BYTES + POOL_DIRECTORY_MAX])
{
	struct disk_value value = {.version = DISK_ROW_VERSION};
	size_t length = strnlen(row->directory, POOL_DIRECTORY_MAX);

	value.flags =
		(uint8_t)((row->draining ? DISK_DRAINING : 0) | (row->failed ? DISK_FAILED : 0));
	put_le64(value.capacity_bytes, row->capacity_bytes);
	memcpy(value.tier, row->tier, strnlen(row->tier, POOL_TIER_MAX));
	put_le16(value.directory_length, (uint16_t)length);
	put_le64(value.created_wall_ns, row->created_wall_ns);
	memcpy(value.uuid, row->uuid, sizeof(value.uuid));
	memcpy(ret_value, &value, sizeof(value));
	memcpy(ret_value + sizeof(value), row->directory, length);
	return (uint32_t)(sizeof(value) + length);
}

static int damaged(const char *what, const struct catalog_row *row)
{
	unsigned numbers = (row->key.length - 1u) / 8;

	log_error("pool", "a catalog row is damaged",
		  "row=%s first=%" PRIu64 " second=%" PRIu64 " length=%u", what,
		  numbers > 0 ? catalog_key_number(&row->key, 0) : 0,
		  numbers > 1 ? catalog_key_number(&row->key, 1) : 0, row->length);
	return -EUCLEAN;
}

int pool_rows_decode_pool(const struct catalog_row *row, struct pool_row *ret_row)
{
	const struct pool_value *value = (const struct pool_value *)row->value;

	if (row->key.length != 1 + 8 || row->length != sizeof(*value) ||
	    value->version != ROW_VERSION || (value->flags & ~POOL_DELETING) ||
	    !memchr(value->name, 0, sizeof(value->name)) ||
	    !pool_name_is_valid((const char *)value->name))
		return damaged("pool", row);
	*ret_row = (struct pool_row){
		.capacity_bytes = get_le64(value->capacity_bytes),
		.created_wall_ns = get_le64(value->created_wall_ns),
		.deleting = value->flags & POOL_DELETING,
	};
	memcpy(ret_row->name, value->name, sizeof(value->name));
	return 0;
}

static bool tier_is_sound(const uint8_t tier[POOL_TIER_MAX + 1])
{
	return memchr(tier, 0, POOL_TIER_MAX + 1) && pool_name_is_valid((const char *)tier);
}

/* What version 2 added. */
static bool decode_disk_more(const struct disk_value *value, struct pool_disk_row *ret_row)
{
	if ((value->flags & ~DISK_FLAGS) || !tier_is_sound(value->tier))
		return false;
	ret_row->version = DISK_ROW_VERSION;
	ret_row->draining = value->flags & DISK_DRAINING;
	ret_row->failed = value->flags & DISK_FAILED;
	ret_row->capacity_bytes = get_le64(value->capacity_bytes);
	memcpy(ret_row->tier, value->tier, sizeof(value->tier));
	return true;
}

int pool_rows_decode_disk(const struct catalog_row *row, struct pool_disk_row *ret_row)
{
	const struct disk_value *value = (const struct disk_value *)row->value;
	size_t length, fixed;

	if (row->key.length != 1 + 16 || row->length < DISK_ROW_BYTES_1 || value->version == 0 ||
	    value->version > DISK_ROW_VERSION)
		return damaged("disk", row);
	fixed = value->version == 1 ? DISK_ROW_BYTES_1 : sizeof(*value);
	length = get_le16(value->directory_length);
	if (length == 0 || length > POOL_DIRECTORY_MAX || row->length != fixed + length ||
	    row->value[fixed] != '/' || memchr(row->value + fixed, 0, length))
		return damaged("disk", row);
	*ret_row = (struct pool_disk_row){.version = 1, .tier = POOL_TIER_DEFAULT};
	if (value->version > 1 && !decode_disk_more(value, ret_row))
		return damaged("disk", row);
	ret_row->created_wall_ns = get_le64(value->created_wall_ns);
	memcpy(ret_row->uuid, value->uuid, sizeof(value->uuid));
	memcpy(ret_row->directory, row->value + fixed, length);
	return 0;
}

enum { /* offsets in a CATALOG_EGFILE value */
       FILE_SIZE = 0,
       FILE_VERSION = 8,
       FILE_COPIES = 10,
       FILE_STALE = 11,
       FILE_DISKS = 24, /* 8 bytes each */
};

#define FILE_ROW_VERSION 2 /* 1: before there were copies */

void pool_rows_encode_file(uint64_t size_bytes, const struct pool_copies *copies,
			   uint8_t value[POOL_FILE_ROW_BYTES_MIN])
{
	put_le64(value + FILE_SIZE, size_bytes);
	value[FILE_VERSION] = FILE_ROW_VERSION;
	value[FILE_COPIES] = (uint8_t)copies->count;
	value[FILE_STALE] = (uint8_t)copies->stale;
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		put_le64(value + FILE_DISKS + (size_t)8 * i,
			 i < copies->count ? copies->disks[i] : 0);
}

/* Each disk at most once, and not all copies stale. */
static bool copies_are_sound(const struct pool_copies *copies)
{
	if (copies->count == 0 || copies->count > POOL_COPIES_MAX ||
	    copies->stale >= (1u << copies->count) - 1)
		return false;
	for (unsigned i = 0; i < copies->count; i++)
		for (unsigned j = 0; j <= i; j++)
			if (copies->disks[i] == 0 ||
			    (j < i && copies->disks[i] == copies->disks[j]))
				return false;
	return true;
}

static bool decode_copies(const uint8_t *value, struct pool_copies *ret_copies)
{
	*ret_copies = (struct pool_copies){.count = 1};
	if (value[FILE_VERSION] == 1)
		return true;
	if (value[FILE_VERSION] != FILE_ROW_VERSION)
		return false;
	ret_copies->count = value[FILE_COPIES];
	ret_copies->stale = value[FILE_STALE];
	for (unsigned i = 0; i < MIN(ret_copies->count, POOL_COPIES_MAX); i++)
		ret_copies->disks[i] = get_le64(value + FILE_DISKS + (size_t)8 * i);
	return copies_are_sound(ret_copies);
}

int pool_rows_decode_file(const struct catalog_row *row, uint64_t *ret_id, uint64_t *ret_size_bytes,
			  struct pool_copies *ret_copies)
{
	uint64_t id, size;

	if (row->damaged || row->key.length != 1 + 24 || row->length < POOL_FILE_ROW_BYTES_MIN)
		return damaged("file", row);
	id = catalog_key_number(&row->key, 2);
	size = get_le64(row->value + FILE_SIZE);
	if (id == 0 || size > POOL_GROUP_BYTES || !IS_ALIGNED(size, 4 * KIB) ||
	    !decode_copies(row->value, ret_copies))
		return damaged("file", row);
	*ret_id = id;
	*ret_size_bytes = size;
	return 0;
}

int pool_rows_decode_group(const struct catalog_row *row, uint64_t *ret_file)
{
	if (row->key.length != 1 + 24 || row->length != POOL_GROUP_ROW_BYTES ||
	    row->value[0] != POOL_GROUP_ROW_VERSION)
		return -EUCLEAN;
	*ret_file = get_le64(row->value + POOL_GROUP_ROW_FILE);
	return 0;
}

int pool_rows_get_container(struct catalog *catalog, uint64_t vdisk, uint64_t *ret_container)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct catalog_key key = catalog_key(CATALOG_VDISK);
	int r;

	catalog_key_add(&key, vdisk);
	r = catalog_get(catalog, &key, &row);
	if (r == 0 && row.length < POOL_VDISK_ROW_CONTAINER + 8)
		return -EUCLEAN;
	if (r == 0)
		*ret_container = get_le64(row.value + POOL_VDISK_ROW_CONTAINER);
	return r;
}

int pool_rows_get_pool(struct catalog *catalog, uint64_t pool_id, struct catalog_row *ret_raw,
		       struct pool_row *ret_row)
{
	struct catalog_key key = pool_rows_pool_key(pool_id);
	struct catalog_row raw;
	int r = catalog_get(catalog, &key, &raw);

	if (r)
		return r;
	r = pool_rows_decode_pool(&raw, ret_row);
	if (r) {
		catalog_row_done(&raw);
		return r;
	}
	*ret_raw = raw;
	return 0;
}

int pool_rows_each_disk(struct catalog *catalog, uint64_t pool_id,
			int (*fn)(void *arg, uint64_t disk_id, const struct pool_disk_row *row),
			void *arg)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	_cleanup_free_ struct pool_disk_row *row = calloc(1, sizeof(*row));
	struct catalog_key prefix = catalog_key(CATALOG_DISK);
	int r;

	if (!row)
		return -ENOMEM;
	catalog_key_add(&prefix, pool_id);
	r = catalog_scan(catalog, &prefix, NULL, 0, &rows);
	if (r)
		return r;
	if (rows.count == 0 || rows.count > POOL_DISKS_MAX) {
		log_error("pool", "a pool has no disks, or too many", "pool=%" PRIu64 " disks=%zu",
			  pool_id, rows.count);
		return -EUCLEAN;
	}
	for (size_t i = 0; r == 0 && i < rows.count; i++) {
		r = pool_rows_decode_disk(&rows.rows[i], row);
		if (r == 0)
			r = fn(arg, catalog_key_number(&rows.rows[i].key, 1), row);
	}
	return r;
}

int pool_find(struct catalog *catalog, const char *name, uint64_t *ret_id)
{
	return catalog_name_find(catalog, CATALOG_NAME_POOL, 0, name, ret_id);
}

/* The first disk's directory; the capacities of all, or 0 as soon as one is the file system's. */
static int info_add_disk(void *arg, uint64_t disk_id, const struct pool_disk_row *row)
{
	struct pool_info *info = arg;
	uint64_t bytes = row->version == 1 ? info->space.limit : row->capacity_bytes;

	(void)disk_id;
	if (info->directory[0] == '\0')
		memcpy(info->directory, row->directory, strlen(row->directory));
	info->space.capacity += bytes;
	info->space.reserve |= bytes == 0; /* found one without */
	return 0;
}

static int info_fill(struct catalog *catalog, const struct catalog_row *raw,
		     struct pool_info *ret_info)
{
	struct pool_row row;
	int r = pool_rows_decode_pool(raw, &row);

	if (r)
		return r;
	*ret_info = (struct pool_info){
		.id = catalog_key_number(&raw->key, 0),
		.space.limit = row.capacity_bytes,
		.state = "",
		.deleting = row.deleting,
	};
	memcpy(ret_info->name, row.name, sizeof(row.name));
	r = pool_rows_each_disk(catalog, ret_info->id, info_add_disk, ret_info);
	ret_info->space = (struct pool_space){
		.capacity = ret_info->space.reserve ? 0 : ret_info->space.capacity};
	return r;
}

int pool_list(struct catalog *catalog, struct pool_info **ret_infos, size_t *ret_count)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	_cleanup_free_ struct pool_info *infos = NULL;
	struct catalog_key prefix = catalog_key(CATALOG_POOL);
	int r = catalog_scan(catalog, &prefix, NULL, 0, &rows);

	if (r)
		return r;
	infos = calloc(rows.count + 1, sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	for (size_t i = 0; i < rows.count; i++) {
		r = info_fill(catalog, &rows.rows[i], &infos[i]);
		if (r)
			return r;
	}
	*ret_count = rows.count;
	*ret_infos = TAKE_PTR(infos);
	return 0;
}
