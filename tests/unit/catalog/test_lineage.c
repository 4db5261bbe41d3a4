/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epochs of the catalog: what their row says, and that a state directory that was set back and then
 * overtook what it had lost is known by any mirror of the lost history, while no honest mirror is
 * taken for one, whatever fails, ends or goes away in between.
 */
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
#include "catalog/lineage.h"
#include "catalog/mirror_disk.h"
#include "catalog/raw.h"
#include "mirror_fixture.h"
#include "reactor/io.h"

/* The row. */

static struct lineage lineage;

static void begin_epochs(unsigned count, unsigned each)
{
	lineage = (struct lineage){0};
	for (unsigned i = 0; i < count; i++)
		lineage_begin(&lineage, 1000 + i, 10 + i * each);
}

static void an_older_state_is_included(void **state)
{
	(void)state;
	begin_epochs(3, 10); /* 10 to 19, 20 to 29, 30 to ... */
	assert_int_equal(lineage_current(&lineage), 1002);
	assert_true(lineage_includes(&lineage, 1000, 10));
	assert_true(lineage_includes(&lineage, 1000, 19));
	assert_true(lineage_includes(&lineage, 1001, 29));
	assert_true(lineage_includes(&lineage, 1002, 30));
	assert_true(lineage_includes(&lineage, 1002, 5000));
}

static void another_history_is_not(void **state)
{
	(void)state;
	begin_epochs(3, 10);
	assert_false(lineage_includes(&lineage, 1000, 20)); /* it went on in an epoch we left */
	assert_false(lineage_includes(&lineage, 1001, 30));
	assert_false(lineage_includes(&lineage, 77, 10)); /* an epoch that we have not seen */
	assert_false(lineage_includes(&lineage, 77, 29));
	assert_false(lineage_includes(&lineage, 77, 30));
	lineage = (struct lineage){0};
	assert_false(lineage_includes(&lineage, 77, 1));
}

static void what_is_not_known_is_not_refused(void **state)
{
	(void)state;
	begin_epochs(3, 10);
	assert_true(lineage_includes(&lineage, 0, 15)); /* an older program wrote it */
	assert_true(lineage_includes(&lineage, 77, 9)); /* before the first that is known */
	lineage = (struct lineage){.is_damaged = true};
	assert_true(lineage_includes(&lineage, 77, 15));
}

/* Up to the limit all are there; then the shortest goes, and what it covered cannot be told. */
static void the_shortest_is_forgotten(void **state)
{
	(void)state;
	begin_epochs(LINEAGE_MAX, 10);
	assert_int_equal(lineage.count, LINEAGE_MAX);
	assert_true(lineage_includes(&lineage, 1000, 10));
	assert_false(lineage_includes(&lineage, 77, 10));
	lineage_begin(&lineage, 5000, 10 + LINEAGE_MAX * 10 - 5); /* the last one had 5 */
	assert_int_equal(lineage.count, LINEAGE_MAX);
	assert_int_equal(lineage_current(&lineage), 5000);
	assert_true(lineage_includes(&lineage, 1000, 10));
	assert_true(lineage_includes(&lineage, 77, 10 + LINEAGE_MAX * 10 - 10));
	assert_true(lineage_includes(&lineage, 77, 10 + LINEAGE_MAX * 10 - 6));
	assert_false(lineage_includes(&lineage, 77, 10 + LINEAGE_MAX * 10 - 5));
	assert_false(lineage_includes(&lineage, 77, 10 + LINEAGE_MAX * 10 - 11));
	/* Of equal ones the oldest. */
	lineage_begin(&lineage, 5001, 10000);
	assert_true(lineage_includes(&lineage, 77, 10));
	assert_false(lineage_includes(&lineage, 77, 20));
}

