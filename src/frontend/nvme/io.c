/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O commands of one request: Read, Write, Flush, Compare, Write Zeroes, Verify (NVM command set
 * of NVMe 1.4, section 6). The request's vectors point into the guest's memory: no data is copied
 * here.
 */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>

#include "base/reached.h"

#define LIMITED_RETRY (1u << 31)
#define FUA           (1u << 30)
#define PRINFO        (0xfu << 26)
#define DEALLOCATE    (1u << 25) /* Write Zeroes */

static uint16_t io_range_status(struct nvme_command *command, struct nvme_range *ret_range)
{
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	const struct nvme_ns *ns = command->ns;
	uint64_t lba = (uint64_t)sqe->cdw11 << 32 | sqe->cdw10;
	uint64_t count = (sqe->cdw12 & 0xffff) + UINT64_C(1);

	command->lba = lba;
	if (UNLIKELY(lba >= ns->blocks || count > ns->blocks - lba))
		return NVME_SC_LBA_RANGE | NVME_STATUS_DNR;
	ret_range->offset = lba << ns->shift;
	ret_range->length = count << ns->shift;
	return 0;
}

bool nvme_io_range(struct nvme_command *command, struct nvme_range *ret_range)
{
	uint16_t status = io_range_status(command, ret_range);

	if (UNLIKELY(status))
		nvme_command_end(command, status);
	return !status;
}

static uint16_t io_read_allowed(struct nvme_command *command)
{
	const struct nvme_ns *ns = command->ns;

	if (UNLIKELY(ns->formatting))
		return NVME_SC_FORMAT_IN_PROGRESS;
	if (UNLIKELY(ns->member.reservations && !(ns->member.access & NVME_ACCESS_READ)))
		return NVME_SC_RESERVATION_CONFLICT | NVME_STATUS_DNR;
	return 0;
}

static uint16_t io_write_allowed(struct nvme_command *command)
{
	struct nvme_ns *ns = command->ns;

	if (UNLIKELY(ns->options.read_only))
		return NVME_SC_NS_WRITE_PROTECTED | NVME_STATUS_DNR;
	if (UNLIKELY(ns->formatting))
		return NVME_SC_FORMAT_IN_PROGRESS;
	if (LIKELY(!ns->member.reservations))
		return 0;
	if (!(ns->member.access & NVME_ACCESS_WRITE))
		return NVME_SC_RESERVATION_CONFLICT | NVME_STATUS_DNR;
	ns->member.writes++;
	command->counts_write = true;
	return 0;
}

bool nvme_io_may_read(struct nvme_command *command)
{
	uint16_t status = io_read_allowed(command);

	if (UNLIKELY(status))
		nvme_command_end(command, status);
	return !status;
}

bool nvme_io_may_write(struct nvme_command *command)
{
	uint16_t status = io_write_allowed(command);

	if (UNLIKELY(status))
		nvme_command_end(command, status);
	return !status;
}

uint16_t nvme_io_write_status(struct nvme_command *command, struct nvme_range *ret_range)
{
	uint16_t status = nvme_namespace_try_use(command);

	if (!status)
		status = io_range_status(command, ret_range);
	return status ? status : io_write_allowed(command);
}

unsigned nvme_io_write_flags(const struct nvme_command *command)
{
	bool cached = command->controller->shared->admin.features[NVME_FEAT_FID_VOLATILE_WC] & 1;

	return !cached || nvme_sqe_of(command)->cdw12 & FUA ? BLOCK_FUA : 0;
}

static void io_written(struct block_request *request)
{
	struct nvme_command *command = CONTAINER_OF(request, struct nvme_command, request);

	vfu_store(&command->slot->note, MAX(command->step, 1u));
	nvme_point(command->controller, NVME_POINT_WRITTEN);
}

unsigned nvme_io_tell(struct nvme_command *command)
{
	command->request.written = io_written;
	return BLOCK_TELL_WRITTEN;
}

void nvme_io_submit(struct nvme_command *command, enum block_op op, unsigned flags,
		    const struct nvme_range *range)
{
	struct block_request *request = &command->request;
	bool has_data = block_op_has_data(op);

	if (UNLIKELY(command->ns->options.shared) && block_op_is_write(op))
		flags |= nvme_io_tell(command);
	request->op = op;
	request->flags = flags;
	request->offset = range->offset;
	request->length = range->length;
	request->iov = command->data.iov;
	request->iov_count = has_data ? (int)command->data.count : 0;
	if (has_data) {
		command->controller->bytes_in_flight += range->length - command->bytes;
		command->bytes = range->length;
	}
	block_submit(command->ns->volume, request);
}

static void io_done(struct block_request *request, int result)
{
	nvme_command_end_errno(CONTAINER_OF(request, struct nvme_command, request), result);
}

void nvme_io_settle(struct nvme_command *command)
{
	const struct nvme_range nothing = {0};

	REACHED("nvme.settle");
	command->data.count = 0;
	nvme_io_submit(command, BLOCK_FLUSH, 0, &nothing);
}

/* True when nothing of it is left to be written: it is on its way to its end. */
static bool io_is_written(struct nvme_command *command)
{
	if (LIKELY(!command->recovered) || command->slot->note == 0)
		return false;
	nvme_io_settle(command);
	return true;
}

/* The namespace, its range, the limit on data. */
static bool io_begin(struct nvme_command *command, bool has_data, struct nvme_range *ret_range)
{
	command->request.done = io_done;
	if (UNLIKELY(!nvme_namespace_use(command)) || UNLIKELY(!nvme_io_range(command, ret_range)))
		return false;
	if (UNLIKELY(has_data && (ret_range->length > NVME_DATA_BYTES_MAX ||
				  nvme_sqe_of(command)->cdw12 & PRINFO))) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return false;
	}
	return true;
}

