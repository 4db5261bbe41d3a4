/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The guest's memory as a controller sees it: ranges of its address space that are mapped here. The
 * guest may change what they hold at any time, so what is read is copied once and then checked.
 *
 * A range that is taken away is not found any more at once. It is let go of when the commands
 * that began before have ended: they are counted by the parity of a generation, which turns over
 * when nobody is left in the older one.
 */
#include "vfu/shared.h"

#include <stdbool.h>
#include <sys/uio.h>

struct guest_range {
	uint64_t address;
	uint64_t length;
	unsigned char *memory; /* NULL: the client gave no file for it */
	uint32_t id;
	uint32_t flags; /* enum vfu_map_flags */
};

struct guest {
	struct guest_range ranges[VFU_MAP_COUNT]; /* by address */
	unsigned count;
	unsigned last; /* where the last search ended */
	/* Ranges that are being taken away: those of this generation, then those of the next. */
	uint32_t leaving[VFU_MAP_COUNT];
	unsigned leaving_now, leaving_count;
	unsigned parity;
	unsigned users[2];
	void (*let_go)(void *context, uint32_t id);
	void *context;
};

void guest_init(struct guest *guest, void (*let_go)(void *context, uint32_t id), void *context);
/* -EINVAL: empty or wraps; -EEXIST: overlaps or the id is in use; -ENOSPC. */
int guest_map(struct guest *guest, const struct vfu_map *map, void *memory);
/* Ends in let_go(), perhaps now. False: no such range. */
bool guest_unmap(struct guest *guest, uint32_t id);

/* A command that may keep pointers into ranges; the value goes to guest_leave(). */
static inline unsigned guest_enter(struct guest *guest)
{
	guest->users[guest->parity]++;
	return guest->parity;
}
void guest_turn_over(struct guest *guest);
static inline void guest_leave(struct guest *guest, unsigned parity)
{
	if (--guest->users[parity] == 0 && guest->leaving_count > 0)
		guest_turn_over(guest);
}

/* Where `address` is, and how many bytes are there from it on: NULL when it is not mapped, or not
 * with these flags. */
unsigned char *guest_at(struct guest *guest, uint64_t address, unsigned flags,
			uint64_t *ret_length);
/* The same for `length` bytes in one range. */
unsigned char *guest_span(struct guest *guest, uint64_t address, uint64_t length, unsigned flags);
/* Copies, also over ranges that adjoin. False: some of it is not mapped. */
bool guest_read(struct guest *guest, uint64_t address, void *to, uint64_t length);
