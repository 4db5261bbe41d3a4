/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The state of one check, shared inside the folder. One fiber. */
#include "catalog/catalog.h"
#include "egroup/rows.h"
#include "fsck/fsck.h"
#include "pool/pool_rows.h"
#include "vdisk/rows.h"

#define FSCK_OBJECT_MAX 192
#define FSCK_CAUSE_MAX  320

struct fsck_pool {
	uint64_t id;
	struct pool_row row;
	uint64_t largest_file; /* id, of what lies on its disks */
};

struct fsck_disk {
	uint64_t pool, id;
	uint8_t uuid[POOL_UUID_BYTES];
	char *directory;
	bool usable;          /* directory and label are right */
	uint64_t unlisted[4]; /* bits: directories of groups/ that cannot be listed */
};

struct fsck_slot { /* what each copy of the file has there */
	uint32_t slot;
	uint32_t crcs[POOL_COPIES_MAX];
	unsigned count, read; /* copies; bits: those that could be read */
};

/* What is in the slots of a group, while it is being looked at. */
struct fsck_content {
	uint32_t slots;
	uint32_t *crcs;   /* of what is right, where that is known; else of what was read */
	uint64_t *known;  /* bits: it was read from some copy */
	uint64_t *proven; /* some copy is what its record or index says */
	uint64_t *bad;    /* no copy is */
	uint64_t *named;  /* the map names it */
	uint64_t
		*wrong[POOL_COPIES_MAX]; /* by copy: another one has it right; NULL with one copy */
	/* By slot: where copies differ, and no record says which is right: who names it does. */
	struct fsck_slot *disputes;
	size_t dispute_count, dispute_capacity;
};

struct fsck_file {
	uint64_t pool, vdisk;
	struct egroup_file_row row;
	unsigned there;   /* bits: copies that were found and are large enough, */
	unsigned missing; /* and those that are not, on disks that are in order */
	unsigned unseen;  /* those that may be there, or not: the disk does not say */
	uint64_t found_bytes[POOL_COPIES_MAX];
	int read_errors[POOL_COPIES_MAX]; /* the first of each copy, where there are several */
	unsigned wrong_index;             /* bits: copies; another has it right */
	bool damaged;                     /* there is something that no copy has right */
	bool log_damaged;                 /* what was flushed to the log is not all there */
	bool told;                        /* what is missing */
	struct fsck_group *group;         /* those in it are linked by `next` */
	uint32_t group_count;
	uint32_t change; /* of its row: 1 + index, or 0 */
};

struct fsck_group {
	uint64_t pool, vdisk;
	struct egroup_group_row row;
	struct fsck_file *file;
	struct fsck_group *next;
	struct fsck_content *content; /* in the part that is looked at now */
	uint16_t *stored;             /* with `content`, or always with map pages: compacted */
};

struct fsck_vdisk {
	struct vdisk_row row;
	struct fsck_file *files; /* file_count of them, by id */
	struct fsck_group *groups;
	size_t file_count, group_count;
	bool map_damaged; /* it is not known what is in use */
	uint32_t change;  /* of its row: 1 + index, or 0 */
};

/* A finding that is told when the change that puts it right was made, or was not. */
struct fsck_pending {
	enum fsck_kind kind;
	uint32_t change; /* index */
	char *object, *cause;
	const char *done;
};

/* A change of the catalog that a repair makes. */
struct fsck_change {
	enum catalog_change_kind kind;
	struct catalog_key key;
	uint64_t version; /* the row's as it was read */
	uint8_t value[VDISK_ROW_BYTES];
	uint32_t length;
	bool dropped; /* it is not made after all */
};

struct fsck {
	const struct fsck_options *options;
	struct fsck_report report;
	struct catalog_rows rows;
	struct fsck_pool *pools;
	struct fsck_disk *disks;
	struct fsck_file *files;
	struct fsck_group *groups;
	struct fsck_vdisk *vdisks;
	size_t pool_count, disk_count, file_count, group_count, vdisk_count;
	struct fsck_file **by_id; /* all files, by pool and id */
	uint64_t total_bytes;
	uint64_t last_progress_ns;
	char *buffer; /* a window for each copy, aligned */
	struct fsck_change *changes;
	size_t change_count, change_capacity;
	struct fsck_pending *pending;
	size_t pending_count, pending_capacity;
	struct catalog *catalog; /* open from the first thing on that is put right */
	bool rows_missing;       /* what is not in the rows may have been there */
	bool rows_doubtful;      /* something is wrong among them: they may lack others */
	bool refused;            /* nothing is put right: that was told */
};

#define FSCK_WINDOW_BLOCKS 512u
#define FSCK_WINDOW_BYTES  ((size_t)FSCK_WINDOW_BLOCKS * BLOCK_BYTES)

/* fsck.c */
/* The rows of a copy of the catalog, as far as they can be read. */
int fsck_catalog_read(struct fsck *fsck);
void fsck_find(struct fsck *fsck, enum fsck_kind kind, const char *object, const char *cause, ...)
	__attribute__((format(printf, 4, 5)));
/* The same, of something that was put right as `done` says (NULL: it was not). */
void fsck_find_done(struct fsck *fsck, enum fsck_kind kind, const char *object, const char *done,
		    const char *cause, ...) __attribute__((format(printf, 5, 6)));
void fsck_tell(struct fsck *fsck, enum fsck_kind kind, const char *object, const char *cause,
	       const char *done);
