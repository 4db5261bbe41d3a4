/* SPDX-License-Identifier: Apache-2.0 */
#include "nvme_driver.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"

static_assert(sizeof(struct nvme_driver_sqe) == 64, "NVMe 1.4, 4.2");
static_assert(sizeof(struct nvme_driver_cqe) == 16, "NVMe 1.4, 4.6");

enum { /* admin commands */
       DELETE_SQ = 0x00,
       CREATE_SQ = 0x01,
       DELETE_CQ = 0x04,
       CREATE_CQ = 0x05,
       IDENTIFY = 0x06,
       DOORBELL_BUFFER_CONFIG = 0x7c,
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 50 * NSEC_PER_USEC}, NULL);
}

static int give_vectors(struct nvme_driver *driver, unsigned vectors)
{
	for (unsigned first = 0; first < vectors; first += VFU_CLIENT_FDS_MAX) {
		unsigned count = MIN(vectors - first, (unsigned)VFU_CLIENT_FDS_MAX);
		int r;

		for (unsigned i = first; i < first + count; i++) {
			if (driver->events[i] < 0)
				driver->events[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
			if (driver->events[i] < 0)
				return -errno;
		}
		r = vfu_client_set_irqs(&driver->client, VFIO_PCI_MSIX_IRQ_INDEX, first, count,
					driver->events + first);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Bus master and MSI-X on, INTx off: in PCI configuration space, as a guest does it. */
static int enable_pci(struct nvme_driver *driver)
{
	uint16_t command = 0x406, control;
	uint8_t config[256], at;
	int r = vfu_client_read(&driver->client, VFU_CLIENT_REGION_CONFIG, 0, config,
				sizeof(config));

	if (r < 0)
		return r;
	for (at = config[0x34]; at >= 0x40 && config[at] != 0x11;)
		at = config[at + 1];
	if (at < 0x40)
		return -EPROTO;
	memcpy(&control, config + at + 2, 2);
	control |= 0x8000;
	r = vfu_client_write(&driver->client, VFU_CLIENT_REGION_CONFIG, 4, &command,
			     sizeof(command));
	return r < 0 ? r
		     : vfu_client_write(&driver->client, VFU_CLIENT_REGION_CONFIG, at + 2u,
					&control, sizeof(control));
}

/* The page of BAR0 that the server lets us map. */
static int map_doorbells(struct nvme_driver *driver)
{
	union {
		struct vfio_region_info info;
		char bytes[256];
	} region = {0};
	struct vfio_region_info_cap_sparse_mmap *sparse;
	int fd, r;

	r = vfu_client_get_region_info(&driver->client, 0, &region.info, sizeof(region), &fd);
	if (r < 0)
		return r;
	if (fd < 0)
		return -EOPNOTSUPP;
	r = -EPROTO;
	sparse = (void *)(region.bytes + region.info.cap_offset);
	if (region.info.flags & VFIO_REGION_INFO_FLAG_MMAP && region.info.cap_offset >= 32 &&
	    region.info.cap_offset <= sizeof(region) - sizeof(*sparse) - 16 &&
	    sparse->header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP && sparse->nr_areas == 1 &&
	    sparse->areas[0].offset == NVME_REG_DOORBELLS &&
	    sparse->areas[0].size == NVME_DRIVER_PAGE) {
		void *page = mmap(NULL, NVME_DRIVER_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
				  (off_t)(region.info.offset + NVME_REG_DOORBELLS));

		r = page == MAP_FAILED ? -errno : 0;
		driver->mapped = page == MAP_FAILED ? NULL : page;
	}
	close(fd);
	return r;
}

int nvme_driver_reconnect(struct nvme_driver *driver, const char *path, unsigned vectors)
{
	int r;

	vfu_client_close(&driver->client);
	if (driver->mapped)
		munmap((void *)driver->mapped, NVME_DRIVER_PAGE);
	driver->mapped = NULL;
	r = vfu_client_connect(&driver->client, path);
	if (r == 0)
		r = vfu_client_map(&driver->client, NVME_DRIVER_ADDRESS, driver->memory_bytes,
				   driver->memory_fd, 0);
	if (r == 0)
		r = give_vectors(driver, vectors ? vectors : 2);
	if (r == 0)
		r = enable_pci(driver);
	if (r == 0 && driver->doorbells == NVME_DRIVER_MAPPED)
		r = map_doorbells(driver);
	return r;
}

int nvme_driver_open(struct nvme_driver *driver, const char *path, size_t memory_bytes,
		     enum nvme_driver_doorbells doorbells, unsigned vectors)
{
	int r;

	*driver = (struct nvme_driver){
		.client.fd = -1, .doorbells = doorbells, .memory_bytes = memory_bytes};
	for (unsigned i = 0; i < NVME_DRIVER_QUEUES; i++)
		driver->events[i] = -1;
	driver->memory_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (driver->memory_fd < 0 || ftruncate(driver->memory_fd, (off_t)memory_bytes) < 0 ||
	    fcntl(driver->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
		r = -errno;
		nvme_driver_close(driver);
		return r;
	}
	driver->memory =
		mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, driver->memory_fd, 0);
	r = driver->memory == MAP_FAILED ? -errno : 0;
	if (r < 0)
		driver->memory = NULL;
	else
		r = nvme_driver_reconnect(driver, path, vectors);
	if (r < 0)
		nvme_driver_close(driver);
	return r;
}

void nvme_driver_close(struct nvme_driver *driver)
{
	vfu_client_close(&driver->client);
	if (driver->mapped)
		munmap((void *)driver->mapped, NVME_DRIVER_PAGE);
	if (driver->memory)
		munmap(driver->memory, driver->memory_bytes);
	if (driver->memory_fd >= 0)
		close(driver->memory_fd);
	for (unsigned i = 0; i < NVME_DRIVER_QUEUES; i++) {
		if (driver->events[i] >= 0)
			close(driver->events[i]);
		driver->events[i] = -1;
	}
	driver->mapped = NULL;
	driver->memory = NULL;
	driver->memory_fd = -1;
}

void *nvme_driver_alloc(struct nvme_driver *driver, size_t bytes)
{
	void *pointer = driver->memory + driver->used;

	bytes = (bytes + NVME_DRIVER_PAGE - 1) & ~(size_t)(NVME_DRIVER_PAGE - 1);
	if (bytes > driver->memory_bytes - driver->used) {
		fprintf(stderr, "nvme_driver: guest memory is used up\n");
		abort();
	}
	driver->used += bytes;
	memset(pointer, 0, bytes);
	return pointer;
}

uint64_t nvme_driver_address(const struct nvme_driver *driver, const volatile void *pointer)
{
	return NVME_DRIVER_ADDRESS + (uint64_t)((const volatile uint8_t *)pointer - driver->memory);
}

int nvme_driver_get32(struct nvme_driver *driver, uint32_t reg, uint32_t *ret_value)
{
	return vfu_client_read(&driver->client, 0, reg, ret_value, 4);
}

int nvme_driver_set32(struct nvme_driver *driver, uint32_t reg, uint32_t value)
{
	return vfu_client_post(&driver->client, 0, reg, &value, 4);
}

int nvme_driver_set64(struct nvme_driver *driver, uint32_t reg, uint64_t value)
{
	return vfu_client_post(&driver->client, 0, reg, &value, 8);
}

int nvme_driver_wait_status(struct nvme_driver *driver, uint32_t mask, uint32_t value)
{
	uint64_t deadline = now_ms() + NVME_DRIVER_WAIT_MS;

	for (;;) {
		uint32_t status;
		int r = nvme_driver_get32(driver, NVME_REG_CSTS, &status);

		if (r < 0)
			return r;
		if ((status & mask) == value)
			return 0;
		if (status & 2 & ~mask)
			return -EIO;
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		nap();
	}
}

static void init_queue(struct nvme_driver *driver, uint16_t id, uint16_t depth)
{
	struct nvme_driver_queue *queue = &driver->queues[id];
	volatile struct nvme_driver_sqe *sq = queue->sq;
	volatile struct nvme_driver_cqe *cq = queue->cq;

	/* A queue that is made again takes its old memory. */
	if (!sq || queue->depth < depth) {
		sq = nvme_driver_alloc(driver, depth * sizeof(*sq));
		cq = nvme_driver_alloc(driver, depth * sizeof(*cq));
	}
	memset((void *)cq, 0, depth * sizeof(*cq));
	*queue = (struct nvme_driver_queue){
		.id = id, .depth = depth, .sq = sq, .cq = cq, .phase = 1};
	for (uint16_t i = 0; i < depth; i++)
		queue->free[queue->free_count++] = (uint16_t)(depth - 1 - i);
}

int nvme_driver_disable(struct nvme_driver *driver)
{
	int r = nvme_driver_set32(driver, NVME_REG_CC, 0);

	return r < 0 ? r : nvme_driver_wait_status(driver, 3, 0);
}

static int configure_shadow(struct nvme_driver *driver)
{
	struct nvme_driver_sqe sqe = {.opcode = DOORBELL_BUFFER_CONFIG};
	volatile uint32_t *shadow = driver->shadow, *indexes = driver->indexes;
	int r;

	if (!shadow) {
		shadow = nvme_driver_alloc(driver, NVME_DRIVER_PAGE);
		indexes = nvme_driver_alloc(driver, NVME_DRIVER_PAGE);
	}
	memset((void *)shadow, 0, NVME_DRIVER_PAGE);
	memset((void *)indexes, 0, NVME_DRIVER_PAGE);
	sqe.prp1 = nvme_driver_address(driver, shadow);
	sqe.prp2 = nvme_driver_address(driver, indexes);
	r = nvme_driver_command(driver, 0, &sqe, NULL);
	driver->shadow = shadow;
	driver->indexes = indexes;
	return r;
}

int nvme_driver_enable(struct nvme_driver *driver)
{
	const uint16_t depth = 64;
	struct nvme_driver_queue *admin = &driver->queues[0];
	int r = nvme_driver_disable(driver);

	if (r < 0)
		return r;
	init_queue(driver, 0, depth);
	r = nvme_driver_set32(driver, NVME_REG_AQA, (uint32_t)(depth - 1) << 16 | (depth - 1));
	if (r == 0)
		r = nvme_driver_set64(driver, NVME_REG_ASQ, nvme_driver_address(driver, admin->sq));
	if (r == 0)
		r = nvme_driver_set64(driver, NVME_REG_ACQ, nvme_driver_address(driver, admin->cq));
	if (r == 0)
		r = nvme_driver_set32(driver, NVME_REG_CC, 4u << 20 | 6u << 16 | 1);
	if (r == 0)
		r = nvme_driver_wait_status(driver, 1, 1);
	if (r == 0 && driver->doorbells == NVME_DRIVER_SHADOW)
		r = configure_shadow(driver);
	return r;
}

int nvme_driver_create_queue(struct nvme_driver *driver, uint16_t id, uint16_t depth,
			     uint16_t vector)
{
	struct nvme_driver_queue *queue = &driver->queues[id];
	struct nvme_driver_sqe cq = {.opcode = CREATE_CQ,
				     .cdw10 = (uint32_t)(depth - 1) << 16 | id,
				     .cdw11 = (uint32_t)vector << 16 | 3};
	struct nvme_driver_sqe sq = {.opcode = CREATE_SQ,
				     .cdw10 = (uint32_t)(depth - 1) << 16 | id,
				     .cdw11 = (uint32_t)id << 16 | 1};
	int r;

	if (driver->shadow) {
		driver->shadow[2 * id] = driver->shadow[2 * id + 1] = 0;
		driver->indexes[2 * id] = driver->indexes[2 * id + 1] = 0;
	}
	init_queue(driver, id, depth);
	cq.prp1 = nvme_driver_address(driver, queue->cq);
	sq.prp1 = nvme_driver_address(driver, queue->sq);
	r = nvme_driver_command(driver, 0, &cq, NULL);
	return r == 0 ? nvme_driver_command(driver, 0, &sq, NULL) : r;
}

int nvme_driver_delete_queue(struct nvme_driver *driver, uint16_t id)
{
	struct nvme_driver_sqe sq = {.opcode = DELETE_SQ, .cdw10 = id};
	struct nvme_driver_sqe cq = {.opcode = DELETE_CQ, .cdw10 = id};
	int r = nvme_driver_command(driver, 0, &sq, NULL);

	return r == 0 ? nvme_driver_command(driver, 0, &cq, NULL) : r;
}

void nvme_driver_set_data(const struct nvme_driver *driver, struct nvme_driver_sqe *sqe,
			  const void *data, size_t length, uint64_t *list)
{
	uint64_t address = nvme_driver_address(driver, data);
	uint64_t second = (address & ~(uint64_t)(NVME_DRIVER_PAGE - 1)) + NVME_DRIVER_PAGE;
	uint64_t end = address + length;

	sqe->prp1 = address;
	sqe->prp2 = 0;
	if (end <= second)
		return;
	if (end <= second + NVME_DRIVER_PAGE) {
		sqe->prp2 = second;
		return;
	}
	sqe->prp2 = nvme_driver_address(driver, list);
	for (uint64_t page = second; page < end; page += NVME_DRIVER_PAGE)
		*list++ = page;
}

/* `index`: 2 * queue for a submission tail, one more for a completion head. */
static int ring(struct nvme_driver *driver, uint16_t index, uint16_t value)
{
	if (driver->mapped) {
		__atomic_store_n(driver->mapped + index, value, __ATOMIC_RELEASE);
		return 0;
	}
	if (driver->shadow && index >= 2) {
		uint16_t old = (uint16_t)driver->shadow[index], event;

		__atomic_store_n(driver->shadow + index, value, __ATOMIC_RELEASE);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		event = (uint16_t)__atomic_load_n(driver->indexes + index, __ATOMIC_ACQUIRE);
		/* NVMe 1.4, B.5: only when the event index was passed. */
		if ((uint16_t)(value - event - 1) >= (uint16_t)(value - old))
			return 0;
	}
	driver->traps++;
	return nvme_driver_set32(driver, NVME_REG_DOORBELLS + 4u * index, value);
}

int nvme_driver_queue_command(struct nvme_driver *driver, struct nvme_driver_queue *queue,
			      const struct nvme_driver_sqe *sqe)
{
	uint16_t next = (uint16_t)((queue->sq_tail + 1) % queue->depth);
	struct nvme_driver_sqe entry = *sqe;

	(void)driver;
	if (next == queue->sq_head || queue->free_count == 0)
		return -EAGAIN;
	entry.cid = queue->free[--queue->free_count];
	queue->busy[entry.cid] = true;
	memcpy((void *)&queue->sq[queue->sq_tail], &entry, sizeof(entry));
	queue->sq_tail = next;
	return entry.cid;
}

int nvme_driver_ring(struct nvme_driver *driver, struct nvme_driver_queue *queue)
{
	return ring(driver, (uint16_t)(2 * queue->id), queue->sq_tail);
}

static bool entry_valid(const struct nvme_driver_queue *queue)
{
	uint16_t status = __atomic_load_n(&queue->cq[queue->cq_head].status, __ATOMIC_ACQUIRE);

	return (status & 1) == queue->phase;
}

int nvme_driver_poll(struct nvme_driver *driver, struct nvme_driver_queue *queue,
		     struct nvme_driver_cqe *ret_cqe)
{
	struct nvme_driver_cqe cqe;
	int r = 0;

	if (!entry_valid(queue))
		return 0;
	memcpy(&cqe, (const void *)&queue->cq[queue->cq_head], sizeof(cqe));
	if (cqe.sqid != queue->id || cqe.sq_head >= queue->depth || cqe.cid >= queue->depth ||
	    !queue->busy[cqe.cid]) {
		fprintf(stderr,
			"nvme_driver: invalid completion in queue %u at %u: command %u, queue %u, "
			"head %u, status %#x\n",
			queue->id, queue->cq_head, cqe.cid, cqe.sqid, cqe.sq_head, cqe.status);
		return -EPROTO;
	}
	queue->busy[cqe.cid] = false;
	queue->free[queue->free_count++] = cqe.cid;
	queue->sq_head = cqe.sq_head;
	if (++queue->cq_head == queue->depth) {
		queue->cq_head = 0;
		queue->phase ^= 1;
	}
	if (!entry_valid(queue)) /* the end of a batch */
		r = ring(driver, (uint16_t)(2 * queue->id + 1), queue->cq_head);
	*ret_cqe = cqe;
	return r < 0 ? r : 1;
}

int nvme_driver_command(struct nvme_driver *driver, uint16_t queue_id,
			const struct nvme_driver_sqe *sqe, struct nvme_driver_cqe *ret_cqe)
{
	struct nvme_driver_queue *queue = &driver->queues[queue_id];
	uint64_t deadline = now_ms() + NVME_DRIVER_WAIT_MS;
	int cid = nvme_driver_queue_command(driver, queue, sqe);
	int r = cid < 0 ? cid : nvme_driver_ring(driver, queue);

	while (r == 0) {
		struct nvme_driver_cqe cqe;

		r = nvme_driver_poll(driver, queue, &cqe);
		if (r == 0 && now_ms() > deadline)
			return -ETIMEDOUT;
		if (r == 0) {
			nap();
		} else if (r == 1) {
			if (ret_cqe)
				*ret_cqe = cqe;
			return cqe.cid == cid ? nvme_driver_status(&cqe) : -EPROTO;
		}
	}
	return r;
}

int nvme_driver_identify(struct nvme_driver *driver, uint32_t cns, uint32_t nsid, void *data)
{
	struct nvme_driver_sqe sqe = {.opcode = IDENTIFY, .nsid = nsid, .cdw10 = cns};

	nvme_driver_set_data(driver, &sqe, data, NVME_DRIVER_PAGE, NULL);
	return nvme_driver_command(driver, 0, &sqe, NULL);
}

uint64_t nvme_driver_interrupts(struct nvme_driver *driver, unsigned vector)
{
	uint64_t count;

	return read(driver->events[vector], &count, sizeof(count)) == sizeof(count) ? count : 0;
}
