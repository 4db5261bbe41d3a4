/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* For pool_priv.h, and pool_sweep.c, which reads the rows of files. */
#include "pool/pool_damage.h"

/* A file that a row names. In order of vDisk and id, as the rows come. */
struct pool_known_file {
	uint64_t vdisk, id;
	bool has_group;
};

struct pool_known_files {
	struct pool_known_file *items;
	size_t count, room;
};

struct pool_damages {
	struct pool_damage *items;
	size_t count, room;
	bool in_doubt;
};

/* -ENOMEM. */
int pool_damage_add(struct pool *pool, const struct pool_damage *damage);
/* A row that says what cannot be; of its key, what can be. */
int pool_damage_add_row(struct pool *pool, enum pool_damage_kind kind,
			const struct catalog_row *row);
int pool_known_files_add(struct pool_known_files *known, uint64_t vdisk, uint64_t id);
void pool_known_files_done(struct pool_known_files *known);
/* Two rows name the file; that of `vdisk` is the second. */
int pool_damage_add_shared(struct pool *pool, const struct pool_known_files *known, uint64_t vdisk,
			   uint64_t id);
/* When the rows of files were read: those of groups, and those that are of no pool. From a fiber.
 */
int pool_damage_find(struct pool *pool, struct pool_known_files *known);
void pool_damages_done(struct pool *pool);
