/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See ahead.h. Pieces are a ring: they are read, used and put back in order.
 *
 * Invariants
 *  1. pieces[taken .. taken + reading) of the ring are being read or are read; who holds others
 * puts them back in any order.
 *  2. A piece that is not free belongs to the kernel or to its taker: memory is only freed when all
 *     are.
 */
#include "egroup/ahead.h"

#include <errno.h>
#include <stdlib.h>

#include "egroup/store_priv.h"

struct ahead {
	struct ahead_options options;
	uint32_t next;           /* block to be read; the last is before options.end */
	unsigned taken, reading; /* a place in the ring, and how many from there */
	unsigned busy;           /* pieces that are not free */
	struct fiber_queue changed;
	char *memory;
	struct ahead_piece pieces[AHEAD_PIECES + 1]; /* and the one that is lent */
};

static void piece_changes(struct ahead_piece *piece, enum ahead_state state)
{
	piece->state = state;
	fiber_queue_wake_all(&piece->ahead->changed);
}

static void piece_read(struct pool_read *read, int64_t result)
{
	struct ahead_piece *piece = CONTAINER_OF(read, struct ahead_piece, read);

	if (result >= 0)
		result = (uint64_t)result < piece->iov.iov_len ? -ENODATA : 0;
	piece->result = (int)result;
	piece_changes(piece, AHEAD_READ);
}

static void read_piece(struct ahead *ahead, struct ahead_piece *piece, uint32_t blocks)
{
	piece->state = AHEAD_READING;
	piece->first = ahead->next;
	piece->blocks = blocks;
	piece->iov = (struct iovec){piece->buffer, (size_t)blocks * BLOCK_BYTES};
	ahead->next += blocks;
	ahead->reading++;
	ahead->busy++;
	pool_file_read_copy(egroup_file_handle(ahead->options.file), ahead->options.copy,
			    &piece->iov, (uint64_t)piece->first << BLOCK_SHIFT, &piece->read);
}

static void read_more(struct ahead *ahead)
{
	while (ahead->next < ahead->options.end) {
		struct ahead_piece *piece =
			&ahead->pieces[(ahead->taken + ahead->reading) % AHEAD_PIECES];
		struct egroup_pace pace = {AHEAD_BLOCKS, AHEAD_PIECES};

		if (ahead->options.pace)
			ahead->options.pace(ahead->options.arg, &pace);
		ASSERT(pace.blocks > 0 && pace.blocks <= AHEAD_BLOCKS && pace.pieces > 0);
		if (piece->state != AHEAD_FREE || ahead->busy >= pace.pieces)
			return;
		read_piece(ahead, piece, MIN(pace.blocks, ahead->options.end - ahead->next));
	}
}

void ahead_begin(struct ahead *ahead, const struct ahead_options *options)
{
	ASSERT(ahead->busy == 0 && ahead->reading == 0);
	ahead->options = *options;
	ahead->next = options->first;
}

struct ahead_piece *ahead_next(struct ahead *ahead)
{
	struct ahead_piece *piece = &ahead->pieces[ahead->taken];

	read_more(ahead);
	while (ahead->reading == 0 ? ahead->next < ahead->options.end
				   : piece->state != AHEAD_READ) {
		fiber_queue_wait(&ahead->changed);
		read_more(ahead);
	}
	if (ahead->reading == 0)
		return NULL;
	ahead->taken = (ahead->taken + 1) % AHEAD_PIECES;
	ahead->reading--;
	piece->state = AHEAD_TAKEN;
	return piece;
}

void ahead_put(struct ahead_piece *piece)
{
	ASSERT(piece->state == AHEAD_TAKEN);
	piece->ahead->busy--;
	piece_changes(piece, AHEAD_FREE);
}

struct ahead_piece *ahead_lend(struct ahead *ahead, char *buffer, uint32_t first, uint32_t blocks)
{
	struct ahead_piece *piece = &ahead->pieces[AHEAD_PIECES];

	ASSERT(piece->state == AHEAD_FREE);
	piece->state = AHEAD_TAKEN;
	piece->buffer = buffer;
	piece->first = first;
	piece->blocks = blocks;
	ahead->busy++;
	return piece;
}

void ahead_settle(struct ahead *ahead)
{
	struct ahead_piece *piece;

	ahead->options.end = ahead->next;
	while (ahead->reading > 0 && (piece = ahead_next(ahead)))
		ahead_put(piece);
	while (ahead->busy > 0)
		fiber_queue_wait(&ahead->changed);
}

int ahead_new(struct ahead **ret_ahead)
{
	_cleanup_free_ struct ahead *ahead = calloc(1, sizeof(*ahead));

	if (!ahead)
		return -ENOMEM;
	ahead->memory =
		aligned_alloc(BLOCK_BYTES, (size_t)AHEAD_PIECES * AHEAD_BLOCKS * BLOCK_BYTES);
	if (!ahead->memory)
		return -ENOMEM;
	fiber_queue_init(&ahead->changed);
	for (unsigned i = 0; i <= AHEAD_PIECES; i++) {
		struct ahead_piece *piece = &ahead->pieces[i];

		piece->index = i;
		piece->ahead = ahead;
		piece->read.done = piece_read;
		if (i < AHEAD_PIECES)
			piece->buffer = ahead->memory + (size_t)i * AHEAD_BLOCKS * BLOCK_BYTES;
	}
	*ret_ahead = TAKE_PTR(ahead);
	return 0;
}

void ahead_free(struct ahead *ahead)
{
	if (!ahead)
		return;
	ASSERT(ahead->busy == 0);
	free(ahead->memory);
	free(ahead);
}
