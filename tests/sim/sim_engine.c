/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation of the engine: one vDisk on a pool on one simulated disk, clients with random
 * operations, checkpoints, resizes, faults of the disk, a full pool, process crashes and losses of
 * power, against the model of engine_model.h. At the end of a seed all faults stop; then the vDisk
 * must check clean, give back every byte when it is deleted, and none of its fibers may be left.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "block/chance.h"
#include "engine_mix.h"
#include "engine_model.h"
#include "engine_rig.h"
#include "sim_run.h"

#define CLIENTS     6
#define ROUNDS      4
#define POOL_BYTES  (512 * MIB)
#define SMALL_BYTES (48 * MIB)
#define FULL_BYTES  (700 * MIB) /* more than the pool takes */
#define OP_MAX      (1 * MIB)
#define VERIFY_STEP (1 * MIB)
#define LIMIT_NS    (1000 * NSEC_PER_SEC)

enum scenario { SCENARIO_PLAIN, SCENARIO_FAULTS, SCENARIO_FULL };

struct client {
	struct simulation *simulation;
	struct chance chance;
	unsigned operations;
	unsigned char *buffer; /* 2 * OP_MAX */
};

struct simulation {
	struct engine_rig rig;
	struct model model;
	struct chance chance;
	enum scenario scenario;
	struct mix mix;
	uint32_t write_error_ppm;
	uint64_t spread;     /* each MiB of the model lies this many MiB after the one before */
	uint64_t size_bytes; /* of the model now */
	uint64_t max_bytes;
	bool sync_failed; /* a failed sync may lose data at a later loss of power, by its nature */
	uint64_t filled;  /* MiB, in the scenario of a full pool */
	bool crashing;    /* errors are expected */
	struct client clients[CLIENTS];
	unsigned char *verify;
};

static bool is_fault(const struct simulation *simulation, int result)
{
	if (simulation->crashing && result == -ESHUTDOWN)
		return true;
	if (simulation->scenario == SCENARIO_FAULTS)
		return result == -EIO || result == -EBADMSG || result == -EUCLEAN ||
		       result == -ENOTRECOVERABLE;
	return simulation->scenario == SCENARIO_FULL && result == -ENOSPC;
}

static void check_result(const struct simulation *simulation, const char *what, int result)
{
	SIM_RUN_CHECK(result == 0 || is_fault(simulation, result) ||
			      (simulation->crashing && result < 0),
		      "%s: %d", what, result);
}

static bool is_whole(struct mix_range range)
{
	return range.first % 8 == 0 && range.count % 8 == 0;
}

/* Where the model's sector lies on the vDisk, in bytes: its MiB are spread, so that the map has
 * several levels and subtrees are unmapped whole. */
static uint64_t offset_of(const struct simulation *simulation, uint64_t sector)
{
	uint64_t byte = sector * SECTOR;

	return byte / MIB * simulation->spread * MIB + byte % MIB;
}

/* What lies between, too, when the range is longer than what is left of its MiB. */
static uint64_t length_of(const struct simulation *simulation, struct mix_range range)
{
	uint64_t last = range.first + range.count - 1;

	return offset_of(simulation, last) + SECTOR - offset_of(simulation, range.first);
}

static int io(struct client *client, enum block_op op, unsigned flags, struct mix_range range)
{
	struct simulation *simulation = client->simulation;
	bool has_data = op == BLOCK_READ || op == BLOCK_WRITE || op == BLOCK_COMPARE;

	return block_io(simulation->rig.volume, op, flags, has_data ? client->buffer : NULL,
			length_of(simulation, range), offset_of(simulation, range.first));
}

static void do_read(struct client *client, struct mix_range range)
{
	struct simulation *simulation = client->simulation;
	uint64_t acked = simulation->model.acked;
	int r;

	memset(client->buffer, 0xA5, range.count * SECTOR);
	r = io(client, BLOCK_READ, 0, range);
	check_result(simulation, "read", r);
	if (r == 0)
		model_check_read(&simulation->model, range.first, range.count, client->buffer,
				 acked);
}

static void settle(struct client *client, uint32_t op, int r, bool durable)
{
	struct simulation *simulation = client->simulation;

	check_result(simulation, "write", r);
	if (r == 0)
		model_acknowledge(&simulation->model, op, durable);
	else
		model_fail(&simulation->model, op);
}

static void do_write(struct client *client, struct mix_range range, bool fua)
{
	struct simulation *simulation = client->simulation;
	uint32_t op = model_begin(&simulation->model, range.first, range.count, false,
				  is_whole(range) && !fua);

	model_fill(op, range.first, range.count, client->buffer);
	settle(client, op, io(client, BLOCK_WRITE, fua ? BLOCK_FUA : 0, range), fua);
}