static void the_row_is_read_again(void **state)
{
	static const unsigned counts[] = {0, 1, 2, LINEAGE_MAX};
	static uint8_t value[LINEAGE_ROW_BYTES];
	static struct lineage again;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		size_t length;

		begin_epochs(counts[i], 7);
		length = lineage_encode(&lineage, value);
		assert_int_equal(lineage_decode(value, length, &again), 0);
		assert_int_equal(again.count, counts[i]);
		assert_memory_equal(again.epochs, lineage.epochs,
				    counts[i] * sizeof(lineage.epochs[0]));
		assert_int_equal(lineage_decode(value, length - 1, &again), -EUCLEAN);
		assert_int_equal(lineage_decode(value, 0, &again), -EUCLEAN);
	}
}

static void a_wrong_row_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint8_t byte;
	} wrong[] = {
		{0, 2},   /* version */
		{2, 2},   /* count */
		{8, 0},   /* no id */
		{16, 0},  /* no first */
		{24, 0},  /* only the last one goes on */
		{24, 10}, /* it ends where it begins */
		{40, 5},  /* the next one begins before the end */
		{72, 40}, /* the last one has an end */
	};
	static struct lineage again;
	uint8_t value[LINEAGE_ROW_BYTES];

	(void)state;
	begin_epochs(3, 10);
	for (unsigned i = 0; i < 3; i++)
		lineage.epochs[i].id = 1 + i; /* one byte each */
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		size_t length = lineage_encode(&lineage, value);

		assert_int_equal(lineage_decode(value, length, &again), 0);
		value[wrong[i].at] = wrong[i].byte;
		assert_int_equal(lineage_decode(value, length, &again), -EUCLEAN);
	}
}

/* A catalog with two mirrors; its state directory is copied, and comes back later. */

#define DISKS 2u
#define LOST  3u /* commits that only the mirrors have, once the state was set back */

static int result;
static const char *restore_from;

static void open_any(void)
{
	result = mirrored_open(restore_from);
	if (result)
		catalog = NULL;
}

static void must_open(void)
{
	open_any();
	ASSERT(result == 0);
}

static void set_away(size_t index, bool is_away)
{
	const struct sim_faults faults = {.read_error_ppm = is_away ? 1000000 : 0,
					  .write_error_ppm = is_away ? 1000000 : 0};

	sim_disk_set_faults(rig.sim, mirrored_disks[index], &faults);
}

static void all_away(bool is_away)
{
	for (size_t i = 0; i < DISKS; i++)
		set_away(i, is_away);
}

static enum catalog_mirror_state state_of(size_t index, int *ret_error)
{
	enum catalog_mirror_state state = CATALOG_MIRROR_LOST;
	struct catalog_mirror_info *infos;
	size_t count;

	ASSERT(catalog_mirror_list(catalog, &infos, &count) == 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(infos[i].directory, mirrored_disks[index]) == 0) {
			state = infos[i].state;
			*ret_error = infos[i].error;
		}
	free(infos);
	return state;
}

static void settle(void)
{
	fiber_sleep(600 * NSEC_PER_SEC);
	catalog_mirror_wait(catalog);
}

static void all_good(void)
{
	struct catalog_verify verify;
	int error;

	settle();
	for (size_t i = 0; i < DISKS; i++)
		ASSERT(state_of(i, &error) == CATALOG_MIRROR_GOOD);
	ASSERT(catalog_verify(catalog, &verify) == 0 && verify.differences == 0);
}

static void copy_file(const char *from, const char *to)
{
	_cleanup_free_ uint8_t *data = malloc(4 * MIB);
	struct world_file *file;
	int64_t n;

	(void)io_unlink(to); /* there or not */
	if (io_open(from, WORLD_FILE_READ_ONLY, &file) != 0)
		return;
	n = data ? io_read(file, data, 4 * MIB, 0) : -ENOMEM;
	ASSERT(n >= 0 && io_close(file) == 0);
	ASSERT(io_open(to, WORLD_FILE_CREATE, &file) == 0);
	ASSERT(io_write(file, data, (size_t)n, 0) == 0 && io_sync(file) == 0 &&
	       io_close(file) == 0);
}

static const char *const suffixes[] = {"", "-wal", "-mirrors"};

