/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The simulated world: one thread, virtual time, one seed. See world.h for the interface it serves.
 *
 * The seed decides every delay, the order in which completions, messages and timers of different
 * ports run, which faults happen and what a loss of power leaves behind. No decision depends on an
 * address or on real time, so a seed replays exactly and sim_trace_hash() of two runs is equal.
 *
 * Disks. Every path lives on the disk whose root is its longest registered prefix (sim_disk_add()).
 * A disk keeps for each file what is durable and, in order of completion, what was written since
 * the last sync. On power loss each unsynced 512-byte sector of each write survives or not by the
 * seed; unsynced directory operations survive as a prefix of their order per directory. On a
 * process crash everything completed survives, and writes in flight survive in part or whole, even
 * late: until sim_restart() returns.
 */
#include "world/world.h"

struct sim;

struct sim_faults {              /* chances in parts per million for one operation */
	uint32_t read_error_ppm; /* -EIO, or read_error if that is not 0 */
	int read_error;
	uint32_t write_error_ppm; /* -EIO, part of the data may have been written */
	uint32_t sync_error_ppm;  /* -EIO; what was unsynced may be lost, later syncs succeed */
	uint32_t bit_flip_ppm;    /* a read (not of SQLite) returns one flipped bit */
	uint32_t slow_ppm;        /* takes up to slow_ns */
	uint64_t slow_ns;
	uint32_t metadata_error_ppm; /* open, rename, unlink, resize, directory sync: -EIO */
};

struct sim_network_faults { /* chances for one operation of a socket */
	uint32_t drop_ppm; /* the connection is reset: -ECONNRESET at both ends, or -ECONNREFUSED */
	uint32_t slow_ppm; /* takes up to slow_ns */
	uint64_t slow_ns;
};

struct sim_options {
	uint64_t seed;
	uint64_t min_latency_ns, max_latency_ns; /* of one operation; 0,0 = the seed draws them */
	bool trace;                              /* print each event to stderr */
};

enum sim_crash {
	SIM_CRASH_PROCESS, /* the process dies; the kernel and the disks live */
	SIM_CRASH_POWER,
};

/* -EBUSY while another simulation exists in this process. */
int sim_new(const struct sim_options *options, struct sim **ret_sim);
/* All ports are closed. */
void sim_free(struct sim *sim);
struct world *sim_world(struct sim *sim);

/* A disk with `capacity_bytes`, all directories and files under `root`. root itself exists,
 * durable. */
int sim_disk_add(struct sim *sim, const char *root, uint64_t capacity_bytes);
/* A mix for this run, from the tests' stream: each kind is absent in half of the runs, else up to
 * `most_ppm` frequent; slow operations take up to 50 ms. */
void sim_draw_faults(struct sim *sim, uint32_t most_ppm, struct sim_faults *ret_faults);
void sim_disk_set_faults(struct sim *sim, const char *root, const struct sim_faults *faults);
void sim_disk_set_capacity(struct sim *sim, const char *root, uint64_t capacity_bytes);
/* What others have on it; it keeps its size. */
void sim_disk_set_taken(struct sim *sim, const char *root, uint64_t taken_bytes);
void sim_disk_set_read_only(struct sim *sim, const char *root, bool read_only);
/* Nothing is found below the root any more (-ENOENT), and open files fail (-EIO), until it is back.
 * Not for the catalog's disk. */
void sim_disk_set_missing(struct sim *sim, const char *root, bool missing);
/* What is under way on the disk, or is begun there, does not end until it hangs no more, or there
 * is a crash; some of it has had its effect before. SQLite's files are no part of this. */
void sim_disk_set_hung(struct sim *sim, const char *root, bool hung);
/* Damages the medium itself: flips bit `bit` of the byte at `offset`. -ENOENT, -ERANGE. */
int sim_disk_flip(struct sim *sim, const char *path, uint64_t offset, unsigned bit);
void sim_network_set_faults(struct sim *sim, const struct sim_network_faults *faults);
/* From now on a worker takes up to so much longer for each job: so do commits of the catalog. */
void sim_set_slow_jobs(struct sim *sim, uint64_t at_most_ns);

/* Fails the n-th following file operation (1 = the next) of any kind with `error`; 0 disarms.
 * Returns nothing; sim_fault_hit() tells whether it has happened. For fault sweeps. */
void sim_fail_nth(struct sim *sim, uint64_t n, int error);
bool sim_fault_hit(const struct sim *sim);
/*
 * Crashes at the n-th following file operation (1 = the next), also in the middle of a
 * worker's job: it fails with -ESHUTDOWN, a write may land in part. 0 disarms.
 */
void sim_crash_nth(struct sim *sim, uint64_t n, enum sim_crash kind);
/* How many operations are left until that; 0 when it is disarmed or has happened. */
uint64_t sim_crash_left(const struct sim *sim);

/*
 * Runs events until `done(arg)` is true (checked after each event; true at once returns at
 * once), nothing is left to run, or `limit_ns` of virtual time have passed. 0, -EDEADLK,
 * -ETIMEDOUT.
 *
 * A port has a turn at the start, when a completion, a message or its deadline is due, and
 * once more after each turn in which world_port_wait() ran something or its deadline had come:
 * so the deadline that a port is known to wait for is the one it gave when it had nothing to
 * do.
 */
int sim_run_until(struct sim *sim, bool (*done)(void *arg), void *arg, uint64_t limit_ns);

/* The same sequence of decisions for tests' own choices, on a stream separate from the world's. */
uint64_t sim_random(struct sim *sim);
/* Uniform in [0, bound). bound > 0. */
uint64_t sim_random_below(struct sim *sim, uint64_t bound);

/*
 * Kills the world: every pending operation completes with -ESHUTDOWN, later ones too. The
 * owner then runs until its fibers have unwound, frees its objects, closes its ports and calls
 * sim_restart(), which decides what survived and makes the world usable again (time goes on).
 * Files and sockets that are still open are closed by sim_restart(). A crash of a dead world
 * may only turn a process crash into a loss of power.
 */
void sim_crash(struct sim *sim, enum sim_crash kind);
bool sim_is_dead(const struct sim *sim);
void sim_restart(struct sim *sim);

uint64_t sim_trace_hash(const struct sim *sim);

/* SQLite VFS over the simulated disks (name "sim"); registered by sim_new(), one sim at a time.
 * Synchronous: advances no time. Subject to the disk's faults, capacity and crash rules. */
#define SIM_VFS_NAME "sim"
