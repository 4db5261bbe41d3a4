/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies on disks that were declared failed are the last resort: read when no other copy can serve,
 * not for ever, never written, and copied from before anything else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reached.h"
#include "egroup/store_priv.h"
#include "engine_rig.h"
#include "pool/pool_disk.h"
#include "reactor/io.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES (512 * MIB)
#define DISK_BYTES (8 * MIB)
#define BYTE       0x5a

static struct engine_rig rig_memory;

/* All of it, on the disks with these numbers; all is sealed. */
static void make(struct engine_rig *rig, unsigned on)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	for (unsigned i = 0; i < rig->disks; i++)
		if (!(on >> i & 1))
			assert_int_equal(
				pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, i), true),
				0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (uint64_t at = 0; at < DISK_BYTES; at += ENGINE_RIG_PIECE)
		assert_int_equal(engine_rig_write_piece(rig, BYTE, at), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (unsigned i = 0; i < rig->disks; i++)
		assert_int_equal(
			pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, i), false), 0);
}

static void open_again(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	assert_int_equal(engine_rig_open_again(rig), 0);
}

static int end(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static void verify(struct engine_rig *rig)
{
	for (uint64_t at = 0; at < DISK_BYTES; at += ENGINE_RIG_PIECE)
		assert_int_equal(engine_rig_read_piece(rig, BYTE, at), 0);
}

static struct vdisk_redundancy redundancy(struct engine_rig *rig)
{
	struct vdisk_redundancy sum;

	vdisk_get_redundancy(rig->vdisk, &sum);
	return sum;
}

static int restore(struct engine_rig *rig, unsigned number)
{
	return pool_disk_restore(rig->pool, engine_rig_disk_id(rig, number));
}

/* All files of a disk have a bit flipped in every MiB. */
static unsigned flip_all(struct engine_rig *rig, unsigned number)
{
	unsigned flips = 0;
	char path[300];

	for (unsigned folder = 0; folder < 256; folder++) {
		struct world_names names;
		size_t length = (size_t)snprintf(path, sizeof(path), "%s/groups/%02x",
						 engine_rig_directory(number, 0), folder);

		if (io_directory_list(path, &names) < 0)
			continue;
		for (size_t i = 0; i < names.count; i++) {
			snprintf(path + length, sizeof(path) - length, "/%s", names.names[i]);
			for (uint64_t at = 99; at < 2 * DISK_BYTES; at += MIB)
				flips += sim_disk_flip(rig->sim.sim, path, at, 3) == 0;
		}
		world_names_free(&names);
	}
	return flips;
}

static void run(unsigned disks, unsigned factor, int (*fn)(struct engine_rig *rig))
{
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, disks, factor);
	engine_rig_call(&rig_memory, fn);
	engine_rig_done(&rig_memory);
}

/* The other copy is opened, so the failed disk's is not; then it turns out to be wrong. */
static int damaged_afterwards(struct engine_rig *rig)
{
	uint64_t resorts = reached_count("egroup.last-resort"), id;

	make(rig, 3);
	id = engine_rig_disk_id(rig, 1);
	assert_int_equal(pool_disk_fail(rig->pool, id), 0);
	open_again(rig);
	verify(rig);
	assert_int_equal(reached_count("egroup.last-resort"), resorts);
	assert_true(flip_all(rig, 0) > DISK_BYTES / MIB);
	verify(rig);
	assert_true(reached_count("egroup.last-resort") > resorts);
	assert_int_equal(pool_disk_state(rig->pool, id), POOL_DISK_FAILED);
	/* What was wrong has been put right from there. */
	resorts = reached_count("egroup.last-resort");
	verify(rig);
	assert_int_equal(reached_count("egroup.last-resort"), resorts);
	return end(rig);
}

static void what_is_damaged_elsewhere(void **state)
{
	(void)state;
	run(2, 2, damaged_afterwards);
}

static int lost_afterwards(struct engine_rig *rig)
{
	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	open_again(rig);
	verify(rig);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), true);
	verify(rig);
	fiber_sleep(10 * NSEC_PER_SEC);
	verify(rig);
	return end(rig);
}

static void what_is_lost_elsewhere(void **state)
{
	(void)state;
	run(3, 2, lost_afterwards);
}

