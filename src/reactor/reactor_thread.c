/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of a reactor in the real world: name, processor, signals, start and stop. */
#include "reactor/reactor.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "reactor/reactor_priv.h"

/* The CPU that is the reactor's by its index, among those that the process may use. */
static int reactor_thread_choose_cpu(unsigned index, cpu_set_t *ret_set)
{
	cpu_set_t allowed;
	unsigned skip;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return -errno;
	skip = index % (unsigned)CPU_COUNT(&allowed);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || skip-- > 0)
			continue;
		CPU_ZERO(ret_set);
		CPU_SET(cpu, ret_set);
		return 0;
	}
	return -ENXIO;
}

/* A thread that is not pinned is slower, not wrong. */
static void reactor_thread_pin(struct reactor *reactor)
{
	cpu_set_t set;
	int error = reactor_thread_choose_cpu(reactor->index, &set);

	if (error == 0)
		error = -pthread_setaffinity_np(reactor->thread, sizeof(set), &set);
	if (error < 0)
		log_warning("reactor", "cannot pin the thread", "reactor=%u error=%d",
			    reactor->index, error);
}

static void *reactor_thread_main(void *arg)
{
	reactor_loop(arg);
	return NULL;
}

/* Signals that ask something of the process go to main(), faults stay where they happen. */
static int reactor_thread_create(struct reactor *reactor)
{
	const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGPROF};
	sigset_t blocked, before;
	int error;

	sigfillset(&blocked);
	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
		sigdelset(&blocked, faults[i]);
	error = pthread_sigmask(SIG_SETMASK, &blocked, &before);
	if (error)
		return -error;
	error = pthread_create(&reactor->thread, NULL, reactor_thread_main, reactor);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* a valid set: cannot fail */
	return -error;
}

int reactor_start(struct reactor *reactor)
{
	char name[16];
	int error;

	ASSERT(!reactor->has_thread);
	atomic_store(&reactor->stop, false);
	reactor->has_thread = true;
	error = reactor_thread_create(reactor);
	if (error < 0) {
		reactor->has_thread = false;
		return error;
	}
	snprintf(name, sizeof(name), "sarsen-r%u", reactor->index % 10000);
	(void)pthread_setname_np(reactor->thread, name); /* only seen by people */
	if (reactor->pin)
		reactor_thread_pin(reactor);
	return 0;
}

void reactor_stop(struct reactor *reactor)
{
	if (!reactor->has_thread)
		return;
	ASSERT(reactor_current() != reactor);
	atomic_store_explicit(&reactor->stop, true, memory_order_release);
	reactor->world->ops->port_wake(reactor->port);
	(void)pthread_join(reactor->thread, NULL); /* joinable, joined once */
	reactor->has_thread = false;
}
