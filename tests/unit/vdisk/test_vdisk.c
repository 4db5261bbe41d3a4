/* SPDX-License-Identifier: Apache-2.0 */
/* The main paths of a vDisk in the simulated world; tests/sim/ goes at it at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/reached.h"
#include "egroup/store.h"
#include "pool/container.h"
#include "pool/pool_quota.h"
#include "engine_rig.h"

#define SIZE (256 * MIB)

static void *pages(size_t bytes, unsigned char fill)
{
	void *memory = aligned_alloc(4096, bytes);

	assert_non_null(memory);
	memset(memory, fill, bytes);
	return memory;
}

static int bring_up(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "disk", SIZE), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	return 0;
}

static int shut_down(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static void expect(struct engine_rig *rig, uint64_t offset, size_t length, unsigned char value)
{
	unsigned char *buffer = pages(ALIGN_UP(length, 4096ul), 0xEE);

	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, buffer, length, offset), 0);
	for (size_t i = 0; i < length; i++)
		if (buffer[i] != value)
			fail_msg("offset %zu: %#x, not %#x", (size_t)offset + i, buffer[i], value);
	free(buffer);
}

static void put(struct engine_rig *rig, uint64_t offset, size_t length, unsigned char value)
{
	void *buffer = pages(ALIGN_UP(length, 4096ul), value);

	assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, buffer, length, offset), 0);
	free(buffer);
}

static int write_and_read(struct engine_rig *rig)
{
	bring_up(rig);
	expect(rig, 0, 4096, 0);
	put(rig, 0, 4096, 1);
	put(rig, 8192, 1 * MIB, 2);
	expect(rig, 0, 4096, 1);
	expect(rig, 4096, 4096, 0);
	expect(rig, 8192, 1 * MIB, 2);
	put(rig, 512, 512, 3);
	expect(rig, 0, 512, 1);
	expect(rig, 512, 512, 3);
	expect(rig, 1024, 3072, 1);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	expect(rig, 512, 512, 3);
	expect(rig, 8192, 1 * MIB, 2);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 512 * KIB, 16 * KIB + 512), 0);
	expect(rig, 16 * KIB + 512, 512 * KIB, 0);
	expect(rig, 16 * KIB, 512, 2);
	return shut_down(rig);
}

static int survives_restart(struct engine_rig *rig)
{
	struct vdisk_check_report report;

	bring_up(rig);
	for (unsigned i = 0; i < 64; i++)
		put(rig, i * 3 * MIB, 128 * KIB, (unsigned char)(i + 1));
	shut_down(rig);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (unsigned i = 0; i < 64; i++) {
		expect(rig, i * 3 * MIB, 128 * KIB, (unsigned char)(i + 1));
		expect(rig, i * 3 * MIB + 128 * KIB, 4096, 0);
	}
	assert_int_equal(vdisk_check(rig->vdisk, true, NULL, NULL, &report), 0);
	assert_int_equal(report.blocks, 64 * 32);
	assert_int_equal(report.bad_blocks + report.bad_pages, 0);
	assert_int_equal(report.missing_live_blocks + report.leaked_blocks, 0);
	return shut_down(rig);
}

static int write_much(struct engine_rig *rig)
{
	bring_up(rig);
	for (unsigned i = 0; i < 200; i++)
		put(rig, (i * 7 % 250) * MIB, 64 * KIB, (unsigned char)(i + 1));
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	return 0;
}

static int read_much(struct engine_rig *rig)
{
	struct vdisk_check_report report;

	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (unsigned i = 0; i < 200; i++)
		expect(rig, (i * 7 % 250) * MIB, 64 * KIB, (unsigned char)(i + 1));
	assert_int_equal(vdisk_check(rig->vdisk, true, NULL, NULL, &report), 0);
	assert_int_equal(report.missing_live_blocks + report.leaked_blocks, 0);
	return shut_down(rig);
}

static int overwrite_for_long(struct engine_rig *rig)
{
	struct vdisk_check_report report;
	struct vdisk_stats stats;

	bring_up(rig);
	/* 200 MiB in a pool of 512 MiB, three times over, at random places. */
	for (uint64_t i = 0; i < 9600; i++)
		put(rig, i * 7919 % 3200 * 64 * KIB, 64 * KIB, (unsigned char)(i / 3200 + 1));
	vdisk_get_stats(rig->vdisk, &stats);
	assert_true(stats.checkpoints > 0);
	for (uint64_t i = 0; i < 3200; i += 13)
		expect(rig, i * 64 * KIB, 64 * KIB, 3);
	assert_int_equal(vdisk_check(rig->vdisk, false, NULL, NULL, &report), 0);
	assert_int_equal(report.missing_live_blocks + report.leaked_blocks, 0);
	return shut_down(rig);
}

