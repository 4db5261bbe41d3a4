/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "control/json_memory.h"
#include "control/metrics.h"
#include "control/node_priv.h"
#include "pool/pool_rows.h"
#include "reactor/io.h"

#include "node_rig.h"

static struct node_rig rig;

#define GOOD(method, params)      node_rig_expect(&rig, ERROR_NONE, method, params)
#define BAD(code, method, params) node_rig_expect(&rig, code, method, params)
#define DISK(name)                "{\"name\": \"c/" name "\"}"
#define DISK_OF_64M(name)         "{\"name\": \"c/" name "\", \"size\": \"64M\"}"
#define CREATE(name)              GOOD("vdisk.create", DISK_OF_64M(name))

static void begin(uint64_t seed, unsigned reactors)
{
	node_rig_init(&rig, seed, reactors);
	assert_int_equal(node_rig_start(&rig), 0);
}

/* The result of a call that must succeed; the caller frees. */
static json_t *result_of(const char *method, const char *params)
{
	json_t *answer = node_rig_call(&rig, method, params), *result;

	assert_int_equal(rig.code, ERROR_NONE);
	assert_int_equal(json_integer_value(json_object_get(answer, "schema")), 1);
	result = json_incref(json_object_get(answer, "result"));
	assert_non_null(result);
	json_decref(answer);
	return result;
}

static void expect_state(const char *name, const char *state)
{
	json_t *list = result_of("vdisk.list", "{}");
	const char *found = "absent";
	json_t *disk;
	size_t i;

	json_array_foreach(
		list, i, disk) if (strcmp(json_string_value(json_object_get(disk, "name")), name) ==
				   0) found = json_string_value(json_object_get(disk, "state"));
	assert_string_equal(found, state);
	json_decref(list);
}

static void every_method_works(void **state)
{
	static const char *const readers[] = {"pool.list",  "container.list", "vdisk.list",
					      "iscsi.list", "iscsi.sessions", "iscsi.target-list",
					      "job.list",   "stats.show",     "node.show"};

	begin(1, 2);
	node_rig_make_pool(&rig);
	CREATE("d");
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		GOOD(readers[i], "{}");
	GOOD("pool.show", "{\"name\": \"p\"}");
	GOOD("container.show", "{\"name\": \"c\"}");
	GOOD("vdisk.show", DISK("d"));
	GOOD("stats.show", DISK("d"));
	GOOD("vdisk.flush", DISK("d"));
	GOOD("vdisk.resize", "{\"name\": \"c/d\", \"size\": \"65M\"}");
	GOOD("vdisk.resize", "{\"name\": \"c/d\", \"size\": \"2M\", \"shrink\": true}");
	GOOD("vdisk.rename", "{\"name\": \"c/d\", \"new_name\": \"c/e\"}");
	GOOD("iscsi.export", DISK("e"));
	GOOD("iscsi.list", "{}");
	GOOD("vdisk.resize", "{\"name\": \"c/e\", \"size\": \"8M\"}");
	GOOD("iscsi.unexport", DISK("e"));
	GOOD("vdisk.check", DISK("e"));
	GOOD("job.wait", "{\"id\": 1, \"timeout_ms\": 30000}");
	GOOD("job.show", "{\"id\": 1}");
	GOOD("vdisk.delete", DISK("e"));
	GOOD("job.wait", "{\"id\": 2, \"timeout_ms\": 30000}");
	BAD(ERROR_BUSY, "job.cancel", "{\"id\": 2}");
	GOOD("container.delete", "{\"name\": \"c\"}");
	GOOD("pool.delete", "{\"name\": \"p\"}");
	node_rig_done(&rig);
}

static void refuses_with_the_right_code(void **state)
{
	begin(2, 1);
	assert_int_equal(sim_disk_add(rig.sim.sim, "/small", 256 * MIB), 0);
	BAD(ERROR_NOT_FOUND, "container.create", "{\"name\": \"c\"}"); /* no pool yet */
	node_rig_make_pool(&rig);
	CREATE("d");
	GOOD("iscsi.export", DISK("d"));
	BAD(ERROR_UNKNOWN_METHOD, "vdisk.explode", "{}");
	BAD(ERROR_UNKNOWN_METHOD, "", "{}");
	BAD(ERROR_INVALID_REQUEST, "vdisk.list", "[]");
	BAD(ERROR_EXISTS, "pool.create", "{\"name\": \"p\", \"directory\": \"/disk0/q\"}");
	BAD(ERROR_NOT_EMPTY, "pool.create", "{\"name\": \"q\", \"directory\": \"/disk0/state\"}");
	BAD(ERROR_NO_SPACE, "pool.create", "{\"name\": \"q\", \"directory\": \"/small/q\"}");
	BAD(ERROR_INVALID_REQUEST, "pool.create", "{\"name\": \"q\", \"directory\": \"q\"}");
	BAD(ERROR_NOT_FOUND, "pool.delete", "{\"name\": \"q\"}");
	BAD(ERROR_NOT_EMPTY, "pool.delete", "{\"name\": \"p\"}");
	BAD(ERROR_EXISTS, "container.create", "{\"name\": \"c\"}");
	BAD(ERROR_NOT_EMPTY, "container.delete", "{\"name\": \"c\"}");
	BAD(ERROR_EXISTS, "vdisk.create", "{\"name\": \"c/d\", \"size\": \"1G\"}");
	BAD(ERROR_INVALID_SIZE, "vdisk.create", "{\"name\": \"c/x\", \"size\": 0}");
	BAD(ERROR_INVALID_SIZE, "vdisk.create", "{\"name\": \"c/x\", \"size\": 1048577}");
	BAD(ERROR_INVALID_SIZE, "vdisk.create", "{\"name\": \"c/x\", \"size\": 70368744181760}");
	BAD(ERROR_INVALID_SIZE, "vdisk.resize", "{\"name\": \"c/d\", \"size\": \"1M\"}");
	BAD(ERROR_INVALID_REQUEST, "vdisk.rename", "{\"name\": \"c/d\", \"new_name\": \"x/d\"}");
	BAD(ERROR_BUSY, "vdisk.delete", DISK("d"));
	BAD(ERROR_EXISTS, "iscsi.export", DISK("d"));
	BAD(ERROR_NOT_FOUND, "iscsi.export", DISK("x"));
	BAD(ERROR_NOT_FOUND, "iscsi.unexport", DISK("x"));
	BAD(ERROR_NOT_FOUND, "job.wait", "{\"id\": 77}");
	BAD(ERROR_NOT_FOUND, "job.cancel", "{\"id\": 77}");
	GOOD("pool.create", "{\"name\": \"q\", \"directory\": \"/disk0/q\", \"capacity\": \"1G\"}");
	BAD(ERROR_INVALID_REQUEST, "container.create", "{\"name\": \"e\"}"); /* which pool? */
	GOOD("vdisk.check", DISK("d")); /* although it is exported */
	node_rig_done(&rig);
}

