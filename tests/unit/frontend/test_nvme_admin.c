/* SPDX-License-Identifier: Apache-2.0 */
/* Admin commands and their errors, queues, events, interrupts, memory that comes and goes. */
#include <errno.h>

#include "nvme_fixture.h"

#include "base/endian.h"

static uint16_t identify(uint32_t nsid, uint32_t cns, uint32_t cdw11)
{
	return nvme_admin((struct nvme_sqe){.opcode = nvme_admin_identify,
					    .nsid = nsid,
					    .dptr = {DATA},
					    .cdw10 = cns,
					    .cdw11 = cdw11});
}

static void identify_knows_its_structures(void **state)
{
	const struct nvme_id_ns *ns = nvme_rig_at(&rig, DATA);
	const unsigned char *bytes = nvme_rig_at(&rig, DATA);

	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_NS, 0), 0);
	assert_int_equal(ns->nsze, BLOCKS);
	assert_int_equal(1 << ns->lbaf[ns->flbas & 0xf].ds, 512);
	assert_int_equal(get_be64(ns->nguid), 0x1122334455667788);
	assert_int_equal(identify(2, NVME_IDENTIFY_CNS_NS, 0), 0);
	assert_int_equal(ns->nsze, VOLUME_BYTES / 4096);
	assert_int_equal(1 << ns->lbaf[ns->flbas & 0xf].ds, 4096);
	assert_int_equal(identify(3, NVME_IDENTIFY_CNS_NS, 0), 0); /* not attached: zeros */
	assert_int_equal(ns->nsze, 0);
	assert_int_equal(identify(NVME_NSID_ALL, NVME_IDENTIFY_CNS_NS, 0), 0);
	assert_int_equal(ns->nlbaf, 1);
	assert_int_equal(identify(0, NVME_IDENTIFY_CNS_NS, 0), NVME_SC_INVALID_NS);
	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_NS_DESC_LIST, 0), 0);
	assert_int_equal(bytes[0], NVME_NIDT_EUI64);
	assert_int_equal(bytes[12], NVME_NIDT_NGUID);
	assert_int_equal(bytes[32], NVME_NIDT_CSI);
	assert_int_equal(identify(7, NVME_IDENTIFY_CNS_NS_DESC_LIST, 0), NVME_SC_INVALID_NS);
	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_NS_ACTIVE_LIST, 0), 0);
	assert_int_equal(get_le32(bytes), 2);
	assert_int_equal(get_le32(bytes + 4), 0);
	assert_int_equal(identify(NVME_NSID_ALL, NVME_IDENTIFY_CNS_NS_ACTIVE_LIST, 0),
			 NVME_SC_INVALID_NS);
	assert_int_equal(identify(0, NVME_IDENTIFY_CNS_CTRL_LIST, 0), 0);
	assert_int_equal(get_le16(bytes), 1);
	assert_int_equal(get_le16(bytes + 2), 1);
	assert_int_equal(identify(0, NVME_IDENTIFY_CNS_CTRL_LIST | 2 << 16, 0), 0);
	assert_int_equal(get_le16(bytes), 0);
	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_NS_CTRL_LIST, 0), 0);
	assert_int_equal(identify(9, NVME_IDENTIFY_CNS_NS_CTRL_LIST, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_CSI_NS, 0), 0);
	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_CSI_NS, 2u << 24), NVME_SC_INVALID_FIELD);
	assert_int_equal(identify(0, NVME_IDENTIFY_CNS_CSI_CTRL, 0), 0);
	assert_int_equal(identify(0, NVME_IDENTIFY_CNS_CSI_CTRL, 2u << 24), NVME_SC_INVALID_FIELD);
	assert_int_equal(identify(0, NVME_IDENTIFY_CNS_CSI_NS_ACTIVE_LIST, 0), 0);
	assert_int_equal(identify(0, NVME_IDENTIFY_CNS_CSI_NS_ACTIVE_LIST, 1u << 24),
			 NVME_SC_INVALID_FIELD);
	assert_int_equal(identify(0, NVME_IDENTIFY_CNS_COMMAND_SET_STRUCTURE, 0), 0);
	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_CSI_INDEPENDENT_ID_NS, 0), 0);
	assert_int_equal(identify(0, 0x77, 0), NVME_SC_INVALID_FIELD);
}

static uint16_t create_cq(uint32_t id, uint32_t entries, uint32_t cdw11, uint64_t base)
{
	return nvme_admin((struct nvme_sqe){.opcode = nvme_admin_create_cq,
					    .dptr = {base},
					    .cdw10 = id | (entries - 1) << 16,
					    .cdw11 = cdw11});
}

static uint16_t create_sq(uint32_t id, uint32_t entries, uint32_t cdw11, uint64_t base)
{
	return nvme_admin((struct nvme_sqe){.opcode = nvme_admin_create_sq,
					    .dptr = {base},
					    .cdw10 = id | (entries - 1) << 16,
					    .cdw11 = cdw11});
}

static uint16_t delete_queue(uint8_t opcode, uint32_t id)
{
	return nvme_admin((struct nvme_sqe){.opcode = opcode, .cdw10 = id});
}

