/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pollers: (1) one is in reactor->pollers exactly while it is awake; (2) it leaves the list only
 * after its sleep() has said that nothing came, or when it is stopped.
 */
#include "reactor/reactor.h"
#include "reactor/reactor_priv.h"

void reactor_poller_init(struct reactor_poller *poller, bool (*poll)(struct reactor_poller *poller),
			 bool (*sleep)(struct reactor_poller *poller))
{
	*poller = (struct reactor_poller){.poll = poll, .sleep = sleep};
	list_node_init(&poller->link);
}

/* Polling pays when the sleep would have been shorter than the longest polling. */
static void poller_adapt(const struct reactor *reactor, struct reactor_poller *poller,
			 uint64_t asleep_ns)
{
	uint64_t limit_ns = reactor->poll_limit_ns;

	if (asleep_ns >= limit_ns)
		poller->window_ns /= 2;
	else
		poller->window_ns = MIN(limit_ns, MAX(2 * poller->window_ns, limit_ns / 8));
}

void reactor_poller_wake(struct reactor *reactor, struct reactor_poller *poller)
{
	uint64_t now_ns;

	reactor_enter(reactor);
	if (list_is_linked(&poller->link))
		return;
	now_ns = reactor_turn_ns(reactor);
	if (poller->slept_ns)
		poller_adapt(reactor, poller, now_ns - poller->slept_ns);
	poller->found_ns = now_ns;
	list_push_back(&reactor->pollers, &poller->link);
}

void reactor_poller_stop(struct reactor *reactor, struct reactor_poller *poller)
{
	reactor_enter(reactor);
	list_remove(&poller->link);
}

static void poller_run(struct reactor *reactor, struct reactor_poller *poller)
{
	uint64_t now_ns = reactor_turn_ns(reactor);

	if (poller->poll(poller)) {
		poller->found_ns = now_ns;
		return;
	}
	if (now_ns - poller->found_ns < poller->window_ns || !list_is_linked(&poller->link))
		return;
	if (poller->sleep(poller)) {
		poller->slept_ns = now_ns;
		list_remove(&poller->link);
	}
}

void reactor_run_pollers(struct reactor *reactor)
{
	struct list batch;
	struct list_node *node;

	if (LIKELY(list_is_empty(&reactor->pollers)))
		return;
	list_init(&batch);
	list_splice_back(&batch, &reactor->pollers);
	while ((node = list_pop_front(&batch))) {
		struct reactor_poller *poller = LIST_ENTRY(node, struct reactor_poller, link);

		list_push_back(&reactor->pollers, node);
		poller_run(reactor, poller);
	}
}
