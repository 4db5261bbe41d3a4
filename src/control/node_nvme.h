/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Virtual NVMe controllers of the node, for control/ only. The list, the entries and the rows live
 * on the node's home; link and controller on controller->home.
 *
 * Invariants.
 *  1. Every controller and attachment of the catalog is in its list, served or with the error that
 *     prevents it.
 *  2. `link` is set and cleared, and namespaces come and go, under controller->lock.
 *  3. A vDisk that is attached stays open, and cannot be deleted.
 *  4. The entry of a controller is freed by the call that deleted it, when nobody uses it.
 */
#include "control/keeper.h"
#include "control/node_priv.h"

enum node_controller_state {
	NODE_CONTROLLER_STARTING, /* its keeper is being started, or asked */
	NODE_CONTROLLER_ONLINE,
	NODE_CONTROLLER_FAILED, /* `error` tells why; it is tried again now and then */
	NODE_CONTROLLER_DELETING,
};

struct node_namespace {
	struct list_node link; /* in order of nsid */
	uint32_t nsid;
	uint32_t block_bytes; /* for the guest; 0 = the vDisk's own */
	uint64_t vdisk_id;
	bool read_only, shared;
	bool stale;    /* left behind: node_nvme_gate.c */
	bool managed;  /* the guest has made it: node_nvme_manage.c */
	bool detached; /* by the guest; then it is managed */
	int error;     /* why it is not served, or 0 */
};

struct node_controller {
	struct list_node entry; /* in order of id */
	struct node *node;
	uint64_t id;
	uint64_t subsystem_id;
	uint16_t controller_id;
	char name[KEEPER_NAME_MAX + 1];
	struct keeper_spec spec;
	uint64_t manage_container, manage_bytes; /* what its guest may make; 0 = nothing */
	bool has_managed;
	struct nvme_management managed; /* the last that its guest asked for */
	struct reactor *home;
	struct list namespaces;
	enum node_controller_state state;
	int error;
	struct nvme_link *link; /* NULL unless online */
	struct fiber_mutex lock;
	unsigned users; /* that read it, or wait for the lock */
	bool connecting;
	bool closing;       /* its link, under the lock */
	uint32_t cancelled; /* whoever opens its link is to give up; read on `home` */
	bool gated;         /* as the link was opened */
	bool begun;         /* it recovers, or will soon: it cannot be left behind any more */
	unsigned redone;    /* steps of its recovery, with this daemon; NVME_REDO_STEPS: all */
	uint64_t retry_pause_ns;
	struct fiber_task connect_task;
	struct reactor_timer retry;
	struct world_message lost_message;
	int lost_error;
};

struct node_controller_status {
	struct nvme_stats stats;
	struct vfu_counters counters;
	uint64_t keeper_pid, engine_epoch;
	uint32_t keeper_build; /* 0 = it does not tell */
	bool client_connected, engine_asleep, msix_enabled;
};

/* node_nvme.c */
int node_nvme_load(struct node *node); /* at start, when vDisks are open */
/* Nobody waits for keepers any more. */
void node_nvme_begin_close(struct node *node);
/* Waits for fibers at work, and leaves all keepers to the next daemon. */
void node_nvme_close(struct node *node);
struct node_controller *node_nvme_find(struct node *node, const char *name);
struct node_controller *node_nvme_after(struct node *node, uint64_t id);
/* Keeps the entry meanwhile. */
void node_nvme_use(struct node_controller *controller);
void node_nvme_unuse(struct node_controller *controller);
/* Begins to connect in a fiber of its own, unless it is connected or at it. */
void node_nvme_connect(struct node_controller *controller);
/* Until it is online, or has failed, or the time has passed. */
void node_nvme_wait(struct node_controller *controller, uint64_t timeout_ns);
/* -ENAMETOOLONG: its sockets' paths; -ENOSPC: no more controllers; -EEXIST. Under node->lock. */
struct node_nvme_wanted {
	const char *name;
	bool doorbells_mapped;
	unsigned queues;
	uint64_t manage_container, manage_bytes;
};
int node_nvme_create(struct node *node, const struct node_nvme_wanted *wanted,
		     struct node_controller **ret_controller);
/* By somebody who uses it, and does no more afterwards unless it fails. Ends the keeper, then
 * removes rows and entry. -ENOENT: another call deletes it; -EBUSY: a client is connected (without
 * `force`); -ETIMEDOUT: the keeper does not end; -ENOTCONN: it cannot be told to end (without
 * `force`). */
