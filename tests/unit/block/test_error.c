/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/memory.h"
#include "block/sub.h"
#include "sim_rig.h"
#include "volume_model.h"

struct fixture {
	struct sim_rig rig;
	struct block_volume *memory;
	struct block_volume *volume;
};

static void with_volume(void (*run)(void *fixture), uint64_t seed)
{
	struct fixture fixture;

	sim_rig_init(&fixture.rig, seed, 1);
	assert_int_equal(memory_volume_new(fixture.rig.reactors[0], VOLUME_MODEL_BYTES, 512,
					   &fixture.memory),
			 0);
	assert_int_equal(error_volume_new(fixture.memory, seed, 0, &fixture.volume), 0);
	sim_rig_run(&fixture.rig, 0, run, &fixture);
	block_volume_free(fixture.volume);
	block_volume_free(fixture.memory);
	sim_rig_done(&fixture.rig);
}

static int do_io(struct fixture *fixture, enum block_op op, uint64_t offset)
{
	static unsigned char buffer[512];

	if (op == BLOCK_FLUSH)
		return block_io(fixture->volume, op, 0, NULL, 0, 0);
	return block_io(fixture->volume, op, 0, buffer, 512, offset);
}

static void pass_through(void *arg)
{
	struct fixture *fixture = arg;

	volume_model_run(fixture->volume, 1, 2000);
	assert_int_equal(error_volume_failures(fixture->volume), 0);
}

static void passes_without_rules(void **state)
{
	(void)state;
	with_volume(pass_through, 1);
}

static void fail_chosen(void *arg)
{
	struct fixture *fixture = arg;
	const struct error_rule range = {
		.ops = 1u << BLOCK_WRITE, .offset = 1024, .length = 512, .error = -EIO};
	const struct error_rule flush = {.ops = 1u << BLOCK_FLUSH, .skip = 2, .times = 1,
					 .error = -EREMOTEIO};

	assert_int_equal(error_volume_add(fixture->volume, &range), 0);
	assert_int_equal(error_volume_add(fixture->volume, &flush), 0);
	assert_int_equal(do_io(fixture, BLOCK_WRITE, 512), 0);
	assert_int_equal(do_io(fixture, BLOCK_WRITE, 1024), -EIO);
	assert_int_equal(do_io(fixture, BLOCK_WRITE, 1536), 0);
	assert_int_equal(do_io(fixture, BLOCK_READ, 1024), 0);
	for (int i = 1; i <= 6; i++)
		assert_int_equal(do_io(fixture, BLOCK_FLUSH, 0), i == 3 ? -EREMOTEIO : 0);
	assert_int_equal(error_volume_failures(fixture->volume), 2);
	error_volume_clear(fixture->volume);
	assert_int_equal(do_io(fixture, BLOCK_WRITE, 1024), 0);
}

static void fails_by_operation_range_and_number(void **state)
{
	(void)state;
	with_volume(fail_chosen, 1);
}

static void fail_after(void *arg)
{
	struct fixture *fixture = arg;
	const struct error_rule before = {.times = 1, .error = -EIO};
	const struct error_rule after = {.times = 1, .error = -ENOSPC, .after = true};
	unsigned char buffer[512], got[512];

	memset(buffer, 1, sizeof(buffer));
	assert_int_equal(error_volume_add(fixture->volume, &before), 0);
	assert_int_equal(error_volume_add(fixture->volume, &after), 0);
	assert_int_equal(block_io(fixture->volume, BLOCK_WRITE, 0, buffer, 512, 0), -EIO);
	assert_int_equal(block_io(fixture->memory, BLOCK_READ, 0, got, 512, 0), 0);
	assert_int_equal(got[0], 0);
	assert_int_equal(block_io(fixture->volume, BLOCK_WRITE, 0, buffer, 512, 0), -ENOSPC);
	assert_int_equal(block_io(fixture->volume, BLOCK_READ, 0, got, 512, 0), 0);
	assert_memory_equal(got, buffer, 512);
	/* What failed below is reported as it is. */
	assert_int_equal(error_volume_add(fixture->volume, &after), 0);
	got[0] = 2;
	assert_int_equal(block_io(fixture->volume, BLOCK_COMPARE, 0, got, 512, 0), -EILSEQ);
}

static void fails_before_or_after_the_work(void **state)
{
	(void)state;
	with_volume(fail_after, 1);
}

static unsigned failures_by_chance[4];

static void fail_by_chance(void *arg)
{
	static unsigned round;
	struct fixture *fixture = arg;
	const struct error_rule rule = {.chance_ppm = 250000, .error = -EIO};
	unsigned pattern = 0, failures = 0;

	assert_int_equal(error_volume_add(fixture->volume, &rule), 0);
	for (unsigned i = 0; i < 1000; i++) {
		int result = do_io(fixture, BLOCK_READ, 0);

		assert_true(result == 0 || result == -EIO);
		failures += result != 0;
		pattern = pattern * 31 + (result != 0);
	}
	assert_in_range(failures, 180, 320);
	failures_by_chance[round++] = pattern;
}

static void chance_follows_the_seed(void **state)
{
	(void)state;
	with_volume(fail_by_chance, 1);
	with_volume(fail_by_chance, 1);
	with_volume(fail_by_chance, 2);
	assert_int_equal(failures_by_chance[0], failures_by_chance[1]);
	assert_int_not_equal(failures_by_chance[0], failures_by_chance[2]);
}

static void reach_limits(void *arg)
{
	struct fixture *fixture = arg;
	const struct error_rule good = {.error = -EIO};
	const struct error_rule bad = {.error = 0};
	struct block_volume *volume = NULL;

	assert_int_equal(error_volume_add(fixture->volume, &bad), -EINVAL);
	for (int i = 0; i < ERROR_RULES_MAX; i++)
		assert_int_equal(error_volume_add(fixture->volume, &good), 0);
	assert_int_equal(error_volume_add(fixture->volume, &good), -E2BIG);
	assert_int_equal(error_volume_new(fixture->memory, 0, SUB_POOL_MAX + 1, &volume), -EINVAL);
	assert_null(volume);
	assert_int_equal(error_volume_new(fixture->memory, 0, SUB_POOL_MAX, &volume), 0);
	block_volume_free(volume);
}

static void checks_its_limits(void **state)
{
	(void)state;
	with_volume(reach_limits, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passes_without_rules),
		cmocka_unit_test(fails_by_operation_range_and_number),
		cmocka_unit_test(fails_before_or_after_the_work),
		cmocka_unit_test(chance_follows_the_seed),
		cmocka_unit_test(checks_its_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
