/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random transactions of several fibers on two reactors, with disk faults, a full disk, crashes of
 * the process and losses of power at any step of SQLite, against a model:
 *
 *  - what was acknowledged is there after a restart, as a whole;
 *  - what was refused is not; what was cut off by a crash is there as a whole or not at all, and
 *    stays so once it was read after a restart;
 *  - an id is given once.
 *
 * In half of the runs the catalog has mirrors on one to three disks that fail too; between two
 * lives the database may be taken away and is made again from a mirror then. When no mirror may be
 * used, it is put back: nothing was changed.
 *
 * Each fiber owns a group of rows. A transaction has a number, and all rows that it leaves in the
 * group carry it. An argument FIRST:COUNT chooses the seeds, SARSEN_TRACE=1 prints every event.
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
#include "catalog/mirror.h"
#include "reactor/io.h"

#define DISK       "/state"
#define DISK_BYTES (64 * MIB)
#define GROUPS     6
#define ROWS       5
#define LIVES      5
#define OPERATIONS 14
#define IDS_MAX    20000
#define SHARED_ROW 1000
#define VALUE_MAX  12000
#define MIRRORS    3
#define PATH       DISK "/catalog.db"

struct state {           /* of a group */
	uint64_t number; /* of the transaction */
	unsigned mask;   /* rows that are there */
};

struct group {
	struct state now;
	struct state maybe; /* valid while `unknown` */
	bool unknown;
};

struct model {
	struct sim_rig rig;
	struct catalog *catalog;
	struct group groups[GROUPS];
	uint64_t numbers;
	uint64_t shared, shared_maybe; /* acknowledged and possible increments of one row */
	uint64_t acknowledged;
	uint8_t ids[IDS_MAX];
	uint64_t seed;
	unsigned life;
	unsigned mirrors;
	bool has_hint;       /* mirrors are known without the database */
	bool taken, is_sure; /* the database is away; a mirror must do */
	uint64_t restored, put_back, good;
};

struct worker {
	struct model *model;
	unsigned index;
	struct sim_rig_task task;
};

static uint64_t random_below(struct model *m, uint64_t bound)
{
	return sim_random_below(m->rig.sim, bound);
}

static struct catalog_key group_key(unsigned group)
{
	struct catalog_key key = catalog_key(CATALOG_JOB);

	catalog_key_add(&key, group);
	return key;
}

static struct catalog_key row_key(unsigned group, unsigned row)
{
	struct catalog_key key = group_key(group);

	catalog_key_add(&key, row);
	return key;
}

/* The value of a row follows from the transaction's number. */
static uint32_t value_length(uint64_t number, unsigned row)
{
	uint64_t n = number * 2654435761u + row;

	return 8 + (uint32_t)(n % 7 == 0 ? n % VALUE_MAX : n % 200);
}

static void value_fill(uint8_t *value, uint64_t number, unsigned row)
{
	uint32_t length = value_length(number, row);

	memset(value, (int)(number + row), length);
	put_le64(value, number);
}

static bool outcome_is_open(int r)
{
	return r == -ESHUTDOWN || r == -ENOTRECOVERABLE;
}

static bool is_refusal(int r)
{
	return r == -EIO || r == -ENOSPC;
}

static bool rows_match(unsigned group, const struct catalog_rows *rows, const struct state *state)
{
	static uint8_t value[VALUE_MAX + 8];
	size_t at = 0;

	for (unsigned row = 0; row < ROWS; row++) {
		struct catalog_key key = row_key(group, row);

		if (!(state->mask & 1u << row))
			continue;
		if (at == rows->count)
			return false;
		value_fill(value, state->number, row);
		if (memcmp(rows->rows[at].key.bytes, key.bytes, key.length) != 0 ||
		    rows->rows[at].length != value_length(state->number, row) ||
		    memcmp(rows->rows[at].value, value, rows->rows[at].length) != 0)
			return false;
		at++;
	}
	return at == rows->count;
}