int node_nvme_delete(struct node_controller *controller, bool force);
/* The keeper executes its program anew, and the controller goes on. -ENOTCONN. */
int node_nvme_replace(struct node_controller *controller);
/* After node_nvme_wait(): 0, or why the keeper was not replaced. */
int node_nvme_replace_result(const struct node_controller *controller);
/* -ENOTCONN while it is not connected. */
int node_nvme_get_status(struct node_controller *controller,
			 struct node_controller_status *ret_status);

/* node_nvme_attach.c */
/* Within an operation on the vDisk. nsid 0: the lowest that is free. -EEXIST: nsid in use; -ENOSPC:
 * no more namespaces; -EINVAL: the block size. */
int node_nvme_attach(struct node_controller *controller, const struct node_vdisk *vdisk,
		     const struct node_namespace *wanted, uint32_t *ret_nsid);
int node_nvme_detach(struct node_controller *controller, uint32_t nsid); /* -ENOENT */
struct node_namespace *node_nvme_namespace(struct node_controller *controller, uint64_t vdisk_id);
/* The first controller that has the vDisk, or NULL. */
struct node_controller *node_nvme_holder(struct node *node, const struct node_vdisk *vdisk);
/* Does one of them have it alone? */
bool node_nvme_is_exclusive(struct node *node, const struct node_vdisk *vdisk);
/* nvme_link_options.formatted */
int node_nvme_formatted(void *context, uint32_t nsid, uint32_t block_bytes);
/* The vDisk is open after all: controllers that have it serve it. Within an operation on it. */
void node_nvme_reopened(struct node *node, const struct node_vdisk *vdisk);
void node_nvme_resized(struct node *node, const struct node_vdisk *vdisk);
/* The entries alone, of a controller without link whose rows are gone. */
void node_nvme_drop_namespaces(struct node_controller *controller);
/* All namespaces of a controller that was just connected. Under its lock. */
void node_nvme_attach_all(struct node_controller *controller);

/* Of a controller's list, under its lock. */
struct node_namespace *node_nvme_by_nsid(struct node_controller *controller, uint32_t nsid);
int node_nvme_choose_nsid(struct node_controller *controller, uint32_t *nsid); /* 0: the lowest */
int node_nvme_serve(struct node_controller *controller, uint32_t nsid);
void node_nvme_forget_namespace(struct node_namespace *ns);

/* node_nvme_manage.c: nvme_link_options.manage */
int node_nvme_manage(void *context, struct nvme_management *what);

/* node_nvme_gate.c */
/* Is its recovery to wait for that of others? */
bool node_nvme_is_gated(struct node_controller *controller);
/* Goes through the steps of recovery of a controller that was just started, unless it is lost
 * meanwhile. Under its lock. */
void node_nvme_pass_gate(struct node_controller *controller);

/* node_nvme_reserve.c */
/* Those of a vDisk that is attached as shared: made when they are first asked for. */
int node_nvme_reservations(struct node *node, struct node_vdisk *vdisk,
			   struct nvme_reservations **ret_reservations);
/* Ends them, with their row, when no controller shares the vDisk any more. */
void node_nvme_reservations_release(struct node *node, uint64_t vdisk_id);
/* At the end, when no controller is left; rows stay. */
void node_nvme_reservations_close(struct node *node);

/* node_nvme_rows.c */
/* And makes the node's identity, the first time. */
int node_nvme_read_rows(struct node *node);
int node_nvme_write_controller(const struct node_controller *controller);
int node_nvme_write_namespace(const struct node_controller *controller,
			      const struct node_namespace *ns);
/* Writes a row again that exists; 0 too when it is gone. -ESTALE: it was written meanwhile. */
int node_nvme_update_namespace(const struct node_controller *controller,
			       const struct node_namespace *ns);
/* The namespace's row is written or `deleted`, and with it what came of a command: NULL = nothing
 * to be remembered. */
int node_nvme_write_managed(struct node_controller *controller, const struct node_namespace *ns,
			    bool deleted, const struct nvme_management *result);
int node_nvme_delete_namespace(const struct node_controller *controller, uint32_t nsid);
int node_nvme_delete_controller(const struct node_controller *controller);
/* An entry without row, in its place in the list; spec.link is empty when the paths of its sockets
 * would be too long. -ENOMEM. */
int node_nvme_add(struct node *node, uint64_t id, const char *name,
		  struct node_controller **ret_controller);
/* In its place in the list. */
int node_nvme_add_namespace(struct node_controller *controller, const struct node_namespace *ns);
void node_nvme_free(struct node_controller *controller);
