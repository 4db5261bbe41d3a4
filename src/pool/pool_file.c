/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group files: taking, opening, growing, trimming, removing. All of it happens on the home reactor;
 * calls of other reactors are carried there by fiber_call(). Data I/O goes past the pool.
 *
 * Invariants
 *  1. Room is charged before it is allocated, and given back after it was freed.
 *  2. An entry of `files` in state POOL_TABLE_BUSY belongs to the call that set it.
 *  3. pool_file_take() returns after the file's entry in groups/XX is durable. Renames are atomic,
 *     so that the file is then no longer in spare/, whatever becomes of that directory's entry.
 *
 * Calls use fibers of FIBER_CONTROL at home: data, checkpoint and reclaim fibers wait for room, and
 * with all of them waiting there must still be one to remove a file.
 */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/macros.h"
#include "reactor/io.h"

struct file_call {
	struct pool *pool;
	struct pool_file *file;
	enum pool_use use;
	uint64_t id;
	uint64_t size_bytes;
	uint64_t spare_bytes; /* of a spare file that will do */
	const struct pool_copies *copies;
};

static int carry(struct pool *pool, int (*fn)(void *arg), struct file_call *call)
{
	ASSERT(fiber_current());
	call->pool = pool;
	return fiber_call(pool->home, FIBER_CONTROL, fn, call);
}

static struct pool_file *file_new(struct pool *pool, uint64_t id, uint64_t size_bytes)
{
	struct pool_file *file = calloc(1, sizeof(*file));

	if (file)
		*file = (struct pool_file){
			.pool = pool, .id = id, .size_bytes = size_bytes, .copy_count = 1};
	return file;
}

/* Nothing depends on what closing a file says: durability is by sync. */
static void close_handle(struct pool_file *file)
{
	int r = file->copies[0].file ? io_close(file->copies[0].file) : 0;

	file->copies[0].file = NULL;
	if (r && r != -ESHUTDOWN)
		log_warning("pool", "closing a file failed", "pool=%s file=%016" PRIx64 " error=%d",
			    file->pool->name, file->id, r);
}

static int sync_group_directory(struct pool *pool, uint64_t id)
{
	struct pool_path path;

	pool_path_group_directory(pool, (uint8_t)id, &path);
	return io_directory_sync(path.text);
}

/* Allocates up to `size_bytes`; when the file system is full, spare files make way. */
static int allocate(struct pool_file *file, uint64_t size_bytes)
{
	int r = io_resize(file->copies[0].file, size_bytes, WORLD_RESIZE_RESERVE);

	if (r == -ENOSPC && pool_spare_drop_all(file->pool))
		r = io_resize(file->copies[0].file, size_bytes, WORLD_RESIZE_RESERVE);
	return pool_state_note(file->pool, r);
}

static int make_new(struct pool_file *file)
{
	struct pool *pool = file->pool;
	struct pool_path path;
	unsigned flags = WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE | WORLD_FILE_DIRECT;
	int r;

	pool_spare_make_room(pool);
	pool_path_group(pool, file->id, &path);
	r = pool_state_note(pool, io_open(path.text, flags, &file->copies[0].file));
	if (r)
		return r;
	r = allocate(file, file->size_bytes);
	if (r == 0)
		r = sync_group_directory(pool, file->id);
	if (r) {
		close_handle(file);
		(void)io_unlink(path.text); /* best effort: no row names it */
	}
	return r;
}

static int adopt_spare(struct pool_file *file, uint64_t spare_id)
{
	struct pool *pool = file->pool;
	struct pool_path from, to;
	int r;

	pool_path_spare(pool, spare_id, ".sp", &from);
	pool_path_group(pool, file->id, &to);
	r = pool_state_note(pool, io_rename(from.text, to.text));
	if (r)
		return r;
	r = io_open(to.text, WORLD_FILE_DIRECT, &file->copies[0].file);
	if (r == 0)
		r = sync_group_directory(pool, file->id);
	if (r) {
		close_handle(file);
		(void)io_unlink(to.text); /* best effort: no row names it */
	}
	return r;
}

