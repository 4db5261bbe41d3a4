/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of up to 12 disks under random use, as test_pool_sim.c is for one: fibers of two reactors
 * take, write, grow, trim, reopen, repair and discard files with one to three copies the way the
 * engine does, while another fiber takes disks away, brings them back, makes them err, slow,
 * read-only or full, adds, drains, fails, restores and removes them; with crashes at any operation.
 *
 *  - Each copy that the row calls valid, where it can be reached, has what was synced last.
 *  - After each restart every file that a row names can be opened, unless its disks are away.
 *  - What each disk's table counts is what rows name there.
 *  - When all disks are back and in order, all copies of all files can be read.
 *
 * An argument FIRST:COUNT chooses the seeds, SARSEN_TRACE=1 prints every event.
 */
#include "sim_rig.h"

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

#include "base/endian.h"
#include "base/log.h"
#include "pool/pool_disk.h"
#include "pool_calls.h"
#include "reactor/io.h"

#define STATE      "/state"
#define DISKS      12
#define DISK_BYTES (600 * MIB)
#define WORKERS    3
#define SLOTS      5
#define LIVES      4
#define OPERATIONS 20
#define PAGE       4096
#define MAYBE      8

struct slot {
	uint64_t id; /* of the file; 0 = none */
	struct pool_copies copies;
	bool named;            /* its row is committed */
	bool unknown;          /* what its row says is decided by the next restart */
	uint64_t tag;          /* synced in the first page of all valid copies; 0 = nothing yet */
	uint64_t maybe[MAYBE]; /* written over it since, perhaps in part */
	unsigned maybe_count;
	struct pool_file *file;
};

struct model {
	struct sim_rig rig;
	struct catalog *catalog;
	struct pool *pool;
	uint64_t pool_id;
	struct slot slots[WORKERS][SLOTS];
	bool away[DISKS];
	bool chaos_ends;
	unsigned workers_left;
	uint64_t tags, files, repaired, degraded;
	uint64_t seed;
	unsigned life, disks;
};

struct worker {
	struct model *model;
	unsigned index;
	uint8_t *page;
	struct sim_rig_task task;
};

static uint64_t random_below(struct model *m, uint64_t bound)
{
	return sim_random_below(m->rig.sim, bound);
}

static bool is_dead(struct model *m)
{
	return sim_is_dead(m->rig.sim);
}

static bool is_refusal(int r)
{
	return r == -EIO || r == -ENOSPC || r == -ESHUTDOWN || r == -EROFS || r == -ENXIO ||
	       r == -ENOENT || r == -ETIMEDOUT;
}

static void root_of(unsigned disk, char root[16])
{
	snprintf(root, 16, "/disk%u", disk);
}

static struct catalog_key file_key(struct model *m, unsigned worker, uint64_t id)
{
	struct catalog_key key = catalog_key(CATALOG_EGFILE);

	catalog_key_add(&key, m->pool_id);
	catalog_key_add(&key, worker);
	catalog_key_add(&key, id);
	return key;
}

/* Names the file with `copies`, or forgets it (NULL). Returns whether it is known to be done. */
static bool row_commit(struct model *m, unsigned worker, struct slot *slot,
		       const struct pool_copies *copies)
{
	uint8_t value[FILE_ROW_BYTES] = {0};
	struct catalog_change change = {
		.kind = copies ? CATALOG_PUT : CATALOG_DELETE,
		.key = file_key(m, worker, slot->id),
		.value = value,
		.length = sizeof(value),
	};
	int r;

	if (copies)
		pool_rows_encode_file(pool_file_size(slot->file), copies, value);
	r = catalog_commit(m->catalog, &change, 1);
	ASSERT(r == 0 || r == -ESHUTDOWN || r == -ENOTRECOVERABLE);
	slot->unknown |= r != 0;
	if (r == 0 && copies)
		slot->copies = *copies;
	return r == 0;
}

static unsigned all_of(const struct pool_copies *copies)
{
	return (1u << copies->count) - 1;
}

/* What could not be written and synced is called stale before the write counts. */
static bool call_stale(struct model *m, struct worker *w, struct slot *slot, unsigned part)
{
	struct pool_copies copies = slot->copies;

	part &= ~pool_file_failed(slot->file);
	copies.stale = all_of(&copies) & ~part;
	if (part == 0)
		return false;
	if (copies.stale == slot->copies.stale)
		return true;
	m->degraded++;
	if (!row_commit(m, w->index, slot, &copies))
		return false;
	pool_file_set_copies(slot->file, &copies);
	return true;
}

