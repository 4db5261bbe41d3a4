/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What many containers cost a pool, whose home has one turn for each of these:
 *
 *     bench_containers DIR [--containers=N] [--disks=N]
 *
 * Each of 1,000 containers has limits on two tiers and something reserved on one, over 12 disks of
 * both tiers: how long a turn takes in which what may be live is counted again, because a disk
 * came or went; in which a place is looked for; in which room becomes free; and what it takes to
 * find one. DIR is made.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "bench_rig.h"
#include "pool/container.h"
#include "pool/pool_disk.h"
#include "pool/pool_quota.h"
#include "pool/pool_tier.h"

#define ROUNDS 20u
#define TAKES  1000u

struct bench {
	const char *directory;
	struct world *world;
	struct catalog *catalog;
	struct pool *pool;
	uint64_t pool_id, containers, disks;
};

static void check(int r, const char *what)
{
	if (r < 0)
		bench_fail(what, r);
}

static void make_pool(struct bench *bench)
{
	char path[4096];
	struct pool_spec pool = {
		.name = "bench", .directory = path, .capacity_bytes = GIB, .tier = "ssd"};
	struct catalog_options options = {.path = path, .create = true};

	snprintf(path, sizeof(path), "%s/catalog", bench->directory);
	check(catalog_open(bench->world, &options, &bench->catalog), "catalog");
	snprintf(path, sizeof(path), "%s/disk0", bench->directory);
	check(pool_create(bench->world, bench->catalog, &pool, &bench->pool_id), "pool");
	check(pool_open(bench->world, bench->catalog, bench->pool_id, &bench->pool), "pool");
	for (uint64_t i = 1; i < bench->disks; i++) {
		struct pool_disk_spec disk = {
			.directory = path, .capacity_bytes = GIB, .tier = i % 2 ? "hdd" : "ssd"};
		uint64_t id;

		snprintf(path, sizeof(path), "%s/disk%" PRIu64, bench->directory, i);
		check(pool_disk_add(bench->pool, &disk, &id), "disk");
	}
}

static void make_containers(struct bench *bench)
{
	for (uint64_t i = 1; i <= bench->containers; i++) {
		struct policy_set set = {0};
		struct container_policy policy;

		check(policy_set_put(&set, POLICY_REPLICATION_FACTOR, 1 + i % 3), "policy");
		check(policy_set_put(&set, POLICY_MAX_CAPACITY_SSD, (64 + i) * MIB), "policy");
		check(policy_set_put(&set, POLICY_MAX_CAPACITY_HDD, (99 + i) * MIB), "policy");
		check(policy_set_put(&set, POLICY_MIN_RESERVED_HDD, KIB), "policy");
		policy_merge(&set, NULL, &policy);
		check(pool_quota_set(bench->pool, i, &policy), "container");
	}
}

static void tell(const char *what, uint64_t from_ns, unsigned count)
{
	printf("%s: %.1f us\n", what, (double)(bench_cpu_ns() - from_ns) / count / 1000.0);
}

/* As for each vDisk, while the pool opens. */
static void tell_finding(struct bench *bench)
{
	uint64_t from_ns = bench_cpu_ns();
	struct pool_quota *quota;

	for (uint64_t i = 1; i <= bench->containers; i++) {
		check(pool_quota_open(bench->pool, i, &quota), "container");
		pool_quota_close(quota);
	}
	tell("find a container", from_ns, (unsigned)bench->containers);
}

static int run(void *arg)
{
	struct bench *bench = arg;
	struct pool_tier_view view;
	struct pool_quota *quota;
	uint64_t from_ns;

	make_pool(bench);
	make_containers(bench);
	from_ns = bench_cpu_ns();
	for (unsigned i = 0; i < ROUNDS; i++)
		pool_space_recount(bench->pool);
	tell("count again what may be live", from_ns, ROUNDS);
	check(pool_quota_open(bench->pool, 1, &quota), "container");
	from_ns = bench_cpu_ns();
	for (unsigned i = 0; i < TAKES; i++)
		pool_tier_look(bench->pool, quota, &view);
	tell("look at what is kept for others", from_ns, TAKES);
	from_ns = bench_cpu_ns();
	for (unsigned i = 0; i < TAKES; i++)
		pool_tier_room(bench->pool);
	tell("room becomes free", from_ns, TAKES);
	tell_finding(bench);
	pool_quota_close(quota);
	pool_close(bench->pool);
	catalog_close(bench->catalog);
	return 0;
}

int main(int argc, char **argv)
{
	struct bench bench = {.containers = bench_option(argc, argv, "containers", 1000),
			      .disks = bench_option(argc, argv, "disks", 12)};
	struct bench_rig rig;

	if (argc < 2 || argv[1][0] == '-' || bench.disks > POOL_DISKS_MAX)
		bench_fail("usage: bench_containers DIR [--containers=N] [--disks=N]", -EINVAL);
	bench.directory = argv[1];
	if (mkdir(bench.directory, 0700) < 0)
		bench_fail(bench.directory, -errno);
	bench_rig_init(&rig);
	bench.world = rig.world;
	(void)bench_rig_run(&rig, run, &bench);
	bench_rig_done(&rig);
	return 0;
}
