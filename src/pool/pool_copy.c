/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One copy of a group file on one disk: making, opening, trimming, removing. On the pool's
 * home reactor, in fibers.
 *
 * Invariants
 *  1. Room is charged before it is allocated, and given back after it was freed.
 *  2. An entry of the disk's table in state POOL_TABLE_BUSY belongs to the call that set it.
 *  3. pool_copy_make() returns after the file's entry in groups/XX is durable. Renames are atomic,
 *     so that the file is then no longer in spare/, whatever becomes of that directory's entry.
 *  4. What changes names on a disk is a flow (pool_watch.c), and counted in names_busy: a sweep,
 *     which waits until nothing is, finds each file either in the table or unnamed. A flow that was
 *     given up, because the disk hangs, undoes what it did in the end.
 *  5. On a disk that has failed a file is opened to be read, and nothing else.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_tier.h"
#include "pool/pool_watch.h"
#include "reactor/io.h"

struct pool_making {
	struct pool_disk *disk;
	uint64_t file_id;
	struct pool_copy_want want;
	struct pool_flow *flow;
	struct pool_spare *spare; /* that it is to become; NULL = a new one */
	struct world_file *file;
	struct pool_handle *handle;
	uint64_t size_bytes;
	uint64_t charged; /* of size_bytes; 0 = given back */
};

/* The claim on its place is not needed any more. */
static void unclaim(struct pool_making *making)
{
	ASSERT(making->disk->claimed >= making->want.claimed);
	making->disk->claimed -= making->want.claimed;
	making->want.claimed = 0;
}

/* In the same turn as the claim goes: what is being made counts once at any time. */
static int charge(struct pool_making *making, uint64_t bytes)
{
	int r = pool_space_charge(making->disk, making->want.use, bytes);

	if (r == 0)
		unclaim(making);
	return r;
}

/* Nothing depends on what closing a file says: durability is by sync. */
static void close_handle(const struct pool_disk *disk, struct world_file *file, uint64_t file_id)
{
	int r = file ? io_close(file) : 0;

	if (r && r != -ESHUTDOWN)
		log_warning("pool", "closing a file failed",
			    "pool=%s disk=%" PRIu64 " file=%016" PRIx64 " error=%d",
			    disk->pool->name, disk->id, file_id, r);
}

static int note(struct pool_disk *disk, int r)
{
	return pool_disk_note(disk, POOL_DISK_NAMES, r);
}

static int sync_group_directory(struct pool_disk *disk, uint64_t file_id)
{
	struct pool_path path;

	pool_path_group_directory(disk, (uint8_t)file_id, &path);
	return note(disk, io_directory_sync(path.text));
}

/* Allocates up to `size_bytes`; when the file system is full, spare files make way. */
static int allocate(struct pool_disk *disk, struct world_file *file, uint64_t size_bytes)
{
	int r = io_resize(file, size_bytes, WORLD_RESIZE_RESERVE);

	if (r == -ENOSPC && pool_spare_drop_all(disk))
		r = io_resize(file, size_bytes, WORLD_RESIZE_RESERVE);
	return note(disk, r);
}

static void give_up(struct pool_making *making, const struct pool_path *path)
{
	close_handle(making->disk, TAKE_PTR(making->file), making->file_id);
	(void)io_unlink(path->text); /* best effort: no row names it */
}

static int make_new(struct pool_making *making)
{
	struct pool_path path;
	unsigned flags = WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE | WORLD_FILE_DIRECT;
	int r;

	pool_spare_make_room(making->disk);
	pool_path_group(making->disk, making->file_id, &path);
	r = io_open(path.text, flags, &making->file);
	/* What an earlier copy left on a disk that was read-only: no row names it, or the table
	 * would, which also names what is kept in doubt. */
	if (r == -EEXIST && !pool_is_in_doubt(making->disk->pool) && io_unlink(path.text) == 0) {
		REACHED("pool.leftover");
		r = io_open(path.text, flags, &making->file);
	}
	if (note(making->disk, r))
		return r;
	r = allocate(making->disk, making->file, making->size_bytes);
	if (r == 0)
		r = sync_group_directory(making->disk, making->file_id);
	if (r)
		give_up(making, &path);
	return r;
}

