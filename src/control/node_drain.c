/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks whose draining is paused: a row of the catalog each, which outlives the daemon. The pool
 * knows it in memory only. Programs that do not know the rows leave them, and go on draining.
 *
 * Invariant: a row is written before the pool is told, and deleted after it was told that it goes
 * on. So a crash leaves one that is paused, which is shown, never one that moves on unasked. Home:
 * the node's, under its lock.
 */
#include "control/node_drain.h"

#include <errno.h>

#include "pool/pool_disk.h"

#define ROW_VERSION 1

static int pause_disk(struct node *node, struct node_pool *pool, uint64_t id)
{
	static const uint8_t value[8] = {ROW_VERSION};
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = node_disk_key(CATALOG_DRAIN, pool->id, id),
					      .value = value,
					      .length = sizeof(value)};
	int r = node_disk_commit(node, pool->id, id, &change);

	return r == 0 ? pool_disk_pause_draining(pool->pool, id, true) : r;
}

int node_drain_set_paused(struct node *node, struct node_pool *pool, uint64_t id, bool paused)
{
	const struct catalog_change change = {.kind = CATALOG_DELETE,
					      .key = node_disk_key(CATALOG_DRAIN, pool->id, id)};
	int r;

	if (paused)
		return pause_disk(node, pool, id);
	r = pool_disk_pause_draining(pool->pool, id, false);
	if (r < 0 && r != -EINVAL &&
	    r != -ENOENT) /* it drains no more, or is gone: so goes the row */
		return r;
	return catalog_commit(node->catalog, &change, 1);
}

int node_drain_load(struct node *node, struct node_pool *pool)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = node_disk_key(CATALOG_DRAIN, pool->id, 0);
	int r = catalog_scan(node->catalog, &prefix, NULL, 0, &rows);

	for (size_t i = 0; r == 0 && i < rows.count; i++) {
		if (rows.rows[i].key.length != prefix.length + 8)
			continue;
		r = pool_disk_pause_draining(pool->pool, catalog_key_number(&rows.rows[i].key, 1),
					     true);
		if (r == -EINVAL ||
		    r == -ENOENT) /* it was kept, or removed, and then came a crash */
			r = 0;
	}
	return r;
}
