/* SPDX-License-Identifier: Apache-2.0 */
/* What groups tell of their vDisk: round trip, impossible values, and when the engine writes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "egroup/rows.h"
#include "egroup/store.h"
#include "engine_rig.h"
#include "reactor/io.h"
#include "vdisk/identity.h"
#include "vdisk/rows.h"

#define SIZE (64 * MIB)

static const struct identity sample = {
	.container = 3,
	.created_wall_ns = 11,
	.written_wall_ns = 12,
	.size_bytes = SIZE,
	.block_bytes = 512,
	.factor = 2,
	.epoch = 7,
	.log_group = 99,
	.log_slot = 16384,
	.name = "disk0",
	.container_name = "default",
	.disk_count = 2,
	.disks = {4, 9},
	.tiers = {0, 3},
};

static void test_round_trip(void **state)
{
	struct identity_disk disk;
	struct identity back;

	(void)state;
	identity_encode(&sample, &disk);
	assert_int_equal(identity_decode(&disk, &back), 0);
	assert_memory_equal(&back, &sample, sizeof(back));
	memset(&disk, 0, sizeof(disk));
	assert_int_equal(identity_decode(&disk, &back), -ENODATA);
}

static void refuse(const struct identity *identity)
{
	struct identity_disk disk;
	struct identity back;

	identity_encode(identity, &disk);
	assert_int_equal(identity_decode(&disk, &back), -EUCLEAN);
}

static void test_impossible_values(void **state)
{
	struct identity_disk disk;
	struct identity bad = sample, back;

	(void)state;
	bad.name[0] = '\0';
	refuse(&bad);
	bad = sample;
	memcpy(bad.container_name, "a/b", 4);
	refuse(&bad);
	bad = sample;
	bad.size_bytes = 4095;
	refuse(&bad);
	bad = sample;
	bad.block_bytes = 1024;
	refuse(&bad);
	bad = sample;
	bad.factor = POOL_FACTOR_MAX + 1;
	refuse(&bad);
	bad = sample;
	bad.container = 0;
	refuse(&bad);
	bad = sample;
	bad.log_slot = SLOTS_PER_GROUP + 1;
	refuse(&bad);
	identity_encode(&sample, &disk);
	disk.disk_count = htole32(POOL_DISKS_MAX + 1);
	assert_int_equal(identity_decode(&disk, &back), -EUCLEAN);
	identity_encode(&sample, &disk);
	memset(disk.name, 'x', sizeof(disk.name));
	assert_int_equal(identity_decode(&disk, &back), -EUCLEAN);
	identity_encode(&sample, &disk);
	disk.version = htole32(2);
	assert_int_equal(identity_decode(&disk, &back), -EPROTONOSUPPORT);
}

static struct engine_rig *rig;
static struct page_disk page __attribute__((aligned(4096)));
static struct record_header_disk header __attribute__((aligned(4096)));

static int read_block(uint64_t file, uint32_t slot, void *block)
{
	struct world_file *handle;
	char path[128];
	int r;

	snprintf(path, sizeof(path), "/disk0/pool/groups/%02x/%016" PRIx64 ".eg",
		 (unsigned)(file & 0xff), file);
	r = io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, &handle);
	if (r < 0)
		return r;
	r = io_read_exactly(handle, block, 4096, (uint64_t)slot * 4096);
	(void)io_close(handle);
	return r;
}

static uint64_t file_of(uint64_t group)
{
	struct catalog_key key = egroup_prefix(CATALOG_EGROUP, rig->pool_id, rig->vdisk_id);
	struct egroup_group_row row;
	struct catalog_row raw;

	catalog_key_add(&key, group);
	assert_int_equal(catalog_get(rig->catalog, &key, &raw), 0);
	assert_int_equal(egroup_group_row_decode(&raw, &row), 0);
	catalog_row_done(&raw);
	return row.file;
}

/* The committed root's, and the row. */
static void read_root(struct identity *ret_identity, struct vdisk_row *ret_row)
{
	assert_int_equal(vdisk_row_get(rig->catalog, rig->vdisk_id, ret_row), 0);
	assert_true(ret_row->root.address != 0);
	assert_int_equal(read_block(file_of(address_group(ret_row->root.address)),
				    address_slot(ret_row->root.address), &page),
			 0);
	assert_int_equal(le64toh(page.lsn), ret_row->checkpoint_lsn);
	assert_int_equal(page.level, ret_row->root_level);
	assert_int_equal(identity_decode(page.note, ret_identity), 0);
	assert_int_equal(ret_identity->size_bytes, ret_row->size_bytes);
	assert_int_equal(ret_identity->log_group, ret_row->log_group);
	assert_true(ret_identity->log_slot <= ret_row->log_slot); /* closing changes nothing else */
	assert_int_equal(ret_identity->epoch, ret_row->epoch);
	assert_int_equal(ret_identity->disk_count, 1);
	assert_string_equal(ret_identity->container_name, "c");
}