static void copy_state(const char *from, const char *to)
{
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		char a[100], b[100];

		snprintf(a, sizeof(a), "%s%s", from, suffixes[i]);
		snprintf(b, sizeof(b), "%s%s", to, suffixes[i]);
		copy_file(a, b);
	}
	ASSERT(io_directory_sync(STATE) == 0);
}

static void backup(void)
{
	copy_state(PATH, STATE "/backup");
}

static void bring_back(void)
{
	copy_state(STATE "/backup", PATH);
}

static uint64_t backup_sequence;

static void begin(void)
{
	struct catalog_position position;

	must_open();
	for (size_t i = 0; i < DISKS; i++)
		ASSERT(catalog_mirror_add(catalog, mirrored_disks[i]) == 0);
	all_good();
	ASSERT(mirrored_put(1, 1, 100) == 0);
	catalog_get_position(catalog, &position);
	backup_sequence = position.sequence;
	mirrored_close();
	backup();
}

static void commit(unsigned first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		ASSERT(mirrored_put(first + i, (uint8_t)(first + i), 300) == 0);
}

static void lose_history(void)
{
	must_open();
	commit(10, LOST);
	mirrored_close();
	bring_back();
}

/* Further than what was lost. */
static void overtake(void)
{
	must_open();
	commit(100, LOST + 2);
}

static void set_back_and_overtake(void)
{
	begin();
	lose_history();
	all_away(true);
	overtake();
}

static int setup(void **state)
{
	(void)state;
	mirrored_rig_begin(1, DISKS);
	restore_from = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mirrored_rig_end();
	return 0;
}

static void a_set_back_that_overtook_is_refused(void **state)
{
	(void)state;
	mirrored_in_fiber(set_back_and_overtake);
	mirrored_in_fiber(mirrored_close);
	all_away(false);
	mirrored_in_fiber(open_any);
	assert_int_equal(result, -ESTALE);
	assert_true(report.mirror_forked);
	assert_string_equal(report.directory, mirrored_disks[0]);
	assert_true(report.mirror_sequence < report.catalog_sequence);
}

static void look_refused(void)
{
	settle();
	for (size_t i = 0; i < DISKS; i++) {
		int error = 0;

		ASSERT(state_of(i, &error) == CATALOG_MIRROR_REFUSED && error == -ESTALE);
		ASSERT(catalog_mirror_admits(catalog, mirrored_disks[i]) == -ESTALE);
	}
}

/* The disks come back under the running daemon: they are left alone. */
static void a_disk_of_the_lost_history_is_left_alone(void **state)
{
	(void)state;
	mirrored_in_fiber(set_back_and_overtake);
	all_away(false);
	mirrored_in_fiber(look_refused);
	mirrored_in_fiber(mirrored_close);
}

static void lost_is_there(void)
{
	for (unsigned i = 0; i < LOST; i++)
		ASSERT(mirrored_look(10 + i) == (int)(10 + i));
	ASSERT(mirrored_look(100) == -ENOENT);
	all_good();
}

static void the_lost_history_can_be_chosen(void **state)
{
	(void)state;
	mirrored_in_fiber(set_back_and_overtake);
	mirrored_in_fiber(mirrored_close);
	all_away(false);
	restore_from = mirrored_disks[1];
	mirrored_in_fiber(must_open);
	assert_true(report.restored);
	mirrored_in_fiber(lost_is_there);
	mirrored_in_fiber(mirrored_close);
	mirrored_in_fiber(open_any);
	assert_int_equal(result, -EEXIST); /* once is enough */
	restore_from = NULL;
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(lost_is_there);
	mirrored_in_fiber(mirrored_close);
}

static void remove_mirror(size_t index)
{
	struct world_names names;
	char path[200];

	snprintf(path, sizeof(path), "%s/catalog", mirrored_disks[index]);
	ASSERT(io_directory_list(path, &names) == 0);
	for (size_t i = 0; i < names.count; i++) {
		snprintf(path, sizeof(path), "%s/catalog/%s", mirrored_disks[index],
			 names.names[i]);
		ASSERT(io_unlink(path) == 0);
	}
	world_names_free(&names);
}

