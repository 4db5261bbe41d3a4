/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PERSISTENT RESERVE IN and OUT (SPC-4 6.15, 6.16).
 *
 * Invariants
 *  1. type is SCSI_RESERVED_NOT, or one of "all registrants" with count > 0 and no holder, or
 * another with a holder that is a used registration.
 *  2. A registration and the nexus of its port point at each other.
 */
#include "frontend/iscsi/scsi/persist.h"

#include "base/macros.h"
#include "frontend/iscsi/scsi/handlers.h"

#define LIST_BYTES        24
#define STATUS_BYTES_MAX  (SCSI_REGISTRATIONS_MAX * (24 + 4 + SCSI_PORT_BYTES) + 8)
#define FLAG_SPEC_I_PT    0x08
#define FLAG_APTPL        0x01
#define TRANSPORT_ID_PORT 0x45 /* iSCSI, initiator port format (SPC-4 7.6.4.6) */

enum action_in { IN_KEYS, IN_RESERVATION, IN_CAPABILITIES, IN_STATUS };
enum action_out {
	OUT_REGISTER,
	OUT_RESERVE,
	OUT_RELEASE,
	OUT_CLEAR,
	OUT_PREEMPT,
	OUT_PREEMPT_AND_ABORT,
	OUT_REGISTER_IGNORE,
};

static bool is_all(enum scsi_reservation type)
{
	return type == SCSI_WRITE_EXCLUSIVE_ALL || type == SCSI_EXCLUSIVE_ACCESS_ALL;
}

static bool is_registrants_only(enum scsi_reservation type)
{
	return type == SCSI_WRITE_EXCLUSIVE_REGISTRANTS ||
	       type == SCSI_EXCLUSIVE_ACCESS_REGISTRANTS;
}

static bool is_type(uint8_t type)
{
	return type == SCSI_WRITE_EXCLUSIVE || type == SCSI_EXCLUSIVE_ACCESS ||
	       (type >= SCSI_WRITE_EXCLUSIVE_REGISTRANTS && type <= SCSI_EXCLUSIVE_ACCESS_ALL);
}

static bool is_holder(const struct scsi_persist *persist,
		      const struct scsi_registration *registration)
{
	return registration && persist->type != SCSI_RESERVED_NOT &&
	       (is_all(persist->type) || registration == persist->holder);
}

bool scsi_persist_allows(const struct scsi_persist *persist,
			 const struct scsi_registration *registration, enum scsi_access access)
{
	enum scsi_reservation type = persist->type;

	if (type == SCSI_RESERVED_NOT || access == SCSI_ACCESS_NONE ||
	    is_holder(persist, registration))
		return true;
	if (registration && is_registrants_only(type))
		return true;
	return access == SCSI_ACCESS_READ &&
	       (type == SCSI_WRITE_EXCLUSIVE || type == SCSI_WRITE_EXCLUSIVE_REGISTRANTS ||
		type == SCSI_WRITE_EXCLUSIVE_ALL);
}

struct scsi_registration *scsi_persist_find(struct scsi_persist *persist, const char *port)
{
	for (unsigned i = 0; i < SCSI_REGISTRATIONS_MAX && persist->count > 0; i++) {
		struct scsi_registration *registration = &persist->registrations[i];

		if (registration->used && strcmp(registration->port, port) == 0)
			return registration;
	}
	return NULL;
}

/* --- IN --- */

static size_t fill_keys(struct scsi_command *command, uint8_t *buffer)
{
	const struct scsi_persist *persist = &command->unit->persist;
	size_t length = 8;

	put_be32(buffer, persist->generation);
	for (unsigned i = 0; i < SCSI_REGISTRATIONS_MAX; i++) {
		if (!persist->registrations[i].used)
			continue;
		put_be64(buffer + length, persist->registrations[i].key);
		length += 8;
	}
	put_be32(buffer + 4, (uint32_t)length - 8);
	return length;
}

static size_t fill_reservation(struct scsi_command *command, uint8_t *buffer)
{
	const struct scsi_persist *persist = &command->unit->persist;

	put_be32(buffer, persist->generation);
	if (persist->type == SCSI_RESERVED_NOT)
		return 8;
	put_be32(buffer + 4, 16);
	put_be64(buffer + 8, persist->holder ? persist->holder->key : 0);
	buffer[21] = persist->type;
	return 24;
}

