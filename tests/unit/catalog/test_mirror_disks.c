/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors on disks that hang, and what a second misfortune leaves of them: a loss of power after
 * the process was killed, a hint that was set back when the database is gone.
 */
#include "catalog/mirror.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/reached.h"
#include "reactor/io.h"
#include "sim_rig.h"

#define STATE      "/state"
#define PATH       STATE "/catalog.db"
#define HINT       PATH "-mirrors"
#define DISK_BYTES (64 * MIB)
#define HANG_NS    (1200 * NSEC_PER_SEC) /* at most */

static struct sim_rig rig;
static struct catalog *catalog;
static struct catalog_report report;
static const char *const disks[] = {"/m0", "/m1"};
static int result;

static void discard_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

static void run_without_argument(void *arg)
{
	void (*const *run)(void) = arg;

	(*run)();
}

static void in_fiber(void (*run)(void))
{
	sim_rig_run(&rig, 0, run_without_argument, &run);
}

static void make_labels(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
		char path[20];
		struct world_file *file;

		snprintf(path, sizeof(path), "%s/label", disks[i]);
		ASSERT(io_open(path, WORLD_FILE_CREATE, &file) == 0 && io_close(file) == 0);
		ASSERT(io_directory_sync(disks[i]) == 0);
	}
}

static void rig_begin(uint64_t seed)
{
	if (!getenv("SARSEN_LOG"))
		log_set_sink(discard_line, NULL);
	sim_rig_init(&rig, seed, 1);
	ASSERT(sim_disk_add(rig.sim, STATE, DISK_BYTES) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++)
		ASSERT(sim_disk_add(rig.sim, disks[i], DISK_BYTES) == 0);
	in_fiber(make_labels);
	catalog = NULL;
}

static void rig_end(void)
{
	sim_rig_done(&rig);
	log_set_sink(NULL, NULL);
}

static void open_any(void)
{
	const struct catalog_options options = {
		.path = PATH, .vfs = SIM_VFS_NAME, .create = true, .report = &report};

	result = catalog_open(sim_world(rig.sim), &options, &catalog);
	if (result)
		catalog = NULL;
}

static void close_catalog(void)
{
	if (catalog)
		catalog_close(TAKE_PTR(catalog));
}

static struct catalog_key key_of(uint64_t number)
{
	struct catalog_key key = catalog_key(CATALOG_JOB);

	catalog_key_add(&key, number);
	return key;
}

static int put(uint64_t number, uint8_t byte, uint32_t length)
{
	_cleanup_free_ uint8_t *value = malloc(length);
	const struct catalog_change change = {
		.kind = CATALOG_PUT, .key = key_of(number), .value = value, .length = length};

	ASSERT(value);
	memset(value, byte, length);
	return catalog_commit(catalog, &change, 1);
}

/* The row's byte, or an error. */
static int look(uint64_t number)
{
	const struct catalog_key key = key_of(number);
	struct catalog_row row = {0};
	int r = catalog_get(catalog, &key, &row);

	if (r == 0)
		r = row.value[0];
	catalog_row_done(&row);
	return r;
}

static enum catalog_mirror_state state_of(size_t index)
{
	struct catalog_mirror_info *infos;
	enum catalog_mirror_state state = CATALOG_MIRROR_LOST;
	size_t count;

	ASSERT(catalog_mirror_list(catalog, &infos, &count) == 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(infos[i].directory, disks[index]) == 0)
			state = infos[i].state;
	free(infos);
	return state;
}

static void begin(void)
{
	open_any();
	ASSERT(result == 0);
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++)
		ASSERT(catalog_mirror_add(catalog, disks[i]) == 0);
	catalog_mirror_wait(catalog);
	ASSERT(put(1, 1, 100) == 0);
}

static void remove_database(void)
{
	ASSERT(io_unlink(PATH) == 0);
	(void)io_unlink(PATH "-wal"); /* there or not */
}

static void hang(size_t index, bool hangs)
{
	const struct sim_faults faults = {.slow_ppm = hangs ? 1000000 : 0,
					  .slow_ns = hangs ? HANG_NS : 0};

	sim_disk_set_faults(rig.sim, disks[index], &faults);
}

static void settle(void)
{
	fiber_sleep(2 * HANG_NS);
	catalog_mirror_wait(catalog);
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++)
		ASSERT(state_of(i) == CATALOG_MIRROR_GOOD);
}

/* The disk hangs while a frame is on its way to the old log and the next one is there already. */

static void commit_much(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 40; i++)
		ASSERT(put(2, (uint8_t)i, 60000) == 0);
}

/* Some time after the next log was begun. */
static void hang_later(void *arg)
{
	struct world_stat stat;

	while (io_stat("/m0/catalog/log-0000000000000002", &stat) != 0)
		fiber_sleep(100 * NSEC_PER_USEC);
	fiber_sleep(*(const uint64_t *)arg);
	hang(0, true);
}

static void hang_while_rolling(uint64_t seed)
{
	uint64_t after_ns;
	struct sim_rig_task tasks[2] = {{.run = commit_much},
					{.run = hang_later, .arg = &after_ns}};

	rig_begin(seed);
	in_fiber(begin);
	after_ns = sim_random_below(rig.sim, 2 * NSEC_PER_MSEC);
	for (unsigned i = 0; i < 2; i++)
		sim_rig_start(&rig, 0, &tasks[i]);
	assert_int_equal(sim_rig_wait(&rig, tasks, 2, 72 * HANG_NS), 0);
	hang(0, false);
	in_fiber(settle);
	in_fiber(close_catalog);
	rig_end();
}

