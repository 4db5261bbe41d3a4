/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What containers may have on each tier, and what is kept for them there: corners first, then two
 * containers at random against a model that adds up.
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

#include "base/endian.h"
#include "pool/pool_disk.h"
#include "pool/pool_quota.h"
#include "reactor/fiber.h"

#define ORDER 0x4321u /* ssd, hdd, san, cloud */

static struct pool_quota *quotas[2]; /* of the containers 0 and 1, each with one vDisk */
static uint64_t ids[2];
static struct container_policy policies[2];

static const char *const roots[] = {"/disk2", "/disk3", "/disk4"};

static int setup(void **state)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	for (unsigned i = 0; i < ARRAY_SIZE(roots); i++)
		ASSERT(sim_disk_add(rig->sim.sim, roots[i], POOL_RIG_DISK_BYTES) == 0);
	*state = rig;
	return 0;
}

static void add_disk(struct pool_rig *rig, unsigned n, const char *tier, uint64_t *ret_id)
{
	char directory[32];
	const struct pool_disk_spec spec = {
		.directory = directory, .tier = tier, .capacity_bytes = POOL_MIN_BYTES};

	snprintf(directory, sizeof(directory), "%s/p", roots[n]);
	ASSERT(pool_disk_add(rig->pool, &spec, ret_id) == 0);
}

/* The row of vDisk i + 1, as far as the pool reads it. */
static void put_vdisk(struct pool_rig *rig, unsigned i)
{
	uint8_t value[POOL_VDISK_ROW_CONTAINER + 8] = {1};
	struct catalog_change change = {.kind = CATALOG_PUT,
					.key = catalog_key(CATALOG_VDISK),
					.value = value,
					.length = sizeof(value)};

	catalog_key_add(&change.key, i + 1);
	put_le64(value + POOL_VDISK_ROW_CONTAINER, ids[i]);
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
}

/* A pool of one SSD, and of one hard disk when `both`. */
static void begin(struct pool_rig *rig, bool both)
{
	static const char *const names[] = {"a", "b"};
	const struct policy_set none = {0};
	uint64_t id;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	if (both)
		add_disk(rig, 0, "hdd", &id);
	for (unsigned i = 0; i < 2; i++) {
		ASSERT(container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id,
					names[i], &ids[i]) == 0);
		ASSERT(pool_quota_open(rig->pool, ids[i], &quotas[i]) == 0);
		put_vdisk(rig, i);
		policy_merge(&none, NULL, &policies[i]);
	}
}

static void end(struct pool_rig *rig)
{
	pool_check(rig->pool);
	for (unsigned i = 0; i < 2; i++)
		pool_quota_close(TAKE_PTR(quotas[i]));
	pool_rig_close(rig);
}

static void set(struct pool_rig *rig, unsigned i, enum policy_property property, uint64_t value)
{
	policies[i].values[property] = value;
	ASSERT(pool_quota_set(rig->pool, ids[i], &policies[i]) == 0);
}

static struct pool_quota_info info_of(struct pool_rig *rig, unsigned i)
{
	struct pool_quota_info info;

	ASSERT(pool_quota_get(rig->pool, ids[i], &info) == 0);
	return info;
}

static uint64_t used(struct pool_rig *rig, unsigned i, enum policy_tier tier)
{
	return info_of(rig, i).tiers[tier].used;
}

static void expect_used(struct pool_rig *rig, unsigned i, uint64_t ssd, uint64_t hdd)
{
	pool_check(rig->pool);
	if (used(rig, i, POLICY_SSD) != ssd || used(rig, i, POLICY_HDD) != hdd)
		fail_msg("%u: %u + %u MiB, not %u + %u", i,
			 (unsigned)(used(rig, i, POLICY_SSD) / MIB),
			 (unsigned)(used(rig, i, POLICY_HDD) / MIB), (unsigned)(ssd / MIB),
			 (unsigned)(hdd / MIB));
}

static int take_as(struct pool_rig *rig, unsigned i, struct pool_want want,
		   struct pool_file **ret_file)
{
	want.quota = quotas[i];
	want.tiers = ORDER;
	return pool_file_take(rig->pool, &want, ret_file);
}

static int take(struct pool_rig *rig, unsigned i, uint64_t bytes, struct pool_file **ret_file)
{
	const struct pool_want want = {.size_bytes = bytes, .copies = 1};

	return take_as(rig, i, want, ret_file);
}

static unsigned copies_of(const struct pool_file *file)
{
	struct pool_copies copies;

	pool_file_get_copies(file, &copies);
	return copies.count;
}

static void discard_all(struct pool_file **files, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (files[i])
			pool_file_discard(TAKE_PTR(files[i]));
}

