/* SPDX-License-Identifier: Apache-2.0 */
/* What guests notice of checkpoints: how long one holds the reactor, and when it fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "base/reached.h"
#include "engine_rig.h"
#include "reactor/io.h"
#include "vdisk/page.h"

#define LEAVES     1500u
#define SIZE       (2 * GIB)
#define TURN_SLOTS 1024 /* that may change in one turn */

static unsigned char block[4096] __attribute__((aligned(4096)));

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

static int put(struct engine_rig *rig, uint64_t offset, unsigned char value)
{
	memset(block, value, sizeof(block));
	return block_io(rig->volume, BLOCK_WRITE, 0, block, sizeof(block), offset);
}

static void expect(struct engine_rig *rig, uint64_t offset, unsigned char value)
{
	memset(block, 0xEE, sizeof(block));
	assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, block, sizeof(block), offset), 0);
	for (size_t i = 0; i < sizeof(block); i++)
		assert_int_equal(block[i], value);
}

/* One block below each leaf of the map. */
static int fill(struct engine_rig *rig)
{
	static unsigned char round;

	round++;
	for (uint64_t i = 0; i < LEAVES; i++)
		assert_int_equal(put(rig, i * MIB, round), 0);
	return 0;
}

static struct {
	struct engine_rig *rig;
	struct sim_rig_task checkpoint, watch, reader;
	uint64_t turns, most; /* slots changed in one turn */
	unsigned char value;
} slices;

static void checkpoint_task(void *arg)
{
	(void)arg;
	assert_int_equal(vdisk_checkpoint(slices.rig->vdisk), 0);
}

static uint64_t live_slots(void)
{
	struct vdisk_stats stats;

	vdisk_get_stats(slices.rig->vdisk, &stats);
	return stats.live_bytes / 4096;
}

/* Looks on after each turn. */
static void watch_task(void *arg)
{
	uint64_t before = live_slots(), now;

	(void)arg;
	while (!slices.checkpoint.finished) {
		fiber_yield();
		now = live_slots();
		slices.most = MAX(slices.most, MAX(now, before) - MIN(now, before));
		slices.turns += now != before;
		before = now;
	}
}

/* What is there stays there meanwhile. */
static void read_task(void *arg)
{
	(void)arg;
	for (uint64_t i = 0; !slices.checkpoint.finished; i++)
		expect(slices.rig, i * 7919 % LEAVES * MIB, slices.value);
}

static void watch_checkpoint(struct engine_rig *rig, unsigned char value)
{
	memset(&slices, 0, sizeof(slices));
	slices.rig = rig;
	slices.value = value;
	slices.checkpoint.run = checkpoint_task;
	slices.watch.run = watch_task;
	slices.reader.run = read_task;
	sim_rig_start(&rig->sim, 0, &slices.checkpoint);
	sim_rig_start(&rig->sim, 0, &slices.watch);
	sim_rig_start(&rig->sim, 0, &slices.reader);
	assert_int_equal(sim_rig_wait(&rig->sim, &slices.checkpoint, 1, 100 * NSEC_PER_SEC), 0);
	assert_int_equal(sim_rig_wait(&rig->sim, &slices.watch, 1, 100 * NSEC_PER_SEC), 0);
	assert_int_equal(sim_rig_wait(&rig->sim, &slices.reader, 1, 100 * NSEC_PER_SEC), 0);
	assert_true(slices.turns > 0);
	assert_true(slices.most <= TURN_SLOTS);
}

static int unmap_all(struct engine_rig *rig)
{
	return block_io(rig->volume, BLOCK_UNMAP, 0, NULL, SIZE, 0);
}

/* However much a checkpoint folds, others get their turn. */
static void test_slices(void **state)
{
	struct engine_rig rig;

	(void)state;
	engine_rig_init(&rig, 1, false, 512 * MIB);
	engine_rig_call(&rig, bring_up);
	engine_rig_call(&rig, fill);
	watch_checkpoint(&rig, 1);
	assert_true(slices.turns > 3);
	engine_rig_call(&rig, fill);
	watch_checkpoint(&rig, 2); /* as many die as are born */
	assert_int_equal(engine_rig_call(&rig, unmap_all), 0);
	watch_checkpoint(&rig, 0);
	engine_rig_call(&rig, shut_down);
	engine_rig_done(&rig);
}

