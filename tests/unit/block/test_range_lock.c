/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/chance.h"
#include "block/range_lock.h"
#include "sim_rig.h"

#define CLAIMS 24
#define UNITS 32

struct tracked {
	struct range_claim claim;
	bool wanted, held;
	uint64_t arrival;
};

static struct tracked tracked[CLAIMS];

static void on_granted(struct range_claim *claim)
{
	struct tracked *t = CONTAINER_OF(claim, struct tracked, claim);

	assert_true(t->wanted && !t->held);
	t->held = true;
}

static bool conflict(const struct tracked *a, const struct tracked *b)
{
	return (a->claim.mode == RANGE_LOCK_EXCLUSIVE || b->claim.mode == RANGE_LOCK_EXCLUSIVE) &&
	       a->claim.offset < b->claim.offset + b->claim.length &&
	       b->claim.offset < a->claim.offset + a->claim.length;
}

/* A claim is held exactly when no earlier claim is in conflict with it. */
static void check_all(void)
{
	for (int i = 0; i < CLAIMS; i++) {
		bool blocked = false;

		if (!tracked[i].wanted)
			continue;
		for (int j = 0; j < CLAIMS; j++)
			if (tracked[j].wanted && tracked[j].arrival < tracked[i].arrival)
				blocked |= conflict(&tracked[i], &tracked[j]);
		assert_int_equal(tracked[i].held, !blocked);
	}
}

static void take(struct range_lock *lock, struct chance *chance, struct tracked *t)
{
	uint64_t offset = chance_below(chance, UNITS);

	t->claim = (struct range_claim){
		.offset = offset,
		.length = 1 + chance_below(chance, MIN(UNITS - offset, UINT64_C(8))),
		.mode = chance_below(chance, 3) ? RANGE_LOCK_SHARED : RANGE_LOCK_EXCLUSIVE,
		.granted = on_granted,
	};
	t->wanted = true;
	t->held = range_lock_take(lock, &t->claim);
}

static void agrees_with_brute_force(void **state)
{
	struct range_lock lock;
	struct chance chance;

	(void)state;
	range_lock_init(&lock);
	chance_init(&chance, 1);
	for (uint64_t step = 1; step < 20000; step++) {
		struct tracked *t = &tracked[chance_below(&chance, CLAIMS)];

		if (!t->wanted) {
			t->arrival = step;
			take(&lock, &chance, t);
		} else if (t->held) {
			t->held = t->wanted = false;
			range_lock_release(&lock, &t->claim);
		}
		check_all();
	}
	for (int left = CLAIMS; left > 0; left--)
		for (int i = 0; i < CLAIMS; i++)
			if (tracked[i].held) {
				tracked[i].held = tracked[i].wanted = false;
				range_lock_release(&lock, &tracked[i].claim);
			}
	assert_true(range_lock_is_idle(&lock));
	assert_int_equal(lock.exclusive_count, 0);
}

struct contender {
	struct range_lock *lock;
	int *inside;
	int *passes;
};

static void enter_and_leave(void *arg)
{
	struct contender *contender = arg;

	for (int i = 0; i < 50; i++) {
		struct range_claim claim = {.length = 1, .mode = RANGE_LOCK_EXCLUSIVE};

		range_lock_wait(contender->lock, &claim);
		assert_int_equal((*contender->inside)++, 0);
		fiber_yield();
		(*contender->inside)--;
		(*contender->passes)++;
		range_lock_release(contender->lock, &claim);
	}
}

static void fibers_exclude_each_other(void **state)
{
	struct sim_rig_task tasks[5];
	struct range_lock lock;
	int inside = 0, passes = 0;
	struct contender contender = {&lock, &inside, &passes};
	struct sim_rig rig;

	(void)state;
	sim_rig_init(&rig, 1, 1);
	range_lock_init(&lock);
	for (unsigned i = 0; i < ARRAY_SIZE(tasks); i++) {
		tasks[i] = (struct sim_rig_task){.run = enter_and_leave, .arg = &contender};
		sim_rig_start(&rig, 0, &tasks[i]);
	}
	assert_int_equal(sim_rig_wait(&rig, tasks, ARRAY_SIZE(tasks), NSEC_PER_SEC), 0);
	assert_int_equal(passes, 50 * ARRAY_SIZE(tasks));
	sim_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_brute_force),
		cmocka_unit_test(fibers_exclude_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
