/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of a vDisk's files, and what there is to do about them: on two or three simulated disks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reached.h"
#include "egroup/compact.h"
#include "egroup/repair.h"
#include "egroup/scan.h"
#include "egroup/store_priv.h"
#include "engine_rig.h"
#include "pool/pool_disk.h"
#include "reactor/io.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES  (512 * MIB)
#define DISK_BYTES  (8 * MIB)
#define PIECE_BYTES MIB

static struct engine_rig rig_memory;

static void write_all(struct engine_rig *rig)
{
	char *piece = aligned_alloc(4096, PIECE_BYTES);

	assert_non_null(piece);
	memset(piece, 0x5a, PIECE_BYTES);
	for (uint64_t at = 0; at < DISK_BYTES; at += PIECE_BYTES)
		assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, piece, PIECE_BYTES, at), 0);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	free(piece);
}

/* A repair passes over files that are just being trimmed: that ends first. */
static void seal_all(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	fiber_sleep(100 * NSEC_PER_MSEC);
}

/* Makes and fills a vDisk whose files are all sealed. */
static void begin(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	write_all(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
}

static int end(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static struct vdisk_redundancy redundancy(struct engine_rig *rig)
{
	struct vdisk_redundancy sum;

	vdisk_get_redundancy(rig->vdisk, &sum);
	return sum;
}

static void expect_nothing_to_do(struct engine_rig *rig)
{
	const struct vdisk_redundancy sum = redundancy(rig);

	assert_int_equal(sum.to_copy + sum.to_drop + sum.leaving + sum.lost, 0);
}

static void run(unsigned disks, unsigned factor, int (*fn)(struct engine_rig *rig))
{
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, disks, factor);
	engine_rig_call(&rig_memory, fn);
	engine_rig_done(&rig_memory);
}

/* It stays in the rows, for it may come back; until then there is nothing to do about it. */
static int one_of_two_fails(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};

	begin(rig);
	expect_nothing_to_do(rig);
	assert_true(redundancy(rig).whole > 0);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	assert_true(redundancy(rig).degraded > 0 && redundancy(rig).whole == 0);
	assert_int_equal(redundancy(rig).single, redundancy(rig).degraded);
	expect_nothing_to_do(rig);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_int_equal(repair.copied_bytes + repair.dropped_copies, 0);
	assert_int_equal(pool_disk_restore(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	assert_int_equal(redundancy(rig).degraded, 0);
	expect_nothing_to_do(rig);
	return end(rig);
}

static void a_failed_disk_that_nothing_replaces(void **state)
{
	(void)state;
	run(2, 2, one_of_two_fails);
}

static int one_of_three_fails(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};

	begin(rig);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	assert_true(redundancy(rig).to_copy > 0);
	assert_int_equal(pool_disk_remove(rig->pool, engine_rig_disk_id(rig, 1)), -EBUSY);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(repair.copied_bytes > 0 && repair.dropped_copies > 0);
	assert_int_equal(repair.damaged_blocks, 0);
	expect_nothing_to_do(rig);
	assert_int_equal(redundancy(rig).degraded, 0);
	assert_int_equal(pool_disk_remove(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	return end(rig);
}

static void a_failed_disk_that_a_third_replaces(void **state)
{
	(void)state;
	run(3, 2, one_of_three_fails);
}

static int one_is_drained(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};

	begin(rig);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 0), true), 0);
	assert_true(redundancy(rig).leaving > 0 && redundancy(rig).to_copy > 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	expect_nothing_to_do(rig);
	assert_int_equal(pool_disk_remove(rig->pool, engine_rig_disk_id(rig, 0)), 0);
	return end(rig);
}

static void a_disk_is_drained(void **state)
{
	(void)state;
	run(2, 1, one_is_drained);
}

/* What is on a disk that drains can be read: nothing lacks a copy, and nothing is urgent. */
static int drained_copies_count(struct engine_rig *rig)
{
	struct vdisk_repair urgent = {.urgent = true}, paused = {0}, repair = {0};

	begin(rig);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 0), true), 0);
	assert_true(redundancy(rig).leaving > 0 && redundancy(rig).to_copy > 0);
	assert_true(redundancy(rig).whole > 0);
	assert_int_equal(redundancy(rig).degraded + redundancy(rig).single, 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &urgent), 0);
	assert_int_equal(urgent.copied_bytes, 0);
	assert_int_equal(pool_disk_pause_draining(rig->pool, engine_rig_disk_id(rig, 1), true),
			 -EINVAL);
	assert_int_equal(pool_disk_pause_draining(rig->pool, engine_rig_disk_id(rig, 0), true), 0);
	assert_int_equal(redundancy(rig).leaving + redundancy(rig).to_copy, 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &paused), 0);
	assert_int_equal(paused.copied_bytes, 0);
	assert_int_equal(pool_disk_remove(rig->pool, engine_rig_disk_id(rig, 0)), -EBUSY);
	assert_int_equal(pool_disk_pause_draining(rig->pool, engine_rig_disk_id(rig, 0), false), 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(repair.copied_bytes > 0);
	expect_nothing_to_do(rig);
	return end(rig);
}

static void copies_count_until_they_are_moved(void **state)
{
	(void)state;
	run(3, 2, drained_copies_count);
}

/* The only other disk that could take copies cannot just now: what the draining one has stays. */
static int one_is_drained_beside_a_read_only_one(struct engine_rig *rig)
{
	struct vdisk_repair blocked = {0}, repair = {0};
	uint64_t third;

	begin(rig);
	third = engine_rig_disk_id(rig, 2);
	sim_disk_set_read_only(rig->sim.sim, engine_rig_disk(2), true);
	write_all(rig);
	assert_int_equal(pool_disk_state(rig->pool, third), POOL_DISK_READ_ONLY);
	assert_int_equal(vdisk_repair(rig->vdisk, &blocked), 0); /* seals what was interrupted */
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 1), true), 0);
	blocked = (struct vdisk_repair){0};
	assert_int_equal(vdisk_repair(rig->vdisk, &blocked), 0);
	assert_true(redundancy(rig).leaving > 0);
	assert_int_equal(redundancy(rig).to_drop, 0);
	assert_int_equal(pool_disk_remove(rig->pool, engine_rig_disk_id(rig, 1)), -EBUSY);
	sim_disk_set_read_only(rig->sim.sim, engine_rig_disk(2), false);
	while (pool_disk_state(rig->pool, third) != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(repair.copied_bytes > 0 && repair.dropped_copies > 0);
	expect_nothing_to_do(rig);
	assert_int_equal(redundancy(rig).degraded, 0);
	assert_int_equal(pool_disk_remove(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	return end(rig);
}

static void draining_waits_for_another_disk(void **state)
{
	(void)state;
	run(3, 2, one_is_drained_beside_a_read_only_one);
}

static unsigned pieces_left;   /* until the source goes away */
static uint64_t copied_before; /* in all runs */

static bool take_source_away(void *arg, uint64_t copied_bytes)
{
	struct engine_rig *rig = arg;

	(void)copied_bytes;
	if (pieces_left-- == 0)
		sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), true);
	return true;
}