/* The ratio that a call warns of; 0 = it warns of nothing. */
static double warned_of(const char *method, const char *params)
{
	json_t *result = result_of(method, params);
	const json_t *warning = json_array_get(json_object_get(result, "warnings"), 0);
	double factor = json_real_value(json_object_get(warning, "factor"));

	if (warning) {
		assert_string_equal(json_string_value(json_object_get(warning, "code")),
				    "overcommitted");
		assert_non_null(strstr(json_string_value(json_object_get(warning, "message")),
				       "overcommitted"));
		assert_true(json_integer_value(json_object_get(warning, "provisioned_bytes")) >
			    json_integer_value(json_object_get(warning, "limit_bytes")));
	}
	json_decref(result);
	return factor;
}

static size_t notes(void)
{
	json_t *findings = result_of("health.show", "{}"), *finding;
	size_t count = 0, i;

	json_array_foreach(findings, i, finding) count +=
		strcmp(json_string_value(json_object_get(finding, "severity")), "info") == 0;
	json_decref(findings);
	return count;
}

/* What thin vDisks may grow to is told when it is more than fits, and never refused. */
static void warns_of_overcommit(void **state)
{
	double one, two;

	begin(30, 1);
	node_rig_make_pool(&rig);
	assert_true(warned_of("vdisk.create", DISK_OF_64M("a")) == 0);
	assert_int_equal(notes(), 0);
	one = warned_of("vdisk.create", "{\"name\": \"c/b\", \"size\": \"2G\"}");
	assert_true(one > 2 && one < 3);
	assert_int_equal(notes(), 1);
	two = warned_of("vdisk.resize", "{\"name\": \"c/b\", \"size\": \"4G\"}");
	assert_true(two > 1.9 * one && two < 2 * one);
	/* Not of what makes it less, nor of what fits. */
	assert_true(warned_of("vdisk.resize",
			      "{\"name\": \"c/b\", \"size\": \"2G\", \"shrink\": true}") == 0);
	GOOD("vdisk.delete", DISK("b"));
	GOOD("job.wait", "{\"id\": 1, \"timeout_ms\": 30000}");
	assert_int_equal(notes(), 0);
	/* Copies count, also after a restart. */
	assert_int_equal(sim_disk_add(rig.sim.sim, "/disk1", 2 * GIB), 0);
	GOOD("disk.add", "{\"pool\": \"p\", \"directory\": \"/disk1/p\", \"capacity\": \"1G\"}");
	GOOD("vdisk.create", "{\"name\": \"c/d\", \"size\": \"1G\"}");
	assert_int_equal(notes(), 0);
	GOOD("container.set", "{\"name\": \"c\", \"set\": {\"replication_factor\": 2}}");
	assert_int_equal(notes(), 1);
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	assert_int_equal(notes(), 1);
	node_rig_done(&rig);
}

static void asks_for_the_role(void **state)
{
	begin(3, 1);
	node_rig_make_pool(&rig);
	rig.role = ROLE_READER;
	GOOD("vdisk.list", "{}");
	BAD(ERROR_FORBIDDEN, "vdisk.create", "{\"name\": \"c/d\", \"size\": \"64M\"}");
	rig.role = ROLE_OPERATOR;
	CREATE("d");
	BAD(ERROR_FORBIDDEN, "pool.delete", "{\"name\": \"p\"}");
	node_rig_done(&rig);
}

static void calls_at_the_same_time(void **state)
{
	static const char *const same[][2] = {
		{"vdisk.create", "{\"name\": \"c/x\", \"size\": \"64M\"}"},
		{"vdisk.create", "{\"name\": \"c/x\", \"size\": \"64M\"}"},
		{"container.delete", "{\"name\": \"c\"}"},
		{"vdisk.create", "{\"name\": \"c/y\", \"size\": \"64M\"}"},
	};
	static const char *const mixed[][2] = {
		{"vdisk.flush", DISK("d")},
		{"vdisk.resize", "{\"name\": \"c/d\", \"size\": \"128M\"}"},
		{"vdisk.rename", "{\"name\": \"c/d\", \"new_name\": \"c/e\"}"},
		{"vdisk.list", "{}"},
		{"stats.show", "{}"},
		{"vdisk.flush", DISK("d")},
		{"vdisk.delete", DISK("e")},
		{"vdisk.list", "{}"},
		{"stats.show", "{}"},
		{"vdisk.list", "{}"},
	};
	enum error_code codes[NODE_RIG_CALLS];

	for (uint64_t seed = 0; seed < 20; seed++) {
		begin(100 + seed, 1 + seed % 3);
		node_rig_make_pool(&rig);
		CREATE("d");
		node_rig_call_all(&rig, ARRAY_SIZE(same), same, codes);
		assert_true((codes[0] == ERROR_NONE) + (codes[1] == ERROR_NONE) == 1);
		assert_int_equal(codes[2], ERROR_NOT_EMPTY);
		assert_int_equal(codes[3], ERROR_NONE);
		/* Whatever the order: each ends with what it means, and none with a crash. */
		node_rig_call_all(&rig, ARRAY_SIZE(mixed), mixed, codes);
		for (size_t i = 0; i < ARRAY_SIZE(mixed); i++)
			assert_true(codes[i] == ERROR_NONE || codes[i] == ERROR_NOT_FOUND ||
				    codes[i] == ERROR_BUSY);
		assert_int_equal(codes[3], ERROR_NONE);
		node_rig_done(&rig);
	}
}

