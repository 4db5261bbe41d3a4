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

static void describes_every_method(void **state)
{
	_cleanup_json_ json_t *document = openapi_document("1.2.3");
	size_t count = 0;

	assert_non_null(document);
	assert_string_equal(json_string_value(AT(document, "info", "version")), "1.2.3");
	for (int id = 0; id < METHOD_COUNT; id++) {
		const struct method *method = method_get(id);
		char name[METHOD_NAME_MAX], path[80] = "/v1/";
		const json_t *post, *properties;

		if (method->local)
			continue;
		count++;
		strcat(path, method_name(method, name));
		post = AT(document, "paths", path, "post");
		assert_string_equal(json_string_value(AT(post, "operationId")), name);
		assert_string_equal(json_string_value(AT(post, "x-role")), role_name(method->role));
		properties = AT(post, "requestBody", "content", "application/json", "schema",
				"properties");
		for (const struct method_param *param = method->params; param->name; param++)
			assert_string_equal(
				json_string_value(AT(properties, param->name, "description")),
				param->help);
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
