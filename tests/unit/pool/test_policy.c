/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "pool/policy.h"

/* The rules that every line of the table keeps. */
static void table_is_sound(void **state)
{
	enum policy_property found;

	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++) {
		const struct policy_info *info = policy_info(i);

		assert_true(policy_value_is_valid(i, info->fallback));
		assert_true(info->help[0] && info->number > 0);
		assert_int_equal(policy_find(info->name, &found), 0);
		assert_int_equal(found, i);
		for (unsigned other = 0; other < i; other++)
			assert_int_not_equal(info->number, policy_info(other)->number);
	}
	assert_int_equal(policy_find("max-capacity", &found), 0);
	assert_int_equal(found, POLICY_MAX_CAPACITY);
	assert_int_equal(policy_find("max_capacit", &found), -ENOENT);
	assert_int_equal(policy_find("max_capacity_", &found), -ENOENT);
	assert_int_equal(policy_find("", &found), -ENOENT);
	assert_string_equal(policy_tier_name(POLICY_CLOUD), "cloud");
}

static void checks_values(void **state)
{
	static const uint64_t bad_orders[] = {0, 0x11, 0x5, 0x201, 0x54321, 0x43211};

	assert_true(policy_value_is_valid(POLICY_REPLICATION_FACTOR, 3));
	assert_false(policy_value_is_valid(POLICY_REPLICATION_FACTOR, 0));
	assert_false(policy_value_is_valid(POLICY_REPLICATION_FACTOR, 4));
	assert_true(policy_value_is_valid(POLICY_MAX_CAPACITY, POLICY_NONE));
	assert_false(policy_value_is_valid(POLICY_MAX_CAPACITY, MIB - 1));
	assert_false(policy_value_is_valid(POLICY_MAX_CAPACITY, POLICY_NONE + 1));
	assert_false(policy_value_is_valid(POLICY_MIN_RESERVED, POLICY_NONE));
	assert_true(policy_value_is_valid(POLICY_TIER_ORDER_RANDOM, 0x3));
	assert_true(policy_value_is_valid(POLICY_TIER_ORDER_RANDOM, 0x1234));
	for (unsigned i = 0; i < ARRAY_SIZE(bad_orders); i++)
		assert_false(policy_value_is_valid(POLICY_TIER_ORDER_RANDOM, bad_orders[i]));
}

static void sets_encode_and_decode(void **state)
{
	uint8_t bytes[POLICY_BYTES_MAX];
	struct policy_set set = {0}, again;
	uint64_t value;
	uint32_t length;

	for (unsigned i = POLICY_PROPERTY_COUNT; i-- > 0;)
		assert_int_equal(policy_set_put(&set, i, policy_info(i)->fallback), 0);
	assert_int_equal(policy_set_put(&set, POLICY_MIN_RESERVED, 5 * GIB), 0);
	assert_int_equal(set.count, POLICY_PROPERTY_COUNT);
	length = policy_encode(&set, bytes);
	assert_int_equal(policy_decode(bytes, length, &again), 0);
	assert_int_equal(again.count, set.count);
	assert_true(policy_set_get(&again, POLICY_MIN_RESERVED, &value));
	assert_int_equal(value, 5 * GIB);
	policy_set_remove(&again, POLICY_MIN_RESERVED);
	policy_set_remove(&again, POLICY_MIN_RESERVED);
	assert_false(policy_set_get(&again, POLICY_MIN_RESERVED, &value));
	assert_int_equal(again.count, set.count - 1);

	for (uint32_t cut = 1; cut < POLICY_ENTRY_BYTES; cut++)
		assert_int_equal(policy_decode(bytes, length - cut, &again), -EUCLEAN);
	put_le16(bytes, 2); /* twice the second */
	assert_int_equal(policy_decode(bytes, length, &again), -EUCLEAN);
	put_le16(bytes, 0);
	assert_int_equal(policy_decode(bytes, length, &again), -EUCLEAN);
	put_le16(bytes, 1);
	put_le64(bytes + 8, 4); /* copies */
	assert_int_equal(policy_decode(bytes, length, &again), -EUCLEAN);
}

