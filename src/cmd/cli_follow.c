/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_follow.h"

#include <errno.h>
#include <stdio.h>

#include "base/macros.h"
#include "cmd/cli_client.h"
#include "cmd/cli_print.h"
#include "control/params.h"

#define POLL_MS 10000
#define BATCH   100 /* events a call */

/* The number of the newest event. */
static int find_start(const char *socket, json_int_t *ret_after, struct error *error)
{
	_cleanup_json_ json_t *params = json_pack("{s:i}", "limit", 1), *answer = NULL;
	const json_t *events;
	int r = cli_client_call(socket, method_get(METHOD_EVENT_LIST), params, &answer, error);

	if (r < 0)
		return r;
	events = json_object_get(answer, "result");
	*ret_after = json_integer_value(json_object_get(json_array_get(events, 0), "id"));
	return 0;
}

static int print_events(const struct cli_args *args, const json_t *events, bool first)
{
	const struct cli_print_options options = {.no_header = args->no_header || !first,
						  .exact = args->exact};
	const json_t *event;
	size_t i;

	if (!args->json)
		return cli_print(stdout, args->method, events, &options);
	json_array_foreach(events, i, event)
	{
		json_dumpf(event, stdout, JSON_COMPACT);
		putchar('\n');
	}
	return 0;
}

int cli_follow(const struct cli_args *args, const char *socket, struct error *ret_error)
{
	json_int_t after = params_integer(args->params, "after", -1);
	json_int_t left = params_integer(args->params, "limit", INT64_MAX);
	json_int_t timeout_ms = params_integer(args->params, "timeout_ms", -1);
	int r = after < 0 ? find_start(socket, &after, ret_error) : 0;

	for (bool first = true; r == 0 && left > 0;) {
		_cleanup_json_ json_t *params = json_pack(
			"{s:I, s:I, s:I}", "after", after, "limit", MIN(left, (json_int_t)BATCH),
			"timeout_ms", timeout_ms < 0 ? (json_int_t)POLL_MS : timeout_ms);
		_cleanup_json_ json_t *answer = NULL;
		const json_t *events;

		r = cli_client_call(socket, args->method, params, &answer, ret_error);
		events = json_object_get(answer, "result");
		if (r == 0 && json_array_size(events) == 0) {
			if (timeout_ms >= 0)
				return 0;
			continue;
		}
		if (r == 0)
			r = print_events(args, events, first);
		if (r == 0 && (fflush(stdout) != 0 || ferror(stdout)))
			return 0; /* nobody reads any more */
		first = false;
		left -= (json_int_t)json_array_size(events);
		after = json_integer_value(
			json_object_get(json_array_get(events, json_array_size(events) - 1), "id"));
	}
	return r;
}
