/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Get and Set Features (NVMe 1.4, 5.9, 5.21). Values are kept in shared->admin: over a change of
 * engines, not over a reset. Nothing is saveable.
 */
#include "frontend/nvme/nvme_priv.h"

#include <string.h>

#define SAVE               (1u << 31) /* cdw10 of Set Features */
#define CHANGEABLE         4u         /* Get Features, select 3: bits of what a feature can */
#define HOST_ID_EXTENDED   1u
#define TEMPERATURE        0x157u /* the threshold of the start, in kelvin: WCTEMP */
#define HOST_BEHAVIOR_SIZE sizeof(struct nvme_feat_host_behavior)

enum feature_select { SELECT_CURRENT, SELECT_DEFAULT, SELECT_SAVED, SELECT_CAPABILITIES };

struct feature_kind {
	bool known;
	bool changeable;
	uint32_t mask; /* of cdw11, that can be set */
	uint32_t initial;
};

/* Of these the value is one dword that just is. The others have cases of their own. */
static const struct feature_kind feature_kinds[64] = {
	[NVME_FEAT_FID_ARBITRATION] = {true, true, 0xffffff07, 7},
	[NVME_FEAT_FID_POWER_MGMT] = {true, true, 0xff, 0},
	[NVME_FEAT_FID_TEMP_THRESH] = {true, true, 0x3fffff, TEMPERATURE},
	[NVME_FEAT_FID_ERR_RECOVERY] = {true, true, 0xffff, 0},
	[NVME_FEAT_FID_VOLATILE_WC] = {true, true, 1, 1},
	[NVME_FEAT_FID_NUM_QUEUES] = {true, true, 0xffffffff, 0}, /* feature_initial() */
	[NVME_FEAT_FID_IRQ_COALESCE] = {true, true, 0xffff, 0},
	[NVME_FEAT_FID_IRQ_CONFIG] = {true, true, 0x1ffff, 0},
	[NVME_FEAT_FID_WRITE_ATOMIC] = {true, true, 1, 0},
	[NVME_FEAT_FID_ASYNC_EVENT] = {true, true,
				       0xff | NVME_FEATURE_AENCFG_NOTICE_NAMESPACE_ATTRIBUTES, 0},
	[NVME_FEAT_FID_KATO] = {true, true, 0xffffffff, 0},
	[NVME_FEAT_FID_HOST_BEHAVIOR] = {true, true, 1, 0},
};

/* Of both kinds, 0-based. */
static uint32_t feature_queues_granted(const struct nvme_controller *controller)
{
	uint32_t granted = controller->options.io_queues - 1u;

	return granted << 16 | granted;
}

static uint32_t feature_initial(const struct nvme_controller *controller, unsigned fid)
{
	return fid == NVME_FEAT_FID_NUM_QUEUES ? feature_queues_granted(controller)
					       : feature_kinds[fid].initial;
}

void nvme_feature_reset(struct nvme_controller *controller)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	for (unsigned i = 0; i < ARRAY_SIZE(feature_kinds); i++)
		admin->features[i] = feature_initial(controller, i);
	memset(admin->direct_vectors, 0, sizeof(admin->direct_vectors));
	memset(admin->host_id, 0, sizeof(admin->host_id));
}

bool nvme_feature_vector_is_direct(const struct nvme_controller *controller, uint16_t vector)
{
	return controller->shared->admin.direct_vectors[vector / 64] >> vector % 64 & 1;
}

static const struct feature_kind *feature_kind(uint8_t fid)
{
	static const struct feature_kind host_id = {.known = true, .changeable = true};

	if (fid == NVME_FEAT_FID_HOST_ID)
		return &host_id;
	if (fid >= ARRAY_SIZE(feature_kinds) || !feature_kinds[fid].known)
		return NULL;
	return &feature_kinds[fid];
}

static void feature_get_host_id(struct nvme_command *command)
{
	uint32_t extended = nvme_sqe_of(command)->cdw11 & HOST_ID_EXTENDED;
	uint64_t length = extended ? 16 : 8;

	(void)nvme_command_answer(command, command->controller->shared->admin.host_id, length,
				  length);
}

static void feature_get_host_behavior(struct nvme_command *command)
{
	const struct nvme_feat_host_behavior behavior = {
		.acre = (uint8_t)command->controller->shared->admin
				.features[NVME_FEAT_FID_HOST_BEHAVIOR],
	};

	(void)nvme_command_answer(command, &behavior, HOST_BEHAVIOR_SIZE, HOST_BEHAVIOR_SIZE);
}

static void feature_get_irq_config(struct nvme_command *command)
{
	uint16_t vector = (uint16_t)nvme_sqe_of(command)->cdw11;
	bool direct;

	if (vector > command->controller->options.io_queues) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	direct = nvme_feature_vector_is_direct(command->controller, vector);
	nvme_command_end_with(command, 0, vector | (uint32_t)direct << 16);
}

