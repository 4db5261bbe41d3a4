/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads for calls that block. A job waits in a FIFO queue, a worker runs it and posts the
 * operation back to its port as a message; `done` runs there.
 *
 * Invariants
 *  1. op->link is linked exactly while the job waits; only then can it be withdrawn.
 *  2. Workers block all signals: those belong to the threads that know what to do with them.
 */
#include "world/real/real_priv.h"

#include <errno.h>
#include <signal.h>

REAL_OP_FITS(struct real_job);

static void job_is_done(struct world_message *message)
{
	struct real_job *job = CONTAINER_OF(message, struct real_job, message);

	real_op_finish(CONTAINER_OF(job, struct world_op, private_words), job->head.result);
}

static struct world_op *next_job(struct real_jobs *jobs)
{
	struct list_node *node;

	pthread_mutex_lock(&jobs->lock);
	while (list_is_empty(&jobs->queue) && !jobs->stopping)
		pthread_cond_wait(&jobs->wanted, &jobs->lock);
	node = list_pop_front(&jobs->queue);
	pthread_mutex_unlock(&jobs->lock);
	return node ? LIST_ENTRY(node, struct world_op, link) : NULL;
}

static void *work(void *arg)
{
	struct world_op *op;

	while ((op = next_job(arg)) != NULL) {
		struct real_job *job = real_op_state(op);

		job->run(op);
		real_mail_post(NULL, op->port, &job->message);
	}
	return NULL;
}

static int start_thread(pthread_t *ret_thread, struct real_jobs *jobs)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	error = pthread_sigmask(SIG_SETMASK, &all, &old);
	if (error)
		return -error;
	error = pthread_create(ret_thread, NULL, work, jobs);
	if (!error)
		(void)pthread_setname_np(*ret_thread, "worker"); /* a name is only a help */
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL); /* was valid a moment ago */
	return -error;
}

int real_jobs_start(struct real_jobs *jobs, unsigned thread_count)
{
	list_init(&jobs->queue);
	pthread_mutex_init(&jobs->lock, NULL);
	pthread_cond_init(&jobs->wanted, NULL);
	jobs->threads = calloc(thread_count, sizeof(*jobs->threads));
	if (!jobs->threads) {
		real_jobs_stop(jobs);
		return -ENOMEM;
	}
	for (; jobs->thread_count < thread_count; jobs->thread_count++) {
		int error = start_thread(&jobs->threads[jobs->thread_count], jobs);

		if (error) {
			real_jobs_stop(jobs);
			return error;
		}
	}
	return 0;
}

void real_jobs_stop(struct real_jobs *jobs)
{
	pthread_mutex_lock(&jobs->lock);
	ASSERT(list_is_empty(&jobs->queue));
	jobs->stopping = true;
	pthread_cond_broadcast(&jobs->wanted);
	pthread_mutex_unlock(&jobs->lock);
	while (jobs->thread_count > 0)
		(void)pthread_join(jobs->threads[--jobs->thread_count], NULL); /* is ours */
	free(jobs->threads);
	pthread_cond_destroy(&jobs->wanted);
	pthread_mutex_destroy(&jobs->lock);
}

void real_jobs_queue(struct world_port *port, struct world_op *op,
		     void (*run)(struct world_op *op))
{
	struct real_jobs *jobs = &port->real->jobs;
	struct real_job *job = real_op_state(op);

	job->head.place = REAL_IN_JOB;
	job->message.run = job_is_done;
	job->run = run;
	pthread_mutex_lock(&jobs->lock);
	list_push_back(&jobs->queue, &op->link);
	pthread_cond_signal(&jobs->wanted);
	pthread_mutex_unlock(&jobs->lock);
}

bool real_jobs_withdraw(struct real_jobs *jobs, struct world_op *op)
{
	bool waits;

	pthread_mutex_lock(&jobs->lock);
	waits = list_is_linked(&op->link);
	list_remove(&op->link);
	pthread_mutex_unlock(&jobs->lock);
	return waits;
}

static void run_call(struct world_op *op)
{
	struct real_job *job = real_op_state(op);

	job->work(job->arg);
}

void real_jobs_call(struct world_port *port, void (*call)(void *arg), void *arg,
		    struct world_op *op)
{
	struct real_job *job = real_op_begin(port, op, NULL);

	job->work = call;
	job->arg = arg;
	real_jobs_queue(port, op, run_call);
}
