/* SPDX-License-Identifier: Apache-2.0 */
/* Several disks: adding, files with copies, missing and failed disks, draining, removing. */
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

#include "base/endian.h"
#include "pool/pool_disk.h"
#include "reactor/fiber.h"

#define PAGE 4096

static const char *const roots[] = {POOL_RIG_DISK, "/disk2", "/disk3", "/disk4"};

static int setup(void **state)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	for (unsigned i = 1; i < ARRAY_SIZE(roots); i++)
		ASSERT(sim_disk_add(rig->sim.sim, roots[i], POOL_RIG_DISK_BYTES) == 0);
	*state = rig;
	return 0;
}

static int add(struct pool_rig *rig, const char *directory, uint64_t *ret_id)
{
	const struct pool_disk_spec spec = {
		.directory = directory, .tier = "hdd", .capacity_bytes = POOL_MIN_BYTES};

	return pool_disk_add(rig->pool, &spec, ret_id);
}

/* A pool of `count` disks; ids are 1, 2, ... */
static void begin(struct pool_rig *rig, unsigned count)
{
	static const char *const directories[] = {"/disk2/p", "/disk3/p", "/disk4/p"};
	uint64_t id;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	for (unsigned i = 1; i < count; i++) {
		ASSERT(add(rig, directories[i - 1], &id) == 0);
		ASSERT(id == i + 1);
	}
}

static int reopen(struct pool_rig *rig)
{
	pool_close(TAKE_PTR(rig->pool));
	return pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool);
}

static int take(struct pool_rig *rig, unsigned copies, struct pool_file **ret_file)
{
	const struct pool_want want = {.use = POOL_USE_DATA, .size_bytes = MIB, .copies = copies};

	return pool_file_take(rig->pool, &want, ret_file);
}

static struct pool_copies copies_of(const struct pool_file *file)
{
	struct pool_copies copies;

	pool_file_get_copies(file, &copies);
	return copies;
}

static int read_copy(struct pool_file *file, unsigned copy)
{
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	int r;

	ASSERT(page);
	r = pool_io_read_copy(file, copy, page, PAGE, 0);
	r = r ? r : page[0];
	free(page);
	return r;
}

struct reading {
	struct pool_read read;
	struct fiber_op op;
};

static void read_done(struct pool_read *read, int64_t result)
{
	struct reading *reading = CONTAINER_OF(read, struct reading, read);

	reading->op.op.done(&reading->op.op, result);
}

/* As the data path does it: bytes, or the error. */
static int64_t read_copy_begun(struct pool_file *file, unsigned copy)
{
	struct reading reading = {.read.done = read_done};
	struct iovec iov = {aligned_alloc(PAGE, PAGE), PAGE};
	int64_t r;

	ASSERT(iov.iov_base);
	fiber_op_init(&reading.op);
	pool_file_read_copy(file, copy, &iov, 0, &reading.read);
	r = fiber_op_wait(&reading.op);
	free(iov.iov_base);
	return r;
}

