/* SPDX-License-Identifier: Apache-2.0 */
/* The index of a compacted file: round trip, and hostile bytes with a right CRC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "egroup/index.h"

#define GROUPS 3u
#define SLOTS  10u /* 4, 0 and 6 in the groups */

static const struct index_id id = {.pool = 1, .vdisk = 2, .file = 3};
static const uint32_t counts[GROUPS] = {4, 0, 6};
static _Alignas(8) unsigned char memory[BLOCK_BYTES];

static struct index_header_disk *header(void)
{
	return (struct index_header_disk *)memory;
}

static void build(void)
{
	uint32_t n = 0;

	assert_int_equal(index_blocks(GROUPS, SLOTS), 1);
	index_begin(memory, &id, GROUPS, SLOTS);
	for (uint32_t i = 0; i < GROUPS; i++) {
		index_groups(memory)[i].group = htole64(100 + i);
		index_groups(memory)[i].base = htole32(n);
		index_groups(memory)[i].count = htole32(counts[i]);
		for (uint32_t k = 0; k < counts[i]; k++, n++) {
			index_slots(memory)[n] = htole16((uint16_t)(k * 1000 + i));
			index_crcs(memory)[n] = htole32(n * 77);
		}
	}
	index_seal(memory);
}

static void test_round_trip(void **state)
{
	struct index_view view;

	(void)state;
	build();
	assert_int_equal(index_check(memory, 1, &id, &view), 0);
	assert_int_equal(view.group_count, GROUPS);
	assert_int_equal(view.total_slots, SLOTS);
	assert_int_equal(le64toh(view.groups[2].group), 102);
	assert_int_equal(le16toh(view.slots[5]), 1002);
	assert_int_equal(le32toh(view.crcs[9]), 9 * 77);
}

static void test_largest(void **state)
{
	uint32_t blocks = index_blocks(INDEX_GROUPS_MAX, SLOTS_PER_GROUP);
	void *large = aligned_alloc(BLOCK_BYTES, (size_t)blocks * BLOCK_BYTES);
	struct index_view view;

	(void)state;
	assert_non_null(large);
	index_begin(large, &id, INDEX_GROUPS_MAX, SLOTS_PER_GROUP);
	for (uint32_t i = 0; i < INDEX_GROUPS_MAX; i++) {
		index_groups(large)[i].group = htole64(i + 1);
		index_groups(large)[i].base = htole32(i * 16);
		index_groups(large)[i].count = htole32(16);
	}
	for (uint32_t n = 0; n < SLOTS_PER_GROUP; n++)
		index_slots(large)[n] = htole16((uint16_t)(n % 16 + SLOTS_PER_GROUP - 16));
	index_seal(large);
	assert_int_equal(index_check(large, blocks, &id, &view), 0);
	index_slots(large)[SLOTS_PER_GROUP - 1] = htole16(SLOTS_PER_GROUP);
	index_seal(large);
	assert_int_equal(index_check(large, blocks, &id, &view), -EUCLEAN);
	free(large);
}

static void test_flips(void **state)
{
	struct index_view view;

	(void)state;
	build();
	for (size_t bit = 0; bit < sizeof(memory) * 8; bit += bit < 2048 ? 1 : 31) {
		memory[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_int_equal(index_check(memory, 1, &id, &view), -EUCLEAN);
		memory[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	assert_int_equal(index_check(memory, 1, &id, &view), 0);
}

static void test_identity(void **state)
{
	static const struct index_id ids[] = {{9, 2, 3}, {1, 9, 3}, {1, 2, 9}};
	struct index_view view;

	(void)state;
	build();
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(index_check(memory, 1, &ids[i], &view), -EUCLEAN);
}

static void no_groups(void)
{
	header()->group_count = 0;
}
static void many_groups(void)
{
	header()->group_count = htole32(INDEX_GROUPS_MAX + 1);
}
static void endless_groups(void)
{
	header()->group_count = htole32(UINT32_MAX);
}
static void many_slots(void)
{
	header()->total_slots = htole32(SLOTS_PER_GROUP + 1);
}
static void endless_slots(void)
{
	header()->total_slots = htole32(UINT32_MAX);
}
static void other_slots(void)
{
	header()->total_slots = htole32(SLOTS + 1);
}
static void other_version(void)
{
	header()->version = htole32(INDEX_VERSION + 1);
}
static void gap(void)
{
	index_groups(memory)[2].base = htole32(5);
	index_groups(memory)[2].count = htole32(5);
}
static void overlap(void)
{
	index_groups(memory)[2].base = htole32(3);
}
static void beyond(void)
{
	index_groups(memory)[2].count = htole32(7);
}
static void endless_count(void)
{
	index_groups(memory)[0].count = htole32(UINT32_MAX);
}
static void short_sum(void)
{
	index_groups(memory)[2].count = htole32(5);
}
static void unsorted(void)
{
	index_slots(memory)[1] = htole16(2500);
}
static void twice(void)
{
	index_slots(memory)[1] = index_slots(memory)[0];
}
static void slot_beyond(void)
{
	index_slots(memory)[9] = htole16(SLOTS_PER_GROUP);
}

static void test_hostile(void **state)
{
	static void (*const cases[])(void) = {
		no_groups, many_groups, endless_groups, many_slots, endless_slots,
		other_slots, other_version, gap, overlap, beyond, endless_count, short_sum,
		unsorted, twice, slot_beyond,
	};
	struct index_view view;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		build();
		cases[i]();
		index_seal(memory);
		if (index_check(memory, 1, &id, &view) != -EUCLEAN)
			fail_msg("case %zu was not refused", i);
	}
	/* An index that takes another number of blocks than its file's row says. */
	build();
	header()->index_blocks = htole32(2);
	assert_int_equal(index_check(memory, 1, &id, &view), -EUCLEAN);
	memset(memory, 0, sizeof(memory));
	assert_int_equal(index_check(memory, 1, &id, &view), -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_largest),
		cmocka_unit_test(test_flips),      cmocka_unit_test(test_identity),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
