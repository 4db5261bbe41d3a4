/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: how many choices of two disks among --disks=N (10,000) one core makes in a second, the
 * disks being as full as use has made them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "bench_rig.h"
#include "pool/placement.h"

#define BATCH  256
#define RECENT 62u /* of a stripe of 64 disks, for two copies */

static struct placement_disk *make_disks(unsigned count)
{
	struct placement_disk *disks = calloc(count, sizeof(*disks));

	if (!disks)
		bench_fail("memory", -1);
	for (unsigned i = 0; i < count; i++)
		disks[i] = (struct placement_disk){
			.id = i + 1,
			.capacity_bytes = 1024 * GIB,
			.free_bytes = 512 * GIB + (i * UINT64_C(2654435761) % 1024) * 256 * MIB,
			.domain = i / 12,
			.tier = i % 3 == 0,
			.usable = i % 50 != 0,
		};
	return disks;
}

/* Every input is in use: an order of tiers, and a stripe as wide as can be. */
static void choose(struct placement_disk *disks, unsigned count, uint64_t random)
{
	static uint64_t recent[RECENT];
	const struct placement_want want = {
		.copies = 2,
		.bytes = 64 * MIB,
		.random = random,
		.avoid = {1 + random % count},
		.tiers = {0, 1},
		.tier_count = 2,
		.recent = recent,
		.recent_count = RECENT,
	};
	unsigned indexes[PLACEMENT_COPIES_MAX];
	unsigned found = placement_choose(disks, count, &want, indexes);

	if (found != 2)
		bench_fail("placement", -1);
	memmove(&recent[2], &recent[0], sizeof(recent) - 2 * sizeof(recent[0]));
	for (unsigned i = 0; i < found; i++) {
		disks[indexes[i]].free_bytes -= 64 * MIB;
		recent[i] = disks[indexes[i]].id;
	}
}

int main(int argc, char **argv)
{
	unsigned count = (unsigned)bench_option(argc, argv, "disks", 10000);
	uint64_t limit_ns = bench_option(argc, argv, "milliseconds", 1000) * NSEC_PER_MSEC;
	struct placement_disk *disks = make_disks(count);
	uint64_t start_ns = bench_now_ns(), cpu_ns = bench_cpu_ns();
	struct bench_result result = {0};

	while ((result.elapsed_ns = bench_now_ns() - start_ns) < limit_ns)
		for (unsigned i = 0; i < BATCH; i++)
			choose(disks, count, ++result.operations);
	result.cpu_ns = bench_cpu_ns() - cpu_ns;
	bench_print(&result);
	free(disks);
	return 0;
}
