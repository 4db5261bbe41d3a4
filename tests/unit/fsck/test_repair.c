/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repairs of the check, in the simulated world, by seed: a vDisk with two copies of everything is
 * written and left in some way, then copies are damaged: flipped bits, files that are missing, cut
 * or set back. Never is the same block hit on both, nor the same record of a log that was not
 * closed. Showing it changes no byte; putting it right
 * leaves nothing to be found, and every byte for the guest; and that is so, too, when the repair
 * crashes, or fails, at any of its operations and is made again.
 *
 *     test_repair [FIRST:COUNT [STEP]]      a crash, and a failure, at each STEP-th operation
 */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/reached.h"
#include "engine_rig.h"
#include "fsck/fsck.h"
#include "reactor/io.h"
#include "vdisk/vdisk.h"

#define DISKS     3u
#define CAPACITY  (512 * MIB)
#define SIZE      (64 * MIB)
#define BLOCKS    512u
#define STRIDE    (SIZE / BLOCKS)
#define SCRATCH   ENGINE_RIG_DISK "/scratch"
#define CATALOG   ENGINE_RIG_DISK "/catalog.db"
#define FILES_MAX 512u

#define CHECK(condition)                                                                         \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			fprintf(stderr, "seed %" PRIu64 ": crash at %" PRIu64 ": line %d: %s\n", \
				test.seed, test.crash_at, __LINE__, #condition);                 \
			abort();                                                                 \
		}                                                                                \
	} while (0)

struct entry {
	char path[96];
	uint64_t size, capacity;
	unsigned char *bytes; /* kept from one taking to the next */
};

struct tree {
	struct entry entries[FILES_MAX];
	unsigned count;
	bool is_current; /* nothing has run since it was taken */
};

static struct {
	uint64_t seed, crash_at;
	struct engine_rig rig;
	uint32_t values[BLOCKS]; /* 0: never written */
	uint32_t next_value;
	struct tree sound, damaged, found; /* as it was; with damage; as it is */
	bool repair;
	struct fsck_report report;
	unsigned kinds[FSCK_KIND_COUNT], undone;
	int result;
} test;

static struct {
	uint64_t findings, crashes, failures, stale, mended;
} totals;

static unsigned char *buffer;

static uint64_t draw(uint64_t bound)
{
	return sim_random_below(test.rig.sim.sim, bound);
}

static void take_file(struct tree *tree, const char *path)
{
	struct entry *entry = &tree->entries[tree->count++];
	struct world_file *file;
	struct world_stat stat;

	CHECK(tree->count < FILES_MAX);
	CHECK(io_stat(path, &stat) == 0);
	snprintf(entry->path, sizeof(entry->path), "%s", path);
	entry->size = stat.size_bytes;
	if (entry->size >= entry->capacity) {
		free(entry->bytes);
		entry->capacity = ALIGN_UP(entry->size + 1, MIB);
		entry->bytes = malloc(entry->capacity);
	}
	CHECK(entry->bytes && io_open(path, WORLD_FILE_READ_ONLY, &file) == 0);
	CHECK(io_read(file, entry->bytes, entry->size, 0) == (int64_t)entry->size);
	CHECK(io_close(file) == 0);
}

static void take_directory(struct tree *tree, const char *path)
{
	struct world_names names;
	char name[160];

	if (io_directory_list(path, &names) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		snprintf(name, sizeof(name), "%s/%s", path, names.names[i]);
		take_file(tree, name);
	}
	world_names_free(&names);
}

static void tree_free(struct tree *tree)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		free(tree->entries[i].bytes);
	memset(tree, 0, sizeof(*tree));
}

/* Everything that a repair could change. */
static void tree_take(struct tree *tree)
{
	char path[128];

	tree->count = 0;
	tree->is_current = true;
	take_file(tree, CATALOG);
	take_file(tree, CATALOG "-wal");
	for (unsigned disk = 0; disk < DISKS; disk++) {
		for (unsigned i = 0; i < 256; i++) {
			snprintf(path, sizeof(path), "%s/groups/%02x",
				 engine_rig_directory(disk, 0), i);
			take_directory(tree, path);
		}
		snprintf(path, sizeof(path), "%s/unclaimed", engine_rig_directory(disk, 0));
		take_directory(tree, path);
	}
}

static bool same_entries(const struct entry *a, const struct entry *b)
{
	return strcmp(a->path, b->path) == 0 && a->size == b->size &&
	       memcmp(a->bytes, b->bytes, a->size) == 0;
}

