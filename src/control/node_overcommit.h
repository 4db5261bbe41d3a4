/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How much the vDisks of a pool may grow to, against what it can hold. They take space as they are
 * written, so more than that is allowed, and told of. Under the node's lock.
 */
#include "control/node_priv.h"

struct node_overcommit {
	uint64_t provisioned; /* sizes of all vDisks times their replication factors */
	uint64_t limit;       /* what may be live, with copies; 0: the pool is not open */
};

void node_overcommit_get(struct node *node, struct node_pool *pool,
			 struct node_overcommit *ret_overcommit);
/* More than 1: not all of it fits. 0: not known. */
double node_overcommit_ratio(const struct node_overcommit *overcommit);
#define NODE_OVERCOMMIT_TEXT_MAX 200
/* "overcommitted 1.50 times: ..." */
void node_overcommit_text(const struct node_overcommit *overcommit,
			  char ret_text[static NODE_OVERCOMMIT_TEXT_MAX]);