static void a_restart_finds_everything(void **state)
{
	enum sim_crash kinds[] = {SIM_CRASH_PROCESS, SIM_CRASH_POWER};
	json_t *before, *after;

	begin(4, 2);
	node_rig_make_pool(&rig);
	CREATE("d");
	CREATE("D");
	CREATE("e");
	GOOD("iscsi.export", DISK("d"));
	GOOD("iscsi.export", "{\"name\": \"c/D\", \"read_only\": true}");
	GOOD("vdisk.resize", "{\"name\": \"c/e\", \"size\": \"128M\"}");
	before = result_of("iscsi.list", "{}");
	assert_int_equal(json_array_size(before), 2);
	for (size_t i = 0; i < 3; i++) {
		if (i < 2)
			node_rig_crash(&rig, kinds[i]);
		else
			node_rig_stop(&rig);
		assert_int_equal(node_rig_start(&rig), 0);
		after = result_of("iscsi.list", "{}");
		assert_true(json_equal(before, after));
		json_decref(after);
		after = result_of("vdisk.show", DISK("e"));
		assert_int_equal(json_integer_value(json_object_get(after, "size_bytes")),
				 128 * MIB);
		json_decref(after);
	}
	json_decref(before);
	/* Without iSCSI exports are shown as failed, and stay. */
	node_rig_stop(&rig);
	rig.iscsi = false;
	assert_int_equal(node_rig_start(&rig), 0);
	after = result_of("iscsi.list", "{}");
	assert_string_equal(json_string_value(json_object_get(json_array_get(after, 0), "state")),
			    "failed");
	json_decref(after);
	BAD(ERROR_UNAVAILABLE, "iscsi.export", DISK("e"));
	BAD(ERROR_UNAVAILABLE, "iscsi.sessions", "{}");
	GOOD("iscsi.unexport", DISK("d"));
	node_rig_done(&rig);
}

static bool never(void *arg)
{
	return false;
}

/* A crash at any operation after vdisk.delete was answered: the next start goes on, under its
 * number. */
static void a_deletion_survives_any_crash(void **state)
{
	unsigned resumed = 0;

	for (uint64_t seed = 0; seed < 40; seed++) {
		json_t *job;

		begin(200 + seed, 1 + seed % 2);
		node_rig_make_pool(&rig);
		CREATE("d");
		job = result_of("vdisk.delete", DISK("d"));
		resumed += strcmp(json_string_value(json_object_get(job, "state")), "running") == 0;
		json_decref(job);
		sim_crash_nth(rig.sim.sim, 1 + seed / 2, SIM_CRASH_POWER);
		(void)sim_run_until(rig.sim.sim, never, NULL, NSEC_PER_SEC); /* ends either way */
		node_rig_crash(&rig, seed % 4 < 2 ? SIM_CRASH_PROCESS : SIM_CRASH_POWER);
		assert_int_equal(node_rig_start(&rig), 0);
		job = result_of("job.wait", "{\"id\": 1, \"timeout_ms\": 30000}");
		assert_string_equal(json_string_value(json_object_get(job, "state")), "done");
		json_decref(job);
		expect_state("c/d", "absent");
		GOOD("container.delete", "{\"name\": \"c\"}");
		GOOD("pool.delete", "{\"name\": \"p\"}");
		node_rig_done(&rig);
	}
	assert_true(resumed > 0);
}

static void a_name_is_free_while_its_vdisk_is_deleted(void **state)
{
	begin(5, 1);
	node_rig_make_pool(&rig);
	CREATE("d");
	GOOD("vdisk.delete", DISK("d"));
	CREATE("d");
	expect_state("c/d", "online");
	GOOD("job.wait", "{\"id\": 1, \"timeout_ms\": 30000}");
	expect_state("c/d", "online");
	node_rig_done(&rig);
}

static void move_pool(void *arg)
{
	const char *const *names = arg;
	int r = io_rename(names[0], names[1]);

	ASSERT(r == 0);
}

static void a_missing_pool_fails_alone(void **state)
{
	static const char *const away[] = {"/disk0/q", "/disk0/away"};
	static const char *const back[] = {"/disk0/away", "/disk0/q"};

	begin(6, 2);
	node_rig_make_pool(&rig);
	GOOD("pool.create", "{\"name\": \"q\", \"directory\": \"/disk0/q\", \"capacity\": \"1G\"}");
	GOOD("container.create", "{\"name\": \"k\", \"pool\": \"q\"}");
	CREATE("d");
	GOOD("vdisk.create", "{\"name\": \"k/d\", \"size\": \"64M\"}");
	GOOD("iscsi.export", "{\"name\": \"k/d\"}");
	node_rig_stop(&rig);
	sim_rig_run(&rig.sim, 0, move_pool, (void *)away);
	assert_int_equal(node_rig_start(&rig), 0);
	expect_state("c/d", "online");
	expect_state("k/d", "failed");
	GOOD("pool.show", "{\"name\": \"q\"}");
	GOOD("stats.show", "{}");
	BAD(ERROR_IO, "vdisk.flush", "{\"name\": \"k/d\"}");
	BAD(ERROR_IO, "pool.delete", "{\"name\": \"q\"}");
	BAD(ERROR_IO, "vdisk.create", "{\"name\": \"k/e\", \"size\": \"64M\"}");
	GOOD("iscsi.unexport", "{\"name\": \"k/d\"}");
	/* Its deletion fails as a job, and ends when the pool is back. */
	GOOD("vdisk.delete", "{\"name\": \"k/d\"}");
	GOOD("job.wait", "{\"id\": 1, \"timeout_ms\": 30000}");
	node_rig_stop(&rig);
	sim_rig_run(&rig.sim, 0, move_pool, (void *)back);
	assert_int_equal(node_rig_start(&rig), 0);
	expect_state("c/d", "online");
	node_rig_done(&rig);
}

