/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deleting a vDisk. Steps, each a transaction, so that a crash in between only means calling it
 * again:
 *  1. the row says "deleting", the name is free: from now on it cannot be opened;
 *  2. its groups' rows go; 3. file by file, row and file; 4. the row goes.
 * A file that is missing already does not stop it.
 */
#include <errno.h>

#include "base/endian.h"
#include "egroup/store.h"
#include "pool/policy.h"
#include "pool/pool_rows.h"
#include "vdisk/rows.h"

#define FILES_A_STEP 32
#define ROWS_A_PAGE  256u

static int mark(struct catalog *catalog, struct vdisk_row *row)
{
	uint8_t value[VDISK_ROW_BYTES];
	int r;

	do {
		r = vdisk_row_get(catalog, row->id, row);
		if (r < 0 || row->deleting)
			return r;
		row->deleting = true;
		vdisk_row_encode(row, value);
		struct catalog_change changes[] = {
			{.kind = CATALOG_EXPECT,
			 .key = vdisk_row_key(row->id),
			 .version = row->version},
			{.kind = CATALOG_PUT,
			 .key = vdisk_row_key(row->id),
			 .value = value,
			 .length = sizeof(value)},
			{.kind = CATALOG_DELETE,
			 .key = catalog_name_key(CATALOG_NAME_VDISK, row->container, row->name)},
		};
		r = catalog_commit(catalog, changes, ARRAY_SIZE(changes));
	} while (r == -ESTALE);
	return r;
}

int vdisk_mark_deleting(struct pool *pool, uint64_t id)
{
	struct vdisk_row row = {.id = id};

	return mark(pool_catalog(pool), &row);
}

static uint64_t row_bytes(const struct catalog_row *row)
{
	return row->length >= 8 ? get_le64(row->value) : 0;
}

static int total_bytes(struct catalog *catalog, const struct catalog_key *prefix,
		       uint64_t *ret_total)
{
	struct catalog_key after = {0};
	bool more = true;
	int r = 0;

	*ret_total = 0;
	while (r == 0 && more) {
		_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};

		r = catalog_scan_all(catalog, prefix, after.length ? &after : NULL, ROWS_A_PAGE,
				     &rows);
		for (size_t i = 0; r == 0 && i < rows.count; i++)
			*ret_total += row_bytes(&rows.rows[i]);
		more = r == 0 && rows.count == ROWS_A_PAGE;
		if (more)
			after = rows.rows[rows.count - 1].key;
	}
	return r;
}

/* Without its row a file that stays is swept by the next start. So is that of a row that is
 * damaged, unless another row may be its. */
static void discard_file(struct pool *pool, const struct catalog_row *row)
{
	struct pool_copies copies;
	uint64_t id, size;

	if (pool_rows_decode_file(row, &id, &size, &copies) == 0)
		(void)pool_file_discard_id(pool, id, &copies);
}

/* The rows of some files, then the files themselves. Returns how many, or an error. */
static int delete_some(struct pool *pool, const struct catalog_rows *rows, uint64_t *done_bytes)
{
	struct catalog_change changes[FILES_A_STEP] = {0};
	int r;

	for (size_t i = 0; i < rows->count; i++) {
		changes[i].kind = CATALOG_DELETE;
		changes[i].key = rows->rows[i].key;
	}
	r = catalog_commit(pool_catalog(pool), changes, rows->count);
	for (size_t i = 0; r == 0 && i < rows->count; i++) {
		discard_file(pool, &rows->rows[i]);
		*done_bytes += row_bytes(&rows->rows[i]);
	}
	return r < 0 ? r : (int)rows->count;
}

static int delete_rows(struct catalog *catalog, uint64_t id)
{
	const struct catalog_change changes[] = {
		{.kind = CATALOG_DELETE, .key = policy_vdisk_key(id)},
		{.kind = CATALOG_DELETE, .key = vdisk_row_key(id)},
	};

	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

int vdisk_delete(struct pool *pool, uint64_t id, vdisk_progress_fn *progress, void *arg)
{
	struct catalog *catalog = pool_catalog(pool);
	struct catalog_key files = egroup_prefix(CATALOG_EGFILE, pool_id(pool), id);
	struct catalog_change change = {.kind = CATALOG_DELETE_PREFIX,
					.key = egroup_prefix(CATALOG_EGROUP, pool_id(pool), id)};
	struct vdisk_row row = {.id = id};
	uint64_t total = 0, done = 0;
	int r;

	r = mark(catalog, &row);
	if (r == 0)
		r = total_bytes(catalog, &files, &total);
	if (r == 0)
		r = catalog_commit(catalog, &change, 1);
	while (r >= 0) {
		struct catalog_rows rows = {0};

		r = catalog_scan_all(catalog, &files, NULL, FILES_A_STEP, &rows);
		if (r == 0 && rows.count == 0)
			break;
		if (r == 0)
			r = delete_some(pool, &rows, &done);
		catalog_rows_done(&rows);
		if (r >= 0 && progress && !progress(arg, done, total))
			r = -ECANCELED;
	}
	if (r < 0)
		return r;
	return delete_rows(catalog, id);
}
