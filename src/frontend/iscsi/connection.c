/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections.
 *
 * Home reactor: the server's, then the one of its target (connection_login.c).
 *
 * Invariants
 *  1. At most one receive and one send are under way. The memory that they name belongs to the
 *     receiver, the sender, or a task that is receiving or in state SENDING.
 *  2. In the login phase nothing is received until the last answer was sent; so requests and
 * answers alternate, and digests begin at the same place on both sides.
 *  3. A connection is freed only by finish_run(), from the reactor's loop, when it is CLOSING and
 *     nothing is under way: no caller finds it gone under its feet.
 *
 * Failure: any error of the socket or of the protocol closes the connection; at error recovery
 * level 0 that ends its tasks, and its session when it was the last (RFC 7143 section 7).
 */
#include "frontend/iscsi/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "frontend/iscsi/shard.h"
#include "frontend/iscsi/task.h"

#define LOGIN_BUFFER_BYTES 16384
#define PING_TAG           1 /* target transfer tag of our NOP-Ins */

static void receive(struct iscsi_connection *connection);
static void pump(struct iscsi_connection *connection);
static const struct iscsi_receiver_ops receiver_ops;

/* --- Life --- */

static void format_address(struct world_socket *socket, const struct world_ops *world, bool peer,
			   char *ret_text, size_t size)
{
	struct sockaddr_storage address;
	char host[INET6_ADDRSTRLEN] = "?";
	socklen_t length;
	unsigned port;

	snprintf(ret_text, size, "?");
	if (world->socket_address(socket, peer, &address, &length) < 0)
		return;
	if (address.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)&address;

		(void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		port = ntohs(in->sin_port);
		snprintf(ret_text, size, "%s:%u", host, port);
	} else if (address.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)&address;

		(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		port = ntohs(in6->sin6_port);
		snprintf(ret_text, size, "[%s]:%u", host, port);
	}
}

/* Its tasks lose it: answers are dropped, and what waits for the initiator ends. */
static void drop_tasks(struct iscsi_connection *connection)
{
	struct iscsi_session *session = connection->session;
	struct iscsi_task *task;

	iscsi_sender_drop(&connection->sender);
	if (!session)
		return;
	LIST_FOR_EACH (&session->tasks, task, struct iscsi_task, link) {
		if (task->connection != connection)
			continue;
		task->connection = NULL;
		task->receiving = false;
		iscsi_task_abort(task);
	}
	/* The end of one task may have let another answer. */
	iscsi_sender_drop(&connection->sender);
	list_remove(&connection->session_link);
	iscsi_session_wake_joiners(session);
	iscsi_session_unref(session);
}

static void finish_run(struct reactor_work *work)
{
	struct iscsi_connection *connection =
		CONTAINER_OF(work, struct iscsi_connection, finish_work);
	struct iscsi_shard *shard = connection->shard;

	drop_tasks(connection);
	list_remove(&connection->wait_link);
	if (connection->joining)
		iscsi_session_unref(connection->joining);
	list_remove(&connection->link);
	list_remove(&connection->send_hook.link);
	iscsi_connection_end_login(connection);
	iscsi_discovery_done(&connection->discovery);
	iscsi_receiver_done(&connection->receiver);
	shard->world->socket_close(connection->socket);
	free(connection);
	fiber_queue_wake_all(&shard->changed);
}

static void try_finish(struct iscsi_connection *connection)
{
	if (connection->state != ISCSI_CONNECTION_CLOSING || connection->receive_pending ||
	    connection->send_pending || connection->in_receiver || connection->finishing)
		return;
	connection->finishing = true;
	reactor_defer(connection->shard->reactor, &connection->finish_work);
}

void iscsi_connection_close(struct iscsi_connection *connection, const char *why)
{
	if (connection->state == ISCSI_CONNECTION_CLOSING)
		return;
	log_debug("iscsi", "connection closed", "peer=%s reason=\"%s\"", connection->peer, why);
	connection->state = ISCSI_CONNECTION_CLOSING;
	connection->receiver.paused = true;
	connection->shard->world->socket_shutdown(connection->socket);
	try_finish(connection);
}

void iscsi_connection_finish(struct iscsi_connection *connection)
{
	connection->close_when_sent = true;
	connection->receiver.paused = true;
	reactor_hook_arm(connection->shard->reactor, &connection->send_hook);
}

/* --- Sending --- */

