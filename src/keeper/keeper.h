/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A controller's keeper: the process that a virtual machine is connected to, which outlives the
 * engine. It owns the vfio-user socket, the PCI configuration space, the doorbells, the guest's
 * memory files, the interrupts and the memory that it shares with the engine (vfu/shared.h); it
 * gives all of it to the engine that connects to its link socket (vfu/link.h). It is not on the I/O
 * path.
 */
#include <stdbool.h>
#include <sys/types.h>

struct keeper_options {
	const char *name;
	const char *link_path;   /* for engines: mode 0600 */
	const char *socket_path; /* for QEMU: mode 0660 */
	gid_t group;             /* of socket_path; (gid_t)-1 = the process's */
	unsigned queues;       /* I/O queue pairs: one vector each, and one; 0 = all there can be */
	bool doorbells_mapped; /* the guest may write doorbells without a message */
	char *const *arguments; /* of the process, for REPLACE */
	int resume_fd;          /* what a keeper before left (REPLACE), or -1 */
	void (*ready)(void);    /* it serves; not told again after REPLACE. Or NULL */
	bool confine;           /* by a filter of system calls, from then on */
	bool merciful;          /* for tests: no engine is killed */
};

/* Serves until it is told to retire or gets SIGTERM; SIGHUP lets it execute its program anew.
 * -errno when it cannot begin. */
int keeper_run(const struct keeper_options *options);
