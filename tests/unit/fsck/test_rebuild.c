/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool's catalog is lost and made again from the groups, in the simulated world, by seed: several
 * vDisks are written, trimmed, resized and compacted over a few sessions that end in all ways; then
 * the catalog goes. What comes back must pass a whole check, open, and have every byte: what was
 * written since the last flush may be there or not, also when a disk of several had been missing
 * for a while and its copies are stale. With damage on the disks, what is read must be right or
 * fail, and nothing that was deleted comes back.
 *
 *     test_rebuild [FIRST:COUNT]
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "egroup/record.h"
#include "engine_rig.h"
#include "fsck/fsck.h"
#include "fsck/fsck_rebuild.h"
#include "pool/pool_disk.h"
#include "reactor/io.h"
#include "vdisk/vdisk.h"

#define VDISKS   3
#define RUNS     24u
#define RUN      32u /* blocks that follow each other */
#define BLOCKS   (RUNS * RUN)
#define PENDING  12u
#define SIZE     (600 * MIB)
#define GROWN    (900 * MIB)
#define CAPACITY (512 * MIB)
#define SCRATCH  ENGINE_RIG_DISK "/scratch"
#define CATALOG  ENGINE_RIG_DISK "/catalog.db"

#define CHECK(condition)                                                                        \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "seed %" PRIu64 ": line %d: %s\n", test.seed, __LINE__, \
				#condition);                                                    \
			abort();                                                                \
		}                                                                               \
	} while (0)

struct block_model {
	uint32_t values[PENDING]; /* [0]: flushed; then what was written since, the newest last */
	unsigned count;
};

struct disk_model {
	uint64_t id, size;
	char name[16];
	struct vdisk *vdisk;
	struct block_model blocks[BLOCKS];
};

static struct {
	uint64_t seed;
	struct engine_rig rig;
	struct disk_model disks[VDISKS];
	uint32_t next_value;
	unsigned factor, disk_count;
	bool damages, forces, deletes;
	unsigned flaky; /* a disk that comes and goes, by its number + 1; 0 = none */
	bool is_missing;
	unsigned refused, doubts, made, errors;
	uint64_t flips, unread, reads, unmade, unopened;
} test;

static unsigned char *buffer;

static uint64_t draw(uint64_t bound)
{
	return sim_random_below(test.rig.sim.sim, bound);
}

static uint64_t place(const struct disk_model *disk, unsigned block)
{
	uint64_t stride = SIZE / RUNS & ~UINT64_C(0xfffff);

	(void)disk;
	return block / RUN * stride + block % RUN * UINT64_C(4096);
}

static void fill_value(unsigned char *at, uint32_t value, unsigned block)
{
	uint64_t *words = (uint64_t *)at;

	for (unsigned i = 0; i < 512; i++)
		words[i] = value ? value * UINT64_C(0x9E3779B97F4A7C15) + block + i : 0;
}

static bool has_value(const unsigned char *at, uint32_t value, unsigned block)
{
	static unsigned char expected[4096] __attribute__((aligned(8)));

	fill_value(expected, value, block);
	return memcmp(at, expected, 4096) == 0;
}

static int flush(struct disk_model *disk)
{
	int r = block_io(vdisk_volume(disk->vdisk), BLOCK_FLUSH, 0, NULL, 0, 0);

	for (unsigned i = 0; r == 0 && i < BLOCKS; i++) {
		struct block_model *block = &disk->blocks[i];

		block->values[0] = block->values[block->count - 1];
		block->count = 1;
	}
	return r;
}

static int write_some(struct disk_model *disk, bool zero)
{
	unsigned first = (unsigned)draw(BLOCKS), count = 1 + (unsigned)draw(RUN - first % RUN);
	int r;

	for (unsigned i = first; i < first + count; i++)
		if (disk->blocks[i].count == PENDING) {
			r = flush(disk);
			if (r < 0)
				return r;
		}
	for (unsigned i = first; i < first + count; i++) {
		struct block_model *block = &disk->blocks[i];
		uint32_t value = zero ? 0 : ++test.next_value;

		block->values[block->count++] = value;
		fill_value(buffer + (size_t)(i - first) * 4096, value, i);
	}
	return block_io(vdisk_volume(disk->vdisk), zero ? BLOCK_UNMAP : BLOCK_WRITE, 0,
			zero ? NULL : buffer, (size_t)count * 4096, place(disk, first));
}

