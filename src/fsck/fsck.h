/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Checking a stopped state: the catalog, the pools' directories, every stored byte and every map.
 * Nobody else uses the state meanwhile. The check reads a copy of the catalog and opens all else
 * read-only. Only a repair writes: what a copy has wrong and another has right is written in place
 * as soon as it is known; rows are changed after the check, through the catalog's own door. It may
 * end anywhere, and be made again.
 *
 * Memory: the rows of the catalog, and tables of checksums of `memory_bytes`: a vDisk with more
 * data than they describe is gone through in parts, its map once for each.
 *
 * From a fiber.
 */
#include "world/world.h"

enum fsck_class {
	FSCK_NOTE,  /* as crashes leave it */
	FSCK_MINOR, /* wrong, and can be put right without loss */
	FSCK_ERROR, /* data or facts are damaged */
};

enum fsck_kind {
	FSCK_CATALOG,        /* the database itself */
	FSCK_CATALOG_END,    /* its last commit */
	FSCK_ROW,            /* a row is damaged or cannot be true */
	FSCK_REFERENCE,      /* a row names something that is not there */
	FSCK_NAME,           /* a name is missing or points elsewhere */
	FSCK_COUNTER,        /* ids might be given twice */
	FSCK_DISK,           /* a disk's directory or label */
	FSCK_FILE_MISSING,   /* a row names a file that is not there, or too short */
	FSCK_FILE_END,       /* a file that is written to is shorter than its row says */
	FSCK_FILE_LEFT,      /* a file that no row names, and that holds nothing */
	FSCK_FILE_UNCLAIMED, /* one that holds data */
	FSCK_FILE_SIZE,      /* its row says another size than it has */
	FSCK_FILE_EMPTY,     /* a row of a file without groups */
	FSCK_READ,           /* the disk does not give it */
	FSCK_HEADER,         /* a record's header, in a sealed group */
	FSCK_INDEX,          /* of a compacted file */
	FSCK_COPY,           /* one copy of several is damaged */
	FSCK_COPY_OLD,       /* one copy of several lacks much of what another has */
	FSCK_BLOCK_UNUSED,   /* damaged, but nothing needs it any more */
	FSCK_BLOCK,          /* damaged data of a vDisk */
	FSCK_MAP_PAGE,
	FSCK_MAP_ENTRY, /* names what is not stored, or what another entry names */
	FSCK_LOST,      /* a block that was lost before, with a damaged page */
	FSCK_LIVE,      /* the count of live blocks */
	FSCK_EPOCH,     /* a vDisk's row is behind its groups */
	FSCK_LOG,       /* the end of the log: what was flushed is not all there */
	FSCK_REPAIR,    /* nothing can be put right */
	FSCK_KIND_COUNT,
};

struct fsck_finding {
	enum fsck_kind kind;
	enum fsck_class class;
	const char *code;   /* short, for programs */
	const char *object; /* what it is about */
	const char *cause;
	const char *advice; /* what to do */
	const char *done;   /* NULL, or what was done about it */
};

struct fsck_options {
	struct world *world;
	const char *catalog; /* its database file */
	const char *vfs;     /* NULL: the system's */
	const char *scratch; /* an empty directory, for a copy of it */
	bool repair;
	uint64_t memory_bytes; /* of tables; 0 = FSCK_MEMORY_BYTES */
	void (*finding)(void *arg, const struct fsck_finding *finding);
	/* Now and then; false: stop. May be NULL. */
	bool (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total);
	void *arg;
};
#define FSCK_MEMORY_BYTES (UINT64_C(192) << 20)

struct fsck_report {
	uint64_t pools, vdisks, files, pages, blocks, bytes; /* looked at */
	uint64_t errors, minors, notes;                      /* found */
	uint64_t corrected;                                  /* of errors and minors */
};

/* 0 also when something was found; -ECANCELED; else why it could not be checked. */
int fsck_run(const struct fsck_options *options, struct fsck_report *ret_report);
