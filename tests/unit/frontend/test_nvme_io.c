/* SPDX-License-Identifier: Apache-2.0 */
/* I/O commands, their data pointers and their errors. */
#include "block/delay.h"
#include "nvme_fixture.h"

static void ranges_are_checked(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_read, 1, 0, 1, DATA);

	assert_int_equal(nvme_io(nvme_cmd_read, BLOCKS - 1, 1, DATA), 0);
	assert_int_equal(nvme_io(nvme_cmd_read, BLOCKS - 1, 2, DATA), NVME_SC_LBA_RANGE);
	assert_int_equal(nvme_io(nvme_cmd_write, BLOCKS, 1, DATA), NVME_SC_LBA_RANGE);
	assert_int_equal(nvme_io(nvme_cmd_write_zeroes, UINT64_MAX, 1, 0), NVME_SC_LBA_RANGE);
	assert_int_equal(nvme_io(nvme_cmd_compare, UINT64_MAX - 1, 8, DATA), NVME_SC_LBA_RANGE);
	assert_int_equal(nvme_io(nvme_cmd_verify, BLOCKS, 1, 0), NVME_SC_LBA_RANGE);
	assert_int_equal(nvme_io(nvme_cmd_read, 0, 2049, DATA), NVME_SC_INVALID_FIELD);
	sqe.nsid = 0;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_NS);
	sqe.nsid = 3;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_FIELD);
	sqe.nsid = NVME_NAMESPACE_MAX + 1;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_NS);
	sqe.nsid = 1;
	sqe.opcode = 0x7f;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_OPCODE);
	sqe.opcode = nvme_cmd_read;
	sqe.cdw12 |= 1u << 26; /* protection information */
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_FIELD);
}

static void another_reactor_serves_too(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_write, 2, 3, 2, DATA);

	nvme_fill(DATA, 8192, 9);
	assert_int_equal(nvme_rig_run(&rig, 2, &sqe, NULL), 0);
	sqe = nvme_rig_rw(nvme_cmd_read, 2, 3, 2, OTHER);
	assert_int_equal(nvme_rig_run(&rig, 3, &sqe, NULL), 0);
	assert_memory_equal(nvme_rig_at(&rig, DATA), nvme_rig_at(&rig, OTHER), 8192);
}

/* Writes `bytes` from consecutive memory at `from` and reads them with the command's pointers. */
static void read_matches(struct nvme_sqe *read, uint64_t bytes, uint64_t scattered[],
			 uint64_t lengths[], unsigned parts)
{
	struct nvme_sqe write = nvme_rig_rw(nvme_cmd_write, 1, 0, (uint32_t)(bytes / 512), 0);
	uint64_t list = DATA + 0x1000, *entries = nvme_rig_at(&rig, list), at = 0;

	write.dptr[0] = DATA + 0x10000;
	write.dptr[1] = bytes > 8192 ? list : write.dptr[0] + 4096;
	for (uint64_t i = 1; i * 4096 < bytes; i++)
		entries[i - 1] = write.dptr[0] + i * 4096;
	nvme_fill(write.dptr[0], bytes, (unsigned)bytes);
	assert_int_equal(nvme_rig_run(&rig, 1, &write, NULL), 0);
	assert_int_equal(nvme_rig_run(&rig, 1, read, NULL), 0);
	for (unsigned i = 0; i < parts; i++) {
		assert_memory_equal(nvme_rig_at(&rig, scattered[i]),
				    nvme_rig_at(&rig, write.dptr[0] + at), lengths[i]);
		at += lengths[i];
	}
	assert_int_equal(at, bytes);
}

