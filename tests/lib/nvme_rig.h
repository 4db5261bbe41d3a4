/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An NVMe controller without keeper and virtual machine: shared memory, doorbells and the guest's
 * memory are plain memory, the world is simulated, and the test is the guest's driver and the
 * keeper. A controller can be freed and another made on the same memory, as after an engine's
 * death.
 *
 * The guest's memory is at address 0, twice: [0, NVME_RIG_BYTES) and, mapped on its own, the range
 * NVME_RIG_HIGH on. Queues lie below NVME_RIG_DATA, the rest is the test's. Functions abort when
 * something fails that a test does not ask for.
 */
#include "block/block.h"
#include "frontend/nvme/nvme.h"
#include "frontend/nvme/wire.h"
#include "sim_rig.h"

#define NVME_RIG_BYTES       (UINT64_C(8) << 20)
#define NVME_RIG_HIGH        (UINT64_C(1) << 32)
#define NVME_RIG_HIGH_BYTES  (UINT64_C(64) << 10)
#define NVME_RIG_DATA        (UINT64_C(2) << 20)
#define NVME_RIG_QUEUES      8  /* admin queue included; each with a completion queue of its own */
#define NVME_RIG_DEPTH       16 /* of the queues that nvme_rig_make_queues() makes */
#define NVME_RIG_ADMIN_DEPTH 32

struct nvme_rig_queue {
	uint64_t sq_base, cq_base;
	uint32_t sq_depth, cq_depth;
	uint32_t tail, head; /* the driver's */
	bool phase;
};

struct nvme_rig {
	struct sim_rig *sim;
	struct sim_rig *own; /* NULL: the test's */
	unsigned reactor;    /* the controller's home */
	struct vfu_shared *shared;
	struct vfu_doorbells *doorbells;
	unsigned char *memory, *high;
	struct nvme_controller *controller;
	struct nvme_controller_options options;
	struct nvme_namespace_options namespaces[8]; /* attached by nvme_rig_start() */
	unsigned namespace_count;
	struct nvme_rig_queue queues[NVME_RIG_QUEUES];
	uint32_t cq_depth; /* of I/O queues that are made; 0 = NVME_RIG_DEPTH */
	uint16_t next_cid;
	uint64_t shadow, events; /* guest addresses, once the test has configured them */
	unsigned kicks;
	struct world_message kick;
	bool kick_pending;
	unsigned interrupts[VFU_VECTOR_COUNT];
	uint32_t unmapped[64];
	unsigned unmapped_count;
	bool without_high; /* the range NVME_RIG_HIGH is not mapped */
	uint32_t quiesced;
	uint32_t formatted; /* the size of block that was chosen last */
	int format_error;
	struct nvme_management managed; /* what was asked for last */
	int manage_result;
	unsigned manage_count;
	unsigned points[NVME_POINT_COUNT];
	void (*on_point)(struct nvme_rig *rig, enum nvme_point point);
	void *context; /* the test's */
};

void nvme_rig_init(struct nvme_rig *rig, uint64_t seed, unsigned reactors);
/* In a simulated world of the test's, on its reactor 0. */
void nvme_rig_init_in(struct nvme_rig *rig, struct sim_rig *sim);
/* Stops and frees the controller if there is one. Volumes are the test's. */
void nvme_rig_done(struct nvme_rig *rig);

/* A memory volume on reactor `reactor`, to be attached as `nsid`; freed by the caller. */
struct block_volume *nvme_rig_add_memory(struct nvme_rig *rig, uint32_t nsid, unsigned reactor,
					 uint64_t bytes, uint32_t block_bytes);
/* A new controller on the shared memory, with memory mapped and namespaces attached. */
void nvme_rig_start(struct nvme_rig *rig);
void nvme_rig_stop(struct nvme_rig *rig);

/* The keeper's side of the registers. */
void nvme_rig_write_cc(struct nvme_rig *rig, uint32_t cc);
void nvme_rig_device_reset(struct nvme_rig *rig);
/* Takes effect as the world runs on. */
void nvme_rig_kick(struct nvme_rig *rig);
/* Enables the controller with an admin queue and waits for RDY. */
void nvme_rig_enable(struct nvme_rig *rig);
/* Enables, and makes I/O queues 1 to `count` of NVME_RIG_DEPTH entries; vector = queue. */
void nvme_rig_make_queues(struct nvme_rig *rig, unsigned count);

/* Doorbells as a driver and QEMU write them; the controller is kicked when it sleeps. */
void nvme_rig_ring(struct nvme_rig *rig, unsigned queue);
/* Puts a command into the queue without ringing; sets its cid, which it returns. */
uint16_t nvme_rig_push(struct nvme_rig *rig, unsigned queue, struct nvme_sqe *sqe);
uint16_t nvme_rig_submit(struct nvme_rig *rig, unsigned queue, struct nvme_sqe *sqe);
/* Takes the next completion. False: none came within a second of virtual time. */
bool nvme_rig_take(struct nvme_rig *rig, unsigned queue, struct nvme_cqe *ret_cqe);
/* False: none is there now. */
bool nvme_rig_peek(struct nvme_rig *rig, unsigned queue, struct nvme_cqe *ret_cqe);
/* Runs one command to its end; the status without phase and "do not retry". */
uint16_t nvme_rig_run(struct nvme_rig *rig, unsigned queue, struct nvme_sqe *sqe,
		      uint32_t *ret_result);
/* Lets virtual time pass. */
void nvme_rig_sleep(struct nvme_rig *rig, uint64_t duration_ns);

static inline void *nvme_rig_at(struct nvme_rig *rig, uint64_t address)
{
	return address >= NVME_RIG_HIGH ? rig->high + (address - NVME_RIG_HIGH)
					: rig->memory + address;
}

/* A read or write of `blocks` at `lba`, its data at guest address `data` (a page), within two
 * pages. */
struct nvme_sqe nvme_rig_rw(uint8_t opcode, uint32_t nsid, uint64_t lba, uint32_t blocks,
			    uint64_t data);
