/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows about pools and disks that are no more: where a disk was, that it was to be removed, how far
 * a scrub had come. They go with their pool or disk, but in a commit of their own, after it; what a
 * crash or an error left between the two goes here, at the next start. Ids are never used again, so
 * nothing can be mistaken. Home: the node's.
 */
#include <errno.h>

#include "base/log.h"
#include "control/node_priv.h"
#include "pool/pool_rows.h"

#define ROWS_AT_ONCE 256

/* Rows of these begin with the id of a pool. */
static const struct {
	enum catalog_table table;
	bool has_disk; /* then comes the id of a disk */
} tables[] = {
	{CATALOG_SCRUB, false},
	{CATALOG_PLACE, true},
	{CATALOG_RETIRE, true},
	{CATALOG_DRAIN, true},
};

/* 1: what it is about is no more. */
static int is_orphan(struct node *node, const struct catalog_row *row, bool has_disk)
{
	_cleanup_(catalog_row_done) struct catalog_row disk = {0};
	struct catalog_key key;
	uint64_t pool_id;
	int r;

	if (row->key.length < 1 + 8u * (1 + has_disk))
		return 0; /* none that this program wrote */
	pool_id = catalog_key_number(&row->key, 0);
	if (!node_pool_by_id(node, pool_id))
		return 1;
	if (!has_disk)
		return 0;
	key = pool_rows_disk_key(pool_id, catalog_key_number(&row->key, 1));
	r = catalog_get(node->catalog, &key, &disk);
	return r == -ENOENT ? 1 : r == -ESHUTDOWN ? r : 0;
}

static int forget_some(struct node *node, const struct catalog_rows *rows, bool has_disk)
{
	_cleanup_free_ struct catalog_change *changes = calloc(ROWS_AT_ONCE, sizeof(*changes));
	size_t count = 0;

	if (!changes)
		return -ENOMEM;
	for (size_t i = 0; i < rows->count; i++) {
		int r = is_orphan(node, &rows->rows[i], has_disk);

		if (r < 0)
			return r;
		if (r > 0)
			changes[count++] = (struct catalog_change){.kind = CATALOG_DELETE,
								   .key = rows->rows[i].key};
	}
	return count > 0 ? catalog_commit(node->catalog, changes, count) : 0;
}

static int forget_table(struct node *node, enum catalog_table table, bool has_disk)
{
	struct catalog_key prefix = catalog_key(table), last = prefix;
	bool more = true;
	int r = 0;

	while (r == 0 && more) {
		_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};

		r = catalog_scan(node->catalog, &prefix, &last, ROWS_AT_ONCE, &rows);
		if (r == 0)
			r = forget_some(node, &rows, has_disk);
		more = rows.count == ROWS_AT_ONCE;
		if (more)
			last = rows.rows[rows.count - 1].key;
	}
	return r;
}

void node_forget_orphans(struct node *node)
{
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		int r = forget_table(node, tables[i].table, tables[i].has_disk);

		if (r < 0) /* they are of no account but for their room; the next start tries */
			log_warning("node", "rows of what is no more are left", "table=%d error=%d",
				    tables[i].table, r);
	}
}
