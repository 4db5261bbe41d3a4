/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single cases of making a catalog again, each made on purpose: a state is built in the simulated
 * world, something is broken or put there, and what the rebuild says and leaves is looked at. Runs
 * by seed are in test_rebuild.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "catalog/mirror.h"
#include "codec/crc32c.h"
#include "egroup/index.h"
#include "fsck/fsck_rebuild.h"
#include "pool/container.h"
#include "reactor/io.h"
#include "vdisk/page.h"

#include "fsck_cases.h"

enum old_catalog { /* what is there when a rebuild begins */
		   OLD_WHOLE,
		   OLD_MIRROR, /* alone */
		   OLD_ROW_DAMAGED,
};

static struct {
	enum old_catalog old;
	struct engine_rig rig;
	const char *scratch;
	bool force, show_only;
	unsigned disks;
	const char *other; /* one more directory */
	unsigned refused, doubts, notes, made;
	uint64_t size;     /* of the vDisk that was made last */
	const char *words; /* that are looked for in what is told, and how often they were */
	unsigned told;
} test;

static uint64_t test_offset; /* of the crashes that are tried: each is, by one of 61 */

static void note(void *arg, const struct fsck_rebuild_note *note)
{
	(void)arg;
	test.refused += note->kind == FSCK_REBUILD_REFUSED;
	test.doubts += note->kind == FSCK_REBUILD_DOUBT;
	test.notes += note->kind == FSCK_REBUILD_NOTE;
	test.told += test.words && strstr(note->text, test.words);
	if (getenv("SHOW"))
		fprintf(stderr, "%d %s: %s\n", note->kind, note->object, note->text);
}

static void note_vdisk(void *arg, const struct fsck_rebuild_vdisk *vdisk)
{
	(void)arg;
	test.made++;
	test.size = vdisk->size_bytes;
}

static int rebuild(struct engine_rig *rig)
{
	char *directories[ENGINE_RIG_DISKS_MAX];
	struct fsck_rebuild_report report;
	const struct fsck_rebuild_options options = {
		.world = sim_world(rig->sim.sim),
		.catalog = CATALOG,
		.vfs = SIM_VFS_NAME,
		.scratch = test.scratch,
		.directories = directories,
		.directory_count = test.disks + (test.other != NULL),
		.force = test.force,
		.show_only = test.show_only,
		.note = note,
		.vdisk = note_vdisk,
	};

	for (unsigned i = 0; i < test.disks; i++)
		directories[i] = (char *)engine_rig_directory(i, 0);
	directories[test.disks] = (char *)test.other;
	test.refused = test.doubts = test.notes = test.made = 0;
	return fsck_rebuild(&options, &report);
}

static bool is_there(const char *path)
{
	struct world_stat stat;

	return io_stat(path, &stat) == 0;
}

#define BLOCKS 8u

static int write_from(struct engine_rig *rig, uint64_t from)
{
	for (unsigned i = 0; i < BLOCKS; i++) {
		memset(buffer, (int)i + 1, 4096);
		CHECK(block_io(rig->volume, BLOCK_WRITE, 0, buffer, 4096, from + i * MIB) == 0);
	}
	return block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
}

static int write_some(struct engine_rig *rig)
{
	return write_from(rig, 0);
}

/* All that was written is served; or, where `may_fail`, an error is. */
static unsigned verify(struct engine_rig *rig, bool may_fail)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < BLOCKS; i++) {
		int r = block_io(rig->volume, BLOCK_READ, 0, buffer, 4096, i * MIB);

		CHECK(r == 0 || may_fail);
		failed += r < 0;
		CHECK(r < 0 || (buffer[0] == i + 1 && buffer[4095] == i + 1));
	}
	return failed;
}

static void serve(struct engine_rig *rig)
{
	CHECK(engine_rig_open_again(rig) == 0);
	(void)verify(rig, false);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
}

static int make_state(struct engine_rig *rig)
{
	CHECK(engine_rig_bring_up(rig) == 0);
	CHECK(write_some(rig) == 0);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	CHECK(io_directory_make(SCRATCH) == 0);
	return io_directory_sync_above(SCRATCH);
}

static void start_case(unsigned disks)
{
	struct engine_rig *rig = &test.rig;

	memset(&test, 0, sizeof(test));
	test.scratch = SCRATCH;
	test.disks = disks;
	engine_rig_init(rig, 1, false, CAPACITY);
	engine_rig_set_disks(rig, disks, disks);
	rig->vdisk_bytes = SIZE;
	CHECK(engine_rig_call(rig, make_state) == 0);
}

static int lose_catalog(struct engine_rig *rig)
{
	(void)rig;
	CHECK(io_unlink(CATALOG) == 0);
	CHECK(io_unlink(CATALOG "-wal") == 0);
	return 0;
}

/* The next operation that fails does it with `error`, one after the other: none of that may make a
 * sound catalog look lost. */
static void sweep_sound_catalog(struct engine_rig *rig, int error)
{
	bool hit = true;

	for (uint64_t n = 1; hit; n++) {
		sim_fail_nth(rig->sim.sim, n, error);
		CHECK(rebuild(rig) < 0);
		hit = sim_fault_hit(rig->sim.sim);
		sim_fail_nth(rig->sim.sim, 0, 0);
		CHECK(is_there(CATALOG) && !is_there(CATALOG "-new"));
	}
	CHECK(test.refused == 1);
}

