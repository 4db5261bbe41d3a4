/* SPDX-License-Identifier: Apache-2.0 */
/* Account, limits, pressure, spare files, waiting for room, states of the file system. */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pool_file *take(struct pool_rig *rig, uint64_t size)
{
	struct pool_file *file;

	ASSERT(take_file(rig->pool, POOL_USE_DATA, size, &file) == 0);
	return file;
}

static void admission_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_space s;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	s = pool_rig_space(rig);
	ASSERT(s.capacity == POOL_MIN_BYTES && pool_group_bytes(rig->pool) == 4 * MIB);
	/* A vDisk of 80 % of the pool with its map fits, and 7 % of the pool are left. */
	ASSERT(s.limit >= s.capacity / 1000 * (804 + 70));
	ASSERT(s.limit < s.capacity - s.reserve);
	pool_account_live(rig->pool, 1, 100 * (int64_t)MIB);
	ASSERT(pool_admit(rig->pool, 1, s.limit - 100 * MIB) == 0);
	ASSERT(pool_admit(rig->pool, 1, 1) == -ENOSPC);
	pool_admit_return(rig->pool, 1, 1);
	ASSERT(pool_admit(rig->pool, 1, 1) == 0);
	pool_account_live(rig->pool, 1, -50 * (int64_t)MIB);
	ASSERT(pool_admit(rig->pool, 1, 50 * MIB) == 0);
	ASSERT(pool_admit(rig->pool, 1, 1) == -ENOSPC);
	s = pool_rig_space(rig);
	ASSERT(s.live == 50 * MIB && s.admitted == s.limit - 50 * MIB);
	pool_rig_close(rig);
}

static void admits_up_to_the_limit(void **state)
{
	pool_rig_run(*state, admission_run);
}

static void fill_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *files[600];
	struct pool_space s;
	unsigned count = 0, last = 0;
	int r;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(pool_pressure(rig->pool) == 0);
	while ((r = take_file(rig->pool, POOL_USE_DATA, MIB, &files[count])) == 0) {
		ASSERT(pool_pressure(rig->pool) >= last);
		last = pool_pressure(rig->pool);
		count++;
	}
	ASSERT(r == -ENOSPC && pool_pressure(rig->pool) == 100);
	s = pool_rig_space(rig);
	ASSERT(s.used == s.capacity - s.reserve && s.used == count * MIB);
	/* The reserve is for others. */
	while ((r = take_file(rig->pool, POOL_USE_INTERNAL, MIB, &files[count])) == 0)
		count++;
	ASSERT(r == -ENOSPC);
	s = pool_rig_space(rig);
	ASSERT(s.used == s.capacity);
	ASSERT(strcmp(pool_rig_state(rig), "online") == 0); /* the pool is full, not its disk */
	for (unsigned i = 0; i < count; i++)
		pool_file_discard(files[i]);
	pool_check(rig->pool);
	s = pool_rig_space(rig);
	ASSERT(s.used == 0 && s.spare > 0 && s.spare <= 64 * MIB + MIB);
	pool_rig_close(rig);
}

static void keeps_the_reserve(void **state)
{
	pool_rig_run(*state, fill_run);
}

static void sizes_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, POOL_GROUP_BYTES + 1, &file) == -EFBIG);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, POOL_GROUP_BYTES, &file) == 0);
	ASSERT(pool_file_trim(file, 8192) == 0 && pool_rig_space(rig).used == 8192);
	ASSERT(pool_file_trim(file, MIB) == 0 && pool_file_size(file) == 8192);
	ASSERT(pool_file_trim(file, 0) == 0 && pool_rig_space(rig).used == 0);
	pool_file_discard(file);
	ASSERT(open_file(rig->pool, 12345, &file) == -ENOENT);
	ASSERT(discard_file_id(rig->pool, 12345) == -ENOENT);
	pool_rig_close(rig);
}

static void holds_size_limits(void **state)
{
	pool_rig_run(*state, sizes_run);
}

