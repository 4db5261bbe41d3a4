/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's connection: who is welcome, what it is told, and what is waited for when it is dead
 * or does not answer (rules 1, 6 and 7).
 *
 * One engine at a time. Another may connect while the one before is there, or dying; it waits in
 * `candidate_fd` until the fence has hung up. More wait in the socket's backlog: a connection that
 * is closed before its hello was read would lose what it is told.
 */
#include "keeper/keeper_priv.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"

/* For one that does not answer: dead, stopped or mad. */
static void engine_kill(struct keeper *keeper, const char *why)
{
	if (keeper->engine_killed || keeper->engine_pidfd < 0 || keeper->options.merciful)
		return;
	log_error("keeper", "the engine is killed", "why=%s pid=%d", why, (int)keeper->engine_pid);
	keeper->engine_killed = true;
	if (syscall(SYS_pidfd_send_signal, keeper->engine_pidfd, SIGKILL, NULL, 0) < 0 &&
	    errno != ESRCH) /* it has gone by itself */
		log_error("keeper", "the engine cannot be killed", "error=%d", errno);
}

static int send_message(int fd, const struct vfu_link_message *message, const int *fds,
			unsigned fd_count)
{
	struct iovec iov = {(void *)message, sizeof(*message)};

	return vfu_send(fd, &iov, 1, fds, fd_count);
}

static void engine_send(struct keeper *keeper, const struct vfu_link_message *message,
			const int *fds, unsigned fd_count)
{
	int r;

	if (keeper->engine_fd < 0)
		return;
	r = send_message(keeper->engine_fd, message, fds, fd_count);
	vfu_store(&keeper->shared->told, keeper->shared->told + 1);
	keeper->engine_told = true;
	if (r == 0 || r == -EPIPE)
		return; /* a hang-up shows in the loop */
	/* It has missed a part: it connects again and gets all that exists. */
	log_warning("keeper", "the engine's link is closed: it does not read", "error=%d", r);
	(void)shutdown(keeper->engine_fd, SHUT_RDWR); /* of a connected socket */
}

/* POLLOUT is told while less than a quarter of the socket's buffer is in use. */
bool engine_has_room(struct keeper *keeper)
{
	struct pollfd polled = {keeper->engine_fd, POLLOUT, 0};

	if (keeper->engine_told && keeper->engine_fd >= 0 && poll(&polled, 1, 0) == 0)
		return false;
	keeper->engine_told = false;
	return true;
}

void engine_send_map(struct keeper *keeper, unsigned index)
{
	const struct vfu_map *map = &keeper->shared->maps[index];
	struct vfu_link_message message = {.type = VFU_LINK_MAP,
					   .id = map->id,
					   .address = map->address,
					   .length = map->length,
					   .offset = keeper->maps[index].offset,
					   .flags = map->flags};

	/* What has no memory behind it cannot be reached: the engine knows nothing of it. */
	if (map->flags & VFU_MAP_MEMORY)
		engine_send(keeper, &message, &keeper->maps[index].fd, 1);
}

void engine_send_irqs(struct keeper *keeper, uint32_t kind, uint32_t first, uint32_t count)
{
	struct vfu_link_message message = {
		.type = VFU_LINK_IRQS, .kind = kind, .first = first, .count = count};
	int fds[VFU_LINK_FDS_MAX];

	for (uint32_t i = 0; i < count; i++) {
		fds[i] = kind == VFU_IRQ_MSIX ? keeper->msix_fds[first + i] : keeper->intx_fd;
		if (fds[i] < 0)
			fds[i] = keeper->nobody_fd;
	}
	engine_send(keeper, &message, fds, count);
}

void engine_wake(struct keeper *keeper)
{
	uint64_t one = 1;

	/* -EAGAIN: the counter is full, so the engine has been woken already. */
	(void)!write(keeper->wake_fd, &one, sizeof(one));
}