static void feature_get_current(struct nvme_command *command, uint8_t fid)
{
	switch (fid) {
	case NVME_FEAT_FID_HOST_ID:
		feature_get_host_id(command);
		break;
	case NVME_FEAT_FID_HOST_BEHAVIOR:
		feature_get_host_behavior(command);
		break;
	case NVME_FEAT_FID_IRQ_CONFIG:
		feature_get_irq_config(command);
		break;
	default:
		nvme_command_end_with(command, 0, command->controller->shared->admin.features[fid]);
		break;
	}
}

void nvme_feature_get(struct nvme_command *command)
{
	uint32_t cdw10 = nvme_sqe_of(command)->cdw10;
	uint8_t fid = (uint8_t)cdw10;
	const struct feature_kind *kind = feature_kind(fid);

	if (!kind) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	switch ((enum feature_select)(cdw10 >> 8 & 7)) {
	case SELECT_CURRENT:
		feature_get_current(command, fid);
		break;
	case SELECT_DEFAULT:
	case SELECT_SAVED:
		nvme_command_end_with(command, 0, feature_initial(command->controller, fid));
		break;
	case SELECT_CAPABILITIES:
		nvme_command_end_with(command, 0, kind->changeable ? CHANGEABLE : 0);
		break;
	default:
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		break;
	}
}

static void feature_set_host_id(struct nvme_command *command)
{
	uint64_t length = nvme_sqe_of(command)->cdw11 & HOST_ID_EXTENDED ? 16 : 8;
	uint8_t id[16] = {0};

	if (!nvme_command_take_data(command, id, length))
		return;
	memcpy(command->controller->shared->admin.host_id, id, sizeof(id));
	nvme_reservation_host_changed(command);
}

static void feature_set_host_behavior(struct nvme_command *command)
{
	struct nvme_feat_host_behavior behavior;

	if (!nvme_command_take_data(command, &behavior, sizeof(behavior)))
		return;
	command->controller->shared->admin.features[NVME_FEAT_FID_HOST_BEHAVIOR] =
		behavior.acre & 1;
	nvme_command_end(command, 0);
}

static void feature_set_irq_config(struct nvme_command *command)
{
	uint32_t cdw11 = nvme_sqe_of(command)->cdw11;
	uint16_t vector = (uint16_t)cdw11;
	uint64_t *word = &command->controller->shared->admin.direct_vectors[vector / 64 % 4];

	if (vector > command->controller->options.io_queues) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	*word &= ~(UINT64_C(1) << vector % 64);
	*word |= (uint64_t)(cdw11 >> 16 & 1) << vector % 64;
	nvme_command_end(command, 0);
}

/* 5.21.1.7: before any I/O queue exists; both counts are 0-based and not 0xffff. */
static void feature_set_queues(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;
	uint32_t cdw11 = nvme_sqe_of(command)->cdw11;
	bool exists = false;

	for (unsigned i = 1; i < VFU_QUEUE_COUNT; i++)
		exists = exists || controller->shared->sqs[i].state ||
			 controller->shared->cqs[i].state;
	if (exists && !command->recovered)
		nvme_command_end(command, NVME_SC_CMD_SEQ_ERROR | NVME_STATUS_DNR);
	else if ((cdw11 & 0xffff) == 0xffff || cdw11 >> 16 == 0xffff)
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
	else
		nvme_command_end_with(command, 0, feature_queues_granted(controller));
}

static void feature_set_value(struct nvme_command *command, uint8_t fid)
{
	uint32_t cdw11 = nvme_sqe_of(command)->cdw11;

	if (fid == NVME_FEAT_FID_POWER_MGMT && (cdw11 & 0x1f) != 0) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	command->controller->shared->admin.features[fid] = cdw11 & feature_kinds[fid].mask;
	if (fid == NVME_FEAT_FID_KATO)
		nvme_keep_alive_restart(command->controller);
	nvme_command_end(command, 0);
}

void nvme_feature_set(struct nvme_command *command)
{
	uint32_t cdw10 = nvme_sqe_of(command)->cdw10;
	uint8_t fid = (uint8_t)cdw10;

	if (!feature_kind(fid)) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	if (cdw10 & SAVE) {
		nvme_command_end(command, NVME_STATUS_SPECIFIC(NVME_SC_FEATURE_NOT_SAVEABLE) |
						  NVME_STATUS_DNR);
		return;
	}
	switch (fid) {
	case NVME_FEAT_FID_HOST_ID:
		feature_set_host_id(command);
		break;
	case NVME_FEAT_FID_HOST_BEHAVIOR:
		feature_set_host_behavior(command);
		break;
	case NVME_FEAT_FID_IRQ_CONFIG:
		feature_set_irq_config(command);
		break;
	case NVME_FEAT_FID_NUM_QUEUES:
		feature_set_queues(command);
		break;
	default:
		feature_set_value(command, fid);
		break;
	}
}
