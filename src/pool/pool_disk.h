/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The disks of a pool: each a directory with a label of its own, on a file system of its own where
 * the operator is wise.
 *
 * States. What is found out about a disk, in order of severity:
 *     online      in use
 *     full        its file system has no room, whatever the account says
 *     suspect     slow or erring: nothing new is put there and reads go elsewhere where they can;
 *                 it is online again when it has behaved for a while
 *     read-only   its file system is
 *     missing     directory or label cannot be found, or is another's, or it hangs: looked for
 *                 again every POOL_DISK_SEARCH_NS; what is on it counts again when it is back
 *     failed      suspect or missing for too long, or declared so: repair makes other copies of
 *                 what it held; only pool_disk_restore() takes it back
 * A disk that is draining is in use, but gets nothing new, and what it has is to be moved.
 *
 * All functions are for fibers of any reactor unless they say otherwise.
 */
#include "pool/pool.h"

#define POOL_DISKS_MAX      64u
#define POOL_DISK_SEARCH_NS (5 * NSEC_PER_SEC)
#define POOL_TIER_MAX       15u

enum pool_disk_state {
	POOL_DISK_ONLINE,
	POOL_DISK_FULL,
	POOL_DISK_SUSPECT,
	POOL_DISK_READ_ONLY,
	POOL_DISK_MISSING,
	POOL_DISK_FAILED,
	POOL_DISK_STATES,
};

/* When a disk is avoided and when it is given up; docs/pool.md explains them, `disk show` shows
 * them beside what was measured. */
#define POOL_DISK_TIMEOUT_NS   (5 * NSEC_PER_SEC) /* of one operation, unless the pool was told */
#define POOL_DISK_SLOW_NS      (500 * NSEC_PER_MSEC) /* mean latency from which it is suspect */
#define POOL_DISK_ERRORS       3u  /* errors within the window from which it is suspect */
#define POOL_DISK_FATAL_ERRORS 30u /* ... from which it has failed; see POOL_ERRORS_MAX */
#define POOL_DISK_WINDOW_NS    (60 * NSEC_PER_SEC)
#define POOL_DISK_SUSPECT_NS   (60 * NSEC_PER_SEC)  /* as long, after it last misbehaved */
#define POOL_DISK_MISSING_NS   (600 * NSEC_PER_SEC) /* missing that long, it has failed */
/* It has failed when it fell silent that often within the window; what is within
 * POOL_DISK_WINDOW_NS of the last time is the same silence. */
#define POOL_DISK_FATAL_SILENCES    5u
#define POOL_DISK_SILENCE_WINDOW_NS (3600 * NSEC_PER_SEC)

struct pool_disk_spec {
	const char *directory;   /* as in pool_spec */
	const char *tier;        /* "ssd", "hdd", "san", "cloud"; NULL = "ssd" */
	uint64_t capacity_bytes; /* 0 = the file system's size less a margin */
	bool force;              /* take a directory with a label of a pool that no longer is */
};

struct pool_disk_health {
	uint64_t read_errors, write_errors, sync_errors, checksum_errors;
	uint64_t read_ns, write_ns; /* mean latency lately */
	unsigned busy;              /* operations under way */
};

struct pool_disk_info {
	uint64_t id;
	uint8_t uuid[16];
	char directory[4096];
	char tier[POOL_TIER_MAX + 1];
	enum pool_disk_state state;
	uint64_t state_since_ns; /* of the world's monotonic clock; 0 = since the pool was opened */
	uint64_t silent_ns;      /* it has not answered that long; 0 = it answers */
	unsigned silences;       /* how often it fell silent, within the window */
	bool draining;
	bool paused;                             /* its draining is */
	uint64_t capacity, used, reserve, spare; /* bytes; 0 while it is missing */
	uint64_t shares_with; /* another disk of the pool on its file system; 0 = none is known */
	uint64_t files;       /* copies that the catalog places there */
	struct pool_disk_health health;
};

const char *pool_disk_state_name(enum pool_disk_state state);
/* Of a disk's tier, as placement and policies number them. */
uint8_t pool_tier_number(const char *tier);

/* Makes directory and label, then the row. -EEXIST it is the pool's already; -ENOTEMPTY other
 * content, or another pool's label (`force` takes one whose pool the catalog does not know);
 * -EOPNOTSUPP its file system cannot do O_DIRECT or loses what was synced, as far as can be tested;
 * -ENOSPC too small; -E2BIG POOL_DISKS_MAX. */