static void mismatch(const struct model *m, unsigned group, const struct catalog_rows *rows)
{
	const struct group *g = &m->groups[group];

	fprintf(stderr,
		"seed %" PRIu64 " life %u group %u: expected %" PRIu64 "/%x, maybe %" PRIu64
		"/%x (%d), found",
		m->seed, m->life, group, g->now.number, g->now.mask, g->maybe.number, g->maybe.mask,
		g->unknown);
	for (size_t i = 0; i < rows->count; i++)
		fprintf(stderr, " %" PRIu64 "=%" PRIu64, catalog_key_number(&rows->rows[i].key, 1),
			get_le64(rows->rows[i].value));
	fprintf(stderr, "\n");
	abort();
}

/* Before a restart what is unknown is not seen; after it, either was right, and is settled now. */
static void group_check(struct model *m, unsigned group, bool restarted)
{
	struct catalog_key key = group_key(group);
	struct group *g = &m->groups[group];
	struct catalog_rows rows;
	int r = catalog_scan(m->catalog, &key, NULL, 0, &rows);

	if (r == -ESHUTDOWN || (r == -EIO && !restarted))
		return;
	ASSERT(r == 0);
	if (!rows_match(group, &rows, &g->now)) {
		if (!restarted || !g->unknown || !rows_match(group, &rows, &g->maybe))
			mismatch(m, group, &rows);
		g->now = g->maybe;
	}
	if (restarted)
		g->unknown = false;
	catalog_rows_done(&rows);
}

/* A few kinds of transactions lead to the same state in different ways. */
static size_t changes_build(struct model *m, unsigned group, const struct state *next,
			    struct catalog_change *changes, uint8_t (*values)[VALUE_MAX + 8])
{
	bool by_prefix = random_below(m, 2) == 0;
	size_t count = 0;

	if (by_prefix)
		changes[count++] = (struct catalog_change){.kind = CATALOG_DELETE_PREFIX,
							   .key = group_key(group)};
	for (unsigned row = 0; row < ROWS; row++) {
		struct catalog_change *change = &changes[count];

		*change =
			(struct catalog_change){.kind = CATALOG_DELETE, .key = row_key(group, row)};
		if (next->mask & 1u << row) {
			value_fill(values[row], next->number, row);
			change->kind = CATALOG_PUT;
			change->value = values[row];
			change->length = value_length(next->number, row);
			count++;
		} else if (!by_prefix) {
			count++;
		}
	}
	return count;
}

/* Returns false when the fiber should end: the outcome is open. */
static bool group_change(struct model *m, unsigned group)
{
	struct group *g = &m->groups[group];
	struct state next = {.number = ++m->numbers, .mask = (unsigned)random_below(m, 1u << ROWS)};
	struct catalog_change changes[ROWS + 1];
	uint8_t(*values)[VALUE_MAX + 8] = calloc(ROWS, sizeof(*values));
	size_t count = changes_build(m, group, &next, changes, values);
	int r;

	g->maybe = next;
	r = catalog_commit(m->catalog, changes, count);
	free(values);
	if (r == 0) {
		g->now = next;
		m->acknowledged++;
	}
	g->unknown = outcome_is_open(r);
	ASSERT(r == 0 || g->unknown || is_refusal(r));
	return !g->unknown;
}

/* Counts a row up that all fibers share. */
static bool shared_change(struct model *m)
{
	struct catalog_key key = row_key(SHARED_ROW, 0);
	struct catalog_row row = {.key = key};
	struct catalog_change changes[2];
	uint8_t value[8];
	int r = catalog_get(m->catalog, &key, &row);

	ASSERT(r == 0 || r == -ENOENT || r == -EIO || r == -ESHUTDOWN);
	if (r && r != -ENOENT)
		return r == -EIO;
	put_le64(value, (r == 0 ? get_le64(row.value) : 0) + 1);
	catalog_touch(&row, changes);
	catalog_row_done(&row);
	changes[1].value = value;
	changes[1].length = sizeof(value);
	r = catalog_commit(m->catalog, changes, 2);
	m->shared += r == 0;
	m->shared_maybe += outcome_is_open(r);
	ASSERT(r == 0 || r == -ESTALE || outcome_is_open(r) || is_refusal(r));
	return !outcome_is_open(r);
}