static void expect_first_record(uint64_t group)
{
	struct identity identity;

	assert_int_equal(read_block(file_of(group), 0, &header), 0);
	assert_int_equal(le64toh(header.group), group);
	assert_int_equal(le64toh(header.file), file_of(group));
	assert_int_equal(identity_decode(header.note, &identity), 0);
	assert_string_equal(identity.name, "disk");
	assert_int_equal(identity.size_bytes, SIZE);
}

static int checkpoints(struct engine_rig *with)
{
	static unsigned char block[4096] __attribute__((aligned(4096)));
	struct identity identity;
	struct vdisk_row row;

	rig = with;
	rig->vdisk_bytes = SIZE;
	assert_int_equal(engine_rig_bring_up(rig), 0);
	/* Zeros where zeros are: nothing in the map, but the log goes on. */
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, MIB, 0), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	read_root(&identity, &row);
	assert_int_equal(row.checkpoint_lsn, 1);
	assert_string_equal(identity.name, "disk");
	expect_first_record(address_group(row.root.address));
	expect_first_record(row.log_group);
	/* Data, and then all of it gone again. */
	assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, block, 4096, 8192), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	read_root(&identity, &row);
	assert_int_equal(row.live_slots, 3);
	assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, SIZE, 0), 0);
	assert_int_equal(vdisk_rename(rig->catalog, rig->vdisk_id, "other"), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	read_root(&identity, &row);
	assert_string_equal(identity.name, "other");
	/* Another size, without a write. */
	assert_int_equal(vdisk_resize(rig->vdisk, 2 * GIB), 0);
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	read_root(&identity, &row);
	assert_int_equal(row.size_bytes, 2 * GIB);
	engine_rig_stop(rig);
	return 0;
}

struct checkpointer {
	struct fiber_task task;
	uint64_t delay_ns;
	bool ended;
};

static void checkpoint_later(struct fiber_task *task)
{
	static unsigned char block[4096] __attribute__((aligned(4096)));
	struct checkpointer *checkpointer = CONTAINER_OF(task, struct checkpointer, task);

	fiber_sleep(checkpointer->delay_ns);
	assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, block, 4096, 8192), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	checkpointer->ended = true;
}

/* A checkpoint may have told the old size while the new one was on its way to the row. */
static int resizes_beside_checkpoints(struct engine_rig *with)
{
	struct identity identity;
	struct vdisk_row row;

	rig = with;
	rig->vdisk_bytes = SIZE;
	assert_int_equal(engine_rig_bring_up(rig), 0);
	for (unsigned i = 1; i <= 400; i++) {
		struct checkpointer checkpointer = {.task.run = checkpoint_later,
						    .delay_ns = i * 2 * NSEC_PER_USEC};

		fiber_spawn(reactor_current(), FIBER_CONTROL, &checkpointer.task);
		assert_int_equal(vdisk_resize(rig->vdisk, SIZE + i * MIB), 0);
		while (!checkpointer.ended)
			fiber_sleep(NSEC_PER_MSEC);
		read_root(&identity, &row);
		assert_int_equal(row.size_bytes, SIZE + i * MIB);
	}
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static void test_sizes_beside_checkpoints(void **state)
{
	struct engine_rig own;

	(void)state;
	engine_rig_init(&own, 1, false, GIB);
	assert_int_equal(engine_rig_call(&own, resizes_beside_checkpoints), 0);
	engine_rig_done(&own);
}

static void test_engine_tells(void **state)
{
	struct engine_rig own;

	(void)state;
	engine_rig_init(&own, 1, false, GIB);
	assert_int_equal(engine_rig_call(&own, checkpoints), 0);
	engine_rig_done(&own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_impossible_values),
		cmocka_unit_test(test_engine_tells),
		cmocka_unit_test(test_sizes_beside_checkpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