static void page_fill(uint8_t *page, uint64_t tag)
{
	for (unsigned i = 0; i < PAGE; i += 8)
		put_le64(page + i, tag);
}

static void tag_write(struct model *m, struct worker *w, struct slot *slot)
{
	uint64_t tag = ++m->tags;
	unsigned part = pool_file_taking_part(slot->file);
	int r;

	if (slot->maybe_count == MAYBE)
		return;
	page_fill(w->page, tag);
	slot->maybe[slot->maybe_count++] = tag;
	r = pool_io_write(slot->file, w->page, PAGE, 0);
	ASSERT(r == 0 || is_refusal(r));
	/* The engine would go on elsewhere; here the next write makes them equal. */
	if (r == 0)
		r = pool_io_sync(slot->file);
	ASSERT(r == 0 || is_refusal(r));
	if (r == 0 && call_stale(m, w, slot, part)) {
		slot->tag = tag;
		slot->maybe_count = 0;
	}
}

static bool tag_is_possible(const struct slot *slot, uint64_t tag)
{
	bool possible = tag == slot->tag;

	for (unsigned i = 0; i < slot->maybe_count; i++)
		possible = possible || tag == slot->maybe[i];
	return possible;
}

static void content_check(struct model *m, struct slot *slot, unsigned copy, const uint8_t *page)
{
	for (unsigned i = 0; slot->tag && i < PAGE; i += 8) {
		if (tag_is_possible(slot, get_le64(page + i)))
			continue;
		fprintf(stderr,
			"seed %" PRIu64 " life %u file %" PRIx64 " copy %u: expected %" PRIu64
			", found %" PRIu64 " at %u\n",
			m->seed, m->life, slot->id, copy, slot->tag, get_le64(page + i), i);
		abort();
	}
}

/* Returns how many copies could be read. */
static unsigned slot_read(struct model *m, struct worker *w, struct slot *slot)
{
	unsigned count = 0;

	for (unsigned copy = 0; copy < slot->copies.count; copy++) {
		int r;

		if (slot->copies.stale >> copy & 1)
			continue;
		r = pool_io_read_copy(slot->file, copy, w->page, PAGE, 0);
		ASSERT(r == 0 || is_refusal(r) || (r == -ENODATA && !slot->tag));
		if (r == 0)
			content_check(m, slot, copy, w->page);
		count += r == 0;
	}
	return count;
}

static void slot_create(struct model *m, struct worker *w, struct slot *slot)
{
	const struct pool_want want = {
		.use = random_below(m, 2) ? POOL_USE_DATA : POOL_USE_INTERNAL,
		.size_bytes = MIB << random_below(m, 5),
		.copies = 1 + (unsigned)random_below(m, POOL_FACTOR_MAX),
		.about = random_below(m, 2),
	};
	struct pool_copies copies;
	struct pool_file *file;
	int r = pool_file_take(m->pool, &want, &file);

	ASSERT(r == 0 || is_refusal(r));
	if (r)
		return;
	m->files++;
	pool_file_get_copies(file, &copies);
	ASSERT(copies.count >= 1 && copies.count <= want.copies && copies.stale == 0);
	*slot = (struct slot){.id = pool_file_id(file), .file = file};
	if (random_below(m, 8) == 0) { /* is not needed after all */
		pool_file_discard(file);
		*slot = (struct slot){0};
		return;
	}
	if (!row_commit(m, w->index, slot, &copies))
		return;
	slot->named = true;
	tag_write(m, w, slot);
}

static void slot_trim(struct model *m, struct worker *w, struct slot *slot)
{
	int r = pool_file_trim(slot->file, PAGE * (1 + random_below(m, 512)));

	ASSERT(r == 0 || is_refusal(r));
	if (r == 0)
		(void)row_commit(m, w->index, slot, &slot->copies);
}

static void slot_open(struct model *m, struct worker *w, struct slot *slot)
{
	int r = pool_file_open(m->pool, slot->id, &slot->copies, &slot->file);

	ASSERT(r == 0 || is_refusal(r));
	if (r)
		slot->file = NULL;
	else
		(void)slot_read(m, w, slot);
}

