/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream sockets in memory. Every connection has two ends, each with a ring of bytes that
 * have arrived. A send moves bytes into the peer's ring when it takes effect, in pieces of
 * any size; an operation that finds nothing to do is parked until the other side did
 * something, then tries again after a new delay.
 *
 * Invariants.
 *  1. a->peer == b exactly when b->peer == a; a closed end leaves NULL with its peer.
 *  2. A parked operation is in exactly one queue, found by its kind; no other operation is
 *     in one.
 *  3. in_flight counts the socket's operations from submission until their owner is told.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/reached.h"
#include "world/sim/sim_priv.h"

#define RING_BYTES (64 * KIB)
#define BACKLOG_MAX 128
#define FIRST_EPHEMERAL 40000

struct queue { /* of parked operations, FIFO */
	struct sim_op *head, *tail;
};

struct address {
	struct sockaddr_storage storage;
	socklen_t length;
};

struct world_socket {
	struct list_node link; /* of the simulation */
	struct sim *sim;
	struct address local, remote;
	bool listening;
	bool shut;  /* by its owner */
	bool ended; /* the peer sends no more */
	bool reset;
	unsigned in_flight;

	/* Listening. */
	int backlog;
	struct list incoming; /* connections that nobody accepted yet */
	int incoming_count;
	struct list_node incoming_link;
	struct queue acceptors, connectors;

	/* Connected. */
	struct world_socket *peer;
	struct queue receivers, senders;
	uint8_t *ring;
	size_t first, count;
};

static struct queue *queue_of(struct sim_op *op, enum sim_op_kind kind)
{
	struct world_socket *socket = op->net.socket;

	switch (kind) {
	case SIM_OP_ACCEPT:
		return &socket->acceptors;
	case SIM_OP_CONNECT:
		return &socket->connectors;
	case SIM_OP_RECEIVE:
		return &socket->receivers;
	default:
		return &socket->senders;
	}
}

static int64_t park(struct sim_op *op)
{
	struct queue *queue = queue_of(op, sim_op_kind(op));

	op->net.next = NULL;
	if (queue->head)
		queue->tail->net.next = op;
	else
		queue->head = op;
	queue->tail = op;
	return SIM_PARK;
}

static void unpark(struct sim_op *op)
{
	struct queue *queue;
	struct sim_op **at, *previous = NULL;

	if (sim_op_stage(op) != SIM_PARKED)
		return;
	queue = queue_of(op, sim_op_kind(op));
	for (at = &queue->head; *at != op; at = &(*at)->net.next)
		previous = *at;
	*at = op->net.next;
	if (queue->tail == op)
		queue->tail = previous;
}

static void wake(struct sim *sim, struct queue *queue)
{
	struct sim_op *op = queue->head;

	if (!op)
		return;
	unpark(op);
	sim_op_retry(sim, op);
}

static void wake_all(struct sim *sim, struct queue *queue)
{
	while (queue->head)
		wake(sim, queue);
}

static struct world_socket *socket_new(struct sim *sim)
{
	struct world_socket *socket = calloc(1, sizeof(*socket));

	ASSERT(socket);
	socket->sim = sim;
	list_init(&socket->incoming);
	list_node_init(&socket->incoming_link);
	list_push_back(&sim->sockets, &socket->link);
	return socket;
}

static void socket_free(struct world_socket *socket)
{
	list_remove(&socket->link);
	list_remove(&socket->incoming_link);
	free(socket->ring);
	free(socket);
}

void sim_socket_free_all(struct sim *sim)
{
	while (!list_is_empty(&sim->sockets))
		socket_free(CONTAINER_OF(list_front(&sim->sockets), struct world_socket, link));
}

static int address_check(const struct sockaddr *address, socklen_t length)
{
	if (length < sizeof(sa_family_t) || length > sizeof(struct sockaddr_storage))
		return -EINVAL;
	switch (address->sa_family) {
	case AF_INET:
		return length >= sizeof(struct sockaddr_in) ? 0 : -EINVAL;
	case AF_INET6:
		return length >= sizeof(struct sockaddr_in6) ? 0 : -EINVAL;
	case AF_UNIX:
		return length > offsetof(struct sockaddr_un, sun_path) ? 0 : -EINVAL;
	default:
		return -EAFNOSUPPORT;
	}
}

static struct address address_copy(const struct sockaddr *address, socklen_t length)
{
	struct address copy = {.length = length};

	memcpy(&copy.storage, address, length);
	return copy;
}

