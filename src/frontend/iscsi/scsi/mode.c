/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MODE SENSE and MODE SELECT (SPC-4 6.11 to 6.14, 7.5; SBC-3 6.4). Three bits can be changed: WCE
 * of the caching page, D_SENSE and SWP of the control page. Nothing can be saved.
 */
#include "frontend/iscsi/scsi/handlers.h"

#include "base/macros.h"

#define CDB_DBD     0x08
#define CDB_LLBAA   0x10
#define CDB_PF      0x10
#define CDB_SP      0x01
#define PAGE_ALL    0x3f
#define SUBPAGE_ALL 0xff

#define DEVICE_WRITE_PROTECT 0x80
#define DEVICE_DPOFUA        0x10

enum control { CONTROL_CURRENT, CONTROL_CHANGEABLE, CONTROL_DEFAULT, CONTROL_SAVED };

#define CACHING_WCE     0x04 /* byte 2 */
#define CONTROL_D_SENSE 0x04 /* byte 2 */
#define CONTROL_SWP     0x08 /* byte 4 */

/* Read-write error recovery, SBC-3 6.4.8. */
static size_t fill_recovery(const struct scsi_unit *unit, enum control control, uint8_t *page)
{
	if (control != CONTROL_CHANGEABLE)
		page[2] = 0xc0; /* AWRE, ARRE */
	return 12;
}

/* SBC-3 6.4.5 */
static size_t fill_caching(const struct scsi_unit *unit, enum control control, uint8_t *page)
{
	if (control == CONTROL_CHANGEABLE || control == CONTROL_DEFAULT || unit->write_cache)
		page[2] = CACHING_WCE;
	return 20;
}

/* SPC-4 7.5.8 */
static size_t fill_control(const struct scsi_unit *unit, enum control control, uint8_t *page)
{
	if (control == CONTROL_CHANGEABLE) {
		page[2] = CONTROL_D_SENSE;
		page[4] = CONTROL_SWP;
		return 12;
	}
	page[3] = 0x10; /* commands may be reordered */
	if (control == CONTROL_CURRENT) {
		page[2] = unit->descriptor_sense ? CONTROL_D_SENSE : 0;
		page[4] = unit->software_write_protect ? CONTROL_SWP : 0;
	}
	put_be16(page + 8, 0xffff); /* busy timeout: no limit */
	return 12;
}

/* Informational exceptions, SPC-4 7.5.11: none are reported. */
static size_t fill_exceptions(const struct scsi_unit *unit, enum control control, uint8_t *page)
{
	if (control != CONTROL_CHANGEABLE)
		page[2] = 0x08; /* DEXCPT */
	return 12;
}

#define PROVISIONING_BYTES (SCSI_SPACE_DESCRIPTOR_AT + 8)

/* SBC-3 6.4.6: logical block provisioning, a subpage. SITUA is 0: all nexuses hear. One descriptor:
 * a soft threshold (type 0) of what is available, armed while it falls (arming 0). Empty while
 * nothing is known. */
static size_t fill_provisioning(const struct scsi_unit *unit, enum control control, uint8_t *page)
{
	uint64_t threshold = unit->space_total / 100 * SCSI_SPACE_PERCENT;

	if (!scsi_unit_has_thresholds(unit))
		return 0;
	if (control != CONTROL_CHANGEABLE) {
		uint8_t *descriptor = page + SCSI_SPACE_DESCRIPTOR_AT;

		descriptor[0] = 0x80; /* ENABLED */
		descriptor[1] = 0x01; /* available LBA mapping resources */
		put_be32(descriptor + 4, scsi_unit_space_sets(threshold));
	}
	return PROVISIONING_BYTES;
}

static void set_caching(struct scsi_unit *unit, const uint8_t *page)
{
	unit->write_cache = page[2] & CACHING_WCE;
}

static void set_control(struct scsi_unit *unit, const uint8_t *page)
{
	unit->descriptor_sense = page[2] & CONTROL_D_SENSE;
	unit->software_write_protect = page[4] & CONTROL_SWP;
}

