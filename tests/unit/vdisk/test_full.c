/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vDisks where no room is left: in the pool, in their container, or on the only tier. What they
 * have can be read, overwritten and unmapped, also when nothing of the map is in memory; new data
 * is refused, and comes again when something was unmapped. Others' containers are not touched.
 * What waits for room or for the map holds nobody up for ever, also when the log has failed.
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
#include "engine_rig.h"
#include "pool/container.h"
#include "pool/pool_disk.h"
#include "pool/pool_quota.h"
#include "vdisk/vdisk_priv.h"

#define SIZE      (768 * MIB)
#define VDISKS    3u
#define CROSSINGS 80u /* more than there are fibers for them */

static struct pool_quota_info quota(struct engine_rig *rig)
{
	struct pool_quota_info info;

	assert_int_equal(pool_quota_get(rig->pool, rig->container_id, &info), 0);
	return info;
}

static int put_bytes(struct vdisk *vdisk, uint64_t offset, size_t bytes, unsigned char fill)
{
	void *buffer = aligned_alloc(4096, ALIGN_UP(bytes, (size_t)4096));
	int r;

	assert_non_null(buffer);
	memset(buffer, fill, bytes);
	r = block_io(vdisk_volume(vdisk), BLOCK_WRITE, 0, buffer, bytes, offset);
	free(buffer);
	return r;
}

static int put(struct vdisk *vdisk, uint64_t mib, unsigned char fill)
{
	return put_bytes(vdisk, mib * MIB, MIB, fill);
}

static void expect_bytes(struct vdisk *vdisk, uint64_t offset, size_t bytes, unsigned char fill)
{
	unsigned char *buffer = aligned_alloc(4096, ALIGN_UP(bytes, (size_t)4096));

	assert_non_null(buffer);
	assert_int_equal(block_io(vdisk_volume(vdisk), BLOCK_READ, 0, buffer, bytes, offset), 0);
	for (size_t i = 0; i < bytes; i++)
		if (buffer[i] != fill)
			fail_msg("byte %llu: %#x, not %#x", (unsigned long long)(offset + i),
				 buffer[i], fill);
	free(buffer);
}

static void expect(struct vdisk *vdisk, uint64_t mib, unsigned char fill)
{
	expect_bytes(vdisk, mib * MIB, MIB, fill);
}

static unsigned fill_up(struct vdisk *vdisk)
{
	unsigned written = 0;

	while (written < SIZE / MIB && put(vdisk, written, 1) == 0)
		written++;
	assert_in_range(written, 40, SIZE / MIB - 2);
	return written;
}

static struct late {
	struct block_request request;
	struct iovec iov;
	bool finished;
	int result;
} late, crossings[CROSSINGS];

static void late_done(struct block_request *request, int result)
{
	struct late *of = CONTAINER_OF(request, struct late, request);

	of->finished = true;
	of->result = result;
	free(of->iov.iov_base);
}

/* Without waiting for it. */
static void submit(struct vdisk *vdisk, struct late *of, enum block_op op, uint64_t offset,
		   size_t bytes)
{
	*of = (struct late){.iov = {aligned_alloc(4096, ALIGN_UP(bytes, (size_t)4096)), bytes}};
	assert_non_null(of->iov.iov_base);
	memset(of->iov.iov_base, 2, bytes);
	of->request.op = op;
	of->request.offset = offset;
	of->request.length = bytes;
	of->request.iov = &of->iov;
	of->request.iov_count = 1;
	of->request.done = late_done;
	block_submit(vdisk_volume(vdisk), &of->request);
}

static void expect_end(const struct late *of, uint64_t until_ns, int result)
{
	while (!of->finished && reactor_now_ns(reactor_current()) < until_ns)
		fiber_sleep(10 * NSEC_PER_MSEC);
	assert_true(of->finished);
	assert_int_equal(of->result, result);
}

/* While new data waits for room. */
static void overwrite_beside_waiting(struct vdisk *vdisk)
{
	uint64_t began;

	submit(vdisk, &late, BLOCK_WRITE, SIZE - MIB, MIB);
	fiber_sleep(NSEC_PER_SEC);
	began = reactor_now_ns(reactor_current());
	assert_int_equal(put(vdisk, 0, 8), 0);
	assert_true(reactor_now_ns(reactor_current()) < began + 2 * NSEC_PER_SEC);
	assert_false(late.finished);
	expect_end(&late, began + 20 * NSEC_PER_SEC, -ENOSPC);
	expect(vdisk, 0, 8);
}

