/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Targets and their logical units, as the server keeps them. A unit counts the tasks that use it;
 * it is taken from its target first (new commands no longer find it), then freed when the last task
 * is gone.
 *
 * Owned by the server; home reactor is the server's.
 */
#include "frontend/iscsi/access.h"
#include "frontend/iscsi/iscsi.h"
#include "frontend/iscsi/scsi/unit.h"

_Static_assert(ISCSI_LUNS == SCSI_LUNS, "LUNs have one limit");

struct iscsi_unit {
	struct scsi_unit scsi;
	struct block_volume *source; /* the caller's */
	struct block_volume *remote; /* ours, when the source lives on another reactor; or NULL */
	uint64_t tasks;              /* that refer to it */
};

struct iscsi_target {
	struct list_node link; /* in the server's targets */
	struct scsi_target scsi;
	struct iscsi_guard guard;
	bool leaving;                 /* being removed: no new sessions */
	bool leaving_luns[SCSI_LUNS]; /* removed, but commands are still under way */
};

static inline struct iscsi_unit *iscsi_unit_of(struct scsi_unit *unit)
{
	return CONTAINER_OF(unit, struct iscsi_unit, scsi);
}

/* -ENOMEM, -EINVAL. */
int iscsi_unit_new(struct reactor *reactor, uint16_t lun, const struct iscsi_lun *spec,
		   struct iscsi_unit **ret_unit);
/* No task and no nexus refers to it. NULL is fine. */
void iscsi_unit_free(struct iscsi_unit *unit);
/* The source volume was resized. */
void iscsi_unit_resized(struct iscsi_unit *unit);
