/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The bytes of a mirror: pure functions on memory. docs/format.md has the tables.
 *
 * An entry is one change of one row. A frame is a header and the entries of one or more committed
 * transactions; frames follow each other in a log. A chunk is a header and entries that put rows;
 * a snapshot is a header and chunks. All but entries are multiples of MIRROR_BLOCK.
 */
#include "catalog/catalog.h"

#define MIRROR_BLOCK          4096u
#define MIRROR_FRAME_HEADER   128u
#define MIRROR_CHUNK_HEADER   64u
#define MIRROR_CHUNK_MAX      (CATALOG_VALUE_MAX + MIRROR_BLOCK) /* one row of any size fits */
#define MIRROR_CHUNK_AIM      (256u << 10)
#define MIRROR_FORMAT_VERSION 1u
#define MIRROR_UUID_BYTES     16u

/* Where a catalog stands. The chain is the CRC-32C of all changes since it was made. */
struct catalog_position {
	uint8_t uuid[MIRROR_UUID_BYTES]; /* of the catalog, given when it is made */
	uint64_t generation;             /* one more with each restore from a mirror */
	uint64_t sequence;               /* one more with each transaction */
	uint64_t rows;
	uint32_t chain;
	uint64_t epoch; /* of the last transaction (lineage.h); 0 = not known */
};

/* <0, 0, >0: by generation, then by sequence. Of the same catalog. */
int catalog_position_compare(const struct catalog_position *a, const struct catalog_position *b);

struct mirror_entry {
	enum catalog_change_kind kind; /* PUT, DELETE or DELETE_PREFIX */
	struct catalog_key key;
	uint64_t version; /* after a PUT */
	uint32_t length;
	const void *value;
};

size_t mirror_entry_bytes(const struct mirror_entry *entry);
void mirror_entry_write(uint8_t *to, const struct mirror_entry *entry);
/* Its size, or -EUCLEAN. The value points into `data`. */
int64_t mirror_entry_read(const uint8_t *data, size_t left, struct mirror_entry *ret_entry);

/* A frame in aligned memory, on its way to the mirrors. */
struct mirror_frame {
	uint8_t *data;
	size_t length; /* with header and padding */
	struct catalog_position before, after;
	unsigned users;
};

void mirror_frame_unref(struct mirror_frame *frame); /* NULL is fine */
DEFINE_CLEANUP(struct mirror_frame *, mirror_frame_unref)
/* Fills header and padding; the payload is behind the header's room. */
void mirror_frame_seal(uint8_t *data, size_t payload, const struct catalog_position *before,
		       const struct catalog_position *after);
size_t mirror_frame_bytes(size_t payload);

struct mirror_frame_info {
	size_t bytes, payload;
	uint64_t first; /* sequence of its first transaction */
	uint32_t chain; /* before it */
	struct catalog_position after;
};

/* -ENODATA: a block of zeros, -EUCLEAN: anything else that is no whole good frame. */
int mirror_frame_read(const uint8_t *data, size_t left, struct mirror_frame_info *ret_info);
/* Whether the frame follows the position. */
bool mirror_frame_follows(const struct mirror_frame_info *info,
			  const struct catalog_position *position);

struct mirror_snapshot {
	struct catalog_position start; /* the log that belongs to it begins here */
	uint64_t end_sequence;         /* the log reaches at least this */
	uint64_t bytes;                /* of the file */
	uint64_t entries;
	uint64_t made_wall_ns;
};

void mirror_snapshot_write(uint8_t block[static MIRROR_BLOCK],
			   const struct mirror_snapshot *snapshot);
/* -EUCLEAN, -EPROTONOSUPPORT. */
int mirror_snapshot_read(const uint8_t block[static MIRROR_BLOCK],
			 struct mirror_snapshot *ret_snapshot);

struct mirror_chunk {
	uint64_t sequence; /* where its snapshot starts */
	uint32_t index, count;
	uint32_t payload;
};

size_t mirror_chunk_bytes(size_t payload);
void mirror_chunk_seal(uint8_t *data, const struct mirror_chunk *chunk);
/* Checks the first block's header only: how many bytes to read. */
int mirror_chunk_peek(const uint8_t *block, struct mirror_chunk *ret_chunk);
int mirror_chunk_check(const uint8_t *data, const struct mirror_chunk *chunk);
