/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of several requests: Dataset Management (deallocate), Verify, Copy (NVM command set;
 * Copy as of 2.0, format 0). All may run again from the start: a Copy whose destination overlaps a
 * source would not be so, and is refused. On a shared namespace slot->note counts the steps that
 * are done, which are not done again (rule 10).
 */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>

#define VERIFY_BYTES (64u * 1024)
#define COPY_BYTES   (128u * 1024)

static bool ranges_allocate(struct nvme_command *command, size_t bytes)
{
	command->buffer = aligned_alloc(4096, bytes);
	if (command->buffer)
		return true;
	nvme_command_end(command, NVME_SC_INTERNAL);
	return false;
}

static bool ranges_fit(const struct nvme_ns *ns, uint64_t lba, uint64_t count)
{
	return lba <= ns->blocks && count <= ns->blocks - lba;
}

/* --- Dataset Management --- */

static void dsm_next(struct nvme_command *command);

static void dsm_done(struct block_request *request, int result)
{
	struct nvme_command *command = CONTAINER_OF(request, struct nvme_command, request);

	if (result < 0)
		nvme_command_end_errno(command, result);
	else
		dsm_next(command);
}

static void dsm_next(struct nvme_command *command)
{
	const struct nvme_dsm_range *ranges = command->buffer;
	const struct nvme_ns *ns = command->ns;

	while (command->step < command->step_count) {
		const struct nvme_dsm_range *at = &ranges[command->step++];
		const struct nvme_range range = {at->slba << ns->shift,
						 (uint64_t)at->nlb << ns->shift};

		if (range.length == 0)
			continue;
		nvme_io_submit(command, BLOCK_UNMAP, 0, &range);
		return;
	}
	nvme_command_end(command, 0);
}

void nvme_ranges_dsm(struct nvme_command *command)
{
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	const struct nvme_dsm_range *ranges;

	command->step = command->recovered ? command->slot->note : 0;
	command->step_count = (sqe->cdw10 & 0xff) + 1;
	command->request.done = dsm_done;
	if (!nvme_namespace_use(command) || !nvme_io_may_write(command))
		return;
	if (!ranges_allocate(command, 256 * sizeof(*ranges)) ||
	    !nvme_command_take_data(command, command->buffer,
				    command->step_count * sizeof(*ranges)))
		return;
	ranges = command->buffer;
	for (uint32_t i = 0; i < command->step_count; i++) {
		if (!ranges_fit(command->ns, ranges[i].slba, ranges[i].nlb)) {
			nvme_command_end(command, NVME_SC_LBA_RANGE | NVME_STATUS_DNR);
			return;
		}
	}
	command->controller->stats.others++;
	if (sqe->cdw11 & NVME_DSMGMT_AD)
		dsm_next(command);
	else
		nvme_command_end(command, 0); /* only hints */
}

/* --- Verify: reads and forgets --- */

static void verify_next(struct nvme_command *command)
{
	uint64_t done = (uint64_t)command->step * VERIFY_BYTES;
	uint64_t total = (uint64_t)command->step_count << command->ns->shift;
	const struct nvme_range range = {
		(command->lba << command->ns->shift) + done,
		MIN(total - done, (uint64_t)VERIFY_BYTES),
	};

	command->step++;
	command->data.iov[0] = (struct iovec){command->buffer, range.length};
	command->data.count = 1;
	nvme_io_submit(command, BLOCK_READ, 0, &range);
}

static void verify_done(struct block_request *request, int result)
{
	struct nvme_command *command = CONTAINER_OF(request, struct nvme_command, request);
	uint64_t total = (uint64_t)command->step_count << command->ns->shift;

	if (result < 0 || (uint64_t)command->step * VERIFY_BYTES >= total)
		nvme_command_end_errno(command, result);
	else
		verify_next(command);
}

void nvme_ranges_verify(struct nvme_command *command)
{
	struct nvme_range range;

	command->step = 0;
	command->request.done = verify_done;
	if (!nvme_namespace_use(command) || !nvme_io_range(command, &range) ||
	    !nvme_io_may_read(command))
		return;
	if (range.length > NVME_DATA_BYTES_MAX) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	if (!ranges_allocate(command, VERIFY_BYTES))
		return;
	command->step_count = (uint32_t)(range.length >> command->ns->shift);
	nvme_command_empty_data(command, 0);
	command->controller->stats.others++;
	verify_next(command);
}

/* --- Copy --- */

struct copy { /* in command->buffer */
	struct nvme_command *command;
	uint32_t skip; /* parts that an engine before this one has written */
	struct block_wait write;
	unsigned char data[COPY_BYTES];
	struct nvme_copy_range ranges[NVME_COPY_RANGES];
};

static void copy_written(struct block_request *request)
{
	const struct nvme_command *command =
		CONTAINER_OF(request, struct copy, write.request)->command;

	vfu_store(&command->slot->note, command->step);
	nvme_point(command->controller, NVME_POINT_WRITTEN);
}

