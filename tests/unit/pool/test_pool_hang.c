/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that hang: whose operations neither succeed nor fail. */
#include "pool_rig.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "catalog/mirror.h"
#include "pool/pool_disk.h"

#define PAGE 4096

static const char *const roots[] = {POOL_RIG_DISK, "/disk2", "/disk3"};

/* What pools leave in memory, because a disk hung when they were closed, is no leak. */
static struct pool *left[1024];
static size_t left_count;

static struct pool_rig *rig_new(void)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	ASSERT(sim_disk_add(rig->sim.sim, roots[1], POOL_RIG_DISK_BYTES) == 0);
	ASSERT(sim_disk_add(rig->sim.sim, roots[2], POOL_RIG_DISK_BYTES) == 0);
	return rig;
}

static int setup(void **state)
{
	*state = rig_new();
	return 0;
}

static uint64_t add_disk(struct pool_rig *rig, const char *directory)
{
	const struct pool_disk_spec spec = {.directory = directory,
					    .capacity_bytes = POOL_MIN_BYTES};
	uint64_t id;

	ASSERT(pool_disk_add(rig->pool, &spec, &id) == 0);
	return id;
}

static void begin(void *arg)
{
	struct pool_rig *rig = arg;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(add_disk(rig, "/disk2/p") == 2);
}

static void end(void *arg)
{
	pool_rig_close(arg);
}

/* With one copy, on the disk of that id. */
static struct pool_file *take_on(struct pool_rig *rig, uint64_t disk)
{
	for (;;) {
		struct pool_file *file = pool_rig_take(rig, 1);
		struct pool_copies copies;

		pool_file_get_copies(file, &copies);
		if (copies.disks[0] == disk)
			return file;
		pool_file_close(file);
	}
}

static void set_hung(struct pool_rig *rig, uint64_t disk, bool hung)
{
	sim_disk_set_hung(rig->sim.sim, roots[disk - 1], hung);
}

