/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INQUIRY (SPC-4 6.6) and its vital product data pages (SPC-4 7.8, SBC-3 6.5).
 *
 * Identifiers follow from the node's identity and the unit's serial alone, so they stay for as long
 * as those do: changing their form would make every initiator see another disk. An initiator takes
 * units with the same identifier for paths to one disk, so no two nodes may ever give the same.
 */
#include "frontend/iscsi/scsi/handlers.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/macros.h"

#define VENDOR   "SARSEN  "
#define REVISION "0001"

#define NO_UNIT 0x7f /* qualifier 3, device type 1Fh: a unit cannot be there (SPC-4 6.6.2) */

enum {
	PAGE_SUPPORTED = 0x00,
	PAGE_SERIAL = 0x80,
	PAGE_IDENTIFICATION = 0x83,
	PAGE_COPY = 0x8f,
	PAGE_LIMITS = 0xb0,
	PAGE_CHARACTERISTICS = 0xb1,
	PAGE_PROVISIONING = 0xb2
};

/* Copies text into a field padded with spaces. */
static void put_text(uint8_t *field, size_t size, const char *text)
{
	size_t length = MIN(strlen(text), size);

	memcpy(field, text, length);
	memset(field + length, ' ', size - length);
}

static size_t fill_standard(struct scsi_command *command, uint8_t *buffer)
{
	static const uint16_t versions[] = {
		0x00a0, /* SAM-5 */
		0x0960, /* iSCSI */
		0x0460, /* SPC-4 */
		0x04c0, /* SBC-3 */
	};

	buffer[0] = command->unit ? 0 : NO_UNIT;
	buffer[1] = command->unit && command->unit->removable ? 0x80 : 0; /* RMB */
	buffer[2] = 0x06;                                                 /* SPC-4 */
	buffer[3] = 0x12; /* HISUP, response data format 2 */
	buffer[4] = 96 - 5;
	buffer[5] = 0x18; /* TPGS: implicit asymmetric access; 3PC */
	buffer[7] = 0x02; /* CMDQUE */
	put_text(buffer + 8, 8, VENDOR);
	put_text(buffer + 16, SCSI_PRODUCT_BYTES, command->unit ? command->unit->product : "");
	put_text(buffer + 32, 4, REVISION);
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
		put_be16(buffer + 58 + 2 * i, versions[i]);
	return 96;
}

static size_t fill_supported(const struct scsi_command *command, uint8_t *page)
{
	size_t count = 0;

	page[count++] = PAGE_SUPPORTED;
	page[count++] = PAGE_SERIAL;
	page[count++] = PAGE_IDENTIFICATION;
	page[count++] = PAGE_COPY;
	page[count++] = PAGE_LIMITS;
	page[count++] = PAGE_CHARACTERISTICS;
	page[count++] = PAGE_PROVISIONING;
	return count;
}

#define SERIAL_BYTES 32

static size_t put_serial(uint8_t *at, const struct scsi_unit *unit)
{
	char text[SERIAL_BYTES + 1];

	snprintf(text, sizeof(text), "%016" PRIx64 "%016" PRIx64, unit->identity, unit->serial);
	memcpy(at, text, SERIAL_BYTES);
	return SERIAL_BYTES;
}

static size_t fill_serial(const struct scsi_command *command, uint8_t *page)
{
	return put_serial(page, command->unit);
}

/* One designation descriptor (SPC-4 7.8.6.1): code set, association and type, then the designator.
 */
static size_t put_designator(uint8_t *at, uint8_t code_set, uint8_t type, size_t length)
{
	at[0] = code_set; /* and protocol 5, iSCSI, where the association is a port or the target */
	at[1] = type;
	at[3] = (uint8_t)length;
	return 4 + length;
}

#define ASSOCIATION_UNIT   0x00
#define ASSOCIATION_PORT   0x10
#define ASSOCIATION_TARGET 0x20
#define PIV                0x80 /* the protocol identifier is valid */
#define PROTOCOL_ISCSI     0x50

