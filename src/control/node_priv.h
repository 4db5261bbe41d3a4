/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Inside of the node, for control/ only. All of it lives on the node's home reactor, reactors[0];
 * pools and vDisks are objects of other reactors and are called there through fiber_call().
 *
 * Invariants.
 *  1. Every pool, vDisk and export that the catalog names is in its list, opened or with the error
 *     that prevented it.
 *  2. A vDisk has one operation at a time that changes it (node_vdisk_begin()). It is closed only
 * within one, and only when nobody reads it (node_vdisk_use()).
 *  3. What adds or removes pools, containers and vDisks holds `lock`.
 *  4. An entry of a list is freed only by the operation that deleted the object, so those who look
 *     it up again after each suspension, or use it, are safe.
 */
#include "base/histogram.h"
#include "catalog/mirror.h"
#include "control/event.h"
#include "control/job.h"
#include "control/node.h"
#include "control/node_service.h"
#include "control/params.h"
#include "pool/container.h"
#include "pool/pool_disk.h"
#include "pool/pool_quota.h"
#include "reactor/fiber.h"
#include "vdisk/vdisk.h"

#define NODE_NAME_MAX (CONTAINER_NAME_MAX + 1 + VDISK_NAME_MAX) /* container/vdisk */

enum node_space { /* how much of what may be live in a pool is */
		  NODE_SPACE_OK,
		  NODE_SPACE_NOTICE,
		  NODE_SPACE_LOW,
		  NODE_SPACE_CRITICAL,
};

struct node_disk_seen { /* what was told last */
	uint64_t id;
	enum pool_disk_state state;
	uint64_t capacity; /* when it was there last; 0 = not yet */
	enum { NODE_DISK_STAYS, NODE_DISK_DRAINS, NODE_DISK_DRAINED } drain;
};

struct node_pool {
	struct list_node link;
	uint64_t id;
	char name[POOL_NAME_MAX + 1];
	char *directory;
	struct reactor *home;
	struct pool *pool; /* NULL: `error` tells why */
	int error;
	unsigned users; /* that read it now, without `lock` */
	bool deleting;
	/* node_watch.c: what was told last, and how fast space was taken. */
	const char *seen_state;
	enum node_space seen_space;
	uint64_t first_live, first_ns;
	struct node_disk_seen disks_seen[POOL_DISKS_MAX];
	size_t disks_seen_count;
	/* node_retire.c */
	uint64_t retiring[POOL_DISKS_MAX];
	size_t retiring_count;
	bool retiring_known; /* read from the catalog */
	/* node_repair.c */
	bool repairing; /* a job runs */
	uint64_t repair_again_ns;
	uint64_t repair_pause_ns; /* after the last one had to leave something; 0 = it had not */
	bool told_degraded;
	/* node_scrub.c */
	struct node_scrub_run *scrub_run; /* NULL: no job runs */
	uint64_t scrub_gone;              /* node_scrub_again.c */
	/* node_reopen.c: when to try again, and how long after the last time; 0 = not yet */
	uint64_t reopen_ns, reopen_pause_ns;
};

struct node_access { /* like struct iscsi_access, with memory of its own */
	struct iscsi_chap chap;
	struct iscsi_rule *rules;
	size_t rule_count;
	unsigned max_sessions, max_sessions_initiator;
	char redirect[256];
};

struct node_target {
	struct list_node link;
	uint64_t number; /* of its row */
	char name[ISCSI_NAME_MAX + 1];
	bool made; /* by hand: stays without LUNs */
	int error; /* why it is not served, or 0 */
	struct node_access access;
};

struct node_export {
	char target[ISCSI_NAME_MAX + 1];
	uint16_t lun;
	bool read_only, removable;
	int error; /* why it is not served, or 0 */
};

