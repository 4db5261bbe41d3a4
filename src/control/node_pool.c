/* SPDX-License-Identifier: Apache-2.0 */
#include "control/node_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/node_drain.h"
#include "control/node_place.h"
#include "curator/scrub.h"

#define SPARES_AHEAD 4 /* 256 MiB written while the pool is idle, of pools of 8 GiB or more */
#define USERS_NS     (5 * NSEC_PER_SEC)

/* To a pool's home and back; entries of the list are not touched there. */
struct call {
	struct node *node;
	uint64_t id;
	struct pool *pool;
	struct pool_info *ret_info;
	struct pool_space *ret_space;
};

struct node_pool *node_pool_find(struct node *node, const char *name)
{
	struct node_pool *pool;

	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		if (strcmp(pool->name, name) == 0)
			return pool;
	return NULL;
}

struct node_pool *node_pool_by_id(struct node *node, uint64_t id)
{
	struct node_pool *pool;

	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		if (pool->id == id)
			return pool;
	return NULL;
}

struct node_pool *node_pool_after(struct node *node, uint64_t id)
{
	struct node_pool *pool, *next = NULL;

	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		if (pool->id > id && (!next || pool->id < next->id))
			next = pool;
	return next;
}

static int open_at_home(void *arg)
{
	struct call *call = arg;
	struct node *node = call->node;
	int r = pool_open_within(node->options.world, node->catalog, call->id,
				 node->options.disk_timeout_ns, &call->pool);

	if (r == 0)
		pool_set_spares_ahead(call->pool, SPARES_AHEAD);
	return r;
}

int node_pool_open(struct node *node, struct node_pool *pool)
{
	struct call call = {.node = node, .id = pool->id};

	ASSERT(!pool->pool);
	pool->error = fiber_call(pool->home, FIBER_CONTROL, open_at_home, &call);
	pool->pool = call.pool;
	if (pool->error == 0 && node_drain_load(node, pool) < 0)
		log_warning("node", "it is not known which disks' draining is paused", "pool=%s",
			    pool->name);
	if (pool->error == -EINPROGRESS)
		log_info("node", "a pool is being deleted, which was cut off", "pool=%s",
			 pool->name);
	else if (pool->error < 0)
		log_error("node", "a pool cannot be opened, its vDisks are not served",
			  "pool=%s directory=%s error=%d", pool->name, pool->directory,
			  pool->error);
	return pool->error;
}

int node_pool_add(struct node *node, const struct pool_info *info, struct node_pool **ret_pool)
{
	struct node_pool *pool = calloc(1, sizeof(*pool));

	reactor_assert_home(node->home);
	if (pool)
		pool->directory = strdup(info->directory);
	if (!pool || !pool->directory) {
		free(pool);
		return -ENOMEM;
	}
	pool->id = info->id;
	snprintf(pool->name, sizeof(pool->name), "%s", info->name);
	pool->home = node_next_reactor(node);
	(void)node_pool_open(node, pool); /* kept in pool->error */
	list_push_back(&node->pools, &pool->link);
	*ret_pool = pool;
	return 0;
}

int node_pools_open(struct node *node)
{
	_cleanup_free_ struct pool_info *infos = NULL;
	struct node_pool *pool;
	size_t count;
	int r = pool_list(node->catalog, &infos, &count);

	for (size_t i = 0; r == 0 && i < count; i++)
		r = node_pool_add(node, &infos[i], &pool);
	return r;
}

static int close_at_home(void *arg)
{
	struct call *call = arg;

	pool_close(call->pool);
	return 0;
}

static void remove_entry(struct node_pool *pool)
{
	list_remove(&pool->link);
	free(pool->directory);
	free(pool);
}

void node_pools_close(struct node *node)
{
	struct node_pool *pool;

	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link) {
		struct call call = {.pool = TAKE_PTR(pool->pool)};

		if (call.pool)
			(void)fiber_call(pool->home, FIBER_CONTROL, close_at_home,
					 &call); /* is 0 */
		remove_entry(pool);
	}
}

