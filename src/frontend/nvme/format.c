/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Format NVM (NVMe 1.4, 5.23): all of a namespace reads as zeros afterwards; the logical block may
 * become another one that the volume can serve: blocks of 512 bytes are not, when those of the
 * volume are larger. The host keeps the choice with the attachment.
 *
 * For a namespace that is not shared: others would find their file system gone. While it runs,
 * reads and writes are refused. It may run again from the start (rule 5).
 */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>

#define FORMAT_LBAF(cdw10) ((cdw10)&0xf)
#define FORMAT_EXTRAS      0x1f0u /* metadata and protection information */
#define FORMAT_SES(cdw10)  ((cdw10) >> 9 & 7)

static uint32_t format_block_bytes(const struct nvme_command *command)
{
	return FORMAT_LBAF(nvme_sqe_of(command)->cdw10) == 0 ? 512 : 4096;
}

static int format_run(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	struct nvme_ns *ns = command->ns;
	uint32_t block_bytes = format_block_bytes(command);
	int result;

	while (ns->commands > 1)
		fiber_queue_wait(&controller->idle);
	result = block_io(ns->volume, BLOCK_UNMAP, BLOCK_FUA, NULL, ns->volume->size_bytes, 0);
	if (result == 0 && block_bytes != 1u << ns->shift)
		result = controller->host->formatted(controller->host_context, ns->options.nsid,
						     block_bytes);
	if (result == 0)
		nvme_namespace_set_block(controller, ns, block_bytes);
	return result;
}

static void format_fiber(struct fiber_task *task)
{
	struct nvme_command *command = nvme_command_of_task(task);
	int result = format_run(command);

	command->ns->formatting = false;
	command->request.op = BLOCK_UNMAP;
	nvme_command_end_errno(command, result);
}

static uint16_t format_check(const struct nvme_command *command)
{
	const struct nvme_ns *ns = command->ns;
	uint32_t cdw10 = nvme_sqe_of(command)->cdw10, block_bytes = format_block_bytes(command);

	if (FORMAT_SES(cdw10) > NVME_FORMAT_SES_USER_DATA_ERASE)
		return NVME_SC_INVALID_FIELD;
	if (FORMAT_LBAF(cdw10) > 1 || (cdw10 & FORMAT_EXTRAS) ||
	    block_bytes < ns->volume->block_bytes || ns->volume->size_bytes % block_bytes != 0)
		return NVME_STATUS_SPECIFIC(NVME_SC_INVALID_FORMAT);
	if (ns->options.shared)
		return NVME_SC_OP_DENIED;
	return 0;
}

void nvme_format(struct nvme_command *command)
{
	uint16_t status;

	if (nvme_sqe_of(command)->nsid == NVME_NSID_ALL) { /* FNA */
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	if (!nvme_namespace_use(command) || !nvme_io_may_write(command))
		return;
	status = format_check(command);
	if (status) {
		nvme_command_end(command, status | NVME_STATUS_DNR);
		return;
	}
	command->ns->formatting = true;
	nvme_command_spawn(command, format_fiber);
}