/* The n-th operation on files fails, while the node starts: it says so or goes on without. */
static void a_start_survives_each_fault(void **state)
{
	uint64_t n;
	bool hit = true;

	begin(7, 2);
	node_rig_make_pool(&rig);
	CREATE("d");
	GOOD("iscsi.export", DISK("d"));
	node_rig_stop(&rig);
	log_set_level(LOG_LEVEL_ERROR + 1);
	/* The pool alone lists 256 directories: later ones are sampled. */
	for (n = 1; hit; n += 1 + n / 8) {
		sim_fail_nth(rig.sim.sim, n, -EIO);
		if (node_rig_start(&rig) < 0)
			assert_true(rig.error.code != ERROR_NONE && rig.error.message[0]);
		hit = sim_fault_hit(rig.sim.sim);
		sim_fail_nth(rig.sim.sim, 0, 0);
		node_rig_stop(&rig);
		assert_true(n < 100000);
	}
	log_set_level(LOG_LEVEL_ERROR);
	assert_true(n > 5);
	assert_int_equal(node_rig_start(&rig), 0);
	expect_state("c/d", "online");
	node_rig_done(&rig);
}

/* Without memory for JSON a call gives an error or nothing, never half an answer. */
static void survives_without_memory(void **state)
{
	static const char *const calls[][2] = {
		{"pool.show", "{\"name\": \"p\"}"},
		{"pool.list", "{}"},
		{"container.list", "{}"},
		{"vdisk.show", DISK("d")},
		{"vdisk.list", "{}"},
		{"vdisk.flush", DISK("d")},
		{"iscsi.list", "{}"},
		{"job.list", "{}"},
		{"stats.show", "{}"},
		{"node.show", "{}"},
		{"vdisk.show", DISK("x")},
		{"vdisk.create", "{\"name\": \"c/new\", \"size\": \"64M\"}"},
		{"iscsi.export", DISK("e")},
	};

	begin(9, 2);
	node_rig_make_pool(&rig);
	CREATE("d");
	CREATE("e");
	GOOD("iscsi.export", DISK("d"));
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		uint64_t n, failures;

		for (n = 1;; n++) {
			json_t *answer;

			rig.fail_json = n;
			failures = json_memory_failures();
			answer = node_rig_call(&rig, calls[i][0], calls[i][1]);
			rig.fail_json = 0;
			if (json_memory_failures() == failures) {
				json_decref(answer);
				break;
			}
			assert_null(json_object_get(answer, "result"));
			json_decref(answer);
		}
		assert_true(n > 2);
	}
	node_rig_done(&rig);
}

static void gather(void *arg)
{
	int r = metrics_gather(rig.node, arg);

	ASSERT(r == 0);
}

static void metrics_name_all(void **state)
{
	static const char *const lines[] = {
		"# TYPE sarsen_vdisk_operations_total counter\n",
		"sarsen_vdisk_operations_total{vdisk=\"c/d\",operation=\"flush\"} 1\n",
		"sarsen_vdisk_latency_seconds_bucket{vdisk=\"c/d\",operation=\"read\",le=\"+Inf\"} "
		"0\n",
		"sarsen_vdisk_latency_seconds_count{vdisk=\"c/d\",operation=\"write\"} 0\n",
		"sarsen_vdisk_write_amplification{vdisk=\"c/d\"} 0.0000\n",
		"sarsen_pool_capacity_bytes{pool=\"p\"} 1073741824\n",
		"sarsen_pool_online{pool=\"p\"} 1\n",
		"sarsen_build_info{version=\"",
		"sarsen_reactor_slow_turns_total{reactor=\"1\"}",
	};
	struct metrics *metrics;
	size_t length;
	char *text;

	begin(8, 2);
	node_rig_make_pool(&rig);
	CREATE("d");
	GOOD("vdisk.flush", DISK("d"));
	sim_rig_run(&rig.sim, 0, gather, &metrics);
	assert_int_equal(metrics_print(metrics, &text, &length), 0);
	metrics_free(metrics);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (!strstr(text, lines[i]))
			fail_msg("'%s' is not in:\n%s", lines[i], text);
	assert_int_equal(strlen(text), length);
	free(text);
	node_rig_done(&rig);
}

/* --- iSCSI targets --- */

#define T            "iqn.2026-11.org.example:t"
#define LUN(disk, n) "{\"name\": \"" T "\", \"vdisk\": \"c/" disk "\", \"lun\": " n "}"
#define GUEST        "iqn.2026-11.org.example:guest"
#define SECRET       "a secret of the guest"

static json_int_t target_number(const char *key)
{
	json_t *list = result_of("iscsi.target-list", "{}");
	json_int_t number = json_integer_value(json_object_get(json_array_get(list, 0), key));

	json_decref(list);
	return number;
}

static void sleep_long(void *arg)
{
	(void)arg;
	fiber_sleep(12 * NSEC_PER_SEC);
}

/* The node looks at its pools meanwhile, and when it is stopped in the middle of that. */
static void units_are_told_of_the_room(void **state)
{
	(void)state;
	begin(33, 2);
	node_rig_make_pool(&rig);
	CREATE("a");
	GOOD("iscsi.export", DISK("a"));
	sim_rig_run(&rig.sim, 0, sleep_long, NULL);
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	sim_rig_run(&rig.sim, 0, sleep_long, NULL);
	GOOD("iscsi.unexport", DISK("a"));
	node_rig_done(&rig);
}