struct node_vdisk {
	struct list_node link;
	struct vdisk_info info;
	char name[NODE_NAME_MAX + 1];
	struct reactor *home;
	struct vdisk *vdisk; /* NULL: `error` tells why, or it is being deleted */
	int error;
	unsigned factor;       /* copies that its policy wants; 0 = not known */
	const char *operation; /* that changes it now, or NULL */
	bool operation_is_job;
	unsigned users;                         /* that read it now */
	struct node_export *export;             /* NULL = not exported */
	struct node_reservations *reservations; /* of NVMe; NULL = no controller shares it */
	uint64_t tried_without; /* node_disks_out() when it could not be opened; 0: no pool */
	int seen_error;         /* node_watch.c: what was told last */
	uint64_t seen_damage;
};

#define NODE_BLINKS_MAX 4u /* at once */

struct node {
	struct node_options options;
	struct reactor *home;
	struct catalog *catalog;
	struct vdisk_cache **caches;      /* one a reactor */
	struct list pools, vdisks;        /* in order of id */
	unsigned next_reactor;            /* for the next pool or vDisk */
	struct iscsi_server *iscsi;       /* NULL when disabled */
	struct list targets;              /* of iSCSI */
	struct fiber_mutex iscsi_lock;    /* held by whoever changes targets or exports */
	struct reactor_timer space_timer; /* node_space.c */
	struct fiber_task space_task;
	bool space_busy;
	struct list controllers; /* struct node_controller, in order of id */
	struct fiber_mutex reservations_lock;
	unsigned dead_left; /* of options.dead.count */
	uint64_t identity;  /* of the node, for identifiers of namespaces and LUNs; never changes */
	struct events *events;
	struct node_service watch, repair, scrub, places, reopen;
	uint64_t blinking[NODE_BLINKS_MAX]; /* node_blink.c: disks; 0 = none */
	struct fiber_mutex scrub_lock;      /* held by whoever changes the row of a scrub */
	struct {                            /* node_catalog.c */
		struct catalog_report report;
		struct catalog_mirror_info *infos; /* as told last */
		size_t count;
		unsigned turns;
		int damage; /* of the database, found by the last verification; 0 = none */
	} catalog_watch;
	struct jobs *jobs;
	struct fiber_mutex lock;
	struct fiber_queue changed; /* an operation or a use of a vDisk has ended */
	uint64_t started_ns;
	bool stopping;
};

struct reactor *node_next_reactor(struct node *node);
void node_get_reactor_stats(struct node *node, unsigned index, struct reactor_stats *ret_stats);

/* node_catalog.c */
int node_catalog_open(struct node *node, struct error *error);
/* Before pools open. Fails only when a mirror on a pool's disk is newer than the catalog. */
int node_catalog_start(struct node *node, struct error *error);
/* Makes a mirror on each disk of each pool, and no other. */
int node_catalog_sync(struct node *node);
void node_catalog_watch(struct node *node);
/* What is left of daemons before this one: node_dead.c. Before anything is opened; when events are
 * open; each turn of the watch. */
void node_dead_begin(struct node *node);
void node_dead_tell(struct node *node);
void node_dead_watch(struct node *node);
/* As the watch has seen it last: a state of mirrors, or "none". */
const char *node_catalog_mirror_state(const struct node *node, const char *directory);
/* catalog_verify(), and tells what it found. */
int node_catalog_verify(struct node *node, struct catalog_verify *ret_verify);

/* node_pool.c */
struct node_pool *node_pool_find(struct node *node, const char *name);
struct node_pool *node_pool_by_id(struct node *node, uint64_t id);
/* The one with the next greater id, or NULL: for loops that suspend meanwhile. */
struct node_pool *node_pool_after(struct node *node, uint64_t id);
/* One that is not open; the result is in pool->error too. */
int node_pool_open(struct node *node, struct node_pool *pool);
/* Adds the pool to the list and tries to open it. -ENOMEM, or 0 with pool->error set. */
int node_pool_add(struct node *node, const struct pool_info *info, struct node_pool **ret_pool);
int node_pools_open(struct node *node);
void node_pools_close(struct node *node);
/* Keeps it there meanwhile, without the lock; false when it is not open, or is being deleted. */
bool node_pool_use(struct node_pool *pool);
void node_pool_unuse(struct node *node, struct node_pool *pool);
/* Deletes an open pool and frees the entry. -EBUSY while it has vDisks, also such as are being
 * deleted; -EAGAIN: who uses it does not come to an end. */
