/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which mirrors there are and which are in good standing: as the value of a row, and as the hint, a
 * file beside the catalog that is read when the catalog is gone. The hint has two slots that are
 * written in turn, each with a CRC, so one of them is always whole; its space is taken at start.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "catalog/catalog_priv.h"
#include "codec/crc32c.h"
#include "reactor/io.h"

#define HINT_MAGIC   "SARSENCH"
#define HINT_VERSION 1u

struct hint_header {
	uint8_t magic[8];
	uint8_t version[4];
	uint8_t crc[4]; /* of the slot with this field zero */
	uint8_t uuid[MIRROR_UUID_BYTES];
	uint8_t generation[8];
	uint8_t number[8];
	uint8_t length[4];
	uint8_t zero[12];
};
_Static_assert(sizeof(struct hint_header) == 64, "on disk");

struct standing_header { /* then: directory */
	uint8_t standing;
	uint8_t zero;
	uint8_t length[2];
};
_Static_assert(sizeof(struct standing_header) == 4, "on disk");

void mirror_standings_done(struct mirror_standings *standings)
{
	for (unsigned i = 0; i < standings->count; i++)
		free(standings->mirrors[i].directory);
	standings->count = 0;
}

size_t mirror_standings_encode(const struct mirror_standings *standings,
			       uint8_t value[static MIRROR_STANDING_MAX])
{
	size_t at = 4;

	memset(value, 0, at);
	value[0] = 1; /* version */
	value[1] = (uint8_t)standings->count;
	for (unsigned i = 0; i < standings->count; i++) {
		const struct mirror_standing *mirror = &standings->mirrors[i];
		struct standing_header header = {.standing = mirror->standing};
		size_t length = strlen(mirror->directory);

		ASSERT(length <= CATALOG_MIRROR_DIRECTORY_MAX);
		put_le16(header.length, (uint16_t)length);
		memcpy(value + at, &header, sizeof(header));
		memcpy(value + at + sizeof(header), mirror->directory, length);
		at += sizeof(header) + length;
	}
	return at;
}

static int standing_decode(const uint8_t *value, size_t left, struct mirror_standing *ret)
{
	const struct standing_header *header = (const struct standing_header *)value;
	size_t length;

	if (left < sizeof(*header))
		return -EUCLEAN;
	length = get_le16(header->length);
	if (length == 0 || length > CATALOG_MIRROR_DIRECTORY_MAX ||
	    left < sizeof(*header) + length || header->standing > 1 ||
	    value[sizeof(*header)] != '/' || memchr(value + sizeof(*header), 0, length))
		return -EUCLEAN;
	ret->standing = header->standing;
	ret->directory = strndup((const char *)value + sizeof(*header), length);
	return ret->directory ? (int)(sizeof(*header) + length) : -ENOMEM;
}

int mirror_standings_decode(const uint8_t *value, size_t length,
			    struct mirror_standings *ret_standings)
{
	_cleanup_(mirror_standings_done) struct mirror_standings standings = {0};
	size_t at = 4;

	if (length < at || value[0] != 1 || value[1] > CATALOG_MIRRORS_MAX)
		return -EUCLEAN;
	for (unsigned i = 0; i < value[1]; i++) {
		int n = standing_decode(value + at, length - at, &standings.mirrors[i]);

		if (n < 0)
			return n;
		standings.count++;
		at += (size_t)n;
	}
	if (at != length)
		return -EUCLEAN;
	*ret_standings = standings;
	standings.count = 0;
	return 0;
}

void mirror_hint_fill(uint8_t slot[static MIRROR_HINT_SLOT],
		      const struct mirror_standings *standings)
{
	struct hint_header *header = (struct hint_header *)slot;

	memset(slot, 0, MIRROR_HINT_SLOT);
	memcpy(header->magic, HINT_MAGIC, sizeof(header->magic));
	put_le32(header->version, HINT_VERSION);
	memcpy(header->uuid, standings->uuid, sizeof(header->uuid));
	put_le64(header->generation, standings->generation);
	put_le64(header->number, standings->number);
	put_le32(header->length,
		 (uint32_t)mirror_standings_encode(standings, slot + sizeof(*header)));
	put_le32(header->crc, crc32c(slot, MIRROR_HINT_SLOT));
}

