/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What SCSI keeps about a target, its logical units and the I_T nexuses that reach them: identity,
 * mode parameters, reservations, unit attentions. No I/O, no allocation.
 *
 * A unit belongs to its iSCSI target, a nexus to its session. Both live on the server's reactor.
 */
#include "block/block.h"
#include "frontend/iscsi/scsi/copy.h"
#include "frontend/iscsi/scsi/persist.h"
#include "frontend/iscsi/scsi/sense.h"

#define SCSI_LUNS          256 /* LUNs of a target: 0 to 255 */
#define SCSI_NAME_BYTES    224 /* an iSCSI name with its NUL */
#define SCSI_PRODUCT_BYTES 16

/* Unit attentions, the most important first (SAM-5 5.14: any order, but a reset hides the rest). */
enum scsi_attention {
	SCSI_ATTENTION_POWER_ON,
	SCSI_ATTENTION_RESET,
	SCSI_ATTENTION_LUNS_CHANGED,
	SCSI_ATTENTION_MEDIUM_CHANGED,
	SCSI_ATTENTION_CAPACITY_CHANGED,
	SCSI_ATTENTION_COMMANDS_CLEARED,
	SCSI_ATTENTION_MODE_CHANGED,
	SCSI_ATTENTION_SPACE_LOW,
	SCSI_ATTENTION_RESERVATIONS_PREEMPTED,
	SCSI_ATTENTION_RESERVATIONS_RELEASED,
	SCSI_ATTENTION_REGISTRATIONS_PREEMPTED,
	SCSI_ATTENTION_COUNT,
};

struct scsi_nexus;

struct scsi_unit {
	struct block_volume *volume;
	uint64_t identity, serial; /* see struct iscsi_lun */
	uint16_t lun;
	char product[SCSI_PRODUCT_BYTES + 1];
	bool read_only, thin;
	bool removable, ejected;
	bool can_save;                         /* reservations, see SCSI_STEP_SAVE */
	uint64_t space_available, space_total; /* of the thin volume; total 0: not known */
	bool space_low;                        /* told, and not yet better again */
	uint32_t atomic_bytes;                 /* of one WRITE ATOMIC; 0: not offered */
	/* Mode parameters, shared by all nexuses (SPC-4 5.13.2, policy of one set). */
	bool software_write_protect, descriptor_sense, write_cache;
	struct scsi_nexus *reserved_by; /* RESERVE(6), SPC-2 */
	struct scsi_persist persist;
	struct list nexuses;
};

struct scsi_nexus { /* one initiator port at one unit */
	struct scsi_unit *unit;
	struct list_node link; /* in unit->nexuses */
	uint32_t attentions;   /* bits of enum scsi_attention */
	bool prevents_removal;
	bool preempted; /* by the PREEMPT AND ABORT that is at work */
	struct scsi_registration *registration;
	const char *port; /* SCSI name of the initiator port; the same pointer at all units */
	struct scsi_copies copies;
};

struct scsi_target {
	char name[SCSI_NAME_BYTES];
	struct scsi_unit *units[SCSI_LUNS]; /* NULL where there is none */
	unsigned copies;                    /* that run in the background */
};

void scsi_unit_init(struct scsi_unit *unit, struct block_volume *volume, uint16_t lun,
		    uint64_t serial, const char *product);
static inline uint64_t scsi_unit_blocks(const struct scsi_unit *unit)
{
	return unit->volume->size_bytes / unit->volume->block_bytes;
}
/* The unit's NAA identifier, 3h, locally assigned (SPC-4 7.8.6.6.4): units of one node never share
 * one, and those of two nodes only if their identities happen to be that near to each other. */
static inline uint64_t scsi_unit_naa(const struct scsi_unit *unit)
{
	return UINT64_C(3) << 60 | ((unit->identity + unit->serial) & (UINT64_MAX >> 4));
}
/* Space is counted in sets of 1 MiB (SBC-3 4.7.3.7.1: threshold sets). */
#define SCSI_SPACE_SET_BITS 20
/* Below this part of the total the soft threshold is reached. */
#define SCSI_SPACE_PERCENT 10
/* Of its descriptor, in the logical block provisioning mode page. */
#define SCSI_SPACE_DESCRIPTOR_AT 16
static inline bool scsi_unit_has_thresholds(const struct scsi_unit *unit)
{
	return unit->thin && unit->space_total > 0;
}
static inline uint32_t scsi_unit_space_sets(uint64_t bytes)
{
	uint64_t sets = bytes >> SCSI_SPACE_SET_BITS;

	return sets > UINT32_MAX ? UINT32_MAX : (uint32_t)sets;
}
/* Another total is another threshold: the nexuses hear that mode parameters have changed. */
void scsi_unit_set_space(struct scsi_unit *unit, uint64_t available, uint64_t total);
bool scsi_unit_is_write_protected(const struct scsi_unit *unit);
/* For every nexus but `except` (which may be NULL). */
void scsi_unit_attention(struct scsi_unit *unit, enum scsi_attention attention,
			 const struct scsi_nexus *except);
/* LOGICAL UNIT RESET: what SAM-5 6.3.3 clears, and an attention for all nexuses but `except`. */
void scsi_unit_reset(struct scsi_unit *unit, const struct scsi_nexus *except);

/* A new nexus has a pending POWER ON, and hears of a threshold that is reached already. */
void scsi_nexus_init(struct scsi_nexus *nexus, struct scsi_unit *unit, const char *port);
/* I_T nexus loss (SAM-5 6.3.4): reservations of RESERVE(6) and removal prevention end. */
void scsi_nexus_done(struct scsi_nexus *nexus);
void scsi_nexus_attention(struct scsi_nexus *nexus, enum scsi_attention attention);
/* Takes the most important pending attention. False when there is none. */
bool scsi_nexus_take_attention(struct scsi_nexus *nexus, struct scsi_sense *ret_sense);
