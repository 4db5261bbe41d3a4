/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a row says of copies, and what is there, when something fails at the wrong moment: commits,
 * syncs, the power, reads while the log is replayed. test_copies.c has what repair does at all.
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

#include "egroup/repair.h"
#include "egroup/store_priv.h"
#include "engine_rig.h"
#include "pool/pool_disk.h"
#include "reactor/io.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES  (512 * MIB)
#define DISK_BYTES  (8 * MIB)
#define PIECE_BYTES MIB
#define PASSING_NS  (2400 * NSEC_PER_USEC) /* longer than reading a record is tried */

static struct engine_rig rig_memory;
static uint64_t delay_ns;

static void set_faults(struct engine_rig *rig, const char *disk, struct sim_faults faults)
{
	sim_disk_set_faults(rig->sim.sim, disk, &faults);
}

static int write_piece(struct engine_rig *rig, uint8_t byte, uint64_t at, size_t length)
{
	_cleanup_free_ char *piece = aligned_alloc(4096, length);
	int r;

	assert_non_null(piece);
	memset(piece, byte, length);
	r = block_io(rig->volume, BLOCK_WRITE, 0, piece, length, at);
	return r < 0 ? r : block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
}

/* A vDisk with everything written; all of it is sealed when it is opened again. */
static int make(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (uint64_t at = 0; at < DISK_BYTES; at += PIECE_BYTES)
		assert_int_equal(write_piece(rig, 0x5a, at, PIECE_BYTES), 0);
	return 0;
}

static void begin(struct engine_rig *rig)
{
	make(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
}

static int end(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static int verify(struct engine_rig *rig)
{
	_cleanup_free_ char *piece = aligned_alloc(4096, PIECE_BYTES);

	assert_non_null(piece);
	for (uint64_t at = 0; at < DISK_BYTES; at += PIECE_BYTES) {
		assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, piece, PIECE_BYTES, at), 0);
		assert_int_equal(piece[0], 0x5a);
		assert_memory_equal(piece, piece + 1, PIECE_BYTES - 1);
	}
	return 0;
}

static struct vdisk_redundancy redundancy(struct engine_rig *rig)
{
	struct vdisk_redundancy sum;

	vdisk_get_redundancy(rig->vdisk, &sum);
	return sum;
}

static void start_seed(uint64_t seed, unsigned disks, unsigned factor)
{
	engine_rig_init(&rig_memory, seed, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, disks, factor);
}

static void start(unsigned disks, unsigned factor)
{
	start_seed(1, disks, factor);
}

static void run(unsigned disks, unsigned factor, int (*fn)(struct engine_rig *rig))
{
	start(disks, factor);
	engine_rig_call(&rig_memory, fn);
	engine_rig_done(&rig_memory);
}

static int drain_first(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};

	begin(rig);
	assert_int_equal(pool_disk_set_draining(rig->pool, engine_rig_disk_id(rig, 0), true), 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(repair.copied_bytes > 0);
	assert_int_equal(redundancy(rig).leaving, 0);
	return 0;
}

static int verify_and_end(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_open_again(rig), 0);
	verify(rig);
	return end(rig);
}

/* The power goes when a row names the only copy, which was just made. */
static void what_was_moved_is_durable(void **state)
{
	(void)state;
	start(2, 1);
	engine_rig_call(&rig_memory, drain_first);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	engine_rig_call(&rig_memory, verify_and_end);
	engine_rig_done(&rig_memory);
}

static bool break_catalog(void *arg, uint64_t copied_bytes)
{
	struct engine_rig *rig = arg;

	(void)copied_bytes;
	set_faults(rig, ENGINE_RIG_DISK, (struct sim_faults){.write_error_ppm = 1000000});
	return true;
}

