/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commits of two small rows, one after the other, on a catalog with mirrors; all on one disk, which
 * then has to sync once more for each.
 *
 *     bench_catalog DIRECTORY [--mirrors=N] [--commits=N]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench_rig.h"
#include "catalog/mirror.h"

#define MIRRORS_MAX 8

struct load {
	struct bench_rig rig;
	struct catalog *catalog;
	char base[200];
	uint64_t mirrors, commits;
	struct bench_result result;
};

static void make_disk(struct load *load, uint64_t index, char *path, size_t size)
{
	char label[300];
	FILE *file;

	snprintf(path, size, "%s/disk%u", load->base, (unsigned)index);
	(void)mkdir(path, 0700); /* there or not */
	snprintf(label, sizeof(label), "%s/label", path);
	file = fopen(label, "w");
	if (!file || fclose(file) != 0)
		bench_fail(label, -errno);
}

static int commit(struct load *load, uint64_t number)
{
	uint8_t value[64] = {0};
	struct catalog_change changes[2];

	for (unsigned i = 0; i < 2; i++) {
		changes[i] = (struct catalog_change){.kind = CATALOG_PUT,
						     .key = catalog_key(CATALOG_JOB),
						     .value = value,
						     .length = sizeof(value)};
		catalog_key_add(&changes[i].key, number % 1000 * 2 + i);
	}
	return catalog_commit(load->catalog, changes, 2);
}

static int run(void *arg)
{
	struct load *load = arg;
	char path[260];
	struct catalog_options options = {.path = path, .create = true};
	uint64_t begin_ns;
	int r;

	snprintf(path, sizeof(path), "%s/catalog.db", load->base);
	r = catalog_open(load->rig.world, &options, &load->catalog);
	for (uint64_t i = 0; r == 0 && i < load->mirrors; i++) {
		make_disk(load, i, path, sizeof(path));
		r = catalog_mirror_add(load->catalog, path);
	}
	if (r)
		return r;
	catalog_mirror_wait(load->catalog);
	begin_ns = bench_now_ns();
	for (uint64_t i = 0; r == 0 && i < load->commits; i++)
		r = commit(load, i);
	load->result.elapsed_ns = bench_now_ns() - begin_ns;
	load->result.operations = load->commits;
	catalog_close(load->catalog);
	return r;
}

int main(int argc, char **argv)
{
	static struct load load;
	int r;

	if (argc < 2 || argv[1][0] == '-')
		bench_fail("give a directory", -EINVAL);
	load.mirrors = bench_option(argc, argv, "mirrors", 0);
	load.commits = bench_option(argc, argv, "commits", 500);
	if (load.mirrors > MIRRORS_MAX)
		bench_fail("mirrors", -EINVAL);
	snprintf(load.base, sizeof(load.base), "%s", argv[1]);
	(void)mkdir(load.base, 0700); /* there or not */
	bench_rig_init(&load.rig);
	r = bench_rig_run(&load.rig, run, &load);
	if (r)
		bench_fail("catalog", r);
	bench_rig_done(&load.rig);
	bench_print(&load.result);
	return 0;
}
