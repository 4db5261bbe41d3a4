/* SPDX-License-Identifier: Apache-2.0 */
/* The event log in a simulated world; its argument is docs/events.md, which says what the table
 * says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/event.h"
#include "node_rig.h"
#include "reactor/io.h"

static struct node_rig rig;
static const char *page;

static json_t *result_of(const char *method, const char *params)
{
	json_t *answer = node_rig_call(&rig, method, params), *result;

	assert_int_equal(rig.code, ERROR_NONE);
	result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return result;
}

/* How many events have the reason; numbers must have no gaps. */
static unsigned count_of(const char *reason)
{
	json_t *list = result_of("event.list", "{\"limit\": 1000}");
	unsigned count = 0;
	json_int_t last = 0;

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *event = json_array_get(list, i);
		json_int_t id = json_integer_value(json_object_get(event, "id"));

		assert_true(last == 0 || id == last + 1);
		last = id;
		count += strcmp(json_string_value(json_object_get(event, "reason")), reason) == 0;
	}
	json_decref(list);
	return count;
}

static void starts_and_stops_are_told(void **state)
{
	node_rig_init(&rig, 1, 2);
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_make_pool(&rig);
	node_rig_expect(&rig, ERROR_NONE, "vdisk.create", "{\"name\": \"c/d\", \"size\": \"64M\"}");
	node_rig_expect(&rig, ERROR_NONE, "event.follow", "{\"after\": 0}");
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_expect(&rig, ERROR_NONE, "event.follow", "{\"after\": 2}");
	assert_int_equal(count_of("node-started"), 2);
	assert_int_equal(count_of("node-stopped"), 1);
	assert_int_equal(count_of("node-recovered"), 0);
	node_rig_crash(&rig, SIM_CRASH_POWER);
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_expect(&rig, ERROR_NONE, "event.follow", "{\"after\": 4}");
	assert_int_equal(count_of("node-recovered"), 1);
	assert_int_equal(count_of("vdisk-recovered"), 1);
	node_rig_done(&rig);
}

static void jobs_are_told_and_followed(void **state)
{
	json_t *list;

	node_rig_init(&rig, 2, 1);
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_make_pool(&rig);
	node_rig_expect(&rig, ERROR_NONE, "vdisk.create", "{\"name\": \"c/d\", \"size\": \"64M\"}");
	node_rig_expect(&rig, ERROR_NONE, "vdisk.delete", "{\"name\": \"c/d\"}");
	list = result_of("event.follow", "{\"after\": 1, \"timeout_ms\": 30000}");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "reason")),
			    "job-done");
	json_decref(list);
	list = result_of("event.follow", "{\"timeout_ms\": 100}");
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	list = result_of("event.list", "{\"after\": 1000000}");
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	node_rig_expect(&rig, ERROR_NONE, "health.show", "{}");
	node_rig_expect(&rig, ERROR_UNKNOWN_METHOD, "doctor.run", "{}");
	node_rig_done(&rig);
}

#define POOL     NODE_RIG_DISK "/pool"
#define DATABASE NODE_RIG_DISK "/state/catalog.db"

static bool health_tells(const char *words)
{
	json_t *result = result_of("health.show", "{}");
	char *text = json_dumps(result, 0);
	bool found = strstr(text, words);

	free(text);
	json_decref(result);
	return found;
}

/* Waits until the mirror is good. */
static void wait_for_mirror(void)
{
	bool good = false;

	for (unsigned i = 0; !good && i < 100; i++) {
		json_t *list = result_of("catalog.show", "{}");
		json_t *mirror = json_array_get(list, 1);

		good = mirror &&
		       strcmp(json_string_value(json_object_get(mirror, "state")), "good") == 0;
		json_decref(list);
		list = result_of("event.follow", "{\"after\": 100000, \"timeout_ms\": 1000}");
		json_decref(list);
	}
	assert_true(good);
}

/* A scrub from its start to its end, which tells what it put right and what it could not. */
static void scrub(json_int_t put_right, json_int_t damaged)
{
	bool ended = false;

	node_rig_expect(&rig, ERROR_NONE, "pool.scrub", "{\"name\": \"p\"}");
	for (unsigned i = 0; !ended && i < 100; i++) {
		json_t *pool = result_of("pool.show", "{\"name\": \"p\"}");
		json_t *told = json_object_get(pool, "scrub");

		ended = strcmp(json_string_value(json_object_get(told, "state")), "idle") == 0;
		if (ended) {
			assert_int_equal(
				json_integer_value(json_object_get(told, "put_right_blocks")),
				put_right);
			assert_int_equal(
				json_integer_value(json_object_get(told, "damaged_blocks")),
				damaged);
		}
		json_decref(pool);
		json_decref(result_of("event.follow", "{\"after\": 100000, \"timeout_ms\": 1000}"));
	}
	assert_true(ended);
}

static void flip_snapshot(void *arg)
{
	struct world_names names;
	char path[160];
	int r = -ENOENT;

	(void)arg;
	ASSERT(io_directory_list(POOL "/catalog", &names) == 0);
	for (size_t i = 0; i < names.count; i++) {
		snprintf(path, sizeof(path), POOL "/catalog/%.100s", names.names[i]);
		if (strncmp(names.names[i], "snapshot-", 9) == 0)
			r = sim_disk_flip(rig.sim.sim, path, 4096 + 100, 3);
	}
	ASSERT(r == 0);
	world_names_free(&names);
}

