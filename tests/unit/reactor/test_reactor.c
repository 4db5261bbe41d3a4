/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "fake.h"
#include "reactor/reactor.h"

static struct fake fake;
static struct reactor *reactor;
static char record[256]; /* what ran, one letter each */

static void note(char letter)
{
	size_t length = strlen(record);

	assert_true(length < sizeof(record) - 1);
	record[length] = letter;
	record[length + 1] = 0;
}

static int set_up(void **state)
{
	fake_init(&fake);
	reactor = fake_reactor(&fake, 0);
	record[0] = 0;
	return 0;
}

static int tear_down(void **state)
{
	reactor_free(reactor);
	return 0;
}

struct step {
	char letter;
	struct reactor_work work;
	struct reactor_hook hook;
	struct reactor_timer timer;
	struct world_message message;
	struct step *defers, *arms, *cancels;
	uint64_t arms_at_ns;
	struct reactor_hook *hooks;
};

static void step_act(struct step *step)
{
	assert_ptr_equal(reactor_current(), reactor);
	note(step->letter);
	if (step->defers)
		reactor_defer(reactor, &step->defers->work);
	if (step->arms)
		reactor_timer_arm(reactor, &step->arms->timer, step->arms_at_ns);
	if (step->cancels)
		reactor_timer_cancel(reactor, &step->cancels->timer);
	if (step->hooks)
		reactor_hook_arm(reactor, step->hooks);
}

static void step_work(struct reactor_work *work)
{
	step_act(CONTAINER_OF(work, struct step, work));
}

static void step_hook(struct reactor_hook *hook)
{
	step_act(CONTAINER_OF(hook, struct step, hook));
}

static void step_timer(struct reactor_timer *timer)
{
	struct step *step = CONTAINER_OF(timer, struct step, timer);

	assert_false(timer->armed);
	assert_true(timer->deadline_ns <= reactor_turn_ns(reactor));
	step_act(step);
}

static void step_message(struct world_message *message)
{
	step_act(CONTAINER_OF(message, struct step, message));
}

static struct step step_make(char letter)
{
	struct step step = {.letter = letter,
			    .work.run = step_work,
			    .timer.run = step_timer,
			    .message.run = step_message};

	return step;
}

static void runs_deferred_work_in_order(void **state)
{
	struct step a = step_make('a'), b = step_make('b'), c = step_make('c');

	a.defers = &c; /* behind b, but in the same turn */
	reactor_defer(reactor, &a.work);
	reactor_defer(reactor, &b.work);
	assert_string_equal(record, "");
	assert_true(fake_step(&fake));
	assert_string_equal(record, "abc");
	assert_null(reactor_current());
}

static void bounds_the_rounds_of_a_turn(void **state)
{
	struct step forever = step_make('.');

	forever.defers = &forever;
	reactor_defer(reactor, &forever.work);
	assert_true(fake_step(&fake));
	assert_int_equal(strlen(record), 64);
	forever.defers = NULL;
	fake_run(&fake);
	assert_int_equal(strlen(record), 65);
}

static void runs_hooks_last_and_once(void **state)
{
	struct step work = step_make('w'), hook = step_make('h'), after = step_make('a');

	reactor_hook_init(&hook.hook, step_hook);
	work.hooks = &hook.hook;
	hook.defers = &after;
	reactor_hook_arm(reactor, &hook.hook);
	reactor_hook_arm(reactor, &hook.hook);
	reactor_defer(reactor, &work.work);
	assert_true(fake_step(&fake));
	assert_string_equal(record, "wh");
	fake_run(&fake);
	assert_string_equal(record, "wha");
}

static void a_hook_may_arm_itself_and_be_disarmed(void **state)
{
	struct step hook = step_make('h');

	reactor_hook_init(&hook.hook, step_hook);
	hook.hooks = &hook.hook;
	reactor_hook_arm(reactor, &hook.hook);
	assert_true(fake_step(&fake));
	assert_true(fake_step(&fake));
	assert_string_equal(record, "hh");
	reactor_hook_disarm(&hook.hook);
	fake_run(&fake);
	assert_string_equal(record, "hh");
}

static void runs_timers_by_deadline_then_arming(void **state)
{
	struct step a = step_make('a'), b = step_make('b'), c = step_make('c'), d = step_make('d');

	reactor_timer_arm(reactor, &a.timer, 5000);
	reactor_timer_arm(reactor, &b.timer, 4000);
	reactor_timer_arm(reactor, &c.timer, 5000);
	reactor_timer_arm(reactor, &d.timer, 4000);
	reactor_timer_arm(reactor, &a.timer, 5000); /* armed again: now behind c */
	fake_run(&fake);
	assert_string_equal(record, "bdca");
	assert_int_equal(fake.now_ns, 5000);
}

