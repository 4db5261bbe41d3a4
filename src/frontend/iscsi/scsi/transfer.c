/* SPDX-License-Identifier: Apache-2.0 */
/*
 * READ, WRITE, VERIFY and WRITE AND VERIFY of all lengths (SBC-3 5.8 to 5.12, 5.29 to 5.42), a
 * segment at a time.
 *
 * Fewer bytes expected than the CDB asks for: reads give what is taken, writes store the blocks
 * that were sent, or nothing where the last is not whole; the transport reports the rest as a
 * residual (RFC 7143 11.4.5).
 */
#include "frontend/iscsi/scsi/handlers.h"

enum state { STATE_SEGMENT, STATE_MOVED, STATE_STORED, STATE_CHECKED };

#define CDB_PROTECT(byte1) ((byte1) >> 5)
#define CDB_FUA            0x08
#define CDB_BYTCHK(byte1)  ((byte1) >> 1 & 3)

/* What all of them check: protection information (there is none), length, range. */
static bool check(struct scsi_command *command)
{
	const uint8_t *cdb = command->cdb;
	uint32_t blocks = scsi_cdb_blocks(cdb);

	if (command->opcode->length != 6 && CDB_PROTECT(cdb[1]) != 0) {
		scsi_invalid_field(command, 1);
		return false;
	}
	if (!scsi_check_range(command, scsi_cdb_lba(cdb), blocks))
		return false;
	if (blocks > SCSI_TRANSFER_BLOCKS) {
		scsi_invalid_field(command, command->opcode->length == 10 ? 7 : 10);
		return false;
	}
	return true;
}

static void want_buffer(struct scsi_command *command)
{
	command->buffer_bytes = scsi_segment(command, SCSI_SEGMENT_BYTES);
	command->buffer_minimum = command->unit->volume->block_bytes;
	command->state = STATE_SEGMENT;
}

static enum scsi_step read_next(struct scsi_command *command)
{
	switch ((enum state)command->state) {
	case STATE_MOVED:
		if (command->io_result < 0)
			return scsi_io_failed(command, false);
		command->step_data = command->buffer;
		command->step_bytes = (uint32_t)command->request.length;
		command->offset += command->step_bytes;
		command->last = command->offset == command->end;
		command->state = STATE_SEGMENT;
		if (command->last)
			command->next = scsi_done;
		return SCSI_STEP_DATA_IN;
	default:
		command->in_offset += command->step_bytes;
		command->state = STATE_MOVED;
		return scsi_io_data(command, BLOCK_READ, 0, command->buffer,
				    scsi_segment(command, command->buffer_size));
	}
}

void scsi_transfer_read(struct scsi_command *command)
{
	uint32_t block_bytes;
	uint64_t taken;

	if (!check(command))
		return;
	block_bytes = command->unit->volume->block_bytes;
	taken = DIV_ROUND_UP((uint64_t)command->expected_in, block_bytes) * block_bytes;
	command->in_bytes = command->end - command->offset;
	command->end = command->offset + MIN(command->in_bytes, taken);
	command->step_bytes = 0;
	if (command->offset == command->end)
		return;
	want_buffer(command);
	command->next = read_next;
}

static enum scsi_step fetch_segment(struct scsi_command *command)
{
	if (command->offset == command->end)
		return scsi_done(command);
	command->step_data = command->buffer;
	command->step_bytes = scsi_segment(command, command->buffer_size);
	command->state = STATE_MOVED;
	return SCSI_STEP_DATA_OUT;
}

static void segment_finished(struct scsi_command *command)
{
	command->offset += command->step_bytes;
	command->out_offset += command->step_bytes;
	command->state = STATE_SEGMENT;
}

static unsigned write_flags(const struct scsi_command *command, bool fua)
{
	return fua || !command->unit->write_cache ? BLOCK_FUA : 0;
}

static enum scsi_step write_next(struct scsi_command *command)
{
	bool fua = command->opcode->length != 6 && (command->cdb[1] & CDB_FUA);

	switch ((enum state)command->state) {
	case STATE_MOVED:
		command->state = STATE_STORED;
		return scsi_io_data(command, BLOCK_WRITE, write_flags(command, fua),
				    command->buffer, command->step_bytes);
	case STATE_STORED:
		if (command->io_result < 0)
			return scsi_io_failed(command, true);
		segment_finished(command);
		return fetch_segment(command);
	default:
		return fetch_segment(command);
	}
}

void scsi_transfer_write(struct scsi_command *command)
{
	if (!check(command) || !scsi_take_out(command))
		return;
	if (command->offset == command->end)
		return;
	want_buffer(command);
	command->next = write_next;
}

uint32_t scsi_transfer_max_atomic(const struct scsi_unit *unit)
{
	uint32_t bytes = MIN(unit->atomic_bytes, SCSI_SEGMENT_BYTES);

	if (unit->volume->max_transfer_bytes > 0)
		bytes = MIN(bytes, unit->volume->max_transfer_bytes);
	return bytes;
}

static bool atomic_field(struct scsi_command *command, unsigned byte)
{
	scsi_invalid_field(command, byte);
	return false;
}

