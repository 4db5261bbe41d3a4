/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scrub finds is told with its place in the vDisk. Each block that is written names itself,
 * so the files of the pool themselves tell what a flipped bit has hit, and the vDisk is read to see
 * whether the scrub was right about what is lost.
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

#include "base/reached.h"
#include "egroup/index.h"
#include "engine_rig.h"
#include "reactor/io.h"
#include "vdisk/page.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES (1024 * MIB)
#define DISK_BYTES (48 * MIB)
#define BLOCKS     (DISK_BYTES / BLOCK_BYTES)
#define PIECE      64u
#define OWN_MAGIC  UINT64_C(0x4c4f43415445424b)
#define FOUND_MAX  8192
#define ANY_KIND   99u
#define ANY_LEVEL  99u

struct content { /* of each block that is written */
	uint64_t magic, block, generation;
	uint8_t rest[BLOCK_BYTES - 24];
};

struct flipped_page {
	unsigned level;
	uint64_t index, lsn;
	bool flipped;
};

static struct engine_rig rig_memory;
static uint64_t newest[BLOCKS]; /* generation; 0 = never written */
static struct content piece[PIECE] __attribute__((aligned(4096)));
static struct flipped_page pages[4096];
static unsigned page_count;
static unsigned flipped_live[BLOCKS]; /* how often */
static unsigned flips, seen_of_kind;
static struct vdisk_finding told[FOUND_MAX];
static unsigned told_count;
static unsigned flip_level = ANY_LEVEL; /* of pages: only these are hit */

static void put(struct engine_rig *rig, uint64_t first, unsigned count, uint64_t generation)
{
	for (unsigned i = 0; i < count; i++) {
		piece[i] = (struct content){OWN_MAGIC, first + i, generation, {0}};
		newest[first + i] = generation;
	}
	assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, piece, count * BLOCK_BYTES,
				  first * BLOCK_BYTES),
			 0);
}

/* All of it once, and a part again; everything is sealed and in the map. */
static void fill(struct engine_rig *rig, unsigned keep_each)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	for (uint64_t at = 0; at < BLOCKS; at += PIECE)
		put(rig, at, PIECE, 1);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	for (uint64_t at = 0; at < BLOCKS; at += PIECE)
		if (at / PIECE % keep_each)
			put(rig, at, PIECE / 2, 2);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
}

static void reopen(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
}

