/* SPDX-License-Identifier: Apache-2.0 */
#include "block/sub.h"

#include <errno.h>

#include "base/reached.h"

int sub_pool_init(struct sub_pool *pool, unsigned count, void (*start)(struct sub *sub))
{
	struct sub *subs;

	if (count > SUB_POOL_MAX)
		return -EINVAL;
	if (count == 0)
		count = SUB_POOL_DEFAULT;
	subs = calloc(count, sizeof(*subs));
	if (!subs)
		return -ENOMEM;
	*pool = (struct sub_pool){
		.subs = subs,
		.count = count,
		.free_count = count,
		.start = start,
	};
	list_init(&pool->free);
	list_init(&pool->waiting);
	for (unsigned i = 0; i < count; i++) {
		subs[i].pool = pool;
		list_push_back(&pool->free, &subs[i].link);
	}
	return 0;
}

void sub_pool_done(struct sub_pool *pool)
{
	if (!pool->subs)
		return;
	ASSERT(pool->free_count == pool->count);
	ASSERT(list_is_empty(&pool->waiting));
	free(pool->subs);
	pool->subs = NULL;
}

/* The parent does not change while it is below, so any reactor may look at it. */
static void tell_parent(struct block_request *request)
{
	block_compared(sub_of(request)->parent);
}

static void tell_parent_written(struct block_request *request)
{
	block_written(sub_of(request)->parent);
}

static void start(struct sub_pool *pool, struct block_request *parent)
{
	struct sub *sub = LIST_ENTRY(list_pop_front(&pool->free), struct sub, link);

	pool->free_count--;
	sub->parent = parent;
	sub->request.op = parent->op;
	sub->request.flags = parent->flags;
	sub->request.compared = tell_parent;
	sub->request.written = tell_parent_written;
	sub->request.offset = parent->offset;
	sub->request.length = parent->length;
	sub->request.iov = parent->iov;
	sub->request.iov_count = parent->iov_count;
	pool->start(sub);
}

void sub_pool_submit(struct sub_pool *pool, struct block_request *parent)
{
	/* A free sub-request means that nobody waits: each one given back goes to the first in
	 * line. */
	if (pool->free_count > 0) {
		start(pool, parent);
		return;
	}
	REACHED("block.sub.wait");
	list_push_back(&pool->waiting, &parent->link);
}

struct block_request *sub_release(struct sub *sub)
{
	struct sub_pool *pool = sub->pool;
	struct block_request *parent = sub->parent;
	struct list_node *node;

	parent->status = sub->request.status;
	parent->miscompare_offset = sub->request.miscompare_offset;
	sub->parent = NULL;
	/* The most recently used one first: it is still in the cache. */
	list_push_front(&pool->free, &sub->link);
	pool->free_count++;
	node = list_pop_front(&pool->waiting);
	if (node)
		start(pool, LIST_ENTRY(node, struct block_request, link));
	return parent;
}

void sub_complete(struct sub *sub, int result)
{
	block_complete(sub_release(sub), result);
}
