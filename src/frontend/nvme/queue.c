/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues in the guest's memory: commands are taken from submission queues into slots, completions
 * are posted to completion queues.
 *
 * Invariants
 *  1. A command is copied once, into a slot that is FETCHED, before command_count moves past it:
 *     that is the commit point. Nothing is read from the entry again (rule 2).
 *  2. A completion gets its position and is recorded in its slot (COMPLETING) before it is written
 *     to the guest; the dword with the phase is written last; then `tail` moves, then the slot is
 *     free (rule 3). `posting` names the position before it is written, so that a new engine knows
 *     whether the guest may have taken the entry already.
 *  3. Completions of one queue are posted in order of position: shared->tail, then those in `held`.
 *  4. A completion is posted only when the queue's memory is mapped and the guest's head leaves
 *     room.
 *
 * Doorbells are hostile: a value that cannot be is reported once by an event and ignored.
 */
#include "frontend/nvme/nvme_priv.h"

#include <string.h>

#include "base/reached.h"

#define NO_VALUE UINT64_MAX /* no doorbell holds it */

static const unsigned char *queue_sq_memory(struct nvme_controller *controller,
					    const struct vfu_sq *sq)
{
	return guest_span(&controller->guest, sq->base, sq->depth * sizeof(struct nvme_sqe),
			  VFU_MAP_READ);
}

static unsigned char *queue_cq_memory(struct nvme_controller *controller, const struct vfu_cq *cq)
{
	return guest_span(&controller->guest, cq->base, cq->depth * sizeof(struct nvme_cqe),
			  VFU_MAP_WRITE);
}

void nvme_queue_init(struct nvme_controller *controller)
{
	list_init(&controller->live);
	for (unsigned i = 0; i < VFU_QUEUE_COUNT; i++) {
		struct nvme_sq *sq = &controller->sqs[i];
		struct nvme_cq *cq = &controller->cqs[i];

		*sq = (struct nvme_sq){.shared = &controller->shared->sqs[i], .id = (uint16_t)i};
		*cq = (struct nvme_cq){.shared = &controller->shared->cqs[i], .id = (uint16_t)i};
		list_node_init(&sq->link);
		list_init(&cq->held);
	}
}

/* Where doorbells are read: of I/O queues in the guest's memory once it has configured that. */
static void queue_find_doorbells(struct nvme_controller *controller, uint16_t id)
{
	const struct vfu_admin_state *admin = &controller->shared->admin;
	struct nvme_sq *sq = &controller->sqs[id];
	struct nvme_cq *cq = &controller->cqs[id];
	uint32_t *shadow = NULL, *events = NULL;

	if (id > 0 && admin->shadow_doorbells) {
		shadow = (uint32_t *)guest_span(&controller->guest, admin->shadow_doorbells,
						VFU_PAGE_BYTES, VFU_MAP_READ | VFU_MAP_WRITE);
		events = (uint32_t *)guest_span(&controller->guest, admin->event_indexes,
						VFU_PAGE_BYTES, VFU_MAP_READ | VFU_MAP_WRITE);
	}
	if (!shadow || !events) {
		sq->tail = &controller->doorbells->queues[id].sq_tail;
		cq->head_doorbell = &controller->doorbells->queues[id].cq_head;
		sq->event_index = cq->event_index = NULL;
		return;
	}
	sq->tail = &shadow[2 * id];
	cq->head_doorbell = &shadow[2 * id + 1];
	sq->event_index = &events[2 * id];
	cq->event_index = &events[2 * id + 1];
}

void nvme_queue_resolve(struct nvme_controller *controller)
{
	for (uint16_t i = 0; i < VFU_QUEUE_COUNT; i++) {
		struct nvme_sq *sq = &controller->sqs[i];
		struct nvme_cq *cq = &controller->cqs[i];

		sq->entries = sq->shared->state ? queue_sq_memory(controller, sq->shared) : NULL;
		cq->entries = cq->shared->state ? queue_cq_memory(controller, cq->shared) : NULL;
		queue_find_doorbells(controller, i);
	}
}

