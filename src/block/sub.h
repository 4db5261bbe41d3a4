/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The sub-requests of a wrapper: a pool sized when the wrapper is made. A request that finds the
 * pool empty waits in order of arrival. Lives on the wrapper's home reactor; a sub-request that
 * is in use may travel to another one.
 */
#include "block/block.h"

struct sub_pool;

struct sub {
	struct block_request request; /* to the volume below */
	struct block_request *parent; /* the one it stands for */
	struct sub_pool *pool;
	struct world_message message; /* for wrappers that cross reactors */
	struct list_node link;
	int result;
};

#define SUB_POOL_MAX 65536
#define SUB_POOL_DEFAULT 256

struct sub_pool {
	struct sub *subs;
	unsigned count;
	unsigned free_count;
	struct list free;
	struct list waiting; /* requests, by their link */
	void (*start)(struct sub *sub);
};

/* `start` is called for each request as soon as it has a sub-request, which stands for it: same
 * operation, range and data; start sets request.done and submits it. `count` of 0 means
 * SUB_POOL_DEFAULT. -EINVAL above SUB_POOL_MAX, -ENOMEM. */
int sub_pool_init(struct sub_pool *pool, unsigned count, void (*start)(struct sub *sub));
/* No sub-request is in use. Does nothing to a zeroed pool. */
void sub_pool_done(struct sub_pool *pool);

void sub_pool_submit(struct sub_pool *pool, struct block_request *parent);
/* Copies the outputs to the parent, gives the sub-request back (the next request that waits
 * starts), and completes the parent. Not on the submitter's stack. */
void sub_complete(struct sub *sub, int result);
/* The same without completing. Returns the parent. */
struct block_request *sub_release(struct sub *sub);

static inline struct sub *sub_of(struct block_request *request)
{
	return CONTAINER_OF(request, struct sub, request);
}