/* A newer version's properties are kept, as many as there is room for. */
static void keeps_what_it_does_not_know(void **state)
{
	uint8_t bytes[POLICY_BYTES_MAX] = {0}, after[POLICY_BYTES_MAX];
	struct policy_set set;

	for (unsigned i = 0; i < POLICY_ENTRIES_MAX; i++) {
		put_le16(bytes + i * POLICY_ENTRY_BYTES, (uint16_t)(1000 + i));
		put_le64(bytes + i * POLICY_ENTRY_BYTES + 8, UINT64_MAX);
	}
	assert_int_equal(policy_decode(bytes, sizeof(bytes), &set), 0);
	assert_int_equal(policy_set_put(&set, POLICY_REPLICATION_FACTOR, 2), -E2BIG);
	assert_int_equal(policy_encode(&set, after), sizeof(bytes));
	assert_memory_equal(bytes, after, sizeof(bytes));
	set.count--;
	assert_int_equal(policy_set_put(&set, POLICY_REPLICATION_FACTOR, 2), 0);
	assert_int_equal(policy_decode(after, policy_encode(&set, after), &set), 0);
}

static void put(struct policy_set *set, enum policy_property property, uint64_t value)
{
	assert_int_equal(policy_set_put(set, property, value), 0);
}

static void expect_conflict(const struct policy_set *set, enum policy_property greater,
			    enum policy_property than, bool sum)
{
	struct container_policy policy;
	struct policy_conflict conflict;

	policy_merge(set, NULL, &policy);
	assert_false(policy_is_sound(&policy, &conflict));
	assert_int_equal(conflict.greater, greater);
	assert_int_equal(conflict.than, than);
	assert_int_equal(conflict.sum, sum);
}

static void finds_conflicts(void **state)
{
	struct policy_set set = {0};
	struct container_policy policy;
	struct policy_conflict conflict;

	policy_merge(&set, NULL, &policy);
	assert_true(policy_is_sound(&policy, &conflict));
	put(&set, POLICY_MIN_RESERVED, 2 * GIB);
	put(&set, POLICY_MAX_CAPACITY, GIB);
	expect_conflict(&set, POLICY_MIN_RESERVED, POLICY_MAX_CAPACITY, false);
	put(&set, POLICY_MAX_CAPACITY, 3 * GIB);
	put(&set, POLICY_MIN_RESERVED_HDD, GIB);
	put(&set, POLICY_MAX_CAPACITY_HDD, MIB);
	expect_conflict(&set, POLICY_MIN_RESERVED_HDD, POLICY_MAX_CAPACITY_HDD, false);
	put(&set, POLICY_MAX_CAPACITY_HDD, GIB);
	policy_merge(&set, NULL, &policy);
	assert_true(policy_is_sound(&policy, &conflict));
	assert_int_equal(policy_reserved(&policy), 2 * GIB);
	put(&set, POLICY_MIN_RESERVED_SSD, 3 * GIB);
	expect_conflict(&set, POLICY_MIN_RESERVED_SSD, POLICY_MIN_RESERVED, true);
	policy_set_remove(&set, POLICY_MIN_RESERVED);
	expect_conflict(&set, POLICY_MIN_RESERVED_SSD, POLICY_MAX_CAPACITY, true);
	put(&set, POLICY_MIN_RESERVED_SSD, 2 * GIB);
	policy_merge(&set, NULL, &policy);
	assert_true(policy_is_sound(&policy, &conflict));
	assert_int_equal(policy_reserved(&policy), 3 * GIB);
	put(&set, POLICY_SPACE_NOTICE, 91);
	expect_conflict(&set, POLICY_SPACE_NOTICE, POLICY_SPACE_LOW, false);
	put(&set, POLICY_SPACE_LOW, 96);
	expect_conflict(&set, POLICY_SPACE_LOW, POLICY_SPACE_CRITICAL, false);
}

static void set_container(struct pool_rig *rig, uint64_t id, uint64_t factor, uint64_t width)
{
	struct policy_set set = {0};

	put(&set, POLICY_REPLICATION_FACTOR, factor);
	put(&set, POLICY_STRIPE_WIDTH, width);
	ASSERT(container_put_policy(rig->catalog, id, &set) == 0);
}

