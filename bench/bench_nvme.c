/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's place at a keeper's socket, on one processor, as fast as the engine answers; and the
 * physical limit of what it measures, one cold copy of each block.
 *
 *     bench_nvme copy     [--milliseconds=N] [--cpu=N] [--mib=N]
 *     bench_nvme read|write SOCKET [--depth=N] [--milliseconds=N] [--cpu=N] [--mib=N] [--mapped=1]
 *                                  [--wait=1]
 *     bench_nvme fill     SOCKET [--mib=N]
 *     bench_nvme wake     SOCKET [--idle-us=N] [--milliseconds=N] [--cpu=N]
 *     bench_nvme sleeper         [--idle-us=N] [--milliseconds=N] [--cpu=N]
 *     bench_nvme idle     SOCKET...
 *
 * copy: memcpy of random 4 KiB blocks of 1 GiB into a few that stay in the cache. read, write: 4
 * KiB at random places of namespace 1; with --wait it sleeps until the interrupt instead of
 * looking. fill: all of it once, so that memory is there. wake: one read after each pause, which is
 * the first after idle. sleeper: what is below that: the same pauses, then an event that a process
 * on processor 0 sleeps for, which answers in shared memory. idle: machines that are connected,
 * with a queue each, and do nothing until the end of standard input. Prints one line of JSON.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/histogram.h"
#include "base/macros.h"
#include "bench_rig.h"
#include "block/chance.h"
#include "nvme_driver.h"

#define BLOCK       4096u
#define QUEUE_DEPTH 1024u

struct load {
	struct nvme_driver driver;
	struct nvme_driver_queue *queue;
	struct chance chance;
	struct histogram latency;
	uint64_t blocks, operations, began[QUEUE_DEPTH];
	uint32_t shift; /* of an LBA, to a block of 4 KiB */
	uint8_t *data;
	uint16_t buffers[QUEUE_DEPTH]; /* by identifier: which buffer the command uses */
	uint16_t free[QUEUE_DEPTH], free_count;
	uint8_t opcode;
	unsigned depth;
	bool timed; /* the clock is read for each command */
	bool waits; /* for interrupts */
};

