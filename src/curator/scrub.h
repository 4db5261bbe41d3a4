/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How far the scrub of a pool has come: a row of the catalog, so that it goes on after a restart,
 * and what it found: a row each, until the next one begins. From fibers.
 */
#include "catalog/catalog.h"
#include "vdisk/vdisk.h"

#define SCRUB_FINDINGS_MAX 1000u /* of one scrub are kept; the others only counted */

enum scrub_phase {
	SCRUB_IDLE,
	SCRUB_RUNNING,
	SCRUB_PAUSED,
};

struct scrub_tally {
	uint64_t begun_wall_ns, ended_wall_ns; /* 0: never */
	uint64_t bytes;                        /* read, copies counted */
	uint64_t put_right;                    /* blocks, from another copy */
	uint64_t damaged;                      /* blocks, on every copy */
	uint64_t pending;                      /* on every copy that could be reached */
	uint64_t left;                         /* blocks that a copy has wrong still */
};

struct scrub_state {
	enum scrub_phase phase;
	uint64_t since_wall_ns; /* the row was made */
	uint64_t vdisk, file;   /* the scrub under way is through with: those before, those of it */
	uint64_t findings;      /* rows of the one under way, or of the last */
	struct scrub_tally now, last;
};

enum scrub_subject {
	SCRUB_OF_VDISK,
	SCRUB_OF_LABEL,   /* of disk what.disk */
	SCRUB_OF_CATALOG, /* what.slots: how many rows differed; 0: it is damaged itself */
};

struct scrub_finding {
	enum scrub_subject subject;
	uint64_t vdisk;
	uint64_t wall_ns;
	struct vdisk_finding what;
};

/* Zeros when there is no row. -EUCLEAN. */
int scrub_load(struct catalog *catalog, uint64_t pool_id, struct scrub_state *ret_state);
int scrub_store(struct catalog *catalog, uint64_t pool_id, const struct scrub_state *state);
/* The same, and what was found since it was last stored, at once. */
int scrub_store_found(struct catalog *catalog, uint64_t pool_id, struct scrub_state *state,
		      const struct scrub_finding *findings, size_t count);
/* What was found of some files is not true any more: all findings become these, and the tallies
 * what `state` says, at once. */
int scrub_replace_found(struct catalog *catalog, uint64_t pool_id, struct scrub_state *state,
			const struct scrub_finding *findings, size_t count);
/* Counts a finding, or (`sign` -1) no more. */
void scrub_tally_add(struct scrub_tally *tally, const struct vdisk_finding *finding, int sign);
/* Begins one from the start: in `state`, and durable; what the last one found is forgotten. */
int scrub_begin(struct catalog *catalog, uint64_t pool_id, struct scrub_state *state,
		uint64_t wall_ns);
/* It has come to its end. */
void scrub_end(struct scrub_state *state, uint64_t wall_ns);
/* What was found, in that order; caller frees. Rows that are damaged are left out, and logged. */
int scrub_get_findings(struct catalog *catalog, uint64_t pool_id,
		       struct scrub_finding **ret_findings, size_t *ret_count);
/* All rows of a pool that is no more. */
int scrub_forget(struct catalog *catalog, uint64_t pool_id);
/* Is it time to begin one by itself? `interval_ns` 0: never. */
bool scrub_is_due(const struct scrub_state *state, uint64_t wall_ns, uint64_t interval_ns);
const char *scrub_phase_name(enum scrub_phase phase);
