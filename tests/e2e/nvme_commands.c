/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVMe commands and their errors over the wire, against a real keeper and engine.
 *
 *     nvme_commands SOCKET
 *
 * Namespace 1 has 512-byte blocks, at least 32 MiB, and is writable. Each test is a guest of its
 * own that finds the controller as the one before left it.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

#include "base/macros.h"
#include "nvme_driver.h"

#define BLOCK   512u
#define VECTORS 4

enum { /* opcodes */
       OP_FLUSH = 0x00,
       OP_WRITE = 0x01,
       OP_READ = 0x02,
       OP_COMPARE = 0x05,
       OP_WRITE_ZEROES = 0x08,
       ADMIN_GET_LOG = 0x02,
       ADMIN_ABORT = 0x08,
       ADMIN_SET_FEATURES = 0x09,
       ADMIN_GET_FEATURES = 0x0a,
       ADMIN_ASYNC_EVENT = 0x0c,
};

enum { /* status: NVMe 1.4, 4.6.1.2 */
       S_OPCODE = 0x01,
       S_FIELD = 0x02,
       S_TRANSFER = 0x04,
       S_ABORTED = 0x07,
       S_SQ_DELETED = 0x08,
       S_NAMESPACE = 0x0b,
       S_SEQUENCE = 0x0c,
       S_PRP_OFFSET = 0x13,
       S_RANGE = 0x80,
       S_CQ_INVALID = 0x100,
       S_QUEUE_ID = 0x101,
       S_QUEUE_SIZE = 0x102,
       S_TOO_MANY_EVENTS = 0x105,
       S_VECTOR = 0x108,
       S_LOG_PAGE = 0x109,
       S_QUEUE_IN_USE = 0x10c,
       S_MISCOMPARE = 0x285,
};

static const char *path;

static int open_driver(void **state, enum nvme_driver_doorbells doorbells)
{
	struct nvme_driver *driver = calloc(1, sizeof(*driver));
	int r = nvme_driver_open(driver, path, 32 * MIB, doorbells, VECTORS);

	for (int tries = 0; r < 0 && tries < 100; tries++) { /* until the last one is forgotten */
		nanosleep(&(struct timespec){.tv_nsec = 20 * NSEC_PER_MSEC}, NULL);
		r = nvme_driver_open(driver, path, 32 * MIB, doorbells, VECTORS);
	}
	if (r == 0)
		r = nvme_driver_enable(driver);
	if (r == 0)
		r = nvme_driver_create_queue(driver, 1, 64, 1);
	if (r != 0)
		print_error("%s: %d\n", path, r);
	*state = driver;
	return r;
}

static int setup(void **state)
{
	return open_driver(state, NVME_DRIVER_SHADOW);
}

static int setup_trapped(void **state)
{
	return open_driver(state, NVME_DRIVER_TRAPPED);
}

static int teardown(void **state)
{
	nvme_driver_close(*state);
	free(*state);
	return 0;
}

static struct nvme_driver_sqe transfer(struct nvme_driver *driver, uint8_t opcode, uint64_t lba,
				       uint32_t count, void *data)
{
	struct nvme_driver_sqe sqe = {.opcode = opcode,
				      .nsid = 1,
				      .cdw10 = (uint32_t)lba,
				      .cdw11 = (uint32_t)(lba >> 32),
				      .cdw12 = count - 1};

	if (data)
		nvme_driver_set_data(driver, &sqe, data, count * BLOCK,
				     nvme_driver_alloc(driver, 4096));
	return sqe;
}

static int io(struct nvme_driver *driver, uint8_t opcode, uint64_t lba, uint32_t count, void *data)
{
	struct nvme_driver_sqe sqe = transfer(driver, opcode, lba, count, data);

	return nvme_driver_command(driver, 1, &sqe, NULL);
}

static int admin(struct nvme_driver *driver, struct nvme_driver_sqe sqe)
{
	return nvme_driver_command(driver, 0, &sqe, NULL);
}

static void assert_works(struct nvme_driver *driver)
{
	uint8_t *data = nvme_driver_alloc(driver, 4096);

	assert_int_equal(io(driver, OP_READ, 0, 8, data), 0);
}

static uint64_t blocks_of(struct nvme_driver *driver)
{
	uint8_t *data = nvme_driver_alloc(driver, 4096);
	uint64_t size;

	assert_int_equal(nvme_driver_identify(driver, 0, 1, data), 0);
	memcpy(&size, data, 8);
	return size;
}

