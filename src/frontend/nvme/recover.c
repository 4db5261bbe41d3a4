/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a new engine does with the state that the one before it left (rules 4 and 5), and what a
 * reset forgets.
 *
 * A slot tells all: COMPLETING at or beyond its queue's tail is posted again byte for byte, below
 * it was posted; FETCHED below the queue's command_count is executed again, beyond it was never
 * taken. COMPARED is a write whose compare has succeeded: those go first, before anything can
 * change what was compared; then writes to shared namespaces, before anybody can see what a dead
 * engine may have written of them (rule 10). Nothing is inferred from the guest's memory, save one
 * doorbell: an entry that was being posted (`posting`) may have been taken by the guest although
 * tail had not moved.
 */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>
#include <string.h>

#include "base/reached.h"

static bool recover_check_queues(const struct vfu_shared *shared)
{
	for (unsigned i = 0; i < VFU_QUEUE_COUNT; i++) {
		const struct vfu_sq *sq = &shared->sqs[i];
		const struct vfu_cq *cq = &shared->cqs[i];

		if (sq->state > VFU_QUEUE_DELETING || cq->state > VFU_QUEUE_LIVE)
			return false;
		if (cq->state && (cq->depth < 2 || cq->vector >= VFU_VECTOR_COUNT))
			return false;
		if (sq->state &&
		    (sq->depth < 2 || sq->cqid >= VFU_QUEUE_COUNT || !shared->cqs[sq->cqid].state))
			return false;
	}
	return true;
}

static bool recover_check_slots(const struct vfu_shared *shared)
{
	for (unsigned i = 0; i < VFU_SLOT_COUNT; i++) {
		const struct vfu_slot *slot = &shared->slots[i];

		if (slot->state > VFU_SLOT_COMPLETING || slot->sqid >= VFU_QUEUE_COUNT ||
		    slot->cqid >= VFU_QUEUE_COUNT)
			return false;
	}
	return true;
}

int nvme_recover_check(const struct vfu_shared *shared)
{
	if (shared->magic != VFU_SHARED_MAGIC || shared->version != VFU_SHARED_VERSION ||
	    shared->bytes != sizeof(*shared))
		return -EPROTO;
	if (shared->admin.notice_count > ARRAY_SIZE(shared->admin.notices))
		return -EUCLEAN;
	if (!recover_check_queues(shared) || !recover_check_slots(shared))
		return -EUCLEAN;
	return 0;
}

/* Is the slot's content still of concern? */
static bool recover_matters(const struct nvme_controller *controller, const struct vfu_slot *slot)
{
	const struct vfu_sq *sq = &controller->shared->sqs[slot->sqid];
	const struct vfu_cq *cq = &controller->shared->cqs[slot->cqid];

	switch (slot->state) {
	case VFU_SLOT_COMPLETING:
		return cq->state && slot->cq_position >= cq->tail;
	case VFU_SLOT_FETCHED:
	case VFU_SLOT_COMPARED:
		return sq->state && sq->cqid == slot->cqid && slot->sequence < sq->command_count;
	default:
		return false;
	}
}

/* By kind, queue, and place in it; the admin queue is last, because its commands may delete
 * others. */
static int recover_compare(const void *left, const void *right, void *context)
{
	const struct vfu_slot *slots = context;
	const struct vfu_slot *a = &slots[*(const uint16_t *)left];
	const struct vfu_slot *b = &slots[*(const uint16_t *)right];
	bool a_ends = a->state == VFU_SLOT_COMPLETING, b_ends = b->state == VFU_SLOT_COMPLETING;
	uint64_t a_key = a_ends ? a->cq_position : a->sequence;
	uint64_t b_key = b_ends ? b->cq_position : b->sequence;
	int queue = a_ends ? (int)a->cqid - (int)b->cqid
			   : (int)(uint16_t)(a->sqid - 1) - (int)(uint16_t)(b->sqid - 1);

	if (a_ends != b_ends)
		return a_ends ? -1 : 1;
	if (queue == 0)
		queue = (a_key > b_key) - (a_key < b_key);
	return queue;
}