static void copies_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file, *again;
	struct pool_copies copies;
	struct pool_disk_info *infos;
	uint64_t id, found;
	size_t count;

	begin(rig, 3);
	ASSERT(pool_disks_usable(rig->pool) == 3);
	ASSERT(take(rig, 3, &file) == 0);
	copies = copies_of(file);
	ASSERT(copies.count == 3 && copies.stale == 0);
	ASSERT(pool_rig_space(rig).used == 3 * MIB);
	ASSERT(pool_file_taking_part(file) == 7);
	ASSERT(pool_rig_write(file, 'c') == 0 && pool_rig_name(rig, file) == 0);
	for (unsigned i = 0; i < 3; i++) {
		ASSERT(read_copy(file, i) == 'c');
		ASSERT(pool_rig_disk(rig, i + 1).used == MIB &&
		       pool_rig_disk(rig, i + 1).files == 1);
	}
	id = pool_file_id(file);
	ASSERT(pool_file_open(rig->pool, id, &copies, &again) == -EBUSY);
	pool_file_close(file);
	ASSERT(reopen(rig) == 0);
	ASSERT(pool_rig_space(rig).used == 3 * MIB && pool_rig_space(rig).spare == 0);
	ASSERT(pool_disk_list(rig->pool, &infos, &count) == 0 && count == 3);
	ASSERT(infos[1].id == 2 && strcmp(infos[1].directory, "/disk2/p") == 0);
	ASSERT(strcmp(infos[1].tier, "hdd") == 0 && infos[1].capacity == POOL_MIN_BYTES);
	ASSERT(strcmp(infos[0].tier, "ssd") == 0);
	free(infos);
	ASSERT(pool_disk_find(rig->pool, "/disk3/p", &found) == 0 && found == 3);
	ASSERT(pool_disk_find(rig->pool, "2", &found) == 0 && found == 2);
	ASSERT(pool_disk_find(rig->pool, "/disk9", &found) == -ENOENT);
	ASSERT(pool_file_open(rig->pool, id, &copies, &file) == 0);
	ASSERT(read_copy(file, 2) == 'c');
	ASSERT(pool_rig_unname(rig, id) == 0);
	pool_file_discard(file);
	ASSERT(pool_rig_space(rig).used == 0 && pool_rig_space(rig).spare == 3 * MIB);
	ASSERT(take(rig, 2, &file) == 0); /* from spare files */
	ASSERT(pool_rig_space(rig).used == 2 * MIB && pool_rig_space(rig).spare == MIB);
	pool_file_discard(file);
	ASSERT(take(rig, 3, &file) == 0 && pool_rig_space(rig).used == 3 * MIB);
	ASSERT(pool_file_trim(file, MIB / 2) == 0 && pool_rig_space(rig).used == 3 * MIB / 2);
	pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

static void keeps_copies_on_all_disks(void **state)
{
	pool_rig_run(*state, copies_run);
}

static void set_missing(struct pool_rig *rig, unsigned disk, bool missing)
{
	sim_disk_set_missing(rig->sim.sim, roots[disk - 1], missing);
}

static void missing_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *kept, *dropped, *degraded;
	struct pool_copies copies;
	uint64_t kept_id, dropped_id;

	begin(rig, 2);
	ASSERT(take(rig, 2, &kept) == 0 && take(rig, 2, &dropped) == 0);
	ASSERT(pool_rig_write(kept, 'k') == 0 && pool_rig_write(dropped, 'd') == 0);
	ASSERT(pool_rig_name(rig, kept) == 0 && pool_rig_name(rig, dropped) == 0);
	copies = copies_of(kept);
	kept_id = pool_file_id(kept);
	dropped_id = pool_file_id(dropped);
	pool_file_close(kept);
	pool_file_close(dropped);
	pool_close(TAKE_PTR(rig->pool));

	set_missing(rig, 2, true);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_MISSING);
	ASSERT(strcmp(pool_rig_state(rig), "degraded") == 0);
	ASSERT(pool_disks_usable(rig->pool) == 1);
	ASSERT(pool_file_open(rig->pool, kept_id, &copies, &kept) == 0);
	ASSERT(pool_file_taking_part(kept) == (copies.disks[0] == 1 ? 1 : 2));
	ASSERT(take(rig, 2, &degraded) == 0 && copies_of(degraded).count == 1);
	ASSERT(pool_rig_unname(rig, dropped_id) == 0);
	ASSERT(pool_file_discard_id(rig->pool, dropped_id, &copies) == 0);
	ASSERT(pool_rig_disk(rig, 2).files == 1);

	set_missing(rig, 2, false);
	fiber_sleep(2 * POOL_DISK_SEARCH_NS);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	ASSERT(pool_rig_disk(rig, 2).spare == MIB &&
	       pool_rig_disk(rig, 2).used == MIB); /* it was swept */
	ASSERT(pool_file_reopen(kept) == 3);
	ASSERT(read_copy(kept, 0) == 'k' && read_copy(kept, 1) == 'k');
	pool_file_close(kept);
	pool_file_discard(degraded);
	pool_check(rig->pool);
	pool_close(TAKE_PTR(rig->pool));

	set_missing(rig, 1, true);
	set_missing(rig, 2, true);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) ==
	       -ENODEV);
	set_missing(rig, 1, false);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	set_missing(rig, 2, false);
	ASSERT(pool_disk_restore(rig->pool, 2) == 0);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	pool_rig_close(rig);
}

static void goes_on_without_a_missing_disk(void **state)
{
	pool_rig_run(*state, missing_run);
}

static int commit_copies(struct pool_rig *rig, struct pool_file *file,
			 const struct pool_copies *copies)
{
	pool_file_set_copies(file, copies);
	return pool_rig_name(rig, file);
}

