/* SPDX-License-Identifier: Apache-2.0 */
/* Groups for the log: made ahead, replaced after a failure, released by checkpoints. */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/reached.h"
#include "vdisk/log.h"
#include "vdisk/vdisk_priv.h"

#define SPACE_WAIT_NS     (10 * NSEC_PER_SEC) /* of a write for reclaim */
#define SPACE_POLL_NS     (200 * NSEC_PER_MSEC)
#define REROUTE_PAUSE_NS  (50 * NSEC_PER_MSEC)
#define REROUTE_MIN_BYTES (4 * MIB) /* holds every record in flight */
_Static_assert(LOG_IN_FLIGHT_MAX *(1 + CACHE_RECORD_BLOCKS) * BLOCK_BYTES <= REROUTE_MIN_BYTES,
	       "a new group must hold what is issued again");

static struct log_group *log_group_new(struct egroup *group)
{
	struct log_group *result = calloc(1, sizeof(*result));

	if (!result)
		return NULL;
	list_node_init(&result->link);
	result->group = group;
	result->slots = (uint32_t)MIN(group->file->allocated_bytes >> BLOCK_SHIFT,
				      (uint64_t)SLOTS_PER_GROUP);
	return result;
}

void log_group_release(struct log *log, struct log_group *group)
{
	(void)log;
	list_remove(&group->link);
	egroup_file_unref(group->group->file);
	free(group);
}

int log_add_old_group(struct log *log, struct egroup *group)
{
	struct log_group *old;
	int r;

	r = egroup_file_open(group->file);
	if (r < 0)
		return r;
	old = log_group_new(group);
	if (!old) {
		egroup_file_unref(group->file);
		return -ENOMEM;
	}
	old->next_slot = group->slots;
	old->acked_slots = group->slots;
	old->last_lsn = group->last_lsn;
	list_push_back(&log->groups, &old->link);
	return 0;
}

bool log_group_is_done(const struct log *log, const struct log_group *group, uint64_t lsn)
{
	return group != log->current && group->last_lsn <= lsn;
}

void log_close_current(struct log *log)
{
	ASSERT(log->in_flight_count == 0);
	log->current = NULL;
	log->next_group_bytes = LOG_FIRST_GROUP_BYTES;
}

void log_retire_current(struct log *log)
{
	if (!log->current)
		return;
	if (list_is_empty(&log->pending) && log->in_flight_count == 0 && !log->rerouting)
		log_close_current(log);
	else
		log->current->retired = true;
}

static int make_group(struct log *log, enum pool_use use, uint64_t bytes,
		      struct log_group **ret_group)
{
	struct vdisk *vdisk = log->vdisk;
	struct log_group *result;
	struct egroup *group;
	int r;

	r = vdisk_raise_epoch(vdisk);
	if (r < 0)
		return r;
	r = egroup_create(vdisk->store, RECORD_STREAM_LOG, vdisk->row.epoch, use, bytes, &group);
	if (r < 0)
		return r;
	result = log_group_new(group);
	if (!result) {
		/* It stays in the store, empty, and the next open drops it. */
		egroup_file_unref(group->file);
		return -ENOMEM;
	}
	result->internal = use == POOL_USE_INTERNAL;
	*ret_group = result;
	return 0;
}

static bool waits_for_space(const struct block_request *request)
{
	return request->op == BLOCK_WRITE || request->op == BLOCK_COMPARE_AND_WRITE;
}

/* Out of space, requests with data give up; those that only take away stay, unless the reserve is
 * no more than a number: others have filled the file system. */
void log_fail_pending(struct log *log, int error)
{
	struct block_request *request;

	REACHED("log.no-space");
	LIST_FOR_EACH (&log->pending, request, struct block_request, link) {
		struct vdisk_request *state = vdisk_request(request);

		if (!waits_for_space(request) && error == -ENOSPC && !log->reserve_gone)
			continue;
		list_remove(&request->link);
		state->error = error;
		if (state->outstanding == 0)
			vdisk_write_acked(log->vdisk, request, error);
	}
}

/* Lets requests that free space pass those that wait for some. One that is cut in part stays first
 * among these; those that pass it were in flight with it, so no order between them is promised. */
