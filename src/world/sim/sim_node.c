/* SPDX-License-Identifier: Apache-2.0 */
#include "world/sim/sim_node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "world/sim/sim_priv.h"

#define SLAB_PAGES  64
#define SPARE_SLABS 256 /* 64 MiB */

/* One thread runs a world, so TSan has no race to find between the bytes of files and of buffers,
 * yet looking at each byte takes most of a sweep's time. What the callers do with their buffers is
 * looked at as ever. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIM_NODE_TSAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define SIM_NODE_TSAN 1
#endif

#ifdef SIM_NODE_TSAN
void __tsan_ignore_thread_begin(void);
void __tsan_ignore_thread_end(void);
#define BYTES_MOVE_BEGIN() __tsan_ignore_thread_begin()
#define BYTES_MOVE_END()   __tsan_ignore_thread_end()
#else
#define BYTES_MOVE_BEGIN()
#define BYTES_MOVE_END()
#endif

struct sim_cursor sim_cursor(const struct iovec *iov, int count)
{
	return (struct sim_cursor){.iov = iov, .count = count};
}

uint64_t sim_cursor_length(const struct sim_cursor *cursor)
{
	uint64_t sum = 0;

	for (int i = 0; i < cursor->count; i++)
		sum += cursor->iov[i].iov_len;
	return sum - cursor->done;
}

/* `to` and `from` may be NULL: then bytes are skipped. */
static void cursor_move(struct sim_cursor *cursor, uint8_t *to, const uint8_t *from, size_t length)
{
	while (length > 0) {
		size_t n;

		ASSERT(cursor->count > 0);
		n = MIN(length, cursor->iov->iov_len - cursor->done);
		if (to && n)
			memcpy(to, (uint8_t *)cursor->iov->iov_base + cursor->done, n);
		else if (from && n)
			memcpy((uint8_t *)cursor->iov->iov_base + cursor->done, from, n);
		to = to ? to + n : NULL;
		from = from ? from + n : NULL;
		length -= n;
		cursor->done += n;
		if (cursor->done == cursor->iov->iov_len) {
			cursor->iov++;
			cursor->count--;
			cursor->done = 0;
		}
	}
}

void sim_cursor_take(struct sim_cursor *cursor, void *to, size_t length)
{
	cursor_move(cursor, to, NULL, length);
}

void sim_cursor_give(struct sim_cursor *cursor, const void *from, size_t length)
{
	cursor_move(cursor, NULL, from, length);
}

struct slab {
	struct slab *next;
	uint8_t pages[SLAB_PAGES][SIM_PAGE_BYTES];
};

/* Of worlds that ended. A sweep makes thousands of them, and memory that goes back to the kernel
 * each time costs more than what is done in it, most of all under TSan. */
static _Thread_local struct {
	struct slab *first;
	unsigned count;
} spare;

static struct slab *slab_get(void)
{
	struct slab *slab = spare.first;

	if (!slab)
		return malloc(sizeof(*slab));
	spare.first = slab->next;
	spare.count--;
	return slab;
}

static void slab_put(struct slab *slab)
{
	if (spare.count == SPARE_SLABS) {
		free(slab);
		return;
	}
	slab->next = spare.first;
	spare.first = slab;
	spare.count++;
}

static void slab_add(struct sim_pool *pool)
{
	struct slab *slab = slab_get();

	ASSERT(slab);
	slab->next = pool->slabs;
	pool->slabs = slab;
	for (unsigned i = 0; i < SLAB_PAGES; i++)
		sim_pool_give(pool, slab->pages[i]);
}

void sim_pool_done(struct sim_pool *pool)
{
	for (struct slab *slab = pool->slabs, *next; slab; slab = next) {
		next = slab->next;
		slab_put(slab);
	}
	*pool = (struct sim_pool){0};
}

uint8_t *sim_pool_take(struct sim_pool *pool)
{
	void *page;

	if (!pool->free_pages)
		slab_add(pool);
	page = pool->free_pages;
	memcpy(&pool->free_pages, page, sizeof(void *));
	return page;
}

void sim_pool_give(struct sim_pool *pool, uint8_t *page)
{
	if (!page)
		return;
	memcpy(page, &pool->free_pages, sizeof(void *));
	pool->free_pages = page;
}