static void repair_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file, *again;
	struct pool_copies copies;
	unsigned added, joining;
	uint8_t *page = aligned_alloc(PAGE, PAGE);

	ASSERT(page);
	begin(rig, 3);
	ASSERT(take(rig, 2, &file) == 0);
	ASSERT(pool_rig_write(file, 'r') == 0 && pool_rig_name(rig, file) == 0);
	ASSERT(pool_file_add_copy(file, &added) == 0 && added == 2);
	copies = copies_of(file);
	ASSERT(copies.count == 3 && copies.stale == 4 && pool_file_taking_part(file) == 3);
	ASSERT(pool_file_add_copy(file, &joining) == -ENOSPC);
	memset(page, 'r', PAGE);
	ASSERT(pool_io_write_copy(file, added, page, PAGE, 0) == 0);
	ASSERT(pool_io_sync_copy(file, added) == 0);
	/* The new one instead of the first. */
	copies = (struct pool_copies){.count = 2, .disks = {copies.disks[2], copies.disks[1]}};
	ASSERT(commit_copies(rig, file, &copies) == 0);
	ASSERT(copies_of(file).count == 2 && copies_of(file).disks[0] == copies.disks[0]);
	ASSERT(pool_file_taking_part(file) == 3 && read_copy(file, 0) == 'r');
	ASSERT(pool_rig_space(rig).used == 2 * MIB && pool_rig_space(rig).spare == MIB);
	/* One that is stale is never read, until it is not. */
	copies.stale = 1;
	ASSERT(commit_copies(rig, file, &copies) == 0);
	ASSERT(pool_file_taking_part(file) == 2 && read_copy(file, 0) == -ENXIO);
	ASSERT(read_copy_begun(file, 0) == -ENXIO && read_copy_begun(file, 1) == PAGE);
	pool_file_close(file);
	ASSERT(pool_file_open(rig->pool, 1, &copies, &file) == 0);
	ASSERT(pool_file_taking_part(file) == 2 && read_copy(file, 0) == -ENXIO);
	ASSERT(pool_file_open(rig->pool, 1, &copies, &again) == -EBUSY);
	copies.stale = 0;
	ASSERT(commit_copies(rig, file, &copies) == 0);
	ASSERT(pool_file_taking_part(file) == 3 && read_copy(file, 0) == 'r');
	pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
	free(page);
}

static void copies_come_and_go(void **state)
{
	pool_rig_run(*state, repair_run);
}

/* A copy that a loss of power left short, written since; then growing fails on the other. */
static void short_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file;
	struct world_file *handle;
	struct pool_copies copies;
	unsigned first;

	begin(rig, 2);
	ASSERT(take(rig, 2, &file) == 0 && pool_rig_name(rig, file) == 0);
	copies = copies_of(file);
	first = copies.disks[1] == 1;
	pool_file_close(file);
	/* Of the copy that comes first in the row. */
	ASSERT(io_open(first ? "/disk2/p/groups/01/0000000000000001.eg"
			     : POOL_RIG_DIRECTORY "/groups/01/0000000000000001.eg",
		       0, &handle) == 0);
	ASSERT(io_resize(handle, 0, WORLD_RESIZE_TRUNCATE) == 0 && io_close(handle) == 0);
	ASSERT(pool_file_open(rig->pool, 1, &copies, &file) == 0);
	ASSERT(pool_file_size(file) == MIB && pool_rig_space(rig).used == MIB);
	ASSERT(pool_rig_write(file, 's') == 0);
	sim_disk_set_capacity(rig->sim.sim, roots[!first], 2 * MIB);
	ASSERT(pool_file_trim(file, PAGE) == 0 && pool_rig_space(rig).used == 2 * PAGE);
	pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

static void short_copies_keep_what_is_written(void **state)
{
	pool_rig_run(*state, short_run);
}

