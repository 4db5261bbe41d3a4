/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Messages with descriptors over a local stream socket that does not block. A receiver never reads
 * beyond the bytes it was asked for, so that descriptors belong to the message that they
 * came with.
 */
#include <stddef.h>
#include <sys/uio.h>

#include "vfu/message.h"

struct vfu_receiver {
	size_t used; /* bytes of the message that are in the buffer */
	int fds[VFU_MESSAGE_FDS_MAX];
	unsigned fd_count;
};

/* Until `wanted` bytes are in `buffer`: 1 when they are, 0 when more must come, -EPIPE when the
 * other side is gone, -EPROTO for more descriptors than a message may have, or -errno. */
int vfu_receive(struct vfu_receiver *receiver, int fd, void *buffer, size_t wanted);
/* The descriptor is the caller's now. */
int vfu_receiver_take_fd(struct vfu_receiver *receiver, unsigned index);
/* For the next message; closes the descriptors that nobody took. */
void vfu_receiver_reset(struct vfu_receiver *receiver);
/* All of it, or -EAGAIN (the other side does not read; part of it may have been sent), -EPIPE, or
 * -errno. */
int vfu_send(int fd, const struct iovec *iov, int iov_count, const int *fds, unsigned fd_count);
/* The same on a socket that blocks; -EAGAIN after its time-out. */
int vfu_send_waiting(int fd, const struct iovec *iov, int iov_count, const int *fds,
		     unsigned fd_count);
