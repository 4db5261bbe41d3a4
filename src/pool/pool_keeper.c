/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: one fiber of a pool that looks after its disks (pool_disk_health.c) and, while the
 * pool is idle, writes spare files ahead. It does I/O only in fibers of their own, one for each
 * disk and one for the spare file: a disk that hangs holds up nobody but itself.
 *
 * When there is nothing to do it only looks every ten seconds whether a disk has another size, so
 * an idle pool costs next to nothing. It is woken by everything that may give it work; it then
 * looks at the whole state anew.
 */
#include "pool/pool_watch.h"

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
#define STOP_LOOK_NS  (100 * NSEC_PER_MSEC)

static bool may_write_ahead(struct pool_disk *disk)
{
	uint64_t taken = atomic_load(&disk->used) + atomic_load(&disk->spare);

	return pool_disk_state_of(disk) == POOL_DISK_ONLINE && !atomic_load(&disk->draining) &&
	       !disk->leaving && atomic_load(&disk->pool->group_bytes) == POOL_GROUP_BYTES &&
	       pool_pressure(disk->pool) == 0 && !disk->pool->stopping &&
	       taken + POOL_GROUP_BYTES + atomic_load(&disk->reserve) <=
		       atomic_load(&disk->capacity);
}

static bool wants_spare(struct pool_disk *disk)
{
	unsigned ready = 0;
	struct pool_spare *spare;

	LIST_FOR_EACH (&disk->spares, spare, struct pool_spare, link)
		ready += spare->size_bytes == POOL_GROUP_BYTES;
	return !disk->spares_fail && ready < disk->pool->spares_ahead &&
	       pool_spare_wants(disk, POOL_GROUP_BYTES) && may_write_ahead(disk);
}

/* In steps with pauses; -ECANCELED when the pool is no longer idle. */
static int fill_file(struct pool_disk *disk, struct world_file *file, struct pool_flight *flight)
{
	void *zeros = NULL;
	int r = io_resize(file, POOL_GROUP_BYTES, WORLD_RESIZE_RESERVE);

	if (r == 0 && !(zeros = aligned_alloc(POOL_PAGE_BYTES, STEP_BYTES)))
		r = -ENOMEM;
	if (zeros)
		memset(zeros, 0, STEP_BYTES);
	for (uint64_t at = 0; r == 0 && at < POOL_GROUP_BYTES; at += STEP_BYTES) {
		r = may_write_ahead(disk) ? io_write(file, zeros, STEP_BYTES, at) : -ECANCELED;
		if (r == 0)
			fiber_sleep(STEP_PAUSE_NS);
		pool_flight_steps(flight);
	}
	free(zeros);
	return r;
}

static int write_ahead(struct pool_disk *disk, uint64_t id, struct pool_flight *flight)
{
	struct pool_path path, final;
	struct world_file *file;
	int r, r2;

	pool_path_spare(disk->row.directory, id, ".new", &path);
	pool_path_spare(disk->row.directory, id, ".sp", &final);
	pool_flight_steps(flight);
	r = io_open(path.text, WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE | WORLD_FILE_DIRECT, &file);
	if (r)
		return r;
	r = fill_file(disk, file, flight);
	r2 = io_close(file);
	r = r ? r : r2;
	if (r == 0)
		r = io_rename(path.text, final.text);
	if (r == 0 && !pool_spare_add(disk, id, POOL_GROUP_BYTES))
		r = -ENOMEM;
	if (r)
		(void)io_unlink(path.text); /* best effort: the next opening removes it */
	return r;
}

static void make_spare(struct pool_disk *disk)
{
	struct pool_flight flight = {0};
	uint64_t id;
	int r;

	disk->names_busy++; /* first: so the disk is not removed meanwhile */
	r = catalog_reserve_ids(disk->pool->catalog, disk->pool->file_counter, 1, &id);
	pool_flight_begins(&flight, disk, NULL);
	if (r == 0)
		r = write_ahead(disk, id, &flight);
	pool_flight_ends(&flight);
	disk->names_busy--;
	if (r == 0 || r == -ECANCELED || disk->pool->stopping)
		return;
	/* Not asked for by anybody: no more of it until the pool is opened again. */
	log_warning("pool", "cannot write a spare file ahead", "pool=%s disk=%" PRIu64 " error=%d",
		    disk->pool->name, disk->id, r);
	disk->spares_fail = true;
}

static struct pool_disk *who_wants_spare(struct pool *pool)
{
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	if (wants_spare(disk))
		return disk;
	return NULL;
}

static void task_ends(struct pool *pool)
{
	pool->tasks--;
	pool->keeper_looks = true;
	fiber_queue_wake_all(&pool->keeper_queue);
	fiber_queue_wake_all(&pool->keeper_ended);
}

static void task_begins(struct pool *pool, struct fiber_task *task,
			void (*run)(struct fiber_task *task))
{
	pool->tasks++;
	task->run = run;
	fiber_spawn(pool->home, FIBER_DISK, task);
}

static void tend_run(struct fiber_task *task)
{
	struct pool_disk *disk = CONTAINER_OF(task, struct pool_disk, tend_task);
	struct pool *pool = disk->pool;

	disk->tend_ns =
		pool->stopping ? UINT64_MAX : pool_disk_tend(disk, reactor_now_ns(pool->home));
	disk->tending = false;
	task_ends(pool);
}

