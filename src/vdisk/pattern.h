/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Whether a vDisk is being written in sequence or at random, found out from its writes alone.
 *
 * A run is a range of blocks that was written without a gap and without writing one twice, by
 * writes in any order: one that arrives early is a run of its own until what lies between has come.
 * The last PATTERN_RUNS are known, those that grow rather than others. A run counts as sequential
 * from 8 writes or 1 MiB on, and then all of it does; what is forgotten before that counts as
 * random. After each 8 MiB that were told apart the verdict is given anew: "sequential" when seven
 * eighths were. So a backup with some metadata is sequential, and a database on a file system,
 * whose journal alone is written in sequence, is not; where both are mixed the answer is "random",
 * for that is where speed matters.
 *
 * Of one reactor. Nothing is allocated, and noting a write looks at two runs, which it finds by a
 * table. There one run may push another out: that one has ended then, which changes little.
 */
#include <stdbool.h>
#include <stdint.h>

#define PATTERN_RUNS          32u
#define PATTERN_SLOTS         256u
#define PATTERN_RUN_WRITES    8u
#define PATTERN_RUN_BLOCKS    256u  /* of 4 KiB */
#define PATTERN_WINDOW_BLOCKS 2048u /* between two verdicts */
#define PATTERN_SHARE         8u    /* all but one of so many parts: sequential */

struct pattern {
	struct pattern_run {
		uint64_t first, end; /* UINT64_MAX: there is none */
		uint64_t untold;     /* blocks that neither sum below has */
		uint32_t writes;     /* up to PATTERN_RUN_WRITES */
		bool grew;           /* since the hand came by */
	} runs[PATTERN_RUNS];
	unsigned hand; /* the run that is forgotten next, if it has not grown */
	uint8_t by_first[PATTERN_SLOTS], by_end[PATTERN_SLOTS]; /* runs, by hash; may be wrong */
	uint64_t sequential_blocks, random_blocks;              /* since the last verdict */
	bool sequential;                                        /* the verdict */
};

void pattern_init(struct pattern *pattern);
/* Blocks first to end - 1 are written. True: the verdict has changed. */
bool pattern_note(struct pattern *pattern, uint64_t first, uint64_t end);
