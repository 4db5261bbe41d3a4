/* SPDX-License-Identifier: Apache-2.0 */
/* A pool in a directory of a real file system. */
#include "real_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pool/container.h"
#include "pool/pool.h"
#include "pool_calls.h"
#include "reactor/io.h"

static struct catalog *open_catalog(struct real_rig *rig)
{
	struct catalog_options options = {
		.path = real_rig_path(rig, "catalog.db"),
		.create = true,
	};
	struct catalog *catalog;

	ASSERT(catalog_open(rig->world, &options, &catalog) == 0);
	return catalog;
}

static void name_file(struct pool *pool, const struct pool_file *file)
{
	uint8_t value[FILE_ROW_BYTES];
	struct catalog_change change = {
		.kind = CATALOG_PUT,
		.key = catalog_key(CATALOG_EGFILE),
		.value = value,
		.length = sizeof(value),
	};

	catalog_key_add(&change.key, pool_id(pool));
	catalog_key_add(&change.key, 1);
	catalog_key_add(&change.key, pool_file_id(file));
	file_row(file, value);
	ASSERT(catalog_commit(pool_catalog(pool), &change, 1) == 0);
}

static uint64_t create(struct real_rig *rig, struct catalog *catalog)
{
	struct pool_spec spec = {
		.name = "main",
		.directory = real_rig_path(rig, "pool"),
		.capacity_bytes = POOL_MIN_BYTES,
	};
	uint64_t id;

	ASSERT(pool_create(rig->world, catalog, &spec, &id) == 0);
	ASSERT(pool_create(rig->world, catalog, &spec, &id) == -EEXIST);
	spec.name = "other";
	ASSERT(pool_create(rig->world, catalog, &spec, &id) == -ENOTEMPTY);
	ASSERT(pool_find(catalog, "main", &id) == 0);
	return id;
}

static void write_and_sync(struct pool_file *file, void *page)
{
	ASSERT(pool_io_write(file, page, 4096, 0) == 0);
	ASSERT(pool_io_write(file, page, 4096, MIB - 4096) == 0);
	ASSERT(pool_io_sync(file) == 0);
}

static int run_smoke(void *arg)
{
	struct real_rig *rig = arg;
	struct catalog *catalog = open_catalog(rig);
	uint64_t id = create(rig, catalog), file_id;
	struct pool *pool;
	struct pool_file *file, *unnamed;
	struct pool_space space;
	void *page = aligned_alloc(4096, 4096);

	ASSERT(page);
	memset(page, 'x', 4096);
	ASSERT(pool_open(rig->world, catalog, id, &pool) == 0);
	ASSERT(take_file(pool, POOL_USE_DATA, MIB, &file) == 0);
	name_file(pool, file);
	file_id = pool_file_id(file);
	write_and_sync(file, page);
	ASSERT(take_file(pool, POOL_USE_DATA, MIB, &unnamed) == 0);
	pool_file_close(unnamed);
	name_file(pool, file);
	pool_file_close(file);
	pool_close(pool);

	ASSERT(pool_open(rig->world, catalog, id, &pool) == 0);
	pool_get_space(pool, &space);
	ASSERT(space.used == MIB && space.spare == MIB);
	ASSERT(open_file(pool, file_id, &file) == 0);
	memset(page, 0, 4096);
	ASSERT(pool_io_read_copy(file, 0, page, 4096, MIB - 4096) == 0);
	ASSERT(((char *)page)[4095] == 'x');
	ASSERT(pool_delete(pool) == -EBUSY);
	pool_file_discard(file);
	pool_get_space(pool, &space);
	ASSERT(space.used == 0 && space.spare == 2 * MIB);
	pool_check(pool);
	free(page);
	pool_close(pool);
	catalog_close(catalog);
	return 0;
}

static void smoke(void **state)
{
	struct real_rig rig;

	(void)state;
	real_rig_init(&rig);
	assert_int_equal(real_rig_run(&rig, 0, run_smoke, &rig), 0);
	real_rig_done(&rig);
}

struct remote {
	struct pool *pool;
	int errors;
};

/* Runs on the other reactor: every call is carried to the pool's home. */
static int run_remote(void *arg)
{
	struct remote *remote = arg;
	struct pool_file *file;

	for (int i = 0; i < 20; i++) {
		ASSERT(take_file(remote->pool, POOL_USE_DATA, MIB, &file) == 0);
		ASSERT(pool_file_trim(file, 8192) == 0);
		pool_file_discard(file);
	}
	return 0;
}

static int run_two_reactors(void *arg)
{
	struct real_rig *rig = arg;
	struct catalog *catalog = open_catalog(rig);
	struct remote remote = {0};

	ASSERT(pool_open(rig->world, catalog, create(rig, catalog), &remote.pool) == 0);
	ASSERT(fiber_call(rig->reactors[1], FIBER_DATA, run_remote, &remote) == 0);
	ASSERT(run_remote(&remote) == 0);
	pool_check(remote.pool);
	ASSERT(pool_delete(remote.pool) == 0);
	/* The directory can be used again. */
	ASSERT(pool_open(rig->world, catalog, create(rig, catalog), &remote.pool) == 0);
	pool_close(remote.pool);
	catalog_close(catalog);
	return 0;
}

static void two_reactors(void **state)
{
	struct real_rig rig;

	(void)state;
	real_rig_init(&rig);
	assert_int_equal(real_rig_run(&rig, 0, run_two_reactors, &rig), 0);
	real_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(smoke),
		cmocka_unit_test(two_reactors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
