/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_local.h"

#include "cmd/cli_bundle.h"
#include "cmd/cli_completion.h"
#include "cmd/cli_doctor.h"
#include "control/params.h"

static int doctor(struct cli_local *local)
{
	const json_t *params = local->args->params;
	bool failed = false;

	local->result = cli_doctor(params_text(params, "config"), params_text(params, "directory"),
				   &failed);
	if (!local->result)
		error_set(&local->error, ERROR_INTERNAL, NULL, "try again", "out of memory");
	return failed || !local->result ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}

int cli_local_run(struct cli_local *local)
{
	switch (method_id(local->args->method)) {
	case METHOD_COMPLETION_BASH:
		cli_completion_bash(stdout);
		return EXIT_CODE_OK;
	case METHOD_DOCTOR_RUN:
		return doctor(local);
	case METHOD_SUPPORT_BUNDLE_WRITE:
		return cli_bundle_write(local->args, local->socket, &local->error) < 0
			       ? EXIT_CODE_FAILED
			       : EXIT_CODE_OK;
	default:
		ASSERT(false); /* a method that is marked as local stands above */
	}
}
