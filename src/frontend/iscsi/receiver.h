/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Cuts the bytes of a connection into PDUs. Headers and small data pass through one buffer, so that
 * one receive brings many PDUs; the rest of a data segment is received straight to where its owner
 * wants it. It knows no socket: the connection receives into the iovec given, then reports the
 * length, and a test feeds it with bytes.
 */
#include <sys/uio.h>

#include "frontend/iscsi/pdu.h"

#define ISCSI_RECEIVER_IOVS  3
#define ISCSI_RECEIVER_BYTES (128 * 1024)
#define ISCSI_AHS_MAX        (255 * 4)

struct iscsi_receiver;

struct iscsi_receiver_ops {
	/* A whole header: `ahs` holds its additional segments. Sets where the data segment goes;
	 * NULL drops it. A negative errno ends the connection. */
	int (*header)(struct iscsi_receiver *receiver, const struct iscsi_bhs *bhs,
		      const uint8_t *ahs, uint8_t **ret_data);
	/* The data segment of that header is complete. A negative errno ends the connection. */
	int (*pdu)(struct iscsi_receiver *receiver);
};

struct iscsi_receiver {
	const struct iscsi_receiver_ops *ops;
	bool header_digest, data_digest;
	uint8_t *buffer;
	uint32_t size, start, end; /* bytes received and not yet taken: [start, end) */
	bool in_data, paused;
	uint8_t *data;
	uint32_t data_length, data_done;
	uint32_t trailer_length, trailer_done; /* padding and digest */
	uint8_t trailer[3 + ISCSI_DIGEST_BYTES];
	struct iovec iov[ISCSI_RECEIVER_IOVS];
};

/* `size` of at least ISCSI_BHS_BYTES + ISCSI_AHS_MAX + ISCSI_DIGEST_BYTES. -ENOMEM. */
int iscsi_receiver_init(struct iscsi_receiver *receiver, const struct iscsi_receiver_ops *ops,
			uint32_t size);
void iscsi_receiver_done(struct iscsi_receiver *receiver);
/* Another buffer for what follows; what was received stays. -ENOMEM. */
int iscsi_receiver_resize(struct iscsi_receiver *receiver, uint32_t size);
/* Has a part of a PDU come, and not all of it? */
static inline bool iscsi_receiver_is_amid(const struct iscsi_receiver *receiver)
{
	return receiver->in_data || receiver->start != receiver->end;
}
/* Where to receive next: fills receiver->iov and returns its count. */
int iscsi_receiver_want(struct iscsi_receiver *receiver);
/* `length` bytes, at least one, came into that iovec. -EBADMSG: a digest is wrong; or what an op
 * returned. Stops after an op has set `paused`. */
int iscsi_receiver_take(struct iscsi_receiver *receiver, size_t length);
/* Goes on after a pause. */
int iscsi_receiver_resume(struct iscsi_receiver *receiver);
