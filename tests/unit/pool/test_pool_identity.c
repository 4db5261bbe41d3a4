/* SPDX-License-Identifier: Apache-2.0 */
/* Labels, directories and rows that are damaged, foreign, missing or unexpected. */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "pool/pool_damage.h"

#define LABEL POOL_RIG_DIRECTORY "/label"

static int reopen(struct pool_rig *rig)
{
	int r = pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool);

	if (r == 0)
		pool_close(TAKE_PTR(rig->pool));
	return r;
}

/* A pool that exists and is closed; the catalog is open. */
static void begin(struct pool_rig *rig)
{
	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	pool_close(TAKE_PTR(rig->pool));
}

static void write_file(const char *path, const void *data, size_t length)
{
	struct world_file *file;

	ASSERT(io_open(path, WORLD_FILE_CREATE, &file) == 0);
	ASSERT(io_resize(file, 0, WORLD_RESIZE_TRUNCATE) == 0);
	ASSERT(io_write(file, data, length, 0) == 0);
	ASSERT(io_close(file) == 0);
}

static void read_label(uint8_t label[4096])
{
	struct world_file *file;

	ASSERT(io_open(LABEL, WORLD_FILE_READ_ONLY, &file) == 0);
	ASSERT(io_read_exactly(file, label, 4096, 0) == 0);
	ASSERT(io_close(file) == 0);
}

static void seal_label(uint8_t label[4096])
{
	put_le32(label + 12, 0);
	put_le32(label + 12, crc32c(label, 4096));
}

static void label_run(void *arg)
{
	struct pool_rig *rig = arg;
	uint8_t good[4096], label[4096];

	begin(rig);
	read_label(good);
	for (uint64_t offset = 0; offset < 4096; offset += offset < 160 ? 1 : 97) {
		ASSERT(sim_disk_flip(rig->sim.sim, LABEL, offset, offset % 8) == 0);
		ASSERT(reopen(rig) == 0); /* what is left proves whose it was: written anew */
		read_label(label);
		ASSERT(memcmp(label, good, sizeof(label)) == 0);
	}
	/* Neither UUID nor number is right. */
	ASSERT(sim_disk_flip(rig->sim.sim, LABEL, 41, 1) == 0);
	ASSERT(sim_disk_flip(rig->sim.sim, LABEL, 25, 1) == 0);
	ASSERT(reopen(rig) == -EUCLEAN);
	write_file(LABEL, good, 4095);
	ASSERT(reopen(rig) == -EUCLEAN);
	memcpy(label, good, 4096);
	label[8]++; /* version */
	seal_label(label);
	write_file(LABEL, label, 4096);
	ASSERT(reopen(rig) == -EPROTONOSUPPORT);
	memcpy(label, good, 4096);
	label[40]++; /* UUID */
	seal_label(label);
	write_file(LABEL, label, 4096);
	ASSERT(reopen(rig) == -ENODEV);
	memcpy(label, good, 4096);
	label[24]++; /* disk */
	seal_label(label);
	write_file(LABEL, label, 4096);
	ASSERT(reopen(rig) == -ENODEV);
	ASSERT(io_unlink(LABEL) == 0);
	ASSERT(reopen(rig) == -ENODEV);
	write_file(LABEL, good, 4096);
	ASSERT(reopen(rig) == 0);
	pool_rig_close(rig);
}

static void scrub_label(struct pool_rig *rig, int expected, bool expected_put_right)
{
	bool put_right = false;

	ASSERT(pool_disk_scrub_label(rig->pool, 1, &put_right) == expected);
	ASSERT(put_right == expected_put_right);
}

