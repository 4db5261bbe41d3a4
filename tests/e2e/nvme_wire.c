/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfio-user as a controller's keeper must speak it, and what it must refuse.
 *
 *     nvme_wire SOCKET
 *
 * Each test is a client of its own, so a client that comes again is tested too.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "vfu_client.h"

#define PAGE    4096u
#define ADDRESS (16 * MIB)

static const char *path;

static int setup(void **state)
{
	struct vfu_client *client = calloc(1, sizeof(*client));
	int r = vfu_client_connect(client, path);

	/* The keeper may not yet have noticed that the client before has gone. */
	for (int tries = 0; r < 0 && tries < 100; tries++) {
		nanosleep(&(struct timespec){.tv_nsec = 20 * NSEC_PER_MSEC}, NULL);
		r = vfu_client_connect(client, path);
	}
	if (r < 0)
		print_error("%s: %s\n", path, strerror(-r));
	*state = client;
	return r;
}

static int teardown(void **state)
{
	vfu_client_close(*state);
	free(*state);
	return 0;
}

/* After what was refused it still answers. */
static void assert_alive(struct vfu_client *client)
{
	struct vfio_device_info info;

	assert_int_equal(vfu_client_get_info(client, &info), 0);
}

static void tells_what_it_is(void **state)
{
	struct vfu_client *client = *state;
	struct vfio_device_info info;
	uint8_t config[PAGE];

	assert_true(client->max_fds >= 16);
	assert_true(client->max_data >= PAGE);
	assert_int_equal(vfu_client_get_info(client, &info), 0);
	assert_true(info.flags & VFIO_DEVICE_FLAGS_PCI);
	assert_true(info.flags & VFIO_DEVICE_FLAGS_RESET);
	assert_int_equal(info.num_regions, 9);
	assert_int_equal(info.num_irqs, 5);
	assert_int_equal(vfu_client_read(client, 7, 0, config, PAGE), 0);
	assert_memory_equal(config + 9, "\x02\x08\x01", 3); /* class code: NVMe */
	assert_int_not_equal(config[0] | config[1] << 8, 0x1b36);
	assert_true(config[6] & 0x10);     /* capabilities */
	assert_int_equal(config[0x3d], 1); /* INTA# */
}

static void lists_capabilities(void **state)
{
	struct vfu_client *client = *state;
	bool msix = false, express = false;
	uint8_t config[256];
	unsigned count = 0;

	assert_int_equal(vfu_client_read(client, 7, 0, config, sizeof(config)), 0);
	for (uint8_t at = config[0x34]; at; at = config[at + 1]) {
		assert_true(at >= 0x40 && ++count < 16);
		express = express || config[at] == 0x10;
		if (config[at] != 0x11)
			continue;
		msix = true;
		assert_true((config[at + 2] | config[at + 3] << 8) >= 64); /* vectors less one */
		assert_int_equal(config[at + 4] & 7, 0);                   /* table in BAR0 */
	}
	assert_true(msix);
	assert_true(express);
}

static void describes_regions_and_interrupts(void **state)
{
	struct vfu_client *client = *state;

	for (uint32_t i = 0; i < 9; i++) {
		union {
			struct vfio_region_info info;
			char bytes[256];
		} region = {0};
		int fd;

		assert_true(vfu_client_get_region_info(client, i, &region.info, sizeof(region),
						       &fd) > 0);
		assert_int_equal(region.info.size, i == 0 ? 4 * PAGE : i == 7 ? PAGE : 0);
		if (fd >= 0)
			close(fd);
	}
	for (uint32_t i = 0; i < 5; i++) {
		struct vfio_irq_info info;

		assert_int_equal(vfu_client_get_irq_info(client, i, &info), 0);
		assert_true(i == 0 ? info.count == 1 : i == 2 ? info.count >= 65 : i > 0);
		assert_true(info.count == 0 || info.flags & VFIO_IRQ_INFO_EVENTFD);
	}
}

static void refuses_what_is_not_there(void **state)
{
	struct vfu_client *client = *state;
	struct vfu_client_call call = {.command = 99};
	union {
		struct vfio_region_info info;
		char bytes[256];
	} region;
	struct vfio_irq_info irq;
	uint8_t byte = 0;
	int fd;

	assert_true(vfu_client_get_region_info(client, 9, &region.info, sizeof(region), &fd) < 0);
	assert_true(vfu_client_get_irq_info(client, 5, &irq) < 0);
	assert_true(vfu_client_read(client, 9, 0, &byte, 1) < 0);
	assert_true(vfu_client_read(client, 1, 0, &byte, 1) < 0);
	assert_true(vfu_client_read(client, 0, 4 * PAGE, &byte, 1) < 0);
	assert_true(vfu_client_read(client, 0, UINT64_MAX, &byte, 1) < 0);
	assert_true(vfu_client_write(client, 7, PAGE - 1, "ab", 2) < 0);
	assert_true(vfu_client_call(client, &call) < 0);
	call.command = VFU_CLIENT_DMA_READ; /* of the server's to the client */
	assert_true(vfu_client_call(client, &call) < 0);
	assert_alive(client);
}

