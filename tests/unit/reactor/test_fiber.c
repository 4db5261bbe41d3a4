/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "fake.h"
#include "reactor/fiber.h"

static struct fake fake;
static struct reactor *reactor;
static char record[256];

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

struct actor {
	struct fiber_task task;
	char letter;
	struct fiber *fiber;
	unsigned times;
};

static struct fiber_queue queue;
static struct fiber_mutex mutex;

static void spawn(struct actor *actor, char letter, void (*run)(struct fiber_task *task))
{
	*actor = (struct actor){.letter = letter, .task.run = run};
	fiber_spawn(reactor, FIBER_DATA, &actor->task);
}

static struct actor *actor_of(struct fiber_task *task)
{
	struct actor *actor = CONTAINER_OF(task, struct actor, task);

	actor->fiber = fiber_current();
	assert_non_null(actor->fiber);
	return actor;
}

static void note_twice(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	note(actor->letter);
	fiber_suspend();
	note(actor->letter);
}

static void spawns_and_wakes_in_order(void **state)
{
	struct actor a, b;

	spawn(&a, 'a', note_twice);
	spawn(&b, 'b', note_twice);
	assert_string_equal(record, "");
	fake_run(&fake);
	assert_string_equal(record, "ab");
	fiber_wake(b.fiber);
	fiber_wake(a.fiber);
	fiber_wake(a.fiber); /* one pending wake at most: this one finds it ready already */
	fake_run(&fake);
	assert_string_equal(record, "abba");
	assert_null(fiber_current());
}

static void wake_itself_then_suspend(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	fiber_wake(actor->fiber);
	fiber_wake(actor->fiber);
	fiber_suspend(); /* returns at once */
	note('1');
	fiber_suspend(); /* waits: two wakes counted as one */
	note('2');
}

static void a_wake_before_the_suspend_counts_once(void **state)
{
	struct actor a;

	spawn(&a, 'a', wake_itself_then_suspend);
	fake_run(&fake);
	assert_string_equal(record, "1");
	fiber_wake(a.fiber);
	fake_run(&fake);
	assert_string_equal(record, "12");
}

static void finish_with_a_pending_wake(struct fiber_task *task)
{
	fiber_wake(actor_of(task)->fiber);
}

static void a_pending_wake_ends_with_its_task(void **state)
{
	struct actor a, b;

	spawn(&a, 'a', finish_with_a_pending_wake);
	fake_run(&fake);
	spawn(&b, 'b', note_twice);
	fake_run(&fake);
	assert_ptr_equal(a.fiber, b.fiber);
	assert_string_equal(record, "b");
	fiber_wake(b.fiber);
	fake_run(&fake);
	assert_string_equal(record, "bb");
}

/* Every class: as many fibers as it has run at once, the rest follow in order. */
static void tasks_queue_when_a_class_is_exhausted(void **state)
{
	static const unsigned sizes[FIBER_CLASS_COUNT] = {3, 2, 1, 2, 2};

	for (unsigned class = 0; class < FIBER_CLASS_COUNT; class ++) {
		struct actor actors[6] = {0};
		struct reactor_stats stats;
		char expected[] = "aabbccddeeff";

		record[0] = 0;
		for (unsigned i = 0; i < 6; i++) {
			actors[i].letter = (char)('a' + i);
			actors[i].task.run = note_twice;
			fiber_spawn(reactor, class, &actors[i].task);
		}
		fake_run(&fake);
		reactor_get_stats(reactor, &stats);
		assert_int_equal(strlen(record), sizes[class]);
		assert_int_equal(stats.fibers_in_use[class], sizes[class]);
		assert_int_equal(stats.fibers_queued[class], 6 - sizes[class]);
		for (unsigned i = 0; i < 6; i++) {
			fiber_wake(actors[i].fiber);
			fake_run(&fake);
		}
		reactor_get_stats(reactor, &stats);
		assert_int_equal(stats.fibers_in_use[class], 0);
		assert_int_equal(stats.fibers_queued[class], 0);
		if (sizes[class] == 1)
			assert_string_equal(record, expected);
		assert_int_equal(strlen(record), 12);
	}
}

