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

/* Words 0 to 13 are 1 to 14, but for the last. */
static const uint8_t first_version[120] = {
	1,        1,        [8] = 1,  [16] = 2,  [24] = 3,  [32] = 4,  [40] = 5,   [48] = 6,
	[56] = 7, [64] = 8, [72] = 9, [80] = 10, [88] = 11, [96] = 12, [104] = 13,
};

/* Words 0 to 15 are 1 to 16. */
static const uint8_t second_version[136] = {
	2,         0,         [8] = 1,    [16] = 2,   [24] = 3,   [32] = 4,
	[40] = 5,  [48] = 6,  [56] = 7,   [64] = 8,   [72] = 9,   [80] = 10,
	[88] = 11, [96] = 12, [104] = 13, [112] = 14, [120] = 15, [128] = 16,
};

static int keeps_its_row(void *arg)
{
	struct real_rig *rig = arg;
	const struct catalog_options options = {.path = real_rig_path(rig, "catalog.db"),
						.create = true};
	struct scrub_state state, read;
	struct catalog *catalog;
	struct catalog_change change = {
		.kind = CATALOG_PUT, .key = catalog_key(CATALOG_SCRUB), .value = "x", .length = 1};

	ASSERT(catalog_open(rig->world, &options, &catalog) == 0);
	ASSERT(scrub_load(catalog, 7, &state) == 0);
	ASSERT(state.phase == SCRUB_IDLE && state.since_wall_ns == 0);
	state = (struct scrub_state){.phase = SCRUB_PAUSED,
				     .since_wall_ns = 1,
				     .vdisk = 2,
				     .file = 3,
				     .now = {4, 5, 6, 7, 8, 14, 16},
				     .last = {9, 10, 11, 12, 13, 15, 17}};
	ASSERT(scrub_store(catalog, 7, &state) == 0);
	ASSERT(scrub_load(catalog, 7, &read) == 0);
	ASSERT(memcmp(&state, &read, sizeof(state)) == 0);
	catalog_key_add(&change.key, 8);
	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	ASSERT(scrub_load(catalog, 8, &read) == -EUCLEAN);
	change.value = first_version;
	change.length = sizeof(first_version);
	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	ASSERT(scrub_load(catalog, 8, &read) == 0);
	ASSERT(read.phase == SCRUB_RUNNING && read.file == 3 && read.findings == 0);
	ASSERT(read.now.damaged == 8 && read.now.left == 0 && read.last.begun_wall_ns == 9);
	change.value = second_version;
	change.length = sizeof(second_version);
	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	ASSERT(scrub_load(catalog, 8, &read) == 0);
	ASSERT(read.findings == 4 && read.now.begun_wall_ns == 5 && read.now.left == 10);
	ASSERT(read.last.begun_wall_ns == 11 && read.last.left == 16);
	ASSERT(read.now.pending == 0 && read.last.pending == 0);
	change.length--;
	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	ASSERT(scrub_load(catalog, 8, &read) == -EUCLEAN);
	catalog_close(catalog);
	return 0;
}

static void expect_findings(struct catalog *catalog, const struct scrub_finding *findings,
			    size_t count)
{
	_cleanup_free_ struct scrub_finding *read = NULL;
	size_t read_count;

	ASSERT(scrub_get_findings(catalog, 7, &read, &read_count) == 0);
	ASSERT(read_count == count);
	ASSERT(memcmp(read, findings, count * sizeof(*findings)) == 0);
}

/* Version, kind, use, put right, error. */
static const uint8_t wrong[][72] = {{3},          {1, 99},      {1, 0, 99},
				    {1, 0, 0, 2}, {2, 0, 0, 3}, {1, [5] = 0x10}};

/* Rows of one scrub, as many as are kept; the next one begins without; a damaged one is left out.
 */
static int keeps_findings(void *arg)
{
	static struct scrub_finding findings[SCRUB_FINDINGS_MAX + 10];
	struct real_rig *rig = arg;
	const struct catalog_options options = {.path = real_rig_path(rig, "catalog.db"),
						.create = true};
	struct scrub_state state = {.since_wall_ns = 1}, read;
	struct catalog_change change = {
		.kind = CATALOG_PUT, .key = catalog_key(CATALOG_SCRUB), .value = "x", .length = 1};
	struct catalog *catalog;

	for (unsigned i = 0; i < ARRAY_SIZE(findings); i++)
		findings[i] = (struct scrub_finding){.subject = i % 4 ? SCRUB_OF_VDISK : i / 4 % 3,
						     .vdisk = i,
						     .wall_ns = 1000 + i,
						     .what = {.kind = i % 4,
							      .use = i % 3,
							      .offset = i * 4096,
							      .bytes = 4096,
							      .group = i + 7,
							      .slot = i + 8,
							      .slots = 1,
							      .file = i + 9,
							      .disk = i % 5,
							      .error = i % 5 ? 0 : -EIO,
							      .put_right = i % 2,
							      .pending = i % 4 == 2}};
	ASSERT(catalog_open(rig->world, &options, &catalog) == 0);
	ASSERT(scrub_begin(catalog, 7, &state, 100) == 0);
	expect_findings(catalog, findings, 0);
	ASSERT(scrub_store_found(catalog, 7, &state, findings, 3) == 0);
	ASSERT(scrub_load(catalog, 7, &read) == 0);
	ASSERT(memcmp(&state, &read, sizeof(state)) == 0 && state.findings == 3);
	expect_findings(catalog, findings, 3);
	ASSERT(scrub_store_found(catalog, 7, &state, findings + 3, ARRAY_SIZE(findings) - 3) == 0);
	ASSERT(scrub_store_found(catalog, 7, &state, findings, 1) == 0);
	expect_findings(catalog, findings, SCRUB_FINDINGS_MAX);
	ASSERT(scrub_replace_found(catalog, 7, &state, findings + 5, 4) == 0);
	ASSERT(scrub_load(catalog, 7, &read) == 0);
	ASSERT(memcmp(&state, &read, sizeof(state)) == 0 && state.findings == 4);
	expect_findings(catalog, findings + 5, 4);
	ASSERT(scrub_begin(catalog, 7, &state, 200) == 0);
	ASSERT(state.findings == 0 && state.since_wall_ns == 1 && state.phase == SCRUB_RUNNING);
	expect_findings(catalog, findings, 0);
	ASSERT(scrub_store_found(catalog, 7, &state, findings, 1) == 0);
	catalog_key_add(&change.key, 7);
	catalog_key_add(&change.key, 2);
	ASSERT(catalog_commit(catalog, &change, 1) == 0);
	expect_findings(catalog, findings, 1);
	change.length = 72;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		change.value = wrong[i];
		ASSERT(catalog_commit(catalog, &change, 1) == 0);
		expect_findings(catalog, findings, 1);
	}
	ASSERT(scrub_forget(catalog, 7) == 0);
	expect_findings(catalog, findings, 0);
	ASSERT(scrub_load(catalog, 7, &read) == 0 && read.since_wall_ns == 0);
	catalog_close(catalog);
	return 0;
}

static void findings_are_kept(void **state)
{
	struct real_rig rig;

	(void)state;
	real_rig_init(&rig);
	assert_int_equal(real_rig_run(&rig, 0, keeps_findings, &rig), 0);
	real_rig_done(&rig);
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
	state.phase = SCRUB_RUNNING;
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
		cmocka_unit_test(findings_are_kept),
		cmocka_unit_test(is_due_after_the_interval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
