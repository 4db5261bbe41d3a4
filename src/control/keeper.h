/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the node needs of keepers (processes that hold a controller's connection to its virtual
 * machine, docs/nvme.md) and of links to them, as a table, so that the node runs in the simulated
 * world, where there are neither processes nor shared memory. control/keeper_real.h has the table
 * of the real world.
 */
#include "frontend/nvme/link.h"

#define KEEPER_NAME_MAX 63
#define KEEPER_PATH_MAX 107 /* sun_path, unix(7) */

struct keeper_spec { /* of one controller */
	const char *name;
	char link[KEEPER_PATH_MAX + 1];   /* socket for the engine */
	char socket[KEEPER_PATH_MAX + 1]; /* socket for QEMU */
	bool doorbells_mapped;
	unsigned queues; /* I/O queue pairs */
};

/* Of links: called on the controller's home reactor, as link.h and nvme.h say. */
struct keeper_ops {
	/* From a fiber of the node's home. Starts a keeper that outlives this process; its link
	 * socket appears soon. */
	int (*spawn)(void *context, const struct keeper_spec *spec);
	int (*open)(void *context, const struct nvme_link_options *options,
		    struct nvme_link **ret_link);
	/* From a fiber of the node's home: its controller is deleted. Removes what is left of it.
	 */
	void (*forget)(void *context, const struct keeper_spec *spec);
	void (*start)(struct nvme_link *link);
	void (*close)(struct nvme_link *link);
	int (*retire)(struct nvme_link *link, bool at_once);
	int (*replace)(struct nvme_link *link);
	const struct vfu_shared *(*shared)(const struct nvme_link *link);
	int (*attach)(struct nvme_link *link, const struct nvme_namespace_options *options);
	int (*detach)(struct nvme_link *link, uint32_t nsid);
	int (*set_active)(struct nvme_link *link, uint32_t nsid, bool active);
	void (*resized)(struct nvme_link *link, uint32_t nsid);
	/* nvme_controller_redone(), nvme_controller_go_on() */
	unsigned (*redone)(struct nvme_link *link);
	void (*go_on)(struct nvme_link *link, unsigned step);
	void (*get_stats)(struct nvme_link *link, struct nvme_stats *ret_stats);
};
