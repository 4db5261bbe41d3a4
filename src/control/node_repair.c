/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair as a service of the node: whenever files of a pool lack copies, or a disk of it is
 * draining, a job "pool.repair" makes them, the most urgent first: all vDisks are gone through for
 * what only disks that have failed have, and for what has one copy left, before anything else is
 * done. One job a pool; it ends when nothing that
 * can be done is left, and says what cannot.
 *
 * Whether there is work is looked up, never remembered: after a disk's state changed, when an
 * operator asks, and every LOOK_NS. Home: the node's.
 */
#include "control/node_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "pool/policy.h"
#include "pool/pool_disk.h"
#include "pool/pool_fence.h"

#define PASS_NS      (500 * NSEC_PER_MSEC)
#define IDLE_PASSES  3u /* in which nothing could be done, before a job gives up */
#define LOOK_NS      (30 * NSEC_PER_SEC)
#define AGAIN_NS     (60 * NSEC_PER_SEC) /* after a job that had to leave something, at first ... */
#define AGAIN_MAX_NS (3600 * NSEC_PER_SEC) /* ... and at most */

struct redundancy_call {
	struct vdisk *vdisk;
	struct vdisk_redundancy redundancy;
};

static int look_at_home(void *arg)
{
	struct redundancy_call *call = arg;

	vdisk_get_redundancy(call->vdisk, &call->redundancy);
	return 0;
}

static void add(struct vdisk_redundancy *sum, const struct vdisk_redundancy *one)
{
	sum->factor = MAX(sum->factor, one->factor);
	sum->whole += one->whole;
	sum->degraded += one->degraded;
	sum->single += one->single;
	sum->lost += one->lost;
	sum->resort += one->resort;
	sum->resort_groups += one->resort_groups;
	sum->leaving += one->leaving;
	sum->to_copy += one->to_copy;
	sum->to_drop += one->to_drop;
	sum->waiting_blocks += one->waiting_blocks;
}

/* A disk that was given up while no other can take its place is nothing to be done about. */
static bool is_work(const struct vdisk_redundancy *sum)
{
	return sum->to_copy > 0 || sum->to_drop > 0;
}

bool node_vdisk_redundancy(struct node *node, struct node_vdisk *vdisk,
			   struct vdisk_redundancy *ret_redundancy)
{
	struct redundancy_call call = {.vdisk = vdisk->vdisk};

	if (!node_vdisk_use(vdisk))
		return false;
	(void)node_vdisk_call(vdisk, look_at_home, &call); /* is 0 */
	node_vdisk_unuse(node, vdisk);
	*ret_redundancy = call.redundancy;
	return true;
}

void node_pool_redundancy(struct node *node, uint64_t pool_id,
			  struct vdisk_redundancy *ret_redundancy)
{
	struct node_vdisk *vdisk;

	*ret_redundancy = (struct vdisk_redundancy){0};
	for (uint64_t id = 0; (vdisk = node_vdisk_after(node, id));) {
		struct vdisk_redundancy one;

		id = vdisk->info.id;
		if (vdisk->info.pool_id == pool_id && node_vdisk_redundancy(node, vdisk, &one))
			add(ret_redundancy, &one);
	}
}

struct resort_call {
	struct vdisk *vdisk;
	uint64_t disk, groups;
};

static int count_resort(void *arg)
{
	struct resort_call *call = arg;

	call->groups = vdisk_get_resort(call->vdisk, call->disk);
	return 0;
}

uint64_t node_disk_resort(struct node *node, uint64_t pool_id, uint64_t disk)
{
	struct node_vdisk *vdisk;
	uint64_t groups = 0;

	for (uint64_t id = 0; (vdisk = node_vdisk_after(node, id));) {
		struct resort_call call = {.vdisk = vdisk->vdisk, .disk = disk};

		id = vdisk->info.id;
		if (vdisk->info.pool_id != pool_id || !node_vdisk_use(vdisk))
			continue;
		(void)node_vdisk_call(vdisk, count_resort, &call); /* is 0 */
		node_vdisk_unuse(node, vdisk);
		groups += call.groups;
	}
	return groups;
}

