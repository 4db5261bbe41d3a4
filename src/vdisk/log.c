/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting, issuing and acknowledging records. See log.h for the invariants. */
#include "vdisk/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/reached.h"
#include "block/iov.h"
#include "codec/crc32c.h"
#include "vdisk/vdisk_priv.h"

static void pump_hook(struct reactor_hook *hook);

static void record_free_hook(struct reactor_hook *hook)
{
	log_kick(CONTAINER_OF(hook, struct log, waiter));
}

void log_init(struct log *log, struct vdisk *vdisk)
{
	*log = (struct log){.vdisk = vdisk, .next_group_bytes = LOG_FIRST_GROUP_BYTES};
	list_init(&log->pending);
	list_init(&log->in_flight);
	list_init(&log->groups);
	list_init(&log->sync_waiters);
	reactor_hook_init(&log->hook, pump_hook);
	reactor_hook_init(&log->waiter, record_free_hook);
	fiber_queue_init(&log->settled);
	fiber_mutex_init(&log->sync_mutex);
}

void log_start(struct log *log, uint64_t lsn)
{
	log->acked_lsn = lsn;
	log->durable_lsn = lsn;
	log->next_lsn = lsn + 1;
}

void log_done(struct log *log)
{
	struct log_group *group;

	ASSERT(list_is_empty(&log->pending) && list_is_empty(&log->in_flight));
	ASSERT(!log->provisioning && !log->rerouting && !log->syncing);
	reactor_hook_disarm(&log->hook);
	reactor_hook_disarm(&log->waiter);
	reactor_timer_cancel(log->vdisk->reactor, &log->space_timer);
	if (log->ready)
		log_group_release(log, log->ready);
	log->ready = NULL;
	log->current = NULL;
	LIST_FOR_EACH (&log->groups, group, struct log_group, link)
		log_group_release(log, group);
}

void log_kick(struct log *log)
{
	reactor_hook_arm(log->vdisk->reactor, &log->hook);
}

/* Takes the request's share in the outcome of one record back. */
static void request_settled(struct log *log, struct block_request *request, int result)
{
	struct vdisk_request *state = vdisk_request(request);

	if (result < 0)
		state->error = result;
	ASSERT(state->outstanding > 0);
	if (--state->outstanding == 0 && (state->cursor == state->end || state->error))
		vdisk_write_acked(log->vdisk, request, state->error);
}

static void free_record(struct log *log, struct record_buffer *record)
{
	list_remove(&record->link);
	log->in_flight_count--;
	cache_give_record(log->vdisk->cache, record);
}

static void settle_record(struct log *log, struct record_buffer *record, int result)
{
	unsigned count = record->request_count;
	struct block_request *requests[ARRAY_SIZE(record->requests)];

	/* Completing a request may lead to new ones that take this buffer. */
	for (unsigned i = 0; i < count; i++)
		requests[i] = record->requests[i];
	free_record(log, record);
	for (unsigned i = 0; i < count; i++)
		request_settled(log, requests[i], result);
}

void log_fail(struct log *log, int error)
{
	struct block_request *request;
	struct record_buffer *record;

	ASSERT(error < 0);
	if (log->failed == 0) {
		__atomic_store_n(&log->failed, error, __ATOMIC_RELAXED);
		log_error("vdisk",
			  "the log has failed; the vDisk takes no more writes until it is "
			  "opened again",
			  "vdisk=%" PRIu64 " error=%d", log->vdisk->row.id, error);
	}
	/* Requests that are cut in part first: they complete with their last record, off this list.
	 */
	LIST_FOR_EACH (&log->pending, request, struct block_request, link) {
		struct vdisk_request *state = vdisk_request(request);

		list_remove(&request->link);
		state->error = log->failed;
		if (state->outstanding == 0)
			vdisk_write_acked(log->vdisk, request, state->error);
	}
	LIST_FOR_EACH (&log->in_flight, record, struct record_buffer, link)
		if (record->finished)
			settle_record(log, record, log->failed);
	LIST_FOR_EACH (&log->sync_waiters, request, struct block_request, link) {
		list_remove(&request->link);
		vdisk_finish(log->vdisk, request, log->failed);
	}
	log_reroute_continue(log);
	fiber_queue_wake_all(&log->settled);
}

