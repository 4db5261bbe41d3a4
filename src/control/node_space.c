/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every few seconds: tells the units of iSCSI how much room their pools have, so that initiators
 * hear of it before writes fail. Nothing is told while nobody exports anything.
 */
#include "control/node_priv.h"

#include "base/macros.h"

#define PERIOD_NS (5 * NSEC_PER_SEC)

static bool has_exports(const struct node *node, uint64_t pool)
{
	const struct node_vdisk *vdisk;

	LIST_FOR_EACH (&node->vdisks, vdisk, const struct node_vdisk, link) {
		if (vdisk->info.pool_id == pool && vdisk->export && vdisk->export->error == 0)
			return true;
	}
	return false;
}

static uint64_t available_of(const struct pool_space *space)
{
	uint64_t taken = space->live + space->admitted;

	return space->limit > taken ? space->limit - taken : 0;
}

void node_space_get(struct node *node, uint64_t pool_id, uint64_t *ret_available,
		    uint64_t *ret_total)
{
	struct node_pool *pool = node_pool_by_id(node, pool_id);
	struct pool_space space = {0};

	if (pool && pool->pool)
		node_pool_get_space(pool, &space);
	*ret_available = available_of(&space);
	*ret_total = space.limit;
}

static void tell(struct node *node, const struct node_pool *pool, const struct pool_space *space)
{
	uint64_t available = available_of(space);
	struct node_vdisk *vdisk;

	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link) {
		if (vdisk->info.pool_id == pool->id && vdisk->vdisk && vdisk->export &&
		    vdisk->export->error == 0)
			iscsi_server_set_space(node->iscsi, vdisk_volume(vdisk->vdisk), available,
					       space->limit);
	}
}

/* The lock keeps the pools where they are while their homes are asked. */
static void space_run(struct fiber_task *task)
{
	struct node *node = CONTAINER_OF(task, struct node, space_task);
	struct node_pool *pool;

	fiber_mutex_lock(&node->lock);
	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link) {
		struct pool_space space;

		if (node->stopping || !pool->pool || !has_exports(node, pool->id))
			continue;
		node_pool_get_space(pool, &space);
		tell(node, pool, &space);
	}
	fiber_mutex_unlock(&node->lock);
	node->space_busy = false;
	if (!node->stopping)
		reactor_timer_arm(node->home, &node->space_timer,
				  reactor_turn_ns(node->home) + PERIOD_NS);
	fiber_queue_wake_all(&node->changed);
}

static void timer_run(struct reactor_timer *timer)
{
	struct node *node = CONTAINER_OF(timer, struct node, space_timer);

	node->space_busy = true;
	fiber_spawn(node->home, FIBER_CONTROL, &node->space_task);
}

void node_space_start(struct node *node)
{
	node->space_timer.run = timer_run;
	node->space_task.run = space_run;
	if (node->iscsi)
		reactor_timer_arm(node->home, &node->space_timer,
				  reactor_turn_ns(node->home) + PERIOD_NS);
}

void node_space_stop(struct node *node)
{
	ASSERT(node->stopping);
	reactor_timer_cancel(node->home, &node->space_timer);
	while (node->space_busy)
		fiber_queue_wait(&node->changed);
}
