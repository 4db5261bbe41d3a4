/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The command line of `sarsen-fsck`, and how its findings are shown. */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "control/config.h"
#include "fsck/fsck.h"

/* As in fsck(8). */
enum fsck_exit {
	FSCK_EXIT_CLEAN = 0,
	FSCK_EXIT_CORRECTED = 1,
	FSCK_EXIT_LEFT = 4,
	FSCK_EXIT_OPERATION = 8,
	FSCK_EXIT_USAGE = 16,
	FSCK_EXIT_CANCELED = 32,
};

#define FSCK_DIRECTORIES_MAX 256

struct fsck_args {
	char state[CONFIG_PATH_MAX];
	bool show_only, json, help, version;
	bool rebuild, force;
	char *directories[FSCK_DIRECTORIES_MAX]; /* for the rest of the process */
	size_t directory_count;
};

/* -EINVAL; what is wrong was told on stderr. */
int fsck_args_parse(int argc, char **argv, struct fsck_args *ret_args);
extern const char fsck_help_text[];

struct fsck_print {
	FILE *out;
	bool show_only, terminal;
	bool progress_shown;
	json_t *findings; /* with JSON; else NULL */
};
void fsck_print_finding(struct fsck_print *print, const struct fsck_finding *finding);
void fsck_print_progress(struct fsck_print *print, uint64_t bytes_done, uint64_t bytes_total);
void fsck_print_report(struct fsck_print *print, const struct fsck_report *report);
int fsck_exit_of(const struct fsck_report *report);
