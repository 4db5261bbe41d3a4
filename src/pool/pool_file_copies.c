/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of an open file: its size, and which copies it has.
 *
 * The owner's reactor does I/O on the copies meanwhile, so it alone changes what I/O looks at:
 * which copies there are, in what order, and their handles. What suspends is carried to the pool's
 * home and works on memory of its own, or on copies that are out of I/O's sight. `changing` lets
 * one change at a time run.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_fence.h"
#include "pool/pool_io_priv.h"
#include "pool/pool_tier.h"

struct change_call {
	struct pool_file *file;
	uint64_t size_bytes;
	struct pool_file_copy copies[POOL_COPIES_MAX]; /* made or opened, or to be closed */
	bool done[POOL_COPIES_MAX];
};

static int change(struct pool_file *file, int (*fn)(void *arg), struct change_call *call)
{
	int r;

	fiber_mutex_lock(&file->changing);
	r = pool_carry(file->pool, fn, call);
	fiber_mutex_unlock(&file->changing);
	return r;
}

/* It is settled when the copy is opened again. */
static bool is_excused(const struct pool_file_copy *copy, int error)
{
	return error == -EROFS || pool_disk_is_gone(copy->disk) || pool_disk_is_silent(copy->disk);
}

static int trim_at_home(void *arg)
{
	struct change_call *call = arg;
	struct pool_file *file = call->file;
	uint64_t size = 0;
	unsigned trimmed = 0;
	int error = 0, excused = -EIO;

	for (unsigned i = 0; i < file->copy_count; i++) {
		struct pool_file_copy *copy = file->copies[i];
		int r;

		if (!copy->handle || copy->stale || pool_disk_is_failed(copy->disk))
			continue;
		r = pool_copy_trim(copy, file->id, call->size_bytes);
		if (r && is_excused(copy, r)) {
			excused = r;
			continue;
		}
		trimmed += r == 0;
		error = error ? error : r;
		size = MAX(size, copy->size_bytes);
	}
	if (trimmed > 0)
		file->size_bytes = MAX(size, call->size_bytes);
	return trimmed > 0 || error ? error : excused;
}

int pool_file_trim(struct pool_file *file, uint64_t size_bytes)
{
	struct change_call call = {.file = file, .size_bytes = size_bytes};

	ASSERT(IS_ALIGNED(size_bytes, POOL_PAGE_BYTES));
	if (size_bytes >= file->size_bytes)
		return 0;
	return change(file, trim_at_home, &call);
}

/* Adding a copy */

static int add_at_home(void *arg)
{
	struct change_call *call = arg;
	struct pool_file *file = call->file;
	struct pool *pool = file->pool;
	struct pool_copy_want want = {.use = POOL_USE_DATA,
				      .size_bytes = file->size_bytes,
				      .spare_bytes = MAX(file->size_bytes, POOL_PAGE_BYTES),
				      .exact = true,
				      .owner = file->owner};
	const struct pool_tier_claim claim = {.quota = file->owner, .file_id = file->id};
	struct pool_place place = {
		.use = POOL_USE_DATA, .bytes = file->size_bytes, .copies = 1, .tiers = file->tiers};
	struct pool_disk *disks[POOL_FACTOR_MAX];
	int r = -ENOSPC;

	/* A dead daemon may be removing a file of this name, or making one. */
	if (pool_fence_get() == POOL_FENCE_NAMES)
		return -EBUSY;
	if (pool_tier_is_tight(pool, file->owner))
		place.claim = &claim; /* rather within limits, but a copy in any case */
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		if (file->slots[i].used)
			place.avoid[i] = file->slots[i].disk_id;
	if (file->shunned)
		place.tried[place.tried_count++] = file->shunned;
	/* In order only: a suspect disk soon is so again, or has failed, and a draining one would
	 * have to give the copy away. */
	while (r != 0 && r != -ESHUTDOWN && place.tried_count < POOL_DISKS_MAX &&
	       pool_place_choose(pool, &place, false, disks) > 0) {
		place.tried[place.tried_count++] = disks[0]->id;
		r = pool_copy_make(disks[0], file->id, &want, &call->copies[0]);
	}
	return r == -EEXIST ? -ENOSPC : r; /* what is left of an older copy is in the way */
}

static struct pool_file_copy *free_slot(struct pool_file *file)
{
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		if (!file->slots[i].used)
			return &file->slots[i];
	return NULL;
}

void pool_file_set_tiers(struct pool_file *file, unsigned tiers)
{
	file->tiers = tiers;
}

void pool_file_shun(struct pool_file *file, uint64_t disk)
{
	file->shunned = disk;
}

int pool_file_add_copy(struct pool_file *file, unsigned *ret_copy)
{
	struct change_call call = {.file = file};
	struct pool_file_copy *slot;
	int r = -EMLINK;

	fiber_mutex_lock(&file->changing);
	slot = free_slot(file);
	if (slot)
		r = pool_carry(file->pool, add_at_home, &call);
	if (r == 0) {
		*slot = call.copies[0];
		slot->joining = true;
		*ret_copy = file->copy_count;
		file->copies[file->copy_count++] = slot;
	}
	fiber_mutex_unlock(&file->changing);
	return r;
}