static void reuse_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file;
	uint64_t first;
	uint8_t byte;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	file = take(rig, 4 * MIB);
	first = pool_file_id(file);
	ASSERT(pool_rig_write(file, 'x') == 0);
	pool_file_discard(file);
	ASSERT(pool_rig_space(rig).used == 0 && pool_rig_space(rig).spare == 4 * MIB);

	file = take(rig, 64 * 1024); /* far too large for it */
	ASSERT(pool_file_size(file) == 64 * 1024 && pool_rig_space(rig).spare == 4 * MIB);
	pool_file_discard(file); /* too small to be kept */
	ASSERT(pool_rig_space(rig).spare == 4 * MIB);

	file = take(rig, MIB);
	ASSERT(pool_file_size(file) == 4 * MIB && pool_rig_space(rig).spare == 0);
	ASSERT(pool_file_id(file) != first);
	ASSERT(pool_rig_read(file, &byte) == 0 && byte == 'x');
	ASSERT(pool_rig_name(rig, file) == 0);
	pool_file_close(file);
	pool_rig_close(rig);

	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(pool_rig_space(rig).used == 4 * MIB && pool_rig_space(rig).spare == 0);
	pool_rig_close(rig);
}

static void uses_removed_files_again(void **state)
{
	pool_rig_run(*state, reuse_run);
}

/* Spare files never stand in the way. */
static void room_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *files[128];
	struct pool_space s = {0};
	unsigned count = 0;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	for (unsigned i = 0; i < 40; i++)
		files[i] = take(rig, 3 * MIB);
	for (unsigned i = 0; i < 40; i++)
		pool_file_discard(files[i]);
	ASSERT(pool_rig_space(rig).spare >= 100 * MIB);
	while (take_file(rig->pool, POOL_USE_INTERNAL, 8 * MIB, &files[count]) == 0) {
		s = pool_rig_space(rig);
		ASSERT(s.used + s.spare <= s.capacity);
		count++;
	}
	ASSERT(s.used == s.capacity && s.spare == 0);
	for (unsigned i = 0; i < count; i++)
		pool_file_discard(files[i]);
	pool_rig_close(rig);
}

static void spare_files_make_room(void **state)
{
	pool_rig_run(*state, room_run);
}

/* One that fits, but is larger than what is left for data, is there for the next. */
static void put_back_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file;
	struct pool_space s;
	uint64_t left;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	pool_file_discard(take(rig, 4 * MIB));
	for (;;) { /* larger ones do not take it */
		s = pool_rig_space(rig);
		left = s.capacity - s.reserve - s.used;
		if (left <= POOL_GROUP_BYTES)
			break;
		pool_file_close(take(rig, POOL_GROUP_BYTES / 2));
	}
	pool_file_close(take(rig, left - 2 * MIB));
	ASSERT(pool_rig_space(rig).spare == 4 * MIB);

	file = take(rig, MIB);
	ASSERT(pool_file_size(file) == MIB);
	ASSERT(pool_rig_space(rig).spare == 4 * MIB);
	pool_file_close(file);
	pool_check(rig->pool);
	/* The reserve holds it. */
	ASSERT(take_file(rig->pool, POOL_USE_INTERNAL, MIB, &file) == 0);
	ASSERT(pool_file_size(file) == 4 * MIB && pool_rig_space(rig).spare == 0);
	pool_file_close(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

static void a_spare_file_that_is_too_large_is_put_back(void **state)
{
	pool_rig_run(*state, put_back_run);
}

static void ahead_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file;

	ASSERT(pool_rig_open(rig, 12 * GIB) == 0);
	ASSERT(pool_group_bytes(rig->pool) == POOL_GROUP_BYTES);
	ASSERT(pool_rig_space(rig).spare == 0);
	pool_set_spares_ahead(rig->pool, 2);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(pool_rig_space(rig).spare == 2 * POOL_GROUP_BYTES);
	file = take(rig, POOL_GROUP_BYTES);
	ASSERT(pool_rig_space(rig).spare == POOL_GROUP_BYTES);
	fiber_sleep(NSEC_PER_SEC); /* not idle yet */
	ASSERT(pool_rig_space(rig).spare == POOL_GROUP_BYTES);
	fiber_sleep(500 * NSEC_PER_MSEC + NSEC_PER_SEC); /* closes in the middle of one */
	ASSERT(pool_rig_name(rig, file) == 0);
	pool_file_close(file);
	pool_rig_close(rig);

	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(pool_rig_space(rig).spare == POOL_GROUP_BYTES);
	ASSERT(pool_rig_space(rig).used == POOL_GROUP_BYTES);
	pool_rig_close(rig);
}

