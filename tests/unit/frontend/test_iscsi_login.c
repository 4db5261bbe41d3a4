/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/login.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"

#define INITIATOR "InitiatorName=iqn.2026-01.org.example:Client\0"
#define TARGET    "TargetName=iqn.2026-01.org.sarsen:a.b\0"

static enum iscsi_login_status admit_answer;
static unsigned admitted;

static enum iscsi_login_status admit(void *arg, struct iscsi_login_state *login)
{
	(void)arg;
	admitted++;
	assert_string_equal(login->initiator, "iqn.2026-01.org.example:client");
	if (admit_answer == ISCSI_LOGIN_MOVED_TEMPORARILY)
		strcpy(login->redirect, "10.0.0.2:3260,1");
	return admit_answer;
}

static const struct iscsi_login_ops ops = {.admit = admit};

static struct iscsi_login_state *start(void)
{
	struct iscsi_login_state *login = malloc(sizeof(*login));

	assert_non_null(login);
	admit_answer = ISCSI_LOGIN_SUCCESS;
	admitted = 0;
	iscsi_login_init(login, &ops, NULL);
	return login;
}

static enum iscsi_login_next send_text(struct iscsi_login_state *login, uint8_t flags,
				       const char *text, size_t length)
{
	struct iscsi_login request = {
		.opcode = ISCSI_OP_LOGIN | ISCSI_IMMEDIATE_BIT,
		.flags = flags,
		.isid = {0x80, 1, 2, 3, 4, 5},
		.itt = {0, 0, 0, 9},
	};

	return iscsi_login_request(login, &request, text, length);
}
#define SEND(login, flags, text) send_text(login, flags, text, sizeof(text) - 1)

static bool answered(const struct iscsi_login_state *login, const char *pair)
{
	return memmem(login->answer, login->answer_length, pair, strlen(pair) + 1) != NULL;
}

static unsigned status(const struct iscsi_login_state *login)
{
	return login->response.status_class << 8 | login->response.status_detail;
}

static void two_stages(void **state)
{
	_cleanup_free_ struct iscsi_login_state *login = start();

	(void)state;
	assert_int_equal(
		SEND(login, 0x81, INITIATOR TARGET "SessionType=Normal\0AuthMethod=CHAP,None\0"),
		ISCSI_LOGIN_GO_ON);
	assert_true(answered(login, "AuthMethod=None"));
	assert_true(answered(login, "TargetPortalGroupTag=1"));
	assert_int_equal(login->response.flags, 0x81);
	assert_int_equal(SEND(login, 0x87,
			      "HeaderDigest=CRC32C,None\0DataDigest=None\0InitialR2T=No\0"
			      "ImmediateData=Yes\0MaxBurstLength=16776192\0FirstBurstLength=65536\0"
			      "MaxRecvDataSegmentLength=262144\0MaxConnections=8\0X-foo=1\0"
			      "MaxOutstandingR2T=4\0ErrorRecoveryLevel=2\0DefaultTime2Wait=2\0"
			      "DefaultTime2Retain=0\0DataPDUInOrder=No\0DataSequenceInOrder=Yes\0"
			      "IFMarker=No\0OFMarkInt=1\0TaskReporting=RFC3720,FastAbort\0"),
			 ISCSI_LOGIN_ENTER);
	assert_int_equal(login->response.flags, 0x87);
	assert_true(answered(login, "HeaderDigest=CRC32C"));
	assert_true(answered(login, "DataDigest=None"));
	assert_true(answered(login, "InitialR2T=No"));
	assert_true(answered(login, "MaxBurstLength=1048576"));
	assert_true(answered(login, "FirstBurstLength=65536"));
	assert_true(answered(login, "MaxRecvDataSegmentLength=262144"));
	assert_true(answered(login, "ErrorRecoveryLevel=0"));
	assert_true(answered(login, "MaxOutstandingR2T=1"));
	assert_true(answered(login, "DataPDUInOrder=Yes"));
	assert_true(answered(login, "X-foo=NotUnderstood"));
	assert_true(answered(login, "OFMarkInt=Reject"));
	assert_true(answered(login, "IFMarker=No"));
	assert_true(answered(login, "TaskReporting=RFC3720"));
	assert_true(login->params.header_digest);
	assert_false(login->params.initial_r2t);
	assert_int_equal(login->params.max_send, 262144);
	assert_int_equal(admitted, 1);
}