static void slot_reopen(struct model *m, struct worker *w, struct slot *slot)
{
	struct pool_file *again;

	ASSERT(pool_file_open(m->pool, slot->id, &slot->copies, &again) == -EBUSY);
	if (random_below(m, 2)) {
		(void)pool_file_reopen(slot->file);
		(void)slot_read(m, w, slot);
		return;
	}
	pool_file_close(TAKE_PTR(slot->file));
	slot_open(m, w, slot);
}

static void slot_discard(struct model *m, struct worker *w, struct slot *slot)
{
	int r;

	if (!row_commit(m, w->index, slot, NULL))
		return;
	if (random_below(m, 2)) {
		pool_file_discard(TAKE_PTR(slot->file));
	} else {
		pool_file_close(TAKE_PTR(slot->file));
		r = pool_file_discard_id(m->pool, slot->id, &slot->copies);
		ASSERT(r == 0 || is_refusal(r));
	}
	*slot = (struct slot){0};
}

/* Without the copies that are stale or on disks that leave, as long as one is left. */
static struct pool_copies worth_keeping(struct model *m, const struct pool_copies *copies)
{
	struct pool_copies kept = {0};

	for (unsigned i = 0; i < copies->count; i++)
		if (!(copies->stale >> i & 1) && !pool_disk_is_leaving(m->pool, copies->disks[i]))
			kept.disks[kept.count++] = copies->disks[i];
	return kept.count ? kept : *copies;
}

static int fill_copy(struct worker *w, struct slot *slot, unsigned from, unsigned to)
{
	int r = pool_io_read_copy(slot->file, from, w->page, PAGE, 0);

	if (r == 0)
		r = pool_io_write_copy(slot->file, to, w->page, PAGE, 0);
	return r ? r : pool_io_sync_copy(slot->file, to);
}

/* A further copy, filled from one that takes part; what is not worth keeping goes. */
static void slot_repair(struct model *m, struct worker *w, struct slot *slot)
{
	unsigned part = pool_file_taking_part(slot->file), added;
	struct pool_copies before, copies;
	int r;

	/* Only sealed files are repaired: all valid copies are equal. */
	if (slot->maybe_count > 0 || !slot->tag || part == 0)
		return;
	r = pool_file_add_copy(slot->file, &added);
	ASSERT(r == 0 || r == -EMLINK || is_refusal(r));
	if (r)
		return;
	pool_file_get_copies(slot->file, &before);
	ASSERT(before.count == slot->copies.count + 1 && (before.stale >> added & 1));
	r = fill_copy(w, slot, (unsigned)__builtin_ctz(part), added);
	ASSERT(r == 0 || is_refusal(r));
	copies = slot->copies;
	if (r == 0) {
		before.stale &= ~(1u << added);
		copies = worth_keeping(m, &before);
	}
	if (r == 0 && !row_commit(m, w->index, slot, &copies))
		return;
	pool_file_set_copies(slot->file, &copies);
	m->repaired += r == 0;
	(void)slot_read(m, w, slot);
}

static void slot_operate(struct model *m, struct worker *w, struct slot *slot)
{
	typedef void operation_fn(struct model *, struct worker *, struct slot *);
	static operation_fn *const operations[] = {
		slot_trim,   slot_discard, slot_reopen, slot_repair,
		slot_repair, tag_write,    tag_write,
	};

	if (slot->id == 0)
		slot_create(m, w, slot);
	else if (!slot->named || slot->unknown)
		return;
	else if (!slot->file)
		slot_open(m, w, slot);
	else
		operations[random_below(m, ARRAY_SIZE(operations))](m, w, slot);
}

static void worker_run(void *arg)
{
	struct worker *w = arg;
	struct model *m = w->model;

	for (int i = 0; i < OPERATIONS && !is_dead(m); i++) {
		slot_operate(m, w, &m->slots[w->index][random_below(m, SLOTS)]);
		if (random_below(m, 4) == 0)
			fiber_sleep(random_below(m, 2 * NSEC_PER_SEC));
	}
	m->workers_left--;
}

/* Disks */

static unsigned count_away(const struct model *m)
{
	unsigned count = 0;

	for (unsigned i = 0; i < m->disks; i++)
		count += m->away[i];
	return count;
}

static void set_away(struct model *m, unsigned disk, bool away)
{
	char root[16];

	root_of(disk, root);
	if (away && count_away(m) + 1 >= m->disks)
		return;
	m->away[disk] = away;
	sim_disk_set_missing(m->rig.sim, root, away);
}

