/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a keeper between a hostile client and a hostile engine, in this process. The input
 * is a list of steps: a byte that says what (enum step), then what the step takes. In the end the
 * keeper must have closed every descriptor that it was sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"
#include "fuzz.h"
#include "keeper/keeper_priv.h"

#define FDS_LOOKED_AT 512
#define STEPS_MAX     200

enum step {
	STEP_BYTES,     /* of the client: length, descriptors, bytes */
	STEP_MESSAGE,   /* of the client: command, flags, length of the payload, descriptors */
	STEP_MAP,       /* a good one: page of the address, pages */
	STEP_UNMAP,     /* the same */
	STEP_ENGINE,    /* a message: type, id, value, descriptors */
	STEP_CONNECT,   /* an engine, with its hello */
	STEP_END,       /* of the engine's connection */
	STEP_FENCE,     /* hangs up */
	STEP_CLIENT,    /* another one, in place of the one before */
	STEP_SCRIBBLE,  /* the engine writes to shared memory: place, byte */
	STEP_NEGOTIATE, /* VERSION as it should be */
	STEP_COUNT
};

struct fuzz {
	const uint8_t *data;
	size_t size;
	int client_fd, engine_fd, fence[2], memory_fd;
};

static struct keeper keeper;
static char directory[] = "/tmp/sarsen-fuzz-XXXXXX", link_path[64], socket_path[64];

static void drop_line(enum log_level level, const char *line, void *arg)
{
}

static void remove_directory(void)
{
	rmdir(directory);
}

static void prepare(void)
{
	if (link_path[0])
		return;
	log_set_sink(drop_line, NULL);
	ASSERT(mkdtemp(directory));
	atexit(remove_directory);
	strcpy(stpcpy(link_path, directory), "/link");
	strcpy(stpcpy(socket_path, directory), "/socket");
}

static unsigned open_files(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < FDS_LOOKED_AT; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static size_t take(struct fuzz *fuzz, void *bytes, size_t length)
{
	length = MIN(length, fuzz->size);
	memcpy(bytes, fuzz->data, length);
	fuzz->data += length;
	fuzz->size -= length;
	return length;
}

static uint8_t take_byte(struct fuzz *fuzz)
{
	uint8_t byte = 0;

	take(fuzz, &byte, 1);
	return byte;
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ASSERT(fd >= 0);
	memcpy(address.sun_path, path, strlen(path));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		drop(&fd); /* its backlog is full */
	return fd;
}

/* What it answers is taken, so that it is never full for long. */
static void drain(int *fd)
{
	char bytes[4096];
	int r = 1;

	while (*fd >= 0 && r > 0) {
		struct vfu_receiver receiver = {0};

		r = vfu_receive(&receiver, *fd, bytes, sizeof(bytes));
		if (r == 0 && receiver.used > 0)
			r = 1; /* a part, and now nothing more or the next */
		vfu_receiver_reset(&receiver);
	}
	if (r < 0)
		drop(fd);
}

static void serve(struct fuzz *fuzz)
{
	for (int i = 0; i < 4 && !keeper.finished; i++) {
		keeper_turn(&keeper, NULL, false);
		drain(&fuzz->client_fd);
		drain(&fuzz->engine_fd);
	}
}

/* `kinds`: two bits for each descriptor: none more, an event, guest memory, a pipe. */
static void send_with_fds(struct fuzz *fuzz, int fd, const void *bytes, size_t length,
			  uint8_t kinds)
{
	struct iovec iov = {(void *)bytes, length};
	int fds[4], event = eventfd(0, EFD_CLOEXEC);
	unsigned count = 0;

	for (; kinds & 3; kinds = (uint8_t)(kinds >> 2))
		fds[count++] = (kinds & 3) == 1   ? event
			       : (kinds & 3) == 2 ? fuzz->memory_fd
						  : fuzz->fence[0];
	for (unsigned i = 0; i < count; i++)
		if (fds[i] < 0)
			fds[i] = event;
	if (fd >= 0 && length > 0)
		(void)vfu_send(fd, &iov, 1, fds, count); /* whether it is full or gone */
	close(event);
}

static void send_bytes(struct fuzz *fuzz)
{
	uint8_t kinds = take_byte(fuzz), bytes[255];
	size_t length = take(fuzz, bytes, take_byte(fuzz));

	send_with_fds(fuzz, fuzz->client_fd, bytes, length, kinds);
}

static void send_message(struct fuzz *fuzz, uint16_t command, uint32_t flags, const void *payload,
			 size_t length, uint8_t kinds)
{
	char message[512];
	struct vfu_header header = {
		.command = command, .size = (uint32_t)(sizeof(header) + length), .flags = flags};

	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), payload, length);
	send_with_fds(fuzz, fuzz->client_fd, message, sizeof(header) + length, kinds);
}

