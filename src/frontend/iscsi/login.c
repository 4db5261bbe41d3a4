/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Login phase.
 *
 * Invariants
 *  1. Names, ISID, TSIH and CID are those of the first request; a later one that differs is
 * refused.
 *  2. `admit` was called, once, before any stage is left.
 *  3. The stage never falls; each key is negotiated once.
 *  4. Any refusal is final: the caller closes the connection after sending it.
 *  5. While a secret is to be proved, the security stage is left only in state ISCSI_AUTH_DONE, and
 *     each request there moves the authentication on, or is the last.
 */
#include "frontend/iscsi/login.h"

#include <errno.h>
#include <string.h>

#include "base/macros.h"

#define PORTAL_GROUP "1"

void iscsi_login_init(struct iscsi_login_state *login, const struct iscsi_login_ops *ops, void *arg)
{
	*login = (struct iscsi_login_state){.ops = ops, .arg = arg};
	iscsi_params_init(&login->params);
}

void iscsi_login_done(struct iscsi_login_state *login)
{
	iscsi_chap_wipe(&login->chap);
}

static enum iscsi_stage current_stage(uint8_t flags)
{
	return (enum iscsi_stage)(flags >> 2 & 3);
}

static enum iscsi_stage next_stage(uint8_t flags)
{
	return (enum iscsi_stage)(flags & 3);
}

void iscsi_login_refuse(struct iscsi_login_state *login, enum iscsi_login_status status)
{
	struct iscsi_text_writer writer;

	login->response.flags = 0;
	login->response.status_class = (uint8_t)(status >> 8);
	login->response.status_detail = (uint8_t)status;
	iscsi_text_writer_init(&writer, login->answer, sizeof(login->answer));
	if (status == ISCSI_LOGIN_MOVED_TEMPORARILY)
		iscsi_text_put(&writer, "TargetAddress", login->redirect);
	login->answer_length = writer.length;
}

static void start_response(struct iscsi_login_state *login, const struct iscsi_login *request)
{
	login->response = (struct iscsi_login_response){.opcode = ISCSI_OP_LOGIN_RESPONSE};
	memcpy(login->response.isid, request->isid, sizeof(request->isid));
	memcpy(login->response.tsih, request->tsih, sizeof(request->tsih));
	memcpy(login->response.itt, request->itt, sizeof(request->itt));
	login->answer_length = 0;
}

/* 11.12: the header alone. */
static enum iscsi_login_status check_header(const struct iscsi_login_state *login,
					    const struct iscsi_login *request)
{
	enum iscsi_stage current = current_stage(request->flags), next = next_stage(request->flags);
	bool transit = request->flags & ISCSI_LOGIN_TRANSIT;

	if ((request->opcode & ISCSI_OPCODE_MASK) != ISCSI_OP_LOGIN ||
	    !(request->opcode & ISCSI_IMMEDIATE_BIT) || request->ahs_words != 0)
		return ISCSI_LOGIN_INVALID_REQUEST;
	if (request->version_min > 0)
		return ISCSI_LOGIN_UNSUPPORTED_VERSION;
	if (current != ISCSI_STAGE_SECURITY && current != ISCSI_STAGE_OPERATIONAL)
		return ISCSI_LOGIN_INVALID_REQUEST;
	if (transit && (next <= current || next == 2 || (request->flags & ISCSI_LOGIN_CONTINUE)))
		return ISCSI_LOGIN_INVALID_REQUEST;
	if (!login->begun)
		return ISCSI_LOGIN_SUCCESS;
	if (current != login->stage ||
	    memcmp(request->isid, login->isid, sizeof(login->isid)) != 0 ||
	    get_be16(request->tsih) != login->tsih || get_be16(request->cid) != login->cid ||
	    get_be32(request->itt) != login->itt)
		return ISCSI_LOGIN_INVALID_REQUEST;
	return ISCSI_LOGIN_SUCCESS;
}

static void begin(struct iscsi_login_state *login, const struct iscsi_login *request)
{
	if (login->begun)
		return;
	login->begun = true;
	login->stage = current_stage(request->flags);
	memcpy(login->isid, request->isid, sizeof(login->isid));
	login->tsih = get_be16(request->tsih);
	login->cid = get_be16(request->cid);
	login->itt = get_be32(request->itt);
	login->cmd_sn = get_be32(request->cmd_sn);
}

/* One that is sent again must be the same. */
static enum iscsi_login_status take_name(const struct iscsi_login_state *login,
					 const struct iscsi_text_pair *pair, char *ret_name)
{
	char name[ISCSI_NAME_MAX + 1];

	if (!iscsi_text_take_name(pair, name))
		return ISCSI_LOGIN_INITIATOR_ERROR;
	if (login->named || ret_name[0] != '\0')
		return strcmp(name, ret_name) == 0 ? ISCSI_LOGIN_SUCCESS
						   : ISCSI_LOGIN_INITIATOR_ERROR;
	memcpy(ret_name, name, pair->value_length + 1);
	return ISCSI_LOGIN_SUCCESS;
}