static void set_faults(struct model *m, unsigned disk, unsigned kind)
{
	struct sim_faults faults = {0};
	char root[16];

	root_of(disk, root);
	if (kind == 1)
		faults = (struct sim_faults){.write_error_ppm = 100000,
					     .read_error_ppm = 50000,
					     .sync_error_ppm = 100000};
	if (kind == 2)
		faults = (struct sim_faults){.metadata_error_ppm = 100000};
	if (kind == 3)
		faults = (struct sim_faults){.slow_ppm = 500000, .slow_ns = 3 * NSEC_PER_SEC};
	sim_disk_set_faults(m->rig.sim, root, &faults);
	sim_disk_set_capacity(m->rig.sim, root, kind == 4 ? 10 * MIB : DISK_BYTES);
	sim_disk_set_read_only(m->rig.sim, root, kind == 5);
}

static int add_disk(struct model *m, unsigned disk)
{
	static const char *const tiers[] = {"ssd", "hdd"};
	char root[16], directory[24];
	struct pool_disk_spec spec = {
		.directory = directory,
		.tier = tiers[disk % 2],
		.capacity_bytes = POOL_MIN_BYTES,
		.force = true,
	};
	uint64_t id;

	root_of(disk, root);
	snprintf(directory, sizeof(directory), "%s/p", root);
	return pool_disk_add(m->pool, &spec, &id);
}

/* Any one of the pool's; 0 = none. */
static uint64_t draw_disk(struct model *m)
{
	struct pool_disk_info *infos;
	size_t count;
	uint64_t id;

	if (pool_disk_list(m->pool, &infos, &count) != 0)
		return 0;
	id = count ? infos[random_below(m, count)].id : 0;
	free(infos);
	return id;
}

static bool is_disk_refusal(int r)
{
	return is_refusal(r) || r == -EINVAL || r == -EBUSY || r == -EEXIST || r == -ENODEV ||
	       r == -ENOTEMPTY || r == -ENOTRECOVERABLE || r == -EUCLEAN || r == -EOPNOTSUPP;
}

static void chaos_step(struct model *m)
{
	unsigned disk = (unsigned)random_below(m, m->disks);
	uint64_t id = draw_disk(m);
	int r = 0;

	switch (random_below(m, 12)) {
	case 0:
	case 1:
		set_away(m, disk, true);
		break;
	case 2:
	case 3:
	case 4:
		set_away(m, disk, false);
		break;
	case 5:
		set_faults(m, disk, (unsigned)random_below(m, 6));
		break;
	case 6:
		set_faults(m, disk, 0);
		break;
	case 7:
		r = pool_disk_set_draining(m->pool, id, random_below(m, 2));
		break;
	case 8:
		r = random_below(m, 4) ? pool_disk_restore(m->pool, id)
				       : pool_disk_fail(m->pool, id);
		break;
	case 9:
		r = pool_disk_remove(m->pool, id);
		break;
	default:
		r = add_disk(m, disk);
	}
	ASSERT(r == 0 || is_disk_refusal(r));
}

static void chaos_run(void *arg)
{
	struct model *m = arg;

	while (m->workers_left > 0 && !is_dead(m)) {
		chaos_step(m);
		fiber_sleep(random_below(m, NSEC_PER_SEC));
	}
}

/* Lives */

/* After a restart: the row says what there is. */
static void slot_settle(struct model *m, struct worker *w, struct slot *slot)
{
	struct catalog_key key = file_key(m, w->index, slot->id);
	struct catalog_row row = {0};
	uint64_t id, size;
	int r = catalog_get(m->catalog, &key, &row);

	if (r == -ESHUTDOWN)
		return;
	ASSERT(r == 0 || r == -ENOENT);
	ASSERT(slot->unknown || !slot->id || (r == 0) == slot->named);
	if (r == 0)
		ASSERT(pool_rows_decode_file(&row, &id, &size, &slot->copies) == 0);
	catalog_row_done(&row);
	if (r == -ENOENT) {
		*slot = (struct slot){0};
		return;
	}
	slot->named = true;
	slot->unknown = false;
	slot_open(m, w, slot);
	if (slot->file && !is_dead(m)) /* what survived of several writes may be mixed */
		tag_write(m, w, slot);
}

static unsigned named_on(const struct model *m, uint64_t disk)
{
	unsigned count = 0;

	for (unsigned i = 0; i < WORKERS * SLOTS; i++) {
		const struct slot *slot = &m->slots[i / SLOTS][i % SLOTS];

		for (unsigned j = 0; slot->id && j < slot->copies.count; j++)
			count += slot->copies.disks[j] == disk;
	}
	return count;
}

