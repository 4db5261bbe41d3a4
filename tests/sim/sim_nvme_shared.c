/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several guests, each on a controller of its own, with one shared namespace on a vDisk, while the
 * engine dies at random instants and commit points. Each uses a few blocks as registers: reads,
 * writes, deallocates, and swaps by Compare and Write, all at once and without regard for the
 * others. What they saw must have an order (registers.h). Now and then one reserves the namespace
 * for a while: then no other's command goes through that it forbids.
 *
 * The node's part is played here: controllers come up one after the other, each waits in each step
 * of its recovery for the others (rule 10); now and then one comes too late and is left behind.
 */
#include <errno.h>
#include <inttypes.h>
#include <nvme/types.h>
#include <stdio.h>
#include <string.h>

#include "base/reached.h"
#include "block/chance.h"
#include "engine_rig.h"
#include "nvme_rig.h"
#include "registers.h"
#include "sim_run.h"

#define GUESTS      3u
#define BLOCKS      3u
#define COMMANDS    6u /* of a guest */
#define STEPS       500u
#define ENGINES_MAX 3u
#define KEYS_AT     (NVME_RIG_DATA + COMMANDS * 2 * 4096)
#define MEMORY_KEPT (KEYS_AT + 4096)
#define CONFLICT    NVME_SC_RESERVATION_CONFLICT

struct command {
	bool used, fused;
	unsigned number; /* in its register */
	uint32_t block;
	enum register_kind kind;
	uint64_t value;
	uint16_t cids[2], statuses[2];
	bool done[2];
	unsigned engines;                       /* that died meanwhile */
	const struct guest_state *forbidden_by; /* who held a reservation when it was submitted */
	unsigned hold;
};

enum reserving { NOT_REGISTERED, REGISTERING, IDLE, ACQUIRING, HOLDING, RELEASING };

struct guest_state {
	struct simulation *simulation;
	struct nvme_rig rig;
	struct command commands[COMMANDS];
	enum reserving reserving;
	uint16_t reserving_cid;
	uint8_t type;  /* of its reservation */
	unsigned hold; /* counts them */
	bool started, left_behind;
	unsigned gone_on; /* steps of its recovery */
	/* At the instant of death. */
	struct vfu_shared shared;
	struct vfu_doorbells doorbells;
	unsigned char memory[MEMORY_KEPT];
};

struct simulation {
	struct engine_rig engine;
	struct chance chance;
	struct guest_state guests[GUESTS];
	struct register_state registers[BLOCKS];
	uint64_t last_seen[BLOCKS];   /* a value that was there a moment ago */
	uint64_t last_issued[BLOCKS]; /* one that may be there in a moment */
	uint64_t last_id;
	uint64_t completions;
	uint32_t block_bytes;
	bool dead;
	bool calm; /* no more deaths */
	struct nvme_reservations *reservations;
	unsigned char stored[NVME_RESERVATION_STATE_BYTES]; /* as in a catalog */
	unsigned point_left;
};

static uint64_t below(struct simulation *simulation, uint64_t bound)
{
	return chance_below(&simulation->chance, bound);
}

static uint64_t data_of(const struct guest_state *guest, const struct command *command)
{
	return NVME_RIG_DATA + (uint64_t)(command - guest->commands) * 2 * 4096;
}

static void put_content(struct guest_state *guest, uint64_t address, uint64_t id)
{
	unsigned char *at = nvme_rig_at(&guest->rig, address);

	for (unsigned i = 0; i < guest->simulation->block_bytes; i += 8)
		memcpy(at + i, &id, 8);
}

static uint64_t get_content(struct guest_state *guest, uint64_t address)
{
	const unsigned char *at = nvme_rig_at(&guest->rig, address);
	uint64_t id, other;

	memcpy(&id, at, 8);
	for (unsigned i = 8; i < guest->simulation->block_bytes; i += 8) {
		memcpy(&other, at + i, 8);
		SIM_RUN_CHECK(other == id, "a torn block");
	}
	return id;
}

/* --- death --- */

static void die(struct simulation *simulation)
{
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest_state *guest = &simulation->guests[i];

		guest->shared = *guest->rig.shared;
		guest->doorbells = *guest->rig.doorbells;
		memcpy(guest->memory, guest->rig.memory, MEMORY_KEPT);
	}
	simulation->dead = true;
	sim_crash(simulation->engine.sim.sim, SIM_CRASH_PROCESS);
}

