/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A pool: capacity on one or more disks (pool_disk.h), its files, and the account of its space.
 *
 * On each disk, below its directory:
 *     label                   identity: magic, version, pool id, disk id, CRC (docs/format.md)
 *     groups/XX/ID.eg         egroup files, named by file id (16 hex digits), XX = its last byte
 *     spare/ID.sp             written files without content that counts, for reuse
 *
 * Files. A file has 1 to 3 copies, each on a disk of its own. One that was written once is cheaper
 * to overwrite than a new one to extend, so removed files go to spare/ and come back from there,
 * and while the pool is idle spare files are made and written ahead. A spare file may contain old
 * records: readers tell them by the group id in each header.
 *
 * Space is kept for each disk. Capacity = what the configuration gives, at most what the file
 * system can hold. `used` is the size of all group files, whatever is live in them. The reserve is
 * room that only reclaim and checkpoints may take. Growth of live data is admitted by pool_admit().
 *
 *     group    = pool_group_bytes(): capacity / 128 of the smallest disk, as a power of two, 1 to
 *                64 MiB. Larger groups would leave a small disk with too few of them for compaction
 *                to choose from.
 *     reserve  = max(3 groups, 3 % of the capacity): a fold that rewrites every leaf of full
 *                vDisks takes less than 0.4 %; there is room for a compaction target and two more.
 *     limit    = 91 % of capacity - reserve: the most that may be live. When the rest is full, at
 *                least 9 % of what is written is garbage, so that some group gives back more than
 *                that when compacted. A vDisk of 80 % of the pool fits with its map (0.4 %) and
 *                leaves 8 % for what was overwritten but not folded yet.
 *     pressure = 0 while more than max(4 groups, 10 %) of capacity - reserve is unused; of a pool:
 *                that of the f-th best disk, f = the largest factor in use.
 *
 * The pool lives on one home reactor; calls from fibers of other reactors are carried over.
 * Counters of the account are atomics and can be read and changed from any reactor.
 */
#include "catalog/catalog.h"

struct pool;
struct pool_file; /* an open file of groups/ */
struct pool_quota;

#define POOL_GROUP_BYTES (64 * MIB)
#define POOL_NAME_MAX    63

#define POOL_FACTOR_MAX 3u                    /* copies that can be asked for */
#define POOL_COPIES_MAX (POOL_FACTOR_MAX + 1) /* one more while one takes another's place */

/* Where the copies of a file are, as its row in the catalog says. */
struct pool_copies {
	unsigned count;
	unsigned stale; /* bit n: copy n lacks something; it is neither read nor synced */
	uint64_t disks[POOL_COPIES_MAX];
};

enum pool_use { /* who asks for room */
		POOL_USE_DATA,
		POOL_USE_INTERNAL, /* map pages, compaction targets: may dip into the reserve */
};

struct pool_spec {
	const char *name;        /* unique; [a-z0-9][a-z0-9._-]* */
	const char *directory;   /* absolute; it or its parent exists; holds nothing else */
	uint64_t capacity_bytes; /* of its first disk; 0 = the file system's size less a margin */
	const char *tier;        /* of its first disk, as in pool_disk_spec */
};

/* Sums over the disks but failed ones; live, admitted and limit in bytes times the copies that they
 * have, the limit for the largest factor in use. */
struct pool_space {
	uint64_t capacity, used, live, reclaimable, reserve, spare, admitted, limit;
};

struct pool_info {
	uint64_t id;
	char name[POOL_NAME_MAX + 1];
	char directory[4096]; /* of its first disk */
	struct pool_space space;
	/* Rows of files or groups are damaged; copies of files that are kept for that reason
	 * (pool_damage.h). */
	bool in_doubt;
	uint64_t kept_files;
	bool deleting; /* of pool_list(): its deletion was cut off */
	const char *state; /* of its worst disk (pool_disk_state_name()); "degraded" when others go
			      on */
};