/* What could not be read from the only disk that has it, as it is gone, is no copy. */
static int the_source_goes_away(struct engine_rig *rig)
{
	struct vdisk_repair first = {.progress = take_source_away, .arg = rig}, then = {0};
	struct vdisk_scrub scrub = {0};

	begin(rig);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), true);
	assert_int_equal(vdisk_repair(rig->vdisk, &first), -EIO);
	copied_before += first.copied_bytes;
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), false);
	fiber_sleep(120 * NSEC_PER_SEC); /* it is found again, and files are no more left alone */
	assert_int_equal(vdisk_repair(rig->vdisk, &then), 0);
	assert_int_equal(redundancy(rig).degraded, 0);
	expect_nothing_to_do(rig);
	assert_int_equal(vdisk_scrub(rig->vdisk, &scrub), 0);
	assert_true(scrub.bytes > 2 * DISK_BYTES);
	assert_int_equal(scrub.put_right + scrub.damaged, 0);
	return end(rig);
}

static void a_copy_is_made_of_what_can_be_read(void **state)
{
	uint64_t unread = reached_count("repair.unread");

	(void)state;
	copied_before = 0;
	/* Before anything was read, while it is, and between pieces. */
	for (unsigned pieces = 0; pieces < 12; pieces++) {
		pieces_left = pieces;
		run(3, 2, the_source_goes_away);
	}
	assert_true(copied_before > 0);
	assert_true(reached_count("repair.unread") > unread);
}

#define MARK_AT (5 * MIB)

/* The file in a directory of groups, and the place in it, that has a block of that byte. */
static bool find_block_in(const char *directory, uint8_t byte, char path[300], uint64_t *ret_at)
{
	_cleanup_free_ uint8_t *block = aligned_alloc(4096, 4096);
	struct world_names names;
	bool found = false;

	assert_int_equal(io_directory_list(directory, &names), 0);
	for (size_t i = 0; !found && i < names.count; i++) {
		struct world_file *file;

		snprintf(path, 300, "%s/%s", directory, names.names[i]);
		assert_int_equal(io_open(path, WORLD_FILE_READ_ONLY, &file), 0);
		for (uint64_t at = 0; !found && io_read(file, block, 4096, at) == 4096;
		     at += 4096) {
			found = block[0] == byte && memcmp(block, block + 1, 4095) == 0;
			*ret_at = at;
		}
		assert_int_equal(io_close(file), 0);
	}
	world_names_free(&names);
	return found;
}

/* The id of the file, too. */
static uint64_t find_block(unsigned number, uint8_t byte, char path[300], uint64_t *ret_at)
{
	char directory[100];
	bool found = false;

	for (unsigned i = 0; !found && i < 256; i++) {
		snprintf(directory, sizeof(directory), "%s/groups/%02x",
			 engine_rig_directory(number, 0), i);
		found = find_block_in(directory, byte, path, ret_at);
	}
	assert_true(found);
	return strtoull(strrchr(path, '/') + 1, NULL, 16);
}

static void flip_block(struct engine_rig *rig, unsigned number, uint8_t byte)
{
	char path[300];
	uint64_t at = 0;

	(void)find_block(number, byte, path, &at);
	assert_int_equal(sim_disk_flip(rig->sim.sim, path, at + 7, 3), 0);
}

static int write_block(struct engine_rig *rig, uint8_t byte, uint64_t at)
{
	_cleanup_free_ void *block = aligned_alloc(4096, 4096);

	assert_non_null(block);
	memset(block, byte, 4096);
	return block_io(rig->volume, BLOCK_WRITE, 0, block, 4096, at);
}

/* Most of what is on the disks becomes garbage, and is reclaimed. */
static void reclaim_rest(struct engine_rig *rig)
{
	uint64_t before = reached_count("compact.done");

	for (unsigned round = 0; round < 3; round++)
		for (uint64_t at = 0; at < DISK_BYTES; at += 4096)
			if (at != MARK_AT && at % MIB != 0)
				assert_int_equal(write_block(rig, (uint8_t)round, at), 0);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	fiber_sleep(30 * NSEC_PER_SEC);
	assert_true(reached_count("compact.done") > before);
}

/* A block that is damaged on the one disk that is there is right on the one that is not. */
static int compaction_beside_a_missing_disk(struct engine_rig *rig)
{
	_cleanup_free_ uint8_t *block = aligned_alloc(4096, 4096);

	begin(rig);
	for (uint64_t at = 0; at < DISK_BYTES; at += 4096)
		assert_int_equal(write_block(rig, at == MARK_AT ? 0xa5 : 1, at), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	flip_block(rig, 0, 0xa5);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), true);
	reclaim_rest(rig);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), false);
	while (pool_disk_state(rig->pool, engine_rig_disk_id(rig, 1)) != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, block, 4096, MARK_AT), 0);
	assert_true(block[0] == 0xa5 && memcmp(block, block + 1, 4095) == 0);
	return end(rig);
}

static void compaction_keeps_what_is_right_elsewhere(void **state)
{
	(void)state;
	run(2, 2, compaction_beside_a_missing_disk);
}

/* The disk of one copy refuses what compaction writes: the other copy counts alone, until repair.
 */

#define KEPT_EVERY (64 * KIB)

static int refuse_sync(void *arg, uint64_t read, uint64_t written)
{
	const struct sim_faults faults = {.sync_error_ppm = 1000000};
	struct engine_rig *rig = arg;

	(void)read;
	(void)written;
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &faults);
	return 0;
}