#define MODE_PAGE_MAX PROVISIONING_BYTES

static const struct mode_page {
	uint8_t code, subpage;
	size_t (*fill)(const struct scsi_unit *unit, enum control control, uint8_t *page);
	void (*set)(struct scsi_unit *unit, const uint8_t *page); /* NULL: nothing changeable */
} pages[] = {
	{0x01, 0, fill_recovery, NULL},       {0x08, 0, fill_caching, set_caching},
	{0x0a, 0, fill_control, set_control}, {0x1c, 0, fill_exceptions, NULL},
	{0x1c, 2, fill_provisioning, NULL},
};

#define SUBPAGE_FORMAT 0x40 /* SPF: four bytes of header, not two (SPC-4 7.5.7) */

static size_t put_page(const struct mode_page *page, const struct scsi_unit *unit,
		       enum control control, uint8_t *at)
{
	size_t length = page->fill(unit, control, at);

	if (length == 0)
		return 0;
	at[0] = page->code;
	if (page->subpage == 0) {
		at[1] = (uint8_t)(length - 2);
		return length;
	}
	at[0] |= SUBPAGE_FORMAT;
	at[1] = page->subpage;
	put_be16(at + 2, (uint16_t)(length - 4));
	return length;
}

/* The block descriptor: short, or long for LLBAA (SPC-4 7.5.6, SBC-3 6.4.2). */
static size_t put_descriptor(const struct scsi_unit *unit, bool is_long, uint8_t *at)
{
	uint64_t blocks = scsi_unit_blocks(unit);

	if (is_long) {
		put_be64(at, blocks);
		put_be32(at + 12, unit->volume->block_bytes);
		return 16;
	}
	put_be32(at, blocks > UINT32_MAX ? UINT32_MAX : (uint32_t)blocks);
	put_be24(at + 5, unit->volume->block_bytes);
	return 8;
}

static size_t put_pages(struct scsi_command *command, uint8_t *at)
{
	uint8_t wanted = command->cdb[2] & 0x3f, subpage = command->cdb[3];
	enum control control = (enum control)(command->cdb[2] >> 6);
	size_t length = 0;

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		if ((wanted == PAGE_ALL || pages[i].code == wanted) &&
		    (subpage == SUBPAGE_ALL || pages[i].subpage == subpage))
			length += put_page(&pages[i], command->unit, control, at + length);
	}
	return length;
}

static size_t fill_sense(struct scsi_command *command, uint8_t *buffer)
{
	bool is10 = command->opcode->length == 10;
	size_t header = is10 ? 8 : 4, descriptor = 0, length;
	uint8_t device = DEVICE_DPOFUA;

	if (scsi_unit_is_write_protected(command->unit))
		device |= DEVICE_WRITE_PROTECT;
	if (!(command->cdb[1] & CDB_DBD)) {
		bool is_long = is10 && (command->cdb[1] & CDB_LLBAA);

		descriptor = put_descriptor(command->unit, is_long, buffer + header);
	}
	length = put_pages(command, buffer + header + descriptor);
	if (length == 0) {
		scsi_invalid_field(command, command->cdb[3] ? 3 : 2);
		return 0;
	}
	length += header + descriptor;
	if (is10) {
		put_be16(buffer, (uint16_t)(length - 2));
		buffer[3] = device;
		buffer[4] = descriptor == 16; /* LONGLBA */
		put_be16(buffer + 6, (uint16_t)descriptor);
	} else {
		buffer[0] = (uint8_t)(length - 1);
		buffer[2] = device;
		buffer[3] = (uint8_t)descriptor;
	}
	return length;
}

