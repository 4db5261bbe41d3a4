/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_mix.h"

#include "base/macros.h"

#define MIB_SECTORS   2048u
#define BLOCK_SECTORS 8u
#define SPOT_BLOCK    19u /* where the spot begins */
#define HOLE_MIBS     8u  /* zeroed at once, at most */
/* Writes in one way, so that it is told in time: it takes 8 MiB. */
#define TURN_LEAST 12u
#define TURN_MORE  16u

static const unsigned usual_actions[MIX_ACTIONS] = {
	[MIX_FLUSH] = 8,     [MIX_CHECKPOINT] = 2, [MIX_READ] = 20, [MIX_WRITE] = 45,
	[MIX_WRITE_FUA] = 5, [MIX_ZERO] = 6,       [MIX_UNMAP] = 8, [MIX_SWAP] = 4,
	[MIX_STATUS] = 2,    [MIX_CHECK] = 1,
};

static const unsigned usual_places[MIX_PLACES] = {
	[MIX_SECTORS] = 5, [MIX_SPOT] = 3, [MIX_BLOCKS] = 10, [MIX_MANY] = 4, [MIX_MIBS] = 2,
};

/* Some not at all, some much more often. */
static unsigned draw_weight(struct chance *chance, unsigned usual)
{
	static const unsigned factors[] = {0, 1, 1, 1, 1, 2, 4, 8};

	return usual * factors[chance_below(chance, ARRAY_SIZE(factors))];
}

void mix_draw_turn(struct mix *mix, struct chance *chance)
{
	mix->turn = 0;
	if (chance_below(chance, 4))
		mix->turn = TURN_LEAST + (unsigned)chance_below(chance, TURN_MORE);
	mix->left = 0;
}

void mix_init(struct mix *mix, struct chance *chance, bool usual)
{
	static const uint64_t hot[] = {32, 256, 256, 2048};

	*mix = (struct mix){.hot_quarters = 2, .hot_blocks = 256, .spot_blocks = 2, .idle = 8};
	for (unsigned i = 0; i < MIX_ACTIONS; i++)
		mix->actions[i] = usual ? usual_actions[i] : draw_weight(chance, usual_actions[i]);
	for (unsigned i = 0; i < MIX_PLACES; i++)
		mix->places[i] = usual ? usual_places[i] : draw_weight(chance, usual_places[i]);
	/* Nothing is seen without some of each of these. */
	mix->actions[MIX_WRITE] = MAX(mix->actions[MIX_WRITE], usual_actions[MIX_WRITE]);
	mix->actions[MIX_READ] = MAX(mix->actions[MIX_READ], usual_actions[MIX_READ]);
	mix->places[MIX_BLOCKS] = MAX(mix->places[MIX_BLOCKS], 1u);
	if (usual)
		return;
	mix->hot_quarters = (unsigned)chance_below(chance, 4);
	mix->hot_blocks = hot[chance_below(chance, ARRAY_SIZE(hot))];
	mix->spot_blocks = 1 + chance_below(chance, 3);
	mix->idle = 2 + (unsigned)chance_below(chance, 14);
	mix_draw_turn(mix, chance);
}

static unsigned draw(struct chance *chance, const unsigned *weights, unsigned count)
{
	uint64_t total = 0, at;
	unsigned i = 0;

	for (unsigned k = 0; k < count; k++)
		total += weights[k];
	at = chance_below(chance, total);
	while (at >= weights[i])
		at -= weights[i++];
	return i;
}

enum mix_action mix_draw_action(const struct mix *mix, struct chance *chance)
{
	return (enum mix_action)draw(chance, mix->actions, MIX_ACTIONS);
}

bool mix_moves_data(enum mix_action action)
{
	return action != MIX_ZERO && action != MIX_UNMAP && action != MIX_STATUS;
}

/* `count` units of `unit` sectors somewhere, often in the hot part. */
static struct mix_range place(const struct mix *mix, struct chance *chance, uint64_t count,
			      uint64_t unit, uint64_t sectors)
{
	uint64_t places = (sectors - count * unit) / unit + 1;
	uint64_t hot = MAX(mix->hot_blocks * BLOCK_SECTORS / unit, UINT64_C(1));

	if (chance_below(chance, 4) < mix->hot_quarters)
		places = MIN(places, hot);
	return (struct mix_range){chance_below(chance, places) * unit, count * unit};
}

/* The next in sequence, not beyond its MiB: the next one may lie elsewhere on the vDisk. */
static struct mix_range go_on(struct mix *mix, struct chance *chance, uint64_t sectors)
{
	uint64_t count = (128 + chance_below(chance, 129)) * BLOCK_SECTORS;
	struct mix_range range;

	if (mix->next >= sectors)
		mix->next = 0;
	range = (struct mix_range){mix->next, MIN(count, MIB_SECTORS - mix->next % MIB_SECTORS)};
	mix->next += range.count;
	return range;
}

/* What a client writes whose way of writing shall be told. */
static struct mix_range turning(struct mix *mix, struct chance *chance, uint64_t sectors)
{
	if (mix->left == 0) {
		mix->left = mix->turn;
		mix->sequential = !mix->sequential;
		mix->next = chance_below(chance, sectors / MIB_SECTORS) * MIB_SECTORS;
	}
	mix->left--;
	if (mix->sequential)
		return go_on(mix, chance, sectors);
	return place(mix, chance, 64 + chance_below(chance, 128), BLOCK_SECTORS, sectors);
}

struct mix_range mix_draw_range(struct mix *mix, struct chance *chance, enum mix_action action,
				uint64_t sectors)
{
	uint64_t mibs;

	if (mix->turn && action == MIX_WRITE && chance_below(chance, 16))
		return turning(mix, chance, sectors);
	switch ((enum mix_place)draw(chance, mix->places, MIX_PLACES)) {
	case MIX_SECTORS:
		return place(mix, chance, 1 + chance_below(chance, 24), 1, sectors);
	case MIX_SPOT:
		return (struct mix_range){
			SPOT_BLOCK * BLOCK_SECTORS +
				chance_below(chance, mix->spot_blocks * BLOCK_SECTORS),
			1 + chance_below(chance, 4)};
	case MIX_MANY:
		return place(mix, chance, 1 + chance_below(chance, MIB_SECTORS / BLOCK_SECTORS),
			     BLOCK_SECTORS, sectors);
	case MIX_MIBS:
		mibs = mix_moves_data(action) ? 1 : 1 + chance_below(chance, HOLE_MIBS);
		return place(mix, chance, MIN(mibs, sectors / MIB_SECTORS), MIB_SECTORS, sectors);
	case MIX_BLOCKS:
	case MIX_PLACES:
		break;
	}
	return place(mix, chance, 1 + chance_below(chance, 8), BLOCK_SECTORS, sectors);
}
