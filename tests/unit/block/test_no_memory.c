/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation that the making of a volume needs fails once. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/delay.h"
#include "block/emulate.h"
#include "block/error.h"
#include "block/memory.h"
#include "block/null.h"
#include "block/remote.h"
#include "fail_alloc.h"
#include "sim_rig.h"

static struct sim_rig rig;
static struct block_volume *below;

static int make_null(struct block_volume **ret_volume)
{
	return null_volume_new(rig.reactors[0], MIB, 512, ret_volume);
}

static int make_memory(struct block_volume **ret_volume)
{
	return memory_volume_new(rig.reactors[0], MIB, 512, ret_volume);
}

static int make_error(struct block_volume **ret_volume)
{
	return error_volume_new(below, 1, 0, ret_volume);
}

static int make_delay(struct block_volume **ret_volume)
{
	const struct delay_options options = {.after_ns = 1};

	return delay_volume_new(below, &options, ret_volume);
}

static int make_emulate(struct block_volume **ret_volume)
{
	const struct emulate_options options = {.native_ops = EMULATE_BASIC_OPS};

	return emulate_volume_new(below, &options, ret_volume);
}

static int make_remote(struct block_volume **ret_volume)
{
	return remote_volume_new(below, rig.reactors[1], 0, ret_volume);
}

/* Returns how many allocations there were. */
static uint64_t sweep(int (*make)(struct block_volume **ret_volume))
{
	struct block_volume *volume = NULL;

	for (uint64_t n = 1; n < 100; n++) {
		int result;

		fail_alloc_nth(n);
		result = make(&volume);
		if (!fail_alloc_disarm()) {
			assert_int_equal(result, 0);
			block_volume_free(volume);
			return n - 1;
		}
		assert_int_equal(result, -ENOMEM);
		assert_null(volume);
	}
	fail_msg("allocates for ever");
	return 0;
}

static void volumes_survive_it(void **state)
{
	(void)state;
	sim_rig_init(&rig, 1, 2);
	assert_int_equal(null_volume_new(rig.reactors[0], MIB, 512, &below), 0);
	assert_int_equal(sweep(make_null), 1);
	assert_int_equal(sweep(make_memory), 3);
	assert_int_equal(sweep(make_error), 2);
	assert_int_equal(sweep(make_delay), 2);
	assert_int_equal(sweep(make_emulate), 4);
	assert_int_equal(sweep(make_remote), 2);
	block_volume_free(below);
	sim_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(volumes_survive_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
