/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Fibers: straight-line code on pooled stacks with guard pages, one reactor each. A fiber runs
 * until it suspends; nothing else of its reactor runs meanwhile.
 *
 * A task that finds no free fiber in its class waits in the class's queue, so spawning never fails.
 * Where those of a class all stand still, more are taken.
 */
#include "reactor/reactor.h"

struct fiber;

struct fiber_task { /* embedded by the caller, who keeps it until run() is entered */
	void (*run)(struct fiber_task *task);
	struct list_node link;
	enum fiber_class class;
};

/* On the reactor's own thread. run() starts later in this turn, never on the caller's stack. */
void fiber_spawn(struct reactor *reactor, enum fiber_class class, struct fiber_task *task);
/* On the same thread. Takes back a task that still waits for a fiber: true, and run() is not called
 * any more. */
bool fiber_unspawn(struct reactor *reactor, struct fiber_task *task);

/* The running fiber, or NULL outside of one. */
struct fiber *fiber_current(void);
/* Suspends the running fiber until fiber_wake(). A wake that came first makes it return at once;
 * a fiber counts one pending wake at most, and callers loop over their condition. */
void fiber_suspend(void);
/* On the fiber's reactor. */
void fiber_wake(struct fiber *fiber);
void fiber_sleep_until(uint64_t deadline_ns);
void fiber_sleep(uint64_t duration_ns);
/* Lets everything else that is ready, and what has completed, run first. */
void fiber_yield(void);

/* Fibers that wait for a condition. Wake-ups are FIFO. One reactor. */
struct fiber_queue {
	struct list waiters;
};
void fiber_queue_init(struct fiber_queue *queue);
void fiber_queue_wait(struct fiber_queue *queue);
/* Returns false when deadline_ns passed first. */
bool fiber_queue_wait_until(struct fiber_queue *queue, uint64_t deadline_ns);
bool fiber_queue_wake_one(struct fiber_queue *queue); /* false when nobody waited */
void fiber_queue_wake_all(struct fiber_queue *queue);

struct fiber_mutex {
	struct fiber *owner;
	struct fiber_queue queue;
};
void fiber_mutex_init(struct fiber_mutex *mutex);
void fiber_mutex_lock(struct fiber_mutex *mutex);
void fiber_mutex_unlock(struct fiber_mutex *mutex);

/* Runs fn(arg) in a fiber of `target` and suspends the calling fiber until it returned; a call to
 * the own reactor runs it directly. Returns fn's value. */
int fiber_call(struct reactor *target, enum fiber_class class, int (*fn)(void *arg), void *arg);
/* The same from a thread that has no reactor (HTTP server, main); blocks it. Real world only. */
int fiber_call_blocking(struct reactor *target, enum fiber_class class, int (*fn)(void *arg),
			void *arg);

/* A world operation that wakes the fiber that waits for it. */
struct fiber_op {
	struct world_op op;
	struct fiber *fiber;
	int64_t result;
	bool finished;
};
void fiber_op_init(struct fiber_op *op);
int64_t fiber_op_wait(struct fiber_op *op);
/* Grows when the fiber begins to wait for an operation and when that has ended: odd in between. On
 * the fiber's reactor. */
uint64_t fiber_op_steps(const struct fiber *fiber);