/* Somewhere in the database where something is. */
static void flip_database(void)
{
	for (uint64_t at = 4096 + 4000;; at += 4096) {
		json_t *answer;

		assert_int_equal(sim_disk_flip(rig.sim.sim, DATABASE, at, 1), 0);
		answer = node_rig_call(&rig, "catalog.verify", "{}");
		json_decref(answer);
		if (rig.code == ERROR_DAMAGED)
			return;
		assert_int_equal(rig.code, ERROR_NONE);
		assert_int_equal(sim_disk_flip(rig.sim.sim, DATABASE, at, 1), 0);
	}
}

/* In their order; `second` may be NULL. */
static void expect_findings(const char *first, const char *first_result, const char *second,
			    const char *second_result)
{
	const char *const expected[][2] = {{first, first_result}, {second, second_result}};
	json_t *list = result_of("pool.findings", "{\"name\": \"p\"}"), *finding;
	size_t i;

	assert_int_equal(json_array_size(list), second ? 2 : 1);
	json_array_foreach(list, i, finding)
	{
		assert_string_equal(json_string_value(json_object_get(finding, "what")),
				    expected[i][0]);
		assert_string_equal(json_string_value(json_object_get(finding, "result")),
				    expected[i][1]);
		assert_null(json_object_get(finding, "vdisk"));
	}
	json_decref(list);
}

/* The catalog's database, its mirrors and the labels of disks are looked at, too. */
static void scrub_looks_at_facts(void **state)
{
	(void)state;
	node_rig_init(&rig, 4, 1);
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_make_pool(&rig);
	wait_for_mirror();
	scrub(0, 0);
	assert_int_equal(sim_disk_flip(rig.sim.sim, POOL "/label", 45, 2), 0);
	sim_rig_run(&rig.sim, 0, flip_snapshot, NULL);
	scrub(2, 0);
	expect_findings("catalog", "put-right", "label", "put-right");
	assert_int_equal(count_of("scrub-repaired"), 2);
	wait_for_mirror();
	scrub(0, 0);
	assert_false(health_tells("database"));
	node_rig_stop(&rig); /* all of it into the database, out of the WAL */
	assert_int_equal(node_rig_start(&rig), 0);
	wait_for_mirror();
	flip_database();
	assert_true(health_tells("rows of its database are damaged"));
	scrub(0, 1);
	expect_findings("catalog", "damaged", NULL, NULL);
	assert_true(health_tells("found 1 blocks, labels or catalogs"));
	node_rig_expect(&rig, ERROR_NONE, "event.follow", "{\"timeout_ms\": 1000}");
	assert_int_equal(count_of("catalog-damaged"), 1);
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	wait_for_mirror();
	assert_int_equal(count_of("catalog-restored"), 1);
	scrub(0, 0);
	assert_false(health_tells("database"));
	node_rig_done(&rig);
}

/* In a fiber, which a failed cmocka check cannot leave: ASSERT() instead. */
static void fill_and_reopen(void *arg)
{
	struct reactor *home = rig.sim.reactors[0];
	const struct catalog_options options = {
		.path = NODE_RIG_DISK "/state/catalog.db", .vfs = SIM_VFS_NAME, .create = true};
	struct catalog *catalog;
	struct events *events;
	struct event event;

	ASSERT(catalog_open(sim_world(rig.sim.sim), &options, &catalog) == 0);
	ASSERT(events_open(home, catalog, &events) == 0);
	ASSERT(events_last(events) == 0 && !events_next(events, 0, &event));
	for (uint64_t i = 1; i <= EVENTS_KEPT + 100; i++) {
		event_emit(events, EVENT_JOB_DONE, "o", "number %d", (int)i);
		if (i % 30 == 0)
			events_wait(events, i - 1, UINT64_MAX);
	}
	events_close(events);
	ASSERT(events_open(home, catalog, &events) == 0);
	ASSERT(events_last(events) == EVENTS_KEPT + 100);
	ASSERT(events_next(events, 0, &event) && event.id == 101);
	ASSERT(strcmp(event.text, "number 101") == 0 && strcmp(event.object, "o") == 0);
	ASSERT(events_next(events, EVENTS_KEPT + 99, &event) && event.id == EVENTS_KEPT + 100);
	for (int i = 0; i < 200; i++) /* more than wait at once: those are only logged */
		event_emit(events, EVENT_JOB_DONE, "o", "burst");
	events_close(events);
	ASSERT(events_open(home, catalog, &events) == 0);
	ASSERT(events_last(events) == EVENTS_KEPT + 100 + 64);
	events_close(events);
	catalog_close(catalog);
}

static void the_oldest_go(void **state)
{
	node_rig_init(&rig, 3, 1);
	sim_rig_run(&rig.sim, 0, fill_and_reopen, NULL);
	node_rig_done(&rig);
}

static void page_names_every_reason(void **state)
{
	char text[16384] = "", row[600];
	FILE *file = fopen(page, "r");

	assert_non_null(file);
	assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
	fclose(file);
	for (int i = 0; i < EVENT_REASON_COUNT; i++) {
		const struct event_kind *kind = event_kind((enum event_reason)i);

		assert_true(strlen(kind->name) < sizeof(((struct event *)NULL)->reason));
		assert_int_equal(event_severity_by_name(kind->name), kind->severity);
		snprintf(row, sizeof(row), "| %s | %s | %s |\n", kind->name,
			 event_severity_name(kind->severity), kind->meaning);
		if (!strstr(text, row))
			fail_msg("docs/events.md has no row: %s", row);
	}
	assert_int_equal(event_severity_by_name("of-a-later-version"), EVENT_INFO);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_and_stops_are_told),
		cmocka_unit_test(jobs_are_told_and_followed),
		cmocka_unit_test(scrub_looks_at_facts),
		cmocka_unit_test(the_oldest_go),
		cmocka_unit_test(page_names_every_reason),
	};

	if (argc != 2)
		return 2;
	page = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
