/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Which disks have a mirror of the catalog when there are more of them than there may be mirrors. A
 * pure function. In this order: disks that can be relied on; pools that have fewer mirrors yet;
 * tiers of that pool that have fewer; disks that have a mirror already, so that none moves without
 * need; the order given.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mirror_rank {
	MIRROR_RANK_FIXED, /* what is there must be kept */
	MIRROR_RANK_USABLE,
	MIRROR_RANK_LEAVING, /* it works, but not for long, or not well */
	MIRROR_RANK_LOST,
};

struct mirror_candidate {
	uint64_t pool;
	unsigned tier; /* any number for each */
	enum mirror_rank rank;
	bool has_one;
	bool chosen; /* the answer */
};

void mirror_choose(struct mirror_candidate *candidates, size_t count, size_t most);
