/* SPDX-License-Identifier: Apache-2.0 */
/* REPORT LUNS, REPORT SUPPORTED OPERATION CODES and REPORT TARGET PORT GROUPS
 * (SPC-4 6.33, 6.35, 6.37) */
#include "frontend/iscsi/scsi/handlers.h"

#include "base/macros.h"
#include "frontend/iscsi/pdu.h"

static size_t fill_luns(struct scsi_command *command, uint8_t *buffer)
{
	size_t length = 8;

	/* Select report 1: well-known logical units only, of which there are none. */
	for (unsigned lun = 0; lun < SCSI_LUNS && command->cdb[2] != 1; lun++) {
		if (!command->target->units[lun])
			continue;
		iscsi_pdu_put_lun(buffer + length, (uint16_t)lun);
		length += 8;
	}
	put_be32(buffer, (uint32_t)(length - 8));
	return length;
}
_Static_assert(8 + SCSI_LUNS * 8 <= SCSI_ANSWER_BYTES, "REPORT LUNS fits one answer");

void scsi_report_luns(struct scsi_command *command)
{
	uint32_t allocation = get_be32(command->cdb + 6);

	if (command->cdb[2] > 2) {
		scsi_invalid_field(command, 2);
		return;
	}
	if (allocation < 16) {
		scsi_invalid_field(command, 6);
		return;
	}
	scsi_start_answer(command, allocation, fill_luns);
}

enum { OPTION_ALL, OPTION_OPCODE, OPTION_ACTION, OPTION_EITHER };

#define CDB_RCTD       0x80
#define TIMEOUTS_BYTES 12

/* SPC-4 6.35.4: no time-out is named. */
static size_t put_timeouts(uint8_t *at)
{
	put_be16(at, TIMEOUTS_BYTES - 2);
	return TIMEOUTS_BYTES;
}

static bool is_offered(const struct scsi_command *command, const struct scsi_opcode *row)
{
	return (!(row->flags & SCSI_THIN_ONLY) || command->unit->thin) &&
	       (!(row->flags & SCSI_ATOMIC_ONLY) || command->unit->atomic_bytes > 0);
}

static size_t fill_all_opcodes(struct scsi_command *command, uint8_t *buffer)
{
	bool rctd = command->cdb[2] & CDB_RCTD;
	size_t count, length = 4;
	const struct scsi_opcode *rows = scsi_table(&count);

	for (size_t i = 0; i < count; i++) {
		uint8_t *at = buffer + length;

		if (!is_offered(command, &rows[i]))
			continue;
		at[0] = rows[i].opcode;
		if (rows[i].service_action != SCSI_NO_SERVICE_ACTION) {
			put_be16(at + 2, (uint16_t)rows[i].service_action);
			at[5] |= 0x01; /* SERVACTV */
		}
		put_be16(at + 6, rows[i].length);
		length += 8;
		if (rctd) {
			at[5] |= 0x02; /* CTDP */
			length += put_timeouts(buffer + length);
		}
	}
	put_be32(buffer, (uint32_t)(length - 4));
	return length;
}

static size_t fill_one_opcode(struct scsi_command *command, uint8_t *buffer)
{
	uint8_t option = command->cdb[2] & 0x07, opcode = command->cdb[3];
	uint16_t action = get_be16(command->cdb + 4);
	bool has_actions = scsi_table_has_actions(opcode);
	const struct scsi_opcode *row;
	size_t length = 4;

	if ((option == OPTION_OPCODE && has_actions) || (option == OPTION_ACTION && !has_actions)) {
		scsi_invalid_field(command, 2);
		return 0;
	}
	row = scsi_table_find(opcode, has_actions ? action : SCSI_NO_SERVICE_ACTION);
	if (option == OPTION_EITHER && !has_actions && action != 0)
		row = NULL;
	if (!row || !is_offered(command, row)) {
		buffer[1] = 0x01; /* not supported */
		return length;
	}
	buffer[1] = 0x03; /* supported, conforming */
	put_be16(buffer + 2, row->length);
	buffer[4] = row->opcode;
	memcpy(buffer + 5, row->usage, row->length - 1u);
	if (has_actions)
		buffer[5] = (uint8_t)((buffer[5] & 0xe0) | row->service_action);
	length += row->length;
	if (command->cdb[2] & CDB_RCTD) {
		buffer[1] |= 0x80;
		length += put_timeouts(buffer + length);
	}
	return length;
}

void scsi_report_opcodes(struct scsi_command *command)
{
	uint8_t option = command->cdb[2] & 0x07;

	if (option > OPTION_EITHER) {
		scsi_invalid_field(command, 2);
		return;
	}
	scsi_start_answer(command, get_be32(command->cdb + 6),
			  option == OPTION_ALL ? fill_all_opcodes : fill_one_opcode);
}

/* One group, one port, always active and optimised. */
static size_t fill_target_ports(struct scsi_command *command, uint8_t *buffer)
{
	bool extended = command->cdb[1] >> 5 == 1;
	uint8_t *group = buffer + (extended ? 8 : 4);

	if (extended)
		buffer[4] = 0x10; /* the extended header's format */
	group[1] = 0x01;          /* active/optimised supported */
	put_be16(group + 2, 1);
	group[7] = 1; /* target ports */
	put_be16(group + 10, 1);
	put_be32(buffer, (uint32_t)(group + 12 - buffer) - 4);
	return (size_t)(group + 12 - buffer);
}

void scsi_report_target_ports(struct scsi_command *command)
{
	if (command->cdb[1] >> 5 > 1) {
		scsi_invalid_field(command, 1);
		return;
	}
	scsi_start_answer(command, get_be32(command->cdb + 6), fill_target_ports);
}
