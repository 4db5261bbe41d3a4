/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages for people say what the tables of the code say, and nothing else. The argument is the
 * root of the sources.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cli_completion.h"
#include "cmd/cli_help.h"
#include "cmd/daemon_args.h"
#include "cmd/fsck_args.h"
#include "control/config.h"
#include "control/error.h"
#include "control/event.h"
#include "control/method.h"
#include "control/metrics.h"
#include "page.h"
#include "pool/policy.h"

static const char *root;
static unsigned faults;

/* All are told before the test fails. */
#define FAULT(...) (faults++, print_error(__VA_ARGS__), print_error("\n"))

static void begin(void)
{
	faults = 0;
}

static void end(void)
{
	if (faults)
		fail_msg("%u faults", faults);
}

static char *page(const char *name)
{
	char *text = page_read(root, name);

	if (!text)
		fail_msg("%s/%s cannot be read", root, name);
	return text;
}

static char *manual(const char *name, const char *section)
{
	char *text = page(name), *part = page_section(text, section);

	free(text);
	if (!part)
		fail_msg("%s has no section %s", name, section);
	page_strip_roff(part);
	return part;
}

static void expect_row(const char *name, const char *text, const char *row)
{
	if (!strstr(text, row))
		FAULT("%s has no row: %s", name, row);
}

/* Rows of tables whose first cell begins like that. */
static unsigned count_rows(const char *text, const char *start)
{
	unsigned count = 0;

	for (const char *at = text; (at = strstr(at, start)); at++)
		count++;
	return count;
}

/* One command of a heading in sarsen(1), with all that is said below the heading. */
struct entry {
	char words[1000]; /* "vdisk create NAME SIZE [--block 512|4096]" */
	const char *text; /* of the whole heading and what follows it */
	const struct method *method;
	unsigned depth; /* of brackets, before the token */
	const struct method_param *positional;
	bool told[32]; /* by parameter */
	char token[200];
	bool is_last, is_many; /* ends with ] or ..., with ... */
};

/* In front of a positional parameter, or the end. */
static const struct method_param *next_positional(const struct method_param *param)
{
	while (param->name && !(param->flags & PARAM_POSITIONAL))
		param++;
	return param;
}

static const struct method_param *find_option(const struct method *method, const char *word,
					      size_t length)
{
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)length, word);
	for (char *c = name; *c; c++)
		if (*c == '-')
			*c = '_';
	return method_param_find(method, name);
}

/* Takes one token of the words, counts its brackets, and leaves it without them. */
static bool next_token(struct entry *entry, char **at)
{
	size_t length, start, stop;

	*at += strspn(*at, " ");
	length = strcspn(*at, " ");
	if (length == 0)
		return false;
	start = strspn(*at, "[");
	stop = strcspn(*at, "]. ");
	entry->depth += (unsigned)start;
	snprintf(entry->token, sizeof(entry->token), "%.*s", (int)(stop - start), *at + start);
	entry->is_last = stop < length;
	entry->is_many = (*at)[stop] == '.';
	*at += length;
	return true;
}

static void end_token(struct entry *entry, const char *at)
{
	for (const char *c = at - 1; *c == ']' || *c == '.'; c--)
		entry->depth -= *c == ']';
}

static void check_option(struct entry *entry, char **at)
{
	const char *name = entry->token + 2;
	const struct method_param *param = find_option(entry->method, name, strlen(name));

	if (!param || (param->flags & PARAM_POSITIONAL)) {
		FAULT("'%s': there is no --%s", entry->words, name);
		return;
	}
	entry->told[param - entry->method->params] = true;
	if (entry->depth == 0)
		FAULT("'%s': --%s may be left out, and has no brackets", entry->words, name);
	if (param->type == PARAM_BOOL) {
		if (!entry->is_last && !strchr("|-", (*at)[1]))
			FAULT("'%s': --%s takes no value", entry->words, name);
		return;
	}
	if (entry->is_last || !next_token(entry, at)) {
		FAULT("'%s': --%s takes a value", entry->words, name);
		return;
	}
	for (const char *const *choice = param->choices; choice && *choice; choice++)
		if (!strstr(entry->text, *choice))
			FAULT("'%s': --%s may be %s", entry->words, param->name, *choice);
}

static void check_token(struct entry *entry, char **at)
{
	const struct method_param *param = entry->positional;

	if (strcmp(entry->token, "|") == 0)
		return;
	if (strncmp(entry->token, "--", 2) == 0) {
		check_option(entry, at);
		return;
	}
	if (!param->name) {
		FAULT("'%s': there is no argument %s", entry->words, entry->token);
		return;
	}
	if ((entry->depth == 0) != ((param->flags & PARAM_REQUIRED) != 0))
		FAULT("'%s': brackets of %s", entry->words, entry->token);
	if (entry->is_many != param_is_many(param))
		FAULT("'%s': can %s come again?", entry->words, entry->token);
	entry->told[param - entry->method->params] = true;
	entry->positional = next_positional(param + 1);
}

