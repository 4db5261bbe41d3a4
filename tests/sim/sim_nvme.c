/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest on an NVMe controller over a vDisk, in the simulated world, while the engine dies: at
 * random instants and at every commit point of the rules. Shared memory, doorbells and the guest's
 * memory stay as they were at that instant; a new engine opens the vDisk, makes a controller on
 * them and goes on.
 *
 * The guest keeps at most one command on a block at a time, so it knows what each block holds.
 * It takes part of its memory away while commands use it: nothing is read or written there from the
 * moment on at which it is told so. And it asks to be told of events.
 *
 * What must hold: each command completes exactly once, without an error that the guest has not
 * asked for; what is read is what was written; a compare finds what is there.
 */
#include <inttypes.h>
#include <nvme/types.h>
#include <stdio.h>
#include <string.h>

#include "base/reached.h"
#include "block/chance.h"
#include "engine_rig.h"
#include "nvme_rig.h"
#include "sim_run.h"

#define BLOCKS      192u
#define BLOCK_BYTES 512u
#define COMMANDS    24u
#define LENGTH_MAX  8u
#define QUEUES      2u
#define STEPS       400u
#define UNKNOWN     UINT64_MAX /* content of a block whose write was lost in a reset */
#define ENGINES_MAX 3u
#define LIMIT_NS    (120 * NSEC_PER_SEC)
#define EVENTS      3u /* requests */
#define HIGH_PAGES  (NVME_RIG_HIGH_BYTES / 4096)
#define HIGH_ID     2u
#define CANARY      0x5a
#define MEMORY_KEPT (NVME_RIG_DATA + COMMANDS * 3 * 4096)

enum kind { KIND_READ, KIND_WRITE, KIND_FUSED, KIND_ZEROES, KIND_COPY, KIND_FLUSH, KIND_COUNT };

struct command { /* of the guest */
	bool used;
	enum kind kind;
	uint16_t cids[2]; /* of a fused pair */
	bool done[2];
	uint16_t statuses[2];
	unsigned queue;
	uint32_t block, count, from; /* from: source of a copy */
	uint64_t ids[LENGTH_MAX];    /* what the blocks hold afterwards */
	bool must_differ;            /* a compare that is to fail */
	bool high;                   /* its data is in memory that may be taken away */
	bool lost;                   /* it was */
	unsigned engines;            /* that died while it was in flight */
};

struct simulation {
	struct engine_rig engine;
	struct nvme_rig rig;
	struct chance chance;
	uint64_t contents[BLOCKS];
	bool busy[BLOCKS];
	struct command commands[COMMANDS];
	bool has_queues; /* of the guest */
	uint64_t last_id;
	uint64_t completions;
	/* The state at the instant of death. */
	bool dead;
	unsigned point_left; /* dies at the n-th commit point from here; 0 = not there */
	struct vfu_shared shared;
	struct vfu_doorbells doorbells;
	unsigned char memory[MEMORY_KEPT];
	unsigned char high[NVME_RIG_HIGH_BYTES];
	/* Asynchronous events; identifiers of commands, 0 = none. */
	uint16_t events[EVENTS], log_cid;
	bool awaits_event, read_again;
};

static uint64_t below(struct simulation *simulation, uint64_t bound)
{
	return chance_below(&simulation->chance, bound);
}

static uint64_t data_of(const struct simulation *simulation, const struct command *command)
{
	uint64_t index = (uint64_t)(command - simulation->commands);

	return command->high ? NVME_RIG_HIGH + index * 4096 : NVME_RIG_DATA + index * 3 * 4096;
}

static void put_content(struct simulation *simulation, uint64_t address, uint64_t id)
{
	unsigned char *at = nvme_rig_at(&simulation->rig, address);

	for (unsigned i = 0; i < BLOCK_BYTES; i += 8)
		memcpy(at + i, &id, 8);
}

static uint64_t get_content(struct simulation *simulation, uint64_t address)
{
	const unsigned char *at = nvme_rig_at(&simulation->rig, address);
	uint64_t id, other;

	memcpy(&id, at, 8);
	for (unsigned i = 8; i < BLOCK_BYTES; i += 8) {
		memcpy(&other, at + i, 8);
		SIM_RUN_CHECK(other == id, "a torn block");
	}
	return id;
}

