/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The catalog rows of pools and their disks (docs/format.md): keys, encoding, and decoding with
 * every field checked. -EUCLEAN where a row is damaged, with its key in the log.
 */
#include "pool/pool.h"
#include "pool/pool_disk.h"
#include "pool/pool_label.h"

#define POOL_DIRECTORY_MAX 3900 /* leaves room for the names below it */
#define POOL_TIER_DEFAULT  "ssd"

struct pool_row {
	uint64_t capacity_bytes; /* 0 = the file system's */
	uint64_t created_wall_ns;
	char name[POOL_NAME_MAX + 1];
	bool deleting; /* for good: pool_delete.c */
};

struct pool_disk_row {
	unsigned
		version; /* as read: 1 had neither tier nor flags, and its capacity is the pool's */
	bool draining, failed;
	uint64_t created_wall_ns;
	uint64_t capacity_bytes; /* 0 = the file system's */
	char tier[POOL_TIER_MAX + 1];
	uint8_t uuid[POOL_UUID_BYTES];
	char directory[POOL_DIRECTORY_MAX + 1];
};

#define POOL_ROW_BYTES          88u
#define POOL_DISK_ROW_BYTES     56u /* and the directory's name */
#define POOL_FILE_ROW_BYTES_MIN 56u

struct catalog_key pool_rows_pool_key(uint64_t pool_id);
struct catalog_key pool_rows_disk_key(uint64_t pool_id, uint64_t disk_id);
/* All rows of group files of a pool start with it. */
struct catalog_key pool_rows_files_prefix(uint64_t pool_id);

void pool_rows_encode_pool(const struct pool_row *row, uint8_t ret_value[POOL_ROW_BYTES]);
/* Returns the length. */
uint32_t pool_rows_encode_disk(const struct pool_disk_row *row,
			       uint8_t ret_value[POOL_DISK_ROW_BYTES + POOL_DIRECTORY_MAX]);

int pool_rows_decode_pool(const struct catalog_row *row, struct pool_row *ret_row);
int pool_rows_decode_disk(const struct catalog_row *row, struct pool_disk_row *ret_row);
/*
 * The pool's part of a CATALOG_EGFILE row: size, version, copies; the rest of its
 * POOL_FILE_ROW_BYTES_MIN bytes and more are the egroup store's. Rows of version 1 knew no copies:
 * theirs is on disk 0, which stands for the pool's first.
 */
void pool_rows_encode_file(uint64_t size_bytes, const struct pool_copies *copies,
			   uint8_t value[POOL_FILE_ROW_BYTES_MIN]);
int pool_rows_decode_file(const struct catalog_row *row, uint64_t *ret_id, uint64_t *ret_size_bytes,
			  struct pool_copies *ret_copies);

/* Of a CATALOG_EGROUP row no more than the file that the group is in; the rest is the egroup
 * store's. */
#define POOL_GROUP_ROW_BYTES   64u
#define POOL_GROUP_ROW_VERSION 1u
#define POOL_GROUP_ROW_FILE    24u /* offset of 8 bytes */
int pool_rows_decode_group(const struct catalog_row *row, uint64_t *ret_file);

/* From fibers. */
/* The container of a vDisk, by its row, of which the rest is the vDisk's: those bytes and the
 * version before them. -ENOENT; -EUCLEAN: too short. */
#define POOL_VDISK_ROW_CONTAINER 16u /* offset of 8 bytes */
int pool_rows_get_container(struct catalog *catalog, uint64_t vdisk, uint64_t *ret_container);
int pool_rows_get_pool(struct catalog *catalog, uint64_t pool_id, struct catalog_row *ret_raw,
		       struct pool_row *ret_row);
/* Calls fn for each disk of a pool, in order of id, until it returns an error, which is returned.
 * -EUCLEAN when it has none. */
int pool_rows_each_disk(struct catalog *catalog, uint64_t pool_id,
			int (*fn)(void *arg, uint64_t disk_id, const struct pool_disk_row *row),
			void *arg);
