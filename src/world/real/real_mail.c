/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between ports. A sender pushes onto a lock-free stack, the receiver takes the whole
 * stack and turns it round, which keeps the order of each sender.
 *
 * Invariant: a message is pushed before `asleep` is read, and `asleep` is set before the stack is
 * looked at for the last time, all sequentially consistent; so either the sender sees the sleeper
 * and signals wake_fd, or the sleeper sees the message.
 *
 * The message may be what makes the owner close the port, while its sender still looks at
 * `asleep`: `posting` counts those, and the close waits for them.
 */
#include "world/real/real_priv.h"

#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>

static void signal_if_asleep(struct world_port *port)
{
	int status;

	if (!atomic_load(&port->asleep) || !atomic_exchange(&port->asleep, false))
		return;
	do
		status = eventfd_write(port->wake_fd, 1);
	while (status < 0 && errno == EINTR);
	/* -EAGAIN means that the counter is full of wake-ups, which wake as well. */
	ASSERT(status == 0 || errno == EAGAIN);
}

bool real_mail_is_waiting(struct world_port *port)
{
	return atomic_load(&port->mail) != NULL || atomic_load(&port->woken);
}

void real_mail_post(struct world_port *from, struct world_port *to, struct world_message *message)
{
	struct world_message *newest = atomic_load_explicit(&to->mail, memory_order_relaxed);

	ASSERT(message->run != NULL);
	atomic_fetch_add_explicit(&to->posting, 1, memory_order_relaxed);
	do
		message->next = newest;
	while (!atomic_compare_exchange_weak(&to->mail, &newest, message));
	signal_if_asleep(to);
	atomic_fetch_sub_explicit(&to->posting, 1, memory_order_release);
}

void real_mail_wake(struct world_port *port)
{
	atomic_fetch_add_explicit(&port->posting, 1, memory_order_relaxed);
	atomic_store(&port->woken, true);
	signal_if_asleep(port);
	atomic_fetch_sub_explicit(&port->posting, 1, memory_order_release);
}

void real_mail_wait_for_senders(struct world_port *port)
{
	/* A few instructions of theirs; a lock for them would cost every message more. */
	while (atomic_load_explicit(&port->posting, memory_order_acquire) > 0)
		sched_yield();
}

struct world_message *real_mail_take(struct world_port *port)
{
	struct world_message *message, *next, *oldest = NULL;

	/* Looking first keeps the line shared while nothing arrives. */
	if (!atomic_load_explicit(&port->mail, memory_order_relaxed))
		return NULL;
	for (message = atomic_exchange(&port->mail, NULL); message; message = next) {
		next = message->next;
		message->next = oldest;
		oldest = message;
	}
	return oldest;
}

unsigned real_mail_run(struct world_port *port)
{
	struct world_message *message, *next;
	unsigned count = 0;

	for (message = real_mail_take(port); message; message = next) {
		next = message->next; /* run() may free the message */
		message->run(message);
		count++;
	}
	return count;
}
