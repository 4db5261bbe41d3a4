/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that read and write as one: COMPARE AND WRITE (SBC-3 5.3) and ORWRITE (5.7).
 *
 * ORWRITE is a loop of read, or, and compare-and-write of what was read: whoever wrote between the
 * two makes the compare fail, and the segment starts again.
 */
#include "frontend/iscsi/scsi/handlers.h"

#include <errno.h>

#define CDB_PROTECT(byte1) ((byte1) >> 5)
#define CDB_FUA            0x08
#define OR_RETRIES         1000

enum state { STATE_FETCH, STATE_FETCHED, STATE_OLD, STATE_SWAPPED };

static unsigned write_flags(const struct scsi_command *command)
{
	return (command->cdb[1] & CDB_FUA) || !command->unit->write_cache ? BLOCK_FUA : 0;
}

static enum scsi_step compare_and_write_next(struct scsi_command *command)
{
	uint32_t length = (uint32_t)(command->end - command->offset);

	switch ((enum state)command->state) {
	case STATE_FETCH:
		command->step_data = command->buffer;
		command->step_bytes = 2 * length;
		command->state = STATE_FETCHED;
		return SCSI_STEP_DATA_OUT;
	case STATE_FETCHED:
		command->state = STATE_SWAPPED;
		(void)scsi_io_data(command, BLOCK_COMPARE_AND_WRITE, write_flags(command),
				   command->buffer, length);
		command->iov[0].iov_len = 2 * (size_t)length;
		return SCSI_STEP_IO;
	default:
		if (command->io_result < 0)
			return scsi_io_failed(command, true);
		return scsi_done(command);
	}
}

void scsi_atomic_compare_and_write(struct scsi_command *command)
{
	const uint8_t *cdb = command->cdb;
	uint32_t blocks = cdb[13];

	if (CDB_PROTECT(cdb[1]) != 0) {
		scsi_invalid_field(command, 1);
		return;
	}
	if (!scsi_check_range(command, scsi_cdb_lba(cdb), blocks))
		return;
	command->out_bytes = 2 * (command->end - command->offset);
	if (blocks > scsi_atomic_max_blocks(command->unit)) {
		scsi_invalid_field(command, 13);
		return;
	}
	if (command->out_bytes != command->expected_out) {
		scsi_invalid_field(command, 13);
		return;
	}
	if (blocks == 0)
		return;
	command->buffer_bytes = (uint32_t)command->out_bytes;
	command->next = compare_and_write_next;
}

uint32_t scsi_atomic_max_blocks(const struct scsi_unit *unit)
{
	uint32_t bytes = SCSI_COMPARE_MAX_BYTES;

	if (unit->volume->max_transfer_bytes > 0)
		bytes = MIN(bytes, unit->volume->max_transfer_bytes);
	return MIN(bytes / unit->volume->block_bytes, 255u);
}

/*
 * The buffer has three parts: the mask sent, the old blocks, the new ones. The mask's part holds
 * all that a transport may have received before the start (RFC 7143: FirstBurstLength).
 */
#define OR_PART_BYTES (128u * 1024)
_Static_assert(3 * OR_PART_BYTES <= SCSI_SEGMENT_BYTES, "three parts fit in one buffer");

static uint32_t or_part(const struct scsi_command *command)
{
	uint32_t part = command->buffer_size / 3;

	return part - part % command->unit->volume->block_bytes;
}

static enum scsi_step or_read(struct scsi_command *command)
{
	command->state = STATE_OLD;
	return scsi_io_data(command, BLOCK_READ, 0, command->buffer + or_part(command),
			    command->step_bytes);
}

static enum scsi_step or_swap(struct scsi_command *command)
{
	uint32_t part = or_part(command), length = command->step_bytes;
	const uint8_t *mask = command->buffer, *old = command->buffer + part;
	uint8_t *new = command->buffer + 2 * (size_t)part;

	for (uint32_t i = 0; i < length; i++)
		new[i] = old[i] | mask[i];
	command->state = STATE_SWAPPED;
	(void)scsi_io_data(command, BLOCK_COMPARE_AND_WRITE, write_flags(command),
			   command->buffer + part, length);
	command->iov[1] = (struct iovec){.iov_base = new, .iov_len = length};
	command->request.iov_count = 2;
	return SCSI_STEP_IO;
}

static enum scsi_step or_fetch(struct scsi_command *command)
{
	if (command->offset == command->end)
		return scsi_done(command);
	command->index = 0;
	command->step_data = command->buffer;
	command->step_bytes = scsi_segment(command, or_part(command));
	command->state = STATE_FETCHED;
	return SCSI_STEP_DATA_OUT;
}

static enum scsi_step orwrite_next(struct scsi_command *command)
{
	switch ((enum state)command->state) {
	case STATE_FETCH:
		return or_fetch(command);
	case STATE_FETCHED:
		return or_read(command);
	case STATE_OLD:
		if (command->io_result < 0)
			return scsi_io_failed(command, false);
		return or_swap(command);
	case STATE_SWAPPED:
		break;
	}
	if (command->io_result == -EILSEQ && ++command->index < OR_RETRIES)
		return or_read(command);
	if (command->io_result == -EILSEQ)
		command->io_result = -EBUSY;
	if (command->io_result < 0)
		return scsi_io_failed(command, true);
	command->offset += command->step_bytes;
	command->out_offset += command->step_bytes;
	return or_fetch(command);
}

void scsi_atomic_orwrite(struct scsi_command *command)
{
	uint32_t blocks = scsi_cdb_blocks(command->cdb);

	if (CDB_PROTECT(command->cdb[1]) != 0) {
		scsi_invalid_field(command, 1);
		return;
	}
	if (!scsi_check_range(command, scsi_cdb_lba(command->cdb), blocks))
		return;
	if (blocks > SCSI_TRANSFER_BLOCKS) {
		scsi_invalid_field(command, 10);
		return;
	}
	if (!scsi_take_out(command) || command->offset == command->end)
		return;
	command->buffer_bytes = 3 * scsi_segment(command, OR_PART_BYTES);
	command->next = orwrite_next;
}
