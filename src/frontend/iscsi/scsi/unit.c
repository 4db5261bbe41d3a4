/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/scsi/unit.h"

#include <string.h>

static const uint16_t attention_asc[SCSI_ATTENTION_COUNT] = {
	[SCSI_ATTENTION_POWER_ON] = SCSI_ASC_POWER_ON,
	[SCSI_ATTENTION_RESET] = SCSI_ASC_LU_RESET,
	[SCSI_ATTENTION_LUNS_CHANGED] = SCSI_ASC_LUNS_CHANGED,
	[SCSI_ATTENTION_MEDIUM_CHANGED] = SCSI_ASC_MEDIUM_CHANGED,
	[SCSI_ATTENTION_CAPACITY_CHANGED] = SCSI_ASC_CAPACITY_CHANGED,
	[SCSI_ATTENTION_COMMANDS_CLEARED] = SCSI_ASC_COMMANDS_CLEARED,
	[SCSI_ATTENTION_MODE_CHANGED] = SCSI_ASC_MODE_CHANGED,
	[SCSI_ATTENTION_SPACE_LOW] = SCSI_ASC_SOFT_THRESHOLD,
	[SCSI_ATTENTION_RESERVATIONS_PREEMPTED] = SCSI_ASC_RESERVATIONS_PREEMPTED,
	[SCSI_ATTENTION_RESERVATIONS_RELEASED] = SCSI_ASC_RESERVATIONS_RELEASED,
	[SCSI_ATTENTION_REGISTRATIONS_PREEMPTED] = SCSI_ASC_REGISTRATIONS_PREEMPTED,
};

static void set_default_mode(struct scsi_unit *unit)
{
	unit->software_write_protect = false;
	unit->descriptor_sense = false;
	unit->write_cache = true;
}

void scsi_unit_init(struct scsi_unit *unit, struct block_volume *volume, uint16_t lun,
		    uint64_t serial, const char *product)
{
	*unit = (struct scsi_unit){.volume = volume, .serial = serial, .lun = lun};
	strncpy(unit->product, product ? product : "", SCSI_PRODUCT_BYTES);
	/* SPC-4 4.4.1: ASCII graphic characters and spaces only. */
	for (char *c = unit->product; *c; c++) {
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	}
	set_default_mode(unit);
	list_init(&unit->nexuses);
}

bool scsi_unit_is_write_protected(const struct scsi_unit *unit)
{
	return unit->read_only || unit->volume->read_only || unit->software_write_protect;
}

/* Once for each time that it becomes scarce; what moves about the threshold tells nothing new. */
void scsi_unit_set_space(struct scsi_unit *unit, uint64_t available, uint64_t total)
{
	uint64_t threshold = total / 100 * SCSI_SPACE_PERCENT;

	/* SBC-4: so the logical block provisioning mode page wants it. */
	if (unit->thin && unit->space_total != total)
		scsi_unit_attention(unit, SCSI_ATTENTION_MODE_CHANGED, NULL);
	unit->space_available = available;
	unit->space_total = total;
	if (!scsi_unit_has_thresholds(unit))
		return;
	if (available > threshold + threshold / 2)
		unit->space_low = false;
	if (available > threshold || unit->space_low)
		return;
	unit->space_low = true;
	scsi_unit_attention(unit, SCSI_ATTENTION_SPACE_LOW, NULL);
}

void scsi_unit_attention(struct scsi_unit *unit, enum scsi_attention attention,
			 const struct scsi_nexus *except)
{
	struct scsi_nexus *nexus;

	LIST_FOR_EACH (&unit->nexuses, nexus, struct scsi_nexus, link) {
		if (nexus != except)
			scsi_nexus_attention(nexus, attention);
	}
}

void scsi_unit_reset(struct scsi_unit *unit, const struct scsi_nexus *except)
{
	struct scsi_nexus *nexus;

	set_default_mode(unit);
	unit->reserved_by = NULL;
	LIST_FOR_EACH (&unit->nexuses, nexus, struct scsi_nexus, link)
		nexus->prevents_removal = false;
	scsi_unit_attention(unit, SCSI_ATTENTION_RESET, except);
}

void scsi_nexus_init(struct scsi_nexus *nexus, struct scsi_unit *unit, const char *port)
{
	*nexus = (struct scsi_nexus){.unit = unit, .port = port};
	list_push_back(&unit->nexuses, &nexus->link);
	nexus->registration = scsi_persist_find(&unit->persist, port);
	if (nexus->registration)
		nexus->registration->nexus = nexus;
	scsi_nexus_attention(nexus, SCSI_ATTENTION_POWER_ON);
	if (unit->space_low)
		scsi_nexus_attention(nexus, SCSI_ATTENTION_SPACE_LOW);
}

void scsi_nexus_done(struct scsi_nexus *nexus)
{
	if (nexus->unit->reserved_by == nexus)
		nexus->unit->reserved_by = NULL;
	if (nexus->registration)
		nexus->registration->nexus = NULL;
	list_remove(&nexus->link);
}

void scsi_nexus_attention(struct scsi_nexus *nexus, enum scsi_attention attention)
{
	nexus->attentions |= 1u << attention;
}

bool scsi_nexus_take_attention(struct scsi_nexus *nexus, struct scsi_sense *ret_sense)
{
	unsigned attention;

	if (nexus->attentions == 0)
		return false;
	attention = (unsigned)__builtin_ctz(nexus->attentions);
	nexus->attentions &= ~(1u << attention);
	*ret_sense =
		(struct scsi_sense){.key = SCSI_UNIT_ATTENTION, .asc = attention_asc[attention]};
	if (attention == SCSI_ATTENTION_SPACE_LOW) { /* SBC-3 4.7.3.7.6: which threshold it was */
		ret_sense->information_valid = true;
		ret_sense->information = SCSI_SPACE_DESCRIPTOR_AT;
	}
	return true;
}
