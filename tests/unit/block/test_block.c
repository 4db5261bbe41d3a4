/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/block.h"
#include "block/memory.h"
#include "block/null.h"
#include "sim_rig.h"

#define SIZE (8 * MIB)
#define LIMIT BLOCK_DEFAULT_TRANSFER_BYTES

struct validation {
	const char *what;
	enum block_op op;
	unsigned flags;
	uint64_t offset, length;
	uint64_t iov_bytes;
	int iov_count;
	int expected;
};

/* Blocks of 512 bytes. Each limit is there, and one past it. */
static const struct validation validations[] = {
	{"plain read", BLOCK_READ, 0, 0, 512, 512, 1, 0},
	{"read with FUA", BLOCK_READ, BLOCK_FUA, 0, 512, 512, 1, 0},
	{"offset off by one", BLOCK_READ, 0, 1, 512, 512, 1, -EINVAL},
	{"offset off by one less", BLOCK_READ, 0, 511, 512, 512, 1, -EINVAL},
	{"length off by one", BLOCK_READ, 0, 0, 513, 513, 1, -EINVAL},
	{"length one less", BLOCK_READ, 0, 0, 511, 511, 1, -EINVAL},
	{"length zero", BLOCK_READ, 0, 0, 0, 0, 1, -EINVAL},
	{"zero unmap", BLOCK_UNMAP, 0, 0, 0, 0, 0, -EINVAL},
	{"zero status", BLOCK_STATUS, 0, 0, 0, 0, 0, -EINVAL},
	{"last block", BLOCK_READ, 0, SIZE - 512, 512, 512, 1, 0},
	{"at the end", BLOCK_READ, 0, SIZE, 512, 512, 1, -ERANGE},
	{"over the end", BLOCK_READ, 0, SIZE - 512, 1024, 1024, 1, -ERANGE},
	{"wraps around", BLOCK_UNMAP, 0, 512, UINT64_MAX - 511, 0, 0, -ERANGE},
	{"far beyond", BLOCK_UNMAP, 0, UINT64_MAX - 511, 512, 0, 0, -ERANGE},
	{"all of it", BLOCK_WRITE_ZEROES, 0, 0, SIZE, 0, 0, 0},
	{"all and one more", BLOCK_WRITE_ZEROES, 0, 0, SIZE + 512, 0, 0, -ERANGE},
	{"all from the second", BLOCK_UNMAP, 0, 512, SIZE, 0, 0, -ERANGE},
	{"status of all", BLOCK_STATUS, 0, 0, SIZE, 0, 0, 0},
	{"largest transfer", BLOCK_READ, 0, 0, LIMIT, LIMIT, 1, 0},
	{"one block too large", BLOCK_READ, 0, 0, LIMIT + 512, LIMIT + 512, 1, -EINVAL},
	{"too large to write", BLOCK_WRITE, 0, 0, LIMIT + 512, LIMIT + 512, 1, -EINVAL},
	{"largest compare", BLOCK_COMPARE, 0, 0, LIMIT, LIMIT, 1, 0},
	{"too large to compare", BLOCK_COMPARE, 0, 0, LIMIT + 512, LIMIT + 512, 1, -EINVAL},
	{"largest swap", BLOCK_COMPARE_AND_WRITE, 0, 0, LIMIT, 2 * LIMIT, 1, 0},
	{"half the iovec", BLOCK_COMPARE_AND_WRITE, 0, 0, LIMIT, LIMIT, 1, -EINVAL},
	{"iovec one short", BLOCK_WRITE, 0, 0, 512, 511, 1, -EINVAL},
	{"iovec one over", BLOCK_WRITE, 0, 0, 512, 513, 1, -EINVAL},
	{"iovec huge", BLOCK_WRITE, 0, 0, 512, UINT64_MAX, 1, -EINVAL},
	{"iovecs that wrap", BLOCK_WRITE, 0, 0, 512, UINT64_MAX, 2, -EINVAL},
	{"no iovec", BLOCK_WRITE, 0, 0, 512, 0, 0, -EINVAL},
	{"negative count", BLOCK_WRITE, 0, 0, 512, 0, -1, -EINVAL},
	{"most elements", BLOCK_WRITE, 0, 0, 512, 512, BLOCK_IOV_MAX, 0},
	{"one element more", BLOCK_WRITE, 0, 0, 512, 512, BLOCK_IOV_MAX + 1, -EINVAL},
	{"unmap with data", BLOCK_UNMAP, 0, 0, 512, 512, 1, -EINVAL},
	{"flush", BLOCK_FLUSH, 0, 0, 0, 0, 0, 0},
	{"flush with offset", BLOCK_FLUSH, 0, 512, 0, 0, 0, -EINVAL},
	{"flush with length", BLOCK_FLUSH, 0, 0, 512, 0, 0, -EINVAL},
	{"flush with data", BLOCK_FLUSH, 0, 0, 0, 512, 1, -EINVAL},
	{"flush with FUA", BLOCK_FLUSH, BLOCK_FUA, 0, 0, 0, 0, -EINVAL},
	{"write with FUA", BLOCK_WRITE, BLOCK_FUA, 0, 512, 512, 1, 0},
	{"write no-release", BLOCK_WRITE, BLOCK_NO_RELEASE, 0, 512, 512, 1, -EINVAL},
	{"unmap no-release", BLOCK_UNMAP, BLOCK_NO_RELEASE, 0, 512, 0, 0, -EINVAL},
	{"zeroes no-release", BLOCK_WRITE_ZEROES, BLOCK_NO_RELEASE | BLOCK_FUA, 0, 512, 0, 0, 0},
	{"unknown flag", BLOCK_WRITE, 4, 0, 512, 512, 1, -EINVAL},
	{"unknown operation", BLOCK_OP_COUNT, 0, 0, 512, 512, 1, -EOPNOTSUPP},
	{"negative operation", (enum block_op)-1, 0, 0, 512, 512, 1, -EOPNOTSUPP},
};

