/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool does, and leaves, while I/O of a dead daemon may still land. */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "pool/pool_fence.h"
#include "pool/pool_io.h"

#define DISK_2 "/disk2"
#define PAGE   4096

static int setup(void **state)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	ASSERT(sim_disk_add(rig->sim.sim, DISK_2, POOL_RIG_DISK_BYTES) == 0);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	pool_fence_set(POOL_FENCE_NONE);
	return pool_rig_teardown(state);
}

static void begin(struct pool_rig *rig)
{
	const struct pool_disk_spec spec = {.directory = DISK_2 "/p",
					    .capacity_bytes = POOL_MIN_BYTES};
	uint64_t id;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(pool_disk_add(rig->pool, &spec, &id) == 0 && id == 2);
}

static void reopen(struct pool_rig *rig, enum pool_fence fence)
{
	pool_close(TAKE_PTR(rig->pool));
	pool_fence_set(fence);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
}

static size_t count_files(const char *directory)
{
	struct world_names names;
	size_t count;

	ASSERT(io_directory_list(directory, &names) == 0);
	count = names.count;
	world_names_free(&names);
	return count;
}

static size_t count_spares(void)
{
	return count_files(POOL_RIG_DIRECTORY "/spare") + count_files(DISK_2 "/p/spare");
}

static size_t count_groups(void)
{
	char path[100];
	size_t count = 0;

	for (unsigned i = 0; i < 256; i++) {
		snprintf(path, sizeof(path), "%s/groups/%02x", POOL_RIG_DIRECTORY, i);
		count += count_files(path);
		snprintf(path, sizeof(path), "%s/groups/%02x", DISK_2 "/p", i);
		count += count_files(path);
	}
	return count;
}

/* Named: `ret_named`, with 'n' in it. Beside it a spare file on each disk, and one without a row.
 */
static void leave_files(struct pool_rig *rig, uint64_t *ret_named, struct pool_copies *ret_copies)
{
	struct pool_file *named = pool_rig_take(rig, 2), *spare = pool_rig_take(rig, 2),
			 *unnamed = pool_rig_take(rig, 2);

	ASSERT(pool_rig_write(named, 'n') == 0 && pool_rig_name(rig, named) == 0);
	*ret_named = pool_file_id(named);
	pool_file_get_copies(named, ret_copies);
	pool_file_close(named);
	pool_file_discard(spare);
	pool_file_close(unnamed);
	ASSERT(count_spares() == 2 && count_groups() == 4);
}

#define LABEL POOL_RIG_DIRECTORY "/label"

/* A label that is written anew is a new file: what the dead daemon had open under that name, and
 * writes late, is none. */
static void label_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct world_file *late;
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	bool put_right = false;

	ASSERT(page);
	memset(page, 'l', PAGE);
	begin(rig);
	reopen(rig, POOL_FENCE_DATA);
	ASSERT(io_open(LABEL ".new", WORLD_FILE_CREATE, &late) == 0);
	ASSERT(sim_disk_flip(rig->sim.sim, LABEL, 300, 2) == 0);
	ASSERT(pool_disk_scrub_label(rig->pool, 1, &put_right) == 0 && put_right);
	ASSERT(io_write(late, page, PAGE, 0) == 0 && io_close(late) == 0);
	ASSERT(pool_disk_scrub_label(rig->pool, 1, &put_right) == 0 && !put_right);
	pool_rig_close(rig);
	free(page);
}

static void a_label_is_a_new_file(void **state)
{
	pool_rig_run(*state, label_run);
}

static void nothing_is_used_again_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_copies copies;
	struct pool_file *file;
	uint64_t named;
	uint8_t byte;

	begin(rig);
	leave_files(rig, &named, &copies);
	reopen(rig, POOL_FENCE_DATA);
	ASSERT(pool_rig_space(rig).spare == 0 && count_spares() == 0 && count_groups() == 2);
	ASSERT(pool_file_open(rig->pool, named, &copies, &file) == 0);
	ASSERT(pool_rig_read(file, &byte) == 0 && byte == 'n');
	ASSERT(pool_rig_unname(rig, named) == 0);
	pool_file_discard(file);
	ASSERT(pool_rig_space(rig).spare == 0 && count_spares() == 0 && count_groups() == 0);
	/* When all has landed it is as ever. */
	pool_fence_set(POOL_FENCE_NONE);
	pool_file_discard(pool_rig_take(rig, 2));
	ASSERT(pool_rig_space(rig).spare == 2 * MIB && count_spares() == 2);
	pool_rig_close(rig);
}

