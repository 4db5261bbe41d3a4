/* SPDX-License-Identifier: Apache-2.0 */
/* Reactors on threads of their own. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/macros.h"
#include "reactor/fiber.h"
#include "reactor/io.h"
#include "world/real.h"

#define REACTORS 3

static struct world *world;
static struct reactor *reactors[REACTORS];
static unsigned counters[REACTORS]; /* each touched on its own reactor only */

static void start(const struct reactor_options *template)
{
	const struct world_real_options options = {.fence_fd = -1, .workers = 1};

	assert_int_equal(world_real_new(&options, &world), 0);
	for (unsigned i = 0; i < REACTORS; i++) {
		struct reactor_options one = *template;

		one.index = i;
		counters[i] = 0;
		assert_int_equal(reactor_new(world, &one, &reactors[i]), 0);
		assert_int_equal(reactor_start(reactors[i]), 0);
	}
}

static int set_up(void **state)
{
	start(&(struct reactor_options){.fibers = {4, 1, 1, 2}});
	return 0;
}

static int tear_down(void **state)
{
	for (unsigned i = 0; i < REACTORS; i++)
		reactor_stop(reactors[i]);
	for (unsigned i = 0; i < REACTORS; i++)
		reactor_free(reactors[i]);
	world_real_free(world);
	return 0;
}

static int look_around(void *arg)
{
	struct reactor *reactor = arg;
	char name[16], expected[16];
	sigset_t blocked;

	reactor_assert_home(reactor);
	ASSERT(fiber_current());
	snprintf(expected, sizeof(expected), "sarsen-r%u", reactor_index(reactor));
	ASSERT(pthread_getname_np(pthread_self(), name, sizeof(name)) == 0);
	ASSERT(strcmp(name, expected) == 0);
	ASSERT(pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0);
	ASSERT(sigismember(&blocked, SIGINT));
	ASSERT(!sigismember(&blocked, SIGSEGV));
	return 40 + (int)reactor_index(reactor);
}

static void calls_from_a_thread_without_reactor(void **state)
{
	assert_null(reactor_current());
	for (unsigned i = 0; i < REACTORS; i++)
		assert_int_equal(
			fiber_call_blocking(reactors[i], FIBER_CONTROL, look_around, reactors[i]),
			40 + (int)i);
}

static int count_up(void *arg)
{
	struct reactor *reactor = arg;

	reactor_assert_home(reactor);
	return (int)++counters[reactor_index(reactor)];
}

static void *call_often(void *arg)
{
	for (unsigned i = 0; i < 300; i++)
		(void)fiber_call_blocking(reactors[i % REACTORS], FIBER_CONTROL, count_up,
					  reactors[i % REACTORS]);
	return NULL;
}

static void calls_from_many_threads(void **state)
{
	pthread_t threads[4];

	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_often, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < REACTORS; i++)
		assert_int_equal(counters[i], 400);
}

/* Once round all reactors, by calls from calls, then back through all of them. */
static int call_next(void *arg)
{
	unsigned *left = arg;
	unsigned index = reactor_index(reactor_current());

	counters[index]++;
	if (--*left == 0)
		return 1;
	return 1 + fiber_call(reactors[(index + 1) % REACTORS], FIBER_DATA, call_next, left);
}

static int go_round_often(void *arg)
{
	int sum = 0;

	for (unsigned i = 0; i < 200; i++) {
		unsigned left = REACTORS + 1; /* the first calls itself through two others */

		sum += call_next(&left);
	}
	return sum;
}

static void calls_across_reactors(void **state)
{
	int sum = fiber_call_blocking(reactors[1], FIBER_CONTROL, go_round_often, NULL);

	assert_int_equal(sum, 200 * (REACTORS + 1));
	assert_int_equal(counters[0] + counters[1] + counters[2], 200 * (REACTORS + 1));
}

static int burst(void *arg)
{
	struct reactor *self = reactor_current();

	for (unsigned i = 0; i < 300; i++) {
		struct reactor *target = reactors[i % REACTORS];

		(void)fiber_call(target, FIBER_DATA, count_up, target);
	}
	ASSERT(reactor_current() == self);
	return 0;
}

static void *burst_thread(void *arg)
{
	(void)fiber_call_blocking(arg, FIBER_CONTROL, burst, NULL);
	return NULL;
}

static void calls_in_all_directions_at_once(void **state)
{
	pthread_t threads[2 * REACTORS];

	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, burst_thread, reactors[i % REACTORS]), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < REACTORS; i++)
		assert_int_equal(counters[i], 600);
}

static int sleep_a_little(void *arg)
{
	uint64_t start_ns = reactor_now_ns(reactor_current());

	fiber_sleep(5 * NSEC_PER_MSEC);
	ASSERT(reactor_now_ns(reactor_current()) >= start_ns + 5 * NSEC_PER_MSEC);
	return 0;
}

static int get_turns(void *arg)
{
	struct reactor_stats stats;

	reactor_get_stats(reactor_current(), &stats);
	return (int)stats.turns;
}

static void sleeps_in_the_kernel(void **state)
{
	int before = fiber_call_blocking(reactors[0], FIBER_CONTROL, get_turns, NULL);
	int after;

	(void)fiber_call_blocking(reactors[0], FIBER_CONTROL, sleep_a_little, NULL);
	after = fiber_call_blocking(reactors[0], FIBER_CONTROL, get_turns, NULL);
	assert_true(after - before < 10);
}

static int get_sleeps(void *arg)
{
	struct reactor_stats stats;

	reactor_get_stats(reactor_current(), &stats);
	return (int)stats.sleeps;
}

/* The calls come in quick succession, so that polling pays; it ends when nothing comes any more. */
static void polls_for_a_while_when_asked(void **state)
{
	const struct timespec pause = {.tv_nsec = 20 * NSEC_PER_MSEC};
	int turns, sleeps;

	start(&(struct reactor_options){.poll_ns = NSEC_PER_MSEC});
	calls_across_reactors(NULL);
	turns = fiber_call_blocking(reactors[0], FIBER_CONTROL, get_turns, NULL);
	sleeps = fiber_call_blocking(reactors[0], FIBER_CONTROL, get_sleeps, NULL);
	assert_true(sleeps < turns);
	nanosleep(&pause, NULL);
	assert_true(fiber_call_blocking(reactors[0], FIBER_CONTROL, get_sleeps, NULL) > sleeps);
	tear_down(NULL);
}

static int get_affinity(void *arg)
{
	cpu_set_t set;

	ASSERT(sched_getaffinity(0, sizeof(set), &set) == 0);
	return CPU_COUNT(&set);
}

static void pins_when_asked(void **state)
{
	start(&(struct reactor_options){.pin = true});
	for (unsigned i = 0; i < REACTORS; i++)
		assert_int_equal(
			fiber_call_blocking(reactors[i], FIBER_CONTROL, get_affinity, NULL), 1);
	tear_down(NULL);
}

static void stopping_twice_has_no_effect(void **state)
{
	reactor_stop(reactors[0]);
	reactor_stop(reactors[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(calls_from_a_thread_without_reactor),
		TEST(calls_from_many_threads),
		TEST(calls_across_reactors),
		TEST(calls_in_all_directions_at_once),
		TEST(sleeps_in_the_kernel),
		TEST(stopping_twice_has_no_effect),
		cmocka_unit_test(polls_for_a_while_when_asked),
		cmocka_unit_test(pins_when_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