/* Stops what it watches after so many calls. */
static bool count_down(void *arg, uint64_t bytes_done, uint64_t bytes_total)
{
	unsigned *left = arg;

	assert_true(bytes_done <= bytes_total && *left > 0);
	return --*left > 0;
}

static int delete_it(struct engine_rig *rig)
{
	struct vdisk_check_report report;
	struct pool_space space;
	unsigned calls = 3;

	bring_up(rig);
	for (unsigned i = 0; i < 100; i++)
		put(rig, i * MIB, 1 * MIB, 1);
	assert_int_equal(vdisk_check(rig->vdisk, true, count_down, &calls, &report), -ECANCELED);
	assert_int_equal(calls, 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	/* Stopped, then called again. */
	calls = 1;
	assert_int_equal(vdisk_delete(rig->pool, rig->vdisk_id, count_down, &calls), -ECANCELED);
	assert_int_equal(vdisk_delete(rig->pool, rig->vdisk_id, NULL, NULL), 0);
	pool_get_space(rig->pool, &space);
	assert_int_equal(space.used, 0);
	assert_int_equal(space.live, 0);
	assert_int_equal(engine_rig_open_vdisk(rig), -ENOENT);
	engine_rig_stop(rig);
	return 0;
}

#define MORE_FILES 600u

/* Rows alone. */
static void name_files(struct engine_rig *rig)
{
	const struct catalog_key prefix =
		egroup_prefix(CATALOG_EGFILE, pool_id(rig->pool), rig->vdisk_id);

	for (unsigned i = 0; i < MORE_FILES; i++) {
		const struct egroup_file file = {.id = 1000000 + i,
						 .allocated_bytes = 4096,
						 .copies = {.count = 1, .disks = {1}}};
		uint8_t value[EGROUP_ROW_BYTES];
		struct catalog_change change = {.kind = CATALOG_PUT,
						.key = prefix,
						.value = value,
						.length = sizeof(value)};

		egroup_file_row(&file, value);
		catalog_key_add(&change.key, file.id);
		assert_int_equal(catalog_commit(rig->catalog, &change, 1), 0);
	}
}

static bool note_progress(void *arg, uint64_t bytes_done, uint64_t bytes_total)
{
	uint64_t *progress = arg;

	progress[0] = bytes_done;
	progress[1] = bytes_total;
	return true;
}

static int delete_many(struct engine_rig *rig)
{
	uint64_t progress[2];

	bring_up(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	name_files(rig);
	assert_int_equal(vdisk_delete(rig->pool, rig->vdisk_id, note_progress, progress), 0);
	assert_true(progress[0] >= MORE_FILES * UINT64_C(4096) && progress[0] == progress[1]);
	engine_rig_stop(rig);
	return 0;
}

/* Whole MiB. */
static int try_put(struct engine_rig *rig, uint64_t offset, size_t length)
{
	void *buffer = pages(MIB, 7);
	int r = 0;

	for (uint64_t end = offset + length; r == 0 && offset < end; offset += MIB)
		r = block_io(rig->volume, BLOCK_WRITE, 0, buffer, MIB, offset);
	free(buffer);
	return r;
}

static struct pool_quota_info quota(struct engine_rig *rig)
{
	struct pool_quota_info info;

	assert_int_equal(pool_quota_get(rig->pool, rig->container_id, &info), 0);
	return info;
}

/* Writes beyond the capacity fail, like in a full pool; overwriting and unmapping go on. */
static int fill_container(struct engine_rig *rig)
{
	unsigned written = 0;

	bring_up(rig);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY, 32 * MIB);
	while (written < 64 && try_put(rig, written * MIB, MIB) == 0)
		written++;
	assert_in_range(written, 30, 32); /* the map takes some */
	assert_int_equal(try_put(rig, 100 * MIB, MIB), -ENOSPC);
	expect(rig, 0, MIB, 7); /* and its map is in memory: it is known not to grow */
	assert_int_equal(try_put(rig, 0, MIB), 0);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 8 * MIB, 0), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	assert_int_equal(try_put(rig, 100 * MIB, 4 * MIB), 0);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY, 100 * MIB);
	assert_int_equal(try_put(rig, 110 * MIB, 30 * MIB), 0);
	/* As after a restart. */
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(quota(rig).taken, 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_in_range(quota(rig).taken, 50 * MIB, 66 * MIB);
	assert_int_equal(try_put(rig, 150 * MIB, 60 * MIB), -ENOSPC);
	return shut_down(rig);
}

