/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admin commands: which there are, and those that make and delete queues (NVMe 1.4, 5.3 to 5.6).
 *
 * A command that a dead engine began is executed again: what it finds done already it reports as
 * done.
 */
#include "frontend/nvme/nvme_priv.h"

#include <string.h>

#include "base/reached.h"

#define CREATE_CONTIGUOUS 0x1u
#define CREATE_INTERRUPTS 0x2u

/* --- completion queues --- */

static uint16_t admin_check_queue(const struct nvme_sqe *sqe)
{
	uint32_t depth = (sqe->cdw10 >> 16) + 1;

	if (depth < 2 || depth > VFU_QUEUE_DEPTH)
		return NVME_STATUS_SPECIFIC(NVME_SC_QUEUE_SIZE);
	if (!(sqe->cdw11 & CREATE_CONTIGUOUS))
		return NVME_SC_INVALID_FIELD; /* CAP.CQR */
	if (sqe->dptr[0] & (VFU_PAGE_BYTES - 1))
		return NVME_SC_PRP_INVALID_OFFSET;
	return 0;
}

static bool admin_has_cq(const struct vfu_cq *cq, const struct nvme_sqe *sqe)
{
	return cq->state == VFU_QUEUE_LIVE && cq->base == sqe->dptr[0] &&
	       cq->depth == (sqe->cdw10 >> 16) + 1;
}

static uint16_t admin_check_cq(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	uint32_t id = sqe->cdw10 & 0xffff, vector = sqe->cdw11 >> 16;
	uint64_t bytes = ((sqe->cdw10 >> 16) + 1) * sizeof(struct nvme_cqe);

	if (id == 0 || id > controller->options.io_queues || controller->cqs[id].shared->state)
		return NVME_STATUS_SPECIFIC(NVME_SC_QID_INVALID);
	if (vector > controller->options.io_queues ||
	    (vector > 0 && !vfu_load(&controller->shared->msix_enabled)))
		return NVME_STATUS_SPECIFIC(NVME_SC_INVALID_VECTOR);
	if (NVME_CC_IOCQES(controller->shared->registers.cc) != 4)
		return NVME_STATUS_SPECIFIC(NVME_SC_QUEUE_SIZE);
	if (!guest_span(&controller->guest, sqe->dptr[0], bytes, VFU_MAP_WRITE))
		return NVME_SC_DATA_XFER_ERROR;
	return 0;
}

static void admin_create_cq(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	uint16_t id = (uint16_t)(sqe->cdw10 & 0xffff), status = admin_check_queue(sqe);

	if (command->recovered && id < VFU_QUEUE_COUNT &&
	    admin_has_cq(controller->cqs[id].shared, sqe)) {
		nvme_command_end(command, 0);
		return;
	}
	if (!status)
		status = admin_check_cq(command);
	if (status) {
		nvme_command_end(command, status | NVME_STATUS_DNR);
		return;
	}
	*controller->cqs[id].shared = (struct vfu_cq){
		.base = sqe->dptr[0],
		.depth = (uint16_t)((sqe->cdw10 >> 16) + 1),
		.vector = (uint16_t)(sqe->cdw11 >> 16),
		.interrupts = !!(sqe->cdw11 & CREATE_INTERRUPTS),
	};
	nvme_queue_clear_doorbell(controller, id, true);
	vfu_store(&controller->cqs[id].shared->state, VFU_QUEUE_LIVE);
	nvme_queue_open_cq(controller, id);
	nvme_command_end(command, 0);
}

static void admin_delete_cq(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	uint32_t id = nvme_sqe_of(command)->cdw10 & 0xffff;
	uint16_t status = 0;

	if (id == 0 || id >= VFU_QUEUE_COUNT ||
	    (!controller->cqs[id].shared->state && !command->recovered))
		status = NVME_STATUS_SPECIFIC(NVME_SC_QID_INVALID);
	else if (controller->cqs[id].queues > 0)
		status = NVME_STATUS_SPECIFIC(NVME_SC_INVALID_QUEUE);
	else if (controller->cqs[id].shared->state)
		nvme_queue_close_cq(controller, (uint16_t)id);
	nvme_command_end(command, status ? status | NVME_STATUS_DNR : 0);
}

