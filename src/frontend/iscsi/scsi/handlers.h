/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Inside the folder: the table of commands, the handlers that it names, and what they share.
 */
#include "base/endian.h"
#include "frontend/iscsi/scsi/command.h"

enum scsi_flag {
	SCSI_WITHOUT_UNIT = 1 << 0,        /* answered at a LUN that does not exist, too */
	SCSI_DESPITE_ATTENTION = 1 << 1,   /* leaves unit attentions alone (SAM-5 5.14.1) */
	SCSI_WRITES = 1 << 2,              /* refused by write protection */
	SCSI_DESPITE_RESERVATION = 1 << 3, /* RESERVE(6) of others does not matter (SPC-2 5.5.1) */
	SCSI_THIN_ONLY = 1 << 4,
	SCSI_READS = 1 << 5,   /* kept out by exclusive persistent reservations (SPC-4 5.12.1) */
	SCSI_CHANGES = 1 << 6, /* kept out by all of them; every SCSI_WRITES is, too */
	SCSI_WITHOUT_MEDIUM = 1 << 7, /* served while the medium is ejected */
	SCSI_ATOMIC_ONLY = 1 << 8,    /* where the volume writes atomically */
};

#define SCSI_NO_SERVICE_ACTION (-1)
#define SCSI_COMPARE_MAX_BYTES (64u * 1024)        /* of one COMPARE AND WRITE */
#define SCSI_SAME_MAX_BYTES    (UINT64_C(2) << 30) /* of one WRITE SAME */

struct scsi_opcode {
	uint8_t opcode;
	int8_t service_action;
	uint8_t length; /* of the CDB */
	uint16_t flags;
	void (*start)(struct scsi_command *command);
	uint8_t usage[15]; /* bits in use from byte 1 on (SPC-4 6.35.3) */
	const char *name;
};

/* All commands, by opcode and service action. */
const struct scsi_opcode *scsi_table(size_t *ret_count);
/* NULL: not supported. */
const struct scsi_opcode *scsi_table_find(uint8_t opcode, int service_action);
/* Does any row of the opcode have service actions? */
bool scsi_table_has_actions(uint8_t opcode);

/* Ends of a handler. */
enum scsi_step scsi_done(struct scsi_command *command);
void scsi_start_done(struct scsi_command *command);
void scsi_invalid_field(struct scsi_command *command, unsigned byte);
void scsi_invalid_list_field(struct scsi_command *command, unsigned byte);
enum scsi_step scsi_io_failed(struct scsi_command *command, bool is_write);

/* LBA and length of a SCSI_BLOCKS command, by its group code (SPC-4 4.2.5.1). */
uint64_t scsi_cdb_lba(const uint8_t *cdb);
uint32_t scsi_cdb_blocks(const uint8_t *cdb);
/* Checks the range against the unit and sets offset and end; fails the command otherwise. */
bool scsi_check_range(struct scsi_command *command, uint64_t lba, uint64_t blocks);
/* The range is what comes as data-out: cuts it at the blocks that the initiator sends. Where the
 * last of them is not whole, fails the command: that could not be stored, and must not be lost. */
bool scsi_take_out(struct scsi_command *command);

/* A command that answers with data that `fill` makes: up to SCSI_ANSWER_BYTES, cut at the
 * allocation length. `fill` gets a zeroed buffer and returns the length, or 0 after it failed the
 * command. */
void scsi_start_answer(struct scsi_command *command, uint32_t allocation_bytes,
		       size_t (*fill)(struct scsi_command *command, uint8_t *buffer));
/* A command that takes a parameter list, then `parse` gives the next step. */
void scsi_start_list(struct scsi_command *command, uint32_t length, scsi_next_fn *parse);

/* Fills the request for a step of its own on the volume. */
enum scsi_step scsi_io(struct scsi_command *command, enum block_op op, unsigned flags,
		       uint64_t offset, uint64_t length);
/* With one iovec on `data`. */
enum scsi_step scsi_io_data(struct scsi_command *command, enum block_op op, unsigned flags,
			    uint8_t *data, uint32_t length);
/* Bytes of the next segment of [offset, end), of at most `limit` bytes. */
uint32_t scsi_segment(const struct scsi_command *command, uint32_t limit);

/* Handlers, by file. */
void scsi_transfer_read(struct scsi_command *command);
void scsi_transfer_write(struct scsi_command *command);
/* The most bytes of WRITE ATOMIC; 0: it is not offered. */
uint32_t scsi_transfer_max_atomic(const struct scsi_unit *unit);
void scsi_transfer_write_atomic(struct scsi_command *command);
void scsi_transfer_verify(struct scsi_command *command);
void scsi_transfer_write_verify(struct scsi_command *command);

/* The most blocks of COMPARE AND WRITE, for the Block Limits page. */
uint32_t scsi_atomic_max_blocks(const struct scsi_unit *unit);
void scsi_atomic_compare_and_write(struct scsi_command *command);
void scsi_atomic_orwrite(struct scsi_command *command);
void scsi_same_write(struct scsi_command *command);

void scsi_copy_out(struct scsi_command *command);
/* One in the background ends before its end. */
void scsi_copy_terminate(struct scsi_command *command);
void scsi_copy_in(struct scsi_command *command);

void scsi_provision_unmap(struct scsi_command *command);
void scsi_provision_lba_status(struct scsi_command *command);

void scsi_inquiry(struct scsi_command *command);
void scsi_mode_sense(struct scsi_command *command);
void scsi_mode_select(struct scsi_command *command);

void scsi_report_luns(struct scsi_command *command);
void scsi_report_opcodes(struct scsi_command *command);
void scsi_report_target_ports(struct scsi_command *command);

void scsi_basic_ready(struct scsi_command *command);
void scsi_basic_request_sense(struct scsi_command *command);
void scsi_log_sense(struct scsi_command *command);

void scsi_basic_exit_failure(struct scsi_command *command);
void scsi_basic_start_stop(struct scsi_command *command);
void scsi_basic_prevent(struct scsi_command *command);
void scsi_basic_capacity10(struct scsi_command *command);
void scsi_basic_capacity16(struct scsi_command *command);
void scsi_basic_flush(struct scsi_command *command);
void scsi_basic_prefetch(struct scsi_command *command);
void scsi_basic_defects(struct scsi_command *command);

void scsi_reserve6(struct scsi_command *command);
void scsi_release6(struct scsi_command *command);

void scsi_persist_in(struct scsi_command *command);
void scsi_persist_out(struct scsi_command *command);
