/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Help of `sarsen`, made from the table of methods. */
#include <stdio.h>

#include "control/method.h"

/* Of one method, or of one noun, or (both NULL) of all. */
void cli_help(FILE *stream, const char *noun, const struct method *method);