static int slot_read(uint8_t *slot, struct mirror_standings *ret_standings)
{
	struct hint_header *header = (struct hint_header *)slot;
	uint32_t crc = get_le32(header->crc), length = get_le32(header->length);
	int r;

	put_le32(header->crc, 0);
	if (memcmp(header->magic, HINT_MAGIC, sizeof(header->magic)) != 0 ||
	    get_le32(header->version) != HINT_VERSION || length > MIRROR_STANDING_MAX ||
	    crc32c(slot, MIRROR_HINT_SLOT) != crc)
		return -EUCLEAN;
	r = mirror_standings_decode(slot + sizeof(*header), length, ret_standings);
	if (r)
		return r;
	memcpy(ret_standings->uuid, header->uuid, sizeof(header->uuid));
	ret_standings->generation = get_le64(header->generation);
	ret_standings->number = get_le64(header->number);
	return 0;
}

static char *hint_path(const char *path)
{
	char *text = NULL;

	return asprintf(&text, "%s-mirrors", path) < 0 ? NULL : text;
}

static int slots_read(struct world_file *file, struct mirror_standings *ret_standings)
{
	_cleanup_free_ uint8_t *slot = malloc(MIRROR_HINT_SLOT);
	bool found = false;
	int r = 0;

	if (!slot)
		return -ENOMEM;
	for (unsigned i = 0; i < 2; i++) {
		struct mirror_standings standings = {0};

		r = io_read_exactly(file, slot, MIRROR_HINT_SLOT, i * MIRROR_HINT_SLOT);
		if (r == 0)
			r = slot_read(slot, &standings);
		if (r == -EUCLEAN || r == -ENODATA)
			continue;
		if (r)
			break;
		if (found && standings.number < ret_standings->number) {
			mirror_standings_done(&standings);
			continue;
		}
		if (found)
			mirror_standings_done(ret_standings);
		*ret_standings = standings;
		found = true;
	}
	if (found && r && r != -EUCLEAN && r != -ENODATA)
		mirror_standings_done(ret_standings);
	return r && r != -EUCLEAN && r != -ENODATA ? r : found ? 0 : -ENOENT;
}

int mirror_hint_read(const char *path, struct mirror_standings *ret_standings)
{
	_cleanup_free_ char *text = hint_path(path);
	struct world_file *file;
	int r, r2;

	if (!text)
		return -ENOMEM;
	r = io_open(text, WORLD_FILE_READ_ONLY, &file);
	if (r)
		return r;
	r = slots_read(file, ret_standings);
	r2 = io_close(file);
	if (r == 0 && r2 < 0)
		mirror_standings_done(ret_standings);
	return r ? r : r2;
}

int mirror_hint_find(const char *path, bool *ret_found)
{
	_cleanup_(mirror_standings_done) struct mirror_standings standings = {0};
	int r = mirror_hint_read(path, &standings);

	*ret_found = r == 0 && standings.count > 0;
	return r == -ENOENT ? 0 : r;
}

/* Zeros are written where nothing is, so that the space is there. */
static int hint_prepare(struct world_file *file, const char *path)
{
	_cleanup_free_ uint8_t *zeros = calloc(1, MIRROR_HINT_SLOT);
	struct world_stat stat;
	int r = zeros ? io_file_stat(file, &stat) : -ENOMEM;

	if (r)
		return r;
	if (stat.size_bytes == 2 * MIRROR_HINT_SLOT)
		return 0;
	for (unsigned i = 0; r == 0 && i < 2; i++)
		r = io_write(file, zeros, MIRROR_HINT_SLOT, i * MIRROR_HINT_SLOT);
	if (r == 0)
		r = io_sync(file);
	return r ? r : io_directory_sync_above(path);
}

int mirror_hint_open(const char *path, struct world_file **ret_file)
{
	_cleanup_free_ char *text = hint_path(path);
	struct world_file *file;
	int r;

	if (!text)
		return -ENOMEM;
	r = io_open(text, WORLD_FILE_CREATE, &file);
	if (r)
		return r;
	r = hint_prepare(file, path);
	if (r) {
		(void)io_close(file); /* nothing was promised */
		return r;
	}
	*ret_file = file;
	return 0;
}

int mirror_hint_write(const char *path, const struct mirror_standings *standings)
{
	_cleanup_free_ uint8_t *slot = malloc(MIRROR_HINT_SLOT);
	struct world_file *file;
	int r, r2;

	if (!slot)
		return -ENOMEM;
	r = mirror_hint_open(path, &file);
	if (r)
		return r;
	mirror_hint_fill(slot, standings);
	r = io_write(file, slot, MIRROR_HINT_SLOT, standings->number % 2 * MIRROR_HINT_SLOT);
	if (r == 0)
		r = io_sync(file);
	r2 = io_close(file);
	return r ? r : r2;
}