/* Of the map, nothing is in memory after an open. */
static void overwrite_cold(struct engine_rig *rig)
{
	unsigned written, learned = (unsigned)reached_count("request.learn-growth");

	written = fill_up(rig->vdisk);
	for (unsigned round = 2; round < 5; round++) {
		assert_int_equal(engine_rig_close_vdisk(rig), 0);
		assert_int_equal(engine_rig_open_vdisk(rig), 0);
		for (unsigned i = 0; i < written; i++)
			if (put(rig->vdisk, i * 257 % written, (unsigned char)round) < 0)
				fail_msg("round %u: MiB %u of %u", round, i * 257 % written,
					 written);
		assert_int_equal(put(rig->vdisk, SIZE / MIB - 1, 9), -ENOSPC);
		expect(rig->vdisk, written / 2, (unsigned char)round);
	}
	overwrite_beside_waiting(rig->vdisk);
	assert_true(reached_count("request.learn-growth") > learned);
}

static int overwrite_in_full_tier(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_bring_up(rig), 0);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY_SSD, 64 * MIB);
	overwrite_cold(rig);
	assert_true(quota(rig).tiers[POLICY_SSD].used < 72 * MIB);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static int overwrite_in_full_container(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_bring_up(rig), 0);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY, 64 * MIB);
	overwrite_cold(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static int overwrite_in_full_pool(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_bring_up(rig), 0);
	overwrite_cold(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

/* From the last block of a leaf of the map into the first one of the next. */
static uint64_t crossing_offset(unsigned index)
{
	return (2 * index + 1) * MIB - 4096;
}

/* The blocks at the crossings are there, and nothing more can be added. */
static void fill_with_crossings(struct vdisk *vdisk)
{
	unsigned mib = 2 * CROSSINGS, block = 0;

	for (unsigned i = 0; i < CROSSINGS; i++)
		assert_int_equal(put_bytes(vdisk, crossing_offset(i), 8192, 1), 0);
	while (mib < SIZE / MIB - 8 && put(vdisk, mib, 1) == 0)
		mib++;
	assert_in_range(mib, 2 * CROSSINGS + 40, SIZE / MIB - 9);
	while (block < 512 && put_bytes(vdisk, SIZE - 4 * MIB + block * 4096, 4096, 1) == 0)
		block++;
	assert_in_range(block, 0, 511);
}

/* Each reads the second of the leaves only, for the part of a block, and must learn of the first
 * what it overwrites. */
static int modify_across_leaves(struct engine_rig *rig)
{
	uint64_t until, learned = reached_count("request.learn-growth");

	assert_int_equal(engine_rig_bring_up(rig), 0);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY_SSD, 64 * MIB);
	fill_with_crossings(rig->vdisk);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	until = reactor_now_ns(reactor_current()) + 20 * NSEC_PER_SEC;
	for (unsigned i = 0; i < CROSSINGS; i++)
		submit(rig->vdisk, &crossings[i], BLOCK_WRITE, crossing_offset(i), 4608);
	submit(rig->vdisk, &late, BLOCK_READ, (2 * CROSSINGS + 20) * MIB, 4096);
	expect_end(&late, until, 0);
	for (unsigned i = 0; i < CROSSINGS; i++)
		expect_end(&crossings[i], until, 0);
	assert_true(reached_count("request.learn-growth") >= learned + CROSSINGS);
	for (unsigned i = 0; i < CROSSINGS; i++) {
		expect_bytes(rig->vdisk, crossing_offset(i), 4608, 2);
		expect_bytes(rig->vdisk, crossing_offset(i) + 4608, 4096 - 512, 1);
	}
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static void open_more(struct engine_rig *rig, uint64_t container, const char *name,
		      struct vdisk **ret_vdisk)
{
	const struct vdisk_spec spec = {
		.name = name, .container_id = container, .size_bytes = SIZE, .block_bytes = 512};
	uint64_t id;

	assert_int_equal(vdisk_create(rig->pool, &spec, &id), 0);
	assert_int_equal(vdisk_open(rig->pool, rig->cache, id, ret_vdisk), 0);
}

#define PARTS_AT (SIZE - 8 * MIB) /* where nothing is */
#define PARTS_OF (CROSSINGS - 8)  /* blocks, also more than there are fibers */
#define SOON_NS  (500 * NSEC_PER_MSEC)

/* Half a KiB of new blocks each; the last few follow others in the same blocks. */
static uint64_t part_offset(unsigned index)
{
	return PARTS_AT + (uint64_t)(index % PARTS_OF) * 4096 + (index / PARTS_OF) * 512;
}

static void submit_parts(struct vdisk *vdisk)
{
	for (unsigned i = 0; i < CROSSINGS; i++)
		submit(vdisk, &crossings[i], BLOCK_WRITE, part_offset(i), 512);
	fiber_sleep(NSEC_PER_SEC);
	for (unsigned i = 0; i < CROSSINGS; i++)
		assert_false(crossings[i].finished);
}

/* What needs fibers: maps that are not in memory, compares, parts of blocks. */
static void expect_served_soon(struct vdisk *vdisk, struct vdisk *other)
{
	uint64_t began = reactor_now_ns(reactor_current());
	unsigned char same[4096];

	expect(vdisk, 1, 1);
	expect(other, 1, 5);
	assert_int_equal(put_bytes(other, 2 * MIB + 512, 512, 6), 0);
	assert_int_equal(put_bytes(vdisk, 2 * MIB + 512, 512, 7), 0);
	assert_int_equal(put_bytes(vdisk, 3 * MIB - 512, 4096 + 1024, 7), 0);
	memset(same, 5, sizeof(same));
	assert_int_equal(block_io(vdisk_volume(other), BLOCK_COMPARE, 0, same, 4096, 3 * MIB), 0);
	assert_true(reactor_now_ns(reactor_current()) < began + SOON_NS);
	expect_bytes(vdisk, 3 * MIB - 512, 4096 + 1024, 7);
	expect_bytes(vdisk, 3 * MIB - 1024, 512, 1);
	expect_bytes(vdisk, 3 * MIB + 4096 + 512, 512, 1);
	for (unsigned i = 0; i < CROSSINGS; i++)
		assert_false(crossings[i].finished);
}

static void fill_to_the_last_block(struct vdisk *vdisk)
{
	unsigned block = 0;

	(void)fill_up(vdisk); /* how much it was does not matter */
	while (block < 512 && put_bytes(vdisk, SIZE - 4 * MIB + block * 4096, 4096, 1) == 0)
		block++;
	assert_in_range(block, 0, 511);
}

static void open_again(struct engine_rig *rig, struct vdisk **other)
{
	uint64_t id = vdisk_id(*other);

	assert_int_equal(vdisk_close(*other), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(vdisk_open(rig->pool, rig->cache, id, other), 0);
}

/* Their ends: of those that are first in their blocks, and then of the others. */
static void parts_wait_in_vain(struct engine_rig *rig, struct vdisk *other)
{
	uint64_t until = reactor_now_ns(reactor_current()) + 12 * NSEC_PER_SEC;

	submit_parts(rig->vdisk);
	expect_served_soon(rig->vdisk, other);
	for (unsigned i = 0; i < CROSSINGS; i++)
		expect_end(&crossings[i], until + i / PARTS_OF * 11 * NSEC_PER_SEC, -ENOSPC);
	expect_bytes(rig->vdisk, PARTS_AT, (size_t)PARTS_OF * 4096, 0);
}

/* Nobody asks for the checkpoint that makes room of what was unmapped. */
static void parts_get_room(struct engine_rig *rig, struct vdisk *other)
{
	uint64_t until = reactor_now_ns(reactor_current()) + 4 * NSEC_PER_SEC;

	submit_parts(rig->vdisk);
	expect_served_soon(rig->vdisk, other);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 8 * MIB, 4 * MIB + 512), 0);
	for (unsigned i = 0; i < CROSSINGS; i++)
		expect_end(&crossings[i], until, 0);
	for (unsigned i = 0; i < PARTS_OF; i++) {
		unsigned bytes = i + PARTS_OF < CROSSINGS ? 1024 : 512;

		expect_bytes(rig->vdisk, part_offset(i), bytes, 2);
		expect_bytes(rig->vdisk, part_offset(i) + bytes, 4096 - bytes, 0);
	}
	expect_bytes(rig->vdisk, 4 * MIB, 512, 1);
	expect_bytes(rig->vdisk, 4 * MIB + 512, MIB, 0);
	expect_bytes(rig->vdisk, 11 * MIB + 512, MIB, 0);
	expect_bytes(rig->vdisk, 12 * MIB + 512, 4096 - 512, 1);
}

static int wait_with_parts(struct engine_rig *rig, enum policy_property limited)
{
	uint64_t container;
	struct vdisk *other;

	assert_int_equal(engine_rig_bring_up(rig), 0);
	engine_rig_set_policy(rig, limited, 64 * MIB);
	assert_int_equal(container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id, "d",
					  &container),
			 0);
	open_more(rig, container, "other", &other);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(put(other, i, 5), 0);
	fill_to_the_last_block(rig->vdisk);
	open_again(rig, &other);
	parts_wait_in_vain(rig, other);
	open_again(rig, &other);
	parts_get_room(rig, other);
	assert_int_equal(vdisk_close(other), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static int wait_with_parts_for_a_tier(struct engine_rig *rig)
{
	return wait_with_parts(rig, POLICY_MAX_CAPACITY_SSD);
}

static int wait_with_parts_for_a_container(struct engine_rig *rig)
{
	return wait_with_parts(rig, POLICY_MAX_CAPACITY);
}

/* Whatever the error is: what waits for room hears of it soon, what comes later at once. */
static void fail_log(struct engine_rig *rig, int error)
{
	uint64_t began;

	submit(rig->vdisk, &late, BLOCK_WRITE, SIZE - MIB, MIB);
	fiber_sleep(NSEC_PER_SEC);
	assert_false(late.finished);
	log_fail(&rig->vdisk->log, error);
	began = reactor_now_ns(reactor_current());
	expect_end(&late, began + 3 * NSEC_PER_SEC, error);
	began = reactor_now_ns(reactor_current());
	assert_int_equal(put(rig->vdisk, 1, 3), error);
	assert_int_equal(put(rig->vdisk, SIZE / MIB - 1, 3), error);
	assert_int_equal(put_bytes(rig->vdisk, 2 * MIB + 512, 512, 3), error);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, MIB, 0), error);
	assert_true(reactor_now_ns(reactor_current()) < began + NSEC_PER_SEC);
	assert_int_equal(engine_rig_close_vdisk(rig), error);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (unsigned i = 0; i < 3; i++)
		expect(rig->vdisk, i, 1);
}

