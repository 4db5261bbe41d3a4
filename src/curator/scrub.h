/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How far the scrub of a pool has come: a row of the catalog, so that it goes on after a restart,
 * and what the last one found. From fibers.
 */
#include "catalog/catalog.h"

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
};

struct scrub_state {
	enum scrub_phase phase;
	uint64_t since_wall_ns; /* the row was made */
	uint64_t vdisk, file;   /* the scrub under way is through with: those before, those of it */
	struct scrub_tally now, last;
};

/* Zeros when there is no row. -EUCLEAN. */
int scrub_load(struct catalog *catalog, uint64_t pool_id, struct scrub_state *ret_state);
int scrub_store(struct catalog *catalog, uint64_t pool_id, const struct scrub_state *state);
/* Begins one from the start. */
void scrub_begin(struct scrub_state *state, uint64_t wall_ns);
/* It has come to its end. */
void scrub_end(struct scrub_state *state, uint64_t wall_ns);
/* Is it time to begin one by itself? `interval_ns` 0: never. */
bool scrub_is_due(const struct scrub_state *state, uint64_t wall_ns, uint64_t interval_ns);
const char *scrub_phase_name(enum scrub_phase phase);
