/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * vDisks: log-structured virtual disks over append-only extent groups.
 *
 * A vDisk is rows in the catalog (vdisk_create, _list, _rename, _delete) and, while it is open, an
 * object on one home reactor that is a block volume. Functions are called from fibers unless said
 * otherwise; those that take a `struct vdisk` on its home reactor.
 */
#include "block/block.h"
#include "pool/pool.h"

struct vdisk;
struct vdisk_cache;
struct container_policy;

#define VDISK_NAME_MAX  63
#define VDISK_MAX_BYTES (64 * TIB)
#define VDISK_MIN_BYTES (1 * MIB)

struct vdisk_spec {
	const char *name; /* [a-zA-Z0-9][a-zA-Z0-9._-]*, unique in the container */
	uint64_t container_id;
	uint64_t size_bytes;  /* multiple of 4 KiB, VDISK_MIN_BYTES to VDISK_MAX_BYTES */
	uint32_t block_bytes; /* logical block: 512 or 4096 */
};

struct vdisk_info { /* what the catalog knows of a vDisk */
	uint64_t id;
	uint64_t pool_id;
	uint64_t container_id;
	char name[VDISK_NAME_MAX + 1];
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint64_t created_wall_ns;
	uint64_t epoch;
	uint64_t live_bytes; /* at the last checkpoint */
	bool deleting;       /* a delete was begun and goes on at the next start */
};

struct vdisk_stats { /* since open */
	uint64_t operations[BLOCK_OP_COUNT];
	uint64_t bytes[BLOCK_OP_COUNT];
	uint64_t errors[BLOCK_OP_COUNT];
	uint64_t in_flight;
	uint64_t live_bytes, log_tail_bytes, map_memory_bytes;
	uint64_t device_written_bytes; /* all that went to disk: records, pages, compaction */
	uint64_t device_read_bytes;
	uint64_t checkpoints, groups, compacted_groups, compacted_bytes, checksum_errors;
	/* Map pages that cannot be read, blocks that were lost with one: as far as is known. Not 0:
	 * the vDisk is damaged. */
	uint64_t damaged_pages;
};

/* Memory for maps of the vDisks of one reactor: cached pages are dropped and deltas are folded to
 * stay below `budget_bytes`. */
int vdisk_cache_new(struct reactor *reactor, uint64_t budget_bytes, struct vdisk_cache **ret_cache);
void vdisk_cache_free(struct vdisk_cache *cache);

int vdisk_create(struct pool *pool, const struct vdisk_spec *spec, uint64_t *ret_id);
int vdisk_get(struct catalog *catalog, uint64_t id, struct vdisk_info *ret_info);
int vdisk_find(struct catalog *catalog, uint64_t container_id, const char *name,
	       struct vdisk_info *ret_info);
/* All vDisks in order of id; caller frees. */
int vdisk_list(struct catalog *catalog, struct vdisk_info **ret_infos, size_t *ret_count);
/* Of an open or closed vDisk; a new name within its container. */
int vdisk_rename(struct catalog *catalog, uint64_t id, const char *name);

/* Opens on the current reactor: replays the log's tail (vdisk_is_stranded(): where nothing can be
 * written, only into memory). -EUCLEAN / -EBADMSG where it is damaged.
 * The volume it gives lives until vdisk_close(). */
int vdisk_open(struct pool *pool, struct vdisk_cache *cache, uint64_t id, struct vdisk **ret_vdisk);
/* No request is in flight. Checkpoints, seals, trims. The object is freed whatever is returned. */
int vdisk_close(struct vdisk *vdisk);
struct block_volume *vdisk_volume(struct vdisk *vdisk);
uint64_t vdisk_id(const struct vdisk *vdisk);
/* 0, or why it takes no more writes until it is opened again. Any reactor. */
int vdisk_error(const struct vdisk *vdisk);
/* It was opened while no disk of its pool could be written: vdisk_error() is -EROFS until one can,
 * then it takes writes by itself. What changes it gives -EROFS meanwhile: guests' writes,
 * vdisk_resize(), vdisk_repair(), vdisk_check(). Any reactor. */
bool vdisk_is_stranded(const struct vdisk *vdisk);
/* Grows or shrinks; what is cut off is gone and its space comes back. */
int vdisk_resize(struct vdisk *vdisk, uint64_t size_bytes);
int vdisk_checkpoint(struct vdisk *vdisk);
void vdisk_get_stats(struct vdisk *vdisk, struct vdisk_stats *ret_stats);
/* Completed-request latencies in ns of reads and of writes (struct histogram, base/histogram.h). */
const struct histogram *vdisk_latency(struct vdisk *vdisk, enum block_op op);

/* What long work has done; false asks it to stop. */
typedef bool vdisk_progress_fn(void *arg, uint64_t bytes_done, uint64_t bytes_total);

/* The first step of vdisk_delete() alone: durable when it returns. */
int vdisk_mark_deleting(struct pool *pool, uint64_t id);
/* Marks as deleting, then removes groups and rows, in steps; goes on after a crash when called
 * again. The vDisk is closed. `progress` (may be NULL) is called between steps on this fiber; if it
 * returns false, the rest is left for another call: -ECANCELED. */
int vdisk_delete(struct pool *pool, uint64_t id, vdisk_progress_fn *progress, void *arg);

