/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants.
 *  1. `claims` is in order of arrival; a claim waits exactly while an earlier one is in conflict
 *     with it.
 *  2. `exclusive_count` is the number of exclusive claims in the list, so that 0 means that all
 *     are held.
 */
#include "block/range_lock.h"

#include "base/reached.h"

void range_lock_init(struct range_lock *lock)
{
	list_init(&lock->claims);
	lock->exclusive_count = 0;
}

static bool conflict(const struct range_claim *a, const struct range_claim *b)
{
	if (a->mode == RANGE_LOCK_SHARED && b->mode == RANGE_LOCK_SHARED)
		return false;
	return a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

/* Whether a claim that arrived before `claim` is in conflict with it. */
static bool must_wait(struct range_lock *lock, const struct range_claim *claim)
{
	struct range_claim *earlier;

	LIST_FOR_EACH (&lock->claims, earlier, struct range_claim, link) {
		if (earlier == claim)
			break;
		if (conflict(earlier, claim))
			return true;
	}
	return false;
}

bool range_lock_take(struct range_lock *lock, struct range_claim *claim)
{
	ASSERT(claim->length > 0);
	list_node_init(&claim->ready);
	list_push_back(&lock->claims, &claim->link);
	if (claim->mode == RANGE_LOCK_EXCLUSIVE)
		lock->exclusive_count++;
	claim->held = lock->exclusive_count == 0 || !must_wait(lock, claim);
	if (!claim->held)
		REACHED("block.range_lock.wait");
	return claim->held;
}

static void wake_fiber(struct range_claim *claim)
{
	fiber_wake(claim->fiber);
}

void range_lock_wait(struct range_lock *lock, struct range_claim *claim)
{
	claim->fiber = fiber_current();
	claim->granted = wake_fiber;
	if (range_lock_take(lock, claim))
		return;
	while (!claim->held)
		fiber_suspend();
}

/* Marks what may go on now; the callbacks come after, because they may change the list. */
static void collect_ready(struct range_lock *lock, const struct range_claim *released,
			  struct list *ready)
{
	struct range_claim *claim;

	LIST_FOR_EACH (&lock->claims, claim, struct range_claim, link) {
		if (claim->held || !conflict(released, claim) || must_wait(lock, claim))
			continue;
		claim->held = true;
		list_push_back(ready, &claim->ready);
	}
}

void range_lock_release(struct range_lock *lock, struct range_claim *claim)
{
	struct list ready;
	struct list_node *node;

	ASSERT(claim->held);
	list_init(&ready);
	claim->held = false;
	list_remove(&claim->link);
	/* The claim itself still counts here: the last exclusive one to go lets shared ones in. */
	if (lock->exclusive_count > 0)
		collect_ready(lock, claim, &ready);
	if (claim->mode == RANGE_LOCK_EXCLUSIVE)
		lock->exclusive_count--;
	while ((node = list_pop_front(&ready)) != NULL) {
		struct range_claim *next = LIST_ENTRY(node, struct range_claim, ready);

		next->granted(next);
	}
}
