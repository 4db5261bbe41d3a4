/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An iSCSI server on memory volumes, for tests and measurements with real clients. Prints one URL
 * for each LUN and serves until its standard input is closed or it gets SIGTERM or SIGINT.
 *
 *     iscsi_memory [--port N] [--size BYTES] [--block 512|4096] [--physical BYTES] [--luns N]
 *                  [--thick] [--read-only] [--address A] [--poll-us N] [--memory BYTES]
 *                  [--reactors N] [--targets] [--removable] [--fill]
 *                  [--chap USER:SECRET[:OWN-USER:OWN-SECRET]]
 *
 * With --targets each LUN has a target of its own. Volumes are spread over the reactors.
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

#define TARGET       "iqn.2026-01.org.sarsen:default.memory"
#define LUNS_MAX     16
#define REACTORS_MAX 4u

struct settings {
	struct iscsi_server_options server;
	uint64_t size_bytes, poll_ns;
	uint32_t block_bytes, physical_bytes;
	unsigned luns, reactors;
	bool thin, read_only, removable, targets, fill;
	struct iscsi_access access;
};

struct rig {
	struct settings settings;
	struct reactor *reactors[REACTORS_MAX];
	struct iscsi_server *server;
	struct block_volume *volumes[LUNS_MAX];
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static void name_target(const struct rig *rig, unsigned lun, char ret_name[ISCSI_NAME_MAX + 1])
{
	snprintf(ret_name, ISCSI_NAME_MAX + 1, TARGET);
	if (rig->settings.targets && lun > 0)
		snprintf(ret_name, ISCSI_NAME_MAX + 1, TARGET "%u", lun);
}

/* Memory that nobody has touched yet costs a page fault at its first use, which a measurement would
 * count as the target's. */
struct fill {
	struct block_request request;
	struct fiber_queue queue;
	bool finished;
	int result;
};

static void filled(struct block_request *request, int result)
{
	struct fill *fill = CONTAINER_OF(request, struct fill, request);

	fill->result = result;
	fill->finished = true;
	fiber_queue_wake_all(&fill->queue);
}

static int fill_at_home(void *arg)
{
	static uint8_t data[MIB];
	struct block_volume *volume = arg;
	struct iovec iov = {data, sizeof(data)};
	struct fill fill = {.request = {.op = BLOCK_WRITE, .iov = &iov, .iov_count = 1}};
	int r = 0;

	fiber_queue_init(&fill.queue);
	for (uint64_t at = 0; at < volume->size_bytes && r == 0; at += sizeof(data)) {
		iov.iov_len = MIN(sizeof(data), volume->size_bytes - at);
		fill.request.offset = at;
		fill.request.length = iov.iov_len;
		fill.request.done = filled;
		fill.finished = false;
		block_submit(volume, &fill.request);
		while (!fill.finished)
			fiber_queue_wait(&fill.queue);
		r = fill.result;
	}
	return r;
}

static int add_target(struct rig *rig, unsigned lun)
{
	char name[ISCSI_NAME_MAX + 1];
	int r;

	name_target(rig, lun, name);
	r = iscsi_server_add_target(rig->server, name);
	return r < 0 ? r : iscsi_server_set_access(rig->server, name, &rig->settings.access);
}

static int add_lun(struct rig *rig, unsigned lun)
{
	char name[ISCSI_NAME_MAX + 1];
	struct iscsi_lun spec = {.serial = UINT64_C(0x5a125e1100000000) + lun,
				 .product = "memory",
				 .thin = rig->settings.thin,
				 .read_only = rig->settings.read_only,
				 .removable = rig->settings.removable,
				 .atomic_bytes = 256 * 1024};
	int r = memory_volume_new(rig->reactors[(lun + 1) % rig->settings.reactors],
				  rig->settings.size_bytes, rig->settings.block_bytes,
				  &rig->volumes[lun]);

	if (r < 0)
		return r;
	if (rig->settings.fill)
		r = fiber_call(rig->volumes[lun]->home, FIBER_CONTROL, fill_at_home,
			       rig->volumes[lun]);
	if (r < 0)
		return r;
	rig->volumes[lun]->physical_block_bytes =
		MAX(rig->settings.physical_bytes, rig->settings.block_bytes);
	spec.volume = rig->volumes[lun];
	name_target(rig, lun, name);
	return iscsi_server_add_lun(rig->server, name, rig->settings.targets ? 0 : (uint16_t)lun,
				    &spec);
}

static int start(void *arg)
{
	struct rig *rig = arg;
	int r;

	rig->settings.server.reactors = rig->reactors;
	rig->settings.server.reactor_count = rig->settings.reactors;
	r = iscsi_server_new(rig->reactors[0], &rig->settings.server, &rig->server);
	for (unsigned lun = 0; lun < rig->settings.luns && r == 0; lun++) {
		if (lun == 0 || rig->settings.targets)
			r = add_target(rig, lun);
		if (r == 0)
			r = add_lun(rig, lun);
	}
	return r;
}

static int stop(void *arg)
{
	iscsi_server_free(((struct rig *)arg)->server);
	return 0;
}

static int free_volume(void *arg)
{
	block_volume_free(arg);
	return 0;
}

static void serve(struct rig *rig)
{
	char address[64];
	uint16_t port;

	iscsi_server_address(rig->server, address, sizeof(address), &port);
	for (unsigned lun = 0; lun < rig->settings.luns; lun++) {
		char name[ISCSI_NAME_MAX + 1];

		name_target(rig, lun, name);
		printf("iscsi://%s:%u/%s/%u\n", address, port, name,
		       rig->settings.targets ? 0 : lun);
	}
	fflush(stdout);
	while (!stopped) {
		struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
		char byte;

		if (poll(&in, 1, -1) > 0 && read(STDIN_FILENO, &byte, 1) <= 0)
			break;
	}
}

static int start_reactors(struct rig *rig, struct world *world)
{
	for (unsigned i = 0; i < rig->settings.reactors; i++) {
		struct reactor_options options = {.index = i, .poll_ns = rig->settings.poll_ns};
		int r = reactor_new(world, &options, &rig->reactors[i]);

		if (r == 0)
			r = reactor_start(rig->reactors[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static void stop_all(struct rig *rig)
{
	(void)fiber_call_blocking(rig->reactors[0], FIBER_CONTROL, stop, rig);
	for (unsigned lun = 0; lun < LUNS_MAX; lun++) {
		if (rig->volumes[lun])
			(void)fiber_call_blocking(rig->volumes[lun]->home, FIBER_CONTROL,
						  free_volume, rig->volumes[lun]);
	}
	for (unsigned i = 0; i < rig->settings.reactors; i++)
		reactor_stop(rig->reactors[i]);
	for (unsigned i = 0; i < rig->settings.reactors; i++)
		reactor_free(rig->reactors[i]);
}

static int run(struct rig *rig)
{
	struct world *world;
	int r = world_real_new(&(struct world_real_options){.fence_fd = -1}, &world);

	if (r < 0)
		return r;
	r = start_reactors(rig, world);
	if (r < 0)
		return r; /* the process ends with it */
	r = fiber_call_blocking(rig->reactors[0], FIBER_CONTROL, start, rig);
	if (r == 0)
		serve(rig);
	stop_all(rig);
	world_real_free(world);
	return r;
}

static void parse_chap(char *text, struct iscsi_chap *ret_chap)
{
	const struct {
		char *to;
		size_t size;
	} fields[] = {{ret_chap->user, sizeof(ret_chap->user)},
		      {ret_chap->secret, sizeof(ret_chap->secret)},
		      {ret_chap->own_user, sizeof(ret_chap->own_user)},
		      {ret_chap->own_secret, sizeof(ret_chap->own_secret)}};
	char *rest = NULL;
	const char *word = strtok_r(text, ":", &rest);

	for (size_t i = 0; i < ARRAY_SIZE(fields) && word; i++) {
		snprintf(fields[i].to, fields[i].size, "%s", word);
		word = strtok_r(NULL, ":", &rest);
	}
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
		{"chap", required_argument, NULL, 'C'},
		{"removable", no_argument, NULL, 'R'},
		{"address", required_argument, NULL, 'a'},
		{"poll-us", required_argument, NULL, 'u'},
		{"reactors", required_argument, NULL, 'e'},
		{"physical", required_argument, NULL, 'y'},
		{"memory", required_argument, NULL, 'm'},
		{"quiet", no_argument, NULL, 'q'},
		{"targets", no_argument, NULL, 'T'},
		{"fill", no_argument, NULL, 'f'},
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
		case 'e':
			settings->reactors = (unsigned)MIN(MAX(number, 1u), REACTORS_MAX);
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
		case 'C':
			parse_chap(optarg, &settings->access.chap);
			break;
		case 'R':
			settings->removable = true;
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
		case 'f':
			settings->fill = true;
			break;
		case 'T':
			settings->targets = true;
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
					      .reactors = 1,
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
