/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The record: unit of append to an extent group. A 4 KiB header, then the payload in 4 KiB blocks.
 * docs/format.md shows the bytes. Pure functions; nothing here does I/O.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define BLOCK_BYTES 4096u
#define BLOCK_SHIFT 12

#define RECORD_MAGIC       UINT64_C(0x3143455253524153) /* "SARSREC1", little-endian */
#define RECORD_VERSION     1u
#define RECORD_EXTENTS_MAX 128u
#define RECORD_BLOCKS_MAX  256u /* payload of one record: 1 MiB */
#define RECORD_NOTE_BYTES  800u

enum record_stream {
	RECORD_STREAM_LOG = 1,   /* guest writes of a vDisk, in order of LSN */
	RECORD_STREAM_PAGES = 2, /* pages of its map */
};

enum record_extent_kind {
	RECORD_EXTENT_DATA = 1,  /* `count` blocks of payload for vDisk blocks from `block` on */
	RECORD_EXTENT_ZERO = 2,  /* no payload: the range reads as zeros from now on */
	RECORD_EXTENT_PAGES = 3, /* `count` map pages, each of which names itself */
};

struct record_extent_disk {
	uint64_t block;
	uint32_t count;
	uint16_t kind;
	uint16_t reserved;
};
_Static_assert(sizeof(struct record_extent_disk) == 16, "on-disk format");

/* All fields little-endian. */
struct record_header_disk {
	uint64_t magic;
	uint32_t version;
	uint32_t crc; /* CRC-32C of the 4096 bytes with this field zero */
	uint64_t pool;
	uint64_t vdisk;
	uint64_t group;
	uint32_t slot; /* its own place in the group */
	uint32_t stream;
	uint64_t epoch;
	uint64_t lsn;        /* sequence number in the stream */
	uint64_t prev_group; /* place of the predecessor's header; 0 = none known */
	uint32_t prev_slot;
	uint32_t payload_blocks;
	uint64_t durable_lsn; /* every record up to it was synced when this one was built */
	uint32_t extent_count;
	uint32_t reserved;
	uint64_t file; /* that it was written to; 0 in those of older programs */
	uint32_t reserved2[4];
	struct record_extent_disk extents[RECORD_EXTENTS_MAX];
	uint32_t block_crcs[RECORD_BLOCKS_MAX]; /* CRC-32C of each stored block */
	/* Of the first record of a group: whose it is (vdisk/identity.h). Else zeros. */
	uint8_t note[RECORD_NOTE_BYTES];
	uint8_t padding[104];
};
_Static_assert(sizeof(struct record_header_disk) == 4096, "on-disk format");
_Static_assert(offsetof(struct record_header_disk, group) == 32, "on-disk format");
_Static_assert(offsetof(struct record_header_disk, epoch) == 48, "on-disk format");
_Static_assert(offsetof(struct record_header_disk, durable_lsn) == 80, "on-disk format");
_Static_assert(offsetof(struct record_header_disk, file) == 96, "on-disk format");
_Static_assert(offsetof(struct record_header_disk, extents) == 120, "on-disk format");
_Static_assert(offsetof(struct record_header_disk, block_crcs) == 2168, "on-disk format");
_Static_assert(offsetof(struct record_header_disk, note) == 3192, "on-disk format");

struct record_id { /* what a record must say to be one of ours; a zero field matches anything */
	uint64_t pool;
	uint64_t vdisk;
	uint64_t group; /* with slot */
	uint32_t slot;
	enum record_stream stream;
};

/* Makes an empty record of any memory. */
void record_begin(struct record_header_disk *header);
/* Adds an extent; merges with the last one where it continues it. False when the header is full. */
bool record_add(struct record_header_disk *header, enum record_extent_kind kind, uint64_t block,
		uint32_t count);
/* Appends the CRC of the next payload block. */
void record_add_block(struct record_header_disk *header, uint32_t crc);
uint32_t record_extent_count(const struct record_header_disk *header);
uint32_t record_payload_blocks(const struct record_header_disk *header);

struct record_seal {
	struct record_id id;
	uint64_t epoch, lsn, durable_lsn, prev_group;
	uint32_t prev_slot;
	uint64_t file;
	const void *note; /* RECORD_NOTE_BYTES, for the first record of a group; else NULL */
};
/* Fills in the identity and the CRC. May be repeated, when a record is issued again elsewhere. */
void record_seal(struct record_header_disk *header, const struct record_seal *seal);

/* A header that was read: 0 when it is well-formed, its CRC is right and it is `id`. -ENODATA: no
 * record (magic or version), -ESTALE: a record of something else, -EBADMSG: damaged or torn. */
int record_check(const struct record_header_disk *header, const struct record_id *id);
/* 0 when all payload blocks match their CRCs, else -EBADMSG. `payload` has payload_blocks blocks.
 */
int record_check_payload(const struct record_header_disk *header, const void *payload);

struct record_extent {
	enum record_extent_kind kind;
	uint64_t block;
	uint32_t count;
	uint32_t first_payload; /* index of its first payload block */
};
/* The `index`-th extent of a checked header; *payload_cursor starts at 0 and is carried along. */
void record_get_extent(const struct record_header_disk *header, uint32_t index,
		       uint32_t *payload_cursor, struct record_extent *ret_extent);
