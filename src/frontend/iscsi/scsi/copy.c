/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EXTENDED COPY with both lengths of list identifiers (SPC-4 6.4, 6.5) and RECEIVE COPY RESULTS
 * (6.23 to 6.25): copies between the units of one target.
 *
 * The list is checked as a whole before anything is copied. Then segment by segment the source is
 * asked where it has data. A hole is written as zeros at once, however long it is; data is read
 * into the command's buffer, behind the list, and written, piece by piece. Zeros that were stored
 * are written as such, too, so a copy of a thin disk is as thin. The units are looked up anew for
 * every piece: one may be removed, write protected or reserved by others meanwhile.
 *
 * A piece is one request at a time, so that a copy takes no more of a volume than any other
 * command.
 *
 * With IMMED the status is sent when the list was checked, and the copy goes on in the background.
 * Its place among the results tells how far it is. It ends with the nexus, with a reset, and when a
 * unit that it needs goes away.
 */
#include "frontend/iscsi/scsi/copy.h"

#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "frontend/iscsi/scsi/handlers.h"

#define DATA_AT        4096u /* of the pieces, in the buffer; the list stands before them */
#define BUFFER_MINIMUM (64u * 1024)
#define PIECE_UNIT     4096u /* a multiple of any unit's blocks */
#define ACTION_LID4    0x01

#define HEADER_LID1_BYTES 16u
#define HEADER_LID4_BYTES 48u
#define UPDATE_MS         1000u /* when to ask again */
#define SEGMENT_DC        0x02  /* the number of blocks counts those of the destination */

_Static_assert(HEADER_LID4_BYTES + SCSI_COPY_LIST_MAX <= DATA_AT, "the list stays before the data");

enum state { STATE_SEGMENT, STATE_STATUS, STATE_READ, STATE_WRITTEN };
enum list_id_usage { USAGE_HOLD = 0, USAGE_DISCARD = 2, USAGE_NONE = 3 };

struct segment {
	unsigned from, to;                /* indexes of descriptors */
	uint64_t from_lba, to_lba, count; /* of blocks, or of bytes */
	uint32_t from_offset, to_offset;  /* bytes */
	bool in_bytes, by_destination;
};

static enum scsi_step refuse(struct scsi_command *command, enum scsi_asc asc)
{
	scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, asc);
	return SCSI_STEP_DONE;
}

static enum scsi_step refuse_field(struct scsi_command *command, unsigned byte)
{
	scsi_invalid_list_field(command, byte);
	return SCSI_STEP_DONE;
}

/* --- Outcomes --- */

static struct scsi_copy_result *find_result(struct scsi_nexus *nexus, uint32_t list_id)
{
	for (unsigned i = 0; i < SCSI_COPIES_HELD; i++) {
		struct scsi_copy_result *result = &nexus->copies.results[i];

		if (result->used && result->list_id == list_id)
			return result;
	}
	return NULL;
}

/* A place that no copy in the background has; of the same list, or the oldest. NULL: all run. */
static struct scsi_copy_result *choose_place(struct scsi_nexus *nexus, uint32_t list_id)
{
	struct scsi_copies *copies = &nexus->copies;
	struct scsi_copy_result *result = find_result(nexus, list_id);

	for (unsigned i = 0; !result && i < SCSI_COPIES_HELD; i++) {
		struct scsi_copy_result *place =
			&copies->results[copies->next++ % SCSI_COPIES_HELD];

		if (!place->running)
			result = place;
	}
	return result;
}

static void leave_background(struct scsi_command *command)
{
	command->copy.background->running = false;
	command->copy.background = NULL;
	command->target->copies--;
}

void scsi_copy_terminate(struct scsi_command *command)
{
	command->copy.background->terminated = true;
	command->copy.background->used = command->copy.held;
	leave_background(command);
}

static void hold_result(struct scsi_command *command)
{
	struct scsi_copy_result *result = command->copy.background;

	if (result)
		leave_background(command);
	else if (command->copy.held)
		result = choose_place(command->nexus, command->copy.list_id);
	if (!result)
		return;
	*result = (struct scsi_copy_result){.used = command->copy.held,
					    .failed = command->status != SCSI_GOOD,
					    .list_id = command->copy.list_id,
					    .segments = (uint16_t)command->index,
					    .bytes = command->copy.done,
					    .sense = command->sense};
}

