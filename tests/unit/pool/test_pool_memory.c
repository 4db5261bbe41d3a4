/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th allocation fails, for each n ("all", the slow suite) or some, over the whole life of a
 * pool and its containers. In the real world: the simulated one allocates too and must not fail.
 */
#include "real_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "fail_alloc.h"
#include "sim_rig.h"
#include "pool/container.h"
#include "pool/pool.h"
#include "pool/pool_disk.h"
#include "pool_calls.h"

struct sweep {
	struct real_rig rig;
	char base[100];
	struct catalog *catalog;
	struct pool *pool;
	uint64_t n;
};

static int open_all(struct sweep *s)
{
	char path[160], directory[160];
	struct catalog_options options = {.path = path, .create = true};
	struct pool_spec spec = {
		.name = "p", .directory = directory, .capacity_bytes = POOL_MIN_BYTES};
	uint64_t id;
	int r;

	snprintf(path, sizeof(path), "%s.db", s->base);
	snprintf(directory, sizeof(directory), "%s.pool", s->base);
	r = catalog_open(s->rig.world, &options, &s->catalog);
	if (r == 0)
		r = pool_find(s->catalog, "p", &id);
	if (r == -ENOENT)
		r = pool_create(s->rig.world, s->catalog, &spec, &id);
	if (r == 0)
		r = pool_open(s->rig.world, s->catalog, id, &s->pool);
	return r;
}

static int name_file(struct sweep *s, const struct pool_file *file)
{
	uint8_t value[FILE_ROW_BYTES];
	struct catalog_change change = {
		.kind = CATALOG_PUT,
		.key = catalog_key(CATALOG_EGFILE),
		.value = value,
		.length = sizeof(value),
	};

	catalog_key_add(&change.key, pool_id(s->pool));
	catalog_key_add(&change.key, 1);
	catalog_key_add(&change.key, pool_file_id(file));
	file_row(file, value);
	return catalog_commit(s->catalog, &change, 1);
}

static int use_file(struct sweep *s)
{
	struct pool_copies copies;
	struct pool_file *file;
	uint64_t id;
	int r = take_file(s->pool, POOL_USE_DATA, MIB, &file);

	if (r)
		return r;
	id = pool_file_id(file);
	r = name_file(s, file);
	if (r == 0)
		r = pool_file_trim(file, MIB / 2);
	pool_file_get_copies(file, &copies);
	pool_file_close(file);
	if (r == 0)
		r = pool_file_open(s->pool, id, &copies, &file);
	if (r)
		return r;
	pool_file_discard(file);
	return 0;
}

/* A second disk, a file on both, a third copy that finds no disk, and the disk goes again. */
static int use_disks(struct sweep *s)
{
	const struct pool_want want = {.use = POOL_USE_DATA, .size_bytes = MIB, .copies = 2};
	char directory[160];
	const struct pool_disk_spec spec = {.directory = directory,
					    .capacity_bytes = POOL_MIN_BYTES};
	struct pool_disk_info *infos;
	struct pool_file *file;
	uint64_t disk;
	unsigned copy;
	size_t count;
	int r;

	snprintf(directory, sizeof(directory), "%s.disk", s->base);
	r = pool_disk_add(s->pool, &spec, &disk);
	if (r)
		return r;
	r = pool_file_take(s->pool, &want, &file);
	if (r)
		return r;
	r = pool_file_add_copy(file, &copy);
	/* It finds one when the second copy of before found no memory. */
	ASSERT(r == 0 || r == -ENOSPC || r == -ENOMEM);
	pool_file_discard(file);
	if (r == -ENOMEM)
		return r;
	r = pool_disk_list(s->pool, &infos, &count);
	if (r)
		return r;
	free(infos);
	return pool_disk_remove(s->pool, disk);
}

