/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "cmd/cli_args.h"
#include "control/params.h"

#define PARSE(...) parse((const char *const[]){"sarsen", ##__VA_ARGS__, NULL})
#define FAILS(...) fails((const char *const[]){"sarsen", ##__VA_ARGS__, NULL})

static struct cli_args args;
static struct error error;

static int parse_words(const char *const *words)
{
	int count = 0;

	while (words[count])
		count++;
	error = (struct error){0};
	return cli_args_parse(count, (char **)words, &args, &error);
}

static const json_t *parse(const char *const *words)
{
	cli_args_done(&args);
	if (parse_words(words) < 0)
		fail_msg("refused: %s", error.message);
	return args.params;
}

static void fails(const char *const *words)
{
	cli_args_done(&args);
	assert_int_equal(parse_words(words), -EINVAL);
	assert_true(error.code != ERROR_NONE);
	assert_int_equal(error_exit_code(error.code), EXIT_CODE_USAGE);
	assert_true(error.message[0]);
}

static void takes_positionals_and_options(void **state)
{
	const json_t *params = PARSE("vdisk", "create", "a/b", "10G", "--block", "4096");

	assert_ptr_equal(args.method, method_get(METHOD_VDISK_CREATE));
	assert_string_equal(params_text(params, "name"), "a/b");
	assert_int_equal(params_integer(params, "size", 0), 10 * GIB);
	assert_string_equal(params_text(params, "block"), "4096");
	assert_false(args.json || args.no_header || args.exact || args.yes || args.no_wait);
	assert_null(args.socket);

	params = PARSE("vdisk", "create", "--size=1M", "a/b", "--block=512");
	assert_int_equal(params_integer(params, "size", 0), MIB);
	assert_string_equal(params_text(params, "name"), "a/b");

	params = PARSE("iscsi", "export", "a/b", "--read-only");
	assert_true(params_bool(params, "read_only"));
	params = PARSE("iscsi", "export", "a/b", "--read-only=false");
	assert_false(params_bool(params, "read_only"));
	params = PARSE("stats", "show");
	assert_int_equal(json_object_size(params), 0);
}

static void takes_global_options_anywhere(void **state)
{
	PARSE("-Hp", "-o", "json", "--socket", "/x", "pool", "list", "--yes", "--no-wait");
	assert_true(args.json && args.no_header && args.exact && args.yes && args.no_wait);
	assert_string_equal(args.socket, "/x");
	PARSE("pool", "-ojson", "list", "--no-wait", "--wait", "-s/y");
	assert_true(args.json);
	assert_false(args.no_wait);
	assert_string_equal(args.socket, "/y");
	PARSE("--output=table", "pool", "list", "--no-header", "--exact", "-y");
	assert_false(args.json);
	PARSE("vdisk", "show", "--", "a/b");
	PARSE("--version");
	assert_int_equal(args.action, CLI_VERSION);
}

static void asks_for_help(void **state)
{
	PARSE("--help");
	assert_int_equal(args.action, CLI_HELP);
	assert_null(args.noun);
	PARSE("help", "vdisk");
	assert_string_equal(args.noun, "vdisk");
	assert_null(args.method);
	PARSE("vdisk", "create", "-h");
	assert_int_equal(args.action, CLI_HELP);
	assert_ptr_equal(args.method, method_get(METHOD_VDISK_CREATE));
}

static void refuses(void **state)
{
	FAILS("-H");
	FAILS("disc", "list");
	FAILS("vdisk");
	FAILS("vdisk", "explode");
	FAILS("help", "vdisk", "explode");
	FAILS("vdisk", "show");
	FAILS("vdisk", "show", "a/b", "c");
	FAILS("vdisk", "show", "a/b", "--name", "a/c");
	FAILS("vdisk", "show", "ab");
	FAILS("vdisk", "create", "a/b", "-1");
	FAILS("vdisk", "create", "a/b", "1.5G");
	FAILS("vdisk", "create", "a/b", "1G", "--block");
	FAILS("vdisk", "create", "a/b", "1G", "--block", "1024");
	FAILS("vdisk", "create", "a/b", "1G", "--blo", "512");
	FAILS("vdisk", "create", "a/b", "1G", "--blocks", "512");
	FAILS("vdisk", "create", "a/b", "1G", "--block", "512", "--block", "512");
	FAILS("--block", "512", "vdisk", "create", "a/b", "1G");
	FAILS("-x", "pool", "list");
	FAILS("-w", "pool", "list");
	FAILS("-o", "xml", "pool", "list");
	FAILS("pool", "list", "-o");
	FAILS("pool", "list", "--socket");
	FAILS("pool", "list", "--yes=1");
	FAILS("job", "wait", "1", "--timeout-ms", "soon");
	FAILS("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
	      "17");
	FAILS("-o", "json", "vdisk", "explode");
	assert_true(args.json);
	FAILS("vdisk", "explode", "--output=json");
	assert_true(args.json);
	FAILS("vdisk", "explode", "--", "-ojson");
	assert_false(args.json);
}

static void knows_what_destroys(void **state)
{
	PARSE("vdisk", "delete", "a/b");
	assert_true(cli_args_destroys(&args));
	PARSE("vdisk", "resize", "a/b", "1G");
	assert_false(cli_args_destroys(&args));
	PARSE("vdisk", "resize", "a/b", "1G", "--shrink");
	assert_true(cli_args_destroys(&args));
}

static int clean_up(void **state)
{
	cli_args_done(&args);
	return 0;
}

static void takes_several_words(void **state)
{
	const json_t *params = PARSE("container", "set", "c", "max-capacity=1G",
				     "replication_factor=2"), *set;

	set = json_object_get(params, "set");
	assert_int_equal(json_object_size(set), 2);
	assert_string_equal(params_text(set, "max-capacity"), "1G"); /* the daemon reads it */
	params = PARSE("container", "create", "c", "--set", "max_capacity=1G",
		       "--set=min_reserved=default");
	assert_int_equal(json_object_size(json_object_get(params, "set")), 2);
	params = PARSE("vdisk", "get", "c/d", "stripe-width", "replication_factor");
	assert_int_equal(json_array_size(json_object_get(params, "properties")), 2);
	assert_null(json_object_get(PARSE("container", "get", "c"), "properties"));
	FAILS("container", "set", "c");
	FAILS("container", "set", "c", "max_capacity");
	FAILS("container", "set", "c", "=1G");
	FAILS("container", "set", "c", "nosuch=1");
	FAILS("container", "set", "c", "max_capacity=-1");
	FAILS("container", "set", "c", "max_capacity=1G", "max_capacity=2G");
	FAILS("container", "set", "c", "max_capacity=\xff");
	FAILS("container", "get", "c", "nosuch");
	FAILS("pool", "show", "a", "b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_positionals_and_options),
		cmocka_unit_test(takes_global_options_anywhere),
		cmocka_unit_test(asks_for_help),
		cmocka_unit_test(refuses),
		cmocka_unit_test(takes_several_words),
		cmocka_unit_test(knows_what_destroys),
	};

	return cmocka_run_group_tests(tests, NULL, clean_up);
}
