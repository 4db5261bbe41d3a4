/* SPDX-License-Identifier: Apache-2.0 */
/* Where the groups of a vDisk go: stripe width and tiers, on simulated disks that are all alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "egroup/rows.h"
#include "egroup/store.h"
#include "engine_rig.h"
#include "pool/policy.h"
#include "pool/pool_disk.h"
#include "reactor/io.h"
#include "vdisk/vdisk_priv.h"

#define POOL_BYTES (512 * MIB) /* groups of 4 MiB */
#define DISK_BYTES (96 * MIB)
#define FILES_MAX  64u

static struct engine_rig rig_memory;

enum wanted { LOGS, COMPACTED };

struct files { /* of one kind, in the order in which they were made */
	unsigned count;
	struct pool_copies copies[FILES_MAX];
};

static void scan(struct engine_rig *rig, enum catalog_table table, struct catalog_rows *ret_rows)
{
	struct catalog_key prefix = egroup_prefix(table, rig->pool_id, rig->vdisk_id);

	assert_int_equal(catalog_scan(rig->catalog, &prefix, NULL, 0, ret_rows), 0);
}

static bool is_log(const struct catalog_rows *groups, uint64_t file)
{
	struct egroup_group_row group;

	for (size_t i = 0; i < groups->count; i++) {
		assert_int_equal(egroup_group_row_decode(&groups->rows[i], &group), 0);
		if (group.file == file)
			return group.stream == RECORD_STREAM_LOG;
	}
	return false;
}

static struct files files_of(struct engine_rig *rig, enum wanted wanted)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0}, groups = {0};
	struct files files = {0};
	struct egroup_file_row row;

	scan(rig, CATALOG_EGFILE, &rows);
	scan(rig, CATALOG_EGROUP, &groups);
	for (size_t i = 0; i < rows.count; i++) {
		assert_int_equal(egroup_file_row_decode(&rows.rows[i], &row), 0);
		if (row.compacted != (wanted == COMPACTED) ||
		    (wanted == LOGS && !is_log(&groups, row.id)))
			continue;
		assert_true(files.count < FILES_MAX);
		files.copies[files.count++] = row.copies;
	}
	return files;
}

static unsigned different_disks(const struct files *files, unsigned first, unsigned count)
{
	uint64_t seen[FILES_MAX * POOL_COPIES_MAX];
	unsigned different = 0;

	for (unsigned i = first; i < first + count; i++)
		for (unsigned j = 0; j < files->copies[i].count; j++) {
			unsigned at = 0;

			while (at < different && seen[at] != files->copies[i].disks[j])
				at++;
			if (at == different)
				seen[different++] = files->copies[i].disks[j];
		}
	return different;
}

/* As many files in a row as make up the width are on as many disks. */
static void expect_width(const struct files *files, unsigned first, unsigned factor, unsigned width)
{
	unsigned in_a_row = width / factor;

	assert_true(files->count >= first + in_a_row + 2);
	for (unsigned i = first; i + in_a_row <= files->count; i++)
		assert_int_equal(different_disks(files, i, in_a_row), in_a_row * factor);
}

static void set_policy(struct engine_rig *rig, unsigned factor, unsigned width)
{
	struct policy_set of_container = {0}, of_vdisk = {0};
	struct container_policy policy;

	assert_int_equal(policy_set_put(&of_container, POLICY_REPLICATION_FACTOR, factor), 0);
	assert_int_equal(policy_set_put(&of_vdisk, POLICY_STRIPE_WIDTH, width), 0);
	policy_merge(&of_container, &of_vdisk, &policy);
	vdisk_set_policy(rig->vdisk, &policy);
}

static void write_range(struct engine_rig *rig, uint64_t from, uint64_t to, uint64_t piece)
{
	char *buffer = aligned_alloc(4096, piece);

	assert_non_null(buffer);
	memset(buffer, 0x5a, piece);
	for (uint64_t at = from; at < to; at += piece)
		assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, buffer, piece, at), 0);
	assert_int_equal(block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	free(buffer);
}

static void begin(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_create(rig), 0);
	assert_int_equal(engine_rig_start(rig), 0);
	assert_int_equal(engine_rig_create_vdisk(rig, "v", DISK_BYTES), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
}

static int end(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	engine_rig_stop(rig);
	return 0;
}

static void run(unsigned disks, unsigned factor, int (*fn)(struct engine_rig *rig))
{
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, disks, factor);
	engine_rig_call(&rig_memory, fn);
	engine_rig_done(&rig_memory);
}

/* Four by default; what is set applies to the next group, without opening again. */
static int width_is_kept(struct engine_rig *rig)
{
	struct files files;
	unsigned before;

	begin(rig);
	write_range(rig, 0, 32 * MIB, MIB);
	files = files_of(rig, LOGS);
	expect_width(&files, 0, 1, 4);
	before = files.count - 1; /* the last is ready, and is made again */
	set_policy(rig, 1, 8);
	write_range(rig, 32 * MIB, 96 * MIB, MIB);
	files = files_of(rig, LOGS);
	expect_width(&files, before, 1, 8);
	return end(rig);
}

