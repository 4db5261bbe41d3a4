/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "control/params.h"

/* Checks `text` against a method; NULL when it is refused with `code`. */
static json_t *check(enum method_id id, const char *text, enum error_code code)
{
	_cleanup_json_ json_t *given = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	struct error error = {0};
	json_t *params = NULL;

	assert_non_null(given);
	if (params_check(method_get(id), given, &params, &error) == 0) {
		assert_int_equal(code, ERROR_NONE);
		return params;
	}
	assert_null(params);
	assert_int_equal(error.code, code);
	assert_true(error.message[0]);
	return NULL;
}

static void refuses(enum method_id id, const char *text, enum error_code code)
{
	assert_true(code != ERROR_NONE);
	assert_null(check(id, text, code));
}

static void accepts_and_normalises(void **state)
{
	_cleanup_json_ json_t *params = check(METHOD_VDISK_CREATE,
					      "{\"name\": \"default/Disk_0\", \"size\": \"10G\", "
					      "\"block\": 4096}",
					      ERROR_NONE);
	_cleanup_json_ json_t *number =
		check(METHOD_VDISK_CREATE, "{\"name\": \"a/b\", \"size\": 4096}", ERROR_NONE);
	_cleanup_json_ json_t *empty = NULL;
	struct error error = {0};

	assert_string_equal(params_text(params, "name"), "default/Disk_0");
	assert_int_equal(params_integer(params, "size", 0), 10 * GIB);
	assert_string_equal(params_text(params, "block"), "4096");
	assert_int_equal(params_integer(number, "size", 0), 4096);
	assert_null(params_text(number, "block"));
	assert_false(params_bool(number, "shrink"));
	assert_int_equal(params_integer(number, "absent", 5), 5);
	assert_int_equal(params_check(method_get(METHOD_POOL_LIST), NULL, &empty, &error), 0);
	assert_int_equal(json_object_size(empty), 0);
}

static void refuses_shapes(void **state)
{
	refuses(METHOD_POOL_LIST, "[]", ERROR_INVALID_REQUEST);
	refuses(METHOD_POOL_LIST, "\"x\"", ERROR_INVALID_REQUEST);
	refuses(METHOD_POOL_LIST, "null", ERROR_INVALID_REQUEST);
	refuses(METHOD_POOL_LIST, "{\"x\": 1}", ERROR_INVALID_REQUEST);
	refuses(METHOD_POOL_SHOW, "{}", ERROR_INVALID_REQUEST);
	refuses(METHOD_POOL_SHOW, "{\"name\": 5}", ERROR_INVALID_REQUEST);
	refuses(METHOD_POOL_SHOW, "{\"name\": null}", ERROR_INVALID_REQUEST);
	refuses(METHOD_POOL_SHOW, "{\"name\": \"a\\u0000b\"}", ERROR_INVALID_REQUEST);
	refuses(METHOD_VDISK_CHECK, "{\"name\": \"a/b\", \"data\": 1}", ERROR_INVALID_REQUEST);
	refuses(METHOD_VDISK_CHECK, "{\"name\": \"a/b\", \"data\": \"true\"}",
		ERROR_INVALID_REQUEST);
	refuses(METHOD_JOB_SHOW, "{\"id\": 0}", ERROR_INVALID_REQUEST);
	refuses(METHOD_JOB_SHOW, "{\"id\": 1.5}", ERROR_INVALID_REQUEST);
	refuses(METHOD_JOB_SHOW, "{\"id\": \"1\"}", ERROR_INVALID_REQUEST);
	refuses(METHOD_JOB_WAIT, "{\"id\": 1, \"timeout_ms\": 30001}", ERROR_INVALID_REQUEST);
	refuses(METHOD_VDISK_CREATE, "{\"name\": \"a/b\", \"size\": 4096, \"block\": 1024}",
		ERROR_INVALID_REQUEST);
	refuses(METHOD_VDISK_CREATE, "{\"name\": \"a/b\", \"size\": 4096, \"block\": true}",
		ERROR_INVALID_REQUEST);
}

static void refuses_names(void **state)
{
	static const char *const bad[] = {
		"",    "/",    "a",    "a/",    "/b",          "a//b", "a/b/c",
		"A/b", "a/.b", ".a/b", "a b/c", "a/b\xc3\xa4", "../x", "a/..",
	};
	char name[200], text[300];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "{\"name\": \"%s\"}", bad[i]);
		refuses(METHOD_VDISK_SHOW, text, ERROR_INVALID_NAME);
	}
	refuses(METHOD_POOL_SHOW, "{\"name\": \"Big\"}", ERROR_INVALID_NAME);
	refuses(METHOD_POOL_SHOW, "{\"name\": \"a/b\"}", ERROR_INVALID_NAME);
	/* At the limit and one past it. */
	memset(name, 'n', sizeof(name));
	snprintf(text, sizeof(text), "{\"name\": \"%.63s/%.63s\"}", name, name);
	json_decref(check(METHOD_VDISK_SHOW, text, ERROR_NONE));
	snprintf(text, sizeof(text), "{\"name\": \"%.64s/%.63s\"}", name, name);
	refuses(METHOD_VDISK_SHOW, text, ERROR_INVALID_NAME);
	snprintf(text, sizeof(text), "{\"name\": \"%.63s/%.64s\"}", name, name);
	refuses(METHOD_VDISK_SHOW, text, ERROR_INVALID_NAME);
}

