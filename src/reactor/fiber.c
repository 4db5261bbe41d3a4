/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers and their pools. The reactor's thread switches to a fiber and the fiber switches back to
 * it, never directly to another fiber.
 *
 * Invariants: (1) a fiber is in its pool's free list exactly when FREE, in the reactor's ready list
 * when READY, in its yielded list when YIELDED; (2) at most one fiber of a reactor is RUNNING, and
 * reactor->running names it; (3) tasks wait in a pool only while `limit` of its fibers are in use,
 * or none is free that has a stack; (4) each pool has such fibers from the start: a task that waits
 * will run.
 *
 * Home: the fiber's reactor. The free list is last in, first out: the warmest stack is taken first,
 * and one that was never used last. That is opened when it is needed; where the kernel refuses, the
 * task waits as if there were fewer fibers.
 *
 * Fibers that stand still, because a disk hangs, must not hold up work that has nothing to do with
 * it: while tasks wait, and half of the fibers have been at the same task for a time, the limit
 * grows by half. It falls when fewer than usual are in use. Work of reclaim is long, and how much
 * of it goes on at a time is what leaves the disks to guests: there a fiber must not have run at
 * all.
 */
#include "reactor/fiber.h"

#include <errno.h>
#include <stdlib.h>

#include "base/reached.h"
#include "reactor/reactor_priv.h"

#if defined(CONTEXT_ASAN) || defined(CONTEXT_TSAN)
#define FIBER_STACK_BYTES (256 * KIB)
#else
#define FIBER_STACK_BYTES (64 * KIB)
#endif

#define FIBERS_AT_START   4u /* of each class */
#define FIBER_PATIENCE_NS (500 * NSEC_PER_MSEC)

/* At first, and when they stand still. Work on names of disks has its deadline, and many fibers
 * from the start. */
static const struct {
	unsigned usual, most;
} fiber_defaults[FIBER_CLASS_COUNT] = {
	[FIBER_DATA] = {64, 1024},    [FIBER_CHECKPOINT] = {16, 512}, [FIBER_RECLAIM] = {16, 256},
	[FIBER_CONTROL] = {64, 1024}, [FIBER_DISK] = {384, 384},
};

static void fiber_run_out_of_patience(struct reactor_timer *timer);

static int fiber_pool_init(struct reactor *reactor, enum fiber_class class, unsigned first_stack)
{
	struct fiber_pool *pool = &reactor->pools[class];

	pool->fibers = calloc(pool->count, sizeof(*pool->fibers));
	if (!pool->fibers)
		return -ENOMEM;
	for (unsigned i = 0; i < pool->count; i++) {
		struct fiber *fiber = &pool->fibers[i];

		fiber->reactor = reactor;
		fiber->class = class;
		fiber->stack_index = first_stack + i;
		list_push_back(&pool->free, &fiber->link);
	}
	return 0;
}

static int fiber_open(struct fiber *fiber)
{
	int error = 0;

	if (!fiber->has_stack)
		error = stack_pool_open(&fiber->reactor->stacks, fiber->stack_index);
	fiber->has_stack = error == 0;
	return error;
}

static int fiber_open_first(struct fiber_pool *pool)
{
	int error = 0;

	for (unsigned i = 0; error == 0 && i < MIN(pool->count, FIBERS_AT_START); i++)
		error = fiber_open(&pool->fibers[i]);
	return error;
}

static bool fiber_options_are_valid(const struct reactor_options *options)
{
	for (unsigned i = 0; i < FIBER_CLASS_COUNT; i++) {
		if (options->fibers[i] > REACTOR_FIBERS_MAX ||
		    options->fibers_most[i] > REACTOR_FIBERS_MAX)
			return false;
	}
	return !options->stack_bytes || options->stack_bytes >= REACTOR_STACK_MIN_BYTES;
}

static void fiber_pool_size(struct fiber_pool *pool, const struct reactor_options *options,
			    enum fiber_class class)
{
	unsigned usual = options->fibers[class], most = options->fibers_most[class];

	pool->usual = usual ? usual : fiber_defaults[class].usual;
	pool->count = usual || most ? MAX(most, pool->usual) : fiber_defaults[class].most;
	pool->limit = pool->usual;
}

int fiber_pools_init(struct reactor *reactor, const struct reactor_options *options)
{
	size_t stack_bytes = options->stack_bytes ? options->stack_bytes : FIBER_STACK_BYTES;
	unsigned stacks = 0;
	int error;

	if (!fiber_options_are_valid(options))
		return -EINVAL;
	reactor->patience.run = fiber_run_out_of_patience;
	for (unsigned i = 0; i < FIBER_CLASS_COUNT; i++) {
		struct fiber_pool *pool = &reactor->pools[i];

		list_init(&pool->free);
		list_init(&pool->tasks);
		fiber_pool_size(pool, options, i);
		error = fiber_pool_init(reactor, i, stacks);
		if (error < 0)
			return error;
		stacks += pool->count;
	}
	error = stack_pool_init(&reactor->stacks, stacks, stack_bytes);
	for (unsigned i = 0; error == 0 && i < FIBER_CLASS_COUNT; i++)
		error = fiber_open_first(&reactor->pools[i]);
	return error;
}