static void scrub_run(void *arg)
{
	struct pool_rig *rig = arg;
	uint8_t good[4096], label[4096];

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	read_label(good);
	for (uint64_t offset = 0; offset < 4096; offset += 331) {
		ASSERT(sim_disk_flip(rig->sim.sim, LABEL, offset, offset % 8) == 0);
		scrub_label(rig, 0, true);
		read_label(label);
		ASSERT(memcmp(label, good, sizeof(label)) == 0);
		scrub_label(rig, 0, false);
	}
	sim_disk_set_read_only(rig->sim.sim, POOL_RIG_DISK, true);
	ASSERT(sim_disk_flip(rig->sim.sim, LABEL, 300, 2) == 0);
	scrub_label(rig, -EROFS, false);
	scrub_label(rig, 0, false); /* known to be so now: it stays, for it says whose it is */
	sim_disk_set_read_only(rig->sim.sim, POOL_RIG_DISK, false);
	fiber_sleep(5 * NSEC_PER_SEC); /* until that was found out */
	scrub_label(rig, 0, true);
	/* Not known any more: said, and left as it is. */
	ASSERT(sim_disk_flip(rig->sim.sim, LABEL, 41, 1) == 0);
	ASSERT(sim_disk_flip(rig->sim.sim, LABEL, 25, 1) == 0);
	scrub_label(rig, -EUCLEAN, false);
	write_file(LABEL, good, 4096);
	scrub_label(rig, 0, false);
	ASSERT(pool_disk_scrub_label(rig->pool, 7, &(bool){false}) == -ENOENT);
	pool_rig_close(rig);
}

static void scrubs_the_label(void **state)
{
	pool_rig_run(*state, scrub_run);
}

static void checks_the_label(void **state)
{
	pool_rig_run(*state, label_run);
}

static void two_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool *other;
	struct pool_info *infos;
	struct pool_file *a, *b;
	uint64_t id, found;
	size_t count;
	uint8_t byte;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(pool_rig_create(rig, "q", POOL_RIG_DISK "/q", POOL_MIN_BYTES, &id) == 0);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, id, &other) == 0);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &a) == 0);
	ASSERT(take_file(other, POOL_USE_DATA, MIB, &b) == 0);
	ASSERT(pool_file_id(a) == pool_file_id(b)); /* each pool counts for itself */
	ASSERT(pool_rig_write(a, 'a') == 0 && pool_rig_write(b, 'b') == 0);
	ASSERT(pool_rig_read(a, &byte) == 0 && byte == 'a');
	ASSERT(pool_rig_name(rig, a) == 0);
	ASSERT(pool_list(rig->catalog, &infos, &count) == 0 && count == 2);
	ASSERT(infos[0].id == rig->pool_id && strcmp(infos[1].name, "q") == 0);
	ASSERT(strcmp(infos[1].directory, POOL_RIG_DISK "/q") == 0);
	free(infos);
	pool_file_close(b);
	ASSERT(pool_delete(other) == 0);
	ASSERT(pool_find(rig->catalog, "q", &found) == -ENOENT);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, id, &other) == -ENOENT);
	ASSERT(pool_rig_read(a, &byte) == 0 && byte == 'a');
	ASSERT(pool_delete(rig->pool) == -EBUSY);
	pool_file_close(a);
	/* The directories of one pool in place of those of another. */
	pool_close(TAKE_PTR(rig->pool));
	ASSERT(pool_rig_create(rig, "q", POOL_RIG_DISK "/q", POOL_MIN_BYTES, &id) == 0);
	ASSERT(io_rename(POOL_RIG_DISK "/q/label", LABEL) == 0);
	ASSERT(reopen(rig) == -ENODEV);
	ASSERT(pool_open(sim_world(rig->sim.sim), rig->catalog, id, &other) == -ENODEV);
	pool_rig_close(rig);
}

static void keeps_two_pools_apart(void **state)
{
	pool_rig_run(*state, two_run);
}

