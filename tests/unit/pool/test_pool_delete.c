/* SPDX-License-Identifier: Apache-2.0 */
/* A pool with files that were taken and never named is deleted, and the power fails at any step or
 * after it, and at any step of going on: its directory does for the next, without force. */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FILES       3
#define MARKED_STEP 12 /* or so, the row says it is being deleted */

static struct pool_rig *rig;
static uint64_t step;     /* that the power fails at */
static bool failed_there; /* not after the last */
static bool deleted;
static unsigned finished;
static uint64_t finish_step;

static void delete_run(void *arg)
{
	struct pool_file *file;

	(void)arg;
	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	for (unsigned i = 0; i < FILES; i++) {
		ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &file) == 0);
		ASSERT(pool_rig_write(file, 'a') == 0);
		pool_file_close(file);
	}
	sim_crash_nth(rig->sim.sim, step, SIM_CRASH_POWER);
	deleted = pool_delete(rig->pool) == 0;
	if (deleted)
		rig->pool = NULL;
	failed_there = sim_is_dead(rig->sim.sim);
	deleted = deleted && !failed_there;
	if (!failed_there)
		sim_crash(rig->sim.sim, SIM_CRASH_POWER);
	sim_crash_nth(rig->sim.sim, 0, SIM_CRASH_POWER);
	pool_rig_close(rig);
}

/* As the daemon does when it starts. */
static bool finish(void)
{
	_cleanup_free_ struct pool_info *infos = NULL;
	bool went_on = false;
	size_t count = 0;

	if (pool_list(rig->catalog, &infos, &count) != 0)
		return false;
	for (size_t i = 0; i < count; i++)
		if (infos[i].deleting) {
			ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, infos[i].id,
					 &rig->pool) == -EINPROGRESS);
			went_on = pool_delete_finish(rig->catalog, infos[i].id) == 0;
		}
	return went_on;
}

static void again_run(void *arg)
{
	bool went_on;

	(void)arg;
	ASSERT(pool_rig_open_catalog(rig) == 0);
	went_on = finish();
	finished += went_on;
	ASSERT(!went_on || !deleted);
	ASSERT(!deleted || pool_find(rig->catalog, "p", &rig->pool_id) == -ENOENT);
	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	pool_rig_close(rig);
}

/* Going on is cut off, too. */
static void finish_run(void *arg)
{
	(void)arg;
	ASSERT(pool_rig_open_catalog(rig) == 0);
	sim_crash_nth(rig->sim.sim, finish_step, SIM_CRASH_POWER);
	(void)finish();
	failed_there = sim_is_dead(rig->sim.sim);
	if (!failed_there)
		sim_crash(rig->sim.sim, SIM_CRASH_POWER);
	sim_crash_nth(rig->sim.sim, 0, SIM_CRASH_POWER);
	pool_rig_close(rig);
}

static void leaves_the_directory_to_the_next(void **state)
{
	(void)state;
	failed_there = true;
	for (step = 1; failed_there; step++) {
		rig = pool_rig_new(POOL_RIG_DISK_BYTES);
		sim_rig_run(&rig->sim, 0, delete_run, NULL);
		sim_rig_restart(&rig->sim);
		sim_rig_run(&rig->sim, 0, again_run, NULL);
		pool_rig_free(rig);
	}
	assert_true(step > 10 && finished > 10);
}

static void goes_on_where_it_was_cut_off(void **state)
{
	(void)state;
	finished = 0;
	for (step = MARKED_STEP; step < MARKED_STEP + 600; step += 190) {
		failed_there = true;
		for (finish_step = 1; failed_there; finish_step += 23) {
			rig = pool_rig_new(POOL_RIG_DISK_BYTES);
			sim_rig_run(&rig->sim, 0, delete_run, NULL);
			sim_rig_restart(&rig->sim);
			sim_rig_run(&rig->sim, 0, finish_run, NULL);
			sim_rig_restart(&rig->sim);
			sim_rig_run(&rig->sim, 0, again_run, NULL);
			pool_rig_free(rig);
		}
	}
	assert_true(finished > 10);
}

/* The mark of a pool that was used since, by a version that does not know it: it is taken off. */
static void mark(uint64_t id)
{
	struct pool_row row;
	struct catalog_row raw;
	uint8_t value[POOL_ROW_BYTES];
	struct catalog_change change = {
		.kind = CATALOG_PUT, .value = value, .length = sizeof(value)};

	ASSERT(pool_rows_get_pool(rig->catalog, id, &raw, &row) == 0 && !row.deleting);
	row.deleting = true;
	pool_rows_encode_pool(&row, value);
	change.key = raw.key;
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	catalog_row_done(&raw);
}

