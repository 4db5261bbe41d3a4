/* SPDX-License-Identifier: Apache-2.0 */
/* See pool_piece.h. */
#include "pool/pool_piece.h"

#include <stdlib.h>

static void drop_memory(struct pool_piece *piece)
{
	free(piece->iov.iov_base);
	piece->iov.iov_base = NULL;
	piece->memory_bytes = 0;
}

/* The smallest that is large enough; else any. NULL: none is kept. */
static struct pool_piece *pick(struct pool_watch *watch, size_t length)
{
	struct pool_piece **best = NULL, *piece;

	for (struct pool_piece **at = &watch->pieces; *at; at = &(*at)->next)
		if ((*at)->memory_bytes >= length &&
		    (!best || (*at)->memory_bytes < (*best)->memory_bytes))
			best = at;
	if (!best)
		best = &watch->pieces;
	piece = *best;
	if (!piece)
		return NULL;
	*best = piece->next;
	watch->piece_count--;
	return piece;
}

static bool has_memory(struct pool_piece *piece, size_t length)
{
	if (piece->memory_bytes >= length)
		return true;
	drop_memory(piece);
	piece->iov.iov_base = aligned_alloc(POOL_PAGE_BYTES, length);
	if (!piece->iov.iov_base)
		return false;
	piece->memory_bytes = length;
	return true;
}

struct pool_piece *pool_piece_take(struct pool *pool, size_t length)
{
	struct pool_watch *watch = pool_watch_of(pool);
	struct pool_piece *piece = pick(watch, length);

	if (!piece)
		piece = calloc(1, sizeof(*piece));
	if (!piece)
		return NULL;
	piece->watch = watch;
	if (!has_memory(piece, length)) {
		pool_piece_put(piece);
		return NULL;
	}
	*piece = (struct pool_piece){
		.watch = watch,
		.iov = {piece->iov.iov_base, length},
		.memory_bytes = piece->memory_bytes,
	};
	return piece;
}

void pool_piece_put(struct pool_piece *piece)
{
	struct pool_watch *watch = piece->watch;

	if (piece->memory_bytes > POOL_PIECE_MEMORY)
		drop_memory(piece);
	if (watch->stopped || watch->piece_count == POOL_PIECES_KEPT) {
		drop_memory(piece);
		free(piece);
		return;
	}
	piece->next = watch->pieces;
	watch->pieces = piece;
	watch->piece_count++;
}

void pool_pieces_trim(struct pool_watch *watch)
{
	for (struct pool_piece *piece = watch->pieces; piece; piece = piece->next)
		drop_memory(piece);
}

void pool_pieces_done(struct pool_watch *watch)
{
	watch->stopped = true;
	while (watch->pieces) {
		struct pool_piece *piece = watch->pieces;

		watch->pieces = piece->next;
		watch->piece_count--;
		drop_memory(piece);
		free(piece);
	}
}
