/* SPDX-License-Identifier: Apache-2.0 */
/* Placement against its rules, over thousands of random sets of disks, and how it spreads. */
#include "pool/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/macros.h"

#define DISKS_MAX 10000u

static uint64_t state = 1;

static uint64_t draw(void)
{
	uint64_t z = (state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static uint64_t below(uint64_t bound)
{
	return draw() % bound;
}

static void draw_disks(struct placement_disk *disks, unsigned count)
{
	unsigned domains = 1 + (unsigned)below(count), tiers = 1 + (unsigned)below(4);
	unsigned bad = (unsigned)below(4);

	for (unsigned i = 0; i < count; i++) {
		disks[i] = (struct placement_disk){
			.id = 1000 + i,
			.capacity_bytes = GIB * (1 + below(100)),
			.domain = (uint32_t)below(domains),
			.busy = (uint32_t)below(100),
			.tier = (uint8_t)below(tiers),
			.usable = below(4) >= bad,
		};
		disks[i].free_bytes = below(disks[i].capacity_bytes + 1);
	}
}

static struct placement_want draw_want(const struct placement_disk *disks, unsigned count)
{
	struct placement_want want = {
		.copies = 1 + (unsigned)below(3),
		.bytes = MIB << below(12),
		.tier_count = (unsigned)below(5),
		.random = draw(),
	};

	for (unsigned i = 0; i < want.tier_count; i++)
		want.tiers[i] = (uint8_t)i;
	for (unsigned i = 0; i < PLACEMENT_AVOID_MAX; i++)
		if (below(3) == 0)
			want.avoid[i] = disks[below(count)].id;
	return want;
}

static bool is_avoided(const struct placement_want *want, uint64_t id)
{
	for (unsigned i = 0; i < PLACEMENT_AVOID_MAX; i++)
		if (want->avoid[i] == id)
			return true;
	return false;
}

static bool may_have(const struct placement_want *want, const struct placement_disk *disk)
{
	return disk->usable && disk->free_bytes >= want->bytes && !is_avoided(want, disk->id);
}

/* How many different domains could have been had. */
static unsigned domains_of(const struct placement_disk *disks, unsigned count,
			   const struct placement_want *want)
{
	unsigned domains = 0;

	for (unsigned i = 0; i < count && domains < 3; i++) {
		bool fresh = may_have(want, &disks[i]);

		for (unsigned j = 0; j < i && fresh; j++)
			fresh = !may_have(want, &disks[j]) || disks[j].domain != disks[i].domain;
		domains += fresh;
	}
	return domains;
}

static void check_choice(const struct placement_disk *disks, unsigned count,
			 const struct placement_want *want)
{
	unsigned indexes[PLACEMENT_COPIES_MAX], again[PLACEMENT_COPIES_MAX], possible = 0;
	unsigned found = placement_choose(disks, count, want, indexes), domains = 0;

	for (unsigned i = 0; i < count; i++)
		possible += may_have(want, &disks[i]);
	assert_int_equal(found, MIN(possible, want->copies));
	for (unsigned i = 0; i < found; i++) {
		bool fresh = true;

		assert_true(indexes[i] < count && may_have(want, &disks[indexes[i]]));
		for (unsigned j = 0; j < i; j++) {
			assert_true(indexes[i] != indexes[j]);
			fresh = fresh && disks[indexes[i]].domain != disks[indexes[j]].domain;
		}
		domains += fresh;
	}
	assert_int_equal(domains, MIN(domains_of(disks, count, want), found));
	assert_int_equal(placement_choose(disks, count, want, again), found);
	for (unsigned i = 0; i < found; i++)
		assert_int_equal(indexes[i], again[i]);
}

static void holds_the_rules(void **unused)
{
	struct placement_disk *disks = calloc(DISKS_MAX, sizeof(*disks));

	(void)unused;
	assert_non_null(disks);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned count = 1 + (unsigned)below(round % 50 ? 40 : 400);
		struct placement_want want;

		draw_disks(disks, count);
		want = draw_want(disks, count);
		check_choice(disks, count, &want);
	}
	free(disks);
}

/* The first copy goes to the best tier there is, among disks that are otherwise alike. */
static void prefers_tiers(void **unused)
{
	struct placement_disk disks[64];

	(void)unused;
	for (unsigned round = 0; round < 1000; round++) {
		unsigned count = 2 + (unsigned)below(62), indexes[PLACEMENT_COPIES_MAX];
		struct placement_want want = {.copies = 1,
					      .bytes = MIB,
					      .tiers = {2, 1},
					      .tier_count = 2,
					      .random = draw()};
		bool has[4] = {0};

		for (unsigned i = 0; i < count; i++) {
			disks[i] = (struct placement_disk){.id = i + 1,
							   .capacity_bytes = GIB,
							   .free_bytes = GIB,
							   .domain = i,
							   .tier = (uint8_t)below(4),
							   .usable = true};
			has[disks[i].tier] = true;
		}
		assert_int_equal(placement_choose(disks, count, &want, indexes), 1);
		if (has[2])
			assert_int_equal(disks[indexes[0]].tier, 2);
		else if (has[1])
			assert_int_equal(disks[indexes[0]].tier, 1);
	}
}

static void draw_alike(struct placement_disk *disks, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		disks[i] = (struct placement_disk){.id = i + 1,
						   .capacity_bytes = GIB,
						   .free_bytes = MIB * (1 + below(1024)),
						   .busy = (uint32_t)below(10),
						   .domain = i,
						   .tier = (uint8_t)below(2),
						   .usable = below(8) > 0};
}

/* Whether a disk of that tier could have had it that was not used as lately. */
static bool has_better(const struct placement_disk *disks, unsigned count,
		       const struct placement_want *want, unsigned chosen)
{
	unsigned since = want->recent_count;

	for (unsigned i = 0; i < want->recent_count; i++)
		if (want->recent[i] == disks[chosen].id)
			since = i;
	for (unsigned i = 0; i < count; i++) {
		unsigned at = 0;

		while (at < want->recent_count && want->recent[at] != disks[i].id)
			at++;
		if (may_have(want, &disks[i]) && disks[i].tier == disks[chosen].tier && at > since)
			return true;
	}
	return false;
}

/* Never at the price of a tier, never as an error, never where another of the tier would do. */
static void spares_what_was_used_lately(void **unused)
{
	struct placement_disk disks[100];
	uint64_t recent[64];

	(void)unused;
	for (unsigned round = 0; round < 20000; round++) {
		unsigned count = 1 + (unsigned)below(100), indexes[PLACEMENT_COPIES_MAX];
		unsigned first = (unsigned)below(count);
		struct placement_want want = {
			.copies = 1,
			.bytes = 64 * MIB,
			.tiers = {1},
			.tier_count = 1,
			.random = draw(),
			.recent = recent,
			.recent_count = (unsigned)below(MIN(count, 64u) + 1),
		};
		unsigned possible[2] = {0};

		draw_alike(disks, count);
		for (unsigned i = 0; i < want.recent_count; i++)
			recent[i] = disks[(first + i) % count].id;
		for (unsigned i = 0; i < count; i++)
			if (may_have(&want, &disks[i]))
				possible[disks[i].tier]++;
		if (placement_choose(disks, count, &want, indexes) == 0) {
			assert_int_equal(possible[0] + possible[1], 0);
			continue;
		}
		assert_int_equal(disks[indexes[0]].tier, possible[1] > 0);
		assert_false(has_better(disks, count, &want, indexes[0]));
	}
}

/* A disk without which the others cannot be filled comes before what was used lately. */
static void keeps_what_others_need(void **unused)
{
	const uint64_t recent[] = {3};
	struct placement_disk disks[] = {
		{.id = 1, .capacity_bytes = GIB, .free_bytes = GIB, .domain = 1, .usable = true},
		{.id = 2, .capacity_bytes = GIB, .free_bytes = GIB, .domain = 2, .usable = true},
		{.id = 3,
		 .capacity_bytes = 8 * GIB,
		 .free_bytes = 3 * GIB,
		 .domain = 3,
		 .usable = true},
	};
	struct placement_want want = {
		.copies = 2, .bytes = MIB, .random = 1, .recent = recent, .recent_count = 1};
	unsigned indexes[PLACEMENT_COPIES_MAX];

	(void)unused;
	assert_int_equal(placement_choose(disks, 3, &want, indexes), 2);
	assert_true(indexes[0] != 2 && indexes[1] != 2);
	want.needed_bytes = 2 * GIB;
	assert_int_equal(placement_choose(disks, 3, &want, indexes), 2);
	assert_int_equal(indexes[0], 2);
	want.needed_bytes = 3 * GIB;
	assert_int_equal(placement_choose(disks, 3, &want, indexes), 2);
	assert_true(indexes[0] != 2 && indexes[1] != 2);
}

/* 10,000 disks, one of them new and empty: it does not get everything, and all fill alike. */
static void spreads_over_many(void **unused)
{
	struct placement_disk *disks = calloc(DISKS_MAX, sizeof(*disks));
	uint64_t least = UINT64_MAX, most = 0;
	unsigned empty = 0;

	(void)unused;
	assert_non_null(disks);
	for (unsigned i = 0; i < DISKS_MAX; i++)
		disks[i] = (struct placement_disk){.id = i + 1,
						   .capacity_bytes = 1024 * MIB,
						   .free_bytes = (i ? 512 : 1024) * MIB,
						   .domain = i,
						   .usable = true};
	for (unsigned round = 0; round < 20 * DISKS_MAX; round++) {
		struct placement_want want = {.copies = 2, .bytes = MIB, .random = draw()};
		unsigned indexes[PLACEMENT_COPIES_MAX];

		assert_int_equal(placement_choose(disks, DISKS_MAX, &want, indexes), 2);
		for (unsigned i = 0; i < 2; i++) {
			disks[indexes[i]].free_bytes -= MIB;
			empty += indexes[i] == 0;
		}
	}
	for (unsigned i = 1; i < DISKS_MAX; i++) {
		least = MIN(least, disks[i].free_bytes);
		most = MAX(most, disks[i].free_bytes);
	}
	assert_true(most - least <= 8 * MIB);
	assert_true(empty > 100 && empty < 20 * DISKS_MAX / 100);
	free(disks);
}

static void finds_the_only_one(void **unused)
{
	struct placement_disk *disks = calloc(DISKS_MAX, sizeof(*disks));
	struct placement_want want = {.copies = 3, .bytes = MIB, .random = 7};
	unsigned indexes[PLACEMENT_COPIES_MAX];

	(void)unused;
	assert_non_null(disks);
	assert_int_equal(placement_choose(disks, 0, &want, indexes), 0);
	for (unsigned i = 0; i < DISKS_MAX; i++)
		disks[i] = (struct placement_disk){
			.id = i + 1, .capacity_bytes = GIB, .free_bytes = GIB};
	assert_int_equal(placement_choose(disks, DISKS_MAX, &want, indexes), 0);
	disks[7777].usable = true;
	assert_int_equal(placement_choose(disks, DISKS_MAX, &want, indexes), 1);
	assert_int_equal(indexes[0], 7777);
	want.avoid[2] = disks[7777].id;
	assert_int_equal(placement_choose(disks, DISKS_MAX, &want, indexes), 0);
	free(disks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_the_rules),
		cmocka_unit_test(prefers_tiers),
		cmocka_unit_test(spares_what_was_used_lately),
		cmocka_unit_test(keeps_what_others_need),
		cmocka_unit_test(spreads_over_many),
		cmocka_unit_test(finds_the_only_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
