/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Keep Alive Timer (NVMe 2.0, 3.9): once the host has set one, a controller that hears no Keep
 * Alive for so long takes no further command and reports a fatal status. Commands that are in
 * flight run to their end; the host's way out is a reset.
 *
 * It counts the time of an engine that serves: while there is none, or recovery waits for others,
 * the host is not at fault, and a new engine begins with a whole interval.
 */
#include "frontend/nvme/nvme_priv.h"

#include "base/reached.h"

static uint64_t keep_alive_ns(const struct nvme_controller *controller)
{
	uint64_t ms = controller->shared->admin.features[NVME_FEAT_FID_KATO];

	return ALIGN_UP(ms, (uint64_t)NVME_KEEP_ALIVE_MS) * NSEC_PER_MSEC;
}

void nvme_keep_alive_restart(struct nvme_controller *controller)
{
	const struct vfu_registers *registers = &controller->shared->registers;
	uint64_t ns = keep_alive_ns(controller);

	nvme_keep_alive_stop(controller);
	if (ns > 0 && NVME_CSTS_RDY(registers->csts) && !NVME_CSTS_SHST(registers->csts) &&
	    controller->phase == NVME_SERVING)
		reactor_timer_arm(controller->home, &controller->keep_alive,
				  reactor_now_ns(controller->home) + ns);
}

void nvme_keep_alive_stop(struct nvme_controller *controller)
{
	reactor_timer_cancel(controller->home, &controller->keep_alive);
	controller->kept_alive = true;
}

void nvme_keep_alive_run(struct reactor_timer *timer)
{
	struct nvme_controller *controller =
		CONTAINER_OF(timer, struct nvme_controller, keep_alive);

	if (nvme_recover_holds(controller)) {
		nvme_keep_alive_restart(controller);
		return;
	}
	/* It may have come, and we have not looked. */
	controller->kept_alive = false;
	(void)nvme_queue_poll(controller);
	if (controller->kept_alive)
		return;
	REACHED("nvme.keep-alive-expired");
	nvme_controller_fail(controller, "its Keep Alive Timer has run out");
}