static struct sim_pool *pool_of(const struct sim_node *node)
{
	return &node->disk->sim->pool;
}

static bool is_counted(const struct sim_node *node)
{
	return node->names || node->opens;
}

static void account(struct sim_node *node, int64_t pages)
{
	node->allocated_pages += (uint64_t)pages;
	if (is_counted(node))
		node->disk->used_pages += (uint64_t)pages;
}

void sim_node_count(struct sim_node *node, int names, int opens)
{
	if (is_counted(node))
		node->disk->used_pages -= node->allocated_pages;
	node->names += (unsigned)names;
	node->opens += (unsigned)opens;
	if (is_counted(node))
		node->disk->used_pages += node->allocated_pages;
}

void sim_node_unref(struct sim_node *node)
{
	ASSERT(node->refs > 0);
	if (--node->refs > 0)
		return;
	ASSERT(!is_counted(node));
	list_remove(&node->link);
	if (node->directory)
		sim_tree_directory_free(node->directory);
	sim_undo_done(node);
	sim_node_cut(node, 0);
	for (size_t i = 0; i < node->chunk_count; i++)
		free(node->chunks[i]);
	free(node->chunks);
	free(node);
}

struct sim_chunk *sim_node_chunk(const struct sim_node *node, uint64_t page)
{
	size_t index = page / SIM_CHUNK_PAGES;

	return index < node->chunk_count ? node->chunks[index] : NULL;
}

static struct sim_chunk *chunk_make(struct sim_node *node, uint64_t page)
{
	size_t index = page / SIM_CHUNK_PAGES;

	if (index >= node->chunk_count) {
		size_t count = MAX(index + 1, node->chunk_count * 2);

		node->chunks = realloc(node->chunks, count * sizeof(*node->chunks));
		ASSERT(node->chunks);
		memset(&node->chunks[node->chunk_count], 0,
		       (count - node->chunk_count) * sizeof(*node->chunks));
		node->chunk_count = count;
	}
	if (!node->chunks[index]) {
		node->chunks[index] = calloc(1, sizeof(*node->chunks[index]));
		ASSERT(node->chunks[index]);
	}
	return node->chunks[index];
}

static bool is_allocated(const struct sim_node *node, uint64_t page)
{
	const struct sim_chunk *chunk = sim_node_chunk(node, page);
	unsigned i = page % SIM_CHUNK_PAGES;

	return chunk && (chunk->allocated[i / 64] >> (i % 64) & 1);
}

static void allocate(struct sim_node *node, uint64_t page)
{
	struct sim_chunk *chunk = chunk_make(node, page);
	unsigned i = page % SIM_CHUNK_PAGES;

	if (chunk->allocated[i / 64] >> (i % 64) & 1)
		return;
	chunk->allocated[i / 64] |= UINT64_C(1) << (i % 64);
	account(node, 1);
}

static const uint8_t *page_content(const struct sim_node *node, uint64_t page)
{
	const struct sim_chunk *chunk = sim_node_chunk(node, page);

	return chunk ? chunk->pages[page % SIM_CHUNK_PAGES] : NULL;
}

void sim_node_set_page(struct sim_node *node, uint64_t page, uint8_t *content)
{
	allocate(node, page);
	chunk_make(node, page)->pages[page % SIM_CHUNK_PAGES] = content;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, SIM_PAGE_BYTES - 1) == 0;
}

uint64_t sim_node_read(const struct sim_node *node, struct sim_cursor *to, uint64_t offset)
{
	static const uint8_t zeros[SIM_PAGE_BYTES];
	uint64_t wanted = sim_cursor_length(to), total = 0;

	if (offset >= node->size_bytes)
		return 0;
	wanted = MIN(wanted, node->size_bytes - offset);
	BYTES_MOVE_BEGIN();
	while (total < wanted) {
		uint64_t at = offset + total;
		uint32_t from = at % SIM_PAGE_BYTES;
		uint64_t n = MIN(wanted - total, SIM_PAGE_BYTES - from);
		const uint8_t *page = page_content(node, at / SIM_PAGE_BYTES);

		sim_cursor_give(to, (page ? page : zeros) + from, n);
		total += n;
	}
	BYTES_MOVE_END();
	return total;
}