static void leave_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file;
	struct pool_copies copies;
	struct world_stat stat;
	uint64_t id;

	begin(rig, 2);
	ASSERT(take(rig, 2, &file) == 0 && pool_rig_name(rig, file) == 0);
	ASSERT(pool_disk_remove(rig->pool, 2) == -EBUSY);
	ASSERT(pool_disk_set_draining(rig->pool, 2, true) == 0);
	ASSERT(pool_disk_set_draining(rig->pool, 1, true) == -EINVAL);
	ASSERT(pool_disk_fail(rig->pool, 1) == -EINVAL);
	ASSERT(pool_disk_is_leaving(rig->pool, 2) && !pool_disk_is_leaving(rig->pool, 1));
	ASSERT(pool_disks_usable(rig->pool) == 1);
	pool_file_close(file);
	ASSERT(reopen(rig) == 0 && pool_rig_disk(rig, 2).draining);
	ASSERT(take(rig, 2, &file) == 0 && copies_of(file).count == 1);
	pool_file_discard(file);
	copies = (struct pool_copies){.count = 2, .disks = {1, 2}};
	ASSERT(pool_file_open(rig->pool, 1, &copies, &file) == 0);
	copies.count = 1;
	ASSERT(commit_copies(rig, file, &copies) == 0);
	ASSERT(pool_disk_remove(rig->pool, 9) == -ENOENT);
	ASSERT(pool_disk_remove(rig->pool, 2) == 0);
	ASSERT(pool_disk_remove(rig->pool, 1) == -EINVAL);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	ASSERT(pool_disk_is_leaving(rig->pool, 2));
	ASSERT(io_stat("/disk2/p/label", &stat) == -ENOENT);
	ASSERT(io_stat("/disk2/p/label.new", &stat) == -ENOENT);
	ASSERT(add(rig, "/disk2/p", &id) == 0 && id == 3);

	/* The first goes: what is left of rows of version 1 is nothing. */
	copies = copies_of(file);
	ASSERT(pool_disk_fail(rig->pool, 1) == 0);
	ASSERT(pool_disk_state(rig->pool, 1) == POOL_DISK_FAILED);
	ASSERT(pool_rig_unname(rig, 1) == 0);
	pool_file_discard(file);
	ASSERT(pool_disk_remove(rig->pool, 1) == 0 && pool_first_disk(rig->pool) == 3);
	ASSERT(reopen(rig) == 0 && strcmp(pool_rig_state(rig), "online") == 0);
	/* It was declared failed, so its label still says whose it was. */
	ASSERT(add(rig, POOL_RIG_DIRECTORY, &id) == -ENOTEMPTY);
	pool_rig_close(rig);
}

static void disks_leave(void **state)
{
	pool_rig_run(*state, leave_run);
}

static void write_file(const char *path, const void *data, size_t length)
{
	struct world_file *file;

	ASSERT(io_open(path, WORLD_FILE_CREATE, &file) == 0);
	ASSERT(io_write(file, data, length, 0) == 0);
	ASSERT(io_close(file) == 0);
}

static int add_spec(struct pool_rig *rig, const char *directory, const char *tier, bool force)
{
	const struct pool_disk_spec spec = {.directory = directory,
					    .tier = tier,
					    .capacity_bytes = POOL_MIN_BYTES,
					    .force = force};
	uint64_t id;

	return pool_disk_add(rig->pool, &spec, &id);
}