/* Once its files were made too late, once while an append waited for them. */
static void hangs_while_its_log_is_rolled(void **state)
{
	uint64_t seed = 1;

	(void)state;
	while (reached_count("mirror.join-late") == 0 ||
	       reached_count("mirror.join-abandoned") == 0) {
		assert_true(seed < 2000);
		hang_while_rolling(seed++);
	}
}

/* It can be removed all the same, and its memory goes when it answers. */

static void remove_hung(void)
{
	uint64_t begin_ns;

	hang(0, true);
	while (state_of(0) == CATALOG_MIRROR_GOOD) /* how slow is drawn */
		ASSERT(put(3, 3, 100) == 0);
	begin_ns = reactor_now_ns(reactor_current());
	ASSERT(catalog_mirror_remove(catalog, disks[0]) == 0);
	ASSERT(reactor_now_ns(reactor_current()) - begin_ns < 30 * NSEC_PER_SEC);
	ASSERT(catalog_mirror_remove(catalog, disks[0]) == -ENOENT);
	ASSERT(put(4, 4, 100) == 0 && state_of(1) == CATALOG_MIRROR_GOOD);
	hang(0, false);
	fiber_sleep(2 * HANG_NS);
	ASSERT(catalog_mirror_add(catalog, disks[0]) == 0);
}

static void is_removed_while_it_hangs(void **state)
{
	(void)state;
	rig_begin(1);
	in_fiber(begin);
	in_fiber(remove_hung);
	in_fiber(settle);
	in_fiber(close_catalog);
	rig_end();
}

/* The process is killed while a commit is on its way to the mirrors; the next one takes what it
 * finds for good; then the power fails, and the state's disk is lost. */

static int seen;

static void commit_one(void)
{
	result = put(5, 5, 9000);
}

static void take_over(void)
{
	open_any();
	ASSERT(result == 0);
	seen = state_of(0) == CATALOG_MIRROR_GOOD && !report.restored ? look(5) : -ENODATA;
}

static void look_again(void)
{
	result = look(5);
}

/* False: the commit has fewer operations. */
static bool kill_and_lose_power(uint64_t n, uint64_t seed)
{
	bool hit;

	rig_begin(seed);
	in_fiber(begin);
	sim_crash_nth(rig.sim, n, SIM_CRASH_PROCESS);
	in_fiber(commit_one);
	hit = sim_is_dead(rig.sim);
	sim_crash_nth(rig.sim, 0, SIM_CRASH_PROCESS);
	in_fiber(close_catalog);
	if (hit) {
		sim_rig_restart(&rig);
		in_fiber(take_over);
		sim_crash(rig.sim, SIM_CRASH_POWER);
		in_fiber(close_catalog);
		sim_rig_restart(&rig);
		in_fiber(remove_database);
		in_fiber(open_any);
		if (seen != -ENODATA) {
			assert_int_equal(result, 0);
			in_fiber(look_again);
			assert_int_equal(result, seen);
		}
		in_fiber(close_catalog);
	}
	rig_end();
	return hit;
}

static void what_is_taken_over_is_durable(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++)
		for (uint64_t n = 1; kill_and_lose_power(n, seed);)
			n++;
}

/* The state directory comes from a backup that has no database, only the hint of that time. */

static void copy_file(const char *from, const char *to)
{
	_cleanup_free_ uint8_t *data = malloc(MIB);
	struct world_file *file;
	int64_t n;

	ASSERT(data && io_open(from, WORLD_FILE_READ_ONLY, &file) == 0);
	n = io_read(file, data, MIB, 0);
	ASSERT(n > 0 && io_close(file) == 0);
	ASSERT(io_open(to, WORLD_FILE_CREATE, &file) == 0);
	ASSERT(io_write(file, data, (size_t)n, 0) == 0 && io_close(file) == 0);
}

static void lose_one_after_a_backup(void)
{
	const struct sim_faults faults = {.write_error_ppm = 1000000};

	close_catalog();
	copy_file(HINT, STATE "/backup");
	open_any();
	sim_disk_set_faults(rig.sim, disks[0], &faults);
	ASSERT(put(5, 5, 100) == 0 && state_of(0) == CATALOG_MIRROR_LOST);
	close_catalog();
	hang(0, false);
	remove_database();
	copy_file(STATE "/backup", HINT);
}

static void a_hint_that_was_set_back(void **state)
{
	(void)state;
	rig_begin(1);
	in_fiber(begin);
	in_fiber(lose_one_after_a_backup);
	in_fiber(open_any);
	assert_int_equal(result, 0);
	assert_string_equal(report.directory, disks[1]);
	in_fiber(look_again);
	assert_int_equal(result, 5);
	in_fiber(settle);
	in_fiber(close_catalog);
	rig_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hangs_while_its_log_is_rolled),
		cmocka_unit_test(is_removed_while_it_hangs),
		cmocka_unit_test(what_is_taken_over_is_durable),
		cmocka_unit_test(a_hint_that_was_set_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
