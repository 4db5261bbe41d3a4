/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller alone: a reactor with a memory volume on one processor, a driver that polls its
 * completion queue on another, no sockets and no keeper between. For finding what is hot.
 *
 *     bench_nvme_local read|write [--depth=N] [--milliseconds=N] [--mib=N] [--single=1]
 *
 * --single=1: the driver is a poller of the same reactor, and the time is that of its processor:
 * what a command costs, also on a machine that is busy. Prints JSON.
 */
#include <errno.h>
#include <nvme/types.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench_rig.h"
#include "block/chance.h"
#include "block/memory.h"
#include "frontend/nvme/nvme.h"
#include "frontend/nvme/wire.h"

#define BLOCK   4096u
#define ENTRIES 1024u
#define SQ      UINT64_C(0x10000)
#define CQ      UINT64_C(0x20000)
#define BUFFERS UINT64_C(0x100000)
#define GUEST   (BUFFERS + ENTRIES * BLOCK)

struct local {
	struct reactor *reactor;
	struct nvme_controller *controller;
	struct vfu_shared *shared;
	struct vfu_doorbells *doorbells;
	unsigned char *guest;
	struct block_volume *volume;
	uint64_t blocks;
	struct world_message kick;
	atomic_bool kicked;
};

static void on_interrupt(void *context, unsigned vector)
{
}

static void on_unmapped(void *context, uint32_t id)
{
}

static void on_quiesced(void *context, uint32_t reset_count)
{
}

static const struct nvme_host_ops host_ops = {
	.interrupt = on_interrupt,
	.unmapped = on_unmapped,
	.quiesced = on_quiesced,
};

static void *shared_memory(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED)
		bench_fail("memory", -ENOMEM);
	return at;
}

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set); /* slower elsewhere, not wrong */
}

static int fill(struct local *local, uint64_t mib)
{
	int result = 0;

	memset(local->guest + BUFFERS, 7, MIB);
	for (uint64_t i = 0; result == 0 && i < mib; i++)
		result = block_io(local->volume, BLOCK_WRITE, 0, local->guest + BUFFERS, MIB,
				  i * MIB);
	return result;
}

static int set_up(void *arg)
{
	struct local *local = arg;
	const struct nvme_controller_options options = {
		.home = local->reactor,
		.host = &host_ops,
		.host_context = local,
	};
	const struct vfu_map map = {0, GUEST, 1, VFU_MAP_READ | VFU_MAP_WRITE | VFU_MAP_MEMORY};
	struct nvme_namespace_options ns = {.nsid = 1, .nguid = {1, 1}};
	int result =
		memory_volume_new(local->reactor, local->blocks * BLOCK, BLOCK, &local->volume);

	if (result == 0)
		result = fill(local, local->blocks * BLOCK / MIB);
	if (result == 0)
		result = nvme_controller_new(&options, local->shared, local->doorbells,
					     &local->controller);
	if (result == 0)
		result = nvme_controller_map(local->controller, &map, local->guest);
	ns.volume = local->volume;
	if (result == 0)
		result = nvme_namespace_attach(local->controller, &ns);
	if (result == 0)
		nvme_controller_start(local->controller);
	return result;
}

/* As a recovered controller with one I/O queue: no admin commands are needed. */
static void make_queues(struct local *local)
{
	struct vfu_shared *shared = local->shared;

	*shared = (struct vfu_shared){
		.magic = VFU_SHARED_MAGIC,
		.version = VFU_SHARED_VERSION,
		.bytes = sizeof(*shared),
		.msix_enabled = 1,
		.registers = {.cap = VFU_CAP, .vs = VFU_VS, .cc = 0x460001, .csts = 1},
	};
	shared->admin.features[NVME_FEAT_FID_VOLATILE_WC] = 1;
	shared->cqs[1] = (struct vfu_cq){.base = CQ, .state = 1, .depth = ENTRIES, .interrupts = 1};
	shared->sqs[1] = (struct vfu_sq){.base = SQ, .state = 1, .depth = ENTRIES, .cqid = 1};
}

static void run_kick(struct world_message *message)
{
	struct local *local = CONTAINER_OF(message, struct local, kick);

	atomic_store(&local->kicked, false);
	nvme_controller_kick(local->controller);
}

static void ring(struct local *local, uint32_t tail)
{
	vfu_store(&local->doorbells->queues[1].sq_tail, tail);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vfu_load(&local->shared->engine_asleep) || atomic_exchange(&local->kicked, true))
		return;
	local->kick.run = run_kick;
	reactor_post(local->reactor, &local->kick);
}

struct driver {
	struct local *local;
	struct nvme_sqe *sq;
	volatile struct nvme_cqe *cq;
	struct chance chance;
	uint32_t tail, head;
	bool phase;
	uint8_t opcode;
};

