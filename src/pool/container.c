/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/container.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "pool/pool_name.h"
#include "pool/pool_rows.h"

#define ROW_VERSION 1
#define RETRIES_MAX 16 /* lost races with other commits to the same row */

/* docs/format.md, "Container row". */
struct container_value {
	uint8_t version;
	uint8_t zero[7];
	uint8_t pool_id[8];
	uint8_t created_wall_ns[8];
	uint8_t name[CONTAINER_NAME_MAX + 1];
};
_Static_assert(sizeof(struct container_value) == 88, "on disk");
_Static_assert(offsetof(struct container_value, pool_id) == 8, "on disk");
_Static_assert(offsetof(struct container_value, created_wall_ns) == 16, "on disk");
_Static_assert(offsetof(struct container_value, name) == 24, "on disk");
_Static_assert(CONTAINER_NAME_MAX == POOL_NAME_MAX, "one check of names serves both");

struct catalog_key container_key(uint64_t id)
{
	struct catalog_key key = catalog_key(CATALOG_CONTAINER);

	catalog_key_add(&key, id);
	return key;
}

static int decode(const struct catalog_row *row, struct container_info *ret_info)
{
	const struct container_value *value = (const struct container_value *)row->value;

	if (row->key.length != 1 + 8 || row->length != sizeof(*value) ||
	    value->version != ROW_VERSION || !memchr(value->name, 0, sizeof(value->name)) ||
	    !pool_name_is_valid((const char *)value->name)) {
		log_error("container", "a catalog row is damaged",
			  "container=%" PRIu64 " length=%u",
			  row->key.length >= 9 ? catalog_key_number(&row->key, 0) : 0, row->length);
		return -EUCLEAN;
	}
	*ret_info = (struct container_info){
		.id = catalog_key_number(&row->key, 0),
		.pool_id = get_le64(value->pool_id),
		.created_wall_ns = get_le64(value->created_wall_ns),
	};
	memcpy(ret_info->name, value->name, sizeof(value->name));
	return 0;
}

static int create_commit(struct catalog *catalog, uint64_t id, const struct catalog_row *pool,
			 const struct container_value *value)
{
	uint8_t id_value[8];
	struct catalog_key name =
		catalog_name_key(CATALOG_NAME_CONTAINER, 0, (const char *)value->name);
	struct catalog_change changes[5] = {
		{.kind = CATALOG_EXPECT, .key = name, .version = 0},
		{.kind = CATALOG_PUT, .key = name, .value = id_value, .length = sizeof(id_value)},
		{.kind = CATALOG_PUT,
		 .key = container_key(id),
		 .value = value,
		 .length = sizeof(*value)},
	};

	put_le64(id_value, id);
	catalog_touch(pool, &changes[3]); /* or pool_delete() wins */
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

static int create_once(struct catalog *catalog, uint64_t pool_id, struct container_value *value,
		       uint64_t *ret_id)
{
	_cleanup_(catalog_row_done) struct catalog_row pool = {0};
	struct pool_row pool_row;
	uint64_t id;
	int r = container_find(catalog, (const char *)value->name, &(struct container_info){0});

	if (r == 0)
		return -EEXIST;
	if (r != -ENOENT)
		return r;
	r = pool_rows_get_pool(catalog, pool_id, &pool, &pool_row);
	if (r == 0)
		r = catalog_reserve_ids(catalog, "container", 1, &id);
	if (r == 0)
		r = create_commit(catalog, id, &pool, value);
	if (r == 0)
		*ret_id = id;
	return r;
}

int container_create(struct catalog *catalog, struct world *world, uint64_t pool_id,
		     const char *name, uint64_t *ret_id)
{
	struct container_value value = {.version = ROW_VERSION};
	int r = -ESTALE;

	if (!pool_name_is_valid(name))
		return -EINVAL;
	put_le64(value.pool_id, pool_id);
	put_le64(value.created_wall_ns, world->ops->wall_ns(world));
	memcpy(value.name, name, strlen(name));
	for (int i = 0; r == -ESTALE && i < RETRIES_MAX; i++)
		r = create_once(catalog, pool_id, &value, ret_id);
	return r;
}

int container_get(struct catalog *catalog, uint64_t id, struct container_info *ret_info)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct catalog_key key = container_key(id);
	int r = catalog_get(catalog, &key, &row);

	return r ? r : decode(&row, ret_info);
}

int container_find(struct catalog *catalog, const char *name, struct container_info *ret_info)
{
	uint64_t id;
	int r = catalog_name_find(catalog, CATALOG_NAME_CONTAINER, 0, name, &id);

	return r ? r : container_get(catalog, id, ret_info);
}

int container_list(struct catalog *catalog, struct container_info **ret_infos, size_t *ret_count)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	_cleanup_free_ struct container_info *infos = NULL;
	struct catalog_key prefix = catalog_key(CATALOG_CONTAINER);
	int r = catalog_scan(catalog, &prefix, NULL, 0, &rows);

	if (r)
		return r;
	infos = calloc(rows.count + 1, sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	for (size_t i = 0; i < rows.count; i++) {
		r = decode(&rows.rows[i], &infos[i]);
		if (r)
			return r;
	}
	*ret_count = rows.count;
	*ret_infos = TAKE_PTR(infos);
	return 0;
}

static int has_vdisks(struct catalog *catalog, uint64_t id)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	struct catalog_key prefix = catalog_name_key(CATALOG_NAME_VDISK, id, "");
	int r = catalog_scan(catalog, &prefix, NULL, 1, &rows);

	if (r)
		return r;
	return rows.count > 0 ? -ENOTEMPTY : 0;
}

static int delete_once(struct catalog *catalog, uint64_t id)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct container_info info;
	struct catalog_change changes[3];
	struct catalog_key key = container_key(id);
	int r = catalog_get(catalog, &key, &row);

	if (r == 0)
		r = decode(&row, &info);
	if (r == 0)
		r = has_vdisks(catalog, id);
	if (r)
		return r;
	changes[0] =
		(struct catalog_change){.kind = CATALOG_EXPECT, .key = key, .version = row.version};
	changes[1] = (struct catalog_change){.kind = CATALOG_DELETE, .key = key};
	changes[2] = (struct catalog_change){
		.kind = CATALOG_DELETE,
		.key = catalog_name_key(CATALOG_NAME_CONTAINER, 0, info.name)};
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

int container_delete(struct catalog *catalog, uint64_t id)
{
	int r = -ESTALE;

	for (int i = 0; r == -ESTALE && i < RETRIES_MAX; i++)
		r = delete_once(catalog, id);
	return r;
}
