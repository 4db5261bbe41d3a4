/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Memory for data in flight: one region taken at start, handed out in page-aligned blocks of 4 KiB
 * to 512 KiB (powers of two, buddy system). One reactor. Which block a request gets depends only on
 * the order of the calls.
 */
#include <stddef.h>

#include "base/list.h"

#define ISCSI_MEMORY_PAGE      4096u
#define ISCSI_MEMORY_ORDERS    8
#define ISCSI_MEMORY_BLOCK_MAX (ISCSI_MEMORY_PAGE << (ISCSI_MEMORY_ORDERS - 1))

struct iscsi_memory_page {
	struct list_node link; /* in `free` while it heads a free block */
	uint8_t order;         /* of the block that it heads */
	bool is_free;
};

struct iscsi_memory {
	uint8_t *base;
	size_t size, used;
	struct iscsi_memory_page *pages;
	struct list free[ISCSI_MEMORY_ORDERS];
};

/* `size` is rounded up to whole blocks of the largest order. -ENOMEM. */
int iscsi_memory_init(struct iscsi_memory *memory, size_t size);
/* All blocks are back. Does nothing to a zeroed one. */
void iscsi_memory_done(struct iscsi_memory *memory);
/* A block of at least `size` bytes (1 to ISCSI_MEMORY_BLOCK_MAX), or NULL. */
void *iscsi_memory_alloc(struct iscsi_memory *memory, size_t size);
void iscsi_memory_free(struct iscsi_memory *memory, void *block); /* NULL is fine */
/* The size that an allocation of `size` bytes takes. */
size_t iscsi_memory_block_size(size_t size);
