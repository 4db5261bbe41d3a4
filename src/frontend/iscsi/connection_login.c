/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The login phase of a connection: requests and answers in turns, the move to the reactor of its
 * target, and the session that it begins or joins.
 *
 * A connection is accepted on the server's reactor. Its first request names the target; when that
 * is at home on another reactor, the connection goes there in a message, with the request that is
 * not answered yet. Nothing of it is under way at that moment: no receive, because a request is to
 * be answered first, and no send, because there was no answer yet or it was sent.
 *
 * Invariants
 *  1. `destination` is set from the decision until the message has arrived. A connection in the
 *     message is in no list: nobody but the message can reach it.
 *  2. A connection moves once at most: only the server's reactor sends it away.
 *  3. A login phase is counted in half_open of the shard that it is at.
 */
#include "frontend/iscsi/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "frontend/iscsi/shard.h"
#include "frontend/iscsi/task.h"

/* Those in the login phase are few at any time; the oldest makes room for a new one. */
static void limit_half_open(struct iscsi_shard *shard)
{
	struct iscsi_connection *connection;

	if (shard->half_open < ISCSI_HALF_OPEN_MAX)
		return;
	LIST_FOR_EACH (&shard->connections, connection, struct iscsi_connection, link) {
		if (connection->login && connection->state != ISCSI_CONNECTION_CLOSING) {
			iscsi_connection_close(connection, "too many logins at once");
			return;
		}
	}
}

void iscsi_connection_end_login(struct iscsi_connection *connection)
{
	if (!connection->login)
		return;
	connection->shard->half_open--;
	iscsi_login_done(&connection->login->state);
	free(connection->login);
	connection->login = NULL;
}

int iscsi_connection_login_header(struct iscsi_connection *connection, const struct iscsi_bhs *bhs,
				  uint8_t **ret_data)
{
	struct iscsi_login_exchange *login = connection->login;

	if (iscsi_pdu_opcode(bhs) != ISCSI_OP_LOGIN ||
	    iscsi_pdu_data_length(bhs) > sizeof(login->data))
		return -EPROTO;
	memcpy(&login->request, bhs, sizeof(login->request));
	*ret_data = login->data;
	return 0;
}

static enum iscsi_out_fill fill_login(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_login_exchange *login = CONTAINER_OF(out, struct iscsi_login_exchange, out);
	struct iscsi_connection *connection = login->state.arg;
	struct iscsi_login_response *response = (void *)pdu->header;

	*response = login->state.response;
	if (connection->session) {
		put_be16(response->tsih, connection->session->tsih);
		iscsi_connection_stamp(connection, pdu->header, true);
	} else {
		put_be32(response->stat_sn, connection->stat_sn++);
		put_be32(response->exp_cmd_sn, login->state.cmd_sn);
		put_be32(response->max_cmd_sn, login->state.cmd_sn);
	}
	pdu->data = login->state.answer;
	pdu->length = (uint32_t)login->state.answer_length;
	return ISCSI_OUT_LAST;
}

static void enter_full_feature(struct iscsi_connection *connection)
{
	const struct iscsi_params *params = &connection->login->state.params;

	connection->max_send = params->max_send;
	connection->max_recv = params->max_recv;
	connection->receiver.header_digest = params->header_digest;
	connection->receiver.data_digest = params->data_digest;
	connection->sender.header_digest = params->header_digest;
	connection->sender.data_digest = params->data_digest;
	iscsi_connection_end_login(connection);
	connection->state = ISCSI_CONNECTION_FULL;
	if (iscsi_receiver_resize(&connection->receiver, ISCSI_RECEIVER_BYTES) < 0)
		iscsi_connection_close(connection, "out of memory");
	else
		iscsi_connection_resume(connection);
}

static void login_sent(struct iscsi_out *out)
{
	struct iscsi_login_exchange *login = CONTAINER_OF(out, struct iscsi_login_exchange, out);
	struct iscsi_connection *connection = login->state.arg;

	if (connection->state == ISCSI_CONNECTION_CLOSING || login->next == ISCSI_LOGIN_FAIL)
		return;
	if (login->next == ISCSI_LOGIN_ENTER)
		enter_full_feature(connection);
	else
		iscsi_connection_resume(connection);
}

static void send_login(struct iscsi_connection *connection)
{
	struct iscsi_login_exchange *login = connection->login;

	login->out.fill = fill_login;
	login->out.sent = login_sent;
	iscsi_connection_send(connection, &login->out);
	if (login->next == ISCSI_LOGIN_FAIL)
		iscsi_connection_finish(connection);
}

static void go_on(struct iscsi_connection *connection)
{
	switch (connection->login->next) {
	case ISCSI_LOGIN_MOVE: /* not from under the receiver */
		reactor_defer(connection->shard->reactor, &connection->move_work);
		return;
	case ISCSI_LOGIN_ENTER:
		connection->state = ISCSI_CONNECTION_BINDING;
		iscsi_connection_bind(connection);
		return;
	default:
		send_login(connection);
		return;
	}
}

void iscsi_connection_login_pdu(struct iscsi_connection *connection)
{
	struct iscsi_login_exchange *login = connection->login;

	connection->receiver.paused = true;
	login->next = iscsi_login_request(&login->state, &login->request, login->data,
					  iscsi_pdu_data_length(&connection->bhs));
	go_on(connection);
}

/* --- To the reactor of its target --- */

static void arrive(struct world_message *message)
{
	struct iscsi_connection *connection =
		CONTAINER_OF(message, struct iscsi_connection, move_message);
	struct iscsi_login_exchange *login = connection->login;

	connection->shard = connection->destination;
	connection->destination = NULL;
	iscsi_connection_begin_login(connection);
	if (connection->shard->closing) {
		iscsi_connection_close(connection, "server stops");
		return;
	}
	login->next = iscsi_login_resume(&login->state, &login->request);
	go_on(connection);
}

