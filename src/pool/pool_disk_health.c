/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a disk behaves, and what follows from it.
 *
 * Whoever does I/O counts it, with relaxed atomics; an error, or a mean latency that passes the
 * limit, wakes the keeper (pool_keeper.c), whose fiber calls pool_disk_tend(): the only place where
 * a disk becomes suspect, missing, failed or online again by itself. It also looks now and then how
 * large the disk's file system is.
 *
 * Invariants
 *  1. A disk without which the pool has no other to put files on is never given up: not declared
 *     failed, whatever it does.
 *  2. A disk is declared missing only when its label could not be read LABEL_TRIES times, or when
 *     something there takes longer than it may (pool_watch.c).
 *  3. -ESHUTDOWN (the simulated world died) says nothing about a disk.
 *  4. What is asked of a disk here is a flight of the watch, too: a disk
 *     that hangs is found out also when nobody else uses it. What was found then only counts if the
 *     disk's state is still the one that it was asked in.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_watch.h"
#include "reactor/io.h"

#define PROBE_NS       NSEC_PER_SEC
#define MEASURE_NS     (10 * NSEC_PER_SEC)
#define ORPHANS_NS     (30 * NSEC_PER_SEC)
#define LABEL_TRIES    3
#define LABEL_PAUSE_NS (200 * NSEC_PER_MSEC)
#define MEAN_SHIFT     3 /* each new value counts an eighth */

/* Counting */

void pool_disk_io_begins(struct pool_disk *disk)
{
	atomic_fetch_add_explicit(&disk->health.busy, 1, memory_order_relaxed);
}

/* Two reactors may lose each other's value: it is a mean. */
static uint64_t mean_add(_Atomic uint64_t *mean, uint64_t value)
{
	uint64_t before = atomic_load_explicit(mean, memory_order_relaxed);
	uint64_t after = before - (before >> MEAN_SHIFT) + (value >> MEAN_SHIFT);

	atomic_store_explicit(mean, after, memory_order_relaxed);
	return after;
}

static void be_bad(struct pool_disk *disk, uint64_t now_ns)
{
	atomic_store_explicit(&disk->health.bad_ns, now_ns, memory_order_relaxed);
	if (pool_disk_state_of(disk) <= POOL_DISK_FULL)
		pool_keeper_post(disk->pool);
}

static void count_latency(struct pool_disk *disk, enum pool_disk_io kind, uint64_t start_ns)
{
	uint64_t now_ns = reactor_turn_ns(reactor_current());
	struct pool_health *health = &disk->health;
	uint64_t mean = mean_add(kind == POOL_DISK_READS ? &health->read_ns : &health->write_ns,
				 now_ns > start_ns ? now_ns - start_ns : 0);

	if (mean >= POOL_DISK_SLOW_NS)
		be_bad(disk, now_ns);
}

static _Atomic uint64_t *error_counter(struct pool_health *health, enum pool_disk_io kind)
{
	if (kind == POOL_DISK_READS)
		return &health->read_errors;
	if (kind == POOL_DISK_CHECKSUMS)
		return &health->checksum_errors;
	return kind == POOL_DISK_SYNCS ? &health->sync_errors : &health->write_errors;
}

static void count_error(struct pool_disk *disk, enum pool_disk_io kind)
{
	uint64_t now_ns = reactor_now_ns(reactor_current());
	struct pool_health *health = &disk->health;
	uint32_t index = atomic_fetch_add(&health->error_count, 1) % POOL_ERRORS_MAX;

	atomic_fetch_add(error_counter(health, kind), 1);
	atomic_store(&health->error_ns[index], now_ns);
	atomic_store(&health->look, true);
	atomic_store(&health->bad_ns, now_ns);
	pool_keeper_post(disk->pool);
}

