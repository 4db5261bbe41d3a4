/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of the slots of a group while its part of the vDisk is looked at: first what its
 * copies have and what its records or its index say that it should be, then what the map says.
 *
 *  1. A copy is wrong in a slot only when another one is right there: it can be written again.
 *  2. Right is what a record of a group whose end is known, or the index, says; elsewhere what the
 *     map says. What neither names may differ from copy to copy: nobody reads it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "fsck/fsck_priv.h"

#define SETS 4u /* of bits, beside those of copies */

static uint32_t slots_of(const struct fsck_group *group)
{
	if (group->row.compacted)
		return SLOTS_PER_GROUP;
	if (group->row.sealed)
		return group->row.slots;
	return (uint32_t)MIN(group->file->row.size_bytes / BLOCK_BYTES, (uint64_t)SLOTS_PER_GROUP);
}

void fsck_content_free(struct fsck_group *group)
{
	struct fsck_content *content = group->content;

	if (!content)
		return;
	free(content->crcs);
	free(content->known);
	free(content->disputes);
	free(content);
	group->content = NULL;
}

int fsck_content_new(struct fsck_group *group)
{
	uint32_t slots = slots_of(group), words = DIV_ROUND_UP(slots, 64u) + 1;
	unsigned copies = group->file->row.copies.count > 1 ? group->file->row.copies.count : 0;
	struct fsck_content *content = calloc(1, sizeof(*content));

	if (!content)
		return -ENOMEM;
	group->content = content;
	content->slots = slots;
	content->crcs = calloc(slots + 1u, sizeof(*content->crcs));
	content->known = calloc((SETS + copies) * words, sizeof(uint64_t)); /* all in one piece */
	if (!content->crcs || !content->known)
		return -ENOMEM;
	content->proven = content->known + words;
	content->bad = content->proven + words;
	content->named = content->bad + words;
	for (unsigned copy = 0; copy < copies; copy++)
		content->wrong[copy] = content->named + (copy + 1) * words;
	return 0;
}

static bool has(const struct fsck_slot *slot, unsigned copy, uint32_t crc)
{
	return slot->read >> copy & 1 && slot->crcs[copy] == crc;
}

/* Returns whether any copy is right. */
static bool mark_wrong(struct fsck_content *content, const struct fsck_slot *slot, uint32_t crc)
{
	bool right = false;

	for (unsigned copy = 0; copy < slot->count; copy++)
		right |= has(slot, copy, crc);
	for (unsigned copy = 0; right && copy < slot->count; copy++)
		if (content->wrong[copy] && !has(slot, copy, crc))
			fsck_bit_set(content->wrong[copy], slot->slot);
	return right;
}

/* The first of what was read; false: nothing was. */
static bool first_read(const struct fsck_slot *slot, uint32_t *ret_crc)
{
	if (slot->read == 0)
		return false;
	*ret_crc = slot->crcs[__builtin_ctz(slot->read)];
	return true;
}

static int add_dispute(struct fsck_content *content, const struct fsck_slot *slot)
{
	if (content->dispute_count == content->dispute_capacity) {
		size_t capacity = MAX(2 * content->dispute_capacity, (size_t)16);
		struct fsck_slot *disputes =
			realloc(content->disputes, capacity * sizeof(*disputes));

		if (!disputes)
			return -ENOMEM;
		content->disputes = disputes;
		content->dispute_capacity = capacity;
	}
	content->disputes[content->dispute_count++] = *slot;
	return 0;
}

int fsck_content_note(struct fsck_content *content, const struct fsck_slot *slot)
{
	uint32_t crc;
	bool same = true;

	if (!first_read(slot, &crc))
		return 0;
	fsck_bit_set(content->known, slot->slot);
	content->crcs[slot->slot] = crc;
	for (unsigned copy = 0; copy < slot->count; copy++)
		same = same && has(slot, copy, crc);
	return same ? 0 : add_dispute(content, slot);
}

bool fsck_content_expect(struct fsck_content *content, const struct fsck_slot *slot, uint32_t crc)
{
	bool right = mark_wrong(content, slot, crc);
	uint32_t read;

	if (!first_read(slot, &read))
		return false;
	fsck_bit_set(content->known, slot->slot);
	content->crcs[slot->slot] = right ? crc : read;
	fsck_bit_set(right ? content->proven : content->bad, slot->slot);
	return right;
}

void fsck_content_settle(struct fsck_content *content, uint32_t slot, uint32_t crc)
{
	size_t low = 0, high = content->dispute_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (content->disputes[middle].slot < slot)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < content->dispute_count && content->disputes[low].slot == slot &&
	    mark_wrong(content, &content->disputes[low], crc))
		content->crcs[slot] = crc;
}

void fsck_slot_object(const struct fsck_file *file, uint64_t group, uint32_t slot, uint64_t disk,
		      char object[FSCK_OBJECT_MAX])
{
	int length =
		snprintf(object, FSCK_OBJECT_MAX,
			 "vDisk %" PRIu64 ", group %" PRIu64 " slot %" PRIu32 ", file %016" PRIx64,
			 file->vdisk, group, slot, file->row.id);

	if (disk)
		snprintf(object + length, FSCK_OBJECT_MAX - (size_t)length, " on disk %" PRIu64,
			 disk);
}

/* What a damaged header described, and no map names: of it nothing can be said. */
static uint32_t unproven_run(const struct fsck_group *group, uint32_t slot)
{
	const struct fsck_content *content = group->content;
	uint32_t end = slot;

	if (group->row.compacted || !group->row.sealed || group->row.last_lsn == 0)
		return 0;
	while (end < content->slots && fsck_bit(content->known, end) &&
	       !fsck_bit(content->proven, end) && !fsck_bit(content->bad, end) &&
	       !fsck_bit(content->named, end))
		end++;
	return end - slot;
}

static void group_unused(struct fsck *fsck, const struct fsck_file *file,
			 const struct fsck_group *group)
{
	const struct fsck_content *content = group->content;
	char object[FSCK_OBJECT_MAX];
	uint32_t run;

	for (uint32_t slot = 0; slot < content->slots; slot += MAX(run, 1u)) {
		run = unproven_run(group, slot);
		if (run == 0 && (!fsck_bit(content->bad, slot) || fsck_bit(content->named, slot)))
			continue;
		fsck_slot_object(file, group->row.id, slot, 0, object);
		if (run > 0)
			fsck_find(fsck, FSCK_BLOCK_UNUSED, object,
				  "%" PRIu32 " blocks from there on are proven by no record; the "
				  "map does not name them",
				  run);
		else
			fsck_find(fsck, FSCK_BLOCK_UNUSED, object,
				  "the block does not match its checksum; the map does not name "
				  "it");
	}
}

void fsck_file_unused(struct fsck *fsck, struct fsck_file *file)
{
	for (struct fsck_group *group = file->group; group; group = group->next)
		if (group->content)
			group_unused(fsck, file, group);
}
