/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One SCSI command as a sequence of steps, without any transport or waiting: the caller starts it,
 * then asks again and again for the next step and performs it (fetch data from the initiator,
 * submit a block request, send data to the initiator) until the command is done. So the device
 * server is a set of plain functions, and a test drives them with memory.
 *
 *     scsi_command_start(c);            checks and decodes; says how much data and buffer it needs
 *     c->buffer = ...;                  from c->buffer_minimum to c->buffer_bytes, or more
 *     while ((step = scsi_command_next(c)) != SCSI_STEP_DONE)
 *             perform(step);
 *     c->status, c->sense               the outcome
 *
 * Lives on its unit's reactor; the caller owns it and the buffer.
 */
#include "frontend/iscsi/scsi/unit.h"

#define SCSI_CDB_MAX         32
#define SCSI_SEGMENT_BYTES   (512u * 1024) /* the most that one step moves */
#define SCSI_TRANSFER_BLOCKS 65536u        /* of one command */
#define SCSI_ANSWER_BYTES    (32u * 1024)  /* the longest answer that is no medium data */
#define SCSI_SMALL_BYTES     8192          /* parameter lists, and most answers */

enum scsi_step {
	SCSI_STEP_DATA_OUT, /* put step_bytes of data-out, from out_offset on, at step_data */
	SCSI_STEP_IO,      /* submit `request` to the unit's volume; its result goes to io_result */
	SCSI_STEP_DATA_IN, /* send step_bytes at step_data, which stand at in_offset of data-in */
	SCSI_STEP_ABORT,   /* abort all tasks of nexuses that are `preempted`, wait for them */
	SCSI_STEP_SAVE,    /* make the unit's reservations durable; the result goes to io_result */
	SCSI_STEP_STATUS,  /* send the status, which is good, and go on: what follows is silent */
	SCSI_STEP_DONE,    /* send the status, if it was not sent before */
};

struct scsi_command;
struct scsi_opcode;

typedef enum scsi_step scsi_next_fn(struct scsi_command *command);

struct scsi_command {
	/* Set by the caller before the start. */
	struct scsi_target *target;
	struct scsi_unit *unit;   /* NULL: no such LUN */
	struct scsi_nexus *nexus; /* NULL when unit is */
	uint8_t cdb[SCSI_CDB_MAX];
	uint32_t expected_out; /* bytes that the initiator sends */
	uint32_t expected_in;  /* bytes that it takes */

	/* Set by the start; in_bytes is final only with the first DATA_IN step. */
	const struct scsi_opcode *opcode;
	uint64_t out_bytes, in_bytes; /* that the command would move, whatever is expected */
	uint32_t buffer_bytes;        /* as much as it can use */
	uint32_t buffer_minimum;      /* less will not do */

	/* Set by the caller before the first next. */
	uint8_t *buffer;
	uint32_t buffer_size;

	/* A step's parameters. */
	uint8_t *step_data;
	uint32_t step_bytes;
	uint64_t out_offset, in_offset;
	bool last; /* with DATA_IN: the status is known, DONE follows */
	int io_result;
	struct iovec iov[2];
	struct scsi_unit *io_unit; /* where the request goes, when it is not the command's */
	struct block_request request;

	/* Private to the handlers. */
	scsi_next_fn *next;
	unsigned state;
	uint64_t offset, end; /* bytes on the volume: the next segment, the end of all */
	uint32_t index, count;
	struct {                         /* EXTENDED COPY */
		uint64_t to, left, done; /* bytes */
		uint64_t stored;         /* bytes that follow and are data; 0: not known */
		uint32_t list_id;
		uint16_t cscds_at, cscds, segment_at; /* in the buffer */
		bool held;
		struct scsi_copy_result *background; /* its place; NULL in the foreground */
	} copy;
	union {
		size_t (*fill)(struct scsi_command *command, uint8_t *buffer);
		scsi_next_fn *parse;
	};

	/* The outcome. */
	enum scsi_status status;
	struct scsi_sense sense;
};

void scsi_command_start(struct scsi_command *command);
static inline enum scsi_step scsi_command_next(struct scsi_command *command)
{
	return command->next(command);
}
/* Bytes of sense data for a CHECK CONDITION; 0 when the status has none. */
size_t scsi_command_sense(const struct scsi_command *command, uint8_t *ret_bytes);
/* Instead of a start: the command ends with a status that has no sense data. */
void scsi_command_refuse(struct scsi_command *command, enum scsi_status status);
/* The caller gives the command up before it is done; or it is done. */
void scsi_command_drop(struct scsi_command *command);
/* Ends a command from outside, at any step. */
void scsi_command_fail(struct scsi_command *command, enum scsi_sense_key key, enum scsi_asc asc);
