/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that hang: what waits for them, what is given up, and when. Two simulated disks. */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_disk.h"
#include "pool/pool_priv.h"

#define PAGE      4096
#define LIMIT_NS  POOL_DISK_TIMEOUT_NS
#define LOOKS_NS  (LIMIT_NS / 10 + 10 * NSEC_PER_MSEC) /* until that is noticed */
#define DOERS_MAX 12

static const char *const roots[] = {POOL_RIG_DISK, "/disk2"};

/* A call in a fiber of its own. */
struct doer {
	struct fiber_task task;
	struct pool_rig *rig;
	struct pool_file *file;
	int (*fn)(struct doer *doer);
	unsigned copy;
	int result;
	bool ended;
	unsigned kept;
	uint64_t ended_ns;
	uint8_t *page;
};

static struct doer doers[DOERS_MAX];

static int setup(void **state)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	ASSERT(sim_disk_add(rig->sim.sim, roots[1], POOL_RIG_DISK_BYTES) == 0);
	memset(doers, 0, sizeof(doers));
	*state = rig;
	return 0;
}

static uint64_t now(void)
{
	return reactor_now_ns(reactor_current());
}

static void hang(struct pool_rig *rig, uint64_t disk, bool hangs)
{
	sim_disk_set_hung(rig->sim.sim, roots[disk - 1], hangs);
}

static enum pool_disk_state state_of(struct pool_rig *rig, uint64_t disk)
{
	return pool_disk_state(rig->pool, disk);
}

static int do_write(struct doer *doer)
{
	memset(doer->page, 'w', PAGE);
	return pool_io_write(doer->file, doer->page, PAGE, 0);
}

static int do_sync(struct doer *doer)
{
	return pool_io_sync(doer->file);
}

static int do_sync_copy(struct doer *doer)
{
	return pool_io_sync_copy(doer->file, doer->copy);
}

static int do_read_copy(struct doer *doer)
{
	return pool_io_read_copy(doer->file, doer->copy, doer->page, PAGE, 0);
}

static int do_read_or_resort(struct doer *doer)
{
	return pool_io_read_copy_or_resort(doer->file, doer->copy, doer->page, PAGE, 0);
}

static int do_take(struct doer *doer)
{
	doer->file = pool_rig_take(doer->rig, 2);
	return 0;
}

struct reading {
	struct pool_read read;
	struct fiber_op op;
	bool released;
	unsigned kept;
};

static void read_done(struct pool_read *read, int64_t result)
{
	struct reading *reading = CONTAINER_OF(read, struct reading, read);

	reading->op.op.done(&reading->op.op, result);
}

static void read_released(struct pool_read *read)
{
	CONTAINER_OF(read, struct reading, read)->released = true;
}

static void read_kept(struct pool_read *read)
{
	struct reading *reading = CONTAINER_OF(read, struct reading, read);

	ASSERT(reading->op.finished && !reading->released);
	reading->kept++;
}

/* From any copy; it and the page stay until the disk lets go of them. */
static int do_read(struct doer *doer)
{
	struct reading reading = {
		.read = {.done = read_done, .released = read_released, .kept = read_kept}};
	struct iovec iov = {doer->page, PAGE};
	int r;

	fiber_op_init(&reading.op);
	pool_file_read(doer->file, &iov, 1, 0, &reading.read);
	r = (int)fiber_op_wait(&reading.op);
	doer->result = r;
	doer->ended_ns = now();
	while (pool_read_is_held(&reading.read) && !reading.released) {
		fiber_sleep(NSEC_PER_MSEC);
		doer->kept = reading.kept;
	}
	return r;
}

static void doer_run(struct fiber_task *task)
{
	struct doer *doer = CONTAINER_OF(task, struct doer, task);
	int r = doer->fn(doer);

	if (doer->ended_ns == 0)
		doer->ended_ns = now();
	doer->result = r;
	doer->ended = true;
	free(doer->page);
}

static struct doer *start(struct pool_rig *rig, struct pool_file *file, unsigned copy,
			  int (*fn)(struct doer *doer))
{
	struct doer *doer = doers;

	while (doer->fn)
		doer++;
	ASSERT(doer < doers + DOERS_MAX);
	*doer = (struct doer){.rig = rig, .file = file, .copy = copy, .fn = fn};
	doer->task.run = doer_run;
	doer->page = aligned_alloc(PAGE, PAGE);
	ASSERT(doer->page);
	fiber_spawn(reactor_current(), FIBER_DATA, &doer->task);
	return doer;
}

