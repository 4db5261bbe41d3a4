/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The catalog: small durable facts (pools, containers, vDisks, egroup files, exports). An ordered
 * map from key to value with compare-and-swap transactions; SQLite below, on a worker thread.
 *
 * All functions but open and close may be called from fibers of any reactor and suspend the fiber.
 * Commits of several fibers that wait together share one SQLite transaction. Every value carries
 * a CRC-32C over key, version and value; a mismatch is -EUCLEAN, logged with the key.
 *
 * A committed transaction survives loss of power. SQLite is set up in this order: locking_mode
 * EXCLUSIVE, synchronous EXTRA, journal_mode WAL (another order was seen to lose transactions).
 */
#include "reactor/reactor.h"

struct catalog;

/* Tables: the first byte of a key. Numbers are part of the format and never reused. */
enum catalog_table {
	CATALOG_META = 1, /* format version, id counters */
	CATALOG_POOL = 2,
	CATALOG_DISK = 3,
	CATALOG_CONTAINER = 4,
	CATALOG_VDISK = 5,
	CATALOG_EGROUP = 6, /* (pool, vdisk, egroup): a logical extent group */
	CATALOG_EGFILE = 7, /* (pool, vdisk, file): a file that stores one or more groups; its
			       value starts with the 64-bit size of the file, which the pool
			       reads when it opens */
	CATALOG_NAME = 8,   /* (kind, parent, name) to le64 id: enum catalog_name_kind */
	CATALOG_ISCSI = 9,
	CATALOG_JOB = 10,
	CATALOG_NVME = 11,             /* (controller); 0: the identity of all namespaces */
	CATALOG_NVME_NAMESPACE = 12,   /* (controller, nsid) */
	CATALOG_NVME_RESERVATION = 13, /* (vDisk) */
	CATALOG_EVENT = 20,            /* (slot) */
	CATALOG_POLICY = 21,           /* (vDisk): what is set for it alone */
	CATALOG_SCRUB = 22,            /* (pool); (pool, number) */
	CATALOG_PLACE = 23,            /* (pool, disk): where it was found last */
	CATALOG_RETIRE = 24,           /* (pool, disk): is removed when it is empty */
	CATALOG_DRAIN = 25,            /* (pool, disk): its draining is paused */
};

enum catalog_name_kind { /* the parent is 0, or the container of a vDisk */
			 CATALOG_NAME_POOL = 1,
			 CATALOG_NAME_CONTAINER = 2,
			 CATALOG_NAME_VDISK = 3,
};

#define CATALOG_KEY_MAX   120
#define CATALOG_VALUE_MAX (1u << 20)

struct catalog_key {
	uint8_t length;
	uint8_t bytes[CATALOG_KEY_MAX];
};

/* Builders: table byte, then 64-bit big-endian numbers and raw text, so that keys sort by
 * number. */
struct catalog_key catalog_key(enum catalog_table table);
void catalog_key_add(struct catalog_key *key, uint64_t number);
void catalog_key_add_text(struct catalog_key *key, const char *text); /* cut at the room left */
/* The `index`-th number of a key. */
uint64_t catalog_key_number(const struct catalog_key *key, unsigned index);
/* The text after `numbers` numbers, NUL-terminated. */
void catalog_key_text(const struct catalog_key *key, unsigned numbers, char *ret_text, size_t size);

struct catalog_row {
	struct catalog_key key;
	uint64_t version; /* grows with each change of the row; a new row starts at 1 */
	uint32_t length;
	uint8_t *value;
	bool damaged; /* only catalog_scan_all() gives such: there is no value, the key may be wrong
		       */
};

struct catalog_rows {
	size_t count;
	struct catalog_row *rows;
};

void catalog_row_done(struct catalog_row *row);
void catalog_rows_done(struct catalog_rows *rows);

