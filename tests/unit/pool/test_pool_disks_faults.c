/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As test_pool_faults.c, for a pool that gets two more disks, has files on several of them, repairs
 * one, and lets a disk go again: the n-th disk operation fails, or the process or the power dies at
 * it, for each n ("all", the slow suite) or some. Afterwards, without faults, what was reported
 * must be what is there.
 */
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

#include "pool/pool_disk.h"

#define PAGE 4096

static bool sweep_is_complete;

struct sweep {
	struct pool_rig *rig;
	int error; /* of the disk; 0 = a crash */
	enum sim_crash crash;
	uint64_t n;
	bool hit;
	/* What is known. */
	uint64_t file;             /* whose row is there ... */
	struct pool_copies copies; /* ... and says this */
	struct pool_copies maybe;  /* or, after a crash, this */
	bool synced;               /* its first page, on all valid copies */
	uint64_t disks[2];         /* added */
	bool removed;              /* the first of them again */
};

static bool is_expected(int r)
{
	return r == 0 || r == -EIO || r == -ENOSPC || r == -EROFS || r == -ENOMEM ||
	       r == -ESHUTDOWN || r == -ENOTRECOVERABLE || r == -ENXIO;
}

static struct catalog_key file_key(struct sweep *s)
{
	struct catalog_key key = catalog_key(CATALOG_EGFILE);

	catalog_key_add(&key, s->rig->pool_id);
	catalog_key_add(&key, 1);
	catalog_key_add(&key, s->file);
	return key;
}

static int commit_copies(struct sweep *s, uint64_t size, const struct pool_copies *copies)
{
	uint8_t value[FILE_ROW_BYTES] = {0};
	struct catalog_change change = {
		.kind = CATALOG_PUT,
		.key = file_key(s),
		.value = value,
		.length = sizeof(value),
	};
	int r;

	pool_rows_encode_file(size, copies, value);
	s->maybe = *copies;
	r = catalog_commit(s->rig->catalog, &change, 1);
	ASSERT(is_expected(r));
	if (r == 0)
		s->copies = *copies;
	return r;
}

static void add_disks(struct sweep *s)
{
	static const char *const directories[] = {"/disk2/p", "/disk3/p"};

	for (unsigned i = 0; i < 2; i++) {
		const struct pool_disk_spec spec = {.directory = directories[i],
						    .capacity_bytes = POOL_MIN_BYTES};
		int r = pool_disk_add(s->rig->pool, &spec, &s->disks[i]);

		ASSERT(is_expected(r));
		if (r)
			s->disks[i] = 0;
	}
}

/* What cannot be synced is called stale. */
static void write_it(struct sweep *s, struct pool_file *file)
{
	struct pool_copies copies = s->copies;
	unsigned all = (1u << copies.count) - 1;
	int r = pool_rig_write(file, 'w');

	ASSERT(is_expected(r));
	if (r)
		return;
	copies.stale = all & ~(pool_file_taking_part(file) & ~pool_file_failed(file));
	if (copies.stale && commit_copies(s, pool_file_size(file), &copies))
		return;
	s->synced = true;
}

static void repair_it(struct sweep *s, struct pool_file *file)
{
	struct pool_copies copies;
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	unsigned added;
	int r = pool_file_add_copy(file, &added);

	ASSERT(page && is_expected(r));
	if (r == 0) {
		memset(page, 'w', PAGE);
		r = pool_io_write_copy(file, added, page, PAGE, 0);
	}
	if (r == 0)
		r = pool_io_sync_copy(file, added);
	ASSERT(is_expected(r));
	free(page);
	if (r) {
		pool_file_set_copies(file, &s->copies);
		return;
	}
	/* The new one instead of the first. */
	pool_file_get_copies(file, &copies);
	copies.stale &= ~(1u << added);
	copies.disks[0] = copies.disks[added];
	copies.stale = (copies.stale & ~1u) | (copies.stale >> added & 1);
	copies.count--;
	copies.disks[copies.count] = 0;
	copies.stale &= (1u << copies.count) - 1;
	if (commit_copies(s, pool_file_size(file), &copies) == 0)
		pool_file_set_copies(file, &copies);
}

