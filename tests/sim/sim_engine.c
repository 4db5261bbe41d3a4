/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation of the engine: one vDisk on a pool on one simulated disk, clients with random
 * operations, checkpoints, resizes, faults of the disk, a full pool, process crashes and losses of
 * power, against the model of engine_model.h. With most seeds the policy of the vDisk changes
 * beside the clients; where there are faults, the pool then has disks of its own, in two tiers, and
 * for moments most writes there fail. At the end of a seed all faults stop; then the vDisk must
 * check clean, give back every byte when it is deleted, and none of its fibers may be left.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "engine_load.h"
#include "pool/pool_disk.h"
#include "sim_run.h"

#define ROUNDS       4
#define POOL_BYTES   (512 * MIB)
#define SMALL_BYTES  (48 * MIB)
#define FULL_BYTES   (700 * MIB) /* more than the pool takes */
#define DISKS        4
#define SLOW_JOBS_NS (10 * NSEC_PER_MSEC)
#define LIMIT_NS     (1000 * NSEC_PER_SEC)
#define TASKS        (ENGINE_LOAD_CLIENTS + 1) /* with what changes beside the clients */

enum scenario { SCENARIO_PLAIN, SCENARIO_FAULTS, SCENARIO_FULL };

struct simulation {
	struct engine_rig rig;
	struct engine_load load;
	struct chance chance;
	enum scenario scenario;
	uint32_t write_error_ppm;
	bool stirs;       /* with this seed */
	bool stirring;    /* what changes beside the clients goes on */
	bool sync_failed; /* a failed sync may lose data at a later loss of power, by its nature */
};

static bool is_fault(const struct engine_load *load, int result)
{
	const struct simulation *simulation = CONTAINER_OF(load, struct simulation, load);

	if (load->crashing && result == -ESHUTDOWN)
		return true;
	if (simulation->scenario == SCENARIO_FAULTS)
		return result == -EIO || result == -EBADMSG || result == -EUCLEAN ||
		       result == -ENOTRECOVERABLE;
	return simulation->scenario == SCENARIO_FULL && result == -ENOSPC;
}

static void set_faults_of(struct simulation *simulation, bool on, uint32_t write_error_ppm)
{
	struct sim_faults faults = {0};

	if (on && simulation->scenario == SCENARIO_FAULTS) {
		faults.read_error_ppm = 2000;
		faults.bit_flip_ppm = 5000;
		faults.write_error_ppm = write_error_ppm;
		faults.metadata_error_ppm = 1000;
		faults.slow_ppm = 5000;
		faults.slow_ns = 300 * NSEC_PER_MSEC;
		if (simulation->sync_failed)
			faults.sync_error_ppm = 20000;
	}
	for (unsigned i = 0; i < simulation->rig.disks; i++)
		sim_disk_set_faults(simulation->rig.sim.sim, engine_rig_disk(i), &faults);
	/* While many writes fail the catalog's do not, but it is slow: what goes on beside goes on
	 * longer. */
	faults.write_error_ppm = MIN(faults.write_error_ppm, simulation->write_error_ppm);
	sim_set_slow_jobs(simulation->rig.sim.sim,
			  write_error_ppm > simulation->write_error_ppm ? SLOW_JOBS_NS : 0);
	sim_disk_set_faults(simulation->rig.sim.sim, ENGINE_RIG_DISK, &faults);
}

static void set_faults(struct simulation *simulation, bool on)
{
	set_faults_of(simulation, on, simulation->write_error_ppm);
}

/* For a moment, on the disks of the pool. */
static void burst(struct simulation *simulation)
{
	/* The second: some take over more than once, and pause in between. */
	static const uint64_t moments[] = {2 * NSEC_PER_MSEC, 80 * NSEC_PER_MSEC};
	uint32_t ppm = 200000 + (uint32_t)chance_below(&simulation->chance, 800001);

	REACHED("sim-engine.burst");
	set_faults_of(simulation, true, ppm);
	fiber_sleep(
		chance_below(&simulation->chance, moments[chance_below(&simulation->chance, 2)]));
	set_faults(simulation, true);
}