static int copy_write(struct nvme_command *command, uint64_t to, uint64_t length)
{
	struct copy *copy = command->buffer;
	struct iovec iov = {copy->data, length};

	copy->write.request.op = BLOCK_WRITE;
	copy->write.request.flags = nvme_io_write_flags(command) |
				    (command->ns->options.shared ? BLOCK_TELL_WRITTEN : 0);
	copy->write.request.written = copy_written;
	copy->write.request.offset = to;
	copy->write.request.length = length;
	copy->write.request.iov = &iov;
	copy->write.request.iov_count = 1;
	return block_wait(command->ns->volume, &copy->write);
}

static int copy_part(struct nvme_command *command, uint64_t from, uint64_t to, uint64_t length)
{
	struct copy *copy = command->buffer;
	int result;

	if (command->step++ < copy->skip)
		return 0;
	result = block_io(command->ns->volume, BLOCK_READ, 0, copy->data, length, from);
	return result < 0 ? result : copy_write(command, to, length);
}

static int copy_range(struct nvme_command *command, uint64_t from, uint64_t to, uint64_t length)
{
	while (length > 0) {
		uint64_t part = MIN(length, (uint64_t)COPY_BYTES);
		int result = copy_part(command, from, to, part);

		if (result < 0)
			return result;
		from += part;
		to += part;
		length -= part;
	}
	return 0;
}

static void copy_run(struct fiber_task *task)
{
	struct nvme_command *command = nvme_command_of_task(task);
	const struct copy *copy = command->buffer;
	unsigned shift = command->ns->shift;
	uint64_t to = command->lba << shift;
	int result = 0;

	command->request.op = BLOCK_WRITE; /* what an error is taken for */
	for (uint32_t i = 0; result == 0 && i < command->step_count; i++) {
		uint64_t length = (copy->ranges[i].nlb + UINT64_C(1)) << shift;

		result = copy_range(command, copy->ranges[i].slba << shift, to, length);
		to += length;
	}
	if (result == 0 && copy->skip > 0)
		result = block_io(command->ns->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
	nvme_command_end_errno(command, result);
}

static uint16_t copy_check(const struct nvme_command *command)
{
	const struct copy *copy = command->buffer;
	const struct nvme_ns *ns = command->ns;
	uint64_t total = 0;

	for (uint32_t i = 0; i < command->step_count; i++) {
		uint64_t count = copy->ranges[i].nlb + UINT64_C(1);

		if (count << ns->shift > NVME_COPY_RANGE_BYTES)
			return NVME_STATUS_SPECIFIC(NVME_SC_CMD_SIZE_LIMIT_EXCEEDED);
		if (!ranges_fit(ns, copy->ranges[i].slba, count))
			return NVME_SC_LBA_RANGE;
		total += count;
	}
	if (total << ns->shift > NVME_DATA_BYTES_MAX)
		return NVME_STATUS_SPECIFIC(NVME_SC_CMD_SIZE_LIMIT_EXCEEDED);
	if (!ranges_fit(ns, command->lba, total))
		return NVME_SC_LBA_RANGE;
	for (uint32_t i = 0; i < command->step_count; i++) {
		uint64_t from = copy->ranges[i].slba, count = copy->ranges[i].nlb + UINT64_C(1);

		if (from < command->lba + total && command->lba < from + count)
			return NVME_SC_INVALID_FIELD;
	}
	return 0;
}

void nvme_ranges_copy(struct nvme_command *command)
{
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	struct copy *copy;
	uint16_t status = 0;

	command->lba = (uint64_t)sqe->cdw11 << 32 | sqe->cdw10;
	command->step_count = (sqe->cdw12 & 0xff) + 1;
	if (!nvme_namespace_use(command) || !nvme_io_may_read(command) ||
	    !nvme_io_may_write(command))
		return;
	if (sqe->cdw12 >> 8 & 0xf)
		status = NVME_SC_INVALID_FIELD; /* the format of descriptors */
	else if (command->step_count > NVME_COPY_RANGES)
		status = NVME_STATUS_SPECIFIC(NVME_SC_CMD_SIZE_LIMIT_EXCEEDED);
	if (status) {
		nvme_command_end(command, status | NVME_STATUS_DNR);
		return;
	}
	if (!ranges_allocate(command, ALIGN_UP(sizeof(*copy), (size_t)4096)))
		return;
	copy = command->buffer;
	copy->command = command;
	copy->skip = command->recovered ? command->slot->note : 0;
	if (!nvme_command_take_data(command, copy->ranges,
				    command->step_count * sizeof(copy->ranges[0])))
		return;
	status = copy_check(command);
	if (status) {
		nvme_command_end(command, status | NVME_STATUS_DNR);
		return;
	}
	command->controller->stats.others++;
	nvme_command_spawn(command, copy_run);
}
