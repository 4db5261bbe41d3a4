/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog on bad days: the n-th disk operation or allocation fails for each n, the disk is full
 * or read-only, the file is damaged or was written by a newer version.
 */
#include "sim_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "base/log.h"
#include "catalog/catalog.h"

#define DISK       "/state"
#define PATH       DISK "/catalog.db"
#define DISK_BYTES (64 * MIB)

static struct sim_rig rig;
static struct catalog *catalog;

/* SQLite's allocator, with a countdown. */
static sqlite3_mem_methods real_memory;
static uint64_t memory_countdown;
static bool memory_failed;

static bool memory_fails(void)
{
	if (memory_countdown == 0 || --memory_countdown > 0)
		return false;
	memory_failed = true;
	return true;
}

static void *memory_new(int size)
{
	return memory_fails() ? NULL : real_memory.xMalloc(size);
}

static void *memory_resize(void *old, int size)
{
	return memory_fails() ? NULL : real_memory.xRealloc(old, size);
}

static void memory_install(void)
{
	sqlite3_mem_methods wrapped;

	ASSERT(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory) == SQLITE_OK);
	wrapped = real_memory;
	wrapped.xMalloc = memory_new;
	wrapped.xRealloc = memory_resize;
	ASSERT(sqlite3_config(SQLITE_CONFIG_MALLOC, &wrapped) == SQLITE_OK);
}

static int setup(void **state)
{
	(void)state;
	sim_rig_silence_log();
	sim_rig_init(&rig, 1, 1);
	ASSERT(sim_disk_add(rig.sim, DISK, DISK_BYTES) == 0);
	catalog = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sim_rig_done(&rig);
	log_set_sink(NULL, NULL);
	return 0;
}

static int open_catalog(bool create)
{
	struct catalog_options options = {.path = PATH, .vfs = SIM_VFS_NAME, .create = create};

	return catalog_open(sim_world(rig.sim), &options, &catalog);
}

static void close_catalog(void)
{
	catalog_close(TAKE_PTR(catalog));
}

static struct catalog_key key_of(uint64_t number)
{
	struct catalog_key key = catalog_key(CATALOG_JOB);

	catalog_key_add(&key, number);
	return key;
}

static int put(uint64_t number, uint32_t length)
{
	_cleanup_free_ uint8_t *value = malloc(length + 1);
	struct catalog_change change = {
		.kind = CATALOG_PUT, .key = key_of(number), .value = value, .length = length};

	ASSERT(value);
	memset(value, (int)number, length);
	return catalog_commit(catalog, &change, 1);
}

static int del(uint64_t number)
{
	struct catalog_change change = {.kind = CATALOG_DELETE, .key = key_of(number)};

	return catalog_commit(catalog, &change, 1);
}

/* -ENOENT, or whether the row is as put() wrote it. */
static int look(uint64_t number)
{
	struct catalog_key key = key_of(number);
	struct catalog_row row = {0};
	int r = catalog_get(catalog, &key, &row);

	for (uint32_t i = 0; r == 0 && i < row.length; i++)
		ASSERT(row.value[i] == (uint8_t)number);
	catalog_row_done(&row);
	return r;
}

/* Fault sweep. */

struct outcome {
	int opened, first, second, big, deleted, ids;
};

static int ids_of(uint64_t *ret_first)
{
	return catalog_reserve_ids(catalog, "n", 1, ret_first);
}

static void scenario(struct outcome *o)
{
	uint64_t id;

	*o = (struct outcome){.first = -EIO, .second = -EIO, .big = -EIO, .deleted = -EIO};
	o->opened = open_catalog(true);
	if (o->opened)
		return;
	o->first = put(1, 100);
	o->second = put(2, 5000);
	o->ids = ids_of(&id);
	o->big = put(3, 700000);
	(void)look(2);
	o->deleted = del(1);
	close_catalog();
}

/* What was reported is what is there. Outcomes that were left open may be either. */
static void verify_one(uint64_t number, int put_result, int del_result)
{
	int r = look(number);

	ASSERT(r == 0 || r == -ENOENT);
	if (put_result == -ENOTRECOVERABLE || del_result == -ENOTRECOVERABLE)
		return;
	ASSERT((r == 0) == (put_result == 0 && del_result != 0));
}

static void verify(const struct outcome *o)
{
	ASSERT(open_catalog(true) == 0);
	verify_one(1, o->first, o->deleted);
	verify_one(2, o->second, -1);
	verify_one(3, o->big, -1);
	ASSERT(put(4, 10) == 0 && look(4) == 0);
	close_catalog();
}

struct sweep {
	int error; /* of the disk; 0: an allocation fails instead */
	uint64_t n;
	bool hit;
};

static void sweep_run(void *arg)
{
	struct sweep *sweep = arg;
	struct outcome outcome;

	if (sweep->error)
		sim_fail_nth(rig.sim, sweep->n, sweep->error);
	else
		memory_countdown = sweep->n;
	memory_failed = false;
	scenario(&outcome);
	sweep->hit = memory_failed || sim_fault_hit(rig.sim);
	sim_fail_nth(rig.sim, 0, 0);
	memory_countdown = 0;
	verify(&outcome);
}

