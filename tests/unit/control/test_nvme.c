/* SPDX-License-Identifier: Apache-2.0 */
/* Controllers and their namespaces through the API, over keepers that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <nvme/types.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/json_memory.h"
#include "control/metrics.h"

#include "node_rig.h"

static struct node_rig rig;

#define GOOD(method, params)      node_rig_expect(&rig, ERROR_NONE, method, params)
#define BAD(code, method, params) node_rig_expect(&rig, code, method, params)
#define DISK(name)                "{\"name\": \"c/" name "\"}"
#define NAMED(name)               "{\"name\": \"" name "\"}"
#define DISK_OF_64M(name)         "{\"name\": \"c/" name "\", \"size\": \"64M\"}"
#define CREATE_DISK(name)         GOOD("vdisk.create", DISK_OF_64M(name))
#define TWO(name, vdisk)          "\"name\": \"" name "\", \"vdisk\": \"c/" vdisk "\""
#define PAIR(name, vdisk)         "{" TWO(name, vdisk) "}"
#define SHARED(name, vdisk)       "{" TWO(name, vdisk) ", \"shared\": true}"

static void begin(uint64_t seed, unsigned reactors)
{
	node_rig_init(&rig, seed, reactors);
	assert_int_equal(node_rig_start(&rig), 0);
	node_rig_make_pool(&rig);
}

static json_t *result_of(const char *method, const char *params)
{
	json_t *answer = node_rig_call(&rig, method, params), *result;

	assert_int_equal(rig.code, ERROR_NONE);
	result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return result;
}

static void sleep_in_fiber(void *arg)
{
	fiber_sleep(*(uint64_t *)arg);
}

static void pass(uint64_t ns)
{
	sim_rig_run(&rig.sim, 0, sleep_in_fiber, &ns);
}

/* "a.b" in the controller. */
static void expect_field(const char *name, const char *path, const char *expected)
{
	char params[100], text[100] = "absent";
	json_t *controller, *value;
	const char *dot = strchr(path, '.');

	snprintf(params, sizeof(params), NAMED("%s"), name);
	controller = result_of("nvme.show", params);
	value = controller;
	if (dot) {
		snprintf(params, sizeof(params), "%.*s", (int)(dot - path), path);
		value = json_object_get(controller, params);
	}
	value = json_object_get(value, dot ? dot + 1 : path);
	if (json_is_string(value))
		snprintf(text, sizeof(text), "%s", json_string_value(value));
	else if (json_is_integer(value))
		snprintf(text, sizeof(text), "%d", (int)json_integer_value(value));
	else if (value)
		snprintf(text, sizeof(text), "%s", json_is_true(value) ? "true" : "false");
	assert_string_equal(text, expected);
	json_decref(controller);
}

static struct nvme_link *link_of(const char *name)
{
	struct keeper_rig_keeper *keeper = keeper_rig_find(&rig.keepers, name);

	assert_non_null(keeper);
	assert_non_null(keeper->link);
	return keeper->link;
}

static void every_method_works(void **state)
{
	json_t *usage;

	begin(1, 2);
	CREATE_DISK("d");
	usage = result_of("nvme.create", NAMED("vm"));
	assert_string_equal(json_string_value(json_object_get(usage, "socket")),
			    "/run/nvme/vm.sock");
	assert_non_null(strstr(json_string_value(json_object_get(usage, "qemu")),
			       "-device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"type\":"
			       "\"unix\",\"path\":\"/run/nvme/vm.sock\"}}'"));
	assert_non_null(strstr(json_string_value(json_object_get(usage, "libvirt")),
			       "<access mode='shared'/>"));
	json_decref(usage);
	expect_field("vm", "state", "online");
	expect_field("vm", "keeper.pid", "1001");
	expect_field("vm", "guest.state", "ready");
	expect_field("vm", "commands.reads", "7");
	GOOD("nvme.attach", PAIR("vm", "d"));
	expect_field("vm", "namespace_names", "1=c/d");
	assert_int_equal(link_of("vm")->namespaces[1].nsid, 1);
	assert_true(link_of("vm")->started);
	GOOD("vdisk.resize", "{\"name\": \"c/d\", \"size\": \"65M\"}");
	assert_int_equal(link_of("vm")->resized, 1);
	GOOD("nvme.usage", NAMED("vm"));
	GOOD("nvme.list", "{}");
	GOOD("nvme.namespaces", "{}");
	GOOD("nvme.namespaces", NAMED("vm"));
	GOOD("nvme.keeper-replace", NAMED("vm"));
	assert_int_equal(keeper_rig_find(&rig.keepers, "vm")->replaced, 1);
	assert_int_equal(keeper_rig_find(&rig.keepers, "vm")->spawned, 1);
	assert_int_equal(link_of("vm")->namespaces[1].nsid, 1);
	rig.keepers.replace_error = -EPROTONOSUPPORT; /* it goes on */
	BAD(ERROR_UNAVAILABLE, "nvme.keeper-replace", NAMED("vm"));
	expect_field("vm", "state", "online");
	assert_int_equal(link_of("vm")->namespaces[1].nsid, 1);
	rig.keepers.replace_error = 0;
	GOOD("nvme.keeper-replace", NAMED("vm"));
	GOOD("nvme.detach", PAIR("vm", "d"));
	assert_int_equal(link_of("vm")->namespaces[1].nsid, 0);
	GOOD("nvme.delete", NAMED("vm"));
	assert_false(keeper_rig_find(&rig.keepers, "vm")->running);
	assert_int_equal(keeper_rig_find(&rig.keepers, "vm")->forgotten, 1);
	GOOD("vdisk.delete", DISK("d"));
	node_rig_done(&rig);
}