static void a_task_that_waits_can_be_taken_back(void **state)
{
	struct actor actors[5] = {0};
	struct reactor_stats stats;

	for (unsigned i = 0; i < 5; i++) {
		actors[i] = (struct actor){.letter = (char)('a' + i), .task.run = note_twice};
		fiber_spawn(reactor, FIBER_CHECKPOINT, &actors[i].task);
	}
	assert_false(fiber_unspawn(reactor, &actors[0].task));
	assert_true(fiber_unspawn(reactor, &actors[3].task));
	assert_false(fiber_unspawn(reactor, &actors[3].task));
	reactor_get_stats(reactor, &stats);
	assert_int_equal(stats.fibers_queued[FIBER_CHECKPOINT], 2);
	fake_run(&fake);
	assert_false(fiber_unspawn(reactor, &actors[0].task));
	for (unsigned i = 0; i < 5; i++) {
		if (i == 3)
			continue;
		fiber_wake(actors[i].fiber);
		fake_run(&fake);
	}
	assert_string_equal(record, "abacbece");
	reactor_get_stats(reactor, &stats);
	assert_int_equal(stats.fibers_in_use[FIBER_CHECKPOINT], 0);
	assert_int_equal(stats.fibers_queued[FIBER_CHECKPOINT], 0);
}

/* What the kernel refuses is as if there were fewer fibers; nothing overtakes what waited. */
static void stacks_that_cannot_be_had_are_waited_for(void **state)
{
	struct rlimit before, none;
	struct reactor_options options = {.index = 1, .fibers = {8, 1, 1, 1, 1}};
	struct actor actors[8] = {0};
	struct reactor_stats stats;
	struct reactor *many;

	assert_int_equal(reactor_new(&fake.world, &options, &many), 0);
	getrlimit(RLIMIT_DATA, &before);
	none = before;
	none.rlim_cur = 4096; /* the kernel lets 0 pass */
	setrlimit(RLIMIT_DATA, &none);
	for (unsigned i = 0; i < 7; i++) {
		actors[i] = (struct actor){.letter = (char)('a' + i), .task.run = note_twice};
		fiber_spawn(many, FIBER_DATA, &actors[i].task);
	}
	setrlimit(RLIMIT_DATA, &before);
	reactor_get_stats(many, &stats);
	assert_int_equal(stats.fibers_in_use[FIBER_DATA], 4);
	assert_int_equal(stats.fibers_queued[FIBER_DATA], 3);
	actors[7] = (struct actor){.letter = 'h', .task.run = note_twice};
	fiber_spawn(many, FIBER_DATA, &actors[7].task);
	fake_run(&fake);
	assert_string_equal(record, "abcde");
	for (unsigned i = 0; i < 8; i++) {
		fiber_wake(actors[i].fiber);
		fake_run(&fake);
	}
	assert_string_equal(record, "abcdeafbgchdefgh");
	reactor_free(many);
}

#define USUAL 16u  /* for checkpoints, ... */
#define MOST  512u /* ... when they stand still */

static struct reactor *reactor_with_defaults(void)
{
	const struct reactor_options options = {.index = 1};
	struct reactor *made;

	assert_int_equal(reactor_new(&fake.world, &options, &made), 0);
	return made;
}

static void suspend_once(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	actor->times++;
	fiber_suspend();
}

static void expect_fibers(const struct reactor *of, enum fiber_class class, unsigned in_use,
			  unsigned queued)
{
	struct reactor_stats stats;

	reactor_get_stats(of, &stats);
	assert_int_equal(stats.fibers_in_use[class], in_use);
	assert_int_equal(stats.fibers_queued[class], queued);
}

static void run_for(uint64_t duration_ns)
{
	uint64_t end_ns = fake.now_ns + duration_ns;

	for (; fake.now_ns < end_ns; fake.now_ns += 10 * NSEC_PER_MSEC)
		while (fake_step(&fake))
			;
}

