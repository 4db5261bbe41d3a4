/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An initiator (libiscsi) that reads or writes LUNs as fast as the target answers, for any target;
 * a session for each URL, all in this one thread, so that their shares are the target's doing.
 * Besides the operations it prints the processor time of the target's process, so that a shared
 * machine does not matter.
 *
 *     bench_iscsi URL[,URL...] read|write random|sequential BLOCK_BYTES DEPTH MILLISECONDS
 * TARGET_PID
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "base/macros.h"
#include "block/chance.h"

#define DEPTH_MAX 256
#define LOADS_MAX 16u

struct load {
	struct iscsi_context *iscsi;
	struct chance chance;
	int lun;
	bool write, random;
	uint32_t logical_bytes, length;
	uint64_t size_bytes, next, deadline_ns, operations;
	unsigned depth, in_flight;
	const char *pid;
	unsigned char *data;
};

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "bench_iscsi: %s: %s\n", what, why);
	exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* User and system time of the process so far. */
static double process_seconds(const char *pid)
{
	char path[64], text[1024];
	unsigned long user, kernel;
	const char *at;
	size_t length;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	file = fopen(path, "r");
	if (!file)
		fail(path, strerror(errno));
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = '\0';
	at = strrchr(text, ')'); /* the name may hold anything */
	if (!at || sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
			  &kernel) != 2)
		fail(path, "cannot be read");
	return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static void submit(struct load *load);

static void done(struct iscsi_context *iscsi, int status, void *command_data, void *private_data)
{
	struct load *load = private_data;

	if (status != SCSI_STATUS_GOOD)
		fail("a command failed", iscsi_get_error(iscsi));
	scsi_free_scsi_task(command_data);
	load->operations++;
	load->in_flight--;
	if (now_ns(CLOCK_MONOTONIC) < load->deadline_ns)
		submit(load);
}

static void submit(struct load *load)
{
	uint64_t slots = load->size_bytes / load->length;
	uint64_t slot = load->random ? chance_below(&load->chance, slots) : load->next++ % slots;
	uint64_t lba = slot * load->length / load->logical_bytes;
	struct scsi_task *task;

	if (load->write)
		task = iscsi_write16_task(load->iscsi, load->lun, lba, load->data, load->length,
					  (int)load->logical_bytes, 0, 0, 0, 0, 0, done, load);
	else
		task = iscsi_read16_task(load->iscsi, load->lun, lba, load->length,
					 (int)load->logical_bytes, 0, 0, 0, 0, 0, done, load);
	if (!task)
		fail("cannot send", iscsi_get_error(load->iscsi));
	load->in_flight++;
}

static unsigned in_flight(const struct load *loads, unsigned count)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < count; i++)
		sum += loads[i].in_flight;
	return sum;
}

static void run(struct load *loads, unsigned count)
{
	for (unsigned i = 0; i < count * loads->depth; i++)
		submit(&loads[i % count]);
	while (in_flight(loads, count) > 0) {
		struct pollfd fds[LOADS_MAX];

		for (unsigned i = 0; i < count; i++)
			fds[i] = (struct pollfd){.fd = iscsi_get_fd(loads[i].iscsi),
						 .events =
							 (short)iscsi_which_events(loads[i].iscsi)};
		if (poll(fds, count, 10000) <= 0)
			fail("no answer", "timed out");
		for (unsigned i = 0; i < count; i++) {
			if (fds[i].revents && iscsi_service(loads[i].iscsi, fds[i].revents) < 0)
				fail("connection", iscsi_get_error(loads[i].iscsi));
		}
	}
}

static void log_in(struct load *load, const char *url_text)
{
	struct iscsi_url *url;
	struct scsi_task *task;
	struct scsi_readcapacity16 *capacity;

	load->iscsi = iscsi_create_context("iqn.2026-01.org.sarsen:bench");
	url = load->iscsi ? iscsi_parse_full_url(load->iscsi, url_text) : NULL;
	if (!url)
		fail(url_text, "no URL of a LUN");
	iscsi_set_session_type(load->iscsi, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(load->iscsi, ISCSI_HEADER_DIGEST_NONE);
	if (iscsi_set_targetname(load->iscsi, url->target) != 0 ||
	    iscsi_full_connect_sync(load->iscsi, url->portal, url->lun) != 0)
		fail("login", iscsi_get_error(load->iscsi));
	load->lun = url->lun;
	iscsi_destroy_url(url);
	task = iscsi_readcapacity16_sync(load->iscsi, load->lun);
	capacity = task ? scsi_datain_unmarshall(task) : NULL;
	if (!capacity)
		fail("capacity", iscsi_get_error(load->iscsi));
	load->logical_bytes = capacity->block_length;
	load->size_bytes = (capacity->returned_lba + 1) * capacity->block_length;
	scsi_free_scsi_task(task);
}

/* All LUNs have the same work. */
static unsigned prepare(struct load *loads, char **argv)
{
	char *rest = NULL;
	const char *url = strtok_r(argv[1], ",", &rest);
	unsigned count = 0;

	for (; url && count < LOADS_MAX; url = strtok_r(NULL, ",", &rest)) {
		struct load *load = &loads[count++];

		load->write = strcmp(argv[2], "write") == 0;
		load->random = strcmp(argv[3], "random") == 0;
		load->length = (uint32_t)strtoul(argv[4], NULL, 0);
		load->depth = (unsigned)MIN(strtoul(argv[5], NULL, 0), (unsigned long)DEPTH_MAX);
		load->data = calloc(1, load->length);
		if (load->length == 0 || !load->data)
			fail("block size", argv[4]);
		log_in(load, url);
	}
	return count;
}

static void finish(struct load *loads, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		iscsi_logout_sync(loads[i].iscsi);
		iscsi_destroy_context(loads[i].iscsi);
		free(loads[i].data);
	}
}

int main(int argc, char **argv)
{
	static struct load loads[LOADS_MAX];
	uint64_t started_ns, client_ns, operations = 0, least = UINT64_MAX;
	double target_seconds;
	unsigned count;

	if (argc != 8)
		fail("arguments", "see the head of bench_iscsi.c");
	count = prepare(loads, argv);
	target_seconds = process_seconds(argv[7]);
	client_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	started_ns = now_ns(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < count; i++)
		loads[i].deadline_ns = started_ns + strtoull(argv[6], NULL, 0) * NSEC_PER_MSEC;
	run(loads, count);
	for (unsigned i = 0; i < count; i++) {
		operations += loads[i].operations;
		least = MIN(least, loads[i].operations);
	}
	printf("{\"operations\": %" PRIu64 ", \"least\": %" PRIu64 ", \"seconds\": %.6f, "
	       "\"cpu_seconds\": %.6f, \"client_cpu_seconds\": %.6f}\n",
	       operations, least, (double)(now_ns(CLOCK_MONOTONIC) - started_ns) / 1e9,
	       process_seconds(argv[7]) - target_seconds,
	       (double)(now_ns(CLOCK_PROCESS_CPUTIME_ID) - client_ns) / 1e9);
	finish(loads, count);
	return 0;
}
