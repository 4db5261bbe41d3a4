/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's end of a keeper's link.
 *
 * 1. What the keeper sends is checked: a message that is unknown, or has other descriptors than it
 *    must have, ends the link. Memory is sealed against shrinking and events do not block, so
 *    that neither a keeper nor a virtual machine can end or stop the process.
 * 2. A range of guest memory is mapped here from MAP until the controller says that nothing uses
 *    it; only then UNMAPPED is sent.
 * 3. Two polls are in the ring while the link is started: of the socket and of the event that wakes
 *    the engine. Each re-arms itself. A third, of the keeper's early word, is armed when the
 *    controller falls asleep. close() cancels all and waits.
 *
 * Home: the controller's reactor. Failures: the keeper is gone, or speaks nonsense: `lost` is
 * called once, and the controller runs on without guests until it is closed.
 */
#include "frontend/nvme/link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "reactor/fiber.h"
#include "vfu/link.h"
#include "vfu/receive.h"
#include "world/real.h"

#define OPEN_TIMEOUT_NS (30 * NSEC_PER_SEC)
#define OPEN_LOOK_NS    (NSEC_PER_MSEC / 2) /* between looks while it is being opened */
#define DOORBELLS_AT    VFU_PAGE_BYTES      /* in their file: vfu/link.h */

struct link_map {
	uint32_t id; /* 0 = free */
	void *memory;
	uint64_t length;
};

struct link_watch { /* of one descriptor */
	struct world_op op;
	struct nvme_link *link;
	bool armed;
};

struct nvme_link {
	struct nvme_link_options options;
	struct nvme_controller *controller;
	struct vfu_shared *shared;
	struct vfu_doorbells *doorbells;
	int fd, wake_fd, early_fd, intx_fd, msix_fds[VFU_VECTOR_COUNT];
	struct vfu_receiver receiver;
	struct vfu_link_message message;
	struct link_map maps[VFU_MAP_COUNT];
	struct link_watch socket, wake, early;
	struct fiber *closer; /* waits for the watches to end */
	bool welcome, ready, started, lost, closing;
};

static void set_fd(int *fd, int value)
{
	if (*fd >= 0)
		close(*fd);
	*fd = value;
}

static int link_send(struct nvme_link *link, const struct vfu_link_message *message, const int *fds,
		     unsigned fd_count)
{
	struct iovec iov = {(void *)message, sizeof(*message)};

	return link->lost ? -ECONNRESET : vfu_send(link->fd, &iov, 1, fds, fd_count);
}

/* --- what the controller asks for --- */

static void link_interrupt(void *context, unsigned vector)
{
	struct nvme_link *link = context;
	uint64_t one = 1;
	int fd = link->intx_fd;

	if (vfu_load(&link->shared->msix_enabled)) /* the vector is from shared memory too */
		fd = vector < VFU_VECTOR_COUNT ? link->msix_fds[vector] : -1;
	if (fd >= 0) /* -EAGAIN: it is signalled already */
		(void)!write(fd, &one, sizeof(one));
}

static void link_unmapped(void *context, uint32_t id)
{
	struct nvme_link *link = context;

	for (unsigned i = 0; i < VFU_MAP_COUNT; i++) {
		struct link_map *map = &link->maps[i];

		if (map->id != id)
			continue;
		munmap(map->memory, map->length);
		*map = (struct link_map){0};
	}
	/* When it cannot be sent the link is lost, and told so by its watch. */
	(void)link_send(link, &(struct vfu_link_message){.type = VFU_LINK_UNMAPPED, .id = id}, NULL,
			0);
}

static void link_quiesced(void *context, uint32_t reset_count)
{
	struct vfu_link_message message = {.type = VFU_LINK_QUIESCED, .value = reset_count};

	(void)link_send(context, &message, NULL, 0); /* as above */
}

/* --- watches --- */

static void watch(struct link_watch *watch, int fd)
{
	watch->armed = true;
	world_real_poll(reactor_port(watch->link->options.home), fd, &watch->op);
}

/* True when there is nothing to watch any more. */
static bool watch_ended(struct link_watch *watch)
{
	struct nvme_link *link = watch->link;

	watch->armed = false;
	if (link->closing && link->closer)
		fiber_wake(link->closer);
	return link->closing || link->lost;
}

static void link_sleeping(void *context)
{
	struct nvme_link *link = context;

	if (link->early_fd >= 0 && link->started && !link->early.armed && !link->lost &&
	    !link->closing)
		watch(&link->early, link->early_fd);
}

static int link_formatted(void *context, uint32_t nsid, uint32_t block_bytes)
{
	const struct nvme_link_options *options = &((struct nvme_link *)context)->options;

	return options->formatted ? options->formatted(options->context, nsid, block_bytes)
				  : -EOPNOTSUPP;
}