/* --- death and resurrection --- */

static void keep_memory(struct simulation *simulation)
{
	memcpy(&simulation->shared, simulation->rig.shared, sizeof(simulation->shared));
	memcpy(&simulation->doorbells, simulation->rig.doorbells, sizeof(simulation->doorbells));
	memcpy(simulation->memory, simulation->rig.memory, MEMORY_KEPT);
	memcpy(simulation->high, simulation->rig.high, NVME_RIG_HIGH_BYTES);
}

static void restore_memory(struct simulation *simulation)
{
	memcpy(simulation->rig.shared, &simulation->shared, sizeof(simulation->shared));
	memcpy(simulation->rig.doorbells, &simulation->doorbells, sizeof(simulation->doorbells));
	memcpy(simulation->rig.memory, simulation->memory, MEMORY_KEPT);
	memcpy(simulation->rig.high, simulation->high, NVME_RIG_HIGH_BYTES);
}

static void die(struct simulation *simulation)
{
	keep_memory(simulation);
	simulation->dead = true;
	sim_crash(simulation->engine.sim.sim, SIM_CRASH_PROCESS);
}

static void on_point(struct nvme_rig *rig, enum nvme_point point)
{
	struct simulation *simulation = rig->context;

	if (simulation->dead || simulation->point_left == 0 || --simulation->point_left > 0)
		return;
	switch (point) {
	case NVME_POINT_FETCHED:
		REACHED("sim-nvme.dies-fetched");
		break;
	case NVME_POINT_TAKEN:
		REACHED("sim-nvme.dies-taken");
		break;
	case NVME_POINT_COMPARED:
		REACHED("sim-nvme.dies-compared");
		break;
	case NVME_POINT_COMPLETING:
		REACHED("sim-nvme.dies-completing");
		break;
	case NVME_POINT_POSTED:
		REACHED("sim-nvme.dies-posted");
		break;
	case NVME_POINT_TAIL:
		REACHED("sim-nvme.dies-tail");
		break;
	case NVME_POINT_RESET:
		REACHED("sim-nvme.dies-reset");
		break;
	default:
		break;
	}
	die(simulation);
}

static bool is_dead(void *arg)
{
	return ((const struct simulation *)arg)->dead;
}

static bool is_executing(const struct simulation *simulation, const struct command *command)
{
	for (unsigned i = 0; i < VFU_SLOT_COUNT; i++) {
		const struct vfu_slot *slot = &simulation->rig.shared->slots[i];
		const struct nvme_sqe *sqe = (const struct nvme_sqe *)slot->sqe;

		if (slot->state == VFU_SLOT_FETCHED && slot->sqid == command->queue &&
		    sqe->cid == command->cids[0])
			return true;
	}
	return false;
}

/* What reads of the dead engine may still have left in their buffers. */
static void scribble_reads(struct simulation *simulation)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		struct command *command = &simulation->commands[i];

		if (command->used && command->kind == KIND_READ &&
		    !(command->high && simulation->rig.without_high) &&
		    is_executing(simulation, command))
			memset(nvme_rig_at(&simulation->rig, data_of(simulation, command)), 0xee,
			       command->count * BLOCK_BYTES);
	}
}

static int open_engine(struct engine_rig *engine)
{
	int result = engine_rig_start(engine);

	return result < 0 ? result : engine_rig_open_vdisk(engine);
}

static void start_engine(struct simulation *simulation)
{
	int result = engine_rig_call(&simulation->engine, open_engine);

	SIM_RUN_CHECK(result == 0, "the engine does not start: %d", result);
	simulation->rig.namespaces[0].volume = simulation->engine.volume;
	/* Sometimes it dies early, perhaps in the midst of recovery. */
	simulation->point_left = below(simulation, 3) ? 0 : 1 + (unsigned)below(simulation, 60);
	nvme_rig_start(&simulation->rig);
}

static void live_on(struct simulation *simulation);

static void resurrect(struct simulation *simulation)
{
	for (unsigned i = 0; i < COMMANDS; i++)
		simulation->commands[i].engines += simulation->commands[i].used;
	nvme_rig_stop(&simulation->rig);
	engine_rig_crashed(&simulation->engine);
	restore_memory(simulation);
	scribble_reads(simulation);
	simulation->dead = false;
	live_on(simulation);
	start_engine(simulation);
}

