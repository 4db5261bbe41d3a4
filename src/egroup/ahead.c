/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See ahead.h. Pieces are a ring: they are read, used and put back in order.
 *
 * Invariants
 *  1. pieces[taken .. taken + reading) of the ring are being read or are read; who holds others
 * puts them back in any order.
 *  2. A piece that is not free belongs to the kernel or to its taker, and has a buffer but where
 *     there was none. A buffer that a disk which hangs keeps is not the piece's any more.
 */
#include "egroup/ahead.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/reached.h"
#include "egroup/store_priv.h"

#define MEMORY_COUNT (AHEAD_PIECES + 1 + AHEAD_HELD_MAX)

struct ahead {
	struct ahead_options options;
	uint32_t next;           /* block to be read; the last is before options.end */
	unsigned taken, reading; /* a place in the ring, and how many from there */
	unsigned busy;           /* pieces that are not free */
	struct fiber_queue changed;
	struct pool_buffers *buffers;
	struct ahead_piece pieces[AHEAD_PIECES + 1]; /* and the one that is made */
};

static void piece_changes(struct ahead_piece *piece, enum ahead_state state)
{
	piece->state = state;
	fiber_queue_wake_all(&piece->ahead->changed);
}

/* False: there is none. */
static bool take_memory(struct ahead_piece *piece)
{
	piece->memory = pool_buffers_take(piece->ahead->buffers);
	piece->buffer = piece->memory ? piece->memory->memory : NULL;
	return piece->memory;
}

/* A disk that hangs keeps the buffer; the piece goes on with another. */
static void leave_memory(struct ahead_piece *piece)
{
	REACHED("ahead.memory-left");
	pool_buffer_put(piece->memory);
	(void)take_memory(piece); /* whoever uses the piece looks */
}

static void piece_read(struct pool_buffer *memory, int64_t result)
{
	struct ahead_piece *piece = memory->arg;

	if (result >= 0)
		result = (uint64_t)result < (uint64_t)piece->blocks * BLOCK_BYTES ? -ENODATA : 0;
	if (UNLIKELY(pool_buffer_is_held(memory)))
		leave_memory(piece);
	piece->result = piece->memory ? (int)result : -ENOMEM;
	piece_changes(piece, AHEAD_READ);
}

static void read_piece(struct ahead *ahead, struct ahead_piece *piece, uint32_t blocks)
{
	piece->first = ahead->next;
	piece->blocks = blocks;
	ahead->next += blocks;
	ahead->reading++;
	ahead->busy++;
	if (!take_memory(piece)) {
		REACHED("ahead.no-memory");
		piece->result = -ENOMEM;
		piece_changes(piece, AHEAD_READ);
		return;
	}
	piece->state = AHEAD_READING;
	piece->memory->arg = piece;
	piece->memory->done = piece_read;
	pool_buffer_read(piece->memory, egroup_file_handle(ahead->options.file),
			 ahead->options.copy, (size_t)blocks * BLOCK_BYTES,
			 (uint64_t)piece->first << BLOCK_SHIFT);
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
	ASSERT(ahead->reading == 0 &&
	       ahead->busy == (ahead->pieces[AHEAD_PIECES].state != AHEAD_FREE));
	ahead->options = *options;
	ahead->next = options->first;
}

/* Memory for what will be under way at a time, and for a piece that is made. */
static void prepare(struct ahead *ahead)
{
	struct egroup_pace pace = {AHEAD_BLOCKS, AHEAD_PIECES};
	uint32_t left = ahead->options.end - ahead->next;

	if (ahead->options.pace)
		ahead->options.pace(ahead->options.arg, &pace);
	pool_buffers_prepare(ahead->buffers,
			     MIN(DIV_ROUND_UP(left, pace.blocks), (uint32_t)pace.pieces) + 1);
}

struct ahead_piece *ahead_next(struct ahead *ahead)
{
	struct ahead_piece *piece = &ahead->pieces[ahead->taken];

	if (ahead->next < ahead->options.end)
		prepare(ahead);
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
	pool_buffer_put(TAKE_PTR(piece->memory));
	piece->buffer = NULL;
	piece->ahead->busy--;
	piece_changes(piece, AHEAD_FREE);
}

static void piece_written(struct pool_buffer *memory, int64_t result)
{
	struct ahead_piece *piece = memory->arg;

	piece->written(piece->arg, piece, (int)result);
	ahead_put(piece);
}

void ahead_write(struct ahead_piece *piece, const struct ahead_target *target)
{
	ASSERT(piece->state == AHEAD_TAKEN && piece->memory);
	piece->written = target->written;
	piece->arg = target->arg;
	piece->memory->arg = piece;
	piece->memory->done = piece_written;
	pool_buffer_write(piece->memory, target->file, target->copy,
			  (size_t)piece->blocks * BLOCK_BYTES,
			  (uint64_t)piece->first << BLOCK_SHIFT);
}

struct ahead_piece *ahead_make(struct ahead *ahead, const void *memory, uint32_t first,
			       uint32_t blocks)
{
	struct ahead_piece *piece = &ahead->pieces[AHEAD_PIECES];

	ASSERT(piece->state == AHEAD_FREE && blocks <= AHEAD_BLOCKS);
	if (!take_memory(piece))
		return NULL;
	memcpy(piece->buffer, memory, (size_t)blocks * BLOCK_BYTES);
	piece->state = AHEAD_TAKEN;
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
	int r;

	if (!ahead)
		return -ENOMEM;
	r = pool_buffers_new((size_t)AHEAD_BLOCKS * BLOCK_BYTES, MEMORY_COUNT, &ahead->buffers);
	if (r < 0)
		return r;
	fiber_queue_init(&ahead->changed);
	for (unsigned i = 0; i < ARRAY_SIZE(ahead->pieces); i++)
		ahead->pieces[i].ahead = ahead;
	*ret_ahead = TAKE_PTR(ahead);
	return 0;
}

void ahead_free(struct ahead *ahead)
{
	if (!ahead)
		return;
	ASSERT(ahead->busy == 0);
	pool_buffers_free(ahead->buffers);
	free(ahead);
}