/* Before the vDisk does it by itself. */
static int compact_with(struct engine_rig *rig,
			int (*pause)(void *arg, uint64_t read, uint64_t written))
{
	_cleanup_free_ struct compact_choice *choice = malloc(sizeof(*choice));

	assert_non_null(choice);
	for (uint64_t at = 0; at < DISK_BYTES; at += KEPT_EVERY)
		assert_int_equal(write_block(rig, 0xa5, at), 0);
	seal_all(rig);
	for (uint64_t at = 0; at < DISK_BYTES; at += KEPT_EVERY)
		assert_int_equal(
			block_io(rig->volume, BLOCK_UNMAP, 0, NULL, KEPT_EVERY - 4096, at + 4096),
			0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	assert_true(compact_choose(rig->vdisk->store, 50, choice));
	return compact_run(rig->vdisk->store, choice, pause, rig);
}

static struct egroup_file *compacted_file(struct engine_rig *rig)
{
	struct egroup_file *file;

	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		if (file->compacted)
			return file;
	return NULL;
}

static void expect_kept(struct engine_rig *rig)
{
	_cleanup_free_ uint8_t *block = aligned_alloc(4096, 4096);

	for (uint64_t at = 0; at < DISK_BYTES; at += KEPT_EVERY) {
		assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, block, 4096, at), 0);
		assert_true(block[0] == 0xa5 && memcmp(block, block + 1, 4095) == 0);
	}
}

static int compaction_to_one_copy(struct engine_rig *rig)
{
	const struct sim_faults none = {0};
	struct vdisk_repair repair = {0};
	struct egroup_file *file;
	struct pool_copies copies;
	unsigned stale;

	begin(rig);
	assert_int_equal(compact_with(rig, refuse_sync), 0);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &none);
	file = compacted_file(rig);
	assert_non_null(file);
	stale = file->copies.disks[0] == engine_rig_disk_id(rig, 1) ? 1 : 2;
	assert_int_equal(file->copies.count, 2);
	assert_int_equal(file->copies.stale, stale);
	pool_file_get_copies(file->file, &copies);
	assert_int_equal(copies.stale, stale);
	assert_true(redundancy(rig).degraded > 0 && redundancy(rig).to_copy > 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(compacted_file(rig)->copies.stale, stale);
	expect_kept(rig);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(repair.copied_bytes > 0 && repair.damaged_blocks == 0);
	expect_nothing_to_do(rig);
	assert_int_equal(redundancy(rig).degraded, 0);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), true);
	expect_kept(rig);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(0), false);
	while (pool_disk_state(rig->pool, engine_rig_disk_id(rig, 0)) != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	return end(rig);
}

static void compaction_that_one_disk_does_not_sync(void **state)
{
	(void)state;
	run(2, 2, compaction_to_one_copy);
}

/* Nobody knows whether the rows of a compaction are there: its files and its target both stay. */

static bool in_doubt, was_committed;

/* Now and then what a failed commit wrote is not undone either. */
static int refuse_commits(void *arg, uint64_t read, uint64_t written)
{
	const struct sim_faults faults = {.sync_error_ppm = 1000000, .write_error_ppm = 300000};
	struct engine_rig *rig = arg;

	(void)read;
	(void)written;
	sim_disk_set_faults(rig->sim.sim, ENGINE_RIG_DISK, &faults);
	return 0;
}

static int compaction_in_doubt(struct engine_rig *rig)
{
	begin(rig);
	in_doubt = compact_with(rig, refuse_commits) == -ENOTRECOVERABLE;
	assert_null(compacted_file(rig));
	expect_kept(rig);
	return 0;
}

static int after_the_doubt(struct engine_rig *rig)
{
	const struct sim_faults none = {0};

	sim_disk_set_faults(rig->sim.sim, ENGINE_RIG_DISK, &none);
	assert_int_equal(engine_rig_open_again(rig), 0);
	was_committed |= in_doubt && compacted_file(rig);
	expect_kept(rig);
	expect_nothing_to_do(rig);
	return end(rig);
}

static void a_compaction_that_may_be_committed(void **state)
{
	(void)state;
	was_committed = false;
	for (uint64_t seed = 1; !was_committed; seed++) {
		assert_true(seed < 200);
		engine_rig_init(&rig_memory, seed, false, POOL_BYTES);
		engine_rig_set_disks(&rig_memory, 2, 2);
		engine_rig_call(&rig_memory, compaction_in_doubt);
		engine_rig_crash(&rig_memory, SIM_CRASH_PROCESS);
		engine_rig_call(&rig_memory, after_the_doubt);
		engine_rig_done(&rig_memory);
	}
}

/* Each of two copies has another block wrong: whichever is read, the new one has both right, and is
 * what was written. */
static int repair_of_what_is_right_elsewhere(struct engine_rig *rig)
{
	_cleanup_free_ uint8_t *blocks = aligned_alloc(4096, 8192);
	struct vdisk_repair repair = {0};

	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), true), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(write_block(rig, 0xa5, MARK_AT), 0);
	assert_int_equal(write_block(rig, 0xb6, MARK_AT + 4096), 0); /* in the same file */
	seal_all(rig);
	flip_block(rig, 0, 0xa5);
	flip_block(rig, 1, 0xb6);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), false), 0);
	vdisk_set_factor(rig->vdisk, 3);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(repair.copied_bytes > 0);
	assert_int_equal(repair.damaged_blocks + repair.mismatches, 0);
	expect_nothing_to_do(rig);
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, blocks, 8192, MARK_AT), 0);
	assert_true(blocks[0] == 0xa5 && memcmp(blocks, blocks + 1, 4095) == 0);
	assert_true(blocks[4096] == 0xb6 && memcmp(blocks + 4096, blocks + 4097, 4095) == 0);
	return end(rig);
}

static void a_new_copy_has_what_is_right_elsewhere(void **state)
{
	(void)state;
	run(3, 2, repair_of_what_is_right_elsewhere);
}

/* Of all files. */
static unsigned copies_on(struct engine_rig *rig, unsigned number)
{
	struct egroup_file *file;
	unsigned count = 0;

	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		for (unsigned i = 0; i < file->copies.count; i++)
			count += file->copies.disks[i] == engine_rig_disk_id(rig, number);
	return count;
}

/* All files are open, so that what they lie on is not looked at again. */
static void open_files(struct engine_rig *rig, bool open)
{
	struct egroup_file *file;

	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link) {
		if (open)
			assert_int_equal(egroup_file_open(file), 0);
		else
			egroup_file_unref(file);
	}
}