static void send_any(struct fuzz *fuzz)
{
	uint8_t command = take_byte(fuzz), flags = take_byte(fuzz), kinds = take_byte(fuzz);
	uint8_t payload[255];
	size_t length = take(fuzz, payload, take_byte(fuzz));

	send_message(fuzz, command, flags, payload, length, kinds);
}

static void send_map(struct fuzz *fuzz, bool maps)
{
	uint64_t address = (uint64_t)take_byte(fuzz) * VFU_PAGE_BYTES;
	uint64_t size = (uint64_t)take_byte(fuzz) * VFU_PAGE_BYTES;
	struct vfu_dma_map map = {
		.argsz = sizeof(map), .flags = 3, .address = address, .size = size};
	struct vfu_dma_unmap unmap = {.argsz = sizeof(unmap), .address = address, .size = size};

	if (maps)
		send_message(fuzz, VFU_DMA_MAP, 0, &map, sizeof(map), 2);
	else
		send_message(fuzz, VFU_DMA_UNMAP, 0, &unmap, sizeof(unmap), 0);
}

static void send_engine(struct fuzz *fuzz)
{
	struct vfu_link_message message = {.type = take_byte(fuzz), .id = take_byte(fuzz)};

	message.value = take_byte(fuzz);
	send_with_fds(fuzz, fuzz->engine_fd, &message, sizeof(message), take_byte(fuzz));
}

static void connect_engine(struct fuzz *fuzz)
{
	struct vfu_link_message hello = {.type = VFU_LINK_HELLO, .version = VFU_LINK_VERSION};

	drop(&fuzz->engine_fd);
	fuzz->engine_fd = connect_to(link_path);
	if (fuzz->fence[0] < 0)
		ASSERT(pipe2(fuzz->fence, O_CLOEXEC) == 0);
	send_with_fds(fuzz, fuzz->engine_fd, &hello, sizeof(hello), 3);
}

static void scribble(struct fuzz *fuzz)
{
	uint32_t at = 0;

	take(fuzz, &at, 3);
	((uint8_t *)keeper.shared)[at % sizeof(*keeper.shared)] = take_byte(fuzz);
}

static void step(struct fuzz *fuzz)
{
	static const struct vfu_version version = {0};

	switch ((enum step)(take_byte(fuzz) % STEP_COUNT)) {
	case STEP_BYTES:
		send_bytes(fuzz);
		break;
	case STEP_MESSAGE:
		send_any(fuzz);
		break;
	case STEP_MAP:
		send_map(fuzz, true);
		break;
	case STEP_UNMAP:
		send_map(fuzz, false);
		break;
	case STEP_ENGINE:
		send_engine(fuzz);
		break;
	case STEP_CONNECT:
		connect_engine(fuzz);
		break;
	case STEP_END:
		drop(&fuzz->engine_fd);
		break;
	case STEP_FENCE:
		drop(&fuzz->fence[0]);
		drop(&fuzz->fence[1]);
		break;
	case STEP_CLIENT:
		drop(&fuzz->client_fd);
		serve(fuzz);
		fuzz->client_fd = connect_to(socket_path);
		break;
	case STEP_SCRIBBLE:
		scribble(fuzz);
		break;
	case STEP_NEGOTIATE:
		send_message(fuzz, VFU_VERSION, 0, &version, sizeof(version), 0);
		break;
	case STEP_COUNT:
		break;
	}
	serve(fuzz);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz fuzz = {data, size, -1, -1, {-1, -1}, -1};
	struct keeper_options options = {
		.name = "fuzz", .group = (gid_t)-1, .resume_fd = -1, .merciful = true};
	unsigned before;

	prepare();
	before = open_files();
	options.link_path = link_path;
	options.socket_path = socket_path;
	options.doorbells_mapped = size > 0 && data[size - 1] & 1;
	ASSERT(keeper_start(&keeper, &options) == 0);
	fuzz.memory_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ASSERT(ftruncate(fuzz.memory_fd, (off_t)MIB) == 0);
	ASSERT(fcntl(fuzz.memory_fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	fuzz.client_fd = connect_to(socket_path);
	serve(&fuzz);
	for (unsigned i = 0; i < STEPS_MAX && fuzz.size > 0 && !keeper.finished; i++)
		step(&fuzz);
	drop(&fuzz.client_fd);
	drop(&fuzz.engine_fd);
	drop(&fuzz.fence[0]);
	drop(&fuzz.fence[1]);
	drop(&fuzz.memory_fd);
	serve(&fuzz);
	keeper_done(&keeper);
	ASSERT(open_files() == before);
	return 0;
}
