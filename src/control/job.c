/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants, all on the home reactor:
 *  1. A job is in jobs->list, in order of its number, from when it is added until it is dropped.
 *  2. Only a job that has ended is dropped, but while jobs are closed. Those who wait look it up by
 *     number after each wake, so none but the job's own fiber holds a pointer across a suspension.
 *  3. The row of a durable job is committed before its fiber starts, and says "running" until its
 * end was committed. When that last commit fails, the job is begun again at the next start, which
 *     finds its work done.
 * Failure modes: the catalog's, told to the caller of job_start(); at the end of a job only logged.
 */
#include "control/job_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/event.h"
#include "control/time_text.h"

const char *job_state_name(enum job_state state)
{
	static const char *const names[] = {"running", "done", "failed", "cancelled"};

	ASSERT(state < ARRAY_SIZE(names));
	return names[state];
}

static struct job *find(struct jobs *jobs, uint64_t id)
{
	struct job *job;

	reactor_assert_home(jobs->home);
	LIST_FOR_EACH (&jobs->list, job, struct job, link)
		if (job->id == id)
			return job;
	return NULL;
}

struct job *job_add(struct jobs *jobs, uint64_t id, const struct method *method, const char *object,
		    uint64_t subject)
{
	struct job *job = calloc(1, sizeof(*job));
	struct list_node *before = list_back(&jobs->list);

	if (!job)
		return NULL;
	job->jobs = jobs;
	job->id = id;
	job->method = method;
	job->subject = subject;
	snprintf(job->object, sizeof(job->object), "%s", object);
	/* Numbers are reserved by fibers that may overtake each other. */
	while (before && before != &jobs->list.head &&
	       LIST_ENTRY(before, struct job, link)->id > id)
		before = before->prev;
	list_insert_after_(before ? before : &jobs->list.head, &job->link);
	jobs->count++;
	return job;
}

void job_drop(struct job *job)
{
	list_remove(&job->link);
	job->jobs->count--;
	json_decref(job->result);
	free(job);
}

int jobs_open(struct reactor *home, struct catalog *catalog, struct jobs **ret_jobs)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));
	int r;

	if (!jobs)
		return -ENOMEM;
	jobs->home = home;
	jobs->catalog = catalog;
	list_init(&jobs->list);
	fiber_queue_init(&jobs->changed);
	r = job_store_load(jobs);
	if (r < 0) {
		jobs_close(jobs);
		return r;
	}
	*ret_jobs = jobs;
	return 0;
}

void jobs_begin_close(struct jobs *jobs)
{
	struct job *job;

	reactor_assert_home(jobs->home);
	jobs->closing = true;
	LIST_FOR_EACH (&jobs->list, job, struct job, link)
		job->cancelled = true;
	fiber_queue_wake_all(&jobs->changed);
}

void jobs_close(struct jobs *jobs)
{
	struct job *job;

	if (!jobs)
		return;
	jobs->closing = true;
	while (jobs->running > 0)
		fiber_queue_wait(&jobs->changed);
	LIST_FOR_EACH (&jobs->list, job, struct job, link)
		job_drop(job);
	free(jobs);
}

static struct job *oldest_ended(struct jobs *jobs)
{
	struct job *job;

	LIST_FOR_EACH (&jobs->list, job, struct job, link)
		if (job->state != JOB_RUNNING)
			return job;
	return NULL;
}

/* Keeps the newest JOBS_KEPT of those that have ended. One fiber does it at a time. */
static void trim(struct jobs *jobs)
{
	struct job *job;
	int r = 0;

	if (jobs->trimming)
		return;
	jobs->trimming = true;
	while (r == 0 && jobs->count > JOBS_KEPT + jobs->running) {
		job = oldest_ended(jobs);
		if (!job)
			break;
		r = job->durable ? job_store_remove(job) : 0; /* tried again after the next job */
		if (r == 0)
			job_drop(job);
	}
	jobs->trimming = false;
}

void jobs_set_events(struct jobs *jobs, struct events *events)
{
	jobs->events = events;
}