/* The port of an internet address, or NULL. */
static in_port_t *address_port(struct address *address)
{
	if (address->storage.ss_family == AF_INET)
		return &((struct sockaddr_in *)&address->storage)->sin_port;
	if (address->storage.ss_family == AF_INET6)
		return &((struct sockaddr_in6 *)&address->storage)->sin6_port;
	return NULL;
}

static bool same_host(const struct address *listener, const struct address *wanted)
{
	const struct sockaddr_in *a4 = (const void *)&listener->storage;
	const struct sockaddr_in *b4 = (const void *)&wanted->storage;
	const struct sockaddr_in6 *a6 = (const void *)&listener->storage;
	const struct sockaddr_in6 *b6 = (const void *)&wanted->storage;

	if (a4->sin_family == AF_INET)
		return a4->sin_addr.s_addr == htonl(INADDR_ANY) ||
		       a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return IN6_IS_ADDR_UNSPECIFIED(&a6->sin6_addr) ||
	       IN6_ARE_ADDR_EQUAL(&a6->sin6_addr, &b6->sin6_addr);
}

static bool accepts(struct address *listener, struct address *wanted)
{
	in_port_t *a = address_port(listener), *b = address_port(wanted);

	if (listener->storage.ss_family != wanted->storage.ss_family)
		return false;
	if (a)
		return *a == *b && same_host(listener, wanted);
	return strncmp(((struct sockaddr_un *)&listener->storage)->sun_path,
		       ((struct sockaddr_un *)&wanted->storage)->sun_path,
		       sizeof(((struct sockaddr_un *)0)->sun_path)) == 0;
}

static struct world_socket *find_listener(struct sim *sim, struct address *wanted)
{
	struct world_socket *socket;

	LIST_FOR_EACH (&sim->sockets, socket, struct world_socket, link)
		if (socket->listening && !socket->shut && accepts(&socket->local, wanted))
			return socket;
	return NULL;
}

static uint16_t ephemeral_port(struct sim *sim)
{
	if (sim->next_tcp_port < FIRST_EPHEMERAL)
		sim->next_tcp_port = FIRST_EPHEMERAL;
	return sim->next_tcp_port++;
}

int sim_socket_listen(struct world_port *port, const struct sockaddr *address, socklen_t length,
		      int backlog, struct world_socket **ret_socket)
{
	struct sim *sim = port->sim;
	struct world_socket *socket;
	struct address local;
	in_port_t *number;
	int r = address_check(address, length);

	if (r < 0)
		return r;
	if (sim->dead)
		return -ESHUTDOWN;
	local = address_copy(address, length);
	number = address_port(&local);
	if (number && *number == 0)
		*number = htons(ephemeral_port(sim));
	if (find_listener(sim, &local))
		return -EADDRINUSE;
	socket = socket_new(sim);
	socket->listening = true;
	socket->local = local;
	socket->backlog = MIN(MAX(backlog, 1), BACKLOG_MAX);
	*ret_socket = socket;
	return 0;
}

int sim_socket_address(struct world_socket *socket, bool peer,
		       struct sockaddr_storage *ret_address, socklen_t *ret_length)
{
	const struct address *address = peer ? &socket->remote : &socket->local;

	if (peer && socket->listening)
		return -ENOTCONN;
	*ret_address = address->storage;
	*ret_length = address->length;
	return 0;
}

static struct sim_op *init(struct world_port *port, struct world_op *op, enum sim_op_kind kind,
			   struct world_socket *socket)
{
	struct sim_op *state = sim_op_init(port, op, kind);

	state->net.socket = socket;
	if (socket)
		socket->in_flight++;
	return state;
}

static void finish(struct sim *sim, struct sim_op *op)
{
	if (op->net.socket)
		op->net.socket->in_flight--;
	if (op->result == 0 && op->net.ret_socket)
		*op->net.ret_socket = op->net.out;
}

static void crash(struct sim *sim, struct sim_op *op)
{
	unpark(op);
}

static bool cancel(struct sim *sim, struct sim_op *op)
{
	unpark(op);
	return true;
}

static void slow(struct sim *sim, struct sim_op *op)
{
	sim_op_slow(op, sim->network_faults.slow_ppm, sim->network_faults.slow_ns);
}

static int64_t accept_effect(struct sim *sim, struct sim_op *op)
{
	struct world_socket *listener = op->net.socket;
	struct list_node *node;

	if (listener->shut)
		return -EINVAL;
	node = list_pop_front(&listener->incoming);
	if (!node)
		return park(op);
	listener->incoming_count--;
	wake(sim, &listener->connectors);
	op->net.out = CONTAINER_OF(node, struct world_socket, incoming_link);
	slow(sim, op);
	return 0;
}

