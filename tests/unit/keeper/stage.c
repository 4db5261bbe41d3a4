/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program;
static char directory[] = "/tmp/sarsen-keeper-XXXXXX";

int stage_begin(const char *keeper)
{
	program = keeper;
	return mkdtemp(directory) ? 0 : -1;
}

void stage_end(void)
{
	rmdir(directory);
}

void stage_start(struct stage *stage)
{
	snprintf(stage->link, sizeof(stage->link), "%s/link", directory);
	snprintf(stage->socket, sizeof(stage->socket), "%s/socket", directory);
	stage->keeper = fork();
	if (stage->keeper == 0) {
		execl(program, program, "--queues", "20", "--name", "test", "--link", stage->link,
		      "--socket", stage->socket, NULL);
		_exit(127);
	}
	assert_true(stage->keeper > 0);
	for (int tries = 0; vfu_client_connect(&stage->client, stage->socket) < 0; tries++) {
		assert_true(tries < 500);
		stage_pause_ms(10);
	}
}

int stage_setup(void **state)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	alarm(60);
	stage_start(stage);
	stage->memory_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(stage->memory_fd, 4 * MIB), 0);
	assert_int_equal(fcntl(stage->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	*state = stage;
	return 0;
}

int stage_keeper_ended(const struct stage *stage)
{
	int status = 0;

	for (int tries = 0; waitpid(stage->keeper, &status, WNOHANG) == 0; tries++) {
		assert_true(tries < 500);
		stage_pause_ms(10);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int stage_teardown(void **state)
{
	struct stage *stage = *state;

	vfu_client_close(&stage->client);
	if (stage->keeper > 0) {
		kill(stage->keeper, SIGTERM);
		assert_int_equal(stage_keeper_ended(stage), 0);
	}
	assert_int_equal(access(stage->link, F_OK), -1);
	assert_int_equal(access(stage->socket, F_OK), -1);
	close(stage->memory_fd);
	free(stage);
	return 0;
}

void stage_map(struct stage *stage)
{
	assert_int_equal(vfu_client_map(&stage->client, STAGE_ADDRESS, MIB, stage->memory_fd, 0),
			 0);
}

void stage_assert_alive(struct stage *stage)
{
	struct vfio_device_info info;

	assert_int_equal(vfu_client_get_info(&stage->client, &info), 0);
}

void stage_write_register(struct stage *stage, uint32_t at, uint32_t value)
{
	assert_int_equal(vfu_client_write(&stage->client, 0, at, &value, 4), 0);
}

int stage_unmap(struct stage *stage)
{
	return vfu_client_unmap(&stage->client, STAGE_ADDRESS, MIB);
}

void stage_assert_vectors(struct stage *stage, unsigned vectors)
{
	int event = eventfd(0, EFD_CLOEXEC);
	struct vfio_irq_info info;
	uint16_t flags;

	assert_int_equal(vfu_client_read(&stage->client, 7, 0x52, &flags, 2), 0);
	assert_int_equal((flags & 0x7ff) + 1, vectors);
	assert_int_equal(vfu_client_get_irq_info(&stage->client, 2, &info), 0);
	assert_int_equal(info.count, vectors);
	assert_int_equal(vfu_client_set_irqs(&stage->client, 2, vectors - 1, 1, &event), 0);
	assert_true(vfu_client_set_irqs(&stage->client, 2, vectors, 1, &event) < 0);
	close(event);
}
