/* SPDX-License-Identifier: Apache-2.0 */
#include "control/openapi.h"

#include <stdio.h>

#include "control/error.h"
#include "control/method.h"
#include "control/policy_text.h"

static json_t *choices_schema(const char *const *choices)
{
	json_t *list = json_array();

	for (; *choices; choices++)
		json_array_append_new(list, json_string(*choices));
	return json_pack("{s:s, s:o}", "type", "string", "enum", list);
}

static json_t *property_schema(void)
{
	json_t *names = json_array();

	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		json_array_append_new(names, json_string(policy_info(i)->name));
	return json_pack("{s:s, s:o}", "type", "string", "enum", names);
}

/* Each may be a number or text; null takes the setting back. */
static json_t *settings_schema(void)
{
	json_t *properties = json_object();
	char range[POLICY_TEXT_MAX];

	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		json_object_set_new(properties, policy_info(i)->name,
				    json_pack("{s:s, s:[{s:s}, {s:s}], s:b}", "description",
					      policy_text_range(i, range), "oneOf", "type",
					      "integer", "type", "string", "nullable", 1));
	return json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
			 "additionalProperties", 0);
}

static json_t *param_schema(const struct method_param *param)
{
	switch (param->type) {
	case PARAM_NAME:
		return json_pack("{s:s, s:s, s:i}", "type", "string", "pattern",
				 "^[a-z0-9][a-z0-9._-]*$", "maxLength", 63);
	case PARAM_VDISK:
		return json_pack("{s:s, s:s, s:i}", "type", "string", "pattern",
				 "^[a-z0-9][a-z0-9._-]*/[a-zA-Z0-9][a-zA-Z0-9._-]*$", "maxLength",
				 127);
	case PARAM_TEXT:
		return json_pack("{s:s, s:I}", "type", "string", "maxLength",
				 (json_int_t)param->maximum);
	case PARAM_SECRET:
		return json_pack("{s:s, s:s, s:b, s:I, s:I}", "type", "string", "format",
				 "password", "writeOnly", 1, "minLength",
				 (json_int_t)param->minimum, "maxLength",
				 (json_int_t)param->maximum);
	case PARAM_SIZE:
		return json_pack("{s:[{s:s, s:i}, {s:s, s:s}]}", "oneOf", "type", "integer",
				 "minimum", 0, "type", "string", "pattern",
				 "^[0-9]+([KMGTPEkmgtpe]([iI][bB])?|[bB])?$");
	case PARAM_BOOL:
		return json_pack("{s:s}", "type", "boolean");
	case PARAM_INTEGER:
		return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum",
				 (json_int_t)param->minimum, "maximum", (json_int_t)param->maximum);
	case PARAM_ENUM:
		return choices_schema(param->choices);
	case PARAM_PROPERTIES:
		return json_pack("{s:s, s:o}", "type", "array", "items", property_schema());
	case PARAM_SETTINGS:
		return settings_schema();
	}
	return NULL;
}

static json_t *params_schema(const struct method *method)
{
	json_t *properties = json_object(), *required = json_array(), *schema;

	for (const struct method_param *param = method->params; param->name; param++) {
		json_t *one = param_schema(param);

		json_object_set_new(one, "description", json_string(param->help));
		json_object_set_new(properties, param->name, one);
		if (param->flags & PARAM_REQUIRED)
			json_array_append_new(required, json_string(param->name));
	}
	schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
			   "additionalProperties", 0);
	if (json_array_size(required))
		json_object_set(schema, "required", required);
	json_decref(required);
	return schema;
}

static json_t *answer(const char *description, const char *reference)
{
	return json_pack("{s:s, s:{s:{s:{s:s}}}}", "description", description, "content",
			 "application/json", "schema", "$ref", reference);
}

static json_t *operation(const struct method *method)
{
	char name[METHOD_NAME_MAX];
	const char *result =
		method->job ? "#/components/schemas/JobAnswer" : "#/components/schemas/Answer";

	return json_pack("{s:{s:s, s:s, s:[s], s:s, s:b, s:b, s:{s:b, s:{s:{s:o}}}, s:{s:o, s:o}}}",
			 "post", "operationId", method_name(method, name), "summary",
			 method->summary, "tags", method->noun, "x-role", role_name(method->role),
			 "x-job", method->job, "x-destructive", method->destructive, "requestBody",
			 "required", 1, "content", "application/json", "schema",
			 params_schema(method), "responses", "200", answer("done", result),
			 "default",
			 answer("refused or failed", "#/components/schemas/ErrorAnswer"));
}

static json_t *error_schema(void)
{
	json_t *codes = json_array();

	for (int code = ERROR_NONE + 1; code < ERROR_CODE_COUNT; code++)
		json_array_append_new(codes, json_string(error_code_name(code)));
	return json_pack("{s:s, s:[ssss], s:{s:{s:s, s:o}, s:{s:s}, s:{s:s}, s:{s:s}}}", "type",
			 "object", "required", "code", "message", "object", "remedy", "properties",
			 "code", "type", "string", "enum", codes, "message", "type", "string",
			 "object", "type", "string", "remedy", "type", "string");
}

/* {"schema": 1, KEY: value} */
static json_t *envelope(const char *key, json_t *value)
{
	return json_pack("{s:s, s:[ss], s:{s:{s:s, s:[i]}, s:o}}", "type", "object", "required",
			 "schema", key, "properties", "schema", "type", "integer", "enum",
			 API_SCHEMA_VERSION, key, value);
}

static json_t *job_schema(void)
{
	static const char *const numbers[] = {"id",         "done_bytes", "total_bytes",
					      "rate_bytes", "elapsed_ns", "eta_ns"};
	static const char *const texts[] = {"kind", "object", "state", "created"};
	json_t *properties = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		json_object_set_new(properties, numbers[i], json_pack("{s:s}", "type", "integer"));
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		json_object_set_new(properties, texts[i], json_pack("{s:s}", "type", "string"));
	json_object_set_new(properties, "cancellable", json_pack("{s:s}", "type", "boolean"));
	json_object_set_new(properties, "result", json_object());
	json_object_set_new(properties, "error",
			    json_pack("{s:s}", "$ref", "#/components/schemas/Error"));
	return json_pack("{s:s, s:o}", "type", "object", "properties", properties);
}

static json_t *reference(const char *to)
{
	return json_pack("{s:s}", "$ref", to);
}

static json_t *components(void)
{
	return json_pack("{s:{s:o, s:o, s:o, s:o, s:o}}", "schemas", "Error", error_schema(), "Job",
			 job_schema(), "Answer", envelope("result", json_object()), "JobAnswer",
			 envelope("result", reference("#/components/schemas/Job")), "ErrorAnswer",
			 envelope("error", reference("#/components/schemas/Error")));
}

json_t *openapi_document(const char *version)
{
	json_t *paths = json_object();

	for (int id = 0; id < METHOD_COUNT; id++) {
		char name[METHOD_NAME_MAX], path[METHOD_NAME_MAX + 8];

		if (method_get(id)->local)
			continue;
		snprintf(path, sizeof(path), "/v1/%s", method_name(method_get(id), name));
		json_object_set_new(paths, path, operation(method_get(id)));
	}
	return json_pack("{s:s, s:{s:s, s:s}, s:o, s:o}", "openapi", "3.0.3", "info", "title",
			 "Sarsen", "version", version, "paths", paths, "components", components());
}
