/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A simulated world with a catalog on one disk and a place for pools on another. Functions that
 * take part are called from fibers of reactor 0 and check with ASSERT().
 */
#include "pool/container.h"
#include "pool/pool.h"
#include "pool/pool_disk.h"
#include "pool_calls.h"
#include "reactor/io.h"
#include "sim_rig.h"

#define POOL_RIG_STATE      "/state"
#define POOL_RIG_DISK       "/disk"
#define POOL_RIG_DIRECTORY  POOL_RIG_DISK "/pool"
#define POOL_RIG_DISK_BYTES (2 * GIB)

struct pool_rig {
	struct sim_rig sim;
	struct catalog *catalog;
	struct pool *pool;
	uint64_t pool_id;
};

/* cmocka's; the log is silent meanwhile. */
int pool_rig_setup(void **state);
int pool_rig_teardown(void **state);
/* The same without cmocka, for sweeps. */
struct pool_rig *pool_rig_new(uint64_t disk_bytes);
void pool_rig_free(struct pool_rig *rig);

/* Runs fn(rig) in a fiber of reactor 0. */
void pool_rig_run(struct pool_rig *rig, void (*fn)(void *rig));

int pool_rig_open_catalog(struct pool_rig *rig);
int pool_rig_create(struct pool_rig *rig, const char *name, const char *directory,
		    uint64_t capacity_bytes, uint64_t *ret_id);
/* Opens the catalog, makes the pool "p" if it is not there, opens it. 0 or the first error. */
int pool_rig_open(struct pool_rig *rig, uint64_t capacity_bytes);
void pool_rig_close(struct pool_rig *rig); /* what is open of pool and catalog */

/* Commits the row that names the file, as the engine would; and removes it. */
int pool_rig_name(struct pool_rig *rig, const struct pool_file *file);
int pool_rig_unname(struct pool_rig *rig, uint64_t file_id);
/* Writes a page full of `byte` at the start and syncs; reads its first byte. */
int pool_rig_write(struct pool_file *file, uint8_t byte);
int pool_rig_read(struct pool_file *file, uint8_t *ret_byte);

/* A file of 1 MiB with as many copies. */
struct pool_file *pool_rig_take(struct pool_rig *rig, unsigned copies);
/* Opens it with disks 1 and 2 (on a disk of the simulation at /disk2): a file that is on both. */
struct pool_file *pool_rig_begin_two(struct pool_rig *rig);
/* Which copy of the file is on that disk. */
unsigned pool_rig_copy_on(const struct pool_file *file, uint64_t disk);
struct pool_disk_info pool_rig_disk(struct pool_rig *rig, uint64_t id);

struct pool_space pool_rig_space(struct pool_rig *rig);
const char *pool_rig_state(struct pool_rig *rig);