/* One that was removed unopened is only said to be so large: a loss of power may have cut it short
 * since. */
static int fit_spare(struct pool_making *making, uint64_t spare_bytes)
{
	uint64_t size = making->size_bytes;
	int r = 0;

	if (size < spare_bytes)
		r = note(making->disk, io_resize(making->file, size, WORLD_RESIZE_TRUNCATE));
	return r ? r : allocate(making->disk, making->file, size);
}

static int adopt_spare(struct pool_making *making, const struct pool_spare *spare)
{
	struct pool_path from, to;
	int r;

	pool_path_spare(making->disk->row.directory, spare->id, ".sp", &from);
	pool_path_group(making->disk, making->file_id, &to);
	r = note(making->disk, io_rename(from.text, to.text));
	if (r)
		return r;
	r = note(making->disk, io_open(to.text, WORLD_FILE_DIRECT, &making->file));
	if (r == 0)
		r = fit_spare(making, spare->size_bytes);
	if (r == 0)
		r = sync_group_directory(making->disk, making->file_id);
	if (r)
		give_up(making, &to);
	return r == -ENOENT ? -EIO : r; /* the disk has gone: a new file would fare no better */
}

static void give_back(struct pool_making *making)
{
	uint64_t bytes = making->charged;

	making->charged = 0;
	pool_space_release(making->disk, bytes);
}

/* Back to the others, or forgotten. */
static void put_spare_back(struct pool_making *making)
{
	_cleanup_free_ struct pool_spare *spare = TAKE_PTR(making->spare);

	if (spare)
		(void)pool_spare_add(making->disk, spare->id, spare->size_bytes);
}

/* What it becomes, and of what size: charged, nothing done yet. */
static int plan(struct pool_making *making)
{
	const struct pool_copy_want *want = &making->want;
	int r;

	making->spare = pool_spare_pick(making->disk, want->spare_bytes, want->size_bytes);
	making->size_bytes =
		making->spare && !want->exact ? making->spare->size_bytes : want->size_bytes;
	r = charge(making, making->size_bytes);
	if (r && making->spare) { /* too large for what is left */
		put_spare_back(making);
		making->size_bytes = want->size_bytes;
		r = charge(making, making->size_bytes);
	}
	making->charged = r ? 0 : making->size_bytes;
	return r;
}

static int make_file(struct pool_making *making)
{
	_cleanup_free_ struct pool_spare *spare = TAKE_PTR(making->spare);
	int r = spare ? adopt_spare(making, spare) : -ENOENT;

	return r == -ENOENT ? make_new(making) : r; /* none, or it was not there */
}

static int enter(struct pool_making *making)
{
	struct pool_disk *disk = making->disk;
	struct pool_quota *owner = making->want.owner;
	struct pool_tier_change change;
	struct pool_table_entry *entry;

	making->handle = pool_handle_new(disk, making->file);
	if (!making->handle || pool_table_reserve(&disk->files, making->file_id) != 0) {
		free(making->handle);
		close_handle(disk, TAKE_PTR(making->file), making->file_id);
		return -ENOMEM; /* the file is swept at the next opening */
	}
	change = pool_tier_change_begin(disk, owner, making->file_id);
	entry = pool_table_insert(&disk->files, making->file_id);
	entry->pages = (uint32_t)(making->size_bytes / POOL_PAGE_BYTES);
	entry->state = POOL_TABLE_OPEN;
	pool_tier_own(entry, owner);
	pool_tier_change_end(&change);
	return 0;
}

/* No row names it any more, whatever becomes of it. */
static void leave_owner(struct pool_disk *disk, struct pool_table_entry *entry)
{
	struct pool_quota *owner = entry->owner;
	struct pool_tier_change change = pool_tier_change_begin(disk, owner, entry->id);

	pool_tier_hold(owner);
	pool_tier_disown(entry);
	pool_tier_change_end(&change);
	pool_tier_release(owner);
}

