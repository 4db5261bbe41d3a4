/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints: the log up to an LSN goes into the map on disk, so that the log before it is no
 * longer needed.
 *
 * Order, which a crash at any point leaves consistent:
 *  1. freeze: the active layer of the map is what the log up to fold_lsn made;
 *  2. the log up to there is synced: no root may name data that could be lost;
 *  3. the fold writes new pages, leaves first, and syncs them;
 *  4. one transaction: the row with the new root and log position, and the seals of groups that are
 * done;
 *  5. memory follows, in slices; groups without live slots are dropped (not before: the old root
 *     named them).
 * A failure before 4 leaves the frozen layer, and the next try folds it again. One at a time, in
 * one fiber.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/reached.h"
#include "vdisk/vdisk_priv.h"

#define RETRY_MIN_NS      (100 * NSEC_PER_MSEC)
#define RETRY_MAX_NS      (2 * NSEC_PER_SEC)
#define RETRY_PATIENCE_NS (10 * NSEC_PER_SEC) /* of writers */

uint64_t vdisk_tail_limit(const struct vdisk *vdisk)
{
	struct pool_space space;

	pool_get_space(vdisk->pool, &space);
	return MIN(MAX(space.capacity / 32, VDISK_TAIL_MIN_BYTES), VDISK_TAIL_MAX_BYTES);
}

static int commit_row_locked(struct vdisk *vdisk, const struct vdisk_row *row,
			     const struct catalog_change *more, size_t count)
{
	_cleanup_free_ struct catalog_change *changes = calloc(count + 2, sizeof(*changes));
	uint8_t value[VDISK_ROW_BYTES];
	struct vdisk_row there, merged = *row;
	int r;

	if (!changes)
		return -ENOMEM;
	if (count)
		memcpy(changes + 2, more, count * sizeof(*changes));
	do {
		r = vdisk_row_get(vdisk->catalog, row->id, &there);
		if (r < 0)
			return r;
		memcpy(merged.name, there.name, sizeof(merged.name));
		vdisk_row_encode(&merged, value);
		changes[0] = (struct catalog_change){.kind = CATALOG_EXPECT,
						     .key = vdisk_row_key(row->id),
						     .version = there.version};
		changes[1] = (struct catalog_change){.kind = CATALOG_PUT,
						     .key = vdisk_row_key(row->id),
						     .value = value,
						     .length = sizeof(value)};
		r = catalog_commit(vdisk->catalog, changes, count + 2);
	} while (r == -ESTALE);
	if (r == 0) {
		/* The page stream may have gone on meanwhile. */
		merged.page_lsn = MAX(merged.page_lsn, vdisk->row.page_lsn);
		vdisk->row = merged;
	}
	return r;
}

struct vdisk_row vdisk_row_begin(struct vdisk *vdisk)
{
	fiber_mutex_lock(&vdisk->row_mutex);
	return vdisk->row;
}

int vdisk_row_commit(struct vdisk *vdisk, const struct vdisk_row *row,
		     const struct catalog_change *more, size_t count)
{
	int r = commit_row_locked(vdisk, row, more, count);

	fiber_mutex_unlock(&vdisk->row_mutex);
	return r;
}

int vdisk_raise_epoch(struct vdisk *vdisk)
{
	struct vdisk_row row;
	int r;

	if (vdisk->epoch_raised)
		return 0;
	row = vdisk_row_begin(vdisk);
	if (vdisk->epoch_raised) {
		fiber_mutex_unlock(&vdisk->row_mutex);
		return 0;
	}
	row.epoch++;
	r = vdisk_row_commit(vdisk, &row, NULL, 0);
	if (r == 0)
		vdisk->epoch_raised = true;
	return r;
}

/* The seals that go with a checkpoint. */
struct seals {
	struct catalog_change *changes;
	uint8_t (*values)[EGROUP_ROW_BYTES];
	struct egroup **held; /* sealed, and pinned until liveness knows what was born in them */
	size_t count, held_count;
};

static void seals_done(struct seals *seals)
{
	free(seals->changes);
	free(seals->values);
	free(seals->held);
}