static size_t fill_capabilities(struct scsi_command *command, uint8_t *buffer)
{
	put_be16(buffer, 8);
	buffer[2] = 0x04; /* ATP_C: there is one target port */
	if (command->unit->can_save)
		buffer[2] |= 0x01; /* PTPL_C */
	buffer[3] = 0x80;          /* TMV */
	if (command->unit->persist.aptpl)
		buffer[3] |= 0x01; /* PTPL_A */
	buffer[4] = 0xea;          /* all types */
	buffer[5] = 0x01;
	return 8;
}

/* One full status descriptor (SPC-4 6.15.5.2) with the port's TransportID. */
static size_t put_status(const struct scsi_persist *persist,
			 const struct scsi_registration *registration, uint8_t *at)
{
	size_t name = ALIGN_UP(strlen(registration->port) + 1, (size_t)4);

	put_be64(at, registration->key);
	if (is_holder(persist, registration)) {
		at[12] = 0x01;
		at[13] = persist->type;
	}
	put_be16(at + 18, 1); /* relative target port */
	put_be32(at + 20, (uint32_t)name + 4);
	at[24] = TRANSPORT_ID_PORT;
	put_be16(at + 26, (uint16_t)name);
	memcpy(at + 28, registration->port, strlen(registration->port));
	return 28 + name;
}

static size_t fill_status(struct scsi_command *command, uint8_t *buffer)
{
	const struct scsi_persist *persist = &command->unit->persist;
	size_t length = 8;

	put_be32(buffer, persist->generation);
	for (unsigned i = 0; i < SCSI_REGISTRATIONS_MAX; i++) {
		if (persist->registrations[i].used)
			length += put_status(persist, &persist->registrations[i], buffer + length);
	}
	put_be32(buffer + 4, (uint32_t)length - 8);
	return length;
}
_Static_assert(STATUS_BYTES_MAX <= SCSI_ANSWER_BYTES, "READ FULL STATUS fits one answer");

void scsi_persist_in(struct scsi_command *command)
{
	uint16_t allocation = get_be16(command->cdb + 7);

	switch ((enum action_in)command->opcode->service_action) {
	case IN_KEYS:
		scsi_start_answer(command, allocation, fill_keys);
		break;
	case IN_RESERVATION:
		scsi_start_answer(command, allocation, fill_reservation);
		break;
	case IN_CAPABILITIES:
		scsi_start_answer(command, allocation, fill_capabilities);
		break;
	case IN_STATUS:
		scsi_start_answer(command, allocation, fill_status);
		break;
	}
}

/* --- OUT --- */

static enum scsi_step conflict(struct scsi_command *command)
{
	command->status = SCSI_RESERVATION_CONFLICT;
	return scsi_done(command);
}

static void tell(struct scsi_registration *registration, enum scsi_attention attention)
{
	if (registration->nexus)
		scsi_nexus_attention(registration->nexus, attention);
}

static void tell_others(struct scsi_command *command, enum scsi_attention attention)
{
	struct scsi_persist *persist = &command->unit->persist;

	for (unsigned i = 0; i < SCSI_REGISTRATIONS_MAX; i++) {
		struct scsi_registration *other = &persist->registrations[i];

		if (other->used && other != command->nexus->registration)
			tell(other, attention);
	}
}

/* 5.12.11.2: whoever is left hears of it, but not after a plain exclusive reservation. */
static void release(struct scsi_command *command)
{
	struct scsi_persist *persist = &command->unit->persist;
	bool quiet =
		persist->type == SCSI_WRITE_EXCLUSIVE || persist->type == SCSI_EXCLUSIVE_ACCESS;

	persist->type = SCSI_RESERVED_NOT;
	persist->holder = NULL;
	if (!quiet)
		tell_others(command, SCSI_ATTENTION_RESERVATIONS_RELEASED);
}

static void forget(struct scsi_persist *persist, struct scsi_registration *registration)
{
	if (registration->nexus)
		registration->nexus->registration = NULL;
	*registration = (struct scsi_registration){0};
	persist->count--;
}