static void use_file(struct sweep *s)
{
	const struct pool_want want = {.use = POOL_USE_DATA, .size_bytes = MIB, .copies = 2};
	struct pool_file *file;
	struct pool_copies copies;
	int r = pool_file_take(s->rig->pool, &want, &file);

	ASSERT(is_expected(r));
	if (r)
		return;
	s->file = pool_file_id(file);
	pool_file_get_copies(file, &copies);
	if (commit_copies(s, pool_file_size(file), &copies) == 0) {
		write_it(s, file);
		r = pool_file_trim(file, MIB / 2);
		ASSERT(is_expected(r));
		if (s->synced && pool_file_failed(file) == 0)
			repair_it(s, file);
	} else if (!sim_is_dead(s->rig->sim.sim)) {
		s->file = 0;
	}
	pool_file_close(file);
}

static void let_go(struct sweep *s)
{
	int r;

	for (unsigned i = 0; i < s->copies.count; i++)
		if (s->copies.disks[i] == s->disks[1])
			return;
	r = pool_disk_set_draining(s->rig->pool, s->disks[1], true);
	ASSERT(is_expected(r) || r == -EINVAL || r == -ENOENT);
	r = pool_disk_remove(s->rig->pool, s->disks[1]);
	ASSERT(is_expected(r) || r == -EBUSY || r == -EINVAL || r == -ENOENT);
	s->removed = r == 0;
}

static void fault_run(void *arg)
{
	struct sweep *s = arg;
	struct sim *sim = s->rig->sim.sim;

	ASSERT(pool_rig_open(s->rig, POOL_MIN_BYTES) == 0);
	if (s->error)
		sim_fail_nth(sim, s->n, s->error);
	else
		sim_crash_nth(sim, s->n, s->crash);
	add_disks(s);
	use_file(s);
	if (s->disks[1])
		let_go(s);
	pool_check(s->rig->pool);
	s->hit = sim_fault_hit(sim) || sim_is_dead(sim);
	sim_fail_nth(sim, 0, 0);
	sim_crash_nth(sim, 0, SIM_CRASH_POWER);
	pool_rig_close(s->rig);
}

static void verify_copies(struct sweep *s, struct pool_file *file, const struct pool_copies *copies)
{
	uint8_t *page = aligned_alloc(PAGE, PAGE);

	ASSERT(page);
	for (unsigned i = 0; i < copies->count; i++) {
		if (copies->stale >> i & 1)
			continue;
		ASSERT(pool_io_read_copy(file, i, page, PAGE, 0) == 0);
		for (unsigned at = 0; at < PAGE; at++)
			ASSERT(page[at] == 'w');
	}
	(void)s;
	free(page);
}

static void verify_file(struct sweep *s)
{
	struct catalog_row row;
	struct catalog_key key = file_key(s);
	struct pool_copies copies;
	struct pool_file *file;
	uint64_t id, size;
	int r = catalog_get(s->rig->catalog, &key, &row);

	if (r == -ENOENT) {
		ASSERT(s->copies.count == 0);
		return;
	}
	ASSERT(r == 0 && pool_rows_decode_file(&row, &id, &size, &copies) == 0);
	catalog_row_done(&row);
	ASSERT(memcmp(&copies, &s->copies, sizeof(copies)) == 0 ||
	       memcmp(&copies, &s->maybe, sizeof(copies)) == 0);
	ASSERT(pool_file_open(s->rig->pool, id, &copies, &file) == 0);
	if (s->synced)
		verify_copies(s, file, &copies);
	ASSERT(pool_rig_unname(s->rig, id) == 0);
	pool_file_discard(file);
}

