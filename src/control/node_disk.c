/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks, from the node's side: found by name, changed, and watched: a change of state becomes an
 * event and makes the repair service look.
 */
#include "control/node_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "control/node_retire.h"
#include "pool/pool_rows.h"

#define COMMIT_TRIES 5

int node_disk_find(struct node *node, const char *text, struct node_pool **ret_pool,
		   uint64_t *ret_id)
{
	struct node_pool *pool;

	ASSERT(node->lock.owner == fiber_current());
	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		if (pool->pool && pool_disk_find(pool->pool, text, ret_id) == 0) {
			*ret_pool = pool;
			return 0;
		}
	return -ENOENT;
}

int node_disk_add(struct node_pool *pool, const struct pool_disk_spec *spec, uint64_t *ret_id)
{
	return pool->pool ? pool_disk_add(pool->pool, spec, ret_id) : pool->error;
}

int node_disk_get(struct node_pool *pool, uint64_t id, struct pool_disk_info *ret_info)
{
	return pool->pool ? pool_disk_get(pool->pool, id, ret_info) : pool->error;
}

bool node_disk_answers(const struct pool_disk_info *info)
{
	return info->state < POOL_DISK_MISSING && info->silent_ns == 0;
}

uint64_t node_disks_out(const struct pool *pool)
{
	return UINT64_C(1) << 32 | pool_disks_gone(pool);
}

int node_disk_list(struct node_pool *pool, struct pool_disk_info **ret_infos, size_t *ret_count)
{
	return pool->pool ? pool_disk_list(pool->pool, ret_infos, ret_count) : pool->error;
}

int node_disk_change(struct node_pool *pool, uint64_t id, enum node_disk_change change)
{
	if (!pool->pool)
		return pool->error;
	switch (change) {
	case NODE_DISK_DRAIN:
		return pool_disk_set_draining(pool->pool, id, true);
	case NODE_DISK_KEEP:
		return pool_disk_set_draining(pool->pool, id, false);
	case NODE_DISK_FAIL:
		return pool_disk_fail(pool->pool, id);
	case NODE_DISK_RESTORE:
		return pool_disk_restore(pool->pool, id);
	case NODE_DISK_REMOVE:
		return pool_disk_remove(pool->pool, id);
	}
	return -EINVAL;
}

struct catalog_key node_disk_key(enum catalog_table table, uint64_t pool_id, uint64_t disk_id)
{
	struct catalog_key key = catalog_key(table);

	catalog_key_add(&key, pool_id);
	if (disk_id)
		catalog_key_add(&key, disk_id);
	return key;
}

int node_disk_commit(struct node *node, uint64_t pool_id, uint64_t disk_id,
		     const struct catalog_change *change)
{
	const struct catalog_key key = pool_rows_disk_key(pool_id, disk_id);
	int r = -ESTALE;

	/* -ESTALE again: it is being changed all the time, and whoever wants this comes again. */
	for (unsigned i = 0; r == -ESTALE && i < COMMIT_TRIES; i++) {
		_cleanup_(catalog_row_done) struct catalog_row row = {0};
		struct catalog_change changes[2] = {{.kind = CATALOG_EXPECT, .key = key}, *change};

		r = catalog_get(node->catalog, &key, &row);
		if (r < 0)
			return r;
		changes[0].version = row.version;
		r = catalog_commit(node->catalog, changes, ARRAY_SIZE(changes));
	}
	return r;
}

static void tell(struct node *node, const struct node_pool *pool, const struct pool_disk_info *info)
{
	enum event_reason reason = info->state == POOL_DISK_ONLINE   ? EVENT_DISK_ONLINE
				   : info->state == POOL_DISK_FAILED ? EVENT_DISK_FAILED
								     : EVENT_DISK_TROUBLE;

	if (info->silent_ns)
		event_emit(node->events, reason, pool->name,
			   "disk %.250s is %s: it does not answer since %" PRIu64 " s",
			   info->directory, pool_disk_state_name(info->state),
			   info->silent_ns / NSEC_PER_SEC);
	else
		event_emit(node->events, reason, pool->name, "disk %.250s is %s", info->directory,
			   pool_disk_state_name(info->state));
}

