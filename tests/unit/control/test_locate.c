/* SPDX-License-Identifier: Apache-2.0 */
/* disk.locate in the simulated world, with places that are made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "control/node_place.h"
#include "reactor/fiber.h"

#include "node_rig.h"

struct made_up {
	int find_error, led_error;
	enum place_led led;
	const char *serial, *slot; /* no serial: no device is below the mount */
	bool elsewhere;            /* on a mount without devices: NFS, say */
	unsigned found;
};

static struct node_rig rig;
static struct made_up world;

static int find(void *context, const char *directory, json_t **ret_place)
{
	struct made_up *made_up = context;

	made_up->found++;
	if (made_up->find_error)
		return made_up->find_error;
	if (made_up->serial)
		*ret_place = json_pack("{s:{s:s}, s:[{s:s, s:s, s:s, s:s}]}", "mount", "point",
				       directory, "devices", "name", "sdx", "serial",
				       made_up->serial, "enclosure", "e", "slot", made_up->slot);
	else
		*ret_place = json_pack("{s:{s:s}, s:[]}", "mount", "point",
				       made_up->elsewhere ? "/elsewhere" : directory, "devices");
	return 0;
}

static int get_led(void *context, const char *enclosure, const char *slot, enum place_led *ret_led)
{
	struct made_up *made_up = context;

	assert_string_equal(enclosure, "e");
	assert_string_equal(slot, made_up->slot);
	*ret_led = made_up->led;
	return made_up->led_error;
}

static int set_led(void *context, const char *enclosure, const char *slot, enum place_led led)
{
	struct made_up *made_up = context;

	if (made_up->led_error == 0)
		made_up->led = led;
	return made_up->led_error;
}

static const struct place_ops ops = {.find = find, .get_led = get_led, .set_led = set_led};

static void begin(uint64_t seed, const struct place_ops *places)
{
	world = (struct made_up){.serial = "S1", .slot = "3"};
	node_rig_init(&rig, seed, 1);
	assert_int_equal(sim_disk_add(rig.sim.sim, "/disk1", 2 * GIB), 0);
	rig.places = places;
	rig.places_context = &world;
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_make_pool(&rig);
	node_rig_expect(&rig, ERROR_NONE, "disk.add",
			"{\"pool\": \"p\", \"directory\": \"/disk1/pool\"}");
}

static json_t *call(const char *method, const char *params)
{
	json_t *answer = node_rig_call(&rig, method, params), *result;

	assert_int_equal(rig.code, ERROR_NONE);
	result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return result;
}

static void expect(const char *params, const char *serial, const char *light, bool remembered)
{
	json_t *result = call("disk.locate", params);
	json_t *device = json_array_get(json_object_get(result, "devices"), 0);

	assert_string_equal(json_string_value(json_object_get(device, "serial")), serial);
	assert_string_equal(json_string_value(json_object_get(device, "light_state")), light);
	assert_int_equal(json_is_true(json_object_get(result, "remembered")), remembered);
	assert_int_equal(json_object_get(result, "note") != NULL, remembered);
	json_decref(result);
}

static void expect_light(const char *text)
{
	json_t *result = call("disk.locate", "{\"disk\": \"2\"}");
	json_t *device = json_array_get(json_object_get(result, "devices"), 0);

	assert_string_equal(json_string_value(json_object_get(device, "light")), text);
	json_decref(result);
}