uint64_t sim_node_missing_pages(const struct sim_node *node, uint64_t offset, uint64_t length)
{
	uint64_t first = offset / SIM_PAGE_BYTES;
	uint64_t end = DIV_ROUND_UP(offset + length, SIM_PAGE_BYTES);
	/* Beyond the chunks nothing is allocated, and there may be terabytes to ask for. */
	uint64_t known = MIN(MAX(first, node->chunk_count * SIM_CHUNK_PAGES), end);
	uint64_t missing;

	if (length == 0)
		return 0;
	missing = end - known;
	for (uint64_t page = first; page < known; page++)
		missing += !is_allocated(node, page);
	return missing;
}

static uint8_t sector_mask(uint32_t from, uint32_t to)
{
	unsigned first = from / SIM_SECTOR_BYTES, last = (to - 1) / SIM_SECTOR_BYTES;

	return (uint8_t)((0xffu << first) & (0xffu >> (7 - last)));
}

/* Copies [from, to) of a page; bytes of sectors that are not in `keep` are skipped. */
static void fill(uint8_t *page, uint32_t from, uint32_t to, uint8_t keep, struct sim_cursor *cursor)
{
	if ((keep & sector_mask(from, to)) == sector_mask(from, to)) {
		sim_cursor_take(cursor, page + from, to - from);
		return;
	}
	while (from < to) {
		uint32_t end = MIN(to, ALIGN_DOWN(from, SIM_SECTOR_BYTES) + SIM_SECTOR_BYTES);
		bool kept = keep >> (from / SIM_SECTOR_BYTES) & 1;

		cursor_move(cursor, kept ? page + from : NULL, NULL, end - from);
		from = end;
	}
}

static void write_page(struct sim_node *node, struct sim_undo entry, uint32_t from, uint32_t to,
		       struct sim_cursor *cursor)
{
	uint8_t *old = (uint8_t *)page_content(node, entry.page);
	uint8_t *fresh = sim_pool_take(pool_of(node));

	if (entry.sectors != 0xff || to - from != SIM_PAGE_BYTES) {
		if (old)
			memcpy(fresh, old, SIM_PAGE_BYTES);
		else
			memset(fresh, 0, SIM_PAGE_BYTES);
	}
	fill(fresh, from, to, entry.sectors, cursor);
	if (is_zero(fresh)) {
		sim_pool_give(pool_of(node), fresh);
		fresh = NULL;
	}
	sim_node_set_page(node, entry.page, fresh);
	entry.old = old;
	sim_undo_add(node, &entry);
}

/* Which sectors of a torn write land: those before a point, those after it, or any. */
struct tear {
	struct sim_rng *rng;
	unsigned mode;
	uint64_t point; /* a page of the write */
};

static struct tear tear_init(struct sim_rng *rng, uint64_t offset, uint64_t length)
{
	struct tear tear = {.rng = rng};

	if (!rng)
		return tear;
	tear.mode = (unsigned)sim_random_upto(rng, 3);
	tear.point = (offset + sim_random_upto(rng, length)) / SIM_PAGE_BYTES;
	return tear;
}

static uint8_t tear_mask(const struct tear *tear, uint64_t page)
{
	uint8_t split;

	if (!tear->rng)
		return 0xff;
	if (tear->mode == 2)
		return (uint8_t)sim_random_next(tear->rng);
	if (page != tear->point)
		return (page < tear->point) == (tear->mode == 0) ? 0xff : 0;
	split = (uint8_t)(0xffu << sim_random_upto(tear->rng, 9));
	return tear->mode == 0 ? (uint8_t)~split : split;
}

uint64_t sim_node_write(struct sim_node *node, struct sim_cursor *from, uint64_t offset,
			struct sim_rng *torn)
{
	uint64_t length = sim_cursor_length(from), end = offset, at = offset;
	uint64_t change = sim_undo_begin(node);
	struct tear tear;

	if (length == 0)
		return change;
	tear = tear_init(torn, offset, length);
	BYTES_MOVE_BEGIN();
	while (at < offset + length) {
		uint64_t page = at / SIM_PAGE_BYTES;
		uint32_t low = at % SIM_PAGE_BYTES;
		uint32_t high = (uint32_t)MIN(SIM_PAGE_BYTES, low + (offset + length - at));
		uint8_t sectors = sector_mask(low, high) & tear_mask(&tear, page);
		struct sim_undo entry = {
			.change = change, .page = (uint32_t)page, .sectors = sectors};

		at += high - low;
		if (!sectors) {
			cursor_move(from, NULL, NULL, high - low);
			continue;
		}
		write_page(node, entry, low, high, from);
		end = MIN(at, page * SIM_PAGE_BYTES +
				      (32 - (unsigned)__builtin_clz(sectors)) * SIM_SECTOR_BYTES);
	}
	BYTES_MOVE_END();
	if (end > node->size_bytes)
		sim_undo_resized(node, change, end);
	return change;
}

