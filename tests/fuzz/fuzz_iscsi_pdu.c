/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: bytes on a connection to the server, in the simulated world. The first byte says
 * how: with bit 0 set the connection is logged in first, with bit 1 without immediate data, with
 * bit 2 each header of 48 bytes gets the next CmdSN. A bystander's session must work afterwards.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/memory.h"
#include "frontend/iscsi/iscsi.h"
#include "fuzz.h"
#include "iscsi_initiator.h"
#include "reactor/io.h"
#include "sim_rig.h"

#define TARGET "iqn.2026-01.org.sarsen:fuzz"

enum { LOGGED_IN = 1, SOLICITED = 2, NUMBERED = 4 };

struct fuzz {
	struct sim_rig rig;
	struct block_volume *volume;
	struct iscsi_server *server;
	struct sockaddr_in address;
	struct initiator attacker, bystander;
	const uint8_t *data;
	size_t size;
};

static void start(struct fuzz *fuzz)
{
	struct reactor *reactor = fuzz->rig.reactors[0];
	struct iscsi_server_options options = {.address = "127.0.0.1", .memory_bytes = 1};
	struct iscsi_lun lun = {.serial = 1, .thin = true};
	char text[64];
	uint16_t port;

	ASSERT(memory_volume_new(reactor, MIB, 512, &fuzz->volume) == 0);
	lun.volume = fuzz->volume;
	ASSERT(iscsi_server_new(reactor, &options, &fuzz->server) == 0);
	ASSERT(iscsi_server_add_target(fuzz->server, TARGET) == 0);
	ASSERT(iscsi_server_add_lun(fuzz->server, TARGET, 0, &lun) == 0);
	iscsi_server_address(fuzz->server, text, sizeof(text), &port);
	fuzz->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	fuzz->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static int log_in(struct fuzz *fuzz, struct initiator *initiator, uint8_t isid, bool immediate)
{
	struct initiator_options options = {.name = "iqn.2026-01.org.example:fuzz",
					    .target = TARGET,
					    .immediate_data = immediate,
					    .isid = {isid}};

	return initiator_open(initiator, (struct sockaddr *)&fuzz->address, sizeof(fuzz->address),
			      &options);
}

/* Fuzzed bytes as PDUs, so that the fuzzer need not find out how CmdSN counts. */
static void send_numbered(struct fuzz *fuzz, struct world_socket *socket)
{
	uint32_t cmd_sn = fuzz->attacker.cmd_sn;

	while (fuzz->size >= ISCSI_BHS_BYTES) {
		struct iscsi_request pdu;
		size_t length;
		struct iovec iov[2];

		memcpy(&pdu, fuzz->data, sizeof(pdu));
		pdu.ahs_words &= 7;
		pdu.data_length[0] = 0;
		put_be32(pdu.cmd_sn, cmd_sn);
		cmd_sn += !(pdu.opcode & ISCSI_IMMEDIATE_BIT) && pdu.opcode != ISCSI_OP_DATA_OUT;
		length = (size_t)pdu.ahs_words * 4 + get_be24(pdu.data_length);
		length = MIN(ALIGN_UP(length, (size_t)4), fuzz->size - ISCSI_BHS_BYTES);
		iov[0] = (struct iovec){&pdu, sizeof(pdu)};
		iov[1] = (struct iovec){(void *)(fuzz->data + ISCSI_BHS_BYTES), length};
		if (io_send_all(socket, iov, 2) < 0)
			return;
		fuzz->data += ISCSI_BHS_BYTES + length;
		fuzz->size -= ISCSI_BHS_BYTES + length;
	}
}

static void drain(struct world_socket *socket)
{
	uint8_t bytes[4096];

	while (io_receive(socket, bytes, sizeof(bytes)) > 0)
		;
}

struct drainer {
	struct fiber_task task;
	struct world_socket *socket;
	struct fiber_queue done;
	bool finished;
};

static void run_drainer(struct fiber_task *task)
{
	struct drainer *drainer = CONTAINER_OF(task, struct drainer, task);

	drain(drainer->socket);
	drainer->finished = true;
	fiber_queue_wake_all(&drainer->done);
}

/* The login is the initiator's; then its reader is stopped and the socket taken over. */
static int connect_attacker(struct fuzz *fuzz, uint8_t mode, struct world_socket **ret_socket)
{
	struct initiator_options options = {.name = "iqn.2026-01.org.example:fuzz",
					    .target = TARGET,
					    .immediate_data = !(mode & SOLICITED),
					    .without_reader = true};

	if (!(mode & LOGGED_IN))
		return io_connect((struct sockaddr *)&fuzz->address, sizeof(fuzz->address),
				  ret_socket);
	if (initiator_open(&fuzz->attacker, (struct sockaddr *)&fuzz->address,
			   sizeof(fuzz->address), &options) < 0)
		return -1;
	*ret_socket = fuzz->attacker.socket;
	return 0;
}

static void attack(struct fuzz *fuzz)
{
	uint8_t mode = fuzz->size > 0 ? fuzz->data[0] : 0;
	struct world_socket *socket = NULL;
	struct drainer drainer = {.task.run = run_drainer};
	const struct world_ops *world = reactor_world(reactor_current())->ops;

	ASSERT(connect_attacker(fuzz, mode, &socket) == 0);
	fuzz->data += fuzz->size > 0;
	fuzz->size -= fuzz->size > 0;
	drainer.socket = socket;
	fiber_queue_init(&drainer.done);
	fiber_spawn(reactor_current(), FIBER_CONTROL, &drainer.task);
	if (mode & NUMBERED) {
		send_numbered(fuzz, socket);
	} else if (fuzz->size > 0) {
		struct iovec iov = {(void *)fuzz->data, fuzz->size};

		(void)io_send_all(socket, &iov, 1);
	}
	fiber_sleep(NSEC_PER_SEC);
	world->socket_shutdown(socket);
	while (!drainer.finished)
		fiber_queue_wait(&drainer.done);
	if (!(mode & LOGGED_IN))
		world->socket_close(socket);
	initiator_close(&fuzz->attacker);
}

static void check_bystander(struct fuzz *fuzz)
{
	struct initiator_command command = {.cdb = {0x12, 0, 0, 0, 36}, .in_length = 36};
	uint8_t inquiry[36];

	command.in = inquiry;
	ASSERT(initiator_run(&fuzz->bystander, &command) == 0);
	ASSERT(command.status == 0 && command.in_received == 36);
	ASSERT(memcmp(inquiry + 8, "SARSEN", 6) == 0);
}

static void run(void *arg)
{
	struct fuzz *fuzz = arg;

	start(fuzz);
	ASSERT(log_in(fuzz, &fuzz->bystander, 1, true) == 0);
	attack(fuzz);
	if (fuzz->bystander.broken) { /* a cold reset of the target ends all sessions */
		initiator_close(&fuzz->bystander);
		ASSERT(log_in(fuzz, &fuzz->bystander, 1, true) == 0);
	}
	check_bystander(fuzz);
	initiator_close(&fuzz->bystander);
	iscsi_server_free(fuzz->server);
	block_volume_free(fuzz->volume);
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ struct fuzz *fuzz = calloc(1, sizeof(*fuzz));

	ASSERT(fuzz);
	log_set_sink(drop_line, NULL);
	fuzz->data = data;
	fuzz->size = size;
	sim_rig_init(&fuzz->rig, 1, 1);
	sim_rig_run(&fuzz->rig, 0, run, fuzz);
	sim_rig_done(&fuzz->rig);
	return 0;
}
