/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads for calls that block. A job waits in a FIFO queue, a worker runs it and posts the
 * operation back to its port as a message; `done` runs there.
 *
 * A reactor that has a job never waits for a worker, which may be without a processor for long: it
 * pushes the job onto a lock-free stack and posts a semaphore. (To signal a condition variable of
 * glibc waits, now and then, for those that were signalled before.) Whoever has the lock moves what
 * is on the stack to the queue. Only a cancel takes the lock on a reactor.
 *
 * Invariants
 *  1. With the lock held and the stack moved, op->link is linked exactly while the job waits; only
 *     then can it be withdrawn.
 *  2. Workers block all signals: those belong to the threads that know what to do with them.
 *  3. `wanted` counts at least the jobs that wait: a worker that finds none goes on waiting.
 *  4. A job is pushed before `idle` is read, and a worker leaves `idle` before it looks for jobs,
 *     all sequentially consistent: of those two one sees a job that waits while nobody is idle, and
 *     tells the minder.
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

static void wait_for_post(sem_t *semaphore)
{
	while (sem_wait(semaphore) < 0)
		ASSERT(errno == EINTR);
}

/* With the lock: what was pushed goes to the end of the queue, in order. */
static void move_pushed(struct real_jobs *jobs)
{
	struct list_node *node, *next;
	struct list batch;

	list_init(&batch);
	for (node = atomic_exchange(&jobs->pushed, NULL); node; node = next) {
		next = node->next;
		list_push_front(&batch, node);
	}
	list_splice_back(&jobs->queue, &batch);
}

static void push(struct real_jobs *jobs, struct list_node *node)
{
	struct list_node *newest = atomic_load_explicit(&jobs->pushed, memory_order_relaxed);

	do
		node->next = newest;
	while (!atomic_compare_exchange_weak(&jobs->pushed, &newest, node));
}

/* With the lock. */
static bool is_crowded(struct real_jobs *jobs)
{
	move_pushed(jobs);
	return atomic_load(&jobs->idle) == 0 && !list_is_empty(&jobs->queue);
}

static void tell_minder(struct real_jobs *jobs)
{
	if (!atomic_exchange(&jobs->told, true))
		(void)sem_post(&jobs->crowded); /* is told once: cannot overflow */
}

/* NULL: it was withdrawn, or there is none any more. */
static struct list_node *take_job(struct real_jobs *jobs)
{
	struct list_node *node;
	bool crowded;

	pthread_mutex_lock(&jobs->lock);
	move_pushed(jobs);
	node = list_pop_front(&jobs->queue);
	jobs->taken += node != NULL;
	crowded = is_crowded(jobs); /* those that it leaves may have nobody */
	pthread_mutex_unlock(&jobs->lock);
	if (crowded)
		tell_minder(jobs);
	return node;
}

static struct world_op *next_job(struct real_jobs *jobs)
{
	struct list_node *node = NULL;

	while (!node && !atomic_load(&jobs->stopping)) {
		atomic_fetch_add(&jobs->idle, 1);
		wait_for_post(&jobs->wanted);
		atomic_fetch_sub(&jobs->idle, 1);
		node = take_job(jobs);
	}
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

/* Waits for a while, or until all stops. */
static void be_patient(struct real_jobs *jobs)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += PATIENCE_NS;
	end.tv_sec += end.tv_nsec / (long)NSEC_PER_SEC;
	end.tv_nsec %= (long)NSEC_PER_SEC;
	while (!atomic_load(&jobs->stopping))
		if (sem_clockwait(&jobs->crowded, CLOCK_MONOTONIC, &end) < 0 && errno == ETIMEDOUT)
			return;
}

/* Whether jobs wait, and none was taken for a while. */
static bool is_stuck(struct real_jobs *jobs, uint64_t taken_before)
{
	bool stuck;

	pthread_mutex_lock(&jobs->lock);
	stuck = is_crowded(jobs) && jobs->taken == taken_before;
	pthread_mutex_unlock(&jobs->lock);
	return stuck;
}

/* The same now; how many jobs were taken so far. */
static bool look(struct real_jobs *jobs, uint64_t *ret_taken)
{
	bool crowded;

	pthread_mutex_lock(&jobs->lock);
	crowded = is_crowded(jobs);
	*ret_taken = jobs->taken;
	pthread_mutex_unlock(&jobs->lock);
	return crowded;
}

static void *mind(void *arg)
{
	struct real_jobs *jobs = arg;
	uint64_t taken;

	while (!atomic_load(&jobs->stopping)) {
		atomic_store(&jobs->told,
			     false); /* before it looks: what comes later tells again */
		if (!look(jobs, &taken) || jobs->thread_count == REAL_WORKERS_MAX) {
			wait_for_post(&jobs->crowded);
			continue;
		}
		be_patient(jobs);
		if (!atomic_load(&jobs->stopping) && is_stuck(jobs, taken))
			(void)add_worker(jobs); /* or it is tried again */
	}
	return NULL;
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
	(void)sem_init(&jobs->wanted, 0, 0); /* of 0: cannot fail */
	(void)sem_init(&jobs->crowded, 0, 0);
	error = start_threads(jobs, thread_count);
	if (error)
		real_jobs_stop(jobs);
	return error;
}

void real_jobs_stop(struct real_jobs *jobs)
{
	ASSERT(!atomic_load(&jobs->pushed) && list_is_empty(&jobs->queue));
	atomic_store(&jobs->stopping, true);
	(void)sem_post(&jobs->crowded);
	if (jobs->minded)
		(void)pthread_join(jobs->minder, NULL); /* is ours; adds no worker any more */
	for (unsigned i = 0; i < jobs->thread_count; i++)
		(void)sem_post(&jobs->wanted);
	while (jobs->thread_count > 0)
		(void)pthread_join(jobs->threads[--jobs->thread_count], NULL); /* is ours */
	free(jobs->threads);
	(void)sem_destroy(&jobs->crowded);
	(void)sem_destroy(&jobs->wanted);
	pthread_mutex_destroy(&jobs->lock);
}

void real_jobs_queue(struct world_port *port, struct world_op *op, void (*run)(struct world_op *op))
{
	struct real_jobs *jobs = &port->real->jobs;
	struct real_job *job = real_op_state(op);

	job->head.place = REAL_IN_JOB;
	job->message.run = job_is_done;
	job->run = run;
	push(jobs, &op->link);
	(void)sem_post(&jobs->wanted); /* far from its limit of 2^31 */
	if (atomic_load(&jobs->idle) == 0)
		tell_minder(jobs);
}

bool real_jobs_withdraw(struct real_jobs *jobs, struct world_op *op)
{
	bool waits;

	pthread_mutex_lock(&jobs->lock);
	move_pushed(jobs);
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
