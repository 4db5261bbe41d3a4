/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Placement: on which disks the copies of a new file go. A pure function of the disks, what is
 * wanted and a number drawn by the caller: no clock, no order of memory, nothing remembered.
 *
 * Hard rules: only disks that are usable and have the room; no disk twice; none of `avoid`.
 * Preferences, in this order: different failure domains; tiers as the policy orders them; disks
 * without which what is free elsewhere cannot be used; disks that what was placed before did not
 * go to, or those where that was longest ago; then, of some disks drawn at random, those with the
 * most free room for what they do (free share, less what is under way). Drawing a few rather than
 * looking at all of them keeps the choice quick with many disks, and does not send everything to
 * one disk that is new and empty.
 */
#include <stdbool.h>
#include <stdint.h>

#define PLACEMENT_COPIES_MAX 3u
#define PLACEMENT_AVOID_MAX  4u
#define PLACEMENT_TIERS_MAX  4u

struct placement_disk {
	uint64_t id;
	uint64_t capacity_bytes;
	uint64_t free_bytes; /* that the asker may have */
	uint32_t domain;     /* failure domain: file system or node; equal = they fail together */
	uint32_t busy;       /* operations under way */
	uint8_t tier;        /* 0 .. PLACEMENT_TIERS_MAX - 1 */
	bool usable;         /* online, not avoided, not draining */
};

struct placement_want {
	unsigned copies;                     /* 1 .. PLACEMENT_COPIES_MAX */
	uint64_t bytes;                      /* of each */
	uint64_t avoid[PLACEMENT_AVOID_MAX]; /* ids of disks that have it already; 0 = none */
	uint32_t avoid_domains[PLACEMENT_AVOID_MAX]; /* where other copies are: rather not there */
	unsigned avoid_domain_count;
	uint8_t tiers[PLACEMENT_TIERS_MAX]; /* in order of preference ... */
	unsigned tier_count;                /* ... 0 = any tier is as good */
	/* Disks with more free than this are needed for a copy of whatever is still to come, for
	 * the others together hold too little; 0 = there are none such. */
	uint64_t needed_bytes;
	const uint64_t *recent; /* ids of disks rather not used again; the first was used last */
	unsigned recent_count;
	uint64_t random;
};

/* Indexes of `disks` for up to want->copies copies; returns how many were found. Under 10 us for
 * 10,000 disks as long as some of those drawn at random will do. */
unsigned placement_choose(const struct placement_disk *disks, unsigned count,
			  const struct placement_want *want,
			  unsigned ret_indexes[PLACEMENT_COPIES_MAX]);
