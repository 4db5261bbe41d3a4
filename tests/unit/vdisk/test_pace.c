/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pace of background work beside a guest. The guest is made up: what it had completed, and how
 * long that took, is written into the vDisk's histograms, so that it is known what has to follow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine_rig.h"
#include "vdisk/pace.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES (512 * MIB)
#define DISK_BYTES (8 * MIB)
#define FAST_NS    (100 * NSEC_PER_USEC)
#define SLOW_NS    NSEC_PER_MSEC
#define BEGIN_NS   NSEC_PER_MSEC
#define WINDOWS(n) ((n) * (uint64_t)250 * NSEC_PER_MSEC) /* with their rests */

static struct engine_rig rig_memory;

/* Requests each `step_ns`: those that end while the work goes on took beside_ns, others quiet_ns.
 */
struct guest {
	struct fiber_task task;
	struct engine_rig *rig;
	const struct pace *pace;
	uint64_t beside_ns, quiet_ns, step_ns;
	unsigned requests; /* each time */
	bool stops, ended;
};

static uint64_t now(void)
{
	return reactor_now_ns(reactor_current());
}

static void guest_run(struct fiber_task *task)
{
	struct guest *guest = CONTAINER_OF(task, struct guest, task);

	while (!guest->stops) {
		bool rests = now() >= guest->pace->window_end_ns;

		pool_guest_came(guest->rig->pool, now());
		for (unsigned i = 0; i < guest->requests; i++)
			histogram_record(i % 2 ? &guest->rig->vdisk->write_latency
					       : &guest->rig->vdisk->read_latency,
					 rests ? guest->quiet_ns : guest->beside_ns);
		fiber_sleep(guest->step_ns);
	}
	guest->ended = true;
}

static void guest_start(struct guest *guest, struct engine_rig *rig, const struct pace *pace)
{
	*guest = (struct guest){.task = {.run = guest_run},
				.rig = rig,
				.pace = pace,
				.beside_ns = SLOW_NS,
				.quiet_ns = FAST_NS,
				.step_ns = NSEC_PER_MSEC,
				.requests = 10};
	pool_guest_came(rig->pool, now());
	fiber_spawn(reactor_current(), FIBER_DATA, &guest->task);
}

static void guest_stop(struct guest *guest)
{
	guest->stops = true;
	while (!guest->ended)
		fiber_sleep(NSEC_PER_MSEC);
}

/* Goes on for that long; the longest pause that there was. */
static uint64_t work(struct pace *pace, uint64_t duration_ns)
{
	uint64_t end = now() + duration_ns, longest = 0;

	while (now() < end) {
		pace_wait(pace);
		longest = MAX(longest, pace->pause_ns);
	}
	return longest;
}

static void begin(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	/* What it did long ago was much faster, and more. */
	for (unsigned i = 0; i < 100000; i++)
		histogram_record(&rig->vdisk->read_latency, FAST_NS / 10);
}

static int end(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static void run(int (*fn)(struct engine_rig *rig))
{
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_call(&rig_memory, fn);
	engine_rig_done(&rig_memory);
}

static int heeds(struct engine_rig *rig)
{
	struct guest guest;
	struct pace pace;
	uint64_t limit;

	begin(rig);
	pace_init(&pace, rig->vdisk, false);
	guest_start(&guest, rig, &pace);
	assert_int_equal(work(&pace, WINDOWS(8)), 8 * NSEC_PER_MSEC);
	assert_int_equal(pace.pause_ns, 8 * NSEC_PER_MSEC);
	/* The guest does not suffer any more. */
	guest.beside_ns = FAST_NS;
	for (limit = now() + WINDOWS(60); pace.pause_ns > 20 * NSEC_PER_USEC && now() < limit;)
		pace_wait(&pace);
	assert_int_equal(pace.pause_ns, 20 * NSEC_PER_USEC);
	assert_true(pace.quiet_ns > FAST_NS / 2 && pace.quiet_ns < 2 * FAST_NS);
	guest_stop(&guest);
	return end(rig);
}

static void pauses_follow_the_guest(void **state)
{
	(void)state;
	run(heeds);
}

static int hurries(struct engine_rig *rig)
{
	struct guest guest;
	struct pace pace;

	begin(rig);
	pace_init(&pace, rig->vdisk, true);
	guest_start(&guest, rig, &pace);
	assert_int_equal(work(&pace, WINDOWS(8)), 2 * NSEC_PER_MSEC);
	guest_stop(&guest);
	return end(rig);
}

static void pauses_are_short_when_it_is_urgent(void **state)
{
	(void)state;
	run(hurries);
}

/* A guest that does too little to tell: those that are active are other vDisks'. */
static int knows_nothing(struct engine_rig *rig)
{
	struct guest guest;
	struct pace pace;

	begin(rig);
	pace_init(&pace, rig->vdisk, false);
	guest_start(&guest, rig, &pace);
	assert_int_equal(work(&pace, WINDOWS(8)), 8 * NSEC_PER_MSEC);
	guest.requests = 1;
	guest.step_ns = 10 * NSEC_PER_MSEC;
	(void)work(&pace, WINDOWS(3)); /* the pause at its end counts */
	assert_int_equal(pace.pause_ns, BEGIN_NS);
	guest_stop(&guest);
	return end(rig);
}

static void pauses_begin_anew_when_nothing_is_known(void **state)
{
	(void)state;
	run(knows_nothing);
}

static int alone(struct engine_rig *rig)
{
	struct egroup_pace asked = {.blocks = AHEAD_BLOCKS, .pieces = AHEAD_PIECES};
	uint64_t from;
	struct pace pace;

	begin(rig);
	pace_init(&pace, rig->vdisk, false);
	from = now();
	for (unsigned i = 0; i < 100; i++)
		pace_wait(&pace);
	assert_true(now() - from < NSEC_PER_MSEC);
	pace_ask(&pace, &asked);
	assert_true(asked.blocks == AHEAD_BLOCKS && asked.pieces == AHEAD_PIECES);
	pool_guest_came(rig->pool, now());
	pace_ask(&pace, &asked);
	assert_true(asked.blocks == 16 && asked.pieces == 1);
	pace_wait(&pace);
	assert_true(now() - from >= BEGIN_NS);
	return end(rig);
}

static void hurries_without_a_guest(void **state)
{
	(void)state;
	run(alone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pauses_follow_the_guest),
		cmocka_unit_test(pauses_are_short_when_it_is_urgent),
		cmocka_unit_test(pauses_begin_anew_when_nothing_is_known),
		cmocka_unit_test(hurries_without_a_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
