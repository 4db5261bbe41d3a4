/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_policy.h"

#include "base/macros.h"
#include "pool/container.h"
#include "pool/pool_quota.h"
#include "sim_run.h"

static void put(struct pool_policy *policy, enum policy_property property, uint64_t value)
{
	SIM_RUN_CHECK(policy_set_put(&policy->set, property, value) == 0, "policy");
}

/* Of one tier, so that the other takes it as far as it has disks for all copies, or of all. Some
 * hold what the clients write, some do not. */
static void put_limit(struct pool_policy *policy, struct chance *chance)
{
	static const enum policy_property properties[] = {
		POLICY_MAX_CAPACITY_SSD, POLICY_MAX_CAPACITY_HDD, POLICY_MAX_CAPACITY};
	static const uint64_t sizes[] = {0, 8 * MIB, 24 * MIB, 64 * MIB, 128 * MIB};
	enum policy_property property = properties[chance_below(chance, ARRAY_SIZE(properties))];
	uint64_t size = sizes[chance_below(chance, ARRAY_SIZE(sizes))];

	put(policy, property, MAX(size, policy_info(property)->least));
}

void pool_policy_draw(struct pool_policy *policy, struct chance *chance, unsigned factor,
		      bool limits)
{
	static const uint64_t orders[] = {0x12, 0x21, POLICY_ALL_TIERS, 0x12};
	uint64_t order = chance_below(chance, 3);

	*policy = (struct pool_policy){.factor = factor, .limits = limits};
	put(policy, POLICY_REPLICATION_FACTOR, factor);
	put(policy, POLICY_TIER_ORDER_RANDOM, orders[order]);
	put(policy, POLICY_TIER_ORDER_SEQUENTIAL, orders[order + (chance_below(chance, 4) > 0)]);
	put(policy, POLICY_STRIPE_WIDTH, 1 + chance_below(chance, 6));
	if (limits)
		put_limit(policy, chance);
}

int pool_policy_apply(const struct pool_policy *policy, struct engine_rig *rig)
{
	struct container_policy merged;
	int r = container_put_policy(rig->catalog, rig->container_id, &policy->set);

	if (r < 0)
		return r;
	policy_merge(&policy->set, NULL, &merged);
	r = pool_quota_set(rig->pool, rig->container_id, &merged);
	if (r == 0)
		vdisk_set_policy(rig->vdisk, &merged);
	return r;
}
