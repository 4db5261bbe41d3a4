/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Shared by the pool_*.c files. */
#include <stdatomic.h>

#include "pool/placement.h"
#include "pool/pool.h"
#include "pool/pool_damage_priv.h"
#include "pool/pool_disk.h"
#include "pool/pool_label.h"
#include "pool/pool_rows.h"
#include "pool/pool_table.h"
#include "reactor/fiber.h"

#define POOL_PAGE_BYTES      (4 * KIB)
#define POOL_GROUP_BYTES_MIN MIB
#define POOL_DIRECTORIES     256
#define POOL_SPARES_MAX      64
#define POOL_WATCHES_MAX     64u /* reactors */
#define POOL_ERRORS_MAX      64u /* that a disk remembers; no threshold is above it */
#define POOL_QUOTA_CHAINS    1024u

_Static_assert(PLACEMENT_COPIES_MAX == POOL_FACTOR_MAX, "one number");
_Static_assert(PLACEMENT_AVOID_MAX == POOL_COPIES_MAX, "one number");

struct pool_flight;
struct pool_piece;

struct pool_spare {
	struct list_node link;
	uint64_t id;
	uint64_t size_bytes;
};

struct pool_path {
	char text[4096];
};

/* What is measured while a disk is used, by any reactor, relaxed: pool_disk_health.c. */
struct pool_health {
	_Atomic uint32_t busy;
	_Atomic uint64_t read_ns, write_ns; /* means, each new value counting an eighth */
	_Atomic uint64_t read_errors, write_errors, sync_errors, checksum_errors;
	_Atomic uint64_t error_ns[POOL_ERRORS_MAX]; /* when the last errors were, in a ring */
	_Atomic uint64_t silence_ns[POOL_DISK_FATAL_SILENCES]; /* when it fell silent, in a ring */
	_Atomic uint32_t silence_count;                        /* ever */
	_Atomic uint32_t error_count;                          /* ever */
	_Atomic uint64_t bad_ns;                               /* when it was last slow or erred */
	_Atomic int met;  /* -EROFS, -ENOSPC: home shall know */
	atomic_bool look; /* the keeper shall find out whether it is still there */
};

struct pool_disk {
	struct pool *pool;
	struct pool_disk_row row; /* as in the catalog; changes on the home reactor */
	unsigned tier;            /* of the row: enum policy_tier */
	uint64_t id;
	uint64_t file_system; /* its identity; 0 = not known */

	/* Any reactor reads them; they change on the home reactor only. */
	_Atomic uint64_t capacity, reserve, pressure_level; /* since it was found */
	_Atomic uint64_t used, spare;
	_Atomic int state; /* enum pool_disk_state */
	atomic_bool draining;
	atomic_bool paused;  /* its draining is: nothing is moved */
	atomic_bool leaving; /* being removed: gets nothing new */
	_Atomic uint64_t state_since_ns;
	_Atomic uint32_t generation; /* of its handles: counts its returns */
	struct pool_health health;
	/* pool_watch.c; any reactor. */
	_Atomic uint32_t late;            /* operations that take too long */
	_Atomic uint64_t silent_since_ns; /* while there are: when the first of them began */
	atomic_bool answered;             /* since the keeper last looked */