void nvme_queue_open_sq(struct nvme_controller *controller, uint16_t id)
{
	struct nvme_sq *sq = &controller->sqs[id];

	sq->cq = &controller->cqs[sq->shared->cqid];
	sq->cq->queues++;
	sq->head = (uint16_t)(sq->shared->command_count % sq->shared->depth);
	sq->bad_tail = NO_VALUE;
	sq->entries = queue_sq_memory(controller, sq->shared);
	queue_find_doorbells(controller, id);
	if (sq->shared->state == VFU_QUEUE_LIVE)
		list_push_back(&controller->live, &sq->link);
}

void nvme_queue_open_cq(struct nvme_controller *controller, uint16_t id)
{
	struct nvme_cq *cq = &controller->cqs[id];
	uint64_t tail = cq->shared->tail;

	cq->tail_index = (uint16_t)(tail % cq->shared->depth);
	cq->phase = tail / cq->shared->depth % 2 == 0;
	cq->next_position = tail;
	cq->bad_head = NO_VALUE;
	cq->entries = queue_cq_memory(controller, cq->shared);
	queue_find_doorbells(controller, id);
	cq->head = (uint16_t)vfu_load(cq->head_doorbell);
	if (cq->head >= cq->shared->depth)
		cq->head = cq->tail_index;
}

void nvme_queue_close_sq(struct nvme_controller *controller, uint16_t id)
{
	struct nvme_sq *sq = &controller->sqs[id];

	list_remove(&sq->link);
	if (sq->cq)
		sq->cq->queues--;
	sq->cq = NULL;
	sq->entries = NULL;
	vfu_store(&sq->shared->state, VFU_QUEUE_ABSENT);
}

void nvme_queue_close_cq(struct nvme_controller *controller, uint16_t id)
{
	struct nvme_cq *cq = &controller->cqs[id];

	nvme_queue_drop_held(cq);
	cq->entries = NULL;
	vfu_store(&cq->shared->state, VFU_QUEUE_ABSENT);
}

void nvme_queue_clear_doorbell(struct nvme_controller *controller, uint16_t id, bool completion)
{
	uint64_t address = controller->shared->admin.shadow_doorbells;
	uint32_t *shadow = address ? (uint32_t *)guest_span(&controller->guest, address,
							    VFU_PAGE_BYTES, VFU_MAP_WRITE)
				   : NULL;

	if (completion)
		vfu_store(&controller->doorbells->queues[id].cq_head, 0);
	else
		vfu_store(&controller->doorbells->queues[id].sq_tail, 0);
	if (shadow)
		vfu_store(&shadow[2 * id + completion], 0);
}

/* Copies each doorbell to where it will be read: the guest may have written some already. */
static void queue_move_doorbells(struct nvme_controller *controller)
{
	uint64_t address = controller->shared->admin.shadow_doorbells;
	uint32_t *shadow =
		(uint32_t *)guest_span(&controller->guest, address, VFU_PAGE_BYTES, VFU_MAP_WRITE);

	for (unsigned i = 1; shadow && i < VFU_QUEUE_COUNT; i++) {
		if (controller->sqs[i].shared->state)
			shadow[2 * i] = vfu_load(&controller->doorbells->queues[i].sq_tail);
		if (controller->cqs[i].shared->state)
			shadow[2 * i + 1] = vfu_load(&controller->doorbells->queues[i].cq_head);
	}
}

void nvme_queue_use_shadow(struct nvme_controller *controller)
{
	queue_move_doorbells(controller);
	nvme_queue_resolve(controller);
	nvme_queue_set_events(controller, false);
}

static void queue_set_event(uint32_t *event_index, uint32_t at, uint32_t depth, bool asleep)
{
	if (event_index)
		__atomic_store_n(event_index, asleep ? at : (at + depth - 1) % depth,
				 __ATOMIC_RELAXED);
}

