/* SPDX-License-Identifier: Apache-2.0 */
/* Names, counters of ids, the format's version, and what belongs to vDisks. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "fsck/fsck_file_name.h"
#include "fsck/fsck_priv.h"
#include "pool/container.h"
#include "pool/pool_name.h"

#define CONTAINER_BYTES_MIN 88u /* docs/format.md, "Container row" */
#define CONTAINER_VERSIONS  2
#define CONTAINER_AT_POOL   8
#define CONTAINER_AT_NAME   24

static int drop_row(struct fsck *fsck, const struct catalog_row *row, const char *object,
		    const char *done, const char *cause)
{
	const struct fsck_change change = {
		.kind = CATALOG_DELETE, .key = row->key, .version = row->version};

	return fsck_fix(fsck, &change, FSCK_NAME, object, done, "%s", cause);
}

static bool container_name(const struct fsck *fsck, uint64_t id, char name[CONTAINER_NAME_MAX + 1])
{
	const struct catalog_key key = container_key(id);
	const struct catalog_row *row = fsck_row_find(fsck, &key);

	if (!row || row->length < CONTAINER_BYTES_MIN)
		return false;
	memcpy(name, row->value + CONTAINER_AT_NAME, CONTAINER_NAME_MAX);
	name[CONTAINER_NAME_MAX] = '\0';
	return true;
}

/* Does what the name row says agree with the row of what it names? */
static bool name_is_right(const struct fsck *fsck, const struct catalog_row *row)
{
	uint64_t kind = catalog_key_number(&row->key, 0), parent = catalog_key_number(&row->key, 1);
	uint64_t id = get_le64(row->value);
	char text[CATALOG_KEY_MAX + 1], name[CONTAINER_NAME_MAX + 1];
	const struct fsck_vdisk *vdisk;
	const struct fsck_pool *pool;

	catalog_key_text(&row->key, 2, text, sizeof(text));
	if (kind == CATALOG_NAME_POOL) {
		pool = fsck_pool_find(fsck, id);
		return pool && parent == 0 && strcmp(pool->row.name, text) == 0;
	}
	if (kind == CATALOG_NAME_CONTAINER)
		return parent == 0 && container_name(fsck, id, name) && strcmp(name, text) == 0;
	vdisk = kind == CATALOG_NAME_VDISK ? fsck_vdisk_find(fsck, id) : NULL;
	return vdisk && vdisk->row.container == parent && !vdisk->row.deleting &&
	       strcmp(vdisk->row.name, text) == 0;
}

static uint64_t first_container(const struct fsck *fsck, const char *name)
{
	char other[CONTAINER_NAME_MAX + 1];

	for (size_t i = 0; i < fsck->rows.count; i++) {
		const struct catalog_key *key = &fsck->rows.rows[i].key;

		if (key->bytes[0] == CATALOG_CONTAINER && key->length == 1 + 8 &&
		    container_name(fsck, catalog_key_number(key, 0), other) &&
		    strcmp(other, name) == 0)
			return catalog_key_number(key, 0);
	}
	return 0;
}

/* The id of the first that has this name by its own row; 0: none has. */
static uint64_t first_with_name(const struct fsck *fsck, uint64_t kind, uint64_t parent,
				const char *name)
{
	if (kind == CATALOG_NAME_CONTAINER && parent == 0)
		return first_container(fsck, name);
	for (size_t i = 0; kind == CATALOG_NAME_POOL && parent == 0 && i < fsck->pool_count; i++)
		if (strcmp(fsck->pools[i].row.name, name) == 0)
			return fsck->pools[i].id;
	for (size_t i = 0; kind == CATALOG_NAME_VDISK && i < fsck->vdisk_count; i++) {
		const struct vdisk_row *row = &fsck->vdisks[i].row;

		if (row->container == parent && !row->deleting && strcmp(row->name, name) == 0)
			return row->id;
	}
	return 0;
}