static void bad_spec_run(void *arg)
{
	struct pool_rig *rig = arg;
	char path[5000] = "/disk/";
	uint64_t id;

	begin(rig);
	ASSERT(pool_rig_create(rig, "A", "/disk/q", 0, &id) == -EINVAL);
	ASSERT(pool_rig_create(rig, "q", "disk/q", 0, &id) == -EINVAL);
	ASSERT(pool_rig_create(rig, "q", "/disk/q/", 0, &id) == -EINVAL);
	ASSERT(pool_rig_create(rig, "q", "", 0, &id) == -EINVAL);
	memset(path + 6, 'x', sizeof(path) - 7);
	ASSERT(pool_rig_create(rig, "q", path, 0, &id) == -ENAMETOOLONG);
	ASSERT(pool_rig_create(rig, "q", "/disk/no/q", 0, &id) == -ENOENT);
	ASSERT(pool_rig_create(rig, "p", "/disk/q", 0, &id) == -EEXIST);
	ASSERT(pool_rig_create(rig, "q", POOL_RIG_DIRECTORY, 0, &id) == -ENOTEMPTY);
	ASSERT(pool_rig_create(rig, "q", "/disk/q", POOL_MIN_BYTES - 1, &id) == -ENOSPC);
	sim_disk_set_capacity(rig->sim.sim, POOL_RIG_DISK, POOL_MIN_BYTES);
	ASSERT(pool_rig_create(rig, "q", "/disk/q", 0, &id) == -ENOSPC); /* less 5 % */
	sim_disk_set_capacity(rig->sim.sim, POOL_RIG_DISK, POOL_RIG_DISK_BYTES);
	write_file("/disk/q/groups/7f/strange", "x", 1);
	ASSERT(pool_rig_create(rig, "q", "/disk/q", 0, &id) == -ENOTEMPTY);
	ASSERT(io_unlink("/disk/q/groups/7f/strange") == 0);
	write_file("/disk/q/strange", "x", 1);
	ASSERT(pool_rig_create(rig, "q", "/disk/q", 0, &id) == -ENOTEMPTY);
	ASSERT(io_unlink("/disk/q/strange") == 0);
	write_file("/disk/q/spare/strange", "x", 1);
	ASSERT(pool_rig_create(rig, "q", "/disk/q", 0, &id) == -ENOTEMPTY);
	ASSERT(io_unlink("/disk/q/spare/strange") == 0);
	write_file("/disk/q/spare/0000000000000001.sp", "x", 1);
	ASSERT(pool_rig_create(rig, "q", "/disk/q", 0, &id) == 0);
	pool_rig_close(rig);
}

static void refuses_bad_places(void **state)
{
	pool_rig_run(*state, bad_spec_run);
}

static void sweep_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *named, *unnamed;
	struct world_stat stat;
	uint64_t id, lost;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, 2 * MIB, &named) == 0);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, 3 * MIB, &unnamed) == 0);
	ASSERT(pool_rig_name(rig, named) == 0);
	id = pool_file_id(named);
	pool_file_close(named);
	pool_file_close(unnamed);
	pool_close(TAKE_PTR(rig->pool));
	/* Not ours, or not whole. */
	write_file(POOL_RIG_DIRECTORY "/groups/01/README", "x", 1);
	write_file(POOL_RIG_DIRECTORY "/groups/01/00000000000000ff.eg", "x", 1);
	write_file(POOL_RIG_DIRECTORY "/groups/ff/00000000000000ff.eg", "x", 1);
	write_file(POOL_RIG_DIRECTORY "/groups/00/0000000000000000.eg", "x", 1);
	write_file(POOL_RIG_DIRECTORY "/spare/00000000000000fe.new", "x", 1);
	write_file(POOL_RIG_DIRECTORY "/spare/00000000000000fd.sp", "x", 1);
	write_file(POOL_RIG_DIRECTORY "/spare/notes", "x", 1);

	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(pool_rig_space(rig).used == 2 * MIB && pool_rig_space(rig).spare == 3 * MIB);
	ASSERT(io_stat(POOL_RIG_DIRECTORY "/groups/01/README", &stat) == 0);
	ASSERT(io_stat(POOL_RIG_DIRECTORY "/groups/01/00000000000000ff.eg", &stat) == 0);
	ASSERT(io_stat(POOL_RIG_DIRECTORY "/groups/ff/00000000000000ff.eg", &stat) == -ENOENT);
	ASSERT(io_stat(POOL_RIG_DIRECTORY "/spare/00000000000000fe.new", &stat) == -ENOENT);
	ASSERT(io_stat(POOL_RIG_DIRECTORY "/spare/00000000000000fd.sp", &stat) == -ENOENT);
	ASSERT(io_stat(POOL_RIG_DIRECTORY "/spare/notes", &stat) == 0);

	/* A file that the catalog names is gone: the others can still be used. */
	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &named) == 0);
	ASSERT(pool_rig_name(rig, named) == 0);
	lost = pool_file_id(named);
	pool_file_close(named);
	pool_close(TAKE_PTR(rig->pool));
	char path[200];
	snprintf(path, sizeof(path), POOL_RIG_DIRECTORY "/groups/%02x/%016lx.eg",
		 (unsigned)(lost & 0xff), (unsigned long)lost);
	ASSERT(io_unlink(path) == 0);
	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(open_file(rig->pool, lost, &named) == -ENOENT);
	ASSERT(open_file(rig->pool, id, &named) == 0);
	pool_file_close(named);
	ASSERT(discard_file_id(rig->pool, lost) == 0);
	pool_rig_close(rig);
}