static void shared_check(struct model *m)
{
	struct catalog_key key = row_key(SHARED_ROW, 0);
	struct catalog_row row = {0};
	uint64_t count = 0;
	int r = catalog_get(m->catalog, &key, &row);

	if (r == -ESHUTDOWN)
		return;
	ASSERT(r == 0 || r == -ENOENT);
	if (r == 0)
		count = get_le64(row.value);
	ASSERT(count >= m->shared && count <= m->shared + m->shared_maybe);
	ASSERT(r != 0 || row.version == count);
	m->shared = count;
	m->shared_maybe = 0;
	catalog_row_done(&row);
}

static bool ids_take(struct model *m)
{
	uint64_t count = random_below(m, 20) == 0 ? 100 : 1 + random_below(m, 3), first;
	int r = catalog_reserve_ids(m->catalog, "ids", count, &first);

	ASSERT(r == 0 || outcome_is_open(r) || is_refusal(r));
	for (uint64_t i = 0; r == 0 && i < count; i++) {
		ASSERT(first + i > 0 && first + i < IDS_MAX && !m->ids[first + i]);
		m->ids[first + i] = 1;
	}
	return !outcome_is_open(r);
}

static bool operation(struct model *m, unsigned group)
{
	switch (random_below(m, 8)) {
	case 0:
		return shared_change(m);
	case 1:
	case 2:
		return ids_take(m);
	case 3:
		group_check(m, group, false);
		return !sim_is_dead(m->rig.sim);
	default:
		return group_change(m, group);
	}
}

static void worker_run(void *arg)
{
	struct worker *worker = arg;

	for (int i = 0; i < OPERATIONS && operation(worker->model, worker->index); i++)
		if (random_below(worker->model, 3) == 0)
			fiber_sleep(random_below(worker->model, NSEC_PER_MSEC));
}

static const char *const mirror_disks[MIRRORS] = {"/m0", "/m1", "/m2"};

static void rename_run(const char *from, const char *to)
{
	int r = io_rename(from, to);

	ASSERT(r == 0 || r == -ENOENT || r == -ESHUTDOWN);
}

static void take_run(void *arg)
{
	struct model *m = arg;

	rename_run(PATH, DISK "/taken");
	rename_run(PATH "-wal", DISK "/taken-wal");
	ASSERT(io_directory_sync(DISK) == 0);
	m->taken = true;
}

static void put_back_run(void *arg)
{
	struct model *m = arg;

	rename_run(DISK "/taken", PATH);
	rename_run(DISK "/taken-wal", PATH "-wal");
	ASSERT(io_directory_sync(DISK) == 0);
	m->taken = false;
}

static void label_run(void *arg)
{
	struct model *m = arg;

	for (unsigned i = 0; i < m->mirrors; i++) {
		char path[20];
		struct world_file *file;

		snprintf(path, sizeof(path), "%s/label", mirror_disks[i]);
		ASSERT(io_open(path, WORLD_FILE_CREATE, &file) == 0 && io_close(file) == 0);
		ASSERT(io_directory_sync(mirror_disks[i]) == 0);
	}
}

static bool outcome_of_add(int r)
{
	return r == 0 || r == -EIO || r == -ENOSPC || outcome_is_open(r);
}

