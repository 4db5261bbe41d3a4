/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of an operation: begin, one of the places of enum real_place, finish. Home: its port's
 * thread.
 *
 * Invariant: op->port is set exactly from begin to finish, so a cancel of a finished operation is
 * recognised.
 */
#include "world/real/real_priv.h"

#include <string.h>

REAL_OP_FITS(struct real_head);

void *real_op_begin(struct world_port *port, struct world_op *op, const struct real_kind *kind)
{
	struct real_head *head = real_op_state(op);

	ASSERT(op->done != NULL);
	memset(op->private_words, 0, sizeof(op->private_words));
	head->kind = kind;
	list_node_init(&op->link);
	op->port = port;
	port->in_flight++;
	return head;
}

void real_op_finish(struct world_op *op, int64_t result)
{
	const struct real_kind *kind = ((struct real_head *)real_op_state(op))->kind;

	ASSERT(op->port != NULL && op->port->in_flight > 0);
	if (kind && kind->drop)
		kind->drop(op);
	list_remove(&op->link);
	op->port->in_flight--;
	op->port = NULL;
	op->done(op, result);
}

void real_op_finish_later(struct world_op *op, int64_t result)
{
	struct real_head *head = real_op_state(op);

	head->result = result;
	head->place = REAL_FINISHED;
	list_remove(&op->link);
	list_push_back(&op->port->finished, &op->link);
}
