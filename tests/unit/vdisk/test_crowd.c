/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many vDisks of one reactor whose only disk hangs: more of their work stands still than there are
 * fibers of its class at first. Another vDisk of that reactor, on another disk, is served all the
 * same; and when the disk goes on, they do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_rig.h"
#include "pool/container.h"
#include "pool/pool_priv.h"
#include "vdisk/vdisk_priv.h"

#define SIZE    (256 * MIB)
#define WRITTEN 16u   /* MiB of each, so many leaves of the map */
#define HUNG    24u   /* vDisks, more than there are fibers for checkpoints or for reclaim */
#define READS   1200u /* more than there are fibers for data at most */
#define WRITES  10u
#define SOON_NS (8 * NSEC_PER_SEC)

static struct crowd {
	struct engine_rig *rig;
	struct vdisk *hung[HUNG], *other;
} crowd;

static struct ask {
	struct block_request request;
	struct iovec iov;
	bool finished;
	int result;
} asks[HUNG * WRITES + READS];
static unsigned ask_count;

static void asked(struct block_request *request, int result)
{
	struct ask *ask = CONTAINER_OF(request, struct ask, request);

	ask->finished = true;
	ask->result = result;
}

/* Without waiting for it. */
static void submit(struct vdisk *vdisk, enum block_op op, uint64_t offset, size_t bytes)
{
	struct ask *ask = &asks[ask_count++];

	*ask = (struct ask){.request = {.op = op, .offset = offset, .length = bytes}};
	ask->request.done = asked;
	if (bytes) {
		ask->iov =
			(struct iovec){aligned_alloc(4096, ALIGN_UP(bytes, (size_t)4096)), bytes};
		assert_non_null(ask->iov.iov_base);
		memset(ask->iov.iov_base, 7, bytes);
		ask->request.iov = &ask->iov;
		ask->request.iov_count = 1;
	}
	block_submit(vdisk_volume(vdisk), &ask->request);
}

/* All that was asked for ends well; what was read is as it was written. */
static void expect_answers(void)
{
	for (unsigned i = 0; i < ask_count; i++) {
		const unsigned char *bytes = asks[i].iov.iov_base;

		for (unsigned turn = 0; turn < 600 && !asks[i].finished; turn++)
			fiber_sleep(100 * NSEC_PER_MSEC);
		assert_true(asks[i].finished);
		assert_int_equal(asks[i].result, 0);
		if (asks[i].request.op == BLOCK_READ)
			for (size_t at = 0; at < asks[i].iov.iov_len; at++)
				assert_int_equal(bytes[at], 1);
		free(asks[i].iov.iov_base);
	}
	ask_count = 0;
}

static int io(struct vdisk *vdisk, enum block_op op, uint64_t offset, size_t bytes,
	      unsigned char fill)
{
	unsigned char *buffer = aligned_alloc(4096, ALIGN_UP(bytes, (size_t)4096));
	int r;

	assert_non_null(buffer);
	memset(buffer, fill, bytes);
	r = block_io(vdisk_volume(vdisk), op, 0, buffer, bytes, offset);
	for (size_t i = 0; r == 0 && i < bytes; i++)
		assert_int_equal(buffer[i], 1);
	free(buffer);
	return r;
}

static void open_one(uint64_t container, const char *name, struct vdisk **ret_vdisk)
{
	const struct vdisk_spec spec = {
		.name = name, .container_id = container, .size_bytes = SIZE, .block_bytes = 512};
	uint64_t id;

	assert_int_equal(vdisk_create(crowd.rig->pool, &spec, &id), 0);
	assert_int_equal(vdisk_open(crowd.rig->pool, crowd.rig->cache, id, ret_vdisk), 0);
	for (unsigned i = 0; i < WRITTEN; i++)
		assert_int_equal(io(*ret_vdisk, BLOCK_WRITE, i * MIB, 8192, 1), 0);
}

/* Of their maps nothing is in memory then. */
static void open_again(struct vdisk **vdisk)
{
	uint64_t id = vdisk_id(*vdisk);

	assert_int_equal(vdisk_close(*vdisk), 0);
	assert_int_equal(vdisk_open(crowd.rig->pool, crowd.rig->cache, id, vdisk), 0);
}

