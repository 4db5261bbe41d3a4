/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * iSCSI protocol data units as they are on the wire (RFC 7143 section 11). All fields are
 * big-endian byte arrays, read with get_be*() and written with put_be*(), so no struct has
 * alignment needs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/endian.h"

#define ISCSI_BHS_BYTES    48 /* 11.2.1 */
#define ISCSI_DIGEST_BYTES 4  /* 11.2.3 */
#define ISCSI_RESERVED_TAG UINT32_C(0xffffffff)
#define ISCSI_PORT         3260

enum iscsi_opcode { /* 11.2.1.2 */
		    ISCSI_OP_NOP_OUT = 0x00,
		    ISCSI_OP_SCSI_COMMAND = 0x01,
		    ISCSI_OP_TASK_MANAGEMENT = 0x02,
		    ISCSI_OP_LOGIN = 0x03,
		    ISCSI_OP_TEXT = 0x04,
		    ISCSI_OP_DATA_OUT = 0x05,
		    ISCSI_OP_LOGOUT = 0x06,
		    ISCSI_OP_SNACK = 0x10,
		    ISCSI_OP_NOP_IN = 0x20,
		    ISCSI_OP_SCSI_RESPONSE = 0x21,
		    ISCSI_OP_TASK_MANAGEMENT_RESPONSE = 0x22,
		    ISCSI_OP_LOGIN_RESPONSE = 0x23,
		    ISCSI_OP_TEXT_RESPONSE = 0x24,
		    ISCSI_OP_DATA_IN = 0x25,
		    ISCSI_OP_LOGOUT_RESPONSE = 0x26,
		    ISCSI_OP_R2T = 0x31,
		    ISCSI_OP_ASYNC = 0x32,
		    ISCSI_OP_REJECT = 0x3f,
};
#define ISCSI_OPCODE_MASK   0x3f
#define ISCSI_IMMEDIATE_BIT 0x40
#define ISCSI_FINAL_BIT     0x80

