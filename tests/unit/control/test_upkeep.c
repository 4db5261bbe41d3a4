/* SPDX-License-Identifier: Apache-2.0 */
/* What the node does to its disks and rows by itself. */
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
#include "control/node_disk.h"
#include "control/node_place.h"
#include "control/node_retire.h"
#include "control/node_scrub.h"
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

struct rows {
	enum catalog_table table;
	uint64_t pool, disk; /* 0: of all */
	size_t count;
};

static void count_in_fiber(void *arg)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	struct rows *wanted = arg;
	struct catalog_key prefix = catalog_key(wanted->table);

	if (wanted->pool)
		catalog_key_add(&prefix, wanted->pool);
	if (wanted->disk)
		catalog_key_add(&prefix, wanted->disk);
	ASSERT(catalog_scan(rig.node->catalog, &prefix, NULL, 0, &rows) == 0);
	wanted->count = rows.count;
}

static size_t rows_of(enum catalog_table table, uint64_t pool, uint64_t disk)
{
	struct rows rows = {.table = table, .pool = pool, .disk = disk};

	sim_rig_run(&rig.sim, 0, count_in_fiber, &rows);
	return rows.count;
}

static int find(void *context, const char *directory, json_t **ret_place)
{
	(void)context;
	*ret_place = json_pack("{s:{s:s}, s:[{s:s}]}", "mount", "point", directory, "devices",
			       "name", "sdx");
	return 0;
}

static int no_led(void *context, const char *enclosure, const char *slot, enum place_led *ret_led)
{
	(void)context, (void)enclosure, (void)slot, (void)ret_led;
	return -ENOENT;
}

static int no_set_led(void *context, const char *enclosure, const char *slot, enum place_led led)
{
	(void)context, (void)enclosure, (void)slot, (void)led;
	return -ENOENT;
}

static const struct place_ops places = {.find = find, .get_led = no_led, .set_led = no_set_led};

/* Writers that come after the disk was removed: they had looked at it before. */
static void write_late(void *arg)
{
	struct pool_disk_info *info = arg;
	struct node_pool *pool = node_pool_by_id(rig.node, 1);
	struct node_place place = {0};

	*info = (struct pool_disk_info){.id = 2, .directory = OTHER "/gone"};
	ASSERT(node_place_get(rig.node, 1, info, &place) == 0);
	ASSERT(place.place && !place.remembered); /* told, although nobody keeps it */
	json_decref(place.place);
	fiber_mutex_lock(&rig.node->lock);
	ASSERT(node_retire_set(rig.node, pool, 2, true) == -ENOENT);
	ASSERT(!node_retire_is_meant(rig.node, pool, 2));
	fiber_mutex_unlock(&rig.node->lock);
}

static void rows_go_with_their_disk(void **state)
{
	struct pool_disk_info *info = calloc(1, sizeof(*info));

	(void)state;
	assert_non_null(info);
	node_rig_init(&rig, 3, 1);
	assert_int_equal(sim_disk_add(rig.sim.sim, OTHER, 32 * GIB), 0);
	rig.places = &places;
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_make_pool(&rig);
	add_disk("gone", "ssd");
	add_disk("stays", "ssd");
	json_decref(call("disk.locate", "{\"disk\": \"2\"}"));
	assert_int_equal(rows_of(CATALOG_PLACE, 1, 2), 1);
	node_rig_expect(&rig, ERROR_NONE, "disk.replace",
			"{\"disk\": \"2\", \"directory\": \"" OTHER "/stays\"}");
	assert_int_equal(rows_of(CATALOG_RETIRE, 1, 2), 1);
	let_pass(5);
	assert_int_equal(rows_of(CATALOG_DISK, 1, 2), 0);
	assert_int_equal(rows_of(CATALOG_PLACE, 1, 2) + rows_of(CATALOG_RETIRE, 1, 2), 0);
	sim_rig_run(&rig.sim, 0, write_late, info);
	assert_int_equal(rows_of(CATALOG_PLACE, 1, 2) + rows_of(CATALOG_RETIRE, 1, 2), 0);
	free(info);
	node_rig_done(&rig);
}

static size_t rows_of_pool(uint64_t pool)
{
	return rows_of(CATALOG_SCRUB, pool, 0) + rows_of(CATALOG_PLACE, pool, 0) +
	       rows_of(CATALOG_RETIRE, pool, 0);
}

static void wake_later(void *arg)
{
	fiber_sleep(*(uint64_t *)arg);
	node_service_wake(&rig.node->scrub);
	node_service_wake(&rig.node->places);
}