static int end(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static unsigned kind_of(const void *block)
{
	const struct page_disk *page = block;
	uint64_t magic;

	memcpy(&magic, block, sizeof(magic));
	if (page->magic == PAGE_MAGIC)
		return VDISK_FINDING_MAP;
	if (magic == OWN_MAGIC)
		return VDISK_FINDING_DATA;
	if (magic == RECORD_MAGIC)
		return VDISK_FINDING_RECORD;
	return magic == INDEX_MAGIC ? VDISK_FINDING_INDEX : ANY_KIND;
}

static void note(const void *block, bool flipped)
{
	const struct content *content = block;
	const struct page_disk *page = block;

	if (flipped && kind_of(block) == VDISK_FINDING_DATA &&
	    newest[content->block] == content->generation)
		flipped_live[content->block]++;
	if (kind_of(block) == VDISK_FINDING_MAP)
		pages[page_count++] = (struct flipped_page){.level = page->level,
							    .index = page->index,
							    .lsn = page->lsn,
							    .flipped = flipped};
	flips += flipped;
	assert_true(page_count < ARRAY_SIZE(pages));
}

static bool is_wanted(const void *block, unsigned kind)
{
	const struct page_disk *page = block;

	return kind_of(block) == kind &&
	       (kind != VDISK_FINDING_MAP || flip_level == ANY_LEVEL || page->level == flip_level);
}

/* In one file: each `step`-th block that is of the kind. */
static void flip_file(struct engine_rig *rig, const char *path, unsigned kind, unsigned step)
{
	_cleanup_free_ void *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	struct world_file *file;

	assert_int_equal(io_open(path, WORLD_FILE_READ_ONLY, &file), 0);
	for (uint64_t at = 0; io_read_exactly(file, block, BLOCK_BYTES, at) == 0;
	     at += BLOCK_BYTES) {
		bool hit = is_wanted(block, kind) && seen_of_kind++ % step == 0;

		note(block, hit);
		if (hit)
			assert_int_equal(
				sim_disk_flip(rig->sim.sim, path, at + BLOCK_BYTES - 1000, 3), 0);
	}
	assert_int_equal(io_close(file), 0);
}

static void flip(struct engine_rig *rig, unsigned disk, unsigned kind, unsigned step)
{
	char path[160];

	page_count = flips = told_count = seen_of_kind = 0;
	memset(flipped_live, 0, sizeof(flipped_live));
	for (unsigned folder = 0; folder < 256; folder++) {
		struct world_names names;

		snprintf(path, sizeof(path), "%s/groups/%02x", engine_rig_directory(disk, 0),
			 folder);
		if (io_directory_list(path, &names) < 0)
			continue;
		for (size_t i = 0; i < names.count; i++) {
			size_t length = strlen(path);

			snprintf(path + length, sizeof(path) - length, "/%s", names.names[i]);
			flip_file(rig, path, kind, step);
			path[length] = '\0';
		}
		world_names_free(&names);
	}
	assert_true(flips > 0);
}

static void on_finding(void *arg, const struct vdisk_finding *finding)
{
	(void)arg;
	assert_true(told_count < FOUND_MAX);
	told[told_count++] = *finding;
}

static struct vdisk_scrub scrub(struct engine_rig *rig)
{
	struct vdisk_scrub scrub = {.finding = on_finding};

	assert_int_equal(vdisk_scrub(rig->vdisk, &scrub), 0);
	assert_int_equal(told_count, scrub.put_right + scrub.left + scrub.damaged);
	return scrub;
}

static int read_block(struct engine_rig *rig, uint64_t offset)
{
	return block_io(rig->volume, BLOCK_READ, 0, piece, BLOCK_BYTES, offset);
}

/* Live data that was told is what was hit, and all of it. */
static void compare_data(void)
{
	static unsigned left[BLOCKS];

	memcpy(left, flipped_live, sizeof(left));
	for (unsigned i = 0; i < told_count; i++) {
		const struct vdisk_finding *finding = &told[i];

		assert_int_not_equal(finding->use, VDISK_USE_UNKNOWN);
		if (finding->kind != VDISK_FINDING_DATA || finding->use != VDISK_USE_LIVE)
			continue;
		assert_int_equal(finding->bytes, BLOCK_BYTES);
		assert_true(left[finding->offset / BLOCK_BYTES] > 0);
		left[finding->offset / BLOCK_BYTES]--;
	}
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(left[i], 0);
}

static bool is_newest(const struct flipped_page *page)
{
	for (unsigned i = 0; i < page_count; i++)
		if (pages[i].level == page->level && pages[i].index == page->index &&
		    pages[i].lsn > page->lsn)
			return false;
	return true;
}

static void compare_pages(void)
{
	unsigned live = 0, found = 0;

	for (unsigned i = 0; i < page_count; i++)
		live += pages[i].flipped && is_newest(&pages[i]);
	for (unsigned i = 0; i < told_count; i++) {
		const struct vdisk_finding *finding = &told[i];
		uint64_t bytes;
		bool hit = false;

		if (finding->kind != VDISK_FINDING_MAP || finding->use != VDISK_USE_LIVE)
			continue;
		found++;
		for (unsigned n = 0; n < page_count && !hit; n++) {
			bytes = (uint64_t)BLOCK_BYTES << (8 * (pages[n].level + 1));
			hit = pages[n].flipped && is_newest(&pages[n]) &&
			      finding->offset == pages[n].index * bytes &&
			      finding->bytes == MIN(bytes, DISK_BYTES - finding->offset);
		}
		assert_true(hit);
	}
	assert_int_equal(found, live);
}

static unsigned count_told(enum vdisk_finding_kind kind, enum vdisk_use use)
{
	unsigned count = 0;

	for (unsigned i = 0; i < told_count; i++)
		count += told[i].kind == kind && told[i].use == use;
	return count;
}

static void run(unsigned disks, unsigned factor, int (*fn)(struct engine_rig *rig))
{
	memset(newest, 0, sizeof(newest));
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, disks, factor);
	engine_rig_call(&rig_memory, fn);
	engine_rig_done(&rig_memory);
}