/* What its file system says of itself: nothing to be counted. Home. */
static void meet_at_home(struct pool_disk *disk, int error)
{
	enum pool_disk_state state = pool_disk_state_of(disk);

	if (error == -EROFS && state < POOL_DISK_READ_ONLY)
		pool_disk_set_state(disk, POOL_DISK_READ_ONLY, error);
	else if (error == -ENOSPC && state == POOL_DISK_ONLINE)
		pool_disk_set_state(disk, POOL_DISK_FULL, error);
}

static void meet(struct pool_disk *disk, int error)
{
	if (reactor_current() == disk->pool->home) {
		meet_at_home(disk, error);
		return;
	}
	atomic_store(&disk->health.met, error);
	pool_keeper_post(disk->pool);
}

static void look_at(struct pool_disk *disk)
{
	if (!atomic_exchange(&disk->health.look, true))
		pool_keeper_post(disk->pool);
}

int pool_disk_note(struct pool_disk *disk, enum pool_disk_io kind, int r)
{
	switch (r) {
	case 0:
	case -ESHUTDOWN:
	case -ECANCELED:
	case -ENOMEM:
	case -EINVAL:
	case -EEXIST:
	case -EFBIG:
		break;
	case -EROFS:
	case -ENOSPC:
		meet(disk, r);
		break;
	case -ENOENT:
	case -ENOTDIR:
		look_at(disk);
		break;
	default:
		count_error(disk, kind);
	}
	return r;
}

void pool_disk_io_ends(struct pool_disk *disk, enum pool_disk_io kind, uint64_t start_ns,
		       int64_t result)
{
	uint32_t before = atomic_fetch_sub_explicit(&disk->health.busy, 1, memory_order_relaxed);

	ASSERT(before > 0);
	if (result < 0)
		(void)pool_disk_note(disk, kind, (int)result); /* returns its argument */
	else if (start_ns != 0)
		count_latency(disk, kind, start_ns);
}

void pool_disk_report_mismatch(struct pool *pool, uint64_t id)
{
	struct pool_disk *disk = pool_disk_by_id(pool, id);

	if (!disk)
		return;
	count_error(disk, POOL_DISK_CHECKSUMS);
}

unsigned pool_disk_errors_lately(struct pool_disk *disk, uint64_t now_ns)
{
	unsigned count = 0;

	for (unsigned i = 0; i < POOL_ERRORS_MAX; i++) {
		uint64_t then_ns = atomic_load(&disk->health.error_ns[i]);

		count += then_ns != 0 && then_ns + POOL_DISK_WINDOW_NS >= now_ns;
	}
	return count;
}

void pool_disk_count_silence(struct pool_disk *disk, uint64_t now_ns)
{
	struct pool_health *health = &disk->health;
	uint32_t count = atomic_load(&health->silence_count);
	uint64_t last_ns =
		count ? atomic_load(&health->silence_ns[(count - 1) % POOL_DISK_FATAL_SILENCES])
		      : 0;

	/* One only falls silent after it has answered, so two seldom come here at once; then one of
	 * them counts. */
	if (last_ns != 0 && now_ns < last_ns + POOL_DISK_WINDOW_NS)
		return;
	atomic_store(&health->silence_ns[count % POOL_DISK_FATAL_SILENCES], now_ns);
	atomic_store(&health->silence_count, count + 1);
}

unsigned pool_disk_silences_lately(struct pool_disk *disk, uint64_t now_ns)
{
	unsigned count = 0;

	for (unsigned i = 0; i < POOL_DISK_FATAL_SILENCES; i++) {
		uint64_t then_ns = atomic_load(&disk->health.silence_ns[i]);

		count += then_ns != 0 && then_ns + POOL_DISK_SILENCE_WINDOW_NS >= now_ns;
	}
	return count;
}

void pool_disk_forget_silences(struct pool_disk *disk)
{
	for (unsigned i = 0; i < POOL_DISK_FATAL_SILENCES; i++)
		atomic_store(&disk->health.silence_ns[i], 0);
}