static enum scsi_step finish(struct scsi_command *command)
{
	hold_result(command);
	return scsi_done(command);
}

static enum scsi_step abort_copy(struct scsi_command *command, enum scsi_asc asc)
{
	scsi_command_fail(command, SCSI_COPY_ABORTED, asc);
	return finish(command);
}

/* A full pool is told as for any write: initiators know what to do then. */
static enum scsi_step io_failed(struct scsi_command *command, bool is_write)
{
	if (command->io_result != -ENOSPC)
		return abort_copy(command, SCSI_ASC_THIRD_PARTY_FAILURE);
	(void)scsi_io_failed(command, is_write);
	return finish(command);
}

/* --- Units --- */

static struct scsi_unit *find_unit(const struct scsi_command *command, unsigned index)
{
	const uint8_t *cscd =
		command->buffer + command->copy.cscds_at + (size_t)index * SCSI_COPY_CSCD_BYTES;
	/* SPC-4 6.4.5.6: a designation descriptor follows; ours has one of 8 bytes, NAA. */
	bool is_naa = (cscd[4] & 0x0f) == 1 && (cscd[5] & 0x3f) == 3 && cscd[7] == 8;

	for (unsigned lun = 0; lun < SCSI_LUNS && is_naa; lun++) {
		struct scsi_unit *unit = command->target->units[lun];

		if (unit && scsi_unit_naa(unit) == get_be64(cscd + 8))
			return unit;
	}
	return NULL;
}

static bool allows(const struct scsi_command *command, const struct scsi_unit *unit,
		   enum scsi_access access)
{
	const struct scsi_registration *registration = NULL;
	const struct scsi_nexus *nexus, *own = NULL;

	LIST_FOR_EACH (&unit->nexuses, nexus, const struct scsi_nexus, link) {
		if (nexus->port == command->nexus->port)
			own = nexus;
	}
	if (own)
		registration = own->registration;
	return (!unit->reserved_by || unit->reserved_by == own) && !unit->ejected &&
	       scsi_persist_allows(&unit->persist, registration, access);
}

/* The unit that the descriptor names, if this initiator may do that there; or ends the copy. */
static struct scsi_unit *open_unit(struct scsi_command *command, unsigned index,
				   enum scsi_access access)
{
	struct scsi_unit *unit = find_unit(command, index);

	if (!unit) {
		(void)abort_copy(command, SCSI_ASC_UNREACHABLE_COPY_TARGET);
		return NULL;
	}
	if (allows(command, unit, access) &&
	    !(access == SCSI_ACCESS_WRITE && scsi_unit_is_write_protected(unit)))
		return unit;
	(void)abort_copy(command, SCSI_ASC_THIRD_PARTY_FAILURE);
	return NULL;
}

/* --- Segments --- */

static void decode(const uint8_t *at, struct segment *ret_segment)
{
	*ret_segment = (struct segment){
		.from = get_be16(at + 4),
		.to = get_be16(at + 6),
		.from_lba = get_be64(at + 12),
		.to_lba = get_be64(at + 20),
		.in_bytes = at[0] == SCSI_COPY_BYTES,
		.by_destination = at[1] & SEGMENT_DC,
	};
	ret_segment->count = ret_segment->in_bytes ? get_be32(at + 8) : get_be16(at + 10);
	if (!ret_segment->in_bytes)
		return;
	ret_segment->from_offset = get_be16(at + 28);
	ret_segment->to_offset = get_be16(at + 30);
}

/* Where on the unit, in bytes; false when the range does not lie on it. */
static bool place(const struct scsi_unit *unit, uint64_t lba, uint32_t offset, uint64_t length,
		  uint64_t *ret_at)
{
	uint64_t size = unit->volume->size_bytes;
	uint32_t block_bytes = unit->volume->block_bytes;

	if (lba > size / block_bytes)
		return false;
	*ret_at = lba * block_bytes + offset;
	return *ret_at <= size && length <= size - *ret_at;
}

static enum scsi_step next_piece(struct scsi_command *command);

