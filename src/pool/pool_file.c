/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group files with their copies: taking, opening, closing, removing. All of it happens on the home
 * reactor; calls of other reactors are carried there by fiber_call(). Data I/O goes past the pool.
 *
 * Invariants
 *  1. An open file has an entry in state POOL_TABLE_OPEN in the table of each disk that has a copy,
 *     whether or not the disk can be reached; so no file is open twice.
 *  2. A copy whose disk has no entry for it has no disk here (copy->disk is NULL).
 *
 * Calls use fibers of FIBER_CONTROL at home: data, checkpoint and reclaim fibers wait for room, and
 * with all of them waiting there must still be one to remove a file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_tier.h"
#include "pool/pool_watch.h"

#define OPEN_PAUSE_NS (500 * NSEC_PER_MSEC)
#define OPEN_WAIT_NS  (30 * NSEC_PER_SEC) /* for a disk that hangs: guests wait as long */

struct file_call {
	struct pool *pool;
	struct pool_file *file;
	const struct pool_want *want;
	uint64_t id;
	const struct pool_copies *copies;
	bool wait;
};

int pool_carry(struct pool *pool, int (*fn)(void *arg), void *arg)
{
	ASSERT(fiber_current());
	return fiber_call(pool->home, FIBER_CONTROL, fn, arg);
}

static struct pool_file *file_new(struct pool *pool, uint64_t id)
{
	struct pool_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->pool = pool;
	file->id = id;
	fiber_mutex_init(&file->changing);
	return file;
}

/* Taking */

struct taking {
	struct pool_file *file;
	const struct pool_want *want;
	struct pool_copy_want copy_want;
	struct pool_place place;
	struct pool_tier_claim claim;
	bool tight; /* something is limited or kept: each place is claimed before it is used */
	int error;  /* the first */
};

static struct pool_making *begin_on(struct taking *taking, struct pool_disk *disk)
{
	struct pool_making *making = NULL;
	int r = pool_copy_make_begin(disk, taking->file->id, &taking->copy_want, &making);

	taking->place.tried[taking->place.tried_count++] = disk->id;
	if (r) {
		taking->error = taking->error ? taking->error : r;
		return NULL;
	}
	/* The others are as large as the first. */
	taking->copy_want.size_bytes = taking->copy_want.spare_bytes = pool_copy_make_size(making);
	taking->copy_want.exact = true;
	return making;
}

static void end_on(struct taking *taking, struct pool_making *making)
{
	struct pool_file *file = taking->file;
	struct pool_file_copy *slot = &file->slots[file->copy_count];
	int r = pool_copy_make_end(making, slot);

	if (r) {
		taking->error = taking->error ? taking->error : r;
		return;
	}
	file->copies[file->copy_count++] = slot;
	file->size_bytes = slot->size_bytes;
}

/* Where no disk has the room for all, one may still have a smaller spare file that will do. */
static unsigned choose(struct taking *taking, struct pool_disk *disks[POOL_FACTOR_MAX])
{
	struct pool_file *file = taking->file;
	struct pool_place *place = &taking->place;
	bool first = file->copy_count == 0;
	unsigned count;

	place->copies = taking->want->copies - file->copy_count;
	place->bytes = taking->copy_want.size_bytes;
	count = pool_place_choose(file->pool, place, first, disks);
	if (count > 0 || !first || !taking->want->about)
		return count;
	place->bytes = taking->copy_want.spare_bytes;
	return pool_place_choose(file->pool, place, first, disks);
}

static void unclaim(struct pool_disk *const *disks, unsigned count, uint64_t bytes)
{
	for (unsigned i = 0; i < count; i++)
		disks[i]->claimed -= bytes;
}

/* One after the other, each claimed before the next is chosen; where the first must be on a disk
 * that is not in order, the others may be, too, as in choose(). What cannot have all copies that
 * there is room for, because of limits, gets none: repair would make them beyond the limits. */
static unsigned choose_tight(struct taking *taking, struct pool_disk *disks[POOL_FACTOR_MAX])
{
	struct pool_file *file = taking->file;
	struct pool_place *place = &taking->place;
	unsigned wanted = taking->want->copies - file->copy_count, count = 0;
	bool first = file->copy_count == 0, any = first;

	place->copies = 1;
	place->bytes = taking->copy_want.size_bytes;
	place->refused = false;
	while (count < wanted && pool_place_choose(file->pool, place, any, &disks[count]) > 0) {
		struct pool_disk *disk = disks[count];

		any = any && place->fell_back;
		pool_tier_claim(file->pool, &taking->claim, disk->tier, place->bytes);
		disk->claimed += place->bytes;
		place->avoid[count++] = disk->id;
	}
	memset(place->avoid, 0, sizeof(place->avoid));
	if (!first || !place->refused)
		return count;
	unclaim(disks, count, place->bytes);
	return 0;
}

