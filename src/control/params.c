/* SPDX-License-Identifier: Apache-2.0 */
#include "control/params.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "control/policy_text.h"
#include "control/size.h"

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool is_name(const char *text, size_t length, const char *first, const char *rest)
{
	if (length == 0 || length > PARAMS_NAME_MAX || !strchr(first, text[0]))
		return false;
	for (size_t i = 1; i < length; i++)
		if (!strchr(rest, text[i]))
			return false;
	return true;
}

static bool is_group_name(const char *text, size_t length)
{
	return is_name(text, length, LOWER DIGITS, LOWER DIGITS "._-");
}

int params_split_vdisk(const char *name, struct params_vdisk_name *ret_name)
{
	const char *slash = strchr(name, '/');

	if (!slash || !is_group_name(name, (size_t)(slash - name)) ||
	    !is_name(slash + 1, strlen(slash + 1), LOWER UPPER DIGITS, LOWER UPPER DIGITS "._-"))
		return -EINVAL;
	snprintf(ret_name->container, sizeof(ret_name->container), "%.*s", (int)(slash - name),
		 name);
	snprintf(ret_name->vdisk, sizeof(ret_name->vdisk), "%s", slash + 1);
	return 0;
}

static int fail(struct error *error, const struct method_param *param, enum error_code code,
		const char *remedy, const char *text)
{
	char shown[100];

	snprintf(shown, sizeof(shown), "%.80s%s", text, strlen(text) > 80 ? "..." : "");
	error_set(error, code, shown, remedy, "parameter '%s': '%s' is not a valid %s", param->name,
		  shown,
		  code == ERROR_INVALID_NAME   ? "name"
		  : code == ERROR_INVALID_SIZE ? "size"
					       : "value");
	return -EINVAL;
}

static int fail_type(struct error *error, const struct method_param *param, const char *expected)
{
	error_set(error, ERROR_INVALID_REQUEST, param->name, param->help,
		  "parameter '%s' must be %s", param->name, expected);
	return -EINVAL;
}

static int check_text(const struct method_param *param, const json_t *value, struct error *error)
{
	const char *text = json_string_value(value);
	struct params_vdisk_name name;

	if (!text)
		return fail_type(error, param, "text");
	if (strlen(text) != json_string_length(value))
		return fail_type(error, param, "text without NUL characters");
	if (param->type == PARAM_NAME && !is_group_name(text, strlen(text)))
		return fail(error, param, ERROR_INVALID_NAME,
			    "use 1 to 63 of a-z 0-9 . _ - that start with a letter or digit", text);
	if (param->type == PARAM_VDISK && params_split_vdisk(text, &name) < 0)
		return fail(error, param, ERROR_INVALID_NAME,
			    "write CONTAINER/VDISK, each 1 to 63 letters, digits, . _ - "
			    "(capitals only in the vDisk's part)",
			    text);
	if (param->type == PARAM_SECRET &&
	    ((int64_t)strlen(text) < param->minimum || (int64_t)strlen(text) > param->maximum))
		return fail_type(error, param, "a secret of 12 to 128 bytes"); /* not shown */
	if (param->type == PARAM_TEXT && (int64_t)strlen(text) > param->maximum)
		return fail(error, param, ERROR_INVALID_REQUEST, "give a shorter text", text);
	return 0;
}

static int size_from_text(const struct method_param *param, const char *text, json_t **ret_value,
			  struct error *error)
{
	uint64_t bytes;

	if (size_parse(text, &bytes) < 0)
		return fail(error, param, ERROR_INVALID_SIZE,
			    "write a whole number with K, M, G or T, such as 10G", text);
	*ret_value = json_integer((json_int_t)bytes);
	return *ret_value ? 0 : -ENOMEM;
}

static int check_size(const struct method_param *param, const json_t *value, json_t **ret_value,
		      struct error *error)
{
	char text[32];

	if (json_is_string(value))
		return size_from_text(param, json_string_value(value), ret_value, error);
	if (!json_is_integer(value))
		return fail_type(error, param,
				 "a size: a number of bytes, or text such as \"10G\"");
	if (json_integer_value(value) < 0) {
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return fail(error, param, ERROR_INVALID_SIZE, "sizes are not negative", text);
	}
	*ret_value = json_copy((json_t *)value);
	return *ret_value ? 0 : -ENOMEM;
}

static int check_integer(const struct method_param *param, const json_t *value, struct error *error)
{
	char remedy[100], text[32];

	if (!json_is_integer(value))
		return fail_type(error, param, "a whole number");
	if (json_integer_value(value) >= param->minimum &&
	    json_integer_value(value) <= param->maximum)
		return 0;
	snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	if (param->maximum == INT64_MAX)
		snprintf(remedy, sizeof(remedy), "give a number from %" PRId64, param->minimum);
	else
		snprintf(remedy, sizeof(remedy), "give a number from %" PRId64 " to %" PRId64,
			 param->minimum, param->maximum);
	return fail(error, param, ERROR_INVALID_REQUEST, remedy, text);
}

