/* SPDX-License-Identifier: Apache-2.0 */
/* What containers may have, and what is kept for them. */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pool/pool_disk.h"
#include "pool/pool_quota.h"

static struct pool_quota *quotas[3]; /* of the containers 0 to 2 */
static uint64_t ids[3];

static int setup(void **state)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	ASSERT(sim_disk_add(rig->sim.sim, "/disk2", POOL_RIG_DISK_BYTES) == 0);
	*state = rig;
	return 0;
}

static void begin(struct pool_rig *rig)
{
	static const char *const names[] = {"a", "b", "c"};

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	for (unsigned i = 0; i < 3; i++) {
		ASSERT(container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id,
					names[i], &ids[i]) == 0);
		ASSERT(pool_quota_open(rig->pool, ids[i], &quotas[i]) == 0);
	}
}

static void end(struct pool_rig *rig)
{
	for (unsigned i = 0; i < 3; i++)
		pool_quota_close(TAKE_PTR(quotas[i]));
	pool_rig_close(rig);
}

static struct container_policy policy_of(enum policy_property property, uint64_t value)
{
	const struct policy_set none = {0};
	struct container_policy policy;

	policy_merge(&none, NULL, &policy);
	policy.values[property] = value;
	return policy;
}

static void set(struct pool_rig *rig, unsigned i, enum policy_property property, uint64_t value)
{
	struct container_policy policy = policy_of(property, value);

	ASSERT(pool_quota_set(rig->pool, ids[i], &policy) == 0);
}

static enum pool_quota_problem check(struct pool_rig *rig, uint64_t container,
				     enum policy_property property, uint64_t value)
{
	struct container_policy policy = policy_of(property, value);
	enum pool_quota_problem problem;

	ASSERT(pool_quota_check(rig->pool, container, &policy, &problem) == 0);
	return problem;
}

static uint64_t taken(struct pool_rig *rig, unsigned i)
{
	struct pool_quota_info info;

	ASSERT(pool_quota_get(rig->pool, ids[i], &info) == 0);
	return info.taken;
}

static void capacity_run(void *arg)
{
	struct pool_rig *rig = arg;

	begin(rig);
	set(rig, 0, POLICY_MAX_CAPACITY, 10 * MIB);
	ASSERT(pool_quota_admit(quotas[0], 1, 10 * MIB) == 0);
	ASSERT(pool_quota_admit(quotas[0], 1, 1) == -ENOSPC);
	ASSERT(pool_quota_admit(quotas[1], 1, 20 * MIB) == 0);
	/* Live instead of admitted, then less. */
	pool_quota_account_live(quotas[0], 1, 10 * (int64_t)MIB);
	pool_quota_admit_return(quotas[0], 1, 10 * MIB);
	ASSERT(taken(rig, 0) == 10 * MIB && taken(rig, 1) == 20 * MIB);
	ASSERT(pool_quota_admit(quotas[0], 1, 1) == -ENOSPC);
	pool_quota_account_live(quotas[0], 1, -(int64_t)MIB);
	ASSERT(pool_quota_admit(quotas[0], 1, MIB) == 0);
	ASSERT(pool_quota_admit(quotas[0], 1, 1) == -ENOSPC);
	/* Less than it has: nothing until enough is gone. */
	set(rig, 0, POLICY_MAX_CAPACITY, 5 * MIB);
	pool_quota_admit_return(quotas[0], 1, MIB);
	ASSERT(pool_quota_admit(quotas[0], 1, 1) == -ENOSPC);
	pool_quota_account_live(quotas[0], 1, -8 * (int64_t)MIB);
	ASSERT(pool_quota_admit(quotas[0], 1, 4 * MIB) == 0);
	ASSERT(pool_quota_admit(quotas[0], 1, 1) == -ENOSPC);
	set(rig, 0, POLICY_MAX_CAPACITY, POLICY_NONE);
	ASSERT(pool_quota_admit(quotas[0], 1, 100 * MIB) == 0);
	/* The only tier of the pool; 4 MiB of it are for groups that are open, 9 % for garbage. */
	set(rig, 1, POLICY_MAX_CAPACITY_SSD, 104 * MIB);
	ASSERT(pool_quota_admit(quotas[1], 1, 71 * MIB) == 0);
	ASSERT(pool_quota_admit(quotas[1], 1, 20 * MIB) == -ENOSPC);
	set(rig, 1, POLICY_MAX_CAPACITY_HDD, MIB); /* which it has not */
	ASSERT(pool_quota_admit(quotas[1], 1, MIB) == 0);
	end(rig);
}

static void keeps_within_the_capacity(void **state)
{
	pool_rig_run(*state, capacity_run);
}