static bool same_trees(const struct tree *a, const struct tree *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (!same_entries(&a->entries[i], &b->entries[i]))
			return false;
	return true;
}

static struct entry *tree_find(struct tree *tree, const char *path)
{
	for (unsigned i = 0; i < tree->count; i++)
		if (strcmp(tree->entries[i].path, path) == 0)
			return &tree->entries[i];
	return NULL;
}

static void put_file(const struct entry *entry)
{
	struct world_file *file;

	CHECK(io_open(entry->path, WORLD_FILE_CREATE, &file) == 0);
	CHECK(io_resize(file, entry->size, WORLD_RESIZE_TRUNCATE) == 0);
	CHECK(io_write(file, entry->bytes, entry->size, 0) == 0);
	CHECK(io_sync(file) == 0);
	CHECK(io_close(file) == 0);
	CHECK(io_directory_sync_above(entry->path) == 0);
}

/* Makes the disks as the tree says, durable. */
static void tree_put(struct tree *tree)
{
	if (!test.found.is_current)
		tree_take(&test.found);
	test.found.is_current = false;
	for (unsigned i = 0; i < test.found.count; i++) {
		const char *path = test.found.entries[i].path;

		if (tree_find(tree, path))
			continue;
		CHECK(io_unlink(path) == 0);
		CHECK(io_directory_sync_above(path) == 0);
	}
	for (unsigned i = 0; i < tree->count; i++) {
		const struct entry *found = tree_find(&test.found, tree->entries[i].path);

		if (!found || !same_entries(found, &tree->entries[i]))
			put_file(&tree->entries[i]);
	}
}

static void finding(void *arg, const struct fsck_finding *finding)
{
	(void)arg;
	test.kinds[finding->kind]++;
	test.undone += !finding->done && finding->kind != FSCK_CATALOG_END; /* of a crash */
	if (getenv("SHOW"))
		fprintf(stderr, "%s: %s: %s (%s)\n", finding->code, finding->object, finding->cause,
			finding->done ? finding->done : "-");
}

/* Empty, as the program makes one for each run. */
static void make_scratch(void)
{
	struct world_names names;
	char path[128];
	int r = io_directory_make(SCRATCH);

	CHECK(r == 0 || r == -EEXIST);
	CHECK(io_directory_list(SCRATCH, &names) == 0);
	for (size_t i = 0; i < names.count; i++) {
		snprintf(path, sizeof(path), "%s/%s", SCRATCH, names.names[i]);
		CHECK(io_unlink(path) == 0);
	}
	world_names_free(&names);
	CHECK(io_directory_sync(SCRATCH) == 0);
	CHECK(io_directory_sync_above(SCRATCH) == 0);
}

static int check(struct engine_rig *rig)
{
	const struct fsck_options options = {.world = sim_world(rig->sim.sim),
					     .catalog = CATALOG,
					     .vfs = SIM_VFS_NAME,
					     .scratch = SCRATCH,
					     .repair = test.repair,
					     .finding = finding};

	test.found.is_current = false;
	memset(test.kinds, 0, sizeof(test.kinds));
	test.undone = 0;
	test.result = fsck_run(&options, &test.report);
	return 0;
}

static void write_block(struct engine_rig *rig, unsigned block)
{
	uint32_t value = ++test.next_value;

	for (unsigned i = 0; i < 1024; i++)
		memcpy(buffer + i * 4, &value, 4);
	CHECK(block_io(rig->volume, BLOCK_WRITE, 0, buffer, 4096, block * STRIDE) == 0);
	test.values[block] = value;
}

static int fill(struct engine_rig *rig)
{
	bool compacts = test.seed % 2 == 0;
	unsigned rounds = (compacts ? 3 : 1) + (unsigned)draw(3);

	CHECK(engine_rig_bring_up(rig) == 0);
	make_scratch();
	for (unsigned i = 0; i < rounds; i++) {
		for (unsigned n = 0; n < 250; n++)
			write_block(rig, (unsigned)draw(BLOCKS));
		if (compacts || draw(2))
			CHECK(vdisk_checkpoint(rig->vdisk) == 0);
		if (compacts) /* groups became sparse */
			fiber_sleep(15 * NSEC_PER_SEC);
	}
	return block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
}

static int close_all(struct engine_rig *rig)
{
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	return 0;
}

static int open_close(struct engine_rig *rig)
{
	CHECK(engine_rig_open_again(rig) == 0);
	return close_all(rig);
}

static bool is_group(const struct entry *entry)
{
	return strstr(entry->path, "/groups/") && entry->size > 0;
}

