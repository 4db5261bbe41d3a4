/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and rows: pure functions on memory. */
#include "catalog/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/macros.h"

struct catalog_key catalog_key(enum catalog_table table)
{
	struct catalog_key key = {.length = 1};

	ASSERT(table > 0 && (unsigned)table < UINT8_MAX);
	key.bytes[0] = (uint8_t)table;
	return key;
}

void catalog_key_add(struct catalog_key *key, uint64_t number)
{
	ASSERT(key->length + sizeof(number) <= CATALOG_KEY_MAX);
	put_be64(key->bytes + key->length, number);
	key->length += sizeof(number);
}

void catalog_key_add_text(struct catalog_key *key, const char *text)
{
	size_t length = MIN(strlen(text), (size_t)CATALOG_KEY_MAX - key->length);

	memcpy(key->bytes + key->length, text, length);
	key->length += (uint8_t)length;
}

uint64_t catalog_key_number(const struct catalog_key *key, unsigned index)
{
	size_t offset = 1 + sizeof(uint64_t) * index;

	ASSERT(offset + sizeof(uint64_t) <= key->length);
	return get_be64(key->bytes + offset);
}

void catalog_key_text(const struct catalog_key *key, unsigned numbers, char *ret_text, size_t size)
{
	size_t offset = MIN(1 + sizeof(uint64_t) * numbers, (size_t)key->length);
	size_t length = MIN(key->length - offset, size - 1);

	ASSERT(size > 0);
	memcpy(ret_text, key->bytes + offset, length);
	ret_text[length] = '\0';
}

void catalog_row_done(struct catalog_row *row)
{
	free(row->value);
	row->value = NULL;
	row->length = 0;
}

void catalog_rows_done(struct catalog_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		catalog_row_done(&rows->rows[i]);
	free(rows->rows);
	rows->rows = NULL;
	rows->count = 0;
}

void catalog_touch(const struct catalog_row *row, struct catalog_change changes[2])
{
	changes[0] = (struct catalog_change){
		.kind = CATALOG_EXPECT,
		.key = row->key,
		.version = row->version,
	};
	changes[1] = (struct catalog_change){
		.kind = CATALOG_PUT,
		.key = row->key,
		.value = row->value,
		.length = row->length,
	};
}

struct catalog_key catalog_name_key(enum catalog_name_kind kind, uint64_t parent, const char *name)
{
	struct catalog_key key = catalog_key(CATALOG_NAME);

	catalog_key_add(&key, kind);
	catalog_key_add(&key, parent);
	catalog_key_add_text(&key, name);
	return key;
}