static void refusals_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool *other;
	struct pool_file *file;
	struct world_stat stat;
	uint64_t id;
	char path[200];

	begin(rig, 1);
	ASSERT(add_spec(rig, "disk2/p", NULL, false) == -EINVAL);
	ASSERT(add_spec(rig, "/disk2/p", "tape", false) == -EINVAL);
	ASSERT(add_spec(rig, POOL_RIG_DIRECTORY, NULL, false) == -EEXIST);
	ASSERT(add_spec(rig, "/disk2/no/p", NULL, false) == -ENOENT);
	sim_disk_set_capacity(rig->sim.sim, "/disk4", POOL_MIN_BYTES / 2);
	ASSERT(add_spec(rig, "/disk4/p", NULL, false) == -ENOSPC);
	sim_disk_set_read_only(rig->sim.sim, "/disk3", true);
	ASSERT(add_spec(rig, "/disk3/p", NULL, false) == -EROFS);
	sim_disk_set_read_only(rig->sim.sim, "/disk3", false);
	ASSERT(io_directory_make("/disk3/d") == 0);
	write_file("/disk3/d/file", "x", 1);
	ASSERT(add_spec(rig, "/disk3/d", NULL, true) == -ENOTEMPTY);

	/* Another pool's, with something in it; then of a pool that is not known any more. */
	ASSERT(pool_rig_create(rig, "q", "/disk2/q", POOL_MIN_BYTES, &id) == 0);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, id, &other) == 0);
	ASSERT(take_file(other, POOL_USE_DATA, MIB, &file) == 0);
	snprintf(path, sizeof(path), "/disk2/q/groups/01/%016x.eg", 1);
	pool_file_close(file);
	pool_close(other);
	ASSERT(io_stat(path, &stat) == 0);
	ASSERT(add_spec(rig, "/disk2/q", NULL, true) == -ENOTEMPTY);
	ASSERT(io_stat(path, &stat) == 0 && io_stat("/disk2/q/label", &stat) == 0);
	struct catalog_change forget[2] = {
		{.kind = CATALOG_DELETE_PREFIX, .key = catalog_key(CATALOG_DISK)},
		{.kind = CATALOG_DELETE, .key = pool_rows_pool_key(id)}};
	catalog_key_add(&forget[0].key, id);
	ASSERT(catalog_commit(rig->catalog, forget, 2) == 0);
	/* With the mirror of the catalog that each disk has; nothing is touched beside other
	 * things. */
	ASSERT(io_directory_make("/disk2/q/catalog") == 0);
	write_file("/disk2/q/catalog/snapshot-0000000000000001", "x", 1);
	write_file("/disk2/q/catalog/log-0000000000000001", "x", 1);
	ASSERT(add_spec(rig, "/disk2/q", NULL, false) == -ENOTEMPTY);
	write_file("/disk2/q/catalog/mine", "x", 1);
	ASSERT(add_spec(rig, "/disk2/q", NULL, true) == -ENOTEMPTY);
	ASSERT(io_stat(path, &stat) == 0 && io_stat("/disk2/q/label", &stat) == 0);
	ASSERT(io_unlink("/disk2/q/catalog/mine") == 0);
	ASSERT(add_spec(rig, "/disk2/q", NULL, true) == 0);
	ASSERT(io_stat(path, &stat) == -ENOENT);
	ASSERT(io_stat("/disk2/q/catalog/snapshot-0000000000000001", &stat) == -ENOENT);
	ASSERT(add_spec(rig, "/disk2/q", NULL, true) == -EEXIST);
	ASSERT(pool_rig_space(rig).spare == 0 && pool_disks_usable(rig->pool) == 2);
	/* Two on one file system are allowed. */
	ASSERT(add_spec(rig, "/disk2/p", NULL, false) == 0);
	ASSERT(take(rig, 2, &file) == 0);
	ASSERT(copies_of(file).disks[0] == 1 || copies_of(file).disks[1] == 1);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void refuses_bad_disks(void **state)
{
	pool_rig_run(*state, refusals_run);
}

/* A disk is given up while it is being removed: its row does not come back. */

static struct {
	uint64_t pause_ns;
	int removed;
} leaving;

static void remove_second(void *arg)
{
	struct pool_rig *rig = arg;

	leaving.removed = pool_disk_remove(rig->pool, 2);
}

static void fail_second(void *arg)
{
	struct pool_rig *rig = arg;

	fiber_sleep(leaving.pause_ns);
	(void)pool_disk_fail(rig->pool, 2);
}

static void begin_two_run(void *arg)
{
	begin(arg, 2);
}

static void check_removed_run(void *arg)
{
	struct pool_rig *rig = arg;

	ASSERT(leaving.removed == 0);
	ASSERT(reopen(rig) == 0);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED); /* that is: not there */
	ASSERT(pool_disks_staying(rig->pool) == 1);
	ASSERT(pool_disk_fail(rig->pool, 2) == -ENOENT);
	pool_rig_close(rig);
}

static void a_removed_disk_does_not_come_back(void **state)
{
	for (uint64_t at = 0; at < 60; at++) {
		struct pool_rig *rig = *state;
		struct sim_rig_task tasks[2] = {{.run = remove_second, .arg = rig},
						{.run = fail_second, .arg = rig}};

		leaving.pause_ns = at * 100 * NSEC_PER_USEC;
		pool_rig_run(rig, begin_two_run);
		for (unsigned i = 0; i < 2; i++)
			sim_rig_start(&rig->sim, 0, &tasks[i]);
		ASSERT(sim_rig_wait(&rig->sim, tasks, 2, 60 * NSEC_PER_SEC) == 0);
		pool_rig_run(rig, check_removed_run);
		(void)pool_rig_teardown(state);
		(void)setup(state);
	}
}