static void straight_to_full_feature(void **state)
{
	_cleanup_free_ struct iscsi_login_state *login = start();

	(void)state;
	assert_int_equal(SEND(login, 0x83, INITIATOR TARGET), ISCSI_LOGIN_ENTER);
	/* Nothing could be declared in the security stage: the defaults hold. */
	assert_int_equal(login->params.max_recv, ISCSI_DEFAULT_RECV_BYTES);
	assert_true(login->params.initial_r2t);
	assert_int_equal(login->params.first_burst, 65536);
}

static void discovery(void **state)
{
	_cleanup_free_ struct iscsi_login_state *login = start();

	(void)state;
	assert_int_equal(SEND(login, 0x87, INITIATOR "SessionType=Discovery\0MaxBurstLength=512\0"),
			 ISCSI_LOGIN_ENTER);
	assert_true(login->discovery);
	assert_true(answered(login, "MaxBurstLength=Irrelevant"));
}

static void text_over_several_requests(void **state)
{
	_cleanup_free_ struct iscsi_login_state *login = start();

	(void)state;
	assert_int_equal(SEND(login, 0x44, "InitiatorName=iqn.2026-01.org.exa"), ISCSI_LOGIN_GO_ON);
	assert_int_equal(login->response.flags, 0x04);
	assert_int_equal(login->answer_length, 0);
	assert_int_equal(SEND(login, 0x87, "mple:client\0" TARGET), ISCSI_LOGIN_ENTER);
}

static void text_has_a_limit(void **state)
{
	_cleanup_free_ struct iscsi_login_state *login = start();
	static const char part[ISCSI_TEXT_MAX / 2];

	(void)state;
	assert_int_equal(send_text(login, 0x44, part, sizeof(part)), ISCSI_LOGIN_GO_ON);
	assert_int_equal(send_text(login, 0x44, part, sizeof(part)), ISCSI_LOGIN_GO_ON);
	assert_int_equal(send_text(login, 0x44, part, 1), ISCSI_LOGIN_FAIL);
	assert_int_equal(status(login), ISCSI_LOGIN_INITIATOR_ERROR);
}

static void refusals(void **state)
{
#define CASE(flags, text, status)                     \
	{                                             \
		flags, status, text, sizeof(text) - 1 \
	}
	static const struct {
		uint8_t flags;
		unsigned status;
		const char *text;
		size_t length;
	} cases[] = {
		CASE(0x87, TARGET, ISCSI_LOGIN_MISSING_PARAMETER),
		CASE(0x87, INITIATOR, ISCSI_LOGIN_MISSING_PARAMETER),
		CASE(0x87, INITIATOR "SessionType=Odd\0", ISCSI_LOGIN_SESSION_TYPE),
		CASE(0x87, "InitiatorName=client\0" TARGET, ISCSI_LOGIN_INITIATOR_ERROR),
		CASE(0x81, INITIATOR TARGET "AuthMethod=CHAP\0", ISCSI_LOGIN_AUTHENTICATION_FAILED),
		CASE(0x87, INITIATOR TARGET "AuthMethod=None\0", ISCSI_LOGIN_INITIATOR_ERROR),
		CASE(0x87, INITIATOR TARGET "MaxBurstLength=1\0", ISCSI_LOGIN_INITIATOR_ERROR),
		CASE(0x87, INITIATOR TARGET "InitialR2T=Maybe\0", ISCSI_LOGIN_INITIATOR_ERROR),
		CASE(0x87, INITIATOR TARGET "HeaderDigest=SHA\0", ISCSI_LOGIN_INITIATOR_ERROR),
		CASE(0x87, INITIATOR TARGET "InitialR2T=No\0InitialR2T=No\0",
		     ISCSI_LOGIN_INITIATOR_ERROR),
		CASE(0x87, INITIATOR TARGET "novalue\0", ISCSI_LOGIN_INITIATOR_ERROR),
		CASE(0x85, INITIATOR TARGET, ISCSI_LOGIN_INVALID_REQUEST), /* to the same stage */
		CASE(0x86, INITIATOR TARGET, ISCSI_LOGIN_INVALID_REQUEST), /* to no stage */
		CASE(0x8b, INITIATOR TARGET, ISCSI_LOGIN_INVALID_REQUEST), /* from no stage */
		CASE(0xc7, INITIATOR TARGET,
		     ISCSI_LOGIN_INVALID_REQUEST), /* on, but more follows */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ struct iscsi_login_state *login = start();

		assert_int_equal(send_text(login, cases[i].flags, cases[i].text, cases[i].length),
				 ISCSI_LOGIN_FAIL);
		assert_int_equal(status(login), cases[i].status);
		assert_int_equal(login->answer_length, 0);
	}
}