static size_t put_name_string(uint8_t *at, uint8_t association, const char *name)
{
	/* UTF-8, ends with a NUL, padded to a multiple of four (SPC-4 7.8.6.11). */
	size_t length = ALIGN_UP(strlen(name) + 1, (size_t)4);

	memset(at + 4, 0, length);
	memcpy(at + 4, name, strlen(name));
	return put_designator(at, PROTOCOL_ISCSI | 3, PIV | association | 8, length);
}

static size_t fill_identification(const struct scsi_command *command, uint8_t *page)
{
	char port[SCSI_NAME_BYTES + 16];
	uint8_t *at = page;

	put_be64(at + 4, scsi_unit_naa(command->unit));
	at += put_designator(at, 1, ASSOCIATION_UNIT | 3, 8);
	/* T10 vendor identification with all of the serial. */
	put_text(at + 4, 8, VENDOR);
	(void)put_serial(at + 12, command->unit);
	at += put_designator(at, 2, ASSOCIATION_UNIT | 1, 8 + SERIAL_BYTES);
	put_be32(at + 4, 1); /* relative target port */
	at += put_designator(at, PROTOCOL_ISCSI | 1, PIV | ASSOCIATION_PORT | 4, 4);
	put_be32(at + 4, 1); /* target port group */
	at += put_designator(at, PROTOCOL_ISCSI | 1, PIV | ASSOCIATION_PORT | 5, 4);
	snprintf(port, sizeof(port), "%s,t,0x0001", command->target->name);
	at += put_name_string(at, ASSOCIATION_PORT, port);
	at += put_name_string(at, ASSOCIATION_TARGET, command->target->name);
	return (size_t)(at - page);
}

#define COPY_COMMANDS    0x0001
#define COPY_PARAMETERS  0x0004
#define COPY_DESCRIPTORS 0x0008
#define COPY_GENERAL     0x8001

/* One third-party copy descriptor: `length` bytes follow its head. */
static uint8_t *put_copy_descriptor(uint8_t *at, uint16_t type, uint16_t length)
{
	put_be16(at, type);
	put_be16(at + 2, length);
	return at + 4 + length;
}

/* SPC-4 7.8.17, with its descriptors in order of their types. */
static size_t fill_copy(const struct scsi_command *command, uint8_t *page)
{
	static const uint8_t commands[] = {0x83, 2, 0x00, 0x01, 0x84, 3, 0x00, 0x03, 0x05};
	static const uint8_t types[] = {SCSI_COPY_BLOCKS, SCSI_COPY_BYTES, SCSI_COPY_CSCD_IDENT};
	uint8_t *at = page, *next;

	(void)command;
	next = put_copy_descriptor(at, COPY_COMMANDS, ALIGN_UP(1 + sizeof(commands), 4));
	at[4] = sizeof(commands);
	memcpy(at + 5, commands, sizeof(commands));
	at = next;
	next = put_copy_descriptor(at, COPY_PARAMETERS, 0x1c);
	put_be16(at + 8, SCSI_COPY_CSCDS_MAX);
	put_be16(at + 10, SCSI_COPY_SEGMENTS_MAX);
	put_be32(at + 12, SCSI_COPY_LIST_MAX);
	at = next;
	next = put_copy_descriptor(at, COPY_DESCRIPTORS, ALIGN_UP(1 + sizeof(types), 4));
	at[4] = sizeof(types);
	memcpy(at + 5, types, sizeof(types));
	at = next;
	next = put_copy_descriptor(at, COPY_GENERAL, 0x20);
	put_be32(at + 4, UINT16_MAX);
	put_be32(at + 8, UINT8_MAX);
	put_be32(at + 12, SCSI_COPY_SEGMENT_MAX);
	at[16] = SCSI_COPY_GRANULARITY;
	return (size_t)(next - page);
}