/* The only right copy of a block is on a disk that is drained, and begins to hang meanwhile. */
static int repair_beside_a_hanging_disk(struct engine_rig *rig)
{
	_cleanup_free_ uint8_t *block = aligned_alloc(4096, 4096);
	struct vdisk_repair during = {0}, then = {0};
	uint64_t unread = reached_count("egroup.copy-unread");

	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), true), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(write_block(rig, 0xa5, MARK_AT), 0); /* in the first file */
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	flip_block(rig, 0, 0xa5);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), false), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 1), true), 0);
	open_files(rig, true);
	fiber_sleep(NSEC_PER_SEC); /* what goes on after an open has ended */
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), true);
	assert_int_equal(vdisk_repair(rig->vdisk, &during), -EIO);
	open_files(rig, false);
	assert_true(reached_count("egroup.copy-unread") > unread);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), false);
	while (pool_disk_state(rig->pool, engine_rig_disk_id(rig, 1)) != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	fiber_sleep(120 * NSEC_PER_SEC); /* files are no more left alone */
	assert_int_equal(vdisk_repair(rig->vdisk, &then), 0);
	assert_int_equal(then.damaged_blocks, 0);
	expect_nothing_to_do(rig);
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, block, 4096, MARK_AT), 0);
	assert_true(block[0] == 0xa5 && memcmp(block, block + 1, 4095) == 0);
	return end(rig);
}

static void repair_waits_for_what_may_be_right(void **state)
{
	(void)state;
	run(3, 2, repair_beside_a_hanging_disk);
}

/* One of two copies is damaged, and the disk of the other has gone and was given up: a third is
 * made, and the other is waited for all the same. */
static void repair_without_the_right_copy(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};
	struct egroup_file *file;
	struct vdisk_redundancy redundancy;
	unsigned waiting = 0;
	uint64_t looked;

	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), true), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(write_block(rig, 0xa5, MARK_AT), 0);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	seal_all(rig);
	flip_block(rig, 0, 0xa5);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), false), 0);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), true);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), -EIO);
	assert_int_equal(repair.waiting_blocks, 1);
	assert_true(repair.copied_bytes > 0);
	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		waiting += file->copies.count == 3;
	assert_int_equal(waiting, 1);
	/* Nothing has changed that would let another look find something else. */
	looked = reached_count("repair.waits-for-a-copy");
	for (unsigned i = 0; i < 3; i++) {
		fiber_sleep(120 * NSEC_PER_SEC);
		repair = (struct vdisk_repair){0};
		assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
		assert_int_equal(repair.waiting_blocks, 0);
		vdisk_get_redundancy(rig->vdisk, &redundancy);
		assert_int_equal(redundancy.waiting_blocks, 1);
		assert_true(redundancy.to_drop > 0 && redundancy.to_copy == 0);
	}
	assert_int_equal(reached_count("repair.waits-for-a-copy"), looked);
	fiber_sleep(1800 * NSEC_PER_SEC); /* it is looked through again, all the same */
	repair = (struct vdisk_repair){0};
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), -EIO); /* it is not known any more */
	assert_int_equal(repair.waiting_blocks, 1);
}

static int the_right_copy_comes_back(struct engine_rig *rig)
{
	_cleanup_free_ uint8_t *block = aligned_alloc(4096, 4096);
	struct vdisk_repair repair = {0};

	repair_without_the_right_copy(rig);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), false);
	assert_int_equal(pool_disk_restore(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	while (pool_disk_state(rig->pool, engine_rig_disk_id(rig, 1)) != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_int_equal(repair.waiting_blocks, 0);
	expect_nothing_to_do(rig);
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, block, 4096, MARK_AT), 0);
	assert_true(block[0] == 0xa5 && memcmp(block, block + 1, 4095) == 0);
	return end(rig);
}

static int the_right_copy_is_given_up(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};

	repair_without_the_right_copy(rig);
	fiber_sleep(120 * NSEC_PER_SEC); /* no disk is suspect any more */
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 1), true), 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	expect_nothing_to_do(rig);
	fiber_sleep(120 * NSEC_PER_SEC); /* no disk is suspect any more */
	assert_int_equal(pool_disk_remove(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	return end(rig);
}

static void lose_disk(struct engine_rig *rig, unsigned number)
{
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(number), true);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, number)), 0);
}

/* A row is full of copies on disks that have gone, which alone may have a block right. One of them
 * was given up for good, which makes room for a copy on another disk, beside the doubts. */
static int room_beside_a_doubt(struct engine_rig *rig)
{
	struct vdisk_repair first = {0}, then = {0};
	uint64_t reached = reached_count("repair.room-beside-doubts");
	struct egroup_file *file;

	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	for (unsigned i = 3; i < 5; i++)
		assert_int_equal(
			pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, i), true), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(write_block(rig, 0xa5, MARK_AT), 0); /* in the first file */
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	flip_block(rig, 0, 0xa5);
	file = LIST_ENTRY(list_front(&rig->vdisk->store->files), struct egroup_file, link);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 3), false), 0);
	lose_disk(rig, 1);
	lose_disk(rig, 2);
	assert_int_equal(vdisk_repair(rig->vdisk, &first), 0);
	assert_int_equal(file->copies.count, POOL_COPIES_MAX);
	fiber_sleep(120 * NSEC_PER_SEC); /* no disk is suspect any more */
	lose_disk(rig, 3);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 2), true), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 4), false), 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &then), -EIO);
	assert_true(reached_count("repair.room-beside-doubts") > reached);
	assert_int_equal(then.waiting_blocks, 1);
	assert_int_equal(file->copies.count, POOL_COPIES_MAX);
	assert_int_equal(file->copies.disks[POOL_COPIES_MAX - 1], engine_rig_disk_id(rig, 4));
	assert_int_equal(file->copies.disks[1], engine_rig_disk_id(rig, 1));
	return end(rig);
}

static void a_doubt_is_not_in_the_way(void **state)
{
	(void)state;
	run(5, 3, room_beside_a_doubt);
}

static void set_bad(struct engine_rig *rig, bool bad)
{
	const struct sim_faults faults = {.read_error_ppm = bad ? 1000000 : 0};

	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &faults);
}

static unsigned bad_passes; /* yet to come */

static void be_bad_again(struct fiber_task *task)
{
	fiber_sleep(1990 * NSEC_PER_MSEC); /* just before it is read again */
	set_bad(&rig_memory, true);
	free(task);
}

