/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of commands: how each is found, checked and described by REPORT SUPPORTED OPERATION
 * CODES. A new command is one row here and its handler.
 */
#include "frontend/iscsi/scsi/handlers.h"

#include "base/macros.h"

#define NO_ACTION SCSI_NO_SERVICE_ACTION
#define ANYHOW                                                                   \
	(SCSI_WITHOUT_UNIT | SCSI_DESPITE_ATTENTION | SCSI_DESPITE_RESERVATION | \
	 SCSI_WITHOUT_MEDIUM)
#define NO_MEDIUM SCSI_WITHOUT_MEDIUM
#define ALLOWED   (SCSI_DESPITE_RESERVATION | NO_MEDIUM)

/* Usage of CDB bytes: fields that are read have their bits set. */
#define LBA4 0xff, 0xff, 0xff, 0xff
#define LBA8 LBA4, LBA4

/* clang-format off */
static const struct scsi_opcode rows[] = {
	{0x00, NO_ACTION, 6, 0, scsi_basic_ready, {0}, "TEST UNIT READY"},
	{0x03, NO_ACTION, 6, ANYHOW, scsi_basic_request_sense, {0x01, 0, 0, 0xff}, "REQUEST SENSE"},
	{0x08, NO_ACTION, 6, SCSI_READS, scsi_transfer_read, {0x1f, 0xff, 0xff, 0xff}, "READ(6)"},
	{0x0a, NO_ACTION, 6, SCSI_WRITES, scsi_transfer_write, {0x1f, 0xff, 0xff, 0xff},
	 "WRITE(6)"},
	{0x12, NO_ACTION, 6, ANYHOW, scsi_inquiry, {0x01, 0xff, 0xff, 0xff}, "INQUIRY"},
	{0x15, NO_ACTION, 6, SCSI_CHANGES | NO_MEDIUM, scsi_mode_select,
	 {0x11, 0, 0, 0xff}, "MODE SELECT(6)"},
	{0x16, NO_ACTION, 6, NO_MEDIUM, scsi_reserve6, {0x00}, "RESERVE(6)"},
	{0x17, NO_ACTION, 6, ALLOWED, scsi_release6, {0x00}, "RELEASE(6)"},
	{0x1a, NO_ACTION, 6, SCSI_READS | NO_MEDIUM, scsi_mode_sense, {0x08, 0xff, 0xff, 0xff},
	 "MODE SENSE(6)"},
	{0x1b, NO_ACTION, 6, NO_MEDIUM, scsi_basic_start_stop,
	 {0x01, 0, 0x0f, 0xf7}, "START STOP UNIT"},
	{0x1e, NO_ACTION, 6, NO_MEDIUM, scsi_basic_prevent, {0, 0, 0, 0x03},
	 "PREVENT ALLOW MEDIUM REMOVAL"},
	{0x25, NO_ACTION, 10, 0, scsi_basic_capacity10, {0}, "READ CAPACITY(10)"},
	{0x28, NO_ACTION, 10, SCSI_READS, scsi_transfer_read, {0x18, LBA4, 0, 0xff, 0xff},
	 "READ(10)"},
	{0x2a, NO_ACTION, 10, SCSI_WRITES, scsi_transfer_write, {0x18, LBA4, 0, 0xff, 0xff},
	 "WRITE(10)"},
	{0x2e, NO_ACTION, 10, SCSI_WRITES, scsi_transfer_write_verify, {0x12, LBA4, 0, 0xff, 0xff},
	 "WRITE AND VERIFY(10)"},
	{0x2f, NO_ACTION, 10, SCSI_READS, scsi_transfer_verify, {0x16, LBA4, 0, 0xff, 0xff},
	 "VERIFY(10)"},
	{0x34, NO_ACTION, 10, SCSI_READS, scsi_basic_prefetch, {0x02, LBA4, 0, 0xff, 0xff},
	 "PRE-FETCH(10)"},
	{0x35, NO_ACTION, 10, SCSI_CHANGES, scsi_basic_flush, {0x02, LBA4, 0, 0xff, 0xff},
	 "SYNCHRONIZE CACHE(10)"},
	{0x37, NO_ACTION, 10, SCSI_READS, scsi_basic_defects, {0, 0x1f, 0, 0, 0, 0, 0xff, 0xff},
	 "READ DEFECT DATA(10)"},
	{0x41, NO_ACTION, 10, SCSI_WRITES, scsi_same_write, {0x08, LBA4, 0, 0xff, 0xff},
	 "WRITE SAME(10)"},
	{0x42, NO_ACTION, 10, SCSI_WRITES | SCSI_THIN_ONLY, scsi_provision_unmap,
	 {0x01, 0, 0, 0, 0, 0, 0xff, 0xff}, "UNMAP"},
	/* No SANITIZE is offered: a disk in a log cannot say when old data is gone. None can fail,
	 * and leaving that state is no more than that. */
	{0x48, 0x1f, 10, SCSI_CHANGES, scsi_basic_exit_failure, {0x80, 0, 0, 0, 0, 0, 0xff, 0xff},
	 "SANITIZE, EXIT FAILURE MODE"},
	{0x4d, NO_ACTION, 10, ALLOWED, scsi_log_sense,
	 {0x00, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff},
	 "LOG SENSE"},
	{0x55, NO_ACTION, 10, SCSI_CHANGES | NO_MEDIUM, scsi_mode_select,
	 {0x11, 0, 0, 0, 0, 0, 0xff, 0xff},
	 "MODE SELECT(10)"},
	{0x5a, NO_ACTION, 10, SCSI_READS | NO_MEDIUM, scsi_mode_sense,
	 {0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff},
	 "MODE SENSE(10)"},
	{0x5e, 0x00, 10, NO_MEDIUM, scsi_persist_in, {0, 0, 0, 0, 0, 0, 0xff, 0xff},
	 "PERSISTENT RESERVE IN, READ KEYS"},
	{0x5e, 0x01, 10, NO_MEDIUM, scsi_persist_in, {0, 0, 0, 0, 0, 0, 0xff, 0xff},
	 "PERSISTENT RESERVE IN, READ RESERVATION"},
	{0x5e, 0x02, 10, NO_MEDIUM, scsi_persist_in, {0, 0, 0, 0, 0, 0, 0xff, 0xff},
	 "PERSISTENT RESERVE IN, REPORT CAPABILITIES"},
	{0x5e, 0x03, 10, NO_MEDIUM, scsi_persist_in, {0, 0, 0, 0, 0, 0, 0xff, 0xff},
	 "PERSISTENT RESERVE IN, READ FULL STATUS"},
	{0x5f, 0x00, 10, NO_MEDIUM, scsi_persist_out, {0, 0, 0, 0, LBA4},
	 "PERSISTENT RESERVE OUT, REGISTER"},
	{0x5f, 0x01, 10, NO_MEDIUM, scsi_persist_out, {0, 0xff, 0, 0, LBA4},
	 "PERSISTENT RESERVE OUT, RESERVE"},
	{0x5f, 0x02, 10, NO_MEDIUM, scsi_persist_out, {0, 0xff, 0, 0, LBA4},
	 "PERSISTENT RESERVE OUT, RELEASE"},
	{0x5f, 0x03, 10, NO_MEDIUM, scsi_persist_out,
	 {0, 0, 0, 0, LBA4}, "PERSISTENT RESERVE OUT, CLEAR"},
	{0x5f, 0x04, 10, NO_MEDIUM, scsi_persist_out, {0, 0xff, 0, 0, LBA4},
	 "PERSISTENT RESERVE OUT, PREEMPT"},
	{0x5f, 0x05, 10, NO_MEDIUM, scsi_persist_out, {0, 0xff, 0, 0, LBA4},
	 "PERSISTENT RESERVE OUT, PREEMPT AND ABORT"},
	{0x5f, 0x06, 10, NO_MEDIUM, scsi_persist_out, {0, 0, 0, 0, LBA4},
	 "PERSISTENT RESERVE OUT, REGISTER AND IGNORE"},
	{0x83, 0x00, 16, SCSI_CHANGES, scsi_copy_out, {0, 0, 0, 0, 0, 0, 0, 0, 0, LBA4},
	 "EXTENDED COPY(LID1)"},
	{0x83, 0x01, 16, SCSI_CHANGES, scsi_copy_out, {0, 0, 0, 0, 0, 0, 0, 0, 0, LBA4},
	 "EXTENDED COPY(LID4)"},
	{0x84, 0x00, 16, ALLOWED, scsi_copy_in, {0, 0xff, 0, 0, 0, 0, 0, 0, 0, LBA4},
	 "RECEIVE COPY STATUS(LID1)"},
	{0x84, 0x03, 16, ALLOWED, scsi_copy_in, {0, 0, 0, 0, 0, 0, 0, 0, 0, LBA4},
	 "RECEIVE COPY OPERATING PARAMETERS"},
	{0x84, 0x05, 16, ALLOWED, scsi_copy_in, {0, LBA4, 0, 0, 0, 0, LBA4},
	 "RECEIVE COPY STATUS(LID4)"},
	{0x88, NO_ACTION, 16, SCSI_READS, scsi_transfer_read, {0x18, LBA8, LBA4}, "READ(16)"},
	{0x89, NO_ACTION, 16, SCSI_WRITES, scsi_atomic_compare_and_write,
	 {0x18, LBA8, 0, 0, 0, 0xff}, "COMPARE AND WRITE"},
	{0x8a, NO_ACTION, 16, SCSI_WRITES, scsi_transfer_write, {0x18, LBA8, LBA4}, "WRITE(16)"},
	{0x8b, NO_ACTION, 16, SCSI_WRITES, scsi_atomic_orwrite, {0x18, LBA8, LBA4}, "ORWRITE"},
	{0x8e, NO_ACTION, 16, SCSI_WRITES, scsi_transfer_write_verify, {0x12, LBA8, LBA4},
	 "WRITE AND VERIFY(16)"},
	{0x8f, NO_ACTION, 16, SCSI_READS, scsi_transfer_verify, {0x16, LBA8, LBA4}, "VERIFY(16)"},
	{0x90, NO_ACTION, 16, SCSI_READS, scsi_basic_prefetch, {0x02, LBA8, LBA4}, "PRE-FETCH(16)"},
	{0x91, NO_ACTION, 16, SCSI_CHANGES, scsi_basic_flush, {0x02, LBA8, LBA4},
	 "SYNCHRONIZE CACHE(16)"},
	{0x93, NO_ACTION, 16, SCSI_WRITES, scsi_same_write, {0x09, LBA8, LBA4}, "WRITE SAME(16)"},
	{0x9c, NO_ACTION, 16, SCSI_WRITES | SCSI_ATOMIC_ONLY, scsi_transfer_write_atomic,
	 {0x18, LBA8, 0xff, 0xff, 0xff, 0xff}, "WRITE ATOMIC(16)"},
	{0x9e, 0x10, 16, 0, scsi_basic_capacity16, {0, 0, 0, 0, 0, 0, 0, 0, 0, LBA4},
	 "READ CAPACITY(16)"},
	{0x9e, 0x12, 16, SCSI_THIN_ONLY, scsi_provision_lba_status, {0, LBA8, LBA4},
	 "GET LBA STATUS"},
	{0xa0, NO_ACTION, 12, ANYHOW, scsi_report_luns, {0, 0xff, 0, 0, 0, LBA4}, "REPORT LUNS"},
	{0xa3, 0x0a, 12, ALLOWED, scsi_report_target_ports, {0xe0, 0, 0, 0, 0, LBA4},
	 "REPORT TARGET PORT GROUPS"},
	{0xa3, 0x0c, 12, ALLOWED, scsi_report_opcodes, {0, 0x87, 0xff, 0xff, 0xff, LBA4},
	 "REPORT SUPPORTED OPERATION CODES"},
	{0xa8, NO_ACTION, 12, SCSI_READS, scsi_transfer_read, {0x18, LBA4, LBA4}, "READ(12)"},
	{0xaa, NO_ACTION, 12, SCSI_WRITES, scsi_transfer_write, {0x18, LBA4, LBA4}, "WRITE(12)"},
	{0xae, NO_ACTION, 12, SCSI_WRITES, scsi_transfer_write_verify, {0x12, LBA4, LBA4},
	 "WRITE AND VERIFY(12)"},
	{0xaf, NO_ACTION, 12, SCSI_READS, scsi_transfer_verify, {0x16, LBA4, LBA4}, "VERIFY(12)"},
	{0xb7, NO_ACTION, 12, SCSI_READS, scsi_basic_defects, {0x1f, 0, 0, 0, 0, LBA4},
	 "READ DEFECT DATA(12)"},
};
/* clang-format on */

const struct scsi_opcode *scsi_table(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(rows);
	return rows;
}

/* The first row of an opcode, by binary search. */
static const struct scsi_opcode *first_row(uint8_t opcode)
{
	size_t low = 0, high = ARRAY_SIZE(rows);

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (rows[middle].opcode < opcode)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ARRAY_SIZE(rows) && rows[low].opcode == opcode ? &rows[low] : NULL;
}

bool scsi_table_has_actions(uint8_t opcode)
{
	const struct scsi_opcode *row = first_row(opcode);

	return row && row->service_action != NO_ACTION;
}

const struct scsi_opcode *scsi_table_find(uint8_t opcode, int service_action)
{
	const struct scsi_opcode *row = first_row(opcode);

	for (; row && row < rows + ARRAY_SIZE(rows) && row->opcode == opcode; row++) {
		if (row->service_action == service_action)
			return row;
	}
	return NULL;
}
