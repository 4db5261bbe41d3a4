/* SPDX-License-Identifier: Apache-2.0 */
/* Thin provisioning: UNMAP (SBC-3 5.28) and GET LBA STATUS (5.4). */
#include "frontend/iscsi/scsi/handlers.h"

#define CDB_ANCHOR       0x01
#define HEADER_BYTES     8
#define DESCRIPTOR_BYTES 16
#define STATUS_STEPS_MAX 1024 /* looks at the volume for one answer */

enum { PROVISIONING_MAPPED, PROVISIONING_DEALLOCATED };
enum state { STATE_FIRST, STATE_STORED };

static enum scsi_step unmap_next(struct scsi_command *command)
{
	const uint8_t *descriptor;
	uint32_t block_bytes = command->unit->volume->block_bytes;

	if (command->state == STATE_STORED && command->io_result < 0)
		return scsi_io_failed(command, true);
	command->state = STATE_STORED;
	while (command->index < command->count) {
		uint64_t length;

		descriptor = command->buffer + HEADER_BYTES + command->index++ * DESCRIPTOR_BYTES;
		length = (uint64_t)get_be32(descriptor + 8) * block_bytes;
		if (length > 0)
			return scsi_io(command, BLOCK_UNMAP, 0, get_be64(descriptor) * block_bytes,
				       length);
	}
	return scsi_done(command);
}

/* All ranges are checked before the first is unmapped. */
static enum scsi_step unmap_parse(struct scsi_command *command)
{
	const uint8_t *list = command->buffer;
	uint32_t length = (uint32_t)command->out_bytes, described;

	if (length < HEADER_BYTES) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
		return SCSI_STEP_DONE;
	}
	/* Descriptors cut by the parameter list's length are ignored (5.28.2). */
	described = MIN((uint32_t)get_be16(list + 2), length - HEADER_BYTES);
	command->count = described / DESCRIPTOR_BYTES;
	command->index = 0;
	for (uint32_t i = 0; i < command->count; i++) {
		const uint8_t *descriptor = list + HEADER_BYTES + i * DESCRIPTOR_BYTES;

		if (!scsi_check_range(command, get_be64(descriptor), get_be32(descriptor + 8)))
			return SCSI_STEP_DONE;
	}
	command->state = STATE_FIRST;
	command->next = unmap_next;
	return unmap_next(command);
}

void scsi_provision_unmap(struct scsi_command *command)
{
	if (command->cdb[1] & CDB_ANCHOR) {
		scsi_invalid_field(command, 1);
		return;
	}
	scsi_start_list(command, get_be16(command->cdb + 7), unmap_parse);
}

static enum scsi_step status_answer(struct scsi_command *command)
{
	put_be32(command->buffer, 4 + command->count * DESCRIPTOR_BYTES);
	command->in_bytes =
		MIN(command->in_bytes, (uint64_t)HEADER_BYTES + command->count * DESCRIPTOR_BYTES);
	command->step_data = command->buffer;
	command->step_bytes = (uint32_t)command->in_bytes;
	command->last = true;
	command->next = scsi_done;
	return SCSI_STEP_DATA_IN;
}

/* Adds what the volume said about the range at `offset`; joins equal neighbours. */
static void status_add(struct scsi_command *command)
{
	const struct block_status *found = &command->request.status;
	uint32_t block_bytes = command->unit->volume->block_bytes;
	uint64_t blocks = found->length / block_bytes;
	uint8_t state = found->allocated ? PROVISIONING_MAPPED : PROVISIONING_DEALLOCATED;
	uint8_t *next = command->buffer + HEADER_BYTES + command->count * DESCRIPTOR_BYTES;
	uint8_t *last = next - DESCRIPTOR_BYTES; /* an entry only when count > 0 */

	if (command->count > 0 && last[12] == state && get_be32(last + 8) + blocks <= UINT32_MAX) {
		put_be32(last + 8, get_be32(last + 8) + (uint32_t)blocks);
	} else {
		memset(next, 0, DESCRIPTOR_BYTES);
		put_be64(next, command->offset / block_bytes);
		put_be32(next + 8, (uint32_t)blocks);
		next[12] = state;
		command->count++;
	}
	command->offset += found->length;
}

static enum scsi_step status_next(struct scsi_command *command)
{
	uint64_t most = UINT64_C(0xffffffff) * command->unit->volume->block_bytes;
	uint64_t room = MIN(command->in_bytes, (uint64_t)SCSI_SMALL_BYTES);

	if (command->state == STATE_FIRST) {
		memset(command->buffer, 0, HEADER_BYTES);
		command->count = 0;
		command->state = STATE_STORED;
	} else if (command->io_result < 0) {
		return scsi_io_failed(command, false);
	} else {
		status_add(command);
	}
	/* The next range may need a place of its own. */
	if (command->offset == command->end || command->index++ == STATUS_STEPS_MAX ||
	    HEADER_BYTES + (command->count + 1) * DESCRIPTOR_BYTES > room)
		return status_answer(command);
	return scsi_io(command, BLOCK_STATUS, 0, command->offset,
		       MIN(command->end - command->offset, most));
}

void scsi_provision_lba_status(struct scsi_command *command)
{
	uint64_t lba = scsi_cdb_lba(command->cdb), capacity = scsi_unit_blocks(command->unit);
	uint32_t allocation = get_be32(command->cdb + 10);

	if (lba >= capacity) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
		return;
	}
	(void)scsi_check_range(command, lba, capacity - lba);
	command->in_bytes = allocation;
	command->buffer_bytes = SCSI_SMALL_BYTES;
	command->index = 0;
	if (allocation > 0)
		command->next = status_next;
}
