/* SPDX-License-Identifier: Apache-2.0 */
/* Queues of waiting fibers, and the mutex made of one. */
#include "reactor/fiber.h"

#include "reactor/reactor_priv.h"

struct fiber_waiter { /* on the stack of the waiting fiber */
	struct list_node link;
	struct fiber *fiber;
	bool woken;
	bool timed_out;
	struct reactor_timer timer;
};

void fiber_queue_init(struct fiber_queue *queue)
{
	list_init(&queue->waiters);
}

static void fiber_waiter_time_out(struct reactor_timer *timer)
{
	struct fiber_waiter *waiter = CONTAINER_OF(timer, struct fiber_waiter, timer);

	waiter->timed_out = true;
	list_remove(&waiter->link);
	fiber_wake(waiter->fiber);
}

bool fiber_queue_wait_until(struct fiber_queue *queue, uint64_t deadline_ns)
{
	struct fiber_waiter waiter = {
		.fiber = fiber_current(),
		.timer.run = fiber_waiter_time_out,
	};

	ASSERT(waiter.fiber);
	list_push_back(&queue->waiters, &waiter.link);
	if (deadline_ns != UINT64_MAX)
		reactor_timer_arm(waiter.fiber->reactor, &waiter.timer, deadline_ns);
	while (!waiter.woken && !waiter.timed_out)
		fiber_suspend();
	reactor_timer_cancel(waiter.fiber->reactor, &waiter.timer);
	/* Who only looks again now and then stands still all the same. */
	if (!waiter.woken)
		waiter.fiber->moved = false;
	return waiter.woken;
}

void fiber_queue_wait(struct fiber_queue *queue)
{
	(void)fiber_queue_wait_until(queue, UINT64_MAX); /* true: there is no deadline */
}

static struct fiber *fiber_queue_pop(struct fiber_queue *queue)
{
	struct list_node *node = list_pop_front(&queue->waiters);
	struct fiber_waiter *waiter;

	if (!node)
		return NULL;
	waiter = LIST_ENTRY(node, struct fiber_waiter, link);
	waiter->woken = true;
	reactor_timer_cancel(waiter->fiber->reactor, &waiter->timer);
	fiber_wake(waiter->fiber);
	return waiter->fiber;
}

bool fiber_queue_wake_one(struct fiber_queue *queue)
{
	return fiber_queue_pop(queue) != NULL;
}

void fiber_queue_wake_all(struct fiber_queue *queue)
{
	while (fiber_queue_pop(queue))
		;
}

void fiber_mutex_init(struct fiber_mutex *mutex)
{
	mutex->owner = NULL;
	fiber_queue_init(&mutex->queue);
}

void fiber_mutex_lock(struct fiber_mutex *mutex)
{
	struct fiber *fiber = fiber_current();

	ASSERT(fiber && mutex->owner != fiber);
	if (!mutex->owner) {
		mutex->owner = fiber;
		return;
	}
	fiber_queue_wait(&mutex->queue);
	ASSERT(mutex->owner == fiber);
}

void fiber_mutex_unlock(struct fiber_mutex *mutex)
{
	ASSERT(mutex->owner && mutex->owner == fiber_current());
	/* Handed over, not released: whoever comes later cannot overtake. */
	mutex->owner = fiber_queue_pop(&mutex->queue);
}
