/* SPDX-License-Identifier: Apache-2.0 */
/* WRITE SAME (SBC-3 5.43 and 5.44): one block for a range; zeros go down as one request. */
#include "frontend/iscsi/scsi/handlers.h"

#define CDB_PROTECT(byte1) ((byte1) >> 5)
#define CDB_ANCHOR         0x10
#define CDB_UNMAP          0x08
#define CDB_OBSOLETE       0x06 /* PBDATA, LBDATA */
#define CDB_NDOB           0x01 /* 16 only */

enum state { STATE_FETCH, STATE_FETCHED, STATE_STORED };

static bool is_zero(const uint8_t *data, uint32_t length)
{
	return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* The whole range reads as zeros afterwards. A thin unit gives the space back even when UNMAP is
 * not set: it may deallocate blocks of zeros of its own accord (SBC-3 4.7.3.4). */
static enum scsi_step store_zeros(struct scsi_command *command)
{
	bool unmap = command->cdb[1] & CDB_UNMAP;
	unsigned flags = command->unit->write_cache ? 0 : BLOCK_FUA;
	uint64_t length = command->end - command->offset, offset = command->offset;

	command->offset = command->end;
	command->state = STATE_STORED;
	if (unmap)
		return scsi_io(command, BLOCK_UNMAP, 0, offset, length);
	if (!command->unit->thin)
		flags |= BLOCK_NO_RELEASE;
	return scsi_io(command, BLOCK_WRITE_ZEROES, flags, offset, length);
}

static enum scsi_step store_segment(struct scsi_command *command)
{
	uint32_t length = scsi_segment(command, command->buffer_size);
	unsigned flags = command->unit->write_cache ? 0 : BLOCK_FUA;
	enum scsi_step step;

	command->state = STATE_STORED;
	step = scsi_io_data(command, BLOCK_WRITE, flags, command->buffer, length);
	command->offset += length;
	return step;
}

static enum scsi_step write_same_next(struct scsi_command *command)
{
	uint32_t block_bytes = command->unit->volume->block_bytes;

	switch ((enum state)command->state) {
	case STATE_FETCH:
		if (command->out_bytes == 0)
			return store_zeros(command);
		command->step_data = command->buffer;
		command->step_bytes = block_bytes;
		command->state = STATE_FETCHED;
		return SCSI_STEP_DATA_OUT;
	case STATE_FETCHED:
		if (is_zero(command->buffer, block_bytes))
			return store_zeros(command);
		for (uint32_t at = block_bytes; at + block_bytes <= command->buffer_size;
		     at += block_bytes)
			memcpy(command->buffer + at, command->buffer, block_bytes);
		return store_segment(command);
	case STATE_STORED:
		break;
	}
	if (command->io_result < 0)
		return scsi_io_failed(command, true);
	return command->offset == command->end ? scsi_done(command) : store_segment(command);
}

static bool check_flags(struct scsi_command *command)
{
	uint8_t flags = command->cdb[1];
	bool unmap = flags & CDB_UNMAP;

	if (CDB_PROTECT(flags) != 0 || (flags & (CDB_ANCHOR | CDB_OBSOLETE)) ||
	    (unmap && !command->unit->thin)) {
		scsi_invalid_field(command, 1);
		return false;
	}
	return true;
}

void scsi_same_write(struct scsi_command *command)
{
	bool no_data = command->opcode->length == 16 && (command->cdb[1] & CDB_NDOB);
	uint32_t blocks = scsi_cdb_blocks(command->cdb);
	uint32_t block_bytes = command->unit->volume->block_bytes;

	if (!check_flags(command) || !scsi_check_range(command, scsi_cdb_lba(command->cdb), blocks))
		return;
	/* WSNZ is set in the Block Limits page: no length means an invalid field. */
	if (blocks == 0 || command->end - command->offset > SCSI_SAME_MAX_BYTES) {
		scsi_invalid_field(command, command->opcode->length == 10 ? 7 : 10);
		return;
	}
	command->out_bytes = no_data ? 0 : block_bytes;
	if (command->out_bytes != command->expected_out) {
		scsi_invalid_field(command, 1);
		return;
	}
	command->buffer_bytes = no_data ? 0 : scsi_segment(command, SCSI_SEGMENT_BYTES);
	command->buffer_minimum = no_data ? 0 : block_bytes;
	command->next = write_same_next;
}