/* Busy: the event index follows at a distance of up to a quarter of the queue. The guest reads it
 * with every doorbell, and would have to fetch its cache line for each command that moved it. */
static void queue_follow(struct nvme_sq *sq)
{
	uint32_t depth = sq->shared->depth;

	if ((sq->head + depth - sq->event_set) % depth <= depth / 4)
		return;
	queue_set_event(sq->event_index, sq->head, depth, false);
	sq->event_set = sq->head;
}

void nvme_queue_set_events(struct nvme_controller *controller, bool asleep)
{
	struct nvme_sq *sq;

	LIST_FOR_EACH (&controller->live, sq, struct nvme_sq, link) {
		struct nvme_cq *cq = sq->cq;

		queue_set_event(sq->event_index, sq->head, sq->shared->depth, asleep);
		sq->event_set = sq->head;
		queue_set_event(cq->event_index, cq->head, cq->shared->depth,
				asleep && !list_is_empty(&cq->held));
	}
	controller->asleep = asleep;
	vfu_store(&controller->shared->engine_asleep, asleep);
}

/* The guest's head, when it is one that can be. */
static void queue_read_head(struct nvme_controller *controller, struct nvme_cq *cq)
{
	uint32_t depth = cq->shared->depth, head = vfu_load(cq->head_doorbell);
	uint32_t used = (cq->tail_index + depth - cq->head) % depth;

	if (LIKELY(head < depth && (head + depth - cq->head) % depth <= used)) {
		cq->head = (uint16_t)head;
	} else if (head != cq->bad_head) {
		cq->bad_head = head;
		nvme_event_raise(controller, NVME_EVENT_DOORBELL_VALUE);
	}
}

static bool queue_has_room(struct nvme_controller *controller, struct nvme_cq *cq)
{
	uint32_t next = cq->tail_index + 1u == cq->shared->depth ? 0 : cq->tail_index + 1u;

	if (UNLIKELY(!cq->entries))
		return false;
	if (LIKELY(next != cq->head))
		return true;
	queue_read_head(controller, cq);
	return next != cq->head;
}

/* Rule 3: all but the phase, then the phase, then the tail. The slot is free afterwards. */
static void queue_post(struct nvme_controller *controller, struct nvme_cq *cq,
		       struct nvme_command *command)
{
	struct vfu_slot *slot = command->slot;
	unsigned char *entry = cq->entries + cq->tail_index * sizeof(struct nvme_cqe);
	uint64_t first;
	uint32_t second, last;

	memcpy(&first, slot->cqe, sizeof(first));
	memcpy(&second, slot->cqe + 8, sizeof(second));
	memcpy(&last, slot->cqe + 12, sizeof(last));
	vfu_store(&cq->shared->posting, (uint32_t)slot->cq_position + 1);
	nvme_point(controller, NVME_POINT_POSTING);
	memcpy(entry, &first, sizeof(first));
	memcpy(entry + 8, &second, sizeof(second));
	vfu_store((uint32_t *)(entry + 12), last);
	nvme_point(controller, NVME_POINT_POSTED);
	vfu_store(&cq->shared->tail, slot->cq_position + 1);
	nvme_point(controller, NVME_POINT_TAIL);
	if (++cq->tail_index == cq->shared->depth) {
		cq->tail_index = 0;
		cq->phase = !cq->phase;
	}
	nvme_command_free(command);
	nvme_interrupt_posted(controller, cq);
}

void nvme_queue_hold(struct nvme_cq *cq, struct nvme_command *command)
{
	list_push_back(&cq->held, &command->link);
	command->controller->held++;
	cq->next_position = command->slot->cq_position + 1;
}

void nvme_queue_drop_held(struct nvme_cq *cq)
{
	struct list_node *node;

	while ((node = list_pop_front(&cq->held))) {
		struct nvme_command *command = LIST_ENTRY(node, struct nvme_command, link);

		command->controller->held--;
		nvme_command_free(command);
	}
}