/* Out of the table. */
static void remove_entry(struct pool_disk *disk, struct pool_table_entry *entry)
{
	uint64_t size = entry->pages * POOL_PAGE_BYTES;

	leave_owner(disk, entry);
	pool_table_remove(&disk->files, entry);
	pool_space_release(disk, size);
}

static void become_orphan(struct pool_disk *disk, struct pool_table_entry *entry)
{
	leave_owner(disk, entry);
	entry->state = POOL_TABLE_ORPHAN;
	disk->orphans++;
	pool_keeper_wake(disk->pool);
}

/* Within a flow, whose disk hung a moment ago. */
static void forget(struct pool_disk *disk, uint64_t file_id)
{
	struct pool_table_entry *entry = pool_table_find(&disk->files, file_id);

	if (pool_disk_is_gone(disk))
		remove_entry(disk, entry);
	else
		become_orphan(disk, entry);
}

static int make(void *arg)
{
	struct pool_making *making = arg;
	int r = -EIO;

	/* It may have been since it was chosen. From here on it is not, for that waits until names
	 * are not busy. */
	if (atomic_load(&making->disk->leaving))
		put_spare_back(making);
	else
		r = make_file(making);
	if (r == 0)
		r = enter(making);
	if (r)
		give_back(making);
	return r;
}

static void making_free(struct pool_making *making)
{
	unclaim(making);
	pool_tier_release(making->want.owner);
	free(making);
}

static void make_dropped(void *arg, int result)
{
	struct pool_making *making = arg;

	if (result == 0) {
		pool_handle_unref(making->handle);
		pool_table_find(&making->disk->files, making->file_id)->state = POOL_TABLE_BUSY;
		forget(making->disk, making->file_id);
	} else if (making->charged) { /* not begun */
		put_spare_back(making);
		give_back(making);
	}
	making_free(making);
}

static int making_new(struct pool_disk *disk, uint64_t file_id, const struct pool_copy_want *want,
		      struct pool_making **ret_making)
{
	struct pool_making *making;
	int r;

	if (pool_disk_is_gone(disk)) /* since it was chosen */
		return -EIO;
	if (pool_table_find(&disk->files, file_id)) /* an orphan */
		return -EEXIST;
	making = calloc(1, sizeof(*making));
	if (!making)
		return -ENOMEM;
	*making = (struct pool_making){.disk = disk, .file_id = file_id, .want = *want};
	r = plan(making);
	if (r) {
		free(making);
		return r;
	}
	pool_tier_hold(want->owner);
	*ret_making = making;
	return 0;
}

int pool_copy_make_begin(struct pool_disk *disk, uint64_t file_id,
			 const struct pool_copy_want *want, struct pool_making **ret_making)
{
	static const struct pool_flow_ops ops = {make, make_dropped};
	struct pool_making *making;
	int r;

	reactor_assert_home(disk->pool->home);
	ASSERT(want->spare_bytes > 0);
	r = making_new(disk, file_id, want, &making);
	if (r) {
		disk->claimed -= want->claimed;
		return r;
	}
	r = pool_flow_begin(disk, &ops, making, &making->flow);
	if (r == -ETIMEDOUT) /* it is not ours any more */
		return -EIO;
	if (r) {
		make_dropped(making, r);
		return r;
	}
	*ret_making = making;
	return 0;
}

uint64_t pool_copy_make_size(const struct pool_making *making)
{
	return making->size_bytes;
}

int pool_copy_make_end(struct pool_making *making, struct pool_file_copy *copy)
{
	struct pool_disk *disk = making->disk;
	int r = pool_flow_end(making->flow);

	if (r == -ETIMEDOUT) /* it is not ours any more */
		return -EIO;
	if (r == 0)
		*copy = (struct pool_file_copy){
			.disk = disk,
			.disk_id = disk->id,
			.handle = making->handle,
			.size_bytes = making->size_bytes,
			.generation = atomic_load(&disk->generation),
			.used = true,
		};
	making_free(making);
	if (r == 0)
		pool_keeper_wake(disk->pool);
	return r;
}

