/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool with many extent groups:
 *
 *     bench_groups open DIR [--groups=N]      how long it takes to open
 *     bench_groups turns DIR [--groups=N]     the longest turn of its reactor, by phase
 *
 * The groups (100,000) are made when DIR is not there. `open` ends without closing anything and
 * leaves all as it is; `turns` ends with dropping the groups, so DIR can only be removed then.
 */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench_groups.h"
#include "bench_rig.h"
#include "bench_turns.h"
#include "block/block.h"
#include "block/chance.h"
#include "egroup/record.h"
#include "pool/pool_disk.h"
#include "vdisk/vdisk.h"

#define WRITERS     8u
#define WRITE_NS    (3 * NSEC_PER_SEC)
#define IDLE_NS     (7 * NSEC_PER_SEC) /* the log is folded after 5 s */
#define REAP_NS     (20 * NSEC_PER_SEC)
#define QUERIES     5u
#define FRESH_BYTES (64 * MIB) /* where the guest writes, behind what there is */

struct bench {
	const char *what, *directory;
	struct world *world;
	struct catalog *catalog;
	struct pool *pool;
	struct vdisk *vdisk;
	struct vdisk_cache *cache;
	uint64_t groups, pool_id;
	uint64_t catalog_ns, pool_ns, vdisk_ns, memory_bytes;
	uint64_t cpu_ns; /* of the process, for all three */
	struct bench_turns turns;
	unsigned writers; /* that run */
	uint64_t deadline_ns;
};

static int make(struct bench *bench, const char *path)
{
	const struct catalog_options options = {.path = path, .create = true};
	struct groups_make make = {
		.directory = bench->directory, .world = bench->world, .groups = bench->groups};
	int r;

	if (mkdir(bench->directory, 0700) < 0 && errno != EEXIST)
		return -errno;
	r = catalog_open(bench->world, &options, &make.catalog);
	if (r == 0)
		r = groups_make(&make);
	catalog_close(make.catalog);
	return r;
}

static uint64_t lap(uint64_t *from_ns)
{
	uint64_t now = bench_now_ns(), took = now - *from_ns;

	*from_ns = now;
	return took;
}

static uint64_t process_cpu_ns(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage) < 0)
		bench_fail("getrusage", -errno);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NSEC_PER_SEC +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NSEC_PER_USEC;
}

static int open_all(struct bench *bench, const char *path)
{
	const struct catalog_options options = {.path = path};
	struct vdisk_stats stats;
	uint64_t at = bench_now_ns(), cpu_ns = process_cpu_ns(), before;
	int r = catalog_open(bench->world, &options, &bench->catalog);

	bench->catalog_ns = lap(&at);
	before = mallinfo2().uordblks;
	if (r == 0)
		r = pool_find(bench->catalog, "bench", &bench->pool_id);
	if (r == 0)
		r = pool_open(bench->world, bench->catalog, bench->pool_id, &bench->pool);
	bench->pool_ns = lap(&at);
	if (r == 0)
		r = vdisk_cache_new(reactor_current(), 64 * MIB, &bench->cache);
	if (r == 0)
		r = vdisk_open(bench->pool, bench->cache, 1, &bench->vdisk);
	bench->vdisk_ns = lap(&at);
	bench->cpu_ns = process_cpu_ns() - cpu_ns;
	if (r < 0)
		return r;
	bench->memory_bytes = mallinfo2().uordblks - before;
	vdisk_get_stats(bench->vdisk, &stats);
	bench->groups = stats.groups;
	return 0;
}