static void limit_run(void *arg)
{
	const struct pool_want internal = {
		.use = POOL_USE_INTERNAL, .size_bytes = 8 * MIB, .copies = 1};
	struct pool_rig *rig = arg;
	struct pool_file *files[8] = {NULL}, *none;

	begin(rig, true);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 20 * MIB);
	/* To the byte, then the next tier. */
	for (unsigned i = 0; i < 3; i++)
		ASSERT(take(rig, 0, 8 * MIB, &files[i]) == 0);
	expect_used(rig, 0, 16 * MIB, 8 * MIB);
	ASSERT(take(rig, 0, 4 * MIB, &files[3]) == 0);
	expect_used(rig, 0, 20 * MIB, 8 * MIB);
	ASSERT(take(rig, 0, 4 * KIB, &files[4]) == 0);
	expect_used(rig, 0, 20 * MIB, 8 * MIB + 4 * KIB);
	/* None is left. */
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 8 * MIB + 4 * KIB);
	ASSERT(pool_quota_pressure(quotas[0]) == 100);
	ASSERT(take(rig, 0, 4 * KIB, &none) == -ENOSPC);
	ASSERT(info_of(rig, 0).tiers[POLICY_SSD].at_max &&
	       info_of(rig, 0).tiers[POLICY_HDD].at_max);
	ASSERT(!info_of(rig, 0).tiers[POLICY_SSD].kept &&
	       !info_of(rig, 0).tiers[POLICY_SAN].at_max);
	/* Others are not concerned; what is internal goes beyond, to the better tier. */
	ASSERT(take(rig, 1, 4 * MIB, &files[5]) == 0);
	ASSERT(take_as(rig, 0, internal, &files[6]) == 0);
	expect_used(rig, 0, 28 * MIB, 8 * MIB + 4 * KIB);
	expect_used(rig, 1, 4 * MIB, 0);
	/* What goes gives back. */
	pool_file_discard(TAKE_PTR(files[6]));
	pool_file_discard(TAKE_PTR(files[3]));
	ASSERT(pool_quota_pressure(quotas[0]) < 100);
	ASSERT(take(rig, 0, 4 * MIB + 4 * KIB, &none) == -ENOSPC);
	ASSERT(take(rig, 0, 4 * MIB, &files[3]) == 0);
	discard_all(files, ARRAY_SIZE(files));
	expect_used(rig, 0, 0, 0);
	ASSERT(pool_quota_pressure(quotas[0]) == 0);
	end(rig);
}

static void gives_the_next_tier_at_the_limit(void **state)
{
	pool_rig_run(*state, limit_run);
}

static void change_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *files[5] = {NULL}, *none;

	begin(rig, true);
	ASSERT(take(rig, 0, 8 * MIB, &files[0]) == 0);
	ASSERT(take(rig, 0, 8 * MIB, &files[1]) == 0);
	expect_used(rig, 0, 16 * MIB, 0);
	/* Lowered below use: what is there stays. */
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 10 * MIB);
	expect_used(rig, 0, 16 * MIB, 0);
	ASSERT(take(rig, 0, MIB, &files[2]) == 0);
	expect_used(rig, 0, 16 * MIB, MIB);
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 0);
	pool_file_discard(TAKE_PTR(files[0]));
	ASSERT(take(rig, 0, 3 * MIB, &none) == -ENOSPC);
	ASSERT(take(rig, 0, 2 * MIB, &files[0]) == 0);
	expect_used(rig, 0, 10 * MIB, MIB);
	/* Raised. */
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 12 * MIB);
	ASSERT(take(rig, 0, 3 * MIB, &none) == -ENOSPC);
	ASSERT(take(rig, 0, 2 * MIB, &files[3]) == 0);
	ASSERT(take(rig, 0, MIB, &none) == -ENOSPC);
	ASSERT(pool_file_trim(files[1], 4 * MIB) == 0);
	expect_used(rig, 0, 8 * MIB, MIB);
	ASSERT(take(rig, 0, 4 * MIB, &files[4]) == 0);
	expect_used(rig, 0, 12 * MIB, MIB);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, POLICY_NONE);
	discard_all(files, ARRAY_SIZE(files));
	expect_used(rig, 0, 0, 0);
	end(rig);
}

static void follows_changed_limits(void **state)
{
	pool_rig_run(*state, change_run);
}

/* Takes until the file is not on an SSD any more; how many were. */
static unsigned fill_ssd(struct pool_rig *rig, unsigned i, uint64_t bytes, struct pool_file **files)
{
	unsigned count = 0;
	uint64_t before;

	do {
		before = used(rig, i, POLICY_SSD);
		ASSERT(count < 128 && take(rig, i, bytes, &files[count++]) == 0);
	} while (used(rig, i, POLICY_SSD) > before);
	pool_file_discard(TAKE_PTR(files[--count]));
	return count;
}