static void remove_mirrors(void)
{
	for (size_t i = 0; i < DISKS; i++)
		remove_mirror(i);
}

static void new_is_there(void)
{
	for (unsigned i = 0; i < LOST + 2; i++)
		ASSERT(mirrored_look(100 + i) == (int)(100 + i));
	ASSERT(mirrored_look(10) == -ENOENT);
	all_good();
}

static void the_new_history_can_be_chosen(void **state)
{
	(void)state;
	mirrored_in_fiber(set_back_and_overtake);
	mirrored_in_fiber(mirrored_close);
	all_away(false);
	mirrored_in_fiber(remove_mirrors);
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(new_is_there);
	mirrored_in_fiber(mirrored_close);
}

/* One mirror has the lost history, the other was built from the new one; then the database goes. */
static void one_of_each(void)
{
	begin();
	lose_history();
	all_away(true);
	overtake();
	mirrored_close();
	set_away(1, false);
	remove_mirror(1);
	must_open();
	settle();
	mirrored_close();
	set_away(0, false);
	for (size_t i = 0; i < 2; i++) {
		char path[100];

		snprintf(path, sizeof(path), "%s%s", PATH, suffixes[i]);
		(void)io_unlink(path); /* the WAL is there or not */
	}
}

static void nobody_chooses_between_histories(void **state)
{
	(void)state;
	mirrored_in_fiber(one_of_each);
	mirrored_in_fiber(open_any);
	assert_int_equal(result, -ENODATA);
	assert_true(report.mirror_forked && report.mirror_error == -ESTALE);
	assert_string_equal(report.directory, mirrored_disks[0]);
	restore_from = mirrored_disks[1];
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(new_is_there);
	mirrored_in_fiber(mirrored_close);
}

static void the_older_history_wins_when_it_is_named(void **state)
{
	(void)state;
	mirrored_in_fiber(one_of_each);
	restore_from = mirrored_disks[0];
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(lost_is_there);
	mirrored_in_fiber(mirrored_close);
}

/* Both came as far: only the chain tells, and --restore-catalog works all the same. */
static void set_back_and_come_as_far(void)
{
	begin();
	lose_history();
	all_away(true);
	must_open();
	commit(100, LOST - 1); /* and one that says that mirrors are lost */
	mirrored_close();
	all_away(false);
}

static void as_far_is_another_history_too(void **state)
{
	(void)state;
	mirrored_in_fiber(set_back_and_come_as_far);
	mirrored_in_fiber(open_any);
	assert_int_equal(result, -ESTALE);
	assert_int_equal(report.mirror_sequence, report.catalog_sequence);
	assert_true(report.mirror_forked);
	restore_from = mirrored_disks[0];
	mirrored_in_fiber(must_open);
	mirrored_in_fiber(lost_is_there);
	mirrored_in_fiber(mirrored_close);
}

/* An honest mirror that was away during more restarts than are remembered is built again. */
static void many_restarts(void)
{
	begin();
	set_away(0, true);
	for (unsigned i = 0; i < LINEAGE_MAX + 5; i++) {
		must_open();
		commit(i % 5, 1 + i % 3);
		mirrored_close();
	}
	set_away(0, false);
	must_open();
	all_good();
	mirrored_close();
}

static void an_honest_mirror_comes_back(void **state)
{
	(void)state;
	mirrored_in_fiber(many_restarts);
}

/* A start that changes nothing writes nothing. */
static void count_epochs(void)
{
	const struct catalog_key key = lineage_key();
	struct catalog_row row = {0};

	ASSERT(catalog_get(catalog, &key, &row) == 0);
	ASSERT(lineage_decode(row.value, row.length, &lineage) == 0);
	catalog_row_done(&row);
}