static int seals_new(struct vdisk *vdisk, struct seals *ret_seals)
{
	struct seals seals = {0};
	size_t most = list_count(&vdisk->log.groups) + list_count(&vdisk->old_page_groups) + 1;

	seals.changes = calloc(most, sizeof(*seals.changes));
	seals.values = calloc(most, EGROUP_ROW_BYTES);
	seals.held = calloc(most, sizeof(struct egroup *));
	*ret_seals = seals;
	return seals.changes && seals.values && seals.held ? 0 : -ENOMEM;
}

static void seals_add(struct vdisk *vdisk, struct seals *seals, struct egroup *group,
		      uint32_t slots, uint64_t last_lsn)
{
	size_t n = seals->count++;

	egroup_seal_change(vdisk->store, group, slots, last_lsn, seals->values[n],
			   &seals->changes[n]);
}

static void collect_seals(struct vdisk *vdisk, struct seals *seals)
{
	struct page_group *page;
	struct log_group *group;

	LIST_FOR_EACH (&vdisk->log.groups, group, struct log_group, link) {
		group->leaving = log_group_is_done(&vdisk->log, group, vdisk->fold_lsn);
		if (group->leaving && !group->group->sealed)
			seals_add(vdisk, seals, group->group, group->acked_slots, group->last_lsn);
	}
	LIST_FOR_EACH (&vdisk->old_page_groups, page, struct page_group, link)
		seals_add(vdisk, seals, page->group, page->slots, page->last_lsn);
}

static void hold(struct seals *seals, struct egroup *group)
{
	group->pinned = true;
	seals->held[seals->held_count++] = group;
}

/* After the commit: the log lets go of the groups it sealed, not of those that were done since: the
 * catalog does not know about them. Under the log's sync mutex. */
static void apply_seals(struct vdisk *vdisk, struct seals *seals)
{
	struct page_group *page;
	struct log_group *group;

	LIST_FOR_EACH (&vdisk->old_page_groups, page, struct page_group, link) {
		egroup_sealed(page->group, page->slots, page->last_lsn);
		hold(seals, page->group);
		egroup_file_unref(page->group->file);
		list_remove(&page->link);
		free(page);
	}
	LIST_FOR_EACH (&vdisk->log.groups, group, struct log_group, link) {
		if (!group->leaving)
			continue;
		if (!group->group->sealed)
			egroup_sealed(group->group, group->acked_slots, group->last_lsn);
		hold(seals, group->group);
		log_group_release(&vdisk->log, group);
	}
}

static void unpin_held(const struct seals *seals)
{
	for (size_t i = 0; i < seals->held_count; i++)
		seals->held[i]->pinned = false;
}

/* What vdisk_fold_apply() will make of the account. */
static uint64_t live_after(const struct vdisk *vdisk, const struct fold_result *result)
{
	uint64_t live = vdisk->accounted_slots + result->born + result->pages.count;

	return live - MIN(live, (uint64_t)result->dead.count);
}

static int commit_checkpoint(struct vdisk *vdisk, const struct fold_result *result, bool folded,
			     struct seals *seals)
{
	struct vdisk_row row;
	int r;

	fiber_mutex_lock(&vdisk->log.sync_mutex);
	row = vdisk_row_begin(vdisk);
	/* No suspension between counting the groups and collecting them. */
	r = seals_new(vdisk, seals);
	if (r < 0) {
		fiber_mutex_unlock(&vdisk->row_mutex);
	} else {
		collect_seals(vdisk, seals);
		if (folded) {
			row.root = result->root;
			row.root_level = map_root_level(&vdisk->map);
		}
		row.checkpoint_lsn = vdisk->fold_lsn;
		row.log_group = vdisk->fold_group;
		row.log_slot = vdisk->fold_slot;
		row.live_slots = live_after(vdisk, result);
		r = vdisk_row_commit(vdisk, &row, seals->changes, seals->count);
	}
	if (r == 0)
		apply_seals(vdisk, seals);
	fiber_mutex_unlock(&vdisk->log.sync_mutex);
	return r;
}

