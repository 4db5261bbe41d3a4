/* SPDX-License-Identifier: Apache-2.0 */
#include "vfu_client.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"
#include "vfu/receive.h"

#define CAPABILITIES                                                                             \
	"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"max_dma_maps\":" \
	"65535,\"pgsizes\":4096,\"write_multiple\":true,\"migration\":{\"pgsize\":4096,"         \
	"\"max_bitmap_size\":268435456}}}"
#define MESSAGE_MAX (2u << 20)
#define VERSION_MAX 214u /* more is refused by QEMU */

static_assert(sizeof(struct vfu_client_header) == 16, "as the protocol has it");

struct dma_map {
	uint32_t argsz, flags;
	uint64_t offset, address, size;
};

struct dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, size;
};

struct region_access {
	uint64_t offset;
	uint32_t region, count;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

int vfu_client_connect_only(struct vfu_client *client, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	*client = (struct vfu_client){.fd = -1};
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return -errno;
	if (connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = -errno;

		vfu_client_close(client);
		return r;
	}
	return 0;
}

void vfu_client_close(struct vfu_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

static int send_all(struct vfu_client *client, const struct iovec *iov, int iov_count,
		    const struct vfu_client_call *call)
{
	return vfu_send_waiting(client->fd, iov, iov_count, call->fds, call->fd_count);
}

static int take_fds(struct msghdr *message, const struct vfu_client_call *call, unsigned *taken)
{
	int r = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fds[VFU_CLIENT_FDS_MAX];

		if (c->cmsg_type != SCM_RIGHTS || count > VFU_CLIENT_FDS_MAX)
			return -EPROTO;
		memcpy(fds, CMSG_DATA(c), count * sizeof(int));
		for (size_t i = 0; i < count; i++) {
			if (call->reply_fds && *taken < *call->reply_fd_count) {
				call->reply_fds[(*taken)++] = fds[i];
			} else {
				close(fds[i]);
				r = -EPROTO;
			}
		}
	}
	return r;
}

/* Exactly that many bytes. */
static int receive(struct vfu_client *client, void *buffer, size_t length,
		   const struct vfu_client_call *call, unsigned *taken)
{
	uint64_t deadline = now_ns() + VFU_CLIENT_WAIT_MS * NSEC_PER_MSEC;

	while (length > 0) {
		char control[CMSG_SPACE(VFU_CLIENT_FDS_MAX * sizeof(int))];
		struct iovec iov = {buffer, length};
		struct msghdr message = {.msg_iov = &iov,
					 .msg_iovlen = 1,
					 .msg_control = control,
					 .msg_controllen = sizeof(control)};
		struct pollfd readable = {.fd = client->fd, .events = POLLIN};
		uint64_t now = now_ns();
		int wait_ms = now < deadline ? (int)((deadline - now) / NSEC_PER_MSEC) + 1 : 0;
		ssize_t got;
		int r;

		if (poll(&readable, 1, wait_ms) == 0)
			return -ETIMEDOUT;
		got = recvmsg(client->fd, &message, MSG_CMSG_CLOEXEC);
		if (got <= 0)
			return got == 0 || errno == ECONNRESET ? -EPIPE : -errno;
		r = take_fds(&message, call, taken);
		if (r < 0)
			return r;
		buffer = (char *)buffer + got;
		length -= (size_t)got;
	}
	return 0;
}

static int receive_reply(struct vfu_client *client, const struct vfu_client_call *call, uint16_t id)
{
	struct vfu_client_header header;
	unsigned taken = 0;
	int r = receive(client, &header, sizeof(header), call, &taken);

	if (r < 0)
		return r;
	if (header.id != id || header.command != call->command || header.size < sizeof(header) ||
	    header.size > MESSAGE_MAX || (header.flags & 0xf) != VFU_CLIENT_REPLY ||
	    (header.flags & ~(uint32_t)(0xf | VFU_CLIENT_ERROR)))
		return -EPROTO;
	header.size -= (uint32_t)sizeof(header);
	if (header.flags & VFU_CLIENT_ERROR) {
		client->refused = header;
		return header.size != 0 || header.error == 0 || header.error > 4095
			       ? -EPROTO
			       : -(int)header.error;
	}
	if (header.size > call->reply_bytes)
		return -EMSGSIZE;
	r = receive(client, call->reply, header.size, call, &taken);
	if (call->reply_fd_count)
		*call->reply_fd_count = taken;
	return r < 0 ? r : (int)header.size;
}

int vfu_client_call(struct vfu_client *client, const struct vfu_client_call *call)
{
	struct vfu_client_header header = {
		.id = client->next_id++,
		.command = call->command,
		.size = (uint32_t)(sizeof(header) + call->body_bytes + call->data_bytes),
		.flags = call->flags};
	struct iovec iov[3] = {{&header, sizeof(header)},
			       {(void *)call->body, call->body_bytes},
			       {(void *)call->data, call->data_bytes}};
	uint64_t begin = now_ns(), spent;
	int r = send_all(client, iov, 3, call);

	client->messages++;
	if (r < 0 || call->flags & VFU_CLIENT_NO_REPLY)
		return r;
	r = receive_reply(client, call, header.id);
	spent = now_ns() - begin;
	client->longest_ns = MAX(client->longest_ns, spent);
	return r;
}

int vfu_client_send_raw(struct vfu_client *client, const void *bytes, size_t length, int fd)
{
	struct vfu_client_call call = {.fds = &fd, .fd_count = fd >= 0};
	struct iovec iov = {(void *)bytes, length};

	return send_all(client, &iov, 1, &call);
}

bool vfu_client_hung_up(struct vfu_client *client, int timeout_ms)
{
	uint64_t deadline = now_ns() + (uint64_t)timeout_ms * NSEC_PER_MSEC;
	char bytes[4096];

	while (now_ns() < deadline) {
		struct pollfd readable = {.fd = client->fd, .events = POLLIN};

		if (poll(&readable, 1, 10) > 0 && recv(client->fd, bytes, sizeof(bytes), 0) <= 0)
			return true;
	}
	return false;
}

/* A number of the JSON text, or the value the protocol has when it is absent. */
static uint32_t capability(const char *json, const char *name, uint32_t absent)
{
	const char *at = strstr(json, name);
	unsigned value;

	return at && sscanf(at + strlen(name), "\" : %u", &value) == 1 ? value : absent;
}

int vfu_client_negotiate(struct vfu_client *client, uint16_t major, uint16_t minor,
			 const char *capabilities)
{
	uint16_t version[2] = {major, minor};
	char reply[4 + sizeof(client->version)];
	struct vfu_client_call call = {.command = VFU_CLIENT_VERSION,
				       .body = version,
				       .body_bytes = sizeof(version),
				       .data = capabilities,
				       .data_bytes = capabilities ? strlen(capabilities) + 1 : 0,
				       .reply = reply,
				       .reply_bytes = VERSION_MAX};
	int r = vfu_client_call(client, &call);

	if (r < 0)
		return r;
	memcpy(version, reply, MIN((size_t)r, sizeof(version)));
	if (r < 4 || version[0] != major || version[1] > minor || (r > 4 && reply[r - 1] != '\0'))
		return -EPROTO;
	memcpy(client->version, reply + 4, (size_t)r - 4);
	client->max_fds = capability(client->version, "max_msg_fds", 1);
	client->max_data = capability(client->version, "max_data_xfer_size", 1 << 20);
	return 0;
}

int vfu_client_connect(struct vfu_client *client, const char *path)
{
	int r = vfu_client_connect_only(client, path);

	if (r == 0)
		r = vfu_client_negotiate(client, 0, 0, CAPABILITIES);
	if (r < 0)
		vfu_client_close(client);
	return r;
}

int vfu_client_map(struct vfu_client *client, uint64_t address, uint64_t length, int fd,
		   uint64_t offset)
{
	struct dma_map map = {.argsz = sizeof(map),
			      .flags = 3, /* read and write */
			      .offset = offset,
			      .address = address,
			      .size = length};
	struct vfu_client_call call = {.command = VFU_CLIENT_DMA_MAP,
				       .body = &map,
				       .body_bytes = sizeof(map),
				       .fds = &fd,
				       .fd_count = fd >= 0};
	int r = vfu_client_call(client, &call);

	return r > 0 ? -EPROTO : r;
}

int vfu_client_unmap(struct vfu_client *client, uint64_t address, uint64_t length)
{
	struct dma_unmap unmap = {.argsz = sizeof(unmap), .address = address, .size = length};
	struct dma_unmap reply;
	struct vfu_client_call call = {.command = VFU_CLIENT_DMA_UNMAP,
				       .body = &unmap,
				       .body_bytes = sizeof(unmap),
				       .reply = &reply,
				       .reply_bytes = sizeof(reply)};
	int r = vfu_client_call(client, &call);

	if (r < 0)
		return r;
	return r == sizeof(reply) && reply.address == address && reply.size == length ? 0 : -EPROTO;
}

/* A request whose answer is of the same structure, with the same argsz or more. */
static int ask(struct vfu_client *client, uint16_t command, void *structure, size_t bytes)
{
	struct vfu_client_call call = {.command = command,
				       .body = structure,
				       .body_bytes = bytes,
				       .reply = structure,
				       .reply_bytes = bytes};
	int r = vfu_client_call(client, &call);

	return r < 0 ? r : (size_t)r == bytes ? 0 : -EPROTO;
}

int vfu_client_get_info(struct vfu_client *client, struct vfio_device_info *ret_info)
{
	/* The protocol's structure ends before the kernel's capability offset. */
	uint32_t info[4] = {sizeof(info)};
	int r = ask(client, VFU_CLIENT_GET_INFO, info, sizeof(info));

	if (r == 0)
		*ret_info = (struct vfio_device_info){.argsz = info[0],
						      .flags = info[1],
						      .num_regions = info[2],
						      .num_irqs = info[3]};
	return r;
}

int vfu_client_get_irq_info(struct vfu_client *client, uint32_t index,
			    struct vfio_irq_info *ret_info)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = index};
	int r = ask(client, VFU_CLIENT_GET_IRQ_INFO, &info, sizeof(info));

	if (r == 0)
		*ret_info = info;
	return r == 0 && info.index != index ? -EPROTO : r;
}