static void sent(struct world_op *op, int64_t result)
{
	struct iscsi_connection *connection = CONTAINER_OF(op, struct iscsi_connection, send_op);

	connection->send_pending = false;
	if (result <= 0) {
		iscsi_connection_close(connection, "send failed");
		try_finish(connection);
		return;
	}
	connection->sent_ns = reactor_turn_ns(connection->shard->reactor);
	iscsi_sender_sent(&connection->sender, (size_t)result);
	pump(connection);
	try_finish(connection);
}

static void pump(struct iscsi_connection *connection)
{
	struct iscsi_shard *shard = connection->shard;
	struct iscsi_sender *sender = &connection->sender;
	int count = 0;

	if (connection->send_pending || connection->state == ISCSI_CONNECTION_CLOSING)
		return;
	while (count == 0 && !iscsi_sender_is_idle(sender))
		count = iscsi_sender_gather(sender);
	if (count > 0) {
		connection->send_pending = true;
		connection->sent_ns = reactor_turn_ns(shard->reactor);
		shard->world->socket_send(shard->port, connection->socket,
					  sender->iov + sender->iov_at, count,
					  &connection->send_op);
	} else if (connection->close_when_sent) {
		iscsi_connection_close(connection, "login refused");
	}
}

/* At the end of the turn, so that all answers of one turn share a send. */
static void send_hook_run(struct reactor_hook *hook)
{
	pump(CONTAINER_OF(hook, struct iscsi_connection, send_hook));
}

void iscsi_connection_send(struct iscsi_connection *connection, struct iscsi_out *out)
{
	iscsi_sender_queue(&connection->sender, out);
	reactor_hook_arm(connection->shard->reactor, &connection->send_hook);
}

void iscsi_connection_stamp(struct iscsi_connection *connection, uint8_t *header, bool is_status)
{
	struct iscsi_response *response = (void *)header;
	struct iscsi_session *session = connection->session;

	put_be32(response->stat_sn, connection->stat_sn);
	if (is_status)
		connection->stat_sn++;
	put_be32(response->exp_cmd_sn, session->exp_cmd_sn);
	put_be32(response->max_cmd_sn, iscsi_session_window(session));
}

/* --- Receiving --- */

static void received(struct world_op *op, int64_t result)
{
	struct iscsi_connection *connection = CONTAINER_OF(op, struct iscsi_connection, receive_op);
	int r;

	connection->receive_pending = false;
	if (result <= 0) {
		iscsi_connection_close(connection, result == 0 ? "peer closed" : "receive failed");
		try_finish(connection);
		return;
	}
	connection->received_ns = reactor_turn_ns(connection->shard->reactor);
	connection->pinged_ns = 0; /* some initiators go on, but never answer a ping */
	if (!iscsi_receiver_is_amid(&connection->receiver))
		connection->pdu_ns = connection->received_ns;
	connection->in_receiver = true;
	r = iscsi_receiver_take(&connection->receiver, (size_t)result);
	connection->in_receiver = false;
	if (r < 0)
		iscsi_connection_close(connection,
				       r == -EBADMSG ? "digest error" : "protocol error");
	receive(connection);
	try_finish(connection);
}

static void receive(struct iscsi_connection *connection)
{
	struct iscsi_shard *shard = connection->shard;
	int count;

	if (connection->receive_pending || connection->receiver.paused)
		return;
	count = iscsi_receiver_want(&connection->receiver);
	connection->receive_pending = true;
	shard->world->socket_receive(shard->port, connection->socket, connection->receiver.iov,
				     count, &connection->receive_op);
}

/* First what is in the buffer, then the socket. */
void iscsi_connection_resume(struct iscsi_connection *connection)
{
	int r;

	if (connection->state == ISCSI_CONNECTION_CLOSING)
		return;
	connection->receiver.paused = false;
	connection->in_receiver = true;
	r = iscsi_receiver_resume(&connection->receiver);
	connection->in_receiver = false;
	if (r < 0)
		iscsi_connection_close(connection, "protocol error");
	receive(connection);
	try_finish(connection);
}

/* --- Full-feature phase --- */

/* Is it an answer to our ping, or a NOP-Out that wants none (11.18)? */
static bool is_silent(const struct iscsi_bhs *bhs)
{
	return iscsi_pdu_opcode(bhs) == ISCSI_OP_NOP_OUT &&
	       get_be32(bhs->itt) == ISCSI_RESERVED_TAG;
}

