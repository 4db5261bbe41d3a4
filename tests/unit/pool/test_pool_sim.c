/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool under random use: fibers of two reactors take, write, grow, trim, close, open and discard
 * files the way the engine does, with disk faults, a full file system, crashes of the process and
 * losses of power at any operation. After each restart:
 *
 *  - every file that a row names is there, with what was synced in it (so that no spare file is
 *    ever in use twice), and no other can be opened;
 *  - the account is the sum of what is there.
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
#include "pool/pool.h"
#include "pool_calls.h"
#include "reactor/io.h"

#define STATE      "/state" /* the catalog's disk: no faults, test_catalog_sim.c has them */
#define DISK       "/disk"
#define DISK_BYTES (600 * MIB)
#define WORKERS    4
#define SLOTS      5
#define LIVES      4
#define OPERATIONS 16
#define PAGE       4096
#define MAYBE      8

struct slot {
	uint64_t id;           /* of the file; 0 = none */
	bool named;            /* its row is committed */
	bool unknown;          /* whether the row is there is decided by the next restart */
	uint64_t tag;          /* synced in its first page; 0 = nothing yet */
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
	uint64_t tags, files, discarded;
	uint64_t seed;
	unsigned life;
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
	return r == -EIO || r == -ENOSPC || r == -ESHUTDOWN;
}

static struct catalog_key file_key(struct model *m, unsigned worker, uint64_t id)
{
	struct catalog_key key = catalog_key(CATALOG_EGFILE);

	catalog_key_add(&key, m->pool_id);
	catalog_key_add(&key, worker);
	catalog_key_add(&key, id);
	return key;
}

/* Names the file and its size, or forgets it. Returns whether it is known to be done. */
static bool row_commit(struct model *m, unsigned worker, struct slot *slot, bool forget)
{
	uint8_t value[FILE_ROW_BYTES];
	struct catalog_change change = {
		.kind = forget ? CATALOG_DELETE : CATALOG_PUT,
		.key = file_key(m, worker, slot->id),
		.value = value,
		.length = sizeof(value),
	};
	int r;

	file_row(slot->file, value);
	r = catalog_commit(m->catalog, &change, 1);
	ASSERT(r == 0 || r == -ESHUTDOWN || r == -ENOTRECOVERABLE);
	if (r)
		slot->unknown = slot->unknown || !slot->named || forget;
	return r == 0;
}

static void page_fill(uint8_t *page, uint64_t tag)
{
	for (unsigned i = 0; i < PAGE; i += 8)
		put_le64(page + i, tag);
}

static void tag_write(struct model *m, struct slot *slot, uint8_t *page)
{
	uint64_t tag = ++m->tags;
	int r;

	if (slot->maybe_count == MAYBE)
		return;
	page_fill(page, tag);
	slot->maybe[slot->maybe_count++] = tag;
	r = pool_io_write(slot->file, page, PAGE, 0);
	if (r == 0)
		r = pool_io_sync(slot->file);
	ASSERT(r == 0 || is_refusal(r));
	if (r)
		return;
	slot->tag = tag;
	slot->maybe_count = 0;
}

static void slot_create(struct model *m, struct worker *w, struct slot *slot)
{
	static const uint64_t sizes[] = {MIB, MIB, 2 * MIB, 4 * MIB, 12345, 16 * MIB};
	uint64_t size = sizes[random_below(m, ARRAY_SIZE(sizes))];
	enum pool_use use = random_below(m, 2) ? POOL_USE_DATA : POOL_USE_INTERNAL;
	struct pool_file *file;
	int r = take_file(m->pool, use, size, &file);

	ASSERT(r == 0 || is_refusal(r));
	if (r)
		return;
	ASSERT(pool_file_size(file) >= size);
	m->files++;
	*slot = (struct slot){.id = pool_file_id(file), .file = file};
	if (random_below(m, 8) == 0) { /* is not needed after all */
		pool_file_discard(file);
		*slot = (struct slot){0};
		return;
	}
	if (!row_commit(m, w->index, slot, false))
		return;
	slot->named = true;
	tag_write(m, slot, w->page);
}

static void slot_trim(struct model *m, struct worker *w, struct slot *slot)
{
	uint64_t size = PAGE * (1 + random_below(m, 512));
	int r = pool_file_trim(slot->file, size);

	ASSERT(r == 0 || is_refusal(r));
	if (r == 0)
		(void)row_commit(m, w->index, slot, false);
}

static void slot_discard(struct model *m, struct worker *w, struct slot *slot)
{
	int r;

	if (!row_commit(m, w->index, slot, true))
		return;
	m->discarded++;
	if (random_below(m, 2)) {
		pool_file_discard(TAKE_PTR(slot->file));
	} else {
		pool_file_close(TAKE_PTR(slot->file));
		r = discard_file_id(m->pool, slot->id);
		ASSERT(r == 0 || is_refusal(r));
	}
	*slot = (struct slot){0};
}

