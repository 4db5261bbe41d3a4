/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single cases of repairs of the check, each made on purpose in the simulated world: a vDisk with
 * two copies on two disks is made, something is put wrong, and what the check says and leaves is
 * looked at. Damage by seed is in test_repair.c.
 *
 *     test_repair_cases [NAME]
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
#include "egroup/rows.h"
#include "egroup/store.h"
#include "fsck/fsck.h"
#include "reactor/io.h"
#include "vdisk/rows.h"

#include "fsck_cases.h"

#define ORPHAN_ID UINT64_C(0x777)

static struct {
	struct engine_rig rig;
	struct fsck_report report;
	unsigned kinds[FSCK_KIND_COUNT], done[FSCK_KIND_COUNT];
	struct catalog_rows rows;
	struct egroup_file_row file; /* of a group of the log that is sealed */
	struct egroup_group_row group;
	/* Once, when something of that kind is told. */
	enum fsck_kind event_kind;
	void (*event)(void);
} test;

static void finding(void *arg, const struct fsck_finding *finding)
{
	void (*event)(void) = finding->kind == test.event_kind ? test.event : NULL;

	(void)arg;
	if (event) {
		test.event = NULL;
		event();
	}
	test.kinds[finding->kind]++;
	test.done[finding->kind] += finding->done != NULL;
	if (getenv("SHOW"))
		fprintf(stderr, "%s: %s: %s (%s)\n", finding->code, finding->object, finding->cause,
			finding->done ? finding->done : "-");
}

static void check(struct engine_rig *rig, bool repair)
{
	const struct fsck_options options = {.world = sim_world(rig->sim.sim),
					     .catalog = CATALOG,
					     .vfs = SIM_VFS_NAME,
					     .scratch = SCRATCH,
					     .repair = repair,
					     .finding = finding};

	memset(test.kinds, 0, sizeof(test.kinds));
	memset(test.done, 0, sizeof(test.done));
	CHECK(fsck_run(&options, &test.report) == 0);
}

static unsigned all(void)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < FSCK_KIND_COUNT; i++)
		sum += test.kinds[i];
	return sum;
}

/* Shown first, which changes nothing; then put right; then nothing is found. */
static void expect_fixed(struct engine_rig *rig, enum fsck_kind kind, unsigned count)
{
	for (unsigned i = 0; i < 2; i++) {
		check(rig, false);
		CHECK(test.kinds[kind] == count && all() == count && test.done[kind] == 0);
	}
	check(rig, true);
	CHECK(test.kinds[kind] == count && all() == count && test.done[kind] == count);
	check(rig, true);
	CHECK(all() == 0);
}

static int open_catalog(struct engine_rig *rig, struct catalog **ret_catalog)
{
	const struct catalog_options options = {.path = CATALOG, .vfs = SIM_VFS_NAME};

	return catalog_open(sim_world(rig->sim.sim), &options, ret_catalog);
}

static void commit(struct engine_rig *rig, const struct catalog_change *changes, size_t count)
{
	struct catalog *catalog;

	CHECK(open_catalog(rig, &catalog) == 0);
	CHECK(catalog_commit(catalog, changes, count) == 0);
	catalog_close(catalog);
}

static void read_rows(struct engine_rig *rig, enum catalog_table table)
{
	const struct catalog_key prefix = catalog_key(table);
	struct catalog *catalog;

	catalog_rows_done(&test.rows);
	CHECK(open_catalog(rig, &catalog) == 0);
	CHECK(catalog_scan(catalog, &prefix, NULL, 0, &test.rows) == 0);
	catalog_close(catalog);
}

static void find_group(struct engine_rig *rig)
{
	read_rows(rig, CATALOG_EGROUP);
	for (size_t i = 0; test.group.id == 0 && i < test.rows.count; i++) {
		CHECK(egroup_group_row_decode(&test.rows.rows[i], &test.group) == 0);
		if (test.group.stream != RECORD_STREAM_LOG || !test.group.sealed)
			test.group.id = 0;
	}
	CHECK(test.group.id && !test.group.compacted);
	read_rows(rig, CATALOG_EGFILE);
	for (size_t i = 0; test.file.id != test.group.file && i < test.rows.count; i++)
		CHECK(egroup_file_row_decode(&test.rows.rows[i], &test.file) == 0);
	CHECK(test.file.id == test.group.file && test.file.copies.count == 2);
}