#define PLACES_MAX 64

static struct {
	char path[128];
	uint64_t offset;
} places[PLACES_MAX];
static unsigned place_count;

static void flip_places(struct engine_rig *rig)
{
	assert_in_range(place_count, 1, PLACES_MAX);
	for (unsigned i = 0; i < place_count; i++)
		assert_int_equal(sim_disk_flip(rig->sim.sim, places[i].path, places[i].offset, 3),
				 0);
}

static void find_in_file(const char *path, unsigned level)
{
	static struct page_disk page __attribute__((aligned(4096)));
	struct world_file *file;

	assert_int_equal(io_open(path, WORLD_FILE_DIRECT, &file), 0);
	for (uint64_t at = 0; io_read(file, &page, sizeof(page), at) == sizeof(page);
	     at += sizeof(page)) {
		if (page.magic != htole32(PAGE_MAGIC) || page.level != level)
			continue;
		assert_true(place_count < PLACES_MAX);
		snprintf(places[place_count].path, sizeof(places[0].path), "%s", path);
		places[place_count++].offset = at + offsetof(struct page_disk, lsn);
	}
	assert_int_equal(io_close(file), 0);
}

/* Damages every map page of a level. */
static void damage_pages(struct engine_rig *rig, unsigned level)
{
	struct world_names names;
	char path[128];
	int length;

	place_count = 0;
	for (unsigned i = 0; i < 256; i++) {
		length = snprintf(path, sizeof(path), ENGINE_RIG_DISK "/pool/groups/%02x", i);
		assert_int_equal(io_directory_list(path, &names), 0);
		for (size_t k = 0; k < names.count; k++) {
			snprintf(path + length, sizeof(path) - (size_t)length, "/%s",
				 names.names[k]);
			find_in_file(path, level);
		}
		world_names_free(&names);
	}
	flip_places(rig);
}

static void repair_pages(struct engine_rig *rig)
{
	flip_places(rig);
}

#define HELD 48u

static struct {
	struct block_request requests[HELD];
	struct iovec iov;
	unsigned left, failed;
} held;

static void held_done(struct block_request *request, int result)
{
	(void)request;
	held.left--;
	held.failed += result < 0;
}

/* More than twice what the log may be long, at once. */
static void write_held(struct engine_rig *rig)
{
	static unsigned char data[1 * MIB] __attribute__((aligned(4096)));

	memset(&held, 0, sizeof(held));
	held.iov = (struct iovec){data, sizeof(data)};
	held.left = HELD;
	for (unsigned i = 0; i < HELD; i++) {
		held.requests[i] = (struct block_request){.op = BLOCK_WRITE,
							  .offset = (i + 1) * MIB,
							  .length = sizeof(data),
							  .iov = &held.iov,
							  .iov_count = 1,
							  .done = held_done};
		block_submit(rig->volume, &held.requests[i]);
	}
}

/* A part of the map that is not in memory: no checkpoint without reading. */
static int make_cold_leaf(struct engine_rig *rig)
{
	bring_up(rig);
	assert_int_equal(put(rig, 0, 1), 0);
	shut_down(rig);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	fiber_sleep(NSEC_PER_SEC); /* reclaim has counted */
	return put(rig, 4096, 2);
}

/* Writers that a failed checkpoint holds back go on as soon as it works again. */
static int failure_passes(struct engine_rig *rig)
{
	uint64_t start;

	assert_int_equal(make_cold_leaf(rig), 0);
	damage_pages(rig, 1);
	write_held(rig);
	fiber_sleep(500 * NSEC_PER_MSEC);
	assert_true(held.left > 0 && held.failed == 0);
	repair_pages(rig);
	start = reactor_now_ns(reactor_current());
	while (held.left > 0 && reactor_now_ns(reactor_current()) < start + 20 * NSEC_PER_SEC)
		fiber_sleep(10 * NSEC_PER_MSEC);
	assert_int_equal(held.left, 0);
	assert_int_equal(held.failed, 0);
	assert_true(reactor_now_ns(reactor_current()) - start < NSEC_PER_SEC);
	expect(rig, 4096, 2);
	return shut_down(rig);
}

