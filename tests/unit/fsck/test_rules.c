/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of the check and of making a catalog again that sound states and random damage do not need:
 * each has a state that is made so that the rule alone decides. In the simulated world.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "catalog/mirror.h"
#include "egroup/record.h"
#include "egroup/rows.h"
#include "egroup/store_priv.h"
#include "fsck/fsck.h"
#include "fsck/fsck_rebuild.h"
#include "pool/container.h"
#include "pool/pool_disk.h"
#include "pool/pool_rows.h"
#include "reactor/io.h"
#include "vdisk/page.h"
#include "vdisk/vdisk_priv.h"

#include "fsck_cases.h"

#define FILES 64u
#define BYTE  0x5a

static struct {
	struct engine_rig rig;
	bool force, repair;
	unsigned refused, doubts, made;
	char made_names[4][POOL_NAME_MAX + 1];
	unsigned found[FSCK_KIND_COUNT], done[FSCK_KIND_COUNT];
	struct fsck_report report;
} test;

/* What the two programs do */

static void note(void *arg, const struct fsck_rebuild_note *note)
{
	(void)arg;
	test.refused += note->kind == FSCK_REBUILD_REFUSED;
	test.doubts += note->kind == FSCK_REBUILD_DOUBT;
	if (getenv("SHOW"))
		fprintf(stderr, "%d %s: %s\n", note->kind, note->object, note->text);
}

static void note_vdisk(void *arg, const struct fsck_rebuild_vdisk *vdisk)
{
	(void)arg;
	CHECK(test.made < ARRAY_SIZE(test.made_names));
	snprintf(test.made_names[test.made++], POOL_NAME_MAX + 1, "%s", vdisk->name);
}

static int rebuild_of(char *const *directories, size_t count)
{
	struct fsck_rebuild_report report;
	const struct fsck_rebuild_options options = {
		.world = sim_world(test.rig.sim.sim),
		.catalog = CATALOG,
		.vfs = SIM_VFS_NAME,
		.scratch = SCRATCH,
		.directories = directories,
		.directory_count = count,
		.force = test.force,
		.note = note,
		.vdisk = note_vdisk,
	};

	test.refused = test.doubts = test.made = 0;
	return fsck_rebuild(&options, &report);
}

static int rebuild(void)
{
	char *directories[ENGINE_RIG_DISKS_MAX];

	for (unsigned i = 0; i < test.rig.disks; i++)
		directories[i] = (char *)engine_rig_directory(i, 0);
	return rebuild_of(directories, test.rig.disks);
}

static void on_finding(void *arg, const struct fsck_finding *finding)
{
	(void)arg;
	test.found[finding->kind]++;
	test.done[finding->kind] += finding->done != NULL;
	if (getenv("SHOW"))
		fprintf(stderr, "%s: %s: %s\n", finding->code, finding->object, finding->cause);
}

static void check(void)
{
	const struct fsck_options options = {.world = sim_world(test.rig.sim.sim),
					     .catalog = CATALOG,
					     .vfs = SIM_VFS_NAME,
					     .scratch = SCRATCH,
					     .repair = test.repair,
					     .finding = on_finding};

	memset(test.found, 0, sizeof(test.found));
	memset(test.done, 0, sizeof(test.done));
	CHECK(fsck_run(&options, &test.report) == 0);
}

/* States */

static void write_all(struct engine_rig *rig, uint8_t byte, uint64_t from, uint64_t end)
{
	memset(buffer, byte, MIB);
	for (uint64_t at = from; at < end; at += MIB)
		CHECK(block_io(rig->volume, BLOCK_WRITE, 0, buffer, MIB, at) == 0);
	CHECK(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0) == 0);
}

static void verify(struct engine_rig *rig, uint64_t end)
{
	for (uint64_t at = 0; at < end; at += MIB) {
		CHECK(block_io(rig->volume, BLOCK_READ, 0, buffer, MIB, at) == 0);
		CHECK(buffer[0] == BYTE && memcmp(buffer, buffer + 1, MIB - 1) == 0);
	}
}

static void make(struct engine_rig *rig)
{
	CHECK(engine_rig_bring_up(rig) == 0);
	CHECK(io_directory_make(SCRATCH) == 0);
	write_all(rig, BYTE, 0, 8 * MIB);
}

static void stop(struct engine_rig *rig)
{
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
}

static void lose_catalog(void)
{
	CHECK(io_unlink(CATALOG) == 0);
	(void)io_unlink(CATALOG "-wal"); /* it need not be there */
}

