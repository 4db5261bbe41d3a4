/* SPDX-License-Identifier: Apache-2.0 */
/* RESERVE(6) and RELEASE(6) of SPC-2 7.21 and 7.16: the whole unit, for the nexus that asks. */
#include "frontend/iscsi/scsi/handlers.h"

#define CDB_THIRD_PARTY 0x10
#define CDB_EXTENT      0x01

static bool check(struct scsi_command *command)
{
	if (!(command->cdb[1] & (CDB_THIRD_PARTY | CDB_EXTENT)))
		return true;
	scsi_invalid_field(command, 1);
	return false;
}

/* SPC-4 5.12.3: the two kinds of reservation exclude each other. */
static bool is_persistent(struct scsi_command *command)
{
	if (command->unit->persist.count == 0)
		return false;
	command->status = SCSI_RESERVATION_CONFLICT;
	return true;
}

void scsi_reserve6(struct scsi_command *command)
{
	if (check(command) && !is_persistent(command))
		command->unit->reserved_by = command->nexus;
}

/* Releasing what another nexus holds changes nothing and is no error. */
void scsi_release6(struct scsi_command *command)
{
	if (check(command) && !is_persistent(command) &&
	    command->unit->reserved_by == command->nexus)
		command->unit->reserved_by = NULL;
}