static void reserve_run(void *arg)
{
	static struct pool_file *files[128], *others[16];
	struct pool_rig *rig = arg;
	struct container_policy policy;
	enum pool_quota_problem problem;
	struct pool_file *none;
	unsigned count;

	begin(rig, true);
	set(rig, 1, POLICY_MIN_RESERVED_SSD, 32 * MIB);
	count = fill_ssd(rig, 0, 8 * MIB, files);
	ASSERT(count == (496 - 32) / 8); /* the disk's reserve is 16 MiB */
	/* No other tier: refused, although there is room. */
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 0);
	ASSERT(take(rig, 0, 4 * KIB, &none) == -ENOSPC);
	ASSERT(info_of(rig, 0).tiers[POLICY_SSD].kept && info_of(rig, 0).tiers[POLICY_HDD].at_max);
	ASSERT(pool_quota_pressure(quotas[0]) == 100);
	/* A file of nobody's neither. */
	ASSERT(take_file(rig->pool, POOL_USE_DATA, 500 * MIB, &none) < 0);
	/* Who has it reserved gets it, all of it, and gives it back for himself. */
	for (unsigned i = 0; i < 4; i++)
		ASSERT(take(rig, 1, 8 * MIB, &others[i]) == 0);
	expect_used(rig, 1, 32 * MIB, 0);
	pool_file_discard(TAKE_PTR(others[0]));
	ASSERT(take(rig, 0, 8 * MIB, &none) == -ENOSPC);
	ASSERT(take(rig, 1, 8 * MIB, &others[0]) == 0);
	/* More than is free: refused; when it is so all the same, nothing is given to others. */
	policy = policies[1];
	policy.values[POLICY_MIN_RESERVED_SSD] = 40 * MIB;
	ASSERT(pool_quota_check(rig->pool, ids[1], &policy, &problem) == 0);
	ASSERT(problem == POOL_QUOTA_TIER_FULL);
	policy.values[POLICY_MIN_RESERVED_SSD] = 24 * MIB;
	ASSERT(pool_quota_check(rig->pool, ids[1], &policy, &problem) == 0);
	ASSERT(problem == POOL_QUOTA_FINE);
	set(rig, 1, POLICY_MIN_RESERVED_SSD, 40 * MIB);
	discard_all(files, 1);
	ASSERT(take(rig, 0, 4 * KIB, &none) == -ENOSPC);
	discard_all(files + 1, 1);
	ASSERT(take(rig, 0, 8 * MIB + 4 * KIB, &none) == -ENOSPC);
	ASSERT(take(rig, 0, 8 * MIB, &files[0]) == 0);
	set(rig, 1, POLICY_MIN_RESERVED_SSD, 0);
	ASSERT(take(rig, 0, 8 * MIB, &files[1]) == 0);
	discard_all(files, ARRAY_SIZE(files));
	discard_all(others, ARRAY_SIZE(others));
	end(rig);
}

static void keeps_what_others_reserved(void **state)
{
	pool_rig_run(*state, reserve_run);
}

static void copies_run(void *arg)
{
	const struct pool_want two = {.size_bytes = 8 * MIB, .copies = 2};
	struct pool_rig *rig = arg;
	struct pool_file *files[4] = {NULL}, *none;
	uint64_t id;

	begin(rig, true);
	policies[0].replication_factor = 2;
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 16 * MIB);
	/* One disk a tier: on both, once on each. */
	ASSERT(take_as(rig, 0, two, &files[0]) == 0);
	ASSERT(take_as(rig, 0, two, &files[1]) == 0);
	expect_used(rig, 0, 16 * MIB, 16 * MIB);
	/* Not with one copy, which repair would have to put beyond the limit. */
	ASSERT(take_as(rig, 0, two, &none) == -ENOSPC);
	ASSERT(info_of(rig, 0).tiers[POLICY_HDD].at_max);
	ASSERT(!info_of(rig, 0).tiers[POLICY_SSD].at_max);
	expect_used(rig, 0, 16 * MIB, 16 * MIB);
	/* Two disks of one tier: once. */
	add_disk(rig, 1, "ssd", &id);
	ASSERT(take_as(rig, 0, two, &files[2]) == 0 && copies_of(files[2]) == 2);
	expect_used(rig, 0, 24 * MIB, 16 * MIB);
	ASSERT(pool_file_trim(files[2], 4 * MIB) == 0);
	expect_used(rig, 0, 20 * MIB, 16 * MIB);
	/* Fewer disks than copies are no limit's fault. */
	ASSERT(take_as(rig, 1, (struct pool_want){.size_bytes = MIB, .copies = 3}, &files[3]) == 0);
	expect_used(rig, 1, MIB, MIB);
	discard_all(files, ARRAY_SIZE(files));
	expect_used(rig, 0, 0, 0);
	end(rig);
}