static int finish(const struct doer *doer)
{
	while (!doer->ended)
		fiber_sleep(NSEC_PER_MSEC);
	return doer->result;
}

/* Ends the test: nothing hangs any more, and all that was late has ended. */
static void end(struct pool_rig *rig, struct pool_file *file)
{
	hang(rig, 1, false);
	hang(rig, 2, false);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(pool_disks_silent() == 0);
	ASSERT(state_of(rig, 1) == POOL_DISK_ONLINE || state_of(rig, 1) == POOL_DISK_SUSPECT);
	ASSERT(state_of(rig, 2) == POOL_DISK_ONLINE || state_of(rig, 2) == POOL_DISK_SUSPECT ||
	       state_of(rig, 2) == POOL_DISK_FAILED);
	if (file)
		pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

/* What another copy has, or can do, is waited for as long as a disk may take. */
static void spare_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);
	struct doer *write, *read, *sync;
	uint64_t from;

	hang(rig, 2, true);
	from = now();
	write = start(rig, file, 0, do_write);
	read = start(rig, file, copy, do_read_copy);
	sync = start(rig, file, 0, do_sync);
	fiber_sleep(LIMIT_NS - 10 * NSEC_PER_MSEC);
	ASSERT(!write->ended && !read->ended && !sync->ended);
	ASSERT(state_of(rig, 2) == POOL_DISK_ONLINE && pool_disks_silent() == 0);
	fiber_sleep(LOOKS_NS + 10 * NSEC_PER_MSEC);
	ASSERT(write->ended && write->result == -ETIMEDOUT);
	ASSERT(read->ended && read->result == -ETIMEDOUT);
	ASSERT(sync->ended && sync->result == 0); /* one is enough, but ... */
	ASSERT(pool_file_failed(file) == 1u << copy);
	ASSERT(write->ended_ns - from < LIMIT_NS + LOOKS_NS);
	ASSERT(state_of(rig, 2) == POOL_DISK_MISSING && pool_disks_silent() == 1);
	/* Nothing is begun there any more. */
	from = now();
	ASSERT(pool_rig_write(file, 'n') == 0);
	ASSERT(pool_io_sync_copy(file, copy) < 0);
	ASSERT(finish(start(rig, file, copy, do_read_copy)) == -ETIMEDOUT);
	for (unsigned i = 0; i < 4; i++)
		ASSERT(finish(start(rig, file, 0, do_read)) == PAGE);
	ASSERT(now() - from < 100 * NSEC_PER_MSEC);
	/* It is found as soon as it answers. */
	fiber_sleep(20 * NSEC_PER_SEC);
	hang(rig, 2, false);
	fiber_sleep(500 * NSEC_PER_MSEC);
	ASSERT(state_of(rig, 2) == POOL_DISK_ONLINE && pool_disks_silent() == 0);
	end(rig, file);
}

static void gives_up_what_another_copy_can_do(void **state)
{
	pool_rig_run(*state, spare_run);
}

/* All that is under way there is late when one thing is, also what has just begun. */
static void at_once_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);
	struct doer *first, *second;

	hang(rig, 2, true);
	first = start(rig, file, copy, do_read_copy);
	fiber_sleep(LIMIT_NS - 100 * NSEC_PER_MSEC);
	second = start(rig, file, copy, do_read_copy);
	ASSERT(finish(first) == -ETIMEDOUT && finish(second) == -ETIMEDOUT);
	ASSERT(second->ended_ns - first->ended_ns < 10 * NSEC_PER_MSEC);
	end(rig, file);
}

static void counts_all_as_late_at_once(void **state)
{
	pool_rig_run(*state, at_once_run);
}

/* Where both hang, all wait: for the first that answers. */
static void both_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);
	struct doer *write, *read, *any, *sync;

	hang(rig, 1, true);
	hang(rig, 2, true);
	write = start(rig, file, 0, do_write);
	read = start(rig, file, copy, do_read_copy);
	any = start(rig, file, 0, do_read);
	sync = start(rig, file, 0, do_sync);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(!write->ended && !read->ended && any->ended_ns == 0 && !sync->ended);
	ASSERT(pool_disks_silent() == 2);
	hang(rig, 1, false);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(write->ended && write->result == -ETIMEDOUT);
	ASSERT(read->ended && read->result == -ETIMEDOUT);
	ASSERT(any->ended_ns != 0 && (any->result == PAGE || any->result == -ETIMEDOUT));
	ASSERT(sync->ended && sync->result == 0 && pool_file_failed(file) == 1u << copy);
	ASSERT(pool_disks_silent() == 1);
	hang(rig, 2, false);
	ASSERT(finish(any) == PAGE || any->result == -ETIMEDOUT);
	end(rig, file);
}