static void prp_lists_cross_pages(void **state)
{
	enum { PAGES = 256 };
	uint64_t scattered[PAGES + 1], lengths[PAGES + 1];
	struct nvme_sqe read = nvme_rig_rw(nvme_cmd_read, 1, 0, PAGES * 8, 0);
	uint64_t list = OTHER + 0xff0 - 16, *entries = nvme_rig_at(&rig, list);
	uint64_t chain = OTHER + 0x1000, *more = nvme_rig_at(&rig, chain);

	/* Pages backwards, the first at an offset, so a part of a page more at the end. */
	for (unsigned i = 0; i <= PAGES; i++) {
		scattered[i] = OTHER + 0x10000 + (uint64_t)(2 * (PAGES - i)) * 4096;
		lengths[i] = 4096;
	}
	scattered[0] += 1024;
	lengths[0] = 3072;
	lengths[PAGES] = 1024;
	read.dptr[0] = scattered[0];
	read.dptr[1] = list;
	for (unsigned i = 0; i < 3; i++)
		entries[i] = scattered[i + 1];
	entries[3] = chain;
	for (unsigned i = 4; i <= PAGES; i++)
		more[i - 4] = scattered[i];
	read_matches(&read, PAGES * 4096, scattered, lengths, PAGES + 1);
}

static void prp_errors(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_write, 1, 0, 8, DATA + 2);
	uint64_t *list = nvme_rig_at(&rig, OTHER);

	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_PRP_INVALID_OFFSET);
	sqe = nvme_rig_rw(nvme_cmd_write, 1, 0, 16, DATA);
	sqe.dptr[1] += 8;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_PRP_INVALID_OFFSET);
	sqe = nvme_rig_rw(nvme_cmd_write, 1, 0, 24, DATA);
	sqe.dptr[1] = OTHER + 4;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_PRP_INVALID_OFFSET);
	sqe.dptr[1] = OTHER;
	list[0] = DATA + 8;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_PRP_INVALID_OFFSET);
	list[0] = DATA + 4096;
	list[1] = NVME_RIG_BYTES;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_DATA_XFER_ERROR);
	sqe.dptr[1] = NVME_RIG_BYTES + 4096;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_DATA_XFER_ERROR);
	sqe = nvme_rig_rw(nvme_cmd_read, 1, 0, 16, NVME_RIG_BYTES - 4096);
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_DATA_XFER_ERROR);
	sqe = nvme_rig_rw(nvme_cmd_read, 1, 0, 8, UINT64_MAX & ~UINT64_C(4095));
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_DATA_XFER_ERROR);
	sqe.flags = 3 << 6;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_FIELD);
}

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint8_t reserved[3];
	uint8_t type;
};

static struct nvme_sqe sgl_read(uint32_t blocks, struct descriptor first)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_read, 1, 0, blocks, 0);

	sqe.flags = 1 << 6;
	memcpy(sqe.dptr, &first, sizeof(first));
	return sqe;
}

static void sgl_segments(void **state)
{
	uint64_t scattered[] = {OTHER + 1, OTHER + 0x3003, NVME_RIG_HIGH + 5};
	uint64_t lengths[] = {1000, 96, 3000};
	struct descriptor *first = nvme_rig_at(&rig, DATA), *last = nvme_rig_at(&rig, DATA + 512);
	struct nvme_sqe sqe = sgl_read(8, (struct descriptor){DATA, 32, {0}, 0x20});

	first[0] = (struct descriptor){scattered[0], 1000, {0}, 0x00};
	first[1] = (struct descriptor){DATA + 512, 48, {0}, 0x30};
	last[0] = (struct descriptor){scattered[1], 96, {0}, 0x00};
	last[1] = (struct descriptor){scattered[2], 8000, {0}, 0x00}; /* more than is needed */
	last[2] = (struct descriptor){0, 8000, {0}, 0x77};            /* not looked at */
	read_matches(&sqe, 4096, scattered, lengths, 3);
	lengths[0] = 4096;
	sqe = sgl_read(8, (struct descriptor){scattered[0], 4096, {0}, 0x00});
	read_matches(&sqe, 4096, scattered, lengths, 1);
}

