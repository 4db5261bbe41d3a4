/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The open vDisk, shared inside the folder. */
#include "base/histogram.h"
#include "block/range_lock.h"
#include "egroup/store.h"
#include "pool/pool_quota.h"
#include "vdisk/identity.h"
#include "vdisk/log.h"
#include "vdisk/map.h"
#include "vdisk/pattern.h"
#include "vdisk/rows.h"
#include "vdisk/vdisk.h"

#define VDISK_TICK_NS (1 * NSEC_PER_SEC)
#define VDISK_IDLE_TICKS \
	5 /* without a write, before the log is folded and its groups are trimmed */
#define VDISK_TASKS_MAX \
	32u /* fibers for requests at a time: others of the reactor want some, too */
#define VDISK_TAIL_MIN_BYTES (8 * MIB)
#define VDISK_TAIL_MAX_BYTES (256 * MIB)

struct orphan { /* a detached subtree whose slots die one by one */
	unsigned level;
	uint64_t index;
	struct map_entry entry;
};

/* A growing array of addresses or orphans. */
struct address_list {
	uint64_t *items;
	size_t count, capacity;
};

struct orphan_list {
	struct orphan *items;
	size_t count, capacity;
};

struct page_writer; /* fold.c */

struct vdisk {
	struct block_volume volume;
	struct reactor *reactor;
	struct world *world;
	struct pool *pool;
	struct pool_quota *quota; /* of its container */
	unsigned factor;          /* copies of its data, as it is accounted; 0 = not yet */
	struct catalog *catalog;
	struct vdisk_cache *cache;
	struct vdisk_row row; /* as committed, but for the name */
	bool epoch_raised;
	struct identity_disk identity; /* as its groups tell it from now on */
	char container_name[CONTAINER_NAME_MAX + 1];
	uint64_t told_size_bytes; /* by the root that was encoded last */
	bool identity_is_old;     /* the newest root says something else */
	struct fiber_mutex row_mutex;

	struct map map;
	struct egroup_store *store;
	struct log log;
	struct range_lock locks;
	struct pattern pattern; /* of the guest's writes */
	bool closing;

	/* Space: bytes admitted for growth, by layer of the map. */
	uint64_t admitted[2];
	uint64_t admitted_bytes;   /* in all, also those of requests under way */
	struct list space_waiters; /* writes that were not admitted */
	uint64_t accounted_slots;  /* what the pool's account says is live of this vDisk */

	/* Checkpoint. */
	bool checkpointing, checkpoint_wanted;
	bool applying;        /* from the commit until memory agrees with the catalog */
	int checkpoint_error; /* of the last one */
	struct reactor_timer checkpoint_retry;
	uint64_t checkpoint_pause_ns;   /* before the next try; 0 = the last one was good */
	uint64_t checkpoint_failing_ns; /* since when; 0 = it is not */
	uint64_t fold_lsn;              /* what the frozen layer holds: the log up to it */
	uint64_t fold_group;
	uint32_t fold_slot;
	uint64_t fold_tail_bytes;
	uint64_t tail_limit; /* of the log above the last checkpoint */
	struct fiber_task checkpoint_task;
	struct fiber_queue checkpoint_done;
	struct egroup *page_group; /* where the page stream goes on */
	uint32_t page_slot;
	struct list old_page_groups; /* of struct page_group: full, to be sealed by the next
					checkpoint */

	/* Reclaim. */
	bool reclaiming, reclaim_wanted;
	struct fiber_task reclaim_task;
	struct fiber_queue reclaim_done;
	struct orphan_list orphans;
	struct address_list dead_while_counting;
	bool counting, count_spoilt;
	int reclaim_error;
	uint64_t operations_at_step; /* of the guest, when compaction last looked */

	/* stranded.c. Any reactor reads the first. */
	bool stranded;  /* opened while nothing could be written: it is only read */
	bool torn;      /* a replay into the map was broken off */
	bool unsettled; /* what was replayed may not be durable: no flush succeeds */
	bool settling, settle_spawned;
	bool holding;     /* requests wait in `held` */
	struct list held; /* of struct block_request */
	uint64_t held_count;
	int settle_error; /* of the last attempt */
	struct fiber_task settle_task;
	struct fiber_queue settled;

	struct reactor_timer tick;
	unsigned idle_ticks;
	uint64_t writes_at_tick;
	struct fiber_queue loaded; /* waiters for a page that another fiber reads */
	unsigned fibers;           /* that closing waits for; of these, of requests: */
	unsigned tasks;            /* have a fiber, or are next for one */
	struct list waiting_tasks; /* of struct fiber_task: for there are VDISK_TASKS_MAX already */
	struct fiber_queue fibers_done;

	struct vdisk_stats stats;
	struct histogram read_latency, write_latency;
	uint64_t last_damage_log_ns;
};

