/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A set of slots of one extent group (0 .. 16383), small when it has few members: a sorted array of
 * 16-bit numbers up to SLOTSET_ARRAY_MAX, a bitmap above.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOTS_PER_GROUP   16384u
#define SLOTSET_ARRAY_MAX 512u

struct slotset {
	uint32_t count;
	uint32_t capacity; /* of array; 0 with a bitmap */
	union {
		uint16_t *array;
		uint64_t *bitmap;
		void *memory;
	};
	bool is_bitmap;
};

void slotset_init(struct slotset *set);
void slotset_done(struct slotset *set);
bool slotset_has(const struct slotset *set, uint32_t slot);
/* 1 when added, 0 when it was there, -ENOMEM. */
int slotset_add(struct slotset *set, uint32_t slot);
/* True when it was there. */
bool slotset_remove(struct slotset *set, uint32_t slot);
/* Members below `slot`. */
uint32_t slotset_rank(const struct slotset *set, uint32_t slot);
/* The first member at or after `slot`, or SLOTS_PER_GROUP. */
uint32_t slotset_next(const struct slotset *set, uint32_t slot);
size_t slotset_memory(const struct slotset *set);
