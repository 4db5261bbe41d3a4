/* SPDX-License-Identifier: Apache-2.0 */
#include "egroup/slotset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

#define WORDS (SLOTS_PER_GROUP / 64)

void slotset_init(struct slotset *set)
{
	memset(set, 0, sizeof(*set));
}

void slotset_done(struct slotset *set)
{
	free(set->memory);
	slotset_init(set);
}

/* Index of the first array member >= slot. */
static uint32_t lower_bound(const struct slotset *set, uint32_t slot)
{
	uint32_t low = 0, high = set->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (set->array[middle] < slot)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool slotset_has(const struct slotset *set, uint32_t slot)
{
	uint32_t at;

	ASSERT(slot < SLOTS_PER_GROUP);
	if (set->is_bitmap)
		return set->bitmap[slot / 64] >> (slot % 64) & 1;
	at = lower_bound(set, slot);
	return at < set->count && set->array[at] == slot;
}

static int become_bitmap(struct slotset *set)
{
	uint64_t *bitmap = calloc(WORDS, sizeof(uint64_t));

	if (!bitmap)
		return -ENOMEM;
	for (uint32_t i = 0; i < set->count; i++)
		bitmap[set->array[i] / 64] |= UINT64_C(1) << (set->array[i] % 64);
	free(set->array);
	set->bitmap = bitmap;
	set->capacity = 0;
	set->is_bitmap = true;
	return 0;
}

static int grow_array(struct slotset *set)
{
	uint32_t capacity = set->capacity ? set->capacity * 2 : 8;
	uint16_t *array = realloc(set->array, capacity * sizeof(*array));

	if (!array)
		return -ENOMEM;
	set->array = array;
	set->capacity = capacity;
	return 0;
}

static int make_room(struct slotset *set)
{
	if (set->is_bitmap)
		return 0;
	if (set->count == SLOTSET_ARRAY_MAX)
		return become_bitmap(set);
	return set->count == set->capacity ? grow_array(set) : 0;
}

int slotset_add(struct slotset *set, uint32_t slot)
{
	uint32_t at;
	int r;

	if (slotset_has(set, slot))
		return 0;
	r = make_room(set);
	if (r < 0)
		return r;
	if (set->is_bitmap) {
		set->bitmap[slot / 64] |= UINT64_C(1) << (slot % 64);
	} else {
		at = lower_bound(set, slot);
		memmove(&set->array[at + 1], &set->array[at], (set->count - at) * sizeof(uint16_t));
		set->array[at] = (uint16_t)slot;
	}
	set->count++;
	return 1;
}

/* At half the limit, so that a set near it does not change its form back and forth. Staying a
 * bitmap when memory is short is right, too. */
static void maybe_become_array(struct slotset *set)
{
	uint16_t *array;
	uint32_t n = 0;

	if (set->count > SLOTSET_ARRAY_MAX / 2)
		return;
	array = malloc(SLOTSET_ARRAY_MAX / 2 * sizeof(*array));
	if (!array)
		return;
	for (uint32_t slot = slotset_next(set, 0); slot < SLOTS_PER_GROUP;
	     slot = slotset_next(set, slot + 1))
		array[n++] = (uint16_t)slot;
	free(set->bitmap);
	set->array = array;
	set->capacity = SLOTSET_ARRAY_MAX / 2;
	set->is_bitmap = false;
}

bool slotset_remove(struct slotset *set, uint32_t slot)
{
	uint32_t at;

	if (!slotset_has(set, slot))
		return false;
	set->count--;
	if (set->is_bitmap) {
		set->bitmap[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
		maybe_become_array(set);
		return true;
	}
	at = lower_bound(set, slot);
	memmove(&set->array[at], &set->array[at + 1], (set->count - at) * sizeof(uint16_t));
	return true;
}

uint32_t slotset_rank(const struct slotset *set, uint32_t slot)
{
	uint32_t rank = 0;

	if (!set->is_bitmap)
		return lower_bound(set, slot);
	for (uint32_t word = 0; word < slot / 64; word++)
		rank += (uint32_t)__builtin_popcountll(set->bitmap[word]);
	if (slot % 64)
		rank += (uint32_t)__builtin_popcountll(set->bitmap[slot / 64] << (64 - slot % 64));
	return rank;
}

static uint32_t bitmap_next(const struct slotset *set, uint32_t slot)
{
	uint64_t bits = set->bitmap[slot / 64] & (~UINT64_C(0) << (slot % 64));

	for (uint32_t word = slot / 64;;) {
		if (bits)
			return word * 64 + (uint32_t)__builtin_ctzll(bits);
		if (++word == WORDS)
			return SLOTS_PER_GROUP;
		bits = set->bitmap[word];
	}
}

uint32_t slotset_next(const struct slotset *set, uint32_t slot)
{
	uint32_t at;

	if (slot >= SLOTS_PER_GROUP)
		return SLOTS_PER_GROUP;
	if (set->is_bitmap)
		return bitmap_next(set, slot);
	at = lower_bound(set, slot);
	return at < set->count ? set->array[at] : SLOTS_PER_GROUP;
}

size_t slotset_memory(const struct slotset *set)
{
	return set->is_bitmap ? WORDS * sizeof(uint64_t) : set->capacity * sizeof(uint16_t);
}
