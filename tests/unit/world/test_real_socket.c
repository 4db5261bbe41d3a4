/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "real_fixture.h"

/* Called in front of the first filter of a listener. */
static void (*at_filter)(int listener);

int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	void (*call)(int listener) = at_filter;

	if (call && level == SOL_SOCKET && option == SO_ATTACH_REUSEPORT_CBPF) {
		at_filter = NULL;
		call(fd);
	}
	return (int)syscall(SYS_setsockopt, fd, level, option, value, length);
}

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
	socklen_t length;
};

static struct address loopback(int family)
{
	struct address address = {0};

	address.any.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		address.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		address.length = sizeof(address.in4);
	} else {
		address.in6.sin6_addr = in6addr_loopback;
		address.length = sizeof(address.in6);
	}
	return address;
}

static struct address unix_path(const char *path)
{
	struct address address = {.un.sun_family = AF_UNIX, .length = sizeof(address.un)};

	snprintf(address.un.sun_path, sizeof(address.un.sun_path), "%s", path);
	return address;
}

/* Listens there; `address` becomes the bound one. */
static struct world_socket *listen_at(struct real_fixture *f, struct address *address)
{
	struct world_socket *listener;
	struct sockaddr_storage bound;

	assert_int_equal(
		f->ops->socket_listen(f->port, &address->any, address->length, 8, &listener), 0);
	assert_int_equal(f->ops->socket_address(listener, false, &bound, &address->length), 0);
	memcpy(&address->un, &bound, sizeof(address->un));
	return listener;
}

struct pair {
	struct world_socket *listener, *client, *server;
};

/* With the pair's listener, which is at the address. */
static void connect_both(struct real_fixture *f, const struct address *address, struct pair *pair)
{
	struct waited_op accepting, connecting;

	f->ops->socket_accept(f->port, pair->listener, &pair->server, waited_init(&accepting));
	f->ops->socket_connect(f->port, &address->any, address->length, &pair->client,
			       waited_init(&connecting));
	assert_int_equal(waited_finish(f->port, f->world, &connecting), 0);
	assert_int_equal(waited_finish(f->port, f->world, &accepting), 0);
}

static void close_both(struct real_fixture *f, const struct pair *pair)
{
	f->ops->socket_close(pair->client);
	f->ops->socket_close(pair->server);
}

static struct pair connect_pair(struct real_fixture *f, struct address address)
{
	struct pair pair = {.listener = listen_at(f, &address)};

	connect_both(f, &address, &pair);
	return pair;
}

static void close_pair(struct real_fixture *f, struct pair *pair)
{
	f->ops->socket_close(pair->listener);
	close_both(f, pair);
}

static int64_t send_text(struct real_fixture *f, struct world_socket *socket, const char *text)
{
	struct iovec iov = {(void *)text, strlen(text)};
	struct waited_op op;

	f->ops->socket_send(f->port, socket, &iov, 1, waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}

static void exchange(struct real_fixture *f, struct pair *pair)
{
	char a[3], b[32] = {0};
	struct iovec in[] = {{a, sizeof(a)}, {b, sizeof(b)}};
	struct iovec out[] = {{"abc", 3}, {"", 0}, {"defg", 4}};
	struct waited_op receiving, sending;

	f->ops->socket_receive(f->port, pair->server, in, 2, waited_init(&receiving));
	f->ops->socket_send(f->port, pair->client, out, 3, waited_init(&sending));
	assert_int_equal(waited_finish(f->port, f->world, &sending), 7);
	assert_int_equal(waited_finish(f->port, f->world, &receiving), 7);
	assert_memory_equal(a, "abc", 3);
	assert_string_equal(b, "defg");
	assert_int_equal(send_text(f, pair->server, "xyz"), 3);
	f->ops->socket_receive(f->port, pair->client, &in[1], 1, waited_init(&receiving));
	assert_int_equal(waited_finish(f->port, f->world, &receiving), 3);
	assert_memory_equal(b, "xyz", 3);
}

/* Every connected TCP socket of the process sends at once, and no child inherits it. */
static void check_options(void)
{
	unsigned connected = 0;

	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_storage peer;
		socklen_t length = sizeof(peer);
		int on = 0;

		if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0 ||
		    peer.ss_family == AF_UNIX)
			continue;
		length = sizeof(on);
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
		assert_true(on);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		connected++;
	}
	assert_int_equal(connected, 2);
}

