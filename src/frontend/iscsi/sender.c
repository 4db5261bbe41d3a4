/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/sender.h"

#include <string.h>

#include "base/macros.h"
#include "codec/crc32c.h"

void iscsi_sender_init(struct iscsi_sender *sender)
{
	sender->header_digest = false;
	sender->data_digest = false;
	list_init(&sender->queue);
	list_init(&sender->sending);
	sender->iov_count = 0;
	sender->iov_at = 0;
	sender->pdu_count = 0;
}

void iscsi_sender_queue(struct iscsi_sender *sender, struct iscsi_out *out)
{
	list_push_back(&sender->queue, &out->link);
}

static void add_iov(struct iscsi_sender *sender, const void *data, size_t length)
{
	sender->iov[sender->iov_count++] =
		(struct iovec){.iov_base = (void *)data, .iov_len = length};
}

/* Padding, and the digest over data and padding (RFC 7143 11.2.3). */
static void add_trailer(struct iscsi_sender *sender, const struct iscsi_pdu_out *pdu)
{
	uint8_t *trailer = sender->trailers[sender->pdu_count];
	uint32_t pad = iscsi_pdu_pad(pdu->length);

	memset(trailer, 0, 3);
	if (sender->data_digest) {
		uint32_t crc = crc32c(pdu->data, pdu->length);

		put_le32(trailer + pad, crc32c_more(crc, trailer, pad));
		add_iov(sender, trailer, pad + ISCSI_DIGEST_BYTES);
	} else if (pad > 0) {
		add_iov(sender, trailer, pad);
	}
}

/* The header's own iovec was reserved before the data's. */
static size_t finish_pdu(struct iscsi_sender *sender, const struct iscsi_pdu_out *pdu)
{
	size_t header_length = ISCSI_BHS_BYTES;

	put_be24(((struct iscsi_bhs *)pdu->header)->data_length, pdu->length);
	if (sender->header_digest) {
		put_le32(pdu->header + ISCSI_BHS_BYTES, crc32c(pdu->header, ISCSI_BHS_BYTES));
		header_length += ISCSI_DIGEST_BYTES;
	}
	add_iov(sender, pdu->header, header_length);
	if (pdu->length > 0) {
		add_iov(sender, pdu->data, pdu->length);
		add_trailer(sender, pdu);
	}
	sender->pdu_count++;
	return header_length + pdu->length;
}

/* One PDU of the first out. Returns its bytes. */
static size_t make_pdu(struct iscsi_sender *sender)
{
	struct iscsi_out *out = LIST_ENTRY(list_front(&sender->queue), struct iscsi_out, link);
	struct iscsi_pdu_out pdu = {.header = sender->headers[sender->pdu_count]};
	enum iscsi_out_fill fill;

	memset(pdu.header, 0, ISCSI_BHS_BYTES);
	/* An out that is gone may be queued again by its owner from within fill(). */
	list_remove(&out->link);
	fill = out->fill(out, &pdu);
	if (fill == ISCSI_OUT_MORE)
		list_push_front(&sender->queue, &out->link);
	else if (fill != ISCSI_OUT_GONE)
		list_push_back(&sender->sending, &out->link);
	return fill == ISCSI_OUT_NONE ? 0 : finish_pdu(sender, &pdu);
}

/* Outs may queue others, even on this sender, from sent(). */
static void finish_outs(struct list *outs)
{
	struct list_node *node;

	while ((node = list_pop_front(outs))) {
		struct iscsi_out *out = LIST_ENTRY(node, struct iscsi_out, link);

		out->sent(out);
	}
}

int iscsi_sender_gather(struct iscsi_sender *sender)
{
	size_t bytes = 0;

	if (sender->iov_at < sender->iov_count)
		return sender->iov_count - sender->iov_at;
	sender->iov_at = 0;
	sender->iov_count = 0;
	sender->pdu_count = 0;
	while (!list_is_empty(&sender->queue) && sender->pdu_count < ISCSI_SENDER_PDUS &&
	       bytes < ISCSI_SENDER_BYTES)
		bytes += make_pdu(sender);
	if (sender->iov_count == 0)
		finish_outs(&sender->sending);
	return sender->iov_count;
}

void iscsi_sender_sent(struct iscsi_sender *sender, size_t length)
{
	while (length > 0) {
		struct iovec *iov = &sender->iov[sender->iov_at];
		size_t n = MIN(length, iov->iov_len);

		ASSERT(sender->iov_at < sender->iov_count);
		iov->iov_base = (uint8_t *)iov->iov_base + n;
		iov->iov_len -= n;
		length -= n;
		if (iov->iov_len == 0)
			sender->iov_at++;
	}
	if (sender->iov_at == sender->iov_count)
		finish_outs(&sender->sending);
}

void iscsi_sender_drop(struct iscsi_sender *sender)
{
	sender->iov_at = 0;
	sender->iov_count = 0;
	finish_outs(&sender->sending);
	finish_outs(&sender->queue);
}
