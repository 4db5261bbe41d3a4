/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Locks on byte ranges, for what must not interleave: plain writes hold their range shared,
 * compare-and-write holds its range exclusively. Two locks are in conflict when they overlap and at
 * least one is exclusive. Grants are in order of arrival among those in conflict, so that nobody
 * starves.
 *
 * One reactor. Taking and releasing is O(1) while nobody holds or wants an exclusive lock, else
 * linear in the number of claims (for a release: once more for each claim that waits for that
 * range).
 */
#include "reactor/fiber.h"

enum range_lock_mode { RANGE_LOCK_SHARED, RANGE_LOCK_EXCLUSIVE };

struct range_lock {
	struct list claims; /* held and wanted, in order of arrival */
	unsigned exclusive_count;
};

struct range_claim { /* embedded by the caller, who keeps it until it is released */
	uint64_t offset;
	uint64_t length;
	enum range_lock_mode mode;
	/* Called once the range is held when it had to wait: on the stack of whoever released. */
	void (*granted)(struct range_claim *claim);
	/* Private. */
	bool held;
	struct fiber *fiber;
	struct list_node link;
	struct list_node ready;
};

void range_lock_init(struct range_lock *lock);
/* True: held now. False: `granted` will be called. */
bool range_lock_take(struct range_lock *lock, struct range_claim *claim);
/* From a fiber, which waits until the range is held. Uses `granted` itself. */
void range_lock_wait(struct range_lock *lock, struct range_claim *claim);
/* Of a range that is held. */
void range_lock_release(struct range_lock *lock, struct range_claim *claim);
static inline bool range_lock_is_idle(const struct range_lock *lock)
{
	return list_is_empty(&lock->claims);
}