static void change_policy(struct simulation *simulation)
{
	static const uint64_t orders[] = {0x12, 0x21, 0x12};
	uint64_t order = chance_below(&simulation->chance, 2);
	struct policy_set set = {0};
	struct container_policy policy;
	const struct {
		enum policy_property property;
		uint64_t value;
	} values[] = {
		{POLICY_TIER_ORDER_RANDOM, orders[order]},
		{POLICY_TIER_ORDER_SEQUENTIAL,
		 orders[order + (chance_below(&simulation->chance, 4) > 0)]},
		{POLICY_STRIPE_WIDTH, 1 + chance_below(&simulation->chance, 4)},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
		SIM_RUN_CHECK(policy_set_put(&set, values[i].property, values[i].value) == 0,
			      "policy");
	policy_merge(&set, NULL, &policy);
	REACHED("sim-engine.policy");
	vdisk_set_policy(simulation->rig.vdisk, &policy);
}

static void stir_run(void *arg)
{
	struct simulation *simulation = arg;
	struct sim *sim = simulation->rig.sim.sim;

	while (simulation->stirring && !sim_is_dead(sim)) {
		if (chance_below(&simulation->chance, 4) == 0)
			change_policy(simulation);
		else if (simulation->rig.disks)
			burst(simulation);
		if (!sim_is_dead(sim))
			fiber_sleep(chance_below(&simulation->chance, 10 * NSEC_PER_MSEC));
	}
}

/* What was asked of the engine from the test's main thread, in a fiber. */
static struct simulation *current;

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
	int r = vdisk_resize(rig->vdisk, new_size * current->load.spread);

	engine_load_result(&current->load, "resize", r);
	return r;
}

static void maybe_resize(struct simulation *simulation)
{
	int r;

	if (chance_below(&simulation->chance, 3) || simulation->scenario != SCENARIO_PLAIN)
		return;
	new_size =
		MIB * (4 + chance_below(&simulation->chance, simulation->load.max_bytes / MIB - 3));
	r = engine_rig_call(&simulation->rig, resize);
	if (r < 0)
		return;
	if (new_size < simulation->load.size_bytes)
		model_truncate(&simulation->load.model, new_size / SECTOR);
	simulation->load.size_bytes = new_size;
}

/* Errors have made disks fail, or be taken for gone; it was the cable. */
static bool are_online(struct engine_rig *rig)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	bool all = true;
	size_t count;

	SIM_RUN_CHECK(pool_disk_list(rig->pool, &infos, &count) == 0, "list disks");
	for (size_t i = 0; i < count; i++) {
		all &= infos[i].state == POOL_DISK_ONLINE;
		if (infos[i].state == POOL_DISK_FAILED)
			(void)pool_disk_restore(rig->pool, infos[i].id); /* or the next time */
	}
	return all;
}

static int wait_for_disks(struct engine_rig *rig)
{
	uint64_t end = reactor_now_ns(reactor_current()) + LIMIT_NS;

	while (rig->pool && !are_online(rig)) {
		SIM_RUN_CHECK(reactor_now_ns(reactor_current()) < end, "disks do not come back");
		fiber_sleep(NSEC_PER_SEC);
	}
	return 0;
}

static void all_well(struct simulation *simulation)
{
	set_faults(simulation, false);
	if (simulation->rig.disks)
		engine_rig_call(&simulation->rig, wait_for_disks);
}

/* Opening may meet faults; without them it must work. */
static void reopen(struct simulation *simulation)
{
	int r;

	set_faults(simulation, chance_below(&simulation->chance, 2));
	r = engine_rig_call(&simulation->rig, engine_rig_open_again);
	if (r < 0) {
		SIM_RUN_CHECK(is_fault(&simulation->load, r), "open: %d", r);
		all_well(simulation);
		r = engine_rig_call(&simulation->rig, engine_rig_open_again);
	}
	SIM_RUN_CHECK(r == 0, "open without faults: %d", r);
}