static void free_first(struct log *log)
{
	struct block_request *request;
	struct list data;

	list_init(&data);
	LIST_FOR_EACH (&log->pending, request, struct block_request, link)
		if (waits_for_space(request)) {
			list_remove(&request->link);
			list_push_back(&data, &request->link);
		}
	list_splice_back(&log->pending, &data);
}

static bool wants_to_free(const struct log *log)
{
	struct list_node *node = list_front(&log->pending);

	return node && !waits_for_space(LIST_ENTRY(node, struct block_request, link));
}

bool log_group_takes_data(const struct log *log, struct log_group *group)
{
	/* The room was lent by the reserve; once the pool has some, the debt is paid. */
	if (group->internal && pool_quota_pressure(log->vdisk->quota) < 100)
		group->internal = false;
	return !group->internal;
}

/* The guest has begun to write in another way, and that belongs on other tiers. Once a group: who
 * changes all the time shall not keep the pool busy. */
static void drop_misplaced(struct log *log)
{
	const struct egroup_store *store = log->vdisk->store;

	if (!log->ready || log->ready->internal || log->ready_renewed ||
	    store->tiers == store->tiers_sequential ||
	    log->ready->group->file->sequential == store->sequential)
		return;
	REACHED("log.other-tiers");
	log->ready_renewed = true;
	log_drop_ready(log);
}

static int provision_once(struct log *log)
{
	uint64_t bytes = MIN(log->next_group_bytes, pool_quota_group_bytes(log->vdisk->quota));
	int r = -ENOSPC;

	log->reserve_gone = false;
	drop_misplaced(log);
	if (log->ready && log_group_takes_data(log, log->ready))
		return 0;
	if (!log->ready)
		r = make_group(log, POOL_USE_DATA, bytes, &log->ready);
	if (r == -ENOSPC && !log->ready && bytes > LOG_FIRST_GROUP_BYTES)
		r = make_group(log, POOL_USE_DATA, LOG_FIRST_GROUP_BYTES, &log->ready);
	if (r != -ENOSPC)
		return r;
	free_first(log);
	if (!wants_to_free(log))
		return r;
	if (log->ready || (log->current && log->current->next_slot < log->current->slots))
		return 0;
	REACHED("log.internal-group");
	r = make_group(log, POOL_USE_INTERNAL, LOG_FIRST_GROUP_BYTES, &log->ready);
	log->reserve_gone = r == -ENOSPC;
	return r;
}

static void space_retry(struct reactor_timer *timer)
{
	log_kick(CONTAINER_OF(timer, struct log, space_timer));
}

/* No room for a group: somebody's reclaim must make it. Looks again soon, for a bounded time; no
 * fiber is held meanwhile. */
static void wait_for_space(struct log *log)
{
	struct vdisk *vdisk = log->vdisk;
	uint64_t now = reactor_now_ns(vdisk->reactor);

	REACHED("log.wait-for-space");
	if (log->space_deadline_ns == 0)
		log->space_deadline_ns = now + SPACE_WAIT_NS;
	if (log->tail_bytes)
		vdisk_checkpoint_soon(vdisk);
	vdisk_reclaim_soon(vdisk);
	if (now >= log->space_deadline_ns) {
		log->space_deadline_ns = 0;
		log_fail_pending(log, -ENOSPC);
	}
	if (list_is_empty(&log->pending))
		return;
	log->space_timer.run = space_retry;
	reactor_timer_arm(vdisk->reactor, &log->space_timer, now + SPACE_POLL_NS);
}

static void provision_run(struct fiber_task *task)
{
	struct log *log = CONTAINER_OF(task, struct log, provision_task);
	int r = provision_once(log);

	log->provisioning = false;
	if (r == -ENOSPC) {
		wait_for_space(log);
	} else {
		log->space_deadline_ns = 0;
		if (r < 0) {
			log_warning("vdisk", "cannot make an extent group",
				    "vdisk=%" PRIu64 " error=%d", log->vdisk->row.id, r);
			log_fail_pending(log, r);
		}
		log_kick(log);
	}
	log_reroute_continue(log);
	fiber_queue_wake_all(&log->settled);
}