static void targets_with_several_luns(void **state)
{
	static const enum sim_crash kinds[] = {SIM_CRASH_PROCESS, SIM_CRASH_POWER};

	(void)state;
	begin(31, 2);
	node_rig_make_pool(&rig);
	CREATE("a");
	CREATE("b");
	BAD(ERROR_INVALID_NAME, "iscsi.target-create", "{\"name\": \"nonsense\"}");
	GOOD("iscsi.target-create", "{\"name\": \"" T "\"}");
	BAD(ERROR_EXISTS, "iscsi.target-create", "{\"name\": \"" T "\"}");
	BAD(ERROR_NOT_FOUND, "iscsi.lun-add", "{\"name\": \"iqn.no\", \"vdisk\": \"c/a\"}");
	GOOD("iscsi.lun-add", LUN("a", "5"));
	BAD(ERROR_EXISTS, "iscsi.lun-add", LUN("b", "5"));
	GOOD("iscsi.lun-add", "{\"name\": \"" T "\", \"vdisk\": \"c/b\"}");
	BAD(ERROR_EXISTS, "iscsi.lun-add", LUN("b", "6"));
	BAD(ERROR_NOT_EMPTY, "iscsi.target-delete", "{\"name\": \"" T "\"}");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		node_rig_crash(&rig, kinds[i]);
		assert_int_equal(node_rig_start(&rig), 0);
		assert_int_equal(target_number("luns"), 2);
	}
	BAD(ERROR_NOT_FOUND, "iscsi.lun-remove", "{\"name\": \"" T "\", \"lun\": 9}");
	GOOD("iscsi.lun-remove", "{\"name\": \"" T "\", \"lun\": 5}");
	GOOD("iscsi.unexport", DISK("b"));
	GOOD("iscsi.target-delete", "{\"name\": \"" T "\"}");
	BAD(ERROR_NOT_FOUND, "iscsi.target-delete", "{\"name\": \"" T "\"}");
	BAD(ERROR_NOT_FOUND, "iscsi.session-drop", "{\"id\": 3}");
	node_rig_done(&rig);
}

#define ADD_GUEST "{\"name\": \"" T "\", \"initiator\": \"" GUEST "\"}"

static void rules_of_targets_are_durable(void **state)
{
	json_t *list;

	(void)state;
	begin(32, 1);
	GOOD("iscsi.target-create", "{\"name\": \"" T "\"}");
	GOOD("iscsi.initiator-add", ADD_GUEST);
	BAD(ERROR_EXISTS, "iscsi.initiator-add", ADD_GUEST);
	BAD(ERROR_INVALID_REQUEST, "iscsi.target-set",
	    "{\"name\": \"" T "\", \"chap_secret\": \"" SECRET "\"}"); /* whose? */
	GOOD("iscsi.target-set",
	     "{\"name\": \"" T "\", \"chap_user\": \"u\", \"chap_secret\": \"" SECRET
	     "\", \"max_sessions\": 7, \"redirect\": \"10.0.0.1:3260\"}");
	node_rig_crash(&rig, SIM_CRASH_POWER);
	assert_int_equal(node_rig_start(&rig), 0);
	assert_int_equal(target_number("initiators"), 1);
	assert_int_equal(target_number("max_sessions"), 7);
	list = result_of("iscsi.target-list", "{}");
	assert_true(json_is_true(json_object_get(json_array_get(list, 0), "chap")));
	json_decref(list);
	list = result_of("iscsi.initiator-list", "{\"name\": \"" T "\"}");
	assert_int_equal(json_array_size(list), 1);
	json_decref(list);
	BAD(ERROR_BUSY, "iscsi.initiator-remove", ADD_GUEST); /* would open it to all */
	GOOD("iscsi.initiator-remove",
	     "{\"name\": \"" T "\", \"initiator\": \"" GUEST "\", \"open\": true}");
	BAD(ERROR_NOT_FOUND, "iscsi.initiator-remove", ADD_GUEST);
	node_rig_done(&rig);
}

/* The value of one property, as JSON text with its source. */
static void expect_property(const char *method, const char *name, const char *property,
			    const char *expected)
{
	char params[200], found[100];
	json_t *rows, *row;

	snprintf(params, sizeof(params), "{\"name\": \"%s\", \"properties\": [\"%s\"]}", name,
		 property);
	rows = result_of(method, params);
	assert_int_equal(json_array_size(rows), 1);
	row = json_array_get(rows, 0);
	snprintf(found, sizeof(found), "%" JSON_INTEGER_FORMAT " %s",
		 json_integer_value(json_object_get(row, "value")),
		 json_string_value(json_object_get(row, "source")));
	assert_string_equal(found, expected);
	json_decref(rows);
}

#define SET(text)      "{\"name\": \"c\", \"set\": {" text "}}"
#define SET_DISK(text) "{\"name\": \"c/d\", \"set\": {" text "}}"

