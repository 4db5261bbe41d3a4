/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub as a service of the node: a job "pool.scrub" a pool looks at the catalog, its mirrors and
 * the disks' labels (node_scrub_facts.c), then goes through the vDisks that are open, in order of
 * id, and reads every copy of all that is stored and sealed (vdisk_scrub()). How far it
 * has come is in the catalog (curator/scrub.h) every few seconds, so that it goes on after a
 * restart; the row says "running" until the end, and the service begins the job when there is none.
 *
 * Failure modes: a row that cannot be written ends the job; the service begins it again.
 * Home: the node's.
 */
#include "control/node_scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"

#define LOOK_NS          (60 * NSEC_PER_SEC)
#define SAVE_NS          (5 * NSEC_PER_SEC)
#define GUEST_PAUSE_NS   8 /* for each byte read beside a guest's I/O */
#define FINDINGS_A_SLICE 16
#define DAY_NS           (24 * UINT64_C(3600) * NSEC_PER_SEC)

struct run {
	struct node *node;
	uint64_t pool_id;
	struct job *job;
	struct scrub_state state;
	uint64_t total;
};

struct slice { /* of one vDisk, on its home */
	struct run *run;
	struct vdisk *vdisk;
	struct vdisk_scrub scrub;
	uint64_t after, begun_ns, seen_bytes;
	uint64_t total;
	bool saved;
	struct vdisk_finding findings[FINDINGS_A_SLICE];
	unsigned finding_count;
};

static uint64_t wall_ns(const struct node *node)
{
	return node->options.world->ops->wall_ns(node->options.world);
}

static bool is_stopped(const struct run *run)
{
	const struct node_pool *pool = node_pool_by_id(run->node, run->pool_id);

	return !pool || pool->scrub_stop || job_is_cancelled(run->job);
}

/* Any reactor: only what is atomic or the slice's own. */
static bool progress(void *arg, uint64_t bytes)
{
	struct slice *slice = arg;
	struct run *run = slice->run;
	uint64_t rate = run->node->options.scrub_rate_bytes, fresh = bytes - slice->seen_bytes;

	slice->seen_bytes = bytes;
	job_progress(run->job, run->state.now.bytes + bytes,
		     MAX(run->total, run->state.now.bytes + bytes));
	if (rate)
		fiber_sleep(fresh * NSEC_PER_SEC / rate);
	if (job_is_cancelled(run->job))
		return false;
	slice->saved = slice->scrub.after != slice->after &&
		       reactor_now_ns(reactor_current()) - slice->begun_ns > SAVE_NS;
	return !slice->saved;
}

static void on_finding(void *arg, const struct vdisk_finding *finding)
{
	struct slice *slice = arg;

	if (slice->finding_count < FINDINGS_A_SLICE)
		slice->findings[slice->finding_count++] = *finding;
}

static int run_at_home(void *arg)
{
	struct slice *slice = arg;

	slice->begun_ns = reactor_now_ns(reactor_current());
	return vdisk_scrub(slice->vdisk, &slice->scrub);
}

static void tell(struct node *node, const struct node_vdisk *vdisk, const struct slice *slice)
{
	for (unsigned i = 0; i < slice->finding_count; i++) {
		const struct vdisk_finding *finding = &slice->findings[i];

		event_emit(node->events,
			   finding->put_right ? EVENT_SCRUB_REPAIRED : EVENT_SCRUB_DAMAGE,
			   vdisk->name,
			   "group %" PRIu64 ", slot %" PRIu32 " on disk %" PRIu64 ": error %d",
			   finding->group, finding->slot, finding->disk, finding->error);
	}
}

/* Some files of one vDisk. 1: there is more of it. */
static int run_slice(struct run *run, struct node_vdisk *vdisk)
{
	_cleanup_free_ struct slice *slice = calloc(1, sizeof(*slice));
	int r;

	if (!slice)
		return -ENOMEM;
	*slice = (struct slice){.run = run,
				.after = run->state.file,
				.scrub = {.after = run->state.file,
					  .progress = progress,
					  .finding = on_finding,
					  .arg = slice,
					  .pause_ns_per_byte = GUEST_PAUSE_NS}};
	if (!node_vdisk_use(vdisk)) /* closed or being deleted */
		return 0;
	slice->vdisk = vdisk->vdisk;
	r = fiber_call(vdisk->home, FIBER_RECLAIM, run_at_home, slice);
	tell(run->node, vdisk, slice);
	node_vdisk_unuse(run->node, vdisk);
	run->state.file = slice->scrub.after;
	run->state.now.bytes += slice->scrub.bytes;
	run->state.now.put_right += slice->scrub.put_right;
	run->state.now.damaged += slice->scrub.damaged;
	if (r == -ECANCELED && slice->saved && !is_stopped(run))
		return 1;
	return r == -ECANCELED && !is_stopped(run) ? 0 : r; /* the vDisk is closing */
}

static int run_vdisk(struct run *run, uint64_t id)
{
	int r;

	if (id != run->state.vdisk)
		run->state.file = 0;
	run->state.vdisk = id;
	do {
		struct node_vdisk *vdisk = node_vdisk_by_id(run->node, id);

		r = vdisk ? run_slice(run, vdisk) : 0;
		if (r >= 0 && !is_stopped(run)) {
			int stored = scrub_store(run->node->catalog, run->pool_id, &run->state);

			r = stored < 0 ? stored : r;
		}
	} while (r == 1 && !is_stopped(run));
	return r < 0 ? r : is_stopped(run) ? -ECANCELED : 0;
}

