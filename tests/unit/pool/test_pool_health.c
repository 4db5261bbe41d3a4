/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that err, slow down, vanish and come back while they are used. */
#include "pool_rig.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "catalog/mirror.h"
#include "pool/pool_disk.h"

#define PAGE 4096

static const char *const roots[] = {POOL_RIG_DISK, "/disk2"};

static int setup(void **state)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	ASSERT(sim_disk_add(rig->sim.sim, roots[1], POOL_RIG_DISK_BYTES) == 0);
	*state = rig;
	return 0;
}

static void set_faults(struct pool_rig *rig, uint64_t disk, struct sim_faults faults)
{
	sim_disk_set_faults(rig->sim.sim, roots[disk - 1], &faults);
}

static int write_copy(struct pool_file *file, unsigned copy)
{
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	int r;

	ASSERT(page);
	memset(page, 'h', PAGE);
	r = pool_io_write_copy(file, copy, page, PAGE, 0);
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

/* Which copy a read came from; its first byte must be right. */
static unsigned read_from(struct pool_file *file)
{
	struct reading reading = {.read = {.done = read_done}};
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	struct iovec iov = {page, PAGE};

	ASSERT(page);
	fiber_op_init(&reading.op);
	pool_file_read(file, &iov, 1, 0, &reading.read);
	ASSERT(fiber_op_wait(&reading.op) == PAGE && page[0] == 'h');
	free(page);
	return reading.read.copy;
}

static void errors_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig), *other;
	unsigned copy = pool_rig_copy_on(file, 2), seen = 0;
	uint64_t begun = pool_rig_disk(rig, 2).state_since_ns,
		 first = pool_rig_disk(rig, 1).state_since_ns;
	uint64_t suspect;

	for (unsigned i = 0; i < 4; i++)
		seen |= 1u << read_from(file);
	ASSERT(seen == 3); /* both have their turn */
	set_faults(rig, 2, (struct sim_faults){.write_error_ppm = 1000000});
	ASSERT(write_copy(file, copy) == -EIO && write_copy(file, copy) == -EIO);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	ASSERT(pool_rig_disk(rig, 2).state_since_ns == begun); /* and was nothing else meanwhile */
	ASSERT(pool_rig_write(file, 'h') == -EIO);             /* the other has it */
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_SUSPECT);
	suspect = pool_rig_disk(rig, 2).state_since_ns;
	ASSERT(suspect > begun);
	ASSERT(pool_rig_disk(rig, 2).health.write_errors == 3);
	ASSERT(pool_disks_usable(rig->pool) == 1);
	for (unsigned i = 0; i < 4; i++)
		ASSERT(read_from(file) != copy);
	other = pool_rig_take(rig, 2);
	ASSERT(pool_file_taking_part(other) == 1); /* nothing new there */
	pool_file_discard(other);
	/* It behaves again. */
	set_faults(rig, 2, (struct sim_faults){0});
	fiber_sleep(50 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_SUSPECT);
	ASSERT(pool_rig_disk(rig, 2).state_since_ns == suspect);
	fiber_sleep(15 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	ASSERT(pool_rig_disk(rig, 2).state_since_ns > suspect);
	ASSERT(pool_disk_state(rig->pool, 1) == POOL_DISK_ONLINE);
	ASSERT(pool_rig_disk(rig, 1).state_since_ns == first);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void avoids_disks_that_err(void **state)
{
	pool_rig_run(*state, errors_run);
}

static void fatal_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);
	struct pool_copies copies;

	set_faults(rig, 2, (struct sim_faults){.write_error_ppm = 1000000});
	for (unsigned i = 0; i < 30; i++)
		ASSERT(write_copy(file, copy) == -EIO);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	ASSERT(pool_disk_is_leaving(rig->pool, 2));
	/* It is not asked any more. */
	set_faults(rig, 2, (struct sim_faults){0});
	ASSERT(write_copy(file, copy) == -EIO);
	ASSERT(pool_rig_write(file, 'h') == -EIO);
	ASSERT(pool_io_sync(file) == 0 && pool_file_failed(file) == 1u << copy);
	for (unsigned i = 0; i < 4; i++)
		ASSERT(read_from(file) != copy);
	pool_file_get_copies(file, &copies);
	pool_file_close(file);
	/* That lasts. */
	pool_close(TAKE_PTR(rig->pool));
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	ASSERT(pool_file_open(rig->pool, 1, &copies, &file) == 0);
	ASSERT(pool_file_taking_part(file) == (3u & ~(1u << copy)));
	/* Until somebody says otherwise. */
	ASSERT(pool_disk_restore(rig->pool, 2) == 0);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	ASSERT(pool_file_reopen(file) == 3);
	pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