/* The heading tells all parameters, as they are. */
static void check_entry(struct entry *entry, char *arguments)
{
	const struct method_param *params = entry->method->params;

	entry->positional = next_positional(params);
	while (next_token(entry, &arguments)) {
		check_token(entry, &arguments);
		end_token(entry, arguments);
	}
	if (entry->depth != 0)
		FAULT("'%s': brackets", entry->words);
	for (size_t i = 0; params[i].name; i++)
		if (!entry->told[i])
			FAULT("sarsen.1: '%s' does not tell of %s", entry->words, params[i].name);
}

/* `told`: by method, how often. */
static void check_command(const char *words, size_t length, const char *text, unsigned *told)
{
	struct entry entry = {.text = text};
	char noun[32] = "", verb[32] = "";
	int used = 0;

	snprintf(entry.words, sizeof(entry.words), "%.*s", (int)length, words);
	if (sscanf(entry.words, "%31s %31s%n", noun, verb, &used) == 2)
		entry.method = method_find_words(noun, verb);
	if (!entry.method) {
		FAULT("sarsen.1 tells of '%s', which there is not", entry.words);
		return;
	}
	told[method_id(entry.method)]++;
	check_entry(&entry, entry.words + used);
}

/* "pool list, pool show NAME": a comma divides where no bracket is open. */
static void check_heading(const char *heading, size_t length, const char *text, unsigned *told)
{
	size_t start = 0;
	int depth = 0;

	for (size_t i = 0; i <= length; i++) {
		depth += heading[i] == '[';
		depth -= heading[i] == ']';
		if (i < length && (heading[i] != ',' || depth > 0))
			continue;
		start += strspn(heading + start, " ");
		check_command(heading + start, i - start, text, told);
		start = i + 1;
	}
}

static void manual_tells_of_every_method_as_it_is(void **state)
{
	static const char head[] = ".TP\n.B ";
	char *nouns = manual("docs/man/sarsen.1", "NOUNS"), *next;
	unsigned told[METHOD_COUNT] = {0};

	begin();
	for (char *at = strstr(nouns, head); at; at = next) {
		at += strlen(head);
		next = strstr(at, head);
		if (next)
			*next = '\0';
		check_heading(at, strcspn(at, "\n"), at, told);
		if (next)
			*next = '.';
	}
	for (int id = 0; id < METHOD_COUNT; id++)
		if (told[id] != 1)
			FAULT("sarsen.1 tells %u times of '%s %s'", told[id], method_get(id)->noun,
			      method_get(id)->verb);
	free(nouns);
	end();
}

/* Each option of one text is in the other. */
static void expect_options(const char *of, const char *in, const char *in_name)
{
	size_t length;

	for (const char *at = of; (length = page_next_option(&at)); at += length)
		if (!page_has_option(in, at, length))
			FAULT("%s does not tell of --%.*s", in_name, (int)length, at);
}

static void expect_same_options(const char *help, const char *name)
{
	char *options = manual(name, "OPTIONS");

	begin();
	expect_options(help, options, name);
	expect_options(options, help, "its help");
	free(options);
	end();
}

static void print_to(void (*print)(FILE *stream), char **ret_text)
{
	size_t size;
	FILE *stream = open_memstream(ret_text, &size);

	assert_non_null(stream);
	print(stream);
	assert_int_equal(fclose(stream), 0);
}

static void print_help(FILE *stream)
{
	cli_help(stream, NULL, NULL);
}

static void manuals_tell_of_the_options_that_help_tells_of(void **state)
{
	char *help, *script, *options, *global;

	print_to(print_help, &help);
	print_to(cli_completion_bash, &script);
	options = strstr(help, "\nOptions:\n");
	global = strstr(script, "global='");
	assert_non_null(options);
	assert_non_null(global);
	*strchr(global + strlen("global='"), '\'') = '\0';
	expect_same_options(options, "docs/man/sarsen.1");
	begin();
	expect_options(options, global, "the completion script");
	expect_options(global, options, "sarsen --help");
	end();
	free(help);
	free(script);
	expect_same_options(daemon_help_text, "docs/man/sarsend.8");
	expect_same_options(fsck_help_text, "docs/man/sarsen-fsck.8");
}

static void api_names_every_error(void **state)
{
	char *api = page("docs/api.md"), *exits = manual("docs/man/sarsen.1", "EXIT STATUS");
	char *help, row[100];

	print_to(print_help, &help);
	begin();
	for (int code = ERROR_NONE + 1; code < ERROR_CODE_COUNT; code++) {
		snprintf(row, sizeof(row), "| %s | %u | %d |", error_code_name(code),
			 error_http_status(code), error_exit_code(code));
		expect_row("api.md", api, row);
		snprintf(row, sizeof(row), "\n%d\t", error_exit_code(code));
		expect_row("EXIT STATUS", exits, row);
	}
	assert_int_equal(count_rows(strstr(api, "| code |"), "\n| "), ERROR_CODE_COUNT - 1);
	expect_row("EXIT STATUS", exits, "\n11\t");
	expect_row("sarsen --help", help, ", 11 ");
	end();
	free(api);
	free(exits);
	free(help);
}