static void serve(struct engine_rig *rig)
{
	CHECK(engine_rig_open_again(rig) == 0);
	verify(rig, 8 * MIB);
}

struct file {
	char path[128];
	uint64_t id, size;
	bool is_log;
};

/* The group files of one disk, by the stream of their first records. */
static unsigned find_files(unsigned disk, struct file files[FILES])
{
	struct record_header_disk *header = aligned_alloc(4096, 4096);
	const struct record_id log = {.stream = RECORD_STREAM_LOG};
	struct world_names names;
	unsigned count = 0;
	char directory[64];

	CHECK(header);
	for (unsigned i = 0; i < 256; i++) {
		snprintf(directory, sizeof(directory), "%s/groups/%02x",
			 engine_rig_directory(disk, 0), i);
		CHECK(io_directory_list(directory, &names) == 0);
		for (size_t n = 0; n < names.count; n++) {
			struct file *file = &files[count++];
			struct world_stat stat;
			struct world_file *handle;

			CHECK(count <= FILES);
			snprintf(file->path, sizeof(file->path), "%s/%s", directory,
				 names.names[n]);
			file->id = strtoull(names.names[n], NULL, 16);
			CHECK(io_stat(file->path, &stat) == 0);
			CHECK(io_open(file->path, WORLD_FILE_READ_ONLY, &handle) == 0);
			CHECK(io_read_exactly(handle, header, 4096, 0) == 0);
			CHECK(io_close(handle) == 0);
			file->size = stat.size_bytes;
			file->is_log = record_check(header, &log) == 0;
		}
		world_names_free(&names);
	}
	free(header);
	return count;
}

static struct file first_log(unsigned disk)
{
	static struct file files[FILES];
	unsigned count = find_files(disk, files), at = 0;

	while (at < count && !files[at].is_log)
		at++;
	CHECK(at < count);
	return files[at];
}

static void resize(const char *path, uint64_t bytes, enum world_resize how)
{
	struct world_file *file;

	CHECK(io_open(path, 0, &file) == 0);
	CHECK(io_resize(file, bytes, how) == 0);
	CHECK(io_sync(file) == 0);
	CHECK(io_close(file) == 0);
}

/* Making a catalog again */

/* The first was renamed after its checkpoint, and the second has its old name: each gets one. */
static int test_names(struct engine_rig *rig)
{
	struct vdisk_info info;
	uint64_t first = 0;

	make(rig);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	first = rig->vdisk_id;
	CHECK(vdisk_rename(rig->catalog, first, "other") == 0);
	CHECK(engine_rig_create_vdisk(rig, "disk", SIZE) == 0);
	CHECK(engine_rig_open_vdisk(rig) == 0);
	write_all(rig, BYTE, 0, 8 * MIB);
	stop(rig);
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 2);
	CHECK(strcmp(test.made_names[0], test.made_names[1]) != 0);
	check();
	CHECK(test.report.errors + test.report.minors == 0);
	CHECK(engine_rig_start(rig) == 0);
	for (unsigned i = 0; i < 2; i++)
		CHECK(vdisk_find(rig->catalog, rig->container_id, test.made_names[i], &info) == 0 &&
		      info.id == (i ? rig->vdisk_id : first));
	engine_rig_stop(rig);
	return 0;
}

/* As many copies as there were stay, and those that are made from now on have as many. */
static int test_factor(struct engine_rig *rig)
{
	struct vdisk_redundancy sum;
	struct container_policy policy;

	make(rig);
	stop(rig);
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 1);
	serve(rig);
	CHECK(container_policy_get(rig->catalog, rig->container_id, rig->vdisk_id, &policy) == 0);
	CHECK(policy.replication_factor == 2);
	vdisk_get_redundancy(rig->vdisk, &sum);
	CHECK(sum.factor == 2 && sum.whole > 0 && sum.degraded + sum.to_drop == 0);
	stop(rig);
	return 0;
}

/* A mirror knows more than groups do. */
static int test_mirror(struct engine_rig *rig)
{
	make(rig);
	CHECK(catalog_mirror_add(rig->catalog, engine_rig_directory(1, 0)) == 0);
	catalog_mirror_wait(rig->catalog);
	stop(rig);
	lose_catalog();
	CHECK(rebuild() == -EEXIST && test.refused == 1);
	test.force = true;
	CHECK(rebuild() == 0 && test.made == 1);
	serve(rig);
	stop(rig);
	return 0;
}

