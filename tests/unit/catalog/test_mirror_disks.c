/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors on disks that hang, and what a second misfortune leaves of them: a loss of power after
 * the process was killed, a hint that was set back when the database is gone.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/reached.h"
#include "mirror_fixture.h"
#include "reactor/io.h"

#define HINT    PATH "-mirrors"
#define DISKS   2u
#define HANG_NS (1200 * NSEC_PER_SEC) /* at most */

static int result;

static void open_any(void)
{
	result = mirrored_open(NULL);
	if (result)
		catalog = NULL;
}

static enum catalog_mirror_state state_of(size_t index)
{
	struct catalog_mirror_info *infos;
	enum catalog_mirror_state state = CATALOG_MIRROR_LOST;
	size_t count;

	ASSERT(catalog_mirror_list(catalog, &infos, &count) == 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(infos[i].directory, mirrored_disks[index]) == 0)
			state = infos[i].state;
	free(infos);
	return state;
}

static void begin(void)
{
	open_any();
	ASSERT(result == 0);
	for (size_t i = 0; i < DISKS; i++)
		ASSERT(catalog_mirror_add(catalog, mirrored_disks[i]) == 0);
	catalog_mirror_wait(catalog);
	ASSERT(mirrored_put(1, 1, 100) == 0);
}

static void remove_database(void)
{
	ASSERT(io_unlink(PATH) == 0);
	(void)io_unlink(PATH "-wal"); /* there or not */
}

static void slow_down(size_t index, uint64_t slow_ns)
{
	const struct sim_faults faults = {.slow_ppm = slow_ns ? 1000000 : 0, .slow_ns = slow_ns};

	sim_disk_set_faults(rig.sim, mirrored_disks[index], &faults);
}

static void hang(size_t index, bool hangs)
{
	slow_down(index, hangs ? HANG_NS : 0);
}

static void settle_after(uint64_t pause_ns)
{
	fiber_sleep(pause_ns);
	catalog_mirror_wait(catalog);
	for (size_t i = 0; i < DISKS; i++)
		ASSERT(state_of(i) == CATALOG_MIRROR_GOOD);
}

static void settle(void)
{
	settle_after(2 * HANG_NS);
}

/* The disk hangs while a frame is on its way to the old log and the next one is there already. */

static void commit_much(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 40; i++)
		ASSERT(mirrored_put(2, (uint8_t)i, 60000) == 0);
}

/* Some time after the next log was begun. */
static void hang_later(void *arg)
{
	struct world_stat stat;

	while (io_stat("/m0/catalog/log-0000000000000002", &stat) != 0)
		fiber_sleep(100 * NSEC_PER_USEC);
	fiber_sleep(*(const uint64_t *)arg);
	slow_down(0, 30 * NSEC_PER_SEC); /* operations end just before and after the limit */
}

static void hang_while_rolling(uint64_t seed)
{
	uint64_t after_ns;
	struct sim_rig_task tasks[2] = {{.run = commit_much},
					{.run = hang_later, .arg = &after_ns}};

	mirrored_rig_begin(seed, DISKS);
	mirrored_in_fiber(begin);
	after_ns = sim_random_below(rig.sim, 2 * NSEC_PER_MSEC);
	for (unsigned i = 0; i < 2; i++)
		sim_rig_start(&rig, 0, &tasks[i]);
	assert_int_equal(sim_rig_wait(&rig, tasks, 2, 72 * HANG_NS), 0);
	hang(0, false);
	mirrored_in_fiber(settle);
	mirrored_in_fiber(mirrored_close);
	mirrored_rig_end();
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
		ASSERT(mirrored_put(3, 3, 100) == 0);
	begin_ns = reactor_now_ns(reactor_current());
	ASSERT(catalog_mirror_remove(catalog, mirrored_disks[0]) == 0);
	ASSERT(reactor_now_ns(reactor_current()) - begin_ns < 30 * NSEC_PER_SEC);
	ASSERT(catalog_mirror_remove(catalog, mirrored_disks[0]) == -ENOENT);
	ASSERT(mirrored_put(4, 4, 100) == 0 && state_of(1) == CATALOG_MIRROR_GOOD);
	hang(0, false);
	fiber_sleep(2 * HANG_NS);
	ASSERT(catalog_mirror_add(catalog, mirrored_disks[0]) == 0);
}

