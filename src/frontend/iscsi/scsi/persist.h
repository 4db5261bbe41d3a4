/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Persistent reservations of one logical unit (SPC-4 5.12): who is registered with which key, and
 * what is reserved. A registration belongs to an initiator port and outlives its sessions; it
 * outlives the server when initiators ask for that (APTPL) and the server can save it.
 *
 * Embedded in its unit; the unit's reactor.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCSI_REGISTRATIONS_MAX 64
#define SCSI_PORT_BYTES        248 /* initiator port: name, ",i,0x", ISID in hexadecimal, NUL */

enum scsi_reservation { /* SPC-4 6.15.3.3 */
			SCSI_RESERVED_NOT = 0,
			SCSI_WRITE_EXCLUSIVE = 1,
			SCSI_EXCLUSIVE_ACCESS = 3,
			SCSI_WRITE_EXCLUSIVE_REGISTRANTS = 5,
			SCSI_EXCLUSIVE_ACCESS_REGISTRANTS = 6,
			SCSI_WRITE_EXCLUSIVE_ALL = 7,
			SCSI_EXCLUSIVE_ACCESS_ALL = 8,
};

struct scsi_nexus;

struct scsi_registration {
	bool used;
	uint64_t key;
	struct scsi_nexus *nexus; /* NULL while the port has no session */
	char port[SCSI_PORT_BYTES];
};

#define SCSI_PERSIST_BYTES 16640 /* the longest that is saved */

struct scsi_persist {
	bool aptpl; /* is saved, and outlives the server */
	uint32_t generation;
	enum scsi_reservation type;
	struct scsi_registration *holder; /* NULL for the types of all registrants */
	unsigned count;
	struct scsi_registration registrations[SCSI_REGISTRATIONS_MAX];
};

enum scsi_access { /* what a command does that a reservation may forbid */
		   SCSI_ACCESS_NONE,
		   SCSI_ACCESS_READ,
		   SCSI_ACCESS_WRITE,
};

/* May a nexus with this registration (or NULL) do that? */
bool scsi_persist_allows(const struct scsi_persist *persist,
			 const struct scsi_registration *registration, enum scsi_access access);
/* The port's registration from an earlier session, or NULL. */
struct scsi_registration *scsi_persist_find(struct scsi_persist *persist, const char *port);
/* What is to be saved; 0: nothing. */
size_t scsi_persist_encode(const struct scsi_persist *persist,
			   uint8_t ret_bytes[static SCSI_PERSIST_BYTES]);
/* What was saved. -EUCLEAN. */
int scsi_persist_decode(struct scsi_persist *persist, const uint8_t *bytes, size_t length);