/* -ECANCELED when it is to stop. */
int fsck_progress(struct fsck *fsck, uint64_t bytes);

/* fsck_repair.c: what is put right in the catalog, each at the end of the check. */
/* Whether something may be written now: asked before, each time. */
bool fsck_may_repair(struct fsck *fsck);
/* Something that `change` puts right as `done` says; told when that was tried, or now. -ENOMEM */
int fsck_fix(struct fsck *fsck, const struct fsck_change *change, enum fsck_kind kind,
	     const char *object, const char *done, const char *cause, ...)
	__attribute__((format(printf, 6, 7)));
/* The same by the file's, or the vDisk's, row as its struct says now. */
int fsck_fix_file(struct fsck *fsck, struct fsck_file *file, enum fsck_kind kind,
		  const char *object, const char *done, const char *cause, ...)
	__attribute__((format(printf, 6, 7)));
int fsck_fix_vdisk(struct fsck *fsck, struct fsck_vdisk *vdisk, enum fsck_kind kind,
		   const char *object, const char *done, const char *cause, ...)
	__attribute__((format(printf, 6, 7)));
/* No row is deleted: those that were to be go on being there. */
void fsck_repair_keep_rows(struct fsck *fsck);
int fsck_repair(struct fsck *fsck);
/* Tells what was not put right after all, and frees. */
void fsck_repair_done(struct fsck *fsck);

/* fsck_wal.c */
int fsck_wal_check(struct fsck *fsck, const char *path);

/* fsck_rows.c: the rows into tables, and what they say of each other. */
int fsck_rows_read(struct fsck *fsck);
int fsck_rows_check(struct fsck *fsck);
const struct catalog_row *fsck_row_find(const struct fsck *fsck, const struct catalog_key *key);
struct fsck_pool *fsck_pool_find(const struct fsck *fsck, uint64_t id);
struct fsck_vdisk *fsck_vdisk_find(const struct fsck *fsck, uint64_t id);
struct fsck_group *fsck_group_find(const struct fsck_vdisk *vdisk, uint64_t id);
struct fsck_file *fsck_file_find(const struct fsck *fsck, uint64_t pool, uint64_t id);
/* fsck_names.c */
int fsck_names_check(struct fsck *fsck);
/* After the disks were looked at. */
int fsck_counters_check(struct fsck *fsck);

/* fsck_disk.c: directories. */
int fsck_disks_check(struct fsck *fsck);
struct fsck_disk *fsck_disk_of(const struct fsck *fsck, const struct fsck_file *file,
			       unsigned copy);
/* Bits of copies that count and are there. */
unsigned fsck_file_copies(const struct fsck *fsck, const struct fsck_file *file);
void fsck_file_path(const struct fsck *fsck, const struct fsck_file *file, unsigned copy,
		    char path[4096]);
int fsck_file_open(const struct fsck *fsck, const struct fsck_file *file, unsigned copy,
		   struct world_file **ret_file);
void fsck_file_object(const struct fsck_file *file, uint64_t disk, char object[FSCK_OBJECT_MAX]);
/* Copies that are missing or too short, where nothing is to be done about it. */
void fsck_file_missing(struct fsck *fsck, struct fsck_file *file);
/* What a copy must hold at least. */
uint64_t fsck_file_needs(const struct fsck_file *file);

/* fsck_left.c: a file that no row names. */
int fsck_left_file(struct fsck *fsck, const struct fsck_disk *disk, const char *path, uint64_t id);

/* fsck_content.c: what is known of a group's slots. */
int fsck_content_new(struct fsck_group *group);
void fsck_content_free(struct fsck_group *group);
/* Nobody says what it should be. -ENOMEM */
int fsck_content_note(struct fsck_content *content, const struct fsck_slot *slot);
/* It should have this checksum: true, where a copy does. */
bool fsck_content_expect(struct fsck_content *content, const struct fsck_slot *slot, uint32_t crc);
/* Who names the slot says what it should be: what was noted is settled by that. */
void fsck_content_settle(struct fsck_content *content, uint32_t slot, uint32_t crc);
/* Damaged slots that no map names. */
void fsck_file_unused(struct fsck *fsck, struct fsck_file *file);
/* disk 0: none in particular. */
void fsck_slot_object(const struct fsck_file *file, uint64_t group, uint32_t slot, uint64_t disk,
		      char object[FSCK_OBJECT_MAX]);

/* fsck_scan.c: everything that a file stores. */
/* Reads all copies side by side; fills the content of the file's groups. */
int fsck_file_scan(struct fsck *fsck, struct fsck_file *file);
/* The places of a compacted file's groups alone. */
int fsck_index_load(struct fsck *fsck, struct fsck_file *file);

/* fsck_copies.c: copies that lack something, after the map was gone through. */
int fsck_file_settle(struct fsck *fsck, struct fsck_file *file);

/* fsck_vdisk.c: its map. fsck_tail.c: the end of its log. */
int fsck_vdisk_check(struct fsck *fsck, struct fsck_vdisk *vdisk);
int fsck_tail_check(struct fsck *fsck, struct fsck_vdisk *vdisk);

static inline bool fsck_bit(const uint64_t *bits, uint32_t bit)
{
	return bits[bit / 64] >> (bit % 64) & 1;
}
static inline void fsck_bit_clear(uint64_t *bits, uint32_t bit)
{
	bits[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}
static inline void fsck_bit_set(uint64_t *bits, uint32_t bit)
{
	bits[bit / 64] |= UINT64_C(1) << (bit % 64);
}
