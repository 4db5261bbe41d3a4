/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The node: what one daemon consists of. It opens the catalog, the pools, the vDisks and the
 * exports that the catalog names, keeps them until it is stopped, and gives api.h something to work
 * on.
 *
 * All functions are called from fibers of reactors[0], the node's home. World, reactors and all
 * strings of the options belong to the caller and outlive the node.
 */
#include "control/error.h"
#include "control/keeper.h"
#include "control/place.h"
#include "frontend/iscsi/iscsi.h"

struct node;

struct node_nvme_options {
	const struct keeper_ops *keepers; /* NULL = NVMe is disabled */
	void *keepers_context;
	const char *directory;                                /* of the sockets */
	int fence_fd;                                         /* nvme_link_options.fence_fd */
	unsigned max_controllers, max_queues, max_namespaces; /* the latter two of a controller */
	uint64_t in_flight_bytes;                             /* of a controller */
};

/* Daemons before this one whose I/O may still land (pool/pool_fence.h). */
struct node_dead_options {
	unsigned count; /* at start */
	int pid;        /* of one of them */
	/* How many are left; on a worker. */
	unsigned (*poll)(void *arg, bool *ret_may_name);
	void *arg;
};

struct node_options {
	struct world *world;
	struct reactor **reactors;
	unsigned reactor_count;
	const char *state_directory; /* exists; holds catalog.db */
	const char *catalog_vfs;     /* NULL = the system's */
	const char *restore_catalog; /* NULL, or the directory of a disk whose mirror takes the
					catalog's place */
	uint64_t map_budget_bytes;   /* for the maps of all vDisks */
	uint64_t scrub_days;         /* between scrubs of a pool; 0 = only when asked for */
	uint64_t scrub_rate_bytes;   /* a second, of one pool; 0 = no limit */
	uint64_t disk_timeout_ns;    /* of one operation; 0 = POOL_DISK_TIMEOUT_NS */
	bool iscsi_enabled;
	struct iscsi_server_options iscsi;
	const char *iscsi_announce; /* host in URLs; NULL or "" = the address */
	struct node_nvme_options nvme;
	struct node_dead_options dead;
	const struct place_ops *places; /* NULL = nothing is known of where disks are */
	void *places_context;
	uint64_t process_id; /* shown */
	/* Percent of what may be live in a pool that events tell of, rising; all 0: 75, 90, 95. */
	unsigned space_percents[3];
};

/* A pool, vDisk or export that cannot be opened does not prevent the start: it is logged, and shown
 * as failed. Fails, with `ret_error` filled, when there is no usable catalog or iSCSI cannot
 * listen. */
int node_start(const struct node_options *options, struct node **ret_node, struct error *ret_error);
/* From here on calls are refused and waiting ones are answered. */
void node_begin_stop(struct node *node);
/* Drops sessions, waits for jobs, closes all. No API call is running. */
void node_stop(struct node *node);
