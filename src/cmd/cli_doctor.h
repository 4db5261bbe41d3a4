/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Is this host fit for the daemon? Looks at kernel, limits, file systems, clock, space and the
 * configuration, without the daemon. */
#include <jansson.h>
#include <stdbool.h>

/* Rows {"verdict": ok|warn|fail, "check", "found", "remedy"}; NULL without memory. `config` and
 * `directory` may be NULL. *ret_failed: is one of them a failure? */
json_t *cli_doctor(const char *config, const char *directory, bool *ret_failed);