static void groups_are_spread(void **state)
{
	(void)state;
	run(8, 1, width_is_kept);
}

/* The copies of one group count for the width, too. */
static int width_of_copies(struct engine_rig *rig)
{
	struct files files;

	begin(rig);
	set_policy(rig, 2, 6);
	write_range(rig, 0, 48 * MIB, MIB);
	files = files_of(rig, LOGS);
	expect_width(&files, 1, 2, 6);
	return end(rig);
}

static void copies_are_spread(void **state)
{
	(void)state;
	run(6, 2, width_of_copies);
}

/* There are fewer disks than that: all are used, none is an error. */
static int width_is_too_great(struct engine_rig *rig)
{
	struct files files;

	begin(rig);
	set_policy(rig, 1, 64);
	write_range(rig, 0, 32 * MIB, MIB);
	files = files_of(rig, LOGS);
	expect_width(&files, 1, 1, 3);
	return end(rig);
}

static void fewer_disks_than_the_width(void **state)
{
	(void)state;
	run(3, 1, width_is_too_great);
}

/* Of each piece of 64 KiB one in eight stays: so much of every group. */
static int sparse_groups(struct engine_rig *rig)
{
	struct vdisk_stats stats;
	struct files files;

	begin(rig);
	write_range(rig, 0, DISK_BYTES, MIB);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	for (uint64_t at = 0; at < DISK_BYTES; at += 64 * KIB)
		assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 56 * KIB, at), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	for (unsigned i = 0; i < 600 && files_of(rig, COMPACTED).count < 3; i++)
		fiber_sleep(NSEC_PER_SEC);
	vdisk_get_stats(rig->vdisk, &stats);
	files = files_of(rig, COMPACTED);
	assert_true(stats.compacted_groups > 0 && files.count >= 3);
	for (unsigned i = 0; i + 2 <= files.count; i++)
		assert_int_equal(different_disks(&files, i, 2), 2);
	return end(rig);
}

static void compaction_is_spread(void **state)
{
	(void)state;
	run(6, 1, sparse_groups);
}

/* Tiers: disks 1 and 2 are SSDs, 3 and 4 hard disks. */

static bool is_on_ssd(const struct pool_copies *copies)
{
	for (unsigned i = 0; i < copies->count; i++)
		if (copies->disks[i] > 2)
			return false;
	return true;
}

/* Of the files from `first` on: how many are on SSDs, with all their copies. */
static unsigned on_ssds(const struct files *files, unsigned first)
{
	unsigned count = 0;

	for (unsigned i = first; i < files->count; i++)
		count += is_on_ssd(&files->copies[i]);
	return count;
}

static void set_orders(struct engine_rig *rig, uint64_t at_random, uint64_t sequential)
{
	struct policy_set set = {0};
	struct container_policy policy;

	assert_int_equal(policy_set_put(&set, POLICY_TIER_ORDER_RANDOM, at_random), 0);
	assert_int_equal(policy_set_put(&set, POLICY_TIER_ORDER_SEQUENTIAL, sequential), 0);
	assert_int_equal(policy_put_vdisk(rig->catalog, rig->vdisk_id, &set), 0);
	policy_merge(&set, NULL, &policy);
	vdisk_set_policy(rig->vdisk, &policy);
}

/* The same blocks as write_range(), but no two in a row. */
static void write_scattered(struct engine_rig *rig, uint64_t from, uint64_t bytes)
{
	uint64_t blocks = bytes / 4096;
	char *buffer = aligned_alloc(4096, 4096);

	assert_non_null(buffer);
	memset(buffer, 0x3c, 4096);
	for (uint64_t i = 0; i < blocks; i++)
		assert_int_equal(block_io(rig->volume, BLOCK_WRITE, 0, buffer, 4096,
					  from + i * 1031 % blocks * 4096),
				 0);
	free(buffer);
}

static void reopen(struct engine_rig *rig)
{
	assert_int_equal(engine_rig_close_vdisk(rig), 0);
	assert_int_equal(engine_rig_open_vdisk(rig), 0);
}

/* A backup goes to the hard disks, from when it is known as one; what follows it at random to the
 * SSDs. With equal orders nothing is made anew. */
