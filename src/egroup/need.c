/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What files lack, as things are now: copies that count, those that are to be made, those that may
 * go; sums of that over a vDisk; which file repair takes next. Judges, and changes nothing.
 */
#include "base/macros.h"
#include "egroup/repair.h"
#include "egroup/scan.h"
#include "egroup/store_priv.h"
#include "egroup/waiting.h"
#include "pool/pool_disk.h"
#include "pool/pool_io.h"

#define FILES_A_TURN 128u /* looked at before others get a turn */

static unsigned bit_count(unsigned bits)
{
	return (unsigned)__builtin_popcount(bits);
}

/* How many copies there can be now. */
static unsigned wanted_copies(const struct egroup_store *store)
{
	unsigned usable = pool_disks_usable(store->pool);

	return MIN(store->factor, MAX(usable, 1u));
}

/* How many there can be once all disks that stay are in order. */
static unsigned lasting_copies(const struct egroup_store *store)
{
	return MIN(store->factor, pool_disks_staying(store->pool));
}

struct sorted_copies egroup_sort_copies(const struct egroup_file *file)
{
	struct sorted_copies sorted = {.stale = file->copies.stale};

	for (unsigned i = 0; i < file->copies.count; i++) {
		uint64_t disk = file->copies.disks[i];
		enum pool_disk_state state = pool_disk_state(file->store->pool, disk);

		if (file->copies.stale >> i & 1)
			continue;
		if (state == POOL_DISK_FAILED)
			sorted.failed |= 1u << i;
		else if (state == POOL_DISK_MISSING)
			sorted.away |= 1u << i;
		else if (pool_disk_is_leaving(file->store->pool, disk))
			sorted.leaving |= 1u << i;
		else
			sorted.good |= 1u << i;
	}
	return sorted;
}

static void need_of(const struct egroup_file *file, struct sorted_copies sorted,
		    struct egroup_need *ret_need)
{
	unsigned wanted = wanted_copies(file->store), good = bit_count(sorted.good);
	unsigned away = bit_count(sorted.away), enough = MAX(good, 1u) + away;
	struct egroup_need need = {
		.good = good, .leaving = bit_count(sorted.leaving), .away = away};

	need.lost = (sorted.good | sorted.leaving) == 0;
	need.resort = need.lost ? bit_count(sorted.failed) : 0;
	/* A disk that has failed is not read for a copy that no other can take. */
	if (need.lost && (!need.resort || pool_disks_usable(file->store->pool) == 0)) {
		*ret_need = need;
		return;
	}
	/* One that can be read and stays, in any case. */
	need.make = good == 0 ? 1 : 0;
	if (enough < wanted)
		need.make += wanted - enough;
	if (good > 0 && good + away >= wanted)
		need.drop = sorted.stale;
	/* What can be read stays until others can in its place: a disk that takes nothing just now,
	 * or is missing, is waited for. */
	if (good > 0 && good >= lasting_copies(file->store))
		need.drop |= sorted.leaving;
	/* A disk that was given up may be found again: until there is one for each. */
	if (good >= file->store->factor)
		need.drop |= sorted.failed | sorted.away;
	/* More than wanted: the factor was lowered. */
	for (unsigned i = 0; i < file->copies.count && good > file->store->factor; i++)
		if (sorted.good >> i & 1) {
			need.drop |= 1u << i;
			good--;
		}
	*ret_need = need;
}

void egroup_file_need(const struct egroup_file *file, struct egroup_need *ret_need)
{
	need_of(file, egroup_sort_copies(file), ret_need);
}

static bool needs_work(const struct egroup_need *need)
{
	return (need->make > 0 || need->drop != 0) && !(need->lost && !need->resort);
}

/* Copies that make up for those that go must be there, or be made, first. */
static bool can_work(const struct egroup_file *file, const struct egroup_need *need)
{
	return needs_work(need) && egroup_file_is_sealed(file) && !file->busy && !file->dying &&
	       !waiting_leaves_alone(file, need);
}

static void count_file(const struct egroup_file *file, struct egroup_redundancy *sum)
{
	uint64_t bytes = file->allocated_bytes;
	struct egroup_need need;
	unsigned readable;

	egroup_file_need(file, &need);
	readable = need.good + need.leaving;
	sum->to_copy += need.make * egroup_scan_bytes(file);
	if (need.leaving)
		sum->leaving += bytes;
	if (need.drop) {
		sum->to_drop += bytes;
		sum->waiting_blocks += file->waiting_blocks;
	}
	if (need.lost) {
		sum->lost += bytes;
		sum->resort += need.resort ? bytes : 0;
		sum->resort_groups += need.resort ? file->group_count : 0;
	} else if (readable >= file->store->factor) {
		sum->whole += bytes;
	} else {
		sum->degraded += bytes;
		if (readable == 1 && file->store->factor > 1)
			sum->single += bytes;
	}
}

/* With very many files the reactor has other things to do, too. */
static void take_turns(unsigned looked_at)
{
	if (looked_at % FILES_A_TURN == FILES_A_TURN - 1)
		fiber_yield();
}

void egroup_store_redundancy(struct egroup_store *store, struct egroup_redundancy *ret)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;

	*ret = (struct egroup_redundancy){0};
	egroup_cursor_init(&cursor, store, 0);
	for (unsigned looked_at = 0; (file = egroup_cursor_next(&cursor)); looked_at++) {
		count_file(file, ret);
		take_turns(looked_at);
	}
	egroup_cursor_done(&cursor);
}

static bool has_copy_on(const struct egroup_file *file, uint64_t disk)
{
	for (unsigned i = 0; i < file->copies.count; i++)
		if (file->copies.disks[i] == disk && !(file->copies.stale >> i & 1))
			return true;
	return false;
}

uint64_t egroup_store_resort(struct egroup_store *store, uint64_t disk)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;
	uint64_t groups = 0;

	egroup_cursor_init(&cursor, store, 0);
	for (unsigned looked_at = 0; (file = egroup_cursor_next(&cursor)); looked_at++) {
		struct egroup_need need;

		egroup_file_need(file, &need);
		if (need.resort && has_copy_on(file, disk))
			groups += file->group_count;
		take_turns(looked_at);
	}
	egroup_cursor_done(&cursor);
	return groups;
}

struct egroup_file *egroup_repair_next(struct egroup_cursor *cursor, unsigned most)
{
	struct egroup_file *file;

	for (unsigned looked_at = 0; (file = egroup_cursor_next(cursor)); looked_at++) {
		struct egroup_need need;

		egroup_file_need(file, &need);
		if (can_work(file, &need) && need.good + need.leaving <= most)
			return file;
		take_turns(looked_at);
	}
	return NULL;
}

static bool must_be_sealed(const struct egroup_file *file)
{
	struct egroup_need need;

	if (egroup_file_is_sealed(file)) /* nearly all */
		return false;
	egroup_file_need(file, &need);
	return needs_work(&need);
}

bool egroup_repair_waits_for_seal(struct egroup_store *store)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;
	bool found = false;

	egroup_cursor_init(&cursor, store, 0);
	for (unsigned looked_at = 0; !found && (file = egroup_cursor_next(&cursor)); looked_at++) {
		found = must_be_sealed(file);
		take_turns(looked_at);
	}
	egroup_cursor_done(&cursor);
	return found;
}
