/* SPDX-License-Identifier: Apache-2.0 */
/* Reading ahead: pieces in order, each with what the copy has or with its error, and no more under
 * way than was asked for. On a vDisk's file with one copy, and with two, which is read another way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/reached.h"
#include "egroup/ahead.h"
#include "egroup/scan.h"
#include "egroup/store_priv.h"
#include "engine_rig.h"
#include "pool/pool_disk.h"
#include "pool/pool_priv.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES  (512 * MIB)
#define DISK_BYTES  (16 * MIB)
#define PIECE_BYTES MIB
#define SMALL       5u

static struct engine_rig rig_memory;

struct reading {
	struct ahead *ahead;
	struct egroup_file *file;
	struct ahead_options options;
	struct egroup_pace pace;
	unsigned most_busy; /* reads under way when it was asked whether to begin another */
	struct engine_rig *rig;
};

static unsigned busy(struct engine_rig *rig)
{
	struct pool_disk *disk;
	unsigned sum = 0;

	POOL_FOR_EACH_DISK(rig->pool, disk)
	sum += atomic_load(&disk->health.busy);
	return sum;
}

static void set_pace(void *arg, struct egroup_pace *pace)
{
	struct reading *reading = arg;

	reading->most_busy = MAX(reading->most_busy, busy(reading->rig));
	if (reading->pace.pieces)
		*pace = reading->pace;
}

static void write_all(struct engine_rig *rig)
{
	uint64_t *piece = aligned_alloc(4096, PIECE_BYTES);

	assert_non_null(piece);
	for (uint64_t at = 0; at < DISK_BYTES; at += PIECE_BYTES) {
		for (unsigned i = 0; i < PIECE_BYTES / sizeof(*piece); i++)
			piece[i] = at + i;
		assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, piece, PIECE_BYTES, at), 0);
	}
	free(piece);
}

/* The first file of the vDisk, sealed and open. */
static void begin(struct engine_rig *rig, struct reading *reading)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	write_all(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	*reading = (struct reading){.rig = rig};
	reading->file = LIST_ENTRY(list_front(&rig->vdisk->store->files), struct egroup_file, link);
	assert_int_equal(egroup_file_open(reading->file), 0);
	assert_int_equal(ahead_new(&reading->ahead), 0);
	reading->options = (struct ahead_options){
		.file = reading->file,
		.end = (uint32_t)(egroup_scan_bytes(reading->file) / BLOCK_BYTES),
		.pace = set_pace,
		.arg = reading,
	};
	assert_true(reading->options.end > AHEAD_PIECES * SMALL);
}

static int end(struct reading *reading)
{
	ahead_free(reading->ahead);
	egroup_file_unref(reading->file);
	assert_int_equal(engine_rig_close_vdisk(reading->rig), 0);
	engine_rig_stop(reading->rig);
	return 0;
}

static void expect_content(const struct reading *reading, const struct ahead_piece *piece)
{
	_cleanup_free_ char *block = aligned_alloc(4096, 4096);

	for (uint32_t i = 0; i < piece->blocks; i++) {
		assert_int_equal(pool_io_read_copy(egroup_file_handle(reading->file),
						   reading->options.copy, block, 4096,
						   (piece->first + i) * UINT64_C(4096)),
				 0);
		assert_memory_equal(piece->buffer + i * (size_t)4096, block, 4096);
	}
}

/* All of it; with `result` 0 it is compared. How many pieces. */
static unsigned read_all(struct reading *reading, int result)
{
	struct ahead_piece *piece;
	uint32_t next = reading->options.first;
	unsigned count = 0;

	reading->most_busy = 0;
	ahead_begin(reading->ahead, &reading->options);
	for (; (piece = ahead_next(reading->ahead)); count++) {
		assert_int_equal(piece->first, next);
		assert_int_equal(piece->result, result);
		next += piece->blocks;
		if (result == 0)
			expect_content(reading, piece);
		ahead_put(piece);
	}
	assert_int_equal(next, reading->options.end);
	ahead_settle(reading->ahead);
	assert_int_equal(busy(reading->rig), 0);
	return count;
}

static int reads(struct engine_rig *rig)
{
	struct reading reading;
	uint32_t blocks;

	begin(rig, &reading);
	blocks = reading.options.end;
	assert_int_equal(read_all(&reading, 0), (blocks + AHEAD_BLOCKS - 1) / AHEAD_BLOCKS);
	reading.pace = (struct egroup_pace){.blocks = SMALL, .pieces = AHEAD_PIECES};
	assert_int_equal(read_all(&reading, 0), (blocks + SMALL - 1) / SMALL);
	assert_in_range(reading.most_busy, 2, AHEAD_PIECES);
	reading.pace.pieces = 1;
	reading.options.first = 3;
	assert_int_equal(read_all(&reading, 0), (blocks - 3 + SMALL - 1) / SMALL);
	assert_in_range(reading.most_busy, 0, 1);
	return end(&reading);
}

