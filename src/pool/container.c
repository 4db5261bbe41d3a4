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

#define ROW_VERSION_1 1  /* nothing is set: older programs can read it */
#define ROW_VERSION_2 2  /* a policy follows */
#define RETRIES_MAX   16 /* lost races with other commits to the same row */

/* docs/format.md, "Container row": of version 2, followed by what the container sets. */
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

/* A whole row. */
struct container_row {
	struct container_value value;
	uint8_t policy[POLICY_BYTES_MAX];
};
_Static_assert(sizeof(struct container_row) == 88 + POLICY_BYTES_MAX, "without gaps");

static bool is_sound(const struct catalog_row *row, struct policy_set *ret_set)
{
	const struct container_value *value = (const struct container_value *)row->value;
	uint32_t more;

	if (row->key.length != 1 + 8 || row->length < sizeof(*value))
		return false;
	more = row->length - (uint32_t)sizeof(*value);
	ret_set->count = 0;
	if (!(value->version == ROW_VERSION_1 && more == 0) && value->version != ROW_VERSION_2)
		return false;
	return policy_decode(row->value + sizeof(*value), more, ret_set) == 0 &&
	       memchr(value->name, 0, sizeof(value->name)) &&
	       pool_name_is_valid((const char *)value->name);
}

static int decode(const struct catalog_row *row, struct container_info *ret_info,
		  struct policy_set *ret_set)
{
	const struct container_value *value = (const struct container_value *)row->value;

	if (!is_sound(row, ret_set)) {
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

/* The length. */
static uint32_t encode(const struct container_info *info, const struct policy_set *set,
		       struct container_row *ret_row)
{
	struct container_value *value = &ret_row->value;

	*value =
		(struct container_value){.version = set->count > 0 ? ROW_VERSION_2 : ROW_VERSION_1};
	put_le64(value->pool_id, info->pool_id);
	put_le64(value->created_wall_ns, info->created_wall_ns);
	memcpy(value->name, info->name, strlen(info->name));
	return (uint32_t)sizeof(*value) + policy_encode(set, ret_row->policy);
}

uint32_t container_row_encode(const struct container_info *info, const struct policy_set *set,
			      uint8_t ret_value[CONTAINER_ROW_BYTES_MAX])
{
	struct container_row row;
	uint32_t length = encode(info, set, &row);

	_Static_assert(sizeof(row) == CONTAINER_ROW_BYTES_MAX, "room for it");
	memcpy(ret_value, &row, length);
	return length;
}

static int create_commit(struct catalog *catalog, const struct container_info *info,
			 const struct catalog_row *pool, const struct policy_set *set)
{
	struct container_row row;
	uint8_t id_value[8];
	struct catalog_key name = catalog_name_key(CATALOG_NAME_CONTAINER, 0, info->name);
	struct catalog_change changes[5] = {
		{.kind = CATALOG_EXPECT, .key = name, .version = 0},
		{.kind = CATALOG_PUT, .key = name, .value = id_value, .length = sizeof(id_value)},
		{.kind = CATALOG_PUT,
		 .key = container_key(info->id),
		 .value = &row,
		 .length = encode(info, set, &row)},
	};

	put_le64(id_value, info->id);
	catalog_touch(pool, &changes[3]); /* or pool_delete() wins */
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

static int create_once(struct catalog *catalog, struct container_info *info,
		       const struct policy_set *set)
{
	_cleanup_(catalog_row_done) struct catalog_row pool = {0};
	struct pool_row pool_row;
	int r = container_find(catalog, info->name, &(struct container_info){0});

	if (r == 0)
		return -EEXIST;
	if (r != -ENOENT)
		return r;
	r = pool_rows_get_pool(catalog, info->pool_id, &pool, &pool_row);
	if (r == 0 && pool_row.deleting)
		r = -EBUSY;
	if (r == 0)
		r = catalog_reserve_ids(catalog, "container", 1, &info->id);
	return r ? r : create_commit(catalog, info, &pool, set);
}

int container_create_with(struct catalog *catalog, struct world *world,
			  const struct container_spec *spec, uint64_t *ret_id)
{
	const struct policy_set none = {0};
	struct container_info info = {.pool_id = spec->pool_id,
				      .created_wall_ns = world->ops->wall_ns(world)};
	int r = -ESTALE;

	if (!pool_name_is_valid(spec->name))
		return -EINVAL;
	memcpy(info.name, spec->name, strlen(spec->name));
	for (int i = 0; r == -ESTALE && i < RETRIES_MAX; i++)
		r = create_once(catalog, &info, spec->policy ? spec->policy : &none);
	if (r == 0)
		*ret_id = info.id;
	return r;
}

int container_create(struct catalog *catalog, struct world *world, uint64_t pool_id,
		     const char *name, uint64_t *ret_id)
{
	const struct container_spec spec = {.pool_id = pool_id, .name = name};

	return container_create_with(catalog, world, &spec, ret_id);
}

/* The raw row too, which the caller frees. */
static int get(struct catalog *catalog, uint64_t id, struct catalog_row *ret_raw,
	       struct container_info *ret_info, struct policy_set *ret_set)
{
	struct catalog_key key = container_key(id);
	int r = catalog_get(catalog, &key, ret_raw);

	return r ? r : decode(ret_raw, ret_info, ret_set);
}

int container_get_policy(struct catalog *catalog, uint64_t id, struct policy_set *ret_set)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};

	return get(catalog, id, &raw, &(struct container_info){0}, ret_set);
}

static int put_once(struct catalog *catalog, uint64_t id, const struct policy_set *set)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};
	struct container_info info;
	struct container_row row;
	struct policy_set before;
	struct catalog_change changes[2];
	int r = get(catalog, id, &raw, &info, &before);

	if (r)
		return r;
	changes[0] = (struct catalog_change){
		.kind = CATALOG_EXPECT, .key = raw.key, .version = raw.version};
	changes[1] = (struct catalog_change){.kind = CATALOG_PUT,
					     .key = raw.key,
					     .value = &row,
					     .length = encode(&info, set, &row)};
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

int container_put_policy(struct catalog *catalog, uint64_t id, const struct policy_set *set)
{
	int r = -ESTALE;

	for (int i = 0; r == -ESTALE && i < RETRIES_MAX; i++)
		r = put_once(catalog, id, set);
	return r;
}

int container_get(struct catalog *catalog, uint64_t id, struct container_info *ret_info)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};

	return get(catalog, id, &raw, ret_info, &(struct policy_set){0});
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
	struct policy_set set;
	int r = catalog_scan(catalog, &prefix, NULL, 0, &rows);

	if (r)
		return r;
	infos = calloc(rows.count + 1, sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	for (size_t i = 0; i < rows.count; i++) {
		r = decode(&rows.rows[i], &infos[i], &set);
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
	int r = get(catalog, id, &row, &info, &(struct policy_set){0});

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
