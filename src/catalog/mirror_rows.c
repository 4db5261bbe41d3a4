/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/mirror_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

struct mirror_rows_change {
	struct catalog_row row; /* without a value: the row goes */
	bool is_delete;
	size_t order;
};

int mirror_key_compare(const struct catalog_key *a, const struct catalog_key *b)
{
	int r = memcmp(a->bytes, b->bytes, MIN(a->length, b->length));

	return r ? r : (int)a->length - (int)b->length;
}

void mirror_rows_done(struct mirror_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		catalog_row_done(&rows->rows[i]);
	for (size_t i = 0; i < rows->change_count; i++)
		catalog_row_done(&rows->changes[i].row);
	free(rows->rows);
	free(rows->changes);
	*rows = (struct mirror_rows){0};
}

static int row_make(const struct mirror_entry *entry, struct catalog_row *ret_row)
{
	uint8_t *value = malloc(entry->length + 1u);

	if (!value)
		return -ENOMEM;
	if (entry->length > 0)
		memcpy(value, entry->value, entry->length);
	*ret_row = (struct catalog_row){.key = entry->key,
					.version = entry->version,
					.length = entry->length,
					.value = value};
	return 0;
}

static int reserve(void **array, size_t size, size_t count, size_t *capacity)
{
	size_t more = MAX(*capacity * 2, (size_t)64);
	void *grown;

	if (count < *capacity)
		return 0;
	grown = realloc(*array, more * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = more;
	return 0;
}

int mirror_rows_add(struct mirror_rows *rows, const struct mirror_entry *entry)
{
	int r;

	ASSERT(rows->change_count == 0);
	if (entry->kind != CATALOG_PUT ||
	    (rows->count > 0 &&
	     mirror_key_compare(&rows->rows[rows->count - 1].key, &entry->key) >= 0))
		return -EUCLEAN;
	r = reserve((void **)&rows->rows, sizeof(*rows->rows), rows->count, &rows->capacity);
	if (r == 0)
		r = row_make(entry, &rows->rows[rows->count]);
	if (r == 0)
		rows->count++;
	return r;
}

static int change_compare(const void *a, const void *b)
{
	const struct mirror_rows_change *x = a, *y = b;
	int r = mirror_key_compare(&x->row.key, &y->row.key);

	return r ? r : (x->order < y->order ? -1 : 1);
}

/* The last change of each key; frees the others. */
static void changes_reduce(struct mirror_rows *rows)
{
	struct mirror_rows_change *changes = rows->changes;
	size_t kept = 0;

	qsort(changes, rows->change_count, sizeof(*changes), change_compare);
	for (size_t i = 0; i < rows->change_count; i++) {
		if (i + 1 < rows->change_count &&
		    mirror_key_compare(&changes[i].row.key, &changes[i + 1].row.key) == 0)
			catalog_row_done(&changes[i].row);
		else
			changes[kept++] = changes[i];
	}
	rows->change_count = kept;
}

int mirror_rows_settle(struct mirror_rows *rows)
{
	struct catalog_row *merged;
	size_t i = 0, j = 0, count = 0;

	if (rows->change_count == 0)
		return 0;
	merged = calloc(rows->count + rows->change_count, sizeof(*merged));
	if (!merged)
		return -ENOMEM;
	changes_reduce(rows);
	while (i < rows->count || j < rows->change_count) {
		int order = 1;

		if (j == rows->change_count)
			order = -1;
		else if (i < rows->count)
			order = mirror_key_compare(&rows->rows[i].key, &rows->changes[j].row.key);

		if (order < 0) {
			merged[count++] = rows->rows[i++];
			continue;
		}
		if (order == 0)
			catalog_row_done(&rows->rows[i++]);
		if (!rows->changes[j].is_delete)
			merged[count++] = rows->changes[j].row;
		j++;
	}
	free(rows->rows);
	rows->rows = merged;
	rows->capacity = rows->count + rows->change_count;
	rows->count = count;
	rows->change_count = 0;
	return 0;
}

/* The first row that does not come before the key. */
static size_t lower_bound(const struct mirror_rows *rows, const struct catalog_key *key)
{
	size_t low = 0, high = rows->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (mirror_key_compare(&rows->rows[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool has_prefix(const struct catalog_key *key, const struct catalog_key *prefix)
{
	return key->length >= prefix->length &&
	       memcmp(key->bytes, prefix->bytes, prefix->length) == 0;
}

static int delete_prefix(struct mirror_rows *rows, const struct catalog_key *prefix)
{
	int r = mirror_rows_settle(rows);
	size_t first, end;

	if (r)
		return r;
	first = end = lower_bound(rows, prefix);
	while (end < rows->count && has_prefix(&rows->rows[end].key, prefix))
		catalog_row_done(&rows->rows[end++]);
	if (end > first)
		memmove(&rows->rows[first], &rows->rows[end],
			(rows->count - end) * sizeof(*rows->rows));
	rows->count -= end - first;
	return 0;
}

int mirror_rows_apply(struct mirror_rows *rows, const struct mirror_entry *entry)
{
	struct mirror_rows_change change = {.row.key = entry->key,
					    .is_delete = entry->kind == CATALOG_DELETE,
					    .order = rows->change_count};
	int r = 0;

	if (entry->kind == CATALOG_DELETE_PREFIX)
		return delete_prefix(rows, &entry->key);
	r = reserve((void **)&rows->changes, sizeof(*rows->changes), rows->change_count,
		    &rows->change_capacity);
	if (r == 0 && !change.is_delete)
		r = row_make(entry, &change.row);
	if (r == 0)
		rows->changes[rows->change_count++] = change;
	return r;
}

const struct catalog_row *mirror_rows_find(const struct mirror_rows *rows,
					   const struct catalog_key *key)
{
	size_t index;

	ASSERT(rows->change_count == 0);
	index = lower_bound(rows, key);
	if (index == rows->count || mirror_key_compare(&rows->rows[index].key, key) != 0)
		return NULL;
	return &rows->rows[index];
}
