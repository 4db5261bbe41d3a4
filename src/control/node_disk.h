/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The disks of the node's pools, and the repair of what is on them. From fibers of the node's home
 * reactor.
 */
#include "control/node_priv.h"
#include "pool/pool_disk.h"

/* node_disk.c */
/* A disk by its id, directory or UUID, in whichever pool it is. -ENOENT. Under the node's lock. */
int node_disk_find(struct node *node, const char *text, struct node_pool **ret_pool,
		   uint64_t *ret_id);
int node_disk_add(struct node_pool *pool, const struct pool_disk_spec *spec, uint64_t *ret_id);
int node_disk_get(struct node_pool *pool, uint64_t id, struct pool_disk_info *ret_info);
/* False: it is gone, was given up, or has an operation that does not come back. */
bool node_disk_answers(const struct pool_disk_info *info);
/* pool_disks_gone(), but never 0. */
uint64_t node_disks_out(const struct pool *pool);
/* Caller frees. */
int node_disk_list(struct node_pool *pool, struct pool_disk_info **ret_infos, size_t *ret_count);
enum node_disk_change {
	NODE_DISK_DRAIN,
	NODE_DISK_KEEP, /* drains no more */
	NODE_DISK_FAIL,
	NODE_DISK_RESTORE,
	NODE_DISK_REMOVE,
};
int node_disk_change(struct node_pool *pool, uint64_t id, enum node_disk_change change);
/* The key of what that table has about a disk; disk 0: what the keys of a pool begin with. */
struct catalog_key node_disk_key(enum catalog_table table, uint64_t pool_id, uint64_t disk_id);
/* Commits a change of a row that is about a disk, unless the disk is gone by then (-ENOENT): who
 * was slow does not bring back what was forgotten with it. */
int node_disk_commit(struct node *node, uint64_t pool_id, uint64_t disk_id,
		     const struct catalog_change *change);
/* Looks at the states of an open pool's disks: what changed becomes an event, and repair looks. */
void node_disk_watch(struct node *node, struct node_pool *pool);

/* node_repair.c */
/* Policies have changed: open vDisks (of one container, or 0: of all) follow; repair looks. */
void node_factors_changed(struct node *node, uint64_t container);
/* How many copies there are of an open vDisk's data; false: it is not open. */
bool node_vdisk_redundancy(struct node *node, struct node_vdisk *vdisk,
			   struct vdisk_redundancy *ret_redundancy);
/* The sum over the open vDisks of a pool. */
/* Groups of the pool that only disks that have failed have, this one among them. */
uint64_t node_disk_resort(struct node *node, uint64_t pool_id, uint64_t disk);
void node_pool_redundancy(struct node *node, uint64_t pool_id,
			  struct vdisk_redundancy *ret_redundancy);
/* Starts a job. -EALREADY: one runs. */
int node_repair_start(struct node *node, struct node_pool *pool, uint64_t *ret_job);
void node_repair_start_service(struct node *node);
/* Something has changed: the service looks now. */
void node_repair_look(struct node *node);