static uint16_t sgl_run(struct descriptor first)
{
	struct nvme_sqe sqe = sgl_read(8, first);

	return nvme_rig_run(&rig, 1, &sqe, NULL);
}

static void sgl_errors(void **state)
{
	struct descriptor *at = nvme_rig_at(&rig, DATA);

	assert_int_equal(sgl_run((struct descriptor){OTHER, 4095, {0}, 0x00}),
			 NVME_SC_SGL_INVALID_DATA);
	assert_int_equal(sgl_run((struct descriptor){OTHER, 4096, {0}, 0x10}),
			 NVME_SC_SGL_INVALID_TYPE);
	assert_int_equal(sgl_run((struct descriptor){OTHER, 4096, {0}, 0x01}),
			 NVME_SC_SGL_INVALID_TYPE);
	assert_int_equal(sgl_run((struct descriptor){DATA, 24, {0}, 0x20}),
			 NVME_SC_SGL_INVALID_COUNT);
	assert_int_equal(sgl_run((struct descriptor){DATA, 0, {0}, 0x30}),
			 NVME_SC_SGL_INVALID_LAST);
	assert_int_equal(sgl_run((struct descriptor){NVME_RIG_BYTES, 16, {0}, 0x30}),
			 NVME_SC_DATA_XFER_ERROR);
	at[0] = (struct descriptor){OTHER, 4096, {0}, 0x50};
	assert_int_equal(sgl_run((struct descriptor){DATA, 16, {0}, 0x30}),
			 NVME_SC_SGL_INVALID_TYPE);
	at[0] = (struct descriptor){DATA, 16, {0}, 0x20}; /* itself, for ever */
	assert_int_equal(sgl_run((struct descriptor){DATA, 16, {0}, 0x20}),
			 NVME_SC_SGL_INVALID_COUNT);
	assert_int_equal(sgl_run((struct descriptor){DATA, 16, {0}, 0x30}),
			 NVME_SC_SGL_INVALID_LAST);
	at[0] = (struct descriptor){OTHER, 100, {0}, 0x00};
	assert_int_equal(sgl_run((struct descriptor){DATA, 16, {0}, 0x30}),
			 NVME_SC_SGL_INVALID_DATA);
	for (unsigned i = 0; i < 300; i++)
		at[i] = (struct descriptor){OTHER + 8192 * (i & 1), 4, {0}, 0x00};
	assert_int_equal(sgl_run((struct descriptor){DATA, 300 * 16, {0}, 0x30}),
			 NVME_SC_SGL_INVALID_COUNT);
}

static void compare_finds_differences(void **state)
{
	nvme_fill(DATA, 4096, 1);
	assert_int_equal(nvme_io(nvme_cmd_write, 8, 8, DATA), 0);
	assert_int_equal(nvme_io(nvme_cmd_compare, 8, 8, DATA), 0);
	((unsigned char *)nvme_rig_at(&rig, DATA))[4095] ^= 1;
	assert_int_equal(nvme_io(nvme_cmd_compare, 8, 8, DATA), MEDIA(NVME_SC_COMPARE_FAILED));
}

static bool is_zero(uint64_t address, size_t length)
{
	const unsigned char *at = nvme_rig_at(&rig, address);

	for (size_t i = 0; i < length; i++)
		if (at[i])
			return false;
	return true;
}