/* Runs `fiber` until it suspends or has finished its task. */
static void fiber_resume(struct fiber *fiber)
{
	struct reactor *reactor = fiber->reactor;

	fiber->state = FIBER_RUNNING;
	if (fiber->class == FIBER_RECLAIM)
		fiber->moved = true;
	reactor->running = fiber;
	context_switch(&reactor->thread_context, &fiber->context);
	reactor->running = NULL;
}

/* `fiber` is free and has no task: it leaves its stack. */
static void fiber_end(struct fiber *fiber)
{
	context_init_thread(&fiber->reactor->thread_context);
	fiber_resume(fiber);
	context_done(&fiber->context);
}

static void fiber_pool_done(struct fiber_pool *pool)
{
	ASSERT(pool->in_use == 0 && pool->queued == 0);
	for (unsigned i = 0; pool->fibers && i < pool->count; i++) {
		if (pool->fibers[i].started)
			fiber_end(&pool->fibers[i]);
	}
	free(pool->fibers);
}

void fiber_pools_done(struct reactor *reactor)
{
	for (unsigned i = 0; i < FIBER_CLASS_COUNT; i++)
		fiber_pool_done(&reactor->pools[i]);
	stack_pool_done(&reactor->stacks);
}

static void fiber_make_ready(struct fiber *fiber)
{
	fiber->state = FIBER_READY;
	list_push_back(&fiber->reactor->ready, &fiber->link);
}

/* Hands the processor back to the reactor's thread. */
static void fiber_leave(struct fiber *fiber)
{
	context_switch(&fiber->context, &fiber->reactor->thread_context);
}

static void fiber_waits(struct reactor *reactor, const struct fiber_pool *pool)
{
	if (pool->limit < pool->count && !reactor->patience.armed)
		reactor_timer_arm(reactor, &reactor->patience,
				  reactor_turn_ns(reactor) + FIBER_PATIENCE_NS);
}

static void fiber_unqueued(struct reactor *reactor, struct fiber_pool *pool)
{
	unsigned queued = 0;

	if (--pool->queued > 0 || !reactor->patience.armed)
		return;
	for (unsigned i = 0; i < FIBER_CLASS_COUNT; i++)
		queued += reactor->pools[i].queued;
	if (queued == 0)
		reactor_timer_cancel(reactor, &reactor->patience);
}

static void fiber_take_next_task(struct fiber *fiber)
{
	struct fiber_pool *pool = &fiber->reactor->pools[fiber->class];
	struct list_node *node = list_pop_front(&pool->tasks);

	fiber->wake_pending = false;
	fiber->moved = true;
	if (node) {
		fiber_unqueued(fiber->reactor, pool);
		fiber->task = LIST_ENTRY(node, struct fiber_task, link);
		fiber_make_ready(fiber);
	} else {
		pool->in_use--;
		if (pool->in_use < pool->usual)
			pool->limit = pool->usual;
		fiber->task = NULL;
		fiber->state = FIBER_FREE;
		list_push_front(&pool->free, &fiber->link);
	}
}

static void fiber_main(struct context *context)
{
	struct fiber *fiber = CONTAINER_OF(context, struct fiber, context);

	context_entered(&fiber->context, &fiber->reactor->thread_context);
	while (fiber->task) {
		fiber->task->run(fiber->task);
		fiber_take_next_task(fiber);
		fiber_leave(fiber);
	}
	context_exit(&fiber->context, &fiber->reactor->thread_context);
}

/* A free fiber that has a stack, or NULL. */
static struct fiber *fiber_take(struct fiber_pool *pool)
{
	struct list_node *node = pool->in_use < pool->limit ? list_pop_front(&pool->free) : NULL;
	struct fiber *fiber;

	if (!node)
		return NULL;
	fiber = LIST_ENTRY(node, struct fiber, link);
	if (fiber_open(fiber) == 0)
		return fiber;
	list_push_front(&pool->free, node);
	return NULL;
}

/* For the first task that waits, as far as there is one. */
static bool fiber_start_task(struct fiber_pool *pool)
{
	struct fiber *fiber = fiber_take(pool);

	if (!fiber)
		return false;
	pool->in_use++;
	fiber_take_next_task(fiber);
	return true;
}

void fiber_spawn(struct reactor *reactor, enum fiber_class class, struct fiber_task *task)
{
	struct fiber_pool *pool = &reactor->pools[class];

	ASSERT(class < FIBER_CLASS_COUNT);
	reactor_enter(reactor);
	task->class = class;
	list_push_back(&pool->tasks, &task->link);
	pool->queued++;
	if (!fiber_start_task(pool))
		fiber_waits(reactor, pool);
}

/* Since the last look. */
static unsigned fiber_count_still(const struct fiber_pool *pool)
{
	unsigned still = 0;

	for (unsigned i = 0; i < pool->count; i++) {
		struct fiber *fiber = &pool->fibers[i];

		still += fiber->task && !fiber->moved;
		fiber->moved = false;
	}
	return still;
}

