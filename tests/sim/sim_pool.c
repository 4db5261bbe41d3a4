/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation of a pool of many disks: one vDisk with one to three copies on up to twelve simulated
 * disks, clients with random operations, repair beside them, and in each round bad days for as many
 * disks as the factor allows: they vanish, err, hang, are slow, full or read-only, or have bits
 * flipped, or most writes of one fail for moments; the process dies or the power goes meanwhile. As
 * long as that is so no client may see an error, and nothing flushed may be lost. In most rounds
 * the container's policy changes beside the clients, factor, tiers and width; what the factor
 * allows is what the lesser one does, before and after. In some its capacity is limited: then, and
 * only then, writes may be refused for want of room. Then the faults stop, a disk may be drained
 * and removed or given up and replaced, and the pool must be healthy again, by the policy as it
 * then is, within bounded virtual time. With
 * one seed in four a disk then hangs and returns until it has failed by itself; with another one in
 * four a disk is declared failed, the daemon starts again, and as many others as the factor allows
 * vanish or give wrong bits: all must be readable, and be copied from the failed disk.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "engine_load.h"
#include "pool/pool_disk.h"
#include "pool_policy.h"
#include "reactor/io.h"
#include "sim_run.h"

#define ROUNDS     5
#define DISK_BYTES (512 * MIB)
#define SIZE_BYTES (24 * MIB)
#define LIMIT_NS   (2000 * NSEC_PER_SEC)
#define HEAL_NS    (900 * NSEC_PER_SEC) /* virtual, from the end of the faults to healthy */
/* What a client may wait while disks hang; beyond the deadline it is what follows. */
#define HANG_WAIT_NS(disks) ((disks)*POOL_DISK_TIMEOUT_NS + 2 * NSEC_PER_SEC)
#define FLIPS_MAX           40
#define POOL_FOLDERS        256 /* of groups, on a disk */
/* Beside the clients of a round: what repairs, and what changes. */
#define TASKS        (ENGINE_LOAD_CLIENTS + 2)
#define SLOW_JOBS_NS (10 * NSEC_PER_MSEC)

enum bad_day {
	DAY_GOOD,
	DAY_VANISHED,
	DAY_ERRORS,
	DAY_SLOW,
	DAY_FULL,
	DAY_READ_ONLY,
	DAY_FLIPS,
	DAY_HUNG,
	DAY_COUNT,
};

struct simulation {
	struct engine_rig rig;
	struct engine_load load;
	struct chance chance;
	unsigned disks;
	unsigned factor; /* by the policy; this round's will be that of `next` at its end */
	unsigned floor;  /* the least this round: one copy less may be lost */
	struct pool_policy next;
	unsigned generation[ENGINE_RIG_DISKS_MAX]; /* of directories, as disks are replaced */
	bool bad[ENGINE_RIG_DISKS_MAX];            /* this round */
	bool repairing;                            /* a repairer runs, and shall end when false */
	bool stirring;                             /* so does what changes */
	bool policies;                             /* change this round */
	bool bursts;       /* of failing writes this round, on `bursting`, or on any */
	bool limits;       /* of capacity may be among them */
	bool limited;      /* this round: there was a limit of capacity */
	unsigned bursting; /* disk, or `disks`: any */
	bool replacing;    /* a disk was given up for good */
	unsigned flapping; /* disk */
	bool flipped;      /* bits, which a scrub must find */
	bool only_hangs;   /* this round: so how long a client may wait is known */
	unsigned hung; /* disks; one may begin to hang for a request when the other is found out */
};

static struct simulation *current;

static void set_day(struct simulation *simulation, unsigned disk, enum bad_day day)
{
	struct sim *sim = simulation->rig.sim.sim;
	const char *root = engine_rig_disk(disk);
	struct sim_faults faults = {0};

	if (day == DAY_VANISHED) {
		faults.read_error_ppm = faults.write_error_ppm = faults.sync_error_ppm =
			faults.metadata_error_ppm = 1000000;
	} else if (day == DAY_ERRORS) {
		faults.read_error_ppm = faults.write_error_ppm = 200000;
		faults.sync_error_ppm = faults.metadata_error_ppm = 50000;
	} else if (day == DAY_SLOW) {
		faults.slow_ppm = 1000000;
		faults.slow_ns = NSEC_PER_SEC;
	}
	sim_disk_set_faults(sim, root, &faults);
	sim_disk_set_hung(sim, root, day == DAY_HUNG);
	sim_disk_set_read_only(sim, root, day == DAY_READ_ONLY);
	sim_disk_set_taken(sim, root, day == DAY_FULL ? DISK_BYTES + GIB - MIB : 0);
}

/* Copies that may be lost beside the bursts. */
static unsigned copies_to_lose(const struct simulation *simulation)
{
	return simulation->floor - 1 - simulation->bursts;
}