static int check_enum(const struct method_param *param, const json_t *value, json_t **ret_value,
		      struct error *error)
{
	char number[32], remedy[128] = "give one of:";
	const char *text = json_string_value(value);

	if (json_is_integer(value)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
			 json_integer_value(value));
		text = number;
	}
	if (!text)
		return fail_type(error, param, "text");
	for (const char *const *choice = param->choices; *choice; choice++) {
		size_t used = strlen(remedy);

		if (strcmp(*choice, text) == 0) {
			*ret_value = json_string(text);
			return *ret_value ? 0 : -ENOMEM;
		}
		snprintf(remedy + used, sizeof(remedy) - used, " %s", *choice);
	}
	return fail(error, param, ERROR_INVALID_REQUEST, remedy, text);
}

static int find_property(const char *name, enum policy_property *ret_property, struct error *error)
{
	if (policy_find(name, ret_property) == 0)
		return 0;
	error_set(error, ERROR_INVALID_REQUEST, name, "see: sarsen help container get",
		  "there is no property '%.80s'", name);
	return -EINVAL;
}

static int check_properties(const struct method_param *param, const json_t *value,
			    json_t **ret_value, struct error *error)
{
	_cleanup_json_ json_t *names = json_array();
	enum policy_property property;

	if (!json_is_array(value))
		return fail_type(error, param, "an array of names");
	for (size_t i = 0; i < json_array_size(value); i++) {
		const char *name = json_string_value(json_array_get(value, i));

		if (!name)
			return fail_type(error, param, "an array of names");
		if (find_property(name, &property, error) < 0)
			return -EINVAL;
		if (json_array_append_new(names, json_string(policy_info(property)->name)) < 0)
			return -ENOMEM;
	}
	*ret_value = TAKE_PTR(names);
	return 0;
}

/* Checked, a setting is a number as policy.h has it, or null. */
static int check_setting(const char *name, const json_t *value, json_t *settings,
			 struct error *error)
{
	const char *text = json_string_value(value);
	char range[POLICY_TEXT_MAX], remedy[POLICY_TEXT_MAX + 40];
	enum policy_property property;
	json_t *checked;
	uint64_t number;

	if (find_property(name, &property, error) < 0)
		return -EINVAL;
	if (json_is_null(value) || (text && strcmp(text, "default") == 0)) {
		checked = json_null();
	} else if (policy_text_from_json(property, value, &number) == 0) {
		checked = json_integer((json_int_t)number);
	} else {
		snprintf(remedy, sizeof(remedy), "give %s; or default",
			 policy_text_range(property, range));
		error_set(error, ERROR_INVALID_REQUEST, policy_info(property)->name, remedy,
			  "property '%s': '%.80s' is not a valid value",
			  policy_info(property)->name, text ? text : "that");
		return -EINVAL;
	}
	if (json_object_get(settings, policy_info(property)->name)) {
		error_set(error, ERROR_INVALID_REQUEST, name, "give it once",
			  "property '%s' is given twice", policy_info(property)->name);
		json_decref(checked);
		return -EINVAL;
	}
	return json_object_set_new(settings, policy_info(property)->name, checked);
}

static int check_settings(const struct method_param *param, const json_t *value, json_t **ret_value,
			  struct error *error)
{
	_cleanup_json_ json_t *settings = json_object();
	const char *name;
	json_t *one;

	if (!json_is_object(value) || json_object_size(value) == 0)
		return fail_type(error, param, "an object with a value for each property");
	json_object_foreach((json_t *)value, name, one)
	{
		int r = check_setting(name, one, settings, error);

		if (r < 0)
			return error->code == ERROR_NONE ? -ENOMEM : r;
	}
	*ret_value = TAKE_PTR(settings);
	return 0;
}

static int check_value(const struct method_param *param, const json_t *value, json_t **ret_value,
		       struct error *error)
{
	int r = 0;

	switch (param->type) {
	case PARAM_SIZE:
		return check_size(param, value, ret_value, error);
	case PARAM_ENUM:
		return check_enum(param, value, ret_value, error);
	case PARAM_PROPERTIES:
		return check_properties(param, value, ret_value, error);
	case PARAM_SETTINGS:
		return check_settings(param, value, ret_value, error);
	case PARAM_BOOL:
		if (!json_is_boolean(value))
			r = fail_type(error, param, "true or false");
		break;
	case PARAM_INTEGER:
		r = check_integer(param, value, error);
		break;
	default:
		r = check_text(param, value, error);
	}
	if (r < 0)
		return r;
	*ret_value = json_copy((json_t *)value);
	return *ret_value ? 0 : -ENOMEM;
}

