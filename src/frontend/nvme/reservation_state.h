/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reservations of one namespace (NVMe 1.4, 8.8) as a value: who is registered with which key, what
 * is reserved, and what became of the last command of each controller, so that a command that
 * another engine executes again gets the same answer (rule 5). It is stored as it is.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define NVME_REGISTRANTS_MAX 64u

struct nvme_registrant {
	uint8_t host[16];
	uint64_t key;
	uint16_t cntlid;
	uint8_t used;
	uint8_t reserved[5];
};

struct nvme_reservation_result { /* of the last command of a controller */
	uint64_t sequence;
	uint32_t epoch; /* of its queue's sequences */
	uint16_t sqid;
	uint16_t cntlid;
	uint16_t status;
	uint8_t used;
	uint8_t reserved[5];
};

struct nvme_reservation_state {
	uint32_t version; /* 0: never stored */
	uint32_t generation;
	uint8_t type; /* enum nvme_resv_rtype, 0 = not reserved */
	uint8_t reserved[3];
	uint32_t holder; /* index of a registrant; not for the types of all registrants */
	struct nvme_registrant registrants[NVME_REGISTRANTS_MAX];
	struct nvme_reservation_result results[NVME_REGISTRANTS_MAX];
};
static_assert(sizeof(struct nvme_reservation_state) == 16 + 64 * (32 + 24), "stored as it is");

#define NVME_RESERVATION_VERSION 1u

struct nvme_reservation_command {
	uint8_t opcode;
	uint32_t cdw10;
	uint64_t keys[2]; /* current key; new key or key to preempt */
	uint8_t host[16];
	uint16_t cntlid, sqid;
	uint32_t epoch;
	uint64_t sequence;
};

/* What others are told (NVMe 1.4, 5.14.1.16.1). */
enum nvme_reservation_notice {
	NVME_NOTICE_NONE = 0,
	NVME_NOTICE_REGISTRATION_PREEMPTED = 1,
	NVME_NOTICE_RESERVATION_RELEASED = 2,
	NVME_NOTICE_RESERVATION_PREEMPTED = 3,
};

enum { NVME_ACCESS_READ = 1, NVME_ACCESS_WRITE = 2 };

/* Zeros, or what was stored. False: nothing that was stored by us. */
bool nvme_reservation_state_check(const struct nvme_reservation_state *state);
/* Executes; the NVMe status. */
uint16_t nvme_reservation_state_run(struct nvme_reservation_state *state,
				    const struct nvme_reservation_command *command);
/* What a host may do. */
unsigned nvme_reservation_state_access(const struct nvme_reservation_state *state,
				       const uint8_t host[16]);
/* What a host is to be told of the change from `before`. */
enum nvme_reservation_notice nvme_reservation_state_notice(
	const struct nvme_reservation_state *before, const struct nvme_reservation_state *after,
	const struct nvme_reservation_command *command, const uint8_t host[16]);
/* Report: fills `buffer` (of `size` bytes, zeroed); returns the length of the whole. */
uint32_t nvme_reservation_state_report(const struct nvme_reservation_state *state, bool extended,
				       void *buffer, uint32_t size);