static int total_at_home(void *arg)
{
	struct slice *slice = arg;

	slice->total = vdisk_scrub_bytes(slice->vdisk);
	return 0;
}

static int count_total(struct run *run)
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

static int run_all(struct run *run)
{
	struct node_vdisk *vdisk;
	int r = node_scrub_facts(run->node, run->pool_id, &run->state.now);
	uint64_t id = run->state.vdisk ? run->state.vdisk - 1 : 0;

	if (r == 0)
		r = count_total(run);
	for (; r == 0 && (vdisk = node_vdisk_after(run->node, id));) {
		id = vdisk->info.id;
		if (vdisk->info.pool_id == run->pool_id)
			r = run_vdisk(run, id);
	}
	return r;
}

/* What was asked for by pool.scrub is in the row already; a job that was cancelled is given up, and
 * a node that stops goes on at the next start. */
static int conclude(struct run *run, int result)
{
	struct node *node = run->node;
	struct node_pool *pool = node_pool_by_id(node, run->pool_id);
	bool asked = pool && pool->scrub_stop;

	if (pool)
		pool->scrub_stop = false;
	if (result == 0)
		scrub_end(&run->state, wall_ns(node));
	else if (result == -ECANCELED && !asked && !node->stopping && pool)
		run->state.phase = SCRUB_IDLE;
	else
		return result;
	if (scrub_store(node->catalog, run->pool_id, &run->state) < 0)
		log_warning("scrub", "its end could not be recorded", "pool=%" PRIu64,
			    run->pool_id);
	return result;
}

static int run_job(struct job *job, void *arg, struct error *ret_error)
{
	struct run *run = arg;
	struct node_pool *pool;
	int r;

	(void)ret_error; /* made of the error */
	run->job = job;
	job_set_cancellable(job, true);
	r = scrub_load(run->node->catalog, run->pool_id, &run->state);
	if (r == 0)
		r = run_all(run);
	r = conclude(run, r);
	job_set_result(job,
		       json_pack("{s:I, s:I, s:I}", "read_bytes", (json_int_t)run->state.now.bytes,
				 "put_right_blocks", (json_int_t)run->state.now.put_right,
				 "damaged_blocks", (json_int_t)run->state.now.damaged));
	pool = node_pool_by_id(run->node, run->pool_id);
	if (pool)
		pool->scrubbing = false;
	return r;
}

static int start_job(struct node *node, struct node_pool *pool, uint64_t *ret_job)
{
	struct run *run = calloc(1, sizeof(*run));
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
	*run = (struct run){.node = node, .pool_id = id};
	pool->scrubbing = true;
	r = job_start(node->jobs, &spec, ret_job);
	pool = node_pool_by_id(node, id);
	if (r < 0 && pool)
		pool->scrubbing = false;
	if (r < 0)
		free(run);
	return r;
}

int node_scrub_start(struct node *node, struct node_pool *pool, uint64_t *ret_job)
{
	struct scrub_state state;
	int r;

	if (pool->scrubbing)
		return -EALREADY;
	r = scrub_load(node->catalog, pool->id, &state);
	if (r < 0)
		return r;
	if (state.phase != SCRUB_IDLE)
		return -EALREADY;
	scrub_begin(&state, wall_ns(node));
	r = scrub_store(node->catalog, pool->id, &state);
	return r < 0 ? r : start_job(node, pool, ret_job);
}

int node_scrub_change(struct node *node, struct node_pool *pool, enum scrub_phase from,
		      enum scrub_phase to)
{
	struct scrub_state state;
	int r = scrub_load(node->catalog, pool->id, &state);

	if (r < 0)
		return r;
	if (state.phase == SCRUB_IDLE || (from != SCRUB_IDLE && state.phase != from))
		return -ENOENT;
	state.phase = to;
	r = scrub_store(node->catalog, pool->id, &state);
	if (r < 0)
		return r;
	if (to == SCRUB_RUNNING)
		node_service_wake(&node->scrub);
	else
		pool->scrub_stop = pool->scrubbing;
	return 0;
}

/* A pool that has no row gets one, from which its first interval counts. */
static void look_at_pool(struct node *node, uint64_t id)
{
	struct node_pool *pool = node_pool_by_id(node, id);
	uint64_t now = wall_ns(node), job;
	struct scrub_state state;

	if (!pool || !pool->pool || pool->scrubbing || scrub_load(node->catalog, id, &state) < 0)
		return;
	pool = node_pool_by_id(node, id);
	if (!pool || pool->scrubbing)
		return;
	if (state.since_wall_ns == 0) {
		state.since_wall_ns = now;
		(void)scrub_store(node->catalog, id, &state); /* the next look tries again */
	} else if (state.phase == SCRUB_RUNNING) {
		(void)start_job(node, pool, &job); /* the next look tries again */
	} else if (scrub_is_due(&state, now, node->options.scrub_days * DAY_NS)) {
		(void)node_scrub_start(node, pool, &job); /* the next look tries again */
	}
}

static void look(struct node *node)
{
	struct node_pool *pool;

	for (uint64_t id = 0; !node->stopping && (pool = node_pool_after(node, id));) {
		id = pool->id;
		look_at_pool(node, id);
	}
}

void node_scrub_start_service(struct node *node)
{
	node_service_start(&node->scrub, node, look, LOOK_NS);
}