static void sweeps_what_no_row_names(void **state)
{
	pool_rig_run(*state, sweep_run);
}

static int put_value(struct pool_rig *rig, uint64_t vdisk, uint64_t file, const uint8_t *value,
		     uint32_t length)
{
	struct catalog_change change = {.kind = CATALOG_PUT,
					.key = catalog_key(CATALOG_EGFILE),
					.value = value,
					.length = length};

	catalog_key_add(&change.key, rig->pool_id);
	catalog_key_add(&change.key, vdisk);
	catalog_key_add(&change.key, file);
	return catalog_commit(rig->catalog, &change, 1);
}

static int put_file_row(struct pool_rig *rig, uint64_t vdisk, uint64_t file, uint64_t size,
			uint32_t length)
{
	const struct pool_copies copies = {.count = 1, .disks = {1}};
	uint8_t value[FILE_ROW_BYTES] = {0};

	pool_rows_encode_file(size, &copies, value);
	return put_value(rig, vdisk, file, value, length);
}

static void expect_damage(struct pool_rig *rig, uint64_t vdisk, enum pool_damage_kind kind)
{
	struct pool_damage damage;

	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(pool_damage_of(rig->pool, vdisk, &damage));
	ASSERT(damage.vdisk == vdisk && damage.kind == kind && damage.rows == 1);
	ASSERT(!pool_damage_of(rig->pool, 3, &damage) && pool_is_in_doubt(rig->pool));
	pool_close(TAKE_PTR(rig->pool));
}

static void expect_no_damage(struct pool_rig *rig, uint64_t vdisk)
{
	struct pool_damage damage;

	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(!pool_damage_of(rig->pool, vdisk, &damage));
	pool_close(TAKE_PTR(rig->pool));
}

static void rows_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct catalog_key keys[2] = {catalog_key(CATALOG_POOL), catalog_key(CATALOG_DISK)};
	struct catalog_change remove = {.kind = CATALOG_DELETE_PREFIX,
					.key = catalog_key(CATALOG_EGFILE)};
	struct pool_info *infos;
	size_t count;

	begin(rig);
	const struct {
		uint64_t file, size;
		uint32_t length;
	} bad[] = {{1, 4096, FILE_ROW_BYTES - 1},
		   {0, 4096, FILE_ROW_BYTES},
		   {1, 4097, FILE_ROW_BYTES},
		   {1, POOL_GROUP_BYTES + 4096, FILE_ROW_BYTES}};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		/* Of a file: only its vDisk is not opened (test_pool_damage.c). */
		ASSERT(put_file_row(rig, 1, bad[i].file, bad[i].size, bad[i].length) == 0);
		expect_damage(rig, 1, POOL_DAMAGE_FILE);
		ASSERT(catalog_commit(rig->catalog, &remove, 1) == 0);
	}
	ASSERT(put_file_row(rig, 1, 5, 4096, FILE_ROW_BYTES) == 0);
	ASSERT(put_file_row(rig, 2, 5, 4096, FILE_ROW_BYTES) == 0);
	expect_damage(rig, 1, POOL_DAMAGE_SHARED); /* two owners of one file */
	expect_damage(rig, 2, POOL_DAMAGE_SHARED);
	ASSERT(catalog_commit(rig->catalog, &remove, 1) == 0);
	ASSERT(reopen(rig) == 0);
	for (unsigned i = 0; i < 2; i++) {
		struct catalog_rows rows;
		struct catalog_change change = {.kind = CATALOG_PUT};

		ASSERT(catalog_scan(rig->catalog, &keys[i], NULL, 0, &rows) == 0);
		ASSERT(rows.count == 1);
		change.key = rows.rows[0].key;
		change.value = rows.rows[0].value;
		for (uint32_t length = 0; length < rows.rows[0].length; length += 11) {
			change.length = length;
			ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
			ASSERT(reopen(rig) == -EUCLEAN);
			ASSERT(pool_list(rig->catalog, &infos, &count) == -EUCLEAN);
		}
		change.length = rows.rows[0].length;
		ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
		ASSERT(reopen(rig) == 0);
		catalog_rows_done(&rows);
	}
	pool_rig_close(rig);
}