/* The disk itself is in order whenever it is looked at. */
static bool be_good_between_passes(void *arg, uint64_t copied_bytes)
{
	struct fiber_task *task;

	(void)copied_bytes;
	set_bad(arg, false);
	if (bad_passes == 0)
		return true;
	bad_passes--;
	task = calloc(1, sizeof(*task));
	assert_non_null(task);
	task->run = be_bad_again;
	fiber_spawn(reactor_current(), FIBER_CONTROL, task);
	return true;
}

/* What is damaged on a copy that stays and gives errors on one that is to go, whose disk is there,
 * is damaged: that disk becomes empty all the same. */
static int drained_with_a_bad_block(struct engine_rig *rig)
{
	struct vdisk_repair repair = {.progress = be_good_between_passes, .arg = rig};

	bad_passes = 1;
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(write_block(rig, 0xa5, MARK_AT), 0);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	seal_all(rig);
	flip_block(rig, 0, 0xa5);
	vdisk_set_factor(rig->vdisk, 1);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 1), true), 0);
	set_bad(rig, true);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_int_equal(bad_passes, 0);
	assert_int_equal(repair.waiting_blocks, 0);
	assert_int_equal(copies_on(rig, 1), 0);
	expect_nothing_to_do(rig);
	return end(rig);
}

static void errors_of_a_disk_that_is_there_are_damage(void **state)
{
	(void)state;
	run(2, 2, drained_with_a_bad_block);
	assert_true(reached_count("repair.looked-unread") > 0);
}

static void repair_waits_for_the_right_copy(void **state)
{
	(void)state;
	run(3, 2, the_right_copy_comes_back);
	run(3, 2, the_right_copy_is_given_up);
	assert_true(reached_count("repair.waits-for-a-copy") > 0);
	assert_true(reached_count("repair.waits-no-more") > 0);
}

/* One of two copies is not needed any more; the disk of the one that would stay hangs, so that it
 * cannot be looked through: the other is the only one that was ever known to be right. Whichever of
 * them repair would keep. */
static int the_factor_falls_beside_a_hanging_disk(struct engine_rig *rig)
{
	struct vdisk_repair during = {0}, then = {0};
	struct egroup_file *file;
	unsigned on_first, staying;

	begin(rig);
	fiber_sleep(2 * NSEC_PER_SEC); /* no guest is active any more */
	on_first = copies_on(rig, 0);
	assert_true(on_first > 0 && copies_on(rig, 1) == on_first);
	open_files(rig, true);
	file = LIST_ENTRY(list_front(&rig->vdisk->store->files), struct egroup_file, link);
	staying = file->copies.disks[1] == engine_rig_disk_id(rig, 0) ? 0 : 1;
	vdisk_set_factor(rig->vdisk, 1);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(staying), true);
	(void)vdisk_repair(rig->vdisk, &during);
	assert_int_equal(copies_on(rig, 1 - staying), on_first);
	open_files(rig, false);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(staying), false);
	while (pool_disk_state(rig->pool, engine_rig_disk_id(rig, staying)) != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	fiber_sleep(120 * NSEC_PER_SEC); /* files are no more left alone */
	assert_int_equal(vdisk_repair(rig->vdisk, &then), 0);
	assert_true(then.dropped_copies > 0);
	expect_nothing_to_do(rig);
	return end(rig);
}

static void what_was_not_read_stands_for_nothing(void **state)
{
	(void)state;
	run(2, 2, the_factor_falls_beside_a_hanging_disk);
}

/* Up, with repair; and down again. */
static int the_factor_changes(struct engine_rig *rig)
{
	struct vdisk_repair up = {0}, down = {0};

	begin(rig);
	fiber_sleep(2 * NSEC_PER_SEC); /* no guest is active any more */
	vdisk_set_factor(rig->vdisk, 3);
	assert_true(redundancy(rig).to_copy > 0 && redundancy(rig).degraded > 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &up), 0);
	assert_true(reached_count("repair.two-files") > 0);
	expect_nothing_to_do(rig);
	assert_int_equal(redundancy(rig).degraded, 0);
	vdisk_set_factor(rig->vdisk, 1);
	assert_true(redundancy(rig).to_drop > 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &down), 0);
	assert_int_equal(down.copied_bytes, 0);
	expect_nothing_to_do(rig);
	return end(rig);
}

static void more_copies_and_fewer(void **state)
{
	(void)state;
	run(3, 1, the_factor_changes);
}

static int leave_unsealed(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	write_all(rig);
	return 0;
}

/* The first copy of all cannot be read while the vDisk is opened. */
static int open_beside_unreadable(struct engine_rig *rig)
{
	const struct sim_faults faults = {.read_error_ppm = 1000000}, none = {0};
	int r;

	assert_int_equal(engine_rig_start(rig), 0);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(0), &faults);
	r = engine_rig_open_vdisk(rig);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(0), &none);
	return r;
}

static int what_was_flushed_is_there(struct engine_rig *rig)
{
	char *piece = aligned_alloc(4096, PIECE_BYTES);

	assert_non_null(piece);
	for (uint64_t at = 0; at < DISK_BYTES; at += PIECE_BYTES) {
		assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, piece, PIECE_BYTES, at), 0);
		assert_int_equal(piece[0], 0x5a);
		assert_memory_equal(piece, piece + 1, PIECE_BYTES - 1);
	}
	free(piece);
	return end(rig);
}

static int open_after_crash(unsigned copies)
{
	int r;

	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, copies, copies);
	engine_rig_call(&rig_memory, leave_unsealed);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	r = engine_rig_call(&rig_memory, open_beside_unreadable);
	if (r == 0)
		engine_rig_call(&rig_memory, what_was_flushed_is_there);
	return r;
}

static int stop(struct engine_rig *rig)
{
	engine_rig_stop(rig);
	return 0;
}

/* The end of the log is known from a copy that can be read; with no other it is not. */
static void the_end_of_the_log_on_one_copy_of_two(void **state)
{
	uint64_t reached = reached_count("recover.end-unreadable");

	(void)state;
	assert_int_equal(open_after_crash(2), 0);
	assert_true(reached_count("recover.end-unreadable") > reached);
	engine_rig_done(&rig_memory);
	assert_int_equal(open_after_crash(1), -EIO);
	engine_rig_call(&rig_memory, stop);
	engine_rig_done(&rig_memory);
}

