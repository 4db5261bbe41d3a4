/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "cmd/cli_help.h"

static char *help(const char *noun, const struct method *method)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	cli_help(stream, noun, method);
	fclose(stream);
	return text;
}

static void names_every_method(void **state)
{
	_cleanup_free_ char *all = help(NULL, NULL);

	for (int id = 0; id < METHOD_COUNT; id++) {
		const struct method *method = method_get(id);
		_cleanup_free_ char *one = help(NULL, method), *noun = help(method->noun, NULL);
		char words[100];

		snprintf(words, sizeof(words), "sarsen %s %s", method->noun, method->verb);
		assert_non_null(strstr(all, words));
		assert_non_null(strstr(noun, words));
		assert_non_null(strstr(one, words));
		for (const struct method_param *param = method->params; param->name; param++)
			assert_non_null(strstr(one, param->help));
	}
}

static void shows_parameters(void **state)
{
	_cleanup_free_ char *text = help(NULL, method_get(METHOD_VDISK_CREATE));

	assert_non_null(strstr(text, "sarsen vdisk create NAME SIZE [--block CHOICE]\n"));
	assert_non_null(strstr(text, "one of 512, 4096"));
	assert_non_null(strstr(text, "Role needed: operator"));
	free(text);
	text = help(NULL, method_get(METHOD_VDISK_RENAME));
	assert_non_null(strstr(text, "sarsen vdisk rename NAME NEW-NAME\n"));
	free(text);
	text = help(NULL, method_get(METHOD_ISCSI_EXPORT));
	assert_non_null(strstr(text, "sarsen iscsi export NAME [--read-only]\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_every_method),
		cmocka_unit_test(shows_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
