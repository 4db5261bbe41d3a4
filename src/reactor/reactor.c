/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of one reactor: turns, deferred work, hooks, timers, the watchdog.
 *
 * Invariants: (1) reactor_current() names the reactor exactly while its turn runs; (2) a turn waits
 * only when no deferred work, ready fiber, hook or poller is left over, and never beyond the
 * earliest timer; (3) timers run in order of deadline, then of arming, and never before their
 * deadline; what a timer arms runs in a later turn.
 *
 * Home: each function not marked otherwise in reactor.h runs on the reactor's thread.
 */
#include "reactor/reactor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "reactor/reactor_priv.h"

/* Deferred work that defers work: so often in one turn, then completions get their chance. */
#define REACTOR_ROUNDS          64
#define REACTOR_SLOW_NS         (5 * NSEC_PER_MSEC)
#define REACTOR_LOG_INTERVAL_NS NSEC_PER_SEC

_Thread_local struct reactor *reactor_current_;

struct reactor *reactor_current(void)
{
	return reactor_current_;
}

struct world *reactor_world(struct reactor *reactor)
{
	return reactor->world;
}

struct world_port *reactor_port(struct reactor *reactor)
{
	return reactor->port;
}

unsigned reactor_index(const struct reactor *reactor)
{
	return reactor->index;
}

uint64_t reactor_now_ns(struct reactor *reactor)
{
	return world_now_ns(reactor->world);
}

uint64_t reactor_turn_ns(struct reactor *reactor)
{
	if (!reactor->turn_ns)
		reactor->turn_ns = world_now_ns(reactor->world);
	return reactor->turn_ns;
}

void reactor_enter_outside(struct reactor *reactor)
{
	ASSERT(!reactor_current_ && !reactor->has_thread);
	reactor->world->ops->port_wake(reactor->port);
}

void reactor_defer(struct reactor *reactor, struct reactor_work *work)
{
	reactor_enter(reactor);
	list_push_back(&reactor->deferred, &work->link);
}

void reactor_hook_arm(struct reactor *reactor, struct reactor_hook *hook)
{
	reactor_enter(reactor);
	if (!list_is_linked(&hook->link))
		list_push_back(&reactor->hooks, &hook->link);
}

static bool reactor_timer_is_before(const struct heap_node *a, const struct heap_node *b)
{
	const struct reactor_timer *x = HEAP_ENTRY(a, struct reactor_timer, node);
	const struct reactor_timer *y = HEAP_ENTRY(b, struct reactor_timer, node);

	if (x->deadline_ns != y->deadline_ns)
		return x->deadline_ns < y->deadline_ns;
	return x->sequence < y->sequence;
}

void reactor_timer_arm(struct reactor *reactor, struct reactor_timer *timer, uint64_t deadline_ns)
{
	reactor_enter(reactor);
	if (timer->armed)
		heap_remove(&reactor->timers, &timer->node);
	/* A deadline in the past would sort before the timers that are due in this turn. */
	if (reactor->in_timers)
		deadline_ns = MAX(deadline_ns, reactor->turn_ns);
	timer->deadline_ns = deadline_ns;
	timer->sequence = reactor->timer_sequence++;
	timer->armed = true;
	heap_insert(&reactor->timers, &timer->node);
}

void reactor_timer_cancel(struct reactor *reactor, struct reactor_timer *timer)
{
	if (!timer->armed)
		return;
	reactor_enter(reactor);
	timer->armed = false;
	heap_remove(&reactor->timers, &timer->node);
}

static struct reactor_timer *reactor_first_timer(const struct reactor *reactor)
{
	struct heap_node *node = heap_front(&reactor->timers);

	return node ? HEAP_ENTRY(node, struct reactor_timer, node) : NULL;
}

static void reactor_run_timers(struct reactor *reactor)
{
	uint64_t end = reactor->timer_sequence;
	struct reactor_timer *timer;

	reactor->in_timers = true;
	while ((timer = reactor_first_timer(reactor))) {
		if (timer->deadline_ns > reactor_turn_ns(reactor) || timer->sequence >= end)
			break;
		reactor_timer_cancel(reactor, timer);
		timer->run(timer);
	}
	reactor->in_timers = false;
}

static void reactor_run_deferred(struct reactor *reactor)
{
	struct list batch;
	struct list_node *node;

	list_init(&batch);
	list_splice_back(&batch, &reactor->deferred);
	while ((node = list_pop_front(&batch))) {
		struct reactor_work *work = LIST_ENTRY(node, struct reactor_work, link);

		work->run(work);
	}
}

static void reactor_run_ready(struct reactor *reactor)
{
	list_splice_back(&reactor->ready, &reactor->yielded);
	for (unsigned round = 0; round < REACTOR_ROUNDS; round++) {
		if (list_is_empty(&reactor->deferred) && list_is_empty(&reactor->ready))
			return;
		reactor_run_deferred(reactor);
		fiber_run_ready(reactor);
	}
}

static void reactor_run_hooks(struct reactor *reactor)
{
	struct list batch;
	struct list_node *node;

	if (list_is_empty(&reactor->hooks))
		return;
	list_init(&batch);
	list_splice_back(&batch, &reactor->hooks);
	while ((node = list_pop_front(&batch))) {
		struct reactor_hook *hook = LIST_ENTRY(node, struct reactor_hook, link);

		hook->run(hook);
	}
}

/* Until when the next wait may last: 0 when there is something to do. */
static uint64_t reactor_deadline(const struct reactor *reactor)
{
	const struct reactor_timer *timer;

	if (!list_is_empty(&reactor->deferred) || !list_is_empty(&reactor->ready) ||
	    !list_is_empty(&reactor->yielded) || !list_is_empty(&reactor->hooks) ||
	    !list_is_empty(&reactor->pollers))
		return 0;
	timer = reactor_first_timer(reactor);
	return timer ? timer->deadline_ns : UINT64_MAX;
}

