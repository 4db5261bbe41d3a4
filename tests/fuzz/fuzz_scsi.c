/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: commands to the SCSI device server over a small medium in memory. The input is a
 * list of commands: two bytes each of data-out and data-in that the initiator expects (big-endian),
 * the CDB of 16 bytes, the data-out. Every request to the volume must lie in it and have its
 * memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/macros.h"
#include "frontend/iscsi/scsi/command.h"
#include "fuzz.h"

#define BLOCK     512u
#define BLOCKS    64u
#define STEPS_MAX 100000

struct fuzz {
	struct block_volume volume;
	struct scsi_unit unit;
	struct scsi_nexus nexus;
	struct scsi_target target;
	struct scsi_command command;
	uint8_t medium[BLOCK * BLOCKS];
};

static size_t iov_bytes(const struct block_request *request)
{
	size_t bytes = 0;

	for (int i = 0; i < request->iov_count; i++)
		bytes += request->iov[i].iov_len;
	return bytes;
}

/* Touches all memory of the request, so that a sanitizer sees what does not belong to it. */
static int perform(struct fuzz *fuzz, struct block_request *request)
{
	size_t bytes = iov_bytes(request);
	uint8_t *at = fuzz->medium + request->offset;
	bool has_data = request->op == BLOCK_READ || request->op == BLOCK_WRITE ||
			request->op == BLOCK_COMPARE || request->op == BLOCK_COMPARE_AND_WRITE;

	ASSERT(request->offset % BLOCK == 0 && request->length % BLOCK == 0);
	ASSERT(request->length <= sizeof(fuzz->medium));
	ASSERT(request->offset <= sizeof(fuzz->medium) - request->length);
	ASSERT(!has_data ||
	       bytes == request->length * (request->op == BLOCK_COMPARE_AND_WRITE ? 2 : 1));
	for (int i = 0; i < request->iov_count && has_data; i++) {
		if (request->op == BLOCK_READ)
			memcpy(request->iov[i].iov_base, at, request->iov[i].iov_len);
		else if (request->op == BLOCK_WRITE)
			memcpy(at, request->iov[i].iov_base, request->iov[i].iov_len);
		else if (memchr(request->iov[i].iov_base, 0xfd, request->iov[i].iov_len))
			return -EILSEQ;
		at += request->iov[i].iov_len;
	}
	if (request->op == BLOCK_STATUS)
		request->status =
			(struct block_status){.length = MIN(request->length, (uint64_t)BLOCK),
					      .allocated = request->offset / BLOCK % 3};
	return 0;
}

/* What is saved can be read back, and is the same then. */
static void check_saved(const struct scsi_unit *unit)
{
	static struct scsi_persist back;
	static uint8_t first[SCSI_PERSIST_BYTES], second[SCSI_PERSIST_BYTES];
	size_t length = scsi_persist_encode(&unit->persist, first);

	ASSERT(scsi_persist_decode(&back, first, length) == 0);
	ASSERT(scsi_persist_encode(&back, second) == length);
	ASSERT(memcmp(first, second, length) == 0);
}

static void run(struct fuzz *fuzz, const uint8_t *out)
{
	struct scsi_command *command = &fuzz->command;
	uint8_t sense[SCSI_SENSE_BYTES];
	volatile uint8_t sum = 0; /* reads what would be sent */
	enum scsi_step step;
	unsigned steps = 0;

	scsi_command_start(command);
	ASSERT(command->buffer_minimum <= command->buffer_bytes);
	ASSERT(command->buffer_bytes <= SCSI_SEGMENT_BYTES);
	/* As little as the command accepts, so that there are many segments. */
	command->buffer_size = command->buffer_minimum;
	command->buffer = malloc(command->buffer_size + 1);
	ASSERT(command->buffer);
	while ((step = scsi_command_next(command)) != SCSI_STEP_DONE) {
		ASSERT(++steps < STEPS_MAX);
		if (step == SCSI_STEP_IO) {
			command->io_result = perform(fuzz, &command->request);
			continue;
		}
		if (step == SCSI_STEP_SAVE)
			check_saved(&fuzz->unit);
		if (step == SCSI_STEP_ABORT || step == SCSI_STEP_SAVE)
			continue;
		ASSERT(command->step_bytes <= command->buffer_size);
		if (step == SCSI_STEP_DATA_OUT) {
			ASSERT(command->step_data == command->buffer);
			ASSERT(command->out_offset + command->step_bytes <= command->expected_out);
			memcpy(command->step_data, out + command->out_offset, command->step_bytes);
		}
		for (uint32_t i = 0; step == SCSI_STEP_DATA_IN && i < command->step_bytes; i++)
			sum = sum ^ command->step_data[i];
	}
	(void)scsi_command_sense(command, sense);
	free(command->buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz fuzz;
	struct scsi_sense sense;

	fuzz.volume = (struct block_volume){.size_bytes = sizeof(fuzz.medium),
					    .block_bytes = BLOCK,
					    .physical_block_bytes = 4096,
					    .max_transfer_bytes = 8 * BLOCK};
	scsi_unit_init(&fuzz.unit, &fuzz.volume, 0, 1, "fuzz");
	fuzz.unit.thin = true;
	fuzz.unit.can_save = true;
	fuzz.target.units[0] = &fuzz.unit;
	scsi_nexus_init(&fuzz.nexus, &fuzz.unit, "iqn.fuzz,i,0x000000000000");
	(void)scsi_nexus_take_attention(&fuzz.nexus, &sense);
	while (size >= 20) {
		struct scsi_command *command = &fuzz.command;
		size_t out = MIN((size_t)get_be16(data), size - 20);

		memset(command, 0, sizeof(*command));
		command->target = &fuzz.target;
		command->unit = data[2] & 0x80 ? NULL : &fuzz.unit;
		command->nexus = command->unit ? &fuzz.nexus : NULL;
		command->expected_out = (uint32_t)out;
		command->expected_in = get_be16(data + 2) & 0x7fff;
		memcpy(command->cdb, data + 4, 16);
		run(&fuzz, data + 20);
		data += 20 + out;
		size -= 20 + out;
	}
	scsi_nexus_done(&fuzz.nexus);
	return 0;
}