static void io_read(struct nvme_command *command)
{
	struct nvme_stats *stats = &command->controller->stats;
	struct nvme_range range;

	if (!io_begin(command, true, &range) || !nvme_io_may_read(command) ||
	    !nvme_command_map(command, range.length, VFU_MAP_WRITE))
		return;
	stats->reads++;
	stats->bytes_read += range.length;
	nvme_io_submit(command, BLOCK_READ, nvme_sqe_of(command)->cdw12 & FUA ? BLOCK_FUA : 0,
		       &range);
}

static void io_write(struct nvme_command *command)
{
	struct nvme_stats *stats = &command->controller->stats;
	struct nvme_range range;

	if (!io_begin(command, true, &range) || io_is_written(command) ||
	    !nvme_io_may_write(command) || !nvme_command_map(command, range.length, VFU_MAP_READ))
		return;
	stats->writes++;
	stats->bytes_written += range.length;
	nvme_io_submit(command, BLOCK_WRITE, nvme_io_write_flags(command), &range);
}

static void io_compare(struct nvme_command *command)
{
	struct nvme_range range;

	if (!io_begin(command, true, &range) || !nvme_io_may_read(command) ||
	    !nvme_command_map(command, range.length, VFU_MAP_READ))
		return;
	command->controller->stats.others++;
	nvme_io_submit(command, BLOCK_COMPARE, 0, &range);
}

static void io_write_zeroes(struct nvme_command *command)
{
	struct nvme_range range;
	unsigned flags;

	if (!io_begin(command, false, &range) || io_is_written(command) ||
	    !nvme_io_may_write(command))
		return;
	flags = nvme_io_write_flags(command);
	if (!(nvme_sqe_of(command)->cdw12 & DEALLOCATE))
		flags |= BLOCK_NO_RELEASE;
	command->controller->stats.others++;
	nvme_io_submit(command, BLOCK_WRITE_ZEROES, flags, &range);
}

/* --- Flush: of one namespace, or of all, one after the other --- */

static void io_flush_next(struct nvme_command *command);

static void io_flush_done(struct block_request *request, int result)
{
	struct nvme_command *command = CONTAINER_OF(request, struct nvme_command, request);

	if (result < 0 || nvme_sqe_of(command)->nsid != NVME_NSID_ALL) {
		nvme_command_end_errno(command, result);
		return;
	}
	nvme_namespace_unuse(command);
	io_flush_next(command);
}

static void io_flush_submit(struct nvme_command *command)
{
	const struct nvme_range nothing = {0};

	command->request.done = io_flush_done;
	command->data.count = 0;
	nvme_io_submit(command, BLOCK_FLUSH, 0, &nothing);
}

static void io_flush_next(struct nvme_command *command)
{
	while (++command->step <= NVME_NAMESPACE_MAX) {
		command->ns = nvme_namespace_get(command->controller, command->step);
		if (!command->ns)
			continue;
		command->ns->commands++;
		io_flush_submit(command);
		return;
	}
	nvme_command_end(command, 0);
}

static void io_flush(struct nvme_command *command)
{
	command->controller->stats.flushes++;
	if (nvme_sqe_of(command)->nsid == NVME_NSID_ALL) {
		command->step = 0;
		io_flush_next(command);
	} else if (nvme_namespace_use(command)) {
		io_flush_submit(command);
	}
}

/* --- which there are --- */

struct io_kind {
	void (*execute)(struct nvme_command *command);
	uint32_t effects;
};

#define SUPPORTED NVME_CMD_EFFECTS_CSUPP
#define CHANGES   (NVME_CMD_EFFECTS_CSUPP | NVME_CMD_EFFECTS_LBCC)

static const struct io_kind io_kinds[256] = {
	[nvme_cmd_flush] = {io_flush, CHANGES},
	[nvme_cmd_write] = {io_write, CHANGES},
	[nvme_cmd_read] = {io_read, SUPPORTED},
	[nvme_cmd_compare] = {io_compare, SUPPORTED},
	[nvme_cmd_write_zeroes] = {io_write_zeroes, CHANGES},
	[nvme_cmd_dsm] = {nvme_ranges_dsm, CHANGES},
	[nvme_cmd_resv_register] = {nvme_reservation_command, SUPPORTED},
	[nvme_cmd_resv_report] = {nvme_reservation_command, SUPPORTED},
	[nvme_cmd_resv_acquire] = {nvme_reservation_command, SUPPORTED},
	[nvme_cmd_resv_release] = {nvme_reservation_command, SUPPORTED},
	[nvme_cmd_verify] = {nvme_ranges_verify, SUPPORTED},
	[nvme_cmd_copy] = {nvme_ranges_copy, CHANGES},
};

uint32_t nvme_io_effects(uint8_t opcode)
{
	return io_kinds[opcode].effects;
}

void nvme_io_execute(struct nvme_command *command)
{
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	const struct io_kind *kind = &io_kinds[sqe->opcode];

	if (UNLIKELY(sqe->flags & 3)) {
		nvme_fused_execute(command);
		return;
	}
	if (UNLIKELY(command->sq->fused != NULL))
		nvme_fused_end(command->sq);
	if (LIKELY(kind->execute != NULL))
		kind->execute(command);
	else
		nvme_command_end(command, NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR);
}