/* Up to a limit, which holds; and when they have ended it is as before. */
static void fibers_that_stand_still_are_made_up_for(void **state)
{
	static struct actor actors[MOST + 8];
	struct reactor *many = reactor_with_defaults();

	for (unsigned i = 0; i < 70; i++) {
		actors[i] = (struct actor){.task.run = suspend_once};
		fiber_spawn(many, FIBER_CHECKPOINT, &actors[i].task);
	}
	expect_fibers(many, FIBER_CHECKPOINT, USUAL, 70 - USUAL);
	run_for(NSEC_PER_SEC / 4);
	expect_fibers(many, FIBER_CHECKPOINT, USUAL, 70 - USUAL);
	run_for(4 * NSEC_PER_SEC);
	expect_fibers(many, FIBER_CHECKPOINT, 70, 0);
	for (unsigned i = 70; i < MOST + 8; i++) {
		actors[i] = (struct actor){.task.run = suspend_once};
		fiber_spawn(many, FIBER_CHECKPOINT, &actors[i].task);
	}
	fake_run(&fake);
	expect_fibers(many, FIBER_CHECKPOINT, MOST, 8);
	for (unsigned i = 0; i < MOST + 8; i++) {
		fiber_wake(actors[i].fiber);
		fake_run(&fake);
		assert_int_equal(actors[i].times, 1);
	}
	expect_fibers(many, FIBER_CHECKPOINT, 0, 0);
	for (unsigned i = 0; i < USUAL + 1; i++)
		fiber_spawn(many, FIBER_CHECKPOINT, &actors[i].task);
	expect_fibers(many, FIBER_CHECKPOINT, USUAL, 1);
	assert_true(fiber_unspawn(many, &actors[USUAL].task));
	fake_run(&fake);
	for (unsigned i = 0; i < USUAL; i++)
		fiber_wake(actors[i].fiber);
	fake_run(&fake);
	reactor_free(many);
}

static void sleep_often(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	for (actor->times = 0; actor->times < 30; actor->times++)
		fiber_sleep(100 * NSEC_PER_MSEC);
}

static void look_often(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	for (actor->times = 0; actor->times < 30; actor->times++)
		assert_false(fiber_queue_wait_until(&queue, fake.now_ns + 100 * NSEC_PER_MSEC));
}

/* One more than usual of a class waits behind those that go on for 3 s. Returns how long. */
static uint64_t wait_behind(enum fiber_class class, void (*work)(struct fiber_task *task))
{
	static struct actor actors[USUAL + 1];
	struct reactor *busy = reactor_with_defaults();
	uint64_t began = fake.now_ns, waited;

	for (unsigned i = 0; i < USUAL; i++) {
		actors[i] = (struct actor){.task.run = work};
		fiber_spawn(busy, class, &actors[i].task);
	}
	actors[USUAL] = (struct actor){.task.run = suspend_once};
	fiber_spawn(busy, class, &actors[USUAL].task);
	while (actors[USUAL].times == 0) {
		assert_true(fake.now_ns < began + 10 * NSEC_PER_SEC);
		fake.now_ns += 10 * NSEC_PER_MSEC;
		(void)fake_step(&fake);
	}
	waited = fake.now_ns - began;
	fiber_wake(actors[USUAL].fiber);
	fake_run(&fake);
	expect_fibers(busy, class, 0, 0);
	reactor_free(busy);
	return waited;
}

/* Reclaim that goes on is no reason for more of it; all others are, that take long. */
static void long_work_is_waited_for_in_reclaim(void **state)
{
	fiber_queue_init(&queue);
	assert_true(wait_behind(FIBER_RECLAIM, sleep_often) >= 3 * NSEC_PER_SEC);
	assert_true(wait_behind(FIBER_RECLAIM, look_often) <= 2 * NSEC_PER_SEC);
	assert_true(wait_behind(FIBER_CHECKPOINT, sleep_often) <= 2 * NSEC_PER_SEC);
}

static void fibers_grow_as_far_as_asked_for(void **state)
{
	const struct reactor_options options = {
		.index = 1, .fibers = {2, 2}, .fibers_most = {4, 1}};
	struct actor actors[2][6] = {0};
	struct reactor *some;

	assert_int_equal(reactor_new(&fake.world, &options, &some), 0);
	for (unsigned class = 0; class < 2; class ++)
		for (unsigned i = 0; i < 6; i++) {
			actors[class][i].task.run = suspend_once;
			fiber_spawn(some, class, &actors[class][i].task);
		}
	fake_run(&fake);
	expect_fibers(some, 0, 4, 2);
	expect_fibers(some, 1, 2, 4);
	for (unsigned class = 0; class < 2; class ++)
		for (unsigned i = 0; i < 6; i++) {
			fiber_wake(actors[class][i].fiber);
			fake_run(&fake);
		}
	expect_fibers(some, 0, 0, 0);
	expect_fibers(some, 1, 0, 0);
	reactor_free(some);
}

