/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are no SCSI commands: NOP-Out, Logout, and the Reject of what cannot be served. */
#include <string.h>

#include "frontend/iscsi/shard.h"
#include "frontend/iscsi/task.h"

int iscsi_request_header(struct iscsi_task *task, uint8_t **ret_data)
{
	uint32_t length = iscsi_pdu_data_length(&task->bhs);

	if (task->reject || length == 0)
		return 0;
	task->buffer = iscsi_session_alloc(task->session, length, length, &task->buffer_size);
	if (!task->buffer)
		task->reject = ISCSI_REJECT_RESOURCES;
	*ret_data = task->buffer;
	return 0;
}

static void answered(struct iscsi_out *out)
{
	iscsi_task_end(CONTAINER_OF(out, struct iscsi_task, out));
}

void iscsi_request_answer(struct iscsi_task *task,
			  enum iscsi_out_fill (*fill)(struct iscsi_out *, struct iscsi_pdu_out *))
{
	task->state = ISCSI_TASK_SENDING;
	task->out.fill = fill;
	task->out.sent = answered;
	iscsi_connection_send(task->connection, &task->out);
}

/* 11.17: with the header of what was rejected. */
static enum iscsi_out_fill fill_reject(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_response *response = (void *)pdu->header;

	if (task->aborted)
		return ISCSI_OUT_NONE;
	iscsi_task_mark_answered(task);
	response->opcode = ISCSI_OP_REJECT;
	response->flags = ISCSI_FINAL_BIT;
	response->specific[0] = task->reject;
	put_be32(response->itt, ISCSI_RESERVED_TAG);
	iscsi_connection_stamp(task->connection, pdu->header, true);
	pdu->data = &task->bhs;
	pdu->length = sizeof(task->bhs);
	return ISCSI_OUT_LAST;
}

/* 11.19: the ping comes back with as much of its data as the initiator takes. */
static enum iscsi_out_fill fill_nop(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_response *response = (void *)pdu->header;

	if (task->aborted)
		return ISCSI_OUT_NONE;
	iscsi_task_mark_answered(task);
	response->opcode = ISCSI_OP_NOP_IN;
	response->flags = ISCSI_FINAL_BIT;
	put_be32(response->itt, task->itt);
	put_be32(response->ttt, ISCSI_RESERVED_TAG);
	iscsi_connection_stamp(task->connection, pdu->header, true);
	pdu->data = task->buffer;
	pdu->length = MIN(iscsi_pdu_data_length(&task->bhs), task->connection->max_send);
	return ISCSI_OUT_LAST;
}

static enum iscsi_out_fill fill_logout(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_response *response = (void *)pdu->header;

	iscsi_task_mark_answered(task);
	response->opcode = ISCSI_OP_LOGOUT_RESPONSE;
	response->flags = ISCSI_FINAL_BIT;
	response->specific[0] = task->response;
	put_be32(response->itt, task->itt);
	iscsi_connection_stamp(task->connection, pdu->header, true);
	return ISCSI_OUT_LAST;
}

static void logout_sent(struct iscsi_out *out)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_connection *connection = task->connection;
	const struct iscsi_logout *logout = (const void *)&task->bhs;
	bool closed = task->response == ISCSI_LOGOUT_CLOSED;
	bool other = (logout->flags & 0x7f) == ISCSI_LOGOUT_CONNECTION &&
		     get_be16(logout->cid) != connection->cid;

	iscsi_task_end(task);
	if (closed && !other)
		iscsi_connection_close(connection, "logout");
}

static struct iscsi_connection *find_connection(struct iscsi_session *session, uint16_t cid)
{
	struct iscsi_connection *connection;

	LIST_FOR_EACH (&session->connections, connection, struct iscsi_connection, session_link) {
		if (connection->cid == cid)
			return connection;
	}
	return NULL;
}

/* Closes those connections that are not the task's own, which waits for the answer to be sent. */
static uint8_t close_others(struct iscsi_task *task, uint8_t reason, uint16_t cid)
{
	struct iscsi_session *session = task->session;
	struct iscsi_connection *connection;

	if (reason == ISCSI_LOGOUT_SESSION) {
		LIST_FOR_EACH (&session->connections, connection, struct iscsi_connection,
			       session_link) {
			if (connection != task->connection)
				iscsi_connection_close(connection, "logout of the session");
		}
		return ISCSI_LOGOUT_CLOSED;
	}
	if (reason != ISCSI_LOGOUT_CONNECTION)
		return ISCSI_LOGOUT_NO_RECOVERY;
	connection = find_connection(session, cid);
	if (!connection)
		return ISCSI_LOGOUT_NO_CID;
	if (connection != task->connection)
		iscsi_connection_close(connection, "logout");
	return ISCSI_LOGOUT_CLOSED;
}

static void deliver_logout(struct iscsi_task *task)
{
	const struct iscsi_logout *logout = (const void *)&task->bhs;

	task->response = close_others(task, logout->flags & 0x7f, get_be16(logout->cid));
	iscsi_request_answer(task, fill_logout);
	task->out.sent = logout_sent;
}

void iscsi_request_deliver(struct iscsi_task *task)
{
	bool discovery = !task->session->target;

	if (!task->reject) {
		switch (iscsi_pdu_opcode(&task->bhs)) {
		case ISCSI_OP_NOP_OUT:
			iscsi_request_answer(task, fill_nop);
			return;
		case ISCSI_OP_TEXT:
			iscsi_discovery_deliver(task);
			return;
		case ISCSI_OP_LOGOUT:
			deliver_logout(task);
			return;
		case ISCSI_OP_TASK_MANAGEMENT:
			if (!discovery) {
				iscsi_tmf_deliver(task);
				return;
			}
			break;
		default: /* a login in the full-feature phase */
			break;
		}
		task->reject = ISCSI_REJECT_PROTOCOL;
	}
	iscsi_request_answer(task, fill_reject);
}