/* What is overwritten at the limit of the only tier finds room, for less may be live than its files
 * may take. */
static int fill_tier(struct engine_rig *rig)
{
	unsigned written = 0;

	bring_up(rig);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY_SSD, 64 * MIB);
	while (written < 100 && try_put(rig, written * MIB, MIB) == 0)
		written++;
	assert_in_range(written, 50, 54);      /* 91 % of 60 MiB, less the map */
	for (unsigned i = 0; i < written; i++) /* with its map in memory it is known not to grow */
		expect(rig, i * MIB, MIB, 7);
	for (unsigned round = 0; round < 4; round++)
		for (unsigned i = 0; i < written; i++)
			assert_int_equal(try_put(rig, (uint64_t)(i * 7 % written) * MIB, MIB), 0);
	/* In pieces, so that no group is wholly dead. */
	for (unsigned i = 0; i < 16 * written; i++)
		put(rig, (uint64_t)(i * 37 % (16 * written)) * (64 * KIB), 64 * KIB, 9);
	assert_int_equal(try_put(rig, 100 * MIB, MIB), -ENOSPC);
	expect(rig, 0, MIB, 9);
	/* Pages of the map and compaction may go beyond it, by little. */
	assert_in_range(quota(rig).tiers[POLICY_SSD].used, 50 * MIB, 68 * MIB);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 8 * MIB, 0), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	assert_int_equal(try_put(rig, 100 * MIB, 4 * MIB), 0);
	/* Below use: writes end, unmapping and reading do not. */
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY_SSD, 0);
	assert_int_equal(try_put(rig, 0, 32 * MIB), -ENOSPC);
	assert_true(quota(rig).tiers[POLICY_SSD].at_max || quota(rig).capacity == 0);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 64 * MIB, 16 * MIB), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	expect(rig, 10 * MIB, MIB, 9);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY_SSD, POLICY_NONE);
	assert_int_equal(try_put(rig, 0, 32 * MIB), 0);
	return shut_down(rig);
}

#define MANY 300

struct many {
	struct block_request requests[MANY];
	unsigned left;
	int result;
	struct fiber *fiber;
};
static struct many many;

static void one_done(struct block_request *request, int result)
{
	(void)request;
	if (result < 0)
		many.result = result;
	if (--many.left == 0)
		fiber_wake(many.fiber);
}

static void submit_many(struct engine_rig *rig, enum block_op op)
{
	memset(&many, 0, sizeof(many));
	many.left = MANY;
	many.fiber = fiber_current();
	for (unsigned i = 0; i < MANY; i++) {
		many.requests[i].op = op;
		many.requests[i].offset = i * 4096ul;
		many.requests[i].length = 4096;
		many.requests[i].done = one_done;
		block_submit(rig->volume, &many.requests[i]);
	}
	while (many.left > 0)
		fiber_suspend();
	assert_int_equal(many.result, 0);
}

/* Zeroes that continue each other share one extent of a record, which so has no end of its own. */
static int many_at_once(struct engine_rig *rig)
{
	bring_up(rig);
	put(rig, 0, 1 * MIB, 7);
	put(rig, MANY * 4096, 4096, 8);
	submit_many(rig, BLOCK_UNMAP);
	expect(rig, 0, 1 * MIB, 0);
	expect(rig, MANY * 4096, 4096, 8);
	submit_many(rig, BLOCK_WRITE_ZEROES);
	expect(rig, MANY * 4096, 4096, 8);
	return shut_down(rig);
}

/* Writes again what it has written, until the end of the volume is before it. */
static void write_again(struct block_request *request, int result)
{
	if (result == 0)
		block_submit(request->volume, request);
	else
		one_done(request, result);
}

