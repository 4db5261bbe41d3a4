/* SPDX-License-Identifier: Apache-2.0 */
#include "vfu/receive.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/macros.h"

#define IOV_MAX_COUNT 4

/* The union aligns it. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(VFU_MESSAGE_FDS_MAX * sizeof(int))];
};

static int receive_fds(struct vfu_receiver *receiver, struct msghdr *message)
{
	int r = message->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fds[VFU_MESSAGE_FDS_MAX];

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds, CMSG_DATA(c), MIN(count, ARRAY_SIZE(fds)) * sizeof(int));
		for (size_t i = 0; i < count; i++) {
			if (receiver->fd_count < VFU_MESSAGE_FDS_MAX) {
				receiver->fds[receiver->fd_count++] = fds[i];
			} else {
				close(fds[i]);
				r = -EPROTO;
			}
		}
	}
	return r;
}

int vfu_receive(struct vfu_receiver *receiver, int fd, void *buffer, size_t wanted)
{
	while (receiver->used < wanted) {
		union control control;
		struct iovec iov = {(char *)buffer + receiver->used, wanted - receiver->used};
		struct msghdr message = {.msg_iov = &iov,
					 .msg_iovlen = 1,
					 .msg_control = &control,
					 .msg_controllen = sizeof(control)};
		ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int r;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EAGAIN ? 0 : errno == ECONNRESET ? -EPIPE : -errno;
		r = receive_fds(receiver, &message);
		if (r < 0)
			return r;
		if (got == 0)
			return -EPIPE;
		receiver->used += (size_t)got;
	}
	return 1;
}

int vfu_receiver_take_fd(struct vfu_receiver *receiver, unsigned index)
{
	int fd;

	ASSERT(index < receiver->fd_count);
	fd = receiver->fds[index];
	receiver->fds[index] = -1;
	return fd;
}

void vfu_receiver_reset(struct vfu_receiver *receiver)
{
	for (unsigned i = 0; i < receiver->fd_count; i++)
		if (receiver->fds[i] >= 0)
			close(receiver->fds[i]);
	receiver->fd_count = 0;
	receiver->used = 0;
}

static int send_all(int fd, const struct iovec *iov, int iov_count, const int *fds,
		    unsigned fd_count, int flags)
{
	union control control = {.bytes = {0}};
	struct iovec rest[IOV_MAX_COUNT];
	struct msghdr message = {.msg_iov = rest, .msg_iovlen = (size_t)iov_count};

	ASSERT(iov_count <= IOV_MAX_COUNT && fd_count <= VFU_MESSAGE_FDS_MAX);
	memcpy(rest, iov, (size_t)iov_count * sizeof(*iov));
	if (fd_count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
	}
	while (message.msg_iovlen > 0) {
		ssize_t sent = sendmsg(fd, &message, flags | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == ECONNRESET ? -EPIPE : -errno;
		message.msg_controllen = 0;
		while (message.msg_iovlen > 0 && (size_t)sent >= message.msg_iov->iov_len) {
			sent -= (ssize_t)message.msg_iov->iov_len;
			message.msg_iov++;
			message.msg_iovlen--;
		}
		if (message.msg_iovlen > 0) {
			message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
			message.msg_iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

int vfu_send(int fd, const struct iovec *iov, int iov_count, const int *fds, unsigned fd_count)
{
	return send_all(fd, iov, iov_count, fds, fd_count, MSG_DONTWAIT);
}

int vfu_send_waiting(int fd, const struct iovec *iov, int iov_count, const int *fds,
		     unsigned fd_count)
{
	return send_all(fd, iov, iov_count, fds, fd_count, 0);
}