struct damaging {
	struct engine_rig *rig;
	uint64_t bytes, last; /* of the first file; seen before */
	char path[64];        /* of its new copy */
	uint64_t undrain;     /* a disk, at that time; 0: none */
	bool done, went_back;
};

/* When all of the first file is written and synced, and its last block was not read back yet. */
static bool damage_copy(void *arg, uint64_t copied_bytes)
{
	struct damaging *damaging = arg;

	damaging->went_back |= copied_bytes < damaging->last;
	damaging->last = copied_bytes;
	if (!damaging->done && copied_bytes == damaging->bytes) {
		assert_int_equal(sim_disk_flip(damaging->rig->sim.sim, damaging->path,
					       damaging->bytes - 1, 3),
				 0);
		if (damaging->undrain)
			assert_int_equal(pool_disk_set_draining(damaging->rig->pool,
								damaging->undrain, false),
					 0);
		damaging->done = true;
	}
	return true;
}

/* A copy that does not give back what was written does not count. The guest was active just now,
 * so that requests are small and come one by one. */
static int the_target_is_bad(struct engine_rig *rig)
{
	struct damaging damaging = {.rig = rig};
	struct vdisk_repair first = {.progress = damage_copy, .arg = &damaging}, then = {0};
	struct vdisk_scrub scrub = {0};
	struct egroup_file *file;

	begin(rig);
	vdisk_set_factor(rig->vdisk, 2);
	file = LIST_ENTRY(list_front(&rig->vdisk->store->files), struct egroup_file, link);
	assert_true(file->copies.count == 1 && egroup_file_is_sealed(file));
	damaging.bytes = egroup_scan_bytes(file);
	snprintf(damaging.path, sizeof(damaging.path), "/p%u/pool0/groups/%02x/%016" PRIx64 ".eg",
		 file->copies.disks[0] == engine_rig_disk_id(rig, 0) ? 1u : 0u,
		 (unsigned)(uint8_t)file->id, file->id);
	assert_int_equal(vdisk_repair(rig->vdisk, &first), -EIO);
	assert_true(damaging.done && !damaging.went_back);
	assert_true(reached_count("repair.read-back-differs") > 0);
	assert_int_equal(redundancy(rig).to_copy, damaging.bytes);
	fiber_sleep(120 * NSEC_PER_SEC); /* the file is no more left alone */
	assert_int_equal(vdisk_repair(rig->vdisk, &then), 0);
	expect_nothing_to_do(rig);
	assert_int_equal(vdisk_scrub(rig->vdisk, &scrub), 0);
	assert_int_equal(scrub.put_right + scrub.damaged, 0);
	return end(rig);
}

static void a_copy_that_cannot_be_read_back(void **state)
{
	(void)state;
	run(2, 1, the_target_is_bad);
}

/* Another disk takes the copy in its place, and the bad one is held against it. */
static int the_target_is_bad_and_another_is_not(struct engine_rig *rig)
{
	struct pool_disk_info *info = calloc(1, sizeof(*info));
	struct damaging damaging = {.rig = rig};
	struct vdisk_repair repair = {.progress = damage_copy, .arg = &damaging};
	struct egroup_file *file;
	uint64_t third;

	begin(rig);
	third = engine_rig_disk_id(rig, 2);
	file = LIST_ENTRY(list_front(&rig->vdisk->store->files), struct egroup_file, link);
	if (file->copies.disks[0] != engine_rig_disk_id(rig, 0))
		third = engine_rig_disk_id(rig, 0);
	/* The first copy is made on the disk that is not drained. */
	assert_int_equal(pool_disk_set_draining(rig->pool, third, true), 0);
	vdisk_set_factor(rig->vdisk, 2);
	damaging.bytes = egroup_scan_bytes(file);
	for (unsigned i = 0; i < 3; i++)
		if (engine_rig_disk_id(rig, i) != third &&
		    engine_rig_disk_id(rig, i) != file->copies.disks[0])
			snprintf(damaging.path, sizeof(damaging.path),
				 "/p%u/pool0/groups/%02x/%016" PRIx64 ".eg", i,
				 (unsigned)(uint8_t)file->id, file->id);
	damaging.undrain = third;
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(damaging.done);
	assert_int_equal(repair.mismatches, 1);
	assert_true(repair.mismatch_disk != third && repair.mismatch_disk != file->copies.disks[0]);
	assert_int_equal(file->copies.count, 2);
	assert_int_equal(file->copies.disks[1], third);
	assert_int_equal(pool_disk_get(rig->pool, repair.mismatch_disk, info), 0);
	assert_true(info->health.checksum_errors > 0);
	free(info);
	expect_nothing_to_do(rig);
	return end(rig);
}

static void a_copy_that_another_disk_takes(void **state)
{
	(void)state;
	run(3, 1, the_target_is_bad_and_another_is_not);
}

struct guest {
	struct fiber_task task;
	struct engine_rig *rig;
	bool stops, ended;
	uint64_t reads;
};

static void read_on(struct fiber_task *task)
{
	struct guest *guest = CONTAINER_OF(task, struct guest, task);
	_cleanup_free_ char *block = aligned_alloc(4096, 4096);

	while (!guest->stops) {
		uint64_t at = guest->reads++ % (DISK_BYTES / 4096) * 4096;

		assert_int_equal(block_io(guest->rig->volume, BLOCK_READ, 0, block, 4096, at), 0);
	}
	guest->ended = true;
}

/* It goes on, however busy the guest is; and more slowly. */
static int a_guest_is_busy(struct engine_rig *rig)
{
	struct guest guest = {.task = {.run = read_on}, .rig = rig};
	struct vdisk_repair repair = {0};
	uint64_t start, bytes;

	begin(rig);
	vdisk_set_factor(rig->vdisk, 2);
	bytes = redundancy(rig).to_copy;
	fiber_spawn(rig->vdisk->reactor, FIBER_DATA, &guest.task);
	start = reactor_now_ns(rig->vdisk->reactor);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(reactor_now_ns(rig->vdisk->reactor) - start < bytes / MIB * NSEC_PER_SEC);
	guest.stops = true;
	while (!guest.ended)
		fiber_sleep(NSEC_PER_MSEC);
	assert_true(reached_count("pace.slower") + reached_count("pace.faster") > 0);
	expect_nothing_to_do(rig);
	return end(rig);
}

