/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reads a catalog's database as it is, row by row, and goes on where a row is damaged: for tools
 * that check or rebuild. Nothing of a running catalog is used. Blocking: on a worker thread, or
 * where nobody waits. The database may be written to by SQLite (it takes over what is in the WAL):
 * give it a copy when that must not be.
 */
#include "catalog/catalog.h"

struct catalog_raw_damage {
	const char *what;       /* in words */
	struct catalog_key key; /* of the damaged row; length 0: of the database as a whole */
};

struct catalog_raw {
	const char *path, *vfs; /* as in catalog_options */
	void (*damage)(void *arg, const struct catalog_raw_damage *damage);
	void *arg;
};

/* All sound rows in order of key, as far as they can be read; what is not sound is told. 0 also
 * then; -ENOENT, -ENOMEM, -EIO, ...: nothing could be read. */
int catalog_raw_read(const struct catalog_raw *raw, struct catalog_rows *ret_rows);

/* Whether there are as many rows as the row of the position says, if there is one: of rows that are
 * gone with their whole page SQLite knows nothing. */
bool catalog_raw_is_whole(const struct catalog_rows *rows);