void engine_refuse_replace(struct keeper *keeper, int error)
{
	engine_send(keeper,
		    &(struct vfu_link_message){.type = VFU_LINK_REFUSED,
					       .version = VFU_LINK_VERSION,
					       .value = (uint64_t)-error},
		    NULL, 0);
	if (keeper->engine_fd >= 0)
		(void)shutdown(keeper->engine_fd, SHUT_WR); /* it closes when it has read that */
}

/* Nothing of the engine before is in flight any more. */
static void drop_fence(struct keeper *keeper)
{
	if (keeper->fence_fd >= 0)
		close(keeper->fence_fd);
	keeper->fence_fd = -1;
	if (keeper->engine_pidfd >= 0)
		close(keeper->engine_pidfd);
	keeper->engine_pidfd = -1;
	keeper->engine_pid = 0;
}

/* --- waiting --- */

static bool wait_is_over(const struct keeper *keeper)
{
	if (keeper->engine_fd >= 0)
		return false; /* it says so itself */
	return keeper->fence_fd < 0;
}

void engine_wait(struct keeper *keeper, enum keeper_wait wait, const struct vfu_header *header,
		 unsigned map)
{
	struct vfu_link_message message = {.type = VFU_LINK_UNMAP,
					   .id = keeper->shared->maps[map].id};

	ASSERT(keeper->wait == KEEPER_WAIT_NOTHING);
	keeper->wait = wait;
	keeper->wait_header = *header;
	keeper->wait_map = map;
	keeper->wait_since_ns = keeper_now_ns();
	if (keeper->batch_since_ns == 0)
		keeper->batch_since_ns = keeper->wait_since_ns;
	if (wait == KEEPER_WAIT_UNMAP && keeper->shared->maps[map].flags & VFU_MAP_MEMORY)
		engine_send(keeper, &message, NULL, 0);
	else if (wait == KEEPER_WAIT_UNMAP)
		client_finish_wait(keeper, 0);
	if (keeper->wait != KEEPER_WAIT_NOTHING && wait_is_over(keeper))
		client_finish_wait(keeper, 0);
}

void engine_check_patience(struct keeper *keeper)
{
	uint64_t now = keeper_now_ns();

	if (keeper->full_since_ns &&
	    now - keeper->full_since_ns > KEEPER_PATIENCE_MS * NSEC_PER_MSEC) {
		keeper->full_since_ns = 0;
		(void)shutdown(keeper->engine_fd, SHUT_RDWR); /* or there is none any more */
	}
	if (keeper->wait == KEEPER_WAIT_NOTHING)
		return;
	/* A new engine has time of its own. */
	if (now - MAX(keeper->batch_since_ns, keeper->engine_since_ns) >
	    KEEPER_PATIENCE_MS * NSEC_PER_MSEC)
		engine_kill(keeper, "it does not answer");
	if (now - keeper->batch_since_ns > KEEPER_ANSWER_MS * NSEC_PER_MSEC &&
	    now - keeper->wait_since_ns > KEEPER_GRACE_MS * NSEC_PER_MSEC) {
		log_error("keeper", "the engine's I/O does not end", "pid=%d wait=%d",
			  (int)keeper->engine_pid, (int)keeper->wait);
		client_finish_wait(keeper, -ETIMEDOUT);
	}
}

/* --- welcome --- */

static void send_all_irqs(struct keeper *keeper)
{
	if (keeper->intx_fd >= 0)
		engine_send_irqs(keeper, VFU_IRQ_INTX, 0, 1);
	for (uint32_t first = 0; first < VFU_VECTOR_COUNT; first += VFU_LINK_FDS_MAX) {
		uint32_t count = MIN(VFU_VECTOR_COUNT - first, (uint32_t)VFU_LINK_FDS_MAX);
		bool any = false;

		for (uint32_t i = 0; i < count; i++)
			any = any || keeper->msix_fds[first + i] >= 0;
		if (any)
			engine_send_irqs(keeper, VFU_IRQ_MSIX, first, count);
	}
}

