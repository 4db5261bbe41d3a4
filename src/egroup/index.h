/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The index at the head of a compacted file: which slots of which groups are stored in it, in
 * order, and the CRC-32C of each. Pure functions over memory; docs/format.md shows the bytes.
 */
#include <stdint.h>

#include "egroup/record.h"
#include "egroup/slotset.h"

#define INDEX_MAGIC      UINT64_C(0x3158444953524153) /* "SARSIDX1" */
#define INDEX_VERSION    1u
#define INDEX_GROUPS_MAX 1024u

struct index_header_disk { /* little-endian */
	uint64_t magic;
	uint32_t version;
	uint32_t crc; /* of the whole index with this field zero */
	uint64_t pool;
	uint64_t vdisk;
	uint64_t file;
	uint32_t group_count;
	uint32_t total_slots;
	uint32_t index_blocks;
	uint32_t page_groups; /* 1 + how many of them, the first, are of map pages; 0 = not known */
	uint32_t reserved[2];
};
_Static_assert(sizeof(struct index_header_disk) == 64, "on-disk format");

struct index_group_disk {
	uint64_t group;
	uint32_t base;
	uint32_t count;
};
_Static_assert(sizeof(struct index_group_disk) == 16, "on-disk format");

/* Blocks that an index of that size takes. */
uint32_t index_blocks(uint32_t group_count, uint32_t total_slots);

struct index_view { /* pointers into the index's memory, once it was checked */
	const struct index_group_disk *groups;
	const uint16_t *slots; /* total_slots, sorted within each group */
	const uint32_t *crcs;  /* total_slots */
	uint32_t group_count;
	uint32_t total_slots;
	bool streams_known; /* which groups are of map pages: the first `page_groups` */
	uint32_t page_groups;
};

struct index_id {
	uint64_t pool, vdisk, file;
};
/* Lays out the header and tells where the arrays go; the caller fills them, then index_seal(). */
void index_begin(void *memory, const struct index_id *id, uint32_t group_count,
		 uint32_t total_slots);
void index_set_page_groups(void *memory, uint32_t page_groups);
struct index_group_disk *index_groups(void *memory);
uint16_t *index_slots(void *memory);
uint32_t *index_crcs(void *memory);
void index_seal(void *memory);

/* -EUCLEAN when it is damaged, not that file's, or contradicts itself. */
int index_check(const void *memory, uint32_t blocks, const struct index_id *id,
		struct index_view *ret_view);
