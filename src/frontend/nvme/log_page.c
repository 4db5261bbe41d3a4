/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log pages (NVMe 1.4, 5.14). Counters and the error log are of this engine's time. What reading
 * clears is cleared after the completion was recorded, so a command that is executed again by
 * another engine finds it still there.
 */
#include "frontend/nvme/nvme_priv.h"

#include <string.h>

#include "base/endian.h"

#define LOG_BYTES_MAX 4096u
#define RETAIN        (1u << 15) /* RAE */
#define SPARE_PERCENT 100
#define TEMPERATURE   300 /* kelvin */
#define UNITS         (512u * 1000)

union log_page {
	unsigned char bytes[LOG_BYTES_MAX];
	struct nvme_smart_log smart;
	struct nvme_firmware_slot firmware;
	struct nvme_cmd_effects_log effects;
	struct nvme_ns_list changed;
	struct nvme_error_log_page errors[NVME_ERROR_ENTRIES];
	struct nvme_resv_notification_log reservation;
	uint32_t supported[256];
};
static_assert(sizeof(union log_page) == LOG_BYTES_MAX, "every page fits");

void nvme_log_error(struct nvme_command *command, uint16_t status)
{
	struct nvme_errors *errors = &command->controller->errors;
	struct nvme_error_log_page *entry = &errors->entries[errors->count++ % NVME_ERROR_ENTRIES];

	*entry = (struct nvme_error_log_page){
		.error_count = errors->before + errors->count,
		.sqid = command->slot->sqid,
		.cmdid = nvme_sqe_of(command)->cid,
		.status_field = (uint16_t)(status << 1),
		.parm_error_location = 0xffff,
		.lba = command->lba,
		.nsid = nvme_sqe_of(command)->nsid,
	};
}

void nvme_log_load(struct nvme_controller *controller)
{
	const struct vfu_smart *smart = &controller->shared->smart;
	struct nvme_stats *stats = &controller->stats;

	stats->reads = smart->reads;
	stats->writes = smart->writes;
	stats->bytes_read = smart->bytes_read;
	stats->bytes_written = smart->bytes_written;
	controller->errors.before = smart->errors;
}

void nvme_log_keep(struct nvme_controller *controller)
{
	const struct nvme_stats *stats = &controller->stats;

	controller->shared->smart = (struct vfu_smart){
		.reads = stats->reads,
		.writes = stats->writes,
		.bytes_read = stats->bytes_read,
		.bytes_written = stats->bytes_written,
		.errors = controller->errors.before + controller->errors.count,
	};
}

/* The newest first. */
static void log_errors(const struct nvme_controller *controller, union log_page *page)
{
	const struct nvme_errors *errors = &controller->errors;
	uint64_t count = MIN(errors->count, (uint64_t)NVME_ERROR_ENTRIES);

	for (uint64_t i = 0; i < count; i++)
		page->errors[i] = errors->entries[(errors->count - 1 - i) % NVME_ERROR_ENTRIES];
}

static void log_smart(const struct nvme_controller *controller, union log_page *page)
{
	const struct nvme_stats *stats = &controller->stats;
	struct nvme_smart_log *smart = &page->smart;

	smart->temperature[0] = TEMPERATURE & 0xff;
	smart->temperature[1] = TEMPERATURE >> 8;
	smart->avail_spare = SPARE_PERCENT;
	smart->spare_thresh = 10;
	put_le64(smart->data_units_read, DIV_ROUND_UP(stats->bytes_read, UNITS));
	put_le64(smart->data_units_written, DIV_ROUND_UP(stats->bytes_written, UNITS));
	put_le64(smart->host_reads, stats->reads);
	put_le64(smart->host_writes, stats->writes);
	put_le64(smart->num_err_log_entries, controller->errors.before + controller->errors.count);
}

static void log_firmware(union log_page *page)
{
	page->firmware.afi = 1;
	memcpy(page->firmware.frs[0], NVME_FIRMWARE, sizeof(page->firmware.frs[0]));
}

static void log_changed(const struct nvme_controller *controller, union log_page *page)
{
	const uint64_t *changed = controller->shared->admin.namespaces_changed;
	unsigned count = 0;

	for (uint32_t nsid = 1; nsid <= NVME_NAMESPACE_MAX; nsid++)
		if (changed[nsid / 64] >> nsid % 64 & 1)
			page->changed.ns[count++] = nsid;
}

static void log_effects(const struct nvme_controller *controller, union log_page *page)
{
	for (unsigned opcode = 0; opcode < 256; opcode++) {
		page->effects.acs[opcode] = nvme_admin_effects(controller, (uint8_t)opcode);
		page->effects.iocs[opcode] = nvme_io_effects((uint8_t)opcode);
	}
}