static bool tag_is_possible(const struct slot *slot, uint64_t tag)
{
	bool possible = tag == slot->tag;

	for (unsigned i = 0; i < slot->maybe_count; i++)
		possible = possible || tag == slot->maybe[i];
	return possible;
}

/* Each sector is of one of the writes. What was never synced is anything. */
static void content_check(struct model *m, struct slot *slot, const uint8_t *page)
{
	for (unsigned i = 0; slot->tag && i < PAGE; i += 8) {
		if (tag_is_possible(slot, get_le64(page + i)))
			continue;
		fprintf(stderr,
			"seed %" PRIu64 " life %u file %" PRIx64 ": expected %" PRIu64
			", found %" PRIu64 " at %u\n",
			m->seed, m->life, slot->id, slot->tag, get_le64(page + i), i);
		abort();
	}
}

static void slot_read(struct model *m, struct worker *w, struct slot *slot)
{
	int r = pool_io_read_copy(slot->file, 0, w->page, PAGE, 0);

	/* A file whose first write did not come to pass may be empty after a loss of power. */
	ASSERT(r == 0 || is_refusal(r) || (r == -ENODATA && !slot->tag));
	if (r == 0)
		content_check(m, slot, w->page);
}

static void slot_reopen(struct model *m, struct worker *w, struct slot *slot)
{
	struct pool_file *again;
	int r = open_file(m->pool, slot->id, &again);

	ASSERT(r == -EBUSY);
	pool_file_close(TAKE_PTR(slot->file));
	r = open_file(m->pool, slot->id, &slot->file);
	ASSERT(r == 0 || is_refusal(r));
	if (r)
		slot->file = NULL;
	else
		slot_read(m, w, slot);
}

static void slot_operate(struct model *m, struct worker *w, struct slot *slot)
{
	typedef void operation_fn(struct model *, struct worker *, struct slot *);
	static operation_fn *const operations[] = {
		slot_trim, slot_discard, slot_discard, slot_read, slot_reopen,
	};

	if (slot->id == 0)
		slot_create(m, w, slot);
	else if (slot->file && slot->named && !slot->unknown && random_below(m, 4) == 0)
		tag_write(m, slot, w->page);
	else if (slot->file && slot->named && !slot->unknown)
		operations[random_below(m, ARRAY_SIZE(operations))](m, w, slot);
}

static void worker_run(void *arg)
{
	struct worker *w = arg;
	struct model *m = w->model;

	for (int i = 0; i < OPERATIONS && !is_dead(m); i++) {
		slot_operate(m, w, &m->slots[w->index][random_below(m, SLOTS)]);
		if (random_below(m, 8) == 0)
			fiber_sleep(NSEC_PER_MSEC);
	}
}

/* After a restart: what is unknown is settled by the catalog, and the pool must agree with it. */
static void slot_settle(struct model *m, struct worker *w, struct slot *slot)
{
	struct catalog_key key = file_key(m, w->index, slot->id);
	struct catalog_row row = {0};
	int r = catalog_get(m->catalog, &key, &row), r2;

	if (r == -ESHUTDOWN)
		return;
	catalog_row_done(&row);
	ASSERT(r == 0 || r == -ENOENT);
	if (!slot->unknown && (r == 0) != slot->named) {
		fprintf(stderr, "seed %" PRIu64 " life %u file %" PRIx64 ": named %d, row %d\n",
			m->seed, m->life, slot->id, slot->named, r);
		abort();
	}
	r2 = open_file(m->pool, slot->id, &slot->file);
	if (r2 == -ESHUTDOWN)
		return;
	ASSERT(r == r2);
	if (r == -ENOENT) {
		*slot = (struct slot){0};
		return;
	}
	slot->named = true;
	slot->unknown = false;
	slot_read(m, w, slot);
	if (!is_dead(m)) /* what survived of several writes may be mixed */
		tag_write(m, slot, w->page);
}

static void account_check(struct model *m)
{
	struct pool_space space;
	uint64_t used = 0;

	for (unsigned i = 0; i < WORKERS * SLOTS; i++) {
		struct slot *slot = &m->slots[i / SLOTS][i % SLOTS];

		used += slot->file ? pool_file_size(slot->file) : 0;
	}
	pool_check(m->pool);
	pool_get_space(m->pool, &space);
	ASSERT(space.used == used);
	ASSERT(space.used + space.spare <= space.capacity);
}