static void engine_welcome(struct keeper *keeper)
{
	int fds[] = {keeper->shared_fd, keeper->doorbells_fd, keeper->wake_fd};
	struct vfu_link_message message = {.type = VFU_LINK_WELCOME,
					   .version = VFU_LINK_VERSION,
					   .value = keeper->shared->engine_epoch + 1};

	keeper->engine_fd = keeper->candidate_fd;
	keeper->candidate_fd = -1;
	drop_fence(keeper);
	keeper->engine_since_ns = keeper_now_ns();
	keeper->full_since_ns = 0;
	keeper->engine_pid = (pid_t)keeper->candidate_message.value;
	keeper->engine_pidfd = (int)syscall(SYS_pidfd_open, keeper->engine_pid, 0);
	keeper->engine_killed = false;
	keeper->fence_fd = vfu_receiver_take_fd(&keeper->candidate_receiver, 0);
	vfu_receiver_reset(&keeper->candidate_receiver);
	vfu_receiver_reset(&keeper->engine_receiver);
	vfu_store(&keeper->shared->engine_asleep, 0);
	vfu_store(&keeper->shared->engine_epoch, keeper->shared->engine_epoch + 1);
	keeper->shared->counters.engines++;
	log_info("keeper", "an engine takes over", "pid=%d epoch=%llu", (int)keeper->engine_pid,
		 (unsigned long long)keeper->shared->engine_epoch);
	engine_send(keeper, &message, fds, ARRAY_SIZE(fds));
	if (keeper->early_fd >= 0 && keeper->candidate_message.flags & VFU_HELLO_EARLY)
		engine_send(keeper, &(struct vfu_link_message){.type = VFU_LINK_EARLY},
			    &keeper->early_fd, 1);
	for (unsigned i = 0; i < VFU_MAP_COUNT; i++)
		if (keeper->shared->maps[i].length > 0)
			engine_send_map(keeper, i);
	send_all_irqs(keeper);
	engine_send(keeper, &(struct vfu_link_message){.type = VFU_LINK_READY}, NULL, 0);
}

static void candidate_close(struct keeper *keeper, int error)
{
	struct vfu_link_message message = {
		.type = VFU_LINK_REFUSED, .version = VFU_LINK_VERSION, .value = (uint64_t)error};

	if (error)
		(void)send_message(keeper->candidate_fd, &message, NULL, 0); /* as a courtesy */
	close(keeper->candidate_fd);
	keeper->candidate_fd = -1;
	vfu_receiver_reset(&keeper->candidate_receiver);
}

/* The same engine again: it closed its link with nothing in flight (link.h). */
static bool same_fence(const struct keeper *keeper)
{
	struct stat before, now;

	return fstat(keeper->fence_fd, &before) == 0 &&
	       fstat(keeper->candidate_receiver.fds[0], &now) == 0 && before.st_dev == now.st_dev &&
	       before.st_ino == now.st_ino;
}

static void welcome_if_possible(struct keeper *keeper)
{
	if (keeper->candidate_fd < 0 || keeper->engine_fd >= 0 ||
	    keeper->candidate_receiver.used != sizeof(keeper->candidate_message))
		return;
	if (keeper->fence_fd >= 0 && same_fence(keeper)) {
		drop_fence(keeper);
		if (keeper->wait != KEEPER_WAIT_NOTHING)
			client_finish_wait(keeper, 0);
	}
	if (keeper->fence_fd < 0 && keeper->wait == KEEPER_WAIT_NOTHING)
		engine_welcome(keeper);
}