/* -ENOENT: no spare file fits. */
static int take_spare(struct pool_file *file, const struct file_call *call)
{
	_cleanup_free_ struct pool_spare *spare =
		pool_spare_pick(call->pool, call->spare_bytes, call->size_bytes);
	int r;

	if (!spare)
		return -ENOENT;
	r = pool_space_charge(call->pool, call->use, spare->size_bytes);
	if (r) {
		/* Too large for what is left: back to the others. */
		(void)pool_spare_add(call->pool, spare->id, spare->size_bytes); /* or forgotten */
		return -ENOENT;
	}
	file->size_bytes = spare->size_bytes;
	r = adopt_spare(file, spare->id);
	if (r)
		pool_space_release(call->pool, spare->size_bytes);
	return r;
}

static int take_new(struct pool_file *file, const struct file_call *call)
{
	int r = pool_space_charge(call->pool, call->use, call->size_bytes);

	if (r)
		return r;
	file->size_bytes = call->size_bytes;
	r = make_new(file);
	if (r)
		pool_space_release(call->pool, call->size_bytes);
	return r;
}

static int take_any(struct pool_file *file, const struct file_call *call)
{
	int r = take_spare(file, call);

	return r == -ENOENT ? take_new(file, call) : r;
}

static int take_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool *pool = call->pool;
	_cleanup_free_ struct pool_file *file = NULL;
	struct pool_table_entry *entry;
	uint64_t id;
	int r = pool_state_writable(pool);

	if (r == 0)
		r = catalog_reserve_ids(pool->catalog, pool->file_counter, 1, &id);
	if (r)
		return r;
	file = file_new(pool, id, 0);
	if (!file)
		return -ENOMEM;
	pool->last_take_ns = reactor_now_ns(pool->home);
	r = take_any(file, call);
	pool_space_press(pool);
	if (r)
		return r;
	if (pool_table_reserve(&pool->files) != 0) {
		close_handle(file);
		pool_space_release(pool, file->size_bytes);
		return -ENOMEM; /* the file is swept at the next opening */
	}
	entry = pool_table_insert(&pool->files, id);
	entry->pages = (uint32_t)(file->size_bytes / POOL_PAGE_BYTES);
	entry->state = POOL_TABLE_OPEN;
	pool_keeper_wake(pool);
	call->file = TAKE_PTR(file);
	return 0;
}

static int take(struct pool *pool, struct file_call *call, struct pool_file **ret_file)
{
	int r;

	ASSERT(call->spare_bytes > 0);
	if (call->size_bytes > POOL_GROUP_BYTES)
		return -EFBIG;
	r = carry(pool, take_at_home, call);
	if (r == 0)
		*ret_file = call->file;
	return r;
}

int pool_file_take(struct pool *pool, const struct pool_want *want, struct pool_file **ret_file)
{
	uint64_t size = ALIGN_UP(want->size_bytes, POOL_PAGE_BYTES);
	struct file_call call = {
		.use = want->use,
		.size_bytes = size,
		.spare_bytes = want->about ? (size + 1) / 2 : size,
	};

	ASSERT(want->copies > 0 && want->copies <= POOL_COPIES_MAX);
	return take(pool, &call, ret_file);
}

/* The row's size may be older than the file's: what is there is charged. */
static void charge_found(struct pool_file *file, struct pool_table_entry *entry)
{
	struct pool *pool = file->pool;
	uint64_t charged = entry->pages * POOL_PAGE_BYTES;
	uint64_t used = atomic_load(&pool->used);

	if (charged == file->size_bytes)
		return;
	atomic_store(&pool->used, used - charged + file->size_bytes);
	entry->pages = (uint32_t)(file->size_bytes / POOL_PAGE_BYTES);
}

