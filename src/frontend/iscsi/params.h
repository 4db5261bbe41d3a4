/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Negotiation of the operational keys of RFC 7143 section 13: what each key may be, who wins, and
 * the values in force. Pure; login.c and the text requests of the full-feature phase feed it.
 */
#include "frontend/iscsi/text.h"

#define ISCSI_DEFAULT_RECV_BYTES 8192 /* 13.12: until declared otherwise */
#define ISCSI_RECV_BYTES         (256u * 1024)
#define ISCSI_FIRST_BURST_BYTES  (128u * 1024)
#define ISCSI_MAX_BURST_BYTES    (1024u * 1024)
#define ISCSI_MAX_CONNECTIONS    4

struct iscsi_params {
	uint32_t max_recv; /* data segments that we take; 8192 until we declare more */
	uint32_t max_send; /* data segments that the initiator takes */
	uint32_t max_burst, first_burst;
	uint32_t max_outstanding_r2t;
	uint32_t max_connections;
	uint32_t time2wait_s, time2retain_s;
	uint32_t error_recovery_level;
	uint32_t protocol_level;
	bool initial_r2t, immediate_data;
	bool data_pdu_in_order, data_sequence_in_order;
	bool header_digest, data_digest;
	uint64_t seen; /* keys negotiated in this login, one bit for each row of the table */
};

enum iscsi_params_context { /* when the key was received */
			    ISCSI_PARAMS_LOGIN_NORMAL,
			    ISCSI_PARAMS_LOGIN_DISCOVERY,
			    ISCSI_PARAMS_FULL_FEATURE,
};

/* The values that hold when nothing is negotiated. */
void iscsi_params_init(struct iscsi_params *params);
/*
 * Handles one key and writes the answer, if one is due. 0; -ENOENT: no operational key (nothing
 * written); -EINVAL: a value that is no answer for this key, a key offered twice, or one that may
 * not be sent in this context ("Reject" was written).
 */
int iscsi_params_negotiate(struct iscsi_params *params, enum iscsi_params_context context,
			   const struct iscsi_text_pair *pair, struct iscsi_text_writer *writer);
/* Once, in the operational stage: tells the initiator how much we take. */
void iscsi_params_declare(struct iscsi_params *params, struct iscsi_text_writer *writer);