static int fail_log_when_full(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_bring_up(rig), 0);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY_SSD, 64 * MIB);
	(void)fill_up(rig->vdisk); /* how much it was does not matter */
	fail_log(rig, -EIO);
	fail_log(rig, -ENOSPC);
	fail_log(rig, -EAGAIN);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

/* Turn about, until none gets any more. */
static void fill_all(struct vdisk *const vdisks[VDISKS], unsigned written[VDISKS])
{
	unsigned full = 0;

	while (full != (1u << VDISKS) - 1)
		for (unsigned i = 0; i < VDISKS; i++) {
			int r = full >> i & 1 ? 0 : put(vdisks[i], written[i], 1);

			assert_true(r == 0 || r == -ENOSPC);
			if (r == -ENOSPC)
				full |= 1u << i;
			else if (!(full >> i & 1))
				written[i]++;
		}
}

static int share_full_tier(struct engine_rig *rig)
{
	struct vdisk *vdisks[VDISKS], *other;
	unsigned written[VDISKS] = {0}, sum = 0, more = 0;
	uint64_t container;

	assert_int_equal(engine_rig_bring_up(rig), 0);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY_SSD, 96 * MIB);
	assert_int_equal(container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id, "d",
					  &container),
			 0);
	vdisks[0] = rig->vdisk;
	open_more(rig, rig->container_id, "two", &vdisks[1]);
	open_more(rig, rig->container_id, "three", &vdisks[2]);
	open_more(rig, container, "other", &other);
	fill_all(vdisks, written);
	for (unsigned i = 0; i < VDISKS; i++)
		sum += written[i];
	assert_in_range(sum, 60, 90);
	for (unsigned i = 0; i < VDISKS; i++) {
		assert_int_equal(put(vdisks[i], SIZE / MIB - 1, 9), -ENOSPC);
		assert_int_equal(put(other, i, 5), 0);
		expect(vdisks[i], 0, 1);
		for (unsigned j = 0; j < written[i]; j++)
			assert_int_equal(put(vdisks[i], j, 2), 0);
		expect(vdisks[i], written[i] - 1, 2);
	}
	/* What the first gives back, the last gets. */
	assert_int_equal(block_io(vdisk_volume(vdisks[0]), BLOCK_UNMAP, 0, NULL, 16 * MIB, 0), 0);
	assert_int_equal(vdisk_checkpoint(vdisks[0]), 0);
	while (more < 100 && put(vdisks[2], written[2] + more, 3) == 0)
		more++;
	assert_in_range(more, 13, 17);
	expect(vdisks[2], written[2], 3);
	expect(vdisks[0], 0, 0);
	expect(other, 2, 5);
	assert_true(quota(rig).tiers[POLICY_SSD].used < 112 * MIB);
	assert_int_equal(vdisk_close(other), 0);
	for (unsigned i = 1; i < VDISKS; i++)
		assert_int_equal(vdisk_close(vdisks[i]), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	pool_check(rig->pool);
	engine_rig_stop(rig);
	return 0;
}