/* The reservation ends with its holder, or with the last of all registrants. */
static void unregister(struct scsi_command *command)
{
	struct scsi_persist *persist = &command->unit->persist;
	struct scsi_registration *registration = command->nexus->registration;
	bool ends =
		is_holder(persist, registration) && (!is_all(persist->type) || persist->count == 1);

	if (ends)
		release(command);
	forget(persist, registration);
}

static bool add(struct scsi_command *command, uint64_t key)
{
	struct scsi_persist *persist = &command->unit->persist;
	struct scsi_nexus *nexus = command->nexus;

	for (unsigned i = 0; i < SCSI_REGISTRATIONS_MAX; i++) {
		struct scsi_registration *slot = &persist->registrations[i];

		if (slot->used)
			continue;
		*slot = (struct scsi_registration){.used = true, .key = key, .nexus = nexus};
		memcpy(slot->port, nexus->port, strlen(nexus->port) + 1);
		nexus->registration = slot;
		persist->count++;
		return true;
	}
	return false;
}

static enum scsi_step do_register(struct scsi_command *command, bool ignore)
{
	const uint8_t *list = command->buffer;
	struct scsi_registration *registration = command->nexus->registration;
	uint64_t expected = registration ? registration->key : 0, key = get_be64(list + 8);

	if (!ignore && get_be64(list) != expected)
		return conflict(command);
	if (registration && key == 0)
		unregister(command);
	else if (registration)
		registration->key = key;
	else if (key != 0 && !add(command, key)) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_REGISTRATION_RESOURCES);
		return SCSI_STEP_DONE;
	}
	command->unit->persist.generation++;
	return scsi_done(command);
}

static void reserve(struct scsi_command *command, enum scsi_reservation type)
{
	command->unit->persist.type = type;
	command->unit->persist.holder = is_all(type) ? NULL : command->nexus->registration;
}

static enum scsi_step do_reserve(struct scsi_command *command, enum scsi_reservation type)
{
	const struct scsi_persist *persist = &command->unit->persist;

	if (persist->type == SCSI_RESERVED_NOT)
		reserve(command, type);
	else if (persist->type != type || !is_holder(persist, command->nexus->registration))
		return conflict(command);
	return scsi_done(command);
}

static enum scsi_step do_release(struct scsi_command *command, enum scsi_reservation type)
{
	const struct scsi_persist *persist = &command->unit->persist;

	if (!is_holder(persist, command->nexus->registration))
		return scsi_done(command);
	if (persist->type != type) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_RELEASE);
		return SCSI_STEP_DONE;
	}
	release(command);
	return scsi_done(command);
}

static enum scsi_step do_clear(struct scsi_command *command)
{
	struct scsi_persist *persist = &command->unit->persist;

	tell_others(command, SCSI_ATTENTION_RESERVATIONS_PREEMPTED);
	persist->type = SCSI_RESERVED_NOT;
	persist->holder = NULL;
	for (unsigned i = 0; i < SCSI_REGISTRATIONS_MAX; i++) {
		if (persist->registrations[i].used)
			forget(persist, &persist->registrations[i]);
	}
	persist->generation++;
	return scsi_done(command);
}

/* Removes the others with that key (any key when `all`); returns how many had it. */
static unsigned preempt(struct scsi_command *command, uint64_t key, bool all)
{
	struct scsi_persist *persist = &command->unit->persist;
	unsigned count = 0;

	for (unsigned i = 0; i < SCSI_REGISTRATIONS_MAX; i++) {
		struct scsi_registration *other = &persist->registrations[i];

		if (!other->used || !(all || other->key == key))
			continue;
		count++;
		if (other == command->nexus->registration)
			continue;
		tell(other, SCSI_ATTENTION_REGISTRATIONS_PREEMPTED);
		if (other->nexus)
			other->nexus->preempted = true;
		forget(persist, other);
	}
	return count;
}

static enum scsi_step preempted(struct scsi_command *command)
{
	command->unit->persist.generation++;
	command->next = scsi_done;
	return command->opcode->service_action == OUT_PREEMPT_AND_ABORT ? SCSI_STEP_ABORT
									: SCSI_STEP_DONE;
}