/* Not so many at a time that the disk is given up. */
static void one_kind(struct engine_rig *rig, unsigned kind, unsigned step)
{
	fiber_sleep(120 * NSEC_PER_SEC);
	flip(rig, 1, kind, step);
	assert_in_range(flips, 1, 25);
	assert_int_equal(scrub(rig).damaged, 0);
	assert_in_range(told_count, 1, flips);
	compare_data();
	compare_pages();
	for (unsigned i = 0; i < told_count; i++) {
		assert_int_equal(told[i].kind, kind);
		assert_true(told[i].put_right && told[i].disk != 0 && told[i].error == 0);
	}
	assert_true(count_told(kind, VDISK_USE_LIVE) > 0);
	told_count = 0;
	assert_int_equal(scrub(rig).put_right, 0);
}

/* Everything there is, in plain and in compacted files. */
static void fill_and_compact(struct engine_rig *rig)
{
	struct vdisk_stats stats;

	fill(rig, 4);
	for (uint64_t at = 0; at < BLOCKS; at += PIECE)
		if (at / PIECE % 8)
			put(rig, at, PIECE, 3);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	fiber_sleep(60 * NSEC_PER_SEC);
	vdisk_get_stats(rig->vdisk, &stats);
	assert_true(stats.compacted_groups > 0);
	reopen(rig);
}

/* On one of two disks. */
static int all_kinds(struct engine_rig *rig)
{
	uint64_t walks = reached_count("locate.walk");

	fill_and_compact(rig);
	one_kind(rig, VDISK_FINDING_DATA, 2000);
	one_kind(rig, VDISK_FINDING_MAP, 10);
	one_kind(rig, VDISK_FINDING_RECORD, 40);
	one_kind(rig, VDISK_FINDING_INDEX, 1);
	assert_true(reached_count("locate.walk") > walks);
	return end(rig);
}

static void what_was_put_right(void **state)
{
	(void)state;
	run(2, 2, all_kinds);
}

/* The only copy: what is said to be live cannot be read, what is said to be dead can. */
static int data_is_lost(struct engine_rig *rig)
{
	struct vdisk_scrub result;
	bool lost;

	fill(rig, 2);
	reopen(rig);
	flip(rig, 0, VDISK_FINDING_DATA, 7);
	put(rig, 0, PIECE, 3); /* dead for the guest, though the committed map names it */
	memset(flipped_live, 0, PIECE * sizeof(flipped_live[0]));
	result = scrub(rig);
	assert_int_equal(result.put_right, 0);
	assert_true(result.damaged > 0);
	compare_data();
	for (unsigned i = 0; i < told_count; i++) {
		assert_int_equal(told[i].kind, VDISK_FINDING_DATA);
		assert_int_equal(told[i].disk, 0);
		assert_int_equal(told[i].error, -EBADMSG);
		lost = flipped_live[told[i].offset / BLOCK_BYTES] > 0; /* or another one there */
		assert_true(lost || told[i].use == VDISK_USE_DEAD);
		assert_int_equal(read_block(rig, told[i].offset), lost ? -EBADMSG : 0);
	}
	assert_true(count_told(VDISK_FINDING_DATA, VDISK_USE_LIVE) > 0);
	assert_true(count_told(VDISK_FINDING_DATA, VDISK_USE_DEAD) > 0);
	(void)engine_rig_close_vdisk(rig);
	engine_rig_stop(rig);
	return 0;
}

static void what_is_lost(void **state)
{
	(void)state;
	run(1, 1, data_is_lost);
}

/* It cannot be written to the disk that has it wrong; later it can. */
static int writes_fail(struct engine_rig *rig)
{
	const struct sim_faults faults = {.write_error_ppm = 1000000}, none = {0};
	struct vdisk_scrub result;
	uint64_t left;

	fill(rig, 4);
	reopen(rig);
	flip(rig, 1, VDISK_FINDING_DATA, 2000);
	assert_in_range(flips, 2, 12);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &faults);
	result = scrub(rig);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &none);
	left = result.left;
	assert_in_range(left, 1, flips);
	assert_int_equal(result.put_right + result.damaged, 0);
	for (unsigned i = 0; i < told_count; i++)
		assert_true(!told[i].put_right && told[i].disk != 0 && told[i].error == 0);
	fiber_sleep(120 * NSEC_PER_SEC);
	told_count = 0;
	result = scrub(rig);
	assert_in_range(result.put_right, 1, left); /* a write that fails may do in part */
	assert_int_equal(result.left + result.damaged, 0);
	return end(rig);
}