static void counts_copies_once_a_tier(void **state)
{
	pool_rig_run(*state, copies_run);
}

static void set_write_faults(struct pool_rig *rig, uint32_t ppm)
{
	const struct sim_faults faults = {.write_error_ppm = ppm};

	sim_disk_set_faults(rig->sim.sim, POOL_RIG_DISK, &faults);
	sim_disk_set_faults(rig->sim.sim, roots[0], &faults);
}

/* Both disks err, so that no file is put there as long as there are others. */
static void make_suspect(struct pool_rig *rig)
{
	struct pool_file *file = pool_rig_take(rig, 2);

	set_write_faults(rig, 1000000);
	for (unsigned i = 0; i < POOL_DISK_ERRORS; i++)
		ASSERT(pool_rig_write(file, 's') == -EIO);
	fiber_sleep(NSEC_PER_SEC);
	set_write_faults(rig, 0);
	pool_file_discard(file);
	for (uint64_t disk = 1; disk <= 2; disk++)
		ASSERT(pool_disk_state(rig->pool, disk) == POOL_DISK_SUSPECT);
}

static void fallback_run(void *arg)
{
	const struct pool_want two = {.size_bytes = 8 * MIB, .copies = 2};
	struct pool_rig *rig = arg;
	struct pool_file *files[3] = {NULL}, *none;

	begin(rig, true);
	make_suspect(rig);
	/* As without any limit: a limit that is far away is none, */
	ASSERT(take_as(rig, 0, two, &files[0]) == 0 && copies_of(files[0]) == 2);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 100 * MIB);
	ASSERT(take_as(rig, 0, two, &files[1]) == 0 && copies_of(files[1]) == 2);
	/* nor is what is kept for others. */
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, POLICY_NONE);
	set(rig, 1, POLICY_MIN_RESERVED_SSD, 32 * MIB);
	ASSERT(take_as(rig, 0, two, &files[2]) == 0 && copies_of(files[2]) == 2);
	expect_used(rig, 0, 24 * MIB, 24 * MIB);
	/* One that is reached counts there as well. */
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 24 * MIB);
	ASSERT(take_as(rig, 0, two, &none) == -ENOSPC);
	expect_used(rig, 0, 24 * MIB, 24 * MIB);
	discard_all(files, ARRAY_SIZE(files));
	end(rig);
}

static void makes_all_copies_on_suspect_disks(void **state)
{
	pool_rig_run(*state, fallback_run);
}

static void repair_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *files[2] = {NULL};
	struct pool_copies copies;
	unsigned copy;
	uint64_t id;

	begin(rig, true);
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 0);
	ASSERT(take(rig, 0, 8 * MIB, &files[0]) == 0);
	expect_used(rig, 0, 8 * MIB, 0);
	/* Beyond the limit, for a copy is worth more. */
	ASSERT(pool_file_add_copy(files[0], &copy) == 0);
	expect_used(rig, 0, 8 * MIB, 8 * MIB);
	pool_file_get_copies(files[0], &copies);
	copies.stale = 0;
	pool_file_set_copies(files[0], &copies);
	/* As a drained disk is left: the copy moves, and so does what counts. */
	copies = (struct pool_copies){.count = 1, .disks = {copies.disks[1]}};
	pool_file_set_copies(files[0], &copies);
	expect_used(rig, 0, 0, 8 * MIB);
	/* Where there is room within the limits, it goes there, though that comes later. */
	add_disk(rig, 1, "san", &id);
	ASSERT(take(rig, 0, 8 * MIB, &files[1]) == 0);
	ASSERT(pool_file_add_copy(files[1], &copy) == 0);
	expect_used(rig, 0, 8 * MIB, 8 * MIB);
	ASSERT(used(rig, 0, POLICY_SAN) == 8 * MIB);
	discard_all(files, 2);
	expect_used(rig, 0, 0, 0);
	end(rig);
}

static void repair_is_not_refused(void **state)
{
	pool_rig_run(*state, repair_run);
}