/* Writes label and catalog rows. -EEXIST name taken, -ENOTEMPTY directory has other content or
 * another pool's label, -ENOSPC below POOL_MIN_BYTES. */
#define POOL_MIN_BYTES (512 * MIB)
/* After a crash in the middle it can simply be called again. */
int pool_create(struct world *world, struct catalog *catalog, const struct pool_spec *spec,
		uint64_t *ret_id);
/* Opens a pool on the current reactor (its home). Checks the labels, clears files that no catalog
 * row names away to spare/. Disks that cannot be found are missing (pool_disk.h); when all are,
 * fails with the reason of the first: -ENODEV other pool or missing directory, -EUCLEAN ...
 * -EINPROGRESS: it is being deleted. Rows of files and groups that are damaged keep only their
 * vDisks from being opened (pool_damage.h). From a fiber.
 */
int pool_open(struct world *world, struct catalog *catalog, uint64_t id, struct pool **ret_pool);
/* The same; an operation on a disk may take `timeout_ns` instead of POOL_DISK_TIMEOUT_NS. A disk
 * that cannot be looked at within that time is missing at first. */
int pool_open_within(struct world *world, struct catalog *catalog, uint64_t id, uint64_t timeout_ns,
		     struct pool **ret_pool);
/* No file is open. From a fiber of its home. While something hangs there for good, the pool stays
 * in memory. */
void pool_close(struct pool *pool);
/* Forgets an empty pool (-EBUSY when a container or a group file is in it, -EUCLEAN when it cannot
 * be known whether one is) and removes its files;
 * the directory itself stays. On success the pool is closed as by pool_close(), else it stays
 * open. When it was cut off, or failed, after its row said so, it goes on when called again. */
int pool_delete(struct pool *pool);
/* Completes the deletion of a pool that is not open and of which pool_list() says `deleting`. From
 * a fiber. -EBUSY: there is something in it, so it was not to be deleted, and is not any more;
 * -EUCLEAN: rows of the catalog are damaged or missing; -ESTALE: the catalog was set back. */
int pool_delete_finish(struct catalog *catalog, uint64_t id);

int pool_find(struct catalog *catalog, const char *name, uint64_t *ret_id); /* -ENOENT */
/* All pools the catalog knows, open or not, in order of id, without `space` but its capacity as
 * configured (0 = the file system's); state is "". Caller frees. */
int pool_list(struct catalog *catalog, struct pool_info **ret_infos, size_t *ret_count);

uint64_t pool_id(const struct pool *pool);
struct catalog *pool_catalog(struct pool *pool);
/* What the pool's size suggests as the greatest size of a group file; see above. */
uint64_t pool_group_bytes(const struct pool *pool);
/* A guest of this pool had a request done; whether one had of late, so that work in the background
 * has to be careful. Any reactor. */
void pool_guest_came(struct pool *pool, uint64_t now_ns);
bool pool_guest_is_active(const struct pool *pool, uint64_t now_ns);
void pool_get_info(struct pool *pool, struct pool_info *ret_info);
void pool_get_space(struct pool *pool, struct pool_space *ret_space);

/*
 * Files. From a fiber of any reactor.
 *
 * pool_file_take() gives an open file under a fresh id, at least `size_bytes` of it allocated
 * (spare first), whose directory entries are durable: the caller then commits the catalog row that
 * names it and its copies, and only then writes. What it occupies (pool_file_size()) is charged to
 * `used`. -ENOSPC when not even `use` may have it. Fewer copies than wanted are made when fewer
 * disks can take one now. Data also gets -ENOSPC when its copies could only be put where the quota
 * has as much on the tier as it may, or where what is free is kept for others (pool_quota.h); what
 * is internal then goes there all the same.
 */