/* Where a disk shall be left, and only a tier remains on which the container may have nothing, what
 * there is goes there all the same, which is told; nothing new comes. */
static int drain_at_limit(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};
	struct vdisk_redundancy redundancy;
	struct pool_quota_info info;
	uint64_t ssd, beyond = reached_count("pool.tier-beyond");

	assert_int_equal(engine_rig_bring_up(rig), 0);
	engine_rig_set_policy(rig, POLICY_MAX_CAPACITY_HDD, 0);
	for (unsigned i = 0; i < 24; i++)
		assert_int_equal(put(rig->vdisk, i, 1), 0);
	assert_int_equal(quota(rig).tiers[POLICY_HDD].used, 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_int_equal(pool_disk_find(rig->pool, engine_rig_directory(0, 0), &ssd), 0);
	assert_int_equal(pool_disk_set_draining(rig->pool, ssd, true), 0);
	assert_int_equal(vdisk_repair(rig->vdisk, &repair), 0);
	vdisk_get_redundancy(rig->vdisk, &redundancy);
	assert_int_equal(redundancy.leaving, 0);
	info = quota(rig);
	assert_true(info.tiers[POLICY_HDD].used >= 24 * MIB && info.tiers[POLICY_HDD].beyond);
	assert_true(reached_count("pool.tier-beyond") > beyond);
	assert_int_equal(put(rig->vdisk, 100, 9), -ENOSPC);
	for (unsigned i = 0; i < 24; i++)
		expect(rig->vdisk, i, 1);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 24 * MIB, 0), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	pool_check(rig->pool);
	engine_rig_stop(rig);
	return 0;
}