static void name_file(struct pool_rig *rig, unsigned i, const struct pool_file *file, uint64_t id)
{
	uint8_t value[FILE_ROW_BYTES];
	struct catalog_change change = {.kind = file ? CATALOG_PUT : CATALOG_DELETE,
					.key = catalog_key(CATALOG_EGFILE),
					.value = value,
					.length = file ? sizeof(value) : 0};

	catalog_key_add(&change.key, rig->pool_id);
	catalog_key_add(&change.key, i + 1);
	catalog_key_add(&change.key, id);
	if (file)
		file_row(file, value);
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
}

static void reopen(struct pool_rig *rig)
{
	for (unsigned i = 0; i < 2; i++)
		pool_quota_close(TAKE_PTR(quotas[i]));
	pool_close(TAKE_PTR(rig->pool));
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool) == 0);
	for (unsigned i = 0; i < 2; i++)
		ASSERT(pool_quota_open(rig->pool, ids[i], &quotas[i]) == 0);
}

static void restart_run(void *arg)
{
	const struct pool_want two = {.size_bytes = 8 * MIB, .copies = 2};
	struct pool_rig *rig = arg;
	struct policy_set policy = {0};
	struct pool_file *files[3] = {NULL}, *none;
	struct pool_copies copies;
	uint64_t id;

	begin(rig, true);
	ASSERT(policy_set_put(&policy, POLICY_MAX_CAPACITY_SSD, 12 * MIB) == 0);
	ASSERT(policy_set_put(&policy, POLICY_MAX_CAPACITY_HDD, 8 * MIB) == 0);
	ASSERT(container_put_policy(rig->catalog, ids[0], &policy) == 0);
	ASSERT(take_as(rig, 0, two, &files[0]) == 0);
	ASSERT(take(rig, 0, 4 * MIB, &files[1]) == 0);
	ASSERT(take(rig, 1, 2 * MIB, &files[2]) == 0);
	id = pool_file_id(files[1]);
	pool_file_get_copies(files[1], &copies);
	for (unsigned i = 0; i < 3; i++) {
		name_file(rig, i / 2, files[i], pool_file_id(files[i]));
		pool_file_close(files[i]);
	}
	/* As it is without any vDisk open. */
	reopen(rig);
	expect_used(rig, 0, 12 * MIB, 8 * MIB);
	expect_used(rig, 1, 2 * MIB, 0);
	ASSERT(take(rig, 0, 4 * KIB, &none) == -ENOSPC);
	/* A closed file that goes, and an open one that shrinks. */
	name_file(rig, 0, NULL, id);
	ASSERT(pool_file_discard_id(rig->pool, id, &copies) == 0);
	expect_used(rig, 0, 8 * MIB, 8 * MIB);
	ASSERT(take(rig, 0, 4 * MIB, &files[0]) == 0);
	/* The container goes while files of its vDisk are still being removed. */
	pool_quota_close(TAKE_PTR(quotas[1]));
	pool_quota_forget(rig->pool, ids[1]);
	pool_check(rig->pool);
	ASSERT(pool_file_discard_id(rig->pool, 3, &copies) == 0);
	ASSERT(pool_quota_get(rig->pool, ids[1], &(struct pool_quota_info){0}) == -ENOENT);
	pool_file_discard(files[0]);
	pool_check(rig->pool);
	pool_quota_close(TAKE_PTR(quotas[0]));
	pool_rig_close(rig);
}

static void knows_the_same_after_a_restart(void **state)
{
	pool_rig_run(*state, restart_run);
}

/* Many at a time. */
#define RACERS 24

struct race {
	struct pool_rig *rig;
	struct pool_file *files[RACERS];
	unsigned next, left, placed;
	struct fiber *fiber;
};
struct racer {
	struct fiber_task task;
	struct race *race;
	unsigned n;
};

static void race_one(struct fiber_task *task)
{
	struct racer *racer = CONTAINER_OF(task, struct racer, task);
	struct race *race = racer->race;
	struct pool_file *file = NULL;
	int r = take(race->rig, 0, 4 * MIB, &file);

	ASSERT(r == 0 || r == -ENOSPC);
	race->files[racer->n] = file;
	race->placed += r == 0;
	if (--race->left == 0)
		fiber_wake(race->fiber);
}

static void race_run(void *arg)
{
	static struct race race;
	static struct racer racers[RACERS];
	struct pool_rig *rig = arg;

	begin(rig, true);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 30 * MIB);
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 21 * MIB);
	race = (struct race){.rig = rig, .left = RACERS, .fiber = fiber_current()};
	for (unsigned i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){.task.run = race_one, .race = &race, .n = i};
		fiber_spawn(reactor_current(), FIBER_DATA, &racers[i].task);
	}
	while (race.left > 0)
		fiber_suspend();
	/* As many as fit, not one more, not one less. */
	ASSERT(race.placed == 30 / 4 + 21 / 4);
	expect_used(rig, 0, 28 * MIB, 20 * MIB);
	discard_all(race.files, RACERS);
	expect_used(rig, 0, 0, 0);
	end(rig);
}