static enum scsi_step begin_segment(struct scsi_command *command)
{
	const uint8_t *at = command->buffer + command->copy.segment_at;
	struct scsi_unit *from, *to;
	struct segment segment;
	uint64_t length;

	if (command->index == command->count)
		return finish(command);
	decode(at, &segment);
	if (segment.from >= command->copy.cscds || segment.to >= command->copy.cscds)
		return abort_copy(command, SCSI_ASC_UNREACHABLE_COPY_TARGET);
	from = open_unit(command, segment.from, SCSI_ACCESS_READ);
	to = from ? open_unit(command, segment.to, SCSI_ACCESS_WRITE) : NULL;
	if (!to)
		return SCSI_STEP_DONE;
	length = segment.count;
	if (!segment.in_bytes)
		length *= (segment.by_destination ? to : from)->volume->block_bytes;
	if (!place(from, segment.from_lba, segment.from_offset, length, &command->offset) ||
	    !place(to, segment.to_lba, segment.to_offset, length, &command->copy.to))
		return abort_copy(command, SCSI_ASC_NONE);
	if ((command->offset | length) % from->volume->block_bytes ||
	    (command->copy.to | length) % to->volume->block_bytes)
		return abort_copy(command, SCSI_ASC_INEXACT_SEGMENT);
	command->copy.left = length;
	command->copy.stored = 0;
	return next_piece(command);
}

static uint32_t piece(const struct scsi_command *command, const struct scsi_unit *from,
		      const struct scsi_unit *to)
{
	const struct scsi_unit *units[] = {from, to};
	uint64_t stored = ALIGN_UP(command->copy.stored, (uint64_t)PIECE_UNIT);
	uint64_t n = MIN(command->copy.left, (uint64_t)(command->buffer_size - DATA_AT));

	n = MIN(n, stored);
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (units[i]->volume->max_transfer_bytes > 0)
			n = MIN(n, (uint64_t)units[i]->volume->max_transfer_bytes);
	}
	/* A multiple of both blocks, whatever they are. */
	return (uint32_t)(n < command->copy.left ? n - n % PIECE_UNIT : n);
}

static enum scsi_step next_piece(struct scsi_command *command)
{
	struct scsi_unit *from, *to;
	struct segment segment;

	if (command->copy.left == 0) {
		command->copy.segment_at +=
			4u + get_be16(command->buffer + command->copy.segment_at + 2);
		command->index++;
		command->state = STATE_SEGMENT;
		return begin_segment(command);
	}
	/* A unit that is being removed waits for its commands. */
	if (command->target->units[command->unit->lun] != command->unit)
		return abort_copy(command, SCSI_ASC_THIRD_PARTY_FAILURE);
	decode(command->buffer + command->copy.segment_at, &segment);
	from = open_unit(command, segment.from, SCSI_ACCESS_READ);
	to = from ? find_unit(command, segment.to) : NULL;
	if (!to)
		return from ? abort_copy(command, SCSI_ASC_UNREACHABLE_COPY_TARGET)
			    : SCSI_STEP_DONE;
	command->io_unit = from;
	if (command->copy.stored == 0) {
		command->state = STATE_STATUS;
		return scsi_io(command, BLOCK_STATUS, 0, command->offset, command->copy.left);
	}
	command->state = STATE_READ;
	return scsi_io_data(command, BLOCK_READ, 0, command->buffer + DATA_AT,
			    piece(command, from, to));
}

