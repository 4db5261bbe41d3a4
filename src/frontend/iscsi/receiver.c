/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiver.
 *
 * Invariants
 *  1. Outside of a data segment the buffer holds less than one header when take() returns without a
 *     pause; inside of one it is empty. So moving what is left to the front moves little.
 *  2. The iovec given by want() stays as it is until take().
 */
#include "frontend/iscsi/receiver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "codec/crc32c.h"

/* When so much of a segment is missing, bulk data is coming: keep the buffer for headers. */
#define BULK_BYTES  16384u
#define BULK_BUFFER 2048u

int iscsi_receiver_init(struct iscsi_receiver *receiver, const struct iscsi_receiver_ops *ops,
			uint32_t size)
{
	ASSERT(size >= ISCSI_BHS_BYTES + ISCSI_AHS_MAX + ISCSI_DIGEST_BYTES);
	*receiver = (struct iscsi_receiver){.ops = ops, .size = size};
	receiver->buffer = malloc(size);
	return receiver->buffer ? 0 : -ENOMEM;
}

void iscsi_receiver_done(struct iscsi_receiver *receiver)
{
	free(receiver->buffer);
	receiver->buffer = NULL;
}

int iscsi_receiver_resize(struct iscsi_receiver *receiver, uint32_t size)
{
	uint32_t held = receiver->end - receiver->start;
	uint8_t *buffer = malloc(size);

	if (!buffer)
		return -ENOMEM;
	ASSERT(held <= size);
	memcpy(buffer, receiver->buffer + receiver->start, held);
	free(receiver->buffer);
	receiver->buffer = buffer;
	receiver->size = size;
	receiver->start = 0;
	receiver->end = held;
	return 0;
}

int iscsi_receiver_want(struct iscsi_receiver *receiver)
{
	uint32_t held = receiver->end - receiver->start, room;
	int count = 0;

	if (held > 0)
		memmove(receiver->buffer, receiver->buffer + receiver->start, held);
	receiver->start = 0;
	receiver->end = held;
	room = receiver->size - held;
	if (receiver->in_data && receiver->data && receiver->data_done < receiver->data_length) {
		uint32_t missing = receiver->data_length - receiver->data_done;

		receiver->iov[count++] = (struct iovec){
			.iov_base = receiver->data + receiver->data_done, .iov_len = missing};
		if (missing >= BULK_BYTES)
			room = MIN(room, BULK_BUFFER);
	}
	receiver->iov[count++] =
		(struct iovec){.iov_base = receiver->buffer + held, .iov_len = room};
	return count;
}

static int begin_data(struct iscsi_receiver *receiver, uint32_t length)
{
	receiver->data_length = length;
	receiver->data_done = 0;
	receiver->trailer_done = 0;
	receiver->trailer_length = 0;
	if (length > 0)
		receiver->trailer_length =
			iscsi_pdu_pad(length) + (receiver->data_digest ? ISCSI_DIGEST_BYTES : 0);
	receiver->in_data = true;
	return 1;
}

/* 1: a header was taken; 0: it is not yet complete. */
static int take_header(struct iscsi_receiver *receiver)
{
	const uint8_t *at = receiver->buffer + receiver->start;
	const struct iscsi_bhs *bhs = (const struct iscsi_bhs *)at;
	uint32_t held = receiver->end - receiver->start, length;
	int r;

	if (held < ISCSI_BHS_BYTES)
		return 0;
	length = ISCSI_BHS_BYTES + iscsi_pdu_ahs_bytes(bhs);
	if (held < length + (receiver->header_digest ? ISCSI_DIGEST_BYTES : 0))
		return 0;
	receiver->start += length;
	if (receiver->header_digest) {
		if (crc32c(at, length) != get_le32(at + length))
			return -EBADMSG;
		receiver->start += ISCSI_DIGEST_BYTES;
	}
	receiver->data = NULL;
	r = receiver->ops->header(receiver, bhs, at + ISCSI_BHS_BYTES, &receiver->data);
	if (r < 0)
		return r;
	return begin_data(receiver, iscsi_pdu_data_length(bhs));
}

/* 7143 11.2.3: the data digest covers the padding. Data that is dropped is not checked. */
static bool digest_is_good(const struct iscsi_receiver *receiver)
{
	uint32_t pad = iscsi_pdu_pad(receiver->data_length), crc;

	if (!receiver->data_digest || receiver->data_length == 0 || !receiver->data)
		return true;
	crc = crc32c(receiver->data, receiver->data_length);
	crc = crc32c_more(crc, receiver->trailer, pad);
	return crc == get_le32(receiver->trailer + pad);
}

static void copy_data(struct iscsi_receiver *receiver)
{
	uint32_t held = receiver->end - receiver->start;
	uint32_t n = MIN(held, receiver->data_length - receiver->data_done);

	if (receiver->data && n > 0)
		memcpy(receiver->data + receiver->data_done, receiver->buffer + receiver->start, n);
	receiver->data_done += n;
	receiver->start += n;
	held -= n;
	n = MIN(held, receiver->trailer_length - receiver->trailer_done);
	memcpy(receiver->trailer + receiver->trailer_done, receiver->buffer + receiver->start, n);
	receiver->trailer_done += n;
	receiver->start += n;
}

/* 1: a data segment was completed; 0: more is needed. */
static int take_data(struct iscsi_receiver *receiver)
{
	int r;

	copy_data(receiver);
	if (receiver->data_done < receiver->data_length ||
	    receiver->trailer_done < receiver->trailer_length)
		return 0;
	receiver->in_data = false;
	if (!digest_is_good(receiver))
		return -EBADMSG;
	r = receiver->ops->pdu(receiver);
	return r < 0 ? r : 1;
}

int iscsi_receiver_resume(struct iscsi_receiver *receiver)
{
	int r = 1;

	while (r > 0 && !receiver->paused)
		r = receiver->in_data ? take_data(receiver) : take_header(receiver);
	return MIN(r, 0);
}

int iscsi_receiver_take(struct iscsi_receiver *receiver, size_t length)
{
	size_t direct = 0;

	if (receiver->in_data && receiver->data)
		direct = MIN(length, (size_t)(receiver->data_length - receiver->data_done));
	receiver->data_done += (uint32_t)direct;
	receiver->end += (uint32_t)(length - direct);
	return iscsi_receiver_resume(receiver);
}