/* A pool as the version before made it. */
static void version_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct catalog_rows rows;
	struct catalog_key prefix = catalog_key(CATALOG_DISK);
	struct catalog_change change = {.kind = CATALOG_PUT};
	uint8_t value[200];
	uint32_t length;

	begin(rig, 1);
	ASSERT(catalog_scan(rig->catalog, &prefix, NULL, 0, &rows) == 0 && rows.count == 1);
	length = rows.rows[0].length - 24;
	ASSERT(length <= sizeof(value));
	memcpy(value, rows.rows[0].value, 32);
	memcpy(value + 32, rows.rows[0].value + 56, length - 32);
	value[0] = 1;
	change.key = rows.rows[0].key;
	change.value = value;
	change.length = length;
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	catalog_rows_done(&rows);
	ASSERT(reopen(rig) == 0);
	ASSERT(pool_rig_disk(rig, 1).capacity == POOL_MIN_BYTES);
	ASSERT(strcmp(pool_rig_disk(rig, 1).tier, "ssd") == 0);
	value[0] = 3;
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	ASSERT(reopen(rig) == -EUCLEAN);
	pool_rig_close(rig);
}

static void reads_rows_of_version_1(void **state)
{
	pool_rig_run(*state, version_run);
}

/* Admission over uneven disks */

/* What the disks of the rig may hold of live data, in MiB. */
static void get_shares(struct pool_rig *rig, unsigned count, uint64_t shares[])
{
	for (unsigned i = 0; i < count; i++) {
		struct pool_disk_info info = pool_rig_disk(rig, i + 1);

		shares[i] = (info.capacity - info.reserve) / 100 * 91 / MIB;
	}
}

/* One MiB in so many copies, on the disks with the most room. */
static bool place_one(uint64_t *room, unsigned count, unsigned copies)
{
	unsigned given = 0;

	for (unsigned copy = 0; copy < copies; copy++) {
		unsigned best = count;

		for (unsigned d = 0; d < count; d++)
			if (!(given >> d & 1) && room[d] > 0 &&
			    (best == count || room[d] > room[best]))
				best = d;
		if (best == count)
			return false;
		given |= 1u << best;
		room[best]--;
	}
	return true;
}

/* Whether it can be spread: the most demanding first. That is the best there is. */
static bool can_be_spread(const uint64_t *shares, unsigned count, const uint64_t demand[4])
{
	uint64_t room[4];

	memcpy(room, shares, count * sizeof(*room));
	for (unsigned factor = 3; factor > 0; factor--)
		for (uint64_t i = 0; i < demand[factor]; i++)
			if (!place_one(room, count, MIN(factor, count)))
				return false;
	return true;
}

static void admit_round(struct pool_rig *rig, unsigned count, const uint64_t *shares)
{
	uint64_t demand[4] = {0};
	unsigned wrong = 0;

	for (unsigned i = 0; i < 40; i++) {
		unsigned factor = 1 + (unsigned)sim_random_below(rig->sim.sim, 3);
		uint64_t more = 1 + sim_random_below(rig->sim.sim, 300);
		bool fits;
		int r = pool_admit(rig->pool, factor, more * MIB);

		demand[factor] += more;
		fits = can_be_spread(shares, count, demand);
		/* Shares are not whole MiB: at the very edge both may be right. */
		wrong += fits != (r == 0);
		if (r != 0)
			demand[factor] -= more;
	}
	ASSERT(wrong <= 1);
	for (unsigned factor = 1; factor <= 3; factor++)
		if (demand[factor])
			pool_admit_return(rig->pool, factor, demand[factor] * MIB);
}

