/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The extent groups of one vDisk: which there are, in which file each of their slots lies, and
 * which slots are live. Lives on the vDisk's home reactor; suspending functions are marked "fiber".
 *
 * A group is logical: (group, slot) names 4 KiB for ever. It is stored in a file, at first one of
 * its own, where slot n lies at block n. Compaction (compact.h) moves the live slots of several
 * groups into one file; the place is then base + rank of the slot among the stored ones.
 *
 * Liveness. A slot is live when the committed map names it. Only egroup_set_live() and
 * egroup_set_dead() change it, at the end of a checkpoint. A group that is sealed, not pinned and
 * without live slots is dropped by egroup_reap().
 */
#include "catalog/catalog.h"
#include "egroup/record.h"
#include "egroup/slotset.h"
#include "egroup/stripe.h"
#include "pool/pool.h"
#include "reactor/fiber.h"

#define EGROUP_ID_BITS        40
#define EGROUP_OPEN_FILES_MAX 512 /* of one vDisk; idle ones above are closed */

struct egroup_file {
	uint64_t id;
	uint64_t allocated_bytes;
	struct pool_copies copies;
	struct pool_file *file; /* NULL while closed */
	struct list groups;     /* of struct egroup */
	uint32_t group_count;
	uint32_t index_blocks; /* of a compacted file, else 0 */
	uint32_t total_slots;  /* stored in a compacted file */
	uint32_t references;   /* reads under way and other users */
	bool compacted;
	bool sequential;         /* written in sequence: which order of tiers it follows */
	bool index_loaded;       /* always true for a plain file */
	bool busy;               /* compacted, repaired, scrubbed, trimmed or removed: by one */
	bool dying;              /* discarded when the last reference goes */
	bool forgotten;          /* only closed then: the next start decides about it */
	bool opening;            /* or closing: whoever wants it waits */
	int open_error;          /* of the last attempt; for the log's sake */
	uint64_t avoid_until_ns; /* reclaim failed on it: not again before */
	uint32_t waiting_blocks; /* repair found that copies on disks that have gone, alone, ... */
	uint32_t waiting_state;  /* ... may have right; of the disks then: see waiting.c */
	uint64_t waiting_until_ns; /* not looked through again before, while that is the same */
	struct list_node link;     /* of store->files */
	struct list_node lru_link; /* of store->idle, when open and without references; or doomed */
	struct egroup_store *store;
};

struct egroup {
	uint64_t id;
	enum record_stream stream;
	uint64_t epoch;
	uint64_t last_lsn;          /* sealed groups of the log */
	uint32_t slots;             /* length, once sealed; else UINT32_MAX */
	bool sealed;                /* the catalog says so: synced, and never written again */
	bool pinned;                /* in use by its writer, or needed by recovery */
	uint32_t live_count_number; /* `live` is of that count */
	struct egroup_file *file;
	uint32_t base;
	uint32_t stored_count;
	struct slotset stored; /* with a compacted, loaded file */
	struct slotset live;
	struct egroup *hash_next;
	struct list_node link; /* of file->groups */
};

#define EGROUP_DISCARDERS 4u /* fibers that give files back, at most; they have a class of 16 */

struct egroup_discarder {
	struct egroup_store *store;
	struct fiber_task task;
	bool runs;
};

enum egroup_kind { /* of new files, each striped for itself */
		   EGROUP_KIND_LOG,
		   EGROUP_KIND_PAGES,
		   EGROUP_KIND_COMPACTED,
		   EGROUP_KIND_COUNT,
};

