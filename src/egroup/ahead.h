/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reading a part of one copy of a file from front to back, with more under way than is used: while
 * one piece is looked at, the next are being read, and those before are being written elsewhere.
 * Home: the vDisk's reactor; its user is one fiber.
 */
#include "egroup/store.h"
#include "pool/pool_io.h"

#define AHEAD_PIECES 8u   /* of memory */
#define AHEAD_BLOCKS 256u /* in one: 1 MiB */

/* How large the requests are, and how many pieces may be read or written at a time. */
struct egroup_pace {
	uint32_t blocks;
	unsigned pieces;
};

enum ahead_state { AHEAD_FREE, AHEAD_READING, AHEAD_READ, AHEAD_TAKEN };

struct ahead_piece {
	char *buffer;
	uint32_t first, blocks; /* of the file */
	unsigned index;         /* up to AHEAD_PIECES: that of the piece that was lent */
	int result;             /* of reading it */
	/* Private. */
	enum ahead_state state;
	struct ahead *ahead;
	struct iovec iov;
	struct pool_read read;
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

/* Begins to read; all pieces are back. */
void ahead_begin(struct ahead *ahead, const struct ahead_options *options);
/* The next piece, read (with its result), or NULL at the end. It is the caller's until it puts it
 * back. */
struct ahead_piece *ahead_next(struct ahead *ahead);
/* From anywhere on the reactor. */
void ahead_put(struct ahead_piece *piece);
/* A piece that holds the caller's memory and was not read. One at a time. */
struct ahead_piece *ahead_lend(struct ahead *ahead, char *buffer, uint32_t first, uint32_t blocks);
/* Reads no more and waits until all pieces are back. */
void ahead_settle(struct ahead *ahead);

DEFINE_CLEANUP(struct ahead *, ahead_free)
