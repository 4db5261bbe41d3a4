/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_local.h"

#include "cmd/cli_completion.h"

int cli_local_run(struct cli_local *local)
{
	switch (method_id(local->args->method)) {
	case METHOD_COMPLETION_BASH:
		cli_completion_bash(stdout);
		return EXIT_CODE_OK;
	default:
		ASSERT(false); /* a method that is marked as local stands above */
	}
}