/* What the log has of a part that was added is there. */
static int test_grown(struct engine_rig *rig)
{
	make(rig);
	CHECK(vdisk_checkpoint(rig->vdisk) == 0);
	CHECK(vdisk_resize(rig->vdisk, 2 * SIZE) == 0);
	write_all(rig, BYTE, 2 * SIZE - 2 * MIB, 2 * SIZE);
	return 0;
}

static int test_grown_lost(struct engine_rig *rig)
{
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 1);
	serve(rig);
	CHECK(block_io(rig->volume, BLOCK_READ, 0, buffer, MIB, 2 * SIZE - MIB) == 0);
	CHECK(buffer[0] == BYTE && memcmp(buffer, buffer + 1, MIB - 1) == 0);
	stop(rig);
	return 0;
}

/* What the row of that file says. */
static uint64_t size_in_row(struct engine_rig *rig, uint64_t file, struct pool_copies *ret_copies)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = catalog_key(CATALOG_EGFILE);
	uint64_t id, size = 0, found = 0;
	struct pool_copies copies;

	CHECK(engine_rig_start(rig) == 0);
	CHECK(catalog_scan(rig->catalog, &prefix, NULL, 100, &rows) == 0);
	for (size_t i = 0; i < rows.count; i++) {
		CHECK(pool_rows_decode_file(&rows.rows[i], &id, &size, &copies) == 0);
		if (id != file)
			continue;
		found = size;
		*ret_copies = copies;
	}
	engine_rig_stop(rig);
	return found;
}

/* A crash came between growing one copy and the other: the row says what both have. */
static int test_sizes(struct engine_rig *rig)
{
	struct pool_copies copies = {0};
	struct file grown;

	make(rig);
	stop(rig);
	for (unsigned disk = 0; disk < 2; disk++) {
		grown = first_log(disk);
		resize(grown.path, grown.size + (1 + disk) * MIB, WORLD_RESIZE_RESERVE);
	}
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 1 && test.doubts == 0);
	CHECK(size_in_row(rig, grown.id, &copies) == grown.size + MIB && copies.count == 2);
	serve(rig);
	stop(rig);
	return 0;
}

/* A copy with a bad block does not count beside one without. */
static int test_bad_copy(struct engine_rig *rig)
{
	struct egroup_file *file;
	uint64_t disk = 0;
	struct file bad;
	bool seen = false;

	make(rig);
	stop(rig);
	bad = first_log(0);
	CHECK(sim_disk_flip(rig->sim.sim, bad.path, 100000, 3) == 0);
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 1 && test.doubts == 0);
	CHECK(engine_rig_open_again(rig) == 0);
	CHECK(pool_disk_find(rig->pool, engine_rig_directory(1, 0), &disk) == 0);
	LIST_FOR_EACH (&rig->vdisk->store->files, file, struct egroup_file, link)
		if (file->id == bad.id) {
			CHECK(file->copies.count == 1 && file->copies.disks[0] == disk);
			seen = true;
		} else {
			CHECK(file->copies.count == 2);
		}
	CHECK(seen);
	verify(rig, 8 * MIB);
	stop(rig);
	return 0;
}

/* One disk is not two. */
static int test_twice(struct engine_rig *rig)
{
	char *directories[] = {(char *)engine_rig_directory(0, 0),
			       (char *)engine_rig_directory(0, 0)};

	make(rig);
	stop(rig);
	lose_catalog();
	CHECK(rebuild_of(directories, 2) == -EEXIST && test.refused == 1);
	return 0;
}

/* Ids are not given again that a spare file alone still shows. */
static int test_spares(struct engine_rig *rig)
{
	const uint64_t largest = UINT64_C(1) << 40;
	struct egroup_file *file;
	char path[128];
	struct world_file *handle;

	make(rig);
	stop(rig);
	snprintf(path, sizeof(path), "%s/spare/%016" PRIx64 ".sp", engine_rig_directory(0, 0),
		 largest);
	CHECK(io_open(path, WORLD_FILE_CREATE, &handle) == 0);
	CHECK(io_resize(handle, MIB, WORLD_RESIZE_RESERVE) == 0 && io_close(handle) == 0);
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 1);
	serve(rig);
	write_all(rig, BYTE, 0, MIB); /* into a new file */
	file = LIST_ENTRY(rig->vdisk->store->files.head.prev, struct egroup_file, link);
	CHECK(file->id > largest);
	stop(rig);
	return 0;
}