int pool_disk_add(struct pool *pool, const struct pool_disk_spec *spec, uint64_t *ret_id);
/* In order of id; caller frees. */
int pool_disk_list(struct pool *pool, struct pool_disk_info **ret_infos, size_t *ret_count);
int pool_disk_get(struct pool *pool, uint64_t id, struct pool_disk_info *ret_info); /* -ENOENT */
/* By directory, uuid (hex) or id (decimal). -ENOENT */
int pool_disk_find(struct pool *pool, const char *text, uint64_t *ret_id);
/* -EINVAL: no other disk would take new files. */
int pool_disk_set_draining(struct pool *pool, uint64_t id, bool draining);
/* Of one that drains: it goes on getting nothing new, but what it has stays and counts. Not in its
 * row: whoever opens the pool says it again. -EINVAL: it does not drain. */
int pool_disk_pause_draining(struct pool *pool, uint64_t id, bool paused);
/* Declares it failed, as the operator may who has it in his hands. -EINVAL as above. */
int pool_disk_fail(struct pool *pool, uint64_t id);
/* Looks for a missing or failed disk now; what is on it counts again where rows still name it.
 * -EBUSY: what was under way there has not ended yet; it is looked for again. */
int pool_disk_restore(struct pool *pool, uint64_t id);
/* Forgets a disk that no row of a file names. -EBUSY one does; -EINVAL it is the last one. */
int pool_disk_remove(struct pool *pool, uint64_t id);

/* Ids in ascending order and tiers (enum policy_tier) of all disks; how many. Any reactor, never
 * suspends. */
unsigned pool_disk_ids(const struct pool *pool, uint64_t ret_ids[POOL_DISKS_MAX],
		       uint8_t ret_tiers[POOL_DISKS_MAX]);

/* Holds the label against the row. A damaged one is written anew where what is left of it proves
 * that it was this disk's. -EUCLEAN: damaged beyond that; -ENODEV none or another's: the disk is
 * looked for then; -ETIMEDOUT: it hangs; -EROFS... 0 also of a disk that is missing or failed. */
int pool_disk_scrub_label(struct pool *pool, uint64_t id, bool *ret_put_right);

/* Disks that new copies can be put on now. Any reactor, never suspends. */
unsigned pool_disks_usable(const struct pool *pool);
/* Those and others that may be so again: neither failed, nor draining, nor being removed. */
unsigned pool_disks_staying(const struct pool *pool);
/* How many disks of this process do not answer now. Any thread. */
unsigned pool_disks_silent(void);
enum pool_disk_state pool_disk_state(const struct pool *pool,
				     uint64_t id); /* no such disk: FAILED */
/* Whether copies there are to be moved: it has failed, is draining (and that is not paused) or is
 * not the pool's. */
bool pool_disk_is_leaving(const struct pool *pool, uint64_t id);
/* A number that changes when a disk is missing, fails, falls silent, or is given up for good, and
 * when it comes back; but for one in 2^32. Any reactor. */
uint32_t pool_disks_gone(const struct pool *pool);
/* Told of a checksum mismatch in what a copy on it gave. Any reactor. */
void pool_disk_report_mismatch(struct pool *pool, uint64_t id);

/*
 * Copies of one file, for repair. From the reactor that opened it.
 */
/* A further copy of an open file, empty but allocated, on a disk that has none of it; its directory
 * entry is durable. It takes part in nothing until pool_file_set_copies(). -ENOSPC: no disk can
 * take it; -EMLINK there are POOL_COPIES_MAX. */
int pool_file_add_copy(struct pool_file *file, unsigned *ret_copy);
/* On which tiers further copies of an open file are wanted, as in pool_want; taking it sets it. */
void pool_file_set_tiers(struct pool_file *file, unsigned tiers);
/* No further copy goes to this disk, until another is named; 0: none. */
void pool_file_shun(struct pool_file *file, uint64_t disk);
/* The row says `copies` now, a subset of what the file has in any order: others are removed, where
 * their disks can be reached, and those that were stale or failed and are not called stale count
 * again. */
void pool_file_set_copies(struct pool_file *file, const struct pool_copies *copies);
/* Opens copies that could not be reached when the file was opened. Returns bits of those that take
 * part now. */
unsigned pool_file_reopen(struct pool_file *file);
/* The same for those on disks that have failed, which can be read then, but take no part. */
void pool_file_open_failed(struct pool_file *file);