static void idle_restarts(void)
{
	unsigned count;

	begin();
	must_open();
	count_epochs();
	mirrored_close();
	count = lineage.count;
	for (unsigned i = 0; i < 3; i++) {
		must_open();
		settle();
		count_epochs();
		ASSERT(lineage.count == count);
		mirrored_close();
	}
	must_open();
	commit(5, 2);
	count_epochs();
	ASSERT(lineage.count == count + 1);
	mirrored_close();
}

static void the_first_commit_begins_an_epoch(void **state)
{
	(void)state;
	mirrored_in_fiber(idle_restarts);
}

/* The first transaction fails, the next one changes nothing. */
static void fail_first(void)
{
	struct sim_faults faults = {.write_error_ppm = 1000000};
	struct catalog_position position;
	unsigned count;

	begin();
	must_open();
	count_epochs();
	count = lineage.count;
	sim_disk_set_faults(rig.sim, STATE, &faults);
	ASSERT(mirrored_put(5, 5, 100) < 0);
	faults.write_error_ppm = 0;
	sim_disk_set_faults(rig.sim, STATE, &faults);
	ASSERT(mirrored_drop(77) == 0);
	count_epochs();
	ASSERT(lineage.count == count);
	commit(5, 1);
	count_epochs();
	catalog_get_position(catalog, &position);
	ASSERT(lineage.count == count + 1 && lineage_current(&lineage) == position.epoch);
	all_good();
	mirrored_close();
}

static void a_failed_commit_begins_none(void **state)
{
	(void)state;
	mirrored_in_fiber(fail_first);
}

/* The world ends at each operation around the beginning of an epoch. */

static bool knows_lost[DISKS];

static void look_for_lost(void)
{
	bring_back();
	for (size_t i = 0; i < DISKS; i++) {
		struct mirror_look look;

		knows_lost[i] = mirror_look(mirrored_disks[i], &look) == 0 &&
				look.end.sequence > backup_sequence;
	}
}

static void try_commits(void)
{
	open_any();
	for (unsigned i = 0; catalog && i < LOST; i++)
		(void)mirrored_put(10 + i, 1, 300); /* may fail */
	if (catalog)
		mirrored_close();
}

static void go_on(void)
{
	must_open();
	all_good();
	mirrored_close();
}

static bool end_at(uint64_t n, enum sim_crash kind, bool is_set_back)
{
	bool hit;

	mirrored_in_fiber(begin);
	sim_crash_nth(rig.sim, n, kind);
	mirrored_in_fiber(try_commits);
	hit = sim_is_dead(rig.sim);
	sim_crash_nth(rig.sim, 0, kind);
	if (hit)
		sim_rig_restart(&rig);
	if (!is_set_back) {
		mirrored_in_fiber(go_on);
		return hit;
	}
	mirrored_in_fiber(look_for_lost);
	all_away(true);
	mirrored_in_fiber(overtake);
	mirrored_in_fiber(mirrored_close);
	all_away(false);
	mirrored_in_fiber(open_any);
	if (knows_lost[0] || knows_lost[1]) {
		assert_int_equal(result, -ESTALE);
		assert_true(report.mirror_forked);
	} else {
		assert_int_equal(result, 0);
		mirrored_in_fiber(all_good);
	}
	mirrored_in_fiber(mirrored_close);
	return hit;
}

static void end_at_each(bool is_set_back)
{
	bool hit = true;
	uint64_t n;

	for (n = 1; hit; n++) {
		teardown(NULL);
		setup(NULL);
		hit = end_at(n, n % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS, is_set_back);
	}
	assert_true(n > 30);
}

static void no_crash_makes_an_honest_mirror_strange(void **state)
{
	(void)state;
	end_at_each(false);
}

static void no_crash_hides_a_set_back(void **state)
{
	(void)state;
	end_at_each(true);
}

/* Lives by seed: disks go and come back, the process and the power end, the state is set back. */

#define STEPS     40u
#define LIFE_KEYS 4096u

static struct life {
	struct sim_rig_task task;
	unsigned next; /* number of the next row: each is put once */
	bool was_set_back;
	bool has_backup;
	bool away[DISKS];
	unsigned refusals, restores;
	uint8_t own[LIFE_KEYS], copy[DISKS][LIFE_KEYS]; /* which rows they have */
	bool is_read[DISKS];
	uint64_t own_generation, generation[DISKS];
} life;