static void on_point(struct nvme_rig *rig, enum nvme_point point)
{
	struct simulation *simulation = ((struct guest_state *)rig->context)->simulation;

	if (simulation->dead || simulation->point_left == 0 || --simulation->point_left > 0)
		return;
	if (point == NVME_POINT_COMPARED)
		REACHED("sim-nvme-shared.dies-compared");
	if (point == NVME_POINT_WRITTEN)
		REACHED("sim-nvme-shared.dies-written");
	die(simulation);
}

static bool is_dead(void *arg)
{
	return ((const struct simulation *)arg)->dead;
}

static void start_guest(struct guest_state *guest)
{
	guest->rig.namespaces[0].reservations = guest->simulation->reservations;
	guest->rig.namespaces[0].volume = guest->simulation->engine.volume;
	guest->rig.namespaces[0].stale = guest->left_behind;
	guest->started = true;
	guest->gone_on = guest->rig.options.gated ? 0 : NVME_REDO_STEPS;
	nvme_rig_start(&guest->rig);
}

static int load(void *context, void *state, size_t size)
{
	memcpy(state, ((struct simulation *)context)->stored, size);
	return 0;
}

static int save(void *context, const void *state, size_t size)
{
	struct simulation *simulation = context;

	fiber_sleep(below(simulation, 50 * NSEC_PER_USEC));
	if (simulation->dead)
		return -ESHUTDOWN;
	memcpy(simulation->stored, state, size);
	fiber_sleep(below(simulation, 50 * NSEC_PER_USEC));
	return simulation->dead ? -ESHUTDOWN : 0;
}

static const struct nvme_reservation_ops reservation_ops = {.load = load, .save = save};

static int open_engine(struct engine_rig *engine)
{
	struct simulation *simulation = CONTAINER_OF(engine, struct simulation, engine);
	int result = engine_rig_start(engine);

	if (result == 0)
		result = engine_rig_open_vdisk(engine);
	if (result == 0)
		result = nvme_reservations_new(reactor_current(), &reservation_ops, simulation,
					       &simulation->reservations);
	return result;
}

static int free_reservations(struct engine_rig *engine)
{
	struct simulation *simulation = CONTAINER_OF(engine, struct simulation, engine);

	nvme_reservations_free(TAKE_PTR(simulation->reservations));
	return 0;
}

static void start_engine(struct simulation *simulation)
{
	int result = engine_rig_call(&simulation->engine, open_engine);

	SIM_RUN_CHECK(result == 0, "the engine does not start: %d", result);
	simulation->point_left =
		simulation->calm || below(simulation, 3) ? 0 : 1 + (unsigned)below(simulation, 60);
}

static void do_nothing(void *arg)
{
	(void)arg;
}

static void resurrect(struct simulation *simulation)
{
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest_state *guest = &simulation->guests[i];

		for (unsigned j = 0; j < COMMANDS; j++)
			guest->commands[j].engines += guest->commands[j].used;
		if (guest->started)
			nvme_rig_stop(&guest->rig);
		guest->started = false;
	}
	/* A kick may be on its way to a reactor where no controller was. */
	for (unsigned i = 0; i < simulation->engine.sim.reactor_count; i++)
		sim_rig_run(&simulation->engine.sim, i, do_nothing, NULL);
	engine_rig_call(&simulation->engine, free_reservations);
	engine_rig_crashed(&simulation->engine);
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest_state *guest = &simulation->guests[i];

		*guest->rig.shared = guest->shared;
		*guest->rig.doorbells = guest->doorbells;
		memcpy(guest->rig.memory, guest->memory, MEMORY_KEPT);
	}
	simulation->dead = false;
	start_engine(simulation);
}

static void revive(struct simulation *simulation)
{
	while (simulation->dead)
		resurrect(simulation);
}

/* --- the node's part --- */

struct ask {
	struct guest_state *guest;
	unsigned go_on, redone;
};

static void run_ask(void *arg)
{
	struct ask *ask = arg;

	nvme_controller_go_on(ask->guest->rig.controller, ask->go_on);
	ask->redone = nvme_controller_redone(ask->guest->rig.controller);
}