/* A whole stretch, so that subtrees go; in steps that the model can follow. */
static int unmap_much(struct disk_model *disk)
{
	int r = flush(disk);
	unsigned first = (unsigned)draw(RUNS) * RUN, end = BLOCKS;
	uint64_t from = place(disk, first);

	if (r < 0)
		return r;
	for (unsigned i = first; i < end; i++)
		disk->blocks[i].values[disk->blocks[i].count++] = 0;
	r = block_io(vdisk_volume(disk->vdisk), BLOCK_UNMAP, 0, NULL, disk->size - from, from);
	return r < 0 ? r : flush(disk);
}

static int one_operation(struct disk_model *disk)
{
	uint64_t what = draw(100);
	int r = 0;

	if (what < 70)
		return write_some(disk, false);
	if (what < 80)
		return write_some(disk, true);
	if (what < 81)
		return unmap_much(disk);
	if (what < 88)
		return flush(disk);
	if (what < 93) {
		r = vdisk_checkpoint(disk->vdisk);
		return r < 0 && test.flaky ? 0 : r; /* the next will do */
	}
	if (what < 94 && disk->size != GROWN) {
		r = vdisk_resize(disk->vdisk, GROWN);
		if (r == 0)
			disk->size = GROWN;
		return r < 0 && test.flaky ? 0 : r;
	}
	if (what < 97)
		fiber_sleep(draw(3) * NSEC_PER_SEC);
	return 0;
}

static void set_missing(bool missing)
{
	if (!test.flaky || test.is_missing == missing)
		return;
	REACHED("test.disk-comes-and-goes");
	sim_disk_set_missing(test.rig.sim.sim, engine_rig_disk(test.flaky - 1), missing);
	test.is_missing = missing;
}

static void session(struct engine_rig *rig, unsigned operations)
{
	(void)rig;
	for (unsigned i = 0; i < operations; i++) {
		if (test.flaky && draw(40) == 0)
			set_missing(!test.is_missing);
		CHECK(one_operation(&test.disks[draw(VDISKS)]) == 0);
	}
}

static int open_all(struct engine_rig *rig)
{
	for (unsigned i = 0; i < VDISKS; i++) {
		int r = vdisk_open(rig->pool, rig->cache, test.disks[i].id, &test.disks[i].vdisk);

		if (r < 0)
			return r;
	}
	return 0;
}

static int close_all(struct engine_rig *rig)
{
	int r = 0;

	for (unsigned i = 0; i < VDISKS; i++) {
		struct vdisk *vdisk = TAKE_PTR(test.disks[i].vdisk);
		int one = vdisk ? vdisk_close(vdisk) : 0;

		r = r ? r : one;
	}
	engine_rig_stop(rig);
	return r;
}

static int make_all(struct engine_rig *rig)
{
	CHECK(engine_rig_create(rig) == 0);
	CHECK(engine_rig_start(rig) == 0);
	for (unsigned i = 0; i < VDISKS; i++) {
		struct disk_model *disk = &test.disks[i];

		snprintf(disk->name, sizeof(disk->name), "disk%u", i);
		disk->size = SIZE;
		CHECK(engine_rig_create_vdisk(rig, disk->name, SIZE) == 0);
		disk->id = rig->vdisk_id;
		for (unsigned n = 0; n < BLOCKS; n++)
			disk->blocks[n] = (struct block_model){.count = 1};
	}
	CHECK(open_all(rig) == 0);
	return 0;
}

static int start_all(struct engine_rig *rig)
{
	CHECK(engine_rig_start(rig) == 0);
	CHECK(open_all(rig) == 0);
	return 0;
}

static int work(struct engine_rig *rig)
{
	session(rig, 60 + (unsigned)draw(200));
	return 0;
}

/* So that groups become sparse and there is time for compaction. */
static int churn(struct engine_rig *rig)
{
	for (unsigned i = 0; i < 6; i++) {
		session(rig, 60);
		for (unsigned n = 0; n < VDISKS; n++)
			CHECK(vdisk_checkpoint(test.disks[n].vdisk) == 0 || test.flaky);
		fiber_sleep(15 * NSEC_PER_SEC);
	}
	return 0;
}

static int flush_all(struct engine_rig *rig)
{
	(void)rig;
	for (unsigned i = 0; i < VDISKS; i++)
		CHECK(flush(&test.disks[i]) == 0);
	return 0;
}

