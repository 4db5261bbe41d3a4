/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/macros.h"

static unsigned order_of(size_t size)
{
	unsigned order = 0;

	while (((size_t)ISCSI_MEMORY_PAGE << order) < size)
		order++;
	return order;
}

size_t iscsi_memory_block_size(size_t size)
{
	return (size_t)ISCSI_MEMORY_PAGE << order_of(size);
}

static void put_free(struct iscsi_memory *memory, size_t index, unsigned order)
{
	struct iscsi_memory_page *page = &memory->pages[index];

	page->order = (uint8_t)order;
	page->is_free = true;
	list_push_front(&memory->free[order], &page->link);
}

int iscsi_memory_init(struct iscsi_memory *memory, size_t size)
{
	size_t count;
	void *base;

	*memory = (struct iscsi_memory){0};
	size = ALIGN_UP(MAX(size, (size_t)1), (size_t)ISCSI_MEMORY_BLOCK_MAX);
	count = size / ISCSI_MEMORY_PAGE;
	for (unsigned order = 0; order < ISCSI_MEMORY_ORDERS; order++)
		list_init(&memory->free[order]);
	memory->pages = calloc(count, sizeof(*memory->pages));
	if (!memory->pages)
		return -ENOMEM;
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED) {
		free(memory->pages);
		memory->pages = NULL;
		return -ENOMEM;
	}
	memory->base = base;
	memory->size = size;
	for (size_t i = count; i > 0; i -= ISCSI_MEMORY_BLOCK_MAX / ISCSI_MEMORY_PAGE)
		put_free(memory, i - ISCSI_MEMORY_BLOCK_MAX / ISCSI_MEMORY_PAGE,
			 ISCSI_MEMORY_ORDERS - 1);
	return 0;
}

void iscsi_memory_done(struct iscsi_memory *memory)
{
	ASSERT(memory->used == 0);
	if (memory->base)
		munmap(memory->base, memory->size);
	free(memory->pages);
	*memory = (struct iscsi_memory){0};
}

void *iscsi_memory_alloc(struct iscsi_memory *memory, size_t size)
{
	unsigned wanted = order_of(size), order = wanted;
	struct iscsi_memory_page *page;
	size_t index;

	ASSERT(size > 0 && size <= ISCSI_MEMORY_BLOCK_MAX);
	while (order < ISCSI_MEMORY_ORDERS && list_is_empty(&memory->free[order]))
		order++;
	if (order == ISCSI_MEMORY_ORDERS)
		return NULL;
	page = LIST_ENTRY(list_pop_front(&memory->free[order]), struct iscsi_memory_page, link);
	page->is_free = false;
	index = (size_t)(page - memory->pages);
	while (order > wanted) { /* the upper half stays free */
		order--;
		put_free(memory, index + ((size_t)1 << order), order);
	}
	page->order = (uint8_t)wanted;
	memory->used += (size_t)ISCSI_MEMORY_PAGE << wanted;
	return memory->base + index * ISCSI_MEMORY_PAGE;
}

void iscsi_memory_free(struct iscsi_memory *memory, void *block)
{
	size_t index;
	unsigned order;

	if (!block)
		return;
	index = (size_t)((uint8_t *)block - memory->base) / ISCSI_MEMORY_PAGE;
	ASSERT(index < memory->size / ISCSI_MEMORY_PAGE && !memory->pages[index].is_free);
	order = memory->pages[index].order;
	memory->used -= (size_t)ISCSI_MEMORY_PAGE << order;
	while (order + 1 < ISCSI_MEMORY_ORDERS) {
		size_t buddy = index ^ (size_t)1 << order;

		if (!memory->pages[buddy].is_free || memory->pages[buddy].order != order)
			break;
		memory->pages[buddy].is_free = false;
		list_remove(&memory->pages[buddy].link);
		index &= ~((size_t)1 << order);
		order++;
	}
	put_free(memory, index, order);
}
