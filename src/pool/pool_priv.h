/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Shared by the pool_*.c files. */
#include <stdatomic.h>

#include "pool/pool.h"
#include "pool/pool_label.h"
#include "pool/pool_table.h"
#include "reactor/fiber.h"

#define POOL_PAGE_BYTES      (4 * KIB)
#define POOL_GROUP_BYTES_MIN MIB
#define POOL_DIRECTORIES     256
#define POOL_SPARES_MAX      64

enum pool_state { POOL_ONLINE, POOL_FULL, POOL_READ_ONLY };

struct pool_spare {
	struct list_node link;
	uint64_t id;
	uint64_t size_bytes;
};

struct pool_path {
	char text[4096];
};

struct pool {
	struct world *world;
	struct catalog *catalog;
	struct reactor *home;
	uint64_t id, disk_id;
	uint8_t uuid[POOL_UUID_BYTES];
	char name[POOL_NAME_MAX + 1];
	char *directory;
	char file_counter[40]; /* of the catalog: ids of files */

	/* Constant while the pool is open. */
	uint64_t capacity, group_bytes, reserve, limit, pressure_level;

	/* Any reactor reads them; `used` and `spare` change on the home reactor only. */
	_Atomic uint64_t used, spare, admitted;
	_Atomic int64_t live;
	_Atomic int state; /* enum pool_state */

	/* Home reactor. */
	struct pool_table files;
	struct list spares; /* of struct pool_spare, oldest first */
	unsigned spare_count;
	unsigned spares_ahead;
	uint64_t last_take_ns;
	void (*pressure_hook)(void *arg);
	void *pressure_arg;

	struct list waiters; /* pool_wait.c */
	struct reactor_timer wait_timer;

	/* The keeper, one fiber: pool_keeper.c. */
	struct fiber_task keeper_task;
	struct fiber_queue keeper_queue, keeper_ended;
	bool keeper_runs, keeper_wanted, stopping;
	struct world_message keeper_message;
	atomic_bool keeper_message_posted;
};

struct pool_file_copy {
	struct world_file *file; /* NULL: it cannot be reached */
	bool stale;              /* so says the row */
	bool failed;             /* a write or sync failed since it was opened */
};

/* Belongs to whoever opened it; the pool's home reactor changes it only within calls of the owner.
 */
struct pool_file {
	struct pool *pool;
	uint64_t id;
	uint64_t size_bytes;
	unsigned copy_count;
	struct pool_file_copy copies[POOL_COPIES_MAX];
};

/* Paths (pool.c). */
void pool_path_of(const char *directory, const char *name, struct pool_path *ret_path);
void pool_path_group_directory(const struct pool *pool, unsigned index, struct pool_path *ret_path);
void pool_path_group(const struct pool *pool, uint64_t file_id, struct pool_path *ret_path);
void pool_path_spare(const struct pool *pool, uint64_t file_id, const char *suffix,
		     struct pool_path *ret_path);
/* "0123456789abcdef.eg" to its number; false when it is not such a name. 0 is no id. */
bool pool_path_parse(const char *name, const char *suffix, uint64_t *ret_id);

/* Space (pool_space.c). */
void pool_space_init(struct pool *pool, uint64_t capacity_bytes);
/* -ENOSPC when `use` may not have it. */
int pool_space_charge(struct pool *pool, enum pool_use use, uint64_t bytes);
/* Less used; wakes who waits for room. */
void pool_space_release(struct pool *pool, uint64_t bytes);
/* Calls the pressure hook if there is pressure. */
void pool_space_press(struct pool *pool);
/* What a pool with that configuration can use of a file system. */
uint64_t pool_space_capacity(uint64_t configured_bytes, const struct world_fs_stat *fs);

/* State: remembers -ENOSPC and -EROFS of the file system; returns `r`. Any reactor. */
int pool_state_note(struct pool *pool, int r);
/* 0, or -EROFS while the file system is read-only. */
int pool_state_writable(struct pool *pool);

/* Waiters for room (pool_wait.c). */
void pool_wait_init(struct pool *pool);
void pool_wait_wake(struct pool *pool);
void pool_wait_done(struct pool *pool); /* nobody waits any more */

/* Spare files (pool_spare.c). */
/* Takes over the file spare/ID.sp. False when memory is short: the file is then forgotten. */
bool pool_spare_add(struct pool *pool, uint64_t id, uint64_t size_bytes);
/* Whether a removed file of that size is worth keeping. */
bool pool_spare_wants(const struct pool *pool, uint64_t size_bytes);
/* The best spare for a file of that size, out of the list and the account; NULL when none fits.
 * The caller frees it. */
struct pool_spare *pool_spare_pick(struct pool *pool, uint64_t min_bytes, uint64_t size_bytes);
/* Removes spare files until used + spare <= capacity: after a charge, before the allocation. */
void pool_spare_make_room(struct pool *pool);
/* Removes all of them; false when there was none. */
bool pool_spare_drop_all(struct pool *pool);
/* Forgets them, without touching the disk. */
void pool_spare_done(struct pool *pool);

/* The keeper (pool_keeper.c). */
void pool_keeper_start(struct pool *pool);
void pool_keeper_stop(struct pool *pool);
void pool_keeper_wake(struct pool *pool); /* home reactor */
void pool_keeper_post(struct pool *pool); /* any reactor */

/* Sweeping (pool_sweep.c): fills the table from the catalog, then compares with the directories. */
int pool_sweep(struct pool *pool, bool read_only);

/* Removes a closed group file: to spare/ or for good. Its entry is in state POOL_TABLE_BUSY. */
int pool_file_remove(struct pool *pool, uint64_t id);