static void a_repair_beside_a_guest(void **state)
{
	(void)state;
	run(2, 1, a_guest_is_busy);
}

struct looking {
	struct engine_rig *rig;
	uint64_t take_at; /* bytes read, after which a disk goes away; 0: never */
	unsigned take;
	struct vdisk_finding finding; /* the last of what was wrong */
	unsigned count, unseen; /* of such; copies that were not read, though others are right */
};

static void note_finding(void *arg, const struct vdisk_finding *finding)
{
	struct looking *looking = arg;

	if (finding->pending && finding->error == 0) {
		looking->unseen++;
		return;
	}
	looking->finding = *finding;
	looking->count++;
}

static bool take_disk_away(void *arg, uint64_t bytes)
{
	struct looking *looking = arg;

	if (looking->take_at && bytes >= looking->take_at)
		sim_disk_set_missing(looking->rig->sim.sim, engine_rig_disk(looking->take), true);
	return true;
}

/* A vDisk on two disks, one block of which can be found. */
static void begin_with_a_mark(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (uint64_t at = 0; at < DISK_BYTES; at += 4096)
		assert_int_equal(write_block(rig, at == MARK_AT ? 0xa5 : 1, at), 0);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
}

static void begin_with_a_flip(struct engine_rig *rig, unsigned number)
{
	begin_with_a_mark(rig);
	flip_block(rig, number, 0xa5);
}

static struct vdisk_scrub scrub_looking(struct looking *looking)
{
	struct vdisk_scrub scrub = {
		.progress = take_disk_away, .finding = note_finding, .arg = looking};

	looking->count = looking->unseen = 0;
	assert_int_equal(vdisk_scrub(looking->rig->vdisk, &scrub), 0);
	return scrub;
}

/* A scrub while the other disk cannot be reached, and one when it is back: just the file. */
static void expect_pending_then_right(struct looking *looking, unsigned bad, unsigned away)
{
	struct engine_rig *rig = looking->rig;
	struct vdisk_scrub scrub = scrub_looking(looking);

	assert_int_equal(scrub.damaged + scrub.left + scrub.put_right, 0);
	assert_int_equal(scrub.pending, 1 + looking->unseen);
	assert_int_equal(scrub.done_pending, scrub.pending);
	assert_int_equal(looking->count, 1);
	assert_true(looking->finding.pending && !looking->finding.put_right);
	assert_int_equal(looking->finding.disk, engine_rig_disk_id(rig, bad));
	assert_int_equal(looking->finding.offset, MARK_AT);
	looking->take_at = 0;
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(away), false);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(away), false);
	while (pool_disk_state(rig->pool, engine_rig_disk_id(rig, away)) != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	scrub = (struct vdisk_scrub){.after = looking->finding.file - 1,
				     .last = looking->finding.file};
	assert_int_equal(vdisk_scrub(rig->vdisk, &scrub), 0);
	assert_int_equal(scrub.put_right, 1);
	assert_int_equal(scrub.damaged + scrub.left + scrub.pending, 0);
	assert_true(scrub.bytes > 0);
	scrub = scrub_looking(looking);
	assert_int_equal(scrub.put_right + scrub.pending, 0);
}

static int damaged_beside_a_missing_disk(struct engine_rig *rig)
{
	struct looking looking = {.rig = rig};

	begin_with_a_flip(rig, 0);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), true);
	expect_pending_then_right(&looking, 0, 1);
	return end(rig);
}

static int damaged_beside_a_hanging_disk(struct engine_rig *rig)
{
	struct looking looking = {.rig = rig};

	begin_with_a_flip(rig, 0);
	open_files(rig, true);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), true);
	expect_pending_then_right(&looking, 0, 1);
	open_files(rig, false);
	return end(rig);
}

/* Nothing is wrong that anybody saw; but of one copy of each file nobody saw anything. */
static int unread_on_a_hanging_disk(struct engine_rig *rig)
{
	struct looking looking = {.rig = rig};
	struct vdisk_scrub scrub;
	struct egroup_file *file;
	unsigned files = 0;

	begin_with_a_mark(rig);
	open_files(rig, true);
	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		files += egroup_scan_bytes(file) > 0;
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), true);
	scrub = scrub_looking(&looking);
	assert_true(scrub.pending > 0 && scrub.pending <= files);
	assert_int_equal(looking.unseen, scrub.pending);
	assert_int_equal(looking.count + scrub.damaged + scrub.left + scrub.put_right, 0);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(1), false);
	while (pool_disk_state(rig->pool, engine_rig_disk_id(rig, 1)) != POOL_DISK_ONLINE)
		fiber_sleep(NSEC_PER_SEC);
	scrub = scrub_looking(&looking);
	assert_int_equal(scrub.pending + scrub.damaged + scrub.left + scrub.put_right, 0);
	open_files(rig, false);
	return end(rig);
}

/* The first copy was right when it was read. */
static int damaged_after_the_first_disk_went(struct engine_rig *rig)
{
	struct looking looking = {.rig = rig};
	struct egroup_file *file;
	uint64_t at, id, first = 0;
	char path[300];

	begin_with_a_mark(rig);
	id = find_block(0, 0xa5, path, &at);
	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link) {
		looking.take_at += (file->id < id ? 2 : 1) * egroup_scan_bytes(file);
		first = file->copies.disks[0];
		if (file->id == id)
			break;
	}
	looking.take = first == engine_rig_disk_id(rig, 0) ? 0 : 1;
	flip_block(rig, 1 - looking.take, 0xa5);
	expect_pending_then_right(&looking, 1 - looking.take, looking.take);
	return end(rig);
}

/* Every copy gives errors, on disks that are there: that is damage. */
static int unreadable_on_both(struct engine_rig *rig)
{
	const struct sim_faults faults = {.read_error_ppm = 1000000}, none = {0};
	struct looking looking = {.rig = rig};
	struct vdisk_scrub scrub;

	begin_with_a_flip(rig, 0);
	open_files(rig, true);
	for (unsigned i = 0; i < 2; i++)
		sim_disk_set_faults(rig->sim.sim, engine_rig_disk(i), &faults);
	scrub = scrub_looking(&looking);
	for (unsigned i = 0; i < 2; i++)
		sim_disk_set_faults(rig->sim.sim, engine_rig_disk(i), &none);
	assert_true(scrub.damaged + scrub.pending > 0);
	open_files(rig, false);
	return end(rig);
}