static void policies_are_kept(void **state)
{
	json_t *rows;

	begin(41, 2);
	node_rig_make_pool(&rig);
	CREATE("d");
	expect_property("container.get", "c", "stripe_width", "4 default");
	GOOD("container.set", SET("\"stripe_width\": 5, \"max_capacity\": \"512M\""));
	GOOD("vdisk.set", SET_DISK("\"stripe_width\": 6"));
	node_rig_crash(&rig, SIM_CRASH_POWER);
	assert_int_equal(node_rig_start(&rig), 0);
	expect_property("container.get", "c", "stripe_width", "5 container");
	expect_property("vdisk.get", "c/d", "stripe_width", "6 vdisk");
	expect_property("vdisk.get", "c/d", "max_capacity", "536870912 container");
	GOOD("vdisk.set", SET_DISK("\"stripe_width\": null"));
	expect_property("vdisk.get", "c/d", "stripe_width", "5 container");
	BAD(ERROR_INVALID_REQUEST, "vdisk.set", SET_DISK("\"max_capacity\": \"1G\""));
	BAD(ERROR_INVALID_REQUEST, "container.set", SET("\"min_reserved\": \"513M\""));
	BAD(ERROR_INVALID_REQUEST, "container.set",
	    SET("\"min_reserved_ssd\": \"200M\", \"min_reserved\": \"100M\""));
	BAD(ERROR_NOT_FOUND, "container.set", "{\"name\": \"x\", \"set\": {\"stripe_width\": 1}}");
	BAD(ERROR_NOT_FOUND, "container.get", "{\"name\": \"x\"}");
	BAD(ERROR_NOT_FOUND, "vdisk.get", "{\"name\": \"c/x\"}");
	BAD(ERROR_NOT_FOUND, "vdisk.set", "{\"name\": \"c/x\", \"set\": {\"stripe_width\": 1}}");
	BAD(ERROR_INVALID_REQUEST, "container.set", SET("\"replication_factor\": 2"));
	BAD(ERROR_INVALID_REQUEST, "vdisk.set", SET_DISK("\"replication_factor\": 3"));
	BAD(ERROR_INVALID_REQUEST, "container.set", SET("\"min_reserved_hdd\": \"1M\""));
	BAD(ERROR_NO_SPACE, "container.set",
	    SET("\"min_reserved\": \"1G\", \"max_capacity\": null"));
	GOOD("container.set", SET("\"min_reserved\": \"500M\""));
	BAD(ERROR_NO_SPACE, "container.create",
	    "{\"name\": \"e\", \"set\": {\"min_reserved\": \"500M\"}}");
	GOOD("container.set", SET("\"min_reserved\": \"400M\""));
	GOOD("container.create", "{\"name\": \"e\", \"set\": {\"min_reserved\": \"450M\"}}");
	BAD(ERROR_NO_SPACE, "container.set", SET("\"min_reserved\": \"500M\""));
	GOOD("container.delete", "{\"name\": \"e\"}");
	GOOD("container.set", SET("\"min_reserved\": \"500M\""));
	GOOD("container.create",
	     "{\"name\": \"e\", \"set\": {\"tier_order_random\": \"hdd,ssd\"}}");
	BAD(ERROR_INVALID_REQUEST, "container.create",
	    "{\"name\": \"f\", \"set\": {\"space_low\": 10}}");
	rows = result_of("container.get",
			 "{\"name\": \"e\", \"properties\": [\"tier_order_random\"]}");
	assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "value")),
			    "hdd,ssd");
	json_decref(rows);
	node_rig_done(&rig);
}

/* From a fiber of reactor 0; `result` is the first error. */
struct writing {
	const char *name; /* of the vDisk; NULL: c/d */
	uint64_t bytes;
	int result;
};

static void write_in_fiber(void *arg)
{
	struct writing *writing = arg;
	struct node_vdisk *vdisk = node_vdisk_find(rig.node, writing->name ? writing->name : "c/d");
	void *buffer = aligned_alloc(4096, MIB);

	ASSERT(vdisk && buffer);
	memset(buffer, 7, MIB);
	for (uint64_t at = 0; writing->result == 0 && at < writing->bytes; at += MIB) {
		struct block_volume *volume = vdisk_volume(vdisk->vdisk);

		/* With its map in memory, what is there is known not to grow. */
		ASSERT(block_io(volume, BLOCK_READ, 0, buffer, MIB, at) == 0);
		memset(buffer, 7, MIB);
		writing->result = block_io(volume, BLOCK_WRITE, 0, buffer, MIB, at);
	}
	free(buffer);
}

static void expect_refusal(const char *method, const char *params, const char *text)
{
	json_t *answer = node_rig_call(&rig, method, params);
	const char *message =
		json_string_value(json_object_get(json_object_get(answer, "error"), "message"));

	assert_int_equal(rig.code, ERROR_NO_SPACE);
	assert_non_null(message);
	if (!strstr(message, text))
		fail_msg("%s", message);
	json_decref(answer);
}

static json_int_t tier_of_container(unsigned index, const char *key)
{
	json_t *container = result_of("container.show", "{\"name\": \"c\"}");
	json_t *tier = json_array_get(json_object_get(container, "tiers"), index);
	json_int_t value = json_integer_value(json_object_get(tier, key));

	json_decref(container);
	return value;
}

/* More copies of what is stored are refused where disks, or what is allowed on tiers, hold less. */
static void refuses_copies_without_room(void **state)
{
	struct writing writing = {.bytes = 48 * MIB};
	json_t *rows;

	(void)state;
	begin(44, 1);
	node_rig_make_pool(&rig);
	assert_int_equal(sim_disk_add(rig.sim.sim, "/disk1", 2 * GIB), 0);
	CREATE("d");
	sim_rig_run(&rig.sim, 0, write_in_fiber, &writing);
	assert_int_equal(writing.result, 0);
	GOOD("disk.add", "{\"pool\": \"p\", \"directory\": \"/disk1/p\", \"tier\": \"hdd\", "
			 "\"capacity\": \"512M\"}");
	assert_in_range(tier_of_container(0, "used_bytes"), 48 * MIB, 100 * MIB);
	assert_int_equal(tier_of_container(1, "used_bytes"), 0);
	/* The tier of the second copies allows too little. */
	GOOD("container.set", SET("\"max_capacity_hdd\": \"32M\""));
	assert_int_equal(tier_of_container(1, "limit_bytes"), 32 * MIB);
	expect_refusal("container.set", SET("\"replication_factor\": 2"),
		       "'c' cannot have 2 copies: what its max_capacity allows on each tier");
	expect_refusal("vdisk.set", SET_DISK("\"replication_factor\": 2"),
		       "'c/d' cannot have 2 copies: what its max_capacity allows on each tier");
	rows = result_of("container.get",
			 "{\"name\": \"c\", \"properties\": [\"max_capacity_ssd\"]}");
	assert_in_range(json_integer_value(json_object_get(json_array_get(rows, 0), "used")),
			48 * MIB, 100 * MIB);
	json_decref(rows);
	/* Without that limit the disk is too small beside what is reserved. */
	GOOD("container.set", SET("\"max_capacity_hdd\": null"));
	GOOD("container.create", "{\"name\": \"e\", \"set\": {\"min_reserved\": \"1290M\"}}");
	expect_refusal("container.set", SET("\"replication_factor\": 2"),
		       "'c' cannot have 2 copies: what is stored would take ");
	GOOD("container.delete", "{\"name\": \"e\"}");
	GOOD("container.set", SET("\"replication_factor\": 2"));
	node_rig_done(&rig);
}

