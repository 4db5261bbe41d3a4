/* SPDX-License-Identifier: Apache-2.0 */
/* Record headers: what is written is read, and no bytes from a disk are taken for more than they
 * are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "egroup/record.h"

static const struct record_seal seal = {
	.id = {.pool = 1, .vdisk = 2, .group = 3, .slot = 4, .stream = RECORD_STREAM_LOG},
	.epoch = 5,
	.lsn = 6,
	.durable_lsn = 4,
	.prev_group = 3,
	.prev_slot = 1,
};
static struct record_header_disk header;
static unsigned char payload[3 * BLOCK_BYTES];

/* Two blocks at 10, zeros at 100, one block at 7. */
static void build(void)
{
	record_begin(&header);
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (unsigned char)(i * 7 + i / BLOCK_BYTES);
	assert_true(record_add(&header, RECORD_EXTENT_DATA, 10, 1));
	assert_true(record_add(&header, RECORD_EXTENT_DATA, 11, 1));
	assert_true(record_add(&header, RECORD_EXTENT_ZERO, 100, 50));
	assert_true(record_add(&header, RECORD_EXTENT_DATA, 7, 1));
	for (unsigned i = 0; i < 3; i++)
		record_add_block(&header, crc32c(payload + i * BLOCK_BYTES, BLOCK_BYTES));
	record_seal(&header, &seal);
}

/* The CRC made right again, whatever else was changed. */
static void fix_crc(void)
{
	header.crc = 0;
	header.crc = htole32(crc32c(&header, sizeof(header)));
}

static void expect_extent(uint32_t index, uint32_t *cursor, const struct record_extent *want)
{
	struct record_extent got;

	record_get_extent(&header, index, cursor, &got);
	assert_int_equal(got.kind, want->kind);
	assert_int_equal(got.block, want->block);
	assert_int_equal(got.count, want->count);
	assert_int_equal(got.first_payload, want->first_payload);
}

static void test_round_trip(void **state)
{
	static const struct record_extent wanted[] = {
		{RECORD_EXTENT_DATA, 10, 2, 0},
		{RECORD_EXTENT_ZERO, 100, 50, 2},
		{RECORD_EXTENT_DATA, 7, 1, 2},
	};
	uint32_t cursor = 0;

	(void)state;
	build();
	assert_int_equal(record_check(&header, &seal.id), 0);
	assert_int_equal(record_check_payload(&header, payload), 0);
	assert_int_equal(record_payload_blocks(&header), 3);
	assert_int_equal(record_extent_count(&header), 3);
	for (uint32_t i = 0; i < 3; i++)
		expect_extent(i, &cursor, &wanted[i]);
	assert_int_equal(le64toh(header.lsn), 6);
	assert_int_equal(le64toh(header.durable_lsn), 4);
	/* Issued again elsewhere. */
	struct record_seal again = seal;
	again.id.group = 9;
	again.id.slot = 0;
	record_seal(&header, &again);
	assert_int_equal(record_check(&header, &again.id), 0);
	assert_int_equal(record_check(&header, &seal.id), -ESTALE);
}

static void test_identity(void **state)
{
	static const struct record_id ids[] = {
		{9, 2, 3, 4, RECORD_STREAM_LOG}, {1, 9, 3, 4, RECORD_STREAM_LOG},
		{1, 2, 9, 4, RECORD_STREAM_LOG}, {1, 2, 3, 9, RECORD_STREAM_LOG},
		{1, 2, 3, 4, RECORD_STREAM_PAGES},
	};
	const struct record_id any = {0};

	(void)state;
	build();
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(record_check(&header, &ids[i]), -ESTALE);
	assert_int_equal(record_check(&header, &any), 0);
}

