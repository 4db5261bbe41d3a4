/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/delay.h"
#include "block/memory.h"
#include "block/sub.h"
#include "sim_rig.h"
#include "volume_model.h"

#define FLIGHT 32

static struct sim_rig rig;
static struct block_volume *memory;

static void with_delay(uint64_t seed, const struct delay_options *options, void (*run)(void *))
{
	struct block_volume *volume;

	sim_rig_init(&rig, seed, 1);
	assert_int_equal(memory_volume_new(rig.reactors[0], VOLUME_MODEL_BYTES, 512, &memory), 0);
	assert_int_equal(delay_volume_new(memory, options, &volume), 0);
	sim_rig_run(&rig, 0, run, volume);
	block_volume_free(volume);
	block_volume_free(memory);
	sim_rig_done(&rig);
}

static void run_model(void *volume)
{
	volume_model_run(volume, 5, 500);
}

static void data_stays_right(void **state)
{
	struct delay_options options = {.before_random_ns = 5000, .after_random_ns = 5000};

	(void)state;
	for (options.seed = 0; options.seed < 10; options.seed++)
		with_delay(options.seed, &options, run_model);
	options = (struct delay_options){0};
	with_delay(0, &options, run_model);
}

static void time_one(void *volume)
{
	unsigned char buffer[512];
	uint64_t start_ns = reactor_now_ns(rig.reactors[0]), took_ns;

	assert_int_equal(block_io(volume, BLOCK_READ, 0, buffer, 512, 0), 0);
	took_ns = reactor_now_ns(rig.reactors[0]) - start_ns;
	assert_in_range(took_ns, 3 * NSEC_PER_MSEC, 4 * NSEC_PER_MSEC);
	/* Flushes were not chosen. */
	assert_int_equal(block_io(volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_true(reactor_now_ns(rig.reactors[0]) - start_ns - took_ns < NSEC_PER_MSEC);
}

static void takes_its_time(void **state)
{
	const struct delay_options options = {
		.ops = 1u << BLOCK_READ,
		.before_ns = NSEC_PER_MSEC,
		.after_ns = 2 * NSEC_PER_MSEC,
	};

	(void)state;
	with_delay(1, &options, time_one);
}

static struct block_request requests[FLIGHT];
static unsigned done_count, overtaken;
static struct block_request *last;

static void note_order(struct block_request *request, int result)
{
	assert_int_equal(result, 0);
	overtaken += last > request;
	last = request;
	done_count++;
}

static void submit_many(void *volume)
{
	done_count = overtaken = 0;
	last = NULL;
	for (unsigned i = 0; i < FLIGHT; i++) {
		requests[i] = (struct block_request){.op = BLOCK_FLUSH, .done = note_order};
		block_submit(volume, &requests[i]);
	}
	while (done_count < FLIGHT)
		fiber_sleep(NSEC_PER_USEC);
}

static void reorders(void **state)
{
	struct delay_options options = {.before_random_ns = NSEC_PER_MSEC, .requests = 3};

	(void)state;
	with_delay(1, &options, submit_many);
	assert_true(overtaken > FLIGHT / 4);
}

/* With room for one, the others wait and go in order of arrival. */
static void full_pool_keeps_order(void **state)
{
	struct delay_options options = {.requests = 1};

	(void)state;
	with_delay(1, &options, submit_many);
	assert_int_equal(overtaken, 0);
}

static void checks_its_limits(void **state)
{
	const struct delay_options options = {.requests = SUB_POOL_MAX + 1};
	struct block_volume *volume = NULL;

	(void)state;
	sim_rig_init(&rig, 1, 1);
	assert_int_equal(memory_volume_new(rig.reactors[0], MIB, 512, &memory), 0);
	assert_int_equal(delay_volume_new(memory, &options, &volume), -EINVAL);
	assert_null(volume);
	block_volume_free(memory);
	sim_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_stays_right),
		cmocka_unit_test(takes_its_time),
		cmocka_unit_test(reorders),
		cmocka_unit_test(full_pool_keeps_order),
		cmocka_unit_test(checks_its_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
