/* SPDX-License-Identifier: Apache-2.0 */
/* Catalog rows of groups and files that cannot be true are refused, and outputs left untouched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "egroup/rows.h"
#include "egroup/store_priv.h"

struct spoil {
	unsigned offset;
	uint8_t byte;
};

static uint8_t value[EGROUP_ROW_BYTES];

static struct catalog_row row_of(enum catalog_table table, uint64_t id)
{
	struct catalog_row row = {.key = catalog_key(table), .version = 1};

	catalog_key_add(&row.key, 1);
	catalog_key_add(&row.key, 2);
	catalog_key_add(&row.key, id);
	row.value = value;
	row.length = sizeof(value);
	return row;
}

static void make_group_row(void)
{
	struct egroup_file file = {.id = 7, .compacted = true};
	struct egroup group = {.file = &file,
			       .stream = RECORD_STREAM_LOG,
			       .sealed = true,
			       .slots = 4,
			       .stored_count = 3};

	egroup_row(&group, value);
}

static void make_file_row(void)
{
	struct egroup_file file = {.id = 7,
				   .allocated_bytes = 16 * KIB,
				   .copies = {.count = 1, .disks = {3}},
				   .compacted = true,
				   .index_blocks = 1,
				   .total_slots = 3};

	egroup_file_row(&file, value);
}

static int decode_group(const struct catalog_row *row)
{
	struct egroup_group_row group = {.id = 99};
	int r = egroup_group_row_decode(row, &group);

	assert_true(r == 0 || group.id == 99);
	return r;
}

static int decode_file(const struct catalog_row *row)
{
	struct egroup_file_row file = {.id = 99};
	int r = egroup_file_row_decode(row, &file);

	assert_true(r == 0 || file.id == 99);
	return r;
}

static void refuse(enum catalog_table table, void (*make)(void),
		   int (*decode)(const struct catalog_row *row), const struct spoil *spoils,
		   size_t count)
{
	struct catalog_row row = row_of(table, 7);

	make();
	assert_int_equal(decode(&row), 0);
	for (row.length = 0; row.length < sizeof(value); row.length++)
		assert_int_equal(decode(&row), -EUCLEAN);
	row = row_of(table, 7);
	row.key.length -= 8;
	assert_int_equal(decode(&row), -EUCLEAN);
	row = row_of(table, 0);
	assert_int_equal(decode(&row), -EUCLEAN);
	row = row_of(table, 7);
	for (size_t i = 0; i < count; i++) {
		make();
		value[spoils[i].offset] = spoils[i].byte;
		assert_int_equal(decode(&row), -EUCLEAN);
	}
}

static void group_rows_are_refused(void **state)
{
	static const struct spoil spoils[] = {
		{0, 0},    /* no version */
		{0, 2},    /* a newer one */
		{1, 99},   /* no such stream */
		{2, 0},    /* compacted, but not sealed */
		{7, 0xff}, /* more slots than a group has */
	};
	struct catalog_row row = row_of(CATALOG_EGROUP, (uint64_t)1 << EGROUP_ID_BITS);

	(void)state;
	refuse(CATALOG_EGROUP, make_group_row, decode_group, spoils, ARRAY_SIZE(spoils));
	make_group_row();
	assert_int_equal(decode_group(&row), -EUCLEAN);
}

static void file_rows_are_refused(void **state)
{
	static const struct spoil spoils[] = {
		{0, 1},     /* a size that is no multiple of a block */
		{7, 0xff},  /* greater than a group */
		{8, 99},    /* a newer version */
		{9, 0},     /* an index, but not compacted */
		{10, 0},    /* no copies */
		{10, 9},    /* too many */
		{11, 1},    /* none that is not stale */
		{24, 0},    /* a copy on no disk */
		{12, 0},    /* compacted, but no index */
		{15, 0xff}, /* an index that is too long */
		{19, 0xff}, /* more slots than a group has */
	};

	(void)state;
	refuse(CATALOG_EGFILE, make_file_row, decode_file, spoils, ARRAY_SIZE(spoils));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(group_rows_are_refused),
		cmocka_unit_test(file_rows_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
