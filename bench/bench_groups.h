/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A pool with very many extent groups, for bench_groups. */
#include <stdint.h>

#include "catalog/catalog.h"

struct groups_make {
	const char *directory;
	struct world *world;
	struct catalog *catalog; /* open */
	uint64_t groups;         /* how many */
	uint64_t pool_id, vdisk_id;
	uint64_t first_group, first_file;
};

/*
 * Pool "bench" with one disk and vDisk 1, in which block n is slot 0 of group n. Rows of the
 * catalog, files of one block that nobody reads, and the map. From a fiber.
 */
int groups_make(struct groups_make *make);
