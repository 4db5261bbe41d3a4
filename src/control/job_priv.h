/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "control/job.h"
#include "reactor/fiber.h"

struct job {
	struct list_node link;
	struct jobs *jobs;
	uint64_t id, subject;
	const struct method *method;
	char object[JOB_OBJECT_MAX + 1];
	enum job_state state;
	bool durable;
	bool resumable; /* of an earlier run of the node, not begun again yet */
	bool begun, cancellable;
	/* These also from other reactors, where the work is done. */
	_Atomic bool cancelled;
	uint64_t created_wall_ns, started_ns, ended_ns;
	_Atomic uint64_t bytes_done, bytes_total;
	json_t *result;
	struct error error;

	struct fiber_task task;
	int (*run)(struct job *job, void *arg, struct error *ret_error);
	void (*done)(void *arg);
	void *arg;
};

struct jobs {
	struct reactor *home;
	struct catalog *catalog;
	struct events *events;
	struct list list;
	unsigned count, running;
	bool closing, trimming;
	struct fiber_queue changed; /* a job has begun or ended, or the node stops */
};

const char *job_state_name(enum job_state state);
struct job *job_add(struct jobs *jobs, uint64_t id, const struct method *method, const char *object,
		    uint64_t subject);
void job_drop(struct job *job);

/* job_store.c: rows of the catalog. */
int job_store_write(const struct job *job, enum job_state state);
int job_store_remove(const struct job *job);
int job_store_load(struct jobs *jobs);
