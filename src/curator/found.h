/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a part of a scrub has found until it is written down: the first SCRUB_FOUND_MAX findings,
 * and how many more there were. What belongs to a file that is not done is found again when it is
 * read again, so it counts only when the file is done, but for what was put right. Pure.
 */
#include "curator/scrub.h"

#define SCRUB_FOUND_MAX 128u

struct scrub_found {
	struct scrub_finding findings[SCRUB_FOUND_MAX];
	unsigned count;
	uint64_t untold;                 /* more than these, of files that are done */
	uint64_t last_file, last_untold; /* of the file that may be under way */
};

/* Files come in order of id. */
void scrub_found_add(struct scrub_found *found, const struct vdisk_finding *finding);
/* What is not of a file. */
void scrub_found_add_fact(struct scrub_found *found, const struct scrub_finding *finding);
/* Files up to `done` are; UINT64_MAX: all of them. */
void scrub_found_end(struct scrub_found *found, uint64_t done);