static void writes_spare_files_ahead(void **state)
{
	struct pool_rig *rig = pool_rig_new(16 * GIB);

	(void)state;
	pool_rig_run(rig, ahead_run);
	pool_rig_free(rig);
}

static void read_only_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file, *other;
	uint64_t id;
	uint8_t byte;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	file = take(rig, MIB);
	id = pool_file_id(file);
	ASSERT(pool_rig_write(file, 'r') == 0 && pool_rig_name(rig, file) == 0);
	sim_disk_set_read_only(rig->sim.sim, POOL_RIG_DISK, true);
	ASSERT(pool_rig_write(file, 's') == -EROFS);
	ASSERT(strcmp(pool_rig_state(rig), "read-only") == 0);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &other) == -EROFS);
	ASSERT(pool_admit(rig->pool, 1, 4096) == -EROFS);
	ASSERT(pool_file_trim(file, 4096) == -EROFS && pool_file_size(file) == MIB);
	ASSERT(pool_rig_read(file, &byte) == 0 && byte == 'r');
	pool_file_close(file);
	ASSERT(discard_file_id(rig->pool, id) == -EROFS);
	pool_rig_close(rig);

	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(strcmp(pool_rig_state(rig), "read-only") == 0);
	ASSERT(open_file(rig->pool, id, &file) == 0);
	ASSERT(pool_rig_read(file, &byte) == 0 && byte == 'r');
	fiber_sleep(5 * NSEC_PER_SEC);
	ASSERT(strcmp(pool_rig_state(rig), "read-only") == 0);
	sim_disk_set_read_only(rig->sim.sim, POOL_RIG_DISK, false);
	fiber_sleep(2 * NSEC_PER_SEC);
	ASSERT(strcmp(pool_rig_state(rig), "online") == 0);
	ASSERT(pool_admit(rig->pool, 1, 4096) == 0);
	other = take(rig, MIB);
	pool_file_discard(other);
	pool_file_close(file);
	pool_rig_close(rig);
}

static void reads_on_a_read_only_disk(void **state)
{
	pool_rig_run(*state, read_only_run);
}

#define ORPHANS 24u

/* What cannot be removed stays charged, and all of it goes once that works again. */
static void orphans_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *files[ORPHANS], *kept;

	ASSERT(pool_rig_open(rig, POOL_RIG_DISK_BYTES / 2) == 0);
	kept = take(rig, MIB);
	for (unsigned i = 0; i < ORPHANS; i++)
		files[i] = take(rig, MIB);
	sim_disk_set_read_only(rig->sim.sim, POOL_RIG_DISK, true);
	for (unsigned i = 0; i < ORPHANS; i++)
		pool_file_discard(files[i]);
	ASSERT(pool_rig_disk(rig, 1).files == 1);
	ASSERT(pool_rig_space(rig).used == (ORPHANS + 1) * MIB);
	sim_disk_set_read_only(rig->sim.sim, POOL_RIG_DISK, false);
	fiber_sleep(65 * NSEC_PER_SEC);
	ASSERT(pool_rig_space(rig).used == MIB);
	ASSERT(pool_rig_write(kept, 'k') == 0);
	pool_file_discard(kept);
	pool_rig_close(rig);
}

static void orphans_go_when_they_can(void **state)
{
	pool_rig_run(*state, orphans_run);
}

