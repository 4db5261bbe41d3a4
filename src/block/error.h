/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A wrapper that makes chosen requests fail, by rules. Each rule looks at the requests of some
 * operations that touch some range; of these it lets the first `skip` pass, then fails up to
 * `times` of them, each with a chance. The first rule that fires decides. All choices come from
 * one seed.
 */
#include "block/block.h"

#define ERROR_RULES_MAX 16

struct error_rule {
	unsigned ops;        /* bits 1 << BLOCK_READ ...; 0 = all */
	uint64_t offset;     /* the range; flush has none and matches only a rule without range */
	uint64_t length;     /* 0 = everywhere */
	uint64_t skip;       /* requests that pass first: n - 1 makes the n-th fail */
	uint64_t times;      /* failures until the rule rests; 0 = no limit */
	uint32_t chance_ppm; /* 0 = always */
	int error;           /* negative errno */
	bool after;          /* the volume below does the work, but failure is reported */
};

/* `requests`: in flight at once; more wait. 0 = SUB_POOL_DEFAULT. -EINVAL, -ENOMEM. */
int error_volume_new(struct block_volume *below, uint64_t seed, unsigned requests,
		     struct block_volume **ret_volume);
/* On the home reactor. -EINVAL when `error` is not negative, -E2BIG beyond ERROR_RULES_MAX. */
int error_volume_add(struct block_volume *volume, const struct error_rule *rule);
/* Forgets all rules. */
void error_volume_clear(struct block_volume *volume);
/* How many requests were made to fail. */
uint64_t error_volume_failures(const struct block_volume *volume);
