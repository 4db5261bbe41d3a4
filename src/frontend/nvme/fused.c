/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compare and Write, the one fused operation (NVMe 1.4, 6.2): a Compare and the Write that follows
 * it in the queue, as one step.
 *
 * It is not idempotent: run again after its write it would find its own data. So the volume tells
 * when the compare has succeeded, before it writes; the slot of the Write is COMPARED from then on,
 * and an engine that finds it so only writes (rule 5).
 *
 * Invariants: a Compare that waits for its Write is sq->fused, parked; the Compare is completed
 * before the Write.
 */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>

#include "base/reached.h"

/* The second's, so that what ends it can end both. */
static void fused_end(struct nvme_command *second, uint16_t first_status, uint16_t second_status)
{
	struct nvme_command *first = second->first;

	second->first = NULL;
	if (first)
		nvme_command_end(first, first_status);
	nvme_command_end(second, second_status);
}

static void fused_fail(struct nvme_command *second, uint16_t status)
{
	fused_end(second, status, NVME_SC_FUSED_FAIL | NVME_STATUS_DNR);
}

static void fused_compared(struct block_request *request)
{
	struct nvme_command *second = CONTAINER_OF(request, struct nvme_command, request);

	vfu_store(&second->slot->state, VFU_SLOT_COMPARED);
	nvme_point(second->controller, NVME_POINT_COMPARED);
}

static void fused_done(struct block_request *request, int result)
{
	struct nvme_command *second = CONTAINER_OF(request, struct nvme_command, request);
	uint16_t status = nvme_command_status(result);

	if (result == -ESHUTDOWN) {
		if (second->first)
			nvme_command_end_errno(second->first, result);
		second->first = NULL;
		nvme_command_end_errno(second, result);
	} else if (result == 0 || vfu_load(&second->slot->state) == VFU_SLOT_COMPARED) {
		fused_end(second, 0, status);
	} else {
		fused_fail(second, status);
	}
}

static uint16_t fused_check(const struct nvme_command *first, const struct nvme_command *second)
{
	const struct nvme_sqe *a = nvme_sqe_of(first), *b = nvme_sqe_of(second);

	if (b->opcode != nvme_cmd_write || a->nsid != b->nsid || a->cdw10 != b->cdw10 ||
	    a->cdw11 != b->cdw11 || (a->cdw12 & 0xffff) != (b->cdw12 & 0xffff))
		return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
	if ((a->cdw12 & 0xffff) >= NVME_COMPARE_BLOCKS)
		return NVME_SC_AWU_EXCEEDED | NVME_STATUS_DNR;
	return 0;
}

/* Both iovecs, one behind the other, in the second's. */
static uint16_t fused_map(struct nvme_command *second, uint64_t length)
{
	struct nvme_controller *controller = second->controller;
	struct nvme_data *data = &second->data;
	uint16_t status;

	nvme_command_empty_data(second, VFU_MAP_READ);
	status = nvme_data_add(data, &controller->guest, nvme_sqe_of(second->first), length);
	if (!status)
		status = nvme_data_add(data, &controller->guest, nvme_sqe_of(second), length);
	return status ? status | NVME_STATUS_DNR : 0;
}

static void fused_run(struct nvme_command *second)
{
	struct nvme_range range;
	uint16_t status = fused_check(second->first, second);

	if (!status)
		status = nvme_io_write_status(second, &range);
	if (!status)
		status = fused_map(second, range.length);
	if (status) {
		fused_fail(second, status);
		return;
	}
	second->request.done = fused_done;
	second->request.compared = fused_compared;
	second->controller->stats.others++;
	nvme_io_submit(second, BLOCK_COMPARE_AND_WRITE,
		       BLOCK_TELL_COMPARED | nvme_io_tell(second) | nvme_io_write_flags(second),
		       &range);
}

/* The compare has succeeded under an engine before this one. */
static void fused_redo(struct nvme_command *second)
{
	struct nvme_range range;
	bool written = second->slot->note > 0;
	uint16_t status =
		written ? nvme_namespace_try_use(second) : nvme_io_write_status(second, &range);

	if (!status && !written) {
		nvme_command_empty_data(second, VFU_MAP_READ);
		status = nvme_data_add(&second->data, &second->controller->guest,
				       nvme_sqe_of(second), range.length);
	}
	if (status) {
		fused_end(second, 0, status | NVME_STATUS_DNR);
		return;
	}
	second->request.done = fused_done;
	if (written) {
		nvme_io_settle(second);
		return;
	}
	nvme_io_submit(second, BLOCK_WRITE, nvme_io_tell(second) | nvme_io_write_flags(second),
		       &range);
}

static struct nvme_command *fused_take_first(struct nvme_sq *sq)
{
	struct nvme_command *first = sq->fused;

	sq->fused = NULL;
	if (first)
		nvme_command_unpark(first);
	return first;
}

void nvme_fused_end(struct nvme_sq *sq)
{
	struct nvme_command *first = fused_take_first(sq);

	if (first)
		nvme_command_end(first, NVME_SC_FUSED_MISSING | NVME_STATUS_DNR);
}

void nvme_fused_refuse(struct nvme_command *command, uint16_t status)
{
	if ((nvme_sqe_of(command)->flags & 3) == NVME_FUSED_SECOND)
		command->first = fused_take_first(command->sq);
	fused_end(command, status, status);
}

static void fused_first(struct nvme_command *command)
{
	nvme_fused_end(command->sq);
	if (nvme_sqe_of(command)->opcode != nvme_cmd_compare) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	command->sq->fused = command;
	nvme_command_park(command);
}

static void fused_second(struct nvme_command *command)
{
	command->first = fused_take_first(command->sq);
	if (command->redo_write) {
		REACHED("nvme.fused-redo");
		fused_redo(command);
	} else if (command->first) {
		fused_run(command);
	} else {
		/* Under a dead engine the first may have been completed already: it had failed. */
		nvme_command_end(command,
				 (command->recovered ? NVME_SC_FUSED_FAIL : NVME_SC_FUSED_MISSING) |
					 NVME_STATUS_DNR);
	}
}

void nvme_fused_execute(struct nvme_command *command)
{
	switch (nvme_sqe_of(command)->flags & 3) {
	case NVME_FUSED_FIRST:
		fused_first(command);
		break;
	case NVME_FUSED_SECOND:
		fused_second(command);
		break;
	default:
		nvme_fused_end(command->sq);
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		break;
	}
}
