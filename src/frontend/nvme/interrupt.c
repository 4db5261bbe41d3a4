/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts: one a turn and vector at most, at the turn's end; fewer when the guest asks for
 * coalescing (NVME_FEAT_FID_IRQ_COALESCE: at least so many completions, or so much time).
 */
#include "frontend/nvme/nvme_priv.h"

#define COALESCE_UNIT_NS     (100 * NSEC_PER_USEC) /* of the aggregation time */
#define VECTOR_NOT_COALESCED 0x10000u

static void interrupt_signal(struct nvme_controller *controller, unsigned vector)
{
	controller->interrupts.waiting[vector] = 0;
	if (!vfu_load(&controller->shared->msix_enabled)) {
		if (vfu_load(&controller->shared->registers.intm) & 1)
			return;
		vector = 0;
	}
	controller->stats.interrupts++;
	controller->host->interrupt(controller->host_context, vector);
}

static void interrupt_run_hook(struct reactor_hook *hook)
{
	struct nvme_interrupts *interrupts = CONTAINER_OF(hook, struct nvme_interrupts, hook);
	struct nvme_controller *controller =
		CONTAINER_OF(interrupts, struct nvme_controller, interrupts);

	for (unsigned i = 0; i < ARRAY_SIZE(interrupts->pending); i++) {
		uint64_t pending = interrupts->pending[i];

		interrupts->pending[i] = 0;
		for (; pending; pending &= pending - 1)
			interrupt_signal(controller, 64 * i + (unsigned)__builtin_ctzll(pending));
	}
}

static void interrupt_run_timer(struct reactor_timer *timer)
{
	struct nvme_interrupts *interrupts = CONTAINER_OF(timer, struct nvme_interrupts, timer);
	struct nvme_controller *controller =
		CONTAINER_OF(interrupts, struct nvme_controller, interrupts);

	for (unsigned vector = 0; vector < VFU_VECTOR_COUNT; vector++)
		if (interrupts->waiting[vector] > 0)
			interrupt_signal(controller, vector);
}

/* True when the vector is to wait for more completions. */
static bool interrupt_coalesces(struct nvme_controller *controller, const struct nvme_cq *cq)
{
	struct nvme_interrupts *interrupts = &controller->interrupts;
	uint32_t coalesce = controller->shared->admin.features[NVME_FEAT_FID_IRQ_COALESCE];
	uint32_t threshold = (coalesce & 0xff) + 1, time = coalesce >> 8 & 0xff;
	uint16_t vector = cq->shared->vector;

	if (LIKELY(time == 0 || threshold == 1) || cq->id == 0 ||
	    nvme_feature_vector_is_direct(controller, vector))
		return false;
	if (++interrupts->waiting[vector] >= threshold)
		return false;
	if (!interrupts->timer.armed)
		reactor_timer_arm(controller->home, &interrupts->timer,
				  reactor_turn_ns(controller->home) + time * COALESCE_UNIT_NS);
	return true;
}

void nvme_interrupt_posted(struct nvme_controller *controller, const struct nvme_cq *cq)
{
	struct nvme_interrupts *interrupts = &controller->interrupts;
	uint16_t vector = cq->shared->vector;

	if (!cq->shared->interrupts || interrupt_coalesces(controller, cq))
		return;
	interrupts->pending[vector / 64] |= UINT64_C(1) << vector % 64;
	reactor_hook_arm(controller->home, &interrupts->hook);
}

void nvme_interrupt_all(struct nvme_controller *controller)
{
	for (unsigned i = 0; i < VFU_QUEUE_COUNT; i++) {
		const struct vfu_cq *cq = controller->cqs[i].shared;

		if (cq->state && cq->interrupts)
			controller->interrupts.pending[cq->vector / 64] |= UINT64_C(1)
									   << cq->vector % 64;
	}
	reactor_hook_arm(controller->home, &controller->interrupts.hook);
}

void nvme_interrupt_level(struct nvme_controller *controller)
{
	if (!vfu_load(&controller->shared->msix_enabled) && nvme_queue_has_unseen(controller))
		interrupt_signal(controller, 0);
}

void nvme_interrupt_init(struct nvme_controller *controller)
{
	controller->interrupts = (struct nvme_interrupts){.timer.run = interrupt_run_timer};
	reactor_hook_init(&controller->interrupts.hook, interrupt_run_hook);
}

void nvme_interrupt_done(struct nvme_controller *controller)
{
	interrupt_run_hook(&controller->interrupts.hook);
	reactor_hook_disarm(&controller->interrupts.hook);
	reactor_timer_cancel(controller->home, &controller->interrupts.timer);
}
