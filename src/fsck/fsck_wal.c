/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog's write-ahead log, before SQLite reads it: SQLite ends at the first frame whose
 * checksum is wrong (https://www.sqlite.org/fileformat2.html, 4.1 to 4.3), as after a crash in the
 * middle of a commit, and says nothing of what follows. Each commit is synced before the next one
 * begins, so two commits behind such a frame mean that it was good once.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "fsck/fsck_priv.h"
#include "reactor/io.h"

#define HEADER_BYTES 32u
#define FRAME_HEADER 24u
#define PAGE_BYTES   4096u
#define FRAME_BYTES  (FRAME_HEADER + PAGE_BYTES)
#define MAGIC        UINT32_C(0x377f0682) /* the lowest bit: checksums of big-endian words */

struct wal {
	struct world_file *file;
	bool big_endian;
	uint32_t sums[2];
	uint8_t header[HEADER_BYTES];
	uint8_t frame[FRAME_BYTES];
};

static uint32_t word(const struct wal *wal, const uint8_t *bytes)
{
	return wal->big_endian ? get_be32(bytes) : get_le32(bytes);
}

static void add(struct wal *wal, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i += 8) {
		wal->sums[0] += word(wal, bytes + i) + wal->sums[1];
		wal->sums[1] += word(wal, bytes + i + 4) + wal->sums[0];
	}
}

/* The frame is of this log's present round. */
static bool is_current(const struct wal *wal)
{
	return memcmp(wal->frame + 8, wal->header + 16, 8) == 0;
}

static bool is_sound(struct wal *wal)
{
	add(wal, wal->frame, 8);
	add(wal, wal->frame + FRAME_HEADER, PAGE_BYTES);
	return wal->sums[0] == get_be32(wal->frame + 16) &&
	       wal->sums[1] == get_be32(wal->frame + 20);
}

static int read_header(struct wal *wal)
{
	int r = io_read_exactly(wal->file, wal->header, HEADER_BYTES, 0);
	uint32_t magic;

	if (r < 0)
		return r;
	magic = get_be32(wal->header);
	wal->big_endian = magic & 1;
	add(wal, wal->header, 24);
	return (magic & ~1u) == MAGIC && get_be32(wal->header + 8) == PAGE_BYTES &&
			       wal->sums[0] == get_be32(wal->header + 24) &&
			       wal->sums[1] == get_be32(wal->header + 28)
		       ? 0
		       : -EUCLEAN;
}

/* Frames of the present round behind the first that is not sound, and commits among them. */
static int look(struct wal *wal, unsigned *ret_frames, unsigned *ret_commits)
{
	bool sound = true;
	int r = 0;

	for (uint64_t at = HEADER_BYTES; r == 0; at += FRAME_BYTES) {
		r = io_read_exactly(wal->file, wal->frame, FRAME_BYTES, at);
		if (r < 0)
			break;
		sound = sound && is_current(wal) && is_sound(wal);
		if (sound || !is_current(wal))
			continue;
		++*ret_frames;
		*ret_commits += get_be32(wal->frame + 4) != 0;
	}
	return r == -ENODATA ? 0 : r;
}

static bool is_blank(const struct wal *wal)
{
	for (unsigned i = 0; i < HEADER_BYTES; i++)
		if (wal->header[i])
			return false;
	return true;
}

int fsck_wal_check(struct fsck *fsck, const char *path)
{
	_cleanup_free_ struct wal *wal = calloc(1, sizeof(*wal));
	unsigned frames = 0, commits = 0;
	int r = wal ? io_open(path, WORLD_FILE_READ_ONLY, &wal->file) : -ENOMEM;

	if (r < 0)
		return r;
	r = read_header(wal);
	if (r == -EUCLEAN && !is_blank(wal))
		fsck_find(fsck, FSCK_CATALOG, "catalog-wal",
			  "the header of the write-ahead log is damaged: what it holds is ignored");
	if (r == 0)
		r = look(wal, &frames, &commits);
	(void)io_close(wal->file); /* was only read */
	if (r == 0 && commits > 1)
		fsck_find(fsck, FSCK_CATALOG, "catalog-wal",
			  "a frame of the write-ahead log is damaged: it and %u behind it, with %u "
			  "commits, are ignored",
			  frames, commits);
	else if (r == 0 && frames > 0)
		fsck_find(fsck, FSCK_CATALOG_END, "catalog-wal",
			  "the last commit is incomplete: it was never acknowledged, or is "
			  "damaged");
	return r == -EUCLEAN || r == -ENODATA ? 0 : r;
}
