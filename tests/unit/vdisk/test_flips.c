/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits that flip on the media under group files: over data, map pages, record headers, compacted
 * data and its indexes. With a second copy none is served, all are found by a scrub and put right;
 * with one copy the guest has an error, never a wrong byte. (Those over the catalog, its mirrors
 * and labels: test_mirror, test_pool_identity.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/reached.h"
#include "block/chance.h"
#include "egroup/index.h"
#include "engine_rig.h"
#include "pool/pool_disk.h"
#include "reactor/io.h"

#define POOL_BYTES (1024 * MIB)
#define DISK_BYTES (4096 * MIB)
#define DENSE      1024u /* blocks at the beginning that all hold something */
#define SPARSE     1024u /* and others, anywhere: for many pages of the map */
#define BLOCKS     (DENSE + SPARSE)
#define ROUNDS     500u
#define ONLY_FLIPS 500u /* of what has no copy */
#define FLIPS      20u  /* in each round: more errors at a time, and a disk is given up */

enum kind { KIND_TAIL, KIND_DATA, KIND_PAGE, KIND_HEADER, KIND_MOVED, KIND_INDEX, KIND_COUNT };

static const char *const kind_names[KIND_COUNT] = {
	"behind the end", "data", "map pages", "record headers", "compacted data", "indexes",
};

struct media { /* a group file as it is on its disk */
	char path[160];
	unsigned char *bytes;
	uint8_t *kinds; /* of each block */
	bool *flipped;
	uint32_t blocks;
	bool index_flipped;
};

static struct flips {
	struct engine_rig rig;
	struct chance chance;
	unsigned disk;           /* whose media they are */
	uint64_t places[BLOCKS]; /* blocks of the vDisk */
	uint32_t versions[BLOCKS];
	struct media *media;
	size_t count;
	uint64_t planted[KIND_COUNT];
	uint64_t refused;
} flips;

/* --- The guest --- */

static void content(uint64_t place, uint32_t version, unsigned char *block)
{
	struct chance chance;

	chance_init(&chance, place << 16 | version);
	for (size_t i = 0; i < BLOCK_BYTES; i += 8) {
		uint64_t word = chance_next(&chance);

		memcpy(block + i, &word, 8);
	}
}

static void write_one(unsigned i)
{
	_cleanup_free_ unsigned char *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);

	content(flips.places[i], ++flips.versions[i], block);
	assert_int_equal(block_io(flips.rig.volume, BLOCK_WRITE, 0, block, BLOCK_BYTES,
				  flips.places[i] * BLOCK_BYTES),
			 0);
}

/* Right, or, where it may, an error that says that it is damaged. */
static void read_all(bool may_fail)
{
	_cleanup_free_ unsigned char *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	_cleanup_free_ unsigned char *right = malloc(BLOCK_BYTES);

	for (unsigned i = 0; i < BLOCKS; i++) {
		int r = block_io(flips.rig.volume, BLOCK_READ, 0, block, BLOCK_BYTES,
				 flips.places[i] * BLOCK_BYTES);

		if (r < 0) {
			assert_true(may_fail && (r == -EIO || r == -EBADMSG || r == -EUCLEAN));
			flips.refused++;
			continue;
		}
		content(flips.places[i], flips.versions[i], right);
		assert_memory_equal(block, right, BLOCK_BYTES);
	}
}

