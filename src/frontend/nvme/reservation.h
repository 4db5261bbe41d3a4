/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A controller's part in the reservations of a namespace; see reservation.c. */
#include "frontend/nvme/nvme.h"
#include "frontend/nvme/reservation_state.h"

struct nvme_command;

struct nvme_member { /* embedded in the attachment; the controller's reactor but where noted */
	struct nvme_reservations *reservations; /* NULL: none */
	struct nvme_controller *controller;
	uint32_t nsid;
	unsigned access; /* bits NVME_ACCESS_... */
	unsigned writes; /* begun and not yet ended */
	bool settling;   /* the state's home waits for `writes` to be 0 */
	/* At the state's home: */
	struct list_node link;
	uint8_t host[16];
	/* Handed over with the message: */
	struct world_message message;
	unsigned next_access;
	enum nvme_reservation_notice notice;
};

/* From a fiber. */
void nvme_reservation_join(struct nvme_member *member);
void nvme_reservation_leave(struct nvme_member *member);
/* No write that is forbidden now is left. */
void nvme_reservation_settled(struct nvme_member *member);
void nvme_reservation_host(const struct nvme_controller *controller, uint8_t ret_host[16]);
/* Register, Acquire, Release, Report. */
void nvme_reservation_command(struct nvme_command *command);
/* Set Features has changed the host identifier: goes on until all members know, then ends the
 * command. */
void nvme_reservation_host_changed(struct nvme_command *command);
