/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream sockets through the ring. Home: the port's thread.
 *
 * The descriptors block: the ring waits for them by poll, whereas O_NONBLOCK would make it return
 * -EAGAIN. The object for a new connection is made before the operation starts, so that no accepted
 * connection is lost for lack of memory.
 */
#include "world/real/real_priv.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "world/real/real_memory.h"

#define MAX_TRANSFER (UINT64_C(1) << 30)

struct world_socket {
	int fd;
	int family;
};

static void socket_free(struct world_socket *socket)
{
	if (socket->fd >= 0)
		(void)close(socket->fd); /* nothing is lost that the peer had acknowledged */
	free(socket);
}
DEFINE_CLEANUP(struct world_socket *, socket_free)

static struct world_socket *socket_alloc(int family)
{
	struct world_socket *socket = calloc(1, sizeof(*socket));

	if (socket) {
		socket->fd = -1;
		socket->family = family;
	}
	return socket;
}

static int socket_make(const struct sockaddr *address, struct world_socket **ret_socket)
{
	int family = address->sa_family;
	_cleanup_(socket_freep) struct world_socket *made = NULL;

	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return -EAFNOSUPPORT;
	made = socket_alloc(family);
	if (!made)
		return -ENOMEM;
	made->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (made->fd < 0)
		return -errno;
	*ret_socket = TAKE_PTR(made);
	return 0;
}

static int set_on(int fd, int level, int option)
{
	int on = 1;

	return setsockopt(fd, level, option, &on, sizeof(on)) < 0 ? -errno : 0;
}

static void set_no_delay(struct world_socket *socket)
{
	/* Only slower when it fails, for instance because the peer has reset the connection. */
	if (socket->family != AF_UNIX)
		(void)set_on(socket->fd, IPPROTO_TCP, TCP_NODELAY);
}

/*
 * Ports of dead daemons. Each listens with SO_REUSEPORT, which is set after its bind(), so that
 * between living ones a port that is in use is an error as ever. Among listeners of one port the
 * kernel chooses by a hash, half of the connections would go to the dead; a filter chooses for it,
 * by a number: ours is at most that of the dead. Which it is, a connection of our own tells (a
 * stranger's can have come before there was a filter, for that needs a listener); upwards, because
 * a number that nobody has leaves it to the hash. When the dead have gone there is no listener of
 * that number, and the kernel chooses among those that there are: us.
 */

#define REACH_MS 200 /* of a connection to ourselves */

static int choose(int fd, unsigned number)
{
	struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, number);
	struct sock_fprog program = {.len = 1, .filter = &code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) < 0
		       ? -errno
		       : 0;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Without what only one end knows of, as the flow of IPv6. */
static bool same_end(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;

	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET)
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return a6->sin6_port == b6->sin6_port &&
	       memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
}

/* Strangers who wait there lose their connection, and try again. */
static bool accepts(int listener, const struct sockaddr_storage *wanted)
{
	struct pollfd poll_fd = {.fd = listener, .events = POLLIN};
	int64_t end = now_ms() + REACH_MS, left;

	while ((left = end - now_ms()) >= 0 && poll(&poll_fd, 1, (int)left) == 1) {
		struct sockaddr_storage peer = {0};
		socklen_t length = sizeof(peer);
		int accepted = accept4(listener, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC);

		if (accepted < 0)
			continue;      /* it was reset meanwhile */
		(void)close(accepted); /* nothing was sent on it */
		if (same_end(&peer, wanted))
			return true;
	}
	return false;
}

