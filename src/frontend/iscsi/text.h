/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Text of login and text requests: key=value pairs that end with a NUL (RFC 7143 section 6.1). A
 * reader walks over received bytes without changing or trusting them; a writer fills a bounded
 * buffer.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/iscsi/iscsi.h"

#define ISCSI_TEXT_MAX     16384 /* of one negotiation step, over all its PDUs */
#define ISCSI_TEXT_KEY_MAX 63    /* 6.1 */
#define ISCSI_TEXT_VALUE_MAX \
	8192 /* 6.1: unless a key says otherwise 255, SendTargets answers more */

struct iscsi_text_reader {
	const char *at;
	size_t left;
};

struct iscsi_text_pair { /* both point into the text read and end with a NUL */
	char key[ISCSI_TEXT_KEY_MAX + 1];
	const char *value;
	size_t value_length;
};

void iscsi_text_reader_init(struct iscsi_text_reader *reader, const void *text, size_t length);
/* 1 and the next pair, 0 at the end, -EINVAL for bytes that are no pair: no '=', an empty or
 * overlong key, a character that keys cannot have, a missing NUL. */
int iscsi_text_next(struct iscsi_text_reader *reader, struct iscsi_text_pair *ret_pair);

struct iscsi_text_writer {
	char *buffer;
	size_t size, length;
	bool overflowed; /* sticky; what did not fit is left out */
};

void iscsi_text_writer_init(struct iscsi_text_writer *writer, void *buffer, size_t size);
void iscsi_text_put(struct iscsi_text_writer *writer, const char *key, const char *value);
void iscsi_text_put_number(struct iscsi_text_writer *writer, const char *key, uint64_t value);

/* Decimal, or hexadecimal after 0x (6.1); the whole value. -EINVAL, -ERANGE above `max`. */
int iscsi_text_parse_number(const char *value, uint64_t max, uint64_t *ret_number);
/* "Yes" or "No". */
int iscsi_text_parse_bool(const char *value, bool *ret_bool);
/* Is `word` one of the comma-separated words of `list`? */
bool iscsi_text_list_has(const char *list, const char *word);

/* A name by section 4.2.7: iqn., eui. or naa., at most 223 bytes of the characters allowed after
 * normalisation. */
bool iscsi_text_is_name(const char *name);
/* A name as an initiator sends it, in the lower case that names are kept in (4.2.7.1); false when
 * it is none. */
bool iscsi_text_take_name(const struct iscsi_text_pair *pair, char ret_name[ISCSI_NAME_MAX + 1]);