static void ignore_damage(void *arg, const struct catalog_raw_damage *damage)
{
	(void)arg;
	(void)damage;
}

static void note_row(uint8_t *had, const struct catalog_row *row)
{
	if (row->key.bytes[0] == CATALOG_JOB)
		had[catalog_key_number(&row->key, 0)] = 1;
}

static void note_generation(const struct catalog_row *row)
{
	char text[CATALOG_KEY_MAX + 1];

	if (row->key.bytes[0] != CATALOG_META)
		return;
	catalog_key_text(&row->key, 0, text, sizeof(text));
	if (strcmp(text, "position") == 0)
		life.own_generation = get_le64(row->value + 16);
}

static void read_own_job(void *arg)
{
	const struct catalog_raw raw = {.path = PATH, .vfs = SIM_VFS_NAME, .damage = ignore_damage};
	struct catalog_rows rows = {0};

	(void)arg;
	memset(life.own, 0, sizeof(life.own));
	ASSERT(catalog_raw_read(&raw, &rows) == 0);
	for (size_t i = 0; i < rows.count; i++)
		note_row(life.own, &rows.rows[i]);
	for (size_t i = 0; i < rows.count; i++)
		note_generation(&rows.rows[i]);
	catalog_rows_done(&rows);
}

static void read_copy(size_t disk)
{
	struct mirror_rows rows = {0};
	struct mirror_look look;

	memset(life.copy[disk], 0, sizeof(life.copy[disk]));
	life.is_read[disk] = mirror_load(mirrored_disks[disk], &look, &rows) == 0;
	life.generation[disk] = life.is_read[disk] ? look.end.generation : 0;
	for (size_t i = 0; life.is_read[disk] && i < rows.count; i++)
		note_row(life.copy[disk], &rows.rows[i]);
	mirror_rows_done(&rows);
}

/* A restore has decided against what was before it. */
static bool has_more(size_t disk)
{
	if (life.generation[disk] < life.own_generation)
		return false;
	for (size_t i = 0; life.is_read[disk] && i < LIFE_KEYS; i++)
		if (life.copy[disk][i] && !life.own[i])
			return true;
	return false;
}

/* Before an open: whether a mirror that can be read has what the catalog lacks. */
static bool any_has_more(void)
{
	bool any = false;

	ASSERT(io_job(read_own_job, NULL) == 0);
	for (size_t i = 0; i < DISKS; i++) {
		read_copy(i);
		any |= has_more(i);
	}
	return any;
}

/* A person decides: for what the disk has, or against it. */
static void decide(void)
{
	size_t disk = strcmp(report.directory, mirrored_disks[1]) == 0;

	life.refusals++;
	if (sim_random_below(rig.sim, 2)) {
		remove_mirror(disk);
	} else {
		restore_from = mirrored_disks[disk];
		open_any();
		restore_from = NULL;
		life.restores += result == 0;
		ASSERT(result == 0 || result == -ENODATA);
		if (result == -ENODATA) /* a newer one of the same history is named instead */
			ASSERT(report.mirror_error == -ESTALE);
		if (result == -ENODATA)
			remove_mirror(disk);
	}
}

static void life_open(void)
{
	bool must_refuse = any_has_more();

	open_any();
	ASSERT(!must_refuse || result == -ESTALE);
	ASSERT(result == 0 || (result == -ESTALE && life.was_set_back));
	for (unsigned i = 0; result; i++) {
		ASSERT(i < 4);
		decide();
		if (!catalog)
			open_any();
	}
}

