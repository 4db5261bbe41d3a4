/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_fixture.h"

#include <errno.h>
#include <string.h>

#include "base/reached.h"

#define SEEDS 200

/* Writes a file beside the old one and puts it in its place: the classic safe replacement. */
static int replace(struct fixture *f, uint8_t byte)
{
	struct world_file *file = NULL;
	int64_t n;
	int r, r2;

	r = fixture_open(f, "/d/new", WORLD_FILE_CREATE, &file);
	if (r < 0)
		return r;
	n = fixture_fill(f, file, byte, 6000, 0);
	r = n < 0 ? (int)n : fixture_resize(f, file, 5000, WORLD_RESIZE_TRUNCATE);
	if (r == 0)
		r = fixture_sync(f, file);
	r2 = fixture_close(f, file);
	if (r == 0 && r2 == 0)
		r = fixture_rename(f, "/d/new", "/d/file");
	if (r == 0 && r2 == 0)
		r = fixture_directory_sync(f, "/d");
	return r ? r : r2;
}

/* The byte that fills the file. */
static uint8_t content(struct fixture *f)
{
	struct world_file *file = NULL;
	uint8_t data[6000];

	assert_int_equal(fixture_open(f, "/d/file", WORLD_FILE_READ_ONLY, &file), 0);
	assert_int_equal(fixture_read(f, file, data, sizeof(data), 0), 5000);
	for (size_t i = 0; i < 5000; i++)
		assert_int_equal(data[i], data[0]);
	fixture_close(f, file);
	return data[0];
}

static void every_operation_can_fail(void **state)
{
	struct fixture f;
	uint64_t n = 1;

	(void)state;
	fixture_start(&f, 1, MIB);
	assert_int_equal(replace(&f, 1), 0);
	for (;; n++) {
		int r;

		sim_fail_nth(f.sim, n, -ENOMEM);
		r = replace(&f, 2);
		if (!sim_fault_hit(f.sim)) {
			assert_int_equal(r, 0);
			break;
		}
		assert_int_equal(r, -ENOMEM);
		sim_fail_nth(f.sim, 0, 0);
		assert_int_equal(replace(&f, 1), 0);
	}
	assert_int_equal(n, 8);
	fixture_stop(&f);
}

/* At whatever operation the power fails, the file is the old or the new one. */
static void every_operation_can_be_the_last(void **state)
{
	unsigned old = 0, new = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct fixture f;
		uint8_t byte;
		int r;

		fixture_start(&f, seed, MIB);
		assert_int_equal(replace(&f, 1), 0);
		sim_crash_nth(f.sim, 1 + seed % 9, seed % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
		r = replace(&f, 2);
		assert_int_equal(sim_is_dead(f.sim), seed % 9 != 8 && seed % 9 != 7);
		fixture_crash(&f, SIM_CRASH_POWER);
		byte = content(&f);
		assert_true(byte == 2 || (byte == 1 && r == -ESHUTDOWN));
		old += byte == 1;
		new += byte == 2;
		fixture_stop(&f);
	}
	assert_true(old > SEEDS / 10 && new > SEEDS / 10);
}

/* Without the sync of the data, the new name leads to lost content in some seeds. */
static void missing_sync_is_found(void **state)
{
	unsigned damaged = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct world_file *file;
		uint8_t data[4096];
		struct fixture f;

		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/new");
		assert_int_equal(fixture_fill(&f, file, 1, 4096, 0), 4096);
		assert_int_equal(fixture_rename(&f, "/d/new", "/d/file"), 0);
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		fixture_crash(&f, SIM_CRASH_POWER);
		assert_int_equal(fixture_open(&f, "/d/file", 0, &file), 0);
		if (fixture_read(&f, file, data, 4096, 0) < 4096 || data[0] != 1 || data[4095] != 1)
			damaged++;
		fixture_close(&f, file);
		fixture_stop(&f);
	}
	assert_true(damaged > SEEDS / 5);
}

