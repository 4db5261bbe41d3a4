/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void engine_say(struct engine *engine, uint32_t type, uint32_t id, uint64_t value)
{
	struct vfu_link_message message = {.type = type, .id = id, .value = value};
	struct iovec iov = {&message, sizeof(message)};

	assert_int_equal(vfu_send(engine->fd, &iov, 1, NULL, 0), 0);
}

static void connect_and_send(struct engine *engine, const struct stage *stage,
			     struct vfu_link_message hello, int fd)
{
	struct iovec iov = {&hello, sizeof(hello)};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, stage->link, sizeof(stage->link));
	engine->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(engine->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(vfu_send(engine->fd, &iov, 1, &fd, 1), 0);
}

void engine_hello(struct engine *engine, const struct stage *stage, uint32_t version, int fd)
{
	connect_and_send(engine, stage,
			 (struct vfu_link_message){.type = VFU_LINK_HELLO, .version = version}, fd);
}

void engine_hello_flags(struct engine *engine, const struct stage *stage, uint32_t flags)
{
	connect_and_send(engine, stage,
			 (struct vfu_link_message){.type = VFU_LINK_HELLO,
						   .version = VFU_LINK_VERSION,
						   .flags = flags},
			 engine->fence[0]);
}

int engine_receive(struct engine *engine, int timeout_ms)
{
	struct pollfd polled = {engine->fd, POLLIN, 0};

	vfu_receiver_reset(&engine->receiver);
	if (poll(&polled, 1, timeout_ms) == 0)
		return 0;
	return vfu_receive(&engine->receiver, engine->fd, &engine->message,
			   sizeof(engine->message));
}

void engine_expect(struct engine *engine, uint32_t type)
{
	assert_int_equal(engine_receive(engine, STAGE_MS), 1);
	assert_int_equal(engine->message.type, type);
}

static void *map_shared(int fd, size_t bytes, off_t offset)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

void engine_welcomed(struct engine *engine)
{
	engine_expect(engine, VFU_LINK_WELCOME);
	assert_int_equal(engine->receiver.fd_count, 3);
	engine->shared = map_shared(engine->receiver.fds[0], sizeof(*engine->shared), 0);
	engine->doorbells = map_shared(engine->receiver.fds[1], VFU_PAGE_BYTES, VFU_PAGE_BYTES);
	engine->wake_fd = vfu_receiver_take_fd(&engine->receiver, 2);
	assert_int_equal(engine->shared->magic, VFU_SHARED_MAGIC);
}

void engine_fence(struct engine *engine)
{
	*engine = (struct engine){.fd = -1, .wake_fd = -1};
	assert_int_equal(pipe2(engine->fence, O_CLOEXEC), 0);
}

unsigned engine_open(struct engine *engine, const struct stage *stage)
{
	unsigned maps = 0;

	engine_fence(engine);
	engine_hello(engine, stage, VFU_LINK_VERSION, engine->fence[0]);
	engine_welcomed(engine);
	do {
		assert_int_equal(engine_receive(engine, STAGE_MS), 1);
		maps += engine->message.type == VFU_LINK_MAP;
	} while (engine->message.type != VFU_LINK_READY);
	return maps;
}

void engine_close(struct engine *engine)
{
	vfu_receiver_reset(&engine->receiver);
	close(engine->fd);
	close(engine->fence[0]);
	close(engine->fence[1]);
	if (engine->wake_fd >= 0)
		close(engine->wake_fd);
	if (engine->shared) {
		munmap(engine->shared, sizeof(*engine->shared));
		munmap(engine->doorbells, VFU_PAGE_BYTES);
	}
}

void engine_wait_for_link_end(struct engine *engine)
{
	int r;

	do
		r = engine_receive(engine, STAGE_MS);
	while (r > 0);
	assert_int_equal(r, -EPIPE);
	close(engine->fd);
	engine->fd = -1;
}
