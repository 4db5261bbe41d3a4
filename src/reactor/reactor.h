/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One event loop. In the real world each reactor is a pinned thread; in the simulated world the
 * simulator calls its turns. A turn: wait in the world (messages, at most REACTOR_COMPLETIONS
 * completions), due timers, deferred work, ready fibers, then the turn-end hooks; what these
 * queued is handed to the kernel at the next wait.
 *
 * Every mutable object has one home reactor. reactor_assert_home() is called on entry.
 *
 * Calls that belong on a reactor's own thread are also allowed from outside of every turn while the
 * reactor has no thread: from a test around the simulated world, or from main() before
 * reactor_start(). They take effect in the next turn.
 */
#include "base/heap.h"
#include "base/list.h"
#include "world/world.h"

struct reactor;

#define REACTOR_COMPLETIONS 8 /* completions handled before the next submit */

/* Pools of their own, so that one class cannot starve another. */
enum fiber_class {
	FIBER_DATA, /* guest requests that need more than one I/O */
	FIBER_CHECKPOINT,
	FIBER_RECLAIM,
	FIBER_CONTROL, /* API calls, log-in, recovery */
	FIBER_DISK,    /* work on names of a disk: held for as long as that disk hangs */
	FIBER_CLASS_COUNT,
};

/* Limits of the options: -EINVAL beyond. */
#define REACTOR_FIBERS_MAX      4096u /* of one class; a process may have 65,530 mappings */
#define REACTOR_STACK_MIN_BYTES (16u * 1024)

struct reactor_options {
	unsigned index;
	unsigned fibers[FIBER_CLASS_COUNT]; /* 0 = the default: 64, 16, 16, 64, 384 */
	/* While they stand still. 0 = no more than the above, where that is not 0; else 1024, 512,
	 * 256, 1024, 384. */
	unsigned fibers_most[FIBER_CLASS_COUNT];
	uint32_t stack_bytes; /* 0 = 64 KiB (256 KiB under a sanitizer) */
	bool pin;             /* bind the thread to CPU `index` modulo the CPUs */
	uint64_t poll_ns;     /* busy polling before the thread sleeps; 0 = none */
};

int reactor_new(struct world *world, const struct reactor_options *options,
		struct reactor **ret_reactor);
/* No fiber is running or queued, no timer armed. In the real world the thread has ended. */
void reactor_free(struct reactor *reactor);

/* Real world only: the thread that calls turns until reactor_stop(). */
int reactor_start(struct reactor *reactor);
/* Ends the thread after its current turn and joins it. From any thread but its own. */
void reactor_stop(struct reactor *reactor);

/* The reactor of the running thread (in the simulated world: whose turn it is), or NULL. */
struct reactor *reactor_current(void);
struct world *reactor_world(struct reactor *reactor);
struct world_port *reactor_port(struct reactor *reactor);
unsigned reactor_index(const struct reactor *reactor);
/* Monotonic time; reactor_turn_ns() reads the clock once a turn, where it is first asked. */
uint64_t reactor_now_ns(struct reactor *reactor);
uint64_t reactor_turn_ns(struct reactor *reactor);

#define reactor_assert_home(r) ASSERT(reactor_current() == (r))

/* Work for later in this turn or the next: never on the caller's stack. FIFO. Work is not queued
 * twice at a time. */
struct reactor_work {
	struct list_node link;
	void (*run)(struct reactor_work *work);
};
void reactor_defer(struct reactor *reactor, struct reactor_work *work);

/* Runs at the end of the current turn, once for each time it is armed. */
struct reactor_hook {
	struct list_node link;
	void (*run)(struct reactor_hook *hook);
};
static inline void reactor_hook_init(struct reactor_hook *hook,
				     void (*run)(struct reactor_hook *hook))
{
	list_node_init(&hook->link);
	hook->run = run;
}
/* Arming an armed hook has no effect. */
void reactor_hook_arm(struct reactor *reactor, struct reactor_hook *hook);
static inline void reactor_hook_disarm(struct reactor_hook *hook)
{
	list_remove(&hook->link);
}

/* All zeros but `run`. Runs once for each time it is armed; arming an armed timer moves it. */
struct reactor_timer {
	uint64_t deadline_ns;
	uint64_t sequence; /* ties run in order of arming */
	struct heap_node node;
	bool armed;
	void (*run)(struct reactor_timer *timer);
};
void reactor_timer_arm(struct reactor *reactor, struct reactor_timer *timer, uint64_t deadline_ns);
void reactor_timer_cancel(struct reactor *reactor, struct reactor_timer *timer);

/*
 * Something that has to be looked at because it does not always tell: queues in a guest's memory.
 * While it is awake, poll() is called each turn, before deferred work and fibers, and the reactor
 * does not sleep. When poll() has found nothing for a time (up to the reactor's poll_ns, adapted to
 * how long earlier sleeps were), sleep() is called. A poller that sleeps costs nothing.
 */
struct reactor_poller {
	/* Looks once. True when it found something. */
	bool (*poll)(struct reactor_poller *poller);
	/* Arms whatever will call reactor_poller_wake(), then, after a full barrier, looks whether
	 * something came meanwhile: false, and it stays awake. */
	bool (*sleep)(struct reactor_poller *poller);
	/* Private. */
	struct list_node link; /* linked = awake */
	uint64_t found_ns;     /* the turn in which it last found something, or woke */
	uint64_t slept_ns;     /* the turn in which it fell asleep */
	uint64_t window_ns;    /* how long it polls in vain before it sleeps */
};
/* Asleep. */
void reactor_poller_init(struct reactor_poller *poller, bool (*poll)(struct reactor_poller *poller),
			 bool (*sleep)(struct reactor_poller *poller));
/* It is polled in this turn or the next. No effect on one that is awake. */
void reactor_poller_wake(struct reactor *reactor, struct reactor_poller *poller);
/* Not polled any more, sleep() is not called. Also from within its own poll() and sleep(). */
void reactor_poller_stop(struct reactor *reactor, struct reactor_poller *poller);

/* Runs message->run on the reactor's thread. Callable from any thread. */
void reactor_post(struct reactor *to, struct world_message *message);

struct reactor_stats {
	uint64_t turns;
	uint64_t events; /* completions and messages */
	uint64_t sleeps; /* turns that were allowed to wait */
	/* On the clock, so what other processes did meanwhile is in them. */
	uint64_t slow_turns; /* over 5 ms; each is logged, at most one line a second */
	uint64_t longest_turn_ns;
	unsigned fibers_in_use[FIBER_CLASS_COUNT];
	unsigned fibers_queued[FIBER_CLASS_COUNT]; /* tasks that wait for a fiber */
};
/* On the reactor's own thread. */
void reactor_get_stats(const struct reactor *reactor, struct reactor_stats *ret_stats);