static void is_removed_while_it_hangs(void **state)
{
	(void)state;
	mirrored_rig_begin(1, DISKS);
	mirrored_in_fiber(begin);
	mirrored_in_fiber(remove_hung);
	mirrored_in_fiber(settle);
	mirrored_in_fiber(mirrored_close);
	mirrored_rig_end();
}

/* The process is killed while a commit is on its way to the mirrors; the next one takes what it
 * finds for good; then the power fails, and the state's disk is lost. */

static int seen;

static void commit_one(void)
{
	result = mirrored_put(5, 5, 9000);
}

static void take_over(void)
{
	open_any();
	ASSERT(result == 0);
	seen = state_of(0) == CATALOG_MIRROR_GOOD && !report.restored ? mirrored_look(5) : -ENODATA;
}

static void look_again(void)
{
	result = mirrored_look(5);
}

/* False: the commit has fewer operations. */
static bool kill_and_lose_power(uint64_t n, uint64_t seed)
{
	bool hit;

	mirrored_rig_begin(seed, DISKS);
	mirrored_in_fiber(begin);
	sim_crash_nth(rig.sim, n, SIM_CRASH_PROCESS);
	mirrored_in_fiber(commit_one);
	hit = sim_is_dead(rig.sim);
	sim_crash_nth(rig.sim, 0, SIM_CRASH_PROCESS);
	mirrored_in_fiber(mirrored_close);
	if (hit) {
		sim_rig_restart(&rig);
		mirrored_in_fiber(take_over);
		sim_crash(rig.sim, SIM_CRASH_POWER);
		mirrored_in_fiber(mirrored_close);
		sim_rig_restart(&rig);
		mirrored_in_fiber(remove_database);
		mirrored_in_fiber(open_any);
		if (seen != -ENODATA) {
			assert_int_equal(result, 0);
			mirrored_in_fiber(look_again);
			assert_int_equal(result, seen);
		}
		mirrored_in_fiber(mirrored_close);
	}
	mirrored_rig_end();
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

	mirrored_close();
	copy_file(HINT, STATE "/backup");
	open_any();
	sim_disk_set_faults(rig.sim, mirrored_disks[0], &faults);
	ASSERT(mirrored_put(5, 5, 100) == 0 && state_of(0) == CATALOG_MIRROR_LOST);
	mirrored_close();
	hang(0, false);
	remove_database();
	copy_file(STATE "/backup", HINT);
}

static void a_hint_that_was_set_back(void **state)
{
	(void)state;
	mirrored_rig_begin(1, DISKS);
	mirrored_in_fiber(begin);
	mirrored_in_fiber(lose_one_after_a_backup);
	mirrored_in_fiber(open_any);
	assert_int_equal(result, 0);
	assert_string_equal(report.directory, mirrored_disks[1]);
	mirrored_in_fiber(look_again);
	assert_int_equal(result, 5);
	mirrored_in_fiber(settle);
	mirrored_in_fiber(mirrored_close);
	mirrored_rig_end();
}

/* A disk hangs at each operation in turn of what is done while others wait: of a mirror that is
 * built, verified or removed. The others are served in time all the same, and when the disk answers
 * its mirror is as good as theirs. */

#define OPS_FAR (UINT64_C(1) << 40)
#define LATE_NS (32 * NSEC_PER_SEC) /* a hang of an append, then one of what was begun before */
#define THIRD   2u
#define SEEDS   3u

static bool does_all;

static struct {
	uint64_t after; /* operations */
	bool ended, hit;
} hanging;

static void hang_at(void *arg)
{
	(void)arg;
	sim_crash_nth(rig.sim, OPS_FAR, SIM_CRASH_PROCESS);
	while (!hanging.ended && OPS_FAR - sim_crash_left(rig.sim) < hanging.after)
		fiber_sleep(NSEC_PER_USEC);
	hanging.hit = !hanging.ended;
	if (hanging.hit)
		sim_disk_set_hung(rig.sim, mirrored_disks[0], true);
}

/* While it hangs, changes come and a third mirror is made. */
static void others_go_on(void)
{
	uint64_t begin_ns = reactor_now_ns(reactor_current());

	ASSERT(catalog_mirror_add(catalog, mirrored_disks[THIRD]) == 0);
	for (uint8_t i = 0; state_of(THIRD) != CATALOG_MIRROR_GOOD; i++) {
		ASSERT(reactor_now_ns(reactor_current()) - begin_ns < LATE_NS);
		ASSERT(mirrored_put(6, i, 3000) == 0);
		fiber_sleep(NSEC_PER_SEC / 5);
	}
	ASSERT(state_of(1) == CATALOG_MIRROR_GOOD);
	ASSERT(mirrored_put(7, 7, 3000) == 0);
}