/* Up to as many disks. */
static void begin_bad_days(struct simulation *simulation)
{
	unsigned count =
		(unsigned)chance_below(&simulation->chance, copies_to_lose(simulation) + 1);

	simulation->only_hangs = count > 0;
	simulation->hung = 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned disk = (unsigned)chance_below(&simulation->chance, simulation->disks);
		enum bad_day day =
			1 + (enum bad_day)chance_below(&simulation->chance, DAY_COUNT - 1);

		simulation->hung += day == DAY_HUNG && !simulation->bad[disk];
		simulation->bad[disk] = true;
		simulation->only_hangs &= day == DAY_HUNG;
		set_day(simulation, disk, day);
	}
}

static void end_bad_days(struct simulation *simulation)
{
	for (unsigned i = 0; i < simulation->disks; i++) {
		simulation->bad[i] = false;
		set_day(simulation, i, DAY_GOOD);
	}
}

static void repair_once(struct simulation *simulation)
{
	struct vdisk_repair repair = {.urgent = chance_below(&simulation->chance, 2)};

	if (simulation->rig.vdisk)
		(void)vdisk_repair(simulation->rig.vdisk, &repair); /* what is left is looked at */
}

static void repairer_run(void *arg)
{
	struct simulation *simulation = arg;

	while (simulation->repairing && !sim_is_dead(simulation->rig.sim.sim)) {
		repair_once(simulation);
		fiber_sleep(200 * NSEC_PER_MSEC);
	}
}

/* For a moment, of making files, too; the catalog is slow then, so that what goes on beside goes on
 * longer. */
static void burst(struct simulation *simulation)
{
	/* The second: some take over more than once, and pause in between. */
	static const uint64_t moments[] = {2 * NSEC_PER_MSEC, 80 * NSEC_PER_MSEC};
	struct sim *sim = simulation->rig.sim.sim;
	struct sim_faults faults = {
		.write_error_ppm = 200000 + (uint32_t)chance_below(&simulation->chance, 800001),
		.metadata_error_ppm = chance_below(&simulation->chance, 2) ? 200000 : 0};
	unsigned disk = simulation->bursting;

	if (disk == simulation->disks)
		disk = (unsigned)chance_below(&simulation->chance, simulation->disks);
	if (simulation->bad[disk])
		return;
	REACHED("sim-pool.burst");
	sim_disk_set_faults(sim, engine_rig_disk(disk), &faults);
	sim_set_slow_jobs(sim, SLOW_JOBS_NS);
	fiber_sleep(
		chance_below(&simulation->chance, moments[chance_below(&simulation->chance, 2)]));
	sim_set_slow_jobs(sim, 0);
	if (!simulation->bad[disk])
		set_day(simulation, disk, DAY_GOOD);
}

/* To the factor that comes or back to the one that was. */
static void change_policy(struct simulation *simulation)
{
	bool limits = simulation->limits && chance_below(&simulation->chance, 3) == 0;
	bool comes = chance_below(&simulation->chance, 2);
	struct pool_policy policy;
	int r;

	pool_policy_draw(&policy, &simulation->chance,
			 comes ? simulation->next.factor : simulation->factor, limits);
	simulation->limited |= limits;
	r = pool_policy_apply(&policy, &simulation->rig);
	SIM_RUN_CHECK(r == 0 || sim_is_dead(simulation->rig.sim.sim), "change the policy: %d", r);
	REACHED("sim-pool.policy");
}

static void stir_run(void *arg)
{
	static const uint64_t pauses[] = {10 * NSEC_PER_MSEC, 10 * NSEC_PER_MSEC,
					  100 * NSEC_PER_MSEC, 2 * NSEC_PER_SEC};
	struct simulation *simulation = arg;
	struct sim *sim = simulation->rig.sim.sim;

	while (simulation->stirring && !sim_is_dead(sim)) {
		bool bursts = simulation->bursts && chance_below(&simulation->chance, 4) > 0;

		if (bursts)
			burst(simulation);
		else if (simulation->policies)
			change_policy(simulation);
		if (!sim_is_dead(sim))
			fiber_sleep(chance_below(&simulation->chance,
						 pauses[chance_below(&simulation->chance, 4)]));
	}
}

/* What will be different in this round, and by how much less is lost at worst. */
static void draw_round(struct simulation *simulation)
{
	struct chance *chance = &simulation->chance;
	unsigned factor = simulation->factor;

	simulation->policies = chance_below(chance, 4) > 0;
	simulation->limits = chance_below(chance, 3) == 0;
	simulation->limited = simulation->next.limits; /* since the last round */
	if (simulation->policies && chance_below(chance, 3) == 0)
		factor =
			1 + (unsigned)chance_below(chance, MIN(simulation->disks, POOL_FACTOR_MAX));
	if (simulation->policies)
		pool_policy_draw(&simulation->next, chance, factor,
				 simulation->limits && chance_below(chance, 3) == 0);
	simulation->floor = MIN(factor, simulation->factor);
	simulation->bursts = simulation->floor > 1 && chance_below(chance, 4) == 0;
	simulation->bursting = (unsigned)chance_below(chance, simulation->disks);
	/* Flips or bad days beside would be one too many for what each disk lacks then. */
	if (simulation->floor == 2 && chance_below(chance, 2))
		simulation->bursting = simulation->disks;
	mix_draw_turn(&simulation->load.mix, chance);
}