static int sealed_memory(int seals)
{
	int fd = memfd_create("map", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, MIB), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void maps_and_unmaps(void **state)
{
	struct vfu_client *client = *state;
	int fd = sealed_memory(F_SEAL_SHRINK);

	assert_int_equal(vfu_client_map(client, ADDRESS, MIB, fd, 0), 0);
	assert_true(vfu_client_map(client, ADDRESS, MIB, fd, 0) < 0);
	assert_true(vfu_client_map(client, ADDRESS + PAGE, PAGE, fd, 0) < 0);
	assert_true(vfu_client_map(client, ADDRESS - PAGE, 2 * PAGE, fd, 0) < 0);
	assert_true(vfu_client_unmap(client, ADDRESS + 2 * MIB, PAGE) < 0);
	assert_int_equal(vfu_client_map(client, ADDRESS + MIB, MIB, fd, 0), 0);
	assert_int_equal(vfu_client_unmap(client, ADDRESS, MIB), 0);
	assert_true(vfu_client_unmap(client, ADDRESS, MIB) < 0);
	assert_int_equal(vfu_client_map(client, ADDRESS, MIB, fd, 0), 0);
	/* A ROM comes without a file. */
	assert_int_equal(vfu_client_map(client, 0xfffc0000, 256 * KIB, -1, 0), 0);
	assert_int_equal(vfu_client_unmap(client, 0xfffc0000, 256 * KIB), 0);
	close(fd);
}

static void refuses_maps_that_make_no_sense(void **state)
{
	struct vfu_client *client = *state;
	int fd = sealed_memory(F_SEAL_SHRINK), may_shrink = sealed_memory(F_SEAL_GROW);
	int events = eventfd(0, EFD_CLOEXEC);
	int readable = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(vfu_client_map(client, ADDRESS, 0, fd, 0) < 0);
	assert_true(vfu_client_map(client, ADDRESS, PAGE, may_shrink, 0) < 0);
	assert_true(vfu_client_map(client, UINT64_MAX - PAGE + 1, 2 * PAGE, fd, 0) < 0);
	assert_true(vfu_client_map(client, ADDRESS, PAGE, events, 0) < 0);
	assert_true(vfu_client_map(client, ADDRESS, PAGE, readable, 0) < 0);
	assert_true(vfu_client_map(client, ADDRESS, 2 * MIB, fd, 0) < 0); /* beyond the file */
	assert_true(vfu_client_map(client, ADDRESS, PAGE, fd, UINT64_MAX - 100) < 0);
	assert_alive(client);
	close(readable);
	close(may_shrink);
	close(events);
	close(fd);
}

static void takes_interrupts(void **state)
{
	struct vfu_client *client = *state;
	int fds[16];

	for (int i = 0; i < 16; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(vfu_client_set_irqs(client, 0, 0, 1, fds), 0);
	assert_int_equal(vfu_client_set_irqs(client, 0, 0, 0, NULL), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(vfu_client_set_irqs(client, 2, (uint32_t)i * 16, 16, fds), 0);
	assert_int_equal(vfu_client_set_irqs(client, 2, 3, 1, fds), 0);
	assert_int_equal(vfu_client_set_irqs(client, 2, 0, 0, NULL), 0);
	assert_int_equal(vfu_client_set_irqs(client, 0, 0, 1, fds), 0);
	assert_true(vfu_client_set_irqs(client, 0, 0, 2, fds) < 0);
	assert_true(vfu_client_set_irqs(client, 0, 1, 1, fds) < 0);
	assert_true(vfu_client_set_irqs(client, 2, 1020, 16, fds) < 0);
	assert_true(vfu_client_set_irqs(client, 2, UINT32_MAX, 2, fds) < 0);
	assert_true(vfu_client_set_irqs(client, 5, 0, 1, fds) < 0);
	close(fds[0]);
	fds[0] = sealed_memory(F_SEAL_SHRINK); /* no event */
	assert_true(vfu_client_set_irqs(client, 0, 0, 1, fds) < 0);
	assert_alive(client);
	for (int i = 0; i < 16; i++)
		close(fds[i]);
}

static void resets(void **state)
{
	struct vfu_client *client = *state;
	uint32_t cap[2], status;

	assert_int_equal(vfu_client_reset(client), 0);
	assert_int_equal(vfu_client_read(client, 0, 0x1c, &status, 4), 0);
	assert_int_equal(status & 1, 0);
	assert_int_equal(vfu_client_read(client, 0, 0, cap, 8), 0);
	assert_true((cap[0] & 0xffff) >= 1023); /* MQES: 1,024 entries */
	assert_int_equal(cap[0] >> 24, 0xff);   /* TO */
	assert_true(cap[1] >> 5 & 1);           /* CSS: NVM command set */
	assert_int_equal(vfu_client_read(client, 0, 8, &status, 4), 0);
	assert_int_equal(status, 0x10400); /* NVMe 1.4 */
}

/* A message as bytes; then it hangs up, or answers with an error and lives on. */
static void assert_refused(const struct vfu_client_header *header, size_t bytes)
{
	char message[256] = {0};
	void *state = NULL;

	memcpy(message, header, sizeof(*header));
	assert_int_equal(setup(&state), 0);
	assert_int_equal(vfu_client_send_raw(state, message, bytes, -1), 0);
	assert_true(vfu_client_hung_up(state, 5000));
	teardown(&state);
}

static void hangs_up_on_broken_messages(void **unused)
{
	assert_refused(&(struct vfu_client_header){1, VFU_CLIENT_GET_INFO, 15, 0, 0}, 16);
	assert_refused(&(struct vfu_client_header){1, VFU_CLIENT_GET_INFO, 0, 0, 0}, 16);
	assert_refused(&(struct vfu_client_header){1, VFU_CLIENT_REGION_WRITE, 0x7fffffff, 0, 0},
		       64);
	assert_refused(&(struct vfu_client_header){1, VFU_CLIENT_GET_INFO, 16, 2, 0}, 16);
}

static void needs_a_version_first(void **unused)
{
	static const struct {
		uint16_t major, minor;
		const char *text;
	} refused[] = {{1, 0, NULL}, {0, 0, "no JSON"}, {0, 0, "{\"capabilities\":7}"}};
	struct vfio_device_info info;
	struct vfu_client client;
	void *last = NULL;

	assert_int_equal(setup(&last), 0); /* waits for the client before to be gone */
	teardown(&last);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		int r = vfu_client_connect_only(&client, path);

		assert_int_equal(r, 0);
		assert_true(vfu_client_negotiate(&client, refused[i].major, refused[i].minor,
						 refused[i].text) < 0);
		vfu_client_close(&client);
	}
	assert_int_equal(vfu_client_connect_only(&client, path), 0);
	assert_true(vfu_client_get_info(&client, &info) < 0);
	vfu_client_close(&client);
}

static void has_one_client_at_a_time(void **state)
{
	struct vfu_client second;

	assert_true(vfu_client_connect(&second, path) < 0);
	assert_alive(*state);
}

/* Half a message, and bytes one by one. */
static void takes_messages_in_pieces(void **state)
{
	struct vfu_client *client = *state;
	struct vfu_client_header header = {7, VFU_CLIENT_GET_INFO, 32, 0, 0};
	char bytes[32] = {0};
	struct vfu_client_call call = {.command = VFU_CLIENT_RESET};

	memcpy(bytes, &header, sizeof(header));
	bytes[16] = 16; /* argsz */
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(vfu_client_send_raw(client, bytes + i, 1, -1), 0);
		nanosleep(&(struct timespec){.tv_nsec = NSEC_PER_MSEC}, NULL);
	}
	/* Its answer, which is not that of the next call. */
	assert_int_equal(vfu_client_call(client, &call), -EPROTO);
}

#define WIRE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WIRE_TEST(tells_what_it_is),
		WIRE_TEST(lists_capabilities),
		WIRE_TEST(describes_regions_and_interrupts),
		WIRE_TEST(refuses_what_is_not_there),
		WIRE_TEST(maps_and_unmaps),
		WIRE_TEST(refuses_maps_that_make_no_sense),
		WIRE_TEST(takes_interrupts),
		WIRE_TEST(resets),
		cmocka_unit_test(hangs_up_on_broken_messages),
		cmocka_unit_test(needs_a_version_first),
		WIRE_TEST(has_one_client_at_a_time),
		WIRE_TEST(takes_messages_in_pieces),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: nvme_wire SOCKET\n");
		return 2;
	}
	path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