static int make_state(struct engine_rig *rig)
{
	CHECK(engine_rig_bring_up(rig) == 0);
	for (unsigned i = 0; i < 64; i++) {
		memset(buffer, (int)i + 1, 4096);
		CHECK(block_io(rig->volume, BLOCK_WRITE, 0, buffer, 4096, i * MIB) == 0);
	}
	CHECK(engine_rig_close_vdisk(rig) == 0);
	engine_rig_stop(rig);
	CHECK(io_directory_make(SCRATCH) == 0);
	find_group(rig);
	check(rig, false);
	CHECK(all() == 0);
	return 0;
}

static const char *path_of(unsigned disk, const char *directory, uint64_t id, const char *ending)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	if (strcmp(directory, "groups") == 0)
		snprintf(path, sizeof(paths[0]), "%s/groups/%02x/%016" PRIx64 ".eg",
			 engine_rig_directory(disk, 0), (unsigned)(id & 0xff), id);
	else
		snprintf(path, sizeof(paths[0]), "%s/%s/%016" PRIx64 ".eg%s",
			 engine_rig_directory(disk, 0), directory, id, ending);
	return path;
}

static bool is_there(const char *path)
{
	struct world_stat stat;

	return io_stat(path, &stat) == 0;
}

static uint64_t read_file(const char *path)
{
	struct world_file *file;
	int64_t got;

	CHECK(io_open(path, WORLD_FILE_READ_ONLY, &file) == 0);
	got = io_read(file, buffer, MIB, 0);
	CHECK(got >= 0 && io_close(file) == 0);
	return (uint64_t)got;
}

static void put_file(const char *path, uint64_t length)
{
	struct world_file *file;

	CHECK(io_open(path, WORLD_FILE_CREATE, &file) == 0);
	CHECK(io_write(file, buffer, length, 0) == 0);
	CHECK(io_sync(file) == 0);
	CHECK(io_close(file) == 0);
}

static struct catalog_key row_key(struct engine_rig *rig, enum catalog_table table, uint64_t id)
{
	struct catalog_key key = catalog_key(table);

	catalog_key_add(&key, rig->pool_id);
	catalog_key_add(&key, rig->vdisk_id);
	catalog_key_add(&key, id);
	return key;
}

/* Rows of a group and its file are lost: what the files hold is kept, and nothing overwritten. */
static int test_unclaimed(struct engine_rig *rig)
{
	const struct catalog_change changes[] = {
		{.kind = CATALOG_DELETE, .key = row_key(rig, CATALOG_EGROUP, test.group.id)},
		{.kind = CATALOG_DELETE, .key = row_key(rig, CATALOG_EGFILE, test.file.id)}};
	uint64_t id = test.file.id, length = read_file(path_of(0, "groups", id, ""));
	unsigned char *content = malloc(length);
	char directory[64];

	CHECK(content);
	memcpy(content, buffer, length);
	snprintf(directory, sizeof(directory), "%s/unclaimed", engine_rig_directory(0, 0));
	CHECK(io_directory_make(directory) == 0);
	memset(buffer, 0x11, 4096);
	put_file(path_of(0, "unclaimed", id, ""), 4096);
	commit(rig, changes, 2);
	check(rig, false);
	CHECK(test.kinds[FSCK_FILE_UNCLAIMED] == 2 && is_there(path_of(1, "groups", id, "")));
	check(rig, true);
	CHECK(test.done[FSCK_FILE_UNCLAIMED] == 2 && test.kinds[FSCK_MAP_ENTRY] > 0);
	CHECK(!is_there(path_of(0, "groups", id, "")) && !is_there(path_of(1, "groups", id, "")));
	CHECK(read_file(path_of(0, "unclaimed", id, "")) == 4096 && buffer[7] == 0x11);
	CHECK(read_file(path_of(0, "unclaimed", id, ".1")) == length);
	CHECK(memcmp(buffer, content, length) == 0);
	CHECK(read_file(path_of(1, "unclaimed", id, "")) == length);
	CHECK(memcmp(buffer, content, length) == 0);
	check(rig, true);
	CHECK(test.kinds[FSCK_FILE_UNCLAIMED] == 0);
	free(content);
	return 0;
}

