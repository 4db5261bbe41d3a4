/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vDisks as the catalog knows them: rows, names, create, list, rename. What an open vDisk writes
 * into its row goes through vdisk_row_encode(), too; renaming an open vDisk is safe because both
 * expect the version they read.
 */
#include "vdisk/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "egroup/store.h"
#include "pool/container.h"
#include "pool/pool_rows.h"

#define ROW_VERSION  1
#define RENAME_TRIES 8

enum { /* offsets */
       ROW_AT_VERSION = 0,
       ROW_AT_FLAGS = 1,
       ROW_AT_ROOT_LEVEL = 2,
       ROW_AT_BLOCK_BYTES = 4,
       ROW_AT_POOL = 8,
       ROW_AT_CONTAINER = 16,
       ROW_AT_SIZE = 24,
       ROW_AT_CREATED = 32,
       ROW_AT_EPOCH = 40,
       ROW_AT_ROOT_CRC = 48,
       ROW_AT_ROOT_ADDRESS = 56,
       ROW_AT_CHECKPOINT_LSN = 64,
       ROW_AT_LOG_GROUP = 72,
       ROW_AT_LOG_SLOT = 80,
       ROW_AT_LIVE = 88,
       ROW_AT_PAGE_LSN = 96,
       ROW_AT_NAME = 128,
};

_Static_assert(ROW_AT_CONTAINER == POOL_VDISK_ROW_CONTAINER, "the pool reads it");

#define ROW_FLAG_DELETING 1

struct catalog_key vdisk_row_key(uint64_t id)
{
	struct catalog_key key = catalog_key(CATALOG_VDISK);

	catalog_key_add(&key, id);
	return key;
}

void vdisk_row_encode(const struct vdisk_row *row, uint8_t value[VDISK_ROW_BYTES])
{
	memset(value, 0, VDISK_ROW_BYTES);
	value[ROW_AT_VERSION] = ROW_VERSION;
	value[ROW_AT_FLAGS] = row->deleting ? ROW_FLAG_DELETING : 0;
	value[ROW_AT_ROOT_LEVEL] = (uint8_t)row->root_level;
	put_le32(value + ROW_AT_BLOCK_BYTES, row->block_bytes);
	put_le64(value + ROW_AT_POOL, row->pool);
	put_le64(value + ROW_AT_CONTAINER, row->container);
	put_le64(value + ROW_AT_SIZE, row->size_bytes);
	put_le64(value + ROW_AT_CREATED, row->created_wall_ns);
	put_le64(value + ROW_AT_EPOCH, row->epoch);
	put_le32(value + ROW_AT_ROOT_CRC, row->root.crc);
	put_le64(value + ROW_AT_ROOT_ADDRESS, row->root.address);
	put_le64(value + ROW_AT_CHECKPOINT_LSN, row->checkpoint_lsn);
	put_le64(value + ROW_AT_LOG_GROUP, row->log_group);
	put_le32(value + ROW_AT_LOG_SLOT, row->log_slot);
	put_le64(value + ROW_AT_LIVE, row->live_slots);
	put_le64(value + ROW_AT_PAGE_LSN, row->page_lsn);
	memcpy(value + ROW_AT_NAME, row->name, strnlen(row->name, VDISK_NAME_MAX));
}

int vdisk_check_name(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > VDISK_NAME_MAX || strchr("._-", name[0]))
		return -EINVAL;
	for (size_t i = 0; i < length; i++)
		if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= 'A' && name[i] <= 'Z') &&
		    !(name[i] >= '0' && name[i] <= '9') && !strchr("._-", name[i]))
			return -EINVAL;
	return 0;
}

int vdisk_check_size(uint64_t size_bytes)
{
	return size_bytes >= VDISK_MIN_BYTES && size_bytes <= VDISK_MAX_BYTES &&
			       size_bytes % BLOCK_BYTES == 0
		       ? 0
		       : -EINVAL;
}

static bool row_is_sound(const struct vdisk_row *row)
{
	return vdisk_check_name(row->name) == 0 && vdisk_check_size(row->size_bytes) == 0 &&
	       (row->block_bytes == 512 || row->block_bytes == 4096) && row->root_level >= 1 &&
	       row->root_level <= 4 && row->log_slot <= SLOTS_PER_GROUP &&
	       (row->root.address == 0 || (address_type(row->root.address) == ADDRESS_PLAIN &&
					   address_group(row->root.address) != 0));
}

