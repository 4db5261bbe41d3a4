/* SPDX-License-Identifier: Apache-2.0 */
/* A state made by the real engine in a directory, stopped, damaged in many places, and checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "block/block.h"
#include "catalog/raw.h"
#include "egroup/rows.h"
#include "egroup/store.h"
#include "fsck/fsck.h"
#include "pool/container.h"
#include "real_rig.h"
#include "vdisk/vdisk.h"

#define SIZE       (64 * MIB)
#define CHUNK      (64 * KIB)
#define KEPT_MAX   65536
#define FLIPS      2000
#define FLIP_BYTES 4096

struct told {
	char object[192];
	uint64_t slot, run;
};

struct state {
	struct real_rig rig;
	struct catalog *catalog;
	struct pool *pool;
	struct vdisk_cache *cache;
	struct vdisk *vdisk;
	uint64_t pool_id, container_id, vdisk_id;
	bool crash; /* leaves the log's end behind */
	struct fsck_report report;
	unsigned counts[FSCK_KIND_COUNT];
	struct told *told;
	size_t object_count;
	uint64_t memory_bytes;
	bool repair;
};

static void keep(struct told *told, const struct fsck_finding *finding)
{
	const char *slot = strstr(finding->object, "slot ");

	snprintf(told->object, sizeof(told->object), "%s", finding->object);
	told->slot = slot ? strtoull(slot + 5, NULL, 10) : UINT64_MAX;
	told->run = strtoull(finding->cause, NULL, 10);
	told->run = MAX(told->run, UINT64_C(1));
}

static void note(void *arg, const struct fsck_finding *finding)
{
	struct state *state = arg;

	state->counts[finding->kind]++;
	assert_true(finding->code && finding->cause && finding->advice);
	if (getenv("SHOW"))
		fprintf(stderr, "%s: %s: %s\n", finding->code, finding->object, finding->cause);
	if (state->object_count < KEPT_MAX)
		keep(&state->told[state->object_count++], finding);
}

static int check_fiber(void *arg)
{
	struct state *state = arg;
	char catalog[160], scratch[160];
	const struct fsck_options options = {.world = state->rig.world,
					     .catalog = catalog,
					     .scratch = scratch,
					     .memory_bytes = state->memory_bytes,
					     .repair = state->repair,
					     .finding = note,
					     .arg = state};

	snprintf(catalog, sizeof(catalog), "%s/catalog.db", state->rig.directory);
	snprintf(scratch, sizeof(scratch), "%s/scratch", state->rig.directory);
	return fsck_run(&options, &state->report);
}

static void check(struct state *state)
{
	memset(state->counts, 0, sizeof(state->counts));
	state->object_count = 0;
	assert_int_equal(real_rig_run(&state->rig, 0, check_fiber, state), 0);
}

static void put(struct state *state, uint64_t offset, size_t length, unsigned char value)
{
	unsigned char *buffer = aligned_alloc(4096, length);

	ASSERT(buffer);
	for (size_t i = 0; i < length; i++)
		buffer[i] = (unsigned char)(value + i / 4096);
	ASSERT(block_io(vdisk_volume(state->vdisk), BLOCK_WRITE, 0, buffer, length, offset) == 0);
	free(buffer);
}

static void open_vdisk(struct state *state)
{
	ASSERT(vdisk_open(state->pool, state->cache, state->vdisk_id, &state->vdisk) == 0);
}

static int start_engine(struct state *state)
{
	const struct catalog_options options = {
		.path = real_rig_path(&state->rig, "catalog.db"), .create = true};

	ASSERT(catalog_open(state->rig.world, &options, &state->catalog) == 0);
	if (!state->pool_id) {
		const struct pool_spec spec = {.name = "p",
					       .directory = real_rig_path(&state->rig, "pool"),
					       .capacity_bytes = POOL_MIN_BYTES};
		ASSERT(pool_create(state->rig.world, state->catalog, &spec, &state->pool_id) == 0);
		ASSERT(container_create(state->catalog, state->rig.world, state->pool_id, "c",
					&state->container_id) == 0);
	}
	ASSERT(vdisk_cache_new(reactor_current(), 64 * MIB, &state->cache) == 0);
	return pool_open(state->rig.world, state->catalog, state->pool_id, &state->pool);
}