/* The state of a request while it is the vDisk's; lives in its space. */
struct vdisk_request {
	struct range_claim claim;
	bool claimed;
	bool internal; /* made by the vDisk itself: not counted, completes to its maker */
	uint64_t first, end, cursor; /* blocks of the vDisk */
	uint32_t outstanding;        /* records or read parts */
	int error;
	uint64_t lsn;
	uint64_t admitted; /* bytes not yet given to a layer of the map */
	uint64_t growth;   /* by which live data grow at most, when it was looked up */
	bool growth_known;
	uint64_t deadline_ns;
	bool working; /* its loop is on the stack: the last part must not complete it */
	struct fiber_task task;
	struct vdisk *vdisk;
};
_Static_assert(sizeof(struct vdisk_request) <= BLOCK_SPACE_BYTES, "fits into the request");

static inline struct vdisk_request *vdisk_request(struct block_request *request)
{
	return (struct vdisk_request *)request->space;
}
static inline struct vdisk *vdisk_of(struct block_volume *volume)
{
	return CONTAINER_OF(volume, struct vdisk, volume);
}

/* request.c: start and end of requests. */
void vdisk_submit(struct block_volume *volume, struct block_request *request);
void vdisk_finish(struct vdisk *vdisk, struct block_request *request, int result);
void vdisk_finish_later(struct vdisk *vdisk, struct block_request *request, int result);
/* A write, write-zeroes or unmap of the vDisk's own, whole blocks, whose range is claimed by
 * another request. */
void vdisk_write_unclaimed(struct vdisk *vdisk, struct block_request *request);
/* A guest's write, write-zeroes or unmap is in the map, but for what its flags still ask for; or it
 * has failed. */
void vdisk_write_ends(struct vdisk *vdisk, struct block_request *request, int result);
/* The log is done with a write: durable as far as asked for, or failed. */
void vdisk_write_acked(struct vdisk *vdisk, struct block_request *request, int result);
/* Puts an acknowledged record's extents into the map. */
void vdisk_apply_record(struct vdisk *vdisk, const struct record_header_disk *header,
			uint64_t group, uint32_t slot);
/* Admits writes that wait for space, as far as there is some; fails those that waited too long. */
void vdisk_space_changed(struct vdisk *vdisk);
/* The pool's admission, with this vDisk's factor. */
int vdisk_admit(struct vdisk *vdisk, uint64_t bytes);
void vdisk_admit_return(struct vdisk *vdisk, uint64_t bytes);
/* Whether the guest has asked for something since *seen was last asked with. */
bool vdisk_guest_is_active(const struct vdisk *vdisk, uint64_t *seen);
/* Spawns a fiber that belongs to a request, when it is the vDisk's turn to have one more; counted,
 * so that closing can wait. run() ends with vdisk_task_ends(). */
void vdisk_spawn(struct vdisk *vdisk, struct fiber_task *task,
		 void (*run)(struct fiber_task *task));
void vdisk_task_ends(struct vdisk *vdisk);
/* Of another fiber that was counted. */
void vdisk_fiber_ends(struct vdisk *vdisk);

/* read.c */
void vdisk_read_start(struct vdisk *vdisk, struct block_request *request);
void vdisk_read_resume(struct block_request *request);
/* Reads whole blocks into memory, verified. Fiber. */
int vdisk_read_blocks(struct vdisk *vdisk, uint64_t block, uint64_t count, void *buffer);
/* Fiber; `entry` is looked up, its page read where needed. */
int vdisk_lookup(struct vdisk *vdisk, uint64_t block, struct map_entry *ret_entry);

/* modify.c: what reads before it writes; reads in fibers. */
void vdisk_modify_start(struct vdisk *vdisk, struct block_request *request);
void vdisk_compare_start(struct vdisk *vdisk, struct block_request *request);
void vdisk_status_start(struct vdisk *vdisk, struct block_request *request);

/* load.c. Fibers. */
/* The 4 KiB at an address, as `check` accepts it from any copy, beginning with `first`
 * (egroup_file_read()). */
struct vdisk_read {
	uint64_t address;
	void *buffer;
	unsigned first; /* or EGROUP_ANY_COPY */
	int (*check)(void *arg, const void *buffer);
	void *arg;
	bool waits_itself;
};
int vdisk_read_address(struct vdisk *vdisk, const struct vdisk_read *read);
int vdisk_read_page(struct vdisk *vdisk, unsigned level, uint64_t index,
		    const struct map_entry *entry, struct map_entry *ret_entries);
/* Reads what map_lookup(block) misses. */
int vdisk_load(struct vdisk *vdisk, uint64_t block);
int vdisk_load_index(struct vdisk *vdisk, struct map_index *index);
uint64_t map_index_number(const struct map_index *index);
/* Logs damage, at most once a second and vDisk. */
void vdisk_report_damage(struct vdisk *vdisk, const char *what, uint64_t block, int error);

