/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding rows that are damaged, while the pool opens: those of files as pool_sweep.c reads them,
 * then those of groups, of which the pool knows no more than their place: pool, vDisk, file.
 *
 * A row that is damaged may have been any other's: the vDisk that its key names is closed, but
 * nothing is concluded from it for others. So each group whose file has no row counts, too: the row
 * of that file may be the one that is damaged, or lost.
 */
#include "pool/pool_damage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_priv.h"

#define SCAN_ROWS  256u
#define LOGGED_MAX 64u

static const char *const kind_names[] = {
	[POOL_DAMAGE_FILE] = "file",
	[POOL_DAMAGE_SHARED] = "file of two vDisks",
	[POOL_DAMAGE_DISK] = "file on another pool's disk",
	[POOL_DAMAGE_GROUP] = "group",
	[POOL_DAMAGE_NO_FILE] = "group without a file",
	[POOL_DAMAGE_NO_GROUP] = "file without a group",
};

static int grow(void **items, size_t *room, size_t count, size_t size)
{
	size_t more = MAX(*room * 2, (size_t)16);
	void *grown;

	if (count < *room)
		return 0;
	grown = realloc(*items, more * size);
	if (!grown)
		return -ENOMEM;
	*items = grown;
	*room = more;
	return 0;
}

static void tell(const struct pool *pool, const struct pool_damage *damage)
{
	if (pool->damages.count <= LOGGED_MAX)
		log_error(
			"pool",
			"a row of the catalog is damaged: what it may be of is neither opened nor "
			"removed; run sarsen-fsck",
			"pool=%s row=\"%s\" vdisk=%" PRIu64 " id=%016" PRIx64, pool->name,
			kind_names[damage->kind], damage->vdisk, damage->id);
}

/* Those of one vDisk and kind that come one after the other are one entry. */
int pool_damage_add(struct pool *pool, const struct pool_damage *damage)
{
	struct pool_damages *damages = &pool->damages;
	struct pool_damage *last = damages->count ? &damages->items[damages->count - 1] : NULL;
	int r;

	REACHED("pool.damaged-row");
	damages->in_doubt = true;
	if (last && last->vdisk == damage->vdisk && last->kind == damage->kind) {
		last->rows++;
		return 0;
	}
	r = grow((void **)&damages->items, &damages->room, damages->count, sizeof(*last));
	if (r)
		return r;
	damages->items[damages->count] = *damage;
	damages->items[damages->count++].rows = 1;
	tell(pool, damage);
	return 0;
}

int pool_damage_add_row(struct pool *pool, enum pool_damage_kind kind,
			const struct catalog_row *row)
{
	struct pool_damage damage = {.kind = kind};

	if (row->key.length == 1 + 24) {
		damage.vdisk = catalog_key_number(&row->key, 1);
		damage.id = catalog_key_number(&row->key, 2);
	}
	return pool_damage_add(pool, &damage);
}

int pool_known_files_add(struct pool_known_files *known, uint64_t vdisk, uint64_t id)
{
	int r = grow((void **)&known->items, &known->room, known->count, sizeof(*known->items));

	if (r == 0)
		known->items[known->count++] = (struct pool_known_file){.vdisk = vdisk, .id = id};
	return r;
}

void pool_known_files_done(struct pool_known_files *known)
{
	free(known->items);
	*known = (struct pool_known_files){0};
}

/* The vDisk whose row names the file; 0: none does. Only where something is wrong. */
static uint64_t find_owner(const struct pool_known_files *known, uint64_t id)
{
	for (size_t i = 0; i < known->count; i++)
		if (known->items[i].id == id)
			return known->items[i].vdisk;
	return 0;
}

int pool_damage_add_shared(struct pool *pool, const struct pool_known_files *known, uint64_t vdisk,
			   uint64_t id)
{
	struct pool_damage damage = {.kind = POOL_DAMAGE_SHARED, .vdisk = vdisk, .id = id};
	int r = pool_damage_add(pool, &damage);

	damage.vdisk = find_owner(known, id);
	return r ? r : pool_damage_add(pool, &damage);
}

static struct pool_known_file *find(const struct pool_known_files *known, uint64_t vdisk,
				    uint64_t id)
{
	size_t low = 0, high = known->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		struct pool_known_file *file = &known->items[middle];

		if (file->vdisk == vdisk && file->id == id)
			return file;
		if (file->vdisk < vdisk || (file->vdisk == vdisk && file->id < id))
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static int add_group(struct pool *pool, const struct catalog_row *row,
		     struct pool_known_files *known)
{
	struct pool_damage damage = {.kind = POOL_DAMAGE_NO_FILE}, other;
	struct pool_known_file *file;
	uint64_t id;
	int r;

	if (row->damaged || pool_rows_decode_group(row, &id) < 0)
		return pool_damage_add_row(pool, POOL_DAMAGE_GROUP, row);
	damage.vdisk = catalog_key_number(&row->key, 1);
	damage.id = id;
	file = find(known, damage.vdisk, id);
	if (file) {
		file->has_group = true;
		return 0;
	}
	/* Where that of the file is damaged, this one is not. */
	r = pool_damage_of(pool, damage.vdisk, &other) ? 0 : pool_damage_add(pool, &damage);
	damage.vdisk = find_owner(known, id);
	return r || damage.vdisk == 0 ? r : pool_damage_add(pool, &damage);
}

static int read_groups(struct pool *pool, struct pool_known_files *known)
{
	struct catalog_key prefix = catalog_key(CATALOG_EGROUP), after = {0};
	bool more = true;
	int r = 0;

	catalog_key_add(&prefix, pool->id);
	while (r == 0 && more) {
		_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};

		r = catalog_scan_all(pool->catalog, &prefix, after.length ? &after : NULL,
				     SCAN_ROWS, &rows);
		for (size_t i = 0; r == 0 && i < rows.count; i++)
			r = add_group(pool, &rows.rows[i], known);
		more = r == 0 && rows.count == SCAN_ROWS;
		if (more)
			after = rows.rows[rows.count - 1].key;
	}
	return r;
}