/* What the row may not say does not count, though it is there. */
static int the_commit_fails(struct engine_rig *rig)
{
	struct vdisk_repair first = {.progress = break_catalog, .arg = rig}, then = {0};
	uint64_t to_copy;

	begin(rig);
	vdisk_set_factor(rig->vdisk, 2);
	to_copy = redundancy(rig).to_copy;
	assert_true(to_copy > 0);
	assert_true(vdisk_repair(rig->vdisk, &first) < 0);
	assert_true(first.copied_bytes > 0);
	assert_int_equal(redundancy(rig).to_copy, to_copy);
	set_faults(rig, ENGINE_RIG_DISK, (struct sim_faults){0});
	fiber_sleep(120 * NSEC_PER_SEC); /* files are no more left alone */
	assert_int_equal(vdisk_repair(rig->vdisk, &then), 0);
	assert_int_equal(redundancy(rig).to_copy + redundancy(rig).degraded, 0);
	verify(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(redundancy(rig).to_copy + redundancy(rig).degraded, 0);
	verify(rig);
	return end(rig);
}

static void a_row_that_cannot_be_written(void **state)
{
	(void)state;
	run(2, 1, the_commit_fails);
}

/* Of the sealed files, those that have a copy on that disk; each shall need what `need` says. */
static unsigned expect_need(struct engine_rig *rig, uint64_t disk, unsigned away, unsigned make)
{
	struct egroup_file *file;
	unsigned count = 0;

	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link) {
		struct egroup_need need;

		for (unsigned i = 0; i < file->copies.count; i++) {
			if (file->copies.disks[i] != disk || !egroup_file_is_sealed(file) ||
			    file->copies.stale)
				continue;
			egroup_file_need(file, &need);
			assert_int_equal(need.away, away);
			assert_int_equal(need.make, make);
			count++;
		}
	}
	return count;
}

/* A disk that is missing comes back, so nothing is copied; given up, it is replaced. */
static int a_disk_goes_missing(struct engine_rig *rig)
{
	uint64_t disk;

	begin(rig);
	disk = engine_rig_disk_id(rig, 1);
	assert_true(expect_need(rig, disk, 0, 0) > 0);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), true);
	for (unsigned i = 0; pool_disk_state(rig->pool, disk) != POOL_DISK_MISSING; i++) {
		assert_true(i < 10);
		verify(rig);
		assert_int_equal(write_piece(rig, 0x5a, 0, 4096), 0);
		fiber_sleep(NSEC_PER_SEC);
	}
	assert_true(expect_need(rig, disk, 1, 0) > 0);
	assert_int_equal(pool_disk_fail(rig->pool, disk), 0);
	assert_true(expect_need(rig, disk, 0, 1) > 0);
	return end(rig);
}

static void copies_on_a_missing_disk_count(void **state)
{
	(void)state;
	run(3, 2, a_disk_goes_missing);
}

/* What has two copies left of three is not urgent. */
static int two_are_left(struct engine_rig *rig)
{
	struct vdisk_repair urgent = {.urgent = true}, repair = {0};

	begin(rig);
	assert_int_equal(pool_disk_fail(rig->pool, engine_rig_disk_id(rig, 1)), 0);
	assert_true(redundancy(rig).to_copy > 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &urgent), 0);
	assert_int_equal(urgent.copied_bytes, 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_true(repair.copied_bytes > 0);
	assert_int_equal(redundancy(rig).to_copy, 0);
	return end(rig);
}

static void urgent_is_what_has_one_copy_left(void **state)
{
	(void)state;
	run(4, 3, two_are_left);
}

struct trimming {
	struct fiber_task task;
	struct egroup *group;
	bool begun, ended;
	int result;
};

static void trim_one(struct fiber_task *task)
{
	struct trimming *trimming = CONTAINER_OF(task, struct trimming, task);

	trimming->begun = true;
	trimming->result = egroup_trim(trimming->group);
	trimming->ended = true;
}

static bool repair_takes(struct engine_rig *rig, const struct egroup_file *wanted)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;
	bool found = false;

	egroup_cursor_init(&cursor, rig->vdisk->store, 0);
	while ((file = egroup_repair_next(&cursor, POOL_COPIES_MAX)))
		found = found || file == wanted;
	egroup_cursor_done(&cursor);
	return found;
}

