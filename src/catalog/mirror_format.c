/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/mirror_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/macros.h"
#include "codec/crc32c.h"

#define FRAME_MAGIC    "SARSENCF"
#define SNAPSHOT_MAGIC "SARSENCS"
#define CHUNK_MAGIC    "SARSENCC"

struct entry_header {
	uint8_t kind;
	uint8_t key_length;
	uint8_t zero[2];
	uint8_t length[4];
	uint8_t version[8];
};
_Static_assert(sizeof(struct entry_header) == 16, "on disk");

struct frame_header {
	uint8_t magic[8];
	uint8_t version[4];
	uint8_t crc[4];
	uint8_t uuid[MIRROR_UUID_BYTES];
	uint8_t generation[8];
	uint8_t first[8];
	uint8_t last[8];
	uint8_t payload[8];
	uint8_t chain_before[4];
	uint8_t chain_after[4];
	uint8_t rows[8];
	uint8_t epoch[8];
	uint8_t zero[40];
};
_Static_assert(sizeof(struct frame_header) == MIRROR_FRAME_HEADER, "on disk");
_Static_assert(offsetof(struct frame_header, chain_before) == 64, "on disk");
_Static_assert(offsetof(struct frame_header, epoch) == 80, "on disk");

struct snapshot_header {
	uint8_t magic[8];
	uint8_t version[4];
	uint8_t crc[4];
	uint8_t uuid[MIRROR_UUID_BYTES];
	uint8_t generation[8];
	uint8_t sequence[8];
	uint8_t end_sequence[8];
	uint8_t bytes[8];
	uint8_t chain[4];
	uint8_t zero[4];
	uint8_t rows[8];
	uint8_t entries[8];
	uint8_t made[8];
	uint8_t epoch[8];
};
_Static_assert(sizeof(struct snapshot_header) == 104, "on disk");
_Static_assert(offsetof(struct snapshot_header, chain) == 64, "on disk");

struct chunk_header {
	uint8_t magic[8];
	uint8_t zero[4];
	uint8_t crc[4];
	uint8_t sequence[8];
	uint8_t index[4];
	uint8_t count[4];
	uint8_t payload[4];
	uint8_t zero_2[28];
};
_Static_assert(sizeof(struct chunk_header) == MIRROR_CHUNK_HEADER, "on disk");

/* The CRC stands at the same place in all three headers. */
#define CRC_OFFSET 12u
_Static_assert(offsetof(struct frame_header, crc) == CRC_OFFSET, "on disk");
_Static_assert(offsetof(struct snapshot_header, crc) == CRC_OFFSET, "on disk");
_Static_assert(offsetof(struct chunk_header, crc) == CRC_OFFSET, "on disk");

static uint32_t crc_without_itself(const uint8_t *data, size_t length)
{
	static const uint8_t zero[4];
	uint32_t crc = crc32c(data, CRC_OFFSET);

	crc = crc32c_more(crc, zero, sizeof(zero));
	return crc32c_more(crc, data + CRC_OFFSET + sizeof(zero),
			   length - CRC_OFFSET - sizeof(zero));
}

int catalog_position_compare(const struct catalog_position *a, const struct catalog_position *b)
{
	if (a->generation != b->generation)
		return a->generation < b->generation ? -1 : 1;
	if (a->sequence != b->sequence)
		return a->sequence < b->sequence ? -1 : 1;
	return 0;
}

size_t mirror_entry_bytes(const struct mirror_entry *entry)
{
	return sizeof(struct entry_header) + entry->key.length + entry->length;
}

void mirror_entry_write(uint8_t *to, const struct mirror_entry *entry)
{
	struct entry_header header = {.kind = (uint8_t)entry->kind,
				      .key_length = entry->key.length};

	put_le32(header.length, entry->length);
	put_le64(header.version, entry->version);
	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), entry->key.bytes, entry->key.length);
	if (entry->length > 0)
		memcpy(to + sizeof(header) + entry->key.length, entry->value, entry->length);
}

