/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine with memory volumes behind keepers, for tests and measurements without a daemon. Serves
 * until its standard input is closed or it gets SIGTERM or SIGINT.
 *
 *     nvme_memory [--size BYTES] [--block 512|4096] [--namespaces N] [--poll-us N] [--cpu N]
 *                 [--quiet] LINK...
 *
 * LINK is the link socket of a keeper. Says "serving" when all are served. A keeper that goes away
 * is left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "block/memory.h"
#include "frontend/nvme/link.h"
#include "reactor/fiber.h"
#include "world/real.h"

#define LINKS_MAX      64
#define NAMESPACES_MAX 4

struct served {
	struct nvme_link *link;
	struct block_volume *volumes[NAMESPACES_MAX];
};

struct rig {
	uint64_t size_bytes, poll_ns;
	uint32_t block_bytes;
	unsigned namespaces, index, count;
	int fence_fd;
	const char *const *paths;
	struct reactor *reactor;
	struct served served[LINKS_MAX];
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static void on_lost(void *context, int error)
{
	log_warning("nvme_memory", "keeper is gone", "keeper=%s error=%d", (const char *)context,
		    error);
}

static int attach(struct rig *rig, struct served *served, unsigned number)
{
	for (unsigned i = 0; i < rig->namespaces; i++) {
		struct nvme_namespace_options options = {
			.nsid = i + 1, .nguid = {UINT64_C(0x5a125e11), number + i}, .thin = true};
		int r = memory_volume_new(rig->reactor, rig->size_bytes, rig->block_bytes,
					  &served->volumes[i]);

		if (r == 0) {
			options.volume = served->volumes[i];
			r = nvme_namespace_attach(nvme_link_controller(served->link), &options);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int serve_link(struct rig *rig, unsigned number)
{
	struct served *served = &rig->served[number];
	struct nvme_link_options options = {
		.home = rig->reactor,
		.path = rig->paths[number],
		.fence_fd = rig->fence_fd,
		.controller = {.name = "memory",
			       .serial = "MEMORY",
			       .model = "Sarsen memory",
			       .controller_id = (uint16_t)(number + 1),
			       .subsystem_id = number + 1},
		.lost = on_lost,
		.context = (void *)rig->paths[number],
	};
	int r = nvme_link_open(&options, &served->link);

	if (r == 0)
		r = attach(rig, served, number);
	if (r == 0)
		nvme_link_start(served->link);
	else
		fprintf(stderr, "nvme_memory: %s: %s\n", rig->paths[number], strerror(-r));
	return r;
}

static int start(void *arg)
{
	struct rig *rig = arg;
	int r = 0;

	for (unsigned i = 0; i < rig->count && r == 0; i++)
		r = serve_link(rig, i);
	return r;
}

static int stop(void *arg)
{
	struct rig *rig = arg;

	for (unsigned i = 0; i < rig->count; i++) {
		nvme_link_close(rig->served[i].link);
		for (unsigned j = 0; j < NAMESPACES_MAX; j++)
			block_volume_free(rig->served[i].volumes[j]);
	}
	return 0;
}

static void wait_for_the_end(void)
{
	printf("serving\n");
	fflush(stdout);
	while (!stopped) {
		struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
		char byte;

		if (poll(&in, 1, -1) > 0 && read(STDIN_FILENO, &byte, 1) <= 0)
			break;
	}
}

static int run(struct rig *rig)
{
	struct reactor_options options = {
		.index = rig->index, .pin = rig->index != UINT_MAX, .poll_ns = rig->poll_ns};
	struct world *world;
	int fence[2];
	int r = pipe2(fence, O_CLOEXEC) < 0 ? -errno : 0;

	if (r == 0)
		r = world_real_new(
			&(struct world_real_options){.fence_fd = -1, .fence_pipe_fd = fence[1]},
			&world);
	if (r < 0)
		return r;
	rig->fence_fd = fence[0];
	if (rig->index == UINT_MAX)
		options.index = 0;
	r = reactor_new(world, &options, &rig->reactor);
	close(fence[1]); /* the ring has it now, and nobody else */
	if (r == 0)
		r = reactor_start(rig->reactor);
	if (r < 0)
		return r; /* the process ends with it */
	r = fiber_call_blocking(rig->reactor, FIBER_CONTROL, start, rig);
	if (r == 0)
		wait_for_the_end();
	(void)fiber_call_blocking(rig->reactor, FIBER_CONTROL, stop, rig);
	reactor_stop(rig->reactor);
	reactor_free(rig->reactor);
	world_real_free(world);
	close(fence[0]);
	return r;
}

static int parse(int argc, char **argv, struct rig *rig)
{
	static const struct option options[] = {
		{"size", required_argument, NULL, 's'},
		{"block", required_argument, NULL, 'b'},
		{"poll-us", required_argument, NULL, 'u'},
		{"namespaces", required_argument, NULL, 'n'},
		{"cpu", required_argument, NULL, 'c'},
		{"quiet", no_argument, NULL, 'q'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long long number = optarg ? strtoull(optarg, NULL, 0) : 0;

		if (option == 's')
			rig->size_bytes = number;
		else if (option == 'b')
			rig->block_bytes = (uint32_t)number;
		else if (option == 'u')
			rig->poll_ns = number * NSEC_PER_USEC;
		else if (option == 'n')
			rig->namespaces = (unsigned)number;
		else if (option == 'c')
			rig->index = (unsigned)number;
		else if (option == 'q')
			log_set_level(LOG_LEVEL_ERROR);
		else
			return -EINVAL;
	}
	rig->paths = (const char *const *)argv + optind;
	rig->count = (unsigned)(argc - optind);
	return rig->count > 0 && rig->count <= LINKS_MAX && rig->namespaces > 0 &&
			       rig->namespaces <= NAMESPACES_MAX
		       ? 0
		       : -EINVAL;
}

int main(int argc, char **argv)
{
	static struct rig rig = {.size_bytes = 64 * MIB,
				 .block_bytes = 512,
				 .namespaces = 1,
				 .index = UINT_MAX,
				 .poll_ns = 50 * NSEC_PER_USEC};
	struct sigaction action = {.sa_handler = on_signal};
	int r = parse(argc, argv, &rig);

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	if (r == 0)
		r = run(&rig);
	if (r < 0)
		fprintf(stderr, "nvme_memory: %s\n", strerror(-r));
	return r < 0;
}
