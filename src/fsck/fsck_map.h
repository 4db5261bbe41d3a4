/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The map of a vDisk, read from files: what the check and the rebuild of the catalog share. */
#include "vdisk/page.h"
#include "world/world.h"

struct fsck_node { /* an entry, and what it is of: a page of `level`, or the block `index` */
	unsigned level;
	uint64_t index;
	struct map_entry entry;
};

struct fsck_map_ops {
	/* Reads a page. 1: it is bad, and was told; nothing below it is walked. */
	int (*page)(void *arg, const struct fsck_node *node, struct map_entry *ret_entries);
	void (*block)(void *arg, const struct fsck_node *node);
};
/* All that is below the page, in order; ends with the first error of `page`. */
int fsck_map_walk(const struct fsck_map_ops *ops, void *arg, const struct fsck_node *node);

/* -ENOENT, or which of the slots of a compacted group, which are sorted, that is. */
int fsck_map_find_stored(const uint16_t *stored, uint32_t count, uint32_t slot,
			 uint32_t *ret_position);

#define FSCK_HANDLES 16

struct fsck_handles { /* files of map pages that are kept open, by an owner's file and its copy */
	struct fsck_handle {
		const void *file; /* NULL: none */
		unsigned copy;
		struct world_file *handle;
	} handles[FSCK_HANDLES];
	unsigned next;
};
/* NULL: to be opened, and given to fsck_handles_put(), which closes an older one. */
struct world_file *fsck_handles_get(const struct fsck_handles *handles, const void *file,
				    unsigned copy);
void fsck_handles_put(struct fsck_handles *handles, const void *file, unsigned copy,
		      struct world_file *handle);
void fsck_handles_close(struct fsck_handles *handles);
