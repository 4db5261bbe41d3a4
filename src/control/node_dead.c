/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Daemons before this one of which something is left in the kernel: until it has gone, pools are
 * used in the careful way of pool_fence.h. Looked at by the watch; whoever waits for the end is
 * woken then: disks that were left out, and repair.
 */
#include <errno.h>

#include "base/log.h"
#include "control/node_disk.h"
#include "pool/pool_fence.h"
#include "reactor/io.h"

struct poll_call {
	const struct node_dead_options *dead;
	bool may_name;
	unsigned left;
};

static void poll_dead(void *arg)
{
	struct poll_call *call = arg;

	call->left = call->dead->poll(call->dead->arg, &call->may_name);
}

void node_dead_begin(struct node *node)
{
	node->dead_left = node->options.dead.count;
	if (node->dead_left > 0)
		pool_fence_set(POOL_FENCE_NAMES);
}

void node_dead_tell(struct node *node)
{
	if (node->dead_left > 0)
		event_emit(node->events, EVENT_NODE_TOOK_OVER, "node",
			   "what is left of the daemon with the process id %d cannot end: a disk "
			   "does not answer",
			   (int)node->options.dead.pid);
}

void node_dead_watch(struct node *node)
{
	struct poll_call call = {.dead = &node->options.dead};

	if (node->dead_left == 0 || io_job(poll_dead, &call) < 0)
		return; /* the next turn looks again */
	node->dead_left = call.left;
	if (call.left > 0) {
		pool_fence_set(call.may_name ? POOL_FENCE_NAMES : POOL_FENCE_DATA);
		return;
	}
	pool_fence_set(POOL_FENCE_NONE);
	event_emit(node->events, EVENT_NODE_ALONE, "node",
		   "nothing is left of the daemon before: disks that were left out come back");
	node_repair_look(node);
}
