/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Completion of the command line for shells, made from the table of methods. */
#include <stdio.h>

void cli_completion_bash(FILE *stream);