/* The value that a block has; what it had is settled by that. */
static void verify_block(struct disk_model *disk, unsigned block, bool may_fail)
{
	struct block_model *model = &disk->blocks[block];
	int r = block_io(vdisk_volume(disk->vdisk), BLOCK_READ, 0, buffer, 4096,
			 place(disk, block));

	test.reads++;
	if (r < 0) {
		CHECK(may_fail);
		test.unread++;
		return;
	}
	for (unsigned i = model->count; i-- > 0;)
		if (has_value(buffer, model->values[i], block)) {
			model->values[0] = model->values[i];
			model->count = 1;
			return;
		}
	fprintf(stderr, "seed %" PRIu64 ": %s block %u is none of %u values\n", test.seed,
		disk->name, block, model->count);
	abort();
}

static void verify(struct disk_model *disk, bool may_fail)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		verify_block(disk, i, may_fail);
}

static int verify_all(struct engine_rig *rig)
{
	(void)rig;
	for (unsigned i = 0; i < VDISKS; i++)
		verify(&test.disks[i], false);
	return 0;
}

static int stop_dead(struct engine_rig *rig)
{
	(void)close_all(rig);
	return 0;
}

static int checkpoint_all(struct engine_rig *rig)
{
	(void)rig;
	for (unsigned i = 0; i < VDISKS; i++)
		(void)vdisk_checkpoint(test.disks[i].vdisk); /* one of them may see the end */
	return 0;
}

/* Now, or in the middle of what is written next. */
static void crash(enum sim_crash kind)
{
	struct engine_rig *rig = &test.rig;

	if (test.seed % 4 == 3) {
		REACHED("test.crash-in-checkpoint");
		sim_crash_nth(rig->sim.sim, 1 + draw(120), kind);
		engine_rig_call(rig, checkpoint_all);
		sim_crash_nth(rig->sim.sim, 0, kind);
	}
	if (!sim_is_dead(rig->sim.sim))
		sim_crash(rig->sim.sim, kind);
	engine_rig_call(rig, stop_dead);
	engine_rig_crashed(rig);
}

/* Ends a session, one way or another. */
static void end_session(void)
{
	struct engine_rig *rig = &test.rig;
	uint64_t how = draw(3);

	if (how == 0 || test.damages) {
		CHECK(engine_rig_call(rig, flush_all) == 0);
		CHECK(engine_rig_call(rig, close_all) == 0 || test.flaky);
	} else if (how == 1) {
		crash(SIM_CRASH_PROCESS);
	} else {
		crash(SIM_CRASH_POWER);
	}
}

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
	test.made++;
	if (getenv("SHOW"))
		fprintf(stderr, "%s/%s size %" PRIu64 " checkpoint %" PRIu64 " log %" PRIu64 "\n",
			vdisk->container, vdisk->name, vdisk->size_bytes, vdisk->checkpoint_lsn,
			vdisk->log_lsn);
}

static int rebuild_with(size_t directories, bool show_only, bool force)
{
	char *names[ENGINE_RIG_DISKS_MAX];
	struct fsck_rebuild_report report;
	const struct fsck_rebuild_options options = {
		.world = sim_world(test.rig.sim.sim),
		.catalog = CATALOG,
		.vfs = SIM_VFS_NAME,
		.scratch = SCRATCH,
		.directories = names,
		.directory_count = directories,
		.show_only = show_only,
		.force = force,
		.note = note,
		.vdisk = note_vdisk,
	};

	test.refused = test.doubts = test.made = 0;
	for (unsigned i = 0; i < directories; i++)
		names[i] = (char *)engine_rig_directory(i, 0);
	return fsck_rebuild(&options, &report);
}

static void finding(void *arg, const struct fsck_finding *finding)
{
	(void)arg;
	if (finding->class == FSCK_NOTE)
		return;
	test.errors++;
	if (!test.damages || getenv("SHOW"))
		fprintf(stderr, "seed %" PRIu64 ": %s: %s: %s\n", test.seed, finding->code,
			finding->object, finding->cause);
}

static int check(struct engine_rig *rig)
{
	struct fsck_report report;
	const struct fsck_options options = {.world = sim_world(rig->sim.sim),
					     .catalog = CATALOG,
					     .vfs = SIM_VFS_NAME,
					     .scratch = SCRATCH,
					     .finding = finding};

	test.errors = 0;
	return fsck_run(&options, &report);
}

/* The catalog is refused while it is there; then it goes. */
static int lose_catalog(struct engine_rig *rig)
{
	(void)rig;
	set_missing(false);
	test.flaky = 0;
	CHECK(io_directory_make(SCRATCH) == 0);
	CHECK(rebuild_with(test.disk_count, false, false) == -EEXIST && test.refused == 1);
	CHECK(io_unlink(CATALOG) == 0);
	CHECK(io_unlink(CATALOG "-wal") == 0);
	return 0;
}