static void nothing_is_used_again(void **state)
{
	pool_rig_run(*state, nothing_is_used_again_run);
}

static void no_copy_while_names_may_change_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file;
	unsigned copy;

	begin(rig);
	reopen(rig, POOL_FENCE_NAMES);
	file = pool_rig_take(rig, 1);
	ASSERT(pool_rig_write(file, 'x') == 0);
	ASSERT(pool_file_add_copy(file, &copy) == -EBUSY);
	pool_fence_set(POOL_FENCE_DATA);
	ASSERT(pool_file_add_copy(file, &copy) == 0);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void no_copy_while_names_may_change(void **state)
{
	pool_rig_run(*state, no_copy_while_names_may_change_run);
}

static void a_disk_comes_back_only_afterwards_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_copies copies;
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	struct pool_file *file;
	uint64_t named;

	ASSERT(page);
	begin(rig);
	leave_files(rig, &named, &copies);
	pool_close(TAKE_PTR(rig->pool));
	pool_fence_set(POOL_FENCE_DATA);
	sim_disk_set_hung(rig->sim.sim, DISK_2, true);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	ASSERT(pool_rig_disk(rig, 2).state == POOL_DISK_MISSING);
	ASSERT(pool_rig_disk(rig, 1).state == POOL_DISK_ONLINE);
	ASSERT(pool_file_open(rig->pool, named, &copies, &file) == 0);
	ASSERT(pool_io_read_copy(file, pool_rig_copy_on(file, 1), page, PAGE, 0) == 0);
	ASSERT(page[0] == 'n');
	free(page);
	pool_file_close(file);
	sim_disk_set_hung(rig->sim.sim, DISK_2, false);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(pool_rig_disk(rig, 2).state == POOL_DISK_MISSING);
	ASSERT(count_files(DISK_2 "/p/spare") > 0); /* nothing was changed there */
	pool_fence_set(POOL_FENCE_NONE);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(pool_rig_disk(rig, 2).state == POOL_DISK_ONLINE);
	pool_rig_close(rig);
}

static void a_disk_comes_back_only_afterwards(void **state)
{
	pool_rig_run(*state, a_disk_comes_back_only_afterwards_run);
}

/* It can be read, but takes no writes: found out before it is used. */
static void a_disk_must_take_writes_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct sim_faults broken = {.write_error_ppm = 1000000}, sound = {0};

	begin(rig);
	pool_close(TAKE_PTR(rig->pool));
	pool_fence_set(POOL_FENCE_DATA);
	sim_disk_set_faults(rig->sim.sim, DISK_2, &broken);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	ASSERT(pool_rig_disk(rig, 2).state == POOL_DISK_MISSING);
	sim_disk_set_faults(rig->sim.sim, DISK_2, &sound);
	pool_fence_set(POOL_FENCE_NONE);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(pool_rig_disk(rig, 2).state == POOL_DISK_ONLINE);
	pool_rig_close(rig);
}

static void a_disk_must_take_writes(void **state)
{
	pool_rig_run(*state, a_disk_must_take_writes_run);
}

/* Without a disk that answers the pool does not open, and holds up no others. */
static void a_pool_that_hangs_is_left_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct sim_faults broken = {.write_error_ppm = 1000000}, sound = {0};

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	pool_close(TAKE_PTR(rig->pool));
	pool_fence_set(POOL_FENCE_NAMES);
	sim_disk_set_faults(rig->sim.sim, POOL_RIG_DISK, &broken);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == -EIO);
	sim_disk_set_faults(rig->sim.sim, POOL_RIG_DISK, &sound);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	pool_rig_close(rig);
}

static void a_pool_that_hangs_is_left(void **state)
{
	pool_rig_run(*state, a_pool_that_hangs_is_left_run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_is_used_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_label_is_a_new_file, setup, teardown),
		cmocka_unit_test_setup_teardown(no_copy_while_names_may_change, setup, teardown),
		cmocka_unit_test_setup_teardown(a_disk_comes_back_only_afterwards, setup, teardown),
		cmocka_unit_test_setup_teardown(a_disk_must_take_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(a_pool_that_hangs_is_left, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
