/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/scsi/command.h"

#include <string.h>

#include "frontend/iscsi/scsi/handlers.h"

enum scsi_step scsi_done(struct scsi_command *command)
{
	command->next = scsi_done;
	return SCSI_STEP_DONE;
}

void scsi_start_done(struct scsi_command *command)
{
	command->next = scsi_done;
}

void scsi_command_fail(struct scsi_command *command, enum scsi_sense_key key, enum scsi_asc asc)
{
	command->status = SCSI_CHECK_CONDITION;
	command->sense = (struct scsi_sense){.key = key, .asc = (uint16_t)asc};
	command->next = scsi_done;
}

void scsi_invalid_field(struct scsi_command *command, unsigned byte)
{
	scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	command->sense.field_valid = true;
	command->sense.field_in_cdb = true;
	command->sense.field = (uint16_t)byte;
}

void scsi_invalid_list_field(struct scsi_command *command, unsigned byte)
{
	scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	command->sense.field_valid = true;
	command->sense.field = (uint16_t)byte;
}

enum scsi_step scsi_io_failed(struct scsi_command *command, bool is_write)
{
	command->status = scsi_sense_from_errno(
		command->io_result, is_write, command->request.miscompare_offset, &command->sense);
	return scsi_done(command);
}

size_t scsi_command_sense(const struct scsi_command *command, uint8_t *ret_bytes)
{
	if (command->status != SCSI_CHECK_CONDITION)
		return 0;
	return scsi_sense_encode(&command->sense, command->unit && command->unit->descriptor_sense,
				 ret_bytes);
}

/* The four groups of fixed-length CDBs with an LBA (SPC-4 4.2.5.1). */
uint64_t scsi_cdb_lba(const uint8_t *cdb)
{
	switch (cdb[0] >> 5) {
	case 0:
		return get_be24(cdb + 1) & 0x1fffff;
	case 4:
		return get_be64(cdb + 2);
	default:
		return get_be32(cdb + 2);
	}
}

uint32_t scsi_cdb_blocks(const uint8_t *cdb)
{
	switch (cdb[0] >> 5) {
	case 0:
		return cdb[4] ? cdb[4] : 256;
	case 4:
		return get_be32(cdb + 10);
	case 5:
		return get_be32(cdb + 6);
	default:
		return get_be16(cdb + 7);
	}
}

bool scsi_check_range(struct scsi_command *command, uint64_t lba, uint64_t blocks)
{
	uint64_t capacity = scsi_unit_blocks(command->unit);
	uint32_t block_bytes = command->unit->volume->block_bytes;

	if (lba > capacity || blocks > capacity - lba) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
		return false;
	}
	command->offset = lba * block_bytes;
	command->end = command->offset + blocks * block_bytes;
	return true;
}

bool scsi_take_out(struct scsi_command *command)
{
	command->out_bytes = command->end - command->offset;
	if (command->expected_out >= command->out_bytes)
		return true;
	if (command->expected_out % command->unit->volume->block_bytes != 0) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST,
				  SCSI_ASC_INVALID_FIELD_IN_COMMAND_IU);
		return false;
	}
	command->end = command->offset + command->expected_out;
	return true;
}

static enum scsi_step send_answer(struct scsi_command *command)
{
	size_t length;

	memset(command->buffer, 0, SCSI_ANSWER_BYTES);
	length = command->fill(command, command->buffer);
	if (command->status != SCSI_GOOD)
		return scsi_done(command);
	command->in_bytes = MIN(length, command->in_bytes);
	command->step_data = command->buffer;
	command->step_bytes = (uint32_t)command->in_bytes;
	command->last = true;
	command->next = scsi_done;
	return command->step_bytes > 0 ? SCSI_STEP_DATA_IN : SCSI_STEP_DONE;
}

void scsi_start_answer(struct scsi_command *command, uint32_t allocation_bytes,
		       size_t (*fill)(struct scsi_command *command, uint8_t *buffer))
{
	command->in_bytes = allocation_bytes;
	command->buffer_bytes = SCSI_ANSWER_BYTES;
	command->fill = fill;
	command->next = send_answer;
}

static enum scsi_step take_list(struct scsi_command *command)
{
	command->step_data = command->buffer;
	command->step_bytes = (uint32_t)command->out_bytes;
	command->next = command->parse;
	return SCSI_STEP_DATA_OUT;
}

void scsi_start_list(struct scsi_command *command, uint32_t length, scsi_next_fn *parse)
{
	if (length == 0) {
		scsi_start_done(command);
		return;
	}
	command->out_bytes = length;
	if (length > SCSI_SMALL_BYTES || length > command->expected_out) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
		return;
	}
	command->buffer_bytes = length;
	command->parse = parse;
	command->next = take_list;
}

enum scsi_step scsi_io(struct scsi_command *command, enum block_op op, unsigned flags,
		       uint64_t offset, uint64_t length)
{
	struct block_request *request = &command->request;

	request->op = op;
	request->flags = flags;
	request->offset = offset;
	request->length = length;
	request->iov = NULL;
	request->iov_count = 0;
	return SCSI_STEP_IO;
}