static void stop_engine(struct state *state)
{
	ASSERT(vdisk_close(TAKE_PTR(state->vdisk)) == 0);
	pool_close(state->pool);
	catalog_close(state->catalog);
	vdisk_cache_free(state->cache);
}

static int fill(void *arg)
{
	struct state *state = arg;
	const struct vdisk_spec spec = {.name = "disk", .size_bytes = SIZE, .block_bytes = 4096};
	struct vdisk_spec with = spec;

	ASSERT(start_engine(state) == 0);
	with.container_id = state->container_id;
	ASSERT(vdisk_create(state->pool, &with, &state->vdisk_id) == 0);
	open_vdisk(state);
	for (unsigned i = 0; i < 300; i++)
		put(state, i * 7919 % (SIZE / CHUNK) * CHUNK, CHUNK, (unsigned char)i);
	ASSERT(vdisk_checkpoint(state->vdisk) == 0);
	for (unsigned i = 0; i < 40; i++)
		put(state, i * 104729 % (SIZE / CHUNK) * CHUNK, 8192, (unsigned char)i);
	ASSERT(block_io(vdisk_volume(state->vdisk), BLOCK_FLUSH, 0, NULL, 0, 0) == 0);
	stop_engine(state);
	return 0;
}

static int set_up(void **ret_state)
{
	struct state *state = calloc(1, sizeof(*state));

	log_set_level(LOG_LEVEL_ERROR);
	state->told = calloc(KEPT_MAX, sizeof(state->told[0]));
	real_rig_init(&state->rig);
	ASSERT(mkdir(real_rig_path(&state->rig, "scratch"), 0700) == 0);
	ASSERT(real_rig_run(&state->rig, 0, fill, state) == 0);
	*ret_state = state;
	return 0;
}

static int tear_down(void **ret_state)
{
	struct state *state = *ret_state;

	real_rig_done(&state->rig);
	free(state->told);
	free(state);
	return 0;
}

static unsigned all(const struct state *state)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < FSCK_KIND_COUNT; i++)
		sum += state->counts[i];
	return sum;
}

static void sound_state(void **ret_state)
{
	struct state *state = *ret_state;
	uint64_t blocks;

	check(state);
	assert_int_equal(all(state), 0);
	assert_int_equal(state->report.vdisks, 1);
	assert_true(state->report.blocks > 3000);
	assert_true(state->report.pages > 20);
	blocks = state->report.blocks;
	/* In many parts. */
	state->memory_bytes = 64 * KIB;
	check(state);
	state->memory_bytes = 0;
	assert_int_equal(all(state), 0);
	assert_int_equal(state->report.blocks, blocks);
}

/* All group files, and how much of each counts. */
struct files {
	char path[256][128];
	uint64_t size[256], group[256];
	size_t count;
};
static struct files files;

static void no_damage(void *arg, const struct catalog_raw_damage *damage)
{
	(void)arg;
	fail_msg("the catalog is damaged: %s", damage->what);
}

static void read_rows(struct state *state, struct catalog_rows *ret_rows)
{
	char command[512], path[160];
	const struct catalog_raw raw = {.path = path, .damage = no_damage};

	snprintf(command, sizeof(command),
		 "cd %s; cp catalog.db copy.db; cp catalog.db-wal copy.db-wal",
		 state->rig.directory);
	assert_int_equal(system(command), 0);
	snprintf(path, sizeof(path), "%s/copy.db", state->rig.directory);
	assert_int_equal(catalog_raw_read(&raw, ret_rows), 0);
}