static void admission_run(void *arg)
{
	struct pool_rig *rig = arg;
	uint64_t shares[4], id;
	struct pool_space space;
	const uint64_t sizes[] = {0, 600 * MIB, 1900 * MIB, 1200 * MIB};

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	for (unsigned count = 1; count <= 4; count++) {
		if (count > 1) {
			char directory[16];
			const struct pool_disk_spec spec = {.directory = directory,
							    .capacity_bytes = sizes[count - 1]};

			snprintf(directory, sizeof(directory), "/disk%u/p", count);
			ASSERT(pool_disk_add(rig->pool, &spec, &id) == 0);
		}
		get_shares(rig, count, shares);
		for (unsigned round = 0; round < 50; round++)
			admit_round(rig, count, shares);
	}
	/* With a third copy of everything the largest disk is of little use. */
	ASSERT(pool_admit(rig->pool, 3, MIB) == 0);
	space = pool_rig_space(rig);
	ASSERT(space.admitted == 3 * MIB && space.limit < (shares[0] + shares[1] + 2) * 3 * MIB);
	pool_admit_return(rig->pool, 3, MIB);
	ASSERT(pool_rig_space(rig).limit > (shares[0] + shares[1] + shares[2]) * MIB);
	/* Two disks left: three copies count as two. */
	ASSERT(pool_disk_fail(rig->pool, 3) == 0 && pool_disk_fail(rig->pool, 4) == 0);
	ASSERT(pool_admit(rig->pool, 3, shares[0] * MIB) == 0);
	ASSERT(pool_admit(rig->pool, 3, 2 * MIB) == -ENOSPC);
	ASSERT(pool_rig_space(rig).admitted == 2 * shares[0] * MIB);
	pool_admit_return(rig->pool, 3, shares[0] * MIB);
	pool_rig_close(rig);
}

static void admits_what_can_be_spread(void **state)
{
	pool_rig_run(*state, admission_run);
}

static void pressure_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *files[600];
	unsigned count = 0;
	int r;

	begin(rig, 3);
	pool_account_live(rig->pool, 2, MIB);
	ASSERT(pool_pressure(rig->pool) == 0);
	/* Fill the first disk alone: two are left, enough for two copies but not for three. */
	ASSERT(pool_disk_set_draining(rig->pool, 2, true) == 0);
	ASSERT(pool_disk_set_draining(rig->pool, 3, true) == 0);
	while ((r = take(rig, 1, &files[count])) == 0 && pool_rig_disk(rig, 2).used == 0 &&
	       pool_rig_disk(rig, 3).used == 0)
		count++;
	if (r == 0) /* where there was no other */
		pool_file_discard(files[count]);
	ASSERT(pool_pressure(rig->pool) == 100);
	ASSERT(pool_disk_set_draining(rig->pool, 2, false) == 0);
	ASSERT(pool_disk_set_draining(rig->pool, 3, false) == 0);
	ASSERT(pool_pressure(rig->pool) == 0);
	pool_account_live(rig->pool, 3, MIB);
	ASSERT(pool_pressure(rig->pool) == 100);
	pool_account_live(rig->pool, 3, -(int64_t)MIB);
	ASSERT(take(rig, 3, &files[count]) == 0 && copies_of(files[count]).count == 2);
	count++;
	for (unsigned i = 0; i < count; i++)
		pool_file_discard(files[i]);
	pool_rig_close(rig);
}

static void presses_when_copies_have_no_room(void **state)
{
	pool_rig_run(*state, pressure_run);
}

/* Disk 1 is an SSD, the others are not. */
static void tiers_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_want want = {.use = POOL_USE_DATA, .size_bytes = MIB, .copies = 1};
	struct pool_file *file;
	unsigned added;

	begin(rig, 3);
	for (unsigned i = 0; i < 20; i++) {
		bool ssd_first = i % 2;

		want.tiers = ssd_first ? 0x21 : 0x12;
		ASSERT(pool_file_take(rig->pool, &want, &file) == 0);
		ASSERT((copies_of(file).disks[0] == 1) == ssd_first);
		pool_file_set_tiers(file, ssd_first ? 0x12 : 0x21);
		ASSERT(pool_file_add_copy(file, &added) == 0);
		ASSERT((copies_of(file).disks[1] == 1) == !ssd_first);
		pool_file_discard(file);
	}
	/* Where the tier has no room, another is as good. */
	want.tiers = 0x1;
	want.copies = 3;
	ASSERT(pool_file_take(rig->pool, &want, &file) == 0 && copies_of(file).count == 3);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void follows_the_order_of_tiers(void **state)
{
	pool_rig_run(*state, tiers_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(keeps_copies_on_all_disks),
		TEST(goes_on_without_a_missing_disk),
		TEST(copies_come_and_go),
		TEST(short_copies_keep_what_is_written),
		TEST(disks_leave),
		TEST(refuses_bad_disks),
		TEST(a_removed_disk_does_not_come_back),
		TEST(reads_rows_of_version_1),
		TEST(admits_what_can_be_spread),
		TEST(follows_the_order_of_tiers),
		TEST(presses_when_copies_have_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