static void refuses_with_the_right_code(void **state)
{
	begin(2, 1);
	CREATE_DISK("d");
	CREATE_DISK("e");
	GOOD("vdisk.create", "{\"name\": \"c/big\", \"size\": \"64M\", \"block\": 4096}");
	BAD(ERROR_NOT_FOUND, "nvme.show", NAMED("a"));
	BAD(ERROR_NOT_FOUND, "nvme.usage", NAMED("a"));
	BAD(ERROR_NOT_FOUND, "nvme.delete", NAMED("a"));
	BAD(ERROR_NOT_FOUND, "nvme.namespaces", NAMED("a"));
	BAD(ERROR_NOT_FOUND, "nvme.keeper-replace", NAMED("a"));
	BAD(ERROR_NOT_FOUND, "nvme.attach", PAIR("a", "d"));
	BAD(ERROR_NOT_FOUND, "nvme.detach", PAIR("a", "d"));
	BAD(ERROR_INVALID_NAME, "nvme.create", NAMED("A"));
	BAD(ERROR_INVALID_REQUEST, "nvme.create", "{\"name\": \"a\", \"queues\": 5}");
	BAD(ERROR_INVALID_REQUEST, "nvme.create", "{\"name\": \"a\", \"queues\": 0}");
	BAD(ERROR_INVALID_REQUEST, "nvme.create", "{\"name\": \"a\", \"doorbells\": \"x\"}");
	GOOD("nvme.create", "{\"name\": \"a\", \"queues\": 4, \"doorbells\": \"mapped\"}");
	assert_true(keeper_rig_find(&rig.keepers, "a")->spec.doorbells_mapped);
	assert_int_equal(keeper_rig_find(&rig.keepers, "a")->spec.queues, 4);
	BAD(ERROR_EXISTS, "nvme.create", NAMED("a"));
	BAD(ERROR_NOT_FOUND, "nvme.attach", PAIR("a", "x"));
	BAD(ERROR_NOT_FOUND, "nvme.detach", PAIR("a", "d"));
	BAD(ERROR_NOT_FOUND, "nvme.detach", PAIR("a", "x"));
	BAD(ERROR_INVALID_REQUEST, "nvme.attach",
	    "{\"name\": \"a\", \"vdisk\": \"c/d\", \"nsid\": 257}");
	BAD(ERROR_INVALID_REQUEST, "nvme.attach",
	    "{\"name\": \"a\", \"vdisk\": \"c/big\", \"block_size\": 512}");
	GOOD("nvme.attach", "{\"name\": \"a\", \"vdisk\": \"c/d\", \"nsid\": 7, "
			    "\"block_size\": 4096, \"read_only\": true}");
	assert_int_equal(link_of("a")->namespaces[7].block_bytes, 4096);
	assert_true(link_of("a")->namespaces[7].read_only);
	BAD(ERROR_EXISTS, "nvme.attach", PAIR("a", "d"));
	BAD(ERROR_EXISTS, "nvme.attach", "{\"name\": \"a\", \"vdisk\": \"c/e\", \"nsid\": 7}");
	BAD(ERROR_BUSY, "vdisk.delete", DISK("d"));
	BAD(ERROR_BUSY, "iscsi.export", DISK("d"));
	keeper_rig_find(&rig.keepers, "a")->shared->client_connected = 1;
	expect_field("a", "guest.connected", "true");
	BAD(ERROR_BUSY, "nvme.delete", NAMED("a"));
	expect_field("a", "state", "online");
	GOOD("nvme.delete", "{\"name\": \"a\", \"force\": true}");
	BAD(ERROR_NOT_FOUND, "nvme.show", NAMED("a"));
	GOOD("vdisk.check", DISK("d"));
	node_rig_done(&rig);
}

static void keeps_its_limits(void **state)
{
	char params[200];

	begin(3, 2);
	for (int i = 0; i < 5; i++) {
		snprintf(params, sizeof(params), "{\"name\": \"c/d%d\", \"size\": \"1M\"}", i);
		GOOD("vdisk.create", params);
	}
	for (int i = 0; i < 4; i++) {
		snprintf(params, sizeof(params), NAMED("vm%d"), i);
		GOOD("nvme.create", params);
	}
	BAD(ERROR_BUSY, "nvme.create", NAMED("vm4"));
	for (int i = 0; i < 4; i++) {
		snprintf(params, sizeof(params), PAIR("vm0", "d%d"), i);
		GOOD("nvme.attach", params);
	}
	BAD(ERROR_BUSY, "nvme.attach", PAIR("vm0", "d4"));
	expect_field("vm0", "namespace_names", "1=c/d0, 2=c/d1, 3=c/d2, 4=c/d3");
	GOOD("nvme.detach", PAIR("vm0", "d1"));
	GOOD("nvme.attach", PAIR("vm0", "d4"));
	expect_field("vm0", "namespace_names", "1=c/d0, 2=c/d4, 3=c/d2, 4=c/d3");
	GOOD("nvme.delete", NAMED("vm1"));
	GOOD("nvme.create", NAMED("vm4"));
	GOOD("nvme.delete", NAMED("vm4"));
	/* 63 characters and the paths of its sockets fit; the directory is short. */
	snprintf(params, sizeof(params), "{\"name\": \"%063d\"}", 0);
	GOOD("nvme.create", params);
	node_rig_done(&rig);
}