static unsigned redone(struct guest_state *guest, unsigned go_on)
{
	struct ask ask = {guest, go_on, 0};

	sim_rig_run(guest->rig.sim, guest->rig.reactor, run_ask, &ask);
	return ask.redone;
}

/* Starts one that has not come yet; sometimes the others do not wait for it. */
static void bring_up(struct simulation *simulation)
{
	struct guest_state *guest = &simulation->guests[below(simulation, GUESTS)];
	unsigned started = 0;

	for (unsigned i = 0; i < GUESTS; i++)
		started += simulation->guests[i].started;
	if (guest->started)
		return;
	if (!guest->left_behind && started == GUESTS - 1 && below(simulation, 8) == 0) {
		REACHED("sim-nvme-shared.left-behind");
		guest->left_behind = true;
		return;
	}
	start_guest(guest);
}

static void coordinate(struct simulation *simulation)
{
	unsigned least = NVME_REDO_STEPS;

	for (unsigned i = 0; i < GUESTS && !simulation->dead; i++) {
		struct guest_state *guest = &simulation->guests[i];
		unsigned step = guest->gone_on;

		if (!guest->started)
			step = 0;
		else if (step < NVME_REDO_STEPS || guest->left_behind)
			step = redone(guest, step);

		if (!guest->left_behind)
			least = MIN(least, step);
		else if (step == NVME_REDO_STEPS)
			guest->left_behind = false;
	}
	for (unsigned i = 0; i < GUESTS && !simulation->dead; i++)
		if (simulation->guests[i].started && simulation->guests[i].gone_on < least) {
			(void)redone(&simulation->guests[i], least);
			simulation->guests[i].gone_on = least;
		}
}

/* --- completions --- */

/* Refused: somebody else has, or may have, a reservation. */
static void check_conflict(struct guest_state *guest)
{
	const struct guest_state *guests = guest->simulation->guests;
	bool reserved = false;

	REACHED("sim-nvme-shared.conflict");
	for (unsigned i = 0; i < GUESTS; i++)
		reserved |= &guests[i] != guest && (guests[i].reserving > IDLE || guests[i].hold);
	SIM_RUN_CHECK(reserved, "a conflict with nobody");
}

static void check_allowed(const struct command *command)
{
	const struct guest_state *holder = command->forbidden_by;

	SIM_RUN_CHECK(!holder || holder->reserving != HOLDING || holder->hold != command->hold ||
			      (command->kind == REGISTER_READ &&
			       holder->type == NVME_RESERVATION_RTYPE_WE),
		      "block %u, kind %d: against a reservation", command->block, command->kind);
}

static void finish(struct guest_state *guest, struct command *command)
{
	struct simulation *simulation = guest->simulation;
	struct register_state *state = &simulation->registers[command->block];
	bool differs = command->statuses[0] == (0x200 | NVME_SC_COMPARE_FAILED) &&
		       command->statuses[1] == NVME_SC_FUSED_FAIL;
	uint64_t result = 1;

	command->used = false;
	if (command->statuses[0] == NVME_SC_INTERNAL || command->statuses[1] == NVME_SC_INTERNAL) {
		SIM_RUN_CHECK(command->engines > 0, "an error without a reason");
		register_end_unknown(state, command->number);
		return;
	}
	if (command->statuses[0] == CONFLICT || command->statuses[1] == CONFLICT) {
		check_conflict(guest);
		/* One that was begun by a dead engine may have happened before it was forbidden. */
		if (command->engines > 0)
			register_end_unknown(state, command->number);
		else
			SIM_RUN_CHECK(register_end_refused(state, command->number),
				      "block %u: refused, but seen", command->block);
		return;
	}
	check_allowed(command);
	SIM_RUN_CHECK((command->fused && differs) ||
			      (command->statuses[0] == 0 && command->statuses[1] == 0),
		      "kind %d: status %x %x", command->kind, command->statuses[0],
		      command->statuses[1]);
	if (command->kind == REGISTER_READ)
		result = get_content(guest, data_of(guest, command));
	else if (command->fused)
		result = !differs;
	if (command->kind == REGISTER_READ)
		simulation->last_seen[command->block] = result;
	else if (result)
		simulation->last_seen[command->block] = command->value;
	SIM_RUN_CHECK(register_end(state, command->number, result),
		      "guest %u, block %u, kind %d: no order explains %" PRIu64,
		      (unsigned)(guest - simulation->guests), command->block, command->kind,
		      result);
}