static void do_zero(struct client *client, struct mix_range range, enum block_op kind)
{
	struct simulation *simulation = client->simulation;
	uint32_t op =
		model_begin(&simulation->model, range.first, range.count, true, is_whole(range));

	settle(client, op, io(client, kind, 0, range), false);
}

static void do_flush(struct client *client)
{
	struct simulation *simulation = client->simulation;
	uint64_t acked = simulation->model.acked;
	int r = block_io(simulation->rig.volume, BLOCK_FLUSH, 0, NULL, 0, 0);

	check_result(simulation, "flush", r);
	if (r == 0)
		model_flushed(&simulation->model, acked);
}

/* Reads, then swaps: nothing else is in flight on the range, so it must match. */
static void do_compare_and_write(struct client *client, struct mix_range range)
{
	struct simulation *simulation = client->simulation;
	struct block_wait wait;
	struct iovec iov;
	uint32_t op;
	int r;

	range.count = MIN(range.count, UINT64_C(64));
	r = io(client, BLOCK_READ, 0, range);
	check_result(simulation, "read before compare-and-write", r);
	if (r < 0)
		return;
	op = model_begin(&simulation->model, range.first, range.count, false, false);
	model_fill(op, range.first, range.count, client->buffer + range.count * SECTOR);
	iov = (struct iovec){client->buffer, 2 * range.count * SECTOR};
	wait = (struct block_wait){.request = {.op = BLOCK_COMPARE_AND_WRITE,
					       .offset = offset_of(simulation, range.first),
					       .length = range.count * SECTOR,
					       .iov = &iov,
					       .iov_count = 1}};
	settle(client, op, block_wait(simulation->rig.volume, &wait), false);
}

static void do_status(struct client *client, struct mix_range range)
{
	struct simulation *simulation = client->simulation;
	struct block_wait wait = {.request = {.op = BLOCK_STATUS,
					      .offset = offset_of(simulation, range.first),
					      .length = length_of(simulation, range)}};
	int r = block_wait(simulation->rig.volume, &wait);

	check_result(simulation, "status", r);
	SIM_RUN_CHECK(r < 0 || (wait.request.status.length > 0 &&
				wait.request.status.length <= length_of(simulation, range)),
		      "status: length %" PRIu64, wait.request.status.length);
}

/* Finds nothing wrong, whatever is going on. */
static void do_check(struct client *client)
{
	struct simulation *simulation = client->simulation;
	struct vdisk_check_report report = {0};
	int r;

	if (simulation->scenario != SCENARIO_PLAIN)
		return;
	r = vdisk_check(simulation->rig.vdisk, chance_below(&client->chance, 2), NULL, NULL,
			&report);
	check_result(simulation, "check", r);
	SIM_RUN_CHECK(r < 0 || simulation->crashing ||
			      report.bad_pages + report.bad_blocks + report.missing_live_blocks +
					      report.leaked_blocks ==
				      0,
		      "check beside others: bad pages %" PRIu64 ", bad blocks %" PRIu64
		      ", missing %" PRIu64 ", leaked %" PRIu64,
		      report.bad_pages, report.bad_blocks, report.missing_live_blocks,
		      report.leaked_blocks);
}

static void act(struct client *client, enum mix_action action, struct mix_range range)
{
	switch (action) {
	case MIX_READ:
		do_read(client, range);
		return;
	case MIX_WRITE:
		do_write(client, range, false);
		return;
	case MIX_WRITE_FUA:
		do_write(client, range, true);
		return;
	case MIX_ZERO:
		do_zero(client, range, BLOCK_WRITE_ZEROES);
		return;
	case MIX_UNMAP:
		do_zero(client, range, BLOCK_UNMAP);
		return;
	case MIX_SWAP:
		do_compare_and_write(client, range);
		return;
	default:
		do_status(client, range);
	}
}

/* Of a pool that is to be full: first everything once, then anything. */
static struct mix_range fill_range(struct client *client)
{
	struct simulation *simulation = client->simulation;
	uint64_t count = simulation->size_bytes / OP_MAX;
	uint64_t at = simulation->filled < count ? simulation->filled++
						 : chance_below(&client->chance, count);

	return (struct mix_range){at * (OP_MAX / SECTOR), OP_MAX / SECTOR};
}