static int test_passing_errors(struct engine_rig *rig)
{
	sweep_sound_catalog(rig, -EIO);
	sweep_sound_catalog(rig, -ENOSPC);
	sweep_sound_catalog(rig, -EMFILE);
	test.scratch = SCRATCH "-that-is-not-there";
	CHECK(rebuild(rig) == -EEXIST && test.refused == 1);
	test.scratch = SCRATCH;
	test.force = true;
	sim_fail_nth(rig->sim.sim, 1, -EIO);
	CHECK(rebuild(rig) == 0);
	CHECK(test.refused == 0 && test.notes > 0 && test.made == 1);
	return 0;
}

static void put_file(const char *path, const void *bytes, size_t length)
{
	struct world_file *file;

	CHECK(io_open(path, WORLD_FILE_CREATE, &file) == 0);
	CHECK(io_write(file, bytes, length, 0) == 0);
	CHECK(io_sync(file) == 0);
	CHECK(io_close(file) == 0);
}

/* Where a mirror should be, something lies that is none; and one that cannot be looked at. */
static int test_mirrors(struct engine_rig *rig)
{
	char path[128];

	CHECK(lose_catalog(rig) == 0);
	snprintf(path, sizeof(path), "%s/catalog", engine_rig_directory(0, 0));
	CHECK(io_directory_make(path) == 0);
	snprintf(path, sizeof(path), "%s/catalog/snapshot-%016x", engine_rig_directory(0, 0), 1);
	memset(buffer, 7, 8192);
	put_file(path, buffer, 8192);
	test.words = "whether its mirror can be used";
	test.show_only = true;
	for (uint64_t n = 1; n < 20; n++) {
		sim_fail_nth(rig->sim.sim, n, -EMFILE);
		CHECK(rebuild(rig) == 0 || test.refused == 1);
	}
	sim_fail_nth(rig->sim.sim, 0, 0);
	CHECK(test.told > 2);
	test.show_only = false;
	CHECK(rebuild(rig) == 0 && test.made == 1 && test.refused == 0 && !is_there(path));
	return 0;
}

/* An error that passes, anywhere: it is refused, or nothing is lost. */
static void sweep_lost_catalog(struct engine_rig *rig, uint64_t step)
{
	unsigned refused = 0, served = 0;
	bool hit = true;

	for (uint64_t n = 1; hit; n += step) {
		if (is_there(CATALOG))
			CHECK(lose_catalog(rig) == 0);
		sim_fail_nth(rig->sim.sim, n, -EIO);
		(void)rebuild(rig); /* what it leaves is looked at */
		hit = sim_fault_hit(rig->sim.sim);
		sim_fail_nth(rig->sim.sim, 0, 0);
		refused += test.refused;
		if (is_there(CATALOG)) {
			serve(rig);
			served++;
		}
	}
	CHECK(is_there(CATALOG) && refused > 256 / step && served > 1);
}

static int test_some_errors(struct engine_rig *rig)
{
	sweep_lost_catalog(rig, 13);
	return 0;
}

static int test_each_error(struct engine_rig *rig)
{
	sweep_lost_catalog(rig, 1);
	return 0;
}

struct found { /* a group file */
	char path[160];
	uint64_t id;
	bool is_log, is_compacted;
	uint64_t size;
};

static bool look_at(const char *path, struct found *ret_found)
{
	const struct record_id any = {0};
	struct record_header_disk *header = aligned_alloc(4096, 4096);
	struct world_stat stat;
	struct world_file *file;
	bool is_ours;

	CHECK(io_stat(path, &stat) == 0);
	CHECK(header && io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, &file) == 0);
	CHECK(io_read_exactly(file, header, 4096, 0) == 0);
	CHECK(io_close(file) == 0);
	is_ours = record_check(header, &any) == 0;
	snprintf(ret_found->path, sizeof(ret_found->path), "%s", path);
	ret_found->is_log = is_ours && le32toh(header->stream) == RECORD_STREAM_LOG;
	ret_found->size = stat.size_bytes;
	is_ours = is_ours && le64toh(header->file) == ret_found->id;
	free(header);
	return is_ours;
}

/* The plain group files of one disk. */
static unsigned find_files(unsigned disk, struct found *found, unsigned most)
{
	struct world_names names;
	char directory[64], path[128];
	unsigned count = 0;

	for (unsigned i = 0; i < 256; i++) {
		snprintf(directory, sizeof(directory), "%s/groups/%02x",
			 engine_rig_directory(disk, 0), i);
		CHECK(io_directory_list(directory, &names) == 0);
		for (size_t n = 0; n < names.count; n++) {
			CHECK(count < most);
			snprintf(path, sizeof(path), "%s/%s", directory, names.names[n]);
			CHECK(sscanf(names.names[n], "%" SCNx64, &found[count].id) == 1);
			count += look_at(path, &found[count]);
		}
		world_names_free(&names);
	}
	return count;
}

#define FILES 32u

static struct found find_log(unsigned disk)
{
	struct found found[FILES];
	unsigned count = find_files(disk, found, FILES);

	for (unsigned i = 0; i < count; i++)
		if (found[i].is_log)
			return found[i];
	abort();
}

static void read_blocks(const char *path, void *to, uint32_t slot, uint32_t count)
{
	struct world_file *file;

	CHECK(io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, &file) == 0);
	CHECK(io_read_exactly(file, to, (size_t)count * 4096, slot * UINT64_C(4096)) == 0);
	CHECK(io_close(file) == 0);
}

