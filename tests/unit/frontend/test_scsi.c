/* SPDX-License-Identifier: Apache-2.0 */
/* The device server, driven with memory in place of a transport and a volume. */
#include "frontend/iscsi/scsi/command.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "base/macros.h"

#define BLOCK  512u
#define BLOCKS 4096u

static uint8_t medium[BLOCK * BLOCKS];
static uint8_t mapped[BLOCKS];
static unsigned flushes, aborts, saves, reads, early_statuses;
static bool stop_at_status;
static uint8_t saved[SCSI_PERSIST_BYTES];
static size_t saved_length;
static int next_error, status_error;

struct fixture {
	struct block_volume volume;
	struct scsi_unit unit;
	struct scsi_nexus nexus, other;
	struct scsi_target target;
	struct scsi_command command;
	uint8_t buffer[SCSI_SEGMENT_BYTES];
	uint8_t out[2 * MIB], in[2 * MIB];
	size_t in_length;
};

static struct fixture f;

static void gather(const struct block_request *request, uint8_t *to, size_t length)
{
	for (int i = 0; i < request->iov_count && length > 0; i++) {
		size_t n = MIN(length, request->iov[i].iov_len);

		memcpy(to, request->iov[i].iov_base, n);
		to += n;
		length -= n;
	}
	assert_int_equal(length, 0);
}

static int compare(struct block_request *request, const uint8_t *data)
{
	for (uint64_t i = 0; i < request->length; i++) {
		if (data[i] != medium[request->offset + i]) {
			request->miscompare_offset = i;
			return -EILSEQ;
		}
	}
	return 0;
}

static int perform_io(struct block_request *request)
{
	static uint8_t data[2 * SCSI_SEGMENT_BYTES];
	uint64_t first = request->offset / BLOCK, count = request->length / BLOCK;
	int *error = request->op == BLOCK_STATUS ? &status_error : &next_error, r = *error;

	*error = 0;
	if (r < 0)
		return r;
	assert_true(request->offset + request->length <= sizeof(medium));
	assert_int_equal(request->length % BLOCK, 0);
	switch (request->op) {
	case BLOCK_READ:
		reads++;
		assert_int_equal(request->iov[0].iov_len, request->length);
		memcpy(request->iov[0].iov_base, medium + request->offset, request->length);
		return 0;
	case BLOCK_WRITE:
		gather(request, medium + request->offset, request->length);
		memset(mapped + first, 1, count);
		return 0;
	case BLOCK_WRITE_ZEROES:
	case BLOCK_UNMAP:
		memset(medium + request->offset, 0, request->length);
		memset(mapped + first, 0, count);
		return 0;
	case BLOCK_FLUSH:
		flushes++;
		return 0;
	case BLOCK_COMPARE:
		gather(request, data, request->length);
		return compare(request, data);
	case BLOCK_COMPARE_AND_WRITE:
		gather(request, data, 2 * request->length);
		r = compare(request, data);
		if (r == 0)
			memcpy(medium + request->offset, data + request->length, request->length);
		return r;
	case BLOCK_STATUS:
		request->status = (struct block_status){.allocated = mapped[first]};
		while (request->status.length < request->length &&
		       mapped[first + request->status.length / BLOCK] == mapped[first])
			request->status.length += BLOCK;
		return 0;
	default:
		fail();
		return -EINVAL;
	}
}

/* Runs a command to its end. */
static enum scsi_status run_as(struct scsi_nexus *nexus, const uint8_t *cdb, size_t cdb_length,
			       uint32_t out_length, uint32_t in_length)
{
	struct scsi_command *c = &f.command;
	enum scsi_step step;

	memset(c, 0, sizeof(*c));
	c->target = &f.target;
	c->unit = &f.unit;
	c->nexus = nexus;
	memcpy(c->cdb, cdb, cdb_length);
	c->expected_out = out_length;
	c->expected_in = in_length;
	scsi_command_start(c);
	assert_true(c->buffer_bytes <= SCSI_SEGMENT_BYTES);
	c->buffer = f.buffer;
	c->buffer_size = c->buffer_bytes;
	f.in_length = 0;
	while ((step = scsi_command_next(c)) != SCSI_STEP_DONE) {
		switch (step) {
		case SCSI_STEP_DATA_OUT:
			assert_true(c->out_offset + c->step_bytes <= out_length);
			memcpy(c->step_data, f.out + c->out_offset, c->step_bytes);
			break;
		case SCSI_STEP_DATA_IN:
			assert_int_equal(c->in_offset, f.in_length);
			memcpy(f.in + f.in_length, c->step_data, c->step_bytes);
			f.in_length += c->step_bytes;
			break;
		case SCSI_STEP_ABORT:
			aborts++;
			break;
		case SCSI_STEP_STATUS:
			assert_int_equal(c->status, SCSI_GOOD);
			early_statuses++;
			if (stop_at_status)
				return SCSI_GOOD;
			break;
		case SCSI_STEP_SAVE:
			saves++;
			saved_length = scsi_persist_encode(&f.unit.persist, saved);
			c->io_result = next_error;
			next_error = 0;
			break;
		default:
			c->io_result = perform_io(&c->request);
			break;
		}
	}
	return c->status;
}

static enum scsi_status run(const uint8_t *cdb, size_t cdb_length, uint32_t out_length,
			    uint32_t in_length)
{
	return run_as(&f.nexus, cdb, cdb_length, out_length, in_length);
}
#define RUN(out, in, ...)                             \
	({                                            \
		const uint8_t cdb_[] = {__VA_ARGS__}; \
		run(cdb_, sizeof(cdb_), out, in);     \
	})

static void assert_sense(enum scsi_sense_key key, unsigned asc)
{
	assert_int_equal(f.command.status, SCSI_CHECK_CONDITION);
	assert_int_equal(f.command.sense.key, key);
	assert_int_equal(f.command.sense.asc, asc);
}

static int setup(void **state)
{
	struct scsi_sense sense;

	(void)state;
	memset(medium, 0, sizeof(medium));
	memset(mapped, 0, sizeof(mapped));
	flushes = 0;
	aborts = 0;
	saves = 0;
	next_error = 0;
	f.volume = (struct block_volume){
		.size_bytes = sizeof(medium), .block_bytes = BLOCK, .physical_block_bytes = 4096};
	scsi_unit_init(&f.unit, &f.volume, 0, UINT64_C(0x1234567890abcdef), "disk0");
	f.unit.thin = true;
	scsi_nexus_init(&f.nexus, &f.unit, "iqn.a,i,0x1");
	scsi_nexus_init(&f.other, &f.unit, "iqn.b,i,0x1");
	scsi_nexus_take_attention(&f.nexus, &sense);
	memset(&f.target, 0, sizeof(f.target));
	strcpy(f.target.name, "iqn.2026-01.org.sarsen:a.b");
	f.target.units[0] = &f.unit;
	f.target.units[7] = &f.unit;
	for (size_t i = 0; i < sizeof(f.out); i++)
		f.out[i] = (uint8_t)(i * 7 + i / 512);
	return 0;
}

static void writes_and_reads_of_all_lengths(void **state)
{
	(void)state;
	assert_int_equal(RUN(1024, 0, 0x0a, 0, 0, 8, 2, 0), SCSI_GOOD);
	assert_memory_equal(medium + 8 * BLOCK, f.out, 1024);
	assert_int_equal(RUN(0, 1024, 0x08, 0, 0, 8, 2, 0), SCSI_GOOD);
	assert_memory_equal(f.in, f.out, 1024);
	assert_int_equal(RUN(131072, 0, 0x0a, 0, 0, 0, 0, 0), SCSI_GOOD); /* 0 means 256 */
	assert_memory_equal(medium, f.out, 131072);
	assert_int_equal(RUN(0, 512, 0x28, 0, 0, 0, 0, 255, 0, 0, 1, 0), SCSI_GOOD);
	assert_memory_equal(f.in, f.out + 255 * BLOCK, 512);
	assert_int_equal(RUN(0, 512, 0xa8, 0, 0, 0, 0, 255, 0, 0, 0, 1, 0, 0), SCSI_GOOD);
	assert_memory_equal(f.in, f.out + 255 * BLOCK, 512);
	assert_int_equal(RUN(0, 512, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 1, 0, 0),
			 SCSI_GOOD);
	assert_memory_equal(f.in, f.out + 255 * BLOCK, 512);
}