static int check_known(const struct method *method, const json_t *given, struct error *error)
{
	char remedy[ERROR_TEXT_MAX];
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)given, key, value)
	{
		if (method_param_find(method, key))
			continue;
		snprintf(remedy, sizeof(remedy), "see: sarsen help %s %s; or /openapi.json",
			 method->noun, method->verb);
		error_set(error, ERROR_INVALID_REQUEST, key, remedy,
			  "%s.%s has no parameter '%.80s'", method->noun, method->verb, key);
		return -EINVAL;
	}
	return 0;
}

static int check_all(const struct method *method, const json_t *given, json_t *params,
		     struct error *error)
{
	char remedy[ERROR_TEXT_MAX];

	for (const struct method_param *param = method->params; param->name; param++) {
		const json_t *value = json_object_get(given, param->name);
		json_t *checked;
		int r;

		if (!value && !(param->flags & PARAM_REQUIRED))
			continue;
		if (!value) {
			snprintf(remedy, sizeof(remedy), "%s; see: sarsen help %s %s", param->help,
				 method->noun, method->verb);
			error_set(error, ERROR_INVALID_REQUEST, param->name, remedy,
				  "%s.%s needs the parameter '%s'", method->noun, method->verb,
				  param->name);
			return -EINVAL;
		}
		r = check_value(param, value, &checked, error);
		if (r < 0)
			return r;
		if (json_object_set_new(params, param->name, checked) < 0)
			return -ENOMEM;
	}
	return 0;
}

int params_check(const struct method *method, const json_t *given, json_t **ret_params,
		 struct error *ret_error)
{
	_cleanup_json_ json_t *params = json_object();
	int r;

	if (given && !json_is_object(given)) {
		error_set(ret_error, ERROR_INVALID_REQUEST, NULL,
			  "send a JSON object, {} when empty",
			  "the parameters are not a JSON object");
		return -EINVAL;
	}
	r = params ? check_known(method, given, ret_error) : -ENOMEM;
	if (r == 0)
		r = check_all(method, given, params, ret_error);
	if (r == -ENOMEM)
		error_set(ret_error, ERROR_INTERNAL, NULL, "try again", "out of memory");
	if (r < 0)
		return -EINVAL;
	*ret_params = TAKE_PTR(params);
	return 0;
}

static int number_from_text(const struct method_param *param, const char *text, json_t **ret_value,
			    struct error *error)
{
	char *end;
	long long number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (errno || end == text || *end)
		return fail(error, param, ERROR_INVALID_REQUEST, "give a whole number", text);
	*ret_value = json_integer(number);
	return 0;
}

/* "NAME=VALUE" becomes an object of one, checked but as it was written: the daemon reads it again.
 */
static int settings_from_text(const struct method_param *param, const char *text,
			      json_t **ret_value, struct error *error)
{
	_cleanup_json_ json_t *settings = NULL, *checked = NULL;
	const char *equals = strchr(text, '=');
	char name[64];
	int r;

	if (!equals || equals == text || (size_t)(equals - text) >= sizeof(name))
		return fail(error, param, ERROR_INVALID_REQUEST, "write PROPERTY=VALUE", text);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
	settings = json_pack("{s:s}", name, equals + 1);
	if (!settings)
		return fail_type(error, param, "text in UTF-8");
	r = check_settings(param, settings, &checked, error);
	if (r == 0)
		*ret_value = TAKE_PTR(settings);
	return r;
}

static int value_from_text(const struct method_param *param, const char *text, json_t **ret_value,
			   struct error *error)
{
	_cleanup_json_ json_t *value = NULL;
	int r;

	if (param->type == PARAM_SETTINGS)
		return settings_from_text(param, text, ret_value, error);
	if (param->type == PARAM_INTEGER) {
		r = number_from_text(param, text, &value, error);
		if (r < 0)
			return r;
	} else if (param->type == PARAM_PROPERTIES) {
		value = json_pack("[s]", text);
	} else if (param->type == PARAM_BOOL) {
		if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
			return fail_type(error, param, "true or false");
		value = json_boolean(strcmp(text, "true") == 0);
	} else {
		value = json_string(text);
		if (!value)
			return fail_type(error, param, "text in UTF-8");
	}
	return value ? check_value(param, value, ret_value, error) : -ENOMEM;
}

int params_from_text(const struct method_param *param, const char *text, json_t **ret_value,
		     struct error *ret_error)
{
	int r = value_from_text(param, text, ret_value, ret_error);

	if (r == -ENOMEM)
		error_set(ret_error, ERROR_INTERNAL, NULL, "try again", "out of memory");
	return r < 0 ? -EINVAL : 0;
}

const char *params_text(const json_t *params, const char *name)
{
	return json_string_value(json_object_get(params, name));
}

bool params_bool(const json_t *params, const char *name)
{
	return json_is_true(json_object_get(params, name));
}

int64_t params_integer(const json_t *params, const char *name, int64_t fallback)
{
	const json_t *value = json_object_get(params, name);

	return value ? json_integer_value(value) : fallback;
}