static void list_files(struct state *state)
{
	struct catalog_rows rows;
	struct egroup_group_row group;

	read_rows(state, &rows);
	files.count = 0;
	for (size_t i = 0; i < rows.count; i++) {
		if (rows.rows[i].key.bytes[0] != CATALOG_EGROUP)
			continue;
		assert_int_equal(egroup_group_row_decode(&rows.rows[i], &group), 0);
		assert_true(group.sealed && !group.compacted);
		snprintf(files.path[files.count], sizeof(files.path[0]),
			 "%s/pool/groups/%02x/%016" PRIx64 ".eg", state->rig.directory,
			 (unsigned)(group.file & 0xff), group.file);
		files.group[files.count] = group.id;
		files.size[files.count++] = group.slots * UINT64_C(4096);
	}
	catalog_rows_done(&rows);
	assert_true(files.count > 2 && files.count < 256);
}

static void flip(const char *path, uint64_t offset, unsigned bit)
{
	int fd = open(path, O_RDWR);
	unsigned char byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= (unsigned char)(1u << bit);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

/* One bit in a block: found, and nothing is when it is put back. */
static void one_flip_in_each_block(void **ret_state)
{
	struct state *state = *ret_state;
	unsigned tried = 0;

	list_files(state);
	for (size_t i = 0; i < files.count; i++)
		for (uint64_t block = 0; block < files.size[i] / 4096;
		     block += 1 + block * 31 % 97, tried++) {
			uint64_t offset = block * 4096 + block * 977 % 4096;

			if (tried % 48) /* each is a whole check */
				continue;
			flip(files.path[i], offset, block % 8);
			check(state);
			if (all(state) == 0)
				fail_msg("%s: a flip at %" PRIu64 " is not found", files.path[i],
					 offset);
			flip(files.path[i], offset, block % 8);
		}
	check(state);
	assert_int_equal(all(state), 0);
}

/* By its own place, or within a run that begins before it. */
static bool is_told(const struct state *state, uint64_t group, uint64_t block)
{
	char text[64];

	snprintf(text, sizeof(text), "group %" PRIu64 " slot ", group);
	for (size_t i = 0; i < state->object_count; i++) {
		const struct told *told = &state->told[i];

		if (block >= told->slot && block < told->slot + told->run &&
		    strstr(told->object, text))
			return true;
	}
	return false;
}

/* Thousands at once: every one is told by its place, as damage of a header, or of a block by who
 * names it. */
static void many_flips_at_once(void **ret_state)
{
	struct state *state = *ret_state;
	uint64_t blocks = 0, hit = 0, told = 0;

	list_files(state);
	for (size_t i = 0; i < files.count; i++)
		blocks += files.size[i] / 4096;
	assert_true(blocks > FLIPS);
	for (size_t i = 0; i < files.count; i++)
		for (uint64_t block = i % 3; block < files.size[i] / 4096; block += 2, hit++)
			flip(files.path[i], block * 4096 + block * 977 % 4096, block % 8);
	assert_true(hit >= FLIPS);
	check(state);
	told = all(state);
	printf("%" PRIu64 " flips, %" PRIu64
	       " findings: %u headers, %u unused, %u blocks, %u pages\n",
	       hit, told, state->counts[FSCK_HEADER], state->counts[FSCK_BLOCK_UNUSED],
	       state->counts[FSCK_BLOCK], state->counts[FSCK_MAP_PAGE]);
	for (size_t i = 0; i < files.count; i++)
		for (uint64_t block = i % 3; block < files.size[i] / 4096; block += 2)
			if (!is_told(state, files.group[i], block))
				fail_msg("%s: a flip in block %" PRIu64 " is not told",
					 files.path[i], block);
	for (size_t i = 0; i < files.count; i++)
		for (uint64_t block = i % 3; block < files.size[i] / 4096; block += 2)
			flip(files.path[i], block * 4096 + block * 977 % 4096, block % 8);
	check(state);
	assert_int_equal(all(state), 0);
}

static bool same_rows(const struct catalog_rows *a, const struct catalog_rows *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->rows[i].version != b->rows[i].version ||
		    a->rows[i].length != b->rows[i].length ||
		    memcmp(&a->rows[i].key, &b->rows[i].key, sizeof(a->rows[i].key)) != 0 ||
		    memcmp(a->rows[i].value, b->rows[i].value, a->rows[i].length) != 0)
			return false;
	return true;
}

