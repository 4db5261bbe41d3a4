/* SPDX-License-Identifier: Apache-2.0 */
#include "egroup/record.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"

static uint32_t header_crc(const struct record_header_disk *header)
{
	const size_t at = offsetof(struct record_header_disk, crc);
	const uint8_t *bytes = (const uint8_t *)header;
	const uint8_t zero[4] = {0};
	uint32_t crc;

	crc = crc32c(bytes, at);
	crc = crc32c_more(crc, zero, sizeof(zero));
	return crc32c_more(crc, bytes + at + 4, sizeof(*header) - at - 4);
}

void record_begin(struct record_header_disk *header)
{
	memset(header, 0, sizeof(*header));
}

uint32_t record_extent_count(const struct record_header_disk *header)
{
	return le32toh(header->extent_count);
}

uint32_t record_payload_blocks(const struct record_header_disk *header)
{
	return le32toh(header->payload_blocks);
}

/* Does [block, ..) of `kind` continue `extent`, with room for `count` more? */
static bool extent_continues(const struct record_extent_disk *extent, enum record_extent_kind kind,
			     uint64_t block, uint32_t count)
{
	uint32_t had = le32toh(extent->count);

	return le16toh(extent->kind) == kind && le64toh(extent->block) + had == block &&
	       had <= UINT32_MAX - count;
}

bool record_add(struct record_header_disk *header, enum record_extent_kind kind, uint64_t block,
		uint32_t count)
{
	uint32_t n = record_extent_count(header);
	struct record_extent_disk *extent;

	ASSERT(count > 0);
	if (n > 0 && extent_continues(&header->extents[n - 1], kind, block, count)) {
		extent = &header->extents[n - 1];
		extent->count = htole32(le32toh(extent->count) + count);
		return true;
	}
	if (n == RECORD_EXTENTS_MAX)
		return false;
	extent = &header->extents[n];
	extent->block = htole64(block);
	extent->count = htole32(count);
	extent->kind = htole16((uint16_t)kind);
	header->extent_count = htole32(n + 1);
	return true;
}

void record_add_block(struct record_header_disk *header, uint32_t crc)
{
	uint32_t n = record_payload_blocks(header);

	ASSERT(n < RECORD_BLOCKS_MAX);
	header->block_crcs[n] = htole32(crc);
	header->payload_blocks = htole32(n + 1);
}

void record_seal(struct record_header_disk *header, const struct record_seal *seal)
{
	header->magic = htole64(RECORD_MAGIC);
	header->version = htole32(RECORD_VERSION);
	header->pool = htole64(seal->id.pool);
	header->vdisk = htole64(seal->id.vdisk);
	header->group = htole64(seal->id.group);
	header->slot = htole32(seal->id.slot);
	header->stream = htole32(seal->id.stream);
	header->epoch = htole64(seal->epoch);
	header->lsn = htole64(seal->lsn);
	header->prev_group = htole64(seal->prev_group);
	header->prev_slot = htole32(seal->prev_slot);
	header->durable_lsn = htole64(seal->durable_lsn);
	header->file = htole64(seal->file);
	if (seal->note)
		memcpy(header->note, seal->note, sizeof(header->note));
	else
		memset(header->note, 0, sizeof(header->note));
	header->crc = htole32(header_crc(header));
}

static bool id_matches(const struct record_header_disk *header, const struct record_id *id)
{
	return (!id->pool || le64toh(header->pool) == id->pool) &&
	       (!id->vdisk || le64toh(header->vdisk) == id->vdisk) &&
	       (!id->group ||
		(le64toh(header->group) == id->group && le32toh(header->slot) == id->slot)) &&
	       (!id->stream || le32toh(header->stream) == id->stream);
}

static bool extent_is_sound(const struct record_extent_disk *extent)
{
	uint32_t count = le32toh(extent->count);
	uint16_t kind = le16toh(extent->kind);

	if (count == 0 || kind < RECORD_EXTENT_DATA || kind > RECORD_EXTENT_PAGES)
		return false;
	return kind == RECORD_EXTENT_PAGES || le64toh(extent->block) <= (UINT64_C(1) << 40) - count;
}

/* The extents must account for the payload exactly, whatever the CRC says. */
static bool extents_are_sound(const struct record_header_disk *header)
{
	uint32_t n = record_extent_count(header), blocks = record_payload_blocks(header);
	uint64_t sum = 0;

	if (n == 0 || n > RECORD_EXTENTS_MAX || blocks > RECORD_BLOCKS_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		if (!extent_is_sound(&header->extents[i]))
			return false;
		if (le16toh(header->extents[i].kind) != RECORD_EXTENT_ZERO)
			sum += le32toh(header->extents[i].count);
	}
	return sum == blocks;
}

int record_check(const struct record_header_disk *header, const struct record_id *id)
{
	if (le64toh(header->magic) != RECORD_MAGIC || le32toh(header->version) != RECORD_VERSION)
		return -ENODATA;
	if (le32toh(header->crc) != header_crc(header))
		return -EBADMSG;
	if (!id_matches(header, id))
		return -ESTALE;
	return extents_are_sound(header) ? 0 : -EBADMSG;
}

int record_check_payload(const struct record_header_disk *header, const void *payload)
{
	uint32_t n = record_payload_blocks(header);

	for (uint32_t i = 0; i < n; i++)
		if (crc32c((const char *)payload + (size_t)i * BLOCK_BYTES, BLOCK_BYTES) !=
		    le32toh(header->block_crcs[i]))
			return -EBADMSG;
	return 0;
}

void record_get_extent(const struct record_header_disk *header, uint32_t index,
		       uint32_t *payload_cursor, struct record_extent *ret_extent)
{
	const struct record_extent_disk *extent = &header->extents[index];

	ret_extent->kind = le16toh(extent->kind);
	ret_extent->block = le64toh(extent->block);
	ret_extent->count = le32toh(extent->count);
	ret_extent->first_payload = *payload_cursor;
	if (ret_extent->kind != RECORD_EXTENT_ZERO)
		*payload_cursor += ret_extent->count;
}