int64_t mirror_entry_read(const uint8_t *data, size_t left, struct mirror_entry *ret_entry)
{
	const struct entry_header *header = (const struct entry_header *)data;
	struct mirror_entry entry;

	if (left < sizeof(*header))
		return -EUCLEAN;
	entry = (struct mirror_entry){.kind = header->kind,
				      .key.length = header->key_length,
				      .version = get_le64(header->version),
				      .length = get_le32(header->length)};
	if (header->kind != CATALOG_PUT && header->kind != CATALOG_DELETE &&
	    header->kind != CATALOG_DELETE_PREFIX)
		return -EUCLEAN;
	if (entry.key.length < 1 || entry.key.length > CATALOG_KEY_MAX ||
	    entry.length > CATALOG_VALUE_MAX || left < mirror_entry_bytes(&entry) ||
	    (entry.kind != CATALOG_PUT && (entry.length || entry.version)))
		return -EUCLEAN;
	memcpy(entry.key.bytes, data + sizeof(*header), entry.key.length);
	entry.value = data + sizeof(*header) + entry.key.length;
	*ret_entry = entry;
	return (int64_t)mirror_entry_bytes(&entry);
}

void mirror_frame_unref(struct mirror_frame *frame)
{
	if (!frame || --frame->users > 0)
		return;
	free(frame->data);
	free(frame);
}

size_t mirror_frame_bytes(size_t payload)
{
	return ALIGN_UP(MIRROR_FRAME_HEADER + payload, (size_t)MIRROR_BLOCK);
}

void mirror_frame_seal(uint8_t *data, size_t payload, const struct catalog_position *before,
		       const struct catalog_position *after)
{
	struct frame_header *header = (struct frame_header *)data;
	size_t bytes = mirror_frame_bytes(payload);

	ASSERT(after->sequence > before->sequence && after->generation == before->generation);
	memset(header, 0, sizeof(*header));
	memset(data + MIRROR_FRAME_HEADER + payload, 0, bytes - MIRROR_FRAME_HEADER - payload);
	memcpy(header->magic, FRAME_MAGIC, sizeof(header->magic));
	put_le32(header->version, MIRROR_FORMAT_VERSION);
	memcpy(header->uuid, after->uuid, sizeof(header->uuid));
	put_le64(header->generation, after->generation);
	put_le64(header->first, before->sequence + 1);
	put_le64(header->last, after->sequence);
	put_le64(header->payload, payload);
	put_le32(header->chain_before, before->chain);
	put_le32(header->chain_after, after->chain);
	put_le64(header->rows, after->rows);
	put_le64(header->epoch, after->epoch);
	put_le32(header->crc, crc_without_itself(data, bytes));
}

