/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool as an object: opening, closing, information.
 *
 * Home reactor: the one that opened it. What others may use is said in pool.h and pool_priv.h.
 *
 * Opening reads the catalog's rows, then finds each disk: compares its label and sweeps its
 * directories. As long as one is there, the pool opens; others are missing then, and searched for.
 * When none is, one that has failed will do, unless another is in its place: the pool is stranded
 * then.
 * Failure modes: -ENOENT no such pool; -ENODEV no disk's directory or label is there, or the label
 * is another's; -EUCLEAN, -EPROTONOSUPPORT the only label there is, or the row of the pool or of a
 * disk, is damaged or too new; -EINPROGRESS it is being deleted. Rows of files and groups that are
 * damaged: pool_damage.h.
 */
#include "pool/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_fence.h"
#include "pool/pool_tier.h"
#include "pool/pool_watch.h"

#define GUEST_STEP_NS (1 * NSEC_PER_MSEC)
#define GUEST_AWAY_NS (1 * NSEC_PER_SEC) /* without a request, until background work hurries */

static int add_disk(void *arg, uint64_t disk_id, const struct pool_disk_row *row)
{
	struct pool_disk *disk;

	return pool_disk_insert(arg, disk_id, row, &disk);
}

static int read_identity(struct pool *pool)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};
	struct pool_row row;
	int r = pool_rows_get_pool(pool->catalog, pool->id, &raw, &row);

	if (r)
		return r;
	if (row.deleting)
		return -EINPROGRESS;
	memcpy(pool->name, row.name, sizeof(pool->name));
	pool->capacity_bytes = row.capacity_bytes;
	snprintf(pool->file_counter, sizeof(pool->file_counter), "pool/%016" PRIx64 "/file",
		 pool->id);
	return pool_rows_each_disk(pool->catalog, pool->id, add_disk, pool);
}

/* One that cannot be found may have its capacity in its row. */
static void call_missing(struct pool_disk *disk, int error)
{
	log_error("pool",
		  error == -ETIMEDOUT ? "a disk does not answer: the pool opens without it"
				      : "a disk cannot be found: is it mounted?",
		  "pool=%s disk=%" PRIu64 " directory=\"%s\" error=%d", disk->pool->name, disk->id,
		  disk->row.directory, error);
	pool_space_set_capacity(disk, ALIGN_DOWN(disk->row.capacity_bytes, MIB));
	disk->tried_ns = disk->pool->opened_ns;
}

/* Finding the disks: each in a fiber of its own, so that one that hangs holds up no other. It is
 * missing then, and comes later when it is found after all. */

#define ATTACHING INT_MAX /* disk->attached: it is being looked for */

/* Only whether it is the one in its place: a label that cannot be read proves nothing, and each
 * file is held against checksums. */
static int look_at_failed(struct pool_disk *disk)
{
	int r = pool_disk_ask_label(disk);

	return r == -EIO || r == -EUCLEAN ? 0 : r;
}

static void attach_run(struct fiber_task *task)
{
	struct pool_disk *disk = CONTAINER_OF(task, struct pool_disk, tend_task);
	struct pool *pool = disk->pool;

	disk->attached = pool_disk_is_failed(disk) ? look_at_failed(disk) : pool_disk_attach(disk);
	disk->searching = disk->tending = false;
	pool->tasks--;
	fiber_queue_wake_all(&pool->keeper_ended);
	if (pool->gave_up && pool->tasks == 0)
		pool_close(pool); /* what held that up has ended */
}

/* Returns how many there are. */
static unsigned attach_all(struct pool *pool, bool failed)
{
	struct pool_disk *disk;
	unsigned count = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		if (pool_disk_is_failed(disk) != failed)
			continue;
		disk->attached = ATTACHING;
		disk->stepped_ns = reactor_now_ns(pool->home);
		disk->searching = disk->tending = true;
		disk->tend_task.run = attach_run;
		pool->tasks++;
		count++;
		fiber_spawn(pool->home, FIBER_DISK, &disk->tend_task);
	}
	return count;
}