static void acknowledge(struct log *log, struct record_buffer *record)
{
	ASSERT(record->lsn == log->acked_lsn + 1);
	log->acked_lsn = record->lsn;
	record->group->acked_slots =
		record->slot + 1 + record_payload_blocks(record_buffer_header(record));
	vdisk_apply_record(log->vdisk, record_buffer_header(record), record->group->group->id,
			   record->slot);
	settle_record(log, record, 0);
}

/* Acknowledges what has become the finished head of the list. */
static void advance(struct log *log)
{
	struct list_node *node;

	while ((node = list_front(&log->in_flight))) {
		struct record_buffer *record = LIST_ENTRY(node, struct record_buffer, link);

		if (!record->finished)
			return;
		if (record->result < 0) {
			log_reroute(log);
			return;
		}
		acknowledge(log, record);
	}
}

static void finish_record(struct record_buffer *record, int result)
{
	struct log *log = record->log;

	record->finished = true;
	record->result = result;
	if (result == 0)
		record->group->written++;
	if (log->failed) {
		settle_record(log, record, log->failed);
	} else if (!log->rerouting) {
		advance(log);
	}
	log_reroute_continue(log);
	fiber_queue_wake_all(&log->settled);
	log_kick(log);
}

/* The kernel has it no more. */
static void orphan_released(struct pool_write *write)
{
	struct record_buffer *orphan = CONTAINER_OF(write, struct record_buffer, write);
	struct vdisk_cache *cache = orphan->cache;

	cache_record_back(cache, orphan);
}

/* The disk of one copy hangs and keeps the buffer; a copy of it goes on in its place. False: there
 * is no memory for one. */
static bool replace_record(struct record_buffer *held, struct record_buffer **ret_record)
{
	struct vdisk_cache *cache = held->log->vdisk->cache;
	struct record_buffer *record;
	size_t bytes =
		(1 + (size_t)record_payload_blocks(record_buffer_header(held))) * BLOCK_BYTES;

	if (!cache_lend_record(cache))
		return false;
	record = cache_take(&cache->records);
	REACHED("log.record-replaced");
	*record = *held;
	list_node_init(&record->link);
	list_insert_before(&held->link, &record->link);
	list_remove(&held->link);
	memcpy(record_buffer_header(record), record_buffer_header(held), bytes);
	held->cache = cache;
	held->write.released = orphan_released;
	*ret_record = record;
	return true;
}

/* Without a buffer to go on with, it waits for the disk after all. */
static void record_released(struct pool_write *write)
{
	finish_record(CONTAINER_OF(write, struct record_buffer, write),
		      write->result < 0 ? write->result : -ETIMEDOUT);
}

static void record_done(struct pool_write *write, int result)
{
	struct record_buffer *record = CONTAINER_OF(write, struct record_buffer, write);

	if (UNLIKELY(pool_write_is_held(write)) && !replace_record(record, &record))
		return;
	finish_record(record, result);
}

/* Gives the record its place at the end of the current group, and its identity, and writes it. */
void log_issue(struct log *log, struct record_buffer *record, bool reroute)
{
	struct record_header_disk *header = record_buffer_header(record);
	struct log_group *group = log->current;
	struct vdisk *vdisk = log->vdisk;
	uint32_t blocks = record_payload_blocks(header);
	struct record_seal seal;

	ASSERT(group->next_slot + 1 + blocks <= group->slots);
	record->group = group;
	record->slot = group->next_slot;
	record->finished = false;
	record->reroutes = reroute ? record->reroutes + 1 : 0;
	if (!reroute)
		record->lsn = log->next_lsn++;
	seal = (struct record_seal){
		.id = {.pool = vdisk->row.pool,
		       .vdisk = vdisk->row.id,
		       .group = group->group->id,
		       .slot = record->slot,
		       .stream = RECORD_STREAM_LOG},
		.epoch = vdisk->row.epoch,
		.lsn = record->lsn,
		.durable_lsn = log->durable_lsn,
		.prev_group = log->prev_group,
		.prev_slot = log->prev_slot,
		.file = group->group->file->id,
		.note = record->slot == 0 ? &vdisk->identity : NULL,
	};
	record_seal(header, &seal);
	log->prev_group = group->group->id;
	log->prev_slot = record->slot;
	group->next_slot += 1 + blocks;
	group->last_lsn = record->lsn;
	log->tail_bytes += (uint64_t)(1 + blocks) * BLOCK_BYTES;
	vdisk->stats.device_written_bytes += (uint64_t)(1 + blocks) * BLOCK_BYTES;
	record->iov = (struct iovec){header, (size_t)(1 + blocks) * BLOCK_BYTES};
	record->write.done = record_done;
	record->write.released = record_released;
	pool_file_write(egroup_file_handle(group->group->file), &record->iov, 1,
			(uint64_t)record->slot * BLOCK_BYTES, &record->write);
}