static void reserve_ended(struct guest_state *guest, uint16_t status)
{
	bool given_up = status == NVME_SC_INTERNAL; /* after many engines: done or not */

	switch (guest->reserving) {
	case REGISTERING:
		SIM_RUN_CHECK(status == 0 || given_up, "register: %x", status);
		guest->reserving = status == 0 ? IDLE : NOT_REGISTERED;
		break;
	case ACQUIRING:
		SIM_RUN_CHECK(status == 0 || status == CONFLICT || given_up, "acquire: %x", status);
		if (status == CONFLICT)
			check_conflict(guest);
		guest->hold++;
		guest->reserving = status == CONFLICT ? IDLE : status == 0 ? HOLDING : RELEASING;
		break;
	default:
		SIM_RUN_CHECK(status == 0 || given_up, "release: %x", status);
		if (status == 0)
			guest->reserving = IDLE;
		break;
	}
	guest->reserving_cid = 0;
}

static void complete(struct guest_state *guest, const struct nvme_cqe *cqe)
{
	if (cqe->cid == guest->reserving_cid) {
		reserve_ended(guest, cqe->status >> 1 & 0x7ff);
		guest->simulation->completions++;
		return;
	}
	for (unsigned i = 0; i < COMMANDS; i++) {
		struct command *command = &guest->commands[i];

		for (unsigned half = 0; half < 2 && command->used; half++) {
			if (command->cids[half] != cqe->cid || command->done[half])
				continue;
			command->done[half] = true;
			command->statuses[half] = cqe->status >> 1 & 0x7ff;
			guest->simulation->completions++;
			if (command->done[0] && command->done[1])
				finish(guest, command);
			return;
		}
	}
	sim_run_fail("a completion of command %u, which is not in flight", cqe->cid);
}

static void reap(struct simulation *simulation)
{
	struct nvme_cqe cqe;

	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest_state *guest = &simulation->guests[i];

		while (!simulation->dead && nvme_rig_peek(&guest->rig, 1, &cqe))
			complete(guest, &cqe);
	}
}

/* --- commands --- */

static uint32_t lba_of(const struct simulation *simulation, uint32_t block)
{
	/* Of 512 bytes: two in one block of the vDisk. */
	return simulation->block_bytes == 4096 ? block : block / 2 * 8 + block % 2;
}

static void push(struct guest_state *guest, struct command *command, unsigned half, uint8_t opcode,
		 uint64_t data)
{
	struct simulation *simulation = guest->simulation;
	struct nvme_sqe sqe = nvme_rig_rw(opcode, 1, lba_of(simulation, command->block), 1, data);

	sqe.dptr[1] = 0;
	if (command->fused)
		sqe.flags = half ? NVME_FUSED_SECOND : NVME_FUSED_FIRST;
	if (opcode == nvme_cmd_write || opcode == nvme_cmd_write_zeroes)
		sqe.cdw12 |= below(simulation, 2) ? 1u << 30 : 0; /* FUA */
	if (opcode == nvme_cmd_dsm) {
		struct nvme_dsm_range *range = nvme_rig_at(&guest->rig, data);

		*range = (struct nvme_dsm_range){.nlb = 1,
						 .slba = lba_of(simulation, command->block)};
		sqe.cdw10 = 0;
		sqe.cdw11 = NVME_DSMGMT_AD;
		sqe.cdw12 = 0;
	}
	command->cids[half] = nvme_rig_push(&guest->rig, 1, &sqe);
	command->done[half] = false;
}

static void push_kind(struct guest_state *guest, struct command *command, uint64_t expected)
{
	uint64_t data = data_of(guest, command);
	uint8_t opcode = nvme_cmd_write;

	command->done[1] = true;
	if (command->fused) {
		put_content(guest, data, expected);
		put_content(guest, data + 4096, command->value);
		push(guest, command, 0, nvme_cmd_compare, data);
		push(guest, command, 1, nvme_cmd_write, data + 4096);
		return;
	}
	if (command->kind == REGISTER_READ)
		opcode = nvme_cmd_read;
	else if (command->value == 0)
		opcode = below(guest->simulation, 2) ? nvme_cmd_dsm : nvme_cmd_write_zeroes;
	else
		put_content(guest, data, command->value);
	push(guest, command, 0, opcode, data);
}

