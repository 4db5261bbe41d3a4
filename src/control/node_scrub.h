/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Scrub of pools, as a service of the node. On its home, from fibers. */
#include "control/node_priv.h"
#include "curator/scrub.h"

/* Begins one from the start. -EALREADY: one is under way or paused. */
int node_scrub_start(struct node *node, struct node_pool *pool, uint64_t *ret_job);
/* Pauses, resumes or gives up the one under way: from one phase (idle: any) to the other. -ENOENT:
 * there is none. */
int node_scrub_change(struct node *node, struct node_pool *pool, enum scrub_phase from,
		      enum scrub_phase to);
/* The catalog, its mirrors and the labels of the pool's disks (node_scrub_facts.c): what is wrong
 * is put right where it can be, told, and added to the tally. 0, or why it must end. */
int node_scrub_facts(struct node *node, uint64_t pool_id, struct scrub_tally *tally);
void node_scrub_start_service(struct node *node);