/* How many copies of its data there are; bytes of files, each file counted once. */
struct vdisk_redundancy {
	unsigned factor;         /* copies that there should be */
	uint64_t whole;          /* have them */
	uint64_t degraded;       /* have fewer; of these: */
	uint64_t single;         /* one copy is left where there should be more */
	uint64_t lost;           /* no copy can be read; of these: */
	uint64_t resort;         /* a disk that has failed has one, which may still give it */
	uint64_t resort_groups;  /* the same, in groups */
	uint64_t leaving;        /* have copies on disks that are draining */
	uint64_t to_copy;        /* bytes that repair has to write, as things are now */
	uint64_t to_drop;        /* have copies that repair is to remove */
	uint64_t waiting_blocks; /* because of which such copies, on disks that have gone, stay */
};
/* Gives others a turn now and then: what changes meanwhile is counted as before or as after. */
void vdisk_get_redundancy(struct vdisk *vdisk, struct vdisk_redundancy *ret);
/* Groups that only disks that have failed have, this one among them. In the same way. */
uint64_t vdisk_get_resort(struct vdisk *vdisk, uint64_t disk);
/* For files made from now on; repair adds to the others, or removes, as there is room.
 * 1 .. POOL_FACTOR_MAX */
void vdisk_set_factor(struct vdisk *vdisk, unsigned factor);
/* The same for all of the policy that says where files go; what is there stays there. Fiber. */
void vdisk_set_policy(struct vdisk *vdisk, const struct container_policy *policy);

enum vdisk_urgency {
	VDISK_REPAIR_ALL,
	VDISK_REPAIR_SINGLE, /* only what has one copy left where there should be more, or: */
	VDISK_REPAIR_RESORT, /* only what is on disks that have failed, and nowhere else */
};

struct vdisk_repair {
	enum vdisk_urgency urgent;
	/* After each piece, on this fiber; false: stop. May be NULL. */
	bool (*progress)(void *arg, uint64_t copied_bytes);
	void *arg;
	uint64_t copied_bytes, dropped_copies, damaged_blocks; /* out */
	/* Blocks that are wrong on every copy that can be asked, while one that may have them right
	 * is on a disk that has gone: it is waited for. */
	uint64_t waiting_blocks;
	uint64_t mismatches,
		mismatch_disk; /* new copies that gave something else; the last there */
};
/* Makes missing copies and empties disks that are draining. Leaves the disk to the guest while it
 * is busy. 0: what could be done is done; -ECANCELED; else the first error of a file that must be
 * tried again later (-ENOSPC: no disk can take a copy). */
int vdisk_repair(struct vdisk *vdisk, struct vdisk_repair *repair);

enum vdisk_finding_kind {
	VDISK_FINDING_DATA,
	VDISK_FINDING_MAP,    /* a page of the map */
	VDISK_FINDING_RECORD, /* the header of a record: no data of its own, but says whose they are
			       */
	VDISK_FINDING_INDEX,  /* of a compacted file */
};
enum vdisk_use {
	VDISK_USE_UNKNOWN, /* the map could not tell */
	VDISK_USE_LIVE,
	VDISK_USE_DEAD, /* overwritten or unmapped since: nobody will read it */
};
struct vdisk_finding { /* of a scrub */
	enum vdisk_finding_kind kind;
	enum vdisk_use use;
	/* Of the vDisk: the block, or what the page, record or index tells of. 0 bytes: not known.
	 * When it is dead: what it held. */
	uint64_t offset, bytes;
	uint64_t group;       /* 0: the index of a file */
	uint32_t slot, slots; /* from where on, how many: 1, or a record's, if it can be told */
	uint64_t file;
	uint64_t disk;  /* that has it wrong; 0: every copy is damaged */
	int error;      /* of reading it from every copy: -EBADMSG, -EIO, -EUCLEAN; else 0 */
	bool put_right; /* from another copy; else, with a disk, it could not be written there ...
			 */
	bool pending;   /* ... or a copy that may have it right is on a disk that has gone */
};
struct vdisk_scrub {
	uint64_t after; /* in: where an earlier one stopped; out: to be kept */
	uint64_t last;  /* in: no file after this one; 0: all */
	/* After each piece, on this fiber; false: stop. May be NULL. */
	bool (*progress)(void *arg, uint64_t bytes);
	/* After each file, when `after` has moved; false: stop there. May be NULL. */
	bool (*next)(void *arg);
	/* While it looks for where findings lie, which may take long; true: stop. May be NULL. */
	bool (*stopped)(void *arg);
	/* Some time after it was counted, before vdisk_scrub() returns. May be NULL. */
	void (*finding)(void *arg, const struct vdisk_finding *finding);
	void *arg;
	uint64_t bytes; /* out, these are added to */
	uint64_t put_right;
	uint64_t left;    /* wrong on a copy that could not be written again */
	uint64_t damaged; /* on every copy */
	/* On every copy that can be reached now, and others may have it right; or right there, but
	 * the copy could not be read, for its disk went or hung. */
	uint64_t pending;
	/* Of these, what belongs to files up to `after`. The rest is read, and found, again when it
	 * goes on from there, but for what was put right. */
	uint64_t done_bytes, done_left, done_damaged, done_pending;
};
/* Reads every copy that can be reached of all that is stored and sealed, and holds each block
 * against its checksum. Beside guests it goes as slowly as they need. -ECANCELED; an error of a
 * disk is a finding. */
int vdisk_scrub(struct vdisk *vdisk, struct vdisk_scrub *scrub);
/* How much it has to read. Gives others a turn now and then. */
uint64_t vdisk_scrub_bytes(struct vdisk *vdisk);

struct vdisk_check_report {
	uint64_t pages, blocks, bad_pages, bad_blocks, leaked_blocks, missing_live_blocks;
};
/* Walks the whole map, compares liveness with it, optionally reads all data. The vDisk may be in
 * use; leaked blocks are counted only when nothing is written meanwhile. `progress` (may be NULL)
 * is called on this fiber; when it returns false: -ECANCELED.
 */
int vdisk_check(struct vdisk *vdisk, bool read_data, vdisk_progress_fn *progress, void *arg,
		struct vdisk_check_report *ret_report);