void engine_accept(struct keeper *keeper)
{
	int fd = accept4(keeper->link_listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return; /* it went away */
	keeper->candidate_fd = fd;
}

/* The process that connected: the one that may be killed. */
static int check_hello(struct keeper *keeper)
{
	struct vfu_link_message *hello = &keeper->candidate_message;
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	struct stat fence;

	if (hello->type != VFU_LINK_HELLO || keeper->candidate_receiver.fd_count != 1)
		return -EPROTO;
	if (hello->version != VFU_LINK_VERSION)
		return -EPROTONOSUPPORT;
	/* Anything else would never hang up. */
	if (fstat(keeper->candidate_receiver.fds[0], &fence) < 0 || !S_ISFIFO(fence.st_mode))
		return -EPROTO;
	if (getsockopt(keeper->candidate_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return -errno;
	hello->value = (uint64_t)peer.pid;
	return 0;
}

void engine_candidate_readable(struct keeper *keeper)
{
	int r;

	if (keeper->candidate_receiver.used == sizeof(keeper->candidate_message)) {
		char byte;

		/* It says no more before it is welcome: so it hung up. */
		if (recv(keeper->candidate_fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 ||
		    errno != EAGAIN)
			candidate_close(keeper, 0);
		return;
	}
	r = vfu_receive(&keeper->candidate_receiver, keeper->candidate_fd,
			&keeper->candidate_message, sizeof(keeper->candidate_message));
	if (r > 0)
		r = check_hello(keeper);
	else if (r == 0)
		return;
	if (r < 0)
		candidate_close(keeper, r == -EPIPE ? 0 : -r);
	else
		welcome_if_possible(keeper);
}

/* --- what it says --- */

static void retire(struct keeper *keeper, bool at_once)
{
	keeper->retiring = true;
	if (at_once || keeper->client_fd < 0)
		keeper->finished = true;
}

static int handle(struct keeper *keeper, const struct vfu_link_message *message)
{
	const struct vfu_registers *registers = &keeper->shared->registers;

	if (keeper->engine_receiver.fd_count > 0)
		return -EPROTO;
	switch (message->type) {
	case VFU_LINK_UNMAPPED:
		if (keeper->wait == KEEPER_WAIT_UNMAP &&
		    message->id == keeper->shared->maps[keeper->wait_map].id)
			client_finish_wait(keeper, 0);
		return 0;
	case VFU_LINK_QUIESCED:
		if ((keeper->wait == KEEPER_WAIT_RESET || keeper->wait == KEEPER_WAIT_FLR) &&
		    (int32_t)((uint32_t)message->value - registers->reset_count) >= 0)
			client_finish_wait(keeper, 0);
		return 0;
	case VFU_LINK_RETIRE:
		retire(keeper, message->value == 1);
		return 0;
	case VFU_LINK_REPLACE:
		keeper->replacing = true;
		return 0;
	case VFU_LINK_BYE:
		drop_fence(keeper);
		return -EPIPE;
	default:
		return -EPROTO;
	}
}

void engine_readable(struct keeper *keeper)
{
	int r;

	while ((r = vfu_receive(&keeper->engine_receiver, keeper->engine_fd,
				&keeper->engine_message, sizeof(keeper->engine_message))) > 0) {
		r = handle(keeper, &keeper->engine_message);
		vfu_receiver_reset(&keeper->engine_receiver);
		if (r < 0 || keeper->finished || keeper->replacing)
			break;
	}
	if (r < 0)
		engine_close(keeper);
}

/* It is dead, or leaves: from here on only its fence counts. */
void engine_close(struct keeper *keeper)
{
	close(keeper->engine_fd);
	keeper->engine_fd = -1;
	vfu_receiver_reset(&keeper->engine_receiver);
	log_info("keeper", "the engine has gone", "pid=%d", (int)keeper->engine_pid);
	if (keeper->fence_fd < 0 && keeper->wait != KEEPER_WAIT_NOTHING)
		client_finish_wait(keeper, 0);
	welcome_if_possible(keeper);
}

void engine_fence_hung_up(struct keeper *keeper)
{
	drop_fence(keeper);
	if (keeper->engine_fd >= 0) {
		engine_close(keeper);
		return;
	}
	if (keeper->wait != KEEPER_WAIT_NOTHING)
		client_finish_wait(keeper, 0);
	welcome_if_possible(keeper);
}
