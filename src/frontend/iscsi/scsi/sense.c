/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/scsi/sense.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/macros.h"

static const struct {
	int error;
	enum scsi_sense_key key;
	uint16_t read_asc, write_asc;
} errors[] = {
	{-EINVAL, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB,
	 SCSI_ASC_INVALID_FIELD_IN_CDB},
	{-ERANGE, SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE, SCSI_ASC_LBA_OUT_OF_RANGE},
	{-EBADMSG, SCSI_MEDIUM_ERROR, SCSI_ASC_READ_ERROR, SCSI_ASC_READ_ERROR},
	{-EUCLEAN, SCSI_MEDIUM_ERROR, SCSI_ASC_READ_ERROR, SCSI_ASC_WRITE_ERROR},
	{-EIO, SCSI_MEDIUM_ERROR, SCSI_ASC_READ_ERROR, SCSI_ASC_WRITE_ERROR},
	{-ENOSPC, SCSI_DATA_PROTECT, SCSI_ASC_SPACE_FAILED, SCSI_ASC_SPACE_FAILED},
	{-EILSEQ, SCSI_MISCOMPARE, SCSI_ASC_MISCOMPARE, SCSI_ASC_MISCOMPARE},
	{-EROFS, SCSI_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED, SCSI_ASC_WRITE_PROTECTED},
	{-EOPNOTSUPP, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE, SCSI_ASC_INVALID_OPCODE},
	/* The volume went elsewhere or is going down: the initiator is to try again or log in anew.
	 */
	{-ESTALE, SCSI_NOT_READY, SCSI_ASC_NOT_READY_INTERVENTION, SCSI_ASC_NOT_READY_INTERVENTION},
	{-ESHUTDOWN, SCSI_NOT_READY, SCSI_ASC_NOT_READY_INTERVENTION,
	 SCSI_ASC_NOT_READY_INTERVENTION},
};

enum scsi_status scsi_sense_from_errno(int error, bool is_write, uint64_t information,
				       struct scsi_sense *ret_sense)
{
	if (error == -ENOMEM || error == -EBUSY || error == -EAGAIN) {
		*ret_sense = (struct scsi_sense){0};
		return SCSI_BUSY;
	}
	/* -EREMOTEIO and whatever has no meaning of its own. */
	*ret_sense =
		(struct scsi_sense){.key = SCSI_HARDWARE_ERROR, .asc = SCSI_ASC_INTERNAL_FAILURE};
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		if (errors[i].error != error)
			continue;
		ret_sense->key = errors[i].key;
		ret_sense->asc = is_write ? errors[i].write_asc : errors[i].read_asc;
	}
	if (error == -EILSEQ) {
		ret_sense->information_valid = true;
		ret_sense->information = information;
	}
	return SCSI_CHECK_CONDITION;
}

static void put_field_pointer(const struct scsi_sense *sense, uint8_t *bytes)
{
	bytes[0] = (uint8_t)(0x80 | (sense->field_in_cdb ? 0x40 : 0)); /* SKSV, C/D */
	put_be16(bytes + 1, sense->field);
}

/* SPC-4 4.5.3. INFORMATION has 32 bits there: a larger value is left out. */
static size_t encode_fixed(const struct scsi_sense *sense, uint8_t *bytes)
{
	bytes[0] = 0x70;
	if (sense->information_valid && sense->information <= UINT32_MAX) {
		bytes[0] |= 0x80;
		put_be32(bytes + 3, (uint32_t)sense->information);
	}
	bytes[2] = sense->key;
	bytes[7] = 18 - 8;
	put_be16(bytes + 12, sense->asc);
	if (sense->field_valid)
		put_field_pointer(sense, bytes + 15);
	return 18;
}

/* SPC-4 4.5.2 */
static size_t encode_descriptor(const struct scsi_sense *sense, uint8_t *bytes)
{
	size_t length = 8;

	bytes[0] = 0x72;
	bytes[1] = sense->key;
	put_be16(bytes + 2, sense->asc);
	if (sense->information_valid) {
		bytes[length + 1] = 0x0a;
		bytes[length + 2] = 0x80;
		put_be64(bytes + length + 4, sense->information);
		length += 12;
	}
	if (sense->field_valid) {
		bytes[length] = 0x02;
		bytes[length + 1] = 0x06;
		put_field_pointer(sense, bytes + length + 4);
		length += 8;
	}
	bytes[7] = (uint8_t)(length - 8);
	return length;
}

size_t scsi_sense_encode(const struct scsi_sense *sense, bool descriptor, uint8_t *ret_bytes)
{
	memset(ret_bytes, 0, SCSI_SENSE_BYTES);
	return descriptor ? encode_descriptor(sense, ret_bytes) : encode_fixed(sense, ret_bytes);
}
