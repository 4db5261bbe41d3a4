/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See placement.h. One copy after the other: some disks are drawn at random, the best of those that
 * may have the copy gets it. When none of those drawn may, all are looked at, from a random place
 * on.
 *
 * With at most SAMPLES disks all of them are looked at anyway, so the choice is then the best there
 * is.
 */
#include "pool/placement.h"

#include <string.h>

#include "base/macros.h"

#define SAMPLES    16u
#define BUSY_SCALE 64u /* operations under way that count as much as all of the free share */

struct candidate {
	bool found;
	unsigned index;
	bool shares_domain;
	unsigned tier_rank;
	bool needed;
	unsigned recency; /* 0 = not lately; the greater the later */
	uint64_t score;   /* free share in 1/65536, less for what is under way */
};

static uint64_t next_random(uint64_t *state)
{
	/* splitmix64 */
	uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static unsigned random_below(uint64_t *state, unsigned bound)
{
	return (unsigned)(((next_random(state) >> 32) * bound) >> 32);
}

struct choice { /* in the making */
	const struct placement_disk *disks;
	const struct placement_want *want;
	unsigned *indexes;
	unsigned found;
};

static bool is_allowed(const struct choice *choice, unsigned index)
{
	const struct placement_disk *disk = &choice->disks[index];

	if (!disk->usable || disk->free_bytes < choice->want->bytes)
		return false;
	for (unsigned i = 0; i < PLACEMENT_AVOID_MAX; i++)
		if (choice->want->avoid[i] != 0 && choice->want->avoid[i] == disk->id)
			return false;
	for (unsigned i = 0; i < choice->found; i++)
		if (choice->indexes[i] == index || choice->disks[choice->indexes[i]].id == disk->id)
			return false;
	return true;
}

static bool shares_domain(const struct choice *choice, const struct placement_disk *disk)
{
	for (unsigned i = 0; i < choice->found; i++)
		if (choice->disks[choice->indexes[i]].domain == disk->domain)
			return true;
	for (unsigned i = 0; i < choice->want->avoid_domain_count; i++)
		if (choice->want->avoid_domains[i] == disk->domain)
			return true;
	return false;
}

static unsigned tier_rank(const struct placement_want *want, uint8_t tier)
{
	for (unsigned i = 0; i < want->tier_count; i++)
		if (want->tiers[i] == tier)
			return i;
	return want->tier_count;
}

static unsigned recency_of(const struct placement_want *want, uint64_t id)
{
	for (unsigned i = 0; i < want->recent_count; i++)
		if (want->recent[i] == id)
			return want->recent_count - i;
	return 0;
}

static uint64_t score_of(const struct placement_disk *disk)
{
	uint64_t capacity = MAX(disk->capacity_bytes, UINT64_C(1));
	uint64_t free_bytes = MIN(disk->free_bytes, capacity);
	uint64_t share = (uint64_t)((unsigned __int128)free_bytes * 65536 / capacity);

	return share * BUSY_SCALE / (BUSY_SCALE + disk->busy);
}

static bool is_better(const struct candidate *a, const struct candidate *b)
{
	if (!b->found)
		return true;
	if (a->shares_domain != b->shares_domain)
		return !a->shares_domain;
	if (a->tier_rank != b->tier_rank)
		return a->tier_rank < b->tier_rank;
	if (a->needed != b->needed)
		return a->needed;
	if (a->recency != b->recency)
		return a->recency < b->recency;
	return a->score > b->score;
}

/* The better one stays in *best; the first of equals. */
static void consider(const struct choice *choice, unsigned index, struct candidate *best)
{
	const struct placement_disk *disk = &choice->disks[index];
	struct candidate candidate;

	if (!is_allowed(choice, index))
		return;
	candidate = (struct candidate){
		.found = true,
		.index = index,
		.shares_domain = shares_domain(choice, disk),
		.tier_rank = tier_rank(choice->want, disk->tier),
		.needed = choice->want->needed_bytes > 0 &&
			  disk->free_bytes > choice->want->needed_bytes,
		.recency = recency_of(choice->want, disk->id),
		.score = score_of(disk),
	};
	if (is_better(&candidate, best))
		*best = candidate;
}

static void consider_all(const struct choice *choice, unsigned count, unsigned first,
			 struct candidate *best)
{
	for (unsigned i = 0; i < count; i++)
		consider(choice, (first + i) % count, best);
}

/* A draw that knows only bad places is no reason to take one of them. */
static bool is_good(const struct choice *choice, const struct candidate *best)
{
	return best->found && !best->shares_domain && best->tier_rank == 0 && best->recency == 0 &&
	       (choice->want->needed_bytes == 0 || best->needed);
}

static struct candidate choose_one(const struct choice *choice, unsigned count, uint64_t *random)
{
	struct candidate best = {0};

	if (count > SAMPLES)
		for (unsigned i = 0; i < SAMPLES; i++)
			consider(choice, random_below(random, count), &best);
	if (!is_good(choice, &best))
		consider_all(choice, count, random_below(random, count), &best);
	return best;
}

unsigned placement_choose(const struct placement_disk *disks, unsigned count,
			  const struct placement_want *want,
			  unsigned ret_indexes[PLACEMENT_COPIES_MAX])
{
	struct choice choice = {.disks = disks, .want = want, .indexes = ret_indexes};
	uint64_t random = want->random;

	ASSERT(want->copies > 0 && want->copies <= PLACEMENT_COPIES_MAX);
	ASSERT(want->tier_count <= PLACEMENT_TIERS_MAX);
	while (count > 0 && choice.found < want->copies) {
		struct candidate best = choose_one(&choice, count, &random);

		if (!best.found)
			break;
		ret_indexes[choice.found++] = best.index;
	}
	return choice.found;
}