void pool_disk_forget_health(struct pool_disk *disk)
{
	struct pool_health *health = &disk->health;

	for (unsigned i = 0; i < POOL_ERRORS_MAX; i++)
		atomic_store(&health->error_ns[i], 0);
	atomic_store(&health->read_ns, 0);
	atomic_store(&health->write_ns, 0);
	atomic_store(&health->bad_ns, 0);
	atomic_store(&health->look, false);
	atomic_store(&health->met, 0);
}

/* Judging */

_Static_assert(POOL_DISK_FATAL_ERRORS <= POOL_ERRORS_MAX, "as many are remembered");

static bool is_slow(struct pool_disk *disk)
{
	return atomic_load(&disk->health.read_ns) >= POOL_DISK_SLOW_NS ||
	       atomic_load(&disk->health.write_ns) >= POOL_DISK_SLOW_NS;
}

int pool_disk_ask_label(struct pool_disk *disk)
{
	struct pool_flight flight = {0};
	int r;

	pool_flight_begins(&flight, disk, NULL);
	r = pool_disk_check_label(disk, true);
	pool_flight_ends(&flight);
	return r;
}

static int ask_size(struct pool_disk *disk, struct world_fs_stat *ret_fs)
{
	struct pool_flight flight = {0};
	int r;

	pool_flight_begins(&flight, disk, NULL);
	r = io_fs_stat(disk->row.directory, ret_fs);
	pool_flight_ends(&flight);
	return r;
}

static int ask_to_write(struct pool_disk *disk)
{
	struct pool_flight flight = {0};
	int r;

	pool_flight_begins(&flight, disk, NULL);
	r = pool_directory_probe(disk->row.directory);
	pool_flight_ends(&flight);
	return r;
}

/* Whether the label can be read: 0, -ESHUTDOWN or why not. */
static int look_for_label(struct pool_disk *disk)
{
	int r = 0;

	for (unsigned i = 0; i < LABEL_TRIES && !disk->pool->stopping; i++) {
		if (i > 0)
			fiber_sleep(LABEL_PAUSE_NS);
		r = pool_disk_ask_label(disk);
		if (r == 0 || r == -ESHUTDOWN)
			return r;
	}
	return disk->pool->stopping ? -ESHUTDOWN : r;
}

static void give_up(struct pool_disk *disk, const char *why)
{
	int r;

	if (disk->pool->stopping)
		return;
	REACHED("pool.disk-given-up");
	log_error("pool", "a disk is given up", "pool=%s disk=%" PRIu64 " why=\"%s\"",
		  disk->pool->name, disk->id, why);
	r = pool_disk_declare_failed(disk, 0);
	if (r && r != -ESHUTDOWN)
		log_error("pool", "that cannot be written to the catalog: trying again later",
			  "pool=%s disk=%" PRIu64 " error=%d", disk->pool->name, disk->id, r);
}

/* It neither does what it is asked for nor says that it cannot. Where there are others it is as
 * good as missing; else all wait for it. */
void pool_disk_judge_silence(struct pool_disk *disk, uint64_t now_ns)
{
	if (!pool_disk_is_silent(disk) || pool_disk_is_gone(disk))
		return;
	atomic_store(&disk->health.bad_ns, now_ns);
	if (pool_disk_can_be_spared(disk)) {
		REACHED("pool.silent-missing");
		pool_disk_set_state(disk, POOL_DISK_MISSING, -ETIMEDOUT);
	} else if (pool_disk_state_of(disk) < POOL_DISK_SUSPECT) {
		pool_disk_set_state(disk, POOL_DISK_SUSPECT, -ETIMEDOUT);
	}
}

static const char unreliable[] = "it stops answering again and again";

static bool is_unreliable(struct pool_disk *disk, uint64_t now_ns)
{
	return pool_disk_silences_lately(disk, now_ns) >= POOL_DISK_FATAL_SILENCES &&
	       pool_disk_can_be_spared(disk);
}