/* Leaves the slots that matter in controller->recover, in order; the others are free. */
static void recover_sort(struct nvme_controller *controller)
{
	struct vfu_slot *slots = controller->shared->slots;

	controller->recover_count = controller->free_slot_count = 0;
	for (unsigned i = VFU_SLOT_COUNT; i-- > 0;) {
		if (recover_matters(controller, &slots[i])) {
			controller->recover[controller->recover_count++] = (uint16_t)i;
			continue;
		}
		vfu_store(&slots[i].state, VFU_SLOT_FREE);
		controller->free_slots[controller->free_slot_count++] = (uint16_t)i;
	}
	qsort_r(controller->recover, controller->recover_count, sizeof(controller->recover[0]),
		recover_compare, slots);
}

static struct nvme_command *recover_command(struct nvme_controller *controller, uint16_t index)
{
	struct nvme_command *command = nvme_command_in(controller, index);

	command->sq = &controller->sqs[command->slot->sqid];
	command->recovered = true;
	return command;
}

/* Takes the completions off the front of controller->recover. */
static void recover_completions(struct nvme_controller *controller)
{
	unsigned count = 0;

	while (count < controller->recover_count) {
		uint16_t index = controller->recover[count];
		const struct vfu_slot *slot = &controller->shared->slots[index];

		if (slot->state != VFU_SLOT_COMPLETING)
			break;
		REACHED("nvme.recover-completion");
		nvme_queue_hold(&controller->cqs[slot->cqid], recover_command(controller, index));
		count++;
	}
	controller->recover_count -= count;
	memmove(controller->recover, controller->recover + count,
		controller->recover_count * sizeof(controller->recover[0]));
}

static void recover_queues(struct nvme_controller *controller)
{
	for (uint16_t i = 0; i < VFU_QUEUE_COUNT; i++)
		if (controller->shared->cqs[i].state)
			nvme_queue_open_cq(controller, i);
	for (uint16_t i = 0; i < VFU_QUEUE_COUNT; i++)
		if (controller->shared->sqs[i].state)
			nvme_queue_open_sq(controller, i);
}

/* Does it change what a shared namespace holds? */
static bool recover_is_shared_write(const struct nvme_controller *controller,
				    const struct vfu_slot *slot)
{
	const struct nvme_sqe *sqe = (const struct nvme_sqe *)slot->sqe;
	const struct nvme_ns *ns = nvme_namespace_get(controller, sqe->nsid);

	if (slot->sqid == 0 || !ns || !ns->options.shared)
		return false;
	return sqe->flags & 3 || sqe->opcode == nvme_cmd_write ||
	       sqe->opcode == nvme_cmd_write_zeroes || sqe->opcode == nvme_cmd_dsm ||
	       sqe->opcode == nvme_cmd_copy;
}

static bool recover_is_stale(const struct nvme_controller *controller, const struct vfu_slot *slot)
{
	const struct nvme_sqe *sqe = (const struct nvme_sqe *)slot->sqe;

	return recover_is_shared_write(controller, slot) &&
	       nvme_namespace_get(controller, sqe->nsid)->options.stale;
}

static void recover_begin(struct nvme_controller *controller, uint16_t index)
{
	struct nvme_command *command = recover_command(controller, index);
	struct vfu_slot *slot = command->slot;

	slot->attempts++;
	command->redo_write = slot->state == VFU_SLOT_COMPARED;
	command->stale = recover_is_stale(controller, slot);
	if (command->redo_write)
		REACHED("nvme.recover-compared");
	else
		REACHED("nvme.recover-fetched");
	nvme_command_begin(command);
}

