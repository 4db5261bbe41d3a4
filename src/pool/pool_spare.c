/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spare files: written once, without content that counts.
 *
 * Invariants
 *  1. `spare` = the sizes of the files in the list; each is spare/ID.sp.
 *  2. used + spare <= capacity, but for moments in which room is being made.
 * A spare file that is lost is no harm, so errors here are logged and the file is forgotten; the
 * next opening of the pool finds it again.
 */
#include "pool/pool_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/macros.h"
#include "pool/pool_fence.h"
#include "reactor/io.h"

#define SPARE_BYTES_MAX (2 * GIB)
/* A file that is asked for small stays small: it may belong to one of thousands of idle vDisks. */
#define SPARE_FIT_FACTOR 4

static uint64_t bytes_max(const struct pool_disk *disk)
{
	uint64_t capacity = atomic_load(&((struct pool_disk *)disk)->capacity);

	return MIN(SPARE_BYTES_MAX, MAX(capacity / 16, 2 * POOL_GROUP_BYTES));
}

bool pool_spare_wants(const struct pool_disk *disk, uint64_t size_bytes)
{
	/* A dead daemon may still write into what is removed: no other file becomes of it. */
	return pool_fence_get() == POOL_FENCE_NONE && size_bytes >= POOL_GROUP_BYTES_MIN &&
	       disk->spare_count < POOL_SPARES_MAX &&
	       atomic_load(&((struct pool_disk *)disk)->spare) + size_bytes <= bytes_max(disk);
}

bool pool_spare_add(struct pool_disk *disk, uint64_t id, uint64_t size_bytes)
{
	struct pool_spare *spare = malloc(sizeof(*spare));

	if (!spare)
		return false;
	*spare = (struct pool_spare){.id = id, .size_bytes = size_bytes};
	list_push_back(&disk->spares, &spare->link);
	disk->spare_count++;
	atomic_fetch_add(&disk->spare, size_bytes);
	return true;
}

static void take_out(struct pool_disk *disk, struct pool_spare *spare)
{
	list_remove(&spare->link);
	disk->spare_count--;
	atomic_fetch_sub(&disk->spare, spare->size_bytes);
}

/* Whether `a` suits somebody who wants `size_bytes` better than `b`: just large enough, or as
 * little too small as can be. */
static bool is_better(const struct pool_spare *a, const struct pool_spare *b, uint64_t size_bytes)
{
	if (!b)
		return true;
	if ((a->size_bytes < size_bytes) != (b->size_bytes < size_bytes))
		return b->size_bytes < size_bytes;
	return a->size_bytes < size_bytes ? a->size_bytes > b->size_bytes
					  : a->size_bytes < b->size_bytes;
}

struct pool_spare *pool_spare_pick(struct pool_disk *disk, uint64_t min_bytes, uint64_t size_bytes)
{
	struct pool_spare *spare, *best = NULL;

	LIST_FOR_EACH (&disk->spares, spare, struct pool_spare, link)
		if (spare->size_bytes >= min_bytes &&
		    spare->size_bytes <= size_bytes * SPARE_FIT_FACTOR &&
		    is_better(spare, best, size_bytes))
			best = spare;
	if (best)
		take_out(disk, best);
	return best;
}

/* The oldest one, from the list and the disk. Suspends. */
static void drop_one(struct pool_disk *disk)
{
	_cleanup_free_ struct pool_spare *spare =
		LIST_ENTRY(list_front(&disk->spares), struct pool_spare, link);
	struct pool_path path;
	int r;

	take_out(disk, spare);
	pool_path_spare(disk->row.directory, spare->id, ".sp", &path);
	r = io_unlink(path.text);
	if (r && r != -ENOENT)
		log_warning("pool", "cannot remove a spare file",
			    "pool=%s disk=%" PRIu64 " file=%016" PRIx64 " error=%d",
			    disk->pool->name, disk->id, spare->id, r);
}

void pool_spare_make_room(struct pool_disk *disk)
{
	while (!list_is_empty(&disk->spares) &&
	       atomic_load(&disk->used) + atomic_load(&disk->spare) > atomic_load(&disk->capacity))
		drop_one(disk);
}

bool pool_spare_drop_all(struct pool_disk *disk)
{
	bool dropped = false;

	while (!list_is_empty(&disk->spares)) {
		drop_one(disk);
		dropped = true;
	}
	return dropped;
}

void pool_spare_done(struct pool_disk *disk)
{
	struct pool_spare *spare;

	LIST_FOR_EACH (&disk->spares, spare, struct pool_spare, link) {
		take_out(disk, spare);
		free(spare);
	}
}
