/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One TCP connection: its socket, the login phase, then the exchange of PDUs for its session.
 *
 * Owned by the shard, from accept until its socket operations have ended and its tasks are gone
 * from it. Callbacks only: no fiber waits here.
 */
#include "frontend/iscsi/login.h"
#include "frontend/iscsi/receiver.h"
#include "frontend/iscsi/sender.h"
#include "frontend/iscsi/session.h"

enum iscsi_connection_state {
	ISCSI_CONNECTION_LOGIN,
	ISCSI_CONNECTION_BINDING, /* logged in; waits for an older session to end */
	ISCSI_CONNECTION_FULL,    /* full-feature phase */
	ISCSI_CONNECTION_CLOSING, /* shut down; waits for its socket operations */
};

struct iscsi_login_exchange { /* the login phase's own memory */
	struct iscsi_login_state state;
	struct iscsi_login request;
	uint8_t data[ISCSI_DEFAULT_RECV_BYTES];
	struct iscsi_out out;
	enum iscsi_login_next next;
};

struct iscsi_discovery { /* a text negotiation (RFC 7143 6.2) */
	char *request, *answer;
	size_t request_length, answer_length, answer_at;
	uint32_t ttt; /* of the answer's continuation */
};

struct iscsi_connection {
	struct iscsi_shard *shard;
	struct list_node link; /* in the shard's connections */
	struct world_socket *socket;
	char peer[64], local[64];
	enum iscsi_connection_state state;
	uint64_t accepted_ns, received_ns, sent_ns;
	uint64_t pdu_ns; /* when the PDU that is under way began to come */

	struct iscsi_login_exchange *login; /* until full feature */
	struct list_node wait_link;    /* in waiters of the older session, or joiners of its own */
	struct iscsi_session *joining; /* the session in whose joiners it is; or NULL */
	struct iscsi_shard *destination; /* where it moves to */
	struct reactor_work move_work;
	struct world_message move_message;

	struct iscsi_session *session;
	struct list_node session_link;
	uint16_t cid;
	uint32_t stat_sn, max_send, max_recv;
	struct iscsi_discovery discovery;

	struct iscsi_receiver receiver;
	struct iscsi_bhs bhs;         /* of the PDU that is being received */
	struct iscsi_task *receiving; /* whose data it carries, or which it made; or NULL */
	bool receive_pending, send_pending, close_when_sent, in_receiver, finishing;
	struct reactor_work finish_work;
	struct world_op receive_op, send_op;

	struct iscsi_sender sender;
	struct reactor_hook send_hook;
	struct iscsi_out ping, event;
	uint64_t pinged_ns; /* 0: no ping is out */
	uint8_t event_code;
	bool ping_queued, event_queued;
};

/* Takes the socket, whatever happens. -ENOMEM. */
int iscsi_connection_new(struct iscsi_shard *shard, struct world_socket *socket);
/* Closes soon; no more is received or sent. Freed when nothing of it is under way. */
void iscsi_connection_close(struct iscsi_connection *connection, const char *why);
/* Closes after what is queued was sent. */
void iscsi_connection_finish(struct iscsi_connection *connection);
void iscsi_connection_send(struct iscsi_connection *connection, struct iscsi_out *out);
/* The session that it waited for is gone. */
void iscsi_connection_bind(struct iscsi_connection *connection);
/* Asks the initiator to log out, or tells it that it is dropped (11.9). */
void iscsi_connection_event(struct iscsi_connection *connection, enum iscsi_async_event event);
/* Once a second: time-outs and pings. */
void iscsi_connection_tick(struct iscsi_connection *connection, uint64_t now_ns);

/* Fills the numbers that every response carries (11.4.8 to 11.4.10). With `is_status` the response
 * uses up a StatSN. */
void iscsi_connection_stamp(struct iscsi_connection *connection, uint8_t *header, bool is_status);

/* The login phase, between the files of the connection. */
void iscsi_connection_begin_login(struct iscsi_connection *connection);
void iscsi_connection_end_login(struct iscsi_connection *connection);
int iscsi_connection_login_header(struct iscsi_connection *connection, const struct iscsi_bhs *bhs,
				  uint8_t **ret_data);
void iscsi_connection_login_pdu(struct iscsi_connection *connection);
/* Goes on receiving after a pause. */
void iscsi_connection_resume(struct iscsi_connection *connection);