static void judge(struct pool_disk *disk, uint64_t now_ns)
{
	unsigned errors = pool_disk_errors_lately(disk, now_ns);

	if (errors >= POOL_DISK_FATAL_ERRORS && pool_disk_can_be_spared(disk)) {
		give_up(disk, "too many errors");
	} else if (is_unreliable(disk, now_ns)) {
		give_up(disk, unreliable);
	} else if (pool_disk_state_of(disk) < POOL_DISK_SUSPECT &&
		   (errors >= POOL_DISK_ERRORS || is_slow(disk))) {
		REACHED("pool.disk-suspect");
		pool_disk_set_state(disk, POOL_DISK_SUSPECT, is_slow(disk) ? -ETIME : -EIO);
	}
}

/* A file system that found an error and stopped writing need not say so when asked. */
static void probe(struct pool_disk *disk)
{
	struct world_fs_stat fs;
	enum pool_disk_state state = pool_disk_state_of(disk);
	uint64_t wanted = 2 * atomic_load(&disk->pool->group_bytes);

	if (ask_size(disk, &fs) < 0 || fs.read_only ||
	    (state == POOL_DISK_FULL && fs.free_bytes < wanted))
		return;
	if (ask_to_write(disk) == 0 && pool_disk_state_of(disk) == state)
		pool_disk_set_state(disk, POOL_DISK_ONLINE, 0);
}

static uint64_t missing_until(struct pool_disk *disk)
{
	return MAX(atomic_load(&disk->state_since_ns), disk->pool->opened_ns) +
	       POOL_DISK_MISSING_NS;
}

uint64_t pool_disk_doom(struct pool_disk *disk, uint64_t now_ns)
{
	uint64_t last_ns = missing_until(disk);

	if (disk->pool->stopping || pool_disk_state_of(disk) != POOL_DISK_MISSING)
		return UINT64_MAX;
	if (is_unreliable(disk, now_ns))
		give_up(disk, unreliable);
	else if (now_ns < last_ns)
		return last_ns;
	else if (pool_disk_can_be_spared(disk))
		give_up(disk, "missing for too long");
	return pool_disk_is_failed(disk) ? UINT64_MAX : now_ns + POOL_DISK_SEARCH_NS;
}

static uint64_t tend_missing(struct pool_disk *disk, uint64_t now_ns)
{
	struct pool *pool = disk->pool;
	uint64_t last_ns = missing_until(disk);

	if (is_unreliable(disk, now_ns))
		return pool_disk_doom(disk, now_ns);
	if (atomic_exchange(&disk->answered, false))
		disk->tried_ns = 0;
	if (!pool_disk_is_silent(disk) && now_ns >= disk->tried_ns + POOL_DISK_SEARCH_NS) {
		if (pool_disk_search(disk) == 0)
			return 0;
		if (pool_disk_state_of(disk) != POOL_DISK_MISSING)
			return 0; /* declared so meanwhile */
		now_ns = reactor_now_ns(pool->home);
	}
	if (now_ns >= last_ns && pool_disk_can_be_spared(disk))
		return pool_disk_doom(disk, now_ns);
	last_ns = now_ns >= last_ns ? UINT64_MAX : last_ns;
	if (pool_disk_is_silent(disk)) /* when it answers, that is told */
		return last_ns;
	return MIN(disk->tried_ns + POOL_DISK_SEARCH_NS, last_ns);
}

static uint64_t tend_blocked(struct pool_disk *disk, uint64_t now_ns)
{
	if (now_ns < disk->tried_ns + PROBE_NS)
		return disk->tried_ns + PROBE_NS;
	disk->tried_ns = now_ns;
	probe(disk);
	return now_ns + PROBE_NS;
}

static uint64_t tend_orphans(struct pool_disk *disk, uint64_t now_ns)
{
	if (disk->orphans == 0)
		return UINT64_MAX;
	if (now_ns < disk->tried_ns + ORPHANS_NS)
		return disk->tried_ns + ORPHANS_NS;
	disk->tried_ns = now_ns;
	pool_copy_remove_orphans(disk);
	return disk->orphans > 0 ? now_ns + ORPHANS_NS : UINT64_MAX;
}

