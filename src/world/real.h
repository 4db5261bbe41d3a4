/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The real world: io_uring (kernel 6.1 or newer), a pool of worker threads, eventfds.
 */
#include "world/world.h"

struct world_real_options {
	unsigned workers;     /* threads for blocking calls; 0 = 4 */
	unsigned queue_depth; /* submission entries per port; 0 = 256 */
	/*
	 * A file that every ring keeps registered, or -1. The kernel lets go of it only when the
	 * ring of a killed process has drained, so a flock() held through it fences the successor
	 * off until no I/O of the dead process can land any more.
	 */
	int fence_fd;
	/*
	 * Another one, for those who wait for a hang-up: the write end of a pipe, or 0. The caller
	 * closes it when all ports are open, so that it lives in the rings alone.
	 */
	int fence_pipe_fd;
	/*
	 * So many daemons of our user before this one are dead, but what is left of them in the
	 * kernel keeps their sockets open: their TCP ports can be listened on beside them, and
	 * connections come to us. Needs that they listened as this version does.
	 */
	unsigned dead_listeners;
};

/* -ENOSYS or -EPERM when io_uring is missing or disabled. */
int world_real_new(const struct world_real_options *options, struct world **ret_world);
/* All ports are closed. */
void world_real_free(struct world *world);

/* For descriptors that are not the world's: completes with 0 when `fd` is readable or hung up. The
 * descriptor stays the caller's and is open until then. Can be cancelled. */
void world_real_poll(struct world_port *port, int fd, struct world_op *op);
