/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "base/macros.h"
#include "cmd/cli_run.h"
#include "control/error.h"

#include "fake_daemon.h"

static char output[8192]; /* what the last run wrote to stdout and stderr */

static void read_back(int fd)
{
	ssize_t length = pread(fd, output, sizeof(output) - 1, 0);

	assert_true(length >= 0);
	output[length] = '\0';
	close(fd);
}

/* Runs the CLI in a child without a terminal; its exit code. */
static int run(const char *const *words)
{
	char path[] = "/tmp/sarsen-test-run-XXXXXX";
	int fd = mkostemp(path, O_APPEND), status;
	pid_t child;

	unlink(path);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		int count = 0;

		alarm(20);
		while (words[count])
			count++;
		if (dup2(open("/dev/null", O_RDONLY), 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
			_exit(99);
		count = cli_run(count, (char **)words);
		fflush(NULL);
		_exit(count);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	read_back(fd);
	return WEXITSTATUS(status);
}

#define RUN(...)     run((const char *const[]){"sarsen", ##__VA_ARGS__, NULL})
#define ANSWERS(...) ((const char *const[]){__VA_ARGS__, NULL})

static int run_with(const char *const *answers, const char *const *words)
{
	struct fake_daemon daemon;
	int exit_code;

	fake_daemon_start(&daemon, answers);
	setenv("SARSEN_SOCKET", daemon.path, 1);
	exit_code = run(words);
	unsetenv("SARSEN_SOCKET");
	fake_daemon_stop(&daemon);
	return exit_code;
}

#define RUN_WITH(answers, ...) \
	run_with(answers, (const char *const[]){"sarsen", ##__VA_ARGS__, NULL})

static void without_a_daemon(void **state)
{
	assert_int_equal(RUN(), EXIT_CODE_USAGE);
	assert_int_equal(RUN("--version"), EXIT_CODE_OK);
	assert_non_null(strstr(output, "sarsen 0."));
	assert_int_equal(RUN("help"), EXIT_CODE_OK);
	assert_non_null(strstr(output, "sarsen vdisk create"));
	assert_int_equal(RUN("vdisk", "explode"), EXIT_CODE_USAGE);
	assert_int_equal(RUN("-s", "/nonexistent", "pool", "list"), EXIT_CODE_UNREACHABLE);
	assert_non_null(strstr(output, "/nonexistent"));
	assert_int_equal(RUN("-s", "/nonexistent", "pool", "list", "-o", "json"),
			 EXIT_CODE_UNREACHABLE);
	assert_non_null(strstr(output, "\"schema\": 1"));
	assert_non_null(strstr(output, "\"unavailable\""));
}

static void prints_results(void **state)
{
	static const char answer[] = HTTP_OK(
		"{\"schema\": 1, \"result\": {\"url\": \"iscsi://h:1/t/0\", \"vdisk\": \"a/b\"}}");

	assert_int_equal(RUN_WITH(ANSWERS(answer), "iscsi", "export", "a/b"), EXIT_CODE_OK);
	assert_string_equal(output, "iscsi://h:1/t/0\n");
	assert_int_equal(RUN_WITH(ANSWERS(answer), "iscsi", "export", "a/b", "-o", "json"),
			 EXIT_CODE_OK);
	assert_non_null(strstr(output, "\"schema\": 1"));
}

static void refuses_to_destroy_without_a_terminal(void **state)
{
	assert_int_equal(RUN("vdisk", "delete", "a/b"), EXIT_CODE_USAGE);
	assert_non_null(strstr(output, "--yes"));
	assert_int_equal(RUN("vdisk", "resize", "a/b", "1G", "--shrink"), EXIT_CODE_USAGE);
	assert_int_equal(RUN("-s", "/nonexistent", "vdisk", "delete", "a/b", "--yes"),
			 EXIT_CODE_UNREACHABLE);
}

#define JOB(state, more)                                                              \
	HTTP_OK("{\"schema\": 1, \"result\": {\"id\": 7, \"kind\": \"vdisk.check\", " \
		"\"object\": \"a/b\", \"state\": \"" state "\"" more "}}")

static void waits_for_jobs(void **state)
{
	const char *const *ends_well =
		ANSWERS(JOB("running", ""), JOB("running", ", \"done_bytes\": 5"),
			JOB("done", ", \"result\": {\"pages\": 3}"));
	const char *const *fails =
		ANSWERS(JOB("running", ""),
			JOB("failed", ", \"error\": {\"code\": \"damaged\", \"message\": "
				      "\"2 bad pages\", \"remedy\": \"restore it\"}"));

	assert_int_equal(RUN_WITH(ends_well, "vdisk", "check", "a/b"), EXIT_CODE_OK);
	assert_non_null(strstr(output, "pages                3\n"));
	assert_int_equal(RUN_WITH(ends_well, "vdisk", "check", "a/b", "-o", "json"), EXIT_CODE_OK);
	assert_non_null(strstr(output, "\"done\""));
	assert_int_equal(RUN_WITH(fails, "vdisk", "check", "a/b"), EXIT_CODE_DAMAGED);
	assert_non_null(strstr(output, "2 bad pages"));
	assert_int_equal(RUN_WITH(fails, "vdisk", "check", "a/b", "-ojson"), EXIT_CODE_DAMAGED);
	assert_non_null(strstr(output, "\"failed\""));
	/* The daemon goes away meanwhile. */
	assert_int_equal(RUN_WITH(ANSWERS(JOB("running", ""), ""), "vdisk", "check", "a/b"),
			 EXIT_CODE_UNREACHABLE);
}

static void does_not_wait_when_told(void **state)
{
	assert_int_equal(
		RUN_WITH(ANSWERS(JOB("running", "")), "vdisk", "check", "a/b", "--no-wait"),
		EXIT_CODE_OK);
	assert_string_equal(output, "7\n");
	assert_int_equal(
		RUN_WITH(ANSWERS(JOB("running", "")), "job", "wait", "7", "--timeout-ms", "0"),
		EXIT_CODE_TIMEOUT);
	assert_int_equal(
		RUN_WITH(ANSWERS(JOB("running", ""), JOB("cancelled", ", \"error\": {\"code\": "
								      "\"cancelled\"}")),
			 "job", "wait", "7"),
		EXIT_CODE_CANCELLED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_daemon),
		cmocka_unit_test(prints_results),
		cmocka_unit_test(refuses_to_destroy_without_a_terminal),
		cmocka_unit_test(waits_for_jobs),
		cmocka_unit_test(does_not_wait_when_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
