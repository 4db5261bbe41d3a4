/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What could not be opened at the start is tried again: a pool now and then, a vDisk when its pool
 * was opened, or other disks of that can be reached than when it was tried last. A vDisk that opens
 * is served as it was before: as a LUN, and as a namespace of controllers.
 *
 * Not while something of a dead daemon is left (node_dead.c): what that has under way may still
 * land on the disks that are out for its sake. A pool is not tried while any disk hangs, for an
 * attempt that hangs takes memory and a fiber until that disk answers.
 *
 * A pool whose deletion was cut off is deleted (pool_delete.c).
 *
 * Failure modes: what fails again stays as it is, and is logged. Home: the node's; from the fiber
 * of its service.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "control/node_disk.h"
#include "control/node_nvme.h"

#define LOOK_NS       (2 * NSEC_PER_SEC)
#define POOL_FIRST_NS (10 * NSEC_PER_SEC)
#define POOL_LAST_NS  (5 * 60 * NSEC_PER_SEC)

/* The node's lock: nobody deletes it meanwhile. */
static void try_pool(struct node *node, struct node_pool *pool)
{
	uint64_t now_ns = reactor_now_ns(node->home);

	if (pool->reopen_ns == 0)
		pool->reopen_ns = now_ns + POOL_FIRST_NS;
	if (now_ns < pool->reopen_ns || pool_disks_silent() > 0)
		return;
	REACHED("node.tries-pool");
	if (node_pool_open(node, pool) == 0) {
		event_emit(node->events, EVENT_POOL_ONLINE, pool->name,
			   "it could not be opened at the start, and is now");
		node_damage_tell(node, pool);
		return;
	}
	pool->reopen_pause_ns = pool->reopen_pause_ns ? MIN(2 * pool->reopen_pause_ns, POOL_LAST_NS)
						      : POOL_FIRST_NS;
	pool->reopen_ns = reactor_now_ns(node->home) + pool->reopen_pause_ns;
}

static void try_pools(struct node *node)
{
	struct node_pool *pool;

	fiber_mutex_lock(&node->lock);
	for (uint64_t id = 0; !node->stopping && (pool = node_pool_after(node, id));) {
		id = pool->id;
		if (!pool->pool && pool->error != -EINPROGRESS)
			try_pool(node, pool);
	}
	fiber_mutex_unlock(&node->lock);
}

static void finish_deletions(struct node *node)
{
	struct node_pool *pool;

	for (uint64_t id = 0; !node->stopping && (pool = node_pool_after(node, id));) {
		id = pool->id;
		if (pool->pool || pool->error != -EINPROGRESS ||
		    reactor_now_ns(node->home) < pool->reopen_ns)
			continue;
		pool->reopen_ns = reactor_now_ns(node->home) + POOL_LAST_NS;
		(void)node_pool_finish_delete(node, pool); /* logged, and tried again */
	}
}

static bool is_out(const struct node_vdisk *vdisk)
{
	return !vdisk->vdisk && vdisk->error < 0 && !vdisk->info.deleting;
}

static bool is_worth_trying(struct node *node, const struct node_vdisk *vdisk)
{
	const struct node_pool *pool = node_pool_by_id(node, vdisk->info.pool_id);

	return is_out(vdisk) && pool && pool->pool &&
	       node_disks_out(pool->pool) != vdisk->tried_without;
}

static void serve_again(struct node *node, struct node_vdisk *vdisk)
{
	log_info("node", "a vDisk is open after all", "vdisk=%s id=%" PRIu64, vdisk->name,
		 vdisk->info.id);
	node_export_reopened(node, vdisk);
	node_nvme_reopened(node, vdisk);
	event_emit(node->events, EVENT_VDISK_OPENED, vdisk->name,
		   "it could not be opened at the start, and is served now");
}

static void try_vdisk(struct node *node, struct node_vdisk *vdisk)
{
	uint64_t id = vdisk->info.id;
	const char *blocker;

	if (node_vdisk_begin(node, vdisk->name, "vdisk.open", false, &vdisk, &blocker) < 0)
		return; /* the next turn looks again */
	REACHED("node.tries-vdisk");
	if (vdisk->info.id == id && is_out(vdisk) && node_vdisk_open(node, vdisk) == 0)
		serve_again(node, vdisk);
	node_vdisk_end(node, vdisk);
}

static void try_vdisks(struct node *node)
{
	struct node_vdisk *vdisk;

	for (uint64_t id = 0; !node->stopping && (vdisk = node_vdisk_after(node, id));) {
		id = vdisk->info.id;
		if (is_worth_trying(node, vdisk))
			try_vdisk(node, vdisk);
	}
}

static void look(struct node *node)
{
	if (node->dead_left > 0)
		return;
	finish_deletions(node);
	try_pools(node);
	try_vdisks(node);
}

void node_reopen_start_service(struct node *node)
{
	node_service_start(&node->reopen, node, look, LOOK_NS);
}
