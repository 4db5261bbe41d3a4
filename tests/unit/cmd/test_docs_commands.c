/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every command of `sarsen` that a page or a message of the programs shows can be given, and every
 * method that a page names exists. The argument is the root of the sources.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "cmd/cli_help.h"
#include "cmd/daemon_args.h"
#include "cmd/fsck_args.h"
#include "control/method.h"
#include "page.h"

static const char *root;
static char *help; /* with the options that every command has */
static unsigned faults, commands, names;

#define FAULT(...) (faults++, print_error(__VA_ARGS__), print_error("\n"))

/* Of a noun, a verb, or what may be one. */
static size_t word_length(const char *at)
{
	size_t length = 0;

	while (islower((unsigned char)at[length]) || (length > 0 && at[length] == '-'))
		length++;
	return length;
}

static bool is_end(char c)
{
	return !c || strchr("`\"|#>;\n", c) != NULL;
}

/* The next word of the command, behind options and their values: "sarsen -o json stats show". */
static const char *skip_options(const char *at)
{
	while (at[0] == '-' && at[1] != ' ') {
		bool has_value = strncmp(at, "-o", 2) == 0 || strncmp(at, "-s", 2) == 0;

		for (int i = 0; i < 1 + has_value; i++) {
			at += strcspn(at, " `\"\n");
			at += strspn(at, " ");
		}
	}
	return at;
}

static const struct method *find_method(const char *noun, size_t noun_length, const char *at,
					const char **ret_end)
{
	char words[3][64];
	size_t length = word_length(at), more;
	const struct method *method;

	snprintf(words[0], sizeof(words[0]), "%.*s", (int)noun_length, noun);
	snprintf(words[1], sizeof(words[1]), "%.*s", (int)length, at);
	method = method_find_words(words[0], words[1]);
	*ret_end = at + length;
	if (!method && length > 0 && at[length] == ' ') {
		more = word_length(at + length + 1);
		snprintf(words[2], sizeof(words[2]), "%.40s-%.*s", words[1], (int)MIN(more, 20u),
			 at + length + 1);
		method = method_find_words(words[0], words[2]);
		*ret_end = at + length + 1 + more;
	}
	if (!method)
		*ret_end = at;
	return method ? method : method_find_implied(words[0]);
}

static bool is_known(const struct method *method, const char *word, size_t length)
{
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)length, word);
	for (char *c = name; *c; c++)
		if (*c == '-')
			*c = '_';
	return method_param_find(method, name) || page_has_option(help, word, length);
}

/* Options up to the end of the command. */
static void check_options(const char *page, const struct method *method, const char *at)
{
	const char *end = at;
	size_t length;

	while (!is_end(*end))
		end++;
	while ((length = page_next_option(&at)) && at < end) {
		if (!is_known(method, at, length))
			FAULT("%s: '%s %s' has no --%.*s", page, method->noun, method->verb,
			      (int)length, at);
		at += length;
	}
}

/* Is it shown as a command, rather than the name in a sentence? */
static bool is_command(const char *text, const char *at)
{
	static const char *const marks[] = {"    ", ".B ", ": "};
	size_t before = (size_t)(at - text);

	if (before == 0 || at[-1] == '\n' || strchr("`/\"", at[-1]))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		size_t length = strlen(marks[i]);

		if (before > length && memcmp(text + before - length, marks[i], length) == 0)
			return true;
	}
	return false;
}

/* `at`: behind "sarsen ". A noun in capitals stands for any. */
static void check_command(const char *page, const char *at, bool is_shown)
{
	char noun[64];
	const struct method *method;
	size_t length;

	at = skip_options(at);
	if (strncmp(at, "help ", 5) == 0)
		at += 5;
	length = word_length(at);
	snprintf(noun, sizeof(noun), "%.*s", (int)length, at);
	if (!method_noun_summary(noun)) {
		if (is_shown && length > 0 && strcmp(noun, "help") != 0)
			FAULT("%s: there is no 'sarsen %s'", page, noun);
		return;
	}
	commands++;
	method = find_method(at, length, at + length + (at[length] == ' '), &at);
	if (method)
		check_options(page, method, at);
	else
		FAULT("%s: there is no 'sarsen %s %.*s'", page, noun, (int)strcspn(at, "\n"), at);
}

