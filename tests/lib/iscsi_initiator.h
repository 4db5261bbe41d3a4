/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A small iSCSI initiator for tests, in either world: one connection, commands from any number of
 * fibers of one reactor at once. It checks what the target sends by the book (order of DataSN,
 * R2TSN and offsets, StatSN, the command window, residuals) and aborts when that is wrong.
 */
#include "frontend/iscsi/chap.h"
#include "frontend/iscsi/pdu.h"
#include "reactor/fiber.h"

#define INITIATOR_SENSE_MAX 64

struct initiator_options {
	const char *name;
	const char *target;            /* NULL: a discovery session */
	const struct iscsi_chap *chap; /* mutual, from the target's side; NULL: no proof at all */
	uint8_t isid[ISCSI_ISID_BYTES];
	uint16_t tsih, cid;
	bool initial_r2t, immediate_data, header_digest, data_digest;
	uint32_t first_burst, max_burst, max_recv; /* 0 = 65536, 262144, 65536 */
	bool without_reader; /* the caller uses the socket itself after the login */
	uint64_t cut_after;  /* shuts the connection down after so many bytes sent; 0 = never */
};

struct initiator_command {
	uint16_t lun;
	uint8_t cdb[16];
	const uint8_t *out;
	uint32_t out_length;
	uint8_t *in;
	uint32_t in_length;
	bool immediate;
	/* Out. */
	uint8_t status, flags; /* flags: of residuals */
	uint32_t residual, in_received;
	uint8_t sense[INITIATOR_SENSE_MAX];
	uint32_t sense_length;
	/* Private. */
	struct list_node link;
	struct initiator *initiator;
	struct fiber_queue done;
	uint32_t itt, data_sn, r2t_sn;
	int result;
	bool finished;
};

struct initiator {
	struct reactor *reactor;
	struct initiator_options options;
	struct world_socket *socket;
	uint32_t cmd_sn, max_cmd_sn, exp_stat_sn, next_itt;
	uint32_t first_burst, max_burst, max_send; /* negotiated */
	bool initial_r2t, immediate_data, header_digest, data_digest;
	uint16_t tsih, login_status;
	uint64_t sent_bytes;
	int32_t skew; /* added to DataSN (or the offset) of the second Data-Out PDU of each burst */
	bool skew_offset;
	bool broken, reader_running;
	unsigned users; /* fibers inside of calls */
	struct list commands;
	struct fiber_queue window, reader_gone;
	struct fiber_mutex send_lock;
	struct fiber_task reader;
	/* The answer to the one request that is no SCSI command, and to which it belongs. */
	struct fiber_queue answered;
	uint32_t waiting_itt;
	struct iscsi_response answer;
	uint8_t *answer_data;
	uint32_t answer_length;
	bool has_answer;
};

/* Connects and logs in. -EACCES: refused, see login_status. Other errors: the connection was lost.
 * After any error the initiator is closed. */
int initiator_open(struct initiator *initiator, const struct sockaddr *address, socklen_t length,
		   const struct initiator_options *options);
/* Drops the connection without a word; commands under way return -ECONNRESET. */
void initiator_cut(struct initiator *initiator);
/* Cuts, waits for the commands, frees all. Does nothing to a zeroed or closed one. */
void initiator_close(struct initiator *initiator);

/* 0 when a status came; -ECONNRESET. */
int initiator_run(struct initiator *initiator, struct initiator_command *command);
int initiator_nop(struct initiator *initiator, const void *data, uint32_t length);
/* The initiator's part of an abort: the command returns -ECANCELED. */
void initiator_forget(struct initiator_command *command);
int initiator_tmf(struct initiator *initiator, enum iscsi_tmf function, uint16_t lun,
		  uint32_t referenced_itt, uint8_t *ret_response);
/* SendTargets; the caller frees the text. */
int initiator_discover(struct initiator *initiator, const char *value, char **ret_text,
		       size_t *ret_length);
int initiator_logout(struct initiator *initiator);
/* Any PDU as it is; for what no proper initiator sends. */
int initiator_send_raw(struct initiator *initiator, const void *bhs, const void *data,
		       uint32_t length);
