/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "control/job.h"
#include "control/openapi.h"

#include "sim_rig.h"

/* The checks run in fibers, which a failed cmocka check cannot leave: ASSERT() instead. */

#define DISK "/state"

static struct sim_rig rig;
static struct catalog *catalog;
static struct jobs *jobs;

static void open_all(void)
{
	const struct catalog_options options = {
		.path = DISK "/catalog.db", .vfs = SIM_VFS_NAME, .create = true};

	ASSERT(catalog_open(sim_world(rig.sim), &options, &catalog) == 0);
	ASSERT(jobs_open(rig.reactors[0], catalog, &jobs) == 0);
}

static void close_all(void)
{
	jobs_close(TAKE_PTR(jobs));
	catalog_close(TAKE_PTR(catalog));
}

static void in_fiber(void *arg)
{
	void (*test)(void) = *(void (**)(void))arg;

	open_all();
	test();
	close_all();
}

static void run_in_sim(void (*test)(void))
{
	sim_rig_init(&rig, 5, 1);
	assert_int_equal(sim_disk_add(rig.sim, DISK, GIB), 0);
	sim_rig_run(&rig, 0, in_fiber, &test);
	sim_rig_done(&rig);
}

/* What the jobs of these tests do. */
struct work {
	int result;
	bool hold; /* run until released or cancelled */
	bool cancellable;
	unsigned runs, done;
};

static int run(struct job *job, void *arg, struct error *ret_error)
{
	struct work *work = arg;

	work->runs++;
	job_set_cancellable(job, work->cancellable);
	job_begun(job);
	job_progress(job, 100, 400);
	while (work->hold && !job_is_cancelled(job))
		fiber_sleep(NSEC_PER_SEC);
	if (job_is_cancelled(job))
		return -ECANCELED;
	job_set_result(job, json_pack("{s:i}", "answer", 42));
	if (work->result == -EIO)
		error_set(ret_error, ERROR_IO, "a/b", "look", "broken");
	return work->result;
}

static void done(void *arg)
{
	((struct work *)arg)->done++;
}

static struct job_spec spec_of(struct work *work, bool durable)
{
	return (struct job_spec){.method = method_get(METHOD_VDISK_DELETE),
				 .object = "a/b",
				 .subject = 7,
				 .durable = durable,
				 .run = run,
				 .done = done,
				 .arg = work};
}

static uint64_t start(struct work *work, bool durable)
{
	struct job_spec spec = spec_of(work, durable);
	uint64_t id;

	ASSERT(job_start(jobs, &spec, &id) == 0);
	return id;
}

static void wait_for(uint64_t id)
{
	job_wait(jobs, id, UINT64_MAX);
}

static bool is(uint64_t id, enum job_state state)
{
	struct job_info info;

	return job_get(jobs, id, &info) == 0 && info.state == state;
}

