/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "block/chance.h"
#include "block/iov.h"

#define BYTES 257
#define PARTS 7

static int split(struct chance *chance, unsigned char *bytes, struct iovec *ret_iov)
{
	size_t left = BYTES;

	for (int i = 0; i < PARTS; i++) {
		size_t part = i + 1 == PARTS ? left : chance_below(chance, left + 1);

		ret_iov[i] = (struct iovec){bytes + BYTES - left, part};
		left -= part;
	}
	return PARTS;
}

static void equals_flat_memory(void **state)
{
	unsigned char bytes[BYTES], flat[BYTES], got[BYTES];
	struct iovec iov[PARTS], slice[PARTS];
	struct chance chance;

	(void)state;
	chance_init(&chance, 7);
	for (int round = 0; round < 5000; round++) {
		size_t skip = chance_below(&chance, BYTES);
		size_t length = chance_below(&chance, BYTES - skip + 1);
		int count;

		split(&chance, bytes, iov);
		for (int i = 0; i < BYTES; i++)
			bytes[i] = flat[i] = (unsigned char)chance_next(&chance);
		iov_read(iov, skip, got, length);
		assert_memory_equal(got, flat + skip, length);
		for (size_t i = 0; i < length; i++)
			got[i] = (unsigned char)chance_next(&chance);
		iov_write(iov, skip, got, length);
		memcpy(flat + skip, got, length);
		assert_memory_equal(bytes, flat, BYTES);
		count = iov_slice(iov, skip, length, slice);
		assert_in_range(count, 0, PARTS);
		memset(got, 0, sizeof(got));
		iov_read(slice, 0, got, length);
		assert_memory_equal(got, flat + skip, length);
		iov_clear(iov, skip, length);
		memset(flat + skip, 0, length);
		assert_memory_equal(bytes, flat, BYTES);
	}
}

static void finds_first_difference(void **state)
{
	unsigned char bytes[BYTES] = {0}, flat[BYTES] = {0};
	struct iovec iov[PARTS];
	struct chance chance;

	(void)state;
	chance_init(&chance, 8);
	split(&chance, bytes, iov);
	for (size_t where = 0; where < BYTES; where++) {
		bytes[where] = 1;
		for (size_t skip = 0; skip < BYTES; skip += 19) {
			size_t length = BYTES - skip;
			size_t expected = where >= skip ? where - skip : length;

			assert_int_equal(iov_compare(iov, skip, flat, length), expected);
			assert_int_equal(iov_compare_zero(iov, skip, length), expected);
		}
		bytes[where] = 0;
	}
	assert_int_equal(iov_compare(iov, 0, flat, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equals_flat_memory),
		cmocka_unit_test(finds_first_difference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