/* The services look at the pool while it is being deleted. */
static void rows_go_with_their_pool(void **state)
{
	(void)state;
	node_rig_init(&rig, 4, 1);
	rig.places = &places;
	assert_int_equal(node_rig_start(&rig), 0);
	for (uint64_t id = 1; id <= 60; id++) {
		uint64_t delay_ns = id * 50 * NSEC_PER_USEC;
		struct sim_rig_task task = {.run = wake_later, .arg = &delay_ns};

		node_rig_expect(&rig, ERROR_NONE, "pool.create",
				"{\"name\": \"q\", \"directory\": \"" NODE_RIG_DISK "/q\", "
				"\"capacity\": \"1G\"}");
		sim_rig_start(&rig.sim, 0, &task);
		node_rig_expect(&rig, ERROR_NONE, "pool.delete", "{\"name\": \"q\"}");
		assert_int_equal(sim_rig_wait(&rig.sim, &task, 1, NSEC_PER_SEC), 0);
		let_pass(1);
		assert_int_equal(rows_of_pool(id), 0);
	}
	node_rig_done(&rig);
}

static void put_in_fiber(void *arg)
{
	const struct catalog_change *change = arg;

	ASSERT(catalog_commit(rig.node->catalog, change, 1) == 0);
}

static void put_row(enum catalog_table table, uint64_t pool, uint64_t disk)
{
	struct catalog_change change = {
		.kind = CATALOG_PUT, .key = catalog_key(table), .value = "\1", .length = 1};

	catalog_key_add(&change.key, pool);
	if (disk)
		catalog_key_add(&change.key, disk);
	sim_rig_run(&rig.sim, 0, put_in_fiber, &change);
}

/* What a crash between two commits left goes at the next start. */
static void rows_of_nothing_go_at_start(void **state)
{
	(void)state;
	begin(5);
	add_disk("d", "ssd");
	put_row(CATALOG_PLACE, 1, 2);
	put_row(CATALOG_RETIRE, 1, 2);
	put_row(CATALOG_PLACE, 1, 7);
	put_row(CATALOG_RETIRE, 1, 7);
	put_row(CATALOG_SCRUB, 9, 0);
	for (uint64_t i = 1; i <= 300; i++)
		put_row(CATALOG_SCRUB, 9, i);
	put_row(CATALOG_PLACE, 9, 1);
	put_row(CATALOG_RETIRE, 9, 1);
	let_pass(61);
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	assert_int_equal(rows_of_pool(9), 0);
	assert_int_equal(rows_of(CATALOG_PLACE, 1, 7) + rows_of(CATALOG_RETIRE, 1, 7), 0);
	assert_int_equal(rows_of(CATALOG_PLACE, 1, 2) + rows_of(CATALOG_RETIRE, 1, 2), 2);
	assert_int_equal(rows_of(CATALOG_SCRUB, 1, 0), 1);
	node_rig_done(&rig);
}

static bool disk_says(const char *id, const char *key)
{
	char text[64];
	json_t *disk;
	bool says;

	snprintf(text, sizeof(text), "{\"disk\": \"%s\"}", id);
	disk = call("disk.show", text);
	says = json_is_true(json_object_get(disk, key));
	json_decref(disk);
	return says;
}

static unsigned events_of(const char *reason)
{
	json_t *list = call("event.list", "{\"limit\": 1000}"), *event;
	unsigned count = 0;
	size_t i;

	json_array_foreach(list, i, event) count +=
		strcmp(json_string_value(json_object_get(event, "reason")), reason) == 0;
	json_decref(list);
	return count;
}

/* With no files on it, it is empty at once; nothing lacks a copy. */
static void draining_is_told(void **state)
{
	(void)state;
	begin(9);
	add_disk("d", "ssd");
	let_pass(3);
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\"}");
	let_pass(3);
	assert_int_equal(events_of("disk-drained"), 1);
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\", \"stop\": true}");
	let_pass(3);
	assert_int_equal(events_of("disk-kept"), 1);
	assert_int_equal(events_of("pool-degraded"), 0);
	node_rig_done(&rig);
}

