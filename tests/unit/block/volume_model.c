/* SPDX-License-Identifier: Apache-2.0 */
#include "volume_model.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "block/chance.h"

struct model {
	struct block_volume *volume;
	struct chance chance;
	unsigned char *bytes;  /* what the volume must hold */
	unsigned char *buffer; /* twice the size: compare-and-write needs two halves */
	uint64_t offset, length;
};

/* Splits the buffer at random places, so that iovecs of all shapes occur. */
static int split(struct model *model, uint64_t length, struct iovec *ret_iov, int max)
{
	unsigned char *at = model->buffer;
	int count = 0;

	while (length > 0) {
		bool last = count + 1 == max;
		uint64_t part = last ? length : chance_below(&model->chance, length + 1);

		ret_iov[count++] = (struct iovec){at, part};
		at += part;
		length -= part;
	}
	return count;
}

static int perform(struct model *model, enum block_op op, struct block_wait *wait)
{
	uint64_t bytes = op == BLOCK_COMPARE_AND_WRITE ? 2 * model->length : model->length;
	struct iovec iov[5];

	wait->request.op = op;
	wait->request.flags = block_op_is_write(op) && chance_below(&model->chance, 4) == 0 ?
				      BLOCK_FUA :
				      0;
	if (op == BLOCK_WRITE_ZEROES && chance_below(&model->chance, 2))
		wait->request.flags |= BLOCK_NO_RELEASE;
	wait->request.offset = op == BLOCK_FLUSH ? 0 : model->offset;
	wait->request.length = op == BLOCK_FLUSH ? 0 : model->length;
	wait->request.iov = iov;
	wait->request.iov_count =
		block_op_has_data(op) ? split(model, bytes, iov, ARRAY_SIZE(iov)) : 0;
	return block_wait(model->volume, wait);
}

static void fill_random(struct model *model, unsigned char *at, uint64_t length)
{
	uint64_t word = chance_next(&model->chance);

	for (uint64_t i = 0; i < length; i++)
		at[i] = (unsigned char)(word >> i % 8 * 8) ^ (unsigned char)(i >> 3);
}

/* What is stored, sometimes with one byte changed. Returns the place of the change or
 * UINT64_MAX. */
static uint64_t fill_expected(struct model *model)
{
	uint64_t where = chance_below(&model->chance, model->length);

	memcpy(model->buffer, model->bytes + model->offset, model->length);
	if (chance_below(&model->chance, 2))
		return UINT64_MAX;
	model->buffer[where] ^= 0x40;
	return where;
}

static void do_compare(struct model *model, enum block_op op)
{
	uint64_t difference = fill_expected(model);
	unsigned char *update = model->buffer + model->length;
	struct block_wait wait;
	int result;

	if (op == BLOCK_COMPARE_AND_WRITE)
		fill_random(model, update, model->length);
	result = perform(model, op, &wait);
	if (difference != UINT64_MAX) {
		assert_int_equal(result, -EILSEQ);
		assert_int_equal(wait.request.miscompare_offset, difference);
		return;
	}
	assert_int_equal(result, 0);
	if (op == BLOCK_COMPARE_AND_WRITE)
		memcpy(model->bytes + model->offset, update, model->length);
}

static void do_status(struct model *model)
{
	struct block_wait wait;

	assert_int_equal(perform(model, BLOCK_STATUS, &wait), 0);
	assert_in_range(wait.request.status.length, 1, model->length);
	if (!wait.request.status.allocated)
		assert_true(wait.request.status.zero);
	if (!wait.request.status.zero)
		return;
	for (uint64_t i = 0; i < wait.request.status.length; i++)
		assert_int_equal(model->bytes[model->offset + i], 0);
}

static void do_operation(struct model *model, enum block_op op)
{
	struct block_wait wait;

	switch (op) {
	case BLOCK_READ:
		memset(model->buffer, 0xa5, model->length);
		assert_int_equal(perform(model, op, &wait), 0);
		assert_memory_equal(model->buffer, model->bytes + model->offset, model->length);
		break;
	case BLOCK_WRITE:
		fill_random(model, model->buffer, model->length);
		assert_int_equal(perform(model, op, &wait), 0);
		memcpy(model->bytes + model->offset, model->buffer, model->length);
		break;
	case BLOCK_COMPARE:
	case BLOCK_COMPARE_AND_WRITE:
		do_compare(model, op);
		break;
	case BLOCK_STATUS:
		do_status(model);
		break;
	default:
		assert_int_equal(perform(model, op, &wait), 0);
		if (op != BLOCK_FLUSH)
			memset(model->bytes + model->offset, 0, model->length);
		break;
	}
}

static void choose_range(struct model *model)
{
	uint64_t unit = model->volume->block_bytes;
	uint64_t units = model->volume->size_bytes / unit;
	uint64_t largest = MIN(units, model->volume->max_transfer_bytes / unit);
	uint64_t most = chance_below(&model->chance, 8) == 0 ? largest : MIN(largest, 24u);
	uint64_t start = chance_below(&model->chance, units);

	model->offset = start * unit;
	model->length = (1 + chance_below(&model->chance, MIN(most, units - start))) * unit;
}

void volume_model_run(struct block_volume *volume, uint64_t seed, unsigned operations)
{
	_cleanup_free_ unsigned char *bytes = calloc(1, volume->size_bytes);
	_cleanup_free_ unsigned char *buffer = malloc(2 * volume->size_bytes);
	struct model model = {.volume = volume, .bytes = bytes, .buffer = buffer};

	assert_true(bytes && buffer && volume->size_bytes <= VOLUME_MODEL_BYTES);
	chance_init(&model.chance, seed);
	for (unsigned i = 0; i < operations; i++) {
		choose_range(&model);
		do_operation(&model, (enum block_op)chance_below(&model.chance, BLOCK_OP_COUNT));
	}
	model.length = volume->block_bytes;
	for (model.offset = 0; model.offset < volume->size_bytes; model.offset += model.length)
		do_operation(&model, BLOCK_READ);
}