	/* Home reactor. */
	struct pool_table files; /* copies that count as used, whether or not it can be reached */
	uint64_t claimed;        /* by files that are to be made, until it is charged */
	struct list spares;      /* of struct pool_spare, oldest first */
	unsigned spare_count;
	bool spares_fail;     /* writing one ahead failed: not again */
	bool refused;         /* it knows of later changes than the catalog; was told */
	unsigned orphans;     /* entries in state POOL_TABLE_ORPHAN */
	unsigned kept;        /* entries in state POOL_TABLE_KEPT */
	bool swept;           /* ever since the pool was opened */
	unsigned names_busy;  /* operations that change names below the directory */
	uint64_t measured_ns; /* the keeper last looked how large it is */
	uint64_t tried_ns;    /* the keeper last looked whether it can be used again */
	unsigned flows;       /* pool_flow() */
	struct fiber_queue flow_queue;
	struct fiber_task tend_task, doom_task;
	uint64_t tend_ns; /* when to tend to it next */
	uint64_t doom_ns; /* when to look whether it is to be given up, while a fiber tends to it */
	bool dooming;     /* a fiber gives it up */
	bool tending;     /* a fiber does */
	bool making_spare; /* another does */
	bool tend_wanted;
	bool searching;                /* it is being attached */
	int attached;                  /* what the last attempt gave */
	uint64_t stepped_ns;           /* when that last went on */
	struct pool_flight *attaching; /* what is under way for it; NULL = it is not attached now */
	struct pool_disk *next_removed;
};

/* What one reactor has under way on the pool's disks: pool_watch.c. */
struct pool_watch {
	struct reactor *_Atomic reactor; /* NULL: never used */
	struct pool *pool;
	struct list flights;
	struct reactor_timer timer;
	uint64_t look_ns; /* when it is to look next */
	/* Kept for what comes next: pool_piece.c. */
	struct pool_piece *pieces;
	unsigned piece_count;
	bool stopped;
};

struct pool {
	struct world *world;
	struct catalog *catalog;
	struct reactor *home;
	uint64_t id;
	char name[POOL_NAME_MAX + 1];
	char file_counter[40];   /* of the catalog: ids of files */
	uint64_t capacity_bytes; /* of its row: a first disk of version 1 has no other */
	uint64_t opened_ns;
	uint64_t timeout_ns; /* that an operation on a disk may take */
	struct pool_damages damages;

	/* The disks; NULL = free. They change on the home reactor. One that was removed stays in
	 * memory, for others may still look at it. */
	struct pool_disk *_Atomic disks[POOL_DISKS_MAX];
	_Atomic unsigned slot_count; /* that were ever used */
	struct pool_disk *removed;
	struct fiber_mutex disks_lock; /* adding and removing */
	_Atomic uint64_t group_bytes;

	_Atomic uint64_t guest_ns; /* when a guest was last seen; any reactor; 0 = never */

	/* Account of live data, by factor; any reactor. Home writes the shares: what each disk that
	 * counts may hold of it. pool_admit.c */
	_Atomic uint64_t admitted[POOL_FACTOR_MAX + 1];
	_Atomic int64_t live[POOL_FACTOR_MAX + 1];
	_Atomic int64_t held[POOL_FACTOR_MAX + 1]; /* room that pool_quota.c keeps for containers */
	_Atomic uint64_t shares[POOL_DISKS_MAX];
	_Atomic unsigned share_count;

	/* Home reactor. */
	struct list quotas; /* pool_quota.c */
	struct pool_quota *quotas_by_id[POOL_QUOTA_CHAINS];
	struct list tier_claims; /* pool_tier.c */
	unsigned tiers_reserved; /* quotas that have something reserved on a tier */
	bool tiers_refused;      /* some quota's data found no place since room became free */
	unsigned spares_ahead;
	uint64_t last_take_ns;
	uint64_t takes; /* counts them: what is drawn at random follows from it */

	/* The keeper, one fiber: pool_keeper.c. */
	struct fiber_task keeper_task;
	struct fiber_queue keeper_queue, keeper_ended;
	bool keeper_runs, keeper_wanted, stopping;
	struct world_message keeper_message;
	atomic_bool keeper_message_posted;
	bool keeper_looks;
	unsigned tasks; /* fibers of the keeper's */
	bool opened;    /* somebody has it */
	bool gave_up;   /* to open it: the last of its tasks frees it */
	struct fiber_task spare_task;
	bool making_spare;

	struct pool_watch watches[POOL_WATCHES_MAX]; /* by reactor */
};

