/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a vDisk says of itself in its own groups, so that a catalog can be made again from them: in
 * the first record of each group, and in each root page of its map, which stays where compaction
 * moves live slots. Pure encoding; docs/format.md shows the bytes.
 *
 * A root page is one checkpoint: its LSN is the page's, its address and level are where and what
 * the page is; `epoch`, `log_group` and `log_slot` are of use there only.
 */
#include "pool/container.h"
#include "pool/pool_disk.h"
#include "vdisk/page.h"
#include "vdisk/vdisk.h"

#define IDENTITY_MAGIC   UINT32_C(0x44495653) /* "SVID" */
#define IDENTITY_VERSION 1u

struct identity_disk { /* little-endian */
	uint32_t magic;
	uint32_t version;
	uint64_t container;
	uint64_t created_wall_ns; /* the vDisk */
	uint64_t written_wall_ns; /* this */
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint32_t factor;
	uint64_t epoch;
	uint64_t log_group; /* where the record after the checkpoint starts, or would start */
	uint32_t log_slot;
	uint32_t disk_count; /* of the pool */
	char name[VDISK_NAME_MAX + 1];
	char container_name[CONTAINER_NAME_MAX + 1];
	uint64_t disks[POOL_DISKS_MAX]; /* ids, ascending; then zeros */
	uint8_t tiers[POOL_DISKS_MAX];
	uint8_t reserved[24];
};
_Static_assert(sizeof(struct identity_disk) == RECORD_NOTE_BYTES, "on-disk format");
_Static_assert(offsetof(struct identity_disk, epoch) == 48, "on-disk format");
_Static_assert(offsetof(struct identity_disk, name) == 72, "on-disk format");
_Static_assert(offsetof(struct identity_disk, disks) == 200, "on-disk format");
_Static_assert(offsetof(struct identity_disk, tiers) == 712, "on-disk format");

struct identity {
	uint64_t container, created_wall_ns, written_wall_ns, size_bytes;
	uint32_t block_bytes;
	unsigned factor;
	uint64_t epoch, log_group;
	uint32_t log_slot;
	char name[VDISK_NAME_MAX + 1];
	char container_name[CONTAINER_NAME_MAX + 1];
	unsigned disk_count;
	uint64_t disks[POOL_DISKS_MAX];
	uint8_t tiers[POOL_DISKS_MAX]; /* enum policy_tier */
};

void identity_encode(const struct identity *identity, struct identity_disk *ret_disk);
/* -ENODATA: there is none, as in what older programs wrote; -EPROTONOSUPPORT; -EUCLEAN. */
int identity_decode(const void *note, struct identity *ret_identity);