static void shares_only_when_all_agree(void **state)
{
	begin(4, 3);
	CREATE_DISK("d");
	GOOD("nvme.create", NAMED("a"));
	GOOD("nvme.create", NAMED("b"));
	GOOD("nvme.attach", PAIR("a", "d"));
	BAD(ERROR_BUSY, "nvme.attach", PAIR("b", "d"));
	BAD(ERROR_BUSY, "nvme.attach", SHARED("b", "d"));
	GOOD("nvme.detach", PAIR("a", "d"));
	GOOD("nvme.attach", SHARED("a", "d"));
	BAD(ERROR_BUSY, "nvme.attach", PAIR("b", "d"));
	GOOD("nvme.attach", SHARED("b", "d"));
	assert_true(link_of("a")->namespaces[1].shared);
	assert_non_null(link_of("a")->namespaces[1].reservations);
	assert_ptr_equal(link_of("a")->namespaces[1].reservations,
			 link_of("b")->namespaces[1].reservations);
	/* The same disk, whoever has it. */
	assert_memory_equal(link_of("a")->namespaces[1].nguid, link_of("b")->namespaces[1].nguid,
			    16);
	assert_int_not_equal(link_of("a")->options.controller.controller_id,
			     link_of("b")->options.controller.controller_id);
	GOOD("iscsi.export", DISK("d"));
	GOOD("nvme.detach", PAIR("a", "d"));
	BAD(ERROR_BUSY, "nvme.attach", PAIR("a", "d"));
	GOOD("nvme.attach", SHARED("a", "d"));
	GOOD("iscsi.unexport", DISK("d"));
	BAD(ERROR_BUSY, "vdisk.delete", DISK("d"));
	node_rig_done(&rig);
}

static void finds_its_keepers_again(void **state)
{
	uint64_t nguid[2], subsystem;
	struct keeper_rig_keeper *keeper;

	begin(5, 2);
	CREATE_DISK("d");
	CREATE_DISK("e");
	GOOD("nvme.create", "{\"name\": \"a\", \"queues\": 3, \"doorbells\": \"mapped\"}");
	GOOD("nvme.create", NAMED("b"));
	GOOD("nvme.attach", "{\"name\": \"a\", \"vdisk\": \"c/d\", \"nsid\": 3}");
	GOOD("nvme.attach", SHARED("b", "e"));
	memcpy(nguid, link_of("a")->namespaces[3].nguid, sizeof(nguid));
	subsystem = link_of("a")->options.controller.subsystem_id;
	for (int round = 0; round < 2; round++) {
		if (round == 0)
			node_rig_stop(&rig);
		else
			node_rig_crash(&rig, SIM_CRASH_PROCESS);
		keeper = keeper_rig_find(&rig.keepers, "a");
		assert_true(keeper->running);
		assert_int_equal(node_rig_start(&rig), 0);
		pass(NSEC_PER_SEC / 10);
		assert_int_equal(keeper->spawned, 1);
		assert_int_equal(keeper->shared->engine_epoch, 2 + (uint64_t)round);
		assert_memory_equal(link_of("a")->namespaces[3].nguid, nguid, sizeof(nguid));
		assert_int_equal(link_of("a")->options.controller.subsystem_id, subsystem);
		assert_true(link_of("b")->namespaces[1].shared);
		assert_true(link_of("a")->started);
		expect_field("a", "queues", "3");
		expect_field("a", "doorbells", "mapped");
		expect_field("a", "namespace_names", "3=c/d");
		BAD(ERROR_BUSY, "vdisk.delete", DISK("d"));
	}
	/* One that is missing is started again, the other goes on. */
	node_rig_stop(&rig);
	keeper_rig_kill(keeper);
	assert_int_equal(node_rig_start(&rig), 0);
	pass(NSEC_PER_SEC / 10);
	assert_int_equal(keeper->spawned, 2);
	assert_int_equal(keeper_rig_find(&rig.keepers, "b")->spawned, 1);
	expect_field("a", "state", "online");
	node_rig_done(&rig);
}

static void restart(void)
{
	node_rig_crash(&rig, SIM_CRASH_PROCESS);
	assert_int_equal(node_rig_start(&rig), 0);
	pass(NSEC_PER_SEC / 10);
}

/* Three controllers: a and b share a disk, c has one alone. */
static void begin_sharing(uint64_t seed)
{
	begin(seed, 2);
	CREATE_DISK("d");
	CREATE_DISK("e");
	GOOD("nvme.create", NAMED("a"));
	GOOD("nvme.create", NAMED("b"));
	GOOD("nvme.create", NAMED("c"));
	GOOD("nvme.attach", SHARED("a", "d"));
	GOOD("nvme.attach", SHARED("b", "d"));
	GOOD("nvme.attach", PAIR("c", "e"));
	assert_false(link_of("b")->options.controller.gated);
}

