/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "block/memory.h"
#include "sim_rig.h"
#include "volume_model.h"

#ifdef __has_feature
#define THREAD_SANITIZER __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#else
#define THREAD_SANITIZER 0
#endif

static struct sim_rig rig;

static int set_up(void **state)
{
	(void)state;
	sim_rig_init(&rig, 1, 1);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sim_rig_done(&rig);
	return 0;
}

static void run_on(uint64_t size_bytes, uint32_t block_bytes, void (*run)(void *volume))
{
	struct block_volume *volume;

	assert_int_equal(memory_volume_new(rig.reactors[0], size_bytes, block_bytes, &volume), 0);
	sim_rig_run(&rig, 0, run, volume);
	block_volume_free(volume);
}

static void run_model(void *arg)
{
	volume_model_run(arg, ((struct block_volume *)arg)->size_bytes, 3000);
}

static void agrees_with_an_array(void **state)
{
	(void)state;
	run_on(VOLUME_MODEL_BYTES, 512, run_model);
	run_on(VOLUME_MODEL_BYTES, 4096, run_model);
	run_on(VOLUME_MODEL_BYTES - 512, 512, run_model);
	run_on(512, 512, run_model);
	run_on(4096, 4096, run_model);
}

static void checks_its_limits(void **state)
{
	struct block_volume *volume = NULL;
	struct reactor *home = rig.reactors[0];

	(void)state;
	assert_int_equal(memory_volume_new(home, 0, 512, &volume), -EINVAL);
	assert_int_equal(memory_volume_new(home, 1000, 512, &volume), -EINVAL);
	assert_int_equal(memory_volume_new(home, 4096, 1024, &volume), -EINVAL);
	assert_int_equal(memory_volume_new(home, MEMORY_VOLUME_MAX_BYTES + 512, 512, &volume),
			 -EINVAL);
	assert_null(volume);
	if (THREAD_SANITIZER) /* leaves too little room between its shadows */
		return;
	assert_int_equal(memory_volume_new(home, MEMORY_VOLUME_MAX_BYTES, 512, &volume), 0);
	block_volume_free(volume);
}

static uint64_t resident_bytes(void)
{
	unsigned long size = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu %lu", &size, &resident), 2);
	fclose(file);
	return resident * 4096;
}

static void fill(struct block_volume *volume, uint64_t offset, uint64_t length)
{
	static unsigned char buffer[MIB];

	memset(buffer, 0x5a, sizeof(buffer));
	for (uint64_t at = offset; at < offset + length; at += MIB)
		assert_int_equal(block_io(volume, BLOCK_WRITE, 0, buffer, MIB, at), 0);
}

static void fill_and_unmap(void *arg)
{
	struct block_volume *volume = arg;
	uint64_t before = resident_bytes(), full;

	fill(volume, GIB, 64 * MIB);
	full = resident_bytes();
	assert_true(full >= before + 60 * MIB);
	assert_int_equal(memory_volume_allocated_bytes(volume), 64 * MIB);
	/* A page that is covered in part stays. */
	assert_int_equal(block_io(volume, BLOCK_UNMAP, 0, NULL, 64 * MIB - 1024, GIB + 512), 0);
	assert_int_equal(memory_volume_allocated_bytes(volume), 2 * 4096);
	assert_true(resident_bytes() <= full - 60 * MIB);
	assert_int_equal(block_io(volume, BLOCK_WRITE_ZEROES, 0, NULL, 2 * GIB, 0), 0);
	assert_int_equal(memory_volume_allocated_bytes(volume), 0);
	assert_int_equal(
		block_io(volume, BLOCK_WRITE_ZEROES, BLOCK_NO_RELEASE, NULL, 5 * MIB, 0), 0);
	assert_int_equal(memory_volume_allocated_bytes(volume), 5 * MIB);
}

static void unmap_gives_memory_back(void **state)
{
	(void)state;
	run_on(2 * GIB, 512, fill_and_unmap);
}

static struct block_status status_at(struct block_volume *volume, uint64_t offset, uint64_t length)
{
	struct block_wait wait;

	wait.request.op = BLOCK_STATUS;
	wait.request.flags = 0;
	wait.request.offset = offset;
	wait.request.length = length;
	wait.request.iov_count = 0;
	assert_int_equal(block_wait(volume, &wait), 0);
	return wait.request.status;
}

static void ask_status(void *arg)
{
	struct block_volume *volume = arg;
	struct block_status status;

	fill(volume, 3 * MIB, MIB);
	status = status_at(volume, 512, 8 * MIB);
	assert_int_equal(status.length, 3 * MIB - 512);
	assert_true(status.zero && !status.allocated);
	status = status_at(volume, 3 * MIB + 512, 8 * MIB);
	assert_int_equal(status.length, MIB - 512);
	assert_true(!status.zero && status.allocated);
	status = status_at(volume, 3 * MIB + 512, 1024);
	assert_int_equal(status.length, 1024);
	/* A long answer is cut short rather than searched for. */
	status = status_at(volume, 8 * MIB, 3 * GIB);
	assert_int_equal(status.length, GIB);
	status = status_at(volume, 4 * GIB - 512, 512);
	assert_int_equal(status.length, 512);
}

static void tells_status(void **state)
{
	(void)state;
	run_on(4 * GIB, 512, ask_status);
}

static void zero_locked_memory(void *arg)
{
	struct block_volume *volume = arg;
	unsigned char buffer[8192];

	fill(volume, 0, MIB);
	assert_int_equal(block_io(volume, BLOCK_UNMAP, 0, NULL, MIB, 0), 0);
	memset(buffer, 0, sizeof(buffer));
	assert_int_equal(block_io(volume, BLOCK_COMPARE, 0, buffer, sizeof(buffer), 4096), 0);
	assert_int_equal(memory_volume_allocated_bytes(volume), 0);
}

static void zeroes_locked_memory(void **state)
{
	(void)state;
	if (mlockall(MCL_FUTURE) < 0) {
		print_message("skipped: this process may not lock memory (RLIMIT_MEMLOCK)\n");
		skip();
	}
	run_on(MIB, 512, zero_locked_memory);
	assert_int_equal(munlockall(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_an_array),
		cmocka_unit_test(checks_its_limits),
		cmocka_unit_test(unmap_gives_memory_back),
		cmocka_unit_test(tells_status),
		cmocka_unit_test(zeroes_locked_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