static void open_run(void *arg)
{
	struct model *m = arg;
	struct catalog_report report;
	struct catalog_options options = {
		.path = PATH, .vfs = SIM_VFS_NAME, .create = true, .report = &report};
	int r = catalog_open(sim_world(m->rig.sim), &options, &m->catalog);

	ASSERT(r == 0 || r == -ESHUTDOWN || (m->taken && r == -ENODATA && !m->is_sure));
	if (r)
		m->catalog = NULL;
	if (r == -ENODATA) {
		sim_crash_nth(m->rig.sim, 0, SIM_CRASH_POWER); /* not while the test does this */
		put_back_run(m);
		m->put_back++;
		open_run(m);
		return;
	}
	if (r)
		return;
	ASSERT(report.restored || !m->taken);
	m->restored += report.restored;
	m->taken = false;
	for (unsigned i = 0; i < GROUPS; i++)
		group_check(m, i, true);
	shared_check(m);
	if (m->mirrors > 0 && random_below(m, 8) == 0)
		sim_crash(m->rig.sim, SIM_CRASH_POWER); /* what was seen must stay */
	for (unsigned i = 0; i < m->mirrors; i++) {
		r = catalog_mirror_add(m->catalog, mirror_disks[i]);
		ASSERT(outcome_of_add(r));
		m->has_hint |= r == 0;
	}
}

/* Without faults and crashes, all mirrors get good and are alike. */
static void settle_run(void *arg)
{
	struct model *m = arg;
	struct catalog_mirror_info *infos = NULL;
	struct catalog_verify verify;
	size_t count = 0;
	int r;

	fiber_sleep(600 * NSEC_PER_SEC); /* longer than any pause between two tries */
	catalog_mirror_wait(m->catalog);
	r = catalog_verify(m->catalog, &verify);
	ASSERT(r == 0 && verify.differences == 0 && verify.mirrors == m->mirrors);
	ASSERT(catalog_mirror_list(m->catalog, &infos, &count) == 0 && count == m->mirrors);
	for (size_t i = 0; i < count; i++)
		ASSERT(infos[i].state == CATALOG_MIRROR_GOOD);
	free(infos);
	m->good++;
	m->is_sure = m->mirrors > 0;
}

static void close_run(void *arg)
{
	struct model *m = arg;

	catalog_close(m->catalog);
	m->catalog = NULL;
}

static void set_faults(struct model *m, unsigned kind)
{
	struct sim_faults faults = {0};

	if (kind == 1)
		faults = (struct sim_faults){.write_error_ppm = 20000, .sync_error_ppm = 30000};
	if (kind == 2)
		faults = (struct sim_faults){.read_error_ppm = 20000,
					     .metadata_error_ppm = 20000,
					     .sync_error_ppm = 20000};
	sim_disk_set_faults(m->rig.sim, DISK, &faults);
	sim_disk_set_capacity(m->rig.sim, DISK, kind == 3 ? 2 * MIB : DISK_BYTES);
}

/* Of each mirror's disk for itself: none, errors, bit flips in what is read, a full disk. */
static void set_mirror_faults(struct model *m, bool any)
{
	for (unsigned i = 0; i < m->mirrors; i++) {
		unsigned kind = any ? (unsigned)random_below(m, 6) : 0;
		struct sim_faults faults = {0};

		if (kind == 1)
			faults = (struct sim_faults){.write_error_ppm = 30000,
						     .sync_error_ppm = 30000};
		if (kind == 2)
			faults = (struct sim_faults){.read_error_ppm = 30000,
						     .metadata_error_ppm = 30000,
						     .slow_ppm = 10000,
						     .slow_ns = 20 * NSEC_PER_SEC};
		if (kind == 3)
			faults.write_error_ppm = 1000000;
		sim_disk_set_faults(m->rig.sim, mirror_disks[i], &faults);
		sim_disk_set_capacity(m->rig.sim, mirror_disks[i],
				      kind == 4 ? 64 * KIB : DISK_BYTES);
	}
}

static void crash_arm(struct model *m, uint64_t within)
{
	enum sim_crash kind = random_below(m, 3) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS;

	sim_crash_nth(m->rig.sim, 1 + random_below(m, within), kind);
}

static void workers_run(struct model *m)
{
	struct worker workers[GROUPS] = {0};

	for (unsigned i = 0; i < GROUPS; i++) {
		workers[i] = (struct worker){.model = m, .index = i};
		workers[i].task.run = worker_run;
		workers[i].task.arg = &workers[i];
		sim_rig_start(&m->rig, i % 2, &workers[i].task);
	}
	for (unsigned i = 0; i < GROUPS; i++)
		ASSERT(sim_rig_wait(&m->rig, &workers[i].task, 1, 600 * NSEC_PER_SEC) == 0);
}