const struct sim_op_type sim_socket_accept_type = {
	.name = "accept",
	.effect = accept_effect,
	.finish = finish,
	.crash = crash,
	.cancel = cancel,
};

void sim_socket_accept(struct world_port *port, struct world_socket *listener,
		       struct world_socket **ret_socket, struct world_op *op)
{
	struct sim_op *state = init(port, op, SIM_OP_ACCEPT, listener);

	ASSERT(listener->listening);
	state->net.ret_socket = ret_socket;
	sim_op_submit(state);
}

static struct address client_address(struct sim *sim, const struct address *server)
{
	struct address address = *server;
	in_port_t *number = address_port(&address);

	if (number) {
		*number = htons(ephemeral_port(sim));
	} else {
		memset(&address, 0, sizeof(address));
		address.storage.ss_family = AF_UNIX;
		address.length = sizeof(sa_family_t);
	}
	return address;
}

static struct world_socket *end_new(struct sim *sim)
{
	struct world_socket *socket = socket_new(sim);

	socket->ring = malloc(RING_BYTES);
	ASSERT(socket->ring);
	return socket;
}

/* Returns the client's end. */
static struct world_socket *pair_new(struct sim *sim, struct world_socket *listener,
				     const struct address *wanted)
{
	struct world_socket *client = end_new(sim), *server = end_new(sim);

	client->peer = server;
	server->peer = client;
	client->remote = server->local = *wanted;
	client->local = server->remote = client_address(sim, wanted);
	list_push_back(&listener->incoming, &server->incoming_link);
	listener->incoming_count++;
	wake(sim, &listener->acceptors);
	return client;
}

static int64_t connect_effect(struct sim *sim, struct sim_op *op)
{
	struct world_socket *listener;
	struct address wanted;
	int r = address_check(op->net.address, op->net.address_length);

	op->net.socket = NULL;
	if (r < 0)
		return r;
	wanted = address_copy(op->net.address, op->net.address_length);
	listener = find_listener(sim, &wanted);
	if (!listener || sim_random_ppm(&sim->faults, sim->network_faults.drop_ppm))
		return -ECONNREFUSED;
	if (listener->incoming_count >= listener->backlog) {
		REACHED("sim.backlog-full");
		op->net.socket = listener;
		return park(op);
	}
	op->net.out = pair_new(sim, listener, &wanted);
	slow(sim, op);
	return 0;
}

/* net.socket is where it waits, not what it counts against. */
static void connect_finish(struct sim *sim, struct sim_op *op)
{
	if (op->result == 0)
		*op->net.ret_socket = op->net.out;
}

const struct sim_op_type sim_socket_connect_type = {
	.name = "connect",
	.effect = connect_effect,
	.finish = connect_finish,
	.crash = crash,
	.cancel = cancel,
};

void sim_socket_connect(struct world_port *port, const struct sockaddr *address, socklen_t length,
			struct world_socket **ret_socket, struct world_op *op)
{
	struct sim_op *state = init(port, op, SIM_OP_CONNECT, NULL);

	state->net.address = address;
	state->net.address_length = length;
	state->net.ret_socket = ret_socket;
	sim_op_submit(state);
}

static void wake_end(struct world_socket *socket)
{
	wake_all(socket->sim, &socket->receivers);
	wake_all(socket->sim, &socket->senders);
}

/* What had arrived may be lost with it. */
static void reset_end(struct world_socket *socket)
{
	socket->reset = true;
	if (sim_random_coin(&socket->sim->faults))
		socket->count = 0;
	wake_end(socket);
}

static void drop_connection(struct world_socket *socket)
{
	REACHED("sim.connection-drop");
	if (socket->peer)
		reset_end(socket->peer);
	reset_end(socket);
}

/* As many of `available` bytes as this operation moves: often not all. */
static size_t draw_piece(struct sim *sim, size_t available)
{
	if (sim_random_coin(&sim->timing))
		return available;
	return sim_random_between(&sim->timing, 1, available);
}

/* Moves the first or, for `in`, the next free bytes of the ring; in two steps where it wraps. */
static void ring_move(struct world_socket *socket, struct sim_cursor *cursor, size_t length,
		      bool in)
{
	size_t at = in ? (socket->first + socket->count) % RING_BYTES : socket->first;
	size_t straight = MIN(length, RING_BYTES - at);

	if (in) {
		sim_cursor_take(cursor, socket->ring + at, straight);
		sim_cursor_take(cursor, socket->ring, length - straight);
		socket->count += length;
	} else {
		sim_cursor_give(cursor, socket->ring + at, straight);
		sim_cursor_give(cursor, socket->ring, length - straight);
		socket->first = (socket->first + length) % RING_BYTES;
		socket->count -= length;
	}
}