static int request_header(struct iscsi_connection *connection, const struct iscsi_bhs *bhs,
			  const uint8_t *ahs, uint8_t **ret_data)
{
	const struct iscsi_request *request = (const void *)bhs;
	uint8_t reason = (uint8_t)iscsi_pdu_check(bhs);
	bool numbered = !iscsi_pdu_is_immediate(bhs) && reason != ISCSI_REJECT_NOT_SUPPORTED &&
			reason != ISCSI_REJECT_SNACK;
	struct iscsi_task *task;

	/* 4.2.2.1: what lies outside of the window is ignored. */
	if (numbered && !iscsi_session_accepts(connection->session, get_be32(request->cmd_sn)))
		return 0;
	task = iscsi_task_new(connection, bhs);
	if (!task)
		return -ENOBUFS; /* no end of immediate requests */
	connection->receiving = task;
	task->immediate = !numbered;
	task->reject = reason;
	if (!reason && iscsi_pdu_opcode(bhs) == ISCSI_OP_SCSI_COMMAND)
		return iscsi_task_command_header(task, ahs, ret_data);
	return iscsi_request_header(task, ret_data);
}

static int on_header(struct iscsi_receiver *receiver, const struct iscsi_bhs *bhs,
		     const uint8_t *ahs, uint8_t **ret_data)
{
	struct iscsi_connection *connection =
		CONTAINER_OF(receiver, struct iscsi_connection, receiver);

	connection->bhs = *bhs;
	connection->receiving = NULL;
	if (connection->state != ISCSI_CONNECTION_FULL)
		return iscsi_connection_login_header(connection, bhs, ret_data);
	if (iscsi_pdu_data_length(bhs) > connection->max_recv)
		return -EPROTO;
	if (iscsi_pdu_opcode(bhs) == ISCSI_OP_DATA_OUT)
		return iscsi_task_data_header(connection, bhs, ret_data);
	if (is_silent(bhs))
		return 0;
	return request_header(connection, bhs, ahs, ret_data);
}

static int on_pdu(struct iscsi_receiver *receiver)
{
	struct iscsi_connection *connection =
		CONTAINER_OF(receiver, struct iscsi_connection, receiver);
	struct iscsi_task *task = connection->receiving;

	connection->pdu_ns = connection->received_ns; /* what follows is another one */
	if (connection->state != ISCSI_CONNECTION_FULL) {
		iscsi_connection_login_pdu(connection);
		return 0;
	}
	if (iscsi_pdu_opcode(&connection->bhs) == ISCSI_OP_DATA_OUT)
		return iscsi_task_data_arrived(connection);
	connection->receiving = NULL;
	if (task)
		iscsi_session_submit(connection->session, task);
	return 0;
}

static const struct iscsi_receiver_ops receiver_ops = {.header = on_header, .pdu = on_pdu};

/* --- What the target says of its own accord --- */

static enum iscsi_out_fill fill_ping(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_connection *connection = CONTAINER_OF(out, struct iscsi_connection, ping);
	struct iscsi_response *response = (void *)pdu->header;

	response->opcode = ISCSI_OP_NOP_IN;
	response->flags = ISCSI_FINAL_BIT;
	put_be32(response->itt, ISCSI_RESERVED_TAG);
	put_be32(response->ttt, PING_TAG);
	iscsi_connection_stamp(connection, pdu->header, false);
	return ISCSI_OUT_LAST;
}

static void ping_sent(struct iscsi_out *out)
{
	CONTAINER_OF(out, struct iscsi_connection, ping)->ping_queued = false;
}

static void ping(struct iscsi_connection *connection, uint64_t now_ns)
{
	if (connection->ping_queued)
		return;
	connection->pinged_ns = now_ns;
	connection->ping_queued = true;
	connection->ping.fill = fill_ping;
	connection->ping.sent = ping_sent;
	iscsi_connection_send(connection, &connection->ping);
}

static enum iscsi_out_fill fill_event(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_connection *connection = CONTAINER_OF(out, struct iscsi_connection, event);
	struct iscsi_async *async = (void *)pdu->header;

	async->opcode = ISCSI_OP_ASYNC;
	async->flags = ISCSI_FINAL_BIT;
	put_be32(async->itt, ISCSI_RESERVED_TAG);
	iscsi_connection_stamp(connection, pdu->header, true);
	async->event = connection->event_code;
	put_be16(async->parameter3, ISCSI_LOGOUT_NS / NSEC_PER_SEC);
	return ISCSI_OUT_LAST;
}

