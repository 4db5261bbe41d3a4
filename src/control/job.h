/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Jobs: work that goes on after the call that began it was answered. They run as fibers of the
 * node's home reactor; the last JOBS_KEPT that ended stay to be asked about.
 *
 * A durable job is a row of the catalog from before it starts: a kill forgets none that was
 * answered. Its row is kept after the end too, so that "job wait" gives the same answer after a
 * restart. Start-up hands the unfinished ones to node.c, which begins them again under their
 * numbers.
 */
#include "catalog/catalog.h"
#include "control/error.h"
#include "control/method.h"

struct jobs;
struct events;
struct job;

#define JOBS_KEPT        256
#define JOBS_RUNNING_MAX 64
#define JOB_OBJECT_MAX   127

enum job_state {
	JOB_RUNNING,
	JOB_DONE,
	JOB_FAILED,
	JOB_CANCELLED,
};

struct job_spec {
	const struct method *method; /* what began it */
	const char *object;          /* its name, for people */
	uint64_t subject;            /* its id */
	bool durable;
	/* The work. 0, or a negative errno with `ret_error` filled. */
	int (*run)(struct job *job, void *arg, struct error *ret_error);
	/* Frees `arg`, after run() or when that never starts; may be NULL. */
	void (*done)(void *arg);
	void *arg;
};

struct job_info {
	uint64_t id, subject;
	enum job_state state;
	const struct method *method;
	const char *object;
};

/* `ret_jobs` knows the durable jobs of the catalog; unfinished ones wait for job_resume(). */
int jobs_open(struct reactor *home, struct catalog *catalog, struct jobs **ret_jobs);
/* Where ends of jobs are told; may stay NULL. */
void jobs_set_events(struct jobs *jobs, struct events *events);
/* Asks all to end or to leave the rest for the next start; wakes those who wait for jobs. */
void jobs_begin_close(struct jobs *jobs);
/* Waits until no job runs. Does not touch the catalog. NULL is fine. */
void jobs_close(struct jobs *jobs);

/* -EBUSY: JOBS_RUNNING_MAX are running; or an error of the catalog. On failure spec->done has not
 * been called. */
int job_start(struct jobs *jobs, const struct job_spec *spec, uint64_t *ret_id);
/* Unfinished durable jobs, before they are resumed: the `index`-th; false when there are no more.
 */
bool jobs_unfinished(struct jobs *jobs, size_t index, struct job_info *ret_info);
/* Goes on with an unfinished durable job of an earlier run of the node. */
int job_resume(struct jobs *jobs, uint64_t id, const struct job_spec *spec);
/* Ends an unfinished durable job that needs no more work: its subject is gone. */
void job_settle(struct jobs *jobs, uint64_t id);

/* For run(). The first two from any reactor. */
void job_progress(struct job *job, uint64_t bytes_done, uint64_t bytes_total);
/* It was cancelled, or the node stops. Of a durable job that returns -ESHUTDOWN, the rest is done
 * at the next start. */
bool job_is_cancelled(const struct job *job);
void job_set_cancellable(struct job *job, bool cancellable);
void job_set_result(struct job *job, json_t *result); /* takes the reference */
/* What must be so before the answer is given is so. */
void job_begun(struct job *job);

/* -ENOENT */
int job_get(struct jobs *jobs, uint64_t id, struct job_info *ret_info);
json_t *job_to_json(struct jobs *jobs, uint64_t id); /* NULL: no such job, or no memory */
json_t *jobs_to_json(struct jobs *jobs);
unsigned jobs_running(const struct jobs *jobs);
/* -ENOENT; -EPERM it cannot be cancelled; -EALREADY it has ended. */
int job_cancel(struct jobs *jobs, uint64_t id);
/* Until it has ended, the deadline passed, or the node stops. */
void job_wait(struct jobs *jobs, uint64_t id, uint64_t deadline_ns);
/* Until job_begun() or the end. */
void job_wait_begun(struct jobs *jobs, uint64_t id);