enum scsi_step scsi_io_data(struct scsi_command *command, enum block_op op, unsigned flags,
			    uint8_t *data, uint32_t length)
{
	enum scsi_step step = scsi_io(command, op, flags, command->offset, length);

	command->iov[0] = (struct iovec){.iov_base = data, .iov_len = length};
	command->request.iov = command->iov;
	command->request.iov_count = 1;
	return step;
}

void scsi_command_drop(struct scsi_command *command)
{
	if (command->copy.background)
		scsi_copy_terminate(command);
}

uint32_t scsi_segment(const struct scsi_command *command, uint32_t limit)
{
	const struct block_volume *volume = command->unit->volume;
	uint64_t bytes = MIN(command->end - command->offset, (uint64_t)limit);

	if (volume->max_transfer_bytes > 0)
		bytes = MIN(bytes, (uint64_t)volume->max_transfer_bytes);
	return (uint32_t)(bytes - bytes % volume->block_bytes);
}

static enum scsi_access access_of(unsigned flags)
{
	if (flags & (SCSI_WRITES | SCSI_CHANGES))
		return SCSI_ACCESS_WRITE;
	return flags & SCSI_READS ? SCSI_ACCESS_READ : SCSI_ACCESS_NONE;
}

/* RESERVE(6) of another nexus (SPC-2 5.5), or a persistent reservation. */
static bool conflicts(const struct scsi_command *command)
{
	const struct scsi_unit *unit = command->unit;
	unsigned flags = command->opcode->flags;

	if (unit->reserved_by && unit->reserved_by != command->nexus &&
	    !(flags & SCSI_DESPITE_RESERVATION))
		return true;
	return !scsi_persist_allows(&unit->persist, command->nexus->registration, access_of(flags));
}

/* In the order of SAM-5 5.3.3: what hides what. False after the command has failed. */
static bool may_run(struct scsi_command *command)
{
	unsigned flags = command->opcode->flags;

	if (!command->unit) {
		if (!(flags & SCSI_WITHOUT_UNIT))
			scsi_command_fail(command, SCSI_ILLEGAL_REQUEST,
					  SCSI_ASC_LUN_NOT_SUPPORTED);
		return flags & SCSI_WITHOUT_UNIT;
	}
	if (!(flags & SCSI_DESPITE_ATTENTION) &&
	    scsi_nexus_take_attention(command->nexus, &command->sense)) {
		command->status = SCSI_CHECK_CONDITION;
		return false;
	}
	if (conflicts(command)) {
		command->status = SCSI_RESERVATION_CONFLICT;
		return false;
	}
	if (command->unit->ejected && !(flags & SCSI_WITHOUT_MEDIUM)) {
		scsi_command_fail(command, SCSI_NOT_READY, SCSI_ASC_NO_MEDIUM);
		return false;
	}
	if (((flags & SCSI_THIN_ONLY) && !command->unit->thin) ||
	    ((flags & SCSI_ATOMIC_ONLY) && command->unit->atomic_bytes == 0)) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
		return false;
	}
	if ((flags & SCSI_WRITES) && scsi_unit_is_write_protected(command->unit)) {
		scsi_command_fail(command, SCSI_DATA_PROTECT,
				  command->unit->software_write_protect
					  ? SCSI_ASC_SOFTWARE_WRITE_PROTECTED
					  : SCSI_ASC_WRITE_PROTECTED);
		return false;
	}
	return true;
}

void scsi_command_refuse(struct scsi_command *command, enum scsi_status status)
{
	command->status = status;
	command->out_bytes = 0;
	command->in_bytes = 0;
	command->buffer_bytes = 0;
	command->buffer_minimum = 0;
	command->out_offset = 0;
	command->in_offset = 0;
	command->step_bytes = 0;
	command->last = false;
	command->state = 0;
	command->io_unit = NULL;
	command->next = scsi_done;
}

static void start(struct scsi_command *command)
{
	command->opcode->start(command);
	/* A failed start wants no buffer; most others want all of it. */
	if (command->next == scsi_done)
		command->buffer_bytes = 0;
	if (command->buffer_minimum == 0 || command->buffer_bytes == 0)
		command->buffer_minimum = command->buffer_bytes;
}

void scsi_command_start(struct scsi_command *command)
{
	uint8_t opcode = command->cdb[0];
	int action = SCSI_NO_SERVICE_ACTION;

	scsi_command_refuse(command, SCSI_GOOD);
	if (scsi_table_has_actions(opcode))
		action = command->cdb[1] & 0x1f;
	command->opcode = scsi_table_find(opcode, action);
	if (command->opcode) {
		if (may_run(command))
			start(command);
		return;
	}
	if (!command->unit)
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_LUN_NOT_SUPPORTED);
	else if (action != SCSI_NO_SERVICE_ACTION)
		scsi_invalid_field(command, 1);
	else
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
}