static void submit_one(struct guest_state *guest)
{
	struct simulation *simulation = guest->simulation;
	struct command *command = &guest->commands[below(simulation, COMMANDS)];
	uint32_t block = (uint32_t)below(simulation, BLOCKS);
	uint64_t expected = below(simulation, 2) ? simulation->last_issued[block]
						 : simulation->last_seen[block];
	int number;

	if (command->used)
		return;
	*command =
		(struct command){.block = block, .kind = (enum register_kind)below(simulation, 3)};
	command->fused = command->kind == REGISTER_SWAP;
	command->value = command->kind == REGISTER_WRITE && below(simulation, 4) == 0
				 ? 0
				 : ++simulation->last_id;
	number = register_begin(&simulation->registers[block], command->kind, expected,
				command->value);
	if (number < 0)
		return;
	command->number = (unsigned)number;
	command->used = true;
	for (unsigned i = 0; i < GUESTS; i++) {
		if (&simulation->guests[i] == guest || simulation->guests[i].reserving != HOLDING)
			continue;
		command->forbidden_by = &simulation->guests[i];
		command->hold = simulation->guests[i].hold;
	}
	if (command->kind != REGISTER_READ)
		simulation->last_issued[block] = command->value;
	push_kind(guest, command, expected);
	nvme_rig_ring(&guest->rig, 1);
}

static void push_reserve(struct guest_state *guest, uint8_t opcode, uint32_t cdw10)
{
	uint64_t *keys = nvme_rig_at(&guest->rig, KEYS_AT);
	uint64_t key = 1 + (uint64_t)(guest - guest->simulation->guests);
	struct nvme_sqe sqe = {.opcode = opcode, .nsid = 1, .dptr = {KEYS_AT}, .cdw10 = cdw10};

	keys[0] = opcode == nvme_cmd_resv_register ? 0 : key;
	keys[1] = opcode == nvme_cmd_resv_register ? key : 0;
	guest->reserving_cid = nvme_rig_push(&guest->rig, 1, &sqe);
	nvme_rig_ring(&guest->rig, 1);
}

/* The next of register once, acquire, release. */
static void reserve(struct guest_state *guest)
{
	if (guest->reserving_cid)
		return;
	switch (guest->reserving) {
	case NOT_REGISTERED:
		guest->reserving = REGISTERING;
		push_reserve(guest, nvme_cmd_resv_register, 0);
		break;
	case IDLE:
		if (guest->simulation->calm)
			break;
		guest->type = (uint8_t)(1 + below(guest->simulation, 2));
		guest->reserving = ACQUIRING;
		push_reserve(guest, nvme_cmd_resv_acquire, (uint32_t)guest->type << 8);
		break;
	case HOLDING:
	case RELEASING:
		guest->reserving = RELEASING;
		push_reserve(guest, nvme_cmd_resv_release, (uint32_t)guest->type << 8);
		break;
	default:
		break;
	}
}

/* --- the run --- */

static void pass_time(struct simulation *simulation, uint64_t limit_ns)
{
	(void)sim_run_until(simulation->engine.sim.sim, is_dead, simulation, limit_ns);
	revive(simulation);
}

static void step(struct simulation *simulation)
{
	uint64_t fate = below(simulation, 100);

	bring_up(simulation);
	revive(simulation);
	for (uint64_t i = below(simulation, 8); i > 0 && !simulation->calm; i--)
		submit_one(&simulation->guests[below(simulation, GUESTS)]);
	if (simulation->calm || below(simulation, 6) == 0)
		reserve(&simulation->guests[below(simulation, GUESTS)]);
	if (!simulation->calm && fate < 3)
		die(simulation);
	else if (!simulation->calm && fate < 12 && simulation->point_left == 0)
		simulation->point_left = 1 + (unsigned)below(simulation, 30);
	revive(simulation);
	coordinate(simulation);
	revive(simulation);
	pass_time(simulation, below(simulation, (below(simulation, 4) ? 30 : 200) * NSEC_PER_USEC));
	reap(simulation);
	revive(simulation);
}