struct egroup_store {
	struct pool *pool;
	struct catalog *catalog;
	struct reactor *reactor;
	uint64_t vdisk;
	unsigned factor;          /* copies that a new file shall have */
	struct pool_quota *quota; /* whose its files are; NULL: nobody's */
	/* Where, as in struct pool_want; 0 = anywhere: what is written at random, and in sequence.
	 */
	unsigned tiers, tiers_sequential;
	bool sequential; /* new groups of the log will hold what is written in sequence */
	unsigned width;  /* disks that successive files of a kind are spread over */
	struct egroup_stripe stripes[EGROUP_KIND_COUNT];
	struct list files;   /* in order of file id */
	struct list cursors; /* of struct egroup_cursor */
	struct egroup **buckets;
	uint32_t bucket_count, bucket_mask;
	uint32_t group_count;
	uint64_t newest_id;         /* the greatest of a group that there is or was */
	uint64_t newest_log_id;     /* of the log, when it was opened, */
	bool newest_log_sequential; /* and what it was for */
	uint32_t file_count;
	struct list idle; /* open files without references, least recently used first */
	uint32_t open_count;
	struct fiber_queue opened;   /* waiters for a file that another fiber opens */
	struct fiber_queue released; /* a reference count fell to 0 */
	uint64_t live_slots;
	uint32_t live_count_number;         /* how often they were counted from nothing */
	uint64_t read_bytes, written_bytes; /* by compaction, checked reads and index reads */
	bool liveness_known; /* false until it was recounted or loaded after an open */
	uint64_t kept_id;    /* groups up to this one are neither dropped nor compacted */
	uint32_t discards;   /* files that nobody uses any more, under way or in `doomed` */
	struct list doomed;  /* ... by lru_link */
	uint32_t discarders; /* that run */
	struct egroup_discarder discarder[EGROUP_DISCARDERS];
};

/* Reads the rows of the vDisk, whose new files get `factor` copies. Fiber. -EUCLEAN where they
 * contradict each other. */
int egroup_store_open(struct pool *pool, uint64_t vdisk, unsigned factor,
		      struct egroup_store **ret_store);
/* No user of any file is left. Fiber. */
void egroup_store_close(struct egroup_store *store);

/* Whether its newest group of the log was for what is written in sequence, when it was opened. */
static inline bool egroup_store_was_sequential(const struct egroup_store *store)
{
	return store->newest_log_sequential;
}
/* The order of tiers that the file follows. */
unsigned egroup_file_tiers(const struct egroup_file *file);

/* A new group with a file of its own, about `size_bytes` allocated (at least, but for
 * POOL_USE_DATA), durable in the catalog, pinned. The
 * caller has a reference to its file. Fiber. */
int egroup_create(struct egroup_store *store, enum record_stream stream, uint64_t epoch,
		  enum pool_use use, uint64_t size_bytes, struct egroup **ret_group);
struct egroup *egroup_find(const struct egroup_store *store, uint64_t id); /* NULL: there is none */

/* Where a slot lies. 0, -EAGAIN: egroup_prepare() first, -EUCLEAN: no such group or slot. */
int egroup_resolve(struct egroup_store *store, uint64_t group, uint32_t slot,
		   struct egroup_file **ret_file, uint64_t *ret_offset);
/* Opens the group's file and reads its index. Fiber. -EUCLEAN, -ENOENT (file missing), -EIO ... */
int egroup_prepare(struct egroup_store *store, uint64_t group);
/* For I/O (pool_io.h); it must be open. Writes fail over nothing: whoever writes decides. */
struct pool_file *egroup_file_handle(const struct egroup_file *file);
/*
 * Reads until `check(arg, buffer)` says 0 (NULL: whatever comes): from each copy in turn, beginning
 * with `first`, and once more, for a bit may have flipped on the way. Copies that gave something
 * else are put right where one was found that is. One that is slow is waited for when no other has
 * it right, also not one on a disk that has failed. The file is open and referenced. Fiber. -EIO: a
 * copy that counts could not be read, and may have it right. Else the last error: none has it;
 * -ENODATA: it ends before.
 */
