/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>

#include "base/macros.h"
#include "control/size.h"

static void parses(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"1", 1},
		{"512", 512},
		{"512B", 512},
		{"4k", 4 * KIB},
		{"512M", 512 * MIB},
		{"10G", 10 * GIB},
		{"10GiB", 10 * GIB},
		{"64T", 64 * TIB},
		{"10gib", 10 * GIB},
		{"1P", 1024 * TIB},
		{"9223372036854775807", INT64_MAX},
		{"7E", UINT64_C(7) << 60},
	};
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(size_parse(good[i].text, &bytes), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
}

static void refuses(void **state)
{
	static const char *const bad[] = {"",   "-1",  "+1",    " 1",   "1 ",  "G",   "1.5G", "1GB",
					  "1X", "1Gi", "1GiBs", "0x10", "1e9", "ten", "1\n"};
	static const char *const large[] = {"8E", "9223372036854775808", "99999999999999999999999",
					    "18446744073709551616", "9007199254740992K"};
	uint64_t bytes = 7;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(size_parse(bad[i], &bytes), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(large); i++)
		assert_int_equal(size_parse(large[i], &bytes), -ERANGE);
	assert_int_equal(bytes, 7);
}

static void formats(void **state)
{
	char text[SIZE_TEXT_MAX];

	assert_string_equal(size_format(0, text), "0");
	assert_string_equal(size_format(1023, text), "1023");
	assert_string_equal(size_format(1024, text), "1K");
	assert_string_equal(size_format(1536, text), "1.50K");
	assert_string_equal(size_format(10 * GIB, text), "10G");
	assert_string_equal(size_format(10 * GIB + 1, text), "10.0G");
	assert_string_equal(size_format(200 * GIB + MIB, text), "200G");
	assert_string_equal(size_format(UINT64_MAX, text), "16.0E");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
		cmocka_unit_test(formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
