/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the login phase. The input is a list of requests: a byte of flags, a byte of changes
 * to the header, two bytes of length (big-endian), the text. Whatever comes, answers stay in
 * bounds, a refusal is final, and nobody enters without having been admitted.
 */
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "frontend/iscsi/login.h"
#include "fuzz.h"

static unsigned admitted;
static bool wants_chap;

static enum iscsi_login_status admit(void *arg, struct iscsi_login_state *login)
{
	ASSERT(iscsi_text_is_name(login->initiator));
	ASSERT(login->discovery || iscsi_text_is_name(login->target));
	admitted++;
	if (wants_chap) {
		strcpy(login->chap.user, "user");
		strcpy(login->chap.secret, "secret of the user");
		strcpy(login->chap.own_user, "own");
		strcpy(login->chap.own_secret, "secret of our own");
	}
	return ISCSI_LOGIN_SUCCESS;
}

/* Known, so that an input can hold the proof. */
static void no_random(void *arg, void *bytes, size_t length)
{
	(void)arg;
	memset(bytes, 'r', length);
}

static void check_params(const struct iscsi_params *params)
{
	ASSERT(params->max_send >= 512 && params->max_send <= 0xffffff);
	ASSERT(params->max_burst >= 512 && params->max_burst <= 0xffffff);
	ASSERT(params->first_burst >= 512 && params->first_burst <= params->max_burst);
	ASSERT(params->first_burst <= ISCSI_FIRST_BURST_BYTES);
	ASSERT(params->max_connections >= 1 && params->max_outstanding_r2t == 1);
	ASSERT(params->error_recovery_level == 0);
	ASSERT(params->data_pdu_in_order && params->data_sequence_in_order);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct iscsi_login_ops ops = {.admit = admit, .random = no_random};
	_cleanup_free_ struct iscsi_login_state *login = malloc(sizeof(*login));
	enum iscsi_login_next next = ISCSI_LOGIN_GO_ON;

	ASSERT(login);
	admitted = 0;
	/* The first byte that a login has no use for. */
	wants_chap = size > 0 && (data[0] & 0x20);
	iscsi_login_init(login, &ops, NULL);
	while (size >= 4 && next == ISCSI_LOGIN_GO_ON) {
		struct iscsi_login request = {.opcode = ISCSI_OP_LOGIN | ISCSI_IMMEDIATE_BIT,
					      .flags = data[0]};
		size_t length = MIN((size_t)get_be16(data + 2), size - 4);

		((uint8_t *)&request)[data[1] % sizeof(request)] ^= data[1] >> 4 & 1;
		next = iscsi_login_request(login, &request, data + 4, length);
		ASSERT(login->answer_length <= sizeof(login->answer));
		ASSERT((next == ISCSI_LOGIN_FAIL) == (login->response.status_class != 0));
		data += 4 + length;
		size -= 4 + length;
	}
	ASSERT(admitted <= 1);
	if (next == ISCSI_LOGIN_ENTER) {
		ASSERT(admitted == 1);
		ASSERT(!wants_chap || login->auth == ISCSI_AUTH_DONE);
		check_params(&login->params);
	}
	return 0;
}
