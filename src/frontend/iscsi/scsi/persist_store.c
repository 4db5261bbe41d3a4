/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent reservations as bytes, for those that shall outlive the server (APTPL, SPC-4
 * 5.12.5): version, type, generation, number of registrations; of each: key, holder or not, length
 * of the port's name, the name. Numbers are big-endian.
 */
#include "frontend/iscsi/scsi/persist.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/macros.h"

#define VERSION            1
#define HEADER_BYTES       8
#define REGISTRATION_BYTES 10

_Static_assert(HEADER_BYTES + SCSI_REGISTRATIONS_MAX * (REGISTRATION_BYTES + SCSI_PORT_BYTES) <=
		       SCSI_PERSIST_BYTES,
	       "all registrations fit");

size_t scsi_persist_encode(const struct scsi_persist *persist,
			   uint8_t ret_bytes[static SCSI_PERSIST_BYTES])
{
	uint8_t *at = ret_bytes + HEADER_BYTES;

	if (!persist->aptpl || persist->count == 0)
		return 0;
	ret_bytes[0] = VERSION;
	ret_bytes[1] = (uint8_t)persist->type;
	put_be32(ret_bytes + 2, persist->generation);
	put_be16(ret_bytes + 6, (uint16_t)persist->count);
	for (unsigned i = 0; i < SCSI_REGISTRATIONS_MAX; i++) {
		const struct scsi_registration *registration = &persist->registrations[i];
		size_t length = strlen(registration->port);

		if (!registration->used)
			continue;
		put_be64(at, registration->key);
		at[8] = registration == persist->holder;
		at[9] = (uint8_t)length;
		memcpy(at + REGISTRATION_BYTES, registration->port, length);
		at += REGISTRATION_BYTES + length;
	}
	return (size_t)(at - ret_bytes);
}

/* The next registration; what it takes, or 0 when that is nothing sensible. */
static size_t decode_one(struct scsi_persist *persist, const uint8_t *at, size_t left)
{
	struct scsi_registration *registration = &persist->registrations[persist->count];
	size_t length = left < REGISTRATION_BYTES ? 0 : at[9];

	if (length == 0 || length >= SCSI_PORT_BYTES || left - REGISTRATION_BYTES < length ||
	    at[8] > 1 || (at[8] == 1 && persist->holder) ||
	    memchr(at + REGISTRATION_BYTES, '\0', length))
		return 0;
	*registration = (struct scsi_registration){.used = true, .key = get_be64(at)};
	memcpy(registration->port, at + REGISTRATION_BYTES, length);
	if (at[8] == 1)
		persist->holder = registration;
	persist->count++;
	return REGISTRATION_BYTES + length;
}

/* Invariant 1 of persist.c. */
static bool is_consistent(const struct scsi_persist *persist)
{
	switch (persist->type) {
	case SCSI_RESERVED_NOT:
	case SCSI_WRITE_EXCLUSIVE_ALL:
	case SCSI_EXCLUSIVE_ACCESS_ALL:
		return !persist->holder;
	case SCSI_WRITE_EXCLUSIVE:
	case SCSI_EXCLUSIVE_ACCESS:
	case SCSI_WRITE_EXCLUSIVE_REGISTRANTS:
	case SCSI_EXCLUSIVE_ACCESS_REGISTRANTS:
		return persist->holder;
	}
	return false;
}

int scsi_persist_decode(struct scsi_persist *persist, const uint8_t *bytes, size_t length)
{
	size_t at = HEADER_BYTES;
	unsigned count;

	*persist = (struct scsi_persist){0};
	if (length == 0)
		return 0;
	if (length < HEADER_BYTES || bytes[0] != VERSION)
		return -EUCLEAN;
	persist->aptpl = true;
	persist->type = (enum scsi_reservation)bytes[1];
	persist->generation = get_be32(bytes + 2);
	count = get_be16(bytes + 6);
	while (persist->count < count && count <= SCSI_REGISTRATIONS_MAX) {
		size_t taken = decode_one(persist, bytes + at, length - at);

		if (taken == 0)
			return -EUCLEAN;
		at += taken;
	}
	return count > 0 && persist->count == count && at == length && is_consistent(persist)
		       ? 0
		       : -EUCLEAN;
}
