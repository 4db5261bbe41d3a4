/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/params.h"

#include <errno.h>
#include <string.h>

#include "base/macros.h"

#define SEGMENT_MIN 512
#define SEGMENT_MAX 0xffffff

enum kind {
	KIND_NUMBER_MIN, /* the smaller of both */
	KIND_NUMBER_MAX, /* the larger of both */
	KIND_DECLARED,   /* the initiator's alone; no answer */
	KIND_AND,
	KIND_OR,
	KIND_DIGEST, /* the first of the list that we know */
	KIND_TASK_REPORTING,
	KIND_OBSOLETE_BOOL,  /* 13.26: answered with No */
	KIND_OBSOLETE_OTHER, /* 13.26: answered with Reject */
};

enum {
	NORMAL_ONLY = 1 << 0,  /* Irrelevant in a discovery session */
	FULL_FEATURE = 1 << 1, /* may be sent there again */
};

struct row {
	const char *key;
	enum kind kind;
	unsigned flags;
	size_t offset; /* in struct iscsi_params */
	uint32_t min, max, ours;
};

#define FIELD(name) offsetof(struct iscsi_params, name)

static const struct row rows[] = {
	{"HeaderDigest", KIND_DIGEST, 0, FIELD(header_digest), 0, 0, 0}, /* 13.1 */
	{"DataDigest", KIND_DIGEST, 0, FIELD(data_digest), 0, 0, 0},     /* 13.1 */
	{"MaxConnections", KIND_NUMBER_MIN, NORMAL_ONLY, FIELD(max_connections), 1, 65535,
	 ISCSI_MAX_CONNECTIONS},                                                  /* 13.2 */
	{"InitialR2T", KIND_OR, NORMAL_ONLY, FIELD(initial_r2t), 0, 0, 0},        /* 13.10 */
	{"ImmediateData", KIND_AND, NORMAL_ONLY, FIELD(immediate_data), 0, 0, 1}, /* 13.11 */
	{"MaxRecvDataSegmentLength", KIND_DECLARED, FULL_FEATURE, FIELD(max_send), SEGMENT_MIN,
	 SEGMENT_MAX, 0}, /* 13.12 */
	{"MaxBurstLength", KIND_NUMBER_MIN, NORMAL_ONLY, FIELD(max_burst), SEGMENT_MIN, SEGMENT_MAX,
	 ISCSI_MAX_BURST_BYTES}, /* 13.13 */
	{"FirstBurstLength", KIND_NUMBER_MIN, NORMAL_ONLY, FIELD(first_burst), SEGMENT_MIN,
	 SEGMENT_MAX, ISCSI_FIRST_BURST_BYTES},                                       /* 13.14 */
	{"DefaultTime2Wait", KIND_NUMBER_MAX, 0, FIELD(time2wait_s), 0, 3600, 0},     /* 13.15 */
	{"DefaultTime2Retain", KIND_NUMBER_MIN, 0, FIELD(time2retain_s), 0, 3600, 0}, /* 13.16 */
	{"MaxOutstandingR2T", KIND_NUMBER_MIN, NORMAL_ONLY, FIELD(max_outstanding_r2t), 1, 65535,
	 1},                                                                         /* 13.17 */
	{"DataPDUInOrder", KIND_OR, NORMAL_ONLY, FIELD(data_pdu_in_order), 0, 0, 1}, /* 13.18 */
	{"DataSequenceInOrder", KIND_OR, NORMAL_ONLY, FIELD(data_sequence_in_order), 0, 0,
	 1}, /* 13.19 */
	{"ErrorRecoveryLevel", KIND_NUMBER_MIN, 0, FIELD(error_recovery_level), 0, 2,
	 0},                                                             /* 13.20 */
	{"TaskReporting", KIND_TASK_REPORTING, NORMAL_ONLY, 0, 0, 0, 0}, /* 13.23 */
	{"iSCSIProtocolLevel", KIND_NUMBER_MIN, NORMAL_ONLY, FIELD(protocol_level), 0, 31,
	 1}, /* 13.24 */
	{"OFMarker", KIND_OBSOLETE_BOOL, 0, 0, 0, 0, 0},
	{"IFMarker", KIND_OBSOLETE_BOOL, 0, 0, 0, 0, 0},
	{"OFMarkInt", KIND_OBSOLETE_OTHER, 0, 0, 0, 0, 0},
	{"IFMarkInt", KIND_OBSOLETE_OTHER, 0, 0, 0, 0, 0},
};
_Static_assert(ARRAY_SIZE(rows) <= 64, "struct iscsi_params.seen has 64 bits");

