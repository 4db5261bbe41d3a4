/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads for calls that block. A job waits in a FIFO queue, a worker runs it and posts the
 * operation back to its port as a message; `done` runs there.
 *
 * Invariants
 *  1. op->link is linked exactly while the job waits; only then can it be withdrawn.
 *  2. Workers block all signals: those belong to the threads that know what to do with them.
 *
 * Failure modes: a job can block for ever, on a disk that hangs. While jobs wait and none has been
 * taken for a while, the minder adds a worker, up to REAL_WORKERS_MAX: what hangs holds up nothing
 * but itself. Workers that were added stay. Without memory for one it is tried again.
 */
#include "world/real/real_priv.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define PATIENCE_NS (50 * NSEC_PER_MSEC) /* with workers that are all busy and take no job */

REAL_OP_FITS(struct real_job);

static void job_is_done(struct world_message *message)
{
	struct real_job *job = CONTAINER_OF(message, struct real_job, message);

	real_op_finish(CONTAINER_OF(job, struct world_op, private_words), job->head.result);
}

static bool is_crowded(const struct real_jobs *jobs)
{
	return jobs->idle == 0 && !list_is_empty(&jobs->queue);
}

static struct world_op *next_job(struct real_jobs *jobs)
{
	struct list_node *node;

	pthread_mutex_lock(&jobs->lock);
	jobs->idle++;
	while (list_is_empty(&jobs->queue) && !jobs->stopping)
		pthread_cond_wait(&jobs->wanted, &jobs->lock);
	jobs->idle--;
	node = list_pop_front(&jobs->queue);
	jobs->taken++;
	/* Those that it leaves may have nobody. */
	if (is_crowded(jobs))
		pthread_cond_signal(&jobs->crowded);
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

static int start_thread(pthread_t *ret_thread, const char *name, void *(*run)(void *arg),
			struct real_jobs *jobs)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	error = pthread_sigmask(SIG_SETMASK, &all, &old);
	if (error)
		return -error;
	error = pthread_create(ret_thread, NULL, run, jobs);
	if (!error)
		(void)pthread_setname_np(*ret_thread, name); /* a name is only a help */
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);      /* was valid a moment ago */
	return -error;
}

static int add_worker(struct real_jobs *jobs)
{
	int error = start_thread(&jobs->threads[jobs->thread_count], "worker", work, jobs);

	jobs->thread_count += !error;
	return error;
}

/* Whether no job was taken for a while. */
static bool is_stuck(struct real_jobs *jobs)
{
	uint64_t before = jobs->taken;
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += PATIENCE_NS;
	end.tv_sec += end.tv_nsec / (long)NSEC_PER_SEC;
	end.tv_nsec %= (long)NSEC_PER_SEC;
	while (!jobs->stopping && is_crowded(jobs) && jobs->taken == before)
		if (pthread_cond_timedwait(&jobs->crowded, &jobs->lock, &end) == ETIMEDOUT)
			break;
	return !jobs->stopping && is_crowded(jobs) && jobs->taken == before;
}

static void *mind(void *arg)
{
	struct real_jobs *jobs = arg;

	pthread_mutex_lock(&jobs->lock);
	while (!jobs->stopping) {
		if (!is_crowded(jobs) || jobs->thread_count == REAL_WORKERS_MAX)
			pthread_cond_wait(&jobs->crowded, &jobs->lock);
		else if (is_stuck(jobs))
			(void)add_worker(jobs); /* or it is tried again */
	}
	pthread_mutex_unlock(&jobs->lock);
	return NULL;
}

static void init_conditions(struct real_jobs *jobs)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&jobs->wanted, NULL);
	pthread_cond_init(&jobs->crowded, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

static int start_threads(struct real_jobs *jobs, unsigned thread_count)
{
	int error = 0;

	jobs->threads = calloc(REAL_WORKERS_MAX, sizeof(*jobs->threads));
	if (!jobs->threads)
		return -ENOMEM;
	while (!error && jobs->thread_count < MIN(thread_count, REAL_WORKERS_MAX))
		error = add_worker(jobs);
	if (!error)
		error = start_thread(&jobs->minder, "minder", mind, jobs);
	jobs->minded = !error;
	return error;
}

int real_jobs_start(struct real_jobs *jobs, unsigned thread_count)
{
	int error;

	list_init(&jobs->queue);
	pthread_mutex_init(&jobs->lock, NULL);
	init_conditions(jobs);
	error = start_threads(jobs, thread_count);
	if (error)
		real_jobs_stop(jobs);
	return error;
}

void real_jobs_stop(struct real_jobs *jobs)
{
	pthread_mutex_lock(&jobs->lock);
	ASSERT(list_is_empty(&jobs->queue));
	jobs->stopping = true;
	pthread_cond_broadcast(&jobs->wanted);
	pthread_cond_signal(&jobs->crowded);
	pthread_mutex_unlock(&jobs->lock);
	if (jobs->minded)
		(void)pthread_join(jobs->minder, NULL); /* is ours; adds no worker any more */
	while (jobs->thread_count > 0)
		(void)pthread_join(jobs->threads[--jobs->thread_count], NULL); /* is ours */
	free(jobs->threads);
	pthread_cond_destroy(&jobs->crowded);
	pthread_cond_destroy(&jobs->wanted);
	pthread_mutex_destroy(&jobs->lock);
}

void real_jobs_queue(struct world_port *port, struct world_op *op, void (*run)(struct world_op *op))
{
	struct real_jobs *jobs = &port->real->jobs;
	struct real_job *job = real_op_state(op);

	job->head.place = REAL_IN_JOB;
	job->message.run = job_is_done;
	job->run = run;
	pthread_mutex_lock(&jobs->lock);
	list_push_back(&jobs->queue, &op->link);
	pthread_cond_signal(&jobs->wanted);
	if (jobs->idle == 0)
		pthread_cond_signal(&jobs->crowded);
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