int pool_copy_make(struct pool_disk *disk, uint64_t file_id, const struct pool_copy_want *want,
		   struct pool_file_copy *copy)
{
	struct pool_making *making;
	int r = pool_copy_make_begin(disk, file_id, want, &making);

	return r ? r : pool_copy_make_end(making, copy);
}

static void set_pages(struct pool_disk *disk, struct pool_table_entry *entry, uint64_t size_bytes)
{
	struct pool_tier_change change = pool_tier_change_begin(disk, entry->owner, entry->id);

	entry->pages = (uint32_t)(size_bytes / POOL_PAGE_BYTES);
	pool_tier_change_end(&change);
}

/* The row's size may be older than the file's: what is there is charged. */
static void charge_found(struct pool_file_copy *copy, uint64_t file_id)
{
	struct pool_disk *disk = copy->disk;
	struct pool_table_entry *entry = pool_table_find(&disk->files, file_id);
	uint64_t charged = entry->pages * POOL_PAGE_BYTES;

	if (charged == copy->size_bytes)
		return;
	atomic_fetch_add(&disk->used, copy->size_bytes - charged);
	set_pages(disk, entry, copy->size_bytes);
}

struct opening {
	struct pool_disk *disk;
	struct pool_path path;
	struct pool_handle *handle;
	uint64_t size_bytes;
	bool read_only, resort;
};

static int open_read_only(struct opening *opening, struct world_file **ret_file)
{
	opening->read_only = true;
	return io_open(opening->path.text, WORLD_FILE_DIRECT | WORLD_FILE_READ_ONLY, ret_file);
}

/* It was not attached, so its label was not looked at. One that cannot be read proves nothing: what
 * is in the file is held against checksums. */
static int open_resort(struct opening *opening, struct world_file **ret_file)
{
	REACHED("pool.last-resort");
	if (pool_disk_check_label(opening->disk, true) == -ENODEV)
		return -ENODEV;
	return note(opening->disk, open_read_only(opening, ret_file));
}

static int open_in_order(struct opening *opening, struct world_file **ret_file)
{
	int r = note(opening->disk, io_open(opening->path.text, WORLD_FILE_DIRECT, ret_file));

	return r == -EROFS ? open_read_only(opening, ret_file) : r;
}

static int open_file(void *arg)
{
	struct opening *opening = arg;
	struct pool_disk *disk = opening->disk;
	struct world_file *file = NULL;
	struct world_stat stat;
	int r = opening->resort ? open_resort(opening, &file) : open_in_order(opening, &file);

	if (r == 0)
		r = io_file_stat(file, &stat);
	if (r == 0 && stat.size_bytes > POOL_GROUP_BYTES)
		r = -EUCLEAN;
	if (r == 0 && !(opening->handle = pool_handle_new(disk, file)))
		r = -ENOMEM;
	if (r)
		close_handle(disk, file, 0);
	else
		opening->size_bytes = stat.size_bytes;
	return r;
}

static void open_dropped(void *arg, int result)
{
	struct opening *opening = arg;

	if (result == 0)
		pool_handle_unref(opening->handle);
	free(opening);
}

int pool_copy_open(struct pool_file_copy *copy, uint64_t file_id)
{
	static const struct pool_flow_ops ops = {open_file, open_dropped};
	struct pool_disk *disk = copy->disk;
	struct opening *opening = calloc(1, sizeof(*opening));
	uint32_t generation = atomic_load(&disk->generation);
	int r;

	if (!opening)
		return -ENOMEM;
	opening->disk = disk;
	opening->resort = pool_disk_is_failed(disk);
	pool_path_group(disk, file_id, &opening->path);
	r = pool_flow(disk, &ops, opening);
	if (r) {
		if (r != -ESHUTDOWN && r != -ENODEV)
			log_error("pool", "cannot open a group file",
				  "pool=%s disk=%" PRIu64 " file=%016" PRIx64 " error=%d",
				  disk->pool->name, disk->id, file_id, r);
		if (r != -ETIMEDOUT)
			free(opening);
		return r;
	}
	copy->handle = opening->handle;
	copy->read_only = opening->read_only;
	copy->resort = opening->resort;
	copy->size_bytes = ALIGN_UP(opening->size_bytes, POOL_PAGE_BYTES);
	copy->generation = generation;
	free(opening);
	charge_found(copy, file_id);
	return 0;
}