static void completion_queues_have_limits(void **state)
{
	assert_int_equal(create_cq(0, 16, 3, DATA), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(create_cq(1, 16, 3, DATA), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(create_cq(VFU_QUEUE_COUNT, 16, 3, DATA), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(create_cq(9, 1, 3, DATA), SPECIFIC(NVME_SC_QUEUE_SIZE));
	assert_int_equal(create_cq(9, VFU_QUEUE_DEPTH + 1, 3, DATA), SPECIFIC(NVME_SC_QUEUE_SIZE));
	assert_int_equal(create_cq(9, 16, 2, DATA), NVME_SC_INVALID_FIELD);
	assert_int_equal(create_cq(9, 16, 3, DATA + 8), NVME_SC_PRP_INVALID_OFFSET);
	assert_int_equal(create_cq(9, 16, 3 | VFU_VECTOR_COUNT << 16, DATA),
			 SPECIFIC(NVME_SC_INVALID_VECTOR));
	assert_int_equal(create_cq(9, 16, 3, NVME_RIG_BYTES), NVME_SC_DATA_XFER_ERROR);
	assert_int_equal(create_cq(VFU_QUEUE_COUNT - 1, VFU_QUEUE_DEPTH,
				   3 | (VFU_VECTOR_COUNT - 1) << 16, DATA),
			 0);
	assert_int_equal(delete_queue(nvme_admin_delete_cq, 1), SPECIFIC(NVME_SC_INVALID_QUEUE));
	assert_int_equal(delete_queue(nvme_admin_delete_cq, 0), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(delete_queue(nvme_admin_delete_cq, 9), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(delete_queue(nvme_admin_delete_cq, VFU_QUEUE_COUNT - 1), 0);
	vfu_store(&rig.shared->msix_enabled, 0);
	assert_int_equal(create_cq(9, 16, 3 | 1 << 16, DATA), SPECIFIC(NVME_SC_INVALID_VECTOR));
}

static void submission_queues_have_limits(void **state)
{
	assert_int_equal(create_sq(0, 16, 1 | 1 << 16, DATA), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(create_sq(1, 16, 1 | 1 << 16, DATA), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(create_sq(9, 16, 1 | 9 << 16, DATA), SPECIFIC(NVME_SC_CQ_INVALID));
	assert_int_equal(create_sq(9, 16, 1, DATA), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(create_sq(9, 16, 1 << 16, DATA), NVME_SC_INVALID_FIELD);
	assert_int_equal(create_sq(9, 1, 1 | 1 << 16, DATA), SPECIFIC(NVME_SC_QUEUE_SIZE));
	assert_int_equal(create_sq(9, 1025, 1 | 1 << 16, DATA), SPECIFIC(NVME_SC_QUEUE_SIZE));
	assert_int_equal(create_sq(9, 16, 1 | 1 << 16, DATA + 64), NVME_SC_PRP_INVALID_OFFSET);
	assert_int_equal(create_sq(9, 1024, 1 | 1 << 16, NVME_RIG_BYTES - 4096),
			 NVME_SC_DATA_XFER_ERROR);
	/* Two queues with one completion queue. */
	assert_int_equal(create_sq(128, 1024, 1 | 1 << 16, DATA), 0);
	assert_int_equal(delete_queue(nvme_admin_delete_sq, 1), 0);
	assert_int_equal(delete_queue(nvme_admin_delete_cq, 1), SPECIFIC(NVME_SC_INVALID_QUEUE));
	assert_int_equal(delete_queue(nvme_admin_delete_sq, 128), 0);
	assert_int_equal(delete_queue(nvme_admin_delete_cq, 1), 0);
	assert_int_equal(delete_queue(nvme_admin_delete_sq, 128), SPECIFIC(NVME_SC_QID_INVALID));
	assert_int_equal(delete_queue(nvme_admin_delete_sq, 200), SPECIFIC(NVME_SC_QID_INVALID));
}

static void deletion_waits_for_commands(void **state)
{
	struct nvme_sqe write = nvme_rig_rw(nvme_cmd_write, 2, 0, 2, DATA);
	struct nvme_sqe fused = nvme_rig_rw(nvme_cmd_compare, 2, 0, 1, DATA);
	struct nvme_cqe cqe;

	/* All seen at once: the volume on the other reactor has not answered yet. */
	for (unsigned i = 0; i < 8; i++)
		(void)nvme_rig_push(&rig, 1, &write);
	fused.flags = NVME_FUSED_FIRST;
	(void)nvme_rig_push(&rig, 1, &fused);
	nvme_rig_ring(&rig, 1);
	while (rig.shared->sqs[1].command_count < 9)
		nvme_rig_sleep(&rig, 100);
	assert_int_equal(delete_queue(nvme_admin_delete_sq, 1), 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(nvme_rig_peek(&rig, 1, &cqe));
		if ((cqe.status >> 1 & 0x7ff) == NVME_SC_FUSED_MISSING)
			i--;
	}
}

static void unknown_commands_are_refused(void **state)
{
	struct nvme_sqe fused = {.opcode = nvme_admin_identify, .flags = 1};

	for (unsigned opcode = 0xc0; opcode <= 0xff; opcode++)
		assert_int_equal(nvme_admin((struct nvme_sqe){.opcode = (uint8_t)opcode}),
				 NVME_SC_INVALID_OPCODE);
	assert_int_equal(nvme_admin(fused), NVME_SC_INVALID_FIELD);
	assert_int_equal(nvme_admin((struct nvme_sqe){.opcode = nvme_admin_keep_alive}), 0);
	assert_int_equal(nvme_admin((struct nvme_sqe){.opcode = nvme_admin_fw_commit}),
			 NVME_SC_INVALID_OPCODE);
}

static uint16_t feature(uint8_t opcode, uint32_t cdw10, uint32_t cdw11, uint32_t *ret_value)
{
	struct nvme_sqe sqe = {.opcode = opcode, .dptr = {DATA}, .cdw10 = cdw10, .cdw11 = cdw11};

	return nvme_rig_run(&rig, 0, &sqe, ret_value);
}

#define GET nvme_admin_get_features
#define SET nvme_admin_set_features

static void features_are_kept(void **state)
{
	static const uint8_t plain[] = {
		NVME_FEAT_FID_ARBITRATION,  NVME_FEAT_FID_POWER_MGMT,  NVME_FEAT_FID_TEMP_THRESH,
		NVME_FEAT_FID_ERR_RECOVERY, NVME_FEAT_FID_VOLATILE_WC, NVME_FEAT_FID_IRQ_COALESCE,
		NVME_FEAT_FID_WRITE_ATOMIC, NVME_FEAT_FID_ASYNC_EVENT, NVME_FEAT_FID_KATO,
	};
	struct nvme_feat_host_behavior *behavior = nvme_rig_at(&rig, DATA);
	uint32_t value;

	for (unsigned i = 0; i < ARRAY_SIZE(plain); i++) {
		assert_int_equal(feature(GET, plain[i], 0, &value), 0);
		assert_int_equal(feature(GET, plain[i] | 1 << 8, 0, &value), 0);
		assert_int_equal(feature(GET, plain[i] | 3 << 8, 0, &value), 0);
		assert_int_equal(value, 4);
		assert_int_equal(feature(SET, plain[i], 0, NULL), 0);
		assert_int_equal(feature(GET, plain[i], 0, &value), 0);
		assert_int_equal(value, 0);
		assert_int_equal(feature(SET, plain[i] | 1u << 31, 0, NULL),
				 SPECIFIC(NVME_SC_FEATURE_NOT_SAVEABLE));
	}
	assert_int_equal(feature(SET, NVME_FEAT_FID_KATO, 120000, NULL), 0);
	nvme_rig_stop(&rig); /* another engine knows it too */
	nvme_rig_start(&rig);
	assert_int_equal(feature(GET, NVME_FEAT_FID_KATO, 0, &value), 0);
	assert_int_equal(value, 120000);
	assert_int_equal(feature(SET, NVME_FEAT_FID_POWER_MGMT, 1, NULL), NVME_SC_INVALID_FIELD);
	assert_int_equal(feature(SET, 0x3f, 0, NULL), NVME_SC_INVALID_FIELD);
	assert_int_equal(feature(GET, 0xc0, 0, NULL), NVME_SC_INVALID_FIELD);
	assert_int_equal(feature(GET, NVME_FEAT_FID_KATO | 5 << 8, 0, NULL), NVME_SC_INVALID_FIELD);
	behavior->acre = 1;
	assert_int_equal(feature(SET, NVME_FEAT_FID_HOST_BEHAVIOR, 0, NULL), 0);
	behavior->acre = 0;
	assert_int_equal(feature(GET, NVME_FEAT_FID_HOST_BEHAVIOR, 0, NULL), 0);
	assert_int_equal(behavior->acre, 1);
	memcpy(nvme_rig_at(&rig, DATA), "0123456789abcdef", 16);
	assert_int_equal(feature(SET, NVME_FEAT_FID_HOST_ID, 1, NULL), 0);
	memset(nvme_rig_at(&rig, DATA), 0, 16);
	assert_int_equal(feature(GET, NVME_FEAT_FID_HOST_ID, 1, NULL), 0);
	assert_memory_equal(nvme_rig_at(&rig, DATA), "0123456789abcdef", 16);
}

static void queue_counts_come_first(void **state)
{
	uint32_t value;

	assert_int_equal(feature(SET, NVME_FEAT_FID_NUM_QUEUES, 0x30003, NULL),
			 NVME_SC_CMD_SEQ_ERROR);
	nvme_rig_write_cc(&rig, 0);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	nvme_rig_enable(&rig);
	assert_int_equal(feature(SET, NVME_FEAT_FID_NUM_QUEUES, 0x30003, &value), 0);
	assert_int_equal(value, 127 << 16 | 127);
	assert_int_equal(feature(SET, NVME_FEAT_FID_NUM_QUEUES, 0xffff, NULL),
			 NVME_SC_INVALID_FIELD);
}

static uint16_t log_page(uint8_t id, uint32_t bytes, uint64_t offset, bool retain)
{
	return nvme_admin(
		(struct nvme_sqe){.opcode = nvme_admin_get_log_page,
				  .nsid = NVME_NSID_ALL,
				  .dptr = {DATA, DATA + 4096},
				  .cdw10 = id | (uint32_t)retain << 15 | (bytes / 4 - 1) << 16,
				  .cdw12 = (uint32_t)offset,
				  .cdw13 = (uint32_t)(offset >> 32)});
}

static void log_pages_tell(void **state)
{
	const struct nvme_error_log_page *errors = nvme_rig_at(&rig, DATA);
	const struct nvme_smart_log *smart = nvme_rig_at(&rig, DATA);
	const struct nvme_cmd_effects_log *effects = nvme_rig_at(&rig, DATA);
	const struct nvme_firmware_slot *firmware = nvme_rig_at(&rig, DATA);
	const uint32_t *supported = nvme_rig_at(&rig, DATA);

	assert_int_equal(nvme_io(nvme_cmd_read, BLOCKS, 1, DATA), NVME_SC_LBA_RANGE);
	assert_int_equal(log_page(NVME_LOG_LID_ERROR, 4096, 0, false), 0);
	assert_int_equal(errors[0].error_count, 1);
	assert_int_equal(errors[0].lba, BLOCKS);
	assert_int_equal(errors[0].status_field >> 1 & 0xff, NVME_SC_LBA_RANGE);
	assert_int_equal(errors[1].error_count, 0);
	assert_int_equal(nvme_io(nvme_cmd_read, 0, 1, DATA), 0);
	assert_int_equal(log_page(NVME_LOG_LID_SMART, 512, 0, false), 0);
	assert_int_equal(get_le64(smart->host_reads), 1);
	assert_int_equal(get_le64(smart->num_err_log_entries), 1);
	assert_int_equal(log_page(NVME_LOG_LID_FW_SLOT, 512, 0, false), 0);
	assert_int_equal(firmware->afi, 1);
	assert_int_equal(log_page(NVME_LOG_LID_CMD_EFFECTS, 4096, 0, false), 0);
	assert_int_equal(effects->acs[nvme_admin_identify], 1);
	assert_int_equal(effects->acs[nvme_admin_fw_commit], 0);
	assert_int_equal(effects->iocs[nvme_cmd_write], 3);
	assert_int_equal(log_page(NVME_LOG_LID_SUPPORTED_LOG_PAGES, 1024, 0, false), 0);
	assert_int_equal(supported[NVME_LOG_LID_SMART], 1);
	assert_int_equal(supported[NVME_LOG_LID_ANA], 0);
	/* A part of a page, and beyond its end. */
	assert_int_equal(log_page(NVME_LOG_LID_CMD_EFFECTS, 4, 4 * nvme_admin_identify, false), 0);
	assert_int_equal(supported[0], 1);
	assert_int_equal(log_page(NVME_LOG_LID_SMART, 512, 513, false), NVME_SC_INVALID_FIELD);
	assert_int_equal(log_page(NVME_LOG_LID_SMART, 512, 516, false), NVME_SC_INVALID_FIELD);
	assert_int_equal(log_page(NVME_LOG_LID_SMART, 8192, 0, false), 0);
	assert_int_equal(log_page(NVME_LOG_LID_ANA, 512, 0, false),
			 SPECIFIC(NVME_SC_INVALID_LOG_PAGE));
}

static void request_event(uint16_t *ret_cid)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_async_event};

	*ret_cid = nvme_rig_submit(&rig, 0, &sqe);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
}

static void resize(void *arg)
{
	nvme_namespace_resized(rig.controller, 1);
}

static void changes_of_namespaces_are_told(void **state)
{
	const uint32_t *list = nvme_rig_at(&rig, DATA);
	struct nvme_cqe cqe;
	uint16_t cid;

	request_event(&cid);
	sim_rig_run(rig.sim, 0, resize, NULL); /* nobody has asked for it */
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_false(nvme_rig_peek(&rig, 0, &cqe));
	assert_int_equal(feature(SET, NVME_FEAT_FID_ASYNC_EVENT, 0x100, NULL), 0);
	volumes[0]->size_bytes = 8 * MIB;
	sim_rig_run(rig.sim, 0, resize, NULL);
	volumes[0]->size_bytes = VOLUME_BYTES;
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.cid, cid);
	assert_int_equal(cqe.result, NVME_AER_NOTICE | NVME_LOG_LID_CHANGED_NS << 16);
	/* Masked until the log is read, over a change of engines. */
	request_event(&cid);
	sim_rig_run(rig.sim, 0, resize, NULL);
	nvme_rig_stop(&rig);
	nvme_rig_start(&rig);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_false(nvme_rig_peek(&rig, 0, &cqe));
	assert_int_equal(log_page(NVME_LOG_LID_CHANGED_NS, 4096, 0, true), 0);
	assert_int_equal(list[0], 1);
	assert_int_equal(list[1], 0);
	assert_false(nvme_rig_peek(&rig, 0, &cqe));
	assert_int_equal(log_page(NVME_LOG_LID_CHANGED_NS, 4096, 0, false), 0);
	assert_int_equal(list[0], 1);
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.cid, cid);
	assert_int_equal(log_page(NVME_LOG_LID_CHANGED_NS, 4096, 0, false), 0);
	assert_int_equal(list[0], 0);
	/* What has changed while there was no engine. */
	request_event(&cid);
	nvme_rig_stop(&rig);
	nvme_rig_start(&rig);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_false(nvme_rig_peek(&rig, 0, &cqe));
	nvme_rig_stop(&rig);
	rig.namespaces[1].inactive = true;
	nvme_rig_start(&rig);
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.cid, cid);
	assert_int_equal(log_page(NVME_LOG_LID_CHANGED_NS, 4096, 0, false), 0);
	assert_true(list[0] == 2 || (list[0] == 1 && list[1] == 2));
}

/* The engine died when the vDisk had its new size and the guest had not been told. */
static void a_size_that_no_engine_told_is_told(void **state)
{
	const uint32_t *list = nvme_rig_at(&rig, DATA);
	struct nvme_cqe cqe;
	uint16_t cid;

	assert_int_equal(feature(SET, NVME_FEAT_FID_ASYNC_EVENT, 0x100, NULL), 0);
	request_event(&cid);
	nvme_rig_stop(&rig);
	volumes[0]->size_bytes = 8 * MIB;
	nvme_rig_start(&rig);
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.cid, cid);
	assert_int_equal(cqe.result, NVME_AER_NOTICE | NVME_LOG_LID_CHANGED_NS << 16);
	assert_int_equal(log_page(NVME_LOG_LID_CHANGED_NS, 4096, 0, false), 0);
	assert_int_equal(list[0], 1);
	/* Told once; and what an older engine has kept says nothing. */
	request_event(&cid);
	nvme_rig_stop(&rig);
	nvme_rig_start(&rig);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	nvme_rig_stop(&rig);
	rig.shared->admin.namespaces_sizes = 0;
	nvme_rig_start(&rig);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_false(nvme_rig_peek(&rig, 0, &cqe));
	nvme_rig_stop(&rig);
	volumes[0]->size_bytes = VOLUME_BYTES;
	nvme_rig_start(&rig);
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.cid, cid);
}

static void event_requests_have_a_limit_and_can_be_aborted(void **state)
{
	struct nvme_cqe cqe;
	uint16_t cids[17];
	uint32_t value;

	for (unsigned i = 0; i < 17; i++)
		request_event(&cids[i]);
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.cid, cids[16]);
	assert_int_equal(cqe.status >> 1 & 0x7ff, SPECIFIC(NVME_SC_ASYNC_LIMIT));
	for (unsigned i = 0; i < 16; i++) {
		struct nvme_sqe sqe = {.opcode = nvme_admin_abort_cmd,
				       .cdw10 = (uint32_t)cids[i] << 16};
		uint16_t cid = nvme_rig_submit(&rig, 0, &sqe);

		assert_true(nvme_rig_take(&rig, 0, &cqe));
		assert_int_equal(cqe.cid, cids[i]);
		assert_int_equal(cqe.status >> 1 & 0x7ff, NVME_SC_ABORT_REQ);
		assert_true(nvme_rig_take(&rig, 0, &cqe));
		assert_int_equal(cqe.cid, cid);
		assert_int_equal(cqe.result, 0);
	}
	assert_int_equal(feature(nvme_admin_abort_cmd, 1 | 77 << 16, 0, &value), 0);
	assert_int_equal(value, 1); /* not aborted */
}