enum catalog_change_kind {
	CATALOG_PUT,
	CATALOG_DELETE, /* of an absent row: no effect */
	CATALOG_EXPECT, /* the row has `version` (0: is absent), or the commit fails with -ESTALE */
	CATALOG_DELETE_PREFIX,
};

struct catalog_change {
	enum catalog_change_kind kind;
	struct catalog_key key;
	uint64_t version;
	const void *value;
	uint32_t length;
};

struct catalog_report;

struct catalog_options {
	const char *path;         /* of the database file */
	const char *vfs;          /* NULL = SQLite's own for the system */
	bool create;              /* make it when missing; else -ENOENT */
	const char *restore_from; /* NULL, or a directory whose mirror takes its place; what was
				     there is kept under another name */
	bool renew_mirrors;       /* none is appended to: a dead process may still write there */
	uint64_t disk_timeout_ns; /* that an operation on a mirror's disk may take, and an append
				     or what others wait for twice that; 0 = 5 s */
	struct catalog_report *report; /* NULL, or filled with what was found: catalog/mirror.h */
};

/*
 * From a fiber. -EUCLEAN damaged, -EPROTONOSUPPORT written by a newer version (the log names both
 * versions), -EBUSY another process has it, -ESTALE a mirror is newer.
 *
 * When the database is missing or damaged, and the hint beside it names mirrors in good standing,
 * it is made again from one of these. -ENODATA: none of them can be used, and nothing was changed.
 */
int catalog_open(struct world *world, const struct catalog_options *options,
		 struct catalog **ret_catalog);
/* From a fiber; waits for commits in flight. */
void catalog_close(struct catalog *catalog);

int catalog_get(struct catalog *catalog, const struct catalog_key *key,
		struct catalog_row *ret_row); /* -ENOENT */
/* Rows whose keys start with `prefix` and come after `after` (NULL: all), at most `limit` (0:
 * all). */
int catalog_scan(struct catalog *catalog, const struct catalog_key *prefix,
		 const struct catalog_key *after, size_t limit, struct catalog_rows *ret_rows);
/* The same, with the rows that are damaged, which end the other with -EUCLEAN. */
int catalog_scan_all(struct catalog *catalog, const struct catalog_key *prefix,
		     const struct catalog_key *after, size_t limit, struct catalog_rows *ret_rows);
/* Whether all rows were there and sound when it was opened. If not, what no row names may have been
 * named by one that is lost. Any reactor. */
bool catalog_is_whole(const struct catalog *catalog);
/*
 * All or nothing, durable when it returns 0. What is expected is checked before anything is
 * changed. -ESTALE, -ENOSPC, -EIO, -EROFS, ...: nothing was changed and nothing will be.
 * -ENOTRECOVERABLE: the disk failed such that it is unknown whether the changes survive a restart;
 * until then they are not seen, and no commit is accepted before the disk works again.
 *
 * On a full disk, commits that delete (and those that rewrite rows in place) go on working out of
 * room set aside in the database; others get -ENOSPC.
 */
int catalog_commit(struct catalog *catalog, const struct catalog_change *changes, size_t count);
/* Reserves `count` ids of a named counter, never given again, even after a crash. Starts at 1.
 * -EUCLEAN: the counter is damaged, or not there while rows are missing. */
int catalog_reserve_ids(struct catalog *catalog, const char *counter, uint64_t count,
			uint64_t *ret_first);

/* Fills two changes that expect `row` as it was read and write it again, under its next version: a
 * row that must go on existing for a commit to be right, e.g. the container of a new vDisk, so that
 * its concurrent deletion and the commit cannot both succeed. `row` lives until the commit. */
void catalog_touch(const struct catalog_row *row, struct catalog_change changes[2]);

/* Names: the row (kind, parent, name), whose value is the id. */
struct catalog_key catalog_name_key(enum catalog_name_kind kind, uint64_t parent, const char *name);
int catalog_name_find(struct catalog *catalog, enum catalog_name_kind kind, uint64_t parent,
		      const char *name, uint64_t *ret_id); /* -ENOENT */
