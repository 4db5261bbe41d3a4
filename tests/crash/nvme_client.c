/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine's place at a keeper's socket: verified load (nvme_load.h) until it is told to
 * stop, whatever happens to the engine meanwhile.
 *
 *     nvme_client SOCKET [--mib N] [--queues N] [--depth N] [--seed N] [--nsid N] [--wait-ms N]
 *                        [--doorbells trapped|shadow|mapped] [--plain]
 *
 * Says "ready" when all is written and the load begins. Obeys lines on standard input and answers
 * each with one line of JSON:
 *     show          the totals so far
 *     reset         disables and enables the controller with commands in flight
 *     device-reset  the same by a reset of the device
 *     remap         takes memory away that commands in flight use, and gives it back
 *     stop          waits for what is in flight, reads all back, and ends
 * Anything that is not as it must be ends it with status 1 and a message.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"
#include "nvme_load.h"

#define LOOK_NS (50 * NSEC_PER_MSEC) /* how often a register is read, as a guest's watchdog does \
				      */

static struct nvme_driver driver;
static struct nvme_load load;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static int show(uint64_t began_ns)
{
	const struct nvme_load_totals *t = &load.totals;
	uint64_t operations = t->reads + t->writes + t->zeroes + t->deallocations + t->flushes +
			      t->compares + t->swaps + t->copies;

	printf("{\"operations\": %" PRIu64 ", \"reads\": %" PRIu64 ", \"writes\": %" PRIu64
	       ", \"zeroes\": %" PRIu64 ", \"deallocations\": %" PRIu64 ", \"flushes\": %" PRIu64
	       ", \"compares\": %" PRIu64 ", \"swaps\": %" PRIu64 ", \"copies\": %" PRIu64,
	       operations, t->reads, t->writes, t->zeroes, t->deallocations, t->flushes,
	       t->compares, t->swaps, t->copies);
	printf(", \"resets\": %" PRIu64 ", \"remaps\": %" PRIu64 ", \"checked_blocks\": %" PRIu64
	       ", \"longest_ms\": %.3f, \"longest_message_ms\": %.3f, \"traps\": %" PRIu64
	       ", \"seconds\": %.3f}\n",
	       t->resets, t->remaps, t->checked_blocks, (double)t->longest_ns / 1e6,
	       (double)driver.client.longest_ns / 1e6, driver.traps,
	       (double)(now_ns() - began_ns) / 1e9);
	fflush(stdout);
	load.totals.longest_ns = driver.client.longest_ns = 0;
	return 0;
}

/* A line that is there, or NULL. At the end of the input it is "stop". */
static const char *take_line(void)
{
	static char line[64];
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	size_t length = 0;

	if (poll(&in, 1, 0) <= 0)
		return NULL;
	while (length < sizeof(line) - 1) {
		if (read(STDIN_FILENO, line + length, 1) <= 0)
			return "stop";
		if (line[length] == '\n')
			break;
		length++;
	}
	line[length] = '\0';
	return line;
}

/* 1: the end. */
static int obey(const char *line, uint64_t began_ns)
{
	bool stop = strcmp(line, "stop") == 0;
	int r = -EINVAL;

	if (stop) {
		r = nvme_load_drain(&load);
		if (r == 0)
			r = nvme_load_check(&load);
	} else if (strcmp(line, "reset") == 0) {
		r = nvme_load_reset(&load, false);
	} else if (strcmp(line, "device-reset") == 0) {
		r = nvme_load_reset(&load, true);
	} else if (strcmp(line, "remap") == 0) {
		r = nvme_load_remap(&load);
	} else if (strcmp(line, "show") == 0) {
		r = 0;
	}
	if (r == 0)
		r = show(began_ns);
	return r == 0 ? stop : r;
}

static int look(void)
{
	uint32_t status;
	int r = nvme_driver_get32(&driver, NVME_REG_CSTS, &status);

	if (r < 0)
		return r;
	if ((status & 3) != 1) {
		snprintf(load.failure, sizeof(load.failure), "CSTS is %#x", status);
		return -EIO;
	}
	return 0;
}

static int run(void)
{
	uint64_t began_ns = now_ns(), looked_ns = began_ns;

	printf("ready\n");
	fflush(stdout);
	for (;;) {
		const char *line = take_line();
		int r = line ? obey(line, began_ns) : 0;

		if (r == 0 && now_ns() - looked_ns > LOOK_NS) {
			looked_ns = now_ns();
			r = look();
		}
		for (int i = 0; i < 16 && r == 0; i++) {
			r = nvme_load_step(&load);
			r = MIN(r, 0);
		}
		if (r != 0)
			return MIN(r, 0);
	}
}

static int parse(int argc, char **argv, struct nvme_load_options *options,
		 enum nvme_driver_doorbells *doorbells)
{
	static const struct option names[] = {
		{"mib", required_argument, NULL, 'm'},
		{"queues", required_argument, NULL, 'q'},
		{"depth", required_argument, NULL, 'd'},
		{"seed", required_argument, NULL, 's'},
		{"nsid", required_argument, NULL, 'n'},
		{"wait-ms", required_argument, NULL, 'w'},
		{"doorbells", required_argument, NULL, 'b'},
		{"plain", no_argument, NULL, 'p'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		unsigned long number = optarg ? strtoul(optarg, NULL, 0) : 0;

		if (option == 'm')
			options->bytes = number * MIB;
		else if (option == 'q')
			options->queues = (unsigned)number;
		else if (option == 'd')
			options->depth = (unsigned)number;
		else if (option == 's')
			options->seed = number;
		else if (option == 'n')
			options->nsid = (uint32_t)number;
		else if (option == 'w')
			options->wait_ms = (unsigned)number;
		else if (option == 'p')
			options->changes_only = true;
		else if (option == 'b')
			*doorbells = strcmp(optarg, "mapped") == 0    ? NVME_DRIVER_MAPPED
				     : strcmp(optarg, "trapped") == 0 ? NVME_DRIVER_TRAPPED
								      : NVME_DRIVER_SHADOW;
		else
			return -EINVAL;
	}
	return optind + 1 == argc && options->queues > 0 && options->queues < NVME_DRIVER_QUEUES &&
			       options->depth > 0 && options->depth <= 300
		       ? 0
		       : -EINVAL;
}

int main(int argc, char **argv)
{
	struct nvme_load_options options = {.nsid = 1,
					    .bytes = 32 * MIB,
					    .queues = 2,
					    .depth = 16,
					    .seed = 1,
					    .wait_ms = 30000};
	enum nvme_driver_doorbells doorbells = NVME_DRIVER_SHADOW;
	int r = parse(argc, argv, &options, &doorbells);

	if (r < 0) {
		fprintf(stderr, "nvme_client: see the head of nvme_client.c\n");
		return 2;
	}
	r = nvme_driver_open(&driver, argv[optind], nvme_load_memory_bytes(&options), doorbells, 2);
	if (r < 0) {
		fprintf(stderr, "nvme_client: %s: %s\n", argv[optind], strerror(-r));
		return 1;
	}
	r = nvme_load_start(&load, &driver, &options);
	if (r == 0)
		r = run();
	if (r < 0)
		fprintf(stderr, "nvme_client: %s\n", load.failure[0] ? load.failure : strerror(-r));
	nvme_load_free(&load);
	nvme_driver_close(&driver);
	return r < 0;
}