void log_provision(struct log *log)
{
	/* What is made beside the group that takes over would be older than it, and used after it.
	 */
	if (log->provisioning || log->rerouting || log->failed || log->space_timer.armed)
		return;
	log->provisioning = true;
	log->provision_task.run = provision_run;
	fiber_spawn(log->vdisk->reactor, FIBER_CHECKPOINT, &log->provision_task);
}

static bool all_finished(const struct log *log)
{
	struct record_buffer *record;

	LIST_FOR_EACH (&log->in_flight, record, struct record_buffer, link)
		if (!record->finished)
			return false;
	return true;
}

/* The error that makes issuing again pointless, or 0. */
static int final_error(const struct log *log)
{
	struct record_buffer *record;

	LIST_FOR_EACH (&log->in_flight, record, struct record_buffer, link)
		if (record->result == -ESHUTDOWN ||
		    (record->result < 0 && record->reroutes >= LOG_REROUTES_MAX))
			return record->result;
	return 0;
}

/* What was issued and not acknowledged goes to `group`; the groups it was in end before it. */
static void issue_again(struct log *log, struct log_group *group)
{
	struct log_group *old;
	struct list again;
	struct list_node *node;

	REACHED("log.reroute");
	LIST_FOR_EACH (&log->groups, old, struct log_group, link)
		old->last_lsn = MIN(old->last_lsn, log->acked_lsn);
	log->current = group;
	list_push_back(&log->groups, &group->link);
	list_init(&again);
	list_splice_back(&again, &log->in_flight);
	while ((node = list_pop_front(&again))) {
		list_push_back(&log->in_flight, node);
		log_issue(log, LIST_ENTRY(node, struct record_buffer, link), true);
	}
}

/* Recovery goes through groups in the order of their ids: the one made ahead is older than the one
 * that takes over, so it must not be used any more. */
void log_drop_ready(struct log *log)
{
	struct log_group *ready = TAKE_PTR(log->ready);
	struct egroup *group;

	if (!ready)
		return;
	group = ready->group;
	log_group_release(log, ready);
	/* On failure it stays empty, and the next open drops it. */
	(void)egroup_drop(log->vdisk->store, group);
}

/* Each time a little longer: the pool counts errors and then avoids the disk, and without that it
 * could be chosen again and again. */
static void pause_before_reroute(struct log *log)
{
	struct list_node *node = list_front(&log->in_flight);
	struct record_buffer *record;

	if (!node) /* the log has failed meanwhile */
		return;
	record = LIST_ENTRY(node, struct record_buffer, link);
	if (record->reroutes > 0)
		fiber_sleep(record->reroutes * REROUTE_PAUSE_NS);
}

static void reroute_run(struct fiber_task *task)
{
	struct log *log = CONTAINER_OF(task, struct log, reroute_task);
	struct log_group *group = NULL;
	int r;

	r = final_error(log);
	if (r == 0) {
		pause_before_reroute(log);
		log_drop_ready(log);
		r = make_group(log, POOL_USE_INTERNAL, REROUTE_MIN_BYTES, &group);
	}
	log->rerouting = log->reroute_started = false;
	if (r < 0) {
		log_fail(log, r);
	} else {
		group->internal = false;
		issue_again(log, group);
	}
	fiber_queue_wake_all(&log->settled);
	log_kick(log);
}

/* Starts once nothing is on its way any more; no fiber is held until then. */
void log_reroute_continue(struct log *log)
{
	if (!log->rerouting || log->reroute_started)
		return;
	/* It failed for another reason meanwhile: there is nothing to issue again. */
	if (log->failed)
		log->rerouting = false;
	if (log->failed || log->provisioning || !all_finished(log))
		return;
	log->reroute_started = true;
	log->reroute_task.run = reroute_run;
	fiber_spawn(log->vdisk->reactor, FIBER_CHECKPOINT, &log->reroute_task);
}

void log_reroute(struct log *log)
{
	struct record_buffer *record =
		LIST_ENTRY(list_front(&log->in_flight), struct record_buffer, link);

	ASSERT(!log->rerouting);
	log_warning("vdisk", "write failed; trying another extent group",
		    "vdisk=%" PRIu64 " group=%" PRIu64 " error=%d", log->vdisk->row.id,
		    record->group->group->id, record->result);
	log->rerouting = true;
	log_reroute_continue(log);
}