static void full_class_leaves_others_alone(void **state)
{
	struct actor actors[4];
	struct actor control = {.letter = 'C', .task.run = note_twice};

	for (unsigned i = 0; i < 4; i++)
		spawn(&actors[i], (char)('a' + i), note_twice);
	fiber_spawn(reactor, FIBER_CONTROL, &control.task);
	fake_run(&fake);
	assert_string_equal(record, "abcC");
	for (unsigned i = 0; i < 4; i++) {
		fiber_wake(actors[i].fiber);
		fake_run(&fake);
	}
	fiber_wake(control.fiber);
	fake_run(&fake);
	assert_string_equal(record, "abcCadbcdC");
}

static void yield_thrice(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	for (int i = 0; i < 3; i++) {
		note(actor->letter);
		fiber_yield();
	}
}

static void yielding_takes_turns(void **state)
{
	struct actor a, b;

	spawn(&a, 'a', yield_thrice);
	spawn(&b, 'b', yield_thrice);
	fake_run(&fake);
	assert_string_equal(record, "ababab");
}

static void arrived(struct world_message *message)
{
	note('m');
}

static void yield_until_the_message_ran(struct fiber_task *task)
{
	struct world_message message = {.run = arrived};
	unsigned yields = 0;

	reactor_post(reactor, &message);
	for (; !*record; yields++)
		fiber_yield();
	actor_of(task)->times = yields;
}

static void yielding_lets_messages_run(void **state)
{
	struct actor a;

	spawn(&a, 'a', yield_until_the_message_ran);
	fake_run(&fake);
	assert_int_equal(a.times, 1);
}

static int get_own_fiber(void *arg)
{
	*(struct fiber **)arg = fiber_current();
	return 7;
}

static void call_own_reactor(struct fiber_task *task)
{
	struct fiber *inside = NULL;

	actor_of(task)->times =
		(unsigned)fiber_call(reactor, FIBER_CONTROL, get_own_fiber, &inside);
	ASSERT(inside == fiber_current());
}

static void a_call_to_the_own_reactor_is_direct(void **state)
{
	struct actor a;

	spawn(&a, 'a', call_own_reactor);
	fake_run(&fake);
	assert_int_equal(a.times, 7);
}

static void wake_while_yielding(struct fiber_task *task)
{
	fiber_wake(actor_of(task)->fiber);
	fiber_yield();
	note('y');
	fiber_suspend(); /* the wake from before the yield still counts */
	note('s');
}

static void a_yield_keeps_a_pending_wake(void **state)
{
	struct actor a;

	spawn(&a, 'a', wake_while_yielding);
	fake_run(&fake);
	assert_string_equal(record, "ys");
}

static void sleep_and_note(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);
	uint64_t start_ns = reactor_now_ns(reactor);
	uint64_t wait_ns = (uint64_t)(actor->letter - '0') * NSEC_PER_MSEC;

	fiber_wake(actor->fiber); /* a stray wake does not end a sleep */
	fiber_sleep(wait_ns);
	assert_int_equal(reactor_now_ns(reactor), start_ns + wait_ns);
	note(actor->letter);
}

static void sleeps_in_virtual_time(void **state)
{
	struct actor actors[3];

	spawn(&actors[0], '3', sleep_and_note);
	spawn(&actors[1], '1', sleep_and_note);
	spawn(&actors[2], '2', sleep_and_note);
	fake_run(&fake);
	assert_string_equal(record, "123");
}

static void wait_in_queue(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	fiber_queue_wait(&queue);
	note(actor->letter);
}

static void wait_in_queue_briefly(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	fiber_wake(actor->fiber); /* a stray wake does not end the wait */
	note(fiber_queue_wait_until(&queue, reactor_now_ns(reactor) + 500) ? actor->letter : '-');
}