/* The copy is the first that comes of its file, or not. */
static bool is_first(struct tree *tree, const struct entry *entry)
{
	for (unsigned i = 0; i < tree->count; i++)
		if (is_group(&tree->entries[i]) &&
		    strcmp(strrchr(tree->entries[i].path, '/'), strrchr(entry->path, '/')) == 0)
			return &tree->entries[i] == entry;
	return false;
}

static void flip_some(struct entry *entry, unsigned parity)
{
	uint64_t blocks = entry->size / 4096, step = 1 + draw(12);

	for (uint64_t block = draw(step); block < blocks; block += step)
		if (block % 2 == parity)
			entry->bytes[block * 4096 + draw(4096)] ^= (unsigned char)(1u << draw(8));
}

static void set_back(struct entry *entry)
{
	uint64_t from = draw(entry->size / 4096 + 1) * 4096;

	memset(entry->bytes + from, draw(2) ? 0 : 0x77, entry->size - from);
}

/* One copy of each file in some way, or both at different places. */
static void damage(struct tree *tree)
{
	uint64_t which = draw(UINT64_MAX); /* by file: its first copy, or the other */

	for (unsigned i = 0; i < tree->count; i++) {
		struct entry *entry = &tree->entries[i];
		bool first = is_group(entry) &&
			     which >> strtoull(strrchr(entry->path, '/') + 1, NULL, 16) % 64 & 1;

		if (!is_group(entry))
			continue;
		if (test.seed % 4 == 3 && test.seed % 3)
			flip_some(entry, is_first(tree, entry));
		else if (is_first(tree, entry) != first)
			continue;
		else if (draw(4) == 0)
			entry->size = draw(2) ? UINT64_MAX : draw(entry->size / 4096 + 1) * 4096;
		else if (draw(3) == 0)
			set_back(entry);
		else
			flip_some(entry, (unsigned)draw(2));
	}
}

static void drop_gone(struct tree *tree)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < tree->count; i++) {
		struct entry entry = tree->entries[i];

		if (entry.size == UINT64_MAX)
			continue;
		tree->entries[i] = tree->entries[kept]; /* its memory stays */
		tree->entries[kept++] = entry;
	}
	tree->count = kept;
}

static int do_damage(struct engine_rig *rig)
{
	(void)rig;
	tree_take(&test.sound);
	tree_take(&test.damaged);
	damage(&test.damaged);
	drop_gone(&test.damaged);
	tree_put(&test.damaged);
	return 0;
}

static int put_damage(struct engine_rig *rig)
{
	(void)rig;
	tree_put(&test.damaged);
	return 0;
}

/* Shows all, changes nothing. */
static int show(struct engine_rig *rig)
{
	test.repair = false;
	check(rig);
	CHECK(test.result == 0 && test.report.corrected == 0);
	totals.findings += test.report.errors + test.report.minors;
	tree_take(&test.found);
	CHECK(same_trees(&test.found, &test.damaged));
	return 0;
}

static int put_right(struct engine_rig *rig)
{
	test.repair = true;
	check(rig);
	return 0;
}

#define LOOK_EACH 4u /* of the runs that find nothing, whether they change a byte */

/* Nothing is left, and a second run changes nothing. */
static int is_right(struct engine_rig *rig)
{
	bool looks = test.crash_at % LOOK_EACH == 0;

	CHECK(test.result == 0 && test.undone == 0);
	CHECK(test.report.corrected == test.report.errors + test.report.minors);
	totals.mended += test.kinds[FSCK_COPY];
	totals.stale += test.kinds[FSCK_COPY_OLD] + test.kinds[FSCK_FILE_MISSING];
	if (looks)
		tree_take(&test.sound);
	check(rig);
	CHECK(test.result == 0 && test.report.errors == 0 && test.report.minors == 0);
	CHECK(test.report.corrected == 0);
	if (looks) {
		tree_take(&test.found);
		CHECK(same_trees(&test.found, &test.sound));
	}
	return 0;
}

static int serve(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};

	CHECK(engine_rig_open_again(rig) == 0);
	for (unsigned block = 0; block < BLOCKS; block++) {
		uint32_t value;

		CHECK(block_io(rig->volume, BLOCK_READ, 0, buffer, 4096, block * STRIDE) == 0);
		memcpy(&value, buffer, 4);
		CHECK(value == test.values[block]);
		CHECK(memcmp(buffer, buffer + 4, 4092) == 0);
	}
	CHECK(vdisk_repair(rig->vdisk, &repair) == 0);
	close_all(rig);
	test.repair = false;
	check(rig);
	CHECK(test.result == 0 && test.report.errors == 0 && test.report.minors == 0);
	return 0;
}

