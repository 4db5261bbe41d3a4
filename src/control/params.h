/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Parameters of a method: checked against the table, whoever sent them. After params_check() a
 * handler finds every required parameter, each with its type, and no unknown one; sizes are
 * integers (bytes).
 */
#include "control/error.h"
#include "control/method.h"

#define PARAMS_NAME_MAX 63 /* of a pool, a container or a vDisk within its container */

/* `given` is any JSON value or NULL; a new object comes back. -EINVAL with `ret_error` filled. */
int params_check(const struct method *method, const json_t *given, json_t **ret_params,
		 struct error *ret_error);
/* The JSON value for a parameter given as text (command line). -EINVAL with `ret_error` filled. */
int params_from_text(const struct method_param *param, const char *text, json_t **ret_value,
		     struct error *ret_error);

/* After params_check(): absent ones give NULL, false, `fallback`. */
const char *params_text(const json_t *params, const char *name);
bool params_bool(const json_t *params, const char *name);
int64_t params_integer(const json_t *params, const char *name, int64_t fallback);

/* Splits a checked PARAM_VDISK. */
struct params_vdisk_name {
	char container[PARAMS_NAME_MAX + 1];
	char vdisk[PARAMS_NAME_MAX + 1];
};
int params_split_vdisk(const char *name, struct params_vdisk_name *ret_name); /* -EINVAL */
