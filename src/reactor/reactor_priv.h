/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Shared by reactor.c and the fiber_*.c files. */
#include <pthread.h>
#include <stdatomic.h>

#include "reactor/context.h"
#include "reactor/fiber.h"
#include "reactor/stack.h"

enum fiber_state {
	FIBER_FREE,
	FIBER_READY,   /* in reactor->ready */
	FIBER_YIELDED, /* in reactor->yielded */
	FIBER_RUNNING,
	FIBER_SUSPENDED,
};

struct fiber {
	struct context context;
	struct reactor *reactor;
	struct fiber_task *task; /* NULL tells a free fiber to leave its stack */
	struct list_node link;
	enum fiber_state state;
	enum fiber_class class;
	unsigned stack_index;
	bool has_stack; /* it is open */
	bool started;   /* `context` exists */
	bool wake_pending;
	bool moved;        /* has begun a task since the last look at whether fibers stand still */
	uint64_t op_steps; /* odd while it waits for an operation */
};

struct fiber_pool {
	struct fiber *fibers;
	struct list free;  /* those that have a stack come first */
	struct list tasks; /* that found no free fiber */
	unsigned count;
	unsigned usual;
	unsigned limit; /* of those in use, now: usual .. count */
	unsigned in_use;
	unsigned queued;
};

struct reactor {
	struct world *world;
	struct world_port *port;
	unsigned index;

	struct list deferred;
	struct list ready;
	struct list yielded;
	struct list hooks;
	struct list pollers; /* those that are awake */
	struct heap timers;
	uint64_t timer_sequence;

	uint64_t turn_ns;    /* 0 = not yet read in this turn */
	uint64_t checked_ns; /* the watchdog's last look; 0 = none since start */
	uint64_t logged_ns;  /* the watchdog's last line */
	bool in_turn;
	bool in_timers;

	struct fiber *running;
	struct context thread_context;
	struct fiber_pool pools[FIBER_CLASS_COUNT];
	struct stack_pool stacks;
	struct reactor_timer patience; /* armed while tasks wait for fibers */

	uint64_t poll_limit_ns;
	uint64_t poll_window_ns; /* adapted, at most poll_limit_ns */
	uint64_t poll_until_ns;

	bool pin;
	bool has_thread;
	pthread_t thread;
	atomic_bool stop;

	struct reactor_stats stats;
};

extern _Thread_local struct reactor *reactor_current_;

/* Caller may touch what belongs to the reactor; outside of a turn the reactor is woken. */
void reactor_enter_outside(struct reactor *reactor);
static inline void reactor_enter(struct reactor *reactor)
{
	if (UNLIKELY(reactor_current_ != reactor))
		reactor_enter_outside(reactor);
}

/* Calls each poller that is awake once. */
void reactor_run_pollers(struct reactor *reactor);

/* Turns until reactor->stop. */
void reactor_loop(struct reactor *reactor);

int fiber_pools_init(struct reactor *reactor, const struct reactor_options *options);
void fiber_pools_done(struct reactor *reactor);
/* Runs the fibers that are ready now, not those that they make ready. */
void fiber_run_ready(struct reactor *reactor);