static int check_name(struct fsck *fsck, const struct catalog_row *row)
{
	char text[CATALOG_KEY_MAX + 1];

	if (row->key.length < 1 + 16 + 1 || row->length != 8) {
		fsck_find(fsck, FSCK_ROW, "a name", "the row is not as long as it must be");
		return 0;
	}
	if (name_is_right(fsck, row))
		return 0;
	catalog_key_text(&row->key, 2, text, sizeof(text));
	/* want_name() makes it point there. */
	if (first_with_name(fsck, catalog_key_number(&row->key, 0),
			    catalog_key_number(&row->key, 1), text))
		return 0;

	if (fsck->rows_missing) { /* what it names may be what cannot be read */
		fsck_find(fsck, FSCK_NAME, text, "the name points to what is not there");
		return 0;
	}
	return drop_row(fsck, row, text, "the name is removed",
			"the name points to what is not there, or has another name");
}

/* What has a name must be found by it. */
static int want_name(struct fsck *fsck, enum catalog_name_kind kind, uint64_t parent,
		     const char *name, uint64_t id)
{
	struct fsck_change change = {
		.kind = CATALOG_PUT, .key = catalog_name_key(kind, parent, name), .length = 8};
	const struct catalog_row *row = fsck_row_find(fsck, &change.key);
	uint64_t other;

	if (row && row->length == 8 && get_le64(row->value) == id)
		return 0;
	other = row && row->length == 8 && name_is_right(fsck, row)
			? get_le64(row->value)
			: first_with_name(fsck, kind, parent, name);
	if (other != id) {
		fsck_find(fsck, FSCK_REFERENCE, name,
			  "ids %" PRIu64 " and %" PRIu64 " have the same name", id, other);
		return 0;
	}
	change.version = row ? row->version : 0;
	put_le64(change.value, id);
	return fsck_fix(fsck, &change, FSCK_NAME, name, "the name is added",
			"id %" PRIu64 " is not found by its name", id);
}

static int check_container(struct fsck *fsck, const struct catalog_row *row)
{
	uint64_t id = row->key.length == 1 + 8 ? catalog_key_number(&row->key, 0) : 0;
	char object[FSCK_OBJECT_MAX], name[CONTAINER_NAME_MAX + 1];

	snprintf(object, sizeof(object), "container %" PRIu64, id);
	if (id == 0 || row->length < CONTAINER_BYTES_MIN || row->value[0] == 0 ||
	    row->value[0] > CONTAINER_VERSIONS || !container_name(fsck, id, name) ||
	    !pool_name_is_valid(name)) {
		fsck_find(fsck, FSCK_ROW, object,
			  "the row has an unknown version or impossible values");
		return 0;
	}
	if (!fsck_pool_find(fsck, get_le64(row->value + CONTAINER_AT_POOL)))
		fsck_find(fsck, FSCK_REFERENCE, object, "its pool %" PRIu64 " is not there",
			  get_le64(row->value + CONTAINER_AT_POOL));
	return want_name(fsck, CATALOG_NAME_CONTAINER, 0, name, id);
}

/* A counter's row says the first id that was never given. */
static int check_counter(struct fsck *fsck, const char *counter, uint64_t largest)
{
	struct fsck_change change = {
		.kind = CATALOG_PUT, .key = catalog_key(CATALOG_META), .length = 8};
	char text[96];
	const struct catalog_row *row;
	uint64_t next;

	snprintf(text, sizeof(text), "id:%s", counter);
	catalog_key_add_text(&change.key, text);
	row = fsck_row_find(fsck, &change.key);
	next = row && row->length == 8 ? get_le64(row->value) : 1;
	if (next > largest)
		return 0;
	if (largest > FSCK_ID_MAX) {
		fsck_find(fsck, FSCK_COUNTER, text,
			  "the next id is %" PRIu64 ", but %" PRIu64
			  ", which no program gives, is in use",
			  next, largest);
		return 0;
	}
	change.version = row ? row->version : 0;
	put_le64(change.value, largest + 1);
	return fsck_fix(fsck, &change, FSCK_COUNTER, text, "the counter is moved behind all ids",
			"the next id is %" PRIu64 ", but %" PRIu64 " is in use", next, largest);
}