/* While nothing is going on, and all is known. */
static void tables_check(struct model *m)
{
	struct pool_disk_info *infos;
	size_t count;

	pool_check(m->pool);
	ASSERT(pool_disk_list(m->pool, &infos, &count) == 0);
	for (size_t i = 0; i < count; i++)
		ASSERT(infos[i].files == named_on(m, infos[i].id));
	free(infos);
}

static void open_pool(struct model *m)
{
	struct pool_spec spec = {
		.name = "p", .directory = "/disk0/p", .capacity_bytes = POOL_MIN_BYTES};
	int r = pool_find(m->catalog, "p", &m->pool_id);

	if (r == -ENOENT)
		r = pool_create(sim_world(m->rig.sim), m->catalog, &spec, &m->pool_id);
	if (r == 0)
		r = pool_open(sim_world(m->rig.sim), m->catalog, m->pool_id, &m->pool);
	ASSERT(r == 0 || r == -ESHUTDOWN || r == -ENODEV);
	if (r)
		m->pool = NULL;
	for (unsigned i = 1; r == 0 && m->life == 0 && i < m->disks; i++)
		r = add_disk(m, i);
	ASSERT(r == 0 || r == -ESHUTDOWN || r == -ENODEV);
}

static void open_run(void *arg)
{
	struct model *m = arg;
	struct catalog_options options = {
		.path = STATE "/catalog.db", .vfs = SIM_VFS_NAME, .create = true};
	int r = catalog_open(sim_world(m->rig.sim), &options, &m->catalog);

	ASSERT(r == 0 || r == -ESHUTDOWN);
	if (r) {
		m->catalog = NULL;
		return;
	}
	open_pool(m);
}

static void settle_run(void *arg)
{
	struct model *m = arg;
	struct worker w = {.model = m, .page = aligned_alloc(PAGE, PAGE)};

	ASSERT(w.page);
	for (w.index = 0; w.index < WORKERS; w.index++)
		for (unsigned i = 0; i < SLOTS; i++)
			if (m->slots[w.index][i].id && !is_dead(m))
				slot_settle(m, &w, &m->slots[w.index][i]);
	if (!is_dead(m))
		tables_check(m);
	free(w.page);
}

static void close_run(void *arg)
{
	struct model *m = arg;

	for (unsigned i = 0; i < WORKERS * SLOTS; i++)
		pool_file_close(TAKE_PTR(m->slots[i / SLOTS][i % SLOTS].file));
	if (m->pool)
		pool_check(m->pool);
	pool_close(TAKE_PTR(m->pool));
	catalog_close(TAKE_PTR(m->catalog));
}

/* All disks come back: nothing that was synced is lost, on no copy. */
static void healthy_run(void *arg)
{
	struct model *m = arg;
	struct worker w = {.model = m, .page = aligned_alloc(PAGE, PAGE)};
	struct pool_disk_info *infos;
	size_t count;

	ASSERT(w.page);
	fiber_sleep(120 * NSEC_PER_SEC);
	ASSERT(pool_disk_list(m->pool, &infos, &count) == 0);
	for (size_t i = 0; i < count; i++) {
		ASSERT(pool_disk_restore(m->pool, infos[i].id) == 0);
		ASSERT(pool_disk_state(m->pool, infos[i].id) == POOL_DISK_ONLINE);
	}
	free(infos);
	for (unsigned i = 0; i < WORKERS * SLOTS; i++) {
		struct slot *slot = &m->slots[i / SLOTS][i % SLOTS];

		if (!slot->id || !slot->named)
			continue;
		if (!slot->file)
			slot_open(m, &w, slot);
		ASSERT(slot->file);
		(void)pool_file_reopen(slot->file);
		if (slot->tag)
			ASSERT(slot_read(m, &w, slot) ==
			       slot->copies.count -
				       (unsigned)__builtin_popcount(slot->copies.stale));
	}
	tables_check(m);
	free(w.page);
}

static void crash_arm(struct model *m, uint64_t within)
{
	enum sim_crash kind = random_below(m, 3) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS;

	sim_crash_nth(m->rig.sim, 1 + random_below(m, within), kind);
}