static void manual_names_every_property(void **state)
{
	char *properties = manual("docs/man/sarsen.1", "PROPERTIES");

	begin();
	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		expect_row("sarsen.1", properties, policy_info(i)->name);
	free(properties);
	end();
}

static void events_are_told(void **state)
{
	char *events = page("docs/events.md");
	char row[100];

	begin();
	for (int i = 0; i < EVENT_REASON_COUNT; i++) {
		const struct event_kind *kind = event_kind((enum event_reason)i);

		snprintf(row, sizeof(row), "\n| %s | %s | ", kind->name,
			 event_severity_name(kind->severity));
		expect_row("events.md", events, row);
	}
	/* With the one of titles. */
	assert_int_equal(count_rows(events, "\n| "), EVENT_REASON_COUNT + 1);
	free(events);
	end();
}

/* "# HELP NAME MEANING", "# TYPE NAME TYPE": a row of the page. */
static void metrics_are_told(void **state)
{
	char *told = page("docs/metrics.md"), *text, row[400], name[100], meaning[200], type[20];
	struct metrics *metrics = metrics_new();
	unsigned count = 0;
	size_t length;

	assert_non_null(metrics);
	assert_int_equal(metrics_print(metrics, &text, &length), 0);
	begin();
	for (char *at = text; (at = strstr(at, "# HELP ")); at++, count++) {
		assert_int_equal(
			sscanf(at, "# HELP %99s %199[^\n]\n# TYPE %*s %19s", name, meaning, type),
			3);
		snprintf(row, sizeof(row), "\n| %s | %s | %s |\n", name, type, meaning);
		expect_row("metrics.md", told, row);
	}
	assert_int_equal(count_rows(told, "\n| sarsen_"), count);
	free(text);
	free(told);
	metrics_free(metrics);
	end();
}

static void count_fault(const char *fault, void *arg)
{
	(void)fault;
	++*(unsigned *)arg;
}

/* Is the text the value that holds when the key is not given? Words stand for none. */
static bool is_default(const char *section, const char *key, const char *value)
{
	static struct config config, fresh; /* large */
	unsigned count = 0;
	char text[400];
	FILE *stream;

	snprintf(text, sizeof(text), "[%s]\n%s = %s\n", section, key, value);
	config_defaults(&config);
	config_defaults(&fresh);
	stream = fmemopen(text, strlen(text), "r");
	assert_non_null(stream);
	config_read_stream(&config, stream, "page", count_fault, &count);
	fclose(stream);
	return count == 0 && memcmp(&config, &fresh, sizeof(config)) == 0;
}

/* ".BR key " (default)"" in the section of the page. "none" and what has several words is no value.
 */
static void check_key(const char *text, const struct config_key *key)
{
	char start[100], value[200] = "";
	const char *found;

	snprintf(start, sizeof(start), "\n.BR %s \" (", key->key);
	found = strstr(text, start);
	if (!found || sscanf(found + strlen(start), "%199[^\n]", value) != 1) {
		FAULT("sarsend.conf.5 does not tell of %s in [%s]", key->key, key->section);
		return;
	}
	*strchr(value, '"') = '\0';
	value[strlen(value) - 1] = '\0';
	if (!strchr(value, ' ') && strcmp(value, "none") != 0 &&
	    !is_default(key->section, key->key, value))
		FAULT("sarsend.conf.5: %s of [%s] is not %s by default", key->key, key->section,
		      value);
}

static void configuration_is_told(void **state)
{
	char *text = page("docs/man/sarsend.conf.5");
	struct config_key key;
	unsigned count = 0;

	begin();
	for (; config_key_get(count, &key); count++) {
		char title[40], *section;

		snprintf(title, sizeof(title), "[%s]", key.section);
		section = page_section(text, title);
		if (section)
			check_key(section, &key);
		else
			FAULT("sarsend.conf.5 has no section %s", title);
		free(section);
	}
	assert_int_equal(count_rows(strstr(text, ".SH [node]"), "\n.TP\n"), count);
	free(text);
	end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(api_names_every_error),
		cmocka_unit_test(manual_tells_of_every_method_as_it_is),
		cmocka_unit_test(manuals_tell_of_the_options_that_help_tells_of),
		cmocka_unit_test(manual_names_every_property),
		cmocka_unit_test(events_are_told),
		cmocka_unit_test(metrics_are_told),
		cmocka_unit_test(configuration_is_told),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: test_docs ROOT\n");
		return 2;
	}
	root = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
