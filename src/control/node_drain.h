/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "control/node_disk.h"

/* The draining of a disk is paused, or goes on: durable. -EINVAL: it does not drain. The node's
 * lock is held. */
int node_drain_set_paused(struct node *node, struct node_pool *pool, uint64_t id, bool paused);
/* An open pool: what was paused before is so again. Before repair may begin. */
int node_drain_load(struct node *node, struct node_pool *pool);
