/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reading a part of one copy of a file from front to back, with more under way than is used: while
 * one piece is looked at, the next are being read, and those before are being written elsewhere.
 * Home: the vDisk's reactor; its user is one fiber.
 */
#include "egroup/store.h"
#include "pool/pool_buffer.h"

#define AHEAD_PIECES 8u   /* at a time */
#define AHEAD_BLOCKS 256u /* in one: 1 MiB */
/* Buffers that disks which hang may keep, beside those: twice as many, for of the disks that the
 * files of one run are on two may hang for good. */
#define AHEAD_HELD_MAX (2 * AHEAD_PIECES)

/* How large the requests are, and how many pieces may be read or written at a time. */
struct egroup_pace {
	uint32_t blocks;
	unsigned pieces;
};

enum ahead_state { AHEAD_FREE, AHEAD_READING, AHEAD_READ, AHEAD_TAKEN };

struct ahead_piece {
	char *buffer;
	uint32_t first, blocks; /* of the file */
	/* Of reading it. -ENOMEM: there is no buffer, for disks that hang keep them. */
	int result;
	uint32_t unreadable; /* blocks that a scan could not read from its copy */
	/* The CRC-32C of each block, where the piece's user has filled it in. */
	uint32_t crcs[AHEAD_BLOCKS];
	/* Private. */
	enum ahead_state state;
	struct ahead *ahead;
	struct pool_buffer *memory;
	void (*written)(void *arg, const struct ahead_piece *piece, int result);
	void *arg;
};

struct ahead_options {
	struct egroup_file *file; /* open and referenced */
	unsigned copy;
	uint32_t first, end; /* blocks */
	/* Asked before each read; NULL: as much as is of use. */
	void (*pace)(void *arg, struct egroup_pace *pace);
	void *arg;
};

/* Holds the memory, so it is made once for many files. -ENOMEM. */
int ahead_new(struct ahead **ret_ahead);
/* All pieces are back. */
void ahead_free(struct ahead *ahead);

/* Begins to read; all pieces are back but for one that was made. */
void ahead_begin(struct ahead *ahead, const struct ahead_options *options);
/* The next piece, read (with its result), or NULL at the end. It is the caller's until it puts it
 * back. */
struct ahead_piece *ahead_next(struct ahead *ahead);
/* From anywhere on the reactor. */
void ahead_put(struct ahead_piece *piece);
/* Writes a taken piece to a copy of a file, tells how that ended, and puts the piece back. */
struct ahead_target {
	struct pool_file *file;
	unsigned copy;
	void (*written)(void *arg, const struct ahead_piece *piece, int result);
	void *arg;
};
void ahead_write(struct ahead_piece *piece, const struct ahead_target *target);
/* A taken piece that was not read but made of the caller's memory. One at a time. NULL: there is no
 * buffer. */
struct ahead_piece *ahead_make(struct ahead *ahead, const void *memory, uint32_t first,
			       uint32_t blocks);
/* Reads no more and waits until all pieces are back. */
void ahead_settle(struct ahead *ahead);

DEFINE_CLEANUP(struct ahead *, ahead_free)