static int link_manage(void *context, struct nvme_management *what)
{
	const struct nvme_link_options *options = &((struct nvme_link *)context)->options;

	return options->manage ? options->manage(options->context, what) : -EOPNOTSUPP;
}

static void link_settle(void *context);

static const struct nvme_host_ops link_host = {
	.interrupt = link_interrupt,
	.unmapped = link_unmapped,
	.quiesced = link_quiesced,
	.sleeping = link_sleeping,
	.settle = link_settle,
	.formatted = link_formatted,
	.manage = link_manage,
};

/* --- for tests: SARSEN_NVME_DIE=POINT:COUNT kills the process the COUNT-th time that a commit
 * point (enum nvme_point) is passed, and not later than that --- */

static struct {
	unsigned long point;
	_Atomic unsigned long count;
} link_doom;

static void link_point(void *context, enum nvme_point point)
{
	(void)context;
	if (point == link_doom.point && --link_doom.count == 0)
		(void)kill(getpid(), SIGKILL); /* does not return */
}

static const struct nvme_host_ops doomed_host = {
	.interrupt = link_interrupt,
	.unmapped = link_unmapped,
	.quiesced = link_quiesced,
	.sleeping = link_sleeping,
	.settle = link_settle,
	.formatted = link_formatted,
	.manage = link_manage,
	.point = link_point,
};

static const struct nvme_host_ops *choose_host(void)
{
	const char *text = getenv("SARSEN_NVME_DIE");
	char *end;

	if (!text)
		return &link_host;
	link_doom.point = strtoul(text, &end, 10);
	link_doom.count = *end == ':' ? strtoul(end + 1, NULL, 10) : 1;
	return &doomed_host;
}

/* --- messages --- */

static int map_file(int fd, uint64_t bytes, uint64_t offset, int protection, void **ret_memory)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat status;
	void *memory;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPROTO;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (offset > (uint64_t)status.st_size || bytes > (uint64_t)status.st_size - offset)
		return -EPROTO;
	memory = mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)offset);
	if (memory == MAP_FAILED)
		return -errno;
	*ret_memory = memory;
	return 0;
}

