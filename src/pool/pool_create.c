/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making pools: directories, label.new (all durable); then the catalog's rows; then label.new
 * becomes label. So "label" is only there while a catalog names the pool. A crash in the middle
 * leaves either a pool whose next opening finishes the label, or a directory with label.new and no
 * group files, which pool_create() takes over.
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
