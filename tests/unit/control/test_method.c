/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "control/error.h"
#include "control/method.h"

/* The rules that every entry of the table keeps, so that daemon and CLI can rely on them. */
static void table_is_sound(void **state)
{
	for (int id = 0; id < METHOD_COUNT; id++) {
		const struct method *method = method_get(id);
		bool optional = false;

		assert_non_null(method->noun);
		assert_non_null(method->verb);
		assert_non_null(method->summary);
		assert_non_null(method->columns);
		assert_non_null(method_noun_summary(method->noun));
		for (const struct method_param *param = method->params; param->name; param++) {
			assert_non_null(param->help);
			assert_ptr_equal(method_param_find(method, param->name), param);
			if (param->type == PARAM_ENUM)
				assert_non_null(param->choices);
			if (param->type == PARAM_TEXT || param->type == PARAM_INTEGER)
				assert_true(param->maximum > param->minimum);
			if (!(param->flags & PARAM_POSITIONAL))
				continue;
			/* A required one after an optional one could not be told apart. */
			assert_false(optional && (param->flags & PARAM_REQUIRED));
			optional = !(param->flags & PARAM_REQUIRED);
		}
		if (method->print == METHOD_PRINT_VALUE || method->print == METHOD_PRINT_ROWS)
			assert_non_null(method->columns[0].key);
		if (method->destructive_if)
			assert_int_equal(method_param_find(method, method->destructive_if)->type,
					 PARAM_BOOL);
		if (method->destructive || method->job)
			assert_true(method->changes && !method->local);
		if (method->implied)
			assert_ptr_equal(method_find_implied(method->noun), method);
		assert_true(method->changes == (method->role != ROLE_READER));
	}
}

static void finds(void **state)
{
	char name[METHOD_NAME_MAX];

	for (int id = 0; id < METHOD_COUNT; id++) {
		const struct method *method = method_get(id);

		assert_ptr_equal(method_find(method_name(method, name)), method);
		assert_ptr_equal(method_find_words(method->noun, method->verb), method);
		assert_int_equal(method_id(method), id);
	}
	assert_null(method_find("vdisk"));
	assert_null(method_find("vdisk.explode"));
	assert_null(method_find(""));
	assert_null(method_find_words("vdisk", ""));
	assert_null(method_noun_summary("vdisks"));
}

static void names_types_and_roles(void **state)
{
	size_t count = 0;

	for (; method_noun(count); count++)
		assert_non_null(method_noun_summary(method_noun(count)));
	assert_int_equal(count, 15);
	assert_string_equal(role_name(ROLE_ADMINISTRATOR), "administrator");
	assert_string_equal(param_type_name(PARAM_SIZE), "SIZE");
}

static void error_codes_round_trip(void **state)
{
	for (int code = ERROR_NONE + 1; code < ERROR_CODE_COUNT; code++) {
		assert_int_equal(error_code_by_name(error_code_name(code)), code);
		assert_true(error_http_status(code) >= 400);
		assert_true(error_exit_code(code) > 0);
	}
	assert_int_equal(error_code_by_name("nonsense"), ERROR_INTERNAL);
}

static void error_texts_are_always_json(void **state)
{
	struct error error = {0};
	char long_text[3000];
	json_t *json;

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	/* Cut in the middle of a character of two bytes. */
	memcpy(long_text + sizeof(error.object) - 2, "\xc3\xa4", 2);
	error_set(&error, ERROR_INVALID_NAME, long_text, NULL, "bad \xff name\n%s", long_text);
	json = error_to_json(&error);
	assert_non_null(json);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(json, "error"), "code")),
		"invalid-name");
	assert_null(strchr(error.message, '\n'));
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_sound),
		cmocka_unit_test(finds),
		cmocka_unit_test(names_types_and_roles),
		cmocka_unit_test(error_codes_round_trip),
		cmocka_unit_test(error_texts_are_always_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
