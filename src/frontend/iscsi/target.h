/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Targets and their logical units, as a shard keeps them. A unit counts the tasks that use it;
 * it is taken from its target first (new commands no longer find it), then freed when the last task
 * is gone.
 *
 * Owned by their shard; its reactor is their home. A target without units and sessions may move.
 */
#include "frontend/iscsi/access.h"
#include "frontend/iscsi/iscsi.h"
#include "frontend/iscsi/scsi/unit.h"
#include "reactor/fiber.h"

_Static_assert(ISCSI_LUNS == SCSI_LUNS, "LUNs have one limit");

struct iscsi_shard;

struct iscsi_unit {
	struct scsi_unit scsi;
	struct block_volume *source; /* the caller's */
	struct block_volume *remote; /* ours, when the source lives on another reactor; or NULL */
	uint64_t tasks;              /* that refer to it, and its save */
	struct iscsi_shard *shard;
	bool saving;
	struct list savers; /* tasks that wait until their reservations are saved */
	struct fiber_task save_task;
	uint8_t saved[SCSI_PERSIST_BYTES];
};

struct iscsi_target {
	struct list_node link; /* in the shard's targets */
	struct scsi_target scsi;
	struct iscsi_guard guard;
	bool leaving;                 /* being removed: no new sessions */
	bool leaving_luns[SCSI_LUNS]; /* removed, but commands are still under way */
};

static inline struct iscsi_unit *iscsi_unit_of(struct scsi_unit *unit)
{
	return CONTAINER_OF(unit, struct iscsi_unit, scsi);
}

/* No session has it. */
void iscsi_target_free(struct iscsi_target *target);
/* -ENOMEM; -EUCLEAN saved reservations that are not understood. */
int iscsi_unit_new(struct iscsi_shard *shard, uint16_t lun, const struct iscsi_lun *spec,
		   struct iscsi_unit **ret_unit);
/* No task and no nexus refers to it. NULL is fine. */
void iscsi_unit_free(struct iscsi_unit *unit);
/* The task waits in `savers`: saves the reservations as they are now. */
void iscsi_unit_save(struct iscsi_unit *unit);
/* The source volume was resized. */
void iscsi_unit_resized(struct iscsi_unit *unit);
