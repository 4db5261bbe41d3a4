/* SPDX-License-Identifier: Apache-2.0 */
/* Map pages: round trip, flipped bits, pages of others, impossible entries under a right CRC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "vdisk/page.h"

static const struct page_id id = {.vdisk = 7, .index = 12, .level = 1};
static struct map_entry entries[MAP_FANOUT], decoded[MAP_FANOUT];
static struct page_disk page;

static uint32_t build(void)
{
	memset(entries, 0, sizeof(entries));
	for (unsigned i = 0; i < MAP_FANOUT; i += 3) {
		entries[i].crc = i * 77777;
		entries[i].address = address_make((UINT64_C(1) << 40) - 1 - i, 16383 - i);
	}
	return page_encode(&page, &id, 99, entries, NULL);
}

static int decode(const struct page_id *as)
{
	return page_decode(&page, as, crc32c(&page, sizeof(page)), decoded);
}

static void test_round_trip(void **state)
{
	uint32_t crc = build();

	(void)state;
	assert_int_equal(page_decode(&page, &id, crc, decoded), 0);
	assert_memory_equal(decoded, entries, sizeof(entries));
	assert_int_equal(address_group(decoded[3].address), (UINT64_C(1) << 40) - 4);
	assert_int_equal(address_slot(decoded[3].address), 16380);
	assert_int_equal(address_type(decoded[3].address), ADDRESS_PLAIN);
}

static void test_flips(void **state)
{
	uint32_t crc = build();

	(void)state;
	for (size_t bit = 0; bit < sizeof(page) * 8; bit += 29) {
		((unsigned char *)&page)[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_int_equal(page_decode(&page, &id, crc, decoded), -EBADMSG);
		((unsigned char *)&page)[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	assert_int_equal(page_decode(&page, &id, crc + 1, decoded), -EBADMSG);
	assert_int_equal(page_decode(&page, &id, crc, decoded), 0);
}

static void test_others(void **state)
{
	static const struct page_id ids[] = {{8, 12, 1}, {7, 13, 1}, {7, 12, 2}, {7, 12, 257}};

	(void)state;
	build();
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(decode(&ids[i]), -EUCLEAN);
	page.magic ^= htole32(1);
	assert_int_equal(decode(&id), -EUCLEAN);
	build();
	page.version++;
	assert_int_equal(decode(&id), -EUCLEAN);
	memset(&page, 0, sizeof(page));
	assert_int_equal(decode(&id), -EUCLEAN);
}

static void test_impossible_entries(void **state)
{
	static const struct map_entry cases[] = {
		{.crc = 1},                                      /* absent with a CRC */
		{.address = UINT64_C(5) << 40 | UINT64_C(1) << 54}, /* no group */
		{.address = 5},                                  /* no type */
		{.address = 5 | UINT64_C(2) << 54},              /* unknown type */
		{.address = 5 | UINT64_C(1023) << 54},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		build();
		page.entries[255].crc = htole32(cases[i].crc);
		page.entries[255].address = htole64(cases[i].address);
		assert_int_equal(decode(&id), -EUCLEAN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_flips),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_impossible_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
