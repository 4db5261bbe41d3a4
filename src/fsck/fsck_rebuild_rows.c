/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the new catalog. Versions and order are given when it is made (catalog_make.h). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "egroup/store.h"
#include "fsck/fsck_rebuild_priv.h"
#include "pool/policy.h"

#define IDS_GAP       64u /* of what was lost: ids are not given twice */
#define VDISK_IDS_GAP 1024u
#define GROUP_IDS_GAP (1u << 20)

static int put(struct rebuild *rebuild, const struct catalog_key *key, const void *value,
	       uint32_t length)
{
	struct catalog_row *row;
	int r = rebuild_reserve((void **)&rebuild->rows.rows, &rebuild->row_capacity,
				rebuild->rows.count, sizeof(*row));

	if (r < 0)
		return r;
	row = &rebuild->rows.rows[rebuild->rows.count];
	*row = (struct catalog_row){.key = *key, .length = length, .value = malloc(length + 1u)};
	if (!row->value)
		return -ENOMEM;
	memcpy(row->value, value, length);
	rebuild->rows.count++;
	return 0;
}

static int put_name(struct rebuild *rebuild, enum catalog_name_kind kind, uint64_t parent,
		    const char *name, uint64_t id)
{
	struct catalog_key key = catalog_name_key(kind, parent, name);
	uint8_t value[8];
	int r = rebuild_reserve((void **)&rebuild->names, &rebuild->name_capacity,
				rebuild->name_count, sizeof(rebuild->names[0]));

	if (r < 0)
		return r;
	rebuild->names[rebuild->name_count++] = rebuild->rows.count;
	put_le64(value, id);
	return put(rebuild, &key, value, sizeof(value));
}

static int put_counter(struct rebuild *rebuild, uint64_t next, const char *format, uint64_t pool)
{
	struct catalog_key key = catalog_key(CATALOG_META);
	char text[96];
	uint8_t value[8];
	int length = snprintf(text, sizeof(text), "id:");

	if (strcmp(format, "file") == 0)
		snprintf(text + length, sizeof(text) - (size_t)length, "pool/%016" PRIx64 "/file",
			 pool);
	else if (strcmp(format, "egroup") == 0)
		snprintf(text + length, sizeof(text) - (size_t)length, "egroup/%016" PRIx64, pool);
	else
		snprintf(text + length, sizeof(text) - (size_t)length, "%s", format);
	catalog_key_add_text(&key, text);
	put_le64(value, next);
	return put(rebuild, &key, value, sizeof(value));
}

/* What was said last of the disk. */
static const char *tier_of(const struct rebuild *rebuild, const struct pool_label *label)
{
	const struct identity *newest = rebuild_identity(rebuild, label->pool_id);

	for (unsigned i = 0; newest && i < newest->disk_count; i++)
		if (newest->disks[i] == label->disk_id && newest->tiers[i] < POLICY_TIER_COUNT)
			return policy_tier_name(newest->tiers[i]);
	return POOL_TIER_DEFAULT;
}

static int put_disk(struct rebuild *rebuild, const struct rebuild_disk *disk)
{
	_cleanup_free_ struct pool_disk_row *row = calloc(1, sizeof(*row)); /* large */
	_cleanup_free_ uint8_t *value = malloc(POOL_DISK_ROW_BYTES + POOL_DIRECTORY_MAX);
	const char *tier = tier_of(rebuild, &disk->label);
	struct catalog_key key = pool_rows_disk_key(disk->label.pool_id, disk->label.disk_id);

	if (!row || !value)
		return -ENOMEM;
	row->created_wall_ns = disk->label.created_wall_ns;
	memcpy(row->uuid, disk->label.uuid, sizeof(row->uuid));
	memcpy(row->directory, disk->directory, strlen(disk->directory));
	memcpy(row->tier, tier, strlen(tier));
	return put(rebuild, &key, value, pool_rows_encode_disk(row, value));
}

/* There are fewer of these ids than of others. */
static uint64_t next_group(const struct rebuild *rebuild)
{
	return rebuild->highest_group + GROUP_IDS_GAP > REBUILD_GROUP_MAX
		       ? rebuild->highest_group + 1
		       : rebuild->highest_group + GROUP_IDS_GAP;
}

static int put_pool(struct rebuild *rebuild, const struct pool_label *label)
{
	struct pool_row row = {.created_wall_ns = label->created_wall_ns};
	struct catalog_key key = pool_rows_pool_key(label->pool_id);
	uint8_t value[POOL_ROW_BYTES];
	int r;

	memcpy(row.name, label->name, sizeof(row.name));
	pool_rows_encode_pool(&row, value);
	r = put(rebuild, &key, value, sizeof(value));
	if (r == 0)
		r = put_name(rebuild, CATALOG_NAME_POOL, 0, label->name, label->pool_id);
	if (r == 0)
		r = put_counter(rebuild, rebuild->highest_file + GROUP_IDS_GAP, "file",
				label->pool_id);
	if (r == 0)
		r = put_counter(rebuild, next_group(rebuild), "egroup", label->pool_id);
	rebuild->report.pools++;
	return r;
}