static void a_queue_wakes_in_order(void **state)
{
	struct actor a, b, c;

	fiber_queue_init(&queue);
	assert_false(fiber_queue_wake_one(&queue));
	spawn(&a, 'a', wait_in_queue);
	spawn(&b, 'b', wait_in_queue);
	spawn(&c, 'c', wait_in_queue);
	fake_run(&fake);
	assert_true(fiber_queue_wake_one(&queue));
	fake_run(&fake);
	assert_string_equal(record, "a");
	fiber_queue_wake_all(&queue);
	fake_run(&fake);
	assert_string_equal(record, "abc");
	assert_false(fiber_queue_wake_one(&queue));
}

static void a_queue_times_out(void **state)
{
	struct actor a, b;

	fiber_queue_init(&queue);
	spawn(&a, 'a', wait_in_queue_briefly);
	spawn(&b, 'b', wait_in_queue_briefly);
	while (fake_step(&fake))
		;
	assert_true(fiber_queue_wake_one(&queue));
	fake_run(&fake);
	assert_string_equal(record, "a-");
	assert_false(fiber_queue_wake_one(&queue));
}

/* Locks again and again: whoever waits gets it in between. */
static void lock_thrice(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	for (int i = 0; i < 3; i++) {
		fiber_mutex_lock(&mutex);
		note(actor->letter);
		fiber_yield();
		assert_ptr_equal(mutex.owner, actor->fiber);
		fiber_mutex_unlock(&mutex);
	}
}

static void a_mutex_is_fair(void **state)
{
	struct actor a, b, c;

	fiber_mutex_init(&mutex);
	spawn(&a, 'a', lock_thrice);
	spawn(&b, 'b', lock_thrice);
	spawn(&c, 'c', lock_thrice);
	fake_run(&fake);
	assert_string_equal(record, "abcabcabc");
	assert_null(mutex.owner);
}

static void count_and_respawn(struct fiber_task *task)
{
	struct actor *actor = actor_of(task);

	if (++actor->times < 2500)
		fiber_spawn(reactor, FIBER_DATA, &actor->task);
}

static void survives_ten_thousand_spawns(void **state)
{
	struct actor actors[4];

	for (unsigned i = 0; i < 4; i++)
		spawn(&actors[i], 'x', count_and_respawn);
	fake_run(&fake);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(actors[i].times, 2500);
}

static unsigned use_stack(unsigned depth)
{
	volatile char page[1024];

	page[0] = (char)depth;
	page[sizeof(page) - 1] = (char)depth;
	if (depth == 0)
		return 0;
	if (depth % 8 == 0)
		fiber_yield(); /* from deep inside */
	return use_stack(depth - 1) + (page[0] == (char)depth);
}

static void use_much_stack(struct fiber_task *task)
{
	actor_of(task)->times = use_stack(32);
}

static void suspends_from_nested_calls(void **state)
{
	struct actor actors[3];

	for (unsigned i = 0; i < 3; i++)
		spawn(&actors[i], 'x', use_much_stack);
	fake_run(&fake);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(actors[i].times, 32);
}

static void freeing_a_live_fiber_aborts(void **state)
{
	struct actor a;
	pid_t child;
	int status;

	spawn(&a, 'a', note_twice);
	fake_run(&fake);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)!freopen("/dev/null", "w", stderr); /* the message is expected */
		signal(SIGABRT, SIG_DFL);
		reactor_free(reactor);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	fiber_wake(a.fiber);
	fake_run(&fake);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(spawns_and_wakes_in_order),
		TEST(a_wake_before_the_suspend_counts_once),
		TEST(a_pending_wake_ends_with_its_task),
		TEST(tasks_queue_when_a_class_is_exhausted),
		TEST(a_task_that_waits_can_be_taken_back),
		TEST(stacks_that_cannot_be_had_are_waited_for),
		TEST(full_class_leaves_others_alone),
		TEST(fibers_that_stand_still_are_made_up_for),
		TEST(long_work_is_waited_for_in_reclaim),
		TEST(fibers_grow_as_far_as_asked_for),
		TEST(yielding_takes_turns),
		TEST(yielding_lets_messages_run),
		TEST(a_call_to_the_own_reactor_is_direct),
		TEST(a_yield_keeps_a_pending_wake),
		TEST(sleeps_in_virtual_time),
		TEST(a_queue_wakes_in_order),
		TEST(a_queue_times_out),
		TEST(a_mutex_is_fair),
		TEST(survives_ten_thousand_spawns),
		TEST(suspends_from_nested_calls),
		TEST(freeing_a_live_fiber_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