static void spoil_rows(void *arg)
{
	const struct catalog_options options = {.path = NODE_RIG_DISK "/state/catalog.db",
						.vfs = SIM_VFS_NAME};
	struct catalog_key prefix = catalog_key(CATALOG_EGFILE);
	struct catalog_change change = {.kind = CATALOG_PUT, .value = "nonsense", .length = 8};
	struct catalog_rows rows;
	struct catalog *catalog;

	(void)arg;
	ASSERT(catalog_open(sim_world(rig.sim.sim), &options, &catalog) == 0);
	catalog_key_add(&prefix, 1);
	catalog_key_add(&prefix, 2); /* the second vDisk */
	ASSERT(catalog_scan(catalog, &prefix, NULL, 0, &rows) == 0 && rows.count > 0);
	for (size_t i = 0; i < rows.count; i++) {
		change.key = rows.rows[i].key;
		ASSERT(catalog_commit(catalog, &change, 1) == 0);
	}
	catalog_rows_done(&rows);
	catalog_close(catalog);
}

/* What the call says has all of it; texts end with NULL. */
static void expect_texts(const char *method, const char *params, ...)
{
	json_t *answer = node_rig_call(&rig, method, params);
	char *text = json_dumps(answer, 0);
	const char *wanted;
	va_list wants;

	va_start(wants, params);
	while ((wanted = va_arg(wants, const char *)))
		if (!strstr(text, wanted))
			fail_msg("no '%s' in %s", wanted, text);
	va_end(wants);
	free(text);
	json_decref(answer);
}

/* As a daemon leaves it that is killed while it deletes the pool "p". */
static void cut_off_deletion(void *arg)
{
	const struct catalog_options options = {.path = NODE_RIG_DISK "/state/catalog.db",
						.vfs = SIM_VFS_NAME};
	uint8_t value[POOL_ROW_BYTES];
	struct catalog_change change = {
		.kind = CATALOG_PUT, .value = value, .length = sizeof(value)};
	struct catalog *catalog;
	struct catalog_row raw;
	struct world_file *file;
	struct pool_row row;

	(void)arg;
	ASSERT(catalog_open(sim_world(rig.sim.sim), &options, &catalog) == 0);
	ASSERT(pool_rows_get_pool(catalog, 1, &raw, &row) == 0);
	row.deleting = true;
	pool_rows_encode_pool(&row, value);
	change.key = raw.key;
	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	catalog_row_done(&raw);
	catalog_close(catalog);
	ASSERT(io_open(NODE_RIG_DISK "/pool/groups/07/0000000000000007.eg", WORLD_FILE_CREATE,
		       &file) == 0);
	ASSERT(io_close(file) == 0);
}

static void wait_in_fiber(void *arg)
{
	(void)arg;
	fiber_sleep(5 * NSEC_PER_SEC);
}

/* It is completed when the daemon runs again, and then the directory does for another pool. */
static void a_deletion_of_a_pool_goes_on(void **state)
{
	(void)state;
	begin(47, 1);
	node_rig_make_pool(&rig);
	GOOD("container.delete", "{\"name\": \"c\"}");
	node_rig_stop(&rig);
	sim_rig_run(&rig.sim, 0, cut_off_deletion, NULL);
	assert_int_equal(node_rig_start(&rig), 0);
	expect_texts("health.show", "{}", "it is being deleted, which was cut off", NULL);
	BAD(ERROR_EXISTS, "pool.create",
	    "{\"name\": \"p\", \"directory\": \"" NODE_RIG_DISK "/pool\"}");
	sim_rig_run(&rig.sim, 0, wait_in_fiber, NULL);
	BAD(ERROR_NOT_FOUND, "pool.show", "{\"name\": \"p\"}");
	node_rig_make_pool(&rig);
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	expect_texts("pool.list", "{}", "online", NULL);
	node_rig_done(&rig);
}

/* A row of its file is damaged: the vDisk is named, and what to do; the others are served. */
static void tells_of_damaged_rows(void **state)
{
	struct writing writing = {.bytes = MIB, .name = "c/e"};

	(void)state;
	begin(46, 1);
	node_rig_make_pool(&rig);
	CREATE("d");
	CREATE("e");
	sim_rig_run(&rig.sim, 0, write_in_fiber, &writing);
	assert_int_equal(writing.result, 0);
	writing.name = "c/d";
	node_rig_stop(&rig);
	sim_rig_run(&rig.sim, 0, spoil_rows, NULL);
	assert_int_equal(node_rig_start(&rig), 0);
	expect_state("c/d", "online");
	expect_state("c/e", "failed");
	sim_rig_run(&rig.sim, 0, write_in_fiber, &writing);
	assert_int_equal(writing.result, 0);
	expect_texts("vdisk.show", DISK("e"), "row of its file 0000", "is damaged",
		     "sarsen-fsck --rebuild-catalog", NULL);
	expect_texts("vdisk.list", "{}", "row of its file 0000", NULL);
	expect_texts("health.show", "{}", "it is not opened: the catalog's row of its file",
		     "rows of its files and groups are damaged, of which 0 may be any vDisk's",
		     "copies of files without a row are kept", "--restore-catalog", NULL);
	expect_texts("event.list", "{}", "pool-in-doubt", "vdisk-failed", "row of its file", NULL);
	expect_texts("vdisk.flush", DISK("e"), "damaged", "'c/e' is not open: the catalog's row",
		     NULL);
	/* A pool that is in doubt stays. */
	GOOD("vdisk.delete", DISK("d"));
	GOOD("vdisk.delete", DISK("e"));
	GOOD("job.wait", "{\"id\": 1, \"timeout_ms\": 30000}");
	GOOD("job.wait", "{\"id\": 2, \"timeout_ms\": 30000}");
	GOOD("container.delete", "{\"name\": \"c\"}");
	expect_texts("pool.delete", "{\"name\": \"p\"}", "damaged that may be of files of pool 'p'",
		     NULL);
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	GOOD("pool.delete", "{\"name\": \"p\"}");
	node_rig_done(&rig);
}