static void a_timer_may_cancel_another(void **state)
{
	struct step a = step_make('a'), b = step_make('b'), c = step_make('c');

	a.cancels = &b;
	reactor_timer_arm(reactor, &a.timer, 3000);
	reactor_timer_arm(reactor, &b.timer, 3000);
	reactor_timer_arm(reactor, &c.timer, 3000);
	fake_run(&fake);
	assert_string_equal(record, "ac");
	assert_false(b.timer.armed);
	reactor_timer_cancel(reactor, &b.timer);
}

static void a_timer_armed_by_a_timer_waits_for_the_next_turn(void **state)
{
	struct step a = step_make('a'), b = step_make('b'), late = step_make('l');

	a.arms = &late;
	a.arms_at_ns = 1; /* long past, yet not before b */
	reactor_timer_arm(reactor, &a.timer, 2000);
	reactor_timer_arm(reactor, &b.timer, 2000);
	while (!*record) {
		if (!fake_step(&fake))
			fake.now_ns += 500;
	}
	assert_string_equal(record, "ab");
	fake_run(&fake);
	assert_string_equal(record, "abl");
}

static void messages_run_first_and_in_order(void **state)
{
	struct step a = step_make('a'), b = step_make('b'), work = step_make('w'),
		    timer = step_make('t');

	a.defers = &work;
	reactor_timer_arm(reactor, &timer.timer, 1000);
	reactor_post(reactor, &a.message);
	reactor_post(reactor, &b.message);
	assert_true(fake_step(&fake));
	assert_string_equal(record, "abtw");
}

static void work_from_outside_wakes_the_reactor(void **state)
{
	struct step work = step_make('w');

	fake_run(&fake);
	assert_false(fake_step(&fake));
	reactor_defer(reactor, &work.work);
	assert_true(fake_step(&fake));
	assert_string_equal(record, "w");
}

static void idle_asks_for_no_turns(void **state)
{
	struct step work = step_make('w');
	struct reactor_stats stats;

	reactor_defer(reactor, &work.work);
	assert_true(fake_run(&fake) <= 3);
	reactor_get_stats(reactor, &stats);
	assert_true(stats.turns <= 3);
	assert_int_equal(fake_run(&fake), 0);
}

static void jump_the_clock(struct reactor_work *work)
{
	fake.now_ns += 6 * NSEC_PER_MSEC;
}

static void counts_slow_turns(void **state)
{
	struct reactor_work slow = {.run = jump_the_clock};
	struct reactor_stats stats;

	reactor_defer(reactor, &slow);
	fake_run(&fake);
	reactor_get_stats(reactor, &stats);
	assert_int_equal(stats.slow_turns, 1);
	assert_int_equal(stats.longest_turn_ns, 6 * NSEC_PER_MSEC);
}

static void new_fails_cleanly(void **state)
{
	const struct reactor_options options = {.index = 1};
	struct reactor *other = NULL;

	fake.open_error = -EMFILE;
	assert_int_equal(reactor_new(&fake.world, &options, &other), -EMFILE);
	assert_null(other);
	reactor_free(NULL);
	fake.open_error = 0;
	assert_int_equal(reactor_new(&fake.world, &options, &other), 0);
	assert_int_equal(reactor_index(other), 1);
	assert_ptr_equal(reactor_world(other), &fake.world);
	assert_ptr_equal(reactor_port(other), &fake.ports[1]);
	reactor_free(other);
}

static void refuses_bad_options(void **state)
{
	struct reactor_options options = {.index = 1, .stack_bytes = REACTOR_STACK_MIN_BYTES - 1};
	struct reactor *other = NULL;

	assert_int_equal(reactor_new(&fake.world, &options, &other), -EINVAL);
	options.stack_bytes = REACTOR_STACK_MIN_BYTES;
	options.fibers[FIBER_CONTROL] = REACTOR_FIBERS_MAX + 1;
	assert_int_equal(reactor_new(&fake.world, &options, &other), -EINVAL);
	options.fibers[FIBER_CONTROL] = REACTOR_FIBERS_MAX;
	options.fibers_most[FIBER_DATA] = REACTOR_FIBERS_MAX + 1;
	assert_int_equal(reactor_new(&fake.world, &options, &other), -EINVAL);
	options.fibers_most[FIBER_DATA] = 0;
	assert_null(other);
	assert_int_equal(reactor_new(&fake.world, &options, &other), 0);
	reactor_free(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(runs_deferred_work_in_order),
		TEST(bounds_the_rounds_of_a_turn),
		TEST(runs_hooks_last_and_once),
		TEST(a_hook_may_arm_itself_and_be_disarmed),
		TEST(runs_timers_by_deadline_then_arming),
		TEST(a_timer_may_cancel_another),
		TEST(a_timer_armed_by_a_timer_waits_for_the_next_turn),
		TEST(messages_run_first_and_in_order),
		TEST(work_from_outside_wakes_the_reactor),
		TEST(idle_asks_for_no_turns),
		TEST(counts_slow_turns),
		TEST(new_fails_cleanly),
		TEST(refuses_bad_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