/* An open file of a disk. Each copy and each operation that uses it has a reference. */
struct pool_handle {
	struct world_file *file;
	struct pool_disk *disk;
	_Atomic uint32_t references;
	/* Of the reactor that opened the pool's file. */
	unsigned busy, late; /* operations; how many of them take too long */
	struct fiber_queue idle;
	struct world_op close_op;
};

/* One copy of an open file. Its place in memory stays while the file is open. */
struct pool_file_copy {
	struct pool_disk *disk; /* NULL: it is not the pool's any more */
	uint64_t disk_id;
	struct pool_handle *handle; /* NULL: it cannot be reached */
	uint64_t size_bytes;        /* of what is charged */
	uint32_t generation;        /* of the disk when the handle was opened */
	bool used;                  /* this slot is */
	bool read_only;             /* the handle is: its file system was when it was opened */
	bool stale;                 /* so says the row */
	bool failed;                /* a sync failed since it was opened */
	bool resort;                /* its disk had failed when it was opened: only read */
	bool joining;               /* pool_file_add_copy() made it; no row names it yet */
	bool leaving;               /* no row names it any more */
};

/* Belongs to whoever opened it; the pool's home reactor changes it only within calls of the owner.
 */
struct pool_file {
	struct pool *pool;
	uint64_t id;
	uint64_t size_bytes;
	unsigned copy_count;
	unsigned turn;            /* of reading, among equally good copies */
	unsigned tiers;           /* where further copies are wanted, as in pool_want */
	struct pool_quota *owner; /* or NULL; as long as a copy has an entry */
	uint64_t shunned;         /* disk that none goes to; 0: none */
	struct pool_file_copy *copies[POOL_COPIES_MAX]; /* in the order of the row */
	struct pool_file_copy slots[POOL_COPIES_MAX];
	struct fiber_mutex changing; /* of the owner's reactor: one change at a time */
};