/* As it shall be from this round on; again, where the process died before it knew. */
static int settle_policy(struct engine_rig *rig)
{
	int r = pool_policy_apply(&current->next, rig);

	SIM_RUN_CHECK(r == 0, "change the policy: %d", r);
	current->factor = current->floor = current->next.factor;
	return 0;
}

/* What the vDisk was made with becomes the container's. */
static int begin_policy(struct engine_rig *rig)
{
	const struct policy_set none = {0};

	pool_policy_draw(&current->next, &current->chance, current->factor, false);
	settle_policy(rig);
	SIM_RUN_CHECK(policy_put_vdisk(rig->catalog, rig->vdisk_id, &none) == 0, "policy");
	return 0;
}

static bool is_fault(const struct engine_load *load, int result)
{
	const struct simulation *simulation = CONTAINER_OF(load, struct simulation, load);

	return simulation->limited && result == -ENOSPC;
}

static bool is_healthy(struct simulation *simulation)
{
	struct vdisk_redundancy sum;

	vdisk_get_redundancy(simulation->rig.vdisk, &sum);
	return pool_disks_usable(simulation->rig.pool) >= simulation->factor && sum.to_copy == 0 &&
	       sum.to_drop == 0 && sum.degraded == 0 && sum.lost == 0 && sum.leaving == 0;
}

/* As an operator would, who knows that it was the cable. */
static void restore_failed(struct engine_rig *rig)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	size_t count;

	SIM_RUN_CHECK(pool_disk_list(rig->pool, &infos, &count) == 0, "list disks");
	for (size_t i = 0; i < count; i++)
		if (infos[i].state == POOL_DISK_FAILED && !infos[i].draining)
			(void)pool_disk_restore(rig->pool, infos[i].id); /* or the next time */
}

static void print_disks(struct engine_rig *rig)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	size_t count = 0;

	(void)pool_disk_list(rig->pool, &infos,
			     &count); /* without memory there is nothing to say */
	for (size_t i = 0; i < count; i++)
		fprintf(stderr,
			"disk %" PRIu64 " %s: capacity %" PRIu64 " used %" PRIu64 " files %" PRIu64
			"%s\n",
			infos[i].id, pool_disk_state_name(infos[i].state), infos[i].capacity,
			infos[i].used, infos[i].files, infos[i].draining ? " draining" : "");
}

static int heal(struct engine_rig *rig)
{
	uint64_t end = reactor_now_ns(reactor_current()) + HEAL_NS;
	struct vdisk_redundancy sum;

	/* Errors of this round are forgotten, or their disk is given up now: not in the next round,
	 * when others have their bad day. */
	fiber_sleep(POOL_DISK_WINDOW_NS + NSEC_PER_SEC);
	while (!is_healthy(current)) {
		if (!current->replacing)
			restore_failed(rig);
		repair_once(current);
		vdisk_get_redundancy(rig->vdisk, &sum);
		if (reactor_now_ns(reactor_current()) >= end)
			print_disks(rig);
		SIM_RUN_CHECK(reactor_now_ns(reactor_current()) < end,
			      "not healthy: %u disks usable of %u, to copy %" PRIu64
			      ", degraded %" PRIu64 ", lost %" PRIu64 ", leaving %" PRIu64,
			      pool_disks_usable(rig->pool), current->disks, sum.to_copy,
			      sum.degraded, sum.lost, sum.leaving);
		fiber_sleep(NSEC_PER_SEC);
	}
	return 0;
}