static void refuses_damaged_rows(void **state)
{
	pool_rig_run(*state, rows_run);
}

/* A disk's row with one byte that nothing writes. */
static void disk_row_run(void *arg)
{
	static const struct {
		unsigned offset;
		uint8_t byte;
	} bad[] = {{0, 0}, {0, 9}, {1, 4}, {6, 0}, {40, 0}, {40, '/'}, {56, 'x'}};
	struct pool_rig *rig = arg;
	struct catalog_key prefix = catalog_key(CATALOG_DISK);
	struct catalog_rows rows;

	begin(rig);
	ASSERT(catalog_scan(rig->catalog, &prefix, NULL, 0, &rows) == 0 && rows.count == 1);
	struct catalog_change change = {.kind = CATALOG_PUT,
					.key = rows.rows[0].key,
					.value = rows.rows[0].value,
					.length = rows.rows[0].length};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		uint8_t *byte = (uint8_t *)rows.rows[0].value + bad[i].offset, good = *byte;

		*byte = bad[i].byte;
		ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
		ASSERT(reopen(rig) == -EUCLEAN);
		*byte = good;
	}
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	ASSERT(reopen(rig) == 0);
	catalog_rows_done(&rows);
	pool_rig_close(rig);
}

static void refuses_disks_that_cannot_be(void **state)
{
	pool_rig_run(*state, disk_row_run);
}

/* What a row says of copies: each on another disk, one at least that is not stale. Else its vDisk
 * is not opened. */
static void copies_run(void *arg)
{
	static const struct {
		bool damaged;
		struct pool_copies copies;
	} rows[] = {
		{false, {.count = 1, .disks = {1}}},
		{false, {.count = 2, .disks = {1, 2}, .stale = 2}},
		{true, {.count = 0}},
		{true, {.count = POOL_COPIES_MAX + 1, .disks = {1, 2, 3, 4}}},
		{true, {.count = 1, .disks = {0}}},
		{true, {.count = 2, .disks = {1, 0}}},
		{true, {.count = 3, .disks = {7, 1, 7}}}, /* foreign ones, too */
		{true, {.count = 1, .disks = {1}, .stale = 1}},
		{true, {.count = 2, .disks = {1, 2}, .stale = 3}},
		{true, {.count = 1, .disks = {1}, .stale = 2}},
	};
	struct pool_rig *rig = arg;

	begin(rig);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t value[FILE_ROW_BYTES] = {0};

		pool_rows_encode_file(4096, &rows[i].copies, value);
		ASSERT(put_value(rig, 1, 7, value, sizeof(value)) == 0);
		if (rows[i].damaged)
			expect_damage(rig, 1, POOL_DAMAGE_FILE);
		else
			expect_no_damage(rig, 1);
		value[8] = 9; /* a version to come */
		ASSERT(put_value(rig, 1, 7, value, sizeof(value)) == 0);
		expect_damage(rig, 1, POOL_DAMAGE_FILE);
	}
	pool_rig_close(rig);
}

static void refuses_copies_that_cannot_be(void **state)
{
	pool_rig_run(*state, copies_run);
}

#define FOREIGN_DISK 77u

static void put_copies(struct pool_rig *rig, uint64_t file, const struct pool_copies *copies)
{
	uint8_t value[FILE_ROW_BYTES] = {0};

	pool_rows_encode_file(MIB, copies, value);
	pool_close(TAKE_PTR(rig->pool));
	ASSERT(put_value(rig, 1, file, value, sizeof(value)) == 0);
	ASSERT(pool_rig_open(rig, 0) == 0);
}

/* A row that names a disk that is not the pool's: nothing of it is here, and nothing of any other
 * disk stands for it. */
