/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The command line of `sarsend`, over its configuration file. */
#include "control/config.h"

enum daemon_action {
	DAEMON_RUN,
	DAEMON_CHECK_CONFIG,
	DAEMON_CHECK_UPGRADE,
	DAEMON_CHECK_UPGRADE_JSON,
	DAEMON_HELP,
	DAEMON_VERSION,
};

/* Faults of the command line and of the file go to `fault`. -EINVAL after any. */
int daemon_args_parse(int argc, char **argv, struct config *ret_config,
		      enum daemon_action *ret_action, config_fault_fn *fault, void *arg);
extern const char daemon_help_text[];