/* checkpoint.c */
bool vdisk_must_checkpoint(struct vdisk *vdisk);
void vdisk_checkpoint_soon(struct vdisk *vdisk);
/* The row as it is, for a change; nobody else changes it until vdisk_row_commit(), which brings it
 * to disk with other changes, keeping the name that is there, and then to vdisk->row. Fiber. */
struct vdisk_row vdisk_row_begin(struct vdisk *vdisk);
int vdisk_row_commit(struct vdisk *vdisk, const struct vdisk_row *row,
		     const struct catalog_change *more, size_t count);
int vdisk_raise_epoch(struct vdisk *vdisk);
uint64_t vdisk_tail_limit(const struct vdisk *vdisk);

/* What the groups tell, by what is known now. Fiber. */
void identity_refresh(struct vdisk *vdisk);

/* fold.c: the frozen layer into new pages. Fiber. */
struct fold_result {
	struct map_entry root;
	struct address_list dead;  /* slots that no longer are in the tree */
	struct address_list pages; /* new pages */
	uint64_t born;             /* blocks that the new tree names and the old one did not */
	struct orphan_list orphans;
};
int vdisk_fold(struct vdisk *vdisk, struct fold_result *ret_result);
void fold_result_done(struct fold_result *result);
/* Nothing more is written to the page group: the next commit of a checkpoint seals it. */
int vdisk_retire_page_group(struct vdisk *vdisk);
/* After the commit, in slices: the frozen layer becomes the tree, and what it names is live ... */
void vdisk_fold_apply(struct vdisk *vdisk, const struct fold_result *result);
/* ... and what it replaced is dead. Fibers. */
void vdisk_fold_bury(struct vdisk *vdisk, const struct fold_result *result);
/* Forgets what a failed fold prepared; the frozen layer stays. */
void vdisk_fold_undo(struct vdisk *vdisk);

struct page_group { /* a full group of the page stream */
	struct list_node link;
	struct egroup *group;
	uint32_t slots;
	uint64_t last_lsn;
	bool given_up; /* a sync failed on all copies: no page of the next fold is in it */
};

/* recover.c. Fibers. */
int vdisk_recover(struct vdisk *vdisk);
/* Of one that is stranded: whether it would succeed; then, with no request under way, for good.
 * -ENODATA: less of the log is there than was shown. */
int vdisk_recover_look(struct vdisk *vdisk);
int vdisk_recover_again(struct vdisk *vdisk);

/* stranded.c */
/* It was recovered without writing anything. */
void vdisk_strand(struct vdisk *vdisk);
/* Of one that is stranded: true when the request was refused, or waits. */
bool vdisk_stranded_takes(struct vdisk *vdisk, struct block_request *request);
/* 0: it can be written. -EROFS: no disk can. Fiber. */
int vdisk_settle(struct vdisk *vdisk);
/* Begins that where there is a disk again. */
void vdisk_settle_soon(struct vdisk *vdisk);

/* reclaim.c */
void vdisk_reclaim_soon(struct vdisk *vdisk);
int address_list_add(struct address_list *list, uint64_t address);
int orphan_list_add(struct orphan_list *list, const struct orphan *orphan);
/* These keep the pool's account, too. */
void vdisk_slot_dead(struct vdisk *vdisk, uint64_t address);
void vdisk_slot_live(struct vdisk *vdisk, uint64_t address);
struct vdisk_walker {
	/* Every address in the tree: pages and, from leaves (level -1), blocks. > 0: what is below
	 * the page is left out. */
	int (*slot)(void *arg, uint64_t address, int level, uint64_t block);
	/* A page that cannot be read, or a block (level -1) that was lost. 0: the walk goes on with
	 * the rest. */
	int (*damaged)(void *arg, int level, uint64_t block, int error);
	void *arg;
};
/* -ECANCELED when the vDisk is closing. */
int vdisk_walk(struct vdisk *vdisk, const struct orphan *top, const struct vdisk_walker *walker);

/* locate.c */
struct vdisk_locate {
	struct vdisk_finding *findings; /* kind, group, slot, file, offset and bytes as the record
					   says; `use` and what else is known are filled in */
	size_t count;
	int (*pause)(void *arg, uint64_t bytes); /* as it reads the map; < 0: stop. May be NULL */
	void *arg;
	unsigned *walks_left; /* of the whole map: without one more it cannot be told */
};
/* Where in the vDisk what was found lies, and whether the map names it. Fiber. What cannot be told,
 * also because it was stopped, stays VDISK_USE_UNKNOWN. -ESHUTDOWN, -ECANCELED, -ENOMEM. */
int vdisk_locate(struct vdisk *vdisk, const struct vdisk_locate *locate);

/* vdisk.c */
void vdisk_tick_soon(struct vdisk *vdisk);