static int fails(struct engine_rig *rig)
{
	const struct sim_faults faults = {.read_error_ppm = 1000000}, none = {0};
	struct reading reading;
	uint32_t size;

	begin(rig, &reading);
	/* The memory still has what is right. */
	(void)read_all(&reading, 0);
	for (unsigned i = 0; i < rig->disks; i++)
		sim_disk_set_faults(rig->sim.sim, engine_rig_disk(i), &faults);
	(void)read_all(&reading, -EIO);
	for (unsigned i = 0; i < rig->disks; i++)
		sim_disk_set_faults(rig->sim.sim, engine_rig_disk(i), &none);
	(void)read_all(&reading, 0);
	/* Behind the end of the file. */
	size = (uint32_t)(pool_file_size(egroup_file_handle(reading.file)) / BLOCK_BYTES);
	reading.options.first = size - 2;
	reading.options.end = size + 2 + SMALL;
	reading.pace = (struct egroup_pace){.blocks = SMALL, .pieces = 2};
	(void)read_all(&reading, -ENODATA);
	return end(&reading);
}

/* The disk with that file's first copy, which is read, begins to hang while pieces are under way.
 */
static void hang_first_disk(struct reading *reading, bool hangs)
{
	uint64_t disk = reading->file->copies.disks[0];

	sim_disk_set_hung(reading->rig->sim.sim, engine_rig_disk((unsigned)disk - 1), hangs);
}

/* Pieces have memory of their own again, which the disk does not write to when it returns. */
static unsigned read_from_a_hung_disk(struct reading *reading, unsigned *ret_without)
{
	struct ahead_piece *piece;
	unsigned count = 0;

	*ret_without = 0;
	ahead_begin(reading->ahead, &reading->options);
	for (; (piece = ahead_next(reading->ahead)); count++) {
		assert_int_equal(piece->result, piece->buffer ? -ETIMEDOUT : -ENOMEM);
		*ret_without += !piece->buffer;
		if (piece->buffer)
			memset(piece->buffer, 'p', (size_t)piece->blocks * BLOCK_BYTES);
		ahead_put(piece);
	}
	ahead_settle(reading->ahead);
	return count;
}

static int hangs(struct engine_rig *rig)
{
	struct reading reading;
	uint64_t left = reached_count("ahead.memory-left");
	unsigned without;

	begin(rig, &reading);
	reading.pace = (struct egroup_pace){.blocks = SMALL, .pieces = AHEAD_PIECES};
	for (unsigned i = 1; i <= 5; i++) {
		hang_first_disk(&reading, true);
		assert_true(read_from_a_hung_disk(&reading, &without) > AHEAD_PIECES);
		assert_int_equal(without, 0);
		assert_int_equal(reached_count("ahead.memory-left"), left + i * AHEAD_PIECES);
		/* All that it kept comes back. */
		hang_first_disk(&reading, false);
		fiber_sleep(NSEC_PER_SEC);
		(void)read_all(&reading, 0);
	}
	return end(&reading);
}

/* The next file whose first copy is on a disk that does not hang, unlike one more of the others. */
static bool turn_to_another_disk(struct reading *reading, const bool *hung)
{
	struct egroup_file *file;

	LIST_FOR_EACH (&reading->rig->vdisk->store->files, file, struct egroup_file, link) {
		if (hung[file->copies.disks[0]] || hung[file->copies.disks[1]] ||
		    !egroup_file_is_sealed(file))
			continue;
		egroup_file_unref(reading->file);
		assert_int_equal(egroup_file_open(file), 0);
		reading->file = reading->options.file = file;
		return true;
	}
	return false;
}

/* One disk after the other hangs for good: reading goes on as long as there are buffers, and says
 * so when there are none. */
static int runs_out(struct engine_rig *rig)
{
	bool hung[ENGINE_RIG_DISKS_MAX + 1] = {false};
	unsigned without = 0, disks = 0;
	struct reading reading;

	begin(rig, &reading);
	reading.pace = (struct egroup_pace){.blocks = SMALL, .pieces = AHEAD_PIECES};
	for (; without == 0; disks++) {
		assert_true(turn_to_another_disk(&reading, hung));
		reading.options.end = (uint32_t)(egroup_scan_bytes(reading.file) / BLOCK_BYTES);
		hang_first_disk(&reading, true);
		hung[reading.file->copies.disks[0]] = true;
		(void)read_from_a_hung_disk(&reading, &without);
	}
	assert_int_equal(disks, AHEAD_HELD_MAX / AHEAD_PIECES + 1);
	assert_true(reached_count("ahead.no-memory") > 0);
	for (unsigned i = 0; i < rig->disks; i++)
		sim_disk_set_hung(rig->sim.sim, engine_rig_disk(i), false);
	fiber_sleep(NSEC_PER_SEC);
	(void)read_all(&reading, 0);
	return end(&reading);
}

static void run(unsigned disks, unsigned copies, int (*fn)(struct engine_rig *rig))
{
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, disks, copies);
	engine_rig_call(&rig_memory, fn);
	engine_rig_done(&rig_memory);
}

static void pieces_come_in_order(void **state)
{
	(void)state;
	run(1, 1, reads);
	run(2, 2, reads);
}

static void pieces_tell_what_failed(void **state)
{
	(void)state;
	run(1, 1, fails);
	run(2, 2, fails);
}

static void a_disk_that_hangs_keeps_the_memory(void **state)
{
	(void)state;
	run(2, 2, hangs);
}

static void what_hanging_disks_keep_is_bounded(void **state)
{
	(void)state;
	run(8, 2, runs_out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_come_in_order),
		cmocka_unit_test(pieces_tell_what_failed),
		cmocka_unit_test(a_disk_that_hangs_keeps_the_memory),
		cmocka_unit_test(what_hanging_disks_keep_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