static void transfers_over_tcp(void **state)
{
	const int families[] = {AF_INET, AF_INET6};
	struct real_fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		struct pair pair = connect_pair(f, loopback(families[i]));
		struct sockaddr_storage client_address, peer_address;
		socklen_t length;

		exchange(f, &pair);
		check_options();
		assert_int_equal(
			f->ops->socket_address(pair.client, false, &client_address, &length), 0);
		assert_int_equal(f->ops->socket_address(pair.server, true, &peer_address, &length),
				 0);
		assert_memory_equal(&client_address, &peer_address, length);
		assert_int_equal(
			f->ops->socket_address(pair.listener, true, &peer_address, &length),
			-ENOTCONN);
		close_pair(f, &pair);
	}
}

static void transfers_over_a_unix_socket(void **state)
{
	struct real_fixture *f = *state;
	struct pair pair = connect_pair(f, unix_path(real_path(f, "socket")));

	exchange(f, &pair);
	close_pair(f, &pair);
}

/* The daemon that has the port is dead, but its socket is open: connections come to the next. */
static void listens_beside_the_dead(void **state)
{
	enum { DEAD = 3, CONNECTIONS = 20 };
	struct real_fixture *dead = *state;
	struct world_real_options options = {.workers = 1, .fence_fd = -1};
	int families[] = {AF_INET, AF_INET6};

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		struct address address = loopback(families[i]);
		struct world_socket *first = listen_at(dead, &address), *second;
		struct real_fixture us = {.ops = dead->ops};
		struct pair pair;

		options.dead_listeners = 0;
		assert_int_equal(world_real_new(&options, &us.world), 0);
		assert_int_equal(us.ops->port_open(us.world, 0, NULL, NULL, &us.port), 0);
		assert_int_equal(
			us.ops->socket_listen(us.port, &address.any, address.length, 8, &second),
			-EADDRINUSE);
		us.ops->port_close(us.port);
		world_real_free(us.world);
		options.dead_listeners = DEAD; /* more than have the port */
		assert_int_equal(world_real_new(&options, &us.world), 0);
		assert_int_equal(us.ops->port_open(us.world, 0, NULL, NULL, &us.port), 0);
		pair.listener = listen_at(&us, &address);
		for (unsigned n = 0; n < 2 * CONNECTIONS; n++) {
			if (n == CONNECTIONS) /* the dead one ends */
				dead->ops->socket_close(first);
			connect_both(&us, &address, &pair);
			close_both(&us, &pair);
		}
		us.ops->socket_close(pair.listener);
		us.ops->port_close(us.port);
		world_real_free(us.world);
	}
}

enum { STRANGERS = 64 };
static int strangers[STRANGERS];
static unsigned stranger_count;

/* The kernel chooses between the dead listener and ours by a hash. */
static void connect_strangers(int listener)
{
	struct pollfd poll_fd = {.fd = listener, .events = POLLIN};
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	for (stranger_count = 0; stranger_count < STRANGERS && poll(&poll_fd, 1, 1) == 0;) {
		int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

		assert_true(fd >= 0);
		strangers[stranger_count++] = fd;
		(void)connect(fd, (struct sockaddr *)&address, length);
	}
	assert_int_equal(poll(&poll_fd, 1, 0), 1);
}

/* An initiator that tries all the time comes before the filter: that says nothing of the number. */
static void a_stranger_does_not_choose_the_number(void **state)
{
	struct real_fixture *dead = *state, us = {.ops = dead->ops};
	const struct world_real_options options = {
		.workers = 1, .fence_fd = -1, .dead_listeners = 1};
	const int families[] = {AF_INET, AF_INET6};

	assert_int_equal(world_real_new(&options, &us.world), 0);
	assert_int_equal(us.ops->port_open(us.world, 0, NULL, NULL, &us.port), 0);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		struct address address = loopback(families[i]);
		struct world_socket *first = listen_at(dead, &address);
		struct pair pair;

		at_filter = connect_strangers;
		pair.listener = listen_at(&us, &address);
		assert_null(at_filter);
		for (unsigned n = 0; n < 5; n++) {
			connect_both(&us, &address, &pair);
			close_both(&us, &pair);
		}
		while (stranger_count > 0)
			close(strangers[--stranger_count]);
		us.ops->socket_close(pair.listener);
		dead->ops->socket_close(first);
	}
	us.ops->port_close(us.port);
	world_real_free(us.world);
}