/* 5.12.11.4 */
static enum scsi_step do_preempt(struct scsi_command *command, enum scsi_reservation type)
{
	struct scsi_persist *persist = &command->unit->persist;
	uint64_t key = get_be64(command->buffer + 8);
	enum scsi_reservation old = persist->type;
	bool takes = is_all(old) ? key == 0 : persist->holder && persist->holder->key == key;
	struct scsi_nexus *nexus;

	LIST_FOR_EACH (&command->unit->nexuses, nexus, struct scsi_nexus, link)
		nexus->preempted = false;
	if (key == 0 && !is_all(old)) {
		scsi_invalid_list_field(command, 8);
		return SCSI_STEP_DONE;
	}
	if (takes) {
		persist->holder = NULL;
		(void)preempt(command, key, is_all(old));
		reserve(command, type);
		if (old != type && !is_all(old))
			tell_others(command, SCSI_ATTENTION_RESERVATIONS_RELEASED);
		return preempted(command);
	}
	if (preempt(command, key, false) == 0)
		return conflict(command);
	return preempted(command);
}

static enum scsi_step act(struct scsi_command *command)
{
	const uint8_t *list = command->buffer;
	enum action_out action = (enum action_out)command->opcode->service_action;
	enum scsi_reservation type = (enum scsi_reservation)(command->cdb[2] & 0x0f);
	const struct scsi_registration *registration = command->nexus->registration;

	if (action == OUT_REGISTER || action == OUT_REGISTER_IGNORE)
		return do_register(command, action == OUT_REGISTER_IGNORE);
	if (!registration || registration->key != get_be64(list))
		return conflict(command);
	switch (action) {
	case OUT_RESERVE:
		return do_reserve(command, type);
	case OUT_RELEASE:
		return do_release(command, type);
	case OUT_CLEAR:
		return do_clear(command);
	default:
		return do_preempt(command, type);
	}
}

static enum scsi_step saved(struct scsi_command *command)
{
	if (command->io_result < 0)
		scsi_command_fail(command, SCSI_HARDWARE_ERROR, SCSI_ASC_INTERNAL_FAILURE);
	return scsi_done(command);
}

static enum scsi_step save(struct scsi_command *command)
{
	command->next = saved;
	return SCSI_STEP_SAVE;
}

/* 5.12.5: what the last registration asked for holds for all; status comes after the save. */
static enum scsi_step out_parse(struct scsi_command *command)
{
	const uint8_t *list = command->buffer;
	struct scsi_persist *persist = &command->unit->persist;
	enum action_out action = (enum action_out)command->opcode->service_action;
	bool registers = action == OUT_REGISTER || action == OUT_REGISTER_IGNORE;
	bool was_saved = persist->aptpl;
	enum scsi_step step;

	if (list[20] & (registers ? FLAG_SPEC_I_PT : 0) ||
	    (registers && (list[20] & FLAG_APTPL) && !command->unit->can_save)) {
		scsi_invalid_list_field(command, 20); /* not offered, see the capabilities */
		return SCSI_STEP_DONE;
	}
	step = act(command);
	if (command->status != SCSI_GOOD)
		return step;
	if (registers)
		persist->aptpl = list[20] & FLAG_APTPL;
	if (!was_saved && !persist->aptpl)
		return step;
	command->next = save;
	return step == SCSI_STEP_ABORT ? step : save(command);
}

void scsi_persist_out(struct scsi_command *command)
{
	enum action_out action = (enum action_out)command->opcode->service_action;
	uint32_t length = get_be32(command->cdb + 5);
	bool has_type = action == OUT_RESERVE || action == OUT_RELEASE || action == OUT_PREEMPT ||
			action == OUT_PREEMPT_AND_ABORT;

	if (has_type && (command->cdb[2] >> 4 != 0 || !is_type(command->cdb[2] & 0x0f))) {
		scsi_invalid_field(command, 2);
		return;
	}
	if (length != LIST_BYTES) {
		scsi_command_fail(command, SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
		return;
	}
	scsi_start_list(command, length, out_parse);
}