/* One that stays is not tried all the time, and in the end writers hear of it. */
static int failure_stays(struct engine_rig *rig)
{
	uint64_t before = reached_count("checkpoint.failed");

	assert_int_equal(make_cold_leaf(rig), 0);
	damage_pages(rig, 1);
	write_held(rig);
	fiber_sleep(30 * NSEC_PER_SEC);
	assert_int_equal(held.left, 0);
	assert_true(held.failed > 0);
	assert_in_range(reached_count("checkpoint.failed") - before, 5, 60);
	repair_pages(rig);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	expect(rig, 4096, 2);
	return shut_down(rig);
}

static int get(struct engine_rig *rig, uint64_t offset)
{
	return block_io(rig->volume, BLOCK_READ, 0, block, sizeof(block), offset);
}

static uint64_t damaged(struct engine_rig *rig)
{
	struct vdisk_stats stats;

	vdisk_get_stats(rig->vdisk, &stats);
	return stats.damaged_pages;
}

static void reopen(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	fiber_sleep(2 * NSEC_PER_SEC); /* reclaim has counted */
}

/* Writes twice what the pool holds to places elsewhere. */
static void overwrite_elsewhere(struct engine_rig *rig)
{
	static unsigned char data[256 * KIB] __attribute__((aligned(4096)));

	for (uint64_t i = 0; i < 4096; i++)
		assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, data, sizeof(data),
					  GIB + i % 500 * sizeof(data)),
				 0);
}

/* Leaves of the map are damaged: what is in them is lost, but nothing else stops. */
static int damaged_leaves(struct engine_rig *rig)
{
	struct vdisk_check_report report;

	bring_up(rig);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(put(rig, i * MIB, 1) + put(rig, i * MIB + 4096, 2), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	assert_int_equal(damaged(rig), 0);
	damage_pages(rig, 0);
	reopen(rig);
	assert_int_equal(damaged(rig), 3);
	assert_int_equal(get(rig, 0), -EUCLEAN);
	overwrite_elsewhere(rig);
	/* A new block in such a leaf does not make zeros of the others. */
	assert_int_equal(put(rig, 4096, 3), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	for (unsigned i = 0; i < 2; i++) {
		expect(rig, 4096, 3);
		assert_int_equal(get(rig, 0), -EUCLEAN);
		assert_int_equal(get(rig, 8192), -EUCLEAN);
		assert_int_equal(get(rig, MIB), -EUCLEAN);
		assert_int_equal(vdisk_check(rig->vdisk, true, NULL, NULL, &report), 0);
		assert_int_equal(report.bad_pages, 2);
		assert_int_equal(report.bad_blocks, 255);
		assert_int_equal(report.missing_live_blocks, 0);
		reopen(rig);
		assert_int_equal(damaged(rig), 257);
	}
	/* Unmapped or written whole, all is well again. */
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 3 * MIB, 0), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	reopen(rig);
	assert_int_equal(damaged(rig), 0);
	expect(rig, 0, 0);
	assert_int_equal(put(rig, 0, 5), 0);
	assert_int_equal(vdisk_check(rig->vdisk, true, NULL, NULL, &report), 0);
	assert_int_equal(report.bad_pages + report.bad_blocks + report.missing_live_blocks, 0);
	assert_int_equal(report.leaked_blocks, 0);
	return shut_down(rig);
}

/* What a damaged page names is kept, for the day on which the page can be read again. */
static int damage_passes(struct engine_rig *rig)
{
	struct vdisk_check_report report;

	bring_up(rig);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(put(rig, i * MIB, 1), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	damage_pages(rig, 0);
	reopen(rig);
	assert_int_equal(damaged(rig), 3);
	overwrite_elsewhere(rig);
	repair_pages(rig);
	reopen(rig);
	assert_int_equal(damaged(rig), 0);
	for (uint64_t i = 0; i < 3; i++)
		expect(rig, i * MIB, 1);
	assert_int_equal(vdisk_check(rig->vdisk, true, NULL, NULL, &report), 0);
	assert_int_equal(report.bad_pages + report.bad_blocks + report.missing_live_blocks, 0);
	assert_int_equal(report.leaked_blocks, 0);
	return shut_down(rig);
}

#define HOGS 512u

static struct pool_file *hogs[HOGS];

/* Others take what room there is for data. */
static unsigned hog_pool(struct engine_rig *rig)
{
	unsigned count = 0;

	for (uint64_t bytes = 4 * MIB; bytes >= 64 * KIB; bytes /= 2) {
		const struct pool_want want = {
			.use = POOL_USE_DATA, .size_bytes = bytes, .copies = 1};

		while (count < HOGS && pool_file_take(rig->pool, &want, &hogs[count]) == 0)
			count++;
	}
	assert_in_range(count, 1, HOGS - 1);
	return count;
}

static struct {
	struct block_request request;
	struct iovec iov;
	bool finished;
	int result;
} big;

static void big_done(struct block_request *request, int result)
{
	(void)request;
	big.finished = true;
	big.result = result;
}

/* In a full pool a large write waits for room, half written. What gives room back does not wait
 * with it. */
static int unmap_passes_write(struct engine_rig *rig)
{
	static unsigned char data[1 * MIB] __attribute__((aligned(4096)));
	uint64_t start;
	unsigned count;

	bring_up(rig);
	assert_int_equal(put(rig, 0, 1), 0);
	fiber_sleep(NSEC_PER_SEC); /* the next group is made ahead */
	count = hog_pool(rig);
	big.iov = (struct iovec){data, sizeof(data)};
	big.finished = false;
	for (;;) { /* until the groups that there are are full */
		big.request = (struct block_request){.op = BLOCK_WRITE,
						     .offset = big.request.offset + MIB,
						     .length = sizeof(data),
						     .iov = &big.iov,
						     .iov_count = 1,
						     .done = big_done};
		big.finished = false;
		block_submit(rig->volume, &big.request);
		fiber_sleep(NSEC_PER_SEC);
		if (!big.finished)
			break;
		assert_int_equal(big.result, 0);
	}
	start = reactor_now_ns(reactor_current());
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 4096, 0), 0);
	assert_in_range(reactor_now_ns(reactor_current()) - start, 0, NSEC_PER_SEC);
	assert_false(big.finished);
	expect(rig, 0, 0);
	for (unsigned i = 0; i < count; i++)
		pool_file_discard(hogs[i]);
	while (!big.finished)
		fiber_sleep(NSEC_PER_SEC);
	assert_int_equal(big.result, 0);
	return shut_down(rig);
}