void scsi_mode_sense(struct scsi_command *command)
{
	const uint8_t *cdb = command->cdb;
	uint8_t subpage = cdb[3];

	if (cdb[2] >> 6 == CONTROL_SAVED) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_SAVING_NOT_SUPPORTED);
		return;
	}
	/* Subpages of all pages, or a certain one of a certain page; an unknown one is noticed
	 * later. */
	if (subpage != 0 && subpage != SUBPAGE_ALL && (cdb[2] & 0x3f) == PAGE_ALL) {
		scsi_invalid_field(command, 3);
		return;
	}
	scsi_start_answer(command, command->opcode->length == 10 ? get_be16(cdb + 7) : cdb[4],
			  fill_sense);
}

static size_t sent_length(const uint8_t *sent)
{
	return sent[0] & SUBPAGE_FORMAT ? 4 + (size_t)get_be16(sent + 2) : 2 + (size_t)sent[1];
}

/* A page may differ from the current one in its changeable bits only. */
static bool page_is_valid(const struct scsi_unit *unit, const struct mode_page *page,
			  const uint8_t *sent, size_t left)
{
	uint8_t current[MODE_PAGE_MAX] = {0}, mask[MODE_PAGE_MAX] = {0};
	size_t length = put_page(page, unit, CONTROL_CURRENT, current);

	(void)page->fill(unit, CONTROL_CHANGEABLE, mask);
	if (length == 0 || left < length || sent_length(sent) != length)
		return false;
	for (size_t i = page->subpage ? 4 : 2; i < length; i++) {
		if ((sent[i] ^ current[i]) & ~mask[i])
			return false;
	}
	return true;
}

/* PS is reserved here. */
static const struct mode_page *find_page(const uint8_t *sent)
{
	uint8_t subpage = sent[0] & SUBPAGE_FORMAT ? sent[1] : 0;

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		if (pages[i].code == (sent[0] & 0x3f) && pages[i].subpage == subpage &&
		    (subpage != 0) == ((sent[0] & SUBPAGE_FORMAT) != 0))
			return &pages[i];
	}
	return NULL;
}

/* Walks over the pages; `apply` is false in the first pass, which only checks. */
static bool walk_pages(struct scsi_command *command, size_t at, bool apply)
{
	const uint8_t *list = command->buffer;
	size_t length = (size_t)command->out_bytes;

	while (at + 2 <= length) {
		const struct mode_page *page = find_page(list + at);

		if (!page || (page->subpage && at + 4 > length) ||
		    !page_is_valid(command->unit, page, list + at, length - at)) {
			scsi_invalid_list_field(command, (unsigned)at);
			return false;
		}
		if (apply && page->set)
			page->set(command->unit, list + at);
		at += sent_length(list + at);
	}
	if (at != length) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
		return false;
	}
	return true;
}

static enum scsi_step select_parse(struct scsi_command *command)
{
	bool is10 = command->opcode->length == 10;
	size_t header = is10 ? 8 : 4, descriptor;

	if (command->out_bytes < header) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
		return SCSI_STEP_DONE;
	}
	descriptor = is10 ? get_be16(command->buffer + 6) : command->buffer[3];
	/* A descriptor's values are those of the medium; changing them is not offered. */
	if (descriptor != 0 && descriptor != 8 && !(is10 && descriptor == 16)) {
		scsi_invalid_list_field(command, is10 ? 6 : 3);
		return SCSI_STEP_DONE;
	}
	if (header + descriptor > command->out_bytes) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
		return SCSI_STEP_DONE;
	}
	if (walk_pages(command, header + descriptor, false)) {
		(void)walk_pages(command, header + descriptor, true);
		scsi_unit_attention(command->unit, SCSI_ATTENTION_MODE_CHANGED, command->nexus);
	}
	return scsi_done(command);
}

void scsi_mode_select(struct scsi_command *command)
{
	const uint8_t *cdb = command->cdb;

	if (!(cdb[1] & CDB_PF) || (cdb[1] & CDB_SP)) {
		scsi_invalid_field(command, 1);
		return;
	}
	scsi_start_list(command, command->opcode->length == 10 ? get_be16(cdb + 7) : cdb[4],
			select_parse);
}
