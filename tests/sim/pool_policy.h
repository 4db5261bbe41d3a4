/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The policy of the container in simulations of a pool: drawn at random, kept in the rows, and told
 * to the pool and to the vDisk while clients run, as the API does it.
 */
#include "block/chance.h"
#include "engine_rig.h"

struct pool_policy {
	struct policy_set set;
	unsigned factor;
	bool limits; /* capacity: writes may be refused */
};

/* Orders of tiers and stripe width at random; with `limits`, a capacity that may be too small. */
void pool_policy_draw(struct pool_policy *policy, struct chance *chance, unsigned factor,
		      bool limits);
/* In a fiber, while the vDisk is open. Negative where the rows cannot be written. */
int pool_policy_apply(const struct pool_policy *policy, struct engine_rig *rig);
