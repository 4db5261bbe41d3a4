/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random 4 KiB reads of a file through world and reactor, without any layer above: what a turn and
 * a completion cost, what a fiber adds, and whether polling pays.
 *
 *     bench_reactor callback|fiber FILE [--milliseconds=N] [--depth=N] [--poll-us=N] [--direct=0|1]
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench_rig.h"
#include "reactor/io.h"

#define BLOCK_BYTES 4096u
#define DEPTH_MAX   60u /* the fibers of the data class, less a few */

struct load;

struct slot {
	struct world_op op;
	struct iovec iov;
	struct fiber_task task;
	struct load *load;
};

struct load {
	struct reactor *reactor;
	const char *path;
	bool fibers, direct;
	uint64_t duration_ns, depth, poll_ns;
	struct world_file *file;
	uint64_t blocks, random, deadline_ns, in_flight;
	struct fiber *waiter;
	struct slot slots[DEPTH_MAX];
	struct bench_result result;
	struct reactor_stats before, after;
};

static uint64_t next_offset(struct load *load)
{
	load->random = load->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (load->random >> 33) % load->blocks * BLOCK_BYTES;
}

static bool finish_one(struct load *load, int64_t result)
{
	if (result != BLOCK_BYTES)
		bench_fail("read", result < 0 ? (int)result : -ENODATA);
	load->result.operations++;
	if (reactor_turn_ns(load->reactor) < load->deadline_ns)
		return false;
	if (--load->in_flight == 0)
		fiber_wake(load->waiter);
	return true;
}

static void read_next(struct slot *slot)
{
	struct load *load = slot->load;

	reactor_world(load->reactor)
		->ops->file_read(reactor_port(load->reactor), load->file, &slot->iov, 1,
				 next_offset(load), &slot->op);
}

static void read_done(struct world_op *op, int64_t result)
{
	struct slot *slot = CONTAINER_OF(op, struct slot, op);

	if (!finish_one(slot->load, result))
		read_next(slot);
}

static void read_in_fiber(struct fiber_task *task)
{
	struct slot *slot = CONTAINER_OF(task, struct slot, task);
	int64_t result;

	do
		result = io_readv(slot->load->file, &slot->iov, 1, next_offset(slot->load));
	while (!finish_one(slot->load, result));
}

static void start_slot(struct load *load, struct slot *slot)
{
	slot->load = load;
	slot->iov = (struct iovec){aligned_alloc(BLOCK_BYTES, BLOCK_BYTES), BLOCK_BYTES};
	if (!slot->iov.iov_base)
		bench_fail("buffers", -ENOMEM);
	slot->op.done = read_done;
	slot->task.run = read_in_fiber;
	if (load->fibers)
		fiber_spawn(load->reactor, FIBER_DATA, &slot->task);
	else
		read_next(slot);
}

static int drive(void *arg)
{
	struct load *load = arg;
	struct world_stat stat;
	uint64_t start_ns, start_cpu_ns;
	int error =
		io_open(load->path, WORLD_FILE_READ_ONLY | (load->direct ? WORLD_FILE_DIRECT : 0),
			&load->file);

	if (error == 0)
		error = io_file_stat(load->file, &stat);
	if (error < 0)
		bench_fail(load->path, error);
	load->blocks = stat.size_bytes / BLOCK_BYTES;
	if (load->blocks == 0)
		bench_fail(load->path, -ENODATA);
	load->waiter = fiber_current();
	load->in_flight = load->depth;
	reactor_get_stats(load->reactor, &load->before);
	start_ns = bench_now_ns();
	start_cpu_ns = bench_cpu_ns();
	load->deadline_ns = start_ns + load->duration_ns;
	for (unsigned i = 0; i < load->depth; i++)
		start_slot(load, &load->slots[i]);
	while (load->in_flight)
		fiber_suspend();
	load->result.elapsed_ns = bench_now_ns() - start_ns;
	load->result.cpu_ns = bench_cpu_ns() - start_cpu_ns;
	reactor_get_stats(load->reactor, &load->after);
	return io_close(load->file);
}

static void print_turns(const struct load *load)
{
	double operations = (double)load->result.operations;

	fprintf(stderr, "kIOPS %.1f, CPU us a read %.2f, turns a read %.2f, sleeps a read %.2f\n",
		operations * 1e6 / (double)load->result.elapsed_ns,
		(double)load->result.cpu_ns / 1e3 / operations,
		(double)(load->after.turns - load->before.turns) / operations,
		(double)(load->after.sleeps - load->before.sleeps) / operations);
}

int main(int argc, char **argv)
{
	const struct world_real_options world_options = {.fence_fd = -1};
	static struct load load;
	struct bench_rig rig;
	int error;

	if (argc < 3 || (strcmp(argv[1], "fiber") != 0 && strcmp(argv[1], "callback") != 0))
		bench_fail("usage: bench_reactor callback|fiber FILE [--NAME=NUMBER ...]", -EINVAL);
	load.fibers = strcmp(argv[1], "fiber") == 0;
	load.path = argv[2];
	load.duration_ns = bench_option(argc, argv, "milliseconds", 1000) * NSEC_PER_MSEC;
	load.depth = bench_option(argc, argv, "depth", 32);
	load.poll_ns = bench_option(argc, argv, "poll-us", 0) * NSEC_PER_USEC;
	load.direct = bench_option(argc, argv, "direct", 1);
	if (load.depth < 1 || load.depth > DEPTH_MAX)
		bench_fail("depth", -EINVAL);
	error = world_real_new(&world_options, &rig.world);
	if (error == 0)
		error = reactor_new(rig.world, &(struct reactor_options){.poll_ns = load.poll_ns},
				    &rig.reactor);
	if (error == 0)
		error = reactor_start(rig.reactor);
	if (error < 0)
		bench_fail("cannot start a reactor", error);
	load.reactor = rig.reactor;
	error = bench_rig_run(&rig, drive, &load);
	if (error < 0)
		bench_fail(load.path, error);
	load.result.bytes = load.result.operations * BLOCK_BYTES;
	bench_print(&load.result);
	print_turns(&load);
	for (unsigned i = 0; i < load.depth; i++)
		free(load.slots[i].iov.iov_base);
	bench_rig_done(&rig);
	return 0;
}