static void work(struct model *m, unsigned ending)
{
	if (ending > 0)
		crash_arm(m, 600);
	set_faults(m, (unsigned)random_below(m, 6));
	set_mirror_faults(m, true);
	m->is_sure = false;
	workers_run(m);
	set_faults(m, 0);
	set_mirror_faults(m, false);
	if (ending == 0 && !sim_is_dead(m->rig.sim)) {
		sim_crash_nth(m->rig.sim, 0, SIM_CRASH_POWER);
		sim_rig_run(&m->rig, 0, settle_run, m);
	}
}

static void life(struct model *m)
{
	unsigned ending = (unsigned)random_below(m, 4);

	if (m->has_hint && random_below(m, 2) == 0)
		sim_rig_run(&m->rig, 0, take_run, m);
	if (random_below(m, 4) == 0)
		crash_arm(m, 400);
	sim_rig_run(&m->rig, 0, open_run, m);
	if (m->catalog && !sim_is_dead(m->rig.sim))
		work(m, ending);
	if (ending == 1)
		sim_crash(m->rig.sim, SIM_CRASH_POWER);
	sim_rig_run(&m->rig, 0, close_run, m);
	sim_crash_nth(m->rig.sim, 0, SIM_CRASH_POWER);
	if (sim_is_dead(m->rig.sim))
		sim_rig_restart(&m->rig);
}

struct totals {
	uint64_t acknowledged, restored, put_back, good;
};

/* Returns the trace's hash. */
static uint64_t run_seed(uint64_t seed, void *arg)
{
	struct totals *totals = arg;
	struct model *m = calloc(1, sizeof(*m));
	struct sim_options options = {.seed = seed, .trace = getenv("SARSEN_TRACE") != NULL};
	uint64_t hash;

	m->seed = seed;
	sim_rig_init_options(&m->rig, &options, 2);
	ASSERT(sim_disk_add(m->rig.sim, DISK, DISK_BYTES) == 0);
	m->mirrors = seed % 2 ? 1 + (unsigned)(seed / 2 % MIRRORS) : 0;
	for (unsigned i = 0; i < m->mirrors; i++)
		ASSERT(sim_disk_add(m->rig.sim, mirror_disks[i], DISK_BYTES) == 0);
	sim_rig_run(&m->rig, 0, label_run, m);
	for (m->life = 0; m->life < LIVES; m->life++)
		life(m);
	hash = sim_trace_hash(m->rig.sim);
	totals->acknowledged += m->acknowledged;
	totals->restored += m->restored;
	totals->put_back += m->put_back;
	totals->good += m->good;
	sim_rig_done(&m->rig);
	free(m);
	return hash;
}

static const char *seeds; /* "FIRST:COUNT", or NULL for the few of the fast suite */

static void keeps_what_it_acknowledged(void **state)
{
	uint64_t count;
	struct totals totals = {0};

	(void)state;
	count = sim_rig_seeds(seeds, 60, run_seed, &totals);
	print_message("%" PRIu64 " seeds, %" PRIu64 " transactions acknowledged, %" PRIu64
		      " times restored from a mirror, %" PRIu64 " times not, %" PRIu64
		      " times all mirrors good\n",
		      count, totals.acknowledged, totals.restored, totals.put_back, totals.good);
	assert_true(totals.acknowledged > 10 * count);
	assert_true(count < 20 || (totals.restored > count / 4 && totals.good > count / 4));
}

static void replays_a_seed_exactly(void **state)
{
	struct totals totals = {0};

	(void)state;
	assert_true(sim_rig_replays(7, run_seed, &totals));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_what_it_acknowledged),
		cmocka_unit_test(replays_a_seed_exactly),
	};

	seeds = argc > 1 ? argv[1] : NULL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
