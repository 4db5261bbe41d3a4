/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* `sarsen support-bundle`: all that helps to find out what is wrong, in one tar file. */
#include "cmd/cli_args.h"

/* What cannot be had (the daemon may be down) is named in the bundle instead. 0, or a negative
 * errno with `ret_error` filled. */
int cli_bundle_write(const struct cli_args *args, const char *socket, struct error *ret_error);
