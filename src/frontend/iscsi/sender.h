/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Gathers PDUs of a connection into as few sends as possible. Whoever has something to send queues
 * an out; when the socket is free, outs are asked for their PDUs in order, so StatSN and the
 * command window are as fresh as can be and a large answer needs no headers of its own. It knows no
 * socket.
 */
#include <sys/uio.h>

#include "base/list.h"
#include "frontend/iscsi/pdu.h"

#define ISCSI_SENDER_PDUS  64
#define ISCSI_SENDER_IOVS  (3 * ISCSI_SENDER_PDUS)
#define ISCSI_SENDER_BYTES (1024 * 1024) /* of one send, about */

struct iscsi_pdu_out {
	uint8_t *header;  /* 48 zeroed bytes to fill; DataSegmentLength is put in by the sender */
	const void *data; /* stays valid until sent() */
	uint32_t length;
};

enum iscsi_out_fill {
	ISCSI_OUT_MORE, /* made a PDU, has more */
	ISCSI_OUT_LAST, /* made its last PDU */
	ISCSI_OUT_NONE, /* made none and has no more */
	ISCSI_OUT_GONE, /* made its last PDU, without data; sent() will not be called */
};

struct iscsi_out { /* embedded by its owner, who keeps it from the queue to sent() */
	struct list_node link;
	enum iscsi_out_fill (*fill)(struct iscsi_out *out, struct iscsi_pdu_out *pdu);
	/* All of it was sent, or never will be: the connection is gone. May free the out. */
	void (*sent)(struct iscsi_out *out);
};

struct iscsi_sender {
	bool header_digest, data_digest;
	struct list queue;   /* not yet made, or in part */
	struct list sending; /* all PDUs made, in the current send */
	int iov_count, iov_at;
	unsigned pdu_count;
	struct iovec iov[ISCSI_SENDER_IOVS];
	uint8_t headers[ISCSI_SENDER_PDUS][ISCSI_BHS_BYTES + ISCSI_DIGEST_BYTES];
	uint8_t trailers[ISCSI_SENDER_PDUS][3 + ISCSI_DIGEST_BYTES];
};

void iscsi_sender_init(struct iscsi_sender *sender);
void iscsi_sender_queue(struct iscsi_sender *sender, struct iscsi_out *out);
static inline bool iscsi_sender_is_idle(const struct iscsi_sender *sender)
{
	return list_is_empty(&sender->queue) && sender->iov_at == sender->iov_count;
}
/* Makes PDUs if none are under way. Returns iovecs left to send, from sender->iov[iov_at] on. */
int iscsi_sender_gather(struct iscsi_sender *sender);
/* `length` bytes were sent. */
void iscsi_sender_sent(struct iscsi_sender *sender, size_t length);
/* Calls sent() of everything; nothing is under way in the kernel. */
void iscsi_sender_drop(struct iscsi_sender *sender);
