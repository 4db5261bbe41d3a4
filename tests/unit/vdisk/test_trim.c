/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The size of a file and what its row says of it, when a crash or a failure comes between trimming
 * and telling: they are the same again soon after, without fsck, and so is what counts as used.
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

#include "egroup/store_priv.h"
#include "engine_rig.h"
#include "pool/pool_disk.h"
#include "reactor/io.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES (512 * MIB)
#define DISK_BYTES (8 * MIB)
#define DATA_BYTES MIB
#define DISKS      2u
#define IDLE_NS    (20 * NSEC_PER_SEC)
#define RETRY_NS   (120 * NSEC_PER_SEC) /* a file that could not be trimmed is left alone as long */
#define STEPS_MAX  1000u

static struct engine_rig rig_memory;

static char *data_new(uint8_t byte)
{
	char *data = aligned_alloc(4096, DATA_BYTES);

	assert_non_null(data);
	memset(data, byte, DATA_BYTES);
	return data;
}

static int write_at(struct engine_rig *rig, uint64_t at, size_t length)
{
	_cleanup_free_ char *data = data_new(0x5a);
	int r = block_io(rig->volume, BLOCK_WRITE, 0, data, length, at);

	return r < 0 ? r : block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
}

static int write_data(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_bring_up(rig), 0);
	return write_at(rig, 0, DATA_BYTES);
}

static void verify(struct engine_rig *rig)
{
	_cleanup_free_ char *data = data_new(0);

	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, data, DATA_BYTES, 0), 0);
	assert_int_equal(data[0], 0x5a);
	assert_memory_equal(data, data + 1, DATA_BYTES - 1);
}

/* Which of the rig's disks has that copy. */
static unsigned number_of(struct engine_rig *rig, uint64_t disk)
{
	for (unsigned i = 0; i < DISKS; i++) {
		uint64_t id;

		if (pool_disk_find(rig->pool, engine_rig_directory(i, 0), &id) == 0 && id == disk)
			return i;
	}
	fail();
	return 0;
}

static void path_of(struct engine_rig *rig, const struct egroup_file *file, unsigned copy,
		    char ret_path[256])
{
	snprintf(ret_path, 256, "%s/groups/%02x/%016" PRIx64 ".eg",
		 engine_rig_directory(number_of(rig, file->copies.disks[copy]), 0),
		 (unsigned)(file->id & 0xff), file->id);
}

/* How many copies of files differ from their rows in size; and what all take. Stale ones are as
 * they were until repair replaces them. */
static unsigned count_apart(struct engine_rig *rig, uint64_t *ret_bytes)
{
	struct egroup_file *file;
	unsigned apart = 0;

	*ret_bytes = 0;
	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		for (unsigned i = 0; i < file->copies.count; i++) {
			struct world_stat stat;
			char path[256];

			path_of(rig, file, i, path);
			assert_int_equal(io_stat(path, &stat), 0);
			if (file->copies.stale >> i & 1)
				stat.size_bytes = file->allocated_bytes;
			apart += stat.size_bytes != file->allocated_bytes;
			*ret_bytes += stat.size_bytes;
		}
	return apart;
}

/* What is sealed is never larger than its row says: that would take room which nobody counts. Files
 * may go while others are looked at. */
static void expect_counted(struct engine_rig *rig)
{
	struct {
		char path[256];
		uint64_t bytes;
	} copies[64];
	struct egroup_file *file;
	unsigned count = 0;

	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		for (unsigned i = 0; egroup_file_is_sealed(file) && i < file->copies.count; i++) {
			assert_true(count < ARRAY_SIZE(copies));
			path_of(rig, file, i, copies[count].path);
			copies[count++].bytes = file->allocated_bytes;
		}
	for (unsigned i = 0; i < count; i++) {
		struct world_stat stat;

		if (io_stat(copies[i].path, &stat) == 0)
			assert_true(stat.size_bytes <= copies[i].bytes);
	}
}

static int open_counted(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_open_again(rig), 0);
	expect_counted(rig);
	return 0;
}

static bool any_stale(struct engine_rig *rig)
{
	struct egroup_file *file;

	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		if (file->copies.stale)
			return true;
	return false;
}

static void expect_together(struct engine_rig *rig)
{
	struct pool_space space;
	uint64_t bytes;

	assert_int_equal(count_apart(rig, &bytes), 0);
	pool_get_space(rig->pool, &space);
	assert_true(any_stale(rig) || space.used == bytes);
	pool_check(rig->pool);
}