void pool_copy_close(struct pool_file_copy *copy)
{
	pool_handle_unref(TAKE_PTR(copy->handle));
}

static struct pool_table_entry *open_entry(const struct pool_file_copy *copy, uint64_t file_id)
{
	struct pool_table_entry *entry = pool_table_find(&copy->disk->files, file_id);

	ASSERT(entry && entry->state == POOL_TABLE_OPEN);
	return entry;
}

static void set_size(struct pool_file_copy *copy, uint64_t file_id, uint64_t size_bytes)
{
	copy->size_bytes = size_bytes;
	set_pages(copy->disk, open_entry(copy, file_id), size_bytes);
}

/* Cutting it, or finding out its size. */
struct sizing {
	struct pool_disk *disk;
	struct pool_handle *handle;
	uint64_t size_bytes;
	bool trim;
};

/* Durable before the row says so: else a loss of power could leave more than is counted. */
static int trim_file(const struct sizing *sizing)
{
	struct world_file *file = sizing->handle->file;
	int r = note(sizing->disk, io_resize(file, sizing->size_bytes, WORLD_RESIZE_TRUNCATE));

	return r ? r : pool_disk_note(sizing->disk, POOL_DISK_SYNCS, io_sync(file));
}

static int size_run(void *arg)
{
	struct sizing *sizing = arg;
	struct world_file *file = sizing->handle->file;
	struct world_stat stat;
	int r;

	if (sizing->trim)
		return trim_file(sizing);
	r = note(sizing->disk, io_file_stat(file, &stat));
	if (r == 0)
		sizing->size_bytes = stat.size_bytes;
	return r;
}

static void size_dropped(void *arg, int result)
{
	struct sizing *sizing = arg;

	(void)result; /* what is there is charged when it is opened again */
	pool_handle_unref(sizing->handle);
	free(sizing);
}

static int size_flow(struct pool_file_copy *copy, bool trim, uint64_t size_bytes,
		     uint64_t *ret_size_bytes)
{
	static const struct pool_flow_ops ops = {size_run, size_dropped};
	struct sizing *sizing = calloc(1, sizeof(*sizing));
	int r;

	if (!sizing)
		return -ENOMEM;
	sizing->disk = copy->disk;
	sizing->handle = copy->handle;
	sizing->trim = trim;
	sizing->size_bytes = size_bytes;
	atomic_fetch_add(&copy->handle->references, 1);
	r = pool_flow(copy->disk, &ops, sizing);
	if (r == -ETIMEDOUT)
		return r;
	if (r == 0 && ret_size_bytes)
		*ret_size_bytes = sizing->size_bytes;
	size_dropped(sizing, r);
	return r;
}

/* One that was shorter than the others may have been written beyond its end. */
static int measure(struct pool_file_copy *copy, uint64_t file_id)
{
	uint64_t size;
	int r = size_flow(copy, false, 0, &size);

	if (r)
		return r;
	copy->size_bytes = ALIGN_UP(MIN(size, POOL_GROUP_BYTES), POOL_PAGE_BYTES);
	charge_found(copy, file_id);
	return 0;
}

int pool_copy_trim(struct pool_file_copy *copy, uint64_t file_id, uint64_t size_bytes)
{
	uint64_t less = copy->size_bytes - size_bytes;
	int r;

	if (size_bytes > copy->size_bytes)
		return measure(copy, file_id);
	if (size_bytes == copy->size_bytes)
		return 0;
	if (copy->read_only)
		return -EROFS;
	r = size_flow(copy, true, size_bytes, NULL);
	if (r)
		return r;
	set_size(copy, file_id, size_bytes);
	pool_space_release(copy->disk, less);
	return 0;
}

