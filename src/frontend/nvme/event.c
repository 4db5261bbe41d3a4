/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asynchronous events (NVMe 1.4, 5.2). An event is pending until a request of the guest takes it;
 * then its type is masked until the guest has read the log page that goes with it.
 *
 * The state is in shared->admin, so it outlives the engine. A crash between the completion and the
 * change of that state tells the same event twice, which does no harm. So that none is masked for
 * ever, its type is unmasked before the completion of what reads the log page is recorded.
 */
#include "frontend/nvme/nvme_priv.h"

#include "base/reached.h"

struct event_kind {
	uint8_t type, info, log_id;
	uint32_t config; /* bit of NVME_FEAT_FID_ASYNC_EVENT; 0 = always told */
};

static const struct event_kind event_kinds[NVME_EVENT_COUNT] = {
	[NVME_EVENT_DOORBELL_REGISTER] = {NVME_AER_ERROR, NVME_AER_ERROR_INVALID_DB_REG,
					  NVME_LOG_LID_ERROR, 0},
	[NVME_EVENT_DOORBELL_VALUE] = {NVME_AER_ERROR, NVME_AER_ERROR_INVALID_DB_VAL,
				       NVME_LOG_LID_ERROR, 0},
	[NVME_EVENT_NAMESPACES] = {NVME_AER_NOTICE, NVME_AER_NOTICE_NS_CHANGED,
				   NVME_LOG_LID_CHANGED_NS,
				   NVME_FEATURE_AENCFG_NOTICE_NAMESPACE_ATTRIBUTES},
	[NVME_EVENT_RESERVATION] = {NVME_AER_CSS, NVME_AER_CSS_NVM_RESERVATION,
				    NVME_LOG_LID_RESERVATION, 0},
};

static void event_deliver(struct nvme_controller *controller)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	for (unsigned i = 0; i < NVME_EVENT_COUNT && admin->aer_count > 0; i++) {
		const struct event_kind *kind = &event_kinds[i];
		struct nvme_command *command;

		if (!(admin->events_pending & 1u << i) || admin->event_mask & 1u << kind->type)
			continue;
		command = &controller->commands[admin->aer_slots[--admin->aer_count]];
		nvme_queue_complete(
			command,
			kind->type | (uint32_t)kind->info << 8 | (uint32_t)kind->log_id << 16, 0);
		admin->events_pending &= ~(1u << i);
		admin->event_mask |= 1u << kind->type;
	}
}

void nvme_event_request(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	struct vfu_admin_state *admin = &controller->shared->admin;

	if (admin->aer_count == NVME_AER_MAX) {
		nvme_command_end(command,
				 NVME_STATUS_SPECIFIC(NVME_SC_ASYNC_LIMIT) | NVME_STATUS_DNR);
		return;
	}
	admin->aer_slots[admin->aer_count++] = (uint32_t)(command - controller->commands);
	nvme_command_park(command);
	event_deliver(controller);
}

void nvme_event_raise(struct nvme_controller *controller, enum nvme_event event)
{
	struct vfu_admin_state *admin = &controller->shared->admin;
	uint32_t config = event_kinds[event].config;

	if (controller->phase != NVME_SERVING ||
	    (config && !(admin->features[NVME_FEAT_FID_ASYNC_EVENT] & config)))
		return;
	admin->events_pending |= 1u << event;
	event_deliver(controller);
}

void nvme_event_unmask(struct nvme_controller *controller, uint8_t log_id)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	for (unsigned i = 0; i < NVME_EVENT_COUNT; i++)
		if (event_kinds[i].log_id == log_id)
			admin->event_mask &= ~(1u << event_kinds[i].type);
}

void nvme_event_log_read(struct nvme_controller *controller, uint8_t log_id)
{
	nvme_event_unmask(controller, log_id);
	event_deliver(controller);
}

bool nvme_event_abort(struct nvme_controller *controller, uint16_t cid)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	for (unsigned i = 0; i < admin->aer_count; i++) {
		struct nvme_command *command = &controller->commands[admin->aer_slots[i]];

		if (nvme_sqe_of(command)->cid != cid)
			continue;
		admin->aer_slots[i] = admin->aer_slots[--admin->aer_count];
		nvme_queue_complete(command, 0, NVME_SC_ABORT_REQ);
		REACHED("nvme.event-request-aborted");
		return true;
	}
	return false;
}

void nvme_event_forget(struct nvme_controller *controller)
{
	controller->shared->admin.aer_count = 0;
}