/* That it has failed is in its row first; what cannot be written there is tried again. */
static void no_row_run(void *arg)
{
	const struct sim_faults none = {0}, all = {.write_error_ppm = 1000000};
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);

	sim_disk_set_faults(rig->sim.sim, POOL_RIG_STATE, &all);
	set_faults(rig, 2, all);
	for (unsigned i = 0; i < POOL_DISK_FATAL_ERRORS; i++)
		ASSERT(write_copy(file, copy) == -EIO);
	fiber_sleep(5 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) != POOL_DISK_FAILED);
	sim_disk_set_faults(rig->sim.sim, POOL_RIG_STATE, &none);
	fiber_sleep(20 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

static void gives_a_disk_up_when_the_catalog_can_say_so(void **state)
{
	pool_rig_run(*state, no_row_run);
}

static void gives_up_disks_that_only_err(void **state)
{
	pool_rig_run(*state, fatal_run);
}

static void slow_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);

	set_faults(rig, 2, (struct sim_faults){.slow_ppm = 1000000, .slow_ns = 2 * NSEC_PER_SEC});
	for (unsigned i = 0; i < 12; i++)
		ASSERT(write_copy(file, copy) == 0);
	ASSERT(pool_rig_disk(rig, 2).health.write_ns > 500 * NSEC_PER_MSEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_SUSPECT);
	for (unsigned i = 0; i < 4; i++)
		ASSERT(read_from(file) != copy);
	set_faults(rig, 2, (struct sim_faults){0});
	fiber_sleep(70 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	ASSERT(pool_rig_disk(rig, 2).health.write_ns == 0);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void avoids_disks_that_are_slow(void **state)
{
	pool_rig_run(*state, slow_run);
}

static void vanish_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig), *other;
	unsigned copy = pool_rig_copy_on(file, 2);

	sim_disk_set_missing(rig->sim.sim, "/disk2", true);
	ASSERT(pool_rig_write(file, 'h') == -EIO);
	fiber_sleep(2 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_MISSING);
	ASSERT(pool_rig_disk(rig, 2).capacity == 0);
	ASSERT(read_from(file) != copy);
	other = pool_rig_take(rig, 1);
	pool_file_discard(other);
	/* Soon back: open files go on. */
	sim_disk_set_missing(rig->sim.sim, "/disk2", false);
	fiber_sleep(6 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	ASSERT(pool_rig_write(file, 'h') == 0 && pool_file_reopen(file) == 3);
	/* Gone for good. */
	sim_disk_set_missing(rig->sim.sim, "/disk2", true);
	ASSERT(pool_rig_write(file, 'h') == -EIO);
	fiber_sleep(590 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_MISSING);
	fiber_sleep(20 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	/* Back, but nobody asked for it. */
	sim_disk_set_missing(rig->sim.sim, "/disk2", false);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_FAILED);
	pool_file_discard(file);
	ASSERT(pool_rig_disk(rig, 2).files == 0);
	ASSERT(pool_disk_restore(rig->pool, 2) == 0 && pool_rig_disk(rig, 2).spare == MIB);
	pool_rig_close(rig);
}

static void searches_what_is_missing(void **state)
{
	pool_rig_run(*state, vanish_run);
}

/* The only disk is never given up. */
static void only_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file, *other;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	file = pool_rig_take(rig, 1);
	ASSERT(pool_rig_write(file, 'h') == 0 && pool_rig_name(rig, file) == 0);
	set_faults(rig, 1, (struct sim_faults){.write_error_ppm = 1000000});
	for (unsigned i = 0; i < 50; i++)
		ASSERT(write_copy(file, 0) == -EIO);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(strcmp(pool_rig_state(rig), "suspect") == 0);
	set_faults(rig, 1, (struct sim_faults){0});
	ASSERT(write_copy(file, 0) == 0 && read_from(file) == 0);
	other = pool_rig_take(rig, 1); /* there is nowhere else */
	pool_file_discard(other);
	sim_disk_set_missing(rig->sim.sim, POOL_RIG_DISK, true);
	ASSERT(write_copy(file, 0) == -EIO);
	fiber_sleep(1200 * NSEC_PER_SEC);
	ASSERT(strcmp(pool_rig_state(rig), "missing") == 0);
	sim_disk_set_missing(rig->sim.sim, POOL_RIG_DISK, false);
	ASSERT(write_copy(file, 0) == 0); /* it is tried all the same */
	fiber_sleep(6 * NSEC_PER_SEC);
	ASSERT(strcmp(pool_rig_state(rig), "online") == 0);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void keeps_the_only_disk(void **state)
{
	pool_rig_run(*state, only_run);
}

static void foreign_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);

	/* Another disk is mounted in its place: nothing there is touched. */
	ASSERT(io_rename("/disk2/p", "/disk2/old") == 0);
	ASSERT(pool_rig_create(rig, "q", "/disk2/p", POOL_MIN_BYTES, &(uint64_t){0}) == 0);
	pool_file_close(file);
	ASSERT(pool_file_open(rig->pool, 1, &(struct pool_copies){.count = 1, .disks = {2}},
			      &file) == -ENOENT);
	fiber_sleep(2 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_MISSING);
	ASSERT(pool_disk_restore(rig->pool, 2) == -ENODEV);
	ASSERT(io_rename("/disk2/p", "/disk2/q") == 0);
	ASSERT(io_rename("/disk2/old", "/disk2/p") == 0);
	fiber_sleep(6 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	ASSERT(pool_file_open(rig->pool, 1, &(struct pool_copies){.count = 2, .disks = {2, 1}},
			      &file) == 0);
	pool_file_close(file);
	pool_rig_close(rig);
}