static void full_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file, *other;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	file = take(rig, 8 * MIB);
	other = take(rig, 8 * MIB);
	pool_file_discard(other);
	sim_disk_set_capacity(rig->sim.sim, POOL_RIG_DISK, 25 * MIB);
	other = take(rig, 12 * MIB); /* the spare file makes way */
	ASSERT(pool_rig_space(rig).spare == 0);
	pool_file_discard(other);
	other = NULL;
	ASSERT(take_file(rig->pool, POOL_USE_DATA, 40 * MIB, &other) == -ENOSPC);
	ASSERT(strcmp(pool_rig_state(rig), "full") == 0);
	ASSERT(pool_rig_space(rig).used == 8 * MIB);
	sim_disk_set_capacity(rig->sim.sim, POOL_RIG_DISK, POOL_RIG_DISK_BYTES);
	fiber_sleep(2 * NSEC_PER_SEC);
	ASSERT(strcmp(pool_rig_state(rig), "online") == 0);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void reports_a_full_file_system(void **state)
{
	pool_rig_run(*state, full_run);
}

/* The file system is grown and shrunk under the pool. */
static void size_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_space before, after;
	struct pool_file *file, *other;

	ASSERT(pool_rig_open(rig, 0) == 0);
	before = pool_rig_space(rig);
	ASSERT(pool_admit(rig->pool, 1, before.limit) == 0);
	ASSERT(pool_admit(rig->pool, 1, MIB) == -ENOSPC);
	sim_disk_set_capacity(rig->sim.sim, POOL_RIG_DISK, 2 * POOL_RIG_DISK_BYTES);
	fiber_sleep(11 * NSEC_PER_SEC);
	after = pool_rig_space(rig);
	ASSERT(after.capacity == ALIGN_DOWN(2 * POOL_RIG_DISK_BYTES / 100 * 95, MIB));
	ASSERT(after.limit > before.limit && after.reserve > before.reserve);
	ASSERT(pool_admit(rig->pool, 1, MIB) == 0);
	pool_admit_return(rig->pool, 1, before.limit + MIB);
	file = take(rig, 32 * MIB);
	other = take(rig, 32 * MIB);
	pool_file_discard(other);
	ASSERT(pool_rig_space(rig).spare > 0);
	/* To less than there is on it: nothing is lost, nothing new is put there. */
	sim_disk_set_capacity(rig->sim.sim, POOL_RIG_DISK, 24 * MIB);
	fiber_sleep(11 * NSEC_PER_SEC);
	after = pool_rig_space(rig);
	ASSERT(after.capacity < 24 * MIB && after.used == 32 * MIB && after.spare == 0);
	ASSERT(pool_admit(rig->pool, 1, 24 * MIB) == -ENOSPC);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &other) == -ENOSPC);
	pool_check(rig->pool);
	sim_disk_set_capacity(rig->sim.sim, POOL_RIG_DISK, POOL_RIG_DISK_BYTES);
	fiber_sleep(11 * NSEC_PER_SEC);
	ASSERT(pool_rig_space(rig).capacity == before.capacity);
	other = take(rig, MIB);
	pool_file_discard(other);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void follows_the_size_of_the_file_system(void **state)
{
	pool_rig_run(*state, size_run);
}

/* A capacity that was given holds. */
static void given_size_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_space before, after;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	before = pool_rig_space(rig);
	sim_disk_set_capacity(rig->sim.sim, POOL_RIG_DISK, 2 * POOL_RIG_DISK_BYTES);
	fiber_sleep(11 * NSEC_PER_SEC);
	after = pool_rig_space(rig);
	ASSERT(after.capacity == before.capacity && after.limit == before.limit);
	pool_rig_close(rig);
}

static void keeps_the_size_that_was_given(void **state)
{
	pool_rig_run(*state, given_size_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_rig_setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(admits_up_to_the_limit),
		TEST(keeps_the_reserve),
		TEST(holds_size_limits),
		TEST(uses_removed_files_again),
		TEST(spare_files_make_room),
		TEST(a_spare_file_that_is_too_large_is_put_back),
		cmocka_unit_test(writes_spare_files_ahead),
		TEST(reads_on_a_read_only_disk),
		TEST(orphans_go_when_they_can),
		TEST(reports_a_full_file_system),
		TEST(follows_the_size_of_the_file_system),
		TEST(keeps_the_size_that_was_given),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
