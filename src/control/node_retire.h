/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Disks that are to be removed as soon as nothing is on them. Under the node's lock. */
#include "control/node_disk.h"

bool node_retire_is_meant(struct node *node, struct node_pool *pool, uint64_t id);
int node_retire_set(struct node *node, struct node_pool *pool, uint64_t id, bool retires);
/* The disk is the pool's no more: what the node has written about it goes. */
void node_retire_forget(struct node *node, struct node_pool *pool, uint64_t id);
/* Removes it when its time has come. */
void node_retire_watch(struct node *node, struct node_pool *pool,
		       const struct pool_disk_info *info);
