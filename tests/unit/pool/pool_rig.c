/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define PAGE 4096

struct pool_rig *pool_rig_new(uint64_t disk_bytes)
{
	struct pool_rig *rig = calloc(1, sizeof(*rig));

	ASSERT(rig);
	if (!getenv("SARSEN_LOG"))
		sim_rig_silence_log();
	sim_rig_init(&rig->sim, 1, 2);
	ASSERT(sim_disk_add(rig->sim.sim, POOL_RIG_STATE, 64 * MIB) == 0);
	ASSERT(sim_disk_add(rig->sim.sim, POOL_RIG_DISK, disk_bytes) == 0);
	return rig;
}

void pool_rig_free(struct pool_rig *rig)
{
	sim_rig_done(&rig->sim);
	log_set_sink(NULL, NULL);
	free(rig);
}

int pool_rig_setup(void **state)
{
	*state = pool_rig_new(POOL_RIG_DISK_BYTES);
	return 0;
}

int pool_rig_teardown(void **state)
{
	pool_rig_free(*state);
	return 0;
}

void pool_rig_run(struct pool_rig *rig, void (*fn)(void *rig))
{
	sim_rig_run(&rig->sim, 0, fn, rig);
}

int pool_rig_open_catalog(struct pool_rig *rig)
{
	struct catalog_options options = {
		.path = POOL_RIG_STATE "/catalog.db", .vfs = SIM_VFS_NAME, .create = true};

	return catalog_open(sim_world(rig->sim.sim), &options, &rig->catalog);
}

int pool_rig_create(struct pool_rig *rig, const char *name, const char *directory,
		    uint64_t capacity_bytes, uint64_t *ret_id)
{
	struct pool_spec spec = {
		.name = name, .directory = directory, .capacity_bytes = capacity_bytes};

	return pool_create(sim_world(rig->sim.sim), rig->catalog, &spec, ret_id);
}

int pool_rig_open(struct pool_rig *rig, uint64_t capacity_bytes)
{
	int r = rig->catalog ? 0 : pool_rig_open_catalog(rig);

	if (r)
		return r;
	r = pool_find(rig->catalog, "p", &rig->pool_id);
	if (r == -ENOENT)
		r = pool_rig_create(rig, "p", POOL_RIG_DIRECTORY, capacity_bytes, &rig->pool_id);
	if (r == 0)
		r = pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool);
	return r;
}

void pool_rig_close(struct pool_rig *rig)
{
	pool_close(TAKE_PTR(rig->pool));
	catalog_close(TAKE_PTR(rig->catalog));
}

static struct catalog_key file_key(struct pool_rig *rig, uint64_t file_id)
{
	struct catalog_key key = catalog_key(CATALOG_EGFILE);

	catalog_key_add(&key, rig->pool_id);
	catalog_key_add(&key, 1);
	catalog_key_add(&key, file_id);
	return key;
}

int pool_rig_name(struct pool_rig *rig, const struct pool_file *file)
{
	uint8_t value[FILE_ROW_BYTES];
	struct catalog_change change = {
		.kind = CATALOG_PUT,
		.key = file_key(rig, pool_file_id(file)),
		.value = value,
		.length = sizeof(value),
	};

	file_row(file, value);
	return catalog_commit(rig->catalog, &change, 1);
}

int pool_rig_unname(struct pool_rig *rig, uint64_t file_id)
{
	struct catalog_change change = {.kind = CATALOG_DELETE, .key = file_key(rig, file_id)};

	return catalog_commit(rig->catalog, &change, 1);
}

int pool_rig_write(struct pool_file *file, uint8_t byte)
{
	void *page = aligned_alloc(PAGE, PAGE);
	int r;

	ASSERT(page);
	memset(page, byte, PAGE);
	r = pool_io_write(file, page, PAGE, 0);
	if (r == 0)
		r = pool_io_sync(file);
	free(page);
	return r;
}

int pool_rig_read(struct pool_file *file, uint8_t *ret_byte)
{
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	int r;

	ASSERT(page);
	r = pool_io_read_copy(file, 0, page, PAGE, 0);
	if (r == 0)
		*ret_byte = page[0];
	free(page);
	return r;
}

struct pool_space pool_rig_space(struct pool_rig *rig)
{
	struct pool_space space;

	pool_get_space(rig->pool, &space);
	return space;
}

const char *pool_rig_state(struct pool_rig *rig)
{
	struct pool_info info;

	pool_get_info(rig->pool, &info);
	return info.state;
}

struct pool_file *pool_rig_take(struct pool_rig *rig, unsigned copies)
{
	const struct pool_want want = {.use = POOL_USE_DATA, .size_bytes = MIB, .copies = copies};
	struct pool_file *file;

	ASSERT(pool_file_take(rig->pool, &want, &file) == 0);
	return file;
}

struct pool_file *pool_rig_begin_two(struct pool_rig *rig)
{
	const struct pool_disk_spec spec = {.directory = "/disk2/p",
					    .capacity_bytes = POOL_MIN_BYTES};
	struct pool_file *file;
	uint64_t id;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(pool_disk_add(rig->pool, &spec, &id) == 0 && id == 2);
	file = pool_rig_take(rig, 2);
	ASSERT(pool_rig_write(file, 'h') == 0 && pool_rig_name(rig, file) == 0);
	return file;
}

unsigned pool_rig_copy_on(const struct pool_file *file, uint64_t disk)
{
	struct pool_copies copies;

	pool_file_get_copies(file, &copies);
	for (unsigned i = 0; i < copies.count; i++)
		if (copies.disks[i] == disk)
			return i;
	abort();
}

struct pool_disk_info pool_rig_disk(struct pool_rig *rig, uint64_t id)
{
	static struct pool_disk_info info; /* large for a fiber's stack */

	ASSERT(pool_disk_get(rig->pool, id, &info) == 0);
	return info;
}