/* Damages the newest page that was a root. */
static void flip_root(struct engine_rig *rig)
{
	struct page_disk *page = aligned_alloc(4096, 4096);
	static struct file files[FILES];
	unsigned count = find_files(0, files);
	uint64_t newest = 0, newest_at = 0;
	const char *path = NULL;

	CHECK(page);
	for (unsigned i = 0; i < count; i++) {
		struct world_file *file;

		if (files[i].is_log)
			continue;
		CHECK(io_open(files[i].path, WORLD_FILE_READ_ONLY, &file) == 0);
		for (uint64_t at = 0; io_read(file, page, 4096, at) == 4096; at += 4096) {
			if (le32toh(page->magic) != PAGE_MAGIC || page->level == 0 ||
			    page->index != 0 || le64toh(page->lsn) < newest)
				continue;
			newest = le64toh(page->lsn);
			newest_at = at;
			path = files[i].path;
		}
		CHECK(io_close(file) == 0);
	}
	CHECK(path && sim_disk_flip(rig->sim.sim, path, newest_at + 2000, 3) == 0);
	free(page);
}

/* Log files that were not there before. */
static void remove_new_logs(unsigned disk, const struct file *before, unsigned count)
{
	static struct file files[FILES];
	unsigned all = find_files(disk, files), removed = 0;

	for (unsigned i = 0; i < all; i++) {
		bool is_new = files[i].is_log;

		for (unsigned n = 0; n < count; n++)
			is_new &= files[i].id != before[n].id;
		if (is_new)
			CHECK(io_unlink(files[i].path) == 0);
		removed += is_new;
	}
	CHECK(removed > 0);
}

/* The newest checkpoint is damaged, and what was written before it is gone: what the log has from
 * its beginning is an older state, and is not taken for the newest. */
static int test_older(struct engine_rig *rig)
{
	static struct file before[FILES];
	unsigned count;

	make(rig);
	write_all(rig, BYTE, 8 * MIB, SIZE / 2);
	CHECK(vdisk_checkpoint(rig->vdisk) == 0);
	count = find_files(0, before);
	for (uint64_t at = 0; at < SIZE / 2; at += 2 * MIB) /* so that no group is dead */
		write_all(rig, BYTE + 1, at, at + MIB);
	stop(rig);
	remove_new_logs(0, before, count);
	flip_root(rig);
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 0 && test.doubts > 0);
	return 0;
}

/* The last two headers of records in a file of the log. */
struct last_records {
	uint64_t at, before, lsn;
};

static struct last_records last_records(const char *path)
{
	struct record_header_disk *header = aligned_alloc(4096, 4096);
	struct last_records last = {0};
	struct world_file *file;

	CHECK(header && io_open(path, WORLD_FILE_READ_ONLY, &file) == 0);
	for (uint64_t at = 0; io_read(file, header, 4096, at) == 4096; at += 4096) {
		const struct record_id id = {.stream = RECORD_STREAM_LOG,
					     .slot = (uint32_t)(at / 4096)};

		if (record_check(header, &id) < 0)
			continue;
		last.before = last.at;
		last.at = at;
		last.lsn = le64toh(header->lsn);
	}
	CHECK(io_close(file) == 0);
	free(header);
	return last;
}

/* The place of the last header but one. */
static uint64_t last_but_one(const char *path)
{
	struct last_records last = last_records(path);

	CHECK(last.before > 0);
	return last.before;
}

/* A record behind which a group ended when the power went, with one more there that was whole by
 * chance: a checkpoint has what came instead, and nobody names either. */
static int test_torn(struct engine_rig *rig)
{
	struct file log;

	make(rig);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	log = first_log(0);
	CHECK(engine_rig_open_vdisk(rig) == 0);
	write_all(rig, BYTE, MIB / 2, 8 * MIB); /* in other groups */
	stop(rig);
	CHECK(sim_disk_flip(rig->sim.sim, log.path, last_but_one(log.path) + 8, 3) == 0);
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 1 && test.doubts == 0);
	check();
	CHECK(test.report.errors + test.report.minors == 0);
	serve(rig);
	stop(rig);
	return 0;
}

