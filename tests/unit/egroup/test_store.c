/* SPDX-License-Identifier: Apache-2.0 */
/* The store's memory with very many groups: who is found, what is live, and that others get turns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "egroup/compact.h"
#include "egroup/cursor.h"
#include "egroup/store_priv.h"
#include "sim_rig.h"

#define FILES   (4 * EGROUP_FILES_A_TURN)
#define GROUPS  20000u
#define LONGEST 16u /* chains; of a table with as many buckets as groups */

static struct sim_rig rig;
static struct egroup_store *store;
static struct egroup *doomed; /* goes in the other's first turn */
static unsigned turns;        /* that others had */
static bool goes_on;

static void begin(void)
{
	store = calloc(1, sizeof(*store));
	ASSERT(store);
	store->bucket_count = 16;
	store->bucket_mask = 15;
	store->buckets = calloc(16, sizeof(struct egroup *));
	ASSERT(store->buckets);
	store->reactor = rig.reactors[0];
	list_init(&store->files);
	list_init(&store->cursors);
	list_init(&store->idle);
	list_init(&store->doomed);
	fiber_queue_init(&store->opened);
	fiber_queue_init(&store->released);
}

/* A sealed group of four slots in a file of its own, of the same id. */
static struct egroup *add(uint64_t id)
{
	struct egroup_file *file = egroup_file_new(store, id);
	struct egroup *group;

	ASSERT(file);
	file->allocated_bytes = 4 * BLOCK_BYTES;
	group = egroup_new(store, id, file);
	ASSERT(group);
	group->stream = RECORD_STREAM_LOG;
	group->sealed = true;
	group->slots = 4;
	return group;
}

static void drop(struct egroup *group)
{
	struct egroup_file *file = group->file;

	egroup_free(store, group);
	egroup_file_free(file);
}

static unsigned longest_chain(void)
{
	unsigned longest = 0;

	for (uint32_t i = 0; i < store->bucket_count; i++) {
		unsigned length = 0;

		for (const struct egroup *group = store->buckets[i]; group;
		     group = group->hash_next)
			length++;
		longest = MAX(longest, length);
	}
	return longest;
}

static void find_all(void *arg)
{
	(void)arg;
	begin();
	for (unsigned i = 0; i < GROUPS; i++) {
		(void)add(i + 1u);
		ASSERT(store->bucket_count <= MAX(store->group_count, 16u));
	}
	for (unsigned i = 0; i < GROUPS; i += 3)
		drop(egroup_find(store, i + 1u));
	for (unsigned i = 0; i < GROUPS; i++) {
		const struct egroup *group = egroup_find(store, i + 1u);

		ASSERT(i % 3 == 0 ? !group : group && group->id == i + 1u);
	}
	ASSERT(!egroup_find(store, GROUPS + 1));
	ASSERT(store->bucket_count == GROUPS && longest_chain() <= LONGEST);
	ASSERT(store->newest_id == GROUPS);
	egroup_store_close(store);
}

static void groups_are_found(void **state)
{
	(void)state;
	sim_rig_run(&rig, 0, find_all, NULL);
}

static void count_anew(void *arg)
{
	struct egroup *stale, *again, *freed;

	(void)arg;
	begin();
	stale = add(1);
	again = add(2);
	freed = add(3);
	for (uint32_t slot = 0; slot < 3; slot++)
		for (uint64_t id = 1; id <= 3; id++)
			ASSERT(egroup_set_live(store, id, slot) == 0);
	ASSERT(store->live_slots == 9);
	egroup_clear_live(store);
	ASSERT(store->live_slots == 0);
	egroup_set_dead(store, 2, 1); /* it was live before */
	ASSERT(store->live_slots == 0);
	ASSERT(egroup_set_live(store, 2, 1) == 0 && egroup_set_live(store, 2, 1) == 0);
	drop(freed); /* what was live in it does not count any more */
	ASSERT(store->live_slots == 1);
	(void)add(4); /* born meanwhile */
	ASSERT(egroup_set_live(store, 4, 0) == 0);
	egroup_live_counted(store);
	ASSERT(stale->live.count == 0 && again->live.count == 1 && store->live_slots == 2);
	egroup_set_dead(store, 2, 1);
	egroup_set_dead(store, 4, 0);
	ASSERT(store->live_slots == 0);
	egroup_store_close(store);
}