static void errors_are_drawn(void **state)
{
	const struct sim_faults faults = {.read_error_ppm = 300000,
					  .write_error_ppm = 300000,
					  .sync_error_ppm = 300000,
					  .metadata_error_ppm = 300000,
					  .slow_ppm = 100000,
					  .slow_ns = NSEC_PER_SEC};
	unsigned errors[4] = {0};
	struct world_file *file;
	uint8_t data[8192];
	struct fixture f;

	(void)state;
	fixture_start(&f, 3, MIB);
	file = fixture_create(&f, "/d/file");
	sim_disk_set_faults(f.sim, "/d", &faults);
	for (unsigned i = 0; i < 200; i++) {
		errors[0] += fixture_fill(&f, file, (uint8_t)i, sizeof(data), 0) == -EIO;
		errors[1] += fixture_read(&f, file, data, sizeof(data), 0) == -EIO;
		errors[2] += fixture_sync(&f, file) == -EIO;
		errors[3] += fixture_directory_sync(&f, "/d") == -EIO;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_true(errors[i] > 30 && errors[i] < 90);
	fixture_close(&f, file);
	fixture_stop(&f);
}

static void slow_operations(void **state)
{
	const struct sim_faults faults = {.slow_ppm = 1000000, .slow_ns = NSEC_PER_SEC};
	struct world_file *file;
	struct fixture f;
	uint64_t start;

	(void)state;
	fixture_start(&f, 3, MIB);
	sim_disk_set_faults(f.sim, "/d", &faults);
	start = world_now_ns(f.world);
	for (unsigned i = 0; i < 10; i++) {
		file = fixture_create(&f, "/d/file");
		assert_int_equal(fixture_fill(&f, file, 1, 512, 0), 512);
		fixture_close(&f, file);
	}
	assert_in_range(world_now_ns(f.world) - start, 5 * NSEC_PER_SEC, 20 * NSEC_PER_SEC);
	fixture_stop(&f);
}

static void draws_a_mix(void **state)
{
	unsigned absent = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct sim_faults faults;
		struct fixture f;

		fixture_start(&f, seed, MIB);
		sim_draw_faults(f.sim, 1000, &faults);
		absent += faults.read_error_ppm == 0;
		assert_in_range(faults.read_error_ppm, 0, 1000);
		assert_in_range(faults.metadata_error_ppm, 0, 1000);
		fixture_stop(&f);
	}
	assert_in_range(absent, 8, 32);
}

/* A bit flipped on the way back is gone the next time, one on the medium stays. */
static void bit_flips(void **state)
{
	const struct sim_faults faults = {.bit_flip_ppm = 1000000};
	uint8_t data[5000];
	struct world_file *file;
	struct fixture f;
	unsigned bits = 0;

	(void)state;
	fixture_start(&f, 3, MIB);
	file = fixture_create(&f, "/d/file");
	assert_int_equal(fixture_fill(&f, file, 0, sizeof(data), 0), sizeof(data));
	sim_disk_set_faults(f.sim, "/d", &faults);
	assert_int_equal(fixture_read(&f, file, data, sizeof(data), 0), sizeof(data));
	for (size_t i = 0; i < sizeof(data); i++)
		bits += (unsigned)__builtin_popcount(data[i]);
	assert_int_equal(bits, 1);
	sim_disk_set_faults(f.sim, "/d", &(struct sim_faults){0});
	assert_int_equal(sim_disk_flip(f.sim, "/d/file", 4999, 3), 0);
	assert_int_equal(fixture_read(&f, file, data, sizeof(data), 0), sizeof(data));
	for (size_t i = 0; i < sizeof(data); i++)
		assert_int_equal(data[i], i == 4999 ? 8 : 0);
	assert_int_equal(sim_disk_flip(f.sim, "/d/file", 5000, 3), -ERANGE);
	assert_int_equal(sim_disk_flip(f.sim, "/d/file", 0, 8), -ERANGE);
	assert_int_equal(sim_disk_flip(f.sim, "/d/none", 0, 0), -ENOENT);
	assert_int_equal(sim_disk_flip(f.sim, "/d", 0, 0), -ENOENT);
	fixture_close(&f, file);
	fixture_stop(&f);
}

/* After a failed sync a second one succeeds, but may have saved nothing. */
static void failed_sync_is_treacherous(void **state)
{
	const struct sim_faults faults = {.sync_error_ppm = 1000000};
	unsigned lost = 0, kept = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct world_file *file;
		uint8_t data[4096];
		struct fixture f;

		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		assert_int_equal(fixture_fill(&f, file, 1, 4096, 0), 4096);
		assert_int_equal(fixture_sync(&f, file), 0);
		assert_int_equal(fixture_fill(&f, file, 2, 4096, 0), 4096);
		sim_disk_set_faults(f.sim, "/d", &faults);
		assert_int_equal(fixture_sync(&f, file), -EIO);
		sim_disk_set_faults(f.sim, "/d", &(struct sim_faults){0});
		assert_int_equal(fixture_fill(&f, file, 3, 512, 0), 512);
		assert_int_equal(fixture_sync(&f, file), 0);
		fixture_crash(&f, SIM_CRASH_POWER);
		assert_int_equal(fixture_open(&f, "/d/file", 0, &file), 0);
		assert_int_equal(fixture_read(&f, file, data, 4096, 0), 4096);
		assert_int_equal(data[0], 3);
		lost += data[512] == 1;
		kept += data[512] == 2;
		fixture_close(&f, file);
		fixture_stop(&f);
	}
	assert_true(lost + kept == SEEDS && lost > SEEDS / 10 && kept > SEEDS / 10);
}

