/* SPDX-License-Identifier: Apache-2.0 */
#include "vdisk/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/reached.h"
#include "vdisk/record_buffer.h"
#include "vdisk/read_part.h"

static const size_t class_bytes[CACHE_CLASSES] = {64, 128, 256, 512, 1024, 2048, 3200, 5632};

static unsigned class_of(size_t bytes)
{
	unsigned class = 0;

	while (class_bytes[class] < bytes)
		class ++;
	ASSERT(class < CACHE_CLASSES);
	return class;
}

static void *pop(struct cache_free_item **list)
{
	struct cache_free_item *item = *list;

	if (item)
		*list = item->next;
	return item;
}

static void push(struct cache_free_item **list, void *memory)
{
	struct cache_free_item *item = memory;

	item->next = *list;
	*list = item;
}

static void *map_memory(size_t bytes)
{
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

bool cache_reserve(struct vdisk_cache *cache)
{
	while (cache->spare_count < CACHE_CHUNKS_SPARE) {
		struct list_node *chunk = map_memory(CACHE_CHUNK_BYTES);

		if (!chunk)
			return false;
		list_push_back(&cache->spare_chunks, chunk);
		cache->spare_count++;
	}
	return true;
}

/* The first bytes of a chunk link it. */
#define CHUNK_HEADER 64

static bool next_chunk(struct vdisk_cache *cache)
{
	struct list_node *chunk;

	if (cache->spare_count == 0 && !cache_reserve(cache) && cache->spare_count == 0)
		return false;
	chunk = list_pop_front(&cache->spare_chunks);
	cache->spare_count--;
	list_push_back(&cache->chunks, chunk);
	cache->carve = (char *)chunk + CHUNK_HEADER;
	cache->carve_bytes = CACHE_CHUNK_BYTES - CHUNK_HEADER;
	return true;
}

void *cache_alloc(struct vdisk_cache *cache, size_t bytes)
{
	unsigned class = class_of(bytes);
	void *memory = pop(&cache->free[class]);

	if (!memory) {
		if (cache->carve_bytes < class_bytes[class] && !next_chunk(cache))
			return NULL;
		memory = cache->carve;
		cache->carve += class_bytes[class];
		cache->carve_bytes -= class_bytes[class];
	}
	cache->used_bytes += class_bytes[class];
	return memory;
}

void cache_free(struct vdisk_cache *cache, void *memory, size_t bytes)
{
	unsigned class = class_of(bytes);

	if (!memory)
		return;
	cache->used_bytes -= class_bytes[class];
	push(&cache->free[class], memory);
}

void cache_item_add(struct vdisk_cache *cache, struct cache_item *item)
{
	item->used = true;
	list_push_back(&cache->items, &item->link);
}

/* Cached pages may fill three quarters; the rest is for deltas, which cannot be dropped. */
void cache_trim(struct vdisk_cache *cache)
{
	unsigned looked = 0;

	while (cache->used_bytes > cache->budget_bytes / 4 * 3 && looked++ < 64) {
		struct list_node *node = list_pop_front(&cache->items);
		struct cache_item *item;

		if (!node)
			return;
		item = LIST_ENTRY(node, struct cache_item, link);
		if (item->used) {
			item->used = false;
			list_push_back(&cache->items, node);
		} else {
			item->drop(item);
		}
	}
}

void *cache_take(struct cache_pool *pool)
{
	void *piece = pop(&pool->free);

	if (!piece && pool->taken_once < pool->pieces)
		piece = pool->memory + pool->taken_once++ * pool->piece_bytes;
	return piece;
}

void cache_give(struct cache_pool *pool, void *piece)
{
	push(&pool->free, piece);
}

static int make_pool(struct cache_pool *pool, unsigned pieces, size_t piece_bytes)
{
	pool->memory = map_memory(pieces * piece_bytes);
	if (!pool->memory)
		return -ENOMEM;
	pool->pieces = pieces;
	pool->piece_bytes = piece_bytes;
	return 0;
}

static int make_pools(struct vdisk_cache *cache)
{
	int r = make_pool(&cache->records, CACHE_RECORDS, RECORD_BUFFER_BYTES);

	if (r == 0)
		r = make_pool(&cache->parts, CACHE_READ_PARTS, sizeof(struct read_part));
	if (r == 0)
		r = make_pool(&cache->bounces, CACHE_BOUNCE_BLOCKS, BLOCK_BYTES);
	return r;
}

static void free_pool(struct cache_pool *pool)
{
	if (pool->memory)
		munmap(pool->memory, pool->pieces * pool->piece_bytes);
}

/* Lending */

static bool is_empty(const struct cache_pool *pool)
{
	return !pool->free && pool->taken_once == pool->pieces;
}

/* The first block of what is allocated links it; the piece follows. */
static bool add_piece(struct vdisk_cache *cache, struct cache_lent *lent, struct cache_pool *pool)
{
	char *memory = aligned_alloc(
		BLOCK_BYTES, BLOCK_BYTES + ALIGN_UP(pool->piece_bytes, (size_t)BLOCK_BYTES));

	if (!memory)
		return false;
	push(&cache->extra, memory);
	cache_give(pool, memory + BLOCK_BYTES);
	lent->surplus++;
	return true;
}

/* As many as there were at first shall be there, and one to go on with in any case: that there is a
 * surplus does not help while all of them are in use. */
static void lend(struct vdisk_cache *cache, struct cache_lent *lent, struct cache_pool *pool)
{
	lent->out++;
	lent->surplus--;
	while ((lent->surplus < 0 || is_empty(pool)) && add_piece(cache, lent, pool))
		;
}

static bool lend_or_not(struct vdisk_cache *cache, struct cache_lent *lent, struct cache_pool *pool)
{
	lend(cache, lent, pool);
	if (!is_empty(pool))
		return true;
	lent->out--;
	lent->surplus++;
	return false;
}

static void back(struct cache_lent *lent, struct cache_pool *pool, void *piece)
{
	ASSERT(lent->out > 0);
	lent->out--;
	lent->surplus++;
	cache_give(pool, piece);
}

/* Waiting for records */

/* All of them: the first may have nothing to write any more. */
static void wake_record_waiters(struct vdisk_cache *cache)
{
	struct list_node *waiter;

	while ((waiter = list_pop_front(&cache->record_waiters))) {
		struct reactor_hook *hook = LIST_ENTRY(waiter, struct reactor_hook, link);

		hook->run(hook);
	}
}

static void await_records(struct vdisk_cache *cache)
{
	cache->records_given = 0;
	reactor_timer_arm(cache->reactor, &cache->record_patience,
			  reactor_turn_ns(cache->reactor) + CACHE_PATIENCE_NS);
}

/* The surplus with which there are half as many pieces again. */
static int half_more(const struct cache_lent *lent, int usual, int most)
{
	return MIN(lent->surplus + (usual + MAX(lent->surplus, 0)) / 2, most);
}

void cache_more_parts(struct vdisk_cache *cache)
{
	struct cache_lent *parts = &cache->lent_parts, *bounces = &cache->lent_bounces;
	int most = half_more(parts, CACHE_READ_PARTS, CACHE_PARTS_MORE);

	REACHED("cache.more-parts");
	while (parts->surplus < most && add_piece(cache, parts, &cache->parts))
		;
	most = half_more(bounces, CACHE_BOUNCE_BLOCKS, CACHE_PARTS_MORE);
	if (!is_empty(&cache->bounces))
		return;
	while (bounces->surplus < most && add_piece(cache, bounces, &cache->bounces))
		;
}

/* Most are held by a disk that hangs, and vDisks on others need some: half as many again. What is
 * added counts as surplus, and takes the place of what will be lent. */
static void look_for_records(struct reactor_timer *timer)
{
	struct vdisk_cache *cache = CONTAINER_OF(timer, struct vdisk_cache, record_patience);
	struct cache_lent *lent = &cache->lent_records;
	int most = half_more(lent, CACHE_RECORDS, CACHE_RECORDS_MORE);

	if (list_is_empty(&cache->record_waiters))
		return;
	if (cache->records_given >= CACHE_RECORDS / 2 || lent->surplus >= most) {
		await_records(cache);
		return;
	}
	REACHED("cache.more-records");
	while (lent->surplus < most && add_piece(cache, lent, &cache->records))
		;
	wake_record_waiters(cache);
}

void cache_wait_for_record(struct vdisk_cache *cache, struct reactor_hook *waiter)
{
	if (!list_is_linked(&waiter->link))
		list_push_back(&cache->record_waiters, &waiter->link);
	if (!cache->record_patience.armed)
		await_records(cache);
}

void cache_give_record(struct vdisk_cache *cache, void *record)
{
	cache->records_given++;
	cache_give(&cache->records, record);
	wake_record_waiters(cache);
}

bool cache_lend_record(struct vdisk_cache *cache)
{
	return lend_or_not(cache, &cache->lent_records, &cache->records);
}

bool cache_lend_part(struct vdisk_cache *cache)
{
	return lend_or_not(cache, &cache->lent_parts, &cache->parts);
}

void cache_lend_bounce(struct vdisk_cache *cache)
{
	lend(cache, &cache->lent_bounces, &cache->bounces);
}

void cache_record_back(struct vdisk_cache *cache, void *record)
{
	back(&cache->lent_records, &cache->records, record);
	wake_record_waiters(cache);
}

void cache_part_back(struct vdisk_cache *cache, void *part)
{
	back(&cache->lent_parts, &cache->parts, part);
}

void cache_bounce_back(struct vdisk_cache *cache, void *bounce)
{
	back(&cache->lent_bounces, &cache->bounces, bounce);
}

bool cache_is_whole(const struct vdisk_cache *cache)
{
	return cache->lent_records.out + cache->lent_parts.out + cache->lent_bounces.out == 0;
}

int vdisk_cache_new(struct reactor *reactor, uint64_t budget_bytes, struct vdisk_cache **ret_cache)
{
	struct vdisk_cache *cache = calloc(1, sizeof(*cache));
	int r;

	if (!cache)
		return -ENOMEM;
	cache->reactor = reactor;
	cache->budget_bytes = budget_bytes;
	list_init(&cache->chunks);
	list_init(&cache->spare_chunks);
	list_init(&cache->items);
	list_init(&cache->record_waiters);
	cache->record_patience.run = look_for_records;
	list_init(&cache->part_waiters);
	r = make_pools(cache);
	if (r < 0) {
		vdisk_cache_free(cache);
		return r;
	}
	*ret_cache = cache;
	return 0;
}

static void unmap_chunks(struct list *chunks)
{
	struct list_node *chunk;

	while ((chunk = list_pop_front(chunks)))
		munmap(chunk, CACHE_CHUNK_BYTES);
}

void vdisk_cache_free(struct vdisk_cache *cache)
{
	void *extra;

	if (!cache)
		return;
	ASSERT(cache->used_bytes == 0);
	reactor_timer_cancel(cache->reactor, &cache->record_patience);
	reactor_timer_cancel(cache->reactor, &cache->part_patience);
	/* A disk that hangs has some of it: it stays. */
	if (!cache_is_whole(cache))
		return;
	while ((extra = pop(&cache->extra)))
		free(extra);
	unmap_chunks(&cache->chunks);
	unmap_chunks(&cache->spare_chunks);
	free_pool(&cache->records);
	free_pool(&cache->parts);
	free_pool(&cache->bounces);
	free(cache);
}