static void waits_for_the_first_that_answers(void **state)
{
	pool_rig_run(*state, both_run);
}

/* A copy whose sync has failed may lack what the other has: it is no reason to give that up. */
static void failed_run(void *arg)
{
	const struct sim_faults faults = {.sync_error_ppm = 1000000}, none = {0};
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	struct doer *read;

	sim_disk_set_faults(rig->sim.sim, roots[0], &faults);
	ASSERT(pool_io_sync(file) == 0 &&
	       pool_file_failed(file) == 1u << pool_rig_copy_on(file, 1));
	sim_disk_set_faults(rig->sim.sim, roots[0], &none);
	hang(rig, 2, true);
	read = start(rig, file, pool_rig_copy_on(file, 2), do_read_copy);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(!read->ended);
	hang(rig, 2, false);
	ASSERT(finish(read) == 0);
	end(rig, file);
}

static void waits_where_the_other_copy_failed(void **state)
{
	pool_rig_run(*state, failed_run);
}

/* The only copy is waited for, however long it takes, though there is another disk. */
static void one_copy_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *both = pool_rig_begin_two(rig), *file;
	struct pool_copies copies;
	struct doer *write, *read, *any, *sync, *sync_copy;

	file = pool_rig_take(rig, 1);
	ASSERT(pool_rig_write(file, 'h') == 0 && pool_rig_name(rig, file) == 0);
	pool_file_get_copies(file, &copies);
	hang(rig, copies.disks[0], true);
	write = start(rig, file, 0, do_write);
	read = start(rig, file, 0, do_read_copy);
	any = start(rig, file, 0, do_read);
	sync = start(rig, file, 0, do_sync);
	fiber_sleep(2 * LIMIT_NS);
	ASSERT(pool_disks_silent() == 1);
	sync_copy = start(rig, file, 0, do_sync_copy); /* it is silent already */
	fiber_sleep(50 * NSEC_PER_SEC);
	ASSERT(!write->ended && !read->ended && any->ended_ns == 0 && !sync->ended);
	ASSERT(!sync_copy->ended);
	hang(rig, copies.disks[0], false);
	ASSERT(finish(write) == 0 && finish(read) == 0 && finish(any) == PAGE);
	ASSERT(finish(sync) == 0 && finish(sync_copy) == 0 && pool_file_failed(file) == 0);
	pool_file_discard(file);
	end(rig, both);
}

static void waits_for_the_only_copy(void **state)
{
	pool_rig_run(*state, one_copy_run);
}

/* The only disk is no more than suspect, and what is done to names there waits. */
static void only_disk_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct doer *taking;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	hang(rig, 1, true);
	taking = start(rig, NULL, 0, do_take);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(!taking->ended && state_of(rig, 1) == POOL_DISK_SUSPECT);
	hang(rig, 1, false);
	ASSERT(finish(taking) == 0);
	end(rig, taking->file);
}

static void waits_for_the_only_disk(void **state)
{
	pool_rig_run(*state, only_disk_run);
}

/* New files go elsewhere after that time; what the disk does in the end leaves nothing there, and
 * those that wait for it do not take all fibers. */
static void names_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	const struct pool_disk *disk = pool_disk_by_id(rig->pool, 2);
	struct doer *taking[8];
	struct pool_disk_info info;
	uint64_t from, late = reached_count("pool.flow-late");

	hang(rig, 2, true);
	from = now();
	for (unsigned i = 0; i < ARRAY_SIZE(taking); i++)
		taking[i] = start(rig, NULL, 0, do_take);
	fiber_sleep(LIMIT_NS / 2);
	ASSERT(disk->flows > 1 && disk->flows <= 4);
	for (unsigned i = 0; i < ARRAY_SIZE(taking); i++) {
		ASSERT(finish(taking[i]) == 0);
		ASSERT(taking[i]->ended_ns - from < LIMIT_NS + 2 * LOOKS_NS);
		ASSERT(pool_file_taking_part(taking[i]->file) == 1);
		pool_file_discard(taking[i]->file);
	}
	hang(rig, 2, false);
	fiber_sleep(LIMIT_NS);
	ASSERT(reached_count("pool.flow-late") > late && disk->flows == 0);
	ASSERT(state_of(rig, 2) == POOL_DISK_ONLINE);
	fiber_sleep(60 * NSEC_PER_SEC); /* what it made is removed */
	ASSERT(pool_disk_get(rig->pool, 2, &info) == 0);
	ASSERT(info.files == 1 && info.used == pool_file_size(file));
	end(rig, file);
}

