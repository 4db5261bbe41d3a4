/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The label of a disk directory: 4 KiB that say whose it is. Written once, when the pool is made.
 *
 * While the pool is being made or deleted the file is called label.new, so that a directory with
 * "label" always belongs to a pool that some catalog names.
 */
#include <stdint.h>

#include "pool/pool.h"

#define POOL_UUID_BYTES 16

struct pool_label {
	uint64_t pool_id;
	uint64_t disk_id;
	uint64_t created_wall_ns;
	uint8_t uuid[POOL_UUID_BYTES]; /* of the disk, random */
	char name[POOL_NAME_MAX + 1];  /* of the pool; for people */
};

/* From fibers. -ENOENT, -EUCLEAN, -EPROTONOSUPPORT. */
int pool_label_read(const char *path, struct pool_label *ret_label);
/* 0: what is there, damaged, was `label` for certain: it has the UUID, or else all of pool, disk
 * and time. -EUCLEAN: who knows; -ENOENT ... */
int pool_label_resembles(const char *path, const struct pool_label *label);
/* Writes and syncs the file; its directory entry is the caller's to sync. */
int pool_label_write(const char *path, const struct pool_label *label);