static void life_end(void)
{
	const uint64_t kind = sim_random_below(rig.sim, 3);

	if (kind > 0)
		sim_crash(rig.sim, kind == 1 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
	mirrored_close();
}

static void life_set_back(void)
{
	if (!life.has_backup)
		return;
	bring_back();
	life.was_set_back = true;
}

static void life_backup(void)
{
	backup();
	life.has_backup = true;
}

static void life_commit(void)
{
	const uint64_t count = 1 + sim_random_below(rig.sim, 6);

	for (uint64_t i = 0; i < count; i++) {
		ASSERT(life.next < LIFE_KEYS);
		ASSERT(mirrored_put(life.next++, 1, 50) == 0);
	}
	if (sim_random_below(rig.sim, 2))
		settle();
}

static void life_disk(void)
{
	const size_t disk = sim_random_below(rig.sim, DISKS);

	life.away[disk] = !life.away[disk];
	set_away(disk, life.away[disk]);
}

static void life_step(void)
{
	const uint64_t what = sim_random_below(rig.sim, 10);

	if (what < 5) {
		mirrored_in_fiber(life_commit);
		return;
	}
	if (what < 7) {
		life_disk();
		return;
	}
	mirrored_in_fiber(life_end);
	if (sim_is_dead(rig.sim))
		sim_rig_restart(&rig);
	for (size_t i = 0; i < DISKS; i++)
		set_away(i, life.away[i]);
	if (what == 7)
		mirrored_in_fiber(life_backup);
	else if (what == 8)
		mirrored_in_fiber(life_set_back);
	mirrored_in_fiber(life_open);
}

static void live(uint64_t seed, unsigned *refusals, unsigned *restores)
{
	mirrored_rig_begin(seed, DISKS);
	restore_from = NULL;
	life = (struct life){.next = 200};
	mirrored_in_fiber(begin);
	mirrored_in_fiber(must_open);
	for (unsigned i = 0; i < STEPS; i++)
		life_step();
	mirrored_in_fiber(mirrored_close);
	mirrored_rig_end();
	*refusals += life.refusals;
	*restores += life.restores;
}

static uint64_t first_seed = 1, seed_count = 15;

static void lives_by_seed(void **state)
{
	unsigned refusals = 0, restores = 0;

	(void)state;
	for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++) {
		if (getenv("SARSEN_SEEDS"))
			print_message("seed %llu\n", (unsigned long long)seed);
		live(seed, &refusals, &restores);
	}
	print_message("%u refusals, %u restores\n", refusals, restores);
	assert_true(seed_count < 15 || (refusals > 5 && restores > 2));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_older_state_is_included),
		cmocka_unit_test(another_history_is_not),
		cmocka_unit_test(what_is_not_known_is_not_refused),
		cmocka_unit_test(the_shortest_is_forgotten),
		cmocka_unit_test(the_row_is_read_again),
		cmocka_unit_test(a_wrong_row_is_refused),
		cmocka_unit_test_setup_teardown(a_set_back_that_overtook_is_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_disk_of_the_lost_history_is_left_alone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_lost_history_can_be_chosen, setup, teardown),
		cmocka_unit_test_setup_teardown(the_new_history_can_be_chosen, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_chooses_between_histories, setup, teardown),
		cmocka_unit_test_setup_teardown(the_older_history_wins_when_it_is_named, setup,
						teardown),
		cmocka_unit_test_setup_teardown(as_far_is_another_history_too, setup, teardown),
		cmocka_unit_test_setup_teardown(an_honest_mirror_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(the_first_commit_begins_an_epoch, setup, teardown),
		cmocka_unit_test_setup_teardown(a_failed_commit_begins_none, setup, teardown),
		cmocka_unit_test_setup_teardown(no_crash_makes_an_honest_mirror_strange, setup,
						teardown),
		cmocka_unit_test_setup_teardown(no_crash_hides_a_set_back, setup, teardown),
		cmocka_unit_test(lives_by_seed),
	};
	const struct CMUnitTest by_seed[] = {cmocka_unit_test(lives_by_seed)};

	if (argc < 2)
		return cmocka_run_group_tests(tests, NULL, NULL);
	if (sscanf(argv[1], "%" SCNu64 ":%" SCNu64, &first_seed, &seed_count) != 2)
		return 2;
	return cmocka_run_group_tests(by_seed, NULL, NULL);
}
