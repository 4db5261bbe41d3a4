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
	_Alignas(4096) unsigned char data[COPY_BYTES];
	uint32_t skip;  /* parts that an engine before this one has written */
	uint32_t range; /* the one at work, ... */
	uint64_t done;  /* what is copied of it, ... */
	uint64_t part;  /* and what is being copied now; bytes */
	uint64_t to;    /* where that goes, in bytes */
	struct nvme_copy_range ranges[NVME_COPY_RANGES];
};

static void copy_submit(struct nvme_command *command, enum block_op op, unsigned flags,
			uint64_t offset)
{
	struct copy *copy = command->buffer;
	const struct nvme_range range = {offset, copy->part};

	command->data.iov[0] = (struct iovec){copy->data, copy->part};
	command->data.count = 1;
	nvme_io_submit(command, op, flags, &range);
}

static void copy_part_ends(struct copy *copy)
{
	copy->done += copy->part;
	copy->to += copy->part;
}

/* Begins with the next part that is not skipped; each is read, then written. A guest may have very
 * many of these under way, and a full pool lets them wait: no fiber is held. */
static void copy_next(struct nvme_command *command)
{
	struct copy *copy = command->buffer;
	unsigned shift = command->ns->shift;

	while (copy->range < command->step_count) {
		const struct nvme_copy_range *range = &copy->ranges[copy->range];
		uint64_t length = (range->nlb + UINT64_C(1)) << shift;

		copy->part = MIN(length - copy->done, (uint64_t)COPY_BYTES);
		if (copy->part == 0) {
			copy->range++;
			copy->done = 0;
		} else if (command->step++ < copy->skip) {
			copy_part_ends(copy);
		} else {
			copy_submit(command, BLOCK_READ, 0, (range->slba << shift) + copy->done);
			return;
		}
	}
	if (copy->skip > 0)
		nvme_io_settle(command);
	else
		nvme_command_end(command, 0);
}

static void copy_done(struct block_request *request, int result)
{
	struct nvme_command *command = CONTAINER_OF(request, struct nvme_command, request);
	struct copy *copy = command->buffer;

	if (result < 0 || request->op == BLOCK_FLUSH) {
		request->op = BLOCK_WRITE; /* what an error is taken for */
		nvme_command_end_errno(command, result);
	} else if (request->op == BLOCK_READ) {
		copy_submit(command, BLOCK_WRITE, nvme_io_write_flags(command), copy->to);
	} else {
		copy_part_ends(copy);
		copy_next(command);
	}
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
	copy->skip = command->recovered ? command->slot->note : 0;
	copy->range = 0;
	copy->done = 0;
	copy->to = command->lba << command->ns->shift;
	if (!nvme_command_take_data(command, copy->ranges,
				    command->step_count * sizeof(copy->ranges[0])))
		return;
	status = copy_check(command);
	if (status) {
		nvme_command_end(command, status | NVME_STATUS_DNR);
		return;
	}
	command->controller->stats.others++;
	command->request.done = copy_done;
	nvme_command_empty_data(command, 0);
	copy_next(command);
}