/* When to stop waiting for those that are being looked for; 0 = there is none any more. A disk that
 * hangs is not waited for, also where there is no other: there may be other pools, and this one is
 * opened once the disk answers (node_reopen.c). */
static uint64_t attach_deadline(struct pool *pool)
{
	struct pool_disk *disk;
	uint64_t deadline_ns = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	if (disk->attached == ATTACHING)
		deadline_ns = MAX(deadline_ns, disk->stepped_ns + pool->timeout_ns);
	return deadline_ns;
}

static void attach_wait(struct pool *pool)
{
	uint64_t deadline_ns;

	while ((deadline_ns = attach_deadline(pool)) > reactor_now_ns(pool->home))
		(void)fiber_queue_wait_until(&pool->keeper_ended, deadline_ns); /* or woken */
}

static bool is_any_attached(const struct pool *pool)
{
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	if (disk->attached == 0)
		return true;
	return false;
}

/* Those that have failed are left alone as long as another is there. */
static void look_for_all(struct pool *pool)
{
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	disk->attached = -ENODEV;
	(void)attach_all(pool, false); /* their number does not matter */
	attach_wait(pool);
	if (!is_any_attached(pool) && attach_all(pool, true) > 0)
		attach_wait(pool);
}

static void tell_stranded(const struct pool *pool)
{
	REACHED("pool.opened-stranded");
	log_error("pool",
		  "no disk of the pool can be written, and some have failed: it is only read, "
		  "until a disk is taken back (sarsen disk restore), added (sarsen disk add) or "
		  "mounted",
		  "pool=%s", pool->name);
}

/* -ESHUTDOWN and -ENOMEM are not the disks' fault. */
static int find_disks(struct pool *pool)
{
	struct pool_disk *disk;
	unsigned found = 0;
	int error = 0;

	look_for_all(pool);
	POOL_FOR_EACH_DISK(pool, disk)
	{
		int r = disk->attached == ATTACHING ? -ETIMEDOUT : disk->attached;

		if (r == -ESHUTDOWN || r == -ENOMEM)
			return r;
		if (r && !pool_disk_is_failed(disk))
			call_missing(disk, r);
		if (r)
			error = error ? error : r;
		found += r == 0;
	}
	if (found > 0 && error)
		REACHED("pool.opened-degraded");
	if (found > 0 && pool_is_stranded(pool))
		tell_stranded(pool);
	return found > 0 ? 0 : error;
}

static int open_at(struct pool *pool)
{
	int r = read_identity(pool);

	if (r == 0)
		r = pool_sweep_read_rows(pool);
	if (r == 0)
		r = find_disks(pool);
	if (r == 0)
		pool_keeper_start(pool);
	return r;
}

int pool_open_within(struct world *world, struct catalog *catalog, uint64_t id, uint64_t timeout_ns,
		     struct pool **ret_pool)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	int r;

	ASSERT(fiber_current());
	if (!pool)
		return -ENOMEM;
	pool->world = world;
	pool->catalog = catalog;
	pool->home = reactor_current();
	pool->id = id;
	pool->timeout_ns = timeout_ns;
	pool->opened_ns = reactor_now_ns(pool->home);
	fiber_mutex_init(&pool->disks_lock);
	pool_keeper_init(pool);
	list_init(&pool->quotas);
	list_init(&pool->tier_claims);
	r = open_at(pool);
	if (r == 0)
		r = pool_quotas_open(pool);
	if (r) {
		pool_close(pool);
		return r;
	}
	pool->opened = true;
	*ret_pool = pool;
	return 0;
}

int pool_open(struct world *world, struct catalog *catalog, uint64_t id, struct pool **ret_pool)
{
	return pool_open_within(world, catalog, id, POOL_DISK_TIMEOUT_NS, ret_pool);
}