/* --- completions --- */

static void set_contents(struct simulation *simulation, const struct command *command, bool unknown)
{
	for (uint32_t i = 0; i < command->count; i++)
		simulation->contents[command->block + i] = unknown ? UNKNOWN : command->ids[i];
}

static void check_read(struct simulation *simulation, const struct command *command)
{
	if (command->lost)
		return;
	for (uint32_t i = 0; i < command->count; i++) {
		uint64_t expected = simulation->contents[command->block + i];
		uint64_t found =
			get_content(simulation, data_of(simulation, command) + i * BLOCK_BYTES);

		SIM_RUN_CHECK(expected == UNKNOWN || found == expected,
			      "block %u holds %" PRIu64 " instead of %" PRIu64, command->block + i,
			      found, expected);
		simulation->contents[command->block + i] = found;
	}
}

static void check_fused(struct simulation *simulation, const struct command *command)
{
	if (command->must_differ) {
		SIM_RUN_CHECK(command->statuses[0] == (0x200 | NVME_SC_COMPARE_FAILED) &&
				      command->statuses[1] == NVME_SC_FUSED_FAIL,
			      "a compare that must fail: %x %x", command->statuses[0],
			      command->statuses[1]);
		return;
	}
	SIM_RUN_CHECK(command->statuses[0] == 0 && command->statuses[1] == 0,
		      "compare and write of block %u: %x %x", command->block, command->statuses[0],
		      command->statuses[1]);
	set_contents(simulation, command, false);
}

static void release_blocks(struct simulation *simulation, struct command *command)
{
	for (uint32_t i = 0; i < command->count; i++) {
		simulation->busy[command->block + i] = false;
		if (command->kind == KIND_COPY)
			simulation->busy[command->from + i] = false;
	}
	command->used = false;
}

static void finish(struct simulation *simulation, struct command *command)
{
	bool poisoned =
		command->engines >= ENGINES_MAX && (command->statuses[0] == NVME_SC_INTERNAL ||
						    command->statuses[1] == NVME_SC_INTERNAL);

	if (command->high && command->statuses[0] == NVME_SC_DATA_XFER_ERROR) {
		REACHED("sim-nvme.memory-gone");
		if (command->kind == KIND_WRITE)
			set_contents(simulation, command, true);
	} else if (poisoned) {
		REACHED("sim-nvme.poisoned");
		if (command->kind != KIND_READ)
			set_contents(simulation, command, true);
	} else if (command->kind == KIND_FUSED) {
		check_fused(simulation, command);
	} else {
		SIM_RUN_CHECK(command->statuses[0] == 0, "kind %d: status %x", command->kind,
			      command->statuses[0]);
		if (command->kind == KIND_READ)
			check_read(simulation, command);
		else if (command->kind != KIND_FLUSH)
			set_contents(simulation, command, false);
	}
	release_blocks(simulation, command);
}

static void complete(struct simulation *simulation, const struct nvme_cqe *cqe)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		struct command *command = &simulation->commands[i];

		for (unsigned half = 0; half < 2 && command->used; half++) {
			if (command->cids[half] != cqe->cid || command->done[half])
				continue;
			command->done[half] = true;
			command->statuses[half] = cqe->status >> 1 & 0x7ff;
			simulation->completions++;
			if (command->done[0] && command->done[1])
				finish(simulation, command);
			return;
		}
	}
	sim_run_fail("a completion of command %u, which is not in flight", cqe->cid);
}

static void push_events(struct simulation *simulation)
{
	for (unsigned i = 0; i < EVENTS; i++) {
		struct nvme_sqe sqe = {.opcode = nvme_admin_async_event};

		if (!simulation->events[i])
			simulation->events[i] = nvme_rig_push(&simulation->rig, 0, &sqe);
	}
	nvme_rig_ring(&simulation->rig, 0);
}

/* Reads the log page, so that the event is told again. */
static void read_log(struct simulation *simulation)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_get_log_page,
			       .nsid = NVME_NSID_ALL,
			       .dptr = {0x8000},
			       .cdw10 = NVME_LOG_LID_CHANGED_NS | 1023u << 16};

	simulation->read_again = false;
	simulation->log_cid = nvme_rig_submit(&simulation->rig, 0, &sqe);
}

