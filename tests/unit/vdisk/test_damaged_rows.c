/* SPDX-License-Identifier: Apache-2.0 */
/* A vDisk whose rows of groups cannot be true is not opened; put back, it has all its data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "egroup/rows.h"
#include "egroup/store_priv.h"
#include "engine_rig.h"

#define SIZE  (64 * MIB)
#define PIECE (64 * KIB)

static void put(struct engine_rig *rig, unsigned char fill)
{
	void *buffer = aligned_alloc(4096, PIECE);

	assert_non_null(buffer);
	memset(buffer, fill, PIECE);
	assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, buffer, PIECE, 0), 0);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	free(buffer);
}

static void expect(struct engine_rig *rig, unsigned char fill)
{
	unsigned char *buffer = aligned_alloc(4096, PIECE);

	assert_non_null(buffer);
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, buffer, PIECE, 0), 0);
	for (size_t i = 0; i < PIECE; i++)
		assert_int_equal(buffer[i], fill);
	free(buffer);
}

static void write_row(struct engine_rig *rig, const struct catalog_row *row, uint32_t length)
{
	struct catalog_change change = {
		.kind = CATALOG_PUT, .key = row->key, .value = row->value, .length = length};

	assert_int_equal(catalog_commit(pool_catalog(rig->pool), &change, 1), 0);
}

/* The row as it is, but for one byte or its length. */
static void refuse(struct engine_rig *rig, const struct catalog_row *row, unsigned offset,
		   uint8_t byte, uint32_t length)
{
	uint8_t was = row->value[offset];

	row->value[offset] = byte;
	write_row(rig, row, length);
	assert_int_equal(engine_rig_open_vdisk(rig), -EUCLEAN);
	row->value[offset] = was;
	write_row(rig, row, row->length);
}

static int damage(struct engine_rig *rig)
{
	struct catalog_rows rows;
	struct catalog_key prefix;
	struct catalog_row *row;

	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "disk", SIZE), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	put(rig, 5);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	prefix = egroup_prefix(CATALOG_EGROUP, pool_id(rig->pool), rig->vdisk_id);
	assert_int_equal(catalog_scan(pool_catalog(rig->pool), &prefix, NULL, 0, &rows), 0);
	assert_true(rows.count > 0);
	row = &rows.rows[0];
	refuse(rig, row, 0, row->value[0], EGROUP_ROW_BYTES - 1); /* cut short */
	refuse(rig, row, 0, 9, EGROUP_ROW_BYTES);                 /* a version that is none */
	refuse(rig, row, 1, 99, EGROUP_ROW_BYTES);                /* a stream that is none */
	refuse(rig, row, 31, 0x7f, EGROUP_ROW_BYTES);             /* in a file that no row names */
	refuse(rig, row, 3, 1, EGROUP_ROW_BYTES);                 /* compacted: its file is not */
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	expect(rig, 5);
	catalog_rows_done(&rows);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static void refuses_damaged_group_rows(void **state)
{
	struct engine_rig rig;

	(void)state;
	engine_rig_init(&rig, 1, false, 512 * MIB);
	engine_rig_call(&rig, damage);
	engine_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_damaged_group_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
