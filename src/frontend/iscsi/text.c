/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>


void iscsi_text_reader_init(struct iscsi_text_reader *reader, const void *text, size_t length)
{
	*reader = (struct iscsi_text_reader){.at = text, .left = length};
}

static bool is_key_character(unsigned char c)
{
	return isalnum(c) || strchr(".-+@_", c) != NULL;
}

int iscsi_text_next(struct iscsi_text_reader *reader, struct iscsi_text_pair *ret_pair)
{
	const char *end, *equals;
	size_t key_length;

	if (reader->left == 0)
		return 0;
	end = memchr(reader->at, '\0', reader->left);
	equals = end ? memchr(reader->at, '=', (size_t)(end - reader->at)) : NULL;
	if (!equals)
		return -EINVAL;
	key_length = (size_t)(equals - reader->at);
	if (key_length == 0 || key_length > ISCSI_TEXT_KEY_MAX)
		return -EINVAL;
	for (size_t i = 0; i < key_length; i++) {
		if (reader->at[i] == '\0' || !is_key_character((unsigned char)reader->at[i]))
			return -EINVAL;
	}
	if ((size_t)(end - equals) - 1 > ISCSI_TEXT_VALUE_MAX)
		return -EINVAL;
	memcpy(ret_pair->key, reader->at, key_length);
	ret_pair->key[key_length] = '\0';
	ret_pair->value = equals + 1;
	ret_pair->value_length = (size_t)(end - equals) - 1;
	reader->left -= (size_t)(end - reader->at) + 1;
	reader->at = end + 1;
	return 1;
}

void iscsi_text_writer_init(struct iscsi_text_writer *writer, void *buffer, size_t size)
{
	*writer = (struct iscsi_text_writer){.buffer = buffer, .size = size};
}

void iscsi_text_put(struct iscsi_text_writer *writer, const char *key, const char *value)
{
	size_t key_length = strlen(key), value_length = strlen(value);
	size_t need = key_length + 1 + value_length + 1;
	char *at = writer->buffer + writer->length;

	if (need > writer->size - writer->length) {
		writer->overflowed = true;
		return;
	}
	memcpy(at, key, key_length);
	at[key_length] = '=';
	memcpy(at + key_length + 1, value, value_length + 1);
	writer->length += need;
}

void iscsi_text_put_number(struct iscsi_text_writer *writer, const char *key, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%" PRIu64, value);
	iscsi_text_put(writer, key, digits);
}

static int digit_value(char c, unsigned base)
{
	int value = -1;

	if (c >= '0' && c <= '9')
		value = c - '0';
	else if (c >= 'a' && c <= 'f')
		value = c - 'a' + 10;
	else if (c >= 'A' && c <= 'F')
		value = c - 'A' + 10;
	return value >= 0 && (unsigned)value < base ? value : -1;
}

int iscsi_text_parse_number(const char *value, uint64_t max, uint64_t *ret_number)
{
	unsigned base = 10;
	uint64_t number = 0;

	if (value[0] == '0' && (value[1] == 'x' || value[1] == 'X')) {
		base = 16;
		value += 2;
	}
	if (*value == '\0')
		return -EINVAL;
	for (; *value; value++) {
		int digit = digit_value(*value, base);

		if (digit < 0)
			return -EINVAL;
		if (number > (UINT64_MAX - (unsigned)digit) / base)
			return -ERANGE;
		number = number * base + (unsigned)digit;
	}
	if (number > max)
		return -ERANGE;
	*ret_number = number;
	return 0;
}

int iscsi_text_parse_bool(const char *value, bool *ret_bool)
{
	if (strcmp(value, "Yes") != 0 && strcmp(value, "No") != 0)
		return -EINVAL;
	*ret_bool = value[0] == 'Y';
	return 0;
}

bool iscsi_text_list_has(const char *list, const char *word)
{
	size_t length = strlen(word);

	while (*list) {
		size_t item = strcspn(list, ",");

		if (item == length && memcmp(list, word, length) == 0)
			return true;
		list += item;
		list += *list == ',';
	}
	return false;
}

bool iscsi_text_is_name(const char *name)
{
	size_t length = strlen(name);

	if (length < 5 || length > ISCSI_NAME_MAX)
		return false;
	if (strncmp(name, "iqn.", 4) != 0 && strncmp(name, "eui.", 4) != 0 &&
	    strncmp(name, "naa.", 4) != 0)
		return false;
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)name[i];

		/* Bytes above 0x7f are UTF-8, compared as they are. */
		if (c < 0x80 && !islower(c) && !isdigit(c) && !strchr("-.:", c))
			return false;
	}
	return true;
}

bool iscsi_text_take_name(const struct iscsi_text_pair *pair, char ret_name[ISCSI_NAME_MAX + 1])
{
	if (pair->value_length > ISCSI_NAME_MAX)
		return false;
	for (size_t i = 0; i <= pair->value_length; i++)
		ret_name[i] = (char)tolower((unsigned char)pair->value[i]);
	return iscsi_text_is_name(ret_name);
}
