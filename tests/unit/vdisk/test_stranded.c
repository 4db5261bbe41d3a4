/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool none of whose disks can be written opens where one that has failed can be read: its vDisks
 * are read, nothing is written anywhere, no copy is called stale, and when there is a disk again
 * they take writes by themselves.
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
#include "codec/crc32c.h"
#include "egroup/cursor.h"
#include "engine_rig.h"
#include "pool/pool_priv.h"
#include "reactor/io.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES (512 * MIB)
#define DISK_BYTES (4 * MIB)
#define OLD        0x5a
#define NEW        0x77
#define SETTLE_NS  (3 * NSEC_PER_SEC)

static struct engine_rig rig_memory;

/* The first piece is new, the others are old. */
static void verify(struct engine_rig *rig)
{
	for (uint64_t at = 0; at < DISK_BYTES; at += ENGINE_RIG_PIECE)
		assert_int_equal(engine_rig_read_piece(rig, at == 0 ? NEW : OLD, at), 0);
}

static int give_up(struct engine_rig *rig, unsigned number)
{
	return pool_disk_declare_failed(pool_disk_by_id(rig->pool, engine_rig_disk_id(rig, number)),
					0);
}

static void set_away(struct engine_rig *rig, unsigned number, bool away)
{
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(number), away);
}

/* Old data are sealed, the new are in the log; both on disks 0 and 1, of three. */
static int make(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), true), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (uint64_t at = 0; at < DISK_BYTES; at += ENGINE_RIG_PIECE)
		assert_int_equal(engine_rig_write_piece(rig, OLD, at), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(engine_rig_write_piece(rig, NEW, 0), 0);
	return 0;
}

static int make_and_fail_all(struct engine_rig *rig)
{
	make(rig);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(give_up(rig, i), 0);
	return 0;
}

/* Disk 0 has gone, 1 has failed, and 2 takes nothing. */
static int make_and_fail_one(struct engine_rig *rig)
{
	make(rig);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	set_away(rig, 0, true);
	set_away(rig, 2, true);
	return 0;
}

static void begin(int (*fn)(struct engine_rig *rig))
{
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, 3, 2);
	engine_rig_call(&rig_memory, fn);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
}

static void end(void)
{
	engine_rig_done(&rig_memory);
}

static int stop(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

/* What is written */

static uint32_t sum_of_file(const char *path)
{
	_cleanup_free_ char *buffer = aligned_alloc(4096, ENGINE_RIG_PIECE);
	struct world_file *file;
	uint64_t at = 0;
	uint32_t sum = 0;
	int64_t got;

	assert_non_null(buffer);
	if (io_open(path, WORLD_FILE_READ_ONLY, &file) < 0)
		return 0; /* a directory */
	while ((got = io_read(file, buffer, ENGINE_RIG_PIECE, at)) > 0) {
		sum = sum * 31 + crc32c(buffer, (size_t)got);
		at += (uint64_t)got;
	}
	assert_int_equal(io_close(file), 0);
	return sum + (uint32_t)at;
}

/* Of all names and contents below a directory. */
static uint32_t sum_of(const char *directory)
{
	struct world_names names;
	uint32_t sum = 1;

	if (io_directory_list(directory, &names) < 0)
		return 0;
	for (size_t i = 0; i < names.count; i++) {
		char path[400];

		snprintf(path, sizeof(path), "%s/%s", directory, names.names[i]);
		sum = sum * 31 + crc32c(path, strlen(path));
		sum = sum * 31 + sum_of_file(path) + sum_of(path);
	}
	world_names_free(&names);
	return sum;
}

/* Whatever it is given is an error that counts. */
static void refuse_writes(struct engine_rig *rig, unsigned number, bool refuse)
{
	struct sim_faults faults = {0};

	if (refuse)
		faults.write_error_ppm = faults.sync_error_ppm = 1000000;
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(number), &faults);
}

static void nothing_was_tried(struct engine_rig *rig, unsigned number)
{
	struct pool_disk_info info;

	assert_int_equal(pool_disk_get(rig->pool, engine_rig_disk_id(rig, number), &info), 0);
	assert_int_equal(info.state, POOL_DISK_FAILED);
	assert_int_equal(info.health.write_errors + info.health.sync_errors, 0);
}

struct rows { /* of the catalog, of a vDisk */
	uint64_t epoch;
	unsigned files, stale, unsealed;
};

static struct rows rows_of(struct engine_rig *rig)
{
	struct rows rows = {0};
	struct egroup_cursor cursor;
	struct egroup_store *store;
	struct egroup_file *file;
	struct vdisk_info info;