struct pool_want {
	enum pool_use use;
	uint64_t size_bytes;
	unsigned copies; /* 1 .. POOL_FACTOR_MAX */
	unsigned tiers;  /* in order of preference, 4 bits each from the lowest: tier + 1 (0 ssd, 1
			    hdd, 2 san, 3 cloud), 0 ends; 0 = any tier is as good */
	struct pool_quota *quota; /* whose it is; NULL: nobody's */
	/* Disks rather not used again, by id; the first was used last. Others are taken if they are
	 * of as good a tier. NULL: none. */
	const uint64_t *recent;
	unsigned recent_count;
	bool about; /* rather a spare file of half the size or more than a new one: it was written
		       before, which makes writing it again faster */
};
int pool_file_take(struct pool *pool, const struct pool_want *want, struct pool_file **ret_file);
/* -ENOENT no copy can be found, or the file is not of this pool; -EBUSY it is open; -EIO its disks
 * are missing; -ETIMEDOUT they hang, after half a minute. Copies that cannot be opened do not take
 * part, as long as one can; the size is that of the largest. */
int pool_file_open(struct pool *pool, uint64_t file_id, const struct pool_copies *copies,
		   struct pool_file **ret_file);
void pool_file_get_copies(const struct pool_file *file, struct pool_copies *ret_copies);
uint64_t pool_first_disk(const struct pool *pool); /* its id: the one of rows of version 1 */
/* Gives back all beyond size_bytes (a multiple of 4 KiB), on all copies that can be reached, but on
 * one at least, and makes that durable. When it fails on some, the size is that of the largest. */
int pool_file_trim(struct pool_file *file, uint64_t size_bytes);
/* I/O on it: pool_io.h. */
uint64_t pool_file_id(const struct pool_file *file);
uint64_t pool_file_size(const struct pool_file *file);
void pool_file_close(struct pool_file *file); /* from a fiber */
/* The catalog no longer names it: to spare/ or removed; its room is free again. From a fiber;
 * takes the file, open or (pool_file_discard_id) not. */
void pool_file_discard(struct pool_file *file);
int pool_file_discard_id(struct pool *pool, uint64_t file_id, const struct pool_copies *copies);

/*
 * Admission of live data, in bytes, of which there are (or shall be) `factor` copies; from any
 * reactor, never suspends. pool_admit() returns -ENOSPC when what is live and admitted would not
 * fit any more (in capacity less reserve less what reclaim needs to make progress, each copy on
 * another disk, as many as there are), -EROFS when no disk can be written. Admitted bytes become
 * live when the write is in the map, or are returned.
 */
int pool_admit(struct pool *pool, unsigned factor, uint64_t bytes);
/* What was admitted counts with another factor from now on, whether or not there is room. */
void pool_admit_move(struct pool *pool, unsigned from, unsigned to, uint64_t bytes);
/* Whether live data of which there are fewer copies, bytes[copies], would fit with `factor` of
 * each, beside all else and on different disks. What further copies would take, and the room that
 * there is for live data on all disks together. Any reactor. */
struct pool_raise {
	uint64_t bytes[POOL_FACTOR_MAX + 1];
	unsigned factor;
	uint64_t needed, room; /* out */
};
bool pool_admit_could_raise(struct pool *pool, struct pool_raise *raise);
void pool_admit_return(struct pool *pool, unsigned factor, uint64_t bytes);
/* Net change of live bytes (data and map pages), e.g. at the end of a fold or when a group
 * opens. */
void pool_account_live(struct pool *pool, unsigned factor, int64_t bytes);

/* 0 = plenty .. 100 = nothing but the reserve left; any reactor. */
unsigned pool_pressure(const struct pool *pool);
/* No disk can be written, and some are missing or have failed: what can be read is read, and
 * nothing is decided about what the others may have. Any reactor. */
bool pool_is_stranded(const struct pool *pool);

/* How many spare files of POOL_GROUP_BYTES are written ahead while the pool is idle; 0 at first.
 * On each disk, only in pools whose groups are that large; they pay for streams that take such a
 * file at once. On the home reactor. */
#define POOL_SPARES_AHEAD_MAX 16
void pool_set_spares_ahead(struct pool *pool, unsigned count);

/* Aborts when an invariant of the pool's account is broken. On the home reactor. */
void pool_check(const struct pool *pool);