/* Nobody may drop or compact a group before what was born in it is known to be live, and nothing
 * may die before the tree in memory has forgotten it. */
static void after_commit(struct vdisk *vdisk, const struct fold_result *result, bool folded,
			 const struct seals *seals)
{
	unsigned frozen = !vdisk->map.active;

	vdisk->fold_tail_bytes = 0;
	log_kick(&vdisk->log);
	if (folded) {
		vdisk_fold_apply(vdisk, result);
		vdisk->stats.checkpoints++;
		vdisk->identity_is_old = vdisk->told_size_bytes != vdisk->row.size_bytes;
		vdisk_admit_return(vdisk, vdisk->admitted[frozen]);
		vdisk->admitted[frozen] = 0;
	}
	unpin_held(seals);
	vdisk_fold_bury(vdisk, result);
}

static void freeze(struct vdisk *vdisk)
{
	struct log *log = &vdisk->log;

	vdisk->fold_lsn = log->acked_lsn;
	log_position(log, log->acked_lsn + 1, &vdisk->fold_group, &vdisk->fold_slot);
	vdisk->fold_tail_bytes += log->tail_bytes;
	log->tail_bytes = 0;
}

static int fold(struct vdisk *vdisk, struct fold_result *result)
{
	int r;

	map_pin(&vdisk->map);
	r = vdisk_fold(vdisk, result);
	if (r < 0)
		vdisk_fold_undo(vdisk);
	map_unpin(&vdisk->map);
	return r;
}

/* The disk itself must say what the row will, though nothing has changed in the map: records that
 * zeroed what was zero already, another size. */
static bool wants_root(const struct vdisk *vdisk)
{
	return vdisk->log.acked_lsn > vdisk->row.checkpoint_lsn ||
	       (vdisk->identity_is_old && vdisk->row.root.address);
}

static int checkpoint_once(struct vdisk *vdisk)
{
	struct fold_result result = {0};
	struct seals seals = {0};
	bool folded = vdisk->map.frozen;
	int r;

	if (!folded) {
		folded = map_freeze(&vdisk->map, wants_root(vdisk));
		freeze(vdisk);
	}
	r = log_sync(&vdisk->log);
	if (r == 0 && folded)
		r = fold(vdisk, &result);
	/* The last one seals everything, so that the next open has nothing to do. */
	if (r == 0 && vdisk->closing && vdisk->page_group)
		r = vdisk_retire_page_group(vdisk);
	vdisk->applying = true;
	if (r == 0)
		r = commit_checkpoint(vdisk, &result, folded, &seals);
	if (r == 0)
		after_commit(vdisk, &result, folded, &seals);
	else if (folded)
		vdisk_fold_undo(vdisk);
	vdisk->applying = false;
	seals_done(&seals);
	fold_result_done(&result);
	return r;
}

static void report(struct vdisk *vdisk, int r)
{
	if (r < 0 && r != vdisk->checkpoint_error && r != -ESHUTDOWN) {
		log_warning("vdisk", "checkpoint failed; it is tried again",
			    "vdisk=%" PRIu64 " error=%d", vdisk->row.id, r);
	}
	vdisk->checkpoint_error = r;
}

static bool tail_is_too_long(const struct vdisk *vdisk)
{
	uint64_t tail = vdisk->log.tail_bytes + vdisk->fold_tail_bytes;

	return tail > 2 * vdisk->tail_limit && map_is_dirty(&vdisk->map);
}

/* Begins nothing, unlike vdisk_must_checkpoint(): a checkpoint that has just failed would follow
 * itself at once, for ever. */
static bool holds_writers_back(const struct vdisk *vdisk)
{
	return tail_is_too_long(vdisk) ||
	       (cache_is_full(vdisk->cache) && map_is_dirty(&vdisk->map));
}

static void retry(struct reactor_timer *timer)
{
	vdisk_checkpoint_soon(CONTAINER_OF(timer, struct vdisk, checkpoint_retry));
}