static void wrong_doorbells_are_reported(void **state)
{
	struct nvme_cqe cqe;
	uint16_t cid;

	request_event(&cid);
	vfu_store(&rig.doorbells->queues[1].sq_tail, NVME_RIG_DEPTH);
	nvme_rig_kick(&rig);
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.cid, cid);
	assert_int_equal(cqe.result, NVME_AER_ERROR | NVME_AER_ERROR_INVALID_DB_VAL << 8 |
					     NVME_LOG_LID_ERROR << 16);
	/* A good value later is good. */
	assert_int_equal(nvme_io(nvme_cmd_read, 0, 1, DATA), 0);
	/* A head beyond what was posted is not believed: the queue still takes what fits. */
	vfu_store(&rig.doorbells->queues[2].cq_head, 7);
	for (unsigned i = 0; i < NVME_RIG_DEPTH - 2; i++) {
		struct nvme_sqe sqe = {.opcode = nvme_cmd_flush, .nsid = 1};

		(void)nvme_rig_push(&rig, 2, &sqe);
	}
	nvme_rig_ring(&rig, 2);
	for (unsigned i = 0; i < NVME_RIG_DEPTH - 2; i++)
		assert_true(nvme_rig_take(&rig, 2, &cqe));
}

static void shadow_doorbells_spare_kicks(void **state)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_dbbuf, .dptr = {0x4000, 0x5000}};
	unsigned kicks;

	sqe.dptr[1] = 0x4000;
	assert_int_equal(nvme_admin(sqe), NVME_SC_INVALID_FIELD);
	sqe.dptr[1] = 0x5004;
	assert_int_equal(nvme_admin(sqe), NVME_SC_INVALID_FIELD);
	sqe.dptr[1] = NVME_RIG_BYTES;
	assert_int_equal(nvme_admin(sqe), NVME_SC_DATA_XFER_ERROR);
	sqe.dptr[1] = 0x5000;
	assert_int_equal(nvme_admin(sqe), 0);
	rig.shadow = 0x4000;
	rig.events = 0x5000;
	kicks = rig.kicks;
	for (unsigned i = 0; i < 40; i++) {
		nvme_rig_sleep(&rig, NSEC_PER_MSEC);
		assert_int_equal(nvme_io(nvme_cmd_read, i, 1, DATA), 0);
	}
	assert_int_equal(rig.kicks, kicks + 40); /* it sleeps between, and is told */
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	kicks = rig.kicks;
	for (unsigned i = 0; i < 10; i++) {
		struct nvme_sqe read = nvme_rig_rw(nvme_cmd_read, 1, i, 1, DATA);

		(void)nvme_rig_submit(&rig, 1, &read);
	}
	assert_int_equal(rig.kicks, kicks + 1); /* only the first */
}

