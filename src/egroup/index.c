/* SPDX-License-Identifier: Apache-2.0 */
#include "egroup/index.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"

/* Both arrays start on 8 bytes. */
static size_t slots_offset(uint32_t group_count)
{
	return sizeof(struct index_header_disk) + group_count * sizeof(struct index_group_disk);
}

static size_t crcs_offset(uint32_t group_count, uint32_t total_slots)
{
	return slots_offset(group_count) + ALIGN_UP((size_t)total_slots * sizeof(uint16_t), 8);
}

uint32_t index_blocks(uint32_t group_count, uint32_t total_slots)
{
	size_t bytes = crcs_offset(group_count, total_slots) + (size_t)total_slots * 4;

	return (uint32_t)DIV_ROUND_UP(bytes, BLOCK_BYTES);
}

static uint32_t index_crc(const void *memory, uint32_t blocks)
{
	const size_t at = offsetof(struct index_header_disk, crc);
	const uint8_t *bytes = memory, zero[4] = {0};
	uint32_t crc = crc32c_more(crc32c(bytes, at), zero, sizeof(zero));

	return crc32c_more(crc, bytes + at + 4, (size_t)blocks * BLOCK_BYTES - at - 4);
}

void index_begin(void *memory, const struct index_id *id, uint32_t group_count,
		 uint32_t total_slots)
{
	struct index_header_disk *header = memory;
	uint32_t blocks = index_blocks(group_count, total_slots);

	memset(memory, 0, (size_t)blocks * BLOCK_BYTES);
	header->magic = htole64(INDEX_MAGIC);
	header->version = htole32(INDEX_VERSION);
	header->pool = htole64(id->pool);
	header->vdisk = htole64(id->vdisk);
	header->file = htole64(id->file);
	header->group_count = htole32(group_count);
	header->total_slots = htole32(total_slots);
	header->index_blocks = htole32(blocks);
}

void index_set_page_groups(void *memory, uint32_t page_groups)
{
	struct index_header_disk *header = memory;

	header->page_groups = htole32(page_groups + 1);
}

struct index_group_disk *index_groups(void *memory)
{
	return (struct index_group_disk *)((char *)memory + sizeof(struct index_header_disk));
}

uint16_t *index_slots(void *memory)
{
	const struct index_header_disk *header = memory;

	return (uint16_t *)((char *)memory + slots_offset(le32toh(header->group_count)));
}

uint32_t *index_crcs(void *memory)
{
	const struct index_header_disk *header = memory;

	return (uint32_t *)((char *)memory + crcs_offset(le32toh(header->group_count),
							 le32toh(header->total_slots)));
}

void index_seal(void *memory)
{
	struct index_header_disk *header = memory;

	header->crc = htole32(index_crc(memory, le32toh(header->index_blocks)));
}

static bool header_is_sound(const struct index_header_disk *header, uint32_t blocks,
			    const struct index_id *id)
{
	uint32_t groups = le32toh(header->group_count), slots = le32toh(header->total_slots);

	return le64toh(header->magic) == INDEX_MAGIC && le32toh(header->version) == INDEX_VERSION &&
	       le64toh(header->pool) == id->pool && le64toh(header->vdisk) == id->vdisk &&
	       le64toh(header->file) == id->file && groups > 0 && groups <= INDEX_GROUPS_MAX &&
	       slots <= SLOTS_PER_GROUP && le32toh(header->index_blocks) == blocks &&
	       index_blocks(groups, slots) == blocks;
}

static bool slots_are_sorted(const uint16_t *slots, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (le16toh(slots[i]) >= SLOTS_PER_GROUP ||
		    (i > 0 && le16toh(slots[i]) <= le16toh(slots[i - 1])))
			return false;
	return true;
}

/* The groups' parts follow each other and fill the whole. */
static bool groups_are_sound(const struct index_view *view)
{
	uint32_t next = 0;

	for (uint32_t i = 0; i < view->group_count; i++) {
		uint32_t base = le32toh(view->groups[i].base);
		uint32_t count = le32toh(view->groups[i].count);

		if (base != next || count > view->total_slots - next ||
		    !slots_are_sorted(view->slots + base, count))
			return false;
		next += count;
	}
	return next == view->total_slots;
}

int index_check(const void *memory, uint32_t blocks, const struct index_id *id,
		struct index_view *ret_view)
{
	const struct index_header_disk *header = memory;
	struct index_view view;

	if (!header_is_sound(header, blocks, id) ||
	    le32toh(header->crc) != index_crc(memory, blocks))
		return -EUCLEAN;
	view.group_count = le32toh(header->group_count);
	view.total_slots = le32toh(header->total_slots);
	view.streams_known = header->page_groups != 0;
	view.page_groups = view.streams_known ? le32toh(header->page_groups) - 1 : 0;
	if (view.page_groups > view.group_count)
		return -EUCLEAN;
	view.groups = (const void *)((const char *)memory + sizeof(*header));
	view.slots = (const void *)((const char *)memory + slots_offset(view.group_count));
	view.crcs = (const void *)((const char *)memory +
				   crcs_offset(view.group_count, view.total_slots));
	if (!groups_are_sound(&view))
		return -EUCLEAN;
	*ret_view = view;
	return 0;
}