static void many_at_a_time_get_no_more(void **state)
{
	pool_rig_run(*state, race_run);
}

/* Until the pool has that much reserved for the container 1, so that nothing is left for 0. */
static void refuse(struct pool_rig *rig)
{
	struct pool_file *none;

	set(rig, 1, POLICY_MIN_RESERVED_SSD, 496 * MIB);
	ASSERT(take(rig, 0, 4 * KIB, &none) == -ENOSPC);
	ASSERT(pool_quota_pressure(quotas[0]) == 100);
}

static void given_up_run(void *arg)
{
	struct pool_rig *rig = arg;

	begin(rig, false);
	/* Less, none, and the container goes while its vDisk is still open, or is not. */
	refuse(rig);
	set(rig, 1, POLICY_MIN_RESERVED_SSD, 32 * MIB);
	ASSERT(pool_quota_pressure(quotas[0]) == 0);
	refuse(rig);
	set(rig, 1, POLICY_MIN_RESERVED_SSD, 0);
	ASSERT(pool_quota_pressure(quotas[0]) == 0);
	refuse(rig);
	pool_quota_forget(rig->pool, ids[1]);
	ASSERT(pool_quota_pressure(quotas[0]) == 0);
	refuse(rig);
	pool_quota_close(TAKE_PTR(quotas[1]));
	pool_quota_forget(rig->pool, ids[1]);
	ASSERT(pool_quota_pressure(quotas[0]) == 0);
	end(rig);
}

static void what_is_reserved_no_more_is_room(void **state)
{
	pool_rig_run(*state, given_up_run);
}

/* One that is being made, and charged already, is counted once: what fits beside it is not refused
 * for what is kept for others. */
struct late_take {
	struct fiber_task task;
	struct pool_rig *rig;
	struct pool_file *file;
	bool made;
};

static void take_late(struct fiber_task *task)
{
	struct late_take *late = CONTAINER_OF(task, struct late_take, task);

	ASSERT(take(late->rig, 0, 8 * MIB, &late->file) == 0);
	late->made = true;
}

static void charged_run(void *arg)
{
	static struct pool_file *files[128];
	struct pool_rig *rig = arg;
	struct late_take late = {.task.run = take_late, .rig = rig};
	struct pool_file *file, *none;
	uint64_t charged;
	unsigned count;

	begin(rig, false);
	set(rig, 1, POLICY_MIN_RESERVED_SSD, 32 * MIB);
	for (count = 0; count < (496 - 32) / 8 - 2; count++)
		ASSERT(take(rig, 0, 8 * MIB, &files[count]) == 0);
	charged = pool_rig_disk(rig, 1).used + 8 * MIB;
	fiber_spawn(reactor_current(), FIBER_DATA, &late.task);
	while (pool_rig_disk(rig, 1).used < charged)
		fiber_yield();
	ASSERT(!late.made);
	ASSERT(take(rig, 0, 8 * MIB, &file) == 0);
	while (!late.made)
		fiber_yield();
	ASSERT(take(rig, 0, 4 * KIB, &none) == -ENOSPC);
	expect_used(rig, 0, (496 - 32) * MIB, 0);
	pool_file_discard(late.file);
	pool_file_discard(file);
	discard_all(files, count);
	end(rig);
}

static void counts_what_is_being_made_once(void **state)
{
	pool_rig_run(*state, charged_run);
}

static uint64_t capacity(struct pool_rig *rig)
{
	return info_of(rig, 0).capacity;
}