/* Another node's pool has a vDisk of the same number. */
static void make_other_node(struct engine_rig *rig)
{
	const struct catalog_options options = {
		.path = CATALOG, .vfs = SIM_VFS_NAME, .create = true};
	struct pool_spec spec = {
		.name = "none", .directory = ENGINE_RIG_DISK "/none", .capacity_bytes = CAPACITY};
	struct world *world = sim_world(rig->sim.sim);

	CHECK(catalog_open(world, &options, &rig->catalog) == 0);
	CHECK(pool_create(world, rig->catalog, &spec, &rig->pool_id) == 0);
	spec = (struct pool_spec){
		.name = "q", .directory = "/p1/other", .capacity_bytes = CAPACITY};
	CHECK(pool_create(world, rig->catalog, &spec, &rig->pool_id) == 0);
	CHECK(container_create(rig->catalog, world, rig->pool_id, "d", &rig->container_id) == 0);
	engine_rig_stop(rig);
	CHECK(engine_rig_start(rig) == 0);
	CHECK(engine_rig_create_vdisk(rig, "theirs", SIZE) == 0);
	CHECK(engine_rig_open_vdisk(rig) == 0);
	write_all(rig, BYTE + 1, 0, MIB);
	stop(rig);
}

static int test_two_nodes(struct engine_rig *rig)
{
	char *directories[] = {(char *)engine_rig_directory(0, 0), "/p1/other"};
	uint64_t id;

	make(rig);
	stop(rig);
	id = rig->vdisk_id;
	lose_catalog();
	make_other_node(rig);
	CHECK(rig->vdisk_id == id);
	lose_catalog();
	CHECK(rebuild_of(directories, 2) == 0 && test.made == 1 && test.doubts > 0);
	CHECK(strcmp(test.made_names[0], "disk") == 0);
	check();
	CHECK(test.report.errors == 0);
	return 0;
}

#define WRITES 5u

/* Writes that are under way when the process dies: the second disk has them, the first hangs. */
struct writer {
	struct fiber_task task;
	uint64_t at;
	bool ended;
};
static struct writer writers[WRITES];
static bool first_has_them;
static struct file files_then[FILES];
static unsigned file_count_then;

static int write_block(struct engine_rig *rig, uint8_t byte, uint64_t at)
{
	_cleanup_free_ void *block = aligned_alloc(4096, 4096);

	CHECK(block);
	memset(block, byte, 4096);
	return block_io(rig->volume, BLOCK_WRITE, 0, block, 4096, at);
}

static uint8_t read_block(struct engine_rig *rig, uint64_t at)
{
	CHECK(block_io(rig->volume, BLOCK_READ, 0, buffer, 4096, at) == 0);
	CHECK(memcmp(buffer, buffer + 1, 4095) == 0);
	return buffer[0];
}

static void writer_run(struct fiber_task *task)
{
	struct writer *writer = CONTAINER_OF(task, struct writer, task);

	CHECK(write_block(&test.rig, BYTE + 1, writer->at) < 0);
	writer->ended = true;
}

static int begin_writes(struct engine_rig *rig)
{
	make(rig);
	file_count_then = find_files(0, files_then);
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(0), true);
	for (unsigned i = 0; i < WRITES; i++) {
		writers[i] = (struct writer){.task = {.run = writer_run}, .at = i * 4096};
		fiber_spawn(reactor_current(), FIBER_DATA, &writers[i].task);
		fiber_sleep(10 * NSEC_PER_MSEC);
	}
	return 0;
}

static int end_writes(struct engine_rig *rig)
{
	(void)rig;
	for (unsigned i = 0; i < WRITES; i++)
		while (!writers[i].ended)
			fiber_yield();
	return 0;
}

/* A recovery that has the first disk alone ends the log there: what the other has is not to count
 * any more. */
static void recover_without(struct engine_rig *rig)
{
	sim_disk_set_hung(rig->sim.sim, engine_rig_disk(0), false);
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), true);
	CHECK(engine_rig_open_again(rig) == 0);
	first_has_them = read_block(rig, 0) != BYTE;
}

/* ... so says what comes after it, in the log: */
static int write_after(struct engine_rig *rig)
{
	recover_without(rig);
	CHECK(write_block(rig, BYTE + 2, 0) == 0);
	return block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
}

static int lose_and_find(struct engine_rig *rig)
{
	sim_disk_set_missing(rig->sim.sim, engine_rig_disk(1), false);
	lose_catalog();
	CHECK(rebuild() == 0 && test.made == 1);
	CHECK(engine_rig_open_again(rig) == 0);
	return 0;
}

static int expect_written_after(struct engine_rig *rig)
{
	CHECK(lose_and_find(rig) == 0);
	CHECK(read_block(rig, 0) == BYTE + 2);
	for (unsigned i = 1; i < WRITES && !first_has_them; i++)
		CHECK(read_block(rig, i * 4096) == BYTE);
	stop(rig);
	return 0;
}