	assert_int_equal(vdisk_get(rig->catalog, rig->vdisk_id, &info), 0);
	assert_int_equal(egroup_store_open(rig->pool, rig->vdisk_id, 2, &store), 0);
	egroup_cursor_init(&cursor, store, 0);
	while ((file = egroup_cursor_step(&cursor))) {
		rows.files++;
		rows.stale += (unsigned)__builtin_popcount(file->copies.stale);
		rows.unsealed += !egroup_file_is_sealed(file);
	}
	egroup_cursor_done(&cursor);
	egroup_store_close(store);
	rows.epoch = info.epoch;
	return rows;
}

static struct rows rows_before;
static uint32_t sums_before[3];

static void remember(struct engine_rig *rig)
{
	rows_before = rows_of(rig);
	for (unsigned i = 0; i < 3; i++)
		sums_before[i] = sum_of(engine_rig_directory(i, 0));
}

static void nothing_has_changed(struct engine_rig *rig)
{
	struct rows rows = rows_of(rig);

	assert_int_equal(rows.epoch, rows_before.epoch);
	assert_int_equal(rows.files, rows_before.files);
	assert_int_equal(rows.stale, rows_before.stale);
	assert_int_equal(rows.unsealed, rows_before.unsealed);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(sum_of(engine_rig_directory(i, 0)), sums_before[i]);
}

static void only_reads(struct engine_rig *rig)
{
	struct vdisk_check_report report;
	struct vdisk_repair repair = {0};
	struct vdisk_scrub scrub = {0};
	bool mapped = true;

	assert_true(pool_is_stranded(rig->pool));
	assert_true(vdisk_is_stranded(rig->vdisk));
	assert_int_equal(vdisk_error(rig->vdisk), -EROFS);
	verify(rig);
	assert_int_equal(engine_rig_write_piece(rig, OLD, 0), -EROFS);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, DISK_BYTES, 0), -EROFS);
	assert_int_equal(block_io(rig->volume, BLOCK_WRITE_ZEROES, 0, NULL, 512, 0), -EROFS);
	/* What was not flushed before the crash is not durable now. */
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), -EROFS);
	assert_int_equal(vdisk_resize(rig->vdisk, 2 * DISK_BYTES), -EROFS);
	assert_int_equal(vdisk_resize(rig->vdisk, DISK_BYTES / 2), -EROFS);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), -EROFS);
	assert_int_equal(vdisk_check(rig->vdisk, mapped, NULL, NULL, &report), -EROFS);
	assert_int_equal(vdisk_scrub(rig->vdisk, &scrub), 0);
	assert_int_equal(scrub.put_right, 0);
	fiber_sleep(20 * NSEC_PER_SEC); /* whatever is done now and then */
	verify(rig);
}

/* All have failed */

static int open_all_failed(struct engine_rig *rig)
{
	struct pool_info info;

	assert_int_equal(engine_rig_start(rig), 0);
	remember(rig);
	assert_int_equal(rows_before.stale, 0);
	assert_true(rows_before.unsealed > 0);
	for (unsigned i = 0; i < 3; i++)
		refuse_writes(rig, i, true);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	pool_get_info(rig->pool, &info);
	assert_string_equal(info.state, "read-only");
	only_reads(rig);
	for (unsigned i = 0; i < 3; i++)
		nothing_was_tried(rig, i);
	stop(rig);
	assert_int_equal(engine_rig_start(rig), 0);
	nothing_has_changed(rig);
	return 0;
}

static int open_again_and_read(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_open_again(rig), 0);
	only_reads(rig);
	return 0;
}

static int restore_one(struct engine_rig *rig)
{
	struct pool_info info;

	for (unsigned i = 0; i < 3; i++)
		refuse_writes(rig, i, false);
	assert_int_equal(engine_rig_open_again(rig), 0);
	only_reads(rig);
	assert_int_equal(pool_disk_restore(rig->pool, engine_rig_disk_id(rig, 0)), 0);
	fiber_sleep(SETTLE_NS);
	assert_false(vdisk_is_stranded(rig->vdisk));
	assert_int_equal(vdisk_error(rig->vdisk), 0);
	pool_get_info(rig->pool, &info);
	assert_string_equal(info.state, "degraded");
	verify(rig);
	assert_int_equal(engine_rig_write_piece(rig, NEW, ENGINE_RIG_PIECE), 0);
	assert_int_equal(engine_rig_write_piece(rig, OLD, ENGINE_RIG_PIECE), 0);
	assert_int_equal(vdisk_resize(rig->vdisk, 2 * DISK_BYTES), 0);
	stop(rig);
	assert_int_equal(engine_rig_open_again(rig), 0);
	verify(rig);
	for (unsigned i = 1; i < 3; i++) {
		nothing_was_tried(rig, i);
		assert_int_equal(sum_of(engine_rig_directory(i, 0)), sums_before[i]);
	}
	return stop(rig);
}

