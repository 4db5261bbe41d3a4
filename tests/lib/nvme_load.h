/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Load with a memory, by a driver's queues: random reads, writes, zeroes, deallocations, flushes,
 * compares, fused compare-and-writes and copies of one namespace, many in flight; knows what each
 * block must hold.
 *
 * 1. A block's contents follow from its stamp: 0 is zeros, every write has a stamp of its own.
 * 2. At most one command that changes a block is in flight, and none that reads it beside that.
 * 3. Guest memory that no command in flight may write holds what was put there: pages around each
 *    buffer, and the buffer itself until it is used again. So data that lands too late is seen.
 * 4. All that a reset interrupts is settled afterwards: old or new, block by block.
 */
#include "nvme_driver.h"

#include "block/chance.h"

#define NVME_LOAD_BLOCK      4096u
#define NVME_LOAD_BLOCKS_MAX 32u                 /* of one command */
#define NVME_LOAD_ALIAS      (UINT64_C(1) << 40) /* guest memory appears here a second time */

struct nvme_load_options {
	uint32_t nsid;
	uint64_t bytes;  /* of the namespace, from its start; 0 = all */
	unsigned queues; /* I/O queues 1 to n */
	unsigned depth;  /* commands in flight in each */
	uint64_t seed;
	unsigned wait_ms;  /* a command that takes longer is lost */
	bool changes_only; /* the plain ones: reads, writes, flushes */
};

struct nvme_load_totals {
	uint64_t reads, writes, zeroes, deallocations, flushes, compares, swaps, copies;
	uint64_t resets, remaps, checked_blocks;
	uint64_t longest_ns; /* of a command, from its doorbell to its completion */
};

struct nvme_load_request;

struct nvme_load {
	struct nvme_driver *driver;
	struct nvme_load_options options;
	struct nvme_load_totals totals;
	struct chance chance;
	uint32_t lbas; /* of a block */
	uint64_t blocks, next_stamp;
	uint64_t *stamps;
	int16_t *users; /* of each block: readers in flight, or -1 for one that changes it */
	bool can_compare, can_swap, can_copy, can_zero, can_deallocate;
	bool alias; /* reads may use the alias */
	unsigned in_flight;
	struct nvme_load_request *requests;
	struct nvme_load_request *by_cid[NVME_DRIVER_QUEUES][NVME_DRIVER_DEPTH_MAX];
	char failure[256]; /* why it ended, for people */
};

/* The driver is open, with guest memory for nvme_load_memory_bytes(). Enables the controller,
 * makes the queues, and writes all blocks. -errno; load->failure says more. */
size_t nvme_load_memory_bytes(const struct nvme_load_options *options);
int nvme_load_start(struct nvme_load *load, struct nvme_driver *driver,
		    const struct nvme_load_options *options);
/* Tops up the queues and takes what has completed; how many. -errno. */
int nvme_load_step(struct nvme_load *load);
/* Takes what has completed until nothing is in flight. */
int nvme_load_drain(struct nvme_load *load);
/* Reads all and compares. Nothing is in flight. */
int nvme_load_check(struct nvme_load *load);
/* With commands in flight: CC.EN, or a device reset; then everything anew, and settles. */
int nvme_load_reset(struct nvme_load *load, bool device);
/* With reads through the alias in flight: takes the alias away and gives it back. */
int nvme_load_remap(struct nvme_load *load);
void nvme_load_free(struct nvme_load *load);