#define EGROUP_ANY_COPY POOL_COPIES_MAX
struct egroup_read {
	struct egroup_file *file;
	void *buffer;
	size_t length;
	uint64_t offset;
	unsigned first; /* copy, or EGROUP_ANY_COPY */
	int (*check)(void *arg, const void *buffer);
	void *arg;
	/* Who asks waits himself for a disk that hangs: -EINPROGRESS while others do not have it
	 * either. */
	bool waits_itself;
	struct egroup_tried *tried; /* NULL, or filled in */
};
struct egroup_tried {      /* bits of copies that count */
	unsigned wrong;    /* gave something else, or could not be read where another was right */
	unsigned unmended; /* of those: could not be written again */
	unsigned unread;   /* gave an error instead */
	unsigned away;     /* could not be asked, for their disks are gone or hang */
};
int egroup_file_read(const struct egroup_read *read);
/* Nobody writes to it any more. */
bool egroup_file_is_sealed(const struct egroup_file *file);
/* Every copy that its row names takes part. It is open. */
bool egroup_file_is_whole(const struct egroup_file *file);
/* A check for egroup_file_read(): one block whose CRC-32C is *(const uint32_t *)arg. */
int egroup_check_crc(void *arg, const void *block);
/* Makes durable what was written; what cannot be, on some copy, is called stale in the file's row
 * before this says so. Fiber. */
int egroup_file_sync(struct egroup_file *file);
/* The file stays open and keeps its content while it is referenced. It must be open. */
void egroup_file_ref(struct egroup_file *file);
void egroup_file_unref(struct egroup_file *file);
/* Opens (if needed) and references. Fiber. */
int egroup_file_open(struct egroup_file *file);
/* Reclaim passes a file over for a while after it failed, so that the others get their turn. */
void egroup_file_avoid(struct egroup_file *file, int error);
bool egroup_file_is_avoided(const struct egroup_file *file);

/* The change that records a seal, for a transaction of the caller's; `value` has room for it. */
#define EGROUP_ROW_BYTES 64
void egroup_seal_change(const struct egroup_store *store, const struct egroup *group,
			uint32_t slots, uint64_t last_lsn, uint8_t value[EGROUP_ROW_BYTES],
			struct catalog_change *ret_change);
/* The same for a file's row as its struct says. */
void egroup_file_change(const struct egroup_file *file, uint8_t value[EGROUP_ROW_BYTES],
			struct catalog_change *ret_change);
/* After that transaction: the group is sealed and no longer pinned. */
void egroup_sealed(struct egroup *group, uint32_t slots, uint64_t last_lsn);
/* Whether the file of a sealed group has `slack_bytes` or more beyond its length, or is open and
 * has another size than its row says. */
bool egroup_wants_trim(const struct egroup *group, uint64_t slack_bytes);
/* Gives back what a sealed plain file has beyond its length; its row says its size then. Fiber. */
int egroup_trim(struct egroup *group);

/* -ENOMEM. */
int egroup_set_live(struct egroup_store *store, uint64_t group, uint32_t slot);
void egroup_set_dead(struct egroup_store *store, uint64_t group, uint32_t slot);
/* No slot is live, no group is kept: before they are counted. Only while liveness is not known. */
void egroup_clear_live(struct egroup_store *store);
/* They were counted: before liveness may be called known. Until then groups that nothing was said
 * about still look as before. In turns; a fiber. */
void egroup_live_counted(struct egroup_store *store);
/* What is live in the groups that there are now is not known for sure: all of them stay as they
 * are. */
void egroup_keep_all(struct egroup_store *store);
static inline bool egroup_is_kept(const struct egroup_store *store, const struct egroup *group)
{
	return group->id <= store->kept_id;
}

/* Drops files all of whose groups are sealed, not pinned and without live slots; returns how many,
 * or an error. Goes through all files once, in turns. Fiber. */
int egroup_reap(struct egroup_store *store);
/* Drops one group that never held anything (found by recovery). Fiber. */
int egroup_drop(struct egroup_store *store, struct egroup *group);

/* Rows, shared inside the folder and with vdisk_delete(). */
struct catalog_key egroup_prefix(enum catalog_table table, uint64_t pool, uint64_t vdisk);
void egroup_file_row(const struct egroup_file *file, uint8_t value[EGROUP_ROW_BYTES]);
void egroup_row(const struct egroup *group, uint8_t value[EGROUP_ROW_BYTES]);
