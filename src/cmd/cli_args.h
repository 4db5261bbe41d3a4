/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The command line of `sarsen`, taken apart by the table of methods:
 *
 *     sarsen [OPTION...] NOUN VERB [ARGUMENT...] [--PARAMETER VALUE...]
 */
#include "control/error.h"
#include "control/method.h"

enum cli_action {
	CLI_CALL,
	CLI_HELP, /* of everything, of `noun`, or of `method` */
	CLI_VERSION,
};

struct cli_args {
	enum cli_action action;
	const char *noun;            /* CLI_HELP; NULL = all */
	const struct method *method; /* CLI_CALL; CLI_HELP of one method, or NULL */
	json_t *params;
	const char *socket; /* NULL = not given */
	bool json, no_header, exact, yes, no_wait;
};

/* Strings are those of argv. -EINVAL with `ret_error` filled; `json` in ret_args is set even then.
 */
int cli_args_parse(int argc, char **argv, struct cli_args *ret_args, struct error *ret_error);
void cli_args_done(struct cli_args *args);
/* Does what is asked destroy something, so that it needs a confirmation? */
bool cli_args_destroys(const struct cli_args *args);
