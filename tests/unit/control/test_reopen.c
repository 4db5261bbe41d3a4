/* SPDX-License-Identifier: Apache-2.0 */
/* Pools and vDisks that cannot be opened at the start, and can later: without a restart. */
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
#include "control/node_nvme.h"
#include "reactor/fiber.h"

#include "node_rig.h"

#define OTHER "/disk1"
#define BYTES (256 * KIB)

static struct node_rig rig;

#define GOOD(method, params) node_rig_expect(&rig, ERROR_NONE, method, params)
#define DISK                 "{\"name\": \"c/d\"}"

static void begin(uint64_t seed)
{
	node_rig_init(&rig, seed, 2);
	assert_int_equal(sim_disk_add(rig.sim.sim, OTHER, 8 * GIB), 0);
	assert_int_equal(node_rig_start(&rig), 0);
}

static struct node_vdisk *the_vdisk(void)
{
	return LIST_ENTRY(list_front(&rig.node->vdisks), struct node_vdisk, link);
}

/* A vDisk with data, a LUN and a namespace. */
static void make_vdisk(void)
{
	_cleanup_free_ uint8_t *bytes = aligned_alloc(4096, BYTES);

	assert_non_null(bytes);
	memset(bytes, 'd', BYTES);
	GOOD("vdisk.create", "{\"name\": \"c/d\", \"size\": \"64M\"}");
	assert_int_equal(node_rig_transfer(&rig, BLOCK_WRITE, bytes, BYTES), 0);
	GOOD("iscsi.export", DISK);
	GOOD("nvme.create", "{\"name\": \"vm\"}");
	GOOD("nvme.attach", "{\"name\": \"vm\", \"vdisk\": \"c/d\", \"shared\": true}");
}

static void sleep_in_fiber(void *arg)
{
	fiber_sleep(*(uint64_t *)arg);
}

static void pass(uint64_t seconds)
{
	uint64_t ns = seconds * NSEC_PER_SEC;

	sim_rig_run(&rig.sim, 0, sleep_in_fiber, &ns);
}

static struct node_namespace *namespace(void)
{
	struct node_controller *controller =
		LIST_ENTRY(list_front(&rig.node->controllers), struct node_controller, entry);

	return node_nvme_by_nsid(controller, 1);
}

static const struct nvme_namespace_options *attached(void)
{
	const struct keeper_rig_keeper *keeper = keeper_rig_find(&rig.keepers, "vm");

	assert_non_null(keeper->link);
	return &keeper->link->namespaces[1];
}

static void expect_out(void)
{
	const struct node_vdisk *vdisk = the_vdisk();

	assert_true(!vdisk->vdisk && vdisk->error < 0 && vdisk->export->error < 0);
	assert_true(namespace()->error < 0);
	assert_int_equal(attached()->nsid, 0);
}

/* With what was written before. */
static void expect_served(void)
{
	_cleanup_free_ uint8_t *bytes = aligned_alloc(4096, BYTES);
	const struct node_vdisk *vdisk = the_vdisk();

	assert_non_null(bytes);
	assert_true(vdisk->vdisk && vdisk->error == 0 && vdisk->export->error == 0);
	assert_int_equal(namespace()->error, 0);
	assert_int_equal(attached()->nsid, 1);
	assert_ptr_equal(attached()->volume, vdisk_volume(vdisk->vdisk));
	assert_int_equal(node_rig_transfer(&rig, BLOCK_READ, bytes, BYTES), 0);
	for (size_t at = 0; at < BYTES; at++)
		assert_int_equal(bytes[at], 'd');
}

static unsigned told(const char *reason)
{
	json_t *answer = node_rig_call(&rig, "event.list", "{}"), *event;
	unsigned count = 0;
	size_t i;

	json_array_foreach(json_object_get(answer, "result"), i, event) count +=
		strcmp(json_string_value(json_object_get(event, "reason")), reason) == 0;
	json_decref(answer);
	return count;
}

static void make_on_the_other(void)
{
	node_rig_make_pool(&rig);
	GOOD("disk.add", "{\"pool\": \"p\", \"directory\": \"" OTHER "/pool\"}");
	GOOD("disk.drain", "{\"disk\": \"1\"}");
	make_vdisk();
	GOOD("disk.drain", "{\"disk\": \"1\", \"stop\": true}");
	node_rig_crash(&rig, SIM_CRASH_PROCESS); /* there is a log to be read */
}