static void leaves_other_disks_alone(void **state)
{
	pool_rig_run(*state, foreign_run);
}

static void mismatch_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);

	for (unsigned i = 0; i < 3; i++)
		pool_disk_report_mismatch(rig->pool, 2);
	pool_disk_report_mismatch(rig->pool, 77); /* no such disk */
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(pool_rig_disk(rig, 2).health.checksum_errors == 3);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_SUSPECT);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void counts_mismatches(void **state)
{
	pool_rig_run(*state, mismatch_run);
}

/* What is being made lacks something still; what could not be synced may. */
static void unread_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig), *single = pool_rig_take(rig, 1);
	unsigned failed = pool_rig_copy_on(file, 2), joining;

	ASSERT(pool_rig_write(single, 'h') == 0);
	ASSERT(pool_file_add_copy(single, &joining) == 0);
	for (unsigned i = 0; i < 8; i++)
		ASSERT(read_from(single) != joining);
	ASSERT(pool_file_best_copy(single) != joining);
	pool_file_discard(single);
	set_faults(rig, 2, (struct sim_faults){.sync_error_ppm = 1000000});
	ASSERT(pool_io_sync(file) == 0 && pool_file_failed(file) == 1u << failed);
	set_faults(rig, 2, (struct sim_faults){0});
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_ONLINE);
	for (unsigned i = 0; i < 8; i++)
		ASSERT(read_from(file) != failed);
	pool_file_discard(file);
	pool_rig_close(rig);
}

static void reads_what_is_whole(void **state)
{
	pool_rig_run(*state, unread_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pool_rig_teardown)

#define CATALOG POOL_RIG_STATE "/catalog.db"

static void copy_file(const char *from, const char *to)
{
	uint8_t *data = malloc(4 * MIB);
	struct world_file *file;
	int64_t n;

	ASSERT(data && io_open(from, WORLD_FILE_READ_ONLY, &file) == 0);
	n = io_read(file, data, 4 * MIB, 0);
	ASSERT(n > 0 && io_close(file) == 0);
	ASSERT(io_open(to, WORLD_FILE_CREATE, &file) == 0);
	ASSERT(io_resize(file, 0, WORLD_RESIZE_TRUNCATE) == 0);
	ASSERT(io_write(file, data, (size_t)n, 0) == 0 && io_close(file) == 0);
	free(data);
}

static bool is_there(uint64_t file)
{
	struct world_stat stat;
	char path[60];

	snprintf(path, sizeof(path), "/disk2/p/groups/%02x/%016" PRIx64 ".eg", (unsigned)file & 255,
		 file);
	return io_stat(path, &stat) == 0;
}

/* The second disk, which alone has a mirror, is away while the state is set back to before a file
 * was made. */
static void set_back_run(void *arg)
{
	struct pool_rig *rig = arg;
	uint64_t id;

	pool_file_discard(pool_rig_begin_two(rig));
	ASSERT(catalog_mirror_add(rig->catalog, "/disk2/p") == 0);
	catalog_mirror_wait(rig->catalog);
	pool_rig_close(rig);
	copy_file(CATALOG, POOL_RIG_STATE "/backup");
	copy_file(CATALOG "-wal", POOL_RIG_STATE "/backup-wal");
	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	for (unsigned i = 0; i < 20; i++) { /* the catalog that was set back makes changes, too */
		struct pool_file *file = pool_rig_take(rig, 2);

		id = pool_file_id(file);
		ASSERT(pool_rig_name(rig, file) == 0);
		pool_file_close(file);
	}
	pool_rig_close(rig);
	copy_file(POOL_RIG_STATE "/backup", CATALOG);
	copy_file(POOL_RIG_STATE "/backup-wal", CATALOG "-wal");
	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == -ESTALE);
	pool_rig_close(rig);
	sim_disk_set_missing(rig->sim.sim, "/disk2", true);
	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	sim_disk_set_missing(rig->sim.sim, "/disk2", false);
	fiber_sleep(60 * NSEC_PER_SEC);
	ASSERT(pool_disk_state(rig->pool, 2) == POOL_DISK_MISSING);
	ASSERT(is_there(id));
	pool_rig_close(rig);
}

static void is_not_used_by_a_catalog_that_was_set_back(void **state)
{
	pool_rig_run(*state, set_back_run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(avoids_disks_that_err),
		TEST(gives_up_disks_that_only_err),
		TEST(gives_a_disk_up_when_the_catalog_can_say_so),
		TEST(avoids_disks_that_are_slow),
		TEST(searches_what_is_missing),
		TEST(is_not_used_by_a_catalog_that_was_set_back),
		TEST(keeps_the_only_disk),
		TEST(leaves_other_disks_alone),
		TEST(counts_mismatches),
		TEST(reads_what_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