/* The log is still to be read when it starts. */
static int write_and_fail(struct engine_rig *rig)
{
	make(rig, 3);
	assert_int_equal(engine_rig_write_piece(rig, 0x77, 0), 0);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	return 0;
}

static int open_without_the_other(struct engine_rig *rig)
{
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), true);
	assert_int_equal(engine_rig_open_again(rig), 0);
	assert_int_equal(engine_rig_read_piece(rig, 0x77, 0), 0);
	assert_int_equal(engine_rig_read_piece(rig, BYTE, ENGINE_RIG_PIECE), 0);
	assert_int_equal(engine_rig_write_piece(rig, 0x66, ENGINE_RIG_PIECE), 0);
	assert_int_equal(engine_rig_read_piece(rig, 0x66, ENGINE_RIG_PIECE), 0);
	return end(rig);
}

static void a_log_that_only_a_failed_disk_has(void **state)
{
	uint64_t resorts = reached_count("recover.last-resort");

	(void)state;
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, 3, 2);
	engine_rig_call(&rig_memory, write_and_fail);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	engine_rig_call(&rig_memory, open_without_the_other);
	engine_rig_done(&rig_memory);
	assert_true(reached_count("recover.last-resort") > resorts);
}

static int open_with_a_damaged_one(struct engine_rig *rig)
{
	assert_true(flip_all(rig, 0) > 0);
	assert_int_equal(engine_rig_open_again(rig), 0);
	assert_int_equal(engine_rig_read_piece(rig, 0x77, 0), 0);
	return end(rig);
}

static void a_log_that_is_right_on_a_failed_disk(void **state)
{
	(void)state;
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, 3, 2);
	engine_rig_call(&rig_memory, write_and_fail);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	engine_rig_call(&rig_memory, open_with_a_damaged_one);
	engine_rig_done(&rig_memory);
}

/* What the failed disk has cannot be written to the other: only one of both can be called stale. */
static int open_where_nothing_can_be_written(struct engine_rig *rig)
{
	struct sim_faults faults = {.write_error_ppm = 1000000};
	int r;

	assert_true(flip_all(rig, 0) > 0);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(0), &faults);
	r = engine_rig_open_again(rig);
	faults = (struct sim_faults){0};
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(0), &faults);
	if (r == 0)
		open_again(rig);
	else
		assert_int_equal(engine_rig_open_again(rig), 0);
	assert_int_equal(engine_rig_read_piece(rig, 0x77, 0), 0);
	return end(rig);
}

static void what_cannot_be_made_equal(void **state)
{
	uint64_t equal = reached_count("recover.make-equal");

	(void)state;
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, 3, 2);
	engine_rig_call(&rig_memory, write_and_fail);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	engine_rig_call(&rig_memory, open_where_nothing_can_be_written);
	engine_rig_done(&rig_memory);
	assert_true(reached_count("recover.make-equal") > equal);
}

/* What a copy missed that its disk failed for stays missing: no read gives the older. */
static int stale_copy(struct engine_rig *rig)
{
	_cleanup_free_ char *piece = aligned_alloc(4096, ENGINE_RIG_PIECE);

	assert_non_null(piece);
	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	for (uint64_t at = 0; at < DISK_BYTES; at += ENGINE_RIG_PIECE)
		assert_int_equal(engine_rig_write_piece(rig, 0x77, at), 0);
	open_again(rig);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), true);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(2), true);
	for (uint64_t at = 0; at < DISK_BYTES; at += ENGINE_RIG_PIECE)
		assert_true(block_io(rig->volume, BLOCK_READ, 0, piece, ENGINE_RIG_PIECE, at) < 0);
	return end(rig);
}

static void what_a_failed_disk_missed(void **state)
{
	(void)state;
	run(3, 2, stale_copy);
}

/* It hangs, and no other can serve: an error within the time that a disk may take. */
static int hanging(struct engine_rig *rig)
{
	uint64_t begun_ns, took_ns;

	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	open_again(rig);
	verify(rig);
	assert_true(flip_all(rig, 0) > 0);
	assert_int_equal(engine_rig_read_piece(rig, BYTE, 2 * ENGINE_RIG_PIECE),
			 0); /* opens its file there */
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), true);
	begun_ns = reactor_now_ns(reactor_current());
	assert_int_equal(engine_rig_read_piece(rig, BYTE, ENGINE_RIG_PIECE), -EIO);
	took_ns = reactor_now_ns(reactor_current()) - begun_ns;
	assert_true(took_ns >= POOL_DISK_TIMEOUT_NS && took_ns < 2 * POOL_DISK_TIMEOUT_NS);
	assert_int_equal(pool_disk_state(rig->pool, engine_rig_disk_id(rig, 1)), POOL_DISK_FAILED);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), false);
	fiber_sleep(POOL_DISK_TIMEOUT_NS);
	assert_int_equal(engine_rig_read_piece(rig, BYTE, ENGINE_RIG_PIECE), 0);
	return end(rig);
}