/* False: it is of another command. */
static bool complete_event(struct simulation *simulation, const struct nvme_cqe *cqe)
{
	if (cqe->cid == simulation->log_cid) {
		SIM_RUN_CHECK(cqe->status >> 1 == 0, "log page: %x", cqe->status >> 1);
		simulation->log_cid = 0;
		push_events(simulation);
		if (simulation->read_again)
			read_log(simulation);
		return true;
	}
	for (unsigned i = 0; i < EVENTS; i++) {
		if (simulation->events[i] != cqe->cid)
			continue;
		SIM_RUN_CHECK(cqe->status >> 1 == 0 && (cqe->result & 0xffffff) ==
							       (2 | NVME_LOG_LID_CHANGED_NS << 16),
			      "event %x, status %x", cqe->result, cqe->status >> 1);
		REACHED("sim-nvme.event");
		simulation->events[i] = 0;
		simulation->awaits_event = false;
		if (simulation->log_cid)
			simulation->read_again = true;
		else
			read_log(simulation);
		return true;
	}
	return false;
}

static void reap_events(struct simulation *simulation)
{
	struct nvme_cqe cqe;

	while (!simulation->dead && nvme_rig_peek(&simulation->rig, 0, &cqe))
		SIM_RUN_CHECK(complete_event(simulation, &cqe), "a completion of command %u",
			      cqe.cid);
}

/* A guest that is slow at times, so completion queues run full. */
static void reap(struct simulation *simulation)
{
	struct nvme_cqe cqe;

	if (simulation->has_queues)
		reap_events(simulation);
	for (unsigned queue = 1; queue <= QUEUES; queue++) {
		if (below(simulation, 4) == 0)
			continue;
		while (!simulation->dead && nvme_rig_peek(&simulation->rig, queue, &cqe))
			complete(simulation, &cqe);
	}
}

/* --- commands --- */

static bool claim(struct simulation *simulation, uint32_t block, uint32_t count, bool known)
{
	for (uint32_t i = 0; i < count; i++)
		if (simulation->busy[block + i] ||
		    (known && simulation->contents[block + i] == UNKNOWN))
			return false;
	for (uint32_t i = 0; i < count; i++)
		simulation->busy[block + i] = true;
	return true;
}

static void unclaim(struct simulation *simulation, uint32_t block, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		simulation->busy[block + i] = false;
}

static void push(struct simulation *simulation, struct command *command, unsigned half,
		 struct nvme_sqe sqe)
{
	sqe.cdw12 |= below(simulation, 8) == 0 ? 1u << 30 : 0; /* FUA */
	command->cids[half] = nvme_rig_push(&simulation->rig, command->queue, &sqe);
	command->done[half] = false;
}

static void push_rw(struct simulation *simulation, struct command *command, unsigned half,
		    uint8_t opcode, uint8_t flags, uint64_t data)
{
	struct nvme_sqe sqe = nvme_rig_rw(opcode, 1, command->block, command->count, data);

	sqe.flags = flags;
	push(simulation, command, half, sqe);
}

static void new_contents(struct simulation *simulation, struct command *command, uint64_t data)
{
	for (uint32_t i = 0; i < command->count; i++) {
		command->ids[i] = ++simulation->last_id;
		put_content(simulation, data + i * BLOCK_BYTES, command->ids[i]);
	}
}

static bool start_fused(struct simulation *simulation, struct command *command, uint64_t data)
{
	if (!claim(simulation, command->block, command->count, true))
		return false;
	command->must_differ = below(simulation, 5) == 0;
	for (uint32_t i = 0; i < command->count; i++)
		put_content(simulation, data + i * BLOCK_BYTES,
			    simulation->contents[command->block + i]);
	if (command->must_differ)
		put_content(simulation, data, ++simulation->last_id);
	new_contents(simulation, command, data + 4096);
	push_rw(simulation, command, 0, nvme_cmd_compare, NVME_FUSED_FIRST, data);
	if (below(simulation, 3) == 0) /* seen before its second is there */
		nvme_rig_ring(&simulation->rig, command->queue);
	push_rw(simulation, command, 1, nvme_cmd_write, NVME_FUSED_SECOND, data + 4096);
	return true;
}