/* Copies up to `room` blocks of the request into the record. Returns how many; 0: header full. */
static uint32_t cut_data(struct record_buffer *record, struct block_request *request, uint32_t room)
{
	struct record_header_disk *header = record_buffer_header(record);
	struct vdisk_request *state = vdisk_request(request);
	uint32_t count = (uint32_t)MIN((uint64_t)room, state->end - state->cursor);
	char *to =
		record_buffer_payload(record) + (size_t)record_payload_blocks(header) * BLOCK_BYTES;
	uint64_t skip = state->cursor * BLOCK_BYTES - request->offset;

	if (!record_add(header, RECORD_EXTENT_DATA, state->cursor, count))
		return 0;
	iov_read(request->iov, skip, to, (size_t)count * BLOCK_BYTES);
	for (uint32_t i = 0; i < count; i++)
		record_add_block(header, crc32c(to + (size_t)i * BLOCK_BYTES, BLOCK_BYTES));
	state->cursor += count;
	return count;
}

static bool cut_zero(struct record_buffer *record, struct block_request *request)
{
	struct record_header_disk *header = record_buffer_header(record);
	struct vdisk_request *state = vdisk_request(request);

	while (state->cursor < state->end) {
		uint32_t count =
			(uint32_t)MIN(state->end - state->cursor, (uint64_t)UINT32_MAX / 2);

		if (!record_add(header, RECORD_EXTENT_ZERO, state->cursor, count))
			return false;
		state->cursor += count;
	}
	return true;
}

static bool is_data(const struct block_request *request)
{
	return request->op == BLOCK_WRITE || request->op == BLOCK_COMPARE_AND_WRITE;
}

void log_add(struct log *log, struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);
	struct vdisk *vdisk = log->vdisk;

	list_push_back(&log->pending, &request->link);
	if (is_data(request) && UNLIKELY(pattern_note(&vdisk->pattern, state->first, state->end))) {
		vdisk->store->sequential = vdisk->pattern.sequential;
		log_provision(log); /* for other tiers */
	}
	log_kick(log);
}

static void record_takes(struct record_buffer *record, struct block_request *request)
{
	record->requests[record->request_count++] = request;
	vdisk_request(request)->outstanding++;
}

/* Fills the record from the pending requests, at most `room` blocks of payload. */
static void cut(struct log *log, struct record_buffer *record, uint32_t room)
{
	struct record_header_disk *header = record_buffer_header(record);
	struct block_request *request =
		LIST_ENTRY(list_front(&log->pending), struct block_request, link);
	uint64_t first = vdisk_request(request)->end - vdisk_request(request)->cursor;
	bool alone = is_data(request) && first > LOG_CUT_BLOCKS;

	record->request_count = 0;
	record_begin(header);
	room = MIN(room, alone ? CACHE_RECORD_BLOCKS : LOG_CUT_BLOCKS);
	while (!list_is_empty(&log->pending)) {
		struct vdisk_request *state;

		request = LIST_ENTRY(list_front(&log->pending), struct block_request, link);
		state = vdisk_request(request);
		/* Extents that continue each other merge: many requests may share one. */
		if (record_extent_count(header) == RECORD_EXTENTS_MAX ||
		    record->request_count == ARRAY_SIZE(record->requests))
			return;
		if (is_data(request)) {
			uint32_t left = room - record_payload_blocks(header);

			if (left == 0 || cut_data(record, request, left) == 0)
				return;
		} else {
			cut_zero(record, request);
		}
		record_takes(record, request);
		if (state->cursor < state->end)
			return;
		list_remove(&request->link);
		if (alone)
			return;
	}
}

