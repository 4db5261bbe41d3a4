/* SPDX-License-Identifier: Apache-2.0 */
/* The pages for people say what the tables of the code say: arguments are api.md and sarsen.1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/error.h"
#include "control/method.h"
#include "pool/policy.h"

static char *api, *manual;

static char *read_page(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = NULL;
	size_t size = 0;

	if (!file)
		return NULL;
	if (getdelim(&text, &size, '\0', file) < 0) {
		free(text);
		text = NULL;
	}
	fclose(file);
	return text;
}

static void api_names_every_error(void **state)
{
	for (int code = ERROR_NONE + 1; code < ERROR_CODE_COUNT; code++) {
		char row[100];

		snprintf(row, sizeof(row), "| %s | %u | %d |", error_code_name(code),
			 error_http_status(code), error_exit_code(code));
		if (!strstr(api, row))
			fail_msg("api.md has no row '%s'", row);
	}
}

static void expect_in_manual(char *words)
{
	for (char *c = words; *c; c++)
		if (*c == '_')
			*c = '-';
	if (!strstr(manual, words))
		fail_msg("sarsen.1 does not name '%s'", words);
}

static void manual_names_every_method(void **state)
{
	for (int id = 0; id < METHOD_COUNT; id++) {
		const struct method *method = method_get(id);
		char words[100];

		snprintf(words, sizeof(words), "%s %s", method->noun, method->verb);
		expect_in_manual(words);
		for (const struct method_param *param = method->params; param->name; param++) {
			snprintf(words, sizeof(words), "\\-\\-%s", param->name);
			if (!(param->flags & PARAM_POSITIONAL))
				expect_in_manual(words);
		}
	}
}

static void manual_names_every_property(void **state)
{
	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		if (!strstr(manual, policy_info(i)->name))
			fail_msg("sarsen.1 does not name '%s'", policy_info(i)->name);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(api_names_every_error),
		cmocka_unit_test(manual_names_every_method),
		cmocka_unit_test(manual_names_every_property),
	};
	int failed;

	api = argc == 3 ? read_page(argv[1]) : NULL;
	manual = argc == 3 ? read_page(argv[2]) : NULL;
	if (!api || !manual) {
		fprintf(stderr, "usage: test_docs API.md SARSEN.1\n");
		return 2;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(api);
	free(manual);
	return failed;
}