static void all_are_good(void)
{
	struct catalog_verify verify;

	sim_crash_nth(rig.sim, 0, SIM_CRASH_PROCESS);
	sim_disk_set_hung(rig.sim, mirrored_disks[0], false);
	fiber_sleep(2 * HANG_NS);
	ASSERT(catalog_mirror_add(catalog, mirrored_disks[0]) == 0);
	catalog_mirror_wait(catalog);
	for (size_t i = 0; i <= THIRD; i++)
		ASSERT(state_of(i) == CATALOG_MIRROR_GOOD);
	ASSERT(mirrored_put(8, 8, 3000) == 0);
	ASSERT(catalog_verify(catalog, &verify) == 0);
	ASSERT(verify.differences == 0 && verify.mirrors == THIRD + 1);
}

static void restore_first(void)
{
	mirrored_close();
	remove_database();
	result = mirrored_open(mirrored_disks[0]);
	ASSERT(result == 0 && mirrored_look(7) == 7 && mirrored_look(8) == 8);
}

static void begin_without_first(void)
{
	begin();
	ASSERT(catalog_mirror_remove(catalog, mirrored_disks[0]) == 0);
}

static void build_and_go_on(void *arg)
{
	(void)arg;
	ASSERT(catalog_mirror_add(catalog, mirrored_disks[0]) == 0);
	while (!hanging.hit && state_of(0) != CATALOG_MIRROR_GOOD)
		fiber_sleep(10 * NSEC_PER_USEC);
	fiber_sleep(NSEC_PER_MSEC);
	hanging.ended = true;
	others_go_on();
	if (hanging.hit) {
		fiber_sleep(LATE_NS);
		ASSERT(mirrored_put(7, 7, 3000) == 0);
		ASSERT(state_of(0) != CATALOG_MIRROR_BUILDING);
	}
}

static void roll_and_go_on(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 25 && !hanging.hit; i++)
		ASSERT(mirrored_put(2, (uint8_t)i, 60000) == 0);
	hanging.ended = true;
	others_go_on();
}

static void verify_and_go_on(void *arg)
{
	struct catalog_verify verify;
	uint64_t begin_ns = reactor_now_ns(reactor_current());

	(void)arg;
	ASSERT(catalog_verify(catalog, &verify) == 0);
	hanging.ended = true;
	ASSERT(reactor_now_ns(reactor_current()) - begin_ns < LATE_NS);
	ASSERT(hanging.hit || verify.differences == 0);
	others_go_on();
}

static void remove_and_go_on(void *arg)
{
	uint64_t begin_ns = reactor_now_ns(reactor_current());

	(void)arg;
	ASSERT(catalog_mirror_remove(catalog, mirrored_disks[0]) == 0);
	hanging.ended = true;
	ASSERT(reactor_now_ns(reactor_current()) - begin_ns < LATE_NS);
	if (hanging.hit) /* or refused, for nothing can be said of it */
		(void)catalog_mirror_add(catalog, mirrored_disks[0]);
	others_go_on();
}

static bool hang_nth(uint64_t n, uint64_t seed, void (*prepare)(void), void (*run)(void *arg))
{
	struct sim_rig_task tasks[2] = {{.run = run}, {.run = hang_at}};

	hanging.after = n;
	hanging.ended = hanging.hit = false;
	mirrored_rig_begin(seed, THIRD + 1);
	mirrored_in_fiber(prepare);
	for (unsigned i = 0; i < 2; i++)
		sim_rig_start(&rig, 0, &tasks[i]);
	assert_int_equal(sim_rig_wait(&rig, tasks, 2, HANG_NS), 0);
	mirrored_in_fiber(all_are_good);
	mirrored_in_fiber(restore_first);
	mirrored_in_fiber(mirrored_close);
	mirrored_rig_end();
	return hanging.hit;
}

/* Step 0: the longer it goes on, the fewer. */
static void hang_each(uint64_t step, void (*prepare)(void), void (*run)(void *arg))
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		uint64_t n = seed;

		while (hang_nth(n, seed, prepare, run))
			n += step ? step : 1 + n / 8;
		assert_true(n > 10);
	}
}