static void what_cannot_be_put_right(void **state)
{
	(void)state;
	run(2, 2, writes_fail);
}

/* What is wrong in the same way on all copies is lost once. */
static int all_copies_wrong(struct engine_rig *rig)
{
	struct vdisk_scrub result;

	fill(rig, 4);
	reopen(rig);
	flip(rig, 0, VDISK_FINDING_DATA, 2000);
	flip(rig, 1, VDISK_FINDING_DATA, 2000);
	result = scrub(rig);
	assert_int_equal(result.put_right + result.left, 0);
	compare_data();
	for (unsigned i = 0; i < told_count; i++)
		assert_int_equal(told[i].disk, 0);
	(void)engine_rig_close_vdisk(rig); /* what was flipped may be a page of the map */
	engine_rig_stop(rig);
	return 0;
}

static void what_is_wrong_on_all_copies(void **state)
{
	(void)state;
	run(2, 2, all_copies_wrong);
}

/* Two of three, neither of which can be written: what is told of one is told of the other. */
static int two_copies_wrong(struct engine_rig *rig)
{
	unsigned pairs = 0, live = 0;

	fill(rig, 4);
	reopen(rig);
	flip(rig, 1, VDISK_FINDING_MAP, 10);
	flip(rig, 2, VDISK_FINDING_MAP, 10);
	for (unsigned disk = 1; disk <= 2; disk++)
		sim_disk_set_read_only(rig->sim.sim, engine_rig_disk(disk), true);
	assert_int_equal(scrub(rig).damaged, 0);
	for (unsigned disk = 1; disk <= 2; disk++)
		sim_disk_set_read_only(rig->sim.sim, engine_rig_disk(disk), false);
	for (unsigned i = 0; i < told_count; i++)
		for (unsigned n = 0; n < i; n++) {
			if (told[i].group != told[n].group || told[i].slot != told[n].slot)
				continue;
			assert_int_equal(told[i].use, told[n].use);
			assert_int_equal(told[i].offset, told[n].offset);
			assert_int_equal(told[i].bytes, told[n].bytes);
			assert_int_not_equal(told[i].disk, told[n].disk);
			live += told[i].use == VDISK_USE_LIVE;
			pairs++;
		}
	assert_int_equal(2 * pairs, told_count);
	assert_true(live > 0);
	return end(rig);
}

static void what_is_wrong_on_two_copies(void **state)
{
	(void)state;
	run(3, 3, two_copies_wrong);
}

/* Every other block that was hit is written again: the committed map still has the old one. */
static int overwritten(struct engine_rig *rig)
{
	unsigned live = 0;

	fill_and_compact(rig);
	fiber_sleep(120 * NSEC_PER_SEC);
	flip(rig, 1, VDISK_FINDING_DATA, 1500);
	for (uint64_t block = 0; block < BLOCKS; block++)
		if (flipped_live[block] && live++ % 2) {
			put(rig, block, 1, 4);
			flipped_live[block] = 0;
		}
	assert_true(live > 4);
	assert_int_equal(scrub(rig).damaged, 0);
	compare_data();
	assert_true(count_told(VDISK_FINDING_DATA, VDISK_USE_DEAD) >= live / 2);
	return end(rig);
}

static void what_was_overwritten_since(void **state)
{
	(void)state;
	run(2, 2, overwritten);
}

