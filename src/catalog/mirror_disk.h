/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reads a mirror from its directory, in a fiber: DIRECTORY/catalog/snapshot-N and log-N, log-N+1...
 * Nothing read is believed before its CRC was checked.
 */
#include "catalog/mirror_rows.h"
#include "world/world.h"

#define MIRROR_PATH_BYTES 4096u

struct mirror_path {
	char text[MIRROR_PATH_BYTES];
};

/* DIRECTORY/catalog when `kind` is NULL, else the file of that kind ("log", "snapshot"). */
void mirror_path_of(const char *directory, const char *kind, uint64_t number,
		    struct mirror_path *ret_path);

struct mirror_look {
	struct catalog_position end; /* after its last frame */
	struct mirror_snapshot snapshot;
	uint64_t number;                /* of the snapshot */
	uint64_t log_number, log_bytes; /* of the newest log in use; its next frame goes there */
	uint64_t tail_number;           /* of the log that has the last frame */
	uint64_t frame_bytes;           /* in all its logs */
	bool torn;    /* what follows the last frame is not whole, or of a build that never ended */
	bool damaged; /* whole frames follow what is not: changes are missing in between */
};

/* Headers and logs only. -ENOENT no mirror is there, -EUCLEAN, -EPROTONOSUPPORT, -EIO, ... */
int mirror_look(const char *directory, struct mirror_look *ret_look);
/* The greatest number that any of its files has; 0 when there are none. */
int mirror_highest(const char *directory, uint64_t *ret_number);
/* All of it, checked against itself. */
int mirror_load(const char *directory, struct mirror_look *ret_look, struct mirror_rows *ret_rows);
/* Marks, in the frames of the newest log from `look` on, what was changed meanwhile: calls fn for
 * each entry, and moves the look's end. */
int mirror_follow(const char *directory, struct mirror_look *look,
		  int (*fn)(void *arg, const struct mirror_entry *entry), void *arg);
/* With O_DIRECT where the file system can. */
int mirror_file_open(const char *path, unsigned flags, struct world_file **ret_file);
/* Whether a file of that name in DIRECTORY/catalog is a mirror's. */
bool mirror_owns(const char *name);
/* Removes the files whose numbers are below `keep`, and all unfinished ones. */
int mirror_sweep(const char *directory, uint64_t keep);