void pool_close(struct pool *pool)
{
	if (!pool)
		return;
	reactor_assert_home(pool->home);
	pool_keeper_stop(pool);
	if (!pool_watch_stop(pool)) {
		/* What ends some day looks at it. */
		log_warning("pool", "closed while a disk does not answer", "pool=%s", pool->name);
		pool->gave_up = !pool->opened;
		return;
	}
	ASSERT(!atomic_load(&pool->keeper_message_posted)); /* it is part of the pool */
	pool_quotas_close(pool);
	pool_disks_done(pool);
	pool_damages_done(pool);
	free(pool);
}

uint64_t pool_id(const struct pool *pool)
{
	return pool->id;
}

struct catalog *pool_catalog(struct pool *pool)
{
	return pool->catalog;
}

/* Seldom written: the line stays in every core's cache. */
void pool_guest_came(struct pool *pool, uint64_t now_ns)
{
	if (now_ns > atomic_load_explicit(&pool->guest_ns, memory_order_relaxed) + GUEST_STEP_NS)
		atomic_store_explicit(&pool->guest_ns, now_ns, memory_order_relaxed);
}

bool pool_guest_is_active(const struct pool *pool, uint64_t now_ns)
{
	uint64_t last = atomic_load_explicit(&pool->guest_ns, memory_order_relaxed);

	return last != 0 && now_ns < last + GUEST_AWAY_NS;
}

uint64_t pool_group_bytes(const struct pool *pool)
{
	return atomic_load(&((struct pool *)pool)->group_bytes);
}

/* With several disks: in order, or not. */
static const char *state_of(const struct pool *pool)
{
	struct pool_disk *disk;
	enum pool_disk_state worst = POOL_DISK_ONLINE;
	unsigned count = 0, usable = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		worst = MAX(worst, pool_disk_state_of(disk));
		usable += pool_disk_state_of(disk) < POOL_DISK_READ_ONLY;
		count++;
	}
	if (worst == POOL_DISK_FAILED && usable == 0)
		return pool_disk_state_name(POOL_DISK_READ_ONLY);
	return count == 1 || usable == 0 || worst == POOL_DISK_ONLINE ? pool_disk_state_name(worst)
								      : "degraded";
}

void pool_get_info(struct pool *pool, struct pool_info *ret_info)
{
	struct pool_disk *disk = pool_disk_by_id(pool, pool_first_disk(pool));

	*ret_info = (struct pool_info){
		.id = pool->id,
		.state = state_of(pool),
	};
	memcpy(ret_info->name, pool->name, sizeof(ret_info->name));
	memcpy(ret_info->directory, disk->row.directory, strlen(disk->row.directory));
	pool_get_space(pool, &ret_info->space);
	ret_info->in_doubt = pool->damages.in_doubt;
	POOL_FOR_EACH_DISK(pool, disk)
	ret_info->kept_files += disk->kept;
}

static void check_disk(struct pool_disk *disk)
{
	uint64_t used = 0, spare_bytes = 0;
	struct pool_table_walk walk = {0};
	const struct pool_table_entry *entry;
	struct pool_spare *spare;
	unsigned count = 0;

	while ((entry = pool_table_next(&disk->files, &walk)))
		used += entry->pages * POOL_PAGE_BYTES;
	LIST_FOR_EACH (&disk->spares, spare, struct pool_spare, link) {
		spare_bytes += spare->size_bytes;
		count++;
	}
	ASSERT(used <= atomic_load(&disk->used)); /* more while a file is being taken */
	ASSERT(spare_bytes == atomic_load(&disk->spare) && count == disk->spare_count);
	ASSERT(count <= POOL_SPARES_MAX);
}

void pool_check(const struct pool *pool)
{
	struct pool_disk *disk;

	reactor_assert_home(pool->home);
	POOL_FOR_EACH_DISK(pool, disk)
	check_disk(disk);
	pool_tier_check((struct pool *)pool);
}
