/* SPDX-License-Identifier: Apache-2.0 */
#include "node_rig.h"

#include <stdio.h>

#include "control/json_memory.h"
#include "control/node_priv.h"
#include "reactor/io.h"

#define STATE NODE_RIG_DISK "/state"

static void make_state(void *arg)
{
	int r = io_directory_make(STATE);

	ASSERT(r == 0);
	r = io_directory_sync(NODE_RIG_DISK);
	ASSERT(r == 0);
}

void node_rig_init(struct node_rig *rig, uint64_t seed, unsigned reactor_count)
{
	*rig = (struct node_rig){
		.role = ROLE_ADMINISTRATOR, .iscsi = true, .nvme = true, .max_controllers = 4};
	sim_rig_init(&rig->sim, seed, reactor_count);
	ASSERT(sim_disk_add(rig->sim.sim, NODE_RIG_DISK, 8 * GIB) == 0);
	sim_rig_run(&rig->sim, 0, make_state, NULL);
}

void node_rig_done(struct node_rig *rig)
{
	node_rig_stop(rig);
	sim_rig_done(&rig->sim);
	keeper_rig_done(&rig->keepers);
}

struct start {
	struct node_rig *rig;
	int result;
};

static void start_in_fiber(void *arg)
{
	struct start *start = arg;
	struct node_rig *rig = start->rig;
	const struct node_options options = {.world = sim_world(rig->sim.sim),
					     .reactors = rig->sim.reactors,
					     .reactor_count = rig->sim.reactor_count,
					     .state_directory = STATE,
					     .catalog_vfs = SIM_VFS_NAME,
					     .map_budget_bytes = 64 * MIB,
					     .iscsi_enabled = rig->iscsi,
					     .iscsi = {.address = "127.0.0.1", .port = 3260},
					     .nvme = {.keepers = rig->nvme ? &keeper_rig_ops : NULL,
						      .keepers_context = &rig->keepers,
						      .directory = "/run/nvme",
						      .max_controllers = rig->max_controllers,
						      .max_queues = rig->max_controllers,
						      .max_namespaces = rig->max_controllers},
					     .places = rig->places,
					     .places_context = rig->places_context,
					     .process_id = 1};

	rig->error = (struct error){0};
	start->result = node_start(&options, &rig->node, &rig->error);
}

int node_rig_start(struct node_rig *rig)
{
	struct start start = {.rig = rig};

	ASSERT(!rig->node);
	sim_rig_run(&rig->sim, 0, start_in_fiber, &start);
	return start.result;
}

static void stop_in_fiber(void *arg)
{
	struct node_rig *rig = arg;

	node_begin_stop(rig->node);
	node_stop(rig->node);
	rig->node = NULL;
}

void node_rig_stop(struct node_rig *rig)
{
	if (rig->node)
		sim_rig_run(&rig->sim, 0, stop_in_fiber, rig);
}

void node_rig_crash(struct node_rig *rig, enum sim_crash kind)
{
	if (!sim_is_dead(rig->sim.sim)) /* sim_crash_nth() may have come first */
		sim_crash(rig->sim.sim, kind);
	node_rig_stop(rig);
	sim_rig_restart(&rig->sim);
}

struct call {
	struct node_rig *rig;
	const char *method;
	json_t *params, *answer;
	enum error_code code;
};

static void call_in_fiber(void *arg)
{
	struct call *call = arg;
	const struct api_identity identity = {.name = "test", .role = call->rig->role};

	json_memory_fail_nth(call->rig->fail_json);
	call->answer =
		api_call(call->rig->node, &identity, call->method, call->params, &call->code);
	json_memory_fail_nth(0);
}

json_t *node_rig_call(struct node_rig *rig, const char *method, const char *params)
{
	struct call call = {.rig = rig, .method = method};

	call.params = json_loads(params, JSON_DECODE_ANY, NULL);
	sim_rig_run(&rig->sim, 0, call_in_fiber, &call);
	json_decref(call.params);
	rig->code = call.code;
	return call.answer;
}

void node_rig_expect(struct node_rig *rig, enum error_code code, const char *method,
		     const char *params)
{
	json_t *answer = node_rig_call(rig, method, params);
	char *text = json_dumps(answer, 0);

	if (rig->code != code)
		fprintf(stderr, "%s %s: %s, expected %s\n", method, params, text,
			error_code_name(code));
	ASSERT(rig->code == code && answer);
	free(text);
	json_decref(answer);
}

void node_rig_call_all(struct node_rig *rig, unsigned count, const char *const (*calls)[2],
		       enum error_code *ret_codes)
{
	struct sim_rig_task tasks[NODE_RIG_CALLS] = {0};
	struct call states[NODE_RIG_CALLS];
	int r;

	ASSERT(count <= NODE_RIG_CALLS);
	for (unsigned i = 0; i < count; i++) {
		states[i] = (struct call){.rig = rig, .method = calls[i][0]};
		states[i].params = json_loads(calls[i][1], 0, NULL);
		tasks[i] = (struct sim_rig_task){.run = call_in_fiber, .arg = &states[i]};
		sim_rig_start(&rig->sim, 0, &tasks[i]);
	}
	r = sim_rig_wait(&rig->sim, tasks, count, 3600 * NSEC_PER_SEC);
	ASSERT(r == 0);
	for (unsigned i = 0; i < count; i++) {
		ret_codes[i] = states[i].code;
		json_decref(states[i].params);
		json_decref(states[i].answer);
	}
}

struct transfer {
	struct node_rig *rig;
	struct node_vdisk *vdisk;
	enum block_op op;
	void *bytes;
	size_t length;
	int result;
};

static int transfer_at_home(void *arg)
{
	struct transfer *transfer = arg;
	struct block_volume *volume = vdisk_volume(transfer->vdisk->vdisk);
	int r = block_io(volume, transfer->op, 0, transfer->bytes, transfer->length, 0);

	if (r == 0 && transfer->op == BLOCK_WRITE)
		r = block_io(volume, BLOCK_FLUSH, 0, NULL, 0, 0);
	return r;
}

static void transfer_in_fiber(void *arg)
{
	struct transfer *transfer = arg;

	transfer->vdisk = node_vdisk_after(transfer->rig->node, 0);
	ASSERT(transfer->vdisk && transfer->vdisk->vdisk);
	transfer->result = node_vdisk_call(transfer->vdisk, transfer_at_home, transfer);
}

int node_rig_transfer(struct node_rig *rig, enum block_op op, void *bytes, size_t length)
{
	struct transfer transfer = {.rig = rig, .op = op, .bytes = bytes, .length = length};

	sim_rig_run(&rig->sim, 0, transfer_in_fiber, &transfer);
	return transfer.result;
}

void node_rig_make_pool(struct node_rig *rig)
{
	node_rig_expect(rig, ERROR_NONE, "pool.create",
			"{\"name\": \"p\", \"directory\": \"" NODE_RIG_DISK "/pool\", "
			"\"capacity\": \"1G\"}");
	node_rig_expect(rig, ERROR_NONE, "container.create", "{\"name\": \"c\"}");
}