static void workers_run(struct model *m)
{
	struct worker workers[WORKERS] = {0};
	struct sim_rig_task chaos = {.run = chaos_run, .arg = m};

	m->workers_left = WORKERS;
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i] =
			(struct worker){.model = m, .index = i, .page = aligned_alloc(PAGE, PAGE)};
		ASSERT(workers[i].page);
		workers[i].task.run = worker_run;
		workers[i].task.arg = &workers[i];
		sim_rig_start(&m->rig, i % 2, &workers[i].task);
	}
	sim_rig_start(&m->rig, 0, &chaos);
	for (unsigned i = 0; i < WORKERS; i++) {
		ASSERT(sim_rig_wait(&m->rig, &workers[i].task, 1, 3600 * NSEC_PER_SEC) == 0);
		free(workers[i].page);
	}
	ASSERT(sim_rig_wait(&m->rig, &chaos, 1, 3600 * NSEC_PER_SEC) == 0);
}

static void make_healthy(struct model *m)
{
	for (unsigned i = 0; i < m->disks; i++) {
		set_away(m, i, false);
		set_faults(m, i, 0);
	}
}

static bool all_is_known(const struct model *m)
{
	for (unsigned i = 0; i < WORKERS * SLOTS; i++)
		if (m->slots[i / SLOTS][i % SLOTS].unknown)
			return false;
	return true;
}

static void life(struct model *m)
{
	unsigned ending = (unsigned)random_below(m, 4);

	if (m->life > 0 && random_below(m, 4) == 0)
		crash_arm(m, 3000);
	sim_rig_run(&m->rig, 0, open_run, m);
	if (m->pool && !is_dead(m))
		sim_rig_run(&m->rig, 0, settle_run, m);
	if (m->pool && !is_dead(m)) {
		sim_crash_nth(m->rig.sim, 0, SIM_CRASH_POWER);
		if (ending > 0)
			crash_arm(m, 1500);
		workers_run(m);
		sim_crash_nth(m->rig.sim, 0, SIM_CRASH_POWER);
		if (random_below(m, 2))
			make_healthy(m);
		if (!is_dead(m) && count_away(m) == 0 && all_is_known(m)) {
			make_healthy(m);
			sim_rig_run(&m->rig, 0, healthy_run, m);
		}
	}
	if (ending == 1)
		sim_crash(m->rig.sim, SIM_CRASH_POWER);
	sim_rig_run(&m->rig, 0, close_run, m);
	sim_crash_nth(m->rig.sim, 0, SIM_CRASH_POWER);
	if (is_dead(m))
		sim_rig_restart(&m->rig);
	for (unsigned i = 0; i < m->disks; i++) /* a disk may be away while the pool opens */
		set_faults(m, i, 0);
}

/* Returns the trace's hash. */
static uint64_t run_seed(uint64_t seed, void *arg)
{
	uint64_t *counts = arg;
	struct model *m = calloc(1, sizeof(*m));
	struct sim_options options = {.seed = seed, .trace = getenv("SARSEN_TRACE") != NULL};
	char root[16];
	uint64_t hash;

	m->seed = seed;
	sim_rig_init_options(&m->rig, &options, 2);
	m->disks = 1 + (unsigned)random_below(m, DISKS);
	ASSERT(sim_disk_add(m->rig.sim, STATE, 64 * MIB) == 0);
	for (unsigned i = 0; i < m->disks; i++) {
		root_of(i, root);
		ASSERT(sim_disk_add(m->rig.sim, root, DISK_BYTES) == 0);
	}
	for (m->life = 0; m->life < LIVES; m->life++)
		life(m);
	hash = sim_trace_hash(m->rig.sim);
	counts[0] += m->files;
	counts[1] += m->repaired;
	counts[2] += m->degraded;
	sim_rig_done(&m->rig);
	free(m);
	return hash;
}

static const char *seeds; /* "FIRST:COUNT", or NULL for the few of the fast suite */

static void keeps_copies_and_account(void **state)
{
	uint64_t counts[3] = {0}, count;

	(void)state;
	count = sim_rig_seeds(seeds, 40, run_seed, counts);
	print_message("%" PRIu64 " seeds, %" PRIu64 " files taken, %" PRIu64 " repaired, %" PRIu64
		      " degraded\n",
		      count, counts[0], counts[1], counts[2]);
	assert_true(counts[0] > 3 * count);
}

static void replays_a_seed_exactly(void **state)
{
	uint64_t counts[3] = {0};

	(void)state;
	assert_true(sim_rig_replays(3, run_seed, counts));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_copies_and_account),
		cmocka_unit_test(replays_a_seed_exactly),
	};

	seeds = argc > 1 ? argv[1] : NULL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