static bool start_copy(struct simulation *simulation, struct command *command, uint64_t data)
{
	struct nvme_copy_range *range = nvme_rig_at(&simulation->rig, data);

	command->from = (uint32_t)below(simulation, BLOCKS - command->count);
	if (!claim(simulation, command->block, command->count, false))
		return false;
	if (!claim(simulation, command->from, command->count, true)) {
		unclaim(simulation, command->block, command->count);
		return false;
	}
	for (uint32_t i = 0; i < command->count; i++)
		command->ids[i] = simulation->contents[command->from + i];
	*range = (struct nvme_copy_range){.slba = command->from,
					  .nlb = (uint16_t)(command->count - 1)};
	push(simulation, command, 0,
	     (struct nvme_sqe){
		     .opcode = nvme_cmd_copy, .nsid = 1, .dptr = {data}, .cdw10 = command->block});
	return true;
}

static bool start_kind(struct simulation *simulation, struct command *command)
{
	uint64_t data = data_of(simulation, command);

	switch (command->kind) {
	case KIND_FUSED:
		return start_fused(simulation, command, data);
	case KIND_COPY:
		return start_copy(simulation, command, data);
	case KIND_FLUSH:
		command->count = 0;
		push(simulation, command, 0,
		     (struct nvme_sqe){.opcode = nvme_cmd_flush, .nsid = 1});
		return true;
	default:
		break;
	}
	if (!claim(simulation, command->block, command->count, false))
		return false;
	if (command->kind == KIND_WRITE) {
		new_contents(simulation, command, data);
		push_rw(simulation, command, 0, nvme_cmd_write, 0, data);
	} else if (command->kind == KIND_ZEROES) {
		memset(command->ids, 0, sizeof(command->ids));
		push_rw(simulation, command, 0, nvme_cmd_write_zeroes, 0, 0);
	} else {
		push_rw(simulation, command, 0, nvme_cmd_read, 0, data);
	}
	return true;
}

static bool has_space(const struct nvme_rig *rig, unsigned queue,
		      const struct simulation *simulation)
{
	unsigned waiting = 0;

	for (unsigned i = 0; i < COMMANDS; i++)
		if (simulation->commands[i].used && simulation->commands[i].queue == queue)
			waiting += 2;
	return waiting + 3 < rig->queues[queue].sq_depth;
}

static void submit_one(struct simulation *simulation)
{
	struct command *command = &simulation->commands[below(simulation, COMMANDS)];
	unsigned queue = 1 + (unsigned)below(simulation, QUEUES);

	if (command->used || !has_space(&simulation->rig, queue, simulation))
		return;
	*command = (struct command){
		.kind = (enum kind)below(simulation, KIND_COUNT),
		.queue = queue,
		.count = 1 + (uint32_t)below(simulation, LENGTH_MAX),
		.done = {true, true},
	};
	command->block = (uint32_t)below(simulation, BLOCKS - command->count);
	command->high = command->kind <= KIND_WRITE && !simulation->rig.without_high &&
			command < simulation->commands + HIGH_PAGES && below(simulation, 3) == 0;
	if (!start_kind(simulation, command))
		return;
	command->used = true;
	nvme_rig_ring(&simulation->rig, queue);
}

/* The guest goes on while there is no engine. */
static void live_on(struct simulation *simulation)
{
	if (!simulation->has_queues)
		return;
	reap(simulation);
	for (uint64_t i = below(simulation, 3); i > 0; i--)
		submit_one(simulation);
}

/* --- the guest's other doings --- */

static void forget_commands(struct simulation *simulation)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		struct command *command = &simulation->commands[i];

		if (!command->used)
			continue;
		if (command->kind != KIND_READ && command->kind != KIND_FLUSH)
			set_contents(simulation, command, true);
		release_blocks(simulation, command);
	}
	memset(simulation->events, 0, sizeof(simulation->events));
	simulation->log_cid = 0;
	simulation->awaits_event = false;
}

static bool is_disabled(void *arg)
{
	const struct simulation *simulation = arg;

	return simulation->dead || !(simulation->rig.shared->registers.csts & 1);
}

static bool is_quiet(void *arg)
{
	const struct simulation *simulation = arg;
	const struct vfu_registers *registers = &simulation->rig.shared->registers;

	return simulation->dead || registers->reset_done == registers->reset_count;
}

