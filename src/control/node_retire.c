/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that were replaced are removed by themselves once nothing is on them.
 *
 * Which these are is a row of the catalog each, so that a restart goes on; in memory they are read
 * once, when a pool is looked at first.
 *
 * Invariants
 *  1. Only a disk that is draining or given up is removed, and only when the pool finds nothing on
 *     it (pool_disk_remove()).
 *  2. A row is written after the disk has begun to leave: a crash between leaves a disk that drains
 *     and stays, which nobody was told would go. One that is kept after all loses its row first.
 * Home: the node's, under its lock.
 */
#include "control/node_retire.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "control/node_drain.h"
#include "control/node_place.h"

#define ROW_VERSION 1

/* Rows of disks that the pool does not have any more are of no account. */
static int load(struct node *node, struct node_pool *pool)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = node_disk_key(CATALOG_RETIRE, pool->id, 0);
	int r;

	if (pool->retiring_known)
		return 0;
	r = catalog_scan(node->catalog, &prefix, NULL, ARRAY_SIZE(pool->retiring), &rows);
	if (r < 0)
		return r;
	pool->retiring_count = 0;
	for (size_t i = 0; i < rows.count; i++)
		if (rows.rows[i].key.length == 1 + 2 * 8)
			pool->retiring[pool->retiring_count++] =
				catalog_key_number(&rows.rows[i].key, 1);
	pool->retiring_known = true;
	return 0;
}

static bool is_retiring(const struct node_pool *pool, uint64_t id)
{
	for (size_t i = 0; i < pool->retiring_count; i++)
		if (pool->retiring[i] == id)
			return true;
	return false;
}

bool node_retire_is_meant(struct node *node, struct node_pool *pool, uint64_t id)
{
	return load(node, pool) == 0 && is_retiring(pool, id);
}

static int write_row(struct node *node, struct node_pool *pool, uint64_t id, bool retires)
{
	static const uint8_t value[8] = {ROW_VERSION};
	const struct catalog_change change = {.kind = retires ? CATALOG_PUT : CATALOG_DELETE,
					      .key = node_disk_key(CATALOG_RETIRE, pool->id, id),
					      .value = retires ? value : NULL,
					      .length = retires ? sizeof(value) : 0};

	pool->retiring_known = false; /* whatever comes of it */
	return retires ? node_disk_commit(node, pool->id, id, &change)
		       : catalog_commit(node->catalog, &change, 1);
}

int node_retire_set(struct node *node, struct node_pool *pool, uint64_t id, bool retires)
{
	int r = load(node, pool);

	ASSERT(node->lock.owner == fiber_current());
	return r < 0 || is_retiring(pool, id) == retires ? r : write_row(node, pool, id, retires);
}

void node_retire_forget(struct node *node, struct node_pool *pool, uint64_t id)
{
	int r = node_retire_set(node, pool, id, false);

	(void)node_drain_set_paused(node, pool, id,
				    false); /* if that fails, node_orphans.c does it */
	node_place_forget(node, pool->id, id);
	if (r < 0) /* of no account: numbers of disks do not come again */
		log_warning("node", "a row of a disk that was removed is left",
			    "pool=%s disk=%" PRIu64 " error=%d", pool->name, id, r);
}

void node_retire_watch(struct node *node, struct node_pool *pool, const struct pool_disk_info *info)
{
	bool leaves = info->draining || info->state == POOL_DISK_FAILED;
	int r;

	if (!leaves || info->files > 0 || !node_retire_is_meant(node, pool, info->id))
		return;
	r = node_disk_change(pool, info->id, NODE_DISK_REMOVE);
	if (r == -EBUSY || r == -EINVAL)
		return; /* something is just being put away there, or no other takes files: later */
	if (r < 0) {
		log_warning("node", "a disk that was replaced cannot be removed yet",
			    "pool=%s disk=%" PRIu64 " error=%d", pool->name, info->id, r);
		return;
	}
	event_emit(node->events, EVENT_DISK_REMOVED, pool->name,
		   "disk %" PRIu64 " (%.230s) was replaced; it is empty now and was removed",
		   info->id, info->directory);
	node_retire_forget(node, pool, info->id);
	(void)node_catalog_sync(node); /* logged, and tried again by the watch */
}
