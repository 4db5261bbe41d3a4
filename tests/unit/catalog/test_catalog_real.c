/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog on a real disk: SQLite's own VFS, worker threads, two reactors. */
#include "real_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "catalog/catalog.h"

static struct catalog *open_catalog(struct real_rig *rig, bool create)
{
	struct catalog_options options = {
		.path = real_rig_path(rig, "catalog.db"),
		.create = create,
	};
	struct catalog *catalog;

	ASSERT(catalog_open(rig->world, &options, &catalog) == 0);
	return catalog;
}

static struct catalog_key job_key(uint64_t number)
{
	struct catalog_key key = catalog_key(CATALOG_JOB);

	catalog_key_add(&key, number);
	return key;
}

static int put(struct catalog *catalog, uint64_t number, const char *text)
{
	struct catalog_change change = {
		.kind = CATALOG_PUT,
		.key = job_key(number),
		.value = text,
		.length = (uint32_t)strlen(text),
	};

	return catalog_commit(catalog, &change, 1);
}

static void expect(struct catalog *catalog, uint64_t number, const char *text, uint64_t version)
{
	struct catalog_key key = job_key(number);
	struct catalog_row row = {0};
	int r = catalog_get(catalog, &key, &row);

	if (!text) {
		ASSERT(r == -ENOENT);
		return;
	}
	ASSERT(r == 0 && row.version == version && row.length == strlen(text));
	ASSERT(memcmp(row.value, text, row.length) == 0);
	ASSERT(memcmp(&row.key, &key, 1u + key.length) == 0);
	catalog_row_done(&row);
}

static int run_basic(void *arg)
{
	struct real_rig *rig = arg;
	struct catalog_options options = {.path = real_rig_path(rig, "catalog.db")};
	struct catalog *catalog;
	uint64_t first;

	ASSERT(catalog_open(rig->world, &options, &catalog) == -ENOENT);
	catalog = open_catalog(rig, true);
	ASSERT(put(catalog, 1, "one") == 0);
	ASSERT(put(catalog, 1, "uno") == 0);
	ASSERT(put(catalog, 2, "") == 0);
	ASSERT(catalog_reserve_ids(catalog, "x", 3, &first) == 0 && first == 1);
	ASSERT(catalog_reserve_ids(catalog, "x", 100, &first) == 0 && first == 4);
	ASSERT(catalog_reserve_ids(catalog, "y", 1, &first) == 0 && first == 1);
	/* A second process would see the same: SQLite tells connections of one process apart. */
	ASSERT(catalog_open(rig->world, &options, &(struct catalog *){0}) == -EBUSY);
	catalog_close(catalog);

	catalog = open_catalog(rig, false);
	expect(catalog, 1, "uno", 2);
	expect(catalog, 2, "", 1);
	expect(catalog, 3, NULL, 0);
	ASSERT(catalog_reserve_ids(catalog, "x", 1, &first) == 0 && first >= 104);
	catalog_close(catalog);
	return 0;
}

static void basic(void **state)
{
	struct real_rig rig;

	(void)state;
	real_rig_init(&rig);
	assert_int_equal(real_rig_run(&rig, 0, run_basic, &rig), 0);
	real_rig_done(&rig);
}

#define SCAN_ROWS  100000u
#define SCAN_BATCH 1000u

static int run_scan(void *arg)
{
	struct real_rig *rig = arg;
	struct catalog *catalog = open_catalog(rig, true);
	static struct catalog_change changes[SCAN_BATCH];
	struct catalog_key prefix = catalog_key(CATALOG_JOB);
	struct catalog_rows rows;
	uint64_t start;

	for (uint64_t i = 0; i < SCAN_ROWS; i++) {
		static uint8_t value[64];

		changes[i % SCAN_BATCH] = (struct catalog_change){
			.kind = CATALOG_PUT,
			.key = job_key(i),
			.value = value,
			.length = sizeof(value),
		};
		if (i % SCAN_BATCH == SCAN_BATCH - 1)
			ASSERT(catalog_commit(catalog, changes, SCAN_BATCH) == 0);
	}
	start = world_now_ns(rig->world);
	ASSERT(catalog_scan(catalog, &prefix, NULL, 0, &rows) == 0);
	print_message("scan of %u rows: %.1f ms\n", SCAN_ROWS,
		      (double)(world_now_ns(rig->world) - start) / NSEC_PER_MSEC);
	ASSERT(rows.count == SCAN_ROWS);
	for (uint64_t i = 0; i < SCAN_ROWS; i++)
		ASSERT(catalog_key_number(&rows.rows[i].key, 0) == i);
	catalog_rows_done(&rows);
	catalog_close(catalog);
	return 0;
}

