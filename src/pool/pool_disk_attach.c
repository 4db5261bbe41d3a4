/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a disk where its row says it is: when the pool opens, after it was added, and when one
 * that was missing comes back.
 *
 * Nothing is changed on a disk before its label has proved that it is the pool's and this one, and
 * its mirror of the catalog, where it has one, that the catalog was not set back.
 * While it is searched and swept, its state is "missing": nothing is put there, and what is removed
 * meanwhile is only taken from its table, so that the sweep, which looks at the table, finds it
 * unnamed.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "catalog/mirror.h"
#include "pool/pool_fence.h"
#include "pool/pool_watch.h"
#include "reactor/io.h"

#define SETTLE_NS    (10 * NSEC_PER_MSEC)
#define SETTLE_TRIES 100

static int find(struct pool_disk *disk, struct world_fs_stat *ret_fs)
{
	int r = io_fs_stat(disk->row.directory, ret_fs);

	if (r == -ENOENT || r == -ENOTDIR)
		return -ENODEV;
	return r ? r : pool_disk_check_label(disk, ret_fs->read_only);
}

static void warn_shared(const struct pool_disk *disk)
{
	const struct pool_disk *first = NULL;
	struct pool_disk *other;
	unsigned others = 0;

	POOL_FOR_EACH_DISK(disk->pool, other)
	if (other != disk && other->file_system != 0 && other->file_system == disk->file_system) {
		first = first ? first : other;
		others++;
	}
	if (first)
		log_warning("pool", "two disks of a pool are on one file system",
			    "pool=%s directory=\"%s\" other=\"%s\" others=%u", disk->pool->name,
			    disk->row.directory, first->row.directory, others);
}

/* A catalog that was set back must not sweep away what it does not know. */
static int check_history(struct pool_disk *disk)
{
	int r = catalog_mirror_admits(disk->pool->catalog, disk->row.directory);

	if (r == -ESTALE && !disk->refused)
		log_error(
			"pool",
			"the disk knows of changes that the catalog lacks, which was set back: the "
			"disk is not used; start with --restore-catalog and its directory",
			"pool=%s disk=%" PRIu64 " directory=\"%s\"", disk->pool->name, disk->id,
			disk->row.directory);
	disk->refused = r == -ESTALE;
	return r;
}

int pool_disk_steps(struct pool_disk *disk)
{
	disk->stepped_ns = reactor_now_ns(disk->pool->home);
	if (disk->attaching)
		pool_flight_steps(disk->attaching);
	return disk->pool->stopping ? -ESHUTDOWN : 0;
}

/* It may have taken its time: what was decided meanwhile stands. */
static int still_wanted(const struct pool_disk *disk)
{
	if (disk->pool->stopping)
		return -ESHUTDOWN;
	return pool_disk_is_failed(disk) || disk->leaving ? -ECANCELED : 0;
}

/* A file system that is frozen can be read: whether it takes writes is found out before anything is
 * built upon it. One that takes too long, with this or before, comes when the dead daemon has left.
 */
static int check_writable(struct pool_disk *disk, uint64_t began_ns)
{
	int r;

	if (pool_fence_get() == POOL_FENCE_NONE)
		return 0;
	r = pool_directory_probe(disk->row.directory);
	if (r)
		return r;
	return reactor_now_ns(disk->pool->home) - began_ns > disk->pool->timeout_ns ? -ETIMEDOUT
										    : 0;
}

static int attach(struct pool_disk *disk)
{
	uint64_t began_ns = reactor_now_ns(disk->pool->home);
	struct world_fs_stat fs;
	int r = find(disk, &fs);

	if (r == 0)
		r = still_wanted(disk);
	if (r == 0)
		r = pool_disk_steps(disk);
	if (r == 0)
		r = check_history(disk);
	if (r == 0 && !fs.read_only)
		r = check_writable(disk, began_ns);
	if (r == 0)
		r = still_wanted(disk);
	if (r)
		return r;
	disk->file_system = fs.id;
	warn_shared(disk);
	pool_spare_done(disk);
	pool_copy_forget_orphans(disk);
	disk->measured_ns = reactor_now_ns(disk->pool->home);
	pool_space_set_capacity(disk, pool_space_capacity(disk->row.capacity_bytes, &fs));
	r = pool_sweep_disk(disk, fs.read_only);
	if (r == 0)
		r = still_wanted(disk);
	if (r)
		return r;
	atomic_fetch_add(&disk->generation, 1);
	pool_disk_set_state(disk, fs.read_only ? POOL_DISK_READ_ONLY : POOL_DISK_ONLINE, 0);
	return 0;
}

int pool_disk_attach(struct pool_disk *disk)
{
	struct pool_flight flight = {0};
	int r;

	ASSERT(!disk->attaching);
	disk->stepped_ns = reactor_now_ns(disk->pool->home);
	pool_flight_begins(&flight, disk, NULL);
	disk->attaching = &flight;
	r = attach(disk);
	disk->attaching = NULL;
	pool_flight_ends(&flight);
	return r;
}

/* What changes names there since before it was missing ends first; on a disk that hangs it may take
 * longer than anybody waits: -EBUSY. */
static int settle(const struct pool_disk *disk)
{
	for (unsigned i = 0; disk->names_busy > 0 || disk->searching; i++) {
		if (pool_disk_is_silent(disk))
			return -EBUSY;
		if (i == SETTLE_TRIES)
			return -EBUSY;
		fiber_sleep(SETTLE_NS);
	}
	return 0;
}

int pool_disk_search(struct pool_disk *disk)
{
	struct pool *pool = disk->pool;
	int r = settle(disk);

	disk->tried_ns = reactor_now_ns(pool->home);
	if (r || pool_disk_is_silent(disk) || pool_fence_get() != POOL_FENCE_NONE)
		return -EBUSY;
	if (pool_disk_state_of(disk) != POOL_DISK_MISSING || disk->leaving)
		return 0;
	disk->searching = true;
	r = pool_disk_attach(disk);
	disk->searching = false;
	if (r == 0) {
		REACHED("pool.disk-returned");
		pool_disk_forget_health(disk);
	}
	return r;
}
