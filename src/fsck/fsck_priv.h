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
};

struct fsck_disk {
	uint64_t pool, id;
	uint8_t uuid[POOL_UUID_BYTES];
	char *directory;
	bool usable; /* directory and label are right */
};

/* What is in the slots of a group, while it is being looked at. */
struct fsck_content {
	uint32_t slots;
	uint32_t *crcs;   /* of what was read */
	uint64_t *known;  /* bits: it was read */
	uint64_t *proven; /* it is what its record or index says */
	uint64_t *bad;    /* it is not */
	uint64_t *named;  /* the map names it */
};

struct fsck_file {
	uint64_t pool, vdisk;
	struct egroup_file_row row;
	unsigned there;       /* bits: copies that were found and are large enough */
	struct fsck_group *group; /* those in it are linked by `next` */
	uint32_t group_count;
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
};

/* A change of the catalog that a repair makes. */
struct fsck_change {
	enum catalog_change_kind kind;
	struct catalog_key key;
	uint64_t version; /* the row's as it was read */
	uint8_t value[VDISK_ROW_BYTES];
	uint32_t length;
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
	char *buffer; /* FSCK_WINDOW_BLOCKS, aligned */
	struct fsck_change *changes;
	size_t change_count, change_capacity;
	bool rows_missing; /* what is not in the rows may have been there */
};

#define FSCK_WINDOW_BLOCKS 512u

/* fsck.c */
/* The rows of a copy of the catalog, as far as they can be read. */
int fsck_catalog_read(struct fsck *fsck);
void fsck_find(struct fsck *fsck, enum fsck_kind kind, const char *object, const char *cause, ...)
	__attribute__((format(printf, 4, 5)));
/* The same, of something that the repair puts right as `done` says. */
void fsck_find_fixed(struct fsck *fsck, enum fsck_kind kind, const char *object, const char *done,
		     const char *cause, ...) __attribute__((format(printf, 5, 6)));
/* -ECANCELED when it is to stop. */
int fsck_progress(struct fsck *fsck, uint64_t bytes);
int fsck_add_change(struct fsck *fsck, const struct fsck_change *change);

/* fsck_repair.c: makes the changes that were added. */
int fsck_repair(struct fsck *fsck);

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

/* fsck_group.c: everything that a file stores. */
int fsck_content_new(struct fsck_group *group);
void fsck_content_free(struct fsck_group *group);
/* Reads all copies; fills the content of the file's groups. */
int fsck_file_scan(struct fsck *fsck, struct fsck_file *file);
/* The places of a compacted file's groups alone. */
int fsck_index_load(struct fsck *fsck, struct fsck_file *file);
/* Damaged slots that no map names. */
void fsck_file_unused(struct fsck *fsck, struct fsck_file *file);

/* fsck_vdisk.c: its map. fsck_tail.c: the end of its log. */
int fsck_vdisk_check(struct fsck *fsck, struct fsck_vdisk *vdisk);
int fsck_tail_check(struct fsck *fsck, struct fsck_vdisk *vdisk);

static inline bool fsck_bit(const uint64_t *bits, uint32_t bit)
{
	return bits[bit / 64] >> (bit % 64) & 1;
}
static inline void fsck_bit_set(uint64_t *bits, uint32_t bit)
{
	bits[bit / 64] |= UINT64_C(1) << (bit % 64);
}