static void liveness_is_counted_anew(void **state)
{
	(void)state;
	sim_rig_run(&rig, 0, count_anew, NULL);
}

static void run_other(struct fiber_task *task)
{
	(void)task;
	for (turns = 0; goes_on;) {
		turns++;
		if (doomed) {
			struct egroup_file *file = doomed->file;

			egroup_free(store, doomed);
			egroup_file_forget(file);
			doomed = NULL;
		}
		fiber_yield();
	}
}

static void start_other(struct fiber_task *task)
{
	*task = (struct fiber_task){.run = run_other};
	goes_on = true;
	fiber_spawn(reactor_current(), FIBER_DATA, task);
}

/* Each walk over all files let the other have a turn for each slice but the last. */
static void expect_turns(void)
{
	ASSERT(turns >= FILES / EGROUP_FILES_A_TURN - 1);
	turns = 0;
}

/* All but the last. */
static void mark_dying(bool dying)
{
	for (uint64_t id = 1; id < FILES; id++)
		egroup_find(store, id)->file->dying = dying;
}

static void walk_all(void *arg)
{
	struct compact_choice choice;
	struct egroup_cursor cursor;
	struct fiber_task task;

	(void)arg;
	begin();
	for (uint64_t id = 1; id <= FILES; id++) {
		(void)add(id);
		for (uint32_t slot = 0; slot < 4; slot++)
			ASSERT(egroup_set_live(store, id, slot) == 0);
	}
	start_other(&task);
	mark_dying(true);
	egroup_cursor_init(&cursor, store, 0);
	ASSERT(egroup_cursor_next(&cursor)->id == FILES);
	expect_turns();
	egroup_cursor_done(&cursor);
	mark_dying(false);
	egroup_cursor_init(&cursor, store, FILES - 1);
	expect_turns();
	ASSERT(egroup_cursor_next(&cursor)->id == FILES);
	egroup_cursor_done(&cursor);
	egroup_live_counted(store);
	expect_turns();
	store->liveness_known = true;
	ASSERT(egroup_reap(store) == 0);
	expect_turns();
	/* The first would be one, but goes while the others are looked at. */
	for (uint32_t slot = 0; slot < 4; slot++)
		egroup_set_dead(store, 1, slot);
	doomed = egroup_find(store, 1);
	ASSERT(compact_file_use(doomed->file) == 0);
	ASSERT(!compact_choose(store, 90, &choice));
	expect_turns();
	while (store->discards > 0)
		fiber_yield();
	ASSERT(store->file_count == FILES - 1);
	for (uint64_t id = 1; id <= FILES; id++)
		for (uint32_t slot = 0; slot < 4; slot++)
			egroup_set_dead(store, id, slot);
	turns = 0;
	egroup_store_close(store);
	expect_turns();
	goes_on = false;
	fiber_yield();
}

static void others_get_turns(void **state)
{
	(void)state;
	sim_rig_run(&rig, 0, walk_all, NULL);
}

static void doom_all(void *arg)
{
	struct reactor_stats stats;

	(void)arg;
	begin();
	for (uint64_t id = 1; id <= FILES; id++) {
		struct egroup *group = add(id);
		struct egroup_file *file = group->file;

		egroup_free(store, group);
		egroup_file_forget(file);
	}
	reactor_get_stats(reactor_current(), &stats);
	ASSERT(stats.fibers_in_use[FIBER_RECLAIM] == EGROUP_DISCARDERS);
	ASSERT(stats.fibers_queued[FIBER_RECLAIM] == 0);
	ASSERT(store->discards == FILES && store->file_count == FILES);
	egroup_store_close(store); /* waits for all */
}

static void few_fibers_give_back_many_files(void **state)
{
	(void)state;
	sim_rig_run(&rig, 0, doom_all, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groups_are_found),
		cmocka_unit_test(liveness_is_counted_anew),
		cmocka_unit_test(others_get_turns),
		cmocka_unit_test(few_fibers_give_back_many_files),
	};
	int r;

	sim_rig_init(&rig, 1, 1);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	sim_rig_done(&rig);
	return r;
}
