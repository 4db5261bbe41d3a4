/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Results of methods as tables for people, by the columns of the table of methods. */
#include <jansson.h>
#include <stdio.h>

#include "control/method.h"

struct cli_print_options {
	bool no_header; /* and one tab between columns */
	bool exact;
};

/* -ENOMEM, or 0. */
int cli_print(FILE *stream, const struct method *method, const json_t *result,
	      const struct cli_print_options *options);

#define CLI_CELL_MAX 512
/* One value as text: "10G", "1.50ms", "yes"; "-" for one that is absent. */
void cli_print_cell(const json_t *value, enum column_type type, bool exact,
		    char ret_text[static CLI_CELL_MAX]);