static void revive(struct simulation *simulation)
{
	while (simulation->dead)
		resurrect(simulation);
}

static void use_shadow(struct simulation *simulation)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_dbbuf, .dptr = {0x4000, 0x5000}};

	memset(nvme_rig_at(&simulation->rig, 0x4000), 0, 8192);
	SIM_RUN_CHECK(nvme_rig_run(&simulation->rig, 0, &sqe, NULL) == 0, "doorbells");
	simulation->rig.shadow = 0x4000;
	simulation->rig.events = 0x5000;
}

static void want_events(struct simulation *simulation)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_set_features,
			       .cdw10 = NVME_FEAT_FID_ASYNC_EVENT,
			       .cdw11 = NVME_FEATURE_AENCFG_NOTICE_NAMESPACE_ATTRIBUTES};

	SIM_RUN_CHECK(nvme_rig_run(&simulation->rig, 0, &sqe, NULL) == 0, "events");
	push_events(simulation);
}

static void make_queues(struct simulation *simulation)
{
	revive(simulation);
	simulation->point_left = 0;
	simulation->rig.cq_depth = 3 + (uint32_t)below(simulation, 12);
	nvme_rig_make_queues(&simulation->rig, QUEUES);
	simulation->has_queues = true;
	if (below(simulation, 2) == 0)
		use_shadow(simulation);
	want_events(simulation);
}

static void reset_controller(struct simulation *simulation)
{
	int result;

	simulation->has_queues = false;
	nvme_rig_write_cc(&simulation->rig, 0);
	do {
		revive(simulation);
		result = sim_run_until(simulation->engine.sim.sim, is_disabled, simulation,
				       LIMIT_NS);
		SIM_RUN_CHECK(result == 0, "the reset does not end: %d", result);
	} while (simulation->dead);
	forget_commands(simulation);
	make_queues(simulation);
}

static bool all_done(const struct simulation *simulation)
{
	for (unsigned i = 0; i < COMMANDS; i++)
		if (simulation->commands[i].used)
			return false;
	return true;
}

static void pass_time(struct simulation *simulation, uint64_t limit_ns)
{
	(void)sim_run_until(simulation->engine.sim.sim, is_dead, simulation, limit_ns);
	revive(simulation);
}

static bool has_answer(void *arg)
{
	struct simulation *simulation = arg;
	const struct nvme_rig_queue *queue = &simulation->rig.queues[0];
	const struct nvme_cqe *cqe =
		nvme_rig_at(&simulation->rig, queue->cq_base + queue->head * sizeof(*cqe));

	return simulation->dead || (cqe->status & 1) == queue->phase;
}

static struct nvme_cqe await_answer(struct simulation *simulation)
{
	struct nvme_cqe cqe;
	int result;

	do {
		revive(simulation);
		result =
			sim_run_until(simulation->engine.sim.sim, has_answer, simulation, LIMIT_NS);
		SIM_RUN_CHECK(result == 0, "an admin command does not end: %d", result);
	} while (simulation->dead);
	SIM_RUN_CHECK(nvme_rig_peek(&simulation->rig, 0, &cqe), "no completion");
	return cqe;
}

/* One admin command, over deaths. */
static void run_admin(struct simulation *simulation, struct nvme_sqe sqe)
{
	uint16_t cid = nvme_rig_submit(&simulation->rig, 0, &sqe);
	struct nvme_cqe cqe;

	while ((cqe = await_answer(simulation)).cid != cid)
		SIM_RUN_CHECK(complete_event(simulation, &cqe), "command %u", cqe.cid);
	SIM_RUN_CHECK(cqe.status >> 1 == 0, "admin command %u: status %x", sqe.opcode,
		      cqe.status >> 1);
}

/* --- memory that is taken away --- */

static void do_unmap(void *arg)
{
	nvme_controller_unmap(((struct simulation *)arg)->rig.controller, HIGH_ID);
}