static void event_sent(struct iscsi_out *out)
{
	CONTAINER_OF(out, struct iscsi_connection, event)->event_queued = false;
}

void iscsi_connection_event(struct iscsi_connection *connection, enum iscsi_async_event event)
{
	if (connection->state != ISCSI_CONNECTION_FULL || connection->event_queued)
		return;
	connection->event_code = (uint8_t)event;
	connection->event_queued = true;
	connection->event.fill = fill_event;
	connection->event.sent = event_sent;
	iscsi_connection_send(connection, &connection->event);
}

static bool waits_for_initiator(const struct iscsi_task *task)
{
	return task->state == ISCSI_TASK_DATA || task->state == ISCSI_TASK_UNSOLICITED ||
	       task->state == ISCSI_TASK_EARLY;
}

/* Data that was asked for, or announced, and does not come; or a command's number that is missing
 * before others, whose data takes memory meanwhile. */
static bool something_is_late(const struct iscsi_connection *connection, uint64_t now_ns)
{
	const struct iscsi_task *task;

	LIST_FOR_EACH (&connection->session->tasks, task, const struct iscsi_task, link) {
		if (waits_for_initiator(task) && task->connection == connection &&
		    now_ns > task->asked_ns + ISCSI_STALL_NS)
			return true;
	}
	return false;
}

void iscsi_connection_tick(struct iscsi_connection *connection, uint64_t now_ns)
{
	if (connection->state == ISCSI_CONNECTION_CLOSING)
		return;
	if (connection->send_pending && now_ns > connection->sent_ns + ISCSI_STALL_NS) {
		iscsi_connection_close(connection, "peer does not read");
		return;
	}
	if (connection->state != ISCSI_CONNECTION_FULL) {
		if (now_ns > connection->accepted_ns + ISCSI_LOGIN_NS)
			iscsi_connection_close(connection, "login timed out");
		return;
	}
	if (iscsi_receiver_is_amid(&connection->receiver) &&
	    now_ns > connection->pdu_ns + ISCSI_STALL_NS)
		iscsi_connection_close(connection, "a PDU does not end");
	else if (something_is_late(connection, now_ns))
		iscsi_connection_close(connection, "data or a command does not come");
	else if (connection->pinged_ns != 0 && now_ns > connection->pinged_ns + ISCSI_PING_NS)
		iscsi_connection_close(connection, "no answer to a ping");
	else if (connection->pinged_ns == 0 && now_ns > connection->received_ns + ISCSI_PING_NS)
		ping(connection, now_ns);
}

static void init_callbacks(struct iscsi_connection *connection)
{
	connection->receive_op.done = received;
	connection->send_op.done = sent;
	connection->finish_work.run = finish_run;
	reactor_hook_init(&connection->send_hook, send_hook_run);
	list_node_init(&connection->wait_link);
	list_node_init(&connection->session_link);
}

int iscsi_connection_new(struct iscsi_shard *shard, struct world_socket *socket)
{
	_cleanup_free_ struct iscsi_connection *connection = calloc(1, sizeof(*connection));
	_cleanup_free_ struct iscsi_login_exchange *login = malloc(sizeof(*login));

	if (!connection || !login ||
	    iscsi_receiver_init(&connection->receiver, &receiver_ops, LOGIN_BUFFER_BYTES) < 0) {
		shard->world->socket_close(socket);
		return -ENOMEM;
	}
	connection->shard = shard;
	connection->socket = socket;
	connection->accepted_ns = reactor_turn_ns(shard->reactor);
	connection->received_ns = connection->accepted_ns;
	connection->stat_sn = 1;
	init_callbacks(connection);
	iscsi_sender_init(&connection->sender);
	format_address(socket, shard->world, true, connection->peer, sizeof(connection->peer));
	format_address(socket, shard->world, false, connection->local, sizeof(connection->local));
	login->next = ISCSI_LOGIN_GO_ON;
	iscsi_login_init(&login->state, &iscsi_shard_login_ops, connection);
	connection->login = TAKE_PTR(login);
	iscsi_connection_begin_login(connection);
	receive(connection);
	(void)TAKE_PTR(connection);
	return 0;
}
