/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An iSCSI server on memory volumes, for tests and measurements with real clients. Prints one URL
 * for each LUN and serves until its standard input is closed or it gets SIGTERM or SIGINT.
 *
 *     iscsi_memory [--port N] [--size BYTES] [--block 512|4096] [--physical BYTES] [--luns N]
 *                  [--thick] [--read-only] [--address A] [--poll-us N] [--memory BYTES]
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "block/memory.h"
#include "frontend/iscsi/iscsi.h"
#include "reactor/fiber.h"
#include "world/real.h"

#define TARGET   "iqn.2026-01.org.sarsen:default.memory"
#define LUNS_MAX 16

struct settings {
	struct iscsi_server_options server;
	uint64_t size_bytes, poll_ns;
	uint32_t block_bytes, physical_bytes;
	unsigned luns;
	bool thin, read_only;
};

struct rig {
	struct settings settings;
	struct reactor *reactor;
	struct iscsi_server *server;
	struct block_volume *volumes[LUNS_MAX];
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static int add_lun(struct rig *rig, unsigned lun)
{
	struct iscsi_lun spec = {.serial = UINT64_C(0x5a125e1100000000) + lun,
				 .product = "memory",
				 .thin = rig->settings.thin,
				 .read_only = rig->settings.read_only};
	int r = memory_volume_new(rig->reactor, rig->settings.size_bytes, rig->settings.block_bytes,
				  &rig->volumes[lun]);

	if (r < 0)
		return r;
	rig->volumes[lun]->physical_block_bytes =
		MAX(rig->settings.physical_bytes, rig->settings.block_bytes);
	spec.volume = rig->volumes[lun];
	return iscsi_server_add_lun(rig->server, TARGET, (uint16_t)lun, &spec);
}

static int start(void *arg)
{
	struct rig *rig = arg;
	int r = iscsi_server_new(rig->reactor, &rig->settings.server, &rig->server);

	if (r == 0)
		r = iscsi_server_add_target(rig->server, TARGET);
	for (unsigned lun = 0; lun < rig->settings.luns && r == 0; lun++)
		r = add_lun(rig, lun);
	return r;
}

static int stop(void *arg)
{
	struct rig *rig = arg;

	iscsi_server_free(rig->server);
	for (unsigned lun = 0; lun < LUNS_MAX; lun++)
		block_volume_free(rig->volumes[lun]);
	return 0;
}

static void serve(struct rig *rig)
{
	char address[64];
	uint16_t port;

	iscsi_server_address(rig->server, address, sizeof(address), &port);
	for (unsigned lun = 0; lun < rig->settings.luns; lun++)
		printf("iscsi://%s:%u/%s/%u\n", address, port, TARGET, lun);
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
	struct reactor_options options = {.poll_ns = rig->settings.poll_ns};
	struct world *world;
	int r = world_real_new(&(struct world_real_options){.fence_fd = -1}, &world);

	if (r < 0)
		return r;
	r = reactor_new(world, &options, &rig->reactor);
	if (r < 0)
		return r;
	r = reactor_start(rig->reactor);
	if (r < 0)
		return r;
	r = fiber_call_blocking(rig->reactor, FIBER_CONTROL, start, rig);
	if (r == 0)
		serve(rig);
	(void)fiber_call_blocking(rig->reactor, FIBER_CONTROL, stop, rig);
	reactor_stop(rig->reactor);
	reactor_free(rig->reactor);
	world_real_free(world);
	return r;
}

static int parse(int argc, char **argv, struct settings *settings)
{
	static const struct option options[] = {
		{"port", required_argument, NULL, 'p'},
		{"size", required_argument, NULL, 's'},
		{"block", required_argument, NULL, 'b'},
		{"luns", required_argument, NULL, 'l'},
		{"thick", no_argument, NULL, 't'},
		{"read-only", no_argument, NULL, 'r'},
		{"address", required_argument, NULL, 'a'},
		{"poll-us", required_argument, NULL, 'u'},
		{"physical", required_argument, NULL, 'y'},
		{"memory", required_argument, NULL, 'm'},
		{"quiet", no_argument, NULL, 'q'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long long number = optarg ? strtoull(optarg, NULL, 0) : 0;

		switch (option) {
		case 'p':
			settings->server.port = (uint16_t)number;
			break;
		case 's':
			settings->size_bytes = number;
			break;
		case 'b':
			settings->block_bytes = (uint32_t)number;
			break;
		case 'y':
			settings->physical_bytes = (uint32_t)number;
			break;
		case 'l':
			settings->luns = (unsigned)number;
			break;
		case 't':
			settings->thin = false;
			break;
		case 'r':
			settings->read_only = true;
			break;
		case 'a':
			settings->server.address = optarg;
			break;
		case 'u':
			settings->poll_ns = number * NSEC_PER_USEC;
			break;
		case 'm':
			settings->server.memory_bytes = number;
			break;
		case 'q':
			log_set_level(LOG_LEVEL_ERROR);
			break;
		default:
			return -EINVAL;
		}
	}
	return settings->luns > 0 && settings->luns <= LUNS_MAX ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	static struct rig rig = {.settings = {.server.address = "127.0.0.1",
					      .size_bytes = 64 * MIB,
					      .block_bytes = 512,
					      .luns = 1,
					      .thin = true}};
	struct sigaction action = {.sa_handler = on_signal};
	int r = parse(argc, argv, &rig.settings);

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	if (r == 0)
		r = run(&rig);
	if (r < 0)
		fprintf(stderr, "iscsi_memory: %s\n", strerror(-r));
	return r < 0;
}
