/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants
 *  1. Ranges are in order of address, do not overlap, and do not wrap.
 *  2. leaving[0 .. leaving_now) wait until users[!parity] is 0; the rest of leaving[] came later
 *     and waits for the next turn-over. leaving_now > 0 only while users[!parity] > 0.
 * Home: the controller's reactor.
 */
#include "frontend/nvme/guest.h"

#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "base/reached.h"

void guest_init(struct guest *guest, void (*let_go)(void *context, uint32_t id), void *context)
{
	guest->count = guest->last = 0;
	guest->leaving_now = guest->leaving_count = 0;
	guest->parity = 0;
	guest->users[0] = guest->users[1] = 0;
	guest->let_go = let_go;
	guest->context = context;
}

/* Index of the first range that ends beyond `address`. */
static unsigned guest_search(const struct guest *guest, uint64_t address)
{
	unsigned low = 0, high = guest->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct guest_range *range = &guest->ranges[middle];

		if (address >= range->address && address - range->address >= range->length)
			low = middle + 1;
		else if (address < range->address)
			high = middle;
		else
			return middle;
	}
	return low;
}

static bool guest_knows(const struct guest *guest, uint32_t id)
{
	for (unsigned i = 0; i < guest->count; i++)
		if (guest->ranges[i].id == id)
			return true;
	return false;
}

int guest_map(struct guest *guest, const struct vfu_map *map, void *memory)
{
	unsigned at = guest_search(guest, map->address);
	struct guest_range *range = &guest->ranges[at];

	if (map->length == 0 || map->length - 1 > UINT64_MAX - map->address)
		return -EINVAL;
	if (guest->count == VFU_MAP_COUNT)
		return -ENOSPC;
	if (guest_knows(guest, map->id) ||
	    (at < guest->count && range->address <= map->address + (map->length - 1)))
		return -EEXIST;
	memmove(range + 1, range, (guest->count - at) * sizeof(*range));
	*range = (struct guest_range){
		.address = map->address,
		.length = map->length,
		.memory = memory,
		.id = map->id,
		.flags = map->flags,
	};
	guest->count++;
	guest->last = at;
	return 0;
}

void guest_turn_over(struct guest *guest)
{
	while (guest->leaving_count > 0 && guest->users[!guest->parity] == 0) {
		unsigned now = guest->leaving_now;
		uint32_t ids[VFU_MAP_COUNT];

		memcpy(ids, guest->leaving, now * sizeof(ids[0]));
		guest->leaving_count -= now;
		memmove(guest->leaving, guest->leaving + now,
			guest->leaving_count * sizeof(guest->leaving[0]));
		guest->leaving_now = guest->leaving_count;
		if (guest->leaving_now > 0)
			guest->parity = !guest->parity;
		for (unsigned i = 0; i < now; i++)
			guest->let_go(guest->context, ids[i]);
	}
}

bool guest_unmap(struct guest *guest, uint32_t id)
{
	unsigned at = 0;

	while (at < guest->count && guest->ranges[at].id != id)
		at++;
	if (at == guest->count || guest->leaving_count == VFU_MAP_COUNT)
		return false;
	guest->count--;
	memmove(&guest->ranges[at], &guest->ranges[at + 1],
		(guest->count - at) * sizeof(guest->ranges[0]));
	guest->last = 0;
	guest->leaving[guest->leaving_count++] = id;
	if (guest->users[0] + guest->users[1] > 0)
		REACHED("nvme.unmap-waits");
	guest_turn_over(guest);
	return true;
}

static const struct guest_range *guest_find(struct guest *guest, uint64_t address)
{
	unsigned at = guest->last;

	if (at < guest->count && address - guest->ranges[at].address < guest->ranges[at].length)
		return &guest->ranges[at];
	at = guest_search(guest, address);
	if (at == guest->count || address < guest->ranges[at].address)
		return NULL;
	guest->last = at;
	return &guest->ranges[at];
}

unsigned char *guest_at(struct guest *guest, uint64_t address, unsigned flags, uint64_t *ret_length)
{
	const struct guest_range *range = guest_find(guest, address);

	if (!range || !range->memory || (range->flags & flags) != flags)
		return NULL;
	*ret_length = range->length - (address - range->address);
	return range->memory + (address - range->address);
}

unsigned char *guest_span(struct guest *guest, uint64_t address, uint64_t length, unsigned flags)
{
	uint64_t there;
	unsigned char *at = guest_at(guest, address, flags, &there);

	return at && length <= there ? at : NULL;
}

bool guest_read(struct guest *guest, uint64_t address, void *to, uint64_t length)
{
	unsigned char *next = to;

	while (length > 0) {
		uint64_t there;
		const unsigned char *from = guest_at(guest, address, VFU_MAP_READ, &there);

		if (!from)
			return false;
		there = MIN(there, length);
		memcpy(next, from, there);
		next += there;
		address += there;
		length -= there;
	}
	return true;
}