static bool has_content(const char *path, uint64_t at)
{
	unsigned char bytes[16] = {0};
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	(void)!pread(fd, bytes, sizeof(bytes), (off_t)at);
	close(fd);
	for (size_t i = 0; i < sizeof(bytes); i++)
		if (bytes[i])
			return true;
	return false;
}

/* Flips in one file of the catalog, where something is. */
static void flips_in(struct state *state, const char *name)
{
	char path[160];
	struct catalog_rows before, after;
	struct stat stat_of;
	unsigned told = 0, tried = 0;

	snprintf(path, sizeof(path), "%s/%s", state->rig.directory, name);
	read_rows(state, &before);
	assert_int_equal(stat(path, &stat_of), 0);
	for (uint64_t at = 13; at < (uint64_t)stat_of.st_size && tried < 12; at += 3373) {
		if (!has_content(path, at))
			continue;
		tried++;
		flip(path, at, at % 8);
		check(state);
		told += all(state) > 0;
		if (all(state) == 0) {
			read_rows(state, &after);
			if (!same_rows(&before, &after))
				fail_msg("%s: a flip at %" PRIu64 " changes rows, untold", name,
					 at);
			catalog_rows_done(&after);
		}
		flip(path, at, at % 8);
	}
	catalog_rows_done(&before);
	assert_true(told > 0);
	printf("%s: %u of %u flips are where something counts\n", name, told, tried);
}

/* A flip in the catalog is told, or it is where nothing is. */
static void flips_in_the_catalog(void **ret_state)
{
	flips_in(*ret_state, "catalog.db");
	flips_in(*ret_state, "catalog.db-wal");
}

static int spoil_rows(void *arg)
{
	struct state *state = arg;
	const struct catalog_options options = {
		.path = real_rig_path(&state->rig, "catalog.db")};
	struct catalog_key file = catalog_key(CATALOG_EGFILE), counter = catalog_key(CATALOG_META);
	uint8_t id[8] = {99}, low[8] = {1}, value[EGROUP_ROW_BYTES];
	const struct egroup_file empty = {.id = 999,
					  .allocated_bytes = 4096,
					  .copies = {.count = 1, .disks = {1}}};
	struct catalog *catalog;

	catalog_key_add(&file, state->pool_id);
	catalog_key_add(&file, state->vdisk_id);
	catalog_key_add(&file, 999);
	egroup_file_row(&empty, value);
	catalog_key_add_text(&counter, "id:vdisk");
	const struct catalog_change changes[] = {
		{.kind = CATALOG_DELETE,
		 .key = catalog_name_key(CATALOG_NAME_VDISK, state->container_id, "disk")},
		{.kind = CATALOG_PUT,
		 .key = catalog_name_key(CATALOG_NAME_POOL, 0, "nowhere"),
		 .value = id,
		 .length = 8},
		{.kind = CATALOG_PUT, .key = counter, .value = low, .length = 8},
		{.kind = CATALOG_PUT, .key = file, .value = value, .length = sizeof(value)},
	};

	ASSERT(catalog_open(state->rig.world, &options, &catalog) == 0);
	ASSERT(catalog_commit(catalog, changes, ARRAY_SIZE(changes)) == 0);
	catalog_close(catalog);
	return 0;
}

/* What is wrong in the catalog is put right, once, and only when that is asked for. */
static void rows_are_repaired(void **ret_state)
{
	struct state *state = *ret_state;

	assert_int_equal(real_rig_run(&state->rig, 0, spoil_rows, state), 0);
	for (unsigned i = 0; i < 3; i++) {
		state->repair = i == 2;
		check(state);
		assert_int_equal(state->counts[FSCK_NAME], 2);
		assert_int_equal(state->counts[FSCK_COUNTER], 2); /* of files, too */
		assert_int_equal(state->counts[FSCK_FILE_EMPTY], 1);
		assert_int_equal(state->counts[FSCK_FILE_MISSING], 0); /* gone with its row */
		assert_int_equal(state->report.corrected, state->repair ? 5 : 0);
	}
	state->repair = false;
	check(state);
	assert_int_equal(all(state), 0);
}

