/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_run.h"

int main(int argc, char **argv)
{
	return cli_run(argc, argv);
}