/* What may be live follows from limits and disks, so that there is room to overwrite it. */
static void capacity_run(void *arg)
{
	/* 91 % of what 4 groups of 1 MiB leave; of a disk, of what its reserve leaves. */
	const uint64_t of_100 = 96 * MIB / 100 * 91, of_disk = 496 * MIB / 100 * 91;
	struct pool_rig *rig = arg;
	uint64_t bytes[POOL_FACTOR_MAX + 1] = {0}, id;

	begin(rig, true);
	ASSERT(capacity(rig) == POLICY_NONE);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 100 * MIB);
	ASSERT(capacity(rig) == of_100 + of_disk);
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 0);
	ASSERT(capacity(rig) == of_100);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 10 * GIB); /* more than there is */
	ASSERT(capacity(rig) == of_disk);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 3 * MIB); /* not one group more than is open */
	ASSERT(capacity(rig) == 0);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, 100 * MIB);
	set(rig, 0, POLICY_MAX_CAPACITY, 50 * MIB);
	ASSERT(capacity(rig) == 50 * MIB);
	set(rig, 0, POLICY_MAX_CAPACITY, POLICY_NONE);
	/* Two copies, one disk a tier: as much as the tighter one allows. */
	set(rig, 0, POLICY_REPLICATION_FACTOR, 2);
	ASSERT(capacity(rig) == 0);
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, POLICY_NONE);
	ASSERT(capacity(rig) == of_100);
	/* The same before it is asked for. */
	bytes[2] = of_100;
	ASSERT(pool_quota_tiers_hold(rig->pool, &policies[0], bytes));
	bytes[2]++;
	ASSERT(!pool_quota_tiers_hold(rig->pool, &policies[0], bytes));
	bytes[2]--;
	bytes[1] = of_disk - of_100;
	ASSERT(pool_quota_tiers_hold(rig->pool, &policies[0], bytes));
	bytes[1]++;
	ASSERT(!pool_quota_tiers_hold(rig->pool, &policies[0], bytes));
	/* Both copies may be on SSDs, but one must be there as long as there is one hard disk. */
	add_disk(rig, 1, "ssd", &id);
	ASSERT(capacity(rig) == of_100);
	add_disk(rig, 2, "hdd", &id);
	ASSERT(capacity(rig) == of_100 + of_disk);
	/* Twice what may be live is a few bytes more than 64 bits hold. */
	set(rig, 0, POLICY_MAX_CAPACITY_HDD, 0);
	set(rig, 0, POLICY_MAX_CAPACITY_SSD, ((UINT64_C(1) << 63) / 91 + 1) * 100 + 256 * MIB);
	ASSERT(capacity(rig) == of_disk);
	end(rig);
}

static void capacity_follows_from_tiers(void **state)
{
	pool_rig_run(*state, capacity_run);
}

/* Two containers at random. */
#define SLOTS 40

struct slot {
	struct pool_file *file;
	unsigned owner;
	uint64_t size;
	bool on[POLICY_TIER_COUNT];
};
struct model {
	struct pool_rig *rig;
	struct slot slots[SLOTS];
	uint64_t disk_tier[8]; /* by disk id */
	unsigned taken, refused;
};

static uint64_t random_below(struct model *m, uint64_t bound)
{
	return sim_random_below(m->rig->sim.sim, bound);
}

static uint64_t sum_of(const struct model *m, unsigned owner, unsigned tier)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		if (m->slots[i].file && m->slots[i].owner == owner && m->slots[i].on[tier])
			sum += m->slots[i].size;
	return sum;
}

static void look_at(struct model *m, struct slot *slot)
{
	struct pool_copies copies;

	slot->size = pool_file_size(slot->file);
	memset(slot->on, 0, sizeof(slot->on));
	pool_file_get_copies(slot->file, &copies);
	for (unsigned i = 0; i < copies.count; i++)
		slot->on[m->disk_tier[copies.disks[i]]] = true;
}

static void model_check(struct model *m)
{
	pool_check(m->rig->pool);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
			ASSERT(used(m->rig, i, (enum policy_tier)tier) == sum_of(m, i, tier));
}

static void model_take(struct model *m, struct slot *slot)
{
	const struct pool_want want = {
		.use = random_below(m, 5) ? POOL_USE_DATA : POOL_USE_INTERNAL,
		.size_bytes = (1 + random_below(m, 6)) * MIB,
		.copies = 1 + (unsigned)random_below(m, 3),
		.about = random_below(m, 2),
	};
	uint64_t before[POLICY_TIER_COUNT];
	unsigned i = (unsigned)random_below(m, 2);
	int r;

	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
		before[tier] = sum_of(m, i, tier);
	r = take_as(m->rig, i, want, &slot->file);
	ASSERT(r == 0 || r == -ENOSPC);
	m->taken += r == 0;
	m->refused += r != 0;
	if (r) /* only data is refused, and only for a reason */
		ASSERT(want.use == POOL_USE_DATA && pool_quota_pressure(quotas[i]) == 100);
	if (r)
		return;
	slot->owner = i;
	look_at(m, slot);
	/* Data is never put where there was no room. */
	for (unsigned tier = 0; want.use == POOL_USE_DATA && tier < POLICY_TIER_COUNT; tier++)
		ASSERT(!slot->on[tier] ||
		       before[tier] + slot->size <=
			       policies[i].values[POLICY_MAX_CAPACITY_SSD + tier]);
}

