/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what the engine reads from disk: record headers, map pages, indexes of compacted
 * files. The first byte chooses which. Each is tried as it is and with a checksum put right,
 * because an enemy or a bug can do that, too: what is accepted then must be sound.
 */
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "egroup/index.h"
#include "egroup/record.h"
#include "fuzz.h"
#include "vdisk/identity.h"
#include "vdisk/page.h"

#define INDEX_BLOCKS_MAX 32u

static void check_record(struct record_header_disk *header)
{
	const struct record_id anything = {0};
	struct record_extent extent;
	uint32_t cursor = 0;

	struct identity identity;

	if (record_check(header, &anything) < 0)
		return;
	if (identity_decode(header->note, &identity) == 0)
		ASSERT(identity.disk_count <= POOL_DISKS_MAX && identity.name[0]);
	ASSERT(record_payload_blocks(header) <= RECORD_BLOCKS_MAX);
	for (uint32_t i = 0; i < record_extent_count(header); i++) {
		record_get_extent(header, i, &cursor, &extent);
		ASSERT(extent.count > 0 && cursor <= RECORD_BLOCKS_MAX);
	}
	ASSERT(cursor == record_payload_blocks(header));
}

static void try_record(const uint8_t *data, size_t size)
{
	struct record_header_disk *header = calloc(1, sizeof(*header));
	uint8_t note[RECORD_NOTE_BYTES];
	struct record_seal seal = {.note = note};

	ASSERT(header);
	memcpy(header, data, MIN(size, sizeof(*header)));
	memcpy(note, header->note, sizeof(note));
	check_record(header);
	record_seal(header, &seal);
	check_record(header);
	free(header);
}

static void try_page(const uint8_t *data, size_t size)
{
	struct page_disk *page = calloc(1, sizeof(*page));
	struct map_entry entries[MAP_FANOUT];
	struct page_id id;

	ASSERT(page);
	memcpy(page, data, MIN(size, sizeof(*page)));
	id = (struct page_id){
		.vdisk = le64toh(page->vdisk), .index = le64toh(page->index), .level = page->level};
	if (page_decode(page, &id, crc32c(page, sizeof(*page)), entries) == 0)
		for (unsigned i = 0; i < MAP_FANOUT; i++)
			ASSERT(!entries[i].address || address_group(entries[i].address));
	free(page);
}

static void check_index(const void *memory, uint32_t blocks)
{
	const struct index_header_disk *header = memory;
	const struct index_id id = {.pool = le64toh(header->pool),
				    .vdisk = le64toh(header->vdisk),
				    .file = le64toh(header->file)};
	struct index_view view;
	uint64_t sum = 0;

	if (index_check(memory, blocks, &id, &view) < 0)
		return;
	for (uint32_t i = 0; i < view.group_count; i++)
		sum += le32toh(view.groups[i].count);
	ASSERT(sum == view.total_slots);
	for (uint32_t i = 0; i < view.total_slots; i++)
		sum += le16toh(view.slots[i]) + (uint64_t)le32toh(view.crcs[i]);
}

static void try_index(const uint8_t *data, size_t size)
{
	uint32_t blocks = (uint32_t)MIN(DIV_ROUND_UP(size, BLOCK_BYTES), INDEX_BLOCKS_MAX);
	struct index_header_disk *header = calloc(MAX(blocks, 1u), BLOCK_BYTES);

	ASSERT(header);
	blocks = MAX(blocks, 1u);
	memcpy(header, data, MIN(size, (size_t)blocks * BLOCK_BYTES));
	check_index(header, blocks);
	header->index_blocks = htole32(blocks);
	index_seal(header);
	check_index(header, blocks);
	free(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] % 3 == 0)
		try_record(data + 1, size - 1);
	else if (data[0] % 3 == 1)
		try_page(data + 1, size - 1);
	else
		try_index(data + 1, size - 1);
	return 0;
}