static bool recover_is_first_of(const struct nvme_controller *controller, unsigned at)
{
	const struct vfu_slot *slots = controller->shared->slots;
	const struct vfu_slot *first, *second;

	if (at + 1 >= controller->recover_count)
		return false;
	first = &slots[controller->recover[at]];
	second = &slots[controller->recover[at + 1]];
	return second->state == VFU_SLOT_COMPARED && second->sqid == first->sqid &&
	       second->sequence == first->sequence + 1;
}

/* Begins the writes whose compare has succeeded, with the compares that belong to them, and
 * keeps the others. */
static void recover_compared(struct nvme_controller *controller)
{
	unsigned kept = 0, count = controller->recover_count;
	uint16_t later[VFU_SLOT_COUNT];

	controller->recovering = true;
	controller->innocents_begun = false;
	controller->redone = 0;
	for (unsigned i = 0; i < count; i++) {
		uint16_t index = controller->recover[i];
		struct vfu_slot *slot = &controller->shared->slots[index];

		/* It cannot wait until the others have ended, so it is suspect after more deaths.
		 */
		if (slot->state == VFU_SLOT_COMPARED && slot->attempts >= 2 * NVME_ENGINES_MAX)
			slot->alone++;
		if (slot->state == VFU_SLOT_COMPARED || recover_is_first_of(controller, i))
			recover_begin(controller, index);
		else
			later[kept++] = index;
	}
	memcpy(controller->recover, later, kept * sizeof(later[0]));
	controller->recover_count = kept;
}

static bool recover_is_first(const struct vfu_slot *slot)
{
	return ((const struct nvme_sqe *)slot->sqe)->flags & NVME_FUSED_FIRST;
}

/* Are the entries at `at` and behind it the two halves of a fused operation? */
static bool recover_is_pair(const struct nvme_controller *controller, unsigned at)
{
	const struct vfu_slot *slots = controller->shared->slots, *first, *second;

	if (at + 1 >= controller->recover_count)
		return false;
	first = &slots[controller->recover[at]];
	second = &slots[controller->recover[at + 1]];
	return second->sqid == first->sqid && second->sequence == first->sequence + 1 &&
	       recover_is_first(first);
}

/* Three engines ended while it, or its other half, ran: it, or one that ran beside it, may be
 * why. A first half whose second was not taken yet must not come before those that were taken
 * before it, so it waits with the suspects. */
static bool recover_is_suspect(const struct nvme_controller *controller, unsigned at)
{
	const struct vfu_slot *slots = controller->shared->slots;
	const uint16_t *recover = controller->recover;
	uint32_t attempts = slots[recover[at]].attempts;

	if (recover_is_pair(controller, at))
		attempts = MAX(attempts, slots[recover[at + 1]].attempts);
	else if (recover_is_first(&slots[recover[at]]))
		return true;
	if (at > 0 && recover_is_pair(controller, at - 1))
		attempts = MAX(attempts, slots[recover[at - 1]].attempts);
	return attempts >= NVME_ENGINES_MAX;
}

/* Is the entry to be begun in the present step? Fused pairs are not plain writes: what they compare
 * with must be in place first. */
static bool recover_belongs(const struct nvme_controller *controller, unsigned at)
{
	const struct vfu_slot *slot = &controller->shared->slots[controller->recover[at]];
	const struct nvme_sqe *sqe = (const struct nvme_sqe *)slot->sqe;

	return controller->redone == NVME_REDO_STEPS ||
	       (!(sqe->flags & 3) && recover_is_shared_write(controller, slot));
}

/* Those of this step but the suspects, which stay in controller->recover. */
static void recover_innocents(struct nvme_controller *controller)
{
	uint16_t begin[VFU_SLOT_COUNT], keep[VFU_SLOT_COUNT];
	unsigned begin_count = 0, kept = 0;

	for (unsigned i = 0; i < controller->recover_count; i++) {
		if (recover_belongs(controller, i) && !recover_is_suspect(controller, i))
			begin[begin_count++] = controller->recover[i];
		else
			keep[kept++] = controller->recover[i];
	}
	memcpy(controller->recover, keep, kept * sizeof(keep[0]));
	controller->recover_count = kept;
	for (unsigned i = 0; i < begin_count && controller->phase == NVME_SERVING; i++)
		recover_begin(controller, begin[i]);
}