static int check_pool_counters(struct fsck *fsck, uint64_t pool)
{
	uint64_t file = fsck_pool_find(fsck, pool)->largest_file, group = 0;
	char counter[64];
	int r;

	for (size_t i = 0; i < fsck->file_count; i++)
		if (fsck->files[i].pool == pool)
			file = MAX(file, fsck->files[i].row.id);
	for (size_t i = 0; i < fsck->group_count; i++)
		if (fsck->groups[i].pool == pool)
			group = MAX(group, fsck->groups[i].row.id);
	snprintf(counter, sizeof(counter), "pool/%016" PRIx64 "/file", pool);
	r = check_counter(fsck, counter, file);
	snprintf(counter, sizeof(counter), "egroup/%016" PRIx64, pool);
	return r < 0 ? r : check_counter(fsck, counter, group);
}

static uint64_t largest_first(const struct fsck *fsck, enum catalog_table table)
{
	uint64_t largest = 0;

	for (size_t i = 0; i < fsck->rows.count; i++)
		if (fsck->rows.rows[i].key.bytes[0] == table && fsck->rows.rows[i].key.length >= 9)
			largest = catalog_key_number(&fsck->rows.rows[i].key, 0);
	return largest;
}

int fsck_counters_check(struct fsck *fsck)
{
	uint64_t disk = 0;
	int r;

	for (size_t i = 0; i < fsck->disk_count; i++)
		disk = MAX(disk, fsck->disks[i].id);
	r = check_counter(fsck, "pool", largest_first(fsck, CATALOG_POOL));
	if (r == 0)
		r = check_counter(fsck, "disk", disk);
	if (r == 0)
		r = check_counter(fsck, "container", largest_first(fsck, CATALOG_CONTAINER));
	if (r == 0)
		r = check_counter(fsck, "vdisk", largest_first(fsck, CATALOG_VDISK));
	for (size_t i = 0; r == 0 && i < fsck->pool_count; i++)
		r = check_pool_counters(fsck, fsck->pools[i].id);
	return r;
}

static void check_format(struct fsck *fsck)
{
	struct catalog_key key = catalog_key(CATALOG_META);
	const struct catalog_row *row;

	catalog_key_add_text(&key, "format");
	row = fsck_row_find(fsck, &key);
	if (!row || row->length != 16 || memcmp(row->value, "SARSENCT", 8) != 0)
		fsck_find(fsck, FSCK_CATALOG, "catalog", "the row of its format is missing");
}

/* What is kept for a vDisk that is gone. */
static int check_of_vdisk(struct fsck *fsck, const char *what, const struct catalog_row *row)
{
	uint64_t id = row->key.length >= 9 ? catalog_key_number(&row->key, 0) : 0;
	char object[FSCK_OBJECT_MAX];

	if (id == 0 || fsck_vdisk_find(fsck, id) || fsck->rows_missing)
		return 0;
	snprintf(object, sizeof(object), "%s of vDisk %" PRIu64, what, id);
	return drop_row(fsck, row, object, "the row is removed", "the vDisk is not there");
}

static int check_other(struct fsck *fsck, const struct catalog_row *row)
{
	switch (row->key.bytes[0]) {
	case CATALOG_NAME:
		return check_name(fsck, row);
	case CATALOG_CONTAINER:
		return check_container(fsck, row);
	case CATALOG_ISCSI:
		return check_of_vdisk(fsck, "export", row);
	case CATALOG_NVME_RESERVATION:
		return check_of_vdisk(fsck, "reservation", row);
	default:
		return 0;
	}
}

int fsck_names_check(struct fsck *fsck)
{
	int r = 0;

	check_format(fsck);
	for (size_t i = 0; r == 0 && i < fsck->rows.count; i++)
		r = check_other(fsck, &fsck->rows.rows[i]);
	for (size_t i = 0; r == 0 && i < fsck->pool_count; i++)
		r = want_name(fsck, CATALOG_NAME_POOL, 0, fsck->pools[i].row.name,
			      fsck->pools[i].id);
	for (size_t i = 0; r == 0 && i < fsck->vdisk_count; i++) {
		const struct vdisk_row *row = &fsck->vdisks[i].row;

		if (!row->deleting)
			r = want_name(fsck, CATALOG_NAME_VDISK, row->container, row->name, row->id);
	}
	return r;
}
