/* SPDX-License-Identifier: Apache-2.0 */
/* A pool with files that were taken and never named is deleted, and the power fails at any step or
 * after it: once that was acknowledged, its directory does for the next. Cut off in the middle, it
 * may be refused without force, but nothing else goes wrong. */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FILES 3

static struct pool_rig *rig;
static uint64_t step;     /* that the power fails at */
static bool failed_there; /* not after the last */
static bool deleted;

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

static void again_run(void *arg)
{
	int r = pool_rig_open(rig, POOL_MIN_BYTES);

	(void)arg;
	ASSERT(r == 0 || (r == -ENOTEMPTY && !deleted));
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
	assert_true(step > 10);
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
		cmocka_unit_test(labels_stay_where_it_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