static bool is_zero(const uint8_t *data, size_t length)
{
	return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* The unit to write to, or NULL: the copy has ended. */
static struct scsi_unit *open_destination(struct scsi_command *command, unsigned *ret_flags)
{
	struct segment segment;
	struct scsi_unit *to;

	decode(command->buffer + command->copy.segment_at, &segment);
	to = open_unit(command, segment.to, SCSI_ACCESS_WRITE);
	if (to)
		*ret_flags = to->write_cache ? 0 : BLOCK_FUA;
	return to;
}

static enum scsi_step write_zeros(struct scsi_command *command, uint64_t length)
{
	unsigned flags = 0;
	struct scsi_unit *to = open_destination(command, &flags);

	if (!to)
		return SCSI_STEP_DONE;
	command->state = STATE_WRITTEN;
	command->io_unit = to;
	return scsi_io(command, BLOCK_WRITE_ZEROES, flags | (to->thin ? 0 : BLOCK_NO_RELEASE),
		       command->copy.to, length);
}

static enum scsi_step write_piece(struct scsi_command *command)
{
	uint64_t length = command->request.length;
	uint8_t *data = command->buffer + DATA_AT;
	struct scsi_unit *to;
	unsigned flags = 0;
	enum scsi_step step;

	if (is_zero(data, length))
		return write_zeros(command, length);
	to = open_destination(command, &flags);
	if (!to)
		return SCSI_STEP_DONE;
	command->state = STATE_WRITTEN;
	command->io_unit = to;
	step = scsi_io_data(command, BLOCK_WRITE, flags, data, (uint32_t)length);
	command->request.offset = command->copy.to;
	return step;
}

/* Where the source does not tell, everything counts as data. */
static enum scsi_step take_status(struct scsi_command *command)
{
	const struct block_status *status = &command->request.status;
	uint64_t length = command->copy.left;

	if (command->io_result == 0)
		length = MIN(status->length, command->copy.left);
	if (length < command->copy.left)
		length -= length % PIECE_UNIT;
	if (command->io_result == 0 && length > 0 && (!status->allocated || status->zero))
		return write_zeros(command, length);
	command->copy.stored = MAX(length, (uint64_t)1); /* a piece covers it, however short */
	return next_piece(command);
}

static enum scsi_step copy_next(struct scsi_command *command)
{
	uint64_t length = command->request.length;

	switch ((enum state)command->state) {
	case STATE_SEGMENT:
		return begin_segment(command);
	case STATE_STATUS:
		return take_status(command);
	case STATE_READ:
		return command->io_result < 0 ? io_failed(command, false) : write_piece(command);
	case STATE_WRITTEN:
		break;
	}
	if (command->io_result < 0)
		return io_failed(command, true);
	command->offset += length;
	command->copy.to += length;
	command->copy.left -= length;
	command->copy.stored -= MIN(command->copy.stored, length);
	command->copy.done += length;
	if (command->copy.background) {
		command->copy.background->bytes = command->copy.done;
		command->copy.background->segments = (uint16_t)command->index;
	}
	return next_piece(command);
}

/* --- The list --- */

struct lengths {
	uint32_t header, cscds, segments, inline_data;
	bool immediate;
};

static bool check_cscds(struct scsi_command *command, const struct lengths *lengths)
{
	const uint8_t *at = command->buffer + lengths->header;

	if (lengths->cscds / SCSI_COPY_CSCD_BYTES > SCSI_COPY_CSCDS_MAX) {
		(void)refuse(command, SCSI_ASC_TOO_MANY_CSCDS);
		return false;
	}
	for (uint32_t i = 0; i < lengths->cscds; i += SCSI_COPY_CSCD_BYTES) {
		if (at[i] == SCSI_COPY_CSCD_IDENT)
			continue;
		(void)refuse(command, SCSI_ASC_CSCD_TYPE);
		return false;
	}
	return true;
}

static bool check_segments(struct scsi_command *command, const struct lengths *lengths)
{
	uint32_t at = lengths->header + lengths->cscds, end = at + lengths->segments;

	command->copy.segment_at = (uint16_t)at;
	for (command->count = 0; at < end; command->count++) {
		const uint8_t *segment = command->buffer + at;
		uint32_t length = 0x18;

		if (command->count == SCSI_COPY_SEGMENTS_MAX) {
			(void)refuse(command, SCSI_ASC_TOO_MANY_SEGMENTS);
			return false;
		}
		if (segment[0] == SCSI_COPY_BYTES)
			length = 0x1c;
		else if (segment[0] != SCSI_COPY_BLOCKS) {
			(void)refuse(command, SCSI_ASC_SEGMENT_TYPE);
			return false;
		}
		if (end - at < 4 + length || get_be16(segment + 2) != length) {
			(void)refuse_field(command, at + 2);
			return false;
		}
		at += 4 + length;
	}
	return true;
}

static enum scsi_step enter_background(struct scsi_command *command)
{
	struct scsi_copy_result *place = NULL;

	if (command->target->copies < SCSI_COPIES_RUNNING)
		place = choose_place(command->nexus, command->copy.list_id);
	if (!place)
		return refuse(command, SCSI_ASC_INSUFFICIENT_RESOURCES);
	*place = (struct scsi_copy_result){
		.used = true, .running = true, .list_id = command->copy.list_id};
	command->copy.background = place;
	command->target->copies++;
	return SCSI_STEP_STATUS;
}

static enum scsi_step check_list(struct scsi_command *command, const struct lengths *lengths)
{
	uint64_t total = (uint64_t)lengths->header + lengths->cscds + lengths->segments +
			 lengths->inline_data;

	if (total > command->out_bytes || lengths->cscds % SCSI_COPY_CSCD_BYTES ||
	    (uint64_t)lengths->cscds + lengths->segments > SCSI_COPY_LIST_MAX)
		return refuse(command, SCSI_ASC_PARAMETER_LIST_LENGTH);
	if (lengths->inline_data > 0)
		return refuse(command, SCSI_ASC_INLINE_DATA_LENGTH);
	command->copy.cscds_at = (uint16_t)lengths->header;
	command->copy.cscds = (uint16_t)(lengths->cscds / SCSI_COPY_CSCD_BYTES);
	if (!check_cscds(command, lengths) || !check_segments(command, lengths))
		return SCSI_STEP_DONE;
	command->index = 0;
	command->state = STATE_SEGMENT;
	command->next = copy_next;
	return lengths->immediate ? enter_background(command) : copy_next(command);
}

/* SPC-4 6.4.3.2: whether there is a list identifier, and whether its outcome is held. */
static bool take_list_id(struct scsi_command *command, unsigned byte, uint32_t list_id)
{
	unsigned usage = command->buffer[1] >> 3 & 3;

	if (usage == 1 || (usage == USAGE_NONE && list_id != 0)) {
		(void)refuse_field(command, usage == 1 ? 1 : byte);
		return false;
	}
	if (usage != USAGE_NONE) {
		const struct scsi_copy_result *result = find_result(command->nexus, list_id);

		if (result && result->running) {
			(void)refuse(command, SCSI_ASC_OPERATION_IN_PROGRESS);
			return false;
		}
	}
	command->copy.list_id = list_id;
	command->copy.held = usage == USAGE_HOLD;
	command->copy.done = 0;
	return true;
}

static enum scsi_step parse_lid1(struct scsi_command *command)
{
	const uint8_t *list = command->buffer;
	struct lengths lengths = {.header = HEADER_LID1_BYTES};

	if (command->out_bytes < HEADER_LID1_BYTES)
		return refuse(command, SCSI_ASC_PARAMETER_LIST_LENGTH);
	lengths.cscds = get_be16(list + 2);
	lengths.segments = get_be32(list + 8);
	lengths.inline_data = get_be32(list + 12);
	if (!take_list_id(command, 0, list[0]))
		return SCSI_STEP_DONE;
	return check_list(command, &lengths);
}

static enum scsi_step parse_lid4(struct scsi_command *command)
{
	const uint8_t *list = command->buffer;
	struct lengths lengths = {.header = HEADER_LID4_BYTES};

	if (command->out_bytes < HEADER_LID4_BYTES)
		return refuse(command, SCSI_ASC_PARAMETER_LIST_LENGTH);
	if (list[0] != 1) /* the format */
		return refuse_field(command, 0);
	if (get_be16(list + 2) != 0x20 || list[16] != 0xff)
		return refuse_field(command, get_be16(list + 2) != 0x20 ? 2 : 16);
	lengths.immediate = list[15] & 0x01; /* nobody could ask for one without an identifier */
	if (lengths.immediate && (list[1] >> 3 & 3) == USAGE_NONE)
		return refuse_field(command, 15);
	lengths.cscds = get_be16(list + 42);
	lengths.segments = get_be16(list + 44);
	lengths.inline_data = get_be16(list + 46);
	if (!take_list_id(command, 20, get_be32(list + 20)))
		return SCSI_STEP_DONE;
	return check_list(command, &lengths);
}

void scsi_copy_out(struct scsi_command *command)
{
	bool lid4 = command->opcode->service_action == ACTION_LID4;

	scsi_start_list(command, get_be32(command->cdb + 10), lid4 ? parse_lid4 : parse_lid1);
	if (command->buffer_bytes == 0)
		return;
	command->buffer_bytes = SCSI_SEGMENT_BYTES;
	command->buffer_minimum = BUFFER_MINIMUM;
}

/* --- RECEIVE COPY RESULTS --- */

/* SPC-4 6.25 */
static size_t fill_parameters(struct scsi_command *command, uint8_t *buffer)
{
	(void)command;
	buffer[4] = 0x01; /* SNLID: a list without an identifier */
	put_be16(buffer + 8, SCSI_COPY_CSCDS_MAX);
	put_be16(buffer + 10, SCSI_COPY_SEGMENTS_MAX);
	put_be32(buffer + 12, SCSI_COPY_LIST_MAX);
	put_be32(buffer + 16, SCSI_COPY_SEGMENT_MAX);
	put_be16(buffer + 34, UINT16_MAX); /* as many copies at once as there are commands */
	buffer[36] = UINT8_MAX;
	buffer[37] = SCSI_COPY_GRANULARITY;
	buffer[43] = 3;
	buffer[44] = SCSI_COPY_BLOCKS;
	buffer[45] = SCSI_COPY_BYTES;
	buffer[46] = SCSI_COPY_CSCD_IDENT;
	put_be32(buffer, 47 - 4);
	return 47;
}

/* The result goes with the answer that tells it. */
static bool take_result(struct scsi_command *command, uint32_t list_id,
			struct scsi_copy_result *ret_result)
{
	struct scsi_copy_result *result = find_result(command->nexus, list_id);

	if (!result) {
		scsi_invalid_field(command, 2);
		return false;
	}
	*ret_result = *result;
	result->used = result->running;
	return true;
}

/* SPC-4 6.24 */
static size_t fill_status_lid1(struct scsi_command *command, uint8_t *buffer)
{
	struct scsi_copy_result result;
	uint64_t kib;

	if (!take_result(command, command->cdb[2], &result))
		return 0;
	kib = result.bytes / 1024;
	put_be32(buffer, 8);
	if (!result.running)
		buffer[4] = result.failed || result.terminated ? 0x02 : 0x01;
	put_be16(buffer + 5, result.segments);
	buffer[7] = 0x01; /* KiB */
	put_be32(buffer + 8, kib > UINT32_MAX ? UINT32_MAX : (uint32_t)kib);
	return 12;
}

/* COPY OPERATION STATUS (SPC-4 6.23) */
static uint8_t status_of(const struct scsi_copy_result *result)
{
	if (result->running)
		return 0x12; /* in the background */
	if (result->terminated)
		return 0x60;
	return result->failed ? 0x02 : 0x01;
}

/* SPC-4 6.23 */
static size_t fill_status_lid4(struct scsi_command *command, uint8_t *buffer)
{
	struct scsi_copy_result result;
	size_t length = 0;

	if (!take_result(command, get_be32(command->cdb + 2), &result))
		return 0;
	if (result.failed)
		length = scsi_sense_encode(&result.sense, command->unit->descriptor_sense,
					   buffer + 32);
	put_be32(buffer, (uint32_t)(28 + length));
	buffer[4] = 0x01; /* answers EXTENDED COPY(LID4) */
	buffer[5] = status_of(&result);
	put_be32(buffer + 8, result.running ? UPDATE_MS : UINT32_MAX); /* or no further one */
	buffer[12] = result.failed ? SCSI_CHECK_CONDITION : SCSI_GOOD;
	buffer[13] = SCSI_SENSE_BYTES;
	buffer[14] = (uint8_t)length;
	put_be64(buffer + 16, result.bytes);
	put_be16(buffer + 24, result.segments);
	return 32 + length;
}

void scsi_copy_in(struct scsi_command *command)
{
	uint32_t allocation = get_be32(command->cdb + 10);

	switch (command->opcode->service_action) {
	case 0x00:
		scsi_start_answer(command, allocation, fill_status_lid1);
		break;
	case 0x05:
		scsi_start_answer(command, allocation, fill_status_lid4);
		break;
	default:
		scsi_start_answer(command, allocation, fill_parameters);
		break;
	}
}