/* To spare/ or away. -ENOENT is as good: it is gone. */
static int remove_name(struct pool_disk *disk, uint64_t file_id, uint64_t size_bytes,
		       bool *ret_spare)
{
	struct pool_path from, to;
	int r = -ENOSPC;

	pool_path_group(disk, file_id, &from);
	pool_path_spare(disk->row.directory, file_id, ".sp", &to);
	*ret_spare = false;
	if (pool_spare_wants(disk, size_bytes))
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

struct removing {
	struct pool_disk *disk;
	uint64_t file_id;
	uint64_t size_bytes;
	bool spare;
};

static int remove_run(void *arg)
{
	struct removing *removing = arg;

	return note(removing->disk, remove_name(removing->disk, removing->file_id,
						removing->size_bytes, &removing->spare));
}

/* A sweep will find what is there, in groups/ or in spare/. */
static void remove_dropped(void *arg, int result)
{
	(void)result;
	free(arg);
}

static int remove_flow(struct pool_disk *disk, uint64_t file_id, uint64_t size, bool *ret_spare)
{
	static const struct pool_flow_ops ops = {remove_run, remove_dropped};
	struct removing *removing;
	int r;

	/* What takes too long there may be a write to this file: no other may become of it. */
	if (pool_disk_is_silent(disk))
		return -ETIMEDOUT;
	removing = calloc(1, sizeof(*removing));
	if (!removing)
		return -ENOMEM;
	*removing = (struct removing){.disk = disk, .file_id = file_id, .size_bytes = size};
	r = pool_flow(disk, &ops, removing);
	if (r == -ETIMEDOUT)
		return r;
	*ret_spare = removing->spare;
	free(removing);
	return r;
}

int pool_copy_remove(struct pool_disk *disk, uint64_t file_id)
{
	struct pool_table_entry *entry = pool_table_find(&disk->files, file_id);
	uint64_t size = entry->pages * POOL_PAGE_BYTES;
	bool spare = false;
	int r = 0;

	/* What cannot be reached is swept away when the disk is back. */
	if (!pool_disk_is_gone(disk))
		r = remove_flow(disk, file_id, size, &spare);
	entry = pool_table_find(&disk->files, file_id);
	ASSERT(entry && entry->state == POOL_TABLE_BUSY);
	if (r && !pool_disk_is_gone(disk)) {
		become_orphan(disk, entry);
		if (r != -ESHUTDOWN)
			log_error("pool", "cannot remove a group file",
				  "pool=%s disk=%" PRIu64 " file=%016" PRIx64 " error=%d",
				  disk->pool->name, disk->id, file_id, r);
		return r;
	}
	remove_entry(disk, entry);
	if (spare && !pool_disk_is_gone(disk))
		(void)pool_spare_add(disk, file_id, size); /* or forgotten until the next opening */
	return 0;
}

static struct pool_table_entry *next_orphan(struct pool_disk *disk, struct pool_table_walk *walk)
{
	struct pool_table_entry *entry;

	while (disk->orphans > 0 && (entry = pool_sweep_next(disk, walk)))
		if (entry->state == POOL_TABLE_ORPHAN)
			return entry;
	return NULL;
}

/* One walk for all. What others do to the table meanwhile may hide some from it: they are tried
 * again with those that cannot be removed. */
void pool_copy_remove_orphans(struct pool_disk *disk)
{
	struct pool_table_walk walk = {0};
	struct pool_table_entry *entry;
	int r = 0;

	while (r == 0 && (entry = next_orphan(disk, &walk))) {
		REACHED("pool.orphan");
		entry->state = POOL_TABLE_BUSY;
		disk->orphans--;
		r = pool_copy_remove(disk, entry->id);
		if (r == 0)
			pool_table_walk_removed(&walk);
	}
}

void pool_copy_forget_orphans(struct pool_disk *disk)
{
	struct pool_table_walk walk = {0};
	struct pool_table_entry *entry;

	while (disk->orphans > 0 && (entry = pool_table_next(&disk->files, &walk))) {
		uint64_t size = entry->pages * POOL_PAGE_BYTES;

		if (entry->state != POOL_TABLE_ORPHAN)
			continue;
		pool_table_remove(&disk->files, entry);
		pool_table_walk_removed(&walk);
		disk->orphans--;
		pool_space_release(disk, size);
	}
}