/* Payload blocks that fit into the current group, or -1: not even a header, or it gets no more. */
static int64_t room_in(const struct log_group *group)
{
	if (!group || group->retired || UNLIKELY(!egroup_file_is_whole(group->group->file)))
		return -1;
	return (int64_t)group->slots - group->next_slot - 1;
}

/* The same for the next record: none where only records without payload may go. */
static uint32_t data_room(const struct log *log)
{
	return log_group_takes_data(log, log->current) ? (uint32_t)room_in(log->current) : 0;
}

/* A group in which the first pending request can go on; false: one is being made. */
static bool find_room(struct log *log)
{
	struct block_request *request =
		LIST_ENTRY(list_front(&log->pending), struct block_request, link);
	int64_t need = is_data(request) ? 1 : 0;

	if (room_in(log->current) >= need && (!need || log_group_takes_data(log, log->current)))
		return true;
	if (log->ready && (!need || log_group_takes_data(log, log->ready))) {
		/* Recovery goes by the ids: what stood in an older group would be lost. */
		ASSERT(!log->current || log->ready->group->id > log->current->group->id);
		log->current = TAKE_PTR(log->ready);
		log->ready_renewed = false;
		list_push_back(&log->groups, &log->current->link);
		log->next_group_bytes =
			MIN(log->next_group_bytes * 2, pool_group_bytes(log->vdisk->pool));
		log_provision(log);
		return room_in(log->current) >= need; /* a copy may have been lost since */
	}
	log_provision(log);
	return false;
}

static struct record_buffer *take_record(struct log *log)
{
	struct vdisk_cache *cache = log->vdisk->cache;
	struct record_buffer *record;

	if (!cache_reserve(cache)) {
		vdisk_tick_soon(log->vdisk);
		return NULL;
	}
	record = cache_take(&cache->records);
	if (record) {
		list_node_init(&record->link);
		record->log = log;
		return record;
	}
	REACHED("log.no-record-buffer");
	cache_wait_for_record(cache, &log->waiter);
	return NULL;
}

static void pump_hook(struct reactor_hook *hook)
{
	struct log *log = CONTAINER_OF(hook, struct log, hook);
	struct record_buffer *record;

	while (!list_is_empty(&log->pending) && log->in_flight_count < LOG_IN_FLIGHT_MAX &&
	       !log->rerouting) {
		if (log->failed) {
			log_fail(log, log->failed);
			return;
		}
		if (vdisk_must_checkpoint(log->vdisk) || !find_room(log))
			return;
		record = take_record(log);
		if (!record)
			return;
		cut(log, record, data_room(log));
		list_push_back(&log->in_flight, &record->link);
		log->in_flight_count++;
		log_issue(log, record, false);
		/* The disk works on it while the next is copied; and the kernel merges what is
		 * handed over together into one request, which then completes as one. */
		if (record_payload_blocks(record_buffer_header(record)) >= LOG_CUT_BLOCKS)
			log->vdisk->world->ops->port_submit(reactor_port(log->vdisk->reactor));
	}
}

void log_position(const struct log *log, uint64_t lsn, uint64_t *ret_group, uint32_t *ret_slot)
{
	struct record_buffer *record;

	LIST_FOR_EACH (&log->in_flight, record, struct record_buffer, link)
		if (record->lsn == lsn) {
			*ret_group = record->group->group->id;
			*ret_slot = record->slot;
			return;
		}
	if (log->current) {
		*ret_group = log->current->group->id;
		*ret_slot = log->current->next_slot;
		return;
	}
	/* Nothing written since a start, or everything closed: any group made later is newer. */
	*ret_group = log->prev_group;
	*ret_slot = log->prev_group ? SLOTS_PER_GROUP : 0;
}

void log_drain(struct log *log)
{
	while (!list_is_empty(&log->pending) || !list_is_empty(&log->in_flight) ||
	       log->provisioning || log->rerouting || log->syncing)
		fiber_queue_wait(&log->settled);
}