/* An event is a file of no type; to write to, or to read from, something else could block. */
static int check_event(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat status;

	if (flags < 0 || fstat(fd, &status) < 0 || (status.st_mode & S_IFMT) != 0)
		return -EPROTO;
	return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static int handle_welcome(struct nvme_link *link, const struct vfu_link_message *message)
{
	struct vfu_receiver *receiver = &link->receiver;
	void *shared, *doorbells;
	int r;

	if (link->welcome || receiver->fd_count != 3 || message->version != VFU_LINK_VERSION)
		return -EPROTO;
	r = map_file(receiver->fds[0], sizeof(*link->shared), 0, PROT_READ | PROT_WRITE, &shared);
	if (r < 0)
		return r;
	link->shared = shared;
	r = map_file(receiver->fds[1], VFU_PAGE_BYTES, DOORBELLS_AT, PROT_READ | PROT_WRITE,
		     &doorbells);
	if (r < 0)
		return r;
	link->doorbells = doorbells;
	r = check_event(receiver->fds[2]);
	if (r < 0)
		return r;
	link->wake_fd = vfu_receiver_take_fd(receiver, 2);
	link->welcome = true;
	return nvme_controller_new(&link->options.controller, link->shared, link->doorbells,
				   &link->controller);
}

static int handle_map(struct nvme_link *link, const struct vfu_link_message *message)
{
	struct vfu_map map = {.address = message->address,
			      .length = message->length,
			      .id = message->id,
			      .flags = message->flags};
	int protection = (message->flags & VFU_MAP_READ ? PROT_READ : 0) |
			 (message->flags & VFU_MAP_WRITE ? PROT_WRITE : 0);
	struct link_map *entry = NULL;
	void *memory;
	int r;

	if (link->receiver.fd_count != 1 || message->id == 0)
		return -EPROTO;
	for (unsigned i = 0; i < VFU_MAP_COUNT && !entry; i++)
		if (link->maps[i].id == 0)
			entry = &link->maps[i];
	if (!entry)
		return -EPROTO;
	r = map_file(link->receiver.fds[0], message->length, message->offset, protection, &memory);
	if (r < 0)
		return r;
	r = nvme_controller_map(link->controller, &map, memory);
	if (r < 0) {
		munmap(memory, message->length);
		return r;
	}
	*entry = (struct link_map){message->id, memory, message->length};
	return 0;
}

static int handle_irqs(struct nvme_link *link, const struct vfu_link_message *message)
{
	bool msix = message->kind == VFU_IRQ_MSIX;
	uint32_t vectors = msix ? VFU_VECTOR_COUNT : 1;
	int *fds = msix ? link->msix_fds : &link->intx_fd;

	if (!msix && message->kind != VFU_IRQ_INTX)
		return -EPROTO;
	if (message->first > vectors || message->count > vectors - message->first ||
	    link->receiver.fd_count != message->count)
		return -EPROTO;
	for (uint32_t i = 0; i < message->count; i++)
		if (check_event(link->receiver.fds[i]) < 0)
			return -EPROTO;
	for (uint32_t i = 0; message->count == 0 && i < vectors; i++)
		set_fd(&fds[i], -1);
	for (uint32_t i = 0; i < message->count; i++)
		set_fd(&fds[message->first + i], vfu_receiver_take_fd(&link->receiver, i));
	if (link->started)
		nvme_controller_kick(link->controller);
	return 0;
}

static int handle(struct nvme_link *link, const struct vfu_link_message *message)
{
	if (message->type == VFU_LINK_REFUSED)
		return message->value > 0 && message->value < 4096 ? -(int)message->value : -EPROTO;
	if (message->type == VFU_LINK_WELCOME)
		return handle_welcome(link, message);
	if (!link->controller)
		return -EPROTO;
	switch (message->type) {
	case VFU_LINK_MAP:
		return handle_map(link, message);
	case VFU_LINK_UNMAP:
		if (link->receiver.fd_count > 0)
			return -EPROTO;
		nvme_controller_unmap(link->controller, message->id);
		return 0;
	case VFU_LINK_IRQS:
		return handle_irqs(link, message);
	case VFU_LINK_EARLY:
		if (link->early_fd >= 0 || link->receiver.fd_count != 1)
			return -EPROTO;
		link->early_fd = vfu_receiver_take_fd(&link->receiver, 0);
		return 0;
	case VFU_LINK_READY:
		link->ready = true;
		return 0;
	case VFU_LINK_ATTENTION:
		if (link->started)
			nvme_controller_kick(link->controller);
		return 0;
	default:
		return -EPROTO;
	}
}

/* All that is there: 0, or why the link ends. */
static int receive_all(struct nvme_link *link)
{
	int r;

	while ((r = vfu_receive(&link->receiver, link->fd, &link->message, sizeof(link->message))) >
	       0) {
		r = handle(link, &link->message);
		vfu_receiver_reset(&link->receiver);
		if (r < 0)
			break;
	}
	return r == -EPIPE ? -ECONNRESET : r;
}

/* --- open --- */

static int link_pause(const struct nvme_link *link, uint64_t deadline_ns)
{
	const uint32_t *cancelled = link->options.cancelled;

	if (cancelled && vfu_load(cancelled))
		return -ECANCELED;
	if (reactor_now_ns(link->options.home) > deadline_ns)
		return -ETIMEDOUT;
	fiber_sleep(OPEN_LOOK_NS);
	return 0;
}

static int link_connect(struct nvme_link *link, uint64_t deadline_ns)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(link->options.path);
	int r;

	if (length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, link->options.path, length + 1);
	link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (link->fd < 0)
		return -errno;
	while (connect(link->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != EAGAIN) /* its backlog is full */
			return -errno;
		r = link_pause(link, deadline_ns);
		if (r < 0)
			return r;
	}
	return 0;
}

static int link_greet(struct nvme_link *link, uint64_t deadline_ns)
{
	struct vfu_link_message hello = {.type = VFU_LINK_HELLO,
					 .version = VFU_LINK_VERSION,
					 .value = (uint64_t)getpid(),
					 .flags = VFU_HELLO_EARLY};
	int r = link_send(link, &hello, &link->options.fence_fd, 1);

	while (r == 0 && !link->ready) {
		r = receive_all(link);
		if (r == 0 && !link->ready)
			r = link_pause(link, deadline_ns);
	}
	return r;
}

int nvme_link_open(const struct nvme_link_options *options, struct nvme_link **ret_link)
{
	uint64_t deadline_ns = reactor_now_ns(options->home) +
			       (options->timeout_ns ? options->timeout_ns : OPEN_TIMEOUT_NS);
	struct nvme_link *link = calloc(1, sizeof(*link));
	int r;

	if (!link)
		return -ENOMEM;
	link->options = *options;
	link->options.controller.home = options->home;
	link->options.controller.host = choose_host();
	link->options.controller.host_context = link;
	link->fd = link->wake_fd = link->early_fd = link->intx_fd = -1;
	for (unsigned i = 0; i < VFU_VECTOR_COUNT; i++)
		link->msix_fds[i] = -1;
	r = link_connect(link, deadline_ns);
	if (r == 0)
		r = link_greet(link, deadline_ns);
	if (r < 0) {
		nvme_link_close(link);
		return r;
	}
	*ret_link = link;
	return 0;
}