static uint64_t sweep_all(int error, uint64_t step)
{
	struct sweep sweep = {.error = error, .n = 1, .hit = true};

	while (sweep.hit) {
		(void)setup(NULL);
		sim_rig_run(&rig, 0, sweep_run, &sweep);
		(void)teardown(NULL);
		sweep.n += step;
	}
	return sweep.n;
}

/* Each n in the slow suite ("all"); some in the fast one. */
static bool sweep_is_complete;

static void survives_every_disk_fault(void **state)
{
	(void)state;
	print_message("%u operations\n", (unsigned)sweep_all(-EIO, sweep_is_complete ? 1 : 97));
	(void)sweep_all(-ENOSPC, sweep_is_complete ? 1 : 101);
}

static void survives_every_failed_allocation(void **state)
{
	(void)state;
	print_message("%u allocations\n", (unsigned)sweep_all(0, sweep_is_complete ? 1 : 37));
}

/* Full disk. */

static uint64_t fill_disk(void)
{
	uint64_t count = 0;
	int r;

	while ((r = put(count, 900)) == 0)
		count++;
	ASSERT(r == -ENOSPC);
	return count;
}

/* As compaction does: one row goes, one comes elsewhere. */
static int swap(uint64_t old, uint64_t new)
{
	uint8_t value[900];
	struct catalog_change changes[] = {
		{.kind = CATALOG_DELETE, .key = key_of(old)},
		{.kind = CATALOG_PUT, .key = key_of(new), .value = value, .length = sizeof(value)},
	};

	memset(value, (int)new, sizeof(value));
	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

/* With not one free byte on the disk, as far as the catalog is concerned. */
static void full_run(void *arg)
{
	uint64_t count, id;

	(void)arg;
	ASSERT(open_catalog(true) == 0);
	ASSERT(ids_of(&id) == 0);
	count = fill_disk();
	ASSERT(count > 1000);
	sim_disk_set_capacity(rig.sim, DISK, 0);
	ASSERT(put(count, 900) == -ENOSPC);
	ASSERT(put(5, 900) == 0); /* in place */
	for (uint64_t i = 10; i < 100; i++)
		ASSERT(swap(7 * i, count + i) == 0);
	for (int i = 0; i < 200; i++)
		ASSERT(ids_of(&id) == 0);
	close_catalog();

	ASSERT(open_catalog(false) == 0);
	for (uint64_t i = 0; i < count; i++)
		ASSERT(del(i) == 0);
	for (uint64_t i = 0; i < count / 2; i++)
		ASSERT(put(i, 900) == 0);
	close_catalog();

	sim_disk_set_capacity(rig.sim, DISK, DISK_BYTES);
	ASSERT(open_catalog(false) == 0);
	for (uint64_t i = 0; i < count / 2; i++)
		ASSERT(look(i) == 0);
	for (uint64_t i = count; i < 3 * count; i++)
		ASSERT(put(i, 900) == 0);
	close_catalog();
}

static void deletes_on_a_full_disk(void **state)
{
	(void)state;
	sim_disk_set_capacity(rig.sim, DISK, 8 * MIB);
	sim_rig_run(&rig, 0, full_run, NULL);
}

static void read_only_run(void *arg)
{
	(void)arg;
	ASSERT(open_catalog(true) == 0);
	ASSERT(put(1, 10) == 0);
	sim_disk_set_read_only(rig.sim, DISK, true);
	ASSERT(put(2, 10) == -EROFS);
	ASSERT(look(1) == 0 && look(2) == -ENOENT);
	close_catalog();
	ASSERT(open_catalog(false) == -EROFS);
	sim_disk_set_read_only(rig.sim, DISK, false);
	ASSERT(open_catalog(false) == 0);
	ASSERT(look(1) == 0 && look(2) == -ENOENT);
	close_catalog();
}

static void reads_on_a_read_only_disk(void **state)
{
	(void)state;
	sim_rig_run(&rig, 0, read_only_run, NULL);
}

static void limits_run(void *arg)
{
	(void)arg;
	ASSERT(open_catalog(false) == -ENOENT);
	ASSERT(open_catalog(true) == 0);
	ASSERT(put(1, CATALOG_VALUE_MAX) == 0 && look(1) == 0);
	ASSERT(put(2, CATALOG_VALUE_MAX + 1) == -E2BIG && look(2) == -ENOENT);
	close_catalog();
}

static void holds_its_limits(void **state)
{
	(void)state;
	sim_rig_run(&rig, 0, limits_run, NULL);
}

/* Damage. */

#define DAMAGE_ROWS 400u

static void damage_fill(void *arg)
{
	(void)arg;
	ASSERT(open_catalog(true) == 0);
	for (uint64_t i = 0; i < DAMAGE_ROWS; i++)
		ASSERT(put(i, 300) == 0);
	close_catalog();
}

static void damage_look(void *arg)
{
	unsigned *refused = arg;
	int r = open_catalog(false);

	if (r) {
		ASSERT(r == -EUCLEAN || r == -EPROTONOSUPPORT || r == -ENOENT || r == -EIO);
		(*refused)++;
		return;
	}
	for (uint64_t i = 0; i < DAMAGE_ROWS; i++) {
		r = look(i); /* checks the content */
		ASSERT(r == 0 || r == -EUCLEAN || r == -ENOENT);
		*refused += r != 0;
	}
	close_catalog();
}

static void never_returns_wrong_bytes(void **state)
{
	unsigned refused = 0;

	(void)state;
	sim_rig_run(&rig, 0, damage_fill, NULL);
	for (int i = 0; i < 150; i++) {
		uint64_t offset = sim_random_below(rig.sim, 60 * 4096);
		unsigned bit = (unsigned)sim_random_below(rig.sim, 8);

		ASSERT(sim_disk_flip(rig.sim, PATH, offset, bit) == 0);
		sim_rig_run(&rig, 0, damage_look, &refused);
		ASSERT(sim_disk_flip(rig.sim, PATH, offset, bit) == 0);
	}
	print_message("%u refused\n", refused);
	assert_true(refused > 10);
	refused = 0;
	sim_rig_run(&rig, 0, damage_look, &refused);
	assert_int_equal(refused, 0);
}

/* Rows that are damaged, as catalog_scan_all() tells them; the others are as they were. */
static int count_damaged(unsigned *ret_damaged)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = catalog_key(CATALOG_JOB);
	int r = catalog_scan_all(catalog, &prefix, NULL, 0, &rows);

	*ret_damaged = 0;
	for (size_t i = 0; i < rows.count; i++) {
		const struct catalog_row *row = &rows.rows[i];

		*ret_damaged += row->damaged;
		ASSERT(row->length == (row->damaged ? 0 : 300));
		for (uint32_t at = 0; at < row->length; at++)
			ASSERT(row->value[at] == (uint8_t)catalog_key_number(&row->key, 0));
	}
	ASSERT(r != 0 || rows.count == DAMAGE_ROWS);
	return r;
}