static json_int_t number(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

static const char *text(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

static bool is_of_type(const json_t *value, const char *type)
{
	return !type || (json_is_integer(value) && strcmp(type, "integer") == 0) ||
	       (json_is_string(value) && strcmp(type, "string") == 0) ||
	       (json_is_boolean(value) && strcmp(type, "boolean") == 0);
}

/* Each key of a job is in the OpenAPI document, with its type. Takes the job. */
static void expect_described(json_t *job)
{
	json_t *document = openapi_document("1"), *properties, *value, *described;
	const char *key;

	properties = json_object_get(document, "components");
	properties = json_object_get(json_object_get(properties, "schemas"), "Job");
	properties = json_object_get(properties, "properties");
	json_object_foreach(job, key, value)
	{
		described = json_object_get(properties, key);
		if (!described || !is_of_type(value, text(described, "type")))
			fprintf(stderr, "openapi.json does not tell of %s\n", key);
		ASSERT(described && is_of_type(value, text(described, "type")));
	}
	json_decref(document);
	json_decref(job);
}

static void runs_to_the_end(void)
{
	struct work good = {0}, bad = {.result = -EIO}, odd = {.result = -ENOENT};
	uint64_t ids[3] = {start(&good, false), start(&bad, true), start(&odd, false)};
	json_t *json;

	for (unsigned i = 0; i < 3; i++)
		wait_for(ids[i]);
	ASSERT(good.runs == 1 && good.done == 1 && bad.done == 1);
	ASSERT(is(ids[0], JOB_DONE) && is(ids[1], JOB_FAILED) && is(ids[2], JOB_FAILED));
	json = job_to_json(jobs, ids[0]);
	ASSERT(number(json, "id") == (json_int_t)ids[0] && number(json, "done_bytes") == 100 &&
	       number(json, "total_bytes") == 400);
	ASSERT(strcmp(text(json, "state"), "done") == 0 &&
	       strcmp(text(json, "kind"), "vdisk.delete") == 0);
	ASSERT(number(json_object_get(json, "result"), "answer") == 42);
	expect_described(json);
	json = job_to_json(jobs, ids[1]);
	ASSERT(strcmp(text(json_object_get(json, "error"), "message"), "broken") == 0);
	expect_described(json);
	json = job_to_json(jobs, ids[2]);
	ASSERT(strcmp(text(json_object_get(json, "error"), "code"), "not-found") == 0);
	json_decref(json);
	json = jobs_to_json(jobs);
	ASSERT(json_array_size(json) == 3);
	json_decref(json);
	ASSERT(jobs_running(jobs) == 0 && !job_to_json(jobs, 99));
}

static void waits_and_cancels(void)
{
	struct work held = {.hold = true, .cancellable = true}, stubborn = {.hold = true};
	uint64_t first = start(&held, false), second = start(&stubborn, false);
	uint64_t before_ns = reactor_now_ns(rig.reactors[0]);
	json_t *json;

	job_wait_begun(jobs, first);
	ASSERT(held.runs == 1);
	job_wait(jobs, first, before_ns + 5 * NSEC_PER_SEC);
	ASSERT(reactor_now_ns(rig.reactors[0]) >= before_ns + 5 * NSEC_PER_SEC);
	json = job_to_json(jobs, first);
	ASSERT(number(json, "rate_bytes") > 0 && number(json, "eta_ns") > 0);
	expect_described(json);
	ASSERT(job_cancel(jobs, 99) == -ENOENT);
	job_wait_begun(jobs, second);
	ASSERT(job_cancel(jobs, second) == -EPERM);
	ASSERT(job_cancel(jobs, first) == 0);
	wait_for(first);
	ASSERT(is(first, JOB_CANCELLED) && job_cancel(jobs, first) == -EALREADY);
	stubborn.hold = false;
	wait_for(second);
	wait_for(99);
}

static void bounds_what_runs(void)
{
	struct work held = {.hold = true};
	struct job_spec spec = spec_of(&held, false);
	uint64_t id = 0, first = 0;

	for (unsigned i = 0; i < JOBS_RUNNING_MAX; i++) {
		ASSERT(job_start(jobs, &spec, &id) == 0);
		first = i == 0 ? id : first;
	}
	ASSERT(job_start(jobs, &spec, &id) == -EBUSY);
	ASSERT(jobs_running(jobs) == JOBS_RUNNING_MAX);
	held.hold = false;
	for (; first <= id; first++)
		wait_for(first);
}

static void keeps_the_newest(void)
{
	struct work work = {0};
	uint64_t id = 0, first = start(&work, true);
	json_t *list;

	wait_for(first);
	for (unsigned i = 0; i < JOBS_KEPT + 3; i++) {
		id = start(&work, i % 2);
		wait_for(id);
	}
	list = jobs_to_json(jobs);
	ASSERT(json_array_size(list) == JOBS_KEPT &&
	       number(json_array_get(list, JOBS_KEPT - 1), "id") == (json_int_t)id);
	json_decref(list);
	ASSERT(!is(first, JOB_DONE));
	/* Its row went too. */
	close_all();
	open_all();
	ASSERT(!is(first, JOB_DONE));
}

static void remembers_the_durable(void)
{
	struct work work = {0}, bad = {.result = -EIO};
	uint64_t forgotten = start(&work, false), kept = start(&work, true),
		 failed = start(&bad, true);
	json_t *json;

	wait_for(forgotten);
	wait_for(kept);
	wait_for(failed);
	close_all();
	open_all();
	ASSERT(!is(forgotten, JOB_DONE) && is(kept, JOB_DONE) && is(failed, JOB_FAILED));
	json = job_to_json(jobs, failed);
	ASSERT(strcmp(text(json_object_get(json, "error"), "code"), "io-error") == 0);
	json_decref(json);
	kept = start(&work, false);
	ASSERT(kept > failed);
	wait_for(kept);
}

static void refuses_when_closing(void)
{
	struct work held = {.hold = true, .cancellable = true};
	struct job_spec spec = spec_of(&held, false);
	uint64_t id = start(&held, false);

	job_wait_begun(jobs, id);
	jobs_begin_close(jobs);
	ASSERT(job_start(jobs, &spec, &id) == -ESHUTDOWN);
	job_wait(jobs, id, UINT64_MAX); /* returns at once */
}

static void ignores_bad_rows(void)
{
	static const char unfit[] = "{\"kind\": \"pool.list\", \"object\": \"x\", \"subject\": 1, "
				    "\"state\": \"running\", \"created\": 1}";
	static const char *const bad[] = {"", "{", "[]", "{\"kind\": 1}", unfit};
	struct job_info info;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct catalog_change change = {.kind = CATALOG_PUT,
						.key = catalog_key(CATALOG_JOB),
						.value = bad[i],
						.length = (uint32_t)strlen(bad[i])};

		catalog_key_add(&change.key, 1000 + i);
		ASSERT(catalog_commit(catalog, &change, 1) == 0);
	}
	close_all();
	open_all();
	ASSERT(!jobs_unfinished(jobs, 0, &info));
}

#define SIM_TEST(name)                        \
	static void name##_test(void **state) \
	{                                     \
		run_in_sim(name);             \
	}
SIM_TEST(runs_to_the_end)
SIM_TEST(waits_and_cancels)
SIM_TEST(bounds_what_runs)
SIM_TEST(keeps_the_newest)
SIM_TEST(remembers_the_durable)
SIM_TEST(refuses_when_closing)
SIM_TEST(ignores_bad_rows)

/* A crash while a durable job runs: the next start knows it, under its number. */
static struct work crashed;
static uint64_t crashed_id;

static void before_crash(void *arg)
{
	open_all();
	crashed_id = start(&crashed, true);
	job_wait_begun(jobs, crashed_id);
	while (!sim_is_dead(rig.sim))
		fiber_sleep(NSEC_PER_MSEC);
	crashed.hold = false;
	close_all();
}

static void after_crash(void *arg)
{
	struct work again = {0};
	struct job_spec spec = spec_of(&again, true);
	struct job_info info;

	open_all();
	ASSERT(jobs_unfinished(jobs, 0, &info) && info.id == crashed_id && info.subject == 7);
	ASSERT(!jobs_unfinished(jobs, 1, &info));
	ASSERT(job_resume(jobs, crashed_id, &spec) == 0);
	wait_for(crashed_id);
	ASSERT(again.runs == 1 && is(crashed_id, JOB_DONE) && !jobs_unfinished(jobs, 0, &info));
	close_all();
}

static bool has_begun(void *arg)
{
	return crashed.runs > 0;
}

static void survives_a_crash(void **state)
{
	struct sim_rig_task task = {.run = before_crash};

	crashed = (struct work){.hold = true};
	sim_rig_init(&rig, 6, 1);
	assert_int_equal(sim_disk_add(rig.sim, DISK, GIB), 0);
	sim_rig_start(&rig, 0, &task);
	assert_int_equal(sim_run_until(rig.sim, has_begun, NULL, 3600 * NSEC_PER_SEC), 0);
	sim_crash(rig.sim, SIM_CRASH_POWER);
	crashed.result = -ESHUTDOWN;
	assert_int_equal(sim_rig_wait(&rig, &task, 1, 3600 * NSEC_PER_SEC), 0);
	sim_rig_restart(&rig);
	sim_rig_run(&rig, 0, after_crash, NULL);
	sim_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_to_the_end_test),
		cmocka_unit_test(waits_and_cancels_test),
		cmocka_unit_test(bounds_what_runs_test),
		cmocka_unit_test(keeps_the_newest_test),
		cmocka_unit_test(remembers_the_durable_test),
		cmocka_unit_test(refuses_when_closing_test),
		cmocka_unit_test(ignores_bad_rows_test),
		cmocka_unit_test(survives_a_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
