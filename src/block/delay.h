/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A wrapper that takes its time: before a request goes to the volume below, after it, or both.
 * Each delay is fixed plus random, so requests overtake each other in both directions. All
 * choices come from one seed.
 */
#include "block/block.h"

struct delay_options {
	unsigned ops; /* bits 1 << BLOCK_READ ...; 0 = all */
	uint64_t before_ns, before_random_ns;
	uint64_t after_ns, after_random_ns;
	uint64_t seed;
	unsigned requests; /* at the volume below at once; more wait. 0 = SUB_POOL_DEFAULT */
};

/* -EINVAL, -ENOMEM. */
int delay_volume_new(struct block_volume *below, const struct delay_options *options,
		     struct block_volume **ret_volume);