/* Its only copy is on a disk that hangs at the start, and then answers. */
static void the_only_copy_hangs(void **state)
{
	(void)state;
	begin(1);
	make_on_the_other();
	sim_disk_set_hung(rig.sim.sim, OTHER, true);
	assert_int_equal(node_rig_start(&rig), 0);
	pass(60);
	expect_out();
	sim_disk_set_hung(rig.sim.sim, OTHER, false);
	pass(15);
	expect_served();
	assert_int_equal(told("vdisk-opened"), 1);
	node_rig_stop(&rig); /* and again, as if nothing had been */
	assert_int_equal(node_rig_start(&rig), 0);
	pass(1);
	expect_served();
	node_rig_done(&rig);
}

/* ... or is away, and is taken back by hand. */
static void the_only_copy_is_away(void **state)
{
	uint64_t tries;

	(void)state;
	begin(2);
	make_on_the_other();
	sim_disk_set_missing(rig.sim.sim, OTHER, true);
	assert_int_equal(node_rig_start(&rig), 0);
	tries = reached_count("node.tries-vdisk");
	pass(60);
	expect_out();
	assert_int_equal(reached_count("node.tries-vdisk"), tries); /* nothing has changed */
	GOOD("disk.fail", "{\"disk\": \"2\"}");
	pass(60);
	expect_out();
	sim_disk_set_missing(rig.sim.sim, OTHER, false);
	GOOD("disk.restore", "{\"disk\": \"2\"}");
	pass(15);
	expect_served();
	node_rig_done(&rig);
}

/* Nor could its pool be opened. */
static void the_pool_is_away(void **state)
{
	uint64_t tries;

	(void)state;
	begin(3);
	GOOD("pool.create", "{\"name\": \"p\", \"directory\": \"" OTHER "/pool\", "
			    "\"capacity\": \"1G\"}");
	GOOD("container.create", "{\"name\": \"c\"}");
	make_vdisk();
	node_rig_stop(&rig);
	sim_disk_set_missing(rig.sim.sim, OTHER, true);
	assert_int_equal(node_rig_start(&rig), 0);
	tries = reached_count("node.tries-pool");
	pass(60);
	assert_in_range(reached_count("node.tries-pool") - tries, 2, 4);
	expect_out();
	assert_true(!LIST_ENTRY(list_front(&rig.node->pools), struct node_pool, link)->pool);
	sim_disk_set_missing(rig.sim.sim, OTHER, false);
	pass(120);
	expect_served();
	assert_int_equal(told("pool-online"), 1);
	assert_int_equal(told("vdisk-opened"), 1);
	GOOD("vdisk.create", "{\"name\": \"c/e\", \"size\": \"64M\"}");
	node_rig_done(&rig);
}

/* Its only disk hangs: that holds up neither the start nor other pools. */
static void the_pool_hangs(void **state)
{
	uint64_t begun_ns;

	(void)state;
	begin(4);
	node_rig_make_pool(&rig);
	GOOD("pool.create", "{\"name\": \"q\", \"directory\": \"" OTHER "/pool\", "
			    "\"capacity\": \"1G\"}");
	GOOD("container.create", "{\"name\": \"o\", \"pool\": \"q\"}");
	GOOD("vdisk.create", "{\"name\": \"o/e\", \"size\": \"64M\"}");
	make_vdisk();
	node_rig_crash(&rig, SIM_CRASH_PROCESS);
	sim_disk_set_hung(rig.sim.sim, OTHER, true);
	begun_ns = reactor_now_ns(rig.sim.reactors[0]);
	assert_int_equal(node_rig_start(&rig), 0);
	assert_true(reactor_now_ns(rig.sim.reactors[0]) - begun_ns < 60 * NSEC_PER_SEC);
	pass(400); /* it is not tried again and again */
	GOOD("vdisk.create", "{\"name\": \"c/f\", \"size\": \"64M\"}");
	assert_int_equal(told("vdisk-opened"), 0);
	sim_disk_set_hung(rig.sim.sim, OTHER, false);
	pass(30);
	assert_int_equal(told("pool-online"), 1);
	assert_int_equal(told("vdisk-opened"), 1);
	GOOD("vdisk.create", "{\"name\": \"o/g\", \"size\": \"64M\"}");
	node_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_only_copy_hangs),
		cmocka_unit_test(the_only_copy_is_away),
		cmocka_unit_test(the_pool_is_away),
		cmocka_unit_test(the_pool_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
