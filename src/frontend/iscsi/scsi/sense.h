/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * SCSI status and sense data (SAM-5 5.3, SPC-4 4.5), and the one table that turns errors of the
 * block layer into them.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCSI_SENSE_BYTES 32 /* the longest that we make */

enum scsi_status { /* SAM-5 5.3.1 */
		   SCSI_GOOD = 0x00,
		   SCSI_CHECK_CONDITION = 0x02,
		   SCSI_CONDITION_MET = 0x04,
		   SCSI_BUSY = 0x08,
		   SCSI_RESERVATION_CONFLICT = 0x18,
		   SCSI_TASK_SET_FULL = 0x28,
		   SCSI_TASK_ABORTED = 0x40,
};

enum scsi_sense_key { /* SPC-4 4.5.6 */
		      SCSI_NO_SENSE = 0x0,
		      SCSI_NOT_READY = 0x2,
		      SCSI_MEDIUM_ERROR = 0x3,
		      SCSI_HARDWARE_ERROR = 0x4,
		      SCSI_ILLEGAL_REQUEST = 0x5,
		      SCSI_UNIT_ATTENTION = 0x6,
		      SCSI_DATA_PROTECT = 0x7,
		      SCSI_COPY_ABORTED = 0xa,
		      SCSI_ABORTED_COMMAND = 0xb,
		      SCSI_MISCOMPARE = 0xe,
};

/* Additional sense code and qualifier in one number (SPC-4 annex E.2). */
enum scsi_asc {
	SCSI_ASC_NONE = 0x0000,
	SCSI_ASC_OPERATION_IN_PROGRESS = 0x0016,
	SCSI_ASC_NOT_READY_INTERVENTION = 0x0403,
	SCSI_ASC_UNREACHABLE_COPY_TARGET = 0x0804,
	SCSI_ASC_WRITE_ERROR = 0x0c00,
	SCSI_ASC_THIRD_PARTY_FAILURE = 0x0d01,
	SCSI_ASC_INVALID_FIELD_IN_COMMAND_IU = 0x0e03,
	SCSI_ASC_READ_ERROR = 0x1100,
	SCSI_ASC_PARAMETER_LIST_LENGTH = 0x1a00,
	SCSI_ASC_MISCOMPARE = 0x1d00,
	SCSI_ASC_INVALID_OPCODE = 0x2000,
	SCSI_ASC_LBA_OUT_OF_RANGE = 0x2100,
	SCSI_ASC_INVALID_FIELD_IN_CDB = 0x2400,
	SCSI_ASC_LUN_NOT_SUPPORTED = 0x2500,
	SCSI_ASC_INVALID_FIELD_IN_LIST = 0x2600,
	SCSI_ASC_INVALID_RELEASE = 0x2604,
	SCSI_ASC_TOO_MANY_CSCDS = 0x2606,
	SCSI_ASC_CSCD_TYPE = 0x2607,
	SCSI_ASC_TOO_MANY_SEGMENTS = 0x2608,
	SCSI_ASC_SEGMENT_TYPE = 0x2609,
	SCSI_ASC_INEXACT_SEGMENT = 0x260a,
	SCSI_ASC_INLINE_DATA_LENGTH = 0x260b,
	SCSI_ASC_WRITE_PROTECTED = 0x2700,
	SCSI_ASC_SOFTWARE_WRITE_PROTECTED = 0x2702,
	SCSI_ASC_SPACE_FAILED = 0x2707,
	SCSI_ASC_MEDIUM_CHANGED = 0x2800,
	SCSI_ASC_POWER_ON = 0x2900,
	SCSI_ASC_LU_RESET = 0x2903,
	SCSI_ASC_MODE_CHANGED = 0x2a01,
	SCSI_ASC_RESERVATIONS_PREEMPTED = 0x2a03,
	SCSI_ASC_RESERVATIONS_RELEASED = 0x2a04,
	SCSI_ASC_REGISTRATIONS_PREEMPTED = 0x2a05,
	SCSI_ASC_CAPACITY_CHANGED = 0x2a09,
	SCSI_ASC_COMMANDS_CLEARED = 0x2f00,
	SCSI_ASC_SOFT_THRESHOLD = 0x3807,
	SCSI_ASC_SAVING_NOT_SUPPORTED = 0x3900,
	SCSI_ASC_NO_MEDIUM = 0x3a00,
	SCSI_ASC_LUNS_CHANGED = 0x3f0e,
	SCSI_ASC_INTERNAL_FAILURE = 0x4400,
	SCSI_ASC_CRC_ERROR = 0x4705,
	SCSI_ASC_OVERLAPPED = 0x4e00,
	SCSI_ASC_MEDIUM_REMOVAL_PREVENTED = 0x5302,
	SCSI_ASC_INSUFFICIENT_RESOURCES = 0x5503,
	SCSI_ASC_REGISTRATION_RESOURCES = 0x5504,
};

struct scsi_sense {
	enum scsi_sense_key key;
	uint16_t asc; /* enum scsi_asc */
	bool information_valid;
	bool field_valid, field_in_cdb; /* which byte was illegal (SPC-4 4.5.2.4.2) */
	uint16_t field;
	uint64_t information;
};

/* Sense of a CHECK CONDITION for a negative errno of block.h; never for -EILSEQ without an offset:
 * `information` is the miscompare's. Returns the status, which is not always CHECK CONDITION. */
enum scsi_status scsi_sense_from_errno(int error, bool is_write, uint64_t information,
				       struct scsi_sense *ret_sense);
/* Fixed (70h) or descriptor (72h) format into SCSI_SENSE_BYTES. Returns the length. */
size_t scsi_sense_encode(const struct scsi_sense *sense, bool descriptor, uint8_t *ret_bytes);
