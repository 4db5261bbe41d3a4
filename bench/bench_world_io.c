/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random 4 KiB direct I/O on one file through the real world alone, without a reactor: what the
 * layers above start from. fio on the same file is what it is compared with.
 *
 *     bench_world_io read|write PATH [--milliseconds=N] [--mib=N] [--depth=N] [--cpu=N]
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_rig.h"

#define BLOCK_BYTES 4096u
#define DEPTH_MAX   1024
#define COMPLETIONS 8 /* of a turn, as the reactor has it */

struct load {
	struct world *world;
	struct world_port *port;
	struct world_file *file;
	bool write;
	uint64_t blocks;
	uint64_t random;
	uint64_t in_flight;
	bool ending;
	struct bench_result result;
};

struct slot {
	struct world_op op;
	struct iovec iov;
	struct load *load;
};

static struct slot slots[DEPTH_MAX];

static uint64_t next_random(struct load *load) /* xorshift64* */
{
	load->random ^= load->random >> 12;
	load->random ^= load->random << 25;
	load->random ^= load->random >> 27;
	return load->random * UINT64_C(2685821657736338717);
}

static void submit_next(struct slot *slot)
{
	struct load *load = slot->load;
	const struct world_ops *ops = load->world->ops;
	uint64_t offset = (next_random(load) >> 16) % load->blocks * BLOCK_BYTES;

	if (load->write)
		ops->file_write(load->port, load->file, &slot->iov, 1, offset, &slot->op);
	else
		ops->file_read(load->port, load->file, &slot->iov, 1, offset, &slot->op);
}

static void transfer_done(struct world_op *op, int64_t result)
{
	struct slot *slot = CONTAINER_OF(op, struct slot, op);
	struct load *load = slot->load;

	if (result != BLOCK_BYTES)
		bench_fail("transfer failed", result < 0 ? (int)result : -EIO);
	load->result.operations++;
	if (load->ending)
		load->in_flight--;
	else
		submit_next(slot);
}

static void prepare_slot(struct load *load, struct slot *slot)
{
	uint64_t *words = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);

	if (!words)
		bench_fail("buffers", -ENOMEM);
	for (size_t i = 0; i < BLOCK_BYTES / sizeof(*words); i++)
		words[i] = next_random(load);
	*slot = (struct slot){.op.done = transfer_done, .load = load, .iov = {words, BLOCK_BYTES}};
}

static void measure(struct load *load, uint64_t duration_ns)
{
	const struct world_ops *ops = load->world->ops;
	uint64_t start_ns, cpu_ns, deadline_ns;

	for (uint64_t i = 0; i < load->in_flight; i++)
		prepare_slot(load, &slots[i]);
	start_ns = bench_now_ns();
	cpu_ns = bench_cpu_ns();
	deadline_ns = start_ns + duration_ns;
	for (uint64_t i = 0; i < load->in_flight; i++)
		submit_next(&slots[i]);
	while (load->in_flight > 0) {
		ops->port_wait(load->port, UINT64_MAX, COMPLETIONS);
		load->ending = bench_now_ns() >= deadline_ns;
	}
	load->result.cpu_ns = bench_cpu_ns() - cpu_ns;
	load->result.elapsed_ns = bench_now_ns() - start_ns;
	load->result.bytes = load->result.operations * BLOCK_BYTES;
}

struct awaited {
	struct world_op op;
	int64_t result;
	bool done;
};

static void note_result(struct world_op *op, int64_t result)
{
	struct awaited *awaited = CONTAINER_OF(op, struct awaited, op);

	awaited->result = result;
	awaited->done = true;
}

static int64_t await(struct load *load, struct awaited *awaited)
{
	while (!awaited->done)
		load->world->ops->port_wait(load->port, UINT64_MAX, COMPLETIONS);
	return awaited->result;
}

static void open_all(struct load *load, const char *path)
{
	const struct world_real_options options = {.workers = 1, .fence_fd = -1};
	struct awaited opened = {.op.done = note_result};
	int error = world_real_new(&options, &load->world);

	if (error)
		bench_fail("cannot use io_uring", error);
	error = load->world->ops->port_open(load->world, 0, NULL, NULL, &load->port);
	if (error)
		bench_fail("cannot open a port", error);
	load->world->ops->file_open(load->port, path, WORLD_FILE_DIRECT, &load->file, &opened.op);
	error = (int)await(load, &opened);
	if (error)
		bench_fail(path, error);
}

static void close_all(struct load *load)
{
	struct awaited closed = {.op.done = note_result};

	load->world->ops->file_close(load->port, load->file, &closed.op);
	(void)await(load, &closed); /* the figures are taken */
	load->world->ops->port_close(load->port);
	world_real_free(load->world);
}

static void pin(uint64_t cpu)
{
	cpu_set_t set;

	if (cpu == UINT64_MAX)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu % CPU_SETSIZE, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		bench_fail("--cpu", -errno);
}

int main(int argc, char **argv)
{
	struct load load = {.random = UINT64_C(0x9e3779b97f4a7c15)};
	uint64_t duration_ns = bench_option(argc, argv, "milliseconds", 2000) * NSEC_PER_MSEC;

	if (argc < 3 || (strcmp(argv[1], "read") != 0 && strcmp(argv[1], "write") != 0)) {
		fprintf(stderr, "usage: bench_world_io read|write PATH [--milliseconds=N] "
				"[--mib=N] [--depth=N] [--cpu=N]\n");
		return 2;
	}
	load.write = strcmp(argv[1], "write") == 0;
	load.blocks = bench_option(argc, argv, "mib", 1024) * MIB / BLOCK_BYTES;
	load.in_flight = bench_option(argc, argv, "depth", 1);
	if (load.blocks == 0 || load.in_flight == 0 || load.in_flight > DEPTH_MAX)
		bench_fail("--mib or --depth out of range", -ERANGE);
	pin(bench_option(argc, argv, "cpu", UINT64_MAX));
	open_all(&load, argv[2]);
	measure(&load, duration_ns);
	close_all(&load);
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
		free(slots[i].iov.iov_base);
	bench_print(&load.result);
	return 0;
}
