/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* How `sarsen-fsck --rebuild-catalog` shows what it finds and does. */
#include "cmd/fsck_args.h"
#include "fsck/fsck_rebuild.h"

struct fsck_rebuild_print {
	struct fsck_print *print;
	json_t *vdisks; /* with JSON */
};
void fsck_rebuild_print_note(struct fsck_rebuild_print *print,
			     const struct fsck_rebuild_note *note);
void fsck_rebuild_print_vdisk(struct fsck_rebuild_print *print,
			      const struct fsck_rebuild_vdisk *vdisk);
/* What was done, by the result of fsck_rebuild(), and what is to be done now. */
void fsck_rebuild_print_end(struct fsck_rebuild_print *print,
			    const struct fsck_rebuild_report *report, int result);