static void tells_that_the_peer_closed(void **state)
{
	struct real_fixture *f = *state;
	struct pair pair = connect_pair(f, unix_path(real_path(f, "socket")));
	char byte;
	struct iovec iov = {&byte, 1};
	struct waited_op op;

	f->ops->socket_receive(f->port, pair.client, &iov, 1, waited_init(&op));
	f->ops->socket_close(pair.server);
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	assert_int_equal(send_text(f, pair.client, "x"), -EPIPE); /* and no signal */
	f->ops->socket_close(pair.client);
	f->ops->socket_close(pair.listener);
}

static void shutdown_ends_what_is_pending(void **state)
{
	struct real_fixture *f = *state;
	struct address addresses[] = {loopback(AF_INET), unix_path(real_path(f, "socket"))};

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		struct pair pair = connect_pair(f, addresses[i]);
		struct world_socket *never;
		char byte;
		struct iovec iov = {&byte, 1};
		struct waited_op accepting, receiving;

		f->ops->socket_accept(f->port, pair.listener, &never, waited_init(&accepting));
		f->ops->socket_receive(f->port, pair.server, &iov, 1, waited_init(&receiving));
		f->ops->port_submit(f->port);
		f->ops->socket_shutdown(pair.listener);
		f->ops->socket_shutdown(pair.server);
		assert_int_equal(accepting.done_count + receiving.done_count, 0);
		assert_int_equal(waited_finish(f->port, f->world, &accepting), -EINVAL);
		assert_int_equal(waited_finish(f->port, f->world, &receiving), 0);
		assert_int_equal(send_text(f, pair.server, "x"), -EPIPE);
		f->ops->socket_accept(f->port, pair.listener, &never, waited_init(&accepting));
		assert_int_equal(waited_finish(f->port, f->world, &accepting), -EINVAL);
		close_pair(f, &pair);
	}
}

static void cancels_what_is_pending(void **state)
{
	struct real_fixture *f = *state;
	struct pair pair = connect_pair(f, loopback(AF_INET));
	struct world_socket *never;
	char byte;
	struct iovec iov = {&byte, 1};
	struct waited_op accepting, receiving;

	f->ops->socket_accept(f->port, pair.listener, &never, waited_init(&accepting));
	f->ops->socket_receive(f->port, pair.server, &iov, 1, waited_init(&receiving));
	f->ops->port_submit(f->port); /* one is cancelled in the kernel, one before */
	f->ops->cancel(f->port, &receiving.op);
	f->ops->cancel(f->port, &receiving.op);
	f->ops->cancel(f->port, &accepting.op);
	assert_int_equal(waited_finish(f->port, f->world, &accepting), -ECANCELED);
	assert_int_equal(waited_finish(f->port, f->world, &receiving), -ECANCELED);
	f->ops->socket_receive(f->port, pair.server, &iov, 1, waited_init(&receiving));
	f->ops->cancel(f->port, &receiving.op);
	assert_int_equal(waited_finish(f->port, f->world, &receiving), -ECANCELED);
	exchange(f, &pair); /* the connection lives on */
	close_pair(f, &pair);
}

/* A cancel that was asked for in the turn in which its operation ends must not hit the next use. */
static void a_late_cancel_does_not_hit_the_next_use(void **state)
{
	struct real_fixture *f = *state;
	struct pair pair = connect_pair(f, loopback(AF_INET));
	char byte;
	struct iovec iov = {&byte, 1};
	struct waited_op receiving;

	for (unsigned round = 0; round < 50; round++) {
		f->ops->socket_receive(f->port, pair.server, &iov, 1, waited_init(&receiving));
		assert_int_equal(send_text(f, pair.client, "x"), 1);
		if (receiving.done_count == 0)
			f->ops->cancel(f->port, &receiving.op);
		if (waited_finish(f->port, f->world, &receiving) == -ECANCELED) {
			f->ops->socket_receive(f->port, pair.server, &iov, 1,
					       waited_init(&receiving));
			(void)waited_finish(f->port, f->world, &receiving);
		}
		assert_int_equal(receiving.result, 1);
		f->ops->cancel(f->port, &receiving.op);
	}
	close_pair(f, &pair);
}