static uint64_t now_ns(void)
{
	return reactor_now_ns(reactor_current());
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static void pass(struct pool_rig *rig, uint64_t duration_ns)
{
	(void)sim_run_until(rig->sim.sim, never, NULL, duration_ns);
}

/* Closing */

/* On the other reactor: leaves something late there. */
static void leave_late(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_take(rig, 2);

	set_hung(rig, 2, true);
	ASSERT(pool_rig_write(file, 'h') == -ETIMEDOUT);
	pool_file_close(file);
}

static void close_pool(void *arg)
{
	struct pool_rig *rig = arg;

	ASSERT(left_count < ARRAY_SIZE(left));
	left[left_count++] = rig->pool;
	pool_close(TAKE_PTR(rig->pool));
}

static void close_while_it_ends(uint64_t after_ns)
{
	struct pool_rig *rig = rig_new();
	struct sim_rig_task task = {.run = close_pool, .arg = rig};

	pool_rig_run(rig, begin);
	sim_rig_run(&rig->sim, 1, leave_late, rig);
	sim_rig_start(&rig->sim, 0, &task);
	pass(rig, after_ns);
	set_hung(rig, 2, false);
	ASSERT(sim_rig_wait(&rig->sim, &task, 1, 60 * NSEC_PER_SEC) == 0);
	pass(rig, NSEC_PER_SEC);
	pool_rig_run(rig, end);
	pool_rig_free(rig);
}

/* When the closing ends its patience, and around that. */
static void may_be_closed_when_the_last_late_operation_ends(void **state)
{
	(void)state;
	for (uint64_t us = 0; us < 400; us++)
		close_while_it_ends(2 * NSEC_PER_SEC - 100 * NSEC_PER_USEC + us * NSEC_PER_USEC);
}

/* The disk is swept, slowly, and hangs meanwhile. */
static void hang_in_a_sweep(void *arg)
{
	struct pool_rig *rig = arg;
	struct sim_faults slow = {.slow_ppm = 1000000, .slow_ns = NSEC_PER_SEC};

	begin(rig);
	sim_disk_set_missing(rig->sim.sim, "/disk2", true);
	while (pool_disk_state(rig->pool, 2) != POOL_DISK_MISSING)
		fiber_sleep(NSEC_PER_SEC);
	sim_disk_set_faults(rig->sim.sim, "/disk2", &slow);
	sim_disk_set_missing(rig->sim.sim, "/disk2", false);
	fiber_sleep(20 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_MISSING);
	set_hung(rig, 2, true);
	fiber_sleep(2 * POOL_DISK_TIMEOUT_NS);
	ASSERT(pool_rig_disk(rig, 2).silent_ns > 0);
}

static void close_in_a_sweep(uint64_t after_ns)
{
	struct pool_rig *rig = rig_new();
	struct sim_rig_task task = {.run = close_pool, .arg = rig};

	pool_rig_run(rig, hang_in_a_sweep);
	sim_rig_start(&rig->sim, 0, &task);
	pass(rig, after_ns);
	set_hung(rig, 2, false);
	ASSERT(sim_rig_wait(&rig->sim, &task, 1, 60 * NSEC_PER_SEC) == 0);
	pass(rig, 600 * NSEC_PER_SEC); /* who swept it has ended */
	sim_disk_set_faults(rig->sim.sim, "/disk2", &(struct sim_faults){0});
	pool_rig_run(rig, end);
	pool_rig_free(rig);
}

/* Whoever was held up goes on then, in steps, and looks at the pool. */
static void may_be_closed_while_a_disk_is_swept(void **state)
{
	(void)state;
	for (uint64_t ms = 0; ms < 2500; ms += 50)
		close_in_a_sweep(ms * NSEC_PER_MSEC);
}

static void close_beside(void *arg)
{
	struct pool_rig *rig = arg;
	uint64_t start_ns;

	begin(rig);
	/* The keeper's own looking for the size finds it. */
	set_hung(rig, 2, true);
	fiber_sleep(11 * NSEC_PER_SEC);
	start_ns = now_ns();
	close_pool(rig);
	ASSERT(now_ns() - start_ns < 2 * POOL_DISK_TIMEOUT_NS);
	set_hung(rig, 2, false);
	fiber_sleep(20 * NSEC_PER_SEC);
	end(rig);
}

static void closes_beside_a_disk_that_hangs(void **state)
{
	pool_rig_run(*state, close_beside);
}

/* Judging */

static void only_keeper(void *arg)
{
	struct pool_rig *rig = arg;

	begin(rig);
	set_hung(rig, 2, true);
	fiber_sleep(20 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_MISSING);
	ASSERT(pool_rig_disk(rig, 2).silent_ns > 0 && pool_rig_disk(rig, 2).silences == 1);
	fiber_sleep(POOL_DISK_MISSING_NS);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	set_hung(rig, 2, false);
	fiber_sleep(20 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED &&
	       pool_rig_disk(rig, 2).silent_ns == 0);
	ASSERT(pool_disk_restore(rig->pool, 2) == 0);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	end(rig);
}

static void is_found_out_without_a_guest(void **state)
{
	pool_rig_run(*state, only_keeper);
}

static void again_and_again(void *arg)
{
	struct pool_rig *rig = arg;

	begin(rig);
	for (unsigned i = 1; i <= POOL_DISK_FATAL_SILENCES; i++) {
		ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
		set_hung(rig, 2, true);
		fiber_sleep(30 * NSEC_PER_SEC);
		ASSERT(pool_rig_disk(rig, 2).silences == i);
		set_hung(rig, 2, false);
		fiber_sleep(POOL_DISK_SUSPECT_NS);
	}
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	ASSERT(pool_disk_restore(rig->pool, 2) == 0);
	fiber_sleep(30 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE &&
	       pool_rig_disk(rig, 2).silences == 0);
	/* Seldom is often enough to live with. */
	for (unsigned i = 0; i < 2 * POOL_DISK_FATAL_SILENCES; i++) {
		set_hung(rig, 2, true);
		fiber_sleep(30 * NSEC_PER_SEC);
		set_hung(rig, 2, false);
		fiber_sleep(POOL_DISK_SILENCE_WINDOW_NS / 4);
		ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	}
	end(rig);
}

static void is_given_up_when_it_hangs_again_and_again(void **state)
{
	struct pool_rig *rig = *state;
	struct sim_rig_task task = {.run = again_and_again, .arg = rig};

	sim_rig_start(&rig->sim, 0, &task);
	ASSERT(sim_rig_wait(&rig->sim, &task, 1, 24 * 3600 * NSEC_PER_SEC) == 0);
}

static void fail_while_it_is_found(void *arg)
{
	struct pool_rig *rig = arg;
	struct sim_faults slow = {.slow_ppm = 1000000, .slow_ns = NSEC_PER_SEC};

	begin(rig);
	sim_disk_set_missing(rig->sim.sim, "/disk2", true);
	while (pool_disk_state(rig->pool, 2) != POOL_DISK_MISSING)
		fiber_sleep(NSEC_PER_SEC);
	sim_disk_set_faults(rig->sim.sim, "/disk2", &slow);
	sim_disk_set_missing(rig->sim.sim, "/disk2", false);
	fiber_sleep(20 * NSEC_PER_SEC); /* it is swept now */
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_MISSING);
	ASSERT(pool_disk_fail(rig->pool, 2) == 0);
	fiber_sleep(600 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	end(rig);
}

static void failed_stays_failed(void **state)
{
	pool_rig_run(*state, fail_while_it_is_found);
}

/* Fibers for disks are few, and these take all of them for a while. */
#define SLEEPERS 600

struct sleeper {
	struct fiber_task task;
	unsigned *count;
	bool *wake;
};

static struct sleeper sleepers[SLEEPERS];

static void sleeper_run(struct fiber_task *task)
{
	struct sleeper *sleeper = CONTAINER_OF(task, struct sleeper, task);

	while (!*sleeper->wake)
		fiber_sleep(NSEC_PER_SEC / 10);
	--*sleeper->count;
}

static void take_all_fibers(unsigned *count, bool *wake)
{
	*count = SLEEPERS;
	*wake = false;
	for (unsigned i = 0; i < SLEEPERS; i++) {
		sleepers[i] =
			(struct sleeper){.task.run = sleeper_run, .count = count, .wake = wake};
		fiber_spawn(reactor_current(), FIBER_DISK, &sleepers[i].task);
	}
}

static void give_fibers_back(const unsigned *count, bool *wake)
{
	*wake = true;
	while (*count > 0)
		fiber_sleep(NSEC_PER_SEC / 10);
}

static bool none_is_silent(struct pool_rig *rig)
{
	return pool_rig_disk(rig, 1).silences + pool_rig_disk(rig, 2).silences == 0;
}

struct discarding {
	struct fiber_task task;
	struct pool_rig *rig;
	bool ended;
};

static void take_and_discard(struct fiber_task *task)
{
	struct discarding *discarding = CONTAINER_OF(task, struct discarding, task);

	pool_file_discard(pool_rig_take(discarding->rig, 2));
	discarding->ended = true;
}

static void wait_for_a_fiber(void *arg)
{
	struct pool_rig *rig = arg;
	struct discarding discarding = {.task.run = take_and_discard, .rig = rig};
	unsigned count;
	bool wake;

	begin(rig);
	take_all_fibers(&count, &wake);
	fiber_spawn(reactor_current(), FIBER_DATA, &discarding.task);
	fiber_sleep(POOL_DISK_TIMEOUT_NS - NSEC_PER_SEC);
	ASSERT(!discarding.ended);
	give_fibers_back(&count, &wake);
	fiber_sleep(NSEC_PER_SEC / 10);
	ASSERT(discarding.ended && none_is_silent(rig));
	end(rig);
}

static void a_busy_machine_is_not_a_silent_disk(void **state)
{
	pool_rig_run(*state, wait_for_a_fiber);
}

/* As when some seventy other disks hang. */
static void do_without_a_fiber(void *arg)
{
	const struct pool_want want = {.use = POOL_USE_DATA, .size_bytes = MIB, .copies = 2};
	struct pool_rig *rig = arg;
	struct pool_file *kept, *file;
	struct pool_copies copies;
	unsigned count;
	bool wake;
	uint64_t id, start_ns;

	begin(rig);
	kept = pool_rig_take(rig, 2);
	file = pool_rig_take(rig, 1);
	ASSERT(pool_rig_write(file, 'h') == 0 && pool_rig_name(rig, file) == 0);
	id = pool_file_id(file);
	pool_file_get_copies(file, &copies);
	pool_file_close(file);
	take_all_fibers(&count, &wake);
	start_ns = now_ns();
	ASSERT(pool_file_take(rig->pool, &want, &file) == -EIO);
	ASSERT(now_ns() - start_ns >= 2 * POOL_DISK_TIMEOUT_NS);
	ASSERT(now_ns() - start_ns < 3 * POOL_DISK_TIMEOUT_NS);
	start_ns = now_ns();
	ASSERT(pool_file_open(rig->pool, id, &copies, &file) == -ETIMEDOUT);
	ASSERT(now_ns() - start_ns >= 30 * NSEC_PER_SEC);
	ASSERT(now_ns() - start_ns < 40 * NSEC_PER_SEC);
	ASSERT(pool_file_trim(kept, PAGE) == -ETIMEDOUT);
	pool_file_discard(kept); /* it is tried again later */
	ASSERT(none_is_silent(rig));
	give_fibers_back(&count, &wake);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(none_is_silent(rig));
	ASSERT(pool_rig_space(rig).used == MIB);
	ASSERT(pool_file_open(rig->pool, id, &copies, &file) == 0);
	pool_file_discard(file);
	pool_file_discard(pool_rig_take(rig, 2));
	end(rig);
}

static void what_finds_no_fiber_is_not_waited_for_for_ever(void **state)
{
	pool_rig_run(*state, do_without_a_fiber);
}

/* Holding up nobody */

struct scrubbing {
	struct pool_rig *rig;
	int result;
};

static void scrub_label(void *arg)
{
	struct scrubbing *scrubbing = arg;
	bool put_right;

	scrubbing->result = pool_disk_scrub_label(scrubbing->rig->pool, 2, &put_right);
}

static void scrub_beside(void *arg)
{
	struct pool_rig *rig = arg;
	struct scrubbing scrubbing = {.rig = rig};
	struct sim_rig_task task = {.run = scrub_label, .arg = &scrubbing};
	uint64_t start_ns;

	begin(rig);
	set_hung(rig, 2, true);
	sim_rig_start(&rig->sim, 1, &task);
	fiber_sleep(NSEC_PER_MSEC);
	start_ns = now_ns();
	ASSERT(!task.finished && add_disk(rig, "/disk3/p") == 3);
	ASSERT(now_ns() - start_ns < NSEC_PER_SEC && !task.finished);
	fiber_sleep(POOL_DISK_TIMEOUT_NS + NSEC_PER_SEC);
	ASSERT(task.finished && scrubbing.result == -ETIMEDOUT);
	set_hung(rig, 2, false);
	fiber_sleep(20 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	end(rig);
}

static void the_scrub_of_a_label_holds_up_nobody(void **state)
{
	pool_rig_run(*state, scrub_beside);
}

static void open_on(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file;
	struct pool_copies copies;
	uint64_t id, start_ns;

	begin(rig);
	file = take_on(rig, 2);
	ASSERT(pool_rig_write(file, 'h') == 0);
	id = pool_file_id(file);
	pool_file_get_copies(file, &copies);
	pool_file_close(file);
	set_hung(rig, 2, true);
	start_ns = now_ns();
	ASSERT(pool_file_open(rig->pool, id, &copies, &file) < 0);
	ASSERT(now_ns() - start_ns >= 30 * NSEC_PER_SEC);
	ASSERT(now_ns() - start_ns < 40 * NSEC_PER_SEC);
	set_hung(rig, 2, false);
	fiber_sleep(20 * NSEC_PER_SEC);
	ASSERT(pool_file_open(rig->pool, id, &copies, &file) == 0);
	pool_file_discard(file);
	end(rig);
}

static void opening_is_not_waited_for_for_ever(void **state)
{
	pool_rig_run(*state, open_on);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pool_rig_teardown)

/* Disks that come and go while others are slow */

struct changing {
	struct fiber_task task;
	struct pool_rig *rig;
	struct pool_file *file;
	bool ended;
};

static void add_third(struct fiber_task *task)
{
	struct changing *changing = CONTAINER_OF(task, struct changing, task);

	ASSERT(add_disk(changing->rig, "/disk3/p") == 3);
	changing->ended = true;
}

static bool is_used(struct pool_rig *rig, uint64_t disk)
{
	return pool_disk_state(rig->pool, disk) < POOL_DISK_MISSING;
}

/* The commit of the row waits for a mirror as long as that may take, which is longer than until a
 * missing disk is searched for. */
static void add_beside_a_mirror_that_hangs(void *arg)
{
	struct pool_rig *rig = arg;
	struct changing changing = {.task.run = add_third, .rig = rig};
	struct world_stat stat;
	uint64_t start_ns;

	begin(rig);
	ASSERT(catalog_mirror_add(rig->catalog, "/disk2/p") == 0);
	catalog_mirror_wait(rig->catalog);
	fiber_spawn(reactor_current(), FIBER_CONTROL, &changing.task);
	while (io_stat("/disk3/p/label.new", &stat) != 0)
		fiber_sleep(NSEC_PER_USEC);
	set_hung(rig, 2, true);
	start_ns = now_ns();
	while (!is_used(rig, 3))
		fiber_sleep(NSEC_PER_SEC / 100);
	ASSERT(now_ns() - start_ns > POOL_DISK_SEARCH_NS);
	fiber_sleep(NSEC_PER_SEC / 100);
	ASSERT(changing.ended);
	set_hung(rig, 2, false);
	fiber_sleep(20 * NSEC_PER_SEC);
	end(rig);
}

static void a_disk_is_not_used_before_its_row_is_there(void **state)
{
	pool_rig_run(*state, add_beside_a_mirror_that_hangs);
}

static void take_on_two(struct fiber_task *task)
{
	struct changing *changing = CONTAINER_OF(task, struct changing, task);

	changing->file = pool_rig_take(changing->rig, 2);
	changing->ended = true;
}

#define TRIMMERS 4u /* as much as a disk does at a time */

struct trimming {
	struct fiber_task task;
	struct pool_file *file;
	unsigned *busy;
};

static void trim_a_page(struct fiber_task *task)
{
	struct trimming *trimming = CONTAINER_OF(task, struct trimming, task);

	ASSERT(pool_file_trim(trimming->file, pool_file_size(trimming->file) - PAGE) == 0);
	--*trimming->busy;
}

/* The disk of the first copy has other things to do; the one that was chosen for the second goes
 * meanwhile. */
static int take_and_remove(struct pool_rig *rig, struct trimming trimmings[TRIMMERS])
{
	struct changing changing = {.task.run = take_on_two, .rig = rig};
	struct pool_copies copies;
	unsigned busy = TRIMMERS;
	int r;

	for (unsigned i = 0; i < TRIMMERS; i++) {
		trimmings[i].task = (struct fiber_task){.run = trim_a_page};
		trimmings[i].busy = &busy;
		fiber_spawn(reactor_current(), FIBER_CONTROL, &trimmings[i].task);
	}
	fiber_sleep(NSEC_PER_SEC / 1000);
	fiber_spawn(reactor_current(), FIBER_CONTROL, &changing.task);
	fiber_sleep(NSEC_PER_SEC / 1000);
	r = pool_disk_remove(rig->pool, 2);
	while (!changing.ended || busy > 0)
		fiber_sleep(NSEC_PER_SEC);
	pool_file_get_copies(changing.file, &copies);
	ASSERT(r ? copies.count == 2 : copies.count == 1 && copies.disks[0] == 1);
	pool_file_discard(changing.file);
	return r;
}

static void remove_what_was_chosen(void *arg)
{
	const struct sim_faults slow = {.slow_ppm = 1000000, .slow_ns = NSEC_PER_SEC};
	struct pool_rig *rig = arg;
	struct trimming trimmings[TRIMMERS];
	unsigned tries = 0;

	ASSERT(pool_rig_open(rig, 2 * POOL_MIN_BYTES) == 0); /* chosen first */
	for (unsigned i = 0; i < TRIMMERS; i++)
		trimmings[i].file = pool_rig_take(rig, 1);
	ASSERT(add_disk(rig, "/disk2/p") == 2);
	sim_disk_set_faults(rig->sim.sim, roots[0], &slow);
	while (take_and_remove(rig, trimmings) != 0)
		ASSERT(tries++ < 50);
	for (unsigned i = 0; i < TRIMMERS; i++)
		pool_file_close(trimmings[i].file);
	end(rig);
}

static void nothing_is_made_on_a_disk_that_was_removed(void **state)
{
	pool_rig_run(*state, remove_what_was_chosen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(may_be_closed_when_the_last_late_operation_ends),
		cmocka_unit_test(may_be_closed_while_a_disk_is_swept),
		TEST(closes_beside_a_disk_that_hangs),
		TEST(is_found_out_without_a_guest),
		TEST(is_given_up_when_it_hangs_again_and_again),
		TEST(failed_stays_failed),
		TEST(a_busy_machine_is_not_a_silent_disk),
		TEST(what_finds_no_fiber_is_not_waited_for_for_ever),
		TEST(the_scrub_of_a_label_holds_up_nobody),
		TEST(opening_is_not_waited_for_for_ever),
		TEST(a_disk_is_not_used_before_its_row_is_there),
		TEST(nothing_is_made_on_a_disk_that_was_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