/* Remembers and clears [from, page end) of a page that a truncation cuts. */
static void cut_page(struct sim_node *node, uint64_t change, uint64_t page, uint32_t from)
{
	struct sim_chunk *chunk = sim_node_chunk(node, page);
	uint8_t **slot = &chunk->pages[page % SIM_CHUNK_PAGES];
	struct sim_undo entry = {.old = *slot, .change = change, .page = (uint32_t)page,
				 .sectors = sector_mask(from, SIM_PAGE_BYTES), .cut = true};

	if (from == 0) {
		unsigned i = page % SIM_CHUNK_PAGES;

		*slot = NULL;
		chunk->allocated[i / 64] &= ~(UINT64_C(1) << (i % 64));
		account(node, -1);
	} else if (*slot) {
		*slot = sim_pool_take(pool_of(node));
		memcpy(*slot, entry.old, from);
		memset(*slot + from, 0, SIM_PAGE_BYTES - from);
	} else {
		return;
	}
	sim_undo_add(node, &entry);
}

static void shrink(struct sim_node *node, uint64_t change, uint64_t size_bytes)
{
	uint64_t end = DIV_ROUND_UP(node->size_bytes, SIM_PAGE_BYTES);
	uint64_t page = size_bytes / SIM_PAGE_BYTES;
	uint32_t from = size_bytes % SIM_PAGE_BYTES;

	for (; page < end; page++, from = 0) {
		if (!sim_node_chunk(node, page))
			page |= SIM_CHUNK_PAGES - 1;
		else if (is_allocated(node, page))
			cut_page(node, change, page, from);
	}
}

uint64_t sim_node_resize(struct sim_node *node, uint64_t size_bytes, bool reserve)
{
	uint64_t change = sim_undo_begin(node);

	if (size_bytes < node->size_bytes)
		shrink(node, change, size_bytes);
	for (uint64_t page = 0; reserve && page < DIV_ROUND_UP(size_bytes, SIM_PAGE_BYTES); page++)
		allocate(node, page);
	if (size_bytes != node->size_bytes)
		sim_undo_resized(node, change, size_bytes);
	return change;
}

void sim_node_cut(struct sim_node *node, uint64_t size_bytes)
{
	uint64_t page = DIV_ROUND_UP(size_bytes, SIM_PAGE_BYTES);
	uint32_t tail = size_bytes % SIM_PAGE_BYTES;
	uint8_t *last = tail ? (uint8_t *)page_content(node, page - 1) : NULL;

	if (last)
		memset(last + tail, 0, SIM_PAGE_BYTES - tail);
	for (; page < node->chunk_count * SIM_CHUNK_PAGES; page++) {
		struct sim_chunk *chunk = sim_node_chunk(node, page);
		unsigned i = page % SIM_CHUNK_PAGES;

		if (!chunk) {
			page |= SIM_CHUNK_PAGES - 1;
			continue;
		}
		if (!is_allocated(node, page))
			continue;
		sim_pool_give(pool_of(node), chunk->pages[i]);
		chunk->pages[i] = NULL;
		chunk->allocated[i / 64] &= ~(UINT64_C(1) << (i % 64));
		account(node, -1);
	}
	node->size_bytes = size_bytes;
}

int sim_node_flip(struct sim_node *node, uint64_t offset, unsigned bit)
{
	uint64_t page = offset / SIM_PAGE_BYTES;
	uint8_t *content;

	if (offset >= node->size_bytes || bit > 7)
		return -ERANGE;
	content = (uint8_t *)page_content(node, page);
	if (!content) {
		content = sim_pool_take(pool_of(node));
		memset(content, 0, SIM_PAGE_BYTES);
		sim_node_set_page(node, page, content);
	}
	content[offset % SIM_PAGE_BYTES] ^= (uint8_t)(1u << bit);
	return 0;
}
