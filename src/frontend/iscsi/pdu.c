/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/pdu.h"

#include <errno.h>
#include <string.h>

#define LUN_PERIPHERAL 0 /* SAM-5 4.7.7: address method in the two top bits */
#define LUN_FLAT       1

#define AHS_EXTENDED_CDB 1 /* RFC 7143 11.2.2.1 */
#define AHS_BIDI_LENGTH  2

int iscsi_pdu_get_lun(const uint8_t field[8])
{
	static const uint8_t zeros[6];
	uint8_t method = field[0] >> 6;

	if (memcmp(field + 2, zeros, sizeof(zeros)) != 0)
		return -EINVAL;
	if (method == LUN_PERIPHERAL && field[0] == 0)
		return field[1];
	if (method == LUN_FLAT)
		return get_be16(field) & 0x3fff;
	return -EINVAL;
}

void iscsi_pdu_put_lun(uint8_t field[8], uint16_t lun)
{
	memset(field, 0, 8);
	put_be16(field, lun < 256 ? lun : (uint16_t)(LUN_FLAT << 14 | lun));
}

/* What each request may have. */
struct rule {
	bool known, data, ahs, final;
};

static const struct rule rules[ISCSI_OP_SNACK + 1] = {
	[ISCSI_OP_NOP_OUT] = {.known = true, .data = true, .final = true},
	[ISCSI_OP_SCSI_COMMAND] = {.known = true, .data = true, .ahs = true},
	[ISCSI_OP_TASK_MANAGEMENT] = {.known = true, .final = true},
	[ISCSI_OP_LOGIN] = {.known = true, .data = true},
	[ISCSI_OP_TEXT] = {.known = true, .data = true},
	[ISCSI_OP_DATA_OUT] = {.known = true, .data = true},
	[ISCSI_OP_LOGOUT] = {.known = true, .final = true},
	[ISCSI_OP_SNACK] = {.known = true},
};

int iscsi_pdu_check(const struct iscsi_bhs *bhs)
{
	uint8_t opcode = iscsi_pdu_opcode(bhs);
	const struct rule *rule = &rules[opcode < ISCSI_OP_SNACK ? opcode : ISCSI_OP_SNACK];

	if (opcode > ISCSI_OP_SNACK || !rule->known)
		return ISCSI_REJECT_NOT_SUPPORTED;
	if (opcode == ISCSI_OP_SNACK)
		return ISCSI_REJECT_SNACK; /* error recovery level 0 has none (11.16) */
	if (!rule->ahs && bhs->ahs_words != 0)
		return ISCSI_REJECT_INVALID_FIELD;
	if (!rule->data && iscsi_pdu_data_length(bhs) != 0)
		return ISCSI_REJECT_INVALID_FIELD;
	if (rule->final && !(bhs->flags & ISCSI_FINAL_BIT))
		return ISCSI_REJECT_INVALID_FIELD;
	return 0;
}

static int copy_extended_cdb(const uint8_t *segment, uint32_t length, uint8_t *ret_cdb,
			     size_t cdb_size)
{
	/* length counts one reserved byte and the CDB's bytes after the first 16. */
	if (length < 2 || 16 + (length - 1) > cdb_size)
		return -EINVAL;
	memcpy(ret_cdb + 16, segment + 4, length - 1);
	return (int)(16 + length - 1);
}

int iscsi_pdu_get_cdb(const struct iscsi_scsi_command *command, const uint8_t *ahs,
		      uint8_t *ret_cdb, size_t cdb_size)
{
	uint32_t left = (uint32_t)command->ahs_words * 4;
	int cdb_length = 16;

	if (cdb_size < 16)
		return -EINVAL;
	memcpy(ret_cdb, command->cdb, 16);
	memset(ret_cdb + 16, 0, cdb_size - 16);
	while (left > 0) {
		uint32_t length = get_be16(ahs), bytes = (3 + length + 3) & ~3u;

		if (bytes > left)
			return -EINVAL;
		if (ahs[2] == AHS_EXTENDED_CDB)
			cdb_length = copy_extended_cdb(ahs, length, ret_cdb, cdb_size);
		else if (ahs[2] != AHS_BIDI_LENGTH)
			return -EINVAL;
		if (cdb_length < 0)
			return cdb_length;
		ahs += bytes;
		left -= bytes;
	}
	return cdb_length;
}