static void do_map(void *arg)
{
	struct simulation *simulation = arg;
	const struct vfu_map map = {.address = NVME_RIG_HIGH,
				    .length = NVME_RIG_HIGH_BYTES,
				    .id = HIGH_ID,
				    .flags = VFU_MAP_READ | VFU_MAP_WRITE | VFU_MAP_MEMORY};

	SIM_RUN_CHECK(nvme_controller_map(simulation->rig.controller, &map, simulation->rig.high) ==
			      0,
		      "map");
}

static bool is_unmapped(void *arg)
{
	const struct simulation *simulation = arg;

	return simulation->dead || simulation->rig.unmapped_count > 0;
}

/* The engine answers, or is dead: rule 7. */
static void take_memory(struct simulation *simulation)
{
	struct nvme_rig *rig = &simulation->rig;
	int result;

	rig->unmapped_count = 0;
	rig->without_high = true;
	sim_rig_run(rig->sim, rig->reactor, do_unmap, simulation);
	result = sim_run_until(simulation->engine.sim.sim, is_unmapped, simulation, LIMIT_NS);
	SIM_RUN_CHECK(result == 0, "memory is not given back: %d", result);
	for (unsigned i = 0; i < COMMANDS; i++)
		simulation->commands[i].lost = simulation->commands[i].high;
	memset(simulation->dead ? simulation->high : rig->high, CANARY, NVME_RIG_HIGH_BYTES);
	REACHED("sim-nvme.unmapped");
}

static void give_memory(struct simulation *simulation)
{
	struct nvme_rig *rig = &simulation->rig;

	for (size_t i = 0; i < NVME_RIG_HIGH_BYTES; i++)
		SIM_RUN_CHECK(rig->high[i] == CANARY, "memory that was taken away was written");
	/* What is still in flight there must not be given again what it had. */
	for (unsigned i = 0; i < COMMANDS; i++)
		if (simulation->commands[i].used && simulation->commands[i].high)
			return;
	rig->without_high = false;
	sim_rig_run(rig->sim, rig->reactor, do_map, simulation);
}

static void do_raise(void *arg)
{
	nvme_namespace_resized(((struct simulation *)arg)->rig.controller, 1);
}

static void raise_event(struct simulation *simulation)
{
	sim_rig_run(simulation->rig.sim, simulation->rig.reactor, do_raise, simulation);
	if (!simulation->dead) /* else it may have died before */
		simulation->awaits_event = true;
}

static bool all_done(const struct simulation *simulation);
static void drain(struct simulation *simulation);

/* To blocks of 4096 bytes and back. */
static void format(struct simulation *simulation)
{
	drain(simulation);
	simulation->has_queues = false; /* it does nothing else meanwhile */
	for (uint32_t size = 2; size-- > 0;) {
		simulation->point_left = (unsigned)below(simulation, 8);
		run_admin(simulation, (struct nvme_sqe){.opcode = nvme_admin_format_nvm,
							.nsid = 1,
							.cdw10 = size});
		simulation->point_left = 0;
	}
	simulation->has_queues = true;
	memset(simulation->contents, 0, sizeof(simulation->contents));
	REACHED("sim-nvme.formatted");
}

static int close_engine(struct engine_rig *engine)
{
	(void)engine_rig_close_vdisk(engine);
	engine_rig_stop(engine);
	return 0;
}

/* An engine that ends in order and one that follows. */
static void change_engine(struct simulation *simulation)
{
	simulation->point_left = 0;
	nvme_rig_stop(&simulation->rig);
	engine_rig_call(&simulation->engine, close_engine);
	live_on(simulation);
	start_engine(simulation);
}

/* A device reset, as when the machine reboots. */
static void reset_device(struct simulation *simulation)
{
	struct nvme_rig *rig = &simulation->rig;
	int result;

	simulation->has_queues = false;
	nvme_rig_device_reset(rig);
	do {
		revive(simulation);
		result = sim_run_until(simulation->engine.sim.sim, is_quiet, simulation, LIMIT_NS);
		SIM_RUN_CHECK(result == 0, "the device reset does not end: %d", result);
	} while (simulation->dead);
	SIM_RUN_CHECK(rig->shared->registers.csts == 0, "CSTS after a device reset");
	forget_commands(simulation);
	make_queues(simulation);
}

