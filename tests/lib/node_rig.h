/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A whole node in a simulated world, for tests: what sarsend is but for HTTP, the lock and threads.
 * Not from fibers: each call runs one and waits for it in virtual time.
 */
#include "block/block.h"
#include "control/api.h"
#include "control/node.h"

#include "keeper_rig.h"
#include "sim_rig.h"

#define NODE_RIG_DISK "/disk0"

struct node_rig {
	struct sim_rig sim;
	struct node *node;              /* NULL while it is stopped */
	enum role role;                 /* of the caller; administrator at first */
	bool iscsi;                     /* at the next start; true at first */
	bool nvme;                      /* the same */
	struct keeper_rig keepers;      /* outlive the node */
	const struct place_ops *places; /* at the next start; NULL at first */
	void *places_context;
	unsigned max_controllers; /* at the next start; of namespaces and queues too */
	uint64_t fail_json;       /* the n-th allocation for JSON within a call fails; 0 = none */
	struct error error;       /* of the last start */
	enum error_code code;     /* of the last call */
};

/* One disk of 8 GiB, NODE_RIG_DISK, with the directory state/. */
void node_rig_init(struct node_rig *rig, uint64_t seed, unsigned reactor_count);
void node_rig_done(struct node_rig *rig);
int node_rig_start(struct node_rig *rig);
void node_rig_stop(struct node_rig *rig);
/* Kills it; then it can be started again. */
void node_rig_crash(struct node_rig *rig, enum sim_crash kind);
/* A call of the API with parameters as JSON text; the whole answer, which the caller frees. */
json_t *node_rig_call(struct node_rig *rig, const char *method, const char *params);
/* The same for one that must succeed with `code`, e.g. ERROR_NONE; aborts otherwise. */
void node_rig_expect(struct node_rig *rig, enum error_code code, const char *method,
		     const char *params);
/* Several calls at a time; codes in ret_codes. */
#define NODE_RIG_CALLS 16
void node_rig_call_all(struct node_rig *rig, unsigned count, const char *const (*calls)[2],
		       enum error_code *ret_codes);
/* Reads or writes, and flushes, the start of the node's first vDisk, which is open. */
int node_rig_transfer(struct node_rig *rig, enum block_op op, void *bytes, size_t length);
/* A pool "p" of 1 GiB and a container "c". */
void node_rig_make_pool(struct node_rig *rig);
