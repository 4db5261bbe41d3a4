/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Scrub of pools, as a service of the node. On its home, from fibers. */
#include "control/node_priv.h"
#include "curator/found.h"

/* Begins one from the start. -EALREADY: one is under way or paused. */
int node_scrub_start(struct node *node, struct node_pool *pool, uint64_t *ret_job);
/* Pauses, resumes or gives up the one under way: from one phase (idle: any) to the other. -ENOENT:
 * there is none. */
int node_scrub_change(struct node *node, struct node_pool *pool, enum scrub_phase from,
		      enum scrub_phase to);
/* The catalog, its mirrors and the labels of the pool's disks (node_scrub_facts.c): what is wrong
 * is put right where it can be, told, and added. 0, or why it must end. */
struct scrub_facts {
	struct scrub_tally tally;
	struct scrub_found found;
};
int node_scrub_facts(struct node *node, uint64_t pool_id, struct scrub_facts *facts);

/* Between pieces of what a scrub reads: `bytes` were read by now, of them `*seen_bytes` at the last
 * call. Waits as long as the configured rate asks for. A fiber of any reactor. */
void node_scrub_keep_rate(const struct node *node, uint64_t bytes, uint64_t *seen_bytes);

/* What is pending is looked at again when other disks can be reached than at the last time, while
 * no scrub is under way (node_scrub_again.c). */
void node_scrub_look_again(struct node *node, uint64_t pool_id);

/* What is said of findings, node_scrub_text.c. */
void node_scrub_tell(struct node *node, const struct node_vdisk *vdisk,
		     const struct vdisk_finding *finding); /* an event */
const char *node_scrub_kind_name(enum vdisk_finding_kind kind);
const char *node_scrub_use_name(enum vdisk_use use);
#define NODE_SCRUB_PLACE_MAX 128
const char *node_scrub_place(const struct vdisk_finding *finding, uint32_t block_bytes,
			     char ret_place[static NODE_SCRUB_PLACE_MAX]);
/* Of one that runs or ran, with what it found. */
json_t *node_scrub_result_to_json(struct node *node, uint64_t pool_id,
				  const struct scrub_state *state);
/* An array; NULL with *ret_error when they cannot be read. */
json_t *node_scrub_findings_to_json(struct node *node, uint64_t pool_id, size_t limit,
				    int *ret_error);

void node_scrub_start_service(struct node *node);