static void tells_and_switches(void **state)
{
	begin(1, &ops);
	expect("{\"disk\": \"2\"}", "S1", "on", false);
	assert_int_equal(world.led, PLACE_LED_ON);
	expect("{\"disk\": \"/disk1/pool\", \"off\": true}", "S1", "off", false);
	assert_int_equal(world.led, PLACE_LED_OFF);
	world.led_error = -ENOENT;
	expect("{\"disk\": \"2\"}", "S1", "none", false);
	world.led_error = -EACCES;
	expect("{\"disk\": \"2\"}", "S1", "refused", false);
	expect_light("the daemon may not switch it; as root: echo 1 > "
		     "'/sys/class/enclosure/e/3/locate'");
	world.slot = "3'; reboot; '";
	expect_light(
		"the daemon may not switch it; root can: write 1 to 'locate' of its slot below "
		"/sys/class/enclosure");
	world.slot = "3";
	world.led_error = -EIO; /* not for want of a right */
	expect("{\"disk\": \"2\"}", "S1", "failed", false);
	expect_light("its enclosure does not switch it: Input/output error; try --blink");
	node_rig_expect(&rig, ERROR_NOT_FOUND, "disk.locate", "{\"disk\": \"77\"}");
	node_rig_expect(&rig, ERROR_INVALID_REQUEST, "disk.locate",
			"{\"disk\": \"2\", \"off\": true, \"blink\": 2}");
	rig.role = ROLE_READER;
	node_rig_expect(&rig, ERROR_FORBIDDEN, "disk.locate", "{\"disk\": \"2\"}");
	node_rig_done(&rig);
}

/* What was seen is told of a disk that is gone, also after a restart. */
static void remembers(void **state)
{
	begin(2, &ops);
	expect("{\"disk\": \"2\"}", "S1", "on", false);
	world.serial = "S2"; /* plugged in elsewhere: what was seen last counts */
	expect("{\"disk\": \"2\"}", "S2", "on", false);
	world.find_error = -ENOENT;
	expect("{\"disk\": \"2\"}", "S2", "on", true);
	node_rig_expect(&rig, ERROR_NONE, "disk.fail", "{\"disk\": \"2\"}");
	world.find_error = 0;
	world.serial = "S3"; /* of what is in its place now */
	expect("{\"disk\": \"2\"}", "S2", "on", true);
	node_rig_stop(&rig);
	rig.places = NULL;
	assert_int_equal(node_rig_start(&rig), 0);
	expect("{\"disk\": \"2\"}", "S2", "none", true);
	node_rig_done(&rig);
}

/* A drive that was pulled: its mount is listed still, and nothing is below it. */
static void remembers_a_drive_that_was_pulled(void **state)
{
	json_t *result;

	begin(7, &ops);
	world.serial = NULL;
	result = call("disk.locate", "{\"disk\": \"2\"}");
	assert_false(json_is_true(json_object_get(result, "remembered")));
	assert_int_equal(json_array_size(json_object_get(result, "devices")), 0);
	json_decref(result);
	world.serial = "S1";
	expect("{\"disk\": \"2\"}", "S1", "on", false);
	world.serial = NULL;
	expect("{\"disk\": \"2\"}", "S1", "on", true);
	world.find_error = -ENOENT;
	expect("{\"disk\": \"2\"}", "S1", "on", true);
	/* Another mount that has none is where the disk is now. */
	world.find_error = 0;
	world.elsewhere = true;
	result = call("disk.locate", "{\"disk\": \"2\"}");
	assert_false(json_is_true(json_object_get(result, "remembered")));
	assert_int_equal(json_array_size(json_object_get(result, "devices")), 0);
	json_decref(result);
	node_rig_done(&rig);
}

static void pause_in_fiber(void *arg)
{
	fiber_sleep(70 * NSEC_PER_SEC);
}

/* The service looks without being asked. */
static void looks_by_itself(void **state)
{
	begin(3, &ops);
	sim_rig_run(&rig.sim, 0, pause_in_fiber, NULL);
	assert_true(world.found >= 2);
	world.find_error = -ENOENT;
	expect("{\"disk\": \"2\"}", "S1", "on", true);
	node_rig_done(&rig);
}

static void says_when_nothing_is_known(void **state)
{
	json_t *result;

	begin(4, NULL);
	result = call("disk.locate", "{\"disk\": \"2\"}");
	assert_non_null(json_object_get(result, "note"));
	assert_null(json_object_get(result, "devices"));
	json_decref(result);
	node_rig_done(&rig);
}