static void refuses_sizes(void **state)
{
	static const char *const bad[] = {"-1",     "\"-1\"",   "\"\"", "\"1.5G\"",
					  "\"8E\"", "\"10 G\"", "\"G\""};
	char text[100];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "{\"name\": \"a/b\", \"size\": %s}", bad[i]);
		refuses(METHOD_VDISK_CREATE, text, ERROR_INVALID_SIZE);
	}
	refuses(METHOD_VDISK_CREATE, "{\"name\": \"a/b\", \"size\": 1.5}", ERROR_INVALID_REQUEST);
	refuses(METHOD_VDISK_CREATE, "{\"name\": \"a/b\", \"size\": {}}", ERROR_INVALID_REQUEST);
}

static void takes_text(void **state)
{
	const struct method *create = method_get(METHOD_VDISK_CREATE);
	const struct method *wait = method_get(METHOD_JOB_WAIT);
	const struct method *resize = method_get(METHOD_VDISK_RESIZE);
	struct error error = {0};
	json_t *value;

	assert_int_equal(params_from_text(method_param_find(create, "size"), "1M", &value, &error),
			 0);
	assert_int_equal(json_integer_value(value), MIB);
	json_decref(value);
	assert_int_equal(params_from_text(method_param_find(wait, "id"), "12", &value, &error), 0);
	assert_int_equal(json_integer_value(value), 12);
	json_decref(value);
	assert_int_equal(
		params_from_text(method_param_find(resize, "shrink"), "true", &value, &error), 0);
	assert_true(json_is_true(value));
	json_decref(value);
	assert_int_equal(
		params_from_text(method_param_find(create, "block"), "4096", &value, &error), 0);
	json_decref(value);

	assert_int_equal(params_from_text(method_param_find(wait, "id"), "12x", &value, &error),
			 -EINVAL);
	assert_int_equal(params_from_text(method_param_find(wait, "id"), "", &value, &error),
			 -EINVAL);
	assert_int_equal(params_from_text(method_param_find(wait, "id"), "99999999999999999999",
					  &value, &error),
			 -EINVAL);
	assert_int_equal(params_from_text(method_param_find(resize, "shrink"), "1", &value, &error),
			 -EINVAL);
	assert_int_equal(
		params_from_text(method_param_find(create, "name"), "\xff/\xff", &value, &error),
		-EINVAL);
}

static void splits(void **state)
{
	struct params_vdisk_name name;

	assert_int_equal(params_split_vdisk("web.1/Root-disk", &name), 0);
	assert_string_equal(name.container, "web.1");
	assert_string_equal(name.vdisk, "Root-disk");
	assert_int_equal(params_split_vdisk("web", &name), -EINVAL);
}

static void reads_settings(void **state)
{
	_cleanup_json_ json_t *params =
		check(METHOD_CONTAINER_SET,
		      "{\"name\": \"c\", \"set\": {\"max-capacity\": \"10G\", "
		      "\"min_reserved\": 4096, \"tier_order_random\": \"hdd,ssd\", "
		      "\"max_capacity_ssd\": \"none\", \"stripe_width\": null}}",
		      ERROR_NONE);
	_cleanup_json_ json_t *names =
		check(METHOD_VDISK_GET,
		      "{\"name\": \"c/d\", \"properties\": [\"stripe-width\"]}", ERROR_NONE);
	static const char *const bad[] = {
		"{}", "[]", "1", "null", "{\"nosuch\": 1}", "{\"max_capacity\": -1}",
		"{\"max_capacity\": 1}", "{\"max_capacity\": \"1\"}", "{\"max_capacity\": 1.5}",
		"{\"min_reserved\": \"none\"}", "{\"replication_factor\": \"\"}",
		"{\"replication_factor\": \"2x\"}", "{\"replication_factor\": \"-2\"}",
		"{\"tier_order_random\": 1}", "{\"tier_order_random\": \"\"}",
		"{\"tier_order_random\": \"ssd,\"}", "{\"tier_order_random\": \"ssd,ssd\"}",
		"{\"tier_order_random\": \"ssd,hdd,san,cloud,ssd\"}",
		"{\"tier_order_random\": \"sd\"}", "{\"space_low\": 101}",
		"{\"stripe_width\": true}",
		"{\"stripe_width\": 1, \"stripe-width\": 2}", "{\"stripe_width\": []}",
	};
	const json_t *set = json_object_get(params, "set");

	assert_int_equal(json_object_size(set), 5);
	assert_int_equal(params_integer(set, "max_capacity", 0), 10 * GIB);
	assert_int_equal(params_integer(set, "min_reserved", 0), 4096);
	assert_int_equal(params_integer(set, "tier_order_random", 0), 0x12);
	assert_true(params_integer(set, "max_capacity_ssd", 0) == INT64_MAX);
	assert_true(json_is_null(json_object_get(set, "stripe_width")));
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(names, "properties"), 0)),
		"stripe_width");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char text[200];

		snprintf(text, sizeof(text), "{\"name\": \"c\", \"set\": %s}", bad[i]);
		refuses(METHOD_CONTAINER_SET, text, ERROR_INVALID_REQUEST);
	}
	refuses(METHOD_CONTAINER_GET, "{\"name\": \"c\", \"properties\": \"x\"}",
		ERROR_INVALID_REQUEST);
	refuses(METHOD_CONTAINER_GET, "{\"name\": \"c\", \"properties\": [1]}",
		ERROR_INVALID_REQUEST);
	refuses(METHOD_CONTAINER_GET, "{\"name\": \"c\", \"properties\": [\"x\"]}",
		ERROR_INVALID_REQUEST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_and_normalises),
		cmocka_unit_test(refuses_shapes),
		cmocka_unit_test(refuses_names),
		cmocka_unit_test(refuses_sizes),
		cmocka_unit_test(takes_text),
		cmocka_unit_test(splits),
		cmocka_unit_test(reads_settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