static void every_disk_has_failed(void **state)
{
	(void)state;
	begin(make_and_fail_all);
	engine_rig_call(&rig_memory, open_all_failed);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	engine_rig_call(&rig_memory, open_again_and_read);
	engine_rig_crash(&rig_memory, SIM_CRASH_PROCESS);
	engine_rig_call(&rig_memory, restore_one);
	end();
}

/* After a clean stop there is nothing to flush. */
static int make_closed(struct engine_rig *rig)
{
	make(rig);
	stop(rig);
	assert_int_equal(engine_rig_start(rig), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(give_up(rig, i), 0);
	return 0;
}

static int flush_nothing(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_open_again(rig), 0);
	assert_true(vdisk_is_stranded(rig->vdisk));
	verify(rig);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(engine_rig_write_piece(rig, OLD, 0), -EROFS);
	return stop(rig);
}

static void there_is_nothing_to_flush(void **state)
{
	(void)state;
	begin(make_closed);
	engine_rig_call(&rig_memory, flush_nothing);
	end();
}

/* One has failed, the others are away */

/* The disk that comes back is the better one: it was not called stale meanwhile. */
static int comes_back(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_start(rig), 0);
	remember(rig);
	refuse_writes(rig, 1, true);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	only_reads(rig);
	nothing_was_tried(rig, 1);
	nothing_has_changed(rig);
	set_away(rig, 0, false);
	fiber_sleep(POOL_DISK_SEARCH_NS + SETTLE_NS);
	assert_false(vdisk_is_stranded(rig->vdisk));
	nothing_was_tried(rig, 1);
	set_away(rig, 1, true);
	assert_int_equal(engine_rig_write_piece(rig, NEW, ENGINE_RIG_PIECE), 0);
	assert_int_equal(engine_rig_write_piece(rig, OLD, ENGINE_RIG_PIECE), 0);
	stop(rig);
	assert_int_equal(engine_rig_open_again(rig), 0);
	verify(rig);
	return stop(rig);
}

static void a_missing_disk_comes_back(void **state)
{
	uint64_t settled = reached_count("stranded.settled");

	(void)state;
	begin(make_and_fail_one);
	engine_rig_call(&rig_memory, comes_back);
	assert_int_equal(reached_count("stranded.settled"), settled + 1);
	end();
}

static int is_added(struct engine_rig *rig)
{
	const struct pool_disk_spec spec = {.directory = "/extra/pool",
					    .capacity_bytes = POOL_BYTES};
	struct vdisk_repair repair = {.urgent = VDISK_REPAIR_RESORT};
	struct vdisk_redundancy sum;
	uint64_t id, failed;

	assert_int_equal(engine_rig_start(rig), 0);
	remember(rig);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	only_reads(rig);
	failed = engine_rig_disk_id(rig, 1);
	assert_int_equal(pool_disk_add(rig->pool, &spec, &id), 0);
	/* Who wants to write does not wait for the next look. */
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_false(vdisk_is_stranded(rig->vdisk));
	vdisk_get_redundancy(rig->vdisk, &sum);
	assert_int_equal(sum.resort + sum.lost, 0);
	assert_int_equal(engine_rig_write_piece(rig, NEW, ENGINE_RIG_PIECE), 0);
	assert_int_equal(engine_rig_write_piece(rig, OLD, ENGINE_RIG_PIECE), 0);
	verify(rig);
	stop(rig);
	assert_int_equal(sum_of(engine_rig_directory(1, 0)), sums_before[1]);
	set_away(rig, 1, true);
	assert_int_equal(engine_rig_open_again(rig), 0);
	assert_int_equal(pool_disk_state(rig->pool, failed), POOL_DISK_FAILED);
	verify(rig);
	return stop(rig);
}

static void another_disk_is_added(void **state)
{
	(void)state;
	begin(make_and_fail_one);
	assert_int_equal(sim_disk_add(rig_memory.sim.sim, "/extra", POOL_BYTES + GIB), 0);
	engine_rig_call(&rig_memory, is_added);
	end();
}