/* Which tiers a pool has changes while it is open. */
static void tiers_run(void *arg)
{
	const struct pool_disk_spec spec = {
		.directory = "/disk2/p", .tier = "hdd", .capacity_bytes = POOL_MIN_BYTES};
	struct pool_rig *rig = arg;
	uint64_t id;

	begin(rig);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 26 * MIB);
	ASSERT(pool_quota_admit(quotas[0], 1, 20 * MIB) == 0);
	ASSERT(pool_quota_admit(quotas[0], 1, MIB) == -ENOSPC);
	ASSERT(pool_disk_add(rig->pool, &spec, &id) == 0);
	ASSERT(pool_quota_admit(quotas[0], 1, MIB) == 0);
	pool_quota_admit_return(quotas[0], 1, MIB);
	ASSERT(pool_disk_remove(rig->pool, id) == 0);
	ASSERT(pool_quota_admit(quotas[0], 1, MIB) == -ENOSPC);
	pool_quota_admit_return(quotas[0], 1, 20 * MIB);
	ASSERT(taken(rig, 0) == 0);
	end(rig);
}

static void follows_the_tiers_of_disks(void **state)
{
	pool_rig_run(*state, tiers_run);
}

static void reserve_run(void *arg)
{
	struct pool_rig *rig = arg;
	uint64_t limit, other;

	begin(rig);
	limit = pool_rig_space(rig).limit;
	other = limit - 100 * MIB;
	set(rig, 0, POLICY_MIN_RESERVED, 100 * MIB);
	ASSERT(pool_quota_admit(quotas[1], 1, other + 1) == -ENOSPC);
	ASSERT(pool_quota_admit(quotas[1], 1, other) == 0);
	ASSERT(pool_quota_admit(quotas[1], 1, 1) == -ENOSPC);
	ASSERT(pool_admit(rig->pool, 1, 1) == -ENOSPC);
	/* It is there when it is needed, and kept again when it is not any more. */
	ASSERT(pool_quota_admit(quotas[0], 1, 60 * MIB) == 0);
	ASSERT(pool_quota_admit(quotas[1], 1, 1) == -ENOSPC);
	pool_quota_account_live(quotas[0], 1, 60 * (int64_t)MIB);
	pool_quota_admit_return(quotas[0], 1, 60 * MIB);
	ASSERT(pool_quota_admit(quotas[0], 1, 40 * MIB + 1) == -ENOSPC);
	ASSERT(pool_quota_admit(quotas[0], 1, 40 * MIB) == 0);
	pool_quota_admit_return(quotas[0], 1, 40 * MIB);
	pool_quota_account_live(quotas[0], 1, -60 * (int64_t)MIB);
	ASSERT(pool_quota_admit(quotas[2], 1, 1) == -ENOSPC);
	ASSERT(taken(rig, 0) == 0);
	/* What was kept is its own even when others have more than there is. */
	pool_quota_account_live(quotas[1], 1, 50 * (int64_t)MIB);
	ASSERT(pool_quota_admit(quotas[0], 1, 50 * MIB) == 0);
	ASSERT(pool_quota_admit(quotas[0], 1, MIB) == -ENOSPC);
	pool_quota_admit_return(quotas[0], 1, 50 * MIB);
	pool_quota_account_live(quotas[1], 1, -50 * (int64_t)MIB);
	set(rig, 0, POLICY_MIN_RESERVED, 0);
	ASSERT(pool_quota_admit(quotas[1], 1, 100 * MIB) == 0);
	end(rig);
}

static void keeps_what_is_reserved(void **state)
{
	pool_rig_run(*state, reserve_run);
}