static void those_who_share_recover_together(void **state)
{
	begin_sharing(20);
	restart();
	assert_true(link_of("a")->options.controller.gated);
	assert_int_equal(link_of("a")->gone_on, NVME_REDO_STEPS);
	assert_int_equal(link_of("b")->gone_on, NVME_REDO_STEPS);
	assert_false(link_of("c")->options.controller.gated);
	/* One that has begun is waited for as long as it takes. */
	keeper_rig_find(&rig.keepers, "b")->slow = true;
	restart();
	pass(20 * NSEC_PER_SEC);
	assert_int_equal(link_of("a")->gone_on, 0);
	expect_field("a", "state", "starting");
	expect_field("c", "state", "online");
	keeper_rig_find(&rig.keepers, "b")->slow = false;
	pass(NSEC_PER_SEC / 10);
	assert_int_equal(link_of("a")->gone_on, NVME_REDO_STEPS);
	assert_int_equal(link_of("b")->gone_on, NVME_REDO_STEPS);
	assert_false(link_of("b")->namespaces[1].stale);
	expect_field("a", "state", "online");
	/* A keeper that is gone has nothing to redo. */
	node_rig_crash(&rig, SIM_CRASH_PROCESS);
	keeper_rig_kill(keeper_rig_find(&rig.keepers, "b"));
	assert_int_equal(node_rig_start(&rig), 0);
	pass(NSEC_PER_SEC / 2);
	assert_int_equal(keeper_rig_find(&rig.keepers, "b")->spawned, 2);
	expect_field("a", "state", "online");
	/* Who waits gives way to a deletion, which may be refused. */
	keeper_rig_find(&rig.keepers, "b")->slow = true;
	restart();
	keeper_rig_find(&rig.keepers, "a")->shared->client_connected = 1;
	BAD(ERROR_BUSY, "nvme.delete", NAMED("a"));
	pass(NSEC_PER_SEC);
	expect_field("a", "state", "starting");
	keeper_rig_find(&rig.keepers, "b")->slow = false;
	pass(NSEC_PER_SEC);
	expect_field("a", "state", "online");
	assert_int_equal(link_of("a")->gone_on, NVME_REDO_STEPS);
	/* It ends at once while they wait for each other. */
	keeper_rig_find(&rig.keepers, "b")->slow = true;
	restart();
	node_rig_stop(&rig);
	node_rig_done(&rig);
}

static void one_that_does_not_come_is_left_behind(void **state)
{
	struct keeper_rig_keeper *late;

	begin_sharing(21);
	late = keeper_rig_find(&rig.keepers, "b");
	late->open_error = -EPROTO;
	restart();
	assert_int_equal(link_of("a")->gone_on, 0);
	pass(6 * NSEC_PER_SEC);
	assert_int_equal(link_of("a")->gone_on, NVME_REDO_STEPS);
	expect_field("a", "state", "online");
	/* Another daemon knows it too, and waits for nobody. */
	restart();
	assert_false(link_of("a")->options.controller.gated);
	expect_field("a", "state", "online");
	late->open_error = 0;
	pass(60 * NSEC_PER_SEC);
	assert_true(link_of("b")->namespaces[1].stale);
	expect_field("b", "state", "online");
	/* It has come back. */
	restart();
	assert_false(link_of("b")->namespaces[1].stale);
	/* While it is away, a disk in the place of another is not taken for that. */
	late->open_error = -EPROTO;
	restart();
	GOOD("nvme.detach", PAIR("b", "d"));
	CREATE_DISK("f");
	GOOD("nvme.attach", PAIR("b", "f"));
	late->open_error = 0;
	pass(60 * NSEC_PER_SEC);
	assert_true(link_of("b")->namespaces[1].stale);
	node_rig_done(&rig);
}

struct formatting {
	struct nvme_link *link;
	int result;
};

static void format_in_fiber(void *arg)
{
	struct formatting *formatting = arg;
	const struct nvme_link_options *options = &formatting->link->options;

	formatting->result = options->formatted(options->context, 1, 4096);
}

static void a_guest_chooses_the_size_of_blocks(void **state)
{
	struct formatting formatting;

	begin(22, 2);
	CREATE_DISK("d");
	GOOD("nvme.create", NAMED("a"));
	GOOD("nvme.attach", PAIR("a", "d"));
	assert_int_equal(link_of("a")->namespaces[1].block_bytes, 0);
	formatting.link = link_of("a");
	sim_rig_run(&rig.sim, formatting.link->options.home == rig.sim.reactors[1], format_in_fiber,
		    &formatting);
	assert_int_equal(formatting.result, 0);
	restart();
	assert_int_equal(link_of("a")->namespaces[1].block_bytes, 4096);
	/* It is being taken away: no matter. */
	GOOD("nvme.detach", PAIR("a", "d"));
	formatting.link = link_of("a");
	sim_rig_run(&rig.sim, formatting.link->options.home == rig.sim.reactors[1], format_in_fiber,
		    &formatting);
	assert_int_equal(formatting.result, 0);
	GOOD("nvme.attach", PAIR("a", "d"));
	restart();
	assert_int_equal(link_of("a")->namespaces[1].block_bytes, 0);
	node_rig_done(&rig);
}

struct asked {
	struct nvme_link *link;
	struct nvme_management what;
	int result;
};

static void ask_in_fiber(void *arg)
{
	struct asked *asked = arg;
	const struct nvme_link_options *options = &asked->link->options;

	asked->result = options->manage(options->context, &asked->what);
}

