/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/cli_args.h"
#include "cmd/cli_client.h"
#include "cmd/cli_follow.h"
#include "cmd/cli_help.h"
#include "cmd/cli_local.h"
#include "cmd/cli_print.h"
#include "control/config.h"
#include "control/params.h"
#include "control/version.h"

#define WAIT_MS 500 /* between two looks at a job */

struct run {
	struct cli_args args;
	struct error error;
	const char *socket;
	bool progress_shown;
};

static void print_json(const json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
}

/* Prints the error as asked for; its exit code. */
static int report(const struct run *run)
{
	const struct error *error = &run->error;

	if (run->args.json) {
		_cleanup_json_ json_t *json = error_to_json(error);

		print_json(json);
	} else {
		fprintf(stderr, "sarsen: %s\n", error->message);
		if (error->remedy[0])
			fprintf(stderr, "        %s\n", error->remedy);
	}
	return error_exit_code(error->code);
}

static bool names_property(const json_t *settings, const char *property)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)settings, name, value)
	{
		size_t i = 0;

		while (name[i] &&
		       (name[i] == property[i] || (name[i] == '-' && property[i] == '_')))
			i++;
		if (name[i] == '\0' && property[i] == '\0')
			return true;
	}
	return false;
}

/* Of a policy that was changed what was set; NULL: all of the result. */
static json_t *what_was_set(const struct run *run, const json_t *result)
{
	const json_t *settings = json_object_get(run->args.params, "set"), *row;
	json_t *rows;
	size_t i;

	if (!json_is_object(settings) || !json_is_array(result))
		return NULL;
	rows = json_array();
	json_array_foreach(result, i, row)
	{
		const char *property = json_string_value(json_object_get(row, "property"));

		if (property && names_property(settings, property))
			json_array_append(rows, (json_t *)row);
	}
	return rows;
}

static int print_result(const struct run *run, const json_t *answer, const json_t *result)
{
	_cleanup_json_ json_t *set = what_was_set(run, result);
	const struct cli_print_options options = {.no_header = run->args.no_header,
						  .exact = run->args.exact};

	if (run->args.json)
		print_json(answer);
	else if (cli_print(stdout, run->args.method, set ? set : result, &options) < 0)
		return EXIT_CODE_FAILED;
	/* A full disk or a closed pipe must not look like success. */
	return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_CODE_OK : EXIT_CODE_FAILED;
}

/* What went well, but not as one may think. */
static void print_warnings(const struct run *run, const json_t *result)
{
	const json_t *warning;
	size_t i;

	if (run->args.json)
		return; /* they are in there */
	json_array_foreach(json_object_get(result, "warnings"), i, warning)
	{
		char message[CLI_CELL_MAX], remedy[CLI_CELL_MAX];

		cli_print_cell(json_object_get(warning, "message"), COLUMN_TEXT, false, message);
		cli_print_cell(json_object_get(warning, "remedy"), COLUMN_TEXT, false, remedy);
		fprintf(stderr, "sarsen: warning: %s\n        %s\n", message, remedy);
	}
}

/* Not for programs, which have it as JSON, or want only what is in columns. */
static void print_next(const struct run *run, const json_t *result)
{
	const json_t *next = json_object_get(result, "next");
	char text[CLI_CELL_MAX];

	if (run->args.json || run->args.no_header)
		return;
	if (method_id(run->args.method) == METHOD_HEALTH_SHOW && json_array_size(result) == 0)
		fputs("nothing is wrong\n", stderr);
	if (!next)
		return;
	cli_print_cell(next, COLUMN_TEXT, false, text);
	fprintf(stderr, "%s\n", text);
}

/* Notes alone are no reason to call anything unhealthy. */
static bool is_unhealthy(const json_t *findings)
{
	const json_t *finding;
	size_t i;

	json_array_foreach(findings, i, finding)
	{
		const char *severity = json_string_value(json_object_get(finding, "severity"));

		if (!severity || strcmp(severity, "info") != 0)
			return true;
	}
	return false;
}