static void a_failed_disk_that_hangs(void **state)
{
	(void)state;
	run(3, 2, hanging);
}

/* The same where it has the only copy, which was read in the guest's memory before. */
static int hanging_alone(struct engine_rig *rig)
{
	make(rig, 2);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	verify(rig);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), true);
	assert_int_equal(engine_rig_read_piece(rig, BYTE, 0), -EIO);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), false);
	fiber_sleep(POOL_DISK_TIMEOUT_NS);
	verify(rig);
	return end(rig);
}

static void the_only_copy_hangs(void **state)
{
	(void)state;
	run(2, 1, hanging_alone);
}

/* Reads of a guest, each of a piece, at the same time. */
struct reader {
	struct fiber_task task;
	struct engine_rig *rig;
	uint8_t *piece;
	uint64_t at, ended_ns;
	int result;
};

static struct reader readers[DISK_BYTES / ENGINE_RIG_PIECE];

static void reader_run(struct fiber_task *task)
{
	struct reader *reader = CONTAINER_OF(task, struct reader, task);

	reader->result = block_io(reader->rig->volume, BLOCK_READ, 0, reader->piece,
				  ENGINE_RIG_PIECE, reader->at);
	reader->ended_ns = reactor_now_ns(reactor_current());
}

static void begin_readers(struct engine_rig *rig)
{
	for (unsigned i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i] = (struct reader){.rig = rig, .at = i * ENGINE_RIG_PIECE};
		readers[i].task.run = reader_run;
		readers[i].piece = aligned_alloc(4096, ENGINE_RIG_PIECE);
		assert_non_null(readers[i].piece);
		memset(readers[i].piece, 1, ENGINE_RIG_PIECE);
		fiber_spawn(reactor_current(), FIBER_CONTROL, &readers[i].task);
	}
}

static unsigned readers_ended(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(readers); i++)
		count += readers[i].ended_ns != 0;
	return count;
}

/* Their memory is theirs from then on: it is given another byte. */
static void expect_readers(int result)
{
	for (unsigned i = 0; i < ARRAY_SIZE(readers); i++) {
		assert_true(readers[i].ended_ns != 0);
		assert_int_equal(readers[i].result, result);
		for (size_t at = 0; result == 0 && at < ENGINE_RIG_PIECE; at++)
			assert_int_equal(readers[i].piece[at], BYTE);
		memset(readers[i].piece, 2, ENGINE_RIG_PIECE);
	}
}

/* Whatever ended late left it alone. */
static void end_readers(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(readers); i++) {
		for (size_t at = 0; at < ENGINE_RIG_PIECE; at++)
			assert_int_equal(readers[i].piece[at], 2);
		free(readers[i].piece);
	}
}

static unsigned data_fibers(void)
{
	struct reactor_stats stats;

	reactor_get_stats(reactor_current(), &stats);
	return stats.fibers_in_use[FIBER_DATA] + stats.fibers_queued[FIBER_DATA];
}

static void hang(struct engine_rig *rig, unsigned number, bool hangs)
{
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(number), hangs);
}

/* The last copy on a disk in order hangs: what is on one that failed is read instead. */
static int last_one_hangs(struct engine_rig *rig)
{
	uint64_t begun_ns;

	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	open_again(rig);
	verify(rig);
	hang(rig, 0, true);
	begun_ns = reactor_now_ns(reactor_current());
	begin_readers(rig);
	fiber_sleep(POOL_DISK_TIMEOUT_NS - 100 * NSEC_PER_MSEC);
	assert_int_equal(readers_ended(), 0);
	fiber_sleep(NSEC_PER_SEC);
	expect_readers(0);
	verify(rig); /* at once from now on */
	assert_true(reactor_now_ns(reactor_current()) - begun_ns <
		    POOL_DISK_TIMEOUT_NS + 2 * NSEC_PER_SEC);
	assert_int_equal(pool_disk_state(rig->pool, engine_rig_disk_id(rig, 1)), POOL_DISK_FAILED);
	hang(rig, 0, false);
	fiber_sleep(10 * NSEC_PER_SEC);
	end_readers();
	assert_int_equal(redundancy(rig).lost, 0);
	verify(rig);
	return end(rig);
}

