/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Where the disks of the node's pools are: found out now and then while they can be reached, and
 * remembered in the catalog, so that it can be told of a disk that is gone. From fibers of the
 * node's home.
 */
#include "control/node_disk.h"
#include "control/place.h"

struct node_place {
	json_t *place;    /* as place.h says; NULL: not known. The caller drops it */
	uint64_t wall_ns; /* when it was found */
	bool remembered;  /* and not found now */
};

/* Not under the node's lock: a directory that hangs would keep everybody waiting. */
int node_place_get(struct node *node, uint64_t pool_id, const struct pool_disk_info *info,
		   struct node_place *ret_place);
/* The disk is the pool's no more. */
void node_place_forget(struct node *node, uint64_t pool_id, uint64_t disk_id);
/* What the node wrote about the disks of a pool that was deleted. */
void node_place_forget_pool(struct node *node, uint64_t pool_id);
/* As place_ops; -ENOENT as well when this host has none of that. `led` is set first if `set`. */
int node_place_led(struct node *node, const json_t *device, bool set, enum place_led *led);
void node_place_start_service(struct node *node);

/* The type of the file system that a directory is on, or would be when it was made. -ENOENT: it
 * cannot be told. */
int node_place_type(struct node *node, const char *directory, char ret_type[static 32]);

#define NODE_BLINK_SECONDS_MAX 3600
/* Starts a job that reads from the disk for a short time each second, so that its light blinks.
 * Takes `result`, the job's result, also on failure. -EALREADY: this disk blinks; -EMFILE:
 * NODE_BLINKS_MAX do. */
int node_blink_start(struct node *node, const struct pool_disk_info *info, unsigned seconds,
		     json_t *result, uint64_t *ret_job);