static void drains_beyond_a_limit(void **state)
{
	struct engine_rig rig;

	(void)state;
	engine_rig_init(&rig, 1, false, 512 * MIB);
	engine_rig_set_disks(&rig, 2, 1);
	rig.tiers[1] = "hdd";
	rig.vdisk_bytes = SIZE;
	engine_rig_call(&rig, drain_at_limit);
	engine_rig_done(&rig);
}

static void run(int (*fn)(struct engine_rig *rig), uint64_t capacity_bytes)
{
	struct engine_rig rig;

	engine_rig_init(&rig, 1, false, capacity_bytes);
	rig.vdisk_bytes = SIZE;
	engine_rig_call(&rig, fn);
	engine_rig_done(&rig);
}

static void overwrites_in_a_full_tier_without_the_map(void **state)
{
	(void)state;
	run(overwrite_in_full_tier, 512 * MIB);
}

static void overwrites_in_a_full_container_without_the_map(void **state)
{
	(void)state;
	run(overwrite_in_full_container, 512 * MIB);
}

static void overwrites_in_a_full_pool_without_the_map(void **state)
{
	(void)state;
	run(overwrite_in_full_pool, 512 * MIB);
}

static void modifies_in_a_full_tier_without_the_map(void **state)
{
	(void)state;
	run(modify_across_leaves, 512 * MIB);
}

static void parts_of_blocks_that_wait_hold_nobody_up(void **state)
{
	(void)state;
	run(wait_with_parts_for_a_tier, 512 * MIB);
	run(wait_with_parts_for_a_container, 512 * MIB);
}

static void fails_with_its_log_whatever_the_error(void **state)
{
	(void)state;
	run(fail_log_when_full, 512 * MIB);
}

static void vdisks_share_a_full_tier(void **state)
{
	(void)state;
	run(share_full_tier, 512 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(overwrites_in_a_full_tier_without_the_map),
		cmocka_unit_test(overwrites_in_a_full_container_without_the_map),
		cmocka_unit_test(overwrites_in_a_full_pool_without_the_map),
		cmocka_unit_test(modifies_in_a_full_tier_without_the_map),
		cmocka_unit_test(parts_of_blocks_that_wait_hold_nobody_up),
		cmocka_unit_test(fails_with_its_log_whatever_the_error),
		cmocka_unit_test(vdisks_share_a_full_tier),
		cmocka_unit_test(drains_beyond_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