static void show_progress(struct run *run, const json_t *job)
{
	static const struct {
		const char *key;
		enum column_type type;
	} parts[] = {{"done_bytes", COLUMN_SIZE},
		     {"total_bytes", COLUMN_SIZE},
		     {"rate_bytes", COLUMN_RATE},
		     {"eta_ns", COLUMN_DURATION}};
	char cells[ARRAY_SIZE(parts)][CLI_CELL_MAX];

	if (run->args.json || !isatty(STDERR_FILENO))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		cli_print_cell(json_object_get(job, parts[i].key), parts[i].type, run->args.exact,
			       cells[i]);
	fprintf(stderr, "\r\033[K%s %s: %.32s of %.32s, %.32s, %.32s left",
		json_string_value(json_object_get(job, "kind")),
		json_string_value(json_object_get(job, "object")), cells[0], cells[1], cells[2],
		cells[3]);
	fflush(stderr);
	run->progress_shown = true;
}

static bool job_has_ended(const json_t *job)
{
	const char *state = json_string_value(json_object_get(job, "state"));

	return !state || strcmp(state, "running") != 0;
}

/* The exit code of an ended job; fills run->error when it did not end well. */
static int judge_job(struct run *run, const json_t *job)
{
	const json_t *failure = json_object_get(job, "error");

	if (!json_is_object(failure))
		return EXIT_CODE_OK;
	error_from_json(failure, &run->error);
	return error_exit_code(run->error.code);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Waits for the end of job `id`, at most `limit_ms`; the last answer, or an error in run->error. */
static int wait_for_job(struct run *run, json_int_t id, uint64_t limit_ms, json_t **ret_answer)
{
	uint64_t start_ms = now_ms();

	for (;;) {
		uint64_t spent_ms = now_ms() - start_ms;
		uint64_t left_ms = spent_ms < limit_ms ? limit_ms - spent_ms : 0;
		_cleanup_json_ json_t *params =
			json_pack("{s:I, s:I}", "id", id, "timeout_ms",
				  (json_int_t)MIN(left_ms, (uint64_t)WAIT_MS));
		_cleanup_json_ json_t *answer = NULL;
		const json_t *job;

		if (cli_client_call(run->socket, method_get(METHOD_JOB_WAIT), params, &answer,
				    &run->error) < 0)
			return -EIO;
		job = json_object_get(answer, "result");
		if (job_has_ended(job)) {
			*ret_answer = TAKE_PTR(answer);
			return 0;
		}
		show_progress(run, job);
		if (left_ms == 0) {
			error_set(&run->error, ERROR_TIMEOUT, NULL, "wait again: sarsen job wait",
				  "job %" JSON_INTEGER_FORMAT " has not ended yet", id);
			return -ETIMEDOUT;
		}
	}
}

/* After the answer of a method that is a job, and for `job wait`. */
static int finish_job(struct run *run, json_int_t id, uint64_t limit_ms)
{
	_cleanup_json_ json_t *answer = NULL;
	const json_t *job;
	int r = wait_for_job(run, id, limit_ms, &answer), exit_code;

	if (run->progress_shown)
		fputs("\r\033[K", stderr);
	if (r < 0)
		return report(run);
	job = json_object_get(answer, "result");
	exit_code = judge_job(run, job);
	if (exit_code != EXIT_CODE_OK && !run->args.json)
		return report(run);
	r = print_result(run, answer, run->args.method->job ? json_object_get(job, "result") : job);
	return exit_code != EXIT_CODE_OK ? exit_code : r;
}

static int call_local(struct run *run)
{
	struct cli_local local = {.args = &run->args, .socket = run->socket};
	int exit_code = cli_local_run(&local), r = EXIT_CODE_OK;

	if (local.error.code != ERROR_NONE) {
		run->error = local.error;
		exit_code = report(run);
	} else if (local.result) {
		_cleanup_json_ json_t *answer = json_pack(
			"{s:i, s:O}", "schema", API_SCHEMA_VERSION, "result", local.result);

		r = print_result(run, answer, local.result);
	}
	json_decref(local.result);
	if (fflush(stdout) != 0 || ferror(stdout))
		r = EXIT_CODE_FAILED;
	return exit_code != EXIT_CODE_OK ? exit_code : r;
}

static int call(struct run *run)
{
	const struct method *method = run->args.method;
	_cleanup_json_ json_t *answer = NULL;
	const json_t *result, *id;

	if (method_id(method) == METHOD_JOB_WAIT)
		return finish_job(
			run, params_integer(run->args.params, "id", 0),
			(uint64_t)params_integer(run->args.params, "timeout_ms", INT64_MAX));
	if (method_id(method) == METHOD_EVENT_FOLLOW)
		return cli_follow(&run->args, run->socket, &run->error) < 0 ? report(run)
									    : EXIT_CODE_OK;
	if (cli_client_call(run->socket, method, run->args.params, &answer, &run->error) < 0)
		return report(run);
	result = json_object_get(answer, "result");
	print_warnings(run, result);
	if (method_id(method) == METHOD_HEALTH_SHOW && is_unhealthy(result)) {
		int r = print_result(run, answer, result);

		return r == EXIT_CODE_OK ? EXIT_CODE_UNHEALTHY : r;
	}
	id = json_object_get(result, "id");
	if (!method->job || !id) { /* some only begin one when they are told to */
		int r = print_result(run, answer, result);

		print_next(run, result);
		return r;
	}
	if (!run->args.no_wait)
		return finish_job(run, json_integer_value(id), UINT64_MAX);
	if (run->args.json)
		print_json(answer);
	else
		printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(id));
	return fflush(stdout) == 0 ? EXIT_CODE_OK : EXIT_CODE_FAILED;
}