/* SBC-3 6.5.3. Offsets count from byte 4 of the page. */
static size_t fill_limits(const struct scsi_command *command, uint8_t *page)
{
	const struct scsi_unit *unit = command->unit;
	uint32_t block_bytes = unit->volume->block_bytes;
	uint32_t granularity = MAX(unit->volume->physical_block_bytes, block_bytes) / block_bytes;

	page[0] = 0x01; /* WSNZ */
	page[1] = (uint8_t)scsi_atomic_max_blocks(unit);
	put_be16(page + 2, (uint16_t)granularity);
	put_be32(page + 4, SCSI_TRANSFER_BLOCKS);
	put_be32(page + 8, SCSI_SEGMENT_BYTES / block_bytes);
	if (unit->thin) {
		put_be32(page + 16, UINT32_MAX); /* no limit of blocks of one UNMAP */
		put_be32(page + 20, (SCSI_SMALL_BYTES - 8) / 16);
		put_be32(page + 24, granularity);
		put_be32(page + 28, UINT32_C(1) << 31); /* UGAVALID, alignment 0 */
	}
	put_be64(page + 32, SCSI_SAME_MAX_BYTES / block_bytes);
	if (scsi_transfer_max_atomic(unit) > 0) {
		put_be32(page + 40, scsi_transfer_max_atomic(unit) / block_bytes);
		put_be32(page + 44, granularity); /* alignment */
		put_be32(page + 48, granularity);
	}
	return 0x3c;
}

/* SBC-3 6.5.2: not rotating, no nominal form. */
static size_t fill_characteristics(const struct scsi_command *command, uint8_t *page)
{
	put_be16(page, 1);
	page[4] =
		0x02; /* FUAB: FUA writes are durable, SYNCHRONIZE CACHE covers what came before */
	return 0x3c;
}

/* SBC-3 6.5.4 */
static size_t fill_provisioning(const struct scsi_command *command, uint8_t *page)
{
	if (command->unit->thin) {
		if (scsi_unit_has_thresholds(command->unit)) /* log2 of the blocks of a set */
			page[0] = (uint8_t)(SCSI_SPACE_SET_BITS -
					    __builtin_ctz(command->unit->volume->block_bytes));
		page[1] = 0x80 | 0x40 | 0x20 | 0x04; /* LBPU, LBPWS, LBPWS10, LBPRZ */
		page[2] = 0x02;                      /* thin */
	}
	return 4;
}

static const struct {
	uint8_t code;
	size_t (*fill)(const struct scsi_command *command, uint8_t *page);
} pages[] = {
	{PAGE_SUPPORTED, fill_supported},
	{PAGE_SERIAL, fill_serial},
	{PAGE_IDENTIFICATION, fill_identification},
	{PAGE_COPY, fill_copy},
	{PAGE_LIMITS, fill_limits},
	{PAGE_CHARACTERISTICS, fill_characteristics},
	{PAGE_PROVISIONING, fill_provisioning},
};

static size_t fill_page(struct scsi_command *command, uint8_t *buffer)
{
	uint8_t code = command->cdb[2];

	for (size_t i = 0; i < ARRAY_SIZE(pages) && command->unit; i++) {
		size_t length;

		if (pages[i].code != code)
			continue;
		buffer[1] = code;
		length = pages[i].fill(command, buffer + 4);
		put_be16(buffer + 2, (uint16_t)length);
		return 4 + length;
	}
	scsi_invalid_field(command, 2);
	return 0;
}

void scsi_inquiry(struct scsi_command *command)
{
	bool evpd = command->cdb[1] & 0x01;
	uint16_t allocation = get_be16(command->cdb + 3);

	if ((command->cdb[1] & 0xfe) || (!evpd && command->cdb[2] != 0)) {
		scsi_invalid_field(command, command->cdb[1] & 0xfe ? 1 : 2);
		return;
	}
	scsi_start_answer(command, allocation, evpd ? fill_page : fill_standard);
}
