/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Map pages on disk: 4 KiB, immutable, each names itself. docs/format.md shows the bytes.
 */
#include <stdbool.h>
#include <stdint.h>

#include "egroup/record.h"
#include "egroup/slotset.h"

#define MAP_FANOUT      256u
#define MAP_FANOUT_BITS 8
#define PAGE_MAGIC      UINT32_C(0x50414D53) /* "SMAP" */
#define PAGE_VERSION    1
#define PAGE_NOTE_BYTES RECORD_NOTE_BYTES

/* 12 bytes. `crc` of the plain 4 KiB that the address names; address = group (40 bits), slot (14),
 * type (10). */
struct map_entry {
	uint32_t crc;     /* in memory: host order */
	uint64_t address; /* 0: absent */
} __attribute__((packed));
_Static_assert(sizeof(struct map_entry) == 12, "on-disk format");

enum address_type {
	ADDRESS_PLAIN = 1, /* one stored 4 KiB block; other types are for compressed units */
	ADDRESS_LOST = 2,  /* in leaves: where the block is stood in a page that was damaged */
};

/* The whole address of such a block: reading it fails, until it is written or unmapped. */
#define ADDRESS_OF_LOST ((uint64_t)ADDRESS_LOST << 54)

static inline uint64_t address_make(uint64_t group, uint32_t slot)
{
	return group | (uint64_t)slot << 40 | (uint64_t)ADDRESS_PLAIN << 54;
}
static inline uint64_t address_group(uint64_t address)
{
	return address & ((UINT64_C(1) << 40) - 1);
}
static inline uint32_t address_slot(uint64_t address)
{
	return (uint32_t)(address >> 40) & (SLOTS_PER_GROUP - 1);
}
static inline unsigned address_type(uint64_t address)
{
	return (unsigned)(address >> 54);
}

/* Does it name a slot? */
static inline bool address_is_stored(uint64_t address)
{
	return address_type(address) == ADDRESS_PLAIN;
}

struct page_disk { /* little-endian */
	uint32_t magic;
	uint8_t version;
	uint8_t level;
	uint16_t reserved;
	uint64_t vdisk;
	uint64_t index; /* of this page among those of its level */
	uint64_t lsn;   /* of the checkpoint that made it */
	uint8_t reserved2[32];
	struct map_entry entries[MAP_FANOUT];
	uint8_t note[PAGE_NOTE_BYTES]; /* of a root: whose it is (identity.h); else zeros */
	uint8_t padding[160];
};
_Static_assert(sizeof(struct page_disk) == BLOCK_BYTES, "on-disk format");
_Static_assert(offsetof(struct page_disk, entries) == 64, "on-disk format");
_Static_assert(offsetof(struct page_disk, note) == 3136, "on-disk format");

struct page_id {
	uint64_t vdisk;
	uint64_t index;
	unsigned level;
};

/* Fills a page; returns the CRC-32C of its 4096 bytes. `note`: PAGE_NOTE_BYTES of a root, or NULL.
 */
uint32_t page_encode(struct page_disk *page, const struct page_id *id, uint64_t lsn,
		     const struct map_entry *entries, const void *note);
/* `crc` is what the parent says. -EBADMSG when the bytes differ from it; -EUCLEAN when they are
 * another page or hold an impossible entry. */
int page_decode(const struct page_disk *page, const struct page_id *id, uint32_t crc,
		struct map_entry *ret_entries);
