/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What `sarsen` does with its command line: ask, call, wait for jobs, print. Returns the exit code.
 */
int cli_run(int argc, char **argv);