static void submit(struct driver *driver, uint16_t cid)
{
	uint64_t block = chance_below(&driver->chance, driver->local->blocks);

	driver->sq[driver->tail] = (struct nvme_sqe){
		.opcode = driver->opcode,
		.cid = cid,
		.nsid = 1,
		.dptr = {BUFFERS + cid * BLOCK},
		.cdw10 = (uint32_t)block,
	};
	driver->tail = (driver->tail + 1) % ENTRIES;
}

/* Replaces what has completed; returns how many did. */
static unsigned turn(struct driver *driver)
{
	unsigned count = 0;

	while ((driver->cq[driver->head].status & 1) == driver->phase) {
		if (driver->cq[driver->head].status >> 1)
			bench_fail("a command failed", -EIO);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		submit(driver, driver->cq[driver->head].cid);
		if (++driver->head == ENTRIES) {
			driver->head = 0;
			driver->phase = !driver->phase;
		}
		count++;
	}
	if (count == 0)
		return 0;
	vfu_store(&driver->local->doorbells->queues[1].cq_head, driver->head);
	ring(driver->local, driver->tail);
	return count;
}

static void measure(struct driver *driver, uint64_t depth, uint64_t milliseconds)
{
	uint64_t begin = bench_now_ns(), end = begin + milliseconds * NSEC_PER_MSEC;
	struct bench_result result = {0};

	for (uint16_t i = 0; i < depth; i++)
		submit(driver, i);
	ring(driver->local, driver->tail);
	while (bench_now_ns() < end)
		for (unsigned i = 0; i < 64; i++)
			result.operations += turn(driver);
	result.elapsed_ns = bench_now_ns() - begin;
	result.bytes = result.operations * BLOCK;
	bench_print(&result);
}

/* The driver on the reactor's own thread. */
struct single {
	struct reactor_poller poller;
	struct driver *driver;
	struct bench_result result;
	uint64_t depth, end_ns, begin_cpu_ns;
	struct fiber *waiter;
};

static bool single_poll(struct reactor_poller *poller)
{
	struct single *single = CONTAINER_OF(poller, struct single, poller);
	unsigned count = turn(single->driver);

	single->result.operations += count;
	if (bench_cpu_ns() < single->end_ns)
		return true;
	reactor_poller_stop(single->driver->local->reactor, poller);
	fiber_wake(single->waiter);
	return count > 0;
}

static bool single_sleep(struct reactor_poller *poller)
{
	return false;
}

static int run_single(void *arg)
{
	struct single *single = arg;
	uint64_t begin = bench_cpu_ns();

	single->end_ns += begin;
	single->waiter = fiber_current();
	reactor_poller_init(&single->poller, single_poll, single_sleep);
	for (uint16_t i = 0; i < single->depth; i++)
		submit(single->driver, i);
	ring(single->driver->local, single->driver->tail);
	reactor_poller_wake(single->driver->local->reactor, &single->poller);
	fiber_suspend();
	single->result.elapsed_ns = single->result.cpu_ns = bench_cpu_ns() - begin;
	single->result.bytes = single->result.operations * BLOCK;
	return 0;
}

int main(int argc, char **argv)
{
	static struct local local;
	struct driver driver = {.local = &local, .phase = true, .opcode = nvme_cmd_read};
	const struct world_real_options options = {.fence_fd = -1};
	struct reactor_options reactor = {.pin = true, .poll_ns = 50 * NSEC_PER_USEC};
	struct world *world;
	int result;

	if (argc < 2)
		bench_fail("usage: bench_nvme_local read|write [--depth=N] [--milliseconds=N]", 0);
	if (strcmp(argv[1], "write") == 0)
		driver.opcode = nvme_cmd_write;
	local.blocks = bench_option(argc, argv, "mib", 1024) * MIB / BLOCK;
	local.shared = shared_memory(sizeof(*local.shared));
	local.doorbells = shared_memory(sizeof(*local.doorbells));
	local.guest = shared_memory(GUEST);
	make_queues(&local);
	result = world_real_new(&options, &world);
	if (result == 0)
		result = reactor_new(world, &reactor, &local.reactor);
	if (result == 0)
		result = reactor_start(local.reactor);
	if (result == 0)
		result = fiber_call_blocking(local.reactor, FIBER_CONTROL, set_up, &local);
	if (result < 0)
		bench_fail("set up", result);
	driver.sq = (struct nvme_sqe *)(local.guest + SQ);
	driver.cq = (volatile struct nvme_cqe *)(local.guest + CQ);
	chance_init(&driver.chance, 3);
	if (bench_option(argc, argv, "single", 0)) {
		struct single single = {
			.driver = &driver,
			.depth = bench_option(argc, argv, "depth", 32),
			.end_ns = bench_option(argc, argv, "milliseconds", 1000) * NSEC_PER_MSEC,
		};

		(void)fiber_call_blocking(local.reactor, FIBER_CONTROL, run_single, &single);
		bench_print(&single.result);
		return 0;
	}
	pin(1);
	measure(&driver, bench_option(argc, argv, "depth", 32),
		bench_option(argc, argv, "milliseconds", 1000));
	return 0; /* the process ends with all it has */
}