static void print_open(const struct bench *bench)
{
	printf("{\"groups\": %" PRIu64 ", \"seconds\": %.4f, \"cpu_seconds\": %.4f, "
	       "\"catalog_seconds\": %.4f, "
	       "\"pool_seconds\": %.4f, \"vdisk_seconds\": %.4f, \"bytes_a_group\": %.1f}\n",
	       bench->groups, (double)(bench->catalog_ns + bench->pool_ns + bench->vdisk_ns) / 1e9,
	       (double)bench->cpu_ns / 1e9, (double)bench->catalog_ns / 1e9,
	       (double)bench->pool_ns / 1e9, (double)bench->vdisk_ns / 1e9,
	       (double)bench->memory_bytes / (double)MAX(bench->groups, UINT64_C(1)));
}

/* --- turns --- */

struct writer {
	struct bench *bench;
	struct fiber_task task;
	struct chance chance;
};

static void run_writer(struct fiber_task *task)
{
	struct writer *writer = CONTAINER_OF(task, struct writer, task);
	struct bench *bench = writer->bench;
	char *buffer = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	uint64_t behind = ALIGN_UP(bench->groups * BLOCK_BYTES, MIB);
	int r = buffer ? 0 : -ENOMEM;

	while (r == 0 && bench_now_ns() < bench->deadline_ns) {
		uint64_t block = chance_below(&writer->chance, FRESH_BYTES / BLOCK_BYTES);

		memset(buffer, (int)block, BLOCK_BYTES);
		r = block_io(vdisk_volume(bench->vdisk), BLOCK_WRITE, 0, buffer, BLOCK_BYTES,
			     behind + block * BLOCK_BYTES);
	}
	if (r < 0)
		bench_fail("write", r);
	free(buffer);
	bench->writers--;
}

/* The guest writes, then rests: checkpoints, reclaim, the groups that were filled. */
static int go_on(struct bench *bench)
{
	static struct writer writers[WRITERS];

	bench->deadline_ns = bench_now_ns() + WRITE_NS;
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){.bench = bench, .task.run = run_writer};
		chance_init(&writers[i].chance, i + 1);
		bench->writers++;
		fiber_spawn(reactor_current(), FIBER_DATA, &writers[i].task);
	}
	while (bench->writers > 0)
		fiber_sleep(10 * NSEC_PER_MSEC);
	fiber_sleep(IDLE_NS);
	return 0;
}