/* As the guest of controller a does, by the command of that sequence. */
static int manage(enum nvme_management_kind kind, uint32_t nsid, uint64_t bytes, uint64_t sequence,
		  uint32_t *ret_nsid)
{
	struct asked asked = {.link = link_of("a"),
			      .what = {.kind = kind,
				       .nsid = nsid,
				       .block_bytes = 4096,
				       .blocks = bytes / 4096,
				       .epoch = 7,
				       .sequence = sequence}};

	sim_rig_run(&rig.sim, asked.link->options.home == rig.sim.reactors[1], ask_in_fiber,
		    &asked);
	if (ret_nsid)
		*ret_nsid = asked.what.nsid;
	return asked.result;
}

#define SPECIFIC(code) (0x100 | (code))

static size_t count_of(const char *method)
{
	json_t *list = result_of(method, "{}");
	size_t count = json_array_size(list);

	json_decref(list);
	return count;
}

static void a_guest_makes_what_it_may(void **state)
{
	uint32_t nsid;

	begin(23, 2);
	CREATE_DISK("d");
	BAD(ERROR_NOT_FOUND, "nvme.create", "{\"name\": \"a\", \"manage\": \"none\"}");
	BAD(ERROR_INVALID_REQUEST, "nvme.create", "{\"name\": \"a\", \"manage_limit\": \"1G\"}");
	GOOD("nvme.create", "{\"name\": \"a\", \"manage\": \"c\", \"manage_limit\": \"8M\"}");
	GOOD("nvme.create", NAMED("b"));
	assert_int_equal(link_of("b")->options.controller.manage_bytes, 0);
	assert_int_equal(link_of("a")->options.controller.manage_bytes, 8 * MIB);
	expect_field("a", "manage", "c");
	GOOD("nvme.attach", PAIR("a", "d"));
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, 9 * MIB, 1, NULL),
			 SPECIFIC(NVME_SC_NS_INSUFFICIENT_CAP));
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, UINT64_MAX, 1, NULL),
			 SPECIFIC(NVME_SC_NS_INSUFFICIENT_CAP));
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, MIB / 2, 1, NULL), NVME_SC_INVALID_FIELD);
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, 5 * MIB, 2, &nsid), 0);
	assert_int_equal(nsid, 2);
	assert_true(link_of("a")->namespaces[2].inactive && link_of("a")->namespaces[2].managed);
	assert_int_equal(link_of("a")->namespaces[2].block_bytes, 4096);
	/* The same command, by another engine. */
	restart();
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, 5 * MIB, 2, &nsid), 0);
	assert_int_equal(nsid, 2);
	assert_int_equal(count_of("vdisk.list"), 2);
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, 5 * MIB, 3, NULL),
			 SPECIFIC(NVME_SC_NS_INSUFFICIENT_CAP));
	assert_int_equal(manage(NVME_MANAGE_DETACH, 2, 0, 4, NULL),
			 SPECIFIC(NVME_SC_NS_NOT_ATTACHED));
	assert_int_equal(manage(NVME_MANAGE_ATTACH, 2, 0, 5, NULL), 0);
	assert_false(link_of("a")->namespaces[2].inactive);
	assert_int_equal(manage(NVME_MANAGE_ATTACH, 2, 0, 6, NULL),
			 SPECIFIC(NVME_SC_NS_ALREADY_ATTACHED));
	restart();
	assert_int_equal(manage(NVME_MANAGE_ATTACH, 2, 0, 5, NULL), 0);
	assert_false(link_of("a")->namespaces[2].inactive);
	/* What it has not made is not its own. */
	assert_int_equal(manage(NVME_MANAGE_DETACH, 1, 0, 7, NULL), NVME_SC_OP_DENIED);
	assert_int_equal(manage(NVME_MANAGE_DELETE, 1, 0, 7, NULL), NVME_SC_OP_DENIED);
	assert_int_equal(manage(NVME_MANAGE_DELETE, 9, 0, 7, NULL), NVME_SC_INVALID_NS);
	assert_int_equal(manage(NVME_MANAGE_ATTACH, 9, 0, 7, NULL), NVME_SC_INVALID_NS);
	assert_int_equal(manage(NVME_MANAGE_DETACH, 2, 0, 8, NULL), 0);
	assert_true(link_of("a")->namespaces[2].inactive);
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, 2 * MIB, 9, &nsid), 0);
	assert_int_equal(nsid, 3);
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, MIB, 10, &nsid), 0);
	assert_int_equal(manage(NVME_MANAGE_CREATE, 0, MIB, 11, &nsid), /* of 4 */
			 SPECIFIC(NVME_SC_NS_INSUFFICIENT_CAP));
	assert_int_equal(manage(NVME_MANAGE_DELETE, 2, 0, 12, NULL), 0);
	assert_int_equal(link_of("a")->namespaces[2].nsid, 0);
	assert_int_equal(manage(NVME_MANAGE_DELETE, 2, 0, 12, NULL), 0);
	assert_int_equal(manage(NVME_MANAGE_DELETE, NVME_NSID_ALL, 0, 13, NULL), 0);
	pass(NSEC_PER_SEC);
	assert_int_equal(count_of("vdisk.list"), 1);
	assert_int_equal(count_of("nvme.namespaces"), 1);
	node_rig_done(&rig);
}