static int label_is_away(struct engine_rig *rig)
{
	char from[200], to[200];

	snprintf(from, sizeof(from), "%s/label", engine_rig_directory(1, 0));
	snprintf(to, sizeof(to), "%s/label.away", engine_rig_directory(1, 0));
	assert_int_equal(io_rename(from, to), 0);
	assert_int_equal(engine_rig_start(rig), -ENODEV);
	assert_int_equal(io_rename(to, from), 0);
	for (unsigned at = 0; at < 4096; at += 64) /* damaged it proves nothing */
		(void)sim_disk_flip(rig->sim.sim, from, at, 3);
	set_away(rig, 1, true);
	assert_int_equal(engine_rig_start(rig), -ENODEV);
	set_away(rig, 1, false);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(0), true); /* what is missing hangs, too */
	assert_int_equal(engine_rig_open_again(rig), 0);
	only_reads(rig);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(0), false);
	return stop(rig);
}

static void another_in_its_place(void **state)
{
	(void)state;
	begin(make_and_fail_one);
	engine_rig_call(&rig_memory, label_is_away);
	end();
}

/* Stale copies */

/* The newer is on disks that have gone: the older is not taken for it. */
static int make_stale(struct engine_rig *rig)
{
	make(rig);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), false), 0);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	assert_int_equal(engine_rig_write_piece(rig, 0x11, ENGINE_RIG_PIECE), 0);
	set_away(rig, 0, true);
	set_away(rig, 2, true);
	return 0;
}

static int open_stale(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_start(rig), 0);
	remember(rig);
	assert_true(pool_is_stranded(rig->pool));
	assert_int_equal(engine_rig_open_vdisk(rig), -EIO);
	nothing_has_changed(rig);
	set_away(rig, 0, false);
	fiber_sleep(2 * POOL_DISK_SEARCH_NS);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(engine_rig_read_piece(rig, 0x11, ENGINE_RIG_PIECE), 0);
	assert_int_equal(engine_rig_read_piece(rig, NEW, 0), 0);
	return stop(rig);
}

static void the_newer_is_away(void **state)
{
	(void)state;
	begin(make_stale);
	engine_rig_call(&rig_memory, open_stale);
	end();
}

/* A recovery without it has called it stale, and went on elsewhere. */
static int recover_without(struct engine_rig *rig)
{
	set_away(rig, 0, false);
	assert_int_equal(engine_rig_open_again(rig), 0);
	assert_true(rows_of(rig).stale > 0);
	verify(rig);
	set_away(rig, 0, true);
	return 0;
}

static int open_called_stale(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_start(rig), 0);
	remember(rig);
	assert_int_equal(engine_rig_open_vdisk(rig), -EIO);
	nothing_has_changed(rig);
	engine_rig_stop(rig);
	return 0;
}

static void it_was_called_stale(void **state)
{
	(void)state;
	begin(make_and_fail_one);
	engine_rig_call(&rig_memory, recover_without);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	engine_rig_call(&rig_memory, open_called_stale);
	end();
}

/* What comes back has less of the log than was shown. */
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
			for (uint64_t at = 99; at < 2 * DISK_BYTES; at += 64 * KIB)
				flips += sim_disk_flip(rig->sim.sim, path, at, 3) == 0;
		}
		world_names_free(&names);
	}
	return flips;
}

static int less_comes_back(struct engine_rig *rig)
{
	uint64_t shorter = reached_count("recover.shorter");

	assert_int_equal(engine_rig_open_again(rig), 0);
	only_reads(rig);
	set_away(rig, 0, false);
	assert_true(flip_all(rig, 0) > 0);
	set_away(rig, 1, true);
	fiber_sleep(POOL_DISK_SEARCH_NS + SETTLE_NS);
	assert_false(pool_is_stranded(rig->pool));
	assert_true(vdisk_is_stranded(rig->vdisk));
	assert_true(reached_count("recover.shorter") > shorter);
	assert_int_equal(engine_rig_write_piece(rig, OLD, 0), -EROFS);
	set_away(rig, 1, false);
	fiber_sleep(SETTLE_NS);
	assert_false(vdisk_is_stranded(rig->vdisk));
	verify(rig);
	return stop(rig);
}

static void less_of_the_log_comes_back(void **state)
{
	(void)state;
	begin(make_and_fail_one);
	engine_rig_call(&rig_memory, less_comes_back);
	end();
}

/* Guests and crashes meanwhile */

#define GUESTS 2

struct guest {
	struct fiber_task task;
	struct engine_rig *rig;
	uint64_t reads;
	bool stop, stopped;
};

static void guest_run(struct fiber_task *task)
{
	struct guest *guest = CONTAINER_OF(task, struct guest, task);

	while (!guest->stop) {
		assert_int_equal(engine_rig_read_piece(guest->rig, guest->reads % 2 ? OLD : NEW,
						       guest->reads % 2 ? ENGINE_RIG_PIECE : 0),
				 0);
		guest->reads++;
	}
	guest->stopped = true;
}