static void operate(struct client *client)
{
	struct simulation *simulation = client->simulation;
	enum mix_action action = mix_draw_action(&simulation->mix, &client->chance);
	struct mix_range range = mix_draw_range(&simulation->mix, &client->chance, action,
						simulation->size_bytes / SECTOR);

	if (action == MIX_FLUSH) {
		do_flush(client);
		return;
	}
	if (action == MIX_CHECK) {
		do_check(client);
		return;
	}
	if (action == MIX_CHECKPOINT) {
		check_result(simulation, "checkpoint", vdisk_checkpoint(simulation->rig.vdisk));
		return;
	}
	if (simulation->scenario == SCENARIO_FULL && chance_below(&client->chance, 10))
		range = fill_range(client);
	if (simulation->spread > 1 && mix_moves_data(action))
		range.count = MIN(range.count, MIB / SECTOR - range.first % (MIB / SECTOR));
	if (!model_claim(&simulation->model, range.first, range.count))
		return;
	act(client, action, range);
	model_release(&simulation->model, range.first, range.count);
}

static void client_run(void *arg)
{
	struct client *client = arg;

	for (unsigned i = 0; i < client->operations; i++) {
		operate(client);
		if (sim_is_dead(client->simulation->rig.sim.sim))
			return;
		if (chance_below(&client->chance, client->simulation->mix.idle) == 0)
			fiber_sleep(chance_below(&client->chance, 20 * NSEC_PER_MSEC));
	}
}

static void set_faults(struct simulation *simulation, bool on)
{
	struct sim_faults faults = {0};

	if (on && simulation->scenario == SCENARIO_FAULTS) {
		faults.read_error_ppm = 2000;
		faults.bit_flip_ppm = 2000;
		faults.write_error_ppm = simulation->write_error_ppm;
		faults.metadata_error_ppm = 1000;
		faults.slow_ppm = 5000;
		faults.slow_ns = 300 * NSEC_PER_MSEC;
		if (simulation->sync_failed)
			faults.sync_error_ppm = 20000;
	}
	sim_disk_set_faults(simulation->rig.sim.sim, ENGINE_RIG_DISK, &faults);
}

/* What was asked of the engine from the test's main thread, in a fiber. */
static struct simulation *current;

static int bring_up(struct engine_rig *rig)
{
	int r = engine_rig_create(rig);

	if (r == 0)
		r = engine_rig_start(rig);
	if (r == 0)
		r = engine_rig_create_vdisk(rig, "disk", current->size_bytes * current->spread);
	return r < 0 ? r : engine_rig_open_vdisk(rig);
}

static int open_again(struct engine_rig *rig)
{
	int r = 0;

	if (!rig->catalog)
		r = engine_rig_start(rig);
	if (r == 0)
		r = engine_rig_open_vdisk(rig);
	return r;
}

static int close_vdisk(struct engine_rig *rig)
{
	return engine_rig_close_vdisk(rig);
}

static int verify_all(struct engine_rig *rig)
{
	for (uint64_t at = 0; at < current->size_bytes; at += VERIFY_STEP) {
		uint64_t length = MIN(VERIFY_STEP, current->size_bytes - at);
		int r = block_io(rig->volume, BLOCK_READ, 0, current->verify, length,
				 at * current->spread);

		SIM_RUN_CHECK(r == 0, "verify: read at %" PRIu64 ": %d", at, r);
		model_check_read(&current->model, at / SECTOR, length / SECTOR, current->verify,
				 current->model.acked);
	}
	return 0;
}

static enum model_crash crash_kind;

static int verify_crash(struct engine_rig *rig)
{
	struct model_cut *cut = model_cut_new(&current->model, crash_kind);

	for (uint64_t at = 0; at < current->size_bytes; at += VERIFY_STEP) {
		uint64_t length = MIN(VERIFY_STEP, current->size_bytes - at);
		int r = block_io(rig->volume, BLOCK_READ, 0, current->verify, length,
				 at * current->spread);

		SIM_RUN_CHECK(r == 0, "after the crash: read at %" PRIu64 ": %d", at, r);
		model_cut_add(cut, at / SECTOR, length / SECTOR, current->verify);
	}
	model_cut_finish(cut);
	return 0;
}

static int check_clean(struct engine_rig *rig)
{
	struct vdisk_check_report report;
	struct vdisk_stats stats;
	int r = vdisk_check(rig->vdisk, true, NULL, NULL, &report);

	SIM_RUN_CHECK(r == 0, "check: %d", r);
	SIM_RUN_CHECK(report.bad_pages + report.bad_blocks + report.missing_live_blocks +
				      report.leaked_blocks ==
			      0,
		      "check: bad pages %" PRIu64 ", bad blocks %" PRIu64 ", missing %" PRIu64
		      ", leaked %" PRIu64,
		      report.bad_pages, report.bad_blocks, report.missing_live_blocks,
		      report.leaked_blocks);
	vdisk_get_stats(rig->vdisk, &stats);
	SIM_RUN_CHECK(stats.live_bytes == (report.pages + report.blocks) * 4096,
		      "check: the account says %" PRIu64 " bytes, the map %" PRIu64 " slots",
		      stats.live_bytes, report.pages + report.blocks);
	return 0;
}

