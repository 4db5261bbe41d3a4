/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/login.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"

#define INITIATOR "InitiatorName=iqn.2026-01.org.example:Client\0"
#define TARGET    "TargetName=iqn.2026-01.org.sarsen:a.b\0"

static enum iscsi_login_status admit_answer;
static unsigned admitted;
static struct iscsi_chap required; /* of the next login */

static enum iscsi_login_status admit(void *arg, struct iscsi_login_state *login)
{
	(void)arg;
	admitted++;
	assert_string_equal(login->initiator, "iqn.2026-01.org.example:client");
	if (admit_answer == ISCSI_LOGIN_MOVED_TEMPORARILY)
		strcpy(login->redirect, "10.0.0.2:3260,1");
	login->chap = required;
	return admit_answer;
}

static uint8_t next_random;

static void fake_random(void *arg, void *bytes, size_t length)
{
	(void)arg;
	memset(bytes, ++next_random, length);
}

static const struct iscsi_login_ops ops = {.admit = admit, .random = fake_random};

static struct iscsi_login_state *start(void)
{
	struct iscsi_login_state *login = malloc(sizeof(*login));

	assert_non_null(login);
	admit_answer = ISCSI_LOGIN_SUCCESS;
	admitted = 0;
	required = (struct iscsi_chap){0};
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

/* --- CHAP --- */

#define SECRET     "correct horse battery"
#define OWN_SECRET "staple of the target"

static struct iscsi_login_state *start_chap(bool mutual)
{
	struct iscsi_login_state *login = start();

	strcpy(required.user, "joe");
	strcpy(required.secret, SECRET);
	if (mutual) {
		strcpy(required.own_user, "target");
		strcpy(required.own_secret, OWN_SECRET);
	}
	assert_int_equal(SEND(login, 0x81, INITIATOR TARGET "AuthMethod=CHAP,None\0"),
			 ISCSI_LOGIN_GO_ON);
	assert_true(answered(login, "AuthMethod=CHAP"));
	assert_int_equal(login->response.flags, 0); /* not before it is proved */
	return login;
}

/* The proof for the challenge that is out, and perhaps a challenge of ours. */
static enum iscsi_login_next prove(struct iscsi_login_state *login, const char *user,
				   const char *secret, const char *more, size_t more_length)
{
	uint8_t digest[ISCSI_CHAP_DIGEST_MAX];
	char hex[2 * ISCSI_CHAP_DIGEST_MAX + 3], text[1024];
	size_t length = iscsi_chap_respond(login->algorithm, login->identifier, secret,
					   login->challenge, sizeof(login->challenge), digest);

	iscsi_chap_encode(digest, length, hex);
	length = (size_t)snprintf(text, sizeof(text), "CHAP_N=%s%cCHAP_R=%s%c", user, 0, hex, 0);
	memcpy(text + length, more, more_length);
	return send_text(login, 0x81, text, length + more_length);
}

static void challenge(struct iscsi_login_state *login, const char *list)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "CHAP_A=%s%c", list, 0);

	assert_int_equal(send_text(login, 0x00, text, (size_t)length), ISCSI_LOGIN_GO_ON);
}

static void chap_is_proved(void **state)
{
	static const char *const lists[] = {"5", "6,7,5", "8,7,5"};
	static const char *const chosen[] = {"CHAP_A=5", "CHAP_A=7", "CHAP_A=8"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		_cleanup_free_ struct iscsi_login_state *login = start_chap(false);

		challenge(login, lists[i]);
		assert_true(answered(login, chosen[i]));
		assert_null(memmem(login->answer, login->answer_length, SECRET, 8));
		assert_int_equal(prove(login, "joe", SECRET, "", 0), ISCSI_LOGIN_GO_ON);
		assert_int_equal(login->response.flags, 0x81);
		assert_int_equal(SEND(login, 0x87, "MaxConnections=1\0"), ISCSI_LOGIN_ENTER);
		iscsi_login_done(login);
		assert_int_equal(login->chap.secret[0], 0);
	}
}

