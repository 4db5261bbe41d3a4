/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that are not the world's own: the ring tells when they are readable. */
#include "world/real/real_priv.h"

#include <errno.h>
#include <poll.h>

struct poll_op {
	struct real_head head;
	int fd;
};
REAL_OP_FITS(struct poll_op);

static void prepare_poll(struct world_op *op, struct io_uring_sqe *sqe)
{
	struct poll_op *state = real_op_state(op);

	io_uring_prep_poll_add(sqe, state->fd, POLLIN);
}

static void complete_poll(struct world_op *op, int result)
{
	struct poll_op *state = real_op_state(op);

	if (result == -EINTR && !state->head.cancelled)
		real_port_queue(op->port, op);
	else
		real_op_finish(op, result > 0 ? 0 : result);
}

static const struct real_kind poll_kind = {.prepare = prepare_poll, .complete = complete_poll};

void world_real_poll(struct world_port *port, int fd, struct world_op *op)
{
	struct poll_op *state = real_op_begin(port, op, &poll_kind);

	state->fd = fd;
	real_port_queue(port, op);
}