static enum iscsi_login_status take_session_type(struct iscsi_login_state *login,
						 const struct iscsi_text_pair *pair)
{
	if (login->named)
		return ISCSI_LOGIN_SESSION_TYPE;
	login->discovery = strcmp(pair->value, "Discovery") == 0;
	if (!login->discovery && strcmp(pair->value, "Normal") != 0)
		return ISCSI_LOGIN_SESSION_TYPE;
	return ISCSI_LOGIN_SUCCESS;
}

static bool must_prove(const struct iscsi_login_state *login)
{
	return login->chap.secret[0] != '\0' && login->auth != ISCSI_AUTH_DONE;
}

static enum iscsi_login_status take_auth_method(struct iscsi_login_state *login,
						const struct iscsi_text_pair *pair,
						struct iscsi_text_writer *writer)
{
	bool chap = must_prove(login);

	if (login->stage != ISCSI_STAGE_SECURITY || login->auth != ISCSI_AUTH_OPEN)
		return ISCSI_LOGIN_INITIATOR_ERROR;
	if (!iscsi_text_list_has(pair->value, chap ? "CHAP" : "None"))
		return ISCSI_LOGIN_AUTHENTICATION_FAILED;
	login->auth = chap ? ISCSI_AUTH_CHAP : ISCSI_AUTH_DONE;
	iscsi_text_put(writer, "AuthMethod", chap ? "CHAP" : "None");
	return ISCSI_LOGIN_SUCCESS;
}

/* --- CHAP (12.1.3) --- */

static enum iscsi_login_status put_challenge(struct iscsi_login_state *login, const char *list,
					     struct iscsi_text_writer *writer)
{
	char text[ISCSI_CHAP_TEXT_MAX];

	login->algorithm = iscsi_chap_choose(list);
	if (login->algorithm == ISCSI_CHAP_NONE)
		return ISCSI_LOGIN_AUTHENTICATION_FAILED;
	login->ops->random(login->arg, login->challenge, sizeof(login->challenge));
	login->ops->random(login->arg, &login->identifier, 1);
	iscsi_chap_encode(login->challenge, sizeof(login->challenge), text);
	iscsi_text_put_number(writer, "CHAP_A", login->algorithm);
	iscsi_text_put_number(writer, "CHAP_I", login->identifier);
	iscsi_text_put(writer, "CHAP_C", text);
	login->auth = ISCSI_AUTH_CHALLENGED;
	return ISCSI_LOGIN_SUCCESS;
}

/* Computes all of it whatever is wrong, so that time tells nothing about the name. */
static bool proof_is_good(const struct iscsi_login_state *login, const char *user,
			  const char *response)
{
	uint8_t expected[ISCSI_CHAP_DIGEST_MAX] = {0}, sent[ISCSI_CHAP_DIGEST_MAX] = {0};
	size_t length = iscsi_chap_respond(login->algorithm, login->identifier, login->chap.secret,
					   login->challenge, sizeof(login->challenge), expected);
	size_t sent_length = 0;
	bool decoded = iscsi_chap_decode(response, sent, sizeof(sent), &sent_length) == 0;
	bool equal = iscsi_chap_equal(expected, sent, sizeof(expected));

	return equal && decoded && length > 0 && sent_length == length &&
	       strcmp(user, login->chap.user) == 0;
}

/* The initiator wants us to prove who we are, too. */
static bool prove_ourselves(struct iscsi_login_state *login, const char *identifier,
			    const char *challenge, struct iscsi_text_writer *writer)
{
	uint8_t bytes[ISCSI_CHAP_CHALLENGE_MAX], digest[ISCSI_CHAP_DIGEST_MAX];
	char text[2 * ISCSI_CHAP_DIGEST_MAX + 3];
	uint64_t number;
	size_t length;

	if (login->chap.own_secret[0] == '\0' ||
	    iscsi_text_parse_number(identifier, UINT8_MAX, &number) < 0 ||
	    iscsi_chap_decode(challenge, bytes, sizeof(bytes), &length) < 0)
		return false;
	/* 9.2.1: our own challenge, reflected. */
	if (length == sizeof(login->challenge) && iscsi_chap_equal(bytes, login->challenge, length))
		return false;
	length = iscsi_chap_respond(login->algorithm, (uint8_t)number, login->chap.own_secret,
				    bytes, length, digest);
	iscsi_chap_encode(digest, length, text);
	iscsi_text_put(writer, "CHAP_N", login->chap.own_user);
	iscsi_text_put(writer, "CHAP_R", text);
	return length > 0;
}