/* --- submission queues --- */

static bool admin_has_sq(const struct vfu_sq *sq, const struct nvme_sqe *sqe)
{
	return sq->state == VFU_QUEUE_LIVE && sq->base == sqe->dptr[0] &&
	       sq->depth == (sqe->cdw10 >> 16) + 1 && sq->cqid == sqe->cdw11 >> 16;
}

static uint16_t admin_check_sq(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	uint32_t id = sqe->cdw10 & 0xffff, cqid = sqe->cdw11 >> 16;
	uint64_t bytes = ((sqe->cdw10 >> 16) + 1) * sizeof(*sqe);

	if (id == 0 || id > controller->options.io_queues || controller->sqs[id].shared->state)
		return NVME_STATUS_SPECIFIC(NVME_SC_QID_INVALID);
	if (cqid == 0 || cqid >= VFU_QUEUE_COUNT)
		return NVME_STATUS_SPECIFIC(NVME_SC_QID_INVALID);
	if (!controller->cqs[cqid].shared->state)
		return NVME_STATUS_SPECIFIC(NVME_SC_CQ_INVALID);
	if (NVME_CC_IOSQES(controller->shared->registers.cc) != 6)
		return NVME_STATUS_SPECIFIC(NVME_SC_QUEUE_SIZE);
	if (!guest_span(&controller->guest, sqe->dptr[0], bytes, VFU_MAP_READ))
		return NVME_SC_DATA_XFER_ERROR;
	return 0;
}

static void admin_create_sq(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	uint16_t id = (uint16_t)(sqe->cdw10 & 0xffff), status = admin_check_queue(sqe);

	if (command->recovered && id < VFU_QUEUE_COUNT &&
	    admin_has_sq(controller->sqs[id].shared, sqe)) {
		nvme_command_end(command, 0);
		return;
	}
	if (!status)
		status = admin_check_sq(command);
	if (status) {
		nvme_command_end(command, status | NVME_STATUS_DNR);
		return;
	}
	*controller->sqs[id].shared = (struct vfu_sq){
		.base = sqe->dptr[0],
		.depth = (uint16_t)((sqe->cdw10 >> 16) + 1),
		.cqid = (uint16_t)(sqe->cdw11 >> 16),
		.priority = (uint16_t)(sqe->cdw11 >> 1 & 3),
		.epoch = (uint32_t)++controller->shared->admin.generation,
	};
	nvme_queue_clear_doorbell(controller, id, false);
	vfu_store(&controller->sqs[id].shared->state, VFU_QUEUE_LIVE);
	nvme_queue_open_sq(controller, id);
	nvme_command_end(command, 0);
}

void nvme_admin_sq_idle(struct nvme_sq *sq)
{
	struct nvme_command *command = sq->deleter;

	sq->deleter = NULL;
	nvme_queue_close_sq(command->controller, sq->id);
	nvme_command_end(command, 0);
}

static void admin_delete_sq(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	uint32_t id = nvme_sqe_of(command)->cdw10 & 0xffff;
	struct nvme_sq *sq = &controller->sqs[id < VFU_QUEUE_COUNT ? id : 0];

	if (sq->id == 0 || sq->deleter || (!sq->shared->state && !command->recovered)) {
		nvme_command_end(command,
				 NVME_STATUS_SPECIFIC(NVME_SC_QID_INVALID) | NVME_STATUS_DNR);
		return;
	}
	if (!sq->shared->state) {
		nvme_command_end(command, 0); /* the engine before did it */
		return;
	}
	vfu_store(&sq->shared->state, VFU_QUEUE_DELETING);
	list_remove(&sq->link);
	nvme_fused_end(sq);
	sq->deleter = command;
	if (sq->commands == 0)
		nvme_admin_sq_idle(sq);
	else
		REACHED("nvme.delete-waits");
}

/* --- others --- */