/* A command that an engine's death has cut is asked for again, and has one effect. */
static void what_a_guest_makes_survives_a_crash_anywhere(void **state)
{
	static const enum nvme_management_kind kinds[] = {NVME_MANAGE_CREATE, NVME_MANAGE_ATTACH,
							  NVME_MANAGE_DETACH, NVME_MANAGE_DELETE};
	uint64_t sequence = 0;

	begin(24, 2);
	GOOD("nvme.create", "{\"name\": \"a\", \"manage\": \"c\", \"manage_limit\": \"3M\"}");
	for (uint64_t n = 1; n < 60; n += 1 + n / 10) {
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
			uint32_t nsid = kinds[i] == NVME_MANAGE_CREATE ? 0 : 1;

			sequence++;
			sim_crash_nth(rig.sim.sim, n, n % 2 ? SIM_CRASH_PROCESS : SIM_CRASH_POWER);
			(void)manage(kinds[i], nsid, 2 * MIB, sequence, NULL);
			node_rig_crash(&rig, SIM_CRASH_PROCESS);
			assert_int_equal(node_rig_start(&rig), 0);
			pass(NSEC_PER_SEC);
			assert_int_equal(manage(kinds[i], nsid, 2 * MIB, sequence, &nsid), 0);
			assert_int_equal(nsid, 1);
			pass(NSEC_PER_SEC / 10);
			assert_int_equal(count_of("nvme.namespaces"), i < 3);
			if (i < 3)
				assert_int_equal(link_of("a")->namespaces[1].inactive, i != 1);
		}
		pass(NSEC_PER_SEC);
		assert_int_equal(count_of("vdisk.list"), 0);
	}
	node_rig_done(&rig);
}

struct kill {
	struct keeper_rig_keeper *keeper;
};

static void kill_in_fiber(void *arg)
{
	keeper_rig_kill(arg);
}

static void kill_keeper(const char *name)
{
	struct keeper_rig_keeper *keeper = keeper_rig_find(&rig.keepers, name);

	sim_rig_run(&rig.sim, reactor_index(keeper->link->options.home), kill_in_fiber, keeper);
}

/* One for each keeper that was lost, one for the controller that has none now, which is in health
 * too. */
static void expect_events(void)
{
	json_t *answer = result_of("event.list", "{}"), *list = answer, *event;
	unsigned lost = 0, failed = 0;
	size_t i;

	if (json_is_object(answer))
		list = json_object_get(answer, "events");
	json_array_foreach(list, i, event)
	{
		const char *reason = json_string_value(json_object_get(event, "reason"));

		lost += strcmp(reason, "keeper-lost") == 0;
		failed += strcmp(reason, "controller-failed") == 0;
	}
	assert_int_equal(lost, 3);
	assert_int_equal(failed, 1);
	json_decref(answer);
	list = result_of("health.show", "{}");
	assert_int_equal(json_array_size(list), 1);
	json_decref(list);
}

static void expect_health(const char *severity, const char *remedy)
{
	json_t *list = result_of("health.show", "{}"), *finding = json_array_get(list, 0);

	assert_int_equal(json_array_size(list), severity ? 1 : 0);
	if (severity) {
		assert_string_equal(json_string_value(json_object_get(finding, "object")), "a");
		assert_string_equal(json_string_value(json_object_get(finding, "severity")),
				    severity);
		assert_non_null(
			strstr(json_string_value(json_object_get(finding, "remedy")), remedy));
	}
	json_decref(list);
}

/* After an upgrade of the daemon, and after going back. */
static void tells_of_keepers_of_other_builds(void **state)
{
	uint32_t *build;

	begin(40, 1);
	GOOD("nvme.create", NAMED("a"));
	build = &keeper_rig_find(&rig.keepers, "a")->shared->keeper_build;
	expect_health(NULL, NULL);
	*build -= 1;
	expect_health("warning", "keeper-replace");
	*build = 0;
	expect_health("warning", "keeper-replace");
	*build = UINT32_MAX;
	expect_health("warning", "set back");
	node_rig_done(&rig);
}

static void replaces_a_keeper_that_is_lost(void **state)
{
	begin(6, 2);
	CREATE_DISK("d");
	GOOD("nvme.create", NAMED("a"));
	GOOD("nvme.create", NAMED("b"));
	GOOD("nvme.attach", PAIR("a", "d"));
	kill_keeper("a");
	kill_keeper("b");
	pass(NSEC_PER_SEC / 10);
	assert_int_equal(keeper_rig_find(&rig.keepers, "a")->spawned, 2);
	assert_int_equal(link_of("a")->namespaces[1].nsid, 1);
	expect_field("a", "state", "online");
	expect_field("b", "state", "online");
	/* While none can be started it is tried now and then. */
	rig.keepers.spawn_error = -ENOPKG;
	kill_keeper("a");
	pass(3 * NSEC_PER_SEC);
	expect_field("a", "state", "failed");
	expect_field("a", "error", "the keeper program could not be started");
	expect_events();
	expect_field("b", "state", "online");
	BAD(ERROR_UNAVAILABLE, "nvme.keeper-replace", NAMED("a"));
	GOOD("nvme.detach", PAIR("a", "d"));
	GOOD("nvme.attach", PAIR("a", "d"));
	GOOD("nvme.namespaces", "{}");
	rig.keepers.spawn_error = 0;
	pass(10 * NSEC_PER_SEC);
	expect_field("a", "state", "online");
	assert_int_equal(link_of("a")->namespaces[1].nsid, 1);
	node_rig_done(&rig);
}