static void blinks(void **state)
{
	json_t *job;
	uint64_t before_ns, spent_ns;

	begin(5, &ops);
	before_ns = world_now_ns(sim_world(rig.sim.sim));
	job = call("disk.locate", "{\"disk\": \"2\", \"blink\": 3}");
	assert_string_equal(json_string_value(json_object_get(job, "kind")), "disk.locate");
	json_decref(job);
	job = call("job.wait", "{\"id\": 1, \"timeout_ms\": 30000}");
	assert_string_equal(json_string_value(json_object_get(job, "state")), "done");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(job, "result"), "disk")), 2);
	json_decref(job);
	spent_ns = world_now_ns(sim_world(rig.sim.sim)) - before_ns;
	assert_true(spent_ns >= 3 * NSEC_PER_SEC && spent_ns < 5 * NSEC_PER_SEC);
	assert_int_equal(world.led, PLACE_LED_OFF);
	/* It can be ended, and ends when the node does. */
	json_decref(call("disk.locate", "{\"disk\": \"2\", \"blink\": 3600}"));
	node_rig_expect(&rig, ERROR_NONE, "job.cancel", "{\"id\": 2}");
	job = call("job.wait", "{\"id\": 2, \"timeout_ms\": 30000}");
	assert_string_equal(json_string_value(json_object_get(job, "state")), "cancelled");
	json_decref(job);
	json_decref(call("disk.locate", "{\"disk\": \"2\", \"blink\": 3600}"));
	node_rig_done(&rig);
}

/* Blinking takes a fiber of the node for up to an hour: not all of them. */
static void few_blink(void **state)
{
	char text[128];

	begin(8, &ops);
	for (unsigned i = 3; i <= 6; i++) {
		snprintf(text, sizeof(text), "{\"pool\": \"p\", \"directory\": \"/disk1/pool%u\"}",
			 i);
		node_rig_expect(&rig, ERROR_NONE, "disk.add", text);
	}
	for (unsigned i = 2; i <= 5; i++) {
		snprintf(text, sizeof(text), "{\"disk\": \"%u\", \"blink\": 3600}", i);
		node_rig_expect(&rig, ERROR_NONE, "disk.locate", text);
		node_rig_expect(&rig, ERROR_BUSY, "disk.locate", text);
	}
	node_rig_expect(&rig, ERROR_BUSY, "disk.locate", "{\"disk\": \"6\", \"blink\": 1}");
	node_rig_expect(&rig, ERROR_NONE, "job.cancel", "{\"id\": 1}");
	node_rig_expect(&rig, ERROR_NONE, "job.wait", "{\"id\": 1, \"timeout_ms\": 30000}");
	node_rig_expect(&rig, ERROR_NONE, "disk.locate", "{\"disk\": \"6\", \"blink\": 1}");
	node_rig_expect(&rig, ERROR_NONE, "job.wait", "{\"id\": 5, \"timeout_ms\": 30000}");
	node_rig_expect(&rig, ERROR_NONE, "disk.locate", "{\"disk\": \"2\", \"blink\": 1}");
	node_rig_done(&rig);
}

struct silent_look {
	struct pool_disk_info info;
	struct node_place place;
	int result;
};

static void look_at_silent(void *arg)
{
	struct silent_look *look = arg;

	look->result = node_place_get(rig.node, 1, &look->info, &look->place);
}

