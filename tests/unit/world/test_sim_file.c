/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_fixture.h"

#include <errno.h>
#include <string.h>

#define SEEDS 400

/* Reads all of a short file; returns its size. */
static int64_t read_all(struct fixture *f, const char *path, uint8_t *data, size_t size)
{
	struct world_file *file = NULL;
	int r = fixture_open(f, path, WORLD_FILE_READ_ONLY, &file);
	int64_t n;

	if (r < 0)
		return r;
	n = fixture_read(f, file, data, size, 0);
	assert_int_equal(fixture_close(f, file), 0);
	return n;
}

static void reads_what_was_written(void **state)
{
	struct fixture f;
	struct world_file *file;
	uint8_t data[10000], back[12000];
	struct iovec iov[3] = {{data, 1}, {data + 1, 0}, {data + 1, sizeof(data) - 1}};
	struct fixture_op op;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + 1);
	fixture_start(&f, 1, MIB);
	file = fixture_create(&f, "/d/file");
	f.world->ops->file_write(f.port, file, iov, 3, 3000, fixture_op(&op));
	assert_false(op.done);
	assert_int_equal(fixture_wait(&f, &op), sizeof(data));
	assert_int_equal(fixture_read(&f, file, back, sizeof(back), 2000), 11000);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(back[i], 0);
	assert_memory_equal(back + 1000, data, sizeof(data));
	assert_int_equal(fixture_read(&f, file, back, 5, 13000), 0);
	assert_int_equal(fixture_resize(&f, file, 3001, WORLD_RESIZE_TRUNCATE), 0);
	assert_int_equal(fixture_resize(&f, file, 3003, WORLD_RESIZE_TRUNCATE), 0);
	assert_int_equal(fixture_read(&f, file, back, sizeof(back), 3000), 3);
	assert_int_equal(back[0], data[0]);
	assert_int_equal(back[1], 0);
	fixture_close(&f, file);
	fixture_stop(&f);
}

static void refuses_bad_arguments(void **state)
{
	static uint8_t memory[3 * 4096] __attribute__((aligned(4096)));
	struct world_file *file = NULL;
	struct fixture f;

	(void)state;
	fixture_start(&f, 1, MIB);
	assert_int_equal(fixture_open(&f, "/d/a", 0, &file), -ENOENT);
	assert_int_equal(fixture_open(&f, "/other/a", WORLD_FILE_CREATE, &file), -ENOENT);
	assert_int_equal(fixture_open(&f, "/d/x/a", WORLD_FILE_CREATE, &file), -ENOENT);
	assert_int_equal(fixture_open(&f, "/d", 0, &file), -EISDIR);
	assert_int_equal(
		fixture_open(&f, "/d/a", WORLD_FILE_CREATE | WORLD_FILE_DIRECT, &file), 0);
	assert_int_equal(fixture_write(&f, file, memory + 1, 4096, 0), -EINVAL);
	assert_int_equal(fixture_write(&f, file, memory, 512, 0), -EINVAL);
	assert_int_equal(fixture_write(&f, file, memory, 4096, 512), -EINVAL);
	assert_int_equal(fixture_read(&f, file, memory + 8, 4096, 0), -EINVAL);
	assert_int_equal(fixture_write(&f, file, memory, 8192, 4096), 8192);
	assert_int_equal(fixture_write(&f, file, memory, 4096, UINT64_MAX - 4095), -EFBIG);
	assert_int_equal(fixture_close(&f, file), 0);
	assert_int_equal(
		fixture_open(&f, "/d/a", WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE, &file),
		-EEXIST);
	assert_int_equal(fixture_open(&f, "/d/a", WORLD_FILE_READ_ONLY, &file), 0);
	assert_int_equal(fixture_write(&f, file, memory, 4096, 0), -EBADF);
	assert_int_equal(fixture_close(&f, file), 0);
	assert_int_equal(fixture_open(&f, "/d/a/b", WORLD_FILE_CREATE, &file), -ENOTDIR);
	fixture_stop(&f);
}