/* Writes that are under way to what is cut off do not come back to light. */
static int shrink_under_load(struct engine_rig *rig)
{
	struct vdisk_check_report report;
	static _Alignas(4096) unsigned char data[4096];
	static struct iovec iov = {data, sizeof(data)};

	bring_up(rig);
	put(rig, 100 * MIB, 1 * MIB, 1);
	memset(&many, 0, sizeof(many));
	memset(data, 9, sizeof(data));
	many.left = MANY;
	many.fiber = fiber_current();
	for (unsigned i = 0; i < MANY; i++) {
		many.requests[i] = (struct block_request){.op = BLOCK_WRITE,
							  .offset = 128 * MIB + i * 4096ul,
							  .length = 4096,
							  .iov = &iov,
							  .iov_count = 1,
							  .done = write_again};
		block_submit(rig->volume, &many.requests[i]);
	}
	assert_int_equal(vdisk_resize(rig->vdisk, 101 * MIB), 0);
	assert_int_equal(many.left, 0);
	assert_int_equal(many.result, -ERANGE);
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, data, 4096, 101 * MIB), -ERANGE);
	assert_int_equal(vdisk_resize(rig->vdisk, SIZE), 0);
	expect(rig, 100 * MIB, 1 * MIB, 1);
	expect(rig, 128 * MIB, 1 * MIB, 0);
	expect(rig, 128 * MIB + (MANY - 1) * 4096, 4096, 0);
	assert_int_equal(vdisk_check(rig->vdisk, true, NULL, NULL, &report), 0);
	assert_int_equal(report.blocks, 256);
	assert_int_equal(report.missing_live_blocks + report.leaked_blocks, 0);
	return shut_down(rig);
}

/* Flips a bit of the first header in every other file. */
static unsigned damage_headers(struct engine_rig *rig)
{
	unsigned count = 0;
	char path[128];

	for (unsigned id = 1; id < 40; id += 2) {
		snprintf(path, sizeof(path), ENGINE_RIG_DISK "/pool/groups/%02x/%016x.eg", id, id);
		count += sim_disk_flip(rig->sim.sim, path, 100, 3) == 0;
	}
	return count;
}

/* Files that cannot be compacted do not keep the others from it, and go on being read. */
static int damaged_headers(struct engine_rig *rig)
{
	uint64_t before = reached_count("egroup.file-avoided");
	struct vdisk_stats stats;

	bring_up(rig);
	for (unsigned i = 0; i < 1600; i++)
		put(rig, i * 64 * KIB, 64 * KIB, 1);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	assert_true(damage_headers(rig) > 0);
	for (unsigned i = 0; i < 1600; i++)
		if (i % 8)
			put(rig, i * 64 * KIB, 64 * KIB, 2);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	fiber_sleep(30 * NSEC_PER_SEC);
	assert_true(reached_count("egroup.file-avoided") > before);
	vdisk_get_stats(rig->vdisk, &stats);
	assert_true(stats.compacted_groups > 0);
	for (unsigned i = 0; i < 1600; i++)
		expect(rig, i * 64 * KIB, 64 * KIB, i % 8 ? 2 : 1);
	return shut_down(rig);
}

#define FILES (EGROUP_OPEN_FILES_MAX + 40) /* divisible by 6, not by 5 */

static unsigned char read_data[FILES][4096] __attribute__((aligned(4096)));
static struct iovec read_iovs[FILES];
static struct block_request reads[FILES];

/* Reads one block of each file, all at once, a few of the last ones again. */
static void read_files(struct engine_rig *rig, unsigned step)
{
	memset(&many, 0, sizeof(many));
	many.left = FILES;
	many.fiber = fiber_current();
	for (unsigned i = 0; i < FILES; i++) {
		unsigned place = i * step % FILES;

		read_iovs[i] = (struct iovec){read_data[place], 4096};
		reads[i] = (struct block_request){.op = BLOCK_READ,
						  .offset = place * 256 * KIB,
						  .length = 4096,
						  .iov = &read_iovs[i],
						  .iov_count = 1,
						  .done = one_done};
		block_submit(rig->volume, &reads[i]);
	}
	while (many.left > 0)
		fiber_suspend();
	assert_int_equal(many.result, 0);
	for (unsigned i = 0; i < FILES; i++)
		assert_int_equal(read_data[i][0], i % 255 + 1);
}

/* A sixth of the files. */
static int fill_files(struct engine_rig *rig)
{
	static unsigned filled;

	for (unsigned i = 0; i < FILES / 6; i++, filled++) {
		put(rig, filled * 256 * KIB, 64 * KIB, (unsigned char)(filled % 255 + 1));
		fiber_sleep(20 * NSEC_PER_SEC); /* idle: the log goes on in another file */
	}
	return 0;
}

/* One that is closed for others is opened again meanwhile. */
static int many_files(struct engine_rig *rig)
{
	struct vdisk_stats stats;

	vdisk_get_stats(rig->vdisk, &stats);
	assert_true(stats.groups >= FILES);
	shut_down(rig);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (unsigned i = 0; i < 12; i++)
		read_files(rig, i % 2 ? 1 : 5);
	return shut_down(rig);
}