static void log_supported(union log_page *page)
{
	static const uint8_t pages[] = {
		NVME_LOG_LID_SUPPORTED_LOG_PAGES,
		NVME_LOG_LID_ERROR,
		NVME_LOG_LID_SMART,
		NVME_LOG_LID_FW_SLOT,
		NVME_LOG_LID_CHANGED_NS,
		NVME_LOG_LID_CMD_EFFECTS,
		NVME_LOG_LID_RESERVATION,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
		page->supported[pages[i]] = 1;
}

/* Notices are kept in shared->admin: the newest are lost when there are too many. */
void nvme_log_reservation(struct nvme_controller *controller, uint32_t nsid,
			  enum nvme_reservation_notice notice)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	if (controller->phase != NVME_SERVING || admin->notice_count == ARRAY_SIZE(admin->notices))
		return;
	admin->notices[admin->notice_count++] = (uint64_t)nsid << 8 | (uint64_t)notice;
	admin->notice_total++;
	nvme_event_raise(controller, NVME_EVENT_RESERVATION);
}

static void log_oldest_notice(const struct nvme_controller *controller, union log_page *page)
{
	const struct vfu_admin_state *admin = &controller->shared->admin;
	struct nvme_resv_notification_log *log = &page->reservation;
	uint32_t count = MIN(admin->notice_count, (uint32_t)ARRAY_SIZE(admin->notices));

	if (count == 0)
		return;
	log->lpc = admin->notice_total - count + 1;
	log->rnlpt = (uint8_t)admin->notices[0];
	log->nalp = (uint8_t)(count - 1);
	log->nsid = (uint32_t)(admin->notices[0] >> 8);
}

static void log_drop_notice(struct nvme_controller *controller)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	if (admin->notice_count == 0)
		return;
	admin->notice_count--;
	memmove(admin->notices, admin->notices + 1,
		admin->notice_count * sizeof(admin->notices[0]));
}

/* Returns the page's size, 0 when there is none of that id. */
static uint32_t log_fill(struct nvme_controller *controller, uint8_t id, union log_page *page)
{
	switch (id) {
	case NVME_LOG_LID_SUPPORTED_LOG_PAGES:
		log_supported(page);
		return sizeof(page->supported);
	case NVME_LOG_LID_ERROR:
		log_errors(controller, page);
		return sizeof(page->errors);
	case NVME_LOG_LID_SMART:
		log_smart(controller, page);
		return sizeof(page->smart);
	case NVME_LOG_LID_FW_SLOT:
		log_firmware(page);
		return sizeof(page->firmware);
	case NVME_LOG_LID_CHANGED_NS:
		log_changed(controller, page);
		return sizeof(page->changed);
	case NVME_LOG_LID_CMD_EFFECTS:
		log_effects(controller, page);
		return sizeof(page->effects);
	case NVME_LOG_LID_RESERVATION:
		log_oldest_notice(controller, page);
		return sizeof(page->reservation);
	default:
		return 0;
	}
}

static void log_was_read(struct nvme_controller *controller, uint8_t id)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	if (id == NVME_LOG_LID_CHANGED_NS)
		memset(admin->namespaces_changed, 0, sizeof(admin->namespaces_changed));
	if (id == NVME_LOG_LID_RESERVATION)
		log_drop_notice(controller);
	nvme_event_log_read(controller, id);
	if (id == NVME_LOG_LID_RESERVATION && admin->notice_count > 0)
		nvme_event_raise(controller, NVME_EVENT_RESERVATION);
}

void nvme_log_page(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	uint32_t cdw10 = sqe->cdw10;
	uint64_t length = ((uint64_t)(sqe->cdw11 & 0xffff) << 16 | cdw10 >> 16) * 4 + 4;
	uint64_t offset = (uint64_t)sqe->cdw13 << 32 | sqe->cdw12;
	uint8_t id = (uint8_t)cdw10;
	union log_page page = {0};
	uint32_t size = log_fill(controller, id, &page);

	if (size == 0) {
		nvme_command_end(command,
				 NVME_STATUS_SPECIFIC(NVME_SC_INVALID_LOG_PAGE) | NVME_STATUS_DNR);
		return;
	}
	if (offset % 4 != 0 || offset > size || length > NVME_DATA_BYTES_MAX) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	if (!(cdw10 & RETAIN))
		nvme_event_unmask(controller, id);
	if (nvme_command_answer(command, page.bytes + offset, size - offset, length) &&
	    !(cdw10 & RETAIN))
		log_was_read(controller, id);
}