static void check_text(const char *page, const char *text)
{
	static const char program[] = "sarsen ";

	for (const char *at = text; (at = strstr(at, program)); at++)
		if (at == text || !(isalnum((unsigned char)at[-1]) || strchr("-.\\", at[-1])))
			check_command(page, at + strlen(program), is_command(text, at));
}

/* "sarsend --check-config": an option that its help tells of. */
static void check_program(const char *page, const char *text, const char *program,
			  const char *program_help)
{
	size_t length;

	for (const char *at = text; (at = strstr(at, program)); at++) {
		const char *option = at + strlen(program), *end = option;

		if (at > text && (isalnum((unsigned char)at[-1]) || at[-1] == '-'))
			continue;
		while (!is_end(*end))
			end++;
		if (option[0] != ' ' || option[1] != '-' || option[2] != '-')
			continue;
		length = page_next_option(&option);
		commands++;
		if (length && option < end && !page_has_option(program_help, option, length))
			FAULT("%s: %s has no --%.*s", page, program, (int)length, option);
	}
}

static void check_pages(const char *pattern, void (*prepare)(char *text))
{
	char path[4096];
	glob_t found;

	snprintf(path, sizeof(path), "%s/%s", root, pattern);
	assert_int_equal(glob(path, 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char *text = page_read("", found.gl_pathv[i]);

		assert_non_null(text);
		prepare(text);
		check_text(found.gl_pathv[i], text);
		check_program(found.gl_pathv[i], text, "sarsend", daemon_help_text);
		check_program(found.gl_pathv[i], text, "sarsen-fsck", fsck_help_text);
		free(text);
	}
	globfree(&found);
}

static void leave(char *text)
{
	(void)text;
}

static void commands_on_pages_can_be_given(void **state)
{
	faults = commands = 0;
	check_pages("README.md", leave);
	check_pages("docs/*.md", leave);
	check_pages("docs/man/*.[158]", page_strip_roff);
	assert_true(commands > 50);
	if (faults)
		fail_msg("%u faults", faults);
}

static void commands_in_messages_can_be_given(void **state)
{
	faults = commands = 0;
	check_pages("src/*/*.c", page_join_literals);
	check_pages("tools/run", leave);
	assert_true(commands > 50);
	if (faults)
		fail_msg("%u faults", faults);
}

/* `vdisk.create`, /v1/vdisk.create */
static void check_names(const char *page, const char *text)
{
	for (const char *at = text; (at = strchr(at, '.')); at++) {
		size_t before = 0, after = word_length(at + 1);
		char noun[64], name[130];

		while (at - before > text && (islower((unsigned char)at[-1 - (long)before]) ||
					      at[-1 - (long)before] == '-'))
			before++;
		snprintf(noun, sizeof(noun), "%.*s", (int)before, at - before);
		snprintf(name, sizeof(name), "%.*s", (int)(before + 1 + after), at - before);
		if (at - before == text || !strchr("`/", at[-1 - (long)before]) ||
		    !method_noun_summary(noun) || strchr("hc", at[1]) != NULL ||
		    strncmp(at, ".md", 3) == 0)
			continue;
		names++;
		if (!method_find(name))
			FAULT("%s: there is no method '%s'", page, name);
	}
}

static void methods_on_pages_exist(void **state)
{
	static const char *const pages[] = {"docs/api.md", "docs/events.md", "docs/architecture.md",
					    "docs/pool.md", "docs/nvme.md"};

	faults = names = 0;
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
		char *text = page_read(root, pages[i]);

		assert_non_null(text);
		check_names(pages[i], text);
		free(text);
	}
	assert_true(names > 5);
	if (faults)
		fail_msg("%u faults", faults);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_on_pages_can_be_given),
		cmocka_unit_test(commands_in_messages_can_be_given),
		cmocka_unit_test(methods_on_pages_exist),
	};
	size_t size;
	FILE *stream;
	int failed;

	if (argc != 2) {
		fprintf(stderr, "usage: test_docs_commands ROOT\n");
		return 2;
	}
	root = argv[1];
	stream = open_memstream(&help, &size);
	assert_non_null(stream);
	cli_help(stream, NULL, NULL);
	fclose(stream);
	/* Nothing of the methods. */
	memmove(help, strstr(help, "\nOptions:\n"), strlen(strstr(help, "\nOptions:\n")) + 1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(help);
	return failed;
}