/* Nothing is begun on a disk that does not answer, or was given up. */
static void leaves_silent_disks_alone(void **state)
{
	struct silent_look *look = calloc(1, sizeof(*look));
	unsigned before;

	assert_non_null(look);
	begin(9, &ops);
	expect("{\"disk\": \"2\"}", "S1", "on", false);
	before = world.found;
	look->info = (struct pool_disk_info){
		.id = 2, .state = POOL_DISK_ONLINE, .directory = "/disk1/pool", .silent_ns = 1};
	sim_rig_run(&rig.sim, 0, look_at_silent, look);
	assert_int_equal(look->result, 0);
	assert_true(look->place.remembered);
	assert_int_equal(world.found, before);
	json_decref(look->place.place);
	look->info.silent_ns = 0;
	sim_rig_run(&rig.sim, 0, look_at_silent, look);
	assert_int_equal(look->result, 0);
	assert_false(look->place.remembered);
	assert_int_equal(world.found, before + 1);
	json_decref(look->place.place);
	free(look);
	node_rig_expect(&rig, ERROR_NONE, "disk.fail", "{\"disk\": \"2\"}");
	node_rig_expect(&rig, ERROR_UNAVAILABLE, "disk.locate", "{\"disk\": \"2\", \"blink\": 1}");
	node_rig_done(&rig);
}

static bool is_listed(uint64_t id, bool *ret_leaves)
{
	json_t *list = call("disk.list", "{}"), *disk;
	bool found = false;
	size_t i;

	json_array_foreach(list, i, disk)
	{
		if (json_integer_value(json_object_get(disk, "id")) != (json_int_t)id)
			continue;
		found = true;
		*ret_leaves = json_is_true(json_object_get(disk, "removed_when_empty"));
	}
	json_decref(list);
	return found;
}

/* One that is replaced goes by itself when it is empty, one that is to be kept does not. */
static void replaced_disks_leave(void **state)
{
	uint8_t block[4096] = {1};
	bool leaves;

	begin(6, &ops);
	node_rig_expect(&rig, ERROR_NONE, "disk.replace",
			"{\"disk\": \"2\", \"directory\": \"/disk1/new\", \"keep\": true}");
	sim_rig_run(&rig.sim, 0, pause_in_fiber, NULL);
	assert_true(is_listed(2, &leaves) && !leaves);
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\", \"stop\": true}");
	node_rig_expect(&rig, ERROR_NONE, "disk.replace",
			"{\"disk\": \"2\", \"directory\": \"/disk1/newer\"}");
	node_rig_crash(&rig, SIM_CRASH_PROCESS);
	assert_int_equal(node_rig_start(&rig), 0);
	sim_rig_run(&rig.sim, 0, pause_in_fiber, NULL);
	assert_false(is_listed(2, &leaves));
	assert_true(is_listed(3, &leaves) && !leaves);
	/* One that holds something, was given up, and is taken back after all. */
	node_rig_expect(&rig, ERROR_NONE, "container.set",
			"{\"name\": \"c\", \"set\": {\"replication_factor\": 3}}");
	node_rig_expect(&rig, ERROR_NONE, "vdisk.create", "{\"name\": \"c/d\", \"size\": \"64M\"}");
	assert_int_equal(node_rig_transfer(&rig, BLOCK_WRITE, block, sizeof(block)), 0);
	node_rig_expect(&rig, ERROR_NONE, "disk.fail", "{\"disk\": \"3\"}");
	node_rig_expect(&rig, ERROR_NONE, "disk.replace",
			"{\"disk\": \"3\", \"directory\": \"/disk1/newest\"}");
	node_rig_expect(&rig, ERROR_NONE, "disk.restore", "{\"disk\": \"3\"}");
	sim_rig_run(&rig.sim, 0, pause_in_fiber, NULL);
	assert_true(is_listed(3, &leaves) && !leaves);
	node_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_and_switches),
		cmocka_unit_test(remembers),
		cmocka_unit_test(remembers_a_drive_that_was_pulled),
		cmocka_unit_test(looks_by_itself),
		cmocka_unit_test(says_when_nothing_is_known),
		cmocka_unit_test(blinks),
		cmocka_unit_test(few_blink),
		cmocka_unit_test(leaves_silent_disks_alone),
		cmocka_unit_test(replaced_disks_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