/* The root spans more than the vDisk has; and without a walk nothing can be told of it. */
static int root_is_wrong(struct engine_rig *rig)
{
	unsigned walks_left = 1, roots = 0;
	struct vdisk_finding root = {0};
	const struct vdisk_locate locate = {
		.findings = &root, .count = 1, .walks_left = &walks_left};

	fill(rig, 4);
	reopen(rig);
	flip_level = 1;
	flip(rig, 1, VDISK_FINDING_MAP, 1);
	flip_level = ANY_LEVEL;
	assert_in_range(scrub(rig).put_right, 1, flips);
	compare_pages();
	for (unsigned i = 0; i < told_count; i++)
		if (told[i].use == VDISK_USE_LIVE) {
			assert_true(told[i].offset == 0 && told[i].bytes == DISK_BYTES);
			root = told[i];
			roots++;
		}
	assert_int_equal(roots, 1);
	for (unsigned i = 0; i < 2; i++) {
		root.use = VDISK_USE_DEAD;
		root.offset = root.bytes = 0;
		assert_int_equal(vdisk_locate(rig->vdisk, &locate), 0);
		assert_int_equal(root.use, i == 0 ? VDISK_USE_LIVE : VDISK_USE_UNKNOWN);
		assert_int_equal(walks_left, 0);
	}
	return end(rig);
}

static void what_the_root_holds(void **state)
{
	(void)state;
	run(2, 2, root_is_wrong);
}

/* What lies below pages that cannot be read is not known to be dead. */
static int pages_are_lost(struct engine_rig *rig)
{
	fill_and_compact(rig);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	flip_level = 0;
	flip(rig, 0, VDISK_FINDING_MAP, 1);
	flip_level = ANY_LEVEL;
	flip(rig, 0, VDISK_FINDING_DATA, 100);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
	assert_true(scrub(rig).damaged > 0);
	assert_true(count_told(VDISK_FINDING_DATA, VDISK_USE_UNKNOWN) > 0);
	assert_int_equal(count_told(VDISK_FINDING_DATA, VDISK_USE_DEAD), 0);
	(void)engine_rig_close_vdisk(rig); /* without its map it makes no checkpoint */
	engine_rig_stop(rig);
	return 0;
}

static void what_lies_below_lost_pages(void **state)
{
	(void)state;
	run(1, 1, pages_are_lost);
}

/* What is right when it is read again was right all the time. In one of twenty cases it is not. */
static int bits_flip_on_the_way(struct engine_rig *rig)
{
	const struct sim_faults faults = {.bit_flip_ppm = 50000};
	uint64_t reached = reached_count("sim.bit-flip"), wrong = 0;

	fill(rig, 4);
	reopen(rig);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &faults);
	for (unsigned round = 0; round < 15; round++) {
		fiber_sleep(120 * NSEC_PER_SEC); /* so few at a time are forgiven */
		told_count = 0;
		wrong += scrub(rig).put_right;
	}
	assert_in_range(wrong, 0, (reached_count("sim.bit-flip") - reached) / 4);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(1), &(struct sim_faults){0});
	return end(rig);
}

static void what_is_right_when_read_again(void **state)
{
	(void)state;
	run(2, 2, bits_flip_on_the_way);
}

static bool stop(void *arg)
{
	(void)arg;
	return false;
}

/* What was stopped after a file goes on behind it. */
static int stopped(struct engine_rig *rig)
{
	struct vdisk_scrub first = {.next = stop}, then = {0};
	uint64_t bytes;

	fill(rig, 4);
	reopen(rig);
	bytes = vdisk_scrub_bytes(rig->vdisk);
	assert_int_equal(vdisk_scrub(rig->vdisk, &first), -ECANCELED);
	assert_true(first.after > 0 && first.done_bytes > 0 && first.done_bytes < bytes);
	then.after = first.after;
	assert_int_equal(vdisk_scrub(rig->vdisk, &then), 0);
	assert_int_equal(first.done_bytes + then.bytes, bytes);
	return end(rig);
}

static void a_scrub_goes_on(void **state)
{
	(void)state;
	run(2, 2, stopped);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_right),
		cmocka_unit_test(what_is_lost),
		cmocka_unit_test(what_cannot_be_put_right),
		cmocka_unit_test(what_is_wrong_on_all_copies),
		cmocka_unit_test(what_is_wrong_on_two_copies),
		cmocka_unit_test(what_was_overwritten_since),
		cmocka_unit_test(what_the_root_holds),
		cmocka_unit_test(what_lies_below_lost_pages),
		cmocka_unit_test(what_is_right_when_read_again),
		cmocka_unit_test(a_scrub_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
