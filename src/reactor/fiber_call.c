/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls into another reactor. The call lives on the caller's stack; one message carries it to the
 * target, where it takes a fiber, and the same message carries it back. After that the target does
 * not touch it.
 */
#include "reactor/fiber.h"

#include "reactor/reactor_priv.h"

struct fiber_call {
	struct world_message message;
	struct fiber_task task;
	struct reactor *target;
	enum fiber_class class;
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool returned;
	struct fiber *caller; /* NULL: a thread waits for `condition` */
	pthread_mutex_t lock;
	pthread_cond_t condition;
};

static void fiber_call_returned(struct world_message *message)
{
	struct fiber_call *call = CONTAINER_OF(message, struct fiber_call, message);

	call->returned = true;
	fiber_wake(call->caller);
}

static void fiber_call_signal(struct fiber_call *call)
{
	(void)pthread_mutex_lock(&call->lock);
	call->returned = true;
	(void)pthread_cond_signal(&call->condition);
	(void)pthread_mutex_unlock(&call->lock);
}

static void fiber_call_run(struct fiber_task *task)
{
	struct fiber_call *call = CONTAINER_OF(task, struct fiber_call, task);

	call->result = call->fn(call->arg);
	if (!call->caller) {
		fiber_call_signal(call);
		return;
	}
	call->message.run = fiber_call_returned;
	reactor_post(call->caller->reactor, &call->message);
}

static void fiber_call_arrived(struct world_message *message)
{
	struct fiber_call *call = CONTAINER_OF(message, struct fiber_call, message);

	call->task.run = fiber_call_run;
	fiber_spawn(call->target, call->class, &call->task);
}

int fiber_call(struct reactor *target, enum fiber_class class, int (*fn)(void *arg), void *arg)
{
	struct fiber_call call = {
		.message.run = fiber_call_arrived,
		.target = target,
		.class = class,
		.fn = fn,
		.arg = arg,
		.caller = fiber_current(),
	};

	ASSERT(call.caller);
	if (call.caller->reactor == target)
		return fn(arg);
	reactor_post(target, &call.message);
	while (!call.returned)
		fiber_suspend();
	return call.result;
}

int fiber_call_blocking(struct reactor *target, enum fiber_class class, int (*fn)(void *arg),
			void *arg)
{
	struct fiber_call call = {
		.message.run = fiber_call_arrived,
		.target = target,
		.class = class,
		.fn = fn,
		.arg = arg,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.condition = PTHREAD_COND_INITIALIZER,
	};

	ASSERT(!reactor_current());
	reactor_post(target, &call.message);
	(void)pthread_mutex_lock(&call.lock);
	while (!call.returned)
		(void)pthread_cond_wait(&call.condition, &call.lock);
	(void)pthread_mutex_unlock(&call.lock);
	(void)pthread_cond_destroy(&call.condition);
	(void)pthread_mutex_destroy(&call.lock);
	return call.result;
}