static void scans_many_rows(void **state)
{
	struct real_rig rig;

	(void)state;
	real_rig_init(&rig);
	assert_int_equal(real_rig_run(&rig, 0, run_scan, &rig), 0);
	real_rig_done(&rig);
}

/* Fibers of both reactors count one row up by compare-and-swap. */

#define COUNTERS       8
#define COUNTER_ROUNDS 40

struct counting {
	struct fiber_task task;
	struct real_rig *rig;
	struct catalog *catalog;
	struct reactor *home;
	int *running; /* on reactor 0 */
	struct fiber *parent;
	unsigned stale;
};

static int count_up(struct catalog *catalog)
{
	struct catalog_row row = {0};
	struct catalog_key key = job_key(7);
	struct catalog_change changes[2];
	uint64_t number = 0;
	int r = catalog_get(catalog, &key, &row);

	ASSERT(r == 0 && row.length == sizeof(number));
	catalog_touch(&row, changes);
	memcpy(&number, row.value, sizeof(number));
	number++;
	changes[1].value = &number;
	r = catalog_commit(catalog, changes, 2);
	catalog_row_done(&row);
	return r;
}

static int counting_end(void *arg)
{
	struct counting *counting = arg;

	if (--*counting->running == 0)
		fiber_wake(counting->parent);
	return 0;
}

static void counting_run(struct fiber_task *task)
{
	struct counting *counting = CONTAINER_OF(task, struct counting, task);

	for (int i = 0; i < COUNTER_ROUNDS;) {
		int r = count_up(counting->catalog);

		ASSERT(r == 0 || r == -ESTALE);
		if (r == 0)
			i++;
		else
			counting->stale++;
	}
	ASSERT(fiber_call(counting->home, FIBER_CONTROL, counting_end, counting) == 0);
}

static int counting_spawn(void *arg)
{
	struct counting *counting = arg;

	counting->task.run = counting_run;
	fiber_spawn(reactor_current(), FIBER_DATA, &counting->task);
	return 0;
}

static int run_counting(void *arg)
{
	struct real_rig *rig = arg;
	struct catalog *catalog = open_catalog(rig, true);
	struct counting all[COUNTERS];
	int running = COUNTERS;
	uint64_t zero = 0;
	struct catalog_change change = {
		.kind = CATALOG_PUT, .key = job_key(7), .value = &zero, .length = sizeof(zero)};
	struct catalog_row row;

	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	for (unsigned i = 0; i < COUNTERS; i++) {
		all[i] = (struct counting){.rig = rig,
					   .catalog = catalog,
					   .home = reactor_current(),
					   .running = &running,
					   .parent = fiber_current()};
		ASSERT(fiber_call(rig->reactors[i % REAL_RIG_REACTORS], FIBER_CONTROL,
				  counting_spawn, &all[i]) == 0);
	}
	while (running > 0)
		fiber_suspend();
	ASSERT(catalog_get(catalog, &change.key, &row) == 0);
	memcpy(&zero, row.value, sizeof(zero));
	ASSERT(zero == COUNTERS * COUNTER_ROUNDS && row.version == zero + 1);
	catalog_row_done(&row);
	catalog_close(catalog);
	return 0;
}

static void shares_transactions(void **state)
{
	struct real_rig rig;

	(void)state;
	real_rig_init(&rig);
	assert_int_equal(real_rig_run(&rig, 0, run_counting, &rig), 0);
	real_rig_done(&rig);
}

static int run_not_a_catalog(void *arg)
{
	struct real_rig *rig = arg;
	struct catalog_options options = {.path = real_rig_path(rig, "catalog.db"), .create = true};
	struct catalog *catalog;

	return catalog_open(rig->world, &options, &catalog);
}

static void refuses_other_files(void **state)
{
	struct real_rig rig;
	FILE *file;

	(void)state;
	real_rig_init(&rig);
	file = fopen(real_rig_path(&rig, "catalog.db"), "w");
	assert_non_null(file);
	for (int i = 0; i < 1000; i++)
		fprintf(file, "this is not a database %d\n", i);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(real_rig_run(&rig, 0, run_not_a_catalog, &rig), -EUCLEAN);
	assert_int_equal(unlink(real_rig_path(&rig, "catalog.db")), 0);
	assert_int_equal(mkdir(real_rig_path(&rig, "catalog.db"), 0700), 0);
	assert_true(real_rig_run(&rig, 0, run_not_a_catalog, &rig) < 0);
	real_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(basic),
		cmocka_unit_test(scans_many_rows),
		cmocka_unit_test(shares_transactions),
		cmocka_unit_test(refuses_other_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