static void makes_files_elsewhere(void **state)
{
	pool_rig_run(*state, names_run);
}

/* Closing waits for nothing that is late; the handle goes when that has ended. */
static void close_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig), *again;
	unsigned copy = pool_rig_copy_on(file, 2);
	uint64_t from, closed = reached_count("pool.closed-late");
	struct pool_copies copies;

	pool_file_get_copies(file, &copies);
	hang(rig, 2, true);
	ASSERT(finish(start(rig, file, copy, do_read_copy)) == -ETIMEDOUT);
	from = now();
	pool_file_close(file);
	ASSERT(now() - from < 10 * NSEC_PER_MSEC && reached_count("pool.closed-late") == closed);
	ASSERT(pool_file_open(rig->pool, 1, &copies, &again) == 0);
	ASSERT(now() - from < 20 * NSEC_PER_MSEC &&
	       pool_file_taking_part(again) == 3u - (1u << copy));
	hang(rig, 2, false);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(reached_count("pool.closed-late") == closed + 1);
	ASSERT(pool_file_reopen(again) == 3);
	end(rig, again);
}

static void closes_what_is_late_later(void **state)
{
	pool_rig_run(*state, close_run);
}

/* A handle without anything under way, on a disk that is silent, is closed by the way. */
static void idle_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig), *idle = pool_rig_take(rig, 2);
	unsigned copy = pool_rig_copy_on(file, 2);
	uint64_t from, closed = reached_count("pool.closed-late");

	ASSERT(pool_rig_name(rig, idle) == 0);
	hang(rig, 2, true);
	ASSERT(finish(start(rig, file, copy, do_read_copy)) == -ETIMEDOUT);
	from = now();
	pool_file_close(idle);
	ASSERT(now() - from < 10 * NSEC_PER_MSEC &&
	       reached_count("pool.closed-late") == closed + 1);
	end(rig, file);
}

static void closing_does_not_wait(void **state)
{
	pool_rig_run(*state, idle_run);
}

/* Also one on a disk that has failed may do for a read, where whoever reads asks it then; for what
 * is written it never does. */
static void resort_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 1);
	struct doer *patient, *read, *any, *write, *sync;
	uint64_t from;

	ASSERT(pool_disk_fail(rig->pool, 2) == 0);
	hang(rig, 1, true);
	from = now();
	patient = start(rig, file, copy, do_read_copy);
	read = start(rig, file, copy, do_read_or_resort);
	any = start(rig, file, 0, do_read);
	write = start(rig, file, 0, do_write);
	sync = start(rig, file, 0, do_sync);
	fiber_sleep(LIMIT_NS + LOOKS_NS);
	ASSERT(read->ended && read->result == -ETIMEDOUT);
	ASSERT(any->ended_ns != 0 && any->result == -ETIMEDOUT);
	ASSERT(read->ended_ns - from >= LIMIT_NS - NSEC_PER_MSEC);
	/* It is silent by now: nothing is begun there. The other is read. */
	from = now();
	ASSERT(finish(start(rig, file, copy, do_read_or_resort)) == -ETIMEDOUT);
	ASSERT(finish(start(rig, file, pool_rig_copy_on(file, 2), do_read_copy)) == 0);
	ASSERT(finish(start(rig, file, 0, do_read)) == PAGE);
	ASSERT(now() - from < 100 * NSEC_PER_MSEC);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(!patient->ended && !write->ended && !sync->ended);
	ASSERT(any->kept > 100 && pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	hang(rig, 1, false);
	ASSERT(finish(patient) == 0 && finish(sync) == 0 && finish(any) == -ETIMEDOUT);
	ASSERT(finish(write) == -EIO); /* of the copy that was not tried */
	end(rig, file);
}

static void reads_from_a_failed_disk_instead(void **state)
{
	pool_rig_run(*state, resort_run);
}