static int delete_at_home(void *arg)
{
	struct call *call = arg;

	return pool_delete(call->pool);
}

bool node_pool_use(struct node_pool *pool)
{
	if (!pool->pool || pool->deleting)
		return false;
	pool->users++;
	return true;
}

void node_pool_unuse(struct node *node, struct node_pool *pool)
{
	ASSERT(pool->users > 0);
	pool->users--;
	fiber_queue_wake_all(&node->changed);
}

static int wait_for_users(struct node *node, const struct node_pool *pool)
{
	uint64_t deadline_ns = reactor_now_ns(node->home) + USERS_NS;

	while (pool->users > 0)
		if (!fiber_queue_wait_until(&node->changed, deadline_ns))
			return -EAGAIN;
	return 0;
}

/* The pool is no more. */
static void forget(struct node *node, struct node_pool *pool)
{
	uint64_t id = pool->id;

	remove_entry(pool);
	fiber_mutex_lock(&node->scrub_lock);   /* who has it writes before that, or finds no pool */
	(void)scrub_forget(node->catalog, id); /* if that fails, node_orphans.c does it */
	fiber_mutex_unlock(&node->scrub_lock);
	node_place_forget_pool(node, id);
	(void)node_catalog_sync(node); /* logged, and tried again by the watch */
}

int node_pool_delete(struct node *node, struct node_pool *pool)
{
	struct call call = {.pool = pool->pool};
	struct node_vdisk *vdisk;
	int r;

	ASSERT(pool->pool && node->lock.owner == fiber_current());
	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		if (vdisk->info.pool_id == pool->id)
			return -EBUSY;
	pool->deleting = true;
	r = wait_for_users(node, pool);
	if (r == 0)
		r = fiber_call(pool->home, FIBER_CONTROL, delete_at_home, &call);
	pool->deleting = r == 0;
	if (r)
		return r;
	forget(node, pool);
	return 0;
}

static int finish_at_home(void *arg)
{
	struct call *call = arg;

	return pool_delete_finish(call->node->catalog, call->id);
}

int node_pool_finish_delete(struct node *node, struct node_pool *pool)
{
	struct call call = {.node = node, .id = pool->id};
	int r;

	ASSERT(!pool->pool && !pool->deleting);
	pool->deleting = true; /* nobody frees the entry meanwhile */
	r = fiber_call(pool->home, FIBER_CONTROL, finish_at_home, &call);
	fiber_mutex_lock(&node->lock);
	pool->deleting = false;
	if (r == 0)
		forget(node, pool);
	else if (r == -EBUSY)
		(void)node_pool_open(node, pool); /* there is something in it: kept in its error */
	fiber_mutex_unlock(&node->lock);
	if (r < 0)
		log_error("node", "a deletion that was cut off cannot go on",
			  "pool_id=%" PRIu64 " error=%d", call.id, r);
	return r;
}

static int info_at_home(void *arg)
{
	struct call *call = arg;

	pool_get_info(call->pool, call->ret_info);
	return 0;
}

void node_pool_get_info(struct node_pool *pool, struct pool_info *ret_info)
{
	struct call call = {.pool = pool->pool, .ret_info = ret_info};

	ASSERT(pool->pool);
	(void)fiber_call(pool->home, FIBER_CONTROL, info_at_home, &call); /* is 0 */
}

static int space_at_home(void *arg)
{
	struct call *call = arg;

	pool_get_space(call->pool, call->ret_space);
	return 0;
}

void node_pool_get_space(struct node_pool *pool, struct pool_space *ret_space)
{
	struct call call = {.pool = pool->pool, .ret_space = ret_space};

	ASSERT(pool->pool);
	(void)fiber_call(pool->home, FIBER_CONTROL, space_at_home, &call); /* is 0 */
}