/* With a row of a group that names a file without one, the catalog has lost something. */
static int test_doubtful_rows(struct engine_rig *rig)
{
	const struct catalog_change change = {.kind = CATALOG_DELETE,
					      .key = row_key(rig, CATALOG_EGFILE, test.file.id)};

	commit(rig, &change, 1);
	check(rig, true);
	CHECK(test.kinds[FSCK_REFERENCE] == 1 && test.kinds[FSCK_FILE_UNCLAIMED] == 2);
	CHECK(test.done[FSCK_FILE_UNCLAIMED] == 0);
	CHECK(is_there(path_of(0, "groups", test.file.id, "")));
	return 0;
}

/* Nothing in it, or only what a reused file has of an earlier life. */
static int test_left_empty(struct engine_rig *rig)
{
	uint64_t length = read_file(path_of(0, "groups", test.file.id, ""));

	put_file(path_of(0, "groups", 0x55, ""), length);
	memset(buffer, 0, MIB);
	put_file(path_of(1, "groups", 0x66, ""), MIB);
	for (unsigned i = 0; i < 2; i++) {
		check(rig, false);
		CHECK(test.kinds[FSCK_FILE_LEFT] == 2 && test.kinds[FSCK_COUNTER] <= 1);
	}
	check(rig, true);
	CHECK(test.done[FSCK_FILE_LEFT] == 2 && test.kinds[FSCK_FILE_UNCLAIMED] == 0);
	CHECK(!is_there(path_of(0, "groups", 0x55, "")));
	CHECK(!is_there(path_of(1, "groups", 0x66, "")));
	check(rig, true);
	CHECK(all() == 0);
	return 0;
}

/* A damaged header, and an index, that say whose they are: that is content. */
static int test_left_damaged(struct engine_rig *rig)
{
	struct record_header_disk *header = (void *)buffer;

	CHECK(read_file(path_of(0, "groups", test.file.id, "")) > 4096);
	header->file = htole64(ORPHAN_ID); /* its checksum is wrong by that */
	put_file(path_of(0, "groups", ORPHAN_ID, ""), 8192);
	check(rig, true);
	CHECK(test.done[FSCK_FILE_UNCLAIMED] == 1 && test.done[FSCK_COUNTER] == 1);
	CHECK(is_there(path_of(0, "unclaimed", ORPHAN_ID, "")));
	check(rig, true);
	CHECK(all() == 0);
	return 0;
}

/* An id that lies on a disk must not be given again. */
static int test_counter(struct engine_rig *rig)
{
	char path[128];

	memset(buffer, 0, 4096);
	snprintf(path, sizeof(path), "%s/spare/%016" PRIx64 ".sp", engine_rig_directory(1, 0),
		 ORPHAN_ID);
	put_file(path, 4096);
	expect_fixed(rig, FSCK_COUNTER, 1);
	return 0;
}

