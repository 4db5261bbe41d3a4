/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "fake.h"
#include "reactor/reactor.h"

#define LIMIT_NS (50 * NSEC_PER_USEC)

/* A queue that a guest fills, seen by a poller. */
struct source {
	struct reactor_poller poller;
	struct reactor *reactor;
	struct fake *fake;
	unsigned there, taken, polls, sleeps;
	unsigned comes_late;    /* arrives while sleep() looks */
	uint64_t turn_costs_ns; /* of each poll */
	bool armed, stops;
};

static bool source_poll(struct reactor_poller *poller)
{
	struct source *source = CONTAINER_OF(poller, struct source, poller);
	bool found = source->there > 0;

	source->armed = false;
	source->polls++;
	source->taken += source->there;
	source->there = 0;
	source->fake->now_ns += source->turn_costs_ns;
	if (source->stops)
		reactor_poller_stop(source->reactor, poller);
	return found;
}

static bool source_sleep(struct reactor_poller *poller)
{
	struct source *source = CONTAINER_OF(poller, struct source, poller);

	source->sleeps++;
	source->armed = true;
	source->there += source->comes_late;
	source->comes_late = 0;
	return source->there == 0;
}

static void set_up(struct source *source, struct fake *fake, uint64_t poll_ns)
{
	fake_init(fake);
	fake->now_ns = NSEC_PER_SEC;
	*source = (struct source){.fake = fake, .turn_costs_ns = NSEC_PER_USEC};
	assert_int_equal(reactor_new(&fake->world, &(struct reactor_options){.poll_ns = poll_ns},
				     &source->reactor),
			 0);
	reactor_poller_init(&source->poller, source_poll, source_sleep);
}

static void without_a_window_it_sleeps_at_once(void **state)
{
	struct fake fake;
	struct source source;

	set_up(&source, &fake, 0);
	(void)fake_run(&fake);
	assert_int_equal(source.polls, 0);
	source.there = 3;
	reactor_poller_wake(source.reactor, &source.poller);
	reactor_poller_wake(source.reactor, &source.poller);
	(void)fake_run(&fake);
	assert_int_equal(source.taken, 3);
	assert_int_equal(source.polls, 2);
	assert_int_equal(source.sleeps, 1);
	assert_true(source.armed);
	reactor_free(source.reactor);
}

static void what_comes_while_it_falls_asleep_is_found(void **state)
{
	struct fake fake;
	struct source source;

	set_up(&source, &fake, 0);
	source.comes_late = 2;
	reactor_poller_wake(source.reactor, &source.poller);
	(void)fake_run(&fake);
	assert_int_equal(source.taken, 2);
	assert_int_equal(source.sleeps, 2);
	reactor_free(source.reactor);
}

static unsigned polls_until_asleep(struct source *source, uint64_t after_ns)
{
	unsigned before = source->polls;

	source->fake->now_ns += after_ns;
	reactor_poller_wake(source->reactor, &source->poller);
	(void)fake_run(source->fake);
	return source->polls - before;
}

static void the_window_follows_the_length_of_sleeps(void **state)
{
	struct fake fake;
	struct source source;
	unsigned polls = 0;

	set_up(&source, &fake, LIMIT_NS);
	assert_int_equal(polls_until_asleep(&source, 0), 1);
	for (unsigned i = 0; i < 5; i++)
		polls = polls_until_asleep(&source, NSEC_PER_USEC);
	assert_in_range(polls, 49, 52);
	for (unsigned i = 0; i < 20; i++)
		polls = polls_until_asleep(&source, NSEC_PER_SEC);
	assert_int_equal(polls, 1);
	reactor_free(source.reactor);
}

static void a_stopped_one_is_left_alone(void **state)
{
	struct fake fake;
	struct source source;

	set_up(&source, &fake, LIMIT_NS);
	reactor_poller_wake(source.reactor, &source.poller);
	reactor_poller_stop(source.reactor, &source.poller);
	(void)fake_run(&fake);
	assert_int_equal(source.polls, 0);
	source.stops = true;
	reactor_poller_wake(source.reactor, &source.poller);
	(void)fake_run(&fake);
	assert_int_equal(source.polls, 1);
	assert_int_equal(source.sleeps, 0);
	reactor_free(source.reactor);
}

/* One that always finds something does not keep others from their turn. */
static void pollers_take_turns(void **state)
{
	struct fake fake;
	struct source sources[2];

	set_up(&sources[0], &fake, 0);
	sources[1] = sources[0];
	reactor_poller_init(&sources[1].poller, source_poll, source_sleep);
	reactor_poller_wake(sources[0].reactor, &sources[0].poller);
	reactor_poller_wake(sources[0].reactor, &sources[1].poller);
	for (unsigned i = 0; i < 10; i++) {
		sources[0].there = sources[1].there = 1;
		assert_true(fake_step(&fake));
	}
	assert_int_equal(sources[0].polls, 10);
	assert_int_equal(sources[1].polls, 10);
	(void)fake_run(&fake);
	reactor_free(sources[0].reactor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_window_it_sleeps_at_once),
		cmocka_unit_test(what_comes_while_it_falls_asleep_is_found),
		cmocka_unit_test(the_window_follows_the_length_of_sleeps),
		cmocka_unit_test(a_stopped_one_is_left_alone),
		cmocka_unit_test(pollers_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