static void open_pool(struct model *m)
{
	struct pool_spec spec = {
		.name = "p", .directory = DISK "/pool", .capacity_bytes = POOL_MIN_BYTES};
	int r = pool_find(m->catalog, "p", &m->pool_id);

	if (r == -ENOENT)
		r = pool_create(sim_world(m->rig.sim), m->catalog, &spec, &m->pool_id);
	if (r == 0)
		r = pool_open(sim_world(m->rig.sim), m->catalog, m->pool_id, &m->pool);
	ASSERT(r == 0 || r == -ESHUTDOWN);
	if (r)
		m->pool = NULL;
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
		account_check(m);
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

static bool all_are_open(const struct model *m)
{
	for (unsigned i = 0; i < WORKERS * SLOTS; i++) {
		const struct slot *slot = &m->slots[i / SLOTS][i % SLOTS];

		if (slot->id && !slot->file)
			return false;
	}
	return true;
}

static void account_run(void *arg)
{
	account_check(arg);
}

static void set_faults(struct model *m, unsigned kind)
{
	struct sim_faults faults = {0};

	if (kind == 1)
		faults = (struct sim_faults){.write_error_ppm = 50000, .sync_error_ppm = 50000};
	if (kind == 2)
		faults = (struct sim_faults){.metadata_error_ppm = 100000};
	sim_disk_set_faults(m->rig.sim, DISK, &faults);
	sim_disk_set_capacity(m->rig.sim, DISK, kind == 3 ? 30 * MIB : DISK_BYTES);
}

static void crash_arm(struct model *m, uint64_t within)
{
	enum sim_crash kind = random_below(m, 3) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS;

	sim_crash_nth(m->rig.sim, 1 + random_below(m, within), kind);
}

static void workers_run(struct model *m)
{
	struct worker workers[WORKERS] = {0};

	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i] =
			(struct worker){.model = m, .index = i, .page = aligned_alloc(PAGE, PAGE)};
		ASSERT(workers[i].page);
		workers[i].task.run = worker_run;
		workers[i].task.arg = &workers[i];
		sim_rig_start(&m->rig, i % 2, &workers[i].task);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		ASSERT(sim_rig_wait(&m->rig, &workers[i].task, 1, 600 * NSEC_PER_SEC) == 0);
		free(workers[i].page);
	}
}

static void life(struct model *m)
{
	unsigned ending = (unsigned)random_below(m, 4), faults;

	if (random_below(m, 4) == 0)
		crash_arm(m, 3000);
	sim_rig_run(&m->rig, 0, open_run, m);
	if (m->pool && !is_dead(m))
		sim_rig_run(&m->rig, 0, settle_run, m);
	if (m->pool && !is_dead(m)) {
		sim_crash_nth(m->rig.sim, 0, SIM_CRASH_POWER);
		if (ending > 0)
			crash_arm(m, 1200);
		faults = (unsigned)random_below(m, 6);
		set_faults(m, faults);
		workers_run(m);
		set_faults(m, 0);
		if (!is_dead(m) && faults != 1 && faults != 2 && all_are_open(m))
			sim_rig_run(&m->rig, 0, account_run, m);
	}
	if (ending == 1)
		sim_crash(m->rig.sim, SIM_CRASH_POWER);
	sim_rig_run(&m->rig, 0, close_run, m);
	sim_crash_nth(m->rig.sim, 0, SIM_CRASH_POWER);
	if (is_dead(m))
		sim_rig_restart(&m->rig);
}

/* Returns the trace's hash. */
static uint64_t run_seed(uint64_t seed, void *arg)
{
	uint64_t *counts = arg;
	struct model *m = calloc(1, sizeof(*m));
	struct sim_options options = {.seed = seed, .trace = getenv("SARSEN_TRACE") != NULL};
	uint64_t hash;

	m->seed = seed;
	sim_rig_init_options(&m->rig, &options, 2);
	ASSERT(sim_disk_add(m->rig.sim, STATE, 64 * MIB) == 0);
	ASSERT(sim_disk_add(m->rig.sim, DISK, DISK_BYTES) == 0);
	for (m->life = 0; m->life < LIVES; m->life++)
		life(m);
	hash = sim_trace_hash(m->rig.sim);
	counts[0] += m->files;
	counts[1] += m->discarded;
	sim_rig_done(&m->rig);
	free(m);
	return hash;
}

static const char *seeds; /* "FIRST:COUNT", or NULL for the few of the fast suite */

static void keeps_files_and_account(void **state)
{
	uint64_t counts[2] = {0}, count;

	(void)state;
	count = sim_rig_seeds(seeds, 40, run_seed, counts);
	print_message("%" PRIu64 " seeds, %" PRIu64 " files taken, %" PRIu64 " discarded\n", count,
		      counts[0], counts[1]);
	assert_true(counts[0] > 3 * count);
}

static void replays_a_seed_exactly(void **state)
{
	uint64_t counts[2] = {0};

	(void)state;
	assert_true(sim_rig_replays(3, run_seed, counts));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_files_and_account),
		cmocka_unit_test(replays_a_seed_exactly),
	};

	seeds = argc > 1 ? argv[1] : NULL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
