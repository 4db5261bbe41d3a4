/* SPDX-License-Identifier: Apache-2.0 */
/* What the node does to its disks and rows by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "control/node_priv.h"
#include "reactor/fiber.h"

#include "node_rig.h"

#define OTHER "/disk1"

static struct node_rig rig;

static json_t *call(const char *method, const char *params)
{
	json_t *answer = node_rig_call(&rig, method, params), *result;

	if (rig.code != ERROR_NONE) {
		char *text = json_dumps(answer, 0);

		fprintf(stderr, "%s %s: %s\n", method, params, text);
		free(text);
	}
	assert_int_equal(rig.code, ERROR_NONE);
	result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return result;
}

static void begin(uint64_t seed)
{
	node_rig_init(&rig, seed, 1);
	assert_int_equal(sim_disk_add(rig.sim.sim, OTHER, 32 * GIB), 0);
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_make_pool(&rig);
}

static void add_disk(const char *name, const char *tier)
{
	char text[200];

	snprintf(text, sizeof(text),
		 "{\"pool\": \"p\", \"directory\": \"" OTHER "/%s\", \"tier\": \"%s\", "
		 "\"capacity\": \"1G\"}",
		 name, tier);
	node_rig_expect(&rig, ERROR_NONE, "disk.add", text);
}

static void sleep_in_fiber(void *arg)
{
	fiber_sleep(*(uint64_t *)arg);
}

static void let_pass(uint64_t seconds)
{
	uint64_t ns = seconds * NSEC_PER_SEC;

	sim_rig_run(&rig.sim, 0, sleep_in_fiber, &ns);
}

static unsigned mirrors_of(const char *tier)
{
	json_t *list = call("disk.list", "{}"), *disk;
	unsigned count = 0;
	size_t i;

	json_array_foreach(list, i, disk) count +=
		strcmp(json_string_value(json_object_get(disk, "tier")), tier) == 0 &&
		strcmp(json_string_value(json_object_get(disk, "catalog_mirror")), "none") != 0;
	json_decref(list);
	return count;
}

/* Of more disks than there may be mirrors. */
static void mirrors_are_spread_over_tiers(void **state)
{
	char name[16];

	(void)state;
	begin(1);
	for (unsigned i = 0; i < 14; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		add_disk(name, i < 7 ? "san" : "hdd");
	}
	for (unsigned i = 14; i < 21; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		add_disk(name, "ssd");
	}
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	let_pass(30);
	assert_int_equal(mirrors_of("ssd") + mirrors_of("san") + mirrors_of("hdd"), 16);
	assert_in_range(mirrors_of("ssd"), 5, 6);
	assert_in_range(mirrors_of("san"), 5, 6);
	assert_in_range(mirrors_of("hdd"), 5, 6);
	node_rig_done(&rig);
}

/* What a first attempt had done when a later step failed, the next one takes as it is. */
static void replacing_can_be_said_again(void **state)
{
	json_t *list, *disk;

	(void)state;
	begin(2);
	add_disk("old", "ssd");
	add_disk("new", "ssd"); /* as a "disk replace" leaves it that failed after that */
	node_rig_expect(&rig, ERROR_NONE, "disk.replace",
			"{\"disk\": \"2\", \"directory\": \"" OTHER "/new\"}");
	node_rig_expect(&rig, ERROR_NONE, "disk.fail", "{\"disk\": \"3\"}");
	node_rig_expect(&rig, ERROR_INVALID_REQUEST, "disk.replace",
			"{\"disk\": \"1\", \"directory\": \"" OTHER "/new\"}");
	node_rig_expect(&rig, ERROR_INVALID_REQUEST, "disk.replace",
			"{\"disk\": \"1\", \"directory\": \"" NODE_RIG_DISK "/pool\"}");
	node_rig_expect(&rig, ERROR_EXISTS, "disk.add",
			"{\"pool\": \"p\", \"directory\": \"" OTHER "/new\"}");
	let_pass(5);
	list = call("disk.list", "{}");
	assert_int_equal(json_array_size(list), 2); /* 2 has left */
	disk = json_array_get(list, 1);
	assert_int_equal(json_integer_value(json_object_get(disk, "id")), 3);
	json_decref(list);
	node_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mirrors_are_spread_over_tiers),
		cmocka_unit_test(replacing_can_be_said_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
