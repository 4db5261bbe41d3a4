/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub as a service of the node: a job "pool.scrub" a pool looks at the catalog, its mirrors and
 * the disks' labels (node_scrub_facts.c), then goes through the vDisks that are open, in order of
 * id, and reads every copy of all that is stored and sealed (vdisk_scrub()). How far it
 * has come is in the catalog (curator/scrub.h) every few seconds, so that it goes on after a
 * restart; the row says "running" until the end, and the service begins the job when there is none.
 *
 * Invariants.
 *  1. Who changes the row holds node->scrub_lock, and a run that is told to stop writes the phase
 *     that was asked for: so neither takes back what the other has written.
 *  2. What was found, and how far it had come then, are one commit. What is read again after a stop
 *     was not counted before, but for what was put right, which is not found again.
 *
 * Failure modes: a row that cannot be written ends the job; the service begins it again.
 * Home: the node's.
 */
#include "control/node_scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define LOOK_NS       (60 * NSEC_PER_SEC)
#define SAVE_NS       (5 * NSEC_PER_SEC)
#define SAVE_FOUND_NS NSEC_PER_SEC /* the same when there is something to tell */
#define FACTS_DONE    1            /* the first vDisk that there can be: none has been looked at */
#define DAY_NS        (24 * UINT64_C(3600) * NSEC_PER_SEC)

struct node_scrub_run {
	struct node *node;
	uint64_t pool_id;
	struct job *job;
	struct scrub_state state;
	uint64_t total, shown; /* bytes; what was shown only grows */
	_Atomic bool stop;     /* pool.scrub said so: the row shall get this phase */
	enum scrub_phase wanted;
};

struct slice { /* of one vDisk, on its home */
	struct node_scrub_run *run;
	struct vdisk *vdisk;
	struct vdisk_scrub scrub;
	uint64_t begun_ns, seen_bytes;
	uint64_t total;
	struct scrub_found found;
};

static uint64_t wall_ns(const struct node *node)
{
	return node->options.world->ops->wall_ns(node->options.world);
}

/* Any reactor. */
static bool is_stopped(const struct node_scrub_run *run)
{
	return atomic_load(&run->stop) || job_is_cancelled(run->job);
}

static bool next(void *arg)
{
	const struct slice *slice = arg;
	const struct vdisk_scrub *scrub = &slice->scrub;
	uint64_t since = reactor_now_ns(reactor_current()) - slice->begun_ns;
	bool found = scrub->put_right + scrub->left + scrub->damaged + scrub->pending > 0;

	return since < (found ? SAVE_FOUND_NS : SAVE_NS);
}

void node_scrub_keep_rate(const struct node *node, uint64_t bytes, uint64_t *seen_bytes)
{
	uint64_t rate = node->options.scrub_rate_bytes, fresh = bytes - *seen_bytes;

	*seen_bytes = bytes;
	if (rate)
		fiber_sleep(fresh * NSEC_PER_SEC / rate);
}

/* Any reactor: only what is atomic or the slice's own. */
static bool progress(void *arg, uint64_t bytes)
{
	struct slice *slice = arg;
	struct node_scrub_run *run = slice->run;

	run->shown = MAX(run->shown, run->state.now.bytes + bytes);
	job_progress(run->job, run->shown, MAX(run->total, run->shown));
	node_scrub_keep_rate(run->node, bytes, &slice->seen_bytes);
	return !is_stopped(run);
}

static bool stopped(void *arg)
{
	const struct slice *slice = arg;

	return is_stopped(slice->run);
}

static void on_finding(void *arg, const struct vdisk_finding *finding)
{
	struct slice *slice = arg;

	scrub_found_add(&slice->found, finding);
}

static int run_at_home(void *arg)
{
	struct slice *slice = arg;

	slice->begun_ns = reactor_now_ns(reactor_current());
	return vdisk_scrub(slice->vdisk, &slice->scrub);
}

static void tell(struct node_scrub_run *run, const struct node_vdisk *vdisk,
		 struct scrub_found *found)
{
	for (unsigned i = 0; i < found->count; i++) {
		found->findings[i].vdisk = vdisk->info.id;
		found->findings[i].wall_ns = wall_ns(run->node);
		node_scrub_tell(run->node, vdisk, &found->findings[i].what);
	}
	if (found->untold)
		event_emit(run->node->events, EVENT_SCRUB_LEFT, vdisk->name,
			   "%" PRIu64 " more blocks were found wrong and only counted",
			   found->untold);
}

/* What was found is durable together with how far the scrub has come. */
static int store(struct node_scrub_run *run, const struct scrub_found *found)
{
	int r;

	fiber_mutex_lock(&run->node->scrub_lock);
	if (atomic_load(&run->stop))
		run->state.phase = run->wanted;
	r = -ENOENT; /* the pool was deleted: so ends the job */
	if (node_pool_by_id(run->node, run->pool_id))
		r = scrub_store_found(run->node->catalog, run->pool_id, &run->state,
				      found->findings, found->count);
	fiber_mutex_unlock(&run->node->scrub_lock);
	return r;
}

