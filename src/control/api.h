/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The API: one function from a request to an answer, both JSON, by the table of methods. It does no
 * I/O but through the world, so it runs in the simulated one as well; http.h brings requests from
 * outside.
 */
#include "control/error.h"
#include "control/method.h"

struct node;

struct api_identity { /* who asks */
	const char *name;
	enum role role;
};

/*
 * From a fiber of the node's home. Gives {"schema":, "result":} or {"schema":, "error":}, and in
 * `ret_code` ERROR_NONE or the error's code. NULL without memory.
 */
json_t *api_call(struct node *node, const struct api_identity *identity, const char *method,
		 const json_t *params, enum error_code *ret_code);
