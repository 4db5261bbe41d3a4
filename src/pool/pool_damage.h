/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Rows of files and groups in the catalog that are damaged or cannot be true, as they were found
 * when the pool was opened; nothing of it changes afterwards, so any reactor may look.
 *
 *  1. A vDisk that such a row may be of is not opened: pool_damage_of().
 *  2. While there is one, or any row of the catalog is damaged or missing, the pool is in doubt:
 *     what lies on its disks without a row is kept, charged, and its id not given out; a disk that
 *     nobody has looked through is not removed; the pool is not deleted.
 */
#include "pool/pool.h"

enum pool_damage_kind {
	POOL_DAMAGE_FILE,     /* the row of a file cannot be read, or says what cannot be */
	POOL_DAMAGE_SHARED,   /* rows of two vDisks name one file */
	POOL_DAMAGE_DISK,     /* a copy is on a disk that is not the pool's; others can be used */
	POOL_DAMAGE_GROUP,    /* the row of a group cannot be read, or says what cannot be */
	POOL_DAMAGE_NO_FILE,  /* a group is in a file that has no row, or another vDisk's */
	POOL_DAMAGE_NO_GROUP, /* nothing is in a file, while rows of groups are lost */
};

struct pool_damage {
	uint64_t vdisk; /* 0: it cannot be told whose the row is */
	enum pool_damage_kind kind;
	uint64_t id;   /* of the first file or group */
	uint64_t rows; /* of that vDisk and kind, one after the other */
};

/* Whether the vDisk must stay closed, and for what first. */
bool pool_damage_of(const struct pool *pool, uint64_t vdisk, struct pool_damage *ret_damage);
/* Rows of that kind for all vDisks; what is said of them stands in the log. */
uint64_t pool_damaged_rows(const struct pool *pool);
/* Rows of which it cannot be told whose they are. */
uint64_t pool_damage_nobodys(const struct pool *pool);
bool pool_is_in_doubt(const struct pool *pool);