/* What health, statistics and metrics ask for. */
static int ask(struct bench *bench)
{
	for (unsigned i = 0; i < QUERIES; i++) {
		_cleanup_free_ struct pool_disk_info *disks = NULL;
		struct vdisk_redundancy redundancy;
		struct vdisk_stats stats;
		struct pool_info info;
		size_t count;
		int r;

		vdisk_get_stats(bench->vdisk, &stats);
		vdisk_get_redundancy(bench->vdisk, &redundancy);
		(void)vdisk_scrub_bytes(bench->vdisk);
		pool_get_info(bench->pool, &info);
		r = pool_disk_list(bench->pool, &disks, &count);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Where one goes on that had come far: nothing is read. */
static int go_on_with_scrub(struct bench *bench)
{
	struct vdisk_scrub scrub = {.after = UINT64_MAX - 1, .last = UINT64_MAX - 1};

	return vdisk_scrub(bench->vdisk, &scrub);
}

static bool stop_at_once(void *arg, uint64_t copied_bytes)
{
	(void)arg;
	(void)copied_bytes;
	return false;
}

/* As far as finding out what has to be moved. */
static int start_to_drain(struct bench *bench)
{
	char path[4096];
	const struct pool_disk_spec spec = {.directory = path, .capacity_bytes = 4 * GIB};
	struct vdisk_repair repair = {.progress = stop_at_once};
	struct vdisk_redundancy redundancy;
	uint64_t id;
	int r;

	snprintf(path, sizeof(path), "%s/pool1", bench->directory);
	r = pool_disk_add(bench->pool, &spec, &id);
	if (r == 0)
		r = pool_disk_set_draining(bench->pool, 1, true);
	if (r < 0)
		return r;
	vdisk_get_redundancy(bench->vdisk, &redundancy);
	r = vdisk_repair(bench->vdisk, &repair);
	return r == 0 || r == -ECANCELED ? pool_disk_set_draining(bench->pool, 1, false) : r;
}

/* All of it is unmapped: every group is without a live slot after the next checkpoint. */
static int drop_groups(struct bench *bench)
{
	struct vdisk_stats stats;
	uint64_t deadline_ns = bench_now_ns() + REAP_NS, before;
	int r = block_io(vdisk_volume(bench->vdisk), BLOCK_UNMAP, 0, NULL, GIB, 0);

	vdisk_get_stats(bench->vdisk, &stats);
	before = stats.groups;
	if (r == 0)
		r = vdisk_checkpoint(bench->vdisk);
	while (r == 0 && stats.groups > 100 && bench_now_ns() < deadline_ns) {
		fiber_sleep(100 * NSEC_PER_MSEC);
		vdisk_get_stats(bench->vdisk, &stats);
	}
	if (r == 0 && stats.groups > before / 2)
		bench_fail("few groups were dropped", -ETIMEDOUT);
	return r;
}

static int close_all(struct bench *bench)
{
	int r = vdisk_close(bench->vdisk);

	vdisk_cache_free(bench->cache);
	pool_close(bench->pool);
	catalog_close(bench->catalog);
	return r;
}

static int open_measured(struct bench *bench)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/catalog.db", bench->directory);
	return open_all(bench, path);
}

static void measure_turns(struct bench *bench)
{
	static const struct {
		const char *name;
		int (*run)(struct bench *bench);
	} phases[] = {
		{"open", open_measured},     {"steady", go_on},         {"health", ask},
		{"scrub", go_on_with_scrub}, {"drain", start_to_drain}, {"reap", drop_groups},
		{"close", close_all},
	};
	uint64_t longest_ns = 0;

	bench_turns_start(&bench->turns);
	printf("{");
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		int r = phases[i].run(bench);
		uint64_t ns = bench_turns_lap(&bench->turns);

		if (r < 0)
			bench_fail(phases[i].name, r);
		printf("\"%s_seconds\": %.6f, ", phases[i].name, (double)ns / 1e9);
		longest_ns = MAX(longest_ns, ns);
	}
	bench_turns_stop(&bench->turns);
	printf("\"groups\": %" PRIu64 ", \"blocked_turns\": %" PRIu64
	       ", \"interrupted_turns\": %" PRIu64
	       ", \"longest_seconds\": %.6f, \"longest_wall_seconds\": %.6f}\n",
	       bench->groups, bench->turns.blocked, bench->turns.interrupted,
	       (double)longest_ns / 1e9, (double)bench->turns.longest_wall_ns / 1e9);
}

static int run(void *arg)
{
	struct bench *bench = arg;
	char path[4096];
	struct stat found;
	int r = 0;

	bench->world = reactor_world(reactor_current());
	snprintf(path, sizeof(path), "%s/catalog.db", bench->directory);
	if (stat(path, &found) < 0)
		r = make(bench, path);
	if (r == 0 && strcmp(bench->what, "turns") == 0) {
		measure_turns(bench);
		return 0;
	}
	if (r == 0)
		r = open_all(bench, path);
	if (r < 0)
		bench_fail("bench_groups", r);
	print_open(bench);
	(void)fflush(stdout); /* whoever reads it notices */
	_exit(0);
}

int main(int argc, char **argv)
{
	struct bench bench = {.groups = bench_option(argc, argv, "groups", 100000)};
	struct bench_rig rig;
	int r;

	if (argc < 3 || (strcmp(argv[1], "open") != 0 && strcmp(argv[1], "turns") != 0))
		bench_fail("usage: bench_groups open|turns DIR [--groups=N]", -EINVAL);
	bench.what = argv[1];
	bench.directory = argv[2];
	bench_rig_init(&rig);
	r = bench_rig_run(&rig, run, &bench);
	bench_rig_done(&rig);
	return r < 0 ? 1 : 0;
}