static void large_transfers_go_in_segments(void **state)
{
	const uint32_t bytes = 2 * MIB; /* the whole medium */

	(void)state;
	assert_int_equal(RUN(bytes, 0, 0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0),
			 SCSI_GOOD);
	assert_memory_equal(medium, f.out, bytes);
	assert_int_equal(RUN(0, bytes, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0),
			 SCSI_GOOD);
	assert_int_equal(f.in_length, bytes);
	assert_memory_equal(f.in, f.out, bytes);
	f.volume.max_transfer_bytes = 70000; /* no multiple of the block */
	memset(f.in, 0, bytes);
	assert_int_equal(RUN(0, bytes, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0),
			 SCSI_GOOD);
	assert_memory_equal(f.in, f.out, bytes);
}

static void ranges_are_checked(void **state)
{
	(void)state;
	(void)RUN(0, 512, 0x28, 0, 0, 0, 0x10, 0, 0, 0, 1, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
	(void)RUN(0, 1024, 0x28, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
	assert_int_equal(RUN(0, 0, 0x28, 0, 0, 0, 0x0f, 0xff, 0, 0, 0, 0), SCSI_GOOD);
	(void)RUN(0, 0, 0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
	(void)RUN(0, 0, 0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
	(void)RUN(0, 512, 0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0); /* protection information */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	f.volume.size_bytes = 64 * MIB;
	(void)RUN(0, 0xffffffff, 0xa8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

static void less_than_the_cdb_says(void **state)
{
	const uint8_t opcodes[] = {0x2a, 0x2e, 0x2f}, bytchk[] = {0, 0, 2};

	(void)state;
	/* WRITE, WRITE AND VERIFY, VERIFY: half a block can be neither stored nor lost. */
	for (unsigned i = 0; i < ARRAY_SIZE(opcodes); i++) {
		(void)RUN(200, 0, opcodes[i], bytchk[i], 0, 0, 0, 0, 0, 0, 1, 0);
		assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_COMMAND_IU);
		assert_int_equal(f.command.out_bytes, 512);
	}
	(void)RUN(600, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_COMMAND_IU);
	(void)RUN(600, 0, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0); /* ORWRITE */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_COMMAND_IU);
	assert_int_equal(medium[1], 0);
	assert_int_equal(RUN(512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0), SCSI_GOOD);
	assert_int_equal(f.command.out_bytes, 1024);
	assert_memory_equal(medium, f.out, 512);
	assert_int_equal(medium[513], 0);
	assert_int_equal(RUN(700, 0, 0x2a, 0, 0, 0, 0, 1, 0, 0, 1, 0), SCSI_GOOD);
	assert_int_equal(RUN(0, 600, 0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 1024);
	assert_int_equal(f.command.in_bytes, 4096);
}

static void errors_become_sense(void **state)
{
	static const struct {
		int error;
		enum scsi_sense_key key;
		unsigned asc;
	} cases[] = {
		{-EBADMSG, SCSI_MEDIUM_ERROR, SCSI_ASC_READ_ERROR},
		{-EUCLEAN, SCSI_MEDIUM_ERROR, SCSI_ASC_READ_ERROR},
		{-EREMOTEIO, SCSI_HARDWARE_ERROR, SCSI_ASC_INTERNAL_FAILURE},
		{-ENOSPC, SCSI_DATA_PROTECT, SCSI_ASC_SPACE_FAILED},
		{-EROFS, SCSI_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED},
		{-ESTALE, SCSI_NOT_READY, SCSI_ASC_NOT_READY_INTERVENTION},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		next_error = cases[i].error;
		(void)RUN(0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
		assert_sense(cases[i].key, cases[i].asc);
		assert_int_equal(f.in_length, 0);
	}
	next_error = -ENOSPC;
	(void)RUN(512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_sense(SCSI_DATA_PROTECT, SCSI_ASC_SPACE_FAILED);
	next_error = -ENOMEM;
	assert_int_equal(RUN(512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_BUSY);
}

static void verify_compares(void **state)
{
	uint8_t sense[SCSI_SENSE_BYTES];

	(void)state;
	(void)RUN(4096, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0);
	assert_int_equal(RUN(0, 0, 0x2f, 0, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
	assert_int_equal(RUN(4096, 0, 0x2f, 2, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
	medium[700] ^= 1;
	(void)RUN(4096, 0, 0x2f, 2, 0, 0, 0, 0, 0, 0, 8, 0);
	assert_sense(SCSI_MISCOMPARE, SCSI_ASC_MISCOMPARE);
	assert_int_equal(f.command.sense.information, 700);
	assert_int_equal(scsi_command_sense(&f.command, sense), 18);
	assert_int_equal(sense[0], 0xf0);
	assert_int_equal(sense[2], SCSI_MISCOMPARE);
	assert_int_equal(get_be32(sense + 3), 700);
	f.unit.descriptor_sense = true;
	assert_int_equal(scsi_command_sense(&f.command, sense), 20);
	assert_int_equal(sense[0], 0x72);
	assert_int_equal(get_be64(sense + 12), 700);
	f.unit.descriptor_sense = false;
	memset(medium, 0x55, 4096);
	memset(f.out, 0x55, 512);
	assert_int_equal(RUN(512, 0, 0x2f, 6, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
	(void)RUN(0, 0, 0x2f, 4, 0, 0, 0, 0, 0, 0, 8, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	assert_int_equal(RUN(512, 0, 0x2e, 2, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
}

static void compare_and_write(void **state)
{
	const uint8_t cdb[16] = {0x89, [13] = 2};

	(void)state;
	memset(f.out, 0, 1024);
	memset(f.out + 1024, 0xaa, 1024);
	assert_int_equal(run(cdb, 16, 2048, 0), SCSI_GOOD);
	assert_int_equal(medium[1023], 0xaa);
	assert_int_equal(medium[1024], 0);
	(void)run(cdb, 16, 2048, 0);
	assert_sense(SCSI_MISCOMPARE, SCSI_ASC_MISCOMPARE);
	assert_int_equal(f.command.sense.information, 0);
	(void)run(cdb, 16, 1024, 0); /* the initiator sends something else */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

static void orwrite(void **state)
{
	const uint8_t cdb[16] = {0x8b, [12] = 0x10}; /* 4096 blocks */

	(void)state;
	memset(medium, 0x0f, sizeof(medium));
	memset(f.out, 0x30, sizeof(medium));
	assert_int_equal(run(cdb, 16, sizeof(medium), 0), SCSI_GOOD);
	for (size_t i = 0; i < sizeof(medium); i++)
		assert_int_equal(medium[i], 0x3f);
}

static void write_same(void **state)
{
	(void)state;
	assert_int_equal(RUN(512, 0, 0x41, 0, 0, 0, 0, 1, 0, 0, 100, 0), SCSI_GOOD);
	for (unsigned i = 1; i <= 100; i++)
		assert_memory_equal(medium + i * BLOCK, f.out, BLOCK);
	assert_int_equal(medium[101 * BLOCK + 1], 0);
	(void)RUN(256, 0, 0x41, 0, 0, 0, 0, 1, 0, 0, 1, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)RUN(512, 0, 0x41, 0, 0, 0, 0, 1, 0, 0, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	assert_int_equal(RUN(0, 0, 0x93, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0), SCSI_GOOD);
	assert_int_equal(medium[49 * BLOCK + 1], 0);
	assert_int_equal(mapped[49], 0);
	assert_int_equal(mapped[50], 1);
	f.unit.thin = false;
	(void)RUN(0, 0, 0x93, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

static void unmap_and_lba_status(void **state)
{
	const uint8_t unmap[10] = {0x42, [8] = 40}, status[16] = {0x9e, 0x12, [13] = 56};

	(void)state;
	memset(mapped, 1, sizeof(mapped));
	memset(medium, 1, sizeof(medium));
	memset(f.out, 0, 64);
	put_be16(f.out, 38);
	put_be16(f.out + 2, 32);
	put_be64(f.out + 8, 10);
	put_be32(f.out + 16, 5);
	put_be64(f.out + 24, 20);
	put_be32(f.out + 32, 0);
	assert_int_equal(run(unmap, 10, 40, 0), SCSI_GOOD);
	assert_int_equal(medium[10 * BLOCK], 0);
	assert_int_equal(medium[15 * BLOCK], 1);
	assert_int_equal(run(status, 16, 0, 56), SCSI_GOOD);
	assert_int_equal(f.in_length, 56);
	assert_int_equal(get_be32(f.in), 52);
	assert_int_equal(get_be64(f.in + 8), 0);
	assert_int_equal(get_be32(f.in + 16), 10);
	assert_int_equal(f.in[20], 0);
	assert_int_equal(get_be64(f.in + 24), 10);
	assert_int_equal(get_be32(f.in + 32), 5);
	assert_int_equal(f.in[36], 1);
	assert_int_equal(get_be64(f.in + 40), 15);
	/* One range beyond the end: nothing at all happens. */
	put_be64(f.out + 8, 30);
	put_be64(f.out + 24, BLOCKS);
	put_be32(f.out + 32, 1);
	(void)run(unmap, 10, 40, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
	assert_int_equal(medium[30 * BLOCK], 1);
	(void)run((const uint8_t[10]){0x42, [8] = 4}, 10, 4, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
	f.unit.thin = false;
	(void)run(unmap, 10, 40, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
}

static void inquiry(void **state)
{
	(void)state;
	assert_int_equal(RUN(0, 255, 0x12, 0, 0, 0, 255, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 96);
	assert_int_equal(f.in[0], 0);
	assert_memory_equal(f.in + 8, "SARSEN  disk0           0001", 28);
	assert_int_equal(RUN(0, 5, 0x12, 0, 0, 0, 5, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 5);
	assert_int_equal(RUN(0, 255, 0x12, 1, 0, 0, 255, 0), SCSI_GOOD);
	for (unsigned i = 0, count = f.in[3]; i < count; i++) {
		assert_int_equal(RUN(0, 255, 0x12, 1, 0, 0, 255, 0), SCSI_GOOD);
		assert_int_equal(RUN(0, 255, 0x12, 1, f.in[4 + i], 0, 255, 0), SCSI_GOOD);
		assert_int_equal(f.in_length, 4 + get_be16(f.in + 2));
	}
	assert_int_equal(RUN(0, 255, 0x12, 1, 0x80, 0, 255, 0), SCSI_GOOD);
	assert_int_equal(get_be16(f.in + 2), 32);
	assert_memory_equal(f.in + 4,
			    "0000000000000000"
			    "1234567890abcdef",
			    32);
	assert_int_equal(RUN(0, 255, 0x12, 1, 0x83, 0, 255, 0), SCSI_GOOD);
	assert_memory_equal(f.in + 8, "\x32\x34\x56\x78\x90\xab\xcd\xef", 8);
	(void)RUN(0, 255, 0x12, 1, 0x99, 0, 255, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)RUN(0, 255, 0x12, 0, 0x80, 0, 255, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

/* Disks of two nodes must not look like two paths to one. */
static void identifiers_of_two_nodes(void **state)
{
	uint8_t naa[8], t10[40];

	(void)state;
	f.unit.identity = UINT64_C(0xfedcba9876543210);
	assert_int_equal(RUN(0, 255, 0x12, 1, 0x80, 0, 255, 0), SCSI_GOOD);
	assert_memory_equal(f.in + 4,
			    "fedcba9876543210"
			    "1234567890abcdef",
			    32);
	assert_int_equal(RUN(0, 255, 0x12, 1, 0x83, 0, 255, 0), SCSI_GOOD);
	memcpy(naa, f.in + 8, sizeof(naa));
	memcpy(t10, f.in + 20, sizeof(t10));
	assert_int_equal(naa[0] >> 4, 3);
	assert_memory_equal(t10, "SARSEN  fedcba98765432101234567890abcdef", sizeof(t10));
	f.unit.identity++;
	assert_int_equal(RUN(0, 255, 0x12, 1, 0x83, 0, 255, 0), SCSI_GOOD);
	assert_memory_not_equal(f.in + 8, naa, sizeof(naa));
	assert_memory_not_equal(f.in + 20, t10, sizeof(t10));
}

static void capacity(void **state)
{
	(void)state;
	assert_int_equal(RUN(0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_int_equal(get_be32(f.in), BLOCKS - 1);
	assert_int_equal(get_be32(f.in + 4), BLOCK);
	assert_int_equal(RUN(0, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0),
			 SCSI_GOOD);
	assert_int_equal(get_be64(f.in), BLOCKS - 1);
	assert_int_equal(f.in[13], 3);
	assert_int_equal(f.in[14], 0xc0);
	f.volume.size_bytes = 4 * TIB;
	assert_int_equal(RUN(0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_int_equal(get_be32(f.in), 0xffffffff);
	(void)RUN(0, 0, 0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

static void mode_pages(void **state)
{
	uint8_t page[12];

	(void)state;
	assert_int_equal(RUN(0, 255, 0x1a, 0, 0x3f, 0, 255, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 4u + 8 + 12 + 20 + 12 + 12);
	assert_int_equal(f.in[0], f.in_length - 1);
	assert_int_equal(f.in[2], 0x10);
	(void)RUN(0, 255, 0x1a, 0, 0xff, 0, 255, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_SAVING_NOT_SUPPORTED);
	(void)RUN(0, 255, 0x1a, 0, 0x02, 0, 255, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	assert_int_equal(RUN(0, 255, 0x5a, 0x18, 0x0a, 0, 0, 0, 0, 0, 255, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 20);
	memcpy(page, f.in + 8, 12);
	page[4] |= 0x08; /* SWP */
	memset(f.out, 0, 4);
	memcpy(f.out + 4, page, 12);
	assert_int_equal(RUN(16, 0, 0x15, 0x10, 0, 0, 16, 0), SCSI_GOOD);
	assert_int_equal(f.other.attentions & (1u << SCSI_ATTENTION_MODE_CHANGED),
			 1u << SCSI_ATTENTION_MODE_CHANGED);
	(void)RUN(512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_sense(SCSI_DATA_PROTECT, SCSI_ASC_SOFTWARE_WRITE_PROTECTED);
	page[8] ^= 1; /* the busy time-out cannot be changed */
	memcpy(f.out + 4, page, 12);
	(void)RUN(16, 0, 0x15, 0x10, 0, 0, 16, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	(void)RUN(15, 0, 0x15, 0x10, 0, 0, 15, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	(void)RUN(2, 0, 0x15, 0x10, 0, 0, 2, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
}

static void read_only_units(void **state)
{
	(void)state;
	f.unit.read_only = true;
	(void)RUN(512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_sense(SCSI_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED);
	assert_int_equal(RUN(0, 255, 0x1a, 0, 0x3f, 0, 255, 0), SCSI_GOOD);
	assert_int_equal(f.in[2], 0x90);
}

static void attentions_and_missing_units(void **state)
{
	struct scsi_unit *unit = &f.unit;

	(void)state;
	scsi_unit_attention(unit, SCSI_ATTENTION_CAPACITY_CHANGED, NULL);
	assert_int_equal(RUN(0, 255, 0x12, 0, 0, 0, 255, 0), SCSI_GOOD);
	(void)RUN(0, 0, 0x00, 0, 0, 0, 0, 0);
	assert_sense(SCSI_UNIT_ATTENTION, SCSI_ASC_CAPACITY_CHANGED);
	assert_int_equal(RUN(0, 0, 0x00, 0, 0, 0, 0, 0), SCSI_GOOD);
	scsi_unit_reset(unit, NULL);
	assert_int_equal(RUN(0, 252, 0x03, 0, 0, 0, 252, 0), SCSI_GOOD);
	assert_int_equal(f.in[2], SCSI_UNIT_ATTENTION);
	assert_int_equal(get_be16(f.in + 12), SCSI_ASC_LU_RESET);
	assert_int_equal(RUN(0, 0, 0x00, 0, 0, 0, 0, 0), SCSI_GOOD);
	f.unit.lun = 0;
	(void)RUN(0, 0, 0xff, 0, 0, 0, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
	memset(&f.command, 0, sizeof(f.command));
	f.command.target = &f.target;
	f.command.cdb[0] = 0x28;
	scsi_command_start(&f.command);
	assert_int_equal(scsi_command_next(&f.command), SCSI_STEP_DONE);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_LUN_NOT_SUPPORTED);
	memset(&f.command, 0, sizeof(f.command));
	f.command.target = &f.target;
	f.command.buffer = f.buffer;
	memcpy(f.command.cdb, "\x12\0\0\0\xff\0", 6);
	scsi_command_start(&f.command);
	assert_int_equal(scsi_command_next(&f.command), SCSI_STEP_DATA_IN);
	assert_int_equal(f.buffer[0], 0x7f);
}

static void reservations(void **state)
{
	(void)state;
	f.unit.reserved_by = &f.other;
	assert_int_equal(RUN(0, 0, 0x00, 0, 0, 0, 0, 0), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(RUN(0, 0, 0x16, 0, 0, 0, 0, 0), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(RUN(0, 255, 0x12, 0, 0, 0, 255, 0), SCSI_GOOD);
	assert_int_equal(RUN(0, 0, 0x17, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_ptr_equal(f.unit.reserved_by, &f.other);
	scsi_nexus_done(&f.other);
	assert_int_equal(RUN(0, 0, 0x16, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_ptr_equal(f.unit.reserved_by, &f.nexus);
	assert_int_equal(RUN(0, 0, 0x17, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_null(f.unit.reserved_by);
}

/* PERSISTENT RESERVE OUT from one of the two nexuses. */
static enum scsi_status persist_out(struct scsi_nexus *nexus, uint8_t action, uint8_t type,
				    uint64_t key, uint64_t action_key)
{
	const uint8_t cdb[10] = {0x5f, action, type, [8] = 24};

	memset(f.out, 0, 24);
	put_be64(f.out, key);
	put_be64(f.out + 8, action_key);
	return run_as(nexus, cdb, 10, 24, 0);
}

static void assert_reserved(uint64_t key, uint8_t type)
{
	const uint8_t cdb[10] = {0x5e, 1, [8] = 64};

	assert_int_equal(run(cdb, 10, 0, 64), SCSI_GOOD);
	assert_int_equal(f.in_length, type ? 24 : 8);
	if (type) {
		assert_int_equal(get_be64(f.in + 8), key);
		assert_int_equal(f.in[21], type);
	}
}

static enum scsi_status other_reads(void)
{
	const uint8_t cdb[10] = {0x28, [8] = 1};

	return run_as(&f.other, cdb, 10, 0, 512);
}

static enum scsi_status other_writes(void)
{
	const uint8_t cdb[10] = {0x2a, [8] = 1};

	return run_as(&f.other, cdb, 10, 512, 0);
}

static void clear_attentions(void)
{
	struct scsi_sense sense;

	while (scsi_nexus_take_attention(&f.nexus, &sense) ||
	       scsi_nexus_take_attention(&f.other, &sense))
		;
}

/* SPC-4 5.12.1: who may do what. */
static void persistent_reservations_keep_others_out(void **state)
{
	static const struct {
		uint8_t type;
		bool stranger_reads, member_reads, member_writes;
	} cases[] = {
		{SCSI_WRITE_EXCLUSIVE, true, true, false},
		{SCSI_EXCLUSIVE_ACCESS, false, false, false},
		{SCSI_WRITE_EXCLUSIVE_REGISTRANTS, true, true, true},
		{SCSI_EXCLUSIVE_ACCESS_REGISTRANTS, false, true, true},
		{SCSI_WRITE_EXCLUSIVE_ALL, true, true, true},
		{SCSI_EXCLUSIVE_ACCESS_ALL, false, true, true},
	};

	(void)state;
	clear_attentions();
	assert_int_equal(persist_out(&f.nexus, 1, 1, 0, 0), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(persist_out(&f.nexus, 0, 0, 0, 0xa), SCSI_GOOD);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t type = cases[i].type;

		assert_int_equal(persist_out(&f.nexus, 1, type, 0xa, 0), SCSI_GOOD);
		assert_int_equal(persist_out(&f.nexus, 1, type, 0xa, 0), SCSI_GOOD);
		assert_reserved(type >= SCSI_WRITE_EXCLUSIVE_ALL ? 0 : 0xa, type);
		assert_int_equal(other_reads() == SCSI_GOOD, cases[i].stranger_reads);
		assert_int_equal(other_writes(), SCSI_RESERVATION_CONFLICT);
		assert_int_equal(persist_out(&f.other, 0, 0, 0, 0xb), SCSI_GOOD);
		assert_int_equal(other_reads() == SCSI_GOOD, cases[i].member_reads);
		assert_int_equal(other_writes() == SCSI_GOOD, cases[i].member_writes);
		assert_int_equal(RUN(512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
		assert_int_equal(RUN(0, 0, 0x00, 0, 0, 0, 0, 0), SCSI_GOOD);
		(void)persist_out(&f.nexus, 2, type == 1 ? 3 : 1, 0xa, 0); /* another type */
		assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_RELEASE);
		assert_int_equal(persist_out(&f.nexus, 2, type, 0xa, 0), SCSI_GOOD);
		assert_reserved(0, 0);
		clear_attentions();
		assert_int_equal(persist_out(&f.other, 0, 0, 0xb, 0), SCSI_GOOD);
	}
}

static void persistent_registrations(void **state)
{
	const uint8_t keys[10] = {0x5e, 0, [8] = 64}, status[10] = {0x5e, 3, [7] = 2};

	(void)state;
	clear_attentions();
	assert_int_equal(persist_out(&f.nexus, 0, 0, 7, 0xa), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(persist_out(&f.nexus, 6, 0, 7, 0xa), SCSI_GOOD); /* ignores the key */
	assert_int_equal(persist_out(&f.nexus, 0, 0, 7, 0xc), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(persist_out(&f.nexus, 0, 0, 0xa, 0xc), SCSI_GOOD);
	assert_int_equal(run(keys, 10, 0, 64), SCSI_GOOD);
	assert_int_equal(get_be32(f.in), 2);
	assert_int_equal(get_be32(f.in + 4), 8);
	assert_int_equal(get_be64(f.in + 8), 0xc);
	assert_int_equal(RUN(0, 0, 0x16, 0, 0, 0, 0, 0), SCSI_RESERVATION_CONFLICT);
	/* It outlives the session. */
	scsi_nexus_done(&f.nexus);
	scsi_nexus_init(&f.nexus, &f.unit, "iqn.a,i,0x1");
	clear_attentions();
	assert_int_equal(persist_out(&f.nexus, 1, 1, 0xc, 0), SCSI_GOOD);
	assert_int_equal(run(status, 10, 0, 512), SCSI_GOOD);
	assert_int_equal(f.in_length, 8 + 24 + 4 + 12);
	assert_int_equal(f.in[8 + 12], 1);
	assert_int_equal(f.in[8 + 13], 1);
	assert_string_equal((char *)f.in + 8 + 28, "iqn.a,i,0x1");
	/* The last word of a holder releases. */
	assert_int_equal(persist_out(&f.nexus, 0, 0, 0xc, 0), SCSI_GOOD);
	assert_reserved(0, 0);
	(void)RUN(16, 0, 0x5f, 0, 0, 0, 0, 0, 0, 0, 16, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
	(void)persist_out(&f.nexus, 1, 2, 0, 0); /* no such type */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)persist_out(&f.nexus, 0x1f, 1, 0, 0); /* no such action */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

static void preemption(void **state)
{
	(void)state;
	clear_attentions();
	assert_int_equal(persist_out(&f.nexus, 0, 0, 0, 0xa), SCSI_GOOD);
	assert_int_equal(persist_out(&f.other, 0, 0, 0, 0xb), SCSI_GOOD);
	assert_int_equal(persist_out(&f.other, 1, SCSI_EXCLUSIVE_ACCESS, 0xb, 0), SCSI_GOOD);
	assert_int_equal(persist_out(&f.nexus, 4, 1, 0xa, 0xee), SCSI_RESERVATION_CONFLICT);
	(void)persist_out(&f.nexus, 4, 1, 0xa, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	assert_int_equal(persist_out(&f.nexus, 5, SCSI_WRITE_EXCLUSIVE, 0xa, 0xb), SCSI_GOOD);
	assert_true(aborts > 0);
	assert_true(f.other.preempted);
	assert_reserved(0xa, SCSI_WRITE_EXCLUSIVE);
	(void)other_reads();
	assert_sense(SCSI_UNIT_ATTENTION, SCSI_ASC_REGISTRATIONS_PREEMPTED);
	assert_int_equal(other_reads(), SCSI_GOOD);
	assert_int_equal(other_writes(), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(persist_out(&f.other, 3, 0, 0xb, 0), SCSI_RESERVATION_CONFLICT);
	assert_int_equal(persist_out(&f.other, 0, 0, 0, 0xb), SCSI_GOOD);
	assert_int_equal(persist_out(&f.other, 3, 0, 0xb, 0), SCSI_GOOD); /* clear */
	assert_true(f.nexus.attentions & 1u << SCSI_ATTENTION_RESERVATIONS_PREEMPTED);
	clear_attentions();
	assert_reserved(0, 0);
}

static void registrations_have_a_limit(void **state)
{
	static struct scsi_nexus nexuses[SCSI_REGISTRATIONS_MAX + 1];
	static char names[ARRAY_SIZE(nexuses)][32];
	const uint8_t status[10] = {0x5e, 3, [7] = 0xff};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nexuses); i++) {
		struct scsi_sense sense;

		snprintf(names[i], sizeof(names[i]), "iqn.%zu,i,0x0", i);
		scsi_nexus_init(&nexuses[i], &f.unit, names[i]);
		(void)scsi_nexus_take_attention(&nexuses[i], &sense);
		(void)persist_out(&nexuses[i], 0, 0, 0, i + 1);
	}
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_REGISTRATION_RESOURCES);
	assert_int_equal(f.unit.persist.count, SCSI_REGISTRATIONS_MAX);
	assert_int_equal(run(status, 10, 0, 65280), SCSI_GOOD);
	assert_int_equal(get_be32(f.in + 4) + 8, f.in_length);
	for (size_t i = 0; i < ARRAY_SIZE(nexuses); i++)
		scsi_nexus_done(&nexuses[i]);
}

static void reports(void **state)
{
	unsigned count;

	(void)state;
	assert_int_equal(RUN(0, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), SCSI_GOOD);
	assert_int_equal(get_be32(f.in), 16);
	assert_int_equal(f.in[17], 7);
	(void)RUN(0, 8, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	assert_int_equal(RUN(0, 8192, 0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0), SCSI_GOOD);
	count = get_be32(f.in) / 8;
	assert_int_equal(f.in_length, 4 + count * 8);
	for (unsigned i = 0; i < count; i++) {
		uint8_t cdb[12] = {0xa3, 0x0c, 0x03, [8] = 1};

		assert_int_equal(RUN(0, 8192, 0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0),
				 SCSI_GOOD);
		memcpy(cdb + 3, f.in + 4 + 8 * i, 1);
		memcpy(cdb + 4, f.in + 4 + 8 * i + 2, 2);
		assert_int_equal(run(cdb, 12, 0, 256), SCSI_GOOD);
		assert_int_equal(f.in[1], 3);
		assert_int_equal(f.in[4], cdb[3]);
	}
	assert_int_equal(RUN(0, 64, 0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 16);
}

static void flush_and_the_rest(void **state)
{
	(void)state;
	assert_int_equal(RUN(0, 0, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_int_equal(flushes, 1);
	next_error = -EIO;
	(void)RUN(0, 0, 0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	assert_sense(SCSI_MEDIUM_ERROR, SCSI_ASC_WRITE_ERROR);
	assert_int_equal(RUN(0, 0, 0x34, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
	(void)RUN(0, 0, 0x34, 0, 0xff, 0, 0, 0, 0, 0, 1, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
	assert_int_equal(RUN(0, 8, 0x37, 0, 0x0c, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
	assert_int_equal(f.in[1], 0x0c);
	assert_int_equal(RUN(0, 0, 0x1b, 0, 0, 0, 1, 0), SCSI_GOOD);
	assert_int_equal(RUN(0, 0, 0x1e, 0, 0, 0, 1, 0), SCSI_GOOD);
	assert_true(f.nexus.prevents_removal);
}

static enum scsi_status reserve_out(struct scsi_nexus *nexus, uint8_t action, uint8_t type,
				    uint64_t key, uint64_t new_key, uint8_t flags)
{
	const uint8_t cdb[10] = {0x5f, action, type, [8] = 24};

	memset(f.out, 0, 24);
	put_be64(f.out, key);
	put_be64(f.out + 8, new_key);
	f.out[20] = flags;
	return run_as(nexus, cdb, sizeof(cdb), 24, 0);
}

static void reservations_are_saved(void **state)
{
	static struct scsi_persist back;
	const uint8_t capabilities[10] = {0x5e, 2, [8] = 8};

	(void)state;
	f.other.attentions = 0;
	(void)reserve_out(&f.nexus, 0, 0, 0, 1, 1);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	f.unit.can_save = true;
	assert_int_equal(reserve_out(&f.other, 0, 0, 0, 2, 0), SCSI_GOOD);
	assert_int_equal(saves, 0);
	assert_int_equal(reserve_out(&f.nexus, 0, 0, 0, 1, 1), SCSI_GOOD);
	assert_int_equal(saves, 1);
	assert_int_equal(run(capabilities, 10, 0, 8), SCSI_GOOD);
	assert_int_equal(f.in[2] & 1, 1);
	assert_int_equal(f.in[3] & 1, 1);
	assert_int_equal(reserve_out(&f.nexus, 1, 5, 1, 0, 0), SCSI_GOOD);
	assert_int_equal(saves, 2);
	assert_int_equal(scsi_persist_decode(&back, saved, saved_length), 0);
	assert_int_equal(back.count, 2);
	assert_int_equal(back.type, 5);
	assert_int_equal(back.holder->key, 1);
	assert_string_equal(back.holder->port, f.nexus.port);
	for (size_t i = 1; i < saved_length; i++) /* what is cut is not taken */
		assert_int_equal(scsi_persist_decode(&back, saved, i), -EUCLEAN);
	saved[1] = 2; /* no type */
	assert_int_equal(scsi_persist_decode(&back, saved, saved_length), -EUCLEAN);
	saved[1] = 7; /* has no holder */
	assert_int_equal(scsi_persist_decode(&back, saved, saved_length), -EUCLEAN);
	next_error = -EIO;
	(void)reserve_out(&f.nexus, 2, 5, 1, 0, 0);
	assert_sense(SCSI_HARDWARE_ERROR, SCSI_ASC_INTERNAL_FAILURE);
	assert_int_equal(reserve_out(&f.nexus, 6, 0, 0, 3, 0), SCSI_GOOD); /* no longer */
	assert_int_equal(saved_length, 0);
	assert_int_equal(saves, 4);
	assert_int_equal(reserve_out(&f.nexus, 3, 0, 3, 0, 0), SCSI_GOOD);
	assert_int_equal(saves, 4);
}

static void space_has_a_threshold(void **state)
{
	const uint8_t sense[10] = {0x5a, 0x08, 0x1c, 2, [8] = 64};
	const uint8_t select[10] = {0x55, 0x10, [8] = 32};
	/* SPF and code, subpage, length; ENABLED, available resources, 10 sets. */
	const uint8_t page[24] = {0x5c, 0x02, 0, 20, [16] = 0x80, 0x01, 0, 0, 0, 0, 0, 10};
	/* Parameters 1 and 2: list format, 8 bytes, a count, shared with others. */
	const uint8_t log[28] = {0x0c, 0, 0, 24, 0,    1,    0x03, 8, 0, 0, 0,  40,  0x02,
				 0,    0, 0, 0,  0x02, 0x03, 8,    0, 0, 0, 60, 0x02};
	/* LBPU, LBPWS, LBPWS10, LBPRZ 001b; thin. */
	const uint8_t vpd[8] = {0, 0xb2, 0, 4, 11, 0xe4, 0x02, 0};
	struct scsi_nexus late;

	(void)state;
	f.nexus.attentions = 0;
	(void)RUN(0, 64, 0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 64, 0); /* not known yet */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)run(sense, 10, 0, 64);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	scsi_unit_set_space(&f.unit, 40 * MIB, 100 * MIB);
	(void)RUN(0, 0, 0, 0, 0, 0, 0, 0);
	assert_sense(SCSI_UNIT_ATTENTION, SCSI_ASC_MODE_CHANGED);
	assert_int_equal(RUN(0, 64, 0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 64, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 28);
	assert_memory_equal(f.in, log, sizeof(log));
	assert_int_equal(run(sense, 10, 0, 64), SCSI_GOOD);
	assert_int_equal(f.in_length, 8 + 24);
	assert_memory_equal(f.in + 8, page, sizeof(page));
	memcpy(f.out, f.in, 32);
	memset(f.out, 0, 8);
	assert_int_equal(run(select, 10, 32, 0), SCSI_GOOD); /* as it is */
	f.out[31]++;
	(void)run(select, 10, 32, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	assert_int_equal(RUN(0, 64, 0x12, 1, 0xb2, 0, 64, 0), SCSI_GOOD);
	assert_memory_equal(f.in, vpd, sizeof(vpd)); /* 2^11 blocks are 1 MiB */
	scsi_unit_set_space(&f.unit, 9 * MIB, 100 * MIB);
	(void)RUN(0, 0, 0, 0, 0, 0, 0, 0);
	assert_sense(SCSI_UNIT_ATTENTION, SCSI_ASC_SOFT_THRESHOLD);
	assert_true(f.command.sense.information_valid);
	assert_int_equal(f.command.sense.information, 16); /* the descriptor in the mode page */
	scsi_unit_set_space(&f.unit, 11 * MIB, 100 * MIB); /* hardly better */
	scsi_unit_set_space(&f.unit, 8 * MIB, 100 * MIB);
	assert_int_equal(RUN(0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
	scsi_unit_set_space(&f.unit, 20 * MIB, 100 * MIB);
	scsi_unit_set_space(&f.unit, 8 * MIB, 100 * MIB);
	(void)RUN(0, 0, 0, 0, 0, 0, 0, 0);
	assert_sense(SCSI_UNIT_ATTENTION, SCSI_ASC_SOFT_THRESHOLD);
	scsi_nexus_init(&late, &f.unit, "iqn.2026-01.org.example:late");
	assert_int_equal(late.attentions,
			 1u << SCSI_ATTENTION_POWER_ON | 1u << SCSI_ATTENTION_SPACE_LOW);
	scsi_nexus_done(&late);
}

/* --- Third-party copies --- */

#define LIST_HEADER 16u

/* A list of one descriptor for each serial, and of no segment yet. */
static void begin_list(const uint64_t *serials, uint16_t count)
{
	memset(f.out, 0, SCSI_SMALL_BYTES);
	f.out[0] = 7; /* list identifier */
	put_be16(f.out + 2, (uint16_t)(count * 32));
	for (uint16_t i = 0; i < count; i++) {
		uint8_t *cscd = f.out + LIST_HEADER + 32 * i;

		cscd[0] = SCSI_COPY_CSCD_IDENT;
		cscd[4] = 1;
		cscd[5] = 3;
		cscd[7] = 8;
		put_be64(cscd + 8, UINT64_C(3) << 60 | (serials[i] & (UINT64_MAX >> 4)));
	}
}

static uint32_t list_length(void)
{
	return LIST_HEADER + get_be16(f.out + 2) + get_be32(f.out + 8);
}

static uint8_t *add_segment(uint16_t from, uint16_t to, uint16_t blocks, uint64_t from_lba,
			    uint64_t to_lba)
{
	uint8_t *at = f.out + list_length();

	at[0] = SCSI_COPY_BLOCKS;
	put_be16(at + 2, 0x18);
	put_be16(at + 4, from);
	put_be16(at + 6, to);
	put_be16(at + 10, blocks);
	put_be64(at + 12, from_lba);
	put_be64(at + 20, to_lba);
	put_be32(f.out + 8, get_be32(f.out + 8) + 28);
	return at;
}

static enum scsi_status copy(uint32_t length)
{
	uint8_t cdb[16] = {0x83};

	put_be32(cdb + 10, length);
	return run(cdb, sizeof(cdb), length, 0);
}

static const uint64_t own[] = {UINT64_C(0x1234567890abcdef), UINT64_C(0x1234567890abcdef)};

static void copy_moves_data(void **state)
{
	const uint8_t status[16] = {0x84, 0x00, 7, [13] = 12};

	(void)state;
	memset(medium, 0xaa, sizeof(medium));
	memset(mapped, 1, sizeof(mapped));
	memset(medium, 0, 512);
	begin_list(own, 2);
	(void)add_segment(0, 1, 1, 0, 3000);     /* zeros: given back */
	(void)add_segment(0, 1, 2000, 16, 2040); /* several pieces */
	memcpy(medium + 16 * BLOCK, f.out, BLOCK);
	assert_int_equal(copy(list_length()), SCSI_GOOD);
	assert_memory_equal(medium + 2040 * BLOCK, medium + 16 * BLOCK, BLOCK);
	assert_int_equal(medium[2041 * BLOCK], 0xaa);
	assert_int_equal(run(status, 16, 0, 12), SCSI_GOOD);
	assert_int_equal(f.in[4], 1);
	assert_int_equal(get_be16(f.in + 5), 2);
	assert_int_equal(get_be32(f.in + 8), 2001 / 2);
	(void)run(status, 16, 0, 12); /* told once */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

static void copies_skip_holes(void **state)
{
	const unsigned first = 40, count = 2000, to = 2048;

	(void)state;
	begin_list(own, 1);
	(void)add_segment(0, 0, count, first, to);
	memset(medium, 0x33, sizeof(medium));
	memset(mapped, 0, sizeof(mapped));
	memset(mapped + first + 3, 1, 2);    /* data shorter than a piece's unit */
	memset(mapped + first + 700, 1, 90); /* data in the middle, its ends at no unit */
	for (unsigned i = first; i < first + count; i++) {
		if (!mapped[i])
			memset(medium + i * BLOCK, 0, BLOCK);
	}
	memset(mapped + to, 1, count); /* is there before the copy, and goes */
	reads = 0;
	assert_int_equal(copy(list_length()), SCSI_GOOD);
	assert_memory_equal(medium + to * BLOCK, medium + first * BLOCK, count * BLOCK);
	assert_true(reads <= 4);
	for (unsigned i = 0; i < count; i++) { /* not thicker than by the ends of pieces */
		if (i > 16 && (i < 690 || i > 800))
			assert_int_equal(mapped[to + i], 0);
	}
	status_error = -EIO;
	assert_int_equal(copy(list_length()), SCSI_GOOD);
	assert_memory_equal(medium + to * BLOCK, medium + first * BLOCK, count * BLOCK);
}

static void copy_in_bytes_with_long_identifier(void **state)
{
	const uint8_t status[16] = {0x84, 0x05, 1, 2, 3, 4, [13] = 64};
	uint8_t cdb[16] = {0x83, 0x01, [13] = 48 + 32 + 32};
	uint8_t *segment = f.out + 80;

	(void)state;
	begin_list(own, 1);
	memmove(f.out + 48, f.out + 16, 32);
	memset(f.out, 0, 48);
	memset(segment, 0, 32);
	f.out[0] = 1;
	put_be16(f.out + 2, 0x20);
	f.out[16] = 0xff;
	put_be32(f.out + 20, 0x01020304);
	put_be16(f.out + 42, 32);
	put_be16(f.out + 44, 32);
	segment[0] = SCSI_COPY_BYTES;
	put_be16(segment + 2, 0x1c);
	put_be32(segment + 8, 1024);
	put_be64(segment + 20, 100);
	put_be16(segment + 28, 512);
	memset(medium + 512, 0x55, 1024);
	memset(mapped, 1, sizeof(mapped));
	assert_int_equal(run(cdb, 16, 112, 0), SCSI_GOOD);
	assert_memory_equal(medium + 100 * BLOCK, medium + 512, 1024);
	assert_int_equal(run(status, 16, 0, 64), SCSI_GOOD);
	assert_int_equal(get_be64(f.in + 16), 1024);
	put_be16(segment + 30, 100); /* not a whole block */
	(void)run(cdb, 16, 112, 0);
	assert_sense(SCSI_COPY_ABORTED, SCSI_ASC_INEXACT_SEGMENT);
	assert_int_equal(run(status, 16, 0, 64), SCSI_GOOD);
	assert_int_equal(f.in[5], 2);
	assert_true(f.in[14] > 0); /* with its sense */
	f.out[15] = 1;             /* IMMED */
	f.out[1] = 3 << 3;
	put_be32(f.out + 20, 0);
	(void)run(cdb, 16, 112, 0); /* nobody could ask for it */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	f.out[15] = 0;
	f.out[1] = 0;
	f.out[0] = 0;
	(void)run(cdb, 16, 112, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
}

/* A list with a long identifier, of one segment, to be copied in the background. */
static enum scsi_status start_background(uint32_t list_id, uint8_t usage)
{
	uint8_t cdb[16] = {0x83, 0x01, [13] = 48 + 32 + 28};

	begin_list(own, 1);
	(void)add_segment(0, 0, 8, 0, 1000);
	memmove(f.out + 48, f.out + 16, 32 + 28);
	memset(f.out, 0, 48);
	f.out[0] = 1;
	f.out[1] = (uint8_t)(usage << 3);
	put_be16(f.out + 2, 0x20);
	f.out[15] = 1;
	f.out[16] = 0xff;
	put_be32(f.out + 20, list_id);
	put_be16(f.out + 42, 32);
	put_be16(f.out + 44, 28);
	return run(cdb, 16, 48 + 32 + 28, 0);
}

/* COPY OPERATION STATUS, or 0: the list is not known. */
static uint8_t copy_status(uint32_t list_id)
{
	uint8_t cdb[16] = {0x84, 0x05, [13] = 64};

	put_be32(cdb + 2, list_id);
	return run(cdb, 16, 0, 64) == SCSI_GOOD ? f.in[5] : 0;
}

static void copies_in_the_background(void **state)
{
	struct scsi_command kept[SCSI_COPIES_HELD];
	uint8_t *buffers[SCSI_COPIES_HELD];

	(void)state;
	memset(medium, 0x44, 8 * BLOCK);
	memset(mapped, 1, 8);
	early_statuses = 0;
	assert_int_equal(start_background(1, 0), SCSI_GOOD);
	assert_int_equal(early_statuses, 1);
	assert_int_equal(medium[1007 * BLOCK], 0x44);
	assert_int_equal(copy_status(1), 0x01);
	assert_int_equal(copy_status(1), 0); /* told once */
	assert_int_equal(f.target.copies, 0);
	stop_at_status = true;
	for (uint32_t i = 0; i < SCSI_COPIES_HELD; i++) {
		assert_int_equal(start_background(10 + i, i == 1 ? 2 : 0), SCSI_GOOD);
		kept[i] = f.command;
		kept[i].buffer = buffers[i] = malloc(kept[i].buffer_size);
		assert_non_null(buffers[i]);
		memcpy(buffers[i], f.buffer, kept[i].buffer_size);
	}
	(void)start_background(99, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INSUFFICIENT_RESOURCES);
	(void)start_background(10, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_OPERATION_IN_PROGRESS);
	stop_at_status = false;
	for (uint32_t i = 0; i < SCSI_COPIES_HELD; i++)
		assert_int_equal(copy_status(10 + i), 0x12);
	assert_int_equal(get_be32(f.in + 8), 1000); /* ask again then */
	assert_int_equal(f.target.copies, SCSI_COPIES_HELD);
	scsi_command_drop(&kept[0]);
	scsi_command_drop(&kept[0]); /* once is enough */
	assert_int_equal(copy_status(10), 0x60);
	scsi_command_drop(&kept[1]); /* its outcome is not to be kept */
	assert_int_equal(copy_status(11), 0);
	f.target.units[0] = NULL; /* is being removed */
	assert_int_equal(scsi_command_next(&kept[2]), SCSI_STEP_DONE);
	f.target.units[0] = &f.unit;
	assert_int_equal(copy_status(12), 0x02);
	assert_true(f.in[14] > 0);
	while (scsi_command_next(&kept[3]) != SCSI_STEP_DONE)
		kept[3].io_result = perform_io(&kept[3].request);
	assert_int_equal(copy_status(13), 0x01);
	assert_int_equal(get_be64(f.in + 16), 8 * BLOCK);
	assert_int_equal(f.target.copies, 0);
	for (unsigned i = 0; i < SCSI_COPIES_HELD; i++)
		free(buffers[i]);
}

static void copy_lists_are_checked(void **state)
{
	uint64_t many[SCSI_COPY_CSCDS_MAX + 1] = {0};

	(void)state;
	begin_list(own, 1);
	(void)add_segment(0, 0, 8, 0, 100);
	(void)copy(list_length() - 1);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
	(void)copy(10);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
	f.out[LIST_HEADER] = 0xe0;
	(void)copy(list_length());
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_CSCD_TYPE);
	f.out[LIST_HEADER] = SCSI_COPY_CSCD_IDENT;
	f.out[LIST_HEADER + 32] = 3;
	(void)copy(list_length());
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_SEGMENT_TYPE);
	f.out[LIST_HEADER + 32] = SCSI_COPY_BLOCKS;
	put_be16(f.out + LIST_HEADER + 34, 0xffff);
	(void)copy(list_length());
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	put_be16(f.out + LIST_HEADER + 34, 0x18);
	f.out[1] = 1 << 3; /* a use of list identifiers that is not defined */
	(void)copy(list_length());
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_LIST);
	f.out[1] = 0;
	put_be32(f.out + 12, 4);
	(void)copy(list_length() + 4);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INLINE_DATA_LENGTH);
	begin_list(many, SCSI_COPY_CSCDS_MAX + 1);
	(void)copy(list_length());
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_TOO_MANY_CSCDS);
	begin_list(own, 1);
	for (unsigned i = 0; i <= SCSI_COPY_SEGMENTS_MAX; i++)
		(void)add_segment(0, 0, 8, 0, 100);
	(void)copy(list_length());
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_TOO_MANY_SEGMENTS);
}

static void copy_respects_the_units(void **state)
{
	static struct scsi_unit second;
	struct scsi_nexus mine, theirs;
	const uint64_t serials[] = {own[0], 99};

	(void)state;
	scsi_unit_init(&second, &f.volume, 1, 99, "second");
	f.target.units[1] = &second;
	scsi_nexus_init(&mine, &second, f.nexus.port);
	scsi_nexus_init(&theirs, &second, f.other.port);
	memset(medium, 0x77, 8 * BLOCK);
	memset(mapped, 1, sizeof(mapped));
	begin_list(serials, 2);
	(void)add_segment(0, 1, 8, 0, 100);
	second.read_only = true;
	(void)copy(list_length());
	assert_sense(SCSI_COPY_ABORTED, SCSI_ASC_THIRD_PARTY_FAILURE);
	second.read_only = false;
	second.reserved_by = &theirs;
	(void)copy(list_length());
	assert_sense(SCSI_COPY_ABORTED, SCSI_ASC_THIRD_PARTY_FAILURE);
	second.reserved_by = &mine;
	assert_int_equal(copy(list_length()), SCSI_GOOD);
	assert_ptr_equal(f.command.io_unit, &second);
	assert_int_equal(medium[107 * BLOCK], 0x77);
	next_error = -EIO;
	(void)copy(list_length());
	assert_sense(SCSI_COPY_ABORTED, SCSI_ASC_THIRD_PARTY_FAILURE);
	f.target.units[1] = NULL;
	(void)copy(list_length());
	assert_sense(SCSI_COPY_ABORTED, SCSI_ASC_UNREACHABLE_COPY_TARGET);
	begin_list(own, 1);
	(void)add_segment(0, 0, 8, BLOCKS - 7, 100);
	(void)copy(list_length());
	assert_sense(SCSI_COPY_ABORTED, SCSI_ASC_NONE);
	begin_list(own, 1);
	(void)add_segment(0, 0, 8, 0, UINT64_MAX);
	(void)copy(list_length());
	assert_sense(SCSI_COPY_ABORTED, SCSI_ASC_NONE);
}

static void media_are_ejected(void **state)
{
	(void)state;
	(void)RUN(0, 0, 0x1b, 0, 0, 0, 2, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	f.unit.removable = true;
	assert_int_equal(RUN(0, 0, 0x1e, 0, 0, 0, 1, 0), SCSI_GOOD);
	(void)RUN(0, 0, 0x1b, 0, 0, 0, 2, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_MEDIUM_REMOVAL_PREVENTED);
	assert_int_equal(RUN(0, 0, 0x1e, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_int_equal(RUN(0, 0, 0x1b, 0, 0, 0, 2, 0), SCSI_GOOD);
	(void)RUN(0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_sense(SCSI_NOT_READY, SCSI_ASC_NO_MEDIUM);
	assert_int_equal(RUN(0, 96, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
	assert_int_equal(f.in[1], 0x80);
	f.other.attentions = 0;
	assert_int_equal(RUN(0, 0, 0x1b, 0, 0, 0, 3, 0), SCSI_GOOD);
	assert_int_equal(RUN(0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
	assert_int_equal(f.other.attentions, 1u << SCSI_ATTENTION_MEDIUM_CHANGED);
}

static void atomic_writes(void **state)
{
	static const uint8_t none[20];

	(void)state;
	(void)RUN(4096, 0, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
	assert_int_equal(RUN(0, 64, 0x12, 1, 0xb0, 0, 64, 0), SCSI_GOOD);
	assert_memory_equal(f.in + 44, none, sizeof(none)); /* nothing is promised */
	f.unit.atomic_bytes = 65536;
	assert_int_equal(RUN(0, 64, 0x12, 1, 0xb0, 0, 64, 0), SCSI_GOOD);
	assert_int_equal(get_be32(f.in + 44), 65536 / BLOCK);
	assert_int_equal(get_be32(f.in + 48), 8); /* alignment, granularity: 4 KiB */
	assert_int_equal(get_be32(f.in + 52), 8);
	assert_int_equal(RUN(4096, 0, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0),
			 SCSI_GOOD);
	assert_memory_equal(medium + 4096, f.out, 4096);
	(void)RUN(4096, 0, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0); /* alignment */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)RUN(512, 0, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0); /* granularity */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)RUN(4096, 0, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 8, 0, 8, 0, 0); /* boundary */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)RUN(136 * BLOCK, 0, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 136, 0, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)RUN(2048, 0, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0); /* half of it */
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

static void log_pages(void **state)
{
	(void)state;
	assert_int_equal(RUN(0, 64, 0x4d, 0, 0x40, 0, 0, 0, 0, 0, 64, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 6);
	assert_int_equal(f.in[5], 0x2f);
	assert_int_equal(RUN(0, 64, 0x4d, 0, 0x40, 0xff, 0, 0, 0, 0, 64, 0), SCSI_GOOD);
	assert_int_equal(f.in[0], 0x40);
	assert_int_equal(get_be16(f.in + 2), 6);
	assert_int_equal(RUN(0, 64, 0x4d, 0, 0x6f, 0, 0, 0, 0, 0, 64, 0), SCSI_GOOD);
	assert_int_equal(f.in_length, 12);
	(void)RUN(0, 64, 0x4d, 0, 0x51, 0, 0, 0, 0, 0, 64, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
	(void)RUN(0, 64, 0x4d, 1, 0x40, 0, 0, 0, 0, 0, 64, 0);
	assert_sense(SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(writes_and_reads_of_all_lengths, setup),
		cmocka_unit_test_setup(large_transfers_go_in_segments, setup),
		cmocka_unit_test_setup(ranges_are_checked, setup),
		cmocka_unit_test_setup(less_than_the_cdb_says, setup),
		cmocka_unit_test_setup(errors_become_sense, setup),
		cmocka_unit_test_setup(verify_compares, setup),
		cmocka_unit_test_setup(compare_and_write, setup),
		cmocka_unit_test_setup(orwrite, setup),
		cmocka_unit_test_setup(write_same, setup),
		cmocka_unit_test_setup(unmap_and_lba_status, setup),
		cmocka_unit_test_setup(inquiry, setup),
		cmocka_unit_test_setup(identifiers_of_two_nodes, setup),
		cmocka_unit_test_setup(capacity, setup),
		cmocka_unit_test_setup(mode_pages, setup),
		cmocka_unit_test_setup(read_only_units, setup),
		cmocka_unit_test_setup(attentions_and_missing_units, setup),
		cmocka_unit_test_setup(reservations, setup),
		cmocka_unit_test_setup(persistent_reservations_keep_others_out, setup),
		cmocka_unit_test_setup(persistent_registrations, setup),
		cmocka_unit_test_setup(preemption, setup),
		cmocka_unit_test_setup(registrations_have_a_limit, setup),
		cmocka_unit_test_setup(reports, setup),
		cmocka_unit_test_setup(flush_and_the_rest, setup),
		cmocka_unit_test_setup(reservations_are_saved, setup),
		cmocka_unit_test_setup(space_has_a_threshold, setup),
		cmocka_unit_test_setup(copy_moves_data, setup),
		cmocka_unit_test_setup(copies_skip_holes, setup),
		cmocka_unit_test_setup(copy_in_bytes_with_long_identifier, setup),
		cmocka_unit_test_setup(copies_in_the_background, setup),
		cmocka_unit_test_setup(copy_lists_are_checked, setup),
		cmocka_unit_test_setup(copy_respects_the_units, setup),
		cmocka_unit_test_setup(media_are_ejected, setup),
		cmocka_unit_test_setup(atomic_writes, setup),
		cmocka_unit_test_setup(log_pages, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