static void model_change(struct model *m, struct slot *slot)
{
	struct pool_copies copies;
	unsigned copy;

	switch (random_below(m, 3)) {
	case 0:
		ASSERT(pool_file_trim(slot->file, slot->size / 2 / 4096 * 4096 + 4096) == 0);
		break;
	case 1: /* repair adds one */
		if (copies_of(slot->file) == 3 || pool_file_add_copy(slot->file, &copy) != 0)
			return;
		pool_file_get_copies(slot->file, &copies);
		copies.stale = 0;
		pool_file_set_copies(slot->file, &copies);
		break;
	default: /* or drops the first */
		pool_file_get_copies(slot->file, &copies);
		if (copies.count < 2)
			return;
		copies.count--;
		memmove(&copies.disks[0], &copies.disks[1], copies.count * sizeof(copies.disks[0]));
		pool_file_set_copies(slot->file, &copies);
	}
	look_at(m, slot);
}

static void model_set(struct model *m)
{
	unsigned i = (unsigned)random_below(m, 2), tier = (unsigned)random_below(m, 3);
	bool limit = random_below(m, 2);
	enum policy_property property =
		(limit ? POLICY_MAX_CAPACITY_SSD : POLICY_MIN_RESERVED_SSD) + tier;

	set(m->rig, i, property,
	    limit && random_below(m, 4) == 0 ? POLICY_NONE : random_below(m, 60) * MIB);
}

static void model_restart(struct model *m)
{
	uint64_t before[2][POLICY_TIER_COUNT], file_ids[SLOTS] = {0};
	struct pool_copies copies[SLOTS];

	for (unsigned n = 0; n < SLOTS; n++) {
		struct slot *slot = &m->slots[n];

		if (!slot->file)
			continue;
		file_ids[n] = pool_file_id(slot->file);
		pool_file_get_copies(slot->file, &copies[n]);
		name_file(m->rig, slot->owner, slot->file, file_ids[n]);
		pool_file_close(TAKE_PTR(slot->file));
	}
	for (unsigned i = 0; i < 2; i++)
		for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
			before[i][tier] = used(m->rig, i, (enum policy_tier)tier);
	reopen(m->rig);
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
			ASSERT(before[i][tier] == used(m->rig, i, (enum policy_tier)tier));
		ASSERT(pool_quota_set(m->rig->pool, ids[i], &policies[i]) == 0);
	}
	for (unsigned n = 0; n < SLOTS; n++)
		if (file_ids[n])
			ASSERT(pool_file_open(m->rig->pool, file_ids[n], &copies[n],
					      &m->slots[n].file) == 0);
}

static void model_step(struct model *m)
{
	struct slot *slot = &m->slots[random_below(m, SLOTS)];

	if (random_below(m, 10) == 0)
		model_set(m);
	else if (!slot->file)
		model_take(m, slot);
	else if (random_below(m, 2))
		model_change(m, slot);
	else {
		name_file(m->rig, slot->owner, NULL, pool_file_id(slot->file));
		pool_file_discard(TAKE_PTR(slot->file));
	}
	model_check(m);
}

static void model_run(void *arg)
{
	static struct model m;
	struct pool_rig *rig = arg;
	uint64_t id;

	m = (struct model){.rig = rig};
	begin(rig, true);
	add_disk(rig, 1, "ssd", &id);
	add_disk(rig, 2, "san", &id);
	m.disk_tier[2] = POLICY_HDD;
	m.disk_tier[4] = POLICY_SAN;
	for (unsigned i = 0; i < 1000; i++) {
		model_step(&m);
		if (i % 100 == 99)
			model_restart(&m);
	}
	ASSERT(m.taken > 50 && m.refused > 10);
	for (unsigned i = 0; i < SLOTS; i++)
		if (m.slots[i].file)
			pool_file_discard(TAKE_PTR(m.slots[i].file));
	end(rig);
}

/* The rig's seed is one; what comes before the run makes others of it. */
static void adds_up_at_random(void **state)
{
	for (unsigned seed = 0; seed < 5; seed++) {
		struct pool_rig *rig;

		setup((void **)&rig);
		for (unsigned i = 0; i < seed; i++)
			(void)sim_random_below(rig->sim.sim, 2);
		pool_rig_run(rig, model_run);
		pool_rig_free(rig);
	}
	(void)state;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(gives_the_next_tier_at_the_limit),  TEST(follows_changed_limits),
		TEST(keeps_what_others_reserved),        TEST(counts_copies_once_a_tier),
		TEST(makes_all_copies_on_suspect_disks), TEST(repair_is_not_refused),
		TEST(knows_the_same_after_a_restart),    TEST(many_at_a_time_get_no_more),
		TEST(counts_what_is_being_made_once),    TEST(what_is_reserved_no_more_is_room),
		TEST(capacity_follows_from_tiers),       cmocka_unit_test(adds_up_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