int node_pool_delete(struct node *node, struct node_pool *pool);
/* Goes on with deleting one that could not be opened for that (-EINPROGRESS), and frees the entry.
 * Without the lock, for a disk may take its time. */
int node_pool_finish_delete(struct node *node, struct node_pool *pool);
/* Of an open pool, asked at its home. */
void node_pool_get_info(struct node_pool *pool, struct pool_info *ret_info);
void node_pool_get_space(struct node_pool *pool, struct pool_space *ret_space);

/* Of pools without a disk to write to (pool_is_stranded()), and their vDisks. */
#define NODE_STRANDED_REMEDY                                                                  \
	"take a disk back (sarsen disk restore), add one (sarsen disk add) or mount what is " \
	"missing: then writes go on by themselves"

/* node_damage.c: rows of the catalog that are damaged. */
#define NODE_DAMAGE_TEXT_MAX 200
#define NODE_DAMAGE_REMEDY                                                                   \
	"stop the daemon and run sarsen-fsck -n; then start with --restore-catalog and the " \
	"directory of a disk, or run sarsen-fsck --rebuild-catalog"
/* Why it is not open; false when it is, or that is not why. */
bool node_damage_text(struct node *node, const struct node_vdisk *vdisk,
		      char ret_text[NODE_DAMAGE_TEXT_MAX]);
/* An event, if the pool, which was just opened, is in doubt. */
void node_damage_tell(struct node *node, struct node_pool *pool);
/* Of an open pool that is in doubt and keeps so many copies. */
void node_damage_pool_text(const struct node_pool *pool, uint64_t kept,
			   char ret_text[NODE_DAMAGE_TEXT_MAX]);

/* node_orphans.c: at start, when the pools are known. */
void node_forget_orphans(struct node *node);

/* node_vdisk.c */
/* One that is being deleted only when no other has the name. */
struct node_vdisk *node_vdisk_find(struct node *node, const char *name);
struct node_vdisk *node_vdisk_by_id(struct node *node, uint64_t id);
/* The one with the next greater id, or NULL: for loops that suspend meanwhile. Suspends now and
 * then itself, so that a thousand vDisks do not take one long turn. */
struct node_vdisk *node_vdisk_after(struct node *node, uint64_t id);
int node_vdisk_add(struct node *node, const struct vdisk_info *info, const char *container,
		   struct node_vdisk **ret_vdisk);                   /* -ENOMEM */
void node_vdisk_remove(struct node *node, struct node_vdisk *vdisk); /* from the list, and frees */
/* Opens on the vDisk's home; the result is in vdisk->error too. */
int node_vdisk_open(struct node *node, struct node_vdisk *vdisk);
/* Waits for those who use it. */
int node_vdisk_close(struct node *node, struct node_vdisk *vdisk);
int node_vdisks_load(struct node *node);
/* Those that are to be opened, many at a time. */
void node_vdisks_open(struct node *node);
void node_vdisks_close(struct node *node);
void node_vdisk_set_name(struct node_vdisk *vdisk, const char *container, const char *name);

/*
 * Begins an operation that changes the vDisk; waits for a short one to end. -ENOENT; -EBUSY while a
 * job works on it, whose name is in *ret_blocker then.
 */
int node_vdisk_begin(struct node *node, const char *name, const char *operation, bool is_job,
		     struct node_vdisk **ret_vdisk, const char **ret_blocker);
void node_vdisk_end(struct node *node, struct node_vdisk *vdisk);
/* Keeps it open meanwhile; false when it is not open. */
bool node_vdisk_use(struct node_vdisk *vdisk);
void node_vdisk_unuse(struct node *node, struct node_vdisk *vdisk);
/* Calls fn(arg) on the vDisk's home. */
int node_vdisk_call(struct node_vdisk *vdisk, int (*fn)(void *arg), void *arg);