static void mapped_doorbells_are_found_without_a_kick(void **state)
{
	unsigned kicks = rig.kicks;

	vfu_store(&rig.shared->doorbells_mapped, 1);
	nvme_rig_kick(&rig);
	nvme_rig_sleep(&rig, 50 * NSEC_PER_MSEC);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(nvme_io(nvme_cmd_read, i, 1, DATA), 0);
	assert_int_equal(rig.kicks, kicks + 1);
}

static void interrupts_are_coalesced(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_read, 1, 0, 1, DATA);
	unsigned before;

	assert_int_equal(feature(SET, NVME_FEAT_FID_IRQ_COALESCE, 5 << 8 | 3, NULL), 0);
	before = rig.interrupts[1];
	(void)nvme_rig_submit(&rig, 1, &sqe);
	nvme_rig_sleep(&rig, 300 * NSEC_PER_USEC);
	assert_int_equal(rig.interrupts[1], before);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(rig.interrupts[1], before + 1); /* after 500 us */
	for (unsigned i = 0; i < 4; i++)
		(void)nvme_rig_push(&rig, 1, &sqe);
	nvme_rig_ring(&rig, 1);
	nvme_rig_sleep(&rig, 300 * NSEC_PER_USEC);
	assert_int_equal(rig.interrupts[1], before + 2); /* four are there */
	assert_int_equal(feature(SET, NVME_FEAT_FID_IRQ_CONFIG, 1 | 1 << 16, NULL), 0);
	(void)nvme_rig_submit(&rig, 1, &sqe);
	nvme_rig_sleep(&rig, 300 * NSEC_PER_USEC);
	assert_int_equal(rig.interrupts[1], before + 3); /* that vector is not coalesced */
	assert_int_equal(feature(SET, NVME_FEAT_FID_IRQ_CONFIG, 200, NULL), NVME_SC_INVALID_FIELD);
}