static void undoes_what_fails(void **state)
{
	begin(7, 2);
	CREATE_DISK("d");
	rig.keepers.spawn_error = -ENOPKG;
	BAD(ERROR_UNAVAILABLE, "nvme.create", NAMED("a"));
	rig.keepers.spawn_error = 0;
	rig.keepers.mute = true;
	BAD(ERROR_UNAVAILABLE, "nvme.create", NAMED("a"));
	rig.keepers.mute = false;
	rig.keepers.open_error = -EPROTO;
	BAD(ERROR_INTERNAL, "nvme.create", NAMED("a"));
	rig.keepers.open_error = 0;
	BAD(ERROR_NOT_FOUND, "nvme.show", NAMED("a"));
	GOOD("nvme.create", NAMED("a"));
	rig.keepers.attach_error = -ENOMEM;
	BAD(ERROR_INTERNAL, "nvme.attach", PAIR("a", "d"));
	rig.keepers.attach_error = 0;
	expect_field("a", "namespace_names", "");
	GOOD("nvme.attach", PAIR("a", "d"));
	rig.keepers.deaf = true;
	BAD(ERROR_TIMEOUT, "nvme.delete", NAMED("a"));
	rig.keepers.deaf = false;
	rig.keepers.retire_error = -ECONNRESET;
	BAD(ERROR_UNAVAILABLE, "nvme.delete", NAMED("a"));
	rig.keepers.retire_error = 0;
	expect_field("a", "namespace_names", "1=c/d");
	GOOD("nvme.delete", NAMED("a"));
	node_rig_stop(&rig);
	assert_int_equal(node_rig_start(&rig), 0);
	BAD(ERROR_NOT_FOUND, "nvme.show", NAMED("a"));
	GOOD("vdisk.delete", DISK("d"));
	node_rig_done(&rig);
}

static void can_be_disabled(void **state)
{
	begin(8, 1);
	CREATE_DISK("d");
	GOOD("nvme.create", NAMED("a"));
	GOOD("nvme.attach", PAIR("a", "d"));
	node_rig_stop(&rig);
	rig.nvme = false;
	assert_int_equal(node_rig_start(&rig), 0);
	BAD(ERROR_UNAVAILABLE, "nvme.create", NAMED("b"));
	BAD(ERROR_UNAVAILABLE, "nvme.delete", NAMED("a"));
	GOOD("nvme.list", "{}");
	BAD(ERROR_BUSY, "vdisk.delete", DISK("d"));
	node_rig_stop(&rig);
	rig.nvme = true;
	assert_int_equal(node_rig_start(&rig), 0);
	pass(NSEC_PER_SEC);
	expect_field("a", "state", "online");
	node_rig_done(&rig);
}

static void serves_what_it_can(void **state)
{
	begin(9, 1);
	CREATE_DISK("d");
	CREATE_DISK("e");
	GOOD("nvme.create", NAMED("a"));
	GOOD("nvme.attach", PAIR("a", "d"));
	GOOD("nvme.attach", PAIR("a", "e"));
	rig.keepers.attach_error = -ENOMEM;
	kill_keeper("a");
	pass(NSEC_PER_SEC);
	expect_field("a", "state", "online");
	rig.keepers.attach_error = 0;
	GOOD("vdisk.resize", "{\"name\": \"c/d\", \"size\": \"65M\"}");
	GOOD("nvme.namespaces", "{}");
	GOOD("nvme.detach", PAIR("a", "d"));
	GOOD("nvme.attach", PAIR("a", "d"));
	node_rig_done(&rig);
}

static void many_at_a_time(void **state)
{
	static const char *const calls[][2] = {
		{"nvme.create", NAMED("a")},         {"nvme.create", NAMED("a")},
		{"nvme.create", NAMED("b")},         {"nvme.attach", PAIR("z", "d")},
		{"nvme.attach", PAIR("z", "e")},     {"nvme.detach", PAIR("z", "d")},
		{"nvme.delete", NAMED("z")},         {"nvme.delete", NAMED("z")},
		{"nvme.keeper-replace", NAMED("z")}, {"nvme.list", "{}"},
		{"vdisk.delete", DISK("d")},         {"nvme.attach", PAIR("b", "e")},
	};
	enum error_code codes[ARRAY_SIZE(calls)];

	for (uint64_t seed = 100; seed < 120; seed++) {
		begin(seed, 3);
		CREATE_DISK("d");
		CREATE_DISK("e");
		GOOD("nvme.create", NAMED("z"));
		node_rig_call_all(&rig, ARRAY_SIZE(calls), calls, codes);
		assert_int_not_equal(codes[0], codes[1]);
		assert_int_equal(codes[2], ERROR_NONE);
		assert_int_equal(codes[9], ERROR_NONE);
		for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
			assert_int_not_equal(codes[i], ERROR_INTERNAL);
		BAD(ERROR_NOT_FOUND, "nvme.show", NAMED("z"));
		expect_field("a", "state", "online");
		node_rig_done(&rig);
	}
}