static bool groups_are_lost(const struct pool *pool)
{
	for (size_t i = 0; i < pool->damages.count; i++)
		if (pool->damages.items[i].kind >= POOL_DAMAGE_GROUP)
			return true;
	return !catalog_is_whole(pool->catalog);
}

/* The group of a file that has none may be one of those. */
static int find_empty(struct pool *pool, const struct pool_known_files *known)
{
	struct pool_damage damage = {.kind = POOL_DAMAGE_NO_GROUP};
	int r = 0;

	if (!groups_are_lost(pool))
		return 0;
	for (size_t i = 0; r == 0 && i < known->count; i++) {
		damage.vdisk = known->items[i].vdisk;
		damage.id = known->items[i].id;
		if (!known->items[i].has_group)
			r = pool_damage_add(pool, &damage);
	}
	return r;
}

/* 1: the row is of a pool that there is, and so are all up to *ret_last. */
static int is_of_pool(struct pool *pool, const struct catalog_row *row,
		      struct catalog_key *ret_last)
{
	_cleanup_(catalog_row_done) struct catalog_row found = {0};
	struct catalog_key key;
	int r;

	*ret_last = row->key;
	if (row->key.length < 1 + 8)
		return 0;
	key = pool_rows_pool_key(catalog_key_number(&row->key, 0));
	r = catalog_get(pool->catalog, &key, &found);
	/* After all keys that begin like this one. */
	ret_last->length = CATALOG_KEY_MAX;
	memset(ret_last->bytes + 9, UINT8_MAX, CATALOG_KEY_MAX - 9);
	return r == 0 || r == -EUCLEAN ? 1 : r == -ENOENT ? 0 : r;
}

/* Rows whose pool is not there, or not told, may be this one's. */
static int find_strays(struct pool *pool, enum catalog_table table)
{
	const struct pool_damage damage = {.kind = table == CATALOG_EGFILE ? POOL_DAMAGE_FILE
									   : POOL_DAMAGE_GROUP};
	const struct catalog_key prefix = catalog_key(table);
	struct catalog_key after = prefix;

	for (;;) {
		_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
		int r = catalog_scan_all(pool->catalog, &prefix, &after, 1, &rows);

		if (r || rows.count == 0)
			return r;
		r = is_of_pool(pool, &rows.rows[0], &after);
		if (r == 0)
			r = pool_damage_add(pool, &damage);
		if (r < 0)
			return r;
	}
}

int pool_damage_find(struct pool *pool, struct pool_known_files *known)
{
	int r = read_groups(pool, known);

	if (r == 0)
		r = find_strays(pool, CATALOG_EGFILE);
	if (r == 0)
		r = find_strays(pool, CATALOG_EGROUP);
	if (r == 0)
		r = find_empty(pool, known);
	if (!catalog_is_whole(pool->catalog))
		pool->damages.in_doubt = true;
	if (r == 0 && pool->damages.in_doubt)
		log_error("pool", "rows of the catalog are damaged: files without a row are kept",
			  "pool=%s rows=%" PRIu64, pool->name, pool_damaged_rows(pool));
	return r;
}

void pool_damages_done(struct pool *pool)
{
	free(pool->damages.items);
	pool->damages = (struct pool_damages){0};
}

bool pool_damage_of(const struct pool *pool, uint64_t vdisk, struct pool_damage *ret_damage)
{
	for (size_t i = 0; i < pool->damages.count; i++) {
		const struct pool_damage *damage = &pool->damages.items[i];

		if (damage->vdisk == vdisk && damage->kind != POOL_DAMAGE_DISK) {
			*ret_damage = *damage;
			return true;
		}
	}
	return false;
}

uint64_t pool_damaged_rows(const struct pool *pool)
{
	uint64_t rows = 0;

	for (size_t i = 0; i < pool->damages.count; i++)
		rows += pool->damages.items[i].rows;
	return rows;
}

uint64_t pool_damage_nobodys(const struct pool *pool)
{
	uint64_t rows = 0;

	for (size_t i = 0; i < pool->damages.count; i++)
		rows += pool->damages.items[i].vdisk ? 0 : pool->damages.items[i].rows;
	return rows;
}

bool pool_is_in_doubt(const struct pool *pool)
{
	return pool->damages.in_doubt;
}