static void identifies(void **state)
{
	struct nvme_driver *driver = *state;
	uint8_t *data = nvme_driver_alloc(driver, 4096);
	uint32_t first;

	assert_int_equal(nvme_driver_identify(driver, 1, 0, data), 0);
	assert_int_equal(data[512], 0x66);
	assert_int_equal(data[513], 0x44);
	assert_true(data[256] & 1 << 0 || data[257] & 1); /* OACS: Doorbell Buffer Config, bit 8 */
	assert_memory_equal(data + 768, "nqn.", 4);
	assert_int_equal(nvme_driver_identify(driver, 2, 0, data), 0);
	memcpy(&first, data, 4);
	assert_int_equal(first, 1);
	assert_int_equal(nvme_driver_identify(driver, 3, 1, data), 0);
	assert_true(data[0] == 1 || data[0] == 2);                       /* EUI64 or NGUID */
	assert_int_equal(nvme_driver_identify(driver, 0, 200, data), 0); /* not active: zeros */
	assert_int_equal(data[0] | data[1] | data[26], 0);
	assert_int_equal(nvme_driver_identify(driver, 0, 0x12345, data), S_NAMESPACE);
	assert_int_equal(nvme_driver_identify(driver, 0xfe, 0, data), S_FIELD);
}

static void keeps_what_is_written(void **state)
{
	struct nvme_driver *driver = *state;
	uint8_t *out = nvme_driver_alloc(driver, 256 * KIB),
		*in = nvme_driver_alloc(driver, 256 * KIB);
	static const uint32_t sizes[] = {1, 7, 8, 16, 17, 255, 500};

	for (size_t i = 0; i < 256 * KIB; i++)
		out[i] = (uint8_t)(i * 7 + i / 512);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		/* Into the middle of a page too: the first PRP has an offset. */
		for (size_t at = 0; at < 4096; at += 1528) {
			at &= ~(size_t)3;
			memset(in, 0xee, 256 * KIB);
			assert_int_equal(io(driver, OP_WRITE, 1000 * i, sizes[i], out + at), 0);
			assert_int_equal(io(driver, OP_READ, 1000 * i, sizes[i], in + at), 0);
			assert_memory_equal(in + at, out + at, sizes[i] * BLOCK);
			assert_int_equal(in[at + sizes[i] * BLOCK], 0xee);
			assert_true(at == 0 || in[at - 1] == 0xee);
			assert_int_equal(io(driver, OP_COMPARE, 1000 * i, sizes[i], out + at), 0);
			out[at] ^= 1;
			assert_int_equal(io(driver, OP_COMPARE, 1000 * i, sizes[i], out + at),
					 S_MISCOMPARE);
			out[at] ^= 1;
		}
	}
	assert_int_equal(io(driver, OP_WRITE_ZEROES, 3, 3, NULL), 0);
	assert_int_equal(io(driver, OP_READ, 0, 8, in), 0);
	for (size_t i = 3 * BLOCK; i < 6 * BLOCK; i++)
		assert_int_equal(in[i], 0);
	assert_int_equal(io(driver, OP_FLUSH, 0, 1, NULL), 0);
}

/* A PRP list of two pages, the first of which ends in a pointer to the second. */
static void follows_prp_lists(void **state)
{
	struct nvme_driver *driver = *state;
	uint8_t *data = nvme_driver_alloc(driver, 96 * KIB),
		*in = nvme_driver_alloc(driver, 96 * KIB);
	uint64_t *first = nvme_driver_alloc(driver, 4096),
		 *second = nvme_driver_alloc(driver, 4096);
	struct nvme_driver_sqe sqe = transfer(driver, OP_WRITE, 64, 192, NULL);
	uint64_t *at = first + 510; /* two entries before the page ends */

	for (size_t i = 0; i < 96 * KIB; i++)
		data[i] = (uint8_t)(i * 11 + i / 4096);
	sqe.prp1 = nvme_driver_address(driver, data);
	sqe.prp2 = nvme_driver_address(driver, at);
	*at++ = nvme_driver_address(driver, data + 4096);
	*at = nvme_driver_address(driver, second);
	for (unsigned i = 2; i < 24; i++)
		second[i - 2] = nvme_driver_address(driver, data + i * 4096);
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), 0);
	assert_int_equal(io(driver, OP_READ, 64, 192, in), 0);
	assert_memory_equal(in, data, 96 * KIB);
	second[5] |= 8; /* not the start of a page */
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_PRP_OFFSET);
	second[5] = 0; /* not mapped */
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_TRANSFER);
	*at = nvme_driver_address(driver, first); /* a list that goes round */
	(void)nvme_driver_command(driver, 1, &sqe, NULL);
	assert_works(driver);
}