/* Without memory for JSON a call gives an error or nothing, never half an answer. */
static void survives_without_memory(void **state)
{
	static const char *const calls[][2] = {{"nvme.usage", NAMED("a")},
					       {"nvme.show", NAMED("a")},
					       {"nvme.list", "{}"},
					       {"nvme.namespaces", "{}"},
					       {"nvme.attach", PAIR("a", "e")}};
	uint64_t failures, n;

	begin(11, 2);
	CREATE_DISK("d");
	CREATE_DISK("e");
	GOOD("nvme.create", NAMED("a"));
	GOOD("nvme.attach", PAIR("a", "d"));
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
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
			/* It may have been done, but for the answer. */
			if (strcmp(calls[i][0], "nvme.attach") == 0)
				json_decref(node_rig_call(&rig, "nvme.detach", PAIR("a", "e")));
		}
		assert_true(n > 2);
	}
	node_rig_done(&rig);
}

/* What the calls of a life do, whether they fail or not. */
static unsigned live_once(void)
{
	static const char *const calls[][2] = {{"nvme.create", NAMED("a")},
					       {"nvme.attach", SHARED("a", "d")},
					       {"nvme.detach", PAIR("a", "d")},
					       {"nvme.attach", PAIR("a", "d")},
					       {"nvme.delete", NAMED("a")}};
	unsigned done = 0;

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		json_decref(node_rig_call(&rig, calls[i][0], calls[i][1]));
		done += rig.code == ERROR_NONE;
	}
	return done;
}

/* Of what is left, all can be ended, and nothing holds the vDisk then. */
static void end_what_is_left(void)
{
	json_t *list = result_of("nvme.list", "{}");

	assert_true(json_array_size(list) <= 1);
	if (json_array_size(list) == 1)
		GOOD("nvme.delete", "{\"name\": \"a\", \"force\": true}");
	json_decref(list);
	list = result_of("nvme.namespaces", "{}");
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
}

static void survives_every_fault(void **state)
{
	bool hit = true;
	uint64_t n;

	begin(12, 2);
	CREATE_DISK("d");
	GOOD("nvme.create", NAMED("first")); /* what only the first one does */
	GOOD("nvme.delete", NAMED("first"));
	for (n = 1; hit; n++) {
		sim_fail_nth(rig.sim.sim, n, -EIO);
		(void)live_once();
		hit = sim_fault_hit(rig.sim.sim);
		sim_fail_nth(rig.sim.sim, 0, 0);
		node_rig_stop(&rig);
		assert_int_equal(node_rig_start(&rig), 0);
		pass(NSEC_PER_SEC);
		end_what_is_left();
		assert_true(n < 10000);
	}
	assert_true(n > 5);
	assert_int_equal(live_once(), 5);
	GOOD("vdisk.delete", DISK("d"));
	node_rig_done(&rig);
}

static void survives_a_crash_anywhere(void **state)
{
	begin(13, 2);
	CREATE_DISK("d");
	for (uint64_t n = 1; n < 200; n += 1 + n / 10) {
		sim_crash_nth(rig.sim.sim, n, n % 2 ? SIM_CRASH_PROCESS : SIM_CRASH_POWER);
		(void)live_once();
		node_rig_crash(&rig, SIM_CRASH_PROCESS);
		assert_int_equal(node_rig_start(&rig), 0);
		pass(NSEC_PER_SEC);
		end_what_is_left();
	}
	assert_int_equal(live_once(), 5);
	node_rig_done(&rig);
}

static void gather(void *arg)
{
	int r = metrics_gather(rig.node, arg);

	assert_int_equal(r, 0);
}

static void metrics_name_controllers(void **state)
{
	struct metrics *metrics;
	size_t length;
	char *text;

	begin(10, 2);
	GOOD("nvme.create", NAMED("vm-1"));
	sim_rig_run(&rig.sim, 0, gather, &metrics);
	assert_int_equal(metrics_print(metrics, &text, &length), 0);
	assert_non_null(strstr(text, "sarsen_nvme_online{controller=\"vm-1\"} 1\n"));
	assert_non_null(strstr(text, "sarsen_nvme_reads_total{controller=\"vm-1\"} 7\n"));
	assert_non_null(strstr(text, "sarsen_nvme_vm_connected{controller=\"vm-1\"} 0\n"));
	assert_non_null(strstr(text, "sarsen_nvme_keeper_messages_total{controller=\"vm-1\"} 0\n"));
	free(text);
	metrics_free(metrics);
	node_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_method_works),
		cmocka_unit_test(refuses_with_the_right_code),
		cmocka_unit_test(keeps_its_limits),
		cmocka_unit_test(shares_only_when_all_agree),
		cmocka_unit_test(finds_its_keepers_again),
		cmocka_unit_test(a_guest_chooses_the_size_of_blocks),
		cmocka_unit_test(a_guest_makes_what_it_may),
		cmocka_unit_test(what_a_guest_makes_survives_a_crash_anywhere),
		cmocka_unit_test(those_who_share_recover_together),
		cmocka_unit_test(one_that_does_not_come_is_left_behind),
		cmocka_unit_test(tells_of_keepers_of_other_builds),
		cmocka_unit_test(replaces_a_keeper_that_is_lost),
		cmocka_unit_test(undoes_what_fails),
		cmocka_unit_test(can_be_disabled),
		cmocka_unit_test(serves_what_it_can),
		cmocka_unit_test(many_at_a_time),
		cmocka_unit_test(survives_without_memory),
		cmocka_unit_test(survives_every_fault),
		cmocka_unit_test(survives_a_crash_anywhere),
		cmocka_unit_test(metrics_name_controllers),
	};

	log_set_level(LOG_LEVEL_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