struct repair {
	struct node *node;
	uint64_t pool_id;
	struct job *job;
	enum vdisk_urgency urgent;
	uint64_t done, total; /* bytes; both only grow */
	uint64_t dropped, damaged;
	int error; /* the first that left something undone */
};

struct repair_call {
	struct repair *repair;
	struct vdisk *vdisk;
	struct vdisk_repair vdisk_repair;
};

static bool progress(void *arg, uint64_t copied_bytes)
{
	struct repair_call *call = arg;
	struct repair *repair = call->repair;
	uint64_t done = repair->done + copied_bytes;

	job_progress(repair->job, done, MAX(done, repair->total));
	return !job_is_cancelled(repair->job);
}

static int repair_at_home(void *arg)
{
	struct repair_call *call = arg;

	return vdisk_repair(call->vdisk, &call->vdisk_repair);
}

static int repair_vdisk(struct repair *repair, struct node_vdisk *vdisk)
{
	struct repair_call call = {
		.repair = repair,
		.vdisk = vdisk->vdisk,
		.vdisk_repair = {.urgent = repair->urgent, .progress = progress},
	};
	int r;

	call.vdisk_repair.arg = &call;
	if (!node_vdisk_use(vdisk))
		return 0;
	r = fiber_call(vdisk->home, FIBER_RECLAIM, repair_at_home, &call);
	node_vdisk_unuse(repair->node, vdisk);
	repair->done += call.vdisk_repair.copied_bytes;
	repair->dropped += call.vdisk_repair.dropped_copies;
	repair->damaged += call.vdisk_repair.damaged_blocks;
	if (call.vdisk_repair.mismatches)
		event_emit(repair->node->events, EVENT_REPAIR_MISMATCH, vdisk->name,
			   "disk %" PRIu64 " did not give back what was written: %" PRIu64
			   " new copies do not count",
			   call.vdisk_repair.mismatch_disk, call.vdisk_repair.mismatches);
	if (r < 0 && repair->error == 0)
		repair->error = r;
	return job_is_cancelled(repair->job) || r == -ESHUTDOWN ? -ECANCELED : 0;
}

static int repair_all(struct repair *repair, enum vdisk_urgency urgent)
{
	struct node_vdisk *vdisk;
	int r = 0;

	repair->urgent = urgent;
	for (uint64_t id = 0; r == 0 && (vdisk = node_vdisk_after(repair->node, id));) {
		id = vdisk->info.id;
		if (vdisk->info.pool_id == repair->pool_id)
			r = repair_vdisk(repair, vdisk);
	}
	return r;
}

/* What was still being written, or moved, in one pass is there for the next. */
static int repair_passes(struct repair *repair)
{
	struct vdisk_redundancy left;
	unsigned idle = 0;

	node_pool_redundancy(repair->node, repair->pool_id, &left);
	for (;;) {
		uint64_t done = repair->done + repair->dropped;
		int r;

		repair->error = 0;
		r = left.resort ? repair_all(repair, VDISK_REPAIR_RESORT) : 0;
		if (r == 0)
			r = repair_all(repair, VDISK_REPAIR_SINGLE);
		if (r == 0)
			r = repair_all(repair, VDISK_REPAIR_ALL);
		if (r < 0)
			return r;
		node_pool_redundancy(repair->node, repair->pool_id, &left);
		idle = repair->done + repair->dropped == done ? idle + 1 : 0;
		if (!is_work(&left) || idle > IDLE_PASSES)
			return 0;
		if (job_is_cancelled(repair->job))
			return -ECANCELED;
		fiber_sleep(PASS_NS);
	}
}