static int rebuild(struct engine_rig *rig)
{
	(void)rig;
	if (test.disk_count > 1) {
		CHECK(rebuild_with(test.disk_count - 1, false, false) == -EEXIST);
		CHECK(test.refused >= 1);
	}
	CHECK(rebuild_with(test.disk_count, true, false) == 0);
	CHECK(rebuild_with(test.disk_count, false, test.forces) == 0);
	return 0;
}

static int rebuild_clean(struct engine_rig *rig)
{
	CHECK(rebuild(rig) == 0);
	CHECK(test.made == (test.deletes ? VDISKS - 1u : VDISKS));
	CHECK(test.doubts == 0);
	CHECK(check(rig) == 0);
	CHECK(test.errors == 0);
	return 0;
}

static void open_found(struct engine_rig *rig, struct disk_model *disk)
{
	struct vdisk_info info;
	int r = vdisk_get(rig->catalog, disk->id, &info);

	CHECK(r == 0 || (r == -ENOENT && test.damages));
	if (r < 0) {
		test.unmade++;
		return;
	}
	CHECK(strcmp(info.name, disk->name) == 0 || test.damages);
	CHECK(info.size_bytes == disk->size || test.damages);
	CHECK(info.block_bytes == 512);
	r = vdisk_open(rig->pool, rig->cache, disk->id, &disk->vdisk);
	CHECK(r == 0 || test.damages);
	if (r < 0) {
		test.unopened++;
		disk->vdisk = NULL;
	}
}

/* Everything is as it was, and can go on. */
static int serve(struct engine_rig *rig)
{
	CHECK(engine_rig_start(rig) == 0);
	for (unsigned i = 0; i < VDISKS; i++) {
		struct disk_model *disk = &test.disks[i];
		struct vdisk_info info;

		if (i == 0 && test.deletes) {
			CHECK(vdisk_get(rig->catalog, disk->id, &info) == -ENOENT);
			continue;
		}
		open_found(rig, disk);
		if (disk->vdisk)
			verify(disk, test.damages);
	}
	return 0;
}

static int delete_one(struct engine_rig *rig)
{
	CHECK(vdisk_close(TAKE_PTR(test.disks[0].vdisk)) == 0);
	CHECK(vdisk_delete(rig->pool, test.disks[0].id, NULL, NULL) == 0);
	return 0;
}

static void before(uint64_t seed)
{
	struct engine_rig *rig = &test.rig;
	uint64_t reads = test.reads, unread = test.unread, flips = test.flips;
	uint64_t unmade = test.unmade, unopened = test.unopened;

	memset(&test, 0, sizeof(test));
	test.reads = reads;
	test.unread = unread;
	test.flips = flips;
	test.unmade = unmade;
	test.unopened = unopened;
	test.seed = seed;
	engine_rig_init(rig, seed, false, CAPACITY);
	test.disk_count = 1 + (unsigned)draw(3);
	test.factor = test.disk_count > 1 ? 1 + (unsigned)draw(2) : 1;
	if (test.factor > 1 && draw(2))
		test.flaky = 1 + (unsigned)draw(test.disk_count);
	engine_rig_set_disks(rig, test.disk_count, test.factor);
	CHECK(engine_rig_call(rig, make_all) == 0);
}

static void sessions(void)
{
	struct engine_rig *rig = &test.rig;
	unsigned count = 1 + (unsigned)draw(4);

	for (unsigned i = 0; i < count; i++) {
		CHECK(engine_rig_call(rig, draw(3) ? work : churn) == 0);
		end_session();
		if (i + 1 == count)
			break;
		CHECK(engine_rig_call(rig, start_all) == 0);
		CHECK(engine_rig_call(rig, verify_all) == 0);
	}
}

static uint64_t run_seed(uint64_t seed)
{
	struct engine_rig *rig = &test.rig;
	uint64_t hash;

	before(seed);
	if (draw(4) == 0) {
		test.flaky = 0;
		CHECK(engine_rig_call(rig, work) == 0);
		CHECK(engine_rig_call(rig, flush_all) == 0);
		CHECK(engine_rig_call(rig, delete_one) == 0);
		test.deletes = true;
		CHECK(engine_rig_call(rig, close_all) == 0);
	} else {
		sessions();
	}
	CHECK(engine_rig_call(rig, lose_catalog) == 0);
	CHECK(engine_rig_call(rig, rebuild_clean) == 0);
	CHECK(engine_rig_call(rig, serve) == 0);
	if (!test.deletes) {
		CHECK(engine_rig_call(rig, churn) == 0);
		CHECK(engine_rig_call(rig, verify_all) == 0);
	}
	CHECK(engine_rig_call(rig, close_all) == 0);
	CHECK(engine_rig_call(rig, check) == 0);
	CHECK(test.errors == 0);
	hash = sim_trace_hash(rig->sim.sim);
	engine_rig_done(rig);
	return hash;
}