static void move_run(struct reactor_work *work)
{
	struct iscsi_connection *connection =
		CONTAINER_OF(work, struct iscsi_connection, move_work);

	if (connection->state == ISCSI_CONNECTION_CLOSING)
		return; /* meanwhile; what frees it was deferred after this */
	ASSERT(!connection->receive_pending && !connection->send_pending);
	ASSERT(iscsi_sender_is_idle(&connection->sender));
	REACHED("iscsi.move");
	reactor_hook_disarm(&connection->send_hook);
	list_remove(&connection->link);
	connection->shard->half_open--;
	connection->move_message.run = arrive;
	reactor_post(connection->destination->reactor, &connection->move_message);
}

void iscsi_connection_begin_login(struct iscsi_connection *connection)
{
	struct iscsi_shard *shard = connection->shard;

	limit_half_open(shard);
	shard->half_open++;
	list_push_back(&shard->connections, &connection->link);
	connection->move_work.run = move_run;
}

/* --- Its session --- */

static unsigned count_connections(const struct iscsi_session *session)
{
	const struct iscsi_connection *other;
	unsigned count = 0;

	LIST_FOR_EACH (&session->connections, other, struct iscsi_connection, session_link)
		count += other->state != ISCSI_CONNECTION_CLOSING;
	return count;
}

/* Of connections that are lost or replaced requests may still be at a volume; an old write must not
 * land behind what the new connection brings. True: it waits for their end. */
static bool waits_to_join(struct iscsi_connection *connection, struct iscsi_session *session)
{
	bool waits = iscsi_session_has_orphans(session);
	struct iscsi_connection *other;

	LIST_FOR_EACH (&session->connections, other, struct iscsi_connection, session_link) {
		if (other->cid != connection->login->state.cid)
			continue;
		iscsi_connection_close(other, "connection logged in again");
		waits = true;
	}
	if (!waits)
		return false;
	REACHED("iscsi.join-wait");
	connection->joining = session;
	list_push_back(&session->joiners, &connection->wait_link);
	return true;
}

/* RFC 7143 6.3.4: another connection for a session; one with the same CID takes its place. */
static enum iscsi_login_status join(struct iscsi_connection *connection,
				    struct iscsi_session *session)
{
	if (count_connections(session) >= session->params.max_connections)
		return ISCSI_LOGIN_TOO_MANY_CONNECTIONS;
	connection->session = session;
	return ISCSI_LOGIN_SUCCESS;
}

static enum iscsi_login_status begin_session(struct iscsi_connection *connection,
					     struct iscsi_target *target)
{
	struct iscsi_shard *shard = connection->shard;
	int r;

	if (shard->session_count >= shard->max_sessions ||
	    (target && iscsi_shard_is_crowded(shard, target, &connection->login->state)))
		return ISCSI_LOGIN_OUT_OF_RESOURCES;
	r = iscsi_session_new(shard, &connection->login->state, target, &connection->session);
	if (r < 0)
		return ISCSI_LOGIN_OUT_OF_RESOURCES;
	log_info("iscsi", "session began", "initiator=%s target=%s peer=%s tsih=%u",
		 connection->session->initiator, target ? target->scsi.name : "(discovery)",
		 connection->peer, connection->session->tsih);
	return ISCSI_LOGIN_SUCCESS;
}

/* RFC 7143 6.3.5: the same initiator port logs in anew: its older session ends first, down to its
 * last request, so that no old write lands behind a new one. True: it waits for that. */
static bool must_wait(struct iscsi_connection *connection, struct iscsi_session *old)
{
	if (!old)
		return false;
	list_push_back(&old->waiters, &connection->wait_link);
	if (!list_is_empty(&old->tasks))
		REACHED("iscsi.reinstate-wait");
	iscsi_session_kill(old); /* may call bind() at once */
	return true;
}

void iscsi_connection_bind(struct iscsi_connection *connection)
{
	struct iscsi_shard *shard = connection->shard;
	struct iscsi_login_exchange *login = connection->login;
	struct iscsi_target *target = NULL;
	enum iscsi_login_status status = ISCSI_LOGIN_SUCCESS;
	struct iscsi_session *session = NULL;

	if (connection->state != ISCSI_CONNECTION_BINDING)
		return;
	if (!login->state.discovery) {
		target = iscsi_shard_find_target(shard, login->state.target);
		session = target ? iscsi_shard_find_session(shard, &login->state, target) : NULL;
		if (!target || target->leaving)
			status = ISCSI_LOGIN_NOT_FOUND;
		else if (target->guard.generation != login->state.generation)
			status = ISCSI_LOGIN_UNAVAILABLE; /* the rules changed meanwhile */
	}
	if (status == ISCSI_LOGIN_SUCCESS && login->state.tsih == 0) {
		if (must_wait(connection, session))
			return;
		status = begin_session(connection, target);
	} else if (status == ISCSI_LOGIN_SUCCESS && (!session || session->dead)) {
		status = ISCSI_LOGIN_NO_SESSION;
	} else if (status == ISCSI_LOGIN_SUCCESS) {
		if (waits_to_join(connection, session))
			return;
		status = join(connection, session);
	}
	if (status != ISCSI_LOGIN_SUCCESS) {
		login->next = ISCSI_LOGIN_FAIL;
		iscsi_login_refuse(&login->state, status);
	} else {
		connection->cid = login->state.cid;
		list_push_back(&connection->session->connections, &connection->session_link);
	}
	send_login(connection);
}
