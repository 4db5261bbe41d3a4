/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/chap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/macros.h"

static bool is_complete(const char *user, const char *secret)
{
	size_t length = strlen(secret);

	if (length == 0)
		return user[0] == '\0';
	return user[0] != '\0' && length >= ISCSI_CHAP_SECRET_MIN;
}

int iscsi_chap_check(const struct iscsi_chap *chap)
{
	if (!is_complete(chap->user, chap->secret) ||
	    !is_complete(chap->own_user, chap->own_secret))
		return -EINVAL;
	/* 9.2.1: with one secret for both, an initiator could have us answer our own challenge. */
	if (chap->own_secret[0] != '\0' &&
	    (chap->secret[0] == '\0' || strcmp(chap->secret, chap->own_secret) == 0))
		return -EINVAL;
	return 0;
}

void iscsi_chap_wipe(struct iscsi_chap *chap)
{
	OPENSSL_cleanse(chap, sizeof(*chap));
}

static const char *digest_name(enum iscsi_chap_algorithm algorithm)
{
	switch (algorithm) {
	case ISCSI_CHAP_MD5:
		return "MD5";
	case ISCSI_CHAP_SHA256:
		return "SHA2-256";
	case ISCSI_CHAP_SHA3_256:
		return "SHA3-256";
	default:
		return NULL;
	}
}

enum iscsi_chap_algorithm iscsi_chap_choose(const char *list)
{
	enum iscsi_chap_algorithm first = ISCSI_CHAP_NONE;

	while (*list) {
		char *end;
		unsigned long number = strtoul(list, &end, 0);

		if (end == list || (*end != ',' && *end != '\0'))
			return ISCSI_CHAP_NONE;
		if (first == ISCSI_CHAP_NONE && number <= ISCSI_CHAP_SHA3_256 &&
		    digest_name((enum iscsi_chap_algorithm)number))
			first = (enum iscsi_chap_algorithm)number;
		list = *end ? end + 1 : end;
	}
	return first;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int decode_hex(const char *text, uint8_t *ret_bytes, size_t size, size_t *ret_length)
{
	size_t digits = strlen(text), length = (digits + 1) / 2;

	if (digits == 0 || length > size)
		return -EINVAL;
	memset(ret_bytes, 0, length);
	for (size_t i = 0; i < digits; i++) {
		int digit = hex_digit(text[i]);
		size_t at = i + digits % 2; /* an odd number of digits: a zero stands before */

		if (digit < 0)
			return -EINVAL;
		ret_bytes[at / 2] |= (uint8_t)(at % 2 ? digit : digit << 4);
	}
	*ret_length = length;
	return 0;
}

static int base64_digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

static int decode_base64(const char *text, uint8_t *ret_bytes, size_t size, size_t *ret_length)
{
	size_t digits = strlen(text), length = 0;
	uint32_t bits = 0;

	if (digits == 0 || digits % 4 != 0)
		return -EINVAL;
	for (unsigned i = 0; i < 2 && text[digits - 1] == '='; i++)
		digits--;
	for (size_t i = 0; i < digits; i++) {
		int digit = base64_digit(text[i]);

		if (digit < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)digit;
		if (i % 4 == 0)
			continue;
		if (length == size)
			return -EINVAL;
		ret_bytes[length++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
	}
	*ret_length = length;
	return 0;
}

int iscsi_chap_decode(const char *text, uint8_t *ret_bytes, size_t size, size_t *ret_length)
{
	if (text[0] != '0')
		return -EINVAL;
	if (text[1] == 'x' || text[1] == 'X')
		return decode_hex(text + 2, ret_bytes, size, ret_length);
	if (text[1] == 'b' || text[1] == 'B')
		return decode_base64(text + 2, ret_bytes, size, ret_length);
	return -EINVAL;
}

void iscsi_chap_encode(const uint8_t *bytes, size_t length, char *ret_text)
{
	static const char digits[] = "0123456789abcdef";

	*ret_text++ = '0';
	*ret_text++ = 'x';
	for (size_t i = 0; i < length; i++) {
		*ret_text++ = digits[bytes[i] >> 4];
		*ret_text++ = digits[bytes[i] & 0x0f];
	}
	*ret_text = '\0';
}

static void free_context(EVP_MD_CTX **context)
{
	EVP_MD_CTX_free(*context);
}

static void free_digest(EVP_MD **digest)
{
	EVP_MD_free(*digest);
}

size_t iscsi_chap_respond(enum iscsi_chap_algorithm algorithm, uint8_t identifier,
			  const char *secret, const uint8_t *challenge, size_t challenge_length,
			  uint8_t ret_digest[static ISCSI_CHAP_DIGEST_MAX])
{
	const char *name = digest_name(algorithm);
	_cleanup_(free_digest) EVP_MD *digest = name ? EVP_MD_fetch(NULL, name, NULL) : NULL;
	_cleanup_(free_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned length = 0;

	if (!digest || !context || EVP_MD_get_size(digest) > ISCSI_CHAP_DIGEST_MAX ||
	    !EVP_DigestInit_ex(context, digest, NULL) ||
	    !EVP_DigestUpdate(context, &identifier, 1) ||
	    !EVP_DigestUpdate(context, secret, strlen(secret)) ||
	    !EVP_DigestUpdate(context, challenge, challenge_length) ||
	    !EVP_DigestFinal_ex(context, ret_digest, &length))
		return 0;
	return length;
}

bool iscsi_chap_equal(const uint8_t *a, const uint8_t *b, size_t length)
{
	return CRYPTO_memcmp(a, b, length) == 0;
}