static void intx_is_a_level(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_read, 1, 0, 1, DATA);
	unsigned before;

	vfu_store(&rig.shared->msix_enabled, 0);
	before = rig.interrupts[0];
	(void)nvme_rig_submit(&rig, 1, &sqe);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_true(rig.interrupts[0] > before);
	before = rig.interrupts[0];
	nvme_rig_kick(&rig); /* not yet taken */
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(rig.interrupts[0], before + 1);
	vfu_store(&rig.shared->registers.intm, 1);
	nvme_rig_kick(&rig);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(rig.interrupts[0], before + 1);
}

static void do_unmap(void *arg)
{
	nvme_controller_unmap(rig.controller, *(const uint32_t *)arg);
}

static void unmap(uint32_t id)
{
	sim_rig_run(rig.sim, 0, do_unmap, &id);
}

static int map_result;

static void do_map(void *arg)
{
	struct vfu_map *map = arg;

	map_result = nvme_controller_map(rig.controller, map,
					 nvme_rig_at(&rig, map->address & ~UINT64_C(1)));
}

static int map(uint64_t address, uint64_t length, uint32_t id)
{
	struct vfu_map range = {address, length, id, VFU_MAP_READ | VFU_MAP_WRITE};

	sim_rig_run(rig.sim, 0, do_map, &range);
	return map_result;
}

static void memory_comes_and_goes(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_read, 2, 0, 1, NVME_RIG_HIGH);
	struct nvme_cqe cqe;

	assert_int_equal(map(NVME_RIG_BYTES - 4096, 8192, 9), -EEXIST);
	assert_int_equal(map(NVME_RIG_BYTES, 4096, 2), -EEXIST);
	assert_int_equal(map(0, 0, 9), -EINVAL);
	assert_int_equal(map(UINT64_MAX - 4095, 8192, 9), -EINVAL);
	(void)nvme_rig_submit(&rig, 1, &sqe);
	unmap(2); /* a read into it is on its way, or not yet seen */
	assert_true(nvme_rig_take(&rig, 1, &cqe));
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(rig.unmapped_count, 1);
	assert_int_equal(rig.unmapped[0], 2);
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_DATA_XFER_ERROR);
	unmap(2); /* unknown now: answered at once */
	assert_int_equal(rig.unmapped_count, 2);
	assert_int_equal(map(NVME_RIG_HIGH, NVME_RIG_HIGH_BYTES, 3), 0);
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), 0);
	/* The queues' memory goes for a while: commands wait for it. */
	unmap(1);
	(void)nvme_rig_submit(&rig, 1, &sqe);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_false(nvme_rig_peek(&rig, 1, &cqe));
	assert_int_equal(map(0, NVME_RIG_BYTES, 4), 0);
	assert_true(nvme_rig_take(&rig, 1, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
}

static void ranges_have_a_limit(void **state)
{
	const uint64_t from = UINT64_C(1) << 40;

	for (uint32_t i = 0; i < VFU_MAP_COUNT - 2; i++)
		assert_int_equal(map(from + i * 4096, 4096, 10 + i), 0);
	assert_int_equal(map(0xf0000000, 4096, 5000), -ENOSPC);
	for (uint32_t i = 0; i < 60; i++)
		unmap(10 + i);
	assert_int_equal(rig.unmapped_count, 60);
}

static void a_reset_drops_commands_in_flight(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_read, 2, 0, 1, DATA);
	uint16_t cid;

	request_event(&cid);
	for (unsigned i = 0; i < 10; i++)
		(void)nvme_rig_push(&rig, 1, &sqe);
	nvme_rig_ring(&rig, 1);
	nvme_rig_sleep(&rig, 2 * NSEC_PER_USEC);
	nvme_rig_write_cc(&rig, 0);
	nvme_rig_sleep(&rig, 10 * NSEC_PER_MSEC);
	assert_int_equal(rig.shared->registers.csts, 0);
	assert_int_equal(rig.shared->registers.disable_done, rig.shared->registers.disable_count);
	for (unsigned i = 0; i < VFU_SLOT_COUNT; i++)
		assert_int_equal(rig.shared->slots[i].state, VFU_SLOT_FREE);
	nvme_rig_make_queues(&rig, 1);
	assert_int_equal(nvme_io(nvme_cmd_read, 0, 1, DATA), 0);
	/* A fall of EN that was over before anybody looked. */
	rig.shared->registers.disable_count++;
	nvme_rig_kick(&rig);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(rig.shared->registers.csts, 1);
	assert_int_equal(rig.shared->sqs[1].state, VFU_QUEUE_ABSENT);
}

static void a_reset_is_done_for_a_dead_engine(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_read, 2, 0, 1, DATA);

	nvme_rig_stop(&rig);
	(void)nvme_rig_submit(&rig, 1, &sqe);
	nvme_rig_device_reset(&rig);
	nvme_rig_start(&rig);
	assert_int_equal(rig.quiesced, 1);
	assert_int_equal(rig.shared->registers.csts, 0);
	nvme_rig_make_queues(&rig, 1);
	assert_int_equal(nvme_io(nvme_cmd_read, 0, 1, DATA), 0);
}

static void enable(uint32_t cc, uint32_t aqa, uint64_t asq, uint64_t acq)
{
	struct vfu_registers *registers = &rig.shared->registers;

	nvme_rig_write_cc(&rig, 0);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(registers->csts, 0);
	registers->aqa = aqa;
	registers->asq = asq;
	registers->acq = acq;
	nvme_rig_write_cc(&rig, cc);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
}