static int scratch(struct engine_rig *rig)
{
	(void)rig;
	make_scratch();
	return 0;
}

/* Crashes at the n-th operation of the repair; false: it has fewer. */
static bool crash_at(struct engine_rig *rig, uint64_t n)
{
	enum sim_crash kind = n % 3 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS;
	bool dead;

	test.crash_at = n;
	CHECK(engine_rig_call(rig, put_damage) == 0);
	CHECK(engine_rig_call(rig, scratch) == 0);
	sim_crash_nth(rig->sim.sim, n, kind);
	CHECK(engine_rig_call(rig, put_right) == 0);
	sim_crash_nth(rig->sim.sim, 0, kind);
	dead = sim_is_dead(rig->sim.sim);
	if (dead) {
		engine_rig_crashed(rig);
		totals.crashes++;
		CHECK(engine_rig_call(rig, scratch) == 0);
		CHECK(engine_rig_call(rig, put_right) == 0);
	}
	CHECK(engine_rig_call(rig, is_right) == 0);
	return dead;
}

/* The n-th operation of the repair fails: what it could not do is told, and the next run does it.
 * False: it has fewer. */
static bool fail_at(struct engine_rig *rig, uint64_t n)
{
	bool hit;

	test.crash_at = n;
	CHECK(engine_rig_call(rig, put_damage) == 0);
	CHECK(engine_rig_call(rig, scratch) == 0);
	sim_fail_nth(rig->sim.sim, n, n % 2 ? -EIO : -ENOSPC);
	CHECK(engine_rig_call(rig, put_right) == 0);
	hit = sim_fault_hit(rig->sim.sim);
	sim_fail_nth(rig->sim.sim, 0, 0);
	CHECK(engine_rig_call(rig, scratch) == 0);
	totals.failures += hit;
	CHECK(engine_rig_call(rig, put_right) == 0);
	CHECK(engine_rig_call(rig, is_right) == 0);
	return hit;
}

static void run_seed(uint64_t seed, uint64_t step)
{
	struct engine_rig *rig = &test.rig;

	memset(&test, 0, sizeof(test));
	test.seed = seed;
	engine_rig_init(rig, seed, false, CAPACITY);
	engine_rig_set_disks(rig, DISKS, 2);
	rig->vdisk_bytes = SIZE;
	CHECK(engine_rig_call(rig, fill) == 0);
	if (seed % 3 == 0)
		engine_rig_crash(rig, draw(2) ? SIM_CRASH_PROCESS : SIM_CRASH_POWER);
	else
		CHECK(engine_rig_call(rig, close_all) == 0);
	if (seed % 3 == 1)
		CHECK(engine_rig_call(rig, open_close) == 0);
	CHECK(engine_rig_call(rig, scratch) == 0);
	CHECK(engine_rig_call(rig, do_damage) == 0);
	CHECK(engine_rig_call(rig, show) == 0);
	for (uint64_t n = 1 + draw(step); crash_at(rig, n); n += step)
		;
	for (uint64_t n = 1 + draw(step); fail_at(rig, n); n += step)
		;
	CHECK(engine_rig_call(rig, serve) == 0);
	tree_free(&test.sound);
	tree_free(&test.damaged);
	tree_free(&test.found);
	engine_rig_done(rig);
}

int main(int argc, char **argv)
{
	uint64_t first = 1, count = 8, step = 251;

	if (argc > 1 && sscanf(argv[1], "%" SCNu64 ":%" SCNu64, &first, &count) != 2)
		return 2;
	if (argc > 2)
		step = strtoull(argv[2], NULL, 10);
	if (!getenv("SHOW"))
		sim_rig_silence_log();
	/* Large buffers come and go all the time: pages of the system are kept for them. */
	(void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 512 << 20);
	buffer = aligned_alloc(4096, 4096);
	if (!buffer || step == 0)
		return 2;
	for (uint64_t seed = first; seed < first + count; seed++)
		run_seed(seed, step);
	free(buffer);
	printf("%" PRIu64 " findings, %" PRIu64 " crashes, %" PRIu64 " failures, %" PRIu64
	       " mended, %" PRIu64 " called stale, %" PRIu64 " compactions\n",
	       totals.findings, totals.crashes, totals.failures, totals.mended, totals.stale,
	       reached_count("compact.done"));
	if (argc == 1 &&
	    (!totals.mended || !totals.stale || !totals.crashes || !reached_count("compact.done")))
		return 1;
	return 0;
}