static void the_last_copy_in_order_hangs(void **state)
{
	(void)state;
	run(3, 2, last_one_hangs);
}

/* The failed one does not have it right: the guest waits after all, and holds no fiber. */
static int waits_after_all(struct engine_rig *rig)
{
	_cleanup_free_ uint8_t *piece = aligned_alloc(4096, ENGINE_RIG_PIECE);
	struct reader after = {.rig = rig, .piece = piece};
	uint64_t waits = reached_count("egroup.waits-after-all");

	assert_non_null(piece);
	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	open_again(rig);
	verify(rig);
	assert_true(flip_all(rig, 1) > 0);
	hang(rig, 0, true);
	begin_readers(rig);
	fiber_sleep(60 * NSEC_PER_SEC + 1);
	/* A piece whose blocks the failed one has right may have been read. */
	assert_true(readers_ended() < ARRAY_SIZE(readers));
	assert_true(reached_count("egroup.waits-after-all") > waits);
	assert_int_equal(data_fibers(), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(readers); i++)
		after.at = readers[i].ended_ns ? after.at : readers[i].at;
	after.task.run = reader_run; /* it begins with the failed one */
	fiber_spawn(reactor_current(), FIBER_CONTROL, &after.task);
	fiber_sleep(20 * NSEC_PER_SEC);
	assert_true(after.ended_ns == 0);
	hang(rig, 0, false);
	fiber_sleep(NSEC_PER_SEC);
	expect_readers(0);
	assert_true(after.ended_ns != 0 && after.result == 0);
	fiber_sleep(10 * NSEC_PER_SEC);
	end_readers();
	return end(rig);
}

static void the_failed_one_is_wrong(void **state)
{
	(void)state;
	run(3, 2, waits_after_all);
}

/* ... until it comes to its senses. */
static int wrong_for_a_while(struct engine_rig *rig)
{
	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	open_again(rig);
	verify(rig);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1),
			    &(struct sim_faults){.read_error_ppm = 1000000});
	hang(rig, 0, true);
	begin_readers(rig);
	fiber_sleep(60 * NSEC_PER_SEC + 1);
	assert_int_equal(readers_ended(), 0);
	assert_int_equal(data_fibers(), 0);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &(struct sim_faults){0});
	fiber_sleep(NSEC_PER_SEC);
	expect_readers(0);
	hang(rig, 0, false);
	fiber_sleep(10 * NSEC_PER_SEC);
	end_readers();
	return end(rig);
}

static void the_failed_one_errs_for_a_while(void **state)
{
	(void)state;
	run(3, 2, wrong_for_a_while);
}

/* The same where it hangs as well. */
static int both_hang(struct engine_rig *rig)
{
	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	open_again(rig);
	verify(rig);
	hang(rig, 0, true);
	hang(rig, 1, true);
	begin_readers(rig);
	fiber_sleep(60 * NSEC_PER_SEC + 1);
	assert_int_equal(readers_ended(), 0);
	assert_int_equal(data_fibers(), 0);
	hang(rig, 1, false);
	fiber_sleep(NSEC_PER_SEC);
	expect_readers(0);
	hang(rig, 0, false);
	fiber_sleep(10 * NSEC_PER_SEC);
	end_readers();
	return end(rig);
}

static void the_failed_one_hangs_as_well(void **state)
{
	(void)state;
	run(3, 2, both_hang);
}

/* ... or until the operator gives up the one that hangs, too. */
static int both_given_up(struct engine_rig *rig)
{
	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	open_again(rig);
	verify(rig);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1),
			    &(struct sim_faults){.read_error_ppm = 1000000});
	hang(rig, 0, true);
	begin_readers(rig);
	fiber_sleep(20 * NSEC_PER_SEC);
	assert_int_equal(readers_ended(), 0);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 0)), 0);
	fiber_sleep(NSEC_PER_SEC);
	expect_readers(-EIO);
	assert_int_equal(data_fibers(), 0);
	hang(rig, 0, false);
	fiber_sleep(10 * NSEC_PER_SEC);
	end_readers();
	verify(rig);
	return end(rig);
}