/* In place of whoever tends to the disk, and may be held up by it for ever. */
static void doom_run(struct fiber_task *task)
{
	struct pool_disk *disk = CONTAINER_OF(task, struct pool_disk, doom_task);
	struct pool *pool = disk->pool;

	disk->doom_ns = pool_disk_doom(disk, reactor_now_ns(pool->home));
	disk->dooming = false;
	task_ends(pool);
}

static bool may_be_doomed(const struct pool_disk *disk)
{
	return !disk->dooming && pool_disk_state_of(disk) == POOL_DISK_MISSING &&
	       pool_disk_is_silent(disk);
}

static void doom(struct pool_disk *disk, uint64_t now_ns)
{
	if (!may_be_doomed(disk) || now_ns < disk->doom_ns)
		return;
	disk->dooming = true;
	task_begins(disk->pool, &disk->doom_task, doom_run);
}

static void spare_run(struct fiber_task *task)
{
	struct pool *pool = CONTAINER_OF(task, struct pool, spare_task);
	struct pool_disk *disk = pool->stopping ? NULL : who_wants_spare(pool);

	if (disk) {
		disk->making_spare = true;
		make_spare(disk);
		disk->making_spare = false;
	}
	pool->making_spare = false;
	task_ends(pool);
}

/* Woken from outside, it looks at all of them: there is no telling why. */
static void tend_disks(struct pool *pool)
{
	bool all = pool->keeper_wanted;
	uint64_t now_ns = reactor_now_ns(pool->home);
	struct pool_disk *disk;

	pool->keeper_wanted = false;
	POOL_FOR_EACH_DISK(pool, disk)
	{
		/* Who tends to it may be held up by it. */
		pool_disk_judge_silence(disk, now_ns);
		disk->tend_wanted |= all || now_ns >= disk->tend_ns;
		if (disk->tending)
			doom(disk, now_ns);
		if (disk->tending || !disk->tend_wanted)
			continue;
		disk->tending = true;
		disk->tend_wanted = false;
		disk->doom_ns = 0;
		task_begins(pool, &disk->tend_task, tend_run);
	}
}

static uint64_t next_of(struct pool_disk *disk)
{
	if (!disk->tending)
		return disk->tend_ns;
	return may_be_doomed(disk) ? disk->doom_ns : UINT64_MAX;
}

static uint64_t next_tend_ns(struct pool *pool)
{
	uint64_t next_ns = UINT64_MAX;
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	next_ns = MIN(next_ns, next_of(disk));
	return next_ns;
}

static uint64_t tend_spares(struct pool *pool)
{
	uint64_t due_ns = pool->last_take_ns + IDLE_NS;

	if (pool->making_spare || !who_wants_spare(pool))
		return UINT64_MAX;
	if (reactor_now_ns(pool->home) < due_ns)
		return due_ns;
	pool->making_spare = true;
	task_begins(pool, &pool->spare_task, spare_run);
	return UINT64_MAX;
}

static void keeper_turn(struct pool *pool)
{
	uint64_t next_ns;

	pool->keeper_looks = false;
	tend_disks(pool);
	next_ns = tend_spares(pool);
	next_ns = MIN(next_ns, next_tend_ns(pool));
	if (!pool->keeper_wanted && !pool->keeper_looks && !pool->stopping)
		(void)fiber_queue_wait_until(&pool->keeper_queue, next_ns); /* or woken */
}

static void keeper_run(struct fiber_task *task)
{
	struct pool *pool = CONTAINER_OF(task, struct pool, keeper_task);

	while (!pool->stopping)
		keeper_turn(pool);
	pool->keeper_runs = false;
	fiber_queue_wake_all(&pool->keeper_ended);
}

void pool_keeper_init(struct pool *pool)
{
	fiber_queue_init(&pool->keeper_queue);
	fiber_queue_init(&pool->keeper_ended);
}

void pool_keeper_start(struct pool *pool)
{
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

/* Those that a disk holds up which does not answer are not waited for: they end with the disk, and
 * the pool stays in memory (pool_watch_stop()). */
static unsigned held_up_by(const struct pool_disk *disk)
{
	return pool_disk_is_silent(disk) ? disk->tending + disk->making_spare : 0;
}

static bool tasks_to_come(struct pool *pool)
{
	struct pool_disk *disk;
	unsigned held_up = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	held_up += held_up_by(disk);
	for (disk = pool->removed; disk; disk = disk->next_removed)
		held_up += held_up_by(disk);
	ASSERT(held_up <= pool->tasks);
	return pool->tasks > held_up;
}

void pool_keeper_stop(struct pool *pool)
{
	pool->stopping = true;
	pool_keeper_wake(pool);
	while (pool->keeper_runs || tasks_to_come(pool))
		(void)fiber_queue_wait_until(&pool->keeper_ended,
					     reactor_now_ns(pool->home) + STOP_LOOK_NS);
}

void pool_keeper_settle(struct pool *pool)
{
	while (atomic_load(&pool->keeper_message_posted))
		fiber_queue_wait(&pool->keeper_ended);
}

void pool_set_spares_ahead(struct pool *pool, unsigned count)
{
	reactor_assert_home(pool->home);
	pool->spares_ahead = MIN(count, (unsigned)POOL_SPARES_AHEAD_MAX);
	pool_keeper_wake(pool);
}