/* Asks on a terminal; without one only --yes will do. */
static bool confirm(struct run *run)
{
	const struct cli_args *args = &run->args;
	const char *name = params_text(args->params, "name");
	char line[16];

	if (!name)
		name = params_text(args->params, "disk");
	if (args->yes || !cli_args_destroys(args))
		return true;
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		error_set(&run->error, ERROR_INVALID_REQUEST, name,
			  "add --yes to go on without asking",
			  "%s %s %s has to be confirmed, and there is no terminal to ask on: "
			  "refused",
			  args->method->noun, args->method->verb, name ? name : "");
		return false;
	}
	fprintf(stderr, "%s %s %s: this cannot be undone. Type yes to go on: ", args->method->noun,
		args->method->verb, name ? name : "");
	if (fgets(line, sizeof(line), stdin) && strcmp(line, "yes\n") == 0)
		return true;
	error_set(&run->error, ERROR_CANCELLED, name, NULL, "not confirmed; nothing was changed");
	return false;
}

static const char *socket_path(const struct cli_args *args)
{
	const char *environment = getenv("SARSEN_SOCKET");

	if (args->socket)
		return args->socket;
	return environment && *environment ? environment : CONFIG_DEFAULT_SOCKET;
}

int cli_run(int argc, char **argv)
{
	struct run run = {0};
	int exit_code;

	if (argc <= 1) {
		cli_help(stderr, NULL, NULL);
		return EXIT_CODE_USAGE;
	}
	if (cli_args_parse(argc, argv, &run.args, &run.error) < 0) {
		exit_code = report(&run);
	} else if (run.args.action == CLI_HELP) {
		cli_help(stdout, run.args.noun, run.args.method);
		exit_code = EXIT_CODE_OK;
	} else if (run.args.action == CLI_VERSION) {
		printf("sarsen %s\n", version_text());
		exit_code = EXIT_CODE_OK;
	} else if (!confirm(&run)) {
		exit_code = report(&run);
	} else {
		run.socket = socket_path(&run.args);
		exit_code = run.args.method->local ? call_local(&run) : call(&run);
	}
	cli_args_done(&run.args);
	return exit_code;
}
