/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of extent groups: opened on demand, kept while referenced, closed when idle and too many,
 * given back to the pool when nobody uses them any more. Home: the vDisk's reactor.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/reached.h"
#include "egroup/store_priv.h"
#include "reactor/io.h"

#define AVOID_NS (60 * NSEC_PER_SEC)

/* Ids are taken in order, but the fibers that took them may come here in another. */
static void insert(struct egroup_store *store, struct egroup_file *file)
{
	struct list_node *at = &store->files.head;

	while (at->prev != &store->files.head &&
	       LIST_ENTRY(at->prev, struct egroup_file, link)->id > file->id)
		at = at->prev;
	list_insert_before(at, &file->link);
}

struct egroup_file *egroup_file_new(struct egroup_store *store, uint64_t id)
{
	struct egroup_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->id = id;
	file->store = store;
	list_init(&file->groups);
	list_node_init(&file->lru_link);
	insert(store, file);
	store->file_count++;
	return file;
}

void egroup_file_free(struct egroup_file *file)
{
	struct egroup_store *store = file->store;

	ASSERT(file->references == 0 && file->group_count == 0);
	egroup_cursors_leave(store, file);
	list_remove(&file->link);
	list_remove(&file->lru_link);
	store->file_count--;
	if (file->file) {
		store->open_count--;
		pool_file_close(file->file);
	}
	free(file);
}

struct pool_file *egroup_file_handle(const struct egroup_file *file)
{
	ASSERT(file->file);
	return file->file;
}

void egroup_file_hold(struct egroup_file *file)
{
	if (file->references++ == 0)
		list_remove(&file->lru_link);
}

void egroup_file_ref(struct egroup_file *file)
{
	ASSERT(file->file);
	egroup_file_hold(file);
}

/* When the last user of a dying file is gone. Suspends. */
static void discard(struct egroup_file *file)
{
	struct egroup_store *store = file->store;
	struct pool_file *pool_file = TAKE_PTR(file->file);

	if (pool_file)
		store->open_count--;
	if (pool_file && file->forgotten) {
		pool_file_close(pool_file);
	} else if (pool_file) {
		pool_file_discard(pool_file);
	} else if (!file->forgotten) {
		int r = pool_file_discard_id(store->pool, file->id, &file->copies);

		if (r < 0)
			log_warning("egroup", "cannot give a file back",
				    "file=%" PRIx64 " error=%d", file->id, r);
	}
	egroup_file_free(file);
	store->discards--;
}

static void discard_run(struct fiber_task *task)
{
	struct egroup_discarder *discarder = CONTAINER_OF(task, struct egroup_discarder, task);
	struct egroup_store *store = discarder->store;
	struct list_node *node;

	while ((node = list_pop_front(&store->doomed)))
		discard(LIST_ENTRY(node, struct egroup_file, lru_link));
	discarder->runs = false;
	store->discarders--;
	fiber_queue_wake_all(&store->released); /* nobody runs before this has returned */
}

/* There may be very many of them after a large unmap: few fibers, so that others get some, too. */
static void discard_now(struct egroup_file *file)
{
	struct egroup_store *store = file->store;

	store->discards++;
	list_push_back(&store->doomed, &file->lru_link);
	for (unsigned i = 0; i < EGROUP_DISCARDERS; i++) {
		struct egroup_discarder *discarder = &store->discarder[i];

		if (discarder->runs)
			continue;
		*discarder = (struct egroup_discarder){
			.store = store, .runs = true, .task.run = discard_run};
		store->discarders++;
		fiber_spawn(store->reactor, FIBER_RECLAIM, &discarder->task);
		return;
	}
}

void egroup_file_discard(struct egroup_file *file)
{
	ASSERT(file->group_count == 0 && !file->dying);
	file->dying = true;
	list_remove(&file->lru_link);
	if (file->references == 0)
		discard_now(file);
}

void egroup_file_forget(struct egroup_file *file)
{
	file->forgotten = true;
	egroup_file_discard(file);
}

void egroup_file_unref(struct egroup_file *file)
{
	ASSERT(file->references > 0);
	if (--file->references > 0)
		return;
	if (file->dying)
		discard_now(file);
	else if (file->file)
		list_push_back(&file->store->idle, &file->lru_link);
}

void egroup_file_avoid(struct egroup_file *file, int error)
{
	REACHED("egroup.file-avoided");
	log_warning("egroup", "a file cannot be reclaimed; it is left alone for a while",
		    "vdisk=%" PRIu64 " file=%" PRIx64 " error=%d", file->store->vdisk, file->id,
		    error);
	file->avoid_until_ns = reactor_now_ns(file->store->reactor) + AVOID_NS;
}

bool egroup_file_is_avoided(const struct egroup_file *file)
{
	return file->avoid_until_ns > 0 &&
	       reactor_now_ns(file->store->reactor) < file->avoid_until_ns;
}

/* Closes the longest idle files above the limit. Closing suspends: who wants one of them meanwhile
 * waits, for the pool opens no file twice; and the reference keeps it from being dropped. */
static void close_idle(struct egroup_store *store)
{
	while (store->open_count > EGROUP_OPEN_FILES_MAX) {
		struct list_node *node = list_pop_front(&store->idle);
		struct egroup_file *file;
		struct pool_file *pool_file;

		if (!node)
			return;
		file = LIST_ENTRY(node, struct egroup_file, lru_link);
		pool_file = TAKE_PTR(file->file);
		store->open_count--;
		file->references++;
		file->opening = true;
		pool_file_close(pool_file);
		file->opening = false;
		fiber_queue_wake_all(&store->opened);
		egroup_file_unref(file);
	}
}

static int open_now(struct egroup_file *file)
{
	struct egroup_store *store = file->store;
	int r = 0;

	file->opening = true;
	if (!file->file) {
		r = pool_file_open(store->pool, file->id, &file->copies, &file->file);
		if (r == 0)
			store->open_count++;
	}
	if (r == 0 && !file->index_loaded)
		r = egroup_index_load(file);
	file->opening = false;
	fiber_queue_wake_all(&store->opened);
	if (r < 0 && file->open_error != r)
		log_error("egroup", "cannot open a file",
			  "vdisk=%" PRIu64 " file=%" PRIx64 " error=%d", store->vdisk, file->id, r);
	file->open_error = r;
	return r;
}

int egroup_file_open(struct egroup_file *file)
{
	int r;

	/* Referenced while this waits: else it could be dropped, or closed, in the middle. */
	egroup_file_hold(file);
	while (file->opening)
		fiber_queue_wait(&file->store->opened);
	if (file->file && file->index_loaded)
		return 0;
	r = open_now(file);
	if (r == 0)
		close_idle(file->store);
	else
		egroup_file_unref(file);
	return r;
}

int egroup_prepare(struct egroup_store *store, uint64_t id)
{
	struct egroup *group = egroup_find(store, id);
	struct egroup_file *file;
	int r;

	if (!group)
		return -EUCLEAN;
	file = group->file;
	r = egroup_file_open(file);
	if (r == 0)
		egroup_file_unref(file);
	return r;
}