static void what_cannot_be_reached_is_not_damaged(void **state)
{
	(void)state;
	run(2, 2, damaged_beside_a_missing_disk);
	run(2, 2, damaged_beside_a_hanging_disk);
	run(2, 2, damaged_after_the_first_disk_went);
	assert_true(reached_count("scrub.gone") > 0);
	run(2, 2, unreadable_on_both);
	run(2, 2, unread_on_a_hanging_disk);
	assert_true(reached_count("scrub.unseen") > 0);
}

/* The same of a scrub: it goes on, in small requests, one at a time. */
static int a_guest_is_busy_in_a_scrub(struct engine_rig *rig)
{
	uint64_t paced = reached_count("pace.slower") + reached_count("pace.faster");
	struct guest guest = {.task = {.run = read_on}, .rig = rig};
	struct vdisk_scrub alone = {0}, beside = {0};
	uint64_t start, alone_ns, beside_ns;

	begin(rig);
	fiber_sleep(2 * NSEC_PER_SEC); /* no guest is active any more */
	start = reactor_now_ns(rig->vdisk->reactor);
	assert_int_equal(vdisk_scrub(rig->vdisk, &alone), 0);
	alone_ns = reactor_now_ns(rig->vdisk->reactor) - start;
	fiber_spawn(rig->vdisk->reactor, FIBER_DATA, &guest.task);
	fiber_sleep(NSEC_PER_MSEC);
	start = reactor_now_ns(rig->vdisk->reactor);
	assert_int_equal(vdisk_scrub(rig->vdisk, &beside), 0);
	beside_ns = reactor_now_ns(rig->vdisk->reactor) - start;
	assert_true(beside_ns > 2 * alone_ns);
	assert_true(beside_ns < beside.bytes / MIB * NSEC_PER_SEC);
	guest.stops = true;
	while (!guest.ended)
		fiber_sleep(NSEC_PER_MSEC);
	assert_true(reached_count("pace.slower") + reached_count("pace.faster") > paced);
	return end(rig);
}

static void a_scrub_beside_a_guest(void **state)
{
	(void)state;
	run(2, 2, a_guest_is_busy_in_a_scrub);
}

#define MANY_FILES 5000u

struct ticker {
	struct fiber_task task;
	bool stops, ended;
	unsigned turns;
};

static void tick(struct fiber_task *task)
{
	struct ticker *ticker = CONTAINER_OF(task, struct ticker, task);

	for (; !ticker->stops; ticker->turns++)
		fiber_yield();
	ticker->ended = true;
}

static unsigned turns_during(struct engine_rig *rig, uint64_t (*look)(struct vdisk *vdisk),
			     uint64_t expected)
{
	struct ticker ticker = {.task = {.run = tick}};

	fiber_spawn(rig->vdisk->reactor, FIBER_DATA, &ticker.task);
	fiber_yield();
	assert_int_equal(look(rig->vdisk), expected);
	ticker.stops = true;
	while (!ticker.ended)
		fiber_yield();
	return ticker.turns;
}

static uint64_t look_at_redundancy(struct vdisk *vdisk)
{
	struct vdisk_redundancy sum;

	vdisk_get_redundancy(vdisk, &sum);
	return sum.whole + sum.degraded + sum.lost;
}

static uint64_t look_for_what_is_to_be_sealed(struct vdisk *vdisk)
{
	return egroup_repair_waits_for_seal(vdisk->store);
}

/* Others get turns while all of very many files are looked at. */
static int many_files_are_looked_at(struct engine_rig *rig)
{
	struct egroup_store *store;
	static struct egroup_file *files[MANY_FILES];
	uint64_t bytes;

	begin(rig);
	store = rig->vdisk->store;
	bytes = look_at_redundancy(rig->vdisk);
	for (unsigned i = 0; i < MANY_FILES; i++) {
		files[i] = egroup_file_new(store, 1000000 + i);
		assert_non_null(files[i]);
		files[i]->copies =
			(struct pool_copies){.count = 1, .disks = {engine_rig_disk_id(rig, 0)}};
		files[i]->allocated_bytes = MIB;
		files[i]->busy = true;
	}
	assert_true(turns_during(rig, look_at_redundancy, bytes + MANY_FILES * MIB) >
		    MANY_FILES / 512);
	assert_true(turns_during(rig, look_for_what_is_to_be_sealed, 0) > MANY_FILES / 512);
	assert_true(turns_during(rig, vdisk_scrub_bytes, vdisk_scrub_bytes(rig->vdisk)) >=
		    MANY_FILES / 512);
	for (unsigned i = 0; i < MANY_FILES; i++)
		egroup_file_free(files[i]);
	return end(rig);
}

static void very_many_files(void **state)
{
	(void)state;
	run(1, 1, many_files_are_looked_at);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failed_disk_that_nothing_replaces),
		cmocka_unit_test(a_failed_disk_that_a_third_replaces),
		cmocka_unit_test(a_disk_is_drained),
		cmocka_unit_test(copies_count_until_they_are_moved),
		cmocka_unit_test(draining_waits_for_another_disk),
		cmocka_unit_test(a_copy_is_made_of_what_can_be_read),
		cmocka_unit_test(compaction_keeps_what_is_right_elsewhere),
		cmocka_unit_test(compaction_that_one_disk_does_not_sync),
		cmocka_unit_test(a_compaction_that_may_be_committed),
		cmocka_unit_test(a_new_copy_has_what_is_right_elsewhere),
		cmocka_unit_test(repair_waits_for_what_may_be_right),
		cmocka_unit_test(what_was_not_read_stands_for_nothing),
		cmocka_unit_test(more_copies_and_fewer),
		cmocka_unit_test(the_end_of_the_log_on_one_copy_of_two),
		cmocka_unit_test(a_copy_that_cannot_be_read_back),
		cmocka_unit_test(a_copy_that_another_disk_takes),
		cmocka_unit_test(repair_waits_for_the_right_copy),
		cmocka_unit_test(a_doubt_is_not_in_the_way),
		cmocka_unit_test(errors_of_a_disk_that_is_there_are_damage),
		cmocka_unit_test(a_repair_beside_a_guest),
		cmocka_unit_test(what_cannot_be_reached_is_not_damaged),
		cmocka_unit_test(a_scrub_beside_a_guest),
		cmocka_unit_test(very_many_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