/* Every single flipped bit of the header is found, and so is one of the payload. */
static void test_flips(void **state)
{
	(void)state;
	build();
	for (size_t bit = 0; bit < sizeof(header) * 8; bit += bit < 2048 ? 1 : 37) {
		((unsigned char *)&header)[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_true(record_check(&header, &seal.id) < 0);
		((unsigned char *)&header)[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	assert_int_equal(record_check(&header, &seal.id), 0);
	for (size_t at = 0; at < sizeof(payload); at += 509) {
		payload[at] ^= 1;
		assert_int_equal(record_check_payload(&header, payload), -EBADMSG);
		payload[at] ^= 1;
	}
}

static void no_extents(void)
{
	header.extent_count = 0;
}
static void too_many_extents(void)
{
	header.extent_count = htole32(RECORD_EXTENTS_MAX + 1);
}
static void all_extents(void)
{
	header.extent_count = htole32(UINT32_MAX);
}
static void too_many_blocks(void)
{
	header.payload_blocks = htole32(RECORD_BLOCKS_MAX + 1);
	header.extents[0].count = htole32(RECORD_BLOCKS_MAX);
}
static void more_blocks_than_extents(void)
{
	header.payload_blocks = htole32(4);
}
static void fewer_blocks_than_extents(void)
{
	header.payload_blocks = htole32(2);
}
static void sum_that_wraps(void)
{
	header.extents[0].count = htole32(UINT32_MAX);
	header.extents[2].count = htole32(4);
}
static void no_kind(void)
{
	header.extents[1].kind = 0;
}
static void unknown_kind(void)
{
	header.extents[1].kind = htole16(4);
}
static void empty_extent(void)
{
	header.extents[1].count = 0;
}
static void far_away(void)
{
	header.extents[1].block = htole64((UINT64_C(1) << 40) - 49);
}
static void wraps(void)
{
	header.extents[1].block = htole64(UINT64_MAX - 10);
}

/* Bytes that contradict themselves are refused though their CRC is right. */
static void test_hostile(void **state)
{
	static void (*const cases[])(void) = {
		no_extents, too_many_extents, all_extents, too_many_blocks,
		more_blocks_than_extents, fewer_blocks_than_extents, sum_that_wraps, no_kind,
		unknown_kind, empty_extent, far_away, wraps,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		build();
		cases[i]();
		fix_crc();
		if (record_check(&header, &seal.id) != -EBADMSG)
			fail_msg("case %zu was not refused", i);
	}
	build();
	header.version = htole32(RECORD_VERSION + 1);
	fix_crc();
	assert_int_equal(record_check(&header, &seal.id), -ENODATA);
	memset(&header, 0, sizeof(header));
	assert_int_equal(record_check(&header, &seal.id), -ENODATA);
	/* The last blocks there may be are fine. */
	build();
	header.extents[1].block = htole64((UINT64_C(1) << 40) - 50);
	fix_crc();
	assert_int_equal(record_check(&header, &seal.id), 0);
}

static void test_full(void **state)
{
	(void)state;
	record_begin(&header);
	for (uint32_t i = 0; i < RECORD_EXTENTS_MAX; i++)
		assert_true(record_add(&header, RECORD_EXTENT_ZERO, i * 2, 1));
	assert_false(record_add(&header, RECORD_EXTENT_ZERO, 1000, 1));
	/* What continues the last one still fits, but not the same blocks in another kind. */
	assert_true(record_add(&header, RECORD_EXTENT_ZERO, RECORD_EXTENTS_MAX * 2 - 1, 5));
	assert_false(record_add(&header, RECORD_EXTENT_DATA, RECORD_EXTENTS_MAX * 2 + 4, 1));
	/* A count that would wrap starts another extent. */
	record_begin(&header);
	assert_true(record_add(&header, RECORD_EXTENT_ZERO, 0, UINT32_MAX - 1));
	assert_true(record_add(&header, RECORD_EXTENT_ZERO, UINT32_MAX - 1, 2));
	assert_int_equal(record_extent_count(&header), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_identity),
		cmocka_unit_test(test_flips),      cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
