/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespace Management and Attachment (NVMe 1.4, 5.20 and 5.19), where options.manage_bytes allow
 * them: the guest makes namespaces, attaches them to this controller, which is the only one of its
 * subsystem, and deletes those that it has made.
 *
 * The host carries it out and keeps the result with the effect, under the command's queue, epoch
 * and sequence, so that a command that another engine executes again gets the same answer (rule 5).
 * It remembers one result: a command begins when that of the one before is in its slot.
 */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>

#include "base/endian.h"

#define SELECT(cdw10) ((cdw10)&0xf)
#define CSI(cdw11)    ((cdw11) >> 24)
#define FORMAT_MASK   0xfu
#define LIST_BYTES    4096u

static void manage_finish(struct nvme_command *command, int result)
{
	const struct nvme_management *what = command->buffer;
	uint32_t nsid = what->kind == NVME_MANAGE_CREATE ? what->nsid : 0;

	if (result == -ESHUTDOWN)
		nvme_command_end_errno(command, result);
	else if (result < 0)
		nvme_command_end(command, nvme_command_status(result));
	else
		nvme_command_end_with(command, (uint16_t)(result ? result | NVME_STATUS_DNR : 0),
				      result ? 0 : nsid);
}

/* One command after the other, in one fiber: a guest that asks for many takes no more of them. */
static void manage_work(struct fiber_task *task)
{
	struct nvme_controller *controller = nvme_command_of_task(task)->controller;
	struct list_node *node;

	while ((node = list_pop_front(&controller->management))) {
		struct nvme_command *command = LIST_ENTRY(node, struct nvme_command, link);

		manage_finish(command,
			      controller->host->manage(controller->host_context, command->buffer));
	}
	controller->managing = false;
}

static void manage_refuse(struct nvme_command *command, uint16_t status)
{
	nvme_command_end(command, status | NVME_STATUS_DNR);
}

static void manage_start(struct nvme_command *command, enum nvme_management_kind kind,
			 const struct nvme_id_ns *wanted)
{
	struct nvme_management *what = calloc(1, sizeof(*what));

	if (!what) {
		nvme_command_end(command, NVME_SC_INTERNAL);
		return;
	}
	command->buffer = what;
	what->kind = kind;
	what->nsid = kind == NVME_MANAGE_CREATE ? 0 : nvme_sqe_of(command)->nsid;
	what->epoch = command->sq->shared->epoch;
	what->sequence = command->slot->sequence;
	if (wanted) {
		what->blocks = get_le64((const unsigned char *)&wanted->nsze);
		what->block_bytes = (wanted->flbas & FORMAT_MASK) ? 4096 : 512;
	}
	list_push_back(&command->controller->management, &command->link);
	if (command->controller->managing)
		return;
	command->controller->managing = true;
	nvme_command_spawn(command, manage_work);
}

static uint16_t manage_check_wanted(const struct nvme_id_ns *wanted)
{
	if ((wanted->flbas & FORMAT_MASK) > 1 || wanted->flbas & ~FORMAT_MASK)
		return NVME_STATUS_SPECIFIC(NVME_SC_INVALID_FORMAT);
	if (wanted->nsze == 0 || wanted->dps || wanted->nmic)
		return NVME_SC_INVALID_FIELD; /* nobody else could have it */
	if (wanted->ncap != wanted->nsze)
		return wanted->ncap > wanted->nsze
			       ? NVME_SC_INVALID_FIELD
			       : NVME_STATUS_SPECIFIC(NVME_SC_THIN_PROV_NOT_SUPP);
	return 0;
}

static void manage_create(struct nvme_command *command)
{
	struct nvme_id_ns wanted;
	uint16_t status;

	if (CSI(nvme_sqe_of(command)->cdw11) != NVME_CSI_NVM) {
		manage_refuse(command, NVME_STATUS_SPECIFIC(NVME_SC_IOCS_NOT_SUPPORTED));
		return;
	}
	if (!nvme_command_take_data(command, &wanted, sizeof(wanted)))
		return;
	status = manage_check_wanted(&wanted);
	if (status)
		manage_refuse(command, status);
	else
		manage_start(command, NVME_MANAGE_CREATE, &wanted);
}

void nvme_manage_namespace(struct nvme_command *command)
{
	switch (SELECT(nvme_sqe_of(command)->cdw10)) {
	case NVME_NS_MGMT_SEL_CREATE:
		manage_create(command);
		break;
	case NVME_NS_MGMT_SEL_DELETE:
		manage_start(command, NVME_MANAGE_DELETE, NULL);
		break;
	default:
		manage_refuse(command, NVME_SC_INVALID_FIELD);
		break;
	}
}

/* The list names this controller and no other. */
static bool manage_take_list(struct nvme_command *command)
{
	union {
		unsigned char bytes[LIST_BYTES];
		struct nvme_ctrl_list list;
	} data;

	if (!nvme_command_take_data(command, &data, sizeof(data)))
		return false;
	if (data.list.num == 1 &&
	    data.list.identifier[0] == command->controller->options.controller_id)
		return true;
	manage_refuse(command, NVME_STATUS_SPECIFIC(NVME_SC_CTRL_LIST_INVALID));
	return false;
}

void nvme_manage_attachment(struct nvme_command *command)
{
	uint32_t select = SELECT(nvme_sqe_of(command)->cdw10);

	if (select > NVME_NS_ATTACH_SEL_CTRL_DEATTACH)
		manage_refuse(command, NVME_SC_INVALID_FIELD);
	else if (manage_take_list(command))
		manage_start(command,
			     select == NVME_NS_ATTACH_SEL_CTRL_ATTACH ? NVME_MANAGE_ATTACH
								      : NVME_MANAGE_DETACH,
			     NULL);
}

uint64_t nvme_manage_left(const struct nvme_controller *controller)
{
	uint64_t left = controller->options.manage_bytes;

	for (uint32_t nsid = 1; nsid <= NVME_NAMESPACE_MAX; nsid++) {
		const struct nvme_ns *ns = nvme_namespace_allocated(controller, nsid);

		if (ns && ns->options.managed)
			left -= MIN(left, ns->volume->size_bytes);
	}
	return left;
}