/* Synced data are there after every loss of power, other data in some and not in others. */
static void power_loss_keeps_what_was_synced(void **state)
{
	unsigned kept = 0, lost = 0, torn = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t data[8192];
		struct world_file *file;
		struct fixture f;
		unsigned newer = 0;

		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		assert_int_equal(fixture_fill(&f, file, 1, 8192, 0), 8192);
		assert_int_equal(fixture_sync(&f, file), 0);
		assert_int_equal(fixture_fill(&f, file, 2, 4096, 0), 4096);
		fixture_crash(&f, SIM_CRASH_POWER);
		assert_int_equal(read_all(&f, "/d/file", data, sizeof(data)), 8192);
		for (size_t i = 4096; i < 8192; i++)
			assert_int_equal(data[i], 1);
		for (size_t s = 0; s < 8; s++) {
			assert_true(data[s * 512] == 1 || data[s * 512] == 2);
			for (size_t i = 1; i < 512; i++)
				assert_int_equal(data[s * 512 + i], data[s * 512]);
			newer += data[s * 512] == 2;
		}
		kept += newer == 8;
		lost += newer == 0;
		torn += newer > 0 && newer < 8;
		fixture_stop(&f);
	}
	assert_true(kept > SEEDS / 10 && lost > SEEDS / 10 && torn > SEEDS / 20);
}

static void process_crash_keeps_what_completed(void **state)
{
	unsigned whole = 0, none = 0, part = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t in_flight[4096], data[8192];
		struct iovec iov = {in_flight, sizeof(in_flight)};
		struct world_file *file;
		struct fixture_op op;
		struct fixture f;
		unsigned newer = 0;

		memset(in_flight, 3, sizeof(in_flight));
		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		assert_int_equal(fixture_fill(&f, file, 1, 8192, 0), 8192);
		f.world->ops->file_write(f.port, file, &iov, 1, 0, fixture_op(&op));
		fixture_crash(&f, SIM_CRASH_PROCESS);
		assert_true(op.done);
		assert_int_equal(op.result, -ESHUTDOWN);
		assert_int_equal(read_all(&f, "/d/file", data, sizeof(data)), 8192);
		for (size_t i = 4096; i < 8192; i++)
			assert_int_equal(data[i], 1);
		for (size_t s = 0; s < 8; s++)
			newer += data[s * 512] == 3;
		whole += newer == 8;
		none += newer == 0;
		part += newer > 0 && newer < 8;
		fixture_stop(&f);
	}
	assert_true(whole > SEEDS / 10 && none > SEEDS / 10 && part > SEEDS / 10);
}

/* Of sizes, too, only what was synced is sure; and cut data come back or do not, as a whole. */
static void power_loss_and_sizes(void **state)
{
	unsigned cut = 0, whole = 0, grown = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t data[20000];
		struct world_file *file;
		struct fixture f;
		int64_t size;

		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		assert_int_equal(fixture_fill(&f, file, 1, 10000, 0), 10000);
		assert_int_equal(fixture_sync(&f, file), 0);
		assert_int_equal(fixture_fill(&f, file, 1, 3000, 4500), 3000);
		assert_int_equal(fixture_resize(&f, file, 5000, WORLD_RESIZE_TRUNCATE), 0);
		assert_int_equal(fixture_resize(&f, file, 6000, WORLD_RESIZE_TRUNCATE), 0);
		fixture_crash(&f, SIM_CRASH_POWER);
		size = read_all(&f, "/d/file", data, sizeof(data));
		assert_true(size == 10000 || size == 5000 || size == 6000);
		for (int64_t i = 0; i < size; i++)
			assert_int_equal(data[i], size == 6000 && i >= 5000 ? 0 : 1);
		cut += size == 5000;
		whole += size == 10000;
		grown += size == 6000;
		fixture_stop(&f);
	}
	assert_true(cut > 0 && whole > SEEDS / 10 && grown > SEEDS / 10);
}