static void hangs_while_it_is_built(void **state)
{
	(void)state;
	hang_each(1, begin_without_first, build_and_go_on);
	assert_true(reached_count("mirror.late") > 0);
}

static void hangs_while_it_is_rolled(void **state)
{
	(void)state;
	hang_each(does_all ? 3 : 61, begin, roll_and_go_on);
}

static void hangs_while_it_is_verified(void **state)
{
	(void)state;
	hang_each(1, begin, verify_and_go_on);
}

static void hangs_while_it_is_removed(void **state)
{
	(void)state;
	hang_each(1, begin, remove_and_go_on);
}

/* At each operation of a start: the catalog opens in time, and with more than one of its mirrors
 * hanging as soon. */

#define START_NS (12 * NSEC_PER_SEC) /* an operation, and how often it is looked at */

static void begin_and_close(void)
{
	begin();
	mirrored_close();
}

static void open_within(uint64_t limit_ns)
{
	uint64_t begin_ns = reactor_now_ns(reactor_current());

	open_any();
	ASSERT(result == 0 && mirrored_look(1) == 1);
	ASSERT(reactor_now_ns(reactor_current()) - begin_ns < limit_ns);
	hanging.ended = true;
}

static void open_and_go_on(void *arg)
{
	(void)arg;
	open_within(START_NS);
	others_go_on();
}

static void hangs_while_it_is_opened(void **state)
{
	(void)state;
	hang_each(1, begin_and_close, open_and_go_on);
}

static void set_all_hung(bool hung)
{
	for (size_t i = 0; i < DISKS; i++)
		sim_disk_set_hung(rig.sim, mirrored_disks[i], hung);
}

static void open_with_none(void)
{
	begin_and_close();
	set_all_hung(true);
	open_within(START_NS);
	ASSERT(mirrored_put(7, 7, 100) == 0 && state_of(0) == CATALOG_MIRROR_LOST &&
	       state_of(1) == CATALOG_MIRROR_LOST);
	set_all_hung(false);
	settle();
}

/* Opening takes as long as the disks' timeout says, and so does a commit. */
static void open_with_timeout(void)
{
	uint64_t begin_ns;

	begin_and_close();
	set_all_hung(true);
	mirrored_timeout_ns = 20 * NSEC_PER_SEC;
	begin_ns = reactor_now_ns(reactor_current());
	open_within(42 * NSEC_PER_SEC);
	ASSERT(reactor_now_ns(reactor_current()) - begin_ns >= 40 * NSEC_PER_SEC);
	set_all_hung(false);
	settle_after(60 * NSEC_PER_SEC);
	mirrored_close();
	mirrored_timeout_ns = NSEC_PER_SEC;
	open_within(NSEC_PER_SEC);
	set_all_hung(true);
	begin_ns = reactor_now_ns(reactor_current());
	ASSERT(mirrored_put(7, 7, 100) == 0 && state_of(0) == CATALOG_MIRROR_LOST);
	ASSERT(reactor_now_ns(reactor_current()) - begin_ns < 3 * NSEC_PER_SEC);
	set_all_hung(false);
	settle_after(60 * NSEC_PER_SEC);
	mirrored_timeout_ns = 0;
}

static void open_hung(void (*run)(void))
{
	mirrored_rig_begin(1, DISKS);
	mirrored_in_fiber(run);
	mirrored_in_fiber(mirrored_close);
	mirrored_rig_end();
}

static void all_hang_when_it_is_opened(void **state)
{
	(void)state;
	open_hung(open_with_none);
	open_hung(open_with_timeout);
}

/* The database is gone, too: it is made again from the other mirror. */

static void lose_database(void)
{
	begin_and_close();
	remove_database();
}

static void restore_and_go_on(void *arg)
{
	(void)arg;
	open_within(3 * START_NS); /* as it is chosen, compared and adopted */
	ASSERT(report.restored);
	others_go_on();
}

static void hangs_while_another_is_restored(void **state)
{
	(void)state;
	hang_each(does_all ? 5 : 0, lose_database, restore_and_go_on);
}

/* What was begun before hangs, and the disk answers all that comes later: a mirror is removed and
 * added again there. It is built when what was begun has ended, and not before. */

static uint64_t ended_late(void)
{
	return reached_count("mirror.late-ended") + reached_count("mirror.append-late");
}

