/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* `sarsen event follow`: one call of the API after the other, each from where the last ended. */
#include "cmd/cli_args.h"

/* Prints as events come, with JSON one a line. Goes on until the daemon is gone or, when that was
 * asked for, until there was none for timeout_ms. 0, or -EIO with `ret_error` filled. */
int cli_follow(const struct cli_args *args, const char *socket, struct error *ret_error);