static struct node_disk_seen *seen_of(struct node_pool *pool, uint64_t id)
{
	for (size_t i = 0; i < pool->disks_seen_count; i++)
		if (pool->disks_seen[i].id == id)
			return &pool->disks_seen[i];
	return NULL;
}

static void watch_size(struct node *node, const struct node_pool *pool, struct node_disk_seen *seen,
		       const struct pool_disk_info *info)
{
	if (info->capacity == 0 || info->capacity == seen->capacity)
		return;
	if (seen->capacity)
		event_emit(node->events, EVENT_DISK_RESIZED, pool->name,
			   "disk %" PRIu64 " (%.230s) has %" PRIu64 " MiB instead of %" PRIu64,
			   info->id, info->directory, info->capacity / MIB, seen->capacity / MIB);
	seen->capacity = info->capacity;
}

static void watch_drain(struct node *node, const struct node_pool *pool,
			struct node_disk_seen *seen, const struct pool_disk_info *info, bool first)
{
	static const enum event_reason reasons[] = {[NODE_DISK_STAYS] = EVENT_DISK_KEPT,
						    [NODE_DISK_DRAINS] = EVENT_DISK_DRAINING,
						    [NODE_DISK_DRAINED] = EVENT_DISK_DRAINED};
	static const char *const texts[] = {[NODE_DISK_STAYS] = "stays",
					    [NODE_DISK_DRAINS] = "is being drained",
					    [NODE_DISK_DRAINED] = "is empty"};
	int now = !info->draining   ? NODE_DISK_STAYS
		  : info->files > 0 ? NODE_DISK_DRAINS
				    : NODE_DISK_DRAINED;

	if (!first && now != (int)seen->drain)
		event_emit(node->events, reasons[now], pool->name,
			   "disk %" PRIu64 " (%.230s) %s: %" PRIu64 " files are there", info->id,
			   info->directory, texts[now], info->files);
	seen->drain = now;
}

/* True: something has changed. What was not seen before is told only when it is not well. */
static bool watch_disk(struct node *node, struct node_pool *pool, const struct pool_disk_info *info,
		       bool first)
{
	struct node_disk_seen *seen = seen_of(pool, info->id);
	enum pool_disk_state before = POOL_DISK_ONLINE;

	if (seen) {
		before = seen->state;
	} else if (pool->disks_seen_count < ARRAY_SIZE(pool->disks_seen)) {
		seen = &pool->disks_seen[pool->disks_seen_count++];
		*seen = (struct node_disk_seen){0};
	}
	if (seen) {
		seen->id = info->id;
		seen->state = info->state;
		watch_size(node, pool, seen, info);
		watch_drain(node, pool, seen, info, first);
	}
	if (info->state == before)
		return false;
	tell(node, pool, info);
	return true;
}

/* Of disks that were removed nothing is kept. */
static void forget_removed(struct node_pool *pool, const struct pool_disk_info *infos, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < pool->disks_seen_count; i++) {
		size_t at = 0;

		while (at < count && infos[at].id != pool->disks_seen[i].id)
			at++;
		if (at < count)
			pool->disks_seen[kept++] = pool->disks_seen[i];
	}
	pool->disks_seen_count = kept;
}

void node_disk_watch(struct node *node, struct node_pool *pool)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	bool changed = false, first = node->catalog_watch.turns <= 1; /* at start: nothing new */
	size_t count;

	if (node_disk_list(pool, &infos, &count) < 0)
		return; /* the next turn looks again */
	forget_removed(pool, infos, count);
	for (size_t i = 0; i < count; i++) {
		changed |= watch_disk(node, pool, &infos[i], first);
		node_retire_watch(node, pool, &infos[i]);
	}
	if (changed)
		node_repair_look(node);
}