/* Opening what could not be reached */

static bool wants_handle(const struct pool_file_copy *copy, bool failed_disks)
{
	if (!copy->disk || copy->stale || copy->leaving)
		return false;
	if (failed_disks)
		return pool_disk_is_failed(copy->disk) && !copy->handle;
	if (pool_disk_is_gone(copy->disk))
		return false;
	if (copy->read_only && pool_disk_state_of(copy->disk) < POOL_DISK_READ_ONLY)
		return true;
	return !copy->handle || copy->generation != atomic_load(&copy->disk->generation);
}

static int open_at_home(void *arg)
{
	struct change_call *call = arg;
	struct pool_file *file = call->file;

	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		if (call->copies[i].used)
			call->done[i] = pool_copy_open(&call->copies[i], file->id) == 0;
	return 0;
}

static int close_at_home(void *arg)
{
	struct change_call *call = arg;

	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		if (call->copies[i].used)
			pool_copy_close(&call->copies[i]);
	return 0;
}

/* The old handle is closed when I/O does not use it any more. */
static void install(struct pool_file_copy *slot, struct pool_file_copy *opened)
{
	struct pool_handle *old = slot->handle;

	REACHED("pool.copy-reopened");
	slot->handle = opened->handle;
	slot->size_bytes = opened->size_bytes;
	slot->generation = opened->generation;
	slot->read_only = opened->read_only;
	slot->resort = opened->resort;
	opened->handle = old;
}

static void reopen_locked(struct pool_file *file, bool failed_disks)
{
	struct change_call call = {.file = file};
	unsigned wanted = 0;

	for (unsigned i = 0; i < POOL_COPIES_MAX; i++) {
		struct pool_file_copy *slot = &file->slots[i];

		if (!slot->used || !wants_handle(slot, failed_disks))
			continue;
		call.copies[i] = *slot;
		call.copies[i].handle = NULL;
		wanted++;
	}
	if (wanted == 0)
		return;
	(void)pool_carry(file->pool, open_at_home, &call); /* always 0 */
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++) {
		if (call.done[i])
			install(&file->slots[i], &call.copies[i]);
		else
			call.copies[i].used = false;
	}
	(void)pool_carry(file->pool, close_at_home, &call); /* always 0 */
	for (unsigned i = 0; i < file->copy_count; i++)
		if (pool_copy_takes_part(file->copies[i]))
			file->size_bytes = MAX(file->size_bytes, file->copies[i]->size_bytes);
}

unsigned pool_file_reopen(struct pool_file *file)
{
	fiber_mutex_lock(&file->changing);
	reopen_locked(file, false);
	fiber_mutex_unlock(&file->changing);
	return pool_file_taking_part(file);
}

void pool_file_open_failed(struct pool_file *file)
{
	fiber_mutex_lock(&file->changing);
	reopen_locked(file, true);
	fiber_mutex_unlock(&file->changing);
}

/* Following the row */

static struct pool_file_copy *slot_on(struct pool_file *file, uint64_t disk_id)
{
	uint64_t id = disk_id ? disk_id : pool_first_disk(file->pool);

	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		if (file->slots[i].used && file->slots[i].disk_id == id)
			return &file->slots[i];
	return NULL;
}

static void set_order(struct pool_file *file, const struct pool_copies *copies)
{
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		file->slots[i].leaving = file->slots[i].used;
	for (unsigned i = 0; i < copies->count; i++) {
		struct pool_file_copy *slot = slot_on(file, copies->disks[i]);

		ASSERT(slot && slot->leaving);
		slot->leaving = slot->joining = false;
		slot->stale = copies->stale >> i & 1;
		if (!slot->stale)
			slot->failed = false;
		file->copies[i] = slot;
	}
	file->copy_count = copies->count;
}

static int remove_at_home(void *arg)
{
	struct change_call *call = arg;
	struct pool_file *file = call->file;

	for (unsigned i = 0; i < POOL_COPIES_MAX; i++) {
		struct pool_file_copy *slot = &file->slots[i];

		if (!slot->leaving)
			continue;
		pool_copy_close(slot);
		/* Logged; an orphan now. */
		(void)pool_file_remove_copy(slot, file->id);
	}
	return 0;
}

static void remove_leaving(struct pool_file *file)
{
	struct change_call call = {.file = file};
	bool leaving = false;

	for (unsigned i = 0; i < POOL_COPIES_MAX; i++) {
		if (file->slots[i].leaving)
			pool_handle_settle(file->slots[i].handle);
		leaving |= file->slots[i].leaving;
	}
	if (!leaving)
		return;
	(void)pool_carry(file->pool, remove_at_home, &call); /* always 0 */
	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		if (file->slots[i].leaving)
			file->slots[i] = (struct pool_file_copy){0};
}

void pool_file_set_copies(struct pool_file *file, const struct pool_copies *copies)
{
	ASSERT(copies->count > 0 && copies->count <= POOL_COPIES_MAX);
	fiber_mutex_lock(&file->changing);
	set_order(file, copies);
	remove_leaving(file);
	reopen_locked(file, false);
	fiber_mutex_unlock(&file->changing);
}
