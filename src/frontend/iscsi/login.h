/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The login phase of one connection (RFC 7143 section 6.3) as a pure state machine: a request goes
 * in, an answer comes out. It knows nothing of sockets; what it must know of the server it asks
 * through iscsi_login_ops. The caller sends the answer, then moves the connection to the
 * full-feature phase or closes it.
 *
 * Owned by its connection, from accept to the full-feature phase.
 */
#include "frontend/iscsi/chap.h"
#include "frontend/iscsi/iscsi.h"
#include "frontend/iscsi/params.h"
#include "frontend/iscsi/pdu.h"

#define ISCSI_LOGIN_ANSWER_MAX ISCSI_DEFAULT_RECV_BYTES /* text of one answer */
#define ISCSI_REDIRECT_MAX     280                      /* host, port and group of TargetAddress */

struct iscsi_login_state;

struct iscsi_login_ops {
	/* The target is known: is it at home here? If not, the login goes on elsewhere. NULL: it
	 * is. */
	bool (*is_here)(void *arg, const struct iscsi_login_state *login);
	/* The names are known: may this initiator log in here? Returns a status of 11.13.5; for
	 * "moved temporarily" it fills login->redirect, for success login->chap. */
	enum iscsi_login_status (*admit)(void *arg, struct iscsi_login_state *login);
	/* Bytes for a challenge. */
	void (*random)(void *arg, void *bytes, size_t length);
};

enum iscsi_login_next {
	ISCSI_LOGIN_GO_ON, /* send the answer, await another request */
	ISCSI_LOGIN_ENTER, /* bind to a session, then send the answer and enter full feature */
	ISCSI_LOGIN_FAIL,  /* send the answer, then close */
	ISCSI_LOGIN_MOVE,  /* call iscsi_login_resume() where the target is at home */
};

enum iscsi_auth {
	ISCSI_AUTH_OPEN,       /* no method was agreed on */
	ISCSI_AUTH_CHAP,       /* CHAP is the method; the algorithm is next */
	ISCSI_AUTH_CHALLENGED, /* our challenge went out */
	ISCSI_AUTH_DONE,
};

struct iscsi_login_state {
	const struct iscsi_login_ops *ops;
	void *arg;
	enum iscsi_stage stage;
	bool begun, named, discovery, declared;
	enum iscsi_auth auth;
	struct iscsi_chap chap; /* what is to be proved; wiped when the login ends */
	enum iscsi_chap_algorithm algorithm;
	uint8_t identifier, challenge[ISCSI_CHAP_CHALLENGE_BYTES];
	uint64_t generation; /* of the rules that admitted it */
	uint8_t isid[ISCSI_ISID_BYTES];
	uint16_t tsih, cid;
	uint32_t itt, cmd_sn;
	char initiator[ISCSI_NAME_MAX + 1];
	char target[ISCSI_NAME_MAX + 1];
	char redirect[ISCSI_REDIRECT_MAX];
	struct iscsi_params params;
	size_t text_length, answer_length;
	char text[ISCSI_TEXT_MAX];            /* requests joined over the C bit */
	char answer[ISCSI_LOGIN_ANSWER_MAX];  /* data segment of the answer */
	struct iscsi_login_response response; /* without StatSN, ExpCmdSN and MaxCmdSN */
};

void iscsi_login_init(struct iscsi_login_state *login, const struct iscsi_login_ops *ops,
		      void *arg);
/* `data` holds the data segment without padding. Fills response and answer. */
enum iscsi_login_next iscsi_login_request(struct iscsi_login_state *login,
					  const struct iscsi_login *request, const void *data,
					  size_t length);
/* After ISCSI_LOGIN_MOVE: goes on with the same request. */
enum iscsi_login_next iscsi_login_resume(struct iscsi_login_state *login,
					 const struct iscsi_login *request);
/* Wipes what was secret. */
void iscsi_login_done(struct iscsi_login_state *login);
/* Turns an answer that was ISCSI_LOGIN_ENTER into a refusal: the session could not be made. */
void iscsi_login_refuse(struct iscsi_login_state *login, enum iscsi_login_status status);