static uint64_t epoch(struct engine_rig *rig)
{
	struct vdisk_info info;

	assert_int_equal(vdisk_get(rig->catalog, rig->vdisk_id, &info), 0);
	return info.epoch;
}

/* After a clean close there is nothing to seal: an open writes nothing. */
static int clean_close(struct engine_rig *rig)
{
	uint64_t before;

	bring_up(rig);
	assert_int_equal(put(rig, 0, 1), 0);
	reopen(rig);
	before = epoch(rig);
	reopen(rig);
	assert_int_equal(epoch(rig), before);
	/* The last checkpoint is long ago, too. */
	assert_int_equal(put(rig, 0, 2), 0);
	fiber_sleep(60 * NSEC_PER_SEC);
	before = epoch(rig);
	reopen(rig);
	assert_int_equal(epoch(rig), before);
	expect(rig, 0, 2);
	return shut_down(rig);
}

static void run(int (*fn)(struct engine_rig *rig), uint64_t budget_bytes)
{
	struct engine_rig rig;

	engine_rig_init(&rig, 1, false, 512 * MIB);
	rig.budget_bytes = budget_bytes;
	engine_rig_call(&rig, fn);
	engine_rig_done(&rig);
}

static void test_failure_passes(void **state)
{
	(void)state;
	run(failure_passes, 64 * MIB);
}

static void test_failure_stays(void **state)
{
	(void)state;
	run(failure_stays, 64 * MIB);
	run(failure_stays, 16 * KIB); /* held back for want of memory */
}

static void test_damaged_leaves(void **state)
{
	(void)state;
	run(damaged_leaves, 64 * MIB);
	run(damage_passes, 64 * MIB);
}

static void test_clean_close(void **state)
{
	(void)state;
	run(clean_close, 64 * MIB);
}

static void test_unmap_passes_write(void **state)
{
	(void)state;
	run(unmap_passes_write, 64 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slices),        cmocka_unit_test(test_failure_passes),
		cmocka_unit_test(test_failure_stays), cmocka_unit_test(test_damaged_leaves),
		cmocka_unit_test(test_clean_close),   cmocka_unit_test(test_unmap_passes_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
