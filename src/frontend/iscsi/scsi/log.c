/* SPDX-License-Identifier: Apache-2.0 */
/* LOG SENSE (SPC-4 6.8, 7.3): the list of pages, logical block provisioning, and informational
 * exceptions, of which there are none. */
#include "frontend/iscsi/scsi/handlers.h"

#include "base/macros.h"

#define PAGE_SUPPORTED    0x00
#define PAGE_PROVISIONING 0x0c
#define PAGE_EXCEPTIONS   0x2f
#define SUBPAGE_ALL       0xff
#define SUBPAGE_BIT       0x40 /* SPF, in byte 0 of the page */
#define CDB_SP            0x01
#define HEADER_BYTES      4

static bool is_offered(const struct scsi_command *command, uint8_t code)
{
	return code == PAGE_SUPPORTED || code == PAGE_EXCEPTIONS ||
	       (code == PAGE_PROVISIONING && scsi_unit_has_thresholds(command->unit));
}

/* SPC-4 7.3.12 and its list with subpages, 7.3.18. */
static size_t fill_supported(const struct scsi_command *command, uint8_t *page)
{
	bool subpages = command->cdb[3] == SUBPAGE_ALL;
	static const uint8_t codes[][2] = {{PAGE_SUPPORTED, 0},
					   {PAGE_SUPPORTED, SUBPAGE_ALL},
					   {PAGE_PROVISIONING, 0},
					   {PAGE_EXCEPTIONS, 0}};
	size_t length = 0;

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		if ((!subpages && codes[i][1] != 0) || !is_offered(command, codes[i][0]))
			continue;
		page[length++] = codes[i][0];
		if (subpages)
			page[length++] = codes[i][1];
	}
	return length;
}

/* SPC-4 7.3.8: one parameter, general information: no sense, temperature unknown. */
static size_t fill_exceptions(uint8_t *page)
{
	page[2] = 0x03; /* binary, as SPC-4 wants for this one */
	page[3] = 4;
	page[6] = 0xff;
	return 8;
}

#define RESOURCE_BYTES 12

/* SBC-3 6.3.4: a resource count, in threshold sets, that is shared with other units. */
static size_t put_resource(uint8_t *at, uint16_t code, uint32_t sets)
{
	put_be16(at, code);
	at[2] = 0x03; /* binary */
	at[3] = RESOURCE_BYTES - 4;
	put_be32(at + 4, sets);
	at[8] = 0x02; /* not dedicated to this unit */
	return RESOURCE_BYTES;
}

static size_t fill_provisioning(const struct scsi_command *command, uint8_t *page)
{
	const struct scsi_unit *unit = command->unit;
	uint64_t used = unit->space_total - MIN(unit->space_available, unit->space_total);
	size_t length = put_resource(page, 1, scsi_unit_space_sets(unit->space_available));

	return length + put_resource(page + length, 2, scsi_unit_space_sets(used));
}

static size_t fill_page(struct scsi_command *command, uint8_t *buffer)
{
	uint8_t code = command->cdb[2] & 0x3f;
	size_t length;

	buffer[0] = code | (command->cdb[3] ? SUBPAGE_BIT : 0);
	buffer[1] = command->cdb[3];
	if (code == PAGE_SUPPORTED)
		length = fill_supported(command, buffer + HEADER_BYTES);
	else if (code == PAGE_PROVISIONING)
		length = fill_provisioning(command, buffer + HEADER_BYTES);
	else
		length = fill_exceptions(buffer + HEADER_BYTES);
	put_be16(buffer + 2, (uint16_t)length);
	return HEADER_BYTES + length;
}

void scsi_log_sense(struct scsi_command *command)
{
	const uint8_t *cdb = command->cdb;
	uint8_t code = cdb[2] & 0x3f;

	if (cdb[1] & CDB_SP) { /* nothing can be saved */
		scsi_invalid_field(command, 1);
	} else if (!is_offered(command, code)) {
		scsi_invalid_field(command, 2);
	} else if (cdb[3] != 0 && !(code == PAGE_SUPPORTED && cdb[3] == SUBPAGE_ALL)) {
		scsi_invalid_field(command, 3);
	} else if (get_be16(cdb + 5) > 0) { /* no parameter has a greater code */
		scsi_invalid_field(command, 5);
	} else {
		scsi_start_answer(command, get_be16(cdb + 7), fill_page);
	}
}