static void write_all(void)
{
	uint64_t before = reached_count("compact.done");

	for (unsigned i = 0; i < BLOCKS; i++) {
		flips.places[i] = i < DENSE
					  ? i
					  : DENSE + chance_below(&flips.chance,
								 DISK_BYTES / BLOCK_BYTES - DENSE);
		write_one(i);
	}
	/* Places may be the same by chance: the last one written counts. */
	for (unsigned i = DENSE; i < BLOCKS; i++)
		write_one(i);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < DENSE; i++)
			if (i % 64 != 0)
				write_one(i);
	assert_int_equal(block_io(flips.rig.volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	fiber_sleep(60 * NSEC_PER_SEC);
	assert_true(reached_count("compact.done") > before);
}

/* --- The media --- */

static void classify_plain(struct media *media)
{
	uint64_t group = ((const struct record_header_disk *)media->bytes)->group;

	for (uint32_t slot = 0; slot < media->blocks;) {
		const struct record_header_disk *header =
			(const void *)(media->bytes + (size_t)slot * BLOCK_BYTES);
		const struct record_id id = {.group = le64toh(group), .slot = slot};
		uint32_t end;

		if (record_check(header, &id) < 0)
			return;
		end = slot + 1 + record_payload_blocks(header);
		assert_true(end <= media->blocks);
		media->kinds[slot++] = KIND_HEADER;
		while (slot < end)
			media->kinds[slot++] = le32toh(header->stream) == RECORD_STREAM_PAGES
						       ? KIND_PAGE
						       : KIND_DATA;
	}
}

static void classify(struct media *media)
{
	const struct index_header_disk *index = (const void *)media->bytes;
	uint32_t blocks = le32toh(index->index_blocks);

	if (le64toh(index->magic) != INDEX_MAGIC) {
		classify_plain(media);
		return;
	}
	memset(media->kinds, KIND_INDEX, blocks);
	memset(media->kinds + blocks, KIND_MOVED, le32toh(index->total_slots));
}

static unsigned char *read_media(const char *path, uint32_t *ret_blocks)
{
	struct world_stat stat;
	struct world_file *file;
	unsigned char *bytes;

	assert_int_equal(io_open(path, WORLD_FILE_READ_ONLY, &file), 0);
	assert_int_equal(io_file_stat(file, &stat), 0);
	*ret_blocks = (uint32_t)(stat.size_bytes / BLOCK_BYTES);
	bytes = aligned_alloc(BLOCK_BYTES, MAX((size_t)*ret_blocks, 1u) * BLOCK_BYTES);
	assert_non_null(bytes);
	assert_int_equal(io_read(file, bytes, (size_t)*ret_blocks * BLOCK_BYTES, 0),
			 *ret_blocks * BLOCK_BYTES);
	assert_int_equal(io_close(file), 0);
	return bytes;
}

static void add_media(const char *directory, const char *name)
{
	struct media *media;

	flips.media = realloc(flips.media, (flips.count + 1) * sizeof(*flips.media));
	assert_non_null(flips.media);
	media = &flips.media[flips.count];
	*media = (struct media){0};
	snprintf(media->path, sizeof(media->path), "%s/%s", directory, name);
	media->bytes = read_media(media->path, &media->blocks);
	if (media->blocks == 0) {
		free(media->bytes);
		return;
	}
	media->kinds = calloc(media->blocks, 1);
	media->flipped = calloc(media->blocks, sizeof(bool));
	assert_true(media->kinds && media->flipped);
	classify(media);
	flips.count++;
}

static void look_at_media(void)
{
	for (unsigned folder = 0; folder < 256; folder++) {
		struct world_names names;
		char directory[100];

		snprintf(directory, sizeof(directory), "%s/groups/%02x",
			 engine_rig_directory(flips.disk, 0), folder);
		assert_int_equal(io_directory_list(directory, &names), 0);
		for (size_t i = 0; i < names.count; i++)
			add_media(directory, names.names[i]);
		world_names_free(&names);
	}
	assert_true(flips.count > 0);
}

static void forget_media(void)
{
	for (size_t i = 0; i < flips.count; i++) {
		free(flips.media[i].bytes);
		free(flips.media[i].kinds);
		free(flips.media[i].flipped);
	}
	free(flips.media);
	flips.media = NULL;
	flips.count = 0;
}

static bool flip(struct media *media, uint32_t block)
{
	uint64_t at = (uint64_t)block * BLOCK_BYTES + chance_below(&flips.chance, BLOCK_BYTES);

	if (media->flipped[block])
		return false;
	media->flipped[block] = true;
	media->index_flipped |= media->kinds[block] == KIND_INDEX;
	assert_int_equal(sim_disk_flip(flips.rig.sim.sim, media->path, at,
				       (unsigned)chance_below(&flips.chance, 8)),
			 0);
	return true;
}

/* The n-th block of that kind, if there are so many. */
static bool flip_nth(enum kind kind, uint64_t n)
{
	for (size_t i = 0; i < flips.count; i++)
		for (uint32_t block = 0; block < flips.media[i].blocks; block++)
			if (flips.media[i].kinds[block] == kind && n-- == 0)
				return flip(&flips.media[i], block);
	return false;
}

static uint64_t count_kind(enum kind kind)
{
	uint64_t count = 0;

	for (size_t i = 0; i < flips.count; i++)
		for (uint32_t block = 0; block < flips.media[i].blocks; block++)
			count += flips.media[i].kinds[block] == kind;
	return count;
}

/* How many findings they are: all of one index are one. */
static uint64_t plant(unsigned many)
{
	uint64_t of_kind[KIND_COUNT], planted = 0, covered = 0;

	for (unsigned kind = 0; kind < KIND_COUNT; kind++)
		of_kind[kind] = count_kind(kind);
	for (uint64_t tries = 0; planted < many; tries++) {
		enum kind kind = tries % KIND_COUNT;

		assert_true(tries < UINT64_C(100) * many);
		if (of_kind[kind] == 0 ||
		    !flip_nth(kind, chance_below(&flips.chance, of_kind[kind])))
			continue;
		planted++;
		flips.planted[kind]++;
		covered += kind != KIND_TAIL && kind != KIND_INDEX;
	}
	for (size_t i = 0; i < flips.count; i++)
		covered += flips.media[i].index_flipped;
	return covered;
}

/* All is as it was before, but what nothing covers. */
static void expect_put_right(void)
{
	for (size_t i = 0; i < flips.count; i++) {
		const struct media *media = &flips.media[i];
		uint32_t blocks;
		unsigned char *now = read_media(media->path, &blocks);

		/* What is behind the end may have been cut off meanwhile. */
		for (uint32_t block = 0; block < media->blocks; block++) {
			size_t at = (size_t)block * BLOCK_BYTES;

			if (media->kinds[block] == KIND_TAIL)
				continue;
			if (block >= blocks ||
			    memcmp(now + at, media->bytes + at, BLOCK_BYTES) != 0)
				fail_msg("%s: block %" PRIu32 " (%s, flipped: %d) is not put right",
					 media->path, block, kind_names[media->kinds[block]],
					 media->flipped[block]);
		}
		free(now);
	}
}

/* --- The tests --- */

static int begin(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	write_all();
	/* All that was written is sealed then. */
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	return engine_rig_open_vdisk(rig);
}

static int end(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static void expect_scrub(uint64_t put_right, uint64_t damaged)
{
	struct vdisk_scrub scrub = {0};

	assert_int_equal(vdisk_scrub(flips.rig.vdisk, &scrub), 0);
	assert_int_equal(scrub.put_right, put_right);
	assert_int_equal(scrub.damaged, damaged);
	assert_int_equal(scrub.left, 0);
}

/* Every fourth time the guest reads before the scrub, and puts right what it comes across. */
static int one_round(struct engine_rig *rig)
{
	uint64_t covered;

	look_at_media();
	covered = plant(FLIPS);
	if (chance_below(&flips.chance, 4) == 0) {
		struct vdisk_scrub rest = {0};

		read_all(false);
		assert_int_equal(vdisk_scrub(rig->vdisk, &rest), 0);
		assert_true(rest.put_right <= covered && rest.damaged + rest.left == 0);
	} else {
		expect_scrub(covered, 0);
		read_all(false);
	}
	expect_put_right();
	expect_scrub(0, 0);
	forget_media();
	fiber_sleep(POOL_DISK_WINDOW_NS); /* the disk's errors are forgotten */
	return 0;
}

static void run(unsigned copies, unsigned rounds, int (*fn)(struct engine_rig *rig))
{
	flips = (struct flips){0};
	log_set_level(LOG_LEVEL_ERROR + 1); /* each flip is told of */
	chance_init(&flips.chance, 7);
	engine_rig_init(&flips.rig, 1, false, POOL_BYTES);
	engine_rig_set_disks(&flips.rig, copies, copies);
	assert_int_equal(engine_rig_call(&flips.rig, begin), 0);
	for (unsigned i = 0; i < rounds; i++) {
		flips.disk = i % copies;
		assert_int_equal(engine_rig_call(&flips.rig, fn), 0);
	}
	assert_int_equal(engine_rig_call(&flips.rig, end), 0);
	engine_rig_done(&flips.rig);
	for (unsigned kind = 0; kind < KIND_COUNT; kind++)
		print_message("%" PRIu64 " flips: %s\n", flips.planted[kind], kind_names[kind]);
}

static void ten_thousand_beside_right_copies(void **state)
{
	uint64_t planted = 0;

	(void)state;
	run(2, ROUNDS, one_round);
	for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
		assert_true(flips.planted[kind] > 0);
		planted += flips.planted[kind];
	}
	assert_int_equal(planted, ROUNDS * FLIPS);
}

/* Findings where there is no other copy: behind a header or an index that is damaged, nobody can
 * tell what should be there; one finding stands for all of it. */
static uint64_t findings_without_copies(void)
{
	uint64_t count = 0;

	for (size_t i = 0; i < flips.count; i++) {
		const struct media *media = &flips.media[i];
		bool lost = media->index_flipped;

		count += media->index_flipped;
		for (uint32_t block = 0; block < media->blocks; block++) {
			enum kind kind = media->kinds[block];

			if (kind > KIND_TAIL && kind < KIND_INDEX && !lost)
				count += media->flipped[block];
			if (kind == KIND_HEADER)
				lost = media->flipped[block];
		}
	}
	return count;
}

static int flip_the_only_copy(struct engine_rig *rig)
{
	uint64_t findings;

	(void)rig;
	look_at_media();
	plant(ONLY_FLIPS);
	findings = findings_without_copies();
	read_all(true);
	assert_true(flips.refused > 0);
	expect_scrub(0, findings);
	expect_scrub(0, findings);
	read_all(true);
	forget_media();
	return 0;
}

static void the_only_copy_is_refused(void **state)
{
	(void)state;
	run(1, 1, flip_the_only_copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_only_copy_is_refused),
		cmocka_unit_test(ten_thousand_beside_right_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