static void write_blocks(const char *path, const void *from, uint32_t slot, uint32_t count)
{
	struct world_file *file;

	CHECK(io_open(path, WORLD_FILE_CREATE | WORLD_FILE_DIRECT, &file) == 0);
	CHECK(io_write(file, from, (size_t)count * 4096, slot * UINT64_C(4096)) == 0);
	CHECK(io_sync(file) == 0);
	CHECK(io_close(file) == 0);
}

static void copy_to(const char *from, const char *to, uint64_t size)
{
	for (uint32_t i = 0; i < size / 4096; i += 256) {
		uint32_t count = (uint32_t)MIN(size / 4096 - i, UINT64_C(256));

		read_blocks(from, buffer, i, count);
		write_blocks(to, buffer, i, count);
	}
}

/* The first header is damaged: the second record says whose the file is, and nothing is lost of
 * what the map names. */
static int test_first_header(struct engine_rig *rig)
{
	struct found log = find_log(0);

	CHECK(lose_catalog(rig) == 0);
	CHECK(sim_disk_flip(rig->sim.sim, log.path, 3500, 3) == 0);
	CHECK(rebuild(rig) == 0 && test.made == 1);
	serve(rig);
	return 0;
}

static void put_name(char *path, size_t size, const char *folder, const char *name)
{
	snprintf(path, size, "%s/%s/%s", engine_rig_directory(0, 0), folder, name);
}

/* What cannot be told whose it is goes aside, and never over what lies there. */
static int test_aside(struct engine_rig *rig)
{
	struct record_header_disk *header = (void *)(buffer + 8192);
	char path[128], there[128], aside[128], directory[128];

	CHECK(lose_catalog(rig) == 0);
	put_name(directory, sizeof(directory), "", "unclaimed");
	put_name(there, sizeof(there), "unclaimed", "0000000000abcd05.eg");
	put_name(aside, sizeof(aside), "unclaimed", "0000000000abcd05.eg.1");
	put_name(path, sizeof(path), "groups/05", "0000000000abcd05.eg");
	CHECK(io_directory_make(directory) == 0);
	memset(buffer, 0x55, 8192);
	write_blocks(there, buffer, 0, 2);
	memset(header, 0, 4096);
	*header = (struct record_header_disk){.magic = htole64(RECORD_MAGIC),
					      .version = htole32(RECORD_VERSION),
					      .pool = htole64(rig->pool_id),
					      .vdisk = htole64(rig->vdisk_id),
					      .group = htole64(999),
					      .stream = htole32(RECORD_STREAM_LOG),
					      .file = htole64(0xabcd05)};
	write_blocks(path, header, 0, 1);
	CHECK(rebuild(rig) == 0 && test.made == 1);
	CHECK(!is_there(path) && is_there(there) && is_there(aside));
	read_blocks(there, buffer, 0, 1);
	CHECK(buffer[0] == 0x55);
	serve(rig);
	return 0;
}

/* A file lies in unclaimed/, too, and is better there. */
static int test_twice(struct engine_rig *rig)
{
	struct found log = find_log(0);
	char there[128], aside[128];

	CHECK(lose_catalog(rig) == 0);
	put_name(there, sizeof(there), "", "unclaimed");
	CHECK(io_directory_make(there) == 0);
	snprintf(there, sizeof(there), "%s/unclaimed/%016" PRIx64 ".eg", engine_rig_directory(0, 0),
		 log.id);
	snprintf(aside, sizeof(aside), "%s/unclaimed/%016" PRIx64 ".eg.1",
		 engine_rig_directory(0, 0), log.id);
	copy_to(log.path, there, log.size);
	CHECK(sim_disk_flip(rig->sim.sim, log.path, 4096 + 700, 1) == 0);
	CHECK(rebuild(rig) == 0 && test.made == 1);
	CHECK(is_there(log.path) && is_there(aside) && !is_there(there));
	serve(rig);
	return 0;
}

/* What a guest writes: a record of nobody, in its place in the file; a page of its map that is of
 * the far future. */
static int forge(struct engine_rig *rig)
{
	struct record_header_disk *header = (void *)buffer;
	struct page_disk *page = (void *)(buffer + 4096);

	for (unsigned slot = 1; slot < 64; slot++) {
		struct record_seal seal = {.id = {.pool = rig->pool_id,
						  .vdisk = UINT64_C(1) << 62,
						  .group = (UINT64_C(1) << 40) - 2,
						  .slot = slot,
						  .stream = RECORD_STREAM_LOG},
					   .epoch = 99,
					   .lsn = UINT64_C(1) << 60};

		record_begin(header);
		CHECK(record_add(header, RECORD_EXTENT_ZERO, 0, 1));
		record_seal(header, &seal);
		CHECK(block_io(rig->volume, BLOCK_WRITE, 0, header, 4096,
			       32 * MIB + slot * UINT64_C(4096)) == 0);
	}
	memset(page, 0, 4096);
	*page = (struct page_disk){.magic = htole32(PAGE_MAGIC),
				   .version = PAGE_VERSION,
				   .level = 1,
				   .vdisk = htole64(rig->vdisk_id),
				   .lsn = htole64(UINT64_C(1) << 61)};
	CHECK(block_io(rig->volume, BLOCK_WRITE, 0, page, 4096, 40 * MIB) == 0);
	page->vdisk = htole64(UINT64_C(1) << 63);
	CHECK(block_io(rig->volume, BLOCK_WRITE, 0, page, 4096, 41 * MIB) == 0);
	return block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
}

