/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Single cases of the check, its repairs and the rebuild, each made on purpose in a world of its
 * own: the table of them, and what the programs that have one share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_rig.h"

#define CAPACITY (512 * MIB)
#define SIZE     (64 * MIB) /* of the vDisk */
#define SCRATCH  ENGINE_RIG_DISK "/scratch"
#define CATALOG  ENGINE_RIG_DISK "/catalog.db"

#define CHECK(condition)                                                                       \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s: line %d: %s\n", case_name, __LINE__, #condition); \
			abort();                                                               \
		}                                                                              \
	} while (0)

struct fsck_case {
	const char *name;
	unsigned disks, factor;
	int (*phases[4])(struct engine_rig *rig); /* in fibers; between them the process dies */
	int (*outer)(struct engine_rig *rig);     /* in their place, and not in a fiber */
	unsigned seeds; /* that it is run with, for what is left to chance; 0 = 1 */
	bool is_slow;   /* runs when it is named */
};

extern const char *case_name;
extern unsigned char *buffer; /* of 1 MiB, aligned */

/* Of `main`: all that are not slow, or the one that is named. */
int fsck_cases_run(int argc, char **argv, const struct fsck_case *cases, size_t count,
		   void (*run)(const struct fsck_case *one));
