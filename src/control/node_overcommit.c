/* SPDX-License-Identifier: Apache-2.0 */
#include "control/node_overcommit.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/macros.h"
#include "control/size.h"

void node_overcommit_get(struct node *node, struct node_pool *pool,
			 struct node_overcommit *ret_overcommit)
{
	struct node_overcommit sum = {0};
	const struct node_vdisk *vdisk;
	struct pool_space space;

	if (pool->pool) {
		node_pool_get_space(pool, &space);
		sum.limit = space.limit;
	}
	LIST_FOR_EACH (&node->vdisks, vdisk, const struct node_vdisk, link)
		if (vdisk->info.pool_id == pool->id && !vdisk->info.deleting)
			sum.provisioned += vdisk->info.size_bytes * MAX(vdisk->factor, 1u);
	*ret_overcommit = sum;
}

double node_overcommit_ratio(const struct node_overcommit *overcommit)
{
	return overcommit->limit ? (double)overcommit->provisioned / (double)overcommit->limit : 0;
}

void node_overcommit_text(const struct node_overcommit *overcommit,
			  char ret_text[static NODE_OVERCOMMIT_TEXT_MAX])
{
	char provisioned[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];

	snprintf(ret_text, NODE_OVERCOMMIT_TEXT_MAX,
		 "overcommitted %.2f times: its vDisks may grow to %s with their copies, of which "
		 "%s fit",
		 node_overcommit_ratio(overcommit),
		 size_format(overcommit->provisioned, provisioned),
		 size_format(overcommit->limit, limit));
}