/* Names that begin as an id does, or have one that no program gives, are of others. */
static int test_strangers(struct engine_rig *rig)
{
	static const char *const names[] = {
		"groups/00/0000000000000000.eg",
		"groups/ff/ffffffffffffffff.eg",
		"groups/00/0001000000000000.eg",
		"spare/deadbeef",
		"spare/-1.sp",
		"spare/0000000000007777.eg",
		"spare/0000000000007777.sp.old",
		"spare/fffffffffffffffe.sp",
		"unclaimed/7777",
		"unclaimed/0000000000007777.eg.",
		"unclaimed/0000000000007777.eg.01",
		"unclaimed/0001000000000000.eg",
		"unclaimed/00000000000077777777.eg",
	};
	char path[128];

	snprintf(path, sizeof(path), "%s/unclaimed", engine_rig_directory(1, 0));
	CHECK(io_directory_make(path) == 0);
	snprintf(path, sizeof(path), "%s/spare/ffffffffffffffff.new", engine_rig_directory(1, 0));
	put_file(path, 4096); /* as a crash leaves it when a disk was tried */
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", engine_rig_directory(1, 0), names[i]);
		put_file(path, 4096);
	}
	for (unsigned i = 0; i < 2; i++) {
		check(rig, true);
		CHECK(test.kinds[FSCK_FILE_LEFT] == ARRAY_SIZE(names));
		CHECK(all() == ARRAY_SIZE(names) && test.done[FSCK_FILE_LEFT] == 0);
	}
	snprintf(path, sizeof(path), "%s/unclaimed/0000000000007777.eg.12",
		 engine_rig_directory(1, 0));
	put_file(path, 4096);
	check(rig, true);
	CHECK(test.done[FSCK_COUNTER] == 1);
	return 0;
}

static void spoil_vdisk(struct engine_rig *rig, void (*spoil)(struct vdisk_row *row))
{
	uint8_t value[VDISK_ROW_BYTES];
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = vdisk_row_key(rig->vdisk_id),
					      .value = value,
					      .length = sizeof(value)};
	struct vdisk_row row;

	read_rows(rig, CATALOG_VDISK);
	CHECK(test.rows.count == 1 && vdisk_row_decode(&test.rows.rows[0], &row) == 0);
	spoil(&row);
	vdisk_row_encode(&row, value);
	commit(rig, &change, 1);
}

static void spoil_live(struct vdisk_row *row)
{
	row->live_slots += 17;
}

static int test_live(struct engine_rig *rig)
{
	spoil_vdisk(rig, spoil_live);
	expect_fixed(rig, FSCK_LIVE, 1);
	return 0;
}

static void spoil_epoch(struct vdisk_row *row)
{
	row->epoch = 0;
	row->page_lsn = 0;
}

static int test_epoch(struct engine_rig *rig)
{
	spoil_vdisk(rig, spoil_epoch);
	expect_fixed(rig, FSCK_EPOCH, 1);
	return 0;
}

static int test_size(struct engine_rig *rig)
{
	uint8_t value[EGROUP_ROW_BYTES];
	const struct egroup_file file = {.id = test.file.id,
					 .allocated_bytes = test.file.size_bytes + 8 * 4096,
					 .sequential = true,
					 .copies = test.file.copies};
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = row_key(rig, CATALOG_EGFILE, test.file.id),
					      .value = value,
					      .length = sizeof(value)};

	egroup_file_row(&file, value);
	commit(rig, &change, 1);
	expect_fixed(rig, FSCK_FILE_SIZE, 1);
	read_rows(rig, CATALOG_EGFILE);
	for (size_t i = 0; i < test.rows.count; i++) {
		struct egroup_file_row row;

		CHECK(egroup_file_row_decode(&test.rows.rows[i], &row) == 0);
		CHECK(row.id != test.file.id ||
		      (row.size_bytes == test.file.size_bytes && row.sequential));
	}
	return 0;
}

/* A row that names a disk that is no disk: what else is wrong with it is put right. */
static int test_no_disk(struct engine_rig *rig)
{
	uint8_t value[EGROUP_ROW_BYTES];
	struct egroup_file file = {.id = test.file.id,
				   .allocated_bytes = test.file.size_bytes + 8 * 4096,
				   .copies = test.file.copies};
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = row_key(rig, CATALOG_EGFILE, test.file.id),
					      .value = value,
					      .length = sizeof(value)};

	file.copies.disks[1] = 99;
	egroup_file_row(&file, value);
	commit(rig, &change, 1);
	check(rig, true);
	CHECK(test.kinds[FSCK_REFERENCE] == 1 && test.done[FSCK_FILE_SIZE] == 1);
	CHECK(test.kinds[FSCK_FILE_UNCLAIMED] == 1 && test.done[FSCK_FILE_UNCLAIMED] == 0);
	return 0;
}

static unsigned disk_of(unsigned copy)
{
	return (unsigned)test.file.copies.disks[copy] - 1;
}

