/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/macros.h"
#include "cmd/cli_print.h"

static void expect_cell(json_t *value, enum column_type type, bool exact, const char *expected)
{
	char text[CLI_CELL_MAX];

	cli_print_cell(value, type, exact, text);
	assert_string_equal(text, expected);
	json_decref(value);
}

static void formats_cells(void **state)
{
	expect_cell(NULL, COLUMN_TEXT, false, "-");
	expect_cell(json_null(), COLUMN_SIZE, false, "-");
	expect_cell(json_string(""), COLUMN_TEXT, false, "-");
	expect_cell(json_string("a\033[2Jb"), COLUMN_TEXT, false, "a?[2Jb");
	expect_cell(json_integer(10 * GIB), COLUMN_SIZE, false, "10G");
	expect_cell(json_integer(10 * GIB), COLUMN_SIZE, true, "10737418240");
	expect_cell(json_integer(1536), COLUMN_RATE, false, "1.50K/s");
	expect_cell(json_integer(5), COLUMN_COUNT, false, "5");
	expect_cell(json_integer(-5), COLUMN_COUNT, false, "-5");
	expect_cell(json_real(1.25), COLUMN_RATIO, false, "1.25");
	expect_cell(json_real(0.5), COLUMN_RATIO, true, "0.5");
	expect_cell(json_true(), COLUMN_BOOL, false, "yes");
	expect_cell(json_false(), COLUMN_BOOL, true, "no");
	expect_cell(json_object(), COLUMN_TEXT, false, "-");
}

static void formats_durations(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {
		{0, "0ns"},
		{999, "999ns"},
		{1500, "1.5us"},
		{2500000, "2.5ms"},
		{12 * NSEC_PER_SEC, "12s"},
		{61 * NSEC_PER_SEC, "1m01s"},
		{3700 * NSEC_PER_SEC, "1h01m"},
		{90000 * NSEC_PER_SEC, "1d01h"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect_cell(json_integer((json_int_t)cases[i].ns), COLUMN_DURATION, false,
			    cases[i].text);
	expect_cell(json_integer(1500), COLUMN_DURATION, true, "1500");
}

static void expect_print(enum method_id id, const char *json, bool no_header, const char *expected)
{
	const struct cli_print_options options = {.no_header = no_header};
	json_t *result = json_loads(json, JSON_DECODE_ANY, NULL);
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_int_equal(cli_print(stream, method_get(id), result, &options), 0);
	fclose(stream);
	json_decref(result);
	assert_string_equal(text, expected);
}

#define TWO                                                                                  \
	"[{\"name\": \"default\", \"pool\": \"p\", \"vdisks\": 12, \"created\": \"today\"}," \
	" {\"name\": \"x\", \"pool\": \"pool2\", \"vdisks\": 3}]"

static void prints_rows(void **state)
{
	expect_print(METHOD_CONTAINER_LIST, TWO, false,
		     "NAME     POOL   VDISKS  CREATED\n"
		     "default  p          12  today\n"
		     "x        pool2       3  -\n");
	expect_print(METHOD_CONTAINER_LIST, TWO, true, "default\tp\t12\ttoday\nx\tpool2\t3\t-\n");
	expect_print(METHOD_CONTAINER_LIST, "[]", false, "NAME  POOL  VDISKS  CREATED\n");
	expect_print(METHOD_CONTAINER_LIST, "[]", true, "");
	/* An object is one row. */
	expect_print(METHOD_CONTAINER_CREATE, "{\"name\": \"x\"}", true, "x\t-\t-\t-\n");
}

static void prints_fields_values_and_nothing(void **state)
{
	expect_print(METHOD_VDISK_CHECK, "{\"pages\": 7, \"blocks\": 0}", false,
		     "pages                7\nblocks               0\n"
		     "bad-pages            -\nbad-blocks           -\n"
		     "leaked-blocks        -\nmissing-live-blocks  -\n");
	expect_print(METHOD_CONTAINER_SHOW, "{\"name\": \"x\"}", true,
		     "name\tx\nid\t-\npool\t-\nvdisks\t-\ncreated\t-\nused\t-\n"
		     "limit\t-\nreserved\t-\n");
	expect_print(METHOD_ISCSI_EXPORT, "{\"url\": \"iscsi://h/t/0\"}", false, "iscsi://h/t/0\n");
	expect_print(METHOD_VDISK_FLUSH, "{}", false, "");
}

static void prints_fields_of_each_element(void **state)
{
	expect_print(
		METHOD_DISK_LOCATE,
		"{\"disk\": 3, \"mount\": {\"point\": \"/m\"}, \"devices\": [{\"name\": \"sda\"}, "
		"{\"name\": \"sdb\", \"slot\": \"7\"}]}",
		true,
		"disk\t3\npool\t-\ndirectory\t-\nstate\t-\nuuid\t-\nseen\t-\nmount\t/m\n"
		"file-system\t-\nmounted-from\t-\ndevice\tsda\ndevice\tsdb\nslot\t7\nnote\t-\n");
	expect_print(METHOD_DISK_LOCATE, "{\"devices\": 7}", false,
		     "disk          -\npool          -\ndirectory     -\nstate         -\n"
		     "uuid          -\nseen          -\nmount         -\nfile-system   -\n"
		     "mounted-from  -\nnote          -\n");
}

static void finds_nested_values(void **state)
{
	expect_print(METHOD_POOL_LIST, "[{\"name\": \"p\", \"space\": {\"used_bytes\": 1024}}]",
		     true, "p\t-\t-\t1K\t-\t-\t-\t-\n");
	expect_print(METHOD_POOL_LIST, "[{\"name\": \"p\", \"space\": 7}]", true,
		     "p\t-\t-\t-\t-\t-\t-\t-\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_cells),
		cmocka_unit_test(formats_durations),
		cmocka_unit_test(prints_rows),
		cmocka_unit_test(prints_fields_values_and_nothing),
		cmocka_unit_test(prints_fields_of_each_element),
		cmocka_unit_test(finds_nested_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