void nvme_queue_flush(struct nvme_controller *controller, struct nvme_cq *cq)
{
	while (!list_is_empty(&cq->held) && queue_has_room(controller, cq)) {
		struct list_node *node = list_pop_front(&cq->held);

		controller->held--;
		queue_post(controller, cq, LIST_ENTRY(node, struct nvme_command, link));
	}
}

void nvme_queue_recover_posting(struct nvme_controller *controller)
{
	for (unsigned i = 0; i < VFU_QUEUE_COUNT; i++) {
		struct nvme_cq *cq = &controller->cqs[i];
		struct nvme_command *command;
		uint32_t head;

		if (!cq->shared->state || list_is_empty(&cq->held) || !cq->entries)
			continue;
		command = LIST_ENTRY(list_front(&cq->held), struct nvme_command, link);
		head = vfu_load(cq->head_doorbell);
		if (command->slot->cq_position != cq->shared->tail ||
		    cq->shared->posting != (uint32_t)cq->shared->tail + 1 ||
		    head != (cq->tail_index + 1u) % cq->shared->depth)
			continue;
		/* There was room when it was begun, so the guest has taken all up to this one. */
		REACHED("nvme.recover-posting");
		cq->head = cq->tail_index;
		list_remove(&command->link);
		controller->held--;
		queue_post(controller, cq, command);
	}
}

void nvme_queue_flush_all(struct nvme_controller *controller)
{
	for (unsigned i = 0; controller->held > 0 && i < VFU_QUEUE_COUNT; i++)
		if (controller->cqs[i].shared->state && !list_is_empty(&controller->cqs[i].held))
			nvme_queue_flush(controller, &controller->cqs[i]);
}

void nvme_queue_complete(struct nvme_command *command, uint32_t result, uint16_t status)
{
	struct nvme_controller *controller = command->controller;
	struct vfu_slot *slot = command->slot;
	struct nvme_cq *cq = command->sq->cq;
	uint64_t position = cq->next_position++;
	bool phase = position / cq->shared->depth % 2 == 0;
	const struct nvme_cqe cqe = {
		.result = result,
		.sq_head = command->sq->head,
		.sqid = slot->sqid,
		.cid = nvme_sqe_of(command)->cid,
		.status = (uint16_t)(status << 1 | phase),
	};

	memcpy(slot->cqe, &cqe, sizeof(cqe));
	slot->cq_position = position;
	vfu_store(&slot->state, VFU_SLOT_COMPLETING);
	nvme_point(controller, NVME_POINT_COMPLETING);
	if (LIKELY(list_is_empty(&cq->held) && queue_has_room(controller, cq))) {
		queue_post(controller, cq, command);
		return;
	}
	REACHED("nvme.completion-held");
	list_push_back(&cq->held, &command->link);
	controller->held++;
	/* Before it sleeps (again) the guest is asked to tell when it has made room. */
	reactor_poller_wake(controller->home, &controller->poller);
}

bool nvme_queue_has_unseen(struct nvme_controller *controller)
{
	for (unsigned i = 0; i < VFU_QUEUE_COUNT; i++) {
		struct nvme_cq *cq = &controller->cqs[i];

		if (!cq->shared->state || !cq->shared->interrupts)
			continue;
		queue_read_head(controller, cq);
		if (cq->head != cq->tail_index)
			return true;
	}
	return false;
}

/* How many commands wait in the queue. */
static uint32_t queue_waiting(struct nvme_controller *controller, struct nvme_sq *sq)
{
	uint32_t tail = vfu_load(sq->tail), depth = sq->shared->depth;

	if (tail == sq->head)
		return 0;
	if (UNLIKELY(tail >= depth)) {
		if (tail != sq->bad_tail) {
			sq->bad_tail = tail;
			nvme_event_raise(controller, NVME_EVENT_DOORBELL_VALUE);
		}
		return 0;
	}
	return tail > sq->head ? tail - sq->head : tail + depth - sq->head;
}