static void flip(struct engine_rig *rig, unsigned copy, uint64_t block)
{
	const char *path = path_of(disk_of(copy), "groups", test.file.id, "");

	CHECK(sim_disk_flip(rig->sim.sim, path, block * 4096 + 99, 3) == 0);
}

/* A header and a block, each on another copy. */
static int test_flips(struct engine_rig *rig)
{
	flip(rig, 0, 0);
	flip(rig, 1, 1);
	expect_fixed(rig, FSCK_COPY, 2);
	return 0;
}

/* The same block on both: it is told, and nothing else happens to it. */
static int test_both(struct engine_rig *rig)
{
	flip(rig, 0, 1);
	flip(rig, 1, 1);
	CHECK(io_unlink(path_of(disk_of(0), "groups", test.file.id, "")) == 0);
	check(rig, true);
	CHECK(test.kinds[FSCK_BLOCK] + test.kinds[FSCK_BLOCK_UNUSED] == 1);
	CHECK(test.kinds[FSCK_FILE_MISSING] == 1 && test.done[FSCK_FILE_MISSING] == 0);
	CHECK(all() == 2);
	return 0;
}

/* A disk that cannot be written to: what it lacks is called stale. */
static int test_read_only(struct engine_rig *rig)
{
	flip(rig, 0, 1);
	sim_disk_set_read_only(rig->sim.sim, engine_rig_disk(disk_of(0)), true);
	check(rig, true);
	CHECK(test.kinds[FSCK_COPY] == 1 && test.done[FSCK_COPY] == 0);
	CHECK(test.kinds[FSCK_COPY_OLD] == 1 && test.done[FSCK_COPY_OLD] == 1);
	check(rig, true);
	CHECK(all() == 0);
	return 0;
}

/* Without the catalog nothing is written anywhere: somebody else has it. */
static int test_no_catalog(struct engine_rig *rig)
{
	struct catalog *catalog;
	uint64_t length;

	flip(rig, 0, 1);
	length = read_file(path_of(disk_of(0), "groups", test.file.id, ""));
	memset(buffer, 0, MIB);
	put_file(path_of(1, "groups", 0x66, ""), MIB);
	CHECK(open_catalog(rig, &catalog) == 0);
	check(rig, true);
	CHECK(test.kinds[FSCK_REPAIR] == 1 && test.kinds[FSCK_COPY] == 1);
	CHECK(test.report.corrected == 0 && is_there(path_of(1, "groups", 0x66, "")));
	catalog_close(catalog);
	check(rig, true);
	CHECK(test.done[FSCK_COPY] == 1 && test.done[FSCK_FILE_LEFT] == 1);
	CHECK(read_file(path_of(disk_of(0), "groups", test.file.id, "")) == length);
	return 0;
}

/* Two blocks of the file's copy, from its beginning. */
static void write_copy(unsigned copy)
{
	struct world_file *file;

	CHECK(io_open(path_of(disk_of(copy), "groups", test.file.id, ""), 0, &file) == 0);
	CHECK(io_write(file, buffer, 8192, 0) == 0);
	CHECK(io_sync(file) == 0 && io_close(file) == 0);
}

/* A sound record that is not the group's, where the other copy has no sound header: what the map
 * says is right, and that copy has it. */
static int test_other_record(struct engine_rig *rig)
{
	struct record_header_disk *header = (void *)buffer;

	CHECK(read_file(path_of(disk_of(0), "groups", test.file.id, "")) > 8192);
	CHECK(record_payload_blocks(header) == 1 && buffer[4096] == 1);
	memset(buffer + 4096, 0x77, 4096);
	header->epoch = htole64(le64toh(header->epoch) + 1);
	header->block_crcs[0] = htole32(crc32c(buffer + 4096, 4096));
	header->crc = 0;
	header->crc = htole32(crc32c(header, sizeof(*header)));
	write_copy(0);
	flip(rig, 1, 0);
	check(rig, true);
	CHECK(test.kinds[FSCK_HEADER] == 1 && test.done[FSCK_COPY] == 1);
	CHECK(test.kinds[FSCK_COPY] == 1 && test.kinds[FSCK_BLOCK] == 0);
	for (unsigned copy = 0; copy < 2; copy++) {
		CHECK(read_file(path_of(disk_of(copy), "groups", test.file.id, "")) > 8192);
		CHECK(buffer[4096] == 1 && memcmp(buffer + 4096, buffer + 4097, 4095) == 0);
	}
	return 0;
}