static void the_one_that_hangs_is_given_up(void **state)
{
	(void)state;
	run(3, 2, both_given_up);
}

/* Reads under way on a disk when it is declared failed go on elsewhere. */
static int moved(struct engine_rig *rig)
{
	make(rig, 3);
	verify(rig);
	hang(rig, 1, true);
	begin_readers(rig);
	fiber_sleep(100 * NSEC_PER_MSEC);
	assert_true(readers_ended() < ARRAY_SIZE(readers));
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	fiber_sleep(POOL_DISK_TIMEOUT_NS / 4);
	expect_readers(0);
	hang(rig, 1, false);
	fiber_sleep(10 * NSEC_PER_SEC);
	end_readers();
	verify(rig);
	return end(rig);
}

static void reads_under_way_are_moved(void **state)
{
	(void)state;
	run(3, 2, moved);
}

/* The only copy: those that began when it was silent already end, for they are not in the guest's
 * memory; the others stay with the kernel, which would write there. */
static int only_copy_given_up(struct engine_rig *rig)
{
	_cleanup_free_ uint8_t *first = aligned_alloc(4096, ENGINE_RIG_PIECE);
	struct reader before = {.rig = rig, .piece = first};

	assert_non_null(first);
	make(rig, 2);
	verify(rig);
	hang(rig, 1, true);
	before.task.run = reader_run;
	fiber_spawn(reactor_current(), FIBER_CONTROL, &before.task);
	fiber_sleep(POOL_DISK_TIMEOUT_NS + NSEC_PER_SEC);
	begin_readers(rig);
	fiber_sleep(20 * NSEC_PER_SEC);
	assert_int_equal(readers_ended(), 0);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	fiber_sleep(NSEC_PER_SEC);
	expect_readers(-EIO);
	assert_true(before.ended_ns == 0);
	hang(rig, 1, false);
	fiber_sleep(NSEC_PER_SEC);
	assert_true(before.ended_ns != 0 && before.result == 0);
	fiber_sleep(10 * NSEC_PER_SEC);
	end_readers();
	verify(rig);
	return end(rig);
}

static void the_only_copy_is_given_up(void **state)
{
	(void)state;
	run(2, 1, only_copy_given_up);
}

/* A disk in its place that is not this one is not read. */
static int swapped(struct engine_rig *rig)
{
	char from[200], to[200];

	make(rig, 3);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	open_again(rig);
	assert_true(flip_all(rig, 0) > 0);
	snprintf(from, sizeof(from), "%s/label", engine_rig_directory(1, 0));
	snprintf(to, sizeof(to), "%s/label.away", engine_rig_directory(1, 0));
	assert_int_equal(io_rename(from, to), 0);
	assert_int_equal(engine_rig_read_piece(rig, BYTE, ENGINE_RIG_PIECE), -EIO);
	assert_int_equal(io_rename(to, from), 0);
	verify(rig);
	return end(rig);
}

static void another_in_its_place(void **state)
{
	(void)state;
	run(2, 2, swapped);
}

/* Scrub reads it where it must, and its state stays what it is, whatever it does. */
static int scrubbed(struct engine_rig *rig)
{
	struct vdisk_scrub scrub = {0}, again = {0}, third = {0};
	struct pool_disk_info info;
	uint64_t id;

	make(rig, 3);
	verify(rig); /* opens what it has */
	id = engine_rig_disk_id(rig, 1);
	assert_int_equal(pool_disk_fail(rig->pool, id), 0);
	assert_int_equal(vdisk_scrub(rig->vdisk, &scrub), 0);
	assert_int_equal(pool_disk_get(rig->pool, id, &info), 0);
	assert_int_equal(scrub.put_right + scrub.damaged + scrub.pending + scrub.left, 0);
	assert_true(scrub.bytes > DISK_BYTES && scrub.bytes < 2 * DISK_BYTES);
	open_again(rig);
	assert_true(flip_all(rig, 0) > 0);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1),
			    &(struct sim_faults){.read_error_ppm = 1000000});
	assert_int_equal(vdisk_scrub(rig->vdisk, &again), 0);
	assert_true(again.pending > 0);
	assert_int_equal(again.put_right + again.damaged, 0);
	assert_int_equal(pool_disk_state(rig->pool, id), POOL_DISK_FAILED);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &(struct sim_faults){0});
	assert_int_equal(vdisk_scrub(rig->vdisk, &third), 0);
	assert_true(third.put_right > 0);
	assert_int_equal(third.damaged + third.pending + third.left, 0);
	assert_int_equal(pool_disk_state(rig->pool, id), POOL_DISK_FAILED);
	return end(rig);
}

