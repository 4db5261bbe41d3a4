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

#include "base/log.h"
#include "engine_rig.h"
#include "fsck/fsck_rebuild.h"
#include "reactor/io.h"

#define CAPACITY (512 * MIB)
#define SIZE     (64 * MIB)
#define SCRATCH  ENGINE_RIG_DISK "/scratch"
#define CATALOG  ENGINE_RIG_DISK "/catalog.db"

#define CHECK(condition)                                                                       \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s: line %d: %s\n", test.name, __LINE__, #condition); \
			abort();                                                               \
		}                                                                              \
	} while (0)

static struct {
	const char *name;
	struct engine_rig rig;
	const char *scratch;
	bool force, show_only;
	unsigned refused, doubts, notes, made;
	const char *words; /* that are looked for in what is told, and how often they were */
	unsigned told;
} test;

static unsigned char *buffer;

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
	(void)vdisk;
	test.made++;
}

static int rebuild(struct engine_rig *rig)
{
	char *directory = (char *)engine_rig_directory(0, 0);
	struct fsck_rebuild_report report;
	const struct fsck_rebuild_options options = {
		.world = sim_world(rig->sim.sim),
		.catalog = CATALOG,
		.vfs = SIM_VFS_NAME,
		.scratch = test.scratch,
		.directories = &directory,
		.directory_count = 1,
		.force = test.force,
		.show_only = test.show_only,
		.note = note,
		.vdisk = note_vdisk,
	};

	test.refused = test.doubts = test.notes = test.made = 0;
	return fsck_rebuild(&options, &report);
}

static bool is_there(const char *path)
{
	struct world_stat stat;

	return io_stat(path, &stat) == 0;
}

static int write_some(struct engine_rig *rig)
{
	for (unsigned i = 0; i < 8; i++) {
		memset(buffer, (int)i + 1, 4096);
		CHECK(block_io(rig->volume, BLOCK_WRITE, 0, buffer, 4096, i * MIB) == 0);
	}
	return block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
}

static int make_state(struct engine_rig *rig)
{
	CHECK(engine_rig_bring_up(rig) == 0);
	CHECK(write_some(rig) == 0);
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	return io_directory_make(SCRATCH);
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

static const struct test_case {
	const char *name;
	int (*run)(struct engine_rig *rig);
} cases[] = {
	{"passing-errors", test_passing_errors},
	{"mirrors", test_mirrors},
};

static void run_case(const struct test_case *one)
{
	struct engine_rig *rig = &test.rig;

	memset(&test, 0, sizeof(test));
	test.name = one->name;
	test.scratch = SCRATCH;
	engine_rig_init(rig, 1, false, CAPACITY);
	engine_rig_set_disks(rig, 1, 1);
	rig->vdisk_bytes = SIZE;
	CHECK(engine_rig_call(rig, make_state) == 0);
	CHECK(engine_rig_call(rig, one->run) == 0);
	engine_rig_done(rig);
}

static void discard_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

int main(int argc, char **argv)
{
	if (!getenv("SHOW"))
		log_set_sink(discard_line, NULL);
	buffer = aligned_alloc(4096, MIB);
	if (!buffer)
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (argc < 2 || strcmp(argv[1], cases[i].name) == 0)
			run_case(&cases[i]);
	free(buffer);
	return 0;
}