/* All at once: each takes several syncs of its disk. */
static unsigned take_some(struct taking *taking)
{
	struct pool_disk *disks[POOL_FACTOR_MAX];
	struct pool_making *makings[POOL_FACTOR_MAX];
	const struct pool_copy_want asked = taking->copy_want;
	unsigned count = taking->tight ? choose_tight(taking, disks) : choose(taking, disks);

	for (unsigned i = 0; i < count; i++) {
		taking->copy_want.claimed = taking->tight ? asked.size_bytes : 0;
		makings[i] = begin_on(taking, disks[i]);
	}
	for (unsigned i = 0; i < count; i++)
		if (makings[i])
			end_on(taking, makings[i]);
	if (taking->file->copy_count == 0)
		taking->copy_want = asked;
	return count;
}

static int take_copies(struct taking *taking)
{
	struct pool_file *file = taking->file;
	unsigned wanted = taking->want->copies;

	while (file->copy_count < wanted && taking->error != -ESHUTDOWN)
		if (take_some(taking) == 0)
			break;
	if (file->copy_count == 0 && taking->place.refused)
		return -ENOSPC;
	if (file->copy_count == 0)
		return taking->error ? taking->error : pool_place_error(file->pool);
	if (file->copy_count < wanted)
		REACHED("pool.fewer-copies");
	if (taking->error)
		REACHED("pool.copy-elsewhere");
	return 0;
}

/* Of the size that was asked for, for that is what was claimed. */
static int take_tightly(struct taking *taking)
{
	struct pool *pool = taking->file->pool;
	int r;

	taking->tight = true;
	taking->claim =
		(struct pool_tier_claim){.quota = taking->file->owner, .file_id = taking->file->id};
	taking->place.claim = &taking->claim;
	taking->place.strict = taking->want->use == POOL_USE_DATA;
	taking->copy_want.exact = true;
	taking->copy_want.spare_bytes = taking->copy_want.size_bytes;
	pool_tier_claim_begin(pool, &taking->claim);
	r = take_copies(taking);
	pool_tier_claim_end(pool, &taking->claim);
	if (r == 0 && taking->place.strict && taking->file->owner)
		pool_tier_placed(taking->file->owner);
	return r;
}

static bool id_is_taken(const struct pool *pool, uint64_t id)
{
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	if (pool_table_find(&disk->files, id))
		return true;
	return false;
}

/* None that a file has, whatever the counter says. */
static int reserve_id(struct pool *pool, uint64_t *ret_id)
{
	int r;

	do {
		r = catalog_reserve_ids(pool->catalog, pool->file_counter, 1, ret_id);
	} while (r == 0 && id_is_taken(pool, *ret_id));
	return r;
}

static int take_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool *pool = call->pool;
	_cleanup_free_ struct pool_file *file = NULL;
	uint64_t size = ALIGN_UP(call->want->size_bytes, POOL_PAGE_BYTES), id;
	struct taking taking = {
		.want = call->want,
		.copy_want = {.use = call->want->use,
			      .size_bytes = size,
			      .spare_bytes = call->want->about ? (size + 1) / 2 : size,
			      .owner = call->want->quota},
		.place = {.use = call->want->use,
			  .tiers = call->want->tiers,
			  .recent = call->want->recent,
			  .recent_count = call->want->recent_count},
	};
	int r = pool_state_writable(pool);

	if (r == 0)
		r = reserve_id(pool, &id);
	if (r)
		return r;
	taking.file = file = file_new(pool, id);
	if (!file)
		return -ENOMEM;
	file->tiers = call->want->tiers;
	file->owner = call->want->quota;
	pool->last_take_ns = reactor_now_ns(pool->home);
	r = pool_tier_is_tight(pool, file->owner) ? take_tightly(&taking) : take_copies(&taking);
	if (r)
		return r;
	call->file = TAKE_PTR(file);
	return 0;
}

