/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Makes the catalog again from what is in the pools' directories alone: labels, group files and
 * what these say of themselves (vdisk/identity.h). The last resort, when the catalog and all its
 * mirrors are gone or damaged. What cannot be known is made plainly and told.
 *
 * Nobody else uses the state meanwhile. Everything is read, and each block held against its
 * checksum, before anything is written. Memory: about 500 bytes for each copy of a file, 200 a
 * group, a kilobyte a checkpoint that is found, and what the new rows take.
 *
 * From a fiber.
 */
#include "world/world.h"

enum fsck_rebuild_kind {
	FSCK_REBUILD_NOTE,
	FSCK_REBUILD_DOUBT,   /* it is not certain that this is as it was */
	FSCK_REBUILD_REFUSED, /* why nothing was done */
};

struct fsck_rebuild_note {
	enum fsck_rebuild_kind kind;
	const char *object, *text, *advice; /* advice may be NULL */
};

struct fsck_rebuild_vdisk { /* one that was made */
	uint64_t pool, id;
	const char *pool_name, *container, *name;
	uint64_t size_bytes, live_bytes;
	uint32_t block_bytes;
	unsigned copies;
	uint64_t checkpoint_lsn;  /* of the map that was taken; 0 = none, all comes from the log */
	uint64_t log_lsn;         /* the log reaches to here */
	uint64_t written_wall_ns; /* when that checkpoint was made; 0 = not known */
	bool is_doubtful;
};

struct fsck_rebuild_options {
	struct world *world;
	const char *catalog;      /* its database file */
	const char *vfs;          /* NULL: the system's */
	const char *scratch;      /* an empty directory */
	char *const *directories; /* of the pools' disks; none: those that the old state names */
	size_t directory_count;
	bool show_only, force;
	void (*note)(void *arg, const struct fsck_rebuild_note *note);
	void (*vdisk)(void *arg, const struct fsck_rebuild_vdisk *vdisk);
	/* Now and then; false: stop. May be NULL. */
	bool (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total);
	void *arg;
};

struct fsck_rebuild_report {
	uint64_t pools, disks, vdisks, files, groups, rows, bytes;
	uint64_t doubts;
};

/* -EEXIST: refused, as a note told; -ECANCELED; else why it could not be done. */
int fsck_rebuild(const struct fsck_rebuild_options *options,
		 struct fsck_rebuild_report *ret_report);