struct node_vdisk_stats {
	struct vdisk_stats stats;
	struct histogram read, write;
};
/* -ENODEV when it is not open. `ret_stats` is large: not for a fiber's stack. */
int node_vdisk_get_stats(struct node *node, struct node_vdisk *vdisk,
			 struct node_vdisk_stats *ret_stats);
/* Bytes that went to disk for each byte written to the vDisk; 0 before the first. */
double node_write_amplification(const struct vdisk_stats *stats);

/* node_space.c */
/* What the vDisks of a pool can still grow by, of how much; 0 of 0 when it is not open. */
void node_space_get(struct node *node, uint64_t pool_id, uint64_t *ret_available,
		    uint64_t *ret_total);
void node_space_start(struct node *node);
void node_space_stop(struct node *node); /* waits; the node is stopping */

/* node_target.c */
#define NODE_DISCOVERY "discovery" /* in place of a target: who may ask for targets */
struct node_target *node_target_find(struct node *node, const char *name);
/* The vDisk at that LUN of the target, any when `lun` is negative; or NULL. */
struct node_vdisk *node_target_lun(struct node *node, const char *name, int lun);
/* `made` by hand, which is written down. -EEXIST, -EINVAL. */
int node_target_add(struct node *node, const char *name, bool made,
		    struct node_target **ret_target);
/* Takes what is in `access`, writes it down; all as before after an error. */
int node_target_set(struct node *node, struct node_target *target, struct node_access *access);
int node_target_remove(struct node *node, struct node_target *target); /* -ENOTEMPTY */
int node_targets_open(struct node *node);
void node_targets_close(struct node *node);
int node_access_copy(const struct node_access *access, struct node_access *ret_access);
int node_access_add_rule(struct node_access *access, const struct iscsi_rule *rule); /* -EEXIST */
int node_access_remove_rule(struct node_access *access, const char *initiator);      /* -ENOENT */
void node_access_done(struct node_access *access);
/* Does it say anything? */
bool node_access_is_guarded(const struct node_access *access);

/* node_export.c. Within an operation on the vDisk. */
struct node_lun {
	const char *target; /* NULL: one of its own, named after the vDisk */
	int lun;            /* negative: the first that is free */
	bool read_only, removable;
};
/* -ENOENT target, -EEXIST LUN, -EMFILE no LUN is free. */
int node_export_add(struct node *node, struct node_vdisk *vdisk, const struct node_lun *lun);
int node_export_remove(struct node *node, struct node_vdisk *vdisk);
/* iscsi_save_fn; `arg` is the node, the serial a vDisk's id. */
int node_export_save(void *arg, uint64_t serial, const void *data, size_t length);
int node_exports_open(struct node *node);
/* The vDisk is open after all: serves it, if it is exported. */
void node_export_reopened(struct node *node, struct node_vdisk *vdisk);
void node_export_resized(struct node *node, struct node_vdisk *vdisk);
#define NODE_URL_MAX 600
const char *node_export_url(const struct node *node, const struct node_export *export,
			    char ret_url[static NODE_URL_MAX]);

/* node_delete.c: the durable job that deletes a vDisk. */
int node_delete_start(struct node *node, struct node_vdisk *vdisk, uint64_t *ret_job);
/* At start, before vDisks are opened: marks those that an unfinished job deletes. */
void node_delete_mark(struct node *node);
/* Afterwards: begins the unfinished deletions again. */
void node_delete_resume(struct node *node);

/* node_reopen.c: tries again what could not be opened; stopped when node->stopping. */
void node_reopen_start_service(struct node *node);

/* node_watch.c: makes events of what changes. Started last; stopped first, when node->stopping. */
void node_watch_start(struct node *node);
/* `before` is what it was when it was last asked for. */
enum node_space node_space_level(uint64_t used, uint64_t limit, const unsigned percents[3],
				 enum node_space before);
/* Of a pool: what the configuration says, or the defaults. */
const unsigned *node_space_percents(const struct node *node);