static int save(struct node_scrub_run *run, const struct slice *slice)
{
	const struct vdisk_scrub *scrub = &slice->scrub;
	struct scrub_tally *now = &run->state.now;

	run->state.file = scrub->after;
	now->bytes += scrub->done_bytes;
	now->put_right += scrub->put_right;
	now->damaged += scrub->done_damaged;
	now->left += scrub->done_left;
	now->pending += scrub->done_pending;
	return store(run, &slice->found);
}

/* Some files of one vDisk. 1: there is more of it. */
static int run_slice(struct node_scrub_run *run, struct node_vdisk *vdisk)
{
	_cleanup_free_ struct slice *slice = calloc(1, sizeof(*slice));
	int r, stored;

	if (!slice)
		return -ENOMEM;
	*slice = (struct slice){.run = run,
				.scrub = {.after = run->state.file,
					  .progress = progress,
					  .next = next,
					  .stopped = stopped,
					  .finding = on_finding,
					  .arg = slice}};
	if (!node_vdisk_use(vdisk)) /* closed or being deleted */
		return 0;
	slice->vdisk = vdisk->vdisk;
	r = fiber_call(vdisk->home, FIBER_RECLAIM, run_at_home, slice);
	if (r == -ECANCELED && !is_stopped(run))
		r = slice->scrub.after != run->state.file ? 1 : 0; /* or the vDisk is closing */
	scrub_found_end(&slice->found, r == 0 ? UINT64_MAX : slice->scrub.after);
	tell(run, vdisk, &slice->found);
	node_vdisk_unuse(run->node, vdisk);
	stored = save(run, slice);
	return stored < 0 ? stored : r;
}

static int run_vdisk(struct node_scrub_run *run, uint64_t id)
{
	int r;

	if (id != run->state.vdisk)
		run->state.file = 0;
	run->state.vdisk = id;
	do {
		struct node_vdisk *vdisk = node_vdisk_by_id(run->node, id);

		r = vdisk ? run_slice(run, vdisk) : 0;
	} while (r == 1 && !is_stopped(run));
	return r < 0 ? r : is_stopped(run) ? -ECANCELED : 0;
}

static int total_at_home(void *arg)
{
	struct slice *slice = arg;

	slice->total = vdisk_scrub_bytes(slice->vdisk);
	return 0;
}

static int count_total(struct node_scrub_run *run)
{
	_cleanup_free_ struct slice *slice = calloc(1, sizeof(*slice));
	struct node_vdisk *vdisk;

	if (!slice)
		return -ENOMEM;
	for (uint64_t id = 0; (vdisk = node_vdisk_after(run->node, id));) {
		id = vdisk->info.id;
		if (vdisk->info.pool_id != run->pool_id || !node_vdisk_use(vdisk))
			continue;
		slice->vdisk = vdisk->vdisk;
		(void)node_vdisk_call(vdisk, total_at_home, slice); /* is 0 */
		node_vdisk_unuse(run->node, vdisk);
		run->total += slice->total;
	}
	return 0;
}

/* Once: what it finds is counted when it is done. */
static int look_at_facts(struct node_scrub_run *run)
{
	_cleanup_free_ struct scrub_facts *facts = calloc(1, sizeof(*facts));
	int r;

	if (!facts)
		return -ENOMEM;
	facts->tally = run->state.now;
	r = node_scrub_facts(run->node, run->pool_id, facts);
	if (r < 0)
		return r;
	run->state.now = facts->tally;
	run->state.vdisk = FACTS_DONE;
	return store(run, &facts->found);
}

static int run_all(struct node_scrub_run *run)
{
	struct node_vdisk *vdisk;
	uint64_t id;
	int r = run->state.vdisk == 0 ? look_at_facts(run) : 0;

	id = run->state.vdisk ? run->state.vdisk - 1 : 0;
	if (r == 0)
		r = count_total(run);
	for (; r == 0 && (vdisk = node_vdisk_after(run->node, id));) {
		id = vdisk->info.id;
		if (vdisk->info.pool_id == run->pool_id)
			r = run_vdisk(run, id);
	}
	return r;
}

/* A job that was cancelled is given up; a node that stops goes on at the next start. */
static enum scrub_phase phase_after(const struct node_scrub_run *run, int result)
{
	if (atomic_load(&run->stop))
		return run->wanted;
	return result == -ECANCELED && !run->node->stopping ? SCRUB_IDLE : SCRUB_RUNNING;
}

/* Who changes the phase meanwhile waits for the lock, and finds no run any more. */
static void conclude(struct node_scrub_run *run, int result)
{
	struct node *node = run->node;
	struct node_pool *pool;
	int r = 0;

	fiber_mutex_lock(&node->scrub_lock);
	if (result == 0)
		scrub_end(&run->state, wall_ns(node));
	else
		run->state.phase = phase_after(run, result);
	if (node_pool_by_id(node, run->pool_id))
		r = scrub_store(node->catalog, run->pool_id, &run->state);
	pool = node_pool_by_id(node, run->pool_id);
	if (pool)
		pool->scrub_run = NULL;
	fiber_mutex_unlock(&node->scrub_lock);
	if (r < 0)
		log_warning("scrub", "its state could not be recorded", "pool=%" PRIu64 " error=%d",
			    run->pool_id, r);
	if (run->state.phase == SCRUB_RUNNING && atomic_load(&run->stop))
		node_service_wake(&node->scrub); /* it was resumed before it had stopped */
}