static void zeroes_and_deallocation(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_dsm, 1, 0, 1, OTHER);
	struct nvme_dsm_range *ranges = nvme_rig_at(&rig, OTHER);

	nvme_fill(DATA, 8192, 1);
	assert_int_equal(nvme_io(nvme_cmd_write, 0, 16, DATA), 0);
	assert_int_equal(nvme_io(nvme_cmd_write_zeroes, 1, 2, 0), 0);
	assert_int_equal(nvme_io(nvme_cmd_read, 0, 16, DATA), 0);
	assert_false(is_zero(DATA, 512));
	assert_true(is_zero(DATA + 512, 1024));
	assert_false(is_zero(DATA + 1536, 512));
	ranges[0] = (struct nvme_dsm_range){.slba = 4, .nlb = 2};
	ranges[1] = (struct nvme_dsm_range){.slba = BLOCKS, .nlb = 0};
	ranges[2] = (struct nvme_dsm_range){.slba = 10, .nlb = 1};
	sqe.cdw10 = 2;
	sqe.cdw11 = 0;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), 0);
	assert_int_equal(nvme_io(nvme_cmd_read, 4, 2, DATA), 0);
	assert_false(is_zero(DATA, 1024));
	sqe.cdw11 = NVME_DSMGMT_AD;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), 0);
	assert_int_equal(nvme_io(nvme_cmd_read, 4, 2, DATA), 0);
	assert_true(is_zero(DATA, 1024));
	assert_int_equal(nvme_io(nvme_cmd_read, 10, 1, DATA), 0);
	assert_true(is_zero(DATA, 512));
	ranges[1].nlb = 1;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_LBA_RANGE);
	sqe.dptr[0] = NVME_RIG_BYTES;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_DATA_XFER_ERROR);
}

static void verify_and_flush(void **state)
{
	struct nvme_sqe flush = {.opcode = nvme_cmd_flush, .nsid = NVME_NSID_ALL};

	assert_int_equal(nvme_io(nvme_cmd_verify, 0, 2048, 0), 0);
	assert_int_equal(nvme_io(nvme_cmd_verify, 7, 1, 0), 0);
	assert_int_equal(nvme_io(nvme_cmd_verify, 0, 2049, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(nvme_rig_run(&rig, 1, &flush, NULL), 0);
	flush.nsid = 1;
	assert_int_equal(nvme_rig_run(&rig, 1, &flush, NULL), 0);
	flush.nsid = 9;
	assert_int_equal(nvme_rig_run(&rig, 1, &flush, NULL), NVME_SC_INVALID_FIELD);
}

static void copy_moves_ranges(void **state)
{
	struct nvme_copy_range *ranges = nvme_rig_at(&rig, OTHER);
	struct nvme_sqe sqe = {.opcode = nvme_cmd_copy, .nsid = 1, .dptr = {OTHER, OTHER + 4096}};

	nvme_fill(DATA, 8192, 5);
	assert_int_equal(nvme_io(nvme_cmd_write, 100, 16, DATA), 0);
	memset(ranges, 0, 129 * sizeof(*ranges));
	ranges[0].slba = 108;
	ranges[0].nlb = 7;
	ranges[1].slba = 100;
	ranges[1].nlb = 7;
	sqe.cdw10 = 2000;
	sqe.cdw12 = 1;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), 0);
	assert_int_equal(nvme_io(nvme_cmd_compare, 2008, 8, DATA), 0);
	assert_int_equal(nvme_io(nvme_cmd_compare, 2000, 8, DATA + 4096), 0);
	sqe.cdw10 = 108; /* onto its source */
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_FIELD);
	sqe.cdw10 = BLOCKS - 15;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_LBA_RANGE);
	sqe.cdw10 = 3000;
	ranges[1].slba = BLOCKS - 7;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_LBA_RANGE);
	ranges[1].slba = 0;
	ranges[1].nlb = 1024;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL),
			 SPECIFIC(NVME_SC_CMD_SIZE_LIMIT_EXCEEDED));
	for (unsigned i = 0; i < 3; i++)
		ranges[i].nlb = 1023;
	sqe.cdw12 = 2;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL),
			 SPECIFIC(NVME_SC_CMD_SIZE_LIMIT_EXCEEDED));
	sqe.cdw12 = 128;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL),
			 SPECIFIC(NVME_SC_CMD_SIZE_LIMIT_EXCEEDED));
	sqe.cdw12 = 1 << 8;
	assert_int_equal(nvme_rig_run(&rig, 1, &sqe, NULL), NVME_SC_INVALID_FIELD);
}

