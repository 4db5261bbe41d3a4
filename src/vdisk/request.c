/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of an open vDisk: from submit to completion. Home: the vDisk's reactor.
 *
 * A write claims its range (shared; exclusively where it must read first), is admitted to the pool,
 * goes to the log, and when the log acknowledges it, its blocks are in the map. Reads take no
 * claim: one that overlaps a write in flight may see the old or the new block, each whole.
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/reached.h"
#include "vdisk/vdisk_priv.h"

#define SPACE_WAIT_NS (10 * NSEC_PER_SEC)

void vdisk_finish(struct vdisk *vdisk, struct block_request *request, int result)
{
	struct vdisk_request *state = vdisk_request(request);
	uint64_t now, took;

	if (state->internal) {
		request->done(request, result);
		return;
	}
	now = reactor_turn_ns(vdisk->reactor);
	took = now - request->submitted_ns;
	pool_guest_came(vdisk->pool, now);
	if (state->claimed)
		range_lock_release(&vdisk->locks, &state->claim);
	state->claimed = false;
	vdisk->stats.operations[request->op]++;
	if (result < 0)
		vdisk->stats.errors[request->op]++;
	else
		vdisk->stats.bytes[request->op] += request->length;
	if (request->op == BLOCK_READ)
		histogram_record(&vdisk->read_latency, took);
	else if (request->op == BLOCK_WRITE)
		histogram_record(&vdisk->write_latency, took);
	block_complete(request, result);
}

static void finish_work(struct reactor_work *work)
{
	struct block_request *request = CONTAINER_OF(work, struct block_request, work);

	vdisk_finish(vdisk_request(request)->vdisk, request, vdisk_request(request)->error);
}

void vdisk_finish_later(struct vdisk *vdisk, struct block_request *request, int result)
{
	vdisk_request(request)->error = result;
	request->work.run = finish_work;
	reactor_defer(vdisk->reactor, &request->work);
}

void vdisk_fiber_ends(struct vdisk *vdisk)
{
	ASSERT(vdisk->fibers > 0);
	vdisk->fibers--;
	fiber_queue_wake_all(&vdisk->fibers_done);
}

void vdisk_spawn(struct vdisk *vdisk, struct fiber_task *task, void (*run)(struct fiber_task *task))
{
	vdisk->fibers++;
	task->run = run;
	if (vdisk->tasks == VDISK_TASKS_MAX) {
		REACHED("request.task-waits");
		list_push_back(&vdisk->waiting_tasks, &task->link);
		return;
	}
	vdisk->tasks++;
	fiber_spawn(vdisk->reactor, FIBER_DATA, task);
}

void vdisk_task_ends(struct vdisk *vdisk)
{
	struct list_node *next = list_pop_front(&vdisk->waiting_tasks);

	ASSERT(vdisk->tasks > 0);
	if (next)
		fiber_spawn(vdisk->reactor, FIBER_DATA, LIST_ENTRY(next, struct fiber_task, link));
	else
		vdisk->tasks--;
	vdisk_fiber_ends(vdisk);
}

int vdisk_admit(struct vdisk *vdisk, uint64_t bytes)
{
	int r = bytes ? pool_quota_admit(vdisk->quota, vdisk->factor, bytes) : 0;

	if (r == 0)
		vdisk->admitted_bytes += bytes;
	return r;
}

void vdisk_admit_return(struct vdisk *vdisk, uint64_t bytes)
{
	ASSERT(bytes <= vdisk->admitted_bytes);
	vdisk->admitted_bytes -= bytes;
	if (bytes)
		pool_quota_admit_return(vdisk->quota, vdisk->factor, bytes);
}

bool vdisk_guest_is_active(const struct vdisk *vdisk, uint64_t *seen)
{
	uint64_t before = *seen;

	*seen = vdisk->stats.operations[BLOCK_READ] + vdisk->stats.operations[BLOCK_WRITE];
	return *seen != before;
}

static void give_back_admission(struct vdisk *vdisk, struct vdisk_request *state)
{
	vdisk_admit_return(vdisk, state->admitted);
	state->admitted = 0;
}

