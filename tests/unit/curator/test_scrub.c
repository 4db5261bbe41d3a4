/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "curator/scrub.h"
#include "real_rig.h"

#define DAY_NS (24 * UINT64_C(3600) * NSEC_PER_SEC)

static int keeps_its_row(void *arg)
{
	struct real_rig *rig = arg;
	const struct catalog_options options = {.path = real_rig_path(rig, "catalog.db"),
						.create = true};
	struct scrub_state state, read;
	struct catalog *catalog;
	struct catalog_change change = {.kind = CATALOG_PUT,
					.key = catalog_key(CATALOG_SCRUB),
					.value = "x",
					.length = 1};

	ASSERT(catalog_open(rig->world, &options, &catalog) == 0);
	ASSERT(scrub_load(catalog, 7, &state) == 0);
	ASSERT(state.phase == SCRUB_IDLE && state.since_wall_ns == 0);
	state = (struct scrub_state){.phase = SCRUB_PAUSED,
				     .since_wall_ns = 1,
				     .vdisk = 2,
				     .file = 3,
				     .now = {4, 5, 6, 7, 8},
				     .last = {9, 10, 11, 12, 13}};
	ASSERT(scrub_store(catalog, 7, &state) == 0);
	ASSERT(scrub_load(catalog, 7, &read) == 0);
	ASSERT(memcmp(&state, &read, sizeof(state)) == 0);
	catalog_key_add(&change.key, 8);
	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	ASSERT(scrub_load(catalog, 8, &read) == -EUCLEAN);
	catalog_close(catalog);
	return 0;
}

static void state_is_kept(void **state)
{
	struct real_rig rig;

	(void)state;
	real_rig_init(&rig);
	assert_int_equal(real_rig_run(&rig, 0, keeps_its_row, &rig), 0);
	real_rig_done(&rig);
}

static void is_due_after_the_interval(void **unused)
{
	struct scrub_state state = {.since_wall_ns = 100 * DAY_NS};

	(void)unused;
	assert_false(scrub_is_due(&state, 113 * DAY_NS, 14 * DAY_NS));
	assert_true(scrub_is_due(&state, 114 * DAY_NS, 14 * DAY_NS));
	assert_false(scrub_is_due(&state, 114 * DAY_NS, 0));
	assert_false(scrub_is_due(&state, 1, 14 * DAY_NS)); /* a clock that went back */
	scrub_begin(&state, 114 * DAY_NS);
	assert_int_equal(state.phase, SCRUB_RUNNING);
	assert_false(scrub_is_due(&state, 200 * DAY_NS, 14 * DAY_NS));
	state.now.damaged = 3;
	scrub_end(&state, 115 * DAY_NS);
	assert_string_equal(scrub_phase_name(state.phase), "idle");
	assert_int_equal(state.last.damaged, 3);
	assert_false(scrub_is_due(&state, 128 * DAY_NS, 14 * DAY_NS));
	assert_true(scrub_is_due(&state, 129 * DAY_NS, 14 * DAY_NS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(state_is_kept),
		cmocka_unit_test(is_due_after_the_interval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
