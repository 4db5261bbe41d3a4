/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: one fiber of a pool that works while the pool is idle. It writes spare files ahead,
 * and finds out when a file system that was full or read-only can be written again.
 *
 * It sleeps without a timer when there is nothing to do, so that an idle pool costs nothing. It is
 * woken by everything that may give it work; it then looks at the whole state anew.
 */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "reactor/io.h"

#define STEP_BYTES    MIB
#define STEP_PAUSE_NS (20 * NSEC_PER_MSEC) /* at most 50 MiB/s */
#define IDLE_NS       (2 * NSEC_PER_SEC)   /* since a file was last taken */
#define PROBE_NS      NSEC_PER_SEC

static bool may_write_ahead(struct pool *pool)
{
	uint64_t taken = atomic_load(&pool->used) + atomic_load(&pool->spare);

	return atomic_load(&pool->state) == POOL_ONLINE && pool->group_bytes == POOL_GROUP_BYTES &&
	       pool_pressure(pool) == 0 && !pool->stopping &&
	       taken + POOL_GROUP_BYTES <= pool->capacity - pool->reserve;
}

static bool wants_spare(struct pool *pool)
{
	unsigned ready = 0;
	struct pool_spare *spare;

	LIST_FOR_EACH (&pool->spares, spare, struct pool_spare, link)
		ready += spare->size_bytes == POOL_GROUP_BYTES;
	return ready < pool->spares_ahead && pool_spare_wants(pool, POOL_GROUP_BYTES) &&
	       may_write_ahead(pool);
}

/* In steps with pauses; -ECANCELED when the pool is no longer idle. */
static int fill_file(struct pool *pool, struct world_file *file)
{
	void *zeros = NULL;
	int r = io_resize(file, POOL_GROUP_BYTES, WORLD_RESIZE_RESERVE);

	if (r == 0 && !(zeros = aligned_alloc(POOL_PAGE_BYTES, STEP_BYTES)))
		r = -ENOMEM;
	if (zeros)
		memset(zeros, 0, STEP_BYTES);
	for (uint64_t at = 0; r == 0 && at < POOL_GROUP_BYTES; at += STEP_BYTES) {
		r = may_write_ahead(pool) ? io_write(file, zeros, STEP_BYTES, at) : -ECANCELED;
		if (r == 0)
			fiber_sleep(STEP_PAUSE_NS);
	}
	free(zeros);
	return r;
}

static int write_ahead(struct pool *pool, uint64_t id)
{
	struct pool_path path, final;
	struct world_file *file;
	int r, r2;

	pool_path_spare(pool, id, ".new", &path);
	pool_path_spare(pool, id, ".sp", &final);
	r = io_open(path.text, WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE | WORLD_FILE_DIRECT, &file);
	if (r)
		return r;
	r = fill_file(pool, file);
	r2 = io_close(file);
	r = r ? r : r2;
	if (r == 0)
		r = io_rename(path.text, final.text);
	if (r == 0 && !pool_spare_add(pool, id, POOL_GROUP_BYTES))
		r = -ENOMEM;
	if (r)
		(void)io_unlink(path.text); /* best effort: the next opening removes it */
	return r;
}

static void make_spare(struct pool *pool)
{
	uint64_t id;
	int r = catalog_reserve_ids(pool->catalog, pool->file_counter, 1, &id);

	if (r == 0)
		r = write_ahead(pool, id);
	if (r == 0 || r == -ECANCELED)
		return;
	/* Not asked for by anybody: no more of it until the pool is opened again. */
	log_warning("pool", "cannot write a spare file ahead", "pool=%s error=%d", pool->name, r);
	pool->spares_ahead = 0;
}

/* A file system that found an error and stopped writing need not say so when asked. */
static int try_to_write(struct pool *pool)
{
	struct pool_path path;
	struct world_file *file;
	int r, r2;

	pool_path_spare(pool, 0, ".new", &path);
	r = io_open(path.text, WORLD_FILE_CREATE | WORLD_FILE_DIRECT, &file);
	if (r)
		return r;
	r = io_close(file);
	r2 = io_unlink(path.text);
	return r ? r : r2;
}

static void probe(struct pool *pool)
{
	struct world_fs_stat fs;
	int r = io_fs_stat(pool->directory, &fs);
	bool full = atomic_load(&pool->state) == POOL_FULL;

	if (r || fs.read_only || (full && fs.free_bytes < 2 * pool->group_bytes))
		return;
	if (try_to_write(pool) < 0)
		return;
	log_info("pool", "the file system can be written again", "pool=%s", pool->name);
	atomic_store(&pool->state, POOL_ONLINE);
	pool_wait_wake(pool);
}

/* Sleeps until it is woken or the time has come, whichever is first. */
static void nap(struct pool *pool, uint64_t deadline_ns)
{
	while (!pool->keeper_wanted && !pool->stopping)
		if (!fiber_queue_wait_until(&pool->keeper_queue, deadline_ns))
			break;
	pool->keeper_wanted = false;
}

static void keeper_turn(struct pool *pool)
{
	uint64_t now_ns = reactor_now_ns(pool->home);

	if (atomic_load(&pool->state) != POOL_ONLINE) {
		nap(pool, now_ns + PROBE_NS);
		if (!pool->stopping)
			probe(pool);
	} else if (!wants_spare(pool)) {
		nap(pool, UINT64_MAX);
	} else if (now_ns < pool->last_take_ns + IDLE_NS) {
		nap(pool, pool->last_take_ns + IDLE_NS);
	} else {
		make_spare(pool);
	}
}

static void keeper_run(struct fiber_task *task)
{
	struct pool *pool = CONTAINER_OF(task, struct pool, keeper_task);

	while (!pool->stopping)
		keeper_turn(pool);
	pool->keeper_runs = false;
	fiber_queue_wake_all(&pool->keeper_ended);
}

void pool_keeper_start(struct pool *pool)
{
	fiber_queue_init(&pool->keeper_queue);
	fiber_queue_init(&pool->keeper_ended);
	pool->keeper_runs = true;
	pool->keeper_task.run = keeper_run;
	fiber_spawn(pool->home, FIBER_RECLAIM, &pool->keeper_task);
}

void pool_keeper_wake(struct pool *pool)
{
	pool->keeper_wanted = true;
	fiber_queue_wake_all(&pool->keeper_queue);
}

static void keeper_message_run(struct world_message *message)
{
	struct pool *pool = CONTAINER_OF(message, struct pool, keeper_message);

	atomic_store(&pool->keeper_message_posted, false);
	pool_keeper_wake(pool);
	fiber_queue_wake_all(&pool->keeper_ended);
}

void pool_keeper_post(struct pool *pool)
{
	if (atomic_exchange(&pool->keeper_message_posted, true))
		return;
	pool->keeper_message.run = keeper_message_run;
	reactor_post(pool->home, &pool->keeper_message);
}

void pool_keeper_stop(struct pool *pool)
{
	pool->stopping = true;
	pool_keeper_wake(pool);
	/* A message on its way still points here. */
	while (pool->keeper_runs || atomic_load(&pool->keeper_message_posted))
		fiber_queue_wait(&pool->keeper_ended);
}

void pool_set_spares_ahead(struct pool *pool, unsigned count)
{
	reactor_assert_home(pool->home);
	pool->spares_ahead = MIN(count, (unsigned)POOL_SPARES_AHEAD_MAX);
	pool_keeper_wake(pool);
}
