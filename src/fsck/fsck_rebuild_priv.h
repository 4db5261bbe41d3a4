/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The state of one rebuild, shared by fsck_rebuild*.c. One fiber. */
#include <errno.h>

#include "catalog/catalog.h"
#include "egroup/index.h"
#include "egroup/store.h"
#include "fsck/fsck_file_name.h"
#include "fsck/fsck_rebuild.h"
#include "pool/pool_rows.h"
#include "vdisk/identity.h"
#include "vdisk/rows.h"

#define REBUILD_TEXT_MAX      320
#define REBUILD_WINDOW_BLOCKS 512u
#define REBUILD_ID_MAX        FSCK_ID_MAX
#define REBUILD_GROUP_MAX     ((UINT64_C(1) << EGROUP_ID_BITS) - 1)

struct rebuild_disk {
	char *directory;
	struct pool_label label;
	bool lacks_directories; /* in groups/ */
};

struct rebuild_index { /* of a compacted file */
	struct index_view view;
	void *memory;
};

enum rebuild_content_kind {
	REBUILD_NOTHING, /* nothing that belongs to this file, or it is not known what */
	REBUILD_PLAIN,
	REBUILD_COMPACTED,
};

/* What one copy of a file holds. */
struct rebuild_content {
	enum rebuild_content_kind kind;
	uint64_t vdisk;
	uint32_t bad;    /* blocks before the end that are not as their checksums say */
	uint32_t unread; /* blocks that the disk does not give */
	bool is_damaged; /* it had something, but what tells of it is damaged */
	bool is_reused;  /* what tells of it is whole, and of an earlier life, as where nothing was
			  * written since */
	/* Then: whose pages of a map it may have had, and the newest group of them, or 0. */
	uint64_t lost_vdisk, lost_pages;
	uint64_t lost_durable; /* or up to where its log was durable, if it was of that; 0 = not
				  known */
	/* Plain: one group. */
	uint64_t group, epoch;
	enum record_stream stream;
	bool is_old; /* its records do not name their file */
	/* The last bad block that may have been a root, 0 = none: its slot, and its group, too, in
	 * a compacted file. */
	uint32_t last_bad;
	uint64_t last_bad_group;
	uint32_t torn; /* the slot of a header of it that is damaged, behind the end; 0 = none */
	uint64_t first_lsn, last_lsn;
	uint64_t run_lsn;     /* up to it, nothing is missing or bad */
	uint64_t durable_lsn; /* the most that a record says */
	uint64_t block_end;   /* of the vDisk: behind the last that a record names */
	uint32_t end;         /* in slots, behind the last record */
	uint32_t run_end;     /* the same of record run_lsn */
	/* Compacted. */
	uint32_t index_blocks, total_slots;
};

/* A file on one disk; of one id there may be one in groups/ and some in unclaimed/. */
struct rebuild_copy {
	uint64_t pool, id;
	unsigned disk;     /* index */
	unsigned number;   /* of its name in unclaimed/, where that was taken; 0 = none */
	bool is_unclaimed; /* lies in unclaimed/ */
	bool is_used;      /* counts, as a copy of what the row will say */
	bool is_stale;
	bool is_named; /* by the file's row */
	int error;     /* of looking at it */
	uint64_t size_bytes;
	uint64_t vdisk; /* of its first content: what is cut off later stays whose it was */
	struct rebuild_content content;
	struct rebuild_index *index; /* while its file is looked at */
};

struct rebuild_file {
	uint64_t pool, id;
	struct rebuild_copy *copies; /* by disk, those in groups/ first */
	unsigned copy_count;
	struct rebuild_content content; /* of the best copy */
	bool is_named;                  /* a row names it */
};

struct rebuild_group {
	uint64_t pool, vdisk, id, epoch;
	enum record_stream stream;
	struct rebuild_file *file;
	uint64_t first_lsn, last_lsn, run_lsn, durable_lsn, block_end; /* plain */
	uint64_t row_lsn;
	uint32_t slots, bad, last_bad, torn, run_end;
	uint32_t named_end; /* behind the last slot that the map names, by the last walk */
	bool is_compacted, is_sealed, is_cut, is_dropped;
	uint32_t base, stored_count;
	uint16_t *stored; /* of compacted groups with map pages */
};

struct rebuild_root { /* a page that may be a map's root */
	uint64_t pool, vdisk, address, lsn;
	uint32_t crc;
	unsigned level;
	struct identity *identity; /* or NULL */
};

struct rebuild_vdisk {
	uint64_t pool, id;
	struct identity *identity; /* of the newest group that has one */
	uint64_t identity_group;
	bool is_known;       /* something sound names it, not only what is damaged */
	uint64_t newest_lsn; /* of any page of its map: there was a checkpoint up to here */
	uint64_t lost_pages; /* the newest group of map pages whose file cannot be used; 0 = none */
	uint64_t lost_durable; /* of its log, by files that cannot be used */
	struct rebuild_group *groups;
	struct rebuild_root *roots; /* the newest first */
	size_t group_count, root_count;
	/* What becomes of it. */
	bool is_made, is_doubtful;
	struct vdisk_row row;
	char container_name[CONTAINER_NAME_MAX + 1];
	unsigned factor;
	uint64_t log_lsn, written_wall_ns;
};