/* --- while it runs --- */

static void lose(struct nvme_link *link, int error)
{
	link->lost = true;
	if (link->options.lost)
		link->options.lost(link->options.context, error);
}

static void link_settle(void *context)
{
	struct nvme_link *link = context;
	int r = link->started && !link->lost && !link->closing ? receive_all(link) : 0;

	if (r < 0)
		lose(link, r);
}

static void on_socket(struct world_op *op, int64_t result)
{
	struct nvme_link *link = CONTAINER_OF(op, struct link_watch, op)->link;
	int r;

	if (watch_ended(&link->socket))
		return;
	r = result < 0 ? (int)result : receive_all(link);
	if (r == 0)
		watch(&link->socket, link->fd);
	else
		lose(link, r);
}

/* The event is edge-triggered, so it is gone when it is taken, however long the keeper leaves the
 * message unread. It is taken before the controller looks: what comes later tells again. */
static void on_early(struct world_op *op, int64_t result)
{
	struct nvme_link *link = CONTAINER_OF(op, struct link_watch, op)->link;
	struct epoll_event event;

	if (watch_ended(&link->early) || result < 0)
		return;
	if (epoll_wait(link->early_fd, &event, 1, 0) < 0 && errno != EINTR)
		set_fd(&link->early_fd, -1); /* it is no such thing: kicks will do */
	nvme_controller_look(link->controller);
}

static void on_wake(struct world_op *op, int64_t result)
{
	struct nvme_link *link = CONTAINER_OF(op, struct link_watch, op)->link;
	uint64_t count;

	if (watch_ended(&link->wake) || result < 0)
		return;
	(void)!read(link->wake_fd, &count, sizeof(count)); /* the count says nothing */
	nvme_controller_kick(link->controller);
	watch(&link->wake, link->wake_fd);
}

void nvme_link_start(struct nvme_link *link)
{
	reactor_assert_home(link->options.home);
	ASSERT(link->ready && !link->started);
	link->started = true;
	nvme_controller_start(link->controller);
	link->socket.link = link->wake.link = link->early.link = link;
	link->socket.op.done = on_socket;
	link->wake.op.done = on_wake;
	link->early.op.done = on_early;
	watch(&link->socket, link->fd);
	watch(&link->wake, link->wake_fd);
}

struct nvme_controller *nvme_link_controller(struct nvme_link *link)
{
	return link->controller;
}

const struct vfu_shared *nvme_link_shared(const struct nvme_link *link)
{
	return link->shared;
}

int nvme_link_retire(struct nvme_link *link, bool at_once)
{
	return link_send(link,
			 &(struct vfu_link_message){.type = VFU_LINK_RETIRE, .value = at_once},
			 NULL, 0);
}

int nvme_link_replace(struct nvme_link *link)
{
	return link_send(link, &(struct vfu_link_message){.type = VFU_LINK_REPLACE}, NULL, 0);
}

/* --- close --- */

static void end_watches(struct nvme_link *link)
{
	struct world_port *port = reactor_port(link->options.home);
	const struct world_ops *ops = reactor_world(link->options.home)->ops;

	link->closing = true;
	link->closer = fiber_current();
	if (link->socket.armed)
		ops->cancel(port, &link->socket.op);
	if (link->wake.armed)
		ops->cancel(port, &link->wake.op);
	if (link->early.armed)
		ops->cancel(port, &link->early.op);
	while (link->socket.armed || link->wake.armed || link->early.armed)
		fiber_suspend();
}

void nvme_link_close(struct nvme_link *link)
{
	if (!link)
		return;
	if (link->started) {
		nvme_controller_stop(link->controller);
		end_watches(link);
	}
	if (link->controller)
		nvme_controller_free(link->controller);
	for (unsigned i = 0; i < VFU_MAP_COUNT; i++)
		if (link->maps[i].id)
			munmap(link->maps[i].memory, link->maps[i].length);
	for (unsigned i = 0; i < VFU_VECTOR_COUNT; i++)
		set_fd(&link->msix_fds[i], -1);
	set_fd(&link->intx_fd, -1);
	set_fd(&link->wake_fd, -1);
	set_fd(&link->early_fd, -1);
	/* Nothing of it is in flight. When it cannot be sent the fence tells so. */
	if (link->welcome)
		(void)link_send(link, &(struct vfu_link_message){.type = VFU_LINK_BYE}, NULL, 0);
	vfu_receiver_reset(&link->receiver);
	set_fd(&link->fd, -1);
	if (link->shared)
		munmap(link->shared, sizeof(*link->shared));
	if (link->doorbells)
		munmap(link->doorbells, VFU_PAGE_BYTES);
	free(link);
}