static void scrub_asks_it_last(void **state)
{
	(void)state;
	run(2, 2, scrubbed);
}

static void fail_both(struct engine_rig *rig)
{
	make(rig, 3);
	assert_int_equal(redundancy(rig).resort, 0);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	assert_int_equal(redundancy(rig).resort, 0);
	assert_int_equal(vdisk_get_resort(rig->vdisk, engine_rig_disk_id(rig, 1)), 0);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), true);
	open_again(rig);
	assert_true(redundancy(rig).resort > DISK_BYTES);
	assert_int_equal(redundancy(rig).resort, redundancy(rig).lost);
	assert_true(redundancy(rig).resort_groups > 0);
	assert_int_equal(vdisk_get_resort(rig->vdisk, engine_rig_disk_id(rig, 1)),
			 redundancy(rig).resort_groups);
	assert_int_equal(vdisk_get_resort(rig->vdisk, engine_rig_disk_id(rig, 2)), 0);
}

/* Copies are made from it, and then it can go. */
static int repaired(struct engine_rig *rig)
{
	struct vdisk_repair first = {.urgent = VDISK_REPAIR_RESORT}, rest = {0};
	uint64_t failed;

	fail_both(rig);
	failed = engine_rig_disk_id(rig, 1);
	assert_int_equal(pool_disk_remove(rig->pool, failed), -EBUSY);
	/* A pass leaves out the file that compaction reads just then. */
	for (unsigned pass = 0; pass < 5 && redundancy(rig).resort > 0; pass++) {
		assert_int_equal(vdisk_repair(rig->vdisk, &first), 0);
		fiber_sleep(NSEC_PER_SEC);
	}
	assert_true(first.copied_bytes > DISK_BYTES);
	assert_int_equal(first.damaged_blocks, 0);
	assert_int_equal(redundancy(rig).resort + redundancy(rig).lost, 0);
	verify(rig);
	assert_int_equal(pool_disk_state(rig->pool, failed), POOL_DISK_FAILED);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), false);
	fiber_sleep(120 * NSEC_PER_SEC); /* it is found, and not suspect */
	assert_int_equal(vdisk_repair(rig->vdisk, &rest), 0);
	assert_int_equal(redundancy(rig).to_copy + redundancy(rig).degraded, 0);
	assert_int_equal(pool_disk_remove(rig->pool, failed), 0);
	verify(rig);
	return end(rig);
}

static void repair_copies_from_it(void **state)
{
	(void)state;
	run(4, 2, repaired);
}

/* With a file that has one copy left beside those that have none: they come first. */
static int repaired_first(struct engine_rig *rig)
{
	struct vdisk_repair first = {.urgent = VDISK_REPAIR_RESORT}, single = {.urgent = true};
	uint64_t only;

	fail_both(rig);
	for (uint64_t at = 0; at < DISK_BYTES / 2; at += ENGINE_RIG_PIECE)
		assert_int_equal(engine_rig_write_piece(rig, BYTE, at), 0);
	open_again(rig);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 2)), 0);
	assert_true(redundancy(rig).degraded > 0);
	only = redundancy(rig).resort;
	assert_true(only > 0 && redundancy(rig).single > 0);
	for (unsigned i = 0; i < 5 && redundancy(rig).resort > 0; i++) {
		/* What is being compacted is there for the next pass. */
		assert_int_equal(vdisk_repair(rig->vdisk, &first), 0);
		assert_true(first.copied_bytes <= 2 * only);
		fiber_sleep(NSEC_PER_SEC);
	}
	assert_int_equal(redundancy(rig).resort, 0);
	assert_true(redundancy(rig).to_copy > 0);
	for (unsigned i = 0; i < 5 && redundancy(rig).to_copy > 0; i++) {
		assert_int_equal(vdisk_repair(rig->vdisk, &single), 0);
		fiber_sleep(NSEC_PER_SEC);
	}
	assert_int_equal(redundancy(rig).to_copy, 0);
	verify(rig);
	return end(rig);
}