static void foreign_run(void *arg)
{
	const struct pool_copies both = {.count = 2, .disks = {FOREIGN_DISK, 1}};
	const struct pool_copies other = {.count = 1, .disks = {FOREIGN_DISK}};
	struct pool_rig *rig = arg;
	struct pool_copies copies;
	struct pool_file *file;
	uint64_t id;
	void *page = aligned_alloc(4096, 4096);

	begin(rig);
	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &file) == 0);
	ASSERT(pool_rig_write(file, 'f') == 0);
	id = pool_file_id(file);
	pool_file_close(file);

	put_copies(rig, id, &both);
	ASSERT(pool_rig_space(rig).used == MIB);
	ASSERT(pool_file_open(rig->pool, id, &both, &file) == 0);
	pool_file_get_copies(file, &copies);
	ASSERT(copies.count == 2 && copies.disks[0] == FOREIGN_DISK && copies.disks[1] == 1);
	ASSERT(pool_io_read_copy(file, 0, page, 4096, 0) == -ENXIO);
	ASSERT(pool_io_read_copy(file, 1, page, 4096, 0) == 0 && *(uint8_t *)page == 'f');
	pool_check(rig->pool);
	pool_file_close(file);

	put_copies(rig, id, &other);
	ASSERT(pool_rig_space(rig).used == MIB); /* what is there has no row: it is kept */
	ASSERT(pool_is_in_doubt(rig->pool));
	ASSERT(pool_file_open(rig->pool, id, &other, &file) == -ENOENT);
	pool_check(rig->pool);
	pool_rig_close(rig);
	free(page);
}

static void takes_no_other_disk_for_a_foreign_one(void **state)
{
	pool_rig_run(*state, foreign_run);
}

#define MANY_ROWS 4101u /* many pages of a scan, and a last one that is not full */
#define A_COMMIT  100u

static void many_rows_run(void *arg)
{
	struct pool_rig *rig = arg;
	const struct pool_copies copies = {.count = 1, .disks = {1}};
	uint8_t value[FILE_ROW_BYTES] = {0};
	struct catalog_change *changes = calloc(MANY_ROWS, sizeof(*changes));
	struct catalog_key prefix;
	struct catalog_rows rows;

	ASSERT(changes);
	begin(rig);
	pool_rows_encode_file(4096, &copies, value);
	for (unsigned i = 0; i < MANY_ROWS; i++) {
		changes[i] = (struct catalog_change){.kind = CATALOG_PUT,
						     .key = catalog_key(CATALOG_EGFILE),
						     .value = value,
						     .length = sizeof(value)};
		catalog_key_add(&changes[i].key, rig->pool_id);
		catalog_key_add(&changes[i].key, 1 + i / 3000);
		catalog_key_add(&changes[i].key, i + 1);
	}
	for (unsigned i = 0; i < MANY_ROWS; i += A_COMMIT)
		ASSERT(catalog_commit(rig->catalog, changes + i, MIN(A_COMMIT, MANY_ROWS - i)) ==
		       0);
	free(changes);
	ASSERT(pool_rig_open(rig, 0) == 0);
	ASSERT(pool_rig_space(rig).used == MANY_ROWS * UINT64_C(4096));
	prefix = pool_rows_files_prefix(rig->pool_id);
	ASSERT(catalog_scan(rig->catalog, &prefix, NULL, 0, &rows) == 0);
	ASSERT(rows.count == MANY_ROWS);
	for (unsigned i = 0; i < MANY_ROWS; i++)
		ASSERT(catalog_key_number(&rows.rows[i].key, 2) == i + 1);
	catalog_rows_done(&rows);
	pool_rig_close(rig);
}

static void reads_more_rows_than_a_page(void **state)
{
	pool_rig_run(*state, many_rows_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_rig_setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(checks_the_label),
		TEST(scrubs_the_label),
		TEST(keeps_two_pools_apart),
		TEST(refuses_bad_places),
		TEST(sweeps_what_no_row_names),
		TEST(refuses_damaged_rows),
		TEST(refuses_disks_that_cannot_be),
		TEST(refuses_copies_that_cannot_be),
		TEST(takes_no_other_disk_for_a_foreign_one),
		TEST(reads_more_rows_than_a_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
