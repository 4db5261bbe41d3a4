/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "codec/crc32c.h"

static void check_value(void **state)
{
	(void)state;
	assert_int_equal(crc32c("123456789", 9), 0xE3069283);
	assert_int_equal(crc32c("", 0), 0);
	assert_int_equal(crc32c(NULL, 0), 0);
}

/* RFC 3720 B.4; there the bytes of the result stand in the order in which they are sent. */
static void rfc3720_vectors(void **state)
{
	static const uint8_t read10[48] = {
		0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,    0, 0,
		0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0,    0, 0x14, 0, 0, 0, 0x18,
		0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0,    0, 0, 0, 0,    0, 0,
	};
	uint8_t bytes[32];

	(void)state;
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(bytes, 32), 0x8A9136AA);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(bytes, 32), 0x62A8AB43);
	for (unsigned i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(crc32c(bytes, 32), 0x46DD794E);
	for (unsigned i = 0; i < 32; i++)
		bytes[i] = (uint8_t)(31 - i);
	assert_int_equal(crc32c(bytes, 32), 0x113FDB5C);
	assert_int_equal(crc32c(read10, sizeof(read10)), 0xD9963A56);
}

/* Bit by bit from the definition: polynomial 0x1EDC6F41, reflected. */
static uint32_t reference(const uint8_t *bytes, size_t length)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < length; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
	}
	return ~crc;
}

static void every_length_and_alignment(void **state)
{
	uint8_t bytes[320];

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 167 + (i >> 3));
	for (size_t start = 0; start < 16; start++) {
		for (size_t length = 0; start + length <= sizeof(bytes); length++)
			assert_int_equal(crc32c(bytes + start, length),
					 reference(bytes + start, length));
	}
}

static void more_continues_at_every_cut(void **state)
{
	uint8_t bytes[257];

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31 + 7);
	for (size_t cut = 0; cut <= sizeof(bytes); cut++) {
		uint32_t head = crc32c(bytes, cut);

		assert_int_equal(crc32c_more(head, bytes + cut, sizeof(bytes) - cut),
				 crc32c(bytes, sizeof(bytes)));
	}
	assert_int_equal(crc32c_more(0, bytes, sizeof(bytes)), crc32c(bytes, sizeof(bytes)));
}

static void every_flipped_bit_shows(void **state)
{
	uint8_t block[4096];
	uint32_t good;

	(void)state;
	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)(i ^ i >> 8);
	good = crc32c(block, sizeof(block));
	for (unsigned bit = 0; bit < 8 * sizeof(block); bit++) {
		block[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(crc32c(block, sizeof(block)), good);
		block[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(check_value),
		cmocka_unit_test(rfc3720_vectors),
		cmocka_unit_test(every_length_and_alignment),
		cmocka_unit_test(more_continues_at_every_cut),
		cmocka_unit_test(every_flipped_bit_shows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