static int open_handle(struct pool_file *file)
{
	struct pool_path path;
	struct world_stat stat;
	int r;

	pool_path_group(file->pool, file->id, &path);
	r = io_open(path.text, WORLD_FILE_DIRECT, &file->copies[0].file);
	if (pool_state_note(file->pool, r) == -EROFS)
		r = io_open(path.text, WORLD_FILE_DIRECT | WORLD_FILE_READ_ONLY,
			    &file->copies[0].file);
	if (r == 0)
		r = io_file_stat(file->copies[0].file, &stat);
	if (r == 0 && stat.size_bytes > POOL_GROUP_BYTES)
		r = -EUCLEAN;
	if (r) {
		close_handle(file);
		log_error("pool", "cannot open a group file", "pool=%s path=\"%s\" error=%d",
			  file->pool->name, path.text, r);
		return r;
	}
	file->size_bytes = ALIGN_UP(stat.size_bytes, POOL_PAGE_BYTES);
	return 0;
}

static int open_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool *pool = call->pool;
	struct pool_table_entry *entry = pool_table_find(&pool->files, call->id);
	_cleanup_free_ struct pool_file *file = NULL;
	int r;

	if (!entry)
		return -ENOENT;
	if (entry->state != POOL_TABLE_CLOSED)
		return -EBUSY;
	file = file_new(pool, call->id, 0);
	if (!file)
		return -ENOMEM;
	entry->state = POOL_TABLE_BUSY;
	r = open_handle(file);
	entry = pool_table_find(&pool->files, call->id);
	ASSERT(entry && entry->state == POOL_TABLE_BUSY);
	entry->state = r ? POOL_TABLE_CLOSED : POOL_TABLE_OPEN;
	if (r)
		return r;
	charge_found(file, entry);
	call->file = TAKE_PTR(file);
	return 0;
}

int pool_file_open(struct pool *pool, uint64_t file_id, const struct pool_copies *copies,
		   struct pool_file **ret_file)
{
	struct file_call call = {.id = file_id, .copies = copies};
	int r = carry(pool, open_at_home, &call);

	if (r == 0)
		*ret_file = call.file;
	return r;
}

static struct pool_table_entry *open_entry(const struct pool_file *file)
{
	struct pool_table_entry *entry = pool_table_find(&file->pool->files, file->id);

	ASSERT(entry && entry->state == POOL_TABLE_OPEN);
	return entry;
}

static int grow_to(struct pool_file *file, enum pool_use use, uint64_t size_bytes)
{
	struct pool *pool = file->pool;
	uint64_t more = size_bytes - file->size_bytes;
	int r = pool_space_charge(pool, use, more);

	if (r)
		return r;
	pool_spare_make_room(pool);
	r = allocate(file, size_bytes);
	if (r) {
		pool_space_release(pool, more);
		return r;
	}
	file->size_bytes = size_bytes;
	open_entry(file)->pages = (uint32_t)(size_bytes / POOL_PAGE_BYTES);
	return 0;
}

static int grow_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool_file *file = call->file;
	uint64_t wanted = MIN(file->size_bytes * 2, call->pool->group_bytes);
	int r = pool_state_writable(call->pool);

	if (r)
		return r;
	wanted = MAX(wanted, call->size_bytes);
	r = grow_to(file, call->use, wanted);
	if (r == -ENOSPC && wanted > call->size_bytes)
		r = grow_to(file, call->use, call->size_bytes);
	pool_space_press(call->pool);
	return r;
}

int pool_file_grow(struct pool_file *file, enum pool_use use, uint64_t size_bytes)
{
	struct file_call call = {
		.file = file,
		.use = use,
		.size_bytes = ALIGN_UP(size_bytes, POOL_PAGE_BYTES),
	};

	if (size_bytes > POOL_GROUP_BYTES)
		return -EFBIG;
	if (call.size_bytes <= file->size_bytes)
		return 0;
	return carry(file->pool, grow_at_home, &call);
}

static int trim_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool_file *file = call->file;
	uint64_t less = file->size_bytes - call->size_bytes;
	int r = io_resize(file->copies[0].file, call->size_bytes, WORLD_RESIZE_TRUNCATE);

	if (pool_state_note(call->pool, r))
		return r;
	file->size_bytes = call->size_bytes;
	open_entry(file)->pages = (uint32_t)(call->size_bytes / POOL_PAGE_BYTES);
	pool_space_release(call->pool, less);
	return 0;
}