static enum model_crash end_world(struct simulation *simulation, struct sim_rig_task *tasks,
				  unsigned count)
{
	struct engine_rig *rig = &simulation->rig;
	bool power = chance_below(&simulation->chance, 2);

	simulation->load.crashing = true;
	sim_crash(rig->sim.sim, power ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
	SIM_RUN_CHECK(sim_rig_wait(&rig->sim, tasks, count, LIMIT_NS) == 0,
		      "clients do not end in a dead world");
	engine_rig_crashed(rig);
	simulation->load.crashing = false;
	return power ? MODEL_POWER_LOSS : MODEL_PROCESS_CRASH;
}

static void crash(struct simulation *simulation, struct sim_rig_task *tasks)
{
	enum model_crash kind = end_world(simulation, tasks, TASKS);
	/* Opening may meet a disk on its bad day; others must do. */
	int r = engine_rig_call(&simulation->rig, engine_rig_open_again);

	SIM_RUN_CHECK(r == 0, "open: %d", r);
	engine_load_verify_crash(&simulation->load, kind);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static struct pool_disk_info *disk_infos;
static size_t disk_info_count;

static int list_disks(struct engine_rig *rig)
{
	return pool_disk_list(rig->pool, &disk_infos, &disk_info_count);
}

/* Bits flip on the medium of one disk, in files of its groups. */
static int plant_flips(struct engine_rig *rig)
{
	struct simulation *simulation = current;
	unsigned disk = (unsigned)chance_below(&simulation->chance, simulation->disks);
	struct world_names names;
	char path[128];

	simulation->flipped = true;
	for (unsigned i = 0; i < FLIPS_MAX; i++) {
		unsigned folder = (unsigned)chance_below(&simulation->chance, 64);

		snprintf(path, sizeof(path), "%s/groups/%02x",
			 engine_rig_directory(disk, simulation->generation[disk]), folder);
		if (io_directory_list(path, &names) < 0)
			continue;
		if (names.count > 0) {
			size_t at = chance_below(&simulation->chance, names.count);
			size_t length = strlen(path);

			snprintf(path + length, sizeof(path) - length, "/%s", names.names[at]);
			(void)sim_disk_flip(rig->sim.sim, path,
					    chance_below(&simulation->chance, 2 * MIB), 3);
		}
		world_names_free(&names);
	}
	return 0;
}

static void on_finding(void *arg, const struct vdisk_finding *finding)
{
	(void)arg;
	SIM_RUN_CHECK(finding->put_right || finding->disk != 0,
		      "scrub: lost: group %" PRIu64 " slot %" PRIu32 " disk %" PRIu64 " error %d",
		      finding->group, finding->slot, finding->disk, finding->error);
}

static void scrub(struct engine_rig *rig, struct vdisk_scrub *scrub)
{
	int r = vdisk_scrub(rig->vdisk, scrub);

	SIM_RUN_CHECK(r == 0, "scrub: %d", r);
	SIM_RUN_CHECK(scrub->damaged == 0, "scrub: %" PRIu64 " blocks are lost", scrub->damaged);
}

/* The first finds all that is wrong and puts it right: the second finds nothing. */
static int scrub_twice(struct engine_rig *rig)
{
	struct vdisk_scrub first = {.finding = on_finding}, second = first;

	/* What is still open is not looked at. */
	SIM_RUN_CHECK(engine_rig_close_vdisk(rig) == 0 && engine_rig_open_vdisk(rig) == 0,
		      "close and open");
	scrub(rig, &first);
	scrub(rig, &second);
	SIM_RUN_CHECK(second.put_right == 0, "a second scrub put %" PRIu64 " blocks right",
		      second.put_right);
	current->flipped = false;
	/* Disks that gave wrong data are avoided for a while. */
	return heal(rig);
}

static int drain_one(struct engine_rig *rig)
{
	struct simulation *simulation = current;
	unsigned disk = (unsigned)chance_below(&simulation->chance, simulation->disks);
	struct pool_disk_spec spec = {.capacity_bytes = DISK_BYTES};
	uint64_t id;
	int r = pool_disk_find(rig->pool, engine_rig_directory(disk, simulation->generation[disk]),
			       &id);

	SIM_RUN_CHECK(r == 0, "find disk %u: %d", disk, r);
	if (simulation->factor == 1 || chance_below(&simulation->chance, 2)) {
		r = pool_disk_set_draining(rig->pool, id, true);
		SIM_RUN_CHECK(r == 0, "drain: %d", r);
	} else {
		r = pool_disk_fail(rig->pool, id);
		SIM_RUN_CHECK(r == 0, "fail: %d", r);
	}
	spec.directory = engine_rig_directory(disk, ++simulation->generation[disk]);
	r = pool_disk_add(rig->pool, &spec, &(uint64_t){0});
	SIM_RUN_CHECK(r == 0, "add: %d", r);
	simulation->replacing = true;
	heal(rig);
	simulation->replacing = false;
	r = pool_disk_remove(rig->pool, id);
	SIM_RUN_CHECK(r == 0, "remove: %d", r);
	REACHED("sim-pool.disk-replaced");
	return 0;
}

/* A disk that hangs is waited for once: by a read, a write, or what a write waits for. */
static void check_waits(const struct simulation *simulation)
{
	if (!simulation->only_hangs || simulation->bursts || simulation->limited)
		return;
	REACHED("sim-pool.hang-waited");
	SIM_RUN_CHECK(simulation->load.longest_ns <= HANG_WAIT_NS(simulation->hung),
		      "a client waited %" PRIu64 " ms for a disk that hangs",
		      simulation->load.longest_ns / NSEC_PER_MSEC);
}

static void start_beside(struct simulation *simulation, struct sim_rig_task tasks[2])
{
	simulation->repairing = simulation->stirring = true;
	tasks[0] = (struct sim_rig_task){.run = repairer_run, .arg = simulation};
	tasks[1] = (struct sim_rig_task){.run = stir_run, .arg = simulation};
	for (unsigned i = 0; i < 2; i++)
		sim_rig_start(&simulation->rig.sim, 0, &tasks[i]);
}

static void round_run(struct simulation *simulation)
{
	struct engine_rig *rig = &simulation->rig;
	struct sim_rig_task tasks[TASKS];
	uint64_t fate = chance_below(&simulation->chance, 4);
	uint64_t until = chance_below(&simulation->chance, 400 * NSEC_PER_MSEC);

	simulation->only_hangs = false;
	simulation->load.longest_ns = 0;
	draw_round(simulation);
	start_beside(simulation, &tasks[ENGINE_LOAD_CLIENTS]);
	engine_load_start(&simulation->load, tasks, 15, 60);
	(void)sim_run_until(rig->sim.sim, never, NULL,
			    chance_below(&simulation->chance, 200 * NSEC_PER_MSEC));
	/* Not both: with two copies, a flip on one and a bad day of the other are one too many. */
	if (copies_to_lose(simulation) > 0 && chance_below(&simulation->chance, 4) == 0)
		engine_rig_call(rig, plant_flips);
	else
		begin_bad_days(simulation);
	(void)sim_run_until(rig->sim.sim, never, NULL, until);
	if (fate == 0) {
		crash(simulation, tasks);
	} else {
		int r = sim_rig_wait(&rig->sim, tasks, ENGINE_LOAD_CLIENTS, LIMIT_NS);

		SIM_RUN_CHECK(r == 0, "clients do not end: %d", r);
		check_waits(simulation);
		simulation->repairing = simulation->stirring = false;
		r = sim_rig_wait(&rig->sim, tasks, TASKS, LIMIT_NS);
		SIM_RUN_CHECK(r == 0, "the repair does not end: %d", r);
		engine_load_verify(&simulation->load);
	}
	simulation->repairing = simulation->stirring = false;
	end_bad_days(simulation);
	engine_rig_call(rig, settle_policy);
	engine_rig_call(rig, heal);
	if (simulation->flipped)
		engine_rig_call(rig, scrub_twice);
	engine_load_verify(&simulation->load);
	if (simulation->disks > simulation->factor && chance_below(&simulation->chance, 3) == 0)
		engine_rig_call(rig, drain_one);
}

/* What comes is to meet no refusal any more. */
static void end_rounds(struct simulation *simulation)
{
	simulation->limited = simulation->bursts = false;
	pool_policy_draw(&simulation->next, &simulation->chance, simulation->factor, false);
	engine_rig_call(&simulation->rig, settle_policy);
}

static struct pool_disk_info *flapping_disk(struct engine_rig *rig)
{
	static struct pool_disk_info info;
	const char *directory =
		engine_rig_directory(current->flapping, current->generation[current->flapping]);
	uint64_t id;

	SIM_RUN_CHECK(pool_disk_find(rig->pool, directory, &id) == 0, "find %s", directory);
	SIM_RUN_CHECK(list_disks(rig) == 0, "list disks");
	for (size_t i = 0; i < disk_info_count; i++)
		if (disk_infos[i].id == id)
			info = disk_infos[i];
	free(disk_infos);
	disk_infos = NULL;
	return &info;
}

/* Clients or what tends to the disk find out. */
static int wait_for_silence(struct engine_rig *rig)
{
	uint64_t end = reactor_now_ns(reactor_current()) + POOL_DISK_WINDOW_NS;

	while (flapping_disk(rig)->silent_ns == 0 &&
	       flapping_disk(rig)->state != POOL_DISK_FAILED) {
		SIM_RUN_CHECK(reactor_now_ns(reactor_current()) < end,
			      "a disk that hangs is not found out");
		fiber_sleep(NSEC_PER_SEC);
	}
	return 0;
}

static int wait_for_return(struct engine_rig *rig)
{
	/* The next is another time then. */
	fiber_sleep(POOL_DISK_WINDOW_NS + NSEC_PER_SEC);
	SIM_RUN_CHECK(flapping_disk(rig)->silent_ns == 0, "a disk that answers counts as silent");
	return 0;
}

static bool has_failed;

static int look_whether_failed(struct engine_rig *rig)
{
	has_failed = flapping_disk(rig)->state == POOL_DISK_FAILED;
	return 0;
}

static void hang_once(struct simulation *simulation)
{
	struct engine_rig *rig = &simulation->rig;
	struct sim_rig_task tasks[ENGINE_LOAD_CLIENTS];
	int r;

	simulation->load.longest_ns = 0;
	engine_load_start(&simulation->load, tasks, 5, 10);
	set_day(simulation, simulation->flapping, DAY_HUNG);
	r = sim_rig_wait(&rig->sim, tasks, ENGINE_LOAD_CLIENTS, LIMIT_NS);
	SIM_RUN_CHECK(r == 0, "clients do not end: %d", r);
	SIM_RUN_CHECK(simulation->load.longest_ns <= HANG_WAIT_NS(1),
		      "a client waited %" PRIu64 " ms for a disk that hangs again",
		      simulation->load.longest_ns / NSEC_PER_MSEC);
	engine_rig_call(rig, wait_for_silence);
	engine_load_verify(&simulation->load);
	set_day(simulation, simulation->flapping, DAY_GOOD);
	engine_rig_call(rig, wait_for_return);
}

/* One that hangs and returns, again and again, has failed by itself, and nobody noticed more than
 * the pauses; then somebody repairs it. */
static void flap(struct simulation *simulation, uint64_t seed)
{
	struct engine_rig *rig = &simulation->rig;

	if (simulation->factor == 1 || simulation->disks == simulation->factor)
		return;
	simulation->flapping = (unsigned)(seed % simulation->disks);
	has_failed = false;
	/* Silences of the rounds count, too. */
	for (unsigned i = 0; i < POOL_DISK_FATAL_SILENCES && !has_failed; i++) {
		hang_once(simulation);
		engine_rig_call(rig, look_whether_failed);
	}
	SIM_RUN_CHECK(has_failed, "a disk that hangs again and again has not failed");
	REACHED("sim-pool.flapped");
	engine_rig_call(rig, heal);
	engine_load_verify(&simulation->load);
}

/* The last resort */

static int fail_one(struct engine_rig *rig)
{
	struct pool_disk_info *info;

	/* All is sealed: a copy there has what was written. */
	SIM_RUN_CHECK(engine_rig_close_vdisk(rig) == 0 && engine_rig_open_vdisk(rig) == 0,
		      "close and open");
	info = flapping_disk(rig);
	SIM_RUN_CHECK(pool_disk_fail(rig->pool, info->id) == 0, "fail disk %" PRIu64, info->id);
	return 0;
}

static int restart(struct engine_rig *rig)
{
	engine_rig_stop(rig);
	return engine_rig_open_again(rig);
}

static void start_again(struct simulation *simulation)
{
	struct engine_rig *rig = &simulation->rig;
	int r;

	if (chance_below(&simulation->chance, 2)) {
		r = engine_rig_call(rig, engine_rig_close_vdisk);
		SIM_RUN_CHECK(r == 0, "close: %d", r);
		r = engine_rig_call(rig, restart);
	} else {
		engine_rig_crash(rig, SIM_CRASH_PROCESS);
		r = engine_rig_call(rig, engine_rig_open_again);
	}
	SIM_RUN_CHECK(r == 0, "open with a failed disk: %d", r);
}

static unsigned damaged_disk;

static int flip_everywhere(struct engine_rig *rig)
{
	char path[128];

	for (unsigned folder = 0; folder < POOL_FOLDERS; folder++) {
		struct world_names names;
		size_t length = (size_t)snprintf(
			path, sizeof(path), "%s/groups/%02x",
			engine_rig_directory(damaged_disk, current->generation[damaged_disk]),
			folder);

		if (io_directory_list(path, &names) < 0)
			continue;
		for (size_t i = 0; i < names.count; i++) {
			snprintf(path + length, sizeof(path) - length, "/%s", names.names[i]);
			for (uint64_t at = 0; at < 8 * MIB; at += 64 * KIB)
				(void)sim_disk_flip(rig->sim.sim, path, at + 99, 3);
		}
		world_names_free(&names);
	}
	return 0;
}

/* As many as may be lost beside none: with the failed disk's there still is a copy of all. */
static void damage_others(struct simulation *simulation, unsigned first, bool flips)
{
	for (unsigned i = 0; i < simulation->factor - 1; i++) {
		/* Around the failed one. */
		damaged_disk = (simulation->flapping + 1 + (first + i) % (simulation->disks - 1)) %
			       simulation->disks;
		if (flips)
			engine_rig_call(&simulation->rig, flip_everywhere);
		else
			set_day(simulation, damaged_disk, DAY_VANISHED);
	}
}

static int repair_from_failed(struct engine_rig *rig)
{
	uint64_t end = reactor_now_ns(reactor_current()) + HEAL_NS;
	struct vdisk_redundancy sum;

	fiber_sleep(POOL_DISK_WINDOW_NS + NSEC_PER_SEC); /* it is known which have gone */
	for (;;) {
		struct vdisk_repair repair = {.urgent = VDISK_REPAIR_RESORT};

		(void)vdisk_repair(rig->vdisk, &repair); /* what is left is looked at */
		vdisk_get_redundancy(rig->vdisk, &sum);
		if (sum.lost == 0)
			break;
		SIM_RUN_CHECK(reactor_now_ns(reactor_current()) < end,
			      "not copied from a failed disk: %" PRIu64 " of %" PRIu64, sum.resort,
			      sum.lost);
		fiber_sleep(NSEC_PER_SEC);
	}
	SIM_RUN_CHECK(flapping_disk(rig)->state == POOL_DISK_FAILED,
		      "reads changed the state of a failed disk");
	return 0;
}

static void resort(struct simulation *simulation, uint64_t seed)
{
	struct engine_rig *rig = &simulation->rig;
	unsigned first = (unsigned)chance_below(&simulation->chance, simulation->disks);
	uint64_t kind = chance_below(&simulation->chance, 4);
	bool flips = kind >= 2;

	if (simulation->factor == 1 || simulation->disks == simulation->factor)
		return;
	simulation->flapping = (unsigned)(seed / 4 % simulation->disks);
	engine_rig_call(rig, heal);
	engine_rig_call(rig, fail_one);
	if (kind == 0)
		damage_others(simulation, first, false);
	start_again(simulation);
	if (kind != 0) {
		engine_load_verify(&simulation->load); /* files are open, but for what failed */
		damage_others(simulation, first, flips);
	}
	engine_load_verify(&simulation->load);
	REACHED("sim-pool.last-resort");
	if (!flips) {
		engine_rig_call(rig, repair_from_failed);
		/* Now it is not missed. */
		set_day(simulation, simulation->flapping, DAY_VANISHED);
		engine_load_verify(&simulation->load);
	}
	end_bad_days(simulation);
	engine_rig_call(rig, heal);
	if (flips)
		engine_rig_call(rig, scrub_twice);
	engine_load_verify(&simulation->load);
}

/* Without a disk to write to */

/* While the vDisk is closed: the end of its log is as the crash left it. */
static int fail_closed(struct engine_rig *rig)
{
	SIM_RUN_CHECK(engine_rig_start(rig) == 0, "start");
	SIM_RUN_CHECK(pool_disk_fail(rig->pool, flapping_disk(rig)->id) == 0, "fail a disk");
	engine_rig_stop(rig);
	return 0;
}

/* What the failed disk is asked to write, or to sync, is an error that counts. */
static int look_stranded(struct engine_rig *rig)
{
	_cleanup_free_ char *block = aligned_alloc(4096, 4096);
	struct pool_disk_info *info;
	struct vdisk_info before, after;

	SIM_RUN_CHECK(block && pool_is_stranded(rig->pool) && vdisk_is_stranded(rig->vdisk),
		      "not stranded");
	SIM_RUN_CHECK(vdisk_get(rig->catalog, rig->vdisk_id, &before) == 0, "get");
	memset(block, 0, 4096);
	SIM_RUN_CHECK(block_io(rig->volume, BLOCK_WRITE, 0, block, 4096, 0) == -EROFS, "write");
	fiber_sleep(POOL_DISK_WINDOW_NS / 2);
	info = flapping_disk(rig);
	SIM_RUN_CHECK(info->state == POOL_DISK_FAILED && info->health.write_errors == 0 &&
			      info->health.sync_errors == 0,
		      "written to a failed disk");
	SIM_RUN_CHECK(vdisk_get(rig->catalog, rig->vdisk_id, &after) == 0 &&
			      after.epoch == before.epoch,
		      "a new epoch without a disk");
	return 0;
}

static int take_back(struct engine_rig *rig)
{
	uint64_t end = reactor_now_ns(reactor_current()) + HEAL_NS;
	int r = pool_disk_restore(rig->pool, flapping_disk(rig)->id);

	SIM_RUN_CHECK(r == 0, "restore: %d", r);
	while (vdisk_is_stranded(rig->vdisk)) {
		SIM_RUN_CHECK(reactor_now_ns(reactor_current()) < end, "it stays stranded");
		fiber_sleep(NSEC_PER_SEC / 10);
	}
	return 0;
}

/* All have all, the end of the log, too; then one has failed, and the others are away. */
static void strand(struct simulation *simulation, uint64_t seed)
{
	struct sim_faults faults = {.write_error_ppm = 1000000, .sync_error_ppm = 1000000};
	struct engine_rig *rig = &simulation->rig;
	struct sim_rig_task tasks[ENGINE_LOAD_CLIENTS];
	enum model_crash kind;
	int r;

	if (simulation->factor == 1 || simulation->disks != simulation->factor)
		return;
	simulation->flapping = (unsigned)(seed / 4 % simulation->disks);
	engine_rig_call(rig, heal);
	engine_load_start(&simulation->load, tasks, 5, 20);
	(void)sim_run_until(rig->sim.sim, never, NULL,
			    chance_below(&simulation->chance, 200 * NSEC_PER_MSEC));
	kind = end_world(simulation, tasks, ENGINE_LOAD_CLIENTS);
	engine_rig_call(rig, fail_closed);
	for (unsigned i = 0; i < simulation->disks; i++)
		set_day(simulation, i, i == simulation->flapping ? DAY_GOOD : DAY_VANISHED);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(simulation->flapping), &faults);
	r = engine_rig_call(rig, engine_rig_open_again);
	SIM_RUN_CHECK(r == 0, "open without a disk to write to: %d", r);
	engine_load_verify_crash(&simulation->load, kind);
	engine_rig_call(rig, look_stranded);
	set_day(simulation, simulation->flapping, DAY_GOOD);
	REACHED("sim-pool.stranded");
	if (chance_below(&simulation->chance, 2)) {
		/* What was shown after a crash of the process alone has not been synced. */
		engine_rig_crash(rig,
				 kind == MODEL_POWER_LOSS ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
		r = engine_rig_call(rig, engine_rig_open_again);
		SIM_RUN_CHECK(r == 0, "open again: %d", r);
	}
	engine_rig_call(rig, take_back);
	engine_load_verify(&simulation->load);
	end_bad_days(simulation);
	engine_rig_call(rig, heal);
	engine_load_verify(&simulation->load);
}

static int delete_all(struct engine_rig *rig)
{
	struct pool_space space;
	int r = vdisk_delete(rig->pool, rig->vdisk_id, NULL, NULL);

	SIM_RUN_CHECK(r == 0, "delete: %d", r);
	/* What could not be removed from a disk on its bad day is swept away by the next start. */
	engine_rig_stop(rig);
	r = engine_rig_start(rig);
	SIM_RUN_CHECK(r == 0, "start: %d", r);
	pool_get_space(rig->pool, &space);
	SIM_RUN_CHECK(space.used == 0 && space.live == 0 && space.admitted == 0,
		      "after the delete: used %" PRIu64 ", live %" PRIu64 ", admitted %" PRIu64,
		      space.used, space.live, space.admitted);
	SIM_RUN_CHECK(list_disks(rig) == 0 && disk_info_count == current->disks, "disks: %zu of %u",
		      disk_info_count, current->disks);
	for (size_t i = 0; i < disk_info_count; i++)
		SIM_RUN_CHECK(disk_infos[i].used == 0 && disk_infos[i].files == 0,
			      "disk %" PRIu64 ": used %" PRIu64, disk_infos[i].id,
			      disk_infos[i].used);
	free(disk_infos);
	engine_rig_stop(rig);
	return 0;
}

static void simulation_init(struct simulation *simulation, uint64_t seed, bool trace)
{
	memset(simulation, 0, sizeof(*simulation));
	chance_init(&simulation->chance, seed * 2 + 1);
	simulation->factor = 1 + (unsigned)chance_below(&simulation->chance, POOL_FACTOR_MAX);
	simulation->disks = simulation->factor +
			    (unsigned)chance_below(&simulation->chance,
						   chance_below(&simulation->chance, 8) ? 3 : 10);
	simulation->load.max_bytes = simulation->load.size_bytes = SIZE_BYTES;
	simulation->load.retries = true;
	simulation->load.spread = chance_below(&simulation->chance, 2) ? 1 : 40;
	mix_init(&simulation->load.mix, &simulation->chance, false);
	engine_rig_init(&simulation->rig, seed, trace, DISK_BYTES);
	engine_rig_set_disks(&simulation->rig, simulation->disks, simulation->factor);
	simulation->load.is_fault = is_fault;
	engine_load_init(&simulation->load, &simulation->rig, &simulation->chance, seed);
	simulation->rig.vdisk_bytes = simulation->load.size_bytes * simulation->load.spread;
	/* Two tiers, as far as there are disks; what is written in sequence goes the other way. */
	for (unsigned i = 0; i < simulation->disks; i++)
		simulation->rig.tiers[i] = i % 2 ? "hdd" : "ssd";
	simulation->rig.tier_order_sequential = 0x12;
	current = simulation;
}

static uint64_t run(uint64_t seed, bool trace)
{
	static struct simulation simulation;
	uint64_t hash;
	int r;

	if (!trace)
		log_set_level(LOG_LEVEL_ERROR + 1);
	simulation_init(&simulation, seed, trace);
	r = engine_rig_call(&simulation.rig, engine_rig_bring_up);
	SIM_RUN_CHECK(r == 0, "bring up: %d", r);
	engine_rig_call(&simulation.rig, begin_policy);
	for (unsigned i = 0; i < ROUNDS; i++)
		round_run(&simulation);
	end_rounds(&simulation);
	if (seed % 4 == 1)
		flap(&simulation, seed);
	if (seed % 4 == 2)
		resort(&simulation, seed);
	if (seed % 4 == 3)
		strand(&simulation, seed);
	engine_load_check_clean(&simulation.load);
	r = engine_rig_call(&simulation.rig, engine_rig_close_vdisk);
	SIM_RUN_CHECK(r == 0, "close: %d", r);
	r = engine_rig_call(&simulation.rig, engine_rig_open_again);
	SIM_RUN_CHECK(r == 0, "open: %d", r);
	engine_load_verify(&simulation.load);
	r = engine_rig_call(&simulation.rig, engine_rig_close_vdisk);
	SIM_RUN_CHECK(r == 0, "close: %d", r);
	engine_rig_call(&simulation.rig, delete_all);
	hash = sim_trace_hash(simulation.rig.sim.sim);
	engine_load_done(&simulation.load);
	engine_rig_done(&simulation.rig);
	return hash;
}

static const char *const must_reach[] = {
	"egroup.copy-stale",    "egroup.last-resort",
	"egroup.put-right",     "log.record-replaced",
	"log.reroute",          "pool.disk-silent",
	"pool.silent-missing",  "pool.write-given-up",
	"recover.make-equal",   "repair.copy-dropped",
	"repair.copy-made",     "repair.seal",
	"repair.two-files",     "sim-pool.disk-replaced",
	"sim-pool.flapped",     "sim-pool.hang-waited",
	"sim-pool.last-resort", "sim-pool.burst",
	"sim-pool.policy",      "request.no-space",
	"log.other-tiers",      "pool.tier-refused",
	"pool.tier-beyond",     NULL,
};

int main(int argc, char **argv)
{
	static const struct sim_run_program program = {
		.name = "sim_pool", .run = run, .must_reach = must_reach, .limit_seconds = 300};

	return sim_run_main(argc, argv, &program);
}