static json_t *result_to_json(const struct repair *repair, const struct vdisk_redundancy *left)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "copied_bytes",
			 (json_int_t)repair->done, "dropped_copies", (json_int_t)repair->dropped,
			 "damaged_blocks", (json_int_t)repair->damaged, "degraded_bytes",
			 (json_int_t)left->degraded, "lost_bytes", (json_int_t)left->lost,
			 "leaving_bytes", (json_int_t)left->leaving, "waiting_blocks",
			 (json_int_t)left->waiting_blocks);
}

/* "healthy" is said only after everything was looked up again. */
static int conclude(struct repair *repair, const char *name, struct error *ret_error)
{
	struct vdisk_redundancy left;

	node_pool_redundancy(repair->node, repair->pool_id, &left);
	job_set_result(repair->job, result_to_json(repair, &left));
	if (!is_work(&left) && left.lost == 0) {
		event_emit(repair->node->events,
			   left.degraded ? EVENT_POOL_DEGRADED : EVENT_POOL_HEALTHY, name,
			   "%" PRIu64 " MiB copied; %" PRIu64
			   " MiB have fewer copies than they should",
			   repair->done / MIB, left.degraded / MIB);
		return 0;
	}
	if (left.waiting_blocks) {
		error_set(ret_error, error_code_of(repair->error ? repair->error : -EIO), name,
			  "bring back the disks that have gone, see sarsen disk list; or give one "
			  "up for good: sarsen disk drain",
			  "%" PRIu64
			  " blocks are damaged on every copy that can be read; copies on "
			  "disks that have gone may have them right and are waited for",
			  left.waiting_blocks);
		return repair->error ? repair->error : -EIO;
	}
	error_set(ret_error, error_code_of(repair->error ? repair->error : -EIO), name,
		  repair->error == -ENOSPC ? "add a disk, or delete what is not needed"
					   : "see sarsen disk list and the daemon's log",
		  "%" PRIu64 " MiB still need a copy, %" PRIu64
		  " MiB only disks that have failed may have, %" PRIu64
		  " MiB cannot be read from any disk",
		  left.to_copy / MIB, left.resort / MIB, (left.lost - left.resort) / MIB);
	return repair->error ? repair->error : -EIO;
}

/* What could not be done is tried again, less and less often, unless something changes. */
static void settle_pool(struct node *node, struct node_pool *pool, int result)
{
	uint64_t *pause = &pool->repair_pause_ns;

	pool->repairing = false;
	if (result < 0)
		*pause = *pause ? MIN(*pause * 2, AGAIN_MAX_NS) : AGAIN_NS;
	else
		*pause = 0;
	pool->repair_again_ns = result < 0 ? reactor_now_ns(node->home) + *pause : 0;
	if (result == 0)
		pool->told_degraded = false;
}

static int run(struct job *job, void *arg, struct error *ret_error)
{
	struct repair *repair = arg;
	struct node_pool *pool = node_pool_by_id(repair->node, repair->pool_id);
	struct vdisk_redundancy before;
	char name[POOL_NAME_MAX + 1];
	int r;

	if (!pool)
		return 0;
	snprintf(name, sizeof(name), "%s", pool->name);
	pool->repairing = true;
	repair->job = job;
	job_set_cancellable(job, true);
	node_pool_redundancy(repair->node, repair->pool_id, &before);
	repair->total = before.to_copy;
	job_progress(job, 0, repair->total);
	r = repair_passes(repair);
	if (r == 0)
		r = conclude(repair, name, ret_error);
	pool = node_pool_by_id(repair->node, repair->pool_id);
	if (pool)
		settle_pool(repair->node, pool, r);
	return r;
}