/* `ended`: before it began to hang. Who waits for mirrors waits for it, too. */
static void add_again(uint64_t ended, bool waits)
{
	ASSERT(catalog_mirror_remove(catalog, mirrored_disks[0]) == 0);
	hang(0, false);
	ASSERT(catalog_mirror_add(catalog, mirrored_disks[0]) == 0);
	while (!waits && state_of(0) != CATALOG_MIRROR_GOOD && ended_late() == ended)
		fiber_sleep(NSEC_PER_SEC);
	if (waits)
		catalog_mirror_wait(catalog);
	ASSERT(ended_late() > ended);
	catalog_mirror_wait(catalog);
	ASSERT(state_of(0) == CATALOG_MIRROR_GOOD);
}

static void append_and_add_again(void *arg)
{
	uint64_t ended = ended_late();

	(void)arg;
	hang(0, true);
	while (state_of(0) == CATALOG_MIRROR_GOOD) /* how slow is drawn */
		ASSERT(mirrored_put(3, 3, 100) == 0);
	add_again(ended, true);
}

/* How many operations of the build come before the one that hangs. */
static void slow_at(void *arg)
{
	(void)arg;
	sim_crash_nth(rig.sim, OPS_FAR, SIM_CRASH_PROCESS);
	while (!hanging.ended && OPS_FAR - sim_crash_left(rig.sim) < hanging.after)
		fiber_sleep(NSEC_PER_USEC);
	hanging.hit = !hanging.ended;
	if (hanging.hit)
		hang(0, true);
}

static void build_and_add_again(void *arg)
{
	uint64_t late = reached_count("mirror.late"), ended = ended_late();

	(void)arg;
	ASSERT(catalog_mirror_add(catalog, mirrored_disks[0]) == 0);
	while (state_of(0) != CATALOG_MIRROR_GOOD && reached_count("mirror.late") == late)
		fiber_sleep(hanging.hit ? NSEC_PER_SEC : 10 * NSEC_PER_USEC);
	hanging.ended = true;
	if (reached_count("mirror.late") > late)
		add_again(ended, false);
	hang(0, false);
}

static void add_third(void)
{
	ASSERT(catalog_mirror_add(catalog, mirrored_disks[THIRD]) == 0);
	catalog_mirror_wait(catalog);
}

static bool add_beside(uint64_t n, uint64_t seed, void (*prepare)(void), void (*run)(void *arg))
{
	struct sim_rig_task tasks[2] = {{.run = run}, {.run = slow_at}};
	size_t count = n > 0 ? 2 : 1;

	hanging.after = n;
	hanging.ended = hanging.hit = false;
	mirrored_rig_begin(seed, THIRD + 1);
	mirrored_in_fiber(prepare);
	mirrored_in_fiber(add_third);
	for (size_t i = 0; i < count; i++)
		sim_rig_start(&rig, 0, &tasks[i]);
	assert_int_equal(sim_rig_wait(&rig, tasks, (unsigned)count, 72 * HANG_NS), 0);
	mirrored_in_fiber(all_are_good);
	mirrored_in_fiber(mirrored_close);
	mirrored_rig_end();
	return hanging.hit;
}

static void nothing_is_built_beside_late_work(void **state)
{
	uint64_t n = 1, late = reached_count("mirror.late");

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		add_beside(0, seed, begin, append_and_add_again);
	while (add_beside(n, 1, begin_without_first, build_and_add_again))
		n++;
	assert_true(n > 10 && reached_count("mirror.late") > late + 10);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_built_beside_late_work),
		cmocka_unit_test(hangs_while_its_log_is_rolled),
		cmocka_unit_test(is_removed_while_it_hangs),
		cmocka_unit_test(what_is_taken_over_is_durable),
		cmocka_unit_test(a_hint_that_was_set_back),
		cmocka_unit_test(hangs_while_it_is_built),
		cmocka_unit_test(hangs_while_it_is_rolled),
		cmocka_unit_test(hangs_while_it_is_verified),
		cmocka_unit_test(hangs_while_it_is_removed),
		cmocka_unit_test(hangs_while_it_is_opened),
		cmocka_unit_test(all_hang_when_it_is_opened),
		cmocka_unit_test(hangs_while_another_is_restored),
	};

	does_all = argc > 1 && strcmp(argv[1], "all") == 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