static void tell_end(const struct job *job, int result)
{
	enum event_reason reason = job->state == JOB_DONE        ? EVENT_JOB_DONE
				   : job->state == JOB_CANCELLED ? EVENT_JOB_CANCELLED
								 : EVENT_JOB_FAILED;
	char name[METHOD_NAME_MAX];

	if (result != -ESHUTDOWN) /* it goes on, or its end is the node's */
		event_emit(job->jobs->events, reason, job->object, "job %" PRIu64 " %s%s%.200s",
			   job->id, method_name(job->method, name),
			   job->error.message[0] ? ": " : "", job->error.message);
}

static void finish(struct job *job, int result)
{
	enum job_state state = result == 0            ? JOB_DONE
			       : result == -ECANCELED ? JOB_CANCELLED
						      : JOB_FAILED;
	int r = 0;

	/* The node was stopped or has died in the middle: the job goes on at the next start. */
	if (job->durable && result != -ESHUTDOWN)
		r = job_store_write(job, state);
	job->state = state;
	job->ended_ns = reactor_now_ns(job->jobs->home);
	if (r < 0)
		log_warning("job", "its end could not be recorded", "job=%" PRIu64 " error=%d",
			    job->id, r);
	tell_end(job, result);
	log_info("job", "ended", "job=%" PRIu64 " object=%s state=%s %s", job->id, job->object,
		 job_state_name(job->state), job->error.message);
}

static void run(struct fiber_task *task)
{
	struct job *job = CONTAINER_OF(task, struct job, task);
	struct jobs *jobs = job->jobs;
	void (*done)(void *arg) = job->done;
	void *arg = job->arg;
	int r = job->run(job, arg, &job->error);

	if (r < 0 && job->error.code == ERROR_NONE)
		error_set(&job->error, error_code_of(r), job->object, NULL, "%s",
			  r == -ECANCELED ? "the job was cancelled" : "the job ended early");
	if (done)
		done(arg);
	finish(job, r);
	jobs->running--;
	if (!jobs->closing)
		trim(jobs);
	fiber_queue_wake_all(&jobs->changed);
}

static void begin(struct job *job, const struct job_spec *spec)
{
	struct jobs *jobs = job->jobs;

	job->run = spec->run;
	job->done = spec->done;
	job->arg = spec->arg;
	job->resumable = false;
	job->started_ns = reactor_now_ns(jobs->home);
	job->task.run = run;
	jobs->running++;
	fiber_spawn(jobs->home, FIBER_CONTROL, &job->task);
}

int job_start(struct jobs *jobs, const struct job_spec *spec, uint64_t *ret_id)
{
	struct world *world = reactor_world(jobs->home);
	uint64_t id;
	struct job *job;
	int r;

	reactor_assert_home(jobs->home);
	if (jobs->closing)
		return -ESHUTDOWN;
	if (jobs->running >= JOBS_RUNNING_MAX)
		return -EBUSY;
	jobs->running++; /* its place is taken while the catalog works */
	r = catalog_reserve_ids(jobs->catalog, "job", 1, &id);
	job = r < 0 ? NULL : job_add(jobs, id, spec->method, spec->object, spec->subject);
	if (r == 0 && !job)
		r = -ENOMEM;
	if (job) {
		job->durable = spec->durable;
		job->created_wall_ns = world->ops->wall_ns(world);
		r = spec->durable ? job_store_write(job, JOB_RUNNING) : 0;
	}
	jobs->running--;
	if (r < 0) {
		if (job)
			job_drop(job);
		fiber_queue_wake_all(&jobs->changed);
		return r;
	}
	begin(job, spec);
	*ret_id = id;
	return 0;
}

static void fill_info(const struct job *job, struct job_info *ret_info)
{
	*ret_info = (struct job_info){.id = job->id,
				      .subject = job->subject,
				      .state = job->state,
				      .method = job->method,
				      .object = job->object};
}

bool jobs_unfinished(struct jobs *jobs, size_t index, struct job_info *ret_info)
{
	struct job *job;

	reactor_assert_home(jobs->home);
	LIST_FOR_EACH (&jobs->list, job, struct job, link) {
		if (!job->resumable || index-- > 0)
			continue;
		fill_info(job, ret_info);
		return true;
	}
	return false;
}

