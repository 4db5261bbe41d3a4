/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers that wait for room, on any reactor.
 *
 * A waiter lives on the stack of its fiber, goes to the home reactor as a message, and comes back
 * as one when room was made or its deadline has passed. Only the home reactor decides which, so
 * each waiter is answered exactly once. No fiber of the home reactor is held meanwhile: all of them
 * could be needed to make the room.
 */
#include "pool/pool_priv.h"

#include "base/macros.h"

struct waiter {
	struct world_message message;
	struct list_node link;
	struct pool *pool;
	struct reactor *reactor;
	struct fiber *fiber;
	uint64_t deadline_ns;
	bool woken;
	bool finished;
};

static void waiter_wake(struct world_message *message)
{
	struct waiter *waiter = CONTAINER_OF(message, struct waiter, message);

	waiter->finished = true;
	fiber_wake(waiter->fiber);
}

static void waiter_answer(struct waiter *waiter, bool woken)
{
	list_remove(&waiter->link);
	waiter->woken = woken;
	waiter->message.run = waiter_wake;
	if (waiter->reactor == waiter->pool->home)
		waiter_wake(&waiter->message);
	else
		reactor_post(waiter->reactor, &waiter->message);
}

static void timer_arm(struct pool *pool)
{
	struct waiter *waiter;
	uint64_t first_ns = UINT64_MAX;

	LIST_FOR_EACH (&pool->waiters, waiter, struct waiter, link)
		first_ns = MIN(first_ns, waiter->deadline_ns);
	if (first_ns == UINT64_MAX)
		reactor_timer_cancel(pool->home, &pool->wait_timer);
	else
		reactor_timer_arm(pool->home, &pool->wait_timer, first_ns);
}

static void timer_run(struct reactor_timer *timer)
{
	struct pool *pool = CONTAINER_OF(timer, struct pool, wait_timer);
	uint64_t now_ns = reactor_now_ns(pool->home);
	struct waiter *waiter;

	LIST_FOR_EACH (&pool->waiters, waiter, struct waiter, link)
		if (waiter->deadline_ns <= now_ns)
			waiter_answer(waiter, false);
	timer_arm(pool);
}

static void waiter_arrive(struct world_message *message)
{
	struct waiter *waiter = CONTAINER_OF(message, struct waiter, message);

	list_push_back(&waiter->pool->waiters, &waiter->link);
	timer_arm(waiter->pool);
}

bool pool_wait_space(struct pool *pool, uint64_t deadline_ns)
{
	struct waiter waiter = {
		.pool = pool,
		.reactor = reactor_current(),
		.fiber = fiber_current(),
		.deadline_ns = deadline_ns,
		.message.run = waiter_arrive,
	};

	ASSERT(waiter.fiber);
	if (waiter.reactor == pool->home)
		waiter_arrive(&waiter.message);
	else
		reactor_post(pool->home, &waiter.message);
	while (!waiter.finished)
		fiber_suspend();
	return waiter.woken;
}

void pool_wait_init(struct pool *pool)
{
	list_init(&pool->waiters);
	pool->wait_timer = (struct reactor_timer){.run = timer_run};
}

void pool_wait_wake(struct pool *pool)
{
	struct waiter *waiter;

	LIST_FOR_EACH (&pool->waiters, waiter, struct waiter, link)
		waiter_answer(waiter, true);
	timer_arm(pool);
}

void pool_wait_done(struct pool *pool)
{
	ASSERT(list_is_empty(&pool->waiters));
	reactor_timer_cancel(pool->home, &pool->wait_timer);
}