enum { COPY_QUEUES = 7, COPIES = COPY_QUEUES * (NVME_RIG_DEPTH - 1) };

static struct block_volume *slow;

/* As in a full pool, where they wait for room. */
static int set_up_slow_writes(void **state)
{
	const struct delay_options options = {.ops = 1 << BLOCK_WRITE,
					      .before_ns = 10 * NSEC_PER_SEC};

	nvme_rig_init(&rig, 1, 2);
	volumes[0] = nvme_rig_add_memory(&rig, 1, 0, VOLUME_BYTES, 512);
	volumes[1] = nvme_rig_add_memory(&rig, 2, 1, VOLUME_BYTES, 4096);
	assert_int_equal(delay_volume_new(volumes[0], &options, &slow), 0);
	rig.namespaces[0].volume = slow;
	nvme_rig_start(&rig);
	nvme_rig_make_queues(&rig, COPY_QUEUES);
	return 0;
}

static int tear_down_slow_writes(void **state)
{
	nvme_rig_stop(&rig);
	block_volume_free(slow);
	return nvme_tear_down(state);
}

static void do_nothing(void *arg)
{
	(void)arg;
}

/* More of them than there are fibers for what the daemon is asked for. */
static void copies_that_wait_hold_no_fibers(void **state)
{
	struct nvme_sqe write = nvme_rig_rw(nvme_cmd_write, 1, 4000, 8, DATA);
	struct sim_rig_task task = {.run = do_nothing};
	struct nvme_copy_range *range = nvme_rig_at(&rig, OTHER);
	struct reactor_stats stats;
	struct nvme_cqe cqe;

	nvme_fill(DATA, 4096, 5);
	memset(range, 0, sizeof(*range));
	range->slba = 4000;
	range->nlb = 7;
	(void)nvme_rig_submit(&rig, 1, &write);
	nvme_rig_sleep(&rig, 20 * NSEC_PER_SEC);
	assert_true(nvme_rig_take(&rig, 1, &cqe));
	for (unsigned i = 0; i < COPIES; i++) {
		struct nvme_sqe sqe = {.opcode = nvme_cmd_copy, .nsid = 1, .dptr = {OTHER}};

		sqe.cdw10 = i * 8;
		(void)nvme_rig_submit(&rig, 1 + i % COPY_QUEUES, &sqe);
	}
	nvme_rig_sleep(&rig, NSEC_PER_SEC);
	reactor_get_stats(rig.sim->reactors[0], &stats);
	assert_int_equal(stats.fibers_in_use[FIBER_CONTROL], 0);
	sim_rig_start(rig.sim, 0, &task);
	assert_int_equal(sim_rig_wait(rig.sim, &task, 1, NSEC_PER_SEC), 0);
	nvme_rig_sleep(&rig, 60 * NSEC_PER_SEC);
	for (unsigned i = 0; i < COPIES; i++) {
		assert_true(nvme_rig_take(&rig, 1 + i % COPY_QUEUES, &cqe));
		assert_int_equal(cqe.status >> 1, 0);
	}
	for (unsigned i = 0; i < COPIES; i++)
		assert_int_equal(nvme_io(nvme_cmd_compare, i * 8, 8, DATA), 0);
}

/* Pushes both, rings once; the statuses in order. */
static void run_pair(struct nvme_sqe *compare, struct nvme_sqe *write, uint16_t ret_status[2])
{
	uint16_t cid = nvme_rig_push(&rig, 1, compare);

	(void)nvme_rig_submit(&rig, 1, write);
	for (unsigned i = 0; i < 2; i++) {
		struct nvme_cqe cqe;

		assert_true(nvme_rig_take(&rig, 1, &cqe));
		assert_int_equal(cqe.cid, cid + i);
		ret_status[i] = cqe.status >> 1 & 0x7ff;
	}
}