static void repair_takes_those_first(void **state)
{
	(void)state;
	run(5, 2, repaired_first);
}

/* It can be opened, and gives nothing: that is no copy, and nothing is lost by trying. */
static int nothing_to_repair_from(struct engine_rig *rig)
{
	struct vdisk_repair none = {0}, then = {0};

	fail_both(rig);
	verify(rig);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1),
			    &(struct sim_faults){.read_error_ppm = 1000000});
	assert_int_equal(vdisk_repair(rig->vdisk, &none), -EIO);
	assert_true(none.copied_bytes > 0);               /* it had been begun */
	assert_true(redundancy(rig).resort > DISK_BYTES); /* what was empty is whole */
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &(struct sim_faults){0});
	fiber_sleep(120 * NSEC_PER_SEC); /* files are no more left alone */
	assert_int_equal(vdisk_repair(rig->vdisk, &then), 0);
	assert_int_equal(redundancy(rig).resort, 0);
	verify(rig);
	return end(rig);
}

static void nothing_is_no_copy(void **state)
{
	(void)state;
	run(4, 2, nothing_to_repair_from);
}

/* What was begun on two disks does not go on there when one has failed, and the other takes no new
 * files either. */
static int written_no_more(struct engine_rig *rig)
{
	struct egroup *group;

	make(rig, 3);
	assert_int_equal(engine_rig_write_piece(rig, 0x77, 0), 0);
	group = rig->vdisk->log.current->group;
	assert_int_equal(group->file->copies.count, 2);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), true), 0);
	for (unsigned i = 0; i < 3; i++) /* suspect */
		pool_disk_report_mismatch(rig->pool, engine_rig_disk_id(rig, 0));
	fiber_sleep(NSEC_PER_SEC);
	assert_int_equal(pool_disk_state(rig->pool, engine_rig_disk_id(rig, 0)), POOL_DISK_SUSPECT);
	assert_int_equal(engine_rig_write_piece(rig, 0x66, 0), 0);
	assert_ptr_not_equal(rig->vdisk->log.current->group, group);
	assert_int_equal(engine_rig_read_piece(rig, 0x66, 0), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), false), 0);
	assert_int_equal(restore(rig, 1), 0);
	return end(rig);
}

static void nothing_is_written_there(void **state)
{
	(void)state;
	run(3, 2, written_no_more);
}

/* Taken back, it takes part again. */
static int taken_back(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};

	fail_both(rig);
	verify(rig);
	assert_int_equal(restore(rig, 1), 0);
	assert_int_equal(redundancy(rig).resort + redundancy(rig).lost, 0);
	verify(rig);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), false);
	fiber_sleep(120 * NSEC_PER_SEC);
	verify(rig);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0); /* what was written without 0 */
	assert_int_equal(redundancy(rig).degraded, 0);
	return end(rig);
}

static void it_is_taken_back(void **state)
{
	(void)state;
	run(3, 2, taken_back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_damaged_elsewhere),
		cmocka_unit_test(what_is_lost_elsewhere),
		cmocka_unit_test(a_log_that_only_a_failed_disk_has),
		cmocka_unit_test(a_log_that_is_right_on_a_failed_disk),
		cmocka_unit_test(what_cannot_be_made_equal),
		cmocka_unit_test(what_a_failed_disk_missed),
		cmocka_unit_test(a_failed_disk_that_hangs),
		cmocka_unit_test(the_only_copy_hangs),
		cmocka_unit_test(the_last_copy_in_order_hangs),
		cmocka_unit_test(the_failed_one_is_wrong),
		cmocka_unit_test(the_failed_one_errs_for_a_while),
		cmocka_unit_test(the_failed_one_hangs_as_well),
		cmocka_unit_test(the_one_that_hangs_is_given_up),
		cmocka_unit_test(reads_under_way_are_moved),
		cmocka_unit_test(the_only_copy_is_given_up),
		cmocka_unit_test(another_in_its_place),
		cmocka_unit_test(scrub_asks_it_last),
		cmocka_unit_test(repair_copies_from_it),
		cmocka_unit_test(repair_takes_those_first),
		cmocka_unit_test(nothing_is_no_copy),
		cmocka_unit_test(nothing_is_written_there),
		cmocka_unit_test(it_is_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