static void fill_request(const struct validation *v, struct iovec *iov,
			 struct block_request *ret_request)
{
	for (int i = 0; i < v->iov_count; i++)
		iov[i] = (struct iovec){NULL, i == 0 ? v->iov_bytes : 0};
	if (v->iov_count == 2)
		iov[1].iov_len = v->length + 1;
	ret_request->op = v->op;
	ret_request->flags = v->flags;
	ret_request->offset = v->offset;
	ret_request->length = v->length;
	ret_request->iov = iov;
	ret_request->iov_count = v->iov_count;
}

static void validates(void **state)
{
	static struct iovec iov[BLOCK_IOV_MAX + 1];
	static const struct block_volume_ops ops;
	struct block_volume volume;

	(void)state;
	block_volume_init(&volume, &ops, NULL, SIZE, 512);
	for (size_t i = 0; i < ARRAY_SIZE(validations); i++) {
		struct block_request request;
		int result;

		fill_request(&validations[i], iov, &request);
		result = block_validate(&volume, &request);
		if (result != validations[i].expected)
			fail_msg("%s: %d", validations[i].what, result);
		if (result != 0 || !block_op_is_write(request.op))
			continue;
		volume.read_only = true;
		assert_int_equal(block_validate(&volume, &request), -EROFS);
		volume.read_only = false;
	}
}

static void validates_large_blocks(void **state)
{
	static const struct block_volume_ops ops;
	struct block_volume volume;
	struct iovec iov = {NULL, 4096};
	struct block_request request = {
		.op = BLOCK_READ, .length = 4096, .iov = &iov, .iov_count = 1};

	(void)state;
	block_volume_init(&volume, &ops, NULL, SIZE, 4096);
	assert_int_equal(block_validate(&volume, &request), 0);
	request.offset = 512;
	assert_int_equal(block_validate(&volume, &request), -EINVAL);
	request.offset = 0;
	request.length = iov.iov_len = 3584;
	assert_int_equal(block_validate(&volume, &request), -EINVAL);
}

static void checks_geometry(void **state)
{
	(void)state;
	assert_int_equal(block_check_geometry(512, 512), 0);
	assert_int_equal(block_check_geometry(4096, 4096), 0);
	assert_int_equal(block_check_geometry(0, 512), -EINVAL);
	assert_int_equal(block_check_geometry(513, 512), -EINVAL);
	assert_int_equal(block_check_geometry(512, 4096), -EINVAL);
	assert_int_equal(block_check_geometry(1024, 1024), -EINVAL);
	assert_int_equal(block_check_geometry(4096, 0), -EINVAL);
	assert_int_equal(block_check_geometry((uint64_t)INT64_MAX - 511, 512), 0);
	assert_int_equal(block_check_geometry((uint64_t)INT64_MAX + 1, 512), -EINVAL);
}

static void names_operations(void **state)
{
	(void)state;
	for (unsigned op = 0; op < BLOCK_OP_COUNT; op++)
		assert_string_not_equal(block_op_name((enum block_op)op), "?");
	assert_string_equal(block_op_name(BLOCK_OP_COUNT), "?");
	assert_true(block_op_is_write(BLOCK_COMPARE_AND_WRITE));
	assert_false(block_op_is_write(BLOCK_FLUSH));
	assert_true(block_op_has_data(BLOCK_COMPARE));
	assert_false(block_op_has_data(BLOCK_OP_COUNT));
}

struct counted {
	struct block_request request;
	unsigned *order;
	unsigned completed_as;
	int result;
	bool submitting;
};

static void count_done(struct block_request *request, int result)
{
	struct counted *counted = CONTAINER_OF(request, struct counted, request);

	assert_false(counted->submitting);
	assert_int_equal(counted->completed_as, 0);
	counted->completed_as = ++*counted->order;
	counted->result = result;
}