/* A sync covers what completed before it was submitted; what was in flight, sometimes. */
static void sync_covers_completed_writes(void **state)
{
	unsigned kept = 0, lost = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t in_flight[512], data[1024];
		struct iovec iov = {in_flight, sizeof(in_flight)};
		struct fixture_op write, sync;
		struct world_file *file;
		struct fixture f;

		memset(in_flight, 2, sizeof(in_flight));
		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		assert_int_equal(fixture_fill(&f, file, 1, 1024, 0), 1024);
		f.world->ops->file_write(f.port, file, &iov, 1, 0, fixture_op(&write));
		f.world->ops->file_sync(f.port, file, fixture_op(&sync));
		assert_int_equal(fixture_wait(&f, &sync), 0);
		fixture_crash(&f, SIM_CRASH_POWER);
		assert_int_equal(read_all(&f, "/d/file", data, sizeof(data)), 1024);
		assert_int_equal(data[512], 1);
		kept += data[0] == 2;
		lost += data[0] == 1;
		fixture_stop(&f);
	}
	assert_true(kept + lost == SEEDS && kept > SEEDS / 10 && lost > SEEDS / 10);
}

/* That a write took effect is not enough: the sync owes nothing to what had not completed. */
static void sync_may_miss_what_did_not_complete(void **state)
{
	unsigned kept = 0, lost = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 4 * SEEDS; seed++) {
		uint8_t in_flight[512], data[512];
		struct iovec iov = {in_flight, sizeof(in_flight)};
		struct world_file *file;
		struct fixture_op write;
		struct fixture f;

		memset(in_flight, 2, sizeof(in_flight));
		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		assert_int_equal(fixture_directory_sync(&f, "/d"), 0);
		assert_int_equal(fixture_fill(&f, file, 1, 512, 0), 512);
		f.world->ops->file_write(f.port, file, &iov, 1, 0, fixture_op(&write));
		assert_int_equal(fixture_read(&f, file, data, sizeof(data), 0), 512);
		if (data[0] == 2 && !write.done) {
			assert_int_equal(fixture_sync(&f, file), 0);
			fixture_crash(&f, SIM_CRASH_POWER);
			assert_int_equal(read_all(&f, "/d/file", data, sizeof(data)), 512);
			kept += data[0] == 2;
			lost += data[0] == 1;
		}
		fixture_stop(&f);
	}
	assert_true(kept > 10 && lost > 10);
}

/* The data of a write are taken at some time before it completes. */
static void buffer_changed_in_flight(void **state)
{
	unsigned old = 0, changed = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint8_t buffer[512] = {1}, data[512];
		struct iovec iov = {buffer, sizeof(buffer)};
		struct fixture_op write, other;
		struct world_file *file;
		struct world_stat st;
		struct fixture f;

		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		f.world->ops->file_write(f.port, file, &iov, 1, 0, fixture_op(&write));
		f.world->ops->file_stat(f.port, file, &st, fixture_op(&other));
		assert_int_equal(fixture_wait(&f, &other), 0);
		buffer[0] = 2;
		(void)fixture_wait(&f, &write);
		assert_int_equal(fixture_read(&f, file, data, sizeof(data), 0), 512);
		old += data[0] == 1;
		changed += data[0] == 2;
		fixture_close(&f, file);
		fixture_stop(&f);
	}
	assert_true(old > SEEDS / 10 && changed > SEEDS / 10);
}

static void space_runs_out(void **state)
{
	struct world_fs_stat fs;
	struct world_file *file;
	struct world_stat st;
	struct fixture f;

	(void)state;
	fixture_start(&f, 1, 10 * 4096);
	file = fixture_create(&f, "/d/file");
	assert_int_equal(fixture_fill(&f, file, 0, 8 * 4096, 0), 8 * 4096);
	assert_int_equal(fixture_fs_stat(&f, "/d", &fs), 0);
	assert_int_equal(fs.total_bytes, 10 * 4096);
	assert_int_equal(fs.free_bytes, 2 * 4096);
	assert_int_equal(fixture_fill(&f, file, 1, 3 * 4096, 8 * 4096), -ENOSPC);
	assert_int_equal(fixture_resize(&f, file, 11 * 4096, WORLD_RESIZE_RESERVE), -ENOSPC);
	assert_int_equal(fixture_fill(&f, file, 1, 8 * 4096, 0), 8 * 4096);
	assert_int_equal(fixture_resize(&f, file, 10 * 4096, WORLD_RESIZE_RESERVE), 0);
	assert_int_equal(fixture_fill(&f, file, 1, 10 * 4096, 0), 10 * 4096);
	assert_int_equal(fixture_resize(&f, file, 4096, WORLD_RESIZE_TRUNCATE), 0);
	assert_int_equal(fixture_stat(&f, "/d/file", &st), 0);
	assert_int_equal(st.allocated_bytes, 4096);
	/* An open file keeps its space although its name is gone. */
	assert_int_equal(fixture_unlink(&f, "/d/file"), 0);
	assert_int_equal(fixture_fs_stat(&f, "/d", &fs), 0);
	assert_int_equal(fs.free_bytes, 9 * 4096);
	fixture_close(&f, file);
	assert_int_equal(fixture_fs_stat(&f, "/d", &fs), 0);
	assert_int_equal(fs.free_bytes, 10 * 4096);
	fixture_stop(&f);
}

