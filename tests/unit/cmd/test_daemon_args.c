/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/daemon_args.h"

static struct config config;
static enum daemon_action action;
static unsigned faults;
static char path[] = "/tmp/sarsen-test-args-XXXXXX";

static void count(const char *fault, void *arg)
{
	faults++;
}

static int parse(const char *const *words)
{
	int argc = 0;

	faults = 0;
	while (words[argc])
		argc++;
	return daemon_args_parse(argc, (char **)words, &config, &action, count, NULL);
}

#define PARSE(...) parse((const char *const[]){"sarsend", ##__VA_ARGS__, NULL})

static void write_file(const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void options_win_over_the_file(void **state)
{
	char directory[4096];

	write_file("[node]\nstate = /from/file\nreactors = 2\nsocket = /from/file.sock\n");
	assert_int_equal(PARSE("--config", path), 0);
	assert_int_equal(action, DAEMON_RUN);
	assert_string_equal(config.state, "/from/file");
	assert_int_equal(config.reactors, 2);
	assert_int_equal(PARSE("--config", path, "--state", "/x", "--socket", "/y", "--reactors",
			       "3", "--check-config"),
			 0);
	assert_int_equal(action, DAEMON_CHECK_CONFIG);
	assert_string_equal(config.state, "/x");
	assert_string_equal(config.socket, "/y");
	assert_int_equal(config.reactors, 3);
	/* Relative to the working directory. */
	assert_non_null(getcwd(directory, sizeof(directory)));
	assert_int_equal(PARSE("--config", path, "--state", "here"), 0);
	assert_memory_equal(config.state, directory, strlen(directory));
	assert_string_equal(config.state + strlen(directory), "/here");
}

static void says_what_is_wrong(void **state)
{
	write_file("[node]\nreactors = x\ncolour = y\n");
	assert_int_equal(PARSE("--config", path, "--reactors", "0", "--state", ""), -EINVAL);
	assert_int_equal(faults, 4);
	write_file("[iscsi]\naddress = nowhere\n");
	assert_int_equal(PARSE("--config", path), -EINVAL);
	assert_int_equal(faults, 1);
	assert_int_equal(PARSE("--config", "/nonexistent"), -EINVAL);
	assert_int_equal(faults, 1);
	write_file("");
	assert_int_equal(PARSE("--config", path, "word"), -EINVAL);
	assert_int_equal(PARSE("--config", path, "--reactors", "65"), -EINVAL);
	assert_int_equal(PARSE("--config", path, "--reactors", "-1"), -EINVAL);
	assert_int_equal(PARSE("--config", path, "--reactors", "2x"), -EINVAL);
	assert_int_equal(PARSE("--explode"), -EINVAL);
}

static void help_and_version_need_no_file(void **state)
{
	assert_int_equal(PARSE("--help", "--config", "/nonexistent"), 0);
	assert_int_equal(action, DAEMON_HELP);
	assert_int_equal(PARSE("--version"), 0);
	assert_int_equal(action, DAEMON_VERSION);
	assert_non_null(strstr(daemon_help_text, "--check-config"));
	assert_non_null(strstr(daemon_help_text, "--upgrade-check"));
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_win_over_the_file),
		cmocka_unit_test(says_what_is_wrong),
		cmocka_unit_test(help_and_version_need_no_file),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