/* A file with map pages that is gone leaves nothing that tells of its checkpoints. */
static bool is_of_log(const char *path)
{
	struct record_header_disk *header = aligned_alloc(4096, 4096);
	const struct record_id log = {.stream = RECORD_STREAM_LOG};
	struct world_file *file;
	bool is_log;

	CHECK(header && io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, &file) == 0);
	CHECK(io_read_exactly(file, header, 4096, 0) == 0);
	CHECK(io_close(file) == 0);
	is_log = record_check(header, &log) == 0;
	free(header);
	return is_log;
}

/* Bits anywhere; more often where the headers and pages of small groups are. */
static void damage_file(struct engine_rig *rig, const char *path)
{
	struct world_stat stat;

	CHECK(io_stat(path, &stat) == 0);
	for (uint64_t flips = draw(4); flips > 0; flips--, test.flips++) {
		uint64_t end = draw(2) ? stat.size_bytes : MIN(stat.size_bytes, UINT64_C(262144));

		CHECK(sim_disk_flip(rig->sim.sim, path, draw(end), (unsigned)draw(8)) == 0);
	}
	if (draw(40) == 0 && is_of_log(path))
		CHECK(io_unlink(path) == 0);
}

static void damage_directory(struct engine_rig *rig, const char *directory)
{
	struct world_names names;
	char path[160];

	CHECK(io_directory_list(directory, &names) == 0);
	for (size_t n = 0; n < names.count; n++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names.names[n]);
		damage_file(rig, path);
	}
	world_names_free(&names);
}

static int damage(struct engine_rig *rig)
{
	char directory[128];

	for (unsigned d = 0; d < test.disk_count; d++)
		for (unsigned i = 0; i < 256; i++) {
			snprintf(directory, sizeof(directory), "%s/groups/%02x",
				 engine_rig_directory(d, 0), i);
			damage_directory(rig, directory);
		}
	return 0;
}

/* Those that were not made lie aside, out of the pool's way, and can be had when that is asked for.
 */
static int force_the_rest(struct engine_rig *rig)
{
	unsigned made = test.made;

	(void)rig;
	CHECK(io_unlink(CATALOG) == 0);
	(void)io_unlink(CATALOG "-wal"); /* it need not be there */
	CHECK(rebuild_with(test.disk_count, false, true) == 0);
	CHECK(test.made > made);
	CHECK(test.doubts > 0);
	return 0;
}

static uint64_t run_damaged(uint64_t seed)
{
	struct engine_rig *rig = &test.rig;
	uint64_t hash, unmade = test.unmade;

	before(seed);
	test.damages = true;
	test.flaky = 0;
	sessions();
	CHECK(engine_rig_call(rig, lose_catalog) == 0);
	CHECK(engine_rig_call(rig, damage) == 0);
	CHECK(engine_rig_call(rig, rebuild) == 0);
	CHECK(engine_rig_call(rig, check) == 0);
	CHECK(engine_rig_call(rig, serve) == 0);
	(void)engine_rig_call(rig, close_all); /* checkpoints may fail */
	if (test.unmade > unmade)
		CHECK(engine_rig_call(rig, force_the_rest) == 0);
	hash = sim_trace_hash(rig->sim.sim);
	engine_rig_done(rig);
	return hash;
}

int main(int argc, char **argv)
{
	uint64_t first = 1, count = 12;

	if (argc > 1 && sscanf(argv[1], "%" SCNu64 ":%" SCNu64, &first, &count) != 2)
		return 2;
	if (!getenv("SHOW"))
		sim_rig_silence_log();
	buffer = aligned_alloc(4096, (size_t)RUN * 4096);
	if (!buffer)
		return 1;
	for (uint64_t seed = first; seed < first + count; seed++) {
		(void)run_seed(seed);
		(void)run_damaged(seed);
	}
	printf("%" PRIu64 " seeds, %" PRIu64 " compactions, %" PRIu64 " flips; of %" PRIu64
	       " reads %" PRIu64 " failed, %" PRIu64 " vDisks not made, %" PRIu64 " not opened\n",
	       count, reached_count("compact.done"), test.flips, test.reads, test.unread,
	       test.unmade, test.unopened);
	free(buffer);
	return 0;
}