enum chap_key { CHAP_A, CHAP_N, CHAP_R, CHAP_I, CHAP_C, CHAP_KEYS };

static bool collect_chap(const struct iscsi_login_state *login, const char *values[CHAP_KEYS])
{
	static const char *const keys[CHAP_KEYS] = {"CHAP_A", "CHAP_N", "CHAP_R", "CHAP_I",
						    "CHAP_C"};
	struct iscsi_text_reader reader;
	struct iscsi_text_pair pair;
	bool any = false;

	iscsi_text_reader_init(&reader, login->text, login->text_length);
	while (iscsi_text_next(&reader, &pair) > 0) {
		for (unsigned i = 0; i < CHAP_KEYS; i++) {
			if (strcmp(pair.key, keys[i]) != 0)
				continue;
			values[i] = pair.value;
			any = true;
		}
	}
	return any;
}

static enum iscsi_login_status take_chap(struct iscsi_login_state *login,
					 struct iscsi_text_writer *writer)
{
	const char *values[CHAP_KEYS] = {0};

	if (!collect_chap(login, values))
		return ISCSI_LOGIN_SUCCESS;
	if (login->auth == ISCSI_AUTH_CHAP && values[CHAP_A])
		return put_challenge(login, values[CHAP_A], writer);
	if (login->auth != ISCSI_AUTH_CHALLENGED || !values[CHAP_N] || !values[CHAP_R] ||
	    !proof_is_good(login, values[CHAP_N], values[CHAP_R]))
		return ISCSI_LOGIN_AUTHENTICATION_FAILED;
	if ((values[CHAP_I] || values[CHAP_C]) &&
	    (!values[CHAP_I] || !values[CHAP_C] ||
	     !prove_ourselves(login, values[CHAP_I], values[CHAP_C], writer)))
		return ISCSI_LOGIN_AUTHENTICATION_FAILED;
	login->auth = ISCSI_AUTH_DONE;
	return ISCSI_LOGIN_SUCCESS;
}

static bool is_chap(const char *key)
{
	return strncmp(key, "CHAP_", 5) == 0;
}

/* The keys that say who speaks to whom. */
static bool is_identity(const char *key)
{
	return strcmp(key, "InitiatorName") == 0 || strcmp(key, "TargetName") == 0 ||
	       strcmp(key, "SessionType") == 0 || strcmp(key, "InitiatorAlias") == 0;
}

static enum iscsi_login_status take_identity(struct iscsi_login_state *login,
					     const struct iscsi_text_pair *pair)
{
	if (strcmp(pair->key, "InitiatorName") == 0)
		return take_name(login, pair, login->initiator);
	if (strcmp(pair->key, "TargetName") == 0)
		return take_name(login, pair, login->target);
	if (strcmp(pair->key, "SessionType") == 0)
		return take_session_type(login, pair);
	return ISCSI_LOGIN_SUCCESS; /* an alias is only for people */
}

static enum iscsi_login_status take_other(struct iscsi_login_state *login,
					  const struct iscsi_text_pair *pair,
					  struct iscsi_text_writer *writer)
{
	enum iscsi_params_context context =
		login->discovery ? ISCSI_PARAMS_LOGIN_DISCOVERY : ISCSI_PARAMS_LOGIN_NORMAL;
	int r;

	if (strcmp(pair->key, "AuthMethod") == 0)
		return take_auth_method(login, pair, writer);
	if (is_chap(pair->key)) /* all of them together, later */
		return ISCSI_LOGIN_SUCCESS;
	r = iscsi_params_negotiate(&login->params, context, pair, writer);
	if (r == -EINVAL)
		return ISCSI_LOGIN_INITIATOR_ERROR;
	if (r == -ENOENT)
		iscsi_text_put(writer, pair->key, "NotUnderstood");
	return ISCSI_LOGIN_SUCCESS;
}

/* Both passes read the same text: the identity first, because the rest depends on it. */
static enum iscsi_login_status take_pairs(struct iscsi_login_state *login, bool identity,
					  struct iscsi_text_writer *writer)
{
	struct iscsi_text_reader reader;
	struct iscsi_text_pair pair;
	int r;

	iscsi_text_reader_init(&reader, login->text, login->text_length);
	while ((r = iscsi_text_next(&reader, &pair)) > 0) {
		enum iscsi_login_status status;

		if (is_identity(pair.key) != identity)
			continue;
		status = identity ? take_identity(login, &pair) : take_other(login, &pair, writer);
		if (status != ISCSI_LOGIN_SUCCESS)
			return status;
	}
	return r < 0 ? ISCSI_LOGIN_INITIATOR_ERROR : ISCSI_LOGIN_SUCCESS;
}

