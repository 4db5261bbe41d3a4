/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An engine in a simulated world, for tests: one disk with the catalog and the pool, or, with
 * `disks`, that many disks of the pool besides; a container, and one vDisk. All calls but init and
 * done are made in fibers of reactor 0.
 */
#include "pool/policy.h"
#include "sim_rig.h"
#include "vdisk/vdisk.h"

#define ENGINE_RIG_DISK      "/disk0" /* the catalog's */
#define ENGINE_RIG_DISKS_MAX 12

struct engine_rig {
	struct sim_rig sim;
	uint64_t capacity_bytes; /* of the pool */
	uint64_t budget_bytes;   /* of the cache */
	unsigned disks;          /* of the pool, each a simulated one; 0 = the catalog's */
	unsigned factor;         /* copies; 0 = 1 */
	const char *tiers[ENGINE_RIG_DISKS_MAX]; /* of the disks; NULL: the default's */
	uint64_t tier_order_sequential;          /* of the vDisk; 0: the default */
	uint64_t vdisk_bytes; /* for engine_rig_make() and engine_rig_bring_up() */
	struct catalog *catalog;
	struct pool *pool;
	uint64_t pool_id, container_id, vdisk_id;
	struct vdisk_cache *cache;
	struct vdisk *vdisk;
	struct block_volume *volume;
};

void engine_rig_init(struct engine_rig *rig, uint64_t seed, bool trace, uint64_t capacity_bytes);
/* With more reactors than the engine's, for a test's own purposes. */
void engine_rig_init_with(struct engine_rig *rig, const struct sim_options *options,
			  uint64_t capacity_bytes, unsigned reactors);
/* Before engine_rig_create(): `disks` of `capacity_bytes` each for the pool, and the factor. */
void engine_rig_set_disks(struct engine_rig *rig, unsigned disks, unsigned factor);
/* The root of the pool's n-th disk, and a directory there for the pool; static memory. */
const char *engine_rig_disk(unsigned n);
const char *engine_rig_directory(unsigned n, unsigned generation);
/* Of the pool that is open. */
uint64_t engine_rig_disk_id(struct engine_rig *rig, unsigned number);

#define ENGINE_RIG_PIECE MIB
/* Writes a piece of such bytes at `at` of the vDisk that is open, and flushes. */
int engine_rig_write_piece(struct engine_rig *rig, uint8_t byte, uint64_t at);
/* What is read is nothing else; an error is returned. */
int engine_rig_read_piece(struct engine_rig *rig, uint8_t byte, uint64_t at);
void engine_rig_done(struct engine_rig *rig);
/* Makes catalog, pool and container. */
int engine_rig_create(struct engine_rig *rig);
/* Opens catalog and pool. */
int engine_rig_start(struct engine_rig *rig);
/* Of the container, that and nothing else; in a fiber, while the pool is open. */
void engine_rig_set_policy(struct engine_rig *rig, enum policy_property property, uint64_t value);
/* Makes everything, and a vDisk; closed, or open. */
int engine_rig_make(struct engine_rig *rig);
int engine_rig_bring_up(struct engine_rig *rig);
/* Opens what is not open of catalog and pool, and the vDisk. */
int engine_rig_open_again(struct engine_rig *rig);
/* Closes whatever is open. */
void engine_rig_stop(struct engine_rig *rig);
int engine_rig_create_vdisk(struct engine_rig *rig, const char *name, uint64_t size_bytes);
int engine_rig_open_vdisk(struct engine_rig *rig);
/* Closes; the error of the last checkpoint. */
int engine_rig_close_vdisk(struct engine_rig *rig);
/* Crashes, closes everything, and restarts the world. Not from a fiber. */
void engine_rig_crash(struct engine_rig *rig, enum sim_crash kind);
/* The second half: after sim_crash(), when the test's own fibers have ended. */
void engine_rig_crashed(struct engine_rig *rig);
/* Runs fn(rig) in a fiber of reactor 0 until it returns. */
int engine_rig_call(struct engine_rig *rig, int (*fn)(struct engine_rig *rig));