static void compare_and_write(uint32_t nsid, uint32_t blocks, uint64_t data, uint16_t status[2])
{
	struct nvme_sqe compare = nvme_rig_rw(nvme_cmd_compare, nsid, 40, blocks, data);
	struct nvme_sqe write = nvme_rig_rw(nvme_cmd_write, nsid, 40, blocks, data + 8192);

	compare.flags = NVME_FUSED_FIRST;
	write.flags = NVME_FUSED_SECOND;
	run_pair(&compare, &write, status);
}

static void fused_pairs(void **state)
{
	uint16_t status[2];

	for (uint32_t nsid = 1; nsid <= 2; nsid++) {
		uint32_t blocks = nsid == 1 ? 16 : 2;
		struct nvme_sqe check =
			nvme_rig_rw(nvme_cmd_compare, nsid, 40, blocks, DATA + 8192);

		memset(nvme_rig_at(&rig, DATA), 0, 8192);
		nvme_fill(DATA + 8192, 8192, 77);
		rig.points[NVME_POINT_COMPARED] = 0;
		compare_and_write(nsid, blocks, DATA, status);
		assert_int_equal(status[0], 0);
		assert_int_equal(status[1], 0);
		assert_int_equal(rig.points[NVME_POINT_COMPARED], 1);
		assert_int_equal(nvme_rig_run(&rig, 1, &check, NULL), 0);
		compare_and_write(nsid, blocks, DATA, status);
		assert_int_equal(status[0], MEDIA(NVME_SC_COMPARE_FAILED));
		assert_int_equal(status[1], NVME_SC_FUSED_FAIL);
	}
}

static void fused_errors(void **state)
{
	struct nvme_sqe compare = nvme_rig_rw(nvme_cmd_compare, 1, 0, 1, DATA), write = compare;
	uint16_t status[2];

	compare_and_write(1, 33, DATA, status);
	assert_int_equal(status[0], NVME_SC_AWU_EXCEEDED);
	assert_int_equal(status[1], NVME_SC_FUSED_FAIL);
	write.opcode = nvme_cmd_write;
	write.flags = NVME_FUSED_SECOND;
	assert_int_equal(nvme_rig_run(&rig, 1, &write, NULL), NVME_SC_FUSED_MISSING);
	compare.flags = NVME_FUSED_FIRST;
	write.flags = 0; /* not the second */
	run_pair(&compare, &write, status);
	assert_int_equal(status[0], NVME_SC_FUSED_MISSING);
	assert_int_equal(status[1], 0);
	write.flags = NVME_FUSED_SECOND;
	write.cdw10++;
	run_pair(&compare, &write, status);
	assert_int_equal(status[0], NVME_SC_INVALID_FIELD);
	assert_int_equal(status[1], NVME_SC_FUSED_FAIL);
	write.flags = 3;
	assert_int_equal(nvme_rig_run(&rig, 1, &write, NULL), NVME_SC_INVALID_FIELD);
	write.flags = NVME_FUSED_FIRST;
	assert_int_equal(nvme_rig_run(&rig, 1, &write, NULL), NVME_SC_INVALID_FIELD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NVME_TEST(ranges_are_checked),
		NVME_TEST(another_reactor_serves_too),
		NVME_TEST(prp_lists_cross_pages),
		NVME_TEST(prp_errors),
		NVME_TEST(sgl_segments),
		NVME_TEST(sgl_errors),
		NVME_TEST(compare_finds_differences),
		NVME_TEST(zeroes_and_deallocation),
		NVME_TEST(verify_and_flush),
		NVME_TEST(copy_moves_ranges),
		cmocka_unit_test_setup_teardown(copies_that_wait_hold_no_fibers, set_up_slow_writes,
						tear_down_slow_writes),
		NVME_TEST(fused_pairs),
		NVME_TEST(fused_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
