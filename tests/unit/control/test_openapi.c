/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "control/error.h"
#include "control/method.h"
#include "control/openapi.h"

static const json_t *at(const json_t *json, const char *const *path)
{
	for (; *path; path++) {
		json = json_object_get(json, *path);
		assert_non_null(json);
	}
	return json;
}

#define AT(json, ...) at(json, (const char *const[]){__VA_ARGS__, NULL})

static bool requires(const json_t *schema, const char *name)
{
	const json_t *required = json_object_get(schema, "required"), *one;
	size_t i;

	json_array_foreach(required, i, one)
	{
		if (strcmp(json_string_value(one), name) == 0)
			return true;
	}
	return false;
}

/* Those, and no others, with what a client has to know to give them. */
static void expect_params(const struct method *method, const json_t *schema)
{
	const json_t *properties = AT(schema, "properties"), *one;
	size_t count = 0, required = 0;

	for (const struct method_param *param = method->params; param->name; param++, count++) {
		size_t choices = 0;

		one = AT(properties, param->name);
		assert_string_equal(json_string_value(AT(one, "description")), param->help);
		assert_int_equal(requires(schema, param->name),
				 (param->flags & PARAM_REQUIRED) != 0);
		required += (param->flags & PARAM_REQUIRED) != 0;
		for (; param->choices && param->choices[choices]; choices++)
			assert_string_equal(
				json_string_value(json_array_get(AT(one, "enum"), choices)),
				param->choices[choices]);
		assert_int_equal(json_array_size(json_object_get(one, "enum")), choices);
		if (param->type == PARAM_INTEGER)
			assert_true(json_integer_value(AT(one, "minimum")) == param->minimum &&
				    json_integer_value(AT(one, "maximum")) == param->maximum);
	}
	assert_int_equal(json_object_size(properties), count);
	assert_int_equal(json_array_size(json_object_get(schema, "required")), required);
}

static void describes_every_method(void **state)
{
	_cleanup_json_ json_t *document = openapi_document("1.2.3");
	size_t count = 0;

	assert_non_null(document);
	assert_string_equal(json_string_value(AT(document, "info", "version")), "1.2.3");
	for (int id = 0; id < METHOD_COUNT; id++) {
		const struct method *method = method_get(id);
		char name[METHOD_NAME_MAX], path[80] = "/v1/";
		const json_t *post;

		if (method->local)
			continue;
		count++;
		strcat(path, method_name(method, name));
		post = AT(document, "paths", path, "post");
		assert_string_equal(json_string_value(AT(post, "operationId")), name);
		assert_string_equal(json_string_value(AT(post, "x-role")), role_name(method->role));
		expect_params(method,
			      AT(post, "requestBody", "content", "application/json", "schema"));
	}
	assert_int_equal(json_object_size(AT(document, "paths")), count);
}

static void describes_errors_and_answers(void **state)
{
	_cleanup_json_ json_t *document = openapi_document("1");
	const json_t *schemas = AT(document, "components", "schemas");

	assert_int_equal(json_array_size(AT(schemas, "Error", "properties", "code", "enum")),
			 ERROR_CODE_COUNT - 1);
	AT(schemas, "Answer");
	AT(schemas, "JobAnswer");
	AT(schemas, "ErrorAnswer", "properties", "error");
	AT(schemas, "Job", "properties", "eta_ns");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(describes_every_method),
		cmocka_unit_test(describes_errors_and_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