static void submit_valid_and_invalid(void *arg)
{
	struct block_volume *volume = arg;
	unsigned order = 0;
	struct counted counted[4];

	for (unsigned i = 0; i < ARRAY_SIZE(counted); i++) {
		counted[i] = (struct counted){.order = &order, .submitting = true};
		counted[i].request.op = i == 2 ? BLOCK_OP_COUNT : BLOCK_FLUSH;
		counted[i].request.done = count_done;
		block_submit(volume, &counted[i].request);
		counted[i].submitting = false;
	}
	assert_int_equal(order, 0);
	assert_int_equal(volume->in_flight, 4);
	while (order < ARRAY_SIZE(counted))
		fiber_yield();
	assert_int_equal(volume->in_flight, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(counted); i++) {
		assert_int_equal(counted[i].completed_as, i + 1);
		assert_int_equal(counted[i].result, i == 2 ? -EOPNOTSUPP : 0);
	}
}

static void completes_later_and_once(void **state)
{
	struct block_volume *volume;
	struct sim_rig rig;

	(void)state;
	sim_rig_init(&rig, 1, 1);
	assert_int_equal(null_volume_new(rig.reactors[0], SIZE, 512, &volume), 0);
	sim_rig_run(&rig, 0, submit_valid_and_invalid, volume);
	block_volume_free(volume);
	block_volume_free(NULL);
	sim_rig_done(&rig);
}

static void use_block_io(void *arg)
{
	struct block_volume *volume = arg;
	unsigned char buffer[1024];

	memset(buffer, 1, sizeof(buffer));
	assert_int_equal(block_io(volume, BLOCK_WRITE, BLOCK_FUA, buffer, 1024, 4096), 0);
	memset(buffer, 0, sizeof(buffer));
	assert_int_equal(block_io(volume, BLOCK_READ, 0, buffer, 512, 4608), 0);
	assert_int_equal(buffer[511], 1);
	assert_int_equal(buffer[512], 0);
	/* The first half is compared, the second is written. */
	assert_int_equal(block_io(volume, BLOCK_COMPARE_AND_WRITE, 0, buffer, 512, 4096), 0);
	assert_int_equal(block_io(volume, BLOCK_READ, 0, buffer, 1024, 4096), 0);
	assert_int_equal(buffer[0], 0);
	assert_int_equal(buffer[512], 1);
	assert_int_equal(block_io(volume, BLOCK_UNMAP, 0, NULL, SIZE, 0), 0);
	assert_int_equal(block_io(volume, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(block_io(volume, BLOCK_READ, 0, buffer, 512, SIZE), -ERANGE);
	assert_int_equal(memory_volume_allocated_bytes(volume), 0);
}

static void fibers_wait_for_io(void **state)
{
	struct block_volume *volume;
	struct sim_rig rig;

	(void)state;
	sim_rig_init(&rig, 2, 1);
	assert_int_equal(memory_volume_new(rig.reactors[0], SIZE, 512, &volume), 0);
	sim_rig_run(&rig, 0, use_block_io, volume);
	block_volume_free(volume);
	sim_rig_done(&rig);
}

static void read_null(void *arg)
{
	struct block_volume *volume = arg;
	struct block_wait wait = {
		.request = {.op = BLOCK_STATUS, .length = SIZE}
	};
	unsigned char buffer[1024];

	memset(buffer, 1, sizeof(buffer));
	assert_int_equal(block_io(volume, BLOCK_WRITE, 0, buffer, 1024, 0), 0);
	assert_int_equal(block_io(volume, BLOCK_COMPARE, 0, buffer, 1024, 0), -EILSEQ);
	assert_int_equal(block_io(volume, BLOCK_READ, 0, buffer, 1024, 0), 0);
	assert_int_equal(block_io(volume, BLOCK_COMPARE, 0, buffer, 1024, 0), 0);
	assert_int_equal(block_io(volume, BLOCK_COMPARE_AND_WRITE, 0, buffer, 512, 0), 0);
	assert_int_equal(block_wait(volume, &wait), 0);
	assert_int_equal(wait.request.status.length, SIZE);
	assert_true(wait.request.status.zero && !wait.request.status.allocated);
}

static void null_reads_zeros(void **state)
{
	struct block_volume *volume;
	struct sim_rig rig;

	(void)state;
	sim_rig_init(&rig, 3, 1);
	assert_int_equal(null_volume_new(rig.reactors[0], 100, 512, &volume), -EINVAL);
	assert_int_equal(null_volume_new(rig.reactors[0], SIZE, 512, &volume), 0);
	sim_rig_run(&rig, 0, read_null, volume);
	block_volume_free(volume);
	sim_rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(validates),
		cmocka_unit_test(validates_large_blocks),
		cmocka_unit_test(checks_geometry),
		cmocka_unit_test(names_operations),
		cmocka_unit_test(completes_later_and_once),
		cmocka_unit_test(fibers_wait_for_io),
		cmocka_unit_test(null_reads_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