static void merge_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct policy_set set = {0};
	struct container_policy policy;
	struct container_info info;
	uint64_t id;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id, "c", &id) ==
	       0);
	ASSERT(container_policy_get(rig->catalog, id, 0, &policy) == 0);
	ASSERT(policy.replication_factor == 1 && policy.max_capacity == POLICY_NONE);
	ASSERT(policy.sources[POLICY_REPLICATION_FACTOR] == POLICY_DEFAULT);
	set_container(rig, id, 2, 4);
	put(&set, POLICY_REPLICATION_FACTOR, 3);
	put(&set, POLICY_MAX_CAPACITY, GIB); /* a vDisk has none: of no effect */
	ASSERT(policy_put_vdisk(rig->catalog, 77, &set) == 0);
	ASSERT(container_policy_get(rig->catalog, id, 77, &policy) == 0);
	ASSERT(policy.replication_factor == 3 && policy.stripe_width == 4);
	ASSERT(policy.max_capacity == POLICY_NONE);
	ASSERT(policy.sources[POLICY_REPLICATION_FACTOR] == POLICY_VDISK);
	ASSERT(policy.sources[POLICY_STRIPE_WIDTH] == POLICY_CONTAINER);
	set.count = 0;
	ASSERT(policy_put_vdisk(rig->catalog, 77, &set) == 0);
	ASSERT(container_policy_get(rig->catalog, id, 77, &policy) == 0);
	ASSERT(policy.replication_factor == 2);
	ASSERT(container_get(rig->catalog, id, &info) == 0 && strcmp(info.name, "c") == 0);
	ASSERT(container_policy_get(rig->catalog, id + 1, 0, &policy) == -ENOENT);
	ASSERT(container_put_policy(rig->catalog, id + 1, &set) == -ENOENT);
	pool_rig_close(rig);
}

static void vdisk_over_container_over_default(void **state)
{
	pool_rig_run(*state, merge_run);
}

/* Rows: without a policy as older programs write them; a damaged one of either kind. */
static void rows_run(void *arg)
{
	static const uint8_t newer[16] = {2};
	struct pool_rig *rig = arg;
	struct catalog_change change = {.kind = CATALOG_PUT, .key = policy_vdisk_key(5)};
	struct container_policy policy;
	struct catalog_row row;
	struct catalog_key key;
	struct policy_set set;
	uint64_t id;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id, "c", &id) ==
	       0);
	key = container_key(id);
	ASSERT(catalog_get(rig->catalog, &key, &row) == 0);
	ASSERT(row.length == 88 && row.value[0] == 1);
	catalog_row_done(&row);
	set_container(rig, id, 2, 4);
	ASSERT(catalog_get(rig->catalog, &key, &row) == 0);
	ASSERT(row.length == 88 + 32 && row.value[0] == 2);
	row.value[0] = 3; /* too new */
	change = (struct catalog_change){
		.kind = CATALOG_PUT, .key = key, .value = row.value, .length = row.length};
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	ASSERT(container_policy_get(rig->catalog, id, 0, &policy) == -EUCLEAN);
	row.value[0] = 1; /* nothing may follow then */
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	ASSERT(container_policy_get(rig->catalog, id, 0, &policy) == -EUCLEAN);
	catalog_row_done(&row);
	change = (struct catalog_change){.kind = CATALOG_PUT,
					 .key = policy_vdisk_key(5),
					 .value = newer,
					 .length = sizeof(newer)};
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	ASSERT(policy_get_vdisk(rig->catalog, 5, &set) == -EUCLEAN);
	change.length = 7;
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	ASSERT(policy_get_vdisk(rig->catalog, 5, &set) == -EUCLEAN);
	pool_rig_close(rig);
}

static void rows_of_both_versions(void **state)
{
	pool_rig_run(*state, rows_run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_sound),
		cmocka_unit_test(checks_values),
		cmocka_unit_test(sets_encode_and_decode),
		cmocka_unit_test(keeps_what_it_does_not_know),
		cmocka_unit_test(finds_conflicts),
		cmocka_unit_test_setup_teardown(vdisk_over_container_over_default, pool_rig_setup,
						pool_rig_teardown),
		cmocka_unit_test_setup_teardown(rows_of_both_versions, pool_rig_setup,
						pool_rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