/* ... or a checkpoint alone, for the group of the log had nothing that anybody needs. */
static int unmap_after(struct engine_rig *rig)
{
	recover_without(rig);
	CHECK(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 4096, 0) == 0);
	stop(rig);
	remove_new_logs(0, files_then, file_count_then);
	return 0;
}

static int expect_unmapped_after(struct engine_rig *rig)
{
	CHECK(lose_and_find(rig) == 0);
	CHECK(read_block(rig, 0) == 0);
	for (unsigned i = 1; i < WRITES && !first_has_them; i++)
		CHECK(read_block(rig, i * 4096) == BYTE);
	stop(rig);
	return 0;
}

/* The check */

/* Every copy is read. */
static int test_second_copy(struct engine_rig *rig)
{
	make(rig);
	stop(rig);
	check();
	CHECK(test.report.errors + test.report.minors == 0);
	for (unsigned disk = 0; disk < 2; disk++) {
		struct file file = first_log(disk);

		CHECK(sim_disk_flip(rig->sim.sim, file.path, 100000, 3) == 0);
		check();
		CHECK(test.found[FSCK_COPY] == 1);
		CHECK(sim_disk_flip(rig->sim.sim, file.path, 100000, 3) == 0);
	}
	return 0;
}

/* Each is flushed before the next one is written, whose header tells of it. */
static int write_flushed(struct engine_rig *rig)
{
	make(rig);
	for (unsigned i = 0; i < 3; i++) {
		CHECK(block_io(rig->volume, BLOCK_WRITE, 0, buffer, 8192, i * MIB) == 0);
		CHECK(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0) == 0);
	}
	return 0;
}

/* The file that the log ends in. */
static struct file end_of_log(unsigned disk)
{
	static struct file files[FILES];
	unsigned count = find_files(disk, files), newest = FILES;
	uint64_t lsn = 0;

	for (unsigned i = 0; i < count; i++) {
		struct last_records last = {0};

		if (files[i].is_log)
			last = last_records(files[i].path);
		if (last.lsn > lsn) {
			lsn = last.lsn;
			newest = i;
		}
	}
	CHECK(newest < FILES);
	return files[newest];
}

/* What the last record and the one before it hold. */
static void tear_end(struct engine_rig *rig, const char *path)
{
	struct last_records last = last_records(path);

	CHECK(last.before > 0);
	CHECK(sim_disk_flip(rig->sim.sim, path, last.before + 5000, 3) == 0);
	CHECK(sim_disk_flip(rig->sim.sim, path, last.at + 5000, 3) == 0);
}

/* A header counts for what it calls durable, though its own record is torn: so it does when the
 * vDisk is opened. */
static int test_torn_end(struct engine_rig *rig)
{
	tear_end(rig, end_of_log(0).path);
	check();
	CHECK(test.found[FSCK_LOG] == 1);
	CHECK(engine_rig_open_again(rig) == -EBADMSG);
	engine_rig_stop(rig);
	return 0;
}

/* What the copy that is there lacks of what was flushed, the one that is missing may have. */
static int test_missing_end(struct engine_rig *rig)
{
	struct pool_copies copies = {0};
	struct file file = end_of_log(0);

	CHECK(io_unlink(end_of_log(1).path) == 0);
	tear_end(rig, file.path);
	test.repair = true;
	check();
	CHECK(test.found[FSCK_LOG] == 1);
	CHECK(test.found[FSCK_FILE_MISSING] == 1 && test.done[FSCK_FILE_MISSING] == 0);
	CHECK(size_in_row(rig, file.id, &copies) > 0);
	CHECK(copies.count == 2 && copies.stale == 0);
	return 0;
}

static void set_read_only(struct engine_rig *rig, bool read_only)
{
	for (unsigned disk = 0; disk < 2; disk++)
		sim_disk_set_read_only(rig->sim.sim, engine_rig_disk(disk), read_only);
}

/* Each copy has something right that the other has not, and neither can be written: both count. */
static int test_each_lacks(struct engine_rig *rig)
{
	struct pool_copies copies = {0};
	struct file file;

	make(rig);
	stop(rig);
	for (unsigned disk = 0; disk < 2; disk++) {
		file = first_log(disk);
		CHECK(sim_disk_flip(rig->sim.sim, file.path, 100000 + disk * 100000, 3) == 0);
	}
	set_read_only(rig, true);
	test.repair = true;
	check();
	CHECK(test.found[FSCK_COPY] == 2 && test.done[FSCK_COPY] == 0);
	set_read_only(rig, false);
	CHECK(size_in_row(rig, file.id, &copies) > 0);
	CHECK(copies.count == 2 && copies.stale == 0);
	serve(rig);
	stop(rig);
	return 0;
}

