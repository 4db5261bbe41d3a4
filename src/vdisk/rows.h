/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The catalog row of a vDisk (docs/format.md). Pure encoding, and reading it. */
#include "vdisk/page.h"
#include "vdisk/vdisk.h"

#define VDISK_ROW_BYTES 192

struct vdisk_row {
	uint64_t id;
	uint64_t pool, container;
	char name[VDISK_NAME_MAX + 1];
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint64_t created_wall_ns;
	uint64_t epoch;
	bool deleting;
	struct map_entry root; /* of the committed map; absent: all zeros */
	unsigned root_level;
	uint64_t checkpoint_lsn; /* the log up to it is in the map */
	uint64_t log_group;      /* where record checkpoint_lsn + 1 starts, or would have started */
	uint32_t log_slot;
	uint64_t live_slots;
	uint64_t page_lsn; /* sequence number of the last record of the page stream */
	uint64_t version;  /* of the row, for compare-and-swap */
};

struct catalog_key vdisk_row_key(uint64_t id);
void vdisk_row_encode(const struct vdisk_row *row, uint8_t value[VDISK_ROW_BYTES]);
/* -EUCLEAN where the value cannot be true. */
int vdisk_row_decode(const struct catalog_row *from, struct vdisk_row *ret_row);
int vdisk_row_get(struct catalog *catalog, uint64_t id, struct vdisk_row *ret_row); /* -ENOENT */
/* 0 or -EINVAL. */
int vdisk_check_name(const char *name);
int vdisk_check_size(uint64_t size_bytes);