static void used_run(void *arg)
{
	struct pool_file *file;
	uint64_t id, container;

	(void)arg;
	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id, "c",
				&container) == 0);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &file) == 0);
	ASSERT(pool_rig_write(file, 'u') == 0 && pool_rig_name(rig, file) == 0);
	id = pool_file_id(file);
	pool_file_close(file);
	pool_close(TAKE_PTR(rig->pool));
	mark(rig->pool_id);
	ASSERT(container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id, "d",
				&container) == -EBUSY);
	ASSERT(pool_delete_finish(rig->catalog, rig->pool_id) == -EBUSY);
	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(open_file(rig->pool, id, &file) == 0);
	pool_file_close(file);
	pool_rig_close(rig);
}

static void keeps_a_pool_that_was_used_since(void **state)
{
	(void)state;
	rig = pool_rig_new(POOL_RIG_DISK_BYTES);
	sim_rig_run(&rig->sim, 0, used_run, NULL);
	pool_rig_free(rig);
}

/* The directory was cleared, and another pool is there by now. */
static void taken_run(void *arg)
{
	struct pool_file *file;
	uint64_t old, id;

	(void)arg;
	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	old = rig->pool_id;
	pool_close(TAKE_PTR(rig->pool));
	mark(old);
	ASSERT(io_unlink(POOL_RIG_DIRECTORY "/label") == 0);
	ASSERT(pool_rig_create(rig, "q", POOL_RIG_DIRECTORY, POOL_MIN_BYTES, &id) == 0);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, id, &rig->pool) == 0);
	rig->pool_id = id;
	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &file) == 0);
	ASSERT(pool_rig_write(file, 'q') == 0 && pool_rig_name(rig, file) == 0);
	id = pool_file_id(file);
	pool_file_close(file);
	ASSERT(pool_delete_finish(rig->catalog, old) == 0);
	ASSERT(pool_find(rig->catalog, "p", &old) == -ENOENT);
	pool_close(TAKE_PTR(rig->pool));
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	ASSERT(open_file(rig->pool, id, &file) == 0);
	pool_file_close(file);
	pool_rig_close(rig);
}

static void clears_no_other_pools_directory(void **state)
{
	(void)state;
	rig = pool_rig_new(POOL_RIG_DISK_BYTES);
	sim_rig_run(&rig->sim, 0, taken_run, NULL);
	pool_rig_free(rig);
}

/* One of two disks cannot have its label renamed: the pool stays, and so does the other's label. */

static bool is_there(const char *path)
{
	struct world_stat stat;

	return io_stat(path, &stat) == 0;
}

static void refused_run(void *arg)
{
	struct pool_file *file = pool_rig_begin_two(rig);
	uint64_t id = pool_file_id(file);
	struct pool_copies copies;
	uint8_t byte;

	(void)arg;
	pool_file_get_copies(file, &copies);
	pool_file_close(file);
	ASSERT(pool_rig_unname(rig, id) == 0);
	sim_disk_set_read_only(rig->sim.sim, "/disk2", true);
	ASSERT(pool_delete(rig->pool) == -EROFS);
	ASSERT(is_there(POOL_RIG_DIRECTORY "/label"));
	ASSERT(!is_there(POOL_RIG_DIRECTORY "/label.new"));
	ASSERT(is_there("/disk2/p/label") && !is_there("/disk2/p/label.new"));
	ASSERT(pool_file_open(rig->pool, id, &copies, &file) == 0);
	ASSERT(pool_rig_read(file, &byte) == 0 && byte == 'h');
	pool_file_close(file);
	sim_disk_set_read_only(rig->sim.sim, "/disk2", false);
	pool_rig_close(rig);
	ASSERT(pool_rig_open(rig, 0) == 0);
	while (pool_rig_disk(rig, 2).state != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	ASSERT(pool_delete(rig->pool) == 0);
	rig->pool = NULL;
	ASSERT(!is_there(POOL_RIG_DIRECTORY "/label") && !is_there("/disk2/p/label"));
	pool_rig_close(rig);
}

static void labels_stay_where_it_is_refused(void **state)
{
	(void)state;
	rig = pool_rig_new(POOL_RIG_DISK_BYTES);
	ASSERT(sim_disk_add(rig->sim.sim, "/disk2", POOL_RIG_DISK_BYTES) == 0);
	sim_rig_run(&rig->sim, 0, refused_run, NULL);
	pool_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves_the_directory_to_the_next),
		cmocka_unit_test(goes_on_where_it_was_cut_off),
		cmocka_unit_test(keeps_a_pool_that_was_used_since),
		cmocka_unit_test(clears_no_other_pools_directory),
		cmocka_unit_test(labels_stay_where_it_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