static uint32_t queue_credit(const struct nvme_controller *controller, const struct nvme_sq *sq)
{
	unsigned slots = controller->free_slot_count;

	if (sq->id == 0)
		return slots;
	if (controller->bytes_in_flight >= controller->options.in_flight_bytes_max)
		return 0;
	return slots > NVME_ADMIN_SLOTS ? slots - NVME_ADMIN_SLOTS : 0;
}

/* Rule 2. */
static struct nvme_command *queue_fetch(struct nvme_controller *controller, struct nvme_sq *sq)
{
	struct nvme_command *command = nvme_command_take(controller);
	struct vfu_slot *slot = command->slot;
	uint64_t sequence = sq->shared->command_count;

	memcpy(slot->sqe, sq->entries + sq->head * sizeof(slot->sqe), sizeof(slot->sqe));
	slot->sqid = sq->id;
	slot->cqid = sq->cq->id;
	slot->sequence = sequence;
	slot->attempts = 1;
	slot->alone = 0;
	slot->note = 0;
	vfu_store(&slot->state, VFU_SLOT_FETCHED);
	nvme_point(controller, NVME_POINT_FETCHED);
	if (++sq->head == sq->shared->depth)
		sq->head = 0;
	vfu_store(&sq->shared->command_count, sequence + 1);
	nvme_point(controller, NVME_POINT_TAKEN);
	vfu_store(&sq->shared->fetched, sq->head);
	command->sq = sq;
	return command;
}

/* Takes at most a batch. Returns how many. */
static unsigned queue_poll_one(struct nvme_controller *controller, struct nvme_sq *sq)
{
	uint32_t waiting = queue_waiting(controller, sq);
	uint32_t count = MIN(waiting, NVME_FETCH_BATCH), i;

	if (count == 0)
		return 0;
	nvme_controller_settle(controller);
	if (UNLIKELY(!sq->entries))
		return 0;
	for (i = 0; i < count; i++) {
		if (i + 1 < count) /* the next entry is on its way while this one begins */
			__builtin_prefetch(sq->entries + (sq->head + 1u) * sizeof(struct nvme_sqe));
		if (queue_credit(controller, sq) == 0) {
			controller->starved = true;
			REACHED("nvme.starved");
			break;
		}
		nvme_command_begin(queue_fetch(controller, sq));
		/* A command may have deleted its queue or failed the controller. */
		if (sq->shared->state != VFU_QUEUE_LIVE || controller->phase != NVME_SERVING)
			return i + 1;
	}
	if (i > 0)
		queue_follow(sq);
	return i;
}

bool nvme_queue_poll(struct nvme_controller *controller)
{
	struct list_node *first = list_front(&controller->live);
	unsigned found = 0, count = (unsigned)list_count(&controller->live);

	if (!first || controller->phase != NVME_SERVING || nvme_recover_holds(controller))
		return false;
	controller->starved = false;
	/* The queue that was first is last the next time. */
	for (unsigned i = 0; i < count && controller->phase == NVME_SERVING; i++) {
		struct list_node *node = list_pop_front(&controller->live);

		if (!node)
			break;
		list_push_back(&controller->live, node);
		found += queue_poll_one(controller, LIST_ENTRY(node, struct nvme_sq, link));
	}
	first = list_pop_front(&controller->live);
	if (first)
		list_push_back(&controller->live, first);
	return found > 0;
}

bool nvme_queue_is_empty(struct nvme_controller *controller)
{
	struct nvme_sq *sq;

	LIST_FOR_EACH (&controller->live, sq, struct nvme_sq, link)
		if (sq->entries && queue_credit(controller, sq) > 0 &&
		    queue_waiting(controller, sq) > 0)
			return false;
	for (unsigned i = 0; controller->held > 0 && i < VFU_QUEUE_COUNT; i++) {
		struct nvme_cq *cq = &controller->cqs[i];

		if (cq->shared->state && !list_is_empty(&cq->held) &&
		    queue_has_room(controller, cq))
			return false;
	}
	return true;
}