static void fiber_pool_look(struct fiber_pool *pool)
{
	unsigned still = fiber_count_still(pool);

	if (pool->queued == 0 || still < pool->limit / 2 || pool->limit == pool->count)
		return;
	REACHED("fiber.more");
	pool->limit = MIN(pool->limit + MAX(pool->limit / 2, 1u), pool->count);
	while (pool->queued > 0 && fiber_start_task(pool))
		;
}

static void fiber_run_out_of_patience(struct reactor_timer *timer)
{
	struct reactor *reactor = CONTAINER_OF(timer, struct reactor, patience);
	bool again = false;

	for (unsigned i = 0; i < FIBER_CLASS_COUNT; i++) {
		struct fiber_pool *pool = &reactor->pools[i];

		fiber_pool_look(pool);
		again |= pool->queued > 0 && pool->limit < pool->count;
	}
	if (again)
		reactor_timer_arm(reactor, timer, reactor_turn_ns(reactor) + FIBER_PATIENCE_NS);
}

bool fiber_unspawn(struct reactor *reactor, struct fiber_task *task)
{
	reactor_enter(reactor);
	if (!list_is_linked(&task->link))
		return false;
	list_remove(&task->link);
	fiber_unqueued(reactor, &reactor->pools[task->class]);
	return true;
}

static void fiber_start(struct fiber *fiber)
{
	struct stack_pool *stacks = &fiber->reactor->stacks;

	context_init(&fiber->context, stack_pool_get(stacks, fiber->stack_index),
		     stacks->stack_bytes, fiber_main);
	fiber->started = true;
}

void fiber_run_ready(struct reactor *reactor)
{
	struct list batch;
	struct list_node *node;

	if (list_is_empty(&reactor->ready))
		return;
	context_init_thread(&reactor->thread_context);
	list_init(&batch);
	list_splice_back(&batch, &reactor->ready);
	while ((node = list_pop_front(&batch))) {
		struct fiber *fiber = LIST_ENTRY(node, struct fiber, link);

		if (UNLIKELY(!fiber->started))
			fiber_start(fiber);
		fiber_resume(fiber);
	}
}

struct fiber *fiber_current(void)
{
	return reactor_current_ ? reactor_current_->running : NULL;
}

void fiber_suspend(void)
{
	struct fiber *fiber = fiber_current();

	ASSERT(fiber);
	if (fiber->wake_pending) {
		fiber->wake_pending = false;
		return;
	}
	fiber->state = FIBER_SUSPENDED;
	fiber_leave(fiber);
}

void fiber_wake(struct fiber *fiber)
{
	reactor_enter(fiber->reactor);
	ASSERT(fiber->state != FIBER_FREE);
	if (fiber->state == FIBER_SUSPENDED)
		fiber_make_ready(fiber);
	else if (fiber->state != FIBER_READY)
		fiber->wake_pending = true;
}

void fiber_yield(void)
{
	struct fiber *fiber = fiber_current();

	ASSERT(fiber);
	fiber->state = FIBER_YIELDED;
	list_push_back(&fiber->reactor->yielded, &fiber->link);
	fiber_leave(fiber);
}

struct fiber_alarm {
	struct reactor_timer timer;
	struct fiber *fiber;
	bool rang;
};

static void fiber_alarm_run(struct reactor_timer *timer)
{
	struct fiber_alarm *alarm = CONTAINER_OF(timer, struct fiber_alarm, timer);

	alarm->rang = true;
	fiber_wake(alarm->fiber);
}

void fiber_sleep_until(uint64_t deadline_ns)
{
	struct fiber_alarm alarm = {
		.timer.run = fiber_alarm_run,
		.fiber = fiber_current(),
	};

	ASSERT(alarm.fiber);
	reactor_timer_arm(alarm.fiber->reactor, &alarm.timer, deadline_ns);
	while (!alarm.rang)
		fiber_suspend();
}

void fiber_sleep(uint64_t duration_ns)
{
	uint64_t now_ns = reactor_now_ns(reactor_current());

	fiber_sleep_until(duration_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + duration_ns);
}

static void fiber_op_done(struct world_op *world_op, int64_t result)
{
	struct fiber_op *op = CONTAINER_OF(world_op, struct fiber_op, op);

	op->result = result;
	op->finished = true;
	fiber_wake(op->fiber);
}

void fiber_op_init(struct fiber_op *op)
{
	op->op.done = fiber_op_done;
	op->fiber = fiber_current();
	op->finished = false;
	ASSERT(op->fiber);
}

int64_t fiber_op_wait(struct fiber_op *op)
{
	ASSERT(op->fiber == fiber_current());
	op->fiber->op_steps++;
	while (!op->finished)
		fiber_suspend();
	op->fiber->op_steps++;
	return op->result;
}

uint64_t fiber_op_steps(const struct fiber *fiber)
{
	return fiber->op_steps;
}