static void what_cannot_be_enabled_is_fatal(void **state)
{
	struct vfu_registers *registers = &rig.shared->registers;
	const uint32_t cc = 1 | 6u << 16 | 4u << 20, aqa = 31 << 16 | 31;

	enable(cc, aqa, 0x1008, 0x2000);
	assert_int_equal(registers->csts, 2);
	enable(cc, aqa, 0x1000, NVME_RIG_BYTES);
	assert_int_equal(registers->csts, 2);
	enable(cc, 0 << 16 | 31, 0x1000, 0x2000);
	assert_int_equal(registers->csts, 2);
	enable(cc | 1 << 7, aqa, 0x1000, 0x2000);
	assert_int_equal(registers->csts, 2);
	enable(cc | 6 << 4, aqa, 0x1000, 0x2000);
	assert_int_equal(registers->csts, 2);
	enable(cc, aqa, 0x1000, 0x2000);
	assert_int_equal(registers->csts, 1);
}

static void shutdown_is_announced(void **state)
{
	struct vfu_registers *registers = &rig.shared->registers;
	uint32_t cc = registers->cc;

	nvme_rig_write_cc(&rig, cc | 1 << 14);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(registers->csts, 1 | 2 << 2);
	assert_int_equal(registers->shutdown_done, 1);
	nvme_rig_write_cc(&rig, 0);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(registers->csts, 0);
	nvme_rig_make_queues(&rig, 1);
	assert_int_equal(nvme_io(nvme_cmd_read, 0, 1, DATA), 0);
}

/* A command with which three engines have died, and three more when it ran alone. */
static void poison_is_not_tried_for_ever(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_read, 1, 0, 1, DATA);
	struct vfu_slot *slot = &rig.shared->slots[7];
	struct nvme_cqe cqe;

	for (uint32_t alone = 2; alone <= 3; alone++) {
		nvme_rig_stop(&rig);
		slot->sqid = slot->cqid = 1;
		slot->attempts = 3 + alone;
		slot->alone = alone;
		memcpy(slot->sqe, &sqe, sizeof(sqe));
		/* As if it had been taken from the queue. */
		slot->sequence = rig.shared->sqs[1].command_count++;
		rig.queues[1].tail = (rig.queues[1].tail + 1) % NVME_RIG_DEPTH;
		vfu_store(&rig.doorbells->queues[1].sq_tail, rig.queues[1].tail);
		slot->state = VFU_SLOT_FETCHED;
		nvme_rig_start(&rig);
		assert_true(nvme_rig_take(&rig, 1, &cqe));
		assert_int_equal(cqe.status >> 1 & 0x7ff, alone == 3 ? NVME_SC_INTERNAL : 0);
	}
}

/* The write of a pair whose compare has succeeded: done without a compare, but not for ever. */
static void a_write_that_was_compared_is_only_written(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_write, 1, 5, 1, DATA);
	struct vfu_slot *slot = &rig.shared->slots[7];
	struct nvme_cqe cqe;

	sqe.flags = NVME_FUSED_SECOND;
	nvme_fill(DATA, 512, 9);
	for (uint32_t alone = 2; alone <= 3; alone++) {
		nvme_rig_stop(&rig);
		slot->sqid = slot->cqid = 1;
		slot->attempts = 6;
		slot->alone = alone;
		memcpy(slot->sqe, &sqe, sizeof(sqe));
		slot->sequence = rig.shared->sqs[1].command_count++;
		rig.queues[1].tail = (rig.queues[1].tail + 1) % NVME_RIG_DEPTH;
		vfu_store(&rig.doorbells->queues[1].sq_tail, rig.queues[1].tail);
		slot->state = VFU_SLOT_COMPARED;
		nvme_rig_start(&rig);
		assert_true(nvme_rig_take(&rig, 1, &cqe));
		assert_int_equal(cqe.status >> 1 & 0x7ff, alone == 3 ? NVME_SC_INTERNAL : 0);
		assert_int_equal(nvme_io(nvme_cmd_compare, 5, 1, DATA), 0);
	}
}

static int try_new(void)
{
	struct nvme_controller *controller = NULL;
	int result = nvme_controller_new(&rig.options, rig.shared, rig.doorbells, &controller);

	nvme_controller_free(controller);
	return result;
}

static void foreign_memory_is_refused(void **state)
{
	nvme_rig_stop(&rig);
	rig.shared->version++;
	assert_int_equal(try_new(), -EPROTO);
	rig.shared->version--;
	rig.shared->slots[9].state = 17;
	assert_int_equal(try_new(), -EUCLEAN);
	rig.shared->slots[9].state = 0;
	rig.shared->sqs[1].cqid = 50;
	assert_int_equal(try_new(), -EUCLEAN);
	rig.shared->sqs[1].cqid = 1;
	assert_int_equal(try_new(), 0);
}

static int attach_result;

static void do_attach(void *arg)
{
	attach_result = nvme_namespace_attach(rig.controller, arg);
}

static void do_detach(void *arg)
{
	attach_result = nvme_namespace_detach(rig.controller, *(const uint32_t *)arg);
}

static void namespaces_come_and_go(void **state)
{
	struct nvme_namespace_options options = rig.namespaces[0];
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_write, 7, 0, 1, DATA);
	uint32_t nsid = 7;

	sim_rig_run(rig.sim, 0, do_attach, &options);
	assert_int_equal(attach_result, -EEXIST);
	options.nsid = NVME_NAMESPACE_MAX + 1;
	sim_rig_run(rig.sim, 0, do_attach, &options);
	assert_int_equal(attach_result, -EINVAL);
	options.nsid = 7;
	options.read_only = true;
	options.block_bytes = 4096; /* larger than the volume's */
	sim_rig_run(rig.sim, 0, do_attach, &options);
	assert_int_equal(attach_result, 0);
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_NS_WRITE_PROTECTED);
	sqe.opcode = nvme_cmd_read;
	sqe.cdw10 = VOLUME_BYTES / 4096 - 1;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), 0);
	sqe.cdw10++;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_LBA_RANGE);
	sim_rig_run(rig.sim, 0, do_detach, &nsid);
	assert_int_equal(attach_result, 0);
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_FIELD);
	sim_rig_run(rig.sim, 0, do_detach, &nsid);
	assert_int_equal(attach_result, -ENOENT);
}

static uint16_t format(uint32_t nsid, uint32_t cdw10)
{
	return nvme_admin(
		(struct nvme_sqe){.opcode = nvme_admin_format_nvm, .nsid = nsid, .cdw10 = cdw10});
}