static void follows_sgls(void **state)
{
	struct nvme_driver *driver = *state;
	uint8_t *id = nvme_driver_alloc(driver, 4096);
	uint8_t *data = nvme_driver_alloc(driver, 16 * KIB),
		*in = nvme_driver_alloc(driver, 16 * KIB);
	struct {
		uint64_t address;
		uint32_t length;
		uint8_t reserved[3], type;
	} *list = nvme_driver_alloc(driver, 4096);
	struct nvme_driver_sqe sqe = transfer(driver, OP_WRITE, 500, 16, NULL);
	uint32_t sgls;

	assert_int_equal(nvme_driver_identify(driver, 1, 0, id), 0);
	memcpy(&sgls, id + 536, 4);
	if (!(sgls & 3))
		skip();
	for (size_t i = 0; i < 16 * KIB; i++)
		data[i] = (uint8_t)(i * 13);
	/* Three pieces at odd places, last segment (type 3) in the command. */
	list[0].address = nvme_driver_address(driver, data + 4);
	list[0].length = 5000;
	list[1].address = nvme_driver_address(driver, data + 6004);
	list[1].length = 192;
	list[2].address = nvme_driver_address(driver, data + 8004);
	list[2].length = 3000;
	sqe.flags = 0x40;
	sqe.prp1 = nvme_driver_address(driver, list);
	sqe.prp2 = 3 * 16 | (uint64_t)0x30 << 56;
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), 0);
	assert_int_equal(io(driver, OP_READ, 500, 16, in), 0);
	assert_memory_equal(in, data + 4, 5000);
	assert_memory_equal(in + 5000, data + 6004, 192);
	assert_memory_equal(in + 5192, data + 8004, 3000);
	list[1].length = 100; /* shorter than the data */
	assert_int_not_equal(nvme_driver_command(driver, 1, &sqe, NULL), 0);
	list[1].length = 192;
	list[1].type = 0x70; /* no such type */
	assert_int_not_equal(nvme_driver_command(driver, 1, &sqe, NULL), 0);
	sqe.prp1 = 1; /* unmapped */
	assert_int_not_equal(nvme_driver_command(driver, 1, &sqe, NULL), 0);
	assert_works(driver);
}

static void refuses_wrong_io(void **state)
{
	struct nvme_driver *driver = *state;
	uint8_t *data = nvme_driver_alloc(driver, 8192);
	struct nvme_driver_sqe sqe = transfer(driver, OP_READ, 0, 8, data);
	uint64_t size = blocks_of(driver);

	assert_int_equal(io(driver, OP_READ, size, 1, data), S_RANGE);
	assert_int_equal(io(driver, OP_WRITE, size - 1, 2, data), S_RANGE);
	assert_int_equal(io(driver, OP_READ, UINT64_MAX, 1, data), S_RANGE);
	assert_int_equal(io(driver, OP_READ, UINT64_MAX - 3, 8, data), S_RANGE);
	assert_int_equal(io(driver, OP_READ, size - 1, 1, data), 0);
	sqe.nsid = 77; /* could be, but is not attached */
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_FIELD);
	sqe.nsid = 0xfffffff0;
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_NAMESPACE);
	sqe.nsid = 0;
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_NAMESPACE);
	sqe.nsid = 1;
	sqe.opcode = 0x7f;
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_OPCODE);
	sqe.opcode = OP_READ;
	sqe.prp1 = 0x1000; /* below guest memory */
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_TRANSFER);
	sqe.prp1 = UINT64_MAX - 4095;
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_TRANSFER);
	sqe.prp1 = nvme_driver_address(driver, data) + 1;
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_PRP_OFFSET);
	sqe.prp1 = NVME_DRIVER_ADDRESS + driver->memory_bytes - 2048; /* and past its end */
	sqe.prp2 = NVME_DRIVER_ADDRESS + driver->memory_bytes;
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_TRANSFER);
	sqe = transfer(driver, OP_READ, 0, 65536, NULL); /* more than MDTS */
	sqe.prp1 = sqe.prp2 = nvme_driver_address(driver, data);
	assert_int_equal(nvme_driver_command(driver, 1, &sqe, NULL), S_FIELD);
	assert_works(driver);
}