struct rebuild {
	const struct fsck_rebuild_options *options;
	struct fsck_rebuild_report report;
	struct rebuild_disk *disks;
	struct rebuild_copy *copies; /* by pool, id and disk */
	struct rebuild_file *files;  /* by pool and id */
	struct rebuild_group *groups;
	struct rebuild_root *roots;
	struct rebuild_vdisk *vdisks; /* by pool and id */
	size_t disk_count, copy_count, file_count, group_count, root_count, vdisk_count;
	size_t copy_capacity, group_capacity, root_capacity, vdisk_capacity;
	/* Groups of one compacted file in which map pages are: where its index does not tell. */
	uint64_t *page_groups;
	size_t page_group_count, page_group_capacity;
	struct catalog_rows rows; /* the new ones */
	size_t row_capacity;
	size_t *names; /* which of them are names */
	size_t name_count, name_capacity;
	uint64_t highest_file, highest_group; /* seen anywhere, also in spare files */
	char *buffer;                         /* REBUILD_WINDOW_BLOCKS, aligned */
	uint64_t total_bytes, last_progress_ns;
	/* That a daemon may use, and that is to be replaced all the same. */
	bool has_catalog, has_mirror;
	bool is_catalog_whole;
	char suffix[32]; /* of what is put aside */
};

/* fsck_rebuild.c */
void rebuild_tell(struct rebuild *rebuild, enum fsck_rebuild_kind kind, const char *advice,
		  const char *object, const char *text, ...) __attribute__((format(printf, 5, 6)));
void rebuild_doubt(struct rebuild *rebuild, struct rebuild_vdisk *vdisk, const char *advice,
		   const char *text, ...) __attribute__((format(printf, 4, 5)));
/* What could not be read may be all right: -EEXIST, told as refused; with --force 0, and a note. */
int rebuild_refuse(struct rebuild *rebuild, int error, const char *advice, const char *object,
		   const char *text);
int rebuild_progress(struct rebuild *rebuild, uint64_t bytes);
/* The newest that anything in the pool says; NULL = nothing does. */
const struct identity *rebuild_identity(const struct rebuild *rebuild, uint64_t pool);
/* Room for one more of `size` bytes; -ENOMEM. */
int rebuild_reserve(void **items, size_t *capacity, size_t count, size_t size);
static inline bool rebuild_is_fatal(int r)
{
	return r == -ENOMEM || r == -ESHUTDOWN || r == -ECANCELED;
}

/* fsck_rebuild_disk.c: labels and names. */
int rebuild_disks_read(struct rebuild *rebuild);
int rebuild_files_list(struct rebuild *rebuild);
void rebuild_file_path(const struct rebuild *rebuild, const struct rebuild_file *file,
		       unsigned copy, char path[4096]);
int rebuild_file_open(const struct rebuild *rebuild, const struct rebuild_file *file, unsigned copy,
		      struct world_file **ret_handle);
/* A usable mirror on a disk is better than all this. */
int rebuild_refuse_mirrors(struct rebuild *rebuild);
/* What no row names and somebody may miss goes to unclaimed/, where nothing takes it as spare. */
int rebuild_files_move(struct rebuild *rebuild);
/* What a row names in unclaimed/ goes where the pool looks. */
int rebuild_files_claim(struct rebuild *rebuild);
int rebuild_mirrors_move(struct rebuild *rebuild);

/* fsck_rebuild_scan.c: one copy. Adds the vDisk and the roots that it finds, and leaves its index.
 */
int rebuild_scan(struct rebuild *rebuild, struct rebuild_file *file, unsigned copy);
/* The same of a plain copy once more, up to the first record from `limit_lsn` on: only what the
 * copy has is changed. */
int rebuild_scan_cut(struct rebuild *rebuild, struct rebuild_file *file, unsigned copy,
		     uint64_t limit_lsn);
void rebuild_index_free(struct rebuild_index *index);

/* fsck_rebuild_file.c: the copies of each file, and the groups that are in them. */
int rebuild_files_scan(struct rebuild *rebuild);
/* The group's records from `limit_lsn` on do not count. */
int rebuild_group_cut(struct rebuild *rebuild, struct rebuild_group *group, uint64_t limit_lsn);
void rebuild_file_settle(struct rebuild_file *file, bool takes_all);
struct rebuild_group *rebuild_group_find(const struct rebuild_vdisk *vdisk, uint64_t id);
struct rebuild_vdisk *rebuild_vdisk_find(struct rebuild *rebuild, uint64_t pool, uint64_t id);
int rebuild_vdisk_add(struct rebuild *rebuild, uint64_t pool, uint64_t id,
		      struct rebuild_vdisk **ret_vdisk);

/* fsck_rebuild_map.c */
struct rebuild_walk {
	uint64_t slots;          /* that the map names */
	uint64_t bad_pages;      /* that cannot be read */
	uint64_t missing_blocks; /* whose group is not there */
	uint64_t block_end;
};
int rebuild_map_walk(struct rebuild *rebuild, const struct rebuild_vdisk *vdisk,
		     const struct rebuild_root *root, struct rebuild_walk *ret_walk);

/* fsck_rebuild_vdisk.c */
int rebuild_vdisk_settle(struct rebuild *rebuild, struct rebuild_vdisk *vdisk);

/* fsck_rebuild_rows.c */
int rebuild_rows_make(struct rebuild *rebuild);
