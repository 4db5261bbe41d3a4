/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"

static void reads_pairs(void **state)
{
	static const char text[] = "A=1\0B.c-d_e=x=y\0Empty=\0";
	struct iscsi_text_reader reader;
	struct iscsi_text_pair pair;

	(void)state;
	iscsi_text_reader_init(&reader, text, sizeof(text) - 1);
	assert_int_equal(iscsi_text_next(&reader, &pair), 1);
	assert_string_equal(pair.key, "A");
	assert_string_equal(pair.value, "1");
	assert_int_equal(iscsi_text_next(&reader, &pair), 1);
	assert_string_equal(pair.key, "B.c-d_e");
	assert_string_equal(pair.value, "x=y");
	assert_int_equal(iscsi_text_next(&reader, &pair), 1);
	assert_int_equal(pair.value_length, 0);
	assert_int_equal(iscsi_text_next(&reader, &pair), 0);
}

static void refuses_what_is_no_pair(void **state)
{
	static const struct {
		const char *text;
		size_t length;
	} cases[] = {
		{"A=1", 3},     /* no NUL */
		{"A\0", 2},     /* no '=' */
		{"=1\0", 3},    /* no key */
		{"A B=1\0", 6}, /* a space in the key */
		{"\0", 1},      /* nothing at all */
		{"A\0=1\0", 5}, /* the '=' is behind the NUL */
		{"012345678901234567890123456789012345678901234567890123456789abcd=1\0", 67},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct iscsi_text_reader reader;
		struct iscsi_text_pair pair;

		iscsi_text_reader_init(&reader, cases[i].text, cases[i].length);
		assert_int_equal(iscsi_text_next(&reader, &pair), -EINVAL);
	}
}

static void a_value_has_a_limit(void **state)
{
	_cleanup_free_ char *text = calloc(1, ISCSI_TEXT_VALUE_MAX + 4);
	struct iscsi_text_reader reader;
	struct iscsi_text_pair pair;

	(void)state;
	assert_non_null(text);
	memset(text, 'v', ISCSI_TEXT_VALUE_MAX + 3);
	text[0] = 'K';
	text[1] = '=';
	text[ISCSI_TEXT_VALUE_MAX + 2] = '\0';
	iscsi_text_reader_init(&reader, text, ISCSI_TEXT_VALUE_MAX + 3);
	assert_int_equal(iscsi_text_next(&reader, &pair), 1);
	assert_int_equal(pair.value_length, ISCSI_TEXT_VALUE_MAX);
	text[ISCSI_TEXT_VALUE_MAX + 2] = 'v';
	iscsi_text_reader_init(&reader, text, ISCSI_TEXT_VALUE_MAX + 4);
	assert_int_equal(iscsi_text_next(&reader, &pair), -EINVAL);
}

static void writes_within_its_buffer(void **state)
{
	char buffer[12];
	struct iscsi_text_writer writer;

	(void)state;
	iscsi_text_writer_init(&writer, buffer, sizeof(buffer));
	iscsi_text_put(&writer, "Key", "1");
	iscsi_text_put_number(&writer, "B", 123);
	assert_int_equal(writer.length, 12);
	assert_false(writer.overflowed);
	assert_memory_equal(buffer, "Key=1\0B=123", 12);
	iscsi_text_put(&writer, "C", "");
	assert_true(writer.overflowed);
	assert_int_equal(writer.length, 12);
}

static void parses_numbers(void **state)
{
	uint64_t n = 7;

	(void)state;
	assert_int_equal(iscsi_text_parse_number("0", 10, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(iscsi_text_parse_number("0xfF", 255, &n), 0);
	assert_int_equal(n, 255);
	assert_int_equal(iscsi_text_parse_number("256", 255, &n), -ERANGE);
	assert_int_equal(iscsi_text_parse_number("18446744073709551616", UINT64_MAX, &n), -ERANGE);
	assert_int_equal(iscsi_text_parse_number("18446744073709551615", UINT64_MAX, &n), 0);
	assert_int_equal(iscsi_text_parse_number("", 9, &n), -EINVAL);
	assert_int_equal(iscsi_text_parse_number("0x", 9, &n), -EINVAL);
	assert_int_equal(iscsi_text_parse_number("-1", 9, &n), -EINVAL);
	assert_int_equal(iscsi_text_parse_number("1a", 99, &n), -EINVAL);
}

static void knows_names_and_lists(void **state)
{
	char name[230];

	(void)state;
	assert_true(iscsi_text_is_name("iqn.2026-01.org.sarsen:default.disk0"));
	assert_true(iscsi_text_is_name("eui.02004567a425678d"));
	assert_false(iscsi_text_is_name("iqn"));
	assert_false(iscsi_text_is_name("iqn.2026-01.org.sarsen:Disk"));
	assert_false(iscsi_text_is_name("iqn.2026-01.org.sarsen:a b"));
	assert_false(iscsi_text_is_name("foo.bar"));
	memset(name, 'a', sizeof(name));
	memcpy(name, "iqn.", 4);
	name[223] = '\0';
	assert_true(iscsi_text_is_name(name));
	name[223] = 'a';
	name[224] = '\0';
	assert_false(iscsi_text_is_name(name));
	assert_true(iscsi_text_list_has("CHAP,None", "None"));
	assert_false(iscsi_text_list_has("CHAP,Nones", "None"));
	assert_false(iscsi_text_list_has("", "None"));
	assert_true(iscsi_text_list_has(",None", "None"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_pairs),         cmocka_unit_test(refuses_what_is_no_pair),
		cmocka_unit_test(a_value_has_a_limit), cmocka_unit_test(writes_within_its_buffer),
		cmocka_unit_test(parses_numbers),      cmocka_unit_test(knows_names_and_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
