/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A vfio-user client without a virtual machine, for tests and measurements: it connects, gives
 * memory of its own as the guest's, reads and writes regions, and takes interrupts. It checks
 * every answer: identifier, command, size, flags. One thread; calls block, for VFU_CLIENT_WAIT_MS
 * at most, which is what QEMU waits before it gives a device up.
 *
 * The structures are written from the protocol's description (QEMU, docs/interop/vfio-user.rst),
 * not shared with the server, so that a mistake on one side is seen.
 */
#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VFU_CLIENT_WAIT_MS       5000
#define VFU_CLIENT_FDS_MAX       16
#define VFU_CLIENT_REGION_CONFIG 7 /* VFIO_PCI_CONFIG_REGION_INDEX */

enum vfu_client_command {
	VFU_CLIENT_VERSION = 1,
	VFU_CLIENT_DMA_MAP = 2,
	VFU_CLIENT_DMA_UNMAP = 3,
	VFU_CLIENT_GET_INFO = 4,
	VFU_CLIENT_GET_REGION_INFO = 5,
	VFU_CLIENT_GET_REGION_IO_FDS = 6,
	VFU_CLIENT_GET_IRQ_INFO = 7,
	VFU_CLIENT_SET_IRQS = 8,
	VFU_CLIENT_REGION_READ = 9,
	VFU_CLIENT_REGION_WRITE = 10,
	VFU_CLIENT_DMA_READ = 11,
	VFU_CLIENT_DMA_WRITE = 12,
	VFU_CLIENT_RESET = 13,
	VFU_CLIENT_REGION_WRITE_MULTI = 15,
};

enum { /* flags of a header */
       VFU_CLIENT_REPLY = 1,
       VFU_CLIENT_NO_REPLY = 1 << 4,
       VFU_CLIENT_ERROR = 1 << 5,
};

struct vfu_client_header {
	uint16_t id;
	uint16_t command;
	uint32_t size; /* with the header */
	uint32_t flags;
	uint32_t error; /* errno */
};

struct vfu_client {
	int fd;
	uint16_t next_id;
	uint32_t max_fds, max_data;       /* what the server promised */
	char version[512];                /* JSON of its VERSION reply */
	uint64_t messages, longest_ns;    /* waits for an answer */
	struct vfu_client_header refused; /* of the last answer with an error */
};

/* A request: `body`, then `data`; `reply` takes what follows the header of the answer. */
struct vfu_client_call {
	uint16_t command;
	uint32_t flags; /* VFU_CLIENT_NO_REPLY or 0 */
	const void *body, *data;
	size_t body_bytes, data_bytes;
	const int *fds;
	unsigned fd_count;
	void *reply;
	size_t reply_bytes;       /* room; a longer answer is -EMSGSIZE */
	int *reply_fds;           /* NULL: an answer with descriptors is -EPROTO */
	unsigned *reply_fd_count; /* in: room; out: taken */
};

/* Connects and agrees on the version. -errno. */
int vfu_client_connect(struct vfu_client *client, const char *path);
/* The same without VERSION. */
int vfu_client_connect_only(struct vfu_client *client, const char *path);
int vfu_client_negotiate(struct vfu_client *client, uint16_t major, uint16_t minor,
			 const char *capabilities);
void vfu_client_close(struct vfu_client *client);
/* Bytes of the answer after its header, or -errno: of the server's answer, -EPROTO for a wrong
 * answer, -ETIMEDOUT, -EPIPE when it hung up. */
int vfu_client_call(struct vfu_client *client, const struct vfu_client_call *call);
/* Bytes as they are, e.g. a broken message. */
int vfu_client_send_raw(struct vfu_client *client, const void *bytes, size_t length, int fd);
/* Is the connection closed by the other side, within that time? Ignores what it says before. */
bool vfu_client_hung_up(struct vfu_client *client, int timeout_ms);

/* fd -1: a range without a file. */
int vfu_client_map(struct vfu_client *client, uint64_t address, uint64_t length, int fd,
		   uint64_t offset);
int vfu_client_unmap(struct vfu_client *client, uint64_t address, uint64_t length);
int vfu_client_get_info(struct vfu_client *client, struct vfio_device_info *ret_info);
int vfu_client_get_irq_info(struct vfu_client *client, uint32_t index,
			    struct vfio_irq_info *ret_info);
/* Room for capabilities: `bytes` of `ret_info` in all. A file descriptor that comes is *ret_fd,
 * else it is -1. */
int vfu_client_get_region_info(struct vfu_client *client, uint32_t index,
			       struct vfio_region_info *ret_info, size_t bytes, int *ret_fd);
int vfu_client_read(struct vfu_client *client, uint32_t region, uint64_t offset, void *data,
		    uint32_t length);
int vfu_client_write(struct vfu_client *client, uint32_t region, uint64_t offset, const void *data,
		     uint32_t length);
/* Without waiting for an answer, as QEMU does it. */
int vfu_client_post(struct vfu_client *client, uint32_t region, uint64_t offset, const void *data,
		    uint32_t length);
/* Gives `count` descriptors (at most VFU_CLIENT_FDS_MAX) for vectors from `start` on; count 0
 * takes all of the kind away. */
int vfu_client_set_irqs(struct vfu_client *client, uint32_t index, uint32_t start, uint32_t count,
			const int *fds);
int vfu_client_reset(struct vfu_client *client);