/* One that lacks something, or hangs as well, will not do. */
static void no_resort_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 1);
	struct doer *read, *other;
	struct pool_copies copies;

	ASSERT(pool_disk_fail(rig->pool, 2) == 0);
	hang(rig, 1, true);
	hang(rig, 2, true);
	other = start(rig, file, pool_rig_copy_on(file, 2), do_read_copy);
	read = start(rig, file, copy, do_read_or_resort);
	ASSERT(finish(other) == -ETIMEDOUT);
	fiber_sleep(LIMIT_NS);
	ASSERT(!read->ended);
	hang(rig, 2, false);
	fiber_sleep(LOOKS_NS);
	ASSERT(read->ended && read->result == -ETIMEDOUT);
	pool_file_get_copies(file, &copies);
	copies.stale = 1u << pool_rig_copy_on(file, 2);
	pool_file_set_copies(file, &copies);
	read = start(rig, file, copy, do_read_or_resort);
	fiber_sleep(2 * LIMIT_NS);
	ASSERT(!read->ended);
	hang(rig, 1, false);
	ASSERT(finish(read) == 0);
	end(rig, file);
}

static void waits_where_the_failed_disk_lacks_it(void **state)
{
	pool_rig_run(*state, no_resort_run);
}

/* Who declares a disk failed need not wait as long as it may take; what begins there afterwards has
 * all the time. */
static void fail_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);
	struct doer *write, *read, *sync, *after;
	uint64_t from;

	hang(rig, 2, true);
	write = start(rig, file, 0, do_write);
	read = start(rig, file, copy, do_read_copy);
	sync = start(rig, file, 0, do_sync);
	fiber_sleep(LOOKS_NS);
	from = now();
	ASSERT(!write->ended && !read->ended && !sync->ended);
	ASSERT(pool_disk_fail(rig->pool, 2) == 0);
	ASSERT(finish(write) == -ETIMEDOUT && finish(read) == -ETIMEDOUT && finish(sync) == 0);
	ASSERT(now() - from < 3 * LOOKS_NS && pool_file_failed(file) == 1u << copy);
	hang(rig, 2, false);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(pool_disks_silent() == 0);
	hang(rig, 2, true);
	from = now();
	after = start(rig, file, copy, do_read_copy);
	ASSERT(finish(after) == -ETIMEDOUT && now() - from >= LIMIT_NS - NSEC_PER_MSEC);
	end(rig, file);
}

static void does_not_wait_for_what_is_declared_failed(void **state)
{
	pool_rig_run(*state, fail_run);
}

/* The only copy: reads end, for nobody reads there any more; what is written nobody else has. */
static void fail_only_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *both = pool_rig_begin_two(rig), *file = NULL, *others[4];
	struct doer *write, *read, *any, *sync;
	unsigned count = 0;

	while (!file) {
		ASSERT(count < ARRAY_SIZE(others));
		file = pool_rig_take(rig, 1);
		if (pool_disk_by_id(rig->pool, 2) != file->copies[0]->disk)
			others[count++] = TAKE_PTR(file);
	}
	ASSERT(pool_rig_write(file, 'h') == 0 && !pool_file_reads_apart(file));
	hang(rig, 2, true);
	write = start(rig, file, 0, do_write);
	read = start(rig, file, 0, do_read_copy);
	any = start(rig, file, 0, do_read);
	sync = start(rig, file, 0, do_sync);
	fiber_sleep(2 * LIMIT_NS);
	ASSERT(!read->ended && any->ended_ns == 0 && pool_file_reads_apart(file));
	ASSERT(pool_disk_fail(rig->pool, 2) == 0);
	fiber_sleep(2 * LOOKS_NS);
	ASSERT(read->ended && read->result == -ETIMEDOUT);
	ASSERT(any->ended_ns != 0 && any->result == -ETIMEDOUT);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(!write->ended && !sync->ended);
	hang(rig, 2, false);
	ASSERT(finish(write) == 0 && finish(sync) == 0 && finish(any) == -ETIMEDOUT);
	pool_file_discard(file);
	while (count > 0)
		pool_file_discard(others[--count]);
	end(rig, both);
}

static void reads_of_the_only_copy_end_when_it_is_declared_failed(void **state)
{
	pool_rig_run(*state, fail_only_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(waits_where_the_other_copy_failed),
		TEST(gives_up_what_another_copy_can_do),
		TEST(counts_all_as_late_at_once),
		TEST(waits_for_the_first_that_answers),
		TEST(waits_for_the_only_copy),
		TEST(waits_for_the_only_disk),
		TEST(makes_files_elsewhere),
		TEST(closes_what_is_late_later),
		TEST(closing_does_not_wait),
		TEST(reads_from_a_failed_disk_instead),
		TEST(waits_where_the_failed_disk_lacks_it),
		TEST(does_not_wait_for_what_is_declared_failed),
		TEST(reads_of_the_only_copy_end_when_it_is_declared_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