static int idle(struct engine_rig *rig)
{
	(void)rig;
	fiber_sleep(IDLE_NS);
	return 0;
}

static void settle_once(struct engine_rig *rig)
{
	if (!rig->vdisk)
		assert_int_equal(engine_rig_open_again(rig), 0);
	fiber_sleep(RETRY_NS);
	verify(rig);
	/* What there is to reclaim is looked for when something was written. */
	assert_int_equal(write_at(rig, DATA_BYTES, 4096), 0);
	fiber_sleep(IDLE_NS);
	expect_together(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
}

/* In memory, and as the rows are found at the next start. */
static int settle(struct engine_rig *rig)
{
	settle_once(rig);
	settle_once(rig);
	return 0;
}

static void start(unsigned n)
{
	engine_rig_init(&rig_memory, n, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, DISKS, DISKS);
	rig_memory.vdisk_bytes = DISK_BYTES;
	assert_int_equal(engine_rig_call(&rig_memory, write_data), 0);
}

/* From when it becomes idle on: the group is sealed, folded, trimmed. */
static void crash_at_each(enum sim_crash kind)
{
	bool crashed = true;
	unsigned n;

	for (n = 1; crashed && n < STEPS_MAX; n++) {
		start(n);
		sim_crash_nth(rig_memory.sim.sim, n, kind);
		engine_rig_call(&rig_memory, idle);
		sim_crash_nth(rig_memory.sim.sim, 0, kind);
		crashed = sim_is_dead(rig_memory.sim.sim);
		if (crashed) {
			engine_rig_crashed(&rig_memory);
			engine_rig_call(&rig_memory, open_counted);
		}
		engine_rig_call(&rig_memory, settle);
		engine_rig_done(&rig_memory);
	}
	assert_true(n > 20 && n < STEPS_MAX);
}

static void the_process_dies(void **state)
{
	(void)state;
	crash_at_each(SIM_CRASH_PROCESS);
}

static void the_power_fails(void **state)
{
	(void)state;
	crash_at_each(SIM_CRASH_POWER);
}

static void an_operation_fails(void **state)
{
	bool hit = true;
	unsigned n;

	(void)state;
	for (n = 1; hit && n < STEPS_MAX; n++) {
		start(n);
		sim_fail_nth(rig_memory.sim.sim, n, -EIO);
		engine_rig_call(&rig_memory, idle);
		hit = sim_fault_hit(rig_memory.sim.sim);
		sim_fail_nth(rig_memory.sim.sim, 0, 0);
		engine_rig_call(&rig_memory, settle);
		engine_rig_done(&rig_memory);
	}
	assert_true(n > 20 && n < STEPS_MAX);
}

/* The power may leave what was cut before, of a copy or of all; what is too short is no matter
 * where nothing was written. */
static int64_t resize_by;
static unsigned resize_copies;

static int resize_files(struct engine_rig *rig)
{
	struct egroup_file *file;
	uint64_t bytes;

	fiber_sleep(IDLE_NS);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		for (unsigned i = 0; i < resize_copies; i++) {
			uint64_t size = (uint64_t)((int64_t)file->allocated_bytes + resize_by);
			struct world_file *handle;
			char path[256];

			path_of(rig, file, i, path);
			assert_int_equal(io_open(path, 0, &handle), 0);
			assert_int_equal(io_resize(handle, size, WORLD_RESIZE_TRUNCATE), 0);
			assert_int_equal(io_close(handle), 0);
		}
	assert_true(count_apart(rig, &bytes) > 0);
	return 0;
}

static void resized(int64_t by, unsigned copies)
{
	resize_by = by;
	resize_copies = copies;
	start(1);
	engine_rig_call(&rig_memory, resize_files);
	engine_rig_crash(&rig_memory, SIM_CRASH_PROCESS);
	engine_rig_call(&rig_memory, settle);
	engine_rig_done(&rig_memory);
}

static void files_are_larger_than_their_rows_say(void **state)
{
	(void)state;
	resized(4096, 1);
	resized(4096, DISKS);
	resized(MIB, 1);
	resized(MIB, DISKS);
}

static int silence(void **state)
{
	(void)state;
	sim_rig_silence_log();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_process_dies),
		cmocka_unit_test(the_power_fails),
		cmocka_unit_test(an_operation_fails),
		cmocka_unit_test(files_are_larger_than_their_rows_say),
	};

	return cmocka_run_group_tests(tests, silence, NULL);
}