static int read_on(struct engine_rig *rig)
{
	static struct guest guests[GUESTS];

	assert_int_equal(engine_rig_open_again(rig), 0);
	assert_int_equal(pool_disk_restore(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	fiber_sleep(VDISK_TICK_NS * 95 / 100);
	assert_true(vdisk_is_stranded(rig->vdisk));
	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){.task.run = guest_run, .rig = rig};
		fiber_spawn(rig->pool->home, FIBER_DATA, &guests[i].task);
	}
	while (vdisk_is_stranded(rig->vdisk))
		fiber_sleep(NSEC_PER_MSEC);
	for (unsigned i = 0; i < GUESTS; i++) {
		uint64_t reads = guests[i].reads;

		while (guests[i].reads == reads)
			fiber_sleep(NSEC_PER_MSEC);
		guests[i].stop = true;
		while (!guests[i].stopped)
			fiber_sleep(NSEC_PER_MSEC);
	}
	return stop(rig);
}

static void guests_read_on(void **state)
{
	uint64_t held = reached_count("stranded.held");

	(void)state;
	begin(make_and_fail_one);
	engine_rig_call(&rig_memory, read_on);
	assert_true(reached_count("stranded.held") > held);
	end();
}

#define CRASHES 40

static uint64_t crash_after_ns;
static unsigned settled_in_time;

static int settle_until(struct engine_rig *rig)
{
	if (!rig->vdisk)
		assert_int_equal(engine_rig_open_again(rig), 0);
	verify(rig);
	assert_int_equal(pool_disk_restore(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	while (!rig->vdisk->settling)
		fiber_sleep(10 * NSEC_PER_USEC);
	fiber_sleep(crash_after_ns);
	settled_in_time += !vdisk_is_stranded(rig->vdisk);
	return 0;
}

static int open_after_crash(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_open_again(rig), 0);
	assert_false(vdisk_is_stranded(rig->vdisk));
	verify(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0); /* the log begins anew */
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(engine_rig_write_piece(rig, NEW, 0), 0);
	assert_int_equal(give_up(rig, 1), 0);
	return 0;
}

/* At any point of it; then it is stranded again, or was settled. */
static void crashes_while_it_settles(void **state)
{
	(void)state;
	begin(make_and_fail_one);
	for (unsigned i = 0; i < CRASHES; i++) {
		crash_after_ns = i * 200 * NSEC_PER_USEC;
		engine_rig_call(&rig_memory, settle_until);
		engine_rig_crash(&rig_memory, i % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
		engine_rig_call(&rig_memory, open_after_crash);
		engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	}
	assert_true(settled_in_time > 0 && settled_in_time < CRASHES);
	end();
}

/* What fails in the middle is tried again. */
static int fail_in_the_middle(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_open_again(rig), 0);
	only_reads(rig);
	refuse_writes(rig, 1, true);
	assert_int_equal(pool_disk_restore(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	fiber_sleep(SETTLE_NS);
	assert_true(vdisk_is_stranded(rig->vdisk)); /* its sync fails */
	assert_int_equal(engine_rig_write_piece(rig, OLD, 0), -EROFS);
	verify(rig);
	refuse_writes(rig, 1, false);
	set_away(rig, 0, false);
	fiber_sleep(2 * POOL_DISK_SEARCH_NS);
	assert_false(vdisk_is_stranded(rig->vdisk));
	verify(rig);
	assert_int_equal(engine_rig_write_piece(rig, OLD, ENGINE_RIG_PIECE), 0);
	stop(rig);
	assert_int_equal(engine_rig_open_again(rig), 0);
	verify(rig);
	return stop(rig);
}

static void what_fails_is_tried_again(void **state)
{
	(void)state;
	begin(make_and_fail_one);
	engine_rig_call(&rig_memory, fail_in_the_middle);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_disk_has_failed),
		cmocka_unit_test(there_is_nothing_to_flush),
		cmocka_unit_test(a_missing_disk_comes_back),
		cmocka_unit_test(another_disk_is_added),
		cmocka_unit_test(another_in_its_place),
		cmocka_unit_test(the_newer_is_away),
		cmocka_unit_test(it_was_called_stale),
		cmocka_unit_test(less_of_the_log_comes_back),
		cmocka_unit_test(guests_read_on),
		cmocka_unit_test(crashes_while_it_settles),
		cmocka_unit_test(what_fails_is_tried_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