void vdisk_write_ends(struct vdisk *vdisk, struct block_request *request, int result)
{
	struct vdisk_request *state = vdisk_request(request);

	if (result < 0) {
		vdisk_finish(vdisk, request, result);
		return;
	}
	block_written(request);
	if (request->flags & BLOCK_FUA) {
		if (state->claimed)
			range_lock_release(&vdisk->locks, &state->claim);
		state->claimed = false;
		log_add_sync(&vdisk->log, request, vdisk->log.acked_lsn);
		return;
	}
	vdisk_finish(vdisk, request, 0);
}

void vdisk_write_acked(struct vdisk *vdisk, struct block_request *request, int result)
{
	struct vdisk_request *state = vdisk_request(request);

	if (result < 0)
		give_back_admission(vdisk, state);
	/* What the map holds now is settled when its layer is folded. */
	vdisk->admitted[vdisk->map.active] += state->admitted;
	state->admitted = 0;
	vdisk_write_ends(vdisk, request, result);
}

void vdisk_apply_record(struct vdisk *vdisk, const struct record_header_disk *header,
			uint64_t group, uint32_t slot)
{
	uint32_t count = record_extent_count(header), cursor = 0;
	struct record_extent extent;

	for (uint32_t i = 0; i < count; i++) {
		record_get_extent(header, i, &cursor, &extent);
		if (extent.kind == RECORD_EXTENT_DATA)
			map_set(&vdisk->map, extent.block, extent.count,
				address_make(group, slot + 1 + extent.first_payload),
				&header->block_crcs[extent.first_payload]);
		else
			map_zero(&vdisk->map, extent.block, extent.count);
	}
}

/* Bytes by which a write may make live data grow: blocks that are absent, or not known. While some
 * are not, what was known last counts. */
static uint64_t growth(struct vdisk *vdisk, struct vdisk_request *state)
{
	struct map_entry entry;
	uint64_t bytes = 0, unknown = 0;

	for (uint64_t block = state->first; block < state->end; block++) {
		int r = map_lookup(&vdisk->map, block, &entry);

		unknown += r < 0;
		if (r < 0 || !address_is_stored(entry.address))
			bytes += BLOCK_BYTES;
	}
	if (unknown > 0)
		return state->growth_known ? state->growth : bytes;
	state->growth = bytes;
	state->growth_known = true;
	return bytes;
}

static bool needs_space(const struct block_request *request)
{
	return request->op == BLOCK_WRITE || request->op == BLOCK_COMPARE_AND_WRITE;
}

/* Of admit(). No error can be one of these: the log may have failed with any. */
enum {
	ADMIT_WAIT = 1,  /* may be admitted later */
	ADMIT_LEARN = 2, /* perhaps when it is known what it overwrites */
};

/* 0, one of the above, or an error that waiting does not cure. What makes nothing grow passes those
 * that `wait`. */
static int admit(struct vdisk *vdisk, struct block_request *request, bool wait)
{
	struct vdisk_request *state = vdisk_request(request);
	uint64_t bytes;
	int r;

	if (vdisk->log.failed)
		return vdisk->log.failed;
	if (!needs_space(request))
		return 0;
	bytes = growth(vdisk, state);
	r = bytes > 0 && wait ? -ENOSPC : vdisk_admit(vdisk, bytes);
	if (r == 0)
		state->admitted = bytes;
	if (r != -ENOSPC)
		return r;
	return state->growth_known ? ADMIT_WAIT : ADMIT_LEARN;
}

void vdisk_space_changed(struct vdisk *vdisk)
{
	uint64_t now = reactor_now_ns(vdisk->reactor);
	struct block_request *request;

	LIST_FOR_EACH (&vdisk->space_waiters, request, struct block_request, link) {
		int r = admit(vdisk, request, false);

		ASSERT(r != ADMIT_LEARN); /* or it would not wait */
		if (r == ADMIT_WAIT && now < vdisk_request(request)->deadline_ns &&
		    vdisk->checkpoint_error != -ESHUTDOWN)
			return;
		list_remove(&request->link);
		if (r == 0) {
			log_add(&vdisk->log, request);
			continue;
		}
		REACHED("request.no-space");
		vdisk_finish(vdisk, request, r == ADMIT_WAIT ? -ENOSPC : r);
	}
}

static void wait_for_space(struct vdisk *vdisk, struct block_request *request)
{
	REACHED("request.wait-for-space");
	vdisk_request(request)->deadline_ns = reactor_now_ns(vdisk->reactor) + SPACE_WAIT_NS;
	list_push_back(&vdisk->space_waiters, &request->link);
	vdisk_checkpoint_soon(vdisk);
	vdisk_reclaim_soon(vdisk);
	vdisk_tick_soon(vdisk);
}