/* Far more of the map is touched than the budget holds: writers wait for checkpoints. */
static int little_memory(struct engine_rig *rig)
{
	uint64_t before = reached_count("checkpoint.for-memory");

	bring_up(rig);
	for (uint64_t i = 0; i < 3000; i++)
		put(rig, i * 7919 % 65536 * 4096, 4096, (unsigned char)(i % 255 + 1));
	assert_true(reached_count("checkpoint.for-memory") > before);
	for (uint64_t i = 0; i < 3000; i += 7)
		expect(rig, i * 7919 % 65536 * 4096, 4096, (unsigned char)(i % 255 + 1));
	return shut_down(rig);
}

static void test_little_memory(void **state)
{
	struct engine_rig rig;

	(void)state;
	engine_rig_init(&rig, 1, false, 512 * MIB);
	rig.budget_bytes = 64 * KIB;
	engine_rig_call(&rig, little_memory);
	engine_rig_done(&rig);
}

/* A disk that asks to be read again each time is one that cannot be read. */
static int read_again_and_again(struct engine_rig *rig)
{
	const struct sim_faults again = {.read_error_ppm = 1000000, .read_error = -EAGAIN};
	char *buffer = pages(8192, 0);

	bring_up(rig);
	put(rig, 0, 1 * MIB, 7);
	sim_disk_set_faults(rig->sim.sim, ENGINE_RIG_DISK, &again);
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, buffer, 8192, 4096), -EIO);
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, buffer, 512, 512), -EIO);
	sim_disk_set_faults(rig->sim.sim, ENGINE_RIG_DISK, &(struct sim_faults){0});
	free(buffer);
	expect(rig, 0, 1 * MIB, 7);
	return shut_down(rig);
}

static void run(int (*fn)(struct engine_rig *rig))
{
	struct engine_rig rig;

	engine_rig_init(&rig, 1, false, 512 * MIB);
	engine_rig_call(&rig, fn);
	engine_rig_done(&rig);
}

static void ends_when_the_disk_says_again(void **state)
{
	(void)state;
	run(read_again_and_again);
}

static void test_write_and_read(void **state)
{
	(void)state;
	run(write_and_read);
}

static void test_survives_restart(void **state)
{
	(void)state;
	run(survives_restart);
}

static void test_overwrite(void **state)
{
	(void)state;
	run(overwrite_for_long);
}

static void test_full_container(void **state)
{
	(void)state;
	run(fill_container);
}

static void keeps_within_the_limit_of_a_tier(void **state)
{
	(void)state;
	run(fill_tier);
}

static void test_delete(void **state)
{
	(void)state;
	run(delete_it);
}

static void test_delete_many_files(void **state)
{
	(void)state;
	run(delete_many);
}

static void test_many_at_once(void **state)
{
	(void)state;
	run(many_at_once);
}

static void test_shrink_under_load(void **state)
{
	(void)state;
	run(shrink_under_load);
}

static void test_damaged_headers(void **state)
{
	(void)state;
	run(damaged_headers);
}

/* More files than may be open at a time. */
static void test_many_files(void **state)
{
	struct engine_rig rig;

	(void)state;
	engine_rig_init(&rig, 1, false, 512 * MIB);
	engine_rig_call(&rig, bring_up);
	for (unsigned i = 0; i < 6; i++)
		engine_rig_call(&rig, fill_files);
	engine_rig_call(&rig, many_files);
	engine_rig_done(&rig);
}

static void test_crash(void **state)
{
	struct engine_rig rig;

	(void)state;
	for (unsigned seed = 1; seed <= 10; seed++) {
		engine_rig_init(&rig, seed, false, 512 * MIB);
		engine_rig_call(&rig, write_much);
		engine_rig_crash(&rig, seed % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
		engine_rig_call(&rig, read_much);
		engine_rig_done(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_and_read),
		cmocka_unit_test(test_survives_restart),
		cmocka_unit_test(test_crash),
		cmocka_unit_test(test_overwrite),
		cmocka_unit_test(test_delete),
		cmocka_unit_test(test_delete_many_files),
		cmocka_unit_test(test_little_memory),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_shrink_under_load),
		cmocka_unit_test(test_many_files),
		cmocka_unit_test(test_damaged_headers),
		cmocka_unit_test(test_full_container),
		cmocka_unit_test(keeps_within_the_limit_of_a_tier),
		cmocka_unit_test(ends_when_the_disk_says_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