static int put_pools(struct rebuild *rebuild)
{
	uint64_t pool = 0, disk = 0;
	int r = 0;

	/* In order of pool and disk: the first disk is the oldest. */
	for (size_t i = 0; r == 0 && i < rebuild->disk_count; i++) {
		const struct pool_label *label = &rebuild->disks[i].label;

		if (i == 0 || label->pool_id != pool)
			r = put_pool(rebuild, label);
		pool = label->pool_id;
		disk = MAX(disk, label->disk_id);
		if (r == 0)
			r = put_disk(rebuild, &rebuild->disks[i]);
	}
	if (r == 0)
		r = put_counter(rebuild, pool + IDS_GAP, "pool", 0);
	return r < 0 ? r : put_counter(rebuild, disk + IDS_GAP, "disk", 0);
}

static bool name_is_taken(const struct rebuild *rebuild, enum catalog_name_kind kind,
			  uint64_t parent, const char *name)
{
	struct catalog_key key = catalog_name_key(kind, parent, name);

	for (size_t i = 0; i < rebuild->name_count; i++) {
		const struct catalog_key *other = &rebuild->rows.rows[rebuild->names[i]].key;

		if (other->length == key.length && memcmp(other->bytes, key.bytes, key.length) == 0)
			return true;
	}
	return false;
}

/* The name, or one like it: vDisks may have changed names since they said them. */
static void make_unique(const struct rebuild *rebuild, enum catalog_name_kind kind, uint64_t parent,
			char name[POOL_NAME_MAX + 1], uint64_t id)
{
	char wanted[POOL_NAME_MAX + 1];

	memcpy(wanted, name, sizeof(wanted));
	for (uint64_t i = id; name_is_taken(rebuild, kind, parent, name); i++)
		snprintf(name, POOL_NAME_MAX + 1, "%.40s-%" PRIu64, wanted, i);
}

static uint64_t highest_container(const struct rebuild *rebuild)
{
	uint64_t highest = 0;

	for (size_t i = 0; i < rebuild->root_count; i++)
		if (rebuild->roots[i].identity)
			highest = MAX(highest, rebuild->roots[i].identity->container);
	for (size_t i = 0; i < rebuild->vdisk_count; i++)
		highest = MAX(highest, rebuild->vdisks[i].row.container);
	return highest;
}

/* One for each pool, of those whose container is not known. */
static void adopt(struct rebuild *rebuild)
{
	uint64_t next = highest_container(rebuild), pool = 0;

	for (size_t i = 0; i < rebuild->vdisk_count; i++) {
		struct rebuild_vdisk *vdisk = &rebuild->vdisks[i];

		if (!vdisk->is_made || vdisk->row.container)
			continue;
		if (vdisk->pool != pool)
			next++;
		pool = vdisk->pool;
		vdisk->row.container = next;
		snprintf(vdisk->container_name, sizeof(vdisk->container_name), "recovered");
	}
}

/* The most copies that any vDisk in it had: others may have more than they asked for. */
static unsigned factor_of(const struct rebuild *rebuild, uint64_t container)
{
	unsigned factor = 1;

	for (size_t i = 0; i < rebuild->vdisk_count; i++)
		if (rebuild->vdisks[i].is_made && rebuild->vdisks[i].row.container == container)
			factor = MAX(factor, rebuild->vdisks[i].factor);
	return factor;
}

static int put_container(struct rebuild *rebuild, const struct rebuild_vdisk *vdisk,
			 char name[CONTAINER_NAME_MAX + 1])
{
	struct container_info info = {.id = vdisk->row.container,
				      .pool_id = vdisk->pool,
				      .created_wall_ns = vdisk->row.created_wall_ns};
	struct policy_set policy = {0};
	uint8_t value[CONTAINER_ROW_BYTES_MAX];
	struct catalog_key key = container_key(info.id);
	unsigned factor = factor_of(rebuild, info.id);
	int r = factor > 1 ? policy_set_put(&policy, POLICY_REPLICATION_FACTOR, factor) : 0;

	make_unique(rebuild, CATALOG_NAME_CONTAINER, 0, name, info.id);
	memcpy(info.name, name, sizeof(info.name));
	if (r == 0)
		r = put(rebuild, &key, value, container_row_encode(&info, &policy, value));
	return r < 0 ? r : put_name(rebuild, CATALOG_NAME_CONTAINER, 0, name, info.id);
}