static void fail_reads(void)
{
	const struct sim_faults faults = {.read_error_ppm = 1000000};

	sim_disk_set_faults(test.rig.sim.sim, engine_rig_disk(disk_of(0)), &faults);
}

/* What is right cannot be read again: that is no fault of the copy that lacks it. */
static int test_source(struct engine_rig *rig)
{
	const struct sim_faults none = {0};
	struct egroup_file_row row;

	flip(rig, 0, 1);
	flip(rig, 1, 1);
	flip(rig, 1, 3);
	test.event_kind = FSCK_BLOCK;
	test.event = fail_reads;
	check(rig, true);
	CHECK(!test.event && test.kinds[FSCK_COPY] == 1 && test.done[FSCK_COPY] == 0);
	CHECK(test.kinds[FSCK_COPY_OLD] == 0);
	sim_disk_set_faults(rig->sim.sim, engine_rig_disk(disk_of(0)), &none);
	read_rows(rig, CATALOG_EGFILE);
	for (size_t i = 0; i < test.rows.count; i++) {
		CHECK(egroup_file_row_decode(&test.rows.rows[i], &row) == 0);
		CHECK(row.copies.stale == 0);
	}
	check(rig, true);
	CHECK(test.done[FSCK_COPY] == 1);
	return 0;
}

static void lose_catalog(void)
{
	CHECK(io_unlink(CATALOG) == 0);
	(void)io_unlink(CATALOG "-wal"); /* it need not be there */
}

/* The catalog can be read, and not be opened any more: it is made again from a mirror, and may say
 * something else. Nothing is put right by what it said before. */
static int test_restored(struct engine_rig *rig)
{
	struct catalog *catalog;
	char path[64];

	CHECK(open_catalog(rig, &catalog) == 0);
	CHECK(catalog_mirror_add(catalog, engine_rig_directory(1, 0)) == 0);
	catalog_mirror_wait(catalog);
	catalog_close(catalog);
	memset(buffer, 0, MIB);
	snprintf(path, sizeof(path), "%s/groups/00/stranger", engine_rig_directory(1, 0));
	put_file(path, 4096);
	put_file(path_of(1, "groups", 0x66, ""), MIB);
	flip(rig, 0, 1);
	test.event_kind = FSCK_FILE_LEFT;
	test.event = lose_catalog;
	check(rig, true);
	CHECK(!test.event && test.kinds[FSCK_REPAIR] == 1 && test.kinds[FSCK_COPY] == 1);
	CHECK(test.report.corrected == 0 && is_there(path_of(1, "groups", 0x66, "")));
	check(rig, true);
	CHECK(test.kinds[FSCK_REPAIR] == 0);
	CHECK(test.done[FSCK_COPY] == 1 && test.done[FSCK_FILE_LEFT] == 1);
	return 0;
}

static void change_row(struct engine_rig *rig, enum catalog_table table, uint64_t id,
		       void (*edit)(uint8_t *value))
{
	const struct catalog_key key = row_key(rig, table, id);
	struct catalog_change change = {.kind = CATALOG_PUT, .key = key};

	read_rows(rig, table);
	for (size_t i = 0; i < test.rows.count; i++)
		if (memcmp(&test.rows.rows[i].key, &key, sizeof(key)) == 0) {
			edit(test.rows.rows[i].value);
			change.value = test.rows.rows[i].value;
			change.length = test.rows.rows[i].length;
		}
	CHECK(change.value);
	commit(rig, &change, 1);
}

