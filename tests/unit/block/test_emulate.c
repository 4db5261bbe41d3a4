/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/delay.h"
#include "block/emulate.h"
#include "block/error.h"
#include "block/memory.h"
#include "block/sub.h"
#include "sim_rig.h"
#include "volume_model.h"

static struct sim_rig rig;
/* emulate on delay on error on memory */
static struct block_volume *memory, *error, *delay, *volume;

static void with_stack(uint64_t seed, unsigned native_ops, void (*run)(void *arg))
{
	struct delay_options delays = {
		.before_random_ns = 5000, .after_random_ns = 5000, .seed = seed, .requests = 5};
	struct emulate_options options = {
		.native_ops = native_ops, .requests = 3, .emulations = seed % 3};

	sim_rig_init(&rig, seed, 1);
	assert_int_equal(memory_volume_new(rig.reactors[0], VOLUME_MODEL_BYTES, 512, &memory), 0);
	memory->max_transfer_bytes = seed % 2 ? 32 * KIB : MIB;
	assert_int_equal(error_volume_new(memory, seed, 0, &error), 0);
	assert_int_equal(delay_volume_new(error, &delays, &delay), 0);
	assert_int_equal(emulate_volume_new(delay, &options, &volume), 0);
	sim_rig_run(&rig, 0, run, NULL);
	block_volume_free(volume);
	block_volume_free(delay);
	block_volume_free(error);
	block_volume_free(memory);
	sim_rig_done(&rig);
}

static void run_model(void *arg)
{
	(void)arg;
	volume_model_run(volume, 9, 150);
}

static void agrees_with_an_array(void **state)
{
	const unsigned all = (1u << BLOCK_OP_COUNT) - 1;

	(void)state;
	for (uint64_t seed = 0; seed < 12; seed++) {
		with_stack(seed, EMULATE_BASIC_OPS, run_model);
		with_stack(seed, EMULATE_BASIC_OPS | 1u << BLOCK_UNMAP, run_model);
		with_stack(seed, all, run_model);
	}
}

#define COUNTERS 2
#define CLIENTS 6
#define INCREMENTS 10

/* Reads a counter in block `index` and swaps it with the next number until that works. */
static void increment(unsigned index)
{
	unsigned char buffer[1024];
	uint64_t value;
	int result;

	do {
		assert_int_equal(block_io(volume, BLOCK_READ, 0, buffer, 512, index * 512), 0);
		memcpy(buffer + 512, buffer, 512);
		memcpy(&value, buffer, sizeof(value));
		value++;
		memcpy(buffer + 512, &value, sizeof(value));
		result = block_io(volume, BLOCK_COMPARE_AND_WRITE, 0, buffer, 512, index * 512);
		assert_true(result == 0 || result == -EILSEQ);
	} while (result != 0);
}

static void increment_often(void *arg)
{
	unsigned client = *(unsigned *)arg;

	for (unsigned i = 0; i < INCREMENTS; i++)
		increment((client + i) % COUNTERS);
}

static void race_for_counters(void *arg)
{
	unsigned clients[CLIENTS];
	struct sim_rig_task tasks[CLIENTS];
	bool busy = true;

	(void)arg;
	for (unsigned i = 0; i < CLIENTS; i++) {
		clients[i] = i;
		tasks[i] = (struct sim_rig_task){.run = increment_often, .arg = &clients[i]};
		sim_rig_start(&rig, 0, &tasks[i]);
	}
	while (busy) {
		busy = false;
		fiber_sleep(NSEC_PER_USEC);
		for (unsigned i = 0; i < CLIENTS; i++)
			busy |= !tasks[i].finished;
	}
	for (unsigned i = 0; i < COUNTERS; i++) {
		unsigned char buffer[512];
		uint64_t value;

		assert_int_equal(block_io(volume, BLOCK_READ, 0, buffer, 512, i * 512), 0);
		memcpy(&value, buffer, sizeof(value));
		assert_int_equal(value, CLIENTS * INCREMENTS / COUNTERS);
	}
}

static void compare_and_write_is_atomic(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++)
		with_stack(seed, EMULATE_BASIC_OPS, race_for_counters);
}

static void pass_errors(void *arg)
{
	static unsigned char buffer[2 * 64 * KIB];
	const struct error_rule reads = {.ops = 1u << BLOCK_READ, .error = -EREMOTEIO};
	const struct error_rule writes = {.ops = 1u << BLOCK_WRITE, .skip = 1, .error = -ENOSPC};
	uint64_t length = MIN(volume->max_transfer_bytes, 64 * KIB);

	(void)arg;
	assert_int_equal(error_volume_add(error, &reads), 0);
	assert_int_equal(error_volume_add(error, &writes), 0);
	assert_int_equal(block_io(volume, BLOCK_COMPARE, 0, buffer, length, 0), -EREMOTEIO);
	assert_int_equal(block_io(volume, BLOCK_COMPARE_AND_WRITE, 0, buffer, length, 0),
			 -EREMOTEIO);
	assert_int_equal(block_io(volume, BLOCK_WRITE_ZEROES, 0, NULL, length, 0), 0);
	assert_int_equal(block_io(volume, BLOCK_UNMAP, 0, NULL, length, 0), -ENOSPC);
	error_volume_clear(error);
	/* Nothing is left locked. */
	assert_int_equal(block_io(volume, BLOCK_COMPARE_AND_WRITE, 0, buffer, length, 0), 0);
}

static void passes_errors_on(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 4; seed++)
		with_stack(seed, EMULATE_BASIC_OPS, pass_errors);
}

static void check_status(void *arg)
{
	struct block_wait wait = {
		.request = {.op = BLOCK_STATUS, .offset = 512, .length = 4096}
	};

	(void)arg;
	assert_int_equal(block_wait(volume, &wait), 0);
	assert_int_equal(wait.request.status.length, 4096);
	assert_true(wait.request.status.allocated && !wait.request.status.zero);
}

static void checks_its_limits(void **state)
{
	struct emulate_options options = {.native_ops = EMULATE_BASIC_OPS};
	struct block_volume *none = NULL;

	(void)state;
	with_stack(1, EMULATE_BASIC_OPS, check_status);
	sim_rig_init(&rig, 1, 1);
	assert_int_equal(memory_volume_new(rig.reactors[0], MIB, 512, &memory), 0);
	options.emulations = EMULATE_MAX + 1;
	assert_int_equal(emulate_volume_new(memory, &options, &none), -EINVAL);
	options.emulations = EMULATE_MAX;
	options.requests = SUB_POOL_MAX + 1;
	assert_int_equal(emulate_volume_new(memory, &options, &none), -EINVAL);
	options.requests = 1;
	options.native_ops = 1u << BLOCK_READ;
	assert_int_equal(emulate_volume_new(memory, &options, &none), -EINVAL);
	assert_null(none);
	options.native_ops = EMULATE_BASIC_OPS;
	assert_int_equal(emulate_volume_new(memory, &options, &none), 0);
	block_volume_free(none);
	block_volume_free(memory);
	sim_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_an_array),
		cmocka_unit_test(compare_and_write_is_atomic),
		cmocka_unit_test(passes_errors_on),
		cmocka_unit_test(checks_its_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