static void reports_errors_of_listen_and_connect(void **state)
{
	struct real_fixture *f = *state;
	struct address address = loopback(AF_INET), bad = {.any.sa_family = AF_NETLINK};
	struct address missing = unix_path(real_path(f, "missing"));
	struct world_socket *listener = listen_at(f, &address), *never;
	struct waited_op op;

	assert_int_equal(f->ops->socket_listen(f->port, &address.any, address.length, 8, &never),
			 -EADDRINUSE);
	assert_int_equal(f->ops->socket_listen(f->port, &bad.any, sizeof(bad.any), 8, &never),
			 -EAFNOSUPPORT);
	f->ops->socket_close(listener);
	f->ops->socket_connect(f->port, &address.any, address.length, &never, waited_init(&op));
	assert_int_equal(op.done_count, 0);
	assert_int_equal(waited_finish(f->port, f->world, &op), -ECONNREFUSED);
	f->ops->socket_connect(f->port, &missing.any, missing.length, &never, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), -ENOENT);
	f->ops->socket_connect(f->port, &bad.any, sizeof(bad.any), &never, waited_init(&op));
	assert_int_equal(op.done_count, 0);
	assert_int_equal(waited_finish(f->port, f->world, &op), -EAFNOSUPPORT);
}

static void refuses_bad_vectors(void **state)
{
	struct real_fixture *f = *state;
	struct pair pair = connect_pair(f, loopback(AF_INET));
	struct iovec *iov = calloc(IOV_MAX + 1, sizeof(*iov));
	const int counts[] = {-1, 0, IOV_MAX + 1};
	struct waited_op op;

	assert_non_null(iov);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		f->ops->socket_send(f->port, pair.client, iov, counts[i], waited_init(&op));
		assert_int_equal(op.done_count, 0);
		assert_int_equal(waited_finish(f->port, f->world, &op), -EINVAL);
		f->ops->socket_receive(f->port, pair.client, iov, counts[i], waited_init(&op));
		assert_int_equal(waited_finish(f->port, f->world, &op), -EINVAL);
	}
	for (int i = 0; i < IOV_MAX; i++)
		iov[i] = (struct iovec){"x", 1};
	f->ops->socket_send(f->port, pair.client, iov, IOV_MAX, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), IOV_MAX);
	free(iov);
	close_pair(f, &pair);
}

/* The socket's buffers are full: the send pends until the peer reads. */
static void a_send_waits_for_room(void **state)
{
	struct real_fixture *f = *state;
	struct pair pair = connect_pair(f, unix_path(real_path(f, "socket")));
	size_t length = 4 * MIB, received = 0, sent = 0;
	char *out = calloc(1, length), *in = malloc(length);
	struct iovec out_iov, in_iov;
	struct waited_op sending, receiving;

	while (received < length) {
		if (sent < length) {
			out_iov = (struct iovec){out + sent, length - sent};
			f->ops->socket_send(f->port, pair.client, &out_iov, 1,
					    waited_init(&sending));
		}
		in_iov = (struct iovec){in + received, length - received};
		f->ops->socket_receive(f->port, pair.server, &in_iov, 1, waited_init(&receiving));
		assert_true(waited_finish(f->port, f->world, &receiving) > 0);
		received += (size_t)receiving.result;
		if (sent < length) {
			assert_true(waited_finish(f->port, f->world, &sending) > 0);
			sent += (size_t)sending.result;
		}
	}
	free(out);
	free(in);
	close_pair(f, &pair);
}

#define REAL_TEST(name) cmocka_unit_test_setup_teardown(name, real_setup, real_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REAL_TEST(transfers_over_tcp),
		REAL_TEST(transfers_over_a_unix_socket),
		REAL_TEST(listens_beside_the_dead),
		REAL_TEST(a_stranger_does_not_choose_the_number),
		REAL_TEST(tells_that_the_peer_closed),
		REAL_TEST(shutdown_ends_what_is_pending),
		REAL_TEST(cancels_what_is_pending),
		REAL_TEST(a_late_cancel_does_not_hit_the_next_use),
		REAL_TEST(reports_errors_of_listen_and_connect),
		REAL_TEST(refuses_bad_vectors),
		REAL_TEST(a_send_waits_for_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