#define OWN_CHALLENGE "CHAP_I=9\0CHAP_C=0x00112233445566778899aabbccddeeff\0"

static void chap_proves_the_target(void **state)
{
	_cleanup_free_ struct iscsi_login_state *login = start_chap(true);
	static const uint8_t bytes[] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
					0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
	uint8_t digest[ISCSI_CHAP_DIGEST_MAX];
	char text[2 * ISCSI_CHAP_DIGEST_MAX + 10] = "CHAP_R=";

	(void)state;
	challenge(login, "7");
	assert_int_equal(prove(login, "joe", SECRET, OWN_CHALLENGE, sizeof(OWN_CHALLENGE) - 1),
			 ISCSI_LOGIN_GO_ON);
	assert_int_equal(login->response.flags, 0x81);
	assert_true(answered(login, "CHAP_N=target"));
	iscsi_chap_encode(
		digest,
		iscsi_chap_respond(ISCSI_CHAP_SHA256, 9, OWN_SECRET, bytes, sizeof(bytes), digest),
		text + 7);
	assert_true(answered(login, text));
}

static void expect_refused(struct iscsi_login_state *login, enum iscsi_login_next next)
{
	assert_int_equal(next, ISCSI_LOGIN_FAIL);
	assert_int_equal(status(login), ISCSI_LOGIN_AUTHENTICATION_FAILED);
	assert_int_equal(login->answer_length, 0);
	free(login);
}

static void chap_is_refused(void **state)
{
	struct iscsi_login_state *login = start_chap(false);
	char reflected[ISCSI_CHAP_TEXT_MAX], more[128];
	int length;

	(void)state;
	expect_refused(login, SEND(login, 0x81, "CHAP_A=6\0")); /* SHA-1 is not offered */
	login = start_chap(false);
	expect_refused(login, SEND(login, 0x81, "CHAP_N=joe\0CHAP_R=0x00\0"));
	login = start_chap(false);
	expect_refused(login, SEND(login, 0x81, "")); /* does not go on */
	login = start_chap(false);
	challenge(login, "5");
	expect_refused(login, prove(login, "joe", "wrong secret of joe", "", 0));
	login = start_chap(false);
	challenge(login, "5");
	expect_refused(login, prove(login, "jim", SECRET, "", 0));
	login = start_chap(false); /* we cannot prove anything */
	challenge(login, "5");
	expect_refused(login,
		       prove(login, "joe", SECRET, OWN_CHALLENGE, sizeof(OWN_CHALLENGE) - 1));
	login = start_chap(true); /* the secret of the other direction */
	challenge(login, "5");
	expect_refused(login, prove(login, "joe", OWN_SECRET, "", 0));
	login = start_chap(true); /* our own challenge comes back */
	challenge(login, "5");
	iscsi_chap_encode(login->challenge, sizeof(login->challenge), reflected);
	length = snprintf(more, sizeof(more), "CHAP_I=1%cCHAP_C=%s%c", 0, reflected, 0);
	expect_refused(login, prove(login, "joe", SECRET, more, (size_t)length));
	login = start();
	strcpy(required.secret, SECRET);
	expect_refused(login, SEND(login, 0x81, INITIATOR TARGET "AuthMethod=None\0"));
	login = start();
	strcpy(required.secret, SECRET); /* around the security stage */
	expect_refused(login, SEND(login, 0x87, INITIATOR TARGET));
	login = start();
	strcpy(required.secret, SECRET);
	expect_refused(login, SEND(login, 0x83, INITIATOR TARGET));
}