/* One alone, before new commands come: if an engine ends now, it is known which one did it. False:
 * there is none left in this step. */
static bool recover_suspect(struct nvme_controller *controller)
{
	unsigned at = 0;
	uint16_t index;

	while (at < controller->recover_count && !recover_belongs(controller, at))
		at++;
	if (at == controller->recover_count)
		return false;
	REACHED("nvme.recover-suspect");
	index = controller->recover[at];
	controller->recover_count--;
	memmove(controller->recover + at, controller->recover + at + 1,
		(controller->recover_count - at) * sizeof(controller->recover[0]));
	controller->shared->slots[index].alone++;
	recover_begin(controller, index);
	return true;
}

/* True when a suspect is in flight. One that waits for its other half is not, so that comes at
 * once. */
static bool recover_suspects(struct nvme_controller *controller)
{
	bool begun = false;

	while (controller->in_flight == 0 && controller->phase == NVME_SERVING &&
	       recover_suspect(controller))
		begun = true;
	return begun && controller->in_flight > 0;
}

static void recover_begin_step(struct nvme_controller *controller)
{
	if (controller->innocents_begun)
		return;
	controller->innocents_begun = true;
	recover_innocents(controller);
}

static void recover_end_step(struct nvme_controller *controller)
{
	controller->redone++;
	controller->innocents_begun = false;
}

/* Called while `recovering`, whenever nothing is in flight. */
void nvme_recover_more(struct nvme_controller *controller)
{
	if (controller->redone == 0)
		recover_end_step(controller);
	if (controller->gate < 1)
		return;
	if (controller->redone == 1) {
		recover_begin_step(controller);
		if (recover_suspects(controller) || controller->in_flight > 0)
			return;
		recover_end_step(controller);
	}
	if (controller->gate < NVME_REDO_STEPS)
		return;
	recover_begin_step(controller);
	if (recover_suspects(controller) || controller->recover_count > 0)
		return;
	controller->recovering = false;
	nvme_point(controller, NVME_POINT_RECOVERED);
	reactor_poller_wake(controller->home, &controller->poller);
}

void nvme_recover(struct nvme_controller *controller)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	if (admin->generation == 0)
		reactor_world(controller->home)
			->ops->random(reactor_world(controller->home), &admin->generation,
				      sizeof(admin->generation));
	if (nvme_controller_reset_pending(controller))
		return; /* it forgets all the rest */
	recover_queues(controller);
	recover_sort(controller);
	nvme_event_forget(controller);
	recover_completions(controller);
	controller->stats.ready = NVME_CSTS_RDY(controller->shared->registers.csts);
	if (controller->stats.ready) {
		nvme_queue_recover_posting(controller);
		nvme_queue_flush_all(controller);
		nvme_interrupt_all(controller);
		nvme_queue_set_events(controller, false);
	}
	recover_compared(controller);
}

void nvme_recover_forget(struct nvme_controller *controller)
{
	struct vfu_shared *shared = controller->shared;
	uint64_t generation = shared->admin.generation;

	for (unsigned i = 0; i < VFU_QUEUE_COUNT; i++)
		nvme_queue_drop_held(&controller->cqs[i]);
	memset(shared->sqs, 0, sizeof(shared->sqs));
	memset(shared->cqs, 0, sizeof(shared->cqs));
	memset(&shared->admin, 0, sizeof(shared->admin));
	shared->admin.generation = generation + 1;
	nvme_queue_init(controller);
	recover_sort(controller); /* without queues no slot matters */
	controller->recovering = false;
	controller->redone = NVME_REDO_STEPS;
	controller->recover_count = 0;
	controller->starved = false;
}