int vfu_client_get_region_info(struct vfu_client *client, uint32_t index,
			       struct vfio_region_info *ret_info, size_t bytes, int *ret_fd)
{
	struct vfio_region_info info = {.argsz = (uint32_t)bytes, .index = index};
	unsigned fd_count = 1;
	int fd = -1;
	struct vfu_client_call call = {.command = VFU_CLIENT_GET_REGION_INFO,
				       .body = &info,
				       .body_bytes = sizeof(info),
				       .reply = ret_info,
				       .reply_bytes = bytes,
				       .reply_fds = &fd,
				       .reply_fd_count = &fd_count};
	int r = vfu_client_call(client, &call);

	if (r >= 0)
		*ret_fd = fd;
	else if (fd >= 0)
		close(fd);
	if (r < 0)
		return r;
	return (size_t)r >= sizeof(info) && ret_info->index == index ? r : -EPROTO;
}

int vfu_client_read(struct vfu_client *client, uint32_t region, uint64_t offset, void *data,
		    uint32_t length)
{
	struct region_access access = {offset, region, length};
	char reply[sizeof(access) + 4096];
	struct vfu_client_call call = {.command = VFU_CLIENT_REGION_READ,
				       .body = &access,
				       .body_bytes = sizeof(access),
				       .reply = reply,
				       .reply_bytes = sizeof(reply)};
	int r = vfu_client_call(client, &call);

	if (r < 0)
		return r;
	if ((size_t)r != sizeof(access) + length || memcmp(reply, &access, sizeof(access)) != 0)
		return -EPROTO;
	memcpy(data, reply + sizeof(access), length);
	return 0;
}