static int delete_all(struct engine_rig *rig)
{
	struct pool_space space;
	int r = engine_rig_close_vdisk(rig);

	SIM_RUN_CHECK(r == 0, "close: %d", r);
	r = vdisk_delete(rig->pool, rig->vdisk_id, NULL, NULL);
	SIM_RUN_CHECK(r == 0, "delete: %d", r);
	/* A file that could not be removed is swept away by the next start. */
	if (current->scenario == SCENARIO_FAULTS) {
		engine_rig_stop(rig);
		r = engine_rig_start(rig);
		SIM_RUN_CHECK(r == 0, "start: %d", r);
	}
	pool_get_space(rig->pool, &space);
	SIM_RUN_CHECK(space.used == 0 && space.live == 0 && space.admitted == 0,
		      "after the delete: used %" PRIu64 ", live %" PRIu64 ", admitted %" PRIu64,
		      space.used, space.live, space.admitted);
	engine_rig_stop(rig);
	return 0;
}

static uint64_t new_size;

static int resize(struct engine_rig *rig)
{
	int r = vdisk_resize(rig->vdisk, new_size * current->spread);

	check_result(current, "resize", r);
	return r;
}

static void maybe_resize(struct simulation *simulation)
{
	int r;

	if (chance_below(&simulation->chance, 3) || simulation->scenario != SCENARIO_PLAIN)
		return;
	new_size = MIB * (4 + chance_below(&simulation->chance, simulation->max_bytes / MIB - 3));
	r = engine_rig_call(&simulation->rig, resize);
	if (r < 0)
		return;
	if (new_size < simulation->size_bytes)
		model_truncate(&simulation->model, new_size / SECTOR);
	simulation->size_bytes = new_size;
}

/* Opening may meet faults; without them it must work. */
static void reopen(struct simulation *simulation)
{
	int r;

	set_faults(simulation, chance_below(&simulation->chance, 2));
	r = engine_rig_call(&simulation->rig, open_again);
	if (r < 0) {
		SIM_RUN_CHECK(is_fault(simulation, r), "open: %d", r);
		set_faults(simulation, false);
		r = engine_rig_call(&simulation->rig, open_again);
	}
	SIM_RUN_CHECK(r == 0, "open without faults: %d", r);
}

static void crash(struct simulation *simulation, struct sim_rig_task *tasks)
{
	struct engine_rig *rig = &simulation->rig;
	bool power = chance_below(&simulation->chance, 2) && !simulation->sync_failed;

	simulation->crashing = true;
	sim_crash(rig->sim.sim, power ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
	SIM_RUN_CHECK(sim_rig_wait(&rig->sim, tasks, CLIENTS, LIMIT_NS) == 0,
		      "clients do not end in a dead world");
	engine_rig_crashed(rig);
	simulation->crashing = false;
	reopen(simulation);
	set_faults(simulation, false);
	crash_kind = power ? MODEL_POWER_LOSS : MODEL_PROCESS_CRASH;
	engine_rig_call(rig, verify_crash);
}

static void start_clients(struct simulation *simulation, struct sim_rig_task *tasks)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *client = &simulation->clients[i];

		client->operations = (simulation->scenario == SCENARIO_FULL ? 80 : 15) +
				     (unsigned)chance_below(&simulation->chance, 40);
		tasks[i] = (struct sim_rig_task){.run = client_run, .arg = client};
		sim_rig_start(&simulation->rig.sim, 0, &tasks[i]);
	}
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static void round_run(struct simulation *simulation)
{
	struct engine_rig *rig = &simulation->rig;
	struct sim_rig_task tasks[CLIENTS];
	uint64_t fate = chance_below(&simulation->chance, 4);
	int r;

	set_faults(simulation, true);
	start_clients(simulation, tasks);
	if (fate < 2) {
		uint64_t limit = chance_below(&simulation->chance, 300 * NSEC_PER_MSEC);

		(void)sim_run_until(rig->sim.sim, never, NULL, limit);
		crash(simulation, tasks);
		return;
	}
	r = sim_rig_wait(&rig->sim, tasks, CLIENTS, LIMIT_NS);
	SIM_RUN_CHECK(r == 0, "clients do not end: %d", r);
	set_faults(simulation, false);
	if (fate == 3) {
		r = engine_rig_call(rig, close_vdisk);
		SIM_RUN_CHECK(r == 0 || is_fault(simulation, r), "close: %d", r);
		reopen(simulation);
		set_faults(simulation, false);
	}
	engine_rig_call(rig, verify_all);
	/* Before an open counts again: what checkpoints made of the liveness that was known. */
	if (simulation->scenario == SCENARIO_PLAIN && chance_below(&simulation->chance, 2))
		engine_rig_call(rig, check_clean);
	maybe_resize(simulation);
}