static void chap_cannot_be_replayed(void **state)
{
	_cleanup_free_ struct iscsi_login_state *first = start_chap(false);
	struct iscsi_login_state *second;
	char proof[2 * ISCSI_CHAP_DIGEST_MAX + 3], text[256];
	uint8_t digest[ISCSI_CHAP_DIGEST_MAX];
	int length;

	(void)state;
	challenge(first, "5");
	iscsi_chap_encode(digest,
			  iscsi_chap_respond(ISCSI_CHAP_MD5, first->identifier, SECRET,
					     first->challenge, sizeof(first->challenge), digest),
			  proof);
	length = snprintf(text, sizeof(text), "CHAP_N=joe%cCHAP_R=%s%c", 0, proof, 0);
	assert_int_equal(send_text(first, 0x81, text, (size_t)length), ISCSI_LOGIN_GO_ON);
	second = start_chap(false);
	challenge(second, "5");
	expect_refused(second, send_text(second, 0x81, text, (size_t)length));
}

static void numbers_of_chap(void **state)
{
	uint8_t bytes[8];
	size_t length;
	struct iscsi_chap chap = {.user = "a", .secret = "short"};

	(void)state;
	assert_int_equal(iscsi_chap_decode("0xAbc", bytes, 8, &length), 0);
	assert_int_equal(length, 2);
	assert_int_equal(bytes[0], 0x0a);
	assert_int_equal(bytes[1], 0xbc);
	assert_int_equal(iscsi_chap_decode("0bAQID", bytes, 8, &length), 0);
	assert_int_equal(length, 3);
	assert_memory_equal(bytes, "\1\2\3", 3);
	assert_int_equal(iscsi_chap_decode("0BAQI=", bytes, 8, &length), 0);
	assert_int_equal(length, 2);
	assert_int_equal(iscsi_chap_decode("0bAQI", bytes, 8, &length), -EINVAL);
	assert_int_equal(iscsi_chap_decode("0bA*ID", bytes, 8, &length), -EINVAL);
	assert_int_equal(iscsi_chap_decode("0bAAAAAAAAAAAAAAAA", bytes, 8, &length), -EINVAL);
	assert_int_equal(iscsi_chap_decode("0x112233445566778899", bytes, 8, &length), -EINVAL);
	assert_int_equal(iscsi_chap_decode("0x1g", bytes, 8, &length), -EINVAL);
	assert_int_equal(iscsi_chap_decode("0x", bytes, 8, &length), -EINVAL);
	assert_int_equal(iscsi_chap_decode("12", bytes, 8, &length), -EINVAL);
	assert_int_equal(iscsi_chap_decode("", bytes, 8, &length), -EINVAL);
	assert_int_equal(iscsi_chap_choose("1,2"), ISCSI_CHAP_NONE);
	assert_int_equal(iscsi_chap_choose("x"), ISCSI_CHAP_NONE);
	assert_int_equal(iscsi_chap_choose("5,x"), ISCSI_CHAP_NONE);
	assert_int_equal(iscsi_chap_choose("5,6,7,8"), ISCSI_CHAP_MD5);
	assert_int_equal(iscsi_chap_choose("6,8,7,5"), ISCSI_CHAP_SHA3_256);
	assert_int_equal(iscsi_chap_choose("5,"), ISCSI_CHAP_MD5);
	assert_int_equal(iscsi_chap_check(&chap), -EINVAL);
	strcpy(chap.secret, SECRET);
	assert_int_equal(iscsi_chap_check(&chap), 0);
	strcpy(chap.own_user, "b");
	assert_int_equal(iscsi_chap_check(&chap), -EINVAL);
	strcpy(chap.own_secret, SECRET); /* the same for both */
	assert_int_equal(iscsi_chap_check(&chap), -EINVAL);
	strcpy(chap.own_secret, OWN_SECRET);
	assert_int_equal(iscsi_chap_check(&chap), 0);
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
		cmocka_unit_test(chap_is_proved),
		cmocka_unit_test(chap_proves_the_target),
		cmocka_unit_test(chap_is_refused),
		cmocka_unit_test(chap_cannot_be_replayed),
		cmocka_unit_test(numbers_of_chap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