static void open_all(void)
{
	uint64_t container;
	char name[16];

	assert_int_equal(container_create(crowd.rig->catalog, sim_world(crowd.rig->sim.sim),
					  crowd.rig->pool_id, "d", &container),
			 0);
	engine_rig_set_policy(crowd.rig, POLICY_MAX_CAPACITY_SSD, 0);
	for (unsigned i = 0; i < HUNG; i++) {
		snprintf(name, sizeof(name), "hung%u", i);
		open_one(crowd.rig->container_id, name, &crowd.hung[i]);
		open_again(&crowd.hung[i]);
	}
	open_one(container, "other", &crowd.other);
	open_again(&crowd.other);
	fiber_sleep(2 * NSEC_PER_SEC); /* what opening began has ended */
}

static void set_hung(bool hung)
{
	sim_disk_set_hung(crowd.rig->sim.sim, engine_rig_disk(1), hung);
}

static uint64_t now(void)
{
	return reactor_now_ns(reactor_current());
}

/* Fibers for data: the map has to be read for each. */
static void reads_stand_still(void)
{
	uint64_t began;

	set_hung(true);
	for (unsigned i = 0; i < READS; i++)
		submit(crowd.hung[i % 3], BLOCK_READ, i % WRITTEN * MIB + i / WRITTEN % 16 * 512,
		       512);
	fiber_sleep(NSEC_PER_SEC);
	began = now();
	assert_int_equal(io(crowd.other, BLOCK_READ, 0, 8192, 0), 0);
	assert_int_equal(io(crowd.other, BLOCK_WRITE, MIB + 512, 512, 1), 0);
	assert_int_equal(io(crowd.other, BLOCK_READ, MIB, 8192, 0), 0);
	assert_true(now() < began + SOON_NS);
	set_hung(false);
	expect_answers();
}

/* Parts: of the map, all is in memory. */
static void warm_reads_stand_still(void)
{
	uint64_t began;

	for (unsigned i = 0; i < 3 * WRITTEN; i++)
		submit(crowd.hung[i % 3], BLOCK_READ, i / 3 * MIB, 512);
	expect_answers();
	set_hung(true);
	for (unsigned i = 0; i < READS; i++)
		submit(crowd.hung[i % 3], BLOCK_READ, i / 3 % WRITTEN * MIB, 512);
	fiber_sleep(NSEC_PER_SEC);
	began = now();
	assert_int_equal(io(crowd.other, BLOCK_READ, 0, 8192, 0), 0);
	assert_true(now() < began + SOON_NS);
	set_hung(false);
	expect_answers();
}