/* Where it listens on all addresses, that is an address of this machine, too. */
static bool connects_to(const struct world_socket *listener, const struct sockaddr *address,
			socklen_t length)
{
	int fd = socket(listener->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_storage own = {0};
	socklen_t own_length = sizeof(own);
	bool reached;

	if (fd < 0)
		return false;
	reached = (connect(fd, address, length) == 0 || errno == EINPROGRESS) &&
		  getsockname(fd, (struct sockaddr *)&own, &own_length) == 0 &&
		  accepts(listener->fd, &own);
	(void)close(fd);
	return reached;
}

static int choose_us(const struct world_socket *listener, const struct sockaddr *address,
		     socklen_t length, unsigned dead)
{
	for (unsigned number = 0; number <= dead; number++) {
		int error = choose(listener->fd, number);

		if (error)
			return error;
		if (connects_to(listener, address, length))
			return 0;
	}
	return -EADDRINUSE;
}

static int listen_on(struct world_socket *made, const struct sockaddr *address, socklen_t length,
		     int backlog)
{
	int error = set_on(made->fd, SOL_SOCKET, SO_REUSEADDR);

	if (error)
		return error;
	if (bind(made->fd, address, length) < 0)
		return -errno;
	error = set_on(made->fd, SOL_SOCKET, SO_REUSEPORT);
	if (error)
		return error;
	return listen(made->fd, backlog) < 0 ? -errno : 0;
}

static int listen_beside(struct world_socket *made, const struct sockaddr *address,
			 socklen_t length, int backlog, unsigned dead)
{
	int error = set_on(made->fd, SOL_SOCKET, SO_REUSEPORT);

	if (error)
		return error;
	if (bind(made->fd, address, length) < 0 || listen(made->fd, backlog) < 0)
		return -errno;
	return choose_us(made, address, length, dead);
}

int real_socket_listen(struct world_port *port, const struct sockaddr *address, socklen_t length,
		       int backlog, struct world_socket **ret_socket)
{
	_cleanup_(socket_freep) struct world_socket *made = NULL;
	unsigned dead = port->real->options.dead_listeners;
	int error = socket_make(address, &made);

	if (error)
		return error;
	if (made->family == AF_UNIX)
		error = bind(made->fd, address, length) < 0 || listen(made->fd, backlog) < 0
				? -errno
				: 0;
	else
		error = listen_on(made, address, length, backlog);
	if (error == -EADDRINUSE && made->family != AF_UNIX && dead > 0)
		error = listen_beside(made, address, length, backlog, dead);
	if (error)
		return error;
	*ret_socket = TAKE_PTR(made);
	return 0;
}

int real_socket_address(struct world_socket *socket, bool peer,
			struct sockaddr_storage *ret_address, socklen_t *ret_length)
{
	struct sockaddr_storage address = {0};
	socklen_t length = sizeof(address);
	int status;

	if (peer)
		status = getpeername(socket->fd, (struct sockaddr *)&address, &length);
	else
		status = getsockname(socket->fd, (struct sockaddr *)&address, &length);
	if (status < 0)
		return -errno;
	*ret_address = address;
	*ret_length = length;
	return 0;
}

struct connection_op { /* accept and connect */
	struct real_head head;
	struct world_socket *listener;
	const struct sockaddr *address;
	socklen_t length;
	struct world_socket *made;
	struct world_socket **ret_socket;
};
REAL_OP_FITS(struct connection_op);

static void prepare_accept(struct world_op *op, struct io_uring_sqe *sqe)
{
	struct connection_op *state = real_op_state(op);

	io_uring_prep_accept(sqe, state->listener->fd, NULL, NULL, SOCK_CLOEXEC);
}

static void complete_accept(struct world_op *op, int result)
{
	struct connection_op *state = real_op_state(op);

	if (result == -EINTR && !state->head.cancelled) {
		real_port_queue(op->port, op);
		return;
	}
	if (result < 0) {
		real_op_finish(op, result);
		return;
	}
	state->made->fd = result;
	set_no_delay(state->made);
	*state->ret_socket = TAKE_PTR(state->made);
	real_op_finish(op, 0);
}

static void drop_connection(struct world_op *op)
{
	struct connection_op *state = real_op_state(op);

	if (state->made)
		socket_free(TAKE_PTR(state->made));
}

static const struct real_kind accept_kind = {
	.prepare = prepare_accept,
	.complete = complete_accept,
	.drop = drop_connection,
};

void real_socket_accept(struct world_port *port, struct world_socket *listener,
			struct world_socket **ret_socket, struct world_op *op)
{
	struct connection_op *state = real_op_begin(port, op, &accept_kind);

	state->listener = listener;
	state->ret_socket = ret_socket;
	state->made = socket_alloc(listener->family);
	if (state->made)
		real_port_queue(port, op);
	else
		real_op_finish_later(op, -ENOMEM);
}

static void prepare_connect(struct world_op *op, struct io_uring_sqe *sqe)
{
	struct connection_op *state = real_op_state(op);

	io_uring_prep_connect(sqe, state->made->fd, state->address, state->length);
}

static void complete_connect(struct world_op *op, int result)
{
	struct connection_op *state = real_op_state(op);

	if (result == 0)
		*state->ret_socket = TAKE_PTR(state->made);
	real_op_finish(op, result);
}

static const struct real_kind connect_kind = {
	.prepare = prepare_connect,
	.complete = complete_connect,
	.drop = drop_connection,
};

void real_socket_connect(struct world_port *port, const struct sockaddr *address, socklen_t length,
			 struct world_socket **ret_socket, struct world_op *op)
{
	struct connection_op *state = real_op_begin(port, op, &connect_kind);
	int error = socket_make(address, &state->made);

	if (error) {
		real_op_finish_later(op, error);
		return;
	}
	set_no_delay(state->made);
	state->address = address;
	state->length = length;
	state->ret_socket = ret_socket;
	real_port_queue(port, op);
}

struct transfer_op { /* receive and send */
	struct real_head head;
	struct world_socket *socket;
	struct msghdr message; /* its vector is the caller's */
};
REAL_OP_FITS(struct transfer_op);

static unsigned single_length(const struct transfer_op *state)
{
	return (unsigned)MIN((uint64_t)state->message.msg_iov->iov_len, MAX_TRANSFER);
}

static void prepare_receive(struct world_op *op, struct io_uring_sqe *sqe)
{
	struct transfer_op *state = real_op_state(op);
	int fd = state->socket->fd;

	if (state->message.msg_iovlen == 1)
		io_uring_prep_recv(sqe, fd, state->message.msg_iov->iov_base, single_length(state),
				   0);
	else
		io_uring_prep_recvmsg(sqe, fd, &state->message, 0);
}

static void prepare_send(struct world_op *op, struct io_uring_sqe *sqe)
{
	struct transfer_op *state = real_op_state(op);
	int fd = state->socket->fd;

	if (state->message.msg_iovlen == 1)
		io_uring_prep_send(sqe, fd, state->message.msg_iov->iov_base, single_length(state),
				   MSG_NOSIGNAL);
	else
		io_uring_prep_sendmsg(sqe, fd, &state->message, MSG_NOSIGNAL);
}

static bool go_on(struct world_op *op, int result)
{
	struct transfer_op *state = real_op_state(op);

	if (result != -EINTR || state->head.cancelled)
		return false;
	real_port_queue(op->port, op);
	return true;
}

static void complete_receive(struct world_op *op, int result)
{
	struct transfer_op *state = real_op_state(op);

	if (go_on(op, result))
		return;
	if (result > 0)
		real_memory_written(state->message.msg_iov, (int)state->message.msg_iovlen,
				    (uint64_t)result);
	real_op_finish(op, result);
}

static void complete_send(struct world_op *op, int result)
{
	if (!go_on(op, result))
		real_op_finish(op, result);
}

static const struct real_kind receive_kind = {prepare_receive, complete_receive, NULL};
static const struct real_kind send_kind = {prepare_send, complete_send, NULL};

static void transfer(struct world_port *port, struct world_socket *socket, const struct iovec *iov,
		     int iov_count, struct world_op *op)
{
	struct transfer_op *state = real_op_state(op);

	if (iov_count < 1 || iov_count > IOV_MAX) {
		real_op_finish_later(op, -EINVAL);
		return;
	}
	state->socket = socket;
	state->message.msg_iov = (struct iovec *)iov; /* the kernel does not write it */
	state->message.msg_iovlen = (size_t)iov_count;
	real_port_queue(port, op);
}

void real_socket_receive(struct world_port *port, struct world_socket *socket,
			 const struct iovec *iov, int iov_count, struct world_op *op)
{
	(void)real_op_begin(port, op, &receive_kind);
	real_memory_check_target(iov, iov_count);
	transfer(port, socket, iov, iov_count, op);
}

void real_socket_send(struct world_port *port, struct world_socket *socket, const struct iovec *iov,
		      int iov_count, struct world_op *op)
{
	(void)real_op_begin(port, op, &send_kind);
	real_memory_check_source(iov, iov_count);
	transfer(port, socket, iov, iov_count, op);
}

void real_socket_shutdown(struct world_socket *socket)
{
	(void)shutdown(socket->fd, SHUT_RDWR); /* fails only when the peer was faster */
}

void real_socket_close(struct world_socket *socket)
{
	socket_free(socket);
}
