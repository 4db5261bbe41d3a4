/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An NVMe driver over a vfio-user client: what a guest's driver does, in a test's own process. It
 * owns "guest memory", a memory file mapped at NVME_DRIVER_ADDRESS, enables the controller, creates
 * queue pairs, submits commands and polls for completions. Each completion is checked:
 * phase, queue, head within the queue, and an identifier that is in flight.
 *
 * One thread. Structures are written from the NVMe specification, not shared with the controller.
 */
#include "vfu_client.h"

#define NVME_DRIVER_ADDRESS   UINT64_C(0x100000) /* of guest memory; what is below is not mapped */
#define NVME_DRIVER_PAGE      4096u
#define NVME_DRIVER_QUEUES    129u
#define NVME_DRIVER_DEPTH_MAX 1024u
#define NVME_DRIVER_WAIT_MS   20000

enum { /* registers: NVMe 1.4, 3.1 */
       NVME_REG_CAP = 0x00,
       NVME_REG_VS = 0x08,
       NVME_REG_INTMS = 0x0c,
       NVME_REG_INTMC = 0x10,
       NVME_REG_CC = 0x14,
       NVME_REG_CSTS = 0x1c,
       NVME_REG_AQA = 0x24,
       NVME_REG_ASQ = 0x28,
       NVME_REG_ACQ = 0x30,
       NVME_REG_DOORBELLS = 0x1000,
};

enum nvme_driver_doorbells {
	NVME_DRIVER_TRAPPED, /* each is a message */
	NVME_DRIVER_SHADOW,  /* Doorbell Buffer Config, as Linux uses it */
	NVME_DRIVER_MAPPED,  /* a page of BAR0 that the server lets be mapped */
};

struct nvme_driver_sqe {
	uint8_t opcode, flags;
	uint16_t cid;
	uint32_t nsid, cdw2, cdw3;
	uint64_t mptr, prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

struct nvme_driver_cqe {
	uint32_t result, reserved;
	uint16_t sq_head, sqid, cid, status; /* phase in bit 0 of status */
};

struct nvme_driver_queue { /* a submission queue and its completion queue of the same number */
	uint16_t id, depth;
	volatile struct nvme_driver_sqe *sq;
	volatile struct nvme_driver_cqe *cq;
	uint16_t sq_tail, sq_head, cq_head;
	uint16_t phase;
	uint16_t free_count;
	uint16_t free[NVME_DRIVER_DEPTH_MAX]; /* identifiers that are not in flight */
	bool busy[NVME_DRIVER_DEPTH_MAX];
};

struct nvme_driver {
	struct vfu_client client;
	enum nvme_driver_doorbells doorbells;
	int memory_fd;
	uint8_t *memory; /* guest memory */
	size_t memory_bytes, used;
	volatile uint32_t *mapped;           /* doorbells, or NULL */
	volatile uint32_t *shadow, *indexes; /* or NULL */
	int events[NVME_DRIVER_QUEUES];      /* eventfd of each vector; -1 = none */
	struct nvme_driver_queue queues[NVME_DRIVER_QUEUES];
	uint64_t traps; /* doorbells written by message */
};

/* Connects, gives guest memory and one eventfd for each of `vectors` (0 = 2). -errno. */
int nvme_driver_open(struct nvme_driver *driver, const char *path, size_t memory_bytes,
		     enum nvme_driver_doorbells doorbells, unsigned vectors);
void nvme_driver_close(struct nvme_driver *driver);
/* The same guest connects again after its server or it went away: memory and contents stay. */
int nvme_driver_reconnect(struct nvme_driver *driver, const char *path, unsigned vectors);

/* Guest memory, whole pages, zeroed, never freed; aborts when there is no more. */
void *nvme_driver_alloc(struct nvme_driver *driver, size_t bytes);
uint64_t nvme_driver_address(const struct nvme_driver *driver, const volatile void *pointer);

int nvme_driver_get32(struct nvme_driver *driver, uint32_t reg, uint32_t *ret_value);
int nvme_driver_set32(struct nvme_driver *driver, uint32_t reg, uint32_t value);
int nvme_driver_set64(struct nvme_driver *driver, uint32_t reg, uint64_t value);
/* Waits until CSTS & mask == value. -ETIMEDOUT; -EIO when the controller reports a fatal status
 * that is not in the mask. */
int nvme_driver_wait_status(struct nvme_driver *driver, uint32_t mask, uint32_t value);
/* CC.EN off and on again, admin queue, and the doorbell buffers where asked for. */
int nvme_driver_enable(struct nvme_driver *driver);
int nvme_driver_disable(struct nvme_driver *driver);
/* An I/O queue pair with interrupts on that vector. -errno, or the status of the command. */
int nvme_driver_create_queue(struct nvme_driver *driver, uint16_t id, uint16_t depth,
			     uint16_t vector);
int nvme_driver_delete_queue(struct nvme_driver *driver, uint16_t id);

/* PRPs for `length` bytes at `data` in guest memory; `list`: a page for more than two. */
void nvme_driver_set_data(const struct nvme_driver *driver, struct nvme_driver_sqe *sqe,
			  const void *data, size_t length, uint64_t *list);
/* Puts it into the queue with an identifier, which is returned; -EAGAIN when it is full. The
 * doorbell is rung by nvme_driver_ring(). */
int nvme_driver_queue_command(struct nvme_driver *driver, struct nvme_driver_queue *queue,
			      const struct nvme_driver_sqe *sqe);
int nvme_driver_ring(struct nvme_driver *driver, struct nvme_driver_queue *queue);
/* 1 and a completion, 0 when there is none, -errno; -EPROTO for an invalid one. */
int nvme_driver_poll(struct nvme_driver *driver, struct nvme_driver_queue *queue,
		     struct nvme_driver_cqe *ret_cqe);
/* One command alone in its queue: its status (0 = success, as in the specification without
 * phase), or -errno. ret_cqe may be NULL. */
int nvme_driver_command(struct nvme_driver *driver, uint16_t queue_id,
			const struct nvme_driver_sqe *sqe, struct nvme_driver_cqe *ret_cqe);
/* Status code and its type, without More and Do Not Retry. */
static inline int nvme_driver_status(const struct nvme_driver_cqe *cqe)
{
	return cqe->status >> 1 & 0x7ff;
}
/* Identify with that CNS into `data` (4,096 bytes of guest memory). Like nvme_driver_command(). */
int nvme_driver_identify(struct nvme_driver *driver, uint32_t cns, uint32_t nsid, void *data);
/* How often the vector has been signalled since it was last asked. */
uint64_t nvme_driver_interrupts(struct nvme_driver *driver, unsigned vector);