void iscsi_params_init(struct iscsi_params *params)
{
	*params = (struct iscsi_params){
		.max_recv = ISCSI_DEFAULT_RECV_BYTES,
		.max_send = ISCSI_DEFAULT_RECV_BYTES,
		.max_burst = 262144,
		.first_burst = 65536,
		.max_outstanding_r2t = 1,
		.max_connections = 1,
		.time2wait_s = 2,
		.time2retain_s = 20,
		.protocol_level = 1,
		.initial_r2t = true,
		.immediate_data = true,
		.data_pdu_in_order = true,
		.data_sequence_in_order = true,
	};
}

static uint32_t *number_field(struct iscsi_params *params, const struct row *row)
{
	return (uint32_t *)((char *)params + row->offset);
}

static bool *bool_field(struct iscsi_params *params, const struct row *row)
{
	return (bool *)((char *)params + row->offset);
}

static int negotiate_number(struct iscsi_params *params, const struct row *row, const char *value,
			    struct iscsi_text_writer *writer)
{
	uint64_t number;
	uint32_t *field = number_field(params, row);

	if (iscsi_text_parse_number(value, row->max, &number) < 0 || number < row->min)
		return -EINVAL;
	if (row->kind == KIND_NUMBER_MIN)
		*field = MIN((uint32_t)number, row->ours);
	else if (row->kind == KIND_NUMBER_MAX)
		*field = MAX((uint32_t)number, row->ours);
	else
		*field = (uint32_t)number;
	if (row->kind != KIND_DECLARED)
		iscsi_text_put_number(writer, row->key, *field);
	return 0;
}

static int negotiate_bool(struct iscsi_params *params, const struct row *row, const char *value,
			  struct iscsi_text_writer *writer)
{
	bool theirs, *field = bool_field(params, row);

	if (iscsi_text_parse_bool(value, &theirs) < 0)
		return -EINVAL;
	*field = row->kind == KIND_AND ? theirs && row->ours : theirs || row->ours;
	iscsi_text_put(writer, row->key, *field ? "Yes" : "No");
	return 0;
}

static int negotiate_digest(struct iscsi_params *params, const struct row *row, const char *value,
			    struct iscsi_text_writer *writer)
{
	bool *field = bool_field(params, row);

	while (*value) {
		size_t length = strcspn(value, ",");
		bool crc = length == 6 && memcmp(value, "CRC32C", 6) == 0;

		if (crc || (length == 4 && memcmp(value, "None", 4) == 0)) {
			*field = crc;
			iscsi_text_put(writer, row->key, crc ? "CRC32C" : "None");
			return 0;
		}
		value += length;
		value += *value == ',';
	}
	return -EINVAL;
}

static int negotiate_row(struct iscsi_params *params, const struct row *row, const char *value,
			 struct iscsi_text_writer *writer)
{
	switch (row->kind) {
	case KIND_NUMBER_MIN:
	case KIND_NUMBER_MAX:
	case KIND_DECLARED:
		return negotiate_number(params, row, value, writer);
	case KIND_AND:
	case KIND_OR:
		return negotiate_bool(params, row, value, writer);
	case KIND_DIGEST:
		return negotiate_digest(params, row, value, writer);
	case KIND_TASK_REPORTING:
		if (!iscsi_text_list_has(value, "RFC3720"))
			return -EINVAL;
		iscsi_text_put(writer, row->key, "RFC3720");
		return 0;
	case KIND_OBSOLETE_BOOL:
		iscsi_text_put(writer, row->key, "No");
		return 0;
	case KIND_OBSOLETE_OTHER:
		iscsi_text_put(writer, row->key, "Reject");
		return 0;
	}
	return -EINVAL;
}

static bool may_negotiate(struct iscsi_params *params, const struct row *row,
			  enum iscsi_params_context context)
{
	uint64_t bit = UINT64_C(1) << (row - rows);

	if (context == ISCSI_PARAMS_FULL_FEATURE)
		return row->flags & FULL_FEATURE;
	if (params->seen & bit)
		return false;
	params->seen |= bit;
	return true;
}

int iscsi_params_negotiate(struct iscsi_params *params, enum iscsi_params_context context,
			   const struct iscsi_text_pair *pair, struct iscsi_text_writer *writer)
{
	const struct row *row = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(rows) && !row; i++) {
		if (strcmp(rows[i].key, pair->key) == 0)
			row = &rows[i];
	}
	if (!row)
		return -ENOENT;
	if (may_negotiate(params, row, context)) {
		if (context == ISCSI_PARAMS_LOGIN_DISCOVERY && (row->flags & NORMAL_ONLY)) {
			iscsi_text_put(writer, row->key, "Irrelevant");
			return 0;
		}
		if (negotiate_row(params, row, pair->value, writer) == 0)
			return 0;
	}
	iscsi_text_put(writer, row->key, "Reject");
	return -EINVAL;
}

void iscsi_params_declare(struct iscsi_params *params, struct iscsi_text_writer *writer)
{
	params->max_recv = ISCSI_RECV_BYTES;
	iscsi_text_put_number(writer, "MaxRecvDataSegmentLength", ISCSI_RECV_BYTES);
}