static bool is_zero(const uint8_t *data, size_t length)
{
	return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

int mirror_frame_read(const uint8_t *data, size_t left, struct mirror_frame_info *ret_info)
{
	const struct frame_header *header = (const struct frame_header *)data;
	struct mirror_frame_info info;
	uint64_t payload;

	if (left < MIRROR_BLOCK)
		return -EUCLEAN;
	if (is_zero(data, MIRROR_BLOCK))
		return -ENODATA;
	payload = get_le64(header->payload);
	if (memcmp(header->magic, FRAME_MAGIC, sizeof(header->magic)) != 0 ||
	    get_le32(header->version) != MIRROR_FORMAT_VERSION || payload > left ||
	    mirror_frame_bytes((size_t)payload) > left)
		return -EUCLEAN;
	info = (struct mirror_frame_info){.bytes = mirror_frame_bytes((size_t)payload),
					  .payload = (size_t)payload,
					  .first = get_le64(header->first),
					  .chain = get_le32(header->chain_before),
					  .after = {.generation = get_le64(header->generation),
						    .sequence = get_le64(header->last),
						    .rows = get_le64(header->rows),
						    .chain = get_le32(header->chain_after),
						    .epoch = get_le64(header->epoch)}};
	memcpy(info.after.uuid, header->uuid, sizeof(header->uuid));
	if (crc_without_itself(data, info.bytes) != get_le32(header->crc) || info.first == 0 ||
	    info.after.sequence < info.first ||
	    crc32c_more(info.chain, data + MIRROR_FRAME_HEADER, info.payload) != info.after.chain)
		return -EUCLEAN;
	*ret_info = info;
	return 0;
}

bool mirror_frame_follows(const struct mirror_frame_info *info,
			  const struct catalog_position *position)
{
	return memcmp(info->after.uuid, position->uuid, sizeof(position->uuid)) == 0 &&
	       info->after.generation == position->generation &&
	       info->first == position->sequence + 1 && info->chain == position->chain;
}

void mirror_snapshot_write(uint8_t block[static MIRROR_BLOCK],
			   const struct mirror_snapshot *snapshot)
{
	struct snapshot_header *header = (struct snapshot_header *)block;

	memset(block, 0, MIRROR_BLOCK);
	memcpy(header->magic, SNAPSHOT_MAGIC, sizeof(header->magic));
	put_le32(header->version, MIRROR_FORMAT_VERSION);
	memcpy(header->uuid, snapshot->start.uuid, sizeof(header->uuid));
	put_le64(header->generation, snapshot->start.generation);
	put_le64(header->sequence, snapshot->start.sequence);
	put_le64(header->end_sequence, snapshot->end_sequence);
	put_le64(header->bytes, snapshot->bytes);
	put_le32(header->chain, snapshot->start.chain);
	put_le64(header->rows, snapshot->start.rows);
	put_le64(header->entries, snapshot->entries);
	put_le64(header->made, snapshot->made_wall_ns);
	put_le64(header->epoch, snapshot->start.epoch);
	put_le32(header->crc, crc_without_itself(block, MIRROR_BLOCK));
}

int mirror_snapshot_read(const uint8_t block[static MIRROR_BLOCK],
			 struct mirror_snapshot *ret_snapshot)
{
	const struct snapshot_header *header = (const struct snapshot_header *)block;
	struct mirror_snapshot snapshot = {
		.start = {.generation = get_le64(header->generation),
			  .sequence = get_le64(header->sequence),
			  .rows = get_le64(header->rows),
			  .chain = get_le32(header->chain),
			  .epoch = get_le64(header->epoch)},
		.end_sequence = get_le64(header->end_sequence),
		.bytes = get_le64(header->bytes),
		.entries = get_le64(header->entries),
		.made_wall_ns = get_le64(header->made),
	};

	if (memcmp(header->magic, SNAPSHOT_MAGIC, sizeof(header->magic)) != 0 ||
	    crc_without_itself(block, MIRROR_BLOCK) != get_le32(header->crc))
		return -EUCLEAN;
	if (get_le32(header->version) > MIRROR_FORMAT_VERSION)
		return -EPROTONOSUPPORT;
	if (get_le32(header->version) == 0 || snapshot.end_sequence < snapshot.start.sequence)
		return -EUCLEAN;
	memcpy(snapshot.start.uuid, header->uuid, sizeof(header->uuid));
	*ret_snapshot = snapshot;
	return 0;
}

size_t mirror_chunk_bytes(size_t payload)
{
	return ALIGN_UP(MIRROR_CHUNK_HEADER + payload, (size_t)MIRROR_BLOCK);
}

void mirror_chunk_seal(uint8_t *data, const struct mirror_chunk *chunk)
{
	struct chunk_header *header = (struct chunk_header *)data;
	size_t bytes = mirror_chunk_bytes(chunk->payload);

	ASSERT(bytes <= MIRROR_CHUNK_MAX);
	memset(header, 0, sizeof(*header));
	memset(data + MIRROR_CHUNK_HEADER + chunk->payload, 0,
	       bytes - MIRROR_CHUNK_HEADER - chunk->payload);
	memcpy(header->magic, CHUNK_MAGIC, sizeof(header->magic));
	put_le64(header->sequence, chunk->sequence);
	put_le32(header->index, chunk->index);
	put_le32(header->count, chunk->count);
	put_le32(header->payload, chunk->payload);
	put_le32(header->crc, crc_without_itself(data, bytes));
}

int mirror_chunk_peek(const uint8_t *block, struct mirror_chunk *ret_chunk)
{
	const struct chunk_header *header = (const struct chunk_header *)block;
	struct mirror_chunk chunk = {.sequence = get_le64(header->sequence),
				     .index = get_le32(header->index),
				     .count = get_le32(header->count),
				     .payload = get_le32(header->payload)};

	if (memcmp(header->magic, CHUNK_MAGIC, sizeof(header->magic)) != 0 ||
	    chunk.payload > MIRROR_CHUNK_MAX - MIRROR_CHUNK_HEADER)
		return -EUCLEAN;
	*ret_chunk = chunk;
	return 0;
}

int mirror_chunk_check(const uint8_t *data, const struct mirror_chunk *chunk)
{
	const struct chunk_header *header = (const struct chunk_header *)data;

	return crc_without_itself(data, mirror_chunk_bytes(chunk->payload)) == get_le32(header->crc)
		       ? 0
		       : -EUCLEAN;
}