#define SECTORS 64

/*
 * Every value that a sector may have after a loss of power: a bit for each of the last 64
 * writes.
 */
struct model {
	uint64_t possible[SECTORS];
	uint8_t now[SECTORS];
};

static void model_write(struct fixture *f, struct world_file *file, struct model *m, uint8_t value)
{
	unsigned first = (unsigned)sim_random_below(f->sim, SECTORS);
	unsigned count = 1 + (unsigned)sim_random_below(f->sim, SECTORS - first);

	assert_int_equal(fixture_fill(f, file, value, count * 512, first * 512), count * 512);
	for (unsigned s = first; s < first + count; s++) {
		m->now[s] = value;
		m->possible[s] |= UINT64_C(1) << value;
	}
}

static void model_settle(struct model *m)
{
	for (unsigned s = 0; s < SECTORS; s++)
		m->possible[s] = UINT64_C(1) << m->now[s];
}

/* What is there must be possible, and is what is from now on. */
static void model_check(struct fixture *f, struct world_file *file, struct model *m)
{
	uint8_t data[SECTORS * 512];

	assert_int_equal(fixture_read(f, file, data, sizeof(data), 0), sizeof(data));
	for (unsigned s = 0; s < SECTORS; s++) {
		for (unsigned i = 0; i < 512; i++)
			assert_int_equal(data[s * 512 + i], data[s * 512]);
		m->now[s] = data[s * 512];
		assert_true(m->now[s] < 64 && (m->possible[s] >> m->now[s] & 1));
	}
	model_settle(m);
}

static void model_step(struct fixture *f, struct world_file **file, struct model *m, uint8_t value)
{
	switch (sim_random_below(f->sim, 8)) {
	case 0:
		assert_int_equal(fixture_sync(f, *file), 0);
		model_settle(m);
		break;
	case 1:
		fixture_crash(f, SIM_CRASH_POWER);
		assert_int_equal(fixture_open(f, "/d/file", 0, file), 0);
		model_check(f, *file, m);
		break;
	case 2: /* what a dead process wrote is not durable by that */
		fixture_crash(f, SIM_CRASH_PROCESS);
		assert_int_equal(fixture_open(f, "/d/file", 0, file), 0);
		break;
	default:
		model_write(f, *file, m, value);
		break;
	}
}

static void agrees_with_a_model(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct model m = {.now = {0}};
		struct world_file *file;
		struct fixture f;

		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		assert_int_equal(fixture_resize(&f, file, SECTORS * 512, WORLD_RESIZE_RESERVE), 0);
		assert_int_equal(fixture_sync(&f, file), 0);
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		model_settle(&m);
		for (unsigned i = 0; i < 100; i++)
			model_step(&f, &file, &m, (uint8_t)(1 + i % 63));
		fixture_close(&f, file);
		fixture_stop(&f);
	}
}

static void rare_branches_were_reached(void **state)
{
	static const char *const names[] = {"sim.bit-flip",     "sim.torn-write", "sim.name-lost",
					    "sim.sync-dropped", "sim.crash-nth",  "sim.disk-error"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_true(reached_count(names[i]) > 0);
	assert_int_equal(reached_count("no such name"), 0);
	reached_print();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_operation_can_fail),
		cmocka_unit_test(every_operation_can_be_the_last),
		cmocka_unit_test(missing_sync_is_found),
		cmocka_unit_test(errors_are_drawn),
		cmocka_unit_test(slow_operations),
		cmocka_unit_test(draws_a_mix),
		cmocka_unit_test(bit_flips),
		cmocka_unit_test(failed_sync_is_treacherous),
		cmocka_unit_test(agrees_with_a_model),
		cmocka_unit_test(rare_branches_were_reached),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