static void the_server_decides(void **state)
{
	static const enum iscsi_login_status answers[] = {
		ISCSI_LOGIN_NOT_FOUND,
		ISCSI_LOGIN_FORBIDDEN,
		ISCSI_LOGIN_MOVED_TEMPORARILY,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		_cleanup_free_ struct iscsi_login_state *login = start();

		admit_answer = answers[i];
		assert_int_equal(SEND(login, 0x87, INITIATOR TARGET), ISCSI_LOGIN_FAIL);
		assert_int_equal(status(login), answers[i]);
		assert_int_equal(answered(login, "TargetAddress=10.0.0.2:3260,1"),
				 answers[i] == ISCSI_LOGIN_MOVED_TEMPORARILY);
	}
}

static void the_first_request_binds(void **state)
{
	_cleanup_free_ struct iscsi_login_state *login = start();
	struct iscsi_login request = {
		.opcode = ISCSI_OP_LOGIN | ISCSI_IMMEDIATE_BIT,
		.flags = 0x87,
		.isid = {0x80, 1, 2, 3, 4, 6}, /* another one */
		.itt = {0, 0, 0, 9},
	};

	(void)state;
	assert_int_equal(SEND(login, 0x81, INITIATOR TARGET "AuthMethod=None\0"),
			 ISCSI_LOGIN_GO_ON);
	assert_int_equal(iscsi_login_request(login, &request, NULL, 0), ISCSI_LOGIN_FAIL);
	assert_int_equal(status(login), ISCSI_LOGIN_INVALID_REQUEST);
}

static void versions_and_opcodes(void **state)
{
	_cleanup_free_ struct iscsi_login_state *a = start(), *b = start();
	struct iscsi_login request = {
		.opcode = ISCSI_OP_LOGIN | ISCSI_IMMEDIATE_BIT,
		.flags = 0x87,
		.version_max = 2,
		.version_min = 1,
	};

	(void)state;
	assert_int_equal(iscsi_login_request(a, &request, NULL, 0), ISCSI_LOGIN_FAIL);
	assert_int_equal(status(a), ISCSI_LOGIN_UNSUPPORTED_VERSION);
	request.version_min = 0;
	request.opcode = ISCSI_OP_TEXT | ISCSI_IMMEDIATE_BIT;
	assert_int_equal(iscsi_login_request(b, &request, NULL, 0), ISCSI_LOGIN_FAIL);
	assert_int_equal(status(b), ISCSI_LOGIN_INVALID_REQUEST);
}

static void first_burst_is_within_max_burst(void **state)
{
	_cleanup_free_ struct iscsi_login_state *login = start();

	(void)state;
	assert_int_equal(SEND(login, 0x87, INITIATOR TARGET "MaxBurstLength=4096\0"),
			 ISCSI_LOGIN_ENTER);
	assert_int_equal(login->params.first_burst, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_stages),
		cmocka_unit_test(straight_to_full_feature),
		cmocka_unit_test(discovery),
		cmocka_unit_test(text_over_several_requests),
		cmocka_unit_test(text_has_a_limit),
		cmocka_unit_test(refusals),
		cmocka_unit_test(the_server_decides),
		cmocka_unit_test(the_first_request_binds),
		cmocka_unit_test(versions_and_opcodes),
		cmocka_unit_test(first_burst_is_within_max_burst),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
