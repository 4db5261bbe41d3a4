/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Methods of the table that the command line does itself (`local`), without the daemon. */
#include "cmd/cli_args.h"

struct cli_local {
	const struct cli_args *args;
	const char *socket; /* of the daemon, which may not run */
	json_t *result;     /* for printing as the method's columns say; NULL = nothing */
	struct error error;
};

/* The exit code; with `error` set when it is to be printed. The caller drops the result. */
int cli_local_run(struct cli_local *local);