static int tiers_by_pattern(struct engine_rig *rig)
{
	struct files files;
	unsigned before;

	begin(rig);
	set_orders(rig, 0x21, 0x12);
	write_scattered(rig, 0, 32 * MIB);
	files = files_of(rig, LOGS);
	before = files.count;
	assert_int_equal(on_ssds(&files, 0), before);
	write_range(rig, 0, 48 * MIB, 128 * KIB);
	files = files_of(rig, LOGS);
	/* 8 MiB until it is known, in groups of 4 MiB; one was ready. */
	assert_true(files.count - before >= 11 && on_ssds(&files, before) <= 3);
	assert_true(!is_on_ssd(&files.copies[files.count - 1]));
	/* A restart does not forget it. */
	reopen(rig);
	before = files_of(rig, LOGS).count;
	write_range(rig, 48 * MIB, 64 * MIB, 128 * KIB);
	files = files_of(rig, LOGS);
	assert_int_equal(on_ssds(&files, before), 0);
	before = files.count;
	write_scattered(rig, 0, 48 * MIB);
	files = files_of(rig, LOGS);
	assert_true(files.count - before - on_ssds(&files, before) <= 3);
	assert_true(is_on_ssd(&files.copies[files.count - 1]));
	return end(rig);
}

static void run_tiers(unsigned factor, int (*fn)(struct engine_rig *rig))
{
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, 4, factor);
	rig_memory.tiers[0] = rig_memory.tiers[1] = "ssd";
	rig_memory.tiers[2] = rig_memory.tiers[3] = "hdd";
	engine_rig_call(&rig_memory, fn);
	engine_rig_done(&rig_memory);
}

static void sequential_data_have_an_order_of_their_own(void **state)
{
	(void)state;
	run_tiers(1, tiers_by_pattern);
}

/* What compaction gathers, and what repair copies, stays on the tiers of its own order. */
static int moves_within_tiers(struct engine_rig *rig)
{
	struct vdisk_repair repair = {0};
	struct vdisk_stats stats;
	struct files files;

	begin(rig);
	set_orders(rig, 0x21, 0x12);
	write_range(rig, 0, DISK_BYTES, MIB);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	reopen(rig);
	for (uint64_t at = 32 * MIB; at < DISK_BYTES; at += 64 * KIB)
		assert_int_equal(block_io(rig->volume, BLOCK_UNMAP, 0, NULL, 56 * KIB, at), 0);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	for (unsigned i = 0; i < 600 && files_of(rig, COMPACTED).count < 2; i++)
		fiber_sleep(NSEC_PER_SEC);
	vdisk_get_stats(rig->vdisk, &stats);
	files = files_of(rig, COMPACTED);
	assert_true(stats.compacted_groups > 0 && files.count >= 2);
	assert_int_equal(on_ssds(&files, 0), 0);
	/* Disk 4 is emptied: disk 3 is of the tier and takes all of it. */
	assert_int_equal(pool_disk_set_draining(rig->pool, 4, true), 0);
	for (unsigned i = 0; i < 100 && vdisk_repair(rig->vdisk, &repair) != 0; i++)
		fiber_sleep(NSEC_PER_SEC);
	assert_true(repair.copied_bytes > 0);
	files = files_of(rig, COMPACTED);
	for (unsigned i = 0; i < files.count; i++)
		assert_true(files.copies[i].count == 1 && files.copies[i].disks[0] == 3);
	return end(rig);
}

static void moved_data_keep_their_order(void **state)
{
	(void)state;
	run_tiers(1, moves_within_tiers);
}

/* A process that dies in the middle of all that leaves the vDisk as it was. */
static int write_alternating(struct engine_rig *rig)
{
	if (!rig->vdisk)
		begin(rig);
	set_orders(rig, 0x21, 0x12);
	for (unsigned i = 0; i < 3; i++) {
		write_range(rig, 0, 24 * MIB, 128 * KIB);
		write_scattered(rig, 32 * MIB, 9 * MIB);
	}
	return 0;
}

struct late { /* a write that is not waited for */
	struct block_request request;
	struct iovec iov;
	bool finished;
};

static void late_done(struct block_request *request, int result)
{
	struct late *late = CONTAINER_OF(request, struct late, request);

	assert_int_equal(result, 0);
	late->finished = true;
}

static void submit_late(struct engine_rig *rig, struct late *late, char *buffer, uint64_t offset)
{
	*late = (struct late){.iov = {buffer, 64 * KIB}};
	late->request = (struct block_request){.op = BLOCK_WRITE,
					       .offset = offset,
					       .length = 64 * KIB,
					       .iov = &late->iov,
					       .iov_count = 1,
					       .done = late_done};
	block_submit(rig->volume, &late->request);
}

static void set_write_errors(struct engine_rig *rig, uint32_t ppm)
{
	const struct sim_faults faults = {.write_error_ppm = ppm};

	for (unsigned i = 0; i < rig->disks; i++)
		sim_disk_set_faults(rig->sim.sim, engine_rig_disk(i), &faults);
}

/* A write fails, and while the group that takes over is being made the guest turns out to write in
 * sequence. Then enough to fill that group. */