static int run_job(struct job *job, void *arg, struct error *ret_error)
{
	struct node_scrub_run *run = arg;
	struct node *node = run->node;
	int r;

	(void)ret_error; /* made of the error */
	run->job = job;
	job_set_cancellable(job, true);
	r = run_all(run);
	conclude(run, r);
	job_set_result(job, node_scrub_result_to_json(node, run->pool_id, &run->state));
	return r;
}

/* With the lock. */
static int start_job(struct node *node, struct node_pool *pool, const struct scrub_state *state,
		     uint64_t *ret_job)
{
	struct node_scrub_run *run = calloc(1, sizeof(*run));
	const struct job_spec spec = {.method = method_get(METHOD_POOL_SCRUB),
				      .object = pool->name,
				      .subject = pool->id,
				      .run = run_job,
				      .done = free,
				      .arg = run};
	uint64_t id = pool->id;
	int r;

	if (!run)
		return -ENOMEM;
	*run = (struct node_scrub_run){.node = node, .pool_id = id, .state = *state};
	pool->scrub_run = run;
	r = job_start(node->jobs, &spec, ret_job);
	if (r == 0)
		return 0;
	pool = node_pool_by_id(node, id);
	if (pool)
		pool->scrub_run = NULL;
	free(run);
	return r;
}

static int start(struct node *node, uint64_t id, uint64_t *ret_job)
{
	struct scrub_state state;
	struct node_pool *pool;
	int r;

	r = scrub_load(node->catalog, id, &state);
	if (r == 0 && state.phase != SCRUB_IDLE)
		r = -EALREADY;
	if (r == 0)
		r = scrub_begin(node->catalog, id, &state, wall_ns(node));
	if (r < 0)
		return r;
	pool = node_pool_by_id(node, id);
	return pool ? start_job(node, pool, &state, ret_job) : -ENOENT;
}

int node_scrub_start(struct node *node, struct node_pool *pool, uint64_t *ret_job)
{
	uint64_t id = pool->id;
	int r;

	fiber_mutex_lock(&node->scrub_lock);
	pool = node_pool_by_id(node, id);
	r = pool && pool->scrub_run ? -EALREADY : start(node, id, ret_job);
	fiber_mutex_unlock(&node->scrub_lock);
	return r;
}

static int change(struct node *node, uint64_t id, enum scrub_phase from, enum scrub_phase to)
{
	struct scrub_state state;
	struct node_pool *pool;
	int r = scrub_load(node->catalog, id, &state);

	if (r < 0)
		return r;
	if (state.phase == SCRUB_IDLE || (from != SCRUB_IDLE && state.phase != from))
		return -ENOENT;
	state.phase = to;
	r = scrub_store(node->catalog, id, &state);
	pool = node_pool_by_id(node, id);
	if (r < 0 || !pool)
		return r;
	/* One that has not stopped yet does: it is begun again. */
	if (pool->scrub_run) {
		pool->scrub_run->wanted = to;
		atomic_store(&pool->scrub_run->stop, true);
	} else if (to == SCRUB_RUNNING) {
		node_service_wake(&node->scrub);
	}
	return 0;
}

int node_scrub_change(struct node *node, struct node_pool *pool, enum scrub_phase from,
		      enum scrub_phase to)
{
	uint64_t id = pool->id;
	int r;

	fiber_mutex_lock(&node->scrub_lock);
	r = change(node, id, from, to);
	fiber_mutex_unlock(&node->scrub_lock);
	return r;
}

/* A pool that has no row gets one, from which its first interval counts. What fails is tried again
 * by the next look. */
static void look_at_pool(struct node *node, uint64_t id)
{
	uint64_t now = wall_ns(node), job;
	struct scrub_state state;
	struct node_pool *pool;
	int r = scrub_load(node->catalog, id, &state);

	pool = node_pool_by_id(node, id);
	if (r < 0 || !pool || !pool->pool || pool->scrub_run)
		return;
	if (state.since_wall_ns == 0) {
		state.since_wall_ns = now;
		(void)scrub_store(node->catalog, id, &state);
	} else if (state.phase == SCRUB_RUNNING) {
		(void)start_job(node, pool, &state, &job);
	} else if (scrub_is_due(&state, now, node->options.scrub_days * DAY_NS)) {
		(void)start(node, id, &job);
	}
}

static void look(struct node *node)
{
	struct node_pool *pool;

	for (uint64_t id = 0; !node->stopping && (pool = node_pool_after(node, id));) {
		id = pool->id;
		fiber_mutex_lock(&node->scrub_lock);
		look_at_pool(node, id);
		fiber_mutex_unlock(&node->scrub_lock);
		node_scrub_look_again(node, id);
	}
}

void node_scrub_start_service(struct node *node)
{
	node_service_start(&node->scrub, node, look, LOOK_NS);
}