static void write_claimed(struct vdisk *vdisk, struct block_request *request);

/* The pages of the map that tell what it overwrites are read first. What cannot be read is taken
 * for absent; the write itself may still succeed. Fiber. */
static void learn_growth(struct vdisk *vdisk, struct vdisk_request *state)
{
	struct map_entry entry;
	uint64_t bytes = 0;

	REACHED("request.learn-growth");
	for (uint64_t block = state->first; block < state->end; block++)
		if (vdisk_lookup(vdisk, block, &entry) < 0 || !address_is_stored(entry.address))
			bytes += BLOCK_BYTES;
	state->growth = bytes;
	state->growth_known = true;
}

static void learn_fiber(struct fiber_task *task)
{
	struct vdisk_request *state = CONTAINER_OF(task, struct vdisk_request, task);
	struct vdisk *vdisk = state->vdisk;

	learn_growth(vdisk, state);
	write_claimed(vdisk, block_request_of(state));
	vdisk_task_ends(vdisk);
}

/* Has its claim: on to the log, in order of arrival. Unmapping makes room, and overwriting takes
 * none: they must not wait for it. */
static void write_claimed(struct vdisk *vdisk, struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);
	int r = admit(vdisk, request, !list_is_empty(&vdisk->space_waiters));

	if (LIKELY(r == 0))
		log_add(&vdisk->log, request);
	else if (r == ADMIT_LEARN)
		vdisk_spawn(vdisk, &state->task, learn_fiber);
	else if (r == ADMIT_WAIT)
		wait_for_space(vdisk, request);
	else
		vdisk_finish_later(vdisk, request, r);
}

static void write_granted(struct range_claim *claim)
{
	struct vdisk_request *state = CONTAINER_OF(claim, struct vdisk_request, claim);

	state->claimed = true;
	write_claimed(state->vdisk, block_request_of(state));
}

static void write_start(struct vdisk *vdisk, struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);

	state->claim.offset = request->offset;
	state->claim.length = request->length;
	state->claim.mode = RANGE_LOCK_SHARED;
	state->claim.granted = write_granted;
	if (range_lock_take(&vdisk->locks, &state->claim)) {
		state->claimed = true;
		write_claimed(vdisk, request);
	}
}

static bool is_whole(const struct block_request *request)
{
	return IS_ALIGNED(request->offset | request->length, (uint64_t)BLOCK_BYTES);
}

/* Sets the state up: block range, no claim, nothing outstanding. */
static void prepare(struct vdisk *vdisk, struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);

	memset(state, 0, sizeof(*state));
	state->vdisk = vdisk;
	state->first = request->offset / BLOCK_BYTES;
	state->end = DIV_ROUND_UP(request->offset + request->length, (uint64_t)BLOCK_BYTES);
	state->cursor = state->first;
}

void vdisk_write_unclaimed(struct vdisk *vdisk, struct block_request *request)
{
	prepare(vdisk, request);
	vdisk_request(request)->internal = true;
	write_claimed(vdisk, request);
}

void vdisk_submit(struct block_volume *volume, struct block_request *request)
{
	struct vdisk *vdisk = vdisk_of(volume);

	prepare(vdisk, request);
	if (UNLIKELY(vdisk->stranded) && vdisk_stranded_takes(vdisk, request))
		return;
	switch (request->op) {
	case BLOCK_READ:
		vdisk_read_start(vdisk, request);
		return;
	case BLOCK_FLUSH:
		log_add_sync(&vdisk->log, request, vdisk->log.acked_lsn);
		return;
	case BLOCK_WRITE:
	case BLOCK_WRITE_ZEROES:
	case BLOCK_UNMAP:
		if (is_whole(request))
			write_start(vdisk, request);
		else
			vdisk_modify_start(vdisk, request);
		return;
	case BLOCK_COMPARE_AND_WRITE:
		vdisk_modify_start(vdisk, request);
		return;
	case BLOCK_COMPARE:
		vdisk_compare_start(vdisk, request);
		return;
	case BLOCK_STATUS:
		vdisk_status_start(vdisk, request);
		return;
	case BLOCK_OP_COUNT:
		break;
	}
	vdisk_finish_later(vdisk, request, -EOPNOTSUPP);
}