static void refuses_wrong_queues(void **state)
{
	struct nvme_driver *driver = *state;
	struct nvme_driver_sqe cq = {.opcode = 5, .cdw10 = 15u << 16 | 9, .cdw11 = 3};
	struct nvme_driver_sqe sq = {.opcode = 1, .cdw10 = 15u << 16 | 9, .cdw11 = 77u << 16 | 1};

	cq.prp1 = sq.prp1 = nvme_driver_address(driver, nvme_driver_alloc(driver, 4096));
	assert_int_equal(admin(driver, sq), S_CQ_INVALID);
	cq.cdw10 = 15u << 16;
	assert_int_equal(admin(driver, cq), S_QUEUE_ID);
	cq.cdw10 = 15u << 16 | 1; /* exists */
	assert_int_equal(admin(driver, cq), S_QUEUE_ID);
	cq.cdw10 = 15u << 16 | 5000;
	assert_int_equal(admin(driver, cq), S_QUEUE_ID);
	cq.cdw10 = 0xffffu << 16 | 9;
	assert_int_equal(admin(driver, cq), S_QUEUE_SIZE);
	cq.cdw10 = 9;
	assert_int_equal(admin(driver, cq), S_QUEUE_SIZE);
	cq.cdw10 = 15u << 16 | 9;
	cq.cdw11 = 4000u << 16 | 3;
	assert_int_equal(admin(driver, cq), S_VECTOR);
	cq.cdw11 = 2; /* not contiguous */
	assert_int_equal(admin(driver, cq), S_FIELD);
	cq.cdw11 = 3;
	cq.prp1 += 4;
	assert_int_equal(admin(driver, cq), S_PRP_OFFSET);
	assert_int_equal(admin(driver, (struct nvme_driver_sqe){.opcode = 4, .cdw10 = 1}),
			 S_QUEUE_IN_USE);
	assert_int_equal(admin(driver, (struct nvme_driver_sqe){.opcode = 0, .cdw10 = 55}),
			 S_QUEUE_ID);
	assert_int_equal(admin(driver, (struct nvme_driver_sqe){.opcode = 0, .cdw10 = 0}),
			 S_QUEUE_ID);
	assert_int_equal(admin(driver, (struct nvme_driver_sqe){.opcode = 0xee}), S_OPCODE);
	assert_works(driver);
}

static void makes_many_queues(void **state)
{
	struct nvme_driver *driver = *state;
	uint8_t *data = nvme_driver_alloc(driver, 4096);

	for (uint16_t id = 2; id <= 64; id++)
		assert_int_equal(nvme_driver_create_queue(driver, id, 256, id % VECTORS), 0);
	for (uint16_t id = 1; id <= 64; id++) {
		struct nvme_driver_sqe sqe = transfer(driver, OP_READ, id, 1, data);

		assert_int_equal(nvme_driver_command(driver, id, &sqe, NULL), 0);
	}
	for (uint16_t id = 64; id >= 2; id--)
		assert_int_equal(nvme_driver_delete_queue(driver, id), 0);
	assert_int_equal(nvme_driver_create_queue(driver, 2, 1024, 2), 0);
	assert_works(driver);
}

static void goes_round_its_queues(void **state)
{
	struct nvme_driver *driver = *state;
	uint8_t *data = nvme_driver_alloc(driver, 4096);
	struct nvme_driver_sqe sqe = transfer(driver, OP_READ, 5, 8, data);
	unsigned done = 0, sent = 0;

	assert_int_equal(nvme_driver_create_queue(driver, 2, 5, 1), 0);
	while (done < 3000) {
		struct nvme_driver_queue *queue = &driver->queues[2];
		struct nvme_driver_cqe cqe;
		int r;

		while (sent < 3000 && nvme_driver_queue_command(driver, queue, &sqe) >= 0)
			sent++;
		assert_int_equal(nvme_driver_ring(driver, queue), 0);
		while ((r = nvme_driver_poll(driver, queue, &cqe)) == 1) {
			assert_int_equal(nvme_driver_status(&cqe), 0);
			done++;
		}
		assert_int_equal(r, 0);
	}
	assert_int_equal(sent, 3000);
}