/* Starting a job waits for the catalog: meanwhile the pool may go, and others may ask. */
int node_repair_start(struct node *node, struct node_pool *pool, uint64_t *ret_job)
{
	struct repair *repair;
	char name[POOL_NAME_MAX + 1];
	struct job_spec spec = {
		.method = method_get(METHOD_POOL_REPAIR),
		.object = name,
		.subject = pool->id,
		.run = run,
		.done = free,
	};
	uint64_t id = pool->id;
	int r;

	if (pool->repairing)
		return -EALREADY;
	repair = spec.arg = calloc(1, sizeof(*repair));
	if (!repair)
		return -ENOMEM;
	*repair = (struct repair){.node = node, .pool_id = id};
	snprintf(name, sizeof(name), "%s", pool->name);
	pool->repairing = true;
	r = job_start(node->jobs, &spec, ret_job);
	if (r == 0)
		return 0;
	pool = node_pool_by_id(node, id);
	if (pool)
		pool->repairing = false;
	free(repair);
	return r;
}

static void look_at_pool(struct node *node, struct node_pool *pool)
{
	uint64_t id = pool->id, now = reactor_now_ns(node->home), job;
	struct vdisk_redundancy sum;
	int r;

	if (!pool->pool || pool->repairing || now < pool->repair_again_ns ||
	    pool_fence_get() == POOL_FENCE_NAMES)
		return;
	node_pool_redundancy(node, id, &sum);
	pool = node_pool_by_id(node, id);
	if (!pool || pool->repairing || !is_work(&sum))
		return;
	/* Else disks are drained, or a factor was lowered. */
	if (!pool->told_degraded && sum.degraded + sum.resort > 0)
		event_emit(node->events, EVENT_POOL_DEGRADED, pool->name,
			   "%" PRIu64 " MiB have fewer copies than they should, %" PRIu64
			   " MiB of them one; repair begins",
			   (sum.degraded + sum.resort) / MIB, (sum.single + sum.resort) / MIB);
	pool->told_degraded |= sum.degraded + sum.resort > 0;
	r = node_repair_start(node, pool, &job);
	if (r < 0 && r != -EALREADY)
		log_warning("node", "a repair cannot be started", "pool=%" PRIu64 " error=%d", id,
			    r);
}

static void look(struct node *node)
{
	struct node_pool *pool;

	for (uint64_t id = 0; !node->stopping && (pool = node_pool_after(node, id));) {
		id = pool->id;
		look_at_pool(node, pool);
	}
}

void node_repair_start_service(struct node *node)
{
	node_service_start(&node->repair, node, look, LOOK_NS);
}

void node_repair_look(struct node *node)
{
	struct node_pool *pool;

	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		pool->repair_again_ns = pool->repair_pause_ns = 0;
	node_service_wake(&node->repair);
	node_service_wake(&node->scrub); /* what waits for a disk */
}

struct policy_call {
	struct vdisk *vdisk;
	const struct container_policy *policy;
};

static int set_policy_at_home(void *arg)
{
	struct policy_call *call = arg;

	vdisk_set_policy(call->vdisk, call->policy);
	return 0;
}

static void follow_policy(struct node *node, struct node_vdisk *vdisk,
			  struct container_policy *policy)
{
	struct policy_call call = {.vdisk = vdisk->vdisk, .policy = policy};

	if (container_policy_get(node->catalog, vdisk->info.container_id, vdisk->info.id, policy) <
	    0)
		return; /* its next opening follows */
	vdisk->factor = policy->replication_factor;
	if (!node_vdisk_use(vdisk))
		return;                                          /* the same */
	(void)node_vdisk_call(vdisk, set_policy_at_home, &call); /* is 0 */
	node_vdisk_unuse(node, vdisk);
}

void node_factors_changed(struct node *node, uint64_t container)
{
	_cleanup_free_ struct container_policy *policy = malloc(sizeof(*policy));
	struct node_vdisk *vdisk;

	for (uint64_t id = 0; policy && (vdisk = node_vdisk_after(node, id));) {
		id = vdisk->info.id;
		if (container == 0 || vdisk->info.container_id == container)
			follow_policy(node, vdisk, policy);
	}
	node_repair_look(node);
}
