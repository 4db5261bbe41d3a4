/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Keepers and links for tests of the node in the simulated world: nothing but what they say to the
 * node. They outlive the node, and the test decides what fails.
 */
#include "control/keeper.h"

#define KEEPER_RIG_COUNT 16

struct nvme_link {
	struct keeper_rig_keeper *keeper;
	struct nvme_link_options options;
	bool started, lost;
	int loss; /* to be told */
	struct reactor_work tell;
	struct nvme_namespace_options namespaces[NVME_NAMESPACE_MAX + 1]; /* nsid 0: absent */
	unsigned resized, gone_on;
};

struct keeper_rig_keeper {
	struct keeper_rig *rig;
	char path[KEEPER_PATH_MAX + 1];
	bool running;
	unsigned spawned, replaced, forgotten;
	int open_error;
	bool slow; /* what it does of recovery never ends */
	struct keeper_spec spec;
	struct vfu_shared *shared;
	struct nvme_link *link; /* or NULL */
};

struct keeper_rig {
	struct keeper_rig_keeper keepers[KEEPER_RIG_COUNT];
	int spawn_error, open_error, attach_error, retire_error, replace_error;
	bool mute; /* a keeper that was spawned does not listen */
	bool deaf; /* a keeper that is told to retire does not end */
};

extern const struct keeper_ops keeper_rig_ops; /* context: struct keeper_rig */
void keeper_rig_done(struct keeper_rig *rig);
/* NULL when none was ever started for the controller. */
struct keeper_rig_keeper *keeper_rig_find(struct keeper_rig *rig, const char *name);
/* Ends it, as SIGKILL would. On the home reactor of its controller (link->options.home). */
void keeper_rig_kill(struct keeper_rig_keeper *keeper);