int vdisk_row_decode(const struct catalog_row *from, struct vdisk_row *ret_row)
{
	const uint8_t *value = from->value;
	struct vdisk_row row = {0};

	if (from->key.length != 1 + 8) {
		log_error("vdisk", "the key of a catalog row is damaged", "length=%u",
			  from->key.length);
		return -EUCLEAN;
	}
	row.id = catalog_key_number(&from->key, 0);
	row.version = from->version;
	if (from->length == VDISK_ROW_BYTES && value[ROW_AT_VERSION] == ROW_VERSION) {
		row.deleting = value[ROW_AT_FLAGS] & ROW_FLAG_DELETING;
		row.root_level = value[ROW_AT_ROOT_LEVEL];
		row.block_bytes = get_le32(value + ROW_AT_BLOCK_BYTES);
		row.pool = get_le64(value + ROW_AT_POOL);
		row.container = get_le64(value + ROW_AT_CONTAINER);
		row.size_bytes = get_le64(value + ROW_AT_SIZE);
		row.created_wall_ns = get_le64(value + ROW_AT_CREATED);
		row.epoch = get_le64(value + ROW_AT_EPOCH);
		row.root.crc = get_le32(value + ROW_AT_ROOT_CRC);
		row.root.address = get_le64(value + ROW_AT_ROOT_ADDRESS);
		row.checkpoint_lsn = get_le64(value + ROW_AT_CHECKPOINT_LSN);
		row.log_group = get_le64(value + ROW_AT_LOG_GROUP);
		row.log_slot = get_le32(value + ROW_AT_LOG_SLOT);
		row.live_slots = get_le64(value + ROW_AT_LIVE);
		row.page_lsn = get_le64(value + ROW_AT_PAGE_LSN);
		memcpy(row.name, value + ROW_AT_NAME, VDISK_NAME_MAX);
	}
	if (!row_is_sound(&row)) {
		log_error("vdisk", "catalog row is damaged", "vdisk=%" PRIu64, row.id);
		return -EUCLEAN;
	}
	*ret_row = row;
	return 0;
}

int vdisk_row_get(struct catalog *catalog, uint64_t id, struct vdisk_row *ret_row)
{
	struct catalog_key key = vdisk_row_key(id);
	struct catalog_row row = {0};
	int r;

	r = catalog_get(catalog, &key, &row);
	if (r < 0)
		return r;
	r = vdisk_row_decode(&row, ret_row);
	catalog_row_done(&row);
	return r;
}

static void fill_info(const struct vdisk_row *row, struct vdisk_info *ret_info)
{
	struct vdisk_info info = {
		.id = row->id,
		.pool_id = row->pool,
		.container_id = row->container,
		.size_bytes = row->size_bytes,
		.block_bytes = row->block_bytes,
		.created_wall_ns = row->created_wall_ns,
		.epoch = row->epoch,
		.live_bytes = row->live_slots * BLOCK_BYTES,
		.deleting = row->deleting,
	};

	memcpy(info.name, row->name, sizeof(info.name));
	*ret_info = info;
}

int vdisk_get(struct catalog *catalog, uint64_t id, struct vdisk_info *ret_info)
{
	struct vdisk_row row;
	int r = vdisk_row_get(catalog, id, &row);

	if (r == 0)
		fill_info(&row, ret_info);
	return r;
}

int vdisk_find(struct catalog *catalog, uint64_t container_id, const char *name,
	       struct vdisk_info *ret_info)
{
	uint64_t id;
	int r;

	r = vdisk_check_name(name) < 0
		    ? -ENOENT
		    : catalog_name_find(catalog, CATALOG_NAME_VDISK, container_id, name, &id);
	return r < 0 ? r : vdisk_get(catalog, id, ret_info);
}

int vdisk_list(struct catalog *catalog, struct vdisk_info **ret_infos, size_t *ret_count)
{
	struct catalog_key prefix = catalog_key(CATALOG_VDISK);
	struct catalog_rows rows = {0};
	struct vdisk_info *infos;
	struct vdisk_row row;
	size_t count = 0;
	int r;

	r = catalog_scan_all(catalog, &prefix, NULL, 0, &rows);
	if (r < 0)
		return r;
	infos = calloc(rows.count + 1, sizeof(*infos));
	if (!infos)
		r = -ENOMEM;
	/* A damaged row hides its own vDisk only; it was logged. */
	for (size_t i = 0; r == 0 && i < rows.count; i++)
		if (vdisk_row_decode(&rows.rows[i], &row) == 0)
			fill_info(&row, &infos[count++]);
	catalog_rows_done(&rows);
	if (r < 0)
		return r;
	*ret_infos = infos;
	*ret_count = count;
	return 0;
}