static int test_forged(struct engine_rig *rig)
{
	uint64_t vdisk = rig->vdisk_id;
	struct found found[FILES];
	unsigned count;

	CHECK(engine_rig_open_again(rig) == 0);
	CHECK(forge(rig) == 0);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	CHECK(lose_catalog(rig) == 0);
	count = find_files(0, found, FILES);
	for (unsigned i = 0; i < count; i++)
		if (found[i].is_log)
			CHECK(sim_disk_flip(rig->sim.sim, found[i].path, 200, 3) == 0);
	CHECK(rebuild(rig) == 0 && test.made == 1);
	serve(rig);
	CHECK(engine_rig_start(rig) == 0);
	CHECK(engine_rig_create_vdisk(rig, "next", SIZE) == 0);
	CHECK(rig->vdisk_id > vdisk && rig->vdisk_id < 10000);
	CHECK(engine_rig_open_vdisk(rig) == 0);
	CHECK(write_some(rig) == 0); /* a group has an id */
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	return 0;
}

static void make_forged(struct record_header_disk *header, struct record_seal *seal)
{
	record_begin(header);
	CHECK(record_add(header, RECORD_EXTENT_ZERO, 0, 1));
	record_seal(header, seal);
}

/* A guest that guesses: each block of a long write is a record of another vDisk, in the place that
 * it will have, if its file is the one that it names. */
static void write_guesses(struct engine_rig *rig, uint64_t file)
{
	for (unsigned slot = 1; slot < 128; slot++) {
		struct record_seal seal = {.id = {rig->pool_id, 77, 999, slot, RECORD_STREAM_LOG},
					   .epoch = 1,
					   .lsn = 1000,
					   .file = file + slot};

		make_forged((void *)(buffer + (slot - 1) * 4096u), &seal);
	}
	CHECK(block_io(rig->volume, BLOCK_WRITE, 0, buffer, 127 * 4096, 32 * MIB) == 0);
}

static struct found find_newest(bool is_log)
{
	struct found found[FILES], newest = {0};
	unsigned count = find_files(0, found, FILES);

	for (unsigned i = 0; i < count; i++)
		if (found[i].is_log == is_log && found[i].id > newest.id)
			newest = found[i];
	CHECK(newest.id);
	return newest;
}

/* The first header is damaged, and what comes next that names the file is of a guest. */
static int test_forged_first(struct engine_rig *rig)
{
	struct record_header_disk *header = (void *)buffer;
	struct found log = find_newest(true), pages = find_newest(false);
	uint64_t before = MAX(log.id, pages.id);
	const struct record_id any = {0};

	CHECK(engine_rig_open_again(rig) == 0);
	write_guesses(rig, before);
	CHECK(write_some(rig) == 0);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	CHECK(lose_catalog(rig) == 0);
	log = find_newest(true);
	CHECK(log.id > before && log.id < before + 128);
	read_blocks(log.path, header, (uint32_t)(log.id - before), 1);
	CHECK(record_check(header, &any) == 0 && le64toh(header->file) == log.id &&
	      le32toh(header->slot) == log.id - before);
	CHECK(sim_disk_flip(rig->sim.sim, log.path, 3500, 3) == 0);
	CHECK(rebuild(rig) == 0 && test.made == 1 && test.doubts == 0);
	serve(rig);
	return 0;
}

static void spoil_first(const char *path, int byte)
{
	memset(buffer, byte, 4096);
	write_blocks(path, buffer, 0, 1);
}

static void name_aside(const struct found *found, char path[128])
{
	snprintf(path, 128, "%s/unclaimed/%016" PRIx64 ".eg", engine_rig_directory(0, 0),
		 found->id);
}

/* The first block is gone, without an error of the disk: the records behind it name the file, so it
 * is kept where the daemon does not take it. */
static int lose_beginning(struct engine_rig *rig, int byte)
{
	struct found log = find_newest(true);
	char aside[128];

	name_aside(&log, aside);
	CHECK(lose_catalog(rig) == 0);
	spoil_first(log.path, byte);
	test.words = "its beginning is damaged";
	CHECK(rebuild(rig) == 0 && test.made == 1 && test.told == 1);
	CHECK(!is_there(log.path) && is_there(aside));
	CHECK(engine_rig_open_again(rig) == 0);
	CHECK(verify(rig, true) == BLOCKS);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	CHECK(is_there(aside));
	return 0;
}

static int test_zeroed(struct engine_rig *rig)
{
	return lose_beginning(rig, 0);
}

static int test_garbage(struct engine_rig *rig)
{
	return lose_beginning(rig, 0xa5);
}

/* An older life's record is there: the first write of this one was lost. */
static int test_lost_write(struct engine_rig *rig)
{
	struct record_header_disk *header = (void *)buffer;
	struct found log = find_newest(true);
	struct record_seal seal = {.id = {rig->pool_id, 5, 3, 0, RECORD_STREAM_LOG},
				   .epoch = 1,
				   .lsn = 9,
				   .file = log.id + 1000};
	char aside[128];

	name_aside(&log, aside);
	CHECK(lose_catalog(rig) == 0);
	make_forged(header, &seal);
	write_blocks(log.path, header, 0, 1);
	test.words = "its beginning is damaged";
	CHECK(rebuild(rig) == 0 && test.made == 1 && test.told == 1);
	CHECK(!is_there(log.path) && is_there(aside));
	return 0;
}