static void check_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct pool_disk_spec disk = {
		.directory = "/disk2/p", .tier = "hdd", .capacity_bytes = POOL_MIN_BYTES};
	struct container_policy policy;
	enum pool_quota_problem problem;
	uint64_t limit, id;

	begin(rig);
	limit = pool_rig_space(rig).limit;
	ASSERT(check(rig, 0, POLICY_REPLICATION_FACTOR, 1) == POOL_QUOTA_FINE);
	ASSERT(check(rig, 0, POLICY_REPLICATION_FACTOR, 2) == POOL_QUOTA_FEW_DISKS);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED, limit) == POOL_QUOTA_FINE);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED, limit + 1) == POOL_QUOTA_FULL);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED, POLICY_NONE - 1) == POOL_QUOTA_FULL);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED_HDD, MIB) == POOL_QUOTA_NO_TIER);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED_SSD, MIB) == POOL_QUOTA_FINE);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED_SSD, POOL_MIN_BYTES + 1) == POOL_QUOTA_TIER_FULL);
	/* What one has reserved another cannot; its own may go up by what is left. */
	set(rig, 0, POLICY_MIN_RESERVED, 100 * MIB);
	ASSERT(pool_quota_admit(quotas[1], 1, 50 * MIB) == 0);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED, limit - 150 * MIB) == POOL_QUOTA_FINE);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED, limit - 150 * MIB + 1) == POOL_QUOTA_FULL);
	ASSERT(check(rig, ids[0], POLICY_MIN_RESERVED, limit - 50 * MIB) == POOL_QUOTA_FINE);
	ASSERT(check(rig, ids[0], POLICY_MIN_RESERVED, limit - 50 * MIB + 1) == POOL_QUOTA_FULL);
	/* To give up some of it is fine in any case. */
	pool_quota_account_live(quotas[2], 1, (int64_t)limit);
	ASSERT(check(rig, ids[0], POLICY_MIN_RESERVED, 99 * MIB) == POOL_QUOTA_FINE);
	ASSERT(check(rig, ids[0], POLICY_MIN_RESERVED, 101 * MIB) == POOL_QUOTA_FULL);
	pool_quota_account_live(quotas[2], 1, -(int64_t)limit);
	/* Nothing of all that has stayed. */
	ASSERT(pool_quota_admit(quotas[1], 1, limit - 150 * MIB) == 0);
	ASSERT(pool_quota_admit(quotas[1], 1, 1) == -ENOSPC);
	ASSERT(pool_disk_add(rig->pool, &disk, &id) == 0);
	ASSERT(check(rig, 0, POLICY_REPLICATION_FACTOR, 2) == POOL_QUOTA_FINE);
	ASSERT(check(rig, 0, POLICY_REPLICATION_FACTOR, 3) == POOL_QUOTA_FEW_DISKS);
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED_HDD, MIB) == POOL_QUOTA_FINE);
	/* A tier has no more than its own disks have, and each copy takes some of it. */
	ASSERT(check(rig, 0, POLICY_MIN_RESERVED_SSD, POOL_MIN_BYTES + 1) == POOL_QUOTA_TIER_FULL);
	policy = policy_of(POLICY_MIN_RESERVED_SSD, POOL_MIN_BYTES / 2 + 1);
	policy.replication_factor = 2;
	ASSERT(pool_quota_check(rig->pool, 0, &policy, &problem) == 0);
	ASSERT(problem == POOL_QUOTA_TIER_FULL);
	end(rig);
}

static void refuses_what_cannot_be(void **state)
{
	pool_rig_run(*state, check_run);
}

/* More copies of what is live: exactly as much as there is room for on other disks. */
static void raise_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct pool_disk_spec disk = {
		.directory = "/disk2/p", .tier = "hdd", .capacity_bytes = POOL_MIN_BYTES};
	struct pool_raise raise = {.factor = 2};
	uint64_t limit, id;

	begin(rig);
	limit = pool_rig_space(rig).limit;
	pool_quota_account_live(quotas[0], 1, (int64_t)limit);
	raise.bytes[1] = limit;
	/* On one disk there is one copy, whatever is asked for. */
	ASSERT(pool_admit_could_raise(rig->pool, &raise) && raise.needed == 0);
	ASSERT(pool_disk_add(rig->pool, &disk, &id) == 0);
	ASSERT(pool_admit_could_raise(rig->pool, &raise));
	ASSERT(raise.needed == limit && raise.room == limit);
	pool_quota_account_live(quotas[1], 1, 1);
	ASSERT(!pool_admit_could_raise(rig->pool, &raise));
	ASSERT(raise.needed == limit && raise.room == limit - 1);
	raise.bytes[1] = limit - 1;
	ASSERT(pool_admit_could_raise(rig->pool, &raise));
	/* What is reserved for others is not there. */
	set(rig, 2, POLICY_MIN_RESERVED, MIB);
	ASSERT(!pool_admit_could_raise(rig->pool, &raise) && raise.room == limit - 1 - MIB);
	set(rig, 2, POLICY_MIN_RESERVED, 0);
	pool_quota_account_live(quotas[1], 1, -1);
	/* Fewer, or as many: always. */
	pool_quota_account_live(quotas[0], 1, -(int64_t)limit);
	pool_quota_account_live(quotas[0], 2, (int64_t)limit + 5);
	raise = (struct pool_raise){.factor = 2, .bytes[2] = limit + 5};
	ASSERT(pool_admit_could_raise(rig->pool, &raise) && raise.needed == 0 && raise.room == 0);
	pool_quota_account_live(quotas[0], 2, -(int64_t)limit - 5);
	end(rig);
}

static void more_copies_need_room(void **state)
{
	pool_rig_run(*state, raise_run);
}