/* Names that point elsewhere, of what has them: each is put right, not removed. */
static int test_names(struct engine_rig *rig)
{
	uint8_t id[8] = {99};
	struct catalog_change change = {.kind = CATALOG_PUT, .value = id, .length = sizeof(id)};

	read_rows(rig, CATALOG_NAME);
	CHECK(test.rows.count == 3); /* of the pool, the container and the vDisk */
	for (size_t i = 0; i < test.rows.count; i++) {
		change.key = test.rows.rows[i].key;
		commit(rig, &change, 1);
	}
	expect_fixed(rig, FSCK_NAME, 3);
	read_rows(rig, CATALOG_NAME);
	CHECK(test.rows.count == 3);
	return 0;
}

static void edit_compacted(uint8_t *value)
{
	value[3] = 1; /* docs/format.md, EGROUP row */
}

static void put_name(struct engine_rig *rig, const char *name)
{
	const uint8_t id[8] = {99};
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = catalog_name_key(CATALOG_NAME_POOL, 0, name),
					      .value = id,
					      .length = 8};

	commit(rig, &change, 1);
}

/* Rows that contradict each other: none is removed, and the file stays one that a row names, or the
 * next start would take it. */
static int test_contradiction(struct engine_rig *rig)
{
	size_t files;

	change_row(rig, CATALOG_EGROUP, test.group.id, edit_compacted);
	put_name(rig, "nowhere");
	read_rows(rig, CATALOG_EGFILE);
	files = test.rows.count;
	check(rig, true);
	CHECK(test.kinds[FSCK_REFERENCE] == 1 && test.kinds[FSCK_FILE_EMPTY] == 1);
	CHECK(test.done[FSCK_FILE_EMPTY] == 0 && test.kinds[FSCK_NAME] == 1);
	CHECK(test.done[FSCK_NAME] == 0 && test.kinds[FSCK_FILE_UNCLAIMED] == 0);
	read_rows(rig, CATALOG_EGFILE);
	CHECK(test.rows.count == files && is_there(path_of(1, "groups", test.file.id, "")));
	CHECK(io_unlink(path_of(1, "groups", test.file.id, "")) == 0);
	check(rig, true);
	CHECK(test.kinds[FSCK_FILE_MISSING] == 1);
	return 0;
}

static const struct fsck_case cases[] = {
	{"unclaimed", 2, 2, .phases = {test_unclaimed}},
	{"doubtful-rows", 2, 2, .phases = {test_doubtful_rows}},
	{"left-empty", 2, 2, .phases = {test_left_empty}},
	{"left-damaged", 2, 2, .phases = {test_left_damaged}},
	{"counter", 2, 2, .phases = {test_counter}},
	{"strangers", 2, 2, .phases = {test_strangers}},
	{"live", 2, 2, .phases = {test_live}},
	{"epoch", 2, 2, .phases = {test_epoch}},
	{"size", 2, 2, .phases = {test_size}},
	{"no-disk", 2, 2, .phases = {test_no_disk}},
	{"flips", 2, 2, .phases = {test_flips}},
	{"both", 2, 2, .phases = {test_both}},
	{"read-only", 2, 2, .phases = {test_read_only}},
	{"no-catalog", 2, 2, .phases = {test_no_catalog}},
	{"other-record", 2, 2, .phases = {test_other_record}},
	{"source", 2, 2, .phases = {test_source}},
	{"restored", 2, 2, .phases = {test_restored}},
	{"contradiction", 2, 2, .phases = {test_contradiction}},
	{"names", 2, 2, .phases = {test_names}},
};

static void run_case(const struct fsck_case *one)
{
	struct engine_rig *rig = &test.rig;

	memset(&test, 0, sizeof(test));
	engine_rig_init(rig, 1, false, CAPACITY);
	engine_rig_set_disks(rig, one->disks, one->factor);
	rig->vdisk_bytes = SIZE;
	CHECK(engine_rig_call(rig, make_state) == 0);
	CHECK(engine_rig_call(rig, one->phases[0]) == 0);
	catalog_rows_done(&test.rows);
	engine_rig_done(rig);
}

int main(int argc, char **argv)
{
	return fsck_cases_run(argc, argv, cases, ARRAY_SIZE(cases), run_case);
}