static int write_tail(struct engine_rig *rig)
{
	CHECK(engine_rig_open_again(rig) == 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK(write_some(rig) == 0);
	return 0;
}

static int lose_tail(struct engine_rig *rig)
{
	CHECK(lose_catalog(rig) == 0);
	spoil_first(find_newest(true).path, 0);
	test.words = "was flushed";
	CHECK(rebuild(rig) == 0 && test.made == 1 && test.doubts == 1 && test.told == 1);
	return 0;
}

/* What was flushed is missed, although no map names it yet. */
static int test_lost_tail(struct engine_rig *rig)
{
	CHECK(engine_rig_call(rig, write_tail) == 0);
	engine_rig_crash(rig, SIM_CRASH_PROCESS);
	return engine_rig_call(rig, lose_tail);
}

/* A session whose pages have lost their first block, and whose log is gone, as compaction takes it:
 * the root of the session before is not the newest. */
static void lose_pages(struct engine_rig *rig, unsigned checkpoints)
{
	struct found old_pages = find_newest(false), old_log = find_newest(true), pages;

	CHECK(engine_rig_open_again(rig) == 0);
	for (unsigned i = 0; i < checkpoints; i++) {
		CHECK(write_from(rig, 16 * MIB + i * UINT64_C(4096)) == 0);
		CHECK(vdisk_checkpoint(rig->vdisk) == 0);
	}
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	CHECK(lose_catalog(rig) == 0);
	pages = find_newest(false);
	CHECK(pages.id > old_pages.id && find_newest(true).id > old_log.id);
	CHECK(io_unlink(find_newest(true).path) == 0);
	CHECK(find_newest(true).id == old_log.id);
	spoil_first(pages.path, 0);
	CHECK(rebuild(rig) == 0 && test.made == 0 && test.doubts > 0);
	test.force = true;
	CHECK(rebuild(rig) == -EEXIST || test.made == 1);
	CHECK(test.made == 1 && test.doubts > 0);
}

static int test_pages_lost(struct engine_rig *rig)
{
	lose_pages(rig, 3);
	return 0;
}

/* There is one record in the file: only its pages are left. */
static int test_pages_left(struct engine_rig *rig)
{
	lose_pages(rig, 1);
	return 0;
}

static int empty_scratch(struct engine_rig *rig)
{
	struct world_names names;
	char path[128];

	(void)rig;
	CHECK(io_directory_list(SCRATCH, &names) == 0);
	for (size_t i = 0; i < names.count; i++) {
		snprintf(path, sizeof(path), "%s/%s", SCRATCH, names.names[i]);
		CHECK(io_unlink(path) == 0);
	}
	world_names_free(&names);
	return 0;
}

/* Pages of which only the damaged header is left: whose they were is known, not of what time. */
static void spoil_pages(struct engine_rig *rig, const struct found *pages)
{
	memset(buffer, 0, 4096);
	for (uint32_t slot = 1; slot < pages->size / 4096; slot++)
		write_blocks(pages->path, buffer, slot, 1);
	CHECK(sim_disk_flip(rig->sim.sim, pages->path, 2500, 1) == 0);
}

static void write_session(struct engine_rig *rig, uint64_t from)
{
	CHECK(engine_rig_open_again(rig) == 0);
	CHECK(write_from(rig, from) == 0);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
}

/* What the last session wrote was compacted, and its map is gone: nothing says when that was. */
static void lose_last(struct engine_rig *rig)
{
	struct found pages = find_newest(false);

	CHECK(lose_catalog(rig) == 0);
	CHECK(io_unlink(find_newest(true).path) == 0);
	spoil_pages(rig, &pages);
}

static void must_not_be_made(struct engine_rig *rig)
{
	CHECK(rebuild(rig) == 0 && test.made == 0 && test.doubts > 0);
	CHECK(empty_scratch(rig) == 0);
	test.force = true;
	CHECK(rebuild(rig) == 0 && test.made == 1 && test.doubts > 0);
	serve(rig);
}

/* The log from its beginning to the end of the first session is there. */
static int test_old_log(struct engine_rig *rig)
{
	struct found old_pages = find_newest(false);

	write_session(rig, 16 * MIB);
	if (is_there(old_pages.path))
		CHECK(io_unlink(old_pages.path) == 0);
	lose_last(rig);
	must_not_be_made(rig);
	return 0;
}

/* And here the map of the first session, with the log of the second. */
static int test_old_map(struct engine_rig *rig)
{
	struct found pages;

	write_session(rig, 16 * MIB);
	pages = find_newest(false);
	write_session(rig, 32 * MIB);
	CHECK(io_unlink(pages.path) == 0);
	lose_last(rig);
	must_not_be_made(rig);
	return 0;
}

/* Changes each sound record of a plain file, from the first on. */
static void change_records(const char *path, bool (*change)(struct record_header_disk *header))
{
	struct record_header_disk *header = (void *)buffer;
	const struct record_id any = {0};
	uint32_t slot = 0, blocks;

	for (;;) {
		struct record_seal seal;

		read_blocks(path, header, slot, 1);
		if (record_check(header, &any) < 0 || le32toh(header->slot) != slot)
			return;
		blocks = record_payload_blocks(header);
		if (blocks)
			read_blocks(path, header + 1, slot + 1, blocks);
		if (change(header)) {
			seal = (struct record_seal){
				.id = {le64toh(header->pool), le64toh(header->vdisk),
				       le64toh(header->group), slot, le32toh(header->stream)},
				.epoch = le64toh(header->epoch),
				.lsn = le64toh(header->lsn),
				.durable_lsn = le64toh(header->durable_lsn),
				.prev_group = le64toh(header->prev_group),
				.prev_slot = le32toh(header->prev_slot),
				.file = le64toh(header->file)};
			record_seal(header, &seal);
			write_blocks(path, header, slot, 1 + blocks);
		}
		slot += 1 + blocks;
	}
}

static void change_files(bool (*change)(struct record_header_disk *header))
{
	struct found found[FILES];
	unsigned count = find_files(0, found, FILES);

	for (unsigned i = 0; i < count; i++)
		change_records(found[i].path, change);
}

/* As programs wrote it that told nothing of the vDisk. */
static bool forget(struct record_header_disk *header)
{
	for (uint32_t i = 0; i < record_payload_blocks(header); i++) {
		struct page_disk *page = (struct page_disk *)(header + 1 + i);

		if (le32toh(header->stream) != RECORD_STREAM_PAGES)
			continue;
		memset(page->note, 0, sizeof(page->note));
		header->block_crcs[i] = htole32(crc32c(page, 4096));
	}
	return true; /* the seal is without a note */
}

static int test_size(struct engine_rig *rig)
{
	CHECK(lose_catalog(rig) == 0);
	change_files(forget);
	test.words = "cover, 8 MiB";
	CHECK(rebuild(rig) == 0 && test.made == 1);
	CHECK(test.size == 8 * MIB && test.told == 1);
	serve(rig);
	return 0;
}

static bool raise_levels(struct record_header_disk *header)
{
	if (le32toh(header->stream) != RECORD_STREAM_PAGES)
		return false;
	for (uint32_t i = 0; i < record_payload_blocks(header); i++) {
		struct page_disk *page = (struct page_disk *)(header + 1 + i);

		if (page->level == 0)
			page->level = 200;
		header->block_crcs[i] = htole32(crc32c(page, 4096));
	}
	return true;
}

/* A level that no map has: no such page is looked at, and the log is there. */
static int test_level(struct engine_rig *rig)
{
	CHECK(lose_catalog(rig) == 0);
	change_files(raise_levels);
	CHECK(rebuild(rig) == 0 && test.made == 1);
	serve(rig);
	return 0;
}

/* One copy ends early and is sound, the other is whole but for a block: each has what the other
 * has not. */
static int test_short_copy(struct engine_rig *rig)
{
	struct found shorter = find_log(0), longer = find_log(1);

	CHECK(shorter.id == longer.id);
	CHECK(lose_catalog(rig) == 0);
	memset(buffer, 0, 8192);
	write_blocks(shorter.path, buffer, 14, 2); /* the last of eight records */
	CHECK(sim_disk_flip(rig->sim.sim, longer.path, 4096 + 1000, 5) == 0);
	CHECK(rebuild(rig) == 0 && test.made == 1);
	serve(rig);
	return 0;
}

static bool make_foreign(struct record_header_disk *header)
{
	header->vdisk = htole64(77);
	header->group = htole64(999);
	return true;
}

/* A number was given twice: what is of a vDisk that is not made goes aside. */
static int test_number_twice(struct engine_rig *rig)
{
	struct found other = find_log(1);
	char aside[128];

	CHECK(lose_catalog(rig) == 0);
	change_records(other.path, make_foreign);
	CHECK(rebuild(rig) == 0 && test.made == 1);
	snprintf(aside, sizeof(aside), "%s/unclaimed/%016" PRIx64 ".eg", engine_rig_directory(1, 0),
		 other.id);
	CHECK(is_there(aside) && !is_there(other.path));
	serve(rig);
	return 0;
}

#define OTHER ENGINE_RIG_DISK "/other"

static void use_pool(struct engine_rig *rig, uint64_t pool, uint64_t container, uint64_t vdisk)
{
	rig->pool_id = pool;
	rig->container_id = container;
	rig->vdisk_id = vdisk;
}

static void make_other(struct engine_rig *rig)
{
	const struct pool_spec spec = {
		.name = "other", .directory = OTHER, .capacity_bytes = CAPACITY};
	struct world *world = sim_world(rig->sim.sim);

	CHECK(engine_rig_start(rig) == 0);
	CHECK(pool_create(world, rig->catalog, &spec, &rig->pool_id) == 0);
	CHECK(container_create(rig->catalog, world, rig->pool_id, "more", &rig->container_id) == 0);
	engine_rig_stop(rig);
	CHECK(engine_rig_start(rig) == 0);
	CHECK(engine_rig_create_vdisk(rig, "disk", SIZE) == 0);
	CHECK(engine_rig_open_vdisk(rig) == 0);
	CHECK(write_some(rig) == 0);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
}

/* Two pools of one node: each vDisk in its own, with its container; ids go on for both. */
static int test_pools(struct engine_rig *rig)
{
	struct engine_rig first = *rig;
	uint64_t pool, container, vdisk;

	make_other(rig);
	pool = rig->pool_id;
	container = rig->container_id;
	vdisk = rig->vdisk_id;
	CHECK(lose_catalog(rig) == 0);
	test.other = OTHER;
	CHECK(rebuild(rig) == 0 && test.made == 2 && test.doubts == 0);
	for (unsigned i = 0; i < 2; i++) {
		serve(rig);
		use_pool(rig, first.pool_id, first.container_id, first.vdisk_id);
		serve(rig);
		CHECK(engine_rig_start(rig) == 0);
		CHECK(engine_rig_create_vdisk(rig, i ? "new1" : "new0", SIZE) == 0);
		CHECK(rig->vdisk_id > vdisk && rig->vdisk_id > first.vdisk_id);
		CHECK(engine_rig_open_vdisk(rig) == 0);
		CHECK(write_some(rig) == 0);
		CHECK(engine_rig_close_vdisk(rig) == 0);
		engine_rig_stop(rig);
		use_pool(rig, pool, container, vdisk);
	}
	CHECK(lose_catalog(rig) == 0);
	CHECK(rebuild(rig) == 0 && test.made == 4 && test.doubts == 0);
	serve(rig);
	return 0;
}

static int serve_again(struct engine_rig *rig)
{
	CHECK(is_there(CATALOG));
	serve(rig);
	return 0;
}

/* A crash anywhere in a forced run over a sound catalog leaves one that can be used. */
static void crash_forced(struct engine_rig *rig, uint64_t step)
{
	bool is_dead = true;

	test.force = true;
	for (uint64_t n = 1; is_dead; n += step) {
		sim_crash_nth(rig->sim.sim, n, n % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
		(void)engine_rig_call(rig, rebuild); /* what it leaves is looked at */
		is_dead = sim_is_dead(rig->sim.sim);
		sim_crash_nth(rig->sim.sim, 0, SIM_CRASH_POWER);
		if (is_dead)
			engine_rig_crashed(rig);
		CHECK(engine_rig_call(rig, empty_scratch) == 0);
		CHECK(engine_rig_call(rig, serve_again) == 0);
	}
}

#define MARK "a row that is to be damaged"

/* What a catalog has lost, sarsen-fsck puts into unclaimed/. */
static void forget_log(struct engine_rig *rig, const struct found *log, uint64_t group)
{
	struct catalog_change changes[3] = {
		{.kind = CATALOG_DELETE, .key = catalog_key(CATALOG_EGROUP)},
		{.kind = CATALOG_DELETE, .key = catalog_key(CATALOG_EGFILE)},
		{.kind = CATALOG_PUT,
		 .key = catalog_key(CATALOG_EVENT),
		 .value = MARK,
		 .length = sizeof(MARK)},
	};

	for (unsigned i = 0; i < 2; i++) {
		catalog_key_add(&changes[i].key, rig->pool_id);
		catalog_key_add(&changes[i].key, rig->vdisk_id);
		catalog_key_add(&changes[i].key, i ? log->id : group);
	}
	catalog_key_add(&changes[2].key, 5);
	CHECK(catalog_commit(rig->catalog, changes, 3) == 0);
}

/* A worse one takes its place. */
static void put_aside(struct engine_rig *rig, const struct found *log)
{
	char aside[128], directory[128];

	name_aside(log, aside);
	put_name(directory, sizeof(directory), "", "unclaimed");
	CHECK(io_directory_make(directory) == 0 && io_directory_sync_above(directory) == 0);
	CHECK(io_rename(log->path, aside) == 0 && io_directory_sync(directory) == 0);
	copy_to(aside, log->path, log->size);
	CHECK(io_directory_sync_above(log->path) == 0);
	CHECK(sim_disk_flip(rig->sim.sim, log->path, 4096 + 700, 1) == 0);
}

/* Wherever it is in the file: in pages that count, and in others. */
static unsigned damage_mark(struct engine_rig *rig, const char *path)
{
	struct world_stat stat;
	struct world_file *file;
	unsigned hits = 0;

	CHECK(io_stat(path, &stat) == 0);
	CHECK(io_open(path, WORLD_FILE_READ_ONLY, &file) == 0);
	for (uint64_t at = 0; at < stat.size_bytes; at += MIB / 2) {
		const char *end = (char *)buffer + io_read(file, buffer, MIB, at);

		for (const char *hit = (char *)buffer; hit < end; hit++) {
			hit = memmem(hit, (size_t)(end - hit), MARK, strlen(MARK));
			if (!hit)
				break;
			hits++;
			if (hit < (char *)buffer + MIB / 2)
				CHECK(sim_disk_flip(rig->sim.sim, path,
						    at + (uint64_t)(hit - (char *)buffer) + 3,
						    2) == 0);
		}
	}
	CHECK(io_close(file) == 0);
	return hits;
}

/* The only log is in unclaimed/, and the old catalog does not know it; a bad copy is in groups/. */
static int make_old(struct engine_rig *rig)
{
	struct record_header_disk *header = (void *)buffer;
	struct found log = find_newest(true);

	CHECK(engine_rig_start(rig) == 0);
	if (test.old == OLD_MIRROR)
		CHECK(catalog_mirror_add(rig->catalog, engine_rig_directory(0, 0)) == 0);
	read_blocks(log.path, header, 0, 1);
	forget_log(rig, &log, le64toh(header->group));
	if (test.old == OLD_MIRROR)
		catalog_mirror_wait(rig->catalog);
	engine_rig_stop(rig);
	put_aside(rig, &log);
	if (test.old == OLD_MIRROR)
		return lose_catalog(rig);
	if (test.old == OLD_ROW_DAMAGED)
		CHECK(damage_mark(rig, CATALOG) + damage_mark(rig, CATALOG "-wal") > 0);
	return 0;
}

/* A daemon, on whatever is there; it sweeps. */
static int run_daemon(struct engine_rig *rig)
{
	int r = engine_rig_start(rig);

	CHECK(r == 0 || (r == -ENOENT && test.old == OLD_MIRROR));
	engine_rig_stop(rig);
	return 0;
}

static int rebuild_again(struct engine_rig *rig)
{
	(void)empty_scratch(rig);
	test.force = true;
	CHECK(rebuild(rig) == 0 && test.made == 1 && test.doubts == 0);
	serve(rig);
	return 0;
}

static uint64_t operations; /* of the last rebuild */

/* A crash anywhere, a daemon that starts on what it left, and another run: all is there. */
static bool crash_once(enum old_catalog old, uint64_t n)
{
	struct engine_rig *rig = &test.rig;
	bool is_dead;

	start_case(1);
	test.old = old;
	test.force = old != OLD_ROW_DAMAGED;
	CHECK(engine_rig_call(rig, make_old) == 0);
	sim_crash_nth(rig->sim.sim, n, n % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
	(void)engine_rig_call(rig, rebuild); /* what it leaves is looked at */
	is_dead = sim_is_dead(rig->sim.sim);
	operations = n - sim_crash_left(rig->sim.sim);
	sim_crash_nth(rig->sim.sim, 0, SIM_CRASH_POWER);
	if (is_dead)
		engine_rig_crashed(rig);
	CHECK(is_dead || test.made == 1);
	CHECK(engine_rig_call(rig, run_daemon) == 0);
	CHECK(engine_rig_call(rig, rebuild_again) == 0);
	return is_dead;
}

static bool crash_next(enum old_catalog old, uint64_t n)
{
	engine_rig_done(&test.rig);
	return crash_once(old, n);
}

/* What changes the state comes last: names of files, then the catalog. Before that all is read, and
 * a new database is filled beside the old one, of which each operation is like the one before. */
static void crash_each(enum old_catalog old, uint64_t last, uint64_t each, uint64_t step)
{
	uint64_t count;

	CHECK(!crash_next(old, UINT32_MAX));
	count = operations;
	CHECK(count > last);
	for (uint64_t n = 1 + test_offset % step; n <= count - last; n += step)
		CHECK(crash_next(old, n));
	for (uint64_t n = count - last + 1; n <= count; n += each)
		CHECK(crash_next(old, n));
}

static int test_some_crashes(struct engine_rig *rig)
{
	crash_forced(rig, 61);
	crash_each(OLD_MIRROR, 24, 2, 601);
	crash_each(OLD_ROW_DAMAGED, 50, 2, 601);
	return 0;
}

static int test_each_crash(struct engine_rig *rig)
{
	crash_forced(rig, 61);
	for (enum old_catalog old = OLD_WHOLE; old <= OLD_ROW_DAMAGED; old++)
		crash_each(old, 100, 1, 61);
	return 0;
}

static const struct fsck_case cases[] = {
	{"passing-errors", 1, 1, .phases = {test_passing_errors}},
	{"mirrors", 1, 1, .phases = {test_mirrors}},
	{"some-errors", 1, 1, .phases = {test_some_errors}},
	{"each-error", 1, 1, .phases = {test_each_error}, .is_slow = true},
	{"first-header", 1, 1, .phases = {test_first_header}},
	{"aside", 1, 1, .phases = {test_aside}},
	{"twice", 1, 1, .phases = {test_twice}},
	{"forged", 1, 1, .phases = {test_forged}},
	{"forged-first", 1, 1, .phases = {test_forged_first}},
	{"zeroed", 1, 1, .phases = {test_zeroed}},
	{"garbage", 1, 1, .phases = {test_garbage}},
	{"lost-write", 1, 1, .phases = {test_lost_write}},
	{"lost-tail", 1, 1, .outer = test_lost_tail},
	{"pages-lost", 1, 1, .phases = {test_pages_lost}},
	{"pages-left", 1, 1, .phases = {test_pages_left}},
	{"old-log", 1, 1, .phases = {test_old_log}},
	{"old-map", 1, 1, .phases = {test_old_map}},
	{"size", 1, 1, .phases = {test_size}},
	{"level", 1, 1, .phases = {test_level}},
	{"short-copy", 2, 2, .phases = {test_short_copy}},
	{"number-twice", 2, 2, .phases = {test_number_twice}},
	{"pools", 1, 1, .phases = {test_pools}},
	{"some-crashes", 1, 1, .outer = test_some_crashes},
	{"each-crash", 1, 1, .outer = test_each_crash, .is_slow = true},
};

static void run_case(const struct fsck_case *one)
{
	struct engine_rig *rig = &test.rig;

	start_case(one->disks);
	CHECK((one->outer ? one->outer(rig) : engine_rig_call(rig, one->phases[0])) == 0);
	engine_rig_done(rig);
}

int main(int argc, char **argv)
{
	if (argc > 2)
		test_offset = strtoull(argv[2], NULL, 10);
	return fsck_cases_run(argc, argv, cases, ARRAY_SIZE(cases), run_case);
}