static void draining_is_paused(void **state)
{
	(void)state;
	begin(8);
	add_disk("d", "ssd");
	node_rig_expect(&rig, ERROR_INVALID_REQUEST, "disk.drain",
			"{\"disk\": \"2\", \"pause\": true}");
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\"}");
	node_rig_expect(&rig, ERROR_INVALID_REQUEST, "disk.drain",
			"{\"disk\": \"2\", \"pause\": true, \"stop\": true}");
	for (unsigned i = 0; i < 2; i++) /* twice is once */
		node_rig_expect(&rig, ERROR_NONE, "disk.drain",
				"{\"disk\": \"2\", \"pause\": true}");
	assert_true(disk_says("2", "draining") && disk_says("2", "paused"));
	node_rig_crash(&rig, SIM_CRASH_POWER);
	assert_int_equal(node_rig_start(&rig), 0);
	assert_true(disk_says("2", "draining") && disk_says("2", "paused"));
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\"}");
	assert_true(disk_says("2", "draining") && !disk_says("2", "paused"));
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\", \"pause\": true}");
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\", \"stop\": true}");
	assert_false(disk_says("2", "draining") || disk_says("2", "paused"));
	assert_int_equal(rows_of(CATALOG_DRAIN, 1, 0), 0);
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\"}");
	node_rig_expect(&rig, ERROR_NONE, "disk.drain", "{\"disk\": \"2\", \"pause\": true}");
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_expect(&rig, ERROR_NONE, "disk.remove", "{\"disk\": \"2\"}");
	assert_int_equal(rows_of(CATALOG_DRAIN, 1, 0), 0);
	node_rig_done(&rig);
}

static void expect_scrub(const char *state)
{
	json_t *pool = call("pool.show", "{\"name\": \"p\"}");
	json_t *scrub = json_object_get(pool, "scrub");

	assert_string_equal(json_string_value(json_object_get(scrub, "state")), state);
	json_decref(pool);
}

/* Reading its label may not come back: nobody waits for that but the scrub, and it not for ever. */
static void a_disk_that_hangs_holds_up_nobody(void **state)
{
	(void)state;
	begin(6);
	add_disk("d", "ssd");
	let_pass(2);
	sim_disk_set_hung(rig.sim.sim, OTHER, true);
	node_rig_expect(&rig, ERROR_NONE, "pool.scrub", "{\"name\": \"p\"}");
	let_pass(1);
	expect_scrub("running");
	node_rig_expect(&rig, ERROR_NONE, "pool.list", "{}");
	node_rig_expect(&rig, ERROR_NONE, "container.create", "{\"name\": \"other\"}");
	node_rig_expect(&rig, ERROR_NONE, "disk.add",
			"{\"pool\": \"p\", \"directory\": \"" NODE_RIG_DISK "/other\", "
			"\"capacity\": \"1G\"}");
	let_pass(10);
	expect_scrub("idle");
	/* It is known to be silent now, and not even asked. */
	node_rig_expect(&rig, ERROR_NONE, "pool.scrub", "{\"name\": \"p\"}");
	let_pass(1);
	expect_scrub("idle");
	sim_disk_set_hung(rig.sim.sim, OTHER, false);
	let_pass(10);
	node_rig_done(&rig);
}

static void a_pool_that_is_scrubbed_is_deleted(void **state)
{
	(void)state;
	begin(7);
	node_rig_expect(&rig, ERROR_NONE, "container.delete", "{\"name\": \"c\"}");
	node_rig_expect(&rig, ERROR_NONE, "pool.scrub", "{\"name\": \"p\"}");
	node_rig_expect(&rig, ERROR_NONE, "pool.delete", "{\"name\": \"p\"}");
	let_pass(2);
	node_rig_done(&rig);
}

static void keep_rate(void *arg)
{
	const uint64_t *rate = arg;
	uint64_t seen = 0, start = reactor_now_ns(rig.node->home);

	rig.node->options.scrub_rate_bytes = *rate;
	node_scrub_keep_rate(rig.node, 3 * MIB, &seen);
	ASSERT(seen == 3 * MIB);
	ASSERT(reactor_now_ns(rig.node->home) - start == (*rate ? 3 * NSEC_PER_SEC : 0));
	node_scrub_keep_rate(rig.node, 4 * MIB, &seen); /* only what has come since */
	ASSERT(reactor_now_ns(rig.node->home) - start == (*rate ? 4 * NSEC_PER_SEC : 0));
}

static void a_scrub_keeps_its_rate(void **state)
{
	uint64_t rate = MIB;

	(void)state;
	begin(7);
	sim_rig_run(&rig.sim, 0, keep_rate, &rate);
	rate = 0; /* no limit */
	sim_rig_run(&rig.sim, 0, keep_rate, &rate);
	node_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mirrors_are_spread_over_tiers),
		cmocka_unit_test(replacing_can_be_said_again),
		cmocka_unit_test(rows_go_with_their_disk),
		cmocka_unit_test(rows_go_with_their_pool),
		cmocka_unit_test(rows_of_nothing_go_at_start),
		cmocka_unit_test(draining_is_paused),
		cmocka_unit_test(draining_is_told),
		cmocka_unit_test(a_disk_that_hangs_holds_up_nobody),
		cmocka_unit_test(a_pool_that_is_scrubbed_is_deleted),
		cmocka_unit_test(a_scrub_keeps_its_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