/* Both write the file's row, from what memory says of it: one after the other. */
static int repair_beside_a_trim(struct engine_rig *rig)
{
	struct trimming trimming = {.task.run = trim_one};
	struct vdisk_repair repair = {0};
	struct egroup_file *file;

	begin(rig);
	vdisk_set_factor(rig->vdisk, 2);
	fiber_sleep(20 * NSEC_PER_SEC); /* nothing else is under way */
	file = LIST_ENTRY(list_front(&rig->vdisk->store->files), struct egroup_file, link);
	assert_true(!file->compacted && file->group_count == 1 && repair_takes(rig, file));
	file->allocated_bytes += 4096; /* as the row says, where the power took the cutting's end */
	trimming.group = LIST_ENTRY(list_front(&file->groups), struct egroup, link);
	fiber_spawn(reactor_current(), FIBER_RECLAIM, &trimming.task);
	for (unsigned turns = 0; !trimming.ended; turns += trimming.begun) {
		assert_true(!trimming.begun || !repair_takes(rig, file));
		fiber_yield();
		assert_true(turns > 0 || !trimming.ended); /* it was met in the middle */
	}
	assert_int_equal(trimming.result, 0);
	assert_true(repair_takes(rig, file));
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	assert_int_equal(redundancy(rig).to_copy + redundancy(rig).degraded, 0);
	verify(rig);
	return end(rig);
}

static void a_trim_under_way_is_waited_for(void **state)
{
	(void)state;
	run(2, 1, repair_beside_a_trim);
}

struct scrubbing {
	struct fiber_task task;
	struct vdisk *vdisk;
	bool ended;
	int result;
};

static void scrub_all(struct fiber_task *task)
{
	struct scrubbing *scrubbing = CONTAINER_OF(task, struct scrubbing, task);
	struct vdisk_scrub scrub = {0};

	scrubbing->result = vdisk_scrub(scrubbing->vdisk, &scrub);
	scrubbing->ended = true;
}

/* Nobody else begins with a file that a scrub has chosen, and opens. */
static int others_beside_a_scrub(struct engine_rig *rig)
{
	struct scrubbing scrubbing = {.task.run = scrub_all};
	unsigned opening = 0;

	begin(rig);
	fiber_sleep(20 * NSEC_PER_SEC);
	scrubbing.vdisk = rig->vdisk;
	fiber_spawn(reactor_current(), FIBER_RECLAIM, &scrubbing.task);
	while (!scrubbing.ended) {
		struct egroup_file *file;

		LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link) {
			assert_true(!file->opening || file->busy);
			opening += file->opening;
		}
		fiber_yield();
	}
	assert_int_equal(scrubbing.result, 0);
	assert_true(opening > 0);
	return end(rig);
}

static void a_file_is_scrubbed_alone(void **state)
{
	(void)state;
	run(2, 1, others_beside_a_scrub);
}

static int flush_beside_failing_syncs(struct engine_rig *rig)
{
	make(rig);
	set_faults(rig, engine_rig_disk(1), (struct sim_faults){.sync_error_ppm = 1000000});
	assert_int_equal(write_piece(rig, 0x5a, 0, 4096), 0);
	set_faults(rig, engine_rig_disk(1), (struct sim_faults){0});
	return 0;
}

static int expect_stale(struct engine_rig *rig)
{
	struct egroup_file *file;
	unsigned stale = 0;

	assert_int_equal(engine_rig_open_again(rig), 0);
	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		for (unsigned i = 0; i < file->copies.count; i++)
			if (file->copies.stale >> i & 1) {
				assert_int_equal(file->copies.disks[i], engine_rig_disk_id(rig, 1));
				stale++;
			}
	assert_true(stale > 0);
	verify(rig);
	return end(rig);
}

/* A flush that one copy alone has is answered when the row says so. */
static void a_flush_of_one_copy(void **state)
{
	(void)state;
	start(2, 2);
	engine_rig_call(&rig_memory, flush_beside_failing_syncs);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	engine_rig_call(&rig_memory, expect_stale);
	engine_rig_done(&rig_memory);
}

static void pass_by(struct fiber_task *task)
{
	fiber_sleep(delay_ns);
	set_faults(&rig_memory, engine_rig_disk(0), (struct sim_faults){.read_error_ppm = 1000000});
	fiber_sleep(PASSING_NS);
	set_faults(&rig_memory, engine_rig_disk(0), (struct sim_faults){0});
	free(task);
}