static int use_containers(struct sweep *s)
{
	struct container_info *infos, info;
	struct pool_info *pools;
	size_t count;
	uint64_t id;
	int r = container_create(s->catalog, s->rig.world, pool_id(s->pool), "c", &id);

	if (r == 0)
		r = container_find(s->catalog, "c", &info);
	if (r == 0)
		r = container_list(s->catalog, &infos, &count);
	if (r)
		return r;
	free(infos);
	r = pool_list(s->catalog, &pools, &count);
	if (r)
		return r;
	free(pools);
	return container_delete(s->catalog, id);
}

static void close_all(struct sweep *s)
{
	pool_close(TAKE_PTR(s->pool));
	catalog_close(TAKE_PTR(s->catalog));
}

static int life_run(void *arg)
{
	struct sweep *s = arg;
	int r;

	fail_alloc_nth(s->n);
	r = open_all(s);
	if (r == 0)
		r = use_file(s);
	if (r == 0)
		r = use_containers(s);
	if (r == 0)
		r = use_disks(s);
	ASSERT(r == 0 || r == -ENOMEM);
	if (s->pool)
		pool_check(s->pool);
	close_all(s);
	return fail_alloc_disarm();
}

static int after_run(void *arg)
{
	struct sweep *s = arg;

	ASSERT(open_all(s) == 0);
	ASSERT(use_file(s) == 0);
	close_all(s);
	return 0;
}

static bool sweep_is_complete;

static void failed_allocations(void **state)
{
	struct sweep s = {.n = 1};
	bool hit = true;

	(void)state;
	sim_rig_silence_log();
	real_rig_init(&s.rig);
	for (; hit; s.n += sweep_is_complete ? 1 : 9) {
		snprintf(s.base, sizeof(s.base), "%s/%llu", s.rig.directory,
			 (unsigned long long)s.n);
		hit = real_rig_run(&s.rig, 0, life_run, &s);
		assert_int_equal(real_rig_run(&s.rig, 0, after_run, &s), 0);
	}
	real_rig_done(&s.rig);
	log_set_sink(NULL, NULL);
	print_message("beyond %llu\n", (unsigned long long)s.n);
}

/* Whichever allocation of it fails, none where there is one copy. */
static void sync_short_of_memory(struct pool_file *file, bool allocates)
{
	bool hit = true;

	for (uint64_t n = 1; hit; n++) {
		fail_alloc_nth(n);
		ASSERT(pool_io_sync(file) == 0);
		hit = fail_alloc_disarm();
		ASSERT(pool_file_failed(file) == 0);
		ASSERT(allocates || !hit);
	}
}

static int sync_run(void *arg)
{
	struct sweep *s = arg;
	struct pool_want want = {.use = POOL_USE_DATA, .size_bytes = MIB, .copies = 1};
	char directory[160];
	const struct pool_disk_spec spec = {.directory = directory,
					    .capacity_bytes = POOL_MIN_BYTES};
	struct pool_file *file;
	uint64_t disk;

	ASSERT(open_all(s) == 0);
	snprintf(directory, sizeof(directory), "%s.disk", s->base);
	ASSERT(pool_disk_add(s->pool, &spec, &disk) == 0);
	ASSERT(pool_file_take(s->pool, &want, &file) == 0);
	sync_short_of_memory(file, false);
	pool_file_discard(file);
	want.copies = 2;
	ASSERT(pool_file_take(s->pool, &want, &file) == 0);
	sync_short_of_memory(file, true);
	pool_file_discard(file);
	close_all(s);
	return 0;
}

static void a_shortage_of_memory_makes_no_copy_stale(void **state)
{
	struct sweep s = {0};

	(void)state;
	sim_rig_silence_log();
	real_rig_init(&s.rig);
	snprintf(s.base, sizeof(s.base), "%s/s", s.rig.directory);
	assert_int_equal(real_rig_run(&s.rig, 0, sync_run, &s), 0);
	real_rig_done(&s.rig);
	log_set_sink(NULL, NULL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failed_allocations),
		cmocka_unit_test(a_shortage_of_memory_makes_no_copy_stale),
	};

	sweep_is_complete = argc > 1 && strcmp(argv[1], "all") == 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