static int check_spec(const struct vdisk_spec *spec)
{
	if (vdisk_check_name(spec->name) < 0 || vdisk_check_size(spec->size_bytes) < 0)
		return -EINVAL;
	return spec->block_bytes == 512 || spec->block_bytes == 4096 ? 0 : -EINVAL;
}

/* The container must exist until the commit, and the name be free. */
static int commit_new(struct catalog *catalog, const struct vdisk_row *row,
		      const struct catalog_row *container)
{
	uint8_t value[VDISK_ROW_BYTES], id[8];
	struct catalog_key name = catalog_name_key(CATALOG_NAME_VDISK, row->container, row->name);
	struct catalog_change changes[5] = {
		{.kind = CATALOG_EXPECT, .key = name, .version = 0},
		{.kind = CATALOG_PUT, .key = name, .value = id, .length = sizeof(id)},
		{.kind = CATALOG_PUT,
		 .key = vdisk_row_key(row->id),
		 .value = value,
		 .length = sizeof(value)},
	};

	put_le64(id, row->id);
	vdisk_row_encode(row, value);
	catalog_touch(container, &changes[3]);
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

int vdisk_create(struct pool *pool, const struct vdisk_spec *spec, uint64_t *ret_id)
{
	struct catalog *catalog = pool_catalog(pool);
	struct catalog_key key = catalog_key(CATALOG_CONTAINER);
	struct catalog_row container = {0};
	struct vdisk_row row = {.pool = pool_id(pool),
				.container = spec->container_id,
				.size_bytes = spec->size_bytes,
				.block_bytes = spec->block_bytes,
				.root_level = 1};
	uint64_t taken;
	int r;

	r = check_spec(spec);
	if (r < 0)
		return r;
	if (catalog_name_find(catalog, CATALOG_NAME_VDISK, spec->container_id, spec->name,
			      &taken) == 0)
		return -EEXIST;
	catalog_key_add(&key, spec->container_id);
	r = catalog_get(catalog, &key, &container);
	if (r < 0)
		return r;
	r = catalog_reserve_ids(catalog, "vdisk", 1, &row.id);
	if (r == 0) {
		struct world *world = reactor_world(reactor_current());

		row.created_wall_ns = world->ops->wall_ns(world);
		memcpy(row.name, spec->name, strlen(spec->name));
		r = commit_new(catalog, &row, &container);
	}
	catalog_row_done(&container);
	if (r == 0)
		*ret_id = row.id;
	return r == -ESTALE ? -EEXIST : r;
}

static int rename_once(struct catalog *catalog, uint64_t id, const char *name)
{
	uint8_t value[VDISK_ROW_BYTES], id_value[8];
	struct catalog_key key = vdisk_row_key(id), from, to;
	struct vdisk_row row;
	uint64_t taken;
	int r;

	r = vdisk_row_get(catalog, id, &row);
	if (r < 0)
		return r;
	if (row.deleting)
		return -ENOENT;
	if (strcmp(row.name, name) == 0)
		return 0;
	if (catalog_name_find(catalog, CATALOG_NAME_VDISK, row.container, name, &taken) == 0)
		return -EEXIST;
	from = catalog_name_key(CATALOG_NAME_VDISK, row.container, row.name);
	to = catalog_name_key(CATALOG_NAME_VDISK, row.container, name);
	memset(row.name, 0, sizeof(row.name));
	memcpy(row.name, name, strlen(name));
	vdisk_row_encode(&row, value);
	put_le64(id_value, id);
	struct catalog_change changes[] = {
		{.kind = CATALOG_EXPECT, .key = key, .version = row.version},
		{.kind = CATALOG_EXPECT, .key = to, .version = 0},
		{.kind = CATALOG_PUT, .key = key, .value = value, .length = sizeof(value)},
		{.kind = CATALOG_DELETE, .key = from},
		{.kind = CATALOG_PUT, .key = to, .value = id_value, .length = sizeof(id_value)},
	};
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

int vdisk_rename(struct catalog *catalog, uint64_t id, const char *name)
{
	int r = -EINVAL;

	if (vdisk_check_name(name) < 0)
		return r;
	/* A checkpoint may change the row at the same moment: look again. */
	for (unsigned i = 0; i < RENAME_TRIES; i++) {
		r = rename_once(catalog, id, name);
		if (r != -ESTALE)
			return r;
	}
	return -EBUSY;
}