/* Reads fail for a while, from `delay_ns` on, while the vDisk is opened. */
static int open_beside_errors(struct engine_rig *rig)
{
	struct fiber_task *task = calloc(1, sizeof(*task));
	int r;

	assert_non_null(task);
	task->run = pass_by;
	assert_int_equal(engine_rig_start(rig), 0);
	fiber_spawn(reactor_current(), FIBER_CONTROL, task);
	r = engine_rig_open_vdisk(rig);
	if (r < 0) {
		assert_int_equal(r, -EIO);
		fiber_sleep(NSEC_PER_SEC);
		assert_int_equal(engine_rig_open_vdisk(rig), 0);
	}
	fiber_sleep(NSEC_PER_SEC);
	verify(rig);
	assert_int_equal(end(rig), 0);
	return r;
}

/* They may make opening fail; what was flushed is there in any case. */
static void errors_that_pass_while_the_log_is_read(void **state)
{
	unsigned failed = 0, opened = 0;

	(void)state;
	for (delay_ns = 0; delay_ns < 10 * NSEC_PER_MSEC; delay_ns += 400 * NSEC_PER_USEC) {
		start(1, 1);
		engine_rig_call(&rig_memory, make);
		engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
		if (engine_rig_call(&rig_memory, open_beside_errors) < 0)
			failed++;
		else
			opened++;
		engine_rig_done(&rig_memory);
	}
	assert_true(failed > 0 && opened > 0);
}

/* What one disk has of it after the power went the other need not have. */
static int write_unflushed(struct engine_rig *rig)
{
	_cleanup_free_ char *piece = aligned_alloc(4096, PIECE_BYTES);

	assert_non_null(piece);
	make(rig);
	memset(piece, 0x5a, PIECE_BYTES);
	for (uint64_t at = 0; at < DISK_BYTES; at += PIECE_BYTES / 8)
		assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, piece, PIECE_BYTES / 8, at),
				 0);
	return 0;
}

/* All files are sealed, and every copy of them has what the others have. */
static int expect_equal(struct engine_rig *rig)
{
	struct vdisk_scrub scrub = {0};

	assert_int_equal(engine_rig_open_again(rig), 0);
	verify(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(vdisk_scrub(rig->vdisk, &scrub), 0);
	assert_true(scrub.bytes > DISK_BYTES);
	assert_int_equal(scrub.put_right + scrub.left + scrub.damaged, 0);
	return end(rig);
}

static void recovery_makes_copies_equal(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		start_seed(seed, 2, 2);
		engine_rig_call(&rig_memory, write_unflushed);
		engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
		engine_rig_call(&rig_memory, expect_equal);
		engine_rig_done(&rig_memory);
	}
}

/* One bit in each file of the disk that reaches that far. */
static int flip_files(struct engine_rig *rig)
{
	unsigned flips = 0;
	char path[160];

	for (unsigned folder = 0; folder < 256; folder++) {
		struct world_names names;
		size_t length = (size_t)snprintf(path, sizeof(path), "%s/groups/%02x",
						 engine_rig_directory(0, 0), folder);

		if (io_directory_list(path, &names) < 0)
			continue;
		for (size_t i = 0; i < names.count; i++) {
			snprintf(path + length, sizeof(path) - length, "/%s", names.names[i]);
			flips += sim_disk_flip(rig->sim.sim, path, PIECE_BYTES / 2 + 99, 3) == 0;
		}
		world_names_free(&names);
	}
	assert_true(flips > 0);
	return 0;
}

/* What the first copy of the log has wrong the other has right, up to the end. */
static void recovery_reads_all_copies(void **state)
{
	(void)state;
	start(2, 2);
	engine_rig_call(&rig_memory, make);
	engine_rig_crash(&rig_memory, SIM_CRASH_POWER);
	engine_rig_call(&rig_memory, flip_files);
	engine_rig_call(&rig_memory, expect_equal);
	engine_rig_done(&rig_memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_moved_is_durable),
		cmocka_unit_test(a_row_that_cannot_be_written),
		cmocka_unit_test(copies_on_a_missing_disk_count),
		cmocka_unit_test(urgent_is_what_has_one_copy_left),
		cmocka_unit_test(a_trim_under_way_is_waited_for),
		cmocka_unit_test(a_file_is_scrubbed_alone),
		cmocka_unit_test(a_flush_of_one_copy),
		cmocka_unit_test(recovery_makes_copies_equal),
		cmocka_unit_test(recovery_reads_all_copies),
		cmocka_unit_test(errors_that_pass_while_the_log_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