/*
 * The watchdog looks before each sleep, after each wake-up and after each wait that did not sleep:
 * one reading of the clock a turn when busy. So a turn counts from its wait to the next one, system
 * calls included.
 */
static void reactor_watch(struct reactor *reactor, uint64_t now_ns)
{
	uint64_t took_ns = reactor->checked_ns ? now_ns - reactor->checked_ns : 0;
	struct reactor_stats *stats = &reactor->stats;

	reactor->checked_ns = now_ns;
	stats->longest_turn_ns = MAX(stats->longest_turn_ns, took_ns);
	if (LIKELY(took_ns <= REACTOR_SLOW_NS))
		return;
	stats->slow_turns++;
	if (!reactor->has_thread) /* virtual time says nothing about us */
		return;
	if (reactor->logged_ns && now_ns - reactor->logged_ns < REACTOR_LOG_INTERVAL_NS)
		return;
	reactor->logged_ns = now_ns;
	log_warning("reactor", "slow turn", "reactor=%u took_us=%" PRIu64 " slow_turns=%" PRIu64,
		    reactor->index, took_ns / NSEC_PER_USEC, stats->slow_turns);
}

/* Polling pays when the sleep would have been shorter than the longest polling. */
static void reactor_poll_adapt(struct reactor *reactor, uint64_t slept_ns)
{
	uint64_t limit_ns = reactor->poll_limit_ns;

	if (slept_ns >= limit_ns)
		reactor->poll_window_ns /= 2;
	else
		reactor->poll_window_ns =
			MIN(limit_ns, MAX(2 * reactor->poll_window_ns, limit_ns / 8));
}

static void reactor_wait(struct reactor *reactor, uint64_t deadline_ns)
{
	bool may_sleep = deadline_ns > 0;
	uint64_t before_ns = 0;
	unsigned events;

	if (may_sleep) {
		before_ns = world_now_ns(reactor->world);
		reactor_watch(reactor, before_ns);
		reactor->stats.sleeps++;
	}
	reactor->turn_ns = 0;
	events = reactor->world->ops->port_wait(reactor->port, deadline_ns, REACTOR_COMPLETIONS);
	if (may_sleep) {
		reactor->checked_ns = reactor_turn_ns(reactor);
		if (events)
			reactor_poll_adapt(reactor, reactor->turn_ns - before_ns);
	} else {
		reactor_watch(reactor, reactor_turn_ns(reactor));
	}
	if (events)
		reactor->poll_until_ns = reactor->turn_ns + reactor->poll_window_ns;
	reactor->stats.turns++;
	reactor->stats.events += events;
}

static void reactor_turn(struct reactor *reactor, uint64_t deadline_ns)
{
	struct reactor *outer = reactor_current_;

	ASSERT(!reactor->in_turn);
	reactor->in_turn = true;
	reactor_current_ = reactor;
	reactor_wait(reactor, deadline_ns);
	reactor_run_timers(reactor);
	reactor_run_pollers(reactor);
	reactor_run_ready(reactor);
	reactor_run_hooks(reactor);
	reactor_current_ = outer;
	reactor->in_turn = false;
}

/* The world's call for a turn of a reactor that has no thread. */
static void reactor_called_turn(void *arg)
{
	struct reactor *reactor = arg;

	reactor_turn(reactor, reactor_deadline(reactor));
}

void reactor_loop(struct reactor *reactor)
{
	while (!atomic_load_explicit(&reactor->stop, memory_order_acquire)) {
		uint64_t deadline_ns = reactor_deadline(reactor);

		if (reactor->turn_ns < reactor->poll_until_ns)
			deadline_ns = 0;
		reactor_turn(reactor, deadline_ns);
	}
}

int reactor_new(struct world *world, const struct reactor_options *options,
		struct reactor **ret_reactor)
{
	struct reactor *reactor = calloc(1, sizeof(*reactor));
	int error;

	if (!reactor)
		return -ENOMEM;
	reactor->world = world;
	reactor->index = options->index;
	reactor->pin = options->pin;
	reactor->poll_limit_ns = options->poll_ns;
	list_init(&reactor->deferred);
	list_init(&reactor->ready);
	list_init(&reactor->yielded);
	list_init(&reactor->hooks);
	list_init(&reactor->pollers);
	heap_init(&reactor->timers, reactor_timer_is_before);
	error = fiber_pools_init(reactor, options);
	if (error == 0)
		error = world->ops->port_open(world, options->index, reactor_called_turn, reactor,
					      &reactor->port);
	if (error < 0) {
		reactor_free(reactor);
		return error;
	}
	*ret_reactor = reactor;
	return 0;
}

void reactor_free(struct reactor *reactor)
{
	if (!reactor)
		return;
	ASSERT(!reactor->in_turn && !reactor->has_thread);
	ASSERT(reactor_deadline(reactor) == UINT64_MAX && !heap_front(&reactor->timers));
	fiber_pools_done(reactor);
	if (reactor->port)
		reactor->world->ops->port_close(reactor->port);
	free(reactor);
}

void reactor_post(struct reactor *to, struct world_message *message)
{
	struct world_port *from = reactor_current_ ? reactor_current_->port : NULL;

	to->world->ops->port_post(from, to->port, message);
}

void reactor_get_stats(const struct reactor *reactor, struct reactor_stats *ret_stats)
{
	*ret_stats = reactor->stats;
	for (unsigned i = 0; i < FIBER_CLASS_COUNT; i++) {
		ret_stats->fibers_in_use[i] = reactor->pools[i].in_use;
		ret_stats->fibers_queued[i] = reactor->pools[i].queued;
	}
}