static bool all_done(const struct simulation *simulation)
{
	for (unsigned i = 0; i < GUESTS; i++) {
		if (simulation->guests[i].reserving != IDLE)
			return false;
		for (unsigned j = 0; j < COMMANDS; j++)
			if (simulation->guests[i].commands[j].used)
				return false;
	}
	return true;
}

static void drain(struct simulation *simulation)
{
	simulation->calm = true;
	simulation->point_left = 0;
	for (unsigned i = 0; !all_done(simulation); i++) {
		SIM_RUN_CHECK(i < 100000, "commands do not end");
		step(simulation);
	}
}

static void read_all(struct simulation *simulation)
{
	struct guest_state *guest = &simulation->guests[0];

	while (!guest->started)
		step(simulation);
	for (uint32_t block = 0; block < BLOCKS; block++) {
		struct command *command = &guest->commands[0];

		*command = (struct command){.block = block, .kind = REGISTER_READ, .used = true};
		command->number = (unsigned)register_begin(&simulation->registers[block],
							   REGISTER_READ, 0, 0);
		push_kind(guest, command, 0);
		nvme_rig_ring(&guest->rig, 1);
		drain(simulation);
	}
}

static int close_engine(struct engine_rig *engine)
{
	(void)free_reservations(engine);
	(void)engine_rig_close_vdisk(engine);
	engine_rig_stop(engine);
	return 0;
}

static void set_up(struct simulation *simulation, uint64_t seed, bool trace)
{
	const struct sim_options options = {.seed = seed, .trace = trace};

	chance_init(&simulation->chance, seed);
	simulation->block_bytes = below(simulation, 2) ? 4096 : 512;
	engine_rig_init_with(&simulation->engine, &options, GIB, 2);
	simulation->engine.vdisk_bytes = 4 * MIB;
	SIM_RUN_CHECK(engine_rig_call(&simulation->engine, engine_rig_make) == 0, "no engine");
	for (unsigned i = 0; i < BLOCKS; i++)
		register_init(&simulation->registers[i], 0);
	simulation->calm = true;
	start_engine(simulation);
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest_state *guest = &simulation->guests[i];

		guest->simulation = simulation;
		nvme_rig_init_in(&guest->rig, &simulation->engine.sim);
		guest->rig.context = guest;
		guest->rig.on_point = on_point;
		guest->rig.reactor = i == 0 ? 0 : (unsigned)below(simulation, 2);
		guest->rig.options.controller_id = (uint16_t)(1 + i);
		guest->rig.namespaces[0] = (struct nvme_namespace_options){
			.nsid = 1,
			.nguid = {1, 2},
			.shared = true,
			.block_bytes = simulation->block_bytes,
		};
		guest->rig.namespace_count = 1;
		start_guest(guest);
		nvme_rig_make_queues(&guest->rig, 1);
		guest->rig.options.gated = true;
	}
	simulation->calm = false;
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
	for (unsigned i = 0; i < GUESTS; i++)
		if (simulation->guests[i].started)
			nvme_rig_stop(&simulation->guests[i].rig);
	engine_rig_call(&simulation->engine, close_engine);
	hash = sim_trace_hash(simulation->engine.sim.sim) ^ simulation->completions;
	for (unsigned i = 0; i < GUESTS; i++)
		nvme_rig_done(&simulation->guests[i].rig);
	engine_rig_done(&simulation->engine);
	return hash;
}

int main(int argc, char **argv)
{
	static const char *const must_reach[] = {
		"nvme.recover-compared",
		"nvme.recover-fetched",
		"nvme.fused-redo",
		"nvme.settle",
		"nvme.stale",
		"sim-nvme-shared.conflict",
		"sim-nvme-shared.dies-compared",
		"sim-nvme-shared.dies-written",
		"sim-nvme-shared.left-behind",
		NULL,
	};
	static const struct sim_run_program program = {
		.name = "sim_nvme_shared",
		.run = run,
		.must_reach = must_reach,
	};

	return sim_run_main(argc, argv, &program);
}