/* 5.1. What is in flight runs to its end soon, so only event requests are ended early. */
static void admin_abort(struct nvme_command *command)
{
	uint32_t cdw10 = nvme_sqe_of(command)->cdw10;
	uint16_t sqid = (uint16_t)cdw10, cid = (uint16_t)(cdw10 >> 16);
	bool aborted = sqid == 0 && nvme_event_abort(command->controller, cid);

	command->controller->stats.aborted += aborted;
	nvme_command_end_with(command, 0, !aborted);
}

static void admin_keep_alive(struct nvme_command *command)
{
	nvme_keep_alive_restart(command->controller);
	nvme_command_end(command, 0);
}

/* 5.7: pages of the guest for doorbells and event indexes of I/O queues. */
static void admin_doorbell_buffers(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	struct vfu_admin_state *admin = &controller->shared->admin;
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	unsigned flags = VFU_MAP_READ | VFU_MAP_WRITE;

	if (((sqe->dptr[0] | sqe->dptr[1]) & (VFU_PAGE_BYTES - 1)) ||
	    sqe->dptr[0] == sqe->dptr[1]) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	if (!guest_span(&controller->guest, sqe->dptr[0], VFU_PAGE_BYTES, flags) ||
	    !guest_span(&controller->guest, sqe->dptr[1], VFU_PAGE_BYTES, flags)) {
		nvme_command_end(command, NVME_SC_DATA_XFER_ERROR | NVME_STATUS_DNR);
		return;
	}
	if (admin->shadow_doorbells != sqe->dptr[0] || admin->event_indexes != sqe->dptr[1]) {
		admin->event_indexes = sqe->dptr[1];
		vfu_store(&admin->shadow_doorbells, sqe->dptr[0]);
		nvme_queue_use_shadow(controller);
	}
	nvme_command_end(command, 0);
}

struct admin_kind {
	void (*execute)(struct nvme_command *command);
	uint32_t effects;
};

#define SUPPORTED NVME_CMD_EFFECTS_CSUPP

static const struct admin_kind admin_kinds[256] = {
	[nvme_admin_delete_sq] = {admin_delete_sq, SUPPORTED},
	[nvme_admin_create_sq] = {admin_create_sq, SUPPORTED},
	[nvme_admin_get_log_page] = {nvme_log_page, SUPPORTED},
	[nvme_admin_delete_cq] = {admin_delete_cq, SUPPORTED},
	[nvme_admin_create_cq] = {admin_create_cq, SUPPORTED},
	[nvme_admin_identify] = {nvme_identify, SUPPORTED},
	[nvme_admin_abort_cmd] = {admin_abort, SUPPORTED},
	[nvme_admin_set_features] = {nvme_feature_set, SUPPORTED},
	[nvme_admin_get_features] = {nvme_feature_get, SUPPORTED},
	[nvme_admin_async_event] = {nvme_event_request, SUPPORTED},
	[nvme_admin_keep_alive] = {admin_keep_alive, SUPPORTED},
	[nvme_admin_format_nvm] = {nvme_format,
				   SUPPORTED | NVME_CMD_EFFECTS_LBCC | NVME_CMD_EFFECTS_NCC |
					   1 << 16}, /* no other command on the namespace */
	[nvme_admin_ns_mgmt] = {nvme_manage_namespace, SUPPORTED | NVME_CMD_EFFECTS_NIC},
	[nvme_admin_ns_attach] = {nvme_manage_attachment, SUPPORTED | NVME_CMD_EFFECTS_NIC},
	[nvme_admin_dbbuf] = {admin_doorbell_buffers, SUPPORTED},
};

static bool admin_offers(const struct nvme_controller *controller, uint8_t opcode)
{
	return controller->options.manage_bytes > 0 ||
	       (opcode != nvme_admin_ns_mgmt && opcode != nvme_admin_ns_attach);
}

uint32_t nvme_admin_effects(const struct nvme_controller *controller, uint8_t opcode)
{
	return admin_offers(controller, opcode) ? admin_kinds[opcode].effects : 0;
}

void nvme_admin_execute(struct nvme_command *command)
{
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	const struct admin_kind *kind = &admin_kinds[sqe->opcode];

	if (!kind->execute || !admin_offers(command->controller, sqe->opcode))
		nvme_command_end(command, NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR);
	else if (sqe->flags & 3) /* nothing can be fused here */
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
	else
		kind->execute(command);
}