static void pin(uint64_t cpu)
{
	cpu_set_t set;

	if (cpu == UINT64_MAX)
		return;
	CPU_ZERO(&set);
	CPU_SET((int)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		bench_fail("sched_setaffinity", -errno);
}

static void copy(uint64_t mib, uint64_t milliseconds)
{
	uint64_t blocks = mib * MIB / BLOCK, operations = 0;
	uint8_t *from = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint8_t *to = aligned_alloc(BLOCK, 32 * BLOCK);
	uint64_t begin, deadline;
	struct chance chance;

	if (from == MAP_FAILED || !to)
		bench_fail("memory", -ENOMEM);
	memset(from, 1, mib * MIB);
	memset(to, 1, 32 * BLOCK);
	chance_init(&chance, 7);
	begin = bench_now_ns();
	deadline = begin + milliseconds * NSEC_PER_MSEC;
	while (bench_now_ns() < deadline) {
		for (unsigned i = 0; i < 1024; i++)
			memcpy(to + i % 32 * BLOCK, from + chance_below(&chance, blocks) * BLOCK,
			       BLOCK);
		operations += 1024;
	}
	bench_print(&(struct bench_result){.operations = operations,
					   .bytes = operations * BLOCK,
					   .elapsed_ns = bench_now_ns() - begin,
					   .cpu_ns = bench_cpu_ns()});
	free(to);
	munmap(from, mib * MIB);
}

static void open_load(struct load *load, const char *path, unsigned depth, bool mapped,
		      uint64_t mib)
{
	uint8_t *id;
	uint64_t size;
	int r = nvme_driver_open(&load->driver, path, 16 * MIB,
				 mapped ? NVME_DRIVER_MAPPED : NVME_DRIVER_SHADOW, 2);

	if (r == 0)
		r = nvme_driver_enable(&load->driver);
	if (r == 0)
		r = nvme_driver_create_queue(&load->driver, 1, QUEUE_DEPTH, 1);
	if (r != 0)
		bench_fail(path, r);
	id = nvme_driver_alloc(&load->driver, BLOCK);
	r = nvme_driver_identify(&load->driver, 0, 1, id);
	if (r != 0)
		bench_fail("identify", r);
	memcpy(&size, id, 8);
	load->shift = 12u - id[128 + 4 * (id[26] & 15) + 2];
	load->blocks = MIN(size >> load->shift, mib * MIB / BLOCK);
	load->queue = &load->driver.queues[1];
	load->depth = depth;
	load->data = nvme_driver_alloc(&load->driver, (size_t)depth * BLOCK);
	for (uint16_t i = 0; i < depth; i++)
		load->free[load->free_count++] = i;
	chance_init(&load->chance, 11);
	histogram_init(&load->latency);
}

static void put(struct load *load, uint64_t block)
{
	uint16_t buffer = load->free[--load->free_count];
	uint64_t lba = block << load->shift;
	struct nvme_driver_sqe sqe = {.opcode = load->opcode,
				      .nsid = 1,
				      .cdw10 = (uint32_t)lba,
				      .cdw11 = (uint32_t)(lba >> 32),
				      .cdw12 = (1u << load->shift) - 1};
	int cid;

	sqe.prp1 = nvme_driver_address(&load->driver, load->data + (size_t)buffer * BLOCK);
	cid = nvme_driver_queue_command(&load->driver, load->queue, &sqe);
	if (cid < 0)
		bench_fail("queue", cid);
	load->buffers[cid] = buffer;
	if (load->timed)
		load->began[cid] = bench_now_ns();
}

/* Takes what has completed; how many. */
static unsigned take(struct load *load)
{
	struct nvme_driver_cqe cqe;
	unsigned count = 0;
	int r;

	while ((r = nvme_driver_poll(&load->driver, load->queue, &cqe)) == 1) {
		if (nvme_driver_status(&cqe) != 0) {
			fprintf(stderr, "bench_nvme: status %#x\n", nvme_driver_status(&cqe));
			exit(1);
		}
		if (load->timed)
			histogram_record(&load->latency, bench_now_ns() - load->began[cqe.cid]);
		load->free[load->free_count++] = load->buffers[cqe.cid];
		count++;
	}
	if (r < 0)
		bench_fail("completion", r);
	load->operations += count;
	return count;
}

static void ring(struct load *load)
{
	int r = nvme_driver_ring(&load->driver, load->queue);

	if (r < 0)
		bench_fail("doorbell", r);
}

static void drain(struct load *load)
{
	uint64_t deadline = bench_now_ns() + 10 * NSEC_PER_SEC;

	while (load->free_count < load->depth) {
		if (take(load) == 0 && bench_now_ns() > deadline)
			bench_fail("completion", -ETIMEDOUT);
	}
}

static void print(const struct load *load, uint64_t elapsed_ns, uint64_t cpu_ns)
{
	printf("{\"operations\": %" PRIu64 ", \"seconds\": %.6f, \"client_cpu_seconds\": %.6f, "
	       "\"traps\": %" PRIu64 ", \"p50_us\": %.3f, \"p99_us\": %.3f, \"mean_us\": %.3f}\n",
	       load->operations, (double)elapsed_ns / 1e9, (double)cpu_ns / 1e9, load->driver.traps,
	       (double)histogram_percentile_ns(&load->latency, 50) / 1e3,
	       (double)histogram_percentile_ns(&load->latency, 99) / 1e3,
	       (double)elapsed_ns / 1e3 / (double)MAX(load->operations, 1u));
}

static void wait_for_interrupt(struct load *load)
{
	struct pollfd polled = {load->driver.events[1], POLLIN, 0};

	if (poll(&polled, 1, 10000) == 0)
		bench_fail("interrupt", -ETIMEDOUT);
	(void)nvme_driver_interrupts(&load->driver, 1);
}

static void random_load(struct load *load, uint64_t milliseconds)
{
	uint64_t begin = bench_now_ns(), cpu = bench_cpu_ns();
	uint64_t deadline = begin + milliseconds * NSEC_PER_MSEC;
	uint64_t seen = 0, seen_ns = begin, now;

	load->driver.traps = 0;
	do {
		if (load->free_count > 0) {
			while (load->free_count > 0)
				put(load, chance_below(&load->chance, load->blocks));
			ring(load);
		}
		if (load->waits && take(load) == 0)
			wait_for_interrupt(load);
		for (int i = 0; i < 64 && !load->waits; i++)
			if (take(load) > 0)
				break;
		now = bench_now_ns();
		if (load->operations != seen)
			seen_ns = now;
		else if (now - seen_ns > 10 * NSEC_PER_SEC)
			bench_fail("completion", -ETIMEDOUT);
		seen = load->operations;
	} while (now < deadline);
	drain(load);
	print(load, bench_now_ns() - begin, bench_cpu_ns() - cpu);
}

static void fill(struct load *load)
{
	uint64_t begin = bench_now_ns(), cpu = bench_cpu_ns();

	load->opcode = 1;
	for (uint64_t block = 0; block < load->blocks;) {
		while (load->free_count > 0 && block < load->blocks)
			put(load, block++);
		ring(load);
		while (take(load) == 0)
			continue;
	}
	drain(load);
	print(load, bench_now_ns() - begin, bench_cpu_ns() - cpu);
}

static void sleep_us(uint64_t us)
{
	nanosleep(&(struct timespec){.tv_nsec = (long)(us * NSEC_PER_USEC)}, NULL);
}

static void wake(struct load *load, uint64_t idle_us, uint64_t milliseconds)
{
	uint64_t begin = bench_now_ns(), cpu = bench_cpu_ns();
	uint64_t deadline = begin + milliseconds * NSEC_PER_MSEC;

	while (bench_now_ns() < deadline) {
		sleep_us(idle_us);
		put(load, chance_below(&load->chance, load->blocks));
		ring(load);
		drain(load);
	}
	print(load, bench_now_ns() - begin, bench_cpu_ns() - cpu);
}

static void answer_events(int event, uint64_t *answers)
{
	uint64_t count;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(0);
	while (read(event, &count, sizeof(count)) == sizeof(count))
		__atomic_fetch_add(answers, 1, __ATOMIC_RELEASE);
	_exit(1);
}

static void sleeper(struct load *load, uint64_t idle_us, uint64_t milliseconds)
{
	uint64_t begin = bench_now_ns(), cpu = bench_cpu_ns(), one = 1;
	uint64_t deadline = begin + milliseconds * NSEC_PER_MSEC;
	uint64_t *answers =
		mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int event = eventfd(0, EFD_CLOEXEC);
	pid_t process;

	if (answers == MAP_FAILED || event < 0)
		bench_fail("sleeper", -errno);
	process = fork();
	if (process == 0)
		answer_events(event, answers);
	while (bench_now_ns() < deadline) {
		uint64_t since;

		sleep_us(idle_us);
		since = bench_now_ns();
		if (write(event, &one, sizeof(one)) != sizeof(one))
			bench_fail("event", -errno);
		load->operations++;
		while (__atomic_load_n(answers, __ATOMIC_ACQUIRE) != load->operations)
			continue;
		histogram_record(&load->latency, bench_now_ns() - since);
	}
	kill(process, SIGKILL);
	(void)waitpid(process, NULL, 0);
	print(load, bench_now_ns() - begin, bench_cpu_ns() - cpu);
}

static void idle(char **paths)
{
	char byte;

	for (; *paths; paths++) {
		struct load *load = calloc(1, sizeof(*load)); /* stays until the process ends */

		if (!load)
			bench_fail("memory", -ENOMEM);
		load->opcode = 2;
		open_load(load, *paths, 1, false, 1);
		put(load, 0);
		ring(load);
		drain(load);
	}
	printf("{\"connected\": true}\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		continue;
}

int main(int argc, char **argv)
{
	static struct load load;
	const char *what = argc > 1 ? argv[1] : "";
	uint64_t milliseconds = bench_option(argc, argv, "milliseconds", 1000);
	uint64_t mib = bench_option(argc, argv, "mib", 1024);
	uint64_t depth = bench_option(argc, argv, "depth", 1);

	pin(bench_option(argc, argv, "cpu", UINT64_MAX));
	if (strcmp(what, "copy") == 0) {
		copy(mib, milliseconds);
		return 0;
	}
	histogram_init(&load.latency);
	if (strcmp(what, "sleeper") == 0) {
		sleeper(&load, bench_option(argc, argv, "idle-us", 3000), milliseconds);
		return 0;
	}
	if (argc >= 3 && strcmp(what, "idle") == 0) {
		idle(argv + 2);
		return 0;
	}
	if (argc < 3 || depth == 0 || depth >= QUEUE_DEPTH)
		bench_fail("arguments: see the head of bench_nvme.c", -EINVAL);
	if (strcmp(what, "fill") == 0)
		depth = 64;
	load.opcode = strcmp(what, "write") == 0 ? 1 : 2;
	load.timed = depth == 1;
	load.waits = bench_option(argc, argv, "wait", 0);
	open_load(&load, argv[2], (unsigned)depth, bench_option(argc, argv, "mapped", 0), mib);
	if (strcmp(what, "fill") == 0)
		fill(&load);
	else if (strcmp(what, "wake") == 0)
		wake(&load, bench_option(argc, argv, "idle-us", 3000), milliseconds);
	else
		random_load(&load, milliseconds);
	nvme_driver_close(&load.driver);
	return 0;
}
