/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations of namespace 1 as a driver asks for them, one connection a call:
 *
 *     nvme_reserve SOCKET WORD...
 *
 * Words: register=KEY, acquire=KEY (write exclusive), release=KEY, write, read. Prints the status
 * of each, a number a line (NVMe 1.4, 4.6.1.2); 131 is Reservation Conflict.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"
#include "nvme_driver.h"

enum { WRITE = 0x01, READ = 0x02, REGISTER = 0x0d, ACQUIRE = 0x11, RELEASE = 0x15 };

#define WRITE_EXCLUSIVE (1u << 8)

static struct nvme_driver driver;
static uint64_t *page;

static const struct {
	const char *word;
	uint8_t opcode;
	uint32_t cdw10;
	unsigned key; /* which of the two keys is given; 2 = none */
} words[] = {
	{"register=", REGISTER, 0, 1},
	{"acquire=", ACQUIRE, WRITE_EXCLUSIVE, 0},
	{"release=", RELEASE, WRITE_EXCLUSIVE, 0},
	{"write", WRITE, 0, 2},
	{"read", READ, 0, 2},
};

/* Another machine may just be leaving the socket. */
static int open_driver(const char *path)
{
	static const struct timespec pause = {.tv_nsec = 20 * NSEC_PER_MSEC};
	int r = nvme_driver_open(&driver, path, 16 * MIB, NVME_DRIVER_TRAPPED, 2);

	for (int tries = 0; r < 0 && tries < 100; tries++) {
		nanosleep(&pause, NULL);
		r = nvme_driver_open(&driver, path, 16 * MIB, NVME_DRIVER_TRAPPED, 2);
	}
	if (r == 0)
		r = nvme_driver_enable(&driver);
	if (r == 0)
		r = nvme_driver_create_queue(&driver, 1, 16, 1);
	page = nvme_driver_alloc(&driver, NVME_DRIVER_PAGE);
	return r;
}

static int run(const char *word)
{
	struct nvme_driver_sqe sqe = {.nsid = 1};
	size_t i = 0, length = 0;

	for (; i < ARRAY_SIZE(words); i++) {
		length = strlen(words[i].word);
		if (strncmp(word, words[i].word, length) == 0)
			break;
	}
	if (i == ARRAY_SIZE(words))
		return -EINVAL;
	sqe.opcode = words[i].opcode;
	sqe.cdw10 = words[i].cdw10;
	memset(page, 0, NVME_DRIVER_PAGE);
	if (words[i].key < 2)
		page[words[i].key] = strtoull(word + length, NULL, 0);
	nvme_driver_set_data(&driver, &sqe, page, 512, NULL);
	return nvme_driver_command(&driver, 1, &sqe, NULL);
}

int main(int argc, char **argv)
{
	int r;

	if (argc < 3) {
		fprintf(stderr, "usage: nvme_reserve SOCKET WORD...\n");
		return 2;
	}
	r = open_driver(argv[1]);
	for (int i = 2; r >= 0 && i < argc; i++) {
		r = run(argv[i]);
		if (r >= 0)
			printf("%d\n", r);
	}
	if (r < 0)
		fprintf(stderr, "nvme_reserve: %s\n", strerror(-r));
	nvme_driver_close(&driver);
	return r < 0;
}