static void format_erases_and_changes_blocks(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_compare, 1, 0, 1, OTHER);
	const struct nvme_id_ns *ns = nvme_rig_at(&rig, DATA);

	nvme_fill(DATA, 4096, 3);
	assert_int_equal(nvme_io(nvme_cmd_write, 0, 8, DATA), 0);
	assert_int_equal(format(9, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(format(NVME_NSID_ALL, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(format(1, 2), SPECIFIC(NVME_SC_INVALID_FORMAT));
	assert_int_equal(format(1, 1 << 5), SPECIFIC(NVME_SC_INVALID_FORMAT));
	assert_int_equal(format(2, 0), SPECIFIC(NVME_SC_INVALID_FORMAT)); /* the volume's is 4096 */
	assert_int_equal(format(1, NVME_FORMAT_SES_CRYPTO_ERASE << 9), NVME_SC_INVALID_FIELD);
	memset(nvme_rig_at(&rig, OTHER), 0, 4096);
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), MEDIA(NVME_SC_COMPARE_FAILED));
	assert_int_equal(format(1, NVME_FORMAT_SES_USER_DATA_ERASE << 9), 0);
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), 0);
	assert_int_equal(rig.formatted, 0);
	rig.format_error = -ENOSPC;
	assert_int_equal(format(1, 1), NVME_SC_CAP_EXCEEDED);
	rig.format_error = 0;
	assert_int_equal(format(1, 1), 0);
	assert_int_equal(rig.formatted, 4096);
	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_NS, 0), 0);
	assert_int_equal(ns->nsze, VOLUME_BYTES / 4096);
	assert_int_equal(ns->flbas, 1);
	assert_int_equal(format(1, 0), 0);
	assert_int_equal(identify(1, NVME_IDENTIFY_CNS_NS, 0), 0);
	assert_int_equal(ns->nsze, BLOCKS);
	assert_int_equal(ns->lbaf[0].ds, 9);
	assert_int_equal(identify(2, NVME_IDENTIFY_CNS_NS, 0), 0);
	assert_int_equal(ns->lbaf[0].ds, 0); /* not available there */
	assert_int_equal(ns->lbaf[1].ds, 12);
}

static bool is_fatal(void)
{
	return NVME_CSTS_CFS(rig.shared->registers.csts);
}

static void a_host_that_is_not_heard_of_is_fatal(void **state)
{
	const struct nvme_sqe alive = {.opcode = nvme_admin_keep_alive};
	struct nvme_sqe sqe = alive;
	struct nvme_cqe cqe;

	assert_int_equal(feature(SET, NVME_FEAT_FID_KATO, 950, NULL), 0); /* is 1,000 */
	for (int i = 0; i < 5; i++) {
		nvme_rig_sleep(&rig, 990 * NSEC_PER_MSEC);
		assert_false(is_fatal());
		assert_int_equal(nvme_admin(alive), 0);
	}
	/* A new engine begins with a whole interval. */
	nvme_rig_sleep(&rig, 900 * NSEC_PER_MSEC);
	nvme_rig_stop(&rig);
	nvme_rig_sleep(&rig, 900 * NSEC_PER_MSEC);
	nvme_rig_start(&rig);
	nvme_rig_sleep(&rig, 900 * NSEC_PER_MSEC);
	assert_false(is_fatal());
	nvme_rig_sleep(&rig, 200 * NSEC_PER_MSEC);
	assert_true(is_fatal());
	nvme_rig_submit(&rig, 0, &sqe);
	assert_false(nvme_rig_take(&rig, 0, &cqe));
	/* A reset is the way out; then there is no timer, until one is set. */
	nvme_rig_write_cc(&rig, 0);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_false(is_fatal());
	nvme_rig_make_queues(&rig, 1);
	nvme_rig_sleep(&rig, 10 * NSEC_PER_SEC);
	assert_int_equal(nvme_admin(alive), 0);
	/* 0 ends it, as a shutdown does. */
	assert_int_equal(feature(SET, NVME_FEAT_FID_KATO, 100, NULL), 0);
	assert_int_equal(feature(SET, NVME_FEAT_FID_KATO, 0, NULL), 0);
	nvme_rig_sleep(&rig, NSEC_PER_SEC);
	assert_int_equal(feature(SET, NVME_FEAT_FID_KATO, 100, NULL), 0);
	nvme_rig_write_cc(&rig, rig.shared->registers.cc | 1 << 14);
	nvme_rig_sleep(&rig, NSEC_PER_SEC);
	assert_false(is_fatal());
}

static uint16_t manage(uint8_t opcode, uint32_t select, uint32_t nsid)
{
	return nvme_admin(
		(struct nvme_sqe){.opcode = opcode, .nsid = nsid, .dptr = {DATA}, .cdw10 = select});
}

static void start_again(void)
{
	nvme_rig_stop(&rig);
	nvme_rig_start(&rig);
}