static int test_short_file(struct engine_rig *rig)
{
	struct file file;

	make(rig);
	stop(rig);
	file = first_log(1);
	resize(file.path, 64 * KIB, WORLD_RESIZE_TRUNCATE);
	check();
	CHECK(test.found[FSCK_FILE_MISSING] == 1);
	CHECK(io_unlink(file.path) == 0);
	check();
	CHECK(test.found[FSCK_FILE_MISSING] == 1);
	return 0;
}

static int test_left_file(struct engine_rig *rig)
{
	struct world_file *file;
	char path[128];

	make(rig);
	stop(rig);
	snprintf(path, sizeof(path), "%s/groups/77/0000000000007777.eg",
		 engine_rig_directory(1, 0));
	CHECK(io_open(path, WORLD_FILE_CREATE, &file) == 0 && io_close(file) == 0);
	check();
	CHECK(test.found[FSCK_FILE_LEFT] == 1);
	return 0;
}

static void swap(const char *a, const char *b)
{
	CHECK(io_rename(a, "/p0/swap") == 0);
	CHECK(io_rename(b, a) == 0);
	CHECK(io_rename("/p0/swap", b) == 0);
}

/* Where a disk's directory should be there is that of another pool, whose disk has its number. */
static int test_label(struct engine_rig *rig)
{
	struct world_file *file;

	make(rig);
	stop(rig);
	CHECK(io_rename("/p0/pool0", "/p0/away") == 0);
	CHECK(io_rename(CATALOG, ENGINE_RIG_DISK "/away.db") == 0);
	CHECK(io_rename(CATALOG "-wal", ENGINE_RIG_DISK "/away.db-wal") == 0);
	CHECK(engine_rig_create(rig) == 0);
	lose_catalog();
	CHECK(io_rename(ENGINE_RIG_DISK "/away.db", CATALOG) == 0);
	CHECK(io_rename(ENGINE_RIG_DISK "/away.db-wal", CATALOG "-wal") == 0);
	check();
	CHECK(test.found[FSCK_DISK] == 1);
	swap("/p0/pool0", "/p0/away");
	check();
	CHECK(test.found[FSCK_DISK] == 0);
	CHECK(io_open("/p0/pool0/label", 0, &file) == 0 && io_close(file) == 0);
	return 0;
}

/* A pool whose deletion was cut off may have disks without a label: the next start goes on. */
static int test_deleted(struct engine_rig *rig)
{
	uint8_t value[POOL_ROW_BYTES];
	struct catalog_change change = {
		.kind = CATALOG_PUT, .value = value, .length = sizeof(value)};
	const struct catalog_options options = {.path = CATALOG, .vfs = SIM_VFS_NAME};
	struct catalog_row raw;
	struct pool_row row;

	CHECK(engine_rig_create(rig) == 0 && io_directory_make(SCRATCH) == 0);
	CHECK(io_unlink("/p0/pool0/label") == 0);
	check();
	CHECK(test.found[FSCK_DISK] == 1);
	CHECK(catalog_open(sim_world(rig->sim.sim), &options, &rig->catalog) == 0);
	CHECK(pool_rows_get_pool(rig->catalog, 1, &raw, &row) == 0);
	row.deleting = true;
	pool_rows_encode_pool(&row, value);
	change.key = raw.key;
	CHECK(catalog_commit(rig->catalog, &change, 1) == 0);
	catalog_row_done(&raw);
	engine_rig_stop(rig);
	check();
	CHECK(test.found[FSCK_DISK] == 0);
	return 0;
}

/* Rows of that table of the vDisk become nonsense. */
static void spoil_rows(struct engine_rig *rig, enum catalog_table table)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = catalog_key(table);

	CHECK(engine_rig_start(rig) == 0);
	CHECK(catalog_scan(rig->catalog, &prefix, NULL, 100, &rows) == 0 && rows.count > 0);
	for (size_t i = 0; i < rows.count; i++) {
		const struct catalog_change change = {.kind = CATALOG_PUT,
						      .key = rows.rows[i].key,
						      .value = "nonsense",
						      .length = 8};

		CHECK(catalog_commit(rig->catalog, &change, 1) == 0);
	}
	engine_rig_stop(rig);
}