/* 6.3: the first request names the initiator and, for a normal session, the target. */
static enum iscsi_login_status identify(struct iscsi_login_state *login,
					struct iscsi_text_writer *writer)
{
	enum iscsi_login_status status;

	if (login->named)
		return ISCSI_LOGIN_SUCCESS;
	if (login->initiator[0] == '\0' || (!login->discovery && login->target[0] == '\0'))
		return ISCSI_LOGIN_MISSING_PARAMETER;
	if (login->discovery && login->tsih != 0)
		return ISCSI_LOGIN_SESSION_TYPE;
	login->named = true;
	status = login->ops->admit(login->arg, login);
	if (status == ISCSI_LOGIN_SUCCESS && !login->discovery)
		iscsi_text_put(writer, "TargetPortalGroupTag", PORTAL_GROUP);
	return status;
}

static enum iscsi_login_status negotiate(struct iscsi_login_state *login)
{
	enum iscsi_auth before = login->auth;
	struct iscsi_text_writer writer;
	enum iscsi_login_status status;

	iscsi_text_writer_init(&writer, login->answer, sizeof(login->answer));
	status = identify(login, &writer);
	if (status == ISCSI_LOGIN_SUCCESS)
		status = take_pairs(login, false, &writer);
	if (status == ISCSI_LOGIN_SUCCESS)
		status = take_chap(login, &writer);
	if (status == ISCSI_LOGIN_SUCCESS && must_prove(login) &&
	    (login->auth == before || login->stage != ISCSI_STAGE_SECURITY))
		status = ISCSI_LOGIN_AUTHENTICATION_FAILED;
	if (status == ISCSI_LOGIN_SUCCESS && login->stage == ISCSI_STAGE_OPERATIONAL &&
	    !login->declared) {
		login->declared = true;
		iscsi_params_declare(&login->params, &writer);
	}
	if (status == ISCSI_LOGIN_SUCCESS && writer.overflowed)
		status = ISCSI_LOGIN_OUT_OF_RESOURCES;
	login->answer_length = writer.length;
	login->text_length = 0;
	return status;
}

/* 6.1: more text of this step follows in the next request. */
static enum iscsi_login_status collect(struct iscsi_login_state *login, const void *data,
				       size_t length)
{
	if (length > sizeof(login->text) - login->text_length)
		return ISCSI_LOGIN_INITIATOR_ERROR;
	if (length > 0)
		memcpy(login->text + login->text_length, data, length);
	login->text_length += length;
	return ISCSI_LOGIN_SUCCESS;
}

static enum iscsi_login_next answer(struct iscsi_login_state *login, uint8_t flags,
				    enum iscsi_login_status status)
{
	if (status == ISCSI_LOGIN_SUCCESS && !(flags & ISCSI_LOGIN_CONTINUE))
		status = negotiate(login);
	if (status != ISCSI_LOGIN_SUCCESS) {
		iscsi_login_refuse(login, status);
		return ISCSI_LOGIN_FAIL;
	}
	login->response.flags = (uint8_t)(login->stage << 2);
	/* 6.3: who is not done stays in the stage. */
	if (!(flags & ISCSI_LOGIN_TRANSIT) || must_prove(login))
		return ISCSI_LOGIN_GO_ON;
	login->response.flags |= ISCSI_LOGIN_TRANSIT | next_stage(flags);
	login->stage = next_stage(flags);
	if (login->params.first_burst > login->params.max_burst)
		login->params.first_burst = login->params.max_burst;
	return login->stage == ISCSI_STAGE_FULL_FEATURE ? ISCSI_LOGIN_ENTER : ISCSI_LOGIN_GO_ON;
}

enum iscsi_login_next iscsi_login_request(struct iscsi_login_state *login,
					  const struct iscsi_login *request, const void *data,
					  size_t length)
{
	enum iscsi_login_status status = check_header(login, request);
	uint8_t flags = request->flags;

	start_response(login, request);
	begin(login, request);
	if (status == ISCSI_LOGIN_SUCCESS)
		status = collect(login, data, length);
	if (status == ISCSI_LOGIN_SUCCESS && !(flags & ISCSI_LOGIN_CONTINUE))
		status = take_pairs(login, true, NULL);
	if (status == ISCSI_LOGIN_SUCCESS && !login->named && login->target[0] != '\0' &&
	    login->ops->is_here && !login->ops->is_here(login->arg, login))
		return ISCSI_LOGIN_MOVE;
	return answer(login, flags, status);
}

enum iscsi_login_next iscsi_login_resume(struct iscsi_login_state *login,
					 const struct iscsi_login *request)
{
	return answer(login, request->flags, ISCSI_LOGIN_SUCCESS);
}