static void a_guest_makes_namespaces(void **state)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_ns_mgmt, .dptr = {DATA}};
	struct nvme_id_ns *wanted = nvme_rig_at(&rig, DATA);
	const struct nvme_id_ctrl *id = nvme_rig_at(&rig, OTHER);
	struct nvme_sqe identify = {.opcode = nvme_admin_identify, .dptr = {OTHER}, .cdw10 = 1};
	uint32_t nsid;

	memset(wanted, 0, 4096);
	wanted->nsze = wanted->ncap = 2048;
	assert_int_equal(manage(nvme_admin_ns_mgmt, 0, 0), NVME_SC_INVALID_OPCODE);
	assert_int_equal(manage(nvme_admin_ns_attach, 0, 1), NVME_SC_INVALID_OPCODE);
	rig.options.manage_bytes = GIB;
	rig.namespaces[1].managed = true;
	start_again();
	assert_int_equal(nvme_rig_run(&rig, 0, &identify, NULL), 0);
	assert_true(id->oacs & NVME_CTRL_OACS_NS_MGMT);
	assert_int_equal(*(const uint64_t *)id->tnvmcap, GIB);
	assert_int_equal(*(const uint64_t *)id->unvmcap, GIB - VOLUME_BYTES);
	wanted->flbas = 1;
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, &nsid), 0);
	assert_int_equal(nsid, 77);
	assert_int_equal(rig.managed.kind, NVME_MANAGE_CREATE);
	assert_int_equal(rig.managed.blocks, 2048);
	assert_int_equal(rig.managed.block_bytes, 4096);
	assert_true(rig.managed.epoch != 0 && rig.managed.sequence > 0);
	wanted->flbas = 2;
	assert_int_equal(manage(nvme_admin_ns_mgmt, 0, 0), SPECIFIC(NVME_SC_INVALID_FORMAT));
	wanted->flbas = 0x10;
	assert_int_equal(manage(nvme_admin_ns_mgmt, 0, 0), SPECIFIC(NVME_SC_INVALID_FORMAT));
	wanted->flbas = 0;
	wanted->ncap = 1024;
	assert_int_equal(manage(nvme_admin_ns_mgmt, 0, 0), SPECIFIC(NVME_SC_THIN_PROV_NOT_SUPP));
	wanted->ncap = 4096;
	assert_int_equal(manage(nvme_admin_ns_mgmt, 0, 0), NVME_SC_INVALID_FIELD);
	wanted->ncap = 2048;
	wanted->nmic = 1;
	assert_int_equal(manage(nvme_admin_ns_mgmt, 0, 0), NVME_SC_INVALID_FIELD);
	wanted->nmic = 0;
	wanted->nsze = wanted->ncap = 0;
	assert_int_equal(manage(nvme_admin_ns_mgmt, 0, 0), NVME_SC_INVALID_FIELD);
	sqe.cdw11 = 1u << 24;
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, NULL), SPECIFIC(NVME_SC_IOCS_NOT_SUPPORTED));
	assert_int_equal(manage(nvme_admin_ns_mgmt, 2, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(rig.manage_count, 1);
	assert_int_equal(manage(nvme_admin_ns_mgmt, 1, 5), 0);
	assert_int_equal(rig.managed.kind, NVME_MANAGE_DELETE);
	assert_int_equal(rig.managed.nsid, 5);
	rig.manage_result = -EIO;
	assert_int_equal(manage(nvme_admin_ns_mgmt, 1, 5), NVME_SC_INTERNAL);
}

static void a_guest_attaches_namespaces(void **state)
{
	struct nvme_ctrl_list *list = nvme_rig_at(&rig, DATA);
	struct nvme_sqe sqe = {.opcode = nvme_admin_ns_attach, .nsid = 9, .dptr = {DATA}};
	uint64_t sequence;
	struct nvme_cqe cqe;

	rig.options.manage_bytes = GIB;
	start_again();
	memset(list, 0, 4096);
	assert_int_equal(manage(nvme_admin_ns_attach, 0, 9), SPECIFIC(NVME_SC_CTRL_LIST_INVALID));
	list->num = 1;
	list->identifier[0] = 2;
	assert_int_equal(manage(nvme_admin_ns_attach, 0, 9), SPECIFIC(NVME_SC_CTRL_LIST_INVALID));
	list->identifier[0] = rig.options.controller_id;
	assert_int_equal(manage(nvme_admin_ns_attach, 2, 9), NVME_SC_INVALID_FIELD);
	assert_int_equal(manage(nvme_admin_ns_attach, 0, 9), 0);
	assert_int_equal(rig.managed.kind, NVME_MANAGE_ATTACH);
	assert_int_equal(rig.managed.nsid, 9);
	rig.manage_result = SPECIFIC(NVME_SC_NS_NOT_ATTACHED);
	assert_int_equal(manage(nvme_admin_ns_attach, 1, 9), SPECIFIC(NVME_SC_NS_NOT_ATTACHED));
	assert_int_equal(rig.managed.kind, NVME_MANAGE_DETACH);
	/* Many are carried out one after the other. */
	rig.manage_result = 0;
	for (unsigned i = 0; i < 10; i++)
		nvme_rig_submit(&rig, 0, &sqe);
	for (unsigned i = 0; i < 10; i++)
		assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(rig.manage_count, 12);
	/* What is left to the next engine is the same command there. */
	rig.manage_result = -ESHUTDOWN;
	nvme_rig_submit(&rig, 0, &sqe);
	assert_false(nvme_rig_take(&rig, 0, &cqe));
	sequence = rig.managed.sequence;
	rig.manage_result = 0;
	start_again();
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
	assert_int_equal(rig.managed.sequence, sequence);
}

static void set_active(void *arg)
{
	assert_int_equal(nvme_namespace_set_active(rig.controller, 1, *(bool *)arg), 0);
	assert_int_equal(nvme_namespace_set_active(rig.controller, 1, *(bool *)arg), 0);
	assert_int_equal(nvme_namespace_set_active(rig.controller, 99, true), -ENOENT);
}

static void what_is_not_attached_is_allocated(void **state)
{
	const uint32_t *list = nvme_rig_at(&rig, DATA);
	const struct nvme_id_ns *ns = nvme_rig_at(&rig, DATA);

	rig.namespaces[0].inactive = true;
	start_again();
	for (unsigned round = 0; round < 3; round++) {
		bool active = round % 2;

		assert_int_equal(identify(0, NVME_IDENTIFY_CNS_NS_ACTIVE_LIST, 0), 0);
		assert_int_equal(list[0], active ? 1 : 2);
		assert_int_equal(identify(0, NVME_IDENTIFY_CNS_ALLOCATED_NS_LIST, 0), 0);
		assert_int_equal(list[0], 1);
		assert_int_equal(identify(1, NVME_IDENTIFY_CNS_NS, 0), 0);
		assert_int_equal(ns->nsze, active ? BLOCKS : 0);
		assert_int_equal(identify(1, NVME_IDENTIFY_CNS_ALLOCATED_NS, 0), 0);
		assert_int_equal(ns->nsze, BLOCKS);
		assert_int_equal(identify(1, NVME_IDENTIFY_CNS_NS_CTRL_LIST, 0), 0);
		assert_int_equal(list[0] & 0xffff, active);
		assert_int_equal(nvme_io(nvme_cmd_read, 0, 1, OTHER),
				 active ? 0 : NVME_SC_INVALID_FIELD);
		active = !active;
		sim_rig_run(rig.sim, 0, set_active, &active);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NVME_TEST(identify_knows_its_structures),
		NVME_TEST(completion_queues_have_limits),
		NVME_TEST(submission_queues_have_limits),
		NVME_TEST(deletion_waits_for_commands),
		NVME_TEST(unknown_commands_are_refused),
		NVME_TEST(features_are_kept),
		NVME_TEST(queue_counts_come_first),
		NVME_TEST(log_pages_tell),
		NVME_TEST(changes_of_namespaces_are_told),
		NVME_TEST(a_size_that_no_engine_told_is_told),
		NVME_TEST(event_requests_have_a_limit_and_can_be_aborted),
		NVME_TEST(wrong_doorbells_are_reported),
		NVME_TEST(shadow_doorbells_spare_kicks),
		NVME_TEST(mapped_doorbells_are_found_without_a_kick),
		NVME_TEST(interrupts_are_coalesced),
		NVME_TEST(intx_is_a_level),
		NVME_TEST(memory_comes_and_goes),
		NVME_TEST(ranges_have_a_limit),
		NVME_TEST(a_reset_drops_commands_in_flight),
		NVME_TEST(a_reset_is_done_for_a_dead_engine),
		NVME_TEST(what_cannot_be_enabled_is_fatal),
		NVME_TEST(shutdown_is_announced),
		NVME_TEST(poison_is_not_tried_for_ever),
		NVME_TEST(a_write_that_was_compared_is_only_written),
		NVME_TEST(foreign_memory_is_refused),
		NVME_TEST(namespaces_come_and_go),
		NVME_TEST(format_erases_and_changes_blocks),
		NVME_TEST(a_guest_makes_namespaces),
		NVME_TEST(a_guest_attaches_namespaces),
		NVME_TEST(what_is_not_attached_is_allocated),
		NVME_TEST(a_host_that_is_not_heard_of_is_fatal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
