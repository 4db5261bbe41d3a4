/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that are over in a step: readiness, capacity, cache, start and stop. */
#include "frontend/iscsi/scsi/handlers.h"

#include "base/macros.h"

void scsi_basic_ready(struct scsi_command *command)
{
	scsi_start_done(command);
}

/* SPC-4 6.39: a pending unit attention is reported, and so used up. */
static size_t fill_sense(struct scsi_command *command, uint8_t *buffer)
{
	struct scsi_sense sense = {.key = SCSI_NO_SENSE};
	bool descriptor = command->cdb[1] & 0x01;

	if (!command->unit) {
		sense.key = SCSI_ILLEGAL_REQUEST;
		sense.asc = SCSI_ASC_LUN_NOT_SUPPORTED;
	} else {
		(void)scsi_nexus_take_attention(command->nexus, &sense);
	}
	return scsi_sense_encode(&sense, descriptor, buffer);
}

void scsi_basic_request_sense(struct scsi_command *command)
{
	scsi_start_answer(command, command->cdb[4], fill_sense);
}

static bool is_removal_prevented(const struct scsi_unit *unit)
{
	const struct scsi_nexus *nexus;
	bool prevented = false;

	LIST_FOR_EACH (&unit->nexuses, nexus, const struct scsi_nexus, link)
		prevented = prevented || nexus->prevents_removal;
	return prevented;
}

static void load(struct scsi_command *command, bool in)
{
	struct scsi_unit *unit = command->unit;

	if (!in && !unit->removable) {
		scsi_invalid_field(command, 4);
	} else if (unit->removable && is_removal_prevented(unit)) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_MEDIUM_REMOVAL_PREVENTED);
	} else {
		if (in && unit->ejected)
			scsi_unit_attention(unit, SCSI_ATTENTION_MEDIUM_CHANGED, command->nexus);
		unit->ejected = !in;
	}
}

/* SBC-3 5.25: power conditions change nothing. */
void scsi_basic_start_stop(struct scsi_command *command)
{
	bool load_eject = command->cdb[4] & 0x02, start = command->cdb[4] & 0x01;

	if (load_eject && command->cdb[4] >> 4 == 0)
		load(command, start);
	scsi_start_done(command);
}

/* SBC-3 5.23: no list may come with it. */
void scsi_basic_exit_failure(struct scsi_command *command)
{
	if (get_be16(command->cdb + 7) != 0)
		scsi_invalid_field(command, 7);
	scsi_start_done(command);
}

/* 6.14 of SPC-3. The state is kept for media that cannot be removed, too. */
void scsi_basic_prevent(struct scsi_command *command)
{
	command->nexus->prevents_removal = command->cdb[4] & 0x01;
	scsi_start_done(command);
}

static size_t fill_capacity10(struct scsi_command *command, uint8_t *buffer)
{
	uint64_t last = scsi_unit_blocks(command->unit) - 1;

	put_be32(buffer, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
	put_be32(buffer + 4, command->unit->volume->block_bytes);
	return 8;
}

void scsi_basic_capacity10(struct scsi_command *command)
{
	/* SBC-3 5.15: the obsolete PMI and its LBA. */
	if (get_be32(command->cdb + 2) != 0 || (command->cdb[8] & 0x01)) {
		scsi_invalid_field(command, command->cdb[8] & 0x01 ? 8 : 2);
		return;
	}
	scsi_start_answer(command, 8, fill_capacity10);
}

static size_t fill_capacity16(struct scsi_command *command, uint8_t *buffer)
{
	const struct block_volume *volume = command->unit->volume;
	uint32_t per_physical =
		MAX(volume->physical_block_bytes, volume->block_bytes) / volume->block_bytes;

	put_be64(buffer, scsi_unit_blocks(command->unit) - 1);
	put_be32(buffer + 8, volume->block_bytes);
	buffer[13] = (uint8_t)__builtin_ctz(per_physical);
	if (command->unit->thin)
		buffer[14] = 0x80 | 0x40; /* LBPME, LBPRZ */
	return 32;
}

void scsi_basic_capacity16(struct scsi_command *command)
{
	if (get_be64(command->cdb + 2) != 0 || (command->cdb[14] & 0x01)) {
		scsi_invalid_field(command, command->cdb[14] & 0x01 ? 14 : 2);
		return;
	}
	scsi_start_answer(command, get_be32(command->cdb + 10), fill_capacity16);
}

static enum scsi_step flush_next(struct scsi_command *command)
{
	if (command->state == 0) {
		command->state = 1;
		return scsi_io(command, BLOCK_FLUSH, 0, 0, 0);
	}
	if (command->io_result < 0)
		return scsi_io_failed(command, true);
	return scsi_done(command);
}

/* SBC-3 5.22: the whole cache, whatever the range. IMMED is answered after the flush, too. */
void scsi_basic_flush(struct scsi_command *command)
{
	if (!scsi_check_range(command, scsi_cdb_lba(command->cdb), scsi_cdb_blocks(command->cdb)))
		return;
	command->next = flush_next;
}

/* SBC-3 5.8: nothing is kept in a cache of ours, so GOOD: the blocks were not all cached. */
void scsi_basic_prefetch(struct scsi_command *command)
{
	if (scsi_check_range(command, scsi_cdb_lba(command->cdb), scsi_cdb_blocks(command->cdb)))
		scsi_start_done(command);
}

/* READ DEFECT DATA (SBC-3 5.17, 5.18): there are none. */
static size_t fill_defects(struct scsi_command *command, uint8_t *buffer)
{
	uint8_t format = command->cdb[0] == 0x37 ? command->cdb[2] : command->cdb[1];

	buffer[1] = format & 0x1f;
	return command->cdb[0] == 0x37 ? 4 : 8;
}

void scsi_basic_defects(struct scsi_command *command)
{
	bool is10 = command->cdb[0] == 0x37;

	scsi_start_answer(command, is10 ? get_be16(command->cdb + 7) : get_be32(command->cdb + 6),
			  fill_defects);
}
