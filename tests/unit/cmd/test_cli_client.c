/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "cmd/cli_client.h"

#include "fake_daemon.h"

static int call_fake(const char *answer, json_t **ret_answer, struct error *ret_error)
{
	const char *const answers[] = {answer, NULL};
	struct fake_daemon daemon;
	json_t *params = json_object();
	int r;

	*ret_error = (struct error){0};
	fake_daemon_start(&daemon, answers);
	r = cli_client_call(daemon.path, method_get(METHOD_POOL_LIST), params, ret_answer,
			    ret_error);
	fake_daemon_stop(&daemon);
	json_decref(params);
	return r;
}

static void gives_the_answer(void **state)
{
	struct error error;
	json_t *answer;

	assert_int_equal(call_fake(HTTP_OK("{\"schema\": 1, \"result\": [7]}"), &answer, &error),
			 0);
	assert_int_equal(json_array_size(json_object_get(answer, "result")), 1);
	json_decref(answer);
	assert_int_equal(call_fake("HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n"
				   "{\"schema\":1,\"result\":{}}",
				   &answer, &error),
			 0);
	json_decref(answer);
}

static void gives_the_daemons_error(void **state)
{
	struct error error;
	json_t *answer = NULL;

	assert_int_equal(
		call_fake("HTTP/1.0 404 Not Found\r\n\r\n{\"schema\": 1, \"error\": {\"code\": "
			  "\"not-found\", \"message\": \"m\", \"object\": \"o\", "
			  "\"remedy\": \"r\"}}",
			  &answer, &error),
		-EIO);
	assert_int_equal(error.code, ERROR_NOT_FOUND);
	assert_string_equal(error.message, "m");
	assert_string_equal(error.object, "o");
	assert_string_equal(error.remedy, "r");
	assert_int_equal(
		call_fake(HTTP_OK("{\"schema\": 1, \"error\": {\"code\": 5}}"), &answer, &error),
		-EIO);
	assert_int_equal(error.code, ERROR_INTERNAL);
	assert_null(answer);
}

static void refuses_nonsense(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/2 200 OK\r\n\r\n{}",
		"HTTP/1.1 abc OK\r\n\r\n{}",
		HTTP_OK("{"),
		HTTP_OK("[]"),
		HTTP_OK("{}"),
		HTTP_OK("{\"schema\": \"1\", \"result\": 1}"),
		HTTP_OK("{\"schema\": 2, \"result\": 1}"),
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"schema\":1,\"result\":{}}",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{\"schema\":1,\"result\":{}}",
	};
	struct error error;
	json_t *answer = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(call_fake(bad[i], &answer, &error), -EIO);
		assert_int_equal(error.code, ERROR_UNAVAILABLE);
		assert_null(answer);
	}
}

static void nobody_listens(void **state)
{
	json_t *params = json_object(), *answer = NULL;
	struct error error = {0};
	char path[200];

	assert_int_equal(cli_client_call("/nonexistent/s", method_get(METHOD_POOL_LIST), params,
					 &answer, &error),
			 -EIO);
	assert_int_equal(error_exit_code(error.code), EXIT_CODE_UNREACHABLE);
	assert_string_equal(error.object, "/nonexistent/s");
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(
		cli_client_call(path, method_get(METHOD_POOL_LIST), params, &answer, &error), -EIO);
	json_decref(params);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_the_answer),
		cmocka_unit_test(gives_the_daemons_error),
		cmocka_unit_test(refuses_nonsense),
		cmocka_unit_test(nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