/* Soon, then less and less often. Writers that it holds back wait some time, then they must hear
 * that it does not work. */
static void after_failure(struct vdisk *vdisk)
{
	uint64_t now = reactor_now_ns(vdisk->reactor), *pause = &vdisk->checkpoint_pause_ns;

	REACHED("checkpoint.failed");
	if (vdisk->checkpoint_failing_ns == 0)
		vdisk->checkpoint_failing_ns = now;
	if (holds_writers_back(vdisk) && (now - vdisk->checkpoint_failing_ns >= RETRY_PATIENCE_NS ||
					  vdisk->checkpoint_error == -ESHUTDOWN))
		log_fail_pending(&vdisk->log, vdisk->checkpoint_error);
	if (vdisk->closing || vdisk->checkpoint_error == -ESHUTDOWN)
		return;
	*pause = *pause ? MIN(*pause * 2, RETRY_MAX_NS) : RETRY_MIN_NS;
	vdisk->checkpoint_retry.run = retry;
	reactor_timer_arm(vdisk->reactor, &vdisk->checkpoint_retry, now + *pause);
}

static void checkpoint_run(struct fiber_task *task)
{
	struct vdisk *vdisk = CONTAINER_OF(task, struct vdisk, checkpoint_task);

	reactor_timer_cancel(vdisk->reactor, &vdisk->checkpoint_retry);
	vdisk->checkpoint_wanted = false;
	report(vdisk, checkpoint_once(vdisk));
	vdisk->checkpointing = false;
	if (vdisk->checkpoint_error < 0) {
		after_failure(vdisk);
	} else {
		vdisk->checkpoint_failing_ns = vdisk->checkpoint_pause_ns = 0;
		vdisk_reclaim_soon(vdisk);
		if (vdisk->checkpoint_wanted)
			vdisk_checkpoint_soon(vdisk);
	}
	vdisk_space_changed(vdisk);
	fiber_queue_wake_all(&vdisk->checkpoint_done);
	log_kick(&vdisk->log);
}

void vdisk_checkpoint_soon(struct vdisk *vdisk)
{
	if (vdisk->stranded)
		return;
	if (vdisk->checkpointing) {
		vdisk->checkpoint_wanted = true;
		return;
	}
	vdisk->checkpointing = true;
	vdisk->checkpoint_task.run = checkpoint_run;
	fiber_spawn(vdisk->reactor, FIBER_CHECKPOINT, &vdisk->checkpoint_task);
}

/* Starts one, unless the last has failed just now. */
static void start(struct vdisk *vdisk)
{
	if (!vdisk->checkpointing && !vdisk->checkpoint_retry.armed)
		vdisk_checkpoint_soon(vdisk);
}

/* Called for each record that is cut: cheap. True: no more records before a checkpoint has made
 * room. In a world that has ended none ever does. */
bool vdisk_must_checkpoint(struct vdisk *vdisk)
{
	uint64_t tail = vdisk->log.tail_bytes + vdisk->fold_tail_bytes;

	if (UNLIKELY(vdisk->checkpoint_error == -ESHUTDOWN))
		return false;
	if (UNLIKELY(cache_is_full(vdisk->cache)) && map_is_dirty(&vdisk->map)) {
		cache_trim(vdisk->cache);
		REACHED("checkpoint.for-memory");
		start(vdisk);
		return cache_is_full(vdisk->cache);
	}
	if (LIKELY(tail < vdisk->tail_limit))
		return false;
	if (vdisk->log.tail_bytes >= vdisk->tail_limit / 2 || vdisk->checkpoint_error < 0)
		start(vdisk);
	return tail_is_too_long(vdisk);
}

int vdisk_checkpoint(struct vdisk *vdisk)
{
	/* One that runs may have frozen before: a whole one must follow. */
	while (vdisk->checkpointing)
		fiber_queue_wait(&vdisk->checkpoint_done);
	vdisk_checkpoint_soon(vdisk);
	while (vdisk->checkpointing)
		fiber_queue_wait(&vdisk->checkpoint_done);
	return vdisk->checkpoint_error;
}