/* Whoever looks learns which container has too much, and where. */
static void tells_of_a_full_tier(void **state)
{
	struct writing writing = {.bytes = 48 * MIB};
	json_t *findings;
	char *text;

	(void)state;
	begin(45, 1);
	node_rig_make_pool(&rig);
	CREATE("d");
	sim_rig_run(&rig.sim, 0, write_in_fiber, &writing);
	assert_int_equal(writing.result, 0);
	GOOD("vdisk.flush", DISK("d"));
	GOOD("container.set", SET("\"max_capacity_ssd\": 0"));
	findings = result_of("health.show", "{}");
	text = json_dumps(findings, 0);
	assert_non_null(strstr(text, "on ssd, of which max_capacity_ssd allows 0: repair"));
	free(text);
	json_decref(findings);
	/* It was there already, so nothing more is live, but it needs a place. */
	for (unsigned i = 0; i < 4 && writing.result == 0; i++)
		sim_rig_run(&rig.sim, 0, write_in_fiber, &writing);
	assert_int_equal(writing.result, -ENOSPC);
	findings = result_of("health.show", "{}");
	text = json_dumps(findings, 0);
	assert_non_null(strstr(text, "of the 0 that max_capacity_ssd allows"));
	free(text);
	json_decref(findings);
	findings = result_of("event.list", "{}");
	text = json_dumps(findings, 0);
	assert_non_null(strstr(text, "container-tier-full"));
	free(text);
	json_decref(findings);
	node_rig_done(&rig);
}

/* Also the first disk of a pool may be of any tier. */
static void a_pool_begins_on_any_tier(void **state)
{
	json_t *disks;

	(void)state;
	begin(46, 1);
	assert_int_equal(sim_disk_add(rig.sim.sim, "/disk1", 2 * GIB), 0);
	GOOD("pool.create", "{\"name\": \"h\", \"directory\": \"/disk1/p\", \"tier\": "
			    "\"hdd\"}");
	disks = result_of("disk.list", "{}");
	assert_string_equal(json_string_value(json_object_get(json_array_get(disks, 0), "tier")),
			    "hdd");
	json_decref(disks);
	/* What is reserved on tiers is told as a whole. */
	GOOD("container.create", "{\"name\": \"c\", \"set\": {\"max_capacity\": \"10M\"}}");
	BAD(ERROR_INVALID_REQUEST, "container.set", SET("\"min_reserved_hdd\": \"20M\""));
	node_rig_done(&rig);
}

/* A disk that is not in order is the one that people want to be rid of. */
static void the_other_disk_counts(void **state)
{
	(void)state;
	begin(5, 1);
	assert_int_equal(sim_disk_add(rig.sim.sim, "/disk1", 4 * GIB), 0);
	node_rig_make_pool(&rig);
	GOOD("disk.add", "{\"pool\": \"p\", \"directory\": \"/disk1/d\"}");
	node_rig_stop(&rig);
	sim_disk_set_missing(rig.sim.sim, "/disk1", true);
	assert_int_equal(node_rig_start(&rig), 0);
	BAD(ERROR_INVALID_REQUEST, "disk.drain", "{\"disk\": \"1\"}");
	BAD(ERROR_INVALID_REQUEST, "disk.fail", "{\"disk\": \"1\"}");
	BAD(ERROR_INVALID_REQUEST, "disk.remove", "{\"disk\": \"1\"}");
	GOOD("disk.drain", "{\"disk\": \"2\"}");
	GOOD("disk.remove", "{\"disk\": \"2\"}");
	BAD(ERROR_INVALID_REQUEST, "disk.remove", "{\"disk\": \"1\"}");
	node_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_method_works),
		cmocka_unit_test(the_other_disk_counts),
		cmocka_unit_test(refuses_copies_without_room),
		cmocka_unit_test(tells_of_a_full_tier),
		cmocka_unit_test(tells_of_damaged_rows),
		cmocka_unit_test(a_deletion_of_a_pool_goes_on),
		cmocka_unit_test(a_pool_begins_on_any_tier),
		cmocka_unit_test(refuses_with_the_right_code),
		cmocka_unit_test(warns_of_overcommit),
		cmocka_unit_test(asks_for_the_role),
		cmocka_unit_test(calls_at_the_same_time),
		cmocka_unit_test(a_restart_finds_everything),
		cmocka_unit_test(a_deletion_survives_any_crash),
		cmocka_unit_test(a_name_is_free_while_its_vdisk_is_deleted),
		cmocka_unit_test(a_missing_pool_fails_alone),
		cmocka_unit_test(a_start_survives_each_fault),
		cmocka_unit_test(survives_without_memory),
		cmocka_unit_test(metrics_name_all),
		cmocka_unit_test(units_are_told_of_the_room),
		cmocka_unit_test(targets_with_several_luns),
		cmocka_unit_test(rules_of_targets_are_durable),
		cmocka_unit_test(policies_are_kept),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
