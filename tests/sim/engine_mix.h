/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the clients of the engine's simulation do: each seed draws its own mix of operations and
 * places, so that some do little but unmap whole MiB, some meet in one block all the time, and some
 * never flush. With some seeds the clients turn from one way of writing to the other, again and
 * again: all go on together where the last write ended, or each writes anywhere.
 */
#include "block/chance.h"

enum mix_action {
	MIX_FLUSH,
	MIX_CHECKPOINT,
	MIX_READ,
	MIX_WRITE,
	MIX_WRITE_FUA,
	MIX_ZERO,
	MIX_UNMAP,
	MIX_SWAP, /* compare and write */
	MIX_STATUS,
	MIX_CHECK, /* of the whole vDisk, while others work on it */
	MIX_ACTIONS
};

enum mix_place {
	MIX_SECTORS, /* any sectors */
	MIX_SPOT,    /* parts of a few blocks, where others write, too */
	MIX_BLOCKS,
	MIX_MANY, /* up to 1 MiB */
	MIX_MIBS, /* whole leaves of the map; many of them where there is no data */
	MIX_PLACES
};

struct mix {
	unsigned actions[MIX_ACTIONS]; /* weights */
	unsigned places[MIX_PLACES];
	unsigned hot_quarters; /* this share goes to the first `hot_blocks` */
	uint64_t hot_blocks;
	uint64_t spot_blocks;
	unsigned idle; /* a client pauses after one of so many operations */
	unsigned turn; /* the clients write in another way after so many writes; 0: they never do */
	unsigned left; /* of these */
	bool sequential;
	uint64_t next; /* sector, of what is written in sequence */
};

struct mix_range {
	uint64_t first, count; /* sectors */
};

/* `usual`: the weights as they stand, nothing drawn. */
void mix_init(struct mix *mix, struct chance *chance, bool usual);
/* Whether they turn from now on, and after how many writes. */
void mix_draw_turn(struct mix *mix, struct chance *chance);
enum mix_action mix_draw_action(const struct mix *mix, struct chance *chance);
/* Neither unmaps nor zeroes nor asks. */
bool mix_moves_data(enum mix_action action);
/* Inside `sectors`, at least 4 MiB; whole where the place says so. */
struct mix_range mix_draw_range(struct mix *mix, struct chance *chance, enum mix_action action,
				uint64_t sectors);