int pool_file_trim(struct pool_file *file, uint64_t size_bytes)
{
	struct file_call call = {.file = file, .size_bytes = size_bytes};

	ASSERT(IS_ALIGNED(size_bytes, POOL_PAGE_BYTES));
	if (size_bytes >= file->size_bytes)
		return 0;
	return carry(file->pool, trim_at_home, &call);
}

void pool_file_get_copies(const struct pool_file *file, struct pool_copies *ret_copies)
{
	*ret_copies = (struct pool_copies){.count = 1, .disks = {file->pool->disk_id}};
}

uint64_t pool_file_id(const struct pool_file *file)
{
	return file->id;
}

uint64_t pool_file_size(const struct pool_file *file)
{
	return file->size_bytes;
}

static int close_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool_file *file = call->file;

	close_handle(file);
	open_entry(file)->state = POOL_TABLE_CLOSED;
	free(file);
	return 0;
}

void pool_file_close(struct pool_file *file)
{
	struct file_call call = {.file = file};

	if (file)
		(void)carry(file->pool, close_at_home, &call); /* always 0 */
}

/* To spare/ or away. -ENOENT is as good: it is gone. */
static int remove_name(struct pool *pool, uint64_t id, uint64_t size_bytes, bool *ret_spare)
{
	struct pool_path from, to;
	int r = -ENOSPC;

	pool_path_group(pool, id, &from);
	pool_path_spare(pool, id, ".sp", &to);
	*ret_spare = false;
	if (pool_spare_wants(pool, size_bytes))
		r = io_rename(from.text, to.text);
	if (r == 0) {
		*ret_spare = true;
		return 0;
	}
	if (r == -ENOENT)
		return 0;
	r = io_unlink(from.text);
	return r == -ENOENT ? 0 : r;
}

int pool_file_remove(struct pool *pool, uint64_t id)
{
	struct pool_table_entry *entry = pool_table_find(&pool->files, id);
	uint64_t size = entry->pages * POOL_PAGE_BYTES;
	bool spare;
	int r = remove_name(pool, id, size, &spare);

	entry = pool_table_find(&pool->files, id);
	ASSERT(entry && entry->state == POOL_TABLE_BUSY);
	if (pool_state_note(pool, r)) {
		entry->state = POOL_TABLE_CLOSED;
		if (r != -ESHUTDOWN)
			log_error("pool", "cannot remove a group file",
				  "pool=%s file=%016" PRIx64 " error=%d", pool->name, id, r);
		return r;
	}
	pool_table_remove(&pool->files, entry);
	if (spare)
		(void)pool_spare_add(pool, id, size); /* or forgotten until the next opening */
	pool_space_release(pool, size);
	return 0;
}

static int discard_at_home(void *arg)
{
	struct file_call *call = arg;

	close_handle(call->file);
	open_entry(call->file)->state = POOL_TABLE_BUSY;
	free(call->file);
	return pool_file_remove(call->pool, call->id);
}

void pool_file_discard(struct pool_file *file)
{
	struct file_call call = {.file = file, .id = file->id};

	/* What cannot be removed stays charged; the next opening tries again. It was logged. */
	(void)carry(file->pool, discard_at_home, &call);
}

static int discard_id_at_home(void *arg)
{
	struct file_call *call = arg;
	struct pool_table_entry *entry = pool_table_find(&call->pool->files, call->id);

	if (!entry)
		return -ENOENT;
	if (entry->state != POOL_TABLE_CLOSED)
		return -EBUSY;
	entry->state = POOL_TABLE_BUSY;
	return pool_file_remove(call->pool, call->id);
}

int pool_file_discard_id(struct pool *pool, uint64_t file_id, const struct pool_copies *copies)
{
	struct file_call call = {.id = file_id, .copies = copies};

	return carry(pool, discard_id_at_home, &call);
}
