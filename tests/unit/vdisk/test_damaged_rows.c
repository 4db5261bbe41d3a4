/* SPDX-License-Identifier: Apache-2.0 */
/* A vDisk whose rows of groups or files cannot be true is not opened, while others are; put back,
 * it has all its data. */
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
#include "pool/pool_damage.h"

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

static void spoil_files(struct engine_rig *rig, uint64_t vdisk)
{
	const struct catalog_key prefix = egroup_prefix(CATALOG_EGFILE, rig->pool_id, vdisk);
	struct catalog_rows rows;

	assert_int_equal(catalog_scan(rig->catalog, &prefix, NULL, 0, &rows), 0);
	assert_true(rows.count > 0);
	for (size_t i = 0; i < rows.count; i++)
		write_row(rig, &rows.rows[i], 8);
	catalog_rows_done(&rows);
}

static void unspoil_files(struct engine_rig *rig, const struct catalog_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		write_row(rig, &rows->rows[i], rows->rows[i].length);
}

/* The row as if it was of another vDisk. */
static void name_too(struct engine_rig *rig, uint64_t vdisk, const struct catalog_row *row,
		     enum catalog_change_kind kind)
{
	struct catalog_change change = {.kind = kind,
					.key = egroup_prefix(CATALOG_EGFILE, rig->pool_id, vdisk),
					.value = row->value,
					.length = row->length};

	catalog_key_add(&change.key, catalog_key_number(&row->key, 2));
	assert_int_equal(catalog_commit(rig->catalog, &change, 1), 0);
}

static struct pool_info info_of(struct engine_rig *rig)
{
	struct pool_info info;

	pool_get_info(rig->pool, &info);
	return info;
}

static void restart(struct engine_rig *rig, bool in_doubt)
{
	engine_rig_stop(rig);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(pool_is_in_doubt(rig->pool), in_doubt);
}

/* The other one is opened, read, written, emptied and reclaimed meanwhile. */
static void use_other(struct engine_rig *rig, uint64_t other)
{
	uint64_t damaged = rig->vdisk_id;

	assert_int_equal(engine_rig_open_vdisk(rig), -EUCLEAN);
	rig->vdisk_id = other;
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	expect(rig, 5);
	put(rig, 9);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, PIECE, 0), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	put(rig, 5);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	rig->vdisk_id = damaged;
}

static int damage_files(struct engine_rig *rig)
{
	struct catalog_key prefix;
	struct catalog_rows rows;
	uint64_t other, mine, used;

	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "other", SIZE), 0);
	other = rig->vdisk_id;
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	put(rig, 5);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "disk", SIZE), 0);
	mine = rig->vdisk_id;
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	put(rig, 6);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	prefix = egroup_prefix(CATALOG_EGFILE, rig->pool_id, rig->vdisk_id);
	assert_int_equal(catalog_scan(rig->catalog, &prefix, NULL, 0, &rows), 0);

	spoil_files(rig, rig->vdisk_id);
	restart(rig, true);
	assert_int_equal(info_of(rig).kept_files, rows.count);
	use_other(rig, other);
	unspoil_files(rig, &rows);
	restart(rig, false);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	expect(rig, 6);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);

	/* A row of each names one file: neither is opened. */
	name_too(rig, other, &rows.rows[0], CATALOG_PUT);
	restart(rig, true);
	assert_int_equal(engine_rig_open_vdisk(rig), -EUCLEAN);
	rig->vdisk_id = other;
	assert_int_equal(engine_rig_open_vdisk(rig), -EUCLEAN);
	name_too(rig, other, &rows.rows[0], CATALOG_DELETE);
	rig->vdisk_id = mine;
	restart(rig, false);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	expect(rig, 6);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);

	/* Who does not miss it deletes it: its files go at the next start. */
	spoil_files(rig, rig->vdisk_id);
	restart(rig, true);
	assert_int_equal(vdisk_delete(rig->pool, rig->vdisk_id, NULL, NULL), 0);
	assert_int_equal(info_of(rig).kept_files, rows.count);
	used = info_of(rig).space.used;
	restart(rig, false);
	assert_true(info_of(rig).kept_files == 0 && info_of(rig).space.used < used);
	rig->vdisk_id = other;
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	expect(rig, 5);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	catalog_rows_done(&rows);
	return 0;
}

static void closes_only_whose_file_rows_are_damaged(void **state)
{
	struct engine_rig rig;

	(void)state;
	engine_rig_init(&rig, 1, false, 512 * MIB);
	engine_rig_call(&rig, damage_files);
	engine_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_damaged_group_rows),
		cmocka_unit_test(closes_only_whose_file_rows_are_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
