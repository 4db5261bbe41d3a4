/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a pool with many extent groups takes to open:
 *
 *     bench_groups DIR [--groups=N]
 *
 * The groups (100,000) are made when DIR is not there: rows of the catalog, and files of one block,
 * for nobody reads them. The process ends without closing anything, so that reclaim does not take
 * the groups away, in which nothing is live.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench_rig.h"
#include "egroup/store.h"
#include "pool/container.h"
#include "vdisk/vdisk.h"

#define BATCH 1000u

struct bench {
	const char *directory;
	struct world *world;
	struct catalog *catalog;
	struct pool *pool;
	uint64_t groups, pool_id, vdisk_id;
	uint64_t catalog_ns, pool_ns, vdisk_ns, memory_bytes;
};

static int make_vdisk(struct bench *bench)
{
	char path[4096];
	struct pool_spec pool = {.name = "bench", .directory = path, .capacity_bytes = 4 * GIB};
	struct vdisk_spec vdisk = {
		.name = "disk", .size_bytes = VDISK_MAX_BYTES, .block_bytes = 4096};
	int r;

	snprintf(path, sizeof(path), "%s/pool", bench->directory);
	r = pool_create(bench->world, bench->catalog, &pool, &bench->pool_id);
	if (r == 0)
		r = pool_open(bench->world, bench->catalog, bench->pool_id, &bench->pool);
	if (r == 0)
		r = container_create(bench->catalog, bench->world, bench->pool_id, "c",
				     &vdisk.container_id);
	if (r == 0)
		r = vdisk_create(bench->pool, &vdisk, &bench->vdisk_id);
	pool_close(bench->pool);
	return r;
}

static int reserve(struct bench *bench, const char *format, uint64_t *ret_first)
{
	char counter[64];

	snprintf(counter, sizeof(counter), format, bench->pool_id);
	return catalog_reserve_ids(bench->catalog, counter, bench->groups, ret_first);
}

static void make_file(const struct bench *bench, uint64_t id)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/pool/groups/%02x/%016" PRIx64 ".eg", bench->directory,
		 (unsigned)(id & 0xff), id);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, BLOCK_BYTES) < 0)
		bench_fail(path, -errno);
	(void)close(fd); /* nothing was written */
}

struct row_pair {
	uint8_t group[EGROUP_ROW_BYTES], file[EGROUP_ROW_BYTES];
};

static void make_group(struct bench *bench, uint64_t group_id, uint64_t file_id,
		       struct row_pair *values, struct catalog_change *changes)
{
	struct egroup_file file = {.id = file_id,
				   .allocated_bytes = BLOCK_BYTES,
				   .copies = {.count = 1, .disks = {1}}};
	const struct egroup group = {.id = group_id,
				     .stream = RECORD_STREAM_LOG,
				     .epoch = 1,
				     .slots = 1,
				     .sealed = true,
				     .file = &file};

	make_file(bench, file_id);
	egroup_row(&group, values->group);
	egroup_file_row(&file, values->file);
	changes[0] = (struct catalog_change){
		.kind = CATALOG_PUT,
		.key = egroup_prefix(CATALOG_EGROUP, bench->pool_id, bench->vdisk_id),
		.value = values->group,
		.length = EGROUP_ROW_BYTES};
	catalog_key_add(&changes[0].key, group_id);
	changes[1] = (struct catalog_change){
		.kind = CATALOG_PUT,
		.key = egroup_prefix(CATALOG_EGFILE, bench->pool_id, bench->vdisk_id),
		.value = values->file,
		.length = EGROUP_ROW_BYTES};
	catalog_key_add(&changes[1].key, file_id);
}

static int make_groups(struct bench *bench)
{
	static struct catalog_change changes[2 * BATCH];
	static struct row_pair values[BATCH];
	uint64_t group_id, file_id;
	int r = reserve(bench, "egroup/%016" PRIx64, &group_id);

	if (r == 0)
		r = reserve(bench, "pool/%016" PRIx64 "/file", &file_id);
	for (uint64_t done = 0; r == 0 && done < bench->groups;) {
		unsigned count = (unsigned)MIN((uint64_t)BATCH, bench->groups - done);

		for (unsigned i = 0; i < count; i++, done++)
			make_group(bench, group_id + done, file_id + done, &values[i],
				   &changes[2 * i]);
		r = catalog_commit(bench->catalog, changes, 2 * (size_t)count);
	}
	return r;
}

static int make(struct bench *bench, const char *path)
{
	const struct catalog_options options = {.path = path, .create = true};
	int r;

	if (mkdir(bench->directory, 0700) < 0 && errno != EEXIST)
		return -errno;
	r = catalog_open(bench->world, &options, &bench->catalog);
	if (r == 0)
		r = make_vdisk(bench);
	if (r == 0)
		r = make_groups(bench);
	if (bench->catalog)
		catalog_close(bench->catalog);
	return r;
}

static uint64_t lap(uint64_t *from_ns)
{
	uint64_t now = bench_now_ns(), took = now - *from_ns;

	*from_ns = now;
	return took;
}

static int open_all(struct bench *bench, const char *path)
{
	const struct catalog_options options = {.path = path};
	struct vdisk_cache *cache;
	struct vdisk *vdisk;
	struct vdisk_stats stats;
	uint64_t at = bench_now_ns(), before;
	int r = catalog_open(bench->world, &options, &bench->catalog);

	bench->catalog_ns = lap(&at);
	before = mallinfo2().uordblks;
	if (r == 0)
		r = pool_find(bench->catalog, "bench", &bench->pool_id);
	if (r == 0)
		r = pool_open(bench->world, bench->catalog, bench->pool_id, &bench->pool);
	bench->pool_ns = lap(&at);
	if (r == 0)
		r = vdisk_cache_new(reactor_current(), 64 * MIB, &cache);
	if (r == 0)
		r = vdisk_open(bench->pool, cache, 1, &vdisk);
	bench->vdisk_ns = lap(&at);
	if (r < 0)
		return r;
	bench->memory_bytes = mallinfo2().uordblks - before;
	vdisk_get_stats(vdisk, &stats);
	bench->groups = stats.groups;
	return 0;
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
	if (r == 0)
		r = open_all(bench, path);
	if (r < 0)
		bench_fail("bench_groups", r);
	printf("{\"groups\": %" PRIu64 ", \"seconds\": %.4f, \"catalog_seconds\": %.4f, "
	       "\"pool_seconds\": %.4f, \"vdisk_seconds\": %.4f, \"bytes_a_group\": %.1f}\n",
	       bench->groups, (double)(bench->catalog_ns + bench->pool_ns + bench->vdisk_ns) / 1e9,
	       (double)bench->catalog_ns / 1e9, (double)bench->pool_ns / 1e9,
	       (double)bench->vdisk_ns / 1e9,
	       (double)bench->memory_bytes / (double)MAX(bench->groups, UINT64_C(1)));
	(void)fflush(stdout); /* whoever reads it notices */
	_exit(0);
}

int main(int argc, char **argv)
{
	struct bench bench = {.groups = bench_option(argc, argv, "groups", 100000)};
	struct bench_rig rig;

	if (argc < 2 || argv[1][0] == '-')
		bench_fail("usage: bench_groups DIR [--groups=N]", -EINVAL);
	bench.directory = argv[1];
	bench_rig_init(&rig);
	return bench_rig_run(&rig, run, &bench);
}