/* SBC-4 5.46: without boundaries; whole physical blocks, so that nothing is merged. */
static bool check_atomic(struct scsi_command *command)
{
	const struct block_volume *volume = command->unit->volume;
	uint32_t physical = MAX(volume->physical_block_bytes, volume->block_bytes);
	uint64_t length;

	if (CDB_PROTECT(command->cdb[1]) != 0)
		return atomic_field(command, 1);
	if (get_be16(command->cdb + 10) != 0)
		return atomic_field(command, 10);
	if (!scsi_check_range(command, scsi_cdb_lba(command->cdb), get_be16(command->cdb + 12)))
		return false;
	length = command->end - command->offset;
	if (length > scsi_transfer_max_atomic(command->unit) || length % physical != 0)
		return atomic_field(command, 12);
	return command->offset % physical == 0 || atomic_field(command, 2);
}

/* One request to the volume, or nothing. */
void scsi_transfer_write_atomic(struct scsi_command *command)
{
	if (!check_atomic(command))
		return;
	command->out_bytes = command->end - command->offset;
	if (command->out_bytes > command->expected_out) {
		scsi_invalid_field(command, 12);
		return;
	}
	if (command->out_bytes == 0)
		return;
	command->buffer_bytes = (uint32_t)command->out_bytes;
	command->state = STATE_SEGMENT;
	command->next = write_next;
}

/* BYTCHK 0: reads the medium; nothing is compared. */
static enum scsi_step verify_medium_next(struct scsi_command *command)
{
	if (command->state == STATE_STORED) {
		if (command->io_result < 0)
			return scsi_io_failed(command, false);
		command->offset += command->request.length;
	}
	if (command->offset == command->end)
		return scsi_done(command);
	command->state = STATE_STORED;
	return scsi_io_data(command, BLOCK_READ, 0, command->buffer,
			    scsi_segment(command, command->buffer_size));
}

static enum scsi_step compare_failed(struct scsi_command *command)
{
	/* The offset of the difference counts from the start of the data-out (SBC-3 5.29). */
	command->request.miscompare_offset += command->out_offset;
	return scsi_io_failed(command, false);
}

/* BYTCHK 1: compares with the data sent. */
static enum scsi_step verify_data_next(struct scsi_command *command)
{
	switch ((enum state)command->state) {
	case STATE_MOVED:
		command->state = STATE_CHECKED;
		return scsi_io_data(command, BLOCK_COMPARE, 0, command->buffer,
				    command->step_bytes);
	case STATE_CHECKED:
		if (command->io_result < 0)
			return compare_failed(command);
		segment_finished(command);
		return fetch_segment(command);
	default:
		return fetch_segment(command);
	}
}

/* BYTCHK 3: compares each block with the one block sent, which is repeated in the buffer. */
static enum scsi_step verify_block_next(struct scsi_command *command)
{
	uint32_t block_bytes = command->unit->volume->block_bytes;

	switch ((enum state)command->state) {
	case STATE_SEGMENT:
		command->step_data = command->buffer;
		command->step_bytes = block_bytes;
		command->state = STATE_MOVED;
		return SCSI_STEP_DATA_OUT;
	case STATE_MOVED:
		for (uint32_t at = block_bytes; at + block_bytes <= command->buffer_size;
		     at += block_bytes)
			memcpy(command->buffer + at, command->buffer, block_bytes);
		break;
	default:
		if (command->io_result < 0) {
			command->request.miscompare_offset %= block_bytes;
			return scsi_io_failed(command, false);
		}
		command->offset += command->request.length;
		break;
	}
	if (command->offset == command->end)
		return scsi_done(command);
	command->state = STATE_CHECKED;
	return scsi_io_data(command, BLOCK_COMPARE, 0, command->buffer,
			    scsi_segment(command, command->buffer_size));
}

void scsi_transfer_verify(struct scsi_command *command)
{
	unsigned bytchk = CDB_BYTCHK(command->cdb[1]);
	scsi_next_fn *next = verify_medium_next;

	if (!check(command))
		return;
	if (bytchk == 2) {
		scsi_invalid_field(command, 1);
		return;
	}
	if (bytchk == 1) {
		if (!scsi_take_out(command))
			return;
		next = verify_data_next;
	} else if (bytchk == 3 && command->offset < command->end) {
		command->out_bytes = command->unit->volume->block_bytes;
		if (command->expected_out < command->out_bytes) {
			scsi_invalid_field(command, 1);
			return;
		}
		next = verify_block_next;
	}
	if (command->offset == command->end)
		return;
	want_buffer(command);
	command->next = next;
}

static enum scsi_step write_verify_next(struct scsi_command *command)
{
	bool compare = CDB_BYTCHK(command->cdb[1]) == 1;

	switch ((enum state)command->state) {
	case STATE_MOVED:
		command->state = STATE_STORED;
		return scsi_io_data(command, BLOCK_WRITE, BLOCK_FUA, command->buffer,
				    command->step_bytes);
	case STATE_STORED:
		if (command->io_result < 0)
			return scsi_io_failed(command, true);
		command->state = STATE_CHECKED;
		return scsi_io_data(command, compare ? BLOCK_COMPARE : BLOCK_READ, 0,
				    command->buffer, command->step_bytes);
	case STATE_CHECKED:
		if (command->io_result < 0)
			return compare_failed(command);
		segment_finished(command);
		return fetch_segment(command);
	default:
		return fetch_segment(command);
	}
}

void scsi_transfer_write_verify(struct scsi_command *command)
{
	if (!check(command))
		return;
	if (CDB_BYTCHK(command->cdb[1]) > 1) {
		scsi_invalid_field(command, 1);
		return;
	}
	if (!scsi_take_out(command) || command->offset == command->end)
		return;
	want_buffer(command);
	command->next = write_verify_next;
}