static void interrupts(void **state)
{
	struct nvme_driver *driver = *state;

	for (unsigned i = 0; i < VECTORS; i++)
		(void)nvme_driver_interrupts(driver, i);
	assert_works(driver);
	nanosleep(&(struct timespec){.tv_nsec = 20 * NSEC_PER_MSEC}, NULL);
	assert_int_equal(nvme_driver_interrupts(driver, 1), 1);
	assert_int_equal(nvme_driver_interrupts(driver, 2), 0);
	(void)blocks_of(driver);
	nanosleep(&(struct timespec){.tv_nsec = 20 * NSEC_PER_MSEC}, NULL);
	assert_int_equal(nvme_driver_interrupts(driver, 0), 1);
}

/* A stopped keeper hears of no doorbell; the engine, asleep, sees its shadow all the same. */
static void wakes_before_the_keeper(void **state)
{
	struct nvme_driver *driver = *state;
	struct nvme_driver_sqe sqe = transfer(driver, OP_FLUSH, 0, 1, NULL);
	struct ucred keeper;
	socklen_t length = sizeof(keeper);

	assert_int_equal(getsockopt(driver->client.fd, SOL_SOCKET, SO_PEERCRED, &keeper, &length),
			 0);
	for (unsigned i = 0; i < 10; i++) {
		uint64_t traps = driver->traps;
		int r;

		nanosleep(&(struct timespec){.tv_nsec = 20 * NSEC_PER_MSEC}, NULL);
		assert_int_equal(kill(keeper.pid, SIGSTOP), 0);
		r = nvme_driver_command(driver, 1, &sqe, NULL);
		assert_int_equal(kill(keeper.pid, SIGCONT), 0);
		assert_int_equal(r, 0);
		assert_true(driver->traps > traps);
	}
}

static void gives_features_and_logs(void **state)
{
	struct nvme_driver *driver = *state;
	struct nvme_driver_sqe get = {.opcode = ADMIN_GET_FEATURES, .cdw10 = 7};
	struct nvme_driver_sqe set = {.opcode = ADMIN_SET_FEATURES, .cdw10 = 7, .cdw11 = 0x3f003f};
	struct nvme_driver_sqe log = {.opcode = ADMIN_GET_LOG, .nsid = 0xffffffff};
	static const uint8_t pages[] = {1, 2, 3, 4, 5};
	uint8_t *data = nvme_driver_alloc(driver, 4096);
	struct nvme_driver_cqe cqe;

	nvme_driver_set_data(driver, &log, data, 512, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		log.cdw10 = pages[i] | 127u << 16;
		assert_int_equal(admin(driver, log), 0);
	}
	log.cdw10 = 0x99 | 127u << 16;
	assert_int_equal(admin(driver, log), S_LOG_PAGE);
	assert_int_equal(admin(driver, set), S_SEQUENCE); /* there are queues already */
	assert_int_equal(nvme_driver_enable(driver), 0);
	assert_int_equal(nvme_driver_command(driver, 0, &set, &cqe), 0);
	assert_true((cqe.result & 0xffff) >= 0x3f && cqe.result >> 16 >= 0x3f);
	assert_int_equal(nvme_driver_command(driver, 0, &get, &cqe), 0);
	assert_true((cqe.result & 0xffff) >= 0x3f);
	get.cdw10 = 0xaa;
	assert_int_equal(admin(driver, get), S_FIELD);
	set.cdw10 = 6; /* volatile write cache */
	set.cdw11 = 1;
	assert_int_equal(admin(driver, set), 0);
}

static unsigned collect(struct nvme_driver *driver, uint16_t queue, int status, unsigned wanted)
{
	struct nvme_driver_cqe cqe;
	unsigned count = 0;

	for (int tries = 0; tries < 2000 && count < wanted; tries++) {
		int r = nvme_driver_poll(driver, &driver->queues[queue], &cqe);

		assert_true(r >= 0);
		if (r == 1 && nvme_driver_status(&cqe) == status)
			count++;
		if (r == 0)
			nanosleep(&(struct timespec){.tv_nsec = NSEC_PER_MSEC}, NULL);
	}
	return count;
}