static void size_has_a_limit(void **state)
{
	struct world_file *file;
	struct fixture f;

	(void)state;
	fixture_start(&f, 1, MIB);
	file = fixture_create(&f, "/d/file");
	assert_int_equal(fixture_resize(&f, file, 16 * TIB, WORLD_RESIZE_TRUNCATE), 0);
	assert_int_equal(fixture_resize(&f, file, 16 * TIB + 1, WORLD_RESIZE_TRUNCATE), -EFBIG);
	assert_int_equal(fixture_resize(&f, file, 16 * TIB, WORLD_RESIZE_RESERVE), -ENOSPC);
	assert_int_equal(fixture_fill(&f, file, 1, 512, 16 * TIB - 512), 512);
	assert_int_equal(fixture_fill(&f, file, 1, 512, 16 * TIB - 511), -EFBIG);
	fixture_crash(&f, SIM_CRASH_POWER);
	fixture_stop(&f);
}

static void read_only_disk(void **state)
{
	struct world_fs_stat fs;
	struct world_file *file, *other = NULL;
	struct fixture f;

	(void)state;
	fixture_start(&f, 1, MIB);
	file = fixture_create(&f, "/d/file");
	assert_int_equal(fixture_fill(&f, file, 1, 512, 0), 512);
	sim_disk_set_read_only(f.sim, "/d", true);
	assert_int_equal(fixture_fill(&f, file, 1, 512, 0), -EROFS);
	assert_int_equal(fixture_sync(&f, file), -EROFS);
	assert_int_equal(fixture_resize(&f, file, 1, WORLD_RESIZE_TRUNCATE), -EROFS);
	assert_int_equal(fixture_open(&f, "/d/file", 0, &other), -EROFS);
	assert_int_equal(fixture_open(&f, "/d/new", WORLD_FILE_CREATE, &other), -EROFS);
	assert_int_equal(fixture_make(&f, "/d/new"), -EROFS);
	assert_int_equal(fixture_rename(&f, "/d/file", "/d/new"), -EROFS);
	assert_int_equal(fixture_unlink(&f, "/d/file"), -EROFS);
	assert_int_equal(fixture_directory_sync(&f, "/d"), -EROFS);
	assert_int_equal(fixture_fs_stat(&f, "/d", &fs), 0);
	assert_true(fs.read_only);
	sim_disk_set_read_only(f.sim, "/d", false);
	assert_int_equal(fixture_sync(&f, file), 0);
	assert_int_equal(fixture_sync(&f, file), 0);
	fixture_close(&f, file);
	fixture_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_was_written),
		cmocka_unit_test(refuses_bad_arguments),
		cmocka_unit_test(power_loss_keeps_what_was_synced),
		cmocka_unit_test(process_crash_keeps_what_completed),
		cmocka_unit_test(power_loss_and_sizes),
		cmocka_unit_test(sync_covers_completed_writes),
		cmocka_unit_test(sync_may_miss_what_did_not_complete),
		cmocka_unit_test(buffer_changed_in_flight),
		cmocka_unit_test(space_runs_out),
		cmocka_unit_test(size_has_a_limit),
		cmocka_unit_test(read_only_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