static uint64_t tend_suspect(struct pool_disk *disk, uint64_t now_ns)
{
	uint64_t until_ns = atomic_load(&disk->health.bad_ns) + POOL_DISK_SUSPECT_NS;

	if (now_ns < until_ns)
		return until_ns;
	pool_disk_forget_health(disk);
	pool_disk_set_state(disk, POOL_DISK_ONLINE, 0);
	return UINT64_MAX;
}

static void look(struct pool_disk *disk)
{
	int r = look_for_label(disk);

	if (r == 0 || r == -ESHUTDOWN || pool_disk_is_gone(disk))
		return;
	REACHED("pool.disk-missing");
	pool_disk_set_state(disk, POOL_DISK_MISSING, r);
}

/* Its file system may have been grown or, when that is allowed, shrunk. */
static void adapt(struct pool_disk *disk, const struct world_fs_stat *fs)
{
	uint64_t before = atomic_load(&disk->capacity);
	uint64_t capacity = pool_space_capacity(disk->row.capacity_bytes, fs);
	struct pool_flight flight = {0};

	if (capacity == before)
		return;
	log_info("pool", "a disk has another size",
		 "pool=%s disk=%" PRIu64 " directory=\"%s\" before=%" PRIu64 " bytes=%" PRIu64,
		 disk->pool->name, disk->id, disk->row.directory, before, capacity);
	pool_space_set_capacity(disk, capacity);
	if (capacity > before) {
		REACHED("pool.disk-grew");
		return;
	}
	REACHED("pool.disk-shrank");
	disk->names_busy++;
	pool_flight_begins(&flight, disk, NULL);
	pool_spare_make_room(disk);
	pool_flight_ends(&flight);
	disk->names_busy--;
}

/* What is there now may be the file system above, or another that was put there: the label tells.
 */
static void measure(struct pool_disk *disk)
{
	struct world_fs_stat fs;
	int r = ask_size(disk, &fs);

	if (r == 0 && fs.id != disk->file_system) {
		r = pool_disk_ask_label(disk);
		if (r == 0)
			disk->file_system = fs.id;
	}
	if (pool_disk_is_gone(disk) || disk->pool->stopping)
		return; /* meanwhile */
	if (r == 0)
		adapt(disk, &fs);
	else if (r != -ESHUTDOWN)
		look_at(disk);
}

static uint64_t tend_size(struct pool_disk *disk, uint64_t now_ns)
{
	if (now_ns >= disk->measured_ns + MEASURE_NS) {
		disk->measured_ns = now_ns;
		measure(disk);
	}
	return disk->measured_ns + MEASURE_NS;
}

static uint64_t tend_state(struct pool_disk *disk, uint64_t now_ns)
{
	switch (pool_disk_state_of(disk)) {
	case POOL_DISK_MISSING:
		return tend_missing(disk, now_ns);
	case POOL_DISK_FULL:
	case POOL_DISK_READ_ONLY:
		return tend_blocked(disk, now_ns);
	case POOL_DISK_SUSPECT:
		return tend_suspect(disk, now_ns);
	case POOL_DISK_ONLINE:
		return tend_orphans(disk, now_ns);
	default:
		return UINT64_MAX;
	}
}

uint64_t pool_disk_tend(struct pool_disk *disk, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX, again_ns;
	int met = atomic_exchange(&disk->health.met, 0);

	if (met)
		meet_at_home(disk, met);
	pool_disk_judge_silence(disk, now_ns);
	if (!pool_disk_is_gone(disk) && atomic_exchange(&disk->health.look, false))
		look(disk);
	if (!pool_disk_is_gone(disk))
		judge(disk, now_ns);
	if (!pool_disk_is_gone(disk) && !pool_disk_is_silent(disk) && !disk->leaving)
		next_ns = tend_size(disk, now_ns);
	if (disk->pool->stopping) /* since this began: it may have been held up */
		return UINT64_MAX;
	again_ns = tend_state(disk, now_ns);
	return MIN(next_ns, again_ns);
}