static void limits_event_requests(void **state)
{
	struct nvme_driver *driver = *state;
	struct nvme_driver_sqe event = {.opcode = ADMIN_ASYNC_EVENT};
	struct nvme_driver_sqe abort = {.opcode = ADMIN_ABORT};
	struct nvme_driver_cqe cqe;
	uint8_t *data = nvme_driver_alloc(driver, 4096);
	unsigned limit;
	int first;

	assert_int_equal(nvme_driver_identify(driver, 1, 0, data), 0);
	limit = data[259] + 1u;
	assert_true(limit >= 4 && limit <= 16);
	first = nvme_driver_queue_command(driver, &driver->queues[0], &event);
	for (unsigned i = 1; i < limit + 3; i++)
		assert_true(nvme_driver_queue_command(driver, &driver->queues[0], &event) >= 0);
	assert_int_equal(nvme_driver_ring(driver, &driver->queues[0]), 0);
	assert_int_equal(collect(driver, 0, S_TOO_MANY_EVENTS, 3), 3);
	abort.cdw10 = (uint32_t)first << 16;
	(void)nvme_driver_queue_command(driver, &driver->queues[0], &abort);
	assert_int_equal(nvme_driver_ring(driver, &driver->queues[0]), 0);
	assert_int_equal(collect(driver, 0, S_ABORTED, 1), 1);
	for (int tries = 0; nvme_driver_poll(driver, &driver->queues[0], &cqe) == 0; tries++) {
		assert_true(tries < 1000);
		nanosleep(&(struct timespec){.tv_nsec = NSEC_PER_MSEC}, NULL);
	}
	assert_int_equal(cqe.result & 1, 0); /* it was aborted */
	/* Nothing to abort. */
	abort.cdw10 = 999u << 16;
	assert_int_equal(nvme_driver_command(driver, 0, &abort, &cqe), 0);
	assert_int_equal(cqe.result & 1, 1);
}