static int64_t receive_effect(struct sim *sim, struct sim_op *op)
{
	struct world_socket *socket = op->net.socket;
	struct sim_cursor cursor = sim_cursor(op->net.iov, op->net.iov_count);
	size_t n = MIN(sim_cursor_length(&cursor), socket->count);

	if (socket->peer && sim_random_ppm(&sim->faults, sim->network_faults.drop_ppm))
		drop_connection(socket);
	n = MIN(n, socket->count);
	if (n > 0) {
		n = draw_piece(sim, n);
		ring_move(socket, &cursor, n, false);
		if (socket->peer)
			wake(sim, &socket->peer->senders);
		if (socket->count > 0)
			wake(sim, &socket->receivers);
		slow(sim, op);
		return (int64_t)n;
	}
	if (socket->reset)
		return -ECONNRESET;
	if (socket->ended || socket->shut || sim_cursor_length(&cursor) == 0)
		return 0;
	return park(op);
}

const struct sim_op_type sim_socket_receive_type = {
	.name = "receive",
	.effect = receive_effect,
	.finish = finish,
	.crash = crash,
	.cancel = cancel,
};

static int64_t send_effect(struct sim *sim, struct sim_op *op)
{
	struct world_socket *socket = op->net.socket, *peer;
	struct sim_cursor cursor = sim_cursor(op->net.iov, op->net.iov_count);
	size_t n = sim_cursor_length(&cursor);

	if (socket->peer && sim_random_ppm(&sim->faults, sim->network_faults.drop_ppm))
		drop_connection(socket);
	peer = socket->peer;
	if (socket->reset)
		return -ECONNRESET;
	if (socket->shut || !peer || peer->shut)
		return -EPIPE;
	if (n == 0)
		return 0;
	n = MIN(n, RING_BYTES - peer->count);
	if (n == 0) {
		REACHED("sim.socket-full");
		return park(op);
	}
	n = draw_piece(sim, n);
	ring_move(peer, &cursor, n, true);
	wake(sim, &peer->receivers);
	slow(sim, op);
	return (int64_t)n;
}

const struct sim_op_type sim_socket_send_type = {
	.name = "send",
	.effect = send_effect,
	.finish = finish,
	.crash = crash,
	.cancel = cancel,
};

static void transfer(struct world_port *port, struct world_op *op, enum sim_op_kind kind,
		     struct world_socket *socket, struct sim_cursor cursor)
{
	struct sim_op *state = init(port, op, kind, socket);

	ASSERT(!socket->listening);
	state->net.iov = cursor.iov;
	state->net.iov_count = cursor.count;
	sim_op_submit(state);
}

void sim_socket_receive(struct world_port *port, struct world_socket *socket,
			const struct iovec *iov, int iov_count, struct world_op *op)
{
	transfer(port, op, SIM_OP_RECEIVE, socket, sim_cursor(iov, iov_count));
}

void sim_socket_send(struct world_port *port, struct world_socket *socket, const struct iovec *iov,
		     int iov_count, struct world_op *op)
{
	transfer(port, op, SIM_OP_SEND, socket, sim_cursor(iov, iov_count));
}

void sim_socket_shutdown(struct world_socket *socket)
{
	if (socket->shut)
		return;
	socket->shut = true;
	wake_all(socket->sim, &socket->acceptors);
	wake_all(socket->sim, &socket->connectors);
	wake_end(socket);
	if (socket->peer) {
		socket->peer->ended = true;
		wake_end(socket->peer);
	}
}

/* Connections that nobody accepted end with the listener. */
static void refuse_incoming(struct world_socket *listener)
{
	struct list_node *node;

	wake_all(listener->sim, &listener->connectors);
	while ((node = list_pop_front(&listener->incoming)))
		sim_socket_close(CONTAINER_OF(node, struct world_socket, incoming_link));
}

void sim_socket_close(struct world_socket *socket)
{
	struct world_socket *peer = socket->peer;

	ASSERT(socket->in_flight == 0);
	if (socket->listening)
		refuse_incoming(socket);
	if (peer) {
		peer->peer = NULL;
		peer->ended = true;
		/* Like TCP: who closes without having read all resets the connection. */
		if (socket->count > 0)
			reset_end(peer);
		else
			wake_end(peer);
	}
	socket_free(socket);
}