static void run_sql(struct state *state, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open_v2(real_rig_path(&state->rig, "catalog.db"), &db,
					 SQLITE_OPEN_READWRITE, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_changes(db), 1);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* A row that is gone, with nothing in the database that says so but the count: what needs it is not
 * wrong. */
static void a_row_is_gone(void **ret_state)
{
	struct state *state = *ret_state;
	char command[256];

	snprintf(command, sizeof(command),
		 "cd %s; cp catalog.db kept.db; cp catalog.db-wal kept.db-wal",
		 state->rig.directory);
	assert_int_equal(system(command), 0);
	run_sql(state, "DELETE FROM facts WHERE key IN "
		       "(SELECT key FROM facts WHERE hex(key) LIKE '06%' LIMIT 1)");
	state->repair = true;
	check(state);
	state->repair = false;
	assert_int_equal(state->counts[FSCK_CATALOG], 1);
	assert_int_equal(state->report.corrected, 0);
	snprintf(command, sizeof(command),
		 "cd %s; mv kept.db catalog.db; mv kept.db-wal catalog.db-wal",
		 state->rig.directory);
	assert_int_equal(system(command), 0);
	check(state);
	assert_int_equal(all(state), 0);
}

struct reading {
	struct state *state;
	unsigned char *model;
	unsigned failed, right;
};

/* As fill() wrote it. */
static void make_model(unsigned char *model)
{
	for (unsigned i = 0; i < 340; i++) {
		bool small = i >= 300;
		unsigned n = small ? i - 300 : i;
		uint64_t at = n * (small ? UINT64_C(104729) : 7919) % (SIZE / CHUNK) * CHUNK;

		for (size_t b = 0; b < (small ? 2 : CHUNK / 4096); b++)
			memset(model + at + b * 4096, (unsigned char)(n + b), 4096);
	}
}

static int read_all(void *arg)
{
	struct reading *reading = arg;
	struct state *state = reading->state;
	unsigned char *buffer = aligned_alloc(4096, 4096);

	ASSERT(buffer);
	ASSERT(start_engine(state) == 0);
	open_vdisk(state);
	for (uint64_t at = 0; at < SIZE; at += 4096) {
		memset(buffer, 0x5a, 4096);
		if (block_io(vdisk_volume(state->vdisk), BLOCK_READ, 0, buffer, 4096, at) < 0) {
			reading->failed++;
			continue;
		}
		ASSERT(memcmp(buffer, reading->model + at, 4096) == 0);
		reading->right++;
	}
	stop_engine(state);
	free(buffer);
	return 0;
}

/* What is damaged fails to be read; nothing else is given. Last: the open vDisk changes things. */
static void damage_is_not_served(void **ret_state)
{
	struct state *state = *ret_state;
	struct reading reading = {.state = state, .model = calloc(1, SIZE)};

	assert_non_null(reading.model);
	make_model(reading.model);
	list_files(state);
	for (size_t i = 0; i < files.count; i++)
		for (uint64_t block = i % 3; block < files.size[i] / 4096; block += 17)
			flip(files.path[i], block * 4096 + block * 977 % 4096, block % 8);
	assert_int_equal(real_rig_run(&state->rig, 0, read_all, &reading), 0);
	printf("%u blocks are right, %u cannot be read\n", reading.right, reading.failed);
	assert_true(reading.failed > 0 && reading.right > 0);
	free(reading.model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_state),
		cmocka_unit_test(one_flip_in_each_block),
		cmocka_unit_test(many_flips_at_once),
		cmocka_unit_test(flips_in_the_catalog),
		cmocka_unit_test(rows_are_repaired),
		cmocka_unit_test(a_row_is_gone),
		cmocka_unit_test(damage_is_not_served),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