/* Doorbells that make no sense, as messages: an event, or nothing; never harm. */
static void survives_wrong_doorbells(void **state)
{
	struct nvme_driver *driver = *state;
	static const struct {
		uint32_t doorbell, value;
	} wrong[] = {{2, 64}, {2, 0xffffffff}, {3, 64}, {3, 77}, {200, 1}, {258, 9}, {1023, 5}};
	struct nvme_driver_sqe event = {.opcode = ADMIN_ASYNC_EVENT};
	uint8_t byte = 1;

	assert_true(nvme_driver_queue_command(driver, &driver->queues[0], &event) >= 0);
	assert_int_equal(nvme_driver_ring(driver, &driver->queues[0]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(nvme_driver_set32(driver,
						   NVME_REG_DOORBELLS + 4 * wrong[i].doorbell,
						   wrong[i].value),
				 0);
	(void)vfu_client_write(&driver->client, 0, NVME_REG_DOORBELLS + 9, &byte, 1);
	assert_int_equal(collect(driver, 0, 0, 1), 1); /* error event: invalid doorbell value */
	(void)blocks_of(driver);
	assert_int_equal(nvme_driver_enable(driver), 0);
	assert_int_equal(nvme_driver_create_queue(driver, 1, 64, 1), 0);
	assert_int_equal(nvme_driver_ring(driver, &driver->queues[1]), 0); /* the same again */
	assert_int_equal(nvme_driver_ring(driver, &driver->queues[1]), 0);
	assert_works(driver);
}

static void fill_queue(struct nvme_driver *driver, uint16_t id, unsigned count)
{
	uint8_t *data = nvme_driver_alloc(driver, 128 * KIB);
	struct nvme_driver_sqe sqe = transfer(driver, OP_WRITE, 0, 256, data);

	for (unsigned i = 0; i < count; i++)
		assert_true(nvme_driver_queue_command(driver, &driver->queues[id], &sqe) >= 0);
	assert_int_equal(nvme_driver_ring(driver, &driver->queues[id]), 0);
}

static void deletes_queues_in_use(void **state)
{
	struct nvme_driver *driver = *state;

	for (int round = 0; round < 8; round++) {
		struct nvme_driver_cqe cqe;
		int r;

		assert_int_equal(nvme_driver_create_queue(driver, 2, 128, 1), 0);
		fill_queue(driver, 2, 100);
		assert_int_equal(admin(driver, (struct nvme_driver_sqe){.opcode = 0, .cdw10 = 2}),
				 0);
		while ((r = nvme_driver_poll(driver, &driver->queues[2], &cqe)) == 1)
			assert_true(nvme_driver_status(&cqe) == 0 ||
				    nvme_driver_status(&cqe) == S_SQ_DELETED);
		assert_int_equal(r, 0);
		assert_int_equal(admin(driver, (struct nvme_driver_sqe){.opcode = 4, .cdw10 = 2}),
				 0);
	}
	assert_works(driver);
}

static void resets_with_commands_in_flight(void **state)
{
	struct nvme_driver *driver = *state;

	for (int round = 0; round < 12; round++) {
		uint64_t used = driver->used;
		uint8_t *canary;

		fill_queue(driver, 1, 60);
		if (round % 2)
			assert_int_equal(vfu_client_reset(&driver->client), 0);
		else
			assert_int_equal(nvme_driver_disable(driver), 0);
		/* Queues are forgotten: what they point to is never written again. */
		canary = (uint8_t *)(uintptr_t)driver->queues[1].cq;
		memset(canary, 0x77, 64 * sizeof(struct nvme_driver_cqe));
		nanosleep(&(struct timespec){.tv_nsec = 5 * NSEC_PER_MSEC}, NULL);
		for (size_t i = 0; i < 64 * sizeof(struct nvme_driver_cqe); i++)
			assert_int_equal(canary[i], 0x77);
		assert_int_equal(nvme_driver_enable(driver), 0);
		assert_int_equal(nvme_driver_create_queue(driver, 1, 64, 1), 0);
		assert_works(driver);
		driver->used = used;
	}
}

static void shuts_down(void **state)
{
	struct nvme_driver *driver = *state;

	assert_int_equal(nvme_driver_set32(driver, NVME_REG_CC, 0x464001), 0); /* SHN normal */
	assert_int_equal(nvme_driver_wait_status(driver, 0xc, 0x8), 0);
	assert_int_equal(nvme_driver_enable(driver), 0);
	assert_int_equal(nvme_driver_create_queue(driver, 1, 64, 1), 0);
	assert_works(driver);
}

static void refuses_wrong_admin_queues(void **state)
{
	struct nvme_driver *driver = *state;

	assert_int_equal(nvme_driver_disable(driver), 0);
	assert_int_equal(nvme_driver_set64(driver, NVME_REG_ASQ, 0x1000), 0); /* not mapped */
	assert_int_equal(nvme_driver_set32(driver, NVME_REG_CC, 0x460001), 0);
	assert_int_equal(nvme_driver_wait_status(driver, 2, 2), 0); /* CFS */
	assert_int_equal(nvme_driver_enable(driver), 0);
	assert_int_equal(nvme_driver_create_queue(driver, 1, 64, 1), 0);
	assert_works(driver);
}

/* Memory goes away under a queue: its own controller suffers, and a reset heals it. */
static void survives_memory_that_goes_away(void **state)
{
	struct nvme_driver *driver = *state;

	fill_queue(driver, 1, 60);
	assert_int_equal(
		vfu_client_unmap(&driver->client, NVME_DRIVER_ADDRESS, driver->memory_bytes), 0);
	assert_int_equal(vfu_client_map(&driver->client, NVME_DRIVER_ADDRESS, driver->memory_bytes,
					driver->memory_fd, 0),
			 0);
	assert_int_equal(nvme_driver_enable(driver), 0);
	assert_int_equal(nvme_driver_create_queue(driver, 1, 64, 1), 0);
	assert_works(driver);
}

#define COMMAND_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		COMMAND_TEST(identifies),
		COMMAND_TEST(keeps_what_is_written),
		COMMAND_TEST(follows_prp_lists),
		COMMAND_TEST(follows_sgls),
		COMMAND_TEST(refuses_wrong_io),
		COMMAND_TEST(refuses_wrong_queues),
		COMMAND_TEST(makes_many_queues),
		COMMAND_TEST(goes_round_its_queues),
		cmocka_unit_test_setup_teardown(goes_round_its_queues, setup_trapped, teardown),
		COMMAND_TEST(interrupts),
		COMMAND_TEST(wakes_before_the_keeper),
		COMMAND_TEST(gives_features_and_logs),
		COMMAND_TEST(limits_event_requests),
		cmocka_unit_test_setup_teardown(survives_wrong_doorbells, setup_trapped, teardown),
		COMMAND_TEST(deletes_queues_in_use),
		COMMAND_TEST(resets_with_commands_in_flight),
		COMMAND_TEST(shuts_down),
		COMMAND_TEST(refuses_wrong_admin_queues),
		COMMAND_TEST(survives_memory_that_goes_away),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: nvme_commands SOCKET\n");
		return 2;
	}
	path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