static int write_region(struct vfu_client *client, struct region_access access, const void *data,
			uint32_t flags)
{
	struct region_access reply;
	struct vfu_client_call call = {.command = VFU_CLIENT_REGION_WRITE,
				       .flags = flags,
				       .body = &access,
				       .body_bytes = sizeof(access),
				       .data = data,
				       .data_bytes = access.count,
				       .reply = &reply,
				       .reply_bytes = sizeof(reply)};
	int r = vfu_client_call(client, &call);

	if (r < 0 || flags & VFU_CLIENT_NO_REPLY)
		return r;
	return r == sizeof(reply) && memcmp(&reply, &access, sizeof(reply)) == 0 ? 0 : -EPROTO;
}

int vfu_client_write(struct vfu_client *client, uint32_t region, uint64_t offset, const void *data,
		     uint32_t length)
{
	return write_region(client, (struct region_access){offset, region, length}, data, 0);
}

int vfu_client_post(struct vfu_client *client, uint32_t region, uint64_t offset, const void *data,
		    uint32_t length)
{
	return write_region(client, (struct region_access){offset, region, length}, data,
			    VFU_CLIENT_NO_REPLY);
}

int vfu_client_set_irqs(struct vfu_client *client, uint32_t index, uint32_t start, uint32_t count,
			const int *fds)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
			 (count ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
		.index = index,
		.start = start,
		.count = count};
	struct vfu_client_call call = {.command = VFU_CLIENT_SET_IRQS,
				       .body = &set,
				       .body_bytes = sizeof(set),
				       .fds = fds,
				       .fd_count = count};
	int r = vfu_client_call(client, &call);

	return r > 0 ? -EPROTO : r;
}

int vfu_client_reset(struct vfu_client *client)
{
	struct vfu_client_call call = {.command = VFU_CLIENT_RESET};
	int r = vfu_client_call(client, &call);

	return r > 0 ? -EPROTO : r;
}