int pool_file_take(struct pool *pool, const struct pool_want *want, struct pool_file **ret_file)
{
	struct file_call call = {.pool = pool, .want = want};
	int r;

	ASSERT(want->copies > 0 && want->copies <= POOL_FACTOR_MAX && want->size_bytes > 0);
	if (want->size_bytes > POOL_GROUP_BYTES)
		return -EFBIG;
	r = pool_carry(pool, take_at_home, &call);
	if (r == 0)
		*ret_file = call.file;
	return r;
}

/* Opening */

static struct pool_disk *disk_of_row(struct pool *pool, uint64_t disk_id)
{
	return pool_disk_by_id(pool, disk_id ? disk_id : pool_first_disk(pool));
}

/* Entries of the copies; NULL where there is none. -ENOENT when all are; -EBUSY when one is in use;
 * -EUCLEAN when it may be another vDisk's. */
static int find_entries(struct pool *pool, uint64_t file_id, const struct pool_copies *copies,
			struct pool_table_entry *ret_entries[POOL_COPIES_MAX])
{
	int r = -ENOENT;

	ASSERT(copies->count > 0 && copies->count <= POOL_COPIES_MAX);
	for (unsigned i = 0; i < copies->count; i++) {
		struct pool_disk *disk = disk_of_row(pool, copies->disks[i]);

		ret_entries[i] = disk ? pool_table_find(&disk->files, file_id) : NULL;
		if (ret_entries[i] && ret_entries[i]->state == POOL_TABLE_ORPHAN)
			ret_entries[i] = NULL;
		if (!ret_entries[i])
			continue;
		if (ret_entries[i]->state == POOL_TABLE_KEPT)
			return -EUCLEAN;
		if (ret_entries[i]->state != POOL_TABLE_CLOSED)
			return -EBUSY;
		r = 0;
	}
	return r;
}

static void set_entries(const struct pool_file *file, enum pool_table_state state)
{
	for (unsigned i = 0; i < file->copy_count; i++) {
		const struct pool_file_copy *copy = file->copies[i];

		if (copy->disk)
			pool_table_find(&copy->disk->files, file->id)->state = (uint8_t)state;
	}
}

static void fill_slots(struct pool_file *file, const struct pool_copies *copies,
		       struct pool_table_entry *const entries[POOL_COPIES_MAX])
{
	for (unsigned i = 0; i < copies->count; i++) {
		struct pool_disk *disk = disk_of_row(file->pool, copies->disks[i]);

		file->slots[i] = (struct pool_file_copy){
			.used = true,
			.disk = entries[i] ? disk : NULL,
			.disk_id = disk ? disk->id : copies->disks[i],
			.stale = copies->stale >> i & 1,
		};
		file->copies[i] = &file->slots[i];
	}
	file->copy_count = copies->count;
}

/* Opens those on disks of that kind; returns how many. */
static unsigned open_copies(struct pool_file *file, bool failed_disks, int *error)
{
	unsigned opened = 0;

	for (unsigned i = 0; i < file->copy_count; i++) {
		struct pool_file_copy *copy = file->copies[i];
		enum pool_disk_state state =
			copy->disk ? pool_disk_state_of(copy->disk) : POOL_DISK_MISSING;
		int r;

		if (copy->stale || state == POOL_DISK_MISSING ||
		    (state == POOL_DISK_FAILED) != failed_disks)
			continue;
		r = pool_copy_open(copy, file->id);
		if (r)
			*error = r == -ENODEV ? -EIO : r; /* missing as well */
		else
			file->size_bytes = MAX(file->size_bytes, copy->size_bytes);
		opened += r == 0;
	}
	return opened;
}

/* Whether one that counts may come back, because its disk only hangs, or others that hang left no
 * fiber to open it. */
static bool is_worth_waiting(const struct pool_file *file, int error)
{
	if (error == -ETIMEDOUT)
		return true;
	for (unsigned i = 0; i < file->copy_count; i++) {
		const struct pool_file_copy *copy = file->copies[i];

		if (copy->disk && !copy->stale && pool_disk_is_silent(copy->disk))
			return true;
	}
	return false;
}

static int open_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool_table_entry *entries[POOL_COPIES_MAX];
	struct pool_file *file;
	int r = find_entries(call->pool, call->id, call->copies, entries), error = -EIO;

	if (r)
		return r;
	file = file_new(call->pool, call->id);
	if (!file)
		return -ENOMEM;
	fill_slots(file, call->copies, entries);
	file->owner = pool_tier_owner(call->pool, call->id);
	set_entries(file, POOL_TABLE_BUSY);
	/* A failed disk is asked only when no other has it. */
	if (open_copies(file, false, &error) == 0 && open_copies(file, true, &error) == 0)
		r = error;
	call->wait = r && is_worth_waiting(file, r);
	set_entries(file, r ? POOL_TABLE_CLOSED : POOL_TABLE_OPEN);
	if (r)
		free(file);
	else
		call->file = file;
	return r;
}