/* With two copies a reservation takes room on two disks. */
static void factor_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct pool_disk_spec disk = {
		.directory = "/disk2/p", .tier = "ssd", .capacity_bytes = POOL_MIN_BYTES};
	struct container_policy policy = policy_of(POLICY_REPLICATION_FACTOR, 2);
	uint64_t limit, id;

	begin(rig);
	limit = pool_rig_space(rig).limit;
	ASSERT(pool_disk_add(rig->pool, &disk, &id) == 0);
	policy.min_reserved = limit / 2;
	ASSERT(pool_quota_set(rig->pool, ids[0], &policy) == 0);
	ASSERT(pool_quota_admit(quotas[1], 2, limit / 2 + 1) == -ENOSPC);
	ASSERT(pool_quota_admit(quotas[1], 1, limit + 2) == -ENOSPC);
	ASSERT(pool_quota_admit(quotas[1], 1, limit) == 0);
	ASSERT(pool_quota_admit(quotas[0], 2, limit / 2) == 0);
	pool_quota_admit_return(quotas[0], 2, limit / 2);
	/* Another factor, and back: what is held adds up. */
	policy.replication_factor = 1;
	ASSERT(pool_quota_set(rig->pool, ids[0], &policy) == 0);
	ASSERT(pool_quota_admit(quotas[1], 1, limit / 2) == 0);
	ASSERT(pool_quota_admit(quotas[1], 1, 2) == -ENOSPC);
	pool_quota_admit_return(quotas[1], 1, limit / 2);
	policy.replication_factor = 2;
	ASSERT(pool_quota_set(rig->pool, ids[0], &policy) == 0);
	ASSERT(pool_quota_admit(quotas[1], 1, 2) == -ENOSPC);
	end(rig);
}

static void holds_room_for_copies(void **state)
{
	pool_rig_run(*state, factor_run);
}

static void restart_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct policy_set policy = {0};
	struct pool_quota_info info;
	uint64_t limit;

	begin(rig);
	limit = pool_rig_space(rig).limit;
	ASSERT(policy_set_put(&policy, POLICY_MIN_RESERVED, 100 * MIB) == 0);
	ASSERT(policy_set_put(&policy, POLICY_MAX_CAPACITY, 200 * MIB) == 0);
	ASSERT(container_put_policy(rig->catalog, ids[2], &policy) == 0);
	for (unsigned i = 0; i < 3; i++)
		pool_quota_close(TAKE_PTR(quotas[i]));
	pool_close(TAKE_PTR(rig->pool));
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	ASSERT(pool_admit(rig->pool, 1, limit - 100 * MIB) == 0);
	ASSERT(pool_admit(rig->pool, 1, 1) == -ENOSPC);
	ASSERT(pool_quota_get(rig->pool, ids[2], &info) == 0);
	ASSERT(info.capacity == 200 * MIB && info.reserved == 100 * MIB && info.taken == 0);
	ASSERT(pool_quota_get(rig->pool, ids[0], &info) == 0 && info.capacity == POLICY_NONE);
	pool_quota_forget(rig->pool, ids[2]);
	pool_quota_forget(rig->pool, ids[2]);
	ASSERT(pool_quota_get(rig->pool, ids[2], &info) == -ENOENT);
	ASSERT(pool_admit(rig->pool, 1, 100 * MIB) == 0);
	ASSERT(pool_quota_open(rig->pool, 999, &quotas[0]) == -ENOENT);
	pool_rig_close(rig);
}

static void knows_them_after_a_restart(void **state)
{
	pool_rig_run(*state, restart_run);
}

#define CONTAINERS 2500u
#define FIRST_ID   1000u

/* Each is found whoever else comes and goes. */
static void many_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_quota_info info;

	begin(rig);
	for (uint64_t i = 0; i < CONTAINERS; i++) {
		struct container_policy policy = policy_of(POLICY_MAX_CAPACITY, (i + 1) * MIB);

		ASSERT(pool_quota_set(rig->pool, FIRST_ID + i, &policy) == 0);
	}
	for (uint64_t i = 0; i < CONTAINERS; i += 3)
		pool_quota_forget(rig->pool, FIRST_ID + i);
	for (uint64_t i = 0; i < CONTAINERS; i++) {
		int r = pool_quota_get(rig->pool, FIRST_ID + i, &info);

		ASSERT(r == (i % 3 ? 0 : -ENOENT));
		ASSERT(r < 0 || info.container == FIRST_ID + i);
		ASSERT(r < 0 || info.capacity == (i + 1) * MIB);
	}
	end(rig);
}

static void finds_each_of_many(void **state)
{
	pool_rig_run(*state, many_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(keeps_within_the_capacity),  TEST(follows_the_tiers_of_disks),
		TEST(keeps_what_is_reserved),     TEST(refuses_what_cannot_be),
		TEST(more_copies_need_room),      TEST(holds_room_for_copies),
		TEST(knows_them_after_a_restart), TEST(finds_each_of_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
