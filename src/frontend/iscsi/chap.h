/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * CHAP (RFC 1994) as iSCSI uses it (RFC 7143 section 12.1.3): the pieces that login.c puts
 * together. Pure; the challenge comes from the caller. Secrets are wiped by who holds them,
 * compared in constant time, and never written anywhere.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ISCSI_CHAP_USER_MAX        223
#define ISCSI_CHAP_SECRET_MIN      12 /* RFC 7143 9.2.1: 96 bits where there is no IPsec */
#define ISCSI_CHAP_SECRET_MAX      128
#define ISCSI_CHAP_CHALLENGE_BYTES 32
#define ISCSI_CHAP_CHALLENGE_MAX   1024 /* 12.1.3, of the initiator's */
#define ISCSI_CHAP_DIGEST_MAX      32
#define ISCSI_CHAP_TEXT_MAX        (2 + 2 * ISCSI_CHAP_CHALLENGE_BYTES + 1)

struct iscsi_chap { /* who proves what; an empty secret: not asked for, or cannot */
	char user[ISCSI_CHAP_USER_MAX + 1]; /* the initiator to us */
	char secret[ISCSI_CHAP_SECRET_MAX + 1];
	char own_user[ISCSI_CHAP_USER_MAX + 1]; /* we to the initiator */
	char own_secret[ISCSI_CHAP_SECRET_MAX + 1];
};

enum iscsi_chap_algorithm { /* RFC 7143 12.1.3 and IANA's PPP authentication algorithms */
			    ISCSI_CHAP_NONE = 0,
			    ISCSI_CHAP_MD5 = 5,
			    ISCSI_CHAP_SHA256 = 7,
			    ISCSI_CHAP_SHA3_256 = 8,
};

/* 0, or -EINVAL: a secret of a wrong length, a user without a secret or the other way round, or the
 * same secret for both directions. */
int iscsi_chap_check(const struct iscsi_chap *chap);
void iscsi_chap_wipe(struct iscsi_chap *chap);
/* The first one that is known of a list like "7,5", which has the initiator's preference (RFC 7143
 * 6.2.1, 12.1.3), or ISCSI_CHAP_NONE. */
enum iscsi_chap_algorithm iscsi_chap_choose(const char *list);
/* Decodes 0x (hexadecimal) or 0b (base 64), RFC 7143 6.1. -EINVAL. */
int iscsi_chap_decode(const char *text, uint8_t *ret_bytes, size_t size, size_t *ret_length);
/* Hexadecimal with 0x; `ret_text` holds 2 * length + 3 bytes. */
void iscsi_chap_encode(const uint8_t *bytes, size_t length, char *ret_text);
/* The response to a challenge; returns its length, or 0 when the library lacks the algorithm. */
size_t iscsi_chap_respond(enum iscsi_chap_algorithm algorithm, uint8_t identifier,
			  const char *secret, const uint8_t *challenge, size_t challenge_length,
			  uint8_t ret_digest[static ISCSI_CHAP_DIGEST_MAX]);
/* In a time that depends on the length only. */
bool iscsi_chap_equal(const uint8_t *a, const uint8_t *b, size_t length);