static void verify_disks(struct sweep *s)
{
	for (unsigned i = 0; i < 2; i++) {
		enum pool_disk_state state = pool_disk_state(s->rig->pool, s->disks[i]);

		if (s->disks[i] && !(i == 1 && s->removed) &&
		    pool_disk_state(s->rig->pool, s->disks[i]) != POOL_DISK_ONLINE)
			/* Its removal may have come to pass without anybody being told. */
			ASSERT(i == 1 && !s->error && state == POOL_DISK_FAILED);
		if (i == 1 && s->removed)
			ASSERT(pool_disk_state(s->rig->pool, s->disks[1]) == POOL_DISK_FAILED);
	}
}

static void verify_run(void *arg)
{
	struct sweep *s = arg;
	struct pool_rig *rig = s->rig;
	struct pool_disk_info *infos;
	uint64_t id;
	size_t count;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	verify_disks(s);
	if (s->file)
		verify_file(s);
	pool_check(rig->pool);
	ASSERT(pool_disk_list(rig->pool, &infos, &count) == 0 && count >= 1 && count <= 3);
	for (size_t i = 0; i < count; i++)
		ASSERT(infos[i].used == 0 && infos[i].state == POOL_DISK_ONLINE);
	free(infos);
	/* What a crash left can be added again, or is there. */
	for (unsigned i = 2; i <= 3; i++) {
		char directory[16];
		struct pool_disk_spec spec = {.directory = directory,
					      .capacity_bytes = POOL_MIN_BYTES};
		int r;

		snprintf(directory, sizeof(directory), "/disk%u/p", i);
		r = pool_disk_add(rig->pool, &spec, &id);
		spec.force = true;
		/* It was removed, but its label could not be. */
		if (r == -ENOTEMPTY && s->error && s->removed)
			r = pool_disk_add(rig->pool, &spec, &id);
		ASSERT(r == 0 || r == -EEXIST);
	}
	ASSERT(pool_disks_usable(rig->pool) >= 2);
	pool_rig_close(rig);
}

static void one(struct sweep *s)
{
	s->rig = pool_rig_new(POOL_RIG_DISK_BYTES);
	ASSERT(sim_disk_add(s->rig->sim.sim, "/disk2", POOL_RIG_DISK_BYTES) == 0);
	ASSERT(sim_disk_add(s->rig->sim.sim, "/disk3", POOL_RIG_DISK_BYTES) == 0);
	sim_rig_run(&s->rig->sim, 0, fault_run, s);
	if (sim_is_dead(s->rig->sim.sim))
		sim_rig_restart(&s->rig->sim);
	sim_rig_run(&s->rig->sim, 0, verify_run, s);
	pool_rig_free(s->rig);
}

static void sweep(int error, enum sim_crash crash, uint64_t step)
{
	const char *only = getenv("SARSEN_N");
	struct sweep s;
	uint64_t n = only ? strtoull(only, NULL, 10) : 1;

	do {
		s = (struct sweep){.error = error, .crash = crash, .n = n};
		if (getenv("SARSEN_SEEDS"))
			fprintf(stderr, "n=%llu error=%d\n", (unsigned long long)n, error);
		one(&s);
		n += sweep_is_complete ? 1 : step;
	} while (s.hit);
	print_message("beyond %llu\n", (unsigned long long)n);
}

static void disk_faults(void **state)
{
	(void)state;
	sweep(-EIO, SIM_CRASH_POWER, 67);
	sweep(-ENOSPC, SIM_CRASH_POWER, 71);
	sweep(-EROFS, SIM_CRASH_POWER, 73);
}

static void crashes(void **state)
{
	(void)state;
	sweep(0, SIM_CRASH_POWER, 61);
	sweep(0, SIM_CRASH_PROCESS, 79);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disk_faults),
		cmocka_unit_test(crashes),
	};

	sweep_is_complete = argc > 1 && strcmp(argv[1], "all") == 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
