/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk hangs at each file operation in turn of the start of a node whose pool has another copy of
 * everything: it starts in time, serves what was flushed, and takes the disk back once it answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "control/node_priv.h"

#include "node_rig.h"

#define GOOD(method, params) node_rig_expect(&rig, ERROR_NONE, method, params)
#define OPS_FAR              (UINT64_C(1) << 40)
#define SEEDS                4u
#define DATA                 (4 * MIB)
/* The mirror of the catalog, the pool's disk, then what opening a vDisk writes; each is late by its
 * own limit when the disk hangs just before. */
#define START_NS   (40 * NSEC_PER_SEC)
#define ANSWERS_NS (300 * NSEC_PER_SEC)

static struct node_rig rig;

static struct {
	const char *disk;
	uint64_t after; /* operations; 0 = from before the start */
	bool ended, hit;
} hanging;

static void hang_at(void *arg)
{
	(void)arg;
	while (!hanging.ended && OPS_FAR - sim_crash_left(rig.sim.sim) < hanging.after)
		fiber_sleep(NSEC_PER_USEC);
	hanging.hit = !hanging.ended;
	if (hanging.hit)
		sim_disk_set_hung(rig.sim.sim, hanging.disk, true);
}

static struct node_vdisk *vdisk; /* the only one, which is open */

static void find_vdisk(void *arg)
{
	(void)arg;
	vdisk = node_vdisk_find(rig.node, "c/d");
	ASSERT(vdisk && vdisk->vdisk);
}

static struct block_volume *volume(void)
{
	return vdisk_volume(vdisk->vdisk);
}

static void transfer(enum block_op kind, uint8_t first)
{
	uint8_t *buffer = aligned_alloc(4096, MIB), *expected = malloc(MIB);

	ASSERT(buffer && expected);
	for (uint64_t at = 0; at < DATA; at += MIB) {
		memset(expected, first + (int)(at / MIB), MIB);
		memcpy(buffer, expected, MIB);
		ASSERT(block_io(volume(), kind, 0, buffer, MIB, at) == 0);
		ASSERT(memcmp(buffer, expected, MIB) == 0);
		memset(buffer, 0, MIB);
	}
	free(buffer);
	free(expected);
}

static void write_in_fiber(void *arg)
{
	transfer(BLOCK_WRITE, *(const uint8_t *)arg);
	ASSERT(block_io(volume(), BLOCK_FLUSH, 0, NULL, 0, 0) == 0);
}

static void read_in_fiber(void *arg)
{
	transfer(BLOCK_READ, *(const uint8_t *)arg);
}

static void at_home(void (*run)(void *arg), uint8_t first)
{
	sim_rig_run(&rig.sim, 0, find_vdisk, NULL);
	sim_rig_run(&rig.sim, reactor_index(vdisk->home), run, &first);
}

static void begin(uint64_t seed)
{
	node_rig_init(&rig, seed, 2);
	rig.iscsi = rig.nvme = false;
	ASSERT(sim_disk_add(rig.sim.sim, "/disk1", 2 * GIB) == 0);
	ASSERT(sim_disk_add(rig.sim.sim, "/disk2", 2 * GIB) == 0);
	ASSERT(node_rig_start(&rig) == 0);
	GOOD("pool.create",
	     "{\"name\": \"p\", \"directory\": \"/disk1/p\", \"capacity\": \"512M\"}");
	GOOD("disk.add", "{\"pool\": \"p\", \"directory\": \"/disk2/p\", \"capacity\": \"512M\"}");
	GOOD("container.create", "{\"name\": \"c\", \"set\": {\"replication_factor\": 2}}");
	GOOD("vdisk.create", "{\"name\": \"c/d\", \"size\": \"64M\"}");
}

static void start_within(void)
{
	struct sim_rig_task task = {.run = hang_at};
	uint64_t begin_ns;

	sim_crash_nth(rig.sim.sim, OPS_FAR, SIM_CRASH_PROCESS);
	begin_ns = reactor_now_ns(rig.sim.reactors[0]);
	sim_rig_start(&rig.sim, 0, &task);
	assert_int_equal(node_rig_start(&rig), 0);
	hanging.ended = true;
	begin_ns = reactor_now_ns(rig.sim.reactors[0]) - begin_ns;
	ASSERT(begin_ns < START_NS);
	assert_int_equal(sim_rig_wait(&rig.sim, &task, 1, NSEC_PER_SEC), 0);
}

static bool all_are_there(void)
{
	struct node_pool *pool = node_pool_find(rig.node, "p");
	struct catalog_mirror_info *infos;
	size_t count, good = 0;

	ASSERT(catalog_mirror_list(rig.node->catalog, &infos, &count) == 0);
	for (size_t i = 0; i < count; i++)
		good += infos[i].state == CATALOG_MIRROR_GOOD;
	free(infos);
	return good == 2 && pool_disk_state(pool->pool, 1) == POOL_DISK_ONLINE &&
	       pool_disk_state(pool->pool, 2) == POOL_DISK_ONLINE;
}

static void come_back(void *arg)
{
	uint64_t begin_ns = reactor_now_ns(reactor_current());

	(void)arg;
	sim_disk_set_hung(rig.sim.sim, hanging.disk, false);
	while (!all_are_there()) {
		ASSERT(reactor_now_ns(reactor_current()) - begin_ns < ANSWERS_NS);
		fiber_sleep(NSEC_PER_SEC);
	}
}

static bool hang_nth(uint64_t n, uint64_t seed)
{
	hanging.disk = seed % 2 ? "/disk1" : "/disk2";
	hanging.after = n;
	hanging.ended = hanging.hit = false;
	begin(seed);
	at_home(write_in_fiber, 1);
	if (seed % 4 < 2)
		node_rig_crash(&rig, SIM_CRASH_PROCESS);
	else
		node_rig_stop(&rig);
	start_within();
	at_home(read_in_fiber, 1);
	at_home(write_in_fiber, 101);
	sim_rig_run(&rig.sim, 0, come_back, NULL);
	at_home(read_in_fiber, 101);
	node_rig_done(&rig);
	return hanging.hit;
}

static void starts_beside_a_disk_that_hangs(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		uint64_t n = 0;

		while (hang_nth(n, seed))
			n += n == 0 ? seed : *(const uint64_t *)*state;
		assert_true(n > 10);
	}
}

int main(int argc, char **argv)
{
	uint64_t step = argc > 1 && strcmp(argv[1], "all") == 0 ? 1 : 17;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(starts_beside_a_disk_that_hangs, &step),
	};

	if (!getenv("SARSEN_LOG"))
		sim_rig_silence_log();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
