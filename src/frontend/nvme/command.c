/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands: slots, the way from a fetched command to its handler, and its end.
 *
 * Invariants
 *  1. A command whose slot is FETCHED or COMPARED is begun once by each engine and ends once:
 *     with a completion, or (-ESHUTDOWN, a reset) without.
 *  2. While it is counted by guest_enter() it may keep pointers into the guest's memory; that ends
 *     before its completion is recorded.
 */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>
#include <string.h>

#include "base/reached.h"
#include "block/iov.h"

struct nvme_command *nvme_command_in(struct nvme_controller *controller, uint16_t index)
{
	struct nvme_command *command = &controller->commands[index];

	command->controller = controller;
	command->slot = &controller->shared->slots[index];
	command->ns = NULL;
	command->bytes = 0;
	command->lba = 0;
	command->in_guest = command->recovered = command->redo_write = false;
	command->counts_write = command->stale = false;
	command->step = 0;
	command->first = NULL;
	command->buffer = NULL;
	return command;
}

struct nvme_command *nvme_command_take(struct nvme_controller *controller)
{
	return nvme_command_in(controller, controller->free_slots[--controller->free_slot_count]);
}

void nvme_command_free(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;

	vfu_store(&command->slot->state, VFU_SLOT_FREE);
	controller->free_slots[controller->free_slot_count++] =
		(uint16_t)(command - controller->commands);
	if (UNLIKELY(controller->starved))
		reactor_poller_wake(controller->home, &controller->poller);
}

void nvme_command_begin(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;

	command->in_guest = true;
	command->parity = guest_enter(&controller->guest);
	command->sq->commands++;
	controller->in_flight++;
	if (UNLIKELY(command->slot->alone > NVME_ENGINES_MAX)) {
		REACHED("nvme.poison");
		controller->stats.poisoned++;
		nvme_fused_refuse(command, NVME_SC_INTERNAL);
	} else if (UNLIKELY(command->stale)) {
		REACHED("nvme.stale");
		nvme_fused_refuse(command, NVME_SC_INTERNAL | NVME_STATUS_DNR);
	} else if (command->sq->id == 0) {
		controller->stats.admin_commands++;
		nvme_admin_execute(command);
	} else {
		nvme_io_execute(command);
	}
}

static void command_leave_guest(struct nvme_command *command)
{
	if (command->in_guest)
		guest_leave(&command->controller->guest, command->parity);
	command->in_guest = false;
}

/* What it holds besides its slot. */
static void command_release(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;

	command_leave_guest(command);
	controller->bytes_in_flight -= command->bytes;
	command->bytes = 0;
	if (command->ns)
		nvme_namespace_unuse(command);
	if (UNLIKELY(command->buffer != NULL)) {
		free(command->buffer);
		command->buffer = NULL;
	}
	controller->in_flight--;
	command->sq->commands--;
}

/* What may wait for the end of commands. */
static void command_tell(struct nvme_controller *controller, struct nvme_sq *sq)
{
	if (UNLIKELY(sq->commands == 0 && sq->deleter))
		nvme_admin_sq_idle(sq);
	if (UNLIKELY(controller->phase != NVME_SERVING || controller->recovering))
		nvme_controller_progress_later(controller);
}

void nvme_command_end_with(struct nvme_command *command, uint16_t status, uint32_t result)
{
	struct nvme_controller *controller = command->controller;
	struct nvme_sq *sq = command->sq;

	if (UNLIKELY(status != 0)) {
		controller->stats.errors++;
		nvme_log_error(command, status);
	}
	command_release(command);
	if (UNLIKELY(controller->phase == NVME_DRAINING))
		nvme_command_free(command); /* the guest has reset the controller */
	else
		nvme_queue_complete(command, result, status);
	command_tell(controller, sq);
}

void nvme_command_end(struct nvme_command *command, uint16_t status)
{
	nvme_command_end_with(command, status, 0);
}

void nvme_command_park(struct nvme_command *command)
{
	command_leave_guest(command);
	command->controller->in_flight--;
	command->sq->commands--;
	/* What ends an engine while it waits is none of its doing. */
	command->slot->attempts = command->slot->alone = 0;
}