/* As the first vDisk in it says; the others get its name. */
static int put_containers(struct rebuild *rebuild)
{
	uint64_t highest = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < rebuild->vdisk_count; i++) {
		struct rebuild_vdisk *vdisk = &rebuild->vdisks[i], *first = rebuild->vdisks;

		if (!vdisk->is_made)
			continue;
		while (!first->is_made || first->row.container != vdisk->row.container)
			first++;
		highest = MAX(highest, vdisk->row.container);
		if (first == vdisk)
			r = put_container(rebuild, vdisk, vdisk->container_name);
		else
			memcpy(vdisk->container_name, first->container_name,
			       sizeof(vdisk->container_name));
	}
	highest = MAX(highest, highest_container(rebuild));
	return r < 0 ? r : put_counter(rebuild, highest + IDS_GAP, "container", 0);
}

/* The size is what all of them have: a crash may have come between cutting one and another. */
static struct pool_copies copies_of(const struct rebuild *rebuild, struct rebuild_file *file,
				    uint64_t *ret_size)
{
	struct pool_copies copies = {0};

	*ret_size = UINT64_MAX;
	for (unsigned i = 0; i < file->copy_count && copies.count < POOL_COPIES_MAX; i++) {
		struct rebuild_copy *copy = &file->copies[i];

		if (!copy->is_used || copy->is_stale)
			continue;
		copy->is_named = true;
		copies.disks[copies.count++] = rebuild->disks[copy->disk].label.disk_id;
		*ret_size = MIN(*ret_size, ALIGN_DOWN(copy->size_bytes, (uint64_t)BLOCK_BYTES));
	}
	return copies;
}

static int put_file(struct rebuild *rebuild, struct rebuild_file *file)
{
	struct egroup_file as = {
		.id = file->id,
		.compacted = file->content.kind == REBUILD_COMPACTED,
		.index_blocks = file->content.index_blocks,
		.total_slots = file->content.total_slots,
	};
	struct catalog_key key = egroup_prefix(CATALOG_EGFILE, file->pool, file->content.vdisk);
	uint8_t value[EGROUP_ROW_BYTES];

	as.copies = copies_of(rebuild, file, &as.allocated_bytes);
	catalog_key_add(&key, file->id);
	egroup_file_row(&as, value);
	rebuild->report.files++;
	return put(rebuild, &key, value, sizeof(value));
}

static int put_group(struct rebuild *rebuild, const struct rebuild_group *group)
{
	struct egroup_file file = {.id = group->file->id, .compacted = group->is_compacted};
	struct egroup as = {
		.id = group->id,
		.stream = group->stream,
		.epoch = group->epoch,
		.last_lsn = group->is_sealed ? group->row_lsn : 0,
		.slots = group->is_sealed ? group->slots : UINT32_MAX,
		.sealed = group->is_sealed,
		.file = &file,
		.base = group->base,
		.stored_count = group->stored_count,
	};
	struct catalog_key key = egroup_prefix(CATALOG_EGROUP, group->pool, group->vdisk);
	uint8_t value[EGROUP_ROW_BYTES];

	catalog_key_add(&key, group->id);
	egroup_row(&as, value);
	rebuild->report.groups++;
	return put(rebuild, &key, value, sizeof(value));
}

static int put_groups(struct rebuild *rebuild, const struct rebuild_vdisk *vdisk)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < vdisk->group_count; i++)
		if (!vdisk->groups[i].is_dropped)
			r = put_group(rebuild, &vdisk->groups[i]);
	return r;
}

static int put_vdisk(struct rebuild *rebuild, struct rebuild_vdisk *vdisk)
{
	struct vdisk_row *row = &vdisk->row;
	struct catalog_key key = vdisk_row_key(vdisk->id);
	uint8_t value[VDISK_ROW_BYTES];
	int r;

	_Static_assert(sizeof(row->name) == POOL_NAME_MAX + 1, "one way to make names unique");
	make_unique(rebuild, CATALOG_NAME_VDISK, row->container, row->name, vdisk->id);
	vdisk_row_encode(row, value);
	r = put(rebuild, &key, value, sizeof(value));
	if (r == 0)
		r = put_name(rebuild, CATALOG_NAME_VDISK, row->container, row->name, vdisk->id);
	rebuild->report.vdisks++;
	return r < 0 ? r : put_groups(rebuild, vdisk);
}

int rebuild_rows_make(struct rebuild *rebuild)
{
	uint64_t highest = 0;
	int r = put_pools(rebuild);

	adopt(rebuild);
	if (r == 0)
		r = put_containers(rebuild);
	for (size_t i = 0; r == 0 && i < rebuild->vdisk_count; i++) {
		if (rebuild->vdisks[i].is_known)
			highest = MAX(highest, rebuild->vdisks[i].id);
		if (rebuild->vdisks[i].is_made)
			r = put_vdisk(rebuild, &rebuild->vdisks[i]);
	}
	for (size_t i = 0; r == 0 && i < rebuild->file_count; i++)
		if (rebuild->files[i].is_named)
			r = put_file(rebuild, &rebuild->files[i]);
	if (r == 0)
		r = put_counter(rebuild, highest + VDISK_IDS_GAP, "vdisk", 0);
	rebuild->report.rows = rebuild->rows.count;
	return r;
}
