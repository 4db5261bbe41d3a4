/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Making the copies of files again: those that are stale, on disks that have failed or are
 * draining, or fewer than the vDisk's factor. Home: the vDisk's reactor; in fibers where they
 * suspend.
 */
#include "egroup/ahead.h"
#include "egroup/cursor.h"

struct egroup_need {   /* what a file lacks, as things are now */
	unsigned good; /* copies that count: not stale, on a disk that stays and can be reached */
	unsigned leaving; /* not stale, and can be read, but on a disk that is draining */
	unsigned away;    /* on a disk that is missing: they count again when it is back */
	unsigned make;    /* copies to be made */
	unsigned drop;    /* bits: copies that are to go once there are enough others */
	bool lost;        /* no copy can be read, but for: */
	unsigned resort;  /* copies on disks that have failed, when there are no others */
};
void egroup_file_need(const struct egroup_file *file, struct egroup_need *ret_need);

struct egroup_redundancy { /* bytes of files, each counted once */
	uint64_t whole;
	uint64_t degraded;      /* fewer copies that can be read than the factor; of those: */
	uint64_t single;        /* one copy left where there were to be more */
	uint64_t lost;          /* no copy can be read; of those: */
	uint64_t resort;        /* a disk that has failed has one, which may still give it */
	uint64_t resort_groups; /* the same, in groups */
	uint64_t leaving; /* have copies on disks that are draining; they count until they are moved
			   */
	uint64_t to_copy; /* what repair has to write, copies counted */
	uint64_t to_drop; /* have copies that are to go */
	uint64_t waiting_blocks; /* for which copies that would go are waited for */
};
/* Fiber: others get a turn when there are many files; what changes meanwhile is met or not. */
void egroup_store_redundancy(struct egroup_store *store, struct egroup_redundancy *ret);
/* Groups that only disks that have failed have, this one among them. Fiber, in the same way. */
uint64_t egroup_store_resort(struct egroup_store *store, uint64_t disk);

struct egroup_repair {
	struct ahead *ahead;
	/* Told of every piece that was copied, and again when it was read back; an error stops the
	 * repair. May be NULL. */
	int (*pause)(void *arg, uint64_t bytes);
	/* As in struct ahead_options; may be NULL. */
	void (*pace)(void *arg, struct egroup_pace *pace);
	void *arg;
	uint64_t copied_bytes, dropped_copies, damaged_blocks; /* out, added to */
	uint64_t waiting_blocks; /* that copies on disks that have gone alone may have right */
	uint64_t mismatches;     /* new copies that did not give back what was written ... */
	uint64_t mismatch_disk;  /* ... the last of them there */
};
/* The next file that can be repaired now, of those with at most so many readable copies on disks
 * that have not failed: 0: with some on disks that have. NULL: none is left of this pass. Files
 * that a repair failed on are left alone for a while; those that only wait for disks which have
 * gone for longer, unless something changes there. Fiber: others get a turn when there are many
 * files that need nothing. */
struct egroup_file *egroup_repair_next(struct egroup_cursor *cursor, unsigned most);
/* One file: new copies are filled from whichever copy is right, block by block, synced, read
 * back, and only then named by the row; then what is to go goes. -ENOSPC: no disk can take a copy.
 */
int egroup_repair_file(struct egroup_file *file, struct egroup_repair *repair);
/* Whether some file that its writer still appends to lacks copies: it must be sealed first.
 * Fiber, in the same way. */
bool egroup_repair_waits_for_seal(struct egroup_store *store);