static int turn_beside_a_reroute(struct engine_rig *rig)
{
	static struct late lates[9];
	uint64_t known = 8 * MIB - 256 * KIB; /* told apart before; the verdict comes with 8 MiB */
	struct log *log;
	char *buffer;

	begin(rig);
	log = &rig->vdisk->log;
	buffer = aligned_alloc(4096, 64 * KIB);
	assert_non_null(buffer);
	memset(buffer, 0x5a, 64 * KIB);
	set_orders(rig, 0x21, 0x12);
	write_range(rig, 0, known, 128 * KIB);
	assert_false(rig->vdisk->pattern.sequential);
	set_write_errors(rig, 1000000);
	submit_late(rig, &lates[0], buffer, known);
	while (!log->reroute_started)
		fiber_sleep(NSEC_PER_USEC);
	set_write_errors(rig, 0);
	for (unsigned i = 1; i < ARRAY_SIZE(lates); i++)
		submit_late(rig, &lates[i], buffer, known + i * 64 * KIB);
	assert_true(rig->vdisk->pattern.sequential && log->reroute_started);
	assert_false(log->provisioning);
	for (unsigned i = 0; i < ARRAY_SIZE(lates); i++)
		while (!lates[i].finished)
			fiber_sleep(NSEC_PER_MSEC);
	free(buffer);
	write_range(rig, known, 24 * MIB, 128 * KIB);
	write_scattered(rig, 32 * MIB, 9 * MIB);
	return 0;
}

struct policy_task {
	struct fiber_task task;
	struct engine_rig *rig;
};

static void change_orders(struct fiber_task *task)
{
	set_orders(CONTAINER_OF(task, struct policy_task, task)->rig, 0x12, 0x21);
}

/* The group that the log has ready is just being dropped for another policy. */
static int close_beside_a_policy(struct engine_rig *rig)
{
	static struct policy_task change;
	struct log *log;

	begin(rig);
	log = &rig->vdisk->log;
	write_range(rig, 0, MIB, MIB);
	while (!log->ready)
		fiber_sleep(NSEC_PER_MSEC);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	while (rig->vdisk->reclaiming)
		fiber_sleep(NSEC_PER_MSEC);
	log_close_current(log);
	assert_int_equal(vdisk_checkpoint(rig->vdisk), 0);
	sim_set_slow_jobs(rig->sim.sim, NSEC_PER_SEC);
	change = (struct policy_task){.task.run = change_orders, .rig = rig};
	fiber_spawn(reactor_current(), FIBER_CONTROL, &change.task);
	while (log->ready)
		fiber_sleep(NSEC_PER_USEC);
	return end(rig);
}

/* No group is begun that closing does not wait for. */
static void closed_beside_a_policy(void **state)
{
	(void)state;
	run(4, 1, close_beside_a_policy);
}

static int read_alternating(struct engine_rig *rig)
{
	unsigned char *buffer = aligned_alloc(4096, MIB);

	assert_non_null(buffer);
	assert_int_equal(engine_rig_open_again(rig), 0);
	for (uint64_t at = 0; at < 41 * MIB; at += MIB) {
		unsigned char wanted = at < 24 * MIB ? 0x5a : at < 32 * MIB ? 0 : 0x3c;

		assert_int_equal(block_io(rig->volume, BLOCK_READ, 0, buffer, MIB, at), 0);
		for (size_t i = 0; i < MIB; i += 512)
			assert_int_equal(buffer[i], wanted);
	}
	free(buffer);
	return end(rig);
}

static void run_crash(int (*before)(struct engine_rig *rig))
{
	engine_rig_init(&rig_memory, 1, false, POOL_BYTES);
	engine_rig_set_disks(&rig_memory, 4, 1);
	rig_memory.tiers[2] = rig_memory.tiers[3] = "hdd";
	engine_rig_call(&rig_memory, before);
	engine_rig_crash(&rig_memory, SIM_CRASH_PROCESS);
	engine_rig_call(&rig_memory, read_alternating);
	engine_rig_done(&rig_memory);
}

static void a_crash_between_tiers(void **state)
{
	(void)state;
	run_crash(write_alternating);
}

/* No group is made beside the one that takes over: it would be used later and replayed earlier. */
static void other_tiers_beside_a_reroute(void **state)
{
	(void)state;
	run_crash(turn_beside_a_reroute);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groups_are_spread),
		cmocka_unit_test(copies_are_spread),
		cmocka_unit_test(fewer_disks_than_the_width),
		cmocka_unit_test(compaction_is_spread),
		cmocka_unit_test(sequential_data_have_an_order_of_their_own),
		cmocka_unit_test(moved_data_keep_their_order),
		cmocka_unit_test(closed_beside_a_policy),
		cmocka_unit_test(a_crash_between_tiers),
		cmocka_unit_test(other_tiers_beside_a_reroute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