int job_resume(struct jobs *jobs, uint64_t id, const struct job_spec *spec)
{
	struct job *job = find(jobs, id);

	ASSERT(job && job->resumable);
	log_info("job", "going on with", "job=%" PRIu64 " object=%s", id, job->object);
	begin(job, spec);
	return 0;
}

void job_settle(struct jobs *jobs, uint64_t id)
{
	struct job *job = find(jobs, id);

	ASSERT(job && job->resumable);
	job->resumable = false;
	finish(job, 0);
}

void job_progress(struct job *job, uint64_t bytes_done, uint64_t bytes_total)
{
	job->bytes_done = bytes_done;
	job->bytes_total = bytes_total;
}

void job_set_cancellable(struct job *job, bool cancellable)
{
	job->cancellable = cancellable;
}

bool job_is_cancelled(const struct job *job)
{
	return job->cancelled;
}

void job_set_result(struct job *job, json_t *result)
{
	json_decref(job->result);
	job->result = result;
}

void job_begun(struct job *job)
{
	if (job->begun)
		return;
	job->begun = true;
	fiber_queue_wake_all(&job->jobs->changed);
}

int job_get(struct jobs *jobs, uint64_t id, struct job_info *ret_info)
{
	struct job *job = find(jobs, id);

	if (!job)
		return -ENOENT;
	fill_info(job, ret_info);
	return 0;
}

static json_t *to_json(const struct job *job)
{
	uint64_t end_ns =
		job->state == JOB_RUNNING ? reactor_now_ns(job->jobs->home) : job->ended_ns;
	uint64_t spent_ns = end_ns > job->started_ns ? end_ns - job->started_ns : 0;
	double seconds = (double)spent_ns / (double)NSEC_PER_SEC;
	double rate = spent_ns ? (double)job->bytes_done / seconds : 0;
	uint64_t left = job->bytes_total > job->bytes_done ? job->bytes_total - job->bytes_done : 0;
	char name[METHOD_NAME_MAX], created[TIME_TEXT_MAX];
	json_t *json = json_pack("{s:I, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I}", "id",
				 (json_int_t)job->id, "kind", method_name(job->method, name),
				 "object", job->object, "state", job_state_name(job->state),
				 "created", time_text(job->created_wall_ns, created), "cancellable",
				 job->cancellable, "done_bytes", (json_int_t)job->bytes_done,
				 "total_bytes", (json_int_t)job->bytes_total, "rate_bytes",
				 (json_int_t)rate, "elapsed_ns", (json_int_t)spent_ns);

	if (job->state == JOB_RUNNING && rate > 0)
		json_object_set_new(json, "eta_ns",
				    json_integer((json_int_t)((double)left / rate * 1e9)));
	if (job->result)
		json_object_set(json, "result", job->result);
	if (job->error.code != ERROR_NONE)
		json_object_set_new(json, "error", error_to_object(&job->error));
	return json;
}

json_t *job_to_json(struct jobs *jobs, uint64_t id)
{
	struct job *job = find(jobs, id);

	return job ? to_json(job) : NULL;
}

json_t *jobs_to_json(struct jobs *jobs)
{
	json_t *list = json_array();
	struct job *job;

	reactor_assert_home(jobs->home);
	LIST_FOR_EACH (&jobs->list, job, struct job, link)
		json_array_append_new(list, to_json(job));
	return list;
}

unsigned jobs_running(const struct jobs *jobs)
{
	return jobs->running;
}

int job_cancel(struct jobs *jobs, uint64_t id)
{
	struct job *job = find(jobs, id);

	if (!job)
		return -ENOENT;
	if (job->state != JOB_RUNNING)
		return -EALREADY;
	if (!job->cancellable)
		return -EPERM;
	job->cancelled = true;
	return 0;
}

void job_wait(struct jobs *jobs, uint64_t id, uint64_t deadline_ns)
{
	for (;;) {
		struct job *job = find(jobs, id);

		if (!job || job->state != JOB_RUNNING || jobs->closing ||
		    !fiber_queue_wait_until(&jobs->changed, deadline_ns))
			return;
	}
}

void job_wait_begun(struct jobs *jobs, uint64_t id)
{
	for (;;) {
		struct job *job = find(jobs, id);

		if (!job || job->state != JOB_RUNNING || job->begun)
			return;
		fiber_queue_wait(&jobs->changed);
	}
}