/* The log may have failed for good: then only opening again helps. */
static void heal(struct simulation *simulation)
{
	int r;

	set_faults(simulation, false);
	r = engine_rig_call(&simulation->rig, close_vdisk);
	SIM_RUN_CHECK(r == 0 || is_fault(simulation, r), "close: %d", r);
	r = engine_rig_call(&simulation->rig, open_again);
	SIM_RUN_CHECK(r == 0, "open: %d", r);
}

static void simulation_init(struct simulation *simulation, uint64_t seed, bool trace)
{
	/* One, two and three levels above the leaves. */
	static const uint64_t spreads[] = {1, 1, 1, 40, 300, 2500};
	uint64_t kind;

	memset(simulation, 0, sizeof(*simulation));
	chance_init(&simulation->chance, seed * 2 + 1);
	kind = chance_below(&simulation->chance, 24);
	simulation->scenario = kind == 0   ? SCENARIO_FULL
			       : kind < 10 ? SCENARIO_FAULTS
					   : SCENARIO_PLAIN;
	simulation->sync_failed = chance_below(&simulation->chance, 4) == 0 &&
				  simulation->scenario == SCENARIO_FAULTS;
	simulation->write_error_ppm = chance_below(&simulation->chance, 3) ? 2000 : 30000;
	simulation->max_bytes = simulation->scenario == SCENARIO_FULL ? FULL_BYTES : SMALL_BYTES;
	simulation->size_bytes = simulation->max_bytes;
	simulation->spread =
		simulation->scenario == SCENARIO_FULL
			? 1
			: spreads[chance_below(&simulation->chance, ARRAY_SIZE(spreads))];
	mix_init(&simulation->mix, &simulation->chance, simulation->scenario == SCENARIO_FULL);
	engine_rig_init(&simulation->rig, seed, trace, POOL_BYTES);
	if (chance_below(&simulation->chance, 4) == 0)
		simulation->rig.budget_bytes = 64 * KIB;
	model_init(&simulation->model, simulation->max_bytes / SECTOR);
	simulation->model.overtaking = simulation->scenario == SCENARIO_FULL;
	simulation->verify = aligned_alloc(4096, VERIFY_STEP);
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *client = &simulation->clients[i];

		client->simulation = simulation;
		chance_init(&client->chance, seed * 1000 + i);
		client->buffer = aligned_alloc(4096, 2 * OP_MAX);
		SIM_RUN_CHECK(client->buffer && simulation->verify, "out of memory");
	}
	current = simulation;
}

static void simulation_done(struct simulation *simulation)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		free(simulation->clients[i].buffer);
	free(simulation->verify);
	model_done(&simulation->model);
	engine_rig_done(&simulation->rig);
}

static uint64_t run(uint64_t seed, bool trace)
{
	struct simulation simulation;
	uint64_t hash;
	int r;

	if (!trace)
		log_set_level(LOG_LEVEL_ERROR + 1);
	simulation_init(&simulation, seed, trace);
	r = engine_rig_call(&simulation.rig, bring_up);
	SIM_RUN_CHECK(r == 0, "bring up: %d", r);
	for (unsigned i = 0; i < ROUNDS; i++)
		round_run(&simulation);
	heal(&simulation);
	engine_rig_call(&simulation.rig, verify_all);
	engine_rig_call(&simulation.rig, check_clean);
	engine_rig_call(&simulation.rig, delete_all);
	hash = sim_trace_hash(simulation.rig.sim.sim);
	simulation_done(&simulation);
	return hash;
}

static const char *const must_reach[] = {
	"check.page-again",   "compact.done",     "fold.orphan",      "fold.slice",
	"load.page-retry",    "log.no-space",     "log.reroute",      "log.sync-failed",
	"log.wait-for-space", "modify.run",       "read.load",        "read.second-try",
	"reclaim.recount",    "recover.replayed", "request.no-space", NULL,
};

int main(int argc, char **argv)
{
	static const struct sim_run_program program = {
		.name = "sim_engine", .run = run, .must_reach = must_reach, .limit_seconds = 300};

	return sim_run_main(argc, argv, &program);
}