int pool_file_open(struct pool *pool, uint64_t file_id, const struct pool_copies *copies,
		   struct pool_file **ret_file)
{
	struct file_call call = {.pool = pool, .id = file_id, .copies = copies};
	uint64_t end_ns = reactor_now_ns(reactor_current()) + OPEN_WAIT_NS;
	int r = pool_carry(pool, open_at_home, &call);

	while (r && call.wait && reactor_now_ns(reactor_current()) < end_ns) {
		REACHED("pool.open-waits");
		fiber_sleep(OPEN_PAUSE_NS);
		call.wait = false;
		r = pool_carry(pool, open_at_home, &call);
	}
	if (r == 0)
		*ret_file = call.file;
	return r;
}

/* Closing and removing */

static void close_copies(struct pool_file *file)
{
	for (unsigned i = 0; i < file->copy_count; i++)
		pool_copy_close(file->copies[i]);
}

static int close_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool_file *file = call->file;

	close_copies(file);
	set_entries(file, POOL_TABLE_CLOSED);
	free(file);
	return 0;
}

/* On its owner's reactor. What is late does not look at the file any more. */
static void check_idle(const struct pool_file *file)
{
	for (unsigned i = 0; i < file->copy_count; i++) {
		const struct pool_handle *handle = file->copies[i]->handle;

		ASSERT(!handle || handle->busy == handle->late);
	}
}

void pool_file_close(struct pool_file *file)
{
	struct file_call call = {.file = file};

	if (!file)
		return;
	check_idle(file);
	(void)pool_carry(file->pool, close_at_home, &call); /* always 0 */
}

int pool_file_remove_copy(struct pool_file_copy *copy, uint64_t file_id)
{
	if (!copy->disk)
		return 0;
	pool_table_find(&copy->disk->files, file_id)->state = POOL_TABLE_BUSY;
	return pool_copy_remove(copy->disk, file_id);
}

static int discard_at_home(void *arg)
{
	struct file_call *call = arg;
	_cleanup_free_ struct pool_file *file = call->file;
	int r = 0;

	close_copies(file);
	set_entries(file, POOL_TABLE_BUSY);
	for (unsigned i = 0; i < file->copy_count; i++) {
		int r2 = pool_file_remove_copy(file->copies[i], file->id);

		r = r ? r : r2;
	}
	return r;
}

void pool_file_discard(struct pool_file *file)
{
	struct file_call call = {.file = file};

	check_idle(file);
	/* What cannot be removed is an orphan, and tried again later. It was logged. */
	(void)pool_carry(file->pool, discard_at_home, &call);
}

static int discard_id_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool_table_entry *entries[POOL_COPIES_MAX];
	struct pool_disk *disks[POOL_COPIES_MAX];
	const struct pool_copies *copies = call->copies;
	int r = find_entries(call->pool, call->id, copies, entries);

	if (r)
		return r;
	for (unsigned i = 0; i < copies->count; i++) {
		disks[i] = entries[i] ? disk_of_row(call->pool, copies->disks[i]) : NULL;
		if (entries[i])
			entries[i]->state = POOL_TABLE_BUSY;
	}
	for (unsigned i = 0; i < copies->count; i++) {
		int r2 = disks[i] ? pool_copy_remove(disks[i], call->id) : 0;

		r = r ? r : r2;
	}
	return r;
}

int pool_file_discard_id(struct pool *pool, uint64_t file_id, const struct pool_copies *copies)
{
	struct file_call call = {.pool = pool, .id = file_id, .copies = copies};

	return pool_carry(pool, discard_id_at_home, &call);
}

/* What is known of it */

void pool_file_get_copies(const struct pool_file *file, struct pool_copies *ret_copies)
{
	*ret_copies = (struct pool_copies){.count = file->copy_count};
	for (unsigned i = 0; i < file->copy_count; i++) {
		const struct pool_file_copy *copy = file->copies[i];

		ret_copies->disks[i] = copy->disk_id;
		ret_copies->stale |= (unsigned)(copy->stale || copy->joining) << i;
	}
}

uint64_t pool_file_id(const struct pool_file *file)
{
	return file->id;
}

uint64_t pool_file_size(const struct pool_file *file)
{
	return file->size_bytes;
}