static void crash(struct simulation *simulation, struct sim_rig_task *tasks)
{
	struct engine_rig *rig = &simulation->rig;
	bool power = chance_below(&simulation->chance, 2) && !simulation->sync_failed;

	simulation->load.crashing = true;
	sim_crash(rig->sim.sim, power ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
	SIM_RUN_CHECK(sim_rig_wait(&rig->sim, tasks, TASKS, LIMIT_NS) == 0,
		      "clients do not end in a dead world");
	engine_rig_crashed(rig);
	simulation->load.crashing = false;
	reopen(simulation);
	all_well(simulation);
	engine_load_verify_crash(&simulation->load, power ? MODEL_POWER_LOSS : MODEL_PROCESS_CRASH);
}

static void start_clients(struct simulation *simulation, struct sim_rig_task *tasks)
{
	bool long_one = simulation->scenario == SCENARIO_FULL || simulation->rig.disks;

	engine_load_start(&simulation->load, tasks, long_one ? 80 : 15, 40);
	simulation->stirring = simulation->stirs;
	tasks[ENGINE_LOAD_CLIENTS] = (struct sim_rig_task){.run = stir_run, .arg = simulation};
	sim_rig_start(&simulation->rig.sim, 0, &tasks[ENGINE_LOAD_CLIENTS]);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

/* Until a crash; what is written in turns has to be much, and waits while writes fail. */
static uint64_t life_ns(const struct simulation *simulation)
{
	return (simulation->rig.disks ? 1500 : 300) * NSEC_PER_MSEC;
}

static void round_run(struct simulation *simulation)
{
	struct engine_rig *rig = &simulation->rig;
	struct sim_rig_task tasks[TASKS];
	uint64_t fate = chance_below(&simulation->chance, 4);
	int r;

	set_faults(simulation, true);
	start_clients(simulation, tasks);
	if (fate < 2) {
		uint64_t limit = chance_below(&simulation->chance, life_ns(simulation));

		(void)sim_run_until(rig->sim.sim, never, NULL, limit);
		crash(simulation, tasks);
		return;
	}
	r = sim_rig_wait(&rig->sim, tasks, ENGINE_LOAD_CLIENTS, LIMIT_NS);
	SIM_RUN_CHECK(r == 0, "clients do not end: %d", r);
	simulation->stirring = false;
	r = sim_rig_wait(&rig->sim, tasks, TASKS, LIMIT_NS);
	SIM_RUN_CHECK(r == 0, "what changes beside them does not end: %d", r);
	all_well(simulation);
	if (fate == 3) {
		r = engine_rig_call(rig, engine_rig_close_vdisk);
		SIM_RUN_CHECK(r == 0 || is_fault(&simulation->load, r), "close: %d", r);
		reopen(simulation);
		all_well(simulation);
	}
	engine_load_verify(&simulation->load);
	/* Before an open counts again: what checkpoints made of the liveness that was known. */
	if (simulation->scenario == SCENARIO_PLAIN && chance_below(&simulation->chance, 2))
		engine_load_check_clean(&simulation->load);
	maybe_resize(simulation);
}

/* The log may have failed for good: then only opening again helps. */
static void heal(struct simulation *simulation)
{
	int r;

	all_well(simulation);
	r = engine_rig_call(&simulation->rig, engine_rig_close_vdisk);
	SIM_RUN_CHECK(r == 0 || is_fault(&simulation->load, r), "close: %d", r);
	r = engine_rig_call(&simulation->rig, engine_rig_open_again);
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
	simulation->load.max_bytes =
		simulation->scenario == SCENARIO_FULL ? FULL_BYTES : SMALL_BYTES;
	simulation->load.size_bytes = simulation->load.max_bytes;
	simulation->load.spread =
		simulation->scenario == SCENARIO_FULL
			? 1
			: spreads[chance_below(&simulation->chance, ARRAY_SIZE(spreads))];
	mix_init(&simulation->load.mix, &simulation->chance, simulation->scenario == SCENARIO_FULL);
	simulation->stirs = simulation->load.mix.turn || chance_below(&simulation->chance, 3) > 0;
	engine_rig_init(&simulation->rig, seed, trace, POOL_BYTES);
	if (chance_below(&simulation->chance, 4))
		simulation->rig.tier_order_sequential = 0x12;
	/* The catalog has one of its own: a log whose groups find no row fails for good. */
	if (simulation->stirs && simulation->scenario == SCENARIO_FAULTS) {
		engine_rig_set_disks(&simulation->rig, DISKS, 1);
		for (unsigned i = 0; i < DISKS; i++)
			simulation->rig.tiers[i] = i % 2 ? "hdd" : "ssd";
	}
	if (chance_below(&simulation->chance, 4) == 0)
		simulation->rig.budget_bytes = 64 * KIB;
	simulation->load.is_fault = is_fault;
	simulation->load.fills = simulation->scenario == SCENARIO_FULL;
	simulation->load.checks = simulation->scenario == SCENARIO_PLAIN;
	engine_load_init(&simulation->load, &simulation->rig, &simulation->chance, seed);
	simulation->rig.vdisk_bytes = simulation->load.size_bytes * simulation->load.spread;
	current = simulation;
}

static void simulation_done(struct simulation *simulation)
{
	engine_load_done(&simulation->load);
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
	r = engine_rig_call(&simulation.rig, engine_rig_bring_up);
	SIM_RUN_CHECK(r == 0, "bring up: %d", r);
	for (unsigned i = 0; i < ROUNDS; i++)
		round_run(&simulation);
	heal(&simulation);
	engine_load_verify(&simulation.load);
	engine_load_check_clean(&simulation.load);
	engine_rig_call(&simulation.rig, delete_all);
	hash = sim_trace_hash(simulation.rig.sim.sim);
	simulation_done(&simulation);
	return hash;
}

static const char *const must_reach[] = {
	"check.page-again",
	"compact.done",
	"fold.orphan",
	"fold.slice",
	"load.page-retry",
	"log.no-space",
	"log.other-tiers",
	"log.reroute",
	"sim-engine.burst",
	"sim-engine.policy",
	"log.sync-failed",
	"log.wait-for-space",
	"modify.run",
	"read.load",
	"read.second-try",
	"reclaim.recount",
	"recover.replayed",
	"request.no-space",
	NULL,
};

int main(int argc, char **argv)
{
	static const struct sim_run_program program = {
		.name = "sim_engine", .run = run, .must_reach = must_reach, .limit_seconds = 300};

	return sim_run_main(argc, argv, &program);
}