/* Any reactor. */
#define POOL_FOR_EACH_DISK(pool, disk) \
	for (unsigned disk##_at = 0; ((disk) = pool_disk_next((pool), &disk##_at)) != NULL;)
/* The first in slot *at or later, and *at beyond it; NULL = no more. */
struct pool_disk *pool_disk_next(const struct pool *pool, unsigned *at);

/* Paths (pool_path.c). */
void pool_path_of(const char *directory, const char *name, struct pool_path *ret_path);
void pool_path_group_directory(const struct pool_disk *disk, unsigned index,
			       struct pool_path *ret_path);
void pool_path_group(const struct pool_disk *disk, uint64_t file_id, struct pool_path *ret_path);
void pool_path_spare(const char *directory, uint64_t file_id, const char *suffix,
		     struct pool_path *ret_path);
/* "0123456789abcdef.eg" to its number; false when it is not such a name. 0 is no id. */
bool pool_path_parse(const char *name, const char *suffix, uint64_t *ret_id);

bool pool_tier_is_valid(const char *tier); /* NULL is */

/* Disks in memory (pool_disk.c). Home reactor. */
/* Makes one of a row, in state missing. -ENOMEM, -E2BIG. */
int pool_disk_insert(struct pool *pool, uint64_t id, const struct pool_disk_row *row,
		     struct pool_disk **ret_disk);
/* Out of the pool, but not of memory. */
void pool_disk_take_out(struct pool_disk *disk);
void pool_disks_done(struct pool *pool);
struct pool_disk *pool_disk_by_id(const struct pool *pool, uint64_t id); /* or NULL; any reactor */
static inline enum pool_disk_state pool_disk_state_of(const struct pool_disk *disk)
{
	return (enum pool_disk_state)atomic_load(&((struct pool_disk *)disk)->state);
}
/* Logs it, counts shares anew, wakes the keeper. */
void pool_disk_set_state(struct pool_disk *disk, enum pool_disk_state state, int error);
/* Fibers: the row as it is in memory. */
int pool_disk_commit_row(struct pool_disk *disk);
/* Whether another disk of the pool takes new files, so that this one can be done without. */
bool pool_disk_can_be_spared(const struct pool_disk *disk);
/* Whether writing to it makes no sense: it is gone, and there are others. Any reactor. */
bool pool_disk_refuses(const struct pool_disk *disk);
static inline bool pool_disk_is_failed(const struct pool_disk *disk)
{
	return pool_disk_state_of(disk) == POOL_DISK_FAILED;
}
static inline bool pool_disk_is_gone(const struct pool_disk *disk)
{
	return pool_disk_state_of(disk) >= POOL_DISK_MISSING;
}

/* Finding a disk where its row says it is (pool_disk_attach.c). Home, fibers. */
/* Compares the label, finishes it, sees how large the disk is, sweeps it; its state is then what
 * was found. The pool is just being opened, or holds disks_lock. -ENODEV: directory or label are
 * missing, or another's; -ESTALE: the catalog was set back. */
int pool_disk_attach(struct pool_disk *disk);
/* The same for one that is missing while the pool is in use; stays missing on errors. */
int pool_disk_search(struct pool_disk *disk);
/* Whether the label is there and this disk's (pool_disk_label.c); -ENODEV when not. One that is
 * damaged but was this disk's for certain is good enough, and written anew unless `read_only`. */
int pool_disk_check_label(const struct pool_disk *disk, bool read_only);
/* Only whether it can be read, as I/O that counts (pool_disk_health.c). Home, fibers. */
int pool_disk_ask_label(struct pool_disk *disk);
/* Writes it into the row, then into its state. */
int pool_disk_declare_failed(struct pool_disk *disk, int error);

/* What is measured (pool_disk_health.c). Any reactor. */
enum pool_disk_io {
	POOL_DISK_READS,
	POOL_DISK_WRITES,
	POOL_DISK_SYNCS,
	POOL_DISK_NAMES,
	POOL_DISK_CHECKSUMS,
};
void pool_disk_io_begins(struct pool_disk *disk);
void pool_disk_io_ends(struct pool_disk *disk, enum pool_disk_io kind, uint64_t start_ns,
		       int64_t result);
/* Remembers what an operation that was not counted says about the disk; returns `r`. */
int pool_disk_note(struct pool_disk *disk, enum pool_disk_io kind, int r);
unsigned pool_disk_errors_lately(struct pool_disk *disk, uint64_t now_ns);
unsigned pool_disk_silences_lately(struct pool_disk *disk, uint64_t now_ns);
void pool_disk_forget_health(struct pool_disk *disk); /* but not its silences */
void pool_disk_forget_silences(struct pool_disk *disk);
/* Home. What follows from its silence; never suspends. */
void pool_disk_judge_silence(struct pool_disk *disk, uint64_t now_ns);
/* It fell silent. Any reactor. */
void pool_disk_count_silence(struct pool_disk *disk, uint64_t now_ns);
/* Home. For one that whoever tends to it is held up by: gives it up when it is time; when to look
 * again. A fiber. */
uint64_t pool_disk_doom(struct pool_disk *disk, uint64_t now_ns);
/* Home. It went on, while it is attached. -ESHUTDOWN: the pool is being closed, which does not wait
 * for the rest. */
int pool_disk_steps(struct pool_disk *disk);
/* Home, a fiber of its own: looks after one disk; returns when to look again. */
uint64_t pool_disk_tend(struct pool_disk *disk, uint64_t now_ns);

/* Space (pool_space.c). Home reactor unless it says otherwise. */
/* Of what the disk can hold: all that follows from it. */
void pool_space_set_capacity(struct pool_disk *disk, uint64_t capacity_bytes);
/* Disks, states or capacities have changed: group size, reserves, shares. */
void pool_space_recount(struct pool *pool);
/* -ENOSPC when `use` may not have it. */
int pool_space_charge(struct pool_disk *disk, enum pool_use use, uint64_t bytes);
/* Less used. */
void pool_space_release(struct pool_disk *disk, uint64_t bytes);
/* What `use` may still have there. Any reactor. */
uint64_t pool_space_free(const struct pool_disk *disk, enum pool_use use);
/* What a pool with that configuration can use of a file system. */
uint64_t pool_space_capacity(uint64_t configured_bytes, const struct world_fs_stat *fs);
/* Whether live data are counted on it. Any reactor. */
bool pool_space_counts(const struct pool_disk *disk);
/* The most that may be live there. Any reactor. */
uint64_t pool_space_share(const struct pool_disk *disk);
/* The size of groups where there is so much. */
uint64_t pool_space_group_bytes(uint64_t capacity_bytes);

/* Admission (pool_admit.c). Any reactor. */
bool pool_admit_fits(struct pool *pool, bool with_held);          /* what is there now */
unsigned pool_admit_largest_factor(const struct pool *pool);      /* of what is live or admitted */
void pool_admit_get(struct pool *pool, struct pool_space *space); /* live, admitted, limit */

/* 0, or -EROFS while no disk can be written. Any reactor. */
int pool_state_writable(const struct pool *pool);

/* Spare files (pool_spare.c). */
/* Takes over the file spare/ID.sp. False when memory is short: the file is then forgotten. */
bool pool_spare_add(struct pool_disk *disk, uint64_t id, uint64_t size_bytes);
/* Whether a removed file of that size is worth keeping. */
bool pool_spare_wants(const struct pool_disk *disk, uint64_t size_bytes);
/* The best spare for a file of that size, out of the list and the account; NULL when none fits.
 * The caller frees it. */
struct pool_spare *pool_spare_pick(struct pool_disk *disk, uint64_t min_bytes, uint64_t size_bytes);
/* Removes spare files until used + spare <= capacity: after a charge, before the allocation. */
void pool_spare_make_room(struct pool_disk *disk);
/* Removes all of them; false when there was none. */
bool pool_spare_drop_all(struct pool_disk *disk);
/* Forgets them, without touching the disk. */
void pool_spare_done(struct pool_disk *disk);

/* The keeper (pool_keeper.c). */
void pool_keeper_init(struct pool *pool);
void pool_keeper_start(struct pool *pool); /* when the disks have been found */
void pool_keeper_stop(struct pool *pool);
void pool_keeper_settle(struct pool *pool); /* no message is on its way any more */
void pool_keeper_wake(struct pool *pool);   /* home reactor */
void pool_keeper_post(struct pool *pool);   /* any reactor */

/* Sweeping (pool_sweep.c). */
/* As pool_table_next() of the disk's files, but gives others a turn between parts of the table:
 * what they put there, or remove, may hide another entry from the walk. Fiber. */
struct pool_table_entry *pool_sweep_next(const struct pool_disk *disk,
					 struct pool_table_walk *walk);
/* Fills the tables of all disks from the catalog. */
int pool_sweep_read_rows(struct pool *pool);
/* Compares the disk's directories with its table. */
int pool_sweep_disk(struct pool_disk *disk, bool read_only);

/* Making and opening one copy on one disk (pool_copy.c). Home, fibers. */
struct pool_copy_want {
	enum pool_use use;
	uint64_t size_bytes;
	uint64_t spare_bytes; /* of a spare file that will do */
	bool exact;           /* a larger spare file is cut to size_bytes */
	uint64_t claimed;     /* of the disk's, for this copy: goes when it is charged, or fails */
	struct pool_quota *owner;
};
/* Fills all of *copy and enters it in the disk's table, in state POOL_TABLE_OPEN. */
int pool_copy_make(struct pool_disk *disk, uint64_t file_id, const struct pool_copy_want *want,
		   struct pool_file_copy *copy);
/* The same in two halves, so that the copies of a file are made at once; who begins one must end
 * it. The size is known, and charged, from the first half on. */
struct pool_making;
int pool_copy_make_begin(struct pool_disk *disk, uint64_t file_id,
			 const struct pool_copy_want *want, struct pool_making **ret_making);
uint64_t pool_copy_make_size(const struct pool_making *making);
int pool_copy_make_end(struct pool_making *making, struct pool_file_copy *copy);
/* Opens the handle, on a disk that has failed as a last resort; its entry is the caller's.
 * -ETIMEDOUT: the disk hangs; -ENODEV: it has failed, and another is in its place, or none. */
int pool_copy_open(struct pool_file_copy *copy, uint64_t file_id);
/* What is late keeps the file open. */
void pool_copy_close(struct pool_file_copy *copy);
/* Durable when it returns 0. */
int pool_copy_trim(struct pool_file_copy *copy, uint64_t file_id, uint64_t size_bytes);
/* Removes a closed one: to spare/ or for good. Its entry is in state POOL_TABLE_BUSY; if it cannot
 * be removed, it becomes an orphan, which stays charged. */
int pool_copy_remove(struct pool_disk *disk, uint64_t file_id);
/* Tries to remove orphans; those that are left are tried again later. */
void pool_copy_remove_orphans(struct pool_disk *disk);
/* Forgets them: a sweep will find them unnamed. */
void pool_copy_forget_orphans(struct pool_disk *disk);

/* Where new copies go (pool_place.c): disks for up to `copies` of them, best first, none whose id
 * is in `tried` or `avoid`; `any`: also disks that are rather not used, when there are no others.
 * Home. */
struct pool_tier_claim;
struct pool_place {
	enum pool_use use;
	/* Of whom, and what is claimed: places that the owner may not have, or that are kept for
	 * others, are passed over. */
	const struct pool_tier_claim *claim;
	bool strict;    /* ... also when there are no others; else then not */
	bool refused;   /* out: that is why there are too few */
	bool fell_back; /* out: no disk in order could have one, so others were asked */
	uint64_t bytes;
	unsigned copies;
	unsigned tiers; /* as in pool_want ... */
	const uint64_t *recent;
	unsigned recent_count;
	uint64_t avoid[POOL_COPIES_MAX];
	uint64_t tried[POOL_DISKS_MAX]; /* ids */
	unsigned tried_count;
};
unsigned pool_place_choose(struct pool *pool, struct pool_place *place, bool any,
			   struct pool_disk *ret_disks[POOL_FACTOR_MAX]);
/* Why there is none: -ENOSPC, -EROFS, -EIO. */
int pool_place_error(const struct pool *pool);

/* Runs fn(arg) at home in a fiber of FIBER_CONTROL. */
int pool_carry(struct pool *pool, int (*fn)(void *arg), void *arg);

/* Whether a copy is written, read and synced. */
static inline bool pool_copy_takes_part(const struct pool_file_copy *copy)
{
	return copy->handle && !copy->stale && !copy->failed && !copy->resort && !copy->joining &&
	       !copy->leaving;
}
/* A copy leaves its disk's table; the caller closed it. Home, fiber. */
int pool_file_remove_copy(struct pool_file_copy *copy, uint64_t file_id);

/* Directories of a disk (pool_directory.c). Fibers. */
/* Makes directories below an existing parent; -ENOTEMPTY when other things are in there, `force`
 * removes what looks like a pool's. */
int pool_directory_make(const char *directory, bool force);
/* Writes a file and reads it back. -EOPNOTSUPP: not in the way that is needed. */
int pool_directory_probe(const char *directory);
int pool_directory_label(const char *directory, const struct pool_label *label); /* label.new */
int pool_directory_rename_label(const char *directory, const char *from, const char *to);
/* Takes away, durably, what pool_create() does not take over, and the label last. */
int pool_directory_clear(const char *directory);
int pool_directory_check_capacity(const char *directory, uint64_t capacity_bytes); /* -ENOSPC */
/* As pool_spec says: -EINVAL, -ENAMETOOLONG. */
int pool_directory_check_name(const char *directory);

/* Quotas of containers (pool_quota.c). From a fiber of the home reactor. */
int pool_quotas_open(struct pool *pool);
void pool_quotas_close(struct pool *pool);
/* Disks have come or gone, and tiers with them. */
void pool_quotas_follow_tiers(struct pool *pool);