static void step(struct simulation *simulation)
{
	uint64_t fate = below(simulation, 200);

	for (uint64_t i = below(simulation, 4); i > 0 && !simulation->dead; i--)
		submit_one(simulation);
	if (fate < 4 && !simulation->dead)
		die(simulation);
	else if (fate < 10 && simulation->point_left == 0)
		simulation->point_left = 1 + (unsigned)below(simulation, 20);
	else if (fate == 10)
		reset_controller(simulation);
	else if (fate == 11)
		reset_device(simulation);
	else if (fate == 13 && !simulation->dead)
		format(simulation);
	else if (fate < 18 && fate > 13 && !simulation->dead && !simulation->rig.without_high)
		take_memory(simulation);
	else if (fate < 30 && fate > 17 && !simulation->dead && simulation->rig.without_high)
		give_memory(simulation);
	else if (fate < 36 && fate > 29 && !simulation->dead)
		raise_event(simulation);
	else if (fate == 12 && !simulation->dead)
		change_engine(simulation);
	pass_time(simulation, below(simulation, 300 * NSEC_PER_USEC));
	reap(simulation);
	revive(simulation);
}

/* Without deaths, all must end. */
static void drain(struct simulation *simulation)
{
	simulation->point_left = 0;
	for (unsigned i = 0; !all_done(simulation) || simulation->awaits_event; i++) {
		SIM_RUN_CHECK(i < 100000, "commands do not end");
		simulation->point_left = 0;
		pass_time(simulation, NSEC_PER_MSEC);
		reap(simulation);
	}
}

static void read_all(struct simulation *simulation)
{
	for (uint32_t block = 0; block < BLOCKS; block += LENGTH_MAX) {
		struct command *command = &simulation->commands[0];

		*command = (struct command){.used = true,
					    .kind = KIND_READ,
					    .queue = 1,
					    .block = block,
					    .count = LENGTH_MAX,
					    .done = {true, true}};
		SIM_RUN_CHECK(start_kind(simulation, command), "a block is busy");
		nvme_rig_ring(&simulation->rig, 1);
		drain(simulation);
	}
}

static void set_up(struct simulation *simulation, uint64_t seed, bool trace)
{
	struct nvme_rig *rig = &simulation->rig;

	chance_init(&simulation->chance, seed);
	engine_rig_init(&simulation->engine, seed, trace, GIB);
	simulation->engine.vdisk_bytes = 4 * MIB;
	SIM_RUN_CHECK(engine_rig_call(&simulation->engine, engine_rig_make) == 0, "no engine");
	nvme_rig_init_in(rig, &simulation->engine.sim);
	rig->context = simulation;
	rig->on_point = on_point;
	rig->namespaces[0] = (struct nvme_namespace_options){.nsid = 1, .nguid = {1, 2}};
	rig->namespace_count = 1;
	start_engine(simulation);
	make_queues(simulation);
}

static uint64_t run(uint64_t seed, bool trace)
{
	_cleanup_free_ struct simulation *simulation = calloc(1, sizeof(*simulation));
	uint64_t hash;

	SIM_RUN_CHECK(simulation, "no memory");
	set_up(simulation, seed, trace);
	for (unsigned i = 0; i < STEPS; i++)
		step(simulation);
	drain(simulation);
	read_all(simulation);
	nvme_rig_stop(&simulation->rig);
	engine_rig_call(&simulation->engine, close_engine);
	hash = sim_trace_hash(simulation->engine.sim.sim) ^ simulation->completions;
	nvme_rig_done(&simulation->rig);
	engine_rig_done(&simulation->engine);
	return hash;
}

int main(int argc, char **argv)
{
	static const char *const must_reach[] = {
		"nvme.recover-completion",  "nvme.recover-compared", "nvme.recover-fetched",
		"nvme.fused-redo",          "nvme.completion-held",  "nvme.reset-waits",
		"sim-nvme.dies-fetched",    "sim-nvme.dies-taken",   "sim-nvme.dies-compared",
		"sim-nvme.dies-completing", "sim-nvme.dies-posted",  "sim-nvme.dies-tail",
		"nvme.recover-posting",     "sim-nvme.formatted",    "sim-nvme.event",
		"sim-nvme.unmapped",        "sim-nvme.memory-gone",  NULL,
	};
	static const struct sim_run_program program = {
		.name = "sim_nvme",
		.run = run,
		.must_reach = must_reach,
	};

	return sim_run_main(argc, argv, &program);
}