/* What SQLite keeps of a row that was damaged is no longer believed when it is not. */
static unsigned damage_one(uint64_t offset)
{
	const struct catalog_key prefix = catalog_key(CATALOG_JOB);
	struct catalog_rows rows;
	unsigned damaged = 0, after;
	int r;

	ASSERT(sim_disk_flip(rig.sim, PATH, offset, 3) == 0);
	r = open_catalog(false);
	if (r == 0)
		r = count_damaged(&damaged);
	ASSERT(sim_disk_flip(rig.sim, PATH, offset, 3) == 0);
	if (r == 0 && damaged > 0) {
		ASSERT(!catalog_is_whole(catalog));
		ASSERT(count_damaged(&after) == 0 && after == 0);
		ASSERT(catalog_scan(catalog, &prefix, NULL, 0, &rows) == 0);
		catalog_rows_done(&rows);
	}
	close_catalog();
	return damaged;
}

static void scan_all_run(void *arg)
{
	unsigned found = 0, damaged;

	(void)arg;
	ASSERT(open_catalog(false) == 0 && catalog_is_whole(catalog));
	ASSERT(count_damaged(&damaged) == 0 && damaged == 0);
	close_catalog();
	for (uint64_t at = 0; at < 40; at++)
		found += damage_one(at * 5003);
	ASSERT(found > 5);
}

static void scans_beside_damaged_rows(void **state)
{
	(void)state;
	sim_rig_run(&rig, 0, damage_fill, NULL);
	sim_rig_run(&rig, 0, scan_all_run, NULL);
}

static void newer_run(void *arg)
{
	struct catalog_key key = catalog_key(CATALOG_META);
	struct catalog_row row;
	struct catalog_change change = {.kind = CATALOG_PUT};

	(void)arg;
	catalog_key_add_text(&key, "format");
	ASSERT(open_catalog(true) == 0);
	ASSERT(catalog_get(catalog, &key, &row) == 0);
	put_le32(row.value + 8, get_le32(row.value + 8) + 1);
	change.key = key;
	change.value = row.value;
	change.length = row.length;
	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	close_catalog();
	ASSERT(open_catalog(true) == -EPROTONOSUPPORT);
	catalog_row_done(&row);
}

static void refuses_a_newer_format(void **state)
{
	(void)state;
	sim_rig_run(&rig, 0, newer_run, NULL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survives_every_disk_fault),
		cmocka_unit_test(survives_every_failed_allocation),
		cmocka_unit_test_setup_teardown(deletes_on_a_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(reads_on_a_read_only_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(holds_its_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(never_returns_wrong_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(scans_beside_damaged_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_a_newer_format, setup, teardown),
	};

	sweep_is_complete = argc > 1 && strcmp(argv[1], "all") == 0;
	memory_install();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