struct iscsi_bhs {      /* 11.2.1: what all of them share */
	uint8_t opcode; /* with ISCSI_IMMEDIATE_BIT */
	uint8_t flags;
	uint8_t specific[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t rest[28];
};

struct iscsi_request { /* what all numbered requests share */
	uint8_t opcode;
	uint8_t flags;
	uint8_t specific[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t word20[4];
	uint8_t cmd_sn[4];
	uint8_t exp_stat_sn[4];
	uint8_t rest[16];
};

struct iscsi_response { /* what all responses share */
	uint8_t opcode;
	uint8_t flags;
	uint8_t specific[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t ttt[4];
	uint8_t stat_sn[4];
	uint8_t exp_cmd_sn[4];
	uint8_t max_cmd_sn[4];
	uint8_t rest[12];
};

struct iscsi_scsi_command { /* 11.3 */
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t expected_length[4];
	uint8_t cmd_sn[4];
	uint8_t exp_stat_sn[4];
	uint8_t cdb[16];
};
#define ISCSI_COMMAND_READ      0x40
#define ISCSI_COMMAND_WRITE     0x20
#define ISCSI_COMMAND_ATTR_MASK 0x07

struct iscsi_scsi_response { /* 11.4 */
	uint8_t opcode;
	uint8_t flags;
	uint8_t response;
	uint8_t status;
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t reserved[8];
	uint8_t itt[4];
	uint8_t snack_tag[4];
	uint8_t stat_sn[4];
	uint8_t exp_cmd_sn[4];
	uint8_t max_cmd_sn[4];
	uint8_t exp_data_sn[4];
	uint8_t bidi_residual[4];
	uint8_t residual[4];
};
#define ISCSI_RESIDUAL_OVERFLOW  0x04
#define ISCSI_RESIDUAL_UNDERFLOW 0x02

struct iscsi_task_management { /* 11.5 */
	uint8_t opcode;
	uint8_t flags; /* final bit and function */
	uint8_t reserved[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t referenced_itt[4];
	uint8_t cmd_sn[4];
	uint8_t exp_stat_sn[4];
	uint8_t ref_cmd_sn[4];
	uint8_t exp_data_sn[4];
	uint8_t reserved2[8];
};
enum iscsi_tmf { /* 11.5.1 */
		 ISCSI_TMF_ABORT_TASK = 1,
		 ISCSI_TMF_ABORT_TASK_SET = 2,
		 ISCSI_TMF_CLEAR_ACA = 3,
		 ISCSI_TMF_CLEAR_TASK_SET = 4,
		 ISCSI_TMF_LUN_RESET = 5,
		 ISCSI_TMF_TARGET_WARM_RESET = 6,
		 ISCSI_TMF_TARGET_COLD_RESET = 7,
		 ISCSI_TMF_TASK_REASSIGN = 8,
};
enum iscsi_tmf_response { /* 11.6.1 */
			  ISCSI_TMF_COMPLETE = 0,
			  ISCSI_TMF_NO_TASK = 1,
			  ISCSI_TMF_NO_LUN = 2,
			  ISCSI_TMF_NO_REASSIGN = 4,
			  ISCSI_TMF_NOT_SUPPORTED = 5,
			  ISCSI_TMF_REJECTED = 255,
};

struct iscsi_data_out { /* 11.7 */
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t ttt[4];
	uint8_t reserved2[4];
	uint8_t exp_stat_sn[4];
	uint8_t reserved3[4];
	uint8_t data_sn[4];
	uint8_t buffer_offset[4];
	uint8_t reserved4[4];
};

struct iscsi_data_in { /* 11.7 */
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved;
	uint8_t status;
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t ttt[4];
	uint8_t stat_sn[4];
	uint8_t exp_cmd_sn[4];
	uint8_t max_cmd_sn[4];
	uint8_t data_sn[4];
	uint8_t buffer_offset[4];
	uint8_t residual[4];
};
#define ISCSI_DATA_IN_STATUS 0x01

struct iscsi_r2t { /* 11.8 */
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t ttt[4];
	uint8_t stat_sn[4];
	uint8_t exp_cmd_sn[4];
	uint8_t max_cmd_sn[4];
	uint8_t r2t_sn[4];
	uint8_t buffer_offset[4];
	uint8_t desired_length[4];
};

struct iscsi_async { /* 11.9 */
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t reserved2[4];
	uint8_t stat_sn[4];
	uint8_t exp_cmd_sn[4];
	uint8_t max_cmd_sn[4];
	uint8_t event;
	uint8_t vendor_code;
	uint8_t parameter1[2];
	uint8_t parameter2[2];
	uint8_t parameter3[2];
	uint8_t reserved3[4];
};
enum iscsi_async_event { /* 11.9.1 */
			 ISCSI_ASYNC_SCSI = 0,
			 ISCSI_ASYNC_LOGOUT_REQUEST = 1,
			 ISCSI_ASYNC_DROP_CONNECTION = 2,
			 ISCSI_ASYNC_DROP_SESSION = 3,
			 ISCSI_ASYNC_NEGOTIATE = 4,
};

struct iscsi_login { /* 11.12 */
	uint8_t opcode;
	uint8_t flags; /* transit, continue, current and next stage */
	uint8_t version_max;
	uint8_t version_min;
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t isid[6];
	uint8_t tsih[2];
	uint8_t itt[4];
	uint8_t cid[2];
	uint8_t reserved[2];
	uint8_t cmd_sn[4];
	uint8_t exp_stat_sn[4];
	uint8_t reserved2[16];
};
#define ISCSI_LOGIN_TRANSIT  0x80
#define ISCSI_LOGIN_CONTINUE 0x40
#define ISCSI_ISID_BYTES     6

enum iscsi_stage { /* 11.12.3 */
		   ISCSI_STAGE_SECURITY = 0,
		   ISCSI_STAGE_OPERATIONAL = 1,
		   ISCSI_STAGE_FULL_FEATURE = 3,
};

struct iscsi_login_response { /* 11.13 */
	uint8_t opcode;
	uint8_t flags;
	uint8_t version_max;
	uint8_t version_active;
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t isid[6];
	uint8_t tsih[2];
	uint8_t itt[4];
	uint8_t reserved[4];
	uint8_t stat_sn[4];
	uint8_t exp_cmd_sn[4];
	uint8_t max_cmd_sn[4];
	uint8_t status_class;
	uint8_t status_detail;
	uint8_t reserved2[10];
};
enum iscsi_login_status { /* 11.13.5: class in the high byte, detail in the low one */
			  ISCSI_LOGIN_SUCCESS = 0x0000,
			  ISCSI_LOGIN_MOVED_TEMPORARILY = 0x0101,
			  ISCSI_LOGIN_INITIATOR_ERROR = 0x0200,
			  ISCSI_LOGIN_AUTHENTICATION_FAILED = 0x0201,
			  ISCSI_LOGIN_FORBIDDEN = 0x0202,
			  ISCSI_LOGIN_NOT_FOUND = 0x0203,
			  ISCSI_LOGIN_UNSUPPORTED_VERSION = 0x0205,
			  ISCSI_LOGIN_TOO_MANY_CONNECTIONS = 0x0206,
			  ISCSI_LOGIN_MISSING_PARAMETER = 0x0207,
			  ISCSI_LOGIN_CANNOT_INCLUDE = 0x0208,
			  ISCSI_LOGIN_SESSION_TYPE = 0x0209,
			  ISCSI_LOGIN_NO_SESSION = 0x020a,
			  ISCSI_LOGIN_INVALID_REQUEST = 0x020b,
			  ISCSI_LOGIN_TARGET_ERROR = 0x0300,
			  ISCSI_LOGIN_UNAVAILABLE = 0x0301,
			  ISCSI_LOGIN_OUT_OF_RESOURCES = 0x0302,
};

struct iscsi_text { /* 11.10, and 11.11 with struct iscsi_response */
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t lun[8];
	uint8_t itt[4];
	uint8_t ttt[4];
	uint8_t cmd_sn[4];
	uint8_t exp_stat_sn[4];
	uint8_t reserved2[16];
};
#define ISCSI_TEXT_CONTINUE 0x40

struct iscsi_logout { /* 11.14 */
	uint8_t opcode;
	uint8_t flags; /* final bit and reason */
	uint8_t reserved[2];
	uint8_t ahs_words;
	uint8_t data_length[3];
	uint8_t reserved2[8];
	uint8_t itt[4];
	uint8_t cid[2];
	uint8_t reserved3[2];
	uint8_t cmd_sn[4];
	uint8_t exp_stat_sn[4];
	uint8_t reserved4[16];
};
enum iscsi_logout_reason { /* 11.14.1 */
			   ISCSI_LOGOUT_SESSION = 0,
			   ISCSI_LOGOUT_CONNECTION = 1,
			   ISCSI_LOGOUT_RECOVERY = 2,
};
enum iscsi_logout_response { /* 11.15.1 */
			     ISCSI_LOGOUT_CLOSED = 0,
			     ISCSI_LOGOUT_NO_CID = 1,
			     ISCSI_LOGOUT_NO_RECOVERY = 2,
};

enum iscsi_reject_reason { /* 11.17.1 */
			   ISCSI_REJECT_DATA_DIGEST = 0x02,
			   ISCSI_REJECT_SNACK = 0x03,
			   ISCSI_REJECT_PROTOCOL = 0x04,
			   ISCSI_REJECT_NOT_SUPPORTED = 0x05,
			   ISCSI_REJECT_IMMEDIATE = 0x06,
			   ISCSI_REJECT_TASK_IN_PROGRESS = 0x07,
			   ISCSI_REJECT_INVALID_FIELD = 0x09,
			   ISCSI_REJECT_RESOURCES = 0x0a,
};

_Static_assert(sizeof(struct iscsi_bhs) == ISCSI_BHS_BYTES, "RFC 7143 section 11.2.1");
_Static_assert(sizeof(struct iscsi_request) == ISCSI_BHS_BYTES, "RFC 7143 section 11.2.1");
_Static_assert(sizeof(struct iscsi_response) == ISCSI_BHS_BYTES, "RFC 7143 section 11.2.1");
_Static_assert(sizeof(struct iscsi_scsi_command) == ISCSI_BHS_BYTES, "RFC 7143 section 11.3");
_Static_assert(offsetof(struct iscsi_scsi_command, cdb) == 32, "RFC 7143 section 11.3");
_Static_assert(sizeof(struct iscsi_scsi_response) == ISCSI_BHS_BYTES, "RFC 7143 section 11.4");
_Static_assert(offsetof(struct iscsi_scsi_response, residual) == 44, "RFC 7143 section 11.4");
_Static_assert(sizeof(struct iscsi_task_management) == ISCSI_BHS_BYTES, "RFC 7143 section 11.5");
_Static_assert(offsetof(struct iscsi_task_management, ref_cmd_sn) == 32, "RFC 7143 section 11.5");
_Static_assert(sizeof(struct iscsi_data_out) == ISCSI_BHS_BYTES, "RFC 7143 section 11.7");
_Static_assert(offsetof(struct iscsi_data_out, buffer_offset) == 40, "RFC 7143 section 11.7");
_Static_assert(sizeof(struct iscsi_data_in) == ISCSI_BHS_BYTES, "RFC 7143 section 11.7");
_Static_assert(offsetof(struct iscsi_data_in, buffer_offset) == 40, "RFC 7143 section 11.7");
_Static_assert(sizeof(struct iscsi_r2t) == ISCSI_BHS_BYTES, "RFC 7143 section 11.8");
_Static_assert(offsetof(struct iscsi_r2t, desired_length) == 44, "RFC 7143 section 11.8");
_Static_assert(sizeof(struct iscsi_async) == ISCSI_BHS_BYTES, "RFC 7143 section 11.9");
_Static_assert(offsetof(struct iscsi_async, event) == 36, "RFC 7143 section 11.9");
_Static_assert(sizeof(struct iscsi_login) == ISCSI_BHS_BYTES, "RFC 7143 section 11.12");
_Static_assert(offsetof(struct iscsi_login, cid) == 20, "RFC 7143 section 11.12");
_Static_assert(sizeof(struct iscsi_login_response) == ISCSI_BHS_BYTES, "RFC 7143 section 11.13");
_Static_assert(offsetof(struct iscsi_login_response, status_class) == 36, "section 11.13");
_Static_assert(sizeof(struct iscsi_text) == ISCSI_BHS_BYTES, "RFC 7143 section 11.10");
_Static_assert(sizeof(struct iscsi_logout) == ISCSI_BHS_BYTES, "RFC 7143 section 11.14");

static inline uint8_t iscsi_pdu_opcode(const struct iscsi_bhs *bhs)
{
	return bhs->opcode & ISCSI_OPCODE_MASK;
}

static inline bool iscsi_pdu_is_immediate(const struct iscsi_bhs *bhs)
{
	return bhs->opcode & ISCSI_IMMEDIATE_BIT;
}

static inline uint32_t iscsi_pdu_ahs_bytes(const struct iscsi_bhs *bhs)
{
	return (uint32_t)bhs->ahs_words * 4;
}

static inline uint32_t iscsi_pdu_data_length(const struct iscsi_bhs *bhs)
{
	return get_be24(bhs->data_length);
}

/* Bytes that fill a data segment up to a multiple of four (11.2.1.6). */
static inline uint32_t iscsi_pdu_pad(uint32_t length)
{
	return -length & 3;
}

/* Serial-number arithmetic of RFC 1982, as section 4.2.2.1 asks: is a before b? */
static inline bool iscsi_sn_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

/* The single-level LUN in an 8-byte LUN field (SAM-5 4.7: peripheral or flat addressing), or
 * -EINVAL for one that is not of this form. */
int iscsi_pdu_get_lun(const uint8_t field[8]);
void iscsi_pdu_put_lun(uint8_t field[8], uint16_t lun);

/*
 * Can a target in the full-feature phase take this header at all? 0, or the reason of a Reject: an
 * unknown or target opcode, a data segment or additional header where none may be, a missing final
 * bit. What depends on the session's state is checked elsewhere.
 */
int iscsi_pdu_check(const struct iscsi_bhs *bhs);

/*
 * Copies the CDB: 16 bytes from the header, more from an Extended CDB segment (11.2.2.3). `ahs`
 * holds iscsi_pdu_ahs_bytes() bytes. Returns the CDB's length or -EINVAL for damaged additional
 * headers.
 */
int iscsi_pdu_get_cdb(const struct iscsi_scsi_command *command, const uint8_t *ahs,
		      uint8_t *ret_cdb, size_t cdb_size);