static size_t count_rows(struct engine_rig *rig, enum catalog_table table)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = catalog_key(table);
	const struct catalog_options options = {.path = CATALOG, .vfs = SIM_VFS_NAME};

	CHECK(catalog_open(sim_world(rig->sim.sim), &options, &rig->catalog) == 0);
	CHECK(catalog_scan(rig->catalog, &prefix, NULL, 100, &rows) == 0);
	engine_rig_stop(rig);
	return rows.count;
}

/* What names what cannot be read is not wrong for that: a repair leaves it. */
static int test_damaged_rows(struct engine_rig *rig)
{
	size_t names, files;

	make(rig);
	stop(rig);
	names = count_rows(rig, CATALOG_NAME);
	files = count_rows(rig, CATALOG_EGFILE);
	test.repair = true;
	spoil_rows(rig, CATALOG_EGROUP);
	check();
	CHECK(test.found[FSCK_ROW] > 0);
	CHECK(count_rows(rig, CATALOG_EGFILE) == files);
	spoil_rows(rig, CATALOG_VDISK);
	check();
	CHECK(count_rows(rig, CATALOG_EGFILE) == files);
	CHECK(count_rows(rig, CATALOG_NAME) == names);
	return 0;
}

static const struct fsck_case cases[] = {
	{"names", 1, 1, .phases = {test_names}},
	{"factor", 2, 2, .phases = {test_factor}},
	{"mirror", 2, 1, .phases = {test_mirror}},
	{"grown", 1, 1, .phases = {test_grown, test_grown_lost}},
	{"sizes", 2, 2, .phases = {test_sizes}},
	{"bad-copy", 2, 2, .phases = {test_bad_copy}},
	{"twice", 1, 1, .phases = {test_twice}},
	{"spares", 1, 1, .phases = {test_spares}},
	{"older", 1, 1, .phases = {test_older}},
	{"torn", 1, 1, .phases = {test_torn}},
	{"two-nodes", 1, 1, .phases = {test_two_nodes}},
	{"recovery", 2, 2, .phases = {begin_writes, write_after, expect_written_after}, .seeds = 8},
	{"checkpoint", 2, 2, .phases = {begin_writes, unmap_after, expect_unmapped_after},
	 .seeds = 8},
	{"second-copy", 2, 2, .phases = {test_second_copy}},
	{"torn-end", 1, 1, .phases = {write_flushed, test_torn_end}},
	{"missing-end", 2, 2, .phases = {write_flushed, test_missing_end}},
	{"each-lacks", 2, 2, .phases = {test_each_lacks}},
	{"short-file", 2, 2, .phases = {test_short_file}},
	{"left-file", 2, 2, .phases = {test_left_file}},
	{"label", 1, 1, .phases = {test_label}},
	{"deleted", 1, 1, .phases = {test_deleted}},
	{"damaged-rows", 1, 1, .phases = {test_damaged_rows}},
};

/* Whether what the case is about came to pass. */
static bool run_case(const struct fsck_case *one, uint64_t seed)
{
	struct engine_rig *rig = &test.rig;

	memset(&test, 0, sizeof(test));
	first_has_them = false;
	engine_rig_init(rig, seed, false, CAPACITY);
	engine_rig_set_disks(rig, one->disks, one->factor);
	if (one->disks == 1)
		CHECK(sim_disk_add(rig->sim.sim, "/p1", CAPACITY + GIB) == 0);
	rig->vdisk_bytes = SIZE;
	for (unsigned i = 0; i < ARRAY_SIZE(one->phases) && one->phases[i]; i++) {
		if (i > 0) {
			sim_crash(rig->sim.sim, SIM_CRASH_PROCESS);
			if (one->phases[i - 1] == begin_writes)
				engine_rig_call(rig, end_writes);
			engine_rig_crashed(rig);
		}
		CHECK(engine_rig_call(rig, one->phases[i]) == 0);
	}
	engine_rig_done(rig);
	return !first_has_them;
}

static void run_seeds(const struct fsck_case *one)
{
	unsigned count = 0;

	for (uint64_t seed = 1; seed <= MAX(one->seeds, 1u); seed++)
		count += run_case(one, seed);
	CHECK(count > 0);
}

int main(int argc, char **argv)
{
	return fsck_cases_run(argc, argv, cases, ARRAY_SIZE(cases), run_seeds);
}
