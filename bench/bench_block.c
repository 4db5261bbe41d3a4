/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many requests of 4 KiB pass through the block layer into a memory volume on one core; beside
 * it the bare memcpy of random blocks of the same memory, which is the least that a memory volume
 * has to do.
 *
 *     bench_block memory|null|memcpy [--milliseconds=N] [--mib=N] [--depth=N] [--reads=PERCENT]
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench_rig.h"
#include "block/chance.h"
#include "block/memory.h"
#include "block/null.h"

#define BLOCK_BYTES 4096u
#define DEPTH_MAX 1024

struct load {
	struct bench_rig *rig;
	struct block_volume *volume;
	struct chance chance;
	uint64_t duration_ns, size_bytes, depth, read_percent;
	uint64_t deadline_ns;
	uint64_t in_flight;
	struct fiber *waiter;
	struct bench_result result;
};

struct slot {
	struct block_request request;
	struct iovec iov;
	struct load *load;
	unsigned char *buffer;
};

static struct slot slots[DEPTH_MAX];

static void submit_next(struct slot *slot)
{
	struct load *load = slot->load;
	uint64_t random = chance_next(&load->chance);
	struct block_request *request = &slot->request;

	request->op = random % 100 < load->read_percent ? BLOCK_READ : BLOCK_WRITE;
	request->flags = 0;
	request->offset = (random >> 8) % (load->size_bytes / BLOCK_BYTES) * BLOCK_BYTES;
	request->length = BLOCK_BYTES;
	request->iov = &slot->iov;
	request->iov_count = 1;
	block_submit(load->volume, request);
}

static void request_done(struct block_request *request, int result)
{
	struct slot *slot = CONTAINER_OF(request, struct slot, request);
	struct load *load = slot->load;

	if (result < 0)
		bench_fail("request failed", result);
	load->result.operations++;
	if (reactor_turn_ns(load->volume->home) < load->deadline_ns)
		submit_next(slot);
	else if (--load->in_flight == 0)
		fiber_wake(load->waiter);
}

static void fill(struct load *load, unsigned char *buffer)
{
	memset(buffer, 0x5a, BLOCK_BYTES);
	for (uint64_t at = 0; at < load->size_bytes; at += BLOCK_BYTES) {
		int result = block_io(load->volume, BLOCK_WRITE, 0, buffer, BLOCK_BYTES, at);

		if (result < 0)
			bench_fail("filling the volume", result);
	}
}

static int drive(void *arg)
{
	struct load *load = arg;
	uint64_t start_ns, start_cpu_ns;

	fill(load, slots[0].buffer);
	load->waiter = fiber_current();
	start_ns = bench_now_ns();
	start_cpu_ns = bench_cpu_ns();
	load->deadline_ns = start_ns + load->duration_ns;
	load->in_flight = load->depth;
	for (uint64_t i = 0; i < load->depth; i++)
		submit_next(&slots[i]);
	while (load->in_flight)
		fiber_suspend();
	load->result.elapsed_ns = bench_now_ns() - start_ns;
	load->result.cpu_ns = bench_cpu_ns() - start_cpu_ns;
	return 0;
}

static void run_volume(struct load *load, bool null)
{
	struct bench_rig rig;
	int result;

	bench_rig_init(&rig);
	if (null)
		result = null_volume_new(rig.reactor, load->size_bytes, BLOCK_BYTES, &load->volume);
	else
		result = memory_volume_new(rig.reactor, load->size_bytes, BLOCK_BYTES,
					   &load->volume);
	if (result < 0)
		bench_fail("making the volume", result);
	(void)bench_rig_run(&rig, drive, load); /* always 0 */
	block_volume_free(load->volume);
	bench_rig_done(&rig);
}

static void copy_one(struct load *load, unsigned char *memory, unsigned char *buffer)
{
	uint64_t random = chance_next(&load->chance);
	unsigned char *at =
		memory + (random >> 8) % (load->size_bytes / BLOCK_BYTES) * BLOCK_BYTES;

	if (random % 100 < load->read_percent)
		memcpy(buffer, at, BLOCK_BYTES);
	else
		memcpy(at, buffer, BLOCK_BYTES);
	load->result.operations++;
}

/* The same copies by a bare loop. */
static void run_memcpy(struct load *load)
{
	unsigned char *memory = mmap(NULL, load->size_bytes, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t start_ns, start_cpu_ns, end_ns;

	if (memory == MAP_FAILED)
		bench_fail("memory", -errno);
	(void)madvise(memory, load->size_bytes, MADV_NOHUGEPAGE); /* as the volume does */
	memset(memory, 0x5a, load->size_bytes);
	start_ns = bench_now_ns();
	start_cpu_ns = bench_cpu_ns();
	do {
		for (uint64_t i = 0; i < load->depth; i++)
			copy_one(load, memory, slots[i].buffer);
		end_ns = bench_now_ns();
	} while (end_ns < start_ns + load->duration_ns);
	load->result.elapsed_ns = end_ns - start_ns;
	load->result.cpu_ns = bench_cpu_ns() - start_cpu_ns;
	(void)munmap(memory, load->size_bytes);
}

static void make_slots(struct load *load)
{
	unsigned char *buffers = aligned_alloc(BLOCK_BYTES, load->depth * BLOCK_BYTES);

	if (!buffers)
		bench_fail("buffers", -ENOMEM);
	memset(buffers, 1, load->depth * BLOCK_BYTES);
	for (uint64_t i = 0; i < load->depth; i++) {
		slots[i].load = load;
		slots[i].buffer = buffers + i * BLOCK_BYTES;
		slots[i].iov = (struct iovec){slots[i].buffer, BLOCK_BYTES};
		slots[i].request.done = request_done;
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	struct load load = {
		.duration_ns = bench_option(argc, argv, "milliseconds", 1000) * NSEC_PER_MSEC,
		.size_bytes = bench_option(argc, argv, "mib", 64) * MIB,
		.depth = bench_option(argc, argv, "depth", 32),
		.read_percent = bench_option(argc, argv, "reads", 50),
	};

	if (load.depth < 1 || load.depth > DEPTH_MAX || load.size_bytes == 0)
		bench_fail("depth or size", -EINVAL);
	chance_init(&load.chance, 1);
	make_slots(&load);
	if (strcmp(what, "memcpy") == 0)
		run_memcpy(&load);
	else if (strcmp(what, "memory") == 0 || strcmp(what, "null") == 0)
		run_volume(&load, strcmp(what, "null") == 0);
	else
		bench_fail("usage: bench_block memory|null|memcpy [--NAME=NUMBER ...]", -EINVAL);
	load.result.bytes = load.result.operations * BLOCK_BYTES;
	bench_print(&load.result);
	free(slots[0].buffer);
	return 0;
}