void nvme_command_unpark(struct nvme_command *command)
{
	command->in_guest = true;
	command->parity = guest_enter(&command->controller->guest);
	command->controller->in_flight++;
	command->sq->commands++;
}

/* The engine is going: the slot stays as it is for the next. */
static void command_abandon(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	struct nvme_sq *sq = command->sq;

	REACHED("nvme.abandoned");
	command_release(command);
	controller->phase = NVME_STOPPING;
	command_tell(controller, sq);
}

uint16_t nvme_command_status(int result)
{
	switch (result) {
	case 0:
		return 0;
	case -EBADMSG:
	case -EUCLEAN:
		return NVME_STATUS_MEDIA(NVME_SC_READ_ERROR) | NVME_STATUS_DNR;
	case -ERANGE:
		return NVME_SC_LBA_RANGE | NVME_STATUS_DNR;
	case -ENOSPC:
		return NVME_SC_CAP_EXCEEDED | NVME_STATUS_DNR;
	case -EILSEQ:
		return NVME_STATUS_MEDIA(NVME_SC_COMPARE_FAILED) | NVME_STATUS_DNR;
	case -EROFS:
		return NVME_SC_NS_WRITE_PROTECTED | NVME_STATUS_DNR;
	case -EINVAL:
		return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
	case -EOPNOTSUPP:
		return NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR;
	case -ESTALE:
		return NVME_SC_NS_NOT_READY; /* the guest may try again */
	default:
		return NVME_SC_INTERNAL;
	}
}

/* Of a write, what failed was not a read. */
static uint16_t command_status_of(const struct nvme_command *command, int result)
{
	if (result == -EBADMSG || result == -EUCLEAN || result == -EIO || result == -EREMOTEIO)
		return NVME_STATUS_MEDIA(block_op_is_write(command->request.op)
						 ? NVME_SC_WRITE_FAULT
						 : NVME_SC_READ_ERROR);
	return nvme_command_status(result);
}

void nvme_command_end_errno(struct nvme_command *command, int result)
{
	if (UNLIKELY(result == -ESHUTDOWN))
		command_abandon(command);
	else
		nvme_command_end(command, result ? command_status_of(command, result) : 0);
}

void nvme_command_empty_data(struct nvme_command *command, unsigned flags)
{
	struct nvme_controller *controller = command->controller;

	command->data.iov =
		controller->iovs + (size_t)(command - controller->commands) * NVME_DATA_IOV_MAX;
	command->data.count = 0;
	command->data.flags = flags;
}

bool nvme_command_map(struct nvme_command *command, uint64_t length, unsigned flags)
{
	uint16_t status;

	nvme_command_empty_data(command, flags);
	status = nvme_data_add(&command->data, &command->controller->guest, nvme_sqe_of(command),
			       length);
	if (LIKELY(status == 0))
		return true;
	nvme_command_end(command, status | NVME_STATUS_DNR);
	return false;
}

bool nvme_command_answer(struct nvme_command *command, const void *data, uint64_t length,
			 uint64_t limit)
{
	uint64_t copied = MIN(length, limit);

	if (limit == 0) {
		nvme_command_end(command, 0);
		return true;
	}
	if (!nvme_command_map(command, limit, VFU_MAP_WRITE))
		return false;
	iov_write(command->data.iov, 0, data, copied);
	if (limit > copied)
		iov_clear(command->data.iov, copied, limit - copied);
	nvme_command_end(command, 0);
	return true;
}

bool nvme_command_take_data(struct nvme_command *command, void *to, uint64_t length)
{
	if (!nvme_command_map(command, length, VFU_MAP_READ))
		return false;
	iov_read(command->data.iov, 0, to, length);
	return true;
}

void nvme_command_spawn(struct nvme_command *command, void (*run)(struct fiber_task *task))
{
	command->task = (struct fiber_task){.run = run};
	fiber_spawn(command->controller->home, FIBER_CONTROL, &command->task);
}
