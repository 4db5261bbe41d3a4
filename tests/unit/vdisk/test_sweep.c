/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault sweep: the n-th file operation, or with ALLOCATIONS the n-th allocation of the engine's own
 * code (src/egroup, src/vdisk), of one scenario fails, for all n until it is clean. The scenario
 * opens, writes, checkpoints, overwrites, unmaps, compacts and closes a vDisk. Whatever fails,
 * nothing may crash or leak, and after opening again without faults every write that was
 * acknowledged is there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "engine_rig.h"

#define SIZE   (64 * MIB)
#define PLACES 24
#define STEP   (1 * MIB)
#define LENGTH (64 * KIB)

enum { ANY = 0x100 }; /* a write that failed: old or new */

static unsigned content[PLACES], before[PLACES];
static unsigned char *buffer;

static int write_place(struct engine_rig *rig, unsigned place, unsigned value)
{
	int r;

	memset(buffer, (int)value, LENGTH);
	r = block_io(rig->volume, BLOCK_WRITE, 0, buffer, LENGTH, place * STEP);
	if (r == 0) {
		content[place] = value;
		return 0;
	}
	if (!(content[place] & ANY))
		before[place] = content[place];
	content[place] = value | ANY;
	return r;
}

static void unmap_place(struct engine_rig *rig, unsigned place)
{
	int r = block_io(rig->volume, BLOCK_UNMAP, 0, NULL, LENGTH, place * STEP);

	if (r < 0 && !(content[place] & ANY))
		before[place] = content[place];
	content[place] = r < 0 ? ANY : 0;
}

static int scenario(struct engine_rig *rig)
{
	if (engine_rig_open_vdisk(rig) < 0)
		return 0;
	for (unsigned i = 0; i < PLACES; i++)
		(void)write_place(rig, i, i + 1);
	(void)block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
	(void)vdisk_checkpoint(rig->vdisk);
	for (unsigned i = 0; i < PLACES; i += 2)
		(void)write_place(rig, i, i + 101);
	unmap_place(rig, 3);
	memset(buffer, 77, 512);
	(void)block_io(rig->volume, BLOCK_WRITE, 0, buffer, 512, PLACES * STEP + 512);
	(void)vdisk_checkpoint(rig->vdisk);
	fiber_sleep(20 * NSEC_PER_SEC); /* idle: sealed, trimmed, sparse files compacted */
	for (unsigned i = 0; i < PLACES; i += 3)
		(void)block_io(rig->volume, BLOCK_READ, 0, buffer, LENGTH, i * STEP);
	(void)engine_rig_close_vdisk(rig);
	return 0;
}

static int prepare(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "disk", SIZE), 0);
	return 0;
}

static int verify(struct engine_rig *rig)
{
	struct vdisk_check_report report;

	if (!rig->vdisk)
		assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (unsigned i = 0; i < PLACES; i++) {
		assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, buffer, LENGTH, i * STEP), 0);
		for (unsigned at = 0; at < LENGTH; at++)
			if (buffer[at] != (content[i] & 0xff) &&
			    !(content[i] & ANY && buffer[at] == before[i]))
				fail_msg("place %u at %u: %u, not %u", i, at, buffer[at],
					 content[i]);
	}
	assert_int_equal(vdisk_check(rig->vdisk, true, NULL, NULL, &report), 0);
	assert_int_equal(report.bad_blocks + report.bad_pages, 0);
	assert_int_equal(report.missing_live_blocks + report.leaked_blocks, 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static int close_if_open(struct engine_rig *rig)
{
	(void)engine_rig_close_vdisk(rig);
	return 0;
}

#ifdef ALLOCATIONS
#define SWEEP "allocation"
#include "fail_alloc.h"

static void arm(struct engine_rig *rig, uint64_t n)
{
	(void)rig;
	fail_alloc_nth(n);
}

static bool disarm(struct engine_rig *rig)
{
	(void)rig;
	return fail_alloc_disarm();
}
#else
#define SWEEP "file operation"

static void arm(struct engine_rig *rig, uint64_t n)
{
	sim_fail_nth(rig->sim.sim, n, -EIO);
}

static bool disarm(struct engine_rig *rig)
{
	bool hit = sim_fault_hit(rig->sim.sim);

	sim_fail_nth(rig->sim.sim, 0, 0);
	return hit;
}
#endif

/* Returns whether the fault was met. */
static bool run_once(uint64_t n)
{
	struct engine_rig rig;
	bool hit;

	memset(content, 0, sizeof(content));
	memset(before, 0, sizeof(before));
	engine_rig_init(&rig, 7, false, 512 * MIB);
	engine_rig_call(&rig, prepare);
	arm(&rig, n);
	engine_rig_call(&rig, scenario);
	hit = disarm(&rig);
	engine_rig_call(&rig, close_if_open);
	engine_rig_call(&rig, verify);
	engine_rig_done(&rig);
	return hit;
}

static void sweep(void **state)
{
	uint64_t n = 1;

	(void)state;
	while (run_once(n))
		n++;
	print_message("clean after %d faults (" SWEEP ")\n", (int)n - 1);
	assert_true(n > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sweep),
	};

	log_set_level(LOG_LEVEL_ERROR + 1);
	buffer = aligned_alloc(4096, LENGTH);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