/* Fibers for checkpoints: groups to be made, syncs. */
static void flushes_stand_still(void)
{
	uint64_t began;

	for (unsigned i = 0; i < HUNG; i++)
		submit(crowd.hung[i], BLOCK_WRITE, 20 * MIB, 4096);
	expect_answers();
	set_hung(true);
	for (unsigned i = 0; i < HUNG; i++) {
		submit(crowd.hung[i], BLOCK_FLUSH, 0, 0);
		vdisk_checkpoint_soon(crowd.hung[i]);
	}
	fiber_sleep(NSEC_PER_SEC);
	began = now();
	assert_int_equal(io(crowd.other, BLOCK_WRITE, 20 * MIB, 8192, 1), 0);
	assert_int_equal(block_io(vdisk_volume(crowd.other), BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(vdisk_checkpoint(crowd.other), 0);
	assert_true(now() < began + SOON_NS);
	set_hung(false);
	expect_answers();
}

/* Buffers for records: each vDisk has as many under way as it may. */
static void writes_stand_still(void)
{
	uint64_t began;

	set_hung(true);
	for (unsigned i = 0; i < HUNG; i++)
		for (unsigned j = 0; j < WRITES; j++)
			submit(crowd.hung[i], BLOCK_WRITE, (24 + j) * MIB, 128 * KIB);
	fiber_sleep(NSEC_PER_SEC);
	began = now();
	assert_int_equal(io(crowd.other, BLOCK_WRITE, 24 * MIB, MIB, 1), 0);
	assert_int_equal(block_io(vdisk_volume(crowd.other), BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_true(now() < began + SOON_NS);
	set_hung(false);
	expect_answers();
}

static int hang(struct engine_rig *rig)
{
	crowd.rig = rig;
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	open_all();
	reads_stand_still();
	warm_reads_stand_still();
	flushes_stand_still();
	writes_stand_still();
	for (unsigned i = 0; i < HUNG; i++)
		assert_int_equal(vdisk_close(crowd.hung[i]), 0);
	assert_int_equal(vdisk_close(crowd.other), 0);
	engine_rig_stop(rig);
	return 0;
}

#define ROUNDS    8u  /* files of each vDisk */
#define STRANGERS 12u /* vDisks: more files than there are fibers to open them */

/* A pool of its own, whose only disk will hang: nobody can do without it. */
static struct pool *open_other_pool(struct engine_rig *rig, uint64_t *ret_container)
{
	const struct pool_spec spec = {
		.name = "q", .directory = engine_rig_directory(1, 0), .capacity_bytes = 2 * GIB};
	struct world *world = sim_world(rig->sim.sim);
	struct pool *pool;
	uint64_t id;

	assert_int_equal(pool_create(world, rig->catalog, &spec, &id), 0);
	assert_int_equal(container_create(rig->catalog, world, id, "q", ret_container), 0);
	assert_int_equal(pool_open(world, rig->catalog, id, &pool), 0);
	return pool;
}

/* In each round the next block, which goes to another file. */
static void write_files(struct pool *pool, uint64_t container, unsigned number,
			struct vdisk **ret_vdisk)
{
	struct vdisk_spec spec = {
		.container_id = container, .size_bytes = SIZE, .block_bytes = 512};
	char name[16];
	uint64_t id;

	snprintf(name, sizeof(name), "q%u", number);
	spec.name = name;
	assert_int_equal(vdisk_create(pool, &spec, &id), 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		assert_int_equal(vdisk_open(pool, crowd.rig->cache, id, ret_vdisk), 0);
		assert_int_equal(io(*ret_vdisk, BLOCK_WRITE, round * 4096, 4096, 1), 0);
		assert_int_equal(vdisk_close(*ret_vdisk), 0);
	}
	assert_int_equal(vdisk_open(pool, crowd.rig->cache, id, ret_vdisk), 0);
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

/* Fibers for control: files to be opened. */
static void openings_stand_still(struct engine_rig *rig, struct vdisk *const strangers[STRANGERS])
{
	uint64_t began;

	/* Of the map, all is in memory then; of files, only one is open. */
	for (unsigned i = 0; i < STRANGERS; i++)
		assert_int_equal(io(strangers[i], BLOCK_READ, 0, 4096, 0), 0);
	set_hung(true);
	for (unsigned i = 0; i < STRANGERS; i++)
		for (unsigned round = 1; round < ROUNDS; round++)
			submit(strangers[i], BLOCK_READ, round * 4096, 4096);
	fiber_sleep(NSEC_PER_SEC);
	began = now();
	assert_int_equal(pool_carry(rig->pool, nothing, NULL), 0);
	assert_int_equal(io(crowd.other, BLOCK_WRITE, 30 * MIB, MIB, 1), 0);
	open_again(&crowd.other);
	assert_int_equal(io(crowd.other, BLOCK_READ, 30 * MIB, MIB, 0), 0);
	assert_true(now() < began + SOON_NS);
	set_hung(false);
	expect_answers();
}

static int hang_other_pool(struct engine_rig *rig)
{
	struct vdisk *strangers[STRANGERS];
	uint64_t container;
	struct pool *pool;

	crowd.rig = rig;
	rig->disks = 1; /* of the first pool */
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	pool = open_other_pool(rig, &container);
	for (unsigned i = 0; i < STRANGERS; i++)
		write_files(pool, container, i, &strangers[i]);
	open_one(rig->container_id, "other", &crowd.other);
	fiber_sleep(2 * NSEC_PER_SEC); /* what opening began has ended */
	openings_stand_still(rig, strangers);
	for (unsigned i = 0; i < STRANGERS; i++)
		assert_int_equal(vdisk_close(strangers[i]), 0);
	assert_int_equal(vdisk_close(crowd.other), 0);
	pool_close(pool);
	engine_rig_stop(rig);
	return 0;
}

static void a_pool_that_hangs_leaves_others_alone(void **state)
{
	struct engine_rig rig;

	(void)state;
	engine_rig_init(&rig, 1, false, 2 * GIB);
	engine_rig_set_disks(&rig, 2, 1);
	engine_rig_call(&rig, hang_other_pool);
	engine_rig_done(&rig);
}

static void a_disk_that_hangs_holds_up_its_own(void **state)
{
	struct engine_rig rig;

	(void)state;
	engine_rig_init(&rig, 1, false, 2 * GIB);
	engine_rig_set_disks(&rig, 2, 1);
	rig.tiers[1] = "hdd";
	engine_rig_call(&rig, hang);
	engine_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_that_hangs_holds_up_its_own),
		cmocka_unit_test(a_pool_that_hangs_leaves_others_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
